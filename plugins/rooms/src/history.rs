//! The messages of a room, page by page.

use crate::{
    clients::require_in_room,
    message::{Said, Stored},
    record::{Record, room},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use switchboard_plugin::{Ack, Cx, Entry, Error, History, Id, Result, Timer};

/// Messages of a page, at most and where nothing is said.
const LIMIT: u32 = 200;
const DEFAULT_LIMIT: u32 = 50;

/// Messages that every store takes away in one step.
const FORGOTTEN_AT_ONCE: u64 = 200;

/// The timer that removes the messages of a room that was deleted.
pub(crate) const FORGET: &str = "forget";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request {
    room_id: Id,
    limit: Option<u32>,
    /// So many of the newest ones are left out.
    #[serde(default)]
    offset: u64,
    /// The id of a message: those before it.
    before: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    /// The oldest first.
    messages: Vec<Said>,
    /// Whether there are older ones.
    has_more: bool,
}

pub(crate) fn of_client(cx: &mut Cx, request: Request) -> Result<Ack> {
    require_in_room(cx, &request.room_id)?;
    page(cx, &request)
}

pub(crate) fn of_backend(cx: &mut Cx, request: Request) -> Result<Ack> {
    page(cx, &request)
}

fn page(cx: &Cx, request: &Request) -> Result<Ack> {
    let limit = request.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=LIMIT).contains(&limit) {
        return Err(Error::invalid_payload(format!(
            "`limit`: expected 1 to {LIMIT}"
        )));
    }
    let record = Record::get(cx, &request.room_id)?;
    let first = record.first_position(cx)?;
    let history = cx.history(room(&record.id));
    let end = match &request.before {
        Some(id) => {
            history
                .get::<Stored>(id)?
                .filter(|entry| entry.position >= first)
                .ok_or_else(|| Error::not_found(format!("there is no message `{id}`")))?
                .position
        }
        None => newest(&history)? + 1,
    };
    let end = end.saturating_sub(request.offset);
    // One more than is answered tells whether there are more.
    let mut entries: Vec<Entry<Stored>> = match end {
        0 => Vec::new(),
        end => history.before(end, limit + 1)?,
    };
    entries.retain(|entry| entry.position >= first);
    let has_more = entries.len() > limit as usize;
    entries.truncate(limit as usize);
    entries.reverse();
    let messages = entries
        .into_iter()
        .filter_map(|entry| Some(Said::new(entry.id, entry.entry?)))
        .collect();
    Ack::with(&Page { messages, has_more })
}

/// Returns the position of the newest message of a room, 0 where there has been none.
pub(crate) fn newest(history: &History) -> Result<u64> {
    let newest = history.newest::<serde::de::IgnoredAny>(1)?;
    Ok(newest.first().map_or(0, |entry| entry.position))
}

/// What is left to be done for a room that was deleted.
#[derive(Serialize, Deserialize)]
pub(crate) struct Forgotten {
    room: Id,
    /// Messages that may still be stored; not known at first.
    left: Option<u64>,
}

/// Has the messages of a room removed.
pub(crate) fn forget_later(cx: &Cx, id: &Id) -> Result<()> {
    let forgotten = Forgotten {
        room: id.clone(),
        left: None,
    };
    let timers = cx.timers("rooms");
    Ok(timers.after(Duration::ZERO, format!("{FORGET}:{id}"), &forgotten)?)
}

/// Removes the messages of a room that was deleted; those of one that has been made in its place by
/// now stay. The host takes them away bit by bit, each time that the history is written.
pub(crate) fn forget(cx: &mut Cx, timer: Timer<Forgotten>) -> Result<()> {
    let Forgotten { room: id, left } = timer.payload;
    let history = cx.history(room(&id));
    // First, so that a message which comes in between makes this begin again.
    let end = newest(&history)? + 1;
    let kept = match Record::find(cx, &id)? {
        Some(record) => end.saturating_sub(record.first_position(cx)?),
        None => 0,
    };
    let left = match left {
        Some(left) => left,
        None => history.count()?.saturating_sub(kept),
    };
    history.keep(Some(kept), None)?;
    if let Some(left) = left.checked_sub(FORGOTTEN_AT_ONCE) {
        let forgotten = Forgotten {
            room: id.clone(),
            left: Some(left),
        };
        let timers = cx.timers(room(&id));
        timers.after(Duration::from_secs(1), format!("{FORGET}:{id}"), &forgotten)?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use serde_json::{Value, json};
    use std::time::Duration;
    use switchboard_plugin::{Client, TestHost};

    const DAY: Duration = Duration::from_secs(86_400);

    fn lobby(settings: Value) -> (TestHost, Client) {
        let mut host = TestHost::new(crate::plugin()).with_settings(settings);
        let ann = host.connect("ann");
        host.send(&ann, "room:join", json!({ "roomId": "lobby" }))
            .expect_ok();
        (host, ann)
    }

    fn say(host: &mut TestHost, client: &Client, content: &str) -> String {
        let message = json!({ "roomId": "lobby", "content": content, "metadata": { "n": 1.50 } });
        let answer = host.send(client, "message", message).expect_ok();
        answer["id"].as_str().unwrap().to_owned()
    }

    fn contents(page: &Value) -> Vec<&str> {
        let messages = page["messages"].as_array().unwrap();
        messages
            .iter()
            .map(|message| message["content"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn pages_are_the_newest_first_and_the_oldest_first_inside() {
        let (mut host, ann) = lobby(json!({}));
        let ids: Vec<String> = ["a", "b", "c", "d", "e"]
            .iter()
            .map(|content| say(&mut host, &ann, content))
            .collect();
        let mut ask = |more: Value| {
            let mut request = json!({ "roomId": "lobby" });
            request
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            host.send(&ann, "history", request)
        };
        let all = ask(json!({})).expect_ok();
        assert_eq!(contents(&all), ["a", "b", "c", "d", "e"]);
        assert_eq!(
            (&all["hasMore"], &all["messages"][0]["id"]),
            (&json!(false), &json!(ids[0]))
        );
        let first = ask(json!({ "limit": 2 })).expect_ok();
        assert_eq!(
            (contents(&first), &first["hasMore"]),
            (vec!["d", "e"], &json!(true))
        );
        let next = ask(json!({ "limit": 2, "before": ids[3] })).expect_ok();
        assert_eq!(contents(&next), ["b", "c"]);
        let last = ask(json!({ "limit": 2, "offset": 4 })).expect_ok();
        assert_eq!(
            (contents(&last), &last["hasMore"]),
            (vec!["a"], &json!(false))
        );
        assert_eq!(
            contents(&ask(json!({ "offset": 9 })).expect_ok()),
            Vec::<&str>::new()
        );
        ask(json!({ "limit": 201 })).expect_error("INVALID_PAYLOAD");
        ask(json!({ "before": "nobody" })).expect_error("NOT_FOUND");
        let ben = host.connect("ben");
        host.send(&ben, "history", json!({ "roomId": "lobby" }))
            .expect_error("NOT_IN_ROOM");
        let page = host.server_event("message-page", json!({ "roomId": "lobby", "limit": 1 }));
        assert_eq!(contents(&page.expect_ok()), ["e"]);
    }

    #[test]
    fn what_the_operator_does_not_keep_is_gone() {
        let (mut host, ann) = lobby(json!({ "retentionCount": 3, "retentionDays": 2 }));
        for content in ["a", "b", "c", "d"] {
            say(&mut host, &ann, content);
            host.advance(DAY / 2);
        }
        let page = json!({ "roomId": "lobby" });
        let now = host.send(&ann, "history", &page).expect_ok();
        assert_eq!(contents(&now), ["b", "c", "d"]);
        host.advance(DAY);
        let later = host.send(&ann, "history", &page).expect_ok();
        assert_eq!(contents(&later), ["d"]);
    }

    #[test]
    fn a_room_that_is_made_again_does_not_show_what_was_said_before() {
        let (mut host, ann) = lobby(json!({}));
        say(&mut host, &ann, "old");
        let room = json!({ "roomId": "lobby" });
        host.server_event("room-delete", &room).expect_ok();
        // Before what was said has been removed.
        host.send(&ann, "room:join", &room).expect_ok();
        say(&mut host, &ann, "new");
        let shown = |host: &mut TestHost| host.send(&ann, "history", &room).expect_ok();
        assert_eq!(contents(&shown(&mut host)), ["new"]);
        host.advance(Duration::from_secs(1));
        assert_eq!(contents(&shown(&mut host)), ["new"]);
        assert_eq!(host.history("room:lobby").len(), 1);
        host.server_event("room-delete", &room).expect_ok();
        host.advance(Duration::from_secs(1));
        assert_eq!(host.history("room:lobby"), Vec::<Value>::new());
    }
}
