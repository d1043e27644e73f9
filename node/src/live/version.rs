//! One version of a live media playlist, ready to be sent in every form.
//!
//! Parsing, delta, compression and heads are done once per version, by whoever asks first, and shared
//! by every viewer.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use cache::GrowingBody;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use media::hls::{
    DeliveryDirectives, MediaPlaylist, OldDateRanges, Skip, delta_update, delta_update_of_both,
};
use xxhash_rust::xxh3::xxh3_64;

use super::poll::HOLDS;
use crate::body::Body;
use crate::coding;
use crate::node::Node;
use crate::purge::Redacted;
use crate::request::{Request, Wants};
use crate::respond::{AGE_MILLISECONDS, Answer, Outcome, is_not_modified};

/// A version of a live media playlist.
#[derive(Debug)]
pub struct Version {
    /// The playlist as it is shown.
    pub playlist: Arc<MediaPlaylist>,
    /// The playlist as the parent sent it, byte for byte.
    pub(super) origin: Arc<MediaPlaylist>,
    /// What the parent said with it, without what describes its message or its age.
    fields: HeaderMap,
    /// When it arrived, as uptime of the node's clock.
    arrived_at: Duration,
    /// Its age on arrival, by the parent's word (LT-02).
    initial_age: Duration,
    /// Whether the parent lets its texts be compressed (RFC 9110 7.7).
    allows_coding: bool,
    /// Whether the parent holds requests for what is to come, whatever the playlist says to viewers.
    parent_holds: bool,
    full: Form,
    delta: OnceLock<Option<Form>>,
    /// The delta update without old date ranges (LL-14).
    delta_of_both: OnceLock<Option<Form>>,
    /// Which date ranges may be left out; `None` if that is not known.
    pub(super) old_date_ranges: Option<OldDateRanges>,
    /// Uptime until which no delta update is made: what it would skip was rewritten.
    whole_until: Duration,
}

/// A text, with its forms in each content coding, and the validator of the text itself (CA-18).
#[derive(Debug)]
struct Form {
    text: GrowingBody,
    etag: HeaderValue,
}

impl Version {
    /// Creates a version from a parent's answer that arrived at `arrived_at` (uptime).
    pub fn new(
        playlist: Arc<MediaPlaylist>,
        received: &HeaderMap,
        arrived_at: Duration,
        initial_age: Duration,
    ) -> Self {
        let allows_coding = coding::allows_coding(received);
        let full = Form::new(playlist.text().clone(), allows_coding);
        Self {
            fields: kept_fields(received),
            allows_coding,
            parent_holds: playlist.can_block_reload(),
            full,
            delta: OnceLock::new(),
            delta_of_both: OnceLock::new(),
            old_date_ranges: None,
            whole_until: Duration::ZERO,
            origin: Arc::clone(&playlist),
            playlist,
            arrived_at,
            initial_age,
        }
    }

    /// Returns the version, of a parent that holds requests or does not.
    pub(super) fn of_parent(self, parent_holds: bool) -> Self {
        Self {
            parent_holds,
            ..self
        }
    }

    /// Returns whether the parent can be asked for what comes next; else it has to be polled.
    pub(crate) fn parent_holds(&self) -> bool {
        self.parent_holds
    }

    /// Returns when it arrived, as uptime of the node's clock.
    pub(super) fn arrived_at(&self) -> Duration {
        self.arrived_at
    }

    /// Returns the same version without what was purged.
    pub(super) fn without(&self, purged: Redacted) -> Self {
        self.shown_as(purged.playlist, purged.whole_until)
    }

    /// Returns the same version in other words, whole until `whole_until` (uptime).
    pub(super) fn shown_as(&self, playlist: Arc<MediaPlaylist>, whole_until: Duration) -> Self {
        Self {
            fields: self.fields.clone(),
            arrived_at: self.arrived_at,
            initial_age: self.initial_age,
            allows_coding: self.allows_coding,
            parent_holds: self.parent_holds,
            full: Form::new(playlist.text().clone(), self.allows_coding),
            delta: OnceLock::new(),
            delta_of_both: OnceLock::new(),
            old_date_ranges: self.old_date_ranges.clone(),
            whole_until: whole_until.max(self.whole_until),
            origin: Arc::clone(&self.origin),
            playlist,
        }
    }

    /// Returns what the parent said with it.
    pub(crate) fn fields(&self) -> &HeaderMap {
        &self.fields
    }

    /// Returns how old the version was on arrival, by the parent's word.
    pub fn initial_age(&self) -> Duration {
        self.initial_age
    }

    /// Returns how old the version is; the time the parent held its answer never counts (CA-11).
    pub fn age(&self, uptime: Duration) -> Duration {
        self.initial_age + uptime.saturating_sub(self.arrived_at)
    }

    /// Returns whether the version may be shown while nobody can bring the next one (CA-23).
    ///
    /// Until the next one is due it is current: a part's time after it with parts, a target duration
    /// without. From then on it is frozen, and a success for one target duration: players that get
    /// the same playlist for longer give up or stall, where an error sends them elsewhere.
    pub(super) fn is_presentable(&self, uptime: Duration) -> bool {
        let target = self.playlist.target_duration();
        let due = self.playlist.part_target().unwrap_or(target);
        self.age(uptime) <= due + target
    }

    /// Answers `request` with this version, in the coding it wants.
    ///
    /// # Cancel safety
    ///
    /// A viewer that leaves changes nothing for the others.
    pub async fn respond(
        &self,
        node: &Node,
        request: &Request,
        directives: &DeliveryDirectives,
        was_held: bool,
    ) -> Answer {
        let form = self.form(directives, node.clock.uptime());
        let chosen = coding::choose(node, &request.fields, &form.text).await;
        let mut fields = self.fields.clone();
        fields.insert(header::ETAG, form.etag.clone());
        chosen.describe(&mut fields);
        if !fields.contains_key(header::CACHE_CONTROL) {
            fields.insert(header::CACHE_CONTROL, self.cache_control(directives));
        }
        self.state_age(node, request, was_held, &mut fields);
        let (outcome, held) = if was_held {
            (Outcome::Held, request.waited())
        } else {
            (Outcome::Live, Duration::ZERO)
        };
        let etag = fields.get(header::ETAG);
        let is_current = etag.is_some_and(|etag| is_not_modified(&request.fields, etag));
        if is_current && directives.position.is_none() {
            fields.remove(header::CONTENT_ENCODING);
            return Answer {
                status: StatusCode::NOT_MODIFIED,
                fields,
                body: Body::empty(),
                outcome,
                status_member: None,
                held,
            };
        }
        let length = chosen.body.len_if_complete().unwrap_or(0);
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        let body = match request.wants {
            Wants::Content => Body::growing(chosen.body.reader(0..u64::MAX)),
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
            fields.insert(HOLDS, HeaderValue::from_static("?1"));
        }
    }

    fn form(&self, directives: &DeliveryDirectives, uptime: Duration) -> &Form {
        // A player would merge a delta with what it was told before a purge; LL-11 lets a directive be ignored.
        let skip = directives.skip.filter(|_| uptime >= self.whole_until);
        let delta = match skip {
            None => None,
            Some(Skip::Segments) => self.delta(),
            // LL-14: where nobody knows since when date ranges are there, all of them stay.
            Some(Skip::SegmentsAndDateRanges) => self.delta_of_both().or_else(|| self.delta()),
        };
        // LL-11: without a skip boundary, or at the end of the stream, the directive is ignored.
        delta.unwrap_or(&self.full)
    }

    fn delta(&self) -> Option<&Form> {
        let made = self.delta.get_or_init(|| {
            let text = delta_update(&self.playlist)?;
            Some(Form::new(text, self.allows_coding))
        });
        made.as_ref()
    }

    fn delta_of_both(&self) -> Option<&Form> {
        let made = self.delta_of_both.get_or_init(|| {
            let old = self.old_date_ranges.as_ref()?;
            let text = delta_update_of_both(&self.playlist, old)?;
            Some(Form::new(text, self.allows_coding))
        });
        made.as_ref()
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
    fn new(text: Bytes, allows_coding: bool) -> Self {
        let etag = HeaderValue::try_from(format!("\"{:016x}\"", xxh3_64(&text)))
            .expect("hexadecimal digits are a valid field value");
        let text = if allows_coding {
            coding::text(text)
        } else {
            GrowingBody::full(text)
        };
        Self { text, etag }
    }
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

const DROPPED: [&str; 19] = [
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
    "seawall-holds",
    "set-cookie",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
];
