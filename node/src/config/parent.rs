//! What shields and origins have in common as parents.

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::problem::Wrong;
use super::section::Section;
use super::values::{file, flag, name, secret, url};
use crate::upstream::{ClientCertificate, ParentConfig};

/// The part of a parent that every kind has.
#[derive(Clone, Debug, PartialEq)]
pub struct Parent {
    /// The name used in metrics, logs and `Cache-Status`.
    pub name: String,
    /// Scheme and authority.
    pub url: Uri,
    /// Whether an `http` URL is spoken to in HTTP/2 with prior knowledge.
    pub h2c: bool,
    /// A file of certificates to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate this node shows to the parent (mutual TLS).
    pub client_certificate: Option<ClientCertificate>,
    /// Accept any certificate. For tests only.
    pub insecure_skip_verify: bool,
}

impl Parent {
    /// Returns a parent at `url` with the defaults.
    pub fn at(name: impl Into<String>, url: Uri) -> Self {
        Self {
            name: name.into(),
            url,
            h2c: false,
            ca_file: None,
            client_certificate: None,
            insecure_skip_verify: false,
        }
    }

    /// Returns what the upstream is told of it; a kind of parent fills in what it adds.
    pub fn into_parent_config(self) -> ParentConfig {
        ParentConfig {
            name: self.name,
            url: self.url,
            weight: 1,
            h2c: self.h2c,
            ca_file: self.ca_file,
            client_certificate: self.client_certificate,
            insecure_skip_verify: self.insecure_skip_verify,
            host: None,
            headers: HeaderMap::new(),
        }
    }

    fn read(section: &mut Section<'_>) -> Self {
        let name = section
            .required("name", "\"parent-1\"", name)
            .unwrap_or_default();
        let url = section.required("url", "\"https://parent-1.example:8443\"", url);
        let h2c = section.value("h2c", false, flag);
        let is_https = url
            .as_ref()
            .is_some_and(|url| url.scheme_str() == Some("https"));
        if h2c && is_https {
            section.wrong(
                "h2c",
                "needs an http URL",
                "over https, HTTP/2 is negotiated by itself",
            );
        }
        let ca_file = section.optional("ca_file", file);
        let client_certificate = read_client_certificate(section);
        let insecure_skip_verify = section.value("insecure_skip_verify", false, flag);
        Self {
            name,
            url: url.unwrap_or_default(),
            h2c,
            ca_file,
            client_certificate,
            insecure_skip_verify,
        }
    }
}

fn read_client_certificate(section: &mut Section<'_>) -> Option<ClientCertificate> {
    let certificate = section.optional("client_certificate", file);
    let key = section.optional("client_key", file);
    match (section.has("client_certificate"), section.has("client_key")) {
        (true, false) => {
            let allowed = "add client_key = \"the key's PEM file\"";
            section.wrong("client_certificate", "needs its key", allowed);
        }
        (false, true) => {
            let allowed = "add client_certificate = \"the PEM file of the chain\"";
            section.wrong("client_key", "needs its certificate", allowed);
        }
        (true, true) | (false, false) => {}
    }
    Some(ClientCertificate {
        certificate: certificate?,
        key: key?,
    })
}

/// Reads the parents in the tables at `key`; `read_rest` reads what its kind adds.
///
/// None at all, and two of the same name or at the same URL, are problems.
pub fn read_parents<T>(
    root: &mut Section<'_>,
    key: &'static str,
    example: &str,
    read_rest: impl FnMut(Parent, &mut Section<'_>) -> T,
) -> Vec<T> {
    let parents = read_any_parents(root, key, read_rest);
    if parents.is_empty() && !root.has(key) {
        root.incomplete(
            &format!("there is no [[{key}]]"),
            "a node needs at least one parent to fetch from",
            example,
        );
    }
    parents
}

/// Reads the parents in the tables at `key`, of which there may be none.
pub(super) fn read_any_parents<T>(
    root: &mut Section<'_>,
    key: &'static str,
    mut read_rest: impl FnMut(Parent, &mut Section<'_>) -> T,
) -> Vec<T> {
    let mut names = BTreeMap::new();
    let mut urls = BTreeMap::new();
    let mut parents = Vec::new();
    for mut section in root.tables(key) {
        let parent = Parent::read(&mut section);
        if let Some(span) = section.span_of("name")
            && let Some(first) = names.insert(parent.name.clone(), span)
        {
            let first = Some((first, "first here"));
            section.wrong_twice(
                "name",
                "is used twice",
                "each parent has its own name",
                first,
            );
        }
        if let Some(span) = section.span_of("url")
            && let Some(first) = urls.insert(parent.url.to_string(), span)
            && parent.url != Uri::default()
        {
            let first = Some((first, "first here"));
            section.wrong_twice("url", "is used twice", "each parent has its own URL", first);
        }
        parents.push(read_rest(parent, &mut section));
    }
    parents
}

/// Reads header fields that are added to every request, e.g. an origin's shared secret.
///
/// Their values are marked sensitive: neither `Debug` nor HPACK's table keeps them (invariant 7).
pub fn read_headers(mut section: Section<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, item) in section.entries() {
        let read = header_name(&name).and_then(|name| {
            let value = secret(&item)?;
            let mut value = HeaderValue::try_from(value)
                .map_err(|_| Wrong::new("is not a field value", "visible ASCII on one line"))?;
            value.set_sensitive(true);
            Ok((name, value))
        });
        match read {
            Ok((name, value)) => {
                headers.insert(name, value);
            }
            Err(wrong) => section.wrong_secret(&name, &item, wrong),
        }
    }
    headers
}

fn header_name(name: &str) -> Result<HeaderName, Wrong> {
    let is_ours = |name: &HeaderName| OURS.contains(&name.as_str());
    match HeaderName::try_from(name) {
        Ok(name) if is_ours(&name) => {
            let allowed = "set by the node itself; for another name of the origin use `host`";
            Err(Wrong::new("cannot be set here", allowed))
        }
        Ok(name) => Ok(name),
        Err(_) => Err(Wrong::new("is not a field name", "letters, digits and `-`")),
    }
}

/// Fields that frame a message or say what is asked for; a second opinion would break both.
const OURS: [&str; 17] = [
    "accept-encoding",
    "cdn-loop",
    "connection",
    "content-length",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "keep-alive",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];
