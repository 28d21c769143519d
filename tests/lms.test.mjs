// The plugin `lms`: every line of its dialect, once right and once for each way to be wrong.

import assert from "node:assert/strict";
import { connect, settled, TRANSPORTS } from "./harness/clients.mjs";
import { runExample } from "./harness/examples.mjs";
import { redisEmitter } from "./harness/node.mjs";
import { Redis } from "./harness/redis.mjs";
import { hostForFile, scenario, startHost } from "./harness/scenario.mjs";
import { SUITES } from "./harness/suites.mjs";

const host = hostForFile(SUITES.lms);
const tell = (name, data) => host.tell(name, data, { plugin: "lms" });
const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

let courses = 0;

/** A course of its own for a scenario, with content that the backend has told of. */
async function course() {
  const id = `lms-${(courses += 1)}`;
  const content = { courseId: id, threads: [`${id}-thread`], lessons: [`${id}-lesson`], quizzes: [`${id}-quiz`] };
  await tell("course-content", content);
  return { id, thread: content.threads[0], lesson: content.lessons[0], quiz: content.quizzes[0] };
}

const student = (name, { id } = {}, options = {}) =>
  connect(host, name, { claims: id ? { enrolledCourses: [id] } : {}, ...options });

for (const transport of TRANSPORTS) {
  scenario(`who is enrolled joins the course and hears its announcements, a stranger does not (${transport})`, async () => {
    const c = await course();
    const [alice, stranger] = await Promise.all([student("alice", c, { transport }), student("stranger", undefined, { transport })]);
    assert.equal((await alice.must("join-course", c.id)).ok, true);
    const joined = await alice.next("joined-course");
    assert.equal(joined.courseId, c.id);
    assert.deepEqual(joined.onlineUsers, ["alice"]);
    assert.equal(await stranger.code("join-course", c.id), "FORBIDDEN");
    stranger.emit("join-course", c.id);
    const error = await stranger.next("error");
    assert.deepEqual([error.code, error.event], ["FORBIDDEN", "join-course"]);

    await tell("announcement", { courseId: c.id, title: "Exam", content: "on Monday" });
    const heard = await alice.next("announcement-published");
    assert.deepEqual([heard.courseId, heard.title, heard.content], [c.id, "Exam", "on Monday"]);
    assert.match(heard.publishedAt, RFC3339);
    assert.ok(heard.announcementId);

    await alice.must("leave-course", c.id);
    assert.deepEqual(await alice.next("left-course"), { courseId: c.id });
    await tell("announcement", { courseId: c.id, title: "Exam", content: "on Tuesday" });
    await settled(alice, stranger);
    assert.deepEqual([alice, stranger].map((client) => client.heard("announcement-published")), [[], []]);
  });

  scenario(`a conversation is for its two users, however it is named (${transport})`, async () => {
    const [alice, bob, eve] = await Promise.all(["alice", "bob", "eve"].map((name) => student(name, undefined, { transport })));
    await alice.must("join-conversation", "bob");
    const joined = await alice.next("joined-conversation");
    assert.deepEqual(joined, { conversationId: "alice:bob", with: "bob" });
    await bob.must("join-conversation", "alice:bob");
    assert.deepEqual(await bob.next("joined-conversation"), { conversationId: "alice:bob", with: "alice" });
    assert.equal(await eve.code("join-conversation", "alice:bob"), "FORBIDDEN");
    for (const crafted of ["alice:bob:eve", ":", "eve:", ":eve", "", "eve:alice:bob", "al ice", 7, null, { a: 1 }, ["alice"]]) {
      assert.equal(await eve.code("join-conversation", crafted), "INVALID_PAYLOAD", JSON.stringify(crafted));
    }

    await tell("message", { from: "alice", to: "bob", content: "psst", messageId: "m1" });
    for (const client of [alice, bob]) {
      const message = await client.next("message-received");
      assert.deepEqual(
        [message.messageId, message.conversationId, message.from, message.to, message.content],
        ["m1", "alice:bob", "alice", "bob", "psst"],
      );
      assert.match(message.timestamp, RFC3339);
    }
    await tell("conversation-updated", { conversationId: "alice:bob", topic: "tea" });
    for (const client of [alice, bob]) {
      assert.deepEqual(await client.next("conversation-updated"), { conversationId: "alice:bob", topic: "tea" });
    }
    await settled(alice, bob, eve);
    for (const client of [alice, bob]) assert.deepEqual(client.heard("message-received"), [], "once a socket");
    assert.deepEqual([eve.heard("message-received"), eve.heard("conversation-updated")], [[], []]);
    await alice.must("leave-conversation", "bob");
    assert.equal((await alice.next("left-conversation")).conversationId, "alice:bob");
    // Both users hear of messages wherever they are.
    await tell("message", { from: "bob", to: "alice", content: "still there?" });
    assert.equal((await alice.next("message-received")).content, "still there?");
  });

  scenario(`threads, lessons and quizzes belong to their course (${transport})`, async () => {
    const c = await course();
    const [alice, stranger] = await Promise.all([student("alice", c, { transport }), student("stranger", undefined, { transport })]);
    for (const [kind, id] of [["thread", c.thread], ["lesson", c.lesson], ["quiz", c.quiz]]) {
      await alice.must(`join-${kind}`, id);
      assert.deepEqual(await alice.next(`joined-${kind}`), { [`${kind}Id`]: id });
      assert.equal(await stranger.code(`join-${kind}`, id), "FORBIDDEN", kind);
      assert.equal(await alice.code(`join-${kind}`, `unknown-${kind}`), "NOT_FOUND", kind);
      for (const wrong of ["a:b", "", 7, null, {}, "x".repeat(129)]) {
        assert.equal(await alice.code(`join-${kind}`, wrong), "INVALID_PAYLOAD", `${kind} ${JSON.stringify(wrong)}`);
      }
      await alice.must(`leave-${kind}`, id);
      assert.deepEqual(await alice.next(`left-${kind}`), { [`${kind}Id`]: id });
    }
  });

  scenario(`the others hear who types where, until they stop or say no more (${transport})`, async () => {
    const c = await course();
    const [types, reads] = ["types", "reads"].map((name) => `${name}-${c.id}`);
    const [typist, reader, outside] = await Promise.all([types, reads, "outside"].map((name) => student(name, c, { transport })));
    for (const [client, other] of [[typist, reads], [reader, types]]) {
      await client.must("join-course", c.id);
      await client.must("join-thread", c.thread);
      await client.must("join-conversation", other);
    }
    for (const room of [`course:${c.id}`, `thread:${c.thread}`, `conversation:${reads}:${types}`]) {
      for (const stops of [true, false]) {
        await typist.must("start-typing", room);
        assert.deepEqual(await reader.next("user-typing"), { userId: types, room, isTyping: true });
        if (stops) await typist.must("stop-typing", room);
        assert.deepEqual(await reader.next("user-typing"), { userId: types, room, isTyping: false });
      }
      for (const event of ["start-typing", "stop-typing"]) {
        assert.equal(await outside.code(event, room), "NOT_IN_ROOM", `${event} ${room}`);
      }
    }
    for (const wrong of [`lesson:${c.lesson}`, `quiz:${c.quiz}:${types}`, "user:x", c.id, "", 7, null, {}]) {
      for (const event of ["start-typing", "stop-typing"]) {
        assert.equal(await typist.code(event, wrong), "INVALID_PAYLOAD", `${event} ${JSON.stringify(wrong)}`);
      }
    }
    await settled(typist, reader, outside);
    assert.deepEqual([typist, reader, outside].map((client) => client.heard("user-typing")), [[], [], []]);
  });

  scenario(`nobody enters another's quiz, by whatever name (${transport})`, async () => {
    const c = await course();
    const [alice, eve] = await Promise.all([student("alice", c, { transport }), student("eve", c, { transport })]);
    await alice.must("join-quiz", c.quiz);
    const attempts = [
      ["join-quiz", `${c.quiz}:alice`],
      ["join-quiz", c.quiz, "alice"],
      ["join-course", `quiz:${c.quiz}:alice`],
      ["join-conversation", `quiz:${c.quiz}:alice`],
      ["join-thread", `x:quiz:${c.quiz}:alice`],
      ["room:join", { roomId: `quiz:${c.quiz}:alice` }],
      ["probe:join", `quiz:${c.quiz}:alice`],
      ["probe:join", "conversation:alice:bob"],
      ["probe:emit", { to: [`room:quiz:${c.quiz}:alice`], name: "quiz-started", args: [] }],
    ];
    for (const [name, ...args] of attempts) await eve.ask(name, ...args);
    await tell("quiz-started", { userIds: ["alice"], quizId: c.quiz, title: "For Alice" });
    const heard = await alice.next("quiz-started");
    assert.equal(heard.quizId, c.quiz);
    await settled(eve, alice);
    assert.deepEqual(eve.heard("quiz-started"), []);
  });
}

scenario("what is no id is refused, and leaving where one is not is no failure", async () => {
  const client = await student("clumsy");
  const many = Array.from({ length: 101 }, (_, n) => `user-${n}`);
  const noIds = ["a:b", "", "a b", 7, null, {}, ["a"], "x".repeat(129)].map((wrong) => [wrong]);
  const leaves = ["leave-course", "leave-thread", "leave-lesson", "leave-quiz"];
  for (const [event, wrong] of [
    ...["join-course", ...leaves].map((name) => [name, [[], ...noIds]]),
    ["leave-conversation", [[], ["clumsy:"], [":clumsy"], ["clumsy"], ["clumsy:a:b"], [""], [7], [null]]],
    ["get-presence", [[], [null], ["ann"], [{}], [[7]], [["a:b"]], [many]]],
  ]) {
    for (const args of wrong) assert.equal(await client.code(event, ...args), "INVALID_PAYLOAD", `${event} ${JSON.stringify(args).slice(0, 60)}`);
  }
  assert.equal(await client.code("leave-conversation", "alice:bob"), "FORBIDDEN");
  for (const event of leaves) await client.must(event, "elsewhere");
  assert.deepEqual((await client.must("get-presence", [])).presence, []);
});

scenario("everybody is in the room of their role", async () => {
  const redis = await Redis.start();
  const own = await startHost({ plugins: ["lms"], redisPort: redis.port });
  const [teacher, pupil] = [await connect(own, "teacher", { role: "educator" }), await connect(own, "pupil")];
  await settled(teacher, pupil);
  const emitter = await redisEmitter(redis);
  for (const role of ["educator", "student"]) emitter.to(`role:${role}`).emit("hello", role);
  emitter.emit("told");
  for (const client of [teacher, pupil]) await client.next("told");
  assert.deepEqual([teacher.heard("hello"), pupil.heard("hello")], [["educator"], ["student"]]);
});

scenario("content belongs to one course", async () => {
  const [c, other] = [await course(), await course()];
  const { status, json } = await host.post("course-content", { courseId: other.id, threads: [c.thread] });
  assert.deepEqual([status, json.error.code], [409, "CONFLICT"]);
  assert.equal(await (await student("elsewhere", other)).code("join-thread", c.thread), "FORBIDDEN");
  await (await student("alice", c)).must("join-thread", c.thread);
});

scenario("educators enter what they teach, admins everything", async () => {
  const c = await course();
  const [teacher, foreign, named, admin] = await Promise.all([
    connect(host, "teacher", { role: "educator", claims: { taughtCourses: [c.id] } }),
    connect(host, "foreign", { role: "educator" }),
    connect(host, "named", { role: "educator" }),
    connect(host, "root", { role: "admin" }),
  ]);
  await tell("course-staff", { courseId: c.id, educators: ["named"] });
  for (const client of [named, admin]) {
    await client.must("join-course", c.id);
    await client.must("join-thread", c.thread);
  }
  assert.equal(await foreign.code("join-course", c.id), "FORBIDDEN");
  await tell("course-staff", { courseId: c.id, educators: ["named", "teacher"] });
  await teacher.must("join-course", c.id);
  // Who is not listed any more is out at once, and comes back where the token says so.
  await tell("course-staff", { courseId: c.id, educators: [] });
  await tell("announcement", { courseId: c.id, title: "t", content: "c" });
  await tell("thread-updated", { threadId: c.thread, locked: true });
  await admin.next("announcement-published");
  await admin.next("thread-updated");
  await settled(named, teacher);
  for (const client of [named, teacher]) {
    assert.deepEqual([client.heard("announcement-published"), client.heard("thread-updated")], [[], []], client.userId);
  }
  assert.equal(await named.code("join-course", c.id), "FORBIDDEN");
  await teacher.must("join-course", c.id);
  // A student who claims to teach is a student.
  const posing = await connect(host, "posing", { claims: { taughtCourses: [c.id] } });
  assert.equal(await posing.code("join-course", c.id), "FORBIDDEN");
});

scenario("an enrolment that the backend tells of wins over the token", async () => {
  const c = await course();
  const [alice, newcomer] = await Promise.all([student("dropping", c), student("newcomer")]);
  await alice.must("join-course", c.id);
  await alice.must("join-thread", c.thread);
  assert.equal(await newcomer.code("join-course", c.id), "FORBIDDEN");
  await tell("enrollment-updated", { userId: "newcomer", courseId: c.id, status: "active" });
  assert.deepEqual(await newcomer.next("enrollment-updated"), { courseId: c.id, status: "active" });
  await newcomer.must("join-course", c.id);

  await tell("enrollment-updated", { userId: "dropping", courseId: c.id, status: "dropped" });
  assert.deepEqual(await alice.next("enrollment-updated"), { courseId: c.id, status: "dropped" });
  await tell("announcement", { courseId: c.id, title: "t", content: "c" });
  await newcomer.next("announcement-published");
  await tell("thread-updated", { threadId: c.thread, locked: true });
  await settled(alice);
  assert.deepEqual([alice.heard("announcement-published"), alice.heard("thread-updated")], [[], []], "out at once");
  assert.equal(await alice.code("join-course", c.id), "FORBIDDEN", "though the token says otherwise");
});

scenario("discussions are heard in the thread and the course, once a socket", async () => {
  const c = await course();
  const [both, courseOnly, neither] = await Promise.all([student("both", c), student("course-only", c), student("neither", c)]);
  await both.must("join-course", c.id);
  await both.must("join-thread", c.thread);
  await courseOnly.must("join-course", c.id);
  await tell("discussion-post", { postId: "p1", threadId: c.thread, courseId: c.id, authorId: "x", title: "Why", content: "?" });
  for (const client of [both, courseOnly]) {
    const post = await client.next("discussion-post-created");
    assert.deepEqual(
      [post.postId, post.threadId, post.courseId, post.authorId, post.title, post.content],
      ["p1", c.thread, c.id, "x", "Why", "?"],
    );
    assert.match(post.timestamp, RFC3339);
  }
  await tell("thread-updated", { threadId: c.thread, locked: true });
  assert.deepEqual(await both.next("thread-updated"), { threadId: c.thread, locked: true });
  await tell("post-voted", { postId: "p1", threadId: c.thread, score: 3, userId: "y" });
  assert.deepEqual(await both.next("post-voted"), { postId: "p1", threadId: c.thread, score: 3, userId: "y" });
  await settled(both, courseOnly, neither);
  assert.deepEqual(both.heard("discussion-post-created"), []);
  assert.deepEqual(courseOnly.heard("thread-updated"), []);
  assert.deepEqual(neither.heard("discussion-post-created"), []);
});

scenario("what concerns one user reaches all their connections and nobody else's", async () => {
  const [alice, second, bob] = await Promise.all([student("alice"), student("alice"), student("bob")]);
  const lines = [
    ["notification-read", { notificationId: "n1", unreadCount: 2 }],
    ["unread-count", { count: 2 }],
    ["assignment-graded", { assignmentId: "a1", courseId: "c1", score: 9, maxScore: 10, feedback: "well done" }],
    ["lesson-completed", { courseId: "c1", lessonId: "l1" }],
    ["course-completed", { courseId: "c1" }],
    ["certificate-issued", { courseId: "c1", certificateId: "x1" }],
    ["progress-updated", { courseId: "c1", percent: 50 }],
  ];
  for (const [name, data] of lines) {
    await tell(name, { userId: "alice", ...data });
    for (const client of [alice, second]) assert.deepEqual(await client.next(name), data, name);
    await settled(bob);
    assert.deepEqual(bob.heard(name), [], name);
  }
  const notification = { type: "grade", title: "Graded", content: "9 of 10", priority: "high" };
  await tell("notification", { userIds: ["alice", "bob"], ...notification });
  const ids = new Set();
  for (const client of [alice, second, bob]) {
    const { notificationId, timestamp, ...rest } = await client.next("notification-received");
    assert.deepEqual(rest, notification);
    assert.match(timestamp, RFC3339);
    ids.add(notificationId);
  }
  assert.equal(ids.size, 1);
  await tell("notification", { userId: "bob", ...notification, notificationId: "given" });
  assert.equal((await bob.next("notification-received")).notificationId, "given");
});

scenario("a backend's presence is heard in the named courses", async () => {
  const c = await course();
  const [inside, outside] = await Promise.all([student("inside", c), student("outside")]);
  await inside.must("join-course", c.id);
  await tell("presence", { userId: "somebody", status: "away", courseIds: [c.id] });
  const heard = await inside.next("user-presence");
  assert.deepEqual([heard.userId, heard.status], ["somebody", "away"]);
  await settled(outside);
  assert.deepEqual(outside.heard("user-presence"), []);
});

scenario("server events that are wrong are answered so", async () => {
  const wrong = [
    ["notification", {}],
    ["notification", { userId: "a", type: "t", title: "t", content: "c", priority: "extreme" }],
    ["notification", { userId: "a:b", type: "t", title: "t", content: "c", priority: "low" }],
    ["unread-count", { userId: "a" }],
    ["message", { from: "a", to: "b" }],
    ["message", { from: "a", to: "b:c", content: "x" }],
    ["conversation-updated", { conversationId: "nonsense" }],
    ["discussion-post", { postId: "p" }],
    ["announcement", { courseId: "c1", title: 7, content: "c" }],
    ["announcement", { courseId: "a:b", title: "t", content: "c" }],
    ["enrollment-updated", { userId: "a", courseId: "c", status: "perhaps" }],
    ["course-content", { courseId: 7 }],
    ["course-staff", { courseId: "c" }],
    ["presence", { userId: "a", status: "asleep", courseIds: ["c"] }],
    ["notification-read", { userId: "a", notificationId: "n" }],
    ["thread-updated", {}],
    ["thread-updated", { threadId: "a:b" }],
    ["post-voted", { postId: "p", threadId: "t", score: "many", userId: "a" }],
    ["assignment-graded", { userId: "a", assignmentId: "a", courseId: "c", score: 9 }],
    ["lesson-completed", { userId: "a" }],
    ["course-completed", { courseId: "c" }],
    ["certificate-issued", { userId: "a", courseId: "a:b" }],
    ["progress-updated", { userId: "a", courseId: "c", percent: "half" }],
    ["quiz-started", { quizId: "q" }],
    ["quiz-started", { userIds: ["a:b"], quizId: "q" }],
  ];
  for (const [name, data] of wrong) {
    const { json } = await host.post(name, data, { body: { plugin: "lms" } });
    assert.equal(json?.error?.code, "INVALID_PAYLOAD", `${name} ${JSON.stringify(data)}: ${JSON.stringify(json)}`);
  }
});

scenario("the example shows a course", async () => {
  const { stdout } = await runExample("course/course.mjs", host);
  assert.deepEqual(stdout.trim().split("\n").sort(), [
    "ann hears: Exam: on Monday", "ann hears: ben is online", "ann hears: ben types", "ben comes again: FORBIDDEN",
    "ben hears: Exam: on Monday", "in the course: ann, ben",
  ]);
});
