//! Origins that hold no request: one poller in place of all viewers, and holds by this node's own word.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use harness::origin::{Origin, status, whole};
use harness::{Cdn, cdn, pass};
use http::{HeaderValue, Response, StatusCode};
use node::node::{Node, NodeConfig};
use tokio::time::Instant;

const PLAYLIST: &str = "/live/v0/playlist.m3u8";
const SEGMENT: Duration = Duration::from_secs(2);

/// A packager that writes a playlist file: a new segment every two seconds, and no blocking reload.
struct Packager {
    started: Instant,
    /// Whether it stands still; the file stays as it is.
    is_stuck_since: parking_lot::Mutex<Option<Instant>>,
    under_way: AtomicUsize,
    has_overlapped: AtomicBool,
    has_validators: bool,
}

impl Packager {
    fn start(origin: &Origin, has_validators: bool) -> Arc<Self> {
        let packager = Arc::new(Self {
            started: Instant::now(),
            is_stuck_since: parking_lot::Mutex::default(),
            under_way: AtomicUsize::new(0),
            has_overlapped: AtomicBool::new(false),
            has_validators,
        });
        let serving = Arc::clone(&packager);
        origin.on(PLAYLIST, move |asked| {
            let packager = Arc::clone(&serving);
            async move {
                if packager.under_way.fetch_add(1, Ordering::SeqCst) > 0 {
                    packager.has_overlapped.store(true, Ordering::SeqCst);
                }
                pass(Duration::from_millis(20)).await;
                packager.under_way.fetch_sub(1, Ordering::SeqCst);
                packager.reply(asked.fields.get("if-none-match"))
            }
        });
        packager
    }

    fn reply(&self, condition: Option<&HeaderValue>) -> Response<harness::origin::ReplyBody> {
        let etag = format!("\"{}\"", self.published());
        if condition.is_some_and(|value| value == etag.as_str()) {
            return status(StatusCode::NOT_MODIFIED);
        }
        let mut reply = Response::new(whole(Bytes::from(self.text())));
        if self.has_validators {
            let etag = HeaderValue::try_from(etag).expect("digits");
            reply.headers_mut().insert("etag", etag);
        }
        reply
    }

    fn stand_still(&self, is_stuck: bool) {
        *self.is_stuck_since.lock() = is_stuck.then(Instant::now);
    }

    /// Returns how many segments are published: ten at the start.
    fn published(&self) -> u64 {
        let until = self.is_stuck_since.lock().unwrap_or_else(Instant::now);
        10 + (until - self.started).as_secs() / SEGMENT.as_secs()
    }

    fn text(&self) -> String {
        let published = self.published();
        let first = published - 10;
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{first}\n"
        );
        for msn in first..published {
            writeln!(text, "#EXTINF:2.0,\nseg{msn}.ts").expect("writing to a string");
        }
        text
    }
}

fn tells_viewers(config: &mut NodeConfig) {
    let rule = Arc::make_mut(&mut config.rules.fallback);
    rule.live.adds_server_control = true;
}

fn edge_that_tells(t: &Cdn) -> Arc<Node> {
    t.node_with("edge", &["origin"], tells_viewers)
}

#[test]
fn ca_05_a_playlist_without_blocking_reload_has_one_poller_whoever_watches() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let packager = Packager::start(&origin, false);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let mut oldest = Duration::ZERO;
        for second in 0..120 {
            pass(Duration::from_millis(977)).await;
            let asked_at = Instant::now();
            let viewers: Vec<_> = (0..20).map(|_| viewer.start(PLAYLIST)).collect();
            for received in viewers {
                let received = received.await.unwrap();
                assert_eq!(received.status, StatusCode::OK);
                let newest = format!("seg{}.ts", packager.published() - 1);
                if !received.text().contains(&newest) && second > 60 {
                    let due = SEGMENT * u32::try_from(packager.published() - 10).unwrap();
                    oldest = oldest.max(packager.started.elapsed() - due);
                }
            }
            assert_eq!(asked_at.elapsed(), Duration::ZERO, "nobody waits");
        }
        assert!(!packager.has_overlapped.load(Ordering::SeqCst));
        let polls = origin.requests(PLAYLIST);
        assert!(
            (55..=75).contains(&polls),
            "{polls} polls for 60 versions and 2400 requests"
        );
        assert!(
            oldest < Duration::from_millis(1_300),
            "a new version was not there for {oldest:?}"
        );
    });
}

#[test]
fn polls_are_conditional_and_a_304_is_as_good_as_the_same_text() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let packager = Packager::start(&origin, true);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        packager.stand_still(true);
        for _ in 0..5 {
            pass(Duration::from_secs(1)).await;
            assert!(viewer.get(PLAYLIST).await.text().contains("seg9.ts"));
        }
        let asked = origin.asked();
        let (first, polls) = asked.split_first().unwrap();
        assert!(!first.fields.contains_key("if-none-match"));
        assert!(
            polls
                .iter()
                .skip(1)
                .all(|poll| poll.fields["if-none-match"] == "\"10\""),
            "the first poll learns the validator"
        );
        packager.stand_still(false);
        pass(Duration::from_secs(2)).await;
        assert!(
            !viewer
                .get(PLAYLIST)
                .await
                .text()
                .contains("#EXT-X-MEDIA-SEQUENCE:0")
        );
    });
}

#[test]
fn a_poll_that_finds_nothing_new_is_followed_by_another_after_half_a_target_duration() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let packager = Packager::start(&origin, false);
        packager.stand_still(true);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let mut at = Vec::new();
        for polls in 2..=4 {
            origin.asked_for(PLAYLIST, polls).await;
            at.push(Instant::now());
            viewer.get(PLAYLIST).await;
        }
        assert_eq!(at[1] - at[0], SEGMENT / 2);
        assert_eq!(at[2] - at[1], SEGMENT / 2);
    });
}

#[test]
fn a_rendition_that_nobody_watches_is_not_polled() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _packager = Packager::start(&origin, false);
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        pass(Duration::from_secs(30)).await;
        let polls = origin.requests(PLAYLIST);
        assert!(polls <= 12, "{polls} in the 20 s after the last viewer");
        pass(Duration::from_secs(60)).await;
        assert_eq!(origin.requests(PLAYLIST), polls);
        let back = viewer.get(PLAYLIST).await;
        assert!(back.text().contains("seg54.ts"), "and it is current");
        assert_eq!(origin.requests(PLAYLIST), polls + 1);
        drop(edge);
    });
}

#[test]
fn ll_01_viewers_are_held_as_if_the_origin_could_where_they_are_told_so() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _packager = Packager::start(&origin, false);
        let _edge = edge_that_tells(&t);
        let viewer = t.viewer("edge");
        let plain = viewer.get(PLAYLIST).await;
        let told = "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.0,HOLD-BACK=6.0";
        assert!(plain.text().contains(told), "{}", plain.text());
        let held: Vec<_> = (0..50)
            .map(|_| viewer.start(&format!("{PLAYLIST}?_HLS_msn=10")))
            .collect();
        for held in held {
            let received = held.await.unwrap();
            assert!(received.text().contains("seg10.ts"));
            assert!(received.text().contains(told));
        }
        let directed = origin.asked().iter().any(|a| a.target.contains("_HLS_"));
        assert!(!directed, "the origin would not know what to do with it");
        assert!(origin.requests(PLAYLIST) <= 3);
        let far = viewer.get(&format!("{PLAYLIST}?_HLS_msn=14")).await;
        assert_eq!(far.status, StatusCode::BAD_REQUEST, "LL-07");
    });
}

#[test]
fn ll_13_delta_updates_are_made_of_a_playlist_that_was_given_the_tag() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _packager = Packager::start(&origin, false);
        let _edge = edge_that_tells(&t);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let delta = viewer.get(&format!("{PLAYLIST}?_HLS_skip=YES")).await;
        assert!(delta.text().contains("#EXT-X-SKIP:SKIPPED-SEGMENTS=4\n"));
        assert!(delta.text().contains("#EXT-X-VERSION:9\n"));
    });
}

#[test]
fn ll_09_a_hold_on_a_polled_playlist_ends_after_three_target_durations() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let packager = Packager::start(&origin, false);
        packager.stand_still(true);
        let _edge = edge_that_tells(&t);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let asked_at = Instant::now();
        let held = viewer.get(&format!("{PLAYLIST}?_HLS_msn=10")).await;
        assert_eq!(held.status, StatusCode::SERVICE_UNAVAILABLE);
        let waited = asked_at.elapsed();
        assert!(waited >= Duration::from_secs(6), "{waited:?}");
        assert!(waited <= Duration::from_millis(6_500), "{waited:?}");
    });
}

#[test]
fn invariant_12_between_nodes_nothing_is_polled() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _packager = Packager::start(&origin, false);
        let _shield = t.node("shield", &["origin"]);
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        let first = viewer.get(PLAYLIST).await;
        assert!(!first.fields.contains_key("seawall-holds"));
        assert!(!first.text().contains("CAN-BLOCK-RELOAD"));
        let beside = t.viewer("shield");
        for _ in 0..200 {
            pass(Duration::from_millis(100)).await;
            let (there, here) = (beside.get(PLAYLIST).await, viewer.get(PLAYLIST).await);
            assert_eq!(there.text(), here.text(), "one hop, no timer");
        }
        let polls = origin.requests(PLAYLIST);
        assert!(polls <= 13, "{polls} polls for ten versions");
    });
}
