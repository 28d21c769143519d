//! Messages, whoever they come from.

use crate::record::{Counters, Metadata, room};
use serde::{Deserialize, Serialize};
use switchboard_plugin::{Ack, Cx, Error, Id, Result};

/// Characters of a message's content.
const CONTENT: usize = 16_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    #[default]
    Text,
    Image,
    File,
    System,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message {
    #[serde(flatten)]
    pub(crate) stamp: Stamp,
    pub(crate) room_id: Id,
    pub(crate) user_id: Id,
    pub(crate) username: String,
    pub(crate) content: String,
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    pub(crate) metadata: Metadata,
}

/// What the plugin gives a message, and what its sender is answered.
#[derive(Serialize)]
pub(crate) struct Stamp {
    id: String,
    timestamp: String,
}

impl Stamp {
    pub(crate) fn new(cx: &Cx) -> Self {
        Self {
            id: cx.new_id(),
            timestamp: cx.timestamp(),
        }
    }
}

impl Message {
    /// Counts the message and emits it to its room.
    pub(crate) fn publish(self, cx: &mut Cx) -> Result<Ack> {
        if self.content.is_empty() || self.content.chars().count() > CONTENT {
            return Err(Error::invalid_payload(format!(
                "`content`: expected 1 to {CONTENT} characters"
            )));
        }
        Counters::count(cx, &self.room_id, &self.stamp.timestamp)?;
        cx.emit("message")
            .to_room(room(&self.room_id))
            .send(&self)?;
        Ack::with(&self.stamp)
    }
}
