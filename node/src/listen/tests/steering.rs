//! QUIC packets find their worker.

use std::net::UdpSocket;

use super::*;

#[tokio::test]
async fn a_connection_survives_a_change_of_the_clients_port() {
    let service = Scripted::new(|peer: Peer, _| async move {
        let worker = std::thread::current().name().unwrap().to_owned();
        let port = peer.address.port();
        Response::new(Body::full(format!("{worker} {port}").into()))
    });
    let server = Server::with(service, 4, ListenLimits::default());
    let mut workers = std::collections::BTreeSet::new();
    for _ in 0..16 {
        let mut client = server.connect(Way::H3).await;
        let before = client.get("/").await.collect().await.unwrap();
        let before = String::from_utf8(before.to_vec()).unwrap();
        let (worker, _) = before.split_once(' ').unwrap();
        workers.insert(worker.to_owned());
        for _ in 0..2 {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let port = socket.local_addr().unwrap().port();
            let Sender::H3 { endpoint, .. } = &client.sender else {
                unreachable!("the client speaks HTTP/3");
            };
            endpoint.rebind(socket).unwrap();
            let after = client.get("/").await.collect().await.unwrap();
            assert_eq!(after, format!("{worker} {port}"));
        }
    }
    assert!(workers.len() > 1, "{workers:?}");
    assert_eq!(server.stop().await, Drained::Whole);
}
