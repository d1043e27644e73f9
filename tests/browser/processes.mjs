// What the tests start and end: `seawall` in its shapes, packagers, and the relay that stands for an origin's server.
//
// Every process has a name, is remembered from its start, and is ended by `endAll`, the newest first, so that nobody's
// parent leaves before it. Ports are free ones; certificates are made on the spot.

import { spawn } from "node:child_process";
import { createHash, randomBytes, X509Certificate } from "node:crypto";
import { createWriteStream, existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const HERE = dirname(fileURLToPath(import.meta.url));
export const REPOSITORY = resolve(HERE, "../..");
export const OUT = join(HERE, "out");

const READY_SECONDS = 20;
const DRAIN_SECONDS = 10;

const running = [];

// However this process ends, nothing that it started outlives it.
process.once("exit", () => { for (const { child } of running) child.kill("SIGKILL"); });

export async function within(limitSeconds, promise, otherwise) {
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

export const pause = (seconds) => new Promise((told) => { setTimeout(told, seconds * 1000); });

// --- any process ----------------------------------------------------------------------------------------------------

// Starts a process whose standard error goes to out/NAME.err.
export function start(name, command, args, options = {}) {
  mkdirSync(OUT, { recursive: true });
  const child = spawn(command, args, { cwd: REPOSITORY, stdio: ["ignore", "pipe", "pipe"], ...options });
  child.stderr.pipe(createWriteStream(join(OUT, `${name}.err`)));
  const process = { name, child, ended: new Promise((told) => { child.once("exit", (code, signal) => told(code ?? signal)); }) };
  // A command that is not there is an end, too.
  child.once("error", (error) => { process.error = error; });
  running.push(process);
  return process;
}

// Resolves with the first line that the process prints.
export async function firstLine(process) {
  const lines = createInterface({ input: process.child.stdout });
  const first = new Promise((told) => { lines.once("line", told); });
  const ended = process.ended.then((code) => { throw new Error(`${process.name} ended at once with ${code}; see out/${process.name}.err`); });
  const line = await within(READY_SECONDS, Promise.race([first, ended]), `${process.name} said nothing`);
  ended.catch(() => {});
  return line;
}

// Resolves when something listens at the port.
export async function listening(process, port, seconds = READY_SECONDS) {
  const until = Date.now() + seconds * 1000;
  while (Date.now() < until) {
    if (process.error) throw process.error;
    if (process.child.exitCode !== null) throw new Error(`${process.name} ended with ${process.child.exitCode}; see out/${process.name}.err`);
    const isOpen = await new Promise((told) => {
      const socket = connect({ port, host: "127.0.0.1" }, () => { socket.destroy(); told(true); });
      socket.once("error", () => told(false));
    });
    if (isOpen) return;
    await pause(0.05);
  }
  throw new Error(`${process.name} did not listen at ${port} within ${seconds} s`);
}

export async function kill(process) {
  process.child.kill("SIGKILL");
  await process.ended;
}

// Ends a process as an operator would; resolves with its exit code.
export async function end(process) {
  if (process.child.exitCode !== null || process.child.signalCode !== null) return process.child.exitCode;
  process.child.kill("SIGTERM");
  try {
    return await within(DRAIN_SECONDS, process.ended, `${process.name} did not drain`);
  } catch (error) {
    await kill(process);
    throw error;
  }
}

export async function endAll() {
  const errors = [];
  while (running.length > 0) await end(running.pop()).catch((error) => errors.push(error));
  if (errors.length > 0) throw errors[0];
}

// Returns ports that were free a moment ago.
export async function freePorts(count) {
  const servers = await Promise.all(Array.from({ length: count }, () => new Promise((told, failed) => {
    const server = createServer();
    server.once("error", failed);
    server.listen(0, "127.0.0.1", () => told(server));
  })));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((told) => { server.close(told); })));
  return ports;
}

// --- seawall --------------------------------------------------------------------------------------------------------

export function findBinary(given) {
  const candidates = given
    ? [resolve(given)]
    : ["release", "debug"].map((profile) => join(REPOSITORY, "target", profile, "seawall"));
  const found = candidates.find((file) => existsSync(file));
  if (!found) throw new Error(`no seawall binary; build it with: cargo build --release -p cli (looked for ${candidates.join(", ")})`);
  return found;
}

// A whole CDN in one process.
export async function startDemo(binary, viewers = 4) {
  const process = start("demo", binary, ["demo", "--json", "--viewers", String(viewers)]);
  const places = JSON.parse(await firstLine(process));
  const [edge] = places.edges;
  return { process, base: edge.secure, port: edge.secure_port, pin: edge.pin, origin: places.origin, stop: () => end(process) };
}

// An edge in front of a shield in front of `origin`, each a process of its own.
export async function startTiers(binary, origin, rules = "") {
  const folder = mkdtempSync(join(tmpdir(), "seawall-players-"));
  const [shieldPort, edgePort] = await freePorts(2);
  const purges = await startPurgeApi(binary, folder);
  const pin = await makeCertificate(folder);
  const shieldFile = join(folder, "shield.toml");
  const edgeFile = join(folder, "edge.toml");
  const log = (name) => `[access_log]\npath = "${join(OUT, `${name}.log`)}"\n[[purge_log]]\nname = "purges"\nurl = "${purges.feed}"\n`;
  writeFileSync(shieldFile, `name = "shield"\n[listen]\nhttp = ["127.0.0.1:${shieldPort}"]\nworkers = 1\n[store]\nmemory = "256MiB"\n`
    + `${log("shield")}${rules}[[origin]]\nname = "origin"\nurl = "${origin}"\n`);
  writeFileSync(edgeFile, `name = "edge"\n[listen]\nhttps = ["127.0.0.1:${edgePort}"]\ncertificate = "certificate.pem"\nkey = "key.pem"\nworkers = 1\n`
    + `[store]\nmemory = "256MiB"\n${log("edge")}${rules}[[shield]]\nname = "shield"\nurl = "http://127.0.0.1:${shieldPort}"\nh2c = true\n`);
  const startShield = async () => {
    const process = start("shield", binary, ["shield", "--config", shieldFile]);
    await listening(process, shieldPort);
    return process;
  };
  const tiers = { shield: await startShield(), base: `https://localhost:${edgePort}`, port: edgePort, pin };
  tiers.edge = start("edge", binary, ["edge", "--config", edgeFile]);
  await listening(tiers.edge, edgePort);
  tiers.purge = purges.purge;
  tiers.startShield = async () => { tiers.shield = await startShield(); };
  return tiers;
}

// The purge API; `purge` resolves when all nodes have applied what its arguments say.
async function startPurgeApi(binary, folder) {
  const [port, feedPort] = await freePorts(2);
  const [config, secret] = ["purge-api.toml", "purge.key"].map((name) => join(folder, name));
  writeFileSync(secret, randomBytes(32).toString("hex"), { mode: 0o600 });
  writeFileSync(config, `[listen]\naddress = "127.0.0.1:${port}"\n[private]\naddress = "127.0.0.1:${feedPort}"\n`
    + `[journal]\npath = "purges.redb"\n[audit]\npath = "audit.jsonl"\n`
    + `[[principal]]\nname = "operator"\nhosts = ["*"]\nverbs = ["stream", "read"]\nkey = [{ id = "operator", kind = "hmac", file = "purge.key" }]\n`);
  const api = start("purge-api", binary, ["purge-api", "--config", config]);
  await listening(api, feedPort);
  const purge = async (...what) => {
    const given = ["--api", `http://127.0.0.1:${port}`, "--key-id", "operator", "--key-file", secret, "--wait", "5s"];
    const process = start("purge", binary, ["purge", ...given, ...what]);
    const code = await process.ended;
    if (code !== 0) throw new Error(`the purge was not applied (${code}); see out/purge.err`);
  };
  return { feed: `http://127.0.0.1:${feedPort}`, purge };
}

// Makes a certificate for localhost; returns the pin by which Chromium is told to trust it over QUIC.
async function makeCertificate(folder) {
  const process = start("openssl", "openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
    "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
    "-keyout", join(folder, "key.pem"), "-out", join(folder, "certificate.pem")]);
  if (await process.ended !== 0) throw new Error("openssl made no certificate; see out/openssl.err");
  const { publicKey } = new X509Certificate(readFileSync(join(folder, "certificate.pem")));
  return createHash("sha256").update(publicKey.export({ type: "spki", format: "der" })).digest("base64");
}

// The lab's origin, and before it a relay: killing the relay is an origin's server that dies while its encoder goes
// on; killing the origin itself is an encoder that starts again and uses the same names.
export async function startOrigin(binary) {
  const [originPort, relayPort] = await freePorts(2);
  const startEncoder = async (...more) => {
    const process = start("origin", binary, ["origin", "--listen", `127.0.0.1:${originPort}`, ...more]);
    await listening(process, originPort);
    return process;
  };
  const startServer = async () => {
    const script = join(HERE, "origins", "relay.mjs");
    const process = start("relay", globalThis.process.execPath, [script, String(relayPort), String(originPort)]);
    await listening(process, relayPort);
    return process;
  };
  const origin = { url: `http://127.0.0.1:${relayPort}`, encoder: await startEncoder(), server: await startServer() };
  origin.startEncoder = async (...more) => { origin.encoder = await startEncoder(...more); };
  origin.startServer = async () => { origin.server = await startServer(); };
  return origin;
}
