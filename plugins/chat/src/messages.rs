//! Messages, whoever they come from.
//!
//! | partition | key | value |
//! |---|---|---|
//! | `chat:{id}` | its history | [`Message`]s |
//! | | `message:{id}` | the id of the message's entry in the history |
//! | | `temp:{user}:{tempId}` | the id of the message that was sent so, for a day |
//! | | `own:{user}:{since}` | how many messages of a member's own they have not marked as seen |
//!
//! Who names a message need not say where it is: its id ends with the token of its conversation.

use crate::{actor::Actor, channels, directory::Conversation};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;
use switchboard_plugin::{Ack, Cx, Error, Id, Result};

/// Characters of a message's content and of an emoji, and bytes of a `tempId`.
const CONTENT: usize = 16_000;
const EMOJI: usize = 32;
const TEMP: usize = 128;

/// How long the same `tempId` is the same message. It is kept by the commit that appends the message, so
/// that whoever sends again finds both or neither. (An idempotency key of the history would hold for ever.)
const SAME: Duration = Duration::from_secs(24 * 60 * 60);

/// A message, as it is stored and as it is heard.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message {
    pub(crate) id: Id,
    conversation_id: Id,
    pub(crate) sender_id: Id,
    /// None when it was deleted.
    content: Option<String>,
    reply_to: Option<Id>,
    created_at: String,
    edited_at: Option<String>,
    pub(crate) deleted: bool,
}

/// A message, and where it is.
pub(crate) struct Found {
    pub(crate) conversation: Conversation,
    entry: String,
    pub(crate) position: u64,
    message: Message,
}

impl Found {
    pub(crate) fn find(cx: &Cx, id: &Id) -> Result<Option<Self>> {
        let Some(conversation) = Conversation::of_message(cx, id)? else {
            return Ok(None);
        };
        let Some(place) = cx.kv(conversation.room()).get::<String>(message_key(id))? else {
            return Ok(None);
        };
        let entry = cx.history(conversation.room()).get(&place)?;
        Ok(entry.and_then(|entry| {
            Some(Self {
                conversation,
                entry: entry.id,
                position: entry.position,
                message: entry.entry?,
            })
        }))
    }

    pub(crate) fn get(cx: &Cx, id: &Id) -> Result<Self> {
        Self::find(cx, id)?.ok_or_else(|| Error::not_found(format!("there is no message `{id}`")))
    }

    /// Returns a message that a user may say something about.
    fn of_member(cx: &Cx, id: &Id, user: &Id) -> Result<Self> {
        let found = Self::get(cx, id)?;
        found.conversation.require_member(user)?;
        if found.message.deleted {
            return Err(Error::not_found(format!("the message `{id}` was deleted")));
        }
        found.conversation.require_heard(cx, user)?;
        Ok(found)
    }

    /// Stores the message as it is now.
    fn amend(&self, cx: &Cx) -> Result<()> {
        let history = cx.history(self.conversation.room());
        history.amend(&self.entry, &self.message)?;
        Ok(())
    }
}

fn message_key(id: &Id) -> String {
    format!("message:{id}")
}

/// Returns where it is counted how many of a member's messages they have not marked as seen. Who is
/// taken out and comes back begins anew.
pub(crate) fn own_key(user: &Id, since: u64) -> String {
    format!("own:{user}:{since}")
}

// ---- sending -----------------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewMessage {
    /// Backends may leave it out.
    temp_id: Option<String>,
    conversation_id: Id,
    content: String,
    reply_to: Option<Id>,
}

pub(crate) fn send(cx: &mut Cx, actor: &Actor, new: NewMessage) -> Result<Ack> {
    let (user, is_client) = (&actor.user, cx.source().is_empty());
    check_content(&new.content)?;
    check_temp(new.temp_id.as_deref(), is_client)?;
    let conversation = Conversation::of_member(cx, &new.conversation_id, user)?;
    let stored = cx.kv(conversation.room());
    let temp_key = new
        .temp_id
        .as_ref()
        .map(|temp| format!("temp:{user}:{temp}"));
    if let Some(key) = &temp_key
        && let Some(known) = stored.get::<Id>(key)?
    {
        return acknowledge(cx, user, new.temp_id.as_deref(), &known);
    }
    conversation.require_heard(cx, user)?;
    if let Some(id) = &new.reply_to
        && stored.get::<String>(message_key(id))?.is_none()
    {
        return Err(Error::not_found(format!(
            "`replyTo`: there is no message `{id}` in the conversation"
        )));
    }
    let message = Message {
        id: new_id(cx, &conversation)?,
        conversation_id: new.conversation_id,
        sender_id: user.clone(),
        content: Some(new.content),
        reply_to: new.reply_to,
        created_at: cx.timestamp(),
        edited_at: None,
        deleted: false,
    };
    let entry = cx.history(conversation.room()).append(&message)?;
    stored.set(message_key(&message.id), &entry)?;
    if let Some(key) = &temp_key {
        stored.set_for(key, &message.id, SAME)?;
    }
    if let Some(since) = conversation.members.get(user) {
        stored.add(own_key(user, *since), 1)?;
    }
    let others = conversation.members.keys().filter(|member| *member != user);
    cx.emit("message-new")
        .to_users(others)
        .ask(message.id.as_str())
        .send(&message)?;
    let devices = cx.emit("message-new").to_user(user);
    match is_client {
        true => devices.except_self().send(&message)?,
        false => devices.send(&message)?,
    }
    let published = json!({
        "userId": user, "tempId": new.temp_id, "conversationId": message.conversation_id,
        "content": message.content, "replyTo": message.reply_to, "messageId": message.id,
        "createdAt": message.created_at,
    });
    channels::publish(cx, channels::NEW, &published)?;
    acknowledge(cx, user, new.temp_id.as_deref(), &message.id)
}

/// Draws an id that ends with the conversation's token and that no message has.
fn new_id(cx: &Cx, conversation: &Conversation) -> Result<Id> {
    loop {
        let drawn = cx.new_id();
        let (head, _) = drawn.rsplit_once('-').unwrap_or_default();
        let id = Id::new(format!("{head}-{}", conversation.token))?;
        let taken = cx.kv(conversation.room()).get::<String>(message_key(&id))?;
        if taken.is_none() {
            return Ok(id);
        }
    }
}

/// Answers the device that has sent it, or all of the author's where a backend has.
fn acknowledge(cx: &mut Cx, author: &Id, temp: Option<&str>, message: &Id) -> Result<Ack> {
    if let Some(temp) = temp {
        let is_client = cx.source().is_empty();
        let answer = cx.emit("message-ack");
        match is_client {
            true => answer.to_self().send_args(&(temp, message))?,
            false => answer.to_user(author).send_args(&(temp, message))?,
        }
    }
    Ack::with(&json!({ "tempId": temp, "messageId": message }))
}

fn check_content(content: &str) -> Result<()> {
    check_length("content", content, CONTENT)
}

fn check_length(name: &str, text: &str, most: usize) -> Result<()> {
    if text.is_empty() || text.chars().count() > most {
        return Err(Error::invalid_payload(format!(
            "`{name}`: expected 1 to {most} characters"
        )));
    }
    Ok(())
}

fn check_temp(temp: Option<&str>, is_needed: bool) -> Result<()> {
    let fits = match temp {
        Some(temp) => (1..=TEMP).contains(&temp.len()) && !temp.contains(char::is_control),
        None => !is_needed,
    };
    if fits {
        return Ok(());
    }
    Err(Error::invalid_payload(format!(
        "`tempId`: expected 1 to {TEMP} bytes without control characters"
    )))
}

// ---- changing ----------------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Edit {
    message_id: Id,
    content: String,
}

pub(crate) fn edit(cx: &mut Cx, actor: &Actor, edit: Edit) -> Result<Ack> {
    check_content(&edit.content)?;
    let mut found = Found::of_member(cx, &edit.message_id, &actor.user)?;
    if found.message.sender_id != actor.user {
        return Err(Error::forbidden("a message is edited by its author"));
    }
    found.message.content = Some(edit.content);
    found.message.edited_at = Some(cx.timestamp());
    found.amend(cx)?;
    cx.emit("message-edited")
        .to_users(found.conversation.members.keys())
        .send(&found.message)?;
    let published = json!({
        "userId": actor.user, "messageId": found.message.id, "content": found.message.content,
        "conversationId": found.conversation.id, "editedAt": found.message.edited_at,
    });
    channels::publish(cx, channels::EDITED, &published)?;
    Ok(Ack::ok())
}

/// Deletes a message; that it was there stays. Deleting it again is no failure.
pub(crate) fn delete(cx: &mut Cx, actor: &Actor, id: Id) -> Result<Ack> {
    let mut found = Found::get(cx, &id)?;
    if !actor.is_admin() {
        found.conversation.require_member(&actor.user)?;
        if found.message.sender_id != actor.user {
            return Err(Error::forbidden(
                "a message is deleted by its author or an admin",
            ));
        }
    }
    if found.message.deleted {
        return Ok(Ack::ok());
    }
    found.message.content = None;
    found.message.deleted = true;
    found.amend(cx)?;
    cx.emit("message-deleted")
        .to_users(found.conversation.members.keys())
        .send(&id)?;
    let published = json!({
        "userId": actor.user, "role": actor.role(), "messageId": id,
        "conversationId": found.conversation.id,
    });
    channels::publish(cx, channels::DELETED, &published)?;
    Ok(Ack::ok())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Named {
    message_id: Id,
}

/// The same from backends, which name it in an object.
pub(crate) fn delete_named(cx: &mut Cx, actor: &Actor, named: Named) -> Result<Ack> {
    delete(cx, actor, named.message_id)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reaction {
    message_id: Id,
    emoji: String,
    #[serde(default)]
    remove: bool,
}

/// Passes a reaction on; it is not stored.
pub(crate) fn react(cx: &mut Cx, reaction: Reaction) -> Result<Ack> {
    check_length("emoji", &reaction.emoji, EMOJI)?;
    let user = cx.user()?;
    let found = Found::of_member(cx, &reaction.message_id, &user)?;
    let news = json!({
        "messageId": reaction.message_id, "userId": user, "emoji": reaction.emoji,
        "removed": reaction.remove,
    });
    cx.emit("reaction")
        .to_users(found.conversation.members.keys())
        .send(&news)?;
    Ok(Ack::ok())
}
