// The plugin `rooms`: every line of its dialect, once right and once for each way to be wrong.

import assert from "node:assert/strict";
import { connect, settled, TRANSPORTS } from "./harness/clients.mjs";
import { hostForFile, scenario, startHost } from "./harness/scenario.mjs";

const host = hostForFile({ plugins: ["rooms", "lms", "probe"], presenceGrace: "300ms" });

let rooms = 0;
const newRoom = () => `room-${(rooms += 1)}`;
const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const UUID7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

for (const transport of TRANSPORTS) {
  const user = (name, options) => connect(host, name, { transport, claims: { username: `The ${name}` }, ...options });

  scenario(`two users join, chat, leave (${transport})`, async () => {
    const roomId = newRoom();
    const [alice, bob] = await Promise.all([user("alice"), user("bob")]);

    const joined = await alice.must("room:join", { roomId });
    assert.deepEqual(joined.room, { id: roomId, name: roomId, metadata: joined.room.metadata, memberCount: 1 });
    assert.equal((await bob.must("room:join", { roomId })).room.memberCount, 2);
    const told = await alice.next("user:joined");
    assert.deepEqual(told, { roomId, userId: "bob", username: "The bob", timestamp: told.timestamp });
    assert.match(told.timestamp, RFC3339);

    const sent = await alice.must("message", { roomId, content: "hello" });
    assert.match(sent.id, UUID7);
    assert.match(sent.timestamp, RFC3339);
    for (const client of [alice, bob]) {
      const message = await client.next("message");
      assert.deepEqual(message, {
        id: sent.id,
        roomId,
        userId: "alice",
        username: "The alice",
        content: "hello",
        type: "text",
        metadata: message.metadata,
        timestamp: sent.timestamp,
      });
    }
    await bob.must("message", { roomId, content: "photo.png", type: "image", metadata: { width: 3 } });
    const picture = await alice.next("message");
    assert.deepEqual([picture.type, picture.metadata], ["image", { width: 3 }]);

    await bob.must("room:leave", { roomId });
    const left = await alice.next("user:left");
    assert.deepEqual([left.roomId, left.userId], [roomId, "bob"]);
    bob.clear();
    await alice.must("message", { roomId, content: "anybody?" });
    await settled(alice, bob);
    assert.deepEqual(bob.heard("message"), []);
    assert.deepEqual(bob.heard("user:joined"), []);
    assert.deepEqual(alice.heard("user:joined"), [], "one's own joining is no news");
    assert.equal(await bob.code("message", { roomId, content: "I am out" }), "NOT_IN_ROOM");
  });

  scenario(`only the first and last connection of a user come and go (${transport})`, async () => {
    const roomId = newRoom();
    const [alice, one, two] = await Promise.all([user("alice"), user("bob"), user("bob")]);
    await alice.must("room:join", { roomId });
    await one.must("room:join", { roomId });
    await alice.next("user:joined");
    assert.equal((await two.must("room:join", { roomId })).room.memberCount, 2, "members are users");
    await one.must("room:leave", { roomId });
    await settled(alice);
    assert.deepEqual([alice.heard("user:joined"), alice.heard("user:left")], [[], []]);
    two.close();
    assert.equal((await alice.next("user:left")).userId, "bob", "a closed connection leaves");
  });

  scenario(`edits of a document are relayed to the others, binary too (${transport})`, async () => {
    const roomId = newRoom();
    const [alice, bob, stranger] = await Promise.all([user("alice"), user("bob"), user("stranger")]);
    for (const client of [alice, bob]) await client.must("room:join", { roomId });
    const changes = [{ at: 3, insert: "x" }];
    await alice.must("document:edit", { roomId, changes, cursor: { line: 1 } });
    assert.deepEqual(await bob.next("document:edit"), { roomId, userId: "alice", changes, cursor: { line: 1 } });
    const bytes = Buffer.from([0, 255, 7]);
    await alice.must("document:edit", { roomId, changes: bytes, cursor: 4 });
    assert.deepEqual(await bob.next("document:edit"), { roomId, userId: "alice", changes: bytes, cursor: 4 });
    await settled(alice);
    assert.deepEqual(alice.heard("document:edit"), []);
    assert.equal(await stranger.code("document:edit", { roomId, changes, cursor: 1 }), "NOT_IN_ROOM");
  });

  scenario(`a private room is for its members (${transport})`, async () => {
    const roomId = newRoom();
    await host.tell("room-create", { roomId, name: "Staff", visibility: "private", members: ["alice"], createdBy: "boss" });
    const [alice, eve] = await Promise.all([user("alice"), user("eve")]);
    assert.equal((await alice.must("room:join", { roomId })).room.name, "Staff");
    assert.equal(await eve.code("room:join", { roomId }), "FORBIDDEN");
    assert.equal(await eve.code("message", { roomId, content: "let me in" }), "NOT_IN_ROOM");
    await settled(alice);
    assert.deepEqual(alice.heard("message"), []);
  });
}

const user = (name) => connect(host, name, { claims: { username: name } });

scenario("payloads that are wrong name the argument", async () => {
  const roomId = newRoom();
  const client = await user("clumsy");
  await client.must("room:join", { roomId });
  const wrong = [
    ["roomId", "room:join", {}],
    ["roomId", "room:join", { roomId: 7 }],
    ["roomId", "room:join", { roomId: "" }],
    ["roomId", "room:join", { roomId: "a:b" }],
    ["roomId", "room:join", { roomId: "x".repeat(129) }],
    ["roomId", "room:join", { roomId: "ö" }],
    ["roomId", "room:leave", {}],
    ["content", "message", { roomId }],
    ["content", "message", { roomId, content: 7 }],
    ["content", "message", { roomId, content: "x".repeat(16_001) }],
    ["type", "message", { roomId, content: "x", type: "system" }],
    ["type", "message", { roomId, content: "x", type: "poem" }],
    ["roomId", "document:edit", { changes: 1, cursor: 1 }],
  ];
  for (const [argument, name, payload] of wrong) {
    const error = await client.error(name, payload);
    assert.equal(error.code, "INVALID_PAYLOAD", `${name} ${JSON.stringify(payload).slice(0, 60)}`);
    assert.match(error.message, new RegExp(argument), error.message);
  }
  for (const args of [[], ["text"], [null], [7], [[]]]) {
    assert.equal(await client.code("room:join", ...args), "INVALID_PAYLOAD", JSON.stringify(args));
  }
  await client.must("message", { roomId, content: "x".repeat(16_000) });
});

scenario("what one is not in, one cannot leave, write to or edit", async () => {
  const client = await user("outsider");
  const roomId = newRoom();
  await (await user("insider")).must("room:join", { roomId });
  for (const [name, payload] of [
    ["room:leave", {}],
    ["message", { content: "x" }],
    ["document:edit", { changes: 1, cursor: 1 }],
  ]) {
    assert.equal(await client.code(name, { roomId, ...payload }), "NOT_IN_ROOM", name);
  }
});

scenario("a crafted room id enters no other plugin's room", async () => {
  const client = await user("crafty");
  for (const roomId of ["../quiz:q:alice", "x:quiz", "quiz:q1:alice", "user:alice", "conversation:alice:bob"]) {
    assert.equal(await client.code("room:join", { roomId }), "INVALID_PAYLOAD", roomId);
  }
});

scenario("without createOnJoin a room must exist", async () => {
  const strict = await startHost({ plugins: ["rooms"], plugin: { rooms: { settings: { createOnJoin: false } } } });
  const client = await connect(strict, "early");
  assert.equal(await client.code("room:join", { roomId: "later" }), "NOT_FOUND");
  await strict.tell("room-create", { roomId: "later", name: "Later" });
  assert.equal((await client.must("room:join", { roomId: "later" })).room.name, "Later");
});

scenario("a backend makes, reads, lists and deletes rooms", async () => {
  const roomId = newRoom();
  const namespace = `space-${roomId}`;
  const made = await host.tell("room-create", { roomId, name: "Lounge", namespace, createdBy: "boss", metadata: { colour: "red" } });
  assert.equal((made.room ?? made).id, roomId);
  const taken = await host.post("room-create", { roomId, name: "Again" });
  assert.equal(taken.json.error.code, "CONFLICT");
  const withoutId = await host.tell("room-create", { name: "Nameless", namespace });
  assert.match((withoutId.room ?? withoutId).id, UUID7);

  const got = await host.tell("room-get", { roomId });
  assert.equal((got.room ?? got).name, "Lounge");
  assert.deepEqual((got.room ?? got).metadata, { colour: "red" });
  const listed = await host.tell("room-list", { namespace, limit: 1 });
  assert.equal(listed.rooms.length, 1);
  const rest = await host.tell("room-list", { namespace, after: listed.rooms[0].id, limit: 10 });
  assert.equal(rest.rooms.length, 1);
  assert.deepEqual(
    [listed.rooms[0].id, rest.rooms[0].id].sort(),
    [roomId, (withoutId.room ?? withoutId).id].sort(),
  );

  const [alice, bob] = await Promise.all([user("alice"), user("bob")]);
  for (const client of [alice, bob]) await client.must("room:join", { roomId });
  const members = await host.tell("room-members", { roomId });
  assert.deepEqual(members.members.map((member) => member.userId ?? member).sort(), ["alice", "bob"]);
  await alice.must("message", { roomId, content: "counted" });
  const stats = await host.tell("room-stats", { roomId });
  assert.deepEqual([stats.memberCount, stats.messageCount], [2, 1]);
  assert.match(stats.createdAt, RFC3339);
  assert.match(stats.lastActivity, RFC3339);

  await host.tell("room-delete", { roomId });
  assert.equal(await alice.code("message", { roomId, content: "gone" }), "NOT_IN_ROOM");
  for (const name of ["room-get", "room-members", "room-stats", "room-delete"]) {
    assert.equal((await host.post(name, { roomId })).json.error.code, "NOT_FOUND", name);
  }
});

scenario("a backend writes into a room, as a user or as the system", async () => {
  const roomId = newRoom();
  const alice = await user("alice");
  await alice.must("room:join", { roomId });
  const sent = await host.tell("message-send", { roomId, userId: "bot", content: "beep", type: "system", metadata: { a: 1 } });
  const message = await alice.next("message");
  assert.deepEqual(
    [message.id, message.userId, message.content, message.type, message.metadata],
    [sent.id, "bot", "beep", "system", { a: 1 }],
  );
  assert.equal((await host.post("message-send", { roomId: "no-such-room", userId: "bot", content: "x" })).json.error.code, "NOT_FOUND");
  assert.equal((await host.post("message-send", { roomId, userId: "bot" })).json.error.code, "INVALID_PAYLOAD");
});

scenario("a backend notifies users and announces to everyone", async () => {
  const [alice, second, bob] = await Promise.all([user("alice"), user("alice"), user("bob")]);
  await host.tell("notification", { userIds: ["alice", "nobody"], title: "Tea", body: { cups: 2 } }, { plugin: "rooms" });
  for (const client of [alice, second]) {
    const told = await client.next("notification");
    assert.deepEqual([told.title, told.body], ["Tea", { cups: 2 }]);
    assert.equal(told.userIds, undefined, "who else was told is nobody's business");
  }
  await host.tell("system-announcement", { message: "closing at six", except: [bob.id] });
  for (const client of [alice, second]) assert.equal((await client.next("system:announcement")).message, "closing at six");
  await settled(bob);
  assert.deepEqual([bob.heard("notification"), bob.heard("system:announcement")], [[], []]);
});
