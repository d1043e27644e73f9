//! The story of one request to the origin.
//!
//! admit -> what the rules of misbehavior say -> the resource -> headers. Playlists and manifests are
//! answered in `serve_text.rs`, media in `serve_media.rs`.

use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use super::address::{self, Flavor, Item, Resource};
use super::body::OriginBody;
use super::control::{Control, Ending};
use super::headers::{Ask, plain_text, preflight, refusal, set, with_cors, without_body};
use super::instance::Origin;
use super::wall::iso_8601;

impl Origin {
    /// Answers one request; `control` may be asked to end its connection.
    pub(crate) async fn respond(
        self: &Arc<Self>,
        request: &Request<()>,
        control: &Control,
    ) -> Response<OriginBody> {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or(""));
        if let Some(page) = self.control_page(request) {
            return with_cors(page);
        }
        self.counters.url(address::canonical(path, query));
        let is_head = request.method() == Method::HEAD;
        if request.method() == Method::OPTIONS {
            return with_cors(preflight());
        }
        if !is_head && request.method() != Method::GET {
            return with_cors(refusal(StatusCode::METHOD_NOT_ALLOWED));
        }
        let Some(resource) = Resource::parse(path) else {
            return with_cors(refusal(StatusCode::NOT_FOUND));
        };
        let plan = self.live.plan(path, resource.kind());
        let ask = Ask {
            path,
            query,
            headers: request.headers(),
            is_head,
            plan: &plan,
        };
        let mut response = self.misbehave_or_answer(&resource, &ask, control).await;
        self.counters.status(response.status().as_u16());
        if plan.is_no_cache {
            let value = HeaderValue::from_static("no-cache");
            response.headers_mut().insert(header::CACHE_CONTROL, value);
        }
        let response = if is_head {
            without_body(response)
        } else {
            let (body_plan, version) = (plan.body, request.version());
            response.map(|body| body.spoiled(body_plan, control.clone(), version))
        };
        with_cors(response)
    }

    async fn misbehave_or_answer(
        self: &Arc<Self>,
        resource: &Resource,
        ask: &Ask<'_>,
        control: &Control,
    ) -> Response<OriginBody> {
        let plan = ask.plan;
        if plan.is_stalled {
            return std::future::pending().await;
        }
        if !plan.delay.is_zero() {
            tokio::time::sleep(plan.delay).await;
        }
        if plan.resets_before_head {
            control.end(Ending::Reset);
            return std::future::pending().await;
        }
        if let Some(status) = plan.status.and_then(|s| StatusCode::from_u16(s).ok()) {
            return refusal(status);
        }
        self.answer(resource, ask).await
    }

    async fn answer(self: &Arc<Self>, resource: &Resource, ask: &Ask<'_>) -> Response<OriginBody> {
        match resource {
            Resource::Multivariant(flavor) => self.multivariant(*flavor, ask),
            Resource::Mpd(flavor) => self.mpd(*flavor, false, ask),
            Resource::PatchedMpd => self.mpd(Flavor::Plain, true, ask),
            Resource::Patch => self.patch(ask),
            Resource::Time => plain_text(iso_8601(self.clock.wall(self.clock.now()))),
            Resource::Rendition {
                flavor,
                rendition: name,
                item,
            } => {
                let Some(rendition) = self.show.renditions.iter().find(|r| r.name() == name) else {
                    return refusal(StatusCode::NOT_FOUND);
                };
                match *item {
                    Item::Playlist if *flavor == Flavor::Live && self.show.low_latency => {
                        self.low_latency_playlist(rendition, ask).await
                    }
                    Item::Playlist => self.plain_playlist(*flavor, rendition, ask),
                    Item::Init | Item::Segment { .. } | Item::Part { .. } => {
                        self.media(*flavor, rendition, *item, ask).await
                    }
                }
            }
        }
    }

    /// Answers what is not part of the presentation: the demo's pages and the counts.
    fn control_page(&self, request: &Request<()>) -> Option<Response<OriginBody>> {
        if let Some(page) = self.extra.0.as_ref().and_then(|extra| extra(request)) {
            let response = page.map(OriginBody::full);
            let is_head = request.method() == Method::HEAD;
            return Some(if is_head {
                without_body(response)
            } else {
                response
            });
        }
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/origin/counts.json") => Some(json(&self.counts())),
            (&Method::GET, "/origin/requests.json") => Some(json(&self.requests_each())),
            (&Method::POST, "/origin/reset") => {
                self.reset_counts();
                let mut response = Response::new(OriginBody::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                Some(response)
            }
            _ => None,
        }
    }
}

fn json(counts: &impl serde::Serialize) -> Response<OriginBody> {
    let json = serde_json::to_vec(counts).expect("counts are numbers under text keys");
    let mut response = Response::new(OriginBody::full(json.into()));
    set(&mut response, header::CONTENT_TYPE, "application/json");
    set(&mut response, header::CACHE_CONTROL, "no-store");
    response
}
