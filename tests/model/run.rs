//! Runs a case: one origin, one edge, viewers, in virtual time; and writes down what happened.
//!
//! Who calls it: the property test. What it calls: the harness for the machinery, `judge` and `promise` for
//! every answer. Deliberately not here: any opinion on caching.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use cache::NegativeLifetimes;
use harness::{Cdn, Viewer, cdn, pass};
use http::{HeaderMap, HeaderName, HeaderValue};
use node::rules::{Policies, Rule, Rules};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::judge::{self, Answer, Asking, Meanwhile, Shelf};
use crate::origin::{Line, Script, ScriptedOrigin};
use crate::promise::{self, CLIENT_ERROR_SECONDS, Operator};
use crate::stored::Exchange;

/// A case: what the operator decided, what the origin will say, and what happens.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) operator: Operator,
    /// One list for each of [`PATHS`].
    pub(crate) scripts: Vec<Vec<Script>>,
    pub(crate) steps: Vec<Step>,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Viewers ask the same at once.
    Ask {
        path: &'static str,
        is_head: bool,
        fields: Vec<Line>,
        viewers: usize,
    },
    /// A viewer changes something, and the origin replies with a status.
    Change { path: &'static str, status: u16 },
    /// Time passes.
    Pass { ms: u64 },
    /// The origin goes down, or comes back.
    Down(bool),
}

/// What is asked for; none of it is media.
pub(crate) const PATHS: [&str; 2] = ["/x/a", "/x/b"];

/// Where the origin listens.
pub(crate) const ORIGIN: &str = "origin";

/// Runs a case and judges every answer.
///
/// # Errors
///
/// What happened up to the first answer that is wrong, and why it is.
pub(crate) fn run(case: &Case) -> Result<(), String> {
    let verdict = Arc::new(Mutex::new(Ok(())));
    let told = Arc::clone(&verdict);
    let case = case.clone();
    cdn(|t| async move {
        let mut running = Running::start(&t, &case);
        for step in &case.steps {
            if let Err(objection) = running.step(step).await {
                let story = std::mem::take(&mut running.story);
                *told.lock() = Err(format!("\n{story}  WRONG: {objection}\n"));
                return;
            }
        }
    });
    let verdict = verdict.lock();
    verdict.clone()
}

/// Virtual time in milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch(Instant);

impl Watch {
    /// Returns the present time.
    pub(crate) fn now_ms(self) -> i64 {
        START_MS + i64::try_from(self.0.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// When every case begins: what the harness starts its clock at.
pub(crate) const START_MS: i64 = 1_700_000_000_000;

/// Returns a date in the form that fields have.
pub(crate) fn date_at(ms: i64) -> String {
    let since_1970 = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    httpdate::fmt_http_date(UNIX_EPOCH + since_1970)
}

struct Running {
    watch: Watch,
    operator: Operator,
    origin: ScriptedOrigin,
    viewer: Viewer,
    shelf: Shelf,
    exchanges_seen: usize,
    story: String,
}

impl Running {
    fn start(t: &Cdn, case: &Case) -> Self {
        let watch = Watch(Instant::now());
        let origin = ScriptedOrigin::listen(t.network(), watch, case.scripts.clone());
        t.node_with("edge", &[ORIGIN], |config| {
            config.rules = rules(case.operator);
            // Whoever is asked is asked: how parents are given up is another story.
            config.upstream.limits.failures_max = u32::MAX;
        });
        Self {
            watch,
            operator: case.operator,
            origin,
            viewer: t.viewer("edge"),
            shelf: Shelf::default(),
            exchanges_seen: 0,
            story: format!("  {:?}\n", case.operator),
        }
    }

    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Pass { ms } => {
                let left = START_MS + LASTS_MS - self.watch.now_ms();
                let ms = i64::try_from(*ms).unwrap_or(0).min(left.max(0));
                pass(Duration::from_millis(ms.unsigned_abs())).await;
                Ok(())
            }
            Step::Down(is_down) => {
                self.origin.set_down(*is_down);
                let state = if *is_down { "down" } else { "up" };
                self.tell(self.watch.now_ms(), &format!("the origin is {state}"));
                Ok(())
            }
            Step::Change { path, status } => self.change(path, *status).await,
            Step::Ask {
                path,
                is_head,
                fields,
                viewers,
            } => {
                let asking = Asking {
                    path: (*path).to_owned(),
                    is_head: *is_head,
                    fields: self.fields(fields),
                    asked_ms: self.watch.now_ms(),
                };
                let answers = self.ask(&asking, *viewers).await;
                self.settle().await;
                let exchanges = self.origin.since(self.exchanges_seen);
                self.exchanges_seen += exchanges.len();
                self.write_down(&asking, &exchanges, &answers);
                self.judge(&asking, &exchanges, &answers)
            }
        }
    }

    async fn change(&mut self, path: &str, status: u16) -> Result<(), String> {
        self.origin.set_changing(status);
        let opened = self.viewer.send("POST", path, &[]).await;
        let answered = opened.rest().await.status.as_u16();
        let story = format!("POST {path} is answered with {answered}");
        self.tell(self.watch.now_ms(), &story);
        if answered == status {
            // RFC 9111 4.4: a non-error status is a 2xx or 3xx.
            if status < 400 {
                self.shelf.invalidate(path);
            }
            return Ok(());
        }
        (answered == 502)
            .then_some(())
            .ok_or_else(|| format!("RFC 9110 9.3.3: the origin replied {status}"))
    }

    fn fields(&self, lines: &[Line]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        let rendered = lines
            .iter()
            .filter_map(|line| line.render(self.watch, &HeaderMap::new()));
        for (name, value) in rendered {
            let value = HeaderValue::try_from(value).expect("cases have sound values");
            fields.append(HeaderName::from_static(name), value);
        }
        fields
    }

    async fn ask(&self, asking: &Asking, viewers: usize) -> Vec<Answer> {
        let mut asked = JoinSet::new();
        for _ in 0..viewers {
            let (viewer, asking, watch) = (self.viewer.clone(), asking.clone(), self.watch);
            asked.spawn(async move { get(&viewer, &asking, watch).await });
        }
        asked.join_all().await
    }

    /// Lets the origin finish what is asked in the background.
    async fn settle(&self) {
        for _ in 0..SETTLING_MAX {
            pass(Duration::from_millis(1)).await;
            if !self.origin.is_busy() {
                return;
            }
            pass(Duration::from_millis(100)).await;
        }
    }

    fn judge(
        &mut self,
        asking: &Asking,
        exchanges: &[Exchange],
        answers: &[Answer],
    ) -> Result<(), String> {
        let before = self.shelf.clone();
        for exchange in exchanges {
            if exchange.path != asking.path {
                return Err(format!("{} was asked for by nobody", exchange.path));
            }
            judge::judge_conditions(&self.shelf, exchange)?;
            self.shelf.absorb(exchange);
        }
        let meanwhile = Meanwhile {
            exchanges,
            viewers: answers.len(),
        };
        for answer in answers {
            judge::judge(&self.shelf, &meanwhile, asking, answer)?;
        }
        judge::judge_sharing(&self.shelf, &meanwhile, answers)?;
        promise::check(
            &before,
            &self.shelf,
            self.operator,
            asking,
            &meanwhile,
            answers,
        )
    }

    fn write_down(&mut self, asking: &Asking, exchanges: &[Exchange], answers: &[Answer]) {
        let method = if asking.is_head { "HEAD" } else { "GET" };
        let said = one_line(&asking.fields, &[]);
        let ask = format!("{} x {method} {} {said}", answers.len(), asking.path);
        self.tell(asking.asked_ms, &ask);
        for exchange in exchanges {
            let asked = one_line(&exchange.asked, &OF_EVERY_FORWARD);
            self.tell(exchange.asked_ms, &format!("  origin is asked {asked}"));
            let reply = match &exchange.reply {
                None => "  origin cuts the connection".to_owned(),
                Some(reply) => {
                    let fields = one_line(&reply.fields, &[]);
                    format!("  origin replies {} {fields}", reply.status)
                }
            };
            self.tell(exchange.replied_ms, &reply);
        }
        for answer in answers {
            let fields = one_line(&answer.fields, &OF_EVERY_ANSWER);
            let body = String::from_utf8_lossy(&answer.body);
            let told = format!("  viewer gets {} {fields} {body:?}", answer.status);
            self.tell(answer.answered_ms, &told);
        }
    }

    fn tell(&mut self, at_ms: i64, what: &str) {
        let ms = at_ms - START_MS;
        writeln!(self.story, "  {:>5}.{:03} {what}", ms / 1000, ms % 1000)
            .expect("a string takes everything");
    }
}

async fn get(viewer: &Viewer, asking: &Asking, watch: Watch) -> Answer {
    let fields: Vec<(&str, &str)> = asking
        .fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().expect("cases are text")))
        .collect();
    let method = if asking.is_head { "HEAD" } else { "GET" };
    let opened = viewer.send(method, &asking.path, &fields).await;
    let answered_ms = watch.now_ms();
    let received = opened.rest().await;
    Answer {
        status: received.status.as_u16(),
        fields: received.fields,
        body: received.body,
        is_whole: received.is_whole,
        answered_ms,
    }
}

/// Lets the origin decide alone, but for how long errors are kept.
fn rules(operator: Operator) -> Rules {
    let client_errors = Duration::from_secs(CLIENT_ERROR_SECONDS);
    let policies = Policies::default().with(|_, policy| {
        policy.obeys_request_directives = operator.obeys_viewers;
        policy.trusts_date = operator.trusts_date;
        policy.negative_lifetimes =
            NegativeLifetimes::by_class(Vec::new(), client_errors, Duration::ZERO);
    });
    Rules {
        listed: Vec::new(),
        fallback: Arc::new(Rule {
            policies,
            forwarded_fields: FORWARDED.map(HeaderName::from_static).to_vec(),
            relays_methods: true,
            ..Rule::default()
        }),
    }
}

fn one_line(fields: &HeaderMap, hidden: &[&str]) -> String {
    let shown = fields
        .iter()
        .filter(|(name, _)| !hidden.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
    format!("[{}]", shown.collect::<Vec<_>>().join(" | "))
}

/// Fields of viewers that reach the origin, so that it may vary by them.
const FORWARDED: [&str; 3] = ["x-lang", "accept-language", "authorization"];

const OF_EVERY_FORWARD: [&str; 6] = ["host", "accept", "user-agent", "via", "cdn-loop", "x-made"];

const OF_EVERY_ANSWER: [&str; 5] = [
    "via",
    "accept-ranges",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "content-type",
];

/// The harness ends a scenario after an hour.
const LASTS_MS: i64 = 3_400_000;

/// Far more than any delay of the origin.
const SETTLING_MAX: usize = 50;
