//! Backends changing who is in which conversation, and who has blocked whom.

use crate::directory::{Conversation, MEMBERS, room, set_blocked};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::json;
use std::collections::BTreeSet;
use switchboard_plugin::{Ack, Cx, Error, Id, Result};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Create {
    conversation_id: Option<Id>,
    members: BTreeSet<Id>,
}

pub(crate) fn create(cx: &mut Cx, told: Create) -> Result<Ack> {
    if !(1..=MEMBERS).contains(&told.members.len()) {
        return Err(Error::invalid_payload(format!(
            "`members`: expected 1 to {MEMBERS} users"
        )));
    }
    let id = match told.conversation_id {
        Some(id) => id,
        None => Id::new(cx.new_id())?,
    };
    if Conversation::find(cx, &id)?.is_some() {
        return Err(Error::conflict(format!(
            "there is a conversation `{id}` already"
        )));
    }
    let Conversation { id, members, .. } = Conversation::create(cx, id, told.members)?;
    let members: Vec<&Id> = members.keys().collect();
    Ack::with(&json!({ "conversationId": id, "members": members }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Member {
    conversation_id: Id,
    user_id: Id,
}

/// Adds a member. Nothing happens where the user is one already.
pub(crate) fn add(cx: &mut Cx, told: Member) -> Result<Ack> {
    let conversation = Conversation::get(cx, &told.conversation_id)?;
    if conversation.members.contains_key(&told.user_id) {
        return Ok(Ack::ok());
    }
    if conversation.members.len() >= MEMBERS {
        return Err(Error::conflict(format!(
            "the conversation has {MEMBERS} members, and can have no more"
        )));
    }
    let newest = cx.history(conversation.room()).newest::<IgnoredAny>(1)?;
    let since = newest.first().map_or(0, |entry| entry.position);
    conversation.add(cx, told.user_id, since)?;
    Ok(Ack::ok())
}

/// Takes a member out, of the room at once. Nothing happens where the user is none.
pub(crate) fn remove(cx: &mut Cx, told: Member) -> Result<Ack> {
    let conversation = Conversation::get(cx, &told.conversation_id)?;
    conversation.remove(cx, &told.user_id)?;
    cx.leave_user(&told.user_id, room(&told.conversation_id));
    Ok(Ack::ok())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Block {
    user_id: Id,
    blocked_id: Id,
}

pub(crate) fn block(cx: &mut Cx, told: Block) -> Result<Ack> {
    set(cx, &told, true)
}

pub(crate) fn unblock(cx: &mut Cx, told: Block) -> Result<Ack> {
    set(cx, &told, false)
}

fn set(cx: &Cx, told: &Block, blocked: bool) -> Result<Ack> {
    if told.user_id == told.blocked_id {
        return Err(Error::invalid_payload(
            "`blockedId`: expected another user than `userId`",
        ));
    }
    set_blocked(cx, &told.user_id, &told.blocked_id, blocked)?;
    Ok(Ack::ok())
}
