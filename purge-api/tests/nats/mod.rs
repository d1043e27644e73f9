//! NATS servers of our own: one, or a cluster of three, which can be torn apart.
//!
//! Who calls it: the tests of the journal's engines, and the suite `cluster`. Servers listen on ports of their own
//! choice and keep what they have in a temporary folder. Where `nats-server` is not installed, tests that need
//! it say so and pass; in CI (the variable `CI` is set) they fail. Deliberately not here: anything of a journal.

#![allow(dead_code, reason = "each suite uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use tempfile::TempDir;

/// A NATS server.
pub(crate) struct Server {
    child: Child,
    /// Where clients connect.
    pub(crate) port: u16,
    arguments: Vec<String>,
    _folder: TempDir,
}

impl Server {
    /// Starts a server that stands alone; `None` where there is none to start.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[]).map_or_else(left_out, Some)
    }

    fn start_with(more: &[String]) -> std::io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut arguments: Vec<String> = ["-a", "127.0.0.1", "-js", "-sd"]
            .map(ToOwned::to_owned)
            .to_vec();
        arguments.push(folder.path().display().to_string());
        arguments.extend_from_slice(more);
        let (child, port) = run(&arguments, "-1")?;
        Ok(Self {
            child,
            port,
            arguments,
            _folder: folder,
        })
    }

    /// Returns where clients connect.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Ends the server as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was started");
    }

    /// Starts a server that was killed again, on the same port, with what it had.
    pub(crate) fn restart(&mut self) {
        let (child, port) = run(&self.arguments, &self.port.to_string()).expect("it ran before");
        self.child = child;
        assert_eq!(port, self.port);
    }

    /// Cuts the server off: it neither hears nor says anything, and its connections stay.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets a server that was cut off go on.
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([name, &id]).status();
        assert!(sent.expect("`kill` is there").success(), "{name}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Three servers that keep everything three times.
pub(crate) struct Cluster {
    /// The servers; [`Cluster::name`] says what each is called.
    pub(crate) servers: Vec<Server>,
    /// Every way from one to another, with both ends.
    links: Vec<(usize, usize, Link)>,
}

impl Cluster {
    /// Starts three servers that know of each other; `None` where there is none to start.
    pub(crate) fn start() -> Option<Self> {
        // Somebody may take a port between our letting it go and the server's taking it.
        let mut last = Self::try_start();
        for _ in 0..4 {
            if last.is_ok() {
                break;
            }
            last = Self::try_start();
        }
        last.map_or_else(left_out, Some)
    }

    fn try_start() -> std::io::Result<Self> {
        let held = (0..SERVERS).map(|_| TcpListener::bind("127.0.0.1:0"));
        let held: Vec<_> = held.collect::<Result<_, _>>()?;
        let ports = held.iter().map(|l| l.local_addr().map(|a| a.port()));
        let ports: Vec<u16> = ports.collect::<Result<_, _>>()?;
        drop(held);
        let mut links = Vec::new();
        let mut servers = Vec::new();
        for from in 0..SERVERS {
            let mut routes = Vec::new();
            for to in (0..SERVERS).filter(|to| *to != from) {
                let link = Link::to(ports[to])?;
                routes.push(format!("nats://127.0.0.1:{}", link.port));
                links.push((from, to, link));
            }
            let more = [
                "-n",
                &Self::name(from),
                "--cluster_name",
                "seawall",
                "--cluster",
                &format!("nats://127.0.0.1:{}", ports[from]),
                "--routes",
                &routes.join(","),
                // What they tell each other leads nowhere, so that there is no way around the links.
                "--cluster_advertise",
                "127.0.0.1:1",
                // Nor do clients learn of servers that they were not given.
                "--no_advertise",
            ];
            servers.push(Server::start_with(&more.map(ToOwned::to_owned))?);
        }
        Ok(Self { servers, links })
    }

    /// Cuts one server off from the others, or lets them hear each other again; clients notice nothing.
    pub(crate) fn cut_off(&self, server: usize, is_cut: bool) {
        for (from, to, link) in &self.links {
            if *from == server || *to == server {
                link.hold(is_cut);
            }
        }
    }

    /// Returns what a server is called.
    pub(crate) fn name(number: usize) -> String {
        format!("nats-{number}")
    }

    /// Returns where clients connect.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.servers.iter().map(Server::url).collect()
    }
}

/// A way to a port of this machine on which everything can be held, as if packets were lost.
struct Link {
    port: u16,
    held: Arc<(Mutex<bool>, Condvar)>,
}

impl Link {
    fn to(port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let link = Self {
            port: listener.local_addr()?.port(),
            held: Arc::default(),
        };
        let held = Arc::clone(&link.held);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // Nobody is there: the connection is closed.
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else {
                    continue;
                };
                let again = |stream: &TcpStream| stream.try_clone().expect("there are descriptors");
                for (from, to) in [(again(&near), again(&far)), (far, near)] {
                    let held = Arc::clone(&held);
                    std::thread::spawn(move || carry(from, to, &held));
                }
            }
        });
        Ok(link)
    }

    fn hold(&self, is_held: bool) {
        *self.held.0.lock().expect("nobody panics with it") = is_held;
        self.held.1.notify_all();
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, held: &(Mutex<bool>, Condvar)) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        let is_held = held.0.lock().expect("nobody panics with it");
        let free = held.1.wait_while(is_held, |is_held| *is_held);
        drop(free.expect("nobody panics with it"));
        let read = bytes.get(..length).unwrap_or_default();
        if to.write_all(read).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
}

/// Servers of a cluster: one may be lost.
pub(crate) const SERVERS: usize = 3;

/// Says that a test is left out, or fails where nothing may be.
fn left_out<T>(error: std::io::Error) -> Option<T> {
    #[expect(clippy::disallowed_methods, reason = "CI must not pass by leaving out")]
    let is_ci = std::env::var_os("CI").is_some();
    assert!(!is_ci, "nats-server cannot be started: {error}");
    eprintln!("left out: nats-server cannot be started ({error}); apt install nats-server");
    None
}

/// Starts `nats-server` and waits until it says on which port it is ready.
fn run(arguments: &[String], port: &str) -> std::io::Result<(Child, u16)> {
    let mut child = Command::new("nats-server")
        .args(arguments)
        .args(["-p", port])
        .stderr(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let mut port = None;
    for line in lines.by_ref() {
        let line = line?;
        if line.contains("Listening for client connections") {
            port = line.rsplit(':').next().and_then(|p| p.trim().parse().ok());
        }
        if line.contains("Server is ready")
            && let Some(port) = port
        {
            // Its log must be read on, or writing it would end the server.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok((child, port));
        }
    }
    child.wait()?;
    Err(std::io::Error::other("it ended at once"))
}
