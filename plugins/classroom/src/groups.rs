//! Educators putting participants into groups.
//!
//! A group has a room, which its users' connections in the session are in. Whoever joins at the same
//! time as groups are assigned may be put into the wrong one, and is taken out again once the join
//! has taken effect ([`check_again`]).

use crate::{
    participants,
    session::{PEOPLE, room, state, taught},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use switchboard_plugin::{Ack, Cx, Error, Id, Result};

const GROUPS: &str = "groups";

/// How many groups a session may have.
const MOST: usize = 100;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Group {
    name: Id,
    user_ids: Vec<Id>,
}

impl Group {
    pub(crate) fn room(&self, code: &Id) -> String {
        format!("{}{}", rooms_of(code), self.name)
    }
}

/// Returns what the names of the rooms of a session's groups begin with.
pub(crate) fn rooms_of(code: &Id) -> String {
    format!("session-group:{code}:")
}

pub(crate) fn of(cx: &Cx, code: &Id) -> Result<Vec<Group>> {
    Ok(state(cx, code).get(GROUPS)?.unwrap_or_default())
}

pub(crate) fn of_user<'a>(groups: &'a [Group], user: &Id) -> Option<&'a Group> {
    groups.iter().find(|group| group.user_ids.contains(user))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Assign {
    session_code: Id,
    groups: Vec<Group>,
}

/// Handles `assignGroups`.
pub(crate) fn assign(cx: &mut Cx, assign: Assign) -> Result<Ack> {
    let Assign {
        session_code: code,
        groups,
    } = assign;
    let session = taught(cx, &code)?;
    check(&groups, |user| session.admits(user))?;
    let before = of(cx, &code)?;
    for user in participants::known(cx, &code)?.keys() {
        let [from, to] = [&before, &groups].map(|groups| Some(of_user(groups, user)?.room(&code)));
        if from == to {
            continue;
        }
        if let Some(from) = from {
            cx.leave_user(user, from);
        }
        if let Some(to) = to {
            cx.join_user(user, to);
        }
    }
    state(cx, &code).set(GROUPS, &groups)?;
    cx.emit("groupsUpdated")
        .to_room(room(&code))
        .send(&json!({ "sessionCode": code, "groups": groups }))?;
    Ok(Ack::ok())
}

fn check(groups: &[Group], may_join: impl Fn(&Id) -> bool) -> Result<()> {
    let refused = |why: String| Err(Error::invalid_payload(format!("`groups`: {why}")));
    if groups.len() > MOST {
        return refused(format!("expected at most {MOST}, got {}", groups.len()));
    }
    let (mut names, mut users) = (BTreeSet::new(), BTreeSet::new());
    for group in groups {
        if !names.insert(&group.name) {
            return refused(format!("there are two groups `{}`", group.name));
        }
        for user in &group.user_ids {
            if !users.insert(user) {
                return refused(format!("the user `{user}` is named twice"));
            }
            if !may_join(user) {
                return refused(format!("the user `{user}` is not on the session's list"));
            }
        }
    }
    if users.len() > PEOPLE {
        return refused(format!(
            "expected at most {PEOPLE} users, got {}",
            users.len()
        ));
    }
    Ok(())
}

/// Handles a join of a group's room that has taken effect: for connections that are in the session, and
/// users who are in this group still.
pub(crate) fn check_again(cx: &mut Cx, joined: String) -> Result<()> {
    let code = joined.split(':').nth(1).map(Id::new).transpose()?;
    let stays = match code {
        Some(code) => {
            cx.rooms().has_connection(room(&code), cx.connection())?
                && of_user(&of(cx, &code)?, &cx.user()?)
                    .is_some_and(|group| group.room(&code) == joined)
        }
        None => false,
    };
    if !stays {
        cx.leave(joined);
    }
    Ok(())
}
