// A master, its replica, and Sentinels that watch them: all real processes.

import { Redis } from "./redis.mjs";
import { waitFor } from "./deadline.mjs";

export const MASTER = "the-master";

/** Three Sentinels of a master with a replica. */
export class Sentinels {
  /** `password` is one of the servers, `own` one of the Sentinels. */
  static async start({ password, own } = {}) {
    const group = new Sentinels();
    const login = ["--repl-diskless-sync-delay", "0"];
    if (password) login.push("--requirepass", password, "--masterauth", password);
    group.master = await Redis.start(login, { password });
    const of = ["--replicaof", "127.0.0.1", String(group.master.port)];
    group.replica = await Redis.start([...login, ...of], { password });
    const lines = (port) => [
      `port ${port}`,
      `sentinel monitor ${MASTER} 127.0.0.1 ${group.master.port} 2`,
      `sentinel down-after-milliseconds ${MASTER} 1000`,
      `sentinel failover-timeout ${MASTER} 6000`,
      ...(password ? [`sentinel auth-pass ${MASTER} ${password}`] : []),
      ...(own ? [`requirepass ${own}`, `sentinel sentinel-pass ${own}`] : []),
    ];
    group.sentinels = await Promise.all([0, 1, 2].map(() => Redis.start([], { sentinel: lines, password: own })));
    await waitFor(() => group.sentinels.every((sentinel) => {
      const fields = sentinel.command("sentinel", "master", MASTER).split("\n");
      const field = (name) => fields[fields.indexOf(name) + 1];
      return field("num-slaves") === "1" && field("num-other-sentinels") === "2" && field("flags") === "master";
    }), "the Sentinels to know each other", 20_000);
    const follows = () => group.replica.command("info", "replication").includes("master_link_status:up");
    await waitFor(follows, "the replica to follow", 20_000);
    return group;
  }

  /** Where the Sentinels are. */
  get addresses() {
    return this.sentinels.map(({ port }) => `127.0.0.1:${port}`);
  }

  /** The port of the master, as the Sentinels that live know it. */
  known() {
    const living = this.sentinels.find(({ process }) => process.exitCode === null && process.signalCode === null);
    return Number(living.command("sentinel", "get-master-addr-by-name", MASTER).split("\n")[1]);
  }
}
