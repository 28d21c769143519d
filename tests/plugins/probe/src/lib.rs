//! The plugin `probe`: shows what the host does with every instruction and capability.
//!
//! It is written against the contract itself, without the SDK, so that it can say things which the
//! SDK does not let a plugin say, and so that its name, version and manifest can be patched in the
//! built file. Every answer carries the `version` that made it.

// In native code, which is only built along, nothing calls what a component exports.
#![cfg_attr(not(target_family = "wasm"), allow(dead_code, unused_imports))]

mod bindings;
mod configuration;
mod messages;
mod parsing;
mod reports;

use bindings::exports::switchboard::plugin::guest::Guest;
use bindings::switchboard::plugin::types::{Answer, Event, Failure, Reply, Trigger};
use configuration::Configuration;
use serde_json::{Value, json};

struct Probe;

impl Guest for Probe {
    fn describe() -> String {
        let configuration = Configuration::read();
        assert!(!configuration.trap_in_describe, "the test asked for a trap");
        let mut manifest = json!({
            "name": configuration.name,
            "version": configuration.version,
            "subscriptions": {
                "messages": messages::NAMES,
                "notices": reports::NOTICES,
                "server": reports::SERVER_EVENTS,
            },
            "rooms": [configuration.name],
            "capabilities": ["log", "settings", "attachments", "rooms", "kv", "channels"],
            "settings": null,
            "state": { "reads": [1], "writes": 1 },
        });
        if let Some(members) = manifest.as_object_mut() {
            members.extend(configuration.manifest);
        }
        manifest.to_string()
    }

    fn handle(event: Event) -> Result<Reply, Failure> {
        let configuration = Configuration::read();
        match &event.trigger {
            Trigger::Message(message) => messages::handle(&configuration, &event, message),
            Trigger::Notice(notice) => Ok(reports::notice(&configuration, &event, notice)),
            Trigger::Server(server_event) => reports::server_event(&configuration, server_event),
        }
    }
}

/// A reply that answers `{ ok: true, version, by, … }` and asks for nothing.
fn answered(configuration: &Configuration, mut members: Value) -> Reply {
    if let Some(object) = members.as_object_mut() {
        object.insert("ok".into(), true.into());
        object.insert("by".into(), configuration.name.clone().into());
        object.insert("version".into(), configuration.version.clone().into());
    }
    Reply {
        ack: Some(Answer {
            args: json!([members]).to_string(),
            attachments: Vec::new(),
        }),
        instructions: Vec::new(),
    }
}

fn failed(code: &str, message: impl Into<String>) -> Failure {
    Failure {
        code: code.into(),
        message: message.into(),
        details: None,
    }
}
