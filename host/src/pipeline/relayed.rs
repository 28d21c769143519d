//! What other nodes of the cluster want done on this one. They have checked and committed it; here it
//! is only carried out, and goes no further.

use super::{Pipeline, ending::end_notices, execute::Effects};
use crate::{
    connections::Connection,
    core::{
        event::{Identity, Notice, Peer},
        names::{ConnectionId, Namespace, RoomName, USER_PREFIX},
        recipient::Who,
    },
    ports::{Asking, CloseReason, Frame, Relayed},
    rooms::Exit,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::{collections::BTreeSet, sync::Arc};

/// Why a connection of a host ended that has died.
const NODE_LOST: &str = "node lost";

/// A connection that has gone with its node.
#[derive(Debug, Clone)]
pub struct Gone {
    /// Which.
    pub connection: ConnectionId,
    /// Where.
    pub namespace: Namespace,
    /// Whose.
    pub identity: Arc<Identity>,
    /// The rooms that it was in, or lingered in.
    pub exits: Vec<Exit>,
    /// Whether plugins have been told already that it has ended.
    pub ended: bool,
}

/// A client's answer that is on its way: the JSON array of its arguments and their attachments.
pub type Answer = BoxFuture<'static, Result<(String, Vec<Bytes>), &'static str>>;

/// A connection that was asked, and its answer.
pub type AskedOne = (Arc<Connection>, Answer);

impl Pipeline {
    /// Sends a frame to connections of this node.
    pub fn emit_relayed(self: &Arc<Self>, emission: Relayed<'_>) {
        let mut effects = Effects::default();
        self.executor.emit_here(emission, &mut effects);
        if let Some(asking) = emission.ask {
            self.ask(effects.pending, &asking.plugin, asking.depth);
        }
    }

    /// Sends a frame to connections of this node and returns what resolves to their answers.
    #[must_use]
    pub fn ask_relayed(
        &self,
        namespace: &Namespace,
        to: &[Who],
        except: &[Who],
        frame: &Frame,
    ) -> Vec<AskedOne> {
        self.executor
            .recipients(namespace, to, except)
            .map(|connection| {
                let answer = connection
                    .outbound
                    .emit_with_ack(frame, self.executor.ack_timeout);
                (connection, answer)
            })
            .collect()
    }

    /// Tells a plugin that a client of a server of another kind has acknowledged what it emitted. Whose
    /// connection that is is not known.
    pub fn acknowledged_elsewhere(
        self: &Arc<Self>,
        namespace: &Namespace,
        asking: &Asking,
        outcome: Result<String, &'static str>,
        attachments: Vec<Bytes>,
    ) {
        let notice = Notice::Acknowledged {
            token: asking.token.clone(),
            plugin: asking.plugin.as_str().into(),
            outcome,
        };
        let notices = [(notice, attachments)];
        let depth = asking.depth.saturating_add(1);
        let (pipeline, namespace) = (self.clone(), namespace.clone());
        let told = async move {
            pipeline
                .handle_notices_of(None, &namespace, None, notices, depth)
                .await;
        };
        self.tasks.spawn_on(told, &self.runtime);
    }

    /// Puts connections of this node into rooms, or takes them out. The rooms of users are the host's
    /// own.
    pub fn move_relayed(
        self: &Arc<Self>,
        namespace: &Namespace,
        who: &[Who],
        except: &[Who],
        rooms: &[RoomName],
        joins: bool,
    ) {
        let (executor, mut effects) = (&self.executor, Effects::default());
        for connection in executor.recipients(namespace, who, except) {
            let one = Who::Connection(connection.id);
            for room in rooms.iter().filter(|room| room.prefix() != USER_PREFIX) {
                match joins {
                    true => executor.join_here(namespace, &one, room, &mut effects),
                    false => executor.leave_here(namespace, &one, room, &mut effects),
                }
            }
        }
        self.deliver(effects.caused, None, 1);
    }

    /// Ends connections of this node.
    pub fn disconnect_relayed(
        &self,
        namespace: &Namespace,
        who: &[Who],
        except: &[Who],
        transport: bool,
    ) {
        for connection in self.executor.recipients(namespace, who, except) {
            self.executor.disconnect(&connection, transport);
        }
    }

    /// Returns connections of this node with the rooms that they are in.
    #[must_use]
    pub fn find_relayed(
        &self,
        namespace: &Namespace,
        who: &[Who],
        except: &[Who],
    ) -> Vec<(Arc<Connection>, Vec<RoomName>)> {
        self.executor
            .recipients(namespace, who, except)
            .map(|connection| {
                let rooms = self.executor.rooms.of_connection(connection.id);
                (connection, rooms)
            })
            .collect()
    }

    /// Tells plugins that a connection has ended whose own host cannot.
    pub async fn tell_gone(self: &Arc<Self>, gone: Gone) {
        let peer = Peer {
            connection: gone.connection,
            identity: gone.identity,
        };
        let reason = (!gone.ended).then(|| NODE_LOST.into());
        let notices = end_notices(gone.exits, reason);
        self.handle_notices_of(Some(peer), &gone.namespace, None, notices, 0)
            .await;
    }

    /// Ends all connections of this node, since others have taken it for dead. Of the end of those that
    /// they knew they have told already, as well as of those whose users lingered.
    pub fn end_all(self: &Arc<Self>, is_known: impl Fn(ConnectionId) -> bool) {
        for lingering in self.executor.presence.take_all() {
            if is_known(lingering.connection) {
                self.drop_lingering(&lingering);
            } else {
                let pipeline = self.clone();
                let end = async move { pipeline.end_one(lingering).await };
                self.tasks.spawn_on(end, &self.runtime);
            }
        }
        for connection in self.connections.all() {
            if is_known(connection.id) {
                connection.mark_swept();
            }
            connection.begin_ending();
            connection.outbound.close_transport(CloseReason::LostLease);
        }
    }

    /// Tells whether anybody on this node is meant by the name of a room.
    #[must_use]
    pub fn concerns(&self, namespace: &Namespace, who: &Who) -> bool {
        match who {
            Who::Connection(id) => {
                let room = RoomName::foreign(&id.to_string());
                let rooms = &self.executor.rooms;
                self.connections.has(*id)
                    || room.is_some_and(|room| rooms.is_in_use_here(namespace, &room))
            }
            Who::Room(room) => self.executor.rooms.is_in_use_here(namespace, room),
            Who::Everyone => !self.connections.is_empty(),
        }
    }

    /// Returns the rooms of this node, and its connections, each of which is a room to other nodes.
    #[must_use]
    pub fn all_rooms(&self, namespace: &Namespace) -> (BTreeSet<RoomName>, Vec<ConnectionId>) {
        let connections = self.connections.in_namespace(namespace);
        let ids = connections.iter().map(|connection| connection.id).collect();
        (self.executor.rooms.all_here(namespace), ids)
    }
}
