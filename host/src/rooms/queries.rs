//! Who is in which room, for who asks.

use super::{Rooms, key::AsKey, room::Room};
use crate::core::{
    event::Identity,
    names::{ConnectionId, Namespace, RoomName, UserId},
};
use std::{collections::BTreeSet, ops::Bound, sync::Arc};

impl Rooms {
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

    /// Tells whether a user lingers in a room by a connection that has ended.
    #[must_use]
    pub fn lingers(
        &self,
        namespace: &Namespace,
        room: &RoomName,
        user: &UserId,
        connection: ConnectionId,
    ) -> bool {
        self.with_room(namespace, room, |room| {
            let presences = room.users.get(user);
            presences.is_some_and(|presences| presences.lingering.contains(&connection))
        })
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
