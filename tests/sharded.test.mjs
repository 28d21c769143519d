// The same with sharded channels, on a single Redis and on a cluster of three.

import assert from "node:assert/strict";
import { connect } from "./harness/clients.mjs";
import { probe } from "./harness/components.mjs";
import { waitFor } from "./harness/deadline.mjs";
import { clusterScenarios, heardBy, mixed, say, settledEverywhere } from "./harness/mixed.mjs";
import { Proxy, Redis, RedisCluster } from "./harness/redis.mjs";
import { scenario, startHost } from "./harness/scenario.mjs";

const single = { redis: () => Redis.start(), mode: "sharded" };
const many = { redis: () => RedisCluster.start(), mode: "sharded", options: { redisCluster: true } };

clusterScenarios("sharded, a single Redis", single);
clusterScenarios("sharded, a Redis Cluster", many);
clusterScenarios("sharded, static", { ...single, subscriptions: "static" });

scenario("a message to a room goes to no node without somebody in it, and rooms are left", async () => {
  const cluster = await mixed("probe:here", single);
  const { redis, ours } = cluster;
  const channel = "socket.io#/#probe:one#";
  await ours[0].must("probe:join", "probe:one");
  assert.equal(redis.subscribers(channel), 1);
  assert.equal(redis.subscribers("socket.io#/#"), 4);
  await ours[1].must("probe:join", "probe:one");
  assert.equal(redis.subscribers(channel), 2);
  for (const client of ours.slice(0, 2)) await client.must("probe:leave", "probe:one");
  await waitFor(() => redis.subscribers(channel) === 0, "nobody to listen");
  ours[2].close();
  await waitFor(() => redis.subscribers("socket.io#/#user:user-2#") === 0, "nobody to listen for who has gone");
});

scenario("what is odd on sharded channels reaches nobody, and deafens nobody", async () => {
  const room = "probe:odd";
  const cluster = await mixed(room, single);
  const { redis, node, all } = cluster;
  node.io.in(undefined).disconnectSockets(true);
  node.io.to(1.5).emit("probe:news", "for nobody");
  node.io.in(room).socketsJoin(["probe:", "", "user:somebody"]);
  for (const date of [new Date("1960-01-01"), new Date(NaN)]) node.io.to(room).emit("probe:news", "a date", date, Buffer.from("x"));
  // (Not to the main channel: a server of Node.js would end itself by some of these.)
  for (const text of ["", "{", "[1,2", "null", '{"uid":"a"}', '{"uid":"a","nsp":"/","type":6,"data":{"close":true}}']) {
    redis.command("spublish", "socket.io#/#user:user-0#", text);
  }
  await settledEverywhere(cluster, room);
  for (const client of all) {
    assert.deepEqual(client.heard("probe:news"), ["a date", "a date"]);
    assert.deepEqual(client.disconnections, []);
  }
});

scenario("a slot that moves to another node of the cluster is followed", async () => {
  const room = "probe:moves";
  // (The client of Node.js would end its process by it.)
  const { redis, ours } = await mixed(room, { ...many, alone: true });
  await say(ours[0], room, "before");
  await heardBy(ours, "probe:relayed", 1);
  redis.move(`socket.io#/#${room}#`);
  await waitFor(async () => {
    await say(ours[0], room, "after");
    return ours.every((client) => client.heard("probe:relayed").includes("after"));
  }, "messages to come by the other node", 15_000);
});

scenario("a connection that falls silent is found out by a host that has nothing to say", async () => {
  const redis = await Redis.start();
  const proxy = await Proxy.to(redis);
  const [near, far] = await Promise.all([redis, proxy].map(({ port }) => startHost({
    plugins: { probe: probe() }, redisPort: port, state: "memory", clusterMode: "sharded",
  })));
  const clients = [await connect(near, "near"), await connect(far, "far")];
  for (const client of clients) await client.must("probe:join", "probe:silent");
  const ready = async (host) => (await host.request("/readyz")).text;
  proxy.holding = true;
  await waitFor(async () => /degraded/.test(await ready(far)), "the silence to be noticed");
  // Who joins meanwhile does not wait for Redis.
  await clients[1].must("probe:join", "probe:meanwhile");
  proxy.holding = false;
  await waitFor(async () => (await ready(far)) === "ready\n", "readiness");
  await say(clients[0], "probe:meanwhile", "after the silence");
  await heardBy([clients[1]], "probe:relayed", 1);
});
