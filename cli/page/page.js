// The demo page: plays the stream through the edge it was loaded from and shows what that costs the origin.
//
// Two halves that share only `viewer`: the player, which measures what this visitor sees, and the figures, which are
// fetched once a second from /demo/figures.json (counters, turned into rates here).
// Deliberately not here: any framework, any request to another host.

"use strict";

const byId = (id) => document.getElementById(id);
const show = (id, text) => { byId(id).textContent = text; };

// What this visitor's player saw. The browser tests read it.
const viewer = {
  player: "none",
  playing: false,
  stalls: 0,            // the player ran dry after it had begun to play
  waiting: 0,           // `waiting` events after it had begun to play
  errors: [],           // fatal errors, newest last
  latency: null,        // seconds from the encoder's clock to the screen
  lags: [],             // seconds from "part exists" to "last byte here", newest last
  hold: null,           // seconds the last playlist request was held
  protocol: "",
  backwards: 0,         // playlists older than one seen before
};
window.seawall = { viewer, hls: null };

const HISTORY = 120;    // seconds that the small charts show
const history = { latency: [], viewers: [], origin: [] };
const STREAM = "/live/index.m3u8";
let clockOffset = 0;    // the server's clock minus ours, milliseconds

// --- the player ------------------------------------------------------------------------------------------------

function startPlayer() {
  const video = byId("video");
  watchVideo(video);
  if (window.Hls && window.Hls.isSupported()) return startHlsJs(video);
  if (video.canPlayType("application/vnd.apple.mpegurl")) {
    viewer.player = "the browser's own";
    video.src = STREAM;
    video.play().catch(() => {});
    return;
  }
  const message = byId("message");
  message.innerHTML = "<p>This browser plays no HLS by itself, and hls.js was not found when the demo was started.</p>"
    + "<p class=\"fine\">Start it with <code>seawall demo --hls-js path/to/hls.min.js</code>, or open "
    + `<a href="${STREAM}">${STREAM}</a> in another player.</p>`;
  message.hidden = false;
}

function startHlsJs(video) {
  const { Hls } = window;
  viewer.player = `hls.js ${Hls.version}`;
  const hls = new Hls({ lowLatencyMode: true, backBufferLength: 30, maxLiveSyncPlaybackRate: 1.1 });
  window.seawall.hls = hls;
  hls.on(Hls.Events.ERROR, (_, error) => onPlayerError(hls, error));
  hls.on(Hls.Events.FRAG_LOADED, (_, { part, networkDetails }) => { if (part) noteLag(networkDetails); });
  hls.on(Hls.Events.LEVEL_LOADED, (_, { details, stats, networkDetails }) => notePlaylist(details, stats, networkDetails));
  hls.loadSource(STREAM);
  hls.attachMedia(video);
  hls.on(Hls.Events.MANIFEST_PARSED, () => video.play().catch(() => {}));
}

function onPlayerError(hls, error) {
  if (error.details === "bufferStalledError") viewer.stalls += 1;
  if (!error.fatal) return;
  viewer.errors.push(error.details);
  if (error.type === "networkError") hls.startLoad();
  else if (error.type === "mediaError") hls.recoverMediaError();
}

function watchVideo(video) {
  video.addEventListener("playing", () => { viewer.playing = true; });
  video.addEventListener("waiting", () => { if (viewer.playing && !video.seeking) viewer.waiting += 1; });
}

// The origin says when a part came to be (Seawall-Published, Unix milliseconds); the rest is the way here.
function noteLag(xhr) {
  const published = Number(xhr?.getResponseHeader?.("Seawall-Published"));
  if (!published) return;
  viewer.lags.push((Date.now() + clockOffset - published) / 1000);
  if (viewer.lags.length > 30) viewer.lags.shift();
}

let newest = new Map();  // per rendition: the newest position seen

function notePlaylist(details, stats, xhr) {
  if (xhr?.responseURL?.includes("_HLS_msn")) viewer.hold = (stats.loading.first - stats.loading.start) / 1000;
  const position = [details.endSN, details.lastPartSn, details.lastPartIndex];
  const before = newest.get(details.url.split("?")[0]);
  if (before && isOlder(position, before)) viewer.backwards += 1;
  newest.set(details.url.split("?")[0], position);
}

function isOlder(a, b) {
  const at = a.findIndex((value, i) => value !== b[i]);
  return at >= 0 && a[at] < b[at];
}

function showPlayer() {
  const video = byId("video");
  const { hls } = window.seawall;
  const playing = hls?.playingDate;
  const behind = playing ? (Date.now() + clockOffset - playing.getTime()) / 1000 : hls?.latency;
  viewer.latency = behind > 0 ? behind : null;
  keep(history.latency, viewer.latency ?? 0);
  show("latency", viewer.latency ? `${viewer.latency.toFixed(2)} s` : "–");
  spark("spark-latency", [history.latency]);
  const lag = viewer.lags.at(-1);
  show("lag", lag === undefined ? "–" : milliseconds(lag));
  show("hold", viewer.hold === null ? "–" : milliseconds(viewer.hold));
  show("buffer", `${bufferAhead(video).toFixed(2)} s`);
  show("stalls", String(viewer.stalls));
  const quality = video.getVideoPlaybackQuality?.();
  if (quality) show("frames", `${quality.totalVideoFrames} frames, ${quality.droppedVideoFrames} dropped`);
  const level = hls?.levels?.[hls.currentLevel];
  show("rendition", level ? `${level.width}×${level.height}, ${viewer.player}` : viewer.player);
  viewer.protocol = protocolOfNewest();
  show("protocol", { h3: "HTTP/3", h2: "HTTP/2", "http/1.1": "HTTP/1.1" }[viewer.protocol] ?? (viewer.protocol || "–"));
}

function bufferAhead(video) {
  for (let i = 0; i < video.buffered.length; i += 1) {
    if (video.buffered.start(i) <= video.currentTime && video.currentTime <= video.buffered.end(i)) {
      return video.buffered.end(i) - video.currentTime;
    }
  }
  return 0;
}

// The browser keeps 250 timings by default and then stops; the buffer is emptied once the newest was read.
function protocolOfNewest() {
  const media = performance.getEntriesByType("resource").filter((entry) => entry.name.includes("/live/"));
  const protocol = media.at(-1)?.nextHopProtocol || viewer.protocol;
  if (media.length > 100) performance.clearResourceTimings();
  return protocol;
}

// --- the figures -----------------------------------------------------------------------------------------------

let previous = null;
let failures = 0;

async function refresh() {
  try {
    const asked = Date.now();
    const response = await fetch("/demo/figures.json", { cache: "no-store" });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const figures = await response.json();
    clockOffset = figures.at - (asked + Date.now()) / 2;
    failures = 0;
    showFigures(figures, response.headers.get("Cache-Status"));
    previous = figures;
  } catch (error) {
    failures += 1;
    if (failures > 2) state("lost", "no answer from the demo");
    if (failures === 3) console.warn("figures:", error);
  }
  showPlayer();
}

function showFigures(figures, cacheStatus) {
  state("live", `live, up ${duration(figures.uptime)}`);
  byId("notice").hidden = figures.notices.length === 0;
  show("notice", figures.notices.join(" "));
  // RFC 9211 2: the cache nearest to us is the last in the list.
  const through = cacheStatus?.split(/,\s*(?=[A-Za-z"])/).at(-1)?.split(";")[0].replaceAll("\"", "");
  show("through", `through ${through ?? "an edge"}`);
  const seconds = previous ? (figures.at - previous.at) / 1000 : 0;
  const nodes = figures.nodes.map((node) => withRates(node, seconds));
  const edges = nodes.filter((node) => node.place === "edge");
  const shield = nodes.find((node) => node.place === "shield");
  showOnce(figures.origin);
  showFlow(figures, edges, shield, seconds);
  fillRows("nodes", nodes.map(nodeRow));
  fillRows("kinds", Object.entries(figures.origin.by_kind).filter(([, k]) => k.objects > 0).map(kindRow));
  showLapses(figures.lapses);
  showLinks(figures.addresses);
}

// What the shield saw the origin do wrong; the same stands in its /status.
function showLapses({ total, recent }) {
  byId("lapses").classList.toggle("some", total > 0);
  const last = recent[0];
  show("lapses-line", last
    ? `${count(total)} lapses, last: ${last.rule.replaceAll("_", " ")}, ${last.evidence}`
    : "no lapses");
  byId("lapses-list").replaceChildren(...recent.map(({ rule, path, evidence, times, seconds_ago: ago }) => {
    const item = document.createElement("li");
    const when = ago > 0 ? `${duration(ago)} ago` : "now";
    item.textContent = `${rule.replaceAll("_", " ")}, ${count(times)} times, ${when}: ${path}: ${evidence}`;
    return item;
  }));
}

function withRates(node, seconds) {
  const before = previous?.nodes.find((n) => n.name === node.name)?.figures;
  const rate = (name) => (before && seconds > 0 ? (node.figures[name] - before[name]) / seconds : 0);
  return { ...node, asked: rate("requests"), asks: rate("forward_requests") };
}

function showOnce(origin) {
  const part = origin.by_kind.part ?? { objects: 0, requests: 0, max: 0 };
  const playlist = origin.by_kind.playlist ?? { objects: 0, requests: 0, max: 0 };
  if (part.objects === 0) return;
  const each = part.requests / part.objects;
  const isOnce = part.max <= 1;
  byId("once").classList.toggle("more", !isOnce);
  show("once-title", isOnce ? "The origin is asked once" : `The origin was asked ${part.max} times for one part`);
  show("per-part", each.toFixed(2));
  show("once-detail", `${count(part.objects)} parts, ${count(part.requests)} requests. `
    + `${count(playlist.objects)} playlist versions, ${count(playlist.requests)} requests.`);
}

function showFlow(figures, edges, shield, seconds) {
  const asked = sum(edges, "asked");
  const before = previous?.origin.requests ?? figures.origin.requests;
  const origin = seconds > 0 ? (figures.origin.requests - before) / seconds : 0;
  keep(history.viewers, asked);
  keep(history.origin, origin);
  show("viewers", count(edges.reduce((all, node) => all + node.figures.connections, 0)));
  show("rate-in", asked.toFixed(1));
  show("rate-shield", sum(edges, "asks").toFixed(1));
  show("rate-origin", origin.toFixed(1));
  show("origin-requests", count(figures.origin.requests));
  byId("edges").replaceChildren(...edges.map((node) => hop(`Edge ${node.name}`, `${node.figures.held_now} held`)));
  if (shield) byId("shield").replaceChildren(...hop("Shield", `${shield.figures.held_now} held`).childNodes);
  const viewers = mean(history.viewers.slice(-10));
  show("offload", viewers > 0 ? `${(100 * (1 - mean(history.origin.slice(-10)) / viewers)).toFixed(1)} %` : "–");
  spark("spark-rates", [history.viewers, history.origin]);
}

function hop(name, detail) {
  const box = document.createElement("div");
  box.className = "hop";
  for (const [className, text] of [["name", name], ["count", detail]]) {
    const span = document.createElement("span");
    span.className = className;
    span.textContent = text;
    box.append(span);
  }
  return box;
}

function nodeRow(node) {
  const f = node.figures;
  const stored = f.requests > 0 ? `${(100 * f.hits / f.requests).toFixed(1)} %` : "–";
  const name = node.place === node.name ? node.name : `${node.place} ${node.name}`;
  return [name, node.asked.toFixed(1), node.asks.toFixed(1), count(f.held_now), stored,
    count(f.collapsed), bytes(f.viewer_bytes), count(f.failed + f.server_errors)];
}

function kindRow([kind, { objects, requests, max }]) {
  return [kind, count(objects), count(requests), (requests / objects).toFixed(2), count(max)];
}

function fillRows(id, rows) {
  byId(id).replaceChildren(...rows.map((cells) => {
    const row = document.createElement("tr");
    cells.forEach((text, i) => {
      const cell = document.createElement(i === 0 ? "th" : "td");
      if (i === 0) cell.scope = "row";
      cell.textContent = text;
      row.append(cell);
    });
    return row;
  }));
}

function showLinks(addresses) {
  const nav = byId("links");
  if (nav.childElementCount > 0) return;
  const list = document.createElement("ul");
  for (const { label, url } of addresses) {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = url;
    link.textContent = label;
    const address = document.createElement("code");
    address.textContent = ` ${url}`;
    item.append(link, address);
    list.append(item);
  }
  nav.append(list);
}

// --- small things ----------------------------------------------------------------------------------------------

function state(className, text) {
  const pill = byId("state");
  if (pill.className !== `pill ${className}`) pill.className = `pill ${className}`;
  pill.textContent = text;
}

function keep(list, value) {
  list.push(value);
  if (list.length > HISTORY) list.shift();
}

function spark(id, lines) {
  const svg = byId(id);
  const top = Math.max(...lines.flat(), 0.001);
  svg.setAttribute("viewBox", `0 0 ${HISTORY - 1} 100`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.replaceChildren(...lines.map((line, i) => {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    const first = HISTORY - line.length;
    path.setAttribute("d", line.map((v, x) => `${x ? "L" : "M"}${first + x} ${98 - (96 * v) / top}`).join(""));
    if (i > 0) path.setAttribute("class", "second");
    return path;
  }));
}

const sum = (list, name) => list.reduce((all, item) => all + item[name], 0);
const mean = (list) => (list.length ? list.reduce((a, b) => a + b, 0) / list.length : 0);
const count = (n) => Math.round(n).toLocaleString("en-US");
const milliseconds = (seconds) => `${Math.max(0, Math.round(seconds * 1000))} ms`;

function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let step = 0;
  while (n >= 1000 && step < units.length - 1) { n /= 1000; step += 1; }
  return `${n.toFixed(step > 1 ? 1 : 0)} ${units[step]}`;
}

function duration(seconds) {
  const whole = Math.floor(seconds);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h > 0 ? `${h} h ${m} min` : m > 0 ? `${m} min ${s} s` : `${s} s`;
}

startPlayer();
refresh();
setInterval(refresh, 1000);
