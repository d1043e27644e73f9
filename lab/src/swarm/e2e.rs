//! Whole runs against a small origin, over every protocol.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio_util::sync::CancellationToken;

use super::client::{Client, Get, Keep, Network};
use super::stage::{self, PARTS, Script, Stage};
use super::*;

fn config(stage: &Stage, protocol: Protocol, path: &str) -> SwarmConfig {
    let (scheme, address) = match protocol {
        Protocol::Http1 => ("http", stage.clear),
        Protocol::Http2 => ("https", stage.secure),
        Protocol::Http3 => ("https", stage.quic),
    };
    SwarmConfig {
        protocol,
        trust: Trust::Pem(stage.certificate.clone()),
        connect_to: Some(address),
        // The end of the presentation ends the run; this only bounds a broken one.
        duration: Duration::from_secs(60),
        start_rendition: StartRendition::Lowest,
        ..SwarmConfig::new(format!("{scheme}://localhost:{}{path}", address.port()))
    }
}

fn play(config: &SwarmConfig) -> Report {
    run(config, &CancellationToken::new(), |_| {}).unwrap()
}

fn requests(report: &Report, name: &str) -> u64 {
    let by_object = &report.requests.by_object;
    by_object
        .iter()
        .find(|named| named.name == name)
        .unwrap()
        .count
}

fn errors(report: &Report, name: &str) -> u64 {
    let by_kind = &report.errors.by_kind;
    by_kind
        .iter()
        .find(|named| named.name == name)
        .unwrap()
        .count
}

/// A presentation of 8 segments, of which five and a part are published when the viewers come.
fn plays_to_the_end_over(protocol: Protocol) {
    let stage = Stage::start(Script::plain(8));
    let mut config = config(&stage, protocol, "/index.m3u8");
    config.viewers = 3;
    config.threads = 2;
    let report = play(&config);
    assert_eq!(report.errors.total, 0, "{report}");
    assert_eq!(report.viewers.finished, 3, "{report}");
    assert_eq!(report.playlists.regressions, 0);
    assert_eq!(report.playlists.unsatisfied_reloads, 0);
    assert_eq!(report.playlists.polls_on_a_timer, 0);
    assert_eq!(requests(&report, "multivariant"), 3);
    assert_eq!(requests(&report, "init"), 3 * 2);
    assert_eq!(report.playback.stalls, 0);
}

#[test]
fn a_viewer_asks_for_every_part_from_the_hold_back_on_exactly_once() {
    let stage = Stage::start(Script::plain(8));
    let report = play(&config(&stage, Protocol::Http2, "/v0/p.m3u8"));
    // From the independent part 0.75 s before the end (4.2) to 7.3.
    assert_eq!(requests(&report, "part"), PARTS * 3 + 2, "{report}");
    let first = 4 * PARTS + 2;
    for part in first..8 * PARTS {
        let uri = format!("/v0/s{}.{}.m4s", part / PARTS, part % PARTS);
        assert_eq!(stage.count(&uri), 1, "{uri}");
    }
    assert_eq!(requests(&report, "segment"), 0);
    assert_eq!(
        requests(&report, "playlist"),
        report.playlists.blocking_reloads
    );
}

#[test]
fn viewers_over_http_1_1_play_to_the_end() {
    plays_to_the_end_over(Protocol::Http1);
}

#[test]
fn viewers_over_http_2_by_alpn_play_to_the_end() {
    plays_to_the_end_over(Protocol::Http2);
}

#[test]
fn viewers_over_http_3_play_to_the_end() {
    plays_to_the_end_over(Protocol::Http3);
}

#[test]
fn http_2_works_in_the_clear_with_prior_knowledge_and_on_shared_connections() {
    let stage = Stage::start(Script::plain(8));
    let mut config = config(&stage, Protocol::Http2, "/v0/p.m3u8");
    config.url = format!("http://{}/v0/p.m3u8", stage.clear);
    config.connect_to = None;
    config.viewers = 6;
    config.viewers_per_connection = 3;
    let report = play(&config);
    assert_eq!(
        (report.errors.total, report.viewers.finished),
        (0, 6),
        "{report}"
    );
}

#[test]
fn a_list_that_cannot_block_is_polled() {
    let stage = Stage::start(Script {
        can_block: false,
        ..Script::plain(7)
    });
    let report = play(&config(&stage, Protocol::Http1, "/v0/p.m3u8"));
    assert_eq!(
        (report.errors.total, report.viewers.finished),
        (0, 1),
        "{report}"
    );
    assert_eq!(report.playlists.blocking_reloads, 0);
    assert!(report.playlists.polls_on_a_timer > 0);
    assert!(requests(&report, "segment") > 0);
}

#[test]
fn delta_updates_are_asked_for_and_merged() {
    let stage = Stage::start(Script::plain(9));
    let report = play(&config(&stage, Protocol::Http2, "/v0/p.m3u8"));
    assert_eq!(report.errors.total, 0, "{report}");
    assert!(report.playlists.delta_updates > 0);
    assert_eq!(report.playlists.delta_misfits, 0);
}

#[test]
fn what_is_wrong_with_a_body_or_status_is_counted_by_kind_and_playing_goes_on() {
    let mut script = Script::plain(8);
    script.meddle = Box::new(|target, asked| match (target, asked) {
        ("/v0/s6.0.m4s", 1) => Some(Response::new(Bytes::from_static(b"<html>oops"))),
        ("/v0/s6.1.m4s", 1) => Some(stage::status(StatusCode::SERVICE_UNAVAILABLE)),
        ("/v0/s6.2.m4s", _) => Some(stage::status(StatusCode::GONE)),
        _ => None,
    });
    let stage = Stage::start(script);
    let report = play(&config(&stage, Protocol::Http1, "/v0/p.m3u8"));
    assert_eq!(report.viewers.finished, 1, "{report}");
    assert_eq!(errors(&report, "bad_content"), 1, "{report}");
    assert_eq!(errors(&report, "status_5xx"), 1, "{report}");
    assert_eq!(errors(&report, "status_4xx"), 3, "{report}");
    assert_eq!(report.media.gaps, 1, "{report}");
}

#[test]
fn a_playlist_that_runs_backwards_is_counted() {
    let mut script = Script::plain(8);
    script.meddle = Box::new(|target, asked| {
        let is_it = target.starts_with("/v0/p.m3u8?_HLS_msn=6&_HLS_part=2") && asked == 1;
        let old = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n\
            #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n#EXT-X-PART-INF:PART-TARGET=0.25\n\
            #EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\ns0.m4s\n";
        is_it.then(|| stage::text(old.to_owned()))
    });
    let stage = Stage::start(script);
    let report = play(&config(&stage, Protocol::Http2, "/v0/p.m3u8"));
    assert_eq!(report.playlists.regressions, 1, "{report}");
    assert_eq!(report.playlists.unsatisfied_reloads, 1, "{report}");
    assert_eq!(report.viewers.finished, 1, "{report}");
}

#[test]
fn a_server_that_is_not_there_is_an_error_of_the_viewers_not_of_the_run() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let gone = listener.local_addr().unwrap();
    drop(listener);
    let config = SwarmConfig::new(format!("http://{gone}/index.m3u8"));
    let stop = CancellationToken::new();
    let report = run(&config, &stop, |now| {
        if now.errors > 0 {
            stop.cancel();
        }
    });
    let report = report.unwrap();
    assert!(errors(&report, "connect") > 0, "{report}");
    let why = "no connection: the transport refused: Connection refused";
    assert!(report.errors.samples.concat().contains(why), "{report}");
    assert_eq!(report.viewers.played, 0);
}

#[test]
fn a_certificate_nobody_vouches_for_is_refused_unless_told_otherwise() {
    let stage = Stage::start(Script::plain(6));
    let other = Stage::start(Script::plain(6));
    let mut config = config(&stage, Protocol::Http3, "/v0/p.m3u8");
    config.trust = Trust::Pem(other.certificate.clone());
    config.duration = Duration::from_millis(500);
    assert_eq!(play(&config).viewers.played, 0);
    config.trust = Trust::Insecure;
    config.duration = Duration::from_secs(60);
    assert_eq!(play(&config).viewers.finished, 1);
}

#[test]
fn the_report_reads_as_text_and_as_json() {
    let stage = Stage::start(Script::plain(7));
    let report = play(&config(&stage, Protocol::Http2, "/index.m3u8"));
    let text = report.to_string();
    for word in [
        "viewers",
        "requests",
        "added latency",
        "stalls",
        "ran backwards",
    ] {
        assert!(text.contains(word), "{word} is missing in:\n{text}");
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["viewers"]["finished"], 1);
    assert!(json["added_latency"]["part"]["p99_ms"].is_number());
}

#[test]
fn what_is_published_before_a_run_has_settled_is_not_timed() {
    let stage = Stage::start(Script::plain(7));
    let mut config = config(&stage, Protocol::Http2, "/index.m3u8");
    config.settle = Duration::from_secs(3600);
    let report = play(&config);
    assert_eq!(report.viewers.finished, 1);
    assert!(report.added_latency.part.is_none() && report.added_latency.playlist.is_none());
    assert_eq!(report.added_latency.clock_skews, 0);
}

#[test]
fn numbers_out_of_range_are_named() {
    let mut config = SwarmConfig::new("http://localhost/x.m3u8");
    config.viewers = 0;
    let refused = run(&config, &CancellationToken::new(), |_| {});
    assert_eq!(
        refused.unwrap_err().to_string(),
        "viewers is 0, allowed is 1 to 200000"
    );
    config = SwarmConfig::new("http://localhost/x.m3u8");
    config.protocol = Protocol::Http3;
    let refused = run(&config, &CancellationToken::new(), |_| {});
    assert!(matches!(refused, Err(SwarmError::ClearHttp3)));
}

fn a_dropped_fetch_cancels_on_the_wire_over(protocol: Protocol) {
    let stage = Stage::start(Script::plain(6));
    let config = config(&stage, protocol, "/never");
    let state = std::sync::Arc::clone(&stage.state);
    fleet::run_apart(async move {
        let network = Network::new(protocol, &config.trust, config.connect_to).unwrap();
        let client = Client::new(std::sync::Arc::clone(&network), protocol, 6);
        let get = Get {
            location: Location::parse(&config.url).unwrap(),
            range: None,
            keep: Keep::Nothing,
        };
        let (mut asked, mut cancelled) =
            (state.asked_never.subscribe(), state.cancelled.subscribe());
        tokio::select! {
            got = client.fetch(&get) => panic!("{got:?}"),
            asked = asked.wait_for(|asked| *asked == 1) => drop(asked.unwrap()),
        }
        // The fetch is dropped here; only its cancellation lets this go on.
        cancelled
            .wait_for(|cancelled| *cancelled == 1)
            .await
            .unwrap();
        network.close().await;
    })
    .unwrap();
}

#[test]
fn pl_01_an_abort_over_http_1_1_closes_the_socket() {
    a_dropped_fetch_cancels_on_the_wire_over(Protocol::Http1);
}

#[test]
fn pl_01_an_abort_over_http_2_resets_the_stream() {
    a_dropped_fetch_cancels_on_the_wire_over(Protocol::Http2);
}

#[test]
fn pl_01_an_abort_over_http_3_stops_the_stream() {
    a_dropped_fetch_cancels_on_the_wire_over(Protocol::Http3);
}

#[test]
fn plain_load_gets_as_many_answers_as_it_was_told_over_every_protocol() {
    for (protocol, streams) in [
        (Protocol::Http1, 1),
        (Protocol::Http2, 4),
        (Protocol::Http3, 4),
    ] {
        let stage = Stage::start(Script::plain(6));
        let swarm = config(&stage, protocol, "/v0/init.mp4");
        let other = swarm.url.replace("init.mp4", "s0.0.m4s");
        let report = load(
            &LoadConfig {
                urls: vec![swarm.url, other],
                protocol,
                connections: 3,
                streams_per_connection: streams,
                until: Until::Requests(100),
                timeout: Duration::from_secs(60),
                connect_to: swarm.connect_to,
                trust: swarm.trust,
                threads: 2,
            },
            &CancellationToken::new(),
            |_| {},
        )
        .unwrap();
        assert_eq!((report.answered, report.errors), (100, 0), "{report}");
        assert_eq!(
            stage.count("/v0/init.mp4") + stage.count("/v0/s0.0.m4s"),
            100
        );
        assert!(stage.count("/v0/init.mp4") >= 40, "the urls take turns");
    }
}

#[test]
fn plain_load_counts_what_is_not_200() {
    let stage = Stage::start(Script::plain(6));
    let swarm = config(&stage, Protocol::Http2, "/v0/nothing");
    let report = load(
        &LoadConfig {
            urls: vec![swarm.url],
            protocol: Protocol::Http2,
            connections: 1,
            streams_per_connection: 2,
            until: Until::Requests(10),
            timeout: Duration::from_secs(60),
            connect_to: swarm.connect_to,
            trust: swarm.trust,
            threads: 1,
        },
        &CancellationToken::new(),
        |_| {},
    )
    .unwrap();
    assert_eq!((report.answered, report.errors), (0, 10));
}

#[test]
fn held_requests_follow_the_playlist_until_it_ends() {
    for (protocol, connections) in [
        (Protocol::Http1, 4),
        (Protocol::Http2, 2),
        (Protocol::Http3, 1),
    ] {
        let stage = Stage::start(Script::plain(8));
        let swarm = config(&stage, protocol, "/v0/p.m3u8");
        let report = hold(
            &HoldConfig {
                url: swarm.url,
                protocol,
                requests: 4,
                connections,
                asks: HoldAsks::NextPart,
                duration: Duration::from_secs(60),
                connect_to: swarm.connect_to,
                trust: swarm.trust,
                threads: 1,
            },
            &CancellationToken::new(),
            |_| {},
        )
        .unwrap();
        assert_eq!(report.end.errors, 0, "{report}");
        assert!(report.in_place_max >= 1);
        assert!(report.end.answers > 4, "{report}");
    }
}

#[test]
fn viewers_that_give_requests_up_and_switch_still_see_the_end() {
    let stage = Stage::start(Script::plain(9));
    let mut config = config(&stage, Protocol::Http2, "/index.m3u8");
    config.viewers = 4;
    config.abort_probability = 0.5;
    config.abr_switch_every = Some(Duration::from_millis(100));
    let report = play(&config);
    assert_eq!(
        (report.errors.total, report.viewers.finished),
        (0, 4),
        "{report}"
    );
    assert_eq!(report.playlists.regressions, 0, "{report}");
}

#[test]
fn a_cancelled_run_ends_and_reports() {
    let stage = Stage::start(Script::plain(9));
    let mut script = config(&stage, Protocol::Http2, "/never");
    script.duration = Duration::from_secs(600);
    let stop = CancellationToken::new();
    let mut asked = stage.state.asked_never.subscribe();
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            let waiting = async { drop(asked.wait_for(|asked| *asked == 1).await.unwrap()) };
            fleet::run_apart(waiting).unwrap();
            stop.cancel();
        });
        run(&script, &stop, |_| {}).unwrap()
    });
    assert_eq!(
        (report.requests.unfinished, report.errors.total),
        (1, 0),
        "{report}"
    );
}

#[test]
fn the_origins_counts_are_part_of_the_report() {
    let mut script = Script::plain(6);
    script.meddle = Box::new(|target, _| {
        let counts = r#"{"objects":2,"requests":3,"requests_per_object_max":2,
            "by_kind":{"part":{"objects":2,"requests":3,"max":2}}}"#;
        (target == "/origin/counts.json").then(|| stage::text(counts.to_owned()))
    });
    let stage = Stage::start(script);
    let mut config = config(&stage, Protocol::Http2, "/v0/p.m3u8");
    config.counts_url = Some(format!("http://{}/origin/counts.json", stage.clear));
    let report = play(&config);
    let origin = report.origin.as_ref().unwrap();
    assert_eq!((origin.requests, origin.by_kind["part"].max), (3, 2));
    assert!(report.to_string().contains("1.50 per object"), "{report}");
    config.counts_url = Some(format!("http://{}/nothing", stage.clear));
    assert_eq!(
        play(&config).origin_error.as_deref(),
        Some("status 404 Not Found")
    );
}
