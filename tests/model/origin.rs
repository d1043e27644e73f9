//! The origin of a case: replies by a script, keeps a record, and can be down.
//!
//! Who calls it: `run`. Deliberately not here: how scripts come about (`generate`), and what caches may make
//! of the replies.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use harness::origin::{ReplyBody, whole};
use harness::{Network, pass};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::DuplexStream;
use tokio::task::JoinSet;

use crate::run::{ORIGIN, PATHS, START_MS, Watch, date_at};
use crate::stored::{Exchange, Replied};

/// What the origin replies to one request.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) status: u16,
    pub(crate) fields: Vec<Line>,
    /// What a 304 says; without it, conditions are ignored.
    pub(crate) not_modified: Option<Vec<Line>>,
    pub(crate) delay_ms: u64,
}

/// A line of a header section, before it is sent.
#[derive(Clone)]
pub(crate) enum Line {
    /// As it stands.
    Plain(&'static str, String),
    /// A date, in seconds from when it is sent.
    SinceNow(&'static str, i64),
    /// A date, in seconds from when the case began.
    SinceStart(&'static str, i64),
    /// The tag that was asked about.
    SameTag,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(name, value) => write!(f, "{name}: {value}"),
            Self::SinceNow(name, seconds) => write!(f, "{name}: now{seconds:+}s"),
            Self::SinceStart(name, seconds) => write!(f, "{name}: start{seconds:+}s"),
            Self::SameTag => f.write_str("etag: the tag asked about"),
        }
    }
}

impl Line {
    /// Returns the line as text, sent now.
    pub(crate) fn render(&self, watch: Watch, asked: &HeaderMap) -> Option<(&'static str, String)> {
        match self {
            Self::Plain(name, value) => Some((name, value.clone())),
            Self::SinceNow(name, seconds) => Some((name, date_at(watch.now_ms() + seconds * 1000))),
            Self::SinceStart(name, seconds) => Some((name, date_at(START_MS + seconds * 1000))),
            Self::SameTag => {
                let tags = asked.get("if-none-match")?.to_str().ok()?;
                Some(("etag", tags.split(',').next()?.trim().to_owned()))
            }
        }
    }
}

/// A scripted origin with a record of what happened.
#[derive(Clone)]
pub(crate) struct ScriptedOrigin {
    watch: Watch,
    state: Arc<Mutex<State>>,
    connections: Arc<Mutex<JoinSet<()>>>,
}

struct State {
    scripts: Vec<Vec<Script>>,
    is_down: bool,
    /// The status of replies to other methods than GET.
    changing: u16,
    in_flight: usize,
    exchanges: Vec<Exchange>,
}

impl ScriptedOrigin {
    /// Listens with one list of scripts per path; the last of a list is repeated.
    pub(crate) fn listen(network: &Network, watch: Watch, scripts: Vec<Vec<Script>>) -> Self {
        let state = State {
            scripts,
            is_down: false,
            changing: 204,
            in_flight: 0,
            exchanges: Vec::new(),
        };
        let origin = Self {
            watch,
            state: Arc::new(Mutex::new(state)),
            connections: Arc::default(),
        };
        let accepting = origin.clone();
        network.listen(ORIGIN, Arc::new(move |pipe| accepting.accept(pipe)));
        origin
    }

    /// Cuts connections instead of replying, or replies again.
    pub(crate) fn set_down(&self, is_down: bool) {
        self.state.lock().is_down = is_down;
    }

    /// Replies to requests that change something with this status.
    pub(crate) fn set_changing(&self, status: u16) {
        self.state.lock().changing = status;
    }

    /// Returns whether a request waits for its reply.
    pub(crate) fn is_busy(&self) -> bool {
        self.state.lock().in_flight > 0
    }

    /// Returns the exchanges since the first `seen`.
    pub(crate) fn since(&self, seen: usize) -> Vec<Exchange> {
        let state = self.state.lock();
        state.exchanges.get(seen..).unwrap_or_default().to_vec()
    }

    fn accept(&self, pipe: DuplexStream) {
        let origin = self.clone();
        let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
            let origin = origin.clone();
            async move { origin.reply(request).await }
        });
        self.connections.lock().spawn(async move {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.auto_date_header(false); // Dates are of virtual time, or missing on purpose.
            // A cut connection ends with an error: that is what was asked for.
            builder
                .serve_connection(TokioIo::new(pipe), service)
                .await
                .ok();
        });
    }

    async fn reply(
        &self,
        request: http::Request<Incoming>,
    ) -> Result<Response<ReplyBody>, io::Error> {
        if request.method() != http::Method::GET {
            return self.change();
        }
        let path = request.uri().path().to_owned();
        let asked = request.headers().clone();
        let asked_ms = self.watch.now_ms();
        let (script, is_down) = {
            let mut state = self.state.lock();
            state.in_flight += 1;
            (state.script(&path), state.is_down)
        };
        if script.delay_ms > 0 {
            pass(Duration::from_millis(script.delay_ms)).await;
        }
        let mut state = self.state.lock();
        state.in_flight -= 1;
        let made = state.exchanges.len() + 1;
        let reply = (!is_down).then(|| make(self.watch, &script, made, &asked));
        state.exchanges.push(Exchange {
            made,
            path,
            asked,
            asked_ms,
            replied_ms: self.watch.now_ms(),
            reply: reply.clone(),
        });
        reply
            .map(respond)
            .ok_or_else(|| io::ErrorKind::ConnectionReset.into())
    }

    fn change(&self) -> Result<Response<ReplyBody>, io::Error> {
        let state = self.state.lock();
        if state.is_down {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(respond(Replied {
            status: state.changing,
            fields: HeaderMap::new(),
            body: Bytes::new(),
        }))
    }
}

impl State {
    /// Returns the script for the next request for a path.
    fn script(&self, path: &str) -> Script {
        let index = PATHS.iter().position(|known| *known == path).unwrap_or(0);
        let replied = self.exchanges.iter().filter(|e| e.path == path);
        let replied = replied.filter(|e| e.reply.is_some()).count();
        let scripts = &self.scripts[index];
        scripts[replied.min(scripts.len() - 1)].clone()
    }
}

fn make(watch: Watch, script: &Script, made: usize, asked: &HeaderMap) -> Replied {
    let is_conditional =
        asked.contains_key("if-none-match") || asked.contains_key("if-modified-since");
    let (status, lines) = match &script.not_modified {
        Some(lines) if is_conditional => (304, lines),
        _ => (script.status, &script.fields),
    };
    let mut fields = HeaderMap::new();
    let numbered = [
        Line::Plain("x-made", made.to_string()),
        Line::Plain("x-note", format!("note {made}")),
    ];
    for line in numbered.iter().chain(lines) {
        let Some((name, value)) = line.render(watch, asked) else {
            continue;
        };
        let value = HeaderValue::try_from(value.trim()).expect("scripts have sound values");
        fields.append(HeaderName::from_static(name), value);
    }
    let body = match status {
        204 | 304 => Bytes::new(),
        _ => format!("the body of reply {made}").into(),
    };
    Replied {
        status,
        fields,
        body,
    }
}

fn respond(replied: Replied) -> Response<ReplyBody> {
    let mut response = Response::new(whole(replied.body));
    *response.status_mut() =
        http::StatusCode::from_u16(replied.status).expect("scripts have sound statuses");
    *response.headers_mut() = replied.fields;
    response
}
