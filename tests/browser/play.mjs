// Real players in a real browser through Seawall, over HTTP/3.
//
// Usage: node tests/browser/play.mjs [--seconds 20] [--binary PATH] [--url URL]      what CI runs
//        node tests/browser/play.mjs --matrix [--seconds 60] [--url URL]             every player with every format
//        node tests/browser/play.mjs --faults [--seconds 40]                         while something dies and comes back
//        node tests/browser/play.mjs --origin NAME [--seconds 60]                    an origin that is not ours
//        [--only TEXT] plays only what has TEXT in its name
//
// Without a mode: starts `seawall demo` on free ports and plays its Low-Latency HLS with hls.js (on the demo's own page) and
// Shaka Player, and its Low-Latency DASH with dash.js and Shaka Player, all in headless Chromium that is made to use QUIC.
// Asserts what a viewer would notice: no stall, close to live, HTTP/3, frames on the screen; and that the origin was
// asked once per part. The other modes print a table for docs/players.md. With --url http://HOST:PORT, players play
// what is there at the demo's paths, and nothing is asserted about HTTP/3 or the origin.
// Prints figures as JSON and a closing line `N passed, N failed`; exits non-zero on failure.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { openBrowser, openDemoPage, openPlayer, watch } from "./browser.mjs";
import { playFaults } from "./faults.mjs";
import { playOrigin } from "./origins.mjs";
import { endAll, findBinary, OUT, startDemo, within } from "./processes.mjs";
import { matrixTable } from "./tables.mjs";

const LATENCY_MAX_SECONDS = 3;
const DASH_LATENCY_MAX_SECONDS = 4;   // what the MPD of the demo allows
const DROPPED_SHARE_MAX = 0.2;
const RUN_SECONDS_MAX = 60;   // what a run takes at most beside its playing time, failures included

const { values: options } = parseArgs({
  options: {
    seconds: { type: "string" },
    binary: { type: "string" },
    url: { type: "string" },
    only: { type: "string", default: "" },
    matrix: { type: "boolean", default: false },
    faults: { type: "boolean", default: false },
    origin: { type: "string" },
  },
});

const LL_HLS = "/live/index.m3u8";
const LL_DASH = "/live/manifest.mpd";
const HLS = "/plain/index.m3u8";
const DASH = "/plain/manifest.mpd";

const SHORT = [
  { name: "hls.js", open: openDemoPage, needsDemo: true },
  { name: "dash.js", open: openPlayer("dashjs", LL_DASH, "LL-DASH") },
  // It begins at PART-HOLD-BACK with nothing in reserve, and may run dry once before it steps back.
  { name: "Shaka LL-HLS", open: openPlayer("shaka", LL_HLS, "LL-HLS"), latencyMax: DASH_LATENCY_MAX_SECONDS, stallsMax: 1 },
  { name: "Shaka LL-DASH", open: openPlayer("shaka", LL_DASH, "LL-DASH"), latencyMax: DASH_LATENCY_MAX_SECONDS },
];

const MATRIX = [
  ["hls.js", "LL-HLS", "hlsjs", LL_HLS], ["Shaka", "LL-HLS", "shaka", LL_HLS],
  ["dash.js", "LL-DASH", "dashjs", LL_DASH], ["Shaka", "LL-DASH", "shaka", LL_DASH],
  ["hls.js", "HLS", "hlsjs", HLS], ["Shaka", "HLS", "shaka", HLS], ["native", "HLS", "native", HLS],
  ["dash.js", "DASH", "dashjs", DASH], ["Shaka", "DASH", "shaka", DASH],
].map(([player, format, library, path]) => ({ name: `${player} ${format}`, format, open: openPlayer(library, path, format) }));

const results = [];
function check(name, isOk, detail) {
  results.push(isOk);
  console.log(`${isOk ? "ok  " : "FAIL"} ${name}${detail === undefined ? "" : `: ${detail}`}`);
}

// Returns what is asked of a player, as [name, whether it is so, the figures].
function judge(seen) {
  const { name, latency, seconds, latencyMax = LATENCY_MAX_SECONDS, stallsMax = 0 } = seen;
  const protocols = Object.keys(seen.protocols);
  return [
    ["plays in real time", Math.abs(seen.advanced - seconds) < Math.max(2, seconds * 0.1), `${seen.advanced.toFixed(1)} of ${seconds.toFixed(1)} s`],
    [stallsMax === 0 ? "never stalls" : `stalls at most ${stallsMax} times`, seen.stalls <= stallsMax && seen.waiting <= stallsMax,
      `${seen.stalls} stalls, ${seen.waiting} waits`],
    ["no fatal error", seen.errors.length === 0, seen.errors.join(", ") || undefined],
    [`less than ${latencyMax} s behind live`, latency.max !== null && latency.max < latencyMax,
      `median ${latency.median?.toFixed(2)} s, at most ${latency.max?.toFixed(2)} s`],
    ["frames are decoded", seen.decoded > seconds * 10, `${seen.decoded}`],
    ["frames reach the screen", seen.dropped <= seen.decoded * DROPPED_SHARE_MAX, `${seen.dropped} dropped`],
    ["no playlist runs backwards", seen.backwards === 0],
    ...(options.url ? [] : [["everything over HTTP/3", protocols.length === 1 && protocols[0] === "h3", JSON.stringify(seen.protocols)]]),
  ].map(([text, ...rest]) => [`${name}: ${text}`, ...rest]);
}

// Plays, and once more if something was amiss: a machine that did something else for a second is no finding.
async function playTwice(play) {
  const first = await play();
  const amiss = judge(first).filter(([, isOk]) => !isOk);
  for (const [text, , detail] of amiss) console.log(`once more, for ${text}: ${detail}`);
  const seen = amiss.length === 0 ? first : await play();
  for (const each of judge(seen)) check(...each);
  return seen;
}

async function playOnce(play) {
  const seen = await play();
  check(`${seen.name}: plays to the end`, seen.is_playing, `${seen.freezes.count} freezes`);
  return seen;
}

async function playThrough(demo, runs, seconds, attempt) {
  const base = options.url?.replace(/\/$/, "") ?? demo.base;
  const browser = await openBrowser(demo);
  const seen = [];
  try {
    for (const run of runs.filter(({ name, needsDemo }) => name.includes(options.only) && !(needsDemo && options.url))) {
      seen.push(await attempt(async () => {
        const one = await watch(browser, base, { ...run, name: run.name.replaceAll(" ", "-"), seconds });
        return { ...one, name: run.name, format: run.format, latencyMax: run.latencyMax, stallsMax: run.stallsMax };
      }));
    }
  } finally {
    await browser.close();
  }
  return seen;
}

async function playDemo(runs, seconds, attempt) {
  const demo = options.url ? null : await startDemo(findBinary(options.binary));
  const figures = { players: await playThrough(demo, runs, seconds, attempt) };
  if (demo) {
    figures.origin = await (await fetch(`${demo.origin}/origin/counts.json`)).json();
    const { part } = figures.origin.by_kind;
    check("the origin was asked once per part", part.max === 1, `${part.requests} requests for ${part.objects} parts`);
    check("the demo drains on SIGTERM", await demo.stop() === 0);
  }
  return figures;
}

async function playMatrix(seconds) {
  const figures = await playDemo(MATRIX, seconds, playOnce);
  console.log(`\n${matrixTable(figures.players)}\n`);
  return figures;
}

function modeOf() {
  const seconds = (otherwise) => Number(options.seconds ?? otherwise);
  const binary = () => findBinary(options.binary);
  if (options.matrix) return { runs: MATRIX.length, seconds: seconds(60), run: playMatrix };
  if (options.faults) return { runs: 18, seconds: seconds(40), run: (s) => playFaults(binary(), s, options.only, check) };
  if (options.origin) return { runs: 4, seconds: seconds(60), run: (s) => playOrigin(options.origin, binary(), s, options.only, check) };
  return { runs: 2 * SHORT.length, seconds: seconds(20), run: (s) => playDemo(SHORT, s, playTwice) };
}

const mode = modeOf();
mkdirSync(OUT, { recursive: true });
try {
  const figures = await within(mode.runs * (mode.seconds + RUN_SECONDS_MAX), mode.run(mode.seconds), "the tests did not end");
  const text = JSON.stringify(figures, null, 2);
  writeFileSync(join(OUT, "figures.json"), text);
  if (!options.matrix && !options.faults && !options.origin) console.log(text);
} catch (error) {
  check("the tests ran to their end", false, error.stack ?? error);
} finally {
  await endAll().catch((error) => check("everything ends", false, error.message));
}
const failed = results.filter((isOk) => !isOk).length;
console.log(`${results.length - failed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
