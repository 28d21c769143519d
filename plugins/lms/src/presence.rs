//! What users are seen as.

use serde_json::json;
use switchboard_plugin::{Ack, Cx, Error, Id, Joined, PresenceChanged, Result, Seen, Status};

/// Users that can be asked for at once.
const USERS: usize = 100;

/// In which rooms others hear what one is seen as, and in which one may ask for it.
const HEARD: [&str; 2] = ["course", "conversation"];
const SHARED: [&str; 4] = ["course", "conversation", "thread", "lesson"];

/// Handles `set-presence`.
pub(crate) fn set(cx: &mut Cx, status: Status) -> Result<Ack> {
    cx.presence().choose(cx.user()?, status)?;
    Ok(Ack::ok())
}

/// Handles `get-presence`. Of those with whom one shares no room nothing is said.
pub(crate) fn get(cx: &mut Cx, users: Vec<Id>) -> Result<Ack> {
    if users.len() > USERS {
        return Err(Error::invalid_payload(format!(
            "argument 1: expected at most {USERS} users, got {}",
            users.len()
        )));
    }
    let own = cx.user()?;
    let mut rooms = cx.rooms().of_user(&own)?;
    rooms.retain(|room| is_one_of(&SHARED, room));
    let mut shown = Vec::new();
    for user in users {
        if user == own || shares_one(cx, &rooms, &user)? {
            shown.push(user);
        }
    }
    let seen = cx.presence().of(&shown)?;
    let presence: Vec<_> = seen.iter().map(entry).collect();
    Ack::with(&json!({ "presence": presence }))
}

fn shares_one(cx: &Cx, rooms: &[String], user: &Id) -> Result<bool> {
    for room in rooms {
        if cx.rooms().has_user(room, user)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_one_of(prefixes: &[&str], room: &str) -> bool {
    let prefix = room.split_once(':').map_or("", |(prefix, _)| prefix);
    prefixes.contains(&prefix)
}

fn entry(seen: &Seen) -> serde_json::Value {
    json!({ "userId": seen.user, "status": seen.status, "lastSeenAt": seen.timestamp() })
}

/// The others in courses and conversations hear of it.
pub(crate) fn changed(cx: &mut Cx, change: PresenceChanged) -> Result<()> {
    let rooms = change.rooms.into_iter();
    tell(
        cx,
        rooms.filter(|room| is_one_of(&HEARD, room)),
        &change.now,
    )
}

/// Who is in a course or a conversation hears of who comes.
pub(crate) fn joined(cx: &mut Cx, joined: &Joined) -> Result<()> {
    if !joined.first || !is_one_of(&HEARD, &joined.room) {
        return Ok(());
    }
    for seen in cx.presence().of([cx.user()?])? {
        if seen.status != Status::Offline {
            tell(cx, [joined.room.clone()], &seen)?;
        }
    }
    Ok(())
}

fn tell(cx: &mut Cx, rooms: impl IntoIterator<Item = String>, seen: &Seen) -> Result<()> {
    let rooms: Vec<String> = rooms.into_iter().collect();
    if rooms.is_empty() {
        return Ok(());
    }
    cx.emit("user-presence")
        .to_rooms(rooms)
        .except_user(&seen.user)
        .send(&entry(seen))
}
