// Figures as the markdown tables of docs/players.md.

const seconds = (value, digits = 2) => (value === null || value === undefined ? "–" : `${value.toFixed(digits)} s`);

// "302 of 302 h3", or each protocol with its count.
function protocols(counts) {
  const all = Object.entries(counts);
  const total = all.reduce((sum, [, count]) => sum + count, 0);
  return all.length === 1 ? `${total} of ${total} ${all[0][0]}` : all.map(([name, count]) => `${count} ${name}`).join(", ") || "–";
}

function freezes({ count, seconds: total }) {
  return count === 0 ? "0" : `${count} (${seconds(total, 1)})`;
}

function errors(seen) {
  const times = ([name, count]) => `${name} ×${count}`;
  const fatal = {};
  // URLs differ from run to run; what went wrong does not.
  for (const name of seen.errors.map((text) => text.replace(/https?:\/\/[^/]+/, ""))) fatal[name] = (fatal[name] ?? 0) + 1;
  const all = [...Object.entries(fatal).map((each) => `**${times(each)}**`), ...Object.entries(seen.warnings).map(times)];
  return all.join(", ") || "none";
}

function statuses(counts) {
  const bad = Object.entries(counts).filter(([status]) => !["200", "206", "304"].includes(status) && status !== "net::ERR_ABORTED");
  return bad.map(([status, count]) => `${status} ×${count}`).join(", ") || "none";
}

export function matrixTable(players) {
  return table(
    ["player", "format", "startup", "behind live: median", "most", "freezes", "dropped frames", "switches", "errors", "requests"],
    players.map((seen) => [
      seen.player, seen.format, seconds(seen.startup), seconds(seen.latency.median), seconds(seen.latency.max),
      freezes(seen.freezes), `${seen.dropped} of ${seen.decoded}`, seen.switches, errors(seen), protocols(seen.protocols),
    ]),
  );
}

export function faultTable(players) {
  return table(
    ["what died", "player", "format", "freezes", "back after", "skipped", "behind live: before", "at the end", "errors seen by the player", "refused requests", "plays at the end"],
    players.map((seen) => [
      seen.fault, seen.player, seen.format, freezes(seen.freezes), seconds(seen.recovered, 1), seconds(seen.skipped, 1),
      seconds(seen.latency.before), seconds(seen.latency.after), errors(seen), statuses(seen.statuses), seen.is_playing ? "yes" : "**no**",
    ]),
  );
}

function table(head, rows) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}
