//! What a player relies on, read back from the written boxes with other code than wrote them.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use mp4_atom::{Any, Decode, DecodeMaybe, Ftyp, Mdat, Moof, Moov, StszSamples};

use super::write::{FRAGMENT_OVERHEAD, SAMPLE_OVERHEAD};
use super::{Track, pad_to};

const LOOP: Duration = Duration::from_secs(32);
/// About 2026, as a live origin that counts from the Unix epoch asks.
const NOW: Duration = Duration::from_secs(1_780_000_000);

fn track(name: &str) -> Track {
    let tracks = Track::bundled().unwrap();
    tracks.into_iter().find(|t| t.name() == name).unwrap()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A fragment as a player sees it.
struct Seen {
    sequence: u32,
    decode_time: u64,
    samples: Vec<SeenSample>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct SeenSample {
    decode_time: u64,
    duration: u32,
    sync: bool,
    data: Vec<u8>,
}

impl Seen {
    /// Follows the data offset from the begin of the fragment, as a player does.
    fn parse(fragment: &Bytes) -> Self {
        let mut rest = &fragment[..];
        let moof = Moof::decode(&mut rest).unwrap();
        let moof_len = fragment.len() - rest.len();
        let mdat = Mdat::decode(&mut rest).unwrap();
        let [traf] = moof.traf.as_slice() else {
            panic!("one track")
        };
        let [trun] = traf.trun.as_slice() else {
            panic!("one run")
        };
        assert!(traf.tfhd.default_base_is_moof);
        assert_eq!(traf.tfhd.track_id, 1);
        let mut offset = trun.data_offset.unwrap() as usize;
        assert_eq!(offset, moof_len + 8, "the data begins in the mdat box");
        let decode_time = traf.tfdt.as_ref().unwrap().base_media_decode_time;
        let mut time = decode_time;
        let mut samples = Vec::new();
        for entry in &trun.samples {
            let size = entry.size.unwrap() as usize;
            assert_eq!(entry.cts, Some(0), "the bundled video has no B-frames");
            samples.push(SeenSample {
                decode_time: time,
                duration: entry.duration.unwrap(),
                sync: entry.flags.unwrap() & 0x1_0000 == 0,
                data: fragment[offset..offset + size].to_vec(),
            });
            offset += size;
            time += u64::from(entry.duration.unwrap());
        }
        assert_eq!(offset, moof_len + 8 + mdat.data.len(), "no byte is unused");
        Self {
            sequence: moof.mfhd.sequence_number,
            decode_time,
            samples,
        }
    }

    fn end(&self) -> u64 {
        let durations = self.samples.iter().map(|s| u64::from(s.duration));
        self.decode_time + durations.sum::<u64>()
    }
}

/// Knuth's MMIX generator: the same cuts in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn the_bundled_tracks_are_three_pictures_and_a_sound_of_one_length() {
    let tracks = Track::bundled().unwrap();
    let names: Vec<_> = tracks.iter().map(Track::name).collect();
    assert_eq!(names, ["v0", "v1", "v2", "a0"]);
    let codecs: Vec<_> = tracks.iter().map(Track::codec).collect();
    assert_eq!(
        codecs,
        ["avc1.4d400c", "avc1.4d4015", "avc1.4d401e", "mp4a.40.2"]
    );
    let sizes: Vec<_> = tracks.iter().map(Track::resolution).collect();
    assert_eq!(
        sizes,
        [Some((256, 144)), Some((426, 240)), Some((640, 360)), None]
    );
    for track in &tracks {
        assert_eq!(track.loop_duration(), LOOP);
        assert_eq!(track.frame_rate(), (!track.is_audio()).then_some(30.0));
        assert_eq!(track.is_audio(), track.name() == "a0");
    }
    assert!(tracks[0].bandwidth() < tracks[1].bandwidth());
    assert!(tracks[1].bandwidth() < tracks[2].bandwidth());
}

#[test]
fn tracks_are_shared_between_tasks() {
    fn shared<T: Send + Sync>() {}
    shared::<Track>();
}

#[test]
fn an_init_segment_parses_and_holds_no_samples() {
    for track in Track::bundled().unwrap() {
        let init = track.init_segment();
        let mut rest = &init[..];
        let ftyp = Ftyp::decode(&mut rest).unwrap();
        assert!(ftyp.compatible_brands.contains(&b"cmfc".into()));
        let moov = Moov::decode(&mut rest).unwrap();
        assert!(rest.is_empty());
        let [trex] = moov.mvex.as_ref().unwrap().trex.as_slice() else {
            panic!("one track")
        };
        let trak = &moov.trak[0];
        assert_eq!(trex.track_id, trak.tkhd.track_id);
        assert_eq!(trak.mdia.mdhd.timescale, track.timescale());
        assert_eq!(trak.edts, None);
        let stbl = &trak.mdia.minf.stbl;
        assert_eq!(stbl.stsd.codecs.len(), 1);
        assert!(stbl.stts.entries.is_empty());
        assert_eq!(stbl.stsz.samples, StszSamples::default());
    }
}

#[test]
fn decode_times_continue_over_the_end_of_a_loop() {
    for track in Track::bundled().unwrap() {
        for loops in [1, 2, 1000, 55_000_000] {
            let seam = LOOP * loops;
            let before = Seen::parse(&track.fragment(seam - ms(500), seam, 7).unwrap());
            let after = Seen::parse(&track.fragment(seam, seam + ms(500), 8).unwrap());
            assert_eq!((before.sequence, after.sequence), (7, 8));
            assert_eq!(before.end(), after.decode_time);
            let ticks = 32 * u64::from(track.timescale()) * u64::from(loops);
            assert_eq!(after.decode_time, ticks, "sound and picture repeat at once");
            assert!(after.samples[0].sync);
            let first = Seen::parse(&track.fragment(Duration::ZERO, ms(500), 0).unwrap());
            assert_eq!(first.samples[0].data, after.samples[0].data);
        }
    }
}

#[test]
fn no_cut_of_the_timeline_loses_or_repeats_a_sample() {
    for track in Track::bundled().unwrap() {
        let all = |from, to| -> Vec<SeenSample> {
            let fragment = track.fragment(from, to, 1);
            fragment.map_or(Vec::new(), |f| Seen::parse(&f).samples)
        };
        for (seed, begin) in [Duration::ZERO, LOOP * 1000 - ms(700), NOW]
            .into_iter()
            .enumerate()
        {
            let end = begin + LOOP + ms(1500);
            let mut random = Random(seed as u64);
            let (mut cut, mut pieces, mut lasted) = (begin, Vec::new(), 0.0);
            while cut < end {
                // From less than a sample, where some ranges are empty, to several frames.
                let next = end.min(cut + Duration::from_nanos(1 + random.below(300_000_000)));
                let piece = all(cut, next);
                assert_eq!(
                    track.starts_with_sync(cut, next),
                    piece.first().is_some_and(|s| s.sync)
                );
                lasted += track.fragment_duration(cut, next).as_secs_f64();
                pieces.extend(piece);
                cut = next;
            }
            let whole = all(begin, end);
            assert!(whole == pieces, "{} from {begin:?}", track.name());
            let distinct: HashSet<u64> = pieces.iter().map(|s| s.decode_time).collect();
            assert_eq!(distinct.len(), pieces.len());
            for pair in pieces.windows(2) {
                let [one, next] = pair else { unreachable!() };
                assert_eq!(one.decode_time + u64::from(one.duration), next.decode_time);
            }
            let whole = track.fragment_duration(begin, end).as_secs_f64();
            assert!((lasted - whole).abs() < 1e-5, "{lasted} is not {whole}");
        }
    }
}

#[test]
fn a_sample_belongs_to_the_range_that_begins_at_its_decode_time() {
    let audio = track("a0");
    // Frame 1 decodes at 1024/48000 s, 21 333 333 and a third nanoseconds.
    let floor = Duration::from_nanos(21_333_333);
    let ceil = Duration::from_nanos(21_333_334);
    assert_eq!(
        audio
            .fragment(floor, ceil, 1)
            .map(|f| Seen::parse(&f).decode_time),
        Some(1024)
    );
    assert_eq!(audio.fragment(ceil, ms(42), 1), None);
    let video = track("v0");
    assert!(video.fragment(ms(100), ms(100), 1).is_none());
    assert!(video.fragment(ms(200), ms(100), 1).is_none());
    let exact = video.fragment(ms(100), ms(200), 1).unwrap();
    assert_eq!(Seen::parse(&exact).samples.len(), 3);
    assert_eq!(video.fragment_duration(ms(100), ms(200)), ms(100));
}

#[test]
fn the_end_of_time_is_answered_without_overflow() {
    for track in Track::bundled().unwrap() {
        let end = Duration::MAX;
        assert_eq!(track.fragment(end - ms(1), end, 1), None);
        assert_eq!(track.fragment_duration(end, end), Duration::ZERO);
        assert!(track.fragment_duration(Duration::ZERO, end) > NOW);
    }
}

#[test]
fn each_second_of_video_begins_with_the_only_sync_sample_in_it() {
    for track in Track::bundled().unwrap() {
        if track.is_audio() {
            continue;
        }
        for second in (0..70).chain(NOW.as_secs()..NOW.as_secs() + 3) {
            let from = Duration::from_secs(second);
            let seen = Seen::parse(&track.fragment(from, from + ms(1000), 1).unwrap());
            assert_eq!(seen.samples.len(), 30);
            for (index, sample) in seen.samples.iter().enumerate() {
                assert_eq!(sample.sync, index == 0, "frame {index} of second {second}");
            }
            assert!(track.starts_with_sync(from, from + ms(200)));
            assert!(!track.starts_with_sync(from + ms(200), from + ms(400)));
        }
    }
}

#[test]
fn a_padded_fragment_weighs_what_was_asked_and_plays_the_same() {
    let fragment = track("v0").fragment(ms(0), ms(200), 1).unwrap();
    let bare = fragment.len();
    for extra in [8, 9, 4096, 1_000_000] {
        let padded = pad_to(fragment.clone(), bare + extra);
        assert_eq!(padded.len(), bare + extra);
        assert_eq!(padded.slice(..bare), fragment);
        let mut rest = &padded[bare..];
        assert!(matches!(
            Any::decode_maybe(&mut rest),
            Ok(Some(Any::Free(_)))
        ));
        assert!(rest.is_empty());
    }
    for bytes in [0, bare - 1, bare, bare + 7] {
        assert_eq!(
            pad_to(fragment.clone(), bytes),
            fragment,
            "no room for a box"
        );
    }
}

#[test]
fn bandwidth_covers_every_segment_of_two_seconds_cut_into_parts() {
    for track in Track::bundled().unwrap() {
        for segment in 0..16 {
            let begin = ms(2000) * segment;
            let parts = (0..10).map(|part| (begin + ms(200) * part, begin + ms(200) * (part + 1)));
            let bytes: usize = parts
                .map(|(from, to)| track.fragment(from, to, 1).unwrap().len())
                .sum();
            assert!(bytes as u64 * 4 <= track.bandwidth());
        }
    }
}

#[test]
fn the_stated_overhead_is_what_a_fragment_adds_to_its_samples() {
    let fragment = track("v1").fragment(ms(0), ms(1000), 1).unwrap();
    let samples = Seen::parse(&fragment).samples;
    let data: usize = samples.iter().map(|s| s.data.len()).sum();
    let overhead = FRAGMENT_OVERHEAD + samples.len() * SAMPLE_OVERHEAD;
    assert_eq!(fragment.len(), overhead + data);
}

#[test]
fn a_shifted_fragment_keeps_its_time_and_carries_later_content() {
    for name in ["v0", "a0"] {
        let track = track(name);
        let (from, to, shift) = (ms(31_500), ms(32_500), ms(8_000));
        let shifted = track.shifted_fragment(from, to, 9, shift).unwrap();
        let (shifted, plain) = (
            Seen::parse(&shifted),
            Seen::parse(&track.fragment(from, to, 9).unwrap()),
        );
        let later = Seen::parse(&track.fragment(from + shift, to + shift, 9).unwrap());
        assert_eq!(shifted.decode_time, plain.decode_time);
        let data =
            |seen: &Seen| -> Vec<_> { seen.samples.iter().map(|s| s.data.clone()).collect() };
        assert_eq!(data(&shifted), data(&later), "{name}");
        assert_ne!(data(&shifted), data(&plain), "{name}");
    }
}

#[test]
fn the_weight_and_the_ticks_of_a_fragment_are_known_without_making_it() {
    for name in ["v2", "a0"] {
        let track = track(name);
        for (from, to) in [(0, 500), (1_333, 1_667), (31_900, 32_200)] {
            let (from, to) = (ms(from), ms(to));
            for shift in [Duration::ZERO, ms(16_000)] {
                let fragment = track.shifted_fragment(from, to, 1, shift).unwrap();
                assert_eq!(track.fragment_len(from, to, shift), fragment.len());
                let seen = Seen::parse(&fragment);
                let lasts: u64 = seen.samples.iter().map(|s| u64::from(s.duration)).sum();
                let ticks = seen.decode_time..seen.decode_time + lasts;
                assert_eq!(track.ticks(from, to), ticks);
            }
        }
    }
}
