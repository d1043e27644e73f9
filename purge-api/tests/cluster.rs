//! Two purge APIs on a NATS cluster of three servers, over HTTP, while servers die.
//!
//! The servers are processes, killed and stopped as such; the purge APIs run in the test, each with files of its
//! own. Deliberately not here: purge APIs that are killed and nodes that follow, which `cli/tests` has as processes.

mod nats;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};
use futures_util::future::join_all;
use purge_api::auth::{Signed, fresh_nonce, sign};
use purge_api::config::Config;
use purge_api::journal::{Draft, JournalConfig, NatsConfig, NatsLogin};
use purge_api::server::{Running, start};
use purge_api::{Journal, Mode, PurgeRequest, Sequence, Target, UnixMillis};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use nats::Cluster;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

const NOW: u64 = 1_800_000_000_000;

/// A purge API on a cluster, with files of its own.
struct Instance {
    running: Running,
    _folder: TempDir,
}

/// What came back.
#[derive(Clone, Debug)]
struct Answer {
    status: u16,
    body: Value,
}

impl Instance {
    /// Starts a purge API that knows these servers.
    async fn start(servers: &[String]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = folder.path().join("secret");
        std::fs::write(&secret, SECRET).expect("the folder can be written");
        let only_ours = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&secret, only_ours).expect("the file is ours");
        let config = format!(
            "listen = {{ address = \"127.0.0.1:0\" }}\nprivate = {{ address = \"127.0.0.1:0\" }}\n\
             audit = {{ path = \"audit.jsonl\" }}\n\
             [journal]\nbytes_max = 16777216\nnats = {{ servers = {servers:?}, stream = \"seawall\", replicas = 3 }}\n\
             [[principal]]\nname = \"origin\"\nhosts = [\"live.example\"]\nverbs = [\"url\", \"read\"]\n\
             per_second = 1000000\nkey = [{{ id = \"origin-1\", kind = \"hmac\", file = \"secret\" }}]\n"
        );
        let path = folder.path().join("purge-api.toml");
        let running = until_started("it starts", async || {
            let config = Config::of(&config, &path).expect("the configuration is right");
            // It stands: what a request is signed at does not depend on how long a test takes.
            let started = start(config, Arc::new(|| UnixMillis(NOW))).await;
            started.inspect_err(|error| eprintln!("{error}")).ok()
        });
        Self {
            running: running.await,
            _folder: folder,
        }
    }

    async fn send(&self, request: &str) -> Answer {
        let stream = TcpStream::connect(self.running.address())
            .await
            .expect("it listens");
        exchange(stream, request).await
    }

    async fn ask(&self, method: &str, path: &str, key: &str, body: &str) -> Answer {
        self.send(&signed(method, path, key, body)).await
    }

    /// Purges a URL of that number; the same number is the same purge.
    async fn purge(&self, number: u64) -> Answer {
        let key = format!("storm-{number}");
        self.ask("POST", "/v1/purges", &key, &purge(number)).await
    }

    /// Purges until it is acknowledged, and returns what the purge is called.
    async fn purged(&self, number: u64) -> String {
        let taken = until("the purge is taken", async || {
            let answer = self.purge(number).await;
            // Servers that are slow are as good as away for a while.
            assert!([200, 202, 503].contains(&answer.status), "{answer:?}");
            answer.body["id"].as_str().map(str::to_owned)
        });
        taken.await
    }

    /// Reports until it is taken: an instance that is not sure of its log leaves that to others.
    async fn reported(&self, node: &str, log: &str, through: u64) {
        until("the report is taken", async || {
            let answer = self.report(node, log, through).await;
            assert!([204, 503].contains(&answer.status), "{answer:?}");
            (answer.status == 204).then_some(())
        })
        .await;
    }

    /// Follows behind `after` as soon as the instance knows that place, or that there is none.
    async fn followed(&self, log: &str, after: u64) -> Value {
        until("the feed begins", async || self.follow(log, after).await).await
    }

    /// Returns every purge in the log, in order: its place and the path it names.
    async fn log(&self) -> Vec<(u64, String)> {
        let mut found = Vec::new();
        let mut before = u64::MAX;
        loop {
            let path = format!("/v1/purges?limit=500&before={before}");
            let page = self.ask("GET", &path, "", "").await.body;
            for purge in page["purges"].as_array().expect("a page has purges") {
                let path = purge["target"]["url"]["path"]
                    .as_str()
                    .expect("it has a path")
                    .to_owned();
                found.push((purge["sequence"].as_u64().expect("it has a place"), path));
            }
            match page["next"].as_u64() {
                Some(next) => before = next,
                None => break,
            }
        }
        found.reverse();
        found
    }

    /// Lets a node report that it applied everything up to `through`.
    async fn report(&self, node: &str, log: &str, through: u64) -> Answer {
        let line = json!({"sequence": through, "at": NOW, "responses": 7, "bytes": 70, "fills": 1});
        let body =
            json!([{"node": node, "log": log, "through": through, "age_ms": 0, "applied": [line]}]);
        let body = body.to_string();
        let address = self.running.private_address().expect("it has one");
        let request = format!(
            "POST /v1/feed/applied HTTP/1.1\r\nhost: api\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        exchange(
            TcpStream::connect(address).await.expect("it listens"),
            &request,
        )
        .await
    }

    /// Follows behind `after` and returns the second line, what becomes of who was there; `None` if it may not yet.
    async fn follow(&self, log: &str, after: u64) -> Option<Value> {
        let address = self.running.private_address().expect("it has one");
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!(
            "GET /v1/feed?node=reader&log={log}&after={after} HTTP/1.0\r\nhost: api\r\n\r\n"
        );
        let sent = stream.write_all(request.as_bytes()).await;
        sent.expect("it reads");
        let mut text = Vec::new();
        while stream.read_buf(&mut text).await.expect("it answers") > 0 {
            let lines = text.split(|b| *b == b'\n');
            let mut lines = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
            if let Some(second) = lines.nth(1) {
                return Some(second);
            }
        }
        let text = String::from_utf8_lossy(&text);
        assert!(text.starts_with("HTTP/1.0 503 "), "{text}");
        None
    }

    /// Reads the feed from its beginning until the entry at `through` has come.
    async fn feed(&self, log: &str, through: u64) -> Vec<Value> {
        let address = self.running.private_address().expect("it has one");
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request =
            format!("GET /v1/feed?node=reader&log={log}&after=0 HTTP/1.0\r\nhost: api\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it reads");
        let mut text = Vec::new();
        let mut entries = Vec::new();
        while entries.len() < usize::try_from(through).expect("it fits") {
            assert!(
                stream.read_buf(&mut text).await.expect("it can be read") > 0,
                "it ended"
            );
            let lines = text.split(|b| *b == b'\n');
            let lines = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
            entries = lines.filter(|line| line["type"] == "entry").collect();
        }
        entries
    }

    async fn stop(self) {
        self.running.shutdown().await;
    }
}

async fn exchange(mut stream: TcpStream, request: &str) -> Answer {
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it reads");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    Answer {
        status: head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .expect("a status"),
        body: serde_json::from_str(body).unwrap_or(Value::Null),
    }
}

fn purge(number: u64) -> String {
    let path = format!("/{number}");
    json!({"target": {"url": {"host": "live.example", "path": path}}}).to_string()
}

/// Returns the bytes of a signed request, good for one instance and one time.
fn signed(method: &str, path: &str, key: &str, body: &str) -> String {
    let mut headers = HeaderMap::new();
    if !key.is_empty() {
        headers.insert(
            "idempotency-key",
            HeaderValue::from_str(key).expect("the key is plain"),
        );
    }
    let value = sign(
        "origin-1",
        SECRET.as_bytes(),
        &Signed {
            method,
            host: "api",
            path_and_query: path,
            headers: &headers,
            body: body.as_bytes(),
            timestamp: NOW / 1000,
            nonce: &fresh_nonce(),
        },
    );
    let key = match key {
        "" => String::new(),
        key => format!("idempotency-key: {key}\r\n"),
    };
    format!(
        "{method} {path} HTTP/1.1\r\nhost: api\r\nauthorization: {value}\r\n{key}\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Three servers, and two purge APIs that know all of them.
async fn world() -> Option<(Cluster, Instance, Instance)> {
    let cluster = Cluster::start()?;
    let urls = cluster.urls();
    let a = Instance::start(&urls).await;
    let b = Instance::start(&urls).await;
    Some((cluster, a, b))
}

/// Asks again and again until there is an answer; each time goes to a server and back.
async fn until<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(ATTEMPTS_MAX, what, ask).await
}

/// The same for a start, which is patient by itself.
async fn until_started<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(STARTS_MAX, what, ask).await
}

async fn until_within<T>(
    attempts_max: u64,
    what: &str,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    for _ in 0..attempts_max {
        if let Some(answer) = ask().await {
            return answer;
        }
    }
    panic!("it never came to be: {what}")
}

/// Returns which server leads the stream of purges.
async fn leader(cluster: &Cluster) -> usize {
    until("somebody leads", async || {
        let client = async_nats::connect(cluster.urls()).await.ok()?;
        let context = async_nats::jetstream::new(client);
        let mut stream = context.get_stream("seawall").await.ok()?;
        let cluster = stream.info().await.ok()?.cluster.clone()?;
        let leader = cluster.leader?;
        (0..nats::SERVERS).find(|number| Cluster::name(*number) == leader)
    })
    .await
}

#[tokio::test]
async fn a_request_that_two_instances_get_at_once_is_taken_by_one_of_them() {
    let Some((_cluster, a, b)) = world().await else {
        return;
    };
    let rounds = AtomicU64::new(0);
    let taken = join_all((0..40).map(async |_| {
        until("both answer", async || {
            let number = rounds.fetch_add(1, Ordering::Relaxed);
            // Without an idempotency key: nothing but the nonce keeps the second one out.
            let request = signed("POST", "/v1/purges", "", &purge(number));
            let both = tokio::join!(a.send(&request), b.send(&request));
            let mut both = [both.0, both.1];
            both.sort_by_key(|answer| answer.status);
            let [taken, refused] = both;
            assert!(
                taken.status != refused.status || taken.status == 503,
                "{taken:?}"
            );
            if refused.status == 503 {
                // Servers that are slow leave it open; then another one is tried.
                return None;
            }
            assert_eq!(taken.status, 202, "{taken:?}");
            assert_eq!(refused.status, 401, "{refused:?}");
            assert_eq!(refused.body["type"], "urn:seawall:problem:replayed");
            Some(format!("/{number}"))
        })
        .await
    }));
    let taken = taken.await;
    let log = a.log().await;
    for path in &taken {
        let found = log.iter().filter(|(_, listed)| listed == path);
        assert_eq!(found.count(), 1, "{path} is there once");
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn what_a_node_reports_to_one_instance_is_waited_for_at_another() {
    let Some((cluster, a, b)) = world().await else {
        return;
    };
    let id = a.purged(1).await;
    let log = id.split('-').next().unwrap();
    let status = format!("/v1/purges/{id}");
    // The other instance has read the purge once it can tell of it.
    while b.ask("GET", &status, "", "").await.status != 200 {}
    let again =
        json!({"target": {"url": {"host": "live.example", "path": "/1"}}, "wait_ms": 60000});
    let again = again.to_string();
    let waiting = until("every node has it", async || {
        let answer = b.ask("POST", "/v1/purges", "storm-1", &again).await;
        (answer.status == 200).then_some(answer)
    });
    let (applied, ()) = tokio::join!(waiting, a.reported("fra-1", log, 1));
    assert_eq!(applied.body["id"], id, "the same purge at either instance");
    assert_eq!(applied.body["state"], "applied");
    assert_eq!(applied.body["nodes"][0]["node"], "fra-1");
    assert_eq!(applied.body["nodes"][0]["applied_at"], NOW);
    assert_eq!(applied.body["nodes"][0]["counts"]["responses"], 7);
    // One that starts later knows it too.
    b.stop().await;
    let c = Instance::start(&cluster.urls()).await;
    let status = c.ask("GET", &status, "", "").await;
    assert_eq!(status.body["state"], "applied", "{status:?}");
    a.stop().await;
    c.stop().await;
}

#[tokio::test]
async fn who_changes_to_another_instance_right_after_a_purge_goes_on_where_it_was() {
    let Some((_cluster, a, b)) = world().await else {
        return;
    };
    for number in 1..=40 {
        let id = a.purged(number).await;
        let (log, _) = id.split_once('-').unwrap();
        // The other one may not have read it yet, and must not say that there is no such place.
        let next = b.followed(log, number).await;
        assert_eq!(next["type"], "heartbeat", "{next}");
        assert_eq!(next["head"], number);
    }
    // A place that the log never had is another matter.
    let id = a.purged(1).await;
    let (log, _) = id.split_once('-').unwrap();
    let next = b.followed(log, 41).await;
    assert_eq!(next["type"], "reset", "{next}");
    assert_eq!(next["through"], 40);
    a.stop().await;
    b.stop().await;
}

/// Purges until each of `numbers` is acknowledged, at one instance and then the other; returns where each is.
async fn storm(
    instances: [&Instance; 2],
    numbers: impl Iterator<Item = u64>,
    acknowledged: &watch::Sender<BTreeMap<u64, u64>>,
) {
    for number in numbers {
        for attempt in 0..ATTEMPTS_MAX {
            let instance = instances[(number + attempt) as usize % 2];
            let answer = instance.purge(number).await;
            if let (200 | 202, Some(place)) = (answer.status, answer.body["sequence"].as_u64()) {
                acknowledged.send_modify(|known| {
                    known.insert(number, place);
                });
                break;
            }
            assert_eq!(answer.status, 503, "{answer:?}");
            assert!(attempt + 1 < ATTEMPTS_MAX, "nobody takes it: {answer:?}");
        }
    }
}

/// More than any election takes: a refusal comes after the servers had time to answer or to elect.
const ATTEMPTS_MAX: u64 = 10_000;

/// Starts beside a cluster that is slow to agree.
const STARTS_MAX: u64 = 5;

#[tokio::test]
async fn f30_purges_acknowledged_in_a_storm_survive_the_death_of_the_leader_once_and_in_order() {
    let Some((mut cluster, a, b)) = world().await else {
        return;
    };
    let (acknowledged, mut known) = watch::channel(BTreeMap::new());
    let purging = join_all((0..4).map(|task| {
        let numbers = (task..STORM).step_by(4);
        storm([&a, &b], numbers, &acknowledged)
    }));
    let killing = async {
        known
            .wait_for(|known| known.len() as u64 > STORM / 4)
            .await
            .unwrap();
        let first = leader(&cluster).await;
        cluster.servers[first].kill();
        known
            .wait_for(|known| known.len() as u64 > STORM / 2)
            .await
            .unwrap();
        cluster.servers[first].restart();
    };
    tokio::join!(purging, killing);
    let acknowledged = acknowledged.borrow().clone();
    assert_eq!(
        acknowledged.len() as u64,
        STORM,
        "all were taken in the end"
    );
    let log = reached(&a, &acknowledged).await;
    assert_eq!(log, reached(&b, &acknowledged).await);
    // Who reads the feed is told the same by both.
    let id = a.purged(0).await;
    let name = id.split('-').next().unwrap();
    let head = log.last().unwrap().0;
    assert_eq!(a.feed(name, head).await, b.feed(name, head).await);
    a.stop().await;
    b.stop().await;
}

/// Waits until an instance has read all that was acknowledged; returns its log, checked.
async fn reached(instance: &Instance, acknowledged: &BTreeMap<u64, u64>) -> Vec<(u64, String)> {
    let last = *acknowledged.values().max().expect("there is one");
    loop {
        let log = instance.log().await;
        if log.last().is_none_or(|(place, _)| *place < last) {
            continue;
        }
        let places: Vec<u64> = log.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, (1..=places.len() as u64).collect::<Vec<_>>());
        for (number, place) in acknowledged {
            let wanted = format!("/{number}");
            let found: Vec<u64> = log
                .iter()
                .filter(|(_, path)| *path == wanted)
                .map(|(place, _)| *place)
                .collect();
            assert_eq!(
                found,
                [*place],
                "purge {number} is there once, where it was acknowledged"
            );
        }
        return log;
    }
}

/// Purges of a storm.
const STORM: u64 = 200;

#[tokio::test]
async fn f30_a_minority_refuses_and_what_it_did_not_acknowledge_can_be_said_again() {
    let Some((cluster, a, b)) = world().await else {
        return;
    };
    a.purged(1).await;
    b.stop().await;
    let Apart {
        old,
        with_old,
        others,
    } = Apart::of(&cluster).await;
    let with_others = Instance::start(&others).await;
    let only_old = Instance::start(&[cluster.urls().swap_remove(old)]).await;
    cluster.cut_off(old, true);
    let (acknowledged, _) = watch::channel(BTreeMap::from([(1, 1)]));
    let refused = async {
        let refused = only_old.purge(2).await;
        assert_eq!(refused.status, 503, "{refused:?}");
        let problem = refused.body["type"].as_str().unwrap();
        let allowed = [
            "urn:seawall:problem:storage",
            "urn:seawall:problem:uncertain",
        ];
        assert!(allowed.contains(&problem), "{refused:?}");
    };
    // The others agree on a new leader and go on; meanwhile the one that was cut off is asked again and again.
    let going_on = storm([&with_others, &with_others], 3..20, &acknowledged);
    tokio::join!(refused, going_on);
    let asked_at = Instant::now();
    assert_eq!(only_old.purge(2).await.status, 503);
    // How far a purge is can be asked all the same: the answer is in memory.
    let first = with_old.read_after(Sequence::START, 1).await.unwrap();
    let path = format!("/v1/purges/{}", first[0].id);
    assert_eq!(only_old.ask("GET", &path, "", "").await.status, 200);
    // Nor is it vouched there that the log has no end further on.
    assert!(with_old.age() > asked_at.elapsed());
    // Reports are left to others, who can tell them on.
    let log = first[0].id.log.to_string();
    while only_old.report("fra-1", &log, 1).await.status != 503 {}
    with_others.reported("fra-1", &log, 1).await;
    cluster.cut_off(old, false);
    storm([&only_old, &a], [2].into_iter(), &acknowledged).await;
    let acknowledged = acknowledged.borrow().clone();
    let log = reached(&a, &acknowledged).await;
    assert_eq!(log, reached(&only_old, &acknowledged).await);
    assert_eq!(log, reached(&with_others, &acknowledged).await);
    with_old.close().await;
    for instance in [a, only_old, with_others] {
        instance.stop().await;
    }
}

/// The leader of the purges on one side, the other servers on the other.
struct Apart {
    old: usize,
    /// A journal that knows the leader only.
    with_old: Journal,
    /// Where clients connect to the others.
    others: Vec<String>,
}

impl Apart {
    async fn of(cluster: &Cluster) -> Self {
        let old = leader(cluster).await;
        let mut others = cluster.urls();
        let old_url = others.remove(old);
        Self {
            old,
            with_old: journal(vec![old_url]).await,
            others,
        }
    }
}

async fn journal(servers: Vec<String>) -> Journal {
    let config = NatsConfig {
        servers,
        stream: "seawall".to_owned(),
        replicas: 3,
        login: NatsLogin::None,
        ca_file: None,
        client_certificate: None,
    };
    let journal = JournalConfig {
        bytes_max: 16 * 1024 * 1024,
        ..JournalConfig::default()
    };
    let opened = until_started("it connects", async || {
        Journal::connect(config.clone(), journal.clone()).await.ok()
    });
    opened.await.0
}

#[tokio::test]
async fn f30_a_leader_that_was_stopped_vouches_for_no_log_that_went_on_without_it() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let everywhere = journal(cluster.urls()).await;
    append(&everywhere, 1).await;
    let Apart {
        old,
        with_old,
        others,
    } = Apart::of(&cluster).await;
    cluster.servers[old].freeze();
    let with_others = journal(others).await;
    for number in 2..=20 {
        append(&with_others, number).await;
    }
    let acknowledged_at = Instant::now();
    cluster.servers[old].thaw();
    // Whenever it says that its log has no end further on, it is right.
    let mut sample = tokio::time::interval(Duration::from_millis(5));
    loop {
        sample.tick().await;
        let age = with_old.age();
        let is_vouched = Instant::now().checked_sub(age) > Some(acknowledged_at);
        let head = with_old.bounds().head;
        if is_vouched {
            assert_eq!(head, Sequence(20));
            break;
        }
    }
    for journal in [everywhere, with_old, with_others] {
        journal.close().await;
    }
}

/// Appends until it is acknowledged: a cluster that elects takes nothing.
async fn append(journal: &Journal, number: u64) {
    static ATTEMPTS: AtomicU64 = AtomicU64::new(0);
    let draft = Draft {
        accepted_at: UnixMillis(NOW),
        request: PurgeRequest {
            target: Target::Url {
                host: "live.example".to_owned(),
                path: format!("/{number}"),
                query: String::new(),
            },
            mode: Mode::Hard,
        },
        dry_run: false,
        by: "origin".to_owned(),
        idempotency_key: Some(number.to_string()),
        used: None,
    };
    while journal.append(draft.clone()).await.is_err() {
        assert!(ATTEMPTS.fetch_add(1, Ordering::Relaxed) < ATTEMPTS_MAX);
    }
}
