//! Blocks: what is written is read, by address and through the file, and what is given back is gone.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use proptest::prelude::*;

use super::*;

const KIB: usize = 1024;

/// A region of so many smallest blocks, of which so much may stay warm. It lives as long as the process, as the real one
/// does.
fn warm_region(blocks: usize, warm_bytes_max: usize) -> &'static Region {
    let region = Region::new(blocks * BLOCK_BYTES_MIN, warm_bytes_max)
        .expect("the system has what Linux has");
    Box::leak(Box::new(region))
}

/// One in which nothing stays warm.
fn region(blocks: usize) -> &'static Region {
    warm_region(blocks, 0)
}

fn block(region: &'static Region, bytes: usize, seed: u8) -> Option<Bytes> {
    let mut growing = region.begin(bytes)?;
    let content = content(bytes, seed);
    for piece in content.chunks(10_007) {
        growing.push(piece);
    }
    Some(growing.finish())
}

fn content(bytes: usize, seed: u8) -> Vec<u8> {
    (0..bytes).map(|i| (i % 251) as u8 ^ seed).collect()
}

fn file(region: &'static Region) -> File {
    region.mapping.file().try_clone_to_owned().unwrap().into()
}

/// Memory that the file has.
fn allocated_bytes(region: &'static Region) -> u64 {
    file(region).metadata().unwrap().blocks() * 512
}

#[test]
fn a_slice_of_a_block_is_found_in_the_file_and_nothing_else_is() {
    let region = region(8);
    let first = block(region, 70 * KIB, 1).unwrap();
    let second = block(region, 40 * KIB, 2).unwrap();
    for part in [first.slice(..), second.slice(5_000..30_000)] {
        let at = region.locate(&part).unwrap();
        let mut read = vec![0; part.len()];
        let file = File::from(at.file.try_clone_to_owned().unwrap());
        file.read_exact_at(&mut read, at.offset as u64).unwrap();
        assert!(read == part);
    }
    assert!(region.locate(b"elsewhere").is_none());
}

#[test]
fn memory_is_given_back_with_the_last_slice() {
    let region = region(8);
    let whole = block(region, 100 * KIB, 1).unwrap();
    assert_eq!(allocated_bytes(region), 100 * KIB as u64);
    let part = whole.slice(7..9);
    drop(whole);
    assert_eq!(part[..], content(9, 1)[7..]);
    assert_eq!(allocated_bytes(region), 100 * KIB as u64);
    drop(part);
    assert_eq!(allocated_bytes(region), 0);
}

#[test]
fn addresses_are_given_out_again_without_what_was_there() {
    let region = region(2);
    let first = block(region, 60 * KIB, 1).unwrap();
    let offset = region.locate(&first).unwrap().offset;
    drop(first);
    let mut growing = region.begin(50 * KIB).unwrap();
    growing.push(b"new");
    let there = growing.block.region.mapping.read(offset, 50 * KIB);
    assert!(there.starts_with(b"new\0"));
    assert!(there[3..].iter().all(|&byte| byte == 0));
    assert_eq!(growing.finish(), &b"new"[..]);
}

#[test]
fn a_block_that_no_socket_was_told_of_keeps_its_memory_for_the_next() {
    let region = warm_region(4, 64 * KIB);
    let first = block(region, 60 * KIB, 1).unwrap();
    let place = first.as_ptr();
    drop(first);
    assert_eq!(allocated_bytes(region), 60 * KIB as u64);
    let longer = block(region, 64 * KIB, 2).unwrap();
    assert_eq!(longer.as_ptr(), place);
    assert!(longer == content(64 * KIB, 2));
    drop(longer);
    // It has the memory that it is counted with, and no more.
    let shorter = block(region, 40 * KIB, 3).unwrap();
    assert_eq!(shorter.as_ptr(), place);
    assert!(shorter == content(40 * KIB, 3));
    assert_eq!(allocated_bytes(region), 40 * KIB as u64);
    // One more than may stay warm.
    let other = block(region, 64 * KIB, 4).unwrap();
    drop((shorter, other));
    assert_eq!(allocated_bytes(region), 40 * KIB as u64);
}

#[test]
fn a_block_of_which_any_part_was_sent_loses_its_memory() {
    let region = warm_region(8, 1 << 30);
    let sent = block(region, 100 * KIB, 1).unwrap();
    let other = block(region, 100 * KIB, 2).unwrap();
    region.locate(&sent.slice(99 * KIB..)).unwrap();
    drop(sent);
    assert_eq!(allocated_bytes(region), 100 * KIB as u64);
    // The mark is gone with it.
    let next = block(region, 100 * KIB, 3).unwrap();
    drop((next, other));
    assert_eq!(allocated_bytes(region), 200 * KIB as u64);
}

#[test]
fn what_is_dropped_unfinished_is_given_back() {
    let region = region(2);
    let mut growing = region.begin(64 * KIB).unwrap();
    growing.push(&[7; 100]);
    assert!(region.begin(1).is_none(), "all addresses are taken");
    drop(growing);
    assert_eq!(allocated_bytes(region), 0);
    assert!(region.begin(64 * KIB).is_some());
}

#[test]
fn what_has_no_place_is_for_the_heap() {
    let region = region(4);
    assert!(region.begin(0).is_none());
    assert!(region.begin(BLOCK_BYTES_MAX + 1).is_none());
    assert!(region.begin(129 * KIB).is_none());
    let _all = region.begin(128 * KIB).unwrap();
    assert!(region.begin(1).is_none());
}

#[test]
fn more_than_was_asked_for_is_not_written() {
    let region = region(2);
    let mut growing = region.begin(10).unwrap();
    growing.push(b"0123456");
    growing.push(b"789 and more");
    assert_eq!(growing.finish(), &b"0123456789"[..]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn blocks_keep_what_they_are_while_others_come_and_go(
        steps in prop::collection::vec((1..200 * KIB, any::<u8>(), any::<prop::sample::Index>(), any::<bool>()), 1..60),
        warm in 0..400 * KIB,
    ) {
        let region = warm_region(64, warm);
        let mut live: Vec<(Bytes, u8)> = Vec::new();
        for (bytes, seed, which, leaves) in steps {
            if leaves && !live.is_empty() {
                let (block, seed) = live.swap_remove(which.index(live.len()));
                prop_assert!(block == content(block.len(), seed));
                if seed % 2 == 0 {
                    region.locate(&block);
                }
            } else if let Some(block) = block(region, bytes, seed) {
                live.push((block, seed));
            }
        }
        for (block, seed) in &live {
            prop_assert!(*block == content(block.len(), *seed));
        }
        let pages = |block: &Bytes| block.len().next_multiple_of(4 * KIB) as u64;
        let expected = live.iter().map(|(block, _)| pages(block)).sum::<u64>();
        let warm = region.slots.lock().warm_bytes as u64;
        prop_assert_eq!(allocated_bytes(region), expected + warm);
    }
}
