//! Hosts, paths and queries: which requests are one, and which are none.

use bytes::Bytes;
use harness::origin::{Asked, ReplyBody, ok, whole};
use harness::{Live, Origin, cdn};
use http::Response;

use super::{ask, send};

/// Answers with what the origin was asked for: host and target.
fn echo(asked: &Asked) -> Response<ReplyBody> {
    let host = asked.fields["host"].to_str().expect("a host is text");
    ok(whole(Bytes::from(format!("{host}{}", asked.target))))
}

fn echoing(origin: &Origin, paths: &[&str]) {
    for path in paths {
        origin.on(path, |asked| async move { echo(&asked) });
    }
}

#[test]
fn b47_hosts_and_ports_are_kept_apart() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        echoing(&origin, &["/a"]);
        let _edge = t.node("edge", &["origin"]);
        for round in 0..2 {
            for host in ["one.example", "two.example", "one.example:8443"] {
                let received = ask(&t, host, "/a", "").await;
                assert_eq!(received.body, format!("{host}/a"), "round {round}");
            }
        }
        assert_eq!(origin.requests("/a"), 3);
    });
}

#[test]
fn b49_spellings_of_a_host_are_one_and_what_is_no_host_is_refused() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        echoing(&origin, &["/a"]);
        let _edge = t.node("edge", &["origin"]);
        for host in ["good", "GOOD", "good.", "good:80", "good:443", "Good.:"] {
            assert_eq!(ask(&t, host, "/a", "").await.body, "good/a", "{host}");
        }
        assert_eq!(ask(&t, "good:1234", "/a", "").await.body, "good:1234/a");
        for host in [
            "",
            "good%00.evil",
            "good,evil",
            "user@good",
            "good/evil",
            "good:x",
            "a..b",
            "good\0",
        ] {
            assert_eq!(ask(&t, host, "/a", "").await.status, 400, "{host:?}");
        }
        assert_eq!(ask(&t, "good", "/a", "host: evil\r\n").await.status, 400);
        assert_eq!(origin.asked().len(), 2);
    });
}

#[test]
fn b49_the_authority_of_an_absolute_target_is_the_host() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        echoing(&origin, &["/a"]);
        let _edge = t.node("edge", &["origin"]);
        // RFC 9112 3.2.2: the Host field is ignored.
        let received = ask(&t, "evil", "http://Good/a", "").await;
        assert_eq!(received.body, "good/a");
        assert_eq!(ask(&t, "good", "/a", "").await.body, "good/a");
        assert_eq!(origin.asked().len(), 1);
    });
}

#[test]
fn b50_content_in_a_get_is_refused_and_never_read_as_a_request() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        echoing(&origin, &["/p", "/evil"]);
        let _edge = t.node("edge", &["origin"]);
        let hidden = "GET /evil HTTP/1.1\r\nhost: x\r\n\r\n";
        for request in [
            format!(
                "GET /p?id=1 HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{hidden}",
                hidden.len()
            ),
            format!(
                "GET /p?id=1 HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n",
                hidden.len()
            ),
        ] {
            let received = send(&t, "edge", request.as_bytes()).await;
            assert_eq!(received.status, 400, "{request}");
            assert!(!received.body.contains("HTTP/1.1"), "{}", received.body);
        }
        assert_eq!(origin.asked().len(), 0);
        let clean = ask(&t, "x", "/p?id=1", "content-length: 0\r\n").await;
        assert_eq!(clean.body, "x/p?id=1");
    });
}

#[test]
fn b51_the_query_of_the_key_is_the_query_of_the_parent() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        echoing(&origin, &["/a"]);
        let _edge = t.node("edge", &["origin"]);
        let cases = [
            // Only `&` separates.
            ("a=1;cb=evil", "a=1;cb=evil"),
            ("utm_x=1;id=2", "utm_x=1;id=2"),
            // Repeated parameters keep their order.
            ("id=1&id=2", "id=1&id=2"),
            ("id=2&id=1", "id=2&id=1"),
            // Names and values are not decoded.
            ("%69d=2", "%69d=2"),
            ("id=2", "id=2"),
            ("id=1%26x=2", "id=1%26x=2"),
            ("t=a~b%2Fc=&a=%7e", "a=%7e&t=a~b%2Fc="),
            // CMCD is dropped by the edge's defaults, whatever stands around it.
            ("&b=1&&CMCD=bl%3D100&", "b=1"),
        ];
        for (sent, forwarded) in cases {
            let received = ask(&t, "x", &format!("/a?{sent}"), "").await;
            assert_eq!(received.body, format!("x/a?{forwarded}"), "{sent}");
        }
        let asked = origin.asked().len();
        assert_eq!(asked, cases.len(), "no two of them share a response");
        for (sent, _) in cases {
            ask(&t, "x", &format!("/a?{sent}"), "").await;
        }
        assert_eq!(origin.asked().len(), asked, "each is stored under itself");
    });
}

#[test]
fn b55_directives_that_make_no_sense_are_refused_without_asking_or_keeping() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _live = Live::start(&origin, "/live/p.m3u8", 8);
        let edge = t.node("edge", &["origin"]);
        for started in [false, true] {
            if started {
                ask(&t, "live.example", "/live/p.m3u8", "").await;
            }
            let before = edge.levels();
            for query in [
                "_HLS_msn=-1",
                "_HLS_msn=1e9",
                "_HLS_msn=99999999999999999999",
                "_HLS_msn=1&_HLS_msn=2",
                "_HLS_part=1",
                "_HLS_msn=",
                "_HLS_msn=1&_HLS_part=x",
                "_HLS_skip=zzz",
            ] {
                let target = format!("/live/p.m3u8?{query}");
                let received = ask(&t, "live.example", &target, "").await;
                assert_eq!(received.status, 400, "{query}");
            }
            let after = edge.levels();
            assert_eq!(after.held_requests, 0);
            assert_eq!(after.store_responses, before.store_responses);
        }
        // The whole playlist is always a right answer to a newer player (LL-11).
        let skip = ask(&t, "live.example", "/live/p.m3u8?_HLS_skip=v3", "").await;
        assert_eq!(skip.status, 200);
        assert!(!skip.body.contains("EXT-X-SKIP"));
        let far = ask(&t, "live.example", "/live/p.m3u8?_HLS_msn=999999999", "").await;
        assert_eq!(far.status, 400);
    });
}

#[test]
fn b56_a_name_and_what_masks_as_it_are_two_hosts() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        echoing(&origin, &["/a"]);
        let _edge = t.node("edge", &["origin"]);
        for host in ["example.org", "xn--example-.org"] {
            let received = ask(&t, host, "/a", "").await;
            assert_eq!(received.body, format!("{host}/a"));
        }
        assert_eq!(ask(&t, "exämple.org", "/a", "").await.status, 400);
    });
}

#[test]
fn b58_b60_b61_paths_that_servers_read_differently_never_reach_the_origin() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _edge = t.node("edge", &["origin"]);
        for path in [
            "/live/a/../../secret",
            "/live/%2e%2e/secret",
            "/live/..%2fsecret",
            "/live/..%5csecret",
            "/live/..;/secret",
            "/./x",
            "//x",
            "/static/..%2faccount",
            "/%c0%ae%c0%ae/secret",
            "/%u002e",
            "/%",
            "/%g1",
            "/%2",
            "/account%00.ts",
            "/a%0d%0aset-cookie:x",
            "/account\\x.ts",
        ] {
            let received = ask(&t, "x", path, "").await;
            assert_eq!(received.status, 400, "{path}");
        }
        assert_eq!(origin.asked().len(), 0);
    });
}

#[test]
fn b58_b61_b62_what_origins_may_tell_apart_is_told_apart() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let paths = [
            "/x/y",
            "/x//y",
            "/x/%79",
            "/%252e%252e/x",
            "/%2e%2e./x",
            "/Seg.TS",
            "/seg.ts",
            "/seg.ts.",
            "/seg.ts%20",
            "/account;x.ts",
            "/account%3bx.ts",
            "/account%2fx.ts",
            "/account%3fx.ts",
            "/account%23x.ts",
        ];
        echoing(&origin, &paths);
        let _edge = t.node("edge", &["origin"]);
        for _ in 0..2 {
            for path in paths {
                let received = ask(&t, "x", path, "").await;
                assert_eq!(received.body, format!("x{path}"));
            }
        }
        assert_eq!(origin.asked().len(), paths.len());
    });
}

#[test]
fn b59_a_suffix_does_not_make_a_private_response_one_for_all() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let paths = [
            "/account/x.css",
            "/account%2fx.m3u8",
            "/account;x.ts",
            "/account%3bx.ts",
            "/account%23x.ts",
            "/account%3fx.ts",
        ];
        for path in paths {
            origin.serve(
                path,
                &[
                    ("cache-control", "private, max-age=60"),
                    ("content-type", "text/html"),
                ],
                "your account",
            );
        }
        let edge = t.node("edge", &["origin"]);
        for path in paths {
            ask(&t, "x", path, "").await;
            ask(&t, "x", path, "").await;
            assert_eq!(edge.levels().store_responses, 0, "{path}");
        }
    });
}
