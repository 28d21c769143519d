//! The plugin `load`: what benchmarks measure. Its events do as little as a real handler would.

use serde::{Deserialize, Serialize};
use switchboard_plugin::{Ack, Cx, Id, Json, Plugin, Result, export};

/// About 200 bytes of JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Note {
    room_id: Id,
    content: String,
    kind: String,
    tags: Vec<String>,
    count: u32,
}

/// Parses its payload and returns two emissions.
fn note(cx: &mut Cx, note: Note) -> Result<Ack> {
    let room = format!("load:{}", note.room_id);
    cx.emit("load:note")
        .to_room(&room)
        .except_self()
        .send(&note)?;
    cx.emit("load:count")
        .to_room(room)
        .except_self()
        .send(&note.count)?;
    Ok(Ack::ok())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfRoom {
    room_id: Id,
}

/// Joins a room.
fn join(cx: &mut Cx, of: OfRoom) -> Result<Ack> {
    cx.join(format!("load:{}", of.room_id));
    Ok(Ack::ok())
}

/// Leaves a room.
fn leave(cx: &mut Cx, of: OfRoom) -> Result<Ack> {
    cx.leave(format!("load:{}", of.room_id));
    Ok(Ack::ok())
}

/// What is said to a room, with the time of who says it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    room_id: Id,
    at: u64,
    text: String,
}

/// Says something to a room.
fn say(cx: &mut Cx, said: Said) -> Result<Ack> {
    cx.emit("load:said")
        .to_room(format!("load:{}", said.room_id))
        .send(&said)?;
    Ok(Ack::ok())
}

/// Acknowledges with what came.
fn echo(_: &mut Cx, value: Json) -> Result<Ack> {
    Ack::raw(&(value,))
}

fn plugin() -> Plugin {
    Plugin::new("load")
        .version(env!("CARGO_PKG_VERSION"))
        .rooms(["load"])
        .on("load:note", note)
        .on("load:echo", echo)
        .on("load:join", join)
        .on("load:leave", leave)
        .on("load:say", say)
}

export!(plugin);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use switchboard_plugin::TestHost;

    #[test]
    fn benchmarks_measure_what_works() {
        let mut host = TestHost::new(plugin());
        let ann = host.connect("ann");
        assert_eq!(
            host.send(&ann, "load:echo", json!({ "a": 1 })).expect_ok(),
            json!({ "a": 1 })
        );
        let note = json!({ "roomId": "r", "content": "c", "kind": "k", "tags": [], "count": 1 });
        host.send(&ann, "load:note", note).expect_ok();
        host.send(&ann, "load:join", json!({ "roomId": "r" }))
            .expect_ok();
        let said = json!({ "roomId": "r", "at": 1, "text": "t" });
        host.send(&ann, "load:say", said).expect_ok();
        host.send(&ann, "load:leave", json!({ "roomId": "r" }))
            .expect_ok();
    }
}
