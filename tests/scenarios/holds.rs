//! Blocking reload: who is held, until when, and what releases them (rfc8216bis 6.2.5.2).

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use harness::origin::{Origin, ok, whole};
use harness::{Live, cdn, pass};
use http::StatusCode;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::watch;
use tokio::task::JoinSet;

const PLAYLIST: &str = "/live/v0/playlist.m3u8";

fn directed(msn: u64, part: u64) -> String {
    format!("{PLAYLIST}?_HLS_msn={msn}&_HLS_part={part}")
}

#[test]
fn ll_01_a_whole_segment_is_waited_for_until_it_is_complete() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 10 * 4 + 1);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        assert!(viewer.get(PLAYLIST).await.text().contains("seg10.0.m4s"));
        let held = viewer.start(&format!("{PLAYLIST}?_HLS_msn=10"));
        for part in 1..=2 {
            live.publish();
            viewer.get(&directed(10, part)).await;
            assert!(
                !held.is_finished(),
                "parts of 10 do not satisfy a request for segment 10"
            );
        }
        live.publish();
        let received = held.await.unwrap();
        assert!(received.text().contains("\nseg10.m4s\n"));
    });
}

#[test]
fn ll_02_a_part_is_waited_for_and_its_version_releases_everyone_at_once() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 11 * 4 + 3);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let held: Vec<_> = (0..50).map(|_| viewer.start(&directed(11, 3))).collect();
        origin.asked_for_exactly(&directed(11, 3)).await;
        assert!(held.iter().all(|h| !h.is_finished()));
        live.publish();
        for held in held {
            assert!(held.await.unwrap().text().contains("seg11.3.m4s"));
        }
        assert_eq!(origin.requests_exactly(&directed(11, 3)), 1);
    });
}

#[test]
fn ll_03_a_part_past_the_end_of_its_segment_means_part_zero_of_the_next() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 12 * 4);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let held = viewer.start(&directed(11, 4));
        origin.asked_for_exactly(&directed(12, 0)).await;
        assert!(!held.is_finished());
        live.publish();
        assert!(held.await.unwrap().text().contains("seg12.0.m4s"));
        let at_once = viewer.get(&directed(11, 4)).await;
        assert_eq!(at_once.status, StatusCode::OK);
    });
}

#[test]
fn ll_04_an_old_position_gets_the_newest_playlist_at_once() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        Live::start(&origin, PLAYLIST, 30 * 4);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let received = viewer.get(&directed(3, 0)).await;
        assert_eq!(received.status, StatusCode::OK);
        assert!(
            received.text().contains("seg29.m4s"),
            "the newest, not the one asked for"
        );
        assert_eq!(origin.requests_exactly(&directed(3, 0)), 0);
    });
}

#[test]
fn ll_05_a_part_without_a_sequence_number_is_refused_without_asking_the_origin() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        Live::start(&origin, PLAYLIST, 8);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let received = viewer.get(&format!("{PLAYLIST}?_HLS_part=1")).await;
        assert_eq!(received.status, StatusCode::BAD_REQUEST);
        assert!(received.text().contains("_HLS_part needs _HLS_msn"));
        assert_eq!(origin.asked().len(), 0);
    });
}

#[test]
fn ll_06_directives_that_are_no_numbers_are_refused_and_never_stored() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        Live::start(&origin, PLAYLIST, 8);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for value in ["abc", "-1", "18446744073709551616", ""] {
            let received = viewer.get(&format!("{PLAYLIST}?_HLS_msn={value}")).await;
            assert_eq!(received.status, StatusCode::BAD_REQUEST, "{value:?}");
            assert_eq!(received.field("cache-control"), "no-store");
        }
        assert_eq!(origin.asked().len(), 0);
        assert_eq!(viewer.get(PLAYLIST).await.status, StatusCode::OK);
    });
}

#[test]
fn ll_07_a_sequence_number_more_than_two_ahead_is_refused_at_once() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        Live::start(&origin, PLAYLIST, 11 * 4);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let refused = viewer.get(&format!("{PLAYLIST}?_HLS_msn=13")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert_eq!(
            origin.requests_exactly(&format!("{PLAYLIST}?_HLS_msn=13")),
            0
        );
        let held = viewer.start(&format!("{PLAYLIST}?_HLS_msn=12"));
        pass(Duration::from_secs(1)).await;
        assert!(!held.is_finished());
        held.abort();
    });
}

#[test]
fn ll_08_a_part_beyond_the_advance_part_limit_is_refused_at_once() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        // The last part is 12.1; with 500 ms parts the advance part limit is 6.
        Live::start(&origin, PLAYLIST, 12 * 4 + 2);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let held = viewer.start(&directed(12, 7));
        let refused = viewer.get(&directed(12, 8)).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert!(!held.is_finished());
        held.abort();
    });
}

#[test]
fn ll_09_a_stalled_encoder_ends_holds_with_503_after_three_target_durations() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        Live::start(&origin, PLAYLIST, 8);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let before = tokio::time::Instant::now();
        let received = viewer.get(&directed(2, 0)).await;
        let waited = before.elapsed();
        assert_eq!(received.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(received.field("retry-after"), "1");
        assert_eq!(received.field("cache-control"), "no-store");
        let range = Duration::from_secs(6)..Duration::from_millis(6_500);
        assert!(
            range.contains(&waited),
            "held for {waited:?} of virtual time"
        );
    });
}

#[test]
fn ll_10_the_end_of_the_stream_releases_everyone() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let held: Vec<_> = (0..100).map(|_| viewer.start(&directed(2, 0))).collect();
        origin.asked_for_exactly(&directed(2, 0)).await;
        live.end();
        for held in held {
            let received = held.await.unwrap();
            assert_eq!(received.status, StatusCode::OK);
            assert!(received.text().ends_with("#EXT-X-ENDLIST\n"));
        }
        let later = viewer.get(&directed(900, 0)).await;
        assert_eq!(
            later.status,
            StatusCode::OK,
            "directives are ignored at the end"
        );
    });
}

#[test]
fn ll_11_skip_is_ignored_where_the_playlist_offers_none() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 20 * 4);
        live.end();
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let plain = viewer.get(PLAYLIST).await;
        let skipped = viewer.get(&format!("{PLAYLIST}?_HLS_skip=YES")).await;
        assert_eq!(plain.body, skipped.body);
    });
}

#[test]
fn ll_12_without_blocking_reload_directives_are_ignored_and_nothing_is_held() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:2,\ns7.ts\n";
        let fields = [
            ("content-type", "application/vnd.apple.mpegurl"),
            ("cache-control", "max-age=1"),
        ];
        origin.serve(PLAYLIST, &fields, text);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let target = format!("{PLAYLIST}?_HLS_msn=9");
        let received = viewer.get(&target).await;
        assert_eq!(received.text(), text);
        assert_eq!(origin.requests(PLAYLIST), 1, "it is known here");
    });
}

#[test]
fn ll_12_directives_for_what_is_not_followed_are_forwarded_and_not_held() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:2,\ns7.ts\n";
        origin.serve(PLAYLIST, &[("cache-control", "max-age=1")], text);
        let _edge = t.node_with("edge", &["origin"], |config| {
            Arc::make_mut(&mut config.rules.fallback).live.polls = false;
        });
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let target = format!("{PLAYLIST}?_HLS_msn=9");
        let received = viewer.get(&target).await;
        assert_eq!(received.text(), text);
        assert_eq!(
            origin.requests_exactly(&target),
            1,
            "the origin's answer is relayed"
        );
    });
}

#[test]
fn ll_13_a_delta_update_is_made_here_from_the_full_playlist() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        Live::start(&origin, PLAYLIST, 20 * 4);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let full = viewer.get(PLAYLIST).await;
        let delta = viewer.get(&format!("{PLAYLIST}?_HLS_skip=YES")).await;
        // 20 segments of 2 s, skip boundary 12 s: the first 14 start further from the end.
        assert!(
            delta.text().contains("#EXT-X-SKIP:SKIPPED-SEGMENTS=14\n"),
            "{}",
            delta.text()
        );
        assert!(!delta.text().contains("\nseg13.m4s"));
        assert!(delta.text().contains("\nseg14.m4s"));
        assert!(full.text().contains("\nseg0.m4s"));
        assert_eq!(
            origin.requests(PLAYLIST),
            2,
            "one opening request, one chain request"
        );
    });
}

/// Serves a playlist of two-second segments with date ranges; its server leaves out old ones if asked.
fn dated(origin: &Origin, segments: u64) -> Arc<watch::Sender<(u64, Vec<&'static str>)>> {
    let state = Arc::new(watch::Sender::new((segments, vec!["ad-1", "ad-2"])));
    let served = Arc::clone(&state);
    origin.on(PLAYLIST, move |asked| {
        let mut states = served.subscribe();
        async move {
            let msn = asked.parameter("_HLS_msn").and_then(|v| v.parse().ok());
            let is_there = |state: &(u64, _)| msn.is_none_or(|msn: u64| state.0 > msn);
            let state = states.wait_for(is_there).await;
            let (segments, dates) = state.expect("the stream outlives the scenario").clone();
            let mut text = String::from(
                "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n\
                 #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.0,CAN-SKIP-DATERANGES=YES\n",
            );
            for id in dates {
                writeln!(text, "#EXT-X-DATERANGE:ID=\"{id}\",START-DATE=\"2026-01-01\"")
                    .expect("writing to a string");
            }
            for msn in 0..segments {
                writeln!(text, "#EXTINF:2.0,\nseg{msn}.m4s").expect("writing to a string");
            }
            ok(whole(text.into()))
        }
    });
    state
}

#[test]
fn ll_14_date_ranges_that_every_player_has_are_left_out_of_an_update_of_both_kinds() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let state = dated(&origin, 20);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let skip = |value| format!("{PLAYLIST}?_HLS_skip={value}");
        let early = viewer.get(&skip("v2")).await;
        assert!(early.text().contains("ad-1"), "since when, nobody knows");
        assert!(early.text().contains("SKIPPED-SEGMENTS=14\n"));
        for _ in 0..7 {
            pass(Duration::from_secs(2)).await;
            state.send_modify(|(segments, _)| *segments += 1);
            viewer.get(PLAYLIST).await;
        }
        state.send_modify(|(segments, dates)| {
            *segments += 1;
            *dates = vec!["ad-2", "ad-3"];
        });
        pass(Duration::from_millis(100)).await;
        let full = viewer.get(PLAYLIST).await;
        assert!(full.text().contains("ad-2") && full.text().contains("ad-3"));
        let both = viewer.get(&skip("v2")).await;
        let text = both.text();
        assert!(text.contains("#EXT-X-VERSION:10\n"), "{text}");
        assert!(
            text.contains("#EXT-X-SKIP:SKIPPED-SEGMENTS=22,RECENTLY-REMOVED-DATERANGES=\"ad-1\"\n")
        );
        assert!(!text.contains("ID=\"ad-2\""), "added long ago");
        assert!(text.contains("ID=\"ad-3\""), "added just now");
        let segments = viewer.get(&skip("YES")).await;
        assert!(
            segments
                .text()
                .contains("#EXT-X-SKIP:SKIPPED-SEGMENTS=22\n")
        );
        assert!(segments.text().contains("ID=\"ad-2\""));
        let unknown = viewer.get(&skip("v3")).await;
        assert_eq!(unknown.body, full.body, "the whole is right for everybody");
    });
}

#[test]
fn ca_22_one_held_request_too_many_is_refused_and_the_others_stay() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        let _edge = t.node_with("edge", &["origin"], |config| config.live.held_max = 3);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let held: Vec<_> = (0..3).map(|_| viewer.start(&directed(2, 0))).collect();
        origin.asked_for_exactly(&directed(2, 0)).await;
        tokio::task::yield_now().await;
        let refused = viewer.get(&directed(2, 0)).await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        live.publish();
        for held in held {
            assert_eq!(held.await.unwrap().status, StatusCode::OK);
        }
    });
}

#[test]
fn ca_22_one_held_request_of_a_client_too_many_is_refused_and_other_clients_are_not() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        let edge = t.node_with("edge", &["origin"], |config| {
            config.live.held_per_client_max = Some(2);
            config.live.forwarders = vec!["127.0.0.0/8".parse().unwrap()];
        });
        let viewer = t.viewer("edge");
        let one = [("x-forwarded-for", "203.0.113.9, 198.51.100.1")];
        let other = [("x-forwarded-for", "203.0.113.9, 198.51.100.2")];
        viewer.get(PLAYLIST).await;
        let mut held = vec![
            viewer.start_with(&directed(2, 0), &one),
            viewer.start_with(&directed(2, 0), &one),
            viewer.start_with(&directed(2, 0), &other),
        ];
        origin.asked_for_exactly(&directed(2, 0)).await;
        pass(Duration::from_millis(100)).await;
        let refused = viewer.get_with(&directed(2, 0), &one).await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.field("retry-after"), "1");
        held.push(viewer.start_with(&directed(2, 0), &other));
        let plain = viewer.get_with(PLAYLIST, &one).await;
        assert_eq!(
            plain.status,
            StatusCode::OK,
            "what is not held has no limit"
        );
        live.publish();
        for held in held {
            assert_eq!(held.await.unwrap().status, StatusCode::OK);
        }
        assert_eq!(edge.levels().held_requests, 0);
        let text = edge.telemetry().render();
        assert!(text.contains("seawall_failures_total{failure=\"held_too_many_of_client\"} 1"));
    });
}

#[test]
fn ca_22_one_held_request_of_a_connection_too_many_is_refused_and_other_connections_are_not() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        let edge = t.node_with("edge", &["origin"], |config| {
            config.live.held_per_connection_max = Some(2);
        });
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let pipe = t.network().connect("edge").unwrap();
        let handshake = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(pipe));
        let (connection, driver) = handshake.await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async { driver.await.is_ok() });
        let ask = || {
            let mut connection = connection.clone();
            let uri = format!("http://live.example{}", directed(2, 0));
            let request = http::Request::get(uri).body(Full::<Bytes>::default());
            async move {
                let answer = connection.send_request(request.unwrap()).await;
                answer.expect("the node answers").status()
            }
        };
        let (first, second) = (ask(), ask());
        let mut held = JoinSet::new();
        held.spawn(first);
        held.spawn(second);
        pass(Duration::from_millis(100)).await;
        assert_eq!(edge.levels().held_requests, 2);
        assert_eq!(ask().await, StatusCode::SERVICE_UNAVAILABLE);
        let elsewhere = viewer.start(&directed(2, 0));
        pass(Duration::from_millis(100)).await;
        assert_eq!(edge.levels().held_requests, 3);
        live.publish();
        assert_eq!(held.join_all().await, [StatusCode::OK; 2]);
        assert_eq!(elsewhere.await.unwrap().status, StatusCode::OK);
        let text = edge.telemetry().render();
        assert!(text.contains("seawall_failures_total{failure=\"held_too_many_of_connection\"} 1"));
    });
}

#[test]
fn ca_05_a_node_that_starts_among_viewers_who_wait_for_the_next_part_asks_plainly_once_and_follows()
{
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 20 * 4);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let next = format!("{PLAYLIST}?_HLS_msn=20&_HLS_part=0");
        let delta = format!("{next}&_HLS_skip=YES");
        let held: Vec<_> = (0..100)
            .map(|n| viewer.start(if n % 2 == 0 { &next } else { &delta }))
            .collect();
        pass(Duration::from_millis(10)).await;
        let asked: Vec<_> = origin
            .asked()
            .into_iter()
            .map(|asked| asked.target)
            .collect();
        let asked: Vec<_> = asked
            .iter()
            .filter(|target| target.starts_with(PLAYLIST))
            .collect();
        assert_eq!(
            asked,
            [PLAYLIST, next.as_str()],
            "where it is, and what comes next"
        );
        live.publish();
        for (n, one) in held.into_iter().enumerate() {
            let text = one.await.unwrap().text().to_owned();
            assert!(text.contains("seg20.0.m4s"), "{text}");
            assert_eq!(text.contains("EXT-X-SKIP"), n % 2 == 1, "{text}");
        }
    });
}
