// Real players in a real browser against `seawall demo`, over HTTP/3.
//
// Usage: node tests/browser/play.mjs [--seconds 30] [--binary PATH] [--url URL]
//
// Starts the demo on free ports and plays its Low-Latency HLS with hls.js (on the demo's own page) and its
// Low-Latency DASH with dash.js, both in headless Chromium that is made to use QUIC. Asserts what a viewer would
// notice: no stall, close to live, HTTP/3, frames on the screen; and that the origin was asked once per part.
// With --url http://HOST:PORT it plays against that instead and asserts nothing about HTTP/3 or the origin.
// Prints figures as JSON and a closing line `N passed, N failed`; exits non-zero on failure.

import { spawn } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { chromium } from "playwright-core";

const HERE = dirname(fileURLToPath(import.meta.url));
const REPOSITORY = resolve(HERE, "../..");
const OUT = join(HERE, "out");
const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

const STARTUP_SECONDS = 20;   // until the first frame, on a busy two-core machine
const SETTLE_SECONDS = 5;     // players find their distance to live; what happens then does not count
const LATENCY_MAX_SECONDS = 3;
const DROPPED_SHARE_MAX = 0.2;

const { values: options } = parseArgs({
  options: {
    seconds: { type: "string", default: "30" },
    binary: { type: "string" },
    url: { type: "string" },
  },
});
const seconds = Number(options.seconds);

const results = [];
function check(name, isOk, detail) {
  results.push(isOk);
  console.log(`${isOk ? "ok  " : "FAIL"} ${name}${detail === undefined ? "" : `: ${detail}`}`);
}

// --- what is started, and ended again ---------------------------------------------------------------------------

let demo = null;

function findBinary() {
  const candidates = options.binary
    ? [resolve(options.binary)]
    : ["release", "debug"].map((profile) => join(REPOSITORY, "target", profile, "seawall"));
  const found = candidates.find((file) => existsSync(file));
  if (!found) throw new Error(`no seawall binary; build it with: cargo build --release -p cli (looked for ${candidates.join(", ")})`);
  return found;
}

async function startDemo() {
  const binary = findBinary();
  demo = spawn(binary, ["demo", "--json", "--viewers", "4"], { cwd: REPOSITORY, stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: demo.stdout });
  const first = new Promise((told, failed) => {
    lines.once("line", told);
    demo.once("exit", (code) => failed(new Error(`the demo ended at once with code ${code}`)));
    demo.once("error", failed);
  });
  return JSON.parse(await within(20, first, "the demo said nothing"));
}

async function stopDemo() {
  if (!demo || demo.exitCode !== null) return null;
  const ended = new Promise((told) => { demo.once("exit", (code) => told(code)); });
  demo.kill("SIGTERM");
  try {
    return await within(10, ended, "the demo did not drain");
  } catch (error) {
    demo.kill("SIGKILL");
    throw error;
  }
}

async function within(limitSeconds, promise, otherwise) {
  let timer;
  const limit = new Promise((_, failed) => {
    timer = setTimeout(() => failed(new Error(`${otherwise} within ${limitSeconds} s`)), limitSeconds * 1000);
  });
  try {
    return await Promise.race([promise, limit]);
  } finally {
    clearTimeout(timer);
  }
}

async function openBrowser(edge) {
  const quic = edge
    ? [`--origin-to-force-quic-on=localhost:${edge.secure_port}`, `--ignore-certificate-errors-spki-list=${edge.pin}`]
    : [];
  return chromium.launch({
    executablePath: CHROMIUM.find((file) => existsSync(file)),
    headless: true,
    ignoreDefaultArgs: ["--disable-quic"],
    args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required",
      "--host-resolver-rules=MAP localhost 127.0.0.1", ...quic],
  });
}

// --- the two players ----------------------------------------------------------------------------------------------

// Counts protocols of media responses; in the page, because it may clear the browser's own list.
function countProtocols() {
  globalThis.protocols = {};
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      if (!/\.(m3u8|mpd|m4s|mp4)(\?|$)/.test(entry.name)) continue;
      globalThis.protocols[entry.nextHopProtocol] = (globalThis.protocols[entry.nextHopProtocol] ?? 0) + 1;
    }
  }).observe({ type: "resource", buffered: true });
}

// Works on both pages: each has one video element, and keeps what its player reported in `seawall.viewer`.
function look() {
  const video = document.querySelector("video");
  const quality = video.getVideoPlaybackQuality();
  const { playing, stalls, waiting, errors, backwards, lags, latency, player } = globalThis.seawall.viewer;
  return {
    time: video.currentTime, decoded: quality.totalVideoFrames, dropped: quality.droppedVideoFrames,
    playing, stalls, waiting, errors, backwards, lags, latency, player, protocols: globalThis.protocols,
  };
}

async function openHls(page, base) {
  await page.goto(`${base}/`);
}

async function openDash(page, base) {
  const html = "<!doctype html><title>dash.js</title><video id=\"video\" muted playsinline width=\"640\" height=\"360\"></video>";
  await page.route("**/dash-test.html", (route) => route.fulfill({ contentType: "text/html", body: html }));
  await page.goto(`${base}/dash-test.html`);
  await page.addScriptTag({ path: join(HERE, "node_modules/dashjs/dist/modern/umd/dash.all.min.js") });
  await page.evaluate(playDash, base);
}

function playDash(base) {
  const viewer = { player: `dash.js ${dashjs.Version ?? ""}`, playing: false, stalls: 0, waiting: 0, errors: [], backwards: 0, lags: [], latency: null };
  globalThis.seawall = { viewer };
  const video = document.querySelector("video");
  video.addEventListener("playing", () => { viewer.playing = true; });
  video.addEventListener("waiting", () => { if (viewer.playing && !video.seeking) viewer.waiting += 1; });
  const player = dashjs.MediaPlayer().create();
  player.updateSettings({
    streaming: {
      delay: { liveDelay: 2 },
      liveCatchup: { enabled: true },
      // Without this it asks a public time server.
      utcSynchronization: { defaultTimingSource: { scheme: "urn:mpeg:dash:utc:http-iso:2014", value: `${base}/time` } },
    },
  });
  player.on(dashjs.MediaPlayer.events.PLAYBACK_STALLED, () => { if (viewer.playing) viewer.stalls += 1; });
  player.on(dashjs.MediaPlayer.events.ERROR, (event) => viewer.errors.push(String(event.error?.message ?? event.error)));
  player.initialize(video, `${base}/live/manifest.mpd`, true);
  setInterval(() => { viewer.latency = player.getCurrentLiveLatency() || null; }, 250);
}

async function play(browser, base, name, open) {
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
  const messages = [];
  page.on("console", (message) => { if (message.type() === "error") messages.push(message.text()); });
  page.on("pageerror", (error) => messages.push(String(error)));
  await page.addInitScript(countProtocols);
  await open(page, base);
  await page.waitForFunction(() => globalThis.seawall?.viewer.playing, null, { timeout: STARTUP_SECONDS * 1000 });
  await page.waitForTimeout(SETTLE_SECONDS * 1000);
  const before = await page.evaluate(look);
  const latencies = [];
  for (let second = 0; second < seconds; second += 1) {
    await page.waitForTimeout(1000);
    const { latency } = await page.evaluate(look);
    if (latency) latencies.push(latency);
  }
  const after = await page.evaluate(look);
  await page.screenshot({ path: join(OUT, `${name}.png`), fullPage: true });
  await page.close();
  return judge(name, before, after, latencies, messages);
}

function judge(name, before, after, latencies, messages) {
  const advanced = after.time - before.time;
  const decoded = after.decoded - before.decoded;
  const dropped = after.dropped - before.dropped;
  const stalls = after.stalls - before.stalls;
  const waiting = after.waiting - before.waiting;
  const sorted = latencies.toSorted((a, b) => a - b);
  const latency = { median: sorted[Math.floor(sorted.length / 2)], max: sorted.at(-1) };
  check(`${name}: plays in real time`, Math.abs(advanced - seconds) < Math.max(2, seconds * 0.1), `${advanced.toFixed(1)} of ${seconds} s`);
  check(`${name}: never stalls`, stalls === 0 && waiting === 0, `${stalls} stalls, ${waiting} waits`);
  check(`${name}: no fatal error`, after.errors.length === 0, after.errors.join(", ") || undefined);
  check(`${name}: less than ${LATENCY_MAX_SECONDS} s behind live`, latency.max < LATENCY_MAX_SECONDS,
    `median ${latency.median?.toFixed(2)} s, at most ${latency.max?.toFixed(2)} s`);
  check(`${name}: frames are decoded`, decoded > seconds * 10, `${decoded}`);
  check(`${name}: frames reach the screen`, dropped <= decoded * DROPPED_SHARE_MAX, `${dropped} dropped`);
  check(`${name}: no playlist runs backwards`, after.backwards === 0);
  if (!options.url) {
    const protocols = Object.keys(after.protocols);
    check(`${name}: everything over HTTP/3`, protocols.length === 1 && protocols[0] === "h3", JSON.stringify(after.protocols));
  }
  const lags = after.lags.toSorted((a, b) => a - b);
  return {
    player: after.player, seconds, advanced, decoded, dropped, stalls, waiting, latency,
    part_lag_median: lags[Math.floor(lags.length / 2)], protocols: after.protocols, messages,
  };
}

// --- the run --------------------------------------------------------------------------------------------------------

async function run() {
  mkdirSync(OUT, { recursive: true });
  const places = options.url ? null : await startDemo();
  const edge = places?.edges[0];
  const base = options.url?.replace(/\/$/, "") ?? `https://localhost:${edge.secure_port}`;
  const figures = { base };
  const browser = await openBrowser(edge);
  try {
    if (!options.url) figures.hls = await play(browser, base, "hls.js", openHls);
    figures.dash = await play(browser, base, "dash.js", openDash);
  } finally {
    await browser.close();
  }
  if (places) {
    figures.origin = await (await fetch(`${places.origin}/origin/counts.json`)).json();
    const { part } = figures.origin.by_kind;
    check("the origin was asked once per part", part.max === 1, `${part.requests} requests for ${part.objects} parts`);
    check("the demo drains on SIGTERM", await stopDemo() === 0);
  }
  return figures;
}

const watchdog = (2 * (seconds + SETTLE_SECONDS + STARTUP_SECONDS)) + 90;
try {
  const figures = await within(watchdog, run(), "the tests did not end");
  console.log(JSON.stringify(figures, null, 2));
} catch (error) {
  check("the tests ran to their end", false, error.stack ?? error);
} finally {
  await stopDemo().catch((error) => check("the demo ends", false, error.message));
}
const failed = results.filter((isOk) => !isOk).length;
console.log(`${results.length - failed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
