//! Reports of nodes on their way to the journal: measured and audited.

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use purge_log::feed::{REPORTS_BYTES_MAX, read_reports};

use super::{Api, body};
use crate::audit::Event;

/// Passes a request on to the feed, and looks at what a node reports if the feed took it.
pub(super) async fn observe(State(api): State<Api>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let (parts, sent) = request.into_parts();
    let timeout = api.shared.limits.body_timeout;
    let bytes = match body::read(sent, REPORTS_BYTES_MAX, timeout).await {
        Ok(bytes) => bytes,
        Err(problem) => return problem.into_response(),
    };
    let response = next
        .run(Request::from_parts(parts, Body::from(bytes.clone())))
        .await;
    if response.status().is_success() {
        look(&api, &bytes);
    }
    response
}

fn look(api: &Api, bytes: &Bytes) {
    let now = api.now();
    let bounds = api.shared.journal.bounds();
    // The feed has read them already: they can be read.
    for mut report in read_reports(bytes).unwrap_or_default() {
        if report.log != bounds.log {
            continue;
        }
        // Nobody applied what is not in the log.
        report.applied.retain(|line| line.sequence <= bounds.head);
        let news = api.shared.metrics.applied(&report, NODES_MAX, now);
        for line in news {
            let event = Event::Applied {
                sequence: line.sequence,
                node: report.node.clone(),
                applied_at: line.at,
                counts: line.counts,
            };
            api.shared.audit.note(now, event);
        }
    }
}

/// Nodes whose reports are measured: as many as the journal knows by default.
const NODES_MAX: usize = 10_000;
