//! What a handler publishes for others than clients.

use crate::{capabilities::text, error::Fault, imports};
use serde::Serialize;

/// Messages for others that listen to channels of Redis, such as a backend. Needs the capability
/// `channels`, and the operator's grant of each channel (`channels` in `[plugin.NAME]`).
///
/// The other way, a channel that the operator maps (`[channels."NAME"]`) brings its messages as server
/// events, to [`Plugin::on_server_event`](crate::Plugin::on_server_event), each on one host; then
/// [`Cx::source`](crate::Cx::source) is `channel`. Where a plugin publishes to a channel that is also
/// mapped, it hears itself, on whichever host. So that nothing goes in a circle: it says in its messages
/// that they are its own, and passes over those that say so.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use serde_json::json;
/// use switchboard_plugin::{Ack, Cx, Plugin, Result, TestHost};
///
/// #[derive(Serialize, Deserialize)]
/// struct Message {
///     text: String,
///     #[serde(default)]
///     origin: Option<String>, // whose it is; what others publish has another one, or none
/// }
///
/// // From a client: everybody hears of it, and the backend.
/// fn send(cx: &mut Cx, text: String) -> Result<Ack> {
///     cx.emit("message").to_room("chat:1").send(&text)?;
///     let message = Message { text, origin: Some("chat".to_owned()) };
///     cx.channels().publish("message:new", &message)?;
///     Ok(Ack::ok())
/// }
///
/// // From the backend, or what this plugin has published itself.
/// fn sent(cx: &mut Cx, message: Message) -> Result<Ack> {
///     if message.origin.as_deref() != Some("chat") {
///         cx.emit("message").to_room("chat:1").send(&message.text)?;
///     }
///     Ok(Ack::ok())
/// }
///
/// let plugin = Plugin::new("chat")
///     .rooms(["chat"])
///     .needs(["channels"])
///     .on("send", send)
///     .on_server_event("message:new", sent);
///
/// let mut host = TestHost::new(plugin).with_channels(["message:*"]);
/// let ann = host.connect("ann");
/// host.send(&ann, "send", "hello").expect_ok();
/// let published = host.take_published("message:new");
/// assert_eq!(published, [json!({ "text": "hello", "origin": "chat" })]);
/// host.channel_message("message:new", &published[0]).expect_ok();
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Channels(pub(crate) ());

impl Channels {
    /// Publishes a message, once the handler has returned `Ok` and what it wrote has been committed,
    /// after its instructions; in the order of the calls.
    ///
    /// Not promised: that it is published at all when the host ends in that moment or Redis is away for
    /// longer than some seconds, or only once when the connection to it breaks; that anybody listens.
    ///
    /// # Errors
    /// [`Fault::NotGranted`] for a channel that the operator did not grant, [`Fault::Unavailable`] where
    /// no Redis is configured, [`Fault::TooMany`] beyond 100 messages of one event,
    /// [`Fault::TooLarge`] beyond 1,000,000 bytes of them, [`Fault::Binary`] for a client's binary data.
    pub fn publish<T: Serialize + ?Sized>(
        &self,
        channel: impl AsRef<str>,
        message: &T,
    ) -> Result<(), Fault> {
        imports::channels_publish(channel.as_ref(), &text(message)?)
    }
}
