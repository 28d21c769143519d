// Starts and stops the built host, each in a folder of its own.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { component, REPOSITORY } from "./components.mjs";
import { configurationFile } from "./configuration.mjs";
import { waitFor, within } from "./deadline.mjs";
import { Reachable } from "./reachable.mjs";
import { SECRET } from "./tokens.mjs";

export const BINARY = process.env.SWITCHBOARD_BIN ?? join(REPOSITORY, "target/release/switchboard");

/** How long a host may take until it listens: a cold machine compiles every plugin first. */
const START = 20_000;
const KEPT_LOG_BYTES = 64 * 1024 * 1024;

const running = new Set();
process.on("exit", () => {
  for (const host of running) host.process?.kill("SIGKILL");
});

/** A host process, its folder, and what it said. */
export class Host extends Reachable {
  /**
   * `plugins`: names of built plugins, or `{ FILE_NAME: bytes }`. `environment`: further variables;
   * `files`: further files in its folder; `largestFileKb`: as if the disk were full beyond that. The
   * rest is as in `configurationFile`.
   */
  constructor({ plugins = [], environment = {}, files = {}, largestFileKb, ...configuration } = {}) {
    super();
    this.directory = mkdtempSync(join(tmpdir(), "switchboard-test-"));
    this.pluginsDirectory = join(this.directory, "plugins");
    this.environment = environment;
    this.largestFileKb = largestFileKb;
    mkdirSync(this.pluginsDirectory);
    const entries = Array.isArray(plugins) ? plugins.map((name) => [name, component(name)]) : Object.entries(plugins);
    for (const [name, bytes] of entries) writeFileSync(this.pluginFile(name), bytes);
    for (const [name, content] of Object.entries(files)) writeFileSync(this.file(name), content);
    // A function gets the host's folder to name files in.
    const options = Object.fromEntries(
      Object.entries({ secret: SECRET, ...configuration })
        .map(([key, value]) => [key, typeof value === "function" ? value(this) : value]),
    );
    this.configure(options);
    this.chunks = [];
    this.logBytes = 0;
    this.address = "127.0.0.1:0";
  }

  /** Writes the configuration file. */
  configure(options) {
    writeFileSync(this.file("switchboard.toml"), configurationFile(options));
  }

  file(name) {
    return join(this.directory, name);
  }

  pluginFile(name) {
    return join(this.pluginsDirectory, `${name}.wasm`);
  }

  /** Starts the process; resolves when it listens and is ready. */
  async start(args = ["serve", "--plugins", this.pluginsDirectory]) {
    if (!existsSync(BINARY)) throw new Error(`no host at ${BINARY}; build it with "cargo xtask build"`);
    const all = [...args, "--config", this.file("switchboard.toml"), "--listen", this.address];
    // A write beyond the limit fails, instead of ending the process.
    const limited = ["-c", `trap '' XFSZ; ulimit -f ${this.largestFileKb}; exec "$0" "$@"`, BINARY, ...all];
    const [program, words] = this.largestFileKb ? ["bash", limited] : [BINARY, all];
    this.process = spawn(program, words, { cwd: this.directory, env: environmentOf(this.environment) });
    running.add(this);
    // Not "exit": what it printed last may come behind that.
    this.exit = once(this.process, "close").then(([code, signal]) => {
      running.delete(this);
      this.exited = { code, signal };
      return this.exited;
    });
    this.exited = undefined;
    this.standardOutput = "";
    this.process.stdout.on("data", (chunk) => {
      this.standardOutput += chunk;
      this.keep(chunk);
    });
    this.process.stderr.on("data", (chunk) => this.keep(chunk));
    try {
      const line = await waitFor(() => {
        if (this.exited) return "exited";
        return this.standardOutput.match(/listening on (http:\/\/127\.0\.0\.1:(\d+))/);
      }, "the host's line \"listening on\"", START);
      if (line === "exited") throw new Error(`the host ended with ${JSON.stringify(this.exited)}`);
      this.url = line[1];
      this.address = `127.0.0.1:${line[2]}`;
      await waitFor(async () => (await fetch(`${this.url}/readyz`)).ok, "readiness", START);
    } catch (error) {
      await this.kill();
      throw new Error(`${error.message}\n${this.tail()}`);
    }
    return this;
  }

  keep(chunk) {
    this.logBytes += chunk.length;
    if (this.logBytes < KEPT_LOG_BYTES) this.chunks.push(chunk);
  }

  /** Everything that the host printed. */
  log() {
    return Buffer.concat(this.chunks).toString();
  }

  tail(lines = 40) {
    return `--- last lines of the host in ${this.directory}\n${this.log().trimEnd().split("\n").slice(-lines).join("\n")}\n---`;
  }

  signal(name) {
    this.process.kill(name);
  }

  /** Ends the host in its own good time; fails when it takes longer than `milliseconds`. */
  async stop(milliseconds = 15_000) {
    if (this.process && !this.exited) {
      this.signal("SIGTERM");
      try {
        await within(this.exit, milliseconds, "the host's end after SIGTERM");
      } catch (error) {
        await this.kill();
        throw error;
      }
    }
    return this.exited;
  }

  /** Ends the host at once. */
  async kill() {
    if (this.process && !this.exited) {
      this.process.kill("SIGKILL");
      await this.exit;
    }
  }

  /** Ends the host, if need be, and removes its folder. */
  async dispose() {
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Resident memory in bytes: now, and the highest so far. */
  memory() {
    const status = readFileSync(`/proc/${this.process.pid}/status`, "utf8");
    const bytes = (key) => Number(status.match(new RegExp(`${key}:\\s+(\\d+) kB`))[1]) * 1024;
    return { now: bytes("VmRSS"), highest: bytes("VmHWM") };
  }
}

/** The variables that a host gets: none of the developer's own that would configure it. */
export function environmentOf(more = {}) {
  const kept = ["PATH", "HOME", "LANG", "TMPDIR", "CARGO_HOME", "RUSTUP_HOME", "RUST_LOG", "XDG_CACHE_HOME"];
  const own = Object.fromEntries(kept.filter((name) => process.env[name]).map((name) => [name, process.env[name]]));
  return { ...own, ...more };
}

export function runningHosts() {
  return [...running];
}
