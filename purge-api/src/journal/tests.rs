//! The journal on real files: what is acknowledged stays, what is repeated is recognized, what is old leaves.

use std::path::PathBuf;

use purge_log::{LogId, Mode, PurgeRequest, Target};
use tempfile::TempDir;

use super::engines_tests::{report, told};
use super::record::Record;
use super::*;
use crate::auth::Used;

pub(super) struct Place {
    _folder: TempDir,
    pub(super) path: PathBuf,
}

pub(super) fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("purges.redb");
    Place {
        _folder: folder,
        path,
    }
}

pub(super) fn draft(number: u64) -> Draft {
    Draft {
        accepted_at: UnixMillis(number),
        request: PurgeRequest {
            target: Target::Host(format!("h{number}.example")),
            mode: Mode::Hard,
        },
        dry_run: false,
        by: "origin".to_owned(),
        idempotency_key: None,
        used: None,
    }
}

fn keyed(number: u64, key: &str) -> Draft {
    Draft {
        idempotency_key: Some(key.to_owned()),
        ..draft(number)
    }
}

fn open(place: &Place, config: JournalConfig) -> (Journal, OpenReport) {
    Journal::open(&place.path, config).unwrap()
}

fn bounds(log: LogId, tail: u64, head: u64) -> Bounds {
    Bounds {
        log,
        tail: Sequence(tail),
        head: Sequence(head),
    }
}

async fn append(journal: &Journal, draft: Draft) -> Arc<Entry> {
    Arc::clone(journal.append(draft).await.unwrap().entry())
}

#[tokio::test]
async fn what_was_appended_is_read_in_order_and_again_after_a_restart() {
    let place = place();
    let (journal, report) = open(&place, JournalConfig::default());
    assert!(report.is_new && !report.was_cut_off);
    let log = report.bounds.log;
    assert_eq!(report.bounds, bounds(log, 1, 0));
    let mut written = Vec::new();
    for number in 1..=5 {
        written.push(append(&journal, draft(number)).await);
    }
    assert_eq!(journal.bounds(), bounds(log, 1, 5));
    let read = journal.read_after(Sequence(2), 2).await.unwrap();
    assert_eq!(read, written[2..4]);
    journal.close().await;

    // One entry of late in memory: the others come from the disk.
    let config = JournalConfig {
        recent_max: 1,
        ..JournalConfig::default()
    };
    let (journal, report) = open(&place, config);
    assert!(!report.is_new && !report.was_cut_off);
    assert_eq!(report.bounds, bounds(log, 1, 5));
    assert_eq!(report.entries, 5);
    let read = journal.read_after(Sequence::START, 10).await.unwrap();
    assert_eq!(read, written);
    for entry in &written {
        assert_eq!(journal.find(entry.id).await.unwrap().as_ref(), Some(entry));
    }
    let unknown = PurgeId {
        log: LogId(!log.0),
        sequence: Sequence(1),
    };
    assert_eq!(journal.find(unknown).await.unwrap(), None);
    assert_eq!(append(&journal, draft(6)).await.sequence, Sequence(6));
}

#[tokio::test]
async fn one_purge_too_many_in_the_queue_is_refused_and_the_others_are_written() {
    let place = place();
    let config = JournalConfig {
        waiting_max: 2,
        ..JournalConfig::default()
    };
    let (journal, _) = open(&place, config);
    let appends = (1..=50).map(|number| journal.append(draft(number)));
    let outcomes = futures_util::future::join_all(appends).await;
    let refused = outcomes.iter().filter(|o| o.is_err()).count() as u64;
    assert!(outcomes.iter().flatten().count() >= 2);
    for outcome in outcomes {
        assert!(matches!(outcome, Ok(_) | Err(AppendError::Busy)));
    }
    assert_eq!(journal.bounds().head, Sequence(50 - refused));
}

#[tokio::test]
async fn a_key_is_forgotten_after_its_time() {
    let place = place();
    let config = JournalConfig {
        keys_kept_for: Duration::from_millis(100),
        ..JournalConfig::default()
    };
    let (journal, _) = open(&place, config);
    append(&journal, keyed(1, "a")).await;
    let late = Draft {
        accepted_at: UnixMillis(102),
        ..keyed(1, "a")
    };
    let late = journal.append(late).await.unwrap();
    assert!(matches!(late, Appended::New(_)));
}

#[tokio::test]
async fn purges_leave_by_age_by_number_and_by_bytes_and_the_head_stays() {
    let place = place();
    let config = JournalConfig {
        keep_for: Duration::from_millis(100),
        entries_max: 3,
        ..JournalConfig::default()
    };
    let (journal, report) = open(&place, config.clone());
    let log = report.bounds.log;
    for number in 1..=5 {
        append(&journal, draft(number)).await;
    }
    assert_eq!(journal.bounds(), bounds(log, 3, 5));
    let behind = journal.read_after(Sequence(1), 10).await.unwrap_err();
    assert!(matches!(behind, ReadError::Behind));
    journal.compact(UnixMillis(104)).await.unwrap();
    assert_eq!(journal.bounds(), bounds(log, 4, 5));
    journal.compact(UnixMillis(1000)).await.unwrap();
    assert_eq!(journal.bounds(), bounds(log, 6, 5));
    assert!(
        journal
            .read_after(Sequence(5), 10)
            .await
            .unwrap()
            .is_empty()
    );
    journal.close().await;
    let (journal, report) = open(&place, config);
    assert_eq!(report.bounds, bounds(log, 6, 5));
    assert_eq!(append(&journal, draft(2000)).await.sequence, Sequence(6));
    journal.close().await;

    let bytes_max = 200;
    let (journal, _) = open(
        &place,
        JournalConfig {
            bytes_max,
            ..JournalConfig::default()
        },
    );
    for number in 1..=10 {
        append(&journal, draft(number)).await;
    }
    let kept = journal.read_after(journal.bounds().tail.previous(), 100);
    let kept = kept.await.unwrap();
    let bytes = |e: &Arc<Entry>| Record::new(draft(e.accepted_at.0)).unwrap().bytes.len();
    assert!(!kept.is_empty() && kept.iter().map(bytes).sum::<usize>() <= 200);
}

#[tokio::test]
async fn a_second_process_is_told_that_the_journal_is_in_use() {
    let place = place();
    let (_journal, _) = open(&place, JournalConfig::default());
    let refused = Journal::open(&place.path, JournalConfig::default()).unwrap_err();
    assert!(matches!(refused, OpenError::InUse(_)), "{refused}");
}

#[test]
fn a_path_that_cannot_be_a_file_is_named() {
    let place = place();
    let path = place.path.join("below").join("purges.redb");
    let refused = Journal::open(&path, JournalConfig::default()).unwrap_err();
    assert!(refused.to_string().contains("below"), "{refused}");
}

#[tokio::test]
async fn what_came_with_a_purge_and_may_not_be_used_again_is_known_after_a_restart() {
    let place = place();
    let used = |name: &str, until: u64| Used {
        name: name.to_owned(),
        until: UnixMillis(until),
    };
    let with = |number: u64, used: Used| Draft {
        used: Some(used),
        ..draft(number)
    };
    let config = JournalConfig {
        entries_max: 2,
        ..JournalConfig::default()
    };
    let (journal, begun) = open(&place, config.clone());
    assert_eq!(
        begun.remembered,
        Remembered::default(),
        "nobody knows what was before"
    );
    append(&journal, with(1, used("k/a", 300_001))).await;
    append(&journal, with(2, used("k/b", 300_002))).await;
    journal.close().await;
    let (journal, report) = open(&place, config.clone());
    let remembered = report.remembered;
    assert_eq!(
        remembered.used,
        [used("k/a", 300_001), used("k/b", 300_002)]
    );
    assert_eq!(remembered.signatures_since, Some(UnixMillis(0)));
    assert_eq!(
        remembered.tokens_since, None,
        "other requests show tokens, too"
    );
    append(&journal, with(3, used("k/c", 300_003))).await;
    journal.close().await;
    let (_journal, report) = open(&place, config);
    let remembered = report.remembered;
    assert_eq!(remembered.used.len(), 2);
    // A clock that was a minute ahead may have signed what came with the purge that left.
    assert_eq!(remembered.signatures_since, Some(UnixMillis(60_002)));
}

#[tokio::test]
async fn what_nodes_applied_is_known_again_after_a_restart() {
    let place = place();
    let (journal, opened) = open(&place, JournalConfig::default());
    let log = opened.bounds.log;
    for number in 1..=3 {
        append(&journal, draft(number)).await;
    }
    let reports = vec![
        report("fra", log, 3, &[1, 2, 3]),
        report("sin", log, 3, &[2]),
    ];
    journal.report(reports, UnixMillis(1000)).unwrap();
    journal.close().await;
    let (journal, _) = open(&place, JournalConfig::default());
    let applied = journal.applied(Sequence(2)).await.unwrap();
    let both = [("fra", Some((502, 2))), ("sin", Some((502, 2)))];
    assert_eq!(told(&applied), both);
    let through: Vec<_> = journal.nodes().iter().map(|n| n.through.0).collect();
    assert_eq!(through, [3, 3]);
}
