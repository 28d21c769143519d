//! What clients do: enter and leave.

use crate::access::{Content, require_content, require_course};
use serde_json::{Value, json};
use switchboard_plugin::{Ack, Cx, Error, Id, Result};

/// Everybody is in the room of their role.
pub(crate) fn connected(cx: &mut Cx) -> Result<()> {
    let role = format!("role:{}", cx.role());
    cx.join(role);
    Ok(())
}

/// Confirms by an event, for clients that wait for one, and by the acknowledgement.
fn confirm(cx: &mut Cx, event: &str, confirmation: &Value) -> Result<Ack> {
    cx.emit(event).to_self().send(confirmation)?;
    Ack::with(confirmation)
}

pub(crate) fn join_course(cx: &mut Cx, course: Id) -> Result<Ack> {
    require_course(cx, &course)?;
    let room = format!("course:{course}");
    let mut online = cx.rooms().users(&room)?;
    online.push(cx.user()?.to_string());
    online.sort();
    online.dedup();
    cx.join(room);
    confirm(
        cx,
        "joined-course",
        &json!({ "courseId": course, "onlineUsers": online }),
    )
}

pub(crate) fn leave_course(cx: &mut Cx, course: Id) -> Result<Ack> {
    cx.leave(format!("course:{course}"));
    confirm(cx, "left-course", &json!({ "courseId": course }))
}

/// Two users, and the name of their conversation whoever names it.
pub(crate) struct Conversation {
    pub(crate) id: String,
    pub(crate) users: [Id; 2],
}

impl Conversation {
    pub(crate) fn between(one: Id, other: Id) -> Self {
        let users = if one <= other {
            [one, other]
        } else {
            [other, one]
        };
        let [first, second] = &users;
        Self {
            id: format!("{first}:{second}"),
            users,
        }
    }

    /// Reads `a:b`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (one, other) = text.split_once(':').ok_or_else(|| {
            Error::invalid_payload("a conversation is named by its two users, `a:b`")
        })?;
        Ok(Self::between(Id::new(one)?, Id::new(other)?))
    }

    pub(crate) fn room(&self) -> String {
        format!("conversation:{}", self.id)
    }
}

/// Reads the other user's id, or `a:b` with oneself in it; returns the other user too.
fn own_conversation(cx: &Cx, named: &str) -> Result<(Conversation, Id)> {
    let user = cx.user()?;
    let conversation = match named.contains(':') {
        true => Conversation::parse(named)?,
        false => Conversation::between(user.clone(), Id::new(named)?),
    };
    let [first, second] = conversation.users.clone();
    match (first == user, second == user) {
        (true, _) => Ok((conversation, second)),
        (_, true) => Ok((conversation, first)),
        _ => Err(Error::forbidden("a conversation of others")),
    }
}

pub(crate) fn join_conversation(cx: &mut Cx, named: String) -> Result<Ack> {
    let (conversation, with) = own_conversation(cx, &named)?;
    cx.join(conversation.room());
    let confirmation = json!({ "conversationId": conversation.id, "with": with });
    confirm(cx, "joined-conversation", &confirmation)
}

pub(crate) fn leave_conversation(cx: &mut Cx, named: String) -> Result<Ack> {
    let (conversation, _) = own_conversation(cx, &named)?;
    cx.leave(conversation.room());
    confirm(
        cx,
        "left-conversation",
        &json!({ "conversationId": conversation.id }),
    )
}

/// The room of something in a course. A quiz has one for each user.
fn room_of(cx: &Cx, content: Content, id: &Id) -> Result<String> {
    Ok(match content {
        Content::Quiz => format!("quiz:{id}:{}", cx.user()?),
        _ => content.key(id.as_str()),
    })
}

fn join(cx: &mut Cx, content: Content, id: &Id) -> Result<Ack> {
    require_content(cx, content, id)?;
    let room = room_of(cx, content, id)?;
    cx.join(room);
    let name = content.name();
    confirm(
        cx,
        &format!("joined-{name}"),
        &json!({ format!("{name}Id"): id }),
    )
}

fn leave(cx: &mut Cx, content: Content, id: &Id) -> Result<Ack> {
    let room = room_of(cx, content, id)?;
    cx.leave(room);
    let name = content.name();
    confirm(
        cx,
        &format!("left-{name}"),
        &json!({ format!("{name}Id"): id }),
    )
}

pub(crate) fn join_thread(cx: &mut Cx, id: Id) -> Result<Ack> {
    join(cx, Content::Thread, &id)
}

pub(crate) fn leave_thread(cx: &mut Cx, id: Id) -> Result<Ack> {
    leave(cx, Content::Thread, &id)
}

pub(crate) fn join_lesson(cx: &mut Cx, id: Id) -> Result<Ack> {
    join(cx, Content::Lesson, &id)
}

pub(crate) fn leave_lesson(cx: &mut Cx, id: Id) -> Result<Ack> {
    leave(cx, Content::Lesson, &id)
}

pub(crate) fn join_quiz(cx: &mut Cx, id: Id) -> Result<Ack> {
    join(cx, Content::Quiz, &id)
}

pub(crate) fn leave_quiz(cx: &mut Cx, id: Id) -> Result<Ack> {
    leave(cx, Content::Quiz, &id)
}
