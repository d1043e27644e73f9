//! How long a playlist version costs: parse, diff, judge, delta.
//!
//! The texts are a two-hour window of two-second segments with dates (3,600 segments, 0.3 MB), and a
//! low-latency playlist of 4.6 kB.

#![allow(missing_docs, reason = "criterion's macros make functions without")]

use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use media::dash::{self, Mpd};
use media::hls::{
    DeliveryDirectives, Limits, MediaPlaylist, Playlist, Rendition, answer, delta_update,
    merge_delta,
};

/// A playlist of `count` segments from `first`, the last two with parts, and two open parts.
fn text(first: u64, count: u64, has_parts: bool) -> Bytes {
    let mut out = format!(
        "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n\
         #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12,PART-HOLD-BACK=1.5\n\
         #EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-MEDIA-SEQUENCE:{first}\n#EXT-X-MAP:URI=\"init.mp4\"\n"
    );
    let last = first + count - 1;
    for msn in first..=last {
        let (h, m, s) = (msn / 1800 % 24, msn / 30 % 60, msn % 30 * 2);
        writeln!(
            out,
            "#EXT-X-PROGRAM-DATE-TIME:2026-11-22T{h:02}:{m:02}:{s:02}.000Z"
        )
        .expect("writing to a string cannot fail");
        if has_parts && msn + 2 > last {
            parts(&mut out, msn, 4);
        }
        writeln!(out, "#EXTINF:2.00000,\nseg{msn}.m4s").expect("writing to a string cannot fail");
    }
    if has_parts {
        parts(&mut out, last + 1, 2);
        write!(
            out,
            "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"seg{0}.2.m4s\"\n\
             #EXT-X-RENDITION-REPORT:URI=\"../v1/playlist.m3u8\",LAST-MSN={0},LAST-PART=1\n",
            last + 1
        )
        .expect("writing to a string cannot fail");
    }
    Bytes::from(out)
}

fn parts(out: &mut String, msn: u64, count: u64) {
    for part in 0..count {
        writeln!(
            out,
            "#EXT-X-PART:DURATION=0.50000,URI=\"seg{msn}.{part}.m4s\",INDEPENDENT=YES"
        )
        .expect("writing to a string cannot fail");
    }
}

fn parse(text: Bytes) -> MediaPlaylist {
    match Playlist::parse(text, &Limits::default()) {
        Ok(Playlist::Media(list)) => list,
        other => panic!("a media playlist, not {other:?}"),
    }
}

fn versions(criterion: &mut Criterion) {
    for (name, first, count, has_parts) in [
        ("two hours", 900_000, 3_600, false),
        ("low latency", 900_000, 42, true),
    ] {
        let before = text(first, count, has_parts);
        let after = text(first + 1, count, has_parts);
        let mut group = criterion.benchmark_group(format!("{name} ({} B)", before.len()));
        group.throughput(Throughput::Bytes(before.len() as u64));
        group.bench_function("parse", |b| b.iter(|| parse(black_box(before.clone()))));
        group.bench_function("parse and offer", |b| {
            let mut rendition = Rendition::new();
            rendition.offer(Arc::new(parse(before.clone())), Duration::ZERO);
            b.iter_batched_ref(
                || rendition.clone(),
                |rendition| rendition.offer(Arc::new(parse(after.clone())), Duration::ZERO),
                BatchSize::SmallInput,
            );
        });
        let (before, after) = (parse(before), parse(after));
        group.bench_function("answer", |b| {
            let position = Some(before.next_position());
            let directives = DeliveryDirectives {
                position,
                skip: None,
            };
            b.iter(|| answer(black_box(&before), black_box(&directives)));
        });
        group.bench_function("delta", |b| b.iter(|| delta_update(black_box(&after))));
        let delta = parse(delta_update(&after).expect("old segments can be skipped"));
        group.bench_function("merge", |b| {
            b.iter(|| merge_delta(black_box(&before), &delta))
        });
        group.finish();
    }
}

fn small_texts(criterion: &mut Criterion) {
    let query = "_HLS_msn=900042&_HLS_part=2&token=a1b2c3d4e5f6";
    criterion.bench_function("directives", |b| {
        b.iter(|| DeliveryDirectives::parse(black_box(query)));
    });
    let base = "/live/v0/playlist.m3u8?token=a";
    criterion.bench_function("uri", |b| {
        b.iter(|| media::uri::resolve(black_box(base), black_box("../v1/seg900042.2.m4s")));
    });
    let mpd = Bytes::from_static(include_bytes!("../../fuzz/corpus/mpd/low_latency"));
    criterion.bench_function("mpd", |b| {
        b.iter(|| Mpd::parse(black_box(mpd.clone()), &dash::Limits::default()));
    });
}

criterion_group!(benches, versions, small_texts);
criterion_main!(benches);
