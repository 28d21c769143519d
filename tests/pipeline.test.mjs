// What happens to one event: order, acknowledgement, limits, binary, transactions.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Client, connect, settled, TRANSPORTS } from "./harness/clients.mjs";
import { probe } from "./harness/components.mjs";
import { waitFor, within } from "./harness/deadline.mjs";
import { frames } from "./harness/frames.mjs";
import { hostForFile, scenario, startHost } from "./harness/scenario.mjs";
import { mint } from "./harness/tokens.mjs";

const host = hostForFile({ plugins: ["probe"] });
const MILLION = 1_000_000;

for (const transport of TRANSPORTS) {
  scenario(`1,000 events in a burst are handled in order, each acknowledged once (${transport})`, async () => {
    const client = await connect(host, "burst", { transport });
    const acknowledged = [];
    let acknowledgements = 0;
    const all = Promise.all(
      Array.from({ length: 1000 }, (_, n) => new Promise((resolve) => {
        client.socket.emit("probe:order", n, (answer) => {
          acknowledgements += 1;
          acknowledged.push(answer);
          resolve();
        });
      })),
    );
    await within(all, 20_000, () => `1,000 acknowledgements, have ${acknowledgements}`);
    await settled(client);
    const failures = acknowledged.filter((answer) => !answer.ok);
    assert.deepEqual(failures.slice(0, 3), []);
    assert.deepEqual(acknowledged.map(({ n, previous }) => [n, previous]), Array.from({ length: 1000 }, (_, n) => [n, n ? n - 1 : null]));
    assert.deepEqual(client.heard("probe:ordered").map(({ n }) => n), Array.from({ length: 1000 }, (_, n) => n));
    assert.equal(acknowledgements, 1000, "none twice");
  });

  scenario(`an event sent right with the connection is not lost (${transport})`, async () => {
    // A stock client sends what it buffered as soon as the connection is open.
    const client = new Client(host, { transport, token: mint({ userId: "hasty" }) });
    const answers = Promise.all([1, 2, 3].map((n) => client.askAll("probe:order", n)));
    await client.connect();
    assert.deepEqual((await answers).map(([answer]) => answer.previous), [null, 1, 2]);
  });

  scenario(`events that nobody subscribed to are answered (${transport})`, async () => {
    const client = await connect(host, "curious", { transport });
    const error = await client.error("no-such-event", 1);
    assert.equal(error.code, "UNKNOWN_EVENT");
    client.emit("no-such-event-either", 1);
    const told = await client.next("error");
    assert.equal(told.code, "UNKNOWN_EVENT");
    assert.equal(told.event, "no-such-event-either");
    assert.equal(typeof told.message, "string");
  });

  scenario(`a plugin's failure is the answer, or the error event (${transport})`, async () => {
    const client = await connect(host, "unlucky", { transport });
    assert.deepEqual(await client.error("probe:fail", "FORBIDDEN", { why: [1] }), {
      code: "FORBIDDEN",
      message: "as asked",
      details: { why: [1] },
    });
    assert.deepEqual(await client.error("probe:fail", "NOT_FOUND"), { code: "NOT_FOUND", message: "as asked" });
    client.emit("probe:fail", "CONFLICT", 7);
    assert.deepEqual(await client.next("error"), {
      code: "CONFLICT",
      message: "as asked",
      event: "probe:fail",
      details: 7,
    });
  });

  scenario(`where no plugin answers the host does (${transport})`, async () => {
    const client = await connect(host, "quiet", { transport });
    assert.deepEqual(await client.askAll("probe:silent"), [{ ok: true }]);
  });

  scenario(`arguments arrive as they were sent (${transport})`, async () => {
    const client = await connect(host, "exact", { transport });
    const args = ["ünïcödé \u0000 \" \\ \u2028 😀", 1.5, -0, 1e300, true, null, [], {}, { "": [{ a: null }] }, Number.MAX_SAFE_INTEGER];
    assert.deepEqual((await client.must("probe:echo", ...args)).args, JSON.parse(JSON.stringify(args)));
    assert.deepEqual((await client.must("probe:echo")).args, []);
  });

  scenario(`binary goes both ways (${transport})`, async () => {
    const [sender, receiver] = await Promise.all([
      connect(host, "sender", { transport }),
      connect(host, "receiver", { transport }),
    ]);
    await receiver.must("probe:join", "probe:binary");
    const [one, two] = [randomBytes(70_000), randomBytes(1)];

    const echoed = await sender.askAll("probe:echo-binary", one, { deep: [two, "text"] }, Buffer.alloc(0));
    assert.deepEqual(echoed, [one, { deep: [two, "text"] }, Buffer.alloc(0)]);

    assert.equal((await sender.must("probe:relay", "probe:binary", { one }, [two])).attachments, 2);
    const { args } = await receiver.nextEvent("probe:relayed");
    assert.deepEqual(args, [{ one }, [two]]);

    const passedOn = { to: ["room:probe:binary"], name: "probe:passed-on", args: ["x"], attachments: 1 };
    await sender.must("probe:emit", passedOn, one);
    assert.deepEqual((await receiver.nextEvent("probe:passed-on")).args, ["x", one]);
    await settled(sender, receiver);
    assert.deepEqual([sender.disconnections, receiver.disconnections], [[], []]);
  });

  scenario(`a crafted placeholder disconnects nobody (${transport})`, async () => {
    const [bystander, other] = await Promise.all([connect(host, "bystander"), connect(host, "other", { transport: "polling" })]);
    for (const client of [bystander, other]) await client.must("probe:join", "probe:crafted");
    const crafted = {
      "a number without an attachment": ['42$["probe:relay","probe:crafted",{"_placeholder":true,"num":0}]'],
      "a number past the attachments": ['451-$["probe:relay","probe:crafted",{"_placeholder":true,"num":5}]', randomBytes(3)],
      "a number that is negative": ['451-$["probe:relay","probe:crafted",{"_placeholder":true,"num":-1}]', randomBytes(3)],
      "a number that is text": ['451-$["probe:relay","probe:crafted",{"_placeholder":true,"num":"0"}]', randomBytes(3)],
      "no number": ['451-$["probe:relay","probe:crafted",{"_placeholder":true}]', randomBytes(3)],
      "an attachment twice": [
        '451-$["probe:relay","probe:crafted",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]',
        randomBytes(3),
      ],
      "an attachment that nothing names": ['451-$["probe:relay","probe:crafted",1]', randomBytes(3)],
      "one right, one wrong": [
        '451-$["probe:relay","probe:crafted",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]',
        randomBytes(3),
      ],
      "in the answer": ['42$["probe:echo-binary",{"_placeholder":true,"num":3}]'],
    };
    const sender = await frames(host, transport).authenticate(mint({ userId: "crafter" }));
    let id = 10;
    for (const [kind, [packet, ...attachments]] of Object.entries(crafted)) {
      id += 1;
      await sender.send(packet.replace("$", String(id)), ...attachments);
      const answer = await sender.text(`43${id}`);
      const [{ ok, error }] = JSON.parse(answer.slice(`43${id}`.length));
      assert.equal(ok, false, kind);
      assert.equal(error.code, "INVALID_PAYLOAD", kind);
    }
    // The sender, too, goes on.
    await sender.send('4277["probe:relay","probe:crafted","done"]');
    await sender.text("4377");
    for (const client of [bystander, other]) {
      assert.equal(await client.next("probe:relayed"), "done");
      await settled(client);
      assert.deepEqual(client.heard("probe:relayed"), []);
      assert.deepEqual(client.disconnections, []);
    }
    assert.equal(sender.closed, false);
  });

  scenario(`a message just under 1 MB is handled, one over it is not (${transport})`, async () => {
    const client = await connect(host, "large", { transport });
    const fits = "x".repeat(MILLION - 1000);
    assert.equal((await client.must("probe:echo", fits)).args[0].length, fits.length);
    const bytes = randomBytes(MILLION - 1000);
    const [echoed] = await client.askAll("probe:echo-binary", bytes);
    assert.ok(bytes.equals(echoed), "binary, too, whose base64 is larger");

    // Some text beside attachments does not count; more of it does.
    const whole = randomBytes(MILLION);
    assert.ok(whole.equals((await client.askAll("probe:echo-binary", whole, "x".repeat(30_000)))[0]));
    const both = [randomBytes(MILLION / 2), "x".repeat(MILLION / 2 + 40_000)];
    assert.equal(await client.code("probe:echo-binary", ...both), "INVALID_PAYLOAD");

    for (const over of ["x".repeat(MILLION + 1000), randomBytes(MILLION + 1000)]) {
      const sender = await connect(host, "too-large", { transport });
      const outcome = await within(
        Promise.race([
          new Promise((resolve) => sender.socket.emit("probe:echo-binary", over, resolve)),
          sender.closed(10_000).then((reason) => ({ closed: reason })),
        ]),
        10_000,
        "an answer or the end",
      );
      assert.ok(outcome.closed || outcome.ok === false, `${JSON.stringify(outcome).slice(0, 100)}`);
    }
    await client.must("probe:echo", "still here");
  });
}

scenario("too many events are refused with the time to wait, and the connection stays", async () => {
  const strict = await startHost({ plugins: ["probe"], eventsPerSecond: 20, burst: 30 });
  const client = await connect(strict, "eager");
  const answers = await Promise.all(Array.from({ length: 100 }, (_, n) => client.ask("probe:order", n)));
  const refused = answers.filter((answer) => !answer.ok);
  assert.ok(refused.length >= 50, `only ${refused.length} were refused`);
  assert.ok(answers.length - refused.length >= 30, "the burst is granted");
  for (const { error } of refused) {
    assert.equal(error.code, "RATE_LIMITED");
    assert.ok(Number.isInteger(error.details.retryAfterMs) && error.details.retryAfterMs > 0, JSON.stringify(error));
  }
  // Those that were handled were handled in order.
  const handled = answers.filter((answer) => answer.ok);
  for (let at = 1; at < handled.length; at += 1) assert.equal(handled[at].previous, handled[at - 1].n);
  await waitFor(async () => (await client.ask("probe:echo", 1)).ok, "a new allowance");
  // Others are not affected.
  await (await connect(strict, "patient")).must("probe:echo", 1);
  assert.deepEqual(client.disconnections, []);
});

scenario("the rate limit counts a user's connections together", async () => {
  const strict = await startHost({ plugins: ["probe"], userEventsPerSecond: 5, userBurst: 20 });
  const clients = await Promise.all(Array.from({ length: 4 }, () => connect(strict, "many")));
  const answers = await Promise.all(clients.flatMap((client) => Array.from({ length: 20 }, () => client.ask("probe:echo", 1))));
  const handled = answers.filter((answer) => answer.ok).length;
  assert.ok(handled < 80, `all ${handled} events of one user passed a burst of 20`);
});

scenario("a mailbox that is full answers RATE_LIMITED, and what was accepted stays in order", async () => {
  const narrow = await startHost({ plugins: ["probe"], mailbox: 16, deadline: "5s" });
  const client = await connect(narrow, "flood");
  const answers = await Promise.all([
    client.ask("probe:busy", 100_000_000),
    ...Array.from({ length: 60 }, (_, n) => client.ask("probe:order", n)),
  ]);
  const [, ...orders] = answers;
  const refused = orders.filter((answer) => !answer.ok);
  assert.ok(refused.length > 0, "nothing was refused");
  for (const { error } of refused) assert.equal(error.code, "RATE_LIMITED");
  const handled = orders.filter((answer) => answer.ok);
  for (let at = 1; at < handled.length; at += 1) assert.equal(handled[at].previous, handled[at - 1].n);
});

scenario("naive counting from 100 connections 10,000 times ends at exactly 10,000, none refused", async () => {
  const clients = await Promise.all(
    Array.from({ length: 100 }, (_, n) => connect(host, `counter-${n}`, { transport: TRANSPORTS[n % 2] })),
  );
  const answers = await Promise.all(
    clients.map((client) => Promise.all(
      Array.from({ length: 100 }, () => new Promise((resolve) => client.socket.emit("probe:count", "naive", resolve))),
    )),
  );
  const refused = answers.flat().filter((answer) => !answer.ok);
  assert.deepEqual(refused.slice(0, 3), []);
  const values = answers.flat().map((answer) => answer.value).sort((a, b) => a - b);
  assert.deepEqual(values, Array.from({ length: 10_000 }, (_, n) => n + 1), "each number was given once");
  assert.equal((await clients[0].must("probe:read", "naive")).value, 10_000);
}, { timeout: 120_000 });

scenario("what a failed handler wrote is not kept", async () => {
  const client = await connect(host, "regret");
  await client.must("probe:count", "regret");
  assert.equal(await client.code("probe:count-then-fail", "regret"), "CONFLICT");
  assert.equal((await client.must("probe:read", "regret")).value, 1);
});

scenario("blind additions add up", async () => {
  const clients = await Promise.all(Array.from({ length: 20 }, (_, n) => connect(host, `adder-${n}`)));
  await Promise.all(clients.flatMap((client) => Array.from({ length: 50 }, () => client.must("probe:add", "sum", 3))));
  assert.equal((await clients[0].must("probe:read", "sum")).value, 3000);
});

scenario("a handler lists its own writes", async () => {
  const client = await connect(host, "lister");
  await client.must("probe:page", "pages", "b2", "two");
  await client.must("probe:page", "pages", "c1", "not of this letter");
  assert.deepEqual((await client.must("probe:page", "pages", "b1", "one")).page, [["b1", "one"], ["b2", "two"]]);
});

scenario("several plugins take one event: order decides the answer, a failure stops nobody", async () => {
  const both = await startHost({
    plugins: {
      probe: probe({ name: "probe", version: "1" }),
      second: probe({ name: "second", version: "1" }),
    },
    order: ["second", "probe"],
  });
  const client = await connect(both, "sharing");
  const shared = (plan) => client.ask("shared", { user: "sharing", ...plan });
  const heard = async () => {
    await settled(client);
    const names = client.heard("probe:heard").map(({ by }) => by);
    client.clear();
    return names;
  };

  assert.equal((await shared({ probe: "answer", second: "answer" })).by, "second");
  assert.deepEqual(await heard(), ["second", "probe"]);
  assert.equal((await shared({ probe: "answer" })).by, "probe");
  assert.deepEqual(await heard(), ["second", "probe"]);
  assert.equal((await shared({ probe: "answer", second: "fail" })).by, "probe", "a failure answers only when nobody does");
  assert.deepEqual(await heard(), ["probe"]);
  assert.equal((await shared({ probe: "fail", second: "answer" })).by, "second");
  assert.deepEqual(await heard(), ["second"]);
  assert.equal((await shared({ probe: "fail" })).error.code, "FORBIDDEN");
  assert.deepEqual(await heard(), ["second"]);
  const failure = async (plan) => (await shared(plan)).error;
  for (const misread of ["second", "probe"]) {
    const refused = await failure({ second: "fail", probe: "fail", [misread]: "misread" });
    assert.equal(refused.code, "FORBIDDEN", "who could read it knows better than who could not");
  }
  assert.match((await failure({ second: "misread", probe: "misread" })).message, /^second /);
  client.clear();
  assert.deepEqual(await shared({}), { ok: true });
});

scenario("a plugin mounted on a namespace hears only that", async () => {
  const mounted = await startHost({
    plugins: { probe: probe(), second: probe({ name: "second" }) },
    plugin: { second: { namespace: "/school" } },
  });
  const [root, school] = await Promise.all([
    connect(mounted, "pupil"),
    connect(mounted, "pupil", { namespace: "/school" }),
  ]);
  assert.equal((await root.must("probe:echo", 1)).by, "probe");
  assert.equal((await school.must("probe:echo", 1)).by, "second");
  assert.equal((await school.must("probe:whoami")).namespace, "/school");
  await school.must("probe:emit", { to: ["everyone"], name: "probe:news", args: [1] });
  await school.next("probe:news");
  await settled(root);
  assert.deepEqual(root.heard("probe:news"), [], "everyone is everyone in the namespace");
  await new Client(mounted, { token: mint(), namespace: "/nowhere" }).refusal();
});
