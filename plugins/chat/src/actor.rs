//! In whose name something is done.

use crate::channels;
use serde::{Deserialize, de::DeserializeOwned};
use switchboard_plugin::{Ack, Cx, Id, Result};

/// A user who does something: by a client, or by a backend that says so.
pub(crate) struct Actor {
    pub(crate) user: Id,
    role: String,
}

impl Actor {
    pub(crate) fn is_admin(&self) -> bool {
        self.role == "admin"
    }

    pub(crate) fn role(&self) -> &str {
        &self.role
    }
}

/// Returns the handler of a client's event.
pub(crate) fn by_client<T: DeserializeOwned>(
    act: impl Fn(&mut Cx, &Actor, T) -> Result<Ack>,
) -> impl Fn(&mut Cx, T) -> Result<Ack> {
    move |cx, event| {
        let actor = Actor {
            user: cx.user()?,
            role: cx.role().to_owned(),
        };
        act(cx, &actor, event)
    }
}

/// What a backend says that a user does.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Told<T> {
    user_id: Id,
    #[serde(default)]
    role: String,
    #[serde(default)]
    origin: Option<String>,
    #[serde(flatten)]
    event: T,
}

/// Returns the handler of the same as a server event. What this plugin has published itself comes back
/// where the operator mapped the channel; it is passed over.
pub(crate) fn by_backend<T: DeserializeOwned>(
    act: impl Fn(&mut Cx, &Actor, T) -> Result<Ack>,
) -> impl Fn(&mut Cx, Told<T>) -> Result<Ack> {
    move |cx, told| {
        if channels::is_own(cx, told.origin.as_deref())? {
            return Ok(Ack::ok());
        }
        let actor = Actor {
            user: told.user_id,
            role: told.role,
        };
        act(cx, &actor, told.event)
    }
}
