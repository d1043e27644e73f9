//! The feed from end to end without a network: a log, its stream, and a cursor that reads it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::*;
use crate::{
    Bounds, Entry, LogId, Mode, PurgeId, PurgeRequest, Report, Sequence, Target, UnixMillis, Window,
};

const LOG: LogId = LogId(7);

/// A log in memory.
#[derive(Clone)]
struct Memory {
    window: Arc<Mutex<Window>>,
    bounds: watch::Sender<Bounds>,
    age: Arc<Mutex<Duration>>,
}

impl Memory {
    fn new(entries_max: usize) -> Self {
        let window = Window::new(LOG, Sequence::START, entries_max);
        Self {
            bounds: watch::Sender::new(window.bounds()),
            window: Arc::new(Mutex::new(window)),
            age: Arc::default(),
        }
    }

    fn append(&self, count: u64) {
        let mut window = self.window.lock();
        for _ in 0..count {
            let next = window.bounds().head.next();
            window.push(Arc::new(entry(LOG, next.0))).unwrap();
        }
        self.bounds.send_replace(window.bounds());
    }

    fn begin_anew(&self, log: LogId, head: u64) {
        let mut window = self.window.lock();
        window.begin_anew(log, Sequence(head));
        self.bounds.send_replace(window.bounds());
    }
}

impl Log for Memory {
    fn subscribe(&self) -> watch::Receiver<Bounds> {
        self.bounds.subscribe()
    }

    fn age(&self) -> Duration {
        *self.age.lock()
    }

    async fn read_after(
        &self,
        after: Sequence,
        entries_max: usize,
    ) -> Result<Vec<Arc<Entry>>, Missing> {
        let window = self.window.lock();
        window.read_after(after, entries_max).ok_or(Missing::Behind)
    }

    fn report(&self, _reports: Vec<Report>) -> Result<(), Refused> {
        Ok(())
    }
}

fn entry(log: LogId, sequence: u64) -> Entry {
    let sequence = Sequence(sequence);
    Entry {
        sequence,
        id: PurgeId { log, sequence },
        accepted_at: UnixMillis(0),
        request: PurgeRequest {
            target: Target::All,
            mode: Mode::Hard,
        },
        dry_run: false,
        by: "test".to_owned(),
    }
}

/// A follower without a network.
#[derive(Default)]
struct Reading {
    cursor: Cursor,
    /// What it was told to do, as text.
    told: Vec<String>,
}

impl Reading {
    fn line(&mut self, line: &[u8]) -> Result<(), FeedError> {
        match self.cursor.take(line)? {
            Step::Nothing => {}
            Step::Apply(entry) => self.told.push(entry.sequence.to_string()),
            Step::Reset(position) => self.told.push(format!("reset {}", position.applied)),
            Step::Current { age_ms } => self.told.push(format!("current {age_ms}")),
        }
        Ok(())
    }

    fn message(&mut self, message: &Message) -> Result<(), FeedError> {
        let mut line = Vec::new();
        message.write_to(&mut line);
        self.line(line.trim_ascii_end())
    }

    /// Reads a feed until it is current, and returns what it was told.
    async fn until_current(&mut self, log: &Memory, latest: u64) -> Vec<String> {
        self.told.clear();
        let start = self.cursor.connect(latest);
        let mut feed = pin!(stream(log.clone(), start));
        let mut lines = Lines::default();
        while !self
            .told
            .last()
            .is_some_and(|told| told.starts_with("current"))
        {
            let bytes = feed.next().await.unwrap();
            lines.feed(&bytes, |line| self.line(line)).unwrap();
        }
        std::mem::take(&mut self.told)
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_follower_begins_with_the_latest_and_then_goes_on_where_it_was() {
    let log = Memory::new(1000);
    log.append(100);
    let mut reading = Reading::default();
    let told = reading.until_current(&log, 2).await;
    assert_eq!(told, ["99", "100", "current 0"]);
    log.append(2);
    let told = reading.until_current(&log, 2).await;
    assert_eq!(told, ["101", "102", "current 0"]);
    assert_eq!(reading.until_current(&log, 2).await, ["current 0"]);
}

#[tokio::test(start_paused = true)]
async fn more_entries_than_are_read_at_once_come_in_order() {
    let log = Memory::new(1000);
    log.append(200);
    let mut reading = Reading::default();
    let told = reading.until_current(&log, u64::MAX).await;
    let mut expected: Vec<_> = (1..=200).map(|n: u64| n.to_string()).collect();
    expected.push("current 0".to_owned());
    assert_eq!(told, expected);
}

#[tokio::test(start_paused = true)]
async fn f33_a_follower_behind_the_tail_is_reset_and_goes_on_from_the_head() {
    let log = Memory::new(10);
    log.append(5);
    let mut reading = Reading::default();
    reading.until_current(&log, 0).await;
    log.append(11);
    let told = reading.until_current(&log, 0).await;
    assert_eq!(told, ["reset 16", "current 0"]);
    log.append(1);
    assert_eq!(reading.until_current(&log, 0).await, ["17", "current 0"]);
}

#[tokio::test(start_paused = true)]
async fn f33_a_log_that_was_begun_anew_resets_whoever_followed_the_old_one() {
    let log = Memory::new(10);
    log.append(5);
    let mut reading = Reading::default();
    reading.until_current(&log, 0).await;
    log.begin_anew(LogId(8), 5);
    let told = reading.until_current(&log, 0).await;
    assert_eq!(told, ["reset 5", "current 0"]);
    assert_eq!(reading.cursor.position().unwrap().log, LogId(8));
}

#[tokio::test(start_paused = true)]
async fn a_reset_of_the_log_reaches_a_feed_that_is_open() {
    let log = Memory::new(10);
    log.append(5);
    let mut reading = Reading::default();
    let mut feed = pin!(stream(log.clone(), reading.cursor.connect(0)));
    let mut lines = Lines::default();
    let bytes = feed.next().await.unwrap();
    lines.feed(&bytes, |line| reading.line(line)).unwrap();
    log.begin_anew(LOG, 9);
    let bytes = feed.next().await.unwrap();
    lines.feed(&bytes, |line| reading.line(line)).unwrap();
    assert_eq!(reading.told, ["current 0", "reset 9", "current 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_feed_beats_every_second_and_tells_how_old_its_knowledge_is() {
    let log = Memory::new(10);
    let mut reading = Reading::default();
    let mut feed = pin!(stream(log.clone(), reading.cursor.connect(0)));
    let mut lines = Lines::default();
    let begun = Instant::now();
    for second in 0..5_u32 {
        *log.age.lock() = Duration::from_millis(10) * second;
        let bytes = feed.next().await.unwrap();
        lines.feed(&bytes, |line| reading.line(line)).unwrap();
        assert_eq!(begun.elapsed(), HEARTBEAT * second);
    }
    let told = [
        "current 0",
        "current 10",
        "current 20",
        "current 30",
        "current 40",
    ];
    assert_eq!(reading.told, told);
}

#[tokio::test(start_paused = true)]
async fn an_entry_is_sent_at_once() {
    let log = Memory::new(10);
    let mut reading = Reading::default();
    let mut feed = pin!(stream(log.clone(), reading.cursor.connect(0)));
    feed.next().await.unwrap();
    let begun = Instant::now();
    log.append(1);
    let bytes = feed.next().await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert!(bytes.starts_with(br#"{"type":"entry","sequence":1,"#));
}

#[tokio::test(start_paused = true)]
async fn the_feed_ends_with_its_log() {
    #[derive(Clone)]
    struct Ended(watch::Receiver<Bounds>);
    impl Log for Ended {
        fn subscribe(&self) -> watch::Receiver<Bounds> {
            self.0.clone()
        }
        fn age(&self) -> Duration {
            Duration::ZERO
        }
        async fn read_after(&self, _: Sequence, _: usize) -> Result<Vec<Arc<Entry>>, Missing> {
            Ok(Vec::new())
        }
        fn report(&self, _: Vec<Report>) -> Result<(), Refused> {
            Ok(())
        }
    }
    let bounds = Window::new(LOG, Sequence(4), 1).bounds();
    let (sender, receiver) = watch::channel(bounds);
    let mut feed = pin!(stream(Ended(receiver), Start::Latest(0)));
    assert!(feed.next().await.is_some());
    drop(sender);
    assert!(feed.next().await.is_none());
}

#[test]
fn f33_duplicates_are_ignored_and_a_gap_is_a_reset() {
    let mut reading = Reading::default();
    reading.cursor.connect(0);
    let begin = Message::Begin {
        log: LOG,
        after: Sequence(3),
    };
    reading.message(&begin).unwrap();
    for sequence in [4, 4, 3, 5, 8, 6, 9] {
        let entry = Message::Entry(entry(LOG, sequence));
        reading.message(&entry).unwrap();
    }
    assert_eq!(reading.told, ["4", "5", "reset 8", "9"]);
}

#[test]
fn f33_an_entry_nobody_understands_is_a_reset_not_a_purge_left_out() {
    let mut reading = Reading::default();
    reading.cursor.connect(0);
    let begin = Message::Begin {
        log: LOG,
        after: Sequence(3),
    };
    reading.message(&begin).unwrap();
    let newer = br#"{"type":"entry","sequence":4,"request":{"target":{"galaxy":"x"}}}"#;
    reading.line(newer).unwrap();
    reading.line(newer).unwrap();
    assert_eq!(reading.told, ["reset 4"]);
}

#[test]
fn f33_corrupted_lines_end_the_connection_and_move_nothing() {
    let begin = r#"{"type":"begin","log":"0000000000000007","after":3}"#;
    let cases: &[&[&str]] = &[
        &[r#"{"type":"heartbeat","head":4}"#],
        &[begin, begin],
        &[begin, "{"],
        &[begin, ""],
        &[begin, r#"{"type":"other"}"#],
        &[begin, r#"{"type":"entry"}"#],
        &[begin, r#"{"type":"heartbeat","head":-4}"#],
        &[begin, r#"{"type":"reset","log":"x","through":4}"#],
        &["\u{0}\u{1}"],
    ];
    for lines in cases {
        let mut reading = Reading::default();
        reading.cursor.connect(0);
        let (last, before) = lines.split_last().unwrap();
        for line in before {
            reading.line(line.as_bytes()).unwrap();
        }
        let position = reading.cursor.position();
        assert!(reading.line(last.as_bytes()).is_err(), "{lines:?}");
        assert_eq!(reading.cursor.position(), position, "{lines:?}");
        assert!(reading.told.is_empty());
    }
}

#[test]
fn an_entry_of_another_log_is_not_applied() {
    let mut reading = Reading::default();
    reading.cursor.connect(0);
    let begin = Message::Begin {
        log: LOG,
        after: Sequence(3),
    };
    reading.message(&begin).unwrap();
    let other = Message::Entry(entry(LogId(8), 4));
    let refused = reading.message(&other).unwrap_err();
    assert!(matches!(refused, FeedError::OtherLog { .. }));
}

#[test]
fn a_heartbeat_ahead_of_the_follower_is_no_peace() {
    let mut reading = Reading::default();
    reading.cursor.connect(0);
    let messages = [
        Message::Begin {
            log: LOG,
            after: Sequence(3),
        },
        Message::Heartbeat {
            head: Sequence(5),
            age_ms: 0,
        },
    ];
    for message in &messages {
        reading.message(message).unwrap();
    }
    assert!(reading.told.is_empty());
    assert_eq!(reading.cursor.head(), Sequence(5));
}

#[test]
fn reports_are_read_within_their_limits() {
    let report = |node: &str| Report {
        node: node.parse().unwrap(),
        log: LOG,
        through: Sequence(3),
        age_ms: 20,
        applied: Vec::new(),
    };
    let reports = vec![report("a"), report("b")];
    assert_eq!(read_reports(&write_reports(&reports)).unwrap(), reports);
    let many = vec![report("a"); REPORTS_MAX + 1];
    let refused = read_reports(&write_reports(&many)).unwrap_err();
    assert!(matches!(refused, ReportsError::TooMany(_)));
    let large = vec![b' '; REPORTS_BYTES_MAX + 1];
    let refused = read_reports(&large).unwrap_err();
    assert!(matches!(refused, ReportsError::TooLarge(_)));
    assert!(read_reports(b"[{\"node\": \"a b\"}]").is_err());
}

#[test]
fn the_largest_batch_of_reports_is_within_its_bytes() {
    let line = crate::Applied {
        sequence: Sequence(u64::MAX),
        at: UnixMillis(u64::MAX),
        counts: crate::Counts {
            responses: u64::MAX,
            bytes: u64::MAX,
            fills: u64::MAX,
        },
    };
    let mut reports = vec![
        Report {
            node: "n".repeat(crate::NODE_NAME_BYTES_MAX).parse().unwrap(),
            log: LogId(u64::MAX),
            through: Sequence(u64::MAX),
            age_ms: u64::MAX,
            applied: Vec::new(),
        };
        REPORTS_MAX
    ];
    reports[0].applied = vec![line; LINES_MAX];
    assert!(write_reports(&reports).len() <= REPORTS_BYTES_MAX);
}
