//! Writes CMAF: the initialization segment, fragments, and padding.
//!
//! `read` calls [`init_segment`] once per file, `Track` calls [`fragment`] per request, the origin
//! calls [`pad_to`]. Deliberately not here: which samples a fragment holds and when they decode.
//! Box layouts are those of ISO/IEC 14496-12; constraints those of ISO/IEC 23000-19 (CMAF).

use bytes::{BufMut, Bytes, BytesMut};
use mp4_atom::{Encode, Ftyp, Moov, Mvex, Stco, Stsc, Stsz, Stts, Trex};

/// The one track of every initialization segment and fragment.
const TRACK_ID: u32 = 1;

/// Size and name.
const BOX_HEADER: usize = 8;
/// A box header, the version and the flags.
const FULL_BOX_HEADER: usize = BOX_HEADER + 4;
const MFHD: usize = FULL_BOX_HEADER + 4;
const TFHD: usize = FULL_BOX_HEADER + 4;
const TFDT: usize = FULL_BOX_HEADER + 8;
/// The part of a `trun` box before its samples: their number, and the offset of the data.
const TRUN: usize = FULL_BOX_HEADER + 8;
/// What a fragment weighs beside its samples.
pub(super) const FRAGMENT_OVERHEAD: usize =
    BOX_HEADER + MFHD + BOX_HEADER + TFHD + TFDT + TRUN + BOX_HEADER;
/// What each sample adds to a `trun` box: duration, size, flags, composition offset.
pub(super) const SAMPLE_OVERHEAD: usize = 16;

/// The most samples a fragment may hold; over an hour of the bundled media, and far below 4 GiB of them.
pub(super) const MAX_FRAGMENT_SAMPLES: u64 = 1 << 18;

/// `tfhd`: data offsets count from the begin of the `moof` box, as CMAF wants.
const DEFAULT_BASE_IS_MOOF: u32 = 0x02_0000;
/// `trun`: a data offset, then per sample duration, size, flags and composition offset.
const TRUN_FLAGS: u32 = 0x0001 | 0x0100 | 0x0200 | 0x0400 | 0x0800;
/// The sample depends on no other.
const SYNC: u32 = 0x0200_0000;
/// The sample depends on others and is no sync sample.
const NON_SYNC: u32 = 0x0101_0000;

/// One sample as a fragment carries it.
pub(super) struct Entry<'a> {
    pub(super) duration: u32,
    pub(super) composition: i32,
    pub(super) sync: bool,
    pub(super) data: &'a [u8],
}

/// Writes the initialization segment of the one track of `plain`, the movie box of a plain file.
///
/// # Errors
///
/// A box of `plain` cannot be written again.
pub(super) fn init_segment(plain: &Moov) -> mp4_atom::Result<Bytes> {
    let ftyp = Ftyp {
        // iso6 brings the data offsets from the begin of the `moof` box that CMAF builds on.
        major_brand: b"cmfc".into(),
        minor_version: 0,
        compatible_brands: vec![b"iso6".into(), b"cmfc".into()],
    };
    let mut moov = plain.clone();
    moov.meta = None;
    moov.udta = None;
    moov.mvhd.duration = 0;
    moov.mvhd.next_track_id = TRACK_ID + 1;
    for trak in &mut moov.trak {
        trak.tkhd.track_id = TRACK_ID;
        trak.tkhd.duration = 0;
        trak.mdia.mdhd.duration = 0;
        trak.udta = None;
        let stbl = &mut trak.mdia.minf.stbl;
        stbl.stts = Stts::default();
        stbl.stsc = Stsc::default();
        stbl.stsz = Stsz::default();
        stbl.stco = Some(Stco::default());
        stbl.co64 = None;
        stbl.ctts = None;
        stbl.cslg = None;
        stbl.stss = None;
        stbl.sbgp.clear();
        stbl.sgpd.clear();
    }
    moov.mvex = Some(Mvex {
        mehd: None,
        // No default is used: each `trun` box states everything about its samples.
        trex: vec![Trex {
            track_id: TRACK_ID,
            default_sample_description_index: 1,
            default_sample_duration: 0,
            default_sample_size: 0,
            default_sample_flags: 0,
        }],
    });
    let mut out = Vec::new();
    ftyp.encode(&mut out)?;
    moov.encode(&mut out)?;
    Ok(out.into())
}

/// Writes one `moof` and one `mdat` with `entries`, the first of which decodes at `decode_time`.
///
/// # Panics
///
/// If there are more than [`MAX_FRAGMENT_SAMPLES`], or their bytes outgrow the 32-bit size of a box.
pub(super) fn fragment(sequence: u32, decode_time: u64, entries: &[Entry<'_>]) -> Bytes {
    let data: usize = entries.iter().map(|entry| entry.data.len()).sum();
    let trun = TRUN + entries.len() * SAMPLE_OVERHEAD;
    let traf = BOX_HEADER + TFHD + TFDT + trun;
    let moof = BOX_HEADER + MFHD + traf;
    let mdat = BOX_HEADER + data;
    let mut out = BytesMut::with_capacity(moof + mdat);

    box_header(&mut out, moof, b"moof");
    full_box_header(&mut out, MFHD, b"mfhd", 0, 0);
    out.put_u32(sequence);
    box_header(&mut out, traf, b"traf");
    full_box_header(&mut out, TFHD, b"tfhd", 0, DEFAULT_BASE_IS_MOOF);
    out.put_u32(TRACK_ID);
    full_box_header(&mut out, TFDT, b"tfdt", 1, 0);
    out.put_u64(decode_time);
    full_box_header(&mut out, trun, b"trun", 1, TRUN_FLAGS);
    out.put_u32(size_u32(entries.len()));
    let data_offset = i32::try_from(moof + BOX_HEADER);
    out.put_i32(data_offset.expect("MAX_FRAGMENT_SAMPLES keeps the moof box below 2 GiB"));
    for entry in entries {
        out.put_u32(entry.duration);
        out.put_u32(size_u32(entry.data.len()));
        out.put_u32(if entry.sync { SYNC } else { NON_SYNC });
        out.put_i32(entry.composition);
    }
    box_header(&mut out, mdat, b"mdat");
    for entry in entries {
        out.put_slice(entry.data);
    }
    out.freeze()
}

/// Appends a `free` box so that `fragment` weighs exactly `bytes`.
///
/// A fragment that is less than 8 bytes lighter, the weight of an empty box, or is already heavier,
/// returns as it came. A fragment's own offsets do not change, for the box comes last.
///
/// # Panics
///
/// If the padding needs 4 GiB or more.
pub fn pad_to(fragment: Bytes, bytes: usize) -> Bytes {
    let missing = bytes.saturating_sub(fragment.len());
    if missing < BOX_HEADER {
        return fragment;
    }
    let mut out = BytesMut::with_capacity(bytes);
    out.put_slice(&fragment);
    box_header(&mut out, missing, b"free");
    out.put_bytes(0, missing - BOX_HEADER);
    out.freeze()
}

fn box_header(out: &mut BytesMut, size: usize, name: &[u8; 4]) {
    out.put_u32(size_u32(size));
    out.put_slice(name);
}

fn full_box_header(out: &mut BytesMut, size: usize, name: &[u8; 4], version: u8, flags: u32) {
    box_header(out, size, name);
    out.put_u32(u32::from(version) << 24 | flags);
}

fn size_u32(size: usize) -> u32 {
    u32::try_from(size).expect("a fragment is far lighter than 4 GiB")
}
