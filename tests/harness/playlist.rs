//! A live playlist that grows when a scenario says so, and its origin's side of blocking reload.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use tokio::sync::watch;

use crate::origin::{Origin, whole};

/// How many parts a segment of a [`Live`] stream has.
pub const PARTS_PER_SEGMENT: u64 = 4;

/// A live LL-HLS rendition with 500 ms parts and 2 s segments, under the scenario's control.
#[derive(Clone)]
pub struct Live {
    state: Arc<watch::Sender<State>>,
}

#[derive(Clone, Debug)]
struct State {
    /// Parts published since the beginning of the stream.
    parts: u64,
    first_msn: u64,
    is_ended: bool,
    /// The part that was published under another name than the one that was hinted.
    renamed: Option<(u64, String)>,
    /// How many published parts a lagging twin shows, and how often it still answers.
    lagging: Option<(u64, u32)>,
    /// What is answered instead of the playlist.
    replacement: Option<(StatusCode, &'static str)>,
    /// What stands before the playlist until a session is open.
    closed: Option<Closed>,
    /// Answers no one, not even with an error.
    is_silent: bool,
    /// So many of the next blocking reloads are never answered.
    lost: u32,
    /// Codes every playlist with gzip, whatever was asked for.
    is_coded: bool,
    fields: Vec<(&'static str, String)>,
    /// Lines at the end of every playlist.
    lines: Vec<String>,
}

/// A session that has to be opened before anything is answered.
#[derive(Clone, Debug)]
struct Closed {
    is_open: Arc<AtomicBool>,
    status: StatusCode,
}

impl Closed {
    fn refusal(&self) -> Option<StatusCode> {
        (!self.is_open.load(Ordering::SeqCst)).then_some(self.status)
    }
}

impl Live {
    /// Starts a stream at `path` of `origin` with `parts` parts already published.
    pub fn start(origin: &Origin, path: &str, parts: u64) -> Self {
        let state = State {
            parts,
            first_msn: 0,
            is_ended: false,
            renamed: None,
            lagging: None,
            replacement: None,
            closed: None,
            is_silent: false,
            lost: 0,
            is_coded: false,
            fields: Vec::new(),
            lines: Vec::new(),
        };
        let live = Self {
            state: Arc::new(watch::Sender::new(state)),
        };
        let serving = live.clone();
        origin.on(path, move |asked| {
            let live = serving.clone();
            async move {
                let msn = asked.parameter("_HLS_msn").and_then(|v| v.parse().ok());
                let part = asked.parameter("_HLS_part").and_then(|v| v.parse().ok());
                live.reply(msn, part).await
            }
        });
        live
    }

    /// Publishes one more part.
    pub fn publish(&self) {
        self.state.send_modify(|state| state.parts += 1);
    }

    /// Publishes `parts` parts at once.
    pub fn publish_many(&self, parts: u64) {
        self.state.send_modify(|state| state.parts += parts);
    }

    /// Ends the stream.
    pub fn end(&self) {
        self.state.send_modify(|state| state.is_ended = true);
    }

    /// Begins again with `parts` published parts after it has ended.
    pub fn begin_again(&self, parts: u64) {
        self.state.send_modify(|state| {
            state.parts = parts;
            state.is_ended = false;
        });
    }

    /// Goes back to `parts` published parts, as a restarted or lagging origin does.
    pub fn go_back_to(&self, parts: u64) {
        self.state.send_modify(|state| state.parts = parts);
    }

    /// Publishes `uri` instead of the part that was hinted: the hint was withdrawn.
    pub fn withdraw_for(&self, uri: &str) {
        self.state.send_modify(|state| {
            state.renamed = Some((state.parts, uri.to_owned()));
            state.parts += 1;
        });
    }

    /// Answers the next `times` requests at once with only `parts` published, as a lagging twin does.
    pub fn answer_lagging(&self, parts: u64, times: u32) {
        self.state
            .send_modify(|state| state.lagging = Some((parts, times)));
    }

    /// Answers with this instead of the playlist, until told `None`.
    pub fn answer_instead(&self, replacement: Option<(StatusCode, &'static str)>) {
        self.state
            .send_modify(|state| state.replacement = replacement);
    }

    /// Answers with `status` while the flag is not set: the origin's session has ended.
    pub fn answer_while(&self, is_open: &Arc<AtomicBool>, status: StatusCode) {
        let closed = Closed {
            is_open: Arc::clone(is_open),
            status,
        };
        self.state
            .send_modify(|state| state.closed = Some(closed.clone()));
    }

    /// Answers nobody, until told otherwise.
    pub fn be_silent(&self, is_silent: bool) {
        self.state.send_modify(|state| state.is_silent = is_silent);
    }

    /// Never answers the next `times` blocking reloads, as if they were lost on the way.
    pub fn lose(&self, times: u32) {
        self.state.send_modify(|state| state.lost = times);
    }

    /// Codes every playlist with gzip from now on, whatever is asked for.
    pub fn code_all(&self) {
        self.state.send_modify(|state| state.is_coded = true);
    }

    /// Adds a header field to every answer.
    pub fn add_field(&self, name: &'static str, value: &str) {
        let value = value.to_owned();
        self.state
            .send_modify(|state| state.fields.push((name, value.clone())));
    }

    /// Adds a line to the end of every playlist.
    pub fn add_line(&self, line: &str) {
        let line = line.to_owned();
        self.state
            .send_modify(|state| state.lines.push(line.clone()));
    }

    /// Returns the present playlist.
    pub fn text(&self) -> String {
        self.state.borrow().text()
    }

    async fn reply(
        &self,
        msn: Option<u64>,
        part: Option<u64>,
    ) -> Response<crate::origin::ReplyBody> {
        let is_lost = self.state.send_if_modified(|state| {
            let is_lost = msn.is_some() && state.lost > 0;
            state.lost -= u32::from(is_lost);
            is_lost
        });
        if is_lost {
            return std::future::pending().await;
        }
        let mut states = self.state.subscribe();
        let state = states
            .wait_for(|s| !s.is_silent && s.may_answer(msn, part))
            .await;
        let mut state = state.expect("the stream outlives the scenario").clone();
        drop(states);
        if let Some((parts, _)) = state.lagging {
            state.parts = parts;
            self.state.send_modify(|now| {
                now.lagging = now.lagging.and_then(|(p, n)| (n > 1).then_some((p, n - 1)));
            });
        }
        if let Some(status) = state.closed.as_ref().and_then(Closed::refusal) {
            return crate::origin::status(status);
        }
        if let Some((status, text)) = state.replacement {
            let mut reply = Response::new(whole(Bytes::from_static(text.as_bytes())));
            *reply.status_mut() = status;
            return reply;
        }
        let text = state.text();
        let body = if state.is_coded {
            gzip(text.as_bytes())
        } else {
            Bytes::from(text)
        };
        let mut reply = Response::new(whole(body));
        let fields = reply.headers_mut();
        if state.is_coded {
            fields.insert("content-encoding", HeaderValue::from_static("gzip"));
        }
        fields.insert(
            "content-type",
            HeaderValue::from_static("application/vnd.apple.mpegurl"),
        );
        for (name, value) in &state.fields {
            fields.insert(
                *name,
                HeaderValue::try_from(value).expect("a scripted field is valid"),
            );
        }
        reply
    }
}

impl State {
    fn may_answer(&self, msn: Option<u64>, part: Option<u64>) -> bool {
        let Some(msn) = msn else { return true };
        let wanted = match part {
            Some(part) => msn * PARTS_PER_SEGMENT + part + 1,
            None => (msn + 1) * PARTS_PER_SEGMENT,
        };
        self.lagging.is_some()
            || self.is_ended
            || self.replacement.is_some()
            || self.closed.as_ref().is_some_and(|c| c.refusal().is_some())
            || self.parts >= wanted
    }

    fn text(&self) -> String {
        let complete = self.parts / PARTS_PER_SEGMENT;
        let first = self.first_msn.max(complete.saturating_sub(WINDOW));
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n\
             #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5,CAN-SKIP-UNTIL=12.0\n\
             #EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-MEDIA-SEQUENCE:{first}\n\
             #EXT-X-MAP:URI=\"init.mp4\"\n"
        );
        for msn in first..=complete {
            let is_open = msn == complete;
            let parts = if is_open {
                self.parts % PARTS_PER_SEGMENT
            } else {
                PARTS_PER_SEGMENT
            };
            if complete - msn < SEGMENTS_WITH_PARTS {
                for part in 0..parts {
                    let name = self.name_of(msn * PARTS_PER_SEGMENT + part);
                    writeln!(text, "#EXT-X-PART:DURATION=0.5,URI=\"{name}\"")
                        .expect("writing to a string");
                }
            }
            if !is_open {
                writeln!(text, "#EXTINF:2.0,\nseg{msn}.m4s").expect("writing to a string");
            }
        }
        if self.is_ended {
            text.push_str("#EXT-X-ENDLIST\n");
        } else {
            let hint = self.name_of(self.parts);
            writeln!(text, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{hint}\"")
                .expect("writing to a string");
        }
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// Returns the name of the part with this number since the beginning.
    fn name_of(&self, number: u64) -> String {
        match &self.renamed {
            Some((renamed, name)) if *renamed == number => name.clone(),
            _ => part_name(number / PARTS_PER_SEGMENT, number % PARTS_PER_SEGMENT),
        }
    }
}

/// Returns a text coded with gzip.
pub fn gzip(text: &[u8]) -> Bytes {
    let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    coder.write_all(text).expect("writing to memory");
    Bytes::from(coder.finish().expect("writing to memory"))
}

/// Returns the name of a part in the playlists of a [`Live`] stream.
pub fn part_name(msn: u64, part: u64) -> String {
    format!("seg{msn}.{part}.m4s")
}

const WINDOW: u64 = 20;
const SEGMENTS_WITH_PARTS: u64 = 4;
