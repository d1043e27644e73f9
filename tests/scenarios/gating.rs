//! Parts that are ranges of a growing segment: whole ones for LL-HLS, every byte for LL-DASH, one fill.

use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use harness::origin::{Origin, ok, whole};
use harness::viewer::Opened;
use harness::{Feed, cdn, pass};
use http::StatusCode;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

const PLAYLIST: &str = "/live/v0/playlist.m3u8";
const SEGMENT: &str = "/live/v0/seg2.m4s";
const PARTS_PER_SEGMENT: u64 = 4;
const PART_BYTES: u64 = 10;

/// A live rendition with parts of ten bytes that are ranges of their segments.
struct Ranged {
    parts: Arc<watch::Sender<u64>>,
}

impl Ranged {
    fn start(origin: &Origin, parts: u64) -> Self {
        let parts = Arc::new(watch::Sender::new(parts));
        let published = Arc::clone(&parts);
        origin.on(PLAYLIST, move |asked| {
            let mut published = published.subscribe();
            async move {
                let number = |name| asked.parameter(name).and_then(|v| v.parse::<u64>().ok());
                let wanted = number("_HLS_msn").map_or(0, |msn| {
                    let part = number("_HLS_part").unwrap_or(PARTS_PER_SEGMENT - 1);
                    msn * PARTS_PER_SEGMENT + part + 1
                });
                let now = *published
                    .wait_for(|parts| *parts >= wanted)
                    .await
                    .expect("the stream outlives the scenario");
                ok(whole(text(now).into()))
            }
        });
        Self { parts }
    }

    /// Lists one more part, and lets the version come down.
    async fn publish(&self) {
        self.parts.send_modify(|parts| *parts += 1);
        pass(Duration::from_millis(10)).await;
    }
}

fn text(parts: u64) -> String {
    let mut text = String::from(
        "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n\
         #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5\n\
         #EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-MEDIA-SEQUENCE:0\n",
    );
    for part in 0..parts {
        let (msn, index) = (part / PARTS_PER_SEGMENT, part % PARTS_PER_SEGMENT);
        let start = index * PART_BYTES;
        writeln!(
            text,
            "#EXT-X-PART:DURATION=0.5,URI=\"seg{msn}.m4s\",BYTERANGE=\"{PART_BYTES}@{start}\""
        )
        .expect("writing to a string");
        if index + 1 == PARTS_PER_SEGMENT {
            writeln!(text, "#EXTINF:2,\nseg{msn}.m4s").expect("writing to a string");
        }
    }
    let (msn, start) = (
        parts / PARTS_PER_SEGMENT,
        parts % PARTS_PER_SEGMENT * PART_BYTES,
    );
    writeln!(
        text,
        "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"seg{msn}.m4s\",BYTERANGE-START={start}"
    )
    .expect("writing to a string");
    text
}

/// Lets a scenario feed the one answer to requests for the segment that is being made.
fn fed(origin: &Origin) -> Feed {
    let (feed, body) = Feed::new();
    let body = Mutex::new(Some(body));
    origin.on(SEGMENT, move |_| {
        let body = body.lock().expect("nobody panics while asking").take();
        async { ok(body.expect("asked once")) }
    });
    feed
}

async fn read(opened: &mut Opened, bytes: usize) -> Bytes {
    let mut read = Vec::new();
    while read.len() < bytes {
        let piece = opened.next().await.expect("there is more");
        read.extend_from_slice(&piece.expect("the body is not broken"));
    }
    read.into()
}

async fn gets_nothing(opened: &mut Opened) -> bool {
    timeout(Duration::from_millis(400), opened.next())
        .await
        .is_err()
}

#[test]
fn ld_16_ll_17_ll_20_one_fill_gives_ranges_in_whole_parts_and_the_rest_every_byte_at_once() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Ranged::start(&origin, 8);
        let feed = fed(&origin);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let mut dash = viewer.open(SEGMENT, &[]).await;
        let ranges = ["bytes=0-", "bytes=0-9007199254740991", "bytes=0-19"];
        let fields = ranges.map(|range| [("range", range)]);
        let mut opening = Vec::new();
        for fields in &fields {
            opening.push(Box::pin(viewer.open(SEGMENT, fields)));
        }
        feed.send("01234").await;
        assert_eq!(read(&mut dash, 5).await, "01234");
        for opening in &mut opening {
            let half = timeout(Duration::from_millis(200), opening).await;
            assert!(half.is_err(), "half a part is none");
        }
        feed.send("56789abc").await;
        assert_eq!(read(&mut dash, 8).await, "56789abc");
        live.publish().await;
        let mut hls = Vec::new();
        for opening in opening {
            let mut opened = opening.await;
            assert_eq!(opened.status, StatusCode::PARTIAL_CONTENT);
            assert_eq!(read(&mut opened, 10).await, "0123456789");
            assert!(
                gets_nothing(&mut opened).await,
                "a part and not a byte more"
            );
            hls.push(opened);
        }
        feed.send("defghij").await;
        assert_eq!(read(&mut dash, 7).await, "defghij");
        for opened in &mut hls {
            assert!(gets_nothing(opened).await, "whole, but not known to be");
        }
        live.publish().await;
        for opened in &mut hls {
            assert_eq!(read(opened, 10).await, "abcdefghij");
        }
        feed.send("the end").await;
        drop(feed);
        let rests = ["the end", "the end", ""];
        for (opened, rest) in hls.into_iter().zip(rests) {
            let received = opened.rest().await;
            assert!(received.is_whole);
            assert_eq!(received.body, rest);
        }
        assert_eq!(dash.rest().await.body, "the end");
        assert_eq!(origin.requests(SEGMENT), 1);
    });
}

#[test]
fn ll_17_ll_20_a_player_that_follows_the_hint_gets_the_next_part_when_it_is_whole() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Ranged::start(&origin, 9);
        let feed = fed(&origin);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        feed.send("0123456789abcdef").await;
        // The part that is listed is there at once, whatever has come of the next one.
        let listed = viewer.get_with(SEGMENT, &[("range", "bytes=0-9")]).await;
        assert_eq!(listed.body, "0123456789");
        assert_eq!(listed.field("content-length"), "10");
        let hinted = viewer.start_with(SEGMENT, &[("range", "bytes=10-19")]);
        let open = viewer.start_with(SEGMENT, &[("range", "bytes=10-9007199254740991")]);
        pass(Duration::from_millis(300)).await;
        assert!(!hinted.is_finished());
        feed.send("ghij").await;
        live.publish().await;
        let hinted = hinted.await.expect("it was answered");
        assert_eq!(hinted.body, "abcdefghij");
        assert_eq!(hinted.field("content-range"), "bytes 10-19/*");
        drop(feed);
        let open = open.await.expect("it was answered");
        assert_eq!(open.body, "abcdefghij");
        assert_eq!(
            open.field("content-range"),
            "bytes 10-9007199254740991/*",
            "as it was asked for"
        );
        assert_eq!(origin.requests(SEGMENT), 1);
    });
}

#[test]
fn ld_16_through_two_nodes_the_part_is_whole_at_the_edge_and_the_fill_is_one() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Ranged::start(&origin, 8);
        let feed = fed(&origin);
        let _shield = t.node("shield", &["origin"]);
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let mut dash = viewer.open(SEGMENT, &[]).await;
        feed.send("01234").await;
        assert_eq!(read(&mut dash, 5).await, "01234");
        let hls = viewer.start_with(SEGMENT, &[("range", "bytes=0-9")]);
        feed.send("56789").await;
        assert_eq!(read(&mut dash, 5).await, "56789");
        pass(Duration::from_millis(300)).await;
        assert!(!hls.is_finished());
        live.publish().await;
        assert_eq!(hls.await.expect("it was answered").body, "0123456789");
        assert_eq!(origin.requests(SEGMENT), 1);
        drop(feed);
    });
}

#[test]
fn ll_19_a_segment_that_was_hinted_part_by_part_and_is_then_listed_was_not_withdrawn() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Ranged::start(&origin, 8);
        let finished = Arc::new(Semaphore::new(0));
        let waiting = Arc::clone(&finished);
        origin.on(SEGMENT, move |_| {
            let waiting = Arc::clone(&waiting);
            async move {
                let finished = waiting.acquire().await;
                finished.expect("the scenario keeps it open").forget();
                ok(whole(Bytes::from_static(
                    b"a segment of an origin that sends whole ones",
                )))
            }
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let part = viewer.start_with(SEGMENT, &[("range", "bytes=2-8")]);
        for _ in 0..PARTS_PER_SEGMENT {
            live.publish().await;
        }
        assert!(!part.is_finished());
        finished.add_permits(2);
        let part = part.await.expect("it was answered");
        assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(part.body, "segment");
    });
}
