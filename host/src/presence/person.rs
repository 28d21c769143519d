//! What is known of one user.

use super::Places;
use crate::{
    core::{
        names::ConnectionId,
        presence::{Seen, Status},
    },
    ports::{Choice, Dated},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A change that plugins are told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What the user is seen as now.
    pub seen: Seen,
    /// What plugins were told before.
    pub before: Status,
    /// Rooms that the user was in until the last connection ended.
    pub left: Places,
    /// Whether others have heard of it by the user's joins.
    pub has_just_come: bool,
}

/// What is known of a user to be told to a node that comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Known {
    /// As what the user wants to be seen.
    pub choice: Choice,
    /// What plugins were told.
    pub announced: Dated<Status>,
}

/// A connection of the user.
#[derive(Default)]
pub(super) struct Device {
    /// Since when the connection is idle; none when it is active.
    pub(super) idle_since_ms: Option<u64>,
    /// Rooms that it left at once when it ended, since others of the user were there.
    pub(super) left: Places,
}

/// All of it.
#[derive(Default)]
pub(super) struct Person {
    pub(super) devices: BTreeMap<ConnectionId, Device>,
    pub(super) known: Known,
    /// When the user was active last, of what has ended.
    pub(super) seen_ms: Option<u64>,
    /// What was left with connections that ended, until it is told.
    pub(super) left: Places,
    /// Whether the user has just come, and is in no room of which others have not heard by the join.
    pub(super) came: bool,
    /// Whether plugins are being told.
    pub(super) telling: bool,
}

impl Person {
    /// Returns the state by the rule of the page above.
    pub(super) fn status(&self) -> Status {
        if self.devices.is_empty() {
            return Status::Offline;
        }
        if let Some(chosen) = self.known.choice.what {
            return chosen;
        }
        match self.is_active() {
            true => Status::Online,
            false => Status::Away,
        }
    }

    fn is_active(&self) -> bool {
        let mut devices = self.devices.values();
        devices.any(|device| device.idle_since_ms.is_none())
    }

    /// Returns what the user is seen as.
    pub(super) fn seen(&self, now_ms: u64) -> Seen {
        let status = self.status();
        let idle = self.devices.values().map(|device| device.idle_since_ms);
        let active = || match self.is_active() {
            true => Some(now_ms),
            false => idle.max().flatten(),
        };
        let at_ms = match (status, self.known.choice.what) {
            (Status::Offline, Some(Status::Offline)) if !self.devices.is_empty() => {
                Some(self.known.choice.at_ms)
            }
            (Status::Offline, _) => self.seen_ms,
            _ => active(),
        };
        Seen { status, at_ms }
    }

    /// Takes note that a connection is idle, or is not; returns whether that was news.
    pub(super) fn turn_idle(
        &mut self,
        connection: ConnectionId,
        since_ms: Option<u64>,
        is_news: impl FnOnce(Option<u64>) -> bool,
    ) -> bool {
        let Some(device) = self.devices.get_mut(&connection) else {
            return false;
        };
        if !is_news(device.idle_since_ms) {
            return false;
        }
        if device.idle_since_ms.is_some() != since_ms.is_some() {
            self.came = false;
        }
        device.idle_since_ms = since_ms;
        true
    }

    /// Tells whether nothing is to be remembered of the user.
    pub(super) fn is_nobody(&self) -> bool {
        let is_told = self.known.announced.what == Status::Offline && self.left.is_empty();
        self.devices.is_empty() && is_told && !self.telling
    }
}

/// Returns what is to be told of a person by this node, if anything.
pub(super) fn change_of(person: &mut Person, now_ms: u64, is_ours: bool) -> Option<Change> {
    let seen = person.seen(now_ms);
    let before = person.known.announced.what;
    if seen.status != Status::Offline {
        // Who has come back is in rooms again.
        person.left.clear();
    }
    if before != Status::Offline {
        person.came = false;
    }
    // Others have heard of the joins of who went before anything was told.
    let has_gone = person.devices.is_empty() && !person.left.is_empty();
    let is_news = seen.status != before || has_gone;
    if !is_news || person.telling || !is_ours {
        return None;
    }
    person.telling = true;
    let came = std::mem::take(&mut person.came);
    Some(Change {
        seen,
        before,
        left: std::mem::take(&mut person.left),
        has_just_come: came && seen.status == Status::Online,
    })
}
