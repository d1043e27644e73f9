//! The journal on a medium that fails: power that goes at any write, and bytes that rot.
//!
//! The medium is in memory and remembers what was synced. When the power goes, everything synced is there,
//! and of what was written since any part may be: whole, torn at a sector, or not at all.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;

use super::disk::Disk;
use super::embedded::Embedded;
use super::tests::draft;
use super::*;

/// A medium whose power goes at a certain write.
#[derive(Clone, Default)]
struct Medium(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    synced: Vec<u8>,
    current: Vec<u8>,
    since: Vec<Op>,
    /// Writes and syncs so far.
    ops: u64,
    /// The write or sync at which the power goes.
    power_until: Option<u64>,
}

#[derive(Clone)]
enum Op {
    Length(usize),
    Write(usize, Vec<u8>),
}

impl fmt::Debug for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Medium")
    }
}

/// A small generator of numbers: enough to choose what survives.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

fn apply(image: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Length(length) => image.resize(*length, 0),
        Op::Write(offset, bytes) => {
            let end = offset + bytes.len();
            image.resize(image.len().max(end), 0);
            image[*offset..end].copy_from_slice(bytes);
        }
    }
}

impl State {
    fn run(&mut self, op: Op) -> io::Result<()> {
        self.step()?;
        apply(&mut self.current, &op);
        self.since.push(op);
        Ok(())
    }

    fn step(&mut self) -> io::Result<()> {
        self.ops += 1;
        if self.power_until.is_some_and(|until| self.ops > until) {
            return Err(io::Error::other("no power"));
        }
        Ok(())
    }
}

impl Medium {
    fn holding(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State {
            synced: image.clone(),
            current: image,
            ..State::default()
        })))
    }

    /// Returns what is found when the power is back.
    fn after_power_failure(&self, chance: &mut Chance) -> Vec<u8> {
        let state = self.0.lock();
        let mut image = state.synced.clone();
        for op in &state.since {
            match (chance.below(3), op) {
                (0, _) => {}
                (1, Op::Write(offset, bytes)) => {
                    let sectors = bytes.len().div_ceil(SECTOR) as u64;
                    let kept = chance.below(sectors + 1) as usize * SECTOR;
                    let torn = bytes[..kept.min(bytes.len())].to_vec();
                    apply(&mut image, &Op::Write(*offset, torn));
                }
                (_, op) => apply(&mut image, op),
            }
        }
        image
    }
}

impl StorageBackend for Medium {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.lock().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let state = self.0.lock();
        let offset = offset as usize;
        let bytes = state.current.get(offset..offset + out.len());
        let bytes = bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), io::Error> {
        self.0.lock().run(Op::Length(length as usize))
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut state = self.0.lock();
        state.step()?;
        state.synced = state.current.clone();
        state.since.clear();
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), io::Error> {
        let op = Op::Write(offset as usize, bytes.to_vec());
        self.0.lock().run(op)
    }
}

fn open(medium: &Medium) -> Result<(Embedded, OpenReport), OpenError> {
    let backend = medium.clone();
    let path = Path::new("medium");
    let opened = Disk::open_with(path, |builder| builder.create_with_backend(backend))?;
    Embedded::start(opened, JournalConfig::default())
}

/// Appends until the medium fails or enough are in; returns how many were acknowledged.
async fn append(journal: &Embedded, count: u64) -> u64 {
    let first = journal.bounds().head.0;
    for number in first + 1..=first + count {
        if journal.append(draft(number)).await.is_err() {
            return number - 1;
        }
    }
    first + count
}

#[tokio::test]
async fn f30_whenever_the_power_goes_every_acknowledged_purge_is_there() {
    let mut unacknowledged = 0;
    for seed in 0..150 {
        let mut chance = Chance(seed);
        let medium = Medium::default();
        let (journal, _) = open(&medium).unwrap();
        let before = append(&journal, chance.below(5)).await;
        let until = medium.0.lock().ops + 1 + chance.below(60);
        medium.0.lock().power_until = Some(until);
        let acknowledged = append(&journal, 20).await.max(before);
        journal.close().await;
        let image = medium.after_power_failure(&mut chance);

        let medium = Medium::holding(image);
        let (journal, report) = open(&medium).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let head = report.bounds.head.0;
        assert!(
            head >= acknowledged,
            "seed {seed}: {head} of {acknowledged}"
        );
        assert!(head <= acknowledged + 1, "one at a time was appended");
        unacknowledged += head - acknowledged;
        let entries = journal.read_after(Sequence::START, 100).await.unwrap();
        for (number, entry) in (1..).zip(&entries) {
            assert_eq!(entry.request, draft(number).request, "seed {seed}");
        }
        assert_eq!(append(&journal, 1).await, head + 1, "it goes on");
        journal.close().await;
    }
    assert!(
        unacknowledged > 0,
        "the power also went between disk and answer"
    );
}

#[tokio::test]
async fn bytes_that_rotted_are_found_or_harmless_and_never_a_purge_less() {
    let medium = Medium::default();
    let (journal, _) = open(&medium).unwrap();
    append(&journal, 100).await;
    journal.close().await;
    let image = medium.0.lock().current.clone();
    let mut found = 0;
    for seed in 0..150 {
        let mut chance = Chance(seed);
        let mut rotten = image.clone();
        for _ in 0..=chance.below(3) {
            let at = chance.below(rotten.len() as u64) as usize;
            rotten[at] ^= 1 << chance.below(8);
        }
        if chance.below(8) == 0 {
            rotten.truncate(chance.below(rotten.len() as u64) as usize);
        }
        if rotten.is_empty() {
            continue;
        }
        match open(&Medium::holding(rotten)) {
            Ok((journal, report)) => {
                assert_eq!(report.entries, 100, "seed {seed}");
                let entries = journal.read_after(Sequence::START, 100).await.unwrap();
                for (number, entry) in (1..).zip(&entries) {
                    assert_eq!(entry.request, draft(number).request, "seed {seed}");
                }
                journal.close().await;
            }
            Err(error) => {
                assert!(
                    error.to_string().contains("damaged"),
                    "seed {seed}: {error}"
                );
                found += 1;
            }
        }
    }
    assert!(found > 0);
}

#[tokio::test]
async fn a_medium_that_fails_once_takes_no_more_purges_until_it_is_opened_again() {
    let medium = Medium::default();
    let (journal, _) = open(&medium).unwrap();
    append(&journal, 3).await;
    let until = medium.0.lock().ops;
    medium.0.lock().power_until = Some(until);
    let failed = journal.append(draft(4)).await.unwrap_err();
    assert!(matches!(failed, AppendError::Storage(_)), "{failed}");
    medium.0.lock().power_until = None;
    let failed = journal.append(draft(5)).await.unwrap_err();
    assert!(matches!(failed, AppendError::Storage(_)), "{failed}");
    assert_eq!(journal.bounds().head, Sequence(3), "nobody is told of it");
    let read = journal.read_after(Sequence::START, 10).await.unwrap();
    assert_eq!(read.len(), 3, "what is there can be read");
}

const SECTOR: usize = 512;
