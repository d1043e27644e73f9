//! What readers, waits and the writer of a growing body promise each other, step by step.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use proptest::prelude::*;

use super::*;

/// A waker that counts.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn new() -> (Arc<Self>, Waker) {
        let count = Arc::new(Self::default());
        (count.clone(), Waker::from(count))
    }

    fn wakes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Reads until nothing is there; how it ended, or `None` for "would wait".
type Ended = Option<Result<(), BodyFailure>>;

fn drain(reader: &mut Reader) -> (Vec<u8>, Ended) {
    let mut bytes = Vec::new();
    loop {
        match reader.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(chunk))) => {
                assert!(!chunk.is_empty() && chunk.len() <= CHUNK_BYTES_MAX);
                bytes.extend_from_slice(&chunk);
            }
            Poll::Ready(Some(Err(failure))) => return (bytes, Some(Err(failure))),
            Poll::Ready(None) => return (bytes, Some(Ok(()))),
            Poll::Pending => return (bytes, None),
        }
    }
}

fn pattern(bytes: usize) -> Bytes {
    (0..bytes).map(|i| (i % 251) as u8).collect()
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

#[test]
fn ld_03_a_byte_is_visible_to_every_reader_at_once_and_a_late_reader_gets_all_so_far() {
    let (mut writer, body) = GrowingBody::new();
    let mut early = body.reader(0..u64::MAX);
    assert_eq!(drain(&mut early), (vec![], None));
    writer.push(Bytes::from_static(b"one "));
    assert_eq!(drain(&mut early), (b"one ".to_vec(), None));
    writer.push(Bytes::from_static(b"two"));
    let mut late = body.reader(0..u64::MAX);
    assert_eq!(drain(&mut late), (b"one two".to_vec(), None));
    assert_eq!(drain(&mut early), (b"two".to_vec(), None));
    writer.complete();
    assert_eq!(drain(&mut early), (vec![], Some(Ok(()))));
    assert_eq!(drain(&mut late), (vec![], Some(Ok(()))));
    assert_eq!(body.len_if_complete(), Some(7));
}

#[test]
fn fm_22_a_failed_body_gives_what_was_received_and_then_fails_for_ever() {
    let (mut writer, body) = GrowingBody::new();
    writer.push(Bytes::from_static(b"half"));
    writer.fail(BodyFailure::Reset);
    let mut reader = body.reader(0..u64::MAX);
    assert_eq!(
        drain(&mut reader),
        (b"half".to_vec(), Some(Err(BodyFailure::Reset)))
    );
    assert_eq!(drain(&mut reader), (vec![], Some(Err(BodyFailure::Reset))));
    assert_eq!(body.len_if_complete(), None);
}

#[test]
fn a_writer_that_is_dropped_abandons_the_body() {
    let (writer, body) = GrowingBody::new();
    drop(writer);
    assert_eq!(
        body.progress().state,
        BodyState::Failed(BodyFailure::Abandoned)
    );
}

#[test]
fn ld_06_an_announced_length_that_is_not_reached_is_truncated_and_one_exceeded_too_large() {
    for (pushed, expected) in [
        (4, BodyState::Failed(BodyFailure::Truncated)),
        (5, BodyState::Complete),
        (6, BodyState::Failed(BodyFailure::TooLarge)),
    ] {
        let (mut writer, body) = GrowingBody::with_length(5);
        assert_eq!(body.len_if_known(), Some(5));
        writer.push(pattern(pushed));
        writer.complete();
        assert_eq!(body.progress().state, expected, "pushed {pushed} of 5");
    }
}

#[test]
fn a_full_body_is_cut_to_chunks_without_copying() {
    let bytes = pattern(3 * CHUNK_BYTES_MAX + 1);
    let body = GrowingBody::full(bytes.clone());
    let mut reader = body.reader(0..u64::MAX);
    let mut at = 0;
    while let Poll::Ready(Some(Ok(chunk))) =
        reader.poll_next(&mut Context::from_waker(Waker::noop()))
    {
        assert_eq!(chunk.as_ptr(), bytes[at..].as_ptr());
        at += chunk.len();
    }
    assert_eq!(at, bytes.len());
}

#[test]
fn ld_08_a_range_waits_while_filling_and_ends_where_the_body_ends() {
    let (mut writer, body) = GrowingBody::new();
    writer.push(Bytes::from_static(b"0123"));
    let mut inside = body.reader(1..3);
    let mut across = body.reader(2..6);
    let mut beyond = body.reader(8..12);
    assert_eq!(inside.remaining_if_known(), Some(2));
    assert_eq!(across.remaining_if_known(), None);
    assert_eq!(drain(&mut inside), (b"12".to_vec(), Some(Ok(()))));
    assert_eq!(drain(&mut across), (b"23".to_vec(), None));
    assert_eq!(drain(&mut beyond), (vec![], None));
    writer.push(Bytes::from_static(b"456789"));
    assert_eq!(drain(&mut across), (b"45".to_vec(), Some(Ok(()))));
    assert_eq!(drain(&mut beyond), (b"89".to_vec(), None));
    writer.complete();
    assert_eq!(beyond.remaining_if_known(), Some(0));
    assert_eq!(drain(&mut beyond), (vec![], Some(Ok(()))));
}

#[test]
fn a_range_already_received_ends_clean_whatever_becomes_of_the_rest() {
    let (mut writer, body) = GrowingBody::new();
    writer.push(Bytes::from_static(b"0123"));
    let mut reader = body.reader(0..4);
    writer.fail(BodyFailure::Stalled);
    assert_eq!(drain(&mut reader), (b"0123".to_vec(), Some(Ok(()))));
}

#[test]
fn ll_17_a_wait_for_a_part_wakes_when_all_of_its_bytes_are_there_and_not_before() {
    let (mut writer, body) = GrowingBody::new();
    let (count, waker) = Count::new();
    let mut wait = pin!(body.received_at_least(10));
    assert!(poll_once(wait.as_mut(), &waker).is_pending());
    writer.push(pattern(9));
    assert_eq!(count.wakes(), 0);
    writer.push(pattern(1));
    assert_eq!(count.wakes(), 1);
    let progress = Progress {
        received: 10,
        state: BodyState::Filling,
    };
    assert_eq!(poll_once(wait.as_mut(), &waker), Poll::Ready(progress));
}

#[test]
fn waits_resolve_when_the_body_ends_short() {
    let (writer, body) = GrowingBody::new();
    let (count, waker) = Count::new();
    let mut wait = pin!(body.received_at_least(10));
    let mut ended = pin!(body.ended());
    assert!(poll_once(wait.as_mut(), &waker).is_pending());
    assert!(poll_once(ended.as_mut(), &waker).is_pending());
    writer.fail(BodyFailure::Stalled);
    assert_eq!(count.wakes(), 2);
    let failed = Poll::Ready(Progress {
        received: 0,
        state: BodyState::Failed(BodyFailure::Stalled),
    });
    assert_eq!(poll_once(wait.as_mut(), &waker), failed);
    assert_eq!(poll_once(ended.as_mut(), &waker), failed);
}

#[test]
fn ca_06_unread_resolves_once_the_last_reader_left_and_never_before_the_first() {
    let (writer, body) = GrowingBody::new();
    let (count, waker) = Count::new();
    {
        let mut unread = pin!(writer.unread());
        assert!(poll_once(unread.as_mut(), &waker).is_pending());
        let first = body.reader(0..u64::MAX);
        let second = body.reader(0..u64::MAX);
        drop(first);
        assert!(poll_once(unread.as_mut(), &waker).is_pending());
        assert_eq!(count.wakes(), 0);
        drop(second);
        assert_eq!(count.wakes(), 1);
        assert!(poll_once(unread.as_mut(), &waker).is_ready());
    }
    assert!(writer.cancel_if_unread().is_ok());
    assert_eq!(
        body.progress().state,
        BodyState::Failed(BodyFailure::Cancelled)
    );
}

#[test]
fn a_reader_that_comes_between_unread_and_cancel_keeps_the_fill() {
    let (writer, body) = GrowingBody::new();
    drop(body.reader(0..1));
    assert!(poll_once(pin!(writer.unread()), Waker::noop()).is_ready());
    let mut reader = body.reader(0..u64::MAX);
    let mut writer = writer.cancel_if_unread().expect_err("somebody reads");
    writer.push(Bytes::from_static(b"x"));
    writer.complete();
    assert_eq!(drain(&mut reader), (b"x".to_vec(), Some(Ok(()))));
}

#[test]
fn a_wait_counts_as_reading_and_a_detached_asker_as_having_left() {
    let (writer, body) = GrowingBody::new();
    let (count, waker) = Count::new();
    let mut unread = pin!(writer.unread());
    assert!(poll_once(unread.as_mut(), &waker).is_pending());
    body.detached();
    assert_eq!(count.wakes(), 1);
    assert!(poll_once(unread.as_mut(), &waker).is_ready());
    {
        let mut wait = pin!(body.ended());
        assert!(poll_once(wait.as_mut(), Waker::noop()).is_pending());
        let mut again = pin!(writer.unread());
        assert!(poll_once(again.as_mut(), &waker).is_pending());
    }
    assert_eq!(count.wakes(), 2);
}

#[test]
fn a_reader_that_left_is_not_woken() {
    let (mut writer, body) = GrowingBody::new();
    let (count, waker) = Count::new();
    let mut reader = body.reader(0..u64::MAX);
    assert!(
        reader
            .poll_next(&mut Context::from_waker(&waker))
            .is_pending()
    );
    drop(reader);
    writer.push(pattern(1));
    writer.complete();
    assert_eq!(count.wakes(), 0);
    assert_eq!(Arc::strong_count(&count), 2, "no waker is kept");
}

#[test]
fn a_parent_that_sends_byte_by_byte_costs_memory_in_proportion() {
    let (mut writer, body) = GrowingBody::new();
    let all = pattern(64 * 1024);
    for byte in all.chunks(1) {
        writer.push(Bytes::copy_from_slice(byte));
    }
    let chunks = body.shared.state.lock().chunks.len();
    assert!(
        chunks <= 2 * all.len() / state::MERGED_BYTES_MAX,
        "{chunks}"
    );
    writer.complete();
    assert_eq!(drain(&mut body.reader(0..u64::MAX)).0, all);
}

#[test]
fn empty_ranges_and_ranges_at_the_end_of_numbers_read_as_nothing() {
    let body = GrowingBody::full(pattern(10));
    for range in [5..5, 10..20, u64::MAX - 1..u64::MAX, u64::MAX..u64::MAX] {
        assert_eq!(
            drain(&mut body.reader(range.clone())),
            (vec![], Some(Ok(()))),
            "{range:?}"
        );
    }
    #[expect(
        clippy::reversed_empty_ranges,
        reason = "a caller's mistake must be harmless"
    )]
    let reversed = body.reader(7..3);
    assert_eq!(reversed.remaining_if_known(), Some(0));
}

/// What may happen to a body, in any order.
#[derive(Clone, Debug)]
enum Op {
    Push(usize),
    Read(u64, u64),
    Poll(usize),
    Leave(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0usize..9000).prop_map(Op::Push),
        2 => (0u64..60_000, 0u64..60_000).prop_map(|(from, count)| Op::Read(from, from + count)),
        4 => any::<usize>().prop_map(Op::Poll),
        1 => any::<usize>().prop_map(Op::Leave),
    ]
}

proptest! {
    #[test]
    fn every_reader_sees_exactly_the_bytes_of_its_range(
        ops in prop::collection::vec(op(), 0..60),
        end in prop::option::of(Just(BodyFailure::Reset)),
    ) {
        let (mut writer, body) = GrowingBody::new();
        let all = pattern(600_000);
        let mut written = 0;
        let mut readers: Vec<(Range<u64>, Vec<u8>, Reader)> = Vec::new();
        for op in ops {
            match op {
                Op::Push(bytes) => {
                    writer.push(all.slice(written..written + bytes));
                    written += bytes;
                }
                Op::Read(from, to) => readers.push((from..to, vec![], body.reader(from..to))),
                Op::Poll(i) if !readers.is_empty() => {
                    let i = i % readers.len();
                    let (range, seen, reader) = &mut readers[i];
                    let (bytes, ended) = drain(reader);
                    seen.extend(bytes);
                    prop_assert_eq!(ended.is_some(), range.end <= written as u64 || range.is_empty());
                }
                Op::Leave(i) if !readers.is_empty() => {
                    drop(readers.swap_remove(i % readers.len()));
                }
                Op::Poll(_) | Op::Leave(_) => {}
            }
        }
        match end {
            Some(failure) => writer.fail(failure),
            None => writer.complete(),
        }
        for (range, mut seen, mut reader) in readers {
            let (bytes, ended) = drain(&mut reader);
            seen.extend(bytes);
            let from = (range.start as usize).min(written);
            let to = (range.end as usize).min(written);
            prop_assert_eq!(&seen[..], &all[from..to.max(from)]);
            let is_whole = range.is_empty() || range.end <= written as u64 || end.is_none();
            prop_assert_eq!(ended, Some(if is_whole { Ok(()) } else { Err(BodyFailure::Reset) }));
        }
    }
}
