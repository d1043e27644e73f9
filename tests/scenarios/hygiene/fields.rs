//! Header fields: what reaches the origin, what selects a response, and what reaches viewers.

use std::sync::Arc;

use bytes::Bytes;
use harness::origin::{ok, status, whole};
use harness::{Cdn, cdn};
use http::header::{self, HeaderName};
use http::{HeaderValue, StatusCode};
use node::node::Node;
use node::rules::Rule;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;

use super::ask;

fn edge_forwarding(t: &Cdn, fields: &[HeaderName]) -> Arc<Node> {
    t.node_with("edge", &["origin"], |config| {
        config.rules.fallback = Arc::new(Rule {
            forwarded_fields: fields.to_vec(),
            ..Rule::clone(&config.rules.fallback)
        });
    })
}

#[test]
fn b48_b52_fields_that_say_something_else_is_meant_reach_no_origin() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/a", |asked| async move {
            let names: Vec<&str> = asked.fields.keys().map(HeaderName::as_str).collect();
            ok(whole(Bytes::from(names.join(" "))))
        });
        let _edge = t.node("edge", &["origin"]);
        let clean = ask(&t, "x", "/a", "").await;
        let dirty = "x-forwarded-host: evil\r\nx-host: evil\r\nx-original-url: /evil\r\n\
            x-rewrite-url: /evil\r\nforwarded: host=evil\r\nx-http-method-override: DELETE\r\n\
            x-method: DELETE\r\nx-forwarded-proto: http\r\nx-forwarded-for: 192.0.2.1\r\n";
        for target in ["/a", "/a?miss=1"] {
            let received = ask(&t, "x", target, dirty).await;
            assert_eq!(received.status, 200);
            assert_eq!(received.body, clean.body, "{target}");
        }
        assert_eq!(origin.requests("/a"), 2, "the second was a hit");
    });
}

#[test]
fn b52_a_parameter_that_names_a_method_is_a_parameter() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on(
            "/a",
            |asked| async move { ok(whole(Bytes::from(asked.target))) },
        );
        let _edge = t.node("edge", &["origin"]);
        let received = ask(&t, "x", "/a?_method=POST", "").await;
        assert_eq!(received.body, "/a?_method=POST");
    });
}

#[test]
fn b53_fields_that_are_not_forwarded_split_nothing_though_vary_names_them() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.serve(
            "/a",
            &[
                ("cache-control", "max-age=60"),
                (
                    "vary",
                    "Origin, Accept-Language, User-Agent, Accept-Encoding",
                ),
            ],
            "one",
        );
        let edge = t.node("edge", &["origin"]);
        for n in 0..200 {
            let lines = format!(
                "origin: https://{n}.example\r\naccept-language: x-{n}\r\nuser-agent: {n}\r\n\
                 accept-encoding: c{n}\r\n"
            );
            assert_eq!(ask(&t, "x", "/a", &lines).await.body, "one");
        }
        assert_eq!(origin.requests("/a"), 1);
        assert_eq!(edge.levels().store_responses, 1);
    });
}

const BODY_BYTES: usize = 10_000;

#[test]
fn b53_viewers_cannot_fill_the_store_with_variants() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/a", |asked| async move {
            let language = asked.fields["accept-language"].clone();
            let body = [language.as_bytes(), &vec![b'.'; BODY_BYTES]].concat();
            let mut reply = ok(whole(Bytes::from(body)));
            let fields = reply.headers_mut();
            fields.insert(header::VARY, HeaderValue::from_static("accept-language"));
            reply
        });
        origin.serve("/other", &[("cache-control", "max-age=60")], "other");
        let edge = edge_forwarding(&t, &[header::ACCEPT_LANGUAGE]);
        ask(&t, "x", "/other", "").await;
        for n in 0..200 {
            let lines = format!("accept-language: x-{n}\r\n");
            let received = ask(&t, "x", "/a", &lines).await;
            let own = received.body.trim_end_matches('.');
            assert_eq!(own, format!("x-{n}"), "each gets its own");
        }
        let kept = edge.levels().store_bytes;
        assert!(kept < 18 * BODY_BYTES as u64, "{kept} bytes");
        ask(&t, "x", "/other", "").await;
        assert_eq!(origin.requests("/other"), 1, "others lost nothing");
    });
}

#[test]
fn b54_credentials_reach_no_origin_and_do_not_split_the_key() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.serve("/a", &[("cache-control", "max-age=60")], "public");
        let _edge = t.node("edge", &["origin"]);
        let credentials = "cookie: session=1\r\nauthorization: Bearer x\r\n";
        assert_eq!(ask(&t, "x", "/a", credentials).await.body, "public");
        assert_eq!(ask(&t, "x", "/a", "").await.body, "public");
        let asked = origin.asked();
        assert_eq!(asked.len(), 1);
        for name in ["cookie", "authorization"] {
            assert!(!asked[0].fields.contains_key(name), "{name}");
        }
    });
}

#[test]
fn b54_rfc_9111_3_5_forwarded_credentials_get_a_response_of_their_own() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/a", |asked| async move {
            let who = asked.fields["authorization"].clone();
            ok(whole(Bytes::copy_from_slice(who.as_bytes())))
        });
        let edge = edge_forwarding(&t, &[header::AUTHORIZATION]);
        for who in ["Bearer a", "Bearer b", "Bearer a"] {
            let lines = format!("authorization: {who}\r\n");
            assert_eq!(ask(&t, "x", "/a", &lines).await.body, who);
        }
        assert_eq!(origin.requests("/a"), 3);
        assert_eq!(edge.levels().store_responses, 0);
    });
}

/// Lets an origin answer every connection with these bytes.
fn origin_of_bytes(t: &Cdn, reply: &'static [u8]) {
    let connections = Mutex::new(JoinSet::new());
    let accept = move |mut pipe: DuplexStream| {
        connections.lock().spawn(async move {
            // Whatever is asked, and whoever leaves, the answer is the same.
            pipe.read_u8().await.ok();
            pipe.write_all(reply).await.ok();
            // Until the node closes.
            pipe.read_to_end(&mut Vec::new()).await.ok();
        });
    };
    t.network().listen("origin", Arc::new(accept));
}

#[test]
fn b57_a_field_that_cannot_be_passed_on_is_the_origins_failure() {
    for reply in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: b\0c\r\n\r\nok"[..],
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: b\rx-evil: c\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx a: b\r\n\r\nok",
    ] {
        cdn(|t| async move {
            origin_of_bytes(&t, reply);
            let edge = t.node("edge", &["origin"]);
            let received = ask(&t, "x", "/a", "").await;
            assert_eq!(received.status, 502, "{}", received.head);
            assert!(!received.head.contains("x-evil"));
            assert_eq!(edge.levels().store_responses, 0);
        });
    }
}

#[test]
fn b57_bytes_beyond_ascii_in_a_field_are_passed_on_as_they_are() {
    cdn(|t| async move {
        let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: \xe9\r\n\r\nok";
        origin_of_bytes(&t, reply);
        let _edge = t.node("edge", &["origin"]);
        let received = ask(&t, "x", "/a", "").await;
        assert_eq!((received.status, received.body.as_str()), (200, "ok"));
    });
}

#[test]
fn b67_what_the_origin_refuses_is_told_to_one_viewer_and_never_stored() {
    for refusal in [400, 413, 414, 431] {
        cdn(|t| async move {
            let origin = t.origin("origin");
            origin.on("/a", move |asked| async move {
                match asked.fields.get("x-large") {
                    Some(_) => status(StatusCode::from_u16(refusal).unwrap()),
                    None => ok(whole(Bytes::from_static(b"good"))),
                }
            });
            let edge = edge_forwarding(&t, &[HeaderName::from_static("x-large")]);
            let lines = format!("x-large: {}\r\n", "a".repeat(8000));
            assert_eq!(ask(&t, "x", "/a", &lines).await.status, refusal);
            assert_eq!(edge.levels().store_responses, 0);
            assert_eq!(ask(&t, "x", "/a", "").await.body, "good");
        });
    }
}

#[test]
fn b67_b71_a_head_beyond_the_limit_is_refused_here() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _edge = t.node("edge", &["origin"]);
        let addresses = "192.0.2.1, ".repeat(50_000);
        for lines in [
            format!("x-a: {}\r\n", "a".repeat(20_000)),
            format!("x-forwarded-for: {addresses}\r\n"),
        ] {
            let received = ask(&t, "x", "/a", &lines).await;
            assert_eq!(received.status, 431);
        }
        assert_eq!(origin.asked().len(), 0);
    });
}

#[test]
fn b68_control_characters_in_a_field_are_refused() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _edge = t.node("edge", &["origin"]);
        for lines in [
            "x-a: \x07\r\n",
            "x-a: \x01\r\n",
            "x-a: \x7f\r\n",
            "x-a: \0\r\n",
        ] {
            let received = ask(&t, "x", "/a", lines).await;
            assert_eq!(received.status, 400, "{lines:?}");
        }
        assert_eq!(origin.asked().len(), 0);
    });
}

#[test]
fn b70_accepted_encodings_have_four_spellings_and_nonsense_is_none() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/a", |asked| async move {
            let coding = asked.fields["accept-encoding"].clone();
            let mut reply = ok(whole(Bytes::copy_from_slice(coding.as_bytes())));
            let fields = reply.headers_mut();
            fields.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
            reply
        });
        let _edge = edge_forwarding(&t, &[header::ACCEPT_ENCODING]);
        let many = "x, ".repeat(1000);
        for (sent, expected) in [
            (";;q==,\u{ff}", ""),
            ("gzip;q=2", "gzip"),
            ("gzip, deflate", "gzip"),
            ("GZIP;q=0.5, br;q=0", "gzip"),
            ("br, gzip, zstd", "br, gzip"),
            ("gzip;q=0.1,br", "br, gzip"),
            (many.as_str(), ""),
        ] {
            let received = ask(&t, "x", "/a", &format!("accept-encoding: {sent}\r\n")).await;
            assert_eq!(received.body, expected, "{sent}");
        }
        assert_eq!(origin.requests("/a"), 3, "one for each spelling");
    });
}

#[test]
fn b71_what_untrusted_peers_say_of_the_way_changes_nothing() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.serve("/a", &[("cache-control", "max-age=60")], "one");
        let _edge = t.node("edge", &["origin"]);
        let lines = [
            "via: 1.1 a\r\n".repeat(50),
            format!("x-forwarded-for: {}\r\n", "192.0.2.1, ".repeat(900)),
            "forwarded: for=\"[2001:db8::1]\";by=\"\\\"\\\"\";host=\"a\\\",b\"\r\n".to_owned(),
        ];
        for line in &lines {
            assert_eq!(ask(&t, "x", "/a", line).await.body, "one");
        }
        let asked = origin.asked();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].fields["via"], "1.1 edge");
    });
}
