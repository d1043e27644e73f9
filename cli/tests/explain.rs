//! `seawall explain` as an operator meets it: what it says of a URL, and of a parent's answer.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;

use tempfile::TempDir;

/// A configuration file that lives as long as the test.
struct File {
    _folder: TempDir,
    path: String,
}

fn file(name: &str, text: &str) -> File {
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("the folder is ours");
    File {
        path: path.display().to_string(),
        _folder: folder,
    }
}

fn edge(rules: &str, parents: &[&str]) -> File {
    let parents: String = parents
        .iter()
        .enumerate()
        .map(|(n, url)| format!("[[shield]]\nname = \"shield-{n}\"\nurl = \"{url}\"\n"))
        .collect();
    let listen = "name = \"fra-1\"\n[listen]\nhttp = [\"127.0.0.1:0\"]\n";
    file("edge.toml", &format!("{listen}{rules}\n{parents}"))
}

fn explain(file: &File, url: &str, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_seawall"))
        .args(["explain", url, "--config", &file.path])
        .args(more)
        .stdin(Stdio::null())
        .output()
        .expect("the binary was built")
}

fn text(file: &File, url: &str, more: &[&str]) -> String {
    let output = explain(file, url, more);
    let text = String::from_utf8(output.stdout).expect("it speaks UTF-8");
    assert_eq!(output.status.code(), Some(0), "{text}");
    // Columns are for eyes.
    let lines = text.lines().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

const NOBODY: &str = "http://127.0.0.1:1";

const RULES: &str = r#"
[viewers]
query_dropped = ["CMCD"]
[[rule]]
name = "vod"
hosts = ["vod.example"]
[[rule]]
name = "clips"
paths = ["/clips/**/*.mp4"]
query_kept = ["id"]
forward_headers = ["Accept-Language"]
segment = { default = "5m", ceiling = "1h", negative = { 404 = "3s" } }
"#;

#[test]
fn it_says_which_rule_matches_which_key_and_why() {
    let edge = edge(RULES, &[NOBODY, "http://127.0.0.1:2"]);
    let said = text(
        &edge,
        "https://Live.Example:443/clips/a/b.mp4?utm=1&id=2&CMCD=x",
        &["-H", "Accept-Language: de", "-H", "Cookie: a=b"],
    );
    for line in [
        "rule clips",
        "vod does not match: none of its hosts is the request's",
        "clips matches",
        "asked as live.example/clips/a/b.mp4?id=2",
        "key //live.example/clips/a/b.mp4?id=2",
        "dropped utm, CMCD from the query",
        "forwarded accept-language",
        "kept back cookie",
        "lifetimes segment: floor 0s, default 5m, ceiling 1h",
        "errors 202 0s, 204 0s, 404 3s, 410 200ms, 4xx 0s, 5xx 0s",
    ] {
        assert!(said.lines().any(|said| said == line), "{line}\nin\n{said}");
    }
    let parents = [
        "parents shield-0, then shield-1",
        "parents shield-1, then shield-0",
    ];
    assert!(said.lines().any(|line| parents.contains(&line)), "{said}");
}

#[test]
fn what_matches_no_rule_and_what_no_rule_can_help_are_said() {
    let edge = edge(RULES, &[NOBODY]);
    for (url, line) in [
        ("http://x.example/a", "default holds where no rule matches"),
        (
            "http://x.example/a/..%2fb",
            "refused path refused (400 Bad Request); no rule changes that",
        ),
        (
            "http://x.example/p.m3u8?_HLS_part=1",
            "plan refused: malformed delivery directives (400 Bad Request)",
        ),
    ] {
        let said = text(&edge, url, &[]);
        assert!(said.lines().any(|said| said == line), "{line}\nin\n{said}");
    }
    let said = text(&edge, "http://x.example/a", &["--method", "OPTIONS"]);
    assert!(said.contains("plan preflight"), "{said}");
    let said = text(&edge, "http://x.example/a", &["--method", "HEAD"]);
    assert!(said.contains("without its body"), "{said}");
    let post = ["--method", "POST", "--fetch"];
    let said = text(&edge, "http://x.example/a", &post);
    assert!(said.contains("refused method not allowed (405"), "{said}");
    let relaying = self::edge("[cache]\nrelay_methods = true", &[NOBODY]);
    let said = text(&relaying, "http://x.example/a", &post);
    assert!(said.contains("plan relayed"), "{said}");
    assert!(
        !said.contains("fetched"),
        "what has an effect is never tried:\n{said}"
    );
}

#[test]
fn programs_get_the_same_as_json() {
    let edge = edge(RULES, &[NOBODY]);
    let output = explain(&edge, "http://x/clips/b.mp4?z=1", &["--json"]);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["rule"], "clips");
    assert_eq!(said["considered"][0]["unmatched"], "none of its hosts");
    assert_eq!(said["key"], "//x/clips/b.mp4");
    assert_eq!(said["query_dropped"][0], "z");
    assert_eq!(said["lifetimes"]["ceiling_ms"], 3_600_000);
    assert_eq!(said["lifetimes"]["negative_ms"]["404"], 3000);
    let output = explain(&edge, "http://x//b", &["--json", "--fetch"]);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["refused"]["status"], 400);
}

/// Answers one connection with a head and a body, and returns where.
fn answering(reply: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody asks");
        let mut lines = BufReader::new(stream.try_clone().expect("the stream is open")).lines();
        while lines
            .next()
            .is_some_and(|line| !line.expect("the head is text").is_empty())
        {}
        stream.write_all(reply.as_bytes()).expect("the node reads");
    });
    format!("http://{address}")
}

#[test]
fn a_fetch_says_what_is_made_of_the_answer_and_why() {
    let rules = "[cache]\nheuristics = { percent = \"10%\" }\nother = { default = \"7s\", ceiling = \"10s\" }\n";
    for (reply, lines) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncache-control: max-age=60\r\nvary: accept-language\r\n\r\nx",
            &[
                "cache-control: max-age=60",
                "stored for 10s, by the origin: max-age of cache-control (1m), cut to the ceiling",
                "accept-language select it",
            ][..],
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncache-control: no-store\r\ncdn-cache-control: max-age=5\r\n\r\nx",
            &["stored for 5s, by the origin: max-age of cdn-cache-control"],
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
            &["stored for 7s, by the rule's default: the origin says nothing"],
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ndate: Sun, 06 Nov 1994 08:49:47 GMT\r\nlast-modified: Sun, 06 Nov 1994 08:48:47 GMT\r\n\r\nx",
            &["stored for 6s, by a guess from Last-Modified (heuristics)"],
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncache-control: max-age=5\r\nset-cookie: id=s3cret\r\n\r\nx",
            &[
                "set-cookie: (not shown)",
                "not stored the response sets a cookie",
            ],
        ),
        (
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\ncache-control: max-age=60\r\n\r\n",
            &[
                "lifetime 0s, by the origin: max-age of cache-control (1m), cut to the negative lifetime",
            ],
        ),
    ] {
        let edge = edge(rules, &[&answering(reply)]);
        let said = text(&edge, "http://x/a", &["--fetch"]);
        for line in lines {
            assert!(said.lines().any(|said| said == *line), "{line}\nin\n{said}");
        }
        assert!(!said.contains("s3cret"));
    }
}

#[test]
fn a_fetch_reads_playlists() {
    let live = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.apple.mpegurl\r\nconnection: close\r\n\r\n\
        #EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n#EXT-X-PART-INF:PART-TARGET=0.5\n\
        #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5\n#EXT-X-MEDIA-SEQUENCE:1\n\
        #EXTINF:2,\na.m4s\n";
    let edge_in_front = edge("", &[&answering(live)]);
    let said = text(&edge_in_front, "http://x/live/p.m3u8", &["--fetch"]);
    let line = "followed a live playlist, target duration 2s: no copy is kept";
    assert!(said.contains(line), "{said}");
    let page = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>";
    let edge_in_front = edge("", &[&answering(page)]);
    let said = text(&edge_in_front, "http://x/live/p.m3u8", &["--fetch"]);
    assert!(said.contains("unusable not a playlist"), "{said}");
    let said = text(&edge("", &[NOBODY]), "http://x/a", &["--fetch"]);
    assert!(
        said.contains("fetched nothing: no parent reachable (502 Bad Gateway)"),
        "{said}"
    );
}

#[test]
fn every_shipped_configuration_explains_itself_without_its_files() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../configs");
    for (name, kind) in [
        ("edge.toml", "mpd"),
        ("shield.toml", "mpd"),
        ("two-regions/fra/edge.toml", "mpd"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_seawall"))
            .args(["explain", "https://live.example/a/manifest.mpd", "--config"])
            .arg(root.join(name))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}");
        assert!(text.contains(&format!("{kind}: floor")), "{text}");
    }
}

#[test]
fn what_cannot_be_explained_is_a_misuse() {
    let edge = edge("", &[NOBODY]);
    for (url, more, hint) in [
        ("live.example/a", &[][..], "https://live.example"),
        ("ftp://live.example/a", &[], "https://live.example"),
        ("http://x/a", &["-H", "nonsense"], "name: value"),
        ("http://x/a", &["--method", "G T"], "not a method"),
    ] {
        let output = explain(&edge, url, more);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{url} {more:?}: {text}");
        assert!(text.contains(hint), "{url} {more:?}: {text}");
    }
    let broken = file("edge.toml", "name = 1\n");
    let output = explain(&broken, "http://x/a", &[]);
    assert_eq!(output.status.code(), Some(2));
}
