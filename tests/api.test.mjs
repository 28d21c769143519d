// The HTTP side: server events, health, metrics, cross-origin answers.

import assert from "node:assert/strict";
import { connect } from "./harness/clients.mjs";
import { probe } from "./harness/components.mjs";
import { API_KEY } from "./harness/configuration.mjs";
import { waitFor } from "./harness/deadline.mjs";
import { hostForFile, scenario, startHost } from "./harness/scenario.mjs";

const host = hostForFile({
  plugins: { probe: probe(), second: probe({ name: "second" }) },
  order: ["probe", "second"],
  plugin: { second: { settings: { colour: "blue", nested: { n: 1 } } } },
  corsOrigin: ["https://app.example"],
});

scenario("a server event is answered with the plugin's own acknowledgement", async () => {
  const { status, json } = await host.post("probe-ask", { question: ["ü", 1] });
  assert.equal(status, 200);
  assert.deepEqual(json, { ok: true, by: "probe", version: "0", data: { question: ["ü", 1] }, source: "api" });
  const addressed = await host.post("probe-ask", 1, { body: { plugin: "second" } });
  assert.equal(addressed.json.by, "second");
});

scenario("a plugin's failure reaches the backend", async () => {
  const { status, json } = await host.post("probe-fail", {});
  assert.ok(status >= 400 && status < 500, `status ${status}`);
  assert.deepEqual(json, { ok: false, error: { code: "NOT_FOUND", message: "the backend asked for a failure" } });
});

scenario("an event that nobody answers is acknowledged by the host", async () => {
  const { status, json } = await host.post("probe-silent", {});
  assert.deepEqual([status, json], [200, { ok: true }]);
});

scenario("a server event makes emissions", async () => {
  const client = await connect(host, "listener");
  await host.tell("probe-emit", { to: ["user:listener"], name: "probe:news", args: [{ n: 1 }] }, { plugin: "probe" });
  assert.deepEqual(await client.next("probe:news"), { n: 1 });
});

scenario("the key is needed, and it is the right one", async () => {
  for (const key of [null, "wrong", "", API_KEY.slice(0, -1), `${API_KEY}x`]) {
    const { status, text } = await host.post("probe-ask", {}, { key });
    assert.equal(status, 401, String(key));
    assert.ok(!text.includes(API_KEY));
  }
  const basic = await host.request("/api/v1/events", {
    method: "POST",
    headers: { authorization: `Basic ${API_KEY}`, "content-type": "application/json" },
    body: JSON.stringify({ name: "probe-ask", data: {} }),
  });
  assert.equal(basic.status, 401);
});

scenario("requests that are wrong are told why", async () => {
  const send = (body, headers = {}) =>
    host.request("/api/v1/events", {
      method: "POST",
      headers: { authorization: `Bearer ${API_KEY}`, "content-type": "application/json", ...headers },
      body,
    });
  for (const body of ["", "{", "[]", "7", "{}", '{"name":7}', '{"name":"x","data":{},"plugn":"probe"}', '{"name":""}']) {
    const { status, json } = await send(body);
    assert.ok(status >= 400 && status < 500, `${body}: ${status}`);
    assert.equal(json?.ok, false, body);
    assert.equal(typeof json.error.code, "string", body);
  }
  const unknown = await host.post("no-such-event", {});
  assert.equal(unknown.json.error.code, "UNKNOWN_EVENT");
  assert.equal(unknown.status, 404);
  const nobody = await host.post("probe-ask", {}, { body: { plugin: "nobody" } });
  assert.ok(nobody.status >= 400 && nobody.status < 500, String(nobody.status));
  assert.equal(nobody.json.ok, false);
  const large = await send(JSON.stringify({ name: "probe-ask", data: "x".repeat(3_000_000) }));
  assert.ok(large.status >= 400 && large.status < 500, String(large.status));
  assert.equal((await host.request("/api/v1/events")).status, 401, "nothing is said to who has no key");
  const asked = await host.request("/api/v1/events", { headers: { authorization: `Bearer ${API_KEY}` } });
  assert.equal(asked.status, 405);
  assert.equal((await host.request("/no-such-page")).status, 404);
});

scenario("server events of one key are handled in the order sent", async () => {
  const answers = [];
  for (let n = 0; n < 50; n += 1) answers.push((await host.post("probe-order", { key: "k", n }, { body: { plugin: "probe", key: "k" } })).json);
  assert.deepEqual(answers.map(({ previous }) => previous), answers.map((_, n) => (n ? String(n - 1) : null)));
});

scenario("many server events at once are all answered", async () => {
  const answers = await Promise.all(Array.from({ length: 200 }, (_, n) => host.post("probe-ask", n, { body: { key: `k${n % 5}` } })));
  assert.deepEqual(answers.map(({ json }) => json.data), Array.from({ length: 200 }, (_, n) => n));
});

scenario("a client cannot pose as a backend, nor a backend as a client", async () => {
  const client = await connect(host, "posing");
  assert.equal(await client.code("probe-ask", {}), "UNKNOWN_EVENT");
  assert.equal((await host.post("probe:echo", {})).json.error.code, "UNKNOWN_EVENT");
  assert.equal((await host.post("connected", {})).json.error.code, "UNKNOWN_EVENT");
});

scenario("each plugin gets its own settings", async () => {
  assert.deepEqual((await host.tell("probe-settings", {}, { plugin: "probe" })).settings, {});
  assert.deepEqual((await host.tell("probe-settings", {}, { plugin: "second" })).settings, { colour: "blue", nested: { n: 1 } });
});

scenario("without a key the server API is closed", async () => {
  const closed = await startHost({ plugins: ["probe"], apiKey: undefined });
  for (const key of [null, API_KEY]) {
    const { status } = await closed.post("probe-ask", {}, { key });
    assert.ok([401, 403, 404].includes(status), String(status));
  }
});

scenario("the key may come from the environment", async () => {
  const keyed = await startHost({
    plugins: ["probe"],
    apiKey: undefined,
    environment: { SWITCHBOARD_API__KEY: "from the environment, and long enough for anybody" },
  });
  const { status } = await keyed.post("probe-ask", {}, { key: "from the environment, and long enough for anybody" });
  assert.equal(status, 200);
});

scenario("health and readiness answer", async () => {
  assert.equal((await host.request("/healthz")).status, 200);
  assert.equal((await host.request("/readyz")).status, 200);
});

scenario("metrics are in Prometheus' format and count", async () => {
  const client = await connect(host, "counted");
  await client.must("probe:echo", 1);
  const { status, headers, text } = await host.request("/metrics");
  assert.equal(status, 200);
  assert.match(headers.get("content-type"), /^(text\/plain|application\/openmetrics-text)/);
  for (const line of text.trimEnd().split("\n")) {
    assert.match(line, /^(# (HELP|TYPE|UNIT) .+|# EOF|[a-zA-Z_:][\w:]*(\{.*\})? -?[\d.e+\-InfNa]+)$/, line);
  }
  assert.match(text, /^switchboard_connections [1-9]/m);
  assert.match(text, /^switchboard_events_total\{kind="ok"\} [1-9]/m);
});

scenario("only the configured origin may read answers, with credentials", async () => {
  const ask = (origin) => host.request("/socket.io/?EIO=4&transport=polling", { headers: { origin } });
  const allowed = await ask("https://app.example");
  assert.equal(allowed.headers.get("access-control-allow-origin"), "https://app.example");
  assert.equal(allowed.headers.get("access-control-allow-credentials"), "true");
  const other = await ask("https://evil.example");
  assert.notEqual(other.headers.get("access-control-allow-origin"), "https://evil.example");
  assert.notEqual(other.headers.get("access-control-allow-origin"), "*");
});

scenario("path, ping and the names of the environment of older servers are honoured", async () => {
  const configured = await startHost({
    plugins: ["probe"],
    environment: {
      WEBSOCKET_PATH: "/realtime",
      WEBSOCKET_PING_INTERVAL: "1234",
      WEBSOCKET_PING_TIMEOUT: "4321",
      FRONTEND_URL: "https://front.example",
    },
  });
  const opened = await configured.request("/realtime/?EIO=4&transport=polling", { headers: { origin: "https://front.example" } });
  assert.equal(opened.status, 200);
  assert.equal(opened.headers.get("access-control-allow-origin"), "https://front.example");
  const { pingInterval, pingTimeout, maxPayload } = JSON.parse(opened.text.slice(1));
  assert.deepEqual([pingInterval, pingTimeout], [1234, 4321]);
  assert.ok(maxPayload >= 1_000_000);
  configured.socketPath = "/realtime";
  await (await connect(configured, "elsewhere")).must("probe:echo", 1);
});

scenario("connections are bounded, and so are attempts from one address", async () => {
  const few = await startHost({ plugins: ["probe"], maxConnections: 3 });
  const clients = await Promise.all(["a", "b", "c"].map((user) => connect(few, user)));
  await assert.rejects(connect(few, "d"));
  clients[0].close();
  await waitFor(() => connect(few, "d"), "a free place");

  const slow = await startHost({ plugins: ["probe"], handshakesPerSecond: 5, handshakeBurst: 10 });
  const attempts = await Promise.all(
    Array.from({ length: 60 }, () => slow.request("/socket.io/?EIO=4&transport=polling").then(({ status }) => status)),
  );
  assert.ok(attempts.includes(200), "some are let in");
  assert.ok(attempts.filter((status) => status === 429).length >= 30, `refused: ${attempts.filter((status) => status !== 200).length}`);
});
