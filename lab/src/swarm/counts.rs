//! What our origin says it was asked: requests per object.
//!
//! Read from `GET /origin/counts.json` of the lab's origin, fetched directly and not through the
//! CDN, at the end of a run. An origin without that page is no error of the run.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::client::{Client, Get, Keep, Network, Protocol};
use super::config::Trust;
use super::location::Location;

/// Requests per object at the origin, since its start or its last reset.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OriginCounts {
    /// Different objects asked for.
    pub objects: u64,
    /// Requests for them.
    pub requests: u64,
    /// The most requests one object got.
    pub requests_per_object_max: u64,
    /// The same by kind of object.
    #[serde(default)]
    pub by_kind: BTreeMap<String, KindCounts>,
}

/// Requests for objects of one kind.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct KindCounts {
    /// Different objects asked for.
    pub objects: u64,
    /// Requests for them.
    pub requests: u64,
    /// The most requests one object got.
    pub max: u64,
}

impl fmt::Display for OriginCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests for {} objects, {:.2} per object, at most {}",
            self.requests,
            self.objects,
            ratio(self.requests, self.objects),
            self.requests_per_object_max
        )?;
        for (kind, counts) in &self.by_kind {
            write!(
                f,
                "\n  {:<14} {kind}: {} objects, {:.2} requests each, at most {}",
                "",
                counts.objects,
                ratio(counts.requests, counts.objects),
                counts.max
            )?;
        }
        Ok(())
    }
}

fn ratio(requests: u64, objects: u64) -> f64 {
    requests as f64 / objects.max(1) as f64
}

/// How long the origin may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Fetches the counts; the error is a text for the report.
pub(crate) async fn fetch(url: &str, trust: &Trust) -> Result<OriginCounts, String> {
    let text = |e: &dyn fmt::Display| e.to_string();
    let location = Location::parse(url).map_err(|e| text(&e))?;
    let network = Network::new(Protocol::Http1, trust, None).map_err(|e| text(&e))?;
    let client = Client::new(network, Protocol::Http1, 1);
    let get = Get {
        location,
        range: None,
        keep: Keep::Text,
    };
    let got = tokio::time::timeout(TIMEOUT, client.fetch(&get))
        .await
        .map_err(|_| "no answer in time".to_owned())?
        .map_err(|e| text(&e))?;
    if got.head.status != http::StatusCode::OK {
        return Err(format!("status {}", got.head.status));
    }
    let body = got.received.into_text(&got.head).map_err(|e| text(&e))?;
    serde_json::from_slice(&body).map_err(|e| text(&e))
}
