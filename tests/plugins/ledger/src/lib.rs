//! The plugin `ledger`: histories, timers and naive counters, for tests of what state promises.

use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;
use switchboard_plugin::{Ack, Cx, Plugin, Result, Timer, export};

#[derive(Serialize, Deserialize)]
struct Line {
    text: String,
}

fn room(book: &str) -> String {
    format!("ledger:{book}")
}

/// Joins the room that hears of a book.
fn open(cx: &mut Cx, book: String) -> Result<Ack> {
    cx.join(room(&book));
    Ok(Ack::ok())
}

/// Appends a line and emits it.
fn append(cx: &mut Cx, book: String, text: String) -> Result<Ack> {
    let line = Line { text };
    let id = cx.history(&book).append(&line)?;
    cx.emit("ledger:line")
        .to_room(room(&book))
        .send(&line.text)?;
    Ack::with(&json!({ "id": id }))
}

/// Answers a page of a book's lines.
fn page(cx: &mut Cx, book: String, after: u64, limit: Option<u32>) -> Result<Ack> {
    let page = cx
        .history(&book)
        .after::<Line>(after, limit.unwrap_or(200))?;
    let lines: Vec<_> = page
        .into_iter()
        .map(|entry| json!({ "position": entry.position, "text": entry.entry.map(|line| line.text) }))
        .collect();
    Ack::with(&json!({ "lines": lines }))
}

/// Counts as one writes it down without a thought.
fn count(cx: &mut Cx, book: String) -> Result<Ack> {
    let counters = cx.kv(&book);
    let value = counters.get::<u64>("count")?.unwrap_or(0) + 1;
    counters.set("count", &value)?;
    Ack::with(&json!({ "value": value }))
}

fn read(cx: &mut Cx, book: String) -> Result<Ack> {
    let value = cx.kv(book).get::<u64>("count")?.unwrap_or(0);
    Ack::with(&json!({ "value": value }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Schedule {
    book: String,
    first: u32,
    number: u32,
    in_ms: u64,
    #[serde(default)]
    apart_ms: u64,
}

/// Schedules many timers of a book: so many, from a time on, so many milliseconds apart.
fn schedule(cx: &mut Cx, request: Schedule) -> Result<Ack> {
    for index in 0..request.number {
        let time = request.in_ms + u64::from(index) * request.apart_ms;
        let due = cx.now_ms() + time;
        let index = request.first + index;
        cx.timers(&request.book).after(
            Duration::from_millis(time),
            format!("fire:{index}"),
            &due,
        )?;
    }
    Ok(Ack::ok())
}

/// Writes down that a timer has fired, how late, and says so.
fn fire(cx: &mut Cx, timer: Timer<u64>) -> Result<()> {
    let late = i128::from(cx.now_ms()) - i128::from(timer.payload);
    let text = format!("{} {late}", timer.name);
    cx.history(&timer.partition).append(&Line { text })?;
    cx.emit("ledger:fired")
        .to_room(room(&timer.partition))
        .send(&timer.name)
}

fn plugin() -> Plugin {
    Plugin::new("ledger")
        .version(env!("CARGO_PKG_VERSION"))
        .rooms(["ledger"])
        .needs(["kv", "history", "timers"])
        .on("ledger:open", open)
        .on("ledger:append", append)
        .on("ledger:page", page)
        .on("ledger:count", count)
        .on("ledger:read", read)
        .on("ledger:schedule", schedule)
        .on_timer("fire", fire)
}

export!(plugin);
