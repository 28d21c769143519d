// A school day on three hosts: 200 students and 5 educators come, chat, vanish and come back, hear what was
// announced in quiet hours, and take a quiz, during which a host is killed and a plugin is swapped. A model
// of the rules says what each student hears; at the end that is what each has heard.

import assert from "node:assert/strict";
import { connect, settled } from "./harness/clients.mjs";
import { component, replace } from "./harness/components.mjs";
import { API_KEY } from "./harness/configuration.mjs";
import { waitFor } from "./harness/deadline.mjs";
import { Redis } from "./harness/redis.mjs";
import { scenario, startHost } from "./harness/scenario.mjs";
import { SUITES, TOGETHER } from "./harness/suites.mjs";
import { SECRET } from "./harness/tokens.mjs";

const STUDENTS = 200;
const COURSES = 5;
/** How many come at once: of these nobody can say who hears of whom. */
const WAVE = 25;
/** How long the quiz takes, in seconds. */
const QUIZ = 45;

/** What matters of what a student hears. */
const NEWS = {
  "joined-course": ({ courseId }) => `entered ${courseId}`,
  "user-presence": ({ userId, status }) => `${userId} is ${status}`,
  "message-ack": (tempId) => `sent ${tempId}`,
  "message-new": ({ senderId, content }) => `${senderId} says ${content}`,
  receipt: (_, userId, type) => `${userId} has it ${type}`,
  presence: (userId, status) => `partner ${userId} is ${status}`,
  "announcement-published": ({ courseId, title }) => `announced in ${courseId}: ${title}`,
  "notification-received": ({ title }) => `notified: ${title}`,
  "quiz-started": ({ quizId }) => `quiz ${quizId} started`,
  "quiz-resumed": ({ quizId }) => `quiz ${quizId} resumed`,
  "quiz-submitted": ({ quizId, score, maxScore }) => `quiz ${quizId} submitted: ${score} of ${maxScore}`,
  "quiz-ended": ({ quizId, score }) => `quiz ${quizId} ended: ${score}`,
};

const course = (n) => `day-${n % COURSES}`;

class Student {
  constructor(n) {
    this.n = n;
    this.name = `student-${n}`;
    this.course = course(n);
    this.clients = [];
    /** What the model says: in phases, in each of them in any order. */
    this.expected = [];
    this.phases = [];
    this.past = 0;
    this.log = [];
  }

  get client() {
    return this.clients.at(-1);
  }

  async comesTo(host) {
    const client = await connect(host, this.name, { claims: { enrolledCourses: [this.course] } });
    client.socket.on("message-new", (_, received) => received());
    client.read = 0;
    if (this.clients.length > 0) this.heard();
    this.clients.push(client);
    return client;
  }

  /** All that was heard on all connections so far, in order. */
  heard() {
    const { client } = this;
    for (; client.read < client.inbox.length; client.read += 1) {
      const { name, args } = client.inbox[client.read];
      const news = NEWS[name] ? NEWS[name](...args) : `${name} ${JSON.stringify(args)}`;
      if (!this.companions?.has(news)) this.log.push(news);
    }
    return this.log;
  }

  /** What has been heard in this phase. */
  now() {
    return this.heard().slice(this.past).toSorted();
  }

  hasHeard() {
    return this.heard().length - this.past === this.expected.length
      && JSON.stringify(this.now()) === JSON.stringify(this.expected.toSorted());
  }

  turnPage() {
    this.phases.push(this.expected.toSorted());
    this.past += this.expected.length;
    this.expected = [];
  }

  answer(questionId, answer) {
    return this.client.must("quiz-answer", { quizId: this.course, questionId, answer });
  }
}

/** The next full minute that is some seconds ahead, and its local time in UTC. */
function nextMinute() {
  const at = new Date(Math.ceil((Date.now() + 20_000) / 60_000) * 60_000);
  return { at, text: at.toISOString().slice(11, 16) };
}

const QUESTIONS = [
  { id: "one", kind: "single", text: "Which?", options: ["a", "b"], answer: "b", points: 1 },
  { id: "two", kind: "number", text: "How many?", answer: 7, points: 2 },
];

/** The answers of a student, and their score. */
const plan = ({ n }) => ({
  one: n % 2 === 0 ? "b" : "a",
  two: n % 3 === 0 ? 7 : 8,
  score: (n % 2 === 0 ? 1 : 0) + (n % 3 === 0 ? 2 : 0),
  submits: n % 4 === 0,
});

scenario("a school day: what each student hears is what the rules say", async (context) => {
  const redis = await Redis.start(["--appendfsync", "no"]);
  const started = performance.now();
  const { plugins: _, ...options } = { ...TOGETHER, presenceGrace: "1s", redisPort: redis.port, plugin: {} };
  const host = () => startHost({ plugins: Object.keys(SUITES), ...options });
  const hosts = await Promise.all([host(), host(), host()]);
  const [dying, ...staying] = hosts;
  const tell = (plugin, name, data) => staying[0].tell(name, data, { plugin });

  const students = Array.from({ length: STUDENTS }, (_, n) => new Student(n));
  const classmates = ({ course: id, n }) => students.filter((other) => other.course === id && other.n !== n);
  const partner = ({ n }) => students[(n + STUDENTS / 2) % STUDENTS];

  /** Waits until these have heard what the model says, and nothing else. */
  const allHave = (name, these = students, milliseconds = 30_000) => {
    const behind = () => these.filter((student) => !student.hasHeard());
    return waitFor(() => behind().length === 0, () => {
      const [first, ...others] = behind();
      return `${name}: ${first.name} and ${others.length} others; heard ${JSON.stringify(first.now())}, expected ${JSON.stringify(first.expected)}`;
    }, milliseconds);
  };
  const phase = async (name, milliseconds) => {
    await allHave(name, students, milliseconds);
    await settled(...students.filter(({ client }) => client.connected).map(({ client }) => client));
    for (const student of students) {
      assert.deepEqual(student.now(), student.expected.toSorted(), `${name}: ${student.name}`);
      student.turnPage();
    }
    context.diagnostic(`${name}: ${Math.round(performance.now() - started)} ms`);
  };

  // Students will talk two by two, and each with an educator.
  const talks = (...members) => tell("chat", "conversation-create", { members });
  const conversations = await Promise.all(students.slice(0, STUDENTS / 2).map(async (student) => {
    const { conversationId } = await talks(student.name, partner(student).name);
    return conversationId;
  }));
  const conversation = ({ n }) => conversations[n % (STUDENTS / 2)];
  await Promise.all([...students.map(({ name }) => name), "witness"].map((name) => talks("educator-0", name)));

  // Everybody comes, to any of the hosts.
  const educatorOn = async (on, n) => {
    const client = await connect(on, `educator-${n}`, { role: "educator", claims: { taughtCourses: [course(n)] } });
    await client.must("join-course", course(n));
    return client;
  };
  const witness = await connect(staying[1], "witness");
  const courses = Array.from({ length: COURSES }, (_, n) => n);
  const educators = await Promise.all(courses.map((n) => educatorOn(staying[n % 2], n)));
  // Their second devices, on each host: what these have heard is heard by nobody who comes to it later.
  const watchers = await Promise.all(courses.flatMap((n) => hosts.map((host) => educatorOn(host, n))));
  const areWatched = (these) => watchers.every((watcher, place) => {
    const heard = new Set(watcher.heard("user-presence").map(({ userId }) => userId));
    const own = course(Math.floor(place / hosts.length));
    return these.every((student) => student.course !== own || heard.has(student.name));
  });
  // What is heard of those who come at a host's start is put off by it.
  const hears = (client, names) => {
    const told = new Set(client.heard("presence"));
    return names.every((name) => told.has(name));
  };
  await waitFor(() => hears(witness, ["educator-0"]), "an educator to be told of", 30_000);
  await Promise.all(students.map(async (student) => {
    // Of those who come at the same time one may hear, or not.
    student.companions = new Set(["educator-0", partner(student).name].map((name) => `partner ${name} is online`));
    await student.comesTo(hosts[student.n % 3]);
  }));
  await waitFor(() => hears(educators[0], students.map(({ name }) => name)), "all to be told of", 30_000);
  await settled(...students.map(({ client }) => client));
  for (let first = 0; first < STUDENTS; first += WAVE) {
    const wave = students.slice(first, first + WAVE);
    const seated = students.slice(0, first);
    const names = wave.map(({ name }) => name);
    for (const one of wave) {
      one.expected.push(`entered ${one.course}`);
      for (const name of names) one.companions.add(`${name} is online`);
      for (const other of seated.filter((other) => other.course === one.course)) other.expected.push(`${one.name} is online`);
    }
    await Promise.all(wave.map(({ client, course: id }) => client.must("join-course", id)));
    await allHave(`wave ${first} is heard of`, students.slice(0, first + WAVE));
    await waitFor(() => areWatched(wave), `wave ${first} to be heard of on each host`, 30_000);
  }
  for (const watcher of watchers) watcher.close();
  await phase("all are in their courses");
  for (const student of students) delete student.companions;

  // They talk, two by two.
  const sent = await Promise.all(students.map(async (student) => {
    const tempId = `hello-${student.n}`;
    student.expected.push(`sent ${tempId}`, `${partner(student).name} has it delivered`);
    partner(student).expected.push(`${student.name} says hello`);
    const { messageId } = await student.client.must("message-send", { tempId, conversationId: conversation(student), content: "hello" });
    return messageId;
  }));
  await phase("all have said hello");
  await Promise.all(students.map(async (student) => {
    student.expected.push(`${partner(student).name} has it seen`);
    await student.client.must("message-seen", sent[partner(student).n]);
  }));
  await phase("all have been read");

  // Some vanish, and are missed after a while.
  const vanished = students.slice(0, 20);
  const isThere = (student) => !vanished.includes(student);
  for (const student of vanished) {
    for (const other of classmates(student).filter(isThere)) other.expected.push(`${student.name} is offline`);
    partner(student).expected.push(`partner ${student.name} is offline`);
    student.client.socket.io.engine.close();
  }
  await phase("who vanished is offline");

  // Quiet hours: what is announced in them is heard when they end, by who is there.
  const end = nextMinute();
  const from = new Date(end.at.getTime() - 3_600_000).toISOString().slice(11, 16);
  const rules = { words: ["forbidden"], quietHours: { from, to: end.text, timeZone: "Etc/UTC" } };
  for (const one of hosts) one.configure({ secret: SECRET, ...options, plugin: { announcements: { settings: rules } } });
  const tomorrow = new Date(Date.now() + 86_400_000).toISOString();
  await waitFor(async () => {
    const announced = educators.map((educator, n) =>
      educator.ask("announce", { courseId: course(n), title: "forbidden", content: "-", publishAt: tomorrow }));
    return (await Promise.all(announced)).every(({ error }) => error?.code === "WORD_NOT_ALLOWED");
  }, "the rules to be there", 10_000);
  const answers = await Promise.all(educators.map((educator, n) => educator.must("announce", { courseId: course(n), title: "trip", content: "on Friday" })));
  assert.deepEqual(answers.map(({ status }) => status), Array(COURSES).fill("scheduled"));
  for (const student of students.filter(isThere)) student.expected.push(`announced in ${student.course}: trip`);
  await phase("quiet hours are over", 90_000);
  assert.ok(Date.now() >= end.at.getTime(), "not before their end");

  // Who vanished comes back, one by one, to another host.
  for (const student of vanished) {
    student.expected.push(`entered ${student.course}`);
    const back = vanished.slice(0, vanished.indexOf(student));
    for (const other of classmates(student).filter((other) => isThere(other) || back.includes(other))) other.expected.push(`${student.name} is online`);
    partner(student).expected.push(`partner ${student.name} is online`);
    await student.comesTo(hosts[(student.n + 1) % 3]);
    await student.client.must("join-course", student.course);
    await allHave(`${student.name} is back`);
  }
  await phase("who vanished is back");

  // A quiz in each course. A host dies while answers are on their way to it.
  await Promise.all(educators.map(async (educator, n) => {
    const userIds = students.filter((student) => student.course === course(n)).map(({ name }) => name);
    await educator.must("quiz-start", { quizId: course(n), courseId: course(n), title: "Exam", durationSeconds: QUIZ, userIds, questions: QUESTIONS });
  }));
  for (const student of students) student.expected.push(`quiz ${student.course} started`);
  await phase("the quizzes have started");
  // What a host has sent just before it dies may be sent again.
  for (const student of students) student.companions = new Set([`quiz ${student.course} started`]);
  await Promise.all(students.map((student) => student.answer("one", plan(student).one)));
  const lost = students.filter(({ client }) => client.host === dying);
  const safe = students.filter((student) => !lost.includes(student));
  const taken = new Set();
  for (const student of lost) student.answer("two", plan(student).two).then(() => taken.add(student), () => {});
  await waitFor(() => taken.size > 0, "the first answer to be taken");
  await dying.kill();
  const answered = Promise.all(safe.map((student) => student.answer("two", plan(student).two)));
  await Promise.all(lost.map(async (student) => {
    await student.client.closed();
    student.expected.push(`entered ${student.course}`, `quiz ${student.course} resumed`);
    const client = await student.comesTo(staying[student.n % 2]);
    await client.must("join-course", student.course);
    await waitFor(() => client.heard("quiz-resumed").length > 0, `${student.name} to resume the quiz`);
    const [{ answers: { one, two } }] = client.heard("quiz-resumed");
    assert.equal(one, plan(student).one, student.name);
    // It may have been taken without a word.
    if (taken.has(student)) assert.equal(two, plan(student).two, student.name);
    if (two === undefined) await student.answer("two", plan(student).two);
  }));
  await answered;
  context.diagnostic(`${lost.length} students were on the host that died, of whose last answers ${taken.size} were taken`);
  await phase("who was on the host that died goes on");

  // The plugin `lms` is swapped under what it is told.
  const later = Buffer.concat([component("lms"), Buffer.from([0, 6, 5, ...Buffer.from("later")])]);
  const digests = () => Promise.all(staying.map(async (one) => {
    const { text } = await one.request("/api/v1/plugins", { headers: { authorization: `Bearer ${API_KEY}` } });
    return JSON.parse(text).plugins.find(({ name }) => name === "lms").digest;
  }));
  const before = await digests();
  let notified = 0;
  const notify = async () => {
    const title = `news ${(notified += 1)}`;
    for (const student of students) student.expected.push(`notified: ${title}`);
    await tell("lms", "notification", { userIds: students.map(({ name }) => name), type: "news", title, content: "-" });
  };
  await notify();
  for (const one of staying) replace(one.pluginFile("lms"), later);
  await waitFor(async () => {
    await notify();
    return (await digests()).every((digest, n) => digest !== before[n]);
  }, "the plugin to be swapped", 15_000);
  await notify();
  await phase("the plugin is swapped");
  for (const student of students) {
    const news = student.heard().filter((text) => text.startsWith("notified: "));
    assert.deepEqual(news, Array.from({ length: notified }, (_, n) => `notified: news ${n + 1}`), "in order");
  }

  // Some submit, and for all the time is over.
  await Promise.all(students.filter((student) => plan(student).submits).map(async (student) => {
    student.expected.push(`quiz ${student.course} submitted: ${plan(student).score} of 3`);
    await student.client.must("quiz-submit", student.course);
  }));
  await phase("some have submitted");
  for (const student of students) student.expected.push(`quiz ${student.course} ended: ${plan(student).score}`);
  await phase("the quizzes are over", QUIZ * 1_000 + 20_000);

  for (const student of students) {
    let from = 0;
    const inPhases = student.phases.map(({ length }) => student.log.slice(from, (from += length)).toSorted());
    assert.deepEqual(inPhases, student.phases, student.name);
    assert.equal(student.heard().length, from, student.name);
  }
}, { timeout: 300_000 });
