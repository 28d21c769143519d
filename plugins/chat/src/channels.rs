//! Telling other services what clients do, by channels of Redis.
//!
//! Off unless the operator says `publish = true`, so that a host without Redis needs no settings. What
//! cannot be published is logged, and never a client's failure.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use switchboard_plugin::{Cx, Result, log};

pub(crate) const NEW: &str = "message:new";
pub(crate) const EDITED: &str = "message:edited";
pub(crate) const DELETED: &str = "message:deleted";
pub(crate) const RECEIPT: &str = "message:receipt";
pub(crate) const PRESENCE: &str = "presence:update";
pub(crate) const TYPING_START: &str = "typing:start";
pub(crate) const TYPING_STOP: &str = "typing:stop";

#[derive(Deserialize)]
#[serde(default)]
struct Settings {
    publish: bool,
    /// What the messages of this plugin say of where they come from.
    origin: String,
    /// Channels by event, where their names differ.
    channels: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            publish: false,
            origin: "switchboard".to_owned(),
            channels: BTreeMap::new(),
        }
    }
}

pub(crate) fn settings_schema() -> Value {
    let name = |bytes: u16| json!({ "type": "string", "minLength": 1, "maxLength": bytes });
    let events = [
        NEW,
        EDITED,
        DELETED,
        RECEIPT,
        PRESENCE,
        TYPING_START,
        TYPING_STOP,
    ];
    let channels: BTreeMap<_, _> = events.map(|event| (event, name(256))).into();
    json!({
        "type": "object",
        "properties": {
            "publish": { "type": "boolean" },
            "origin": name(128),
            "channels": {
                "type": "object", "properties": channels, "additionalProperties": false,
            },
        },
        "additionalProperties": false,
    })
}

#[derive(Serialize)]
struct Published<'a, T> {
    #[serde(flatten)]
    event: &'a T,
    origin: &'a str,
}

/// Publishes what a client has caused; what a backend has told of, others have heard from it.
pub(crate) fn publish(cx: &Cx, event: &str, what: &impl Serialize) -> Result<()> {
    let settings: Settings = cx.settings()?;
    let is_backends = !cx.source().is_empty();
    if !settings.publish || is_backends {
        return Ok(());
    }
    let channel = settings.channels.get(event).map_or(event, String::as_str);
    let message = Published {
        event: what,
        origin: &settings.origin,
    };
    if let Err(fault) = cx.channels().publish(channel, &message) {
        log::warn(format!(
            "`{event}` is not published to `{channel}`: {fault}"
        ));
    }
    Ok(())
}

/// Tells whether a server event is what this plugin has published.
pub(crate) fn is_own(cx: &Cx, origin: Option<&str>) -> Result<bool> {
    Ok(cx.source() == "channel" && origin == Some(&cx.settings::<Settings>()?.origin))
}
