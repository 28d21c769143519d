//! Live sessions of a class: who takes part, what they say, what they are working on.
//!
//! | module | what it holds |
//! |---|---|
//! | [`mod@self`] | the table of events: who handles what |
//! | `session` | what is known of a session, its rooms, and who may do what |
//! | `backend` | creating, ending and asking for sessions |
//! | `participants` | joining and leaving, and what one who joins is told |
//! | `presence` | whether participants are active, idle or away |
//! | `groups` | educators putting participants into groups |
//! | `activity` | educators keeping everybody on the same activity |
//! | `messages` | messages, and what is said about them |
//! | `transcript` | live lines of what is being said |
//! | `relays` | files, typing and signals, of which nothing is stored |
//! | `text` | texts of a bounded length |

mod activity;
mod backend;
mod groups;
mod messages;
mod participants;
mod presence;
mod relays;
mod session;
mod text;
mod transcript;

use serde_json::json;
use switchboard_plugin::{Plugin, export};

/// Returns the plugin: every event it takes, and the function that handles it.
pub fn plugin() -> Plugin {
    Plugin::new("classroom")
        .version(env!("CARGO_PKG_VERSION"))
        .needs(["rooms", "kv", "history", "typing", "presence"])
        .rooms(["session", "session-group"])
        .settings_schema(json!({
            "type": "object",
            "properties": {
                "keepMessages": { "type": "integer", "minimum": 1, "maximum": messages::KEPT },
                "maxParticipants": { "type": "integer", "minimum": 1, "maximum": session::PEOPLE },
                "maxFileBytes": { "type": "integer", "minimum": 1, "maximum": relays::FILE_BYTES },
            },
            "additionalProperties": false,
        }))
        .on("joinSession", participants::join)
        .on("leaveSession", participants::leave)
        .on_joined(participants::joined)
        .on_left(participants::left)
        .on("updatePresence", presence::update)
        .on_presence(presence::changed)
        .on("assignGroups", groups::assign)
        .on("syncActivity", activity::sync)
        .on("sendMessage", messages::send)
        .on("react", messages::react)
        .on("messageRead", messages::read)
        .on("transcript", transcript::update)
        .on("file", relays::file)
        .on("typingInSession", relays::typing)
        .on_typing(relays::typing_changed)
        .on("signal", relays::signal)
        .on_server_event("session-create", backend::create)
        .on_server_event("session-end", backend::end)
        .on_server_event("session-get", backend::get)
}

export!(plugin);
