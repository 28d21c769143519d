//! The way in: what other nodes want done here is done, and what they ask is answered.

use super::{
    Cluster, leases,
    msgpack::{self, Malformed},
    others::Others,
    wire::{self, Answer, Asked, Broadcast, Channels, Request, Selection},
};
use crate::{
    core::{names::EventName, payload, recipient::Who},
    link::listener::Topic,
    metrics::count,
    pipeline::{Pipeline, ServerEvent},
    ports::{Asking, Frame, Relayed},
};
use parking_lot::Mutex;
use rmpv::Value;
use std::sync::Arc;

/// Bytes of one message from another node; a part of a whole is the largest that a host sends.
const MESSAGE_BYTES: usize = 16 << 20;

/// See the module's page.
#[derive(Clone)]
pub(super) struct Inbox {
    pub(super) cluster: Arc<Cluster>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) others: Arc<Mutex<Others>>,
}

impl Inbox {
    /// Returns what is to be listened to.
    pub(super) fn topics(&self) -> Vec<Topic> {
        let all = self.cluster.channels.iter().flat_map(|channels| {
            [
                Topic::Prefix(channels.broadcast.clone()),
                Topic::Channel(channels.request.clone()),
            ]
        });
        let letters = Topic::Channel(self.cluster.letters.clone());
        all.chain([letters]).collect()
    }

    /// Takes one message.
    pub(super) fn take(&self, channel: &str, bytes: &[u8]) {
        if bytes.len() > MESSAGE_BYTES {
            return self.malformed(channel, "larger than any message between hosts");
        }
        if channel == self.cluster.letters {
            match serde_json::from_slice(bytes) {
                Ok(letter) => leases::take(&self.cluster, &self.others, letter),
                Err(_) => self.malformed(channel, "expected a letter of another host"),
            }
            return;
        }
        for channels in &self.cluster.channels {
            let taken = if channel == channels.request {
                self.take_request(channels, bytes)
            } else if channel.starts_with(&channels.broadcast) {
                self.take_broadcast(channels, channel, bytes)
            } else {
                continue;
            };
            if let Err(Malformed(why)) = taken {
                self.malformed(channel, why);
            }
            return;
        }
    }

    fn malformed(&self, channel: &str, why: &str) {
        count(&self.cluster.metrics.relay_lost, "malformed");
        tracing::warn!(channel, why, "another node sent what cannot be understood");
    }

    fn take_broadcast(
        &self,
        channels: &Channels,
        channel: &str,
        bytes: &[u8],
    ) -> Result<(), Malformed> {
        // Most are not even read where nobody is concerned.
        if let Some(room) = channels.room_of(channel)
            && !Who::of_room(room)
                .is_some_and(|who| self.pipeline.concerns(&channels.namespace, &who))
        {
            return Ok(());
        }
        let broadcast = wire::read_broadcast(bytes, &self.cluster.uid, &channels.namespace)?;
        if let Some(broadcast) = broadcast {
            self.emit(channels, &broadcast, None);
        }
        Ok(())
    }

    fn emit(&self, channels: &Channels, broadcast: &Broadcast, ask: Option<&Asking>) {
        self.pipeline.emit_relayed(Relayed {
            namespace: &channels.namespace,
            to: &broadcast.selection.to,
            except: &broadcast.selection.except,
            frame: &broadcast.frame,
            volatile: broadcast.volatile,
            ask,
        });
    }

    fn take_request(&self, channels: &Channels, bytes: &[u8]) -> Result<(), Malformed> {
        let Some(Asked { id, request }) = wire::read_request(bytes, &self.cluster.uid)? else {
            return Ok(());
        };
        let (pipeline, namespace) = (&self.pipeline, &channels.namespace);
        let answer = match request {
            Request::Join(Selection { to, except }, rooms) => {
                pipeline.move_relayed(namespace, &to, &except, &rooms, true);
                Some(Answer::Done)
            }
            Request::Leave(Selection { to, except }, rooms) => {
                pipeline.move_relayed(namespace, &to, &except, &rooms, false);
                Some(Answer::Done)
            }
            Request::Disconnect(Selection { to, except }, transport) => {
                pipeline.disconnect_relayed(namespace, &to, &except, transport);
                Some(Answer::Done)
            }
            Request::Sockets(Selection { to, except }) => {
                let found = pipeline.find_relayed(namespace, &to, &except).into_iter();
                let ids = found.map(|(connection, _)| Value::from(connection.id.to_string()));
                Some(Answer::Sockets(ids.collect()))
            }
            Request::Fetch(selection) => Some(self.fetch(channels, &selection)),
            Request::AllRooms => {
                let (rooms, connections) = pipeline.all_rooms(namespace);
                let rooms = rooms.iter().map(|room| room.as_str().to_owned());
                let connections = connections.iter().map(ToString::to_string);
                Some(Answer::Rooms(rooms.chain(connections).collect()))
            }
            Request::ServerSideEmit(frame) => {
                self.serve(channels, id, &frame);
                return Ok(());
            }
            Request::Ask(_, Some(asking)) if asking.depth > pipeline.depth => {
                return Err(Malformed("switchboard.depth: beyond the bound"));
            }
            Request::Ask(broadcast, Some(asking)) => {
                self.emit(channels, &broadcast, Some(&asking));
                None
            }
            Request::Ask(broadcast, None) => {
                id.as_deref().map(|id| self.ask(channels, id, &broadcast))
            }
        };
        if let (Some(answer), Some(id)) = (answer, id) {
            self.answer(channels, &id, answer);
        }
        Ok(())
    }

    fn answer(&self, channels: &Channels, id: &str, answer: Answer) {
        let message = wire::write_answer(id, answer);
        let channel = channels.response.clone();
        self.cluster.publisher.give(channel, message, false);
    }

    fn fetch(&self, channels: &Channels, Selection { to, except }: &Selection) -> Answer {
        let found = self.pipeline.find_relayed(&channels.namespace, to, except);
        let sockets = found.into_iter().map(|(connection, rooms)| {
            let id = connection.id.to_string();
            let rooms = rooms.iter().map(|room| room.as_str().to_owned());
            let rooms = [id.clone()].into_iter().chain(rooms).collect();
            let identity = connection.identity();
            let (user, role) = identity.as_ref().map_or(("", ""), |identity| {
                (identity.user.as_str(), identity.role.as_str())
            });
            wire::socket(&id, rooms, user, role)
        });
        Answer::Sockets(sockets.collect())
    }

    /// Asks clients for another server, which is told how many they are, and then of each answer.
    fn ask(&self, channels: &Channels, id: &str, broadcast: &Broadcast) -> Answer {
        let Selection { to, except } = &broadcast.selection;
        let asked = self
            .pipeline
            .ask_relayed(&channels.namespace, to, except, &broadcast.frame);
        let count = asked.len();
        for (connection, answer) in asked {
            let (inbox, channels, id) = (self.clone(), channels.clone(), id.to_owned());
            tokio::spawn(async move {
                let (args, attachments) = match answer.await {
                    Ok(answer) => answer,
                    Err("full") => return inbox.pipeline.executor.close_slow(&connection),
                    Err(_) => return,
                };
                // Node.js takes the first argument only.
                let args = msgpack::from_json(&args, &attachments);
                let first = args.ok().and_then(|args| args.as_array()?.first().cloned());
                let first = Answer::Acknowledged(first.unwrap_or(Value::Nil));
                inbox.answer(&channels, &id, first);
            });
        }
        Answer::Asked(count)
    }

    /// Hands an event for servers to the plugins that take it as a server event: on one host, whichever
    /// comes first by its name. The others answer nothing in particular, as a server without a
    /// listener would leave who asked waiting.
    fn serve(&self, channels: &Channels, id: Option<String>, frame: &Frame) {
        let is_first = self.others.lock().is_first(&self.cluster.node.lock());
        let event = payload::split_packet(&frame.packet).ok();
        let event = event.and_then(|(name, args)| Some((EventName::new(name).ok()?, args)));
        let (inbox, channels) = (self.clone(), channels.clone());
        let mine = event.filter(|_| is_first && frame.attachments.is_empty());
        tokio::spawn(async move {
            let mut answer = Value::Nil;
            if let Some((name, args)) = mine {
                let event = ServerEvent {
                    plugin: None,
                    name,
                    args,
                    key: None,
                    source: "cluster",
                };
                let outcome = inbox.pipeline.server_event(event).await;
                answer = match outcome {
                    Ok(answer) => answer.map_or(Value::Nil, |answer| {
                        let args = msgpack::from_json(&answer.args, &answer.attachments);
                        let first = args.ok().and_then(|args| args.as_array()?.first().cloned());
                        first.unwrap_or(Value::Nil)
                    }),
                    Err(failure) => {
                        let failure = failure.to_answer().to_string();
                        msgpack::from_json(&failure, &[]).unwrap_or(Value::Nil)
                    }
                };
            }
            if let Some(id) = id {
                inbox.answer(&channels, &id, Answer::Served(answer));
            }
        });
    }
}
