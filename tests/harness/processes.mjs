// Processes that stop for a while without knowing it.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { waitFor } from "./deadline.mjs";

/** Stops a process; resolves when none of its threads runs any more, which takes the kernel a while. */
export async function freeze(process) {
  process.kill("SIGSTOP");
  const tasks = `/proc/${process.pid}/task`;
  // Elsewhere than on Linux nothing tells.
  if (!existsSync(tasks)) return;
  const state = (task) => readFileSync(`${tasks}/${task}/stat`, "utf8").replace(/^.*\) /s, "")[0];
  await waitFor(() => readdirSync(tasks).every((task) => state(task) === "T"), `process ${process.pid} to stop`);
}

/** Has a frozen process go on. */
export function thaw(process) {
  process.kill("SIGCONT");
}
