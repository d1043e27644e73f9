//! `Cache-Control` as values (RFC 9111 5.2), and the targeted fields that replace it (RFC 9213).
//!
//! `freshness`, `storable` and `stale` judge by what is parsed here. Parsing never fails: what
//! cannot be read is ignored, but for a lifetime that cannot be read, which counts as zero (RFC
//! 9111 4.2.1: invalid freshness information means stale). Deliberately not here: what any
//! directive leads to.

mod targeted;

use std::time::Duration;

use http::HeaderMap;
use http::header::{CACHE_CONTROL, HeaderName, PRAGMA};

/// The most field names that `no-cache="…"` and `private="…"` may list; with more, the directive
/// applies to the whole response.
pub const LISTED_FIELDS_MAX: usize = 32;

/// Lifetimes are cut to this many seconds, 68 years (RFC 9111 1.2.2).
const SECONDS_MAX: u64 = 1 << 31;

/// What a response says about its storage and reuse (RFC 9111 5.2.2, RFC 5861, RFC 8246).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseDirectives {
    /// `max-age`.
    pub max_age: Option<Duration>,
    /// `s-maxage`.
    pub s_maxage: Option<Duration>,
    /// `no-store`.
    pub no_store: bool,
    /// `no-cache`.
    pub no_cache: Extent,
    /// `private`.
    pub private: Extent,
    /// `public`.
    pub public: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `must-understand`.
    pub must_understand: bool,
    /// `immutable` (RFC 8246).
    pub immutable: bool,
    /// `stale-while-revalidate` (RFC 5861 3).
    pub stale_while_revalidate: Option<Duration>,
    /// `stale-if-error` (RFC 5861 4).
    pub stale_if_error: Option<Duration>,
    /// Whether a targeted field said all this, so that `Expires` does not count (RFC 9213 2.2).
    pub is_targeted: bool,
}

/// What `no-cache` or `private` applies to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// The directive is absent.
    #[default]
    Nothing,
    /// Only these fields of the response; empty names nothing.
    Fields(Vec<HeaderName>),
    /// The whole response.
    Response,
}

/// What a request says about the responses it accepts (RFC 9111 5.2.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// `max-age`: the greatest age that is accepted.
    pub max_age: Option<Duration>,
    /// `max-stale`: how stale a response may be; without an argument, [`Duration::MAX`].
    pub max_stale: Option<Duration>,
    /// `min-fresh`: how long a response must stay fresh.
    pub min_fresh: Option<Duration>,
    /// `no-cache`, or `Pragma: no-cache` in a request without `Cache-Control` (RFC 9111 5.4).
    pub no_cache: bool,
    /// `no-store`.
    pub no_store: bool,
    /// `only-if-cached`.
    pub only_if_cached: bool,
    /// Not a directive: whoever asks may know of a purge that the store has not seen, so that nothing stored is
    /// used before it is confirmed, even if it promised never to change.
    pub is_distrusting: bool,
}

impl ResponseDirectives {
    /// Returns what a response says: in the first of `targeted` that is valid and not empty (RFC
    /// 9213 2.2), otherwise in `Cache-Control`.
    pub fn of(response: &HeaderMap, targeted: &[HeaderName]) -> Self {
        targeted
            .iter()
            .find_map(|name| targeted::parse(response, name))
            .unwrap_or_else(|| Self::of_cache_control(response))
    }

    fn of_cache_control(response: &HeaderMap) -> Self {
        let mut said = Self::default();
        for_each_directive(response, |name, argument| match name {
            Name::MaxAge => keep_first(&mut said.max_age, seconds(argument)),
            Name::SMaxage => keep_first(&mut said.s_maxage, seconds(argument)),
            Name::StaleWhileRevalidate => {
                keep_first(&mut said.stale_while_revalidate, seconds(argument));
            }
            Name::StaleIfError => keep_first(&mut said.stale_if_error, seconds(argument)),
            Name::NoStore => said.no_store = true,
            Name::NoCache => said.no_cache.widen(extent(argument)),
            Name::Private => said.private.widen(extent(argument)),
            Name::Public => said.public = true,
            Name::MustRevalidate => said.must_revalidate = true,
            Name::ProxyRevalidate => said.proxy_revalidate = true,
            Name::MustUnderstand => said.must_understand = true,
            Name::Immutable => said.immutable = true,
            Name::MaxStale | Name::MinFresh | Name::OnlyIfCached => {}
        });
        said
    }

    /// Returns the fields that a shared cache must not keep, although it may keep the rest (RFC
    /// 9111 5.2.2.4 and 5.2.2.7, qualified forms).
    pub fn unstorable_fields(&self) -> impl Iterator<Item = &HeaderName> {
        self.no_cache.fields().iter().chain(self.private.fields())
    }
}

impl RequestDirectives {
    /// Returns what a request says.
    pub fn of(request: &HeaderMap) -> Self {
        let mut said = Self::default();
        for_each_directive(request, |name, argument| match name {
            Name::MaxAge => keep_first(&mut said.max_age, seconds(argument)),
            Name::MinFresh => keep_first(&mut said.min_fresh, seconds(argument)),
            Name::MaxStale => {
                // RFC 9111 5.2.1.2: without a value, any staleness is accepted.
                let any = Some(Duration::MAX).filter(|_| argument.is_none());
                keep_first(
                    &mut said.max_stale,
                    any.unwrap_or_else(|| seconds(argument)),
                );
            }
            Name::NoCache => said.no_cache = true,
            Name::NoStore => said.no_store = true,
            Name::OnlyIfCached => said.only_if_cached = true,
            Name::SMaxage
            | Name::StaleWhileRevalidate
            | Name::StaleIfError
            | Name::Private
            | Name::Public
            | Name::MustRevalidate
            | Name::ProxyRevalidate
            | Name::MustUnderstand
            | Name::Immutable => {}
        });
        if !request.contains_key(CACHE_CONTROL) {
            said.no_cache = request.get_all(PRAGMA).iter().any(|line| {
                let mut members = line.as_bytes().split(|b| *b == b',');
                members.any(|member| member.trim_ascii().eq_ignore_ascii_case(b"no-cache"))
            });
        }
        said
    }
}

impl Extent {
    /// Returns whether the directive applies to the whole response.
    pub fn is_response(&self) -> bool {
        *self == Self::Response
    }

    fn fields(&self) -> &[HeaderName] {
        match self {
            Self::Fields(names) => names,
            Self::Nothing | Self::Response => &[],
        }
    }

    /// Adds another occurrence of the directive; the wider one wins.
    fn widen(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Response, _) | (_, Self::Nothing) => {}
            (Self::Fields(names), Self::Fields(more))
                if names.len() + more.len() <= LISTED_FIELDS_MAX =>
            {
                names.extend(more);
            }
            (Self::Nothing, other @ Self::Fields(_)) => *self = other,
            (Self::Fields(_), Self::Fields(_)) | (_, Self::Response) => *self = Self::Response,
        }
    }
}

/// The directives we know; others are ignored (RFC 9111 5.2.3).
#[derive(Clone, Copy)]
enum Name {
    MaxAge,
    SMaxage,
    MaxStale,
    MinFresh,
    NoStore,
    NoCache,
    Private,
    Public,
    MustRevalidate,
    ProxyRevalidate,
    MustUnderstand,
    Immutable,
    OnlyIfCached,
    StaleWhileRevalidate,
    StaleIfError,
}

const NAMES: [(&[u8], Name); 15] = [
    (b"max-age", Name::MaxAge),
    (b"s-maxage", Name::SMaxage),
    (b"max-stale", Name::MaxStale),
    (b"min-fresh", Name::MinFresh),
    (b"no-store", Name::NoStore),
    (b"no-cache", Name::NoCache),
    (b"private", Name::Private),
    (b"public", Name::Public),
    (b"must-revalidate", Name::MustRevalidate),
    (b"proxy-revalidate", Name::ProxyRevalidate),
    (b"must-understand", Name::MustUnderstand),
    (b"immutable", Name::Immutable),
    (b"only-if-cached", Name::OnlyIfCached),
    (b"stale-while-revalidate", Name::StaleWhileRevalidate),
    (b"stale-if-error", Name::StaleIfError),
];

/// Calls `each` with every known directive and its argument, if it has one, quotes removed.
fn for_each_directive(headers: &HeaderMap, mut each: impl FnMut(Name, Option<&[u8]>)) {
    for line in headers.get_all(CACHE_CONTROL) {
        for member in Members(line.as_bytes()) {
            let (name, argument) = match member.iter().position(|b| *b == b'=') {
                Some(at) => (&member[..at], Some(unquoted(&member[at + 1..]))),
                None => (member, None),
            };
            let name = name.trim_ascii_end();
            let known = NAMES
                .iter()
                .find(|(known, _)| name.eq_ignore_ascii_case(known));
            if let Some((_, known)) = known {
                each(*known, argument);
            }
        }
    }
}

/// The members of a comma-separated list, whose commas inside quoted strings do not separate.
struct Members<'a>(&'a [u8]);

impl<'a> Iterator for Members<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let (member, rest) = match end_of_member(self.0) {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (self.0, &[][..]),
        };
        self.0 = rest;
        Some(member.trim_ascii())
    }
}

fn end_of_member(list: &[u8]) -> Option<usize> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in list.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b',' if !is_quoted => return Some(at),
            _ => {}
        }
    }
    if is_quoted {
        // A quote that never closes must not hide a `no-store` behind it.
        return list.iter().position(|byte| *byte == b',');
    }
    None
}

/// RFC 9111 5.2: arguments come as token or quoted string; recipients accept both.
fn unquoted(argument: &[u8]) -> &[u8] {
    argument
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .unwrap_or(argument)
}

/// RFC 9111 4.2.1: of several occurrences, the first is used.
fn keep_first<T>(place: &mut Option<T>, value: T) {
    place.get_or_insert(value);
}

/// Reads delta-seconds (RFC 9111 1.2.2); what cannot be read is zero.
fn seconds(argument: Option<&[u8]>) -> Duration {
    delta_seconds(argument.unwrap_or_default()).unwrap_or_default()
}

/// Reads delta-seconds (RFC 9111 1.2.2): digits and nothing else; too many mean very long.
pub(crate) fn delta_seconds(text: &[u8]) -> Option<Duration> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = text.iter().fold(0u64, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    });
    Some(Duration::from_secs(seconds.min(SECONDS_MAX)))
}

/// Reads the list of field names of a qualified directive; one that cannot be read is not
/// qualified, which is the stricter reading.
fn extent(argument: Option<&[u8]>) -> Extent {
    let Some(argument) = argument else {
        return Extent::Response;
    };
    let names: Option<Vec<HeaderName>> = argument
        .split(|b| *b == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty())
        .take(LISTED_FIELDS_MAX + 1)
        .map(|name| HeaderName::from_bytes(name).ok())
        .collect();
    match names {
        Some(names) if (1..=LISTED_FIELDS_MAX).contains(&names.len()) => Extent::Fields(names),
        Some(_) | None => Extent::Response,
    }
}

#[cfg(test)]
mod tests;
