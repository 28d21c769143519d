//! The plugin `rooms`: general rooms with messages. See its README for the events.
//!
//! Everything that is stored lies in one partition, `rooms`: a room's record under `room:{id}`, and
//! beside it the number of its messages and the time of the last one, which are written without
//! being read, so that messages never wait for each other.

mod backend;
mod clients;
mod record;
#[cfg(test)]
mod tests;

use serde_json::json;
use switchboard_plugin::{Plugin, export};

fn plugin() -> Plugin {
    Plugin::new("rooms")
        .version(env!("CARGO_PKG_VERSION"))
        .rooms(["room"])
        .needs(["rooms", "kv"])
        .settings_schema(json!({
            "type": "object",
            "properties": { "createOnJoin": { "type": "boolean" } },
            "additionalProperties": false,
        }))
        .on("room:join", clients::join)
        .on("room:leave", clients::leave)
        .on("message", clients::message)
        .on("document:edit", clients::edit)
        .on_joined(clients::joined)
        .on_left(clients::left)
        .on_server_event("room-create", backend::create)
        .on_server_event("room-get", backend::get)
        .on_server_event("room-list", backend::list)
        .on_server_event("room-delete", backend::delete)
        .on_server_event("room-members", backend::members)
        .on_server_event("room-stats", backend::stats)
        .on_server_event("message-send", backend::send)
        .on_server_event("notification", backend::notify)
        .on_server_event("system-announcement", backend::announce)
}

export!(plugin);
