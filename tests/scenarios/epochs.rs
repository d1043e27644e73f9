//! Encoders that begin again under the same names, shown as they are (`live.rebase = false`), and origins that take over from each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use harness::origin::{Origin, ok, whole};
use harness::{Feed, Live, Viewer, cdn, pass};
use node::node::NodeConfig;

const PLAYLIST: &str = "/live/v0/playlist.m3u8";

/// Shows a stream that begins again with its own numbers.
fn showing_restarts(config: &mut NodeConfig) {
    Arc::make_mut(&mut config.rules.fallback).live.rebases = false;
}

/// Serves `paths` with bytes that say whether the stream had begun again; returns the switch.
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

/// Lets a viewer ask until the playlist no longer lists `gone`.
async fn watch_until_gone(viewer: &Viewer, gone: &str) {
    for _ in 0..600 {
        let playlist = viewer.get(PLAYLIST).await;
        if playlist.status.is_success() && !playlist.text().contains(gone) {
            return;
        }
        pass(Duration::from_millis(100)).await;
    }
    panic!("the playlist still lists {gone}");
}

#[test]
fn fm_14_ca_07_after_a_restart_nothing_of_the_last_broadcast_is_served_under_its_names() {
    let paths = [
        "/live/v0/init.mp4",
        "/live/v0/seg0.m4s",
        "/live/v0/seg5.m4s",
        "/live/v0/seg9.0.m4s",
    ];
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 40);
        let has_restarted = of_two_broadcasts(&origin, &paths);
        origin.serve(
            "/live/v1/seg5.m4s",
            &[("cache-control", "max-age=600")],
            "1",
        );
        let _edge = t.node_with("edge", &["origin"], showing_restarts);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        for path in paths {
            assert_eq!(viewer.get(path).await.body, "old");
        }
        viewer.get("/live/v1/seg5.m4s").await;
        has_restarted.store(true, Ordering::Relaxed);
        live.go_back_to(2);
        watch_until_gone(&viewer, "seg9.m4s").await;
        for path in paths {
            assert_eq!(viewer.get(path).await.body, "new", "{path}");
        }
        viewer.get("/live/v1/seg5.m4s").await;
        let elsewhere = origin.requests("/live/v1/seg5.m4s");
        assert_eq!(elsewhere, 1, "what is not of this rendition stays");
    });
}

#[test]
fn fm_14_a_fill_of_the_last_broadcast_is_neither_joined_nor_stored_after_a_restart() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 40);
        let feed = Arc::new(parking_lot::Mutex::new(None));
        let fed = Arc::clone(&feed);
        origin.on("/live/v0/seg9.m4s", move |asked| {
            let (feed, body) = Feed::new();
            let body = match asked.before {
                0 => {
                    *fed.lock() = Some(feed);
                    body
                }
                _ => whole(Bytes::from_static(b"new")),
            };
            async { ok(body) }
        });
        let _edge = t.node_with("edge", &["origin"], |config| {
            config.limits.stall_timeout = Duration::from_secs(600);
            config.live.hold_max = Duration::from_secs(4);
            showing_restarts(config);
        });
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let early = viewer.start("/live/v0/seg9.m4s");
        origin.asked_for("/live/v0/seg9.m4s", 1).await;
        let feed = feed.lock().take().expect("it was asked for");
        feed.send("old").await;
        pass(Duration::from_millis(10)).await;
        live.go_back_to(2);
        watch_until_gone(&viewer, "seg9.m4s").await;
        assert_eq!(viewer.get("/live/v0/seg9.m4s").await.body, "new");
        drop(feed);
        assert_eq!(early.await.unwrap().body, "old", "as it was asked for");
        assert_eq!(viewer.get("/live/v0/seg9.m4s").await.body, "new");
        assert_eq!(origin.requests("/live/v0/seg9.m4s"), 2);
    });
}

#[test]
fn ca_08_all_renditions_of_a_presentation_fail_over_together_and_stay() {
    let renditions = ["/live/v0/playlist.m3u8", "/live/v1/playlist.m3u8"];
    cdn(|t| async move {
        let names = ["origin-1", "origin-2"];
        let origins = names.map(|name| t.origin(name));
        let lives: Vec<Live> = origins
            .iter()
            .flat_map(|origin| renditions.map(|path| Live::start(origin, path, 40)))
            .collect();
        let _edge = t.node("edge", &names);
        let viewer = t.viewer("edge");
        for path in renditions {
            viewer.get(path).await;
        }
        let asked_of_second = origins[1].asked().len();
        assert_eq!(asked_of_second, 0);
        t.network().set_up("origin-1", false);
        origins[0].cut_connections();
        pass(Duration::from_secs(1)).await;
        t.network().set_up("origin-1", true);
        let asked_of_first = origins[0].asked().len();
        for part in 0..8 {
            lives.iter().for_each(Live::publish);
            let (msn, part) = (10 + part / 4, part % 4);
            for path in renditions {
                let target = format!("{path}?_HLS_msn={msn}&_HLS_part={part}");
                let playlist = viewer.get(&target).await;
                assert!(playlist.text().contains(&format!("seg{msn}.{part}.m4s")));
            }
        }
        assert_eq!(origins[0].asked().len(), asked_of_first);
        for path in renditions {
            assert!(origins[1].requests(path) >= 8, "{path}");
        }
    });
}

#[test]
fn ll_10_fm_14_a_broadcast_that_begins_under_the_url_of_one_that_ended_is_noticed() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 40);
        let _shield = t.node("shield", &["origin"]);
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        live.end();
        pass(Duration::from_secs(1)).await;
        for _ in 0..60 {
            pass(Duration::from_millis(500)).await;
            assert!(viewer.get(PLAYLIST).await.text().contains("ENDLIST"));
        }
        let asked = origin.requests_exactly(PLAYLIST);
        assert!(asked <= 5, "{asked} times in half a minute");
        live.begin_again(4);
        watch_until_gone(&viewer, "ENDLIST").await;
        let text = viewer.get(PLAYLIST).await;
        assert!(text.text().contains("seg0.m4s"));
        live.publish();
        let directed = format!("{PLAYLIST}?_HLS_msn=1&_HLS_part=0");
        let next = viewer.get(&directed);
        assert!(next.await.text().contains("seg1.0.m4s"), "it is followed");
    });
}

#[test]
fn ll_10_an_ended_playlist_stays_although_its_origin_is_gone() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 40);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        live.end();
        pass(Duration::from_secs(1)).await;
        t.network().set_up("origin", false);
        origin.cut_connections();
        for _ in 0..30 {
            pass(Duration::from_secs(1)).await;
            let ended = viewer.get(PLAYLIST).await;
            assert!(ended.text().contains("ENDLIST"));
        }
    });
}
