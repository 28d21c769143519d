// The plugin `quiz`: every line of its dialect, once right and once for each way to be wrong; the deadline
// when hosts die, and when answers and the end meet.

import assert from "node:assert/strict";
import { once } from "node:events";
import { join } from "node:path";
import { connect, settled, TRANSPORTS } from "./harness/clients.mjs";
import { assertOnceASecond, waitFor } from "./harness/deadline.mjs";
import { runExample } from "./harness/examples.mjs";
import { Redis } from "./harness/redis.mjs";
import { hostForFile, preparedHost, scenario, startHost } from "./harness/scenario.mjs";
import { SUITES } from "./harness/suites.mjs";

const host = hostForFile(SUITES.quiz);
const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
/** How long the end of a quiz of some seconds is waited for at most, on a machine that is busy. */
const LATE = 45_000;

let quizzes = 0;
let casts = 0;

/** Names of users that no other scenario has, whose quizzes they would come back to. */
function cast() {
  const number = (casts += 1);
  return (name) => `${name}-q${number}`;
}

const QUESTIONS = [
  { id: "one", kind: "single", text: "Which?", options: ["tea", "milk"], answer: "milk", points: 1 },
  { id: "some", kind: "multiple", text: "Which ones?", options: ["a", "b", "c"], answer: ["a", "c"], points: 2 },
  { id: "word", kind: "text", text: "Who?", answer: "Zola", points: 3 },
  { id: "count", kind: "number", text: "How many?", answer: 2.5, points: 4 },
];
const SHOWN = QUESTIONS.map(({ answer: _, ...shown }) => shown);

/** A quiz of its own for a scenario; `userIds` and whatever else is different. */
function quiz(more = {}) {
  const number = (quizzes += 1);
  return { quizId: `quiz-${number}`, courseId: `quiz-course-${number}`, title: "Week 1", durationSeconds: 600, questions: QUESTIONS, ...more };
}

const tell = (name, data, at = host) => at.tell(name, data, { plugin: "quiz" });
const educator = (at, name, courses, options) => connect(at, name, { role: "educator", claims: { taughtCourses: courses }, ...options });
const answer = (client, quizId, questionId, given) => client.must("quiz-answer", { quizId, questionId, answer: given });
const end = (client) => client.nextEvent("quiz-ended", () => true, LATE).then(({ args }) => args[0]);

for (const transport of TRANSPORTS) {
  const user = (name, options) => connect(host, name, { transport, ...options });
  const users = (...names) => Promise.all(names.map((name) => user(name)));

  scenario(`a backend starts a quiz, users answer and submit, and it ends (${transport})`, async () => {
    const named = cast();
    const userIds = [named("ann"), named("ben")];
    const q = quiz({ userIds, durationSeconds: 10 });
    const { quizId } = q;
    const [ann, phone, ben, eve] = await users(named("ann"), named("ann"), named("ben"), named("eve"));
    const answered = await tell("quiz-start", q);
    const { endsAt } = answered;
    assert.deepEqual(answered, { ok: true, quizId, endsAt });
    assert.match(endsAt, RFC3339);
    for (const client of [ann, phone, ben]) {
      assert.deepEqual(await client.next("quiz-started"), { quizId, title: "Week 1", endsAt, questions: SHOWN });
    }
    assert.deepEqual(await answer(ann, quizId, "one", "tea"), { ok: true, answered: 1, total: 4 });
    assert.deepEqual(await answer(phone, quizId, "one", "milk"), { ok: true, answered: 1, total: 4 });
    assert.deepEqual(await answer(ann, quizId, "some", ["c", "a"]), { ok: true, answered: 2, total: 4 });
    assert.deepEqual(await answer(ann, quizId, "word", " zola "), { ok: true, answered: 3, total: 4 });
    assert.deepEqual(await answer(ben, quizId, "count", 2.5), { ok: true, answered: 1, total: 4 });
    const submitted = { quizId, score: 6, maxScore: 10 };
    assert.deepEqual(await ann.must("quiz-submit", quizId), { ok: true, ...submitted });
    for (const client of [ann, phone]) assert.deepEqual(await client.next("quiz-submitted"), submitted);
    assert.deepEqual(await phone.must("quiz-submit", quizId), { ok: true, ...submitted });
    assert.deepEqual(await phone.next("quiz-submitted"), submitted);
    assert.equal(await ann.code("quiz-answer", { quizId, questionId: "one", answer: "tea" }), "QUIZ_CLOSED");
    for (const client of [ann, phone]) assert.deepEqual(await end(client), { quizId, score: 6 });
    assert.deepEqual(await end(ben), { quizId, score: 4 });
    assert.ok(Date.now() >= Date.parse(endsAt), "not before its time");
    for (const [event, argument] of [["quiz-answer", { quizId, questionId: "one", answer: "milk" }], ["quiz-submit", quizId], ["quiz-resume", quizId]]) {
      assert.equal(await ben.code(event, argument), "QUIZ_CLOSED", event);
    }
    assert.deepEqual(await ann.must("quiz-submit", quizId), { ok: true, ...submitted }, "the same after the end");
    await settled(ann, phone, ben, eve);
    for (const client of [ann, phone, ben, eve]) {
      for (const event of ["quiz-started", "quiz-resumed", "quiz-progress", "quiz-ended"]) assert.deepEqual(client.heard(event), [], event);
    }
    const results = await tell("quiz-results", { quizId });
    const { submittedAt } = results.results[0];
    assert.match(submittedAt, RFC3339);
    assert.deepEqual(results, {
      ok: true, quizId, courseId: q.courseId, title: "Week 1", endsAt, maxScore: 10, after: null,
      results: [
        { userId: userIds[0], started: true, answers: { one: "milk", some: ["c", "a"], word: " zola " }, submittedAt, score: 6 },
        { userId: userIds[1], started: true, answers: { count: 2.5 }, submittedAt: null, score: 4 },
      ],
    });
  });

  scenario(`an educator starts a quiz of a course they teach, and hears how it goes (${transport})`, async () => {
    const named = cast();
    const q = quiz({ userIds: [named("ann"), named("ben")] });
    const { quizId, courseId } = q;
    const [tom, sue, root, ann] = await Promise.all([
      educator(host, "tom", [courseId], { transport }),
      educator(host, "sue", ["another"], { transport }),
      user("root", { role: "admin" }),
      user(named("ann"), { claims: { taughtCourses: [courseId] } }),
    ]);
    for (const client of [sue, ann]) assert.equal(await client.code("quiz-start", q), "FORBIDDEN");
    const { endsAt } = await tom.must("quiz-start", q);
    assert.match(endsAt, RFC3339);
    assert.equal(await tom.code("quiz-start", q), "CONFLICT");
    assert.equal((await host.post("quiz-start", q, { body: { plugin: "quiz" } })).json.error.code, "CONFLICT");
    await ann.next("quiz-started");
    assert.deepEqual(await tom.next("quiz-progress"), { quizId, started: 1, answered: 0, submitted: 0 });
    await answer(ann, quizId, "one", "milk");
    await tom.next("quiz-progress", ({ answered }) => answered === 1);
    const ben = await user(named("ben"));
    assert.deepEqual(await ben.next("quiz-resumed"), { quizId, endsAt, questions: SHOWN, answers: {} });
    await ben.must("quiz-submit", quizId);
    const both = ({ started, submitted }) => started === 2 && submitted === 1;
    assert.deepEqual(await tom.next("quiz-progress", both), { quizId, started: 2, answered: 1, submitted: 1 });
    const other = quiz({ userIds: [named("ann")] });
    await root.must("quiz-start", other);
    assert.deepEqual(await root.next("quiz-progress"), { quizId: other.quizId, started: 1, answered: 0, submitted: 0 });
    await settled(sue, ann);
    for (const client of [sue, ann]) assert.deepEqual(client.heard("quiz-progress"), []);
  });

  scenario(`whom the backend lists teaches the course, until they are not listed (${transport})`, async () => {
    const named = cast();
    const q = quiz({ userIds: [named("ann")] });
    const { quizId, courseId } = q;
    const plain = { role: "educator" };
    const [ned, unlike, ann] = await Promise.all([user(named("ned"), plain), user(named("ned")), user(named("ann"))]);
    assert.equal(await ned.code("quiz-start", q), "FORBIDDEN");
    assert.deepEqual(await tell("course-staff", { courseId, educators: [named("ned")] }), { ok: true });
    const later = await user(named("ned"), plain);
    assert.equal(await unlike.code("quiz-start", q), "FORBIDDEN", "a student's role");
    await settled(ned, later, unlike);
    await ned.must("quiz-start", q);
    await ann.next("quiz-started");
    for (const client of [ned, later]) {
      assert.deepEqual(await client.next("quiz-progress"), { quizId, started: 1, answered: 0, submitted: 0 });
    }
    await tell("course-staff", { courseId, educators: [named("sue")] });
    assert.equal(await ned.code("quiz-start", quiz({ courseId, userIds: [named("ann")] })), "FORBIDDEN");
    await settled(later);
    const sue = await user(named("sue"), plain);
    await settled(sue);
    await ann.must("quiz-submit", quizId);
    await sue.next("quiz-progress", ({ submitted }) => submitted === 1);
    await settled(ned, later, unlike);
    for (const client of [ned, later, unlike]) assert.deepEqual(client.heard("quiz-progress"), []);
    for (const wrong of [{ courseId }, { courseId, educators: ["a:b"] }, { educators: [] }]) {
      const { json } = await host.post("course-staff", wrong, { body: { plugin: "quiz" } });
      assert.equal(json.error.code, "INVALID_PAYLOAD");
    }
  });

  scenario(`who comes back goes on with the remaining time and the answers given (${transport})`, async () => {
    const name = cast()("ann");
    const q = quiz({ userIds: [name] });
    const { quizId } = q;
    const ann = await user(name);
    const { endsAt } = await tell("quiz-start", q);
    await ann.next("quiz-started");
    await answer(ann, quizId, "some", ["b"]);
    ann.close();
    const again = await user(name);
    const resumed = { quizId, endsAt, questions: SHOWN, answers: { some: ["b"] } };
    assert.deepEqual(await again.next("quiz-resumed"), resumed);
    await answer(again, quizId, "count", 7);
    assert.deepEqual(await again.must("quiz-resume", quizId), { ok: true });
    assert.deepEqual(await again.next("quiz-resumed"), { ...resumed, answers: { some: ["b"], count: 7 } });
  });

  scenario(`what cannot be done is refused (${transport})`, async () => {
    const named = cast();
    const q = quiz({ userIds: [named("ann")] });
    const { quizId, courseId } = q;
    const [ann, eve, tom] = await Promise.all([user(named("ann")), user(named("eve")), educator(host, "tom", [courseId], { transport })]);
    for (const [member, wrong] of [
      ["quizId", "a:b"], ["courseId", 7], ["title", ""], ["durationSeconds", 0], ["userIds", []], ["questions", []],
    ]) {
      const error = await tom.error("quiz-start", { ...q, [member]: wrong });
      assert.equal(error.code, "INVALID_PAYLOAD", member);
      assert.ok(error.message.includes(`\`${member}\``), error.message);
      const { json } = await host.post("quiz-start", { ...q, [member]: wrong }, { body: { plugin: "quiz" } });
      assert.deepEqual(json.error, error);
    }
    await tell("quiz-start", q);
    await ann.next("quiz-started");
    const given = (more) => ({ quizId, questionId: "one", answer: "milk", ...more });
    for (const [event, argument] of [["quiz-answer", given()], ["quiz-submit", quizId], ["quiz-resume", quizId]]) {
      assert.equal(await eve.code(event, argument), "NOT_FOUND", event);
    }
    for (const [event, argument, code] of [
      ["quiz-answer", given({ quizId: "nowhere" }), "NOT_FOUND"],
      ["quiz-answer", given({ questionId: "nothing" }), "NOT_FOUND"],
      ["quiz-answer", given({ questionId: "o:ne" }), "INVALID_PAYLOAD"],
      ["quiz-answer", given({ answer: "coffee" }), "INVALID_PAYLOAD"],
      ["quiz-answer", given({ answer: Buffer.from("milk") }), "INVALID_PAYLOAD"],
      ["quiz-answer", given({ answer: undefined }), "INVALID_PAYLOAD"],
      ["quiz-answer", null, "INVALID_PAYLOAD"],
      ["quiz-submit", "nowhere", "NOT_FOUND"],
      ["quiz-submit", { quizId }, "INVALID_PAYLOAD"],
      ["quiz-resume", "nowhere", "NOT_FOUND"],
      ["quiz-resume", null, "INVALID_PAYLOAD"],
    ]) {
      const error = await ann.error(event, argument);
      assert.equal(error.code, code, `${event} ${JSON.stringify(argument)}: ${error.message}`);
    }
    ann.emit("quiz-submit", "nowhere");
    const error = await ann.next("error");
    assert.deepEqual(error, { code: "NOT_FOUND", message: "you have no quiz `nowhere`", event: "quiz-submit" });
    for (const [data, code] of [[{ quizId: "nowhere" }, "NOT_FOUND"], [{ quizId, limit: 0 }, "INVALID_PAYLOAD"], [{}, "INVALID_PAYLOAD"]]) {
      const { json } = await host.post("quiz-results", data, { body: { plugin: "quiz" } });
      assert.equal(json.error.code, code, JSON.stringify(data));
    }
  });
}

scenario("a connection that can be in no more rooms takes its quizzes, and starts none", async () => {
  const narrow = await startHost({ plugins: ["quiz"], roomsPerConnection: 2 });
  const [mine, other, late] = [quiz({ userIds: ["tom"] }), quiz({ userIds: ["ann"] }), quiz({ userIds: ["tom"] })];
  const before = await connect(narrow, "tom");
  await tell("quiz-start", mine, narrow);
  await before.next("quiz-started");
  await answer(before, mine.quizId, "one", "tea");
  before.close();
  const courses = [other.courseId, late.courseId, "yet-another"];
  const [tom, ann] = await Promise.all([educator(narrow, "tom", courses), connect(narrow, "ann")]);
  assert.equal((await tom.next("quiz-resumed")).quizId, mine.quizId);
  await tell("quiz-start", other, narrow);
  await ann.next("quiz-started");
  await tom.next("quiz-progress", ({ quizId }) => quizId === other.quizId);
  await answer(tom, mine.quizId, "one", "milk");
  assert.equal(await tom.code("quiz-start", { ...late, courseId: "yet-another" }), "RATE_LIMITED");
  await tell("quiz-start", late, narrow);
  await tom.next("quiz-started", ({ quizId }) => quizId === late.quizId);
  assert.equal(await tom.code("quiz-resume", late.quizId), "RATE_LIMITED");
});

scenario("the score is shown as the operator says, and settings that are none are refused", async () => {
  for (const [showScore, atSubmission, atEnd] of [["ended", {}, { score: 1 }], ["never", {}, {}]]) {
    const strict = await startHost({ plugins: ["quiz"], plugin: { quiz: { settings: { showScore } } } });
    const q = quiz({ userIds: ["ann"], durationSeconds: 5 });
    const { quizId } = q;
    const ann = await connect(strict, "ann");
    await tell("quiz-start", q, strict);
    await ann.next("quiz-started");
    await answer(ann, quizId, "one", "milk");
    assert.deepEqual(await ann.must("quiz-submit", quizId), { ok: true, quizId, ...atSubmission });
    assert.deepEqual(await end(ann), { quizId, ...atEnd });
    assert.equal((await tell("quiz-results", { quizId }, strict)).results[0].score, 1);
  }
  for (const [setting, value] of [["showScore", "sometimes"], ["keepDays", 0], ["keepDays", 3_651], ["keepDay", 3]]) {
    const wrong = preparedHost({ plugins: ["quiz"], plugin: { quiz: { settings: { [setting]: value } } } });
    await wrong.start().catch(() => {});
    assert.match(wrong.log(), new RegExp(setting));
  }
});

scenario("answers and a submission that meet: what was taken is what is scored", async () => {
  const name = cast()("ann");
  const q = quiz({ userIds: [name], questions: Array.from({ length: 40 }, (_, n) => ({ id: `n${n}`, kind: "number", text: "?", answer: n, points: 1 })) });
  const { quizId } = q;
  const [ann, phone] = await Promise.all([connect(host, name), connect(host, name)]);
  await tell("quiz-start", q);
  await Promise.all([ann, phone].map((client) => client.next("quiz-started")));
  const ask = ({ id, answer: right }, n) => (n % 2 ? ann : phone).ask("quiz-answer", { quizId, questionId: id, answer: right });
  const before = q.questions.slice(0, 20).map(ask);
  const first = phone.must("quiz-submit", quizId);
  const behind = q.questions.slice(20).map(ask);
  const submissions = [first, ann.must("quiz-submit", quizId)];
  const answers = [...before, ...behind];
  const taken = (await Promise.all(answers)).filter(({ ok, error }) => {
    assert.ok(ok || error.code === "QUIZ_CLOSED", error?.code);
    return ok;
  });
  const [one, other] = await Promise.all(submissions);
  assert.ok(taken.length >= 10 && taken.length <= 30, `${taken.length}: those of the phone are before or behind its submission`);
  assert.deepEqual(one, other);
  assert.deepEqual(one, { ok: true, quizId, score: taken.length, maxScore: 40 });
  const [{ answers: kept, score }] = (await tell("quiz-results", { quizId })).results;
  assert.deepEqual([Object.keys(kept).length, score], [taken.length, taken.length]);
});

scenario("answers that meet the end: what was taken is what is scored, and nothing is taken later", async () => {
  const name = cast()("ann");
  const questions = Array.from({ length: 16 }, (_, n) => ({ id: `n${n}`, kind: "number", text: "?", answer: n, points: 1 }));
  const q = quiz({ userIds: [name], durationSeconds: 4, questions });
  const { quizId } = q;
  const devices = await Promise.all([connect(host, name), connect(host, name)]);
  await tell("quiz-start", q);
  await Promise.all(devices.map((device) => device.next("quiz-started")));
  const taken = {};
  // Each question is answered again and again, right and wrong in turn, until it is refused.
  const hammer = async ({ id, answer: right }, n) => {
    for (let given = right; ; given = given === right ? -1 : right) {
      const { ok, error } = await devices[n % 2].ask("quiz-answer", { quizId, questionId: id, answer: given });
      if (!ok) return error.code;
      taken[id] = given;
    }
  };
  assert.deepEqual(new Set(await Promise.all(questions.map(hammer))), new Set(["QUIZ_CLOSED"]));
  const score = questions.filter(({ id, answer: right }) => taken[id] === right).length;
  for (const device of devices) assert.deepEqual(await end(device), { quizId, score });
  const [{ answers: kept, score: known }] = (await tell("quiz-results", { quizId })).results;
  assert.deepEqual([kept, known], [taken, score]);
});

scenario("the quiz goes on and ends when the host has died in between", async () => {
  const dying = await startHost({ plugins: ["quiz"] });
  const q = quiz({ userIds: ["ann", "ben"], durationSeconds: 20 });
  const { quizId } = q;
  const ann = await connect(dying, "ann");
  const { endsAt } = await tell("quiz-start", q, dying);
  await ann.next("quiz-started");
  await answer(ann, quizId, "one", "milk");
  // Who comes when the quiz is open hears of it at the latest when it is dealt to them.
  const early = await connect(dying, "ben");
  await waitFor(() => ["quiz-started", "quiz-resumed"].some((name) => early.heard(name).length > 0), "the quiz to be dealt");
  await dying.kill();
  await dying.start();
  const [again, ben] = await Promise.all([connect(dying, "ann"), connect(dying, "ben")]);
  assert.deepEqual(await again.next("quiz-resumed"), { quizId, endsAt, questions: SHOWN, answers: { one: "milk" } });
  await ben.next("quiz-resumed");
  await answer(ben, quizId, "word", "ZOLA");
  assert.deepEqual(await end(again), { quizId, score: 1 });
  assert.deepEqual(await end(ben), { quizId, score: 3 });
  assert.ok(Date.now() >= Date.parse(endsAt));
});

scenario("the quiz ends on the other hosts when the one that started it is dead", async () => {
  const redis = await Redis.start();
  const [first, second] = await Promise.all([0, 1].map(() => startHost({ plugins: ["quiz"], redisPort: redis.port })));
  const q = quiz({ userIds: ["ann", "ben"], durationSeconds: 15 });
  const { quizId, courseId } = q;
  const [tom, sue, ann, ben] = await Promise.all([
    educator(first, "tom", [courseId]), educator(second, "sue", [courseId]), connect(second, "ann"), connect(first, "ben"),
  ]);
  // They are known to each other before it counts.
  const { endsAt } = await tom.must("quiz-start", q);
  for (const client of [ann, ben]) {
    assert.deepEqual(await client.next("quiz-started"), { quizId, title: "Week 1", endsAt, questions: SHOWN });
  }
  await answer(ann, quizId, "one", "milk");
  await answer(ben, quizId, "count", 2.5);
  await sue.next("quiz-progress", ({ answered }) => answered === 2);
  await first.kill();
  const again = await connect(second, "ben");
  assert.deepEqual(await again.next("quiz-resumed"), { quizId, endsAt, questions: SHOWN, answers: { count: 2.5 } });
  assert.deepEqual(await end(ann), { quizId, score: 1 });
  assert.deepEqual(await end(again), { quizId, score: 4 });
  assert.equal(await again.code("quiz-answer", { quizId, questionId: "one", answer: "milk" }), "QUIZ_CLOSED");
});

scenario("hundreds answer at once, and educators hear of it once a second", async () => {
  const named = cast();
  const users = Array.from({ length: 200 }, (_, n) => named(`user-${n}`));
  const q = quiz({ userIds: users });
  const { quizId, courseId } = q;
  const tom = await educator(host, "tom", [courseId]);
  const times = [];
  tom.socket.on("quiz-progress", () => times.push(performance.now()));
  const clients = await Promise.all(users.map((user) => connect(host, user)));
  const since = performance.now();
  await tell("quiz-start", q);
  await Promise.all(clients.map((client) => client.next("quiz-started")));
  for (let from = 0; from < 200; from += 50) {
    const group = clients.slice(from, from + 50);
    await Promise.all(group.flatMap((client) => QUESTIONS.map(({ id, answer: right }) => answer(client, quizId, id, right))));
    const submitted = await Promise.all(group.map((client) => client.must("quiz-submit", quizId)));
    assert.ok(submitted.every(({ score }) => score === 10));
    const counted = { quizId, started: 200, answered: from + 50, submitted: from + 50 };
    const isLast = (progress) => Object.keys(counted).every((key) => progress[key] === counted[key]);
    await tom.nextEvent("quiz-progress", isLast, 30_000);
  }
  assert.ok(times.length >= 4);
  // The first is told a second after the start.
  assertOnceASecond(times, since + 1_000);
  const page = await tell("quiz-results", { quizId, limit: 150 });
  assert.deepEqual([page.results.length, page.after], [150, users.toSorted()[149]]);
  assert.equal((await tell("quiz-results", { quizId, after: page.after })).results.length, 50);
}, { timeout: 180_000 });

scenario("thousands who take a quiz are all told that it is over", async () => {
  const named = cast();
  const userIds = Array.from({ length: 5_000 }, (_, n) => named(`user-${n}`));
  const q = quiz({ userIds, durationSeconds: 10 });
  const { quizId } = q;
  const last = await connect(host, userIds.toSorted().at(-1));
  await tell("quiz-start", q);
  await last.nextEvent("quiz-started", () => true, 30_000);
  const closed = async () => {
    let [count, after] = [0, undefined];
    do {
      const page = await tell("quiz-results", { quizId, after });
      count += page.results.filter(({ score }) => score === 0).length;
      after = page.after;
    } while (after);
    return count === userIds.length;
  };
  assert.deepEqual((await last.nextEvent("quiz-ended", () => true, 90_000)).args[0], { quizId, score: 0 });
  await waitFor(closed, "5,000 scores", 90_000);
}, { timeout: 240_000 });

scenario("the example shows a quiz from its start to its end", async () => {
  const { stdout } = await runExample("quiz/quiz.mjs", host);
  for (const line of [
    /^tom → quiz-start \{"ok":true,/m,
    /^tom ← quiz-progress \{.*"started":2,/m,
    /^ann ← quiz-started \{.*"title":"Week 1"/m,
    /^ann → quiz-submit \{"ok":true,.*"score":2,"maxScore":3\}/m,
    /^ben ← quiz-resumed \{.*"answers":\{"even":\["4","2"\]\}/m,
    /^ann ← quiz-ended \{.*"score":2\}/m,
    /^ben ← quiz-ended \{.*"score":1\}/m,
    /^ben → quiz-answer \{.*"code":"QUIZ_CLOSED"/m,
  ]) assert.match(stdout, line);
});
