// Built plugins, versions of them made by patching bytes, and files that are no plugins.

import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

export const REPOSITORY = resolve(fileURLToPath(import.meta.url), "../../..");
const FIRST_PARTY = process.env.SWITCHBOARD_PLUGINS ?? join(REPOSITORY, "target/plugins");
const FOR_TESTS = process.env.SWITCHBOARD_TEST_PLUGINS ?? join(REPOSITORY, "target/test-plugins");

/** The plugins that are made for these tests. */
const OF_TESTS = ["probe", "faulty", "ledger"];

/** Returns the bytes of a built plugin. */
export function component(name) {
  const folder = OF_TESTS.includes(name) ? FOR_TESTS : FIRST_PARTY;
  return readFileSync(join(folder, `${name}.wasm`));
}

const MARKER = "PROBE-CONFIGURATION";
const BLOCK_BYTES = 1024; // As in tests/plugins/probe/src/configuration.rs.

/**
 * Returns `probe` with another `version`, `name`, `manifest` members, or `trapInDescribe`, without
 * building it again.
 */
export function probe(configuration = {}) {
  const bytes = Buffer.from(component("probe"));
  const at = bytes.indexOf(`${MARKER}{`);
  if (at < 0) throw new Error("probe.wasm has no block to patch; was it built from tests/plugins/probe?");
  const text = MARKER + JSON.stringify({ name: "probe", version: "0", ...configuration });
  if (Buffer.byteLength(text) > BLOCK_BYTES) throw new Error("more than the block holds");
  bytes.write(text.padEnd(BLOCK_BYTES), at, BLOCK_BYTES, "utf8");
  return bytes;
}

/** Returns `bytes` with every occurrence of one text replaced by another of the same length. */
export function patched(bytes, from, to) {
  if (from.length !== to.length) throw new Error("a patch must keep the length");
  const copy = Buffer.from(bytes);
  let count = 0;
  for (let at = copy.indexOf(from); at >= 0; at = copy.indexOf(from, at + 1), count += 1) copy.write(to, at);
  if (count === 0) throw new Error(`nothing to patch: ${from}`);
  return copy;
}

/** Files that must be refused, each with what the reason has to mention. */
export function badFiles() {
  const whole = component("probe");
  return {
    "an empty file": { bytes: Buffer.alloc(0), reason: /empty/i },
    "a truncated file": { bytes: whole.subarray(0, whole.length >> 1), reason: /./ },
    "text": { bytes: Buffer.from("this is not wasm, whatever its name says"), reason: /./ },
    "a core module": { bytes: Buffer.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]), reason: /module|component/i },
    "a component of another world": {
      bytes: Buffer.from([0, 0x61, 0x73, 0x6d, 0x0d, 0, 1, 0]),
      reason: /guest|export/i,
    },
    "an import that was not granted": {
      bytes: patched(whole, "switchboard:plugin/kv@0.1.0", "switchboard:plugin/kx@0.1.0"),
      reason: /kx/,
    },
    "a trap in describe": { bytes: probe({ version: "trap", trapInDescribe: true }), reason: /./ },
    "a manifest with a misspelt member": {
      bytes: probe({ version: "misspelt", manifest: { subscribtions: {} } }),
      reason: /subscribtions/,
    },
  };
}

let copies = 0;

/** Puts a file in place by rename, so that no reader ever meets half of it. */
export function replace(file, bytes) {
  const next = `${file}.${process.pid}.${(copies += 1)}.tmp`;
  writeFileSync(next, bytes);
  renameSync(next, file);
}

/** Writes over a file as it lies there. */
export function overwrite(file, bytes) {
  writeFileSync(file, bytes);
}
