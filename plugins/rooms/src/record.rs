//! What is known of a room, and the messages in it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use switchboard_plugin::{Cx, Error, Id, Kv, Result};

/// Characters of a message's content.
const CONTENT: usize = 16_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) id: Id,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) created_by: Option<Id>,
    pub(crate) created_at: String,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) visibility: Visibility,
    /// Who may enter a private room.
    pub(crate) members: Vec<Id>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Visibility {
    #[default]
    Public,
    Private,
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

impl Record {
    pub(crate) fn new(cx: &Cx, id: Id, created_by: Option<Id>) -> Self {
        Self {
            name: id.to_string(),
            id,
            namespace: "default".to_owned(),
            created_by,
            created_at: cx.timestamp(),
            metadata: Map::new(),
            visibility: Visibility::Public,
            members: Vec::new(),
        }
    }

    pub(crate) fn find(cx: &Cx, id: &Id) -> Result<Option<Self>> {
        Ok(state(cx).get(key(id))?)
    }

    pub(crate) fn get(cx: &Cx, id: &Id) -> Result<Self> {
        Self::find(cx, id)?.ok_or_else(|| Error::not_found(format!("there is no room `{id}`")))
    }

    pub(crate) fn save(&self, cx: &Cx) -> Result<()> {
        Ok(state(cx).set(key(&self.id), self)?)
    }

    pub(crate) fn admits(&self, user: &Id) -> bool {
        self.visibility == Visibility::Public || self.members.contains(user)
    }
}

/// The partition that everything is stored in.
pub(crate) fn state(cx: &Cx) -> Kv {
    cx.kv("rooms")
}

pub(crate) fn key(id: &Id) -> String {
    format!("room:{id}")
}

pub(crate) fn messages_key(id: &Id) -> String {
    format!("messages:{id}")
}

pub(crate) fn activity_key(id: &Id) -> String {
    format!("activity:{id}")
}

/// The room that connections join.
pub(crate) fn room(id: &Id) -> String {
    format!("room:{id}")
}

pub(crate) struct Message {
    pub(crate) room: Id,
    pub(crate) user: Id,
    pub(crate) username: String,
    pub(crate) content: String,
    pub(crate) kind: Kind,
    pub(crate) metadata: Map<String, Value>,
}

impl Message {
    /// Counts the message and emits it to its room; returns its id and time, for the answer.
    pub(crate) fn publish(self, cx: &mut Cx) -> Result<Value> {
        if self.content.is_empty() || self.content.chars().count() > CONTENT {
            return Err(Error::invalid_payload(format!(
                "`content`: expected 1 to {CONTENT} characters"
            )));
        }
        let (id, timestamp) = (cx.new_id(), cx.timestamp());
        state(cx).add(messages_key(&self.room), 1)?;
        state(cx).set(activity_key(&self.room), &timestamp)?;
        cx.emit("message").to_room(room(&self.room)).send(&json!({
            "id": id,
            "roomId": self.room,
            "userId": self.user,
            "username": self.username,
            "content": self.content,
            "type": self.kind,
            "metadata": self.metadata,
            "timestamp": timestamp,
        }))?;
        Ok(json!({ "id": id, "timestamp": timestamp }))
    }
}
