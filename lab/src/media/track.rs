//! A track: one bundled file, repeated for ever.
//!
//! The origin asks for fragments by ranges of time. All arithmetic is in whole ticks of the track's
//! timescale: a range becomes a range of sample numbers on the endless timeline, and a sample number
//! becomes a loop and a row of the file's table.
//!
//! ```text
//! number   0 .. n-1 | n .. 2n-1 | 2n ..          n samples per loop
//! row      0 .. n-1 | 0 .. n-1  | 0 ..
//! time     0        | d         | 2d             d ticks per loop, 32 s in every track
//! ```

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use super::read::{self, MediaError, Sample, Source};
use super::write::{self, Entry, FRAGMENT_OVERHEAD, MAX_FRAGMENT_SAMPLES, SAMPLE_OVERHEAD};

/// What [`Track::bandwidth`] averages over.
const BANDWIDTH_WINDOW: Duration = Duration::from_secs(2);

/// How many fragments [`Track::bandwidth`] takes a window to be cut into: parts of 200 ms.
const FRAGMENTS_PER_WINDOW: u64 = 10;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// A rendition of video or audio that never ends.
///
/// Times are decode times since the begin of the endless timeline. All bundled tracks share it:
/// each loop takes the same time in every track, to the tick, so sound and picture never drift.
///
/// Invariant: consecutive ranges `[a, b)` and `[b, c)` never lose or repeat a sample.
pub struct Track {
    name: &'static str,
    source: Source,
    loop_ticks: u64,
    bandwidth: u64,
}

impl std::fmt::Debug for Track {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Track")
            .field("name", &self.name)
            .field("bandwidth", &self.bandwidth)
            .finish_non_exhaustive()
    }
}

impl Track {
    /// Reads the bundled tracks: `v0` (the smallest picture), `v1`, `v2`, and the audio `a0`.
    ///
    /// # Errors
    ///
    /// A bundled file is malformed or cannot be repeated, or the loops of two differ in length.
    pub fn bundled() -> Result<Vec<Self>, MediaError> {
        let files: [(&'static str, &'static [u8]); 4] = [
            ("v0", include_bytes!("../../media/v0.mp4")),
            ("v1", include_bytes!("../../media/v1.mp4")),
            ("v2", include_bytes!("../../media/v2.mp4")),
            ("a0", include_bytes!("../../media/a0.mp4")),
        ];
        let tracks = files
            .into_iter()
            .map(|(name, file)| Ok(Self::new(name, read::source(name, file)?)))
            .collect::<Result<Vec<_>, MediaError>>()?;
        for pair in tracks.windows(2) {
            let [one, other] = pair else { continue };
            if !one.loops_with(other) {
                return Err(MediaError::Unfit {
                    track: other.name,
                    problem: "its loop is longer or shorter than that of the track before it",
                });
            }
        }
        Ok(tracks)
    }

    fn new(name: &'static str, source: Source) -> Self {
        let loop_ticks = source
            .samples
            .last()
            .map_or(0, |last| last.start + u64::from(last.duration));
        let mut track = Self {
            name,
            source,
            loop_ticks,
            bandwidth: 0,
        };
        track.bandwidth = track.peak_bandwidth();
        track
    }

    /// Compares in ticks of both scales: `Duration` would round a difference away.
    fn loops_with(&self, other: &Self) -> bool {
        u128::from(self.loop_ticks) * u128::from(other.source.timescale)
            == u128::from(other.loop_ticks) * u128::from(self.source.timescale)
    }

    /// Returns the name, which is the name of the file: `v0`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns whether the track is sound rather than picture.
    pub fn is_audio(&self) -> bool {
        self.source.resolution.is_none()
    }

    /// Returns the codec as RFC 6381 names it: `avc1.4d400c`, `mp4a.40.2`.
    pub fn codec(&self) -> String {
        self.source.codec.clone()
    }

    /// Returns width and height in pixels, or `None` for audio.
    pub fn resolution(&self) -> Option<(u32, u32)> {
        self.source.resolution
    }

    /// Returns frames per second, or `None` for audio.
    pub fn frame_rate(&self) -> Option<f64> {
        self.source.resolution?;
        Some(self.source.samples.len() as f64 / self.loop_duration().as_secs_f64())
    }

    /// Returns the highest bit rate of any two seconds, in bits per second.
    ///
    /// Counts what fragments of 200 ms add to the samples (RFC 8216 4.3.4.2: a segment's bit rate
    /// is that of the whole file), and does not count padding.
    pub fn bandwidth(&self) -> u64 {
        self.bandwidth
    }

    /// Returns ticks per second.
    pub fn timescale(&self) -> u32 {
        self.source.timescale
    }

    /// Returns how long the media lasts before it repeats: 32 s.
    pub fn loop_duration(&self) -> Duration {
        self.duration_of(self.loop_ticks)
    }

    /// Returns the initialization segment: `ftyp` and a `moov` without samples.
    pub fn init_segment(&self) -> Bytes {
        self.source.init.clone()
    }

    /// Returns one CMAF chunk, a `moof` and an `mdat`, with the samples that decode in `[from, to)`.
    ///
    /// `None` if no sample does. The decode time in the chunk is exact and counts up from loop to
    /// loop; `sequence` is the sequence number it carries.
    ///
    /// # Panics
    ///
    /// If the range holds more than 2^18 samples, which is over an hour of the bundled media.
    pub fn fragment(&self, from: Duration, to: Duration, sequence: u32) -> Option<Bytes> {
        self.shifted_fragment(from, to, sequence, Duration::ZERO)
    }

    /// Returns what [`Track::fragment`] returns, but with the content that is due `shift` later.
    ///
    /// Times stay those of `[from, to)`. A shift by whole GOPs of the video and whole frames of the
    /// audio keeps both decodable and together; 8 s is one.
    ///
    /// # Panics
    ///
    /// As [`Track::fragment`].
    pub fn shifted_fragment(
        &self,
        from: Duration,
        to: Duration,
        sequence: u32,
        shift: Duration,
    ) -> Option<Bytes> {
        let numbers = self.numbers(from, to);
        let shift = self.first_at_or_after(shift);
        let (decode_time, _) = self.sample(numbers.clone().next()?);
        assert!(
            numbers.end - numbers.start <= MAX_FRAGMENT_SAMPLES,
            "a fragment is a piece of a segment, not hours of media"
        );
        let entries: Vec<Entry<'_>> = numbers
            .map(|number| {
                let (_, sample) = self.sample(number + shift);
                Entry {
                    duration: sample.duration,
                    composition: sample.composition,
                    sync: sample.sync,
                    data: self.data(sample),
                }
            })
            .collect();
        Some(write::fragment(sequence, decode_time, &entries))
    }

    /// Returns how long the samples that decode in `[from, to)` last together.
    ///
    /// Exact in ticks, then rounded to the nearest nanosecond; zero if there is none.
    pub fn fragment_duration(&self, from: Duration, to: Duration) -> Duration {
        let numbers = self.numbers(from, to);
        if numbers.is_empty() {
            return Duration::ZERO;
        }
        // A sample ends where the next begins, also over the end of a loop.
        self.duration_of(self.start(numbers.end) - self.start(numbers.start))
    }

    /// Returns the weight in bytes of the fragment of `[from, to)` with content `shift` later.
    pub fn fragment_len(&self, from: Duration, to: Duration, shift: Duration) -> usize {
        let shift = self.first_at_or_after(shift);
        let samples = self
            .numbers(from, to)
            .map(|number| self.sample(number + shift).1.size as usize + SAMPLE_OVERHEAD);
        FRAGMENT_OVERHEAD + samples.sum::<usize>()
    }

    /// Returns the decode times, in ticks, that the samples of `[from, to)` cover.
    pub fn ticks(&self, from: Duration, to: Duration) -> Range<u64> {
        let numbers = self.numbers(from, to);
        self.start(numbers.start)..self.start(numbers.end)
    }

    /// Returns whether the first sample that decodes in `[from, to)` can be decoded on its own.
    pub fn starts_with_sync(&self, from: Duration, to: Duration) -> bool {
        self.numbers(from, to)
            .next()
            .is_some_and(|number| self.sample(number).1.sync)
    }

    /// Returns the numbers of the samples that decode in `[from, to)` on the endless timeline.
    fn numbers(&self, from: Duration, to: Duration) -> Range<u64> {
        self.first_at_or_after(from)..self.first_at_or_after(to)
    }

    /// Returns the number of the first sample that decodes at `time` or later.
    ///
    /// A function of one boundary alone, which is why ranges that share one partition the timeline.
    fn first_at_or_after(&self, time: Duration) -> u64 {
        // Rounded up: a sample decodes at or after `time` iff its tick is at or after this one.
        let ticks =
            (time.as_nanos() * u128::from(self.source.timescale)).div_ceil(NANOS_PER_SECOND);
        // The timeline ends one loop before the ticks run out, so that a sample's end can be told.
        let last = u64::MAX - self.loop_ticks;
        let ticks = u64::try_from(ticks).unwrap_or(last).min(last);
        let within = ticks % self.loop_ticks;
        let row = self
            .source
            .samples
            .partition_point(|sample| sample.start < within);
        // No overflow: a sample lasts at least one tick, so a number never exceeds its tick.
        ticks / self.loop_ticks * self.count() + row as u64
    }

    fn count(&self) -> u64 {
        self.source.samples.len() as u64
    }

    /// Returns the decode time on the endless timeline and the row of a sample.
    fn sample(&self, number: u64) -> (u64, &Sample) {
        let row = (number % self.count()) as usize;
        let sample = &self.source.samples[row];
        (
            number / self.count() * self.loop_ticks + sample.start,
            sample,
        )
    }

    fn start(&self, number: u64) -> u64 {
        self.sample(number).0
    }

    fn data(&self, sample: &Sample) -> &[u8] {
        &self.source.file[sample.offset..sample.offset + sample.size as usize]
    }

    fn duration_of(&self, ticks: u64) -> Duration {
        let timescale = u64::from(self.source.timescale);
        let nanos = u128::from(ticks % timescale) * NANOS_PER_SECOND;
        let rounded = (nanos + u128::from(timescale / 2)) / u128::from(timescale);
        // At most one second: the remainder is less than the timescale.
        Duration::from_secs(ticks / timescale) + Duration::from_nanos(rounded as u64)
    }

    /// Slides a window over one loop, from sample to sample and on into the next loop.
    fn peak_bandwidth(&self) -> u64 {
        let weight = |number| u64::from(self.sample(number).1.size) + SAMPLE_OVERHEAD as u64;
        let window = BANDWIDTH_WINDOW.as_secs() * u64::from(self.source.timescale);
        let (mut end, mut bytes, mut peak) = (0, 0, 0);
        for first in 0..self.count() {
            while self.start(end) < self.start(first) + window {
                bytes += weight(end);
                end += 1;
            }
            peak = peak.max(bytes);
            bytes -= weight(first);
        }
        let overhead = FRAGMENTS_PER_WINDOW * FRAGMENT_OVERHEAD as u64;
        (peak + overhead) * 8 / BANDWIDTH_WINDOW.as_secs()
    }
}
