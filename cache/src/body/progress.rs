//! How far a body has come, and how it ended.
//!
//! Readers of a body and those who store it ask; the writer decides.

/// How far a body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that can be read now.
    pub received: u64,
    /// Whether more will come.
    pub state: BodyState,
}

/// Whether a body is still being written, and how it ended if it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyState {
    /// More bytes may come.
    Filling,
    /// Every byte is there.
    Complete,
    /// No more bytes will come, and some are missing.
    Failed(BodyFailure),
}

/// Why a body ended before its last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BodyFailure {
    /// The writer was dropped without saying how the body ended.
    #[error("the fill was abandoned")]
    Abandoned,
    /// The parent ended the body before the length it had announced.
    #[error("the body is shorter than announced")]
    Truncated,
    /// The parent reset the stream or closed the connection.
    #[error("the parent reset the body")]
    Reset,
    /// No byte arrived for too long.
    #[error("the body stalled")]
    Stalled,
    /// The body is larger than announced or allowed.
    #[error("the body is too large")]
    TooLarge,
    /// Nobody read the body and nobody would store it.
    #[error("the fill was canceled")]
    Cancelled,
}
