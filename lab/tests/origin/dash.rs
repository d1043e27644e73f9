//! DASH manifests: what players find in them and that it is true.

use std::time::Duration;

use lab::origin::OriginConfig;

use crate::support::{fragments, millis, stage, stage_with, stage_with_faults};

/// Returns the first value of an XML attribute.
fn value<'a>(mpd: &'a str, name: &str) -> &'a str {
    let pattern = format!("{name}=\"");
    let (_, rest) = mpd
        .split_once(&pattern)
        .unwrap_or_else(|| panic!("no {name}"));
    rest.split_once('"').unwrap().0
}

#[tokio::test(start_paused = true)]
async fn a_low_latency_manifest_offers_segments_when_their_first_chunk_is_out() {
    let stage = stage();
    let mpd = stage.text("/live/manifest.mpd").await;
    assert_eq!(value(&mpd, " type"), "dynamic");
    assert_eq!(value(&mpd, "availabilityTimeOffset"), "1.5");
    assert_eq!(value(&mpd, "availabilityTimeComplete"), "false");
    assert_eq!(
        value(&mpd, "availabilityStartTime"),
        "2025-12-31T23:59:36.000Z"
    );
    assert!(mpd.contains("urn:mpeg:dash:utc:http-iso:2014\" value=\"/time\""));
    assert!(mpd.contains("target=\"2000\""));
    // Segment 12 begins at the start: it is offered at its end, 2 s, less the offset.
    let segment = stage.get("/live/v0/seg12.m4s").await;
    assert_eq!(segment.pieces[0].0, millis(2000 - 1500));
    assert!(segment.is_whole);
}

#[tokio::test(start_paused = true)]
async fn ld_01_the_segment_after_the_next_is_not_there_yet() {
    let stage = stage();
    assert_eq!(stage.get("/live/v0/seg13.m4s").await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_low_latency_manifest_stays_the_same_while_it_runs() {
    let stage = stage();
    let first = stage.get("/live/manifest.mpd").await;
    tokio::time::advance(Duration::from_secs(60)).await;
    let second = stage.get("/live/manifest.mpd").await;
    assert_eq!(first.header("etag"), second.header("etag"));
}

#[tokio::test(start_paused = true)]
async fn plain_and_vod_manifests_list_exactly_the_segments_there_are() {
    let stage = stage_with(OriginConfig {
        segment: Duration::from_secs(3),
        ..OriginConfig::default()
    });
    tokio::time::advance(Duration::from_secs(7)).await;
    for (presentation, renditions) in [("plain", ["v0", "a0"]), ("vod", ["v0", "a0"])] {
        let mpd = stage.text(format!("/{presentation}/manifest.mpd")).await;
        let sets: Vec<&str> = mpd.split("<AdaptationSet").skip(1).collect();
        assert_eq!(sets.len(), 2);
        for (set, rendition) in sets.iter().zip(renditions) {
            let first: u64 = value(set, "startNumber").parse().unwrap();
            let lines = set.lines().filter(|l| l.contains("<S "));
            let mut count = 0;
            for (msn, line) in (first..).zip(lines) {
                let path = format!("/{presentation}/{rendition}/seg{msn}.m4s");
                let found = fragments(&stage.get(path).await.body);
                assert_eq!(value(line, " t"), found[0].start.to_string());
                let duration: u64 = found.iter().map(|f| f.duration).sum();
                assert_eq!(value(line, " d"), duration.to_string());
                count += 1;
            }
            assert_eq!(count, if presentation == "vod" { 11 } else { 12 });
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_plain_manifest_changes_with_each_segment() {
    let stage = stage();
    let tag = |answer: crate::support::Answer| answer.header("etag").to_owned();
    let first = tag(stage.get("/plain/manifest.mpd").await);
    tokio::time::advance(millis(1900)).await;
    assert_eq!(tag(stage.get("/plain/manifest.mpd").await), first);
    tokio::time::advance(millis(100)).await;
    assert_ne!(tag(stage.get("/plain/manifest.mpd").await), first);
}

#[tokio::test(start_paused = true)]
async fn an_ended_manifest_says_how_long_it_was() {
    let stage = stage_with_faults(["endlist:1s-"]);
    tokio::time::advance(millis(1500)).await;
    let mpd = stage.text("/live/manifest.mpd").await;
    assert_eq!(value(&mpd, "mediaPresentationDuration"), "PT25S");
    assert!(!mpd.contains("minimumUpdatePeriod"));
}

/// Returns where `what` is, from `begin` on.
fn at(text: &str, begin: usize, what: &str) -> usize {
    begin + text.get(begin..).unwrap().find(what).unwrap()
}

/// Applies a patch of this origin to a manifest, as RFC 5261 has it, as far as this origin goes.
fn patched(mut mpd: String, patch: &str) -> String {
    for operation in patch.split("<replace ").skip(1).chain(
        patch
            .split("<remove ")
            .skip(1)
            .chain(patch.split("<add ").skip(1)),
    ) {
        let (selector, rest) = operation.split_once('>').unwrap();
        let selector = value(selector, "sel").to_owned();
        let content = |end: &str| rest.split_once(end).unwrap().0;
        let set = selector.split("AdaptationSet[@id='").nth(1);
        let set_at = set.map_or(0, |set| {
            let id = set.chars().next().unwrap();
            mpd.find(&format!("<AdaptationSet id=\"{id}\"")).unwrap()
        });
        let attribute = selector.split("/@").nth(1);
        if let Some(name) = attribute {
            let name = format!(" {name}=\"");
            let begin = at(&mpd, set_at, &name) + name.len();
            let end = at(&mpd, begin, "\"");
            mpd.replace_range(begin..end, content("</replace>"));
        } else if selector.ends_with("/PatchLocation[1]") {
            let begin = mpd.find("<PatchLocation").unwrap();
            let tag = "</PatchLocation>";
            let end = mpd.find(tag).unwrap() + tag.len();
            mpd.replace_range(begin..end, content("</replace>"));
        } else if selector.ends_with("/S[1]") {
            let begin = at(&mpd, set_at, "          <S ");
            let end = at(&mpd, begin, "\n") + 1;
            mpd.replace_range(begin..end, "");
        } else {
            assert!(selector.ends_with("/SegmentTimeline"), "{selector}");
            let end = at(&mpd, set_at, "        </SegmentTimeline>");
            mpd.insert_str(end, content("</add>").trim_start_matches('\n'));
        }
    }
    mpd
}

#[tokio::test(start_paused = true)]
async fn ld_14_a_patch_makes_the_newest_manifest_of_the_one_it_is_for() {
    let stage = stage();
    let first = stage.text("/plain/patched.mpd").await;
    let place = |mpd: &str| {
        let (_, rest) = mpd.split_once("<PatchLocation ttl=\"24\">").unwrap();
        format!("/plain/{}", rest.split_once('<').unwrap().0)
    };
    let of_first = place(&first);
    assert_eq!(
        stage.get(of_first.as_str()).await.status,
        425,
        "it is the newest"
    );
    let mut before = first;
    for seconds in [2, 6, 14] {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        let answer = stage.get(place(&before).as_str()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), "application/dash-patch+xml");
        let patch = String::from_utf8(answer.body.to_vec()).unwrap();
        let now = stage.text("/plain/patched.mpd").await;
        assert!(patch.len() < now.len());
        assert_eq!(patched(before, &patch), now, "{patch}");
        before = now;
    }
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(
        stage.get(of_first.as_str()).await.status,
        410,
        "it left the window"
    );
    for malformed in ["", "?publishTime", "?a=b"] {
        let answer = stage.get(format!("/plain/patch.mpp{malformed}")).await;
        assert_eq!(answer.status, 400, "{malformed}");
    }
    assert_eq!(
        stage.get("/plain/patch.mpp?publishTime=x").await.status,
        410
    );
    assert_eq!(stage.get("/live/patch.mpp?publishTime=x").await.status, 404);
}
