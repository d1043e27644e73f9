//! Surrogate keys: the tags by which a group of responses is purged.
//!
//! An origin names them in `Surrogate-Key`, separated by spaces, or in `Cache-Groups`, a list of
//! structured strings (RFC 9875), which is read as the same. A purge finds what is stored under a key
//! through the store's index; the fence asks the same of a fill that has just ended.
//!
//! Deliberately not here: that index, and what a purge is for (`purge`).

use http::header::{HeaderMap, HeaderName};
use sfv::{BareItem, List, ListEntry, Parser};

/// Keys separated by spaces.
pub const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

/// Groups as a list of strings (RFC 9875 2).
pub const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");

/// The most keys of one response that count, in either field.
///
/// RFC 9875 2 asks caches to support at least 32 groups; origins tag with more.
pub const SURROGATE_KEYS_MAX: usize = 256;

/// Returns whether a response carries a surrogate key, for which `is_wanted` says yes.
///
/// Keys are compared byte by byte (RFC 9875 2).
pub fn carries_surrogate_key(
    response: &HeaderMap,
    mut is_wanted: impl FnMut(&str) -> bool,
) -> bool {
    let in_keys = response
        .get_all(SURROGATE_KEY)
        .iter()
        .flat_map(|line| line.as_bytes().split(u8::is_ascii_whitespace))
        .filter(|key| !key.is_empty())
        .take(SURROGATE_KEYS_MAX)
        .any(|key| std::str::from_utf8(key).is_ok_and(&mut is_wanted));
    in_keys || (response.contains_key(CACHE_GROUPS) && in_groups(response, &mut is_wanted))
}

/// Calls `visit` with each surrogate key that a response carries; with one that it carries twice,
/// twice.
pub fn for_each_surrogate_key(response: &HeaderMap, mut visit: impl FnMut(&str)) {
    carries_surrogate_key(response, |key| {
        visit(key);
        false
    });
}

fn in_groups(response: &HeaderMap, is_wanted: &mut impl FnMut(&str) -> bool) -> bool {
    let lines = response.get_all(CACHE_GROUPS).iter();
    let text = lines.fold(Vec::new(), |mut text, line| {
        // RFC 9651 4.2: lines of one field are combined before parsing.
        if !text.is_empty() {
            text.extend_from_slice(b", ");
        }
        text.extend_from_slice(line.as_bytes());
        text
    });
    // RFC 9651 4.2: a list that does not parse is ignored as a whole.
    let groups = Parser::new(&text).parse::<List>().unwrap_or_default();
    groups
        .iter()
        .take(SURROGATE_KEYS_MAX)
        .any(|entry| match entry {
            ListEntry::Item(item) => {
                matches!(&item.bare_item, BareItem::String(group) if is_wanted(group.as_str()))
            }
            ListEntry::InnerList(_) => false,
        })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn carries(name: HeaderName, lines: &[&str], wanted: &str) -> bool {
        let mut response = HeaderMap::new();
        for line in lines {
            response.append(&name, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        carries_surrogate_key(&response, |key| key == wanted)
    }

    #[test]
    fn keys_are_separated_by_spaces_and_compared_exactly() {
        for (lines, wanted, expected) in [
            (&["a b"][..], "a", true),
            (&["a  b\tc"], "b", true),
            (&["a b\tc"], "c", true),
            (&["a", "b"], "b", true),
            (&["ab"], "a", false),
            (&["A"], "a", false),
            (&[""], "", false),
            (&[], "a", false),
        ] {
            assert_eq!(
                carries(SURROGATE_KEY, lines, wanted),
                expected,
                "{lines:?} {wanted}"
            );
        }
    }

    #[test]
    fn hx_22_rfc_9875_groups_are_strings_and_a_broken_list_is_none() {
        for (lines, wanted, expected) in [
            (&["\"a\", \"b c\""][..], "b c", true),
            (&["\"a\"", "\"b\""], "b", true),
            (&["\"a\";x=1"], "a", true),
            (&["\"A\""], "a", false),
            (&["a"], "a", false),
            (&["(\"a\")"], "a", false),
            (&["\"a\", \""], "a", false),
        ] {
            assert_eq!(
                carries(CACHE_GROUPS, lines, wanted),
                expected,
                "{lines:?} {wanted}"
            );
        }
    }

    #[test]
    fn keys_behind_the_limit_do_not_count() {
        let keys = |others: usize| format!("{}last", "x ".repeat(others));
        assert!(carries(
            SURROGATE_KEY,
            &[&keys(SURROGATE_KEYS_MAX - 1)],
            "last"
        ));
        assert!(!carries(
            SURROGATE_KEY,
            &[&keys(SURROGATE_KEYS_MAX)],
            "last"
        ));
    }
}
