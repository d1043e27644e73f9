//! What a response's cache directives say: RFC 9111 5.2.2, RFC 5861 and RFC 9213, read from the text.
//!
//! Where the text leaves open how something is to be read (a directive given twice, a lifetime that is no
//! number), there are several readings: a cache may act by any of them. Who calls it: `stored`.
//! Deliberately not here: what follows from the directives.

use http::HeaderMap;

/// One way to read the cache directives of a response.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    pub(crate) no_store: bool,
    pub(crate) private: bool,
    pub(crate) public: bool,
    pub(crate) must_understand: bool,
    pub(crate) must_revalidate: bool,
    pub(crate) proxy_revalidate: bool,
    pub(crate) no_cache: bool,
    /// Fields that `no-cache="..."` or `private="..."` names.
    pub(crate) guarded: Vec<String>,
    pub(crate) s_maxage: Option<i64>,
    pub(crate) max_age: Option<i64>,
    pub(crate) stale_while_revalidate: Option<i64>,
    pub(crate) stale_if_error: Option<i64>,
    /// RFC 9213 2.2: a targeted field is in force, and `Expires` is ignored.
    pub(crate) is_targeted: bool,
}

impl Reading {
    /// RFC 9111 3.5: whether an answer to `Authorization` may be given to others.
    pub(crate) fn allows_authorized(&self) -> bool {
        self.must_revalidate || self.public || self.s_maxage.is_some()
    }

    /// RFC 9111 5.2.2.2, 5.2.2.8, 5.2.2.10: whether it must not be used stale, come what may.
    pub(crate) fn forbids_stale(&self) -> bool {
        self.must_revalidate || self.proxy_revalidate || self.no_cache
    }

    /// Whether `s-maxage` forbids stale use by implying `proxy-revalidate`.
    ///
    /// An origin that names a window of RFC 5861 beside it contradicts itself. Seawall takes the window for
    /// the narrower word and the model lets it, by decision: by the letter of RFC 9111 4.2.4 it would not.
    pub(crate) fn implies_proxy_revalidate(&self) -> bool {
        self.s_maxage.is_some()
    }
}

/// Returns every way in which the cache directives of a response may be read.
pub(crate) fn readings(fields: &HeaderMap) -> Vec<Reading> {
    let mut readings = Vec::new();
    for name in TARGETED {
        let text = combined(fields, name);
        // RFC 9213 2.1: an empty or malformed targeted field is ignored.
        let Some(members) = dictionary(&text).filter(|members| !members.is_empty()) else {
            continue;
        };
        // A value of the wrong type: the member or the whole field may be ignored.
        let is_odd = members.iter().any(is_of_wrong_type);
        readings.extend(read(&members, true));
        if !is_odd {
            return readings;
        }
    }
    readings.extend(read(&list(&combined(fields, "cache-control")), false));
    readings
}

/// The targeted fields that Seawall obeys, in order.
const TARGETED: [&str; 2] = ["seawall-cdn-cache-control", "cdn-cache-control"];

/// A directive with its argument, unquoted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Directive {
    pub(crate) name: String,
    pub(crate) argument: Option<String>,
}

fn read(directives: &[Directive], is_targeted: bool) -> Vec<Reading> {
    let has = |name: &str| directives.iter().any(|d| d.name == name);
    let plain = |name: &str| {
        directives
            .iter()
            .any(|d| d.name == name && d.argument.is_none())
    };
    let base = Reading {
        no_store: has("no-store"),
        public: has("public"),
        must_understand: has("must-understand"),
        must_revalidate: has("must-revalidate"),
        proxy_revalidate: has("proxy-revalidate"),
        private: plain("private"),
        no_cache: plain("no-cache"),
        is_targeted,
        ..Reading::default()
    };
    let mut readings = vec![base];
    // RFC 9111 5.2.2.4, 5.2.2.7: many caches take the qualified form for the unqualified one.
    for name in ["private", "no-cache"] {
        let named: Vec<String> = directives
            .iter()
            .filter(|d| d.name == name)
            .filter_map(|d| d.argument.as_deref())
            .flat_map(|argument| argument.trim_matches('"').split(','))
            .map(|field| field.trim().to_ascii_lowercase())
            .collect();
        if named.is_empty() {
            continue;
        }
        let qualified = readings.clone().into_iter().map(|mut reading| {
            reading.guarded.extend(named.iter().cloned());
            reading
        });
        let unqualified = readings.clone().into_iter().map(|mut reading| {
            reading.private |= name == "private";
            reading.no_cache |= name == "no-cache";
            reading
        });
        readings = qualified.chain(unqualified).collect();
    }
    for Number { name, of } in NUMBERS {
        let values = seconds_of(directives, name);
        readings = readings
            .into_iter()
            .flat_map(|reading| {
                values.iter().map(move |value| {
                    let mut reading = reading.clone();
                    *of(&mut reading) = *value;
                    reading
                })
            })
            .collect();
    }
    readings
}

/// A directive whose argument is a number of seconds.
struct Number {
    name: &'static str,
    of: fn(&mut Reading) -> &mut Option<i64>,
}

const NUMBERS: [Number; 4] = [
    Number {
        name: "s-maxage",
        of: |r| &mut r.s_maxage,
    },
    Number {
        name: "max-age",
        of: |r| &mut r.max_age,
    },
    Number {
        name: "stale-while-revalidate",
        of: |r| &mut r.stale_while_revalidate,
    },
    Number {
        name: "stale-if-error",
        of: |r| &mut r.stale_if_error,
    },
];

/// RFC 9111 4.2.1: of several values the first counts, or the response is stale; one that is no number
/// is ignored, or the response is stale.
fn seconds_of(directives: &[Directive], name: &str) -> Vec<Option<i64>> {
    let values: Vec<Option<i64>> = directives
        .iter()
        .filter(|d| d.name == name)
        .map(|d| d.argument.as_deref().and_then(delta_seconds))
        .collect();
    let Some(first) = values.first() else {
        return vec![None];
    };
    if first.is_some() && values.iter().all(|value| value == first) {
        return vec![*first];
    }
    let first_valid = values.iter().flatten().next().copied();
    let mut readings = vec![first_valid, Some(0)];
    if first.is_none() {
        readings.push(None);
    }
    readings
}

/// RFC 9111 1.2.2: digits only; what is too large is the largest.
pub(crate) fn delta_seconds(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().map_or(LARGEST, |n: i64| n.min(LARGEST)))
}

const LARGEST: i64 = 1 << 31;

/// Returns the lines of a field as one value (RFC 9110 5.3).
pub(crate) fn combined(fields: &HeaderMap, name: &str) -> String {
    let lines: Vec<&str> = fields
        .get_all(name)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .collect();
    lines.join(", ")
}

/// RFC 9111 5.2: a comma-separated list of directives; commas in quoted strings separate nothing.
pub(crate) fn list(text: &str) -> Vec<Directive> {
    let mut members = vec![String::new()];
    let (mut is_quoted, mut is_escaped) = (false, false);
    for c in text.chars() {
        match c {
            ',' if !is_quoted => {
                members.push(String::new());
                continue;
            }
            '"' if !is_escaped => is_quoted = !is_quoted,
            _ => {}
        }
        is_escaped = is_quoted && c == '\\' && !is_escaped;
        if let Some(member) = members.last_mut() {
            member.push(c);
        }
    }
    let members = members.iter().map(|member| member.trim());
    members.filter(|m| !m.is_empty()).map(directive).collect()
}

fn directive(member: &str) -> Directive {
    let (name, argument) = match member.split_once('=') {
        Some((name, argument)) => (name, Some(argument)),
        None => (member, None),
    };
    let unquoted = |text: &str| {
        let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
        inner.map_or_else(|| text.to_owned(), |inner| inner.replace('\\', ""))
    };
    Directive {
        // White space before the `=` makes it malformed; as its argument has it, too, that is told by it.
        name: name.trim_end().to_ascii_lowercase(),
        argument: argument.map(unquoted),
    }
}

/// RFC 9651 4.2.2: a dictionary of integers, strings, tokens and booleans; `None` if it does not parse.
fn dictionary(text: &str) -> Option<Vec<Directive>> {
    let mut members: Vec<Directive> = Vec::new();
    let text = text.trim_matches(' ');
    if text.is_empty() {
        return Some(members);
    }
    for member in text.split(',') {
        let member = member.trim_matches([' ', '\t']);
        let bare = member.split(';').next()?;
        let (key, value) = match bare.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (bare, None),
        };
        let starts_well = key.starts_with(|c: char| c.is_ascii_lowercase() || c == '*');
        let is_key = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.*".contains(c);
        if !starts_well || !key.chars().all(is_key) {
            return None;
        }
        let argument = match value {
            None | Some("?1") => None,
            Some(value) => Some(bare_item(value)?),
        };
        // RFC 9651 4.2.2: of several members with one key the last counts.
        members.retain(|earlier| earlier.name != key);
        members.push(Directive {
            name: key.to_owned(),
            argument,
        });
    }
    Some(members)
}

fn bare_item(text: &str) -> Option<String> {
    let first = text.chars().next()?;
    let is_sound = match first {
        '0'..='9' | '-' => text.parse::<f64>().is_ok() && !text.ends_with('.'),
        'a'..='z' | 'A'..='Z' | '*' => true,
        '"' => text.len() > 1 && text.ends_with('"'),
        _ => false,
    };
    // A string stays in its quotes: it is no number, whatever is in it.
    is_sound.then(|| text.to_owned())
}

fn is_of_wrong_type(member: &Directive) -> bool {
    let argument = member.argument.as_deref();
    if NUMBERS.iter().any(|number| number.name == member.name) {
        return argument.and_then(delta_seconds).is_none();
    }
    argument.is_some() && !["private", "no-cache"].contains(&member.name.as_str())
}

#[test]
fn rfc_9111_5_2_a_comma_in_quotes_separates_nothing() {
    let names: Vec<String> = list("a=\"x, no-store\", Max-Age=\"10\",, b")
        .into_iter()
        .map(|d| d.name)
        .collect();
    assert_eq!(names, ["a", "max-age", "b"]);
}

#[test]
fn rfc_9111_4_2_1_a_lifetime_given_twice_has_two_readings() {
    let of = |text: &str| seconds_of(&list(text), "max-age");
    assert_eq!(of("max-age=5, max-age=5"), [Some(5)]);
    assert_eq!(of("max-age=5, max-age=9"), [Some(5), Some(0)]);
    assert_eq!(of("max-age=x"), [None, Some(0), None]);
    assert_eq!(of("no-cache"), [None]);
}

#[test]
fn rfc_9213_2_1_a_targeted_field_that_does_not_parse_is_not_there() {
    for malformed in ["Max-Age=5", "max-age=", "max-age=5,", "=5"] {
        assert_eq!(dictionary(malformed), None, "{malformed}");
    }
    let members = dictionary("max-age=5;x, no-store, max-age=6").unwrap();
    assert_eq!(members.len(), 2);
    assert_eq!(members[1].argument.as_deref(), Some("6"));
}
