// The plugin `classroom`: every line of its dialect, once right and once for each way to be wrong.

import assert from "node:assert/strict";
import { connect, settled, TRANSPORTS } from "./harness/clients.mjs";
import { waitFor } from "./harness/deadline.mjs";
import { redisEmitter } from "./harness/node.mjs";
import { Redis } from "./harness/redis.mjs";
import { hostForFile, scenario, startHost } from "./harness/scenario.mjs";
import { SUITES } from "./harness/suites.mjs";

const host = hostForFile(SUITES.classroom);
const tell = (name, data) => host.tell(name, data, { plugin: "classroom" });
const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const UUID7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

let sessions = 0;

/** Creates a session of its own for a scenario, with the educator `tim`; returns its code. */
async function session(more = { participants: ["amy", "bea", "cem"] }) {
  const sessionCode = `S-${(sessions += 1)}`;
  await tell("session-create", { sessionCode, educators: ["tim"], ...more });
  return sessionCode;
}

const user = (name, options) => connect(host, name, { role: name === "tim" ? "educator" : "student", ...options });

/** Connects users who join, one after the other; each has heard of whoever came then. */
async function joined(code, names, options) {
  const clients = [];
  for (const name of names) {
    const client = await user(name, options);
    await client.must("joinSession", code);
    await client.next("sessionJoined");
    clients.push(client);
  }
  await settled(...clients);
  for (const client of clients) client.clear();
  return clients;
}

for (const transport of TRANSPORTS) {
  scenario(`participants come, talk, say how they are and go (${transport})`, async () => {
    const sessionCode = await session();
    const tim = await user("tim", { transport });
    assert.deepEqual(await tim.must("joinSession", sessionCode), { ok: true, sessionCode });
    assert.deepEqual(await tim.next("sessionJoined"), {
      sessionCode,
      participants: [{ userId: "tim", role: "educator", status: "active" }],
      groups: [],
      activity: null,
      recentMessages: [],
    });
    const amy = await user("amy", { transport });
    await amy.must("joinSession", sessionCode);
    assert.deepEqual((await amy.next("sessionJoined")).participants, [
      { userId: "amy", role: "student", status: "active" },
      { userId: "tim", role: "educator", status: "active" },
    ]);
    assert.deepEqual(await tim.next("participantJoined"), { sessionCode, userId: "amy", role: "student" });

    const { ok, messageId, ...rest } = await amy.must("sendMessage", { sessionCode, message: "Hello class!" });
    assert.deepEqual([ok, rest], [true, {}]);
    assert.match(messageId, UUID7);
    for (const client of [amy, tim]) {
      const { timestamp, ...heard } = await client.next("messageReceived");
      assert.deepEqual(heard, { sessionCode, messageId, userId: "amy", message: "Hello class!" });
      assert.match(timestamp, RFC3339);
    }
    for (const status of ["active", "idle", "away"]) {
      assert.deepEqual(await amy.must("updatePresence", { sessionCode, status }), { ok: true });
      for (const client of [amy, tim]) {
        assert.deepEqual(await client.next("presenceUpdated"), { sessionCode, userId: "amy", status });
      }
    }
    assert.deepEqual(await amy.must("leaveSession", sessionCode), { ok: true });
    assert.deepEqual(await tim.next("participantLeft"), { sessionCode, userId: "amy" });
    assert.equal(await amy.code("sendMessage", { sessionCode, message: "I am out" }), "NOT_IN_ROOM");
    await settled(amy, tim);
    assert.deepEqual([tim, amy].map((client) => client.heard("participantJoined")), [[], []], "one's own joining is no news");
  });

  scenario(`a late joiner is told of everything that is there (${transport})`, async () => {
    const sessionCode = await session();
    const [tim, amy] = await joined(sessionCode, ["tim", "amy"], { transport });
    const groups = [{ name: "red", userIds: ["amy", "bea"] }];
    assert.deepEqual(await tim.must("assignGroups", { sessionCode, groups }), { ok: true });
    assert.deepEqual(await amy.next("groupsUpdated"), { sessionCode, groups });
    for (const version of [1, 2]) {
      const sync = { sessionCode, activity: "quiz", state: { page: version } };
      assert.deepEqual(await tim.must("syncActivity", sync), { ok: true, version });
      assert.deepEqual(await amy.next("activitySynced"), { ...sync, version });
    }
    await amy.must("updatePresence", { sessionCode, status: "away" });
    await amy.must("sendMessage", { sessionCode, message: "done" });
    const message = await tim.next("messageReceived");
    const bea = await user("bea", { transport });
    await bea.must("joinSession", sessionCode);
    assert.deepEqual(await bea.next("sessionJoined"), {
      sessionCode,
      participants: [
        { userId: "amy", role: "student", status: "away" },
        { userId: "bea", role: "student", status: "active" },
        { userId: "tim", role: "educator", status: "active" },
      ],
      groups,
      activity: { activity: "quiz", state: { page: 2 }, version: 2 },
      recentMessages: [message],
    });
    const got = await tell("session-get", { sessionCode });
    assert.deepEqual(got.activity, { activity: "quiz", state: { page: 2 }, version: 2 });
    assert.deepEqual(got.participants.map(({ userId }) => userId), ["amy", "bea", "tim"]);
  });

  scenario(`files arrive byte for byte, up to a million (${transport})`, async () => {
    const sessionCode = await session();
    const [tim, amy] = await joined(sessionCode, ["tim", "amy"], { transport });
    for (const size of [0, 3, 1_000_000]) {
      const data = Buffer.from(Array.from({ length: size }, (_, at) => (at * 31) % 251));
      const { ok, fileId, ...rest } = await amy.must("file", { sessionCode, name: "a b.pdf", mime: "application/pdf", data });
      assert.deepEqual([ok, rest], [true, {}]);
      for (const client of [tim, amy]) {
        const { data: received, ...heard } = await client.next("fileShared");
        assert.deepEqual(heard, { sessionCode, fileId, userId: "amy", name: "a b.pdf", mime: "application/pdf" });
        assert.ok(data.equals(Buffer.from(received)), `${size} bytes`);
      }
    }
    const error = await amy.error("file", { sessionCode, name: "n", mime: "m", data: Buffer.alloc(1_000_001) });
    assert.equal(error.code, "INVALID_PAYLOAD");
    assert.match(error.message, /1000001 bytes.* at most 1000000\b/);
    await settled(tim);
    assert.deepEqual(tim.heard("fileShared"), []);
  });

  scenario(`lines of a transcript are replaced until they are final (${transport})`, async () => {
    const sessionCode = await session();
    const [tim, amy] = await joined(sessionCode, ["tim", "amy"], { transport });
    const lines = [["l1", "we", false], ["l1", "we begin", false], ["l1", "We begin.", true], ["l2", "now", false]];
    // Not one after the other's answer: their order is that of sending.
    const answers = lines.map(([lineId, text, final]) => tim.must("transcript", { sessionCode, lineId, text, final }));
    assert.deepEqual((await Promise.all(answers)).map(({ sequence }) => sequence), [1, 2, 3, 4]);
    for (const [at, [lineId, text, final]] of lines.entries()) {
      const heard = { sessionCode, lineId, userId: "tim", text, final, sequence: at + 1 };
      for (const client of [tim, amy]) assert.deepEqual(await client.next("transcriptUpdated"), heard);
    }
    assert.equal(await tim.code("transcript", { sessionCode, lineId: "l1", text: "we be", final: false }), "CONFLICT");
    assert.equal(await amy.code("transcript", { sessionCode, lineId: "l2", text: "mine", final: true }), "FORBIDDEN");
    await settled(amy);
    assert.deepEqual(amy.heard("transcriptUpdated"), []);
    assert.equal((await amy.must("transcript", { sessionCode, lineId: "l3", text: "", final: true })).sequence, 5);
  });

  scenario(`reactions, reading, typing and signals (${transport})`, async () => {
    const sessionCode = await session();
    const [tim, amy, phone, bea] = await joined(sessionCode, ["tim", "amy", "amy", "bea"], { transport });
    const elsewhere = await user("amy", { transport });
    const { messageId } = await tim.must("sendMessage", { sessionCode, message: "hello" });
    await amy.must("react", { sessionCode, messageId, emoji: "👍" });
    await amy.must("messageRead", { sessionCode, messageId });
    await amy.must("typingInSession", { sessionCode, isTyping: true });
    await amy.must("typingInSession", { sessionCode, isTyping: true });
    await amy.must("typingInSession", { sessionCode, isTyping: false });
    for (const client of [tim, amy, phone, bea]) {
      assert.deepEqual(await client.next("reacted"), { sessionCode, messageId, userId: "amy", emoji: "👍" });
      assert.deepEqual(await client.next("readUpdated"), { sessionCode, messageId, userId: "amy" });
      for (const isTyping of [true, false]) {
        assert.deepEqual(await client.next("typingUpdated"), { sessionCode, userId: "amy", isTyping });
      }
    }
    const data = { type: "offer", sdp: Buffer.from([1, 2, 255]) };
    assert.deepEqual(await tim.must("signal", { sessionCode, userId: "amy", data }), { ok: true });
    for (const client of [amy, phone]) assert.deepEqual(await client.next("signal"), { sessionCode, from: "tim", data });
    await settled(tim, bea, elsewhere);
    assert.deepEqual([tim, bea, elsewhere].map((client) => client.heard("signal")), [[], [], []]);
    assert.equal(await tim.code("signal", { sessionCode, userId: "cem", data }), "NOT_FOUND");
    assert.equal(await tim.code("react", { sessionCode, messageId: "nobodys", emoji: "👍" }), "NOT_FOUND");
    assert.equal(await tim.code("messageRead", { sessionCode, messageId: "nobodys" }), "NOT_FOUND");
  });

  scenario(`a session ends for everybody (${transport})`, async () => {
    const sessionCode = await session();
    const [tim, amy] = await joined(sessionCode, ["tim", "amy"], { transport });
    assert.deepEqual(await tell("session-end", { sessionCode }), { ok: true });
    for (const client of [tim, amy]) {
      assert.deepEqual(await client.next("sessionEnded"), { sessionCode });
      assert.equal(await client.code("sendMessage", { sessionCode, message: "x" }), "NOT_IN_ROOM");
      assert.equal(await client.code("joinSession", sessionCode), "NOT_FOUND");
      assert.deepEqual(client.heard("participantLeft"), []);
    }
  });
}

scenario("a participant leaves with the last device, and a lost one when the grace is over", async () => {
  const graceful = await startHost({ plugins: ["classroom"], presenceGrace: "3s" });
  await graceful.tell("session-create", { sessionCode: "S", educators: ["tim"], open: true });
  const enter = async (name) => {
    const client = await connect(graceful, name);
    await client.must("joinSession", "S");
    const { participants } = await client.next("sessionJoined");
    return { client, present: participants.map(({ userId }) => userId) };
  };
  const { client: tim } = await enter("tim");
  const { client: laptop } = await enter("amy");
  await tim.next("participantJoined");
  const { client: phone } = await enter("amy");
  await laptop.must("leaveSession", "S");
  phone.close();
  // In the grace: whoever joins now knows of her, and she comes back without a word.
  const { client: bea, present } = await enter("bea");
  assert.deepEqual(present, ["amy", "bea", "tim"]);
  await tim.next("participantJoined", ({ userId }) => userId === "bea");
  const { client: back } = await enter("amy");
  await settled(tim, bea);
  back.close();
  for (const client of [tim, bea]) {
    assert.deepEqual(await client.next("participantLeft"), { sessionCode: "S", userId: "amy" });
    await settled(client);
    assert.deepEqual([client.heard("participantLeft"), client.heard("participantJoined")], [[], []]);
  }
});

scenario("whoever does nothing is idle, and active again with the next event", async () => {
  const idle = await startHost({ plugins: ["classroom"], presenceIdle: "1s" });
  await idle.tell("session-create", { sessionCode: "S", educators: ["tim"], open: true });
  const [tim, amy] = await Promise.all(["tim", "amy"].map((name) => connect(idle, name)));
  for (const client of [tim, amy]) await client.must("joinSession", "S");
  const news = (status) => ({ sessionCode: "S", userId: "amy", status });
  const hears = (status) => tim.next("presenceUpdated", (heard) => heard.userId === "amy" && heard.status === status);
  assert.deepEqual(await hears("idle"), news("idle"));
  tim.clear();
  await amy.must("sendMessage", { sessionCode: "S", message: "I was thinking" });
  assert.deepEqual(await hears("active"), news("active"));
  // Of what one says the host knows nothing better.
  await amy.must("updatePresence", { sessionCode: "S", status: "away" });
  assert.deepEqual(await hears("away"), news("away"));
  await tim.must("leaveSession", "S");
  await amy.must("sendMessage", { sessionCode: "S", message: "still away" });
  await tim.must("joinSession", "S");
  const { participants } = await tim.next("sessionJoined", ({ participants }) => participants[0].status !== "active");
  assert.deepEqual(participants[0], { userId: "amy", role: "student", status: "away" });
});

scenario("groups move connections at once on all hosts, and late joiners at their join", async () => {
  const redis = await Redis.start();
  const nodes = await Promise.all([1, 2].map(() => startHost({ plugins: ["classroom"], redisPort: redis.port })));
  await nodes[0].tell("session-create", { sessionCode: "S", educators: ["tim"], open: true });
  const at = async (node, name) => {
    const client = await connect(nodes[node], name);
    await client.must("joinSession", "S");
    await client.next("sessionJoined");
    return client;
  };
  const clients = { tim: await at(0, "tim"), amy: await at(0, "amy"), phone: await at(1, "amy"), bea: await at(1, "bea") };
  const elsewhere = await connect(nodes[1], "amy");
  // As another service of the product reaches a group.
  const emitter = await redisEmitter(redis);
  let news = 0;
  const inRoom = async (group) => {
    const number = (news += 1);
    emitter.to(`session-group:S:${group}`).emit("group-news", number);
    emitter.emit("told", number);
    const everybody = { ...clients, elsewhere };
    for (const client of Object.values(everybody)) await client.next("told", (told) => told === number);
    return Object.keys(everybody).filter((name) => everybody[name].heard("group-news").includes(number));
  };
  /** Joins and leaves of connections on another host take effect there: soon, not with the answer. */
  const becomes = (group, names) =>
    waitFor(async () => String(await inRoom(group)) === String(names), `${names} in the group ${group}`);

  const assign = async (groups) => {
    await clients.tim.must("assignGroups", { sessionCode: "S", groups });
    for (const client of Object.values(clients)) {
      assert.deepEqual(await client.next("groupsUpdated"), { sessionCode: "S", groups });
    }
  };
  await assign([{ name: "red", userIds: ["amy", "cem"] }, { name: "blue", userIds: ["bea"] }]);
  await becomes("red", ["amy", "phone"]);
  await becomes("blue", ["bea"]);
  await assign([{ name: "blue", userIds: ["amy", "cem"] }]);
  await becomes("blue", ["amy", "phone"]);
  await becomes("red", []);
  clients.cem = await at(1, "cem");
  await becomes("blue", ["amy", "phone", "cem"]);
  await clients.phone.must("leaveSession", "S");
  delete clients.phone;
  await becomes("blue", ["amy", "cem"]);
  await nodes[1].tell("session-end", { sessionCode: "S" });
  await becomes("blue", []);
});

scenario("without Redis relays go on, and what needs the session's state is not half done", async () => {
  const redis = await Redis.start();
  const alone = await startHost({ plugins: ["classroom"], redisPort: redis.port, redisTimeout: "2s" });
  await alone.tell("session-create", { sessionCode: "S", educators: ["tim"], open: true });
  const [tim, amy, late] = await Promise.all(["tim", "amy", "late"].map((name) => connect(alone, name)));
  for (const client of [tim, amy]) await client.must("joinSession", "S");
  await redis.kill();
  const file = { sessionCode: "S", name: "n", mime: "m", data: Buffer.from([1, 255]) };
  const { fileId } = await amy.must("file", file);
  assert.deepEqual(await tim.next("fileShared"), { ...file, fileId, userId: "amy" });
  await amy.must("typingInSession", { sessionCode: "S", isTyping: true });
  assert.deepEqual(await tim.next("typingUpdated"), { sessionCode: "S", userId: "amy", isTyping: true });
  await amy.must("signal", { sessionCode: "S", userId: "tim", data: 1 });
  assert.deepEqual(await tim.next("signal"), { sessionCode: "S", from: "amy", data: 1 });
  assert.equal(await amy.code("sendMessage", { sessionCode: "S", message: "x" }), "UNAVAILABLE");
  assert.equal(await late.code("joinSession", "S"), "UNAVAILABLE");
  assert.equal(await late.code("typingInSession", { sessionCode: "S", isTyping: true }), "NOT_IN_ROOM");
  await amy.must("leaveSession", "S");
  assert.deepEqual(await tim.next("participantLeft"), { sessionCode: "S", userId: "amy" });
  assert.deepEqual(tim.heard("messageReceived"), []);
});

scenario("who may join what, and who may do what there", async () => {
  const [listed, open] = [await session(), await session({ open: true })];
  const [amy, eva, ted, tim] = await Promise.all([
    user("amy"),
    user("eva"),
    user("ted", { role: "educator" }),
    user("tim", { role: "teacher" }),
  ]);
  assert.equal(tim.role, "educator", "by the operator's alias");
  for (const stranger of [eva, ted]) {
    assert.equal(await stranger.code("joinSession", listed), "FORBIDDEN");
    assert.equal(await stranger.code("joinSession", "no-such-session"), "NOT_FOUND");
    await stranger.must("joinSession", open);
  }
  eva.emit("joinSession", listed);
  const error = await eva.next("error");
  assert.deepEqual([error.code, error.event], ["FORBIDDEN", "joinSession"]);
  await amy.must("joinSession", listed);
  await tim.must("joinSession", listed);
  const joined = await tim.next("sessionJoined");
  assert.deepEqual(joined.participants.map(({ role }) => role), ["student", "educator"]);
  for (const [client, sessionCode] of [[amy, listed], [eva, open], [ted, open]]) {
    assert.equal(await client.code("assignGroups", { sessionCode, groups: [] }), "FORBIDDEN");
    assert.equal(await client.code("syncActivity", { sessionCode, activity: 1, state: 1 }), "FORBIDDEN");
  }
  const outside = { sessionCode: listed, message: "x", status: "away", groups: [], activity: 1, state: 1, lineId: "l",
    text: "x", final: true, name: "n", mime: "m", data: Buffer.from("x"), messageId: "m", emoji: "x", isTyping: true, userId: "amy" };
  for (const name of ["sendMessage", "updatePresence", "assignGroups", "syncActivity", "transcript", "file", "react",
    "typingInSession", "messageRead", "signal"]) {
    assert.equal(await eva.code(name, outside), "NOT_IN_ROOM", name);
  }
  assert.equal(await eva.code("leaveSession", listed), "NOT_IN_ROOM");
  await settled(amy);
  assert.deepEqual(amy.remaining.map(({ name }) => name).filter((name) => name !== "session").sort(),
    ["participantJoined", "sessionJoined"]);
});

scenario("payloads that are wrong name the argument", async () => {
  const sessionCode = await session();
  const [tim] = await joined(sessionCode, ["tim"]);
  const wrong = [
    ["argument 1", "joinSession", "a:b"],
    ["argument 1", "joinSession", 7],
    ["argument 1", "joinSession"],
    ["argument 1", "leaveSession", {}],
    ["sessionCode", "sendMessage", { message: "x" }],
    ["sessionCode", "sendMessage", { sessionCode: "x:y", message: "x" }],
    ["message", "sendMessage", { sessionCode }],
    ["message", "sendMessage", { sessionCode, message: "" }],
    ["message", "sendMessage", { sessionCode, message: "x".repeat(4_001) }],
    ["status", "updatePresence", { sessionCode, status: "online" }],
    ["groups", "assignGroups", { sessionCode }],
    ["name", "assignGroups", { sessionCode, groups: [{ name: "a:b", userIds: [] }] }],
    ["`red`", "assignGroups", { sessionCode, groups: [{ name: "red", userIds: [] }, { name: "red", userIds: [] }] }],
    ["`amy`", "assignGroups", { sessionCode, groups: [{ name: "a", userIds: ["amy"] }, { name: "b", userIds: ["amy"] }] }],
    ["`amy`", "assignGroups", { sessionCode, groups: [{ name: "a", userIds: ["amy", "amy"] }] }],
    ["100", "assignGroups", { sessionCode, groups: Array.from({ length: 101 }, (_, at) => ({ name: `g${at}`, userIds: [] })) }],
    ["eva", "assignGroups", { sessionCode, groups: [{ name: "a", userIds: ["eva"] }] }],
    ["activity", "syncActivity", { sessionCode, activity: "x".repeat(4_095), state: 1 }],
    ["state", "syncActivity", { sessionCode, activity: "a" }],
    ["state", "syncActivity", { sessionCode, activity: "a", state: "x".repeat(60_000) }],
    ["binary", "syncActivity", { sessionCode, activity: "a", state: Buffer.from("x") }],
    ["lineId", "transcript", { sessionCode, lineId: "", text: "x", final: true }],
    ["text", "transcript", { sessionCode, lineId: "l", text: 7, final: true }],
    ["final", "transcript", { sessionCode, lineId: "l", text: "x" }],
    ["data", "file", { sessionCode, name: "n", mime: "m", data: "text" }],
    ["name", "file", { sessionCode, name: "", mime: "m", data: Buffer.from("x") }],
    ["mime", "file", { sessionCode, name: "n", mime: "x".repeat(128), data: Buffer.from("x") }],
    ["emoji", "react", { sessionCode, messageId: "m", emoji: "" }],
    ["messageId", "messageRead", { sessionCode }],
    ["isTyping", "typingInSession", { sessionCode, isTyping: 1 }],
    ["userId", "signal", { sessionCode, userId: "a:b", data: 1 }],
    ["data", "signal", { sessionCode, userId: "amy" }],
  ];
  for (const [argument, name, ...args] of wrong) {
    const error = await tim.error(name, ...args);
    assert.equal(error.code, "INVALID_PAYLOAD", `${name} ${JSON.stringify(args).slice(0, 80)}`);
    assert.ok(error.message.includes(argument), `${name}: ${error.message}`);
  }
});

scenario("two hundred of the longest messages are kept, and nobody is kept out by them", async () => {
  const sessionCode = await session();
  const [amy] = await joined(sessionCode, ["amy"]);
  // Each character takes six bytes of JSON.
  const longest = (at) => String(at).padEnd(4_000, "\u0001");
  for (let at = 1; at <= 203; at += 1) await amy.must("sendMessage", { sessionCode, message: longest(at) });
  const bea = await user("bea");
  await bea.must("joinSession", sessionCode);
  const { recentMessages } = await bea.next("sessionJoined");
  assert.equal(recentMessages.length, 200);
  for (const [at, { message }] of recentMessages.entries()) assert.equal(message, longest(at + 4));
});

scenario("a backend creates, asks for and ends sessions, and is told what is wrong", async () => {
  const sessionCode = `S-${(sessions += 1)}`;
  const post = async (name, data) => (await host.post(name, data, { body: { plugin: "classroom" } })).json.error;
  const created = await tell("session-create", { sessionCode, title: "Owls", educators: ["tim"], participants: ["amy"] });
  const { sessionId, createdAt, ...session } = created.session;
  assert.deepEqual(session, { sessionCode, title: "Owls", educators: ["tim"], participants: ["amy"], open: false });
  assert.match(sessionId, UUID7);
  assert.match(createdAt, RFC3339);
  assert.equal((await post("session-create", { sessionCode, educators: [] })).code, "CONFLICT");
  assert.deepEqual(await tell("session-get", { sessionCode }), {
    ok: true, session: created.session, participants: [], groups: [], activity: null, recentMessages: [],
  });
  await tell("session-end", { sessionCode });
  for (const name of ["session-get", "session-end"]) {
    assert.equal((await post(name, { sessionCode })).code, "NOT_FOUND", name);
    assert.equal((await post(name, {})).code, "INVALID_PAYLOAD", name);
  }
  for (const [argument, data] of [
    ["sessionCode", { educators: [] }],
    ["sessionCode", { sessionCode: "a:b", educators: [] }],
    ["educators", { sessionCode }],
    ["title", { sessionCode, educators: [], title: "" }],
    ["participants", { sessionCode, educators: [], participants: Array.from({ length: 301 }, (_, at) => `u${at}`) }],
  ]) {
    const error = await post("session-create", data);
    assert.equal(error.code, "INVALID_PAYLOAD");
    assert.ok(error.message.includes(argument), error.message);
  }
});

scenario("the operator's bounds hold: participants at a time, messages kept, bytes of a file", async () => {
  const settings = { maxParticipants: 2, keepMessages: 2, maxFileBytes: 3 };
  const bounded = await startHost({ plugins: ["classroom"], plugin: { classroom: { settings } } });
  await bounded.tell("session-create", { sessionCode: "S", educators: ["tim"], open: true });
  const [tim, amy, phone, bea] = await Promise.all(["tim", "amy", "amy", "bea"].map((name) => connect(bounded, name)));
  for (const client of [tim, amy, phone]) await client.must("joinSession", "S");
  assert.equal(await bea.code("joinSession", "S"), "CONFLICT");
  for (const message of ["one", "two", "three"]) await amy.must("sendMessage", { sessionCode: "S", message });
  const file = (size) => ({ sessionCode: "S", name: "n", mime: "m", data: Buffer.alloc(size) });
  await amy.must("file", file(3));
  assert.equal(await amy.code("file", file(4)), "INVALID_PAYLOAD");
  await tim.must("leaveSession", "S");
  await bea.must("joinSession", "S");
  const { participants, recentMessages } = await bea.next("sessionJoined");
  assert.deepEqual(participants.map(({ userId }) => userId), ["amy", "bea"]);
  assert.deepEqual(recentMessages.map(({ message }) => message), ["two", "three"]);
  assert.equal(await tim.code("joinSession", "S"), "CONFLICT", "an educator, too");
});

scenario("whoever types stops when they say no more, leave or are gone", async () => {
  const leave = (client) => client.must("leaveSession", "S");
  for (const [typingTimeout, ends] of [["500ms", [() => {}]], ["60s", [leave, (client) => client.close()]]]) {
    const own = await startHost({ plugins: ["classroom"], typingTimeout });
    await own.tell("session-create", { sessionCode: "S", educators: ["tim"], open: true });
    const [tim, amy] = await Promise.all(["tim", "amy"].map((name) => connect(own, name)));
    await tim.must("joinSession", "S");
    for (const end of ends) {
      await amy.must("joinSession", "S");
      await amy.must("typingInSession", { sessionCode: "S", isTyping: true });
      await end(amy);
      for (const isTyping of [true, false]) {
        assert.deepEqual(await tim.next("typingUpdated"), { sessionCode: "S", userId: "amy", isTyping });
      }
    }
  }
});

scenario("a wrong setting is refused by its name", async () => {
  for (const [setting, value] of [["keepMessages", 201], ["maxFileBytes", 0], ["maxParticipants", "many"], ["keepMesages", 10]]) {
    const strict = await startHost({ plugins: ["classroom", "rooms"], plugin: { classroom: { settings: { [setting]: value } } } });
    assert.match(strict.log(), new RegExp(setting));
    assert.equal((await strict.post("session-get", { sessionCode: "S" })).json.ok, false);
    await strict.stop();
  }
});
