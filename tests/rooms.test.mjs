// The plugin `rooms`: every line of its dialect, once right and once for each way to be wrong.

import assert from "node:assert/strict";
import { connect, settled, TRANSPORTS } from "./harness/clients.mjs";
import { waitFor } from "./harness/deadline.mjs";
import { frames } from "./harness/frames.mjs";
import { Redis } from "./harness/redis.mjs";
import { hostForFile, scenario, startHost } from "./harness/scenario.mjs";
import { SUITES } from "./harness/suites.mjs";
import { mint } from "./harness/tokens.mjs";

const host = hostForFile(SUITES.rooms);

let rooms = 0;
const newRoom = () => `room-${(rooms += 1)}`;
const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const spoken = ({ messages }) => messages.map(({ content }) => content).join("");
const UUID7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

for (const transport of TRANSPORTS) {
  const user = (name, options) => connect(host, name, { transport, claims: { username: `The ${name}` }, ...options });

  scenario(`two users join, chat, leave (${transport})`, async () => {
    const roomId = newRoom();
    const [rita, rob] = await Promise.all([user("rita"), user("rob")]);

    const joined = await rita.must("room:join", { roomId });
    assert.deepEqual(joined.room, { id: roomId, name: roomId, metadata: joined.room.metadata, memberCount: 1 });
    assert.equal((await rob.must("room:join", { roomId })).room.memberCount, 2);
    const told = await rita.next("user:joined");
    assert.deepEqual(told, { roomId, userId: "rob", username: "The rob", timestamp: told.timestamp });
    assert.match(told.timestamp, RFC3339);

    const sent = await rita.must("message", { roomId, content: "hello" });
    assert.match(sent.id, UUID7);
    assert.match(sent.timestamp, RFC3339);
    for (const client of [rita, rob]) {
      const message = await client.next("message");
      assert.deepEqual(message, {
        id: sent.id,
        roomId,
        userId: "rita",
        username: "The rita",
        content: "hello",
        type: "text",
        metadata: message.metadata,
        timestamp: sent.timestamp,
      });
    }
    await rob.must("message", { roomId, content: "photo.png", type: "image", metadata: { width: 3 } });
    const picture = await rita.next("message");
    assert.deepEqual([picture.type, picture.metadata], ["image", { width: 3 }]);

    await rob.must("room:leave", { roomId });
    const left = await rita.next("user:left");
    assert.deepEqual([left.roomId, left.userId], [roomId, "rob"]);
    rob.clear();
    await rita.must("message", { roomId, content: "anybody?" });
    await settled(rita, rob);
    assert.deepEqual(rob.heard("message"), []);
    assert.deepEqual(rob.heard("user:joined"), []);
    assert.deepEqual(rita.heard("user:joined"), [], "one's own joining is no news");
    assert.equal(await rob.code("message", { roomId, content: "I am out" }), "NOT_IN_ROOM");
  });

  scenario(`only the first and last connection of a user come and go (${transport})`, async () => {
    const roomId = newRoom();
    const [rita, one, two] = await Promise.all([user("rita"), user("rob"), user("rob")]);
    await rita.must("room:join", { roomId });
    await one.must("room:join", { roomId });
    await rita.next("user:joined");
    assert.equal((await two.must("room:join", { roomId })).room.memberCount, 2, "members are users");
    await one.must("room:leave", { roomId });
    await settled(rita);
    assert.deepEqual([rita.heard("user:joined"), rita.heard("user:left")], [[], []]);
    two.close();
    assert.equal((await rita.next("user:left")).userId, "rob", "a closed connection leaves");
  });

  scenario(`who comes, goes and comes again is online, offline and online (${transport})`, async () => {
    const roomId = newRoom();
    const returning = `returning-${roomId}`;
    const rita = await user("rita");
    await rita.must("room:join", { roomId });
    const status = async () => {
      const { status } = await rita.next("user:status", ({ userId }) => userId === returning);
      await settled(rita);
      assert.deepEqual(rita.heard("user:status").filter(({ userId }) => userId === returning), [], "told once");
      return status;
    };
    for (const time of ["first", "second"]) {
      const client = await user(returning);
      await client.must("room:join", { roomId });
      assert.equal(await status(), "online", time);
      assert.deepEqual(client.heard("user:status").filter(({ userId }) => userId === returning), []);
      client.close();
      assert.equal(await status(), "offline", time);
    }
  });

  scenario(`a room's messages are read page by page (${transport})`, async () => {
    const roomId = newRoom();
    const [rita, roomless] = await Promise.all([user("rita"), user("roomless")]);
    await rita.must("room:join", { roomId });
    const ids = [];
    for (const content of "abcde") ids.push((await rita.must("message", { roomId, content })).id);
    for (const [request, contents, hasMore] of [
      [{}, "abcde", false],
      [{ limit: 5 }, "abcde", false],
      [{ limit: 2 }, "de", true],
      [{ limit: 2, before: ids[3] }, "bc", true],
      [{ limit: 2, before: ids[2] }, "ab", false],
      [{ before: ids[0] }, "", false],
      [{ limit: 3, offset: 1 }, "bcd", true],
      [{ limit: 2, offset: 1, before: ids[4] }, "bc", true],
      [{ offset: 4 }, "a", false],
      [{ offset: 9 }, "", false],
    ]) {
      const pages = [await rita.must("history", { roomId, ...request }), await host.tell("message-page", { roomId, ...request })];
      for (const page of pages) assert.deepEqual([spoken(page), page.hasMore], [contents, hasMore], JSON.stringify(request));
    }
    const heard = await rita.next("message", ({ id }) => id === ids[4]);
    assert.deepEqual((await rita.must("history", { roomId, limit: 1 })).messages, [heard], "as it was heard");
    assert.equal(await roomless.code("history", { roomId }), "NOT_IN_ROOM");
    assert.equal(await rita.code("history", { roomId, before: "no-such-message" }), "NOT_FOUND");
    for (const request of [{ roomId, before: "no-such-message" }, { roomId: "no-such-room" }]) {
      assert.equal((await host.post("message-page", request)).json.error.code, "NOT_FOUND", JSON.stringify(request));
    }
  });

  scenario(`the others hear who types (${transport})`, async () => {
    const roomId = newRoom();
    const [rita, rob] = await Promise.all([user("rita"), user("rob")]);
    for (const client of [rita, rob]) await client.must("room:join", { roomId });
    for (const isTyping of [true, false]) {
      await rob.must("typing", { roomId, isTyping });
      assert.deepEqual(await rita.next("typing"), { roomId, userId: "rob", username: "The rob", isTyping });
    }
    await settled(rita, rob);
    assert.deepEqual([rita.heard("typing"), rob.heard("typing")], [[], []]);
  });

  scenario(`edits of a document are relayed to the others, binary too (${transport})`, async () => {
    const roomId = newRoom();
    const [rita, rob, roomless] = await Promise.all([user("rita"), user("rob"), user("roomless")]);
    for (const client of [rita, rob]) await client.must("room:join", { roomId });
    const changes = [{ at: 3, insert: "x" }];
    await rita.must("document:edit", { roomId, changes, cursor: { line: 1 } });
    assert.deepEqual(await rob.next("document:edit"), { roomId, userId: "rita", changes, cursor: { line: 1 } });
    const bytes = Buffer.from([0, 255, 7]);
    await rita.must("document:edit", { roomId, changes: bytes, cursor: 4 });
    assert.deepEqual(await rob.next("document:edit"), { roomId, userId: "rita", changes: bytes, cursor: 4 });
    await settled(rita);
    assert.deepEqual(rita.heard("document:edit"), []);
    assert.equal(await roomless.code("document:edit", { roomId, changes, cursor: 1 }), "NOT_IN_ROOM");
  });

  scenario(`a private room is for its members (${transport})`, async () => {
    const roomId = newRoom();
    await host.tell("room-create", { roomId, name: "Staff", visibility: "private", members: ["rita"], createdBy: "boss" });
    const [rita, rex] = await Promise.all([user("rita"), user("rex")]);
    assert.equal((await rita.must("room:join", { roomId })).room.name, "Staff");
    assert.equal(await rex.code("room:join", { roomId }), "FORBIDDEN");
    assert.equal(await rex.code("message", { roomId, content: "let me in" }), "NOT_IN_ROOM");
    await settled(rita);
    assert.deepEqual(rita.heard("message"), []);
  });
}

const user = (name) => connect(host, name, { claims: { username: name } });

for (const transport of TRANSPORTS) {
  scenario(`who leaves the namespace and comes back on the same transport is in the rooms that they join then (${transport})`, async () => {
    const host = await startHost({ plugins: ["rooms"] });
    const other = await connect(host, "other");
    await other.must("room:join", { roomId: "room" });
    const token = mint({ userId: "again" });
    const client = await frames(host, transport).authenticate(token);
    const edit = (roomId, changes) => `42["document:edit",${JSON.stringify({ roomId, changes })}]`;
    const heard = () => client.received.filter((frame) => String(frame).includes("document:edit")).map((frame) => /changes":"(\w+)"/.exec(frame)[1]);
    for (let time = 0; time < 10; time += 1) {
      await client.send(`421["room:join",{"roomId":"room"}]`);
      await client.text("431[");
      client.received.length = 0;
      // What it has said it does not hear, what others say it hears once.
      await client.send(edit("room", `own${time}`));
      await other.nextEvent("document:edit", ({ changes }) => changes === `own${time}`);
      other.emit("document:edit", { roomId: "room", changes: `first${time}` });
      other.emit("document:edit", { roomId: "room", changes: `last${time}` });
      await waitFor(() => heard().includes(`last${time}`), "what was said last");
      assert.deepEqual(heard(), [`first${time}`, `last${time}`]);
      // What it says just before it leaves is said behind its back.
      await client.send(edit("room", `bye${time}`));
      await client.send("41");
      await client.send(`40${JSON.stringify({ token })}`);
      await client.text("40");
      await client.text('42["session"');
      // Who has come back is another connection, and does not wait for what the one before has said.
      await other.nextEvent("document:edit", ({ changes }) => changes === `bye${time}`);
    }
    other.emit("document:edit", { roomId: "room", changes: "away" });
    await settled(other);
    await client.send(`421["room:join",{"roomId":"lobby"}]`);
    await client.text("431[");
    assert.ok(!heard().includes("away"), "it has not come back to the room");
  });
}

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
    ["changes", "document:edit", { roomId, cursor: 1 }],
    ["roomId", "typing", { isTyping: true }],
    ["isTyping", "typing", { roomId }],
    ["isTyping", "typing", { roomId, isTyping: "yes" }],
    ["roomId", "history", {}],
    ["limit", "history", { roomId, limit: 0 }],
    ["limit", "history", { roomId, limit: 201 }],
    ["limit", "history", { roomId, limit: "all" }],
    ["offset", "history", { roomId, offset: -1 }],
    ["before", "history", { roomId, before: 7 }],
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
  await client.must("message", { roomId, content: "", type: "image", metadata: { url: "https://example.org/a.png" } });
});

scenario("what one is not in, one cannot leave, read, write to, type in or edit", async () => {
  const client = await user("outsider");
  const roomId = newRoom();
  await (await user("insider")).must("room:join", { roomId });
  for (const [name, payload] of [
    ["room:leave", {}],
    ["message", { content: "x" }],
    ["document:edit", { changes: 1, cursor: 1 }],
    ["history", {}],
    ["typing", { isTyping: true }],
  ]) {
    assert.equal(await client.code(name, { roomId, ...payload }), "NOT_IN_ROOM", name);
  }
});

scenario("a crafted room id enters no other plugin's room", async () => {
  const client = await user("crafty");
  for (const roomId of ["../quiz:q:rita", "x:quiz", "quiz:q1:rita", "user:rita", "conversation:rita:rob"]) {
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

scenario("messages are kept as many and as long as the operator says", async () => {
  const strict = (settings) => startHost({ plugins: ["rooms"], plugin: { rooms: { settings } } });
  const [few, short] = await Promise.all([strict({ retentionCount: 2, retentionDays: 1 }), strict({ retentionDays: 1 / 86_400 })]);
  for (const [kept, on] of [["bc", few], ["", short]]) {
    const client = await connect(on, "ann");
    await client.must("room:join", { roomId: "r" });
    for (const content of "abc") await client.must("message", { roomId: "r", content });
    const page = () => client.must("history", { roomId: "r" });
    await waitFor(async () => spoken(await page()) === kept, async () => `"${kept}" to be kept, not "${spoken(await page())}"`);
  }
});

scenario("a room that is made again has nothing of what was said before", async () => {
  const roomId = newRoom();
  const rita = await user("rita");
  await rita.must("room:join", { roomId });
  const { id } = await rita.must("message", { roomId, content: "old" });
  await host.tell("room-delete", { roomId });
  await host.tell("room-create", { roomId, name: "Anew" });
  assert.deepEqual(await host.tell("message-page", { roomId }), { ok: true, messages: [], hasMore: false });
  assert.equal((await host.tell("room-stats", { roomId })).messageCount, 0);
  await rita.must("room:join", { roomId });
  assert.equal(await rita.code("history", { roomId, before: id }), "NOT_FOUND");
  await rita.must("message", { roomId, content: "new" });
  assert.equal(spoken(await rita.must("history", { roomId })), "new");
});

scenario("what was said in a room that is deleted is stored no longer", async () => {
  const redis = await Redis.start();
  const own = await startHost({ plugins: ["rooms"], redisPort: redis.port });
  const client = await connect(own, "ann");
  await client.must("room:join", { roomId: "r" });
  await client.must("message", { roomId: "r", content: "unforgettable" });
  const isStored = () => redis.command("hvals", "switchboard:{rooms:room:r}").includes("unforgettable");
  assert.ok(isStored());
  await own.tell("room-delete", { roomId: "r" });
  await waitFor(() => !isStored(), "the message to be removed");
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
  assert.deepEqual([made.room.memberCount, got.room.memberCount], [0, 0]);
  const listed = await host.tell("room-list", { namespace, limit: 1 });
  assert.equal(listed.rooms.length, 1);
  const rest = await host.tell("room-list", { namespace, after: listed.rooms[0].id, limit: 10 });
  assert.equal(rest.rooms.length, 1);
  assert.deepEqual(
    [listed.rooms[0].id, rest.rooms[0].id].sort(),
    [roomId, (withoutId.room ?? withoutId).id].sort(),
  );

  const [rita, rob] = await Promise.all([user("rita"), user("rob")]);
  for (const client of [rita, rob]) await client.must("room:join", { roomId });
  const members = await host.tell("room-members", { roomId });
  assert.deepEqual(members.members.map((member) => member.userId ?? member).sort(), ["rita", "rob"]);
  await rita.must("message", { roomId, content: "counted" });
  const stats = await host.tell("room-stats", { roomId });
  assert.deepEqual([stats.memberCount, stats.messageCount], [2, 1]);
  const { room } = await host.tell("room-get", { roomId });
  assert.equal(room.memberCount, 2);
  const { rooms: inNamespace } = await host.tell("room-list", { namespace });
  assert.deepEqual(inNamespace.find(({ id }) => id === roomId), room);
  assert.match(stats.createdAt, RFC3339);
  assert.match(stats.lastActivity, RFC3339);

  await host.tell("room-delete", { roomId });
  assert.equal(await rita.code("message", { roomId, content: "gone" }), "NOT_IN_ROOM");
  for (const name of ["room-get", "room-members", "room-stats", "room-delete"]) {
    assert.equal((await host.post(name, { roomId })).json.error.code, "NOT_FOUND", name);
  }
});

scenario("a backend writes into a room, as a user or as the system", async () => {
  const roomId = newRoom();
  const rita = await user("rita");
  await rita.must("room:join", { roomId });
  const sent = await host.tell("message-send", { roomId, userId: "bot", content: "beep", type: "system", metadata: { a: 1 } });
  const message = await rita.next("message");
  assert.deepEqual(
    [message.id, message.userId, message.content, message.type, message.metadata],
    [sent.id, "bot", "beep", "system", { a: 1 }],
  );
  assert.equal(message.username, "bot");
  await host.tell("message-send", { roomId, userId: "bot", username: "The bot", content: "beep" });
  assert.equal((await rita.next("message")).username, "The bot");
  assert.equal((await host.post("message-send", { roomId: "no-such-room", userId: "bot", content: "x" })).json.error.code, "NOT_FOUND");
  assert.equal((await host.post("message-send", { roomId, userId: "bot" })).json.error.code, "INVALID_PAYLOAD");
});

scenario("a backend notifies users and announces to everyone", async () => {
  const [rita, second, rob] = await Promise.all([user("rita"), user("rita"), user("rob")]);
  await host.tell("notification", { userIds: ["rita", "nobody"], title: "Tea", body: { cups: 2 } }, { plugin: "rooms" });
  for (const client of [rita, second]) {
    const told = await client.next("notification");
    assert.deepEqual([told.title, told.body], ["Tea", { cups: 2 }]);
    assert.equal(told.userIds, undefined, "who else was told is nobody's business");
  }
  await host.tell("system-announcement", { message: "closing at six", except: [rob.id] });
  for (const client of [rita, second]) assert.equal((await client.next("system:announcement")).message, "closing at six");
  await settled(rob);
  assert.deepEqual([rob.heard("notification"), rob.heard("system:announcement")], [[], []]);
});

scenario("server events that are wrong are answered so", async () => {
  const roomId = newRoom();
  const anyRoom = ["room-get", "room-delete", "room-members", "room-stats", "message-page"];
  const wrong = [
    ...anyRoom.flatMap((name) => [{}, { roomId: 7 }, { roomId: "a:b" }, null].map((data) => [name, data])),
    ["room-create", {}],
    ["room-create", { name: 7 }],
    ["room-create", { name: "x", roomId: "a:b" }],
    ["room-create", { name: "x", visibility: "secret" }],
    ["room-create", { name: "x", metadata: [] }],
    ["room-create", { name: "x", members: ["a b"] }],
    ["room-list", { limit: 0 }],
    ["room-list", { limit: 101 }],
    ["room-list", { after: "a:b" }],
    ["room-list", { namespace: 7 }],
    ["message-send", { roomId, userId: "bot" }],
    ["message-page", { roomId, limit: 201 }],
    ["message-page", { roomId, offset: -1 }],
    ["message-page", { roomId, before: 7 }],
    ["notification", { title: "to nobody" }],
    ["notification", { userIds: [] }],
    ["notification", { userIds: ["a:b"] }],
    ["system-announcement", {}],
    ["system-announcement", { message: 7 }],
    ["system-announcement", { message: "x", except: "connection" }],
  ];
  for (const [name, data] of wrong) {
    const { json } = await host.post(name, data, { body: { plugin: "rooms" } });
    assert.equal(json?.error?.code, "INVALID_PAYLOAD", `${name} ${JSON.stringify(data)}: ${JSON.stringify(json)}`);
  }
});
