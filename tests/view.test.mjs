// What hosts keep in Redis for other services to read: the truth, on all of them and after all that ends
// connections.

import assert from "node:assert/strict";
import { connect } from "./harness/clients.mjs";
import { waitFor } from "./harness/deadline.mjs";
import { Redis } from "./harness/redis.mjs";
import { scenario, startHost } from "./harness/scenario.mjs";

/** How long it takes until a host that died without a word is dealt with, at most. */
const BURIED = 30_000;

const OPTIONS = { plugins: ["chat"], presenceGrace: "1s", view: true };

/** Reads what a host keeps under a prefix. */
function reader(redis, prefix = "switchboard:view:") {
  const words = (text) => text.split("\n").filter(Boolean).toSorted();
  const command = (name, key) => redis.command(name, `${prefix}${key}`);
  const json = (key) => JSON.parse(command("get", key) || "null");
  return {
    sockets: (user) => words(command("smembers", `user:${user}:sockets`)),
    rooms: (user) => words(command("smembers", `user:${user}:rooms`)),
    users: (room) => words(command("smembers", `room:${room}:users`)),
    presence: (user) => json(`presence:${user}`),
    typing: (room, user) => json(`typing:${room}:${user}`),
    lives: (key) => Number(command("ttl", key)),
  };
}

const becomes = (read, expected, milliseconds) => waitFor(
  () => JSON.stringify(read()) === JSON.stringify(expected),
  () => `${JSON.stringify(expected)} to be read; it is ${JSON.stringify(read())}`,
  milliseconds,
);

const conversation = (host, conversationId, members) =>
  host.tell("conversation-create", { conversationId, members }, { plugin: "chat" });

scenario("connections, rooms, presence and typing are there to be read, by the names of one's choice", async () => {
  const redis = await Redis.start();
  const options = { ...OPTIONS, plugins: ["chat", "lms"], redisPort: redis.port, viewPrefix: "", viewRooms: "chat", typingTimeout: "3s" };
  const hosts = [await startHost(options), await startHost(options)];
  const view = reader(redis, "");
  await conversation(hosts[0], "c1", ["ann", "ben"]);
  const [phone, laptop, ben] = [await connect(hosts[0], "ann"), await connect(hosts[1], "ann"), await connect(hosts[1], "ben")];
  for (const client of [phone, ben]) await client.must("join-room", "c1");
  await becomes(() => view.sockets("ann"), [phone.id, laptop.id].toSorted(), 10_000);
  await becomes(() => view.rooms("ann"), ["c1"]);
  await becomes(() => view.users("c1"), ["ann", "ben"]);
  await becomes(() => view.presence("ann")?.socketIds, [phone.id, laptop.id].toSorted());
  const { userId, status, lastSeenAt } = view.presence("ann");
  assert.deepEqual([userId, status], ["ann", "online"]);
  assert.ok(Math.abs(Date.parse(lastSeenAt) - Date.now()) < 60_000, lastSeenAt);
  for (const key of ["user:ann:sockets", "user:ann:rooms", "room:c1:users", "presence:ann"]) {
    const lives = view.lives(key);
    assert.ok(lives > 3_000 && lives <= 3_600, `${key} lives ${lives} s`);
  }

  // Who goes on typing is written anew; who stops is gone.
  const since = Date.now();
  await phone.must("typing-start", "c1");
  await becomes(() => view.typing("c1", "ann")?.isTyping, true);
  assert.equal(view.typing("c1", "ann").userId, "ann");
  const left = view.lives("typing:c1:ann");
  assert.ok(left > 0 && left <= 10, `it lives ${left} s`);
  await waitFor(async () => {
    await phone.must("typing-start", "c1");
    return Date.parse(view.typing("c1", "ann").lastTypingAt) > since + 4_000;
  }, "it to be written anew", 20_000);
  await becomes(() => view.typing("c1", "ann"), null, 10_000);

  // To other services who is busy is away.
  for (const [status, shown] of [["busy", "away"], ["online", "online"], ["away", "away"]]) {
    await phone.must("set-presence", status);
    await becomes(() => view.presence("ann").status, shown);
  }
  await phone.must("leave-room", "c1");
  await becomes(() => view.users("c1"), ["ben"]);
  await becomes(() => view.rooms("ann"), []);
  phone.close();
  await becomes(() => view.sockets("ann"), [laptop.id]);
  laptop.close();
  await becomes(() => [view.sockets("ann"), view.presence("ann").status, view.presence("ann").socketIds], [[], "offline", []]);
  const lives = view.lives("presence:ann");
  assert.ok(lives > 200 && lives <= 300, `what is seen of who is offline lives ${lives} s`);
});

scenario("what a host had that dies is gone, and all is there again when Redis was away", async () => {
  const redis = await Redis.start();
  const options = { ...OPTIONS, redisPort: redis.port };
  const [dying, staying] = [await startHost(options), await startHost(options)];
  const view = reader(redis);
  await conversation(staying, "c1", ["ann", "ben"]);
  const [ann, phone, ben] = [await connect(dying, "ann"), await connect(dying, "ben"), await connect(staying, "ben")];
  for (const client of [ann, phone, ben]) await client.must("join-room", "c1");
  await becomes(() => view.users("chat:c1"), ["ann", "ben"], 10_000);
  await becomes(() => view.sockets("ben"), [phone.id, ben.id].toSorted());
  await dying.kill();
  await becomes(() => view.users("chat:c1"), ["ben"], BURIED);
  await becomes(() => [view.sockets("ann"), view.presence("ann").status, view.sockets("ben")], [[], "offline", [ben.id]]);

  await redis.kill();
  await redis.start();
  redis.command("flushall");
  await becomes(() => [view.users("chat:c1"), view.sockets("ben"), view.presence("ben")?.status], [["ben"], [ben.id], "online"], 20_000);

  // Who is the last leaves nothing behind.
  await staying.stop();
  assert.deepEqual([view.users("chat:c1"), view.sockets("ben"), view.presence("ben").status], [[], [], "offline"]);
});

scenario("who was there when the only host died without a word is not in rooms that are used again", async () => {
  const redis = await Redis.start();
  const options = { ...OPTIONS, redisPort: redis.port };
  const view = reader(redis);
  const dying = await startHost(options);
  await conversation(dying, "c1", ["ann", "ben"]);
  for (const name of ["ann", "ben"]) await (await connect(dying, name)).must("join-room", "c1");
  await becomes(() => view.users("chat:c1"), ["ann", "ben"], 10_000);
  await dying.kill();
  const next = await startHost(options);
  await (await connect(next, "ben")).must("join-room", "c1");
  await becomes(() => view.users("chat:c1"), ["ben"], BURIED);
});

scenario("a key that another service has taken keeps nobody else's from being written", async () => {
  const redis = await Redis.start();
  const host = await startHost({ ...OPTIONS, redisPort: redis.port });
  const view = reader(redis);
  redis.command("set", "switchboard:view:user:ann:rooms", "taken");
  const [ann, ben] = [await connect(host, "ann"), await connect(host, "ben")];
  await becomes(() => view.sockets("ben"), [ben.id], 10_000);
  await waitFor(() => host.log().includes("cannot be written"), "a line in the log", 10_000);
  assert.match(host.log(), /user ann/);
  redis.command("del", "switchboard:view:user:ann:rooms");
  await becomes(() => view.sockets("ann"), [ann.id], 10_000);
  await waitFor(() => host.log().includes("written again"), "a line in the log", 10_000);
});

scenario("it takes a Redis that hosts share, and the prefix of rooms", async () => {
  const redis = await Redis.start();
  const alone = startHost({ ...OPTIONS, redisPort: redis.port, clusterEnabled: false });
  await assert.rejects(alone, /cluster\.view: needs a Redis/);
  const odd = startHost({ ...OPTIONS, redisPort: redis.port, viewRooms: "chat:" });
  await assert.rejects(odd, /view_rooms[^]*room prefix/);
});
