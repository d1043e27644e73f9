// What a viewer would notice, measured the same way whichever player plays: injected into every page before it loads.
//
// Frames, not events: a player that freezes does not always say so, and one that says so need not have. Read by
// `browser.mjs` as `globalThis.monitor`. Deliberately not here: anything that knows a player; see `players.js`.

"use strict";

(() => {
  const TICK_MS = 50;
  const FROZEN_MS = 250;   // without a new frame for so long, somebody looking would notice
  const TICK_MS_MAX = 100; // what a tick that came late may count: a busy machine is no frozen picture

  const monitor = {
    began: 0,             // when a player was told to load, on the page's clock
    startup: null,        // seconds from then to the first frame
    freezes: [],          // { at: Unix ms of the end, seconds }
    jumps: [],            // { at, seconds }: how far a seek went
    frozen: 0,            // milliseconds without a frame until now
    protocols: {},        // media responses by protocol
  };
  globalThis.monitor = monitor;

  // In the page, because pages may clear the browser's own list.
  new PerformanceObserver((list) => {
    for (const { name, nextHopProtocol, responseStatus } of list.getEntries()) {
      if (!/\.(m3u8|mpd|m4s|mp4|ts|aac|webm)(\?|$)/.test(name)) continue;
      // Cancelled before there was an answer.
      if (!nextHopProtocol && !responseStatus) continue;
      const protocol = nextHopProtocol || "unknown";
      monitor.protocols[protocol] = (monitor.protocols[protocol] ?? 0) + 1;
    }
  }).observe({ type: "resource", buffered: true });

  let video = null;
  let frames = 0;
  let ticked = 0;
  let time = 0;

  setInterval(() => {
    video ??= found();
    if (!video) return;
    const now = performance.now();
    const tick = Math.min(now - ticked, TICK_MS_MAX);
    ticked = now;
    const { totalVideoFrames } = video.getVideoPlaybackQuality();
    // A player that starts over has a new source, whose count begins at nothing.
    const isMoving = totalVideoFrames !== frames;
    frames = totalVideoFrames;
    if (monitor.startup === null) return;
    if (!isMoving && !video.ended) {
      monitor.frozen += tick;
      return;
    }
    if (monitor.frozen >= FROZEN_MS) monitor.freezes.push({ at: Date.now(), seconds: monitor.frozen / 1000 });
    monitor.frozen = 0;
    if (!video.seeking) time = video.currentTime;
  }, TICK_MS);

  function found() {
    const element = document.querySelector("video");
    if (!element) return null;
    element.requestVideoFrameCallback(() => { monitor.startup = (performance.now() - monitor.began) / 1000; });
    element.addEventListener("seeking", () => {
      if (monitor.startup !== null) monitor.jumps.push({ at: Date.now(), seconds: element.currentTime - time });
    });
    return element;
  }
})();
