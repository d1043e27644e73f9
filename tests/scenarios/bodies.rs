//! Growing bodies: what readers see while a fill runs, and when it breaks.

use std::time::Duration;

use bytes::Bytes;
use harness::origin::{Origin, ok};
use harness::{Feed, cdn, pass};
use http::StatusCode;

/// Answers the first request for `path` from a feed, later ones with `later`.
fn feed_first(origin: &Origin, path: &str, later: &'static str) -> Feed {
    let (feed, body) = Feed::new();
    let body = std::sync::Mutex::new(Some(body));
    origin.on(path, move |_| {
        let body = body.lock().expect("nobody panics while asking").take();
        async move {
            ok(
                body.unwrap_or_else(|| {
                    harness::origin::whole(Bytes::from_static(later.as_bytes()))
                }),
            )
        }
    });
    feed
}

#[test]
fn fm_22_ld_06_a_truncated_body_is_never_whole_and_never_stored() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let feed = feed_first(&origin, "/s1.m4s", "another segment");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        feed.send("the whole").await;
        let first = viewer.open("/s1.m4s", &[]).await;
        let second = viewer.open("/s1.m4s", &[]).await;
        feed.reset().await;
        for opened in [first, second] {
            let received = opened.rest().await;
            assert!(
                !received.is_whole,
                "got {:?} as if it were whole",
                received.body
            );
        }
        let again = viewer.get("/s1.m4s").await;
        assert!(again.is_whole);
        assert_eq!(again.body, "another segment");
        assert_eq!(
            origin.requests("/s1.m4s"),
            3,
            "the rest was asked for, and was of another response"
        );
    });
}

#[test]
fn fm_22_a_body_shorter_than_its_content_length_is_broken_too() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/s1.m4s", |asked| async move {
            let (feed, body) = Feed::new();
            feed.send("12345").await;
            if asked.before > 0 {
                feed.send("67890").await;
            }
            drop(feed);
            let mut reply = ok(body);
            reply
                .headers_mut()
                .insert("content-length", http::HeaderValue::from_static("10"));
            reply
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let short = viewer.get("/s1.m4s").await;
        let is_right = short.body == "1234567890";
        assert!(is_right || !short.is_whole || short.status == StatusCode::BAD_GATEWAY);
        assert_eq!(viewer.get("/s1.m4s").await.body, "1234567890");
        assert_eq!(origin.requests("/s1.m4s"), 2, "the short one was not used");
    });
}

#[test]
fn ld_03_every_chunk_reaches_every_reader_whenever_it_joined() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let feed = feed_first(&origin, "/c1.m4s", "");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let mut readers = Vec::new();
        let mut so_far = String::new();
        for chunk in 0..8 {
            let text = format!("chunk {chunk};");
            feed.send(text.clone()).await;
            for reader in &mut readers {
                let opened: &mut harness::viewer::Opened = reader;
                assert_eq!(opened.next().await.unwrap().unwrap(), text.as_bytes());
            }
            so_far.push_str(&text);
            let mut joined = viewer.open("/c1.m4s", &[]).await;
            let mut seen = Vec::new();
            while seen.len() < so_far.len() {
                seen.extend_from_slice(&joined.next().await.unwrap().unwrap());
            }
            assert_eq!(seen, so_far.as_bytes(), "all bytes so far, at once");
            readers.push(joined);
        }
        drop(feed);
        for reader in readers {
            assert!(reader.rest().await.is_whole);
        }
        assert_eq!(origin.requests("/c1.m4s"), 1);
    });
}

#[test]
fn fm_28_a_body_that_stops_moving_is_given_up() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let feed = feed_first(&origin, "/c1.m4s", "whole");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        feed.send("a beginning").await;
        let received = viewer.get("/c1.m4s").await;
        assert!(!received.is_whole);
        assert_eq!(viewer.get("/c1.m4s").await.body, "whole");
        drop(feed);
    });
}

#[test]
fn ll_20_both_spellings_of_an_open_range_read_along_one_fill() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let feed = feed_first(&origin, "/seg9.m4s", "");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        feed.send("0123456789").await;
        let open_ended = viewer.open("/seg9.m4s", &[("range", "bytes=4-")]).await;
        let to_the_end = viewer
            .open("/seg9.m4s", &[("range", "bytes=4-9007199254740991")])
            .await;
        assert_eq!(open_ended.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(to_the_end.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(
            to_the_end.fields["content-range"],
            "bytes 4-9007199254740991/*"
        );
        assert!(!to_the_end.fields.contains_key("content-length"));
        feed.send("abc").await;
        drop(feed);
        assert_eq!(open_ended.rest().await.body, "456789abc");
        assert_eq!(to_the_end.rest().await.body, "456789abc");
        assert_eq!(origin.requests("/seg9.m4s"), 1);
    });
}

#[test]
fn ll_20_a_last_position_beyond_any_integer_is_echoed_verbatim() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let feed = feed_first(&origin, "/seg9.m4s", "");
        let _edge = t.node("edge", &["origin"]);
        feed.send("0123456789").await;
        let huge = "99999999999999999999999999";
        let range = format!("bytes=2-{huge}");
        let opened = t
            .viewer("edge")
            .open("/seg9.m4s", &[("range", &range)])
            .await;
        assert_eq!(opened.fields["content-range"], format!("bytes 2-{huge}/*"));
        drop(feed);
        assert_eq!(opened.rest().await.body, "23456789");
    });
}

#[test]
fn pl_07_ranges_of_a_stored_body_are_served_here() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.serve("/s1.m4s", &[("cache-control", "max-age=60")], "0123456789");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get("/s1.m4s").await;
        let cases = [
            ("bytes=0-3", 206, "0123", "bytes 0-3/10"),
            ("bytes=7-", 206, "789", "bytes 7-9/10"),
            ("bytes=-2", 206, "89", "bytes 8-9/10"),
            ("bytes=5-500", 206, "56789", "bytes 5-9/10"),
            ("bytes=10-", 416, "", "bytes */10"),
            ("chunks=1-2", 200, "0123456789", ""),
        ];
        for (range, status, body, content_range) in cases {
            let received = viewer.get_with("/s1.m4s", &[("range", range)]).await;
            assert_eq!(received.status.as_u16(), status, "{range}");
            assert_eq!(received.field("content-range"), content_range, "{range}");
            if status != 416 {
                assert_eq!(received.text(), body, "{range}");
            }
        }
        assert_eq!(origin.requests("/s1.m4s"), 1);
        pass(Duration::ZERO).await;
    });
}
