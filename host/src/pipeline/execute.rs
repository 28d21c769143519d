//! Instructions, executed in the order listed once they have been checked and committed.

use super::check::{Step, Who};
use crate::{
    connections::{Connection, Connections},
    core::{
        event::Notice,
        names::{ConnectionId, Namespace},
    },
    metrics::{Metrics, count},
    ports::{CloseReason, Frame, SendError},
    rooms::{Change, Rooms},
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// Carries out what was checked.
pub struct Executor {
    /// The connections of this node.
    pub connections: Arc<Connections>,
    /// Who is in which room.
    pub rooms: Arc<Rooms>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How long clients have to acknowledge an emission.
    pub ack_timeout: Duration,
}

/// Something that executing caused, for the mailbox of its connection.
pub struct Caused {
    /// Whose mailbox.
    pub connection: Arc<Connection>,
    /// What.
    pub notice: Notice,
}

/// A client's answer that is on its way.
pub struct PendingAck {
    /// Whose answer.
    pub connection: Arc<Connection>,
    /// What the plugin called the emission.
    pub token: Arc<str>,
    /// Resolves to the answer.
    pub answer: BoxFuture<'static, Result<(String, Vec<Bytes>), &'static str>>,
}

/// What executing led to.
#[derive(Default)]
pub struct Effects {
    /// Notices, in the order in which they came about.
    pub caused: Vec<Caused>,
    /// Acknowledgements that clients were asked for.
    pub pending: Vec<PendingAck>,
}

impl Executor {
    /// Executes steps in their order, for a plugin of a namespace.
    pub fn execute(&self, steps: Vec<Step>, namespace: &Namespace) -> Effects {
        let mut effects = Effects::default();
        for step in steps {
            match step {
                Step::Emit {
                    to,
                    except,
                    frame,
                    volatile,
                    ack,
                } => self.emit(namespace, &to, &except, &frame, volatile, ack, &mut effects),
                Step::Join(who, room) => {
                    for connection in self.resolve(namespace, &who) {
                        let change = self.rooms.join(&connection.namespace, connection.id, &room);
                        match change {
                            Change::Joined { first } => effects.caused.push(Caused {
                                connection,
                                notice: Notice::Joined {
                                    room: room.clone(),
                                    first,
                                },
                            }),
                            Change::TooMany => tracing::warn!(
                                connection = %connection.id, %room,
                                "a connection was not joined: it is in as many rooms as it may be"
                            ),
                            _ => {}
                        }
                    }
                }
                Step::Leave(who, room) => {
                    for connection in self.resolve(namespace, &who) {
                        let change = self
                            .rooms
                            .leave(&connection.namespace, connection.id, &room);
                        if let Change::Left { last } = change {
                            effects.caused.push(Caused {
                                connection,
                                notice: Notice::Left {
                                    room: room.clone(),
                                    last,
                                    disconnected: false,
                                },
                            });
                        }
                    }
                }
                Step::Disconnect {
                    who,
                    reason,
                    transport,
                } => {
                    for connection in self.resolve(namespace, &who) {
                        tracing::info!(connection = %connection.id, reason, "a plugin disconnects a connection");
                        self.disconnect(&connection, transport);
                    }
                }
            }
        }
        effects
    }

    /// Sends a frame to one connection; one whose queue is full is closed instead of losing frames
    /// in silence.
    pub fn send(&self, connection: &Arc<Connection>, frame: &Frame, volatile: bool) {
        match connection.outbound.emit(frame, volatile) {
            Ok(()) => {
                self.metrics.frames.inc();
            }
            Err(SendError::Closed) => count(&self.metrics.frames_lost, "closed"),
            Err(SendError::Full) => self.close_slow(connection),
        }
    }

    /// Closes a connection whose client does not read.
    pub fn close_slow(&self, connection: &Arc<Connection>) {
        count(&self.metrics.frames_lost, "full");
        if connection.begin_ending() {
            tracing::warn!(connection = %connection.id, "closing a connection that does not read what it is sent");
            connection
                .outbound
                .close_transport(CloseReason::SlowConsumer);
        }
    }

    /// Ends a connection as the host's own decision.
    pub fn disconnect(&self, connection: &Arc<Connection>, transport: bool) {
        if transport {
            connection.outbound.close_transport(CloseReason::Requested);
        } else {
            connection.outbound.disconnect();
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn emit(
        &self,
        namespace: &Namespace,
        to: &[Who],
        except: &[Who],
        frame: &Frame,
        volatile: bool,
        ack: Option<Arc<str>>,
        effects: &mut Effects,
    ) {
        for connection in self.recipients(namespace, to, except) {
            match &ack {
                None => self.send(&connection, frame, volatile),
                Some(token) => effects.pending.push(PendingAck {
                    answer: connection.outbound.emit_with_ack(frame, self.ack_timeout),
                    connection,
                    token: token.clone(),
                }),
            }
        }
    }

    fn recipients(
        &self,
        namespace: &Namespace,
        to: &[Who],
        except: &[Who],
    ) -> Vec<Arc<Connection>> {
        if let ([who], []) = (to, except) {
            return self.resolve(namespace, who);
        }
        let mut left_out = BTreeSet::new();
        for who in except {
            left_out.extend(self.ids(namespace, who));
        }
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for who in to {
            found.extend(
                self.resolve(namespace, who)
                    .into_iter()
                    .filter(|connection| {
                        !left_out.contains(&connection.id) && seen.insert(connection.id)
                    }),
            );
        }
        found
    }

    fn ids(&self, namespace: &Namespace, who: &Who) -> Vec<ConnectionId> {
        match who {
            Who::Connection(id) => vec![*id],
            Who::Room(room) => self.rooms.members(namespace, room),
            Who::Everyone => self
                .connections
                .in_namespace(namespace)
                .iter()
                .map(|connection| connection.id)
                .collect(),
        }
    }

    fn resolve(&self, namespace: &Namespace, who: &Who) -> Vec<Arc<Connection>> {
        match who {
            Who::Connection(id) => self
                .connections
                .get(*id)
                .filter(|connection| connection.namespace == *namespace)
                .into_iter()
                .collect(),
            Who::Everyone => self.connections.in_namespace(namespace),
            Who::Room(room) => self
                .rooms
                .members(namespace, room)
                .into_iter()
                .filter_map(|id| self.connections.get(id))
                .collect(),
        }
    }
}
