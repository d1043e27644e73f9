//! The receiving side: what a line of the feed means to who applied everything up to here.
//!
//! Who calls it: a node, for every line; the model of the purge log, for every step. Pure: the judgment is
//! here, applying and waiting are the caller's.
//!
//! Invariant: entries are applied in order, each at most once, and none is left out: where one is missing
//! or cannot be understood the step is [`Step::Reset`], which is at least as much as any purge.

use serde::Deserialize;

use super::lines::LineError;
use super::message::Message;
use super::subscription::Start;
use crate::{Entry, LogId, Sequence};

/// A place in a particular log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The log.
    pub log: LogId,
    /// Everything up to here is applied.
    pub applied: Sequence,
}

/// How far somebody who follows the feed is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    position: Option<Position>,
    /// The last entry that is known to be in the log.
    head: Sequence,
    has_begun: bool,
}

/// What is to be done about a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it is known already.
    Nothing,
    /// Apply this purge.
    Apply(Box<Entry>),
    /// Make everything stale that was made up to now.
    Reset(Position),
    /// Everything is applied that was accepted until so many milliseconds ago.
    Current {
        /// How long ago.
        age_ms: u64,
    },
}

/// Why a feed cannot be followed any further: connect again.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// It is no lines.
    #[error(transparent)]
    Line(#[from] LineError),
    /// A line that nobody understands.
    #[error("a line of the feed cannot be read")]
    Malformed(#[from] serde_json::Error),
    /// The first line is not the beginning, or another one is.
    #[error("the feed does not begin as it should")]
    Begin,
    /// It is not what was asked for: another log without a reset.
    #[error("the feed is of log {found}, not of {expected}, and says so nowhere")]
    OtherLog {
        /// What came.
        found: LogId,
        /// What is followed.
        expected: LogId,
    },
}

/// What is needed of an entry that cannot be understood.
#[derive(Deserialize)]
struct Unreadable {
    #[serde(rename = "type")]
    kind: String,
    sequence: Sequence,
}

impl Cursor {
    /// Returns how far this is; `None` before the first connection.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Returns the last entry that is known to be in the log.
    pub fn head(&self) -> Sequence {
        self.head
    }

    /// Begins a connection and returns what to ask for: where this is, or the last `latest` entries if it is nowhere yet.
    pub fn connect(&mut self, latest: u64) -> Start {
        self.has_begun = false;
        match self.position {
            Some(Position { log, applied }) => Start::After(log, applied),
            None => Start::Latest(latest),
        }
    }

    /// Judges a line. What it says to do must be done before the next line is judged.
    ///
    /// # Errors
    ///
    /// The feed is not one. The cursor stays where it is, and a new connection goes on from there.
    pub fn take(&mut self, line: &[u8]) -> Result<Step, FeedError> {
        match serde_json::from_slice(line) {
            Ok(message) => self.judge(message),
            Err(error) => self.take_unreadable(line, error),
        }
    }

    /// Judges a message, as [`Cursor::take`] does with the line that it was.
    ///
    /// # Errors
    ///
    /// The feed is not one.
    pub fn judge(&mut self, message: Message) -> Result<Step, FeedError> {
        match (message, self.position) {
            (Message::Begin { log, after }, position) => self.begin(log, after, position),
            (Message::Reset { log, through }, Some(_)) if self.has_begun => {
                Ok(self.reset(Position {
                    log,
                    applied: through,
                }))
            }
            (Message::Entry(entry), Some(position)) if self.has_begun => {
                self.entry(entry, position)
            }
            (Message::Heartbeat { head, age_ms }, Some(position)) if self.has_begun => {
                self.head = self.head.max(head);
                Ok(if position.applied >= head {
                    Step::Current { age_ms }
                } else {
                    Step::Nothing
                })
            }
            (Message::Reset { .. } | Message::Entry(_) | Message::Heartbeat { .. }, _) => {
                Err(FeedError::Begin)
            }
        }
    }

    fn begin(
        &mut self,
        log: LogId,
        after: Sequence,
        position: Option<Position>,
    ) -> Result<Step, FeedError> {
        if self.has_begun {
            return Err(FeedError::Begin);
        }
        let Some(position) = position else {
            self.has_begun = true;
            self.head = after;
            self.position = Some(Position {
                log,
                applied: after,
            });
            return Ok(Step::Nothing);
        };
        if position.log != log {
            return Err(FeedError::OtherLog {
                found: log,
                expected: position.log,
            });
        }
        self.has_begun = true;
        // It may go on earlier than was asked for, with entries that are known; never later.
        if after > position.applied {
            return Ok(self.reset(Position {
                log,
                applied: after,
            }));
        }
        Ok(Step::Nothing)
    }

    fn entry(&mut self, entry: Entry, position: Position) -> Result<Step, FeedError> {
        if entry.id.log != position.log {
            return Err(FeedError::OtherLog {
                found: entry.id.log,
                expected: position.log,
            });
        }
        let sequence = entry.sequence;
        if sequence <= position.applied {
            return Ok(Step::Nothing);
        }
        let log = position.log;
        if sequence > position.applied.next() {
            return Ok(self.reset(Position {
                log,
                applied: sequence,
            }));
        }
        self.move_to(Position {
            log,
            applied: sequence,
        });
        Ok(Step::Apply(Box::new(entry)))
    }

    /// A newer purge API may say what this node does not know. To leave it out would be to not purge.
    fn take_unreadable(
        &mut self,
        line: &[u8],
        error: serde_json::Error,
    ) -> Result<Step, FeedError> {
        let entry = serde_json::from_slice::<Unreadable>(line).ok();
        let entry = entry.filter(|entry| entry.kind == "entry" && self.has_begun);
        match (entry, self.position) {
            (Some(entry), Some(position)) if entry.sequence > position.applied => {
                Ok(self.reset(Position {
                    log: position.log,
                    applied: entry.sequence,
                }))
            }
            (Some(_), Some(_)) => Ok(Step::Nothing),
            (_, _) => Err(FeedError::Malformed(error)),
        }
    }

    fn reset(&mut self, position: Position) -> Step {
        if self.position.is_none_or(|known| known.log != position.log) {
            self.head = position.applied;
        }
        self.move_to(position);
        Step::Reset(position)
    }

    fn move_to(&mut self, position: Position) {
        self.head = self.head.max(position.applied);
        self.position = Some(position);
    }
}
