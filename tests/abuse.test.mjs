// What clients do that stock clients never would: none of it may harm others, or get around a limit.

import assert from "node:assert/strict";
import { renameSync } from "node:fs";
import net from "node:net";
import { TRANSPORTS, connect } from "./harness/clients.mjs";
import { waitFor } from "./harness/deadline.mjs";
import { frames } from "./harness/frames.mjs";
import { scenario, startHost } from "./harness/scenario.mjs";
import { mint } from "./harness/tokens.mjs";

async function metric(host, line) {
  const text = await (await fetch(`${host.url}/metrics`)).text();
  return Number(text.match(new RegExp(`^${line} (\\d+)`, "m"))?.[1] ?? 0);
}

scenario("who goes on flooding is closed, also from a transport that another stream claims to be", async () => {
  const host = await startHost({ plugins: ["probe"], eventsPerSecond: 50, burst: 50, refusals: 200 });
  const client = frames(host, "websocket");
  const { sid } = JSON.parse((await client.next((frame) => frame.startsWith?.("0{"))).slice(1));
  await client.send(`40${JSON.stringify({ token: mint({ userId: "flood" }) })}`);
  await client.text('42["session"');

  // Another stream names the session, and asks for an upgrade that it does not get.
  const { hostname, port } = new URL(host.url);
  const other = net.connect(Number(port), hostname);
  other.on("error", () => {});
  const answered = new Promise((resolve) => other.once("data", (data) => resolve(String(data))));
  other.write(`GET /socket.io/?EIO=4&transport=websocket&sid=${sid} HTTP/1.1\r\nHost: ${hostname}\r\n\r\n`);
  assert.match(await answered, /^HTTP\/1\.1 4\d\d/);

  let sent = 0;
  await waitFor(async () => {
    for (let n = 0; n < 20 && !client.closed; n += 1, sent += 1) await client.send('42["probe:echo",1]');
    return client.closed;
  }, "the end of the flood", 15_000);
  assert.ok(sent >= 200, `closed after ${sent} events`);
  assert.equal(await metric(host, 'switchboard_disconnects_total\\{kind="flooding"\\}'), 1);
  await waitFor(async () => (await metric(host, "switchboard_connections")) === 0, "the connection's end");
  other.destroy();
}, { timeout: 40_000 });

scenario("a client is closed on its own stream, whatever others name its session", async () => {
  const host = await startHost({ plugins: ["probe"] });
  const judge = await connect(host, "judge");
  for (const transport of TRANSPORTS) {
    const first = frames(host, transport);
    const { sid } = JSON.parse((await first.next((frame) => frame.startsWith?.("0{"))).slice(1));
    await first.send(`40${JSON.stringify({ token: mint({ userId: transport }) })}`);
    await first.text('42["session"');
    const own = transport === "polling" ? await frames(host, "websocket", sid).upgrade() : first;
    await own.send('421["probe:echo",1]');
    await own.text("431[");

    // A second one is answered like the first, and then of no use.
    const second = frames(host, "websocket", sid);
    await waitFor(() => second.closed, "the end of the second");
    await own.send('422["probe:echo",2]');
    await own.text("432[");

    await judge.must("probe:disconnect", `user:${transport}`, "for the test", true);
    await waitFor(() => own.closed, "the end of the stream", 3_000);
  }
  await waitFor(async () => (await metric(host, "switchboard_connections")) === 1, "the end of both");
});

scenario("what some readers of JSON cannot read is the sender's mistake, and no plugin's", async () => {
  const host = await startHost({ plugins: ["rooms"], quarantineFaults: 5 });
  const deep = `${"[".repeat(200)}${"]".repeat(200)}`;
  for (const user of ["ann", "ben", "cay", "dan"]) {
    const client = frames(host, "websocket");
    await client.text("0");
    // A name that makes every text with it suspect to a careless check.
    await client.send(`40${JSON.stringify({ token: mint({ userId: user, username: "_placeholder\u0001" }) })}`);
    await client.text('42["session"');
    await client.send('420["room:join",{"roomId":"l"}]');
    await client.text("430");
    for (const [n, value] of ["1e999", deep, `"\\u0041",${deep}`].entries()) {
      await client.send(`42${n + 1}["message",{"roomId":"l","content":"x","metadata":{"a":[${value}]}}]`);
      assert.match(await client.text(`43${n + 1}[`), /INVALID_PAYLOAD/);
    }
    await client.send('429["message",{"roomId":"l","content":"x","metadata":{"a":[[[[1e3]]]]}}]');
    assert.match(await client.text("439["), /"ok":true/);
  }
  assert.equal(await metric(host, 'switchboard_plugin_quarantined\\{plugin="rooms"\\}'), 0);
});

scenario("a session that is named in other letters is a new one, and counted", async () => {
  const host = await startHost({ plugins: [], handshakesPerSecond: 1, handshakeBurst: 5 });
  const statuses = [];
  for (const spelt of ["%73id=x", "s%69d=x", "sid", "SID=x", "xsid=x", "%73id=x", "sid", "SID=x", "xsid=x"]) {
    const response = await fetch(`${host.url}/socket.io/?EIO=4&transport=polling&${spelt}`);
    await response.text();
    statuses.push(response.status);
  }
  assert.ok(statuses.filter((status) => status === 429).length >= 3, String(statuses));
});

scenario("refused tokens are counted by the transport, however often it asks to be connected", async () => {
  const host = await startHost({ plugins: ["probe"] });
  const client = frames(host, "websocket");
  await client.text("0");
  let judged = 0;
  for (let round = 0; round < 6 && !client.closed; round += 1) {
    await client.send("40");
    const opened = await client.next((frame) => /^4[04]|^1/.test(frame), "an answer to CONNECT");
    if (!opened.startsWith("40")) break;
    // The client leaves before it is made to, and comes again.
    for (let n = 0; n < 2; n += 1) {
      await client.send('427["auth","not.a.token"]');
      const answer = await client.next((frame) => /^437\[|^41|^1/.test(frame), "an answer");
      if (!answer.startsWith("437[")) break;
      assert.match(answer, /AUTH_FAILED/);
      judged += 1;
    }
    if (judged < 3) await client.send("41");
  }
  assert.equal(judged, 3, "tokens that were judged on one transport");
});

scenario("a folder that cannot be read unloads nothing", async () => {
  const host = await startHost({ plugins: ["probe"] });
  const client = await connect(host, "ann");
  renameSync(host.pluginsDirectory, host.file("elsewhere"));
  await waitFor(() => /the folder of plugins cannot be read/.test(host.log()), "a word about it", 10_000);
  await client.must("probe:echo", "still");
  renameSync(host.file("elsewhere"), host.pluginsDirectory);
  await waitFor(() => /can be read again/.test(host.log()), "a word about it", 10_000);
  await client.must("probe:echo", "again");
});

scenario("a namespace that is left and entered again at once is always answered", async () => {
  const host = await startHost({ plugins: ["probe"] });
  for (const transport of ["websocket", "polling"]) {
    const client = frames(host, transport);
    await client.text("0");
    const connect = `40${JSON.stringify({ token: mint({ userId: "restless" }) })}`;
    await client.send(connect);
    await client.text('42["session"');
    for (let round = 0; round < 100; round += 1) {
      await client.send("41", connect);
      await client.text('42["session"');
    }
    await client.send('427["probe:echo",1]');
    await client.text("437[");
    client.close();
  }
});

scenario("who does not read is closed by the bytes that wait, and who reads is not", async () => {
  const host = await startHost({ plugins: ["rooms"], outgoingBytes: 4_000_000 });
  const sender = await connect(host, "sender");
  const reader = await connect(host, "reader");
  const idle = await frames(host, "websocket").authenticate(mint({ userId: "idle" }));
  await sender.must("room:join", { roomId: "big" });
  await reader.must("room:join", { roomId: "big" });
  await idle.send('421["room:join",{"roomId":"big"}]');
  await idle.text("431[");
  idle.pause();
  const changes = "x".repeat(500_000);
  const EDITS = 80;
  let heard = 0;
  reader.socket.on("document:edit", () => { heard += 1; });
  for (let n = 0; n < EDITS; n += 1) await sender.must("document:edit", { roomId: "big", changes });
  await waitFor(() => heard === EDITS, "every edit, for who reads");
  assert.equal(await metric(host, 'switchboard_disconnects_total\\{kind="slow-consumer"\\}'), 1);
  await waitFor(async () => (await metric(host, "switchboard_connections")) === 2, "the end of who does not read");
  assert.deepEqual(reader.disconnections, []);
});

scenario("a transport on which no namespace is entered is closed after a while, one that is used is not", async () => {
  const host = await startHost({ plugins: ["probe"] });
  const [idle, left, used] = [frames(host, "websocket"), frames(host, "websocket"), frames(host, "websocket")];
  await idle.text("0");
  await left.authenticate(mint({ userId: "left" }));
  await left.send("41");
  await used.authenticate(mint({ userId: "used" }));
  await waitFor(() => idle.closed && left.closed, "the end of both", 20_000);
  assert.equal(used.closed, false);
  await used.send('421["probe:echo",1]');
  await used.text("431");
}, { timeout: 40_000 });

scenario("events that are not valid are counted like others", async () => {
  const host = await startHost({ plugins: ["probe"], eventsPerSecond: 1, burst: 5 });
  const client = await frames(host, "websocket").authenticate(mint({ userId: "ann" }));
  for (let n = 0; n < 20; n += 1) await client.send(`42${n}["probe:echo",{"_placeholder":true,"num":7}]`);
  const codes = [];
  for (let n = 0; n < 20; n += 1) {
    const answer = await client.text(`43${n}[`);
    codes.push(JSON.parse(answer.slice(`43${n}`.length))[0].error.code);
  }
  assert.equal(codes.filter((code) => code === "INVALID_PAYLOAD").length, 5);
  assert.equal(codes.filter((code) => code === "RATE_LIMITED").length, 15);
});

scenario("who reads no answers is not read from for ever, and loses none of them", async () => {
  const host = await startHost({ plugins: ["probe"] });
  const client = await frames(host, "websocket").authenticate(mint({ userId: "deaf" }));
  const [names, size] = [200, 900_000];
  const before = host.memory().now;
  client.pause();
  // The Socket.IO server answers these by itself, with the name.
  for (let n = 0; n < names; n += 1) await client.send(`40/${n}-${"x".repeat(size)},`);
  const untaken = () => client.socket.bufferedAmount;
  let [last, since] = [untaken(), performance.now()];
  await waitFor(() => {
    if (untaken() !== last) [last, since] = [untaken(), performance.now()];
    return performance.now() - since > 1_000;
  }, "the host to take no more", 15_000);
  const most = (names * size) / 2;
  assert.ok(untaken() > most, `${untaken()} bytes were left`);
  assert.ok(host.memory().highest - before < most, `${host.memory().highest - before} bytes more memory`);
  client.socket.resume();
  for (let n = 0; n < names; n += 1) await client.text(`44/${n}-`);
  await client.send('427["probe:echo",1]');
  await client.text("437[");
});

scenario("who posts the name of a namespace that is far too long is closed, and others are answered", async () => {
  const host = await startHost({ plugins: ["probe"] });
  const client = await frames(host, "polling").authenticate(mint({ userId: "wordy" }));
  await client.send(`40/${"x".repeat(250)},`, "40/unknown,");
  await client.text(`44/${"x".repeat(250)},`);
  await client.text("44/unknown,");
  await client.send(`40/${"x".repeat(100_000)},`);
  await waitFor(() => client.closed, "the end of the session");
});
