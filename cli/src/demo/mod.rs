//! `seawall demo`: a whole CDN in one process, and a page that shows what it does.
//!
//! ```text
//!  viewers ── edge fra ──┐
//!  viewers ── edge sin ──┴── shield ── origin (live media, the page, its figures)
//! ```
//!
//! The page and its figures come from the origin through the CDN like any other response, so that they
//! are same-origin on whichever port and protocol a visitor opens.

mod audience;
mod figures;
mod page;
mod places;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use edge::Shield;
use http::Uri;
use lab::origin::{Origin, OriginConfig, RunningOrigin};
use node::config::Common;
use node::listen::CertificateSource;
use node::node::{AdminConfig, Node, Running};
use tokio_util::sync::CancellationToken;

use crate::arguments::DemoArguments;
use crate::origin::stream;
use crate::output::{complain, say};
use crate::values::misuse;
use audience::Audience;
use figures::Watched;
use page::Page;
use places::{Places, Ports};

/// A demonstration.
pub(crate) struct Plan {
    origin: OriginConfig,
    ports: Ports,
    viewers: usize,
    page: Page,
    is_for_programs: bool,
}

impl Plan {
    /// Checks what was typed.
    pub(crate) fn of(typed: DemoArguments) -> anyhow::Result<Self> {
        let origin = stream(&typed.stream)?;
        Origin::new(origin.clone()).map_err(misuse)?;
        Ok(Self {
            origin,
            ports: Ports::of(typed.address, typed.port_base)?,
            viewers: typed.viewers,
            page: Page::load(typed.hls_js.as_deref())?,
            is_for_programs: typed.json,
        })
    }
}

/// Runs the demonstration until `stop`.
pub(crate) fn run(plan: Plan, stop: &CancellationToken) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime for the demonstration")?;
    runtime.block_on(async {
        let Plan {
            origin,
            ports,
            viewers,
            page,
            is_for_programs,
        } = plan;
        let hls_js = page.hls_js.clone();
        let watched = Arc::new(Watched::starting_now(&origin.faults));
        let cdn = Cdn::start(origin, &ports, page, &watched).await?;
        let places = Places::of(&cdn);
        watched.begin(&cdn, places.links());
        say(&if is_for_programs {
            places.as_json()
        } else {
            places.as_text(hls_js.as_deref())
        });
        let audience = Audience::arrive(viewers, &cdn, stop)?;
        stop.cancelled().await;
        complain("draining; a second signal leaves at once");
        audience.leave();
        cdn.shutdown().await;
        Ok(())
    })
}

/// Everything that runs.
struct Cdn {
    origin: RunningOrigin,
    shield: Running,
    edges: Vec<(&'static str, Running)>,
}

impl Cdn {
    async fn start(
        origin: OriginConfig,
        ports: &Ports,
        page: Page,
        watched: &Arc<Watched>,
    ) -> anyhow::Result<Self> {
        let figures = Arc::clone(watched);
        let config = OriginConfig {
            extra: Some(Arc::new(move |request| page.answer(request, &figures))),
            ..origin
        };
        let origin = Origin::bind(config, ports.origin())
            .await
            .context("the origin cannot start")?;
        let shield = start_shield(origin.addr(), ports).context("the shield cannot start")?;
        let parent = local(&shield, "shield")?;
        let mut edges = Vec::new();
        for (at, name) in REGIONS.into_iter().enumerate() {
            let edge = start_edge(name, at, parent, ports)
                .with_context(|| format!("edge {name} cannot start"))?;
            edges.push((name, edge));
        }
        Ok(Self {
            origin,
            shield,
            edges,
        })
    }

    /// From the viewers inwards, so that nobody's parent leaves first.
    async fn shutdown(self) {
        for (_, edge) in self.edges {
            edge.shutdown().await;
        }
        self.shield.shutdown().await;
        self.origin.shutdown().await;
    }
}

fn start_shield(origin: SocketAddr, ports: &Ports) -> anyhow::Result<Running> {
    let parent = shield::Origin::at("origin", clear(origin)?);
    let mut config = shield::Config::new("shield", vec![parent]);
    config.common.listen.http = vec![ports.shield()];
    settle(&mut config.common, ports.admin(0));
    Ok(shield::start(config)?)
}

fn start_edge(name: &str, at: usize, shield: SocketAddr, ports: &Ports) -> anyhow::Result<Running> {
    let mut parent = Shield::at("shield", clear(shield)?);
    // One HTTP/2 connection carries every held request of an edge.
    parent.parent.h2c = true;
    let mut config = edge::Config::new(name, vec![parent]);
    config.common.listen.http = vec![ports.clear(at)];
    config.common.listen.https = vec![ports.secure(at)];
    config.common.listen.http3 = true;
    config.common.listen.certificate = Some(CertificateSource::SelfSigned(Vec::new()));
    settle(&mut config.common, ports.admin(at + 1));
    let mut config = config.into_node_config();
    // Visitors reach one site under several names here: by port, by address, as localhost.
    for parent in &mut config.upstream.parents {
        parent.host = Some(SITE.to_owned());
    }
    Ok(Node::start(&config)?)
}

/// What all nodes of the demonstration share: small, and quick to leave.
fn settle(common: &mut Common, admin: SocketAddr) {
    common.listen.workers = 1;
    common.listen.limits.drain_timeout = DRAIN_TIMEOUT;
    common.store_bytes = STORE_BYTES;
    common.admin = Some(AdminConfig {
        address: admin,
        allow_remote: false,
    });
}

/// Returns where this process reaches a node in clear text.
fn local(running: &Running, name: &str) -> anyhow::Result<SocketAddr> {
    let address = running.addresses().http.first();
    let address = address.with_context(|| format!("{name} does not listen in clear text"))?;
    Ok(places::reachable(*address))
}

fn clear(address: SocketAddr) -> anyhow::Result<Uri> {
    let address = places::reachable(address);
    Ok(format!("http://{address}").parse()?)
}

/// Where the two edges pretend to be.
const REGIONS: [&str; 2] = ["fra", "sin"];
/// What the shield and the origin know the site as.
const SITE: &str = "demo.seawall.invalid";
/// A window of the bundled stream takes some 5 MB.
const STORE_BYTES: u64 = 256 * 1024 * 1024;
/// Longer than a blocking reload is held.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
