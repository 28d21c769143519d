// A plugin that misbehaves: its event gets an error, and nothing else does.

import assert from "node:assert/strict";
import { connect, settled, TRANSPORTS } from "./harness/clients.mjs";
import { waitFor } from "./harness/deadline.mjs";
import { hostForFile, scenario, startHost } from "./harness/scenario.mjs";

const MB = 1024 * 1024;
/** How long the answer to an event may take that uses up its time, of which it gets less on a busy machine. */
const LONG = 30_000;
const host = hostForFile({ plugins: ["faulty", "probe"], deadline: "1s", memoryMb: 64 });

/** Event → the code that its sender gets. */
const faults = {
  "faulty:loop": "PLUGIN_TIMEOUT",
  "faulty:panic": "PLUGIN_FAILED",
  "faulty:allocate": "PLUGIN_FAILED",
  "faulty:recurse": "PLUGIN_FAILED",
  "faulty:instructions": "PLUGIN_FAILED",
  "faulty:broken-answer": "PLUGIN_FAILED",
  "faulty:answer-no-array": "PLUGIN_FAILED",
  "faulty:broken-emission": "PLUGIN_FAILED",
  "faulty:huge-answer": "PLUGIN_FAILED",
  "faulty:huge-emission": "PLUGIN_FAILED",
  "faulty:placeholder-answer": "PLUGIN_FAILED",
  "faulty:placeholder-emission": "PLUGIN_FAILED",
  "faulty:attachment-too-many": "PLUGIN_FAILED",
  "faulty:attachment-not-received": "PLUGIN_FAILED",
  "faulty:reserved-name": "PLUGIN_FAILED",
  "faulty:host-name": "PLUGIN_FAILED",
  "faulty:foreign-emission": "PLUGIN_FAILED",
  "faulty:foreign-join": "PLUGIN_FAILED",
  "faulty:write-then-panic": "PLUGIN_FAILED",
  "faulty:bad-code": "PLUGIN_FAILED",
};

for (const transport of TRANSPORTS) {
  scenario(`each fault is answered with its code, and disturbs nobody (${transport})`, async () => {
    // One user alone, whose faults cannot put the plugin into quarantine.
    const poison = await connect(host, "poison", { transport, patience: LONG });
    const bystander = await connect(host, "bystander", { transport });
    for (const [name, code] of Object.entries(faults)) {
      const [error] = await Promise.all([poison.error(name), bystander.must("probe:echo", name)]);
      assert.equal(error.code, code, `${name}: ${error.message}`);
      assert.ok(!/wasm|trap|backtrace|0x|\.rs/i.test(error.message), `${name} tells the client of the inside: ${error.message}`);
      assert.deepEqual((await bystander.must("faulty:healthy", name)).healthy, name);
    }
    await settled(poison, bystander);
    assert.deepEqual([poison.heard("everyone-hears"), bystander.heard("everyone-hears")], [[], []]);
    assert.deepEqual([poison.disconnections, bystander.disconnections], [[], []]);
    assert.equal((await bystander.must("faulty:written")).value, null, "a trap commits nothing");
  });
}

scenario("without a callback a fault is the error event", async () => {
  const poison = await connect(host, "poison");
  poison.emit("faulty:panic");
  const error = await poison.next("error");
  assert.deepEqual([error.code, error.event], ["PLUGIN_FAILED", "faulty:panic"]);
});

scenario("100 MB replies and a million instructions are bounded where memory would allow them", async () => {
  const roomy = await startHost({ plugins: ["faulty", "probe"], deadline: "5s", memoryMb: 512 });
  const poison = await connect(roomy, "poison");
  for (const name of ["faulty:huge-answer", "faulty:huge-emission", "faulty:instructions"]) {
    assert.equal(await poison.code(name), "PLUGIN_FAILED", name);
  }
  await poison.must("probe:echo", 1);
});

scenario("the host's memory stays bounded", async () => {
  const bounded = await startHost({ plugins: ["faulty", "probe"], deadline: "1s", memoryMb: 64 });
  const poison = await connect(bounded, "poison");
  const hungry = ["faulty:allocate", "faulty:recurse", "faulty:huge-answer", "faulty:instructions", "faulty:panic"];
  const round = async () => {
    for (const name of hungry) await poison.error(name);
  };
  const atStart = bounded.memory().now;
  for (let n = 0; n < 3; n += 1) await round();
  const warm = bounded.memory().now;
  for (let n = 0; n < 10; n += 1) await round();
  const { now, highest } = bounded.memory();
  console.log(`memory: ${[atStart, warm, now, highest].map((bytes) => Math.round(bytes / MB)).join(" → ")} MiB (start, warm, end, highest)`);
  assert.ok(now - warm < 100 * MB, `grew by ${(now - warm) / MB} MiB in ten rounds`);
  assert.ok(highest < 1024 * MB, `once ${highest / MB} MiB`);
});

const percentile = (times, share) => times.toSorted((a, b) => a - b)[Math.floor(times.length * share)];

async function latencies(client, count) {
  const times = [];
  for (let n = 0; n < count; n += 1) {
    const start = performance.now();
    await client.must("probe:echo", n);
    times.push(performance.now() - start);
  }
  return times;
}

scenario("another plugin's events go on while one loops", async () => {
  const slow = await startHost({ plugins: ["faulty", "probe"], deadline: "2s" });
  const client = await connect(slow, "measured");
  await latencies(client, 200);
  const alone = await latencies(client, 500);
  const poison = await connect(slow, "poison", { patience: LONG });
  let looping = true;
  const loops = (async () => {
    while (looping) await poison.error("faulty:loop");
  })();
  const beside = await latencies(client, 500);
  looping = false;
  await loops;
  const [before, after] = [percentile(alone, 0.99), percentile(beside, 0.99)];
  console.log(`p99 alone ${before.toFixed(2)} ms, beside a loop ${after.toFixed(2)} ms, ratio ${(after / before).toFixed(2)}`);
  // How fast is the benchmarks' business; that nobody waits for the deadline is this test's.
  assert.ok(after < 200, `p99 ${after} ms beside a looping plugin`);
});

scenario("faults of one user alone do not take the plugin from the others", async () => {
  const own = await startHost({ plugins: ["faulty", "probe"] });
  const [poison, other] = await Promise.all([connect(own, "poison"), connect(own, "other")]);
  for (let n = 0; n < 60; n += 1) assert.equal(await poison.code("faulty:panic"), "PLUGIN_FAILED");
  await other.must("faulty:healthy", 1);
});

scenario("faults of several users put the plugin into quarantine, and only it", async () => {
  const own = await startHost({ plugins: ["faulty", "probe"] });
  const users = await Promise.all(Array.from({ length: 12 }, (_, n) => connect(own, `user-${n}`)));
  const quarantined = await waitFor(async () => {
    for (const user of users) {
      const code = await user.code("faulty:panic");
      if (code === "PLUGIN_QUARANTINED") return true;
      assert.equal(code, "PLUGIN_FAILED");
    }
    return false;
  }, "quarantine", 15_000);
  assert.ok(quarantined);
  assert.equal(await users[0].code("faulty:healthy", 1), "PLUGIN_QUARANTINED", "healthy events of it, too");
  await users[0].must("probe:echo", 1);
  assert.match((await own.request("/metrics")).text, /^switchboard_plugin_quarantined\{[^}]*"faulty"[^}]*\} 1$/m);
  assert.match(own.log(), /quarantine/i);
});

scenario("many that loop at once are faults, though they keep each other from running", async () => {
  const own = await startHost({ plugins: ["faulty", "probe"], deadline: "100ms" });
  const users = await Promise.all(Array.from({ length: 40 }, (_, n) => connect(own, `user-${n}`, { patience: LONG })));
  const codes = await Promise.all(users.map((user) => user.code("faulty:loop")));
  assert.deepEqual(codes.filter((code) => !["PLUGIN_TIMEOUT", "PLUGIN_QUARANTINED"].includes(code)), []);
  assert.equal(await users[0].code("faulty:healthy"), "PLUGIN_QUARANTINED");
  await users[0].must("probe:echo", 1);
});

scenario("state kept in a static is noticed where every event has an instance of its own", async () => {
  const fresh = await startHost({ plugins: ["faulty"], isolation: "event" });
  const client = await connect(fresh, "static");
  for (let n = 0; n < 5; n += 1) assert.equal((await client.must("faulty:static")).callsBefore, 0);
});

scenario("one plugin's state is unseen by another", async () => {
  const client = await connect(host, "private");
  await client.must("probe:count", "probe-only");
  assert.equal((await client.must("probe:read", "probe-only")).value, 1);
  assert.equal((await client.must("faulty:foreign-state", "probe-only")).value, null);
});

scenario("a flood of log lines is cut", async () => {
  const client = await connect(host, "chatty");
  await client.must("faulty:log-flood");
  await settled(client);
  const lines = host.log().split("\n").filter((line) => line.includes("flood line")).length;
  assert.ok(lines > 0 && lines <= 100, `${lines} lines`);
});
