//! Files, typing and signals: passed on, and nothing of them is stored.

use crate::{
    session::{joined_room, session_of},
    text::Text,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use switchboard_plugin::{Ack, Binary, Cx, Error, Id, Json, Result, TypingChanged};

/// Bytes of a file, at most and where the operator says nothing.
pub(crate) const FILE_BYTES: u64 = 1_000_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Settings {
    max_file_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_file_bytes: FILE_BYTES,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct File {
    session_code: Id,
    name: Text<1, 255>,
    mime: Text<1, 127>,
    data: Binary,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileShared {
    session_code: Id,
    file_id: String,
    user_id: Id,
    name: Text<1, 255>,
    mime: Text<1, 127>,
    data: Binary,
}

/// Handles `file`. Its bytes stay with the host.
pub(crate) fn file(cx: &mut Cx, file: File) -> Result<Ack> {
    let room = joined_room(cx, &file.session_code)?;
    let (bytes, most) = (file.data.size(), cx.settings::<Settings>()?.max_file_bytes);
    if bytes > most {
        return Err(Error::invalid_payload(format!(
            "`data`: expected at most {most} bytes, got {bytes}"
        )));
    }
    let shared = FileShared {
        session_code: file.session_code,
        file_id: cx.new_id(),
        user_id: cx.user()?,
        name: file.name,
        mime: file.mime,
        data: file.data,
    };
    cx.emit("fileShared").to_room(room).send(&shared)?;
    Ack::with(&json!({ "fileId": shared.file_id }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Types {
    session_code: Id,
    is_typing: bool,
}

/// Handles `typingInSession`.
pub(crate) fn typing(cx: &mut Cx, types: Types) -> Result<Ack> {
    let room = joined_room(cx, &types.session_code)?;
    match types.is_typing {
        true => cx.typing().start(room)?,
        false => cx.typing().stop(room)?,
    }
    Ok(Ack::ok())
}

/// A user has begun to type, or has stopped, or has not said so for a while.
pub(crate) fn typing_changed(cx: &mut Cx, change: TypingChanged) -> Result<()> {
    let news = json!({
        "sessionCode": session_of(&change.room)?,
        "userId": cx.user()?,
        "isTyping": change.typing,
    });
    cx.emit("typingUpdated").to_room(change.room).send(&news)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Signal {
    session_code: Id,
    user_id: Id,
    data: Json,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Signalled {
    session_code: Id,
    from: Id,
    data: Json,
}

/// Handles `signal`: for the connections by which one participant is in this session, and no others.
pub(crate) fn signal(cx: &mut Cx, signal: Signal) -> Result<Ack> {
    let room = joined_room(cx, &signal.session_code)?;
    let mut present = Vec::new();
    for connection in cx.rooms().connections_of_user(&signal.user_id)? {
        if cx.rooms().has_connection(&room, &connection)? {
            present.push(connection);
        }
    }
    if present.is_empty() {
        return Err(Error::not_found(format!(
            "`{}` is not in the session",
            signal.user_id
        )));
    }
    let heard = Signalled {
        session_code: signal.session_code,
        from: cx.user()?,
        data: signal.data,
    };
    present
        .into_iter()
        .fold(cx.emit("signal"), |emit, connection| {
            emit.to_connection(connection)
        })
        .send(&heard)?;
    Ok(Ack::ok())
}
