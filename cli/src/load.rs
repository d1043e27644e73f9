//! `seawall load` and `seawall hold`: plain load and held requests, for measuring.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use lab::swarm::{self, HoldAsks, HoldConfig, LoadConfig, Until};
use tokio_util::sync::CancellationToken;

use crate::arguments::{HoldArguments, LoadArguments};
use crate::output::say;
use crate::progress::Progress;
use crate::swarm::{protocol, trust, write_json};

/// A run of plain load.
pub(crate) struct LoadPlan {
    config: LoadConfig,
    json: Option<PathBuf>,
}

impl LoadPlan {
    /// Checks what was typed.
    pub(crate) fn of(typed: LoadArguments) -> anyhow::Result<Self> {
        let trust = trust(&typed.client)?;
        let client = typed.client;
        let config = LoadConfig {
            urls: typed.urls,
            protocol: protocol(client.protocol),
            connections: typed.connections,
            streams_per_connection: typed.streams,
            until: typed
                .requests
                .map_or(Until::Elapsed(typed.duration), Until::Requests),
            timeout: TIMEOUT,
            connect_to: client.connect_to,
            trust,
            threads: client.threads,
        };
        Ok(Self {
            config,
            json: client.json,
        })
    }
}

/// Runs plain load and reports.
pub(crate) fn run_load(plan: &LoadPlan, stop: &CancellationToken) -> anyhow::Result<()> {
    let progress = Progress::over(match plan.config.until {
        Until::Elapsed(duration) => duration,
        Until::Requests(_) => Duration::ZERO,
    });
    let report = swarm::load(&plan.config, stop, |now| {
        let message = format!("{} answered, {} errors", now.answered, now.errors);
        progress.show(now.elapsed, message);
    });
    progress.end();
    let report = report.context("the load cannot run")?;
    say(&report.to_string());
    write_json(plan.json.as_deref(), &report)
}

/// A run of held requests.
pub(crate) struct HoldPlan {
    config: HoldConfig,
    json: Option<PathBuf>,
}

impl HoldPlan {
    /// Checks what was typed.
    pub(crate) fn of(typed: HoldArguments) -> anyhow::Result<Self> {
        let trust = trust(&typed.client)?;
        let client = typed.client;
        let config = HoldConfig {
            url: typed.url,
            protocol: protocol(client.protocol),
            requests: typed.requests,
            connections: typed.connections,
            asks: typed
                .segments_ahead
                .map_or(HoldAsks::NextPart, HoldAsks::SegmentAhead),
            duration: typed.duration,
            connect_to: client.connect_to,
            trust,
            threads: client.threads,
        };
        Ok(Self {
            config,
            json: client.json,
        })
    }
}

/// Holds requests and reports.
pub(crate) fn run_hold(plan: &HoldPlan, stop: &CancellationToken) -> anyhow::Result<()> {
    let progress = Progress::over(plan.config.duration);
    let report = swarm::hold(&plan.config, stop, |now| {
        let message = format!(
            "{} in place, {} answers, {} errors",
            now.in_place, now.answers, now.errors
        );
        progress.show(now.elapsed, message);
    });
    progress.end();
    let report = report.context("requests cannot be held")?;
    say(&report.to_string());
    write_json(plan.json.as_deref(), &report)
}

/// How long one request of plain load may take.
const TIMEOUT: Duration = Duration::from_secs(30);
