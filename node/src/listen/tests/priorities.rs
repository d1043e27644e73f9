//! Streams of one connection beside each other, over real sockets: who has no bytes, or is not read, stands in
//! nobody's way. In which order what is read arrives over HTTP/2: `order`.

use http::HeaderValue;
use tokio::sync::watch;

use super::*;

const WAYS: [Way; 3] = [Way::H2Clear, Way::H2Tls, Way::H3];

/// More than a client lets be sent on a stream that it does not read.
const SEGMENT_BYTES: usize = 2 * 1024 * 1024;

/// Waits for `/parked` until told, sends `/segment` without end in sight, and a playlist at once.
fn service(released: watch::Receiver<()>) -> Scripted {
    Scripted::new(move |_, request| {
        let mut released = released.clone();
        async move {
            let (urgency, bytes) = match request.uri().path() {
                "/parked" => {
                    released.changed().await.unwrap();
                    ("u=0", 5)
                }
                "/segment" => ("u=3", SEGMENT_BYTES),
                _ => ("u=1", 1000),
            };
            let mut response = Response::new(Body::full(sample(bytes)));
            let urgency = HeaderValue::from_static(urgency);
            response.headers_mut().insert("priority", urgency);
            response
        }
    })
}

#[tokio::test]
async fn pl_12_a_stream_without_bytes_does_not_stand_before_one_that_has_some() {
    for way in WAYS {
        let (release, released) = watch::channel(());
        let server = Server::with(service(released), 1, ListenLimits::default());
        let mut client = server.connect(way).await;
        let mut parked = JoinSet::new();
        for _ in 0..8 {
            let mut sender = client.cloned();
            parked.spawn(async move { sender.get("/parked").await.collect().await.unwrap() });
        }
        let segment = client.get("/segment").await.collect().await.unwrap();
        assert_eq!(segment.len(), SEGMENT_BYTES, "{way:?}");
        assert!(parked.try_join_next().is_none(), "{way:?}");
        release.send(()).unwrap();
        while let Some(answer) = parked.join_next().await {
            assert_eq!(answer.unwrap().len(), 5, "{way:?}");
        }
    }
}

#[tokio::test]
async fn pl_14_a_playlist_comes_while_segments_that_nobody_reads_are_in_flight() {
    for way in WAYS {
        let (_release, released) = watch::channel(());
        let server = Server::with(service(released), 1, ListenLimits::default());
        let mut client = server.connect(way).await;
        // Over HTTP/2 a third would fill the window that this client opens for all of them.
        let segments = if way == Way::H3 { 3 } else { 2 };
        let mut unread = Vec::new();
        for _ in 0..segments {
            unread.push(client.get("/segment").await);
        }
        let playlist = client.get("/playlist").await.collect().await.unwrap();
        assert_eq!(playlist.len(), 1000, "{way:?}");
        for mut segment in unread {
            assert_eq!(segment.collect().await.unwrap(), sample(SEGMENT_BYTES));
        }
    }
}
