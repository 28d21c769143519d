// Channels of Redis: their messages become events, each on one host, whatever happens to hosts; and
// what plugins publish is heard.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { connect } from "./harness/clients.mjs";
import { REPOSITORY, probe } from "./harness/components.mjs";
import { waitFor } from "./harness/deadline.mjs";
import { BINARY } from "./harness/host.mjs";
import { redisClient } from "./harness/node.mjs";
import { freeze, thaw } from "./harness/processes.mjs";
import { Proxy, Redis, RedisCluster } from "./harness/redis.mjs";
import { scenario, startHost } from "./harness/scenario.mjs";
import { SECRET } from "./harness/tokens.mjs";

const runs = promisify(execFile);

/** The channel of most tests, and what is made of its messages. */
const CHANNEL = "message:new";
const CHANNELS = { [CHANNEL]: { event: "probe-heard", plugin: "probe" } };

/** Messages that a host which dies, or is cut off, may take with it. */
const UNDER_WAY = 16;

/** How long it takes until another host goes on for one that died, at most, and then some. */
const TAKEN_OVER = 20_000;

const host = (redis, options) => startHost({
  plugins: { probe: probe() },
  redisPort: redis.port,
  channels: CHANNELS,
  quarantineFaults: 10_000,
  ...options,
});

async function cluster(size, options) {
  const redis = await Redis.start();
  const hosts = [];
  for (let n = 0; n < size; n += 1) hosts.push(await host(redis, options));
  return { redis, hosts, backend: await redisClient(redis) };
}

/** Sums up a counter of all its lines in a host's metrics that match. */
async function counted(hosts, name) {
  const texts = await Promise.all(hosts.map(async (one) => (await one.request("/metrics")).text));
  const lines = texts.flatMap((text) => text.split("\n").filter((line) => line.startsWith(name)));
  return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}

const messages = (hosts, outcome, channel = CHANNEL) =>
  counted(hosts, `switchboard_channel_messages_total{channel="${channel}",outcome="${outcome}"}`);

const holds = (one, channel = CHANNEL) => counted([one], `switchboard_channel_held{channel="${channel}"}`);

/** The one host that handles a channel. */
const holderOf = (hosts, channel = CHANNEL) => waitFor(async () => {
  const held = await Promise.all(hosts.map((one) => holds(one, channel)));
  return held.filter(Boolean).length === 1 && hosts[held.indexOf(1)];
}, "one holder", TAKEN_OVER);

/** What a client's host noted of a list, in the order in which it was handled; goes on after `all`. */
async function handled(client, list, all = []) {
  for (;;) {
    const { entries } = await client.must("probe:heard", list, all.length);
    all.push(...entries);
    if (entries.length === 0) return all;
  }
}

const numbers = (entries) => entries.map(({ data }) => data.n);

/** Publishes an end, and returns the numbers of all that was handled until it was. */
async function numbersUntilEnd(backend, client, list, milliseconds, channel = CHANNEL) {
  await backend.publish(channel, JSON.stringify({ list, n: "end" }));
  const entries = [];
  const all = await waitFor(async () => {
    const got = numbers(await handled(client, list, entries));
    return got.includes("end") && got;
  }, () => `the end to be handled, behind ${entries.length}`, milliseconds);
  assert.equal(all.pop(), "end", "the end is the last");
  return all;
}

/** Publishes numbered messages, one after the other, until it is stopped. */
function stream(backend, list, channel = CHANNEL) {
  const running = { sent: 0, going: true };
  const publish = async () => {
    while (running.going) {
      await backend.publish(channel, JSON.stringify({ list, n: running.sent }));
      running.sent += 1;
      // As fast as hosts keep up with, which wait for the disk at each.
      await new Promise((resolve) => setTimeout(resolve, 4));
    }
  };
  running.done = publish();
  running.reaches = (count) => waitFor(() => running.sent >= count, () => `${count} messages`, 30_000);
  running.stop = async () => {
    running.going = false;
    await running.done;
  };
  return running;
}

const range = (count) => Array.from({ length: count }, (_, n) => n);

const missing = (got, count) => {
  const there = new Set(got);
  return range(count).filter((n) => !there.has(n));
};

const assertEachOnce = (got) => assert.equal(new Set(got).size, got.length, "none twice");

scenario("1,000 messages are handled once each, in order, on one of three hosts", async () => {
  const { hosts, backend } = await cluster(3);
  const client = await connect(hosts[1], "ann");
  const all = range(1_000).map((n) => backend.publish(CHANNEL, JSON.stringify({ list: "a", n, text: "é" })));
  assert.deepEqual(new Set(await Promise.all(all)), new Set([3]), "every host listens");
  const got = await numbersUntilEnd(backend, client, "a", 20_000);
  assert.deepEqual(got, range(1_000));
  const [first] = await handled(client, "a");
  assert.deepEqual(first, { name: "probe-heard", source: "channel", data: { list: "a", n: 0, text: "é" } });
  await waitFor(async () => await messages(hosts, "ok") === 1_001, "all to be counted");
  await holderOf(hosts);
  assert.equal(await messages(hosts, "failed") + await messages(hosts, "dropped"), 0);
});

scenario("messages with a key are in order by it, and keys do not wait for each other", async () => {
  const channels = { ...CHANNELS, rooms: { event: "probe-heard", key: "list" }, one: { event: "probe-slow" } };
  const { hosts, backend } = await cluster(2, { channels });
  const client = await connect(hosts[0], "ann");
  // One list of a channel that waits for slow ones, and eight that share a channel by key.
  for (const n of range(30)) backend.publish("one", JSON.stringify({ list: "slow", n }));
  const lists = range(8).map((n) => `list-${n}`);
  for (const n of range(100)) {
    for (const list of lists) backend.publish("rooms", JSON.stringify({ list, n }));
  }
  for (const list of lists) {
    assert.deepEqual(await numbersUntilEnd(backend, client, list, 20_000, "rooms"), range(100));
  }
  assert.deepEqual(await numbersUntilEnd(backend, client, "slow", 20_000, "one"), range(30));
});

scenario("what is no message, or fails, is counted and said once, and those behind it are handled", async () => {
  const { hosts, backend } = await cluster(2, { serverEventBytes: 10_000 });
  const client = await connect(hosts[0], "ann");
  const bad = [
    Buffer.from([0xff, 0xfe, 0x00]), "", "{", "1,2", `{"a":{"_placeholder":true,"num":0}}`, "[".repeat(5_000),
    JSON.stringify("x".repeat(10_000)), `{"n":1e999}`,
  ];
  for (const message of bad) backend.publish(CHANNEL, message);
  for (const n of range(500)) backend.publish(CHANNEL, `not json ${n}`);
  for (const n of range(50)) backend.publish(CHANNEL, JSON.stringify({ fail: true, n }));
  for (const value of ["null", "7", `"text"`, "[]"]) backend.publish(CHANNEL, value);
  assert.deepEqual(await numbersUntilEnd(backend, client, "b", 20_000), []);
  assert.deepEqual((await handled(client, "")).map(({ data }) => data), [null, 7, "text", []]);
  await waitFor(async () => await messages(hosts, "ok") === 5, "those that went well to be counted");
  assert.equal(await messages(hosts, "malformed"), bad.length + 500);
  assert.equal(await messages(hosts, "failed"), 50);
  const log = hosts.map((one) => one.log()).join("");
  assert.equal(log.match(/cannot be understood/g).length, 1);
  assert.equal(log.match(/plugins failed on messages/g).length, 1);
});

scenario("the host that handles a channel is killed: another goes on, nothing is doubled, what it had begun is lost at most", async () => {
  const { hosts, backend } = await cluster(3);
  const holder = await holderOf(hosts);
  const others = hosts.filter((one) => one !== holder);
  const client = await connect(others[0], "ann");
  const sending = stream(backend, "killed");
  await sending.reaches(300);
  await holder.kill();
  const before = sending.sent;
  await holderOf(others);
  await sending.reaches(before + 300);
  await sending.stop();
  const got = await numbersUntilEnd(backend, client, "killed", TAKEN_OVER);
  assertEachOnce(got);
  assert.deepEqual(got, got.toSorted((one, other) => one - other), "in order");
  const lost = missing(got, sending.sent);
  assert.ok(lost.length <= UNDER_WAY, `lost: ${lost}`);
  if (lost.length > 0) assert.equal(lost.at(-1) - lost[0], lost.length - 1, "those of one moment");
}, { timeout: 120_000 });

scenario("the host that handles a channel stops: another goes on at once, and nothing is lost or doubled", async () => {
  const { hosts, backend } = await cluster(3);
  const client = await connect(await holderOf(hosts), "ann");
  client.close();
  const sending = stream(backend, "stopped");
  let left = hosts;
  for (let turn = 1; turn < hosts.length; turn += 1) {
    await sending.reaches(turn * 300);
    const holder = await holderOf(left);
    left = left.filter((one) => one !== holder);
    const since = performance.now();
    await holder.stop();
    await holderOf(left);
    assert.ok(performance.now() - since < 5_000, "long before its lease would have run out");
  }
  await sending.reaches(hosts.length * 300);
  await sending.stop();
  const reader = await connect(left[0], "ben");
  assert.deepEqual(await numbersUntilEnd(backend, reader, "stopped", TAKEN_OVER), range(sending.sent));
}, { timeout: 120_000 });

scenario("a host that is frozen for longer than its lease, and wakes, handles nothing that another has", async () => {
  const { hosts, backend } = await cluster(2);
  const holder = await holderOf(hosts);
  const other = hosts.find((one) => one !== holder);
  const client = await connect(other, "ann");
  const sending = stream(backend, "frozen");
  await sending.reaches(300);
  await freeze(holder.process);
  await waitFor(() => holds(other), "the other to take over", TAKEN_OVER);
  const since = sending.sent;
  await sending.reaches(since + 200);
  thaw(holder.process);
  await waitFor(async () => !(await holds(holder)), "the frozen one to notice");
  await sending.reaches(since + 500);
  await sending.stop();
  const got = await numbersUntilEnd(backend, client, "frozen", TAKEN_OVER);
  assertEachOnce(got);
  assert.ok(missing(got, sending.sent).length <= UNDER_WAY, `missing: ${missing(got, sending.sent)}`);
  assert.equal(await holderOf(hosts), other);
}, { timeout: 120_000 });

scenario("a host whose connection breaks for a moment hands over to one that missed nothing", async () => {
  const redis = await Redis.start();
  const proxy = await Proxy.to(redis);
  const cut = await host({ port: proxy.port });
  const whole = await host(redis);
  const backend = await redisClient(redis);
  assert.equal(await holderOf([cut, whole]), cut);
  const client = await connect(whole, "ann");
  const sending = stream(backend, "cut");
  await sending.reaches(300);
  proxy.drop();
  await waitFor(() => holds(whole), "the other to go on");
  await sending.reaches(sending.sent + 300);
  await sending.stop();
  const got = await numbersUntilEnd(backend, client, "cut", TAKEN_OVER);
  assertEachOnce(got);
  // Its plugin's writes went through the same connection: what they met is counted.
  const lost = missing(got, sending.sent);
  assert.ok(lost.length <= UNDER_WAY, `lost: ${lost}`);
  assert.equal(await messages([cut], "failed"), lost.length);
}, { timeout: 120_000 });

for (const keeps of [true, false]) {
  scenario(`Redis is restarted${keeps ? "" : ", and has forgotten all"}: messages are handled again, none twice`, async () => {
    const { redis, hosts } = await cluster(2, { state: "memory" });
    const clients = await Promise.all(hosts.map((one) => connect(one, "ann")));
    const before = await redisClient(redis);
    for (const n of range(100)) before.publish(CHANNEL, JSON.stringify({ list: "r", n }));
    await waitFor(async () => await messages(hosts, "ok") === 100, "all to be handled");
    await redis.kill();
    await waitFor(async () => /degraded/.test((await hosts[0].request("/readyz")).text), "readiness to say so");
    if (!keeps) redis.forget();
    await redis.start();
    for (const one of hosts) await waitFor(async () => (await one.request("/readyz")).text === "ready\n", "readiness");
    await holderOf(hosts);
    const backend = await redisClient(redis);
    // Handled by whoever has the lease now; the state is each host's own here.
    let sent = 100;
    await waitFor(async () => {
      await backend.publish(CHANNEL, JSON.stringify({ list: "r", n: sent += 1 }));
      return await messages(hosts, "ok") > 100;
    }, "messages to be handled again", TAKEN_OVER);
    const all = range(100).map((n) => 1_000 + n);
    for (const n of all) backend.publish(CHANNEL, JSON.stringify({ list: "r", n }));
    await waitFor(async () => {
      const got = (await Promise.all(clients.map((client) => handled(client, "r")))).flatMap(numbers);
      return got.includes(1_099);
    }, "the last to be handled");
    const got = (await Promise.all(clients.map((client) => handled(client, "r")))).flatMap(numbers);
    assertEachOnce(got);
    assert.deepEqual(got.filter((n) => n < 100), range(100));
    assert.deepEqual(got.filter((n) => n >= 1_000), all);
  }, { timeout: 120_000 });
}

scenario("a host that gets no answers about a channel lets another one go on, and can end", async () => {
  const redis = await Redis.start();
  const proxy = await Proxy.to(redis);
  const unanswered = await host({ port: proxy.port });
  await holderOf([unanswered]);
  const other = await host(redis);
  const client = await connect(other, "ann");
  const backend = await redisClient(redis);
  assert.equal(await holderOf([unanswered, other]), unanswered);
  proxy.holdingScripts = true;
  await waitFor(() => holds(other), "the other to go on", 2 * TAKEN_OVER);
  for (const n of range(50)) backend.publish(CHANNEL, JSON.stringify({ list: "u", n }));
  assert.deepEqual(await numbersUntilEnd(backend, client, "u", 20_000), range(50));
  assert.equal((await unanswered.stop()).code, 0);
}, { timeout: 120_000 });

scenario("a claim that comes once more, after a later one, takes nothing back", async () => {
  const redis = await redisClient(await Redis.start());
  const script = readFileSync(join(REPOSITORY, "host/src/cluster/bridge/lease.lua"), "utf8");
  const ask = (wanted, tenure, position = "") => {
    return redis.eval(script, { keys: ["lease"], arguments: [wanted, "hosts", "x", tenure, "10000000", position] });
  };
  const [, early] = await ask("mark", "");
  assert.deepEqual(await ask("take", "one"), ["1", `${early} 0`]);
  const [, late] = await ask("mark", "");
  for (const [position, claimed] of [
    [`${early} 9`, `${early} 9`], [`${early} 10`, `${early} 10`], [`${early} 9`, `${early} 10`],
    [`${late} 1`, `${late} 1`], [`${early} 11`, `${late} 1`], [`${late} 2`, `${late} 2`],
  ]) {
    assert.deepEqual(await ask("claim", "one", position), ["1"]);
    assert.equal(await redis.hGet("lease", "claimed"), claimed);
  }
  assert.deepEqual(await ask("claim", "another", `${late} 3`), ["0"]);
});

scenario("channels are handled also where hosts do not reach each other, and on a Redis Cluster", async () => {
  const alone = await cluster(2, { clusterEnabled: false });
  const redisCluster = await RedisCluster.start();
  const options = { redisCluster: true, channels: CHANNELS };
  const clustered = [await host(redisCluster, options), await host(redisCluster, options)];
  // At one node: what is published at several is in no order.
  const backends = [[alone.hosts, alone.backend], [clustered, await redisClient(redisCluster.masters[1])]];
  for (const [hosts, backend] of backends) {
    const client = await connect(hosts[1], "ann");
    for (const n of range(200)) backend.publish(CHANNEL, JSON.stringify({ list: "x", n }));
    assert.deepEqual(await numbersUntilEnd(backend, client, "x", 20_000), range(200));
  }
}, { timeout: 120_000 });

scenario("what a plugin publishes is heard once by who listens, after its commit, on granted channels only", async () => {
  const plugin = { probe: { channels: ["probe:*", "news"] } };
  const { redis, hosts, backend } = await cluster(2, { plugin, maxMessageBytes: 3_000_000 });
  const heard = [];
  const listener = await redisClient(redis);
  await listener.pSubscribe("*", (message, channel) => {
    if (!channel.startsWith("switchboard:") && !channel.startsWith("socket.io")) heard.push([channel, message]);
  });
  const client = await connect(hosts[0], "ann");
  const publish = (...pairs) => client.ask("probe:publish", ...pairs);
  const expected = [];
  for (const n of range(200)) {
    const pairs = [["probe:a", `{"n":${n}}`], ["news", ` [${n}, "é"] `]];
    assert.equal((await publish(...pairs)).ok, true);
    expected.push(...pairs);
  }
  for (const [code, ...pairs] of [
    ["NOT_GRANTED", ["news", "1"], ["newsletter", "1"]],
    ["NOT_GRANTED", [CHANNEL, "1"]],
    ["INVALID", ["news", "1"], ["news", "1,2"]],
    ["INVALID", ["news", `{"_placeholder":true,"num":0}`]],
    ["INVALID", ["", "1"]],
    ["TOO_MANY", ...range(101).map((n) => ["news", `${n}`])],
    ["TOO_LARGE", ["news", JSON.stringify("x".repeat(600_000))], ["news", JSON.stringify("x".repeat(600_000))]],
    ["CONFLICT", ["news", "1"], "fail"],
  ]) {
    const { error } = await publish(...pairs);
    assert.equal(error.code, code);
    if (code === "NOT_GRANTED") assert.match(error.message, /plugin\.probe\.channels/);
  }
  await publish(["news", `"end"`]);
  expected.push(["news", `"end"`]);
  await waitFor(() => heard.some(([, message]) => message === `"end"`), "the last to be heard");
  assert.deepEqual(heard, expected);
  // Redis answers the host after it has told who listens.
  const published = () => counted(hosts, "switchboard_published_total");
  await waitFor(async () => await published() >= expected.length, "all to be counted");
  assert.equal(await published(), expected.length);
  // Grants follow the file while the host runs.
  hosts[0].configure({
    secret: SECRET, plugin: { probe: { channels: ["other"] } }, redisPort: redis.port, channels: CHANNELS,
  });
  await waitFor(async () => (await publish(["other", "1"])).ok, "the new grant");
  assert.equal((await publish(["news", "1"])).error.code, "NOT_GRANTED");
  await backend.publish(CHANNEL, "{}");
});

scenario("a plugin hears what it publishes to a channel that is mapped to it", async () => {
  const { hosts } = await cluster(2, { plugin: { probe: { channels: [CHANNEL] } } });
  const holder = await holderOf(hosts);
  const client = await connect(hosts.find((one) => one !== holder), "ann");
  await client.must("probe:publish", ...range(50).map((n) => [CHANNEL, JSON.stringify({ list: "own", n, origin: "probe" })]));
  const got = await waitFor(async () => {
    const entries = await handled(client, "own");
    return entries.length === 50 && entries;
  }, "all to come back");
  assert.deepEqual(numbers(got), range(50));
  assert.ok(got.every(({ source, data }) => source === "channel" && data.origin === "probe"));
});

scenario("without Redis a plugin is told that it cannot publish", async () => {
  const one = await startHost({ plugins: { probe: probe() }, plugin: { probe: { channels: ["news"] } } });
  const client = await connect(one, "ann");
  const { error } = await client.ask("probe:publish", ["news", "1"]);
  assert.equal(error.code, "UNAVAILABLE");
  assert.match(error.message, /none is configured \(redis\.host\)/);
});

scenario("a mapping that cannot work is refused, by its key", async () => {
  const one = await startHost({ plugins: [] });
  for (const [options, expected] of [
    [{ channels: CHANNELS }, /channels\."message:new": channels need a Redis/],
    [{ channels: { x: { evnt: "y" } }, redisPort: 1 }, /unknown key `channels\.x\.evnt`; did you mean `event`\?/],
    [{ channels: { "switchboard:nodes": {} }, redisPort: 1 }, /hosts themselves speak on this channel/],
    [{ channels: { 'a"b': {} }, redisPort: 1 }, /channels\."a"b"\.event: .* say which event/],
    [{ channels: { x: { plugin: "No Plugin" } }, redisPort: 1 }, /plugin name `No Plugin`/],
    [{ plugin: { probe: { channels: ["a*b"] } } }, /plugin\.probe\.channels.*one `\*` at its end/],
  ]) {
    one.configure({ secret: SECRET, ...options });
    const check = (command) => runs(BINARY, [...command, "--config", one.file("switchboard.toml")], { cwd: one.directory });
    for (const command of [["config", "check"], ["serve"]]) {
      const { code, stderr } = await check(command).catch((error) => error);
      assert.equal(code, 2);
      assert.match(stderr, expected);
    }
  }
  one.configure({ channels: { "message:new": {} }, redisPort: 1, secret: SECRET });
  const { stdout } = await runs(BINARY, ["config", "show", "--config", one.file("switchboard.toml")], { cwd: one.directory });
  assert.match(stdout, /\[channels\."message:new"\]\nevent = "message:new"/);
});

scenario("a lease is one host's, and a claim in a tenure that is over does nothing", async () => {
  const redis = await Redis.start();
  const client = await redisClient(redis);
  const script = readFileSync(join(REPOSITORY, "host/src/cluster/bridge/lease.lua"), "utf8");
  const ask = (wanted, tenure = "", position = "", long = "60000000") =>
    client.eval(script, { keys: ["lease"], arguments: [wanted, "hosts", "c", tenure, long, position] });
  const news = [];
  const listener = await redisClient(redis);
  await listener.subscribe("hosts", (text) => news.push(text));
  assert.deepEqual(await ask("take", "a"), ["0", "0"], "not before a mark");
  const [, mark] = await ask("mark");
  assert.ok(Math.abs(Number(mark) / 1_000 - Date.now()) < 60_000, "a time in microseconds");
  assert.deepEqual(await ask("take", "a"), ["1", `${mark} 0`]);
  assert.deepEqual(await ask("take", "a"), ["1", `${mark} 0`], "who asks again");
  const [no, left] = await ask("take", "b");
  assert.ok(no === "0" && Number(left) > 50_000_000 && Number(left) <= 60_000_000, left);
  assert.deepEqual(await ask("claim", "a", `${mark} 7`), ["1"]);
  for (const wanted of ["claim", "beat", "leave"]) assert.deepEqual(await ask(wanted, "b", "9 9"), ["0"]);
  const [, second] = await ask("mark");
  assert.ok(Number(second) > Number(mark));
  assert.deepEqual(await ask("beat", "a"), ["1"]);
  assert.deepEqual(await ask("leave", "a"), ["1"]);
  assert.deepEqual(await ask("take", "b", "", "1"), ["1", `${mark} 7`], "as far as the other was");
  // It has run out: its own claims are good as long as nobody else has it.
  assert.deepEqual(await ask("claim", "b", `${mark} 8`, "1"), ["1"]);
  assert.deepEqual(await ask("take", "c"), ["1", `${mark} 8`]);
  assert.deepEqual(await ask("claim", "b", `${mark} 9`), ["0"]);
  assert.equal(await client.hGet("lease", "claimed"), `${mark} 8`);
  assert.ok(await client.pTTL("lease") > 3_000_000);
  await waitFor(() => news.length === 4, "the news");
  assert.deepEqual(news, [`mark ${mark} 0 c`, `mark ${second} 0 c`, `claimed ${mark} 7 c`, "free 0 0 c"]);
});
