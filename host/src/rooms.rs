//! Who is in which room: of this node's connections the truth, of other nodes' what these have told.
//! So whether a join is a user's first, and who is in a room, holds for all nodes; frames are
//! delivered to this node's only.
//!
//! A connection can be in rooms from [`Rooms::add`] until [`Rooms::remove`]; a join before or after
//! is refused, so a join that races with a disconnect leaves nothing behind. The host's own room of
//! each user, `user:{id}`, is kept here like any other.

use crate::{
    core::{
        event::Identity,
        names::{ConnectionId, Namespace, RoomName, UserId},
    },
    ports::{Journal, Moved},
};
use dashmap::{DashMap, mapref::entry::Entry};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    ops::Bound,
    sync::Arc,
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
    /// Those of the members that are this node's.
    here: BTreeSet<ConnectionId>,
}

struct Membership {
    namespace: Namespace,
    identity: Arc<Identity>,
    is_here: bool,
    rooms: BTreeSet<RoomName>,
}

type RoomKey = (Namespace, RoomName);

/// Rooms, in all namespaces.
pub struct Rooms {
    per_connection: usize,
    journal: Arc<dyn Journal>,
    rooms: DashMap<RoomKey, Room>,
    connections: DashMap<ConnectionId, Membership>,
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
            rooms: DashMap::new(),
            connections: DashMap::new(),
        }
    }

    /// Lets a connection of this node be in rooms, and puts it into the room of its user. One that is
    /// there already may come with a renewed identity, of the same user.
    pub fn add(&self, namespace: &Namespace, connection: ConnectionId, identity: &Arc<Identity>) {
        let opened = Moved::Opened {
            connection,
            namespace: namespace.clone(),
            identity: identity.clone(),
        };
        if self.enter(namespace, connection, identity, true) {
            self.journal.note(opened);
            self.join(namespace, connection, &RoomName::of_user(&identity.user));
        } else {
            self.journal.note(opened);
        }
    }

    /// The same for a connection of another node.
    pub fn add_far(
        &self,
        namespace: &Namespace,
        connection: ConnectionId,
        identity: &Arc<Identity>,
    ) {
        self.enter(namespace, connection, identity, false);
    }

    fn enter(
        &self,
        namespace: &Namespace,
        connection: ConnectionId,
        identity: &Arc<Identity>,
        is_here: bool,
    ) -> bool {
        match self.connections.entry(connection) {
            Entry::Occupied(mut entry) => {
                entry.get_mut().identity = identity.clone();
                false
            }
            Entry::Vacant(entry) => {
                entry.insert(Membership {
                    namespace: namespace.clone(),
                    identity: identity.clone(),
                    is_here,
                    rooms: BTreeSet::new(),
                });
                true
            }
        }
    }

    /// Takes a connection out of all rooms for good; returns the rooms that it was in, sorted, each
    /// with whether it was the last of its user there. The room of its user is not among them.
    pub fn remove(&self, namespace: &Namespace, connection: ConnectionId) -> Vec<(RoomName, bool)> {
        let Some((_, membership)) = self.connections.remove(&connection) else {
            return Vec::new();
        };
        if membership.is_here {
            self.journal.note(Moved::Closed { connection });
        }
        let own = RoomName::of_user(&membership.identity.user);
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
        // Those of other nodes are counted there.
        if membership.is_here && membership.rooms.len() >= self.per_connection {
            return Change::TooMany;
        }
        membership.rooms.insert(room.clone());
        let user = &membership.identity.user;
        let mut entry = self
            .rooms
            .entry((namespace.clone(), room.clone()))
            .or_default();
        entry.members.insert(connection, user.clone());
        if membership.is_here {
            entry.here.insert(connection);
            let room = room.clone();
            self.journal.note(Moved::Joined { connection, room });
        }
        let count = entry.users.entry(user.clone()).or_insert(0);
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
        if membership.is_here {
            let room = room.clone();
            self.journal.note(Moved::Left { connection, room });
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
        found.here.remove(&connection);
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

    /// Returns this node's connections in a room, in order of their ids.
    #[must_use]
    pub fn members_here(&self, namespace: &Namespace, room: &RoomName) -> Vec<ConnectionId> {
        self.with_room(namespace, room, |room| room.here.iter().copied().collect())
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

    /// Returns whose connection of a namespace this is, none where it is not there.
    #[must_use]
    pub fn identity(
        &self,
        namespace: &Namespace,
        connection: ConnectionId,
    ) -> Option<Arc<Identity>> {
        let membership = self.connections.get(&connection)?;
        (membership.namespace == *namespace).then(|| membership.identity.clone())
    }

    /// Returns the connections of a user, in order of their ids.
    #[must_use]
    pub fn of_user(&self, namespace: &Namespace, user: &UserId) -> Vec<ConnectionId> {
        let room = RoomName::of_user(user);
        self.with_room(namespace, &room, |room| {
            room.members.keys().copied().collect()
        })
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
            .get(&(namespace.clone(), room.clone()))
            .map(|entry| read(entry.value()))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Alone;
    use parking_lot::Mutex;

    fn identity(user: &str) -> Arc<Identity> {
        let user = UserId::new(user).unwrap();
        Arc::new(Identity::new(
            user,
            String::new(),
            serde_json::Map::new(),
            None,
        ))
    }

    fn setting() -> (Rooms, Namespace, RoomName, Arc<Identity>) {
        (
            Rooms::new(2, Arc::new(Alone)),
            Namespace::new("/").unwrap(),
            RoomName::new("course:1").unwrap(),
            identity("ann"),
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
        assert!(!rooms.has_user(&namespace, &room, &ann.user));
    }

    #[test]
    fn namespaces_do_not_mix() {
        let (rooms, namespace, room, ann) = setting();
        let other = Namespace::new("/other").unwrap();
        let one = ConnectionId::fresh();
        rooms.add(&namespace, one, &ann);
        rooms.join(&namespace, one, &room);
        assert!(rooms.members_here(&other, &room).is_empty());
        assert_eq!(rooms.members_here(&namespace, &room), [one]);
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
            rooms.add(&namespace, id, &identity(&format!("u{number}")));
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
        assert_eq!(seen, rooms.members_here(&namespace, &room));
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
            assert!(rooms.members_here(&namespace, &room).is_empty());
        }
        assert!(rooms.rooms.is_empty() && rooms.connections.is_empty());
    }

    #[derive(Default)]
    struct Noted(Mutex<Vec<Moved>>);

    impl Journal for Noted {
        fn note(&self, moved: Moved) {
            self.0.lock().push(moved);
        }
    }

    #[test]
    fn what_becomes_of_this_nodes_connections_is_noted_and_of_others_is_not() {
        let noted = Arc::new(Noted::default());
        let (namespace, ann) = (Namespace::root(), identity("ann"));
        let (room, own) = (RoomName::new("a:1").unwrap(), RoomName::of_user(&ann.user));
        let rooms = Rooms::new(2, noted.clone());
        let (connection, far) = (ConnectionId::fresh(), ConnectionId::fresh());
        rooms.add(&namespace, connection, &ann);
        rooms.join(&namespace, connection, &room);
        rooms.join(&namespace, connection, &room);
        rooms.leave(&namespace, connection, &room);
        rooms.add_far(&namespace, far, &ann);
        rooms.join(&namespace, far, &room);
        rooms.remove(&namespace, far);
        rooms.remove(&namespace, connection);
        let opened = Moved::Opened {
            connection,
            namespace,
            identity: ann,
        };
        let expected = [
            opened,
            Moved::Joined {
                connection,
                room: own,
            },
            Moved::Joined {
                connection,
                room: room.clone(),
            },
            Moved::Left { connection, room },
            Moved::Closed { connection },
        ];
        assert_eq!(*noted.0.lock(), expected);
    }

    #[test]
    fn others_count_but_hear_from_their_own_node() {
        let (rooms, namespace, room, ann) = setting();
        let (here, far) = (ConnectionId::fresh(), ConnectionId::fresh());
        rooms.add_far(&namespace, far, &ann);
        for name in ["user:ann", "a:1", "a:2", "a:3", room.as_str()] {
            rooms.join(&namespace, far, &RoomName::new(name).unwrap());
        }
        rooms.add(&namespace, here, &ann);
        assert_eq!(
            rooms.join(&namespace, here, &room),
            Change::Joined { first: false }
        );
        assert_eq!(rooms.members_here(&namespace, &room), [here]);
        assert_eq!(rooms.members_page(&namespace, &room, None, 9).len(), 2);
        let mut both = [here, far];
        both.sort_unstable();
        assert_eq!(rooms.of_user(&namespace, &ann.user), both);
        rooms.leave(&namespace, here, &room);
        assert!(!rooms.is_in_use_here(&namespace, &room));
        let left = rooms.remove(&namespace, far);
        assert!(left.contains(&(room, true)), "{left:?}");
    }
}
