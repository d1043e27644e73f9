//! Real sockets and several workers, each with a runtime of its own.

use std::sync::mpsc;
use std::thread;

use tokio::net::TcpListener;

use super::*;

/// Serves HTTP over real sockets until the set is dropped; returns the port.
async fn listen(tasks: &mut JoinSet<()>, parent: Arc<ScriptedParent>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let number = parent.connections.fetch_add(1, Ordering::SeqCst);
            let parent = Arc::clone(&parent);
            let streams_max = matches!(parent.wire, Wire::Http2 { .. }).then_some(100);
            connections.spawn(parent.serve_http(stream, number, streams_max));
        }
    });
    port
}

#[tokio::test]
async fn parents_are_reached_over_real_sockets_by_name() {
    for wire in [HTTP1, HTTP2] {
        let mut site = Site::new(&[wire]);
        let mut tasks = JoinSet::new();
        let port = listen(&mut tasks, Arc::clone(&site.parents[0])).await;
        site.config.parents[0].url = format!("http://localhost:{port}").parse().unwrap();
        let upstream = Upstream::new(site.config.clone(), Connector::Tcp, &site.tasks).unwrap();
        for _ in 0..3 {
            get(&upstream, &bulk("/a")).await.unwrap();
        }
        assert_eq!(site.parents[0].connections(), 1);
    }
}

#[tokio::test]
async fn a_port_nobody_listens_on_is_told_as_such() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let mut site = Site::new(&[HTTP1]);
    site.config.parents[0].url = format!("http://127.0.0.1:{port}").parse().unwrap();
    let upstream = Upstream::new(site.config, Connector::Tcp, &site.tasks).unwrap();
    let error = upstream.fetch(&bulk("/a")).await.unwrap_err();
    let UpstreamError::Connect { source, .. } = error else {
        panic!("{error:?}");
    };
    let ConnectError::Transport(source) = &*source else {
        panic!("{source:?}");
    };
    assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
}

/// Runs `work` to its end on a worker of its own, as a node's workers are.
fn on_a_worker<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> thread::JoinHandle<T> {
    thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(work)
    })
}

#[tokio::test]
async fn workers_share_connections_and_survive_each_other() {
    for wire in [HTTP1, HTTP2] {
        let mut site = Site::new(&[wire]);
        let mut tasks = JoinSet::new();
        let port = listen(&mut tasks, Arc::clone(&site.parents[0])).await;
        site.config.parents[0].url = format!("http://127.0.0.1:{port}").parse().unwrap();
        let upstream = Upstream::new(site.config.clone(), Connector::Tcp, &site.tasks).unwrap();

        // The first worker opens the connection and stays alive while the second one uses it.
        let (opened, is_opened) = tokio::sync::oneshot::channel();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let first = on_a_worker({
            let upstream = upstream.clone();
            async move {
                get(&upstream, &bulk("/a")).await.unwrap();
                opened.send(()).unwrap();
                ended.await.unwrap();
            }
        });
        is_opened.await.unwrap();
        let (sender, answers) = mpsc::channel();
        let second = on_a_worker({
            let upstream = upstream.clone();
            async move {
                for _ in 0..50 {
                    sender.send(get(&upstream, &bulk("/a")).await).unwrap();
                }
            }
        });
        let second = tokio::task::spawn_blocking(move || second.join());
        second.await.unwrap().unwrap();
        assert!(answers.iter().all(|answer| answer.is_ok()));
        assert_eq!(site.parents[0].connections(), 1);

        // The first worker ends and takes the connection along: nobody is disturbed.
        end.send(()).unwrap();
        tokio::task::spawn_blocking(move || first.join())
            .await
            .unwrap()
            .unwrap();
        for _ in 0..10 {
            get(&upstream, &bulk("/a")).await.unwrap();
        }
        assert_eq!(site.parents[0].connections(), 2);
        assert_eq!(upstream.parents()[0].bulk.connections, 1);
    }
}
