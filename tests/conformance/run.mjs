// The public suite of HTTP caching (http-tests/cache-tests) against a Seawall edge, alone or in front of a shield.
//
// Usage: tests/conformance/run [--tiers 1|2] [--suite PATH] [--test ID] [--results FILE] [--accept]
//
//   --tiers N       1: edge and origin (the default); 2: edge, shield and origin
//   --suite PATH    a checkout of the suite, instead of the edition that npm carries
//   --test ID       only this test, with what the engine sent and got
//   --results FILE  write every result there, as the suite's own command line prints them
//   --accept        write what was found into expected.json, instead of comparing with it
//
// Without --suite and --test, whatever differs from expected.json is printed and is a failure. The score counts
// tests of kind "required" and "optimal" that are not for browsers only; a test counts as failed, too, if one that
// it depends on did.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const HERE = dirname(fileURLToPath(import.meta.url));
const EXPECTED = join(HERE, "expected.json");
const SECONDS_TO_START = 20;
// Tests wait for seconds until something is stale: the more of them at once, the less time all of them take.
const TESTS_AT_ONCE = 100;
// More tests than these do not differ by accident.
const TRIES_MAX = 30;

const { values: options } = parseArgs({
  options: {
    tiers: { type: "string", default: "1" },
    suite: { type: "string" },
    test: { type: "string" },
    results: { type: "string" },
    accept: { type: "boolean", default: false },
  },
});

// --- what is started, and ended again ---------------------------------------------------------------------------

const folder = mkdtempSync(join(tmpdir(), "seawall-conformance-"));
const started = [];

function start(program, args, extra = {}) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"], ...extra });
  started.push(child);
  return child;
}

// Resolves with the first line of `child` that matches.
function line(child, pattern) {
  return new Promise((found, failed) => {
    const late = () => failed(new Error(`${child.spawnfile} said nothing in ${SECONDS_TO_START} s`));
    const alarm = setTimeout(late, SECONDS_TO_START * 1000);
    child.once("error", failed);
    child.once("exit", (code) => failed(new Error(`${child.spawnfile} ended with ${code}`)));
    createInterface({ input: child.stdout }).on("line", (text) => {
      const match = text.match(pattern);
      if (match) {
        clearTimeout(alarm);
        found(match);
      }
    });
  });
}

async function endAll() {
  for (const child of started.filter((child) => child.exitCode === null)) {
    const ended = new Promise((told) => { child.once("exit", told); });
    const alarm = setTimeout(() => child.kill("SIGKILL"), 5000);
    child.kill("SIGTERM");
    await ended;
    clearTimeout(alarm);
  }
  rmSync(folder, { recursive: true, force: true });
}

// The suite's origin takes no port 0.
function freePort() {
  return new Promise((found, failed) => {
    const probe = createServer();
    probe.once("error", failed);
    probe.listen(0, () => {
      const { port } = probe.address();
      probe.close(() => found(port));
    });
  });
}

async function startOrigin(engine) {
  const port = await freePort();
  const env = {
    ...process.env,
    npm_config_protocol: "http",
    npm_config_port: String(port),
    npm_config_pidfile: join(folder, "origin.pid"),
  };
  const origin = start(process.execPath, [join(engine, "server/server.mjs")], { env, cwd: folder });
  // One edition says that it listens, the other one does not.
  origin.stdout.resume();
  for (let tries = 0; tries < SECONDS_TO_START * 10; tries++) {
    try {
      await fetch(`http://127.0.0.1:${port}/state/none`);
      return `http://127.0.0.1:${port}`;
    } catch {
      if (origin.exitCode !== null) break;
      await new Promise((done) => { setTimeout(done, 100); });
    }
  }
  throw new Error("the origin of the suite does not answer");
}

// Starts a node from its file with `parent` in place of the one that stands there.
async function startNode(command, parent) {
  const file = join(folder, `${command}.toml`);
  const text = readFileSync(join(HERE, `${command}.toml`), "utf8");
  writeFileSync(file, text.replace(/^url = .*$/m, `url = "${parent}"`));
  const child = start(process.env.SEAWALL_BINARY, [command, "--config", file]);
  const [, address] = await line(child, /(http:\/\/127\.0\.0\.1:\d+)/);
  return address;
}

// --- the suite --------------------------------------------------------------------------------------------------

async function loadSuite() {
  const root = resolve(options.suite ?? join(HERE, "node_modules/http-cache-tests"));
  // Newer editions keep the engine in a folder of its own.
  const engine = existsSync(join(root, "test-engine")) ? join(root, "test-engine") : root;
  const load = (path) => import(pathToFileURL(path).href);
  const { default: groups } = await load(join(root, "tests/index.mjs"));
  const runner = await load(join(engine, "client/runner.mjs"));
  // The older edition wants to be told how to fetch.
  const takesFetch = runner.runTests.length === 4 || /myFetch/.test(runner.runTests.toString());
  const first = takesFetch ? [(await import("node-fetch")).default] : [];
  // The engine writes into what it is given: it gets a copy.
  const run = (chosen, base) => runner.runTests(structuredClone(chosen), ...first, false, base, TESTS_AT_ONCE);
  const { makeTest, makeCacheTest, testResults } = await load(join(engine, "client/test.mjs"));
  const again = async (tests) => {
    for (const test of structuredClone(tests)) {
      delete testResults[test.id];
      await (makeTest ?? makeCacheTest)(test);
    }
  };
  return { engine, groups, run, again, results: runner.getResults };
}

function chosenFrom(groups) {
  if (!options.test) return groups;
  const chosen = groups
    .map((group) => ({ ...group, tests: group.tests.filter((test) => test.id === options.test) }))
    .filter((group) => group.tests.length > 0);
  if (chosen.length === 0) throw new Error(`the suite has no test ${options.test}`);
  for (const group of chosen) group.tests[0].dump = true;
  return chosen;
}

// What became of each test: "pass", "fail", or "dependency" if one that it depends on did not pass.
function judge(groups, results) {
  const all = new Map(groups.flatMap((group) => group.tests).map((test) => [test.id, test]));
  const outcome = (id) => {
    const test = all.get(id);
    if (!(id in results)) return "untested";
    const misses = (test.depends_on ?? []).some((other) => outcome(other) !== "pass");
    if (misses) return "dependency";
    return results[id] === true ? "pass" : "fail";
  };
  const judged = [];
  for (const test of all.values()) {
    if (test.browser_only) continue;
    judged.push({ id: test.id, kind: test.kind ?? "required", outcome: outcome(test.id) });
  }
  return judged.sort((a, b) => (a.id < b.id ? -1 : 1));
}

// --- what was expected ------------------------------------------------------------------------------------------

const tiers = `${options.tiers} tier${options.tiers === "1" ? "" : "s"}`;

function readExpected() {
  return existsSync(EXPECTED) ? JSON.parse(readFileSync(EXPECTED, "utf8")) : {};
}

function accept(judged) {
  const found = {};
  for (const { id, kind, outcome } of judged) (found[kind] ??= {})[id] = outcome;
  writeFileSync(EXPECTED, `${JSON.stringify({ ...readExpected(), [tiers]: found }, null, 2)}\n`);
  console.log(`written to ${EXPECTED}`);
}

// What differs, with what it depends on and did not pass. A machine that is busy makes answers seconds older, and
// the suite counts seconds: what differs for that reason does not when it runs alone.
function worthAnotherTry(groups, judged) {
  const all = new Map(groups.flatMap((group) => group.tests).map((test) => [test.id, test]));
  const found = new Map(judged.map((test) => [test.id, test.outcome]));
  const wanted = new Set(differing(judged).filter(({ was }) => was !== undefined).map(({ id }) => id));
  for (const id of wanted) {
    for (const other of all.get(id).depends_on ?? []) if (found.get(other) !== "pass") wanted.add(other);
  }
  return [...wanted].map((id) => all.get(id));
}

function differing(judged) {
  const expected = readExpected()[tiers] ?? {};
  const before = new Map(Object.values(expected).flatMap((of) => Object.entries(of)));
  return judged.map((test) => ({ ...test, was: before.get(test.id) })).filter(({ outcome, was }) => outcome !== was);
}

function differences(judged) {
  const expected = readExpected()[tiers] ?? {};
  const before = new Map(Object.values(expected).flatMap((of) => Object.entries(of)));
  const lines = [];
  for (const { id, kind, outcome } of judged) {
    const was = before.get(id) ?? "not there";
    if (was !== outcome) lines.push(`${kind} ${id}: expected ${was}, found ${outcome}`);
    before.delete(id);
  }
  for (const [id, was] of before) lines.push(`${id}: expected ${was}, found no such test`);
  return lines;
}

function printScore(judged, results) {
  for (const { id, kind, outcome } of judged) {
    if (kind === "check" || outcome === "pass") continue;
    const [name, message] = Array.isArray(results[id]) ? results[id] : ["", ""];
    console.log(`  ${kind} ${id}: ${outcome}${message ? `: ${name}: ${message}` : ""}`);
  }
  for (const kind of ["required", "optimal"]) {
    const of = judged.filter((test) => test.kind === kind);
    const passed = of.filter((test) => test.outcome === "pass").length;
    console.log(`${tiers}: ${kind}: ${passed} of ${of.length}`);
  }
}

// --- the story --------------------------------------------------------------------------------------------------

async function main() {
  if (!["1", "2"].includes(options.tiers)) throw new Error("--tiers is 1 or 2");
  if (!process.env.SEAWALL_BINARY) throw new Error("SEAWALL_BINARY names no binary; tests/conformance/run sets it");
  const suite = await loadSuite();
  let parent = await startOrigin(suite.engine);
  if (options.tiers === "2") parent = await startNode("shield", parent);
  const base = await startNode("edge", parent);
  const began = Date.now();
  await suite.run(chosenFrom(suite.groups), base);
  const results = suite.results();
  console.log(`${tiers}: ${Object.keys(results).length} tests in ${Math.round((Date.now() - began) / 1000)} s`);
  if (options.results) writeFileSync(options.results, `${JSON.stringify(results, null, 2)}\n`);
  if (options.test) {
    console.log(JSON.stringify(results, null, 2));
    return results[options.test] === true;
  }
  let judged = judge(suite.groups, results);
  const retried = options.suite || options.accept ? [] : worthAnotherTry(suite.groups, judged);
  if (retried.length > 0 && retried.length <= TRIES_MAX) {
    console.log(`once more, one by one: ${retried.map((test) => test.id).join(" ")}`);
    await suite.again(retried);
    judged = judge(suite.groups, suite.results());
  }
  printScore(judged, results);
  if (options.suite) return true;
  if (options.accept) {
    accept(judged);
    return true;
  }
  const lines = differences(judged);
  for (const text of lines) console.log(`DIFFERS ${text}`);
  console.log(lines.length === 0 ? "as expected" : `${lines.length} differences from ${EXPECTED}`);
  return lines.length === 0;
}

let isGood = false;
try {
  isGood = await main();
} catch (error) {
  console.error(error.message);
} finally {
  await endAll();
}
process.exit(isGood ? 0 : 1);
