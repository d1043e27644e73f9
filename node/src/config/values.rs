//! Value types with units, each from one TOML value: pure, and precise about what is allowed.

use std::fmt;
use std::fs;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use toml::de::DeValue;

use super::Files;
use super::problem::Wrong;
use super::section::Item;
use crate::request::Network;

/// A number of bytes, written with a binary unit: `512MiB`, `4GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const SIZE_UNITS: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |&&(_, unit): &&(&str, u64)| self.0 >= unit && self.0.is_multiple_of(unit);
        let (name, unit) = SIZE_UNITS.iter().find(fits).unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

/// Returns a size within `range`.
pub fn byte_size(range: RangeInclusive<u64>) -> impl Fn(&Item<'_>) -> Result<u64, Wrong> {
    move |item| {
        let wrong = |allowed: String| Wrong::new("is not a size", allowed);
        let usual =
            || wrong("a whole number with a unit: \"64KiB\", \"512MiB\", \"4GiB\"".to_owned());
        let (number, unit) = number_and_unit(item).ok_or_else(usual)?;
        let Some((_, factor)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
            let meant = SIZE_UNITS.iter().find(|(name, _)| {
                !unit.is_empty()
                    && name
                        .replace('i', "")
                        .eq_ignore_ascii_case(&unit.replace('i', ""))
            });
            return Err(meant.map_or_else(usual, |(name, _)| {
                wrong(format!("write \"{number}{name}\""))
            }));
        };
        number
            .checked_mul(*factor)
            .filter(|bytes| range.contains(bytes))
            .ok_or_else(|| out_of(ByteSize(*range.start()), ByteSize(*range.end())))
    }
}

const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Formats a duration as the configuration writes it: `500ms`, `2s`.
pub fn duration_text(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".to_owned();
    }
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let fits =
        |&&(_, unit): &&(&str, u64)| milliseconds >= unit && milliseconds.is_multiple_of(unit);
    let (name, unit) = DURATION_UNITS.iter().find(fits).unwrap_or(&("ms", 1));
    format!("{}{name}", milliseconds / unit)
}

/// Returns a duration within `range`.
pub fn duration(range: RangeInclusive<Duration>) -> impl Fn(&Item<'_>) -> Result<Duration, Wrong> {
    move |item| {
        let wrong = || {
            Wrong::new(
                "is not a duration",
                "a whole number with a unit: \"500ms\", \"2s\", \"5m\", \"1h\", \"1d\"",
            )
        };
        let (number, unit) = number_and_unit(item).ok_or_else(wrong)?;
        let (_, factor) = DURATION_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(wrong)?;
        number
            .checked_mul(*factor)
            .map(Duration::from_millis)
            .filter(|duration| range.contains(duration))
            .ok_or_else(|| out_of(duration_text(*range.start()), duration_text(*range.end())))
    }
}

/// Returns a share of a hundred within `range`, written `"10%"`.
pub fn percent(range: RangeInclusive<u32>) -> impl Fn(&Item<'_>) -> Result<u32, Wrong> {
    move |item| {
        let wrong = || {
            Wrong::new(
                "is not a percentage",
                "a whole number with a percent sign: \"10%\"",
            )
        };
        let (number, unit) = number_and_unit(item).ok_or_else(wrong)?;
        if unit != "%" {
            return Err(wrong());
        }
        u32::try_from(number)
            .ok()
            .filter(|percent| range.contains(percent))
            .ok_or_else(|| out_of(format!("{}%", range.start()), format!("{}%", range.end())))
    }
}

/// Returns a whole number within `range`.
pub fn count<T>(range: RangeInclusive<T>) -> impl Fn(&Item<'_>) -> Result<T, Wrong>
where
    T: TryFrom<u64> + PartialOrd + fmt::Display + Copy,
{
    move |item| {
        let limits = || out_of(*range.start(), *range.end());
        let DeValue::Integer(integer) = item.value() else {
            return Err(Wrong {
                what: "is not a whole number".to_owned(),
                ..limits()
            });
        };
        u64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(limits)
    }
}

/// Returns `true` or `false`.
pub fn flag(item: &Item<'_>) -> Result<bool, Wrong> {
    match item.value() {
        DeValue::Boolean(is_on) => Ok(*is_on),
        _ => Err(Wrong::new(
            "is neither true nor false",
            "true or false, without quotes",
        )),
    }
}

/// Returns the one of `all` that has the name.
pub(super) fn one_of<T: Copy>(
    all: &[T],
    name_of: impl Fn(T) -> &'static str,
) -> impl Fn(&Item<'_>) -> Result<T, Wrong> {
    move |item| {
        let chosen = text(item)?;
        let found = all.iter().copied().find(|one| name_of(*one) == chosen);
        found.ok_or_else(|| {
            let names: Vec<String> = all
                .iter()
                .map(|one| format!("\"{}\"", name_of(*one)))
                .collect();
            Wrong::new("is none of the choices", names.join(", "))
        })
    }
}

/// Returns a name that may stand in header fields, labels and logs: RFC 9110's token without surprises.
pub fn name(item: &Item<'_>) -> Result<String, Wrong> {
    let text = text(item)?;
    // RFC 9211 2 makes it a structured field's token, which begins with a letter.
    let is_name = text.len() <= NAME_BYTES_MAX
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if is_name {
        return Ok(text.to_owned());
    }
    let allowed = "a letter, then letters, digits, `-`, `_` or `.`, at most 64 of them";
    Err(Wrong::new("is not a name", allowed))
}

/// Returns the name of a query parameter.
pub fn parameter_name(item: &Item<'_>) -> Result<String, Wrong> {
    let text = text(item)?;
    let is_name = !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"&=#?".contains(&b));
    if !is_name {
        return Err(Wrong::new(
            "is not a parameter's name",
            "the name alone, as it stands in URLs",
        ));
    }
    // rfc8216bis 6.2.5: a playlist without its directives is another playlist.
    if text.starts_with("_HLS_") {
        return Err(Wrong::new(
            "is reserved by HLS",
            "delivery directives are never dropped",
        ));
    }
    Ok(text.to_owned())
}

/// Returns a scheme and an authority, nothing else: `https://shield-1.example:8443`.
pub fn url(item: &Item<'_>) -> Result<Uri, Wrong> {
    let wrong = |allowed: &str| Err(Wrong::new("is not the URL of a parent", allowed));
    let text = text(item)?;
    let usual = "a scheme and a host, with a port if needed: \"https://shield-1.example:8443\"";
    let Ok(uri) = text.parse::<Uri>() else {
        return wrong(usual);
    };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return wrong(usual);
    };
    if !matches!(scheme, "http" | "https") || authority.host().is_empty() {
        return wrong(usual);
    }
    if authority.as_str().contains('@') {
        let allowed = "no user and password here; an origin's secret belongs in its `headers`";
        return Err(Wrong::new("is not the URL of a parent", allowed).of_secret());
    }
    // "host:99999" parses as an authority without a usable port.
    let after_host = authority
        .as_str()
        .get(authority.host().len()..)
        .unwrap_or("");
    if !after_host.is_empty() && authority.port_u16().is_none_or(|port| port == 0) {
        return wrong("a port is a number from 1 to 65535");
    }
    if uri.path() != "/" || uri.query().is_some() || text.ends_with('/') || text.contains('#') {
        return wrong("nothing after the host and port: a node asks for the viewer's path");
    }
    Ok(uri)
}

/// Returns a host name, with a port if needed, as a `Host` field would have it.
pub fn host(item: &Item<'_>) -> Result<String, Wrong> {
    let text = text(item)?;
    let is_authority = text
        .parse::<http::uri::Authority>()
        .is_ok_and(|authority| !authority.host().is_empty() && !text.contains('@'));
    if is_authority {
        return Ok(text.to_ascii_lowercase());
    }
    Err(Wrong::new(
        "is not a host name",
        "a name, with a port if needed: \"live.example\"",
    ))
}

/// Returns addresses that begin alike.
///
/// # Errors
///
/// What is no address, with or without the length of a prefix.
pub fn network(item: &Item<'_>) -> Result<Network, Wrong> {
    let allowed =
        "addresses, by a prefix or one by one: \"10.0.0.0/8\", \"2001:db8::/32\", \"192.0.2.1\"";
    let wrong = || Wrong::new("is not a network", allowed);
    match item.value() {
        DeValue::String(text) => text.parse().map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

/// Returns the path of a file, relative to the configuration; it must exist where files are checked.
pub fn file(item: &Item<'_>) -> Result<PathBuf, Wrong> {
    let (path, files) = item.resolve(text(item)?);
    match files {
        Files::NotChecked => Ok(path),
        Files::MustExist => match fs::metadata(&path) {
            Ok(found) if found.is_file() => Ok(path),
            Ok(_) => Err(Wrong::new(
                "is not a file",
                format!("{} is something else", path.display()),
            )),
            Err(error) => Err(Wrong::new(
                "cannot be read",
                format!("{}: {error}", path.display()),
            )),
        },
    }
}

/// Returns the path of a file that may not exist yet; its directory must, where files are checked.
pub(super) fn file_to_write(item: &Item<'_>) -> Result<PathBuf, Wrong> {
    let (path, files) = item.resolve(text(item)?);
    let directory = path.parent().filter(|d| !d.as_os_str().is_empty());
    if files == Files::MustExist && directory.is_some_and(|directory| !directory.is_dir()) {
        let allowed = format!("the directory of {} does not exist", path.display());
        return Err(Wrong::new("cannot be written", allowed));
    }
    Ok(path)
}

/// Returns a secret: the text itself, or the first line of `{ file = ".." }`.
pub(super) fn secret(item: &Item<'_>) -> Result<String, Wrong> {
    let Some(named) = item.single("file") else {
        return text(item).map(str::to_owned).map_err(|_| {
            Wrong::new(
                "is not a secret",
                "a text, or { file = \"path\" } to read it from a file",
            )
        });
    };
    let path = file(&named)?;
    let (_, files) = named.resolve("");
    if files == Files::NotChecked {
        return Ok(String::new());
    }
    let read = fs::read_to_string(&path)
        .map_err(|error| Wrong::new("cannot be read", format!("{}: {error}", path.display())))?;
    Ok(read.lines().next().unwrap_or("").to_owned())
}

/// Returns a text.
pub(super) fn text<'r>(item: &Item<'r>) -> Result<&'r str, Wrong> {
    match item.value() {
        DeValue::String(text) if text.is_empty() => {
            Err(Wrong::new("is empty", "leave the key out instead"))
        }
        DeValue::String(text) => Ok(text),
        _ => Err(Wrong::new("is not a text", "a text in quotes: \"..\"")),
    }
}

/// Splits `"500ms"` into 500 and `ms`.
fn number_and_unit<'r>(item: &Item<'r>) -> Option<(u64, &'r str)> {
    let DeValue::String(text) = item.value() else {
        return None;
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim()))
}

fn out_of(from: impl fmt::Display, to: impl fmt::Display) -> Wrong {
    Wrong::new("is out of range", format!("from {from} to {to}"))
}

const NAME_BYTES_MAX: usize = 64;
