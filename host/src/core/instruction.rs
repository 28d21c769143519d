//! What a plugin wants done. Everything here is as the plugin wrote it and has not been checked;
//! the pipeline does that before it executes any of it.

use super::{
    channel::ChannelName,
    names::{RoomName, UserId},
    presence::Status,
};
use bytes::Bytes;

/// Whom an instruction is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One connection, by the host's id.
    Connection(String),
    /// Every connection of a user.
    User(String),
    /// Every connection in a room.
    Room(String),
    /// Every authenticated connection of the namespace.
    Everyone,
}

/// A binary attachment of an emission or an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// The plugin's own bytes.
    Bytes(Bytes),
    /// The n-th attachment of the event being handled.
    Received(u32),
}

/// Sends an event to clients.
#[derive(Debug, Clone)]
pub struct Emission {
    /// The union of these.
    pub to: Vec<Target>,
    /// Removed from the union.
    pub except: Vec<Target>,
    /// The event's name.
    pub name: String,
    /// The JSON array of its arguments.
    pub args: String,
    /// What the placeholders in the arguments stand for.
    pub attachments: Vec<Attachment>,
    /// Whether it may be dropped.
    pub volatile: bool,
    /// Present when clients are asked to acknowledge.
    pub ack: Option<String>,
}

/// One thing to do.
#[derive(Debug, Clone)]
pub enum Instruction {
    /// Sends an event.
    Emit(Emission),
    /// Puts connections into a room.
    Join {
        /// Which connections.
        who: Target,
        /// The room.
        room: String,
    },
    /// Takes connections out of a room.
    Leave {
        /// Which connections.
        who: Target,
        /// The room.
        room: String,
    },
    /// The event's own connection begins to type in a room, or stops. No plugin writes this into its
    /// reply: it asks for it by the capability `typing`.
    Type {
        /// The room.
        room: RoomName,
        /// Whether it types.
        typing: bool,
    },
    /// A user wants to be seen as something. No plugin writes this into its reply: it asks for it by the
    /// capability `presence`.
    Choose {
        /// Who.
        user: UserId,
        /// As what.
        status: Status,
    },
    /// Publishes a message. No plugin writes this into its reply: it asks for it by the capability
    /// `channels`, which has checked it.
    Publish {
        /// Where.
        channel: ChannelName,
        /// One JSON value.
        payload: String,
    },
    /// Ends connections.
    Disconnect {
        /// Which connections.
        who: Target,
        /// For the operator and for the notice `disconnected`.
        reason: String,
        /// Whether the transport is closed too.
        transport: bool,
    },
}

/// The value of an acknowledgement.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The JSON array of its arguments.
    pub args: String,
    /// What the placeholders in the arguments stand for.
    pub attachments: Vec<Attachment>,
}

/// What a handler returned.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// Absent: nothing to say.
    pub ack: Option<Answer>,
    /// In the order in which they are to be executed.
    pub instructions: Vec<Instruction>,
}
