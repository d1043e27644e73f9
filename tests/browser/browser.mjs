// One player playing once in headless Chromium, and what came of it.
//
// `openBrowser` makes Chromium use QUIC from the first request; `watch` plays and returns a record of figures. What is
// good enough is for the callers to judge.

import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { chromium } from "playwright-core";

import { HERE, OUT } from "./processes.mjs";

const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const STARTUP_SECONDS = 20;   // until the first frame, on a busy two-core machine
export const SETTLE_SECONDS = 5;  // players find their distance to live; what happens then does not count
const LOGGED_MAX = 20_000;
const MEDIA = /\.(m3u8|mpd|m4s|mp4|ts|aac|webm)(\?|$)/;

const LIBRARIES = {
  hlsjs: "hls.js/dist/hls.min.js",
  shaka: "shaka-player/dist/shaka-player.compiled.js",
  dashjs: "dashjs/dist/modern/umd/dash.all.min.js",
  native: null,
};

export async function openBrowser(edge) {
  const quic = edge
    ? [`--origin-to-force-quic-on=localhost:${edge.port}`, `--ignore-certificate-errors-spki-list=${edge.pin}`]
    : [];
  return chromium.launch({
    executablePath: CHROMIUM.find((file) => existsSync(file)),
    headless: true,
    ignoreDefaultArgs: ["--disable-quic"],
    args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required",
      "--host-resolver-rules=MAP localhost 127.0.0.1", ...quic],
  });
}

// Opens the page that `seawall demo` serves; it plays with hls.js by itself.
export async function openDemoPage(page, base) {
  await page.goto(`${base}/`);
}

// Returns what opens an empty page of the same origin and lets a player play `path`, which has that format, on it.
export function openPlayer(player, path, format) {
  return async (page, base) => {
    const html = "<!doctype html><link rel=\"icon\" href=\"data:,\"><title>player</title>"
      + "<video id=\"video\" muted playsinline width=\"640\" height=\"360\"></video>";
    await page.route("**/player.html", (route) => route.fulfill({ contentType: "text/html", body: html }));
    await page.goto(`${base}/player.html`);
    // Interception costs every request a detour.
    await page.unrouteAll();
    if (LIBRARIES[player]) await page.addScriptTag({ path: join(HERE, "node_modules", LIBRARIES[player]) });
    await page.addScriptTag({ path: join(HERE, "page", "players.js") });
    await page.evaluate((args) => globalThis.seawall.play(...args), [player, `${base}${path}`, format]);
  };
}

// Works on both pages: each has one video element, and keeps what its player reported in `seawall.viewer`.
function look() {
  const video = document.querySelector("video");
  const { totalVideoFrames, droppedVideoFrames } = video.getVideoPlaybackQuality();
  const { monitor } = globalThis;
  const { viewer } = globalThis.seawall;
  const ahead = video.buffered.length > 0 ? video.buffered.end(video.buffered.length - 1) - video.currentTime : 0;
  return {
    now: Date.now(), time: video.currentTime, decoded: totalVideoFrames, dropped: droppedVideoFrames, height: video.videoHeight,
    buffer: ahead, ...viewer, ...monitor,
  };
}

// Plays for `seconds` after players have settled; `during(page)` runs beside it, from the first second on.
export async function watch(browser, base, { name, open, seconds, during }) {
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
  const log = follow(page);
  await page.addInitScript({ path: join(HERE, "page", "monitor.js") });
  try {
    await open(page, base);
    await page.waitForFunction(() => globalThis.seawall?.viewer.playing && globalThis.monitor.startup !== null, null,
      { timeout: STARTUP_SECONDS * 1000 });
    await page.waitForTimeout(SETTLE_SECONDS * 1000);
    const before = await page.evaluate(look);
    const aside = during ? during() : Promise.resolve();
    aside.catch(() => {});
    const samples = [];
    for (let second = 0; second < seconds; second += 1) {
      await page.waitForTimeout(1000);
      samples.push(await page.evaluate(look));
    }
    await aside;
    await page.screenshot({ path: join(OUT, `${name}.png`), fullPage: true });
    return figures(name, before, samples, log);
  } catch (error) {
    const seen = await page.evaluate(() => JSON.stringify(globalThis.seawall?.viewer)).catch(() => "nothing");
    throw new Error(`${name}: ${error.message.split("\n")[0]}; ${seen}`, { cause: error });
  } finally {
    writeFileSync(join(OUT, `${name}.requests.jsonl`), log.requests.toSorted((a, b) => a.at - b.at).map((line) => JSON.stringify(line)).join("\n"));
    await page.close();
  }
}

// Follows what a page asks for and says.
function follow(page) {
  const log = { requests: [], statuses: {}, messages: [] };
  const note = (request, outcome) => {
    if (!MEDIA.test(request.url())) return;
    log.statuses[outcome] = (log.statuses[outcome] ?? 0) + 1;
    if (log.requests.length >= LOGGED_MAX) return;
    const { startTime, responseStart, responseEnd } = request.timing();
    const range = request.headers().range;
    log.requests.push({ at: Math.round(startTime), head_ms: Math.round(responseStart), end_ms: Math.round(responseEnd), outcome, range, url: request.url() });
  };
  page.on("requestfinished", async (request) => {
    // A page that closes meanwhile takes the answer with it.
    const response = await request.response().catch(() => null);
    if (response) note(request, String(response.status()));
  });
  // What a player cancels is its own decision; what breaks is not.
  page.on("requestfailed", (request) => note(request, request.failure()?.errorText ?? "failed"));
  page.on("console", (message) => { if (message.type() === "error") log.messages.push(message.text()); });
  page.on("pageerror", (error) => log.messages.push(String(error)));
  return log;
}

function figures(name, before, samples, log) {
  const after = samples.at(-1);
  const latencies = samples.map((sample) => sample.latency).filter(Boolean).toSorted((a, b) => a - b);
  const freezes = after.freezes.slice(before.freezes.length);
  if (after.frozen >= 250) freezes.push({ at: after.now, seconds: after.frozen / 1000 });
  const lags = after.lags.toSorted((a, b) => a - b);
  return {
    name, player: after.player, startup: after.startup,
    seconds: (after.now - before.now) / 1000, advanced: after.time - before.time,
    latency: { median: middle(latencies), max: latencies.at(-1) ?? null, before: before.latency, after: after.latency },
    freezes: { count: freezes.length, seconds: sum(freezes.map((freeze) => freeze.seconds)), each: freezes },
    jumps: after.jumps.slice(before.jumps.length),
    stalls: after.stalls - before.stalls, waiting: after.waiting - before.waiting,
    decoded: after.decoded - before.decoded, dropped: after.dropped - before.dropped,
    switches: (after.switches ?? 0) - (before.switches ?? 0), height: after.height,
    is_playing: after.decoded > (samples.at(-4)?.decoded ?? 0) && after.frozen < 1000,
    errors: after.errors, warnings: after.warnings ?? {}, recoveries: after.recoveries ?? 0, backwards: after.backwards,
    part_lag_median: middle(lags), protocols: after.protocols, statuses: log.statuses, messages: log.messages.slice(0, 20),
  };
}

const middle = (sorted) => sorted[Math.floor(sorted.length / 2)] ?? null;
const sum = (values) => values.reduce((total, value) => total + value, 0);
