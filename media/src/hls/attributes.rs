//! Attribute lists: `NAME=value,NAME="quoted, value"` (rfc8216bis 4.2).
//!
//! Called by the tag parsers. Values are borrowed; quotes are taken off.

use memchr::memchr;

/// An attribute of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attribute<'a> {
    pub name: &'a str,
    /// The value; of a quoted string, what is between the quotes.
    pub value: &'a str,
}

impl Attribute<'_> {
    /// Returns whether the value is the enumerated string `YES`.
    pub(super) fn is_yes(&self) -> bool {
        self.value == "YES"
    }
}

/// What is wrong with an attribute list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// No `=`, an empty name, or a quoted string that does not end.
    Malformed,
    /// More attributes than allowed.
    TooMany,
}

/// The attributes of a list, in order; ends after the first flaw.
#[derive(Clone, Debug)]
pub(super) struct Attributes<'a> {
    rest: &'a str,
    left: usize,
}

impl<'a> Attributes<'a> {
    /// Reads `list`, of at most `attributes_max`.
    pub(super) fn new(list: &'a str, attributes_max: usize) -> Self {
        Self {
            rest: list.trim_ascii(),
            left: attributes_max,
        }
    }

    fn take(&mut self) -> Result<Attribute<'a>, Flaw> {
        let (name, rest) = self.rest.split_once('=').ok_or(Flaw::Malformed)?;
        let name = name.trim_ascii();
        if name.is_empty() || name.contains([',', '"']) {
            return Err(Flaw::Malformed);
        }
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or(Flaw::Malformed)?,
            None => {
                let end = memchr(b',', rest.as_bytes()).unwrap_or(rest.len());
                rest.split_at_checked(end).ok_or(Flaw::Malformed)?
            }
        };
        let rest = rest.trim_ascii_start();
        self.rest = match rest.strip_prefix(',') {
            Some(rest) => rest.trim_ascii_start(),
            None if rest.is_empty() => rest,
            None => return Err(Flaw::Malformed),
        };
        Ok(Attribute {
            name,
            value: value.trim_ascii_end(),
        })
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Flaw>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let taken = match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                self.take()
            }
            None => Err(Flaw::TooMany),
        };
        if taken.is_err() {
            self.rest = "";
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &str) -> Result<Vec<(&str, &str)>, Flaw> {
        Attributes::new(list, 4)
            .map(|a| a.map(|a| (a.name, a.value)))
            .collect()
    }

    #[test]
    fn attribute_lists_are_read_with_and_without_quotes() {
        let cases: [(&str, &[(&str, &str)]); 7] = [
            ("", &[]),
            ("A=1", &[("A", "1")]),
            ("A=\"x,y=z\",B=YES", &[("A", "x,y=z"), ("B", "YES")]),
            ("A=1, B=2 ,C=\"\"", &[("A", "1"), ("B", "2"), ("C", "")]),
            ("A=1,", &[("A", "1")]),
            ("A=", &[("A", "")]),
            (
                "BYTERANGE=\"10@0\" , X-É=é",
                &[("BYTERANGE", "10@0"), ("X-É", "é")],
            ),
        ];
        for (list, expected) in cases {
            assert_eq!(read(list).as_deref(), Ok(expected), "{list}");
        }
    }

    #[test]
    fn flawed_attribute_lists_are_refused() {
        for list in [
            "A",
            "A,B=1",
            "=1",
            "A=\"x",
            "A=\"x\"y,B=1",
            "A=1,,B=2",
            ",A=1",
        ] {
            assert_eq!(read(list), Err(Flaw::Malformed), "{list}");
        }
        assert_eq!(read("A=1,B=2,C=3,D=4,E=5"), Err(Flaw::TooMany));
    }
}
