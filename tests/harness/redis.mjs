// Real Redis processes on free ports, each in a folder of its own.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitFor } from "./deadline.mjs";

const open = new Set();
process.on("exit", () => {
  for (const redis of open) redis.process?.kill("SIGKILL");
});

/** Ends every Redis that was started since the last call. */
export async function closeRedis() {
  for (const redis of open) await redis.dispose();
  open.clear();
}

/** Returns a port that nobody listened on just now. */
export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** A Redis that keeps what it acknowledged, as it can be told to. */
export class Redis {
  /**
   * `tls` has the files of `Authority.sign`, and `mutual` where clients have to show one, too; `sentinel`
   * is what returns the lines of a Sentinel's configuration; `password` is for the harness' own commands.
   */
  static async start(options = [], { tls, sentinel, password } = {}) {
    const redis = new Redis();
    Object.assign(redis, { options, tls, sentinel, password });
    redis.directory = mkdtempSync(join(tmpdir(), "switchboard-redis-"));
    redis.port = await freePort();
    open.add(redis);
    await redis.start();
    return redis;
  }

  async start() {
    this.process = spawn("redis-server", this.words(), { stdio: "ignore" });
    this.exit = once(this.process, "exit");
    await waitFor(() => this.command("ping") === "PONG", "Redis to answer", 10_000);
  }

  words() {
    if (this.sentinel) {
      const file = join(this.directory, "sentinel.conf");
      // It writes there what it learns.
      if (!existsSync(file)) writeFileSync(file, `${this.sentinel(this.port).join("\n")}\n`);
      return [file, "--sentinel", "--dir", this.directory, "--bind", "127.0.0.1"];
    }
    const { tls, port } = this;
    const ports = tls ? [
      "--port", "0", "--tls-port", String(port), "--tls-cert-file", tls.certificate, "--tls-key-file", tls.key,
      "--tls-ca-cert-file", tls.ca, "--tls-auth-clients", tls.mutual ? "yes" : "no", "--tls-cluster", "yes",
    ] : ["--port", String(port)];
    return [
      ...ports, "--bind", "127.0.0.1", "--dir", this.directory,
      "--save", "", "--appendonly", "yes", "--appendfsync", "always", ...this.options,
    ];
  }

  /** Runs a command by redis-cli; returns what it prints. */
  command(...words) {
    const { tls, password } = this;
    const files = tls ? ["--tls", "--cacert", tls.ca, "--cert", tls.certificate, "--key", tls.key] : [];
    const login = password ? ["-a", password, "--no-auth-warning"] : [];
    const all = ["-p", String(this.port), ...files, ...login, ...words];
    return execFileSync("redis-cli", all, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  }

  /** Returns how many listen to a sharded channel. */
  subscribers(channel) {
    return Number(this.command("pubsub", "shardnumsub", channel).split("\n")[1]);
  }

  async kill() {
    this.process.kill("SIGKILL");
    await this.exit;
  }

  /** Loses all that it kept, while it does not run. */
  forget() {
    rmSync(join(this.directory, "appendonlydir"), { recursive: true, force: true });
  }

  async dispose() {
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** A Redis Cluster of three masters, which share the slots. */
export class RedisCluster {
  static async start(options = [], { tls } = {}) {
    const cluster = new RedisCluster();
    cluster.masters = await Promise.all([0, 1, 2].map(async () => {
      const bus = await freePort();
      return Redis.start(["--cluster-enabled", "yes", "--cluster-port", String(bus), ...options], { tls });
    }));
    const slots = 16_384;
    const [first, ...others] = cluster.masters;
    cluster.masters.forEach((master, index) => {
      const bound = (n) => Math.floor((slots * n) / cluster.masters.length);
      master.command("cluster", "addslotsrange", String(bound(index)), String(bound(index + 1) - 1));
      // Each needs an epoch of its own before they meet.
      master.command("cluster", "set-config-epoch", String(index + 1));
    });
    for (const { port, options: [, , , bus] } of others) {
      first.command("cluster", "meet", "127.0.0.1", String(port), bus);
    }
    const isUp = (master) => {
      const info = master.command("cluster", "info");
      return info.includes("cluster_state:ok") && info.includes("cluster_known_nodes:3");
    };
    await waitFor(() => cluster.masters.every(isUp), "the cluster to serve all slots", 30_000);
    cluster.port = first.port;
    return cluster;
  }

  /** Returns how many listen to a sharded channel. */
  subscribers(channel) {
    return this.masters.map((master) => master.subscribers(channel)).reduce((one, other) => one + other);
  }

  /** Gives the slot of a channel without keys to another master. */
  move(channel) {
    const [first] = this.masters;
    const slot = first.command("cluster", "keyslot", channel);
    const ids = this.masters.map((master) => master.command("cluster", "myid"));
    const owner = this.masters.findIndex((master, n) => {
      const own = master.command("cluster", "nodes").split("\n").find((line) => line.startsWith(ids[n]));
      return own.split(" ").slice(8).some((range) => {
        const [from, to = from] = range.split("-").map(Number);
        return from <= slot && slot <= to;
      });
    });
    const next = (owner + 1) % this.masters.length;
    const order = [next, owner, (owner + 2) % this.masters.length];
    for (const n of order) this.masters[n].command("cluster", "setslot", slot, "node", ids[next]);
  }

  /** Ends all of its processes, and starts them again. */
  async kill() {
    await Promise.all(this.masters.map((master) => master.kill()));
  }

  async start() {
    await Promise.all(this.masters.map((master) => master.start()));
    const isUp = (master) => master.command("cluster", "info").includes("cluster_state:ok");
    await waitFor(() => this.masters.every(isUp), "the cluster to serve all slots", 30_000);
  }

  /** Returns how many keys each master has. */
  keys() {
    return this.masters.map((master) => Number(master.command("dbsize")));
  }
}

/**
 * What stands between a host and Redis, and can keep Redis' answers back, all or those on connections by which
 * scripts are run, or the host away.
 */
export class Proxy {
  static async to(redis) {
    const proxy = new Proxy();
    proxy.holding = false;
    proxy.holdingScripts = false;
    proxy.cut = false;
    proxy.connections = new Set();
    proxy.server = createServer((near) => {
      if (proxy.cut) return near.destroy();
      const far = createConnection(redis.port, "127.0.0.1");
      near.pipe(far);
      let holds = false;
      near.on("data", (data) => {
        holds ||= proxy.holdingScripts && data.includes("EVALSHA");
      });
      proxy.connections.add(near);
      near.on("close", () => proxy.connections.delete(near));
      far.on("data", (data) => {
        if (!proxy.holding && !holds) near.write(data);
      });
      for (const [one, other] of [[near, far], [far, near]]) {
        one.on("close", () => other.destroy());
        one.on("error", () => other.destroy());
      }
    }).listen(0, "127.0.0.1");
    await once(proxy.server, "listening");
    proxy.server.unref();
    proxy.port = proxy.server.address().port;
    return proxy;
  }

  /** Ends all connections; new ones can be made. */
  drop() {
    for (const connection of this.connections) connection.destroy();
  }
}
