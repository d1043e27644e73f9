//! What a hit, a fan-out, a join and a purge cost.
//!
//! ```text
//! cargo bench -p cache
//! ```
//!
//! Bodies are pushed in chunks of 64 KiB, as an upstream reads them; readers are polled as a
//! listener polls them, with a waker that does nothing.

use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cache::{
    CHUNK_BYTES_MAX, CacheKey, Collapse, GrowingBody, Joined, Reader, Store, StoredResponse,
    Variant,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, StatusCode};

const SEGMENT_BYTES: usize = 2 * 1024 * 1024;

fn response(variant: Variant) -> Arc<StoredResponse> {
    Arc::new(StoredResponse {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: GrowingBody::full(Bytes::from_static(&[0; 1024])),
        variant,
        response_time: SystemTime::UNIX_EPOCH,
        corrected_initial_age: Duration::ZERO,
        freshness_lifetime: Duration::from_secs(6),
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        must_revalidate: false,
    })
}

fn key(number: u64) -> CacheKey {
    CacheKey::from(format!(
        "https://live.example/channel/video/segment-{number}.m4s"
    ))
}

fn lookup(c: &mut Criterion) {
    let store = Store::new(1 << 30);
    let gzip = HeaderMap::from_iter([(
        http::header::ACCEPT_ENCODING,
        HeaderValue::from_static("gzip, deflate, br, zstd"),
    )]);
    let vary = HeaderMap::from_iter([(
        http::header::VARY,
        HeaderValue::from_static("accept-encoding"),
    )]);
    let by_encoding = Variant::of(&vary, &gzip, &[]).expect("accept-encoding selects");
    for number in 0..10_000 {
        store.insert(key(number), response(Variant::default()));
    }
    store.insert(key(10_000), response(by_encoding));
    let mut group = c.benchmark_group("lookup");
    for (name, key) in [
        ("hit", key(77)),
        ("hit by accept-encoding", key(10_000)),
        ("miss", key(10_001)),
    ] {
        group.bench_function(name, |b| b.iter(|| store.get(black_box(&key), &gzip)));
    }
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(3);
    group.bench_function("hit, judged and read", |b| {
        b.iter(|| {
            let stored = store.get(&key(77), &gzip).found().expect("it was inserted");
            let judged = cache::judge(&stored, &Default::default(), now);
            (judged, drain(&mut stored.body.reader(0..u64::MAX)))
        });
    });
    group.finish();
}

/// What a purge by surrogate key costs that means nothing of what is stored.
fn purge(c: &mut Criterion) {
    const STORED: u64 = 100_000;
    let store = Store::new(4 << 30);
    let mut tagged = (*response(Variant::default())).clone();
    tagged.headers.insert(
        cache::surrogate::SURROGATE_KEY,
        HeaderValue::from_static("channel-1 video-720p live"),
    );
    let tagged = Arc::new(tagged);
    for number in 0..STORED {
        store.insert(key(number), tagged.clone());
    }
    let mut group = c.benchmark_group("purge");
    group.throughput(Throughput::Elements(STORED));
    group.bench_function("by surrogate key, among 100 000", |b| {
        b.iter(|| {
            store.remove_where(|_, stored| {
                cache::carries_surrogate_key(&stored.headers, |key| key == "channel-2")
            })
        });
    });
    group.finish();
}

/// Reads until nothing is there; returns how many bytes there were.
fn drain(reader: &mut Reader) -> usize {
    let mut cx = Context::from_waker(Waker::noop());
    let mut bytes = 0;
    while let Poll::Ready(Some(Ok(chunk))) = reader.poll_next(&mut cx) {
        bytes += chunk.len();
    }
    bytes
}

fn fan_out(c: &mut Criterion) {
    let chunk = Bytes::from(vec![0; CHUNK_BYTES_MAX]);
    let mut group = c.benchmark_group("fan-out of 2 MiB");
    for readers in [1usize, 100, 1000] {
        group.throughput(Throughput::Bytes((SEGMENT_BYTES * readers) as u64));
        group.bench_with_input(
            BenchmarkId::new("as it grows", readers),
            &readers,
            |b, n| {
                b.iter(|| {
                    let (mut writer, body) = GrowingBody::new();
                    let mut readers: Vec<_> = (0..*n).map(|_| body.reader(0..u64::MAX)).collect();
                    for _ in 0..SEGMENT_BYTES / CHUNK_BYTES_MAX {
                        writer.push(chunk.clone());
                        readers.iter_mut().for_each(|reader| {
                            black_box(drain(reader));
                        });
                    }
                    writer.complete();
                });
            },
        );
        let body = GrowingBody::full(Bytes::from(vec![0; SEGMENT_BYTES]));
        group.bench_with_input(BenchmarkId::new("complete", readers), &readers, |b, n| {
            b.iter(|| {
                (0..*n)
                    .map(|_| drain(&mut body.reader(0..u64::MAX)))
                    .sum::<usize>()
            });
        });
    }
    group.finish();
}

fn join(c: &mut Criterion) {
    let mut group = c.benchmark_group("collapse");
    let collapse: Collapse<CacheKey, Arc<()>> = Collapse::new();
    let free = key(1);
    group.bench_function("lead, publish, free the key", |b| {
        b.iter(|| match collapse.join(&free) {
            Joined::Lead(permit) => drop(permit.publish(Arc::new(()))),
            Joined::Follow(_) => unreachable!("nobody else joins"),
        });
    });
    let taken = key(2);
    let Joined::Lead(permit) = collapse.join(&taken) else {
        unreachable!("nobody else joins");
    };
    let _published = permit.publish(Arc::new(()));
    group.bench_function("follow what is published", |b| {
        b.iter(|| match collapse.join(&taken) {
            Joined::Follow(follower) => {
                let wait = std::pin::pin!(follower.wait());
                let is_ready = wait
                    .poll(&mut Context::from_waker(Waker::noop()))
                    .is_ready();
                assert!(is_ready);
            }
            Joined::Lead(_) => unreachable!("the key is taken"),
        });
    });
    group.finish();
}

criterion_group!(benches, lookup, fan_out, join, purge);
criterion_main!(benches);
