//! Origins as they are: headers that forbid what players need, answers that are none.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use harness::origin::{Origin, ReplyBody, ok, status, whole};
use harness::{Live, cdn, pass};
use http::{Response, StatusCode};
use node::node::Node;
use node::rules::{Preset, Rule};
use tokio::time::Instant;

const PLAYLIST: &str = "/live/v0/playlist.m3u8";
/// The duration of a part of [`Live`].
const PART: Duration = Duration::from_millis(500);

#[test]
fn ca_09_fm_05_a_no_cache_playlist_is_followed_by_one_chain_for_everybody() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        live.add_field("cache-control", "no-cache");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let directed = format!("{PLAYLIST}?_HLS_msn=2&_HLS_part=0");
        for _ in 0..20 {
            viewer.get(PLAYLIST).await;
        }
        let held: Vec<_> = (0..50).map(|_| viewer.start(&directed)).collect();
        origin.asked_for_exactly(&directed).await;
        live.publish();
        for held in held {
            assert!(held.await.unwrap().text().contains("seg2.0.m4s"));
        }
        assert_eq!(origin.requests_exactly(PLAYLIST), 1);
        assert_eq!(origin.requests_exactly(&directed), 1);
    });
}

#[test]
fn ca_09_a_playlist_that_may_not_be_stored_is_shared_where_a_rule_knows_its_origin() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        live.add_field("cache-control", "no-cache, no-store");
        let _shield = t.node_with("shield", &["origin"], |config| {
            config.rules.fallback = Arc::new(Preset::Ovenmediaengine.apply(Rule::default()));
        });
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        for _ in 0..20 {
            viewer.get(PLAYLIST).await;
        }
        let directed = format!("{PLAYLIST}?_HLS_msn=2&_HLS_part=0");
        let held: Vec<_> = (0..50).map(|_| viewer.start(&directed)).collect();
        origin.asked_for_exactly(&directed).await;
        live.publish();
        for held in held {
            assert!(held.await.unwrap().text().contains("seg2.0.m4s"));
        }
        assert_eq!(origin.requests_exactly(PLAYLIST), 1);
        assert_eq!(origin.requests_exactly(&directed), 1);
    });
}

#[test]
fn without_such_a_rule_no_store_is_obeyed_to_the_letter() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        live.add_field("cache-control", "no-store");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for _ in 0..3 {
            viewer.get(PLAYLIST).await;
        }
        assert_eq!(origin.requests_exactly(PLAYLIST), 3);
    });
}

#[test]
fn ca_23_a_playlist_that_cannot_be_renewed_is_a_success_for_a_while_and_then_an_error() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        live.answer_instead(Some((StatusCode::SERVICE_UNAVAILABLE, "")));
        live.publish();
        // The next part was due after half a second; from then on, one target duration of two.
        pass(Duration::from_millis(2_400)).await;
        let riding = viewer.get(PLAYLIST).await;
        assert_eq!(riding.status, StatusCode::OK);
        assert_eq!(riding.field("age"), "2", "the truth");
        pass(Duration::from_millis(200)).await;
        let frozen = viewer.get(PLAYLIST).await;
        assert!(frozen.status.is_server_error());
        live.answer_instead(None);
        live.publish();
        pass(Duration::from_secs(2)).await;
        let back = viewer.get(PLAYLIST).await;
        assert!(back.text().contains("seg2.1.m4s"));
    });
}

#[test]
fn ca_23_a_playlist_goes_on_within_a_part_per_node_of_its_parents_return() {
    for outage in [700, 2_100, 3_900, 9_900].map(Duration::from_millis) {
        cdn(|t| async move {
            let origin = t.origin("origin");
            let live = Live::start(&origin, PLAYLIST, 8);
            let _shield = t.node("shield", &["origin"]);
            let _edge = t.node("edge", &["shield"]);
            let viewer = t.viewer("edge");
            viewer.get(PLAYLIST).await;
            t.network().set_up("origin", false);
            origin.cut_connections();
            pass(outage).await;
            // A player's last request before its buffer is empty: it is held through the return.
            let held = viewer.start(&format!("{PLAYLIST}?_HLS_msn=2&_HLS_part=0"));
            live.publish_many(u64::try_from(outage.as_millis()).unwrap() / 500);
            t.network().set_up("origin", true);
            let returned = Instant::now();
            let received = held.await.unwrap();
            assert_eq!(received.text(), live.text());
            let late = returned.elapsed();
            // Each of two nodes asks once a part.
            assert!(late <= 2 * PART, "{late:?} after {outage:?}");
        });
    }
}

#[test]
fn fm_16_a_success_that_brings_no_media_is_not_stored() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        for code in [StatusCode::NO_CONTENT, StatusCode::ACCEPTED] {
            let path = format!("/live/v0/early-{}.m4s", code.as_u16());
            origin.on(&path, move |asked| async move {
                match asked.before {
                    0 => status(code),
                    _ => ok(whole(Bytes::from_static(b"media"))),
                }
            });
        }
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for code in [204, 202] {
            let path = format!("/live/v0/early-{code}.m4s");
            assert_eq!(viewer.get(&path).await.status.as_u16(), code);
            assert_eq!(viewer.get(&path).await.body, "media", "{code}");
        }
    });
}

#[test]
fn pl_11_ll_18_a_part_of_no_known_playlist_is_asked_for_and_a_missing_one_is_404() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.serve(
            "/live/v0/seg7.1.m4s",
            &[("cache-control", "max-age=60")],
            "part",
        );
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        assert_eq!(viewer.get("/live/v0/seg7.1.m4s").await.body, "part");
        let missing = viewer.get("/live/v0/seg7.2.m4s").await;
        assert_eq!(missing.status, StatusCode::NOT_FOUND);
        origin.serve(
            "/live/v0/seg7.2.m4s",
            &[("cache-control", "max-age=60")],
            "next",
        );
        pass(Duration::from_millis(1_100)).await;
        assert_eq!(viewer.get("/live/v0/seg7.2.m4s").await.body, "next");
    });
}

#[test]
fn ll_21_a_part_outlives_its_tag_even_if_the_origin_is_gone() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        origin.serve("/live/v0/seg2.0.m4s", &[], "part");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        live.publish_many(24);
        let playlist = format!("{PLAYLIST}?_HLS_msn=7&_HLS_part=3");
        assert!(!viewer.get(&playlist).await.text().contains("seg2.0.m4s"));
        t.network().set_up("origin", false);
        origin.cut_connections();
        pass(Duration::from_secs(6)).await;
        let part = viewer.get("/live/v0/seg2.0.m4s").await;
        assert_eq!(part.body, "part");
    });
}

#[test]
fn lt_01_what_was_held_for_has_no_age_and_what_is_known_has() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let held = viewer.start(&format!("{PLAYLIST}?_HLS_msn=2&_HLS_part=0"));
        pass(Duration::from_millis(900)).await;
        live.publish();
        assert!(!held.await.unwrap().fields.contains_key("age"));
        pass(Duration::from_millis(200)).await;
        assert_eq!(viewer.get(PLAYLIST).await.field("age"), "0");
    });
}

/// Serves `path` of an LL-HLS stream that never changes: blocking reloads get what `answer` makes of them.
fn never_newer<F, R>(origin: &Origin, answer: F)
where
    F: Fn(Response<ReplyBody>) -> R + Send + Sync + 'static,
    R: Future<Output = Response<ReplyBody>> + Send + 'static,
{
    let aside = Origin::default();
    let text = Live::start(&aside, PLAYLIST, 8).text();
    let answer = Arc::new(answer);
    origin.on(PLAYLIST, move |asked| {
        let (text, answer) = (text.clone(), Arc::clone(&answer));
        async move {
            let reply = Response::new(whole(Bytes::from(text)));
            match asked.parameter("_HLS_msn") {
                None => reply,
                Some(_) => answer(reply).await,
            }
        }
    });
}

fn counted(node: &Node, rule: &str) -> bool {
    let line = format!("seawall_origin_misbehavior_total{{rule=\"{rule}\"}} ");
    let text = node.telemetry().render();
    let value = text.lines().find_map(|l| l.strip_prefix(line.as_str()));
    value.is_some_and(|value| value != "0")
}

#[test]
fn ll_02_an_origin_that_answers_early_is_asked_ever_more_slowly_and_its_answer_releases_nobody() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        never_newer(&origin, |same| async move { same });
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let asked_at = Instant::now();
        let directed = format!("{PLAYLIST}?_HLS_msn=2&_HLS_part=0");
        let held = viewer.get(&directed).await;
        assert_eq!(held.status, StatusCode::SERVICE_UNAVAILABLE, "LL-09");
        assert!(asked_at.elapsed() >= Duration::from_secs(6));
        assert!(counted(&edge, "answered_early"));
        let asked = origin.requests(PLAYLIST);
        assert!(asked <= 10, "{asked} requests in six seconds");
    });
}

#[test]
fn ll_09_an_origin_that_answers_late_is_reported_and_its_answer_is_used() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let aside = Origin::default();
        let live = Live::start(&aside, PLAYLIST, 9);
        let newer = live.text();
        never_newer(&origin, move |_| {
            let newer = newer.clone();
            async move {
                pass(Duration::from_secs(9)).await;
                Response::new(whole(Bytes::from(newer)))
            }
        });
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let directed = format!("{PLAYLIST}?_HLS_msn=2&_HLS_part=0");
        let held = viewer.get(&directed).await;
        assert_eq!(held.status, StatusCode::SERVICE_UNAVAILABLE);
        let again = viewer.get(&directed).await;
        assert_eq!(again.status, StatusCode::OK);
        assert!(again.text().contains("seg2.0.m4s"));
        assert!(counted(&edge, "held_too_long"));
    });
}

#[test]
fn fm_16_nothing_yet_from_a_blocking_reload_is_no_trouble_and_no_playlist() {
    for code in [
        StatusCode::NO_CONTENT,
        StatusCode::ACCEPTED,
        StatusCode::TOO_EARLY,
    ] {
        cdn(|t| async move {
            let origin = t.origin("origin");
            let aside = Origin::default();
            let live = Live::start(&aside, PLAYLIST, 8);
            let serving = live.clone();
            origin.on(PLAYLIST, move |asked| {
                let live = serving.clone();
                async move {
                    let is_there = live.text().contains("seg2.0.m4s\"\n#EXT-X-PRELOAD");
                    match asked.parameter("_HLS_msn") {
                        Some(_) if !is_there => status(code),
                        _ => Response::new(whole(Bytes::from(live.text()))),
                    }
                }
            });
            let _edge = t.node("edge", &["origin"]);
            let viewer = t.viewer("edge");
            viewer.get(PLAYLIST).await;
            let held = viewer.start(&format!("{PLAYLIST}?_HLS_msn=2&_HLS_part=0"));
            for _ in 0..3 {
                pass(Duration::from_millis(500)).await;
                assert_eq!(viewer.get(PLAYLIST).await.status, StatusCode::OK, "{code}");
            }
            live.publish();
            let held = held.await.unwrap();
            assert_eq!(held.status, StatusCode::OK, "{code}");
            assert!(held.text().contains("seg2.0.m4s\"\n#EXT-X-PRELOAD"));
        });
    }
}

#[test]
fn ca_23_nothing_yet_is_no_excuse_for_a_frozen_playlist() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on(PLAYLIST, {
            let aside = Origin::default();
            let text = Live::start(&aside, PLAYLIST, 8).text();
            move |asked| {
                let first = asked.before == 0;
                let text = text.clone();
                async move {
                    if first {
                        return Response::new(whole(Bytes::from(text)));
                    }
                    status(StatusCode::NO_CONTENT)
                }
            }
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        pass(Duration::from_secs(2)).await;
        assert_eq!(viewer.get(PLAYLIST).await.status, StatusCode::OK);
        pass(Duration::from_secs(5)).await;
        assert!(viewer.get(PLAYLIST).await.status.is_server_error());
    });
}

#[test]
fn ld_02_425_is_relayed_as_it_is_asked_once_and_not_stored() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let path = "/live/v0/early-425.m4s";
        origin.on(path, |asked| async move {
            match asked.before {
                0 => status(StatusCode::TOO_EARLY),
                _ => ok(whole(Bytes::from_static(b"media"))),
            }
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let early = viewer.get(path).await;
        assert_eq!(early.status, StatusCode::TOO_EARLY);
        assert_eq!(
            origin.requests(path),
            1,
            "not taken for a failed early datum"
        );
        assert_eq!(viewer.get(path).await.body, "media");
    });
}

#[test]
fn ca_20_a_redirected_playlist_keeps_each_viewers_query_and_is_one_redirect_for_all() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on(PLAYLIST, |_| async {
            let mut reply = status(StatusCode::FOUND);
            let fields = reply.headers_mut();
            fields.insert("location", "../v7/p.m3u8?x=1".parse().unwrap());
            fields.insert("cache-control", "max-age=5".parse().unwrap());
            reply
        });
        origin.on("/elsewhere.m3u8", |_| async {
            let mut reply = status(StatusCode::FOUND);
            let location = "https://other.example/p.m3u8".parse().unwrap();
            reply.headers_mut().insert("location", location);
            reply
        });
        let _edge = t.node_with("edge", &["origin"], |config| {
            config.rules = node::rules::Rules::dropping(vec!["token".to_owned()]);
        });
        let viewer = t.viewer("edge");
        for token in ["a~b%2F", "c"] {
            let moved = viewer.get(&format!("{PLAYLIST}?x=1&token={token}")).await;
            assert_eq!(moved.status, StatusCode::FOUND);
            let expected = format!("../v7/p.m3u8?x=1&token={token}");
            assert_eq!(moved.field("location"), expected);
        }
        assert_eq!(origin.requests(PLAYLIST), 1);
        let away = viewer.get("/elsewhere.m3u8?token=secret").await;
        assert_eq!(away.field("location"), "https://other.example/p.m3u8");
    });
}

#[test]
fn ca_20_a_followed_playlist_that_moves_takes_its_viewers_along() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let aside = Origin::default();
        let text = Live::start(&aside, PLAYLIST, 8).text();
        origin.on(PLAYLIST, move |asked| {
            let text = text.clone();
            async move {
                if asked.before == 0 {
                    return Response::new(whole(Bytes::from(text)));
                }
                let mut reply = status(StatusCode::TEMPORARY_REDIRECT);
                let location = "/new/p.m3u8".parse().unwrap();
                reply.headers_mut().insert("location", location);
                reply
            }
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        origin.asked_for(PLAYLIST, 2).await;
        pass(Duration::from_millis(10)).await;
        let moved = viewer.get(PLAYLIST).await;
        assert_eq!(moved.status, StatusCode::TEMPORARY_REDIRECT);
        assert_eq!(moved.field("location"), "/new/p.m3u8");
    });
}
