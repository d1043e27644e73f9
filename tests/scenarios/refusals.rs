//! Bad input: a clear error, nothing lost.

use harness::{Live, cdn};
use http::StatusCode;

const PLAYLIST: &str = "/live/v0/playlist.m3u8";

#[test]
fn an_origin_that_sends_a_page_instead_of_a_playlist_is_named_as_the_culprit() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.serve(
            PLAYLIST,
            &[("content-type", "text/html")],
            "<html>Welcome to nginx!</html>",
        );
        let _edge = t.node("edge", &["origin"]);
        let received = t.viewer("edge").get(PLAYLIST).await;
        assert_eq!(received.status, StatusCode::BAD_GATEWAY);
        assert!(
            received
                .text()
                .contains("something else where a playlist was due")
        );
        assert_eq!(
            received.field("proxy-status"),
            "edge; error=http_protocol_error"
        );
    });
}

#[test]
fn a_page_in_the_middle_of_a_stream_loses_nothing_that_viewers_have() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        live.answer_instead(Some((StatusCode::OK, "<html>oops</html>")));
        harness::pass(std::time::Duration::from_millis(300)).await;
        let during = viewer.get(PLAYLIST).await;
        assert!(during.text().starts_with("#EXTM3U"));
        live.answer_instead(None);
        live.publish();
        let target = format!("{PLAYLIST}?_HLS_msn=2&_HLS_part=0");
        assert!(viewer.get(&target).await.text().contains("seg2.0.m4s"));
    });
}

#[test]
fn ca_07_ll_22_an_older_playlist_is_never_shown() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 10 * 4);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let target = format!("{PLAYLIST}?_HLS_msn=10&_HLS_part=0");
        origin.asked_for_exactly(&target).await;
        live.publish();
        assert!(viewer.get(&target).await.text().contains("seg10.0.m4s"));
        // The twin origin lags two parts behind for a while.
        live.answer_lagging(10 * 4 - 1, 2);
        live.publish();
        harness::pass(std::time::Duration::from_secs(2)).await;
        let plain = viewer.get(PLAYLIST).await;
        assert!(
            plain.text().contains("seg10.0.m4s"),
            "never backwards:\n{}",
            plain.text()
        );
    });
}

#[test]
fn methods_other_than_reading_are_refused_by_the_viewer_port() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _edge = t.node("edge", &["origin"]);
        for method in ["POST", "PUT", "DELETE", "PURGE"] {
            let received = t.viewer("edge").send(method, "/x", &[]).await.rest().await;
            assert_eq!(received.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
            assert_eq!(received.field("allow"), "GET, HEAD, OPTIONS");
        }
        assert_eq!(origin.asked().len(), 0);
    });
}
