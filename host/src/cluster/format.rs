//! In which format one speaks with other nodes in one namespace.

use super::{
    config::{ClusterConfig, Mode, Subscriptions},
    msgpack::Malformed,
    packets::{Answer, AnswerTo, Change, Heard, Outgoing},
    sharded, wire,
};
use crate::{
    core::{names::Namespace, recipient::Who},
    link::listener::Topic,
    ports::Relayed,
};

/// See the module's page.
#[derive(Debug, Clone)]
pub(super) enum Format {
    /// That of `createAdapter`, and this node's name in it.
    Classic(wire::Channels, String),
    /// That of `createShardedAdapter`.
    Sharded(sharded::Channels),
}

impl Format {
    pub(super) fn new(config: &ClusterConfig, namespace: &Namespace, own: &str) -> Self {
        let by_room = config.subscriptions == Subscriptions::Dynamic;
        match config.mode {
            Mode::Classic => {
                Self::Classic(wire::Channels::new(&config.key, namespace), own.to_owned())
            }
            Mode::Sharded => {
                Self::Sharded(sharded::Channels::new(&config.key, namespace, own, by_room))
            }
        }
    }

    pub(super) fn namespace(&self) -> &Namespace {
        match self {
            Self::Classic(channels, _) => &channels.namespace,
            Self::Sharded(channels) => &channels.namespace,
        }
    }

    /// Returns what is listened to, other than sharded channels.
    pub(super) fn topics(&self) -> Vec<Topic> {
        match self {
            Self::Classic(channels, own) => vec![
                Topic::Prefix(channels.broadcast.clone()),
                Topic::Channel(channels.request.clone()),
                Topic::Channel(channels.response.clone()),
                Topic::Channel(channels.response_to(own)),
            ],
            Self::Sharded(_) => Vec::new(),
        }
    }

    /// Tells whether a channel is one of these.
    pub(super) fn has(&self, channel: &str) -> bool {
        match self {
            Self::Classic(channels, _) => {
                [&channels.broadcast, &channels.request, &channels.response]
                    .into_iter()
                    .any(|known| channel.starts_with(known.as_str()))
            }
            Self::Sharded(channels) => channel.starts_with(&channels.main),
        }
    }

    /// Returns the room that a channel is for, where it is for one.
    pub(super) fn room_of<'a>(&self, channel: &'a str) -> Option<&'a str> {
        match self {
            Self::Classic(channels, _) => channels.room_of(channel),
            Self::Sharded(channels) => channels.room_of(channel),
        }
    }

    /// Reads a message; none where it is this node's own, or for nobody here.
    pub(super) fn read(&self, channel: &str, bytes: &[u8]) -> Result<Option<Heard>, Malformed> {
        match self {
            Self::Classic(channels, own) if channel == channels.request => {
                let asked = wire::read_request(channels, bytes, own)?;
                Ok(asked.map(Heard::Asked))
            }
            Self::Classic(channels, _) if channel.starts_with(&channels.response) => {
                let answer = wire::read_response(bytes)?;
                Ok(answer.map(|(id, packet)| Heard::Acknowledged(id, packet)))
            }
            Self::Classic(channels, own) => {
                let broadcast = wire::read_broadcast(bytes, own, &channels.namespace)?;
                Ok(broadcast.map(Heard::Broadcast))
            }
            Self::Sharded(channels) => sharded::read(channels, bytes),
        }
    }

    /// Writes an emission, and returns under which id clients are asked. `to_all` says that it must not
    /// come before what was said to all nodes.
    pub(super) fn emission(
        &self,
        emission: Relayed<'_>,
        to_all: bool,
    ) -> Result<(Outgoing, Option<String>), Malformed> {
        match self {
            Self::Classic(channels, own) => wire::write_emission(channels, own, emission),
            Self::Sharded(channels) => sharded::write_emission(channels, emission, to_all),
        }
    }

    /// Writes a change of connections.
    pub(super) fn change(&self, who: &Who, change: Change<'_>) -> Outgoing {
        match self {
            Self::Classic(channels, own) => wire::write_change(channels, own, who, change),
            Self::Sharded(channels) => sharded::write_change(channels, who, change),
        }
    }

    /// Writes an answer; none where nobody waits for one.
    pub(super) fn answer(&self, to: &AnswerTo, answer: Answer) -> Option<Outgoing> {
        match self {
            Self::Classic(_, _) => Some(wire::write_answer(to, answer)),
            Self::Sharded(channels) => sharded::write_answer(channels, to, answer),
        }
    }
}
