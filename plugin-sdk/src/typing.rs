//! What a handler asks of typing.

use crate::{error::Fault, imports};
use serde::Deserialize;

type Faulty<T> = Result<T, Fault>;

/// A user has begun to type in a room, or has stopped; the context's user.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TypingChanged {
    /// The room.
    pub room: String,
    /// Whether the user types now.
    pub typing: bool,
}

/// Who types in which room: soft state that the host keeps. It ends by itself 5 seconds (unless the
/// operator says otherwise) after it was said last, with a leave, and with the connection. A user types
/// in a room as long as any of their connections does, on any host;
/// [`Plugin::on_typing`](crate::Plugin::on_typing) hears when that begins and when it ends, and not when
/// it is said again. Needs the capability `typing`.
///
/// ```
/// # use switchboard_plugin::{Ack, Cx, Plugin, Result, TypingChanged};
/// fn typing(cx: &mut Cx, room: String, is_typing: bool) -> Result<Ack> {
///     match is_typing {
///         true => cx.typing().start(room)?,
///         false => cx.typing().stop(room)?,
///     }
///     Ok(Ack::ok())
/// }
///
/// fn changed(cx: &mut Cx, change: TypingChanged) -> Result<()> {
///     let user = cx.user()?;
///     let news = (user.clone(), change.typing);
///     cx.emit("typing").to_room(change.room).except_user(user).send(&news)
/// }
///
/// let plugin = Plugin::new("chat")
///     .rooms(["chat"])
///     .needs(["typing"])
///     .on("typing", typing)
///     .on_typing(changed);
/// # drop(plugin);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Typing(pub(crate) ());

impl Typing {
    /// The event's own connection types in a room that it is in, or still does. Takes effect after the
    /// instructions of the handler, and not at all when it fails.
    ///
    /// # Errors
    /// When the room's prefix is not the plugin's, the event is nobody's, or it was called more than
    /// 100 times in one event.
    pub fn start(&self, room: impl AsRef<str>) -> Faulty<()> {
        imports::typing_set(room.as_ref(), true)
    }

    /// The event's own connection does not type any more.
    ///
    /// # Errors
    /// Those of [`Self::start`].
    pub fn stop(&self, room: impl AsRef<str>) -> Faulty<()> {
        imports::typing_set(room.as_ref(), false)
    }

    /// Returns the users who type in a room, sorted, at most 1,000.
    ///
    /// # Errors
    /// When the room's prefix is not the plugin's.
    pub fn users(&self, room: impl AsRef<str>) -> Faulty<Vec<String>> {
        imports::typing_users(room.as_ref())
    }
}
