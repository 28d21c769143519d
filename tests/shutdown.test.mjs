// SIGTERM while clients are at work.

import assert from "node:assert/strict";
import { Client, connect, TRANSPORTS } from "./harness/clients.mjs";
import { waitFor, within } from "./harness/deadline.mjs";
import { frames } from "./harness/frames.mjs";
import { scenario, startHost } from "./harness/scenario.mjs";
import { mint } from "./harness/tokens.mjs";

/** How long the answer to an event may take that keeps the plugin busy, in milliseconds, on a busy machine. */
const BUSY = 30_000;

for (const transport of TRANSPORTS) {
  scenario(`under load: what was acknowledged was handled, and clients come back (${transport})`, async () => {
    const host = await startHost({ plugins: ["probe"] });
    const clients = await Promise.all(
      Array.from({ length: 20 }, (_, n) => connect(host, `client-${n}`, { transport, reconnect: true })),
    );
    const acknowledged = new Map(clients.map((client) => [client.id, []]));
    const refused = [];
    let ending = false;
    for (const client of clients) {
      const { id } = client;
      const send = (n) => {
        if (ending || !client.connected) return;
        client.socket.emit("probe:record", n, (answer) => {
          if (answer.ok) acknowledged.get(id).push(answer.n);
          else refused.push(answer.error.code);
          send(n + 4);
        });
      };
      for (let n = 0; n < 4; n += 1) send(n);
    }
    const count = () => [...acknowledged.values()].reduce((sum, list) => sum + list.length, 0);
    await waitFor(() => count() > 500, "a load", 10_000);

    host.signal("SIGTERM");
    const { code, signal } = await within(host.exit, 10_000, "the end of the host");
    ending = true;
    assert.deepEqual([code, signal], [0, null]);
    for (const client of clients) {
      const reason = await client.closed();
      if (transport === "websocket") assert.equal(reason, "transport close");
      else assert.match(reason, /^transport (close|error)$/);
    }

    const handled = new Map();
    for (const [, id, n] of host.log().matchAll(/recorded <([^>]+)> <(\d+)>/g)) {
      handled.set(`${id} ${n}`, (handled.get(`${id} ${n}`) ?? 0) + 1);
    }
    for (const [id, list] of acknowledged) {
      for (const n of list) assert.equal(handled.get(`${id} ${n}`), 1, `event ${n} of ${id} was acknowledged`);
    }
    for (const [event, times] of handled) assert.equal(times, 1, `${event} was handled more than once`);
    assert.ok(refused.every((codeOf) => codeOf === "UNAVAILABLE"), `while draining: ${[...new Set(refused)]}`);
    console.log(`shutdown (${transport}): ${count()} acknowledged, ${handled.size} handled, ${refused.length} refused`);

    await host.start();
    await Promise.all(clients.map((client) => client.next("session", ({ connectionId }) => connectionId !== client.id)));
    await Promise.all(clients.map((client) => client.must("probe:echo", "back")));
  });
}

scenario("an event in flight is finished before the end", async () => {
  const host = await startHost({ plugins: ["probe"], deadline: "20s", drainTimeout: "20s" });
  const client = await connect(host, "slow", { patience: BUSY });
  const before = await client.must("probe:echo", 1);
  assert.ok(before);
  const answer = client.ask("probe:busy", 1_000_000_000);
  // The event is in the plugin when another client's, sent later, has been answered.
  await (await connect(host, "other")).must("probe:echo", 1);
  host.signal("SIGTERM");
  assert.equal((await answer).ok, true);
  assert.equal((await within(host.exit, 20_000, "the end")).code, 0);
});

scenario("an event that does not end is not waited for past the deadline", async () => {
  const host = await startHost({ plugins: ["faulty", "probe"], deadline: "60s", drainTimeout: "500ms" });
  const client = await connect(host, "stuck");
  client.emit("faulty:loop");
  await (await connect(host, "other")).must("probe:echo", 1);
  const start = performance.now();
  host.signal("SIGTERM");
  await within(host.exit, 8_000, "the end");
  assert.ok(performance.now() - start >= 400, "the deadline was given");
});

scenario("a client in the middle of a frame does not hold up the end", async () => {
  const host = await startHost({ plugins: ["probe"], drainTimeout: "60s" });
  const client = await frames(host, "websocket").authenticate(mint({ userId: "halting" }));
  // The head of a text frame of 1,000 bytes, masked with zeros, and nothing of it.
  client.socket._socket.write(Buffer.from([0x81, 0xfe, 0x03, 0xe8, 0, 0, 0, 0]));
  await (await connect(host, "other")).must("probe:echo", 1);
  host.signal("SIGTERM");
  assert.equal((await within(host.exit, 15_000, "the end")).code, 0);
});

scenario("while draining the host says that it is not ready, and accepts nobody", async () => {
  const host = await startHost({ plugins: ["probe"], deadline: "20s", drainTimeout: "20s" });
  const client = await connect(host, "slow", { patience: BUSY });
  const answer = client.ask("probe:busy", 2_000_000_000);
  await (await connect(host, "other")).must("probe:echo", 1);
  host.signal("SIGTERM");
  // Either it says so, or it no longer listens.
  await waitFor(async () => {
    try {
      return (await host.request("/readyz")).status === 503;
    } catch {
      return true;
    }
  }, "unreadiness");
  await assert.rejects(connect(host, "late"));
  assert.equal((await answer).ok, true);
});

scenario("Ctrl-C ends it in the same way", async () => {
  const host = await startHost({ plugins: ["probe"] });
  const client = await connect(host, "anyone");
  host.signal("SIGINT");
  assert.equal((await within(host.exit, 8_000, "the end")).code, 0);
  assert.equal(await client.closed(), "transport close");
});

scenario("a client that reads nothing does not hold up the end", async () => {
  const host = await startHost({ plugins: ["probe"], drainTimeout: "1s" });
  const deaf = await frames(host, "websocket").authenticate(mint({ userId: "deaf" }));
  deaf.socket.pause();
  host.signal("SIGTERM");
  await within(host.exit, 8_000, "the end");
});

scenario("a client that has shown no token is sent elsewhere like all others", async () => {
  const host = await startHost({ plugins: ["probe"], lateTimeout: "60s" });
  const client = await new Client(host).open();
  host.signal("SIGTERM");
  await within(host.exit, 10_000, "the end of the host");
  await waitFor(() => client.disconnections.length === 1, "the end of the connection");
  assert.deepEqual(client.disconnections, ["transport close"]);
  assert.deepEqual(client.inbox, [], "nothing is said of a token that came too late");
});
