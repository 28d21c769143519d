// The command line: what it answers, and what it refuses.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "./harness/clients.mjs";
import { badFiles, component, REPOSITORY } from "./harness/components.mjs";
import { within } from "./harness/deadline.mjs";
import { BINARY, environmentOf } from "./harness/host.mjs";
import { scenario, startHost } from "./harness/scenario.mjs";
import { SECRET } from "./harness/tokens.mjs";

/** Runs a program in a folder of its own; resolves with `{ code, out, err }`. */
async function run(args, { files = {}, environment = {}, program = BINARY, directory, milliseconds = 15_000 } = {}) {
  const cwd = directory ?? mkdtempSync(join(tmpdir(), "switchboard-cli-"));
  for (const [name, content] of Object.entries(files)) writeFileSync(join(cwd, name), content);
  const child = spawn(program, args, { cwd, env: environmentOf(environment) });
  try {
    let [out, err] = ["", ""];
    child.stdout.on("data", (chunk) => { out += chunk; });
    child.stderr.on("data", (chunk) => { err += chunk; });
    const [code] = await within(once(child, "close"), milliseconds, () => `the end of ${args.join(" ")}\n${out}\n${err}`);
    return { code, out, err, all: out + err };
  } finally {
    child.kill("SIGKILL");
    if (!directory) rmSync(cwd, { recursive: true, force: true });
  }
}

const checked = (toml, environment) =>
  run(["config", "check", "--config", "switchboard.toml"], { files: { "switchboard.toml": toml }, environment });

scenario("help and version are printed", async () => {
  const help = await run(["--help"]);
  assert.equal(help.code, 0);
  for (const command of ["serve", "dev", "token", "plugin", "config"]) assert.match(help.out, new RegExp(`\\b${command}\\b`));
  const version = await run(["--version"]);
  assert.match(version.out, /\d+\.\d+\.\d+/);
  const unknown = await run(["sreve"]);
  assert.notEqual(unknown.code, 0);
  assert.match(unknown.err, /serve/);
});

scenario("a good configuration is said to be good", async () => {
  const { code, all } = await checked(`[auth]\nsecret = "${SECRET}"\n[socket]\npath = "/live"\n`);
  assert.equal(code, 0, all);
});

scenario("an unknown key is named, with its nearest neighbour", async () => {
  const wrong = [
    ['[socket]\npth = "/x"\n', /pth/, /\bpath\b/],
    ['[sockets]\npath = "/x"\n', /sockets/, /\bsocket\b/],
    ["[limits]\nevents_per_secnd = 5\n", /events_per_secnd/, /events_per_second/],
    ['[auth]\nisuer = "x"\n', /isuer/, /\bissuer\b/],
    ['[plugins]\ndeadlin = "1s"\n', /deadlin\b/, /\bdeadline\b/],
    ['[plugin.rooms]\nsetings = {}\n', /setings/, /\bsettings\b/],
  ];
  for (const [toml, key, neighbour] of wrong) {
    const { code, err } = await checked(`${toml}`, { JWT_SECRET: SECRET });
    assert.notEqual(code, 0, toml);
    assert.match(err, key);
    assert.match(err, neighbour);
  }
  const environment = await checked("", { JWT_SECRET: SECRET, SWITCHBOARD_SOCKET__PTH: "/x" });
  assert.notEqual(environment.code, 0);
  assert.match(environment.err, /SOCKET__PTH|pth/i);
  assert.match(environment.err, /path/i);
});

scenario("a wrong value is named with what was expected", async () => {
  for (const [toml, key] of [
    ["[limits]\nburst = \"many\"\n", /burst/],
    ['[plugins]\ndeadline = "soon"\n', /deadline/],
    ['[server]\nlisten = "nowhere"\n', /listen/],
    ['[auth]\nalgorithms = ["none"]\n', /none/],
    ["this is no toml", /switchboard\.toml/],
  ]) {
    const { code, err } = await checked(toml, { JWT_SECRET: SECRET });
    assert.notEqual(code, 0, toml);
    assert.match(err, key, toml);
  }
});

scenario("the configuration that results is shown without its secrets", async () => {
  const files = { "switchboard.toml": '[socket]\npath = "/from-file"\n[limits]\nburst = 7\n' };
  const { code, out, err } = await run(["config", "show", "--config", "switchboard.toml"], {
    files,
    environment: { JWT_SECRET: SECRET, WEBSOCKET_PATH: "/from-environment" },
  });
  assert.equal(code, 0, err);
  assert.match(out, /\/from-environment/);
  assert.match(out, /burst = 7/);
  assert.ok(!out.includes(SECRET));
});

scenario("serve without any key refuses, saying what to set", async () => {
  const { code, err } = await run(["serve", "--listen", "127.0.0.1:0"]);
  assert.notEqual(code, 0);
  assert.match(err, /JWT_SECRET/);
});

scenario("serve on an address that is taken says so", async () => {
  const host = await startHost({ plugins: [] });
  const { code, err } = await run(["serve", "--listen", host.address], { environment: { JWT_SECRET: SECRET } });
  assert.notEqual(code, 0);
  assert.match(err, new RegExp(`${host.address}`));
});

scenario("serve with a folder of plugins that is not there says so", async () => {
  const { code, err } = await run(["serve", "--listen", "127.0.0.1:0", "--plugins", "not-there"], { environment: { JWT_SECRET: SECRET } });
  assert.notEqual(code, 0);
  assert.match(err, /not-there/);
});

scenario("a token for trying things is accepted", async () => {
  const host = await startHost({ plugins: ["probe"] });
  const minted = await run(["token", "--help"]);
  assert.equal(minted.code, 0);
  const { code, out, err } = await run(["token", "--user", "tester", "--role", "educator"], { environment: { JWT_SECRET: SECRET } });
  assert.equal(code, 0, err);
  const client = await new Client(host, { token: out.trim() }).connect();
  assert.deepEqual([client.userId, client.role], ["tester", "educator"]);
});

scenario("plugin check tells whether a file would load, and if not, why", async () => {
  const good = await run(["plugin", "check", "good.wasm"], { files: { "good.wasm": component("probe") } });
  assert.equal(good.code, 0, good.all);
  assert.match(good.all, /probe/);
  for (const [kind, { bytes, reason }] of Object.entries(badFiles())) {
    const { code, all } = await run(["plugin", "check", "bad.wasm"], { files: { "bad.wasm": bytes } });
    assert.notEqual(code, 0, kind);
    assert.match(all, reason, kind);
  }
  const missing = await run(["plugin", "check", "not-there.wasm"]);
  assert.notEqual(missing.code, 0);
  assert.match(missing.err, /not-there\.wasm/);
});

scenario("plugin new makes a crate that builds, whose test passes, and that loads", async () => {
  const directory = mkdtempSync(join(tmpdir(), "switchboard-new-"));
  try {
    const made = await run(["plugin", "new", "my-plugin"], { directory });
    assert.equal(made.code, 0, made.all);
    const crate = join(directory, "my-plugin");
    assert.ok(existsSync(join(crate, "Cargo.toml")));
    const again = await run(["plugin", "new", "my-plugin"], { directory });
    assert.notEqual(again.code, 0, "what is there is not overwritten");
    const badName = await run(["plugin", "new", "My Plugin"], { directory });
    assert.notEqual(badName.code, 0);

    // The SDK is not published; a newcomer within this repository uses the one beside it.
    const target = join(REPOSITORY, "target/new-plugin");
    const patch = ["--config", `patch.crates-io.switchboard-plugin.path="${join(REPOSITORY, "plugin-sdk")}"`];
    const cargo = { program: "cargo", directory: crate, milliseconds: 240_000, environment: { CARGO_TARGET_DIR: target } };
    const tested = await run(["test", "--quiet", ...patch], cargo);
    assert.equal(tested.code, 0, tested.all);
    assert.match(tested.out, /[1-9]\d* passed/);
    const built = await run(["build", "--quiet", "--release", "--target", "wasm32-wasip2", ...patch], cargo);
    assert.equal(built.code, 0, built.all);
    const file = join(target, "wasm32-wasip2/release/my_plugin.wasm");
    const check = await run(["plugin", "check", file]);
    assert.equal(check.code, 0, check.all);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}, { timeout: 600_000 });
