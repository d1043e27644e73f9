//! Ranges: parts of a body, several at once, and requests that try to make a multiple of it.

use bytes::Bytes;
use harness::viewer::Received;
use harness::{Viewer, cdn};
use http::StatusCode;

const FIELDS: [(&str, &str); 4] = [
    ("cache-control", "max-age=60"),
    ("content-type", "application/octet-stream"),
    ("etag", "\"v1\""),
    ("last-modified", "Mon, 13 Nov 2023 22:13:20 GMT"),
];

const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyz";

async fn range_of(viewer: &Viewer, path: &str, range: &str) -> Received {
    viewer.get_with(path, &[("range", range)]).await
}

/// Takes a multipart body apart: what each part says of its range, and its bytes.
fn parts_of(received: &Received) -> Vec<(String, String)> {
    let content_type = received.field("content-type");
    let boundary = content_type
        .strip_prefix("multipart/byteranges; boundary=")
        .expect("it says that it is multipart");
    let delimiter = format!("\r\n--{boundary}");
    let mut pieces = received.text().split(delimiter.as_str());
    assert_eq!(pieces.next(), Some(""), "no preamble");
    let mut pieces: Vec<&str> = pieces.collect();
    assert_eq!(pieces.pop(), Some("--\r\n"), "the close delimiter");
    let part = |piece: &str| {
        let (head, bytes) = piece.split_once("\r\n\r\n").expect("a head ends");
        assert!(head.contains("\r\nContent-Type: application/octet-stream"));
        let range = head.split("Content-Range: ").nth(1).expect("it is told");
        (range.to_owned(), bytes.to_owned())
    };
    pieces.into_iter().map(part).collect()
}

#[test]
fn rfc_9110_14_6_several_ranges_come_as_multipart() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.serve("/file.bin", &FIELDS, ALPHABET);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get("/file.bin").await;
        let received = range_of(&viewer, "/file.bin", "bytes=0-2,10-11,-1,99-").await;
        assert_eq!(received.status, StatusCode::PARTIAL_CONTENT);
        assert!(received.is_whole);
        let expected = [
            ("bytes 0-2/26", "abc"),
            ("bytes 10-11/26", "kl"),
            ("bytes 25-25/26", "z"),
        ];
        let expected = expected.map(|(range, bytes)| (range.to_owned(), bytes.to_owned()));
        assert_eq!(parts_of(&received), expected);
        let length = received.field("content-length").parse::<usize>();
        assert_eq!(length, Ok(received.body.len()));
        assert_eq!(received.field("content-range"), "");
        assert_eq!(received.field("etag"), "\"v1\"");
        assert_eq!(origin.requests("/file.bin"), 1);
    });
}

#[test]
fn several_large_ranges_come_in_full() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 23) as u8 + b'a').collect();
        let bytes = Bytes::from(bytes);
        origin.serve("/file.bin", &FIELDS, bytes.clone());
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get("/file.bin").await;
        let received = range_of(&viewer, "/file.bin", "bytes=5-299999,400000-").await;
        let parts = parts_of(&received);
        assert_eq!(parts[0].1.as_bytes(), &bytes[5..300_000]);
        assert_eq!(parts[1].1.as_bytes(), &bytes[400_000..]);
    });
}

#[test]
fn b73_ranges_that_multiply_a_body_get_it_whole_or_not_at_all() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.serve("/file.bin", &FIELDS, ALPHABET);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get("/file.bin").await;
        let many = format!("bytes={}", vec!["0-"; 1000].join(","));
        let tiny: Vec<_> = (0..200).map(|n| format!("{n}-{n}")).collect();
        let tiny = format!("bytes={}", tiny.join(","));
        for range in [
            &many,
            &tiny,
            "bytes=10-,5-",
            "bytes=0-9,5-14",
            "bytes=-5,-5",
        ] {
            let received = range_of(&viewer, "/file.bin", range).await;
            assert_eq!(received.status, StatusCode::OK, "{range}");
            assert_eq!(received.text(), ALPHABET);
        }
        let beyond = range_of(&viewer, "/file.bin", "bytes=99-,200-201").await;
        assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(origin.requests("/file.bin"), 1);
    });
}

#[test]
fn b73_media_is_never_sent_as_multipart() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for path in ["/s1.m4s", "/init.mp4"] {
            origin.serve(path, &FIELDS, ALPHABET);
            for _ in 0..2 {
                let received = range_of(&viewer, path, "bytes=0-1,4-5").await;
                assert_eq!(received.status, StatusCode::OK, "{path}");
                assert_eq!(received.text(), ALPHABET);
            }
        }
    });
}

#[test]
fn b74_positions_beyond_all_integers_are_refused_or_ignored() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.serve("/file.bin", &FIELDS, ALPHABET);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get("/file.bin").await;
        for (range, status, text) in [
            ("bytes=9223372036854775807-", 416, ""),
            ("bytes=18446744073709551615-", 416, ""),
            ("bytes=18446744073709551616-", 416, ""),
            ("bytes=-0", 416, ""),
            ("bytes=5-1", 200, ALPHABET),
            ("bytes=", 200, ALPHABET),
            ("bites=0-1", 200, ALPHABET),
            ("bytes= 0-1", 206, "ab"),
            ("bytes=-18446744073709551616", 206, ALPHABET),
            ("bytes=-1000", 206, ALPHABET),
            ("bytes=24-18446744073709551615", 206, "yz"),
        ] {
            let received = range_of(&viewer, "/file.bin", range).await;
            assert_eq!(received.status.as_u16(), status, "{range}");
            assert_eq!(received.text(), text, "{range}");
        }
    });
}

#[test]
fn b75_a_condition_that_does_not_hold_gets_the_whole_body() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.serve("/file.bin", &FIELDS, ALPHABET);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get("/file.bin").await;
        for (condition, status) in [
            ("\"v1\"", 206),
            ("\"v2\"", 200),
            ("W/\"v1\"", 200),
            ("Mon, 13 Nov 2023 22:13:20 GMT", 206),
            ("Mon, 13 Nov 2023 22:13:21 GMT", 200),
            ("nonsense", 200),
        ] {
            for range in ["bytes=2-3", "bytes=2-3,7-8", "bytes=99-"] {
                let asked = [("range", range), ("if-range", condition)];
                let received = viewer.get_with("/file.bin", &asked).await;
                let status = match (status, range) {
                    (206, "bytes=99-") => 416,
                    (status, _) => status,
                };
                assert_eq!(received.status.as_u16(), status, "{condition} {range}");
            }
        }
    });
}

#[test]
fn rfc_9110_14_2_a_head_request_has_no_range() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.serve("/file.bin", &FIELDS, ALPHABET);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get("/file.bin").await;
        for range in ["bytes=0-1", "bytes=0-1,4-5", "bytes=99-"] {
            let asked = [("range", range)];
            let head = viewer.send("HEAD", "/file.bin", &asked).await;
            assert_eq!(head.status, StatusCode::OK);
            assert_eq!(head.fields["content-length"], "26");
        }
    });
}
