//! The truth about who is in which room on this node.
//!
//! A connection can be in rooms from [`Rooms::add`] until [`Rooms::remove`]; a join before or after
//! is refused, so a join that races with a disconnect leaves nothing behind. The host's own room of
//! each user, `user:{id}`, is kept here like any other.

use crate::core::names::{ConnectionId, Namespace, RoomName, UserId};
use dashmap::{DashMap, mapref::entry::Entry};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    ops::Bound,
};

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
    },
    /// The connection is in as many rooms as it may be.
    TooMany,
    /// The connection is not there (any more).
    Gone,
}

#[derive(Default)]
struct Room {
    members: BTreeMap<ConnectionId, UserId>,
    users: BTreeMap<UserId, u32>,
}

struct Membership {
    user: UserId,
    rooms: BTreeSet<RoomName>,
}

type RoomKey = (Namespace, RoomName);

/// Rooms of this node, in all namespaces.
pub struct Rooms {
    per_connection: usize,
    rooms: DashMap<RoomKey, Room>,
    connections: DashMap<ConnectionId, Membership>,
}

impl Rooms {
    /// Returns no rooms. A connection may be in `per_connection` of them, not counting its user's.
    #[must_use]
    pub fn new(per_connection: usize) -> Self {
        Self {
            // One more for the room of its user.
            per_connection: per_connection + 1,
            rooms: DashMap::new(),
            connections: DashMap::new(),
        }
    }

    /// Lets a connection be in rooms, and puts it into the room of its user.
    pub fn add(&self, namespace: &Namespace, connection: ConnectionId, user: &UserId) {
        self.connections.entry(connection).or_insert(Membership {
            user: user.clone(),
            rooms: BTreeSet::new(),
        });
        self.join(namespace, connection, &RoomName::of_user(user));
    }

    /// Takes a connection out of all rooms for good; returns the rooms that it was in, sorted, each
    /// with whether it was the last of its user there. The room of its user is not among them.
    pub fn remove(&self, namespace: &Namespace, connection: ConnectionId) -> Vec<(RoomName, bool)> {
        let Some((_, membership)) = self.connections.remove(&connection) else {
            return Vec::new();
        };
        let own = RoomName::of_user(&membership.user);
        membership
            .rooms
            .into_iter()
            .filter_map(|room| {
                let last = self.take_out(namespace, connection, &room)?;
                (room != own).then_some((room, last))
            })
            .collect()
    }

    /// Puts a connection into a room.
    pub fn join(&self, namespace: &Namespace, connection: ConnectionId, room: &RoomName) -> Change {
        // The entry of the connection stays locked until the room knows it; `remove` waits for it.
        // Everybody locks in this order.
        let Some(mut membership) = self.connections.get_mut(&connection) else {
            return Change::Gone;
        };
        if membership.rooms.contains(room) {
            return Change::None;
        }
        if membership.rooms.len() >= self.per_connection {
            return Change::TooMany;
        }
        membership.rooms.insert(room.clone());
        let mut entry = self
            .rooms
            .entry((namespace.clone(), room.clone()))
            .or_default();
        entry.members.insert(connection, membership.user.clone());
        let count = entry.users.entry(membership.user.clone()).or_insert(0);
        *count += 1;
        Change::Joined { first: *count == 1 }
    }

    /// Takes a connection out of a room.
    pub fn leave(
        &self,
        namespace: &Namespace,
        connection: ConnectionId,
        room: &RoomName,
    ) -> Change {
        let Some(mut membership) = self.connections.get_mut(&connection) else {
            return Change::Gone;
        };
        if !membership.rooms.remove(room) {
            return Change::None;
        }
        match self.take_out(namespace, connection, room) {
            Some(last) => Change::Left { last },
            None => Change::None,
        }
    }

    fn take_out(
        &self,
        namespace: &Namespace,
        connection: ConnectionId,
        room: &RoomName,
    ) -> Option<bool> {
        let Entry::Occupied(mut entry) = self.rooms.entry((namespace.clone(), room.clone())) else {
            return None;
        };
        let found = entry.get_mut();
        let user = found.members.remove(&connection)?;
        let mut last = true;
        if let btree_map::Entry::Occupied(mut count) = found.users.entry(user) {
            *count.get_mut() -= 1;
            last = *count.get() == 0;
            if last {
                count.remove();
            }
        }
        if found.members.is_empty() {
            entry.remove();
        }
        Some(last)
    }

    /// Returns how many more rooms a connection can join.
    #[must_use]
    pub fn capacity_left(&self, connection: ConnectionId) -> usize {
        self.connections.get(&connection).map_or(0, |membership| {
            self.per_connection.saturating_sub(membership.rooms.len())
        })
    }

    /// Returns the connections in a room, in order of their ids.
    #[must_use]
    pub fn members(&self, namespace: &Namespace, room: &RoomName) -> Vec<ConnectionId> {
        self.with_room(namespace, room, |room| {
            room.members.keys().copied().collect()
        })
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

    /// Returns a page of the different users in a room, in order of their ids.
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

    /// Returns how many different users are in a room.
    #[must_use]
    pub fn count_users(&self, namespace: &Namespace, room: &RoomName) -> usize {
        self.with_room(namespace, room, |room| room.users.len())
    }

    /// Tells whether any connection of a user is in a room.
    #[must_use]
    pub fn has_user(&self, namespace: &Namespace, room: &RoomName, user: &UserId) -> bool {
        self.with_room(namespace, room, |room| room.users.contains_key(user))
    }

    /// Tells whether a connection is in a room.
    #[must_use]
    pub fn has_connection(&self, connection: ConnectionId, room: &RoomName) -> bool {
        self.connections
            .get(&connection)
            .is_some_and(|membership| membership.rooms.contains(room))
    }

    /// Returns the rooms that a connection is in, sorted, its user's among them.
    #[must_use]
    pub fn of_connection(&self, connection: ConnectionId) -> Vec<RoomName> {
        self.connections
            .get(&connection)
            .map(|membership| membership.rooms.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// Tells whether anybody is in a room.
    #[must_use]
    pub fn is_in_use(&self, namespace: &Namespace, room: &RoomName) -> bool {
        self.rooms.contains_key(&(namespace.clone(), room.clone()))
    }

    /// Returns the rooms of a namespace, those of users among them.
    #[must_use]
    pub fn all_in(&self, namespace: &Namespace) -> BTreeSet<RoomName> {
        self.rooms
            .iter()
            .filter(|entry| entry.key().0 == *namespace)
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
            .get(&(namespace.clone(), room.clone()))
            .map(|entry| read(entry.value()))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn setting() -> (Rooms, Namespace, RoomName, UserId) {
        (
            Rooms::new(2),
            Namespace::new("/").unwrap(),
            RoomName::new("course:1").unwrap(),
            UserId::new("ann").unwrap(),
        )
    }

    #[test]
    fn first_and_last_are_by_user() {
        let (rooms, namespace, room, ann) = setting();
        let (one, two) = (ConnectionId::fresh(), ConnectionId::fresh());
        rooms.add(&namespace, one, &ann);
        rooms.add(&namespace, two, &ann);
        assert_eq!(
            rooms.join(&namespace, one, &room),
            Change::Joined { first: true }
        );
        assert_eq!(rooms.join(&namespace, one, &room), Change::None);
        assert_eq!(
            rooms.join(&namespace, two, &room),
            Change::Joined { first: false }
        );
        assert_eq!(rooms.count_users(&namespace, &room), 1);
        assert_eq!(
            rooms.leave(&namespace, one, &room),
            Change::Left { last: false }
        );
        assert_eq!(rooms.remove(&namespace, two), [(room.clone(), true)]);
        assert!(rooms.is_empty());
        assert!(!rooms.has_user(&namespace, &room, &ann));
    }

    #[test]
    fn namespaces_do_not_mix() {
        let (rooms, namespace, room, ann) = setting();
        let other = Namespace::new("/other").unwrap();
        let one = ConnectionId::fresh();
        rooms.add(&namespace, one, &ann);
        rooms.join(&namespace, one, &room);
        assert!(rooms.members(&other, &room).is_empty());
        assert_eq!(rooms.members(&namespace, &room), [one]);
    }

    #[test]
    fn a_connection_has_room_for_so_many() {
        let (rooms, namespace, _, ann) = setting();
        let one = ConnectionId::fresh();
        rooms.add(&namespace, one, &ann);
        for name in ["a:1", "a:2"] {
            let room = RoomName::new(name).unwrap();
            assert_eq!(
                rooms.join(&namespace, one, &room),
                Change::Joined { first: true }
            );
        }
        assert_eq!(rooms.capacity_left(one), 0);
        let room = RoomName::new("a:3").unwrap();
        assert_eq!(rooms.join(&namespace, one, &room), Change::TooMany);
    }

    #[test]
    fn pages_neither_skip_nor_repeat() {
        let (rooms, namespace, room, _) = setting();
        for number in 0..10 {
            let id = ConnectionId::fresh();
            rooms.add(&namespace, id, &UserId::new(&format!("u{number}")).unwrap());
            rooms.join(&namespace, id, &room);
        }
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = rooms.members_page(&namespace, &room, after, 3);
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            seen.extend(page.into_iter().map(|(id, _)| id));
        }
        assert_eq!(seen, rooms.members(&namespace, &room));
        let users = rooms.users_page(&namespace, &room, Some("u7"), 5);
        assert_eq!(
            users.iter().map(UserId::as_str).collect::<Vec<_>>(),
            ["u8", "u9"]
        );
    }

    #[test]
    fn a_join_that_races_with_the_end_leaves_nothing() {
        let (rooms, namespace, room, ann) = setting();
        let rooms = Arc::new(rooms);
        for _ in 0..2_000 {
            let id = ConnectionId::fresh();
            rooms.add(&namespace, id, &ann);
            let joiner = {
                let (rooms, namespace, room) = (rooms.clone(), namespace.clone(), room.clone());
                std::thread::spawn(move || rooms.join(&namespace, id, &room))
            };
            rooms.remove(&namespace, id);
            joiner.join().unwrap();
            assert!(rooms.members(&namespace, &room).is_empty());
        }
        assert!(rooms.rooms.is_empty() && rooms.connections.is_empty());
    }
}
