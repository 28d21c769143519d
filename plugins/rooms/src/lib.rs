//! The plugin `rooms`: general rooms with messages. See its README for the events.
//!
//! What is stored: all rooms' records in the partition `rooms`, where they can be listed; and for each
//! room its messages, the number of them and the time of the last one in a partition of its own, so
//! that a message of one room has nothing to do with those of another. A handler writes one of the
//! two; a room that is deleted has its messages removed by a timer.

mod backend;
mod clients;
mod history;
mod message;
mod record;
#[cfg(test)]
mod tests;

use serde_json::json;
use switchboard_plugin::{Plugin, export};

fn plugin() -> Plugin {
    Plugin::new("rooms")
        .version(env!("CARGO_PKG_VERSION"))
        .rooms(["room"])
        .needs(["rooms", "kv", "history", "timers", "typing", "presence"])
        .settings_schema(json!({
            "type": "object",
            "properties": {
                "createOnJoin": { "type": "boolean" },
                "presence": { "enum": ["shared", "everyone"] },
                "retentionCount": { "type": "integer", "minimum": 0 },
                "retentionDays": { "type": "number", "exclusiveMinimum": 0 },
            },
            "additionalProperties": false,
        }))
        .on("room:join", clients::join)
        .on("room:leave", clients::leave)
        .on("message", clients::message)
        .on("history", history::of_client)
        .on("document:edit", clients::edit)
        .on("typing", clients::typing)
        .on_typing(clients::typing_changed)
        .on_presence(clients::presence_changed)
        .on_joined(clients::joined)
        .on_left(clients::left)
        .on_server_event("room-create", backend::create)
        .on_server_event("room-get", backend::get)
        .on_server_event("room-list", backend::list)
        .on_server_event("room-delete", backend::delete)
        .on_server_event("room-members", backend::members)
        .on_server_event("room-stats", backend::stats)
        .on_server_event("message-send", backend::send)
        .on_server_event("message-page", history::of_backend)
        .on_server_event("notification", backend::notify)
        .on_server_event("system-announcement", backend::announce)
        .on_timer(history::FORGET, history::forget)
}

export!(plugin);
