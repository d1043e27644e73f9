//! Ways in that other systems know: the `PURGE` method, and purges by the paths of Fastly's API.
//!
//! They differ from what they resemble in one thing: nobody purges without showing who they are. A service is
//! a host here. Answers are in the form that clients of those systems read, with our name of the purge.

use std::collections::BTreeMap;

use axum::extract::{Extension, Path, State};
use axum::http::request::Parts;
use axum::response::Response;
use purge_log::Target;
use serde_json::json;

use super::problem::{Problem, ProblemKind};
use super::submit::{from_head, submit};
use super::{Api, Peer, host_of, peer_of, text_of};
use crate::auth::Caller;

/// `PURGE /path`, for the URL of the request; with `Surrogate-Key`, for those keys.
pub(super) async fn purge(api: &Api, caller: Caller, parts: &Parts) -> Result<Response, Problem> {
    let target = if parts.headers.contains_key("surrogate-key") {
        Target::SurrogateKeys(surrogate_keys(parts)?)
    } else {
        Target::Url {
            host: host_of(parts).to_ascii_lowercase(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
        }
    };
    one(api, caller, parts, target).await
}

/// `POST /service/{host}/purge/{key}`.
pub(super) async fn key(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((_service, key)): Path<(String, String)>,
    parts: Parts,
) -> Result<Response, Problem> {
    one(&api, caller, &parts, Target::SurrogateKeys(vec![key])).await
}

/// `POST /service/{host}/purge` with `Surrogate-Key: a b c`.
pub(super) async fn keys(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Extension(peer): Extension<Peer>,
    parts: Parts,
) -> Result<Response, Problem> {
    let keys = surrogate_keys(&parts)?;
    let submission = from_head(&parts, Target::SurrogateKeys(keys.clone()))?;
    let appended = submit(&api, caller, peer.address, submission).await?;
    let id = appended.entry().id.to_string();
    let answer: BTreeMap<_, _> = keys.into_iter().map(|key| (key, id.clone())).collect();
    Ok(super::json(&answer))
}

/// `POST /service/{host}/purge_all`, confirmed by `Seawall-Confirm`.
pub(super) async fn all(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(host): Path<String>,
    parts: Parts,
) -> Result<Response, Problem> {
    one(&api, caller, &parts, Target::Host(host)).await
}

async fn one(
    api: &Api,
    caller: Caller,
    parts: &Parts,
    target: Target,
) -> Result<Response, Problem> {
    let submission = from_head(parts, target)?;
    let from = peer_of(parts).address;
    let appended = submit(api, caller, from, submission).await?;
    Ok(super::json(
        &json!({"status": "ok", "id": appended.entry().id}),
    ))
}

fn surrogate_keys(parts: &Parts) -> Result<Vec<String>, Problem> {
    let text = text_of(&parts.headers, "surrogate-key").ok_or_else(|| {
        let detail = "`Surrogate-Key` must list the keys, with spaces between them";
        Problem::new(ProblemKind::Malformed, detail)
    })?;
    Ok(text
        .split_ascii_whitespace()
        .map(ToOwned::to_owned)
        .collect())
}
