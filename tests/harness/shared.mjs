// Hosts that several test files share, each file a process of its own: `SWITCHBOARD_TEST_HOSTS` has their
// addresses. The clients of a file are spread over them. What a test has done on one, the others have heard
// of before it goes on, so that a test reads the same for one host and for several.

import { io } from "socket.io-client";
import { waitFor, within, SOON } from "./deadline.mjs";
import { Reachable } from "./reachable.mjs";
import { mint } from "./tokens.mjs";

/** The addresses of the hosts that are shared; none where each file has its own. */
export const SHARED = process.env.SWITCHBOARD_TEST_HOSTS?.split(" ");

/** Whether clients are spread over several hosts. What two hosts send reaches a client in any order. */
export const severalHosts = () => SHARED?.length > 1;

/** Thrown where a test wants a host of its own, which shared ones cannot be. */
export class WantsItsOwn extends Error {}

export class SharedHosts extends Reachable {
  #turn = 0;
  #rounds = 0;
  #scouts = [];
  #round;
  #next;

  /** The address of a host: of each in turn. */
  get url() {
    return SHARED[(this.#turn += 1) % SHARED.length];
  }

  /** Connects a client to each host, by which it is found out what the others have heard. */
  async start() {
    if (SHARED.length === 1) return;
    this.#scouts = SHARED.map((url, n) => {
      const user = `scout-${process.pid}-${n}`;
      return { user, socket: io(url, { transports: ["websocket"], forceNew: true, auth: { token: mint({ userId: user }) } }) };
    });
    const sessions = this.#scouts.map(({ socket }) => new Promise((resolve) => socket.once("session", resolve)));
    const started = await within(Promise.all(sessions), SOON, "a connection to each shared host");
    this.#scouts.forEach((scout, n) => { scout.id = started[n].connectionId; });
    await this.caughtUp();
  }

  async dispose() {
    for (const { socket } of this.#scouts) socket.disconnect();
  }

  /** As `Reachable.caughtUp`. Who asks while it is found out waits for the next time. */
  caughtUp() {
    if (this.#scouts.length === 0) return Promise.resolve();
    this.#next ??= (async () => {
      await this.#round?.catch(() => {});
      this.#round = this.#next;
      this.#next = undefined;
      await this.#exchange();
    })();
    return this.#next;
  }

  /** What a host tells others arrives in order: who knows of the last has heard of all. */
  async #exchange() {
    const room = `probe:round-${process.pid}-${(this.#rounds += 1)}`;
    const ask = async ({ socket }, ...event) => {
      const answer = await within(socket.emitWithAck(...event), SOON, `the answer to ${event[0]}`);
      if (answer.ok !== true) throw new Error(`${event[0]} was answered ${JSON.stringify(answer)}`);
      return answer;
    };
    const all = (body) => Promise.all(this.#scouts.map(body));
    await all((scout) => ask(scout, "probe:join", room));
    await all((scout) => waitFor(
      async () => (await ask(scout, "probe:rooms", room, scout.id, scout.user)).userCount === SHARED.length,
      "every host to have heard of the others",
    ));
    await all((scout) => ask(scout, "probe:leave", room));
  }
}
