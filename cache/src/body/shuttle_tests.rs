//! Searches the interleavings of one writer and several readers of a body.

use shuttle::{check_random, future, thread};

use super::*;

const SCHEDULES: usize = 3_000;

async fn read_all(mut reader: Reader) -> (Vec<u8>, Result<(), BodyFailure>) {
    let mut bytes = Vec::new();
    loop {
        match reader.next().await {
            Some(Ok(chunk)) => bytes.extend_from_slice(&chunk),
            Some(Err(failure)) => return (bytes, Err(failure)),
            None => return (bytes, Ok(())),
        }
    }
}

#[test]
fn shuttle_readers_see_every_byte_in_order_and_one_end_without_a_lost_wake_up() {
    for failure in [None, Some(BodyFailure::Reset)] {
        check_random(
            move || {
                let (mut writer, body) = GrowingBody::new();
                let readers: Vec<_> = [0..u64::MAX, 1..u64::MAX, 0..2]
                    .map(|range| {
                        let body = body.clone();
                        thread::spawn(move || future::block_on(read_all(body.reader(range))))
                    })
                    .into_iter()
                    .collect();
                for chunk in [b"a", b"b", b"c"] {
                    writer.push(Bytes::from_static(chunk));
                }
                match failure {
                    None => writer.complete(),
                    Some(failure) => writer.fail(failure),
                }
                let end = failure.map_or(Ok(()), Err);
                let seen: Vec<_> = readers.into_iter().map(|r| r.join().unwrap()).collect();
                assert_eq!(seen[0], (b"abc".to_vec(), end));
                assert_eq!(seen[1], (b"bc".to_vec(), end));
                assert_eq!(seen[2], (b"ab".to_vec(), Ok(())));
            },
            SCHEDULES,
        );
    }
}

#[test]
fn shuttle_waits_for_bytes_and_for_the_end_always_resolve() {
    check_random(
        || {
            let (mut writer, body) = GrowingBody::new();
            let part = {
                let body = body.clone();
                thread::spawn(move || future::block_on(body.received_at_least(2)))
            };
            let end = {
                let body = body.clone();
                thread::spawn(move || future::block_on(body.ended()))
            };
            writer.push(Bytes::from_static(b"a"));
            writer.push(Bytes::from_static(b"b"));
            writer.complete();
            assert_eq!(part.join().unwrap().received, 2);
            assert_eq!(end.join().unwrap().state, BodyState::Complete);
        },
        SCHEDULES,
    );
}

#[test]
fn shuttle_a_cancelled_fill_had_no_reader_and_an_uncancelled_one_serves_whoever_came() {
    check_random(
        || {
            let (writer, body) = GrowingBody::new();
            drop(body.reader(0..u64::MAX));
            let late = {
                let body = body.clone();
                thread::spawn(move || future::block_on(read_all(body.reader(0..u64::MAX))))
            };
            let was_cancelled = match writer.cancel_if_unread() {
                Ok(()) => true,
                Err(mut writer) => {
                    writer.push(Bytes::from_static(b"x"));
                    writer.complete();
                    false
                }
            };
            let (bytes, end) = late.join().unwrap();
            if was_cancelled {
                assert_eq!((bytes, end), (vec![], Err(BodyFailure::Cancelled)));
            } else {
                assert_eq!((bytes, end), (b"x".to_vec(), Ok(())));
            }
        },
        SCHEDULES,
    );
}

#[test]
fn shuttle_unread_is_never_missed_while_readers_come_and_go() {
    check_random(
        || {
            let (writer, body) = GrowingBody::new();
            let leavers: Vec<_> = (0..2)
                .map(|_| {
                    let body = body.clone();
                    thread::spawn(move || drop(body.reader(0..u64::MAX)))
                })
                .collect();
            future::block_on(writer.unread());
            for leaver in leavers {
                leaver.join().unwrap();
            }
        },
        SCHEDULES,
    );
}
