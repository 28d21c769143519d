// A live session over the stock Socket.IO client and the plugin `classroom`.
// Everything that comes from others is put on the page as text, never as HTML.
"use strict";

const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));

let socket = null;
let me = null; // a user id
let code = null; // of the session that one has joined, or wants to be in
let participants = new Map(); // userId to { userId, role, status }
let shown = new Set(); // the ids of the messages on the page

// ---- connection

page.connection.addEventListener("submit", (event) => {
  event.preventDefault();
  socket?.disconnect();
  leftSession();
  // A page in a file has no origin that a host would let poll; WebSocket needs none.
  socket = io(page.host.value, { auth: { token: page.token.value.trim() }, transports: ["websocket"], forceNew: true });
  socket.on("connect", () => {
    showStatus("connected");
    // A new connection is in no session: go back to where one was.
    if (code) join(code);
  });
  socket.on("connect_error", (error) => showStatus(`refused: ${error.message}`));
  socket.on("disconnect", (reason) => showStatus(`disconnected: ${reason}`));
  socket.on("error", showProblem);
  listen(socket);
});

function showStatus(text) {
  page.status.textContent = text;
  allow();
}

function allow() {
  const connected = socket?.connected ?? false;
  page.join.disabled = !connected;
  for (const id of ["leave", "presence", "message", "send"]) page[id].disabled = !connected || !code;
}

/** Sends an event; `done` is called with its answer unless it was refused, which is shown. */
function call(name, argument, done = () => {}) {
  socket.timeout(10_000).emit(name, argument, (error, answer) => {
    if (error) return showProblem({ code: "NO_ANSWER", message: error.message });
    if (!answer.ok) return showProblem(answer.error);
    showProblem(null);
    done(answer);
  });
}

function showProblem(error) {
  page.problem.textContent = error ? `${error.code}: ${error.message}` : "";
}

// ---- the session

function join(wanted) {
  call("joinSession", wanted);
}

function leftSession() {
  code = null;
  participants = new Map();
  shown = new Set();
  page.messages.replaceChildren();
  showParticipants();
  allow();
}

function listen(on) {
  on.on("session", ({ userId }) => {
    me = userId;
  });
  // What there is in the session. Messages that came on the way may be among those that it has.
  on.on("sessionJoined", (session) => {
    if (code !== session.sessionCode) leftSession();
    code = session.sessionCode;
    participants = new Map(session.participants.map((participant) => [participant.userId, participant]));
    session.recentMessages.forEach(showMessage);
    page.presence.value = participants.get(me)?.status ?? "active";
    showParticipants();
    allow();
  });
  const here = (name, handle) => on.on(name, (event) => {
    if (event.sessionCode === code) handle(event);
  });
  here("participantJoined", ({ userId, role }) => {
    participants.set(userId, { userId, role, status: "active" });
    showParticipants();
  });
  here("participantLeft", ({ userId }) => {
    participants.delete(userId);
    showParticipants();
  });
  here("presenceUpdated", ({ userId, status }) => {
    const participant = participants.get(userId);
    if (participant) participant.status = status;
    showParticipants();
  });
  here("messageReceived", showMessage);
  here("sessionEnded", () => {
    leftSession();
    showProblem({ code: "ENDED", message: "the session has ended" });
  });
}

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function showParticipants() {
  page.participants.replaceChildren(...[...participants.values()].map(({ userId, role, status }) => {
    const item = document.createElement("li");
    item.append(element("span", "who", userId), " ", element("span", "status", `${role}, ${status}`));
    return item;
  }));
}

function showMessage({ messageId, userId, message, timestamp }) {
  if (shown.has(messageId)) return;
  shown.add(messageId);
  const item = document.createElement("li");
  const time = element("time", "", new Date(timestamp).toLocaleTimeString());
  item.append(element("span", "who", userId), " ", time, element("div", "text", message));
  page.messages.append(item);
  item.scrollIntoView({ block: "nearest" });
}

// ---- what is done

page.session.addEventListener("submit", (event) => {
  event.preventDefault();
  const wanted = page.code.value.trim();
  if (code && code !== wanted) call("leaveSession", code, leftSession);
  join(wanted);
});
page.leave.addEventListener("click", () => call("leaveSession", code, leftSession));
page.presence.addEventListener("change", () => {
  call("updatePresence", { sessionCode: code, status: page.presence.value });
});
page.compose.addEventListener("submit", (event) => {
  event.preventDefault();
  call("sendMessage", { sessionCode: code, message: page.message.value }, () => {
    page.message.value = "";
  });
});
