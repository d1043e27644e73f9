//! QUIC packets find their worker, wherever they come from (RFC 9000 9).

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};

use super::stretch::Stretch;
use super::*;

/// Says which worker answers, and where it sees the client.
fn service() -> Scripted {
    Scripted::new(|peer: Peer, request| async move {
        let worker = std::thread::current().name().unwrap().to_owned();
        let body = match request.uri().path() {
            "/large" => sample(4_000_000),
            _ => format!("{worker} {}", peer.address).into(),
        };
        Response::new(Body::full(body))
    })
}

/// Asks which worker answers, and where that sees the client.
async fn place(client: &mut Client) -> (String, SocketAddr) {
    let said = client.get("/").await.collect().await.unwrap();
    let said = String::from_utf8(said.to_vec()).unwrap();
    let (worker, address) = said.split_once(' ').unwrap();
    (worker.to_owned(), address.parse().unwrap())
}

fn endpoint_of(client: &Client) -> quinn::Endpoint {
    let Sender::H3 { endpoint, .. } = &client.sender else {
        unreachable!("the client speaks HTTP/3");
    };
    endpoint.clone()
}

#[tokio::test]
async fn rfc_9000_9_2_a_client_that_moves_to_another_port_or_address_stays_with_its_worker() {
    let server = Server::with(service(), 4, ListenLimits::default());
    let mut workers = BTreeSet::new();
    for _ in 0..16 {
        let mut client = server.connect(Way::H3).await;
        let (worker, _) = place(&mut client).await;
        // The second is another network: another address of the loopback.
        for ip in ["127.0.0.1", "127.0.0.2", "127.0.0.1"] {
            let socket = UdpSocket::bind((ip.parse::<IpAddr>().unwrap(), 0)).unwrap();
            let moved_to = socket.local_addr().unwrap();
            endpoint_of(&client).rebind(socket).unwrap();
            // On a busy machine the server may give up a path whose proof comes late, until it hears from there again.
            let mut seen_at = None;
            for _ in 0..10 {
                let (same_worker, address) = place(&mut client).await;
                assert_eq!(same_worker, worker);
                seen_at = Some(address);
                if seen_at == Some(moved_to) {
                    break;
                }
            }
            assert_eq!(seen_at, Some(moved_to));
        }
        workers.insert(worker);
    }
    assert!(workers.len() > 1, "{workers:?}");
    assert_eq!(server.stop().await, Drained::Whole);
}

#[tokio::test]
async fn rfc_9000_9_3_a_client_that_a_nat_has_moved_without_a_word_stays_with_its_worker() {
    let server = Server::with(service(), 4, ListenLimits::default());
    let mut workers = BTreeSet::new();
    for _ in 0..16 {
        let mut stretch = Stretch::before(&server).await;
        let mut client = server.h3_at(stretch.address).await;
        let (worker, _) = place(&mut client).await;
        for _ in 0..3 {
            stretch.forget().await;
            // What the server says to the old address is lost: that there is an answer means that it knows the new one.
            let (same_worker, _) = place(&mut client).await;
            assert_eq!(same_worker, worker);
        }
        workers.insert(worker);
        client.leave().await;
    }
    assert!(workers.len() > 1, "{workers:?}");
}

#[tokio::test]
async fn rfc_9000_9_a_response_that_is_under_way_arrives_whole_after_a_move() {
    let server = Server::with(service(), 4, ListenLimits::default());
    let mut client = server.connect(Way::H3).await;
    let mut answer = client.get("/large").await;
    let mut received = answer.next().await.unwrap().unwrap().to_vec();
    for ip in ["127.0.0.2", "127.0.0.1"] {
        let socket = UdpSocket::bind((ip.parse::<IpAddr>().unwrap(), 0)).unwrap();
        endpoint_of(&client).rebind(socket).unwrap();
        received.extend(answer.next().await.unwrap().unwrap());
    }
    received.extend(answer.collect().await.unwrap());
    assert!(received == sample(4_000_000));
    drop(answer);
    assert_eq!(server.stop().await, Drained::Whole);
}
