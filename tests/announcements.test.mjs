// The plugin `announcements`: every line of its dialect, once right and once for each way to be wrong.

import assert from "node:assert/strict";
import { connect, settled, TRANSPORTS } from "./harness/clients.mjs";
import { assertOnceASecond, waitFor } from "./harness/deadline.mjs";
import { runExample } from "./harness/examples.mjs";
import { Redis } from "./harness/redis.mjs";
import { hostForFile, scenario, startHost } from "./harness/scenario.mjs";
import { SUITES } from "./harness/suites.mjs";
import { mint, SECRET } from "./harness/tokens.mjs";

const host = hostForFile(SUITES.announcements);
const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const UUID7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

const tell = (userId, courseId, status, at = host) =>
  at.tell("enrollment-updated", { userId, courseId, status }, { plugin: "announcements" });
const staff = (courseId, educators) => host.tell("course-staff", { courseId, educators }, { plugin: "announcements" });
const text = { title: "Exam", content: "on Monday" };
const ids = (client) => client.heard("announcement-published").map(({ announcementId }) => announcementId);

let courses = 0;
const newCourse = () => `board-${(courses += 1)}`;

for (const transport of TRANSPORTS) {
  // In the rooms where connecting puts one.
  const user = async (at, name, options) => {
    const client = await connect(at, name, { transport, ...options });
    await settled(client);
    return client;
  };
  const educator = (name, course, at = host) => user(at, name, { role: "educator", claims: { taughtCourses: [course] } });
  const student = (name, course, at = host) => user(at, name, { claims: { enrolledCourses: [course] } });
  const people = (course) => Promise.all([
    educator("theo", course), educator("tina", course), student("nina", course), user(host, "passer-by"),
  ]);

  scenario(`who belongs to a course hears its announcements, and the author of readers (${transport})`, async () => {
    const courseId = newCourse();
    const [theo, tina, nina, stranger] = await people(courseId);
    const answer = await theo.must("announce", { courseId, ...text, priority: "high" });
    assert.match(answer.announcementId, UUID7);
    assert.deepEqual(answer, { ok: true, announcementId: answer.announcementId, status: "published" });
    for (const client of [theo, tina, nina]) {
      const { publishedAt, ...heard } = await client.next("announcement-published");
      assert.deepEqual(heard, { announcementId: answer.announcementId, courseId, ...text, priority: "high" });
      assert.match(publishedAt, RFC3339);
    }
    for (const reader of [nina, nina, tina]) {
      assert.deepEqual(await reader.must("announcement-read", answer.announcementId), answer);
    }
    const stats = await theo.next("announcement-stats", ({ readers }) => readers === 2);
    assert.deepEqual(stats, { announcementId: answer.announcementId, readers: 2 });
    assert.equal(await stranger.code("announcement-read", answer.announcementId), "FORBIDDEN");
    assert.equal(await nina.code("announcement-read", "unknown"), "NOT_FOUND");
    await settled(tina, nina, stranger);
    assert.deepEqual([stranger.remaining, tina.remaining, nina.remaining], [[], [], []]);
  });

  scenario(`an audience is a part of the course (${transport})`, async () => {
    const courseId = newCourse();
    const [theo, tina, nina] = await people(courseId);
    for (const [audience, educators, students] of [["students", 0, 1], ["educators", 1, 0], ["all", 1, 1]]) {
      await theo.must("announce", { courseId, ...text, audience });
      await settled(tina, nina);
      assert.deepEqual([ids(tina).length, ids(nina).length], [educators, students], audience);
      for (const client of [tina, nina]) client.clear();
    }
  });

  scenario(`what may not be announced is refused with its code (${transport})`, async () => {
    const courseId = newCourse();
    const [theo, , nina] = await people(courseId);
    const refused = async (client, request, code) => {
      assert.equal(await client.code("announce", request), code, JSON.stringify(request));
    };
    await refused(theo, { courseId: newCourse(), ...text }, "FORBIDDEN");
    await refused(nina, { courseId, ...text }, "ROLE_NOT_ALLOWED");
    for (const wrong of [
      { courseId: "a:b" }, { title: "" }, { title: "x".repeat(201) }, { content: "x".repeat(10_001) }, { content: 7 },
      { priority: "extreme" }, { audience: "nobody" }, { publishAt: "tomorrow" }, { publishAt: "2999-01-01T00:00:00Z" },
    ]) {
      const error = await theo.error("announce", { courseId, ...text, ...wrong });
      assert.equal(error.code, "INVALID_PAYLOAD");
      assert.ok(error.message.includes(`\`${Object.keys(wrong)[0]}\``), error.message);
    }
    const wordy = await educator("wendy", "wordy");
    for (const said of [{ title: "SPAM!" }, { content: "no ｓｐａｍ here" }]) {
      const error = await wordy.error("announce", { courseId: "wordy", ...text, ...said });
      assert.deepEqual([error.code, error.details], ["WORD_NOT_ALLOWED", { word: "spam" }]);
    }
    await wordy.must("announce", { courseId: "wordy", title: "Spammers", content: "antispam" });
    const open = await student("olga", "open");
    await open.must("announce", { courseId: "open", ...text });
    await refused(await educator("theo", "open"), { courseId: "open", ...text }, "ROLE_NOT_ALLOWED");
    theo.emit("announce", { courseId: newCourse(), ...text });
    const error = await theo.next("error");
    assert.deepEqual([error.code, error.event], ["FORBIDDEN", "announce"]);
  });

  scenario(`quiet hours are waited for, but not by what is urgent (${transport})`, async () => {
    const [theo, , nina] = await people("quiet");
    const announce = (more) => theo.must("announce", { courseId: "quiet", ...text, ...more });
    assert.equal((await announce({})).status, "scheduled");
    const urgent = await announce({ priority: "urgent" });
    assert.equal(urgent.status, "published");
    await settled(nina);
    assert.deepEqual(ids(nina), [urgent.announcementId]);
  });

  scenario(`a time to come is waited for, and what waits can be cancelled (${transport})`, async () => {
    const courseId = newCourse();
    const [theo, tina, nina] = await people(courseId);
    const admin = await connect(host, "rector", { transport, role: "admin" });
    const at = Date.now() + 6_000;
    const [kept, mine, theirs] = await Promise.all([0, 0, 0].map(async () => {
      const answer = await theo.must("announce", { courseId, ...text, publishAt: new Date(at).toISOString() });
      assert.equal(answer.status, "scheduled");
      return answer.announcementId;
    }));
    for (const [by, id] of [[theo, mine], [admin, theirs]]) {
      for (const other of [tina, nina]) assert.equal(await other.code("announcement-cancel", id), "FORBIDDEN");
      assert.deepEqual(await by.must("announcement-cancel", id), { ok: true, announcementId: id, status: "cancelled" });
    }
    const { args: [heard] } = await nina.nextEvent("announcement-published", () => true, 30_000);
    assert.equal(heard.announcementId, kept);
    assert.ok(Date.parse(heard.publishedAt) >= at, `${heard.publishedAt} is early`);
    const late = await theo.error("announcement-cancel", kept);
    assert.deepEqual([late.code, late.details], ["CONFLICT", { status: "published" }]);
    assert.equal(await theo.code("announcement-cancel", "unknown"), "NOT_FOUND");
    await settled(nina);
    assert.deepEqual(ids(nina), []);
  });

  scenario(`another educator approves or rejects (${transport})`, async () => {
    const courseId = "approved";
    const [theo, tina, nina, stranger] = await people(courseId);
    const announce = async () => {
      const { announcementId, status } = await theo.must("announce", { courseId, ...text });
      assert.equal(status, "pending-approval");
      // One who has just connected may hear it twice.
      assert.deepEqual(await tina.next("announcement-pending", (heard) => heard.announcementId === announcementId), {
        announcementId, courseId, authorId: "theo", ...text, priority: "medium", audience: "all", publishAt: null,
      });
      return announcementId;
    };
    const id = await announce();
    const rejection = { announcementId: id, reason: "which Monday?" };
    for (const not of [theo, nina, stranger]) {
      assert.equal(await not.code("announcement-approve", id), "FORBIDDEN");
      assert.equal(await not.code("announcement-reject", rejection), "FORBIDDEN");
    }
    const approvals = await Promise.all([tina.ask("announcement-approve", id), tina.ask("announcement-approve", id)]);
    for (const approval of approvals) assert.deepEqual(approval, { ok: true, announcementId: id, status: "published" });
    assert.equal(await tina.code("announcement-reject", rejection), "CONFLICT");
    const other = await announce();
    assert.equal(await tina.code("announcement-reject", { announcementId: other, reason: "" }), "INVALID_PAYLOAD");
    assert.equal((await tina.must("announcement-reject", { ...rejection, announcementId: other })).status, "rejected");
    const rejected = await theo.next("announcement-rejected");
    assert.deepEqual(rejected, { announcementId: other, courseId, reason: "which Monday?" });
    assert.equal(await tina.code("announcement-approve", other), "CONFLICT");
    await settled(nina);
    assert.deepEqual(ids(nina), [id], "once");
    assert.deepEqual(nina.heard("announcement-pending"), []);
  });

  scenario(`an admin decides, too, and what is not there or no id is refused (${transport})`, async () => {
    const courseId = "approved";
    const theo = await educator("theo", courseId);
    const admin = await connect(host, "rector", { transport, role: "admin" });
    const announce = async () => (await theo.must("announce", { courseId, ...text })).announcementId;
    const [approved, withdrawn] = [await announce(), await announce()];
    for (const [client, event, id, status] of [
      [admin, "announcement-approve", approved, "published"],
      [theo, "announcement-cancel", withdrawn, "cancelled"],
    ]) assert.deepEqual(await client.must(event, id), { ok: true, announcementId: id, status });
    const late = await admin.error("announcement-approve", withdrawn);
    assert.deepEqual([late.code, late.details], ["CONFLICT", { status: "cancelled" }]);
    for (const event of ["announcement-approve", "announcement-cancel", "announcement-read"]) {
      for (const [id, code] of [["unknown", "NOT_FOUND"], ["a:b", "INVALID_PAYLOAD"], [{}, "INVALID_PAYLOAD"], [null, "INVALID_PAYLOAD"]]) {
        assert.equal(await admin.code(event, id), code, `${event} ${JSON.stringify(id)}`);
      }
    }
    for (const [announcementId, code] of [["unknown", "NOT_FOUND"], ["a:b", "INVALID_PAYLOAD"]]) {
      assert.equal(await admin.code("announcement-reject", { announcementId, reason: "no" }), code);
    }
    await settled(admin);
    assert.deepEqual(admin.remaining.map(({ name }) => name), [], "an admin is not of the course");
  });

  scenario(`a hundred announcements of a course may wait (${transport})`, async () => {
    const courseId = newCourse();
    const theo = await educator("theo", courseId);
    const publishAt = new Date(Date.now() + 7_200_000).toISOString();
    const ask = () => theo.ask("announce", { courseId, ...text, publishAt });
    const waiting = [];
    while (waiting.length < 100) waiting.push(...await Promise.all(Array.from({ length: 20 }, ask)));
    assert.deepEqual(new Set(waiting.map(({ status }) => status)), new Set(["scheduled"]));
    const { error } = await ask();
    assert.deepEqual([error.code, error.details], ["RATE_LIMITED", { retryAfterMs: 3_600_000 }]);
    await theo.must("announcement-cancel", waiting[0].announcementId);
    assert.equal((await ask()).status, "scheduled");
  });

  scenario(`who comes to teach is told of what waits for approval (${transport})`, async () => {
    const courseId = "waiting";
    const theo = await educator("theo", courseId);
    const announce = async () => (await theo.must("announce", { courseId, ...text })).announcementId;
    const [first, second, third] = [await announce(), await announce(), await announce()];
    await theo.must("announcement-cancel", second);
    const named = await connect(host, `waits-${transport}`, { transport, role: "educator" });
    const [tina, nina] = await Promise.all([educator("tina", courseId), student("nina", courseId)]);
    await tell(`waits-${transport}`, courseId, "active");
    for (const client of [tina, named]) {
      const heard = [await client.next("announcement-pending"), await client.next("announcement-pending")];
      assert.deepEqual(heard.map(({ announcementId }) => announcementId), [first, third]);
      assert.deepEqual(heard[0], {
        announcementId: first, courseId, authorId: "theo", ...text, priority: "medium", audience: "all", publishAt: null,
      });
    }
    for (const id of [first, third]) assert.equal((await tina.must("announcement-approve", id)).status, "published");
    await settled(nina);
    assert.deepEqual(nina.heard("announcement-pending"), []);
  });

  scenario(`whom the backend lists teaches the course, whatever the token says, until they are not listed (${transport})`, async () => {
    const courseId = "staffed";
    const names = [`plain-${transport}`, `learns-${transport}`];
    const [plain, learns, unlike] = await Promise.all([
      connect(host, names[0], { transport, role: "educator" }),
      connect(host, names[1], { transport, role: "educator", claims: { enrolledCourses: [courseId] } }),
      connect(host, names[0], { transport }),
    ]);
    for (const client of [plain, learns]) assert.equal(await client.code("announce", { courseId, ...text }), "FORBIDDEN");
    assert.deepEqual(await staff(courseId, names), { ok: true });
    await settled(plain, learns, unlike);
    const { announcementId, status } = await plain.must("announce", { courseId, ...text, audience: "educators" });
    assert.equal(status, "pending-approval");
    const later = await connect(host, names[1], { transport, role: "educator" });
    for (const client of [plain, learns, later]) {
      assert.equal((await client.next("announcement-pending")).announcementId, announcementId);
    }
    assert.equal((await learns.must("announcement-approve", announcementId)).status, "published");
    for (const client of [plain, learns, later]) await client.next("announcement-published");
    assert.equal(await unlike.code("announce", { courseId, ...text }), "ROLE_NOT_ALLOWED");

    await staff(courseId, [names[1]]);
    await settled(plain);
    plain.clear();
    assert.equal(await plain.code("announce", { courseId, ...text }), "FORBIDDEN");
    const other = await learns.must("announce", { courseId, ...text });
    assert.equal(await plain.code("announcement-approve", other.announcementId), "FORBIDDEN");
    await settled(plain, unlike);
    for (const client of [plain, unlike]) assert.deepEqual(client.heard("announcement-pending"), []);
    await staff(courseId, []);
    assert.equal(await learns.code("announce", { courseId, ...text }), "FORBIDDEN");
    assert.equal(await learns.code("announcement-read", announcementId), "FORBIDDEN", "a student again");
    await learns.must("announcement-cancel", other.announcementId);
    const many = Array.from({ length: 401 }, (_, n) => `many-${n}`);
    for (const wrong of [{ courseId }, { courseId, educators: ["a:b"] }, { courseId, educators: many }, { educators: [] }]) {
      const { json } = await host.post("course-staff", wrong, { body: { plugin: "announcements" } });
      assert.equal(json.error.code, "INVALID_PAYLOAD");
    }
  });

  scenario(`an enrolment that the backend tells of wins over the token (${transport})`, async () => {
    const courseId = newCourse();
    const [theo, tina, nina] = await people(courseId);
    const newcomer = await connect(host, `new-${courseId}`, { transport });
    await tell("nina", courseId, "dropped");
    await tell(`new-${courseId}`, courseId, "active");
    const { announcementId } = await theo.must("announce", { courseId, ...text });
    assert.equal((await newcomer.next("announcement-published")).announcementId, announcementId);
    const again = await student("nina", courseId);
    await theo.must("announce", { courseId, ...text });
    await settled(nina, again);
    assert.deepEqual([ids(nina), ids(again)], [[], []]);
    const named = await connect(host, `named-${courseId}`, { transport, role: "educator" });
    assert.equal(await named.code("announce", { courseId, ...text }), "FORBIDDEN");
    await tell(`named-${courseId}`, courseId, "active");
    await named.must("announce", { courseId, ...text, audience: "educators" });
    await named.next("announcement-published");
    await tell("tina", courseId, "dropped");
    assert.equal(await tina.code("announce", { courseId, ...text }), "FORBIDDEN");
    await settled(tina);
    tina.clear();
    await theo.must("announce", { courseId, ...text });
    await settled(tina);
    assert.deepEqual(ids(tina), []);
    const { json } = await host.post("enrollment-updated", { userId: "a", courseId, status: "perhaps" });
    assert.equal(json.error.code, "INVALID_PAYLOAD");
  });
}

const announceAtOnce = async (authors, courseId, more = {}) => {
  const asked = authors.flatMap((author) => [0, 1, 2].map(() => author.ask("announce", { courseId, ...text, ...more })));
  return Promise.all(asked);
};

for (const [where, redis] of [["one host", false], ["two hosts", true]]) {
  scenario(`never more than so many an hour, whoever announces at the same time, on ${where}`, async () => {
    let hosts = [host];
    if (redis) {
      const { port } = await Redis.start();
      const options = { ...SUITES.announcements, redisPort: port };
      hosts = await Promise.all([startHost(options), startHost(options)]);
    }
    const courseId = "limited";
    const authors = await Promise.all(Array.from({ length: 8 }, (_, n) =>
      connect(hosts[n % hosts.length], `author-${n}`, { role: "educator", claims: { taughtCourses: [courseId] } })));
    const listener = await connect(hosts[0], "listener", { claims: { enrolledCourses: [courseId] } });
    await settled(listener, ...authors);
    const soon = new Date(Date.now() + 1_000).toISOString();
    // Those that a timer publishes are counted, too.
    const { announcementId } = await authors[0].must("announce", { courseId, ...text, publishAt: soon });
    await listener.next("announcement-published", (heard) => heard.announcementId === announcementId);
    const answers = await announceAtOnce(authors, courseId);
    const published = answers.filter(({ status }) => status === "published");
    const refused = answers.filter(({ ok }) => !ok).map(({ error }) => error);
    assert.deepEqual([published.length, refused.length], [4, 20]);
    for (const { code, details } of refused) {
      assert.equal(code, "RATE_LIMITED");
      assert.ok(details.retryAfterMs > 3_500_000 && details.retryAfterMs <= 3_600_000, String(details.retryAfterMs));
    }
    await waitFor(() => ids(listener).length === 4, "what was published");
    await settled(listener);
    assert.deepEqual(ids(listener).sort(), published.map((answer) => answer.announcementId).sort());
  });
}

scenario("many read at the same time: each counts once, and the author hears of it once a second", async () => {
  const courseId = newCourse();
  const theo = await connect(host, "theo", { role: "educator", claims: { taughtCourses: [courseId] } });
  const readers = await Promise.all(Array.from({ length: 40 }, (_, n) =>
    connect(host, `reader-${n % 30}`, { claims: { enrolledCourses: [courseId] } })));
  const { announcementId } = await theo.must("announce", { courseId, ...text });
  const [times, since] = [[], performance.now()];
  theo.socket.on("announcement-stats", () => times.push(performance.now()));
  const some = readers.slice(0, 5);
  await Promise.all(some.map((reader) => reader.must("announcement-read", announcementId)));
  await theo.next("announcement-stats");
  await Promise.all(readers.map((reader) => reader.must("announcement-read", announcementId)));
  await theo.next("announcement-stats", (stats) => stats.readers === 30);
  assert.deepEqual(theo.heard("announcement-stats").filter((stats) => stats.readers > 30), []);
  assert.ok(times.length >= 2);
  assertOnceASecond(times, since);
});

scenario("rules hold from the next event after they change, without a restart or a reconnect", async () => {
  // Asking again and again takes place in the hour.
  const plugin = (settings) => ({ announcements: { settings: { perHour: 1_000, ...settings } } });
  const own = await startHost({ plugins: ["announcements"], plugin: plugin({}) });
  const rule = (settings) => own.configure({ secret: SECRET, plugin: plugin(settings) });
  const theo = await connect(own, "theo", { role: "educator", claims: { taughtCourses: ["c1"] } });
  const announce = (more = {}) => theo.ask("announce", { courseId: "c1", ...text, ...more });
  const at = new Date(Date.now() + 8_000).toISOString();
  const planned = await announce({ publishAt: at });
  assert.equal(planned.status, "scheduled");
  assert.equal((await announce()).status, "published");
  rule({ words: ["exam"] });
  await waitFor(async () => (await announce()).error?.code === "WORD_NOT_ALLOWED", "the word to be refused", 10_000);
  // What waits is looked at again when its time has come.
  const { args: [rejected] } = await theo.nextEvent("announcement-rejected", () => true, 30_000);
  assert.deepEqual(rejected, {
    announcementId: planned.announcementId, courseId: "c1", reason: "`title`: the word `exam` is not allowed",
  });
  rule({ words: ["exam"], courses: { c1: { words: [] } } });
  await waitFor(async () => (await announce()).status === "published", "the word to be allowed", 10_000);
  assert.deepEqual(theo.disconnections, []);

  for (const [settings, names] of [
    [{ quietHours: { from: "22:00", to: "07:00", timeZone: "Europe/Berln" } }, /settings\.quietHours\.timeZone.*Europe\/Berln/],
    [{ quietHours: { from: "24:00", to: "07:00", timeZone: "Europe/Berlin" } }, /settings\.quietHours\.from.*24:00/],
    [{ quietHours: true }, /settings\.quietHours/],
    [{ perHour: 0 }, /settings\.perHour/],
    [{ perhour: 3 }, /perhour/],
    [{ words: ["!"] }, /settings\.words\.0/],
    [{ courses: { c1: { roles: "educator" } } }, /settings\.courses\.c1\.roles/],
    [{ courses: { "c:1": {} } }, /c:1/],
    [{ courses: { c1: { courses: {} } } }, /settings\.courses\.c1.*courses/],
  ]) {
    const before = own.log().length;
    rule(settings);
    await waitFor(() => names.test(own.log().slice(before)), `${names} in the log`, 10_000);
    assert.equal((await announce()).status, "published", "the rules before go on");
  }
});

scenario("one word of the backend makes a teacher in announcements, lms and quiz", async () => {
  const own = await startHost({ plugins: ["announcements", "lms", "quiz"] });
  const tess = await connect(own, "tess", { role: "educator" });
  const question = { id: "q", kind: "number", text: "?", answer: 1, points: 1 };
  const taught = [
    ["announce", { courseId: "c1", ...text }],
    ["join-course", "c1"],
    ["quiz-start", { quizId: "w1", courseId: "c1", title: "w", durationSeconds: 60, userIds: ["ann"], questions: [question] }],
  ];
  for (const [event, argument] of taught) assert.equal(await tess.code(event, argument), "FORBIDDEN", event);
  await own.tell("course-staff", { courseId: "c1", educators: ["tess"] });
  for (const [event, argument] of taught) await tess.must(event, argument);
  await own.tell("course-staff", { courseId: "c1", educators: [] });
  for (const [event, argument] of taught) assert.equal(await tess.code(event, argument), "FORBIDDEN", event);
});

scenario("what waits for approval is approved by the rules of that moment", async () => {
  const rules = (more) => ({ announcements: { settings: { perHour: 1_000, approval: true, courses: { c2: { approval: false } }, ...more } } });
  const own = await startHost({ plugins: ["announcements"], plugin: rules({}) });
  const [theo, tina] = await Promise.all(["theo", "tina"].map((name) =>
    connect(own, name, { role: "educator", claims: { taughtCourses: ["c1", "c2"] } })));
  const { announcementId } = await theo.must("announce", { courseId: "c1", ...text });
  for (const [more, code] of [[{ words: ["exam"] }, "WORD_NOT_ALLOWED"], [{ roles: ["admin"] }, "ROLE_NOT_ALLOWED"]]) {
    own.configure({ secret: SECRET, plugin: rules(more) });
    await waitFor(async () => (await theo.ask("announce", { courseId: "c2", ...text })).error?.code === code, `${code}`, 10_000);
    assert.equal(await tina.code("announcement-approve", announcementId), code);
  }
});

scenario("the example announces", async () => {
  const run = (words, environment) => runExample("announcements/announce.cjs", host, {
    words,
    environment: { TOM_TOKEN: mint({ userId: "tom", role: "educator" }), ANN_TOKEN: mint({ userId: "ann" }), ...environment },
  });
  const { stdout, stderr } = await run(["Trip", "on Friday"], {});
  assert.deepEqual([...stdout.trim().split("\n").sort(), stderr], [
    "ann hears: Trip: on Friday", "tom hears: 1 has read it", "tom is answered: published", "",
  ]);
  await assert.rejects(run([], { TOM_TOKEN: mint({ userId: "tom" }) }), /ROLE_NOT_ALLOWED/);
  await assert.rejects(run([], { ANN_TOKEN: "garbage" }), /AUTH_FAILED/);
});
