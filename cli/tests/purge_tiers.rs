//! Purges through tiers, as processes: the API, a shield that follows it, and edges that follow the shield.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// A process that ends with the test, and what it said while it started.
struct Process {
    child: Child,
    said: Vec<String>,
}

impl Process {
    /// Runs `seawall COMMAND --config FILE`, until it has said a line with `last` in it.
    fn start(folder: &Path, command: &str, name: &str, config: &str, last: &str) -> Self {
        let file = folder.join(format!("{name}.toml"));
        fs::write(&file, config).expect("the folder can be written");
        let mut child = Command::new(env!("CARGO_BIN_EXE_seawall"))
            .args([command, "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary was built");
        let output = child.stdout.take().expect("it was piped");
        let mut said = Vec::new();
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let is_last = line.contains(last);
            said.push(line);
            if is_last {
                break;
            }
        }
        Self { child, said }
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
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Gets `path` over a connection of its own; returns the body.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let head = format!("GET {path} HTTP/1.1\r\nhost: live.example\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    body.to_owned()
}

/// An origin that numbers its answers, until the test ends.
fn numbering_origin() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        let mut number = 0;
        for stream in listener.incoming() {
            let mut stream = stream.expect("the shield connects");
            // One read has the whole head: the shield writes it at once.
            if stream.read(&mut [0; 4096]).unwrap_or(0) == 0 {
                continue;
            }
            let body = format!("version {number}");
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncache-control: max-age=3600, immutable\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            )
            .ok();
            number += 1;
        }
    });
    format!("http://{address}")
}

/// Writes the certificates of an authority for nodes: `ca.pem`, `node.pem`, `node.key`.
fn write_certificates(folder: &Path) {
    let made = |file: &str, text: String| {
        fs::write(folder.join(file), text).expect("the folder can be written");
    };
    let key = rcgen::KeyPair::generate().expect("a key can be made");
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).expect("it signs itself");
    made("ca.pem", authority.pem());
    let issuer = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate().expect("a key can be made");
    let names = vec!["localhost".to_owned()];
    let node = rcgen::CertificateParams::new(names).expect("it is a name");
    let node = node.signed_by(&key, &issuer).expect("the authority signs");
    made("node.pem", node.pem());
    made("node.key", key.serialize_pem());
}

const API: &str = r#"
listen = { address = "127.0.0.1:0" }
private = { address = "127.0.0.1:0" }
journal = { path = "purges.redb" }
audit = { path = "audit.jsonl" }

[[principal]]
name = "origin"
hosts = ["live.example"]
verbs = ["url", "read"]
key = [{ id = "origin-1", kind = "hmac", file = "secret" }]
"#;

/// A purge API, a shield and two edges.
struct Cdn {
    folder: TempDir,
    api: Process,
    shield: Process,
    edges: Vec<Process>,
}

impl Cdn {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path();
        write_certificates(path);
        fs::write(path.join("secret"), "0123456789abcdef0123456789abcdef\n").expect("writable");
        let mut command = Command::new("chmod");
        command.arg("600").arg(path.join("secret"));
        command.status().expect("every system has chmod");
        let api = Process::start(path, "purge-api", "purge-api", API, "private:");
        let node = |name: &str, parent: &str, rest: &str| {
            format!(
                "name = \"{name}\"\n[listen]\nhttp = [\"127.0.0.1:0\"]\nworkers = 1\n\
                 [admin]\nlisten = \"127.0.0.1:0\"\n{parent}\n{rest}"
            )
        };
        let origin = format!(
            "[[origin]]\nname = \"origin\"\nurl = \"{}\"",
            numbering_origin()
        );
        let feed = format!(
            "[purge.children]\nlisten = \"127.0.0.1:0\"\ncertificate = \"node.pem\"\nkey = \"node.key\"\n\
             client_ca = \"ca.pem\"\n[[purge_log]]\nname = \"api\"\nurl = \"http://{}\"\n",
            api.address("private:")
        );
        let config = node("shield-1", &origin, &feed);
        let shield = Process::start(path, "shield", "shield", &config, "children follow");
        let parent = format!(
            "[[shield]]\nname = \"shield-1\"\nurl = \"http://{}\"",
            shield.address("HTTP/1.1")
        );
        let port = shield.address("children follow").replace("127.0.0.1:", "");
        let feed = format!(
            "[[purge_log]]\nname = \"shield-1\"\nurl = \"https://localhost:{port}\"\nca_file = \"ca.pem\"\n\
             client_certificate = \"node.pem\"\nclient_key = \"node.key\"\n"
        );
        let edge = |name: &&str| {
            let config = node(name, &parent, &feed);
            Process::start(path, "edge", name, &config, "/status")
        };
        let edges = ["fra-1", "sin-1"].iter().map(edge).collect();
        Self {
            api,
            shield,
            edges,
            folder,
        }
    }

    fn purge(&self, arguments: &[&str]) -> Output {
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
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn f28_a_purge_that_was_waited_for_is_applied_on_the_shield_and_every_edge_behind_it() {
    let cdn = Cdn::start();
    // A node reports when it has begun to follow; what it brought before is stale from then on.
    let follow = || {
        let nodes = text(&cdn.purge(&["nodes"]).stdout);
        ["shield-1", "fra-1", "sin-1"]
            .iter()
            .all(|name| nodes.contains(name))
    };
    assert!((0..600).any(|_| follow()), "all of them follow the log");
    let http = |edge: &Process| edge.address("HTTP/1.1");
    for edge in &cdn.edges {
        assert_eq!(get(&http(edge), "/live/a"), "version 0");
    }
    let output = cdn.purge(&["url", "https://live.example/live/a", "--wait", "60s"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for pop in ["shield", "fra", "sin"] {
        let confirmed = format!("{pop}  applied by 1 of 1 after");
        assert!(said.contains(&confirmed), "{said}");
    }
    for edge in &cdn.edges {
        assert_eq!(get(&http(edge), "/live/a"), "version 1");
    }
    let shield = get(&cdn.shield.address("/status"), "/metrics");
    for expected in [
        "seawall_purge_children 2\n",
        "seawall_purge_applied 1\n",
        "seawall_purge_head 1\n",
        "seawall_purge_state{state=\"current\"} 1\n",
        "seawall_purges_applied_total{target=\"url\"} 1\n",
        "seawall_purge_matched_objects_total{target=\"url\"} 1\n",
    ] {
        assert!(shield.contains(expected), "{expected}{shield}");
    }
}
