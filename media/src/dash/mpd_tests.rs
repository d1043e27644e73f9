//! What is read of an MPD, what is refused, and when segments are available.

use super::*;
use crate::dash::Addressed;

fn parse(text: &str) -> Result<Mpd, MpdError> {
    Mpd::parse(Bytes::copy_from_slice(text.as_bytes()), &Limits::default())
}

const LIVE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!-- low latency -->
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic" availabilityStartTime="1970-01-01T00:01:40Z"
     publishTime="2026-11-22T18:06:00Z" minimumUpdatePeriod="PT2S" timeShiftBufferDepth="PT1M"
     suggestedPresentationDelay="PT3S" profiles="a &amp; b">
  <ServiceDescription id="0"><Latency target="3000"/><BaseURL>not-ours/</BaseURL></ServiceDescription>
  <BaseURL availabilityTimeOffset="0.5">cdn/&amp;/</BaseURL>
  <BaseURL>second/</BaseURL>
  <Location> https://h/live.mpd?a=1&#38;b=2 </Location>
  <PatchLocation ttl="60"><![CDATA[patch.mpp?publishTime=1&x]]></PatchLocation>
  <Period id="p0" start="PT0S" duration="PT100S">
    <SegmentTemplate timescale="1000" media="$RepresentationID$/p0-$Number$.m4s"/>
    <AdaptationSet mimeType="video/mp4">
      <ContentProtection schemeIdUri="x"><x:pssh xmlns:x="y">AAAA</x:pssh></ContentProtection>
      <SegmentTemplate duration="2000" startNumber="0" initialization="$RepresentationID$/init.mp4"
        availabilityTimeOffset="1.5" availabilityTimeComplete="false"/>
      <Representation id="v0" bandwidth="800000"/>
      <Representation id="v1" bandwidth="300000"><BaseURL>low/</BaseURL></Representation>
    </AdaptationSet>
  </Period>
  <Period id="p1">
    <AdaptationSet>
      <SegmentTemplate timescale="48000" media="a-$Time$.m4s">
        <SegmentTimeline><S t="0" d="96000" r="2"/><S d="48000" r="-1"/></SegmentTimeline>
      </SegmentTemplate>
      <Representation id="a0" bandwidth="1" mimeType="audio/mp4"/>
    </AdaptationSet>
  </Period>
  <UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-iso:2014" value="/time?a=1&amp;b"/>
</MPD>
"#;

#[test]
fn everything_that_delivery_needs_is_read() {
    let mpd = parse(LIVE).unwrap();
    assert_eq!(mpd.text, LIVE.as_bytes());
    assert!(mpd.is_dynamic() && mpd.has_growing_segments());
    assert_eq!(mpd.availability_start, Some(Duration::from_secs(100)));
    assert_eq!(mpd.publish_time, Some(Duration::from_secs(1_795_370_760)));
    assert_eq!(mpd.minimum_update_period, Some(Duration::from_secs(2)));
    assert_eq!(mpd.time_shift_buffer_depth, Some(Duration::from_secs(60)));
    assert_eq!(
        mpd.suggested_presentation_delay,
        Some(Duration::from_secs(3))
    );
    assert_eq!(mpd.locations, ["https://h/live.mpd?a=1&b=2"]);
    let ttl = Some(Duration::from_secs(60));
    let patch = PatchLocation {
        uri: "patch.mpp?publishTime=1&x".to_owned(),
        ttl,
    };
    assert_eq!(mpd.patch_locations, [patch]);
    assert_eq!(mpd.utc_timings[0].value, "/time?a=1&b");
    let bases: Vec<_> = mpd.base_urls.iter().map(|base| base.uri.as_str()).collect();
    assert_eq!(bases, ["cdn/&/", "second/"]);
    let starts: Vec<_> = mpd.periods.iter().map(|period| period.start).collect();
    assert_eq!(
        starts,
        [Some(Duration::ZERO), Some(Duration::from_secs(100))]
    );
}

#[test]
fn representations_inherit_what_they_do_not_say() {
    let mpd = parse(LIVE).unwrap();
    let [v0, v1, a0] = mpd.representations.as_slice() else {
        panic!("three representations")
    };
    assert_eq!(
        (v0.mime_type.as_deref(), a0.mime_type.as_deref()),
        (Some("video/mp4"), Some("audio/mp4"))
    );
    let bases: Vec<_> = v1.base_urls.iter().map(|base| base.uri.as_str()).collect();
    assert_eq!(bases, ["cdn/&/", "low/"]);
    assert_eq!(v0.initialization_path().as_deref(), Some("v0/init.mp4"));
    let segment = Addressed {
        number: Some(7),
        ..Addressed::default()
    };
    assert_eq!(v1.path_of(segment).as_deref(), Some("v1/p0-7.m4s"));
    assert_eq!(v1.segment_of("v1/p0-7.m4s"), Some(segment));
    assert_eq!(v1.segment_of("v0/p0-7.m4s"), None);
    let template = a0.template.as_ref().unwrap();
    let runs: Vec<_> = template
        .timeline
        .iter()
        .map(|run| (run.start, run.duration, run.repeat))
        .collect();
    assert_eq!(runs, [(Some(0), 96_000, 2), (None, 48_000, -1)]);
    assert_eq!((template.segment_duration(), a0.period), (None, 1));
    assert!(v0.is_growing() && !a0.is_growing());
}

#[test]
fn ld_01_the_live_edge_follows_from_the_clock() {
    let mpd = parse(LIVE).unwrap();
    let v0 = &mpd.representations[0];
    assert_eq!(v0.availability_offset(), Duration::from_secs(2));
    // Segment 0 ends at 102 s and is available two seconds before that.
    assert_eq!(mpd.available_at(v0, 0), Some(Duration::from_secs(100)));
    assert_eq!(mpd.available_at(v0, 10), Some(Duration::from_secs(120)));
    let cases = [
        (99_999, None),
        (100_000, Some(0)),
        (119_999, Some(9)),
        (120_000, Some(10)),
    ];
    for (milliseconds, expected) in cases {
        let now = Duration::from_millis(milliseconds);
        assert_eq!(mpd.last_available(v0, now), expected, "{milliseconds} ms");
    }
    assert_eq!(
        mpd.last_available(&mpd.representations[2], Duration::from_secs(999)),
        None
    );
}

#[test]
fn the_live_edge_does_not_drift_with_fractional_durations() {
    let text = r#"<MPD type="dynamic" availabilityStartTime="1970-01-01T00:00:00Z"><Period start="PT0S">
        <AdaptationSet><SegmentTemplate media="$Number$" timescale="30000" duration="1001"/>
        <Representation id="v"/></AdaptationSet></Period></MPD>"#;
    let mpd = parse(text).unwrap();
    let v = &mpd.representations[0];
    let at = mpd.available_at(v, 30_000_000_000).unwrap();
    assert_eq!(at, Duration::from_secs(1_001_000_000));
    assert_eq!(mpd.last_available(v, at), Some(30_000_000_000));
    assert_eq!(
        mpd.last_available(v, at - Duration::from_nanos(1)),
        Some(29_999_999_999)
    );
    assert_eq!(mpd.available_at(v, 0), None);
}

#[test]
fn a_static_mpd_has_no_live_edge() {
    let mpd = parse("<MPD mediaPresentationDuration='PT30S'><Period/></MPD>").unwrap();
    assert!(!mpd.is_dynamic());
    assert_eq!(
        mpd.media_presentation_duration,
        Some(Duration::from_secs(30))
    );
    assert_eq!(mpd.periods[0].start, Some(Duration::ZERO));
}

#[test]
fn other_documents_are_not_mpds() {
    for text in ["", "text", "<html></html>", "<Patch/>", "#EXTM3U", "{}"] {
        assert!(matches!(parse(text), Err(MpdError::NotAnMpd)), "{text}");
    }
    for text in ["<MPD>", "<MPD><Period>", "<MPD><Period></Period>"] {
        assert!(matches!(parse(text), Err(MpdError::Unfinished)), "{text}");
    }
    for text in [
        "<MPD></Period></MPD>",
        "<MPD a=b/>",
        "<MPD",
        "<MPD a='&x;'/>",
    ] {
        assert!(matches!(parse(text), Err(MpdError::Xml { .. })), "{text}");
    }
    let text = Bytes::from_static(b"<MPD>\xff</MPD>");
    assert!(matches!(
        Mpd::parse(text, &Limits::default()),
        Err(MpdError::NotUtf8)
    ));
}

#[test]
fn entities_that_could_expand_are_refused() {
    let bomb =
        "<!DOCTYPE MPD [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><MPD><BaseURL>&b;</BaseURL></MPD>";
    assert!(matches!(parse(bomb), Err(MpdError::DocumentType)));
    let unknown = parse("<MPD><BaseURL>&b;</BaseURL></MPD>");
    assert!(matches!(
        unknown,
        Err(MpdError::Malformed { what: "entity", .. })
    ));
}

#[test]
fn malformed_values_are_refused_by_name() {
    let cases = [
        ("<MPD type='live'/>", "type"),
        ("<MPD minimumUpdatePeriod='2'/>", "minimumUpdatePeriod"),
        ("<MPD publishTime='yesterday'/>", "publishTime"),
        (
            "<MPD><BaseURL availabilityTimeOffset='-1'/></MPD>",
            "availabilityTimeOffset",
        ),
        (
            "<MPD><BaseURL availabilityTimeOffset='NaN'/></MPD>",
            "availabilityTimeOffset",
        ),
        (
            "<MPD><Period><SegmentTemplate media='$x$'/></Period></MPD>",
            "media",
        ),
        (
            "<MPD><Period><SegmentTemplate timescale='0'/></Period></MPD>",
            "timescale",
        ),
        (
            "<MPD><Period><SegmentTemplate duration='-1'/></Period></MPD>",
            "duration",
        ),
        (
            "<MPD><Period><SegmentTemplate><SegmentTimeline><S r='1'/></SegmentTimeline>\
             </SegmentTemplate></Period></MPD>",
            "d",
        ),
    ];
    for (text, expected) in cases {
        match parse(text) {
            Err(MpdError::Malformed { what, .. }) => assert_eq!(what, expected, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    let infinite = parse("<MPD><BaseURL availabilityTimeOffset='INF'>a</BaseURL></MPD>").unwrap();
    let offset = infinite.base_urls[0].availability_time_offset;
    assert_eq!(offset, Some(Duration::from_secs(1_000_000_000)));
}

#[test]
fn every_limit_is_an_error_that_names_it() {
    let limits = Limits {
        bytes_max: 4_000,
        elements_max: 30,
        depth_max: 8,
        attributes_max: 3,
        representations_max: 2,
        timeline_runs_max: 3,
        items_max: 2,
    };
    let set =
        |inner: &str| format!("<MPD><Period><AdaptationSet>{inner}</AdaptationSet></Period></MPD>");
    let cases = [
        (format!("<MPD>{}</MPD>", "<a/>".repeat(40)), "elements"),
        (
            "<MPD>".to_owned() + &"<a>".repeat(9),
            "elements in each other",
        ),
        ("<MPD a='' b='' c='' d=''/>".to_owned(), "attributes"),
        (set(&"<Representation/>".repeat(3)), "representations"),
        (
            set(&format!(
                "<SegmentTemplate><SegmentTimeline>{}</SegmentTimeline></SegmentTemplate>",
                "<S d='1'/>".repeat(4)
            )),
            "runs of a timeline",
        ),
        (format!("<MPD>{}</MPD>", "<Period/>".repeat(3)), "periods"),
        (
            format!("<MPD>{}</MPD>", "<BaseURL/>".repeat(3)),
            "base URLs",
        ),
        (
            format!("<MPD>{}</MPD>", "<Location/>".repeat(3)),
            "locations",
        ),
        (
            format!("<MPD>{}</MPD>", "<PatchLocation/>".repeat(3)),
            "patch locations",
        ),
        (
            format!("<MPD>{}</MPD>", "<UTCTiming/>".repeat(3)),
            "sources of the time",
        ),
    ];
    for (text, expected) in cases {
        match Mpd::parse(Bytes::from(text), &limits) {
            Err(MpdError::TooMany { what, .. }) => assert_eq!(what, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    let long = Bytes::from(format!(
        "<MPD><BaseURL>{}</BaseURL></MPD>",
        "a".repeat(5_000)
    ));
    assert!(matches!(
        Mpd::parse(long, &limits),
        Err(MpdError::TooLarge { .. })
    ));
    let long = format!(
        "<MPD><BaseURL>{}</BaseURL></MPD>",
        "a".repeat(URI_BYTES_MAX + 1)
    );
    assert!(matches!(
        parse(&long),
        Err(MpdError::TooMany {
            what: "bytes of a URI",
            ..
        })
    ));
}

#[test]
fn a_truncated_mpd_is_never_taken_for_a_whole_one() {
    let end = LIVE.rfind("</MPD>").unwrap();
    for length in 0..end {
        assert!(
            parse(LIVE.get(..length).unwrap()).is_err(),
            "{length} bytes"
        );
    }
}

const COUNTED: &str = r#"<MPD type="dynamic" availabilityStartTime="1970-01-01T00:00:00Z"><Period start="PT0S" duration="PT20S"><AdaptationSet><SegmentTemplate media="$Number$.m4s" startNumber="1" duration="4" availabilityTimeOffset="3"/><Representation id="v" bandwidth="1"/></AdaptationSet></Period></MPD>"#;

#[test]
fn ld_01_the_next_segment_is_known_until_it_is_available() {
    let mpd = Mpd::parse(COUNTED.into(), &Limits::default()).unwrap();
    let milliseconds = Duration::from_millis;
    // Number 3 is from 8 s to 12 s, and is available at 9 s.
    for (number, now, expected) in [
        (3, 8_700, Some(300)),
        (3, 5_000, Some(4_000)),
        (3, 4_999, None),
        (3, 9_000, None),
        (3, 12_000, None),
        (0, 100, None),
        (5, 16_000, Some(1_000)),
        (6, 20_000, None),
        (u64::MAX, 8_000, None),
    ] {
        let wait = mpd.next_in(&mpd.representations[0], number, milliseconds(now));
        assert_eq!(wait, expected.map(milliseconds), "{number} at {now} ms");
    }
}

#[test]
fn ld_10_versions_are_ordered_by_publish_time_within_one_presentation() {
    let mpd = |kind: &str, start: &str, published: &str| {
        let text = format!(r#"<MPD type="{kind}" {start} {published}><Period/></MPD>"#);
        Mpd::parse(text.into(), &Limits::default()).unwrap()
    };
    let start = r#"availabilityStartTime="1970-01-01T00:00:00Z""#;
    let other = r#"availabilityStartTime="1970-01-02T00:00:00Z""#;
    let first = r#"publishTime="1970-01-01T00:00:01Z""#;
    let second = r#"publishTime="1970-01-01T00:00:02Z""#;
    let shown = mpd("dynamic", start, second);
    assert!(mpd("dynamic", start, first).is_older_than(&shown));
    assert!(mpd("static", start, first).is_older_than(&shown));
    assert!(!mpd("dynamic", start, second).is_older_than(&shown));
    assert!(!mpd("dynamic", other, first).is_older_than(&shown));
    assert!(!mpd("dynamic", start, "").is_older_than(&shown));
    let ended = mpd("static", start, "");
    assert!(mpd("dynamic", start, first).is_older_than(&ended));
    assert!(!mpd("static", start, "").is_older_than(&ended));
}
