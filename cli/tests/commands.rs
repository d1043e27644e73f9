//! The binary as an operator meets it: exit codes, error texts, signals.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

fn seawall(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    seawall(arguments).output().expect("the binary was built")
}

fn shipped(name: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../configs");
    root.join(name).display().to_string()
}

#[test]
fn check_says_what_a_file_means_and_what_it_is_for() {
    for (file, meaning) in [
        ("edge.toml", "is an edge"),
        ("shield.toml", "is a shield"),
        ("two-regions/fra/edge.toml", "is an edge"),
    ] {
        let output = run(&["check", "--elsewhere", &shipped(file)]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{file}");
        assert!(text.starts_with("OK: ") && text.contains(meaning), "{text}");
    }
}

#[test]
fn a_wrong_configuration_is_a_misuse_and_names_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edge.toml");
    std::fs::write(&file, "name = \"a\"\nworkers = 2\n").unwrap();
    let output = run(&["check", &file.display().to_string()]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text.contains("edge.toml:2") && text.contains("workers"),
        "{text}"
    );
}

#[test]
fn misuses_exit_with_two_and_say_what_to_write() {
    for (arguments, hint) in [
        (
            &["run", "--origin", "http://a.example/live"][..],
            "scheme and host",
        ),
        (&["origin", "--fault", "explode"][..], "withdraw-hint"),
        (&["origin", "--part", "5"][..], "500ms"),
        (&["demo", "--port-base", "65530"][..], "at most"),
        (&["demo", "--hls-js", "/no/such/file"][..], "/no/such/file"),
        (&["--log", "a=b=c", "check", "x"][..], "error"),
        (&["swarm"][..], "<URL>"),
    ] {
        let output = run(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(hint), "{arguments:?}: {text}");
    }
}

#[test]
fn a_port_in_use_exits_with_one_and_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (port, address) = (address.port().to_string(), address.to_string());
    let free = "127.0.0.1:0";
    let listen = [
        "run",
        "--origin",
        "http://127.0.0.1:1",
        "--http",
        &address,
        "--listen",
        free,
    ];
    for arguments in [&listen[..], &["origin", "--listen", &address][..]] {
        let output = run(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
        assert!(text.contains(&port), "{arguments:?}: {text}");
    }
}

#[test]
fn the_demonstration_says_where_it_is_and_drains_on_a_signal() {
    let mut demo = Running::start(&["demo", "--json", "--viewers", "0"]);
    let places: serde_json::Value = serde_json::from_str(&demo.first_line()).unwrap();
    assert_eq!(places["edges"][0]["name"], "fra");
    assert!(
        places["edges"][1]["secure"]
            .as_str()
            .unwrap()
            .starts_with("https://localhost:")
    );
    assert!(places["edges"][0]["pin"].as_str().unwrap().len() > 40);
    assert_eq!(demo.end_with("TERM"), Some(0));
}

#[test]
fn one_edge_alone_drains_on_an_interrupt() {
    let free = "127.0.0.1:0";
    let origin = "http://127.0.0.1:1";
    let mut edge = Running::start(&["run", "--origin", origin, "--listen", free, "--http", free]);
    assert!(edge.first_line().contains(origin));
    assert_eq!(edge.end_with("INT"), Some(0));
}

#[test]
fn one_wish_to_end_that_is_signalled_twice_still_drains() {
    let mut demo = Running::start(&["demo", "--json", "--viewers", "0"]);
    demo.first_line();
    let pid = demo.child.id();
    let twice = format!("kill -TERM {pid}; kill -INT {pid}");
    let status = Command::new("sh").args(["-c", &twice]).status();
    assert!(status.unwrap().success());
    assert_eq!(demo.child.wait().unwrap().code(), Some(0));
}

/// A child process that does not outlive its test.
struct Running {
    child: Child,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let child = seawall(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        Self {
            child: child.expect("the binary was built"),
        }
    }

    /// Blocks until the process has said something.
    fn first_line(&mut self) -> String {
        let stdout = self.child.stdout.as_mut().expect("it is piped");
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("it can be read");
        line
    }

    fn end_with(&mut self, signal: &str) -> Option<i32> {
        let kill = format!("kill -{signal} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status();
        assert!(status.expect("there is a shell").success());
        self.child.wait().expect("it is our child").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
