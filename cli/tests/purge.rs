//! The purge API and those who ask it, as processes: the command line, and the examples for origins.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A purge API that runs for one test.
struct Api {
    folder: Folder,
    process: Child,
    /// What it said at its start about what it found.
    said: String,
    url: String,
    private: String,
}

const CONFIG: &str = r#"
[listen]
address = "127.0.0.1:0"

[private]
address = "127.0.0.1:0"

[journal]
path = "purges.redb"

[audit]
path = "audit.jsonl"

[[principal]]
name = "origin"
hosts = ["live.example"]
surrogate_keys = ["*"]
verbs = ["url", "prefix", "key", "stream", "host", "read"]
key = [{ id = "origin-1", kind = "hmac", file = "secret" }]

[[principal]]
name = "operator"
hosts = ["*"]
surrogate_keys = ["*"]
verbs = ["all"]
key = [{ id = "operator-1", kind = "hmac", file = "secret" }]
"#;

/// Where an API keeps what it has: a folder of its own, or what another one left.
enum Folder {
    Own(TempDir),
    Left(PathBuf),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Own(folder) => folder.path(),
            Self::Left(path) => path,
        }
    }
}

impl Api {
    fn start() -> Self {
        Self::start_on(Folder::Own(
            tempfile::tempdir().expect("a folder can be made"),
        ))
    }

    fn start_in(left: PathBuf) -> Self {
        Self::start_on(Folder::Left(left))
    }

    fn start_on(folder: Folder) -> Self {
        let secret = folder.path().join("secret");
        fs::write(&secret, "0123456789abcdef0123456789abcdef\n")
            .expect("the folder can be written");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))
            .expect("the folder can be written");
        let config = folder.path().join("purge-api.toml");
        fs::write(&config, CONFIG).expect("the folder can be written");
        let mut process = Command::new(env!("CARGO_BIN_EXE_seawall"))
            .args(["purge-api", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary was built");
        let output = process.stdout.take().expect("it was piped");
        let mut lines = BufReader::new(output).lines();
        let mut line = || lines.next().expect("it says where it is").expect("in text");
        let (first, second, said) = (line(), line(), line());
        let url = first.strip_prefix("purge API at ").expect("its address");
        let private = second.split_whitespace().next().expect("its address");
        let (url, private) = (url.to_owned(), private.replace("/metrics", ""));
        Self {
            folder,
            process,
            said,
            url,
            private,
        }
    }

    fn of(&self, mut command: Command) -> Output {
        command
            .env("SEAWALL_PURGE_API", &self.url)
            .env("SEAWALL_PURGE_KEY_ID", "origin-1")
            .env("SEAWALL_PURGE_KEY_FILE", self.path("secret"))
            .stdin(Stdio::null())
            .output()
            .expect("the program is there")
    }

    fn purge(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
        command.arg("purge").args(arguments);
        self.of(command)
    }

    /// Returns the target of the purge that was accepted last.
    fn last(&self) -> Value {
        let list = self.purge(&["list", "--limit", "1"]);
        let list: Value = serde_json::from_slice(&list.stdout).expect("a list");
        list["purges"][0]["target"].clone()
    }

    /// Reports as a node would that it applied the purges up to `through` of `log`.
    fn report(&self, log: &str, through: u64) {
        let body = format!(
            r#"[{{"node": "fra-1", "log": "{log}", "through": {through}, "applied":
                [{{"sequence": {through}, "at": 1, "responses": 3, "bytes": 900}}]}}]"#
        );
        let address = self.private.strip_prefix("http://").expect("clear text");
        let mut stream = TcpStream::connect(address).expect("it listens");
        let head = "POST /v1/feed/applied HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
        let length = body.len();
        write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        // It may have ended by itself, in the tests that let it.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn everything_that_can_be_purged_can_be_typed() {
    let api = Api::start();
    let cases = [
        (vec!["url", "https://live.example/a?b=1"], "url"),
        (
            vec!["url", "https://live.example/a", "https://live.example/b"],
            "urls",
        ),
        (
            vec!["prefix", "https://live.example/a/", "--soft"],
            "prefix",
        ),
        (
            vec!["key", "event-7", "ad-12", "--dry-run"],
            "surrogate_keys",
        ),
        (
            vec![
                "stream",
                "https://live.example/a/",
                "--first-msn",
                "1",
                "--last-msn",
                "9",
            ],
            "stream",
        ),
        (
            vec!["host", "live.example", "--confirm", "live.example"],
            "host",
        ),
        (
            vec![
                "stream",
                "https://live.example/a/",
                "--from",
                "2026-11-22T20:00:00Z",
                "--to",
                "2026-11-22T20:05:00Z",
            ],
            "stream",
        ),
    ];
    for (arguments, kind) in cases {
        let output = api.purge(&arguments);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(api.last().get(kind).is_some(), "{kind}: {}", api.last());
    }
    let all = ["all", "--confirm", "all", "--key-id", "operator-1"];
    let output = api.purge(&all);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(api.last(), "all");
}

#[test]
fn lists_can_be_narrowed_down() {
    let api = Api::start();
    for arguments in [
        vec!["url", "https://live.example/a"],
        vec!["key", "event-7", "--soft", "--dry-run"],
        vec!["all", "--confirm", "all", "--key-id", "operator-1"],
    ] {
        assert_eq!(api.purge(&arguments).status.code(), Some(0));
    }
    let listed = |options: &[&str]| {
        let output = api.purge(&[&["list"], options].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let list: Value = serde_json::from_slice(&output.stdout).unwrap();
        let purges = list["purges"].as_array().unwrap().iter();
        purges
            .map(|purge| purge["sequence"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(&[]), [3, 2, 1]);
    assert_eq!(listed(&["--limit", "1"]), [3]);
    assert_eq!(listed(&["--before", "3", "--limit", "1"]), [2]);
    assert_eq!(listed(&["--of-host", "live.example"]), [1]);
    assert_eq!(listed(&["--by", "operator"]), [3]);
    assert_eq!(listed(&["--verb", "key"]), [2]);
    assert_eq!(listed(&["--mode", "soft"]), [2]);
    let wrong = api.purge(&["list", "--by", "a&b"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong.stderr));
}

#[test]
fn a_start_says_what_it_verified() {
    let mut api = Api::start();
    assert!(
        api.said
            .contains("journal: 0 purges, the last is 0; audit: 0 lines"),
        "{}",
        api.said
    );
    assert_eq!(api.purge(&["key", "event-7"]).status.code(), Some(0));
    api.process.kill().unwrap();
    api.process.wait().unwrap();
    let again = Api::start_in(api.folder.path().to_owned());
    assert!(
        again
            .said
            .contains("journal: 1 purges, the last is 1; audit: 2 lines"),
        "{}",
        again.said
    );
}

#[test]
fn the_viewer_port_answers_405_to_purge_and_purges_nothing() {
    let api = Api::start();
    let edge = Edge::start(&api, &numbering_origin());
    let follows = || text(&api.purge(&["nodes"]).stdout).contains("fra-1");
    assert!((0..600).any(|_| follows()), "the edge follows the log");
    assert_eq!(edge.get("/live/a"), "version 0");
    let mut stream = TcpStream::connect(&edge.address).unwrap();
    let purge = "PURGE /live/a HTTP/1.1\r\nhost: live.example\r\nconnection: close\r\n\r\n";
    stream.write_all(purge.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(answer.to_lowercase().contains("\r\nallow: "), "{answer}");
    assert_eq!(edge.get("/live/a"), "version 0", "still there");
}

#[test]
fn ends_are_told_apart_by_exit_code() {
    let api = Api::start();
    let cases = [
        (
            vec!["url", "https://other.example/a"],
            3,
            "not in the scope",
        ),
        (
            vec!["host", "live.example"],
            3,
            "`confirm` must be `live.example`",
        ),
        (vec!["url", "/a"], 2, "is not a URL"),
        (
            vec!["prefix", "https://live.example/a"],
            2,
            "ends with a slash",
        ),
        (
            vec!["url", "https://live.example/a", "--wait", "10ms"],
            4,
            "not applied by every node",
        ),
        (
            vec!["nodes", "--api", "http://127.0.0.1:1"],
            1,
            "nothing answers",
        ),
    ];
    for (arguments, code, expected) in cases {
        let output = api.purge(&arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn who_waits_is_told_by_each_node_that_it_applied_the_purge() {
    let api = Api::start();
    let output = api.purge(&["url", "https://live.example/a", "--json"]);
    let accepted: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(accepted["state"], "spreading");
    let id = accepted["id"].as_str().unwrap();
    let (log, _) = id.split_once('-').unwrap();
    api.report(log, 0);
    let waited = std::thread::scope(|scope| {
        // Whether the report or the question comes first, the answer is the same.
        let waiting = scope.spawn(|| api.purge(&["status", id, "--wait", "60s", "--nodes"]));
        api.report(log, 1);
        waiting.join().unwrap()
    });
    let said = text(&waited.stdout);
    assert_eq!(waited.status.code(), Some(0), "{}", text(&waited.stderr));
    assert!(said.contains("applied, hard"), "{said}");
    assert!(said.contains("  fra  applied by 1 of 1 after"), "{said}");
    assert!(said.contains("fra-1  applied after"), "{said}");
    assert!(said.contains("3 responses, 900 bytes"), "{said}");
}

#[test]
fn the_audit_of_a_running_api_can_be_verified_and_a_changed_one_is_found() {
    let api = Api::start();
    api.purge(&["key", "event-7"]);
    let audit = api.path("audit.jsonl");
    let verify = |path: &PathBuf| api.purge(&["audit", "verify", &path.display().to_string()]);
    let output = verify(&audit);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("OK: "));
    let changed = api.path("changed.jsonl");
    let honest = fs::read_to_string(&audit).unwrap();
    fs::write(
        &changed,
        honest.replace("\"event\":\"started\"", "\"event\": \"started\""),
    )
    .unwrap();
    let output = verify(&changed);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("chain breaks at line 2"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn the_examples_for_origins_purge() {
    let api = Api::start();
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    let needs = [
        ("python3", "purge.py", &["python3"][..]),
        ("sh", "purge.sh", &["curl", "openssl"][..]),
    ];
    for (program, file, needed) in needs {
        let is_there = |name: &&str| {
            let found = Command::new("sh")
                .args(["-c", &format!("command -v {name}")])
                .output();
            found.is_ok_and(|output| output.status.success())
        };
        if !needed.iter().all(is_there) {
            continue;
        }
        let key = format!("from-{file}");
        let mut command = Command::new(program);
        command.arg(examples.join(file));
        command.arg(format!(
            r#"{{"target": {{"surrogate_keys": ["{key}"]}}, "mode": "soft"}}"#
        ));
        let output = api.of(command);
        assert!(
            output.status.success(),
            "{file}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        assert_eq!(api.last()["surrogate_keys"][0], key);
        let mut command = Command::new(program);
        command.arg(examples.join(file)).arg(r#"{"target": "all"}"#);
        let output = api.of(command);
        assert!(!output.status.success(), "{file}: a refusal is a failure");
        assert!(
            text(&output.stdout).contains("urn:seawall:problem:forbidden"),
            "{}",
            text(&output.stdout)
        );
    }
}

/// An origin that numbers its answers, until the test ends.
fn numbering_origin() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.expect("the edge connects");
            let mut head = [0; 4096];
            // One read has the whole head: the edge writes it at once.
            if stream.read(&mut head).unwrap_or(0) == 0 {
                continue;
            }
            let body = format!("version {number}");
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncache-control: max-age=3600\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            )
            .ok();
        }
    });
    format!("http://{address}")
}

/// An edge that follows a purge API, and ends with the test.
struct Edge {
    process: Child,
    address: String,
}

impl Edge {
    fn start(api: &Api, origin: &str) -> Self {
        let config = api.path("edge.toml");
        let text = format!(
            "name = \"fra-1\"\n[listen]\nhttp = [\"127.0.0.1:0\"]\nworkers = 1\n[[shield]]\nname = \"origin\"\nurl = \"{origin}\"\n\
             [[purge_log]]\nname = \"purge-api\"\nurl = \"{}\"\n",
            api.private
        );
        fs::write(&config, text).expect("the folder can be written");
        let mut process = Command::new(env!("CARGO_BIN_EXE_seawall"))
            .args(["edge", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary was built");
        let output = process.stdout.take().expect("it was piped");
        let address = BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| {
                let (_, rest) = line.split_once("http://")?;
                Some(rest.split_whitespace().next()?.to_owned())
            })
            .expect("it says where it listens");
        Self { process, address }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("the edge listens");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: live.example\r\nconnection: close\r\n\r\n"
        )
        .expect("the edge reads");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .expect("the edge answers");
        answer
            .split_once("\r\n\r\n")
            .expect("an answer has a head")
            .1
            .to_owned()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn a_purge_that_was_waited_for_is_applied_on_the_edge_that_follows() {
    let api = Api::start();
    let edge = Edge::start(&api, &numbering_origin());
    // The edge reports when it has begun to follow; until then it cannot know which purges it missed, and
    // keeps nothing that it brought before.
    let follows = || text(&api.purge(&["nodes"]).stdout).contains("fra-1");
    assert!((0..600).any(|_| follows()), "the edge follows the log");
    assert_eq!(edge.get("/live/a"), "version 0");
    assert_eq!(edge.get("/live/a"), "version 0", "from the store");
    let url = "https://live.example/live/a";
    let output = api.purge(&["url", url, "--wait", "60s"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("fra  applied by 1 of 1"),
        "{}",
        text(&output.stdout)
    );
    assert_eq!(edge.get("/live/a"), "version 1");
    let dry = api.purge(&[
        "prefix",
        "https://live.example/live/",
        "--dry-run",
        "--wait",
        "60s",
    ]);
    assert!(
        text(&dry.stdout).contains("1 response"),
        "{}",
        text(&dry.stdout)
    );
    assert_eq!(edge.get("/live/a"), "version 1", "a dry run purges nothing");
}
