//! What reaches connections of other nodes.

use super::Frame;
use crate::core::{
    names::{Namespace, PluginName, RoomName},
    recipient::Who,
};
use futures_util::future::{BoxFuture, ready};
use std::sync::Arc;

/// An emission that goes to other nodes.
#[derive(Debug, Clone, Copy)]
pub struct Relayed<'a> {
    /// Where.
    pub namespace: &'a Namespace,
    /// To the union of these.
    pub to: &'a [Who],
    /// But not to these.
    pub except: &'a [Who],
    /// The event.
    pub frame: &'a Frame,
    /// Whether it may be dropped.
    pub volatile: bool,
    /// For whom clients are asked for acknowledgements.
    pub ask: Option<&'a Asking>,
}

/// A plugin that asks clients for acknowledgements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asking {
    /// Which.
    pub plugin: PluginName,
    /// What it calls the emission.
    pub token: Arc<str>,
    /// How many events of plugins' making led to it.
    pub depth: u8,
}

/// Takes to other nodes what is about their connections, in the order in which it is told, and as
/// long as they can be reached. Nothing here waits, nor fails: what cannot be taken is counted.
pub trait Relay: Send + Sync {
    /// Sends a frame.
    fn emit(&self, emission: Relayed<'_>);

    /// Puts connections into a room.
    fn join(&self, namespace: &Namespace, who: &Who, room: &RoomName);

    /// Takes connections out of a room.
    fn leave(&self, namespace: &Namespace, who: &Who, room: &RoomName);

    /// Ends connections; their transports too, where that is wanted.
    fn disconnect(&self, namespace: &Namespace, who: &Who, transport: bool);

    /// Returns what ends once this node hears all that is for the rooms that its connections have joined, or
    /// cannot; none where that is so already.
    fn settled(&self) -> Option<BoxFuture<'static, ()>> {
        None
    }

    /// Tells why other nodes are not reached now, if they are not.
    fn trouble(&self) -> Option<String>;

    /// Returns when all that was told before is on its way.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// What stands where a host is alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Relay for Alone {
    fn emit(&self, _: Relayed<'_>) {}
    fn join(&self, _: &Namespace, _: &Who, _: &RoomName) {}
    fn leave(&self, _: &Namespace, _: &Who, _: &RoomName) {}
    fn disconnect(&self, _: &Namespace, _: &Who, _: bool) {}
    fn trouble(&self) -> Option<String> {
        None
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }
}
