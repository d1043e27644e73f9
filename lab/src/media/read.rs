//! Reads a plain MP4 file of one track into a table of samples.
//!
//! `Track::bundled` calls it once per file at start. The files are ours, yet a rebuilt file that
//! breaks what the endless loop relies on must be told apart at start and not show as a glitch after
//! 32 s, so everything the loop relies on is checked here. Deliberately not here: edit lists. A file
//! that has one is refused: what it cuts would have to be cut again in every loop, and the tracks
//! would drift apart. `lab/media/make.sh` makes files without.

use bytes::Bytes;
use mp4_atom::{Atom, Codec, DecodeAtom, DecodeMaybe, Header, Moov, Stbl, StszSamples};

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
    let [codec] = trak.mdia.minf.stbl.stsd.codecs.as_slice() else {
        return Err(unfit("the track must have exactly one sample description"));
    };
    let samples = samples(&trak.mdia.minf.stbl, file.len()).map_err(unfit)?;
    if !samples.first().is_some_and(|sample| sample.sync) {
        return Err(unfit("the first sample must be a sync sample"));
    }
    Ok(Source {
        file,
        init: write::init_segment(&moov).map_err(boxes)?,
        codec: codec_name(codec).map_err(unfit)?,
        resolution: codec
            .visual()
            .map(|visual| (visual.width.into(), visual.height.into())),
        timescale,
        samples,
    })
}

/// Finds the movie box, and steps over the others: the media data is most of the file.
fn moov(mut rest: &[u8]) -> mp4_atom::Result<Option<Moov>> {
    while let Some(header) = Header::decode_maybe(&mut rest)? {
        if header.kind == Moov::KIND {
            return Moov::decode_atom(&header, &mut rest).map(Some);
        }
        // A box without a size reaches to the end of the file.
        let size = header.size.unwrap_or(rest.len());
        rest = rest.get(size..).ok_or(mp4_atom::Error::UnexpectedEof)?;
    }
    Ok(None)
}

/// Returns the codec by its RFC 6381 name.
fn codec_name(codec: &Codec) -> Result<String, &'static str> {
    if let Codec::Avc1(avc1) = codec {
        // RFC 6381 3.3: profile, constraint flags and level as they stand in the parameter set.
        return Ok(format!(
            "avc1.{:02x}{:02x}{:02x}",
            avc1.avcc.avc_profile_indication,
            avc1.avcc.profile_compatibility,
            avc1.avcc.avc_level_indication
        ));
    }
    if let Codec::Mp4a(mp4a) = codec {
        let config = &mp4a.esds.es_desc.dec_config;
        let specific = config
            .dec_specific
            .as_ref()
            .ok_or("the audio has no decoder configuration")?;
        // RFC 6381 3.3: object type in hexadecimal, audio object type in decimal.
        return Ok(format!(
            "mp4a.{:x}.{}",
            config.object_type_indication, specific.profile
        ));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes the bytes of a bundled file and returns what reading says.
    fn read_changed(change: impl FnOnce(&mut Vec<u8>)) -> Result<(), MediaError> {
        let mut file = include_bytes!("../../media/v0.mp4").to_vec();
        change(&mut file);
        source("v0", file.leak()).map(drop)
    }

    fn find(file: &[u8], name: &[u8; 4]) -> usize {
        file.windows(4).position(|window| window == name).unwrap()
    }

    #[test]
    fn a_file_that_cannot_be_repeated_is_refused_at_start() {
        let check = |problem: &str, change: &dyn Fn(&mut Vec<u8>)| {
            let error = read_changed(change).expect_err(problem);
            assert_eq!(error.to_string(), format!("bundled track v0: {problem}"));
        };
        assert!(read_changed(|_| ()).is_ok());
        check("the file has no moov box", &|file| {
            let at = find(file, b"moov");
            file[at..at + 4].copy_from_slice(b"free");
        });
        check("boxes are malformed", &|file| file.truncate(file.len() - 1));
        check("an edit list cannot be repeated", &|file| {
            // An empty edit box in front of the media box.
            let at = find(file, b"mdia") - 4;
            file.splice(at..at, *b"\0\0\0\x08edts");
            for name in [b"moov", b"trak"] {
                let size = find(file, name) - 4;
                let old = u32::from_be_bytes(file[size..size + 4].try_into().unwrap());
                file[size..size + 4].copy_from_slice(&(old + 8).to_be_bytes());
            }
        });
        check("a sample lasts no time", &|file| {
            let at = find(file, b"stts") + 16;
            file[at..at + 4].fill(0);
        });
        check("a sample has no duration", &|file| {
            let at = find(file, b"stts") + 12;
            file[at + 3] -= 1;
        });
        check("the first sample must be a sync sample", &|file| {
            let at = find(file, b"stss") + 12;
            file[at + 3] = 2;
        });
        check("a sample lies beyond the end of the file", &|file| {
            let at = find(file, b"stco") + 12;
            file[at] = 0x7f;
        });
    }
}
