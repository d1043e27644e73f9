//! Lines out of a stream of bytes.

use std::mem;

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub struct Lines {
    /// What came after the last line end.
    rest: Vec<u8>,
}

/// Why a stream is no lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// A line does not end.
    #[error("a line of the feed has more than {LINE_BYTES_MAX} bytes")]
    TooLong,
}

impl Lines {
    /// Takes `bytes` and passes every line that is whole by now to `take`, without its end.
    ///
    /// # Errors
    ///
    /// A line is longer than [`LINE_BYTES_MAX`], or `take` refuses one; the rest is then void.
    pub fn feed<E: From<LineError>>(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut pieces = bytes.split(|b| *b == b'\n');
        let mut piece = pieces.next().unwrap_or_default();
        for next in pieces {
            if self.rest.is_empty() {
                take(piece)?;
            } else {
                self.keep(piece)?;
                take(&mem::take(&mut self.rest))?;
            }
            piece = next;
        }
        Ok(self.keep(piece)?)
    }

    fn keep(&mut self, piece: &[u8]) -> Result<(), LineError> {
        if self.rest.len() + piece.len() > LINE_BYTES_MAX {
            return Err(LineError::TooLong);
        }
        self.rest.extend_from_slice(piece);
        Ok(())
    }
}

/// Bytes of one line: the largest entry that is accepted, with room for what surrounds it.
pub const LINE_BYTES_MAX: usize = 4 * crate::REQUEST_BYTES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&str]) -> Result<Vec<String>, LineError> {
        let mut lines = Lines::default();
        let mut taken = Vec::new();
        for piece in pieces {
            lines.feed(piece.as_bytes(), |line| {
                taken.push(String::from_utf8_lossy(line).into_owned());
                Ok::<_, LineError>(())
            })?;
        }
        Ok(taken)
    }

    #[test]
    fn lines_are_the_same_wherever_the_stream_was_cut() {
        let text = "one\ntwo\n\nthree\nrest";
        for cut in 0..text.len() {
            let (left, right) = text.split_at(cut);
            let cut = lines(&[left, right]).unwrap();
            assert_eq!(cut, ["one", "two", "", "three"]);
        }
    }

    #[test]
    fn a_line_without_an_end_is_refused_before_it_fills_memory() {
        let piece = "x".repeat(LINE_BYTES_MAX / 2 + 1);
        assert_eq!(lines(&[&piece, &piece]), Err(LineError::TooLong));
    }
}
