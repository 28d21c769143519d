// Several hosts and a server of Node.js on one Redis: one room, whoever's client is in it.

import assert from "node:assert/strict";
import { Client, connect, settled } from "./harness/clients.mjs";
import { probe } from "./harness/components.mjs";
import { waitFor } from "./harness/deadline.mjs";
import { NodeServer, redisEmitter } from "./harness/node.mjs";
import { Redis } from "./harness/redis.mjs";
import { scenario, startHost } from "./harness/scenario.mjs";

const host = (redis, options) => startHost({
  plugins: { probe: probe() },
  redisPort: redis.port,
  state: "memory",
  quarantineFaults: 10_000,
  ...options,
});

const say = (client, room, ...args) => client.must("probe:relay", room, ...args);

/** Three hosts and a server of Node.js, with a client each in a room. */
async function mixed(room) {
  const redis = await Redis.start();
  const hosts = await Promise.all([0, 1, 2].map(() => host(redis)));
  const node = await NodeServer.start(redis);
  const ours = await Promise.all(hosts.map((one, index) => connect(one, `user-${index}`)));
  const theirs = await new Client(node).open();
  for (const client of ours) await client.must("probe:join", room);
  await theirs.must("join", room);
  return { redis, hosts, node, ours, theirs, all: [...ours, theirs] };
}

/** Waits until every client has heard so many of an event; returns them, the first arguments. */
async function heardBy(clients, name, count) {
  const known = () => clients.map((client) => client.heard(name));
  await waitFor(() => known().every((heard) => heard.length >= count), () => `${count} of ${name}: ${known().map(({ length }) => length)}`);
  return known();
}

/** Whatever was on its way between nodes has come: an event of each, to everybody, is heard behind it. */
async function settledEverywhere({ ours, node, all }, room) {
  for (const client of ours) await say(client, room, "end");
  node.io.to(room).emit("probe:relayed", "end");
  const ends = (client) => client.heard("probe:relayed").filter((text) => text === "end").length;
  await waitFor(() => all.every((client) => ends(client) === 4), () => `the end: ${all.map(ends)}`);
  await settled(...ours);
}

scenario("a room over three hosts and a server of Node.js: what is said anywhere is heard once everywhere", async () => {
  const room = "probe:everywhere";
  const cluster = await mixed(room);
  const { theirs, all } = cluster;
  const texts = [];
  for (let n = 0; n < 50; n += 1) {
    const text = `message ${n}`;
    texts.push(text);
    const from = all[n % 4];
    if (from === theirs) await theirs.must("say", room, "probe:relayed", text, { n, list: [1, null, "é"] });
    else await say(from, room, text, { n, list: [1, null, "é"] });
  }
  await settledEverywhere(cluster, room);
  for (const client of all) {
    const events = client.inbox.filter(({ name, args }) => name === "probe:relayed" && args[0] !== "end");
    assert.deepEqual(events.map(({ args }) => args[0]).toSorted(), texts.toSorted());
    for (const { args: [text, rest] } of events) {
      assert.deepEqual(rest, { n: Number(text.split(" ")[1]), list: [1, null, "é"] });
    }
    // In the order in which each said it.
    for (const from of [0, 1, 2, 3]) {
      const own = events.map(({ args }) => args[1].n).filter((n) => n % 4 === from);
      assert.deepEqual(own, own.toSorted((one, other) => one - other));
    }
  }
});

scenario("bytes cross nodes in their place, both ways", async () => {
  const room = "probe:bytes";
  const { ours, theirs, all } = await mixed(room);
  const bytes = Buffer.from([0, 1, 2, 254, 255]);
  await say(ours[0], room, "from ours", { deep: [bytes, { again: Buffer.alloc(70_000, 7) }] });
  await theirs.must("say", room, "probe:relayed", "from theirs", { deep: [bytes, { again: Buffer.alloc(70_000, 7) }] });
  await heardBy(all, "probe:relayed", 2);
  for (const client of all) {
    for (const { args: [, { deep }] } of client.inbox.filter(({ name }) => name === "probe:relayed")) {
      assert.deepEqual(Buffer.from(deep[0]), bytes);
      assert.deepEqual(Buffer.from(deep[1].again), Buffer.alloc(70_000, 7));
    }
  }
});

scenario("`except` holds on every node", async () => {
  const room = "probe:except";
  const cluster = await mixed(room);
  const { ours, theirs, node, all } = cluster;
  const emit = (client, emission) => client.must("probe:emit", { name: "probe:news", args: ["news"], ...emission });
  await ours[1].must("probe:join", "probe:quiet");
  await theirs.must("join", "probe:quiet");
  await emit(ours[0], { to: [`room:${room}`], except: ["user:user-2"] });
  await emit(ours[0], { to: [`room:${room}`], except: ["room:probe:quiet"] });
  await emit(ours[0], { to: ["everyone"], except: [`connection:${ours[0].id}`] });
  await emit(ours[0], { to: ["user:user-1", "user:user-2"] });
  node.io.to(room).except("user:user-0").emit("probe:news", "news");
  node.io.to(room).except(ours[2].id).emit("probe:news", "news");
  node.io.emit("probe:news", "news");
  await settledEverywhere(cluster, room);
  assert.deepEqual(all.map((client) => client.heard("probe:news").length), [
    1 + 1 + 0 + 0 + 0 + 1 + 1,
    1 + 0 + 1 + 1 + 1 + 1 + 1,
    0 + 1 + 1 + 1 + 1 + 0 + 1,
    1 + 0 + 1 + 0 + 1 + 1 + 1,
  ]);
});

scenario("an emitter without sockets reaches rooms, users and everybody", async () => {
  const room = "probe:emitter";
  const cluster = await mixed(room);
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

scenario("a server of Node.js finds, joins, asks and ends our connections, and we its own", async () => {
  const room = "probe:theirs";
  const cluster = await mixed(room);
  const { ours, theirs, node } = cluster;
  const found = await node.io.in(room).fetchSockets();
  assert.deepEqual(found.map(({ id }) => id).toSorted(), [...ours.map(({ id }) => id), theirs.socket.id].toSorted());
  const first = found.find(({ id }) => id === ours[0].id);
  assert.deepEqual([...first.rooms].toSorted(), [ours[0].id, room, "user:user-0"].toSorted());
  assert.equal(first.data.userId, "user-0");
  const rooms = await node.io.of("/").adapter.allRooms();
  for (const name of [room, "user:user-2", ours[1].id]) assert.ok(rooms.has(name), name);

  // Into a room that no plugin of ours could have, and out of it.
  node.io.in(ours[1].id).socketsJoin(["of node", "probe:more"]);
  await waitFor(async () => (await node.io.in("of node").fetchSockets()).length === 1, "our connection in their room");
  node.io.to("of node").emit("probe:news", "for one");
  await heardBy([ours[1]], "probe:news", 1);
  node.io.in("of node").socketsLeave("of node");
  await waitFor(async () => (await node.io.in("of node").fetchSockets()).length === 0, "nobody in their room");

  // Asked for acknowledgements.
  for (const client of [...ours, theirs]) client.socket.on("question", (n, answer) => answer(`${client.userId ?? "theirs"} ${n}`));
  const answers = await node.io.to(room).timeout(5_000).emitWithAck("question", 7);
  assert.deepEqual(answers.toSorted(), ["theirs 7", "user-0 7", "user-1 7", "user-2 7"]);

  // Ours on theirs: instructions reach their sockets.
  await ours[0].must("probe:join", "probe:taken", `room:${room}`);
  await waitFor(async () => (await node.io.in("probe:taken").fetchSockets()).length === 4, "everybody in the room");

  node.io.in("user:user-2").disconnectSockets(true);
  await ours[2].closed();
  await waitFor(async () => (await node.io.in(room).fetchSockets()).length === 3, "one less");
  await ours[0].must("probe:disconnect", "room:probe:taken", "the end", true);
  await theirs.closed();
});

scenario("what is odd on the wire reaches nobody, and deafens nobody", async () => {
  const room = "probe:odd";
  const cluster = await mixed(room);
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

scenario("an event for servers is handled by one host as a server event, and its answer comes back", async () => {
  const { node, ours } = await mixed("probe:server");
  const answers = await new Promise((resolve, reject) => {
    node.io.serverSideEmit("probe-ask", { a: 1 }, (error, all) => (error ? reject(error) : resolve(all)));
  });
  const served = answers.filter((answer) => answer?.ok);
  assert.equal(answers.length, ours.length);
  assert.deepEqual(served.map(({ data, source }) => [data, source]), [[{ a: 1 }, "cluster"]]);
});

scenario("Redis killed and started empty: a node goes on by itself, nobody is disconnected, and then all are one again", async () => {
  const room = "probe:outage";
  const cluster = await mixed(room);
  const { redis, hosts, ours } = cluster;
  const neighbour = await connect(hosts[0], "neighbour");
  await neighbour.must("probe:join", room);
  for (let round = 0; round < 3; round += 1) {
    await redis.kill();
    await waitFor(async () => /degraded/.test((await hosts[0].request("/readyz")).text), "readiness to say so");
    await say(ours[0], room, `alone ${round}`);
    await neighbour.nextEvent("probe:relayed", (text) => text === `alone ${round}`);
    await redis.start();
    const back = performance.now();
    await waitFor(async () => {
      await say(ours[0], room, `probe ${round}`);
      return ours.slice(1).every((client) => client.heard("probe:relayed").includes(`probe ${round}`));
    }, "messages to cross nodes again", 10_000);
    assert.ok(performance.now() - back < 5_000, "soon");
    await waitFor(async () => (await hosts[0].request("/readyz")).text === "ready\n", "readiness");
  }
  for (const client of [...ours, neighbour]) {
    assert.ok(client.connected);
    assert.deepEqual(client.disconnections, []);
  }
  const lines = hosts[0].log().split("\n").filter((line) => /out of reach/.test(line));
  assert.equal(lines.length, 3, "said once each time");
});
