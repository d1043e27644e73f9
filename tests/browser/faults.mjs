// Players while something dies and comes back two seconds later: `play.mjs --faults`.
//
// Edge, shield, origin and the origin's server are processes of their own and are killed with SIGKILL. Each run begins
// with all of them alive; the fault comes after players have settled.

import { openBrowser, openPlayer, watch } from "./browser.mjs";
import { endAll, kill, pause, startOrigin, startTiers } from "./processes.mjs";
import { faultTable } from "./tables.mjs";

const GONE_SECONDS = 2;
const BEFORE_SECONDS = 3;   // of undisturbed play that is recorded

const PLAYERS = [
  { player: "hls.js", format: "LL-HLS", open: openPlayer("hlsjs", "/live/index.m3u8", "LL-HLS") },
  { player: "Shaka", format: "LL-HLS", open: openPlayer("shaka", "/live/index.m3u8", "LL-HLS") },
  { player: "dash.js", format: "LL-DASH", open: openPlayer("dashjs", "/live/manifest.mpd", "LL-DASH") },
  { player: "Shaka", format: "LL-DASH", open: openPlayer("shaka", "/live/manifest.mpd", "LL-DASH") },
];

const FAULTS = [
  {
    fault: "the origin's server",
    async strike({ origin }) {
      await kill(origin.server);
      await pause(GONE_SECONDS);
      await origin.startServer();
    },
  },
  {
    fault: "the shield",
    async strike({ tiers }) {
      await kill(tiers.shield);
      await pause(GONE_SECONDS);
      await tiers.startShield();
    },
  },
  {
    fault: "the origin, its names begin again",
    async strike({ origin }) {
      await kill(origin.encoder);
      await pause(GONE_SECONDS);
      await origin.startEncoder();
    },
  },
  {
    // As a packager does that has no history: its first segment begins when it was started.
    fault: "the origin without its history, its names begin again",
    formats: ["LL-DASH"],
    async strike({ origin }) {
      await kill(origin.encoder);
      await pause(GONE_SECONDS);
      await origin.startEncoder("--history", "0s");
    },
  },
  {
    // What every player has in its playlist and some have not played yet: it becomes a gap, and 410.
    fault: "a stretch of the stream is purged",
    async strike({ tiers }) {
      const date = (secondsAgo) => new Date(Date.now() - secondsAgo * 1000).toISOString();
      await tiers.purge("stream", `${tiers.base}/live/`, "--from", date(8), "--to", date(4));
    },
  },
];

export async function playFaults(binary, seconds, only, check) {
  const seen = [];
  for (const { fault, formats, strike } of FAULTS) {
    for (const { player, format, open } of PLAYERS) {
      const name = `${fault}: ${player} ${format}`;
      if (!name.includes(only) || (formats && !formats.includes(format))) continue;
      const one = await playOne(binary, name.replaceAll(/[^a-zA-Z.]+/g, "-"), open, seconds, strike);
      seen.push({ ...one, fault, format });
      check(`${name}: plays at the end`, one.is_playing, `${one.freezes.count} freezes, ${one.freezes.seconds.toFixed(1)} s`);
    }
  }
  console.log(`\n${faultTable(seen)}\n`);
  return seen;
}

async function playOne(binary, name, open, seconds, strike) {
  const origin = await startOrigin(binary);
  const tiers = await startTiers(binary, origin.url);
  const browser = await openBrowser(tiers);
  let struck = null;
  const during = async () => {
    await pause(BEFORE_SECONDS);
    struck = Date.now();
    await strike({ origin, tiers });
  };
  try {
    const seen = await watch(browser, tiers.base, { name, open, seconds: seconds + BEFORE_SECONDS, during });
    const last = seen.freezes.each.findLast((freeze) => freeze.at >= struck);
    return {
      ...seen, struck,
      // From the fault to the last frozen picture's end.
      recovered: last ? (last.at - struck) / 1000 : 0,
      skipped: seen.jumps.reduce((total, jump) => total + jump.seconds, 0),
    };
  } finally {
    await browser.close();
    await endAll();
  }
}
