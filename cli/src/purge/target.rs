//! URLs as people type them, as targets; and what they ask of lists, as a path.

use http::Uri;
use purge_api::{StreamRange, Target, UnixMillis, Url};

use super::arguments::{ListArguments, StreamArguments};
use crate::values::Misuse;

/// Returns the target of some URLs.
pub(super) fn urls(typed: &[String]) -> Result<Target, Misuse> {
    let mut urls = typed.iter().map(|text| url(text));
    if typed.len() == 1
        && let Some(one) = urls.next()
    {
        let Url { host, path, query } = one?;
        return Ok(Target::Url { host, path, query });
    }
    Ok(Target::Urls(urls.collect::<Result<_, _>>()?))
}

/// Returns the target of a directory.
pub(super) fn prefix(typed: &str) -> Result<Target, Misuse> {
    let (host, path) = directory(typed)?;
    Ok(Target::Prefix { host, path })
}

/// Returns the target of a presentation.
pub(super) fn stream(typed: &StreamArguments) -> Result<Target, Misuse> {
    let (host, path) = directory(&typed.url)?;
    let by_number = typed.first_msn.zip(typed.last_msn);
    let by_time = typed.from.as_deref().zip(typed.to.as_deref());
    let range = match (by_number, by_time) {
        (Some((first, last)), _) => Some(StreamRange::Msn { first, last }),
        (None, Some((from, to))) => Some(StreamRange::WallClock {
            from: time(from)?,
            to: time(to)?,
        }),
        (None, None) => None,
    };
    Ok(Target::Stream { host, path, range })
}

/// Returns the path of the list that is asked for.
pub(super) fn list(asked: &ListArguments) -> Result<String, Misuse> {
    let mut path = format!("/v1/purges?limit={}", asked.limit);
    let before = asked.before.map(|before| before.to_string());
    for (name, value) in [
        ("before", &before),
        ("host", &asked.of_host),
        ("by", &asked.by),
        ("verb", &asked.verb),
        ("mode", &asked.mode),
    ] {
        let Some(value) = value else { continue };
        // What the API knows needs no escapes.
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        if !value.bytes().all(is_plain) {
            let text = format!("`{value}`: letters, digits and `-._:[]`");
            return Err(Misuse(text));
        }
        path.push_str(&format!("&{name}={value}"));
    }
    Ok(path)
}

/// Returns a name that is part of a path, if it can be.
pub(super) fn path_segment(name: &str) -> Result<&str, Misuse> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if !name.is_empty() && name.bytes().all(is_plain) {
        Ok(name)
    } else {
        Err(Misuse(format!("`{name}` is not what a purge is called")))
    }
}

fn directory(typed: &str) -> Result<(String, String), Misuse> {
    let Url { host, path, query } = url(typed)?;
    if query.is_empty() && path.ends_with('/') {
        return Ok((host, path));
    }
    Err(Misuse(format!(
        "`{typed}` is not a directory: it ends with a slash and has no query"
    )))
}

fn url(typed: &str) -> Result<Url, Misuse> {
    let wrong = || Misuse(format!("`{typed}` is not a URL: write https://host/path"));
    let uri: Uri = typed.parse().map_err(|_| wrong())?;
    let host = uri.authority().ok_or_else(wrong)?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || host.as_str().contains('@') {
        return Err(wrong());
    }
    Ok(Url {
        host: host.as_str().to_ascii_lowercase(),
        path: uri.path().to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
    })
}

fn time(typed: &str) -> Result<UnixMillis, Misuse> {
    let wrong = || {
        Misuse(format!(
            "`{typed}` is not a time: write 2026-11-22T20:00:00Z"
        ))
    };
    let since = media::parse_date_time(typed).ok_or_else(wrong)?;
    let millis = u64::try_from(since.as_millis()).map_err(|_| wrong())?;
    Ok(UnixMillis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_targets() {
        let one = urls(&["https://Live.Example:8443/a?b=1".to_owned()]).unwrap();
        let expected = Target::Url {
            host: "live.example:8443".to_owned(),
            path: "/a".to_owned(),
            query: "b=1".to_owned(),
        };
        assert_eq!(one, expected);
        let two = ["http://a/1", "http://a/2"].map(ToOwned::to_owned);
        assert!(matches!(urls(&two).unwrap(), Target::Urls(list) if list.len() == 2));
    }

    #[test]
    fn what_is_no_url_or_no_directory_is_refused_with_what_would_be() {
        for typed in ["/a", "live.example/a", "ftp://a/b", "https://u:p@a/b", ""] {
            assert!(url(typed).is_err(), "{typed}");
        }
        for typed in ["https://a/b", "https://a/b/?c"] {
            let error = prefix(typed).unwrap_err().to_string();
            assert!(error.contains("ends with a slash"), "{error}");
        }
        assert!(path_segment("../nodes").is_err());
    }

    #[test]
    fn a_stretch_goes_by_wall_clock_or_by_number() {
        let typed = StreamArguments {
            url: "https://a/b/".to_owned(),
            first_msn: None,
            last_msn: None,
            from: Some("1970-01-01T00:00:01Z".to_owned()),
            to: Some("1970-01-01T00:00:02.500Z".to_owned()),
        };
        let Target::Stream { range, .. } = stream(&typed).unwrap() else {
            panic!("a stream");
        };
        let expected = StreamRange::WallClock {
            from: UnixMillis(1000),
            to: UnixMillis(2500),
        };
        assert_eq!(range, Some(expected));
    }
}
