//! A poll with a deadline: whoever is in its room votes once, and a timer closes it.

use std::{collections::BTreeMap, time::Duration};
use switchboard_plugin::{Ack, Cx, Error, Id, Plugin, Result, Timer, export};

/// Who voted for what.
type Votes = BTreeMap<Id, String>;

fn start(cx: &mut Cx, room: Id, question: String) -> Result<Ack> {
    let room = format!("poll:{room}");
    cx.kv(&room).set("votes", &Votes::new())?;
    cx.timers(&room)
        .after(Duration::from_secs(60), "close", &question)?;
    cx.join(&room);
    Ok(Ack::ok())
}

fn join(cx: &mut Cx, room: Id) -> Result<Ack> {
    cx.join(format!("poll:{room}"));
    Ok(Ack::ok())
}

fn vote(cx: &mut Cx, room: Id, option: String) -> Result<Ack> {
    let poll = cx.kv(format!("poll:{room}"));
    let votes: Option<Votes> = poll.get("votes")?;
    let mut votes = votes.ok_or_else(|| Error::not_found("no poll is open here"))?;
    votes.insert(cx.user()?, option);
    poll.set("votes", &votes)?;
    Ok(Ack::ok())
}

fn close(cx: &mut Cx, timer: Timer<String>) -> Result<()> {
    let poll = cx.kv(&timer.partition);
    let votes: Votes = poll.get("votes")?.unwrap_or_default();
    poll.delete("votes")?;
    let mut result: BTreeMap<String, u32> = BTreeMap::new();
    for option in votes.into_values() {
        *result.entry(option).or_default() += 1;
    }
    cx.emit("poll:closed")
        .to_room(&timer.partition)
        .send(&(timer.payload, result))
}

fn plugin() -> Plugin {
    Plugin::new("poll")
        .rooms(["poll"])
        .needs(["kv", "timers"])
        .on("poll:start", start)
        .on("poll:join", join)
        .on("poll:vote", vote)
        .on_timer("close", close)
}

export!(plugin);

#[cfg(test)]
mod tests;
