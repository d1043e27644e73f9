//! Accepting a purge: checked, allowed, confirmed, in the log, in the audit, and then answered.
//!
//! Who calls it: `POST /v1/purges`, and the ways in that other systems know (`compatible`). Deliberately not
//! here: how far the purge is, which is in `status`.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use purge_log::{Mode, PurgeRequest, Target};
use serde::Deserialize;
use tokio::time::Instant;

use super::problem::{Problem, ProblemKind};
use super::status::{PurgeState, PurgeStatus};
use super::{Api, Peer, json, text_of};
use crate::audit::Event;
use crate::auth::{Caller, Verb};
use crate::journal::{Appended, Draft};

/// The body of `POST /v1/purges`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPurge {
    /// What is purged.
    pub target: Target,
    /// How hard.
    #[serde(default)]
    pub mode: Mode,
    /// Whether nodes only count.
    #[serde(default)]
    pub dry_run: bool,
    /// How many milliseconds the answer may wait until every node applied the purge.
    #[serde(default)]
    pub wait_ms: u64,
    /// The host again, or `all`: what a purge of a host or of everything needs.
    #[serde(default)]
    pub confirm: Option<String>,
}

/// A purge that was asked for in any way.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) request: PurgeRequest,
    pub(super) dry_run: bool,
    pub(super) confirm: Option<String>,
    pub(super) idempotency_key: Option<String>,
}

/// `POST /v1/purges`.
pub(super) async fn submit_json(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let new = read(&headers, &body)?;
    let submission = Submission {
        request: PurgeRequest {
            target: new.target,
            mode: new.mode,
        },
        dry_run: new.dry_run,
        confirm: new.confirm,
        idempotency_key: idempotency_key(&headers)?,
    };
    let appended = submit(&api, caller, peer.address, submission).await?;
    let wait = Duration::from_millis(new.wait_ms).min(api.shared.limits.wait_max);
    let status = PurgeStatus::wait(&api, appended.entry(), wait).await?;
    Ok(answer(&status, matches!(appended, Appended::Known(_))))
}

fn read(headers: &HeaderMap, body: &[u8]) -> Result<NewPurge, Problem> {
    let media_type = text_of(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        let detail = "`Content-Type` must be `application/json`";
        return Err(Problem::new(ProblemKind::MediaType, detail));
    }
    // Errors name unknown members and list those that are known.
    serde_json::from_slice(body)
        .map_err(|error| Problem::new(ProblemKind::Malformed, error.to_string()))
}

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text.to_owned())),
        (Err(_), _) | (_, Some(_)) => Err(Problem::new(
            ProblemKind::IdempotencyKeyInvalid,
            "`Idempotency-Key` must be there once, in visible ASCII",
        )),
    }
}

/// Accepts a purge, or says why not.
pub(super) async fn submit(
    api: &Api,
    caller: Caller,
    from: IpAddr,
    submission: Submission,
) -> Result<Appended, Problem> {
    let request = &submission.request;
    request
        .target
        .check()
        .map_err(|error| Problem::new(ProblemKind::TargetInvalid, error.to_string()))?;
    caller.scope().permit(request)?;
    confirmed(&request.target, submission.confirm.as_deref())?;
    if Verb::of(&request.target).is_wide() {
        caller
            .take_wide(api.now())
            .map_err(|wait| Problem::rate_limited(wait, "wide purges"))?;
    }
    if !api.shared.audit.is_whole() {
        let detail = "the audit cannot be written, and nothing is purged without it";
        return Err(Problem::new(ProblemKind::Storage, detail));
    }
    // A task of its own: a purge that is in the log gets into the audit, whoever leaves.
    let task = {
        let api = api.clone();
        async move { append(&api, &caller, from, submission).await }
    };
    let done = api.shared.tasks.spawn(task).await;
    done.unwrap_or_else(|_| {
        let detail = "the API ended before it knew";
        Err(Problem::new(ProblemKind::Uncertain, detail))
    })
}

async fn append(
    api: &Api,
    caller: &Caller,
    from: IpAddr,
    submission: Submission,
) -> Result<Appended, Problem> {
    let verb = Verb::of(&submission.request.target);
    let draft = Draft {
        accepted_at: api.now(),
        request: submission.request,
        dry_run: submission.dry_run,
        by: caller.name().to_owned(),
        idempotency_key: submission.idempotency_key,
        used: caller.used().cloned(),
    };
    let asked_at = Instant::now();
    let appended = api.shared.journal.append(draft).await?;
    api.shared.metrics.appended(asked_at.elapsed());
    let Appended::New(entry) = &appended else {
        return Ok(appended);
    };
    api.shared
        .metrics
        .accepted(verb, entry.request.mode, entry.sequence, entry.accepted_at);
    let event = Event::Accepted {
        id: entry.id,
        by: entry.by.clone(),
        key: caller.key.clone(),
        from: from.to_string(),
        request: entry.request.clone(),
        dry_run: entry.dry_run,
    };
    let written = api.shared.audit.write(entry.accepted_at, event).await;
    written.map_err(|error| {
        let detail = format!("{error}; the purge {} is accepted all the same", entry.id);
        Problem::new(ProblemKind::Storage, detail)
    })?;
    Ok(appended)
}

/// Checks that what reaches very far is meant.
fn confirmed(target: &Target, confirm: Option<&str>) -> Result<(), Problem> {
    let expected = match target {
        Target::Host(host) => host.as_str(),
        Target::All => "all",
        Target::Url { .. }
        | Target::Urls(_)
        | Target::Prefix { .. }
        | Target::Stream { .. }
        | Target::SurrogateKeys(_) => return Ok(()),
    };
    if confirm == Some(expected) {
        return Ok(());
    }
    let detail = format!("`confirm` must be `{expected}`");
    Err(Problem::new(ProblemKind::ConfirmationMissing, detail))
}

/// Returns the answer to an accepted purge: 200 if it is applied by now, else 202.
pub(super) fn answer(status: &PurgeStatus, is_known: bool) -> Response {
    let code = match status.state {
        PurgeState::Applied => StatusCode::OK,
        PurgeState::Spreading | PurgeState::AppliedExceptAbsent => StatusCode::ACCEPTED,
    };
    let mut response = (code, json(status)).into_response();
    let place = format!("/v1/purges/{}", status.id);
    let place = HeaderValue::from_str(&place).expect("the name of a purge is plain");
    response.headers_mut().insert(header::LOCATION, place);
    if is_known {
        let replayed = HeaderValue::from_static("true");
        response
            .headers_mut()
            .insert("idempotency-replayed", replayed);
    }
    response
}

/// Returns the submission that only the head of a request describes.
pub(super) fn from_head(parts: &Parts, target: Target) -> Result<Submission, Problem> {
    let soft = text_of(&parts.headers, "fastly-soft-purge");
    let mode = match soft {
        Some("1") => Mode::Soft,
        None | Some("0") => Mode::Hard,
        Some(_) => {
            let detail = "`Fastly-Soft-Purge` is `1` or `0`";
            return Err(Problem::new(ProblemKind::Malformed, detail));
        }
    };
    Ok(Submission {
        request: PurgeRequest { target, mode },
        dry_run: false,
        confirm: text_of(&parts.headers, "seawall-confirm").map(ToOwned::to_owned),
        idempotency_key: idempotency_key(&parts.headers)?,
    })
}
