// State that outlives the host: what was acknowledged is there again, whatever ended it.

import assert from "node:assert/strict";
import { cpSync, openSync, closeSync, writeSync } from "node:fs";
import { connect } from "./harness/clients.mjs";
import { waitFor } from "./harness/deadline.mjs";
import { scenario, startHost } from "./harness/scenario.mjs";

const ROUNDS = 12;
const COUNTERS = 8;

scenario("kill -9 under load: every acknowledged write is there, and none twice", async () => {
  const host = await startHost({ plugins: ["probe"] });
  const counters = Array.from({ length: COUNTERS }, (_, n) => ({ partition: `counter-${n}`, sent: 0, acknowledged: 0 }));
  for (let round = 0; round < ROUNDS; round += 1) {
    const clients = await Promise.all(counters.map(({ partition }) => connect(host, partition)));
    for (const [n, counter] of counters.entries()) {
      const { value } = await clients[n].must("probe:read", counter.partition);
      assert.ok((value ?? 0) >= counter.acknowledged, `${value} of ${counter.acknowledged} acknowledged are there`);
      assert.ok((value ?? 0) <= counter.sent, `${value} of ${counter.sent} sent are there`);
      // What was under way may have been written without having been acknowledged.
      counter.sent = counter.acknowledged = value ?? 0;
    }
    let acknowledged = 0;
    for (const [n, counter] of counters.entries()) {
      const send = () => {
        counter.sent += 1;
        clients[n].socket.emit("probe:count", counter.partition, (answer) => {
          if (!answer?.ok) return;
          assert.ok(answer.value > counter.acknowledged, "no number is given twice");
          counter.acknowledged = answer.value;
          acknowledged += 1;
          send();
        });
      };
      for (let k = 0; k < 4; k += 1) send();
    }
    const enough = 50 + round * 37;
    await waitFor(() => acknowledged >= enough, `${enough} acknowledgements`, 20_000);
    await host.kill();
    for (const client of clients) client.close();
    await host.start();
  }
}, { timeout: 120_000 });

scenario("a directory belongs to one host; a second one says so and leaves", async () => {
  const first = await startHost({ plugins: ["probe"] });
  await assert.rejects(startHost({ plugins: ["probe"], stateDir: first.file("state") }), (error) => {
    assert.match(error.message, /in use by another process/);
    assert.match(error.message, /state\.dir/);
    return true;
  });
  const client = await connect(first, "ann");
  assert.equal((await client.must("probe:count", "still")).value, 1);
});

scenario("a damaged file is refused, and not touched", async () => {
  const host = await startHost({ plugins: ["probe"] });
  const client = await connect(host, "ann");
  await client.must("probe:count", "a");
  await host.stop();
  const file = host.file("state/state.redb");
  cpSync(file, host.file("whole.redb"));
  const opened = openSync(file, "r+");
  writeSync(opened, Buffer.alloc(512, 0x5a), 0, 512, 0);
  closeSync(opened);
  await assert.rejects(host.start(), /is damaged: .*nothing was changed/s);
  cpSync(host.file("whole.redb"), file);
  await host.start();
  assert.equal((await (await connect(host, "ben")).must("probe:read", "a")).value, 1);
});

scenario("state in memory is gone with the host, which says so", async () => {
  const host = await startHost({ plugins: ["probe"], state: "memory" });
  await (await connect(host, "ann")).must("probe:count", "a");
  assert.match(host.log(), /state is kept in memory/);
  await host.stop();
  await host.start();
  assert.equal((await (await connect(host, "ann")).must("probe:read", "a")).value, null);
});
