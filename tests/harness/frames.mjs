// Engine.IO by hand, for packets that a stock client would never send.

import { once } from "node:events";
import WebSocket from "ws";
import { SOON, within } from "./deadline.mjs";

const PATH = "/socket.io/?EIO=4&transport=";

class Frames {
  constructor() {
    this.received = [];
    this.waiting = new Set();
    this.closed = false;
  }

  arrived(frame) {
    this.received.push(frame);
    for (const look of [...this.waiting]) look();
  }

  /** Takes the oldest frame that satisfies `where`; binary frames are Buffers. */
  next(where = () => true, what = "a frame") {
    const found = new Promise((resolve) => {
      const look = () => {
        const at = this.received.findIndex(where);
        if (at < 0) return;
        this.waiting.delete(look);
        resolve(this.received.splice(at, 1)[0]);
      };
      this.waiting.add(look);
      look();
    });
    return within(found, SOON, () => `${what}; received ${JSON.stringify(this.received.map(String).slice(0, 8))}`);
  }

  text(start) {
    return this.next((frame) => typeof frame === "string" && frame.startsWith(start), `a frame ${start}…`);
  }

  /** Says who this is; resolves when the namespace is open and the host has said who it is. */
  async authenticate(token) {
    await this.text("0");
    await this.send(`40${JSON.stringify({ token })}`);
    await this.text("40");
    await this.text('42["session"');
    return this;
  }
}

/** A WebSocket that sends the frames it is told to. With a session it asks for that one's upgrade. */
export class WebSocketFrames extends Frames {
  constructor(host, session) {
    super();
    const named = session ? `&sid=${session}` : "";
    this.socket = new WebSocket(`${host.url.replace("http", "ws")}${PATH}websocket${named}`);
    this.socket.on("message", (data, isBinary) => {
      const frame = isBinary ? data : data.toString();
      if (frame === "2") this.socket.send("3");
      else this.arrived(frame);
    });
    this.socket.on("close", () => { this.closed = true; });
    this.socket.on("error", () => { this.closed = true; });
  }

  /** Sends one text frame, and one binary frame for each Buffer after it. */
  async send(...frames) {
    for (const frame of frames) this.socket.send(frame);
  }

  /** Takes over a session that polls. */
  async upgrade() {
    await within(once(this.socket, "open"), SOON, "the WebSocket to open");
    await this.send("2probe");
    await this.text("3probe");
    await this.send("5");
    return this;
  }

  /** Reads no more. */
  pause() {
    this.socket.pause();
  }

  close() {
    this.socket.terminate();
  }
}

/** Long polling that posts the packets it is told to. */
export class PollingFrames extends Frames {
  constructor(host) {
    super();
    this.address = `${host.url}${PATH}polling`;
    this.abort = new AbortController();
    this.paused = false;
    this.poll();
  }

  /** Polls no more. What is asked for already still comes. */
  pause() {
    this.paused = true;
  }

  async poll() {
    try {
      while (!this.closed && !this.paused) {
        const response = await fetch(this.address, { signal: this.abort.signal });
        const text = await response.text();
        if (!response.ok) throw new Error(`${response.status}: ${text}`);
        for (const packet of text.split("\x1e")) {
          if (packet.startsWith("0")) this.address += `&sid=${JSON.parse(packet.slice(1)).sid}`;
          if (packet === "2") await this.send("3");
          else if (packet === "1") this.closed = true;
          else this.arrived(packet.startsWith("b") ? Buffer.from(packet.slice(1), "base64") : packet);
        }
      }
    } catch {
      this.closed = true;
    }
  }

  /** Posts one payload: a text packet, and one base64 packet for each Buffer after it. */
  async send(...frames) {
    const body = frames.map((frame) => (Buffer.isBuffer(frame) ? `b${frame.toString("base64")}` : frame)).join("\x1e");
    const response = await fetch(this.address, {
      method: "POST",
      headers: { "content-type": "text/plain;charset=UTF-8" },
      body,
      signal: this.abort.signal,
    });
    await response.text();
  }

  close() {
    this.closed = true;
    this.abort.abort();
  }
}

const open = new Set();

/** Opens a connection of either transport; a WebSocket perhaps for a session that is there. */
export function frames(host, transport, session) {
  const made = transport === "websocket" ? new WebSocketFrames(host, session) : new PollingFrames(host);
  open.add(made);
  return made;
}

/** Closes every connection that was opened since the last call. */
export function closeFrames() {
  for (const made of open) made.close();
  open.clear();
}
