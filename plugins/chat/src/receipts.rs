//! What has been delivered to whom, and seen by whom.
//!
//! | partition | key | value |
//! |---|---|---|
//! | `chat:{id}` | `marks:{user}` | [`Marks`]: how far a member is |
//!
//! A mark says "this message and all before it". It only moves forward; what it passes is announced to
//! the authors, each once, for their latest. So a conversation has two marks a member, however much is
//! said in it.
//!
//! Delivered is what a device acknowledges, and what was missed when one connects.

use crate::{
    actor::Actor,
    channels,
    directory::{Conversation, Hidden},
    messages::{Found, Message, own_key},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};
use switchboard_plugin::{Ack, Acknowledged, Cx, Id, Result, Timer};

/// The timers that mark what was missed, and that go on announcing.
pub(crate) const MISSED: &str = "missed";
pub(crate) const RECEIPTS: &str = "receipts";

/// Messages that are looked at in one event: for their authors, and for one's own.
const ANNOUNCED: u64 = 300;
const OWN: u32 = 200;

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Delivered,
    Seen,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Seen => "seen",
        }
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) position: u64,
    pub(crate) message: Option<Id>,
}

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Marks {
    pub(crate) delivered: Mark,
    pub(crate) seen: Mark,
}

impl Marks {
    pub(crate) fn of(cx: &Cx, conversation: &Conversation, user: &Id) -> Result<Self> {
        let stored = cx.kv(conversation.room());
        Ok(stored.get(key(user))?.unwrap_or_default())
    }
}

fn key(user: &Id) -> String {
    format!("marks:{user}")
}

/// Handles `message-seen`.
pub(crate) fn seen(cx: &mut Cx, id: Id) -> Result<Ack> {
    let (user, found) = (cx.user()?, Found::get(cx, &id)?);
    advance(cx, &user, &id, found, Kind::Seen)?;
    Ok(Ack::ok())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Receipt {
    message_id: Id,
    #[serde(rename = "type")]
    kind: Kind,
}

/// Handles `message:receipt`.
pub(crate) fn told(cx: &mut Cx, actor: &Actor, receipt: Receipt) -> Result<Ack> {
    let found = Found::get(cx, &receipt.message_id)?;
    advance(cx, &actor.user, &receipt.message_id, found, receipt.kind)?;
    Ok(Ack::ok())
}

/// A device has a message, and all before it.
pub(crate) fn acknowledged(cx: &mut Cx, answer: Acknowledged) -> Result<()> {
    match answer.error {
        Some(_) => Ok(()),
        None => delivered(cx, &cx.user()?, &Id::new(answer.token)?),
    }
}

/// Has a message, and all before it, marked as delivered to a user who has connected. By a timer: a
/// transaction writes one partition, and each conversation is one. It is named by the message, so that a
/// device which has read less puts nothing in the place of another's.
pub(crate) fn missed(cx: &Cx, user: &Id, message: &Id) -> Result<()> {
    let timers = cx.timers(format!("user:{user}"));
    Ok(timers.after(
        Duration::ZERO,
        format!("{MISSED}:{message}"),
        &(user, message),
    )?)
}

pub(crate) fn deliver(cx: &mut Cx, timer: Timer<(Id, Id)>) -> Result<()> {
    let (user, message) = timer.payload;
    delivered(cx, &user, &message)
}

/// Nothing is where the user was taken out meanwhile.
fn delivered(cx: &mut Cx, user: &Id, id: &Id) -> Result<()> {
    match Found::find(cx, id)? {
        Some(found) if found.conversation.members.contains_key(user) => {
            advance(cx, user, id, found, Kind::Delivered)
        }
        _ => Ok(()),
    }
}

/// Moves a member's mark forward to a message; backwards it does not go.
fn advance(cx: &mut Cx, user: &Id, id: &Id, found: Found, kind: Kind) -> Result<()> {
    let Found {
        conversation,
        position,
        ..
    } = found;
    conversation.require_member(user)?;
    let since = conversation.members.get(user).copied().unwrap_or_default();
    let mut marks = Marks::of(cx, &conversation, user)?;
    let mark = match kind {
        Kind::Delivered => &mut marks.delivered,
        Kind::Seen => &mut marks.seen,
    };
    let from = mark.position.max(since);
    if position <= from {
        return Ok(());
    }
    *mark = Mark {
        position,
        message: Some(id.clone()),
    };
    // What is seen has been delivered; of that nobody need hear any more.
    if marks.delivered.position < marks.seen.position {
        marks.delivered = marks.seen.clone();
    }
    let stored = cx.kv(conversation.room());
    stored.set(key(user), &marks)?;
    if kind == Kind::Seen {
        let later = cx
            .history(conversation.room())
            .after::<Message>(position, OWN)?;
        let is_own = |message: &Message| message.sender_id == *user;
        let own = later
            .iter()
            .filter(|entry| entry.entry.as_ref().is_some_and(is_own));
        stored.set(own_key(user, since), &own.count())?;
    }
    let published = json!({
        "userId": user, "messageId": id, "type": kind, "conversationId": conversation.id,
    });
    channels::publish(cx, channels::RECEIPT, &published)?;
    let passed = Passed {
        conversation: conversation.id.clone(),
        user: user.clone(),
        kind,
        from,
        to: position,
        told: BTreeSet::new(),
    };
    announce(cx, &conversation, passed)
}

/// What a mark has passed, as far as its authors have not been told.
#[derive(Serialize, Deserialize)]
pub(crate) struct Passed {
    conversation: Id,
    user: Id,
    kind: Kind,
    /// The messages behind this position, up to that one.
    from: u64,
    to: u64,
    /// Whose latest has been found.
    told: BTreeSet<Id>,
}

/// Tells the authors, the newest messages first; where there are more than an event can look at, a timer
/// goes on.
fn announce(cx: &mut Cx, conversation: &Conversation, mut passed: Passed) -> Result<()> {
    let hidden = Hidden::from(cx, &passed.user)?;
    let history = cx.history(conversation.room());
    let limit = (passed.to - passed.from).min(ANNOUNCED);
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    for entry in history.before::<Message>(passed.to + 1, limit)? {
        passed.to = entry.position - 1;
        let Some(message) = entry.entry.filter(|message| !message.deleted) else {
            continue;
        };
        let author = message.sender_id;
        if author == passed.user
            || !conversation.members.contains_key(&author)
            || !passed.told.insert(author.clone())
            || hidden.hides(&author)
        {
            continue;
        }
        cx.emit("receipt")
            .to_user(&author)
            .send_args(&(message.id, &passed.user, passed.kind))?;
    }
    let others = conversation.members.len().saturating_sub(1);
    if passed.to <= passed.from || passed.told.len() >= others {
        return Ok(());
    }
    let kind = passed.kind.name();
    let name = format!("{RECEIPTS}:{kind}:{}:{}", passed.user, passed.to);
    let timers = cx.timers(conversation.room());
    Ok(timers.after(Duration::ZERO, name, &passed)?)
}

pub(crate) fn go_on(cx: &mut Cx, timer: Timer<Passed>) -> Result<()> {
    let passed = timer.payload;
    let Some(conversation) = Conversation::find(cx, &passed.conversation)? else {
        return Ok(());
    };
    // Of what has been seen by now nobody is told that it has been delivered.
    let seen = Marks::of(cx, &conversation, &passed.user)?.seen;
    if passed.kind == Kind::Delivered && seen.position >= passed.to {
        return Ok(());
    }
    announce(cx, &conversation, passed)
}
