//! Heads of hits, made once a second for what is asked for often.
//!
//! The head of a hit is the same for every viewer within one second of its age. Each worker keeps the heads
//! of what it has lately answered more than once in a second, ready to be copied as a whole: no field is looked for, and
//! no number is written. Who calls it: `at_once`. Deliberately not here: ranges, conditions, and
//! whatever else depends on the request; the slow way (`stored`) makes the same head field by field.

use std::cell::RefCell;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use bytes::Bytes;
use cache::{StoredResponse, outcome};
use http::{HeaderMap, HeaderValue, header};

use super::dress;
use crate::node::Node;

/// Returns the fields of a hit on `stored`, a whole body of `bytes`, at `now`.
pub(crate) fn head(
    node: &Node,
    stored: &Arc<StoredResponse>,
    bytes: u64,
    now: SystemTime,
) -> HeaderMap {
    let moment = Moment {
        age: stored.age(now).as_secs(),
        ttl: stored.ttl(now),
    };
    HEADS.with_borrow_mut(|heads| {
        let slot = heads.slot(stored);
        if let Some(fields) = slot.copy(stored, moment) {
            return fields;
        }
        let fields = made(node, stored, bytes, moment);
        slot.note(stored, moment, &fields);
        fields
    })
}

/// Makes a head, in the order of the slow way.
fn made(node: &Node, stored: &StoredResponse, bytes: u64, moment: Moment) -> HeaderMap {
    let mut fields = stored.headers.clone();
    fields.reserve(FIELDS_ADDED);
    fields.insert(header::AGE, HeaderValue::from(moment.age));
    fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    dress(node, &mut fields);
    let hit = cache::Outcome {
        answered: outcome::Answered::Hit,
        ttl: Some(moment.ttl),
        detail: None,
    };
    hit.append_to(&mut fields, &node.cache_name, None);
    fields
}

/// What changes in the head of a hit as time goes by, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Moment {
    age: u64,
    ttl: i64,
}

thread_local! {
    /// Of this worker: nothing is shared, so nothing is waited for.
    static HEADS: RefCell<Heads> = const { RefCell::new(Heads { slots: Vec::new() }) };
}

/// The heads that a worker has ready, at most one per slot.
struct Heads {
    slots: Vec<Slot>,
}

/// A place for the head of one response; which of them is there depends on who came last.
#[derive(Default)]
struct Slot {
    /// Where the response is that came last, and when. It may be gone: a mere hint.
    asked: (usize, Moment),
    /// Invariant: `fields` are of `response` at `asked.1`. The weak reference keeps its address from being
    /// given to another. A stored response belongs to one node only, so this tells nodes apart, too.
    kept: Option<(Weak<StoredResponse>, HeaderMap)>,
}

impl Heads {
    fn slot(&mut self, stored: &Arc<StoredResponse>) -> &mut Slot {
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, Slot::default);
        }
        // Fibonacci hashing: addresses of one allocator have their low bits in common.
        let spread = (address_of(stored) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let index = usize::try_from(spread >> 32).unwrap_or(0) % SLOTS;
        &mut self.slots[index]
    }
}

impl Slot {
    fn copy(&self, stored: &Arc<StoredResponse>, moment: Moment) -> Option<HeaderMap> {
        let (of, fields) = self.kept.as_ref()?;
        let is_it = self.asked.1 == moment && of.as_ptr() == Arc::as_ptr(stored);
        is_it.then(|| fields.clone())
    }

    /// Keeps a head that is asked for the second time; one that never is again would be kept for nothing.
    fn note(&mut self, stored: &Arc<StoredResponse>, moment: Moment, fields: &HeaderMap) {
        let asked = (address_of(stored), moment);
        self.kept = (self.asked == asked).then(|| (Arc::downgrade(stored), owned(fields)));
        self.asked = asked;
    }
}

/// Returns the same fields with text of their own: copies of a head then count on memory of this worker, not on
/// that of the stored response, which all workers share. What every node says takes no counting at all.
fn owned(fields: &HeaderMap) -> HeaderMap {
    let text: Vec<u8> = fields
        .values()
        .flat_map(HeaderValue::as_bytes)
        .copied()
        .collect();
    let mut text = Bytes::from(text);
    let mut owned = fields.clone();
    for value in owned.values_mut() {
        let text = text.split_to(value.len());
        let mut own = match super::CONSTANTS.iter().find(|constant| **constant == text) {
            Some(constant) => HeaderValue::from_static(constant),
            None => HeaderValue::from_maybe_shared(text).expect("what was a field value is one"),
        };
        own.set_sensitive(value.is_sensitive());
        *value = own;
    }
    owned
}

fn address_of(stored: &Arc<StoredResponse>) -> usize {
    Arc::as_ptr(stored).addr()
}

/// Heads that a worker keeps at most, of some two kilobytes each.
const SLOTS: usize = 512;

/// Fields that a node adds to those of the origin, and one more that a listener may.
const FIELDS_ADDED: usize = 9;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cache::{GrowingBody, Variant};
    use http::StatusCode;

    use super::*;

    fn stored(tag: &'static str) -> Arc<StoredResponse> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ETAG, HeaderValue::from_static(tag));
        Arc::new(StoredResponse {
            status: StatusCode::OK,
            headers,
            body: GrowingBody::full(Bytes::from_static(b"body")),
            variant: Variant::default(),
            response_time: SystemTime::UNIX_EPOCH,
            corrected_initial_age: Duration::ZERO,
            freshness_lifetime: Duration::from_secs(60),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            must_revalidate: false,
        })
    }

    const NOW: Moment = Moment { age: 1, ttl: 59 };

    #[test]
    fn a_head_is_kept_when_it_is_asked_for_twice_in_a_second() {
        let (response, mut slot) = (stored("a"), Slot::default());
        slot.note(&response, NOW, &response.headers);
        assert!(slot.copy(&response, NOW).is_none(), "once is not often");
        slot.note(&response, NOW, &response.headers);
        assert_eq!(slot.copy(&response, NOW), Some(response.headers.clone()));
    }

    #[test]
    fn a_head_of_another_second_or_response_is_never_used() {
        let (response, other, mut slot) = (stored("a"), stored("b"), Slot::default());
        for _ in 0..2 {
            slot.note(&response, NOW, &response.headers);
        }
        let later = Moment { age: 2, ttl: 58 };
        assert!(slot.copy(&response, later).is_none());
        assert!(slot.copy(&other, NOW).is_none());
        slot.note(&other, NOW, &other.headers);
        assert!(slot.copy(&response, NOW).is_none());
        assert!(slot.copy(&other, NOW).is_none());
        slot.note(&other, NOW, &other.headers);
        assert_eq!(slot.copy(&other, NOW), Some(other.headers.clone()));
    }

    #[test]
    fn a_copy_with_text_of_its_own_is_the_same_line_by_line() {
        let mut fields = HeaderMap::new();
        for (name, value) in [
            ("via", "1.1 a"),
            ("etag", "\"x\""),
            ("via", "1.1 b"),
            ("x", ""),
        ] {
            fields.append(name, HeaderValue::from_static(value));
        }
        assert_eq!(owned(&fields), fields);
        assert_eq!(
            owned(&fields).get_all("via").iter().collect::<Vec<_>>(),
            ["1.1 a", "1.1 b"]
        );
    }

    #[test]
    fn what_is_gone_keeps_its_place_from_being_taken_for_it() {
        let (response, mut slot) = (stored("a"), Slot::default());
        for _ in 0..2 {
            slot.note(&response, NOW, &response.headers);
        }
        let address = address_of(&response);
        drop(response);
        // As long as the head is kept, no other response can have the address.
        for _ in 0..100 {
            let other = stored("b");
            assert_ne!(address_of(&other), address);
            assert!(slot.copy(&other, NOW).is_none());
        }
    }
}
