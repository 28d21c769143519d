//! A plugin: which events it takes, and the functions that handle them.

use crate::{
    arguments::Arguments,
    bindings::switchboard::plugin::types as wit,
    cx::Cx,
    error::{Error, Result},
    handler::{Ack, Acknowledged, Disconnected, Handler, Joined, Left},
    presence::PresenceChanged,
    timers::Timer,
    typing::TypingChanged,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

type EventHandler = Box<dyn Fn(&mut Cx, &Arguments<'_>) -> Result<Ack>>;
type NoticeHandler = Box<dyn Fn(&mut Cx, &str) -> Result<()>>;

/// The notice that a timer is due.
const TIMER: &str = "timer";

/// A plugin, put together by its constructor function and handed to [`crate::export!`].
#[must_use = "hand it to `export!`"]
pub struct Plugin {
    pub(crate) name: &'static str,
    version: &'static str,
    messages: Vec<(&'static str, EventHandler)>,
    server: Vec<(&'static str, EventHandler)>,
    notices: Vec<(&'static str, NoticeHandler)>,
    timers: Vec<(&'static str, NoticeHandler)>,
    pub(crate) rooms: Vec<&'static str>,
    pub(crate) capabilities: Vec<&'static str>,
    settings: Option<Value>,
    state: (Vec<u32>, u32),
}

impl Plugin {
    /// Begins a plugin. Its name has lower-case letters, digits and `-`, and stays the same over all
    /// versions.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            version: "0.0.0",
            messages: Vec::new(),
            server: Vec::new(),
            notices: Vec::new(),
            timers: Vec::new(),
            rooms: Vec::new(),
            capabilities: Vec::new(),
            settings: None,
            state: (vec![1], 1),
        }
    }

    /// Says which version this is; usually `env!("CARGO_PKG_VERSION")`.
    pub fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    /// Says which room prefixes the plugin uses, without the `:`. It can join and emit to those only.
    pub fn rooms<const N: usize>(mut self, prefixes: [&'static str; N]) -> Self {
        self.rooms.extend(prefixes);
        self
    }

    /// Says which capabilities the plugin needs: `rooms`, `kv`, `history`, `timers`, `typing`,
    /// `presence`, `channels`. (`log`, `settings` and `attachments` are always there.)
    pub fn needs<const N: usize>(mut self, capabilities: [&'static str; N]) -> Self {
        self.capabilities.extend(capabilities);
        self
    }

    /// Gives a JSON Schema of the operator's settings; settings that do not fit are refused at load,
    /// by their names.
    pub fn settings_schema(mut self, schema: Value) -> Self {
        self.settings = Some(schema);
        self
    }

    /// Says which versions of stored state this version of the plugin reads, and which it writes.
    /// A version that cannot read what is stored is refused. Version 1 when nothing is said.
    pub fn state_versions<const N: usize>(mut self, reads: [u32; N], writes: u32) -> Self {
        self.state = (reads.into(), writes);
        self
    }

    /// Handles an event that clients send.
    pub fn on<Args>(mut self, event: &'static str, handler: impl Handler<Args>) -> Self {
        let handler: EventHandler = Box::new(move |cx, arguments| handler.call(cx, arguments));
        self.messages.push((event, handler));
        self
    }

    /// Handles an event that a backend sends by the server API, or as a message on a channel of Redis
    /// that the operator mapped to it ([`Cx::source`] tells which). It has one argument, the event's
    /// data, and no user; what it acknowledges with is the HTTP answer, and nobody's on a channel.
    pub fn on_server_event<Args>(
        mut self,
        event: &'static str,
        handler: impl Handler<Args>,
    ) -> Self {
        let handler: EventHandler = Box::new(move |cx, arguments| handler.call(cx, arguments));
        self.server.push((event, handler));
        self
    }

    /// Handles a new connection, before any of its events.
    pub fn on_connected(self, handler: impl Fn(&mut Cx) -> Result<()> + 'static) -> Self {
        self.on_notice("connected", move |cx, _: Value| handler(cx))
    }

    /// Handles the end of a connection, its last event.
    pub fn on_disconnected(
        self,
        handler: impl Fn(&mut Cx, Disconnected) -> Result<()> + 'static,
    ) -> Self {
        self.on_notice("disconnected", handler)
    }

    /// Handles a join of one of the plugin's rooms that has taken effect.
    pub fn on_joined(self, handler: impl Fn(&mut Cx, Joined) -> Result<()> + 'static) -> Self {
        self.on_notice("joined", handler)
    }

    /// Handles a leave of one of the plugin's rooms, also for a connection that was lost.
    pub fn on_left(self, handler: impl Fn(&mut Cx, Left) -> Result<()> + 'static) -> Self {
        self.on_notice("left", handler)
    }

    /// Handles that a user has begun to type in one of the plugin's rooms, or has stopped.
    pub fn on_typing(
        self,
        handler: impl Fn(&mut Cx, TypingChanged) -> Result<()> + 'static,
    ) -> Self {
        self.on_notice("typing", handler)
    }

    /// Handles that what a user is seen as has changed. It has no user of its own.
    pub fn on_presence(
        self,
        handler: impl Fn(&mut Cx, PresenceChanged) -> Result<()> + 'static,
    ) -> Self {
        self.on_notice("presence", handler)
    }

    /// Handles clients' answers to emissions that asked for them. One of a client of another kind of server
    /// has no user.
    pub fn on_acknowledged(
        self,
        handler: impl Fn(&mut Cx, Acknowledged) -> Result<()> + 'static,
    ) -> Self {
        self.on_notice("acknowledged", handler)
    }

    /// Handles the timers of a name, and those whose names begin with it and `:`, such as `close:42`
    /// for `close`. It has no user. When it returns an error the host runs it again later; a timer
    /// that nobody handles waits for a version that does.
    pub fn on_timer<T: DeserializeOwned + 'static>(
        mut self,
        name: &'static str,
        handler: impl Fn(&mut Cx, Timer<T>) -> Result<()> + 'static,
    ) -> Self {
        self.timers.push((name, notice_handler(TIMER, handler)));
        self
    }

    fn on_notice<T: DeserializeOwned + 'static>(
        mut self,
        name: &'static str,
        handler: impl Fn(&mut Cx, T) -> Result<()> + 'static,
    ) -> Self {
        self.notices.push((name, notice_handler(name, handler)));
        self
    }

    fn fire(&self, cx: &mut Cx, data: &str) -> Result<()> {
        #[derive(serde::Deserialize)]
        struct Named {
            name: String,
        }
        let Named { name } = serde_json::from_str(data)
            .map_err(|error| Error::invalid_payload(format!("the notice `{TIMER}`: {error}")))?;
        let kind = name.split(':').next().unwrap_or_default();
        let handler = find(&self.timers, &name).or_else(|| find(&self.timers, kind));
        match handler {
            Some(handler) => handler(cx, data),
            None => Err(Error::new(
                "UNKNOWN_EVENT",
                format!("nobody takes the timer `{name}`"),
            )),
        }
    }

    /// Returns the manifest, as the host asks for it.
    #[must_use]
    pub fn describe(&self) -> String {
        fn names<T>(handlers: &[(&'static str, T)]) -> Vec<&'static str> {
            handlers.iter().map(|(name, _)| *name).collect()
        }
        let mut notices = names(&self.notices);
        if !self.timers.is_empty() {
            notices.push(TIMER);
        }
        json!({
            "name": self.name,
            "version": self.version,
            "subscriptions": {
                "messages": names(&self.messages),
                "notices": notices,
                "server": names(&self.server),
            },
            "rooms": self.rooms,
            "capabilities": self.capabilities,
            "settings": self.settings,
            "state": { "reads": self.state.0, "writes": self.state.1 },
        })
        .to_string()
    }

    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn takes(&self, trigger: &wit::Trigger) -> bool {
        match trigger {
            wit::Trigger::Message(message) => find(&self.messages, &message.name).is_some(),
            wit::Trigger::Server(event) => find(&self.server, &event.name).is_some(),
            wit::Trigger::Notice(notice) if notice.name == TIMER => !self.timers.is_empty(),
            wit::Trigger::Notice(notice) => find(&self.notices, &notice.name).is_some(),
        }
    }

    /// Handles one event, as the host hands it over.
    pub(crate) fn handle(
        &self,
        mut event: wit::Event,
    ) -> std::result::Result<wit::Reply, wit::Failure> {
        let mut cx = Cx::new(&mut event);
        let acknowledged = match &event.trigger {
            wit::Trigger::Message(message) => {
                call(&self.messages, &mut cx, &message.name, &message.args)
            }
            wit::Trigger::Server(server) => call(&self.server, &mut cx, &server.name, &server.args),
            wit::Trigger::Notice(notice) if notice.name == TIMER => {
                self.fire(&mut cx, &notice.data).map(|()| Ack::none())
            }
            wit::Trigger::Notice(notice) => match find(&self.notices, &notice.name) {
                Some(handler) => handler(&mut cx, &notice.data).map(|()| Ack::none()),
                None => Ok(Ack::none()),
            },
        };
        match acknowledged {
            Ok(Ack(ack)) => Ok(wit::Reply {
                ack,
                instructions: cx.instructions,
            }),
            Err(error) => Err(wit::Failure {
                code: error.code.into_owned(),
                message: error.message,
                details: error.details.map(|details| details.to_string()),
            }),
        }
    }
}

fn notice_handler<T: DeserializeOwned>(
    name: &'static str,
    handler: impl Fn(&mut Cx, T) -> Result<()> + 'static,
) -> NoticeHandler {
    Box::new(move |cx, data| {
        let data = serde_json::from_str(data)
            .map_err(|error| Error::invalid_payload(format!("the notice `{name}`: {error}")))?;
        handler(cx, data)
    })
}

fn find<'a, T>(handlers: &'a [(&'static str, T)], name: &str) -> Option<&'a T> {
    handlers
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, handler)| handler)
}

fn call(
    handlers: &[(&'static str, EventHandler)],
    cx: &mut Cx,
    name: &str,
    args: &str,
) -> Result<Ack> {
    let handler = find(handlers, name)
        .ok_or_else(|| Error::new("UNKNOWN_EVENT", format!("nobody takes the event `{name}`")))?;
    handler(cx, &Arguments::new(args))
}
