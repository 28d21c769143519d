// One test: what it opened is closed after it, and when it fails the hosts' last lines are shown.

import { after, before, test } from "node:test";
import { closeClients } from "./clients.mjs";
import { closeFrames } from "./frames.mjs";
import { Host, runningHosts } from "./host.mjs";
import { closeNodeServers } from "./node.mjs";
import { closeRedis } from "./redis.mjs";
import { SHARED, SharedHosts, WantsItsOwn } from "./shared.mjs";

const DEADLINE = 60_000;
const ownedByScenario = new Set();

/** A test that fails after a minute at the latest. */
export function scenario(name, body, { timeout = DEADLINE, skip = false } = {}) {
  test(name, { timeout, skip }, async (context) => {
    try {
      await body(context);
    } catch (error) {
      if (error instanceof WantsItsOwn) {
        context.skip("it has hosts of its own");
        return;
      }
      for (const host of runningHosts()) console.error(host.tail());
      throw error;
    } finally {
      closeClients();
      closeFrames();
      for (const host of ownedByScenario) await host.dispose();
      ownedByScenario.clear();
      await closeNodeServers();
      await closeRedis();
    }
  });
}

/** The host of a whole file: started before its first test, ended after its last; or the shared ones. */
export function hostForFile(options) {
  const host = SHARED ? new SharedHosts() : new Host(options);
  before(() => host.start());
  after(() => host.dispose());
  return host;
}

/** A host of one scenario's own. */
export async function startHost(options) {
  return preparedHost(options).start();
}

/** A host of one scenario's own that has not been started. */
export function preparedHost(options) {
  if (SHARED) throw new WantsItsOwn();
  const host = new Host(options);
  ownedByScenario.add(host);
  return host;
}
