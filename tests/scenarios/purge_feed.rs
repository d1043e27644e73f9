//! Nodes that follow the purge log: through tiers, cut off, behind, and what viewers get meanwhile.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use harness::origin::{Asked, ReplyBody, whole};
use harness::purge_log::standing;
use harness::{Cdn, Live, Origin, PurgeLog, Viewer, cdn, feed_of, following, pass};
use http::{Response, StatusCode};
use node::admin::NotReady;
use node::node::Node;
use node::purge::WhenLagging;
use purge_log::feed::REPORTS_BYTES_MAX;
use purge_log::{Mode, PurgeRequest, Sequence, Target};

const SEGMENT: &str = "/live/v0/seg0.m4s";
const PLAYLIST: &str = "/live/v0/playlist.m3u8";

fn purge_of(path: &str, mode: Mode) -> PurgeRequest {
    PurgeRequest {
        target: Target::Url {
            host: "live.example".to_owned(),
            path: path.to_owned(),
            query: String::new(),
        },
        mode,
    }
}

/// An origin that numbers its answers, and confirms the newest by its tag.
fn numbering(t: &Cdn) -> Origin {
    let origin = t.origin("origin");
    origin.on(SEGMENT, |asked| async move { numbered(&asked, 0) });
    origin
}

fn numbered(asked: &Asked, version: usize) -> Response<ReplyBody> {
    let tag = format!("\"{version}\"");
    let is_known = asked
        .fields
        .get("if-none-match")
        .is_some_and(|t| t == &*tag);
    let (status, body) = if is_known {
        (StatusCode::NOT_MODIFIED, String::new())
    } else {
        (StatusCode::OK, format!("version {version}"))
    };
    Response::builder()
        .status(status)
        .header(
            "cache-control",
            "max-age=3600, stale-while-revalidate=60, immutable",
        )
        .header("etag", tag)
        .body(whole(Bytes::from(body)))
        .expect("a scripted reply is well formed")
}

/// Has the origin answer something newer from now on.
fn change(origin: &Origin, version: usize) {
    origin.on(
        SEGMENT,
        move |asked| async move { numbered(&asked, version) },
    );
}

/// A node behind `parents` that follows the log at `log`.
fn follower(t: &Cdn, name: &str, parents: &[&str], log: &str) -> Arc<Node> {
    t.node_with(name, parents, |config| config.purge = following(&[log]))
}

/// An edge straight behind the origin whose log falls silent, with what it does then.
async fn lagging(t: &Cdn, when_lagging: WhenLagging) -> (Origin, PurgeLog, Arc<Node>) {
    let log = t.purge_log("api", 100);
    let origin = numbering(t);
    let edge = t.node_with("edge", &["origin"], |config| {
        config.purge = following(&["api"]);
        let purge = config.purge.as_mut().expect("it follows");
        purge.when_lagging = when_lagging;
    });
    log.applied_by("edge", Sequence::START).await;
    t.viewer("edge").get(SEGMENT).await;
    log.set_up(false);
    pass(Duration::from_secs(6)).await;
    (origin, log, edge)
}

#[test]
fn a_purge_reaches_edges_through_the_shield_that_they_follow() {
    cdn(|t| async move {
        let log = t.purge_log("api", 100);
        let origin = numbering(&t);
        let shield = follower(&t, "shield", &["origin"], "api");
        let feed = feed_of("shield");
        let _fra = follower(&t, "fra", &["shield"], &feed);
        let _sin = follower(&t, "sin", &["shield"], &feed);
        for node in ["shield", "fra", "sin"] {
            log.applied_by(node, Sequence::START).await;
        }
        let viewers = [t.viewer("fra"), t.viewer("sin")];
        for viewer in &viewers {
            assert_eq!(viewer.get(SEGMENT).await.text(), "version 0");
        }
        change(&origin, 1);
        let sequence = log.purge(purge_of(SEGMENT, Mode::Hard));
        for node in ["fra", "sin"] {
            log.applied_by(node, sequence).await;
            assert_eq!(standing(&shield).applied(), sequence, "parents first");
        }
        for viewer in &viewers {
            assert_eq!(viewer.get(SEGMENT).await.text(), "version 1");
        }
        assert_eq!(origin.requests(SEGMENT), 2, "once per version");
        assert_eq!(
            t.network().opened("api"),
            2,
            "a feed and reports, both the shield's"
        );
    });
}

#[test]
fn the_listener_for_children_answers_the_feed_and_nothing_else() {
    cdn(|t| async move {
        let log = t.purge_log("api", 100);
        let _origin = numbering(&t);
        let _shield = follower(&t, "shield", &["origin"], "api");
        let child = t.viewer(&feed_of("shield"));
        let early = child.get("/v1/feed?node=a&latest=0").await;
        assert_eq!(early.status, StatusCode::SERVICE_UNAVAILABLE);
        log.applied_by("shield", Sequence::START).await;
        let feed = child.open("/v1/feed?node=a&latest=0", &[]).await;
        assert_eq!(feed.status, StatusCode::OK);
        for (method, target, content, expected) in [
            ("GET", SEGMENT, "", StatusCode::NOT_FOUND),
            ("GET", "/metrics", "", StatusCode::NOT_FOUND),
            ("GET", "/v1/feed", "", StatusCode::BAD_REQUEST),
            ("PURGE", "/v1/feed", "", StatusCode::METHOD_NOT_ALLOWED),
            ("POST", "/v1/feed/applied", "[{", StatusCode::BAD_REQUEST),
            ("POST", "/v1/feed/applied", "[]", StatusCode::NO_CONTENT),
        ] {
            let answer = child.send_content(method, target, &[], content).await;
            assert_eq!(answer.status, expected, "{method} {target} {content}");
        }
        let large: &str = Box::leak(" ".repeat(REPORTS_BYTES_MAX + 1).into_boxed_str());
        let answer = child
            .send_content("POST", "/v1/feed/applied", &[], large)
            .await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    });
}

#[test]
fn f28_an_edge_ahead_of_its_shield_is_not_given_what_was_purged() {
    cdn(|t| async move {
        let log = t.purge_log("api", 100);
        let slow = log.also_at("slow");
        let origin = numbering(&t);
        let shield = follower(&t, "shield", &["origin"], "slow");
        let _edge = follower(&t, "edge", &["shield"], "api");
        for node in ["shield", "edge"] {
            log.applied_by(node, Sequence::START).await;
        }
        let viewer = t.viewer("edge");
        viewer.get(SEGMENT).await;
        slow.set_up(false);
        change(&origin, 1);
        let sequence = log.purge(purge_of(SEGMENT, Mode::Hard));
        log.applied_by("edge", sequence).await;
        assert_eq!(standing(&shield).applied(), Sequence::START);
        assert_eq!(viewer.get(SEGMENT).await.text(), "version 1");
        slow.set_up(true);
        log.applied_by("shield", sequence).await;
        assert_eq!(t.viewer("shield").get(SEGMENT).await.text(), "version 1");
    });
}

#[test]
fn f28_an_edge_ahead_of_two_nodes_is_given_nothing_of_either() {
    cdn(|t| async move {
        let log = t.purge_log("api", 100);
        let slow = log.also_at("slow");
        let origin = numbering(&t);
        let _far = follower(&t, "far", &["origin"], "slow");
        let _near = follower(&t, "near", &["far"], "slow");
        let _edge = follower(&t, "edge", &["near"], "api");
        for node in ["far", "near", "edge"] {
            log.applied_by(node, Sequence::START).await;
        }
        let viewer = t.viewer("edge");
        viewer.get(SEGMENT).await;
        slow.set_up(false);
        change(&origin, 1);
        let sequence = log.purge(purge_of(SEGMENT, Mode::Hard));
        log.applied_by("edge", sequence).await;
        assert_eq!(viewer.get(SEGMENT).await.text(), "version 1");
    });
}

#[test]
fn f28_a_broadcast_that_was_purged_comes_from_the_shield_that_is_not_late() {
    cdn(|t| async move {
        let log = t.purge_log("api", 100);
        let slow = log.also_at("slow");
        let origin = numbering(&t);
        let live = Live::start(&origin, PLAYLIST, 8);
        let _late = follower(&t, "late", &["origin"], "slow");
        let _good = follower(&t, "good", &["origin"], "api");
        let _edge = follower(&t, "edge", &["late", "good"], "api");
        for node in ["late", "good", "edge"] {
            log.applied_by(node, Sequence::START).await;
        }
        let viewer = t.viewer("edge");
        assert_eq!(viewer.get(PLAYLIST).await.status, StatusCode::OK);
        slow.set_up(false);
        let target = Target::Stream {
            host: "live.example".to_owned(),
            path: "/live/".to_owned(),
            range: None,
        };
        let mode = Mode::Hard;
        let sequence = log.purge(PurgeRequest { target, mode });
        log.applied_by("edge", sequence).await;
        let begun = tokio::time::Instant::now();
        let anew = viewer.get(PLAYLIST).await;
        assert_eq!(anew.status, StatusCode::OK);
        let first = anew.field("cache-status");
        assert!(first.starts_with("good;"), "{first}");
        let waited = begun.elapsed();
        assert_eq!(waited, Duration::from_millis(200), "for the late one");
        let next = format!("{PLAYLIST}?_HLS_msn=2&_HLS_part=0");
        let held = viewer.start(&next);
        origin.asked_for_exactly(&next).await;
        pass(Duration::from_millis(300)).await;
        live.publish();
        assert_eq!(held.await.unwrap().status, StatusCode::OK);
    });
}

#[test]
fn a_viewer_who_names_purges_gets_what_is_stored_where_children_are_not_heeded() {
    cdn(|t| async move {
        let log = t.purge_log("api", 100);
        let origin = numbering(&t);
        let _edge = t.node_with("edge", &["origin"], |config| {
            config.purge = following(&["api"]);
            config.heeds_children = false;
        });
        log.applied_by("edge", Sequence::START).await;
        let viewer = t.viewer("edge");
        viewer.get(SEGMENT).await;
        let ahead = [("seawall-purge-minimum", "0000000000000007/9")];
        let begun = tokio::time::Instant::now();
        viewer.get_with(SEGMENT, &ahead).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(origin.requests(SEGMENT), 1);
    });
}

#[test]
fn f29_a_log_that_is_down_changes_nothing_where_a_lagging_node_serves() {
    cdn(|t| async move {
        let (origin, _log, edge) = lagging(&t, WhenLagging::Serve).await;
        change(&origin, 1);
        let hit = t.viewer("edge").get(SEGMENT).await;
        assert_eq!(hit.text(), "version 0");
        assert_eq!(origin.requests(SEGMENT), 1);
        assert_eq!(edge.status(false).not_ready, []);
    });
}

#[test]
fn f30_a_lagging_node_that_revalidates_asks_before_each_answer_until_it_is_current() {
    cdn(|t| async move {
        let (origin, log, edge) = lagging(&t, WhenLagging::Revalidate).await;
        let viewer = t.viewer("edge");
        assert_eq!(viewer.get(SEGMENT).await.text(), "version 0");
        assert_eq!(origin.requests(SEGMENT), 2, "asked, and confirmed");
        change(&origin, 1);
        assert_eq!(viewer.get(SEGMENT).await.text(), "version 1");
        assert_eq!(origin.requests(SEGMENT), 3);
        assert_eq!(edge.status(false).not_ready, []);
        let sequence = log.purge(purge_of("/other", Mode::Hard));
        log.set_up(true);
        log.applied_by("edge", sequence).await;
        assert_eq!(viewer.get(SEGMENT).await.text(), "version 1");
        assert_eq!(origin.requests(SEGMENT), 3, "from the store again");
    });
}

#[test]
fn f31_a_node_that_was_away_applies_what_it_missed_before_it_is_ready() {
    cdn(|t| async move {
        let (origin, log, edge) = lagging(&t, WhenLagging::Fence).await;
        let fresh = t.node_with("fresh", &["origin"], |config| {
            config.purge = following(&["api"]);
            config.purge.as_mut().expect("it follows").when_lagging = WhenLagging::Fence;
        });
        let never_heard = fresh.status(false).not_ready;
        assert_eq!(never_heard, [NotReady::PurgesMissed]);
        assert_eq!(edge.status(false).not_ready, [NotReady::PurgesMissed]);
        change(&origin, 1);
        let sequence = log.purge(purge_of(SEGMENT, Mode::Hard));
        pass(Duration::from_secs(600)).await;
        log.set_up(true);
        while !edge.status(false).not_ready.is_empty() {
            assert_ne!(
                standing(&edge).lag(tokio::time::Instant::now()),
                Duration::ZERO
            );
            pass(Duration::from_millis(1)).await;
        }
        assert_eq!(standing(&edge).applied(), sequence);
        assert_eq!(t.viewer("edge").get(SEGMENT).await.text(), "version 1");
    });
}

/// Asks an edge behind a shield for what both hold stale: each revalidates while it serves, and what the shield
/// serves meanwhile is not taken for fresh by the edge.
async fn stale_in_each_tier_until_revalidated(viewer: &Viewer) {
    for _ in 0..2 {
        let stale = viewer.get(SEGMENT).await;
        assert_eq!(stale.text(), "version 0");
        let mut members = stale.fields.get_all("cache-status").iter();
        let own = members.next_back().expect("the edge says what it did");
        let own = own.to_str().expect("it is text");
        assert!(own.contains("detail=stale-while-revalidate"), "{own}");
        assert_eq!(stale.field("age"), "3600", "for caches further down");
        pass(Duration::from_millis(10)).await;
    }
    assert_eq!(viewer.get(SEGMENT).await.text(), "version 1");
}

#[test]
fn a_soft_purge_is_not_undone_by_the_stale_answer_of_a_shield() {
    cdn(|t| async move {
        let log = t.purge_log("api", 100);
        let origin = numbering(&t);
        let _shield = follower(&t, "shield", &["origin"], "api");
        let _edge = follower(&t, "edge", &["shield"], &feed_of("shield"));
        log.applied_by("edge", Sequence::START).await;
        let viewer = t.viewer("edge");
        viewer.get(SEGMENT).await;
        change(&origin, 1);
        let sequence = log.purge(purge_of(SEGMENT, Mode::Soft));
        log.applied_by("edge", sequence).await;
        stale_in_each_tier_until_revalidated(&viewer).await;
        assert_eq!(origin.requests(SEGMENT), 2, "revalidated once");
    });
}

#[test]
fn f33_nodes_behind_the_tail_of_the_log_make_everything_stale_rather_than_guess() {
    cdn(|t| async move {
        let log = t.purge_log("api", 10);
        let origin = numbering(&t);
        let shield = follower(&t, "shield", &["origin"], "api");
        let edge = follower(&t, "edge", &["shield"], &feed_of("shield"));
        log.applied_by("edge", Sequence::START).await;
        let viewer = t.viewer("edge");
        viewer.get(SEGMENT).await;
        log.set_up(false);
        pass(Duration::from_millis(1)).await;
        change(&origin, 1);
        let mut last = Sequence::START;
        for _ in 0..50 {
            last = log.purge(purge_of("/other", Mode::Hard));
        }
        log.set_up(true);
        log.applied_by("edge", last).await;
        stale_in_each_tier_until_revalidated(&viewer).await;
        assert_eq!(origin.requests(SEGMENT), 2, "revalidated once");
        for node in [shield, edge] {
            let rendered = node.telemetry().render();
            assert!(
                rendered.contains("seawall_purge_resets_total 1\n"),
                "{rendered}"
            );
        }
    });
}

#[test]
fn f28_a_purge_of_something_else_does_not_interrupt_a_broadcast_behind_a_late_shield() {
    cdn(|t| async move {
        let log = t.purge_log("api", 100);
        let slow = log.also_at("slow");
        let origin = numbering(&t);
        let live = Live::start(&origin, PLAYLIST, 8);
        let _shield = follower(&t, "shield", &["origin"], "slow");
        let _edge = follower(&t, "edge", &["shield"], "api");
        for node in ["shield", "edge"] {
            log.applied_by(node, Sequence::START).await;
        }
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        viewer.get(SEGMENT).await;
        slow.set_up(false);
        let sequence = log.purge(purge_of("/other", Mode::Hard));
        log.applied_by("edge", sequence).await;
        for (msn, part) in [(2, 0), (2, 1), (2, 2)] {
            let target = format!("{PLAYLIST}?_HLS_msn={msn}&_HLS_part={part}");
            let held = viewer.start(&target);
            origin.asked_for_exactly(&target).await;
            let begun = tokio::time::Instant::now();
            live.publish();
            assert_eq!(held.await.unwrap().status, StatusCode::OK, "{target}");
            assert_eq!(begun.elapsed(), Duration::ZERO, "at once");
        }
        assert_eq!(viewer.get(SEGMENT).await.text(), "version 0");
        assert_eq!(origin.requests(SEGMENT), 1);
    });
}
