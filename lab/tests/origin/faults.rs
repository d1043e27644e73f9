//! Each scripted fault does what it says, as often as it says.

use std::time::Duration;

use lab::origin::{Action, Fault};

use crate::support::{fragments, hint, millis, stage, stage_with_faults, uris};

#[tokio::test(start_paused = true)]
async fn a_stalled_request_is_never_answered() {
    let stage = stage_with_faults(["stall@/live/v0/seg5.m4s"]);
    let day = Duration::from_secs(24 * 3600);
    let answer = tokio::time::timeout(day, stage.get("/live/v0/seg5.m4s")).await;
    assert!(answer.is_err());
    // Others are answered; after a day this one has left the window.
    assert_eq!(stage.get("/live/v1/seg5.m4s").await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_answer_comes_so_much_later_and_whole() {
    let stage = stage_with_faults(["stall-for=1.5s@kind=segmentx1"]);
    let slow = stage.get("/live/v0/seg5.m4s").await;
    assert_eq!((slow.status.as_u16(), slow.took), (200, millis(1500)));
    assert_eq!(stage.get("/live/v0/seg5.m4s").await.took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_dribbled_body_comes_in_steps() {
    let stage = stage_with_faults(["dribble=1000/100ms@kind=part"]);
    let answer = stage.get("/live/v0/seg11.0.m4s").await;
    assert!(answer.is_whole);
    let steps = answer.body.len().div_ceil(1000);
    assert_eq!(answer.pieces.len(), steps);
    assert_eq!(answer.took, millis(100) * (steps as u32 - 1));
}

#[tokio::test(start_paused = true)]
async fn a_status_is_answered_so_many_times() {
    let stage = stage_with_faults(["status=503@*/seg5.m4sx2"]);
    for expected in [503, 503, 200] {
        assert_eq!(stage.get("/live/v0/seg5.m4s").await.status, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_before_the_head_leaves_no_answer() {
    for is_h2 in [false, true] {
        let stage = stage_with_faults(["resetx1"]);
        let ask = stage.ask("/live/v0/seg5.m4s");
        let ask = if is_h2 { ask.over_h2() } else { ask };
        assert!(ask.send().await.is_none());
        assert_eq!(stage.get("/live/v0/seg5.m4s").await.status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_in_the_body_comes_after_so_many_bytes() {
    for is_h2 in [false, true] {
        let stage = stage_with_faults(["reset-at=1000@*x1"]);
        let ask = stage.ask("/live/v0/seg5.m4s");
        let ask = if is_h2 { ask.over_h2() } else { ask };
        let answer = ask.send().await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!((answer.body.len(), answer.is_whole), (1000, false));
    }
}

#[tokio::test(start_paused = true)]
async fn a_truncated_body_is_shorter_than_its_length() {
    for is_h2 in [false, true] {
        let stage = stage_with_faults(["truncate-at=1000@*x1"]);
        let ask = stage.ask("/live/v0/seg5.m4s");
        let ask = if is_h2 { ask.over_h2() } else { ask };
        let answer = ask.send().await.unwrap();
        assert_eq!(answer.body.len(), 1000);
        assert_ne!(answer.header("content-length"), "1000");
        assert_ne!(answer.header("content-length"), "");
    }
}

#[tokio::test(start_paused = true)]
async fn a_truncated_growing_body_lacks_its_last_chunk() {
    for is_h2 in [false, true] {
        let stage = stage_with_faults(["truncate-at=1000@kind=segment"]);
        let ask = stage.ask("/live/v0/seg12.m4s");
        let ask = if is_h2 { ask.over_h2() } else { ask };
        let answer = ask.send().await.unwrap();
        assert_eq!((answer.body.len(), answer.is_whole), (1000, false));
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_part_holds_everybody_who_waits_for_it() {
    let stage = stage_with_faults(["late-part=300ms@*/seg12.1.m4s"]);
    let list = stage
        .get("/live/v0/playlist.m3u8?_HLS_msn=12&_HLS_part=1")
        .await;
    assert_eq!((list.status.as_u16(), list.took), (200, millis(1300)));
    let next = stage.get("/live/v0/seg12.2.m4s").await;
    assert_eq!(next.took, millis(200));
}

#[tokio::test(start_paused = true)]
async fn a_playlist_can_go_backwards() {
    let stage = stage_with_faults(["msn-regress=3@kind=playlist:1s-2s"]);
    tokio::time::advance(millis(1100)).await;
    let list = stage.text("/live/v0/playlist.m3u8").await;
    assert_eq!(hint(&list), "seg9.2.m4s");
    let plain = stage.text("/plain/v0/playlist.m3u8").await;
    assert_eq!(uris(&plain).pop(), Some("seg8.m4s"));
    tokio::time::advance(millis(1000)).await;
    assert_eq!(
        hint(&stage.text("/live/v0/playlist.m3u8").await),
        "seg13.0.m4s"
    );
}

#[tokio::test(start_paused = true)]
async fn a_restart_reuses_names_for_other_content() {
    let stage = stage_with_faults(["restart:1s-"]);
    let before = stage.get("/live/v0/seg0.0.m4s").await;
    assert_eq!(before.status, 200);
    tokio::time::advance(millis(1100)).await;
    // Nothing is out yet: the playlist waits for the first part.
    let list = stage.get("/live/v0/playlist.m3u8").await;
    assert_eq!((list.status.as_u16(), list.took), (200, millis(400)));
    assert_eq!(hint(list.text()), "seg0.1.m4s");
    assert!(list.text().contains("#EXT-X-MEDIA-SEQUENCE:0\n"));
    assert!(
        list.text()
            .contains("PROGRAM-DATE-TIME:2026-01-01T00:00:01.000Z")
    );
    let after = stage.get("/live/v0/seg0.0.m4s").await;
    assert_ne!(after.body, before.body);
    assert_ne!(after.header("etag"), before.header("etag"));
    assert_eq!(fragments(&after.body)[0].start, 0);
    assert_eq!(stage.get("/live/v0/seg5.m4s").await.status, 404);
    let mpd = stage.text("/live/manifest.mpd").await;
    assert!(mpd.contains("availabilityStartTime=\"2026-01-01T00:00:01.000Z\""));
}

#[tokio::test(start_paused = true)]
async fn a_restart_breaks_segments_that_were_growing() {
    let stage = stage_with_faults(["restart:1200ms-"]);
    let answer = stage.get("/live/v0/seg12.m4s").await;
    assert_eq!((answer.is_whole, answer.took), (false, millis(1200)));
    assert_eq!(fragments(&answer.body).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_echoing_origin_repeats_the_query_in_child_uris() {
    let stage = stage_with_faults(["echo-query"]);
    let list = stage.text("/live/index.m3u8?token=a%22b").await;
    assert_eq!(uris(&list)[0], "v0/playlist.m3u8?token=a%22b");
    let list = stage
        .text("/live/v0/playlist.m3u8?_HLS_msn=3&token=a")
        .await;
    assert_eq!(uris(&list)[0], "seg0.m4s?token=a");
    assert_eq!(hint(&list), "seg12.0.m4s?token=a");
    let list = stage.text("/live/v0/playlist.m3u8?_HLS_msn=3").await;
    assert_eq!(uris(&list)[0], "seg0.m4s");
}

#[tokio::test(start_paused = true)]
async fn an_origin_can_forbid_caching_everywhere() {
    let stage = stage_with_faults(["no-cache"]);
    for path in [
        "/live/v0/playlist.m3u8",
        "/live/v0/seg5.m4s",
        "/live/v0/seg999.m4s",
    ] {
        assert_eq!(
            stage.get(path).await.header("cache-control"),
            "no-cache",
            "{path}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn faults_can_be_added_and_cleared_while_it_runs() {
    let stage = stage();
    stage.origin.add_fault(Fault::new(Action::Status(500)));
    assert_eq!(stage.get("/live/v0/seg5.m4s").await.status, 500);
    stage.origin.clear_faults();
    assert_eq!(stage.get("/live/v0/seg5.m4s").await.status, 200);
}
