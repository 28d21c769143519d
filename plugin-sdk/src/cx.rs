//! What a handler is given: the event, the capabilities, and the place for what it wants done.

use crate::{
    bindings::switchboard::plugin::types as wit,
    capabilities::{Kv, Rooms},
    channels::Channels,
    emit::Emit,
    error::{Error, Result},
    history::History,
    imports,
    payload::Id,
    presence::Presence,
    timers::Timers,
    typing::Typing,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{cell::Cell, collections::BTreeSet};

/// The context of one event.
///
/// Instructions are carried out in the order in which they are given, after the handler has returned
/// `Ok` and what it wrote has been committed. When it returns an error none of them is.
pub struct Cx {
    pub(crate) id: String,
    pub(crate) namespace: String,
    pub(crate) at_ms: u64,
    pub(crate) connection: Option<String>,
    pub(crate) identity: Option<wit::Identity>,
    pub(crate) wants_ack: bool,
    source: String,
    pub(crate) instructions: Vec<wit::Instruction>,
    ids: Cell<u16>,
}

impl Cx {
    pub(crate) fn new(event: &mut wit::Event) -> Self {
        let peer = event.peer.take();
        let (connection, identity) = match peer {
            Some(peer) => (Some(peer.connection), peer.identity),
            None => (None, None),
        };
        Self {
            id: std::mem::take(&mut event.id),
            namespace: std::mem::take(&mut event.namespace),
            at_ms: event.at_ms,
            connection,
            identity,
            wants_ack: event.wants_ack,
            source: match &event.trigger {
                wit::Trigger::Server(server) => server.source.clone(),
                _ => String::new(),
            },
            instructions: Vec::new(),
            ids: Cell::new(0),
        }
    }

    // ---- who -----------------------------------------------------------------------------------

    fn identity(&self) -> Result<&wit::Identity> {
        self.identity.as_ref().ok_or_else(|| {
            crate::log::error("a handler of a server event asked for its user; it has none");
            Error::new("PLUGIN_FAILED", "the plugin failed on this event")
        })
    }

    /// Returns the id of the user whose event this is.
    ///
    /// # Errors
    /// For a server event, which is nobody's.
    pub fn user(&self) -> Result<Id> {
        Id::new(self.identity()?.user.as_str())
    }

    /// Returns the user's role; empty for a server event.
    #[must_use]
    pub fn role(&self) -> &str {
        self.identity.as_ref().map_or("", |identity| &identity.role)
    }

    /// Returns the claims of the user's token that the host does not interpret itself.
    ///
    /// # Errors
    /// `INVALID_PAYLOAD` when they are not a `T`; the plugin's failure for a server event.
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.identity()?.claims)
            .map_err(|error| Error::invalid_payload(format!("the token's claims: {error}")))
    }

    /// Returns one claim of the user's token, `None` where there is no such claim.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<Value> {
        let claims: Value = serde_json::from_str(&self.identity.as_ref()?.claims).ok()?;
        claims.get(name).cloned()
    }

    /// Returns the ids in a claim of the user's token that is a list, such as `enrolledCourses`; none where
    /// there is no such claim, and without what is no id.
    #[must_use]
    pub fn claimed_ids(&self, name: &str) -> BTreeSet<Id> {
        let claimed = self.claim(name);
        let claimed = claimed.as_ref().and_then(Value::as_array);
        let texts = claimed.into_iter().flatten().filter_map(Value::as_str);
        texts.filter_map(|text| Id::new(text).ok()).collect()
    }

    /// Returns the host's id of the connection; empty for a server event.
    #[must_use]
    pub fn connection(&self) -> &str {
        self.connection.as_deref().unwrap_or_default()
    }

    /// Returns the namespace that the plugin is mounted on, such as `/`.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the id of the event, a UUIDv7: the same again when the host runs the handler again.
    #[must_use]
    pub fn event_id(&self) -> &str {
        &self.id
    }

    /// Returns where a server event came in: `api`, `channel` for a message on a channel of Redis,
    /// `cluster` for a server of another kind; empty for other events.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Tells whether the sender waits for an acknowledgement.
    #[must_use]
    pub fn wants_ack(&self) -> bool {
        self.wants_ack
    }

    // ---- when ----------------------------------------------------------------------------------

    /// Returns when the host received the event, in milliseconds since 1970 UTC.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.at_ms
    }

    /// Returns when the host received the event, as RFC 3339 in UTC with milliseconds.
    #[must_use]
    pub fn timestamp(&self) -> String {
        crate::time::rfc_3339(self.at_ms)
    }

    /// Returns a new id, a UUIDv7. Ids of one event are different, and the same again when the host
    /// runs the handler again.
    #[must_use]
    pub fn new_id(&self) -> String {
        let count = self.ids.get();
        self.ids.set(count.wrapping_add(1));
        crate::time::uuid_v7(self.at_ms, &self.id, count)
    }

    // ---- capabilities --------------------------------------------------------------------------

    /// Returns the operator's settings of this plugin.
    ///
    /// # Errors
    /// When they are not a `T`; a settings schema makes the host refuse such settings at load.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&imports::settings()).map_err(|error| {
            crate::log::error(format!(
                "the settings are not what the plugin expects: {error}"
            ));
            Error::new("PLUGIN_FAILED", "the plugin's settings are not valid")
        })
    }

    /// Returns who is in which room.
    #[must_use]
    pub fn rooms(&self) -> Rooms {
        Rooms(())
    }

    /// Returns the stored values of a partition.
    #[must_use]
    pub fn kv(&self, partition: impl Into<String>) -> Kv {
        Kv {
            partition: partition.into(),
        }
    }

    /// Returns the history of a partition.
    #[must_use]
    pub fn history(&self, partition: impl Into<String>) -> History {
        History {
            partition: partition.into(),
        }
    }

    /// Returns the timers of a partition.
    #[must_use]
    pub fn timers(&self, partition: impl Into<String>) -> Timers {
        Timers {
            partition: partition.into(),
            now_ms: self.at_ms,
        }
    }

    /// Returns what publishes to channels of Redis.
    #[must_use]
    pub fn channels(&self) -> Channels {
        Channels(())
    }

    /// Returns who types where.
    #[must_use]
    pub fn typing(&self) -> Typing {
        Typing(())
    }

    /// Returns what users are seen as.
    #[must_use]
    pub fn presence(&self) -> Presence {
        Presence(())
    }

    // ---- instructions --------------------------------------------------------------------------

    /// Begins an emission: say to whom, then what.
    ///
    /// ```
    /// # use switchboard_plugin::{Cx, Result};
    /// # fn handler(cx: &mut Cx) -> Result<()> {
    /// cx.emit("message").to_room("room:42").except_self().send(&"hello")?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "nothing is emitted before `send`"]
    pub fn emit(&mut self, event: impl Into<String>) -> Emit<'_> {
        Emit::new(self, event.into())
    }

    fn own(&self) -> wit::Target {
        wit::Target::Connection(self.connection().to_owned())
    }

    /// Puts this connection into a room.
    pub fn join(&mut self, room: impl Into<String>) {
        let who = self.own();
        self.push_join(who, room.into());
    }

    /// Puts every connection of a user into a room.
    pub fn join_user(&mut self, user: impl AsRef<str>, room: impl Into<String>) {
        self.push_join(wit::Target::User(user.as_ref().to_owned()), room.into());
    }

    fn push_join(&mut self, who: wit::Target, room: String) {
        let membership = wit::Membership { who, room };
        self.instructions.push(wit::Instruction::Join(membership));
    }

    /// Takes this connection out of a room.
    pub fn leave(&mut self, room: impl Into<String>) {
        let who = self.own();
        self.push_leave(who, room.into());
    }

    /// Takes every connection of a user out of a room.
    pub fn leave_user(&mut self, user: impl AsRef<str>, room: impl Into<String>) {
        self.push_leave(wit::Target::User(user.as_ref().to_owned()), room.into());
    }

    /// Takes everybody out of a room.
    pub fn empty(&mut self, room: impl Into<String>) {
        let room = room.into();
        self.push_leave(wit::Target::Room(room.clone()), room);
    }

    fn push_leave(&mut self, who: wit::Target, room: String) {
        let membership = wit::Membership { who, room };
        self.instructions.push(wit::Instruction::Leave(membership));
    }

    /// Ends this connection. Stock clients stay away until they are told to connect again.
    pub fn disconnect(&mut self, reason: impl Into<String>) {
        let who = self.own();
        self.push_disconnect(who, reason.into(), false);
    }

    /// Ends every connection of a user.
    pub fn disconnect_user(&mut self, user: impl AsRef<str>, reason: impl Into<String>) {
        self.push_disconnect(
            wit::Target::User(user.as_ref().to_owned()),
            reason.into(),
            false,
        );
    }

    /// Closes the transport of this connection: stock clients come back by themselves.
    pub fn close_transport(&mut self, reason: impl Into<String>) {
        let who = self.own();
        self.push_disconnect(who, reason.into(), true);
    }

    fn push_disconnect(&mut self, who: wit::Target, reason: String, transport: bool) {
        self.instructions
            .push(wit::Instruction::Disconnect(wit::Disconnection {
                who,
                reason,
                transport,
            }));
    }
}
