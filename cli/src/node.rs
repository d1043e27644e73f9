//! Commands that run a node: from a file (`edge`, `shield`), or from options alone (`run`); and `check`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use edge::Shield;
use http::Uri;
use node::config::{ConfigError, Files, Styling};
use node::listen::{CertificateSource, Drained};
use node::node::{AccessLogConfig, AdminConfig, Node, NodeConfig, Running};
use tokio_util::sync::CancellationToken;

use crate::arguments::{CheckArguments, ConfiguredArguments, Purpose, RunArguments};
use crate::output::{complain, is_watched, say};
use crate::values::{Misuse, misuse, origin_url};

/// Runs an edge from its file until `stop`.
pub(crate) fn run_edge(
    typed: &ConfiguredArguments,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let config = readable(edge::Config::load(&typed.config, Files::MustExist))?;
    let running = edge::start(config).context("the edge cannot start")?;
    serve(running, stop)
}

/// Runs a shield from its file until `stop`.
pub(crate) fn run_shield(
    typed: &ConfiguredArguments,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let config = readable(shield::Config::load(&typed.config, Files::MustExist))?;
    let running = shield::start(config).context("the shield cannot start")?;
    serve(running, stop)
}

/// One edge straight in front of an origin.
pub(crate) struct AlonePlan {
    config: NodeConfig,
    origin: Uri,
}

impl AlonePlan {
    /// Checks what was typed.
    pub(crate) fn of(typed: RunArguments) -> anyhow::Result<Self> {
        let origin = origin_url(&typed.origin).map_err(misuse)?;
        let mut config = edge::Config::new("seawall", vec![Shield::at("origin", origin.clone())]);
        config.shields[0].parent.ca_file = typed.origin_ca;
        config.common.listen.https = vec![typed.listen];
        config.common.listen.http = vec![typed.http];
        config.common.listen.http3 = true;
        config.common.listen.certificate =
            Some(certificate(typed.certificate, typed.key, typed.name));
        config.common.store_bytes = u64::from(typed.memory) * 1024 * 1024;
        config.common.admin = typed.admin.map(|address| AdminConfig {
            address,
            allow_remote: false,
        });
        config.common.access_log = typed.access_log.then_some(AccessLogConfig {
            path: None,
            one_in: 1,
        });
        let mut config = config.into_node_config();
        // Origins mostly know one name only, and viewers here ask for localhost.
        let host = typed
            .host
            .or_else(|| origin.authority().map(ToString::to_string));
        config.upstream.parents[0].host = host;
        Ok(Self { config, origin })
    }
}

/// Runs an edge straight in front of an origin until `stop`.
pub(crate) fn run_alone(plan: AlonePlan, stop: &CancellationToken) -> anyhow::Result<()> {
    let running = Node::start(&plan.config).context("the edge cannot start")?;
    say(&format!(
        "in front of {}, each of its paths at:",
        plan.origin
    ));
    serve(running, stop)
}

fn certificate(
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    names: Vec<String>,
) -> CertificateSource {
    match certificate.zip(key) {
        Some((certificate, key)) => CertificateSource::Files { certificate, key },
        None => CertificateSource::SelfSigned(names),
    }
}

/// Says where a node listens, waits for `stop`, drains.
fn serve(running: Running, stop: &CancellationToken) -> anyhow::Result<()> {
    for address in &running.addresses().https {
        say(&format!("  https://{address}   HTTP/1.1, HTTP/2, HTTP/3"));
    }
    for address in &running.addresses().http {
        say(&format!(
            "  http://{address}   HTTP/1.1, HTTP/2 with prior knowledge"
        ));
    }
    if let Some(address) = running.admin_address() {
        say(&format!(
            "  http://{address}/status   private: /healthz /readyz /metrics /status"
        ));
    }
    if let Some(address) = running.children_address() {
        say(&format!("  {address}   children follow the purge log here"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime for the main thread")?;
    runtime.block_on(async {
        stop.cancelled().await;
        complain("draining; a second signal leaves at once");
        if let Drained::Cut(count) = running.shutdown().await {
            complain(&format!(
                "{count} connections and streams were cut at the deadline"
            ));
        }
    });
    Ok(())
}

/// Checks a file and prints what is in effect.
pub(crate) fn check(typed: &CheckArguments) -> anyhow::Result<()> {
    let files = if typed.elsewhere {
        Files::NotChecked
    } else {
        Files::MustExist
    };
    let purpose = typed.purpose.unwrap_or_else(|| purpose_of(&typed.file));
    let effective = match purpose {
        Purpose::Edge => readable(edge::Config::load(&typed.file, files))?.effective(),
        Purpose::Shield => readable(shield::Config::load(&typed.file, files))?.effective(),
    };
    let name = match purpose {
        Purpose::Edge => "an edge",
        Purpose::Shield => "a shield",
    };
    say(&format!(
        "OK: {} is {name}. In effect:\n",
        typed.file.display()
    ));
    say(effective.trim_end());
    Ok(())
}

/// Returns what a file is for by the parents it names; an unreadable one is judged as an edge's.
pub(crate) fn purpose_of(file: &Path) -> Purpose {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let names_an_origin = text.lines().any(|line| {
        let line: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        line.starts_with("[[origin]]")
    });
    if names_an_origin {
        Purpose::Shield
    } else {
        Purpose::Edge
    }
}

/// Makes the problems of a configuration a misuse.
pub(crate) fn readable<T>(loaded: Result<T, ConfigError>) -> anyhow::Result<T> {
    loaded.map_err(|error| {
        let styling = if is_watched() {
            Styling::Terminal
        } else {
            Styling::Plain
        };
        Misuse(format!(
            "the configuration has problems\n{}",
            error.render(styling)
        ))
        .into()
    })
}
