//! `seawall origin`: the lab's live origin on its own.

use std::net::SocketAddr;

use anyhow::Context;
use lab::origin::{self, Fault, Origin, OriginConfig};
use tokio_util::sync::CancellationToken;

use crate::arguments::{OriginArguments, PartsAs, StreamArguments};
use crate::output::say;
use crate::values::misuse;

/// A live origin.
pub(crate) struct Plan {
    config: OriginConfig,
    listen: SocketAddr,
}

impl Plan {
    /// Checks what was typed.
    pub(crate) fn of(typed: OriginArguments) -> anyhow::Result<Self> {
        let config = OriginConfig {
            window: typed.window,
            history: typed.history,
            pad_parts_to: typed.pad_parts_to,
            renditions: typed.rendition,
            ..stream(&typed.stream)?
        };
        // Made and dropped: whether the settings fit together is the lab's to say, before anything starts.
        Origin::new(config.clone()).map_err(misuse)?;
        Ok(Self {
            config,
            listen: typed.listen,
        })
    }
}

/// Returns an origin of the stream that was typed.
///
/// # Errors
///
/// A fault that cannot be read; the text lists what can.
pub(crate) fn stream(typed: &StreamArguments) -> anyhow::Result<OriginConfig> {
    let faults: Result<Vec<Fault>, _> = typed.fault.iter().map(|text| text.parse()).collect();
    Ok(OriginConfig {
        part: typed.part,
        segment: typed.segment,
        parts_as: match typed.parts_as {
            PartsAs::Files => origin::PartsAs::Files,
            PartsAs::ByteRanges => origin::PartsAs::ByteRanges,
        },
        faults: faults.map_err(misuse)?,
        ..OriginConfig::default()
    })
}

/// Runs the origin until `stop`.
pub(crate) fn run(plan: Plan, stop: &CancellationToken) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime for the origin")?;
    runtime.block_on(async {
        let running = Origin::bind(plan.config, plan.listen)
            .await
            .context("the origin cannot start")?;
        let address = running.addr();
        for (path, what) in PRESENTATIONS {
            say(&format!("http://{address}{path:<24} {what}"));
        }
        say(&format!(
            "http://{address}/origin/counts.json     requests per object"
        ));
        stop.cancelled().await;
        running.shutdown().await;
        Ok(())
    })
}

/// What the origin offers, by path.
pub(crate) const PRESENTATIONS: [(&str, &str); 6] = [
    ("/live/index.m3u8", "Low-Latency HLS"),
    ("/live/manifest.mpd", "Low-Latency DASH"),
    ("/plain/index.m3u8", "HLS in whole segments"),
    ("/plain/manifest.mpd", "DASH in whole segments"),
    ("/vod/index.m3u8", "HLS on demand"),
    ("/vod/manifest.mpd", "DASH on demand"),
];
