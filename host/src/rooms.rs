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
mod room;

pub use self::delivery::Sent;

use self::{
    key::{AsKey, RoomKey},
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
use std::{collections::BTreeSet, ops::Bound, sync::Arc};

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
            let (last, stopped) =
                self.take_out(namespace, connection, user, &room, types, false)?;
            (room != own).then_some(Exit {
                room,
                last,
                lingers: false,
                stopped,
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
        let left = self.take_out(namespace, connection, user, room, types, true);
        if membership.is_here() {
            self.journal.note(Moved::Left {
                connection,
                room: room.clone(),
                last: left.is_some_and(|(last, _)| last),
            });
        }
        match left {
            Some((last, stopped)) => Change::Left { last, stopped },
            None => Change::None,
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

    /// Returns who types in a room, in order of their ids.
    #[must_use]
    pub fn typing(&self, namespace: &Namespace, room: &RoomName) -> Vec<UserId> {
        self.with_room(namespace, room, |room| {
            room.typing.keys().cloned().collect()
        })
    }

    /// Tells whether a user types in a room.
    #[must_use]
    pub fn types(&self, namespace: &Namespace, room: &RoomName, user: &UserId) -> bool {
        self.with_room(namespace, room, |room| room.typing.contains_key(user))
    }

    /// Returns whether it was the last of its user, and whether its user has stopped typing. By who
    /// leaves on purpose its user's lingering ends, too.
    fn take_out(
        &self,
        namespace: &Namespace,
        connection: ConnectionId,
        user: &UserId,
        room: &RoomName,
        types: bool,
        on_purpose: bool,
    ) -> Option<(bool, bool)> {
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
        if on_purpose && presences.members == 0 {
            presences.lingering.clear();
        }
        let last = presences.is_none();
        if last {
            found.users.remove(user);
        }
        self.journal.touched(user);
        if found.users.is_empty() {
            entry.remove();
        }
        Some((last, stopped))
    }

    /// Returns how many more rooms a connection can join.
    #[must_use]
    pub fn capacity_left(&self, connection: ConnectionId) -> usize {
        self.connections.get(&connection).map_or(0, |membership| {
            self.per_connection.saturating_sub(membership.rooms.len())
        })
    }

    /// Returns this node's connections in a room, in order of their ids.
    #[must_use]
    pub fn members_here(&self, namespace: &Namespace, room: &RoomName) -> Vec<ConnectionId> {
        self.with_room(namespace, room, |room| room.here.keys().copied().collect())
    }

    /// Tells whether any connection of this node is in a room.
    #[must_use]
    pub fn is_in_use_here(&self, namespace: &Namespace, room: &RoomName) -> bool {
        self.with_room(namespace, room, |room| !room.here.is_empty())
    }

    /// Returns a page of the connections in a room with their users, in order of their ids.
    #[must_use]
    pub fn members_page(
        &self,
        namespace: &Namespace,
        room: &RoomName,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Vec<(ConnectionId, UserId)> {
        self.with_room(namespace, room, |room| {
            room.members
                .range((
                    after.map_or(Bound::Unbounded, Bound::Excluded),
                    Bound::Unbounded,
                ))
                .take(limit)
                .map(|(id, user)| (*id, user.clone()))
                .collect()
        })
    }

    /// Returns a page of the different users in a room, those who linger among them, in order of their
    /// ids.
    #[must_use]
    pub fn users_page(
        &self,
        namespace: &Namespace,
        room: &RoomName,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<UserId> {
        self.with_room(namespace, room, |room| {
            room.users
                .range::<str, _>((
                    after.map_or(Bound::Unbounded, Bound::Excluded),
                    Bound::Unbounded,
                ))
                .take(limit)
                .map(|(user, _)| user.clone())
                .collect()
        })
    }

    /// Returns how many different users are in a room, counting those who linger.
    #[must_use]
    pub fn count_users(&self, namespace: &Namespace, room: &RoomName) -> usize {
        self.with_room(namespace, room, |room| room.users.len())
    }

    /// Tells whether any connection of a user is in a room, or the user lingers there.
    #[must_use]
    pub fn has_user(&self, namespace: &Namespace, room: &RoomName, user: &UserId) -> bool {
        self.with_room(namespace, room, |room| room.users.contains_key(user))
    }

    /// Returns whose connection of a namespace this is, none where it is not there or has ended.
    #[must_use]
    pub fn identity(
        &self,
        namespace: &Namespace,
        connection: ConnectionId,
    ) -> Option<Arc<Identity>> {
        let membership = self.connections.get(&connection)?;
        (membership.namespace == *namespace && !membership.ended)
            .then(|| membership.identity.clone())
    }

    /// Returns whose connection this is or was, and whether it has ended.
    #[must_use]
    pub fn whose(&self, connection: ConnectionId) -> Option<(Arc<Identity>, bool)> {
        let membership = self.connections.get(&connection)?;
        Some((membership.identity.clone(), membership.ended))
    }

    /// Returns whose connection this is and where, none where it is not there or has ended.
    #[must_use]
    pub fn shown(
        &self,
        connection: ConnectionId,
    ) -> Option<(Namespace, Arc<Identity>, BTreeSet<RoomName>)> {
        let membership = self.connections.get(&connection)?;
        (!membership.ended).then(|| {
            let (namespace, identity) = (&membership.namespace, &membership.identity);
            (
                namespace.clone(),
                identity.clone(),
                membership.rooms.clone(),
            )
        })
    }

    /// Returns where a connection is or lingers.
    #[must_use]
    pub fn places(&self, connection: ConnectionId) -> BTreeSet<(Namespace, RoomName)> {
        let membership = self.connections.get(&connection);
        let all = membership.iter().flat_map(|membership| {
            let rooms = membership.rooms.iter();
            rooms.map(|room| (membership.namespace.clone(), room.clone()))
        });
        all.collect()
    }

    /// Returns the connections of a user, in order of their ids.
    #[must_use]
    pub fn of_user(&self, namespace: &Namespace, user: &UserId) -> Vec<ConnectionId> {
        let room = RoomName::of_user(user);
        self.with_room(namespace, &room, |room| {
            room.members.keys().copied().collect()
        })
    }

    /// Tells whether a connection is or lingers in a room.
    #[must_use]
    pub fn has_connection(&self, connection: ConnectionId, room: &RoomName) -> bool {
        self.connections
            .get(&connection)
            .is_some_and(|membership| membership.rooms.contains(room))
    }

    /// Returns the rooms that a connection is or lingers in, sorted, its user's among them.
    #[must_use]
    pub fn of_connection(&self, connection: ConnectionId) -> Vec<RoomName> {
        self.connections
            .get(&connection)
            .map(|membership| membership.rooms.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// Returns the rooms of a namespace that connections of this node are in, those of users among
    /// them.
    #[must_use]
    pub fn all_here(&self, namespace: &Namespace) -> BTreeSet<RoomName> {
        self.rooms
            .iter()
            .filter(|entry| entry.key().0 == *namespace && !entry.value().here.is_empty())
            .map(|entry| entry.key().1.clone())
            .collect()
    }

    /// Returns how many rooms there are, not counting those of users.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rooms
            .iter()
            .filter(|entry| entry.key().1.prefix() != crate::core::names::USER_PREFIX)
            .count()
    }

    /// Tells whether there is no room but those of users.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn with_room<T: Default>(
        &self,
        namespace: &Namespace,
        room: &RoomName,
        read: impl FnOnce(&Room) -> T,
    ) -> T {
        self.rooms
            .get(&(namespace, room) as &dyn AsKey)
            .map(|entry| read(entry.value()))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
