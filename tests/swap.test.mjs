// A plugin's file is replaced, added, removed or broken while clients are at work.

import assert from "node:assert/strict";
import { rmSync, truncateSync, openSync, writeSync, closeSync } from "node:fs";
import { connect, TRANSPORTS } from "./harness/clients.mjs";
import { badFiles, overwrite, probe, replace } from "./harness/components.mjs";
import { waitFor, within } from "./harness/deadline.mjs";
import { scenario, startHost } from "./harness/scenario.mjs";
import { SECRET } from "./harness/tokens.mjs";

/** How long the answer to an event may take that keeps the plugin busy, in milliseconds, on a busy machine. */
const BUSY = 30_000;

const version = (n) => String(n).padStart(4, "0");
const start = (options = {}) => startHost({ plugins: { probe: probe({ version: version(0) }) }, ...options });
const serves = async (client) => (await client.must("probe:echo", 1)).version;
const untilServed = (client, wanted) =>
  waitFor(async () => (await client.ask("probe:echo", 1)).version === wanted, `version ${wanted}`, 10_000);

/** Sends numbered events, a few in flight at a time, until told to stop; checks every answer. */
class Load {
  constructor(client) {
    this.client = client;
    this.sent = 0;
    this.answers = [];
    this.problems = [];
    this.stopping = false;
    this.newest = "";
    this.done = new Promise((resolve) => { this.finish = resolve; });
    for (let n = 0; n < 3; n += 1) this.send();
  }

  send() {
    const n = this.sent;
    this.sent += 1;
    let times = 0;
    this.client.socket.emit("probe:order", n, (answer) => {
      times += 1;
      if (times > 1) this.problems.push(`event ${n} was acknowledged ${times} times`);
      if (!answer.ok) this.problems.push(`event ${n}: ${JSON.stringify(answer.error)}`);
      else if (answer.n !== this.answers.length) this.problems.push(`answer ${this.answers.length} is for event ${answer.n}`);
      else if (answer.previous !== (n === 0 ? null : n - 1)) this.problems.push(`event ${n} ran after ${answer.previous}`);
      if (answer.version < this.newest) this.problems.push(`version ${answer.version} after ${this.newest}`);
      this.newest = answer.version;
      this.answers.push(answer);
      // A steady load, not as much as the machine can bear: other work shares it.
      if (!this.stopping) setTimeout(() => this.send(), 10);
      else if (this.answers.length === this.sent) this.finish();
    });
  }

  async stop() {
    this.stopping = true;
    if (this.answers.length === this.sent) this.finish();
    await within(this.done, 10_000, () => `the last answers: ${this.answers.length} of ${this.sent}`);
    const told = this.client.heard("probe:ordered").map(({ n }) => n);
    for (let n = 0; n < this.sent; n += 1) if (told[n] !== n) this.problems.push(`emission ${n} is ${told[n]}`);
    if (told.length !== this.sent) this.problems.push(`${told.length} emissions for ${this.sent} events`);
    if (this.client.disconnections.length > 0) this.problems.push(`disconnected: ${this.client.disconnections}`);
  }
}

scenario("50 swaps under the load of 50 clients: nothing lost, twice, out of order or older", async () => {
  const host = await start();
  const clients = await Promise.all(
    Array.from({ length: 50 }, (_, n) => connect(host, `client-${n}`, { transport: TRANSPORTS[n % 2] })),
  );
  const loads = clients.map((client) => new Load(client));
  const watcher = await connect(host, "watcher");
  // Clients pause between their events, and a version can be served and replaced while all of them do.
  const underLoad = (n) =>
    waitFor(() => loads.some((load) => load.newest === version(n)), `an answer of version ${version(n)} under load`);
  await underLoad(0);
  for (let n = 1; n <= 50; n += 1) {
    const put = n % 2 === 0 ? overwrite : replace;
    put(host.pluginFile("probe"), probe({ version: version(n) }));
    await untilServed(watcher, version(n));
    await underLoad(n);
  }
  await waitFor(() => loads.every((load) => load.newest === version(50)), "the last version everywhere");
  await Promise.all(loads.map((load) => load.stop()));
  assert.deepEqual(loads.flatMap((load) => load.problems).slice(0, 5), []);
  const events = loads.reduce((sum, load) => sum + load.sent, 0);
  const versions = new Set(loads.flatMap((load) => load.answers.map((answer) => answer.version)));
  assert.equal(versions.size, 51, "every version served some of the load");
  console.log(`swap: ${events} events across 50 swaps`);
}, { timeout: 120_000 });

scenario("a file that is written slowly is waited for", async () => {
  const host = await start();
  const client = await connect(host, "patient");
  const bytes = probe({ version: "slow" });
  const file = openSync(host.pluginFile("probe"), "w");
  const piece = Math.ceil(bytes.length / 12);
  for (let at = 0; at < bytes.length; at += piece) {
    writeSync(file, bytes, at, Math.min(piece, bytes.length - at));
    // Each answer is a moment in which the host sees a half-written file, and serves.
    if (at + piece >= bytes.length) break;
    for (let n = 0; n < 20; n += 1) assert.equal(await serves(client), version(0));
  }
  closeSync(file);
  await untilServed(client, "slow");
  assert.deepEqual(client.disconnections, []);
});

for (const [kind, { bytes, reason }] of Object.entries(badFiles())) {
  scenario(`${kind} is refused with its reason, and the old version serves on`, async () => {
    const host = await start();
    const client = await connect(host, "steady");
    const before = host.log().length;
    replace(host.pluginFile("probe"), bytes);
    await waitFor(() => /probe[^\n]*(refus|reject|not load|invalid|cannot)|(refus|reject|not load|invalid|cannot)[^\n]*probe/i.test(host.log().slice(before)), "the refusal in the log", 10_000);
    assert.match(host.log().slice(before), reason);
    assert.equal(await serves(client), version(0));
    const metrics = (await host.request("/metrics")).text;
    assert.match(metrics, /^switchboard_plugin_loads_total\{[^}]*(refus|fail|reject)[^}]*\} [1-9]/m, "the metrics count it");
    replace(host.pluginFile("probe"), probe({ version: "good again" }));
    await untilServed(client, "good again");
    assert.deepEqual(client.disconnections, []);
  });
}

scenario("a file cut off in place is refused, the whole one taken", async () => {
  const host = await start();
  const client = await connect(host, "steady");
  const before = host.log().length;
  truncateSync(host.pluginFile("probe"), 1000);
  await waitFor(() => /probe/.test(host.log().slice(before)), "a line about it", 10_000);
  assert.equal(await serves(client), version(0));
  overwrite(host.pluginFile("probe"), probe({ version: "whole" }));
  await untilServed(client, "whole");
});

scenario("a version that cannot read the stored state is refused", async () => {
  const host = await startHost({ plugins: { probe: probe({ version: "two", manifest: { state: { reads: [1, 2], writes: 2 } } }) } });
  const client = await connect(host, "keeper");
  await client.must("probe:count", "kept");
  const before = host.log().length;
  replace(host.pluginFile("probe"), probe({ version: "one", manifest: { state: { reads: [1], writes: 1 } } }));
  await waitFor(() => /state/.test(host.log().slice(before)), "the refusal in the log", 10_000);
  assert.equal(await serves(client), "two");
  replace(host.pluginFile("probe"), probe({ version: "three", manifest: { state: { reads: [2, 3], writes: 3 } } }));
  await untilServed(client, "three");
  assert.equal((await client.must("probe:read", "kept")).value, 1, "state outlives the version");
});

scenario("a plugin added serves, one removed is unknown, and nobody is disconnected", async () => {
  const host = await start();
  const client = await connect(host, "constant");
  const both = (name) => client.ask("shared", { user: "constant", [name]: "answer" });
  replace(host.pluginFile("second"), probe({ name: "second", version: "1" }));
  await waitFor(async () => (await both("second")).by === "second", "the added plugin", 10_000);
  rmSync(host.pluginFile("probe"));
  await waitFor(async () => (await client.ask("shared", { probe: "answer" })).by === undefined, "the removal", 10_000);
  rmSync(host.pluginFile("second"));
  await waitFor(async () => (await client.ask("probe:echo", 1)).error?.code === "UNKNOWN_EVENT", "UNKNOWN_EVENT", 10_000);
  replace(host.pluginFile("probe"), probe({ version: "back" }));
  await untilServed(client, "back");
  assert.deepEqual(client.disconnections, []);
});

scenario("a plugin is disabled and enabled by the configuration of a running host; its namespace stays", async () => {
  const host = await start();
  const client = await connect(host, "constant");
  const configure = (settings) => host.configure({ secret: SECRET, plugin: { probe: settings } });
  const unknown = async () => (await client.ask("probe:echo", 1)).error?.code === "UNKNOWN_EVENT";
  configure({ enabled: false });
  await waitFor(unknown, "the plugin to be gone", 10_000);
  configure({ enabled: true });
  await waitFor(async () => !(await unknown()), "the plugin to be back", 10_000);
  configure({ enabled: true, namespace: "/elsewhere", settings: { a: 1 } });
  await waitFor(() => /another namespace takes a restart/.test(host.log()), "the host to say so", 10_000);
  await serves(client);
  assert.deepEqual(client.disconnections, []);
});

scenario("what is no plugin in the folder is left alone", async () => {
  const host = await start();
  const client = await connect(host, "steady");
  for (const name of ["notes.txt", ".hidden.wasm", "probe.wasm~", "probe.wasm.tmp"]) {
    overwrite(`${host.pluginsDirectory}/${name}`, "not a plugin");
  }
  replace(host.pluginFile("probe"), probe({ version: "next" }));
  await untilServed(client, "next");
});

scenario("an event in flight finishes on the version that it began with", async () => {
  const host = await start({ deadline: "20s" });
  const [slow, quick] = await Promise.all([connect(host, "slow", { patience: BUSY }), connect(host, "quick")]);
  const answer = slow.ask("probe:busy", 1_500_000_000);
  replace(host.pluginFile("probe"), probe({ version: version(1) }));
  await untilServed(quick, version(1));
  assert.equal((await answer).version, version(0));
  assert.equal(await serves(slow), version(1));
});

scenario("rooms outlive the swap", async () => {
  const host = await start();
  const [a, b] = await Promise.all([connect(host, "a"), connect(host, "b")]);
  await a.must("probe:join", "probe:kept");
  replace(host.pluginFile("probe"), probe({ version: version(1) }));
  await untilServed(b, version(1));
  await b.must("probe:emit", { to: ["room:probe:kept"], name: "probe:news", args: ["still"] });
  assert.equal(await a.next("probe:news"), "still");
});
