//! The way in: what other nodes want done here is done, and what they ask is answered.

use super::{
    Cluster,
    complaints::SharedComplaints,
    format::Format,
    leases,
    msgpack::{self, Malformed},
    others::Others,
    packets::{Answer, AnswerTo, Asked, Broadcast, Heard, Request, Selection, socket},
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
    pub(super) complaints: SharedComplaints,
}

impl Inbox {
    /// Returns what is to be listened to, other than sharded channels.
    pub(super) fn topics(&self) -> Vec<Topic> {
        let all = self.cluster.formats.iter().flat_map(Format::topics);
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
                Ok(letter) => leases::take(&self.cluster, &self.others, &self.pipeline, letter),
                Err(_) => self.malformed(channel, "expected a letter of another host"),
            }
            return;
        }
        let mut formats = self.cluster.formats.iter();
        if let Some(format) = formats.find(|format| format.has(channel))
            && let Err(Malformed(why)) = self.take_of(format, channel, bytes)
        {
            self.malformed(channel, why);
        }
    }

    fn malformed(&self, channel: &str, why: &str) {
        count(&self.cluster.metrics.relay_lost, "malformed");
        let why = format!("{why} (channel {channel})");
        self.complaints
            .complain("another node sent what cannot be understood", why);
    }

    fn take_of(&self, format: &Format, channel: &str, bytes: &[u8]) -> Result<(), Malformed> {
        // Most are not even read where nobody is concerned.
        if let Some(room) = format.room_of(channel)
            && !Who::of_room(room)
                .is_some_and(|who| self.pipeline.concerns(format.namespace(), &who))
        {
            return Ok(());
        }
        match format.read(channel, bytes)? {
            None => Ok(()),
            Some(Heard::Broadcast(broadcast)) => {
                self.emit(format, &broadcast, None);
                Ok(())
            }
            Some(Heard::Asked(asked)) => self.take_request(format, asked),
            Some(Heard::Acknowledged(id, packet)) => self.take_answer(&id, packet),
        }
    }

    /// Takes the acknowledgement of a client of another kind of server.
    fn take_answer(&self, id: &str, first: Value) -> Result<(), Malformed> {
        let Some((namespace, asking)) = self.cluster.questions.get(id) else {
            return Ok(());
        };
        let (args, attachments) = msgpack::to_json(Value::Array(vec![first]))?;
        let checked = payload::check_args(&args, attachments.len(), payload::INCOMING_DEPTH);
        let outcome = checked.map(|()| args).map_err(|_| "invalid");
        self.pipeline
            .acknowledged_elsewhere(&namespace, &asking, outcome, attachments);
        Ok(())
    }

    fn emit(&self, format: &Format, broadcast: &Broadcast, ask: Option<&Asking>) {
        self.pipeline.emit_relayed(Relayed {
            namespace: format.namespace(),
            to: &broadcast.selection.to,
            except: &broadcast.selection.except,
            frame: &broadcast.frame,
            volatile: broadcast.volatile,
            ask,
        });
    }

    fn take_request(&self, format: &Format, asked: Asked) -> Result<(), Malformed> {
        let Asked { answer_to, request } = asked;
        let (pipeline, namespace) = (&self.pipeline, format.namespace());
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
            Request::Fetch(selection) => Some(self.fetch(format, &selection)),
            Request::AllRooms => {
                let (rooms, connections) = pipeline.all_rooms(namespace);
                let rooms = rooms.iter().map(|room| room.as_str().to_owned());
                let connections = connections.iter().map(ToString::to_string);
                Some(Answer::Rooms(rooms.chain(connections).collect()))
            }
            Request::ServerSideEmit(frame) => {
                self.serve(format, answer_to, &frame);
                return Ok(());
            }
            Request::Ask(_, Some(asking)) if asking.depth > pipeline.depth => {
                return Err(Malformed("switchboard.depth: beyond the bound"));
            }
            Request::Ask(broadcast, Some(asking)) => {
                self.emit(format, &broadcast, Some(&asking));
                None
            }
            Request::Ask(broadcast, None) => answer_to
                .as_ref()
                .map(|to| self.ask(format, to, &broadcast)),
        };
        if let (Some(answer), Some(to)) = (answer, answer_to) {
            self.answer(format, &to, answer);
        }
        Ok(())
    }

    fn answer(&self, format: &Format, to: &AnswerTo, answer: Answer) {
        if let Some(message) = format.answer(to, answer) {
            self.cluster.publisher.give(message, false);
        }
    }

    fn fetch(&self, format: &Format, Selection { to, except }: &Selection) -> Answer {
        let found = self.pipeline.find_relayed(format.namespace(), to, except);
        let sockets = found.into_iter().map(|(connection, rooms)| {
            let id = connection.id.to_string();
            let rooms = rooms.iter().map(|room| room.as_str().to_owned());
            let rooms = [id.clone()].into_iter().chain(rooms).collect();
            let identity = connection.identity();
            let (user, role) = identity.as_ref().map_or(("", ""), |identity| {
                (identity.user.as_str(), identity.role.as_str())
            });
            socket(&id, rooms, user, role)
        });
        Answer::Sockets(sockets.collect())
    }

    /// Asks clients for another server, which is told how many they are, and then of each answer.
    fn ask(&self, format: &Format, answer_to: &AnswerTo, broadcast: &Broadcast) -> Answer {
        let Selection { to, except } = &broadcast.selection;
        let asked = self
            .pipeline
            .ask_relayed(format.namespace(), to, except, &broadcast.frame);
        let count = asked.len();
        for (connection, answer) in asked {
            let (inbox, format, answer_to) = (self.clone(), format.clone(), answer_to.clone());
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
                inbox.answer(&format, &answer_to, first);
            });
        }
        Answer::Asked(count)
    }

    /// Hands an event for servers to the plugins that take it as a server event: on one host, whichever
    /// comes first by its name. The others answer nothing in particular, as a server without a
    /// listener would leave who asked waiting.
    fn serve(&self, format: &Format, answer_to: Option<AnswerTo>, frame: &Frame) {
        let is_first = self.others.lock().is_first(&self.cluster.node.lock());
        let event = payload::split_packet(&frame.packet).ok();
        let event = event.and_then(|(name, args)| Some((EventName::new(name).ok()?, args)));
        let (inbox, format) = (self.clone(), format.clone());
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
            if let Some(to) = answer_to {
                inbox.answer(&format, &to, Answer::Served(answer));
            }
        });
    }
}
