// Stock Socket.IO clients, with an inbox that forgets nothing.

import { io } from "socket.io-client";
import { SOON, within } from "./deadline.mjs";
import { severalHosts } from "./shared.mjs";
import { mint } from "./tokens.mjs";

const { SWITCHBOARD_TEST_TRANSPORT: only } = process.env;

/** What tests are run on, the first unless they say otherwise; or the one that the environment names. */
export const TRANSPORTS = only ? [only] : ["websocket", "polling"];

/** How long a connection may take, in milliseconds: some tests open hundreds at once, on a busy machine. */
const CONNECTED = 20_000;

const open = new Set();

/** Closes every client that was opened since the last call. */
export function closeClients() {
  for (const client of open) client.close();
  open.clear();
}

/** One Socket.IO connection. */
export class Client {
  /**
   * `token` goes into `auth`; `query`, `headers`, `namespace` and `reconnect` as one would expect; `patience`
   * is how long an answer may take, in milliseconds. Nothing is opened before `connect`, `open` or `refusal`.
   */
  constructor(host, { transport = TRANSPORTS[0], token, auth, query, headers, namespace = "/", reconnect = false, patience = 10_000 } = {}) {
    this.host = host;
    this.patience = patience;
    this.inbox = [];
    this.waiting = new Set();
    this.disconnections = [];
    this.socket = io(host.url + (namespace === "/" ? "" : namespace), {
      transports: [transport],
      forceNew: true,
      autoConnect: false,
      reconnection: reconnect,
      reconnectionDelay: 50,
      reconnectionDelayMax: 250,
      auth: auth ?? (token === undefined ? {} : { token }),
      query,
      extraHeaders: headers,
      path: host.socketPath,
    });
    this.socket.onAny((name, ...args) => {
      const acknowledge = typeof args.at(-1) === "function" ? args.pop() : undefined;
      this.inbox.push({ name, args, acknowledge });
      this.look();
    });
    this.socket.on("disconnect", (reason) => {
      this.disconnections.push(reason);
      this.look();
    });
    open.add(this);
  }

  look() {
    for (const look of [...this.waiting]) look();
  }

  /** Connects and authenticates; resolves when the host has said who this is. */
  async connect() {
    await this.open();
    const session = await this.next("session");
    this.id = session.connectionId;
    this.userId = session.userId;
    this.role = session.role;
    this.session = session;
    await this.host.caughtUp?.();
    return this;
  }

  /** Connects; resolves when Socket.IO is connected, authenticated or not. */
  async open() {
    const opened = new Promise((resolve, reject) => {
      this.socket.once("connect", resolve);
      this.socket.once("connect_error", (error) => reject(new Error(`refused: ${error.message}`)));
    });
    this.socket.connect();
    await within(opened, CONNECTED, "a connection");
    return this;
  }

  /** Connects, expecting to be refused; resolves with the message of the `connect_error`. */
  async refusal() {
    const refused = new Promise((resolve, reject) => {
      this.socket.once("connect_error", (error) => resolve(error.message));
      this.socket.once("connect", () => reject(new Error("the connection was accepted")));
    });
    this.socket.connect();
    return within(refused, SOON, "a refusal");
  }

  emit(name, ...args) {
    this.socket.emit(name, ...args);
  }

  /** Sends an event; resolves with the first argument of its acknowledgement. */
  async ask(name, ...args) {
    return (await this.askAll(name, ...args))[0];
  }

  /** Sends an event; resolves with all arguments of its acknowledgement. */
  async askAll(name, ...args) {
    const answered = new Promise((resolve) => this.socket.emit(name, ...args, (...answer) => resolve(answer)));
    const answer = await within(answered, this.patience, `the answer to ${name}`);
    await this.host.caughtUp?.();
    return answer;
  }

  /** Sends an event that must succeed; resolves with its answer. */
  async must(name, ...args) {
    const answer = await this.ask(name, ...args);
    if (answer?.ok !== true) throw new Error(`${name} was answered ${JSON.stringify(answer)}`);
    return answer;
  }

  /** Sends an event that must fail; resolves with the error's code. */
  async code(name, ...args) {
    return (await this.error(name, ...args)).code;
  }

  /** Sends an event that must fail; resolves with the error. */
  async error(name, ...args) {
    const answer = await this.ask(name, ...args);
    if (answer?.ok !== false || typeof answer.error?.code !== "string" || typeof answer.error?.message !== "string") {
      throw new Error(`${name} should have failed, but was answered ${JSON.stringify(answer)}`);
    }
    return answer.error;
  }

  /** Takes the oldest event of a name out of the inbox, waiting for it; resolves with its first argument. */
  async next(name, where = () => true) {
    return (await this.nextEvent(name, where)).args[0];
  }

  /** Takes the oldest event of a name out of the inbox, waiting for it: `{ name, args, acknowledge }`. */
  nextEvent(name, where = () => true, milliseconds = SOON) {
    return within(
      this.when(() => {
        const at = this.inbox.findIndex((event) => event.name === name && where(...event.args));
        return at < 0 ? undefined : this.inbox.splice(at, 1)[0];
      }),
      milliseconds,
      () => `the event ${name}; the inbox holds ${JSON.stringify(this.inbox.map((event) => event.name).slice(0, 20))}`,
    );
  }

  /** Resolves with the reason of the (next) disconnection. */
  closed(milliseconds = SOON) {
    return within(this.when(() => this.disconnections.shift()), milliseconds, "a disconnection");
  }

  when(condition) {
    return new Promise((resolve) => {
      const look = () => {
        const value = condition();
        if (value === undefined) return;
        this.waiting.delete(look);
        resolve(value);
      };
      this.waiting.add(look);
      look();
    });
  }

  /** The events of a name that are in the inbox now. */
  heard(name) {
    return this.inbox.filter((event) => event.name === name).map((event) => event.args[0]);
  }

  /** The events that are in the inbox now, other than what is for everyone, which another file may send. */
  get remaining() {
    return this.inbox.filter(({ name }) => name !== "system:announcement");
  }

  /** Forgets what is in the inbox. */
  clear() {
    this.inbox.length = 0;
  }

  get connected() {
    return this.socket.connected;
  }

  close() {
    this.socket.disconnect();
    this.socket.io.engine?.close();
  }
}

/** A connected client of `user`. */
export function connect(host, user, { role = "student", claims = {}, token, ...options } = {}) {
  return new Client(host, { token: token ?? mint({ userId: user, role, ...claims }), ...options }).connect();
}

/**
 * Resolves when everything that was sent to these clients before has arrived: what they are asked
 * now is answered behind it on the same connection.
 */
export async function settled(...clients) {
  const all = () => Promise.all(clients.map((client) => client.ask("an-event-that-nobody-subscribed-to")));
  await all();
  // What one of them has caused on another's host may have come there behind what that one was asked.
  if (severalHosts()) await all();
}

/** Asserts nothing by itself: resolves with what each client heard of an event once all is settled. */
export async function heardAfterSettling(name, ...clients) {
  await settled(...clients);
  return clients.map((client) => client.heard(name));
}
