// A client in a process of its own, so that it can be stopped as a whole: `node listener.mjs URL TOKEN ROOM…`
// joins the rooms of the plugin `rooms` and says so.

import { io } from "socket.io-client";

const [url, token, ...rooms] = process.argv.slice(2);
const socket = io(url, { transports: ["websocket"], auth: { token }, reconnection: false });
socket.on("connect_error", (error) => {
  console.error(error.message);
  process.exit(1);
});
socket.on("session", async () => {
  for (const roomId of rooms) {
    const answer = await socket.emitWithAck("room:join", { roomId });
    if (!answer.ok) throw new Error(JSON.stringify(answer));
  }
  console.log("joined");
});
