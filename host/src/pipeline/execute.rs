//! Instructions, executed in the order listed once they have been checked and committed: on this
//! node, and by the relay on the others.

use super::{check::Step, now_ms};
use crate::{
    connections::{Connection, Connections},
    core::{
        event::Notice,
        names::{ConnectionId, Namespace, PluginName, RoomName},
        recipient::Who,
    },
    metrics::{Metrics, count},
    ports::{Asking, Channels, CloseReason, Frame, Relay, Relayed, SendError},
    presence::Presence,
    rooms::{Change, Rooms},
    typing::Typing,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

/// Carries out what was checked.
pub struct Executor {
    /// The connections of this node.
    pub connections: Arc<Connections>,
    /// Who is in which room.
    pub rooms: Arc<Rooms>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Reaches the connections of other nodes.
    pub relay: Arc<dyn Relay>,
    /// Publishes plugins' messages.
    pub channels: Arc<dyn Channels>,
    /// When who types stops.
    pub typing: Arc<Typing>,
    /// What users are seen as.
    pub presence: Arc<Presence>,
    /// How long clients have to acknowledge an emission.
    pub ack_timeout: Duration,
}

/// Whose instructions are executed.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// The plugin's namespace.
    pub namespace: &'a Namespace,
    /// The plugin.
    pub plugin: &'a PluginName,
    /// How many events of plugins' making led to it.
    pub depth: u8,
    /// The connection that is owed an answer, if a client's event led to it.
    pub owed: Option<ConnectionId>,
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

/// Who does not get an emission: mostly nobody, or its sender.
enum LeftOut {
    Nobody,
    One(ConnectionId),
    These(BTreeSet<ConnectionId>),
}

impl LeftOut {
    fn has(&self, id: ConnectionId) -> bool {
        match self {
            Self::Nobody => false,
            Self::One(one) => *one == id,
            Self::These(ids) => ids.contains(&id),
        }
    }
}

impl Executor {
    /// Executes steps in their order.
    pub fn execute(&self, steps: Vec<Step>, by: By<'_>) -> Effects {
        let mut effects = Effects::default();
        let namespace = by.namespace;
        for step in steps {
            match step {
                Step::Emit {
                    to,
                    except,
                    frame,
                    volatile,
                    ack,
                } => {
                    // Other nodes could not be told so, and nobody is left.
                    if except.contains(&Who::Everyone) {
                        continue;
                    }
                    let ask = ack.map(|token| Asking {
                        plugin: by.plugin.clone(),
                        token,
                        depth: by.depth,
                    });
                    let emission = Relayed {
                        namespace,
                        to: &to,
                        except: &except,
                        frame: &frame,
                        volatile,
                        ask: ask.as_ref(),
                    };
                    self.emit_here(emission, &mut effects);
                    if to.iter().any(|who| self.crosses(namespace, who)) {
                        self.relay.emit(emission);
                    }
                }
                Step::Join(who, room) => {
                    self.join_here(namespace, &who, &room, &mut effects);
                    if self.crosses(namespace, &who) {
                        self.relay.join(namespace, &who, &room);
                    }
                }
                Step::Leave(who, room) => {
                    self.leave_here(namespace, &who, &room, &mut effects);
                    if self.crosses(namespace, &who) {
                        self.relay.leave(namespace, &who, &room);
                    }
                }
                Step::Type(id, room, typing) => {
                    self.set_typing(namespace, id, room, typing, &mut effects);
                }
                Step::Choose(user, status) => self.presence.choose(&user, status, now_ms()),
                Step::Publish(channel, payload) => self.channels.publish(&channel, payload),
                Step::Disconnect {
                    who,
                    reason,
                    transport,
                } => {
                    self.disconnect_here(namespace, &who, &reason, transport, by.owed);
                    if self.crosses(namespace, &who) {
                        self.relay.disconnect(namespace, &who, transport);
                    }
                }
            }
        }
        effects
    }

    fn set_typing(
        &self,
        namespace: &Namespace,
        id: ConnectionId,
        room: RoomName,
        typing: bool,
        effects: &mut Effects,
    ) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        if typing && !self.rooms.has_connection(id, &room) {
            return;
        }
        if !typing {
            connection.activity.excuse();
        }
        self.typing.set(id, &room, typing, Instant::now());
        if self.rooms.set_typing(namespace, id, &room, typing) {
            let notice = Notice::Typing { room, typing };
            effects.caused.push(Caused { connection, notice });
        }
    }

    /// Tells whether connections of other nodes may be meant.
    fn crosses(&self, namespace: &Namespace, who: &Who) -> bool {
        match who {
            // Of one that nobody knows, or that has ended, nobody has to hear.
            Who::Connection(id) => {
                !self.connections.has(*id) && self.rooms.identity(namespace, *id).is_some()
            }
            Who::Room(_) | Who::Everyone => true,
        }
    }

    /// Sends a frame to connections of this node.
    pub fn emit_here(&self, emission: Relayed<'_>, effects: &mut Effects) {
        let Relayed {
            namespace,
            to,
            except,
            frame,
            volatile,
            ask,
        } = emission;
        if let ([Who::Room(room)], None) = (to, ask) {
            return self.emit_to_room(namespace, room, except, frame, volatile);
        }
        let emit = |connection: Arc<Connection>| match ask {
            None => self.send(&connection, frame, volatile),
            Some(Asking { token, .. }) => effects.pending.push(PendingAck {
                answer: connection.outbound.emit_with_ack(frame, self.ack_timeout),
                connection,
                token: token.clone(),
            }),
        };
        self.recipients(namespace, to, except).for_each(emit);
    }

    fn emit_to_room(
        &self,
        namespace: &Namespace,
        room: &RoomName,
        except: &[Who],
        frame: &Frame,
        volatile: bool,
    ) {
        let left_out = self.left_out(namespace, except);
        let is_left_out = |id| left_out.has(id);
        let sent = self
            .rooms
            .emit(namespace, room, is_left_out, frame, volatile);
        self.metrics.frames.inc_by(sent.frames as u64);
        for (kind, lost) in [("closed", sent.lost.closed), ("full", sent.lost.full)] {
            (0..lost).for_each(|_| count(&self.metrics.frames_lost, kind));
        }
        let full = sent.full.into_iter();
        for connection in full.filter_map(|id| self.connections.get(id)) {
            self.close_slow(&connection);
        }
    }

    /// Puts connections of this node into a room.
    pub fn join_here(
        &self,
        namespace: &Namespace,
        who: &Who,
        room: &RoomName,
        effects: &mut Effects,
    ) {
        for connection in self.resolve(namespace, who) {
            let change = self.rooms.join(&connection.namespace, connection.id, room);
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

    /// Takes connections of this node out of a room.
    pub fn leave_here(
        &self,
        namespace: &Namespace,
        who: &Who,
        room: &RoomName,
        effects: &mut Effects,
    ) {
        for connection in self.resolve(namespace, who) {
            let change = self.rooms.leave(&connection.namespace, connection.id, room);
            if let Change::Left { last, stopped } = change {
                if stopped {
                    effects.caused.push(Caused {
                        connection: connection.clone(),
                        notice: Notice::Typing {
                            room: room.clone(),
                            typing: false,
                        },
                    });
                }
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

    /// Ends connections of this node; one that is owed an answer, once it has got that.
    pub fn disconnect_here(
        &self,
        namespace: &Namespace,
        who: &Who,
        reason: &str,
        transport: bool,
        owed: Option<ConnectionId>,
    ) {
        for connection in self.resolve(namespace, who) {
            tracing::info!(connection = %connection.id, reason, "a connection is ended");
            match owed == Some(connection.id) {
                true => connection.end_when_answered(transport),
                false => self.disconnect(&connection, transport),
            }
        }
    }

    /// Sends a frame to one connection; one whose queue is full is closed instead of losing frames
    /// in silence.
    pub fn send(&self, connection: &Arc<Connection>, frame: &Frame, volatile: bool) {
        match connection.outbound.emit(frame, volatile) {
            Ok(()) => {
                self.metrics.frames.inc();
            }
            Err(SendError::Closed) => count(&self.metrics.frames_lost, "closed"),
            Err(SendError::Full) if volatile => {}
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

    /// Returns connections of this node, each once, found as they are taken.
    pub fn recipients<'a>(
        &'a self,
        namespace: &'a Namespace,
        to: &'a [Who],
        except: &[Who],
    ) -> impl Iterator<Item = Arc<Connection>> + use<'a> {
        let left_out = self.left_out(namespace, except);
        // Those of one target are different ones.
        let mut seen = (to.len() > 1).then(BTreeSet::new);
        to.iter()
            .flat_map(|who| self.resolve(namespace, who))
            .filter(move |connection| {
                let id = connection.id;
                !left_out.has(id) && seen.as_mut().is_none_or(|seen| seen.insert(id))
            })
    }

    fn left_out(&self, namespace: &Namespace, except: &[Who]) -> LeftOut {
        match except {
            [] => LeftOut::Nobody,
            [Who::Connection(id)] if self.connections.has(*id) => LeftOut::One(*id),
            _ => LeftOut::These(
                except
                    .iter()
                    .flat_map(|who| self.ids(namespace, who))
                    .collect(),
            ),
        }
    }

    fn ids(&self, namespace: &Namespace, who: &Who) -> Vec<ConnectionId> {
        match who {
            Who::Connection(_) => {
                let found = self.resolve(namespace, who);
                found.map(|connection| connection.id).collect()
            }
            Who::Room(room) => self.rooms.members_here(namespace, room),
            Who::Everyone => self
                .connections
                .in_namespace(namespace)
                .iter()
                .map(|connection| connection.id)
                .collect(),
        }
    }

    /// Returns connections of this node, found as they are taken.
    fn resolve<'a>(
        &'a self,
        namespace: &Namespace,
        who: &Who,
    ) -> impl Iterator<Item = Arc<Connection>> + use<'a> {
        let members = |room: &RoomName| self.rooms.members_here(namespace, room);
        let (mut one, mut all, mut ids) = (None, Vec::new(), Vec::new());
        match who {
            Who::Connection(id) => match self.connections.get(*id) {
                Some(found) => one = (found.namespace == *namespace).then_some(found),
                // A server of another kind may have given such a name to a room.
                None => {
                    let room = RoomName::foreign(&id.to_string());
                    ids = room.as_ref().map(members).unwrap_or_default();
                }
            },
            Who::Everyone => all = self.connections.in_namespace(namespace),
            Who::Room(room) => ids = members(room),
        }
        let members = ids.into_iter().filter_map(|id| self.connections.get(id));
        one.into_iter().chain(all).chain(members)
    }
}
