//! Hits that are answered at once get what the others get.
//!
//! A node answers most hits before there is a future, from heads that it has ready. Whatever keeps a request
//! from that, here a condition that does not hold, must not be seen in the answer.

use std::time::Duration;

use bytes::Bytes;
use harness::origin::whole;
use harness::{Viewer, cdn, pass};
use http::{HeaderMap, Response};

const SEGMENT: &str = "/live/v0/seg1.m4s";

/// A condition that no stored response fulfills: the whole response is the answer.
const ANOTHER: &[(&str, &str)] = &[("if-none-match", "\"another\"")];

/// Returns name and value of each line, in order of names.
fn lines(fields: &HeaderMap) -> Vec<(String, String)> {
    let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        let value = value.to_str().expect("the scenario's fields are text");
        (name.to_string(), value.to_owned())
    };
    let mut lines: Vec<_> = fields.iter().map(line).collect();
    lines.sort_by(|a, b| a.0.cmp(&b.0)); // Stable: lines of one name keep their order.
    lines
}

/// Asks both ways for what is stored, and compares; returns the lines.
async fn both_ways(viewer: &Viewer, with: &[(&str, &str)]) -> Vec<(String, String)> {
    let waited = [with, ANOTHER].concat();
    let slow = viewer.get_with(SEGMENT, &waited).await;
    // Twice made, then kept and copied.
    for _ in 0..4 {
        let fast = viewer.get_with(SEGMENT, with).await;
        assert_eq!((fast.status, slow.status), (slow.status, fast.status));
        assert_eq!(lines(&fast.fields), lines(&slow.fields));
        assert_eq!(fast.body, slow.body);
    }
    lines(&slow.fields)
}

#[test]
fn rfc_9111_4_a_hit_at_once_has_the_head_and_body_of_one_that_waited() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on(SEGMENT, |_asked| async move {
            Response::builder()
                .header("cache-control", "max-age=60")
                .header("content-type", "video/mp4")
                .header("etag", "\"this\"")
                .header("x-note", "one")
                .header("x-note", "two")
                .body(whole(Bytes::from_static(b"segment")))
                .expect("a scripted reply is well formed")
        });
        let _shield = t.node("shield", &["origin"]);
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        viewer.get(SEGMENT).await;
        let first = both_ways(&viewer, &[]).await;
        pass(Duration::from_millis(1_300)).await;
        let later = both_ways(&viewer, &[]).await;
        assert_ne!(first, later, "the age is told, to the second");
        let as_child = both_ways(&viewer, &[("cdn-loop", "other")]).await;
        assert!(as_child.iter().any(|(name, _)| name == "seawall-age-ms"));
        both_ways(&viewer, &[("cmcd-session", "sid=\"a\"")]).await;
        assert_eq!(origin.requests(SEGMENT), 1);
    });
}

#[test]
fn rfc_9110_9_3_2_head_gets_the_length_of_a_stored_body_and_no_byte_of_it() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on(SEGMENT, |_asked| async move {
            Response::builder()
                .header("cache-control", "max-age=60")
                .body(whole(Bytes::from_static(b"segment")))
                .expect("a scripted reply is well formed")
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(SEGMENT).await;
        let head = viewer.send("HEAD", SEGMENT, &[]).await.rest().await;
        assert_eq!(head.field("content-length"), "7");
        assert!(head.body.is_empty());
        assert_eq!(viewer.get(SEGMENT).await.text(), "segment");
    });
}

#[test]
fn rfc_9111_4_2_a_response_that_went_stale_is_not_answered_from_a_head_that_was_ready() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on(SEGMENT, |asked| async move {
            Response::builder()
                .header("cache-control", "max-age=5")
                .header("number", asked.before)
                .body(whole(Bytes::from_static(b"segment")))
                .expect("a scripted reply is well formed")
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for _ in 0..4 {
            assert_eq!(viewer.get(SEGMENT).await.field("number"), "0");
        }
        pass(Duration::from_secs(30)).await;
        let mut last = String::new();
        for _ in 0..4 {
            last = viewer.get(SEGMENT).await.field("number").to_owned();
        }
        assert_eq!(last, "1");
    });
}
