// The first-party plugins on the same hosts: their suites all at the same time, each as if it were alone.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { TRANSPORTS } from "./harness/clients.mjs";
import { Redis } from "./harness/redis.mjs";
import { scenario, startHost } from "./harness/scenario.mjs";
import { SUITES, TOGETHER } from "./harness/suites.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));

/** How long all suites may take at once, in milliseconds. */
const ALL = 480_000;

/** Runs the suite of a plugin against hosts on a transport; resolves with what it said, and whether it passed. */
async function run(name, hosts, transport, signal) {
  const urls = hosts.map(({ url }) => url).join(" ");
  // Node's own variable would make it one of this process's tests.
  const { NODE_TEST_CONTEXT: _, ...environment } = process.env;
  const suite = spawn(process.execPath, ["--test", "--test-reporter=spec", `${name}.test.mjs`], {
    cwd: here, env: { ...environment, SWITCHBOARD_TEST_HOSTS: urls, SWITCHBOARD_TEST_TRANSPORT: transport }, signal,
  });
  let said = "";
  for (const stream of [suite.stdout, suite.stderr]) stream.on("data", (chunk) => { said += chunk; });
  const [code] = await once(suite, "close");
  const [, passed] = said.match(/^ℹ pass (\d+)$/m) ?? [];
  return { name, said, passed: Number(passed), ok: code === 0 };
}

async function all(hosts, transport, context) {
  const results = await Promise.all(Object.keys(SUITES).map((name) => run(name, hosts, transport, context.signal)));
  for (const { name, passed } of results) context.diagnostic(`${name}: ${passed} tests`);
  const failed = results.filter(({ ok, passed }) => !ok || !(passed > 0));
  if (failed.length > 0) throw new Error(failed.map(({ name, said }) => `--- ${name}\n${said}`).join("\n"));
}

for (const transport of TRANSPORTS) {
  scenario(`all suites at once on one host, which keeps its state on disk (${transport})`, async (context) => {
    await all([await startHost(TOGETHER)], transport, context);
  }, { timeout: ALL });

  scenario(`all suites at once on three hosts on Redis (${transport})`, async (context) => {
    // No test of the disk, to which six suites would write at once.
    const redis = await Redis.start(["--appendfsync", "no"]);
    const hosts = await Promise.all([1, 2, 3].map(() => startHost({ ...TOGETHER, redisPort: redis.port })));
    await all(hosts, transport, context);
  }, { timeout: ALL });
}
