// A chat over the stock Socket.IO client and the plugin `rooms`, which shows every event as it goes by.
// Everything that comes from others is put on the page as text, never as HTML.
"use strict";

const ACK_TIMEOUT_MS = 10_000;
const EVENTS_KEPT = 300;
const MESSAGES_KEPT = 500;

const page = Object.fromEntries(
  [
    "status", "connection", "name", "connect", "role", "token", "room-form", "room", "join", "leave",
    "members", "member-count", "chat-title", "messages", "problem", "compose", "composer", "send",
    "events", "pause", "clear", "raw", "raw-name", "raw-args", "raw-send",
  ].map((id) => [id, document.getElementById(id)]),
);

let socket = null;
let me = null; // { userId, name }
let joined = null; // { id, title, members: Map of userId to name, unseen: how many others were there before }
let tokenIsOwn = false; // whether the user pasted the token

// ---- names

/** Returns a name that a tab keeps over reloads. */
function friendlyName() {
  const pick = (words) => words[Math.floor(Math.random() * words.length)];
  let name = sessionStorage.getItem("name");
  if (!name) {
    const first = pick(["Amber", "Brisk", "Calm", "Daring", "Eager", "Fuzzy", "Gentle", "Happy", "Jolly", "Kind", "Lucky", "Merry", "Nimble", "Quick", "Sunny", "Witty"]);
    const last = pick(["Badger", "Crane", "Dolphin", "Falcon", "Gecko", "Hare", "Ibis", "Koala", "Lynx", "Marmot", "Otter", "Panda", "Robin", "Seal", "Toucan", "Wombat"]);
    name = `${first} ${last} ${Math.floor(Math.random() * 90) + 10}`;
    sessionStorage.setItem("name", name);
  }
  return name;
}

/** Makes a user id of a name: ids are 1 to 128 characters of letters, digits and `_ - . @ ~`. */
function userIdOf(name) {
  const plain = name.normalize("NFKD").toLowerCase().replace(/[^a-z0-9_.@~-]+/g, "-").replace(/^-+|-+$/g, "");
  return plain.slice(0, 128) || "someone";
}

// ---- connection

function showStatus(state, text) {
  page.status.dataset.state = state;
  page.status.textContent = text;
  page.status.title = text;
  const connected = state === "connected";
  page.connect.textContent = socket ? "Disconnect" : "Connect";
  for (const id of ["name", "role"]) page[id].disabled = socket !== null;
  for (const id of ["join", "raw-name", "raw-args", "raw-send"]) page[id].disabled = !connected;
  allowWriting();
}

function allowWriting() {
  for (const id of ["composer", "send"]) page[id].disabled = !socket?.connected || !joined;
}

/** Returns a token: the one that the user pasted, or a fresh one of the host's development mode. */
async function token() {
  if (tokenIsOwn) return page.token.value.trim();
  const query = new URLSearchParams({ user: me.userId, role: page.role.value, name: me.name });
  const answer = await fetch(`dev/token?${query}`);
  if (!answer.ok) throw new Error(`GET /dev/token answered ${answer.status}; it exists under \`switchboard dev\` only`);
  const body = await answer.json();
  me.userId = body.userId ?? me.userId;
  page.token.value = body.token;
  return body.token;
}

function connect() {
  const name = page.name.value.trim();
  if (!name) return;
  sessionStorage.setItem("name", name);
  me = { userId: userIdOf(name), name };
  showProblem(null);

  const opened = io({
    forceNew: true,
    autoConnect: false,
    // Asked before every attempt, so that a reconnect never comes with a token that has expired.
    auth: (give) => {
      token().then((value) => give({ token: value }), (error) => {
        // The host went away again: closing the transport makes the client try once more.
        if (error instanceof TypeError) opened.io.engine.close();
        else refuse(opened, error.message);
      });
    },
  });
  socket = opened;
  showStatus("connecting", "connecting …");

  opened.on("connect", () => {
    log("host", "connected", `over ${opened.io.engine.transport.name}`);
    showStatus("connected", `connected as ${me.name}`);
    // A new connection is in no room: go back to where one was.
    if (joined) enter(joined.id);
  });
  opened.on("connect_error", (error) => {
    log("failed", "connect_error", error.message);
    if (opened.active) showStatus("reconnecting", `host out of reach, trying again … (${error.message})`);
    else refuse(opened, error.message);
  });
  opened.on("disconnect", (reason) => {
    log("host", "disconnected", reason);
    if (opened !== socket) return;
    if (opened.active) showStatus("reconnecting", `reconnecting … (${reason})`);
    else refuse(opened, `the host closed the connection (${reason})`);
  });
  opened.io.on("reconnect_attempt", (attempt) => {
    if (opened === socket) showStatus("reconnecting", `reconnecting … (attempt ${attempt})`);
  });
  opened.onAny((name, ...args) => {
    const answer = args.at(-1);
    if (typeof answer !== "function") return log("in", name, ...args);
    log("in", name, ...args.slice(0, -1));
    answer({ ok: true });
    log("out", `${name} (acknowledged)`, { ok: true });
  });
  listen(opened);
  opened.connect();
}

/** Gives up on a connection, showing the code or sentence of the refusal. */
function refuse(which, reason) {
  if (which !== socket) return;
  socket = null;
  which.disconnect();
  forgetRoom();
  showStatus("refused", `refused: ${reason}`);
}

function disconnect() {
  const closing = socket;
  socket = null;
  forgetRoom();
  closing.disconnect();
  showStatus("idle", "not connected");
}

/**
 * Sends an event, and hands its acknowledgement to `answered`: at once, and not by a promise, since the
 * next event of the host may be in the same packet.
 */
function call(name, args, answered = () => {}) {
  const start = performance.now();
  const finish = (answer) => {
    log(answer?.ok === false ? "failed" : "ack", name, { took: performance.now() - start }, answer);
    answered(answer);
  };
  const failed = (error) => finish({ ok: false, error: { code: "NO_ANSWER", message: error.message } });
  log("out", name, ...args);
  try {
    socket.timeout(ACK_TIMEOUT_MS).emit(name, ...args, (error, answer) => (error ? failed(error) : finish(answer)));
  } catch (error) {
    failed(error); // a name that Socket.IO keeps for itself
  }
}

// ---- rooms and messages

function listen(on) {
  const here = (event) => joined && event?.roomId === joined.id;
  on.on("session", (session) => {
    me.userId = session?.userId ?? me.userId;
  });
  on.on("user:joined", (event) => {
    if (!here(event) || joined.members.has(event.userId)) return;
    joined.members.set(event.userId, event.username ?? event.userId);
    showMembers();
    showNote(`${event.username ?? event.userId} joined`);
  });
  on.on("user:left", (event) => {
    if (!here(event)) return;
    // One who was there before us, and whom we never heard of.
    if (!joined.members.delete(event.userId)) joined.unseen = Math.max(0, joined.unseen - 1);
    showMembers();
    showNote(`${event.username ?? event.userId} left`);
  });
  on.on("message", (event) => {
    if (!here(event)) return;
    meet(event.userId, event.username);
    showMessage(event);
  });
  on.on("system:announcement", (event) => showNote(text(event?.message), "announcement"));
  on.on("error", (error) => showProblem(error));
}

/** Takes note of somebody who was in the room before us, and has now been heard of. */
function meet(userId, username) {
  if (joined.members.has(userId)) return;
  joined.members.set(userId, username ?? userId);
  joined.unseen = Math.max(0, joined.unseen - 1);
  showMembers();
}

function enter(roomId) {
  const before = joined;
  if (before && before.id !== roomId) return leave(() => enter(roomId));
  const using = socket;
  call("room:join", [{ roomId }], (answer) => {
    if (using !== socket) return;
    if (answer?.ok !== true) {
      forgetRoom();
      return showProblem(answer?.error);
    }
    const room = answer.room ?? {};
    joined = { id: roomId, title: text(room.name ?? roomId), members: new Map([[me.userId, me.name]]), unseen: 0 };
    joined.unseen = Math.max(0, (room.memberCount ?? 1) - 1);
    page["chat-title"].textContent = joined.title;
    page.leave.hidden = false;
    allowWriting();
    showProblem(null);
    showMembers();
    showNote(before ? "you are back" : `you joined ${joined.title}`);
    if (!before) page.composer.focus();
  });
}

function leave(then = () => {}) {
  call("room:leave", [{ roomId: joined.id }], (answer) => {
    if (answer?.ok === false) return showProblem(answer.error);
    if (joined) showNote("you left");
    forgetRoom();
    then();
  });
}

function forgetRoom() {
  joined = null;
  page.leave.hidden = true;
  page["chat-title"].textContent = "No room yet";
  allowWriting();
  showMembers();
}

function say(content) {
  call("message", [{ roomId: joined.id, content }], (answer) => {
    if (answer?.ok === true) return showProblem(null);
    // Nothing that somebody wrote is lost because it was refused.
    if (!page.composer.value) page.composer.value = content;
    showProblem(answer?.error);
  });
}

// ---- what is seen

function element(kind, className, content) {
  const made = document.createElement(kind);
  if (className) made.className = className;
  if (content !== undefined) made.textContent = content;
  return made;
}

function text(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

function clock(when) {
  const date = when ? new Date(when) : new Date();
  return Number.isNaN(date.getTime()) ? "" : date.toLocaleTimeString();
}

function face(userId, name) {
  const made = element("span", "face", Array.from(text(name ?? userId ?? "?"))[0].toUpperCase());
  let hue = 0;
  for (const character of String(userId)) hue = (hue * 31 + character.codePointAt(0)) % 360;
  made.style.setProperty("--hue", hue);
  made.setAttribute("aria-hidden", "true");
  return made;
}

/** Appends to a list, follows its end unless the reader has scrolled away, and forgets the oldest. */
function append(list, item, kept) {
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
  list.append(item);
  while (list.childElementCount > kept) list.firstElementChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function showMembers() {
  page.members.replaceChildren();
  page["member-count"].textContent = joined ? String(joined.members.size + joined.unseen) : "";
  if (!joined) return;
  for (const [userId, name] of joined.members) {
    const item = element("li");
    item.dataset.user = userId;
    item.append(face(userId, name), element("span", "", userId === me.userId ? `${name} (you)` : text(name)));
    page.members.append(item);
  }
  if (joined.unseen > 0) page.members.append(element("li", "others", `and ${joined.unseen} here before you`));
}

function showMessage(event) {
  const own = event.userId === me.userId;
  const item = element("li", own ? "own" : "");
  item.dataset.user = event.userId;
  const who = element("span", "who");
  who.append(element("span", "", text(event.username ?? event.userId)), element("time", "", clock(event.timestamp)));
  const bubble = element("div", "bubble");
  bubble.append(who, element("div", "text", text(event.content)));
  item.append(face(event.userId, event.username), bubble);
  append(page.messages, item, MESSAGES_KEPT);
}

function showNote(content, className = "note") {
  append(page.messages, element("li", className, content), MESSAGES_KEPT);
}

/** Shows an error of the dialects, `{ code, message }`, or clears it. */
function showProblem(error) {
  page.problem.hidden = !error;
  page.problem.textContent = error ? `${error.code ?? "ERROR"}: ${text(error.message ?? error)}` : "";
}

const DIRECTIONS = { out: "out", in: "in", ack: "ack", failed: "ack", host: "link" };

/** Adds a line to the list of raw events; `{ took }` first means an acknowledgement's time. */
function log(kind, name, ...args) {
  if (page.pause.checked) return;
  const item = element("li", kind);
  item.dataset.event = name;
  const head = element("div", "head");
  const direction = kind === "failed" && name === "connect_error" ? "link" : DIRECTIONS[kind];
  head.append(element("span", "direction", direction), element("span", "event", name));
  if ((kind === "ack" || kind === "failed") && typeof args[0]?.took === "number") {
    head.append(element("span", "took", `${args.shift().took.toFixed(1)} ms`));
  }
  head.append(element("time", "", clock()));
  item.append(head);
  if (args.length) item.append(element("pre", "", args.map(readable).join(", ")));
  append(page.events, item, EVENTS_KEPT);
}

function readable(value) {
  const whole = JSON.stringify(value, (_, inner) => {
    if (inner instanceof ArrayBuffer || ArrayBuffer.isView(inner)) return `<${inner.byteLength} bytes>`;
    return inner;
  });
  if (whole === undefined) return "undefined";
  return whole.length > 2000 ? `${whole.slice(0, 2000)} … (${whole.length} characters)` : whole;
}

// ---- what is done

page.connection.addEventListener("submit", (event) => {
  event.preventDefault();
  if (socket) disconnect();
  else connect();
});
page["room-form"].addEventListener("submit", (event) => {
  event.preventDefault();
  const roomId = page.room.value.trim();
  if (socket?.connected && roomId) enter(roomId);
});
page.leave.addEventListener("click", () => {
  if (socket?.connected && joined) leave();
});
page.compose.addEventListener("submit", (event) => {
  event.preventDefault();
  const content = page.composer.value.trim();
  if (!content || !socket?.connected || !joined) return;
  page.composer.value = "";
  say(content);
});
page.raw.addEventListener("submit", (event) => {
  event.preventDefault();
  const name = page["raw-name"].value.trim();
  if (!name || !socket?.connected) return;
  let args;
  try {
    args = JSON.parse(`[${page["raw-args"].value}]`);
  } catch (error) {
    page["raw-args"].setCustomValidity(`not JSON: ${error.message}`);
    page["raw-args"].reportValidity();
    return;
  }
  call(name, args);
});
page["raw-args"].addEventListener("input", () => page["raw-args"].setCustomValidity(""));
page.token.addEventListener("input", () => {
  tokenIsOwn = page.token.value.trim() !== "";
});
page.clear.addEventListener("click", () => page.events.replaceChildren());

page.name.value = friendlyName();
showStatus("idle", "not connected");
