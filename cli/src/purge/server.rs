//! `seawall purge-api`: runs the API from its file until a signal.

use std::sync::Arc;

use anyhow::Context;
use node::Clock;
use purge_api::UnixMillis;
use purge_api::config::Config;
use tokio_util::sync::CancellationToken;

use super::arguments::PurgeApiArguments;
use crate::output::{complain, say};
use crate::values::misuse;

/// Runs the purge API until `stop`.
pub(crate) fn run_server(
    typed: &PurgeApiArguments,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let config = Config::load(&typed.config).map_err(misuse)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime for the purge API")?;
    runtime.block_on(async {
        let is_tls = config.tls.is_some();
        let clock = Clock::system();
        let now = Arc::new(move || UnixMillis::from(clock.now()));
        let running = purge_api::server::start(config, now)
            .await
            .context("the purge API cannot start")?;
        let found = &running.journal_report;
        let scheme = if is_tls { "https" } else { "http" };
        say(&format!("purge API at {scheme}://{}", running.address()));
        if let Some(address) = running.private_address() {
            say(&format!(
                "  http://{address}/metrics   private: /healthz /metrics /v1/feed"
            ));
        }
        say(&format!(
            "  journal: {} purges, the last is {}; audit: {} lines",
            found.entries, found.bounds.head, running.audit_report.lines
        ));
        if found.was_cut_off || running.audit_report.cut_bytes > 0 {
            complain("it was not closed properly: what nobody was told of is rolled back");
        }
        // It ended between the log and the audit, or another API of the same log took them.
        if running.recovered > 0 {
            complain(&format!(
                "{} purges in the log had no line in this audit, and got one",
                running.recovered
            ));
        }
        stop.cancelled().await;
        complain("draining; a second signal leaves at once");
        running.shutdown().await;
        Ok(())
    })
}
