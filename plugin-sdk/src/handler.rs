//! Handlers are plain functions; this is what makes a function one.

use crate::{
    arguments::Arguments,
    bindings::switchboard::plugin::types as wit,
    cx::Cx,
    error::{Error, Result},
    payload,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// What a handler acknowledges an event with.
#[derive(Debug)]
pub struct Ack(pub(crate) Option<wit::Answer>);

impl Ack {
    /// Acknowledges with `{ ok: true }`.
    #[must_use]
    pub fn ok() -> Self {
        Self(Some(wit::Answer {
            args: r#"[{"ok":true}]"#.to_owned(),
            attachments: Vec::new(),
        }))
    }

    /// Acknowledges with `{ ok: true, … }` and the members of `value`, which must be an object.
    ///
    /// # Errors
    /// When it is not.
    pub fn with<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let (text, attachments) = payload::write(value)?;
        let members = text
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        let Some(members) = members else {
            crate::log::error(format!(
                "Ack::with wants an object, not {text}; Ack::raw takes anything"
            ));
            return Err(Error::new(
                "PLUGIN_FAILED",
                "the plugin failed on this event",
            ));
        };
        let comma = if members.is_empty() { "" } else { "," };
        Ok(Self(Some(wit::Answer {
            args: format!(r#"[{{"ok":true{comma}{members}}}]"#),
            attachments,
        })))
    }

    /// Acknowledges with the arguments of a tuple, as they are.
    ///
    /// # Errors
    /// When one of them cannot be written as JSON.
    pub fn raw<T: Serialize + ?Sized>(arguments: &T) -> Result<Self> {
        let (args, attachments) = payload::write(arguments)?;
        Ok(Self(Some(wit::Answer { args, attachments })))
    }

    /// Does not acknowledge: another plugin that takes the event may. When none does, the host
    /// acknowledges with `{ ok: true }`.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }
}

/// A function that handles an event: `fn(&mut Cx, …) -> Result<Ack>`, with up to four arguments
/// after the context, each of a type that implements `serde::Deserialize`. They are the event's
/// arguments by position; an event with one object has one argument, a struct of yours.
#[diagnostic::on_unimplemented(
    message = "this function does not handle an event",
    label = "expected `fn(&mut Cx, …) -> Result<Ack>`",
    note = "a handler takes `&mut Cx` and then up to four arguments, each of a type that implements `serde::Deserialize` and borrows nothing",
    note = "it returns `switchboard_plugin::Result<Ack>`; end it with `Ok(Ack::ok())`"
)]
pub trait Handler<Args>: 'static {
    /// Reads the arguments and calls the function.
    ///
    /// # Errors
    /// `INVALID_PAYLOAD` for an argument of another type, and what the function returns.
    fn call(&self, cx: &mut Cx, arguments: &Arguments<'_>) -> Result<Ack>;
}

macro_rules! handlers {
    ($($name:ident = $index:tt),*) => {
        impl<F, $($name),*> Handler<($($name,)*)> for F
        where
            F: Fn(&mut Cx, $($name),*) -> Result<Ack> + 'static,
            $($name: DeserializeOwned),*
        {
            fn call(&self, cx: &mut Cx, _arguments: &Arguments<'_>) -> Result<Ack> {
                self(cx, $(_arguments.get::<$name>($index)?),*)
            }
        }
    };
}

handlers!();
handlers!(A = 0);
handlers!(A = 0, B = 1);
handlers!(A = 0, B = 1, C = 2);
handlers!(A = 0, B = 1, C = 2, D = 3);

/// A connection joined a room of the plugin's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Joined {
    /// The room.
    pub room: String,
    /// Whether the user was not in it.
    pub first: bool,
}

/// A connection left a room of the plugin's, by an instruction or because it was lost. Who loses the
/// last connection stays in the room for 5 seconds (unless the operator says otherwise); it is told when
/// they are over, and whether the user has come back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Left {
    /// The room.
    pub room: String,
    /// Whether the user is in it no more.
    pub last: bool,
    /// `left` or `disconnected`.
    pub reason: String,
}

/// A connection is gone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Disconnected {
    /// Why, for people.
    pub reason: String,
    /// The rooms of the plugin's that it was in; it is in none any more.
    pub rooms: Vec<String>,
}

/// A client answered an emission that asked for it, or did not.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Acknowledged {
    /// The token of [`crate::Emit::ask`].
    pub token: String,
    /// The arguments of the answer.
    pub args: Option<Vec<Value>>,
    /// `timeout`, `disconnected` or `invalid`, where there is no answer.
    pub error: Option<String>,
}
