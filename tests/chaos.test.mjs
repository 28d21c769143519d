// Redis and hosts that die under load, and clients that come and go at random: what every host then
// knows is the truth.

import assert from "node:assert/strict";
import { connect } from "./harness/clients.mjs";
import { waitFor } from "./harness/deadline.mjs";
import { freeze, thaw } from "./harness/processes.mjs";
import { Redis } from "./harness/redis.mjs";
import { scenario, startHost } from "./harness/scenario.mjs";

/** How long it takes until a host that died without a word is dealt with, at most. */
const BURIED = 30_000;

/** How long clients come and go at random, in seconds. */
const RESTLESS = Number(process.env.SWITCHBOARD_CHAOS_SECONDS ?? 20);

/** The seed of what is random; a failure is repeated with the one that was printed. */
const SEED = Number(process.env.SWITCHBOARD_CHAOS_SEED ?? Date.now() % 2 ** 32);

/** Returns numbers from 0 to 1, always the same ones of a seed (mulberry32). */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** How long something is left as it is, or somebody does nothing; never a wait for a condition. */
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Three hosts on one Redis, which keeps nothing when it is killed. */
async function three(more = {}) {
  const redis = await Redis.start(["--appendonly", "no"]);
  const options = { plugins: ["rooms"], redisPort: redis.port, quarantineFaults: 10_000, ...more };
  const hosts = await Promise.all([0, 1, 2].map(() => startHost(options)));
  return { redis, hosts };
}

const join = (client, roomId) => client.must("room:join", { roomId });

/** Whom a host takes for the members of a room: their connections by user. */
async function membersOn(host, roomId) {
  const { members } = await host.tell("room-members", { roomId }, { plugin: "rooms" });
  return Object.fromEntries(members.map(({ userId, connections }) => [userId, connections.toSorted()]));
}

/** Who is in a room in truth, in the same form. */
function membersOf(clients) {
  const members = {};
  for (const { userId, id } of clients.toSorted((one, other) => (one.userId < other.userId ? -1 : 1))) {
    (members[userId] ??= []).push(id);
  }
  for (const connections of Object.values(members)) connections.sort();
  return members;
}

/** Waits until every host takes these clients for the members of a room, and nobody else. */
async function known(hosts, roomId, clients, milliseconds = 10_000) {
  const truth = JSON.stringify(membersOf(clients()));
  const differs = async (host) => {
    const told = JSON.stringify(await membersOn(host, roomId));
    return told === truth ? undefined : `${host.address} tells ${told.length} bytes of ${truth.length}: ${told.slice(0, 300)}`;
  };
  let last;
  await waitFor(async () => {
    last = (await Promise.all(hosts.map(differs))).find(Boolean);
    return !last;
  }, () => `${Object.keys(membersOf(clients())).length} users in ${roomId} everywhere; ${last}`, milliseconds);
}

/** What one client hears of the others' numbered edits. */
class Ear {
  constructor(client) {
    this.last = new Map();
    this.wrong = [];
    this.missed = new Map();
    client.socket.offAny();
    client.socket.on("document:edit", ({ userId, changes: n }) => {
      const before = this.last.get(userId) ?? -1;
      if (n <= before) this.wrong.push(`${userId}: ${n} after ${before}`);
      this.missed.set(userId, (this.missed.get(userId) ?? 0) + Math.max(0, n - before - 1));
      this.last.set(userId, n);
    });
  }
}

scenario("Redis dies 20 times under load: a host goes on, nobody is disconnected, and soon all are one again", async (context) => {
  const random = generator(SEED);
  context.diagnostic(`seed ${SEED}`);
  const { redis, hosts } = await three();
  const pids = hosts.map(({ process }) => process.pid);
  const all = await Promise.all(Array.from({ length: 30 }, (_, n) => connect(hosts[n % 3], `user-${n}`)));
  for (const client of all) await join(client, "room");
  await known(hosts, "room", () => all);

  // One of each host speaks, and all others listen.
  const ears = all.map((client) => new Ear(client));
  const sent = [0, 0, 0];
  const codes = {};
  let asked = 0;
  let answered = 0;
  const speak = setInterval(() => {
    for (const speaker of [0, 1, 2]) all[speaker].emit("document:edit", { roomId: "room", changes: sent[speaker]++ });
    // What is kept in Redis is done, or refused, and always answered.
    asked += 1;
    all[3 + (asked % 27)].socket.emit("message", { roomId: "room", content: "kept" }, ({ ok, error }) => {
      answered += 1;
      const code = ok ? "ok" : error.code;
      codes[code] = (codes[code] ?? 0) + 1;
    });
  }, 50);
  context.after(() => clearInterval(speak));
  const here = (host) => ears.filter((_, n) => n % 3 === host && n > 2);
  /** Whether everybody has heard of what each of the speakers has said since it had said so much. */
  const heardEverywhere = (since) => ears.every(({ last }, n) => [0, 1, 2].every((speaker) => speaker === n || last.get(`user-${speaker}`) >= since[speaker]));

  const apart = [];
  for (let round = 0; round < 20; round += 1) {
    const away = round === 10 ? 10_000 : 200 + random() * (random() < 0.2 ? 3_000 : 800);
    await redis.kill();
    const until = performance.now() + away;
    if (away > 1_000) {
      const degraded = async (host) => /degraded/.test((await host.request("/readyz")).text);
      await waitFor(async () => (await Promise.all(hosts.map(degraded))).every(Boolean), "every host to say that it is degraded");
      const since = [...sent];
      const heardAtHome = (host) => here(host).every(({ last }) => last.get(`user-${host}`) > since[host]);
      await waitFor(() => [0, 1, 2].every(heardAtHome), "what is said on a host to be heard on it");
    }
    await pause(until - performance.now());
    await redis.start();
    const back = performance.now();
    const since = [...sent];
    await waitFor(() => heardEverywhere(since), "what is said now to be heard everywhere", 10_000);
    apart.push(performance.now() - back);
    const ready = async (host) => (await host.request("/readyz")).text === "ready\n";
    await waitFor(async () => (await Promise.all(hosts.map(ready))).every(Boolean), "every host to be ready");
    // The record of the room has gone with Redis; whoever comes makes it anew.
    await join(all[round], "room");
    await known(hosts, "room", () => all, 10_000 - (performance.now() - back));
  }
  clearInterval(speak);
  await waitFor(() => heardEverywhere(sent.map((count) => count - 1)), "the last word");
  await waitFor(() => answered === asked, () => `an answer to all: ${answered} of ${asked}`, 10_000);
  const sorted = apart.map(Math.round).sort((one, other) => one - other);
  context.diagnostic(`one again after ms: median ${sorted[10]}, at most ${sorted[19]}; answers ${JSON.stringify(codes)}`);
  // On a machine that does nothing else it is every time within 2 s.
  assert.ok(sorted[17] < 2_000 && sorted[19] < 4_000, `one again within 2 s: ${sorted}`);
  assert.deepEqual(Object.keys(codes).filter((code) => !["ok", "UNAVAILABLE"].includes(code)), []);
  // Redis may die when it has passed a message on and not said so. It is sent again then: to be heard
  // twice on another host is rare, and said in the README; on one's own it never happens.
  const wrong = new Set(ears.flatMap((ear) => ear.wrong));
  context.diagnostic(`heard twice on other hosts: ${[...wrong].join(", ") || "nothing"}`);
  assert.ok(wrong.size <= 2, [...wrong].join(", "));
  for (const host of [0, 1, 2]) {
    for (const { missed, wrong: own } of here(host)) {
      assert.equal(missed.get(`user-${host}`), 0, "a host's own clients miss nothing");
      assert.deepEqual(own.filter((one) => one.startsWith(`user-${host}:`)), []);
    }
  }
  for (const [n, client] of all.entries()) {
    assert.deepEqual(client.disconnections, []);
    assert.ok(client.connected, `user-${n}`);
  }
  assert.deepEqual(hosts.map(({ process, exited }) => [process.pid, exited]), pids.map((pid) => [pid, undefined]));
}, { timeout: 150_000 });

/** A client that comes back when its transport ends, and into its rooms. */
async function faithful(host, userId, rooms) {
  const client = await connect(host, userId, { reconnect: true });
  client.rooms = rooms;
  const enter = async () => {
    for (const roomId of client.rooms) await join(client, roomId);
    client.entered = client.id;
  };
  await enter();
  client.socket.on("session", async ({ connectionId }) => {
    client.id = connectionId;
    await enter().catch((error) => { client.failed = error; });
  });
  return client;
}

const isBack = (client) => client.connected && client.entered === client.id && client.failed === undefined;

scenario("hosts that die with 200 users in rooms, alone, together, and only seemingly: every user is told of once", async (context) => {
  const { hosts } = await three();
  const ROOMS = ["r0", "r1", "r2", "r3", "r4"];
  const roomsOf = (n) => [ROOMS[n % 5], ROOMS[(n + 1 + (n % 3)) % 5]];
  // 200 on the first host, 40 on each of the others; every tenth of the 200 has a second device elsewhere.
  const crowd = await Promise.all(Array.from({ length: 200 }, (_, n) => faithful(hosts[0], `user-${n}`, roomsOf(n))));
  const devices = await Promise.all(Array.from({ length: 20 }, (_, n) => faithful(hosts[1 + (n % 2)], `user-${n * 10}`, roomsOf(n * 10))));
  const others = await Promise.all(Array.from({ length: 80 }, (_, n) => faithful(hosts[1 + (n % 2)], `other-${n}`, roomsOf(n))));
  const watchers = await Promise.all(hosts.map((host, n) => faithful(host, `watcher-${n}`, ROOMS)));
  const all = [...crowd, ...devices, ...others, ...watchers];
  const truth = async (which = hosts, milliseconds) => {
    for (const room of ROOMS) await known(which, room, () => all.filter((client) => client.connected && client.rooms.includes(room)), milliseconds);
  };
  const on = (host) => all.filter((client) => client.socket.io.uri === host.url);
  await truth();
  const before = hosts.map((host) => host.memory().now);

  /** Whom those who stay must be told of: users of hosts that go who have no device on one that stays. */
  const goneWith = (gone) => {
    const stay = new Set(all.filter((client) => !gone.includes(client)).flatMap(({ userId, rooms }) => rooms.map((room) => `${userId} ${room}`)));
    const left = new Set(gone.flatMap(({ userId, rooms }) => rooms.map((room) => `${userId} ${room}`)));
    return [...left].filter((one) => !stay.has(one)).toSorted();
  };
  const told = (watcher) => watcher.heard("user:left").map(({ userId, roomId }) => `${userId} ${roomId}`).toSorted();
  const forget = () => all.forEach((client) => client.clear());
  /** Waits until these have been told of these, each once. */
  const tells = async (stay, gone) => {
    const expected = goneWith(gone);
    await waitFor(() => stay.every((watcher) => told(watcher).length >= expected.length), () => `${expected.length} to be told of: ${stay.map((watcher) => told(watcher).length)}`, BURIED);
    return expected;
  };
  const everyoneBack = async () => {
    await waitFor(() => all.every(isBack), () => `all to be back: ${all.filter((client) => !isBack(client)).length} are not, ${all.find(({ failed }) => failed)?.failed}`, BURIED);
    await truth();
  };

  // One dies.
  forget();
  let since = performance.now();
  await hosts[0].kill();
  let expected = await tells(watchers.slice(1), on(hosts[0]));
  context.diagnostic(`one host died: ${expected.length} departures told after ${Math.round(performance.now() - since)} ms`);
  await truth(hosts.slice(1));
  for (const watcher of watchers.slice(1)) assert.deepEqual(told(watcher), expected);
  await hosts[0].start();
  await everyoneBack();

  // Two die together.
  forget();
  since = performance.now();
  await Promise.all([hosts[0].kill(), hosts[1].kill()]);
  expected = await tells([watchers[2]], [...on(hosts[0]), ...on(hosts[1])]);
  context.diagnostic(`two hosts died: ${expected.length} departures told after ${Math.round(performance.now() - since)} ms`);
  await truth([hosts[2]]);
  assert.deepEqual(told(watchers[2]), expected);
  await Promise.all([hosts[0].start(), hosts[1].start()]);
  await everyoneBack();

  // One only seems to: its clients come back as others.
  forget();
  since = performance.now();
  const connections = on(hosts[0]).map(({ id }) => id);
  await freeze(hosts[0].process);
  expected = await tells(watchers.slice(1), on(hosts[0]));
  for (const watcher of watchers.slice(1)) assert.deepEqual(told(watcher), expected);
  await waitFor(() => performance.now() - since > 15_000, "15 s", 20_000);
  thaw(hosts[0].process);
  await waitFor(() => on(hosts[0]).every(({ id }, n) => id !== connections[n]), "other connections", BURIED);
  await everyoneBack();
  for (const watcher of watchers.slice(1)) assert.deepEqual(told(watcher), expected, "told once, also when it is back");
  const grown = hosts[2].memory().now - before[2];
  context.diagnostic(`the host that stayed has grown by ${(grown / 1e6).toFixed(1)} MB`);
  assert.ok(grown < 32e6, `${grown} bytes`);
}, { timeout: 180_000 });

scenario("300 users come and go at random on three hosts, and in the end everybody knows who is where, and who is there at all", async (context) => {
  const random = generator(SEED + 1);
  const pick = (list) => list[Math.floor(random() * list.length)];
  context.diagnostic(`seed ${SEED}`);
  const { hosts } = await three({ presenceGrace: "1s", plugin: { rooms: { settings: { presence: "everyone" } } } });
  const watchers = await Promise.all(hosts.map((host, n) => connect(host, `watcher-${n}`)));
  const views = watchers.map((watcher) => {
    const view = new Map();
    watcher.socket.offAny();
    watcher.socket.on("user:status", ({ userId, status }) => view.set(userId, status));
    return view;
  });
  const ROOMS = Array.from({ length: 8 }, (_, n) => `room-${n}`);
  for (const roomId of ROOMS) await hosts[0].tell("room-create", { roomId, name: roomId }, { plugin: "rooms" });
  const there = new Set();
  const counts = { connects: 0, joins: 0, leaves: 0, disconnects: 0, cuts: 0 };
  const end = performance.now() + RESTLESS * 1_000;

  const step = async (userId, own) => {
    const client = own.length ? pick(own) : undefined;
    const choice = random();
    if (!client || (choice < 0.1 && own.length < 3)) {
      const next = await connect(pick(hosts), userId);
      next.socket.offAny();
      next.rooms = new Set();
      own.push(next);
      there.add(next);
      counts.connects += 1;
    } else if (choice < 0.55) {
      const room = pick(ROOMS);
      await join(client, room);
      client.rooms.add(room);
      counts.joins += 1;
    } else if (choice < 0.85) {
      const room = pick([...client.rooms]);
      if (!room) return;
      await client.must("room:leave", { roomId: room });
      client.rooms.delete(room);
      counts.leaves += 1;
    } else {
      own.splice(own.indexOf(client), 1);
      there.delete(client);
      if (choice < 0.92) {
        client.socket.disconnect();
        counts.disconnects += 1;
      } else {
        client.socket.io.engine.transport.ws.terminate();
        counts.cuts += 1;
      }
    }
  };
  const users = Array.from({ length: 300 }, async (_, n) => {
    const own = [];
    while (performance.now() < end) {
      await pause(50 + random() * 400);
      await step(`user-${n}`, own);
    }
  });
  await Promise.all(users);
  context.diagnostic(JSON.stringify(counts));
  for (const room of ROOMS) await known(hosts, room, () => [...there].filter(({ rooms }) => rooms.has(room)));
  for (const client of there) assert.ok(client.connected, client.userId);
  const online = [...new Set([...there].map(({ userId }) => userId))].toSorted();
  const seen = (view) => [...view].filter(([user, status]) => status === "online" && user.startsWith("user-")).map(([user]) => user).toSorted();
  await waitFor(
    () => views.every((view) => JSON.stringify(seen(view)) === JSON.stringify(online)),
    () => `${online.length} users to be seen online; they are ${views.map((view) => seen(view).length)}`,
  );
  assert.ok(counts.cuts > 10 && counts.disconnects > 10, JSON.stringify(counts));
}, { timeout: 60_000 + RESTLESS * 1_000 });
