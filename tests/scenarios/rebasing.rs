//! Streams that begin again, and origins that count otherwise, shown as going on (`live.rebase`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use harness::origin::{Origin, ok, whole};
use harness::{Live, Viewer, cdn, pass};
use media::hls::{Limits, MediaPlaylist, Playlist};

const PLAYLIST: &str = "/live/v0/playlist.m3u8";
const SIBLING: &str = "/live/v1/playlist.m3u8";

fn media(text: &str) -> MediaPlaylist {
    let text = Bytes::copy_from_slice(text.as_bytes());
    match Playlist::parse(text, &Limits::default()) {
        Ok(Playlist::Media(playlist)) => playlist,
        other => panic!("no media playlist: {other:?}"),
    }
}

async fn playlist_at(viewer: &Viewer, path: &str) -> MediaPlaylist {
    media(viewer.get(path).await.text())
}

/// Lets a viewer ask until the playlist has a run that follows another one; it never goes back meanwhile.
async fn watch_until_marked(viewer: &Viewer, path: &str, before: Option<&str>) -> MediaPlaylist {
    let mut last: Option<MediaPlaylist> = None;
    for _ in 0..600 {
        let answer = viewer.get(path).await;
        if answer.status.is_success() {
            let playlist = media(answer.text());
            if let Some(last) = &last {
                assert!(playlist.last_position() >= last.last_position());
                assert!(playlist.media_sequence() >= last.media_sequence());
            }
            let mark = mark_of(&playlist);
            if mark.is_some() && mark.as_deref() != before {
                return playlist;
            }
            last = Some(playlist);
        }
        pass(Duration::from_millis(100)).await;
    }
    panic!("no run followed another one");
}

fn mark_of(playlist: &MediaPlaylist) -> Option<String> {
    let newest = playlist.parts().next_back()?;
    let (_, mark) = newest.uri.split_once("?_seawall_run=")?;
    Some(mark.to_owned())
}

/// Serves `paths` with bytes that say which broadcast they are of; returns the switch.
fn of_two_broadcasts(origin: &Origin, paths: &[&str]) -> Arc<AtomicBool> {
    let has_restarted = Arc::new(AtomicBool::new(false));
    for path in paths {
        let has_restarted = Arc::clone(&has_restarted);
        origin.on(path, move |_| {
            let body: &[u8] = match has_restarted.load(Ordering::Relaxed) {
                true => b"new",
                false => b"old",
            };
            async move { ok(whole(Bytes::from_static(body))) }
        });
    }
    has_restarted
}

#[test]
fn fm_14_ca_07_a_restart_goes_on_with_the_next_number_and_each_name_keeps_its_bytes() {
    let paths = [
        "/live/v0/init.mp4",
        "/live/v0/seg3.m4s",
        "/live/v0/seg9.m4s",
        "/live/v0/seg0.0.m4s",
    ];
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 40);
        let has_restarted = of_two_broadcasts(&origin, &paths);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        assert_eq!(playlist_at(&viewer, PLAYLIST).await.open_msn().0, 10);
        for path in ["/live/v0/init.mp4", "/live/v0/seg9.m4s"] {
            assert_eq!(viewer.get(path).await.body, "old");
        }
        has_restarted.store(true, Ordering::Relaxed);
        live.go_back_to(2);
        let now = watch_until_marked(&viewer, PLAYLIST, None).await;
        assert_eq!(
            now.open_msn().0,
            10,
            "what was not there yet is the new broadcast's"
        );
        let kept: Vec<_> = now.segments().filter(|segment| !segment.is_gap).collect();
        assert_eq!(kept.len(), 1, "only what is stored is promised");
        assert_eq!((kept[0].msn.0, kept[0].uri), (9, "seg9.m4s"));
        assert!(
            now.text()
                .windows(20)
                .any(|at| at == b"#EXT-X-DISCONTINUITY")
        );
        let mark = mark_of(&now).unwrap();
        for (name, body) in [
            ("seg9.m4s".to_owned(), "old"),
            ("init.mp4".to_owned(), "old"),
            (format!("init.mp4?_seawall_run={mark}"), "new"),
            (format!("seg0.0.m4s?_seawall_run={mark}"), "new"),
        ] {
            assert_eq!(
                viewer.get(&format!("/live/v0/{name}")).await.body,
                body,
                "{name}"
            );
        }
        let gone = viewer.get("/live/v0/seg3.m4s").await;
        assert_eq!(gone.status, 404);
        assert_eq!(
            origin.requests("/live/v0/seg3.m4s"),
            0,
            "it would be another one"
        );
        assert_eq!(
            origin.requests_exactly("/live/v0/seg0.0.m4s"),
            1,
            "without its mark"
        );
    });
}

#[test]
fn ll_02_who_waits_at_an_edge_is_released_by_what_comes_after_the_restart() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 120);
        let _shield = t.node("shield", &["origin"]);
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let held = viewer.start(&format!("{PLAYLIST}?_HLS_msn=30&_HLS_part=1"));
        pass(Duration::from_millis(100)).await;
        origin.cut_connections();
        live.go_back_to(1);
        for _ in 0..3 {
            pass(Duration::from_millis(500)).await;
            live.publish();
        }
        let held = held.await.unwrap();
        assert_eq!(held.status, 200);
        let playlist = media(held.text());
        assert!(mark_of(&playlist).is_some());
        assert!(playlist.last_position().unwrap().msn.0 >= 30);
        // It goes on with the same numbers, and the edge knows nothing of it.
        live.publish();
        let (msn, parts) = (playlist.open_msn().0, playlist.open_parts().len() + 1);
        let next = format!("{PLAYLIST}?_HLS_msn={msn}&_HLS_part={}", parts - 1);
        let next = media(viewer.get(&next).await.text());
        assert!(next.last_position() > playlist.last_position());
        assert_eq!(mark_of(&next), mark_of(&playlist));
    });
}

#[test]
fn ca_08_an_origin_that_counts_from_elsewhere_takes_over_without_a_jump() {
    cdn(|t| async move {
        let names = ["origin-1", "origin-2"];
        let origins = names.map(|name| t.origin(name));
        let _first = Live::start(&origins[0], PLAYLIST, 40);
        let second = Live::start(&origins[1], PLAYLIST, 4000);
        let _edge = t.node("edge", &names);
        let viewer = t.viewer("edge");
        assert_eq!(playlist_at(&viewer, PLAYLIST).await.open_msn().0, 10);
        t.network().set_up("origin-1", false);
        origins[0].cut_connections();
        for _ in 0..8 {
            pass(Duration::from_millis(500)).await;
            second.publish();
        }
        let now = watch_until_marked(&viewer, PLAYLIST, None).await;
        assert!(now.open_msn().0 < 40, "{}", now.open_msn());
        let newest = now.segments().last().unwrap();
        assert!(newest.uri.starts_with("seg100"), "{}", newest.uri);
        second.publish();
        let next = now.next_position();
        let (msn, part) = (next.msn.0, next.part_index.unwrap());
        let target = format!("{PLAYLIST}?_HLS_msn={msn}&_HLS_part={part}");
        let directed = media(viewer.get(&target).await.text());
        assert!(directed.last_position() >= Some(next));
    });
}

#[test]
fn ca_08_renditions_of_a_presentation_begin_the_same_run() {
    let multivariant = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv0/playlist.m3u8\n\
                        #EXT-X-STREAM-INF:BANDWIDTH=2\nv1/playlist.m3u8\n";
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.serve(
            "/live/main.m3u8",
            &[("cache-control", "max-age=600")],
            multivariant,
        );
        // One of them had got further than the other when the encoder stopped.
        let lives =
            [(PLAYLIST, 40), (SIBLING, 44)].map(|(path, parts)| Live::start(&origin, path, parts));
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get("/live/main.m3u8").await;
        for path in [PLAYLIST, SIBLING] {
            viewer.get(path).await;
        }
        origin.cut_connections();
        lives.iter().for_each(|live| live.go_back_to(5));
        let sibling = watch_until_marked(&viewer, SIBLING, None).await;
        let first = watch_until_marked(&viewer, PLAYLIST, None).await;
        assert_eq!(mark_of(&first), mark_of(&sibling));
        assert_eq!(first.open_msn(), sibling.open_msn());
        let discontinuities = |playlist: &MediaPlaylist| {
            let among = playlist
                .segments()
                .filter(|segment| segment.is_discontinuity);
            playlist.discontinuity_sequence() + among.count() as u64
        };
        assert_eq!(discontinuities(&first), discontinuities(&sibling));
    });
}

#[test]
fn ca_08_a_rendition_that_nobody_watched_before_joins_the_run_of_the_others() {
    let multivariant = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv0/playlist.m3u8\n\
                        #EXT-X-STREAM-INF:BANDWIDTH=2\nv1/playlist.m3u8\n";
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.serve(
            "/live/main.m3u8",
            &[("cache-control", "max-age=600")],
            multivariant,
        );
        let live = Live::start(&origin, PLAYLIST, 40);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get("/live/main.m3u8").await;
        viewer.get(PLAYLIST).await;
        origin.cut_connections();
        live.go_back_to(5);
        let first = watch_until_marked(&viewer, PLAYLIST, None).await;
        let _late = Live::start(&origin, SIBLING, 5);
        let late = playlist_at(&viewer, SIBLING).await;
        assert_eq!(mark_of(&late), mark_of(&first));
        assert_eq!(late.open_msn(), first.open_msn());
    });
}

#[test]
fn fm_14_after_a_second_restart_the_marks_of_the_first_name_nothing_new() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 40);
        origin.serve("/live/v0/seg0.0.m4s", &[], "part");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        live.go_back_to(9);
        let first = watch_until_marked(&viewer, PLAYLIST, None).await;
        let mark = mark_of(&first).unwrap();
        live.go_back_to(2);
        let second = watch_until_marked(&viewer, PLAYLIST, Some(&mark)).await;
        assert!(second.last_position() > first.last_position());
        assert!(second.media_sequence() >= first.media_sequence());
        let gone = format!("/live/v0/seg0.1.m4s?_seawall_run={mark}");
        assert_eq!(viewer.get(&gone).await.status, 404);
        assert_eq!(origin.requests("/live/v0/seg0.1.m4s"), 0);
    });
}

#[test]
fn ll_11_no_delta_update_reaches_back_over_a_restart() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 80);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let skipping = format!("{PLAYLIST}?_HLS_skip=YES");
        assert!(viewer.get(&skipping).await.text().contains("EXT-X-SKIP"));
        live.go_back_to(2);
        watch_until_marked(&viewer, PLAYLIST, None).await;
        let whole = viewer.get(&skipping).await;
        assert!(!whole.text().contains("EXT-X-SKIP"));
        for _ in 0..30 {
            pass(Duration::from_millis(500)).await;
            live.publish();
            viewer.get(PLAYLIST).await;
        }
        let again = viewer.get(&skipping).await;
        assert!(
            again.text().contains("EXT-X-SKIP"),
            "after the skip boundary"
        );
    });
}

#[test]
fn ll_10_what_begins_after_an_end_is_a_stream_of_its_own() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 40);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        live.end();
        pass(Duration::from_secs(1)).await;
        live.begin_again(4);
        for _ in 0..600 {
            let playlist = playlist_at(&viewer, PLAYLIST).await;
            if !playlist.is_ended() {
                assert_eq!(playlist.media_sequence().0, 0);
                assert_eq!(mark_of(&playlist), None);
                return;
            }
            pass(Duration::from_millis(100)).await;
        }
        panic!("it was not noticed");
    });
}
