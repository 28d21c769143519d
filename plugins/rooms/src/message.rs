//! Messages, whoever they come from.

use crate::record::{Counters, Metadata, room};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use switchboard_plugin::{Ack, Cx, Error, Id, Result};

/// Characters of a message's content.
const CONTENT: usize = 16_000;

/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// The operator's settings of what is kept; without, everything.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Retention {
    retention_count: Option<u64>,
    retention_days: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    #[default]
    Text,
    Image,
    File,
    System,
}

/// A message, as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stored {
    pub(crate) room_id: Id,
    pub(crate) user_id: Id,
    pub(crate) username: String,
    pub(crate) content: String,
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    pub(crate) metadata: Metadata,
    pub(crate) timestamp: String,
}

/// A message, as it is heard.
#[derive(Serialize)]
pub(crate) struct Said {
    id: String,
    #[serde(flatten)]
    message: Stored,
}

impl Said {
    pub(crate) fn new(id: String, message: Stored) -> Self {
        Self { id, message }
    }
}

/// What the sender of a message is answered.
#[derive(Serialize)]
struct Stamp<'a> {
    id: &'a str,
    timestamp: &'a str,
}

impl Stored {
    /// Keeps the message and emits it to its room.
    pub(crate) fn publish(self, cx: &mut Cx) -> Result<Ack> {
        // What an image or a file is may be all in the metadata.
        let least = match self.kind {
            Kind::Image | Kind::File => 0,
            Kind::Text | Kind::System => 1,
        };
        if !(least..=CONTENT).contains(&self.content.chars().count()) {
            return Err(Error::invalid_payload(format!(
                "`content`: expected {least} to {CONTENT} characters"
            )));
        }
        let room = room(&self.room_id);
        let history = cx.history(&room);
        let id = history.append(&self)?;
        let Retention {
            retention_count,
            retention_days,
        } = cx.settings()?;
        let age = retention_days.map(|days| Duration::from_secs_f64(days * DAY));
        history.keep(retention_count, age)?;
        Counters::count(cx, &self.room_id, &self.timestamp)?;
        let said = Said::new(id, self);
        cx.emit("message").to_room(room).send(&said)?;
        Ack::with(&Stamp {
            id: &said.id,
            timestamp: &said.message.timestamp,
        })
    }
}
