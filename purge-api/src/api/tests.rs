//! The API without sockets: what is accepted, what is refused and how, what is told about it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use purge_log::{Applied, Counts, LogId, PurgeRequest, Report, Sequence};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;
use tower::ServiceExt;

use super::*;
use crate::audit::{AuditConfig, verify};
use crate::auth::{
    HostPattern, KeyMaterial, KeyPattern, Modes, PrincipalConfig, Scope, Signed, Verbs, sign,
};
use crate::journal::JournalConfig;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const START: u64 = 1_800_000_000_000;

/// An API with its files, a clock that stands, and two who may ask.
struct World {
    folder: TempDir,
    api: Api,
    router: Router,
    clock: Arc<AtomicU64>,
    nonce: AtomicU64,
    closing: CancellationToken,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

fn principal(name: &str, verbs: Vec<Verb>) -> PrincipalConfig {
    PrincipalConfig {
        name: name.to_owned(),
        scope: Scope {
            hosts: vec![HostPattern::One("live.example".to_owned())],
            surrogate_keys: vec![KeyPattern::Beginning(String::new())],
            verbs: Verbs(verbs),
            modes: Modes::default(),
        },
        per_second: 50,
        wide_per_second: 5,
        certificates: vec![],
        keys: vec![(name.to_owned(), KeyMaterial::Hmac(SECRET.to_vec()))],
    }
}

fn world_with(limits: ApiLimits) -> World {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("purges.redb");
    let (journal, _) = Journal::open(&path, JournalConfig::default()).unwrap();
    let (audit, _) = Audit::open(&AuditConfig {
        path: folder.path().join("audit.jsonl"),
        bytes_max: u64::MAX,
        files_max: None,
        applied: true,
    })
    .unwrap();
    use Verb::{All, Follow, Host, Key, Prefix, Read, Stream, Url};
    let principals = vec![
        principal("operator", vec![Url, Prefix, Key, Stream, Host, All, Read]),
        principal("origin", vec![Url, Key]),
        principal("node", vec![Follow]),
    ];
    let audience = "purge.example".to_owned();
    let clock = Arc::new(AtomicU64::new(START));
    let told = Arc::clone(&clock);
    let closing = CancellationToken::new();
    let api = Api::new(
        journal,
        audit,
        Authenticator::new(principals, audience, UnixMillis(START)).unwrap(),
        limits,
        Arc::new(move || UnixMillis(told.load(Ordering::Relaxed))),
        closing.clone(),
    );
    World {
        router: public(api.clone()),
        folder,
        api,
        clock,
        nonce: AtomicU64::new(0),
        closing,
    }
}

fn world() -> World {
    world_with(ApiLimits::default())
}

impl World {
    /// Signs a request as `who` and returns what comes back.
    async fn ask_raw(
        &self,
        who: &str,
        (method, path): (&str, &str),
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("live.example"));
        for (name, value) in fields {
            let name: HeaderName = name.parse().unwrap();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let nonce = self.nonce.fetch_add(1, Ordering::Relaxed).to_string();
        let signed = Signed {
            method,
            host: "live.example",
            path_and_query: path,
            headers: &headers,
            body,
            timestamp: self.clock.load(Ordering::Relaxed) / 1000,
            nonce: &nonce,
        };
        let value = sign(who, SECRET, &signed);
        headers.insert("authorization", HeaderValue::from_str(&value).unwrap());
        let mut request = Request::builder().method(method).uri(path);
        *request.headers_mut().unwrap() = headers;
        let request = request.body(Body::from(body.to_vec())).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn ask(
        &self,
        who: &str,
        line: (&str, &str),
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let response = self.ask_raw(who, line, fields, body).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::String(text)),
        }
    }

    async fn purge(&self, who: &str, body: Value) -> Answer {
        let fields = [("content-type", "application/json")];
        let line = ("POST", "/v1/purges");
        self.ask(who, line, &fields, body.to_string().as_bytes())
            .await
    }

    async fn get(&self, who: &str, path: &str) -> Answer {
        self.ask(who, ("GET", path), &[], b"").await
    }

    /// Lets a node say that it applied everything up to `through`, with `responses` purged by the last.
    async fn applied(&self, node: &str, through: u64, responses: u64) {
        let report = Report {
            node: node.parse().unwrap(),
            log: self.log(),
            through: Sequence(through),
            age_ms: 0,
            applied: vec![Applied {
                sequence: Sequence(through),
                at: self.api.now(),
                counts: Counts {
                    responses,
                    bytes: responses * 10,
                    fills: 0,
                },
            }],
        };
        let body = serde_json::to_vec(&[report]).unwrap();
        let answer = self.ask("node", ("POST", REPORTS_PATH), &[], &body).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.body);
    }

    fn log(&self) -> LogId {
        self.api.shared.journal.bounds().log
    }

    fn pass(&self, millis: u64) {
        self.clock.fetch_add(millis, Ordering::Relaxed);
    }

    fn audited(&self) -> Vec<Event> {
        let text = std::fs::read(self.folder.path().join("audit.jsonl")).unwrap();
        let mut events = Vec::new();
        verify(text.as_slice(), |line| events.push(line.event.clone())).unwrap();
        events
    }
}

impl Answer {
    /// Returns the name of the problem, and checks that it is one as documented.
    fn problem(&self) -> &str {
        let name = self.body["type"].as_str().unwrap_or_default();
        let name = name.strip_prefix("urn:seawall:problem:").unwrap_or("none");
        if name != "none" {
            assert_eq!(self.headers["content-type"], MEDIA_TYPE);
            assert_eq!(self.body["status"], self.status.as_u16());
        }
        name
    }
}

fn url(path: &str) -> Value {
    json!({"target": {"url": {"host": "live.example", "path": path}}})
}

#[tokio::test]
async fn an_accepted_purge_is_in_the_log_and_in_the_audit_before_it_is_answered() {
    let world = world();
    let answer = world.purge("origin", url("/a")).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
    assert_eq!(
        answer.body["state"], "spreading",
        "no node: nothing is proven"
    );
    let place = answer.headers["location"].to_str().unwrap();
    let status = world.get("origin", place).await;
    assert_eq!(status.body, answer.body);
    let audited = world.audited();
    assert_eq!(audited.len(), 1);
    let Event::Accepted { id, by, key, .. } = &audited[0] else {
        panic!("{audited:?}");
    };
    assert_eq!(answer.body["id"], id.to_string());
    assert_eq!((by.as_str(), key.as_str()), ("origin", "origin"));
}

#[tokio::test]
async fn a_status_tells_who_applied_the_purge_when_and_to_what_effect() {
    let world = world();
    world.applied("fra-1", 0, 0).await;
    world.applied("ash-1", 0, 0).await;
    let id = world.purge("origin", url("/a")).await.body["id"].clone();
    let path = format!("/v1/purges/{}", id.as_str().unwrap());
    world.pass(40);
    world.applied("fra-1", 1, 3).await;
    let status = world.get("origin", &path).await.body;
    assert_eq!(status["state"], "spreading");
    assert_eq!(status["nodes"][0]["state"], "pending");
    assert_eq!(status["nodes"][1]["state"], "applied");
    assert_eq!(status["nodes"][1]["reported_after_ms"], 40);
    world.pass(61_000);
    world.applied("fra-1", 1, 3).await;
    let status = world.get("origin", &path).await.body;
    assert_eq!(status["state"], "applied_except_absent");
    assert_eq!(status["nodes"][0]["state"], "absent");
    world.applied("ash-1", 1, 2).await;
    let status = world.get("origin", &path).await.body;
    assert_eq!(status["state"], "applied");
    assert_eq!(
        status["counts"],
        json!({"responses": 5, "bytes": 50, "fills": 0})
    );
    let metrics = world.get("operator", "/metrics").await.body;
    let metrics = metrics.as_str().unwrap();
    for line in [
        "seawall_purge_api_accepted_total{verb=\"url\",mode=\"hard\"} 1",
        "seawall_purge_api_applied_seconds_bucket{le=\"0.05\"} 1",
        "seawall_purge_api_applied_seconds_count 2",
        "seawall_purge_api_node_lag_purges{node=\"ash-1\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn who_waits_is_answered_by_the_report_that_completes_the_purge() {
    let world = world();
    world.applied("fra-1", 0, 0).await;
    let mut body = url("/a");
    body["wait_ms"] = json!(60_000);
    let (answer, ()) = tokio::join!(world.purge("origin", body), async {
        let mut bounds = world.api.shared.journal.subscribe();
        bounds.wait_for(|b| b.head == Sequence(1)).await.unwrap();
        world.applied("fra-1", 1, 1).await;
    });
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body["state"], "applied");
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_answered_at_the_deadline_with_how_far_the_purge_is() {
    let world = world();
    world.applied("fra-1", 0, 0).await;
    let mut body = url("/a");
    body["wait_ms"] = json!(1_500);
    let begun = Instant::now();
    let answer = world.purge("origin", body.clone()).await;
    assert_eq!(begun.elapsed(), Duration::from_millis(1_500));
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    assert_eq!(answer.body["state"], "spreading");
    assert_eq!(answer.body["nodes"][0]["state"], "pending");
    // Nobody waits longer than the API allows.
    body["wait_ms"] = json!(u64::MAX);
    let begun = Instant::now();
    let answer = world.purge("origin", body).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    assert_eq!(begun.elapsed(), ApiLimits::default().wait_max);
}

#[tokio::test]
async fn a_dry_run_is_told_as_one_with_what_each_node_counted() {
    let world = world();
    world.applied("fra-1", 0, 0).await;
    let mut body = url("/a");
    body["dry_run"] = json!(true);
    let accepted = world.purge("origin", body).await;
    assert_eq!(accepted.body["dry_run"], true);
    let id = world.api.shared.journal.bounds().log;
    let entry = world.api.shared.journal.read_after(Sequence::START, 1);
    assert!(entry.await.unwrap()[0].dry_run, "nodes are told so");
    world.applied("fra-1", 1, 4).await;
    let status = world.get("origin", &format!("/v1/purges/{id}-1")).await;
    assert_eq!(status.body["dry_run"], true);
    assert_eq!(status.body["nodes"][0]["counts"]["responses"], 4);
    assert_eq!(status.body["counts"]["bytes"], 40);
}

/// Every kind of target, with the verb it needs and what confirms it.
fn targets() -> [(Value, &'static str, Option<&'static str>); 9] {
    let stream =
        |range: Value| json!({"stream": {"host": "live.example", "path": "/a/", "range": range}});
    let below = json!({"host": "live.example", "path": "/a/"});
    let urls =
        json!([{"host": "live.example", "path": "/a"}, {"host": "live.example", "path": "/b"}]);
    [
        (url("/a")["target"].clone(), "url", None),
        (json!({"urls": urls}), "url", None),
        (json!({"prefix": below}), "prefix", None),
        (json!({"surrogate_keys": ["a", "b"]}), "key", None),
        (json!({"stream": below}), "stream", None),
        (
            stream(json!({"msn": {"first": 1, "last": 9}})),
            "stream",
            None,
        ),
        (
            stream(json!({"wall_clock": {"from": 1, "to": 9}})),
            "stream",
            None,
        ),
        (
            json!({"host": "live.example"}),
            "host",
            Some("live.example"),
        ),
        (json!("all"), "all", Some("all")),
    ]
}

#[tokio::test]
async fn every_target_is_taken_hard_and_soft_with_its_verb_and_refused_without() {
    let world = world();
    for (target, verb, confirm) in targets() {
        for mode in ["hard", "soft"] {
            let mut body = json!({"target": target, "mode": mode});
            if let Some(confirm) = confirm {
                body["confirm"] = json!(confirm);
            }
            let taken = world.purge("operator", body.clone()).await;
            assert_eq!(taken.status, StatusCode::ACCEPTED, "{body}: {}", taken.body);
            assert_eq!(taken.body["mode"], mode);
            let listed = world
                .get("operator", &format!("/v1/purges?limit=1&verb={verb}"))
                .await;
            assert_eq!(listed.body["purges"][0]["id"], taken.body["id"], "{body}");
            let refused = world.purge("node", body.clone()).await;
            assert_eq!(refused.problem(), "forbidden", "{body}");
            world.pass(1000);
        }
    }
}

#[tokio::test]
async fn who_waits_is_let_go_when_the_api_closes() {
    let world = world();
    world.closing.cancel();
    let mut body = url("/a");
    body["wait_ms"] = json!(60_000);
    let answer = world.purge("origin", body).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_repetition_with_the_same_key_is_the_same_purge_and_another_purge_is_refused() {
    let world = world();
    let fields = [
        ("content-type", "application/json"),
        ("idempotency-key", "k"),
    ];
    let ask = async |body: Value| {
        let line = ("POST", "/v1/purges");
        world
            .ask("origin", line, &fields, body.to_string().as_bytes())
            .await
    };
    let first = ask(url("/a")).await;
    let again = ask(url("/a")).await;
    assert_eq!(first.body["id"], again.body["id"]);
    assert!(first.headers.get("idempotency-replayed").is_none());
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(ask(url("/b")).await.problem(), "idempotency-key-reused");
    let accepted = |event: &&Event| matches!(event, Event::Accepted { .. });
    assert_eq!(world.audited().iter().filter(accepted).count(), 1);
}

#[tokio::test]
async fn every_refusal_is_a_problem_with_its_name() {
    let world = world();
    let host = json!({"target": {"host": "live.example"}});
    let cases = [
        (
            "origin",
            json!({"target": {"url": {"host": "x", "path": "/"}}}),
            "forbidden",
        ),
        ("origin", host.clone(), "forbidden"),
        ("operator", host, "confirmation-missing"),
        (
            "operator",
            json!({"target": {"host": "live.example"}, "confirm": "all"}),
            "confirmation-missing",
        ),
        ("operator", json!({"target": "all"}), "confirmation-missing"),
        ("operator", url("no-slash"), "target-invalid"),
        (
            "operator",
            json!({"target": {"prefix": {"host": "live.example", "path": "/a"}}}),
            "target-invalid",
        ),
        (
            "operator",
            json!({"target": {"surrogate_keys": []}}),
            "target-invalid",
        ),
        (
            "operator",
            json!({"target": "all", "hard": true}),
            "malformed",
        ),
        ("operator", json!([]), "malformed"),
        (
            "operator",
            json!({"target": {"url": {"host": "live.example", "path": "/".repeat(70_000)}}}),
            "too-large",
        ),
        ("nobody", url("/a"), "unauthenticated"),
    ];
    for (who, body, expected) in cases {
        let answer = world.purge(who, body.clone()).await;
        assert_eq!(answer.problem(), expected, "{body}: {}", answer.body);
    }
}

#[tokio::test]
async fn refusals_say_what_is_allowed_and_each_is_in_the_audit() {
    let world = world();
    let unknown = world
        .purge("operator", json!({"target": "all", "hard": true}))
        .await;
    let detail = unknown.body["detail"].as_str().unwrap();
    assert!(
        detail.contains("unknown field `hard`, expected one of `target`"),
        "{detail}"
    );
    let line = ("POST", "/v1/purges");
    let answer = world
        .ask("origin", line, &[("content-type", "text/plain")], b"{}")
        .await;
    assert_eq!(answer.problem(), "media-type");
    for (path, expected) in [
        ("/v1/purges/x", "malformed"),
        ("/v1/purges/0123456789abcdef-1", "not-found"),
        ("/v1/nothing", "not-found"),
        ("/v1/nodes", "forbidden"),
        ("/metrics", "forbidden"),
        ("/v1/feed?node=a&latest=1", "forbidden"),
        ("/v1/purges?limit=0", "malformed"),
        ("/v1/purges?colour=red", "malformed"),
    ] {
        assert_eq!(
            world.get("origin", path).await.problem(),
            expected,
            "{path}"
        );
    }
    let answer = world
        .ask("origin", ("DELETE", "/v1/purges"), &[], b"")
        .await;
    assert_eq!(answer.problem(), "method-not-allowed");
    assert_eq!(world.api.shared.journal.bounds().head, Sequence::START);
    world
        .api
        .shared
        .audit
        .write(world.api.now(), Event::Lost { lines: 0 })
        .await
        .unwrap();
    let refusals = world.audited();
    assert!(
        refusals.len() > 10,
        "each is in the audit: {}",
        refusals.len()
    );
}

#[tokio::test(start_paused = true)]
async fn strangers_who_are_refused_share_a_line_and_cannot_fill_the_audit() {
    let world = world();
    let minute = Duration::from_secs(61);
    for _ in 0..2 {
        for number in 0..1000 {
            let request = Request::builder()
                .uri("/v1/purges")
                .header("authorization", format!("Bearer {number}"));
            let request = request.body(Body::empty()).unwrap();
            world.router.clone().oneshot(request).await.unwrap();
        }
        tokio::time::sleep(minute).await;
    }
    // A principal has a line for each refusal: its rate is the bound.
    for _ in 0..2 {
        world.get("origin", "/v1/nodes").await;
    }
    let last = Event::Lost { lines: 0 };
    let audit = &world.api.shared.audit;
    audit.write(world.api.now(), last).await.unwrap();
    let lines = world.audited();
    let kinds = lines.iter().map(|event| match event {
        Event::Refused { by, .. } => (by.as_deref().unwrap_or("somebody"), 1),
        Event::Strangers { problems, from, .. } => {
            assert_eq!(from.len(), 1);
            ("strangers", problems["unauthenticated"])
        }
        Event::Lost { .. } => ("lost", 0),
        other => panic!("{other:?}"),
    });
    let expected = [
        ("somebody", 1),
        ("strangers", 999),
        ("somebody", 1),
        ("strangers", 999),
        ("origin", 1),
        ("origin", 1),
        ("lost", 0),
    ];
    assert_eq!(kinds.collect::<Vec<_>>(), expected);
    let metrics = world.get("operator", "/metrics").await.body;
    let counted = "seawall_purge_api_refused_total{reason=\"unauthenticated\"} 2000";
    assert!(metrics.as_str().unwrap().contains(counted), "{metrics}");
}

#[tokio::test]
async fn a_request_without_credentials_is_told_what_would_be_accepted() {
    let world = world();
    let request = Request::builder().uri("/v1/purges").body(Body::empty());
    let answer = world
        .router
        .clone()
        .oneshot(request.unwrap())
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        answer.headers()["www-authenticate"],
        "Seawall-HMAC-SHA256, Bearer"
    );
    for path in ["/healthz", "/v1/openapi.json"] {
        let request = Request::builder().uri(path).body(Body::empty());
        let answer = world
            .router
            .clone()
            .oneshot(request.unwrap())
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path} is for anybody");
    }
}

#[tokio::test]
async fn wide_purges_have_a_rate_of_their_own_and_say_when_to_come_back() {
    let world = world();
    let prefix = || json!({"target": {"prefix": {"host": "live.example", "path": "/a/"}}});
    for _ in 0..5 {
        assert_eq!(
            world.purge("operator", prefix()).await.status,
            StatusCode::ACCEPTED
        );
    }
    let refused = world.purge("operator", prefix()).await;
    assert_eq!(refused.problem(), "rate-limited");
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(
        world.purge("operator", url("/a")).await.status,
        StatusCode::ACCEPTED
    );
    world.pass(200);
    assert_eq!(
        world.purge("operator", prefix()).await.status,
        StatusCode::ACCEPTED
    );
}

#[tokio::test]
async fn origins_that_speak_purge_or_fastly_are_understood() {
    let world = world();
    let soft = ("fastly-soft-purge", "1");
    let cases = [
        (
            "PURGE",
            "/a?b=1",
            vec![],
            json!({"url": {"host": "live.example", "path": "/a", "query": "b=1"}}),
            "hard",
        ),
        (
            "PURGE",
            "/healthz",
            vec![soft],
            json!({"url": {"host": "live.example", "path": "/healthz", "query": ""}}),
            "soft",
        ),
        (
            "PURGE",
            "/",
            vec![("surrogate-key", "a  b")],
            json!({"surrogate_keys": ["a", "b"]}),
            "hard",
        ),
        (
            "POST",
            "/service/live.example/purge/event-7",
            vec![soft],
            json!({"surrogate_keys": ["event-7"]}),
            "soft",
        ),
        (
            "POST",
            "/service/live.example/purge",
            vec![("surrogate-key", "a b")],
            json!({"surrogate_keys": ["a", "b"]}),
            "hard",
        ),
        (
            "POST",
            "/service/live.example/purge_all",
            vec![("seawall-confirm", "live.example")],
            json!({"host": "live.example"}),
            "hard",
        ),
    ];
    for (method, path, fields, target, mode) in cases {
        let answer = world.ask("operator", (method, path), &fields, b"").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        let list = world.get("operator", "/v1/purges?limit=1").await.body;
        assert_eq!(list["purges"][0]["target"], target, "{path}");
        assert_eq!(list["purges"][0]["mode"], mode, "{path}");
    }
    let all = ("POST", "/service/live.example/purge_all");
    assert_eq!(
        world.ask("operator", all, &[], b"").await.problem(),
        "confirmation-missing"
    );
    let odd = [("fastly-soft-purge", "yes")];
    assert_eq!(
        world
            .ask("operator", ("PURGE", "/a"), &odd, b"")
            .await
            .problem(),
        "malformed"
    );
}

#[tokio::test]
async fn lists_show_what_the_caller_may_see_newest_first_page_by_page() {
    let world = world();
    for number in 0..4 {
        world.purge("origin", url(&format!("/{number}"))).await;
    }
    world
        .purge(
            "operator",
            json!({"target": {"surrogate_keys": ["k"]}, "mode": "soft"}),
        )
        .await;
    let sequences = async |who: &str, query: &str| {
        let list = world.get(who, &format!("/v1/purges{query}")).await.body;
        let purges = list["purges"].as_array().unwrap().iter();
        let found: Vec<u64> = purges.map(|p| p["sequence"].as_u64().unwrap()).collect();
        (found, list["next"].as_u64())
    };
    assert_eq!(sequences("operator", "").await.0, [5, 4, 3, 2, 1]);
    assert_eq!(sequences("origin", "").await.0, [4, 3, 2, 1]);
    assert_eq!(sequences("operator", "?mode=soft").await.0, [5]);
    assert_eq!(
        sequences("operator", "?host=live.example&by=origin&verb=url")
            .await
            .0,
        [4, 3, 2, 1]
    );
    let mut dry = url("/dry");
    dry["dry_run"] = json!(true);
    world.pass(1000);
    world.purge("operator", dry).await;
    assert_eq!(sequences("operator", "?dry_run=true").await.0, [6]);
    assert_eq!(sequences("operator", "?dry_run=false&limit=1").await.0, [5]);
    let since = format!("?since={}", START + 1000);
    assert_eq!(sequences("operator", &since).await.0, [6]);
    let before = "?before=6&limit=2";
    let (first, next) = sequences("operator", before).await;
    assert_eq!(first, [5, 4]);
    let rest = sequences("operator", &format!("?limit=9&before={}", next.unwrap())).await;
    assert_eq!(rest.0, [3, 2, 1]);
    let others = world.get("operator", "/v1/purges").await.body["purges"][0]["id"].clone();
    let path = format!("/v1/purges/{}", others.as_str().unwrap());
    assert_eq!(world.get("origin", &path).await.problem(), "not-found");
}

#[tokio::test]
async fn events_tell_each_node_once_and_then_that_it_is_done() {
    let world = world();
    world.applied("fra-1", 0, 0).await;
    world.applied("ash-1", 0, 0).await;
    let id = world.purge("origin", url("/a")).await.body["id"].clone();
    let path = format!("/v1/purges/{}/events", id.as_str().unwrap());
    let response = world.ask_raw("origin", ("GET", &path), &[], b"").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    world.applied("fra-1", 1, 1).await;
    world.applied("ash-1", 1, 1).await;
    let text = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let names: Vec<&str> = text
        .lines()
        .filter_map(|l| l.strip_prefix("event: "))
        .collect();
    assert_eq!(names, ["applied", "applied", "done"], "{text}");
}

#[tokio::test(start_paused = true)]
async fn events_end_with_a_timeout_that_tells_how_far_the_purge_is() {
    let world = world();
    world.applied("fra-1", 0, 0).await;
    let id = world.purge("origin", url("/a")).await.body["id"].clone();
    let path = format!("/v1/purges/{}/events", id.as_str().unwrap());
    let response = world.ask_raw("origin", ("GET", &path), &[], b"").await;
    let text = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let (_, last) = text.split_once("event: timeout\ndata: ").unwrap();
    let status: Value = serde_json::from_str(last.trim()).unwrap();
    assert_eq!(status["state"], "spreading");
    assert_eq!(status["nodes"][0]["node"], "fra-1");
}

#[tokio::test]
async fn streams_of_events_are_limited() {
    let world = world_with(ApiLimits {
        events_max: 1,
        ..ApiLimits::default()
    });
    let id = world.purge("origin", url("/a")).await.body["id"].clone();
    let path = format!("/v1/purges/{}/events", id.as_str().unwrap());
    let open = world.ask_raw("origin", ("GET", &path), &[], b"").await;
    assert_eq!(world.get("origin", &path).await.problem(), "busy");
    drop(open);
    let open = world.ask_raw("origin", ("GET", &path), &[], b"").await;
    assert_eq!(open.status(), StatusCode::OK);
}

#[tokio::test]
async fn nodes_are_listed_with_how_far_they_are_behind() {
    let world = world();
    world.applied("fra-1", 0, 0).await;
    world.purge("origin", url("/a")).await;
    let nodes = world.get("operator", "/v1/nodes").await.body;
    assert_eq!(nodes["head"], 1);
    assert_eq!(nodes["nodes"][0]["node"], "fra-1");
    assert_eq!(nodes["nodes"][0]["lag"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_given_up() {
    let world = world();
    let body = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
    let request = Request::builder()
        .method("POST")
        .uri("/v1/purges")
        .body(body);
    let answer = world
        .router
        .clone()
        .oneshot(request.unwrap())
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
}

fn description() -> Value {
    serde_json::from_str(description::DESCRIPTION).unwrap()
}

#[tokio::test]
async fn every_described_route_is_there_and_no_other() {
    let world = world();
    let description = description();
    let paths = description["paths"].as_object().unwrap();
    for (path, methods) in paths {
        let asked = path
            .replace("{id}", "x")
            .replace("{host}", "h")
            .replace("{key}", "k");
        let asked = if asked == "/v1/feed" {
            "/v1/feed?x".to_owned()
        } else {
            asked
        };
        for method in ["GET", "POST", "DELETE"] {
            let answer = world.ask_raw("node", (method, &asked), &[], b"").await;
            let problem = answer.extensions().get::<Problem>().map(|p| p.kind);
            let is_there = problem != Some(ProblemKind::NotFound)
                && answer.status() != StatusCode::METHOD_NOT_ALLOWED;
            let is_described = methods.get(method.to_ascii_lowercase()).is_some();
            assert_eq!(
                is_there,
                is_described,
                "{method} {path}: {}",
                answer.status()
            );
        }
        world.pass(1000);
    }
    // The routes are counted where they are declared, so that none is left out above.
    let declared = include_str!("mod.rs")
        .split("pub fn public")
        .nth(1)
        .unwrap();
    let declared = declared.split("pub fn private").next().unwrap();
    assert_eq!(
        declared.matches(".route(").count() + 2,
        paths.len(),
        "and the feed's two"
    );
}

#[tokio::test]
async fn every_metric_is_there_from_the_start_and_documented() {
    let world = world();
    let text = world.get("operator", "/metrics").await.body;
    let text = text.as_str().unwrap();
    let heads = text.matches("# TYPE seawall_purge_api_").count();
    assert_eq!(heads, exposition::CATALOG.len());
    let page = include_str!("../../../docs/metrics.md");
    for (name, kind, labels, meaning) in exposition::CATALOG {
        let head = format!("# TYPE seawall_purge_api_{name} {kind}\n");
        assert!(text.contains(&head), "{head}");
        let row = format!("| {kind} | `seawall_purge_api_{name}` | {labels} | {meaning} |");
        let is_there = page.lines().any(|line| line == row);
        assert!(is_there, "docs/metrics.md needs the line\n{row}");
    }
    let rows = page.matches(" | `seawall_purge_api_").count();
    assert_eq!(rows, heads, "docs/metrics.md lists what is not there");
}

#[tokio::test]
async fn what_goes_on_is_counted() {
    let world = world();
    let log = world.log();
    let path = format!("/v1/feed?node=fra&log={log}&after=0");
    let feed = world.ask_raw("node", ("GET", &path), &[], b"").await;
    assert_eq!(feed.status(), StatusCode::OK);
    world.purge("operator", url("/a")).await;
    world.get("nobody", "/v1/nodes").await;
    let text = world.get("operator", "/metrics").await.body;
    for line in [
        "seawall_purge_api_accepted_total{verb=\"url\",mode=\"hard\"} 1\n",
        "seawall_purge_api_refused_total{reason=\"unauthenticated\"} 1\n",
        "seawall_purge_api_append_seconds_count 1\n",
        "seawall_purge_api_head_sequence 1\n",
        "seawall_purge_api_log_age_seconds 0\n",
        "seawall_purge_api_feeds 1\n",
        "seawall_purge_api_audit_up 1\n",
    ] {
        assert!(text.as_str().unwrap().contains(line), "{line}{text}");
    }
    drop(feed);
    let text = world.get("operator", "/metrics").await.body;
    let none = "seawall_purge_api_feeds 0\n";
    assert!(text.as_str().unwrap().contains(none), "{text}");
}

#[test]
fn every_problem_is_described_and_documented_with_its_status() {
    let text = description::DESCRIPTION;
    let page = include_str!("../../../docs/purge-api.md");
    let types =
        description()["components"]["schemas"]["Problem"]["properties"]["type"]["enum"].clone();
    let described: BTreeSet<&str> = types
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t.as_str().unwrap())
        .collect();
    let known: Vec<String> = ProblemKind::ALL
        .iter()
        .map(|kind| Problem::type_of(*kind))
        .collect();
    assert_eq!(described, known.iter().map(String::as_str).collect());
    for kind in ProblemKind::ALL {
        assert!(text.contains(kind.name()), "{}", kind.name());
        let row = format!("| `{}` | {} |", kind.name(), kind.status().as_u16());
        assert!(page.contains(&row), "docs/purge-api.md must have `{row}`");
    }
    for responses in every("responses", &description()["paths"]) {
        for (status, response) in responses.as_object().into_iter().flatten() {
            let text = response["description"].as_str().unwrap();
            for name in text
                .strip_prefix("Problem: ")
                .into_iter()
                .flat_map(|l| l.split(", "))
            {
                let kind = ProblemKind::ALL.iter().find(|kind| kind.name() == name);
                let kind = kind.unwrap_or_else(|| panic!("{name}"));
                assert_eq!(kind.status().as_str(), status, "{name}");
            }
        }
    }
}

#[test]
fn every_example_of_a_purge_can_be_read_and_means_something() {
    let content = &description()["paths"]["/v1/purges"]["post"]["requestBody"]["content"];
    let examples = content["application/json"]["examples"]
        .as_object()
        .unwrap()
        .clone();
    let mut verbs = BTreeSet::new();
    for (name, example) in examples {
        let new: NewPurge = serde_json::from_value(example["value"].clone()).unwrap();
        new.target
            .check()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        verbs.insert(Verb::of(&new.target).as_str());
        let request = PurgeRequest {
            target: new.target,
            mode: new.mode,
        };
        let text = serde_json::to_vec(&request).unwrap();
        assert_eq!(PurgeRequest::from_json(&text).unwrap(), request);
    }
    assert_eq!(verbs.len(), 6, "each kind has one");
}

/// Returns every value under `name`, however deep.
fn every(name: &str, value: &Value) -> Vec<Value> {
    let mut found = Vec::new();
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                if key == name {
                    found.push(value.clone());
                }
                found.extend(every(name, value));
            }
        }
        Value::Array(values) => found.extend(values.iter().flat_map(|value| every(name, value))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    found
}
