//! `seawall purge` and `seawall purge-api`: asking for purges, and running the API that takes them.
//!
//! What is here: what was typed becomes a request, the answer becomes text and an exit code. What it calls:
//! `purge-api` for words, signatures and the server; hyper as a client. Deliberately not here: what a purge does.

mod arguments;
mod client;
mod connect;
mod server;
mod show;
mod target;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use http::Method;
use purge_api::{Mode, Target};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use arguments::{PURGE_EXAMPLES, PurgeApiArguments, PurgeArguments};
pub(crate) use server::run_server;

use crate::output::say;
use crate::values::Misuse;
use arguments::{AuditCommand, HowArguments, What};
use client::Client;
use show::Following;

/// An end that is neither success nor a failure of this program.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfinished {
    /// The API refused.
    #[error("the purge API refuses: {0}")]
    Refused(String),
    /// The purge is accepted, and not everywhere.
    #[error("accepted, but not applied by every node in time")]
    NotEverywhere,
}

impl Unfinished {
    /// Returns the exit code that tells programs.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Refused(_) => 3,
            Self::NotEverywhere => 4,
        }
    }
}

/// What was typed, checked.
pub(crate) enum Plan {
    /// Purge something.
    Purge(Client, Box<Asked>),
    /// Show a purge.
    Status(Client, String, HowArguments),
    /// Show a list.
    Show(Client, String),
    /// Check an audit.
    Verify(std::path::PathBuf),
}

/// A purge to ask for.
pub(crate) struct Asked {
    target: Target,
    how: HowArguments,
}

impl Plan {
    /// Checks what was typed.
    pub(crate) fn of(typed: PurgeArguments) -> anyhow::Result<Self> {
        let PurgeArguments { what, api, how } = typed;
        let target = match what {
            What::Audit {
                what: AuditCommand::Verify { file },
            } => return Ok(Self::Verify(file)),
            What::Status { id } => return Ok(Self::Status(Client::of(api)?, id, how)),
            What::List(list) => {
                let path = target::list(&list)?;
                return Ok(Self::Show(Client::of(api)?, path));
            }
            What::Nodes => return Ok(Self::Show(Client::of(api)?, "/v1/nodes".to_owned())),
            What::Url { urls } => target::urls(&urls)?,
            What::Prefix { url } => target::prefix(&url)?,
            What::Key { keys } => Target::SurrogateKeys(keys),
            What::Host { host } => Target::Host(host),
            What::Stream(stream) => target::stream(&stream)?,
            What::All => Target::All,
        };
        target.check().map_err(|error| Misuse(error.to_string()))?;
        Ok(Self::Purge(
            Client::of(api)?,
            Box::new(Asked { target, how }),
        ))
    }
}

/// Does what was typed.
pub(crate) fn run(plan: Plan, stop: &CancellationToken) -> anyhow::Result<()> {
    if let Plan::Verify(file) = &plan {
        return verify(file);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime for the main thread")?;
    runtime.block_on(async {
        tokio::select! {
            done = ask(plan) => done,
            () = stop.cancelled() => anyhow::bail!("stopped; what was accepted stays accepted"),
        }
    })
}

async fn ask(plan: Plan) -> anyhow::Result<()> {
    match plan {
        Plan::Purge(client, asked) => {
            let Asked { target, how } = *asked;
            let status = submit(&client, target, &how).await?;
            follow(&client, status, &how).await
        }
        Plan::Status(client, id, how) => {
            let path = format!("/v1/purges/{}", target::path_segment(&id)?);
            let status = client.ask(Method::GET, &path, None, None).await?;
            follow(&client, status, &how).await
        }
        Plan::Show(client, path) => {
            let answer = client.ask(Method::GET, &path, None, None).await?;
            say(&answer.to_string());
            Ok(())
        }
        Plan::Verify(file) => verify(&file),
    }
}

async fn submit(client: &Client, target: Target, how: &HowArguments) -> anyhow::Result<Value> {
    let mode = if how.soft { Mode::Soft } else { Mode::Hard };
    let mut body = json!({"target": target, "mode": mode, "dry_run": how.dry_run});
    if let Some(confirm) = &how.confirm {
        body["confirm"] = json!(confirm);
    }
    let key = how.idempotency_key.as_deref();
    let body = Some(body.to_string());
    client.ask(Method::POST, "/v1/purges", key, body).await
}

/// Follows a purge for as long as was asked, and shows how far it came.
async fn follow(client: &Client, status: Value, how: &HowArguments) -> anyhow::Result<()> {
    let id = status["id"].as_str().context("the answer has no `id`")?;
    let mut last = status.clone();
    if let Some(wait) = how.wait {
        let deadline = Instant::now() + wait;
        if status["state"] != "applied" {
            watch(client, id, &status, deadline).await?;
            last = again(client, id).await?;
        }
    }
    show::status(&last, how);
    if how.wait.is_some() && last["state"] != "applied" {
        return Err(Unfinished::NotEverywhere.into());
    }
    Ok(())
}

/// Shows progress until the purge is everywhere or time is up.
async fn watch(client: &Client, id: &str, status: &Value, deadline: Instant) -> anyhow::Result<()> {
    let path = format!("/v1/purges/{}/events", target::path_segment(id)?);
    let mut following = Following::begin(status);
    let events = client.events(&path, |name, data| following.event(name, data));
    let ended = tokio::time::timeout_at(deadline, events).await;
    following.end();
    // Time that is up is no error here: how far the purge is is asked for and judged.
    ended.unwrap_or(Ok(()))
}

async fn again(client: &Client, id: &str) -> anyhow::Result<Value> {
    let path = format!("/v1/purges/{}", target::path_segment(id)?);
    let asked = client.ask(Method::GET, &path, None, None);
    tokio::time::timeout(LAST_LOOK, asked)
        .await
        .context("the purge API does not answer")?
}

/// Checks the files of an audit.
fn verify(file: &Path) -> anyhow::Result<()> {
    let (files, verified) = purge_api::audit::verify_files(file, |_| {})?;
    say(&format!(
        "OK: {} lines, {} to {}, in {files} {}, nothing changed in between",
        verified.lines,
        verified.begins.number + 1,
        verified.ends.number,
        if files == 1 { "file" } else { "files" }
    ));
    say(&format!("begins behind {}", verified.begins.hash));
    say(&format!("ends with     {}", verified.ends.hash));
    if verified.cut_bytes > 0 {
        say(&format!(
            "{} bytes behind the last line: a crash left them, the next start cuts them",
            verified.cut_bytes
        ));
    }
    Ok(())
}

/// How long the last look at a purge may take.
const LAST_LOOK: Duration = Duration::from_secs(10);
