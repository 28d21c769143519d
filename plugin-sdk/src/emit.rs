//! Emissions, built like a sentence: what, to whom, except whom.

use crate::{bindings::switchboard::plugin::types as wit, cx::Cx, error::Result, payload};
use serde::Serialize;

/// An emission on its way; see [`Cx::emit`]. Each connection that is meant receives it once, however
/// often it is named.
#[must_use = "nothing is emitted before `send`"]
pub struct Emit<'a> {
    cx: &'a mut Cx,
    emission: wit::Emission,
}

impl<'a> Emit<'a> {
    pub(crate) fn new(cx: &'a mut Cx, name: String) -> Self {
        Self {
            cx,
            emission: wit::Emission {
                to: Vec::new(),
                except: Vec::new(),
                name,
                args: String::new(),
                attachments: Vec::new(),
                volatile: false,
                ack: None,
            },
        }
    }

    fn to(mut self, target: wit::Target) -> Self {
        self.emission.to.push(target);
        self
    }

    fn except(mut self, target: wit::Target) -> Self {
        self.emission.except.push(target);
        self
    }

    /// To this connection.
    pub fn to_self(self) -> Self {
        let own = wit::Target::Connection(self.cx.connection().to_owned());
        self.to(own)
    }

    /// To everybody in a room.
    pub fn to_room(self, room: impl Into<String>) -> Self {
        self.to(wit::Target::Room(room.into()))
    }

    /// To every connection of a user.
    pub fn to_user(self, user: impl AsRef<str>) -> Self {
        self.to(wit::Target::User(user.as_ref().to_owned()))
    }

    /// To every connection of several users.
    pub fn to_users<U: AsRef<str>>(self, users: impl IntoIterator<Item = U>) -> Self {
        users.into_iter().fold(self, Self::to_user)
    }

    /// To one connection.
    pub fn to_connection(self, connection: impl Into<String>) -> Self {
        self.to(wit::Target::Connection(connection.into()))
    }

    /// To everybody in the plugin's namespace.
    pub fn to_everyone(self) -> Self {
        self.to(wit::Target::Everyone)
    }

    /// But not to this connection.
    pub fn except_self(self) -> Self {
        let own = wit::Target::Connection(self.cx.connection().to_owned());
        self.except(own)
    }

    /// But not to those in a room.
    pub fn except_room(self, room: impl Into<String>) -> Self {
        self.except(wit::Target::Room(room.into()))
    }

    /// But not to any connection of a user.
    pub fn except_user(self, user: impl AsRef<str>) -> Self {
        self.except(wit::Target::User(user.as_ref().to_owned()))
    }

    /// But not to one connection.
    pub fn except_connection(self, connection: impl Into<String>) -> Self {
        self.except(wit::Target::Connection(connection.into()))
    }

    /// May be dropped for a client that is not ready, and has no order.
    pub fn volatile(mut self) -> Self {
        self.emission.volatile = true;
        self
    }

    /// Asks clients to acknowledge; their answers come to `on_acknowledged` with this token.
    pub fn ask(mut self, token: impl Into<String>) -> Self {
        self.emission.ack = Some(token.into());
        self
    }

    /// Emits with one argument.
    ///
    /// # Errors
    /// When the argument cannot be written as JSON.
    pub fn send<T: Serialize + ?Sized>(self, argument: &T) -> Result<()> {
        self.send_args(&(argument,))
    }

    /// Emits with the arguments of a tuple.
    ///
    /// # Errors
    /// When one of them cannot be written as JSON.
    pub fn send_args<T: Serialize + ?Sized>(mut self, arguments: &T) -> Result<()> {
        (self.emission.args, self.emission.attachments) = payload::write(arguments)?;
        self.cx
            .instructions
            .push(wit::Instruction::Emit(self.emission));
        Ok(())
    }

    /// Emits without arguments.
    ///
    /// # Errors
    /// None; it is a `Result` like its siblings.
    pub fn send_nothing(self) -> Result<()> {
        let none: [(); 0] = [];
        self.send_args(&none)
    }
}
