//! Who types where.

use serde_json::json;
use switchboard_plugin::{Ack, Cx, Error, Result, TypingChanged};

/// Where one can type.
const PREFIXES: [&str; 3] = ["course", "conversation", "thread"];

pub(crate) fn start(cx: &mut Cx, room: String) -> Result<Ack> {
    require_joined(cx, &room)?;
    cx.typing().start(room)?;
    Ok(Ack::ok())
}

pub(crate) fn stop(cx: &mut Cx, room: String) -> Result<Ack> {
    require_joined(cx, &room)?;
    cx.typing().stop(room)?;
    Ok(Ack::ok())
}

fn require_joined(cx: &Cx, room: &str) -> Result<()> {
    let prefix = room.split_once(':').map_or("", |(prefix, _)| prefix);
    if !PREFIXES.contains(&prefix) {
        return Err(Error::invalid_payload(
            "argument 1: expected the room of a course, a conversation or a thread, such as `course:c1`",
        ));
    }
    if cx.rooms().has_connection(room, cx.connection())? {
        return Ok(());
    }
    Err(Error::not_in_room(format!("join `{room}` first")))
}

/// The others in the room hear of it.
pub(crate) fn changed(cx: &mut Cx, change: TypingChanged) -> Result<()> {
    let user = cx.user()?;
    let news = json!({ "userId": user, "room": change.room, "isTyping": change.typing });
    cx.emit("user-typing")
        .to_room(change.room)
        .except_user(&user)
        .send(&news)
}
