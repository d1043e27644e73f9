//! `[cache]`, `[dash]` and `[[rule]]`: what holds everywhere, and what holds for some hosts and paths.
//!
//! A rule begins with what `[cache]` says and changes what it names: first for all kinds of media, then
//! kind by kind. Who calls it: [`Common`](super::Common). Deliberately not here: matching and policies
//! themselves (`crate::rules`).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use cache::{Heuristics, NegativeLifetimes, Policy};
use http::StatusCode;
use http::header::HeaderName;

use super::problem::Wrong;
use super::section::{Item, Section};
use super::values::{duration, flag, name, one_of, parameter_name, percent, text};
use crate::rules::{
    DashRule, FALLBACK, Group, HostPattern, LiveRule, MpdClock, PathPattern, Preset, QueryRule,
    ResponseFields, Rule, Rules, Scope, ScopedRule, ViewerUris, refusal_to_forward,
    refusal_to_strip, targeted_fields,
};

/// Reads `[cache]`, `[dash]` and every `[[rule]]`; one that does not speak of queries has `query`, one that does not
/// speak of live playlists `live`.
pub(super) fn read_rules(root: &mut Section<'_>, query: &QueryRule, live: LiveRule) -> Rules {
    let mut cache = root.table("cache");
    let base = Rule {
        live,
        dash: read_dash(root.table("dash"), DashRule::default()),
        ..Rule::default()
    };
    let fallback = read_saying(&mut cache, &base);
    drop(cache);
    let mut listed = Vec::new();
    let mut names = BTreeMap::new();
    let mut everything: Option<String> = None;
    for mut section in root.tables("rule") {
        let name = section
            .required("name", "\"clips\"", rule_name)
            .unwrap_or_default();
        if let Some(span) = section.span_of("name")
            && let Some(first) = names.insert(name.clone(), span)
        {
            let first = Some((first, "first here"));
            let allowed = "each rule has its own name";
            section.wrong_twice("name", "is used twice", allowed, first);
        }
        if let Some(before) = &everything {
            let allowed = format!("`{before}` before it matches everything: put that one last");
            section.wrong("name", "is of a rule that is never reached", &allowed);
        }
        let scope = Scope {
            hosts: section.list("hosts", Vec::new(), host_pattern),
            paths: section.list("paths", Vec::new(), path_pattern),
        };
        if !section.has("hosts") && !section.has("paths") {
            everything.get_or_insert_with(|| name.clone());
        }
        let mut live = section.table("live");
        let begin = Rule {
            query: query.clone(),
            ..fallback.clone()
        };
        let base = match live.optional("preset", one_of(&Preset::ALL, Preset::name)) {
            Some(preset) => preset.apply(begin),
            None => begin,
        };
        let rule = Rule {
            name,
            query: read_query(&mut section, &base.query),
            live: read_live(&mut live, &base.live),
            dash: read_dash(section.table("dash"), base.dash),
            ..read_saying(&mut section, &base)
        };
        listed.push(ScopedRule {
            scope,
            rule: Arc::new(rule),
        });
    }
    Rules {
        listed,
        fallback: Arc::new(fallback),
    }
}

/// Reads what `[live]` and the `live` of a rule have in common.
pub(super) fn read_live(section: &mut Section<'_>, base: &LiveRule) -> LiveRule {
    LiveRule {
        preset: base.preset,
        polls: section.value("poll", base.polls, flag),
        adds_server_control: section.value("add_server_control", base.adds_server_control, flag),
        reopens: section.value("reopen", base.reopens, flag),
        rebases: section.value("rebase", base.rebases, flag),
        viewer_uris: section.value(
            "viewer_uris",
            base.viewer_uris,
            one_of(&ViewerUris::ALL, ViewerUris::name),
        ),
        viewer_parameters: section.list(
            "viewer_parameters",
            base.viewer_parameters.clone(),
            parameter_name,
        ),
    }
}

/// Reads `[dash]`, or the `dash` of a rule.
fn read_dash(mut section: Section<'_>, base: DashRule) -> DashRule {
    DashRule {
        clock: section.value("clock", base.clock, one_of(&MpdClock::ALL, MpdClock::name)),
    }
}

fn read_query(section: &mut Section<'_>, default: &QueryRule) -> QueryRule {
    let dropped = section.list("query_dropped", Vec::new(), parameter_name);
    let kept = section.list("query_kept", Vec::new(), parameter_name);
    match (section.has("query_dropped"), section.has("query_kept")) {
        (true, true) => {
            let allowed = "either those that are dropped, or those that are kept";
            section.wrong("query_kept", "contradicts `query_dropped`", allowed);
            default.clone()
        }
        (true, false) => QueryRule::Dropped(dropped),
        (false, true) => QueryRule::Kept(kept),
        (false, false) => default.clone(),
    }
}

/// Reads what `[cache]` can say as well as a rule: all but what it is for.
fn read_saying(section: &mut Section<'_>, base: &Rule) -> Rule {
    let all = AllKinds::read(section, base.policies.of_group(Group::Other));
    let policies = base.policies.clone().with(|group, policy| {
        all.change(group, policy);
        read_kind(section.table(group.name()), policy);
    });
    Rule {
        name: FALLBACK.to_owned(),
        policies,
        query: QueryRule::default(),
        forwarded_fields: section.list(
            "forward_headers",
            base.forwarded_fields.clone(),
            field_unless(refusal_to_forward),
        ),
        response_fields: read_response_fields(section, &base.response_fields),
        relays_methods: section.value("relay_methods", base.relays_methods, flag),
        live: base.live.clone(),
        dash: base.dash,
    }
}

fn read_response_fields(section: &mut Section<'_>, default: &ResponseFields) -> ResponseFields {
    let stripped = section.list("strip_headers", Vec::new(), field_unless(refusal_to_strip));
    let kept = section.list("keep_headers", Vec::new(), field_unless(|_| None));
    match (section.has("strip_headers"), section.has("keep_headers")) {
        (true, true) => {
            let allowed = "either those that are stripped, or those that are kept";
            section.wrong("keep_headers", "contradicts `strip_headers`", allowed);
            default.clone()
        }
        (true, false) => ResponseFields::Without(stripped),
        (false, true) => ResponseFields::Only(kept),
        (false, false) => default.clone(),
    }
}

/// What a rule says of all kinds of media; `None` leaves each kind what it has.
struct AllKinds {
    ignore_cache_control: Option<bool>,
    trusts_date: bool,
    obeys_request_directives: bool,
    stores_set_cookie: bool,
    targeted_fields: Vec<HeaderName>,
    ignored_vary: Vec<HeaderName>,
    heuristics: Option<Heuristics>,
    stale_ceiling: Duration,
    stale_while_revalidate: Option<Duration>,
    stale_if_error: Option<Duration>,
    negative: Negative,
}

impl AllKinds {
    fn read(section: &mut Section<'_>, base: &Policy) -> Self {
        let is_targeted = section.value("targeted", !base.targeted_fields.is_empty(), flag);
        Self {
            ignore_cache_control: section.optional("ignore_cache_control", flag),
            trusts_date: section.value("trust_date", base.trusts_date, flag),
            obeys_request_directives: section.value(
                "obey_viewers",
                base.obeys_request_directives,
                flag,
            ),
            stores_set_cookie: section.value("store_set_cookie", base.stores_set_cookie, flag),
            targeted_fields: if is_targeted {
                targeted_fields()
            } else {
                Vec::new()
            },
            ignored_vary: section.list(
                "ignore_vary",
                base.ignored_vary.clone(),
                field_unless(|_| None),
            ),
            heuristics: read_heuristics(section.table("heuristics"), base.heuristics),
            stale_ceiling: section.value("stale_ceiling", base.stale_ceiling, duration(LIFETIMES)),
            stale_while_revalidate: section.optional("stale_while_revalidate", duration(LIFETIMES)),
            stale_if_error: section.optional("stale_if_error", duration(LIFETIMES)),
            negative: Negative::read(section.table("negative")),
        }
    }

    fn change(&self, group: Group, policy: &mut Policy) {
        policy.ignore_cache_control = self
            .ignore_cache_control
            .unwrap_or(policy.ignore_cache_control);
        policy.trusts_date = self.trusts_date;
        policy.obeys_request_directives = self.obeys_request_directives;
        policy.stores_set_cookie = self.stores_set_cookie;
        policy.targeted_fields.clone_from(&self.targeted_fields);
        policy.ignored_vary.clone_from(&self.ignored_vary);
        // A live playlist or segment was always modified a moment ago, or at another time's clock.
        policy.heuristics = self.heuristics.filter(|_| group == Group::Other);
        policy.stale_ceiling = self.stale_ceiling;
        let windows = [
            (
                &mut policy.stale_while_revalidate,
                self.stale_while_revalidate,
            ),
            (&mut policy.stale_if_error, self.stale_if_error),
        ];
        for (window, said) in windows {
            *window = said.unwrap_or(*window);
        }
        self.negative.change(&mut policy.negative_lifetimes);
    }
}

fn read_heuristics(mut section: Section<'_>, base: Option<Heuristics>) -> Option<Heuristics> {
    let percent = section.optional("percent", percent(0..=100));
    let ceiling = section.optional("ceiling", duration(LIFETIMES));
    if !section.is_present() {
        return base;
    }
    if !section.has("percent") {
        section.incomplete(
            "`heuristics` names no share",
            "how much of the time since `Last-Modified` is a lifetime; \"0%\" is none",
            "add percent = \"10%\"",
        );
    }
    let percent = percent.filter(|percent| *percent > 0)?;
    let inherited = base.map_or(HEURISTIC_LIFETIME_MAX, |base| base.ceiling);
    Some(Heuristics {
        percent,
        ceiling: ceiling.unwrap_or(inherited),
    })
}

fn read_kind(mut section: Section<'_>, policy: &mut Policy) {
    let lifetime = || duration(LIFETIMES);
    policy.freshness_floor = section.value("floor", policy.freshness_floor, lifetime());
    policy.freshness_default = section.value("default", policy.freshness_default, lifetime());
    policy.freshness_ceiling = section.value("ceiling", policy.freshness_ceiling, lifetime());
    for (key, length) in [
        ("floor", policy.freshness_floor),
        ("default", policy.freshness_default),
    ] {
        let is_default_inherited = key == "default" && !section.has("default");
        let is_said = section.has(key) || section.has("ceiling");
        if is_said && !is_default_inherited && length > policy.freshness_ceiling {
            let key = if section.has(key) { key } else { "ceiling" };
            let allowed = "floor and default are at most the ceiling";
            section.wrong(key, "does not fit the other bounds", allowed);
        }
    }
    policy.ignore_cache_control =
        section.value("ignore_cache_control", policy.ignore_cache_control, flag);
    policy.stale_while_revalidate = section.value(
        "stale_while_revalidate",
        policy.stale_while_revalidate,
        lifetime(),
    );
    policy.stale_if_error = section.value("stale_if_error", policy.stale_if_error, lifetime());
    Negative::read(section.table("negative")).change(&mut policy.negative_lifetimes);
}

/// Lifetimes by status as a file has them.
#[derive(Default)]
struct Negative {
    client_errors: Option<Duration>,
    server_errors: Option<Duration>,
    by_status: Vec<(StatusCode, Duration)>,
}

impl Negative {
    fn read(mut section: Section<'_>) -> Self {
        let mut negative = Self::default();
        for (key, item) in section.entries() {
            let lifetime = match duration(NEGATIVE_LIFETIMES)(&item) {
                Ok(lifetime) => lifetime,
                Err(wrong) => {
                    section.wrong_entry(&key, &item, wrong);
                    continue;
                }
            };
            match (key.as_str(), status(&key)) {
                ("4xx", _) => negative.client_errors = Some(lifetime),
                ("5xx", _) => negative.server_errors = Some(lifetime),
                (_, Some(status)) => negative.by_status.push((status, lifetime)),
                (_, None) => {
                    let allowed = "an error (404, 503, ..), 202, 204, or all: 4xx, 5xx";
                    let wrong = Wrong::new("is not a status that can be negative", allowed);
                    section.wrong_entry(&key, &item, wrong);
                }
            }
        }
        negative
    }

    fn change(&self, lifetimes: &mut NegativeLifetimes) {
        let mut by_status = lifetimes.listed().to_vec();
        by_status.retain(|(status, _)| {
            let is_said = self.by_status.iter().any(|(said, _)| said == status);
            let is_in_class = (status.is_client_error() && self.client_errors.is_some())
                || (status.is_server_error() && self.server_errors.is_some());
            !is_said && !is_in_class
        });
        by_status.extend(&self.by_status);
        by_status.sort_by_key(|(status, _)| *status);
        *lifetimes = NegativeLifetimes::by_class(
            by_status,
            self.client_errors.unwrap_or(lifetimes.client_errors()),
            self.server_errors.unwrap_or(lifetimes.server_errors()),
        );
    }
}

/// Returns a status that can be negative: an error, or a success that means "not yet" (FM-16).
fn status(key: &str) -> Option<StatusCode> {
    let status: StatusCode = key.parse().ok()?;
    let can_be_negative = status.is_client_error()
        || status.is_server_error()
        || matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT);
    can_be_negative.then_some(status)
}

fn rule_name(item: &Item<'_>) -> Result<String, Wrong> {
    let name = name(item)?;
    if name == FALLBACK {
        let allowed = "another name: this one is of what holds where no rule matches";
        return Err(Wrong::new("is taken", allowed));
    }
    Ok(name)
}

fn host_pattern(item: &Item<'_>) -> Result<HostPattern, Wrong> {
    HostPattern::parse(text(item)?).map_err(|_| {
        let allowed = "a host, with one `*` for its first label at most: \"live.example\", \
                       \"*.live.example\"";
        Wrong::new("is not a host", allowed)
    })
}

fn path_pattern(item: &Item<'_>) -> Result<PathPattern, Wrong> {
    PathPattern::parse(text(item)?)
        .map_err(|error| Wrong::new("is not a pattern of paths", error.to_string()))
}

/// Returns the name of a field, unless there is a reason against it.
fn field_unless(
    refusal: impl Fn(&HeaderName) -> Option<&'static str>,
) -> impl Fn(&Item<'_>) -> Result<HeaderName, Wrong> {
    move |item| {
        let text = text(item)?;
        let name = HeaderName::try_from(text)
            .map_err(|_| Wrong::new("is not a field name", "letters, digits and `-`"))?;
        match refusal(&name) {
            None => Ok(name),
            Some(reason) => Err(Wrong::new("cannot be listed here", reason)),
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// RFC 9111 1.2.2: a delta of a year is as good as any larger one.
const LIFETIMES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(365 * 24 * 3600);

/// An error that is kept for longer than this is an outage of its own.
const NEGATIVE_LIFETIMES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);

/// RFC 9111 4.2.2 names no limit; a day is what RFC 2616 warned beyond.
const HEURISTIC_LIFETIME_MAX: Duration = DAY;
