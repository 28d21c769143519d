// Several hosts and a server of Node.js on one Redis: one room, whoever's client is in it.

import assert from "node:assert/strict";
import { waitFor } from "./harness/deadline.mjs";
import { clusterScenarios, heardBy, mixed, settledEverywhere } from "./harness/mixed.mjs";
import { redisEmitter } from "./harness/node.mjs";
import { Redis } from "./harness/redis.mjs";
import { scenario } from "./harness/scenario.mjs";

const classic = { redis: () => Redis.start(), mode: "classic" };

clusterScenarios("classic", classic);

scenario("an emitter without sockets reaches rooms, users and everybody", async () => {
  const room = "probe:emitter";
  const cluster = await mixed(room, classic);
  const { redis, ours, all } = cluster;
  const emitter = await redisEmitter(redis);
  emitter.to(room).emit("probe:news", "room", Buffer.from("bytes"));
  emitter.to("user:user-1").emit("probe:news", "user");
  emitter.to(ours[2].id).emit("probe:news", "connection");
  emitter.emit("probe:news", "everybody");
  emitter.in(room).except("user:user-0").emit("probe:news", "not user-0");
  emitter.in("user:user-0").socketsJoin("probe:later");
  const rooms = async () => (await ours[0].must("probe:rooms", "probe:later", ours[0].id, "user-0")).ofConnection;
  await waitFor(async () => (await rooms()).includes("probe:later"), "user-0 to be in the room");
  emitter.to("probe:later").emit("probe:news", "later");
  await heardBy([ours[0]], "probe:news", 3);
  await settledEverywhere(cluster, room);
  assert.deepEqual(all.map((client) => client.heard("probe:news").toSorted()), [
    ["everybody", "later", "room"],
    ["everybody", "not user-0", "room", "user"],
    ["connection", "everybody", "not user-0", "room"],
    ["everybody", "not user-0", "room"],
  ]);
});

scenario("what is odd on the wire reaches nobody, and deafens nobody", async () => {
  const room = "probe:odd";
  const cluster = await mixed(room, classic);
  const { redis, node, ours, theirs, all } = cluster;
  // The id of somebody who is not there any more.
  node.io.in(undefined).disconnectSockets(true);
  node.io.in([null]).socketsJoin("probe:odd-one");
  node.io.to(1.5).emit("probe:news", "for nobody");
  node.io.in(room).socketsJoin(["probe:", "", "probe:\n", `probe:${"x".repeat(600)}`, "user:somebody"]);
  const emitter = await redisEmitter(redis);
  for (const date of [new Date("1960-01-01"), new Date(8.64e15), new Date(NaN)]) {
    emitter.to(room).emit("probe:news", "a date", date);
  }
  emitter.to(room).emit("probe:news", "nothing", undefined, { a: undefined, b: 1 });
  // (On the channel of broadcasts a server of Node.js would end itself by these.)
  for (const text of ["", "{", "[1,2", "null", '{"uid":"a"}', '{"uid":"a","type":4}']) {
    redis.command("publish", "socket.io-request#/#", text);
    redis.command("publish", "switchboard:nodes", text);
  }
  await settledEverywhere(cluster, room);
  for (const client of all) {
    const heard = client.inbox.filter(({ name }) => name === "probe:news").map(({ args }) => args);
    assert.deepEqual(heard.map(([text]) => text), ["a date", "a date", "a date", "nothing"]);
    assert.equal(heard[0][1], "1960-01-01T00:00:00.000Z");
    assert.deepEqual(client.disconnections, []);
  }
  const rooms = (await ours[0].must("probe:rooms", room, ours[0].id, "user-0")).ofConnection;
  assert.deepEqual(rooms, [room]);
  void theirs;
});
