//! Channels of Redis in tests: what was published, and messages that come.

use super::{Reply, TestHost, world::ask_or_fault};
use crate::{bindings::switchboard::plugin::types as wit, error::Fault};
use serde::Serialize;
use serde_json::{Value, json};

/// Messages that one event may publish, and their bytes together; see `wit/capabilities.wit`.
const MESSAGES: usize = 100;
const BYTES: usize = 1_000_000;
const NAME_BYTES: usize = 256;
const DEPTH: usize = 120;

impl TestHost {
    /// Grants channels: names, or with a `*` at the end what they begin with.
    ///
    /// # Panics
    /// When one is no such thing.
    #[must_use]
    pub fn with_channels<const N: usize>(self, channels: [&str; N]) -> Self {
        for channel in channels {
            let begins = channel.strip_suffix('*').unwrap_or(channel);
            assert!(
                is_name(channel) && !begins.contains('*'),
                "{channel:?} is no channel: expected a name, or with one `*` at its end what names begin with"
            );
            self.world.borrow_mut().channels.push(channel.to_owned());
        }
        self
    }

    /// Is without Redis: what is published is refused, as by a host that has none.
    #[must_use]
    pub fn without_redis(self) -> Self {
        self.world.borrow_mut().is_alone = true;
        self
    }

    /// Returns what was published to a channel since it was last asked, the first message first, and
    /// forgets it.
    #[must_use]
    pub fn take_published(&mut self, channel: &str) -> Vec<Value> {
        let mut world = self.world.borrow_mut();
        let published = std::mem::take(&mut world.published);
        let (taken, others) = published.into_iter().partition(|(name, _)| name == channel);
        world.published = others;
        let taken: Vec<(String, Value)> = taken;
        taken.into_iter().map(|(_, message)| message).collect()
    }

    /// Sends a message of a channel that the operator mapped to a server event.
    pub fn channel_message(&mut self, event: &str, message: impl Serialize) -> Reply {
        let server = wit::ServerEvent {
            name: event.to_owned(),
            args: json!([message]).to_string(),
            source: "channel".to_owned(),
        };
        self.run(None, wit::Trigger::Server(server), Vec::new(), 0)
            .of(event)
    }
}

fn is_name(channel: &str) -> bool {
    (1..=NAME_BYTES).contains(&channel.len()) && !channel.contains(char::is_control)
}

fn covers(grant: &str, channel: &str) -> bool {
    match grant.strip_suffix('*') {
        Some(begins) => channel.starts_with(begins),
        None => grant == channel,
    }
}

fn depth(value: &Value) -> usize {
    let below = match value {
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Object(members) => members.values().map(depth).max(),
        _ => return 0,
    };
    1 + below.unwrap_or(0)
}

pub(crate) fn channels_publish(channel: &str, payload: &str) -> Result<(), Fault> {
    ask_or_fault(|world| {
        world.needs("channels")?;
        if !is_name(channel) {
            return Err(Fault::Invalid(format!(
                "{channel:?} is no channel: expected 1 to {NAME_BYTES} bytes without control characters"
            )));
        }
        if !world.channels.iter().any(|grant| covers(grant, channel)) {
            return Err(Fault::NotGranted(format!(
                "the channel `{channel}` is not granted; an operator does it by plugin.NAME.channels, a test by TestHost::with_channels"
            )));
        }
        if world.is_alone {
            let why = "there is no Redis to publish to: none is configured";
            return Err(Fault::Unavailable(why.to_owned()));
        }
        let staged = &mut world.staged;
        if staged.published.len() >= MESSAGES {
            return Err(Fault::TooMany(format!(
                "more than {MESSAGES} messages published in one event"
            )));
        }
        let bytes = staged.published_bytes + payload.len();
        if bytes > BYTES {
            return Err(Fault::TooLarge(format!(
                "more than {BYTES} bytes published in one event"
            )));
        }
        let message: Value = serde_json::from_str(payload)
            .map_err(|error| Fault::Invalid(format!("payload: {error}")))?;
        // The array of arguments counts, too.
        if depth(&message) + 1 > DEPTH {
            return Err(Fault::Invalid(format!(
                "payload: nested deeper than {DEPTH} levels"
            )));
        }
        staged.published_bytes = bytes;
        staged.published.push((channel.to_owned(), message));
        Ok(())
    })
}
