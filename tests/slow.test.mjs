// Clients that do not read what they are sent: they are closed, and nobody else notices.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { connect } from "./harness/clients.mjs";
import { waitFor, within } from "./harness/deadline.mjs";
import { frames } from "./harness/frames.mjs";
import { freeze } from "./harness/processes.mjs";
import { scenario, startHost } from "./harness/scenario.mjs";
import { mint } from "./harness/tokens.mjs";

const MB = 1_000_000;

/** Packets that may wait for one client, by default. */
const PACKETS = 8_192;

/** More than the host may take for clients that do not read, beside what it takes anyhow. */
const MEMORY = 64 * MB;

async function metric(host, line) {
  const text = await (await fetch(`${host.url}/metrics`)).text();
  return Number(text.match(new RegExp(`^switchboard_${line} (\\d+)`, "m"))?.[1] ?? 0);
}

const closedAsSlow = (host) => metric(host, 'disconnects_total\\{kind="slow-consumer"\\}');
const connections = (host) => metric(host, "connections");

/** A client of the plugin `rooms` that is in a room, and whose packets are looked at by hand. */
async function byHand(host, transport, user, ...rooms) {
  const client = await frames(host, transport).authenticate(mint({ userId: user }));
  for (const roomId of rooms) {
    await client.send(`421["room:join",${JSON.stringify({ roomId })}]`);
    await client.text("431[");
  }
  return client;
}

/** A process with one client in rooms. */
async function listener(host, context, user, ...rooms) {
  const script = fileURLToPath(new URL("harness/listener.mjs", import.meta.url));
  const child = spawn(process.execPath, [script, host.url, mint({ userId: user }), ...rooms], { stdio: ["ignore", "pipe", "inherit"] });
  context.after(() => child.kill("SIGKILL"));
  await within(once(child.stdout, "data"), 10_000, "the other process to be in the rooms");
  return child;
}

const p99 = (times) => times.toSorted((one, other) => one - other)[Math.floor(times.length * 0.99)].toFixed(1);

scenario("200 clients get every message in order and in time while two do not read, who are closed", async (context) => {
  const host = await startHost({ plugins: ["rooms"], outgoingBytes: 4 * MB });
  const sender = await connect(host, "sender");
  await sender.must("room:join", { roomId: "big" });
  await sender.must("room:join", { roomId: "busy" });
  const readers = await Promise.all(Array.from({ length: 200 }, async (_, n) => {
    const client = await connect(host, `reader-${n}`);
    await client.must("room:join", { roomId: "big" });
    const { socket } = client;
    socket.offAny(); // Nothing is kept of what they hear.
    const reader = { socket, heard: 0, outOfOrder: 0, times: [] };
    socket.on("document:edit", ({ changes: { n: number, at } }) => {
      if (number !== reader.heard) reader.outOfOrder += 1;
      reader.heard += 1;
      reader.times.push(performance.now() - at);
    });
    socket.on("disconnect", (reason) => { reader.gone = reason; });
    return reader;
  }));

  let sent = 0;
  const text = "x".repeat(4_000);
  let ticking = false;
  const ticker = setInterval(() => {
    sender.emit("document:edit", { roomId: "big", changes: { n: sent, at: performance.now(), text } });
    sent += 1;
    // What those who do not read get besides, so that it does not take minutes.
    if (ticking) for (let n = 0; n < 20; n += 1) sender.emit("document:edit", { roomId: "busy", changes: { text } });
  }, 33);
  context.after(() => clearInterval(ticker));
  const enough = (count) => waitFor(() => sent >= count, `${count} messages`, 30_000);
  const everyTime = () => readers.flatMap(({ times }) => times.splice(0));

  await enough(30); // Nothing is warm yet.
  everyTime();
  await enough(90);
  const before = { memory: host.memory().now, p99: p99(everyTime()) };
  const stopped = await listener(host, context, "stopped", "big", "busy");
  const idle = await byHand(host, "websocket", "idle", "big", "busy");
  await waitFor(async () => (await connections(host)) === 203, "all to be there");
  everyTime();
  await freeze(stopped);
  idle.pause();
  ticking = true;
  await waitFor(async () => (await closedAsSlow(host)) === 2, "both to be closed", 30_000);
  await waitFor(async () => (await connections(host)) === 201, "both to be gone");
  ticking = false;
  const during = { memory: host.memory().highest, p99: p99(everyTime()) };
  const after = sent;
  await enough(after + 60);
  clearInterval(ticker);
  await waitFor(() => readers.every(({ heard }) => heard === sent), () => `${sent} heard by all: ${Math.min(...readers.map(({ heard }) => heard))}`, 10_000);
  context.diagnostic(`p99 in ms: before ${before.p99}, while two do not read ${during.p99}, after ${p99(everyTime())}`);
  for (const { outOfOrder, gone } of readers) assert.deepEqual([outOfOrder, gone], [0, undefined]);
  assert.ok((await metric(host, 'frames_lost_total\\{kind="full"\\}')) >= 2);
  assert.equal(await closedAsSlow(host), 2);
  const more = (bytes) => `${((bytes - before.memory) / MB).toFixed(1)} MB`;
  assert.ok(during.memory < before.memory + MEMORY, more(during.memory));
  await waitFor(() => host.memory().now < before.memory + MEMORY / 2, () => `memory to be free again: ${more(host.memory().now)}`);
  context.diagnostic(`memory: at most ${more(during.memory)} more, ${more(host.memory().now)} in the end`);
}, { timeout: 120_000 });

for (const transport of ["websocket", "polling"]) {
  for (const [kind, bytes, count] of [["large", 500_000, 200], ["small", 40, 60_000]]) {
    scenario(`who does not read is closed by what waits: ${kind} messages over ${transport}`, async (context) => {
      const host = await startHost({ plugins: ["rooms"], outgoingBytes: 4 * MB });
      const sender = await connect(host, "sender");
      await sender.must("room:join", { roomId: "room" });
      const idle = await byHand(host, transport, "idle", "room");
      const reader = await byHand(host, transport, "reader", "room");
      const before = host.memory().highest;
      idle.pause();
      const changes = "x".repeat(bytes);
      let sent = 0;
      // As fast as who reads can, and not faster.
      const isHeard = () => reader.received.filter((frame) => frame.includes?.("document:edit")).length;
      let heard = 0;
      while (sent < count && (await closedAsSlow(host)) === 0) {
        const batch = Math.min(bytes > 1_000 ? 1 : 500, count - sent);
        for (let n = 0; n < batch; n += 1) sender.emit("document:edit", { roomId: "room", changes });
        sent += batch;
        await waitFor(() => heard + isHeard() === sent, () => `${sent} heard by who reads: ${heard + isHeard()}`);
        heard += isHeard();
        reader.received.length = 0;
      }
      assert.equal(await closedAsSlow(host), 1, `closed after ${sent} of ${bytes} bytes`);
      // Nothing but the host holds what is not polled.
      if (transport === "polling" && kind === "small") assert.ok(sent > PACKETS && sent < PACKETS + 1_000, `closed after ${sent}`);
      await waitFor(async () => (await connections(host)) === 2, "the end of who does not read");
      const more = host.memory().highest - before;
      context.diagnostic(`closed after ${sent} messages; ${(more / MB).toFixed(1)} MB more at most`);
      assert.ok(more < MEMORY, `${(more / MB).toFixed(1)} MB`);
      assert.ok(!reader.closed);
    });
  }
}
