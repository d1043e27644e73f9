//! Purging part of a timeline: what viewers are told, and what they get.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use harness::origin::{Origin, whole};
use harness::playlist::{Live, PARTS_PER_SEGMENT};
use harness::viewer::Viewer;
use harness::{cdn, following, pass};
use http::{Response, StatusCode};
use node::node::Node;
use purge_log::{Counts, Mode, PurgeRequest, StreamRange, Target, UnixMillis};

const HOST: &str = "live.example";
const PLAYLIST: &str = "/live/v0/playlist.m3u8";

fn stretch(mode: Mode, range: StreamRange) -> PurgeRequest {
    let target = Target::Stream {
        host: HOST.to_owned(),
        path: "/live/".to_owned(),
        range: Some(range),
    };
    PurgeRequest { target, mode }
}

fn purge(node: &Node, first: u64, last: u64) -> Counts {
    node.purge(&stretch(Mode::Hard, StreamRange::Msn { first, last }))
}

fn segment(msn: u64) -> String {
    format!("/live/v0/seg{msn}.m4s")
}

fn serve_segments(origin: &Origin, count: u64) {
    for msn in 0..count {
        let fields = [("cache-control", "max-age=600")];
        origin.serve(&segment(msn), &fields, format!("segment {msn}"));
    }
}

/// A stream of ten segments and two parts of the next.
fn ten_segments(origin: &Origin) -> Live {
    serve_segments(origin, 10);
    Live::start(origin, PLAYLIST, 10 * PARTS_PER_SEGMENT + 2)
}

async fn text_of(viewer: &Viewer, target: &str) -> String {
    let received = viewer.get(target).await;
    assert_eq!(received.status, StatusCode::OK, "{target}");
    received.text().to_owned()
}

/// Whether a playlist names a segment or one of its parts.
fn names(text: &str, msn: u64) -> bool {
    let mut uris = text.split(['\n', '"']);
    let name = format!("seg{msn}.");
    uris.any(|uri| uri.contains(&name) && !uri.ends_with("?_seawall_purged"))
}

#[test]
fn no_playlist_names_what_was_purged_and_the_rest_stays_stored() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _live = ten_segments(&origin);
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let before = text_of(&viewer, PLAYLIST).await;
        for msn in [3, 4, 7] {
            viewer.get(&segment(msn)).await;
        }
        assert_eq!(
            purge(&edge, 3, 4).responses,
            3,
            "two segments, one playlist"
        );
        let after = text_of(&viewer, PLAYLIST).await;
        assert!(!names(&after, 3) && !names(&after, 4), "{after}");
        assert_eq!(after.matches("?_seawall_purged\n").count(), 2);
        let untouched = after
            .replace("#EXT-X-GAP\n", "")
            .replace("?_seawall_purged", "");
        assert_eq!(untouched, before, "nothing else has changed");
        assert_eq!(viewer.get(&segment(7)).await.text(), "segment 7");
        assert_eq!(origin.requests(&segment(7)), 1, "it is still stored");
    });
}

#[test]
fn what_was_purged_is_gone_for_good_and_its_origin_is_not_asked() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _live = ten_segments(&origin);
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        text_of(&viewer, PLAYLIST).await;
        viewer.get(&segment(3)).await;
        purge(&edge, 3, 4);
        for path in [
            segment(3),
            segment(4),
            format!("{}?_seawall_purged", segment(5)),
        ] {
            let gone = viewer.get(&path).await;
            assert_eq!(gone.status, StatusCode::GONE, "{path}");
            assert_eq!(gone.field("cache-control"), "no-store");
            assert_eq!(gone.field("cache-status"), "edge; detail=purged");
            assert_eq!(
                gone.field("proxy-status"),
                "edge; error=http_request_denied"
            );
        }
        assert_eq!(origin.requests(&segment(3)), 1);
        assert_eq!(origin.requests(&segment(4)), 0);
    });
}

#[test]
fn ll_22_versions_that_come_later_are_rewritten_too_and_who_waits_gets_the_next() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = ten_segments(&origin);
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        text_of(&viewer, PLAYLIST).await;
        let held = viewer.start(&format!("{PLAYLIST}?_HLS_msn=10&_HLS_part=2"));
        pass(Duration::from_millis(100)).await;
        purge(&edge, 3, 4);
        pass(Duration::from_millis(100)).await;
        assert!(!held.is_finished(), "a purge is nothing new");
        live.publish();
        let next = held.await.unwrap();
        assert_eq!(next.status, StatusCode::OK);
        assert!(next.text().contains("seg10.2.m4s"));
        assert!(!names(next.text(), 3) && !names(next.text(), 4));
        assert!(next.text().contains("#EXT-X-MEDIA-SEQUENCE:0\n"));
        assert_eq!(origin.requests_exactly(PLAYLIST), 1, "the chain went on");
    });
}

#[test]
fn ll_19_a_hint_in_the_stretch_is_withdrawn_and_its_parts_are_gaps_as_they_come() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = ten_segments(&origin);
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        origin.on("/live/v0/seg10.2.m4s", |_| std::future::pending());
        text_of(&viewer, PLAYLIST).await;
        let waiting = viewer.start("/live/v0/seg10.2.m4s");
        pass(Duration::from_millis(100)).await;
        assert_eq!(origin.requests("/live/v0/seg10.2.m4s"), 1);
        purge(&edge, 10, 11);
        let answered = waiting.await.unwrap().status;
        assert_eq!(answered, StatusCode::NOT_FOUND);
        let now = text_of(&viewer, PLAYLIST).await;
        assert!(!names(&now, 10) && !now.contains("PRELOAD-HINT"), "{now}");
        assert_eq!(now.matches("GAP=YES").count(), 2);
        live.publish_many(4);
        let next = text_of(&viewer, &format!("{PLAYLIST}?_HLS_msn=11&_HLS_part=1")).await;
        assert!(!names(&next, 10) && !names(&next, 11), "{next}");
        assert_eq!(
            origin.requests("/live/v0/seg11.2.m4s"),
            0,
            "nothing is fetched ahead"
        );
        live.publish_many(6);
        let later = text_of(&viewer, &format!("{PLAYLIST}?_HLS_msn=12&_HLS_part=3")).await;
        assert!(!names(&later, 11) && names(&later, 12), "{later}");
        assert!(later.contains("PRELOAD-HINT"));
    });
}

#[test]
fn ll_11_a_delta_update_waits_until_no_player_can_have_the_names_from_before() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = ten_segments(&origin);
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let delta = format!("{PLAYLIST}?_HLS_skip=YES");
        assert!(text_of(&viewer, &delta).await.contains("EXT-X-SKIP"));
        purge(&edge, 1, 1);
        let whole = text_of(&viewer, &delta).await;
        assert!(!whole.contains("EXT-X-SKIP") && whole.contains("EXT-X-GAP"));
        for part in 42..80_u64 {
            pass(Duration::from_millis(500)).await;
            live.publish();
            let (msn, part) = (part / PARTS_PER_SEGMENT, part % PARTS_PER_SEGMENT);
            text_of(
                &viewer,
                &format!("{PLAYLIST}?_HLS_msn={msn}&_HLS_part={part}"),
            )
            .await;
        }
        let later = text_of(&viewer, &delta).await;
        assert!(later.contains("EXT-X-SKIP"), "{later}");
    });
}

#[test]
fn f28_each_tier_rewrites_for_itself_whichever_hears_of_the_purge_first() {
    for first in ["edge", "shield"] {
        cdn(move |t| async move {
            let origin = t.origin("origin");
            let live = ten_segments(&origin);
            let shield = t.node("shield", &["origin"]);
            let edge = t.node("edge", &["shield"]);
            let viewer = t.viewer("edge");
            text_of(&viewer, PLAYLIST).await;
            viewer.get(&segment(3)).await;
            let nodes = match first {
                "edge" => [&edge, &shield],
                _ => [&shield, &edge],
            };
            purge(nodes[0], 3, 3);
            live.publish();
            let next = format!("{PLAYLIST}?_HLS_msn=10&_HLS_part=2");
            assert!(!names(&text_of(&viewer, &next).await, 3), "{first}");
            purge(nodes[1], 3, 3);
            let text = text_of(&viewer, PLAYLIST).await;
            assert_eq!(text, text_of(&t.viewer("shield"), PLAYLIST).await);
            assert_eq!(viewer.get(&segment(3)).await.status, StatusCode::GONE);
            assert_eq!(origin.requests(&segment(3)), 1);
        });
    }
}

#[test]
fn f31_a_stretch_stands_for_renditions_that_come_later() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let _live = ten_segments(&origin);
        viewer.get(&segment(3)).await;
        assert_eq!(
            purge(&edge, 3, 4).responses,
            1,
            "nobody knows where it was: it goes"
        );
        let text = text_of(&viewer, PLAYLIST).await;
        assert!(!names(&text, 3) && !names(&text, 4));
        assert_eq!(viewer.get(&segment(3)).await.status, StatusCode::GONE);
        assert_eq!(viewer.get(&segment(5)).await.status, StatusCode::OK);
    });
}

#[test]
fn f31_a_node_that_starts_learns_of_the_stretches_that_the_log_still_has() {
    cdn(|t| async move {
        let log = t.purge_log("api", 100);
        let origin = t.origin("origin");
        let _live = ten_segments(&origin);
        let range = StreamRange::Msn { first: 3, last: 4 };
        let sequence = log.purge(stretch(Mode::Hard, range));
        let _edge = t.node_with("edge", &["origin"], |config| {
            config.purge = following(&["api"]);
            let purge = config.purge.as_mut().expect("it follows");
            purge.children = None;
        });
        log.applied_by("edge", sequence).await;
        let viewer = t.viewer("edge");
        assert!(!names(&text_of(&viewer, PLAYLIST).await, 3));
        assert_eq!(viewer.get(&segment(3)).await.status, StatusCode::GONE);
    });
}

#[test]
fn a_dry_run_counts_what_a_purge_then_purges() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _live = ten_segments(&origin);
        origin.serve("/live/a/playlist.m3u8", &[], dated());
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let paths = ["/live/a/playlist.m3u8", PLAYLIST, &segment(3), &segment(7)];
        for path in paths {
            text_of(&viewer, path).await;
        }
        let request = stretch(Mode::Hard, StreamRange::Msn { first: 3, last: 4 });
        let counted = edge.purgeable(&request);
        assert_eq!(counted.responses, 3, "two playlists and a segment");
        assert_eq!(edge.purgeable(&request), counted, "nothing has changed");
        assert_eq!(edge.purge(&request), counted);
        assert_eq!(
            edge.purgeable(&request),
            Counts::default(),
            "all of it is gone"
        );
        assert_eq!(edge.purge(&request), Counts::default(), "twice is harmless");
    });
}

#[test]
fn a_stretch_ends_when_the_window_has_left_it_behind() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = ten_segments(&origin);
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        text_of(&viewer, PLAYLIST).await;
        purge(&edge, 3, 4);
        for msn in 10..50 {
            live.publish_many(PARTS_PER_SEGMENT);
            text_of(&viewer, &format!("{PLAYLIST}?_HLS_msn={msn}")).await;
        }
        origin.serve(&segment(3), &[], "asked again");
        assert_eq!(viewer.get(&segment(3)).await.text(), "asked again");
    });
}

/// A playlist that nobody follows: it has ended.
fn plain(lines: &str) -> String {
    format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:0\n{lines}#EXT-X-ENDLIST\n")
}

fn dated() -> String {
    let line = |n: u64| {
        format!(
            "#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:01:{:02}Z\n#EXTINF:4,\nseg{n}.m4s\n",
            n * 4
        )
    };
    plain(&(0..6).map(line).collect::<String>())
}

fn from_to(from: u64, to: u64) -> StreamRange {
    StreamRange::WallClock {
        from: UnixMillis(from),
        to: UnixMillis(to),
    }
}

#[test]
fn a_stored_playlist_is_rewritten_and_no_copy_from_before_is_confirmed() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        serve_segments(&origin, 6);
        let fields = [("etag", "\"a\""), ("cache-control", "max-age=600")];
        origin.serve(PLAYLIST, &fields, dated());
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        assert_eq!(viewer.get(PLAYLIST).await.field("etag"), "\"a\"");
        viewer.get(&segment(2)).await;
        viewer.get(&segment(3)).await;
        edge.purge(&stretch(Mode::Hard, from_to(69_000, 70_000)));
        let again = viewer
            .get_with(PLAYLIST, &[("if-none-match", "\"a\"")])
            .await;
        assert_eq!(again.status, StatusCode::OK);
        assert!(!names(again.text(), 2) && names(again.text(), 3));
        assert_eq!(again.field("etag"), "");
        assert_eq!(viewer.get(&segment(2)).await.status, StatusCode::GONE);
        viewer.get(&segment(3)).await;
        assert_eq!(origin.requests(&segment(3)), 1, "still stored");
        viewer.get(PLAYLIST).await;
        assert_eq!(origin.requests(PLAYLIST), 2, "rewritten once, then stored");
    });
}

#[test]
fn without_dates_a_stretch_of_wall_clock_time_is_all_of_a_rendition() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.serve(PLAYLIST, &[], plain("#EXTINF:4,\nseg0.m4s\n"));
        origin.serve("/live/a/playlist.m3u8", &[], dated());
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        edge.purge(&stretch(Mode::Hard, from_to(60_000, 61_000)));
        assert!(!names(&text_of(&viewer, PLAYLIST).await, 0));
        let dated = text_of(&viewer, "/live/a/playlist.m3u8").await;
        assert!(!names(&dated, 0) && names(&dated, 1));
    });
}

#[test]
fn a_playlist_of_i_frames_loses_what_is_gone_and_denies_nothing_by_its_own_numbers() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _live = ten_segments(&origin);
        let entry = |n: u64| format!("#EXTINF:1,\n#EXT-X-BYTERANGE:9@0\nseg{n}.m4s\n");
        let entries: String = (0..10).map(|n| entry(n) + &entry(n)).collect();
        let i_frames = plain(&format!("#EXT-X-I-FRAMES-ONLY\n{entries}"));
        origin.serve(
            "/live/v0/i.m3u8",
            &[("cache-control", "max-age=1")],
            i_frames,
        );
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        text_of(&viewer, "/live/v0/i.m3u8").await;
        purge(&edge, 3, 3);
        let unknown = text_of(&viewer, "/live/v0/i.m3u8").await;
        assert_eq!(
            unknown.matches("EXT-X-GAP").count(),
            20,
            "nobody knows which"
        );
        assert_eq!(viewer.get(&segment(7)).await.status, StatusCode::OK);
        text_of(&viewer, PLAYLIST).await;
        pass(Duration::from_secs(2)).await;
        let known = text_of(&viewer, "/live/v0/i.m3u8").await;
        assert_eq!(known.matches("EXT-X-GAP").count(), 2, "{known}");
        assert!(!names(&known, 3));
        assert_eq!(viewer.get(&segment(3)).await.status, StatusCode::GONE);
        assert_eq!(viewer.get(&segment(7)).await.status, StatusCode::OK);
    });
}

#[test]
fn a_resource_that_others_share_is_purged_once_and_comes_back() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let list = plain(
            "#EXTINF:4,\n#EXT-X-BYTERANGE:5@0\nall.mp4\n#EXTINF:4,\n#EXT-X-BYTERANGE:6\nall.mp4\n",
        );
        origin.serve(PLAYLIST, &[("cache-control", "max-age=600")], list);
        origin.on("/live/v0/all.mp4", |asked| async move {
            let body = Bytes::from(format!("{}0000111111", asked.before));
            let reply = Response::builder().header("cache-control", "max-age=600");
            reply
                .body(whole(body))
                .expect("a scripted reply is well formed")
        });
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        text_of(&viewer, PLAYLIST).await;
        viewer.get("/live/v0/all.mp4").await;
        purge(&edge, 0, 0);
        let after = text_of(&viewer, PLAYLIST).await;
        let rest = "#EXT-X-GAP\nall.mp4?_seawall_purged\n#EXTINF:4,\n#EXT-X-BYTERANGE:6@5\nall.mp4\n#EXT-X-ENDLIST\n";
        assert!(after.ends_with(rest), "{after}");
        assert!(viewer.get("/live/v0/all.mp4").await.text().starts_with('1'));
        viewer.get(PLAYLIST).await;
        assert!(viewer.get("/live/v0/all.mp4").await.text().starts_with('1'));
    });
}

#[test]
fn f27_a_playlist_that_was_being_read_is_not_stored_as_it_was() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let opening = Arc::clone(&gate);
        origin.on(PLAYLIST, move |_| {
            let gate = Arc::clone(&opening);
            async move {
                let passed = gate.acquire().await.expect("the gate is never closed");
                passed.forget();
                let reply = Response::builder().header("cache-control", "max-age=600");
                reply
                    .body(whole(Bytes::from(dated())))
                    .expect("a scripted reply is well formed")
            }
        });
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let early = viewer.start(PLAYLIST);
        origin.asked_for(PLAYLIST, 1).await;
        purge(&edge, 2, 2);
        gate.add_permits(8);
        assert_eq!(early.await.unwrap().status, StatusCode::OK);
        assert!(!names(&text_of(&viewer, PLAYLIST).await, 2));
    });
}

#[test]
fn a_soft_purge_of_a_stretch_asks_again_and_rewrites_nothing() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _live = ten_segments(&origin);
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let before = text_of(&viewer, PLAYLIST).await;
        viewer.get(&segment(3)).await;
        edge.purge(&stretch(Mode::Soft, StreamRange::Msn { first: 3, last: 3 }));
        assert_eq!(text_of(&viewer, PLAYLIST).await, before);
        assert_eq!(viewer.get(&segment(3)).await.status, StatusCode::OK);
        assert_eq!(origin.requests(&segment(3)), 2);
    });
}

#[test]
fn a_dash_presentation_is_purged_as_a_whole() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let mpd = "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\"></MPD>";
        origin.serve(
            "/live/manifest.mpd",
            &[("cache-control", "max-age=600")],
            mpd,
        );
        serve_segments(&origin, 2);
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for path in ["/live/manifest.mpd", &segment(0), &segment(1)] {
            viewer.get(path).await;
        }
        let counts = edge.purge(&stretch(Mode::Hard, from_to(0, 1000)));
        assert_eq!(counts.responses, 3);
        viewer.get(&segment(0)).await;
        assert_eq!(origin.requests(&segment(0)), 2);
    });
}

#[test]
fn a_stream_beside_the_purged_one_is_passed_on_byte_for_byte() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _live = ten_segments(&origin);
        let other = Live::start(&origin, "/other/v0/playlist.m3u8", 42);
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        text_of(&viewer, PLAYLIST).await;
        purge(&edge, 3, 4);
        assert_eq!(
            text_of(&viewer, "/other/v0/playlist.m3u8").await,
            other.text()
        );
    });
}
