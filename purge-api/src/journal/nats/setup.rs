//! Connecting to the servers, and the streams as they must be.
//!
//! Who calls it: the journal, once. Three streams, each on as many servers:
//!
//! | stream | subjects | has |
//! |---|---|---|
//! | `NAME` | `NAME.purges` | the log |
//! | `NAME-used` | `NAME.used.*` | what may be used once, until nobody could use it anyway |
//! | `NAME-reports` | `NAME.applied.*`, `NAME.alive.*` | what nodes reported of late, and that the servers agree on writing |
//!
//! Deliberately not here: reading them.

use std::time::Duration;

use async_nats::jetstream::context::{
    CreateStreamError, CreateStreamErrorKind, GetStreamErrorKind,
};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, RetentionPolicy, StorageType, Stream,
};
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{Client, ConnectOptions};
use purge_log::{Bounds, LogId, Sequence, UnixMillis};
use tokio::time::{Instant, sleep};

use super::super::error::StorageError;
use super::super::record::ENTRY_BYTES_MAX;
use super::super::{JournalConfig, NatsConfig, NatsLogin, OpenError};

/// What was found on the servers.
pub(super) struct Opened {
    pub(super) client: Client,
    pub(super) context: Context,
    pub(super) stream: Stream,
    pub(super) bounds: Bounds,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) is_new: bool,
    /// What nodes reported of late.
    pub(super) reports: Stream,
    /// What was used once.
    pub(super) used: Stream,
    /// Since when everything that may be used once is claimed.
    pub(super) claimed_since: UnixMillis,
}

/// Connects and finds the stream, or begins it.
pub(super) async fn open(nats: &NatsConfig, config: &JournalConfig) -> Result<Opened, OpenError> {
    let refuse = |reason, source| OpenError::Nats {
        stream: nats.stream.clone(),
        reason,
        source,
    };
    let connected = options(nats).connect(nats.servers.clone()).await;
    let client =
        connected.map_err(|e| refuse("no server can be reached", Some(StorageError::new(e))))?;
    let context = jetstream::new(client.clone());
    let wanted = wanted(nats, config);
    let started_at = Instant::now();
    let open = async |wanted: Config| {
        let name = wanted.name.clone();
        let refuse = |reason, source| OpenError::Nats {
            stream: name.clone(),
            reason,
            source,
        };
        let stream = patiently(started_at, &context, &wanted).await;
        let stream =
            stream.map_err(|e| refuse("the servers refuse it", Some(StorageError::new(e))))?;
        match unfit(&stream.cached_info().config, &wanted) {
            Some(reason) => Err(refuse(reason, None)),
            None => Ok(stream),
        }
    };
    let reports = open(wanted_reports(nats, config)).await?;
    let used = open(wanted_used(nats)).await?;
    let is_new = is_missing(&context, &nats.stream).await;
    let stream = open(wanted).await?;
    let info = stream.cached_info().clone();
    let claimed_since = used.cached_info().created.unix_timestamp_nanos() / 1_000_000;
    Ok(Opened {
        client,
        context,
        bounds: bounds_of(&info),
        entries: info.state.messages,
        bytes: info.state.bytes,
        stream,
        is_new,
        reports,
        used,
        claimed_since: UnixMillis(u64::try_from(claimed_since).unwrap_or_default()),
    })
}

/// Returns whether the servers know that there is no stream called `name`.
async fn is_missing(context: &Context, name: &str) -> bool {
    match context.get_stream(name).await {
        Ok(_) => false,
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(error) => error.code() == 404,
            GetStreamErrorKind::EmptyName
            | GetStreamErrorKind::Request
            | GetStreamErrorKind::InvalidStreamName => false,
        },
    }
}

/// Finds or makes a stream, and tries again while the servers have not agreed on who leads.
async fn patiently(
    started_at: Instant,
    context: &Context,
    wanted: &Config,
) -> Result<Stream, CreateStreamError> {
    loop {
        let error = match context.get_or_create_stream(wanted.clone()).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        if !is_passing(&error) || started_at.elapsed() > AGREE_WITHIN {
            return Err(error);
        }
        tracing::info!(%error, stream = wanted.name, "the servers are not ready");
        sleep(TRY_AGAIN_AFTER).await;
    }
}

/// Returns whether the servers may think otherwise in a moment: a cluster that elects has no answers.
fn is_passing(error: &CreateStreamError) -> bool {
    match error.kind() {
        CreateStreamErrorKind::JetStream(error) => {
            // Servers that have not found each other yet are too few for the replicas.
            let are_too_few = error.error_code() == ErrorCode::CLUSTER_NO_PEERS;
            are_too_few || error.code() == 503 || error.code() == 500
        }
        CreateStreamErrorKind::TimedOut
        | CreateStreamErrorKind::JetStreamUnavailable
        | CreateStreamErrorKind::Response => true,
        CreateStreamErrorKind::EmptyStreamName
        | CreateStreamErrorKind::InvalidStreamName
        | CreateStreamErrorKind::DomainAndExternalSet
        | CreateStreamErrorKind::NotFound
        | CreateStreamErrorKind::ResponseParse => false,
    }
}

/// The subject of the purges of a stream.
pub(super) fn subject(stream: &str) -> String {
    format!("{stream}.purges")
}

/// The beginning of the subjects of what may be used once.
pub(super) fn used_prefix(stream: &str) -> String {
    format!("{stream}.used.")
}

/// The beginning of the subjects of what nodes reported.
pub(super) fn applied_prefix(stream: &str) -> String {
    format!("{stream}.applied.")
}

/// The beginning of the subjects that show that the servers agree.
pub(super) fn alive_prefix(stream: &str) -> String {
    format!("{stream}.alive.")
}

/// Returns which part of the log a stream has.
///
/// Its name is the moment it was made, in nanoseconds: all servers of a cluster agree on it, and a stream that
/// was deleted and made again has another.
pub(super) fn bounds_of(info: &Info) -> Bounds {
    Bounds {
        log: LogId(info.created.unix_timestamp_nanos() as u64),
        tail: Sequence(info.state.first_sequence.max(1)),
        head: Sequence(info.state.last_sequence),
    }
}

fn options(nats: &NatsConfig) -> ConnectOptions {
    let mut options = ConnectOptions::new()
        .name("seawall-purge-api")
        .request_timeout(Some(ANSWER_WITHIN));
    options = match nats.login.clone() {
        NatsLogin::None => options,
        NatsLogin::Password { user, password } => options.user_and_password(user, password),
        NatsLogin::Token(token) => options.token(token),
    };
    if let Some(file) = &nats.ca_file {
        options = options
            .add_root_certificates(file.clone())
            .require_tls(true);
    }
    if let Some((certificate, key)) = &nats.client_certificate {
        options = options
            .add_client_certificate(certificate.clone(), key.clone())
            .require_tls(true);
    }
    options
}

/// Returns the stream as this journal would make it.
fn wanted(nats: &NatsConfig, config: &JournalConfig) -> Config {
    let limit = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    Config {
        name: nats.stream.clone(),
        subjects: vec![subject(&nats.stream)],
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        max_messages: limit(config.entries_max),
        max_bytes: limit(config.bytes_max),
        max_age: config.keep_for,
        max_message_size: i32::try_from(MESSAGE_BYTES_MAX).unwrap_or(i32::MAX),
        num_replicas: nats.replicas,
        duplicate_window: config.keys_kept_for.min(config.keep_for),
        // A purge in the middle of the log that is gone could not be told from one that never was.
        deny_delete: true,
        ..Config::default()
    }
}

/// Returns the stream of what may be used once.
fn wanted_used(nats: &NatsConfig) -> Config {
    Config {
        name: format!("{}-used", nats.stream),
        subjects: vec![format!("{}*", used_prefix(&nats.stream))],
        max_age: USED_KEPT_FOR,
        max_messages: USED_MAX,
        max_messages_per_subject: 1,
        // Invariant 8: one too many is refused. To forget one early would let it be used again.
        discard: DiscardPolicy::New,
        num_replicas: nats.replicas,
        ..beside_the_log()
    }
}

/// Returns the stream of what nodes reported.
fn wanted_reports(nats: &NatsConfig, config: &JournalConfig) -> Config {
    Config {
        name: format!("{}-reports", nats.stream),
        subjects: vec![
            format!("{}*", applied_prefix(&nats.stream)),
            format!("{}*", alive_prefix(&nats.stream)),
        ],
        max_age: config.keep_for,
        max_messages: REPORTS_KEPT_MAX,
        max_messages_per_subject: REPORTS_PER_NODE_MAX,
        discard: DiscardPolicy::Old,
        num_replicas: nats.replicas,
        ..beside_the_log()
    }
}

fn beside_the_log() -> Config {
    Config {
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        max_message_size: i32::try_from(MESSAGE_BYTES_MAX).unwrap_or(i32::MAX),
        duplicate_window: Duration::from_secs(1),
        ..Config::default()
    }
}

/// Returns why a stream that is there cannot be the journal. Its limits are its operator's.
fn unfit(found: &Config, wanted: &Config) -> Option<&'static str> {
    if found.subjects != wanted.subjects {
        return Some("it is there already, with other subjects");
    }
    if found.retention != RetentionPolicy::Limits || found.discard != wanted.discard {
        return Some("it is there already, and does not keep what was read");
    }
    if found.storage != StorageType::File {
        return Some("it is there already, and only in memory");
    }
    if found.num_replicas < wanted.num_replicas {
        return Some("it is there already, on fewer servers than are asked for");
    }
    None
}

/// How long a request to the servers may take.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How long a cluster may take to agree on who leads, when a purge API starts.
const AGREE_WITHIN: Duration = Duration::from_secs(60);

/// The pause before the servers are asked again.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// How long what was used once is kept: a token is valid for 10 minutes and may be a minute ahead.
const USED_KEPT_FOR: Duration = Duration::from_secs(15 * 60);

/// How much that was used once is kept: ten principals at 50 requests a second.
const USED_MAX: i64 = 500_000;

/// Messages with reports of all nodes together.
const REPORTS_KEPT_MAX: i64 = 500_000;

/// Messages with reports of one node: the last of them say how far it is, all of them when it applied what.
const REPORTS_PER_NODE_MAX: i64 = 128;

/// Bytes of one entry with its header fields.
const MESSAGE_BYTES_MAX: usize = ENTRY_BYTES_MAX + 4096;
