// A host beside a server of Node.js with the stock Redis adapter: what that adapter does between two
// servers of its own kind, it does here. `cluster.test.mjs` has the rest.

import assert from "node:assert/strict";
import { Client, connect, settled } from "./harness/clients.mjs";
import { probe } from "./harness/components.mjs";
import { waitFor } from "./harness/deadline.mjs";
import { NodeServer } from "./harness/node.mjs";
import { freeze, thaw } from "./harness/processes.mjs";
import { Redis } from "./harness/redis.mjs";
import { scenario, startHost } from "./harness/scenario.mjs";

/** How long clients are given to acknowledge; Node.js' adapter remembers each question for so long. */
const ANSWERED = 4_000;

const host = (redis, options) => startHost({
  plugins: { probe: probe() },
  redisPort: redis.port,
  state: "memory",
  quarantineFaults: 10_000,
  ...options,
});

/** A host with two clients, and a server of Node.js with two. */
async function pair({ node: nodeOptions, namespace, ...hostOptions } = {}) {
  const redis = await Redis.start();
  const one = await host(redis, hostOptions);
  const node = await NodeServer.start(redis, nodeOptions);
  const ours = await Promise.all(["ann", "ben"].map((user) => connect(one, user, { namespace })));
  const theirs = await Promise.all([1, 2].map(() => new Client(node, { namespace }).open()));
  return { redis, host: one, node, io: node.io.of(namespace ?? "/"), ours, theirs, all: [...ours, ...theirs] };
}

const emit = (client, name, to, more = {}) => client.must("probe:emit", { name, to, ...more });

let ends = 0;

/** Whatever was on its way between the two has come: an event of each, to everybody, is heard behind it. */
async function settledEverywhere({ io, ours, all }) {
  const end = `end ${(ends += 1)}`;
  io.emit("end", end);
  await emit(ours[0], "end", ["everyone"], { args: [end] });
  const heard = (client) => client.heard("end").filter((text) => text === end).length;
  await waitFor(() => all.every((client) => heard(client) === 2), () => `the end: ${all.map(heard)}`);
  await settled(...ours);
}

/** What each of [ann, ben, and Node.js' two] has heard of an event since the last time. */
async function heardBy(cluster, name = "news") {
  await settledEverywhere(cluster);
  const heard = cluster.all.map((client) => client.inbox.filter((event) => event.name === name).map(({ args }) => args[0]));
  for (const client of cluster.all) client.clear();
  return heard;
}

/** The rooms of ours as Node.js' server sees them, without those that each has by itself. */
async function roomsOf({ io, ours }) {
  const sockets = await io.fetchSockets();
  return ours.map(({ id, userId }) => {
    const found = sockets.find((socket) => socket.id === id);
    return found && [...found.rooms].filter((room) => room !== id && room !== `user:${userId}`).toSorted();
  });
}

/** Waits until Node.js' server sees ours in these rooms. */
const inRooms = (cluster, ...rooms) => waitFor(
  async () => JSON.stringify(await roomsOf(cluster)) === JSON.stringify(rooms),
  () => `rooms ${JSON.stringify(rooms)}`,
);

scenario("what is said to all arrives with every kind of argument, but for who said it", async () => {
  const cluster = await pair();
  const { node, ours, theirs } = cluster;
  const bytes = Buffer.from("asdfasdf");
  const numbers = Uint8Array.of(1, 2, 3, 4);
  const args = [[], { a: "b" }, bytes, numbers];
  node.socketOf(theirs[0]).broadcast.emit("woot", ...args);
  await ours[0].must("probe:emit", { name: "woot", to: ["everyone"], except: [`connection:${ours[0].id}`], args: [[], { a: "b" }], attachments: 2 }, bytes, numbers);
  await settledEverywhere(cluster);
  for (const [client, count] of [[ours[0], 1], [ours[1], 2], [theirs[0], 1], [theirs[1], 2]]) {
    const heard = client.inbox.filter(({ name }) => name === "woot");
    assert.equal(heard.length, count);
    for (const { args: [empty, object, first, second] } of heard) {
      assert.deepEqual([empty, object], [[], { a: "b" }]);
      assert.ok(Buffer.isBuffer(first) && first.equals(bytes));
      assert.ok(Buffer.isBuffer(second) && second.equals(Buffer.from(numbers)));
    }
  }
});

scenario("bytes keep their place in whatever they are nested, both ways", async () => {
  const cluster = await pair();
  const { io, ours, theirs, all } = cluster;
  const value = () => ({
    list: [[Buffer.from([1]), [{ deeper: Buffer.from([2, 3]) }]], "between", Buffer.alloc(0)],
    object: { "a key": { bytes: Buffer.alloc(100_000, 4), none: null, number: -1.5e-7, big: 2 ** 53 - 1 } },
    "_placeholder-like": { num: 0 },
    "": "é 😀 \u0000",
  });
  io.emit("news", "theirs", value(), Buffer.from("last"));
  // What two servers send has no order.
  await settledEverywhere(cluster);
  await ours[0].must("probe:join", "probe:nested");
  for (const client of theirs) await client.must("join", "probe:nested");
  await ours[1].must("probe:join", "probe:nested");
  await ours[0].must("probe:relay", "probe:nested", "ours", value(), Buffer.from("last"));
  await settledEverywhere(cluster);
  for (const client of all) {
    const heard = client.inbox.filter(({ name }) => name === "news" || name === "probe:relayed");
    assert.deepEqual(heard.map(({ args }) => args[0]), ["theirs", "ours"]);
    for (const { args: [, nested, last] } of heard) {
      assert.deepEqual(nested, value());
      assert.deepEqual(last, Buffer.from("last"));
    }
  }
});

scenario("several rooms are one audience: who is in many hears it once, who is in one that is left out does not", async () => {
  const cluster = await pair();
  const { io, node, ours: [ann, ben], theirs: [cem, dan] } = cluster;
  for (const room of ["probe:foo", "probe:bar"]) {
    await ann.must("probe:join", room);
    await cem.must("join", room);
  }
  await ben.must("probe:join", "probe:bar");
  await dan.must("join", "probe:baz");

  io.to("probe:foo").to("probe:bar").emit("news", "theirs");
  await emit(ben, "news", ["room:probe:foo", "room:probe:bar"], { args: ["ours"] });
  assert.deepEqual((await heardBy(cluster)).map((heard) => heard.toSorted()), [["ours", "theirs"], ["ours", "theirs"], ["ours", "theirs"], []]);

  node.socketOf(cem).to(["probe:foo", "probe:bar"]).emit("news", "but for me");
  assert.deepEqual(await heardBy(cluster), [["but for me"], ["but for me"], [], []]);

  io.except(["probe:foo", "probe:baz"]).emit("news", "theirs");
  await emit(ann, "news", ["everyone"], { except: ["room:probe:foo", "room:probe:baz"], args: ["ours"] });
  assert.deepEqual((await heardBy(cluster)).map((heard) => heard.toSorted()), [[], ["ours", "theirs"], [], []]);

  io.to("probe:bar").to("probe:baz").except("probe:foo").emit("news", "theirs");
  await emit(ann, "news", ["room:probe:bar", "room:probe:baz"], { except: ["room:probe:foo"], args: ["ours"] });
  assert.deepEqual((await heardBy(cluster)).map((heard) => heard.toSorted()), [[], ["ours", "theirs"], [], ["ours", "theirs"]]);

  // A room that was left, and one that nobody is in.
  await ann.must("probe:leave", "probe:foo");
  await node.socketOf(cem).leave("probe:foo");
  io.to("probe:foo").to("probe:nobody").emit("news", "theirs");
  await emit(ben, "news", ["room:probe:foo", "room:probe:nobody"], { args: ["ours"] });
  assert.deepEqual(await heardBy(cluster), [[], [], [], []]);
});

scenario("the flags `local` and `volatile`, and rooms that are numbers", async () => {
  const cluster = await pair();
  const { io, node, ours: [ann, ben], theirs: [cem] } = cluster;
  io.local.emit("news", "local");
  node.socketOf(cem).local.emit("news", "local, but for me");
  assert.deepEqual(await heardBy(cluster), [[], [], ["local"], ["local", "local, but for me"]]);

  // Whoever sends one may leave it out for a client that is being written to.
  await waitFor(async () => {
    io.volatile.emit("news", "theirs");
    await emit(ann, "news", ["everyone"], { volatile: true, args: ["ours"] });
    return cluster.all.every((client) => ["theirs", "ours"].every((text) => client.heard("news").includes(text)));
  }, "volatile news of both, everywhere");
  await heardBy(cluster);

  node.socketOf(cem).join(123);
  io.in(ben.id).socketsJoin(123);
  await inRooms(cluster, [], ["123"]);
  io.to(123).emit("news", "number");
  // Node.js tells 123 and "123" apart on the server where the room is, and nowhere else.
  assert.deepEqual(await heardBy(cluster), [[], ["number"], ["number"], []]);
  io.in(ben.id).socketsLeave(123);
  await inRooms(cluster, [], []);
});

scenario("acknowledgements of clients of both, to a server of Node.js", async () => {
  const cluster = await pair();
  const { io, ours, theirs, all } = cluster;
  const adapter = io.adapter;
  all.forEach(({ socket }, index) => {
    socket.on("number", (answer) => answer(index));
    socket.on("bytes", (given, answer) => answer({ deep: [Buffer.concat([given, Buffer.from([index])])] }));
    socket.on("nothing", (answer) => answer());
    socket.on("sometimes", (answer) => index === 1 || answer(index));
  });
  const asked = (to, name, ...args) => new Promise((resolve) => {
    to.emit(name, ...args, (error, answers) => resolve({ error, answers }));
  });
  const { error, answers } = await asked(io.timeout(ANSWERED), "number");
  assert.equal(error, null);
  assert.deepEqual(answers.toSorted(), [0, 1, 2, 3]);

  const bytes = await asked(io.timeout(ANSWERED), "bytes", Buffer.from([9]));
  assert.equal(bytes.error, null);
  const given = bytes.answers.map(({ deep }) => [...deep[0]]);
  assert.deepEqual(given.toSorted(), [[9, 0], [9, 1], [9, 2], [9, 3]]);

  const nothing = await asked(io.timeout(ANSWERED), "nothing");
  assert.deepEqual([nothing.error, nothing.answers.length], [null, 4]);

  assert.deepEqual(await asked(io.to("probe:nobody").timeout(ANSWERED), "number"), { error: null, answers: [] });

  const some = await asked(io.timeout(2_000), "sometimes");
  assert.ok(some.error instanceof Error);
  assert.deepEqual(some.answers.toSorted(), [0, 2, 3]);

  assert.deepEqual((await asked(io.in(ours[0].id).timeout(ANSWERED), "number")).answers, [0]);
  assert.deepEqual((await asked(io.except(ours[0].id).except(theirs[0].socket.id).timeout(ANSWERED), "number")).answers.toSorted(), [1, 3]);
  const [remote] = await io.in(ours[1].id).fetchSockets();
  assert.equal(await remote.timeout(ANSWERED).emitWithAck("number"), 1);
  await waitFor(() => adapter.ackRequests.size === 0, "nothing to be waited for any more");
});

scenario("a plugin's question reaches clients of both, and both answer it", async () => {
  const cluster = await pair();
  const { ours: [ann, ben], theirs: [cem, dan] } = cluster;
  await ann.must("probe:join", "probe:watchers");
  for (const { socket } of [ben, cem, dan]) socket.on("question", (n, answer) => answer(n + 1));
  await emit(ann, "question", ["everyone"], { args: [7], ack: "token", except: [`connection:${ann.id}`] });
  const answers = () => ann.heard("probe:notice").filter(({ name }) => name === "acknowledged");
  await waitFor(() => answers().length >= 3, () => `three answers: ${answers().length}`);
  for (const client of [ben, cem, dan]) assert.equal(await client.next("question"), 7);
  await settledEverywhere(cluster);
  // Whose a client of Node.js is its server does not say.
  const whose = answers().map(({ data, connection }) => [data.token, data.args[0], connection]);
  assert.deepEqual(whose.toSorted(), [["token", 8, ben.id], ["token", 8, null], ["token", 8, null]].toSorted());
});

scenario("a server of Node.js moves ours: all, those of a room, and one", async () => {
  const cluster = await pair();
  const { io, ours: [ann, ben] } = cluster;
  io.socketsJoin("probe:all");
  await inRooms(cluster, ["probe:all"], ["probe:all"]);
  await ben.must("probe:join", "probe:own");
  io.in("probe:own").socketsJoin("probe:matching");
  io.in(ann.id).socketsJoin(["probe:one", "probe:two"]);
  await inRooms(cluster, ["probe:all", "probe:one", "probe:two"], ["probe:all", "probe:matching", "probe:own"]);
  io.in(["probe:one", "probe:matching"]).except(ann.id).socketsJoin("probe:last");
  io.socketsLeave("probe:all");
  io.in("probe:matching").socketsLeave(["probe:own", "probe:two"]);
  io.in(ann.id).socketsLeave("probe:one");
  await inRooms(cluster, ["probe:two"], ["probe:last", "probe:matching"]);
  // Plugins see the same.
  assert.deepEqual((await ann.must("probe:rooms", "probe:last", ben.id, "ben")).users, ["ben"]);
});

scenario("who is put out hears what was said before it", async () => {
  const cluster = await pair();
  const { io, node, ours: [ann, ben], theirs: [cem, dan] } = cluster;
  // A namespace only, as stock clients know it.
  io.in(ann.id).emit("bye");
  io.in(ann.id).disconnectSockets();
  assert.equal(await ann.closed(), "io server disconnect");
  assert.equal(ann.heard("bye").length, 1);
  // With the transport, and whoever is there.
  io.emit("bye");
  io.disconnectSockets(true);
  await Promise.all([ben, cem, dan].map((client) => client.closed()));
  for (const client of [ben, cem, dan]) assert.equal(client.heard("bye").length, 1);
  await waitFor(async () => (await io.fetchSockets()).length === 0, "nobody to be there");
  assert.deepEqual([...await io.adapter.allRooms()], []);
  assert.equal(node.io.of("/").sockets.size, 0);
});

scenario("a server of Node.js finds the connections of both, their rooms and data", async () => {
  const cluster = await pair();
  const { io, node, ours: [ann, ben], theirs: [cem, dan] } = cluster;
  await ann.must("probe:join", "probe:room");
  await cem.must("join", "probe:room");
  const ids = (sockets) => sockets.map(({ id }) => id).toSorted();
  assert.deepEqual(ids(await io.fetchSockets()), [ann.id, ben.id, cem.socket.id, dan.socket.id].toSorted());
  assert.deepEqual(ids(await io.in("probe:room").fetchSockets()), [ann.id, cem.socket.id].toSorted());
  assert.deepEqual(ids(await io.in("probe:room").except(cem.socket.id).fetchSockets()), [ann.id]);
  assert.deepEqual(ids(await io.local.fetchSockets()), [cem.socket.id, dan.socket.id].toSorted());
  assert.deepEqual(await io.in("probe:nobody").fetchSockets(), []);
  const [found] = await io.in(ann.id).fetchSockets();
  assert.deepEqual(found.data, { userId: "ann", role: "student" });
  assert.deepEqual([...found.rooms].toSorted(), [ann.id, "probe:room", "user:ann"].toSorted());
  // Nothing of what the client came with, least of all its token.
  assert.deepEqual(found.handshake, { headers: {}, query: {}, auth: {} });
  // What was found can be spoken to, and moved.
  found.emit("news", "for one");
  found.join("probe:found");
  await inRooms(cluster, ["probe:found", "probe:room"], []);
  assert.deepEqual(await heardBy(cluster), [["for one"], [], [], []]);
  found.leave("probe:found");
  await inRooms(cluster, ["probe:room"], []);
  const rooms = await io.adapter.allRooms();
  const all = [ann.id, ben.id, cem.socket.id, dan.socket.id, "user:ann", "user:ben", "probe:room"];
  assert.deepEqual([...rooms].toSorted(), all.toSorted());
  assert.equal(io.adapter.requests.size, 0);
  found.disconnect(true);
  await ann.closed();
  assert.equal(node.io.of("/").sockets.size, 2);
});

scenario("an event for servers, with and without an answer, and of a server that does not answer", async () => {
  const cluster = await pair({ node: { requestsTimeout: 1_500 } });
  const { redis, io, theirs } = cluster;
  io.serverSideEmit("probe-emit", { name: "news", to: ["everyone"], args: ["by a server event"] });
  await waitFor(() => theirs[0].heard("news").length === 1, "what a plugin said to a server event");
  assert.deepEqual(await heardBy(cluster), Array(4).fill(["by a server event"]));
  const ask = () => new Promise((resolve) => {
    io.serverSideEmit("probe-ask", "question", (error, answers) => resolve({ error, answers }));
  });
  const { error, answers } = await ask();
  assert.equal(error, null);
  assert.deepEqual(answers.map(({ ok, data }) => [ok, data]), [[true, "question"]]);

  // A second host, and then one that does not answer.
  const second = await host(redis);
  await waitFor(async () => (await ask()).answers.length === 2, "answers of both hosts");
  await freeze(second.process);
  const partly = await ask();
  assert.match(partly.error.message, /^timeout reached: only [01] responses? received out of 2$/);
  await assert.rejects(io.fetchSockets(), /timeout reached/);
  thaw(second.process);
  await waitFor(async () => (await ask()).error === null, "both to answer again");
  await second.stop();
  await waitFor(async () => (await ask()).answers.length === 1, "one to answer, and to be enough");
  assert.equal((await io.fetchSockets()).length, 4);
  assert.equal(io.adapter.requests.size, 0);
});

scenario("namespaces are apart", async () => {
  const namespace = "/probe";
  const cluster = await pair({ namespace, node: { namespaces: [namespace] }, plugin: { probe: { namespace } } });
  const { host: one, node, io, ours: [ann], theirs: [cem] } = cluster;
  const elsewhere = [await connect(one, "eve"), await new Client(node).open()];
  await ann.must("probe:join", "probe:room");
  await cem.must("join", "probe:room");
  await elsewhere[1].must("join", "probe:room");
  io.emit("news", "all of it");
  io.to("probe:room").emit("news", "its room");
  await emit(ann, "news", ["everyone"], { args: ["all of ours"] });
  await emit(ann, "news", ["room:probe:room"], { args: ["the room of ours"] });
  node.io.emit("news", "all of /");
  node.io.to("probe:room").emit("news", "the room of /");
  const [inRoom, beside] = [["all of it", "all of ours", "its room", "the room of ours"], ["all of it", "all of ours"]];
  assert.deepEqual((await heardBy(cluster)).map((heard) => heard.toSorted()), [inRoom, beside, inRoom, beside]);
  await waitFor(() => elsewhere[0].heard("news").length > 0, "what is said in / to be heard there");
  assert.deepEqual(elsewhere[0].heard("news"), ["all of /"]);
  assert.deepEqual(elsewhere[1].heard("news"), ["all of /", "the room of /"]);
  assert.equal((await io.fetchSockets()).length, 4);
  assert.equal((await node.io.fetchSockets()).length, 2);
  io.disconnectSockets();
  await Promise.all(cluster.all.map((client) => client.closed()));
  for (const client of elsewhere) assert.ok(client.connected);
});

scenario("a server of Node.js that answers each server apart gets and gives the same", async () => {
  const cluster = await pair({ node: { publishOnSpecificResponseChannel: true } });
  const { io, ours: [ann], all } = cluster;
  assert.equal((await io.fetchSockets()).length, 4);
  assert.ok((await io.adapter.allRooms()).has(ann.id));
  all.forEach(({ socket }, index) => socket.on("number", (answer) => answer(index)));
  assert.deepEqual((await io.timeout(ANSWERED).emitWithAck("number")).toSorted(), [0, 1, 2, 3]);
  const answers = await io.serverSideEmitWithAck("probe-ask", 1);
  assert.deepEqual(answers.map(({ ok }) => ok), [true]);
});
