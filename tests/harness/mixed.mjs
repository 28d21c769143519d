// Several hosts and a server of Node.js on one Redis, whichever adapter they speak like: what holds for all.

import assert from "node:assert/strict";
import { Client, connect, settled } from "./clients.mjs";
import { probe } from "./components.mjs";
import { waitFor } from "./deadline.mjs";
import { NodeServer } from "./node.mjs";
import { scenario, startHost } from "./scenario.mjs";

export const say = (client, room, ...args) => client.must("probe:relay", room, ...args);

const host = (redis, options) => startHost({
  plugins: { probe: probe() },
  redisPort: redis.port,
  state: "memory",
  quarantineFaults: 10_000,
  ...options,
});

/**
 * Three hosts and a server of Node.js, with a client each in a room. `redis` starts one; `options` are for
 * hosts; `mode` is that of the adapter, `subscriptions` that of a sharded one; `alone`: without Node.js.
 */
export async function mixed(room, { redis: start, options, mode, subscriptions, alone }) {
  const redis = await start();
  const hosts = await Promise.all([0, 1, 2].map(() => host(redis, { clusterMode: mode, subscriptions, ...options })));
  const node = alone ? undefined : await NodeServer.start(redis, { mode, subscriptions });
  const ours = await Promise.all(hosts.map((one, index) => connect(one, `user-${index}`)));
  const theirs = alone ? undefined : await new Client(node).open();
  for (const client of ours) await client.must("probe:join", room);
  await theirs?.must("join", room);
  const all = alone ? ours : [...ours, theirs];
  const cluster = { redis, hosts, node, ours, theirs, all };
  // A server of Node.js says that somebody has joined before it listens to the room.
  cluster.listened = async (name, count) => {
    if (mode !== "sharded" || subscriptions === "static") return;
    await waitFor(() => redis.subscribers(`socket.io#/#${name}#`) >= count, `${count} nodes to listen to ${name}`);
  };
  await cluster.listened(room, all.length);
  return cluster;
}

/** Waits until every client has heard so many of an event; returns them, the first arguments. */
export async function heardBy(clients, name, count) {
  const known = () => clients.map((client) => client.heard(name));
  await waitFor(() => known().every((heard) => heard.length >= count), () => `${count} of ${name}: ${known().map(({ length }) => length)}`);
  return known();
}

/**
 * Whatever was on its way between nodes has come: an event of each, to everybody, is heard behind it; on the
 * channel of the room, and on that of all, which may be two.
 */
export async function settledEverywhere({ ours, node, all }, room) {
  for (const client of ours) {
    await say(client, room, "end");
    await client.must("probe:emit", { to: ["everyone"], name: "probe:end", args: ["end"] });
  }
  node.io.to(room).emit("probe:relayed", "end");
  node.io.emit("probe:end", "end");
  const ends = (client) => [...client.heard("probe:relayed"), ...client.heard("probe:end")].filter((text) => text === "end").length;
  await waitFor(() => all.every((client) => ends(client) === 8), () => `the end: ${all.map(ends)}`);
  await settled(...ours);
}

/** The scenarios that hold for every kind of cluster: `kind` is as in `mixed`. */
export function clusterScenarios(title, kind) {
  scenario(`${title}: a room over three hosts and a server of Node.js: what is said anywhere is heard once everywhere`, async () => {
    const room = "probe:everywhere";
    const cluster = await mixed(room, kind);
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

  scenario(`${title}: bytes cross nodes in their place, both ways`, async () => {
    const room = "probe:bytes";
    const { ours, theirs, all } = await mixed(room, kind);
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

  scenario(`${title}: except holds on every node`, async () => {
    const room = "probe:except";
    const cluster = await mixed(room, kind);
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

  scenario(`${title}: a server of Node.js finds, joins, asks and ends our connections, and we its own`, async () => {
    const room = "probe:theirs";
    const cluster = await mixed(room, kind);
    const { ours, theirs, node } = cluster;
    const found = await node.io.in(room).fetchSockets();
    assert.deepEqual(found.map(({ id }) => id).toSorted(), [...ours.map(({ id }) => id), theirs.socket.id].toSorted());
    const first = found.find(({ id }) => id === ours[0].id);
    assert.deepEqual([...first.rooms].toSorted(), [ours[0].id, room, "user:user-0"].toSorted());
    assert.equal(first.data.userId, "user-0");
    if (kind.mode === "classic") {
      const rooms = await node.io.of("/").adapter.allRooms();
      for (const name of [room, "user:user-2", ours[1].id]) assert.ok(rooms.has(name), name);
    }

    // Into a room that no plugin of ours could have, and out of it.
    node.io.in(ours[1].id).socketsJoin(["of node", "probe:more"]);
    await waitFor(async () => (await node.io.in("of node").fetchSockets()).length === 1, "our connection in their room");
    await cluster.listened("of node", 1);
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

  scenario(`${title}: an event for servers is handled by one host as a server event, and its answer comes back`, async () => {
    const { node, ours } = await mixed("probe:server", kind);
    const answers = await new Promise((resolve, reject) => {
      node.io.serverSideEmit("probe-ask", { a: 1 }, (error, all) => (error ? reject(error) : resolve(all)));
    });
    const served = answers.filter((answer) => answer?.ok);
    assert.equal(answers.length, ours.length);
    assert.deepEqual(served.map(({ data, source }) => [data, source]), [[{ a: 1 }, "cluster"]]);
  });

  scenario(`${title}: Redis killed and started empty: a node goes on by itself, nobody is disconnected, and then all are one again`, async () => {
    const room = "probe:outage";
    // The client of Node.js for a Redis Cluster does not outlive the end of all of its nodes.
    const clientGivesUp = kind.options?.redisCluster === true;
    const cluster = await mixed(room, { ...kind, alone: clientGivesUp });
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
      if (kind.mode === "sharded") {
        await waitFor(() => redis.subscribers("socket.io#/#") >= 3, "hosts to listen again");
        assert.ok(performance.now() - back < 2_000, "soon");
      }
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

  scenario(`${title}: clients of a server of Node.js acknowledge what a plugin asks`, async () => {
    const room = "probe:asked";
    const cluster = await mixed(room, kind);
    const { ours, theirs } = cluster;
    const watcher = await connect(cluster.hosts[0], "watcher");
    await watcher.must("probe:join", "probe:watchers");
    for (const client of [...ours, theirs]) {
      client.socket.on("probe:question", (n, answer) => answer({ n, whose: client.userId ?? "theirs" }));
    }
    const emission = { to: [`room:${room}`], name: "probe:question", args: [7], ack: "token" };
    await ours[0].must("probe:emit", emission);
    const told = () => watcher.heard("probe:notice").filter(({ name }) => name === "acknowledged");
    await waitFor(() => told().length >= 4, () => `four acknowledgements: ${told().length}`);
    await settledEverywhere(cluster, room);
    const answers = told().map(({ data, user, connection }) => [data.token, data.args[0].n, data.args[0].whose, user, Boolean(connection)]);
    assert.deepEqual(answers.toSorted(), [
      // Node.js does not say whose it is.
      ["token", 7, "theirs", null, false],
      ...[0, 1, 2].map((n) => ["token", 7, `user-${n}`, `user-${n}`, true]),
    ].toSorted());
  });

  scenario(`${title}: who has joined hears what is said from then on, anywhere`, async () => {
    const cluster = await mixed("probe:before", kind);
    const { ours, node } = cluster;
    for (let n = 0; n < 30; n += 1) {
      const room = `probe:joined-${n}`;
      await ours[0].must("probe:join", room);
      await say(ours[1 + (n % 2)], room, `host ${n}`);
      node.io.to(room).emit("probe:relayed", `node ${n}`);
      // Put there by another host, which speaks to the room at once.
      const put = `probe:put-${n}`;
      await ours[1].must("probe:join", put, "user:user-2");
      await say(ours[1], put, `put ${n}`);
    }
    await heardBy([ours[0]], "probe:relayed", 60);
    await heardBy([ours[2]], "probe:relayed", 30);
    await settledEverywhere(cluster, "probe:before");
    const heard = (client) => client.heard("probe:relayed").filter((text) => text !== "end").toSorted();
    const texts = (word) => Array.from({ length: 30 }, (_, n) => `${word} ${n}`);
    assert.deepEqual(heard(ours[0]), [...texts("host"), ...texts("node")].toSorted());
    assert.deepEqual(heard(ours[2]), texts("put").toSorted());
  });
}
