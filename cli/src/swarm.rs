//! `seawall swarm`: viewers without screens, and what they saw.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use lab::swarm::{self, StartRendition, SwarmConfig, Trust};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::arguments::{ClientArguments, Protocol, Start, SwarmArguments, Wants};
use crate::output::say;
use crate::progress::Progress;
use crate::values::misuse;

/// A run of the swarm.
pub(crate) struct Plan {
    config: SwarmConfig,
    json: Option<PathBuf>,
}

impl Plan {
    /// Checks what was typed.
    pub(crate) fn of(typed: SwarmArguments) -> anyhow::Result<Self> {
        let client = typed.client;
        let config = SwarmConfig {
            viewers: typed.viewers,
            ramp: typed.ramp,
            duration: typed.duration,
            settle: typed.settle,
            protocol: protocol(client.protocol),
            viewers_per_connection: typed.viewers_per_connection,
            connect_to: client.connect_to,
            trust: trust(&client)?,
            wants: match typed.wants {
                Wants::Hint => swarm::Wants::Hint,
                Wants::Listed => swarm::Wants::Listed,
            },
            delta_updates: !typed.no_delta,
            abr_switch_every: typed.switch_every,
            abort_probability: typed.abort,
            start_rendition: match typed.start {
                Start::Lowest => StartRendition::Lowest,
                Start::Highest => StartRendition::Highest,
                Start::Mixed => StartRendition::Mixed,
            },
            audio: !typed.no_audio,
            threads: client.threads,
            seed: typed.seed,
            counts_url: typed.counts_url,
            ..SwarmConfig::new(typed.url)
        };
        Ok(Self {
            config,
            json: client.json,
        })
    }
}

/// Runs the swarm and reports.
pub(crate) fn run(plan: &Plan, stop: &CancellationToken) -> anyhow::Result<()> {
    let progress = Progress::over(plan.config.duration);
    let report = swarm::run(&plan.config, stop, |now| {
        progress.show(
            now.elapsed,
            format!(
                "{} of {} playing, {} stalled, {:.0} requests/s, {} errors",
                now.viewers_playing,
                now.viewers_arrived,
                now.viewers_stalled,
                now.requests_per_second,
                now.errors
            ),
        );
    });
    progress.end();
    let report = report.context("the swarm cannot run")?;
    say(&report.to_string());
    write_json(plan.json.as_deref(), &report)
}

/// Returns the lab's name for an HTTP version.
pub(crate) fn protocol(typed: Protocol) -> swarm::Protocol {
    match typed {
        Protocol::H1 => swarm::Protocol::Http1,
        Protocol::H2 => swarm::Protocol::Http2,
        Protocol::H3 => swarm::Protocol::Http3,
    }
}

/// Returns which certificates are accepted.
///
/// # Errors
///
/// A file that cannot be read.
pub(crate) fn trust(typed: &ClientArguments) -> anyhow::Result<Trust> {
    if typed.insecure {
        return Ok(Trust::Insecure);
    }
    let Some(file) = &typed.ca else {
        return Ok(Trust::System);
    };
    let read = fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    read.map(Trust::Pem).map_err(misuse)
}

/// Writes a report to a file, if one was asked for.
///
/// # Errors
///
/// A file that cannot be written.
pub(crate) fn write_json(file: Option<&Path>, report: &impl Serialize) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    let text = serde_json::to_string_pretty(report).context("the report is not JSON")?;
    fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
}
