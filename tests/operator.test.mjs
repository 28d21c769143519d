// `switchboard state`: what is stored, for operators.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { promisify } from "node:util";
import { connect } from "./harness/clients.mjs";
import { BINARY, environmentOf } from "./harness/host.mjs";
import { Redis } from "./harness/redis.mjs";
import { scenario, startHost } from "./harness/scenario.mjs";

const run = promisify(execFile);

/** Runs `switchboard state …` beside a host, by its configuration. */
function state(host, ...words) {
  const all = ["state", ...words, "--config", host.file("switchboard.toml")];
  return run(BINARY, all, { cwd: host.directory, env: environmentOf() });
}

async function printed(host, ...words) {
  return (await state(host, ...words)).stdout.trim();
}

scenario("an operator looks at state, changes it, and moves it to another backend", async () => {
  const host = await startHost({ plugins: ["ledger"] });
  const ann = await connect(host, "ann");
  await ann.must("ledger:count", "b");
  for (const text of ["one", "two"]) await ann.must("ledger:append", "b", text);
  await ann.must("ledger:schedule", { book: "b", first: 7, number: 1, inMs: 86_400_000 });
  await assert.rejects(state(host, "list"), /in use by another process/);
  await host.stop();

  assert.match(await printed(host, "list"), /^\d+ +\d+ bytes {2}ledger$/);
  assert.match(await printed(host, "list", "ledger"), / {2}b$/);
  const keys = await printed(host, "list", "ledger", "b");
  for (const line of [/ key count$/m, / timer fire:7$/m, / history, positions 1 to 2$/m]) assert.match(keys, line);
  assert.equal(await printed(host, "get", "ledger", "b", "count"), "1");
  await state(host, "set", "ledger", "b", "count", "41");
  await assert.rejects(state(host, "set", "ledger", "b", "count", "forty"), /not JSON/);
  await assert.rejects(state(host, "get", "ledger", "b", "nothing"), /no such key/);
  await state(host, "set", "ledger", "other", "count", "5");
  await state(host, "delete", "ledger", "other", "count");
  assert.equal(await printed(host, "list", "ledger", "other"), "");
  await state(host, "export", "--out", "state.jsonl");
  const lines = readFileSync(host.file("state.jsonl"), "utf8").trim().split("\n").map((line) => JSON.parse(line));
  assert.ok(lines.some((line) => line.key === "count" && line.value === 41), "keys are readable");
  await assert.rejects(state(host, "export", "--out", "state.jsonl"), /exists/i);

  const redis = await Redis.start();
  const other = await startHost({ plugins: ["ledger"], redisPort: redis.port });
  writeFileSync(other.file("state.jsonl"), readFileSync(host.file("state.jsonl")));
  await state(other, "import", "state.jsonl");
  const ben = await connect(other, "ben");
  assert.equal((await ben.must("ledger:count", "b")).value, 42);
  assert.deepEqual((await ben.must("ledger:page", "b", 0)).lines.map(({ text }) => text), ["one", "two"]);
  await state(other, "delete", "ledger", "b", "--all");
  assert.equal((await ben.must("ledger:count", "b")).value, 1);
});

scenario("state in memory is inside of its host, and the tool says so", async () => {
  const host = await startHost({ plugins: ["ledger"], state: "memory" });
  await assert.rejects(state(host, "list"), /inside of the running host/);
});
