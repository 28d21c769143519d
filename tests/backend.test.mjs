// What a backend learns of those who are connected, and does to them, without a plugin: on any host of a
// cluster for all of them.

import assert from "node:assert/strict";
import { connect } from "./harness/clients.mjs";
import { probe } from "./harness/components.mjs";
import { API_KEY } from "./harness/configuration.mjs";
import { waitFor } from "./harness/deadline.mjs";
import { Redis } from "./harness/redis.mjs";
import { scenario, startHost } from "./harness/scenario.mjs";

const OPTIONS = { plugins: ["probe"], presenceGrace: "1s" };

async function call(host, method, path, data, headers = {}) {
  const body = data === undefined || typeof data === "string" ? data : JSON.stringify(data);
  const answer = await host.request(`/api/v1/${path}`, {
    method,
    headers: { authorization: `Bearer ${API_KEY}`, "content-type": "application/json", ...headers },
    body,
  });
  return { status: answer.status, json: answer.json };
}

const get = (host, path) => call(host, "GET", path);
const post = (host, path, data) => call(host, "POST", path, data);
const must = async (answer) => {
  const { status, json } = await answer;
  assert.deepEqual([status, json.ok], [200, true], JSON.stringify(json));
  const { ok: _, ...rest } = json;
  return rest;
};

/** One host alone, and two on the same Redis: `first` has the connections, and `asked` is asked. */
const PLACES = {
  "one host": async (more) => {
    const host = await startHost({ ...OPTIONS, ...more });
    return { first: host, asked: host };
  },
  "two hosts": async (more) => {
    const redis = await Redis.start();
    const options = { ...OPTIONS, ...more, redisPort: redis.port };
    return { first: await startHost(options), asked: await startHost(options) };
  },
};

for (const [place, start] of Object.entries(PLACES)) {
  const until = async (host, path, look) => {
    let seen;
    await waitFor(async () => look(seen = await must(get(host, path))), () => `${path} to be as expected; it is ${JSON.stringify(seen)}`, 10_000);
    return seen;
  };

  scenario(`a backend reads who is connected, and where (${place})`, async () => {
    const { first, asked } = await start();
    assert.deepEqual(await must(get(asked, "totals")), { users: 0, connections: 0, rooms: 0 });
    assert.deepEqual(await must(get(asked, "users/ann")), { userId: "ann", status: "offline", lastSeenAt: null, connected: false, connections: [], hasMore: false });
    const phone = await connect(first, "ann", { role: "educator" });
    const laptop = await connect(asked, "ann", { role: "educator" });
    const ben = await connect(first, "ben");
    for (const client of [phone, ben]) await client.must("probe:join", "probe:lobby");

    assert.deepEqual(await until(asked, "totals", ({ connections, rooms }) => connections === 3 && rooms === 1), { users: 2, connections: 3, rooms: 1 });
    const ann = await until(asked, "users/ann", ({ connections }) => connections.some(({ rooms }) => rooms.length > 0));
    assert.deepEqual([ann.status, ann.connected], ["online", true]);
    assert.ok(Math.abs(Date.parse(ann.lastSeenAt) - Date.now()) < 60_000, ann.lastSeenAt);
    const shown = { connectionId: phone.id, userId: "ann", role: "educator", namespace: "/", rooms: ["probe:lobby"] };
    assert.deepEqual(ann.connections, [shown, { ...shown, connectionId: laptop.id, rooms: [] }].toSorted((a, b) => (a.connectionId < b.connectionId ? -1 : 1)));
    assert.deepEqual(await must(get(asked, `connections/${phone.id}`)), shown);

    const room = await until(asked, "rooms/probe:lobby", ({ users }) => users === 2);
    const { members, ...rest } = room;
    assert.deepEqual(rest, { room: "probe:lobby", users: 2, hasMore: false });
    assert.deepEqual(members.map(({ userId, role }) => [userId, role]).toSorted(), [["ann", "educator"], ["ben", "student"]]);
    assert.equal((await must(get(asked, "rooms/probe%3Alobby?limit=2"))).hasMore, false);
    const pages = [await must(get(asked, "rooms/probe:lobby?limit=1"))];
    pages.push(await must(get(asked, `rooms/probe:lobby?limit=1&after=${pages[0].members[0].connectionId}`)));
    assert.deepEqual(pages.map(({ hasMore }) => hasMore), [true, false]);
    assert.deepEqual(pages.flatMap(({ members: some }) => some), members);

    const users = [await must(get(asked, "users?limit=1")), await must(get(asked, "users?limit=1&after=ann"))];
    assert.deepEqual(users.map(({ hasMore }) => hasMore), [true, false]);
    assert.deepEqual(users.flatMap((page) => page.users.map(({ userId, connections }) => [userId, connections])), [["ann", 2], ["ben", 1]]);

    phone.close();
    await until(asked, "users/ann", ({ connections }) => connections.length === 1);
    assert.equal((await get(asked, `connections/${phone.id}`)).json.error.code, "NOT_FOUND");
  });

  scenario(`a backend sends events, to some and not to others (${place})`, async () => {
    const { first, asked } = await start();
    const [ann, ben, cyd] = [await connect(first, "ann"), await connect(asked, "ben"), await connect(first, "cyd")];
    for (const client of [ann, ben]) await client.must("probe:join", "probe:lobby");
    await until(asked, "rooms/probe:lobby", ({ users }) => users === 2);
    const send = (args, to, except) => must(post(asked, "emit", { name: "news", args, to, except }));
    await send(["all", { n: 1 }], { everyone: true });
    await send(["but ann"], { everyone: true }, { users: ["ann"] });
    await send(["room"], { rooms: ["probe:lobby"] });
    await send(["once"], { users: ["ann"], rooms: ["probe:lobby"], connections: [ann.id] });
    await send(["one"], { connections: [cyd.id] });
    await send(undefined, { users: ["ann", "cyd", "ann"] }, { connections: [cyd.id] });
    await send(["nobody"], { users: ["ann", "ben"] }, { everyone: true });
    await send(["last"], { users: ["ann", "ben", "cyd"] });
    for (const client of [ann, ben, cyd]) {
      await waitFor(() => client.heard("news").includes("last"), `${client.user} to hear the last`, 10_000);
    }
    assert.deepEqual(ann.heard("news"), ["all", "room", "once", undefined, "last"]);
    assert.deepEqual(ben.heard("news"), ["all", "but ann", "room", "once", "last"]);
    assert.deepEqual(cyd.heard("news"), ["all", "but ann", "one", "last"]);
    assert.deepEqual(ann.inbox.find(({ name }) => name === "news").args, ["all", { n: 1 }]);
  });

  scenario(`a backend ends connections: a user's, and those of the inactive (${place})`, async () => {
    const { first, asked } = await start({ presenceIdle: "1s" });
    const [phone, laptop, ben, cyd] = [await connect(first, "ann"), await connect(asked, "ann"), await connect(first, "ben"), await connect(asked, "cyd")];
    await until(asked, "totals", ({ connections }) => connections === 4);
    assert.deepEqual(await must(post(asked, "disconnect", { who: { users: ["ann"] }, reason: "logged out" })), { connections: 2, hasMore: false });
    for (const client of [phone, laptop]) assert.equal(await client.closed(), "io server disconnect");
    await until(asked, "users/ann", ({ connected }) => !connected);
    assert.deepEqual(await must(post(asked, "disconnect", { who: { users: ["ann"] } })), { connections: 0, hasMore: false });

    // Who is active stays.
    await waitFor(async () => {
      await cyd.must("probe:echo", 1);
      return (await must(post(asked, "disconnect", { who: { everyone: true }, inactiveSeconds: 2, transport: true }))).connections === 1;
    }, "somebody to be inactive", 15_000);
    assert.equal(await ben.closed(), "transport close");
    await cyd.must("probe:echo", 2);
  });
}

scenario("namespaces are apart, and a user is in both", async () => {
  const host = await startHost({
    ...OPTIONS,
    plugins: { probe: probe(), second: probe({ name: "second" }) },
    plugin: { second: { namespace: "/second" } },
  });
  const [root, second] = [await connect(host, "ann"), await connect(host, "ann", { namespace: "/second" })];
  await second.must("probe:join", "second:lobby");
  const { connections } = await must(get(host, "users/ann"));
  assert.deepEqual(new Map(connections.map(({ namespace, rooms }) => [namespace, rooms])), new Map([["/", []], ["/second", ["second:lobby"]]]));
  assert.deepEqual(await must(get(host, "totals")), { users: 1, connections: 2, rooms: 1 });
  assert.deepEqual((await must(get(host, "rooms/second:lobby"))).members, []);
  const { members } = await must(get(host, "rooms/second:lobby?namespace=%2Fsecond"));
  assert.deepEqual(members.map(({ connectionId }) => connectionId), [second.id]);
  for (const namespace of [undefined, "/second"]) {
    await must(post(host, "emit", { namespace, to: { everyone: true }, name: "news", args: [namespace ?? "/"] }));
  }
  assert.equal(await root.next("news"), "/");
  assert.equal(await second.next("news"), "/second");
  assert.equal((await must(post(host, "disconnect", { namespace: "/second", who: { users: ["ann"] } }))).connections, 1);
  await second.closed();
  await root.must("probe:echo", 1);
  assert.deepEqual([...root.heard("news"), ...second.heard("news")], []);
});

scenario("who has vanished a moment ago is in a room, and not connected", async () => {
  const host = await startHost({ ...OPTIONS, presenceGrace: "60s" });
  const ann = await connect(host, "ann");
  await ann.must("probe:join", "probe:lobby");
  ann.close();
  await waitFor(async () => (await must(get(host, "totals"))).connections === 0, "the end of the connection", 10_000);
  const { users, members } = await must(get(host, "rooms/probe:lobby"));
  assert.deepEqual([users, members], [1, []]);
  const { connected, status } = await must(get(host, "users/ann"));
  assert.deepEqual([connected, status], [false, "online"]);
  assert.deepEqual((await must(get(host, "users"))).users, []);
  assert.equal((await get(host, `connections/${ann.id}`)).status, 404);
});

scenario("what a backend asks for wrongly is refused, with the place", async () => {
  const host = await startHost(OPTIONS);
  for (const [path, data, expected] of [
    ["emit", {}, /missing field `to`/],
    ["emit", { to: { everyone: true } }, /missing field `name`/],
    ["emit", { to: {}, name: "x" }, /^to: expected `users`/],
    ["emit", { to: { user: ["ann"] }, name: "x" }, /^to.*unknown field `user`/],
    ["emit", { to: { users: "ann" }, name: "x" }, /^to\.users: invalid type/],
    ["emit", { to: { everyone: true, users: ["a:b"] }, name: "x" }, /^to\.users\[0\]/],
    ["emit", { to: ["ann"], name: "x" }, /to: invalid type/],
    ["emit", { to: { everyone: true }, except: [], name: "x" }, /except: invalid type/],
    ["emit", { to: { rooms: ["user:ann"] }, name: "x" }, /^to\.rooms\[0\]: name the user/],
    ["emit", { to: { users: Array.from({ length: 10_001 }, (_, n) => `u${n}`) }, name: "x" }, /^to: expected at most 10000/],
    ["emit", [null, { everyone: true }, {}, "x", [], false], /expected an object/],
    ["emit", { to: { users: ["ann", "a:b"] }, name: "x" }, /^to\.users\[1\]: user id/],
    ["emit", { to: { rooms: ["lobby"] }, name: "x" }, /^to\.rooms\[0\]: room/],
    ["emit", { to: { everyone: true }, except: { connections: ["1"] }, name: "x" }, /^except\.connections\[0\]: expected the id/],
    ["emit", { to: { everyone: true }, name: "disconnect" }, /reserved/],
    ["emit", { to: { everyone: true }, name: "x", args: { n: 1 } }, /^args: /],
    ["emit", { to: { everyone: true }, name: "x", args: [{ _placeholder: true, num: 0 }] }, /^args: binary/],
    ["emit", "[", /the body is not an emission/],
    ["disconnect", {}, /missing field `who`/],
    ["disconnect", { who: {} }, /^who: expected/],
    ["disconnect", { who: { everyone: true }, reason: "a\nb" }, /^reason: /],
    ["disconnect", { who: { everyone: true }, inactiveSeconds: -1 }, /: inactiveSeconds: invalid value/],
  ]) {
    const { status, json } = await post(host, path, data);
    assert.deepEqual([status, json.error?.code], [400, "INVALID_PAYLOAD"], JSON.stringify(data));
    assert.match(json.error.message, expected, JSON.stringify(data));
  }
  for (const [path, code] of [
    ["users/a:b", "INVALID_PAYLOAD"],
    ["users?limit=0", "INVALID_PAYLOAD"],
    ["users?limt=1", "INVALID_PAYLOAD"],
    ["connections/1", "INVALID_PAYLOAD"],
    ["rooms/lobby", "INVALID_PAYLOAD"],
    ["rooms/probe:lobby?after=1", "INVALID_PAYLOAD"],
    ["rooms/user:ann", "INVALID_PAYLOAD"],
    ["users/%FF", "INVALID_PAYLOAD"],
    ["users?namespace=/", "INVALID_PAYLOAD"],
    ["nothing", "NOT_FOUND"],
    ["emit", "INVALID_PAYLOAD"],
    ["rooms/probe:lobby?namespace=/nowhere", "NOT_FOUND"],
  ]) assert.equal((await get(host, path)).json.error.code, code, path);
  assert.equal((await post(host, "emit", { namespace: "/nowhere", to: { everyone: true }, name: "x" })).json.error.code, "NOT_FOUND");
  assert.equal((await post(host, "emit", { to: { everyone: true }, name: "x", args: ["x".repeat(1_000_000)] })).status, 413);
  assert.deepEqual([(await get(host, "nothing")).status, (await get(host, "emit")).status], [404, 405]);
  for (const [method, path] of [["GET", "nothing"], ["GET", "plugins"], ["GET", `connections/${crypto.randomUUID()}`], ["GET", "totals"], ["GET", "users"], ["GET", "users/ann"], ["GET", "rooms/probe:lobby"], ["POST", "emit"], ["POST", "disconnect"]]) {
    assert.equal((await call(host, method, path, method === "POST" ? {} : undefined, { authorization: "Bearer wrong" })).status, 401, path);
  }
});
