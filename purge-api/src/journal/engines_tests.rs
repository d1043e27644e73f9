//! What both engines promise, tried on each: a file of this machine, and a stream of a NATS server.
//!
//! The server is started by the test: see `tests/nats`, also for what happens where it is not installed.

#[path = "../../tests/nats/mod.rs"]
mod nats_server;

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use purge_log::{Applied, Counts, LogId, Mode, PurgeRequest, Target};
use tempfile::TempDir;

use super::tests::draft;
use super::*;
use nats_server::Server;

/// Where a journal is opened, and opened again.
enum Place {
    Disk { path: PathBuf, _folder: TempDir },
    Nats(Server),
}

impl Server {
    fn config(&self) -> NatsConfig {
        NatsConfig {
            servers: vec![self.url()],
            stream: "seawall".to_owned(),
            replicas: 1,
            login: NatsLogin::None,
            ca_file: None,
            client_certificate: None,
        }
    }
}

impl Place {
    fn disk() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("purges.redb");
        Some(Self::Disk {
            path,
            _folder: folder,
        })
    }

    fn nats() -> Option<Self> {
        Server::start().map(Self::Nats)
    }

    async fn open_with(&self, config: JournalConfig) -> (Journal, OpenReport) {
        match self {
            Self::Disk { path, .. } => Journal::open(path, config).unwrap(),
            Self::Nats(server) => Journal::connect(server.config(), config).await.unwrap(),
        }
    }

    async fn open(&self) -> Journal {
        self.open_with(small()).await.0
    }
}

/// Tries each behavior on each engine.
macro_rules! on_both {
    ($($behavior:ident,)*) => {
        mod on_disk {
            $(#[tokio::test]
            async fn $behavior() {
                super::$behavior(super::Place::disk().unwrap()).await;
            })*
        }

        mod on_nats {
            $(#[tokio::test]
            async fn $behavior() {
                if let Some(place) = super::Place::nats() {
                    super::$behavior(place).await;
                }
            })*
        }
    };
}

on_both! {
    what_was_appended_is_read_in_order_and_again_after_a_restart,
    purges_that_come_together_get_places_without_a_gap,
    a_repetition_with_the_same_key_is_the_same_purge_also_after_a_restart,
    pages_go_back_in_time_without_missing_or_repeating,
    what_nodes_applied_is_known,
    one_node_too_many_is_refused_and_the_others_are_noted,
    drafts_that_mean_nothing_are_refused,
    the_oldest_leave_when_there_are_too_many,
    who_follows_learns_of_an_entry_and_of_the_end,
}

fn keyed(number: u64, key: &str) -> Draft {
    Draft {
        idempotency_key: Some(key.to_owned()),
        ..draft(number)
    }
}

/// Small enough for a server on a disk that is nearly full: a stream reserves what it may grow to.
fn small() -> JournalConfig {
    JournalConfig {
        bytes_max: 16 * 1024 * 1024,
        ..JournalConfig::default()
    }
}

async fn append(journal: &Journal, draft: Draft) -> Arc<Entry> {
    Arc::clone(journal.append(draft).await.unwrap().entry())
}

/// Waits until readers see the entry at `head`.
async fn reach(journal: &Journal, head: u64) {
    let mut bounds = journal.subscribe();
    let reached = bounds.wait_for(|bounds| bounds.head >= Sequence(head));
    assert_eq!(reached.await.unwrap().head, Sequence(head));
}

async fn what_was_appended_is_read_in_order_and_again_after_a_restart(place: Place) {
    let (journal, report) = place.open_with(small()).await;
    assert!(report.is_new);
    let mut written = Vec::new();
    for number in 1..=5 {
        written.push(append(&journal, draft(number)).await);
    }
    reach(&journal, 5).await;
    assert_eq!(journal.bounds().tail, Sequence(1));
    let read = journal.read_after(Sequence(2), 2).await.unwrap();
    assert_eq!(read, written[2..4]);
    journal.close().await;

    // One entry of late in memory: the others come from where they are kept.
    let config = JournalConfig {
        recent_max: 1,
        ..small()
    };
    let (journal, again) = place.open_with(config).await;
    assert!(!again.is_new);
    assert_eq!(again.entries, 5);
    assert_eq!(again.bounds.log, report.bounds.log);
    assert_eq!(again.bounds, journal.bounds());
    let read = journal.read_after(Sequence::START, 10).await.unwrap();
    assert_eq!(read, written);
    for entry in &written {
        assert_eq!(journal.find(entry.id).await.unwrap().as_ref(), Some(entry));
    }
    let behind = PurgeId {
        log: again.bounds.log,
        sequence: Sequence(6),
    };
    assert_eq!(journal.find(behind).await.unwrap(), None);
    let unknown = PurgeId {
        log: LogId(!again.bounds.log.0),
        sequence: Sequence(1),
    };
    assert_eq!(journal.find(unknown).await.unwrap(), None);
    assert_eq!(append(&journal, draft(6)).await.sequence, Sequence(6));
}

async fn purges_that_come_together_get_places_without_a_gap(place: Place) {
    let journal = place.open().await;
    let entries = join_all((1..=200).map(|number| append(&journal, draft(number)))).await;
    let mut places: Vec<_> = entries.iter().map(|entry| entry.sequence.0).collect();
    places.sort_unstable();
    assert_eq!(places, (1..=200).collect::<Vec<_>>());
}

async fn a_repetition_with_the_same_key_is_the_same_purge_also_after_a_restart(place: Place) {
    let journal = place.open().await;
    let first = append(&journal, keyed(1, "a")).await;
    let again = Draft {
        accepted_at: UnixMillis(2),
        ..keyed(1, "a")
    };
    let known = Appended::Known(Arc::clone(&first));
    assert_eq!(journal.append(again.clone()).await.unwrap(), known);
    let other = journal.append(keyed(3, "a")).await.unwrap_err();
    assert!(matches!(other, AppendError::KeyReused(Sequence(1))));
    let anothers = Draft {
        by: "editor \"x\"\r\n".to_owned(),
        ..again.clone()
    };
    assert_eq!(append(&journal, anothers).await.sequence, Sequence(2));
    reach(&journal, 2).await;
    journal.close().await;
    let journal = place.open().await;
    assert_eq!(journal.append(again).await.unwrap(), known);
    reach(&journal, 2).await;
}

async fn pages_go_back_in_time_without_missing_or_repeating(place: Place) {
    let journal = place.open().await;
    for number in 1..=10 {
        append(&journal, draft(number)).await;
    }
    reach(&journal, 10).await;
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let is_even = |e: &Entry| e.sequence.0.is_multiple_of(2);
        let page = journal.list(before, 2, is_even).await.unwrap();
        seen.extend(page.entries.iter().map(|e| e.sequence.0));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, [10, 8, 6, 4, 2]);
}

pub(super) fn report(node: &str, log: LogId, through: u64, applied: &[u64]) -> Report {
    let line = |sequence: &u64| Applied {
        sequence: Sequence(*sequence),
        at: UnixMillis(500 + sequence),
        counts: Counts {
            responses: *sequence,
            bytes: 10 * sequence,
            fills: 0,
        },
    };
    Report {
        node: node.parse().unwrap(),
        log,
        through: Sequence(through),
        age_ms: 0,
        applied: applied.iter().map(line).collect(),
    }
}

/// Returns who applied a purge: when, and how many responses it meant.
pub(super) fn told(applied: &[NodeApplied]) -> Vec<(&str, Option<(u64, u64)>)> {
    let detail = |a: &NodeApplied| a.detail.map(|d| (d.at.0, d.counts.responses));
    let lines = applied.iter().map(|a| (a.node.as_str(), detail(a)));
    lines.collect()
}

async fn what_nodes_applied_is_known(place: Place) {
    let journal = place.open().await;
    let log = journal.bounds().log;
    for number in 1..=3 {
        append(&journal, draft(number)).await;
    }
    reach(&journal, 3).await;
    let mut progress = journal.progress();
    let reports = vec![
        report("fra", log, 3, &[1, 2, 3]),
        report("sin", log, 99, &[2, 99]),
        report("old", LogId(!log.0), 3, &[1]),
    ];
    journal.report(reports, UnixMillis(1000)).unwrap();
    progress.changed().await.unwrap();
    let second = journal.applied(Sequence(2)).await.unwrap();
    let both = [("fra", Some((502, 2))), ("sin", Some((502, 2)))];
    assert_eq!(told(&second), both);
    let first = journal.applied(Sequence(1)).await.unwrap();
    assert_eq!(first[1].detail, None, "sin says only that it is further");
    let again = vec![report("fra", log, 3, &[])];
    journal.report(again, UnixMillis(2000)).unwrap();
    assert_eq!(journal.nodes()[0].reported_at, UnixMillis(2000));
    let through: Vec<_> = journal.nodes().iter().map(|n| n.through.0).collect();
    assert_eq!(through, [3, 3], "nobody is further than the log");
}

async fn one_node_too_many_is_refused_and_the_others_are_noted(place: Place) {
    let config = JournalConfig {
        nodes_max: 1,
        ..small()
    };
    let (journal, opened) = place.open_with(config).await;
    let log = opened.bounds.log;
    let reports = vec![report("fra", log, 0, &[]), report("sin", log, 0, &[])];
    let refused = journal.report(reports, UnixMillis(1)).unwrap_err();
    assert_eq!(refused, Refused { nodes_max: 1 });
    assert_eq!(journal.nodes().len(), 1);
    // A node that is silent for long enough makes room.
    let later = small().keep_for.as_millis() as u64 + 2;
    journal.compact(UnixMillis(later)).await.unwrap();
    assert!(journal.nodes().is_empty());
}

async fn drafts_that_mean_nothing_are_refused(place: Place) {
    let journal = place.open().await;
    let upper = Draft {
        request: PurgeRequest {
            target: Target::Host("UPPER".to_owned()),
            mode: Mode::Soft,
        },
        ..draft(1)
    };
    let refused = journal.append(upper).await.unwrap_err();
    assert!(matches!(refused, AppendError::Request(_)), "{refused}");
    for key in ["", "a b", &"k".repeat(256)] {
        let refused = journal.append(keyed(1, key)).await.unwrap_err();
        assert!(matches!(refused, AppendError::Key), "{refused}");
    }
    let large = Draft {
        by: "b".repeat(ENTRY_BYTES_MAX),
        ..draft(1)
    };
    let refused = journal.append(large).await.unwrap_err();
    assert!(matches!(refused, AppendError::TooLarge(_)), "{refused}");
    assert_eq!(append(&journal, draft(1)).await.sequence, Sequence(1));
}

async fn the_oldest_leave_when_there_are_too_many(place: Place) {
    let config = JournalConfig {
        entries_max: 3,
        ..small()
    };
    let (journal, _) = place.open_with(config.clone()).await;
    for number in 1..=5 {
        append(&journal, draft(number)).await;
    }
    reach(&journal, 5).await;
    let mut bounds = journal.subscribe();
    bounds.wait_for(|b| b.tail == Sequence(3)).await.unwrap();
    let behind = journal.read_after(Sequence(1), 10).await.unwrap_err();
    assert!(matches!(behind, ReadError::Behind));
    journal.close().await;
    let (journal, report) = place.open_with(config).await;
    assert_eq!(report.bounds.tail, Sequence(3));
    let read = journal.read_after(Sequence(2), 10).await.unwrap();
    assert_eq!(read.len(), 3);
}

async fn who_follows_learns_of_an_entry_and_of_the_end(place: Place) {
    let journal = place.open().await;
    let mut bounds = journal.subscribe();
    bounds.mark_unchanged();
    append(&journal, draft(1)).await;
    bounds.wait_for(|b| b.head == Sequence(1)).await.unwrap();
    assert!(journal.age() < Duration::from_secs(60));
    journal.close().await;
    assert!(bounds.wait_for(|_| false).await.is_err());
}

#[tokio::test]
async fn f30_purges_that_nats_acknowledged_survive_its_crash() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let (journal, _) = Journal::connect(server.config(), small()).await.unwrap();
    let entries = join_all((1..=100).map(|number| append(&journal, draft(number)))).await;
    server.kill();
    server.restart();
    let (again, report) = Journal::connect(server.config(), small()).await.unwrap();
    assert_eq!(report.bounds.head, Sequence(100));
    for entry in &entries {
        assert_eq!(again.find(entry.id).await.unwrap().as_ref(), Some(entry));
    }
    // The one that was there before finds its way back by itself.
    let sequence = append(&again, draft(101)).await.sequence;
    reach(&journal, sequence.0).await;
}

#[tokio::test]
async fn purge_apis_of_one_stream_know_each_others_purges_and_reports() {
    let Some(server) = Server::start() else {
        return;
    };
    let connect = || Journal::connect(server.config(), small());
    let (a, _) = connect().await.unwrap();
    let (b, report_b) = connect().await.unwrap();
    assert!(!report_b.is_new);
    let first = append(&a, keyed(1, "k")).await;
    let known = b.append(keyed(1, "k")).await.unwrap();
    assert_eq!(known, Appended::Known(first));
    append(&b, draft(2)).await;
    reach(&a, 2).await;
    reach(&b, 2).await;
    let mut progress = b.progress();
    let log = a.bounds().log;
    a.report(vec![report("fra", log, 2, &[2])], UnixMillis(1000))
        .unwrap();
    progress.changed().await.unwrap();
    let applied = b.applied(Sequence(2)).await.unwrap();
    assert_eq!(told(&applied), [("fra", Some((502, 2)))]);
}

fn used(name: &str) -> Used {
    Used {
        name: name.to_owned(),
        until: UnixMillis(u64::MAX),
    }
}

#[tokio::test]
async fn what_may_be_used_once_is_used_once_among_all_purge_apis_of_a_stream() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let (a, first) = Journal::connect(server.config(), small()).await.unwrap();
    let (b, _) = Journal::connect(server.config(), small()).await.unwrap();
    a.claim(&used("k/one")).await.unwrap();
    for journal in [&a, &b] {
        let again = journal.claim(&used("k/one")).await.unwrap_err();
        assert!(matches!(again, ClaimError::Used), "{again}");
    }
    let two = used("k/two .*>\n");
    let both = join_all([a.claim(&two), b.claim(&two)]).await;
    assert_eq!(both.iter().filter(|claimed| claimed.is_ok()).count(), 1);
    server.kill();
    server.restart();
    let (c, again) = Journal::connect(server.config(), small()).await.unwrap();
    let claimed = c.claim(&used("k/one")).await.unwrap_err();
    assert!(matches!(claimed, ClaimError::Used), "{claimed}");
    assert_eq!(
        again.remembered, first.remembered,
        "what was signed before the restart is believed after it"
    );
    assert!(again.remembered.tokens_since.is_some());
}

#[tokio::test]
async fn a_purge_api_that_starts_later_knows_what_nodes_reported_and_misses_who_is_gone() {
    let Some(server) = Server::start() else {
        return;
    };
    let connect = || Journal::connect(server.config(), small());
    let (a, _) = connect().await.unwrap();
    let log = a.bounds().log;
    append(&a, draft(1)).await;
    reach(&a, 1).await;
    let mut news = a.progress();
    let reports = vec![report("sin", log, 0, &[]), report("fra.1", log, 1, &[1])];
    a.report(reports, UnixMillis(1000)).unwrap();
    // Its own news come back to it from the stream, in their order: with the second, both are kept.
    news.wait_for(|ticks| *ticks >= 2).await.unwrap();
    a.close().await;
    let (b, _) = connect().await.unwrap();
    let applied = b.applied(Sequence(1)).await.unwrap();
    assert_eq!(told(&applied), [("fra.1", Some((501, 1)))]);
    let nodes = b.nodes();
    let nodes: Vec<_> = nodes
        .iter()
        .map(|n| (n.node.as_str(), n.through.0))
        .collect();
    assert_eq!(nodes, [("fra.1", 1), ("sin", 0)]);
}

#[tokio::test]
async fn what_is_in_the_stream_and_is_no_purge_makes_everything_stale() {
    let Some(server) = Server::start() else {
        return;
    };
    let (journal, _) = Journal::connect(server.config(), small()).await.unwrap();
    let address = server.config().servers.remove(0);
    let stranger = async_nats::connect(address).await.unwrap();
    let stranger = async_nats::jetstream::new(stranger);
    let published = stranger.publish("seawall.purges", "nonsense".into()).await;
    published.unwrap().await.unwrap();
    reach(&journal, 1).await;
    let read = journal.read_after(Sequence::START, 10).await.unwrap();
    assert_eq!(read[0].request.target, Target::All);
    assert_eq!(read[0].request.mode, Mode::Soft);
}

#[tokio::test]
async fn f30_an_id_that_the_servers_have_of_another_purge_does_not_swallow_one() {
    let Some(server) = Server::start() else {
        return;
    };
    let (journal, _) = Journal::connect(server.config(), small()).await.unwrap();
    append(&journal, draft(1)).await;
    let ours = Draft {
        idempotency_key: Some("ours".to_owned()),
        ..draft(2)
    };
    // As after an election: the servers have our id, and what stands there is another purge.
    let address = server.config().servers.remove(0);
    let stranger = async_nats::connect(address).await.unwrap();
    let stranger = async_nats::jetstream::new(stranger);
    let mut headers = async_nats::HeaderMap::new();
    headers.insert(async_nats::header::NATS_MESSAGE_ID, r#"["origin","ours"]"#);
    let bytes = serde_json::to_vec(&draft(1)).unwrap();
    let published = stranger.publish_with_headers("seawall.purges", headers, bytes.into());
    published.await.unwrap().await.unwrap();
    let appended = journal.append(ours.clone()).await.unwrap();
    let Appended::New(entry) = appended else {
        panic!("it is not in the log yet: {appended:?}");
    };
    assert_eq!(entry.sequence, Sequence(3));
    assert_eq!(entry.request, ours.request);
    // It is recognized from then on.
    let again = journal.append(ours).await.unwrap();
    assert!(matches!(again, Appended::Known(known) if known.sequence == Sequence(3)));
}

#[tokio::test]
async fn a_stream_that_was_made_anew_is_another_log() {
    let Some(server) = Server::start() else {
        return;
    };
    let (journal, report) = Journal::connect(server.config(), small()).await.unwrap();
    append(&journal, draft(1)).await;
    reach(&journal, 1).await;
    let address = server.config().servers.remove(0);
    let operator = async_nats::connect(address).await.unwrap();
    let operator = async_nats::jetstream::new(operator);
    operator.delete_stream("seawall").await.unwrap();
    let (other, _) = Journal::connect(server.config(), small()).await.unwrap();
    let log = other.bounds().log;
    assert_ne!(log, report.bounds.log);
    let mut bounds = journal.subscribe();
    bounds.wait_for(|b| b.log == log).await.unwrap();
    append(&other, draft(2)).await;
    reach(&journal, 1).await;
}

#[tokio::test]
async fn a_stream_that_was_made_for_something_else_is_refused() {
    let Some(server) = Server::start() else {
        return;
    };
    let address = server.config().servers.remove(0);
    let operator = async_nats::connect(address).await.unwrap();
    let operator = async_nats::jetstream::new(operator);
    let orders = async_nats::jetstream::stream::Config {
        name: "seawall".to_owned(),
        subjects: vec!["orders.>".to_owned()],
        ..Default::default()
    };
    operator.create_stream(orders).await.unwrap();
    let refused = Journal::connect(server.config(), small())
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("other subjects"), "{refused}");
}
