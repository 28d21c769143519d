// Ann and Ben are in a course: who is there, who types, what is announced, and who is out of it.
//
//   npm install socket.io-client
//   SWITCHBOARD_API_KEY=… node course.mjs
//
// SWITCHBOARD_URL      where the host is, http://127.0.0.1:3000 when unset
// SWITCHBOARD_API_KEY  the key of its server API; `dev` prints the one it made
// SWITCHBOARD_TOKENS   where tokens come from, that of `dev` when unset

import { io } from "socket.io-client";

const url = process.env.SWITCHBOARD_URL ?? "http://127.0.0.1:3000";
const tokens = process.env.SWITCHBOARD_TOKENS ?? `${url}/dev/token`;
const courseId = `algebra-${Date.now()}`;

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
  body: JSON.stringify({ plugin: "lms", name, data: { courseId, ...data } }),
});

async function connect(user) {
  const { token } = await json(`${tokens}?user=${user}`);
  const socket = io(url, { transports: ["websocket"], auth: { token } });
  await new Promise((resolve, reject) => socket.once("session", resolve).once("connect_error", reject));
  return socket;
}

/** Resolves when a user has heard of something, and prints it. */
const hears = (user, socket, event, text) => new Promise((resolve) => {
  socket.once(event, (heard) => {
    console.log(`${user} hears: ${text(heard)}`);
    resolve();
  });
});

// Who may enter is the backend's to say, or the token's (`enrolledCourses`).
for (const userId of ["ann", "ben"]) await tell("enrollment-updated", { userId, status: "active" });
const [ann, ben] = await Promise.all(["ann", "ben"].map(connect));

await ann.emitWithAck("join-course", courseId);
const comes = hears("ann", ann, "user-presence", ({ userId, status }) => `${userId} is ${status}`);
const { onlineUsers } = await ben.emitWithAck("join-course", courseId);
console.log(`in the course: ${onlineUsers.join(", ")}`);
await comes;

const types = hears("ann", ann, "user-typing", ({ userId, isTyping }) => `${userId} ${isTyping ? "types" : "has stopped"}`);
await ben.emitWithAck("start-typing", `course:${courseId}`);
await types;

const announced = ({ title, content }) => `${title}: ${content}`;
const told = [["ann", ann], ["ben", ben]].map(([user, socket]) => hears(user, socket, "announcement-published", announced));
await tell("announcement", { title: "Exam", content: "on Monday" });
await Promise.all(told);

await tell("enrollment-updated", { userId: "ben", status: "dropped" });
const { error } = await ben.emitWithAck("join-course", courseId);
console.log(`ben comes again: ${error.code}`);
for (const socket of [ann, ben]) socket.disconnect();
