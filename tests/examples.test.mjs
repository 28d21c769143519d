// The examples do what they say.

import assert from "node:assert/strict";
import { connect } from "./harness/clients.mjs";
import { runExample } from "./harness/examples.mjs";
import { hostForFile, scenario } from "./harness/scenario.mjs";

const host = hostForFile({ plugins: ["rooms", "greeter"] });

/** Runs the Node backend as its README says. */
const backend = (words, environment) => runExample("node-backend/announce.mjs", host, { words, environment });

scenario("the Node backend announces, speaks in a room and asks", async () => {
  const ann = await connect(host, "ann");
  await ann.must("room:join", { roomId: "lobby" });
  const announced = await backend(["announce", "maintenance at noon"]);
  assert.deepEqual(JSON.parse(announced.stdout), { ok: true });
  assert.equal((await ann.next("system:announcement")).message, "maintenance at noon");
  await backend(["say", "lobby", "hello from the backend"]);
  const said = await ann.next("message");
  assert.deepEqual([said.content, said.type], ["hello from the backend", "system"]);
  const stats = await backend(["post", "room-stats", '{"roomId":"lobby"}']);
  assert.equal(JSON.parse(stats.stdout).messageCount, 1);
});

scenario("the Node backend prints what went wrong", async () => {
  await assert.rejects(backend(["post", "room-stats", '{"roomId":"nowhere"}']), /404.*NOT_FOUND/s);
  await assert.rejects(backend(["announce", "x"], { SWITCHBOARD_API_KEY: "a-key-that-is-not-the-hosts" }), /401.*AUTH_FAILED/s);
});

scenario("the greeter greets", async () => {
  const [ann, ben] = await Promise.all([connect(host, "ann"), connect(host, "ben")]);
  assert.deepEqual(await ann.ask("hello", { name: "Ann" }), { ok: true, greeting: "Hello, Ann!" });
  assert.equal(await ben.next("greeted"), "Hello, Ann!");
});
