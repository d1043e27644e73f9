//! Tests of the private listener, over real sockets on a free port.

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::clock::Clock;
use crate::telemetry::Event;

fn status() -> Status {
    Status {
        name: "edge-1".to_owned(),
        version: "0.0.0",
        uptime_seconds: 7,
        not_ready: Vec::new(),
        parents: vec![ParentHealth {
            name: "shield-1".to_owned(),
            is_usable: true,
            failures_in_a_row: 0,
            connections: 2,
            exchanges: 1,
            waiting: 0,
        }],
        purges: Some(PurgeStanding {
            state: "current",
            log: Some("0000000000000007".to_owned()),
            applied: 41,
            head: 41,
            lag_seconds: 0.5,
            is_connected: true,
            children: 2,
        }),
        renditions: vec![RenditionPosition {
            host: "live.example".to_owned(),
            path: "/live/v0.m3u8".to_owned(),
            phase: "following",
            msn: Some(27),
            part_index: Some(3),
            age_seconds: Some(0.25),
            waiting: 12,
        }],
        renditions_total: 1,
        lapses: Default::default(),
        figures: Default::default(),
    }
}

fn telemetry() -> Arc<Telemetry> {
    Arc::new(Telemetry::new(
        "edge-1",
        &["shield-1".to_owned()],
        Clock::system(),
        None,
    ))
}

fn config(address: &str) -> AdminConfig {
    AdminConfig {
        address: address.parse().unwrap(),
        allow_remote: false,
    }
}

fn start() -> Serving {
    serve(&config("127.0.0.1:0"), telemetry(), status, Vec::new).unwrap()
}

/// Sends a request and returns everything that comes back.
async fn ask(serving: &Serving, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(serving.address()).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_four_pages_answer_and_nothing_else_does() {
    let telemetry = telemetry();
    telemetry.record(Event::RegressionPrevented);
    let serving = serve(&config("127.0.0.1:0"), telemetry, status, Vec::new).unwrap();
    let health = ask(&serving, "GET", "/healthz").await;
    assert!(
        health.starts_with("HTTP/1.1 200") && health.ends_with("ok\n"),
        "{health}"
    );
    assert!(health.contains("cache-control: no-store"), "{health}");
    let metrics = ask(&serving, "GET", "/metrics").await;
    assert!(
        metrics.contains("content-type: text/plain; version=0.0.4"),
        "{metrics}"
    );
    assert!(
        metrics.contains("\nseawall_regressions_prevented_total 1\n"),
        "{metrics}"
    );
    let shown = ask(&serving, "GET", "/status").await;
    let json = shown.split("\r\n\r\n").nth(1).unwrap();
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(json["parents"][0]["name"], "shield-1");
    assert_eq!(json["renditions"][0]["msn"], 27);
    assert!(ask(&serving, "GET", "/").await.starts_with("HTTP/1.1 404"));
    assert!(
        ask(&serving, "POST", "/status")
            .await
            .starts_with("HTTP/1.1 405")
    );
    serving.join().await;
}

#[tokio::test]
async fn readiness_follows_the_node() {
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let now = Arc::clone(&reasons);
    let not_ready = move || Status {
        not_ready: now.lock().clone(),
        ..status()
    };
    let serving = serve(&config("127.0.0.1:0"), telemetry(), not_ready, Vec::new).unwrap();
    assert!(
        ask(&serving, "GET", "/readyz")
            .await
            .starts_with("HTTP/1.1 200")
    );
    *reasons.lock() = vec![NotReady::Draining, NotReady::NoParentUsable];
    let answer = ask(&serving, "GET", "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(
        answer.ends_with("not ready: draining, no parent usable\n"),
        "{answer}"
    );
    assert!(
        ask(&serving, "GET", "/healthz")
            .await
            .starts_with("HTTP/1.1 200"),
        "still alive"
    );
}

#[test]
fn an_address_that_others_can_reach_needs_permission() {
    let error = serve(&config("0.0.0.0:0"), telemetry(), status, Vec::new).unwrap_err();
    assert!(
        error.to_string().contains("admin.allow_remote = true"),
        "{error}"
    );
    let allowed = AdminConfig {
        allow_remote: true,
        ..config("0.0.0.0:0")
    };
    assert!(serve(&allowed, telemetry(), status, Vec::new).is_ok());
}

#[tokio::test]
async fn a_port_in_use_is_named_with_what_to_do() {
    let serving = start();
    let error = serve(
        &config(&serving.address().to_string()),
        telemetry(),
        status,
        Vec::new,
    )
    .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&serving.address().port().to_string()),
        "{text}"
    );
    assert!(
        text.contains("is in use") && text.contains("admin.listen"),
        "{text}"
    );
}

#[tokio::test]
async fn joining_ends_idle_connections_and_frees_the_port() {
    let serving = start();
    let address = serving.address();
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 16];
    idle.read_exact(&mut first).await.unwrap();
    serving.join().await;
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(b"ok\n"), "the answer was whole");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn more_connections_than_allowed_wait_and_are_answered() {
    let serving = start();
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        held.push(TcpStream::connect(serving.address()).await.unwrap());
    }
    let waiting = ask(&serving, "GET", "/healthz");
    tokio::pin!(waiting);
    // Every place is taken by someone who says nothing; one of them leaves.
    drop(held.pop());
    assert!(waiting.await.starts_with("HTTP/1.1 200"));
}
