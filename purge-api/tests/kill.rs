//! `kill -9` during a storm of purges: every purge that was acknowledged is in the journal afterwards.
//!
//! This program is its own child: with `--child PATH` it appends as fast as it can and writes each
//! acknowledgment to its standard output; without, it starts such children, kills each in the middle, and
//! reads the journal. `cargo test` runs a few rounds; more with `cargo test -p purge-api --test kill -- --rounds 100`.
//! Deliberately not here: power failures, which lose what was not synced; see `journal::power`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use purge_api::journal::{Draft, JournalConfig};
use purge_api::{Journal, Mode, PurgeRequest, Sequence, Target, UnixMillis};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    if let Some(path) = after("--child") {
        let first = after("--first").and_then(|n| n.parse().ok()).unwrap_or(0);
        return storm(Path::new(path), first);
    }
    // What cargo or a test runner passes (`--list`, filters) asks for nothing of this program.
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    let rounds = after("--rounds").and_then(|n| n.parse().ok());
    survive(rounds.unwrap_or(ROUNDS));
}

/// Appends until killed, a few at a time, and says which were acknowledged.
fn storm(path: &Path, first: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without network needs nothing");
    runtime.block_on(async {
        let (journal, _) = Journal::open(path, JournalConfig::default()).expect("it opens");
        let appending = (0..STORM_TASKS).map(|task| {
            let journal = journal.clone();
            async move {
                for number in (first + task..).step_by(STORM_TASKS as usize) {
                    let appended = journal.append(draft(number)).await.expect("it is written");
                    let sequence = appended.entry().sequence;
                    let line = format!("{number} {sequence}\n");
                    // One write per line, so that a kill cuts between lines or in the last one.
                    let mut out = std::io::stdout().lock();
                    out.write_all(line.as_bytes()).expect("the parent reads");
                    out.flush().expect("the parent reads");
                }
            }
        });
        futures_util::future::join_all(appending).await;
    });
}

/// Kills storms and checks the journal after each.
fn survive(rounds: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("purges.redb");
    let mut acknowledged = BTreeMap::new();
    let mut repaired = 0;
    for round in 0..rounds {
        let first = round * NUMBERS_PER_ROUND;
        let killed_after = 1 + round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % KILLED_AFTER_MAX;
        run_and_kill(&path, first, killed_after, &mut acknowledged);
        repaired += u64::from(check(&path, &acknowledged));
    }
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{rounds} kills, {repaired} found the file open, {} acknowledged purges, all there",
        acknowledged.len()
    )
    .expect("standard output is open");
}

fn run_and_kill(
    path: &Path,
    first: u64,
    killed_after: u64,
    acknowledged: &mut BTreeMap<Sequence, u64>,
) {
    let program = std::env::current_exe().expect("this program has a file");
    let mut child = Command::new(program)
        .arg("--child")
        .arg(path)
        .args(["--first", &first.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program starts");
    let out = child.stdout.take().expect("it is piped");
    let mut lines = 0;
    for line in BufReader::new(out).lines() {
        let line = line.expect("acknowledgments are text");
        let numbers = line.split_once(' ');
        let numbers = numbers.and_then(|(n, s)| Some((n.parse().ok()?, s.parse().ok()?)));
        // The last line may be cut: it was not acknowledged to anybody.
        if let Some((number, sequence)) = numbers {
            acknowledged.insert(Sequence(sequence), number);
        }
        lines += 1;
        if lines == killed_after {
            child.kill().expect("it runs");
        }
    }
    let status = child.wait().expect("it was started");
    assert!(lines >= killed_after, "it ended by itself: {status}");
}

/// Opens the journal and compares; returns whether it had been cut off.
fn check(path: &Path, acknowledged: &BTreeMap<Sequence, u64>) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without network needs nothing");
    runtime.block_on(async {
        let opened = Journal::open(path, JournalConfig::default());
        let (journal, report) = opened.expect("a killed journal opens");
        let head = report.bounds.head;
        assert_eq!(report.entries, head.0, "no place is empty");
        let mut after = Sequence::START;
        let mut remaining = acknowledged.iter().peekable();
        while after < head {
            let entries = journal.read_after(after, 1000).await.expect("it reads");
            for entry in &entries {
                if let Some((_, number)) = remaining.next_if(|(s, _)| **s == entry.sequence) {
                    assert_eq!(entry.request, draft(*number).request, "{}", entry.sequence);
                }
                after = entry.sequence;
            }
        }
        let lost: Vec<_> = remaining.collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        journal.close().await;
        report.was_cut_off
    })
}

fn draft(number: u64) -> Draft {
    Draft {
        accepted_at: UnixMillis(number),
        request: PurgeRequest {
            target: Target::Host(format!("h{number}.example")),
            mode: Mode::Hard,
        },
        dry_run: false,
        by: "storm".to_owned(),
        idempotency_key: None,
        used: None,
    }
}

/// Kills in an ordinary run.
const ROUNDS: u64 = 8;
/// Appends at once in a child.
const STORM_TASKS: u64 = 32;
/// Acknowledgments after which a child is killed, at most.
const KILLED_AFTER_MAX: u64 = 400;
/// Drafts of one round have numbers of their own.
const NUMBERS_PER_ROUND: u64 = 1_000_000;
