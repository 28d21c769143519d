//! What publishes plugins' messages to channels of Redis.

use super::Alone;
use crate::core::channel::ChannelName;
use futures_util::future::{BoxFuture, ready};

/// Publishes messages, in the order in which they are given, and as long as Redis can be reached.
/// Nothing here waits, nor fails: what cannot be published is counted.
pub trait Channels: Send + Sync {
    /// Publishes a message, which is JSON.
    fn publish(&self, channel: &ChannelName, payload: String);

    /// Tells why channels are not heard or reached now, if they are not.
    fn trouble(&self) -> Option<String>;

    /// Returns when all that was given before is on its way.
    fn close(&self) -> BoxFuture<'_, ()>;
}

impl Channels for Alone {
    // Plugins are told before that there is no Redis.
    fn publish(&self, _: &ChannelName, _: String) {}
    fn trouble(&self) -> Option<String> {
        None
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }
}
