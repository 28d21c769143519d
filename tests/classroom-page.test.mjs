// The classroom page in headless Chromium, opened as a file: an educator and a student.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before } from "node:test";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { launch } from "./harness/browser.mjs";
import { REPOSITORY } from "./harness/components.mjs";
import { API_KEY } from "./harness/configuration.mjs";
import { hostForFile, scenario } from "./harness/scenario.mjs";
import { mint } from "./harness/tokens.mjs";

const SCREENSHOTS = join(REPOSITORY, "target/screenshots");
const PAGE = pathToFileURL(join(REPOSITORY, "examples/classroom-page/index.html")).href;
const BACKEND = join(REPOSITORY, "examples/node-backend/announce.mjs");
const host = hostForFile({ plugins: ["classroom"], presenceGrace: "300ms" });
let browser;

before(async () => {
  browser = await launch();
  mkdirSync(SCREENSHOTS, { recursive: true });
});
after(() => browser?.close());

/** Does what the README says of the backend. */
const post = (name, data) =>
  promisify(execFile)(process.execPath, [BACKEND, "post", name, JSON.stringify(data)], {
    env: { PATH: process.env.PATH, SWITCHBOARD_URL: host.url, SWITCHBOARD_API_KEY: API_KEY },
  });

async function tab(context, token) {
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") problems.push(message.text());
  });
  await page.goto(PAGE);
  await page.fill("#host", host.url);
  await page.fill("#token", token);
  await page.click("#connect");
  return { page, problems };
}

async function enter({ page }, code) {
  await page.fill("#code", code);
  await page.locator("#join:not([disabled])").click();
  await page.locator("#message:not([disabled])").waitFor();
}

const say = async ({ page }, text) => {
  await page.fill("#message", text);
  await page.click("#send");
};
const sees = ({ page }, where, text) => page.locator(where, { hasText: text }).waitFor();

scenario("an educator and a student meet, talk, say how they are and part", async () => {
  await post("session-create", { sessionCode: "ABC123", educators: ["tom"], open: true });
  const context = await browser.newContext();
  const tom = await tab(context, mint({ userId: "tom", role: "educator" }));
  await enter(tom, "ABC123");
  await sees(tom, "#participants", "tom educator, active");
  await say(tom, "Hello class! <b>not bold</b>");
  const ann = await tab(context, mint({ userId: "ann" }));
  await enter(ann, "ABC123");
  await sees(ann, "#messages", "Hello class! <b>not bold</b>");
  assert.equal(await ann.page.locator("#messages b").count(), 0, "a message is text");
  await sees(tom, "#participants", "ann student, active");
  await say(ann, "Hello teacher!");
  await sees(tom, "#messages", "Hello teacher!");
  await ann.page.selectOption("#presence", "away");
  await sees(tom, "#participants", "ann student, away");
  for (const [name, { page, problems }] of Object.entries({ tom, ann })) {
    await page.screenshot({ path: join(SCREENSHOTS, `classroom-${name}.png`) });
    assert.equal(await page.textContent("#problem"), "", name);
    assert.deepEqual(problems, [], name);
  }
  await ann.page.close();
  await tom.page.locator("#participants", { hasText: "ann" }).waitFor({ state: "hidden" });
  await post("session-end", { sessionCode: "ABC123" });
  await sees(tom, "#problem", "the session has ended");
  assert.equal(await tom.page.locator("#participants li").count(), 0);
  await context.close();
});

scenario("what is refused is shown", async () => {
  const context = await browser.newContext();
  const ann = await tab(context, mint({ userId: "ann" }));
  await ann.page.fill("#code", "nowhere");
  await ann.page.locator("#join:not([disabled])").click();
  await sees(ann, "#problem", "NOT_FOUND");
  const eve = await tab(context, "garbage");
  await sees(eve, "#status", "AUTH_FAILED");
  await context.close();
});

scenario("the page finds back into the session after a host was away", async () => {
  await post("session-create", { sessionCode: "BACK", educators: ["tom"], open: true });
  const context = await browser.newContext({ viewport: { width: 390, height: 844 } });
  const ann = await tab(context, mint({ userId: "ann" }));
  await enter(ann, "BACK");
  await say(ann, "before");
  await sees(ann, "#messages", "before");
  const overflow = await ann.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  assert.ok(overflow <= 0, `${overflow} pixels wider than the screen`);
  host.address = new URL(host.url).host;
  await host.stop();
  await sees(ann, "#status", "disconnected");
  await host.start();
  await sees(ann, "#status", "connected");
  await ann.page.locator("#message:not([disabled])").waitFor();
  await say(ann, "after");
  await sees(ann, "#messages", "after");
  assert.equal(await ann.page.locator("#messages li").count(), 2);
  await context.close();
});
