//! Who is in which room and who is there at all, as plugins ask for it: on all nodes.

use super::now_ms;
use crate::{
    core::{
        names::{ConnectionId, Namespace, RoomName, UserId},
        presence::Seen,
    },
    ports::{Member, PresenceView, RoomsView},
    presence::Presence,
    rooms::Rooms,
};
use std::{collections::BTreeSet, sync::Arc};

/// Answers plugins' questions about rooms.
pub struct RoomsSeen(pub Arc<Rooms>);

impl RoomsView for RoomsSeen {
    fn members(
        &self,
        namespace: &Namespace,
        room: &RoomName,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Vec<Member> {
        self.0
            .members_page(namespace, room, after, limit)
            .into_iter()
            .map(|(connection, user)| Member {
                role: self
                    .0
                    .identity(namespace, connection)
                    .map(|identity| identity.role.clone())
                    .unwrap_or_default(),
                connection,
                user,
            })
            .collect()
    }

    fn count_users(&self, namespace: &Namespace, room: &RoomName) -> usize {
        self.0.count_users(namespace, room)
    }

    fn users(
        &self,
        namespace: &Namespace,
        room: &RoomName,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<UserId> {
        self.0.users_page(namespace, room, after, limit)
    }

    fn has_connection(
        &self,
        namespace: &Namespace,
        room: &RoomName,
        connection: ConnectionId,
    ) -> bool {
        self.0.has_connection(connection, room) && self.0.identity(namespace, connection).is_some()
    }

    fn has_user(&self, namespace: &Namespace, room: &RoomName, user: &UserId) -> bool {
        self.0.has_user(namespace, room, user)
    }

    fn of_connection(&self, namespace: &Namespace, connection: ConnectionId) -> Vec<RoomName> {
        if self.0.identity(namespace, connection).is_none() {
            return Vec::new();
        }
        self.0.of_connection(connection)
    }

    fn of_user(&self, namespace: &Namespace, user: &UserId) -> Vec<RoomName> {
        let rooms: BTreeSet<RoomName> = self
            .0
            .of_user(namespace, user)
            .into_iter()
            .flat_map(|connection| self.0.of_connection(connection))
            .collect();
        rooms.into_iter().collect()
    }

    fn typing(&self, namespace: &Namespace, room: &RoomName) -> Vec<UserId> {
        self.0.typing(namespace, room)
    }

    fn connections_of_user(&self, namespace: &Namespace, user: &UserId) -> Vec<ConnectionId> {
        self.0.of_user(namespace, user)
    }
}

/// Answers plugins' questions about what users are seen as.
pub struct PresenceSeen(pub Arc<Presence>);

impl PresenceView for PresenceSeen {
    fn seen(&self, user: &UserId) -> Seen {
        self.0.seen(user, now_ms())
    }
}
