// Rooms, targets and notices: what instructions do, and what they may not.

import assert from "node:assert/strict";
import { connect, settled, TRANSPORTS } from "./harness/clients.mjs";
import { probe } from "./harness/components.mjs";
import { hostForFile, scenario, startHost } from "./harness/scenario.mjs";

// The second plugin is there to have rooms of its own; what it does is heard in its namespace only.
const host = hostForFile({
  presenceGrace: "300ms",
  plugins: { probe: probe(), second: probe({ name: "second" }) },
  plugin: { second: { namespace: "/second" } },
  quarantineFaults: 10_000,
});
const emit = (client, emission) => client.must("probe:emit", { name: "probe:news", args: ["news"], ...emission });

let rooms = 0;
const newRoom = () => `probe:room-${(rooms += 1)}`;

for (const transport of TRANSPORTS) {
  scenario(`join, hear, leave, hear no more (${transport})`, async () => {
    const room = newRoom();
    const [inside, outside] = await Promise.all([
      connect(host, "inside", { transport }),
      connect(host, "outside", { transport }),
    ]);
    await inside.must("probe:join", room);
    await emit(outside, { to: [`room:${room}`] });
    assert.equal(await inside.next("probe:news"), "news");
    await inside.must("probe:leave", room);
    await emit(outside, { to: [`room:${room}`] });
    await settled(inside, outside);
    assert.deepEqual(inside.heard("probe:news"), []);
    assert.deepEqual(outside.heard("probe:news"), []);
  });

  scenario(`targets are united, exceptions taken out, and nobody hears twice (${transport})`, async () => {
    const [room, known] = [newRoom(), newRoom()];
    const [a, b, c] = await Promise.all(["ann", "bea", "cem"].map((user) => connect(host, user, { transport })));
    const second = await connect(host, "ann", { transport });
    for (const client of [a, b]) await client.must("probe:join", room);
    // A connection can be named by who shares the plugin's rooms with it.
    for (const client of [a, second]) await client.must("probe:join", known);
    const heardBy = async (emission) => {
      await emit(c, emission);
      await settled(a, b, c, second);
      const counts = [a, second, b, c].map((client) => client.heard("probe:news").length);
      for (const client of [a, second, b, c]) client.clear();
      return counts;
    };
    assert.deepEqual(await heardBy({ to: ["user:ann"] }), [1, 1, 0, 0]);
    assert.deepEqual(await heardBy({ to: [`connection:${second.id}`] }), [0, 1, 0, 0]);
    assert.deepEqual(await heardBy({ to: ["user:ann", `room:${room}`, `connection:${a.id}`] }), [1, 1, 1, 0]);
    assert.deepEqual(await heardBy({ to: ["everyone"], except: ["user:bea"] }), [1, 1, 0, 1]);
    assert.deepEqual(await heardBy({ to: ["everyone"], except: [`room:${room}`] }), [0, 1, 0, 1]);
    assert.deepEqual(await heardBy({ to: ["everyone"], except: [`connection:${a.id}`] }), [0, 1, 1, 1]);
    assert.deepEqual(await heardBy({ to: ["user:nobody", "room:probe:nobody"] }), [0, 0, 0, 0]);
    assert.deepEqual(await heardBy({ to: ["everyone"], except: ["everyone"] }), [0, 0, 0, 0]);
  });

  scenario(`an emission may ask its receivers for acknowledgements (${transport})`, async () => {
    const [watcher, receiver] = await Promise.all([
      connect(host, "watcher", { transport }),
      connect(host, "receiver", { transport }),
    ]);
    await watcher.must("probe:join", "probe:watchers");
    await emit(watcher, { to: ["user:receiver"], name: "probe:question", ack: "token-1" });
    const question = await receiver.nextEvent("probe:question");
    assert.equal(typeof question.acknowledge, "function");
    question.acknowledge("answer", { n: 42 });
    const told = await watcher.next("probe:notice", (notice) => notice.name === "acknowledged");
    assert.deepEqual(told.data, { token: "token-1", args: ["answer", { n: 42 }] });
    assert.equal(told.user, "receiver");

    await emit(watcher, { to: ["user:receiver"], name: "probe:question", ack: "token-2" });
    await receiver.nextEvent("probe:question");
    receiver.close();
    const gone = await watcher.next("probe:notice", (notice) => notice.name === "acknowledged");
    assert.equal(gone.data.token, "token-2");
    assert.equal(gone.data.error, "disconnected");
    await watcher.must("probe:leave", "probe:watchers");
  });

  scenario(`notices tell of connections and rooms as they come and go (${transport})`, async () => {
    const room = newRoom();
    const watcher = await connect(host, "watcher", { transport });
    await watcher.must("probe:join", "probe:watchers");
    await settled(watcher);
    watcher.clear();
    const guest = await connect(host, "visitor", { transport });
    const again = await connect(host, "visitor", { transport });
    await guest.must("probe:join", room);
    await again.must("probe:join", room);
    await again.must("probe:leave", room);
    guest.close();
    await watcher.nextEvent("probe:notice", (notice) => notice.name === "disconnected" && notice.connection === guest.id);
    again.close();
    await watcher.nextEvent("probe:notice", (notice) => notice.name === "disconnected" && notice.connection === again.id);
    // Until then the visitor might have come back.
    await watcher.when(() => watcher.heard("probe:notice").some(({ name, data, connection }) => name === "left" && data.last && connection === guest.id) || undefined);
    await watcher.must("probe:leave", "probe:watchers");

    // The two that were waited for are out of the inbox.
    const told = watcher.heard("probe:notice");
    const of = (client) => told.filter((notice) => notice.connection === client.id).map(({ name, data }) => [name, data]);
    assert.deepEqual(of(guest), [
      ["connected", {}],
      ["joined", { room, first: true }],
      ["left", { room, last: true, reason: "disconnected" }],
    ]);
    assert.deepEqual(of(again), [
      ["connected", {}],
      ["joined", { room, first: false }],
      ["left", { room, last: false, reason: "left" }],
    ]);
    for (const notice of told.filter(({ connection }) => [guest.id, again.id].includes(connection))) {
      assert.equal(notice.user, "visitor");
    }
  });
}

scenario("disconnected is the last event, with the rooms as they were", async () => {
  const room = newRoom();
  const [watcher, guest] = await Promise.all([connect(host, "watcher"), connect(host, "leaver")]);
  await watcher.must("probe:join", "probe:watchers");
  await guest.must("probe:join", room);
  guest.emit("probe:busy", 1_000_000);
  guest.close();
  const told = await watcher.next("probe:notice", ({ name, connection }) => name === "disconnected" && connection === guest.id);
  assert.deepEqual(told.data.rooms, [room]);
  assert.equal(typeof told.data.reason, "string");
  assert.equal(told.user, "leaver");
  await watcher.must("probe:leave", "probe:watchers");
});

scenario("a room tells who is in it, and only of the plugin's own prefix", async () => {
  const room = newRoom();
  const [a, b] = await Promise.all([connect(host, "ann"), connect(host, "bea", { role: "educator" })]);
  await a.must("probe:join", room);
  await b.must("probe:join", room);
  const told = await a.must("probe:rooms", room, a.id, "bea");
  const byId = (x, y) => (x.connection < y.connection ? -1 : 1);
  assert.deepEqual(told.members, [
    { connection: a.id, user: "ann", role: "student" },
    { connection: b.id, user: "bea", role: "educator" },
  ].sort(byId));
  assert.equal(told.userCount, 2);
  assert.deepEqual(told.users, ["ann", "bea"]);
  assert.equal(told.hasConnection, true);
  assert.equal(told.hasUser, true);
  assert.deepEqual(told.ofConnection, [room]);
  assert.deepEqual(told.ofUser, [room]);
  assert.deepEqual(told.connectionsOfUser, [b.id]);
  await a.code("probe:rooms", "second:somewhere", a.id, "bea");
});

scenario("a plugin may not touch rooms that are not its own, whoever is named", async () => {
  const [mallory, victim] = await Promise.all([connect(host, "mallory"), connect(host, "victim")]);
  const foreign = [
    "second:room", "quiz:q1:victim", "conversation:victim:x", "user:victim", "user:mallory",
    "probe", "probex:room", "Probe:room", "", ":", "probe:", " probe:x", "/#probe:x", victim.id, victim.socket.id,
  ];
  for (const room of foreign) {
    assert.equal(await mallory.code("probe:join", room), "PLUGIN_FAILED", `join ${JSON.stringify(room)}`);
    assert.equal(await mallory.code("probe:join", room, "user:victim"), "PLUGIN_FAILED", `join another ${room}`);
    assert.equal(
      await mallory.code("probe:emit", { to: [`room:${room}`], name: "probe:news" }),
      "PLUGIN_FAILED",
      `emit to ${JSON.stringify(room)}`,
    );
  }
  await settled(victim);
  assert.deepEqual(victim.heard("probe:news"), []);
});

scenario("a connection that is in none of the plugin's rooms cannot be named", async () => {
  const [mallory, victim] = await Promise.all([connect(host, "mallory"), connect(host, "victim")]);
  const named = { to: [`connection:${victim.id}`], name: "probe:news" };
  await victim.must("probe:join", "probe:shared");
  await mallory.must("probe:emit", named);
  await victim.next("probe:news");
  await victim.must("probe:leave", "probe:shared");
  for (const id of [victim.id, victim.socket.id, "nobody"]) {
    assert.equal(await mallory.code("probe:emit", { ...named, to: [`connection:${id}`] }), "PLUGIN_FAILED", id);
  }
  assert.equal(await mallory.code("probe:disconnect", `connection:${victim.id}`, "spite"), "PLUGIN_FAILED");
  await settled(victim);
  assert.deepEqual([victim.heard("probe:news"), victim.disconnections], [[], []]);
});

scenario("one wrong instruction undoes the whole event", async () => {
  const client = await connect(host, "half");
  assert.equal(
    await client.code(
      "probe:emit",
      { to: ["user:half"], name: "probe:news", args: [1] },
      { to: ["room:second:x"], name: "probe:news", args: [2] },
    ),
    "PLUGIN_FAILED",
  );
  await settled(client);
  assert.deepEqual(client.heard("probe:news"), []);
});

scenario("names that Socket.IO or the host reserves are refused both ways", async () => {
  const client = await connect(host, "posing");
  for (const name of ["connect", "disconnect", "connect_error", "session", "error", "auth-success", "token-expiring", "", "x".repeat(129)]) {
    assert.equal(await client.code("probe:emit", { to: ["user:posing"], name }), "PLUGIN_FAILED", name);
  }
  // A notice's name sent by a client is an event that nobody subscribed to.
  for (const name of ["connected", "disconnected", "joined", "acknowledged", "probe-ask"]) {
    assert.equal(await client.code(name, { room: "probe:x" }), "UNKNOWN_EVENT", name);
  }
  await settled(client);
});

for (const transport of TRANSPORTS) {
  scenario(`a plugin disconnects: the namespace alone, or the transport so that the client returns (${transport})`, async () => {
    const [judge, out, back] = await Promise.all([
      connect(host, "judge"),
      connect(host, "out", { transport, reconnect: true }),
      connect(host, "back", { transport, reconnect: true }),
    ]);
    await out.must("probe:join", "probe:court");
    await judge.must("probe:disconnect", `connection:${out.id}`, "for the test");
    assert.equal(await out.closed(), "io server disconnect");
    await judge.must("probe:disconnect", "user:back", "for the test", true);
    assert.match(await back.closed(), /^transport (close|error)$/);
    const { connectionId } = await back.next("session");
    assert.notEqual(connectionId, back.id, "a connection id is never used twice");
    assert.equal(out.connected, false);
  });
}

for (const transport of TRANSPORTS) {
  scenario(`who disconnects themselves is answered first (${transport})`, async () => {
    for (const whole of [false, true]) {
      for (let n = 0; n < 20; n += 1) {
        const client = await connect(host, `leaver-${n}`, { transport });
        await client.must("probe:disconnect", `connection:${client.id}`, "of one's own will", whole);
        assert.match(await client.closed(), whole ? /^transport (close|error)$/ : /^io server disconnect$/);
      }
    }
  });
}

scenario("a connection is in so many rooms and no more", async () => {
  const narrow = await startHost({ plugins: ["probe"], roomsPerConnection: 3 });
  const client = await connect(narrow, "collector");
  for (const n of [1, 2, 3, 3]) await client.must("probe:join", `probe:${n}`);
  await client.code("probe:join", "probe:4");
  await client.must("probe:leave", "probe:1");
  await client.must("probe:join", "probe:4");
});

scenario("two plugins that declare the same prefix are not both loaded", async () => {
  const both = await startHost({ plugins: { first: probe(), second: probe({ name: "second", manifest: { rooms: ["probe"] } }) } });
  const client = await connect(both, "asker");
  const { by } = await client.must("probe:echo", 1);
  assert.match(both.log(), /prefix/i);
  await client.must("probe:join", "probe:x");
  assert.ok(["probe", "second"].includes(by));
});
