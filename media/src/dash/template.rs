//! URL templates: `seg-$RepresentationID$-$Number%05d$.m4s` (ISO/IEC 23009-1, 5.3.9.4.4).
//!
//! Called by the MPD. A template is filled to name a segment, and matched to learn which segment a
//! path names (LD-01).

use std::fmt::Write;

use thiserror::Error;

/// A parsed URL template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    RepresentationId,
    Bandwidth { width: usize },
    Number { width: usize },
    Time { width: usize },
    SubNumber { width: usize },
}

/// What a path says of the segment it names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addressed {
    /// Its `$Number$`.
    pub number: Option<u64>,
    /// Its `$Time$`, in the timescale of the template.
    pub time: Option<u64>,
    /// Its `$SubNumber$`: which chunk of the segment.
    pub sub_number: Option<u64>,
}

/// Why a text is not a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// A `$` without its partner.
    #[error("an identifier does not end")]
    Unclosed,
    /// An identifier that is none of the standard's, or a format that is not `%0[width]d`.
    #[error("an identifier is unknown or its format is not %0[width]d")]
    Identifier,
    /// More than 64 pieces.
    #[error("the template has more than {PIECES_MAX} pieces")]
    TooLong,
}

/// Most pieces of a template.
const PIECES_MAX: usize = 64;

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    ///
    /// [`TemplateError`]; players do not use such a template either.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut is_identifier = false;
        let mut parts = text.split('$').peekable();
        while let Some(part) = parts.next() {
            if is_identifier && parts.peek().is_none() {
                return Err(TemplateError::Unclosed);
            }
            match (is_identifier, part) {
                (true, "") => push_text(&mut pieces, "$"),
                (true, identifier) => pieces.push(identified(identifier)?),
                (false, text) => push_text(&mut pieces, text),
            }
            if pieces.len() > PIECES_MAX {
                return Err(TemplateError::TooLong);
            }
            is_identifier = !is_identifier;
        }
        Ok(Self { pieces })
    }

    /// Returns the path that names a segment; values that are not given are zero.
    pub fn fill(&self, representation_id: &str, bandwidth: u64, segment: Addressed) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            let (value, width) = match piece {
                Piece::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Piece::RepresentationId => {
                    out.push_str(representation_id);
                    continue;
                }
                Piece::Bandwidth { width } => (bandwidth, *width),
                Piece::Number { width } => (segment.number.unwrap_or(0), *width),
                Piece::Time { width } => (segment.time.unwrap_or(0), *width),
                Piece::SubNumber { width } => (segment.sub_number.unwrap_or(0), *width),
            };
            write!(out, "{value:0width$}").expect("writing to a string cannot fail");
        }
        out
    }

    /// Returns which segment `path` names, if the template can make that path.
    pub fn matches(
        &self,
        path: &str,
        representation_id: &str,
        bandwidth: u64,
    ) -> Option<Addressed> {
        let mut rest = path;
        let mut segment = Addressed::default();
        for piece in &self.pieces {
            let (slot, width) = match piece {
                Piece::Text(text) => {
                    rest = rest.strip_prefix(text.as_str())?;
                    continue;
                }
                Piece::RepresentationId => {
                    rest = rest.strip_prefix(representation_id)?;
                    continue;
                }
                Piece::Bandwidth { width } => {
                    rest = rest.strip_prefix(format!("{bandwidth:0width$}").as_str())?;
                    continue;
                }
                Piece::Number { width } => (&mut segment.number, *width),
                Piece::Time { width } => (&mut segment.time, *width),
                Piece::SubNumber { width } => (&mut segment.sub_number, *width),
            };
            let (value, after) = take_number(rest, width)?;
            if slot.is_some_and(|before| before != value) {
                return None;
            }
            *slot = Some(value);
            rest = after;
        }
        rest.is_empty().then_some(segment)
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        Some(Piece::Text(before)) => before.push_str(text),
        _ if text.is_empty() => {}
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}

fn identified(identifier: &str) -> Result<Piece, TemplateError> {
    let (name, width) = match identifier.split_once('%') {
        None => (identifier, 1),
        Some((name, format)) => {
            let width = format
                .strip_prefix('0')
                .and_then(|format| format.strip_suffix('d'));
            let width = width.and_then(|width| width.parse().ok());
            (
                name,
                width
                    .filter(|width| (1..=WIDTH_MAX).contains(width))
                    .ok_or(TemplateError::Identifier)?,
            )
        }
    };
    match name {
        "RepresentationID" if name == identifier => Ok(Piece::RepresentationId),
        "Bandwidth" => Ok(Piece::Bandwidth { width }),
        "Number" => Ok(Piece::Number { width }),
        "Time" => Ok(Piece::Time { width }),
        "SubNumber" => Ok(Piece::SubNumber { width }),
        _ => Err(TemplateError::Identifier),
    }
}

/// Takes the digits at the beginning of a text, if they are how a number of this width is written.
fn take_number(text: &str, width: usize) -> Option<(u64, &str)> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at_checked(length)?;
    let is_padded = digits.starts_with('0') && length > 1;
    let is_canonical = length == width || (length > width && !is_padded);
    if is_canonical {
        Some((digits.parse().ok()?, rest))
    } else {
        None
    }
}

/// The longest number has twenty digits.
const WIDTH_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: u64) -> Addressed {
        Addressed {
            number: Some(number),
            ..Addressed::default()
        }
    }

    #[test]
    fn a_template_names_segments_and_knows_them_again() {
        let time = Addressed {
            time: Some(900_000),
            ..Addressed::default()
        };
        let chunk = Addressed {
            number: Some(7),
            sub_number: Some(3),
            time: None,
        };
        let cases = [
            ("$RepresentationID$/$Number$.m4s", number(12), "v1/12.m4s"),
            ("seg-$Number%05d$.m4s", number(12), "seg-00012.m4s"),
            ("seg-$Number%02d$.m4s", number(1234), "seg-1234.m4s"),
            ("$$/$Bandwidth$-$Time$", time, "$/5000-900000"),
            ("$Number$_$SubNumber%02d$.m4s", chunk, "7_03.m4s"),
            ("$Number$-$Number$", number(0), "0-0"),
        ];
        for (text, segment, path) in cases {
            let template = Template::parse(text).unwrap();
            assert_eq!(template.fill("v1", 5000, segment), path, "{text}");
            assert_eq!(template.matches(path, "v1", 5000), Some(segment), "{text}");
        }
    }

    #[test]
    fn a_path_that_the_template_cannot_make_names_nothing() {
        let cases = [
            ("$RepresentationID$/$Number$.m4s", "v2/12.m4s"),
            ("$RepresentationID$/$Number$.m4s", "v1/12.m4sx"),
            ("$RepresentationID$/$Number$.m4s", "v1/.m4s"),
            ("$RepresentationID$/$Number$.m4s", "v1/012.m4s"),
            ("$Number%05d$", "12"),
            ("$Number%02d$", "0012"),
            ("$Number$", "18446744073709551616"),
            ("$Number$-$Number$", "1-2"),
            ("$Bandwidth$", "5001"),
        ];
        for (text, path) in cases {
            let template = Template::parse(text).unwrap();
            assert_eq!(template.matches(path, "v1", 5000), None, "{text} {path}");
        }
    }

    #[test]
    fn texts_that_are_no_templates_are_refused() {
        let cases = [
            ("$Number", TemplateError::Unclosed),
            ("$", TemplateError::Unclosed),
            ("a$$$", TemplateError::Unclosed),
            ("$Nummer$", TemplateError::Identifier),
            ("$Number%5d$", TemplateError::Identifier),
            ("$Number%099999d$", TemplateError::Identifier),
            ("$Number%00d$", TemplateError::Identifier),
            ("$RepresentationID%05d$", TemplateError::Identifier),
        ];
        for (text, error) in cases {
            assert_eq!(Template::parse(text), Err(error), "{text}");
        }
        assert_eq!(
            Template::parse(&"$Number$a".repeat(40)),
            Err(TemplateError::TooLong)
        );
    }
}
