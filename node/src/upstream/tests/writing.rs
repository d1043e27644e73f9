//! What a parent gets to see of a request, and a node of an answer.

use http::header::{HeaderName, HeaderValue};
use http::{Version, header};

use super::*;

fn fields(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    headers
}

fn text(seen: &Seen, name: &str) -> Vec<String> {
    let values = seen.headers.get_all(name).iter();
    values.map(|v| v.to_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_request_is_written_anew_for_the_version_of_the_connection() {
    for (wire, version) in [(HTTP1, Version::HTTP_11), (HTTP2, Version::HTTP_2)] {
        let site = Site::new(&[wire]);
        let upstream = site.upstream();
        get(&upstream, &bulk("/a?b=c")).await.unwrap();
        let seen = &site.parents[0].seen()[0];
        assert_eq!(seen.version, version);
        assert_eq!(seen.uri.path_and_query().unwrap(), "/a?b=c");
        if version == Version::HTTP_2 {
            assert_eq!(seen.uri.authority().unwrap(), "live.example");
            assert_eq!(seen.uri.scheme_str(), Some("http"));
            assert!(!seen.headers.contains_key(header::HOST));
        } else {
            assert_eq!(text(seen, "host"), ["live.example"]);
            assert!(seen.uri.authority().is_none());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rfc_9110_8_6_content_arrives_with_its_own_length_whatever_the_fields_said() {
    for wire in [HTTP1, HTTP2] {
        for (method, body, length) in [
            (Method::PUT, &b"content"[..], Some("7")),
            (Method::POST, b"", Some("0")),
            (Method::DELETE, b"", None),
            (Method::from_bytes(b"M-SEARCH").unwrap(), b"x", Some("1")),
        ] {
            let site = Site::new(std::slice::from_ref(&wire));
            let request = ForwardRequest {
                method: method.clone(),
                headers: fields(&[("content-length", "99"), ("content-type", "text/plain")]),
                body: Bytes::from_static(body),
                ..bulk("/a")
            };
            get(&site.upstream(), &request).await.unwrap();
            let seen = &site.parents[0].seen()[0];
            assert_eq!((&seen.method, &seen.body[..]), (&method, body));
            assert_eq!(text(seen, "content-type"), ["text/plain"]);
            let lengths = text(seen, "content-length");
            assert_eq!(lengths.first().map(String::as_str), length, "{method}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ca_03_the_query_arrives_byte_by_byte() {
    let target = "/a%2fb/c~d?token=a~b%2Fc=&exp=1,2;3&x=%7e:/?@!$'()*&&y";
    for wire in [HTTP1, HTTP2] {
        let site = Site::new(&[wire]);
        get(&site.upstream(), &bulk(target)).await.unwrap();
        assert_eq!(
            site.parents[0].seen()[0].uri.path_and_query().unwrap(),
            target
        );
    }
}

#[tokio::test(start_paused = true)]
async fn rfc_8586_our_name_is_added_to_cdn_loop_and_via() {
    let site = Site::new(&[HTTP1]);
    let upstream = site.upstream();
    let mut request = bulk("/a");
    get(&upstream, &request).await.unwrap();
    request.headers = fields(&[
        ("cdn-loop", "foo123.foocdn.example"),
        ("cdn-loop", "barcdn.example; trace=\"abcdef\""),
        ("via", "2 other"),
    ]);
    get(&upstream, &request).await.unwrap();
    let seen = site.parents[0].seen();
    assert_eq!(text(&seen[0], "cdn-loop"), ["edge-1"]);
    assert_eq!(text(&seen[0], "via"), ["1.1 edge-1"]);
    let expected = "foo123.foocdn.example, barcdn.example; trace=\"abcdef\", edge-1";
    assert_eq!(text(&seen[1], "cdn-loop"), [expected]);
    assert_eq!(text(&seen[1], "via"), ["2 other, 1.1 edge-1"]);
}

#[tokio::test(start_paused = true)]
async fn fields_of_a_connection_or_of_a_body_are_never_forwarded() {
    let hostile = fields(&[
        ("connection", "close, x-secret"),
        ("transfer-encoding", "chunked"),
        ("content-length", "5"),
        ("host", "evil.example"),
        ("upgrade", "h2c"),
        ("te", "trailers"),
        ("expect", "100-continue"),
        ("accept", "*/*"),
        ("range", "bytes=0-"),
    ]);
    for wire in [HTTP1, HTTP2] {
        let site = Site::new(&[wire]);
        let upstream = site.upstream();
        let request = ForwardRequest {
            headers: hostile.clone(),
            ..bulk("/a")
        };
        get(&upstream, &request).await.unwrap();
        get(&upstream, &request).await.unwrap();
        assert_eq!(site.parents[0].connections(), 1);
        let seen = &site.parents[0].seen()[1];
        let mut names: Vec<_> = seen.headers.keys().map(HeaderName::as_str).collect();
        names.retain(|name| *name != "host");
        names.sort_unstable();
        assert_eq!(names, ["accept", "cdn-loop", "range", "via"]);
        assert!(!text(seen, "host").contains(&"evil.example".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn the_parents_own_host_and_fields_replace_those_of_the_request() {
    let mut site = Site::new(&[HTTP1]);
    site.config.parents[0].host = Some("origin.example:81".to_owned());
    site.config.parents[0].headers = fields(&[("x-origin-secret", "s3cret")]);
    let request = ForwardRequest {
        headers: fields(&[("x-origin-secret", "guessed")]),
        ..bulk("/a")
    };
    get(&site.upstream(), &request).await.unwrap();
    let seen = &site.parents[0].seen()[0];
    assert_eq!(text(seen, "host"), ["origin.example:81"]);
    assert_eq!(text(seen, "x-origin-secret"), ["s3cret"]);
}

#[tokio::test(start_paused = true)]
async fn a_host_or_target_that_http_cannot_carry_is_refused_without_asking_anybody() {
    let site = Site::new(&[HTTP1]);
    let upstream = site.upstream();
    for target in [
        "",
        "a",
        "*",
        "/a b",
        "/a#b",
        "/a\r\nx: y",
        "http://other/a",
        "?a",
    ] {
        let refused = upstream.fetch(&bulk(target)).await;
        assert!(
            matches!(refused, Err(UpstreamError::Request(_))),
            "{target:?}: {refused:?}"
        );
    }
    for host in ["", "a b", "a/b", "user@host", "a\r\nx: y", "a?b"] {
        let request = ForwardRequest {
            host: host.to_owned(),
            ..bulk("/a")
        };
        let refused = upstream.fetch(&request).await;
        assert!(
            matches!(refused, Err(UpstreamError::Request(_))),
            "{host:?}: {refused:?}"
        );
    }
    assert_eq!(site.parents[0].connections(), 0);
}

#[test]
fn secrets_do_not_appear_in_debug_output() {
    let mut site = Site::new(&[HTTP1]);
    site.config.parents[0].headers = fields(&[("x-origin-secret", "s3cret")]);
    let request = ForwardRequest {
        headers: fields(&[("authorization", "s3cret")]),
        ..bulk("/a?token=s3cret")
    };
    let shown = format!("{:?} {request:?} {:?}", site.config, site.upstream());
    assert!(!shown.contains("s3cret"), "{shown}");
    assert!(shown.contains("x-origin-secret") && shown.contains("/a"));
}

#[test]
fn a_configuration_that_cannot_work_is_refused_by_name() {
    let refused = |change: &dyn Fn(&mut UpstreamConfig)| {
        let mut config = Site::new(&[HTTP1]).config;
        change(&mut config);
        Upstream::new(config, Connector::Tcp, &Tasks::new()).unwrap_err()
    };
    assert!(matches!(
        refused(&|c| c.parents.clear()),
        UpstreamSetupError::NoParents
    ));
    for url in [
        "ftp://a",
        "/a",
        "http://a/b",
        "http://a/?b",
        "http://u@a",
        "https://a_b\u{7f}",
    ] {
        let Ok(url) = url.parse::<Uri>() else {
            continue;
        };
        let error = refused(&|c| c.parents[0].url = url.clone());
        assert!(
            matches!(error, UpstreamSetupError::Url { .. }),
            "{url}: {error:?}"
        );
    }
    for name in ["", "a b", "a,b", "ä"] {
        let error = refused(&|c| c.node_name = name.to_owned());
        assert!(
            matches!(error, UpstreamSetupError::NodeName { .. }),
            "{name:?}: {error:?}"
        );
    }
    let error = refused(&|c| {
        c.parents[0].url = Uri::from_static("https://a");
        c.parents[0].ca_file = Some("/nonexistent/ca.pem".into());
    });
    assert!(matches!(error, UpstreamSetupError::Pem { .. }), "{error:?}");
}
