//! F27 to F33 on processes: what purges are worth when something fails in the middle of them.
//!
//! Every test runs the binary: a purge API, a shield, edges, and a NATS server where the log is there. Between a
//! node and what it follows stands a [`Link`], which can be held, cut, led elsewhere, or made to lie. Nothing
//! sleeps: the tests wait for what processes say about themselves.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

/// A process that ends with the test, and what it said while it started.
struct Process {
    child: Child,
    said: Vec<String>,
}

impl Process {
    /// Runs a program until it has said a line with `last` in it; what it says later is read and dropped.
    fn start(mut command: Command, last: &str) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program is there");
        let output = child.stdout.take().expect("it was piped");
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let mut said = Vec::new();
        for line in lines.by_ref() {
            let is_last = line.contains(last);
            said.push(line);
            if is_last {
                break;
            }
        }
        thread::spawn(move || lines.for_each(drop));
        Self { child, said }
    }

    fn seawall(command: &str, config: &Path, last: &str) -> Self {
        let mut seawall = Command::new(env!("CARGO_BIN_EXE_seawall"));
        seawall.args([command, "--config"]).arg(config);
        Self::start(seawall, last)
    }

    /// Returns the address in the first line that has `mark` in it.
    fn address(&self, mark: &str) -> String {
        let line = self.said.iter().find(|line| line.contains(mark));
        let line = line.unwrap_or_else(|| panic!("no `{mark}` in {:?}", self.said));
        let is_address = |word: &&str| word.contains("127.0.0.1:");
        let word = line.split_whitespace().find(is_address);
        let word = word.expect("the line has an address");
        let word = word.strip_prefix("http://").unwrap_or(word);
        word.split('/').next().unwrap_or(word).to_owned()
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([name, &self.child.id().to_string()])
            .status()
            .expect("every system has kill");
        assert!(status.success(), "it is there");
    }

    /// Ends it as a crash would.
    fn kill(&mut self) {
        // It may be dead already; then there is nothing to do.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A folder with a purge API, whose address stays the same when it is started again.
struct Cdn {
    folder: TempDir,
    api: Process,
    /// Where nodes follow.
    feed: Link,
    origin: Origin,
}

/// What is in the file of a shield that edges follow.
const CHILDREN: &str = "[purge.children]\nlisten = \"127.0.0.1:0\"";

const SECRET: &str = "0123456789abcdef0123456789abcdef\n";

impl Cdn {
    fn start() -> Self {
        Self::with("journal = { path = \"purges.redb\" }")
    }

    /// Starts an API with this journal.
    fn with(journal: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let secret = folder.path().join("secret");
        fs::write(&secret, SECRET).expect("the folder can be written");
        let only_ours = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&secret, only_ours).expect("the folder can be written");
        let config = format!(
            "listen = {{ address = \"127.0.0.1:0\" }}\nprivate = {{ address = \"127.0.0.1:0\" }}\n{journal}\n\
             audit = {{ path = \"audit.jsonl\" }}\n[[principal]]\nname = \"origin\"\nhosts = [\"live.example\"]\n\
             surrogate_keys = [\"*\"]\nverbs = [\"url\", \"prefix\", \"key\", \"host\", \"all\", \"read\"]\n\
             per_second = 1000\nwide_per_second = 1000\n\
             key = [{{ id = \"origin-1\", kind = \"hmac\", file = \"secret\" }}]\n"
        );
        let file = folder.path().join("api.toml");
        fs::write(&file, config).expect("the folder can be written");
        // A cluster of servers needs a moment until it agrees on a leader.
        let api = (0..STARTS_MAX)
            .map(|_| Process::seawall("purge-api", &file, "private:"))
            .find(|api| !api.said.is_empty())
            .expect("the API starts");
        let feed = Link::to(&api.address("private:"));
        Self {
            folder,
            api,
            feed,
            origin: Origin::start(),
        }
    }

    /// Starts the API again on what it left, and leads nodes to it.
    fn restart_api(&mut self) {
        self.api.kill();
        let config = self.folder.path().join("api.toml");
        self.api = Process::seawall("purge-api", &config, "private:");
        self.feed.lead_to(&self.api.address("private:"));
    }

    /// Runs a node that fetches from `parent` and follows `log`, until the API knows that it follows.
    fn node(&self, kind: &str, name: &str, parent: &str, log: &str, more: &str) -> Node {
        let table = match kind {
            "shield" => "[[origin]]",
            _ => "[[shield]]",
        };
        let config = format!(
            "name = \"{name}\"\n[listen]\nhttp = [\"127.0.0.1:0\"]\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [store]\nmemory = \"16MiB\"\n{more}\n[[purge_log]]\nname = \"log\"\nurl = \"http://{log}\"\n\
             {table}\nname = \"parent\"\nurl = \"http://{parent}\"\n"
        );
        let file = self.folder.path().join(format!("{name}.toml"));
        fs::write(&file, config).expect("the folder can be written");
        let last = match more {
            CHILDREN => "children follow",
            _ => "/status",
        };
        let process = Process::seawall(kind, &file, last);
        let node = Node {
            http: process.address("HTTP/1.1"),
            admin: process.address("/status"),
            process,
        };
        // What a node brought before it follows is stale from then on.
        node.until("it follows", |s| s["purges"]["state"] == "current");
        node
    }

    fn edge(&self, more: &str) -> Node {
        let log = self.feed.address.clone();
        self.node("edge", "fra-1", &self.origin.address, &log, more)
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        let api = format!("http://{}", self.api.address("purge API at"));
        Command::new(env!("CARGO_BIN_EXE_seawall"))
            .arg("purge")
            .args(arguments)
            .env("SEAWALL_PURGE_API", api)
            .env("SEAWALL_PURGE_KEY_ID", "origin-1")
            .env("SEAWALL_PURGE_KEY_FILE", self.folder.path().join("secret"))
            .stdin(Stdio::null())
            .output()
            .expect("the binary was built")
    }

    /// Asks for something that must be done, and returns what the API answers.
    fn done(&self, arguments: &[&str]) -> Value {
        let output = self.ask(&[arguments, &["--json"]].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        serde_json::from_slice(&output.stdout).expect("one line of JSON")
    }

    /// Waits until what the API says of a purge is as it should be.
    fn until_status(&self, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        until("the status of the purge", || {
            let status = self.done(&["status", id]);
            is_so(&status).then_some(status)
        })
    }
}

/// A node that runs.
struct Node {
    process: Process,
    http: String,
    admin: String,
}

impl Node {
    fn get(&self, path: &str) -> String {
        get(&self.http, path).1
    }

    fn status(&self) -> Value {
        serde_json::from_str(&get(&self.admin, "/status").1).expect("the status is JSON")
    }

    fn readiness(&self) -> u16 {
        get(&self.admin, "/readyz").0
    }

    fn metric(&self, name: &str) -> u64 {
        let metrics = get(&self.admin, "/metrics").1;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        let line = line.unwrap_or_else(|| panic!("there is {name}"));
        line.trim().parse().expect("it is a number")
    }

    fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        until(what, || Some(self.status()).filter(|status| is_so(status)))
    }

    fn until_applied(&self, sequence: u64) {
        self.until("the purge is applied", |status| {
            status["purges"]["applied"] == sequence
        });
    }
}

/// Asks again and again until there is an answer; each time is a request to a process, or a process.
fn until<T>(what: &str, ask: impl Fn() -> Option<T>) -> T {
    (0..ATTEMPTS_MAX)
        .find_map(|_| ask())
        .unwrap_or_else(|| panic!("it never came to be: {what}"))
}

/// How often a purge API that ends at once is started again.
const STARTS_MAX: usize = 100;

/// Enough for a minute on a fast machine, and bounded.
const ATTEMPTS_MAX: usize = 200_000;

/// Gets `path` over a connection of its own; returns status and body.
fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = ask_for(address, path);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status");
    (status.parse().expect("a number"), body.to_owned())
}

fn ask_for(address: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let head = format!("GET {path} HTTP/1.1\r\nhost: live.example\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("it reads");
    stream
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An origin that numbers its answers for each path; it holds the second half of those below `/held/`.
struct Origin {
    address: String,
    asked: Arc<Mutex<HashMap<String, usize>>>,
    /// One message per held answer that may end.
    release: mpsc::Sender<()>,
}

impl Origin {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound").to_string();
        let asked: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let (release, released) = mpsc::channel();
        let released = Arc::new(Mutex::new(released));
        let counts = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (counts, released) = (Arc::clone(&counts), Arc::clone(&released));
                thread::spawn(move || answer(stream, &counts, &released));
            }
        });
        Self {
            address,
            asked,
            release,
        }
    }

    fn asked(&self, path: &str) -> usize {
        let asked = self.asked.lock().expect("nobody panics with it");
        asked.get(path).copied().unwrap_or(0)
    }
}

fn answer(
    mut stream: TcpStream,
    counts: &Mutex<HashMap<String, usize>>,
    released: &Mutex<mpsc::Receiver<()>>,
) {
    let mut bytes = [0; 8192];
    // One read has the whole head: nodes write it at once.
    let length = stream.read(&mut bytes).unwrap_or(0);
    let head = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned();
    let Some(path) = head.split(' ').nth(1).map(str::to_owned) else {
        return;
    };
    let before = {
        let mut counts = counts.lock().expect("nobody panics with it");
        let count = counts.entry(path.clone()).or_default();
        *count += 1;
        *count - 1
    };
    let body = format!("version {before}");
    let head = format!(
        "HTTP/1.1 200 OK\r\ncache-control: max-age=3600, immutable\r\nsurrogate-key: show\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let (first, second) = body.split_at(4);
    // Whoever asked may have left.
    stream.write_all(head.as_bytes()).ok();
    stream.write_all(first.as_bytes()).ok();
    if path.starts_with("/held/") && before == 0 {
        let released = released.lock().expect("nobody panics with it");
        released.recv().ok();
    }
    stream.write_all(second.as_bytes()).ok();
}

/// Three NATS servers that keep a stream together.
struct Cluster {
    folder: TempDir,
    /// Where each listens for the others; free a moment ago.
    routes: Vec<u16>,
    servers: Vec<Process>,
    /// Where each listens for clients.
    clients: Vec<String>,
}

impl Cluster {
    /// Starts the servers; `None` where there is no `nats-server`.
    fn start() -> Option<Self> {
        let free: Vec<_> = (0..3)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port is free"))
            .collect();
        let port = |listener: &TcpListener| listener.local_addr().expect("it is bound").port();
        let mut cluster = Self {
            folder: tempfile::tempdir().expect("a folder can be made"),
            routes: free.iter().map(port).collect(),
            servers: Vec::new(),
            clients: Vec::new(),
        };
        drop(free);
        for index in 0..3 {
            let server = cluster.server(index, "-1");
            if server.said.len() < 2 {
                #[expect(clippy::disallowed_methods, reason = "CI must not pass by leaving out")]
                let is_ci = std::env::var_os("CI").is_some();
                assert!(!is_ci, "nats-server cannot be started: {:?}", server.said);
                eprintln!("left out: nats-server cannot be started; apt install nats-server");
                return None;
            }
            let client = server.address("Listening for client connections");
            cluster.clients.push(client);
            cluster.servers.push(server);
        }
        Some(cluster)
    }

    fn server(&self, index: usize, port: &str) -> Process {
        let route = |port: &u16| format!("nats://127.0.0.1:{port}");
        let routes: Vec<_> = self.routes.iter().map(route).collect();
        let name = format!("n{index}");
        let mut command = Command::new("sh");
        // It says what it does on standard error.
        command
            .args(["-c", "exec nats-server \"$@\" 2>&1", "nats-server"])
            .args(["-a", "127.0.0.1", "-p", port, "-n", &name, "-js", "-sd"])
            .arg(self.folder.path().join(&name))
            .args(["--cluster_name", "seawall", "--cluster", &routes[index]])
            .args(["--routes", &routes.join(",")]);
        Process::start(command, "Server is ready")
    }

    /// Starts a server again, where it was and on what it left.
    fn restart(&mut self, index: usize) {
        let port = self.clients[index].rsplit(':').next().expect("a port");
        self.servers[index] = self.server(index, port);
    }

    /// Asks which server leads the stream of purges, in the protocol of NATS.
    fn leader(&self) -> Option<usize> {
        let mut stream = TcpStream::connect(&self.clients[0]).expect("it listens");
        stream
            .write_all(
                b"CONNECT {\"verbose\":false}\r\nSUB answer 1\r\nPUB $JS.API.STREAM.INFO.seawall answer 0\r\n\r\n",
            )
            .expect("it reads");
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        let info = lines
            .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
            .next()?;
        let leader = info["cluster"]["leader"].as_str()?;
        leader.strip_prefix('n')?.parse().ok()
    }

    fn journal(&self) -> String {
        let server = |client: &String| format!("\"nats://{client}\"");
        let servers: Vec<_> = self.clients.iter().map(server).collect();
        format!(
            "journal = {{ nats = {{ servers = [{}], stream = \"seawall\", replicas = 3 }} }}",
            servers.join(", ")
        )
    }
}

/// A way to a process that a test can hold, cut, lead elsewhere, or make lie about the log.
struct Link {
    address: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    to: String,
    /// Nothing passes, in neither direction, and nothing is refused: as if packets were lost.
    is_held: bool,
    /// What is done to the next entry.
    lie: Option<Lie>,
    open: Vec<TcpStream>,
}

/// What a link does to one entry of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// It comes twice.
    Repeat,
    /// It does not come.
    LeaveOut,
    /// It comes behind the next one.
    Reorder,
    /// It cannot be read.
    Corrupt,
}

impl Link {
    fn to(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let link = Self {
            address: listener.local_addr().expect("it is bound").to_string(),
            shared: Arc::default(),
        };
        link.lead_to(address);
        let shared = Arc::clone(&link.shared);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let to = shared.lock().to.clone();
                // Nobody is there: the connection is closed.
                let Ok(far) = TcpStream::connect(to) else {
                    continue;
                };
                shared.join(near, far);
            }
        });
        link
    }

    fn lead_to(&self, address: &str) {
        address.clone_into(&mut self.shared.lock().to);
    }

    fn hold(&self, is_held: bool) {
        self.shared.lock().is_held = is_held;
        self.shared.changed.notify_all();
    }

    fn cut(&self) {
        for stream in self.shared.lock().open.drain(..) {
            // It may be closed already.
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    fn lie(&self, lie: Lie) {
        self.shared.lock().lie = Some(lie);
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    fn join(self: &Arc<Self>, near: TcpStream, far: TcpStream) {
        let again = |stream: &TcpStream| stream.try_clone().expect("there are descriptors");
        self.lock().open.extend([again(&near), again(&far)]);
        let pairs = [(again(&near), again(&far), false), (far, near, true)];
        for (from, to, is_answer) in pairs {
            let shared = Arc::clone(self);
            thread::spawn(move || shared.carry(from, to, is_answer));
        }
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream, is_answer: bool) {
        let mut bytes = vec![0; 64 * 1024];
        let mut kept = Vec::new();
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            let mut state = self.lock();
            while state.is_held {
                state = self.changed.wait(state).expect("nobody panics with it");
            }
            let mut sent = bytes.get(..length).unwrap_or_default().to_vec();
            if is_answer {
                sent = state.told(sent, &mut kept);
            }
            drop(state);
            if to.write_all(&sent).is_err() {
                break;
            }
        }
        to.shutdown(Shutdown::Both).ok();
    }
}

impl State {
    /// Returns what is passed on of a piece of the feed: one chunk of HTTP/1.1 with whole lines, as the API writes it.
    fn told(&mut self, sent: Vec<u8>, kept: &mut Vec<u8>) -> Vec<u8> {
        let entry = b"{\"type\":\"entry\"";
        let is_entry = sent.windows(entry.len()).any(|part| part == entry);
        if !is_entry {
            return sent;
        }
        let after = std::mem::take(kept);
        match self.lie.take() {
            Some(Lie::Repeat) => [sent.clone(), sent].concat(),
            Some(Lie::LeaveOut) => Vec::new(),
            Some(Lie::Reorder) => {
                *kept = sent;
                Vec::new()
            }
            Some(Lie::Corrupt) => {
                let text = String::from_utf8_lossy(&sent).replace("\"sequence\":", "\"sequenze\"!");
                text.into_bytes()
            }
            None => [sent, after].concat(),
        }
    }
}

const A: &str = "https://live.example/live/a";

#[test]
fn f27_whoever_comes_after_a_purge_never_gets_what_was_on_its_way_before_it() {
    let cdn = Cdn::start();
    let edge = cdn.edge("");
    let mut early = ask_for(&edge.http, "/held/a");
    let mut begin = [0; 1];
    early.read_exact(&mut begin).expect("the head comes");
    assert_eq!(cdn.origin.asked("/held/a"), 1);
    let url = "https://live.example/held/a";
    let status = cdn.done(&["url", url, "--wait", "60s"]);
    assert_eq!(status["state"], "applied");
    assert_eq!(edge.get("/held/a"), "version 1", "it joins no old fill");
    cdn.origin.release.send(()).expect("the origin is there");
    let mut answer = String::new();
    early.read_to_string(&mut answer).expect("the rest comes");
    assert!(answer.ends_with("version 0"), "who came before is served");
    assert_eq!(edge.get("/held/a"), "version 1", "the old is not stored");
    assert_eq!(cdn.origin.asked("/held/a"), 2);
    assert_eq!(edge.metric("seawall_purge_doomed_fills_total"), 1);
}

#[test]
fn f28_an_edge_that_is_ahead_of_its_shield_never_gets_what_the_shield_has_still_stored() {
    let cdn = Cdn::start();
    let slow = Link::to(&cdn.api.address("private:"));
    let origin = &cdn.origin.address;
    let shield = cdn.node("shield", "shield-1", origin, &slow.address, "");
    let edge = cdn.node("edge", "fra-1", &shield.http, &cdn.feed.address, "");
    assert_eq!(edge.get("/live/a"), "version 0");
    slow.hold(true);
    let purge = cdn.done(&["url", A]);
    edge.until_applied(1);
    assert_eq!(shield.status()["purges"]["applied"], 0, "it is late");
    assert_eq!(edge.get("/live/a"), "version 1");
    assert_eq!(edge.get("/live/a"), "version 1");
    slow.hold(false);
    shield.until_applied(1);
    let id = purge["id"].as_str().expect("it has a name");
    cdn.until_status(id, |status| status["state"] == "applied");
    assert_eq!(edge.get("/live/a"), "version 1", "purged once is enough");
    assert_ne!(get(&shield.http, "/live/a").1, "version 0");
}

#[test]
fn f29_without_the_purge_api_nodes_serve_on_and_what_it_acknowledged_is_applied_after_it_is_back() {
    let mut cdn = Cdn::start();
    let edge = cdn.edge("");
    assert_eq!(edge.get("/live/a"), "version 0");
    cdn.feed.hold(true);
    let purge = cdn.done(&["url", A]);
    cdn.api.kill();
    assert_eq!(edge.get("/live/a"), "version 0", "serving is unaffected");
    let refused = cdn.ask(&["url", A]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("nothing answers"));
    cdn.restart_api();
    cdn.feed.cut();
    cdn.feed.hold(false);
    let id = purge["id"].as_str().expect("it has a name");
    cdn.until_status(id, |status| status["state"] == "applied");
    assert_eq!(edge.get("/live/a"), "version 1");
    assert_eq!(edge.metric("seawall_purge_resets_total"), 0, "resumed");
}

#[test]
fn f30_a_minority_of_the_log_takes_no_purge_and_none_that_was_acknowledged_is_lost() {
    let Some(mut cluster) = Cluster::start() else {
        return;
    };
    let cdn = Cdn::with(&cluster.journal());
    let edge = cdn.edge("[purge]\nlagging_after = \"2s\"\nwhen_lagging = \"fence\"");
    assert_eq!(edge.get("/live/a"), "version 0");
    let first = cdn.done(&["url", A, "--wait", "60s"]);
    assert_eq!(edge.get("/live/a"), "version 1");
    cluster.servers[0].kill();
    cluster.servers[1].kill();
    let refused = cdn.ask(&["url", A]);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stderr));
    let status = edge.until("it lags", |s| s["purges"]["state"] == "lagging");
    assert_eq!(status["not_ready"][0], "purges_missed");
    assert_eq!(edge.readiness(), 503);
    assert!(edge.metric("seawall_purge_state{state=\"lagging\"}") == 1);
    assert_eq!(edge.get("/live/a"), "version 1", "who comes is served");
    cluster.restart(0);
    cluster.restart(1);
    let last = until("a purge is taken", || {
        let output = cdn.ask(&["url", A, "--json"]);
        let is_taken = output.status.success();
        is_taken.then(|| serde_json::from_slice::<Value>(&output.stdout).expect("JSON"))
    });
    edge.until("it is ready", |s| {
        s["not_ready"].as_array().is_some_and(Vec::is_empty)
    });
    for purge in [first, last] {
        let id = purge["id"].as_str().expect("it has a name");
        cdn.until_status(id, |status| status["state"] == "applied");
    }
    assert_ne!(edge.get("/live/a"), "version 1");
    assert_eq!(edge.metric("seawall_purge_resets_total"), 0, "the same log");
}

#[test]
fn f30_a_storm_goes_on_when_an_api_and_the_leader_of_its_log_die_and_every_node_applies_all_of_it()
{
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let mut a = Cdn::with(&cluster.journal());
    let b = Cdn::with(&cluster.journal());
    let log = b.feed.address.clone();
    let second = format!("[[purge_log]]\nname = \"second\"\nurl = \"http://{log}\"");
    let log = a.feed.address.clone();
    let edge = a.node("edge", "fra-1", &a.origin.address, &log, &second);
    assert_eq!(edge.get("/live/0"), "version 0");
    let (acknowledge, acknowledged) = mpsc::channel();
    let storm = |apis: [&Cdn; 2], numbers: std::ops::Range<usize>| {
        for number in numbers {
            let (url, key) = (
                format!("https://live.example/live/{number}"),
                format!("storm-{number}"),
            );
            let asked = ["url", &url, "--idempotency-key", &key, "--json"];
            let taken = until("the purge is taken", || {
                let outputs = apis.iter().map(|api| api.ask(&asked));
                let mut taken = outputs.filter(|output| output.status.success());
                serde_json::from_slice::<Value>(&taken.next()?.stdout).ok()
            });
            acknowledge.send((number, taken)).expect("it is counted");
        }
    };
    let mut purges: Vec<(usize, Value)> = Vec::new();
    thread::scope(|threads| {
        threads.spawn(|| storm([&a, &b], 0..STORM / 2));
        threads.spawn(|| storm([&b, &a], STORM / 2..STORM));
        while purges.len() < STORM {
            purges.push(acknowledged.recv().expect("the storm goes on"));
            match purges.len() {
                KILLED_API_AFTER => a.api.signal("-KILL"),
                KILLED_LEADER_AFTER => {
                    let leader = until("there is a leader", || cluster.leader());
                    cluster.servers[leader].signal("-KILL");
                }
                _ => {}
            }
        }
    });
    // Each is in the log once, where it was acknowledged.
    let listed = whole_storm(&b);
    for (number, purge) in &purges {
        let path = format!("/live/{number}");
        let is_it = |listed: &&Value| listed["target"]["url"]["path"] == *path;
        let places: Vec<_> = listed
            .iter()
            .filter(is_it)
            .map(|l| &l["sequence"])
            .collect();
        assert_eq!(places, [&purge["sequence"]], "purge {number}");
    }
    // The node has found the other API by itself, and missed nothing.
    edge.until_applied(STORM as u64);
    assert_eq!(edge.metric("seawall_purge_resets_total"), 0, "the same log");
    assert_eq!(edge.get("/live/0"), "version 1");
    a.restart_api();
    for (_, purge) in &purges {
        let id = purge["id"].as_str().expect("it has a name");
        b.until_status(id, |status| status["state"] == "applied");
    }
    let id = purges[0].1["id"].as_str().expect("it has a name");
    let known = a.until_status(id, |status| status["state"] == "applied");
    assert_eq!(
        known["nodes"][0]["node"], "fra-1",
        "it learned what it was not there to hear"
    );
}

/// Waits until an API lists the whole storm: what was acknowledged is listed once it was read, which takes as long
/// as a new leader does.
fn whole_storm(api: &Cdn) -> Vec<Value> {
    until("the log is read", || {
        let listed = api.done(&["list", "--limit", "500"]);
        let purges = listed["purges"].as_array().expect("a list").clone();
        assert!(purges.len() <= STORM, "one is there twice");
        (purges.len() == STORM).then_some(purges)
    })
}

/// Purges of a storm, and after how many of them something dies.
const STORM: usize = 60;
const KILLED_API_AFTER: usize = 15;
const KILLED_LEADER_AFTER: usize = 30;

#[test]
fn f31_a_node_that_was_stopped_is_ready_only_when_it_has_applied_what_it_missed() {
    let cdn = Cdn::start();
    let edge = cdn.edge("[purge]\nlagging_after = \"2s\"\nwhen_lagging = \"fence\"");
    assert_eq!(edge.get("/live/a"), "version 0");
    assert_eq!(edge.readiness(), 200);
    edge.process.signal("-STOP");
    for number in 0..50 {
        cdn.done(&["key", &format!("event-{number}")]);
    }
    let last = cdn.done(&["url", A]);
    let nodes = cdn.done(&["nodes"]);
    assert_eq!(nodes["nodes"][0]["lag"], 51, "the lag is shown");
    // Longer than its patience, by the clock of the API.
    let metrics = cdn.api.address("private:");
    until("it was silent for long", || {
        let metrics = get(&metrics, "/metrics").1;
        let name = "seawall_purge_api_node_silent_seconds{node=\"fra-1\"} ";
        let silent = metrics.lines().find_map(|line| line.strip_prefix(name))?;
        (silent.parse::<u64>().ok()? > 8).then_some(())
    });
    edge.process.signal("-CONT");
    until("it is ready", || {
        let status = edge.status();
        let is_ready = status["not_ready"].as_array()?.is_empty();
        let applied = status["purges"]["applied"].as_u64()?;
        assert!(!is_ready || applied == 51, "ready with {applied} of 51");
        is_ready.then_some(())
    });
    assert_eq!(edge.readiness(), 200);
    assert_eq!(edge.get("/live/a"), "version 1");
    let id = last["id"].as_str().expect("it has a name");
    cdn.until_status(id, |status| status["state"] == "applied");
}

#[test]
fn f32_after_a_purge_of_all_under_load_the_origin_is_asked_once_for_each_path() {
    let cdn = Cdn::start();
    let (origin, log) = (&cdn.origin.address, &cdn.feed.address);
    let shield = cdn.node("shield", "shield-1", origin, log, CHILDREN);
    let feed = shield.process.address("children follow");
    let edges: Vec<_> = ["fra-1", "sin-1"]
        .map(|name| cdn.node("edge", name, &shield.http, &feed, ""))
        .into();
    let paths: Vec<_> = (0..10).map(|n| format!("/live/{n}")).collect();
    for edge in &edges {
        for path in &paths {
            assert_eq!(edge.get(path), "version 0");
        }
    }
    let is_purged = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::SeqCst;
    thread::scope(|scope| {
        for viewer in 0..20 {
            let (edge, paths, is_purged) = (&edges[viewer % 2], &paths, &is_purged);
            scope.spawn(move || {
                let mut rounds_after = 0;
                while rounds_after < 2 {
                    let is_after = is_purged.load(order);
                    for path in paths {
                        let body = edge.get(path);
                        assert!(!is_after || body == "version 1", "{path}: {body}");
                    }
                    rounds_after += usize::from(is_after);
                }
            });
        }
        let status = cdn.done(&["all", "--confirm", "all", "--wait", "60s"]);
        assert_eq!(status["state"], "applied");
        is_purged.store(true, order);
    });
    for path in &paths {
        assert_eq!(cdn.origin.asked(path), 2, "{path}");
    }
}

#[test]
fn f33_whatever_happens_to_entries_on_their_way_they_are_applied_once_and_in_order_or_all_is_stale()
{
    let cdn = Cdn::start();
    let edge = cdn.edge("");
    let mut sequence = 0;
    for (lie, is_reset) in [
        (Lie::Repeat, false),
        (Lie::LeaveOut, true),
        (Lie::Reorder, true),
        (Lie::Corrupt, false),
    ] {
        let path = format!("/live/{lie:?}");
        let url = format!("https://live.example{path}");
        let before = edge.metric("seawall_purge_resets_total");
        let version = edge.get(&path);
        cdn.feed.lie(lie);
        cdn.done(&["url", &url]);
        // The next purge shows what became of this one.
        cdn.done(&["key", "another"]);
        sequence += 2;
        edge.until_applied(sequence);
        assert_ne!(edge.get(&path), version, "{lie:?}");
        let resets = edge.metric("seawall_purge_resets_total") - before;
        assert_eq!(resets > 0, is_reset, "{lie:?}: {resets} resets");
    }
}

#[test]
fn f33_a_node_that_missed_more_than_the_log_keeps_has_nothing_fresh_any_more() {
    let cdn = Cdn::with("journal = { path = \"purges.redb\", entries_max = 10 }");
    let edge = cdn.edge("");
    assert_eq!(edge.get("/live/a"), "version 0");
    edge.process.signal("-STOP");
    cdn.feed.cut();
    for number in 0..40 {
        cdn.done(&["key", &format!("event-{number}")]);
    }
    edge.process.signal("-CONT");
    edge.until_applied(40);
    assert_eq!(edge.metric("seawall_purge_resets_total"), 1);
    assert_ne!(
        edge.get("/live/a"),
        "version 0",
        "nobody can say what was missed"
    );
}
