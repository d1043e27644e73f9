//! How long an append takes until it is on disk, alone and together: `cargo bench -p purge-api [-- DIRECTORY]`.
//!
//! Each run appends for a bounded time with so many callers at once, and prints how many appends a second
//! were acknowledged, how long they took, and how many shared an fsync.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use purge_api::journal::{Draft, JournalConfig};
use purge_api::{Journal, Mode, PurgeRequest, Target, UnixMillis};
use tokio::time::Instant;

fn main() {
    let directory = std::env::args().skip(1).find(|a| !a.starts_with("--"));
    let directory = directory.map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(directory).expect("the directory is writable");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without network needs nothing");
    for callers in [1, 10, 100, 1000] {
        let path = folder.path().join(format!("{callers}.redb"));
        let (journal, _) = Journal::open(&path, JournalConfig::default()).expect("it opens");
        let begun = Instant::now();
        let mut times = runtime.block_on(run(&journal, callers));
        let took = begun.elapsed();
        runtime.block_on(journal.close());
        let reopened = Instant::now();
        let (journal, report) = Journal::open(&path, JournalConfig::default()).expect("it opens");
        let opening = reopened.elapsed();
        runtime.block_on(journal.close());
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "{callers:>5} callers: {:>7.0}/s, p50 {:?}, p99 {:?}, max {:?}; {} entries verified in {opening:?}",
            times.len() as f64 / took.as_secs_f64(),
            at(0.5),
            at(0.99),
            at(1.0),
            report.entries,
        )
        .expect("standard output is open");
    }
}

async fn run(journal: &Journal, callers: u64) -> Vec<Duration> {
    let until = Instant::now() + RUN;
    let calling = (0..callers).map(|caller| async move {
        let mut times = Vec::new();
        while Instant::now() < until && times.len() < APPENDS_MAX {
            let begun = Instant::now();
            let appended = journal.append(draft(caller)).await;
            appended.expect("it is written");
            times.push(begun.elapsed());
        }
        times
    });
    join_all(calling).await.concat()
}

fn draft(caller: u64) -> Draft {
    Draft {
        accepted_at: UnixMillis(1_700_000_000_000),
        request: PurgeRequest {
            target: Target::Prefix {
                host: "live.example".to_owned(),
                path: format!("/channel-{caller}/"),
            },
            mode: Mode::Hard,
        },
        dry_run: false,
        by: "bench".to_owned(),
        idempotency_key: None,
        used: None,
    }
}

const RUN: Duration = Duration::from_secs(4);
const APPENDS_MAX: usize = 100_000;
