// A copy of what `dev` needs of this repository, so that a test can edit sources.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { REPOSITORY } from "./components.mjs";
import { waitFor } from "./deadline.mjs";
import { BINARY, environmentOf } from "./host.mjs";

/** The first build on a machine compiles every dependency of the plugins. */
const BUILD = 240_000;

const PLUGINS = ["plugins/rooms", "tests/plugins/probe"];

/** `switchboard dev` in a copy of the workspace that has only some of its plugins. */
export class DevHost {
  constructor() {
    this.directory = mkdtempSync(join(tmpdir(), "switchboard-dev-"));
    for (const folder of ["wit", "plugin-sdk", ".cargo", ...PLUGINS]) {
      const foreign = (path) => /\/(target|node_modules)(\/|$)/.test(path.slice(REPOSITORY.length));
      cpSync(join(REPOSITORY, folder), this.file(folder), { recursive: true, filter: (path) => !foreign(path) });
    }
    for (const name of ["Cargo.lock", "rust-toolchain.toml", "clippy.toml", "rustfmt.toml"]) {
      cpSync(join(REPOSITORY, name), this.file(name));
    }
    const manifest = readFileSync(join(REPOSITORY, "Cargo.toml"), "utf8")
      .replace(/^members = .*$/m, `members = ${JSON.stringify(["plugin-sdk", ...PLUGINS])}`)
      .replace(/^default-members = .*$/m, "");
    writeFileSync(this.file("Cargo.toml"), manifest);
    // `dev` leaves out plugins that are for tests.
    this.edit("tests/plugins/probe/Cargo.toml", "test = true\n", "");
    this.output = "";
  }

  file(name) {
    return join(this.directory, name);
  }

  /** Asks over HTTP for a token, as the page does. */
  async fetchToken(user) {
    const response = await fetch(`${this.url}/dev/token?user=${encodeURIComponent(user)}`);
    return (await response.json()).token;
  }

  /** Replaces a text in a source file, as an editor that saves does. */
  edit(name, from, to) {
    const text = readFileSync(this.file(name), "utf8");
    const edited = text.replace(from, to);
    if (edited === text) throw new Error(`nothing to edit in ${name}`);
    writeFileSync(this.file(name), edited);
  }

  /** Starts `dev`; resolves when it listens. Builds share one target folder between runs. */
  async start() {
    this.process = spawn(BINARY, ["dev", "--listen", "127.0.0.1:0"], {
      cwd: this.directory,
      env: environmentOf({ CARGO_TARGET_DIR: join(REPOSITORY, "target/dev-test") }),
      detached: true, // A group of its own: the builds that it started end with it.
    });
    this.exit = once(this.process, "close").then(([code, signal]) => { this.exited = { code, signal }; });
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream.on("data", (chunk) => { this.output += chunk; });
    }
    process.on("exit", this.end = () => this.kill());
    await waitFor(() => {
      if (this.exited) throw new Error(`it ended: ${this.output.slice(-3000)}`);
      const found = this.output.match(/listening on (http:\/\/127\.0\.0\.1:\d+)/);
      if (found) this.url = found[1];
      return found;
    }, "the line \"listening on\" of dev", BUILD);
    await waitFor(async () => (await fetch(`${this.url}/readyz`)).ok, "the first build of dev", BUILD);
    return this;
  }

  /** The token that `dev` printed for trying things. */
  token() {
    return this.output.match(/eyJ[\w-]+\.[\w-]+\.[\w-]+/)?.[0];
  }

  tail() {
    return `--- last lines of dev\n${this.output.split("\n").slice(-40).join("\n")}\n---`;
  }

  kill() {
    try {
      process.kill(-this.process.pid, "SIGKILL");
    } catch {
      // It has ended already.
    }
  }

  async dispose() {
    if (this.process && !this.exited) {
      this.kill();
      await this.exit;
    }
    if (this.end) process.off("exit", this.end);
    rmSync(this.directory, { recursive: true, force: true });
  }
}
