// A quiz of five seconds: an educator starts it, Ann submits, Ben comes back to it and is too late.
//
//   node quiz.mjs
//
// SWITCHBOARD_URL     where the host is, http://127.0.0.1:3000 when unset
// SWITCHBOARD_TOKENS  who gives tokens away, the host's own /dev/token when unset

import { io } from "socket.io-client";

const url = process.env.SWITCHBOARD_URL ?? "http://127.0.0.1:3000";
const tokens = process.env.SWITCHBOARD_TOKENS ?? `${url}/dev/token`;
const quizId = `week-${Date.now()}`;

/** Connects a user, and prints what they hear of quizzes. */
async function connect(user, role) {
  const answer = await fetch(`${tokens}?user=${user}&role=${role}`);
  const { token } = await answer.json();
  const socket = io(url, { auth: { token }, forceNew: true });
  socket.onAny((event, heard) => {
    if (event.startsWith("quiz-")) console.log(`${user} ← ${event} ${JSON.stringify(heard)}`);
  });
  await new Promise((resolve, reject) => socket.once("connect", resolve).once("connect_error", reject));
  const hears = (event) => new Promise((resolve) => socket.once(event, resolve));
  const send = async (event, argument) => {
    console.log(`${user} → ${event} ${JSON.stringify(await socket.emitWithAck(event, argument))}`);
  };
  return { send, hears, leave: () => socket.disconnect() };
}

const [tom, ann, ben] = await Promise.all([connect("tom", "admin"), connect("ann", "student"), connect("ben", "student")]);
const begun = [ann, ben].map((taker) => taker.hears("quiz-started"));
await tom.send("quiz-start", {
  quizId,
  courseId: "algebra",
  title: "Week 1",
  durationSeconds: 5,
  userIds: ["ann", "ben"],
  questions: [
    { id: "sum", kind: "number", text: "1 + 2?", answer: 3, points: 2 },
    { id: "even", kind: "multiple", text: "Which are even?", options: ["1", "2", "4"], answer: ["2", "4"], points: 1 },
  ],
});
await Promise.all(begun);

await ann.send("quiz-answer", { quizId, questionId: "sum", answer: 3 });
await ann.send("quiz-submit", quizId);

await ben.send("quiz-answer", { quizId, questionId: "even", answer: ["4", "2"] });
ben.leave();
const phone = await connect("ben", "student");
await Promise.all([ann, phone].map((taker) => taker.hears("quiz-ended")));
await phone.send("quiz-answer", { quizId, questionId: "sum", answer: 3 });
for (const user of [tom, ann, phone]) user.leave();
