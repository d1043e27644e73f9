//! The process of the purge API: files opened and verified, listeners, connections, and how all of it ends.
//!
//! Who calls it: the command line, and tests. What it calls: `journal`, `audit`, `api`; hyper for HTTP/1.1 and
//! rustls for TLS. Deliberately not here: what a request means.

mod connection;
mod tls;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use purge_log::{LogId, Sequence};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::api::{self, Api, Now};
use crate::audit::{Audit, AuditError, AuditReport, Event, Unwritable};
use crate::auth::{Authenticator, PrincipalsError};
use crate::config::{Config, JournalPlace};
use crate::journal::{Journal, OpenError, OpenReport, ReadError};

pub use tls::TlsError;

use connection::Limits;

/// A running purge API.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    private: Option<SocketAddr>,
    journal: Journal,
    audit: Audit,
    api: Api,
    closing: CancellationToken,
    listeners: JoinSet<()>,
    drain_timeout: Duration,
    /// What was found in the journal.
    pub journal_report: OpenReport,
    /// What was found in the audit.
    pub audit_report: AuditReport,
    /// Purges in the journal that had no line in the audit, and were given one.
    pub recovered: usize,
}

/// Why the purge API cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] OpenError),
    /// The audit.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The audit was opened and cannot be written.
    #[error(transparent)]
    Unwritable(#[from] Unwritable),
    /// The journal was opened and cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Principals.
    #[error(transparent)]
    Principals(#[from] PrincipalsError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address.
    #[error("{address} cannot be listened on ({})", source.kind())]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Starts the purge API.
///
/// # Errors
///
/// See [`StartError`]; nothing runs then.
pub async fn start(config: Config, now: Now) -> Result<Running, StartError> {
    let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
    // Principals that cannot be are refused before anything is opened.
    let authenticator = Authenticator::new(config.principals, config.audience, now())?;
    let (listener, address) = bind(config.listen).await?;
    let private = match config.private {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let (journal, journal_report) = match config.journal_place {
        JournalPlace::File(path) => Journal::open(&path, config.journal)?,
        JournalPlace::Nats(nats) => Journal::connect(nats, config.journal).await?,
    };
    let authenticator = authenticator.remembering(journal_report.remembered.clone(), now());
    let (audit, audit_report) = Audit::open(&config.audit)?;
    let recovered = recover(&journal, &audit, &audit_report, &now).await?;
    let closing = CancellationToken::new();
    let api = Api::new(
        journal.clone(),
        audit.clone(),
        authenticator,
        config.limits,
        now,
        closing.clone(),
    );
    let limits = Limits {
        open: Arc::new(Semaphore::new(config.connections_max)),
        head_timeout: config.head_timeout,
        drain_timeout: config.drain_timeout,
    };
    let mut listeners = JoinSet::new();
    let mut serve = |listener: TcpListener, tls: Option<TlsAcceptor>, router: Router| {
        let (limits, closing) = (limits.clone(), closing.clone());
        listeners.spawn(connection::serve(listener, tls, router, limits, closing));
    };
    serve(listener, tls, api::public(api.clone()));
    let private = private.map(|(listener, address)| {
        serve(listener, None, api::private(api.clone()));
        address
    });
    Ok(Running {
        address,
        private,
        journal,
        audit,
        api,
        closing,
        listeners,
        drain_timeout: config.drain_timeout,
        journal_report,
        audit_report,
        recovered,
    })
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let unusable = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(unusable)?;
    let bound = listener.local_addr().map_err(unusable)?;
    Ok((listener, bound))
}

/// Writes down what the process ended before it could: purges of late that have no line in the audit.
async fn recover(
    journal: &Journal,
    audit: &Audit,
    found: &AuditReport,
    now: &Now,
) -> Result<usize, StartError> {
    let started = Event::Started {
        cut_bytes: found.cut_bytes,
    };
    audit.write(now(), started).await?;
    // A new file knows nothing of the purges before it; its predecessors do.
    let Some(first) = first_audited(found, journal.bounds().log) else {
        return Ok(0);
    };
    let purges = found.purges.clone();
    let is_missing = move |entry: &purge_log::Entry| !purges.contains(&entry.id);
    let page = journal.list(None, RECOVERED_MAX, is_missing).await?;
    let mut recovered = 0;
    for entry in page.entries.iter().rev() {
        if entry.sequence < first {
            continue;
        }
        let event = Event::Recovered {
            id: entry.id,
            by: entry.by.clone(),
            accepted_at: entry.accepted_at,
            request: entry.request.clone(),
            dry_run: entry.dry_run,
        };
        audit.write(now(), event).await?;
        recovered += 1;
    }
    Ok(recovered)
}

/// Returns the first place of `log` that the present file of the audit knows, as far back as it was looked at.
fn first_audited(found: &AuditReport, log: LogId) -> Option<Sequence> {
    let of_log = found.purges.iter().filter(|id| id.log == log);
    of_log.map(|id| id.sequence).min()
}

impl Running {
    /// Returns where everybody who shows who they are is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns where those who are not asked are served.
    pub fn private_address(&self) -> Option<SocketAddr> {
        self.private
    }

    /// Stops accepting, lets requests that are under way finish, and closes the files.
    ///
    /// # Limits
    ///
    /// What is not finished after `limits.drain_timeout` is cut; what was accepted is in the log all the same.
    pub async fn shutdown(mut self) {
        self.closing.cancel();
        let joined = async { while self.listeners.join_next().await.is_some() {} };
        if tokio::time::timeout(self.drain_timeout * 2, joined)
            .await
            .is_err()
        {
            self.listeners.shutdown().await;
        }
        self.api.finish().await;
        drop(self.api);
        self.audit.close().await;
        self.journal.close().await;
    }
}

/// Purges that are looked for in the audit when the process starts: more cannot have been under way.
const RECOVERED_MAX: usize = 4096;
