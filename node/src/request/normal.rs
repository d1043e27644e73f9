//! The normal forms of hosts and paths, and what has none.
//!
//! A key and the request to a parent are written from the same normal form, so that this node and the origin
//! cannot take one request for two (docs/decisions/0005). Every byte that means something to an origin is
//! kept; what two servers are known to read differently is refused:
//!
//! | of | kept byte for byte | made equal | refused |
//! |---|---|---|---|
//! | host | other ports, `xn--` labels | case, final dot, ports 80 and 443, spellings of an IPv6 address | anything but letters, digits, `-`, `_`, `.`; empty labels; user and password |
//! | path | case, percent-encoding, `;`, `//` behind the first segment, double encoding | nothing | dot segments, also encoded, behind `\` or `%2F` or before `;`; `//` at the start; `\`; broken percent-encoding; encoded control characters; what does not decode to UTF-8 |
//! | query | names and values, repeated names in their order | the order of names | nothing |
//!
//! Who calls it: admission, and `live` for the URIs in playlists. Deliberately not here: queries ([`super::Query`]).

use std::net::Ipv6Addr;

/// Returns a host in the form that keys have: lower case, without default port and final dot (B49).
///
/// Both default ports are dropped whatever the scheme: it is not part of a key either.
pub fn plain_host(raw: &str) -> Option<String> {
    let (name, port) = split_port(raw)?;
    let mut host = match name.strip_prefix('[') {
        Some(rest) => {
            let address: Ipv6Addr = rest.strip_suffix(']')?.parse().ok()?;
            format!("[{address}]")
        }
        None => plain_name(name)?,
    };
    if !matches!(port, "" | "80" | "443") {
        host.push(':');
        host.push_str(port);
    }
    Some(host)
}

/// Splits `name:port`, the port without leading zeros; an empty port is the default (RFC 3986 3.2.3).
fn split_port(raw: &str) -> Option<(&str, &str)> {
    let colon = raw.bytes().rposition(|byte| byte == b':');
    let (name, port) = match colon.and_then(|at| raw.split_at_checked(at)) {
        // The colons inside brackets are an address's.
        Some((name, port)) if !port.ends_with(']') => (name, port),
        Some(_) | None => (raw, ""),
    };
    let port = port.strip_prefix(':').unwrap_or(port);
    if port.is_empty() {
        return Some((name, ""));
    }
    let is_number = port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    let number: u16 = port.parse().ok()?;
    (is_number && number > 0).then(|| (name, port.trim_start_matches('0')))
}

fn plain_name(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    // B56: an internationalized name is compared as it is sent, never decoded.
    if name.len() > HOST_BYTES_MAX {
        return None;
    }
    let mut label_bytes = 0;
    for byte in name.bytes() {
        match byte {
            b'.' if label_bytes == 0 => return None,
            b'.' => label_bytes = 0,
            b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => label_bytes += 1,
            _ => return None,
        }
        if label_bytes > LABEL_BYTES_MAX {
            return None;
        }
    }
    if label_bytes == 0 {
        return None;
    }
    // Room for a port, which has at most five digits.
    let mut plain = String::with_capacity(name.len() + 6);
    plain.push_str(name);
    plain.make_ascii_lowercase();
    Some(plain)
}

/// Returns whether a path means the same to every server that this node knows of (B58 to B62).
pub(super) fn is_plain_path(path: &str) -> bool {
    if !path.starts_with('/') || path.starts_with("//") {
        return false; // `//x` is a host to whoever resolves it as a reference (RFC 3986 4.2).
    }
    let needs_decoding = path
        .bytes()
        .any(|b| b == b'%' || b == b'\\' || b.is_ascii_control());
    if needs_decoding {
        return decoded(path).is_some_and(|decoded| !has_dot_segments(&decoded));
    }
    !path.contains("/.") || !has_dot_segments(path)
}

fn has_dot_segments(decoded: &str) -> bool {
    decoded.split(['/', '\\']).any(|segment| {
        // Some servers take parameters off a segment before they resolve it.
        let name = segment.split(';').next().unwrap_or("");
        name == "." || name == ".."
    })
}

/// Decodes a path once; `None` for what is no path (B59, B61).
fn decoded(path: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let byte = match (first, after) {
            (b'%', [high, low, tail @ ..]) => {
                rest = tail;
                hex(*high)? << 4 | hex(*low)?
            }
            (b'%' | b'\\', _) => return None,
            _ => {
                rest = after;
                first
            }
        };
        if byte.is_ascii_control() {
            return None;
        }
        decoded.push(byte);
    }
    String::from_utf8(decoded).ok()
}

/// Returns the value of a hexadecimal digit.
pub(crate) fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// RFC 1035 2.3.4.
const HOST_BYTES_MAX: usize = 253;

/// RFC 1035 2.3.4.
const LABEL_BYTES_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b47_b49_b56_hosts_have_one_form_or_none() {
        for (raw, expected) in [
            ("live.example", "live.example"),
            ("LIVE.Example.", "live.example"),
            ("live.example:443", "live.example"),
            ("live.example:80", "live.example"),
            ("live.example:", "live.example"),
            ("live.example.:0443", "live.example"),
            ("live.example:8443", "live.example:8443"),
            ("live.example:08443", "live.example:8443"),
            ("xn--exmple-cua.example", "xn--exmple-cua.example"),
            ("xn--example-.org", "xn--example-.org"),
            ("shield_1", "shield_1"),
            ("[0:0::0001]:8080", "[::1]:8080"),
            ("[::1]", "[::1]"),
            ("192.0.2.1:80", "192.0.2.1"),
        ] {
            assert_eq!(plain_host(raw).as_deref(), Some(expected), "{raw}");
            assert_eq!(
                plain_host(expected).as_deref(),
                Some(expected),
                "{expected}"
            );
        }
        for wrong in [
            "",
            ".",
            ":80",
            "..",
            "a..b",
            ".a",
            "good%00.evil",
            "good\u{0}",
            "user@good",
            "good/evil",
            "good,evil",
            "good evil",
            "good:99999",
            "good:+80",
            "good:0",
            "good:80:80",
            "::1",
            "[::1",
            "[good]",
            "exämple.org",
        ] {
            assert_eq!(plain_host(wrong), None, "{wrong}");
        }
        assert_eq!(plain_host(&"a".repeat(64)), None);
        assert_eq!(
            plain_host(&"a.".repeat(127)),
            Some("a.".repeat(127).trim_end_matches('.').to_owned())
        );
        assert_eq!(plain_host(&"a.".repeat(128)), None);
    }

    #[test]
    fn b58_to_b62_paths_that_servers_read_differently_are_refused() {
        for path in [
            "",
            "x",
            "*",
            "//x",
            "/./x",
            "/.",
            "/..",
            "/live/a/../../secret",
            "/live/%2e%2e/secret",
            "/live/.%2E/secret",
            "/live/..%2fsecret",
            "/live/..%5csecret",
            "/live%2f../secret",
            "/live/..;/secret",
            "/live/..;a=b/secret",
            "/live/%2e%2e;/secret",
            "/static/..%2faccount",
            "/account\\x.ts",
            "/account%00.ts",
            "/account%0d%0ax",
            "/account%7f",
            "/a\u{7f}",
            "/%c0%ae%c0%ae/secret",
            "/%ff",
            "/%u002e",
            "/%",
            "/%2",
            "/%g1",
            "/a%",
        ] {
            assert!(!is_plain_path(path), "{path}");
        }
        for path in [
            "/",
            "/x//y",
            "/x/",
            "/.well-known/x",
            "/a.b/c..d/...",
            "/.../x",
            "/%252e%252e/x",
            "/account%2fx.m3u8",
            "/account%5cx.m3u8",
            "/account;x.ts",
            "/account%3bx.ts",
            "/account%23x.ts",
            "/account%3fx.ts",
            "/%c3%a9",
            "/é",
            "/Seg.TS",
            "/seg.ts.",
            "/seg.ts%20",
        ] {
            assert!(is_plain_path(path), "{path}");
        }
    }
}
