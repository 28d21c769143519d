//! Who is in which room: of this node's connections the truth, of other nodes' what these have told.
//! So whether a join is a user's first, and who is in a room, holds for all nodes; frames are
//! delivered to this node's only ([`Rooms::emit`]).
//!
//! A connection can be in rooms from [`Rooms::add`] until [`Rooms::end`]; a join before or after
//! is refused, so a join that races with a disconnect leaves nothing behind. The host's own room of
//! each user, `user:{id}`, is kept here like any other.
//!
//! A user whose last connection in a room has ended lingers there until [`Rooms::remove`]: still one of
//! its users, so that who comes back in time has never left.

mod delivery;
mod key;
mod queries;
mod room;

pub use self::delivery::Sent;

use self::{
    key::RoomKey,
    room::{Room, count_down},
};
use crate::{
    core::{
        event::Identity,
        names::{ConnectionId, Namespace, RoomName, UserId},
    },
    ports::{Journal, Moved, Outbound},
};
use ahash::RandomState;
use dashmap::{DashMap, mapref::entry::Entry};
use std::{collections::BTreeSet, sync::Arc};

/// What a join or a leave changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The connection was (or was not) in the room already.
    None,
    /// The connection joined; `first` when no other of its user was there.
    Joined {
        /// Whether it is the first of its user.
        first: bool,
    },
    /// The connection left; `last` when no other of its user remains.
    Left {
        /// Whether it was the last of its user.
        last: bool,
        /// Whether its user typed there, and does not any more.
        stopped: bool,
    },
    /// The connection is in as many rooms as it may be.
    TooMany,
    /// The connection is not there (any more).
    Gone,
}

/// A room that a connection was in when it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The room.
    pub room: RoomName,
    /// Whether it was the last of its user there.
    pub last: bool,
    /// Whether its user lingers there.
    pub lingers: bool,
    /// Whether its user typed there, and does not any more.
    pub stopped: bool,
}

struct Membership {
    namespace: Namespace,
    identity: Arc<Identity>,
    /// How to reach it, if it is of this node.
    outbound: Option<Arc<dyn Outbound>>,
    ended: bool,
    rooms: BTreeSet<RoomName>,
    /// Those of the rooms in which it types.
    typing: BTreeSet<RoomName>,
}

impl Membership {
    fn is_here(&self) -> bool {
        self.outbound.is_some()
    }
}

/// What has gone from a room with a connection.
struct Out {
    /// Whether it was the last of its user.
    last: bool,
    /// Whether its user typed there, and does not any more.
    stopped: bool,
    /// Connections by which its user lingered there, and does not any more.
    lingered: BTreeSet<ConnectionId>,
}

/// Rooms, in all namespaces.
pub struct Rooms {
    per_connection: usize,
    journal: Arc<dyn Journal>,
    rooms: DashMap<RoomKey, Room, RandomState>,
    connections: DashMap<ConnectionId, Membership, RandomState>,
}

impl Rooms {
    /// Returns no rooms. A connection may be in `per_connection` of them, not counting its user's. What
    /// becomes of this node's is noted in the journal.
    #[must_use]
    pub fn new(per_connection: usize, journal: Arc<dyn Journal>) -> Self {
        Self {
            // One more for the room of its user.
            per_connection: per_connection + 1,
            journal,
            rooms: DashMap::default(),
            connections: DashMap::default(),
        }
    }

    /// Lets a connection of this node be in rooms, and puts it into the room of its user. One that is
    /// there already may come with a renewed identity, of the same user.
    pub fn add(
        &self,
        namespace: &Namespace,
        connection: ConnectionId,
        identity: &Arc<Identity>,
        outbound: &Arc<dyn Outbound>,
    ) {
        if self.enter(namespace, connection, identity, Some(outbound)) {
            self.join(namespace, connection, &RoomName::of_user(&identity.user));
        }
    }

    /// The same for a connection of another node.
    pub fn add_far(
        &self,
        namespace: &Namespace,
        connection: ConnectionId,
        identity: &Arc<Identity>,
    ) {
        self.enter(namespace, connection, identity, None);
    }

    fn enter(
        &self,
        namespace: &Namespace,
        connection: ConnectionId,
        identity: &Arc<Identity>,
        outbound: Option<&Arc<dyn Outbound>>,
    ) -> bool {
        let entry = self.connections.entry(connection);
        if outbound.is_some() {
            // Under the entry's lock, so that nothing is noted of it before this.
            self.journal.note(Moved::Opened {
                connection,
                namespace: namespace.clone(),
                identity: identity.clone(),
            });
        }
        match entry {
            Entry::Occupied(mut entry) => {
                entry.get_mut().identity = identity.clone();
                false
            }
            Entry::Vacant(entry) => {
                entry.insert(Membership {
                    namespace: namespace.clone(),
                    identity: identity.clone(),
                    outbound: outbound.cloned(),
                    ended: false,
                    rooms: BTreeSet::new(),
                    typing: BTreeSet::new(),
                });
                true
            }
        }
    }

    /// Takes note that a connection has ended. Where others of its user are it has left at once; in the
    /// other rooms its user lingers, as well as everywhere if it was another node's, which tells. Returns
    /// the rooms that it was in, sorted. The room of its user is not among them.
    pub fn end(&self, namespace: &Namespace, connection: ConnectionId) -> Vec<Exit> {
        let Some(mut membership) = self.connections.get_mut(&connection) else {
            return Vec::new();
        };
        if std::mem::replace(&mut membership.ended, true) {
            return Vec::new();
        }
        let typing = std::mem::take(&mut membership.typing);
        let user = membership.identity.user.clone();
        self.journal.touched(&user);
        let own = RoomName::of_user(&user);
        let mut exits = Vec::new();
        for room in membership.rooms.clone() {
            let key = (namespace.clone(), room.clone());
            let Some(mut entry) = self.rooms.get_mut(&key) else {
                continue;
            };
            let stopped = typing.contains(&room) && count_down(&mut entry.typing, &user);
            let lingers = entry.end(connection, &user, &room, membership.is_here());
            drop(entry);
            if !lingers {
                membership.rooms.remove(&room);
                self.journal.note(Moved::Left {
                    connection,
                    room: room.clone(),
                    last: false,
                });
            }
            if room != own {
                exits.push(Exit {
                    room,
                    last: false,
                    lingers,
                    stopped,
                });
            }
        }
        exits
    }

    /// Tells other nodes that a connection has ended, and that plugins have been told so.
    pub fn tell_end(&self, connection: ConnectionId, left: Vec<RoomName>) {
        self.journal.note(Moved::Ended { connection, left });
    }

    /// Takes a connection out of all rooms for good; returns those that it was in or lingered in, sorted.
    /// The room of its user is not among them.
    pub fn remove(&self, namespace: &Namespace, connection: ConnectionId) -> Vec<Exit> {
        let Some((_, membership)) = self.connections.remove(&connection) else {
            return Vec::new();
        };
        let user = &membership.identity.user;
        let own = RoomName::of_user(user);
        let exits = membership.rooms.into_iter().filter_map(|room| {
            let types = membership.typing.contains(&room);
            let out = self.take_out(namespace, connection, user, &room, types, false)?;
            (room != own).then_some(Exit {
                room,
                last: out.last,
                lingers: false,
                stopped: out.stopped,
            })
        });
        exits.collect()
    }

    /// Takes note that all has been told of the end of a connection, and of which rooms its user has left
    /// by it. Until then other nodes know of it,
    /// and one of them tells of its end if this one cannot any more.
    pub fn close(&self, connection: ConnectionId, last: Vec<RoomName>) {
        self.journal.note(Moved::Closed { connection, last });
    }

    /// Puts a connection into a room.
    pub fn join(&self, namespace: &Namespace, connection: ConnectionId, room: &RoomName) -> Change {
        // The entry of the connection stays locked until the room knows it; `remove` waits for it.
        // Everybody locks in this order.
        let Some(mut membership) = self.connections.get_mut(&connection) else {
            return Change::Gone;
        };
        if membership.ended {
            return Change::Gone;
        }
        if membership.rooms.contains(room) {
            return Change::None;
        }
        // Those of other nodes are counted there.
        if membership.is_here() && membership.rooms.len() >= self.per_connection {
            return Change::TooMany;
        }
        membership.rooms.insert(room.clone());
        let user = &membership.identity.user;
        let mut entry = self
            .rooms
            .entry((namespace.clone(), room.clone()))
            .or_default();
        entry.members.insert(connection, user.clone());
        if let Some(outbound) = &membership.outbound {
            // Whoever is told that it joined hears what is sent to the room from then on.
            outbound.enter(room);
            entry.here.insert(connection, outbound.clone());
            let room = room.clone();
            self.journal.note(Moved::Joined { connection, room });
        }
        let presences = entry.users.entry(user.clone()).or_default();
        let first = presences.is_none();
        presences.members += 1;
        self.journal.touched(user);
        Change::Joined { first }
    }

    /// Takes a connection out of a room; its user lingers there no more when it was the last.
    pub fn leave(
        &self,
        namespace: &Namespace,
        connection: ConnectionId,
        room: &RoomName,
    ) -> Change {
        let Some(mut membership) = self.connections.get_mut(&connection) else {
            return Change::Gone;
        };
        if membership.ended {
            return Change::Gone;
        }
        if !membership.rooms.remove(room) {
            return Change::None;
        }
        let types = membership.typing.remove(room);
        let user = &membership.identity.user;
        let out = self.take_out(namespace, connection, user, room, types, true);
        if membership.is_here() {
            self.journal.note(Moved::Left {
                connection,
                room: room.clone(),
                last: out.as_ref().is_some_and(|out| out.last),
            });
        }
        drop(membership);
        let Some(out) = out else {
            return Change::None;
        };
        for ended in out.lingered {
            if let Some(mut membership) = self.connections.get_mut(&ended) {
                membership.rooms.remove(room);
            }
        }
        Change::Left {
            last: out.last,
            stopped: out.stopped,
        }
    }

    /// Takes note that by a connection that has ended its user does not linger in a room any more.
    pub fn stop_lingering(&self, namespace: &Namespace, connection: ConnectionId, room: &RoomName) {
        if let Some(mut membership) = self.connections.get_mut(&connection)
            && membership.ended
            && membership.rooms.remove(room)
        {
            let user = &membership.identity.user;
            self.take_out(namespace, connection, user, room, false, false);
        }
    }

    /// Notes that a connection types in a room that it is in, or does not. Returns whether its user
    /// has begun to, or has stopped: others of the user's connections may type there as well.
    pub fn set_typing(
        &self,
        namespace: &Namespace,
        connection: ConnectionId,
        room: &RoomName,
        typing: bool,
    ) -> bool {
        let Some(mut membership) = self.connections.get_mut(&connection) else {
            return false;
        };
        let changes = match typing {
            true => {
                let may = !membership.ended && membership.rooms.contains(room);
                may && membership.typing.insert(room.clone())
            }
            false => membership.typing.remove(room),
        };
        if !changes {
            return false;
        }
        if membership.is_here() {
            self.journal.note(Moved::Typing {
                connection,
                room: room.clone(),
                typing,
            });
        }
        let user = &membership.identity.user;
        let key = (namespace.clone(), room.clone());
        let Some(mut entry) = self.rooms.get_mut(&key) else {
            return false;
        };
        self.journal.touched(user);
        if typing {
            let count = entry.typing.entry(user.clone()).or_insert(0);
            *count += 1;
            return *count == 1;
        }
        count_down(&mut entry.typing, user)
    }

    /// Takes a connection out of a room, or its lingering there. By who leaves on purpose its user's
    /// lingering ends, too.
    fn take_out(
        &self,
        namespace: &Namespace,
        connection: ConnectionId,
        user: &UserId,
        room: &RoomName,
        types: bool,
        on_purpose: bool,
    ) -> Option<Out> {
        let Entry::Occupied(mut entry) = self.rooms.entry((namespace.clone(), room.clone())) else {
            return None;
        };
        let found = entry.get_mut();
        if let Some(outbound) = found.here.remove(&connection) {
            outbound.exit(room);
        }
        let was_member = found.members.remove(&connection).is_some();
        let stopped = types && count_down(&mut found.typing, user);
        let presences = found.users.get_mut(user)?;
        match was_member {
            true => presences.members = presences.members.saturating_sub(1),
            // Its user has left on purpose since.
            false if !presences.lingering.remove(&connection) => return None,
            false => {}
        }
        let lingered = match on_purpose && presences.members == 0 {
            true => std::mem::take(&mut presences.lingering),
            false => BTreeSet::new(),
        };
        let last = presences.is_none();
        if last {
            found.users.remove(user);
        }
        self.journal.touched(user);
        if found.users.is_empty() {
            entry.remove();
        }
        Some(Out {
            last,
            stopped,
            lingered,
        })
    }
}

#[cfg(test)]
mod tests;
