//! The configuration in effect, as text: what the file says and every default.
//!
//! Who calls it: `seawall check`, and golden tests. The text is itself a configuration; only secrets
//! are left out.

use std::fmt::{Display, Write};
use std::path::Path;
use std::time::Duration;

use cache::Policy;

use super::Common;
use super::parent::Parent;
use super::values::{ByteSize, duration_text};
use crate::listen::CertificateSource;
use crate::rules::{Group, LiveRule, QueryRule, ResponseFields, Rule, Rules, ScopedRule};

/// A configuration in effect, written table by table.
#[derive(Debug, Default)]
pub struct Effective {
    text: String,
}

impl Effective {
    /// Returns the text of what every kind of node has.
    pub fn of(common: &Common) -> Self {
        let mut effective = Self::default();
        effective.line("name", quoted(&common.name));
        effective.listen(common);
        effective.table("store");
        effective.line("memory", size(common.store_bytes));
        effective.live(common);
        effective.limits(common);
        effective.upstream(common);
        effective.private(common);
        effective.rules(&common.rules);
        effective.purge(common);
        effective
    }

    fn purge(&mut self, common: &Common) {
        let Some(purge) = &common.purge else { return };
        self.table("purge");
        self.line("lagging_after", quoted(&duration_text(purge.lagging_after)));
        self.line("when_lagging", quoted(purge.when_lagging.name()));
        if let Some(children) = &purge.children {
            self.table("purge.children");
            self.line("listen", quoted(&children.address.to_string()));
            if let Some(tls) = &children.tls {
                self.line("certificate", quoted_path(&tls.certificate));
                self.line("key", quoted_path(&tls.key));
                self.line("client_ca", quoted_path(&tls.client_ca));
            }
            self.line("children_max", children.children_max);
        }
        for log in &purge.logs {
            self.member("purge_log");
            self.parent(log);
        }
    }

    /// Begins a table.
    pub fn table(&mut self, name: &str) {
        self.push(format_args!("\n[{name}]\n"));
    }

    /// Begins a member of a list of tables.
    pub fn member(&mut self, name: &str) {
        self.push(format_args!("\n[[{name}]]\n"));
    }

    /// Writes a key and its value, which is already TOML.
    pub fn line(&mut self, key: &str, value: impl Display) {
        self.push(format_args!("{key} = {value}\n"));
    }

    /// Writes what every parent has.
    pub fn parent(&mut self, parent: &Parent) {
        self.line("name", quoted(&parent.name));
        // A `Uri` shows the empty path as a slash, which a parent's URL does not have.
        self.line("url", quoted(parent.url.to_string().trim_end_matches('/')));
        self.line("h2c", parent.h2c);
        if let Some(path) = &parent.ca_file {
            self.line("ca_file", quoted_path(path));
        }
        if let Some(client) = &parent.client_certificate {
            self.line("client_certificate", quoted_path(&client.certificate));
            self.line("client_key", quoted_path(&client.key));
        }
        self.line("insecure_skip_verify", parent.insecure_skip_verify);
    }

    /// Returns the text.
    pub fn into_text(self) -> String {
        self.text
    }

    fn listen(&mut self, common: &Common) {
        let listen = &common.listen;
        self.table("listen");
        self.line("https", quoted_list(&listen.https));
        self.line("http", quoted_list(&listen.http));
        self.line("http3", listen.http3);
        match &listen.certificate {
            Some(CertificateSource::Files { certificate, key }) => {
                self.line("certificate", quoted_path(certificate));
                self.line("key", quoted_path(key));
            }
            Some(CertificateSource::SelfSigned(names)) => {
                self.line("self_signed", quoted_list(names));
            }
            None => {}
        }
        self.line("workers", listen.workers);
        if listen.http3 {
            let quic = &listen.quic;
            self.table("listen.quic");
            self.line("congestion", quoted(quic.congestion.name()));
            self.line("early_data", quic.early_data);
            self.line("sessions_max", quic.sessions_max);
            self.line("packet_bytes_max", quic.packet_bytes_max);
        }
        let limits = &listen.limits;
        self.table("listen.limits");
        self.line(
            "connections_per_worker_max",
            limits.connections_per_worker_max,
        );
        self.line(
            "streams_per_connection_max",
            limits.streams_per_connection_max,
        );
        self.line("head_bytes_max", size(limits.head_bytes_max as u64));
        self.line("head_timeout", quoted(&duration_text(limits.head_timeout)));
        self.line("idle_timeout", quoted(&duration_text(limits.idle_timeout)));
        self.line(
            "drain_timeout",
            quoted(&duration_text(limits.drain_timeout)),
        );
    }

    fn live(&mut self, common: &Common) {
        let live = &common.live;
        self.table("live");
        self.line("hold_max", quoted(&duration_text(live.hold_max)));
        self.line("idle_after", quoted(&duration_text(live.idle_after)));
        self.line("prefetch", live.prefetch);
        self.line("held_max", live.held_max);
        self.line("renditions_max", live.renditions_max);
        self.line("playlist_bytes_max", size(live.playlist_bytes_max as u64));
        for (key, value) in live_rule(&common.rules.fallback.live) {
            self.line(key, value);
        }
        self.table("dash");
        self.line("clock", quoted(common.rules.fallback.dash.clock.name()));
    }

    fn limits(&mut self, common: &Common) {
        let limits = &common.limits;
        self.table("limits");
        self.line("stored_body_bytes_max", size(limits.stored_body_bytes_max));
        self.line("slices", limits.slice_bytes > 0);
        if limits.slice_bytes > 0 {
            self.line("slice_bytes", size(limits.slice_bytes));
        }
        self.line("slice_from_bytes", size(limits.slice_from_bytes));
        self.line(
            "stall_timeout",
            quoted(&duration_text(limits.stall_timeout)),
        );
        self.line(
            "first_byte_timeout",
            quoted(&duration_text(limits.first_byte_timeout)),
        );
        self.line("target_bytes_max", size(limits.target_bytes_max as u64));
        self.line("upload_bytes_max", size(limits.upload_bytes_max as u64));
        self.line("relays_max", limits.relays_max);
    }

    fn upstream(&mut self, common: &Common) {
        let limits = &common.upstream;
        self.table("upstream");
        self.line(
            "connect_timeout",
            quoted(&duration_text(limits.connect_timeout)),
        );
        self.line(
            "connections_per_parent_max",
            limits.connections_per_parent_max,
        );
        self.line(
            "streams_per_connection_max",
            limits.streams_per_connection_max,
        );
        self.line("waiting_max", limits.waiting_max);
        self.line("idle_timeout", quoted(&duration_text(limits.idle_timeout)));
        self.line(
            "retry_budget",
            quoted(&format!("{}%", limits.retry_budget_percent)),
        );
        self.line("retry_reserve_max", limits.retry_reserve_max);
        self.line("failures_max", limits.failures_max);
        self.line("backoff_min", quoted(&duration_text(limits.backoff_min)));
        self.line("backoff_max", quoted(&duration_text(limits.backoff_max)));
        self.line("moved_presentations_max", limits.moved_presentations_max);
    }

    fn private(&mut self, common: &Common) {
        if let Some(admin) = &common.admin {
            self.table("admin");
            self.line("listen", quoted(&admin.address.to_string()));
            self.line("allow_remote", admin.allow_remote);
        }
        if let Some(log) = &common.access_log {
            self.table("access_log");
            if let Some(path) = &log.path {
                self.line("path", quoted_path(path));
            }
            self.line("one_in", log.one_in);
        }
    }

    fn rules(&mut self, rules: &Rules) {
        self.table("cache");
        self.saying(&rules.fallback);
        for ScopedRule { scope, rule } in &rules.listed {
            self.member("rule");
            self.line("name", quoted(&rule.name));
            if !scope.hosts.is_empty() {
                self.line("hosts", quoted_list(&scope.hosts));
            }
            if !scope.paths.is_empty() {
                self.line("paths", quoted_list(&scope.paths));
            }
            match &rule.query {
                QueryRule::Dropped(names) => self.line("query_dropped", quoted_list(names)),
                QueryRule::Kept(names) => self.line("query_kept", quoted_list(names)),
            }
            self.saying(rule);
            let live = live_rule(&rule.live);
            let live: Vec<_> = live.iter().map(|(key, v)| format!("{key} = {v}")).collect();
            self.line("live", format_args!("{{ {} }}", live.join(", ")));
            let clock = quoted(rule.dash.clock.name());
            self.line("dash", format_args!("{{ clock = {clock} }}"));
        }
    }

    /// Writes what `[cache]` can say as well as a rule.
    fn saying(&mut self, rule: &Rule) {
        let all = rule.policies.of_group(Group::Other);
        self.line("ignore_cache_control", all.ignore_cache_control);
        self.line("targeted", !all.targeted_fields.is_empty());
        self.line("obey_viewers", all.obeys_request_directives);
        self.line("trust_date", all.trusts_date);
        self.line("store_set_cookie", all.stores_set_cookie);
        self.line("ignore_vary", quoted_list(&all.ignored_vary));
        match &all.heuristics {
            Some(heuristics) => self.line(
                "heuristics",
                format_args!(
                    "{{ percent = \"{}%\", ceiling = {} }}",
                    heuristics.percent,
                    time(heuristics.ceiling)
                ),
            ),
            None => self.line("heuristics", "{ percent = \"0%\" }"),
        }
        if all.stale_ceiling < Duration::MAX {
            self.line("stale_ceiling", time(all.stale_ceiling));
        }
        self.line("forward_headers", quoted_list(&rule.forwarded_fields));
        match &rule.response_fields {
            ResponseFields::Without(names) => self.line("strip_headers", quoted_list(names)),
            ResponseFields::Only(names) => self.line("keep_headers", quoted_list(names)),
        }
        self.line("relay_methods", rule.relays_methods);
        for group in Group::ALL {
            let policy = rule.policies.of_group(group);
            let ignores = (policy.ignore_cache_control != all.ignore_cache_control)
                .then_some(policy.ignore_cache_control);
            self.line(group.name(), kind(policy, ignores));
        }
    }

    fn push(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.text
            .write_fmt(arguments)
            .expect("writing to a String cannot fail");
    }
}

/// Returns a TOML basic string.
pub fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Returns a TOML array of basic strings.
pub fn quoted_list(values: &[impl Display]) -> String {
    let quoted: Vec<String> = values
        .iter()
        .map(|value| quoted(&value.to_string()))
        .collect();
    format!("[{}]", quoted.join(", "))
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// Returns what `[live]` and a rule's `live` have in common.
fn live_rule(live: &LiveRule) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let Some(preset) = live.preset {
        lines.push(("preset", quoted(preset.name())));
    }
    lines.extend([
        ("poll", live.polls.to_string()),
        ("add_server_control", live.adds_server_control.to_string()),
        ("reopen", live.reopens.to_string()),
        ("rebase", live.rebases.to_string()),
        ("viewer_uris", quoted(live.viewer_uris.name())),
        ("viewer_parameters", quoted_list(&live.viewer_parameters)),
    ]);
    lines
}

/// Returns what a rule says of one kind of media, with what it ignores if that is its own.
fn kind(policy: &Policy, ignores: Option<bool>) -> String {
    let ignores = ignores.map_or_else(String::new, |ignores| {
        format!("ignore_cache_control = {ignores}, ")
    });
    let mut text = format!(
        "{{ {ignores}floor = {}, default = {}",
        time(policy.freshness_floor),
        time(policy.freshness_default)
    );
    if policy.freshness_ceiling < Duration::MAX {
        text += &format!(", ceiling = {}", time(policy.freshness_ceiling));
    }
    let negative = &policy.negative_lifetimes;
    let listed = negative
        .listed()
        .iter()
        .map(|(status, lifetime)| format!("{} = {}", status.as_u16(), time(*lifetime)));
    let classes = [
        format!("4xx = {}", time(negative.client_errors())),
        format!("5xx = {}", time(negative.server_errors())),
    ];
    let negative: Vec<String> = listed.chain(classes).collect();
    text + &format!(
        ", stale_while_revalidate = {}, stale_if_error = {}, negative = {{ {} }} }}",
        time(policy.stale_while_revalidate),
        time(policy.stale_if_error),
        negative.join(", ")
    )
}

fn time(duration: Duration) -> String {
    quoted(&duration_text(duration))
}

fn size(bytes: u64) -> String {
    quoted(&ByteSize(bytes).to_string())
}
