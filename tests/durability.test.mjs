// State that is never half done: what kill -9, several hosts and a Redis in trouble leave of it.

import assert from "node:assert/strict";
import { connect, settled } from "./harness/clients.mjs";
import { waitFor } from "./harness/deadline.mjs";
import { freeze, thaw } from "./harness/processes.mjs";
import { Proxy, Redis, RedisCluster } from "./harness/redis.mjs";
import { scenario, startHost } from "./harness/scenario.mjs";

/** How often a host is killed under load; more of it by the environment. */
const KILLS = Number(process.env.SWITCHBOARD_KILLS ?? 20);

/** How long after a host has ended others have sent what it left. */
const SWEPT = 40_000;

/** Returns all lines of a book. */
async function lines(client, book) {
  const all = [];
  for (;;) {
    const page = (await client.must("ledger:page", book, all.at(-1)?.position ?? 0)).lines;
    all.push(...page);
    if (page.length < 200) return all;
  }
}

function heard(client) {
  return client.inbox.filter(({ name }) => name === "ledger:line").map(({ args }) => args[0]);
}

/**
 * Writers append while the host is killed again and again. What was acknowledged is in the history
 * once, and everything in it is heard by a listener, who reconnects.
 */
async function killUnderLoad({ state, redisPort }) {
  const writers = 6;
  const host = await startHost({ plugins: ["ledger"], state, redisPort });
  const listener = await connect(host, "listener", { reconnect: true });
  let opened = 0;
  listener.socket.on("connect", () => listener.socket.emit("ledger:open", "b", () => { opened += 1; }));
  await listener.must("ledger:open", "b");
  const acknowledged = new Set();
  let number = 0;
  for (let round = 0; round < KILLS; round += 1) {
    const clients = await Promise.all(Array.from({ length: writers }, (_, n) => connect(host, `w${n}`)));
    let answers = 0;
    for (const client of clients) {
      const send = () => {
        const text = String((number += 1));
        client.socket.emit("ledger:append", "b", text, (answer) => {
          if (!answer?.ok) return;
          acknowledged.add(text);
          answers += 1;
          send();
        });
      };
      for (let k = 0; k < 3; k += 1) send();
    }
    const enough = 20 + (round * 23) % 200;
    await waitFor(() => answers >= enough, `${enough} acknowledgements`, 20_000);
    await host.kill();
    for (const client of clients) client.close();
    await host.start();
    // Who is not there when something is sent does not hear it.
    await waitFor(() => opened > round, "the listener to be back");
  }
  const reader = await connect(host, "reader");
  const written = await lines(reader, "b");
  written.forEach(({ position }, index) => assert.equal(position, index + 1, "positions have no gaps"));
  const texts = written.map(({ text }) => text);
  assert.equal(new Set(texts).size, texts.length, "nothing is there twice");
  const there = new Set(texts);
  for (const text of acknowledged) assert.ok(there.has(text), `${text} was acknowledged and is not there`);
  const missing = () => {
    const known = new Set(heard(listener));
    return texts.filter((text) => !known.has(text));
  };
  await waitFor(() => missing().length === 0, () => `the listener to hear ${missing()}`, SWEPT);
}

scenario("kill -9 on the embedded store: what was acknowledged is there once, and all of it is heard", () =>
  killUnderLoad({ state: "embedded" }), { timeout: 60_000 + KILLS * 10_000 });

scenario("kill -9 on Redis: what was acknowledged is there once, and all of it is heard", async () => {
  const redis = await Redis.start();
  await killUnderLoad({ state: "redis", redisPort: redis.port });
}, { timeout: 60_000 + KILLS * 10_000 });

scenario("a survivor sends what a host that was killed has left", async () => {
  const redis = await Redis.start();
  const options = { plugins: ["ledger"], redisPort: redis.port };
  const [dying, survivor] = [await startHost(options), await startHost(options)];
  const listener = await connect(survivor, "listener");
  await listener.must("ledger:open", "b");
  const writer = await connect(dying, "writer");
  let answers = 0;
  const send = () => writer.socket.emit("ledger:append", "b", String((answers += 1)), send);
  for (let k = 0; k < 64; k += 1) send();
  await waitFor(() => answers > 400, "400 answers", 20_000);
  await dying.kill();
  // What was under way when it died is at most what was sent at a time.
  const left = redis.command("--scan", "--pattern", "switchboard:{ledger:b}:o:*").split("\n").filter(Boolean);
  const unsent = left.flatMap((key) => redis.command("hvals", key).split("\n")).filter(Boolean);
  const texts = unsent.map((text) => JSON.parse(JSON.parse(text).emissions[0].packet)[1]);
  assert.ok(texts.length > 0, "something was left");
  await waitFor(() => texts.every((text) => heard(listener).includes(text)), "what was left unsent", SWEPT);
}, { timeout: 120_000 });

scenario("killed between the commit and what it emits: a survivor emits it", async () => {
  const redis = await Redis.start();
  const proxy = await Proxy.to(redis);
  const survivor = await startHost({ plugins: ["ledger"], redisPort: redis.port });
  const dying = await startHost({ plugins: ["ledger"], redisPort: proxy.port });
  const listener = await connect(survivor, "listener");
  await listener.must("ledger:open", "b");
  const writer = await connect(dying, "writer");
  await writer.must("ledger:append", "b", "before");
  proxy.holding = true;
  let answered = false;
  writer.socket.emit("ledger:append", "b", "committed", () => { answered = true; });
  // The commit is done, and its host does not know it.
  await waitFor(async () => (await lines(listener, "b")).length === 2, "the commit");
  await dying.kill();
  assert.equal(answered, false);
  assert.ok(!heard(listener).includes("committed"));
  await waitFor(() => heard(listener).includes("committed"), "what was committed to be heard", SWEPT);
}, { timeout: 120_000 });

scenario("an answer that is lost on its way is asked for again, and nothing is done twice", async () => {
  const redis = await Redis.start();
  const proxy = await Proxy.to(redis);
  const host = await startHost({ plugins: ["ledger"], redisPort: proxy.port, redisTimeout: "2s" });
  const client = await connect(host, "ann");
  await client.must("ledger:append", "b", "before");
  const direct = await startHost({ plugins: ["ledger"], redisPort: redis.port });
  const reader = await connect(direct, "ben");
  for (let number = 0; number < 5; number += 1) {
    proxy.holding = true;
    const answer = client.ask("ledger:append", "b", String(number));
    await waitFor(async () => (await lines(reader, "b")).length === number + 2, "the commit");
    // The answer to it never comes; the connection that would have brought it ends.
    proxy.drop();
    proxy.holding = false;
    assert.equal((await answer).ok, true, "it was done, and is acknowledged");
  }
  assert.deepEqual((await lines(reader, "b")).map(({ text }) => text), ["before", "0", "1", "2", "3", "4"]);
}, { timeout: 120_000 });

scenario("what was committed although its sender was told UNAVAILABLE is emitted all the same", async () => {
  const redis = await Redis.start();
  const proxy = await Proxy.to(redis);
  const host = await startHost({ plugins: ["ledger"], redisPort: proxy.port, redisTimeout: "2s" });
  const [client, listener] = [await connect(host, "ann"), await connect(host, "listener")];
  await listener.must("ledger:open", "b");
  await client.must("ledger:append", "b", "before");
  proxy.holding = true;
  const answer = await client.ask("ledger:append", "b", "committed");
  assert.equal(answer.error?.code, "UNAVAILABLE", JSON.stringify(answer));
  assert.ok(!heard(listener).includes("committed"));
  proxy.holding = false;
  proxy.drop();
  await waitFor(() => heard(listener).includes("committed"), "what was committed to be heard", SWEPT);
  assert.equal(heard(listener).filter((text) => text === "committed").length, 1);
  assert.deepEqual((await lines(client, "b")).map(({ text }) => text), ["before", "committed"]);
}, { timeout: 120_000 });

/** 200 users of three hosts count 50 times each, in books that the number of the user chooses. */
async function count200(options, book) {
  const hosts = await Promise.all([0, 1, 2].map(() => startHost({ plugins: ["ledger"], ...options })));
  const clients = await Promise.all(Array.from({ length: 200 }, (_, n) => connect(hosts[n % 3], `u${n}`)));
  await Promise.all(clients.map(async (client, n) => {
    for (let k = 0; k < 50; k += 1) await client.must("ledger:count", book(n));
  }));
  return async (book) => (await clients[0].must("ledger:read", book)).value;
}

scenario("10,000 naive increments by 200 users of three hosts on one Redis end exact, and none is refused", async () => {
  const redis = await Redis.start(["--appendfsync", "no"]);
  const value = await count200({ redisPort: redis.port }, () => "hot");
  assert.equal(await value("hot"), 10_000);
}, { timeout: 120_000 });

scenario("10,000 naive increments through three hosts on a Redis Cluster end exact, on one key and over the slots", async () => {
  const cluster = await RedisCluster.start(["--appendfsync", "no"]);
  const options = { redisPort: cluster.port, redisCluster: true };
  // Half of them count in one book, the others in 20 books, whose partitions lie on all masters.
  const value = await count200(options, (n) => (n % 2 === 0 ? "hot" : `book-${n % 40}`));
  assert.equal(await value("hot"), 5_000);
  for (let n = 1; n < 40; n += 2) assert.equal(await value(`book-${n}`), 250, `book-${n}`);
  assert.ok(cluster.keys().every((keys) => keys >= 5), `spread over the masters: ${cluster.keys()}`);
}, { timeout: 120_000 });

/** Says how late timers took effect, which depends on the machine. */
function tellLateness(context, late) {
  const sorted = late.toSorted((one, other) => one - other);
  const at = (part) => sorted[Math.floor((sorted.length - 1) * part)];
  context.diagnostic(`late by ms: median ${at(0.5)}, p99 ${at(0.99)}, most ${at(1)}`);
}

scenario("timers over three hosts, one of them killed: each takes effect once, and none early", async (context) => {
  const redis = await Redis.start(["--appendfsync", "no"]);
  const hosts = await Promise.all([0, 1, 2].map(() => startHost({ plugins: ["ledger"], redisPort: redis.port })));
  const client = await connect(hosts[0], "ann");
  const [books, each] = [20, 250];
  for (let book = 0; book < books; book += 1) {
    const request = { book: `book-${book}`, first: 0, number: each, inMs: 3_000, apartMs: 16 };
    await client.must("ledger:schedule", request);
  }
  await client.must("ledger:schedule", { book: "later", first: 0, number: 1, inMs: 40 * 86_400_000 });
  const fired = async () => {
    const all = [];
    for (let book = 0; book < books; book += 1) {
      all.push(...(await lines(client, `book-${book}`)).map(({ text }) => [`${book} ${text.split(" ")[0]}`, Number(text.split(" ")[1])]));
    }
    return all;
  };
  await waitFor(async () => (await fired()).length > 200, "some timers", 20_000);
  await hosts[2].kill();
  await waitFor(async () => (await fired()).length >= books * each, "all timers", 40_000);
  const all = await fired();
  assert.equal(new Set(all.map(([name]) => name)).size, books * each);
  assert.equal(all.length, books * each, "none takes effect twice");
  assert.ok(all.every(([, late]) => late >= 0), "none is early");
  tellLateness(context, all.map(([, late]) => late));
  assert.equal((await lines(client, "later")).length, 0);
}, { timeout: 120_000 });

scenario("a thousand timers of the same second take effect once each, none early, and outlive a restart", async (context) => {
  const host = await startHost({ plugins: ["ledger"] });
  const client = await connect(host, "ann");
  await client.must("ledger:schedule", { book: "b", first: 0, number: 1_000, inMs: 4_000 });
  await host.kill();
  await host.start();
  const again = await connect(host, "ann");
  const fired = async () => await lines(again, "b");
  await waitFor(async () => (await fired()).length === 1_000, "all timers", 30_000);
  const late = (await fired()).map(({ text }) => Number(text.split(" ")[1]));
  assert.ok(Math.min(...late) >= 0, "none is early");
  tellLateness(context, late);
  const names = new Set((await fired()).map(({ text }) => text.split(" ")[0]));
  assert.equal(names.size, 1_000);
}, { timeout: 120_000 });

scenario("a Redis in trouble: UNAVAILABLE in time, never half a transaction, and recovery by itself", async () => {
  const redis = await Redis.start();
  const host = await startHost({ plugins: ["ledger"], redisPort: redis.port, redisTimeout: "1s" });
  const client = await connect(host, "ann");
  const count = async () => (await client.must("ledger:count", "b")).value;
  const refused = async (what) => {
    const began = performance.now();
    const answer = await client.ask("ledger:count", "b");
    assert.equal(answer.error?.code, "UNAVAILABLE", `${what}: ${JSON.stringify(answer)}`);
    assert.ok(!/redis/i.test(answer.error.message), "internals stay inside");
    assert.ok(performance.now() - began < 5_000, `${what}: answered in time`);
  };
  const recovered = (what) => waitFor(async () => (await client.ask("ledger:count", "b")).ok, `recovery from ${what}`, 15_000);
  assert.equal(await count(), 1);

  redis.command("config", "set", "maxmemory", "1");
  await refused("out of memory");
  redis.command("config", "set", "maxmemory", "0");
  assert.equal(await count(), 2);

  redis.command("replicaof", "127.0.0.1", "1");
  await refused("read-only");
  redis.command("replicaof", "no", "one");
  assert.equal(await count(), 3);

  const slow = redis.process;
  await freeze(slow);
  await refused("stopped");
  thaw(slow);
  await recovered("a stop");
  // What was refused while it was stopped did nothing when it went on.
  assert.equal((await client.must("ledger:read", "b")).value, 4);

  await redis.kill();
  await refused("killed");
  await redis.start();
  await recovered("a restart");
  assert.equal((await client.must("ledger:read", "b")).value, 5);

  redis.command("flushall");
  assert.equal(await count(), 1, "what was emptied begins anew");
  assert.equal((await host.request("/healthz")).status, 200);
}, { timeout: 120_000 });

scenario("without Redis what needs state is UNAVAILABLE and not half done, relays go on, and all goes on when it is back", async () => {
  const redis = await Redis.start();
  const host = await startHost({ plugins: ["rooms", "lms", "chat"], redisPort: redis.port, redisTimeout: "1s" });
  const [ann, ben] = await Promise.all(["ann", "ben"].map((name) => connect(host, name, { claims: { enrolledCourses: ["c"] } })));
  const tell = (plugin, name, data) => host.tell(name, data, { plugin });
  await tell("chat", "conversation-create", { conversationId: "talk", members: ["ann", "ben"] });
  await tell("lms", "course-content", { courseId: "c", threads: ["t"] });
  const roomId = "r";
  for (const client of [ann, ben]) {
    for (const joins of [["room:join", { roomId }], ["join-course", "c"], ["join-room", "talk"]]) await client.must(...joins);
  }
  const stateful = [
    ["room:join", { roomId: "another" }],
    ["room:join", { roomId }],
    ["message", { roomId, content: "said" }],
    ["history", { roomId }],
    ["join-course", "c"],
    ["join-thread", "t"],
    ["message-send", { tempId: "one", conversationId: "talk", content: "said" }],
    ["conversation-history", { conversationId: "talk" }],
  ];
  const backend = [
    ["rooms", "room-get", { roomId }],
    ["rooms", "message-send", { roomId, userId: "bot", content: "said" }],
    ["lms", "course-content", { courseId: "c", threads: ["later"] }],
  ];
  const relays = async () => {
    for (const isTyping of [true, false]) {
      await ann.must("typing", { roomId, isTyping });
      assert.equal((await ben.next("typing", (news) => news.roomId === roomId)).isTyping, isTyping);
      await ann.must(isTyping ? "start-typing" : "stop-typing", "course:c");
      assert.equal((await ben.next("user-typing")).isTyping, isTyping);
    }
    await ann.must("document:edit", { roomId, changes: Buffer.from([1, 255]), cursor: 3 });
    assert.deepEqual(await ben.next("document:edit"), { roomId, userId: "ann", changes: Buffer.from([1, 255]), cursor: 3 });
    await tell("lms", "announcement", { courseId: "c", title: "t", content: "c" });
    await ben.next("announcement-published");
  };
  await relays();

  await redis.kill();
  for (const [name, ...args] of stateful) assert.equal(await ann.code(name, ...args), "UNAVAILABLE", name);
  for (const [plugin, name, data] of backend) {
    const { status, json } = await host.post(name, data, { body: { plugin } });
    assert.deepEqual([status, json.error.code], [503, "UNAVAILABLE"], name);
  }
  await relays();
  await settled(ann, ben);
  for (const name of ["message", "message-new"]) assert.deepEqual(ben.heard(name), [], name);

  await redis.start();
  await waitFor(async () => (await ann.ask("history", { roomId })).ok, "recovery", 15_000);
  assert.deepEqual((await ann.must("history", { roomId })).messages, [], "what was refused was not done");
  assert.deepEqual((await ann.must("conversation-history", { conversationId: "talk" })).messages, []);
  assert.equal(await ann.code("join-thread", "later"), "NOT_FOUND");
  assert.equal((await host.post("room-get", { roomId: "another" })).json.error.code, "NOT_FOUND");
  for (const [name, ...args] of stateful) await ann.must(name, ...args);
  for (const event of backend) await tell(...event);
  for (const name of ["message", "message", "message-new"]) assert.equal((await ben.next(name)).content, "said");
  await relays();
  await settled(ben);
  for (const name of ["message", "message-new"]) assert.deepEqual(ben.heard(name), [], name);
  assert.deepEqual([ann, ben].map((client) => client.disconnections), [[], []]);
}, { timeout: 120_000 });

scenario("a full disk: refused in time, what was acknowledged stays, and it goes on when there is room", async () => {
  const host = await startHost({ plugins: ["ledger"], largestFileKb: 6_000 });
  const client = await connect(host, "ann");
  const acknowledged = [];
  let refused;
  for (let number = 0; number < 1_000 && !refused; number += 1) {
    const text = `${number} ${"x".repeat(40_000)}`;
    const answer = await client.ask("ledger:append", "b", text);
    if (answer.ok) acknowledged.push(text);
    else refused = answer.error;
  }
  assert.equal(refused?.code, "UNAVAILABLE");
  assert.ok(acknowledged.length > 10, `${acknowledged.length} fitted`);
  assert.match(host.log(), /state cannot be written/);
  const there = async (reader) => {
    const all = [];
    for (const text of acknowledged) {
      const after = all.length;
      const { lines: page } = await reader.must("ledger:page", "b", after, 1);
      assert.equal(page[0]?.text, text);
      all.push(text);
    }
    return (await reader.must("ledger:page", "b", all.length, 1)).lines.length;
  };
  assert.equal(await there(client), 0, "what was refused is not there");
  await host.stop();
  host.largestFileKb = undefined;
  await host.start();
  const again = await connect(host, "ann");
  assert.equal(await there(again), 0);
  await again.must("ledger:append", "b", "there is room");
});

scenario("bounds of the operator: what is beyond them is refused, and deleting goes on", async () => {
  const host = await startHost({ plugins: ["ledger"], plugin: { ledger: { max_state_entries: 20 } } });
  const client = await connect(host, "ann");
  let stored = 0;
  let refused;
  while (!refused) {
    const answer = await client.ask("ledger:append", "b", String(stored));
    if (answer.ok) stored += 1;
    else refused = answer.error;
  }
  assert.equal(refused.code, "STATE_FULL");
  assert.equal(stored, 10);
  await client.ask("ledger:append", "b", "x".repeat(70_000));
  const { text } = await host.request("/metrics");
  assert.match(text, /switchboard_state_full_total\{plugin="ledger"\} 1/);
  assert.match(text, /switchboard_state_refused_total\{plugin="ledger",outcome="TOO_LARGE"\} 1/);
  assert.match(host.log(), /max_state_entries/);
});
