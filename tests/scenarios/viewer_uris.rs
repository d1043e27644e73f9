//! Playlists whose URIs are made for one viewer: found without asking for more, and not shared.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use harness::origin::{Asked, Origin, ReplyBody, whole};
use harness::{cdn, pass};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use node::node::{Node, NodeConfig};
use node::rules::ViewerUris;

const MULTIVARIANT: &str = "/live/index.m3u8";
const PLAYLIST: &str = "/live/v0/playlist.m3u8";

fn reply(text: String, fields: &[(&'static str, &'static str)]) -> Response<ReplyBody> {
    let mut reply = Response::new(whole(Bytes::from(text)));
    for (name, value) in fields {
        let name = HeaderName::from_static(name);
        reply
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    reply
}

/// A multivariant playlist whose URIs end with what `token` makes of each request.
fn serve_multivariant(origin: &Origin, token: impl Fn(&Asked) -> String + Send + Sync + 'static) {
    origin.on(MULTIVARIANT, move |asked| {
        let token = token(&asked);
        let text = format!(
            "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv0/playlist.m3u8?{token}\n\
             #EXT-X-STREAM-INF:BANDWIDTH=2\nv1/playlist.m3u8?{token}\n"
        );
        std::future::ready(reply(text, &[("cache-control", "max-age=2")]))
    });
}

fn misbehaviors(node: &Node) -> String {
    let text = node.telemetry().render();
    let lines = text
        .lines()
        .filter(|line| line.contains("uris_") && !line.ends_with(" 0"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn ca_10_fm_10_a_session_in_the_uris_is_found_when_it_changes_and_is_each_viewers_own_from_then_on()
{
    cdn(|t| async move {
        let origin = t.origin("origin");
        serve_multivariant(&origin, |asked| format!("session={}_x", asked.before));
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(MULTIVARIANT).await;
        assert!(
            misbehaviors(&edge).contains("uris_suspicious"),
            "by its name"
        );
        pass(Duration::from_secs(3)).await;
        let own = viewer.get(MULTIVARIANT).await;
        assert!(misbehaviors(&edge).contains("uris_of_one_viewer"));
        assert_eq!(own.field("cache-control"), "private, no-cache");
        let asked_before = origin.requests(MULTIVARIANT);
        assert_eq!(asked_before, 2, "nothing was asked in order to find out");
        let viewers: Vec<_> = (0..50).map(|_| viewer.start(MULTIVARIANT)).collect();
        let mut sessions = HashSet::new();
        for received in viewers {
            let received = received.await.unwrap();
            assert_eq!(received.status, StatusCode::OK);
            sessions.insert(received.text().to_owned());
        }
        assert_eq!(sessions.len(), 50);
        assert_eq!(origin.requests(MULTIVARIANT), asked_before + 50);
    });
}

#[test]
fn ca_10_viewers_who_wait_for_the_answer_that_tells_do_not_share_it() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        serve_multivariant(&origin, |asked| format!("sid={}", asked.before));
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(MULTIVARIANT).await;
        pass(Duration::from_secs(3)).await;
        let viewers: Vec<_> = (0..20).map(|_| viewer.start(MULTIVARIANT)).collect();
        let mut sessions = HashSet::new();
        for received in viewers {
            sessions.insert(received.await.unwrap().text().to_owned());
        }
        assert_eq!(sessions.len(), 20);
    });
}

#[test]
fn ca_10_a_signature_that_is_renewed_is_shared_by_all() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        serve_multivariant(&origin, |asked| {
            let now = 1_700_000_000 + asked.before;
            format!("hdnts=exp={now}~hmac={:x}", now * 7919)
        });
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for _ in 0..10 {
            pass(Duration::from_secs(1)).await;
            let viewers: Vec<_> = (0..20).map(|_| viewer.start(MULTIVARIANT)).collect();
            for received in viewers {
                assert_eq!(received.await.unwrap().status, StatusCode::OK);
            }
        }
        let asked = origin.requests(MULTIVARIANT);
        assert!(
            asked <= 5,
            "{asked} requests for 200 viewers in ten seconds"
        );
        assert_eq!(misbehaviors(&edge), "");
    });
}

#[test]
fn ca_10_a_token_that_nobody_named_is_reported_and_shared_until_an_operator_names_it() {
    for (named, expected) in [(false, 3), (true, 21)] {
        cdn(|t| async move {
            let origin = t.origin("origin");
            serve_multivariant(&origin, |asked| format!("u=x{}", asked.before));
            let edge = t.node_with("edge", &["origin"], |config| {
                if named {
                    let rule = Arc::make_mut(&mut config.rules.fallback);
                    rule.live.viewer_parameters = vec!["u".to_owned()];
                }
            });
            let viewer = t.viewer("edge");
            for _ in 0..2 {
                viewer.get(MULTIVARIANT).await;
                pass(Duration::from_secs(3)).await;
            }
            for _ in 0..19 {
                viewer.get(MULTIVARIANT).await;
            }
            assert_eq!(origin.requests(MULTIVARIANT), expected, "named: {named}");
            assert_eq!(
                misbehaviors(&edge).contains("uris_of_one_viewer"),
                named,
                "{}",
                misbehaviors(&edge)
            );
            assert!(misbehaviors(&edge).contains("uris_suspicious"));
        });
    }
}

#[test]
fn ca_10_by_an_operators_word_it_is_only_reported() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        serve_multivariant(&origin, |asked| format!("session={}", asked.before));
        let edge = t.node_with("edge", &["origin"], |config: &mut NodeConfig| {
            Arc::make_mut(&mut config.rules.fallback).live.viewer_uris = ViewerUris::Report;
        });
        let viewer = t.viewer("edge");
        for _ in 0..3 {
            for _ in 0..10 {
                viewer.get(MULTIVARIANT).await;
            }
            pass(Duration::from_secs(3)).await;
        }
        assert_eq!(origin.requests(MULTIVARIANT), 3);
        assert!(misbehaviors(&edge).contains("uris_of_one_viewer"));
    });
}

#[test]
fn ca_10_a_rendition_with_a_viewers_own_uris_is_given_up_and_nobody_is_left_waiting() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on(PLAYLIST, |asked: Asked| async move {
            let held = asked.parameter("_HLS_msn").is_some();
            if held {
                pass(Duration::from_secs(1)).await;
            }
            let (count, session) = (2 + asked.before.min(1), asked.before);
            let mut text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n\
                            #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n"
                .to_owned();
            for msn in 0..count {
                text += &format!("#EXTINF:2,\ns{msn}.ts?session={session}\n");
            }
            reply(text, &[])
        });
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let first = viewer.get(PLAYLIST).await;
        assert!(first.text().contains("session=0"));
        let held = viewer.start(&format!("{PLAYLIST}?_HLS_msn=3"));
        pass(Duration::from_millis(1_500)).await;
        let held = held.await.unwrap();
        assert_eq!(held.status, StatusCode::OK, "it asked again for itself");
        assert!(misbehaviors(&edge).contains("uris_of_one_viewer"));
        let (one, other) = (viewer.get(PLAYLIST).await, viewer.get(PLAYLIST).await);
        assert_eq!(one.status, StatusCode::OK);
        assert_ne!(one.text(), other.text());
        let directed = viewer.get(&format!("{PLAYLIST}?_HLS_msn=3")).await;
        assert_eq!(directed.status, StatusCode::OK, "held by the origin");
    });
}

#[test]
fn ca_10_a_playlist_that_is_private_or_sets_a_cookie_is_each_viewers_own() {
    for field in [("cache-control", "private"), ("set-cookie", "s=1")] {
        cdn(|t| async move {
            let origin = t.origin("origin");
            origin.on(PLAYLIST, move |asked: Asked| {
                let text = format!(
                    "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\ns0.ts?of={}\n",
                    asked.before
                );
                std::future::ready(reply(text, &[field]))
            });
            let _edge = t.node("edge", &["origin"]);
            let viewer = t.viewer("edge");
            let viewers: Vec<_> = (0..5).map(|_| viewer.start(PLAYLIST)).collect();
            let mut texts = HashSet::new();
            for received in viewers {
                texts.insert(received.await.unwrap().text().to_owned());
            }
            assert_eq!(texts.len(), 5, "{field:?}");
        });
    }
}

#[test]
fn fm_11_a_parameter_that_is_not_in_the_key_never_reaches_the_origin_so_no_body_can_leak_it() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        serve_multivariant(&origin, |asked| {
            let query = asked.target.split_once('?').map_or("", |(_, query)| query);
            query.to_owned()
        });
        let _edge = t.node_with("edge", &["origin"], |config| {
            config.rules = node::rules::Rules::dropping(vec!["token".to_owned()]);
        });
        let viewer = t.viewer("edge");
        for viewers_own in ["token=secret-a", "token=secret-b&x=1", "x=1&token=secret-c"] {
            let received = viewer.get(&format!("{MULTIVARIANT}?{viewers_own}")).await;
            assert!(!received.text().contains("secret"), "{}", received.text());
        }
        assert_eq!(origin.requests(MULTIVARIANT), 2, "with x and without");
    });
}
