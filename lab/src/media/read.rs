//! Reads a plain MP4 file of one track into a table of samples.
//!
//! `Track::bundled` calls it once per file at start. The files are ours, yet a rebuilt file that
//! breaks what the endless loop relies on must be told apart at start and not show as a glitch after
//! 32 s, so everything the loop relies on is checked here. Deliberately not here: edit lists. A file
//! that has one is refused: what it cuts would have to be cut again in every loop, and the tracks
//! would drift apart. `lab/media/make.sh` makes files without.

use bytes::Bytes;
use mp4_atom::{Any, Codec, DecodeMaybe, Moov, Stbl, StszSamples, Trak};

use super::write;

/// A bundled file that cannot be repeated as an endless track.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// The boxes of the file do not parse, or its headers cannot be written again.
    #[error("bundled track {track}: boxes are malformed")]
    Boxes {
        /// The name of the track.
        track: &'static str,
        /// What the reader of boxes found.
        #[source]
        source: mp4_atom::Error,
    },
    /// The file parses, but is not what the loop needs.
    #[error("bundled track {track}: {problem}")]
    Unfit {
        /// The name of the track.
        track: &'static str,
        /// What the loop needs and the file lacks.
        problem: &'static str,
    },
}

/// One sample of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// Decode time in ticks since the begin of the loop.
    pub(super) start: u64,
    /// Ticks until the next sample; never zero.
    pub(super) duration: u32,
    /// Ticks from decode time to presentation time.
    pub(super) composition: i32,
    /// Whether decoding can begin here.
    pub(super) sync: bool,
    /// Where the bytes begin in the file.
    pub(super) offset: usize,
    /// How many bytes. Invariant: `offset + size` lies within the file.
    pub(super) size: u32,
}

/// What one file holds.
pub(super) struct Source {
    pub(super) file: &'static [u8],
    pub(super) init: Bytes,
    pub(super) codec: String,
    pub(super) resolution: Option<(u32, u32)>,
    pub(super) timescale: u32,
    /// Invariant: not empty, and each sample starts where the one before it ends.
    pub(super) samples: Vec<Sample>,
}

/// Reads `file`, which holds the one track called `track`.
///
/// # Errors
///
/// The boxes are malformed, or the file cannot be repeated: see [`MediaError`].
pub(super) fn source(track: &'static str, file: &'static [u8]) -> Result<Source, MediaError> {
    let boxes = |source| MediaError::Boxes { track, source };
    let unfit = |problem| MediaError::Unfit { track, problem };
    let moov = moov(file)
        .map_err(boxes)?
        .ok_or(unfit("the file has no moov box"))?;
    let [trak] = moov.trak.as_slice() else {
        return Err(unfit("the file must hold exactly one track"));
    };
    if trak.edts.is_some() {
        return Err(unfit("an edit list cannot be repeated"));
    }
    let timescale = trak.mdia.mdhd.timescale;
    if timescale == 0 {
        return Err(unfit("the timescale is zero"));
    }
    let (codec, resolution) = codec(trak).map_err(unfit)?;
    let samples = samples(&trak.mdia.minf.stbl, file.len()).map_err(unfit)?;
    if !samples.first().is_some_and(|sample| sample.sync) {
        return Err(unfit("the first sample must be a sync sample"));
    }
    Ok(Source {
        file,
        init: write::init_segment(&moov).map_err(boxes)?,
        codec,
        resolution,
        timescale,
        samples,
    })
}

fn moov(file: &[u8]) -> mp4_atom::Result<Option<Moov>> {
    let mut rest = file;
    while let Some(any) = Any::decode_maybe(&mut rest)? {
        if let Any::Moov(moov) = any {
            return Ok(Some(moov));
        }
    }
    Ok(None)
}

/// Returns the codec by its RFC 6381 name, and the size of the picture if there is one.
/// The codec's name and, of video, the resolution.
type Described = (String, Option<(u32, u32)>);

fn codec(trak: &Trak) -> Result<Described, &'static str> {
    let [entry] = trak.mdia.minf.stbl.stsd.codecs.as_slice() else {
        return Err("the track must have exactly one sample description");
    };
    if let Codec::Avc1(avc1) = entry {
        // RFC 6381 3.3: profile, constraint flags and level as they stand in the parameter set.
        let name = format!(
            "avc1.{:02x}{:02x}{:02x}",
            avc1.avcc.avc_profile_indication,
            avc1.avcc.profile_compatibility,
            avc1.avcc.avc_level_indication
        );
        let size = (avc1.visual.width.into(), avc1.visual.height.into());
        return Ok((name, Some(size)));
    }
    if let Codec::Mp4a(mp4a) = entry {
        let config = &mp4a.esds.es_desc.dec_config;
        let specific = config
            .dec_specific
            .as_ref()
            .ok_or("the audio has no decoder configuration")?;
        // RFC 6381 3.3: object type in hexadecimal, audio object type in decimal.
        let name = format!(
            "mp4a.{:x}.{}",
            config.object_type_indication, specific.profile
        );
        return Ok((name, None));
    }
    Err("the codec must be H.264 or AAC")
}

/// Joins the tables of ISO/IEC 14496-12 8.6 and 8.7 into one row per sample.
fn samples(stbl: &Stbl, file_len: usize) -> Result<Vec<Sample>, &'static str> {
    let mut durations = stbl
        .stts
        .entries
        .iter()
        .flat_map(|run| std::iter::repeat_n(run.sample_delta, run.sample_count as usize));
    let mut compositions = stbl
        .ctts
        .iter()
        .flat_map(|ctts| &ctts.entries)
        .flat_map(|run| std::iter::repeat_n(run.sample_offset, run.sample_count as usize));
    let mut sizes = sizes(&stbl.stsz);
    let mut samples: Vec<Sample> = Vec::new();
    let mut start = 0;
    for (mut offset, count) in chunks(stbl)? {
        for size in sizes.by_ref().take(count) {
            let end = offset
                .checked_add(size as usize)
                .filter(|&end| end <= file_len)
                .ok_or("a sample lies beyond the end of the file")?;
            let duration = durations.next().ok_or("a sample has no duration")?;
            if duration == 0 {
                return Err("a sample lasts no time");
            }
            let composition = i32::try_from(compositions.next().unwrap_or(0))
                .map_err(|_| "a composition offset is out of range")?;
            let number = u32::try_from(samples.len() + 1).map_err(|_| "too many samples")?;
            samples.push(Sample {
                start,
                duration,
                composition,
                // Without a table every sample is a sync sample; with one it is in ascending order.
                sync: stbl
                    .stss
                    .as_ref()
                    .is_none_or(|stss| stss.entries.binary_search(&number).is_ok()),
                offset,
                size,
            });
            start += u64::from(duration);
            offset = end;
        }
    }
    if sizes.next().is_some() || durations.next().is_some() {
        return Err("the sample tables disagree on the number of samples");
    }
    Ok(samples)
}

fn sizes(stsz: &mp4_atom::Stsz) -> Box<dyn Iterator<Item = u32> + '_> {
    match &stsz.samples {
        StszSamples::Identical { count, size } => {
            Box::new(std::iter::repeat_n(*size, *count as usize))
        }
        StszSamples::Different { sizes } => Box::new(sizes.iter().copied()),
    }
}

/// Returns where each chunk begins and how many samples it holds.
fn chunks(stbl: &Stbl) -> Result<Vec<(usize, usize)>, &'static str> {
    let offsets: Vec<u64> = match (&stbl.stco, &stbl.co64) {
        (Some(stco), _) => stco.entries.iter().copied().map(u64::from).collect(),
        (None, Some(co64)) => co64.entries.clone(),
        (None, None) => return Err("the track has no chunk offsets"),
    };
    let runs = &stbl.stsc.entries;
    (1_u64..)
        .zip(offsets)
        .map(|(chunk, offset)| {
            let offset = usize::try_from(offset).map_err(|_| "a chunk offset is out of range")?;
            // Each run holds from its first chunk until the next run; chunks count from one.
            let later = runs.partition_point(|run| u64::from(run.first_chunk) <= chunk);
            let run = later
                .checked_sub(1)
                .and_then(|index| runs.get(index))
                .ok_or("a chunk has no number of samples")?;
            Ok((offset, run.samples_per_chunk as usize))
        })
        .collect()
}
