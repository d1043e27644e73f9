// How each player is told to play, and what it reports: `seawall.play(player, url, format)` on an otherwise empty page.
//
// Players get the settings that their own documentation gives for low latency and no others: what is tested is what
// they do by themselves. Read by `browser.mjs` as `seawall.viewer`, which the page of `seawall demo` has, too.
// Deliberately not here: stalls and startup, which are measured for all players alike; see `monitor.js`.

"use strict";

/* global Hls, shaka, dashjs */

const viewer = {
  player: "none",
  playing: false,
  stalls: 0,            // what the player itself calls a stall
  waiting: 0,           // `waiting` events after it had begun to play
  errors: [],           // fatal errors
  warnings: {},         // errors that the player rides out by itself, by name
  recoveries: 0,        // times it was told to go on after a fatal error
  backwards: 0,         // playlists older than one seen before, where the player shows them
  lags: [],
  switches: 0,          // changes of quality after it had begun to play
  latency: null,        // seconds from the encoder's clock to the screen
};

globalThis.seawall = {
  viewer,
  async play(player, url, format) {
    const video = document.querySelector("video");
    video.addEventListener("playing", () => { viewer.playing = true; });
    video.addEventListener("waiting", () => { if (viewer.playing && !video.seeking) viewer.waiting += 1; });
    const latency = await { hlsjs: playHlsJs, shaka: playShaka, dashjs: playDashJs, native: playNative }[player](video, url, format);
    setInterval(() => { viewer.latency = latency() || null; }, 250);
  },
};

function warn(name) {
  viewer.warnings[name] = (viewer.warnings[name] ?? 0) + 1;
}

function since(date) {
  return date ? (Date.now() - date.getTime()) / 1000 : null;
}

function playHlsJs(video, url) {
  viewer.player = `hls.js ${Hls.version}`;
  const hls = new Hls({ lowLatencyMode: true, backBufferLength: 30, maxLiveSyncPlaybackRate: 1.1 });
  const newest = new Map();
  hls.on(Hls.Events.ERROR, (_, error) => {
    if (error.details === "bufferStalledError") viewer.stalls += 1;
    const name = error.response?.code ? `${error.details} ${error.response.code}` : error.details;
    if (!error.fatal) return warn(name);
    // As its documentation has it; a player that nobody tells to go on stays where it is.
    viewer.errors.push(name);
    viewer.recoveries += 1;
    if (error.type === "networkError") hls.startLoad();
    else if (error.type === "mediaError") hls.recoverMediaError();
  });
  hls.on(Hls.Events.LEVEL_SWITCHED, () => { if (viewer.playing) viewer.switches += 1; });
  hls.on(Hls.Events.LEVEL_LOADED, (_, { details }) => {
    const key = details.url.split("?")[0];
    const position = [details.endSN, details.lastPartSn, details.lastPartIndex];
    const before = newest.get(key);
    const at = before ? position.findIndex((value, i) => value !== before[i]) : -1;
    if (at >= 0 && position[at] < before[at]) viewer.backwards += 1;
    newest.set(key, position);
  });
  hls.on(Hls.Events.MANIFEST_PARSED, () => video.play().catch(() => {}));
  begin();
  hls.loadSource(url);
  hls.attachMedia(video);
  return () => since(hls.playingDate) ?? hls.latency;
}

async function playShaka(video, url) {
  viewer.player = `Shaka Player ${shaka.Player.version.replace(/^v/, "").split("-")[0]}`;
  shaka.polyfill.installAll();
  const player = new shaka.Player();
  await player.attach(video);
  // Low latency is its default; staying close to live is not. Its target is behind the delay that the stream asks for.
  player.configure({ streaming: { liveSync: { enabled: true } } });
  player.addEventListener("error", ({ detail }) => {
    const name = `${shakaName(detail.code)} ${detail.data?.[1] ?? ""}`.trim();
    // It goes on by itself after network errors of live streams; what it could not ride out is seen in the frames.
    if (detail.severity === shaka.util.Error.Severity.CRITICAL) viewer.errors.push(name);
    else warn(name);
  });
  player.addEventListener("stalldetected", () => { if (viewer.playing) viewer.stalls += 1; });
  for (const event of ["adaptation", "variantchanged"]) {
    player.addEventListener(event, () => { if (viewer.playing) viewer.switches += 1; });
  }
  begin();
  player.load(url).then(() => video.play()).catch((error) => viewer.errors.push(`load: ${shakaName(error.code)}`));
  return () => {
    if (!viewer.playing) return null;
    // Of DASH it takes dates from `ProducerReferenceTime`, as NTP whatever they look like; availability has no such doubt.
    const { presentationTimeline } = player.getManifest();
    if (/\.mpd/.test(url)) return Date.now() / 1000 - presentationTimeline.getPresentationStartTime() - video.currentTime;
    return presentationTimeline.getInitialProgramDateTime() === null
      ? presentationTimeline.getSegmentAvailabilityEnd() - video.currentTime
      : since(player.getPlayheadTimeAsDate());
  };
}

function shakaName(code) {
  return Object.entries(shaka.util.Error.Code).find(([, value]) => value === code)?.[0] ?? String(code);
}

function playDashJs(video, url, format) {
  viewer.player = `dash.js ${dashjs.Version ?? ""}`;
  const player = dashjs.MediaPlayer().create();
  player.updateSettings({
    streaming: {
      // Closer than two segments only where segments are there before they are complete.
      ...(format === "LL-DASH" ? { delay: { liveDelay: 2 }, liveCatchup: { enabled: true } } : {}),
      // Without this it asks a public time server.
      utcSynchronization: {
        defaultTimingSource: { scheme: "urn:mpeg:dash:utc:http-iso:2014", value: `${location.origin}/.seawall/time` },
      },
    },
  });
  const { events } = dashjs.MediaPlayer;
  player.on(events.PLAYBACK_STALLED, () => { if (viewer.playing) viewer.stalls += 1; });
  player.on(events.QUALITY_CHANGE_RENDERED, ({ mediaType }) => {
    if (viewer.playing && mediaType === "video") viewer.switches += 1;
  });
  player.on(events.ERROR, ({ error }) => viewer.errors.push(String(error?.message ?? error).split("\n")[0]));
  player.on(events.FRAGMENT_LOADING_COMPLETED, ({ error, response }) => {
    if (error) warn(`fragment ${response?.status ?? error.code}`);
  });
  begin();
  player.initialize(video, url, true);
  return () => player.getCurrentLiveLatency();
}

function playNative(video, url) {
  viewer.player = "the browser's own HLS";
  begin();
  video.src = url;
  video.play().catch((error) => viewer.errors.push(String(error)));
  return () => since(video.getStartDate?.().getTime() ? new Date(video.getStartDate().getTime() + video.currentTime * 1000) : null);
}

function begin() {
  globalThis.monitor.began = performance.now();
}
