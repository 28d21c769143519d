//! Who is in which room, as plugins ask for it.

use crate::{
    connections::Connections,
    core::names::{ConnectionId, Namespace, RoomName, UserId},
    ports::{Member, RoomsView},
    rooms::Rooms,
};
use std::{collections::BTreeSet, sync::Arc};

/// Answers plugins' questions about rooms, on this node.
pub struct RoomsOfNode {
    /// The connections, for their identities.
    pub connections: Arc<Connections>,
    /// The rooms.
    pub rooms: Arc<Rooms>,
}

impl RoomsOfNode {
    fn is_in(&self, namespace: &Namespace, connection: ConnectionId) -> bool {
        self.connections
            .get(connection)
            .is_some_and(|connection| connection.namespace == *namespace)
    }
}

impl RoomsView for RoomsOfNode {
    fn members(
        &self,
        namespace: &Namespace,
        room: &RoomName,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Vec<Member> {
        self.rooms
            .members_page(namespace, room, after, limit)
            .into_iter()
            .map(|(connection, user)| Member {
                role: self
                    .connections
                    .get(connection)
                    .and_then(|connection| connection.identity())
                    .map(|identity| identity.role.clone())
                    .unwrap_or_default(),
                connection,
                user,
            })
            .collect()
    }

    fn count_users(&self, namespace: &Namespace, room: &RoomName) -> usize {
        self.rooms.count_users(namespace, room)
    }

    fn users(
        &self,
        namespace: &Namespace,
        room: &RoomName,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<UserId> {
        self.rooms.users_page(namespace, room, after, limit)
    }

    fn has_connection(
        &self,
        namespace: &Namespace,
        room: &RoomName,
        connection: ConnectionId,
    ) -> bool {
        self.rooms.has_connection(connection, room) && self.is_in(namespace, connection)
    }

    fn has_user(&self, namespace: &Namespace, room: &RoomName, user: &UserId) -> bool {
        self.rooms.has_user(namespace, room, user)
    }

    fn of_connection(&self, namespace: &Namespace, connection: ConnectionId) -> Vec<RoomName> {
        if !self.is_in(namespace, connection) {
            return Vec::new();
        }
        self.rooms.of_connection(connection)
    }

    fn of_user(&self, namespace: &Namespace, user: &UserId) -> Vec<RoomName> {
        let rooms: BTreeSet<RoomName> = self
            .connections
            .of_user(namespace, user)
            .into_iter()
            .flat_map(|connection| self.rooms.of_connection(connection))
            .collect();
        rooms.into_iter().collect()
    }

    fn connections_of_user(&self, namespace: &Namespace, user: &UserId) -> Vec<ConnectionId> {
        let mut connections = self.connections.of_user(namespace, user);
        connections.sort_unstable();
        connections
    }
}
