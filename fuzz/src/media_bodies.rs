//! The bodies of the targets for `media`: playlists, directives, delta updates, MPDs, URIs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media::MediaSequenceNumber;
use media::dash::{self, Addressed, Mpd};
use media::hls::{
    Answer, DeliveryDirectives, Limits, MediaPlaylist, Playlist, Rendition, Update, answer,
    delta_update, merge_delta,
};
use media::uri::{Resolved, resolve};

/// Parses a playlist, reads all of it, and shows it.
pub fn playlist(data: &[u8]) {
    let text = Bytes::copy_from_slice(data);
    match Playlist::parse(text.clone(), &Limits::default()) {
        Err(_) => {}
        Ok(Playlist::Multivariant(list)) => {
            assert_eq!(list.text(), &text);
            for child in list.media_playlists() {
                resolve("/live/index.m3u8", child.uri).ok();
            }
            assert!(list.session_keys().count() + list.defines().count() <= data.len());
            let _ = list.content_steering();
        }
        Ok(Playlist::Media(list)) => {
            assert_eq!(list.text(), &text);
            read(&list);
            show(list);
        }
    }
}

fn read(list: &MediaPlaylist) {
    let mut before = None;
    for segment in list.segments() {
        assert!(before < Some(segment.msn), "segments are in order");
        assert_eq!(list.segment(segment.msn).as_ref(), Some(&segment));
        assert!(segment.map.is_none_or(|map| map < list.maps().len()));
        assert!(segment.parts.end <= list.parts().len());
        before = Some(segment.msn);
    }
    assert!(
        list.parts().map(|part| part.position).is_sorted(),
        "parts are in order"
    );
    assert!(
        list.last_position() < Some(list.next_position()),
        "what is next is not there"
    );
    let uris = list
        .segments()
        .map(|s| s.uri)
        .chain(list.parts().map(|p| p.uri));
    let uris = uris
        .chain(list.maps().map(|m| m.uri))
        .chain(list.keys().filter_map(|k| k.uri));
    let uris = uris.chain(list.preload_hints().map(|h| h.uri));
    for uri in uris.chain(list.rendition_reports().map(|r| r.uri)) {
        resolve("/live/v0/list.m3u8", uri).ok();
    }
    let named = list.date_ranges().count() + list.defines().count();
    assert!(named <= list.text().len());
    let _ = (
        list.hold_back(),
        list.part_hold_back(),
        list.server_control(),
        list.skip(),
    );
}

fn show(list: MediaPlaylist) {
    let next = DeliveryDirectives {
        position: Some(list.next_position()),
        skip: None,
    };
    let judged = answer(&list, &next);
    let is_held = list.can_block_reload() && !list.is_ended();
    assert_eq!(judged, if is_held { Answer::Hold } else { Answer::Now });
    let last = DeliveryDirectives {
        position: list.last_position(),
        skip: None,
    };
    assert_eq!(answer(&list, &last), Answer::Now);
    let is_whole = list.skip().is_none();
    let list = Arc::new(list);
    let mut rendition = Rendition::new();
    let first = rendition.offer(Arc::clone(&list), Duration::ZERO);
    assert_eq!(matches!(first, Update::Newer { .. }), is_whole);
    if is_whole {
        assert_eq!(rendition.offer(list, Duration::ZERO), Update::Unchanged);
    }
}

/// Reads a query, and judges it against a playlist.
pub fn directives(data: &[u8]) {
    let Ok(query) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(directives) = DeliveryDirectives::parse(query) else {
        return;
    };
    let list = Bytes::from_static(
        b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-PART-INF:PART-TARGET=0.5\n\
          #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n#EXT-X-MEDIA-SEQUENCE:10\n\
          #EXTINF:2,\ns10\n#EXT-X-PART:DURATION=0.5,URI=\"p\"\n",
    );
    let Ok(Playlist::Media(list)) = Playlist::parse(list, &Limits::default()) else {
        panic!("the playlist is one");
    };
    let judged = answer(&list, &directives);
    match directives.position {
        None => assert_eq!(judged, Answer::Now),
        Some(wanted) if wanted.msn <= MediaSequenceNumber(9) => assert_eq!(judged, Answer::Now),
        Some(wanted) if wanted.msn > MediaSequenceNumber(12) => {
            assert!(matches!(judged, Answer::Refuse(_)));
        }
        Some(_) => {}
    }
}

/// Takes two versions, divided by a zero byte; makes the delta of the second and merges it into both.
pub fn delta(data: &[u8]) {
    let Some(at) = data.iter().position(|byte| *byte == 0) else {
        return;
    };
    let (previous, newer) = data.split_at(at);
    let newer = newer.get(1..).unwrap_or_default();
    let (Some(previous), Some(newer)) = (media_playlist(previous), media_playlist(newer)) else {
        return;
    };
    if let Ok(merged) = merge_delta(&previous, &newer) {
        let _ = media_playlist(&merged);
    }
    let Some(text) = delta_update(&newer) else {
        return;
    };
    let delta = media_playlist(&text).expect("a delta update is a playlist");
    assert!(delta.version() >= 9 && delta.skip().is_some());
    assert_eq!(delta.media_sequence(), newer.media_sequence());
    assert_eq!(delta.last_position(), newer.last_position());
    assert_eq!(delta.next_position(), newer.next_position());
    let merged = merge_delta(&newer, &delta).expect("a version has what it skips");
    let merged = media_playlist(&merged).expect("what is merged is a playlist");
    assert!(
        merged
            .segments()
            .map(essence)
            .eq(newer.segments().map(essence))
    );
    if let Ok(merged) = merge_delta(&previous, &delta) {
        let merged = media_playlist(&merged).expect("what is merged is a playlist");
        assert_eq!(merged.last_position(), newer.last_position());
    }
}

/// What of a segment survives a merge byte for byte.
fn essence(segment: media::hls::Segment<'_>) -> (String, MediaSequenceNumber, Duration, bool) {
    (
        segment.uri.to_owned(),
        segment.msn,
        segment.duration,
        segment.is_gap,
    )
}

fn media_playlist(text: &[u8]) -> Option<MediaPlaylist> {
    match Playlist::parse(Bytes::copy_from_slice(text), &Limits::default()) {
        Ok(Playlist::Media(list)) => Some(list),
        Ok(Playlist::Multivariant(_)) | Err(_) => None,
    }
}

/// Parses an MPD or a patch of one, gives it a clock, and computes with it.
pub fn mpd(data: &[u8]) {
    let text = Bytes::copy_from_slice(data);
    let _ = dash::Patch::parse(&text, &dash::Limits::default());
    let clock = ("urn:mpeg:dash:utc:http-xsdate:2014", "/time");
    let named = dash::with_clock(&text, clock);
    let Ok(mpd) = Mpd::parse(text, &dash::Limits::default()) else {
        return;
    };
    if let Some(named) = named {
        let again = dash::with_clock(&named, clock);
        assert_eq!(again, None, "once is enough");
        let named = Mpd::parse(named, &dash::Limits::default());
        let named = named.expect("what is changed can be read, too");
        let first = named.utc_timings.first().map(|first| first.scheme.as_str());
        assert_eq!(first, Some(clock.0), "it is the first one");
    }
    assert_eq!(mpd.text, data);
    goes_on(&mpd);
    for representation in mpd.representations.iter().take(16) {
        for now in [
            Duration::ZERO,
            Duration::from_secs(1_795_370_760),
            Duration::MAX,
        ] {
            let Some(last) = mpd.last_available(representation, now) else {
                continue;
            };
            let available = mpd.available_at(representation, last);
            assert!(
                available.is_none_or(|at| at <= now),
                "the last available is available"
            );
        }
        let segment = Addressed {
            number: Some(7),
            time: Some(900),
            sub_number: Some(0),
        };
        if let Some(timeline) = dash::Continuation::of(&mpd, representation) {
            for now in [Duration::ZERO, Duration::MAX] {
                timeline.next_in(segment, now);
                timeline.pace(segment, 4, now);
            }
        }
        if let Some(path) = representation.path_of(segment) {
            let _ = representation.segment_of(&path);
        }
        let _ = (
            representation.initialization_path(),
            representation.availability_offset(),
        );
    }
}

/// Shows an MPD as a run that follows another one, with and without its beginning, and to players that read it often.
fn goes_on(mpd: &Mpd) {
    let (earlier, later) = (Duration::from_secs(60), Duration::from_secs(4));
    if let Some(often) = dash::with_update_period(mpd, later).and_then(read_again) {
        assert_eq!(often.minimum_update_period, Some(later));
        assert_eq!(often.periods, mpd.periods);
    }
    let Some(start) = mpd.availability_start else {
        return;
    };
    let withheld = mpd.periods.first().and_then(|period| {
        Some(dash::Withheld {
            period_start: period.start?,
            duration: later,
        })
    });
    for withheld in [None, withheld] {
        let rebase = dash::Rebase {
            availability_start: Duration::from_secs(start.saturating_sub(earlier).as_secs()),
            published_later: Duration::ZERO,
            parameter: "_run=ab".to_owned(),
            period_suffix: "ab".to_owned(),
            withheld,
        };
        let before = dash::PeriodBefore::last_of(mpd);
        let crossing = dash::Crossing {
            before: before.as_ref(),
            window: Some(later),
        };
        let Some(shown) = rebase.rewrite(mpd, start, crossing).and_then(read_again) else {
            continue;
        };
        assert_eq!(shown.availability_start, Some(rebase.availability_start));
        let began = |mpd: &Mpd| mpd.periods.last().and_then(|period| period.start);
        assert!(began(&shown) >= began(mpd), "time does not go back");
    }
}

fn read_again(text: Bytes) -> Option<Mpd> {
    let limits = dash::Limits {
        bytes_max: text.len(),
        ..dash::Limits::default()
    };
    Mpd::parse(text, &limits).ok()
}

/// Resolves what follows the first line end against what precedes it.
pub fn uri(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (base, reference) = text
        .split_once('\n')
        .unwrap_or(("/live/v0/list.m3u8?a=1", text));
    match resolve(base, reference) {
        Ok(Resolved::PathAndQuery(path)) => {
            assert!(path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()));
            assert!(!path.contains('#'));
            if !path.starts_with("//") {
                assert_eq!(resolve("/", &path), Ok(Resolved::PathAndQuery(path)));
            }
        }
        Ok(Resolved::Url(url)) => {
            assert!(url.bytes().all(|byte| byte.is_ascii_graphic()));
            assert_eq!(resolve("/", &url), Ok(Resolved::Url(url)));
        }
        Ok(Resolved::Other(_)) | Err(_) => {}
    }
}
