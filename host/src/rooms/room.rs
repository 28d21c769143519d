//! One room.

use crate::{
    core::names::{ConnectionId, RoomName, UserId},
    ports::Outbound,
};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    sync::Arc,
};

/// Who is in it.
#[derive(Default)]
pub(super) struct Room {
    pub(super) members: BTreeMap<ConnectionId, UserId>,
    pub(super) users: BTreeMap<UserId, Presences>,
    /// Who types, by how many connections.
    pub(super) typing: BTreeMap<UserId, u32>,
    /// Those of the members that are this node's, and how to reach them.
    pub(super) here: BTreeMap<ConnectionId, Arc<dyn Outbound>>,
}

/// By what a user is in a room.
#[derive(Default)]
pub(super) struct Presences {
    pub(super) members: u32,
    /// Connections that have ended.
    pub(super) lingering: BTreeSet<ConnectionId>,
}

impl Presences {
    pub(super) fn is_none(&self) -> bool {
        self.members == 0 && self.lingering.is_empty()
    }
}

impl Room {
    /// Returns whether the user of a connection that has ended lingers.
    pub(super) fn end(
        &mut self,
        connection: ConnectionId,
        user: &UserId,
        room: &RoomName,
        may_leave: bool,
    ) -> bool {
        if let Some(outbound) = self.here.remove(&connection) {
            outbound.exit(room);
        }
        if self.members.remove(&connection).is_none() {
            return false;
        }
        let Some(presences) = self.users.get_mut(user) else {
            return false;
        };
        presences.members = presences.members.saturating_sub(1);
        let lingers = !may_leave || presences.members == 0;
        if lingers {
            presences.lingering.insert(connection);
        }
        lingers
    }
}

/// Takes one away; returns whether it was the last.
pub(super) fn count_down(counts: &mut BTreeMap<UserId, u32>, user: &UserId) -> bool {
    let btree_map::Entry::Occupied(mut count) = counts.entry(user.clone()) else {
        return true;
    };
    *count.get_mut() -= 1;
    let last = *count.get() == 0;
    if last {
        count.remove();
    }
    last
}
