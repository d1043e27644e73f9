//! Tests of what is counted and logged.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::SystemTime;

use http::{Method, StatusCode};
use media::Kind;
use parking_lot::Mutex;

use super::*;
use crate::exchange::Protocol;
use crate::upstream::{Class, ParentId};

/// A writer whose lines a test can read.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn lines(&self) -> Vec<serde_json::Value> {
        let bytes = self.0.lock().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn clock() -> Clock {
    let seconds = 1_795_370_760; // 2026-11-22T18:06:00Z
    Clock::starting_at(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

fn telemetry(log: Option<AccessLog>) -> Telemetry {
    Telemetry::new(
        "edge-1",
        &["shield-1".to_owned(), "shield-2".to_owned()],
        clock(),
        log,
    )
}

fn finished() -> FinishedRequest<'static> {
    FinishedRequest {
        peer: "[2001:db8::1]:4433".parse().unwrap(),
        protocol: Protocol::Http3,
        method: &Method::GET,
        host: "live.example",
        path: "/live/v0/p.m3u8",
        query: "_HLS_msn=27&token=s3cret",
        kind: Kind::MediaPlaylist,
        status: Some(StatusCode::OK),
        outcome: Outcome::Held,
        failure: None,
        bytes: 1200,
        first_byte: Duration::from_millis(331),
        duration: Duration::from_micros(331_250),
        held: Duration::from_millis(330),
        ending: Ending::Complete,
        cache_status: Some("edge-1; fwd=uri-miss; collapsed"),
    }
}

fn value_of(rendered: &str, series: &str) -> String {
    let line = rendered.lines().find(|line| {
        line.strip_prefix(series)
            .is_some_and(|r| r.starts_with(' '))
    });
    let line = line.unwrap_or_else(|| panic!("no {series} in\n{rendered}"));
    line.rsplit(' ').next().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn every_series_exists_before_anything_happens() {
    let telemetry = telemetry(None);
    // Those of a presentation exist from its first playlist.
    let _others = telemetry.stream("others");
    let rendered = telemetry.render();
    for metric in CATALOG {
        if metric.kind != Type::Histogram {
            assert!(
                rendered.contains(&format!("\n{}", metric.name)),
                "{}",
                metric.name
            );
        }
        assert!(metric.name.starts_with("seawall_"), "{}", metric.name);
        assert_eq!(
            metric.name.ends_with("_total"),
            metric.kind == Type::Counter,
            "{}",
            metric.name
        );
    }
    let ours = rendered.lines().filter(|line| line.starts_with("# TYPE"));
    for line in ours {
        let name = line.split(' ').nth(2).unwrap();
        assert!(
            CATALOG.iter().any(|metric| metric.name == name),
            "{name} is not in the catalog"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_finished_request_is_counted_once_by_everything_it_is() {
    let telemetry = telemetry(None);
    // Those of a presentation exist from its first playlist.
    let _others = telemetry.stream("others");
    telemetry.record(Event::RequestFinished(finished()));
    let hit = FinishedRequest {
        protocol: Protocol::Http1,
        kind: Kind::Segment,
        outcome: Outcome::Hit,
        held: Duration::ZERO,
        bytes: 10,
        ending: Ending::ViewerLeft,
        ..finished()
    };
    telemetry.record(Event::RequestFinished(hit));
    let refused = FinishedRequest {
        status: Some(StatusCode::SERVICE_UNAVAILABLE),
        outcome: Outcome::Failed,
        failure: Some(Failure::HoldExpired),
        ..finished()
    };
    telemetry.record(Event::RequestFinished(refused));

    let figures = telemetry.snapshot();
    assert_eq!(
        (figures.requests, figures.hits, figures.held, figures.failed),
        (3, 1, 1, 1)
    );
    assert_eq!((figures.viewer_aborts, figures.server_errors), (1, 1));
    assert_eq!(figures.viewer_bytes, 1200 + 10 + 1200);
    let rendered = telemetry.render();
    let requests =
        |labels: &str| value_of(&rendered, &format!("seawall_requests_total{{{labels}}}"));
    assert_eq!(
        requests(r#"protocol="h3",status="2xx",outcome="held""#),
        "1"
    );
    assert_eq!(
        requests(r#"protocol="h3",status="5xx",outcome="failed""#),
        "1"
    );
    assert_eq!(
        value_of(
            &rendered,
            r#"seawall_failures_total{failure="hold_expired"}"#
        ),
        "1"
    );
    assert_eq!(
        value_of(
            &rendered,
            r#"seawall_hold_seconds_count{result="released"}"#
        ),
        "1"
    );
    assert_eq!(
        value_of(&rendered, r#"seawall_hold_seconds_count{result="expired"}"#),
        "1"
    );
    assert_eq!(
        value_of(
            &rendered,
            r#"seawall_first_byte_seconds_count{outcome="hit"}"#
        ),
        "1"
    );
}

#[tokio::test(start_paused = true)]
async fn forward_requests_are_counted_by_parent_and_class() {
    let telemetry = telemetry(None);
    let asked = |parent, class, status| Event::ForwardFinished {
        parent,
        class,
        status,
        waited: Duration::from_millis(3),
    };
    telemetry.record(asked(
        Some(ParentId(1)),
        Class::Parked,
        Some(StatusCode::OK),
    ));
    telemetry.record(asked(Some(ParentId(0)), Class::Bulk, None));
    telemetry.record(asked(None, Class::Bulk, None));
    let level = |is_usable, times_failed| ParentLevel {
        is_usable,
        times_failed,
        parked: ConnectionsLevel { open: 1, opened: 3 },
        bulk: ConnectionsLevel::default(),
    };
    telemetry.observe(move || Levels {
        parents: vec![level(false, 2), level(true, 0)],
        ..Levels::default()
    });
    let rendered = telemetry.render();
    let forward = |labels: &str| {
        value_of(
            &rendered,
            &format!("seawall_forward_requests_total{{{labels}}}"),
        )
    };
    assert_eq!(
        forward(r#"parent="shield-2",class="parked",status="2xx""#),
        "1"
    );
    assert_eq!(
        forward(r#"parent="shield-1",class="bulk",status="none""#),
        "1"
    );
    assert_eq!(forward(r#"parent="none",class="bulk",status="none""#), "1");
    assert_eq!(
        value_of(&rendered, r#"seawall_parent_up{parent="shield-1"}"#),
        "0"
    );
    assert_eq!(
        value_of(&rendered, r#"seawall_parent_up{parent="shield-2"}"#),
        "1"
    );
    let connections = |name: &str, class: &str| {
        let series =
            format!(r#"seawall_forward_connections{name}{{parent="shield-2",class="{class}"}}"#);
        value_of(&rendered, &series)
    };
    assert_eq!(connections("", "parked"), "1");
    assert_eq!(connections("_opened_total", "parked"), "3");
    assert_eq!(connections("_opened_total", "bulk"), "0");
    assert_eq!(
        value_of(
            &rendered,
            r#"seawall_parent_failures_total{parent="shield-1"}"#
        ),
        "2"
    );
    assert_eq!(telemetry.snapshot().forward_requests, 3);
    assert_eq!(telemetry.snapshot().forward_failures, 2);
}

#[tokio::test(start_paused = true)]
async fn what_runs_is_a_level_and_what_ran_is_a_count() {
    let telemetry = telemetry(None);
    telemetry.observe(|| Levels {
        held_requests: 7,
        ..Levels::default()
    });
    telemetry.record(Event::ChainStarted);
    telemetry.record(Event::FillStarted { is_ahead: true });
    assert_eq!(value_of(&telemetry.render(), "seawall_fills_running"), "1");
    telemetry.record(Event::FillFinished {
        ending: FillEnding::Stored,
        bytes: 500,
        duration: Duration::from_millis(20),
    });
    telemetry.record(Event::VersionPublished {
        age: Duration::from_millis(40),
    });
    telemetry.record(Event::RegressionPrevented);
    telemetry.record(Event::ChainFailed(Failure::ParentTimedOut));
    telemetry.record(Event::ChainStopped);
    telemetry.record(Event::OriginMisbehaved {
        rule: Misbehavior::AnsweredEarly,
        host: "live.example",
        path: "/live/v0.m3u8",
        evidence: format_args!("at once"),
    });
    assert_eq!(telemetry.lapses().recent[0].evidence, "at once");
    let figures = telemetry.snapshot();
    assert_eq!(
        (
            figures.chains,
            figures.fills,
            figures.fills_ahead,
            figures.fill_bytes
        ),
        (0, 1, 1, 500)
    );
    assert_eq!((figures.versions, figures.regressions_prevented), (1, 1));
    assert_eq!(figures.held_now, 7);
    let rendered = telemetry.render();
    assert_eq!(value_of(&rendered, "seawall_held_requests"), "7");
    assert_eq!(value_of(&rendered, "seawall_fills_running"), "0");
    let lag = r#"seawall_live_edge_lag_seconds_bucket{le="0.05"}"#;
    assert_eq!(value_of(&rendered, lag), "1");
}

#[tokio::test(start_paused = true)]
async fn two_nodes_in_one_process_do_not_share_numbers() {
    let (first, second) = (telemetry(None), telemetry(None));
    first.record(Event::RegressionPrevented);
    assert_eq!(first.snapshot().regressions_prevented, 1);
    assert_eq!(second.snapshot().regressions_prevented, 0);
    assert_eq!(
        value_of(&second.render(), "seawall_regressions_prevented_total"),
        "0"
    );
}

#[tokio::test(start_paused = true)]
async fn a_finished_request_is_one_line_without_secrets() {
    let written = Written::default();
    let telemetry = telemetry(Some(AccessLog::to_writer(written.clone(), 1)));
    telemetry.record(Event::RequestFinished(finished()));
    drop(telemetry); // Waits for the queued line.
    let lines = written.lines();
    let expected = serde_json::json!({
        "time": "2026-11-22T18:06:00.000Z",
        "peer": "2001:db8::1",
        "protocol": "h3",
        "method": "GET",
        "host": "live.example",
        "path": "/live/v0/p.m3u8",
        "query": "_HLS_msn=27&token=-",
        "kind": "media_playlist",
        "status": 200,
        "bytes": 1200,
        "first_byte_ms": 331.0,
        "duration_ms": 331.25,
        "held_ms": 330.0,
        "outcome": "held",
        "ending": "complete",
        "cache_status": "edge-1; fwd=uri-miss; collapsed",
        "one_in": 1,
    });
    assert_eq!(lines, [expected]);
}

#[tokio::test(start_paused = true)]
async fn sampling_never_drops_trouble() {
    let written = Written::default();
    let telemetry = telemetry(Some(AccessLog::to_writer(written.clone(), 100)));
    for _ in 0..250 {
        telemetry.record(Event::RequestFinished(finished()));
    }
    for _ in 0..5 {
        let failure = Some(Failure::ParentBroken);
        let status = Some(StatusCode::BAD_GATEWAY);
        let broken = FinishedRequest {
            failure,
            status,
            outcome: Outcome::Failed,
            ..finished()
        };
        telemetry.record(Event::RequestFinished(broken));
    }
    drop(telemetry);
    let weights: Vec<u64> = written
        .lines()
        .iter()
        .map(|l| l["one_in"].as_u64().unwrap())
        .collect();
    assert_eq!(weights, [100, 100, 100, 1, 1, 1, 1, 1]);
}

/// A writer that accepts nothing until it is let go.
struct Stuck(Arc<Mutex<()>>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _released = self.0.lock();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_stuck_log_writer_costs_lines_and_no_request() {
    let gate = Arc::new(Mutex::new(()));
    let stuck = gate.lock();
    let telemetry = telemetry(Some(AccessLog::to_writer(Stuck(Arc::clone(&gate)), 1)));
    for _ in 0..40_000 {
        telemetry.record(Event::RequestFinished(finished()));
    }
    let dropped: u64 = value_of(&telemetry.render(), "seawall_log_lines_dropped_total")
        .parse()
        .unwrap();
    assert!((7_000..=7_300).contains(&dropped), "{dropped}");
    drop(stuck);
}

#[test]
fn hostile_paths_stay_one_line_of_json() {
    let written = Written::default();
    let log = AccessLog::to_writer(written.clone(), 1);
    let hostile = FinishedRequest {
        path: "/\"\n\\u0000/\u{202e}",
        host: "a\"b",
        ..finished()
    };
    assert!(log.write(&hostile, SystemTime::UNIX_EPOCH));
    drop(log);
    assert_eq!(written.lines()[0]["path"], "/\"\n\\u0000/\u{202e}");
    assert_eq!(written.lines()[0]["time"], "1970-01-01T00:00:00.000Z");
}

#[tokio::test(start_paused = true)]
async fn upkeep_moves_samples_without_anyone_rendering() {
    let telemetry = telemetry(None);
    telemetry.record(Event::VersionPublished {
        age: Duration::ZERO,
    });
    let ran = tokio::time::timeout(UPKEEP_EVERY * 3, telemetry.keep_up()).await;
    assert!(ran.is_err(), "upkeep never ends by itself");
    assert_eq!(
        value_of(&telemetry.render(), "seawall_live_edge_lag_seconds_count"),
        "1"
    );
}

#[test]
fn the_metrics_page_lists_what_there_is_and_nothing_else() {
    let page = include_str!("../../../docs/metrics.md");
    for metric in CATALOG {
        let kind = match metric.kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        };
        let unit = match metric.unit {
            metrics::Unit::Bytes => "bytes",
            metrics::Unit::Seconds => "seconds",
            _ => "-",
        };
        let labels: Vec<String> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let labels = if labels.is_empty() {
            "-".to_owned()
        } else {
            labels.join(", ")
        };
        let (name, meaning) = (metric.name, metric.meaning);
        let row = format!("| `{name}` | {kind} | {unit} | {labels} | {meaning} |");
        assert!(
            page.lines().any(|line| line == row),
            "docs/metrics.md needs the line\n{row}"
        );
    }
    let rows = page.lines().filter(|line| line.starts_with("| `seawall_"));
    assert_eq!(
        rows.count(),
        CATALOG.len(),
        "docs/metrics.md lists what no longer exists"
    );
}

#[test]
fn the_metrics_page_lists_every_label_value_and_log_field() {
    use super::labels::LabelValue;
    fn texts<T: LabelValue>() -> Vec<&'static str> {
        T::ALL.iter().map(|value| value.text()).collect()
    }
    let page = include_str!("../../../docs/metrics.md");
    let values = [
        texts::<Protocol>(),
        texts::<StatusClass>(),
        texts::<Outcome>(),
        texts::<Kind>(),
        texts::<Failure>(),
        texts::<Class>(),
        texts::<Ending>(),
        texts::<FillEnding>(),
        texts::<FillReason>(),
        texts::<HoldResult>(),
        texts::<Misbehavior>(),
        texts::<NextObject>(),
        texts::<SecondAttempt>(),
    ];
    for value in values.concat() {
        assert!(
            page.contains(&format!("`{value}`")),
            "docs/metrics.md does not have `{value}`"
        );
    }
    let written = Written::default();
    let log = AccessLog::to_writer(written.clone(), 1);
    let every_field = FinishedRequest {
        failure: Some(Failure::HoldExpired),
        ..finished()
    };
    assert!(log.write(&every_field, SystemTime::UNIX_EPOCH));
    drop(log);
    for field in written.lines()[0].as_object().unwrap().keys() {
        assert!(
            page.contains(&format!("| `{field}` |")),
            "docs/metrics.md does not have {field}"
        );
    }
}
