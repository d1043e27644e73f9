//! What can be typed: the commands and their options, as `--help` shows them.
//!
//! Only shapes and words. Whether values make sense together is judged by each command's plan.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::purge::{PURGE_EXAMPLES, PurgeApiArguments, PurgeArguments};
use crate::values::duration;

/// Edge cache and origin shield for live video: HLS, Low-Latency HLS and DASH.
#[derive(Debug, Parser)]
#[command(
    name = "seawall",
    version,
    max_term_width = 100,
    after_help = EXAMPLES,
    after_long_help = EXAMPLES
)]
pub(crate) struct Arguments {
    /// What to log on standard error: a level, or levels by module (`info,node=debug`).
    #[arg(long, global = true, value_name = "LEVELS", default_value = "warn")]
    pub(crate) log: String,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  seawall demo                                              a whole CDN on this machine, with a page to look at
  seawall run --origin http://127.0.0.1:8888                one edge in front of your own packager
  seawall check /etc/seawall/edge.toml                      is this file right, and what does it mean
  seawall edge --config /etc/seawall/edge.toml              one edge of a deployment
  seawall explain https://live.example/a.m3u8 --config edge.toml    which rule, which key, how long, and why
  seawall swarm https://edge.example/live/index.m3u8 --viewers 500 --protocol h3

Exit codes:
  0  done, or stopped by a signal and drained
  1  could not: a port in use, a file that cannot be read, nothing answers
  2  wrong options, or a configuration with problems
  130  left at once on a second signal";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole CDN here: a live origin, a shield, two edges, viewers, and a page that shows it all.
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(DemoArguments),
    /// Run one edge straight in front of an origin, without a configuration file.
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArguments),
    /// Run an edge: the nodes that viewers connect to.
    Edge(ConfiguredArguments),
    /// Run a shield: the nodes that stand between edges and the origin.
    Shield(ConfiguredArguments),
    /// Check a configuration file and print what is in effect.
    Check(CheckArguments),
    /// Say what a configuration makes of a URL: which rule, which key, how long, and why.
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArguments),
    /// Run a live origin that replays bundled media, and misbehaves when told to.
    #[command(after_help = ORIGIN_EXAMPLES)]
    Origin(OriginArguments),
    /// Let a swarm of viewers play a stream, and report what they saw.
    #[command(after_help = SWARM_EXAMPLES)]
    Swarm(SwarmArguments),
    /// Purge: URLs, directories, surrogate keys, streams, hosts; and see where purges have been applied.
    #[command(after_help = PURGE_EXAMPLES)]
    Purge(Box<PurgeArguments>),
    /// Run a purge API: it keeps purges in order and tells them to every node.
    PurgeApi(PurgeApiArguments),
    /// Put plain closed-loop GET load on a server.
    #[command(hide = true)]
    Load(LoadArguments),
    /// Keep many blocking playlist requests in place.
    #[command(hide = true)]
    Hold(HoldArguments),
}

const DEMO_EXAMPLES: &str = "\
Examples:
  seawall demo                                on free ports, which it prints
  seawall demo --port-base 8080               on ports 8080 and up
  seawall demo --address 0.0.0.0 --port-base 8080    so that other machines can watch
  seawall demo --viewers 200                  with a larger audience
  seawall demo --fault 'late-part=800ms@*:20s-40s'   with an origin that has a bad moment";

#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// The first of nine ports to use; 0 takes free ones.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub(crate) port_base: u16,
    /// The address to listen on.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub(crate) address: IpAddr,
    /// Simulated viewers, half of them at each edge; 0 leaves the stream to you.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) viewers: usize,
    /// hls.js for the page; searched for in node_modules when not given.
    #[arg(long, value_name = "FILE")]
    pub(crate) hls_js: Option<PathBuf>,
    /// Print the addresses as one line of JSON, for programs.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) stream: StreamArguments,
}

const RUN_EXAMPLES: &str = "\
Examples:
  seawall run --origin http://127.0.0.1:8888
      then open https://localhost:8443/your/stream.m3u8, or http://127.0.0.1:8080/your/stream.m3u8
  seawall run --origin https://origin.example --listen 0.0.0.0:443 --certificate chain.pem --key key.pem";

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Where the stream comes from: scheme and host, e.g. http://127.0.0.1:8888. Paths stay as they are.
    #[arg(long, value_name = "URL")]
    pub(crate) origin: String,
    /// Where to listen with TLS: HTTP/1.1 and HTTP/2 over TCP, HTTP/3 over UDP.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    pub(crate) listen: SocketAddr,
    /// Where to listen in clear text, for players that do not take a certificate made on the spot.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) http: SocketAddr,
    /// The certificate chain as PEM, leaf first. Made on the spot when not given.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) certificate: Option<PathBuf>,
    /// The certificate's private key as PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) key: Option<PathBuf>,
    /// A name for the certificate made on the spot, beside localhost; may be repeated.
    #[arg(long, value_name = "NAME", conflicts_with = "certificate")]
    pub(crate) name: Vec<String>,
    /// The Host the origin is asked with. Default: the host of --origin.
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// A file of certificates to trust for the origin, beside the system's.
    #[arg(long, value_name = "FILE")]
    pub(crate) origin_ca: Option<PathBuf>,
    /// Memory for stored responses, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(16..))]
    pub(crate) memory: u32,
    /// Where to listen privately: /healthz, /readyz, /metrics, /status. Loopback only.
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<SocketAddr>,
    /// Print one JSON line per finished request on standard output.
    #[arg(long)]
    pub(crate) access_log: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ConfiguredArguments {
    /// The configuration file; docs/configuration.md has every key.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// The configuration file of an edge or a shield.
    pub(crate) file: PathBuf,
    /// What it is for. Default: a file with `[[origin]]` is a shield's.
    #[arg(long = "for", value_name = "WHAT")]
    pub(crate) purpose: Option<Purpose>,
    /// The file is for another machine: do not look for the files it names.
    #[arg(long)]
    pub(crate) elsewhere: bool,
}

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  seawall explain https://live.example/live/index.m3u8 --config edge.toml
  seawall explain https://live.example/a.json --config edge.toml -H 'Accept-Language:de' --fetch
  seawall explain https://live.example/a.json --config shield.toml --json";

#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// What a viewer would ask for.
    pub(crate) url: String,
    /// The configuration file of an edge or a shield.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// What it is for. Default: a file with `[[origin]]` is a shield's.
    #[arg(long = "for", value_name = "WHAT")]
    pub(crate) purpose: Option<Purpose>,
    /// A header field of the request; may be repeated.
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,
    /// The method of the request.
    #[arg(long, default_value = "GET")]
    pub(crate) method: String,
    /// Ask a parent once, and say what is made of its answer. Nothing is kept.
    #[arg(long)]
    pub(crate) fetch: bool,
    /// Print one JSON object, for programs; durations are in milliseconds.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    Edge,
    Shield,
}

const ORIGIN_EXAMPLES: &str = "\
Examples:
  seawall origin --listen 127.0.0.1:8888
  seawall origin --part 200ms --segment 1s --parts-as byte-ranges
  seawall origin --fault 'status=503@*.m4sx3:10s-20s'     503 for three media requests, 10 to 20 s after the start
  seawall origin --fault 'stall@*/v0/*'                   never answer for one rendition";

#[derive(Debug, Args)]
pub(crate) struct OriginArguments {
    /// Where to listen, clear text, HTTP/1.1 and HTTP/2.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8888")]
    pub(crate) listen: SocketAddr,
    /// Renditions to offer: v0, v1, v2 (video), a0 (audio); may be repeated. Default: all.
    #[arg(long, value_name = "NAME")]
    pub(crate) rendition: Vec<String>,
    /// Pad every part to so many bytes, for load tests.
    #[arg(long, value_name = "BYTES")]
    pub(crate) pad_parts_to: Option<usize>,
    /// Complete segments in a live playlist.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) window: u64,
    /// How much was produced before the start [default: one window].
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) history: Option<Duration>,
    #[command(flatten)]
    pub(crate) stream: StreamArguments,
}

/// The shape of the bundled stream, and what goes wrong with it.
#[derive(Debug, Args)]
pub(crate) struct StreamArguments {
    /// Duration of a part, e.g. 200ms, 333ms, 500ms, 1s.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "500ms")]
    pub(crate) part: Duration,
    /// Duration of a segment: whole seconds, 1s to 6s.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2s")]
    pub(crate) segment: Duration,
    /// How parts are addressed.
    #[arg(long, value_name = "HOW", default_value = "files")]
    pub(crate) parts_as: PartsAs,
    /// Something that goes wrong: `ACTION@PATTERN[xTIMES][:FROM-TO]`; may be repeated.
    #[arg(long, value_name = "FAULT")]
    pub(crate) fault: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PartsAs {
    Files,
    ByteRanges,
}

const SWARM_EXAMPLES: &str = "\
Examples:
  seawall swarm http://127.0.0.1:8080/live/index.m3u8 --viewers 100
  seawall swarm https://localhost:8443/live/index.m3u8 --protocol h3 --insecure --viewers 1000 --ramp 10s
  seawall swarm URL --switch-every 5s --abort 0.01        viewers that change rendition and give requests up
  seawall swarm URL --counts-url http://127.0.0.1:8888/origin/counts.json --json report.json";

#[derive(Debug, Args)]
pub(crate) struct SwarmArguments {
    /// The multivariant playlist, or a media playlist.
    pub(crate) url: String,
    /// How many viewers play.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) viewers: usize,
    /// The time over which they arrive.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2s")]
    pub(crate) ramp: Duration,
    /// How long the run takes.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub(crate) duration: Duration,
    /// Time nothing that is published so soon after the start.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0s")]
    pub(crate) settle: Duration,
    /// When parts are asked for.
    #[arg(long, value_name = "WHEN", default_value = "hint")]
    pub(crate) wants: Wants,
    /// Ask for whole playlists even where delta updates are offered.
    #[arg(long)]
    pub(crate) no_delta: bool,
    /// Change to another rendition this often.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) switch_every: Option<Duration>,
    /// The probability that a request is given up halfway.
    #[arg(long, value_name = "0..1", default_value_t = 0.0)]
    pub(crate) abort: f64,
    /// The rendition viewers start with.
    #[arg(long, value_name = "WHICH", default_value = "mixed")]
    pub(crate) start: Start,
    /// Leave a separate audio rendition out.
    #[arg(long)]
    pub(crate) no_audio: bool,
    /// Viewers that share one HTTP/2 or HTTP/3 connection; real ones do not.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) viewers_per_connection: usize,
    /// The seed of all chance.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Where a `seawall origin` tells its counts, fetched at the end.
    #[arg(long, value_name = "URL")]
    pub(crate) counts_url: Option<String>,
    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

/// How clients connect, and where the report goes.
#[derive(Debug, Args)]
pub(crate) struct ClientArguments {
    /// The HTTP version.
    #[arg(long, value_name = "VERSION", default_value = "h2")]
    pub(crate) protocol: Protocol,
    /// Connect here, whatever the URL's host says.
    #[arg(long, value_name = "ADDR")]
    pub(crate) connect_to: Option<SocketAddr>,
    /// Accept any certificate.
    #[arg(long, conflicts_with = "ca")]
    pub(crate) insecure: bool,
    /// Accept certificates signed by those in this PEM file, and no others.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Threads to run on.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) threads: usize,
    /// Also write the report as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    H1,
    H2,
    H3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wants {
    /// As soon as they are hinted, like AVPlayer and ExoPlayer.
    Hint,
    /// When the playlist lists them, like hls.js.
    Listed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Start {
    Lowest,
    Highest,
    Mixed,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArguments {
    /// What to get, in turn.
    #[arg(required = true)]
    pub(crate) urls: Vec<String>,
    /// Connections, over all threads.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) connections: usize,
    /// Requests under way on each connection; 1 for HTTP/1.1.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) streams: usize,
    /// End after this time.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub(crate) duration: Duration,
    /// End after this many requests instead.
    #[arg(long, value_name = "N")]
    pub(crate) requests: Option<u64>,
    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct HoldArguments {
    /// A media playlist that can block.
    pub(crate) url: String,
    /// Requests to hold, over all connections.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) requests: usize,
    /// Connections to hold them over.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) connections: usize,
    /// Ask for a whole segment so many after the newest, instead of the next part.
    #[arg(long, value_name = "N")]
    pub(crate) segments_ahead: Option<u64>,
    /// How long to hold them.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub(crate) duration: Duration,
    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_example_in_the_help_can_be_typed() {
        let help = [
            EXAMPLES,
            DEMO_EXAMPLES,
            RUN_EXAMPLES,
            EXPLAIN_EXAMPLES,
            ORIGIN_EXAMPLES,
            SWARM_EXAMPLES,
            PURGE_EXAMPLES,
        ];
        let examples = help.iter().flat_map(|text| text.lines());
        let mut tried = 0;
        for line in examples.filter_map(|line| line.strip_prefix("  seawall ")) {
            // What explains an example stands behind two spaces.
            let typed = line
                .split("  ")
                .next()
                .unwrap_or_default()
                .replace('\'', "");
            let words = std::iter::once("seawall").chain(typed.split_whitespace());
            if let Err(error) = Arguments::try_parse_from(words) {
                panic!("{typed}: {error}");
            }
            tried += 1;
        }
        assert!(tried > 10, "{tried}");
    }
}
