//! A client for the origin, and what a test reads out of its answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lab::origin::{Fault, Origin, OriginConfig};
use mp4_atom::{Any, DecodeMaybe as _};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// 2026-01-01T00:00:00Z, the wall time at which every origin under test starts.
pub(crate) const START: Duration = Duration::from_secs(1_767_225_600);

/// An answer as far as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether the body came to its end as HTTP tells it.
    pub(crate) is_whole: bool,
    /// Time from the request to the last byte.
    pub(crate) took: Duration,
    /// When each piece of the body came, since the request.
    pub(crate) pieces: Vec<(Duration, usize)>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// An origin under test and the connections to it.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) origin: Arc<Origin>,
}

/// A request in the making.
#[derive(Debug)]
pub(crate) struct Ask {
    origin: Arc<Origin>,
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    is_h2: bool,
}

/// Returns an origin that starts at [`START`]: two-second segments of four parts, 12 of them out.
pub(crate) fn stage() -> Stage {
    stage_with(OriginConfig::default())
}

pub(crate) fn stage_with(config: OriginConfig) -> Stage {
    let origin = Origin::new(OriginConfig {
        start: Some(SystemTime::UNIX_EPOCH + START),
        ..config
    });
    Stage {
        origin: Arc::new(origin.unwrap()),
    }
}

pub(crate) fn stage_with_faults<const N: usize>(rules: [&str; N]) -> Stage {
    stage_with(OriginConfig {
        faults: rules.map(|rule| rule.parse::<Fault>().unwrap()).to_vec(),
        ..OriginConfig::default()
    })
}

impl Stage {
    pub(crate) fn ask(&self, path: impl Into<String>) -> Ask {
        Ask {
            origin: Arc::clone(&self.origin),
            method: Method::GET,
            path: path.into(),
            headers: Vec::new(),
            is_h2: false,
        }
    }

    pub(crate) async fn get(&self, path: impl Into<String>) -> Answer {
        self.ask(path).send().await.expect("an answer begins")
    }

    pub(crate) async fn text(&self, path: impl Into<String>) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200);
        answer.text().to_owned()
    }
}

impl Ask {
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    pub(crate) fn over_h2(self) -> Self {
        Self {
            is_h2: true,
            ..self
        }
    }

    /// Sends the request on a connection of its own; `None` if the connection ends before a head.
    pub(crate) async fn send(self) -> Option<Answer> {
        let (client, server) = tokio::io::duplex(256 * 1024);
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&self.origin).serve_connection(server));
        let mut request = Request::builder()
            .method(self.method)
            .uri(format!("http://origin.test{}", self.path))
            .body(Empty::<Bytes>::new())
            .unwrap();
        if !self.is_h2 {
            *request.uri_mut() = self.path.parse().unwrap();
            request
                .headers_mut()
                .insert("host", "origin.test".parse().unwrap());
        }
        for (name, value) in self.headers {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let started = Instant::now();
        let io = TokioIo::new(client);
        let response = if self.is_h2 {
            let executor = TokioExecutor::new();
            let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io)
                .await
                .unwrap();
            tasks.spawn(async move { drop(connection.await) });
            sender.send_request(request).await
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tasks.spawn(async move { drop(connection.await) });
            sender.send_request(request).await
        };
        let answer = collect(response.ok()?, started).await;
        tasks.shutdown().await;
        Some(answer)
    }
}

pub(crate) async fn collect(
    response: http::Response<hyper::body::Incoming>,
    started: Instant,
) -> Answer {
    let (head, mut incoming) = response.into_parts();
    let (mut body, mut pieces, mut is_whole) = (Vec::new(), Vec::new(), true);
    while let Some(frame) = incoming.frame().await {
        match frame.map(|frame| frame.into_data()) {
            Ok(Ok(data)) => {
                pieces.push((started.elapsed(), data.len()));
                body.extend_from_slice(&data);
            }
            Ok(Err(_)) => {}
            Err(_) => {
                is_whole = false;
                break;
            }
        }
    }
    Answer {
        status: head.status,
        headers: head.headers,
        body: body.into(),
        is_whole,
        took: started.elapsed(),
        pieces,
    }
}

/// Returns the values of the tag `name`, in order.
pub(crate) fn tags<'a>(playlist: &'a str, name: &str) -> Vec<&'a str> {
    playlist
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .collect()
}

/// Returns the attribute `name` of a tag's value, without quotes.
pub(crate) fn attribute<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    value.split(',').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then(|| value.trim_matches('"'))
    })
}

/// Returns the URIs of segments, in order.
pub(crate) fn uris(playlist: &str) -> Vec<&str> {
    playlist.lines().filter(|l| !l.starts_with('#')).collect()
}

/// Returns the name that the playlist's hint gives.
pub(crate) fn hint(playlist: &str) -> &str {
    attribute(tags(playlist, "#EXT-X-PRELOAD-HINT")[0], "URI").unwrap()
}

/// One `moof` with its timing.
#[derive(Debug, PartialEq)]
pub(crate) struct Fragment {
    pub(crate) sequence: u32,
    /// Start in ticks.
    pub(crate) start: u64,
    /// Duration in ticks.
    pub(crate) duration: u64,
    /// Sizes of the samples: enough to tell contents apart.
    pub(crate) sizes: Vec<u32>,
}

/// Parses media back into fragments.
pub(crate) fn fragments(mut bytes: &[u8]) -> Vec<Fragment> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let Any::Moof(moof) = Any::decode_maybe(&mut bytes).unwrap().unwrap() else {
            continue;
        };
        let traf = &moof.traf[0];
        let samples = traf.trun[0].samples.iter();
        let duration = samples.map(|s| u64::from(s.duration.unwrap())).sum();
        let sizes: Vec<u32> = traf.trun[0]
            .samples
            .iter()
            .map(|s| s.size.unwrap())
            .collect();
        found.push(Fragment {
            sequence: moof.mfhd.sequence_number,
            start: traf.tfdt.as_ref().unwrap().base_media_decode_time,
            duration,
            sizes,
        });
    }
    found
}

/// Merges a delta update into the playlist it updates, as a player does (rfc8216bis 6.3.7).
pub(crate) fn merge(old: &str, delta: &str) -> String {
    let segments = |playlist: &str| -> BTreeMap<u64, Vec<String>> {
        let mut msn: u64 = tags(playlist, "#EXT-X-MEDIA-SEQUENCE")[0].parse().unwrap();
        if let Some(skip) = tags(playlist, "#EXT-X-SKIP").first() {
            msn += attribute(skip, "SKIPPED-SEGMENTS")
                .unwrap()
                .parse::<u64>()
                .unwrap();
        }
        let (mut found, mut lines) = (BTreeMap::new(), Vec::new());
        for line in playlist.lines() {
            let is_of_segment = ["#EXT-X-PROGRAM", "#EXT-X-PART:", "#EXTINF"]
                .iter()
                .any(|tag| line.starts_with(tag));
            if is_of_segment {
                lines.push(line.to_owned());
            } else if !line.starts_with('#') {
                lines.push(line.to_owned());
                found.insert(msn, std::mem::take(&mut lines));
                msn += 1;
            }
        }
        found.insert(msn, lines);
        found
    };
    let (known, mut merged) = (segments(old), segments(delta));
    let first: u64 = tags(delta, "#EXT-X-MEDIA-SEQUENCE")[0].parse().unwrap();
    let from = *merged.keys().next().unwrap();
    for msn in first..from {
        merged.insert(msn, known[&msn].clone());
    }
    merged
        .into_values()
        .flatten()
        .collect::<Vec<_>>()
        .join("\n")
}

pub(crate) fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
