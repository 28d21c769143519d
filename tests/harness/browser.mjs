// Headless Chromium, by the machine's own browser.

import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { chromium } from "playwright-core";

/** Returns the browser named by SWITCHBOARD_CHROMIUM, or the first one on PATH. */
function executable() {
  if (process.env.SWITCHBOARD_CHROMIUM) return process.env.SWITCHBOARD_CHROMIUM;
  for (const name of ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]) {
    for (const folder of (process.env.PATH ?? "").split(delimiter)) {
      try {
        accessSync(join(folder, name), constants.X_OK);
        return join(folder, name);
      } catch {
        // Not there; the next one may be.
      }
    }
  }
  throw new Error("no Chromium on PATH; install one, or name it by SWITCHBOARD_CHROMIUM");
}

export function launch() {
  return chromium.launch({
    executablePath: executable(),
    // Root, as in containers, has no sandbox; the page is the host's own.
    args: [
      ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []),
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}
