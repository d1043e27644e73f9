//! Connections: how many, for whom, and what becomes of them.

use super::*;

#[tokio::test(start_paused = true)]
async fn fm_19_a_segment_starts_at_once_with_200_requests_parked() {
    for wire in [HTTP1, HTTP2] {
        let site = Site::new(std::slice::from_ref(&wire));
        let upstream = site.upstream();
        let held = start(&upstream, &parked("/park"), 200);
        site.parents[0].parked(200).await;
        let asked_at = Instant::now();
        get(&upstream, &bulk("/segment.m4s")).await.unwrap();
        assert_eq!(asked_at.elapsed(), Duration::ZERO);
        settle().await;
        let status = &upstream.parents()[0];
        let connections = if matches!(wire, Wire::Http1) { 200 } else { 2 };
        assert_eq!(status.parked.connections, connections);
        assert_eq!((status.parked.exchanges, status.parked.waiting), (200, 0));
        assert_eq!((status.bulk.connections, status.bulk.exchanges), (1, 0));
        site.parents[0].release(200);
        assert!(held.join_all().await.iter().all(Result::is_ok));
        settle().await;
        assert_eq!(upstream.parents()[0].parked.exchanges, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_parents_stream_limit_opens_more_connections() {
    let site = Site::new(&[Wire::Http2 { streams_max: 10 }]);
    let upstream = site.upstream();
    let held = start(&upstream, &parked("/park"), 25);
    site.parents[0].parked(25).await;
    let mut per_connection = [0; 3];
    for seen in site.parents[0].seen() {
        per_connection[seen.connection] += 1;
    }
    assert_eq!(per_connection, [10, 10, 5]);
    site.parents[0].release(25);
    assert!(held.join_all().await.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn our_own_stream_limit_holds_when_the_parent_has_none_or_a_higher_one() {
    let site = Site::new(&[HTTP2]).limits(|l| l.streams_per_connection_max = 4);
    let upstream = site.upstream();
    let _held = start(&upstream, &parked("/park"), 9);
    site.parents[0].parked(9).await;
    assert_eq!(site.parents[0].connections(), 3);
}

#[tokio::test(start_paused = true)]
async fn requests_that_come_together_share_one_new_http2_connection() {
    let site = Site::new(&[HTTP2]);
    let upstream = site.upstream();
    let answers = start(&upstream, &bulk("/a"), 50).join_all().await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(site.parents[0].connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_kept_http1_connection_is_used_again() {
    let site = Site::new(&[HTTP1]);
    let upstream = site.upstream();
    for _ in 0..5 {
        get(&upstream, &bulk("/a")).await.unwrap();
    }
    assert_eq!(site.parents[0].connections(), 1);
    assert_eq!(site.parents[0].seen().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn beyond_the_connection_limit_requests_wait_in_order() {
    for (wire, connections) in [(HTTP1, 2), (Wire::Http2 { streams_max: 1 }, 2)] {
        let site = Site::new(&[wire]).limits(|l| l.connections_per_parent_max = connections);
        let upstream = site.upstream();
        let mut requests = JoinSet::new();
        for n in 0..6 {
            let upstream = upstream.clone();
            requests.spawn(async move { get(&upstream, &parked(&format!("/park/{n}"))).await });
            settle().await;
        }
        site.parents[0].parked(2).await;
        assert_eq!(upstream.parents()[0].parked.waiting, 4);
        for _ in 0..6 {
            site.parents[0].release(1);
            requests.join_next().await.unwrap().unwrap().unwrap();
            settle().await;
        }
        let paths: Vec<String> = site.parents[0]
            .seen()
            .iter()
            .map(|s| s.uri.path().to_owned())
            .collect();
        let expected: Vec<String> = (0..6).map(|n| format!("/park/{n}")).collect();
        assert_eq!(paths, expected);
        assert_eq!(site.parents[0].connections(), connections);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_by_name() {
    let site = Site::new(&[HTTP1]).limits(|l| {
        l.connections_per_parent_max = 1;
        l.waiting_max = 2;
    });
    let upstream = site.upstream();
    let mut held = start(&upstream, &parked("/park"), 1);
    site.parents[0].parked(1).await;
    let mut waiting = start(&upstream, &parked("/park"), 2);
    settle().await;
    let refused = upstream.fetch(&parked("/park")).await;
    assert!(matches!(
        refused,
        Err(UpstreamError::QueueFull {
            parent: ParentId(0)
        })
    ));
    // Who leaves the queue makes room in it, and the other class never was in it.
    get(&upstream, &bulk("/a")).await.unwrap();
    waiting.shutdown().await;
    let waiting = start(&upstream, &parked("/a"), 2);
    settle().await;
    assert_eq!(upstream.parents()[0].parked.waiting, 2);
    held.shutdown().await;
    assert!(waiting.join_all().await.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_connection_ends_after_twice_the_connect_timeout() {
    let site = Site::new(&[HTTP1]).limits(|l| l.connections_per_parent_max = 1);
    let upstream = site.upstream();
    let _held = start(&upstream, &parked("/park"), 1);
    site.parents[0].parked(1).await;
    let asked_at = Instant::now();
    let refused = upstream.fetch(&parked("/park")).await;
    assert!(matches!(refused, Err(UpstreamError::QueueTimeout { .. })));
    assert_eq!(asked_at.elapsed(), Duration::from_secs(4));
    // A queue is not a fault of the parent.
    assert_eq!(upstream.parents()[0].failures_in_a_row, 0);
}

#[tokio::test(start_paused = true)]
async fn an_unused_connection_is_closed_after_the_idle_timeout() {
    for wire in [HTTP1, HTTP2] {
        let site = Site::new(&[wire]);
        let upstream = site.upstream();
        get(&upstream, &bulk("/a")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert_eq!(site.parents[0].open.load(Ordering::SeqCst), 1);
        get(&upstream, &bulk("/a")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert_eq!(upstream.parents()[0].bulk.connections, 1);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let connections = upstream.parents()[0].bulk;
        assert_eq!((connections.connections, connections.opened), (0, 1));
        settle().await;
        assert_eq!(site.parents[0].open.load(Ordering::SeqCst), 0);
        assert_eq!(site.tasks.running(), 0);
        get(&upstream, &bulk("/a")).await.unwrap();
        assert_eq!(site.parents[0].connections(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_a_held_request_is_not_idle() {
    let site = Site::new(&[HTTP2]).limits(|l| l.idle_timeout = Duration::from_secs(1));
    let upstream = site.upstream();
    let held = start(&upstream, &parked("/park"), 1);
    site.parents[0].parked(1).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    site.parents[0].release(1);
    assert!(held.join_all().await.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn leaving_before_the_head_resets_the_stream_and_keeps_the_connection() {
    let site = Site::new(&[HTTP2]);
    let upstream = site.upstream();
    let mut held = start(&upstream, &parked("/park"), 100);
    site.parents[0].parked(100).await;
    held.shutdown().await;
    // The parent sees the resets, and the places are free again.
    site.parents[0].parked(0).await;
    assert_eq!(upstream.parents()[0].parked.exchanges, 0);
    let again = start(&upstream, &parked("/a"), 100);
    assert!(again.join_all().await.iter().all(Result::is_ok));
    assert_eq!(site.parents[0].connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn leaving_before_the_head_closes_an_http1_connection_and_frees_its_place() {
    let site = Site::new(&[HTTP1]).limits(|l| l.connections_per_parent_max = 1);
    let upstream = site.upstream();
    let mut held = start(&upstream, &parked("/park"), 1);
    site.parents[0].parked(1).await;
    held.shutdown().await;
    get(&upstream, &parked("/a")).await.unwrap();
    site.parents[0].parked(0).await;
    assert_eq!(site.parents[0].connections(), 2);
    assert_eq!(upstream.parents()[0].parked.connections, 1);
}

#[tokio::test(start_paused = true)]
async fn leaving_in_the_middle_of_a_body_leaves_the_pool_usable() {
    for (wire, connections) in [(HTTP1, 2), (HTTP2, 1)] {
        let site = Site::new(&[wire]).limits(|l| l.connections_per_parent_max = 1);
        let upstream = site.upstream();
        let mut response = upstream.fetch(&bulk("/drip")).await.unwrap();
        let first = response.body.frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), FIRST_CHUNK);
        assert_eq!(upstream.parents()[0].bulk.exchanges, 1);
        drop(response);
        site.parents[0].parked(0).await;
        get(&upstream, &bulk("/a")).await.unwrap();
        assert_eq!(site.parents[0].connections(), connections);
        settle().await;
        assert_eq!(upstream.parents()[0].bulk.exchanges, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_a_connection_is_opened_leaves_it_to_the_next() {
    let site = Site::new(&[HTTP2]);
    let upstream = site.upstream();
    let request = bulk("/a");
    let mut left = Box::pin(upstream.fetch(&request));
    assert!(left.as_mut().now_or_never().is_none());
    drop(left);
    get(&upstream, &request).await.unwrap();
    assert_eq!(site.parents[0].connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn fm_21_a_parent_that_vanishes_is_noticed_while_requests_are_parked() {
    let site = Site::new(&[HTTP2]);
    let upstream = site.upstream();
    let held = start(&upstream, &parked("/park"), 3);
    site.parents[0].parked(3).await;
    site.parents[0].freeze();
    let frozen_at = Instant::now();
    let lost = held.join_all().await;
    assert!(
        lost.iter()
            .all(|r| matches!(r, Err(UpstreamError::Lost { .. })))
    );
    // One ping below 5 s, and its timeout: long before the first byte timeout of 20 s.
    assert!(
        frozen_at.elapsed() <= Duration::from_secs(8),
        "{:?}",
        frozen_at.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_ends_closes_its_connections_and_opens_none() {
    for wire in [HTTP1, HTTP2] {
        let site = Site::new(&[wire]);
        let upstream = site.upstream();
        get(&upstream, &bulk("/a")).await.unwrap();
        let held = start(&upstream, &parked("/park"), 5);
        site.parents[0].parked(5).await;
        assert_eq!(site.tasks.end(Duration::from_secs(1)).await, 0);
        assert!(held.join_all().await.iter().all(Result::is_err));
        let refused = upstream.fetch(&bulk("/a")).await;
        assert!(matches!(refused, Err(UpstreamError::Ending)), "{refused:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_closes_the_connections() {
    for wire in [HTTP1, HTTP2] {
        let site = Site::new(&[wire]);
        let upstream = site.upstream();
        get(&upstream, &bulk("/a")).await.unwrap();
        drop(upstream);
        settle().await;
        assert_eq!(site.tasks.running(), 0);
        assert_eq!(site.parents[0].open.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn any_duration_is_a_legal_limit() {
    let site = Site::new(&[HTTP1, HTTP2]).limits(|l| {
        l.connect_timeout = Duration::MAX;
        l.idle_timeout = Duration::MAX;
        l.backoff_min = Duration::MAX;
        l.backoff_max = Duration::MAX;
    });
    let upstream = site.upstream();
    for avoid in [ParentId(1), ParentId(0)] {
        let request = ForwardRequest {
            first_byte_timeout: Duration::MAX,
            avoid: Some(avoid),
            ..bulk("/a")
        };
        get(&upstream, &request).await.unwrap();
        settle().await;
        get(&upstream, &request).await.unwrap();
    }
    site.parents[1].cut_connections();
    site.parents[1].set_door(Door::Refusing);
    settle().await;
    for _ in 0..5 {
        let request = ForwardRequest {
            avoid: Some(ParentId(0)),
            ..bulk("/a")
        };
        get(&upstream, &request).await.unwrap();
    }
    assert_eq!(upstream.parents()[1].circuit, CircuitStatus::Open);
}
