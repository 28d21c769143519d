// Waiting for conditions, never for time alone.

import assert from "node:assert/strict";

/** How long anything may take that should be immediate, in milliseconds. */
export const SOON = 15_000;

/** Resolves as `promise` does, or rejects naming `what` was waited for. */
export function within(promise, milliseconds, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`not within ${milliseconds} ms: ${describe(what)}`)),
      milliseconds,
    );
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/**
 * Resolves with the first truthy value of `condition`, which is asked again and again. A condition
 * that throws counts as false; its last error is part of the failure.
 */
export async function waitFor(condition, what, milliseconds = SOON) {
  const end = performance.now() + milliseconds;
  let lastError;
  for (;;) {
    try {
      const value = await condition();
      if (value) return value;
      lastError = undefined;
    } catch (error) {
      lastError = error;
    }
    if (performance.now() > end) {
      const because = lastError ? ` (${lastError.message})` : "";
      throw new Error(`not within ${milliseconds} ms: ${describe(what)}${because}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/**
 * Asserts that what is told once a second at most, of what began at `since`, was not heard earlier. One may be
 * heard late and the next in time, so it is not asked how far they are apart.
 */
export function assertOnceASecond(times, since) {
  const after = times.map((time) => Math.round(time - since));
  // The clock that decides is the host's.
  assert.ok(after.every((time, n) => time > n * 1_000 - 50), `heard after ${after} ms`);
}

function describe(what) {
  return typeof what === "function" ? what() : what;
}
