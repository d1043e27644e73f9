//! What of a request's target may be written down (invariant 7: secrets are never logged).
//!
//! By allow-list: of the query only the delivery directives keep their values, other parameters keep
//! their names. In the path, segments that look like credentials are replaced, for origins and
//! viewers that carry tokens there.

/// Returns the path with credentials replaced by [`REMOVED`] and its length bounded.
pub(crate) fn path(path: &str) -> String {
    let mut kept = String::with_capacity(path.len().min(PATH_BYTES_MAX));
    for (i, segment) in path.split('/').enumerate() {
        if i > 0 {
            kept.push('/');
        }
        if kept.len() + segment.len() > PATH_BYTES_MAX {
            kept.push_str(CUT);
            break;
        }
        kept.push_str(if is_credential(segment) {
            REMOVED
        } else {
            segment
        });
    }
    kept
}

/// Returns the reference without the values of its query, and as [`path`].
pub(crate) fn uri(reference: &str) -> String {
    let (before, after) = match reference.split_once('?') {
        Some((before, after)) => (before, Some(after)),
        None => (reference, None),
    };
    let mut kept = path(before);
    if let Some(after) = after {
        kept.push('?');
        kept.push_str(&query(after));
    }
    kept
}

/// Returns the query with the values of delivery directives only, and its length bounded.
pub(super) fn query(query: &str) -> String {
    let mut kept = String::new();
    for parameter in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or(("", parameter));
        let (name, value) = match (name.starts_with("_HLS_"), is_plain_name(name)) {
            (true, true) if value.len() <= DIRECTIVE_BYTES_MAX => (name, value),
            (_, true) => (name, REMOVED),
            // Without a name, the whole parameter may be the credential.
            (_, false) => (REMOVED, REMOVED),
        };
        if kept.len() + name.len() + value.len() + 2 > QUERY_BYTES_MAX {
            kept.push_str(CUT);
            break;
        }
        if !kept.is_empty() {
            kept.push('&');
        }
        kept.push_str(name);
        kept.push('=');
        kept.push_str(value);
    }
    kept
}

fn is_plain_name(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_plain)
}

fn is_credential(segment: &str) -> bool {
    let lower = segment.to_ascii_lowercase();
    let is_assignment = lower.contains('=') || lower.contains("%3d");
    // A JSON Web Token begins with the Base64 of `{"`.
    let is_jwt = segment.starts_with("eyJ") && segment.contains('.');
    is_jwt || (is_assignment && CREDENTIAL_WORDS.iter().any(|word| lower.contains(word)))
}

/// Stands where something was removed.
pub(super) const REMOVED: &str = "-";
const CUT: &str = "...";
const PATH_BYTES_MAX: usize = 2048;
const QUERY_BYTES_MAX: usize = 512;
const DIRECTIVE_BYTES_MAX: usize = 20;
const NAME_BYTES_MAX: usize = 40;
const CREDENTIAL_WORDS: [&str; 11] = [
    "token", "hmac", "sig", "key", "auth", "hdnts", "hdnea", "hdntl", "policy", "exp", "secret",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_delivery_directives_keep_their_values() {
        let cases = [
            ("", ""),
            (
                "_HLS_msn=27&_HLS_part=3&_HLS_skip=YES",
                "_HLS_msn=27&_HLS_part=3&_HLS_skip=YES",
            ),
            ("token=s3cret&_HLS_msn=1", "token=-&_HLS_msn=1"),
            ("s3cret", "-=-"),
            ("s3cret%3D=1", "-=-"),
            ("CMCD=bl%3D100", "CMCD=-"),
            ("_HLS_msn=eyJhbGciOiJIUzI1NiJ9.s3cret", "_HLS_msn=-"),
        ];
        for (sent, logged) in cases {
            assert_eq!(query(sent), logged, "{sent}");
        }
    }

    #[test]
    fn credentials_in_the_path_are_removed() {
        let cases = [
            ("/live/a/part7.1.mp4", "/live/a/part7.1.mp4"),
            ("/hdnts=exp=1~acl=/*~hmac=ab/live.m3u8", "/-/-/live.m3u8"),
            ("/t/eyJhbGciOiJIUzI1NiJ9.e30.c2ln/a.m4s", "/t/-/a.m4s"),
            ("/token%3Ds3cret/a.m4s", "/-/a.m4s"),
            ("/bitrate=800/a.m4s", "/bitrate=800/a.m4s"),
        ];
        for (sent, logged) in cases {
            assert_eq!(path(sent), logged, "{sent}");
        }
    }

    #[test]
    fn a_reference_keeps_its_path_and_the_names_of_its_parameters() {
        assert_eq!(uri("seg7.1.m4s"), "seg7.1.m4s");
        assert_eq!(
            uri("https://h/a/p.m4s?token=s3cret"),
            "https://h/a/p.m4s?token=-"
        );
    }

    #[test]
    fn what_is_written_is_bounded_whatever_is_sent() {
        assert!(path(&"/abcdefg".repeat(2000)).len() <= PATH_BYTES_MAX + 8);
        assert!(path(&format!("/{}", "a".repeat(9000))).len() <= PATH_BYTES_MAX + 8);
        assert!(query(&"a=b&".repeat(5000)).len() <= QUERY_BYTES_MAX + 8);
    }
}
