// `dev`: a source is saved, and the same connection sees the new behaviour.

import assert from "node:assert/strict";
import { request } from "node:http";
import { after, before } from "node:test";
import { Client, TRANSPORTS } from "./harness/clients.mjs";
import { waitFor } from "./harness/deadline.mjs";
import { scenario } from "./harness/scenario.mjs";
import { DevHost } from "./harness/workspace.mjs";

const SOURCE = "tests/plugins/probe/src/configuration.rs";
const REBUILD = 120_000;
const dev = new DevHost();
const version = async (client) => (await client.must("probe:echo", 1)).version;

before(() => dev.start(), { timeout: 300_000 });
after(() => dev.dispose());

scenario("dev prints a token that works, and hands out others", async () => {
  assert.ok(dev.token(), dev.tail());
  const printed = await new Client(dev, { token: dev.token() }).connect();
  assert.ok(printed.userId);
  const asked = await new Client(dev, { token: await dev.fetchToken("somebody") }).connect();
  assert.equal(asked.userId, "somebody");
  await asked.must("room:join", { roomId: "lobby" });
});

scenario("dev gives no token to a page of another name", async () => {
  // `fetch` sets this header itself, so the request is made by hand.
  const status = await new Promise((resolve, reject) => {
    request(`${dev.url}/dev/token?user=eve`, { headers: { host: "evil.example" } }, (response) => {
      response.resume();
      resolve(response.statusCode);
    }).on("error", reject).end();
  });
  assert.equal(status, 403);
});

scenario("a source is saved, and the same connections see the new behaviour", async () => {
  const clients = await Promise.all(TRANSPORTS.map(async (transport) =>
    new Client(dev, { transport, token: await dev.fetchToken(`on-${transport}`) }).connect()));
  for (const client of clients) assert.equal(await version(client), "0");
  dev.edit(SOURCE, '"version":"0"', '"version":"edited"');
  for (const client of clients) {
    await waitFor(async () => (await version(client)) === "edited", "the edited plugin", REBUILD);
  }

  // What does not compile is reported, and the last version that did serves on.
  const before = dev.output.length;
  dev.edit(SOURCE, "impl Configuration {", "impl Configuration { this is no Rust");
  await waitFor(() => /error/.test(dev.output.slice(before)), "the compiler's message", REBUILD);
  for (const client of clients) assert.equal(await version(client), "edited");
  dev.edit(SOURCE, "impl Configuration { this is no Rust", "impl Configuration {");
  dev.edit(SOURCE, '"version":"edited"', '"version":"mended"');
  for (const client of clients) {
    await waitFor(async () => (await version(client)) === "mended", "the mended plugin", REBUILD);
    assert.deepEqual(client.disconnections, []);
  }
}, { timeout: 300_000 });
