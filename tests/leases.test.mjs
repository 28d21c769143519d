// Hosts that share a Redis know of each other's connections, also when one of them dies, or only
// seems to.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { connect, settled } from "./harness/clients.mjs";
import { probe } from "./harness/components.mjs";
import { waitFor } from "./harness/deadline.mjs";
import { BINARY } from "./harness/host.mjs";
import { freeze, thaw } from "./harness/processes.mjs";
import { Proxy, Redis, RedisCluster, freePort } from "./harness/redis.mjs";
import { preparedHost, scenario, startHost } from "./harness/scenario.mjs";

const runs = promisify(execFile);

/** How long it takes until a host that died without a word is dealt with, at most. */
const BURIED = 30_000;

async function cluster(size) {
  const redis = await Redis.start();
  const hosts = await Promise.all(Array.from({ length: size }, () => startHost({
    plugins: { probe: probe() },
    redisPort: redis.port,
    state: "memory",
    presenceGrace: "3s",
    quarantineFaults: 10_000,
  })));
  return { redis, hosts };
}

/** What a client's host knows of a room. */
const known = async (client, room) => {
  const { users, members, userCount } = await client.must("probe:rooms", room, client.id, client.userId);
  return { users, connections: members.map(({ connection }) => connection), userCount };
};

const knows = (client, room, users) => waitFor(
  async () => JSON.stringify((await known(client, room)).users) === JSON.stringify(users.toSorted()),
  async () => `${users} in ${room}`,
);

/** The connections of a user may become known one after another. */
const knowsConnections = (client, room, ids) => waitFor(
  async () => JSON.stringify((await known(client, room)).connections.toSorted()) === JSON.stringify(ids.toSorted()),
  () => `${ids.length} connections in ${room}`,
);

scenario("who is in a room is known on every host, and first and last are of all of them", async () => {
  const { hosts } = await cluster(3);
  const watcher = await connect(hosts[2], "watcher");
  await watcher.must("probe:join", "probe:watchers");
  const [one, two] = [await connect(hosts[0], "ann"), await connect(hosts[1], "ann")];
  const ben = await connect(hosts[1], "ben");
  const room = "probe:known";
  await one.must("probe:join", room);
  await knows(two, room, ["ann"]);
  await two.must("probe:join", room);
  await ben.must("probe:join", room);
  await knows(watcher, room, ["ann", "ben"]);
  await knowsConnections(watcher, room, [one.id, two.id, ben.id]);
  const seen = await known(watcher, room);
  assert.equal(seen.userCount, 2);
  const about = await watcher.must("probe:rooms", room, two.id, "ann");
  assert.equal(about.hasConnection, true);
  assert.equal(about.hasUser, true);
  assert.ok(about.ofUser.includes(room), about.ofUser.join());
  assert.deepEqual(about.connectionsOfUser, [one.id, two.id].toSorted());
  assert.equal(about.members.find(({ connection }) => connection === ben.id).role, "student");
  // A connection of another host can be named by who shares a room with it.
  await ben.must("probe:emit", { name: "probe:news", args: ["for one"], to: [`connection:${one.id}`] });
  assert.equal(await one.next("probe:news"), "for one");

  await waitFor(async () => (await known(one, room)).connections.includes(two.id), "the other join to be known");
  await one.must("probe:leave", room);
  await waitFor(async () => !(await known(two, room)).connections.includes(one.id), "the leave to be known");
  two.close();
  await watcher.nextEvent("probe:notice", ({ name, connection }) => name === "disconnected" && connection === two.id);
  assert.deepEqual((await known(watcher, room)).users, ["ann", "ben"], "ann may come back yet");
  await knows(watcher, room, ["ben"]);
  await watcher.when(() => watcher.heard("probe:notice").some(({ name, data }) => name === "left" && data.last) || undefined);
  const told = watcher.heard("probe:notice").filter(({ name }) => name === "joined" || name === "left");
  const of = (client) => told.filter(({ connection }) => connection === client.id).map(({ name, data }) => [name, data.first ?? data.last]);
  assert.deepEqual(of(one), [["joined", true], ["left", false]]);
  assert.deepEqual(of(two), [["joined", false], ["left", true]]);
});

scenario("a host that starts later knows who is where", async () => {
  const { redis, hosts } = await cluster(1);
  const room = "probe:before";
  const early = await Promise.all(Array.from({ length: 30 }, (_, n) => connect(hosts[0], `early-${n}`)));
  for (const client of early) await client.must("probe:join", room);
  const late = await startHost({ plugins: { probe: probe() }, redisPort: redis.port, state: "memory" });
  const client = await connect(late, "late");
  await knows(client, room, early.map(({ userId }) => userId));
  const metrics = async () => (await late.request("/metrics")).text;
  await waitFor(async () => /switchboard_other_hosts 1\n/.test(await metrics()), "the other host to be counted");
});

scenario("two of four hosts die with 200 users: each is announced once, and rooms list them no more", async () => {
  const { hosts } = await cluster(4);
  const [dying, alsoDying, ...survivors] = hosts;
  const watchers = await Promise.all(survivors.map((host, n) => connect(host, `watcher-${n}`)));
  for (const watcher of watchers) await watcher.must("probe:join", "probe:watchers");
  const room = "probe:crowd";
  const lost = await Promise.all(Array.from({ length: 200 }, (_, n) => connect(n % 2 ? dying : alsoDying, `user-${n}`)));
  // Some have a second device elsewhere; one has both on hosts that die.
  const second = await Promise.all([0, 1, 2, 3].map((n) => connect(survivors[n % 2], `user-${n}`)));
  const both = [await connect(dying, "both"), await connect(alsoDying, "both")];
  for (const client of [...lost, ...second, ...both]) await client.must("probe:join", room);
  const there = [...lost, ...second, ...both].map(({ id }) => id);
  for (const watcher of watchers) await knowsConnections(watcher, room, there);
  for (const watcher of watchers) watcher.clear();
  await Promise.all([dying.kill(), alsoDying.kill()]);
  const gone = [...lost, ...both].map(({ id }) => id).toSorted();
  const ended = () => watchers[0].heard("probe:notice").filter(({ name }) => name === "disconnected").map(({ connection }) => connection);
  await waitFor(() => ended().length >= gone.length, () => `${ended().length} of ${gone.length} to be told of`, BURIED);
  const stay = second.map(({ userId }) => userId);
  for (const watcher of watchers) await knows(watcher, room, stay);
  await settled(...watchers);
  for (const watcher of watchers) {
    const told = watcher.heard("probe:notice");
    const ends = told.filter(({ name }) => name === "disconnected");
    assert.deepEqual(ends.map(({ connection }) => connection).toSorted(), gone, "each once");
    for (const { data, role } of ends) {
      assert.deepEqual(data, { reason: "node lost", rooms: [room] });
      assert.equal(role, "student");
    }
    const last = told.filter(({ name, data }) => name === "left" && data.last).map(({ user }) => user);
    const offline = [...lost.slice(4).map(({ userId }) => userId), "both"];
    assert.deepEqual(last.toSorted(), offline.toSorted(), "offline: all but those with a device elsewhere, once each");
  }
}, { timeout: 120_000 });

scenario("a host that was frozen and taken for dead gives its clients back", async () => {
  const { hosts } = await cluster(2);
  const [frozen, other] = hosts;
  const watcher = await connect(other, "watcher");
  await watcher.must("probe:join", "probe:watchers");
  const room = "probe:frozen";
  const client = await connect(frozen, "ann", { reconnect: true });
  client.socket.on("connect", () => client.socket.emit("probe:join", room));
  await client.must("probe:join", room);
  await knows(watcher, room, ["ann"]);
  const before = client.id;
  await freeze(frozen.process);
  await watcher.nextEvent("probe:notice", ({ name, connection }) => name === "disconnected" && connection === before, BURIED);
  await knows(watcher, room, []);
  thaw(frozen.process);
  // It learns of it, and its client comes back as another connection.
  await client.closed(BURIED);
  await knows(watcher, room, ["ann"]);
  const told = () => watcher.heard("probe:notice").filter(({ user }) => user === "ann");
  await waitFor(() => told().some(({ name, connection }) => name === "joined" && connection !== before), "that she has joined");
  await settled(watcher);
  assert.ok(!told().some(({ name, connection }) => name === "disconnected" && connection === before), "not told twice");
  assert.match(frozen.log(), /taken this one for dead/);
}, { timeout: 120_000 });

scenario("who came and went while Redis was away is known when it is back, though it has forgotten all", async () => {
  const { redis, hosts } = await cluster(2);
  const room = "probe:away";
  const [stays, goes] = [await connect(hosts[0], "stays"), await connect(hosts[0], "goes")];
  const there = await connect(hosts[1], "there");
  for (const client of [stays, goes, there]) await client.must("probe:join", room);
  await knows(stays, room, ["goes", "stays", "there"]);
  await redis.kill();
  goes.close();
  const comes = await connect(hosts[0], "comes");
  await comes.must("probe:join", room);
  await knows(comes, room, ["comes", "stays", "there"]);
  // Longer than a host may be silent that is heard: nobody is taken for dead meanwhile.
  await waitFor(async () => /degraded/.test((await hosts[1].request("/readyz")).text), "readiness to say so");
  const since = performance.now();
  await waitFor(() => performance.now() - since > 13_000, "a while", 20_000);
  await redis.start();
  for (const client of [stays, comes, there]) await knows(client, room, ["comes", "stays", "there"]);
  for (const client of [stays, comes, there]) assert.deepEqual(client.disconnections, []);
}, { timeout: 120_000 });

scenario("a host whose Redis is not there yet waits, says so once, and is ready when it comes", async () => {
  const redis = await Redis.start();
  await redis.kill();
  const host = preparedHost({ plugins: { probe: probe() }, redisPort: redis.port });
  const port = await freePort();
  host.address = `127.0.0.1:${port}`;
  const started = host.start();
  const asked = (path) => fetch(`http://127.0.0.1:${port}${path}`);
  const ready = await waitFor(() => asked("/readyz"), "an answer");
  assert.equal(ready.status, 503);
  assert.match(await ready.text(), /waiting for Redis/);
  assert.equal((await asked("/healthz")).status, 200);
  assert.equal((await asked("/socket.io/?EIO=4&transport=polling")).status, 503);
  const since = performance.now();
  await waitFor(() => performance.now() - since > 3_000, "a while");
  assert.equal(host.log().match(/waiting for it/g).length, 1);
  await redis.start();
  await started;
  assert.match(host.log(), /Redis is there/);
  const client = await connect(host, "ann");
  await client.must("probe:whoami");
});

scenario("a host that waits for Redis ends when it is told to", async () => {
  const host = preparedHost({ plugins: [], redisPort: await freePort() });
  const started = host.start().catch((error) => error);
  await waitFor(() => /waiting for it/.test(host.log()), "the host to wait");
  host.signal("SIGTERM");
  assert.match((await started).message, /"code":0/);
});

scenario("a wrong password is said as that", async () => {
  const redis = await Redis.start();
  redis.command("config", "set", "requirepass", "right");
  for (const redisPassword of [undefined, "wrong"]) {
    const host = preparedHost({ plugins: [], redisPort: redis.port, redisPassword });
    await assert.rejects(host.start(), /"code":1/);
    assert.match(host.log(), /refuses the password \(redis\.username, redis\.password\)/);
    assert.ok(!host.log().includes("wrong\""));
  }
  const host = await startHost({ plugins: { probe: probe() }, redisPort: redis.port, redisPassword: "right" });
  await connect(host, "ann");
  // As the harness asks without one.
  redis.process.kill("SIGKILL");
});

scenario("`cluster status` shows the hosts, their plugins, and how Redis is", async () => {
  const { redis, hosts } = await cluster(2);
  await Promise.all([connect(hosts[0], "ann"), connect(hosts[0], "ben"), connect(hosts[1], "cem")]);
  const environment = { ...process.env, REDIS_PORT: String(redis.port) };
  const status = async () => (await runs(BINARY, ["cluster", "status"], { cwd: hosts[0].directory, env: environment })).stdout;
  const shown = await waitFor(async () => {
    const text = await status();
    return /2 hosts, 3 connections/.test(text) && !/knows of/.test(text) && text;
  }, "the status", 15_000);
  assert.match(shown, new RegExp(`^Redis 7\\.[0-9.]+ at 127\\.0\\.0\\.1:${redis.port}: master, .* answers in [0-9.]+ ms\n`));
  for (const [host, connections] of [[hosts[0], 2], [hosts[1], 1]]) {
    const about = new RegExp(`^${host.address}  ${connections} connections, version .*, up .*, lease [0-9a-f]{32}\n  probe .* \\([0-9a-f]{12}\\)\n`, "m");
    assert.match(shown, about);
  }
  await hosts[1].stop();
  assert.match(await status(), /1 hosts?, 2 connections/);
  await assert.rejects(runs(BINARY, ["cluster", "status"], { cwd: redis.directory }), /no Redis is configured/);
});

scenario("who types is one state of a user on all hosts, and ends with the time, a leave, and a host", async () => {
  const redis = await Redis.start();
  const options = { plugins: ["rooms"], redisPort: redis.port, state: "memory", typingTimeout: "1s" };
  const hosts = await Promise.all([0, 1, 2].map(() => startHost(options)));
  const listener = await connect(hosts[0], "listener");
  const [phone, laptop, other] = [await connect(hosts[1], "ann"), await connect(hosts[2], "ann"), await connect(hosts[2], "ben")];
  const beside = await connect(hosts[2], "beside");
  for (const client of [listener, phone, laptop, other, beside]) await client.must("room:join", { roomId: "r" });
  const type = (client, isTyping) => client.must("typing", { roomId: "r", isTyping });
  const next = async (userId, isTyping, milliseconds) => {
    const { args: [news] } = await listener.nextEvent("typing", undefined, milliseconds);
    assert.deepEqual([news.roomId, news.userId, news.isTyping], ["r", userId, isTyping]);
  };
  // Every host knows of both devices before the first word.
  await waitFor(async () => (await listener.must("room:join", { roomId: "r" })).room.memberCount === 4, "all to be there");
  await type(phone, true);
  await next("ann", true);
  assert.deepEqual(laptop.heard("typing"), []);
  assert.equal((await other.next("typing")).userId, "ann");
  await type(phone, false);
  await next("ann", false);
  await type(other, true);
  await next("ben", true);
  await next("ben", false);
  await type(other, true);
  await next("ben", true);
  await other.must("room:leave", { roomId: "r" });
  await next("ben", false);
  await type(phone, true);
  await next("ann", true);
  phone.close();
  await next("ann", false);
  // The host of her other device has heard of it, too.
  const stopped = () => beside.heard("typing").filter(({ userId, isTyping }) => userId === "ann" && !isTyping);
  await beside.when(() => stopped().length === 2 || undefined);
  await type(laptop, true);
  await next("ann", true);
  // What it tells others comes in order: who knows of this knows that she types.
  await laptop.must("room:join", { roomId: "last" });
  await waitFor(async () => (await listener.must("room:join", { roomId: "last" })).room.memberCount === 2, "both to be there");
  await hosts[2].kill();
  await next("ann", false, BURIED);
  assert.deepEqual(listener.heard("typing"), []);
}, { timeout: 120_000 });

scenario("a host that dies is dealt with on a Redis Cluster, too", async () => {
  const redis = await RedisCluster.start();
  const options = { plugins: { probe: probe() }, redisPort: redis.port, redisCluster: true, state: "memory" };
  const hosts = [await startHost(options), await startHost(options)];
  const watcher = await connect(hosts[0], "watcher");
  await watcher.must("probe:join", "probe:watchers");
  const lost = await connect(hosts[1], "ann");
  await lost.must("probe:join", "probe:room");
  await knows(watcher, "probe:room", ["ann"]);
  await hosts[1].kill();
  const isEnd = ({ name, connection }) => name === "disconnected" && connection === lost.id;
  const { args: [{ data }] } = await watcher.nextEvent("probe:notice", isEnd, BURIED);
  assert.deepEqual(data, { reason: "node lost", rooms: ["probe:room"] });
  await knows(watcher, "probe:room", []);
}, { timeout: 120_000 });

scenario("a host that was cut off: others told of the clients they knew, it tells of those that came meanwhile", async () => {
  const redis = await Redis.start();
  const proxy = await Proxy.to(redis);
  const options = { plugins: { probe: probe() }, state: "memory", quarantineFaults: 10_000 };
  const there = await startHost({ ...options, redisPort: redis.port });
  const cut = await startHost({ ...options, redisPort: proxy.port });
  const watcher = await connect(there, "watcher");
  await watcher.must("probe:join", "probe:watchers");
  const known = await connect(cut, "known");
  await known.must("probe:join", "probe:room");
  await knows(watcher, "probe:room", ["known"]);
  proxy.cut = true;
  proxy.drop();
  const isEndOf = (client) => ({ name, connection }) => name === "disconnected" && connection === client.id;
  const { args: [told] } = await watcher.nextEvent("probe:notice", isEndOf(known), BURIED);
  assert.equal(told.data.reason, "node lost");
  // It serves its clients all the same.
  const unknown = await connect(cut, "unknown");
  await unknown.must("probe:whoami");
  proxy.cut = false;
  await Promise.all([known.closed(BURIED), unknown.closed(BURIED)]);
  const { args: [own] } = await watcher.nextEvent("probe:notice", isEndOf(unknown), BURIED);
  assert.notEqual(own.data.reason, "node lost");
  const back = await connect(cut, "back");
  await back.must("probe:join", "probe:room");
  await knows(watcher, "probe:room", ["back"]);
  assert.ok(!watcher.heard("probe:notice").some(isEndOf(known)), "not told twice");
}, { timeout: 120_000 });
