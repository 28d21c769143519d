//! State in the `TestHost`: a handler is a transaction of one partition, as `wit/capabilities.wit`
//! says it.

use serde_json::{Value, json};
use std::time::Duration;
use switchboard_plugin::{Ack, Client, Cx, Error, Fault, Kv, Plugin, Reply, Result, TestHost};

/// A host whose one event `run` is handled by a function.
struct Running(TestHost, Client);

fn running(handler: impl Fn(&mut Cx) -> Result<Ack> + 'static) -> Running {
    let plugin = Plugin::new("test").needs(["kv"]).on("run", handler);
    let mut host = TestHost::new(plugin);
    let ann = host.connect("ann");
    Running(host, ann)
}

impl Running {
    fn run(&mut self) -> Reply {
        self.0.send(&self.1, "run", Value::Null)
    }
}

/// Runs a handler once on one partition; returns what it answered.
fn once(handler: impl Fn(Kv) -> Result<Value> + 'static) -> Reply {
    running(move |cx| Ack::raw(&[handler(cx.kv("p"))?])).run()
}

#[test]
fn what_was_written_is_read_by_the_next_event() {
    let mut host = running(|cx| {
        let stored = cx.kv("p");
        let count: u32 = stored.get("count")?.unwrap_or(0);
        stored.set("count", &(count + 1))?;
        Ack::raw(&[count])
    });
    for count in 0..3 {
        assert_eq!(host.run().expect_ok(), count);
    }
    assert_eq!(host.0.stored("p", "count"), Some(json!(3)));
    assert_eq!(host.0.stored("other", "count"), None);
}

#[test]
fn a_failure_commits_nothing_and_emits_nothing() {
    let mut host = running(|cx| {
        cx.kv("p").set("k", &1)?;
        cx.emit("said").to_self().send(&1)?;
        cx.disconnect("no");
        Err(Error::forbidden("no"))
    });
    host.run().expect_error("FORBIDDEN");
    assert_eq!(host.0.stored("p", "k"), None);
    host.0.expect_silence(&host.1);
    assert!(host.0.is_connected(&host.1));
}

#[test]
fn a_handler_sees_its_own_writes() {
    let seen = once(|kv| {
        kv.set("a", &1)?;
        kv.set("b", &2)?;
        kv.delete("b")?;
        kv.delete("never there")?;
        kv.add("n", 5)?;
        kv.add("n", -7)?;
        kv.add("a", 10)?;
        kv.add("b", 4)?;
        let all: Vec<(String, i64)> = kv.list("", None, 10)?;
        Ok(json!([
            kv.get::<i64>("a")?,
            kv.get::<i64>("b")?,
            kv.get::<i64>("n")?,
            all
        ]))
    });
    assert_eq!(
        seen.expect_ok(),
        json!([11, 4, -2, [["a", 11], ["b", 4], ["n", -2]]])
    );
}

#[test]
fn one_partition_is_written_and_others_are_read() {
    let mut host = running(|cx| {
        let before: Option<u8> = cx.kv("b").get("k")?;
        cx.kv("a").set("k", &1)?;
        Ack::raw(&[before])
    });
    host.run().expect_ok();
    let mut host = running(|cx| {
        cx.kv("a").set("k", &1)?;
        cx.kv("b").set("k", &1)?;
        Ok(Ack::ok())
    });
    host.run().expect_error("PLUGIN_FAILED");
    assert!(
        host.0.log()[0].contains("writes one partition"),
        "{:?}",
        host.0.log()
    );
    assert_eq!(host.0.stored("a", "k"), None);
}

#[test]
fn pages_go_by_key() {
    let listed = once(|kv| {
        for key in ["a:2", "a:1", "b", "a:3"] {
            kv.set(key, &0)?;
        }
        let page = |after| -> Result<Vec<String>> {
            let page = kv.list::<Value>("a:", after, 2)?;
            Ok(page.into_iter().map(|(key, _)| key).collect())
        };
        Ok(json!([page(None)?, page(Some("a:2"))?, page(Some("a:3"))?]))
    });
    assert_eq!(listed.expect_ok(), json!([["a:1", "a:2"], ["a:3"], []]));
}

#[test]
fn keys_expire_by_the_clock_of_the_event() {
    let mut host = running(|cx| {
        let stored = cx.kv("p");
        let before = (stored.get::<u8>("k")?, stored.get::<u8>("n")?);
        if before.0.is_none() {
            stored.set_for("k", &1, Duration::from_secs(10))?;
        }
        // An expiry outlives what is added; a plain set ends it.
        stored.set_for("n", &1, Duration::from_secs(10))?;
        stored.add("n", 1)?;
        stored.set_for("for ever", &1, Duration::from_millis(1))?;
        stored.set("for ever", &1)?;
        Ack::raw(&before)
    });
    assert_eq!(host.run().expect_args(), [Value::Null, Value::Null]);
    host.0.advance(Duration::from_millis(9_999));
    assert_eq!(host.0.stored("p", "k"), Some(json!(1)));
    assert_eq!(host.run().expect_args(), [json!(1), json!(2)]);
    host.0.advance(Duration::from_millis(1));
    assert_eq!(host.0.stored("p", "k"), None);
    assert_eq!(host.run().expect_args(), [Value::Null, json!(2)]);
    host.0.advance(Duration::from_secs(10));
    assert_eq!(host.0.stored("p", "n"), None);
    assert_eq!(host.0.stored("p", "for ever"), Some(json!(1)));
}

#[test]
fn limits_are_told_apart() {
    fn fault<T: std::fmt::Debug>(result: std::result::Result<T, Fault>) -> Result<Value> {
        Ok(match result.unwrap_err() {
            Fault::Invalid(why) => json!(["invalid", why]),
            Fault::TooLarge(why) => json!(["too large", why]),
            Fault::TooMany(why) => json!(["too many", why]),
            other => json!(["other", other.to_string()]),
        })
    }
    let of = |handler: fn(Kv) -> Result<Value>| once(handler).expect_ok()[0].clone();
    assert_eq!(of(|kv| fault(kv.set("", &1))), "invalid");
    assert_eq!(of(|kv| fault(kv.get::<u8>("k".repeat(513)))), "invalid");
    assert_eq!(of(|kv| fault(kv.list::<u8>("", None, 0))), "invalid");
    assert_eq!(of(|kv| fault(kv.list::<u8>("", None, 1_001))), "invalid");
    assert_eq!(
        of(|kv| fault(kv.set("k", &"x".repeat(65_535)))),
        "too large"
    );
    assert_eq!(
        of(|kv| fault((0..=1_000).try_for_each(|key| kv.set(key.to_string(), &1)))),
        "too many"
    );
    assert_eq!(
        of(|kv| fault((0..=1_000).try_for_each(|_| kv.get::<u8>("k").map(|_| ())))),
        "too many"
    );
    assert_eq!(
        of(|kv| {
            kv.set("k", "text")?;
            fault(kv.get::<u8>("k"))
        }),
        "invalid"
    );
    assert_eq!(
        of(|kv| {
            kv.set("k", "text")?;
            fault(kv.add("k", 1))
        }),
        "invalid"
    );
    assert_eq!(
        of(|kv| {
            kv.add("k", i64::MAX)?;
            fault(kv.add("k", 1))
        }),
        "invalid"
    );
}

#[test]
fn an_add_that_cannot_be_done_fails_the_commit() {
    let mut host = running(|cx| {
        cx.kv("p").add("n", i64::MAX)?;
        cx.emit("said").to_self().send(&1)?;
        Ok(Ack::ok())
    });
    host.run().expect_ok();
    host.0.clear();
    let refused = host.run().expect_failure("PLUGIN_FAILED").to_string();
    assert!(refused.contains("beyond 64 bits"), "{refused}");
    host.0.expect_silence(&host.1);
    assert_eq!(host.0.stored("p", "n"), Some(json!(i64::MAX)));
}

#[test]
fn faults_become_verdicts_that_clients_understand() {
    for (fault, code, lines) in [
        (Fault::Unavailable("store".to_owned()), "UNAVAILABLE", 0),
        (Fault::Conflict("run again".to_owned()), "CONFLICT", 0),
        (Fault::TooLarge("value".to_owned()), "INVALID_PAYLOAD", 0),
        (Fault::Binary, "INVALID_PAYLOAD", 0),
        // What is the plugin's own mistake is for its author, in the log.
        (Fault::Invalid("key".to_owned()), "PLUGIN_FAILED", 1),
        (Fault::TooMany("reads".to_owned()), "PLUGIN_FAILED", 1),
        (Fault::NotGranted("kv".to_owned()), "PLUGIN_FAILED", 1),
    ] {
        let mut host = running(move |_| Err(fault.clone().into()));
        host.run().expect_error(code);
        assert_eq!(host.0.log().len(), lines, "{code}");
    }
}
