//! What players ask beside playlists and media, and what they rely on when a stream stumbles.

use std::time::Duration;

use bytes::Bytes;
use harness::origin::{ok, status, whole};
use harness::{Live, cdn, pass};
use http::{HeaderName, HeaderValue, StatusCode};
use node::rules::{Rule, Rules};
use tokio::time::Instant;

fn playlist(rendition: usize) -> String {
    format!("/live/v{rendition}/playlist.m3u8")
}

#[test]
fn lb_08_four_renditions_reach_viewers_within_a_part_of_each_other_through_two_nodes() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let lives: Vec<Live> = (0..4)
            .map(|rendition| Live::start(&origin, &playlist(rendition), 8))
            .collect();
        let _shield = t.node("shield", &["origin"]);
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        for rendition in 0..4 {
            viewer.get(&playlist(rendition)).await;
        }
        for part in 0..8 {
            let (msn, part) = (2 + part / 4, part % 4);
            let directed = |rendition| {
                let playlist = playlist(rendition);
                format!("{playlist}?_HLS_msn={msn}&_HLS_part={part}")
            };
            let held: Vec<_> = (0..4)
                .map(|rendition| viewer.start(&directed(rendition)))
                .collect();
            pass(Duration::from_millis(500)).await;
            assert!(held.iter().all(|held| !held.is_finished()));
            let published = Instant::now();
            lives.iter().for_each(Live::publish);
            for held in held {
                assert_eq!(held.await.unwrap().status, StatusCode::OK);
                let spread = published.elapsed();
                assert!(spread < Duration::from_millis(500), "{spread:?} virtual");
            }
        }
    });
}

#[test]
fn fm_08_a_rendition_that_players_left_in_a_stall_is_warm_when_they_come_back() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let lives = [0, 1].map(|rendition| Live::start(&origin, &playlist(rendition), 8));
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let directed = |rendition| format!("{}?_HLS_msn=2&_HLS_part=0", playlist(rendition));
        for rendition in [0, 1] {
            viewer.get(&playlist(rendition)).await;
        }
        let watching = viewer.start(&directed(0));
        pass(Duration::from_secs(2)).await;
        // The player gives up and tries the other rendition, which stalls as well.
        watching.abort();
        let elsewhere = viewer.start(&directed(1));
        pass(Duration::from_secs(2)).await;
        elsewhere.abort();
        pass(Duration::from_secs(2)).await;
        let asked = origin.asked().len();
        lives.iter().for_each(Live::publish);
        pass(Duration::from_millis(100)).await;
        for rendition in [0, 1] {
            let back = viewer.get(&directed(rendition)).await;
            assert!(back.text().contains("seg2.0.m4s"));
            assert_eq!(origin.requests_exactly(&directed(rendition)), 1);
            assert_eq!(origin.requests_exactly(&playlist(rendition)), 1);
        }
        let later = origin.asked()[asked..].to_vec();
        assert!(
            later
                .iter()
                .all(|asked| asked.path() != playlist(0)
                    || asked.parameter("_HLS_part") == Some("1")),
            "the chain went on with the next part"
        );
        let text = edge.telemetry().render();
        assert!(text.contains("seawall_hold_seconds_count{result=\"left\"} 2"));
    });
}

#[test]
fn lb_02_playlists_ask_to_go_before_media_unless_the_origin_knows_better() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, &playlist(0), 8);
        let fields = [("cache-control", "max-age=60")];
        origin.serve("/live/index.mpd", &fields, "<MPD/>");
        origin.serve("/live/v0/seg1.m4s", &fields, "media");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for _ in 0..2 {
            for path in [&playlist(0), "/live/index.mpd"] {
                assert_eq!(viewer.get(path).await.field("priority"), "u=1", "{path}");
            }
            let media = viewer.get("/live/v0/seg1.m4s").await;
            assert_eq!(media.field("priority"), "u=3", "behind both");
        }
        live.add_field("priority", "u=2");
        live.publish();
        pass(Duration::from_millis(100)).await;
        assert_eq!(viewer.get(&playlist(0)).await.field("priority"), "u=2");
    });
}

#[test]
fn lb_02_hx_17_media_of_a_live_stream_is_ranked_by_bit_rate_and_the_rank_reaches_every_tier() {
    let multivariant = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=6000000\nv1/playlist.m3u8\n\
                        #EXT-X-STREAM-INF:BANDWIDTH=1000000\nv0/playlist.m3u8\n";
    cdn(|t| async move {
        let origin = t.origin("origin");
        let fields = [("cache-control", "max-age=60")];
        origin.serve("/live/main.m3u8", &fields, multivariant);
        let lives = [0, 1].map(|rendition| Live::start(&origin, &playlist(rendition), 9));
        for part in ["v0/seg2.1.m4s", "v1/seg2.1.m4s"] {
            origin.serve(&format!("/live/{part}"), &fields, "media");
        }
        let knows_better = [("cache-control", "max-age=60"), ("priority", "u=2")];
        origin.serve("/live/v1/seg2.0.m4s", &knows_better, "media");
        let _shield = t.node("shield", &["origin"]);
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        viewer.get("/live/main.m3u8").await;
        for rendition in [0, 1] {
            viewer.get(&playlist(rendition)).await;
        }
        lives.iter().for_each(Live::publish);
        pass(Duration::from_millis(100)).await;
        for (path, urgency) in [
            ("/live/v0/seg2.1.m4s", "u=3"),
            ("/live/v1/seg2.1.m4s", "u=4"),
            ("/live/v1/seg2.0.m4s", "u=2"),
        ] {
            for node in ["edge", "shield"] {
                let media = t.viewer(node).get(path).await;
                assert_eq!(media.status, StatusCode::OK, "{path} of {node}");
                assert_eq!(media.field("priority"), urgency, "{path} of {node}");
            }
        }
    });
}

#[test]
fn fm_24_lt_04_a_report_says_what_each_node_has_of_the_sibling_and_not_what_its_origin_will_have() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let lives = [0, 1].map(|rendition| Live::start(&origin, &playlist(rendition), 9));
        let ahead = "#EXT-X-RENDITION-REPORT:URI=\"../v1/playlist.m3u8\",LAST-MSN=2,LAST-PART=3";
        lives[0].add_line(ahead);
        let _shield = t.node("shield", &["origin"]);
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        let unknown = viewer.get(&playlist(0)).await;
        assert!(
            unknown.text().contains(ahead),
            "nobody here has the sibling"
        );
        viewer.get(&playlist(1)).await;
        lives[0].publish();
        pass(Duration::from_millis(100)).await;
        for node in ["edge", "shield"] {
            let text = t.viewer(node).get(&playlist(0)).await;
            let text = text.text();
            assert!(text.contains("seg2.1.m4s"), "{node}");
            assert!(text.contains("LAST-MSN=2,LAST-PART=0\n"), "{node}: {text}");
        }
        // What the report says is here: nobody waits for it.
        let began = Instant::now();
        let target = format!("{}?_HLS_msn=2&_HLS_part=0", playlist(1));
        assert_eq!(viewer.get(&target).await.status, StatusCode::OK);
        assert!(began.elapsed() < Duration::from_millis(100));
        lives[1].publish_many(3);
        pass(Duration::from_millis(100)).await;
        lives[0].publish();
        pass(Duration::from_millis(100)).await;
        let text = viewer.get(&playlist(0)).await;
        let text = text.text();
        assert!(text.contains("LAST-MSN=2,LAST-PART=3\n"), "{text}");
    });
}

#[test]
fn ll_28_a_list_of_assets_that_takes_twenty_seconds_is_waited_for_and_is_one_players() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/ads/break.json", |asked| async move {
            pass(Duration::from_secs(20)).await;
            let player = asked.parameter("_HLS_primary_id").unwrap_or("none");
            ok(whole(Bytes::from(format!("assets for {player}"))))
        });
        let _shield = t.node("shield", &["origin"]);
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        let target = |player| format!("/ads/break.json?_HLS_primary_id={player}");
        let one = viewer.start(&target("one"));
        let other = viewer.start(&target("other"));
        assert_eq!(one.await.unwrap().text(), "assets for one");
        assert_eq!(other.await.unwrap().text(), "assets for other");
        assert_eq!(origin.requests("/ads/break.json"), 2);
        let no_list = viewer.get("/ads/break.json").await;
        assert_eq!(no_list.status, StatusCode::GATEWAY_TIMEOUT);
    });
}

#[test]
fn ca_20_a_redirect_keeps_the_query_it_was_asked_with_and_is_kept_under_it() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/live/v0/playlist.m3u8", |asked| async move {
            let (_, query) = asked.target.split_once('?').expect("it is asked with one");
            let location = format!("https://other.example/v0/playlist.m3u8?{query}");
            let mut reply = status(StatusCode::FOUND);
            let location = HeaderValue::try_from(location).expect("a query is a field value");
            reply.headers_mut().insert("location", location);
            let lifetime = HeaderValue::from_static("max-age=60");
            reply.headers_mut().insert("cache-control", lifetime);
            reply
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for _ in 0..2 {
            for query in ["t=a~b%2Fc", "t=d&_HLS_msn=7&_HLS_part=1"] {
                let received = viewer.get(&format!("{}?{query}", playlist(0))).await;
                assert_eq!(received.status, StatusCode::FOUND);
                let (_, kept) = received.field("location").split_once('?').unwrap();
                let sorted = |query: &str| {
                    let mut parameters: Vec<_> = query.split('&').map(str::to_owned).collect();
                    parameters.sort();
                    parameters
                };
                assert_eq!(sorted(kept), sorted(query));
            }
        }
        let asked = origin.requests(&playlist(0));
        assert_eq!(
            asked, 3,
            "each was kept; to follow it, the second was asked for without a position"
        );
    });
}

#[test]
fn hx_07_a_trace_is_passed_on_where_a_rule_lets_it_and_splits_no_fill() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let (feed, body) = harness::Feed::new();
        let body = std::sync::Mutex::new(Some(body));
        origin.on("/live/v0/seg1.m4s", move |_| {
            let body = body.lock().expect("nobody panics while asking").take();
            async { ok(body.expect("asked once")) }
        });
        let _edge = t.node_with("edge", &["origin"], |config| {
            let fallback = Rule {
                forwarded_fields: ["traceparent", "tracestate"]
                    .map(HeaderName::from_static)
                    .to_vec(),
                ..Rule::default()
            };
            config.rules = Rules {
                fallback: std::sync::Arc::new(fallback),
                ..Rules::default()
            };
        });
        let viewer = t.viewer("edge");
        const TRACES: [(&str, &str); 2] = [
            (
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ),
            (
                "traceparent",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            ),
        ];
        let readers = TRACES.map(|trace| viewer.start_with("/live/v0/seg1.m4s", &[trace]));
        origin.asked_for("/live/v0/seg1.m4s", 1).await;
        feed.send("media").await;
        drop(feed);
        for reader in readers {
            assert_eq!(reader.await.unwrap().body, "media");
        }
        let asked = origin.asked();
        assert_eq!(asked.len(), 1);
        let passed = asked[0].fields["traceparent"].to_str().unwrap().to_owned();
        assert!(TRACES.iter().any(|(_, trace)| *trace == passed));
    });
}

#[test]
fn st_01_what_a_steering_server_says_to_a_throughput_is_not_kept_or_shared() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/steer", |asked| async move {
            ok(whole(Bytes::from(asked.target)))
        });
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for name in ["_HLS_throughput", "_DASH_throughput"] {
            for throughput in 0..100 {
                let target = format!("/steer?{name}={throughput}");
                assert_eq!(viewer.get(&target).await.text(), target);
            }
        }
        assert_eq!(edge.levels().store_responses, 0);
        viewer.get("/steer?_HLS_pathway=a").await;
        viewer.get("/steer?_HLS_pathway=a").await;
        assert_eq!(
            edge.levels().store_responses,
            1,
            "without one, it may be kept"
        );
        assert_eq!(origin.requests("/steer"), 201);
    });
}
