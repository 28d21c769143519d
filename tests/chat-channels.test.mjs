// The plugin `chat` and channels of Redis: what others say there, and what they are told of clients.

import assert from "node:assert/strict";
import { connect, settled } from "./harness/clients.mjs";
import { makeConversation, next, RFC3339, receive, say } from "./harness/conversations.mjs";
import { waitFor } from "./harness/deadline.mjs";
import { redisClient } from "./harness/node.mjs";
import { Redis } from "./harness/redis.mjs";
import { preparedHost, scenario, startHost } from "./harness/scenario.mjs";

/** The channels, and the members of their messages by which they are in order. */
const KEYS = {
  "message:new": "conversationId",
  "message:edited": "messageId",
  "message:deleted": "messageId",
  "message:receipt": "userId",
  "presence:update": "userId",
  "typing:start": "userId",
  "typing:stop": "userId",
};

/** Two hosts that hear and publish to all of them, and a conversation of ann, on one, and bob, on the other. */
async function begin() {
  const redis = await Redis.start();
  const options = {
    plugins: ["chat"],
    redisPort: redis.port,
    plugin: { chat: { channels: ["message:*", "presence:update", "typing:*"], settings: { publish: true } } },
    channels: Object.fromEntries(Object.entries(KEYS).map(([name, key]) => [name, { plugin: "chat", key }])),
  };
  const hosts = await Promise.all([startHost(options), startHost(options)]);
  const backend = await redisClient(redis);
  const c = await makeConversation(hosts[0], ["ann", "bob"]);
  const arrivals = await listenTo(redis, ["presence:update"]);
  const [ann, bob] = await Promise.all([connect(hosts[0], "ann"), connect(hosts[1], "bob")]);
  for (const client of [ann, bob]) await client.must("join-room", c);
  // Hosts that have just started put off telling of who comes.
  const hasCome = (user) => arrivals.some(([, { userId, status }]) => userId === user && status === "online");
  await waitFor(() => ["ann", "bob"].every(hasCome), "ann and bob to be told of", 10_000);
  return { redis, hosts, backend, publish: (name, data) => backend.publish(name, JSON.stringify(data)), c, ann, bob };
}

/** Notes what is published to channels: their names, and what was said. */
async function listenTo(redis, channels) {
  const published = [];
  const listener = await redisClient(redis);
  await listener.subscribe(channels, (text, channel) => published.push([channel, JSON.parse(text)]));
  return published;
}

/** How often a device of the author has been answered. */
const acknowledged = (client, tempId) => client.heard("message-ack").filter((it) => it === tempId).length;

scenario("what others say on channels is heard as their users'", async () => {
  const { publish, c, ann, bob } = await begin();
  await publish("message:new", { userId: "ann", tempId: "told", conversationId: c, content: "hello" });
  const [tempId, messageId] = await next(ann, "message-ack");
  assert.equal(tempId, "told");
  for (const client of [ann, bob]) assert.equal((await client.next("message-new")).id, messageId);
  for (const type of ["delivered", "seen"]) {
    await publish("message:receipt", { userId: "bob", messageId, type });
    assert.deepEqual(await next(ann, "receipt"), [messageId, "bob", type]);
  }
  await publish("message:edited", { userId: "ann", messageId, content: "better" });
  for (const client of [ann, bob]) assert.equal((await client.next("message-edited")).content, "better");
  await publish("message:deleted", { userId: "root", role: "admin", messageId });
  for (const client of [ann, bob]) assert.deepEqual(await next(client, "message-deleted"), [messageId]);
  await publish("presence:update", { userId: "bob", status: "away" });
  await ann.nextEvent("presence", (user, status) => user === "bob" && status === "away");
  await publish("typing:start", { userId: "bob", conversationId: c });
  assert.deepEqual(await next(ann, "typing"), ["bob", c]);
  await publish("typing:stop", { userId: "bob", conversationId: c });
  // Long before it would end by itself.
  assert.deepEqual((await ann.nextEvent("typing-stop", undefined, 2_500)).args, ["bob", c]);
});

scenario("what others say is done once, what clients do is told, and nothing goes round", async () => {
  const { redis, hosts, backend, publish, c, ann, bob } = await begin();

  const outcome = async (channel, name) => {
    const texts = await Promise.all(hosts.map(async (one) => (await one.request("/metrics")).text));
    const line = `switchboard_channel_messages_total{channel="${channel}",outcome="${name}"} `;
    const counts = texts.flatMap((text) => text.split("\n").filter((it) => it.startsWith(line)));
    return counts.reduce((sum, it) => sum + Number(it.slice(line.length)), 0);
  };
  const told = (content) => ({ userId: "ann", tempId: content, conversationId: c, content });
  await backend.publish("message:new", "no JSON");
  await publish("message:new", { userId: "ann" });
  await publish("message:new", told("from elsewhere"));
  for (const client of [ann, bob]) assert.equal((await client.next("message-new")).content, "from elsewhere");
  await publish("typing:start", { userId: "ann", conversationId: c });
  assert.deepEqual(await next(bob, "typing"), ["ann", c]);
  await publish("presence:update", { userId: "bob", status: "away" });
  await ann.nextEvent("presence", (user, status) => user === "bob" && status === "away");

  const published = await listenTo(redis, Object.keys(KEYS));
  const id = await say(ann, c, "from a client");
  assert.equal((await receive(bob)).id, id);
  await bob.must("message-seen", id);
  await ann.must("message-edit", { messageId: id, content: "better" });
  await ann.must("message-delete", id);
  await bob.must("typing-start", c);
  assert.deepEqual(await next(ann, "typing"), ["bob", c]);
  await bob.must("typing-stop", c);
  await bob.must("presence-update", "online");
  const base = { messageId: id, conversationId: c, origin: "switchboard" };
  const of = (name) => published.filter(([channel, it]) => channel === name && it.origin).map(([, it]) => it);
  const isBack = ({ status }) => status === "online";
  await waitFor(() => ["message:deleted", "typing:stop"].every((name) => of(name).length > 0), "all to be published");
  await waitFor(() => of("presence:update").some(isBack), "presence to be published");
  const [created] = of("message:new");
  assert.match(created.createdAt, RFC3339);
  assert.deepEqual(of("message:new"), [
    { ...base, userId: "ann", tempId: created.tempId, content: "from a client", replyTo: null, createdAt: created.createdAt },
  ]);
  assert.deepEqual(of("message:edited").map(({ editedAt, ...rest }) => rest), [{ ...base, userId: "ann", content: "better" }]);
  assert.deepEqual(of("message:deleted"), [{ ...base, userId: "ann", role: "student" }]);
  assert.deepEqual(of("message:receipt").at(-1), { ...base, userId: "bob", type: "seen" });
  const typist = { userId: "bob", conversationId: c, origin: "switchboard" };
  for (const name of ["typing:start", "typing:stop"]) assert.deepEqual(of(name), [typist]);
  assert.deepEqual(of("presence:update").filter(isBack), [{ userId: "bob", status: "online", origin: "switchboard" }]);

  // A last message of another's, behind which everything that came back has been handled.
  await publish("message:new", told("last"));
  await ann.next("message-new", (it) => it.content === "last");
  await waitFor(async () => await outcome("typing:start", "ok") >= 2, "the typing that came back to be handled");
  await settled(ann, bob);
  assert.deepEqual(ann.heard("typing"), []);
  assert.equal(acknowledged(ann, created.tempId), 1);
  const { messages } = await ann.must("conversation-history", { conversationId: c });
  assert.deepEqual(messages.map((it) => it.content), ["from elsewhere", null, "last"]);
  assert.deepEqual(ann.heard("message-new").map((it) => it.content), []);
  await waitFor(async () => await outcome("message:new", "failed") >= 1, "the malformed one to be counted");
});

scenario("channels and origin have the names that the operator gives", async () => {
  const redis = await Redis.start();
  const settings = { publish: true, origin: "north", channels: { "message:new": "chat.new", "typing:start": "chat.typing" } };
  const host = await startHost({
    plugins: ["chat"],
    redisPort: redis.port,
    plugin: { chat: { channels: ["chat.*", "message:*", "typing:*"], settings } },
    channels: { "chat.new": { event: "message:new", plugin: "chat", key: "conversationId" } },
  });
  const c = await makeConversation(host, ["ann", "bob"]);
  const ann = await connect(host, "ann");
  await ann.must("join-room", c);
  const published = await listenTo(redis, ["chat.new", "chat.typing", "message:new", "typing:start", "typing:stop"]);
  await say(ann, c);
  await ann.must("typing-start", c);
  await ann.must("typing-stop", c);
  await waitFor(() => published.length >= 3, () => `all to be published: ${JSON.stringify(published)}`);
  assert.deepEqual(published.map(([channel, { origin }]) => [channel, origin]).sort(), [
    ["chat.new", "north"], ["chat.typing", "north"], ["typing:stop", "north"],
  ]);
  // Its own comes back and is passed over, and another Switchboard's, which is behind it, is done.
  const [, { tempId }] = published.find(([channel]) => channel === "chat.new");
  const told = { userId: "bob", tempId: "told", conversationId: c, content: "from the south", origin: "switchboard" };
  await (await redisClient(redis)).publish("chat.new", JSON.stringify(told));
  assert.equal((await ann.next("message-new")).content, "from the south");
  await settled(ann);
  assert.equal(acknowledged(ann, tempId), 1);
});

scenario("without Redis, or a grant, a client's event does not fail for publishing", async () => {
  const own = await startHost({ plugins: ["chat"], plugin: { chat: { settings: { publish: true } } } });
  const c = await makeConversation(own, ["ann", "bob"]);
  const [ann, bob] = await Promise.all([connect(own, "ann"), connect(own, "bob")]);
  const id = await say(ann, c);
  assert.equal((await receive(bob)).id, id);
  await waitFor(() => own.log().includes("`message:new` is not published"), "a line in the log");
});

scenario("a wrong setting is refused by its name", async () => {
  const own = preparedHost({ plugins: ["chat"], plugin: { chat: { settings: { publsh: true } } } });
  await own.start().catch(() => undefined);
  await waitFor(() => own.log().includes("publsh"), "the setting's name in the log");
});

