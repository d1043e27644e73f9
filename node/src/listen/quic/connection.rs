//! One HTTP/3 connection, from its handshake to its farewell.
//!
//! What is here: accepting requests, GOAWAY and the end. What is not answered at once is answered in a task of its own. Who
//! calls it: the endpoint's accept loop. It calls `response` for each request. Deliberately not here:
//! what is on a stream.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use h3::error::Code;
use h3::server::RequestResolver;
use quinn::ZeroRttAccepted;
use tokio::task::JoinSet;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::adapter::{Doors, H3Quic, code};
use super::response::{self, ResponseStream};
use crate::early::Handshake;
use crate::exchange::{Exchange, Peer, Protocol};
use crate::interim::InterimOutbox;
use crate::listen::ListenLimits;
use crate::listen::answer::Answerer;
use crate::listen::eager::{self, Begun};
use crate::live::ConnectionHolds;

/// Serves one connection until it ends or has drained.
pub(super) async fn serve<S: Exchange>(
    connecting: quinn::Connecting,
    answerer: Answerer<S>,
    limits: &Arc<ListenLimits>,
    ending: CancellationToken,
) {
    let until = Instant::now() + limits.head_timeout;
    let greeted = tokio::select! {
        greeted = timeout_at(until, greet(connecting, limits)) => greeted,
        () = ending.cancelled() => return,
    };
    let Ok(Some(Greeted {
        quic,
        adapter,
        doors,
        shaking,
    })) = greeted
    else {
        return;
    };
    let mut builder = h3::server::builder();
    builder
        .max_field_section_size(limits.head_bytes_max as u64)
        .send_grease(false);
    let Ok(Ok(h3)) = timeout(limits.head_timeout, builder.build(adapter)).await else {
        return;
    };
    let peer = Peer {
        address: quic.remote_address(),
        protocol: Protocol::Http3,
        is_secure: true,
        interim: InterimOutbox::default(),
        held: ConnectionHolds::default(),
        handshake: shaking.is_some().then(Handshake::default),
    };
    let connection = Connection {
        quic,
        h3,
        doors,
        answerer: Arc::new(answerer),
        peer: Arc::new(peer),
        limits: Arc::clone(limits),
        requests: JoinSet::new(),
        sent: VecDeque::new(),
    };
    let shaken = async {
        match shaking {
            Some(shaking) => timeout_at(until, shaking).await.map(drop),
            None => Ok(()),
        }
    };
    connection.run(shaken, ending).await;
}

/// A connection over which a request can come.
struct Greeted {
    quic: quinn::Connection,
    adapter: H3Quic,
    doors: Doors,
    /// The handshake, if a request came before its end (TLS early data).
    shaking: Option<ZeroRttAccepted>,
}

/// Waits for the end of the handshake or for a request that comes before it.
///
/// Only a client that resumes a session can send one, and only if [`super::QuicConfig::early_data`] lets sessions be resumed so.
async fn greet(connecting: quinn::Connecting, limits: &ListenLimits) -> Option<Greeted> {
    // quinn's servers never refuse this: it says that what comes early shall be seen.
    let (quic, mut shaking) = connecting.into_0rtt().ok()?;
    // What h3 holds before it can judge it: twice the head, so that one a little too long still gets
    // its 431.
    let (mut adapter, doors) = H3Quic::new(quic.clone(), 2 * limits.head_bytes_max as u64);
    let shaking = tokio::select! {
        biased;
        _ = &mut shaking => None,
        () = adapter.first_request() => Some(shaking),
    };
    // The end of a handshake may be that of the connection.
    quic.close_reason().is_none().then_some(Greeted {
        quic,
        adapter,
        doors,
        shaking,
    })
}

struct Connection<S> {
    quic: quinn::Connection,
    h3: h3::server::Connection<H3Quic, Bytes>,
    doors: Doors,
    answerer: Arc<Answerer<S>>,
    peer: Arc<Peer>,
    limits: Arc<ListenLimits>,
    /// Dropped with the connection, and with them the bodies they were sending.
    requests: JoinSet<Option<ResponseStream>>,
    /// The latest responses that were written to their end but may still be on their way.
    sent: VecDeque<ResponseStream>,
}

impl<S: Exchange> Connection<S> {
    async fn run(
        mut self,
        shaken: impl Future<Output = Result<(), Elapsed>>,
        ending: CancellationToken,
    ) {
        let mut shaken = pin!(shaken);
        let mut ending = pin!(ending.cancelled());
        let mut idle_since = Instant::now();
        let mut idle = pin!(tokio::time::sleep_until(
            idle_since + self.limits.idle_timeout
        ));
        let mut is_closing = false;
        while !(is_closing && self.requests.is_empty()) {
            tokio::select! {
                // What comes is answered before anything else is looked at. It is no more than what was received: packets
                // are read when this waits.
                biased;
                shaken = &mut shaken, if self.peer.handshake.is_some() => match shaken {
                    Ok(()) if self.quic.close_reason().is_none() => self.handshake_is_done(),
                    // What came early is all that there ever was: nobody waits for a farewell.
                    Ok(()) | Err(_) => return,
                },
                accepted = self.h3.accept() => match accepted {
                    Ok(Some(request)) => {
                        self.begin(request);
                        idle_since = Instant::now();
                    }
                    // The client has said goodbye, or the connection is lost.
                    Ok(None) | Err(_) => break,
                },
                Some(ended) = self.requests.join_next() => {
                    self.note(ended.ok().flatten());
                    idle_since = Instant::now();
                }
                () = &mut ending, if !is_closing => {
                    is_closing = true;
                    if self.say_goaway().await.is_err() {
                        break;
                    }
                }
                () = &mut idle, if !is_closing && self.requests.is_empty() => {
                    // Looked up when it rings: moving the alarm at every request costs more.
                    let until = idle_since + self.limits.idle_timeout;
                    if until > Instant::now() {
                        idle.as_mut().reset(until);
                        continue;
                    }
                    is_closing = true;
                    self.say_goaway().await.ok();
                }
            }
        }
        self.close().await;
    }

    /// Lets early requests go on; those that come now are not early.
    fn handshake_is_done(&mut self) {
        let mut peer = Peer::clone(&self.peer);
        if let Some(handshake) = peer.handshake.take() {
            handshake.complete();
        }
        self.peer = Arc::new(peer);
    }

    /// Answers a request, in a task of its own if anything has to be waited for.
    fn begin(&mut self, request: RequestResolver<H3Quic, Bytes>) {
        let Some(stream) = self.doors.take() else {
            // h3 hands out what the adapter accepted just before.
            debug_assert!(false, "an accepted request has its door");
            return;
        };
        // A client that migrates (RFC 9000 9) has another address from then on.
        let address = self.quic.remote_address();
        if self.peer.address != address {
            let peer = Peer {
                address,
                ..Peer::clone(&self.peer)
            };
            self.peer = Arc::new(peer);
        }
        let (answerer, peer) = (Arc::clone(&self.answerer), Arc::clone(&self.peer));
        let limits = Arc::clone(&self.limits);
        let served = eager::begin(async move {
            response::serve(request, stream, &answerer, &peer, &limits).await
        });
        match served {
            Begun::Done(sent) => self.note(sent),
            Begun::Unfinished(unfinished) => {
                self.requests.spawn(unfinished);
            }
        }
    }

    /// Keeps what was sent to its end until it is likely to have arrived.
    fn note(&mut self, sent: Option<ResponseStream>) {
        let Some(stream) = sent else {
            return;
        };
        if self.sent.len() >= self.limits.streams_per_connection_max as usize {
            // Old enough to have arrived, or the client is about to find out that it has not.
            self.sent.pop_front();
        }
        self.sent.push_back(stream);
    }

    /// Tells the client that requests after the latest one will not be answered (RFC 9114 5.2).
    async fn say_goaway(&mut self) -> Result<(), h3::error::ConnectionError> {
        // GOAWAY names the first request that is not answered: one after the latest.
        self.h3.shutdown(1).await
    }

    /// Closes the connection once the client has what was sent.
    async fn close(mut self) {
        self.requests.shutdown().await;
        let sent = std::mem::take(&mut self.sent);
        let arrived = async {
            for stream in &sent {
                stream.arrived().await;
            }
        };
        timeout(self.limits.head_timeout, arrived).await.ok();
        self.quic.close(code(Code::H3_NO_ERROR), b"");
    }
}
