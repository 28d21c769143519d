//! Which conversations there are, who is in them, and who has blocked whom.
//!
//! | partition | key | value |
//! |---|---|---|
//! | `directory` | `conversation:{id}` | [`Conversation`] |
//! | | `token:{token}` | the id of the conversation whose messages have ids that end so |
//! | | `of:{user}:{id}` | `true`: the user is in the conversation |
//! | | `apart:{user}:{other}` | which of the two has blocked the other; the same at `apart:{other}:{user}` |
//!
//! Only backends change it, and seldom, so that one partition keeps all of it consistent.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use switchboard_plugin::{Cx, Error, Id, Kv, Result};

/// Members of a conversation: its record must fit into one value, and news of it into one event.
pub(crate) const MEMBERS: usize = 400;

/// Conversations that are visited in one event; see [`visit`].
const VISITED: u32 = 150;

/// Users from whom one is hidden by name; see [`Hidden`].
const HIDDEN: u32 = 300;

/// The digits at the end of a message's id that say in which conversation it is.
const TOKEN: u64 = 0xffff_ffff_ffff;

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Conversation {
    pub(crate) id: Id,
    pub(crate) token: String,
    /// Who is in it, and the position of the last message before they came.
    pub(crate) members: BTreeMap<Id, u64>,
}

fn directory(cx: &Cx) -> Kv {
    cx.kv("directory")
}

fn conversation_key(id: &Id) -> String {
    format!("conversation:{id}")
}

fn token_key(token: &str) -> String {
    format!("token:{token}")
}

fn of_key(user: &Id, conversation: &Id) -> String {
    format!("of:{user}:{conversation}")
}

impl Conversation {
    pub(crate) fn find(cx: &Cx, id: &Id) -> Result<Option<Self>> {
        Ok(directory(cx).get(conversation_key(id))?)
    }

    pub(crate) fn get(cx: &Cx, id: &Id) -> Result<Self> {
        Self::find(cx, id)?
            .ok_or_else(|| Error::not_found(format!("there is no conversation `{id}`")))
    }

    /// Returns a conversation that a user must be in.
    pub(crate) fn of_member(cx: &Cx, id: &Id, user: &Id) -> Result<Self> {
        let conversation = Self::get(cx, id)?;
        conversation.require_member(user)?;
        Ok(conversation)
    }

    /// Returns the conversation to which the id of a message belongs.
    pub(crate) fn of_message(cx: &Cx, message: &Id) -> Result<Option<Self>> {
        let token = message.as_str().rsplit('-').next().unwrap_or_default();
        match directory(cx).get(token_key(token))? {
            Some(id) => Self::find(cx, &id),
            None => Ok(None),
        }
    }

    pub(crate) fn create(cx: &Cx, id: Id, members: impl IntoIterator<Item = Id>) -> Result<Self> {
        let conversation = Self {
            token: free_token(cx)?,
            id,
            members: members.into_iter().map(|user| (user, 0)).collect(),
        };
        directory(cx).set(token_key(&conversation.token), &conversation.id)?;
        for user in conversation.members.keys() {
            directory(cx).set(of_key(user, &conversation.id), &true)?;
        }
        conversation.keep(cx)?;
        Ok(conversation)
    }

    fn keep(&self, cx: &Cx) -> Result<()> {
        Ok(directory(cx).set(conversation_key(&self.id), self)?)
    }

    /// Adds a member, for whom what was said up to a position is not new.
    pub(crate) fn add(mut self, cx: &Cx, user: Id, since: u64) -> Result<()> {
        directory(cx).set(of_key(&user, &self.id), &true)?;
        self.members.insert(user, since);
        self.keep(cx)
    }

    pub(crate) fn remove(mut self, cx: &Cx, user: &Id) -> Result<()> {
        directory(cx).delete(of_key(user, &self.id))?;
        self.members.remove(user);
        self.keep(cx)
    }

    /// Returns the room that connections join, which is also the name of the partition.
    pub(crate) fn room(&self) -> String {
        room(&self.id)
    }

    pub(crate) fn require_member(&self, user: &Id) -> Result<()> {
        if self.members.contains_key(user) {
            return Ok(());
        }
        let id = &self.id;
        Err(Error::forbidden(format!(
            "the conversation `{id}` is for its members"
        )))
    }

    /// Refuses to say something in a conversation of two who are apart.
    pub(crate) fn require_heard(&self, cx: &Cx, user: &Id) -> Result<()> {
        let mut others = self.members.keys().filter(|member| *member != user);
        match (others.next(), others.next()) {
            (Some(other), None) => require_not_apart(cx, user, other),
            _ => Ok(()),
        }
    }
}

pub(crate) fn room(conversation: &Id) -> String {
    format!("chat:{conversation}")
}

/// Draws a token that no conversation has.
fn free_token(cx: &Cx) -> Result<String> {
    let drawn = cx.new_id();
    let drawn = drawn.rsplit('-').next().unwrap_or_default();
    let mut number = u64::from_str_radix(drawn, 16).unwrap_or_default();
    loop {
        let token = format!("{number:012x}");
        if directory(cx).get::<Id>(token_key(&token))?.is_none() {
            return Ok(token);
        }
        number = number.wrapping_add(1) & TOKEN;
    }
}

/// Visits the conversations of a user in order of their ids, until `enough` says so or an event can do
/// no more. Returns what to begin after in an event to follow, none when all have been visited.
pub(crate) fn visit(
    cx: &Cx,
    user: &Id,
    after: Option<&str>,
    mut enough: impl FnMut(Conversation) -> Result<bool>,
) -> Result<Option<String>> {
    let prefix = format!("of:{user}:");
    let page = directory(cx).list::<bool>(&prefix, after, VISITED)?;
    let is_last = page.len() < VISITED as usize;
    let mut visited = None;
    for (key, _) in page {
        let id = Id::new(key.strip_prefix(&prefix).unwrap_or_default())?;
        visited = Some(key);
        if let Some(conversation) = Conversation::find(cx, &id)?
            && enough(conversation)?
        {
            return Ok(visited);
        }
    }
    Ok(if is_last { None } else { visited })
}

// ---- who has blocked whom ----------------------------------------------------------------------

fn apart_key(user: &Id, other: &Id) -> String {
    format!("apart:{user}:{other}")
}

/// A user blocks another one, or does not any more.
pub(crate) fn set_blocked(cx: &Cx, user: &Id, other: &Id, blocked: bool) -> Result<()> {
    let directory = directory(cx);
    let mut by: BTreeSet<Id> = directory.get(apart_key(user, other))?.unwrap_or_default();
    match blocked {
        true => by.insert(user.clone()),
        false => by.remove(user),
    };
    for key in [apart_key(user, other), apart_key(other, user)] {
        match by.is_empty() {
            true => directory.delete(key)?,
            false => directory.set(key, &by)?,
        }
    }
    Ok(())
}

/// Refuses what would pass between two users of whom one has blocked the other.
pub(crate) fn require_not_apart(cx: &Cx, user: &Id, other: &Id) -> Result<()> {
    let by = directory(cx).get::<BTreeSet<Id>>(apart_key(user, other))?;
    if by.is_none() {
        return Ok(());
    }
    Err(Error::forbidden(format!(
        "nothing is passed on between you and `{other}`"
    )))
}

/// From whom a user's presence, typing and receipts are hidden, and theirs from the user: who has
/// blocked them, and whom they have. Whoever is apart from very many is hidden from everybody, so that
/// an event can bear to look.
pub(crate) struct Hidden(Option<BTreeSet<Id>>);

impl Hidden {
    pub(crate) fn from(cx: &Cx, user: &Id) -> Result<Self> {
        let prefix = format!("apart:{user}:");
        let page = directory(cx).list::<BTreeSet<Id>>(&prefix, None, HIDDEN)?;
        if page.len() == HIDDEN as usize {
            return Ok(Self(None));
        }
        let others = page.iter().filter_map(|(key, _)| key.strip_prefix(&prefix));
        Ok(Self(Some(others.map(Id::new).collect::<Result<_>>()?)))
    }

    pub(crate) fn hides(&self, other: &Id) -> bool {
        self.0.as_ref().is_none_or(|others| others.contains(other))
    }
}
