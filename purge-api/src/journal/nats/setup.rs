//! Connecting to the servers, and the stream as it must be.

use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, RetentionPolicy, StorageType, Stream,
};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions};
use purge_log::{Bounds, LogId, Sequence};

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
    let is_new = context.get_stream(&nats.stream).await.is_err();
    let stream = context
        .get_or_create_stream(wanted.clone())
        .await
        .map_err(|e| refuse("the servers refuse it", Some(StorageError::new(e))))?;
    let info = stream.cached_info().clone();
    if let Some(reason) = unfit(&info.config, &wanted) {
        return Err(refuse(reason, None));
    }
    Ok(Opened {
        client,
        context,
        bounds: bounds_of(&info),
        entries: info.state.messages,
        bytes: info.state.bytes,
        stream,
        is_new,
    })
}

/// The subject of the purges of a stream.
pub(super) fn subject(stream: &str) -> String {
    format!("{stream}.purges")
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
    let mut options = ConnectOptions::new().name("seawall-purge-api");
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

/// Returns why a stream that is there cannot be the journal. Its limits are its operator's.
fn unfit(found: &Config, wanted: &Config) -> Option<&'static str> {
    if found.subjects != wanted.subjects {
        return Some("it is there already, with other subjects");
    }
    if found.retention != RetentionPolicy::Limits || found.discard != DiscardPolicy::Old {
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

/// Bytes of one entry with its header fields.
const MESSAGE_BYTES_MAX: usize = ENTRY_BYTES_MAX + 4096;
