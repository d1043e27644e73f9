//! `seawall explain`: what a configuration makes of one URL, and why.
//!
//! A node is put together as the file says and listens nowhere; it explains itself. Without `--fetch`, no
//! file but the configuration is read, and nothing is connected to.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, anyhow};
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use node::Clock;
use node::config::{Files, duration_text};
use node::explain::{Explanation, Fetched, Kept, Lifetimes, Live, Verdict, explain, fetch};
use node::node::{Node, NodeConfig};
use node::respond::Failure;
use node::tasks::Tasks;
use node::upstream::Connector;
use serde_json::json;

use crate::arguments::{ExplainArguments, Purpose};
use crate::node::{purpose_of, readable};
use crate::output::say;
use crate::values::misuse;

/// A request to be explained.
pub(crate) struct Plan {
    config: NodeConfig,
    url: String,
    request: Request<()>,
    fetches: bool,
    as_json: bool,
}

impl Plan {
    /// Checks what was typed.
    pub(crate) fn of(typed: ExplainArguments) -> anyhow::Result<Self> {
        let files = if typed.fetch {
            Files::MustExist
        } else {
            Files::NotChecked
        };
        let path = &typed.config;
        let config = match typed.purpose.unwrap_or_else(|| purpose_of(path)) {
            Purpose::Edge => readable(edge::Config::load(path, files))?.into_node_config(),
            Purpose::Shield => readable(shield::Config::load(path, files))?.into_node_config(),
        };
        Ok(Self {
            config: explaining(config, typed.fetch),
            request: request(&typed).map_err(misuse)?,
            url: typed.url,
            fetches: typed.fetch,
            as_json: typed.json,
        })
    }
}

/// Explains, and asks a parent where that is wanted.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime to explain in")?;
    runtime.block_on(async {
        let tasks = Tasks::new();
        let node = Node::assemble(&plan.config, Connector::Tcp, Clock::system(), tasks)
            .context("the node cannot be put together")?;
        let explanation = explain(&node, plan.request.clone());
        let fetched = match (&explanation, plan.fetches) {
            (Ok(explained), true) if explained.may_be_fetched => {
                Some(fetch(&node, plan.request.clone()).await)
            }
            (Ok(_) | Err(_), _) => None,
        };
        say(&if plan.as_json {
            as_json(&explanation, fetched.as_ref())
        } else {
            as_text(&plan.url, &explanation, fetched.as_ref())
        });
        node.end(END_TIMEOUT).await;
        Ok(())
    })
}

/// Returns the configuration of a node that only explains: it writes nothing, and keeps little.
fn explaining(mut config: NodeConfig, fetches: bool) -> NodeConfig {
    config.access_log = None;
    config.admin = None;
    // One request is looked at, of a store with nothing in it that could be purged.
    config.purge = None;
    config.store_bytes = STORE_BYTES;
    if !fetches {
        // Nothing is connected to: the certificates of another machine need not be here.
        for parent in &mut config.upstream.parents {
            parent.ca_file = None;
            parent.client_certificate = None;
        }
    }
    config
}

fn request(typed: &ExplainArguments) -> anyhow::Result<Request<()>> {
    let example = "write it whole, e.g. https://live.example/live/index.m3u8";
    let url: Uri = typed
        .url
        .parse()
        .with_context(|| format!("`{}` is not a URL; {example}", typed.url))?;
    let authority = url
        .authority()
        .filter(|_| matches!(url.scheme_str(), Some("http" | "https")))
        .with_context(|| format!("`{}` has no http or https host; {example}", typed.url))?;
    let method: Method = typed
        .method
        .parse()
        .with_context(|| format!("`{}` is not a method", typed.method))?;
    let target = url.path_and_query().map_or("/", |target| target.as_str());
    let mut request = Request::builder().method(method).uri(target).body(())?;
    let fields = request.headers_mut();
    fields.insert(header::HOST, HeaderValue::from_str(authority.as_str())?);
    for line in &typed.header {
        let wrong = || format!("`{line}` is not a header field; write 'name: value'");
        let (name, value) = line.split_once(':').ok_or_else(|| anyhow!(wrong()))?;
        let name: HeaderName = name.trim().parse().with_context(wrong)?;
        let value = HeaderValue::from_str(value.trim()).with_context(wrong)?;
        if name == header::HOST {
            fields.insert(name, value);
        } else {
            fields.append(name, value);
        }
    }
    Ok(request)
}

fn as_json(
    explanation: &Result<Explanation, Failure>,
    fetched: Option<&Result<Fetched, Failure>>,
) -> String {
    let failed = |failure: &Failure| json!({ "status": failure.status().as_u16(), "why": failure.to_string() });
    let mut all = match explanation {
        Ok(explanation) => json!(explanation),
        Err(failure) => json!({ "refused": failed(failure) }),
    };
    match fetched {
        None => {}
        Some(Ok(fetched)) => all["fetched"] = json!(fetched),
        Some(Err(failure)) => all["fetch_failed"] = failed(failure),
    }
    format!("{all:#}")
}

fn as_text(
    url: &str,
    explanation: &Result<Explanation, Failure>,
    fetched: Option<&Result<Fetched, Failure>>,
) -> String {
    let mut lines = Lines::default();
    match explanation {
        Ok(explanation) => lines.explain(explanation),
        Err(failure) => lines.add(
            "refused",
            &format!("{failure} ({}); no rule changes that", failure.status()),
        ),
    }
    match fetched {
        None => {}
        Some(Ok(fetched)) => lines.fetched(fetched),
        Some(Err(failure)) => lines.add(
            "fetched",
            &format!("nothing: {failure} ({})", failure.status()),
        ),
    }
    format!("{url}\n{}", lines.text.trim_end())
}

/// Lines of a label and a text, in two columns.
#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn add(&mut self, label: &str, text: &str) {
        // Writing to a String cannot fail.
        writeln!(self.text, "  {label:<11} {text}").ok();
    }

    fn explain(&mut self, explained: &Explanation) {
        self.add("rule", &explained.rule);
        for considered in &explained.considered {
            let judgment = considered.unmatched.map_or_else(
                || "matches".to_owned(),
                |unmatched| format!("does not match: {unmatched} is the request's"),
            );
            self.add("", &format!("{} {judgment}", considered.rule));
        }
        if explained.considered.iter().all(|c| c.unmatched.is_some()) {
            self.add("", "default holds where no rule matches");
        }
        self.add(
            "asked as",
            &format!("{}{}", explained.host, explained.target),
        );
        self.add("key", &explained.key);
        self.names("dropped", &explained.query_dropped, " from the query");
        self.names("forwarded", &explained.fields_forwarded, "");
        self.names("kept back", &explained.fields_kept_back, "");
        self.add(
            "kind",
            &format!("{}, by {}", explained.kind, explained.kind_by),
        );
        self.add("plan", &explained.plan);
        self.lifetimes(&explained.lifetimes);
        if let Some(live) = &explained.live {
            self.live(live);
        }
        if let Some(clock) = explained.clock {
            self.add("clock", &format!("a live MPD names the {clock} one first"));
        }
        self.add("parents", &explained.parents.join(", then "));
    }

    fn live(&mut self, live: &Live) {
        let polled = if !live.poll {
            "not followed without blocking reload"
        } else if live.add_server_control {
            "polled without blocking reload, and viewers are told that requests are held"
        } else {
            "polled without blocking reload"
        };
        self.add("live", polled);
        if let Some(preset) = live.preset {
            self.add("", &format!("preset {preset}"));
        }
        if live.reopen {
            self.add("", "a session of the origin that ended is opened again");
        }
        if live.rebase {
            self.add(
                "",
                "a stream that began again goes on behind a discontinuity",
            );
        }
        self.add(
            "",
            &format!("URIs made for one viewer: {}", live.viewer_uris),
        );
    }

    fn names(&mut self, label: &str, names: &[String], more: &str) {
        if !names.is_empty() {
            self.add(label, &format!("{}{more}", names.join(", ")));
        }
    }

    fn lifetimes(&mut self, lifetimes: &Lifetimes) {
        let ceiling = lifetimes
            .ceiling
            .map_or_else(|| "none".to_owned(), duration_text);
        self.add(
            "lifetimes",
            &format!(
                "{}: floor {}, default {}, ceiling {ceiling}",
                lifetimes.table,
                duration_text(lifetimes.floor),
                duration_text(lifetimes.default),
            ),
        );
        self.add(
            "",
            &format!(
                "stale while revalidated {}, in place of errors {}",
                duration_text(lifetimes.stale_while_revalidate),
                duration_text(lifetimes.stale_if_error)
            ),
        );
        let negative = lifetimes
            .negative
            .iter()
            .map(|(status, lifetime)| format!("{status} {}", duration_text(*lifetime)));
        let negative: Vec<String> = negative.collect();
        self.add("", &format!("errors {}", negative.join(", ")));
        for (is_so, words) in [
            (
                lifetimes.heuristics,
                "guessed from Last-Modified if need be",
            ),
            (
                lifetimes.ignore_cache_control,
                "Cache-Control of the origin is ignored",
            ),
            (lifetimes.obey_viewers, "Cache-Control of viewers is obeyed"),
        ] {
            if is_so {
                self.add("", words);
            }
        }
    }

    fn fetched(&mut self, fetched: &Fetched) {
        self.add(
            "fetched",
            &format!(
                "{} from {}, first byte after {} ms",
                fetched.status,
                fetched.parent,
                fetched.waited.as_millis()
            ),
        );
        for (name, value) in &fetched.said {
            self.add("", &format!("{name}: {value}"));
        }
        match &fetched.verdict {
            Verdict::Followed { target_duration } => self.add(
                "followed",
                &format!(
                    "a live playlist, target duration {}: no copy is kept",
                    duration_text(*target_duration)
                ),
            ),
            Verdict::Stored(kept) => {
                self.add("stored", &format!("for {}", in_words(kept)));
                self.kept(kept);
            }
            Verdict::NotStored { why, kept } => {
                self.add("not stored", why);
                self.add("", &format!("lifetime {}", in_words(kept)));
            }
            Verdict::Failed { why } => self.add("unusable", why),
        }
    }

    fn kept(&mut self, kept: &Kept) {
        if !kept.age.is_zero() {
            let age = duration_text(kept.age);
            self.add("", &format!("{age} of it are over already"));
        }
        let windows = format!(
            "then stale while revalidated {}, in place of errors {}",
            duration_text(kept.stale_while_revalidate),
            duration_text(kept.stale_if_error)
        );
        self.add("", &windows);
        self.names("", &kept.varies_by, " select it");
    }
}

fn in_words(kept: &Kept) -> String {
    format!("{}, by {}", duration_text(kept.lifetime), kept.lifetime_by)
}

/// The node ends as soon as it has explained.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Enough to judge what may be stored; nothing is.
const STORE_BYTES: u64 = 64 * 1024 * 1024;
