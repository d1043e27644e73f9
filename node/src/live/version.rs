//! One version of a live media playlist, ready to be sent in every form.
//!
//! Parsing, delta, compression and heads are done once per version, by whoever asks first, and shared
//! by every viewer.

use std::io::Write;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use media::hls::{DeliveryDirectives, MediaPlaylist, delta_update};
use xxhash_rust::xxh3::xxh3_64;

use crate::body::Body;
use crate::node::Node;
use crate::request::{Request, Wants};
use crate::respond::{AGE_MILLISECONDS, Answer, Outcome, is_not_modified};

/// A version of a live media playlist.
#[derive(Debug)]
pub struct Version {
    /// The parsed playlist; its text is what the parent sent, byte for byte.
    pub playlist: Arc<MediaPlaylist>,
    /// What the parent said with it, without what describes its message or its age.
    fields: HeaderMap,
    /// When it arrived, as uptime of the node's clock.
    arrived_at: Duration,
    /// Its age on arrival, by the parent's word (LT-02).
    initial_age: Duration,
    full: Form,
    delta: OnceLock<Option<Form>>,
}

/// One text in each encoding, each with its own validator (CA-18).
#[derive(Debug)]
struct Form {
    identity: Bytes,
    etag: HeaderValue,
    gzip: OnceLock<Option<(Bytes, HeaderValue)>>,
}

impl Version {
    /// Creates a version from a parent's answer that arrived at `arrived_at` (uptime).
    pub fn new(
        playlist: Arc<MediaPlaylist>,
        received: &HeaderMap,
        arrived_at: Duration,
        initial_age: Duration,
    ) -> Self {
        let full = Form::new(playlist.text().clone());
        Self {
            fields: kept_fields(received),
            full,
            delta: OnceLock::new(),
            playlist,
            arrived_at,
            initial_age,
        }
    }

    /// Returns how old the version was on arrival, by the parent's word.
    pub fn initial_age(&self) -> Duration {
        self.initial_age
    }

    /// Returns how old the version is; the time the parent held its answer never counts (CA-11).
    pub fn age(&self, uptime: Duration) -> Duration {
        self.initial_age + uptime.saturating_sub(self.arrived_at)
    }

    /// Answers `request` with this version.
    pub fn respond(
        &self,
        node: &Node,
        request: &Request,
        directives: &DeliveryDirectives,
        was_held: bool,
    ) -> Answer {
        let form = self.form(directives);
        let accepts_gzip = accepts_gzip(&request.fields);
        let (bytes, etag, is_gzip) = form.encoded(accepts_gzip);
        let mut fields = self.fields.clone();
        if is_gzip {
            fields.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        fields.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        fields.insert(header::ETAG, etag.clone());
        if !fields.contains_key(header::CACHE_CONTROL) {
            fields.insert(header::CACHE_CONTROL, self.cache_control(directives));
        }
        self.state_age(node, request, was_held, &mut fields);
        let is_current = is_not_modified(&request.fields, &etag);
        let outcome = if was_held {
            Outcome::Held
        } else {
            Outcome::Live
        };
        let held = if was_held {
            request.waited()
        } else {
            Duration::ZERO
        };
        if is_current && directives.position.is_none() {
            let status = StatusCode::NOT_MODIFIED;
            return Answer {
                status,
                fields,
                body: Body::empty(),
                outcome,
                status_member: None,
                held,
            };
        }
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        let body = match request.wants {
            Wants::Content => Body::full(bytes),
            Wants::HeadOnly | Wants::Preflight | Wants::Effect => Body::empty(),
        };
        Answer {
            status: StatusCode::OK,
            fields,
            body,
            outcome,
            status_member: None,
            held,
        }
    }

    /// `Age` as LL-HLS reads it: none on what came straight from the origin (LT-01), the truth otherwise.
    fn state_age(&self, node: &Node, request: &Request, was_held: bool, fields: &mut HeaderMap) {
        let age = self.age(node.clock.uptime());
        if !was_held || age >= Duration::from_secs(1) {
            fields.insert(header::AGE, HeaderValue::from(age.as_secs()));
        }
        if request.is_of_child() {
            let milliseconds = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            fields.insert(AGE_MILLISECONDS, HeaderValue::from(milliseconds));
        }
    }

    fn form(&self, directives: &DeliveryDirectives) -> &Form {
        if directives.skip.is_none() {
            return &self.full;
        }
        // LL-11: without a skip boundary, or at the end of the stream, the directive is ignored.
        let delta = self
            .delta
            .get_or_init(|| delta_update(&self.playlist).map(Form::new));
        delta.as_ref().unwrap_or(&self.full)
    }

    /// rfc8216bis B.1: a blocking answer is addressed by its version and good for six target
    /// durations, a plain one for half of one.
    fn cache_control(&self, directives: &DeliveryDirectives) -> HeaderValue {
        let target = self.playlist.target_duration();
        let lifetime = match directives.position {
            Some(_) => target * 6,
            None => target / 2,
        };
        let text = format!("max-age={}", lifetime.as_secs().max(1));
        HeaderValue::try_from(text).expect("a number is a valid field value")
    }
}

impl Form {
    fn new(identity: Bytes) -> Self {
        let etag = etag_of(&identity, "");
        Self {
            identity,
            etag,
            gzip: OnceLock::new(),
        }
    }

    fn encoded(&self, accepts_gzip: bool) -> (Bytes, HeaderValue, bool) {
        if accepts_gzip && self.identity.len() >= GZIP_BYTES_MIN {
            let gzip = self.gzip.get_or_init(|| {
                compress(&self.identity).map(|bytes| (bytes, etag_of(&self.identity, "-gz")))
            });
            if let Some((bytes, etag)) = gzip {
                return (bytes.clone(), etag.clone(), true);
            }
        }
        (self.identity.clone(), self.etag.clone(), false)
    }
}

fn compress(text: &[u8]) -> Option<Bytes> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(4));
    encoder.write_all(text).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

fn etag_of(text: &[u8], suffix: &str) -> HeaderValue {
    HeaderValue::try_from(format!("\"{:016x}{suffix}\"", xxh3_64(text)))
        .expect("hexadecimal digits are a valid field value")
}

/// Keeps what the parent said about the resource; drops what describes its message, its age, or only
/// the form it was asked in.
fn kept_fields(received: &HeaderMap) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(received.len() + 6);
    for (name, value) in received {
        if !DROPPED.contains(&name.as_str()) {
            fields.append(name.clone(), value.clone());
        }
    }
    // The chain asks by position, viewers also ask plainly: a lifetime meant for one would be wrong
    // for the other. Only a word that forbids is passed on.
    if let Some(value) = received.get(header::CACHE_CONTROL)
        && value
            .to_str()
            .is_ok_and(|v| v.contains("no-cache") || v.contains("no-store"))
    {
        fields.insert(header::CACHE_CONTROL, value.clone());
    }
    fields
}

fn accepts_gzip(fields: &HeaderMap) -> bool {
    fields
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .any(|value| {
            value.split(',').any(|coding| {
                let mut parts = coding.split(';');
                let name = parts.next().unwrap_or("").trim();
                let is_refused =
                    parts.any(|p| matches!(p.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
                name.eq_ignore_ascii_case("gzip") && !is_refused
            })
        })
}

/// Smaller texts are not worth the cycles.
const GZIP_BYTES_MIN: usize = 256;

const DROPPED: [&str; 18] = [
    "age",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "accept-ranges",
    "etag",
    "expires",
    "keep-alive",
    "last-modified",
    "pragma",
    "seawall-age-ms",
    "set-cookie",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
];
