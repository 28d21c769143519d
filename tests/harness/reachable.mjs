// What can be asked over HTTP, at its `url`.

import { API_KEY } from "./configuration.mjs";

export class Reachable {
  /** Resolves when every host has heard of all that was done before. One always has. */
  async caughtUp() {}

  /** Asks over HTTP; resolves with `{ status, headers, text, json }`. */
  async request(path, { method = "GET", headers = {}, body } = {}) {
    const response = await fetch(this.url + path, { method, headers, body, signal: AbortSignal.timeout(10_000) });
    const text = await response.text();
    let json;
    try {
      json = JSON.parse(text);
    } catch {
      json = undefined;
    }
    return { status: response.status, headers: response.headers, text, json };
  }

  /** Posts a server event; resolves with `{ status, json }`. */
  post(name, data, { key = API_KEY, ...more } = {}) {
    const answered = this.request("/api/v1/events", {
      method: "POST",
      headers: { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) },
      body: JSON.stringify({ name, data, ...more.body }),
    });
    return answered.finally(() => this.caughtUp());
  }

  /** Posts a server event that must succeed; resolves with the plugin's answer. */
  async tell(name, data, body = {}) {
    const { status, json, text } = await this.post(name, data, { body });
    if (status !== 200 || json?.ok === false) throw new Error(`${name} was answered ${status}: ${text}`);
    return json;
  }
}
