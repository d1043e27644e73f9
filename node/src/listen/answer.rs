//! The last step before a response goes out: what depends on the connection and not on the answer.
//!
//! What is here: dates, announced protocols and the empty body of HEAD. Who calls it: every
//! protocol's driver. Deliberately not here: any header field that says something about content.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use http::header::{ALT_SVC, CONTENT_LENGTH, DATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};

use crate::body::Body;
use crate::clock::Clock;
use crate::exchange::{Answering, Exchange, Peer, Protocol};
use crate::upload::Upload;

/// What answers on one listener or connection, and how its answers are dressed.
#[derive(Debug)]
pub(super) struct Answerer<S> {
    service: S,
    clock: Clock,
    /// What `Alt-Svc` says on connections that could be HTTP/3 and are not.
    alt_svc: Option<HeaderValue>,
    /// Whether it was said. Clients remember it for a day, and take its absence for nothing (RFC 7838 3).
    has_announced: AtomicBool,
}

/// For another connection: nothing was said there.
impl<S: Clone> Clone for Answerer<S> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            clock: self.clock,
            alt_svc: self.alt_svc.clone(),
            has_announced: AtomicBool::new(false),
        }
    }
}

impl<S: Exchange> Answerer<S> {
    /// Answers by `service`, without announcing HTTP/3.
    pub(super) fn new(service: S, clock: Clock) -> Self {
        Self {
            service,
            clock,
            alt_svc: None,
            has_announced: AtomicBool::new(false),
        }
    }

    /// Announces HTTP/3 on the port of `address`, once on each connection (HX-19, RFC 7838).
    pub(super) fn announcing_http3(mut self, address: SocketAddr) -> Self {
        let value = format!("h3=\":{}\"; ma=86400", address.port());
        self.alt_svc = Some(value.try_into().expect("a port makes a valid field value"));
        self
    }

    /// Answers one request of `peer`.
    pub(super) async fn answer(
        &self,
        peer: &Arc<Peer>,
        request: Request<Upload>,
    ) -> Response<Body> {
        let is_head = request.method() == Method::HEAD;
        let mut response = match self.begin(peer, request) {
            Answering::Now(response) => response,
            Answering::Later(answered) => answered.await,
        };
        self.dress(&mut response, peer.protocol, is_head);
        response
    }

    /// Begins to answer one request of `peer`; what comes of it is still to be dressed.
    pub(super) fn begin(&self, peer: &Arc<Peer>, request: Request<Upload>) -> Answering {
        self.service.begin(peer, request)
    }

    /// Adds to a response, to HEAD or to another method, what depends on the connection.
    pub(super) fn dress(&self, response: &mut Response<Body>, protocol: Protocol, is_head: bool) {
        let length = response.body().remaining_if_known();
        if is_head {
            // RFC 9110 9.3.2: the head that GET would have had.
            *response.body_mut() = Body::empty();
        }
        match protocol {
            Protocol::Http1 | Protocol::Http2 => {
                if let Some(alt_svc) = &self.alt_svc
                    && !self.has_announced.load(Ordering::Relaxed)
                {
                    self.has_announced.store(true, Ordering::Relaxed);
                    let headers = response.headers_mut();
                    if !headers.contains_key(ALT_SVC) {
                        headers.insert(ALT_SVC, alt_svc.clone());
                    }
                }
            }
            // On the other protocols hyper adds it.
            Protocol::Http3 => add_date(response, self.clock.now()),
        }
        // An empty body for HEAD says nothing about the length of GET's.
        if let Some(length) = length.filter(|&length| length > 0 || !is_head) {
            add_length(response, length);
        }
    }
}

fn add_length(response: &mut Response<Body>, length: u64) {
    // RFC 9110 8.6: none on 1xx and 204; on 304 it would mean the length of the 200.
    let status = response.status();
    let has_no_content = status.is_informational()
        || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    // Looking costs less than an entry, and hits have it.
    if !has_no_content && !response.headers().contains_key(CONTENT_LENGTH) {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
}

/// Adds the date that RFC 9110 6.6.1 wants of a server with a clock.
fn add_date(response: &mut Response<Body>, now: SystemTime) {
    response.headers_mut().entry(DATE).or_insert_with(|| {
        HeaderValue::try_from(httpdate::fmt_http_date(now)).expect("a date is a valid field value")
    });
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::interim::InterimOutbox;
    use crate::live::ConnectionHolds;

    #[derive(Clone)]
    struct Five(StatusCode);

    impl Exchange for Five {
        async fn exchange(&self, _peer: &Peer, _request: Request<Upload>) -> Response<Body> {
            let body = Body::full(Bytes::from_static(b"12345"));
            Response::builder().status(self.0).body(body).unwrap()
        }
    }

    async fn answer(method: Method, protocol: Protocol, status: StatusCode) -> Response<Body> {
        let clock = Clock::starting_at(SystemTime::UNIX_EPOCH);
        let address = "127.0.0.1:8443".parse().unwrap();
        let peer = Arc::new(Peer {
            address,
            protocol,
            is_secure: true,
            interim: InterimOutbox::default(),
            held: ConnectionHolds::default(),
            handshake: None,
        });
        let request = Request::builder()
            .method(method)
            .body(Upload::empty())
            .unwrap();
        let answerer = Answerer::new(Five(status), clock).announcing_http3(address);
        answerer.answer(&peer, request).await
    }

    #[tokio::test]
    async fn rfc_9110_9_3_2_head_keeps_the_length_of_get_and_sends_no_body() {
        let mut response = answer(Method::HEAD, Protocol::Http3, StatusCode::OK).await;
        assert_eq!(response.headers()[CONTENT_LENGTH], "5");
        assert!(response.body_mut().next().await.is_none());
    }

    #[tokio::test]
    async fn hx_19_http3_is_announced_where_it_is_not_spoken() {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let response = answer(Method::GET, protocol, StatusCode::OK).await;
            assert_eq!(response.headers()[ALT_SVC], "h3=\":8443\"; ma=86400");
        }
        let response = answer(Method::GET, Protocol::Http3, StatusCode::OK).await;
        assert!(!response.headers().contains_key(ALT_SVC));
    }

    #[tokio::test]
    async fn hx_19_http3_is_announced_once_on_each_connection() {
        let clock = Clock::starting_at(SystemTime::UNIX_EPOCH);
        let listener = Answerer::new(Five(StatusCode::OK), clock)
            .announcing_http3("127.0.0.1:8443".parse().unwrap());
        for _ in 0..2 {
            let connection = listener.clone();
            for is_first in [true, false, false] {
                let mut response = Response::new(Body::empty());
                connection.dress(&mut response, Protocol::Http2, false);
                assert_eq!(response.headers().contains_key(ALT_SVC), is_first);
            }
        }
    }

    #[tokio::test]
    async fn rfc_9110_6_6_1_http3_answers_carry_a_date_like_the_others() {
        let response = answer(Method::GET, Protocol::Http3, StatusCode::OK).await;
        assert_eq!(response.headers()[DATE], "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[tokio::test]
    async fn rfc_9110_8_6_no_length_is_made_up_for_304() {
        let response = answer(Method::GET, Protocol::Http3, StatusCode::NOT_MODIFIED).await;
        assert!(!response.headers().contains_key(CONTENT_LENGTH));
    }
}
