//! Messages page by page, and what a client has missed when it connects.

use crate::{
    directory::{Conversation, Hidden, visit},
    messages::{Found, Message, own_key},
    receipts::{Marks, missed},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use switchboard_plugin::{Ack, Cx, Error, Id, Result, Timer};

/// Messages of a page, at most and where nothing is said.
const LIMIT: u32 = 200;
const DEFAULT_LIMIT: u32 = 50;

/// The timer that goes on telling what a user has missed.
pub(crate) const UNREAD: &str = "unread";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request {
    conversation_id: Id,
    /// The id of a message: those before it.
    before: Option<Id>,
    limit: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    /// The oldest first.
    messages: Vec<Message>,
    /// Whether there are older ones.
    has_more: bool,
    /// How far each member is, but for those from whom one is hidden.
    watermarks: BTreeMap<Id, Value>,
}

/// Handles `conversation-history`: the newest messages, or those before one. Pages go by position, so
/// that new messages move nothing.
pub(crate) fn page(cx: &mut Cx, request: Request) -> Result<Ack> {
    let limit = request.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=LIMIT).contains(&limit) {
        return Err(Error::invalid_payload(format!(
            "`limit`: expected 1 to {LIMIT}"
        )));
    }
    let user = cx.user()?;
    let conversation = Conversation::of_member(cx, &request.conversation_id, &user)?;
    let history = cx.history(conversation.room());
    // One more than is answered tells whether there are more.
    let mut entries = match &request.before {
        Some(id) => {
            let found = Found::get(cx, id)?;
            if found.conversation.id != conversation.id {
                return Err(Error::not_found(format!(
                    "`before`: there is no message `{id}` in the conversation"
                )));
            }
            history.before(found.position, limit + 1)?
        }
        None => history.newest(limit + 1)?,
    };
    let has_more = entries.len() > limit as usize;
    entries.truncate(limit as usize);
    let messages = entries.into_iter().rev();
    Ack::with(&Page {
        messages: messages.filter_map(|entry| entry.entry).collect(),
        has_more,
        watermarks: watermarks(cx, &conversation, &user)?,
    })
}

fn watermarks(cx: &Cx, conversation: &Conversation, own: &Id) -> Result<BTreeMap<Id, Value>> {
    let hidden = Hidden::from(cx, own)?;
    let members = conversation.members.keys();
    let shown = members.filter(|user| *user == own || !hidden.hides(user));
    shown
        .map(|user| {
            let Marks { delivered, seen } = Marks::of(cx, conversation, user)?;
            let marks = json!({ "delivered": delivered.message, "seen": seen.message });
            Ok((user.clone(), marks))
        })
        .collect()
}

// ---- on connecting -----------------------------------------------------------------------------

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Unread {
    conversation_id: Id,
    count: u64,
    last_message_id: Id,
    /// Whether the last message has not been delivered yet.
    #[serde(skip)]
    is_missed: bool,
}

/// A user whose conversations have been looked at up to a place.
#[derive(Serialize, Deserialize)]
pub(crate) struct LookedAt {
    user: Id,
    after: String,
}

pub(crate) fn connected(cx: &mut Cx) -> Result<()> {
    let user = cx.user()?;
    tell(cx, user, None)
}

pub(crate) fn go_on(cx: &mut Cx, timer: Timer<LookedAt>) -> Result<()> {
    tell(cx, timer.payload.user, Some(&timer.payload.after))
}

/// Tells of conversations with messages that have not been seen, which are delivered by that. A timer goes
/// on where a user is in more conversations than an event can look at; it has no connection, so all of the
/// user's hear the rest.
fn tell(cx: &mut Cx, user: Id, after: Option<&str>) -> Result<()> {
    let mut all = Vec::new();
    let next = visit(cx, &user, after, |conversation| {
        all.extend(unread(cx, &conversation, &user)?);
        Ok(false)
    })?;
    for unread in all {
        if unread.is_missed {
            missed(cx, &user, &unread.last_message_id)?;
        }
        let news = cx.emit("unread");
        match after {
            None => news.to_self().send(&unread)?,
            Some(_) => news.to_user(&user).send(&unread)?,
        }
    }
    if let Some(after) = next {
        let timers = cx.timers(format!("user:{user}"));
        timers.after(Duration::ZERO, UNREAD, &LookedAt { user, after })?;
    }
    Ok(())
}

/// Counts others' messages behind what a member has seen: all of them less the member's own.
fn unread(cx: &Cx, conversation: &Conversation, user: &Id) -> Result<Option<Unread>> {
    let since = conversation.members.get(user).copied().unwrap_or_default();
    let marks = Marks::of(cx, conversation, user)?;
    let seen = marks.seen.position.max(since);
    let newest = cx.history(conversation.room()).newest::<Message>(1)?;
    let Some((position, message)) = newest
        .into_iter()
        .find_map(|entry| Some((entry.position, entry.entry?)))
    else {
        return Ok(None);
    };
    let own: u64 = cx
        .kv(conversation.room())
        .get(own_key(user, since))?
        .unwrap_or_default();
    let count = position.saturating_sub(seen).saturating_sub(own);
    Ok((count > 0).then(|| Unread {
        conversation_id: conversation.id.clone(),
        count,
        last_message_id: message.id,
        is_missed: marks.delivered.position < position,
    }))
}
