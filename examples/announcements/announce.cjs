// An educator announces, a student hears it and reads it, and the educator hears that somebody did.
//
//   node announce.cjs "Exam" "on Monday"
//
// SWITCHBOARD_URL       where the host is, http://127.0.0.1:3000 when unset
// SWITCHBOARD_API_KEY   the key that the host has as `[api] key`; `dev` prints the one it made
// TOM_TOKEN, ANN_TOKEN  tokens of an educator and a student, where the host is not `dev`

const { once } = require("node:events");
const { io } = require("socket.io-client");

const url = process.env.SWITCHBOARD_URL ?? "http://127.0.0.1:3000";
const courseId = "algebra-1";

async function json(path, options) {
  const response = await fetch(new URL(path, url), options);
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response.json();
}

/** Says that a user belongs to the course, as your backend would. */
function enrol(userId) {
  const headers = { authorization: `Bearer ${process.env.SWITCHBOARD_API_KEY}`, "content-type": "application/json" };
  const event = { plugin: "announcements", name: "enrollment-updated", data: { userId, courseId, status: "active" } };
  return json("/api/v1/events", { method: "POST", headers, body: JSON.stringify(event) });
}

async function connect(user, role) {
  await enrol(user);
  const token = process.env[`${user.toUpperCase()}_TOKEN`] ?? (await json(`/dev/token?user=${user}&role=${role}`)).token;
  const socket = io(url, { auth: { token }, transports: ["websocket"], reconnection: false });
  socket.on("connect_error", (error) => fail(error));
  await once(socket, "session");
  // Whatever is asked first is answered when one has entered the rooms of one's courses.
  await socket.emitWithAck("announcement-read", "none-yet");
  return socket;
}

async function main([title = "Exam", content = "on Monday"]) {
  const [tom, ann] = await Promise.all([connect("tom", "educator"), connect("ann", "student")]);
  ann.on("announcement-published", (news) => {
    console.log(`ann hears: ${news.title}: ${news.content}`);
    ann.emit("announcement-read", news.announcementId);
  });
  const stats = once(tom, "announcement-stats");
  const answer = await tom.emitWithAck("announce", { courseId, title, content });
  if (!answer.ok) throw new Error(`${answer.error.code}: ${answer.error.message}`);
  console.log(`tom is answered: ${answer.status}`);
  // Anything but `published` has no reader yet: it waits for its time, or for a second educator.
  if (answer.status === "published") {
    const [{ readers }] = await stats;
    console.log(`tom hears: ${readers} has read it`);
  }
  for (const socket of [tom, ann]) socket.close();
}

function fail(error) {
  console.error(error.message);
  process.exit(1);
}

main(process.argv.slice(2)).catch(fail);
