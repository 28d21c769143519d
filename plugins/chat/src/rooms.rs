//! Clients entering and leaving conversations, and what is passed on there without being kept.

use crate::{
    confirm,
    directory::{Conversation, Hidden, require_not_apart, room},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use switchboard_plugin::{Ack, Cx, Error, Id, Joined, Json, Result, Status};

pub(crate) fn join(cx: &mut Cx, id: Id) -> Result<Ack> {
    let user = cx.user()?;
    let is_member = |it: Conversation| it.members.contains_key(&user);
    if !Conversation::find(cx, &id)?.is_some_and(is_member) {
        return Err(Error::new(
            "JOIN_ROOM_FAILED",
            format!("there is no conversation `{id}` of yours"),
        ));
    }
    cx.join(room(&id));
    confirm(cx, "room-joined", &json!({ "conversationId": id }))
}

pub(crate) fn leave(cx: &mut Cx, id: Id) -> Result<Ack> {
    cx.leave(room(&id));
    confirm(cx, "room-left", &json!({ "conversationId": id }))
}

/// Handles a join that has taken effect. Who was taken out after it was looked at, and before they were
/// in the room, was not found there.
pub(crate) fn check_again(cx: &mut Cx, joined: Joined) -> Result<()> {
    let user = cx.user()?;
    if !of_room(cx, &joined.room)?.is_some_and(|it| it.members.contains_key(&user)) {
        cx.leave(joined.room);
    }
    Ok(())
}

/// Returns the conversation to which a room belongs.
pub(crate) fn of_room(cx: &Cx, room: &str) -> Result<Option<Conversation>> {
    match room.strip_prefix("chat:") {
        Some(id) => Conversation::find(cx, &Id::new(id)?),
        None => Ok(None),
    }
}

/// Members who do not seem offline, oneself included.
pub(crate) fn online(cx: &mut Cx, id: Id) -> Result<Ack> {
    let own = cx.user()?;
    let conversation = Conversation::of_member(cx, &id, &own)?;
    let hidden = Hidden::from(cx, &own)?;
    let mut users = Vec::new();
    for seen in cx.presence().of(conversation.members.keys())? {
        let user = Id::new(seen.user)?;
        if user == own || (seen.status != Status::Offline && !hidden.hides(&user)) {
            users.push(user);
        }
    }
    let online = json!({ "conversationId": id, "users": users });
    confirm(cx, "online-users", &online)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Signal {
    conversation_id: Id,
    user_id: Id,
    data: Json,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Signalled {
    conversation_id: Id,
    from: Id,
    data: Json,
}

/// Relays to one member, binary or not, as it came.
pub(crate) fn signal(cx: &mut Cx, signal: Signal) -> Result<Ack> {
    let (own, other) = (cx.user()?, signal.user_id);
    let conversation = Conversation::of_member(cx, &signal.conversation_id, &own)?;
    if !conversation.members.contains_key(&other) {
        return Err(Error::not_found(format!(
            "`userId`: there is no member `{other}`"
        )));
    }
    require_not_apart(cx, &own, &other)?;
    let signalled = Signalled {
        conversation_id: signal.conversation_id,
        from: own,
        data: signal.data,
    };
    cx.emit("signal")
        .to_user(other)
        .except_self()
        .send(&signalled)?;
    Ok(Ack::ok())
}

pub(crate) fn heartbeat(cx: &mut Cx) -> Result<Ack> {
    cx.emit("heartbeat-ack").to_self().send_nothing()?;
    Ok(Ack::ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend;
    use switchboard_plugin::{Plugin, TestHost};

    #[test]
    fn who_was_taken_out_while_joining_is_out_again() {
        // Joins without looking, as a handler does that looked a moment before.
        let late = |cx: &mut Cx, id: Id| {
            cx.join(room(&id));
            Ok(Ack::ok())
        };
        let plugin = Plugin::new("chat")
            .needs(["rooms", "kv"])
            .rooms(["chat"])
            .on_joined(check_again)
            .on("late", late)
            .on_server_event("conversation-create", backend::create);
        let mut host = TestHost::new(plugin);
        let told = json!({ "conversationId": "c1", "members": ["ann"] });
        host.server_event("conversation-create", told).expect_ok();
        let (ann, bob) = (host.connect("ann"), host.connect("bob"));
        for client in [&ann, &bob] {
            for id in ["c1", "nowhere"] {
                host.send(client, "late", id).expect_ok();
            }
        }
        assert_eq!(host.rooms(&ann), ["chat:c1"]);
        assert!(host.rooms(&bob).is_empty());
    }
}
