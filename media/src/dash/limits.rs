//! How much of an MPD is read, and why one cannot be.

use thiserror::Error;

/// How much of an MPD is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of a text.
    pub bytes_max: usize,
    /// Most elements, read or not.
    pub elements_max: usize,
    /// Most elements in each other.
    pub depth_max: usize,
    /// Most attributes of one element.
    pub attributes_max: usize,
    /// Most representations.
    pub representations_max: usize,
    /// Most runs of one segment timeline.
    pub timeline_runs_max: usize,
    /// Most base URLs, locations, patch locations, periods, or sources of the time.
    pub items_max: usize,
}

impl Default for Limits {
    /// Enough for a day of irregular segments.
    fn default() -> Self {
        Self {
            bytes_max: 8 * 1024 * 1024,
            elements_max: 200_000,
            depth_max: 32,
            attributes_max: 64,
            representations_max: 1_024,
            timeline_runs_max: 50_000,
            items_max: 1_024,
        }
    }
}

/// Why a text could not be read as an MPD.
#[derive(Debug, Error)]
pub enum MpdError {
    /// The text is larger than [`Limits::bytes_max`].
    #[error("the MPD has {bytes} bytes, more than {bytes_max}")]
    TooLarge {
        /// Size of the text.
        bytes: usize,
        /// Most bytes allowed.
        bytes_max: usize,
    },
    /// The text is not UTF-8.
    #[error("the MPD is not UTF-8")]
    NotUtf8,
    /// The text is not well-formed XML.
    #[error("not well-formed XML at byte {at}")]
    Xml {
        /// Where the reader was.
        at: u64,
        /// What it said.
        source: quick_xml::Error,
    },
    /// The text ends inside an element.
    #[error("the MPD ends inside an element")]
    Unfinished,
    /// The root element is not `MPD`: another kind of document.
    #[error("not an MPD: the root element is not MPD")]
    NotAnMpd,
    /// A document type, which could define entities.
    #[error("the MPD has a document type")]
    DocumentType,
    /// More of something than a limit allows.
    #[error("more than {limit} {what} at byte {at}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// Most allowed.
        limit: usize,
        /// Where the reader was.
        at: u64,
    },
    /// A value cannot be read.
    #[error("malformed {what} at byte {at}")]
    Malformed {
        /// The attribute or element.
        what: &'static str,
        /// Where the reader was.
        at: u64,
    },
}
