// The baseline of the benchmark `cluster`: what its plugin does, on Node.js with the stock Redis adapter.

import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const connected = async () => {
  const client = createClient({ url: `redis://127.0.0.1:${process.env.REDIS_PORT}` });
  await client.connect();
  return client;
};

const http = createServer();
const io = new Server(http, { adapter: createAdapter(await connected(), await connected()) });
io.on("connection", (socket) => {
  socket.on("load:join", async ({ roomId }, answer) => {
    await socket.join(roomId);
    answer({ ok: true });
  });
  socket.on("load:leave", async ({ roomId }, answer) => {
    await socket.leave(roomId);
    answer({ ok: true });
  });
  socket.on("load:say", (said) => io.to(said.roomId).emit("load:said", said));
});
http.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${http.address().port}`));
