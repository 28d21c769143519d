// What users are seen as: on one host and on several, through everything that ends connections.

import assert from "node:assert/strict";
import { connect, settled } from "./harness/clients.mjs";
import { waitFor } from "./harness/deadline.mjs";
import { Redis } from "./harness/redis.mjs";
import { scenario, startHost } from "./harness/scenario.mjs";

/** How long it takes until a host that died without a word is dealt with, at most. */
const BURIED = 30_000;

const PLUGINS = { plugins: ["lms", "rooms"], state: "memory", presenceGrace: "3s" };

async function cluster(size) {
  const redis = await Redis.start();
  const host = () => startHost({ ...PLUGINS, redisPort: redis.port });
  return { redis, host, hosts: await Promise.all(Array.from({ length: size }, host)) };
}

/** A student of the course `c1`, in its room unless told otherwise. */
async function student(host, name, { joins = true, ...options } = {}) {
  const client = await connect(host, name, { claims: { enrolledCourses: ["c1"] }, ...options });
  if (joins) await client.must("join-course", "c1");
  return client;
}

/** What a client was told of a user, in order. */
const told = (client, userId) => client.heard("user-presence").filter((news) => news.userId === userId).map(({ status }) => status);

const hears = (client, userId, expected, milliseconds) => waitFor(
  () => JSON.stringify(told(client, userId)) === JSON.stringify(expected),
  () => `${client.userId} to hear that ${userId} is ${expected}; heard ${told(client, userId)}`,
  milliseconds,
);

/** What a client's host says of users with whom it shares a room. */
const seen = async (client, ...users) => {
  const { presence } = await client.must("get-presence", users);
  return Object.fromEntries(presence.map(({ userId, status }) => [userId, status]));
};

const sees = (client, expected) => waitFor(
  async () => JSON.stringify(await seen(client, ...Object.keys(expected))) === JSON.stringify(expected),
  async () => `${JSON.stringify(expected)} to be seen; it is ${JSON.stringify(await seen(client, ...Object.keys(expected)))}`,
);

scenario("a user is what they choose, or are: online, and away when they do nothing", async () => {
  const host = await startHost({ ...PLUGINS, presenceIdle: "3s" });
  const ann = await student(host, "ann");
  const busy = setInterval(() => ann.emit("get-presence", []), 200);
  try {
    const ben = await student(host, "ben");
    await hears(ann, "ben", ["online"]);
    await hears(ann, "ben", ["online", "away"]);
    const [away] = (await ann.must("get-presence", ["ben"])).presence;
    assert.equal(away.status, "away");
    assert.ok(Date.now() - Date.parse(away.lastSeenAt) >= 2_900, away.lastSeenAt);
    // Neither a heartbeat nor the end of typing is a sign of life; anything else is, at once.
    await ben.code("heartbeat");
    await ben.must("stop-typing", "course:c1");
    assert.equal((await seen(ann, "ben")).ben, "away");
    await ben.must("start-typing", "course:c1");
    await hears(ann, "ben", ["online", "away", "online"]);
    for (const status of ["busy", "away", "offline", "online"]) {
      ann.clear();
      await ben.must("set-presence", status);
      await hears(ann, "ben", [status]);
      assert.deepEqual(await seen(ann, "ben", "stranger"), { ben: status });
    }
    assert.equal(await ben.code("set-presence", "dancing"), "INVALID_PAYLOAD");
    assert.deepEqual(ben.heard("user-presence").filter(({ userId }) => userId === "ben"), [], "one's own is no news");
  } finally {
    clearInterval(busy);
  }
});

scenario("who comes back in time was never gone; who does not has left and is offline, once", async () => {
  const host = await startHost(PLUGINS);
  const ann = await student(host, "ann");
  await ann.must("room:join", { roomId: "r" });
  const first = await student(host, "ben");
  await first.must("room:join", { roomId: "r" });
  await first.must("set-presence", "busy");
  await hears(ann, "ben", ["online", "busy"]);
  ann.clear();
  first.close();
  const again = await student(host, "ben");
  await again.must("room:join", { roomId: "r" });
  assert.deepEqual(await seen(ann, "ben"), { ben: "busy" }, "what was chosen holds");
  again.close();
  await hears(ann, "ben", ["offline"]);
  assert.equal((await ann.next("user:left")).userId, "ben");
  const status = () => ann.heard("user:status").filter(({ userId }) => userId === "ben");
  await waitFor(() => status().length > 0, "both plugins to tell of it");
  await settled(ann);
  assert.deepEqual(status(), [{ userId: "ben", status: "offline" }]);
  assert.deepEqual(ann.heard("user:joined"), []);
  assert.deepEqual(ann.heard("user:left"), []);
  const third = await student(host, "ben");
  await hears(ann, "ben", ["offline", "online"]);
  assert.deepEqual(await seen(ann, "ben"), { ben: "online" }, "what was chosen ended with the last connection");
  third.close();
});

scenario("devices on several hosts are one user, and each change is told once", async () => {
  const { hosts } = await cluster(3);
  const watchers = await Promise.all(hosts.map((host, n) => student(host, `watcher-${n}`)));
  const phone = await student(hosts[0], "ben");
  for (const watcher of watchers) await hears(watcher, "ben", ["online"]);
  for (const watcher of watchers) await sees(watcher, { ben: "online" });
  const laptop = await student(hosts[1], "ben");
  await laptop.must("set-presence", "busy");
  for (const watcher of watchers) await hears(watcher, "ben", ["online", "busy"]);
  for (const watcher of watchers) await sees(watcher, { ben: "busy" });
  // Chosen on one, unchosen on the other.
  await phone.must("set-presence", "online");
  for (const watcher of watchers) await hears(watcher, "ben", ["online", "busy", "online"]);
  const others = (expected) => waitFor(async () => {
    const counts = await Promise.all(hosts.map(async (host) => (await host.request("/metrics")).text));
    return counts.every((text, n) => text.includes(`switchboard_other_connections ${expected[n]}\n`));
  }, `${expected} connections of others`);
  phone.close();
  // Where two of one's connections end on two hosts at once, each host takes the other one to be there.
  await others([3, 2, 3]);
  // One's last connection ends on one host, and the next begins on another in time.
  laptop.close();
  const tablet = await student(hosts[2], "ben");
  await others([3, 3, 2]);
  for (const watcher of watchers) await sees(watcher, { ben: "online" });
  tablet.close();
  for (const watcher of watchers) await hears(watcher, "ben", ["online", "busy", "online", "offline"]);
});

scenario("when a host dies its users are offline, each told once, but those with a device elsewhere", async () => {
  const { hosts } = await cluster(3);
  const [dying, ...others] = hosts;
  const watchers = await Promise.all(others.map((host, n) => student(host, `watcher-${n}`)));
  const users = Array.from({ length: 40 }, (_, n) => `user-${n}`);
  await Promise.all(users.map((name) => student(dying, name)));
  const staying = users.slice(0, 5);
  // Who joins on two hosts at once may be the first on both.
  await sees(watchers[0], Object.fromEntries(users.map((user) => [user, "online"])));
  await Promise.all(staying.map((name) => student(others[0], name)));
  // One has just gone, and lingers there.
  const lingering = await student(dying, "lingering");
  for (const watcher of watchers) await hears(watcher, "lingering", ["online"]);
  for (const watcher of watchers) await sees(watcher, Object.fromEntries(users.map((user) => [user, "online"])));
  lingering.close();
  await dying.kill();
  for (const watcher of watchers) {
    for (const user of [...users.slice(5), "lingering"]) await hears(watcher, user, ["online", "offline"], BURIED);
    await settled(watcher);
    for (const user of staying) assert.deepEqual(told(watcher, user), ["online"], user);
    await sees(watcher, Object.fromEntries(staying.map((user) => [user, "online"])));
  }
}, { timeout: 90_000 });

scenario("a host that ends in order gives its users time to come back elsewhere", async () => {
  const { hosts } = await cluster(3);
  const [ending, ...others] = hosts;
  const watchers = await Promise.all(others.map((host, n) => student(host, `watcher-${n}`)));
  const [back, gone] = [await student(ending, "back"), await student(ending, "gone")];
  for (const client of [back, gone]) await client.must("room:join", { roomId: "r" });
  for (const watcher of watchers) await watcher.must("room:join", { roomId: "r" });
  for (const watcher of watchers) {
    for (const user of ["back", "gone"]) await hears(watcher, user, ["online"]);
    watcher.clear();
  }
  const stopped = ending.stop();
  const again = await student(others[0], "back");
  await again.must("room:join", { roomId: "r" });
  await stopped;
  for (const watcher of watchers) {
    await hears(watcher, "gone", ["offline"]);
    await waitFor(() => watcher.heard("user:left").length > 0, "the one who did not come back to leave");
    await settled(watcher);
    assert.deepEqual(watcher.heard("user:left").map(({ userId }) => userId), ["gone"]);
    assert.deepEqual(told(watcher, "back"), []);
    assert.deepEqual(watcher.heard("user:joined").filter(({ userId }) => userId === "back"), []);
  }
  // Who is alone tells of all before it ends.
  await others[1].stop();
  const last = others[0];
  await waitFor(async () => (await last.request("/metrics")).text.includes("switchboard_other_hosts 0\n"), "it to be alone");
  await last.stop();
  assert.doesNotMatch(last.tail(), /panicked|not everything ended/);
});

scenario("presence is whole again after Redis was away, and a host that starts later knows it", async () => {
  const { redis, host, hosts } = await cluster(2);
  const [here, there] = hosts;
  const watcher = await student(here, "watcher");
  const [leaves, stays] = [await student(there, "leaves"), await student(there, "stays")];
  await stays.must("set-presence", "busy");
  await hears(watcher, "stays", ["online", "busy"]);
  await hears(watcher, "leaves", ["online"]);
  await redis.kill();
  await waitFor(async () => (await there.request("/readyz")).text.includes("out of reach"), "the host to notice");
  leaves.close();
  const comes = await connect(there, "comes", { claims: { enrolledCourses: ["c1"] } });
  await redis.start();
  await hears(watcher, "leaves", ["online", "offline"]);
  await comes.must("join-course", "c1");
  await hears(watcher, "comes", ["online"]);
  const late = await student(await host(), "late");
  await sees(late, { comes: "online", stays: "busy", watcher: "online" });
  await settled(watcher);
  assert.deepEqual(told(watcher, "stays"), ["online", "busy"], "of whom nothing has changed nothing is told");
});
