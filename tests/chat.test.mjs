// The plugin `chat`: every line of its dialect, once right and once for each way to be wrong. Its channels of
// Redis are in `chat-channels.test.mjs`.

import assert from "node:assert/strict";
import { connect, settled, TRANSPORTS } from "./harness/clients.mjs";
import { makeConversation, message, next, receipts, receive, RFC3339, say, UUID7 } from "./harness/conversations.mjs";
import { waitFor } from "./harness/deadline.mjs";
import { runExample } from "./harness/examples.mjs";
import { Redis } from "./harness/redis.mjs";
import { hostForFile, scenario, startHost } from "./harness/scenario.mjs";
import { severalHosts } from "./harness/shared.mjs";
import { SUITES } from "./harness/suites.mjs";

const host = hostForFile(SUITES.chat);

let made = 0;

/** Makes users of a scenario's own, so that nothing is left of another: `ann-c1`, `bob-c1` … */
function users(...names) {
  made += 1;
  return names.map((name) => `${name}-c${made}`);
}

const tell = (name, data) => host.tell(name, data, { plugin: "chat" });
const conversation = (members, on = host) => makeConversation(on, members);

for (const transport of TRANSPORTS) {
  // Past what connecting does: what is sent afterwards is nothing that was missed.
  const user = async (name, options) => {
    const client = await connect(host, name, { transport, ...options });
    await settled(client);
    return client;
  };

  scenario(`a message goes to all members, and its receipts come back (${transport})`, async () => {
    const [ann, bob, cat, eve] = users("ann", "bob", "cat", "eve");
    const c = await conversation([ann, bob, cat]);
    const clients = await Promise.all([ann, ann, bob, cat, eve].map((name) => user(name)));
    const [anns, tablet, bobs, cats, eves] = clients;
    const first = message(c);
    const answer = await anns.must("message-send", first);
    const id = answer.messageId;
    assert.deepEqual(answer, { ok: true, tempId: first.tempId, messageId: id });
    assert.match(id, UUID7);
    assert.deepEqual(await next(anns, "message-ack"), [first.tempId, id]);
    const heard = await receive(bobs);
    assert.match(heard.createdAt, RFC3339);
    const whole = {
      id, conversationId: c, senderId: ann, content: "hello", replyTo: null,
      createdAt: heard.createdAt, editedAt: null, deleted: false,
    };
    assert.deepEqual(heard, whole);
    for (const client of [anns, tablet]) assert.deepEqual(await next(client, "receipt"), [id, bob, "delivered"]);
    assert.deepEqual(await cats.next("message-new"), whole);
    assert.deepEqual(await tablet.next("message-new"), whole);
    await cats.must("message-seen", id);
    assert.deepEqual(await next(anns, "receipt"), [id, cat, "seen"]);

    // An answer that was lost: it is sent again, and is the same.
    assert.deepEqual(await anns.must("message-send", first), answer);
    const reply = { ...message(c, "hi"), replyTo: id };
    const replyId = (await bobs.must("message-send", reply)).messageId;
    assert.deepEqual(await anns.next("message-new"), { ...(await cats.next("message-new")), replyTo: id });
    for (const client of [bobs, cats]) await client.must("message-seen", id);
    await settled(...clients);
    assert.deepEqual(receipts(anns), [[id, bob, "seen"]], "each once");
    assert.deepEqual([...eves.remaining, ...bobs.heard("message-new"), ...cats.heard("message-new")], []);

    const page = await cats.must("conversation-history", { conversationId: c });
    const none = { delivered: null, seen: null };
    assert.deepEqual(page.watermarks, { [ann]: none, [bob]: { delivered: id, seen: id }, [cat]: { delivered: id, seen: id } });
    assert.deepEqual([page.messages.map((it) => it.id), page.hasMore], [[id, replyId], false]);
    const older = await cats.must("conversation-history", { conversationId: c, before: replyId, limit: 1 });
    assert.deepEqual([older.messages, older.hasMore], [[whole], false]);
    const newest = await cats.must("conversation-history", { conversationId: c, limit: 1 });
    assert.deepEqual([newest.messages.map((it) => it.id), newest.hasMore], [[replyId], true]);
  });

  scenario(`what was missed is told, and delivered when one connects (${transport})`, async () => {
    const [ann, bob] = users("ann", "bob");
    const c = await conversation([ann, bob]);
    const anns = await user(ann);
    await say(anns, c, "one");
    const last = await say(anns, c, "two");
    const bobs = await user(bob);
    const { args: [unread], acknowledge } = await bobs.nextEvent("unread");
    assert.deepEqual(unread, { conversationId: c, count: 2, lastMessageId: last });
    assert.equal(acknowledge, undefined, "nothing to call");
    assert.deepEqual(await next(anns, "receipt"), [last, bob, "delivered"]);
    await bobs.must("message-seen", last);
    assert.deepEqual(await next(anns, "receipt"), [last, bob, "seen"]);
    // Who is connected has what a device says that it has, or the next one that connects.
    const live = await say(anns, c, "three");
    assert.equal((await bobs.next("message-new")).id, live);
    await settled(anns, bobs);
    assert.deepEqual(receipts(anns), []);
    const phone = await user(bob);
    assert.equal((await phone.next("unread")).lastMessageId, live);
    assert.deepEqual(await next(anns, "receipt"), [live, bob, "delivered"]);
    await phone.must("message-seen", live);
    assert.deepEqual(await next(anns, "receipt"), [live, bob, "seen"]);
    const tablet = await user(bob);
    await settled(anns, tablet);
    assert.deepEqual([...tablet.heard("unread"), ...receipts(anns)], []);
  });

  scenario(`authors edit and delete, others do not, admins delete (${transport})`, async () => {
    const [ann, bob, root] = users("ann", "bob", "root");
    const c = await conversation([ann, bob]);
    const [anns, bobs, admin] = await Promise.all([user(ann), user(bob), user(root, { role: "admin" })]);
    const id = await say(anns, c);
    const edit = { messageId: id, content: "better" };
    await anns.must("message-edit", edit);
    for (const client of [anns, bobs]) {
      const edited = await client.next("message-edited");
      assert.deepEqual([edited.id, edited.content, edited.deleted], [id, "better", false]);
      assert.match(edited.editedAt, RFC3339);
    }
    for (const client of [bobs, admin]) assert.equal(await client.code("message-edit", edit), "FORBIDDEN");
    assert.equal(await bobs.code("message-delete", id), "FORBIDDEN");
    await bobs.must("reaction", { messageId: id, emoji: "👍" });
    await bobs.must("reaction", { messageId: id, emoji: "👍", remove: true });
    for (const removed of [false, true]) {
      assert.deepEqual(await anns.next("reaction"), { messageId: id, userId: bob, emoji: "👍", removed });
    }
    await admin.must("message-delete", id);
    for (const client of [anns, bobs]) assert.deepEqual(await next(client, "message-deleted"), [id]);
    await anns.must("message-delete", id);
    const { messages: [gone] } = await bobs.must("conversation-history", { conversationId: c });
    assert.deepEqual([gone.id, gone.content, gone.deleted], [id, null, true]);
    assert.equal(await anns.code("message-edit", edit), "NOT_FOUND");
    await settled(anns, bobs);
    assert.deepEqual([...anns.heard("message-deleted"), ...bobs.heard("message-deleted")], []);
  });

  scenario(`members join, type, signal, and see who is there (${transport})`, async () => {
    const [ann, bob, eve] = users("ann", "bob", "eve");
    const c = await conversation([ann, bob]);
    const [anns, eves] = await Promise.all([user(ann), user(eve)]);
    assert.deepEqual(await anns.ask("join-room", c), { ok: true, conversationId: c });
    assert.deepEqual(await next(anns, "room-joined"), [{ conversationId: c }]);
    assert.equal(await eves.code("join-room", c), "JOIN_ROOM_FAILED");
    eves.emit("join-room", "nowhere");
    const refused = await eves.next("error");
    assert.deepEqual([refused.code, refused.event], ["JOIN_ROOM_FAILED", "join-room"]);

    const bobs = await user(bob);
    assert.deepEqual(await next(anns, "presence"), [bob, "online"]);
    assert.equal(await bobs.code("typing-start", c), "NOT_IN_ROOM");
    await bobs.must("join-room", c);
    await anns.must("get-online-users", c);
    assert.deepEqual(await anns.next("online-users"), { conversationId: c, users: [ann, bob] });
    await bobs.must("typing-start", c);
    assert.deepEqual(await next(anns, "typing"), [bob, c]);
    assert.deepEqual(await next(anns, "typing-stop"), [bob, c], "by itself");
    await bobs.must("typing-start", c);
    await bobs.must("typing-stop", c);
    assert.deepEqual(await next(anns, "typing-stop"), [bob, c]);
    for (const status of ["away", "offline", "online"]) {
      await bobs.must("presence-update", status);
      assert.deepEqual(await next(anns, "presence"), [bob, status]);
    }
    await bobs.must("signal", { conversationId: c, userId: ann, data: { sdp: Buffer.from([1, 2, 3]) } });
    const signal = await anns.next("signal");
    assert.deepEqual([signal.conversationId, signal.from], [c, bob]);
    assert.deepEqual(Buffer.from(signal.data.sdp), Buffer.from([1, 2, 3]));
    await bobs.must("heartbeat");
    assert.deepEqual(await next(bobs, "heartbeat-ack"), []);
    await bobs.must("leave-room", c);
    assert.deepEqual(await next(bobs, "room-left"), [{ conversationId: c }]);
    bobs.close();
    assert.deepEqual(await next(anns, "presence"), [bob, "offline"]);
    await settled(eves);
    assert.deepEqual([...eves.heard("presence"), ...eves.heard("typing"), ...eves.heard("signal")], []);
  });

  scenario(`who has been blocked hears and is heard no more (${transport})`, async () => {
    const [ann, bob, cat] = users("ann", "bob", "cat");
    const [two, three] = [await conversation([ann, bob]), await conversation([ann, bob, cat])];
    const anns = await user(ann);
    const bobs = await user(bob);
    assert.deepEqual(await next(anns, "presence"), [bob, "online"]);
    const cats = await user(cat);
    for (const client of [anns, bobs]) assert.deepEqual(await next(client, "presence"), [cat, "online"]);
    const clients = [anns, bobs, cats];
    for (const client of clients) await client.must("join-room", three);
    const before = await say(anns, two);
    await tell("block", { userId: ann, blockedId: bob });
    for (const [client, name, what] of [
      [anns, "message-send", message(two)],
      [bobs, "message-send", message(two)],
      [anns, "message-edit", { messageId: before, content: "better" }],
      [anns, "reaction", { messageId: before, emoji: "👍" }],
      [bobs, "reaction", { messageId: before, emoji: "👍" }],
      [anns, "signal", { conversationId: two, userId: bob, data: 1 }],
      [bobs, "signal", { conversationId: three, userId: ann, data: 1 }],
    ]) {
      assert.equal(await client.code(name, what), "FORBIDDEN", `${name} ${JSON.stringify(what)}`);
    }
    await settled(...clients);
    for (const client of clients) client.clear();
    const id = await say(anns, three);
    await receive(bobs);
    await bobs.must("message-seen", id);
    await bobs.must("typing-start", three);
    await bobs.must("presence-update", "away");
    assert.deepEqual(await next(cats, "typing"), [bob, three]);
    assert.deepEqual(await next(cats, "presence"), [bob, "away"]);
    assert.deepEqual((await anns.must("get-online-users", three)).users, [ann, cat]);
    await settled(...clients);
    for (const name of ["receipt", "typing", "presence"]) assert.deepEqual(anns.heard(name), [], name);
    await tell("unblock", { userId: ann, blockedId: bob });
    await say(bobs, two, "again");
    assert.equal((await receive(anns)).content, "again");
  });

  scenario(`what a backend says that users do is heard as theirs (${transport})`, async () => {
    const [ann, bob, root] = users("ann", "bob", "root");
    const c = await conversation([ann, bob]);
    const clients = await Promise.all([ann, ann, bob].map((name) => user(name)));
    const [anns, tablet, bobs] = clients;
    for (const client of clients) await client.must("join-room", c);
    const told = { userId: ann, tempId: "told", conversationId: c, content: "hello" };
    const { messageId } = await tell("message:new", told);
    assert.equal((await receive(bobs)).id, messageId);
    // Sent again it is the same message, and the author's devices are answered again.
    assert.deepEqual(await tell("message:new", told), { ok: true, tempId: "told", messageId });
    for (const device of [anns, tablet]) {
      assert.equal((await device.next("message-new")).id, messageId);
      for (let n = 0; n < 2; n += 1) assert.deepEqual(await next(device, "message-ack"), ["told", messageId]);
      assert.deepEqual(await next(device, "receipt"), [messageId, bob, "delivered"]);
    }
    const { tempId, ...nameless } = told;
    await tell("message:receipt", { userId: bob, messageId, type: "seen" });
    const later = (await tell("message:new", nameless)).messageId;
    await tell("message:receipt", { userId: bob, messageId: later, type: "delivered" });
    await tell("message:receipt", { userId: bob, messageId: later, type: "delivered" });
    await tell("message:edited", { userId: ann, messageId, content: "better" });
    await tell("message:deleted", { userId: ann, messageId });
    await tell("message:deleted", { userId: root, role: "admin", messageId: later });
    for (const device of [anns, tablet]) {
      assert.deepEqual(await next(device, "receipt"), [messageId, bob, "seen"]);
      assert.deepEqual(await next(device, "receipt"), [later, bob, "delivered"]);
    }
    for (const client of clients) {
      assert.equal((await client.next("message-new")).id, later);
      const edited = await client.next("message-edited");
      assert.deepEqual([edited.id, edited.content], [messageId, "better"]);
      for (const id of [messageId, later]) assert.deepEqual(await next(client, "message-deleted"), [id]);
    }
    await tell("presence:update", { userId: bob, status: "away" });
    await anns.nextEvent("presence", (who, status) => who === bob && status === "away");
    await tell("typing:start", { userId: bob, conversationId: c });
    assert.deepEqual(await next(anns, "typing"), [bob, c]);
    await tell("typing:stop", { userId: bob, conversationId: c });
    // Long before it would end by itself.
    assert.deepEqual((await anns.nextEvent("typing-stop", undefined, 2_500)).args, [bob, c]);
    await settled(...clients);
    for (const name of ["message-new", "message-ack", "receipt", "message-deleted", "typing", "typing-stop"]) {
      for (const client of [anns, bobs]) assert.deepEqual(client.heard(name), [], name);
    }
  });
}

scenario("what cannot be done is refused with its code", async () => {
  const [ann, bob, eve] = users("ann", "bob", "eve");
  const c = await conversation([ann, bob]);
  const [anns, eves] = await Promise.all([connect(host, ann), connect(host, eve)]);
  const id = await say(anns, c);
  const unknown = `00000000${id.slice(8)}`;
  const wrong = [
    [anns, "INVALID_PAYLOAD", "message-send", { conversationId: c, content: "x" }],
    [anns, "INVALID_PAYLOAD", "message-send", { tempId: "t", conversationId: c, content: "" }],
    [anns, "INVALID_PAYLOAD", "message-send", { tempId: "t", conversationId: c, content: "x".repeat(16_001) }],
    [anns, "INVALID_PAYLOAD", "message-send", { tempId: "t", conversationId: "a:b", content: "x" }],
    [anns, "INVALID_PAYLOAD", "message-send"],
    [anns, "NOT_FOUND", "message-send", { tempId: "t", conversationId: "nowhere", content: "x" }],
    [anns, "NOT_FOUND", "message-send", { tempId: "t", conversationId: c, content: "x", replyTo: unknown }],
    [eves, "FORBIDDEN", "message-send", { tempId: "t", conversationId: c, content: "x" }],
    [anns, "INVALID_PAYLOAD", "message-edit", { messageId: id }],
    [anns, "NOT_FOUND", "message-edit", { messageId: unknown, content: "x" }],
    [eves, "FORBIDDEN", "message-edit", { messageId: id, content: "x" }],
    [anns, "INVALID_PAYLOAD", "message-delete", 7],
    [anns, "NOT_FOUND", "message-delete", unknown],
    [eves, "FORBIDDEN", "message-delete", id],
    [anns, "INVALID_PAYLOAD", "message-seen", null],
    [anns, "NOT_FOUND", "message-seen", unknown],
    [eves, "FORBIDDEN", "message-seen", id],
    [anns, "INVALID_PAYLOAD", "reaction", { messageId: id, emoji: "" }],
    [anns, "NOT_FOUND", "reaction", { messageId: unknown, emoji: "x" }],
    [eves, "FORBIDDEN", "reaction", { messageId: id, emoji: "x" }],
    [anns, "INVALID_PAYLOAD", "conversation-history", { conversationId: c, limit: 201 }],
    [anns, "NOT_FOUND", "conversation-history", { conversationId: c, before: unknown }],
    [anns, "NOT_FOUND", "conversation-history", { conversationId: "nowhere" }],
    [eves, "FORBIDDEN", "conversation-history", { conversationId: c }],
    [anns, "INVALID_PAYLOAD", "join-room", "a:b"],
    [anns, "INVALID_PAYLOAD", "leave-room", ""],
    [anns, "INVALID_PAYLOAD", "typing-start", {}],
    [anns, "NOT_FOUND", "typing-start", "nowhere"],
    [eves, "FORBIDDEN", "typing-start", c],
    [anns, "INVALID_PAYLOAD", "typing-stop", []],
    [anns, "NOT_FOUND", "typing-stop", "nowhere"],
    [eves, "FORBIDDEN", "typing-stop", c],
    [anns, "NOT_IN_ROOM", "typing-stop", c],
    [anns, "INVALID_PAYLOAD", "presence-update", "busy"],
    [anns, "INVALID_PAYLOAD", "get-online-users", null],
    [anns, "NOT_FOUND", "get-online-users", "nowhere"],
    [eves, "FORBIDDEN", "get-online-users", c],
    [anns, "INVALID_PAYLOAD", "signal", { conversationId: c, userId: bob }],
    [anns, "NOT_FOUND", "signal", { conversationId: "nowhere", userId: bob, data: 1 }],
    [anns, "NOT_FOUND", "signal", { conversationId: c, userId: eve, data: 1 }],
    [eves, "FORBIDDEN", "signal", { conversationId: c, userId: bob, data: 1 }],
  ];
  for (const [client, code, name, ...args] of wrong) {
    assert.equal(await client.code(name, ...args), code, `${name} ${JSON.stringify(args).slice(0, 100)}`);
  }
  const { messages } = await anns.must("conversation-history", { conversationId: c });
  assert.deepEqual(messages.map((it) => it.id), [id]);
});

scenario("backends are answered what has become of their events", async () => {
  const [ann, bob] = users("ann", "bob");
  const c = await conversation([ann, bob]);
  const alone = await conversation([ann]);
  const full = await conversation(Array.from({ length: 400 }, (_, n) => `${ann}-${n}`));
  const anns = await connect(host, ann);
  const note = await say(anns, alone, "a note to oneself");
  for (const [code, name, data] of [
    ["CONFLICT", "conversation-create", { conversationId: c, members: [ann] }],
    ["INVALID_PAYLOAD", "conversation-create", { members: [] }],
    ["NOT_FOUND", "member-add", { conversationId: "nowhere", userId: ann }],
    ["NOT_FOUND", "member-remove", { conversationId: "nowhere", userId: ann }],
    ["INVALID_PAYLOAD", "member-add", { conversationId: c }],
    ["INVALID_PAYLOAD", "member-remove", { conversationId: c }],
    ["CONFLICT", "member-add", { conversationId: full, userId: ann }],
    ["INVALID_PAYLOAD", "block", { userId: ann, blockedId: ann }],
    ["INVALID_PAYLOAD", "unblock", { userId: ann }],
    ["INVALID_PAYLOAD", "message:new", { userId: ann, conversationId: c }],
    ["FORBIDDEN", "message:new", { userId: "eve", conversationId: c, content: "x" }],
    ["NOT_FOUND", "message:edited", { userId: ann, messageId: "m", content: "x" }],
    ["FORBIDDEN", "message:edited", { userId: bob, messageId: note, content: "x" }],
    ["NOT_FOUND", "message:deleted", { userId: ann, messageId: "m" }],
    ["FORBIDDEN", "message:deleted", { userId: bob, messageId: note }],
    ["FORBIDDEN", "message:receipt", { userId: bob, messageId: note, type: "seen" }],
    ["INVALID_PAYLOAD", "message:receipt", { userId: ann, messageId: "m", type: "read" }],
    ["INVALID_PAYLOAD", "presence:update", { userId: ann, status: "asleep" }],
    ["NOT_FOUND", "typing:start", { userId: ann, conversationId: "nowhere" }],
    ["NOT_FOUND", "typing:stop", { userId: ann, conversationId: "nowhere" }],
    ["FORBIDDEN", "typing:stop", { userId: bob, conversationId: alone }],
  ]) {
    const { json } = await host.post(name, data, { body: { plugin: "chat" } });
    assert.equal(json?.error?.code, code, `${name} ${JSON.stringify(data)}: ${JSON.stringify(json)}`);
  }
  const told = { userId: bob, tempId: "b1", conversationId: c, content: "by the backend" };
  const { messageId } = await tell("message:new", told);
  assert.equal((await tell("message:new", told)).messageId, messageId);
  assert.deepEqual([(await receive(anns)).id, messageId], [messageId, messageId]);

  // Out at once, on every device.
  const bobs = await connect(host, bob);
  for (const client of [anns, bobs]) await client.must("join-room", c);
  await tell("member-remove", { conversationId: c, userId: bob });
  await settled(bobs);
  bobs.clear();
  await say(anns, c);
  await anns.must("typing-start", c);
  assert.equal(await bobs.code("join-room", c), "JOIN_ROOM_FAILED");
  await settled(anns, bobs);
  assert.deepEqual(bobs.remaining, []);
  await tell("member-add", { conversationId: c, userId: bob });
  await bobs.must("join-room", c);
});

scenario("a message whose answer was lost in a crash is there once", async () => {
  const own = await startHost({ plugins: ["chat"], state: "embedded" });
  const c = await conversation(["ann", "bob"], own);
  const [ann, bob] = await Promise.all([connect(own, "ann"), connect(own, "bob")]);
  const before = Array.from({ length: 20 }, (_, n) => message(c, `message ${n}`));
  const answers = new Map();
  for (const one of before) ann.socket.emit("message-send", one, (answer) => answers.set(one.tempId, answer.messageId));
  // The host dies while some are stored, some of which are answered.
  await waitFor(() => bob.heard("message-new").length >= 3, "some messages");
  await own.kill();
  await own.start();
  const again = await connect(own, "ann");
  const ids = [];
  for (const one of before) ids.push((await again.must("message-send", one)).messageId);
  for (const [at, { tempId }] of before.entries()) assert.equal(ids[at], answers.get(tempId) ?? ids[at]);
  for (const { id, content } of bob.heard("message-new")) assert.equal(ids[Number(content.split(" ")[1])], id);
  const { messages } = await again.must("conversation-history", { conversationId: c, limit: 200 });
  assert.deepEqual(messages.map((it) => it.id).sort(), [...ids].sort());
  assert.equal(new Set(ids).size, before.length);
});

scenario("the same message from several devices at once is one", async () => {
  const [ann, bob] = users("ann", "bob");
  const c = await conversation([ann, bob]);
  const devices = await Promise.all(Array.from({ length: 8 }, () => connect(host, ann)));
  const bobs = await connect(host, bob);
  for (let round = 0; round < 10; round += 1) {
    const one = message(c);
    const answers = await Promise.all(devices.map((device) => device.must("message-send", one)));
    assert.equal(new Set(answers.map(({ messageId }) => messageId)).size, 1);
    assert.equal((await receive(bobs)).id, answers[0].messageId);
  }
  await settled(bobs);
  assert.deepEqual(bobs.heard("message-new"), []);
  assert.equal((await bobs.must("conversation-history", { conversationId: c })).messages.length, 10);
});

scenario("several devices acknowledge at once, and it is announced once", async () => {
  const [ann, bob] = users("ann", "bob");
  const c = await conversation([ann, bob]);
  const anns = await connect(host, ann);
  const devices = await Promise.all(Array.from({ length: 8 }, () => connect(host, bob)));
  await settled(anns, ...devices);
  for (let round = 0; round < 10; round += 1) {
    const id = await say(anns, c);
    const events = await Promise.all(devices.map((device) => device.nextEvent("message-new")));
    for (const { acknowledge } of events) acknowledge();
    await Promise.all(devices.map((device) => device.must("message-seen", id)));
    await settled(anns, ...devices);
    const kinds = receipts(anns).map(([of, by, kind]) => {
      assert.deepEqual([of, by], [id, bob]);
      return kind;
    });
    // Where it was seen before it was delivered, only that is said. What two hosts say has no order.
    if (severalHosts()) kinds.sort();
    assert.deepEqual(kinds, kinds.length === 1 ? ["seen"] : ["delivered", "seen"]);
    anns.clear();
  }
});

scenario("several devices connect at once, and what was missed is delivered once", async () => {
  const [ann, bob] = users("ann", "bob");
  const c = await conversation([ann, bob]);
  const anns = await connect(host, ann);
  for (let round = 0; round < 5; round += 1) {
    const id = await say(anns, c);
    const devices = await Promise.all(Array.from({ length: 8 }, () => connect(host, bob)));
    for (const device of devices) assert.deepEqual(await device.next("unread"), { conversationId: c, count: 1, lastMessageId: id });
    assert.deepEqual(await next(anns, "receipt"), [id, bob, "delivered"]);
    // Nothing says behind it that it is delivered.
    await devices[0].must("message-seen", id);
    assert.deepEqual(await next(anns, "receipt"), [id, bob, "seen"]);
    for (const device of devices) device.close();
  }
  await settled(anns);
  assert.deepEqual(receipts(anns), []);
});

scenario("pages neither skip nor repeat while others write", async () => {
  const [ann, bob] = users("ann", "bob");
  const c = await conversation([ann, bob]);
  const [anns, bobs] = await Promise.all([connect(host, ann), connect(host, bob)]);
  const ids = [];
  for (let n = 0; n < 60; n += 1) ids.push(await say(anns, c, `${n}`));
  const writing = (async () => {
    for (let n = 0; n < 60; n += 1) await say(anns, c, `later ${n}`);
  })();
  let read = [];
  let request = { conversationId: c, limit: 7, before: ids.at(-1) };
  for (;;) {
    const { messages, hasMore } = await bobs.must("conversation-history", request);
    read = [...messages.map((it) => it.id), ...read];
    if (!hasMore) break;
    request = { ...request, before: messages[0].id };
  }
  await writing;
  assert.deepEqual(read, ids.slice(0, -1));
});

scenario("who was long away misses nothing, and each author hears once", async () => {
  const [ann, bob, cat] = users("ann", "bob", "cat");
  const all = await Promise.all(Array.from({ length: 160 }, () => conversation([ann, bob, cat])));
  const [anns, cats] = await Promise.all([connect(host, ann), connect(host, cat)]);
  await settled(anns, cats);
  const latest = new Map();
  for (const c of all) latest.set(c, await say(anns, c));
  const c = all[0];
  const only = latest.get(c);
  for (let n = 0; n < 310; n += 1) latest.set(c, await say(cats, c, `${n}`));
  const bobs = await connect(host, bob);
  const expected = all.map((id) => ({ conversationId: id, count: id === c ? 311 : 1, lastMessageId: latest.get(id) }));
  await waitFor(() => bobs.heard("unread").length >= all.length, "all that is unread", 60_000);
  const byId = (a, b) => (a.conversationId < b.conversationId ? -1 : 1);
  assert.deepEqual(bobs.heard("unread").sort(byId), expected.sort(byId));
  // Each author hears once of each conversation, also where their latest is far behind.
  await waitFor(() => receipts(anns).length >= all.length && receipts(cats).length > 0, "all to be delivered", 60_000);
  const delivered = [only, ...all.slice(1).map((id) => latest.get(id))].map((id) => [id, bob, "delivered"]);
  assert.deepEqual(receipts(anns).sort(), delivered.sort());
  assert.deepEqual(receipts(cats), [[latest.get(c), bob, "delivered"]]);
  for (const client of [anns, cats]) client.clear();
  await bobs.must("message-seen", latest.get(c));
  assert.deepEqual(await next(cats, "receipt"), [latest.get(c), bob, "seen"]);
  assert.deepEqual(await next(anns, "receipt"), [only, bob, "seen"]);
  await settled(anns, cats);
  assert.deepEqual([...receipts(anns), ...receipts(cats)], []);
}, { timeout: 240_000 });

scenario("members on two hosts are one conversation", async () => {
  const redis = await Redis.start();
  const options = { plugins: ["chat"], redisPort: redis.port, presenceGrace: "300ms" };
  const hosts = await Promise.all([startHost(options), startHost(options)]);
  const c = await conversation(["ann", "bob"], hosts[0]);
  const ann = await connect(hosts[0], "ann");
  await ann.must("join-room", c);
  const bob = await connect(hosts[1], "bob");
  assert.deepEqual(await next(ann, "presence"), ["bob", "online"]);
  await bob.must("join-room", c);
  await waitFor(async () => (await ann.must("get-online-users", c)).users.length === 2, "both to be online");
  const id = await say(ann, c);
  assert.equal((await receive(bob)).id, id);
  assert.deepEqual(await next(ann, "receipt"), [id, "bob", "delivered"]);
  await bob.must("typing-start", c);
  assert.deepEqual(await next(ann, "typing"), ["bob", c]);
  await bob.must("message-seen", id);
  assert.deepEqual(await next(ann, "receipt"), [id, "bob", "seen"]);
  await hosts[0].tell("member-remove", { conversationId: c, userId: "bob" }, { plugin: "chat" });
  await waitFor(async () => await bob.code("typing-start", c) === "FORBIDDEN", "bob to be out");
  bob.close();
  assert.deepEqual(await next(ann, "typing-stop"), ["bob", c]);
});

scenario("while the store is out of reach, what could reach somebody who is blocked is refused", async () => {
  const redis = await Redis.start();
  const own = await startHost({ plugins: ["chat"], redisPort: redis.port });
  const c = await conversation(["ann", "bob"], own);
  const [ann, bob] = await Promise.all([connect(own, "ann"), connect(own, "bob")]);
  for (const client of [ann, bob]) await client.must("join-room", c);
  await redis.kill();
  const signal = { conversationId: c, userId: "bob", data: 1 };
  for (const [name, what] of [["typing-start", c], ["typing-stop", c], ["signal", signal], ["message-send", message(c)]]) {
    assert.equal(await ann.code(name, what), "UNAVAILABLE", name);
  }
  await settled(bob);
  for (const name of ["typing", "signal", "message-new"]) assert.deepEqual(bob.heard(name), [], name);
});

scenario("the example shows a conversation and its receipts", async () => {
  const { stdout } = await runExample("conversation/conversation.mjs", host, { words: ["good morning"] });
  assert.deepEqual(stdout.trim().split("\n").sort(), [
    "ann's message is delivered: ben", "ann's message is seen: ben",
    "ben hears from ann: good morning", "stored once",
  ]);
});
