//! Histories and timers in a `TestHost`: the semantics that plugins meet in the host.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use serde_json::{Value, json};
use std::time::Duration;
use switchboard_plugin::{Ack, Cx, Fault, Plugin, Result, TestHost, Timer};

const SECOND: Duration = Duration::from_secs(1);

fn append(cx: &mut Cx, room: String, text: String, key: Option<String>) -> Result<Ack> {
    let history = cx.history(room);
    let id = match key {
        Some(key) => history.append_once(key, &text)?.id,
        None => history.append(&text)?,
    };
    let seen = history.newest::<String>(10)?.len();
    Ack::with(&json!({ "id": id, "seen": seen, "count": history.count()? }))
}

fn page(cx: &mut Cx, before: Option<u64>, after: Option<u64>, limit: u32) -> Result<Ack> {
    let history = cx.history("r");
    let page = match (before, after) {
        (Some(before), _) => history.before::<String>(before, limit)?,
        (_, Some(after)) => history.after::<String>(after, limit)?,
        _ => history.newest::<String>(limit)?,
    };
    let page: Vec<_> = page
        .into_iter()
        .map(|entry| (entry.position, entry.entry))
        .collect();
    Ack::with(&json!({ "page": page }))
}

fn change(cx: &mut Cx, id: String, text: Option<String>) -> Result<Ack> {
    let history = cx.history("r");
    let changed = match &text {
        Some(text) => history.amend(&id, text)?,
        None => history.redact(&id)?,
    };
    let now = history.get::<String>(&id)?;
    Ack::with(&json!({ "changed": changed, "now": now.map(|entry| entry.entry) }))
}

fn keep(cx: &mut Cx, count: Option<u64>, seconds: Option<u64>) -> Result<Ack> {
    cx.history("r")
        .keep(count, seconds.map(Duration::from_secs))?;
    Ok(Ack::ok())
}

fn start(cx: &mut Cx, name: String, seconds: u64, again: bool) -> Result<Ack> {
    let (timers, time) = (cx.timers("r"), Duration::from_secs(seconds));
    match again {
        true => timers.every(time, &name, &"tick")?,
        false => timers.after(time, &name, &"once")?,
    }
    Ok(Ack::ok())
}

fn stop(cx: &mut Cx, name: String) -> Result<Ack> {
    let known = cx.timers("r").get::<String>(&name)?;
    cx.timers("r").cancel(&name)?;
    let gone = cx.timers("r").get::<String>(&name)?.is_none();
    Ack::with(&json!({ "was": known.map(|known| known.payload), "gone": gone }))
}

fn fired(cx: &mut Cx, timer: Timer<String>) -> Result<()> {
    cx.kv("fired").add(&timer.name, 1)?;
    let heard = json!({ "name": timer.name, "payload": timer.payload, "at": timer.due });
    cx.emit("fired").to_everyone().send(&heard)
}

fn host() -> TestHost {
    TestHost::new(
        Plugin::new("state")
            .needs(["kv", "history", "timers"])
            .on("append", append)
            .on("page", page)
            .on("change", change)
            .on("keep", keep)
            .on("start", start)
            .on("stop", stop)
            .on_timer("bell", fired),
    )
}

#[test]
fn entries_have_positions_and_are_seen_by_the_handler_that_appends_them() {
    let mut host = host();
    let ann = host.connect("ann");
    for number in 1..=3 {
        let answer = host.send_args(&ann, "append", json!(["r", number.to_string()]));
        assert_eq!(answer.expect_ok()["count"], number);
    }
    let ask = |host: &mut TestHost, args: Value| {
        host.send_args(&ann, "page", args).expect_ok()["page"].clone()
    };
    assert_eq!(
        ask(&mut host, json!([null, null, 2])),
        json!([[3, "3"], [2, "2"]])
    );
    assert_eq!(ask(&mut host, json!([2, null, 9])), json!([[1, "1"]]));
    assert_eq!(ask(&mut host, json!([null, 1, 1])), json!([[2, "2"]]));
    let once = host
        .send_args(&ann, "append", json!(["r", "4", "k"]))
        .expect_ok();
    let again = host
        .send_args(&ann, "append", json!(["r", "5", "k"]))
        .expect_ok();
    assert_eq!((&again["id"], &again["count"]), (&once["id"], &json!(4)));
    let id = &once["id"];
    let amended = host
        .send_args(&ann, "change", json!([id, "44"]))
        .expect_ok();
    assert_eq!(
        (&amended["changed"], &amended["now"]),
        (&json!(true), &json!("44"))
    );
    let redacted = host.send_args(&ann, "change", json!([id])).expect_ok();
    assert_eq!(
        (&redacted["changed"], &redacted["now"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(
        host.send_args(&ann, "change", json!([id, "9"])).expect_ok()["changed"],
        false
    );
    assert_eq!(host.history("r").len(), 4);
    assert!(host.history("r")[3]["redacted"].is_u64());
}

#[test]
fn what_is_not_kept_is_not_seen() {
    let mut host = host();
    let ann = host.connect("ann");
    for number in 1..=5 {
        host.send_args(&ann, "append", json!(["r", number.to_string()]))
            .expect_ok();
        host.advance(SECOND);
    }
    host.send_args(&ann, "keep", json!([4])).expect_ok();
    assert_eq!(host.history("r").len(), 4);
    host.send_args(&ann, "keep", json!([null, 3])).expect_ok();
    assert_eq!(host.history("r").len(), 2);
    host.advance(SECOND);
    assert_eq!(host.history("r")[0]["position"], 5);
}

#[test]
fn timers_fire_in_their_order_each_at_its_time() {
    let mut host = host();
    let ann = host.connect("ann");
    for start in [json!(["bell:b", 20, false]), json!(["bell", 10, false])] {
        host.send_args(&ann, "start", start).expect_ok();
    }
    assert_eq!(host.timer("r", "bell"), Some(10 * SECOND));
    host.advance(9 * SECOND);
    host.expect_silence(&ann);
    host.advance(15 * SECOND);
    let heard = host.take_all(&ann, "fired");
    assert_eq!(
        (&heard[0]["name"], &heard[1]["name"]),
        (&json!("bell"), &json!("bell:b"))
    );
    assert_eq!(heard[0]["payload"], "once");
    assert_eq!(host.timer("r", "bell"), None);
    assert_eq!(host.stored("fired", "bell:b"), Some(json!(1)));
    host.send_args(&ann, "start", json!(["bell", 2, true]))
        .expect_ok();
    host.advance(7 * SECOND);
    assert_eq!(host.take_all(&ann, "fired").len(), 3);
    let stopped = host.send(&ann, "stop", "bell").expect_ok();
    assert_eq!(
        (&stopped["was"], &stopped["gone"]),
        (&json!("tick"), &json!(true))
    );
    host.advance(60 * SECOND);
    host.expect_silence(&ann);
}

#[test]
fn a_host_that_is_late_makes_up_for_it() {
    let mut host = host();
    let ann = host.connect("ann");
    host.send_args(&ann, "start", ("bell", 10, false))
        .expect_ok();
    host.stall(15 * SECOND);
    host.expect_silence(&ann);
    assert_eq!(host.timer("r", "bell"), Some(Duration::ZERO), "it is due");
    host.advance(Duration::ZERO);
    let due = 1_700_049_600_000_u64 + 10_000;
    let heard = json!({ "name": "bell", "payload": "once", "at": due });
    assert_eq!(host.take(&ann, "fired"), heard);
}

#[test]
fn limits_are_the_hosts() {
    fn try_all(cx: &mut Cx) -> Result<Ack> {
        let long = "x".repeat(70_000);
        assert!(matches!(
            cx.history("r").append(&long),
            Err(Fault::TooLarge(_))
        ));
        assert!(matches!(
            cx.timers("r").after(SECOND, "bell", &long),
            Err(Fault::TooLarge(_))
        ));
        let often = Duration::from_millis(999);
        assert!(matches!(
            cx.timers("r").every(often, "bell", &1),
            Err(Fault::Invalid(_))
        ));
        assert!(matches!(
            cx.history("r").newest::<String>(0),
            Err(Fault::Invalid(_))
        ));
        assert!(matches!(
            cx.history("r").append_once("a\n", &1),
            Err(Fault::Invalid(_))
        ));
        cx.history("r").append(&1)?;
        assert!(matches!(
            cx.timers("s").after(SECOND, "bell", &1),
            Err(Fault::Invalid(_))
        ));
        for _ in 1..1_000 {
            cx.history("r").append(&1)?;
        }
        assert!(matches!(cx.history("r").append(&1), Err(Fault::TooMany(_))));
        Ok(Ack::ok())
    }
    fn without(cx: &mut Cx) -> Result<Ack> {
        assert!(matches!(cx.history("r").count(), Err(Fault::NotGranted(_))));
        assert!(matches!(
            cx.timers("r").cancel("bell"),
            Err(Fault::NotGranted(_))
        ));
        Ok(Ack::ok())
    }
    let plugin = Plugin::new("p").needs(["history", "timers"]);
    let mut host = TestHost::new(plugin.on("try", try_all));
    let ann = host.connect("ann");
    host.send_args(&ann, "try", json!([])).expect_ok();
    let mut host = TestHost::new(Plugin::new("p").on("try", without));
    let ann = host.connect("ann");
    host.send_args(&ann, "try", json!([])).expect_ok();
}
