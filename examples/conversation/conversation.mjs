// Ann says something to Ben, and sees that it has been delivered to him, and that he has seen it.
//
//   npm install socket.io-client
//   SWITCHBOARD_API_KEY=… node conversation.mjs "hello, Ben"
//
// SWITCHBOARD_URL      where the host is, http://127.0.0.1:3000 when unset
// SWITCHBOARD_API_KEY  the key of its server API; `dev` prints the one it made
// SWITCHBOARD_TOKENS   where tokens come from, that of `dev` when unset

import { io } from "socket.io-client";

const url = process.env.SWITCHBOARD_URL ?? "http://127.0.0.1:3000";
const tokens = process.env.SWITCHBOARD_TOKENS ?? `${url}/dev/token`;
const content = process.argv[2] ?? "hello, Ben";

async function json(address, options) {
  const response = await fetch(address, { signal: AbortSignal.timeout(10_000), ...options });
  const answer = await response.json();
  if (!response.ok) throw new Error(`${response.status}: ${JSON.stringify(answer)}`);
  return answer;
}

/** Does what a backend does: tells the plugin. */
const tell = (name, data) => json(`${url}/api/v1/events`, {
  method: "POST",
  headers: { authorization: `Bearer ${process.env.SWITCHBOARD_API_KEY}`, "content-type": "application/json" },
  body: JSON.stringify({ plugin: "chat", name, data }),
});

async function connect(user) {
  const { token } = await json(`${tokens}?user=${user}`);
  const socket = io(url, { transports: ["websocket"], auth: { token } });
  await new Promise((resolve, reject) => socket.once("session", resolve).once("connect_error", reject));
  return socket;
}

const { conversationId } = await tell("conversation-create", { members: ["ann", "ben"] });
const [ann, ben] = await Promise.all(["ann", "ben"].map(connect));

// To call the second argument says that this device has the message.
ben.on("message-new", (message, acknowledge) => {
  console.log(`ben hears from ${message.senderId}: ${message.content}`);
  acknowledge();
});
const seen = new Promise((resolve) => {
  ann.on("receipt", (messageId, userId, type) => {
    console.log(`ann's message is ${type}: ${userId}`);
    if (type === "delivered") ben.emit("message-seen", messageId);
    else resolve();
  });
});

// Sent again with the same `tempId`, as after a lost connection, it is the same message.
const message = { tempId: crypto.randomUUID(), conversationId, content };
const first = await ann.emitWithAck("message-send", message);
const again = await ann.emitWithAck("message-send", message);
console.log(`stored ${first.messageId === again.messageId ? "once" : "twice"}`);
await seen;
for (const socket of [ann, ben]) socket.disconnect();
