//! Many requests, one forward request (RFC 9111 4, LB-09).

use bytes::Bytes;
use harness::origin::{ok, status};
use harness::{Feed, cdn};
use http::{HeaderValue, StatusCode};

#[test]
fn ca_05_five_hundred_viewers_of_a_miss_are_one_request_upstream() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let (feed, body) = Feed::new();
        let body = std::sync::Mutex::new(Some(body));
        origin.on("/s1.m4s", move |_| {
            let body = body.lock().unwrap().take().expect("asked once");
            async { ok(body) }
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let viewers: Vec<_> = (0..500).map(|_| viewer.start("/s1.m4s")).collect();
        origin.asked_for("/s1.m4s", 1).await;
        feed.send(Bytes::from(vec![7; 100_000])).await;
        drop(feed);
        for received in viewers {
            let received = received.await.unwrap();
            assert!(received.is_whole);
            assert_eq!(received.body.len(), 100_000);
        }
        assert_eq!(origin.requests("/s1.m4s"), 1);
    });
}

#[test]
fn ca_05_a_late_viewer_of_a_running_fill_gets_what_is_there_and_then_follows() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let (feed, body) = Feed::new();
        let body = std::sync::Mutex::new(Some(body));
        origin.on("/s1.m4s", move |_| {
            let body = body.lock().unwrap().take().expect("asked once");
            async { ok(body) }
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        feed.send("one,").await;
        let mut first = viewer.open("/s1.m4s", &[]).await;
        assert_eq!(first.next().await.unwrap().unwrap(), "one,");
        let mut late = viewer.open("/s1.m4s", &[]).await;
        assert_eq!(late.next().await.unwrap().unwrap(), "one,");
        feed.send("two").await;
        drop(feed);
        assert_eq!(first.rest().await.body, "two");
        assert_eq!(late.rest().await.body, "two");
        assert_eq!(origin.requests("/s1.m4s"), 1);
    });
}

#[test]
fn an_error_is_told_to_all_who_wait_and_to_nobody_later() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
        let waiting = gate.clone();
        origin.on("/s1.m4s", move |asked| {
            let gate = waiting.clone();
            async move {
                if asked.before > 0 {
                    return ok(harness::origin::whole(Bytes::from_static(b"here")));
                }
                let permit = gate.acquire().await;
                permit.expect("the gate stays open").forget();
                status(StatusCode::SERVICE_UNAVAILABLE)
            }
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let viewers: Vec<_> = (0..20).map(|_| viewer.start("/s1.m4s")).collect();
        origin.asked_for("/s1.m4s", 1).await;
        harness::pass(std::time::Duration::from_millis(10)).await;
        gate.add_permits(1);
        for received in viewers {
            assert_eq!(
                received.await.unwrap().status,
                StatusCode::SERVICE_UNAVAILABLE
            );
        }
        assert_eq!(origin.requests("/s1.m4s"), 1);
        assert_eq!(viewer.get("/s1.m4s").await.text(), "here");
    });
}

#[test]
fn a_response_for_one_viewer_is_never_shared() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/me", |asked| async move {
            let mut reply = ok(harness::origin::whole(Bytes::from(format!(
                "{}",
                asked.before
            ))));
            let private = HeaderValue::from_static("private");
            reply.headers_mut().insert("cache-control", private);
            reply
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let viewers: Vec<_> = (0..5).map(|_| viewer.start("/me")).collect();
        let mut bodies = Vec::new();
        for received in viewers {
            bodies.push(received.await.unwrap().text().to_owned());
        }
        bodies.sort();
        assert_eq!(
            bodies,
            ["0", "1", "2", "3", "4"],
            "each viewer has an answer of its own"
        );
    });
}

#[test]
fn ca_02_parameter_order_does_not_cause_a_second_request() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.serve("/s1.m4s", &[("cache-control", "max-age=60")], "segment");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get("/s1.m4s?b=2&a=1").await;
        viewer.get("/s1.m4s?a=1&b=2").await;
        viewer.get("/s1.m4s?CMCD=bl%3D1000&a=1&b=2").await;
        assert_eq!(origin.requests("/s1.m4s"), 1);
        assert_eq!(origin.asked()[0].target, "/s1.m4s?a=1&b=2");
    });
}
