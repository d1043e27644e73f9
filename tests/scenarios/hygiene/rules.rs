//! Rules of a configuration file, as viewers and the origin see them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use harness::origin::{ok, status, whole};
use harness::{Cdn, cdn, pass};
use http::StatusCode;
use node::config::{Files, Source};
use node::node::Node;
use node::rules::Rules;

use super::ask;

/// Adds an edge whose file has these lines.
fn edge_with(t: &Cdn, lines: &str) -> Arc<Node> {
    let rules = rules_of(lines);
    t.node_with("edge", &["origin"], |node| node.rules = rules)
}

/// Returns the rules of an edge whose file has these lines.
fn rules_of(lines: &str) -> Rules {
    let text = format!(
        "name = \"edge\"\n[listen]\nhttp = [\"127.0.0.1:0\"]\n{lines}\n\
         [[shield]]\nname = \"shield\"\nurl = \"http://shield\"\n"
    );
    let source = Source {
        name: "edge.toml".to_owned(),
        directory: PathBuf::new(),
        files: Files::NotChecked,
    };
    let config = edge::Config::parse(&text, &source).unwrap_or_else(|error| panic!("{error}"));
    config.into_node_config().rules
}

#[test]
fn ca_02_a_rule_names_the_parameters_that_belong_to_the_key() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        for path in ["/vod/a", "/live/a"] {
            origin.on(
                path,
                |asked| async move { ok(whole(Bytes::from(asked.target))) },
            );
        }
        let _edge = edge_with(
            &t,
            "[viewers]\nquery_dropped = [\"session\"]\n\
             [[rule]]\nname = \"vod\"\nhosts = [\"*.vod.example\"]\npaths = [\"/vod/\"]\nquery_kept = [\"id\"]",
        );
        for (host, target, forwarded) in [
            ("a.vod.example", "/vod/a?z=1&id=2&session=3", "/vod/a?id=2"),
            ("a.vod.example", "/vod/a?utm=4&id=2", "/vod/a?id=2"),
            ("a.vod.example", "/live/a?z=1&session=3", "/live/a?z=1"),
            ("vod.example", "/vod/a?z=1&session=3", "/vod/a?z=1"),
        ] {
            assert_eq!(
                ask(&t, host, target, "").await.body,
                forwarded,
                "{host}{target}"
            );
        }
        assert_eq!(origin.requests_exactly("/vod/a?id=2"), 1);
    });
}

#[test]
fn a_spelling_of_a_path_does_not_choose_another_rule() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        for path in ["/private/a", "/%70rivate/a", "/private//a"] {
            origin.on(path, |_| async { ok(whole(Bytes::from_static(b"x"))) });
        }
        let edge = edge_with(
            &t,
            "[[rule]]\nname = \"private\"\npaths = [\"/private/\"]\nother = { ceiling = \"0s\" }",
        );
        for path in ["/private/a", "/%70rivate/a", "/private//a"] {
            for _ in 0..2 {
                ask(&t, "x", path, "").await;
                pass(Duration::from_secs(1)).await;
            }
            assert_eq!(origin.requests(path), 2, "{path}");
        }
        assert_eq!(edge.levels().store_responses, 0);
    });
}

#[test]
fn fm_01_errors_are_kept_as_long_as_a_rule_says() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/b", |_| async { status(StatusCode::SERVICE_UNAVAILABLE) });
        let _edge = edge_with(
            &t,
            "[cache]\nnegative = { 404 = \"5s\", 5xx = \"2s\" }\nsegment = { negative = { 404 = \"0s\" } }",
        );
        let (second, third) = (Duration::from_secs(1), Duration::from_millis(4500));
        for (path, times) in [("/a", [1, 2]), ("/a.m4s", [2, 3]), ("/b", [1, 2])] {
            ask(&t, "x", path, "").await;
            pass(second).await;
            ask(&t, "x", path, "").await;
            assert_eq!(origin.requests(path), times[0], "{path} after a second");
            pass(third).await;
            ask(&t, "x", path, "").await;
            assert_eq!(origin.requests(path), times[1], "{path} after another 4.5");
        }
    });
}

#[test]
fn lifetimes_are_bounded_by_kind_of_media() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let fields = [("cache-control", "max-age=100")];
        for path in ["/a.m4s", "/a.json"] {
            origin.serve(path, &fields, "x");
        }
        origin.serve("/b.json", &[], "x");
        let _edge = edge_with(
            &t,
            "[[rule]]\nname = \"short\"\npaths = [\"/**/*.{m4s,json}\"]\n\
             segment = { ceiling = \"10s\", default = \"10s\" }\nother = { floor = \"200s\", default = \"20s\" }",
        );
        for path in ["/a.m4s", "/a.json", "/b.json"] {
            ask(&t, "x", path, "").await;
            pass(Duration::from_secs(15)).await;
            ask(&t, "x", path, "").await;
        }
        let requests = ["/a.m4s", "/a.json", "/b.json"].map(|path| origin.requests(path));
        assert_eq!(requests, [2, 1, 1]);
        pass(Duration::from_secs(150)).await;
        ask(&t, "x", "/a.json", "").await;
        assert_eq!(origin.requests("/a.json"), 1, "the floor holds");
    });
}

#[test]
fn rfc_9111_5_2_1_viewers_are_obeyed_where_a_rule_says_so() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        for path in ["/a", "/obeyed/a"] {
            origin.serve(path, &[("cache-control", "max-age=60")], "x");
        }
        let _edge = edge_with(
            &t,
            "[[rule]]\nname = \"obeyed\"\npaths = [\"/obeyed/\"]\nobey_viewers = true",
        );
        for path in ["/a", "/obeyed/a"] {
            for _ in 0..2 {
                ask(&t, "x", path, "cache-control: no-cache\r\n").await;
            }
        }
        assert_eq!(
            (origin.requests("/a"), origin.requests("/obeyed/a")),
            (1, 2)
        );
        let none = ask(&t, "x", "/obeyed/b", "cache-control: only-if-cached\r\n").await;
        assert_eq!(none.status, 504);
        assert_eq!(origin.requests("/obeyed/b"), 0);
    });
}

#[test]
fn fields_of_responses_stay_or_go_by_rule() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let fields = [
            ("cache-control", "max-age=60"),
            ("content-type", "text/plain"),
            ("etag", "\"1\""),
            ("server", "nginx"),
            ("x-powered-by", "php"),
            ("x-asset", "7"),
        ];
        for path in ["/all", "/stripped/a", "/kept/a"] {
            origin.serve(path, &fields, "x");
        }
        let _edge = edge_with(
            &t,
            "[[rule]]\nname = \"stripped\"\npaths = [\"/stripped/\"]\nstrip_headers = [\"Server\", \"X-Powered-By\"]\n\
             [[rule]]\nname = \"kept\"\npaths = [\"/kept/\"]\nkeep_headers = [\"X-Asset\"]",
        );
        for (path, gone) in [
            ("/all", &[][..]),
            ("/stripped/a", &["server", "x-powered-by"]),
            ("/kept/a", &["server", "x-powered-by"]),
        ] {
            for answer in ["miss", "hit"] {
                let received = ask(&t, "x", path, "").await;
                for (name, value) in fields {
                    let is_there = received.head.contains(&format!("\r\n{name}: {value}"));
                    let is_due = !gone.contains(&name);
                    assert_eq!(
                        is_there, is_due,
                        "{name} of {path}, {answer}:\n{}",
                        received.head
                    );
                }
            }
            assert_eq!(origin.requests(path), 1);
        }
    });
}

#[test]
fn rfc_9213_2_2_targeted_fields_count_in_their_order_unless_a_rule_says_no() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        for path in ["/a", "/untargeted/a"] {
            let fields = [
                ("cache-control", "max-age=5"),
                ("cdn-cache-control", "max-age=20"),
                ("seawall-cdn-cache-control", "max-age=40"),
            ];
            origin.serve(path, &fields, "x");
        }
        let _edge = edge_with(
            &t,
            "[[rule]]\nname = \"untargeted\"\npaths = [\"/untargeted/\"]\ntargeted = false",
        );
        for path in ["/a", "/untargeted/a"] {
            ask(&t, "x", path, "").await;
            pass(Duration::from_secs(30)).await;
            ask(&t, "x", path, "").await;
        }
        let requests = ["/a", "/untargeted/a"].map(|path| origin.requests(path));
        assert_eq!(requests, [1, 2]);
    });
}

#[test]
fn ca_09_an_origin_that_forbids_too_much_can_be_overruled() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        for path in ["/a.m4s", "/overruled/a.m4s"] {
            origin.serve(path, &[("cache-control", "no-store, private")], "x");
        }
        let _edge = edge_with(
            &t,
            "[[rule]]\nname = \"overruled\"\npaths = [\"/overruled/\"]\nignore_cache_control = true",
        );
        for path in ["/a.m4s", "/overruled/a.m4s"] {
            for _ in 0..2 {
                ask(&t, "x", path, "").await;
            }
        }
        let requests = ["/a.m4s", "/overruled/a.m4s"].map(|path| origin.requests(path));
        assert_eq!(requests, [2, 1]);
    });
}

#[test]
fn rfc_9111_4_2_2_a_lifetime_is_guessed_only_where_a_rule_says_so_and_never_for_media() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        for path in ["/a", "/guessed/a", "/guessed/a.mpd"] {
            // Ten thousand seconds before the scenario begins.
            let fields = [("last-modified", "Tue, 14 Nov 2023 19:26:40 GMT")];
            origin.serve(path, &fields, "<MPD/>");
        }
        let _edge = edge_with(
            &t,
            "[[rule]]\nname = \"guessed\"\npaths = [\"/guessed/\"]\nheuristics = { percent = \"10%\", ceiling = \"10m\" }",
        );
        for (path, times) in [
            ("/a", [2, 4]),
            ("/guessed/a", [1, 2]),
            ("/guessed/a.mpd", [2, 3]),
        ] {
            for (wait, requests) in [500, 200].into_iter().zip(times) {
                ask(&t, "x", path, "").await;
                pass(Duration::from_secs(wait)).await;
                ask(&t, "x", path, "").await;
                assert_eq!(
                    origin.requests(path),
                    requests,
                    "{path} after {wait} s more"
                );
            }
        }
    });
}

#[test]
fn rfc_5861_stale_windows_are_a_rules_where_the_origin_does_not_say() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        for path in ["/a", "/said"] {
            origin.on(path, |asked| async move {
                if asked.before > 0 {
                    return status(StatusCode::SERVICE_UNAVAILABLE);
                }
                let said = match asked.path() {
                    "/said" => "max-age=10, stale-if-error=100",
                    _ => "max-age=10",
                };
                let mut reply = ok(whole(Bytes::from_static(b"x")));
                let value = http::HeaderValue::from_static(said);
                reply.headers_mut().insert("cache-control", value);
                reply
            });
        }
        let _edge = edge_with(
            &t,
            "[cache]\nstale_ceiling = \"30s\"\nstale_if_error = \"20s\"",
        );
        for (path, wait, expected) in [
            ("/a", 0, 200),
            ("/a", 25, 200),
            ("/a", 10, 503),
            ("/said", 0, 200),
            ("/said", 35, 200),
            ("/said", 10, 503),
        ] {
            pass(Duration::from_secs(wait)).await;
            let received = ask(&t, "x", path, "").await;
            assert_eq!(received.status, expected, "{path} after {wait} s more");
        }
    });
}

#[test]
fn invariant_13_each_node_forwards_what_its_own_rules_list() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.serve("/a", &[("cache-control", "no-store")], "x");
        t.node("shield", &["origin"]);
        let rules = "[cache]\nforward_headers = [\"X-Asset\", \"Accept-Language\"]";
        let rules = rules_of(rules);
        t.node_with("edge", &["shield"], |node| node.rules = rules.clone());
        ask(&t, "x", "/a", "x-asset: 1\r\n").await;
        assert!(!origin.asked()[0].fields.contains_key("x-asset"));
        t.node_with("shield", &["origin"], |node| node.rules = rules);
        t.node_with("edge", &["shield"], |node| {
            node.rules = rules_of("[cache]\nforward_headers = [\"X-Asset\"]");
        });
        ask(&t, "x", "/a", "x-asset: 1\r\naccept-language: de\r\n").await;
        let asked = origin.asked();
        let seen = |name: &str| asked[1].fields.get(name).cloned();
        assert_eq!(seen("x-asset"), Some(http::HeaderValue::from_static("1")));
        assert_eq!(seen("accept-language"), None);
    });
}
