//! The clock that live MPDs name: this node's, at the least cost and with validators that hold (LD-13).

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use harness::origin::{Asked, Origin, ReplyBody, status, whole};
use harness::{cdn, pass};
use http::{HeaderValue, Response, StatusCode};
use node::node::NodeConfig;
use node::rules::{DashRule, MpdClock};

const MPD: &str = "/live/live.mpd";
const HERE: &str =
    "<UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:http-xsdate:2014\" value=\"/.seawall/time\"/>";
const THERE: &str =
    "<UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:http-iso:2014\" value=\"/time?of=origin\"/>";

fn mpd(kind: &str, root: &str, end: &str) -> String {
    format!(
        r#"<MPD type="{kind}" availabilityStartTime="2023-11-14T20:13:20Z" minimumUpdatePeriod="PT1S">{root}
<Period id="0" start="PT0S"><AdaptationSet mimeType="video/mp4">
<SegmentTemplate media="$Number$.m4s" duration="2"/><Representation id="v1" bandwidth="1"/>
</AdaptationSet></Period>
{end}</MPD>"#
    )
}

/// Answers with `text` under a strong tag, and with 304 to who has it.
fn answer(asked: &Asked, text: &str) -> Response<ReplyBody> {
    let mut reply = match asked.fields.get("if-none-match") {
        // RFC 9110 13.1.2: compared weakly.
        Some(tag) if tag.as_bytes().ends_with(b"\"v1\"") => status(StatusCode::NOT_MODIFIED),
        _ => Response::new(whole(Bytes::from(text.to_owned()))),
    };
    let fields = reply.headers_mut();
    fields.insert(
        "content-type",
        HeaderValue::from_static("application/dash+xml"),
    );
    fields.insert("etag", HeaderValue::from_static("\"v1\""));
    fields.insert(
        "repr-digest",
        HeaderValue::from_static("sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"),
    );
    reply
}

fn serve(origin: &Origin, text: String) {
    origin.on(MPD, move |asked| std::future::ready(answer(&asked, &text)));
}

fn with_the_clock_of_the_origin(config: &mut NodeConfig) {
    let rule = Arc::make_mut(&mut config.rules.fallback);
    rule.dash = DashRule {
        clock: MpdClock::Origin,
    };
}

#[test]
fn ld_13_a_live_mpd_names_the_clock_of_this_node_before_those_of_its_origin() {
    for (end, expected) in [
        ("", format!("{HERE}\n")),
        (THERE, format!("{HERE}\n{THERE}")),
    ] {
        cdn(|t| async move {
            let origin = t.origin("origin");
            serve(&origin, mpd("dynamic", "", end));
            let _shield = t.node("shield", &["origin"]);
            let _edge = t.node("edge", &["shield"]);
            let viewer = t.viewer("edge");
            let shown = viewer.get(MPD).await;
            assert_eq!(shown.text(), mpd("dynamic", "", &expected));
            assert_eq!(shown.field("content-length"), shown.body.len().to_string());
            assert_eq!(viewer.get("/.seawall/time").await.status, StatusCode::OK);
            assert_eq!(origin.asked().len(), 1, "the time is told here");
        });
    }
}

#[test]
fn ld_12_ld_13_an_mpd_with_this_nodes_clock_is_validated_by_what_its_origin_calls_it() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        serve(&origin, mpd("dynamic", "", THERE));
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let first = viewer.get(MPD).await;
        // It is not byte for byte what the origin calls by this tag.
        assert_eq!(first.field("etag"), "W/\"v1\"");
        assert!(!first.fields.contains_key("repr-digest"));
        pass(Duration::from_secs(2)).await;
        let second = viewer.get(MPD).await;
        assert_eq!(
            (second.text(), second.field("etag")),
            (first.text(), "W/\"v1\"")
        );
        let asked = origin.asked();
        assert_eq!(asked.len(), 2);
        assert_eq!(asked[1].fields["if-none-match"], "W/\"v1\"");
        for tag in ["W/\"v1\"", "\"v1\""] {
            let fields = [("if-none-match", tag)];
            let validated = viewer.get_with(MPD, &fields).await;
            assert_eq!(validated.status, StatusCode::NOT_MODIFIED, "{tag}");
        }
        let coded = viewer.get_with(MPD, &[("accept-encoding", "gzip")]).await;
        assert_eq!(coded.field("content-encoding"), "gzip");
        let mut text = String::new();
        flate2::read::GzDecoder::new(&coded.body[..])
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, first.text());
        assert_eq!(origin.asked().len(), 2, "one version, whoever asks how");
    });
}

#[test]
fn ld_13_the_clock_of_an_mpd_stays_where_a_rule_says_so_or_this_nodes_would_be_elsewhere() {
    let elsewhere = "<BaseURL>https://media.example/</BaseURL>";
    let moved = "<Location>//mpd.example/live.mpd</Location>";
    let here = "<BaseURL>https://live.example/media/</BaseURL><Location>live.mpd?a=1</Location>";
    for (kind, root, is_local, stays) in [
        ("dynamic", "", false, true),
        ("dynamic", elsewhere, true, true),
        ("dynamic", moved, true, true),
        ("static", "", true, true),
        ("dynamic", here, true, false),
    ] {
        cdn(|t| async move {
            let origin = t.origin("origin");
            let text = mpd(kind, root, THERE);
            serve(&origin, text.clone());
            let _edge = t.node_with("edge", &["origin"], |config| {
                if !is_local {
                    with_the_clock_of_the_origin(config);
                }
            });
            let shown = t.viewer("edge").get(MPD).await;
            assert_eq!(shown.text() == text, stays, "{kind} {root} {is_local}");
            assert_eq!(shown.field("etag") == "\"v1\"", stays);
        });
    }
}

#[test]
fn ld_13_the_clock_of_an_origin_is_never_kept() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        serve(&origin, mpd("dynamic", "", THERE));
        let long = [("cache-control", "max-age=60")];
        origin.serve("/time", &long, "2023-11-14T22:13:20Z");
        origin.serve("/other", &long, "text");
        let _edge = t.node_with("edge", &["origin"], with_the_clock_of_the_origin);
        let viewer = t.viewer("edge");
        viewer.get(MPD).await;
        for _ in 0..3 {
            assert_eq!(viewer.get("/time?of=origin").await.status, StatusCode::OK);
            assert_eq!(viewer.get("/other").await.status, StatusCode::OK);
        }
        assert_eq!(origin.requests("/time"), 3);
        assert_eq!(origin.requests("/other"), 1);
    });
}
