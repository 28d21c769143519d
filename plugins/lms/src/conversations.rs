//! Clients entering and leaving conversations of two.

use crate::confirm;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;
use std::fmt;
use switchboard_plugin::{Ack, Cx, Error, Id, Result};

/// A conversation of two users, in the order of their ids; as text `a:b`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conversation {
    pub(crate) users: [Id; 2],
}

impl Conversation {
    /// Returns the conversation of two users.
    pub(crate) fn between(one: Id, other: Id) -> Result<Self> {
        if one == other {
            return Err(Error::invalid_payload("a conversation is of two users"));
        }
        let mut users = [one, other];
        users.sort();
        Ok(Self { users })
    }

    fn parse(text: &str) -> Result<Self> {
        let (one, other) = text
            .split_once(':')
            .ok_or_else(|| Error::invalid_payload("expected the ids of two users, as `a:b`"))?;
        Self::between(Id::new(one)?, Id::new(other)?)
    }

    /// Returns its room.
    pub(crate) fn room(&self) -> String {
        format!("conversation:{self}")
    }

    /// Returns who else is in a conversation of this user's.
    fn partner_of(&self, user: &Id) -> Result<&Id> {
        match &self.users {
            [one, other] if one == user => Ok(other),
            [one, other] if other == user => Ok(one),
            _ => Err(Error::forbidden("the conversation is of two others")),
        }
    }
}

impl fmt::Display for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, other] = &self.users;
        write!(f, "{one}:{other}")
    }
}

impl Serialize for Conversation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Conversation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(|error| serde::de::Error::custom(error.message))
    }
}

/// Handles `join-conversation`.
pub(crate) fn join(cx: &mut Cx, named: String) -> Result<Ack> {
    let own = cx.user()?;
    let conversation = own_conversation(&own, &named)?;
    cx.join(conversation.room());
    let with = conversation.partner_of(&own)?;
    let joined = json!({ "conversationId": conversation, "with": with });
    confirm(cx, "joined-conversation", &joined)
}

/// Handles `leave-conversation`.
pub(crate) fn leave(cx: &mut Cx, named: String) -> Result<Ack> {
    let conversation = own_conversation(&cx.user()?, &named)?;
    cx.leave(conversation.room());
    let left = json!({ "conversationId": conversation });
    confirm(cx, "left-conversation", &left)
}

/// Reads the name that clients give a conversation: `a:b`, or the other user's id.
fn own_conversation(own: &Id, named: &str) -> Result<Conversation> {
    if !named.contains(':') {
        return Conversation::between(own.clone(), Id::new(named)?);
    }
    let conversation = Conversation::parse(named)?;
    conversation.partner_of(own)?;
    Ok(conversation)
}
