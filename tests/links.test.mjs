// All ways to reach Redis: by a URL, by TLS, as a user, by Sentinels, by any node of a cluster.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { Authority } from "./harness/certificates.mjs";
import { connect } from "./harness/clients.mjs";
import { REPOSITORY, probe } from "./harness/components.mjs";
import { waitFor } from "./harness/deadline.mjs";
import { BINARY, environmentOf } from "./harness/host.mjs";
import { Redis, RedisCluster, freePort } from "./harness/redis.mjs";
import { preparedHost, scenario, startHost } from "./harness/scenario.mjs";
import { MASTER, Sentinels } from "./harness/sentinels.mjs";

const runs = promisify(execFile);
const authority = new Authority("authority of the tests");
const server = authority.sign("server");
const plugins = { probe: probe() };

/** Runs a command with a host's configuration; returns what it prints. */
const command = async (host, ...words) => {
  const { stdout } = await runs(BINARY, [...words, "--config", host.file("switchboard.toml")], {
    cwd: host.directory, env: environmentOf(),
  });
  return stdout;
};

/** Waits until what is said on one host is heard on another. */
async function reaches(from, to, room, what) {
  let n = 0;
  await waitFor(async () => {
    n += 1;
    await from.must("probe:relay", room, `${what} ${n}`);
    return to.heard("probe:relayed").some((text) => text.startsWith(what));
  }, () => `${what} to be heard elsewhere`, 15_000);
}

/** Counts up in the state; returns the count. */
const count = async (client) => (await client.must("probe:count", "links")).value;

/** Two hosts hear each other and share state; the commands for operators work as they do. */
async function works(options) {
  const hosts = await Promise.all([0, 1].map(() => startHost({ plugins, ...options })));
  const clients = await Promise.all(hosts.map((host, n) => connect(host, `user-${n}`)));
  for (const client of clients) await client.must("probe:join", "probe:links");
  await reaches(clients[0], clients[1], "probe:links", "hello");
  await reaches(clients[1], clients[0], "probe:links", "hello, too");
  const before = await count(clients[0]);
  assert.equal(await count(clients[1]), before + 1);
  const status = await command(hosts[0], "cluster", "status");
  assert.match(status, /^Redis 7\.[0-9.]+ at .*: master, .*\n/);
  assert.match(status, /2 hosts, 2 connections/);
  assert.match(await command(hosts[0], "state", "list", "probe"), /links/);
  return { hosts, clients, status };
}

/** The same, and then the hosts end. */
async function hasWorked(options) {
  const { hosts } = await works(options);
  await Promise.all(hosts.map((host) => host.stop()));
}

/** A host with these values ends, and says why. */
async function refuses(options, ...reasons) {
  const host = preparedHost({ plugins: [], ...options });
  await assert.rejects(host.start(), /the host ended/);
  for (const reason of reasons) assert.match(host.log(), reason);
  return host.log();
}

scenario("a URL says all, with a user of the access control list, and its password is shown nowhere", async () => {
  const redis = await Redis.start();
  redis.command("acl", "setuser", "ann", "on", ">p@ss:w/ord", "~*", "&*", "+@all");
  const redisUrl = `redis://ann:p%40ss%3Aw%2Ford@127.0.0.1:${redis.port}/3`;
  const { hosts } = await works({ redisUrl });
  assert.match(redis.command("acl", "list"), /user ann/);
  assert.equal(redis.command("-n", "3", "dbsize") > 0, true, "state is in the database that is named");
  const shown = await command(hosts[0], "config", "show");
  assert.match(shown, new RegExp(`url = "redis://ann:<redacted>@127\\.0\\.0\\.1:${redis.port}/3"`));
  const wrong = await refuses({ redisUrl: redisUrl.replace("ord@", "rong@") }, /refuses the password \(redis\.url\)/);
  for (const text of [shown, wrong, ...hosts.map((host) => host.log())]) {
    assert.doesNotMatch(text, /p%40ss|p@ss/);
  }
  // The same by its parts; in another database.
  await Promise.all(hosts.map((host) => host.stop()));
  await hasWorked({ redisPort: redis.port, redisUsername: "ann", redisPassword: "p@ss:w/ord" });
});

scenario("a user that may do what the examples say suffices, and one that may not is told which command it lacks", async () => {
  const redis = await Redis.start();
  const readme = readFileSync(join(REPOSITORY, "examples/several-hosts/README.md"), "utf8");
  const [, line] = readme.match(/redis-cli (acl setuser hosts (?:.*\\\n)*.*)\n/);
  redis.command(...line.replaceAll("\\\n", " ").replaceAll("'", "").split(/ +/));
  const options = { redisPort: redis.port, redisUsername: "hosts", redisPassword: "PASSWORD" };
  await hasWorked(options);
  await hasWorked({ ...options, clusterMode: "sharded" });
  redis.command("acl", "setuser", "hosts", "-info");
  const log = await refuses(options, /does not permit the user.*redis\.username, redis\.password.*'info'/);
  assert.doesNotMatch(log, /refuses the password/);
}, { timeout: 120_000 });

scenario("REDIS_URL is a name for it, and what contradicts itself is refused by its keys", async () => {
  const redis = await Redis.start();
  const REDIS_URL = `redis://127.0.0.1:${redis.port}`;
  const host = await startHost({ plugins, environment: { REDIS_URL } });
  assert.match(host.log(), new RegExp(`state is kept in Redis.*127\\.0\\.0\\.1:${redis.port}`));
  const both = await refuses({ environment: { REDIS_URL: "redis://:hunter2@127.0.0.1", REDIS_HOST: "127.0.0.1" } }, /redis\.url, redis\.host/);
  assert.doesNotMatch(both, /hunter2/);
  const bad = await refuses({ environment: { REDIS_URL: "http://:hunter2@127.0.0.1" } }, /environment REDIS_URL: redis\.url: expected `redis:/);
  assert.doesNotMatch(bad, /hunter2/);
});

scenario("by TLS: with the authority's certificate, by key or URL", async () => {
  const redis = await Redis.start([], { tls: server });
  await hasWorked({ redisPort: redis.port, redisTls: true, redisCa: authority.ca });
  await hasWorked({ redisUrl: `rediss://localhost:${redis.port}`, redisCa: authority.ca });
});

scenario("by TLS: whom not to trust is told, and nobody is waited for", async () => {
  const redis = await Redis.start([], { tls: server });
  const other = new Authority("another authority");
  const redisPort = redis.port;
  await refuses({ redisPort, redisTls: true, redisCa: other.ca }, /cannot be trusted/, /redis\.ca/, /UnknownIssuer/);
  // The system's do not know the tests' authority.
  await refuses({ redisPort, redisTls: true }, /cannot be trusted/, /redis\.ca/, /UnknownIssuer/);
  const elsewhere = await Redis.start([], { tls: authority.sign("elsewhere", "DNS:elsewhere.example") });
  await refuses({ redisPort: elsewhere.port, redisTls: true, redisCa: authority.ca }, /cannot be trusted/, /NotValidForName|not valid for name/i);
  await refuses({ redisPort, redisTls: true, redisCa: "nowhere.pem" }, /redis\.ca: nowhere\.pem: the file cannot be read/);
  await refuses({ redisPort, redisTls: true, redisCa: server.key }, /redis\.ca: .*server-key\.pem: expected certificates as PEM/);
  await refuses({ redisPort, redisCa: authority.ca }, /redis\.ca: means nothing without redis\.tls/);
});

scenario("by TLS: both sides show a certificate", async () => {
  const redis = await Redis.start([], { tls: { ...server, mutual: true } });
  const { certificate, key } = authority.sign("host");
  const options = { redisPort: redis.port, redisTls: true, redisCa: authority.ca };
  await works({ ...options, redisCertificate: certificate, redisKey: key });
  await refuses(options, /does not trust this host/, /redis\.certificate/);
  const stranger = new Authority("another authority").sign("host");
  await refuses({ ...options, redisCertificate: stranger.certificate, redisKey: stranger.key }, /does not trust this host/);
  await refuses({ ...options, redisCertificate: certificate, redisKey: stranger.key }, /cannot be connected to/);
});

scenario("by TLS: Redis killed and started, also with a renewed certificate, is there again", async () => {
  const redis = await Redis.start([], { tls: authority.sign("renewed") });
  const { clients } = await works({ redisPort: redis.port, redisTls: true, redisCa: authority.ca });
  await redis.kill();
  authority.sign("renewed");
  await redis.start();
  await reaches(clients[0], clients[1], "probe:links", "again");
  await waitFor(() => count(clients[1]).then(() => true, () => false), "state to be written");
});

scenario("by Sentinels: kill -9 the master, and the hosts follow to the next", async () => {
  const group = await Sentinels.start({ password: "of-the-servers", own: "of-the-sentinels" });
  const options = {
    redisSentinels: [`127.0.0.1:${await freePort()}`, ...group.addresses],
    redisMaster: MASTER,
    redisPassword: "of-the-servers",
    sentinelPassword: "of-the-sentinels",
  };
  const { hosts, clients, status } = await works(options);
  assert.match(status, /at the master `the-master` of 127\.0\.0\.1:/);
  const before = await count(clients[0]);
  assert.equal(group.master.command("wait", "1", "5000"), "1", "the replica has what was written");
  // With the master goes the first Sentinel.
  await group.sentinels[0].kill();
  await group.master.kill();
  await waitFor(() => group.known() === group.replica.port, "the failover", 30_000);
  await reaches(clients[0], clients[1], "probe:links", "after the failover");
  await reaches(clients[1], clients[0], "probe:links", "after the failover, too");
  const after = await waitFor(() => count(clients[1]).catch(() => false), "state to be written");
  assert.ok(after > before, `${after} after ${before}`);
  await waitFor(async () => (await hosts[0].request("/readyz")).text === "ready\n", "readiness");
  for (const client of clients) assert.deepEqual(client.disconnections, []);
  // The old master is back, as a replica: it is not taken for the master.
  await group.master.start();
  await waitFor(() => group.master.command("role").startsWith("slave"), "the old master to be a replica", 30_000);
  const late = await startHost({ plugins, ...options });
  const third = await connect(late, "late");
  await third.must("probe:join", "probe:links");
  await reaches(third, clients[0], "probe:links", "from the third");
  assert.ok(await count(third) > after);
}, { timeout: 120_000 });

scenario("by Sentinels: a failover that somebody asks for is followed, and a wrong name or password said", async () => {
  const group = await Sentinels.start({ own: "of-the-sentinels" });
  const options = { redisSentinels: group.addresses, redisMaster: MASTER, sentinelPassword: "of-the-sentinels" };
  const { clients } = await works({ ...options, clusterMode: "sharded" });
  group.sentinels[0].command("sentinel", "failover", MASTER);
  await waitFor(() => group.known() === group.replica.port, "the failover", 30_000);
  await reaches(clients[0], clients[1], "probe:links", "after the failover");
  await waitFor(() => count(clients[0]).then(() => true, () => false), "state to be written", 15_000);
  await refuses({ ...options, sentinelPassword: "wrong" }, /refuses the password \(.*redis\.sentinel_password\)/);
  const nobody = preparedHost({ plugins: [], ...options, redisMaster: "nobody" });
  const started = nobody.start().catch((error) => error);
  await waitFor(() => /waiting for it/.test(nobody.log()), "the host to wait");
  assert.match(nobody.log(), /knows no such master.*nobody/);
  assert.match(nobody.log(), /redis\.sentinels, redis\.master/);
  nobody.signal("SIGTERM");
  await started;
}, { timeout: 120_000 });

scenario("a Redis Cluster whose first nodes are not there is reached by another, also by TLS", async () => {
  for (const tls of [undefined, server]) {
    const cluster = await RedisCluster.start([], { tls });
    const dead = `127.0.0.1:${await freePort()}`;
    const nodes = cluster.masters.map(({ port }) => `127.0.0.1:${port}`);
    const files = tls ? { redisTls: true, redisCa: authority.ca } : {};
    await hasWorked({ redisCluster: true, redisNodes: [dead, ...nodes], clusterMode: "sharded", ...files });
    const { clients } = await works({ redisCluster: true, redisNodes: [dead, ...nodes], ...files });
    // The one that they all listen at and publish by.
    await cluster.masters[0].kill();
    await reaches(clients[0], clients[1], "probe:links", "by another node");
    await reaches(clients[1], clients[0], "probe:links", "by another node, too");
  }
}, { timeout: 120_000 });
