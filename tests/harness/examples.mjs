// Runs the scripts in `examples/` as their readers do.

import { execFile } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { REPOSITORY } from "./components.mjs";
import { API_KEY } from "./configuration.mjs";
import { mint } from "./tokens.mjs";

/**
 * Runs a script of an example, such as `quiz/quiz.mjs`, against a host; resolves with what it printed, and
 * rejects when it fails. Tokens are given away as `dev` does.
 */
export async function runExample(script, host, { words = [], environment = {} } = {}) {
  const [folder, file] = script.split("/");
  const directory = mkdtempSync(join(tmpdir(), "switchboard-example-"));
  const tokens = createServer((request, response) => {
    const { searchParams } = new URL(request.url, "http://tokens");
    const role = searchParams.get("role") ?? "student";
    response.end(JSON.stringify({ token: mint({ userId: searchParams.get("user"), role }) }));
  }).listen(0, "127.0.0.1");
  try {
    await once(tokens, "listening");
    cpSync(join(REPOSITORY, "examples", folder), directory, { recursive: true });
    // What `npm install` does there.
    rmSync(join(directory, "node_modules"), { recursive: true, force: true });
    symlinkSync(join(REPOSITORY, "tests/node_modules"), join(directory, "node_modules"));
    return await promisify(execFile)(process.execPath, [join(directory, file), ...words], {
      env: {
        PATH: process.env.PATH,
        SWITCHBOARD_URL: host.url,
        SWITCHBOARD_API_KEY: API_KEY,
        SWITCHBOARD_TOKENS: `http://127.0.0.1:${tokens.address().port}`,
        ...environment,
      },
      timeout: 30_000,
    });
  } finally {
    tokens.close();
    rmSync(directory, { recursive: true, force: true });
  }
}
