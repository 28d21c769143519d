// The page that `dev` serves, in headless Chromium: two tabs chat.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before } from "node:test";
import { launch } from "./harness/browser.mjs";
import { REPOSITORY } from "./harness/components.mjs";
import { scenario } from "./harness/scenario.mjs";
import { DevHost } from "./harness/workspace.mjs";

const SCREENSHOTS = join(REPOSITORY, "target/screenshots");
const dev = new DevHost();
let browser;

before(async () => {
  await dev.start();
  browser = await launch();
  mkdirSync(SCREENSHOTS, { recursive: true });
}, { timeout: 300_000 });
after(async () => {
  await browser?.close();
  await dev.dispose();
});

/** Opens a tab, and connects and joins as a person would. */
async function tab(context, name, room) {
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") problems.push(message.text());
  });
  await page.goto(dev.url);
  await page.fill("#name", name);
  await page.click("#connect");
  await page.locator("#join:not([disabled])").waitFor();
  await page.fill("#room", room);
  await page.click("#join");
  await page.locator("#composer:not([disabled])").waitFor();
  return { page, problems };
}

const say = async ({ page }, text) => {
  await page.fill("#composer", text);
  await page.click("#send");
};
const sees = ({ page }, where, text) => page.locator(where, { hasText: text }).waitFor();

scenario("two tabs chat, and show the raw events", async () => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  const alice = await tab(context, "Alice", "lobby");
  const bob = await tab(context, "Bob", "lobby");
  await sees(alice, "#members", "Bob");
  await say(alice, "hello, Bob");
  await sees(bob, "#messages", "hello, Bob");
  await say(bob, "hello, Alice <b>not bold</b>");
  await sees(alice, "#messages", "hello, Alice <b>not bold</b>");
  assert.equal(await alice.page.locator("#messages b").count(), 0, "a message is text");
  await sees(alice, "#events", "room:join");
  await sees(bob, "#events", "message");
  for (const [name, { page, problems }] of Object.entries({ alice, bob })) {
    await page.screenshot({ path: join(SCREENSHOTS, `chat-${name}.png`) });
    assert.deepEqual(problems, [], name);
  }

  await bob.page.close();
  await alice.page.locator("#members", { hasText: "Bob" }).waitFor({ state: "hidden" });
  await context.close();
}, { timeout: 60_000 });

scenario("on a small screen the page is usable", async () => {
  const context = await browser.newContext({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
  const alone = await tab(context, "Cem", "quiet");
  await say(alone, "anybody?");
  await sees(alone, "#messages", "anybody?");
  const overflow = await alone.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  assert.ok(overflow <= 0, `${overflow} pixels wider than the screen`);
  await alone.page.screenshot({ path: join(SCREENSHOTS, "chat-small.png") });
  await context.close();
});

scenario("a token that is refused is said to be", async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(dev.url);
  await page.fill("#name", "Eve");
  await page.locator("details summary").click();
  await page.fill("#token", "garbage");
  await page.click("#connect");
  await page.getByText(/AUTH_FAILED/).first().waitFor({ timeout: 10_000 });
  await context.close();
});
