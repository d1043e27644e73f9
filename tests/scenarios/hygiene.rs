//! Hygiene of keys and requests: nothing that a viewer sends makes one response stand for another.
//!
//! The cases B47 to B71 (docs/conformance.md). What is here: requests written byte by byte, as no client
//! library would write them.

mod fields;
mod rules;
mod storing;
mod targets;

use harness::Cdn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What came back for bytes that were sent.
struct Raw {
    /// Zero when the connection was closed without an answer.
    status: u16,
    head: String,
    body: String,
}

/// Sends `bytes` to the node called `node` and reads until it closes.
async fn send(t: &Cdn, node: &str, bytes: &[u8]) -> Raw {
    let mut pipe = t.network().connect(node).expect("the node is up");
    let mut received = Vec::new();
    // A node that refuses may close while bytes are still on their way to it.
    pipe.write_all(bytes).await.ok();
    pipe.read_to_end(&mut received).await.ok();
    let text = String::from_utf8_lossy(&received).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    Raw {
        status: head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

/// Asks `edge` for `target` of `host`, with more field lines, each with its line end.
async fn ask(t: &Cdn, host: &str, target: &str, lines: &str) -> Raw {
    let request =
        format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n{lines}connection: close\r\n\r\n");
    send(t, "edge", request.as_bytes()).await
}
