//! Parents that fail: what is tried again, where, and what is never tried again.

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nwhole body";

fn failures(upstream: &Upstream, parent: usize) -> u32 {
    upstream.parents()[parent].failures_in_a_row
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_cannot_be_reached_is_replaced_by_the_next() {
    for (door, delay) in [
        (Door::Refusing, Duration::ZERO),
        (Door::Silent, Duration::from_secs(2)),
        (Door::Mute, Duration::from_secs(2)),
        (Door::Slamming, Duration::ZERO),
    ] {
        let site = Site::new(&[HTTP2, HTTP2]);
        site.parents[0].set_door(door);
        let upstream = site.upstream();
        let asked_at = Instant::now();
        let parent = get(&upstream, &bulk("/a")).await.unwrap();
        assert_eq!((parent, asked_at.elapsed()), (ParentId(1), delay));
        assert_eq!(failures(&upstream, 0), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_closes_an_http1_connection_at_once_is_replaced_by_the_next() {
    let site = Site::new(&[HTTP1, HTTP1]);
    site.parents[0].set_door(Door::Slamming);
    let upstream = site.upstream();
    assert_eq!(get(&upstream, &bulk("/a")).await.unwrap(), ParentId(1));
    assert_eq!(failures(&upstream, 0), 1);
}

#[tokio::test(start_paused = true)]
async fn what_stood_in_the_way_is_told_when_no_parent_can_be_reached() {
    let site = Site::new(&[HTTP1, HTTP1]);
    site.parents[0].set_door(Door::Refusing);
    site.parents[1].set_door(Door::Silent);
    let upstream = site.upstream();
    let error = upstream.fetch(&bulk("/a")).await.unwrap_err();
    let UpstreamError::Connect { parent, source } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*parent, ParentId(1));
    assert!(matches!(**source, ConnectError::Timeout));
    assert_eq!(error.parent(), Some(ParentId(1)));
    assert_eq!(
        error.to_string(),
        "no connection to the parent could be opened"
    );
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_the_same_connection_count_as_one_failure() {
    let site = Site::new(&[HTTP2, HTTP2]);
    site.parents[0].set_door(Door::Silent);
    let upstream = site.upstream();
    let answers = start(&upstream, &bulk("/a"), 100).join_all().await;
    assert!(answers.iter().all(|a| matches!(a, Ok(ParentId(1)))));
    assert_eq!(
        (site.parents[0].connections(), failures(&upstream, 0)),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_spares_requests_the_connect_timeout_until_a_probe_answers() {
    let site = Site::new(&[HTTP1, HTTP1]);
    site.parents[0].set_door(Door::Silent);
    let upstream = site.upstream();
    // Presentations of their own, so that none stays where another one went.
    let other = |n: u32| ForwardRequest {
        affinity: format!("/live/{n}/"),
        ..bulk("/a")
    };
    for n in 0..3 {
        assert_eq!(get(&upstream, &other(n)).await.unwrap(), ParentId(1));
    }
    assert_eq!(upstream.parents()[0].circuit, CircuitStatus::Open);
    let asked_at = Instant::now();
    for n in 3..20 {
        assert_eq!(get(&upstream, &other(n)).await.unwrap(), ParentId(1));
    }
    assert_eq!(asked_at.elapsed(), Duration::ZERO);
    assert_eq!(site.parents[0].connections(), 3);

    // Half open: one request of many finds out, the others do not wait for it.
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    let probe = start(&upstream, &other(20), 1);
    settle().await;
    assert_eq!(upstream.parents()[0].circuit, CircuitStatus::HalfOpen);
    let asked_at = Instant::now();
    assert_eq!(get(&upstream, &other(21)).await.unwrap(), ParentId(1));
    assert_eq!(asked_at.elapsed(), Duration::ZERO);
    assert!(
        probe
            .join_all()
            .await
            .iter()
            .all(|a| matches!(a, Ok(ParentId(1))))
    );
    assert_eq!(upstream.parents()[0].circuit, CircuitStatus::Open);

    // The next probe waits twice as long, and is answered.
    site.parents[0].set_door(Door::Open);
    tokio::time::sleep(Duration::from_millis(1_400)).await;
    assert_eq!(get(&upstream, &other(22)).await.unwrap(), ParentId(1));
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(get(&upstream, &other(23)).await.unwrap(), ParentId(0));
    assert_eq!(upstream.parents()[0].circuit, CircuitStatus::Closed);
    assert_eq!(get(&upstream, &other(24)).await.unwrap(), ParentId(0));
}

#[tokio::test(start_paused = true)]
async fn a_single_parent_is_asked_however_often_it_failed() {
    let site = Site::new(&[HTTP1]);
    site.parents[0].set_door(Door::Refusing);
    let upstream = site.upstream();
    for _ in 0..10 {
        upstream.fetch(&bulk("/a")).await.unwrap_err();
    }
    assert_eq!(upstream.parents()[0].circuit, CircuitStatus::Open);
    site.parents[0].set_door(Door::Open);
    get(&upstream, &bulk("/a")).await.unwrap();
    assert_eq!(upstream.parents()[0].circuit, CircuitStatus::Closed);
}

#[tokio::test(start_paused = true)]
async fn retries_stay_within_their_budget() {
    let site = Site::new(&[HTTP1, HTTP1]).limits(|l| {
        l.retry_budget_percent = 10;
        l.retry_reserve_max = 2;
        l.failures_max = u32::MAX;
    });
    site.parents[0].set_door(Door::Refusing);
    let upstream = site.upstream();
    let mut answered = 0;
    for n in 0..102 {
        let request = ForwardRequest {
            affinity: format!("/live/{n}/"),
            ..bulk("/a")
        };
        answered += usize::from(upstream.fetch(&request).await.is_ok());
    }
    // Two from the reserve, one more for every ten requests; the first two could not save anything.
    assert_eq!(answered, 12);
}

#[tokio::test(start_paused = true)]
async fn a_dead_kept_http1_connection_costs_one_replay_and_no_failure() {
    let site = Site::new(&[HTTP1]).limits(|l| {
        l.retry_budget_percent = 0;
        l.retry_reserve_max = 0;
    });
    let upstream = site.upstream();
    get(&upstream, &bulk("/a")).await.unwrap();
    settle().await;
    // The parent reads the request on the kept connection and closes it without a byte.
    get(&upstream, &bulk("/hangup")).await.unwrap();
    let seen: Vec<_> = site.parents[0]
        .seen()
        .iter()
        .map(|s| (s.connection, s.nth))
        .collect();
    assert_eq!(seen, [(0, 0), (0, 1), (1, 0)]);
    assert_eq!(failures(&upstream, 0), 0);
}

#[tokio::test(start_paused = true)]
async fn kept_connections_that_a_restarted_parent_closed_disturb_nobody() {
    for wire in [HTTP1, HTTP2] {
        let site = Site::new(&[wire]);
        let upstream = site.upstream();
        let held = start(&upstream, &bulk("/park"), 20);
        site.parents[0].parked(20).await;
        site.parents[0].release(20);
        assert!(held.join_all().await.iter().all(Result::is_ok));
        settle().await;
        // No pause between the cut and the requests: what is kept is dead, and nobody knows yet.
        site.parents[0].cut_connections();
        let answers = start(&upstream, &bulk("/a"), 20).join_all().await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert_eq!(failures(&upstream, 0), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_held_when_their_kept_connection_dies_are_asked_again() {
    for wire in [HTTP1, HTTP2] {
        let site = Site::new(&[wire]);
        let upstream = site.upstream();
        get(&upstream, &parked("/a")).await.unwrap();
        settle().await;
        let held = start(&upstream, &parked("/park"), 1);
        site.parents[0].parked(1).await;
        site.parents[0].cut_connections();
        settle().await;
        site.parents[0].parked(1).await;
        site.parents[0].release(1);
        assert!(held.join_all().await.iter().all(Result::is_ok));
        assert_eq!(site.parents[0].connections(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_replayed_once_and_not_for_ever() {
    let site = Site::new(&[HTTP1]);
    site.parents[0].set_door(Door::ByHand(&[OK]));
    let upstream = site.upstream();
    get(&upstream, &bulk("/a")).await.unwrap();
    // The kept connection is dead, and so is every new one.
    site.parents[0].set_door(Door::Slamming);
    let error = upstream.fetch(&bulk("/a")).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Lost { .. }), "{error:?}");
    assert_eq!(site.parents[0].connections(), 2);
    assert_eq!(failures(&upstream, 0), 1);
}

#[tokio::test(start_paused = true)]
async fn rfc_9110_9_2_2_what_is_not_idempotent_is_sent_once_only() {
    for (method, sent) in [(Method::POST, 1), (Method::PATCH, 1), (Method::PUT, 2)] {
        let site = Site::new(&[HTTP1, HTTP1]);
        let upstream = site.upstream();
        get(&upstream, &bulk("/a")).await.unwrap();
        settle().await;
        // The parent reads the request on the kept connection and closes it without a byte.
        let request = ForwardRequest {
            method: method.clone(),
            body: Bytes::from_static(b"once"),
            ..bulk("/hangup")
        };
        let answered = upstream.fetch(&request).await;
        assert_eq!(answered.is_ok(), sent == 2, "{method}: {answered:?}");
        let asked = |n: usize| site.parents[n].seen();
        let times = asked(0).iter().filter(|s| s.method == method).count();
        assert_eq!((times, asked(1).len()), (sent, 0), "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc_9110_9_2_2_what_was_never_sent_may_go_to_the_next_parent_whatever_the_method() {
    let site = Site::new(&[HTTP1, HTTP1]);
    site.parents[0].set_door(Door::Refusing);
    let request = ForwardRequest {
        method: Method::POST,
        body: Bytes::from_static(b"once"),
        ..bulk("/a")
    };
    let parent = get(&site.upstream(), &request).await.unwrap();
    assert_eq!(parent, ParentId(1));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_replayed_after_the_first_byte_of_an_answer() {
    let site = Site::new(&[HTTP1, HTTP1]);
    site.parents[0].set_door(Door::ByHand(&[OK, "HTTP/1.1 200 OK\r\ncontent-le"]));
    let upstream = site.upstream();
    get(&upstream, &bulk("/a")).await.unwrap();
    settle().await;
    let error = upstream.fetch(&bulk("/a")).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Lost { .. }), "{error:?}");
    let connections = site.parents.iter().map(|p| p.connections());
    assert_eq!(connections.collect::<Vec<_>>(), [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_cut_short_ends_with_an_error_and_is_asked_for_once() {
    for wire in [HTTP1, HTTP2] {
        let site = Site::new(&[wire.clone(), wire]);
        let upstream = site.upstream();
        let mut response = upstream.fetch(&bulk("/drip")).await.unwrap();
        let first = response.body.frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), FIRST_CHUNK);
        site.parents[0].cut_connections();
        read(response).await.unwrap_err();
        let asked = |n: usize| site.parents[n].seen().len();
        assert_eq!((asked(0), asked(1)), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_claims_more_than_it_sends_is_not_whole() {
    let site = Site::new(&[HTTP1]);
    site.parents[0].set_door(Door::ByHand(&[
        "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nwhole body",
    ]));
    let upstream = site.upstream();
    let response = upstream.fetch(&bulk("/a")).await.unwrap();
    assert!(read(response).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_head_beyond_its_limit_is_refused() {
    static ENDLESS: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(80_000))
    });
    static ANSWERS: std::sync::LazyLock<[&'static str; 1]> =
        std::sync::LazyLock::new(|| [ENDLESS.as_str()]);
    let site = Site::new(&[HTTP1]);
    site.parents[0].set_door(Door::ByHand(&*ANSWERS));
    let error = site.upstream().fetch(&bulk("/a")).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Lost { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_parent_is_given_up_after_the_first_byte_timeout_of_the_class() {
    for wire in [HTTP1, HTTP2] {
        let site = Site::new(&[wire.clone(), wire]);
        let upstream = site.upstream();
        for (request, limit) in [(bulk("/park"), 5), (parked("/park"), 20)] {
            let asked_at = Instant::now();
            let error = upstream.fetch(&request).await.unwrap_err();
            assert!(matches!(
                error,
                UpstreamError::FirstByteTimeout {
                    parent: ParentId(0)
                }
            ));
            assert_eq!(asked_at.elapsed(), Duration::from_secs(limit));
        }
        // The parent had the request: it is not asked of another one.
        assert!(site.parents[1].seen().is_empty());
        assert_eq!(failures(&upstream, 0), 2);
        // Given up means taken back.
        site.parents[0].parked(0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn all_attempts_together_take_no_longer_than_one_may() {
    let site = Site::new(&[HTTP1, HTTP1, HTTP1, HTTP1]);
    for parent in &site.parents {
        parent.set_door(Door::Silent);
    }
    let upstream = site.upstream();
    let asked_at = Instant::now();
    upstream.fetch(&bulk("/a")).await.unwrap_err();
    assert!(
        asked_at.elapsed() <= Duration::from_secs(9),
        "{:?}",
        asked_at.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_status_is_an_answer_and_counts_against_the_parent() {
    let site = Site::new(&[HTTP1, HTTP1]);
    let upstream = site.upstream();
    for failures_in_a_row in 1..=3 {
        let response = upstream.fetch(&bulk("/status/502")).await.unwrap();
        assert_eq!(
            (response.head.status, response.parent),
            (StatusCode::BAD_GATEWAY, ParentId(0))
        );
        read(response).await.unwrap();
        assert_eq!(failures(&upstream, 0), failures_in_a_row);
    }
    assert_eq!(get(&upstream, &bulk("/a")).await.unwrap(), ParentId(1));
}

#[tokio::test(start_paused = true)]
async fn ca_19_missing_resources_never_move_a_presentation() {
    let site = Site::new(&[HTTP1, HTTP1]);
    let upstream = site.upstream();
    for _ in 0..20 {
        let response = upstream.fetch(&bulk("/status/404")).await.unwrap();
        assert_eq!(response.parent, ParentId(0));
    }
    assert_eq!(upstream.parents()[0].circuit, CircuitStatus::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_a_draining_parent_did_not_take_goes_to_a_new_connection() {
    for wire in [HTTP1, HTTP2] {
        let site = Site::new(&[wire]);
        let upstream = site.upstream();
        let held = start(&upstream, &parked("/park"), 10);
        site.parents[0].parked(10).await;
        // GOAWAY, or `Connection: close`, with ten exchanges under way that the parent still finishes.
        site.parents[0].drain();
        let answers = start(&upstream, &parked("/a"), 30).join_all().await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        site.parents[0].release(10);
        assert!(held.join_all().await.iter().all(Result::is_ok));
        assert_eq!(failures(&upstream, 0), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_on_a_dead_kept_http2_connection_shares_one_new_connection() {
    let site = Site::new(&[HTTP2]);
    let upstream = site.upstream();
    get(&upstream, &parked("/a")).await.unwrap();
    let held = start(&upstream, &parked("/park"), 50);
    site.parents[0].parked(50).await;
    site.parents[0].cut_connections();
    settle().await;
    site.parents[0].parked(50).await;
    site.parents[0].release(50);
    assert!(held.join_all().await.iter().all(Result::is_ok));
    assert_eq!(site.parents[0].connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_silent_altogether_is_not_used_again() {
    for wire in [HTTP1, HTTP2] {
        let site = Site::new(&[wire]);
        let upstream = site.upstream();
        get(&upstream, &bulk("/a")).await.unwrap();
        settle().await;
        site.parents[0].freeze();
        let hasty = ForwardRequest {
            first_byte_timeout: Duration::from_secs(1),
            ..bulk("/a")
        };
        let error = upstream.fetch(&hasty).await.unwrap_err();
        assert!(
            matches!(error, UpstreamError::FirstByteTimeout { .. }),
            "{error:?}"
        );
        get(&upstream, &hasty).await.unwrap();
        assert_eq!(site.parents[0].connections(), 2);
    }
}
