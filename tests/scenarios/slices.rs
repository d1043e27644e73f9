//! Slices: large bodies in pieces, of one version each, for the price of what is read.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use harness::origin::{Asked, Origin, ReplyBody, whole};
use harness::{Cdn, cdn, pass};
use http::{HeaderValue, Response, StatusCode};
use node::node::{Node, NodeConfig};
use parking_lot::Mutex;
use proptest::prelude::*;

const KIB: u64 = 1024;
const SLICE: u64 = 64 * KIB;
const FROM: u64 = 256 * KIB;

/// Keeps what is larger than 256 KiB in slices of 64 KiB.
fn small_slices(config: &mut NodeConfig) {
    config.limits.slice_bytes = SLICE;
    config.limits.slice_from_bytes = FROM;
}

fn edge(t: &Cdn) -> Arc<Node> {
    t.node_with("edge", &["origin"], small_slices)
}

/// Returns bytes of which each says where it is, and of which version.
fn content(version: u64, range: Range<u64>) -> Bytes {
    let byte = |at: u64| (at ^ (at >> 8) ^ (at >> 16) ^ (version * 7)) as u8;
    range.map(byte).collect::<Vec<_>>().into()
}

/// A large file at an origin.
#[derive(Clone)]
struct File {
    state: Arc<Mutex<State>>,
    sent_bytes: Arc<AtomicU64>,
}

#[derive(Clone)]
struct State {
    length: u64,
    version: u64,
    answers_ranges: bool,
    says_accept_ranges: bool,
    has_strong_tag: bool,
    lifetime_seconds: u64,
}

impl File {
    fn new(length: u64) -> Self {
        let state = State {
            length,
            version: 1,
            answers_ranges: true,
            says_accept_ranges: true,
            has_strong_tag: true,
            lifetime_seconds: 600,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            sent_bytes: Arc::new(AtomicU64::new(0)),
        }
    }

    fn serve(&self, origin: &Origin, path: &str) {
        let file = self.clone();
        origin.on(path, move |asked| std::future::ready(file.reply(&asked)));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
    }

    fn sent(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    fn all(&self) -> Bytes {
        let state = self.state.lock();
        content(state.version, 0..state.length)
    }

    fn reply(&self, asked: &Asked) -> Response<ReplyBody> {
        let state = self.state.lock().clone();
        let weakness = if state.has_strong_tag { "" } else { "W/" };
        let tag = format!("{weakness}\"v{}\"", state.version);
        let field = |name: &str| asked.fields.get(name).and_then(|v| v.to_str().ok());
        let is_current = field("if-none-match") == Some(&tag);
        let may_be_ranged = state.answers_ranges && field("if-range").is_none_or(|t| t == tag);
        let range = field("range")
            .filter(|_| may_be_ranged)
            .map(|range| asked_range(range, state.length));
        let mut reply = match range {
            _ if is_current => harness::origin::status(StatusCode::NOT_MODIFIED),
            Some(Some(range)) => {
                let body = content(state.version, range.clone());
                self.sent_bytes
                    .fetch_add(body.len() as u64, Ordering::Relaxed);
                let mut reply = Response::new(whole(body));
                *reply.status_mut() = StatusCode::PARTIAL_CONTENT;
                let (first, last) = (range.start, range.end - 1);
                let value = format!("bytes {first}-{last}/{}", state.length);
                set(&mut reply, "content-range", &value);
                reply
            }
            Some(None) => {
                let mut reply = harness::origin::status(StatusCode::RANGE_NOT_SATISFIABLE);
                let value = format!("bytes */{}", state.length);
                set(&mut reply, "content-range", &value);
                return reply;
            }
            None => {
                self.sent_bytes.fetch_add(state.length, Ordering::Relaxed);
                Response::new(whole(content(state.version, 0..state.length)))
            }
        };
        set(&mut reply, "etag", &tag);
        let lifetime = format!("max-age={}", state.lifetime_seconds);
        set(&mut reply, "cache-control", &lifetime);
        if state.says_accept_ranges {
            set(&mut reply, "accept-ranges", "bytes");
        }
        reply
    }
}

fn set(reply: &mut Response<ReplyBody>, name: &'static str, value: &str) {
    let value = HeaderValue::from_str(value).expect("a field value");
    reply.headers_mut().insert(name, value);
}

/// Reads the one form of range that a node asks for; `None` if it lies behind the end.
fn asked_range(value: &str, length: u64) -> Option<Range<u64>> {
    let (first, last) = value
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
        .expect("first and last");
    let first: u64 = first.parse().expect("a number");
    let last: u64 = last.parse().expect("a number");
    (first < length).then(|| first..(last + 1).min(length))
}

/// Returns the ranges that an origin was asked for, sorted.
fn ranges_asked(origin: &Origin) -> Vec<String> {
    let text = |asked: &Asked| {
        let range = asked.fields.get("range").cloned();
        range.map_or(String::new(), |v| v.to_str().unwrap_or("?").to_owned())
    };
    let mut ranges: Vec<String> = origin.asked().iter().map(text).collect();
    ranges.sort();
    ranges
}

#[test]
fn b72_a_byte_of_a_large_body_nobody_asked_for_costs_one_slice() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let file = File::new(1024 * 1024 * KIB);
        file.serve(&origin, "/movie.mp4");
        let _edge = edge(&t);
        let viewer = t.viewer("edge");
        let mut requests = 0;
        for n in 0..50_u64 {
            for range in ["bytes=0-0", "bytes=900000000-900000000", "bytes=-1"] {
                let target = format!("/movie.mp4?r={n}{}", range.len());
                let received = viewer.get_with(&target, &[("range", range)]).await;
                requests += 1;
                assert_eq!(received.status, StatusCode::PARTIAL_CONTENT, "{range}");
                assert_eq!(received.body.len(), 1);
            }
        }
        // The last bytes cost a byte more: it tells where they are.
        let most = SLICE * requests + requests;
        assert!(file.sent() <= most, "{} > {most}", file.sent());
    });
}

#[test]
fn b72_ranges_behind_the_end_cost_no_more() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let file = File::new(4096 * KIB);
        file.serve(&origin, "/movie.mp4");
        let _edge = edge(&t);
        let viewer = t.viewer("edge");
        viewer
            .get_with("/movie.mp4", &[("range", "bytes=0-0")])
            .await;
        for range in ["bytes=4194304-", "bytes=18446744073709551615-", "bytes=-0"] {
            let received = viewer.get_with("/movie.mp4", &[("range", range)]).await;
            assert_eq!(
                received.status,
                StatusCode::RANGE_NOT_SATISFIABLE,
                "{range}"
            );
            assert_eq!(received.field("content-range"), "bytes */4194304");
        }
        assert_eq!(origin.requests("/movie.mp4"), 1);
    });
}

#[test]
fn each_slice_is_asked_for_once_whoever_reads_it() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let file = File::new(640 * KIB + 5);
        file.serve(&origin, "/movie.mp4");
        let _edge = edge(&t);
        let viewer = t.viewer("edge");
        let all = file.all();
        let viewers: Vec<_> = (0..100).map(|_| viewer.start("/movie.mp4")).collect();
        for viewer in viewers {
            let received = viewer.await.unwrap();
            assert!(received.is_whole);
            assert_eq!(received.status, StatusCode::OK);
            assert_eq!(received.body, all);
        }
        let first = String::new(); // The whole was asked for; what came of it is slice 0.
        let mut expected = vec![first];
        for number in 1..=10 {
            let last = ((number + 1) * SLICE).min(640 * KIB + 5) - 1;
            expected.push(format!("bytes={}-{last}", number * SLICE));
        }
        expected.sort();
        assert_eq!(ranges_asked(&origin), expected);
    });
}

#[test]
fn a_version_that_changes_on_the_way_is_a_broken_body_and_never_a_mixed_one() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let file = File::new(4096 * KIB);
        file.serve(&origin, "/movie.mp4");
        let _edge = edge(&t);
        let viewer = t.viewer("edge");
        let mut opened = viewer.open("/movie.mp4", &[]).await;
        let first = opened.next().await.unwrap().unwrap();
        file.change(|state| state.version = 2);
        let rest = opened.rest().await;
        assert!(!rest.is_whole, "the body is not to look whole");
        let received = [first, rest.body].concat();
        assert!(received.len() < 4096 * KIB as usize);
        assert_eq!(received, content(1, 0..received.len() as u64));
        let again = viewer.get("/movie.mp4").await;
        assert!(again.is_whole);
        assert_eq!(again.body, content(2, 0..4096 * KIB));
        assert_eq!(again.field("etag"), "\"v2\"");
    });
}

#[test]
fn a_version_that_is_gone_before_the_first_byte_is_replaced_without_a_trace() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let file = File::new(4096 * KIB);
        file.serve(&origin, "/movie.mp4");
        let _edge = edge(&t);
        let viewer = t.viewer("edge");
        viewer
            .get_with("/movie.mp4", &[("range", "bytes=0-9")])
            .await;
        file.change(|state| (state.version, state.length) = (2, 3000 * KIB));
        let received = viewer
            .get_with("/movie.mp4", &[("range", "bytes=1000000-1000009")])
            .await;
        assert_eq!(received.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(received.field("etag"), "\"v2\"");
        assert_eq!(
            received.field("content-range"),
            "bytes 1000000-1000009/3072000"
        );
        assert_eq!(received.body, content(2, 1_000_000..1_000_010));
        let first = viewer
            .get_with("/movie.mp4", &[("range", "bytes=0-9")])
            .await;
        assert_eq!(first.body, content(2, 0..10));
    });
}

#[test]
fn an_origin_without_ranges_is_asked_for_the_whole_once() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let file = File::new(1024 * KIB);
        file.change(|state| (state.answers_ranges, state.says_accept_ranges) = (false, false));
        file.serve(&origin, "/movie.mp4");
        let _edge = edge(&t);
        let viewer = t.viewer("edge");
        let part = viewer
            .get_with("/movie.mp4", &[("range", "bytes=500000-500009")])
            .await;
        assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(part.body, content(1, 500_000..500_010));
        assert_eq!(viewer.get("/movie.mp4").await.body, file.all());
        assert_eq!(origin.requests("/movie.mp4"), 1);
    });
}

#[test]
fn an_origin_that_says_it_answers_ranges_and_does_not_is_found_out() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let file = File::new(1024 * KIB);
        file.change(|state| state.answers_ranges = false);
        file.serve(&origin, "/movie.mp4");
        let _edge = edge(&t);
        let viewer = t.viewer("edge");
        let first = viewer.get("/movie.mp4").await;
        assert!(!first.is_whole);
        for _ in 0..3 {
            let received = viewer.get("/movie.mp4").await;
            assert!(received.is_whole);
            assert_eq!(received.body, file.all());
        }
        assert_eq!(viewer.get("/movie.mp4").await.body, file.all());
    });
}

#[test]
fn what_has_no_strong_tag_is_never_put_together() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let file = File::new(1024 * KIB);
        file.change(|state| state.has_strong_tag = false);
        file.serve(&origin, "/movie.mp4");
        let _edge = edge(&t);
        let viewer = t.viewer("edge");
        let part = viewer
            .get_with("/movie.mp4", &[("range", "bytes=5-9")])
            .await;
        assert_eq!(part.body, content(1, 5..10));
        assert_eq!(viewer.get("/movie.mp4").await.body, file.all());
        assert_eq!(ranges_asked(&origin), ["", "bytes=0-65535"]);
    });
}

#[test]
fn what_is_too_large_for_the_store_and_cannot_be_cut_is_relayed() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let file = File::new(1024 * KIB);
        file.change(|state| state.has_strong_tag = false);
        file.serve(&origin, "/movie.mp4");
        let _edge = t.node_with("edge", &["origin"], |config| {
            small_slices(config);
            config.limits.stored_body_bytes_max = 512 * KIB;
        });
        let viewer = t.viewer("edge");
        let viewers: Vec<_> = (0..3).map(|_| viewer.start("/movie.mp4")).collect();
        for viewer in viewers {
            let received = viewer.await.unwrap();
            assert!(received.is_whole);
            assert_eq!(received.body, file.all());
            assert!(received.field("cache-status").contains("detail=too-large"));
        }
    });
}

#[test]
fn a_small_body_comes_whole_by_the_range_that_found_it() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let file = File::new(30 * KIB);
        file.serve(&origin, "/s1.m4s");
        let _edge = edge(&t);
        let viewer = t.viewer("edge");
        let part = viewer.get_with("/s1.m4s", &[("range", "bytes=5-9")]).await;
        assert_eq!(part.body, content(1, 5..10));
        assert_eq!(part.field("content-range"), "bytes 5-9/30720");
        let received = viewer.get("/s1.m4s").await;
        assert_eq!(received.status, StatusCode::OK);
        assert_eq!(received.field("content-range"), "");
        assert_eq!(received.body, file.all());
        assert_eq!(origin.requests("/s1.m4s"), 1);
    });
}

#[test]
fn two_tiers_cut_at_the_same_places() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let file = File::new(1024 * KIB);
        file.serve(&origin, "/movie.mp4");
        let _shield = t.node_with("shield", &["origin"], small_slices);
        let _fra = t.node_with("fra", &["shield"], small_slices);
        let _sin = t.node_with("sin", &["shield"], small_slices);
        for name in ["fra", "sin"] {
            let viewer = t.viewer(name);
            let part = viewer
                .get_with("/movie.mp4", &[("range", "bytes=700000-700009")])
                .await;
            assert_eq!(part.body, content(1, 700_000..700_010));
            let received = viewer.get("/movie.mp4").await;
            assert!(received.is_whole);
            assert_eq!(received.body, file.all());
        }
        let asked = ranges_asked(&origin);
        let mut once = asked.clone();
        once.dedup();
        assert_eq!(asked, once, "no slice twice");
        assert_eq!(asked.len(), 16);
        assert_eq!(file.sent(), 1024 * KIB);
    });
}

#[test]
fn a_head_that_is_still_good_keeps_its_slices() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let file = File::new(640 * KIB);
        file.change(|state| state.lifetime_seconds = 1);
        file.serve(&origin, "/movie.mp4");
        let _edge = edge(&t);
        let viewer = t.viewer("edge");
        assert_eq!(viewer.get("/movie.mp4").await.body, file.all());
        let before = origin.requests("/movie.mp4");
        pass(Duration::from_secs(5)).await;
        assert_eq!(viewer.get("/movie.mp4").await.body, file.all());
        assert_eq!(
            origin.requests("/movie.mp4"),
            before + 1,
            "a 304 and no slice"
        );
        file.change(|state| state.version = 2);
        pass(Duration::from_secs(5)).await;
        assert_eq!(
            viewer.get("/movie.mp4").await.body,
            content(2, 0..640 * KIB)
        );
    });
}

#[test]
fn rfc_9211_2_2_a_slice_that_was_not_there_is_told_as_partial() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let file = File::new(1024 * KIB);
        file.serve(&origin, "/movie.mp4");
        let _edge = edge(&t);
        let viewer = t.viewer("edge");
        for (range, said) in [
            ("bytes=0-9", "edge; fwd=uri-miss"),
            ("bytes=0-9", "edge; hit"),
            ("bytes=500000-500009", "edge; fwd=partial; stored"),
            ("bytes=500000-500009", "edge; hit"),
        ] {
            let received = viewer.get_with("/movie.mp4", &[("range", range)]).await;
            let status = received.field("cache-status");
            assert!(status.starts_with(said), "{range}: {status}");
        }
    });
}

#[test]
fn head_and_conditions_need_no_slice() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let file = File::new(640 * KIB);
        file.serve(&origin, "/movie.mp4");
        let _edge = edge(&t);
        let viewer = t.viewer("edge");
        let head = viewer
            .send("HEAD", "/movie.mp4", &[("range", "bytes=0-1")])
            .await;
        assert_eq!(head.status, StatusCode::OK);
        assert_eq!(head.fields["content-length"], "655360");
        assert_eq!(head.fields["accept-ranges"], "bytes");
        let asked = [("if-none-match", "\"v1\"")];
        let current = viewer.get_with("/movie.mp4", &asked).await;
        assert_eq!(current.status, StatusCode::NOT_MODIFIED);
        for (condition, status) in [("\"v1\"", 206), ("\"v0\"", 200)] {
            let asked = [("range", "bytes=1-2"), ("if-range", condition)];
            let received = viewer.open("/movie.mp4", &asked).await;
            assert_eq!(received.status.as_u16(), status, "{condition}");
        }
        let several = [("range", "bytes=0-1,100000-100001")];
        assert_eq!(
            viewer.get_with("/movie.mp4", &several).await.body,
            file.all()
        );
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_ranges_in_any_order_read_the_bytes_they_ask_for(
        length in 1_u64..600_000,
        slice in 20_000_u64..90_000,
        ranges in prop::collection::vec((0_u64..700_000, 0_u64..300_000, 0_u8..3), 1..6),
    ) {
        cdn(|t| async move {
            let origin = t.origin("origin");
            let file = File::new(length);
            file.serve(&origin, "/movie.mp4");
            let _edge = t.node_with("edge", &["origin"], |config| {
                config.limits.slice_bytes = slice;
                config.limits.slice_from_bytes = slice * 2;
            });
            let viewer = t.viewer("edge");
            for (first, more, form) in ranges {
                let (value, expected) = match form {
                    0 => (format!("bytes={first}-{}", first + more), first..first + more + 1),
                    1 => (format!("bytes={first}-"), first..u64::MAX),
                    _ => (format!("bytes=-{more}"), length.saturating_sub(more)..length),
                };
                let expected = expected.start..expected.end.min(length);
                let received = viewer.get_with("/movie.mp4", &[("range", &value)]).await;
                if expected.is_empty() {
                    assert_eq!(received.status, StatusCode::RANGE_NOT_SATISFIABLE, "{value}");
                } else {
                    assert_eq!(received.status, StatusCode::PARTIAL_CONTENT, "{value}");
                    assert!(received.is_whole);
                    assert_eq!(received.body, content(1, expected), "{value}");
                }
            }
            assert_eq!(viewer.get("/movie.mp4").await.body, file.all());
        });
    }
}
