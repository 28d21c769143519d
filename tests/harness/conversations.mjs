// Conversations of the plugin `chat`, and what members say and hear in them.

import assert from "node:assert/strict";

export const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
export const UUID7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** Makes a conversation; returns its id. */
export async function makeConversation(host, members) {
  const { conversationId } = await host.tell("conversation-create", { members }, { plugin: "chat" });
  assert.match(conversationId, UUID7);
  return conversationId;
}

let sent = 0;

/** What a client sends, with a `tempId` of its own. */
export const message = (conversationId, content = "hello") => ({ tempId: `temp:${(sent += 1)}`, conversationId, content });

/** Sends a message; returns its id. */
export const say = async (client, conversationId, content) =>
  (await client.must("message-send", message(conversationId, content))).messageId;

/** Takes the next `message-new`, and acknowledges it. */
export async function receive(client) {
  const { args, acknowledge } = await client.nextEvent("message-new");
  acknowledge();
  return args[0];
}

/** The arguments of all receipts that are in the inbox. */
export const receipts = (client) => client.inbox.filter(({ name }) => name === "receipt").map(({ args }) => args);

/** Takes the next event of a name; resolves with all of its arguments. */
export const next = async (client, name) => (await client.nextEvent(name)).args;
