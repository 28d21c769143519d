// A backend that posts an event to Switchboard and prints what a plugin answered.
//
//   node announce.mjs announce "maintenance at noon"
//   node announce.mjs say lobby "hello from the backend"
//   node announce.mjs post room-stats '{"roomId":"lobby"}'
//
// SWITCHBOARD_URL      where the host is, http://127.0.0.1:3000 when unset
// SWITCHBOARD_API_KEY  the key that the host has as `[api] key`

const USAGE = `usage: node announce.mjs announce MESSAGE
       node announce.mjs say ROOM CONTENT
       node announce.mjs post EVENT [JSON]`;

/** Makes the body of the request from the command line; nothing when it is not understood. */
function eventOf([verb, ...rest]) {
  if (verb === "announce" && rest.length === 1) {
    return { plugin: "rooms", name: "system-announcement", data: { message: rest[0] } };
  }
  if (verb === "say" && rest.length === 2) {
    const [roomId, content] = rest;
    // Events with the same key are handled one after the other, in the order posted.
    const data = { roomId, userId: "backend", content, type: "system" };
    return { plugin: "rooms", name: "message-send", data, key: `room:${roomId}` };
  }
  if (verb === "post" && (rest.length === 1 || rest.length === 2)) {
    return { name: rest[0], data: JSON.parse(rest[1] ?? "{}") };
  }
  return undefined;
}

async function main() {
  const event = eventOf(process.argv.slice(2));
  const key = process.env.SWITCHBOARD_API_KEY;
  if (!event) throw new Error(USAGE);
  if (!key) throw new Error("set SWITCHBOARD_API_KEY to the key of the host's `[api] key`");

  const url = new URL("/api/v1/events", process.env.SWITCHBOARD_URL ?? "http://127.0.0.1:3000");
  const response = await fetch(url, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify(event),
    signal: AbortSignal.timeout(10_000),
  });
  const answer = await response.text();
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}: ${answer}`);
  console.log(answer);
}

main().catch((error) => {
  console.error(error.cause ? `${error.message}: ${error.cause.message}` : error.message);
  process.exitCode = 1;
});
