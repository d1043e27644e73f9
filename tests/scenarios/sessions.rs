//! Origins whose sessions end while everybody is served from here (FM-12).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use harness::origin::{Origin, whole};
use harness::{Live, cdn, pass};
use http::{Response, StatusCode};

const MULTIVARIANT: &str = "/live/index.m3u8";
const PLAYLIST: &str = "/live/v0/playlist.m3u8";
const SECOND: &str = "/live/v1/playlist.m3u8";

/// An origin that answers 401 for its renditions until the multivariant playlist was asked for, as MediaMTX
/// does behind a CDN.
struct Session {
    is_open: Arc<AtomicBool>,
}

impl Session {
    fn serve(origin: &Origin) -> Self {
        let is_open = Arc::new(AtomicBool::new(false));
        let opening = Arc::clone(&is_open);
        origin.on(MULTIVARIANT, move |_| {
            opening.store(true, Ordering::SeqCst);
            let text = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv0/playlist.m3u8\n\
                        #EXT-X-STREAM-INF:BANDWIDTH=2\nv1/playlist.m3u8\n";
            let mut reply = Response::new(whole(Bytes::from_static(text.as_bytes())));
            let fields = reply.headers_mut();
            fields.insert("cache-control", http::HeaderValue::from_static("max-age=5"));
            std::future::ready(reply)
        });
        Self { is_open }
    }

    fn end(&self, lives: &[&Live]) {
        self.is_open.store(false, Ordering::SeqCst);
        for live in lives {
            live.answer_while(&self.is_open, StatusCode::UNAUTHORIZED);
        }
    }
}

#[test]
fn fm_12_a_session_that_ended_while_a_request_was_held_is_opened_again_and_nobody_notices() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let session = Session::serve(&origin);
        let live = Live::start(&origin, PLAYLIST, 8);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(MULTIVARIANT).await;
        viewer.get(PLAYLIST).await;
        let next = format!("{PLAYLIST}?_HLS_msn=2&_HLS_part=0");
        origin.asked_for_exactly(&next).await;
        let held = viewer.start(&next);
        pass(Duration::from_millis(100)).await;
        session.end(&[&live]);
        origin.asked_for(MULTIVARIANT, 2).await;
        let plain = viewer.get(PLAYLIST).await;
        assert_eq!(plain.status, StatusCode::OK);
        live.publish();
        let held = held.await.unwrap();
        assert_eq!(held.status, StatusCode::OK);
        assert!(held.text().contains("seg2.0.m4s"));
        assert_eq!(origin.requests(MULTIVARIANT), 2, "asked for once");
        assert_eq!(
            origin.requests_exactly(PLAYLIST),
            2,
            "once plainly, after that"
        );
    });
}

#[test]
fn fm_12_after_a_pause_of_all_viewers_the_next_one_gets_a_playlist_and_not_the_401() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let session = Session::serve(&origin);
        let live = Live::start(&origin, PLAYLIST, 8);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(MULTIVARIANT).await;
        viewer.get(PLAYLIST).await;
        pass(Duration::from_secs(60)).await;
        session.end(&[&live]);
        live.publish();
        let back = viewer.get(PLAYLIST).await;
        assert_eq!(back.status, StatusCode::OK);
        assert!(back.text().contains("seg2.0.m4s"));
    });
}

#[test]
fn fm_12_renditions_that_lose_their_session_together_open_it_together() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let session = Session::serve(&origin);
        let lives = [
            Live::start(&origin, PLAYLIST, 8),
            Live::start(&origin, SECOND, 8),
        ];
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for path in [MULTIVARIANT, PLAYLIST, SECOND] {
            viewer.get(path).await;
        }
        session.end(&[&lives[0], &lives[1]]);
        origin.asked_for(MULTIVARIANT, 2).await;
        for (live, path) in lives.iter().zip([PLAYLIST, SECOND]) {
            live.publish();
            let held = viewer.get(&format!("{path}?_HLS_msn=2&_HLS_part=0")).await;
            assert_eq!(held.status, StatusCode::OK, "{path}");
        }
        assert_eq!(origin.requests(MULTIVARIANT), 2, "one request for both");
    });
}

#[test]
fn fm_12_an_origin_that_stays_closed_is_asked_ever_more_rarely() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _session = Session::serve(&origin);
        let live = Live::start(&origin, PLAYLIST, 8);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(MULTIVARIANT).await;
        viewer.get(PLAYLIST).await;
        live.answer_instead(Some((StatusCode::GONE, "")));
        pass(Duration::from_secs(18)).await;
        let refused = viewer.get(PLAYLIST).await;
        assert!(refused.status.is_server_error(), "CA-23");
        let asked = origin.requests(MULTIVARIANT);
        assert!(asked <= 16, "{asked} times in 18 s");
    });
}
