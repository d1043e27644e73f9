//! What can be typed behind `seawall purge` and `seawall purge-api`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::values::duration;

/// Examples for the help of `seawall purge`.
pub(crate) const PURGE_EXAMPLES: &str = "\
Examples:
  seawall purge url https://live.example/a/index.m3u8 --wait 5s
  seawall purge prefix https://live.example/a/ --soft
  seawall purge key event-7 ad-12 --dry-run --wait 5s
  seawall purge stream https://live.example/a/ --from 2026-11-22T20:00:00Z --to 2026-11-22T20:05:00Z
  seawall purge stream https://live.example/a/ --first-msn 1200 --last-msn 1260
  seawall purge host live.example --confirm live.example
  seawall purge all --confirm all --soft
  seawall purge nodes
  seawall purge audit verify /var/lib/seawall/purge-audit.jsonl

Exit codes:
  0  accepted; with --wait, applied by every node
  1  could not: nothing answers, a file cannot be read, an audit that was changed
  2  wrong options
  3  refused by the API
  4  accepted, but not applied by every node within --wait";

#[derive(Debug, Args)]
pub(crate) struct PurgeArguments {
    #[command(subcommand)]
    pub(crate) what: What,
    #[command(flatten)]
    pub(crate) api: ApiArguments,
    #[command(flatten)]
    pub(crate) how: HowArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum What {
    /// Purge URLs, with every variant.
    Url {
        /// The URLs, up to 1,000.
        #[arg(required = true, value_name = "URL")]
        urls: Vec<String>,
    },
    /// Purge a directory: everything below a URL that ends with a slash.
    Prefix {
        /// The directory.
        #[arg(value_name = "URL")]
        url: String,
    },
    /// Purge whatever carries a surrogate key.
    Key {
        /// The keys, up to 256.
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
    /// Purge a host.
    Host {
        /// The host; --confirm must repeat it.
        #[arg(value_name = "HOST")]
        host: String,
    },
    /// Purge a presentation with all its renditions, or a stretch of its timeline.
    Stream(StreamArguments),
    /// Purge everything; --confirm must be `all`.
    All,
    /// Tell how far a purge is; with --wait, follow it.
    Status {
        /// What the purge is called.
        #[arg(value_name = "ID")]
        id: String,
    },
    /// List purges, newest first.
    List(ListArguments),
    /// List nodes, and how far each is.
    Nodes,
    /// Look at the audit of a purge API.
    Audit {
        #[command(subcommand)]
        what: AuditCommand,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: u32,
    /// Only those before this place; `next` of a list is where it goes on.
    #[arg(long, value_name = "SEQUENCE")]
    pub(crate) before: Option<u64>,
    /// Only those that name this host.
    #[arg(long, value_name = "HOST")]
    pub(crate) of_host: Option<String>,
    /// Only those of this principal.
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
    /// Only those of this kind: url, prefix, key, stream, host or all.
    #[arg(long, value_name = "VERB")]
    pub(crate) verb: Option<String>,
    /// Only those of this mode: hard or soft.
    #[arg(long, value_name = "MODE")]
    pub(crate) mode: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StreamArguments {
    /// The directory of the presentation, ending with a slash.
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// The first segment, by Media Sequence Number.
    #[arg(long, value_name = "N", requires = "last_msn", conflicts_with_all = ["from", "to"])]
    pub(crate) first_msn: Option<u64>,
    /// The last segment.
    #[arg(long, value_name = "N", requires = "first_msn")]
    pub(crate) last_msn: Option<u64>,
    /// Where the stretch begins, as in EXT-X-PROGRAM-DATE-TIME.
    #[arg(long, value_name = "TIME", requires = "to")]
    pub(crate) from: Option<String>,
    /// Where it ends.
    #[arg(long, value_name = "TIME", requires = "from")]
    pub(crate) to: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check the chain of a file and of those set aside before it, and print the hash it ends with.
    Verify {
        /// The file that is written now, or one that was set aside.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Where the API is, and who asks.
#[derive(Debug, Args)]
pub(crate) struct ApiArguments {
    /// Where the purge API is, e.g. `https://purge.example:9443`.
    #[arg(long, global = true, value_name = "URL", env = "SEAWALL_PURGE_API")]
    pub(crate) api: Option<String>,
    /// The id of the key that requests are signed with.
    #[arg(long, global = true, value_name = "ID", env = "SEAWALL_PURGE_KEY_ID")]
    pub(crate) key_id: Option<String>,
    /// The file with that key.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "SEAWALL_PURGE_KEY_FILE"
    )]
    pub(crate) key_file: Option<PathBuf>,
    /// A client certificate as PEM, instead of a key.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) certificate: Option<PathBuf>,
    /// The private key of the client certificate as PEM.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) certificate_key: Option<PathBuf>,
    /// A file of certificates to trust, beside the system's.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

/// How to purge.
#[derive(Debug, Args)]
pub(crate) struct HowArguments {
    /// Make stale and revalidate, instead of making unusable.
    #[arg(long, global = true)]
    pub(crate) soft: bool,
    /// Only count what would be purged; with --wait, the counts are shown.
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,
    /// Wait until every node has applied the purge, at most for this time.
    #[arg(long, global = true, value_name = "TIME", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    /// The host again, or `all`: for purges of a host or of everything.
    #[arg(long, global = true, value_name = "TEXT")]
    pub(crate) confirm: Option<String>,
    /// Makes a repetition harmless: the same key and purge is the same purge.
    #[arg(long, global = true, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// Show every node, and not only how many of each PoP have applied the purge.
    #[arg(long, global = true)]
    pub(crate) nodes: bool,
    /// Print the answer of the API as one line of JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PurgeApiArguments {
    /// The configuration file; docs/purge-api.md and configs/purge-api.toml say what is in it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}
