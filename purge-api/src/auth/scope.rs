//! What somebody may purge.
//!
//! Who calls it: the API, once it knows who asks and for what. Deliberately not here: rates.

use std::str::FromStr;

use purge_log::{Mode, PurgeRequest, Target};

/// What somebody may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Whose URLs.
    pub hosts: Vec<HostPattern>,
    /// Which surrogate keys: they have no host, so they are a scope of their own.
    pub surrogate_keys: Vec<KeyPattern>,
    /// What kinds of targets.
    pub verbs: Verbs,
    /// How hard.
    pub modes: Modes,
}

/// One kind of thing that may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Purge URLs.
    Url,
    /// Purge directories.
    Prefix,
    /// Purge by surrogate key.
    Key,
    /// Purge presentations.
    Stream,
    /// Purge hosts.
    Host,
    /// Purge everything.
    All,
    /// See purges of others, nodes and metrics.
    Read,
    /// Follow the feed and report: what nodes do.
    Follow,
}

/// A set of verbs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verbs(pub Vec<Verb>);

/// Which modes are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    /// Making stale.
    pub soft: bool,
    /// Making unusable.
    pub hard: bool,
}

impl Default for Modes {
    fn default() -> Self {
        Self {
            soft: true,
            hard: true,
        }
    }
}

/// A host, all hosts below a domain (`*.example`), or any (`*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// Any host.
    Any,
    /// Every host that ends like this, which begins with a dot.
    Below(String),
    /// This one.
    One(String),
}

/// A surrogate key, or all that begin alike (`tenant-a/*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPattern {
    /// Every key that begins like this.
    Beginning(String),
    /// This one.
    One(String),
}

/// What is not allowed to somebody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// A kind of target.
    #[error("the verb `{0}` is not in the scope of these credentials")]
    Verb(&'static str),
    /// A host.
    #[error("the host `{0}` is not in the scope of these credentials")]
    Host(String),
    /// A surrogate key.
    #[error("the surrogate key `{0}` is not in the scope of these credentials")]
    SurrogateKey(String),
    /// A mode.
    #[error("the mode `{0}` is not in the scope of these credentials")]
    Mode(&'static str),
}

impl Scope {
    /// Returns whether `verb` is allowed.
    pub fn allows(&self, verb: Verb) -> bool {
        self.verbs.0.contains(&verb)
    }

    /// Checks that all of a purge is allowed.
    ///
    /// # Errors
    ///
    /// The first thing that is not.
    pub fn permit(&self, request: &PurgeRequest) -> Result<(), Forbidden> {
        let verb = Verb::of(&request.target);
        if !self.allows(verb) {
            return Err(Forbidden::Verb(verb.as_str()));
        }
        match request.mode {
            Mode::Soft if !self.modes.soft => return Err(Forbidden::Mode("soft")),
            Mode::Hard if !self.modes.hard => return Err(Forbidden::Mode("hard")),
            Mode::Soft | Mode::Hard => {}
        }
        match &request.target {
            Target::Url { host, .. }
            | Target::Prefix { host, .. }
            | Target::Stream { host, .. }
            | Target::Host(host) => self.permit_host(host),
            Target::Urls(urls) => urls.iter().try_for_each(|url| self.permit_host(&url.host)),
            Target::SurrogateKeys(keys) => keys.iter().try_for_each(|key| self.permit_key(key)),
            // The verb says it all.
            Target::All => Ok(()),
        }
    }

    fn permit_host(&self, host: &str) -> Result<(), Forbidden> {
        if self.hosts.iter().any(|pattern| pattern.matches(host)) {
            Ok(())
        } else {
            Err(Forbidden::Host(host.to_owned()))
        }
    }

    fn permit_key(&self, key: &str) -> Result<(), Forbidden> {
        let mut patterns = self.surrogate_keys.iter();
        if patterns.any(|pattern| pattern.matches(key)) {
            Ok(())
        } else {
            Err(Forbidden::SurrogateKey(key.to_owned()))
        }
    }
}

impl Verb {
    /// Returns what it takes to purge `target`.
    pub fn of(target: &Target) -> Self {
        match target {
            Target::Url { .. } | Target::Urls(_) => Self::Url,
            Target::Prefix { .. } => Self::Prefix,
            Target::SurrogateKeys(_) => Self::Key,
            Target::Stream { .. } => Self::Stream,
            Target::Host(_) => Self::Host,
            Target::All => Self::All,
        }
    }

    /// Returns whether a purge of this kind reaches more than it names, and has a rate of its own.
    pub fn is_wide(self) -> bool {
        match self {
            Self::Prefix | Self::Stream | Self::Host | Self::All => true,
            Self::Url | Self::Key | Self::Read | Self::Follow => false,
        }
    }

    /// Returns the verb as configuration and metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Prefix => "prefix",
            Self::Key => "key",
            Self::Stream => "stream",
            Self::Host => "host",
            Self::All => "all",
            Self::Read => "read",
            Self::Follow => "follow",
        }
    }
}

impl HostPattern {
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Below(ending) => host.len() > ending.len() && host.ends_with(ending.as_str()),
            Self::One(one) => one == host,
        }
    }
}

impl KeyPattern {
    fn matches(&self, key: &str) -> bool {
        match self {
            Self::Beginning(beginning) => key.starts_with(beginning.as_str()),
            Self::One(one) => one == key,
        }
    }
}

/// Reads `*`, `*.example` or `live.example`.
impl FromStr for HostPattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let below = text.strip_prefix('*').filter(|rest| rest.starts_with('.'));
        let name = below.unwrap_or(text);
        let is_plain =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._:[]".contains(&b);
        if name.len() < 2 || !name.bytes().all(is_plain) {
            return Err("a host in lower case, `*.domain`, or `*`");
        }
        Ok(below.map_or_else(
            || Self::One(text.to_owned()),
            |ending| Self::Below(ending.to_owned()),
        ))
    }
}

/// Reads `*`, `tenant-a/*` or `one-key`.
impl FromStr for KeyPattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, is_open) = match text.strip_suffix('*') {
            Some(beginning) => (beginning, true),
            None => (text, false),
        };
        let is_plain = name.bytes().all(|b| b.is_ascii_graphic() && b != b'*');
        match (is_plain, is_open, name.is_empty()) {
            (true, true, _) => Ok(Self::Beginning(name.to_owned())),
            (true, false, false) => Ok(Self::One(name.to_owned())),
            (false, _, _) | (true, false, true) => {
                Err("a surrogate key, or the beginning of some with `*` behind it")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope {
            hosts: vec![
                "live.example".parse().unwrap(),
                "*.tenant.example".parse().unwrap(),
            ],
            surrogate_keys: vec!["tenant/*".parse().unwrap()],
            verbs: Verbs(vec![Verb::Url, Verb::Key, Verb::Prefix]),
            modes: Modes {
                soft: true,
                hard: false,
            },
        }
    }

    fn judge(text: &str) -> String {
        let request = PurgeRequest::from_json(text.as_bytes()).unwrap();
        scope()
            .permit(&request)
            .map_or_else(|forbidden| forbidden.to_string(), |()| "allowed".to_owned())
    }

    #[test]
    fn a_purge_needs_its_verb_its_host_its_key_and_its_mode() {
        let soft = |target: &str| judge(&format!(r#"{{"target": {target}, "mode": "soft"}}"#));
        let cases = [
            (
                r#"{"url": {"host": "live.example", "path": "/a"}}"#,
                "allowed",
            ),
            (
                r#"{"url": {"host": "a.tenant.example", "path": "/a"}}"#,
                "allowed",
            ),
            (
                r#"{"url": {"host": "tenant.example", "path": "/a"}}"#,
                "the host `tenant.example`",
            ),
            (
                r#"{"url": {"host": "eviltenant.example", "path": "/a"}}"#,
                "the host",
            ),
            (
                r#"{"urls": [{"host": "live.example", "path": "/a"}, {"host": "b", "path": "/a"}]}"#,
                "the host `b`",
            ),
            (r#"{"surrogate_keys": ["tenant/1"]}"#, "allowed"),
            (
                r#"{"surrogate_keys": ["tenant/1", "other"]}"#,
                "the surrogate key `other`",
            ),
            (r#"{"host": "live.example"}"#, "the verb `host`"),
            (
                r#"{"stream": {"host": "live.example", "path": "/"}}"#,
                "the verb `stream`",
            ),
            (r#""all""#, "the verb `all`"),
        ];
        for (target, expected) in cases {
            assert!(
                soft(target).starts_with(expected),
                "{target}: {}",
                soft(target)
            );
        }
        let hard = judge(r#"{"target": {"url": {"host": "live.example", "path": "/a"}}}"#);
        assert!(hard.contains("the mode `hard`"), "{hard}");
    }

    #[test]
    fn patterns_that_could_mean_more_than_they_say_are_refused() {
        for text in ["", "*.", "*example", "Live.example", "a/b", "*.*", "a*"] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
        for text in ["", "a b", "a*b", "**"] {
            assert!(text.parse::<KeyPattern>().is_err(), "{text}");
        }
    }
}
