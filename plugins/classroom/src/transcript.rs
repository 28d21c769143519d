//! Live lines of what is being said: each is replaced until it is final.

use crate::{
    session::{Session, joined_room, state},
    text::Text,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;
use switchboard_plugin::{Ack, Cx, Error, Id, Result};

/// How long after its last change it is known whose a line is and whether it is final.
const KNOWN: Duration = Duration::from_secs(12 * 60 * 60);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Update {
    session_code: Id,
    line_id: Id,
    text: Text<0, 4_000>,
    #[serde(rename = "final")]
    is_final: bool,
}

/// What is known of a line. What it says is not: who joins later has the lines that come then.
#[derive(Serialize, Deserialize)]
struct Line {
    user: Id,
    is_final: bool,
}

/// Handles `transcript`. A line is its first speaker's, and what is final stays as it is: whatever
/// comes for it later is refused.
pub(crate) fn update(cx: &mut Cx, update: Update) -> Result<Ack> {
    let Update {
        session_code: code,
        line_id: id,
        text,
        is_final,
    } = update;
    let room = joined_room(cx, &code)?;
    let session = Session::get(cx, &code)?;
    let user = cx.user()?;
    let state = state(cx, &code);
    let key = format!("line:{}:{id}", session.session_id);
    if let Some(line) = state.get::<Line>(&key)? {
        if line.user != user {
            return Err(Error::forbidden(format!("the line `{id}` is another's")));
        }
        if line.is_final {
            return Err(Error::conflict(format!("the line `{id}` is final")));
        }
    }
    let sequence = state.get::<u64>("sequence")?.unwrap_or(0) + 1;
    state.set("sequence", &sequence)?;
    let heard = json!({
        "sessionCode": code,
        "lineId": id,
        "userId": user,
        "text": text,
        "final": is_final,
        "sequence": sequence,
    });
    state.set_for(key, &Line { user, is_final }, KNOWN)?;
    cx.emit("transcriptUpdated").to_room(room).send(&heard)?;
    Ack::with(&json!({ "sequence": sequence }))
}
