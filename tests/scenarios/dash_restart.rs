//! DASH presentations that begin again under the same names, shown as going on (`live.rebase`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use harness::origin::{Origin, ReplyBody, ok, status, whole};
use harness::{Viewer, cdn, pass};
use http::{HeaderValue, Response, StatusCode};
use media::dash::{Limits, Mpd};
use node::node::NodeConfig;
use parking_lot::Mutex;
use tokio::time::Instant;

const MPD: &str = "/live/manifest.mpd";

/// When a scenario begins, by every clock in it.
const BEGIN: Duration = Duration::from_secs(1_700_000_000);

/// A packager of two-second segments that count from zero whenever it starts.
#[derive(Clone)]
struct Packager {
    state: Arc<Mutex<State>>,
    scenario_began: Instant,
}

#[derive(Clone, Copy)]
struct State {
    start: Duration,
    run: u32,
    /// What the MPD has beside its period.
    beside: &'static str,
    /// Its update period.
    updated_each: &'static str,
    /// How its segments are listed; counted if not.
    is_listed: bool,
    is_static: bool,
}

impl Packager {
    /// Starts a packager that has run for `age` already.
    fn start(origin: &Origin, age: u64) -> Self {
        let state = State {
            start: BEGIN - Duration::from_secs(age),
            run: 0,
            beside: "",
            updated_each: "PT2S",
            is_listed: false,
            is_static: false,
        };
        let packager = Self {
            state: Arc::new(Mutex::new(state)),
            scenario_began: Instant::now(),
        };
        let of_mpd = packager.clone();
        origin.on(MPD, move |_| {
            let reply = of_mpd.mpd();
            async move { reply }
        });
        let of_init = packager.clone();
        origin.on("/live/v/init.mp4", move |_| {
            let run = of_init.state.lock().run;
            async move { kept(format!("init of {run}")) }
        });
        for number in 0..80_u32 {
            let of_segment = packager.clone();
            origin.on(&format!("/live/v/{number}.m4s"), move |_| {
                let state = *of_segment.state.lock();
                let whole_at = state.start + Duration::from_secs(2) * (number + 1);
                let is_there = of_segment.now() >= whole_at;
                async move {
                    match is_there {
                        true => kept(format!("{number} of {}", state.run)),
                        false => status(StatusCode::NOT_FOUND),
                    }
                }
            });
        }
        packager
    }

    fn now(&self) -> Duration {
        BEGIN + self.scenario_began.elapsed()
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
    }

    /// Lets it start again now.
    fn restart(&self) {
        self.restart_with(Duration::ZERO);
    }

    /// Lets it start again as if it had run for `history`.
    fn restart_with(&self, history: Duration) {
        let now = self.now();
        self.set(|state| {
            state.start = now - history;
            state.run += 1;
        });
    }

    fn mpd(&self) -> Response<ReplyBody> {
        let state = *self.state.lock();
        let date = media::format_date_time;
        let (start, published) = (date(state.start), date(self.now()));
        let last = (self.now() - state.start).as_secs() / 2;
        let kind = if state.is_static { "static" } else { "dynamic" };
        let (duration, listed) = match state.is_listed {
            true => (
                "",
                format!(
                    "<SegmentTimeline><S t=\"0\" d=\"2\" r=\"{}\"/></SegmentTimeline>",
                    last.max(1) - 1
                ),
            ),
            false => ("duration=\"2\"", String::new()),
        };
        let text = format!(
            "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"{kind}\" availabilityStartTime=\"{start}\" \
             publishTime=\"{published}\" minimumUpdatePeriod=\"{}\" timeShiftBufferDepth=\"PT40S\" id=\"m\">{}\
             <Period id=\"0\" start=\"PT0S\"><AdaptationSet mimeType=\"video/mp4\">\
             <SegmentTemplate initialization=\"$RepresentationID$/init.mp4\" media=\"$RepresentationID$/$Number$.m4s\" \
             startNumber=\"0\" {duration}>{listed}</SegmentTemplate>\
             <Representation id=\"v\" bandwidth=\"1000\"/></AdaptationSet></Period></MPD>",
            state.updated_each, state.beside,
        );
        let mut reply = ok(whole(Bytes::from(text)));
        let fields = reply.headers_mut();
        fields.insert(
            "content-type",
            HeaderValue::from_static("application/dash+xml"),
        );
        fields.insert("etag", HeaderValue::from_static("\"always\""));
        reply
    }
}

fn kept(body: String) -> Response<ReplyBody> {
    let mut reply = ok(whole(Bytes::from(body)));
    let fields = reply.headers_mut();
    fields.insert("cache-control", HeaderValue::from_static("max-age=600"));
    reply
}

async fn mpd_at(viewer: &Viewer) -> Mpd {
    let got = viewer.get(MPD).await;
    assert_eq!(got.status, StatusCode::OK);
    Mpd::parse(got.body.clone(), &Limits::default()).expect("an MPD")
}

/// Lets a viewer ask until it is shown a run with another mark than `before`; nothing goes back meanwhile.
async fn watch_until_marked(viewer: &Viewer, before: Option<&str>) -> (Mpd, String) {
    let mut last: Option<Mpd> = None;
    for _ in 0..200 {
        let mpd = mpd_at(viewer).await;
        if let Some(last) = &last {
            assert_eq!(mpd.availability_start, last.availability_start);
            assert!(mpd.publish_time >= last.publish_time);
            assert!(newest_start(&mpd) >= newest_start(last));
        }
        if let Some(mark) = mark_of(&mpd).filter(|mark| Some(mark.as_str()) != before) {
            return (mpd, mark);
        }
        last = Some(mpd);
        pass(Duration::from_millis(100)).await;
    }
    panic!("no run followed another one");
}

fn newest_start(mpd: &Mpd) -> Duration {
    let newest = mpd.periods.last().expect("a period");
    newest.start.expect("a start")
}

fn mark_of(mpd: &Mpd) -> Option<String> {
    let path = mpd.representations.last()?.initialization_path()?;
    let (_, mark) = path.split_once("?_seawall_run=")?;
    Some(mark.to_owned())
}

async fn body_of(viewer: &Viewer, path: &str) -> String {
    let got = viewer.get(path).await;
    assert_eq!(got.status, StatusCode::OK, "{path}");
    got.text().to_owned()
}

#[test]
fn fm_14_ca_07_an_mpd_that_begins_again_goes_on_in_a_new_period_and_each_name_keeps_its_bytes() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let packager = Packager::start(&origin, 60);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let before = mpd_at(&viewer).await;
        for path in ["init.mp4", "0.m4s", "29.m4s"] {
            assert!(
                body_of(&viewer, &format!("/live/v/{path}"))
                    .await
                    .ends_with("of 0")
            );
        }
        pass(Duration::from_secs(5)).await;
        mpd_at(&viewer).await;
        packager.restart();
        pass(Duration::from_secs(3)).await;
        let (now, mark) = watch_until_marked(&viewer, None).await;
        assert_eq!(now.availability_start, before.availability_start);
        assert_eq!(newest_start(&now), Duration::from_secs(65));
        assert_eq!(now.periods.len(), 2, "players come from the one before");
        assert_ne!(now.periods[0].id, now.periods[1].id);
        assert!(now.time_shift_buffer_depth < before.time_shift_buffer_depth);
        let marked = |name: &str| format!("/live/v/{name}?_seawall_run={mark}");
        assert_eq!(body_of(&viewer, &marked("0.m4s")).await, "0 of 1");
        assert_eq!(body_of(&viewer, &marked("init.mp4")).await, "init of 1");
        assert_eq!(body_of(&viewer, "/live/v/0.m4s").await, "0 of 0");
        assert_eq!(body_of(&viewer, "/live/v/init.mp4").await, "init of 0");
        let asked = origin.requests("/live/v/1.m4s");
        let gone = viewer.get("/live/v/1.m4s").await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND);
        assert_eq!(
            origin.requests("/live/v/1.m4s"),
            asked,
            "it would be another one"
        );
        assert_eq!(
            origin.requests_exactly("/live/v/init.mp4"),
            2,
            "without its mark"
        );
        pass(Duration::from_secs(70)).await;
        let later = mpd_at(&viewer).await;
        assert_eq!(later.periods.len(), 1, "everybody has come over");
        assert_eq!(
            later.time_shift_buffer_depth,
            before.time_shift_buffer_depth
        );
        assert_eq!(mark_of(&later), Some(mark));
    });
}

#[test]
fn ld_01_an_early_request_of_the_new_run_is_held_by_its_own_clock() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let packager = Packager::start(&origin, 60);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        mpd_at(&viewer).await;
        pass(Duration::from_millis(4_500)).await;
        packager.restart();
        let restarted = Instant::now();
        pass(Duration::from_millis(4_300)).await;
        let (_, mark) = watch_until_marked(&viewer, None).await;
        let wait = Duration::from_millis(4_900).saturating_sub(restarted.elapsed());
        pass(wait).await;
        let early = body_of(&viewer, &format!("/live/v/2.m4s?_seawall_run={mark}")).await;
        assert_eq!(early, "2 of 1");
        assert_eq!(
            restarted.elapsed().as_secs(),
            6,
            "it was there at six seconds"
        );
        assert_eq!(origin.requests("/live/v/2.m4s"), 1);
    });
}

#[test]
fn ca_07_an_edge_sees_one_presentation_that_goes_on_and_a_third_run_follows_the_second() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let packager = Packager::start(&origin, 60);
        let _shield = t.node("shield", &["origin"]);
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        let first = mpd_at(&viewer).await;
        assert_eq!(body_of(&viewer, "/live/v/0.m4s").await, "0 of 0");
        let mut marks: Vec<Option<String>> = vec![None];
        for run in 1..4 {
            pass(Duration::from_secs(7)).await;
            mpd_at(&viewer).await;
            packager.restart();
            pass(Duration::from_secs(3)).await;
            let last = marks.last().cloned().flatten();
            let (now, mark) = watch_until_marked(&viewer, last.as_deref()).await;
            assert_eq!(now.availability_start, first.availability_start);
            let path = |mark: &str| format!("/live/v/0.m4s?_seawall_run={mark}");
            assert_eq!(body_of(&viewer, &path(&mark)).await, format!("0 of {run}"));
            if let Some(last) = last {
                assert_eq!(
                    body_of(&viewer, &path(&last)).await,
                    format!("0 of {}", run - 1)
                );
                let never = format!("/live/v/1.m4s?_seawall_run={last}");
                assert_eq!(viewer.get(&never).await.status, StatusCode::NOT_FOUND);
            }
            marks.push(Some(mark));
        }
        assert_eq!(body_of(&viewer, "/live/v/0.m4s").await, "0 of 0");
    });
}

#[test]
fn ld_10_a_parent_that_still_has_the_run_before_is_not_shown() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let packager = Packager::start(&origin, 60);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        mpd_at(&viewer).await;
        let old = *packager.state.lock();
        pass(Duration::from_secs(3)).await;
        packager.restart();
        pass(Duration::from_secs(3)).await;
        let (now, mark) = watch_until_marked(&viewer, None).await;
        packager.set(|state| state.start = old.start);
        pass(Duration::from_secs(3)).await;
        let still = mpd_at(&viewer).await;
        assert_eq!(mark_of(&still), Some(mark));
        assert_eq!(newest_start(&still), newest_start(&now));
        // That is all there is for longer than errors are ridden out.
        packager.set(|state| state.run = 0);
        for _ in 0..60 {
            pass(Duration::from_secs(1)).await;
            mpd_at(&viewer).await;
        }
        assert_eq!(mark_of(&mpd_at(&viewer).await), None);
        assert_eq!(
            body_of(&viewer, "/live/v/3.m4s").await,
            "3 of 0",
            "its names are its own again"
        );
    });
}

#[test]
fn ld_14_patches_of_a_presentation_that_began_again_send_players_to_the_mpd() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let packager = Packager::start(&origin, 60);
        packager.set(|state| state.beside = "<PatchLocation ttl=\"60\">patch.mpp</PatchLocation>");
        origin.serve(
            "/live/patch.mpp",
            &[],
            "<Patch mpdId=\"m\" originalPublishTime=\"1970-01-01T00:00:04Z\" publishTime=\"1970-01-01T00:00:06Z\"/>",
        );
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        assert_eq!(mpd_at(&viewer).await.patch_locations.len(), 1);
        packager.restart();
        pass(Duration::from_secs(3)).await;
        let (now, _) = watch_until_marked(&viewer, None).await;
        assert!(now.patch_locations.is_empty());
        assert_eq!(
            viewer.get("/live/patch.mpp").await.status,
            StatusCode::NOT_FOUND
        );
    });
}

#[test]
fn ca_07_segments_that_are_listed_go_on_alike_and_the_end_is_of_the_run() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let packager = Packager::start(&origin, 20);
        packager.set(|state| state.is_listed = true);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        mpd_at(&viewer).await;
        pass(Duration::from_secs(2)).await;
        packager.restart();
        pass(Duration::from_secs(5)).await;
        let (now, mark) = watch_until_marked(&viewer, None).await;
        assert_eq!(newest_start(&now), Duration::from_secs(22));
        let path = format!("/live/v/1.m4s?_seawall_run={mark}");
        assert_eq!(body_of(&viewer, &path).await, "1 of 1");
        packager.set(|state| state.is_static = true);
        pass(Duration::from_secs(3)).await;
        let ended = mpd_at(&viewer).await;
        assert!(!ended.is_dynamic());
        assert_eq!(
            (newest_start(&ended), mark_of(&ended)),
            (newest_start(&now), Some(mark))
        );
    });
}

/// Shows what begins again as it is.
fn showing_restarts(config: &mut NodeConfig) {
    Arc::make_mut(&mut config.rules.fallback).live.rebases = false;
}

#[test]
fn fm_14_where_nothing_is_rewritten_what_was_stored_under_the_names_goes() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let packager = Packager::start(&origin, 60);
        let _edge = t.node_with("edge", &["origin"], showing_restarts);
        let viewer = t.viewer("edge");
        mpd_at(&viewer).await;
        assert_eq!(body_of(&viewer, "/live/v/0.m4s").await, "0 of 0");
        packager.restart();
        pass(Duration::from_secs(4)).await;
        mpd_at(&viewer).await;
        pass(Duration::from_secs(1)).await;
        assert_eq!(mark_of(&mpd_at(&viewer).await), None);
        assert_eq!(body_of(&viewer, "/live/v/0.m4s").await, "0 of 1");
    });
}

#[test]
fn ca_07_a_run_that_says_that_it_began_earlier_goes_on_where_players_are() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let packager = Packager::start(&origin, 60);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        mpd_at(&viewer).await;
        pass(Duration::from_secs(5)).await;
        mpd_at(&viewer).await;
        packager.restart_with(Duration::from_secs(30));
        pass(Duration::from_secs(3)).await;
        let (now, mark) = watch_until_marked(&viewer, None).await;
        let at = packager.now() - BEGIN + Duration::from_secs(60);
        let behind = at - newest_start(&now);
        assert!(
            (Duration::from_secs(8)..Duration::from_secs(11)).contains(&behind),
            "what players need to begin, and not what they have had: {behind:?}"
        );
        let shown = now.representations.last().expect("a representation");
        let first = shown.template.as_ref().expect("a template").first_number();
        let begins = newest_start(&now) - Duration::from_secs(35);
        assert_eq!(begins.as_secs(), first * 2, "at its own time");
        let path = format!("/live/v/{first}.m4s?_seawall_run={mark}");
        assert_eq!(body_of(&viewer, &path).await, format!("{first} of 1"));
        pass(Duration::from_secs(20)).await;
        let later = mpd_at(&viewer).await;
        assert_eq!(
            newest_start(&later),
            newest_start(&now),
            "a period stays where it is"
        );
        let from_it_on = packager.now() - BEGIN + Duration::from_secs(60) - newest_start(&now);
        let window = later.time_shift_buffer_depth.expect("a window");
        assert!(window > from_it_on - Duration::from_secs(4) && window <= from_it_on);
    });
}

#[test]
fn ld_10_players_read_an_mpd_as_often_as_it_may_begin_again_to_them() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let packager = Packager::start(&origin, 60);
        packager.set(|state| state.updated_each = "PT30S");
        let _shield = t.node("shield", &["origin"]);
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        let four = Some(Duration::from_secs(4));
        let before = mpd_at(&viewer).await;
        assert_eq!(before.minimum_update_period, four);
        packager.restart();
        pass(Duration::from_secs(4)).await;
        // Nobody has asked for anything since: it is shown while it is brought anew.
        mpd_at(&viewer).await;
        pass(Duration::from_secs(1)).await;
        let (now, _) = watch_until_marked(&viewer, None).await;
        assert_eq!(now.minimum_update_period, four);
        assert_eq!(now.availability_start, before.availability_start);
    });
}

#[test]
fn ld_10_an_mpd_that_players_read_each_four_seconds_is_asked_for_each_second_at_most() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let packager = Packager::start(&origin, 60);
        packager.set(|state| state.updated_each = "PT30S");
        let _shield = t.node("shield", &["origin"]);
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        for _ in 0..200 {
            mpd_at(&viewer).await;
            pass(Duration::from_millis(100)).await;
        }
        let asked = origin.requests(MPD);
        assert!(asked <= 21, "{asked} requests in 20 s");
    });
}

#[test]
fn ld_10_an_mpd_that_would_not_go_on_says_what_its_origin_says() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let packager = Packager::start(&origin, 60);
        packager.set(|state| state.updated_each = "PT30S");
        let _edge = t.node_with("edge", &["origin"], showing_restarts);
        let viewer = t.viewer("edge");
        let shown = mpd_at(&viewer).await;
        assert_eq!(shown.minimum_update_period, Some(Duration::from_secs(30)));
    });
}

#[test]
fn ca_07_segments_that_should_be_there_and_are_not_let_the_mpd_be_read_again_at_once() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let packager = Packager::start(&origin, 60);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        mpd_at(&viewer).await;
        let read = origin.requests(MPD);
        packager.restart();
        pass(Duration::from_millis(200)).await;
        assert_eq!(
            viewer.get("/live/v/29.m4s").await.status,
            StatusCode::NOT_FOUND
        );
        let now = mpd_at(&viewer).await;
        assert_eq!(origin.requests(MPD), read + 1, "it was fresh for a second");
        assert!(mark_of(&now).is_some());
    });
}
