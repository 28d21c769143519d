// A Socket.IO server of Node.js with the stock Redis adapter, for clusters of both kinds.

import { createServer } from "node:http";
import { once } from "node:events";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { Emitter } from "@socket.io/redis-emitter";
import { createClient, createCluster } from "redis";
import { Server } from "socket.io";

const open = new Set();

/** Ends every server and emitter that was started since the last call. */
export async function closeNodeServers() {
  for (const one of open) await one.dispose();
  open.clear();
}

async function connected(redis) {
  const url = `redis://127.0.0.1:${redis.port}`;
  const client = redis.masters ? createCluster({ rootNodes: [{ url }] }) : createClient({ url });
  client.on("error", () => {}); // It reconnects by itself; what matters is seen at the sockets.
  await client.connect();
  return client;
}

/** A server whose clients join with `join(room)` and speak to a room with `say(room, name, …)`. */
export class NodeServer {
  /**
   * `options` are those of the adapter, `mode` and `subscriptions` which one it is; `namespaces` are served
   * beside `/`.
   */
  static async start(redis, { mode = "classic", subscriptions = "dynamic", namespaces = [], ...options } = {}) {
    const server = new NodeServer();
    server.redis = [await connected(redis), await connected(redis)];
    server.http = createServer().listen(0, "127.0.0.1");
    await once(server.http, "listening");
    const adapter = mode === "sharded"
      ? createShardedAdapter(...server.redis, { subscriptionMode: subscriptions, ...options })
      : createAdapter(...server.redis, options);
    server.io = new Server(server.http, { adapter });
    for (const namespace of ["/", ...namespaces]) server.serve(server.io.of(namespace));
    server.url = `http://127.0.0.1:${server.http.address().port}`;
    open.add(server);
    return server;
  }

  serve(namespace) {
    namespace.on("connection", (socket) => {
      socket.on("join", async (room, answer) => {
        await socket.join(room);
        answer({ ok: true });
      });
      socket.on("say", (room, name, ...args) => {
        const answer = args.pop();
        namespace.to(room).emit(name, ...args);
        answer({ ok: true });
      });
    });
  }

  /** The server's own end of a client's connection. */
  socketOf(client, namespace = "/") {
    return this.io.of(namespace).sockets.get(client.socket.id);
  }

  async dispose() {
    await this.io.close();
    // Not `disconnect`: what the adapter has asked for in closing is answered first.
    for (const client of this.redis) await client.quit();
  }
}

/** A client of Redis, such as a backend has. */
export async function redisClient(redis) {
  const client = await connected(redis);
  open.add({ dispose: () => client.disconnect() });
  return client;
}

/** What any process emits with that has no sockets. */
export async function redisEmitter(redis) {
  const client = await connected(redis);
  open.add({ dispose: () => client.quit() });
  return new Emitter(client);
}
