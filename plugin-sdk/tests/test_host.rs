//! The `TestHost` does what the host does, as `wit/` says it: rooms, notices, what is refused; and what
//! a test is told that fails.

use serde_json::{Value, json};
use std::{cell::Cell, time::Duration};
use switchboard_plugin::{
    Ack, Cx, Disconnected, Error, Id, Joined, Left, Plugin, PresenceChanged, Result, Seen, Status,
    TestHost, log,
};

fn host(plugin: Plugin) -> TestHost {
    TestHost::new(plugin.rooms(["chat"]).needs(["rooms", "kv", "presence"]))
}

fn new() -> Plugin {
    Plugin::new("test")
}

fn enter(cx: &mut Cx, room: String) -> Result<Ack> {
    cx.join(format!("chat:{room}"));
    Ok(Ack::ok())
}

// ---- rooms -------------------------------------------------------------------------------------

fn told(plugin: Plugin) -> Plugin {
    plugin
        .on_connected(|cx| {
            log::info(format!("{} connected", cx.user()?));
            Ok(())
        })
        .on_joined(|cx, Joined { room, first }| {
            log::info(format!("{} joined {room} {first}", cx.user()?));
            Ok(())
        })
        .on_left(|cx, Left { room, last, reason }| {
            let still = cx.rooms().has_connection(&room, cx.connection())?;
            log::info(format!(
                "{} left {room} {last} {reason} {still}",
                cx.user()?
            ));
            Ok(())
        })
        .on_disconnected(|cx, Disconnected { reason, rooms }| {
            log::info(format!("{} disconnected {reason} {rooms:?}", cx.user()?));
            Ok(())
        })
}

#[test]
fn joins_and_leaves_are_told_once_they_have_happened() {
    let leave = |cx: &mut Cx, room: String| {
        cx.leave(format!("chat:{room}"));
        Ok(Ack::ok())
    };
    let mut host = host(told(new().on("enter", enter).on("leave", leave)));
    let phone = host.connect("ann");
    let laptop = host.connect("ann");
    for client in [&phone, &laptop, &phone] {
        host.send(client, "enter", "a").expect_ok();
    }
    host.send(&phone, "leave", "a").expect_ok();
    host.send(&phone, "leave", "a").expect_ok();
    host.send(&laptop, "enter", "b").expect_ok();
    host.disconnect(&laptop);
    host.disconnect(&laptop);
    assert!(!host.is_connected(&laptop) && host.rooms(&laptop).is_empty());
    assert_eq!(
        host.log(),
        [
            "ann connected",
            "ann connected",
            "ann joined chat:a true",
            "ann joined chat:a false",
            "ann left chat:a false left false",
            "ann joined chat:b true",
            r#"ann disconnected transport close ["chat:a", "chat:b"]"#,
        ]
    );
    host.advance(Duration::from_secs(5));
    assert_eq!(
        host.log()[7..],
        [
            "ann left chat:a true disconnected false",
            "ann left chat:b true disconnected false",
        ]
    );
}

#[test]
fn who_comes_back_in_time_has_never_left() {
    let leave = |cx: &mut Cx, room: String| {
        cx.leave(format!("chat:{room}"));
        Ok(Ack::ok())
    };
    let mut host = host(told(new().on("enter", enter).on("leave", leave)));
    let (second, mut told) = (Duration::from_secs(1), 0);
    let mut news = |host: &TestHost| {
        let log = host.log();
        log[std::mem::replace(&mut told, log.len())..].to_vec()
    };
    let first = host.connect("ann");
    host.send(&first, "enter", "a").expect_ok();
    host.disconnect(&first);
    news(&host);
    host.advance(4 * second);
    let again = host.connect("ann");
    host.send(&again, "enter", "a").expect_ok();
    host.advance(second);
    let expected = [
        "ann connected",
        "ann joined chat:a false",
        "ann left chat:a false disconnected false",
    ];
    assert_eq!(news(&host), expected);
    host.disconnect(&again);
    let third = host.connect("ann");
    host.send(&third, "enter", "a").expect_ok();
    news(&host);
    // Who leaves on purpose does not linger.
    host.send(&third, "leave", "a").expect_ok();
    assert_eq!(news(&host), ["ann left chat:a true left false"]);
    host.advance(9 * second);
    assert!(news(&host).is_empty());
}

// ---- presence ----------------------------------------------------------------------------------

#[test]
fn what_a_user_is_seen_as_is_told_when_it_changes() {
    let choose = |cx: &mut Cx, status: Status| {
        cx.presence().choose(cx.user()?, status)?;
        Ok(Ack::ok())
    };
    let seen = |cx: &mut Cx, room: String| {
        let seen = cx.presence().of_room(room)?;
        let seen = seen.iter().map(|seen| (&seen.user, seen.status));
        Ack::with(&json!({ "seen": seen.collect::<Vec<_>>() }))
    };
    let plugin = new()
        .on("enter", enter)
        .on("choose", choose)
        .on("seen", seen)
        .on("heartbeat", |_: &mut Cx| Ok(Ack::ok()))
        .on_presence(|_, PresenceChanged { now, before, rooms }| {
            let Seen { user, status, .. } = now;
            log::info(format!("{user}: {before} to {status} {rooms:?}"));
            Ok(())
        });
    let mut host = host(plugin);
    let (second, minute, mut told) = (Duration::from_secs(1), Duration::from_secs(60), 0);
    let mut news = |host: &TestHost| {
        let log = host.log();
        log[std::mem::replace(&mut told, log.len())..].to_vec()
    };
    let phone = host.connect("ann");
    host.send(&phone, "enter", "a").expect_ok();
    assert_eq!(news(&host), ["ann: offline to online {}"]);
    host.advance(3 * minute);
    let laptop = host.connect("ann");
    host.advance(4 * minute);
    host.send(&laptop, "heartbeat", ()).expect_ok();
    assert!(news(&host).is_empty(), "the other one was active");
    host.advance(minute);
    assert_eq!(news(&host), [r#"ann: online to away {"chat:a"}"#]);
    host.send(&phone, "choose", "busy").expect_ok();
    assert_eq!(news(&host), [r#"ann: away to busy {"chat:a"}"#]);
    host.advance(9 * minute);
    host.send(&phone, "choose", "gone")
        .expect_error("INVALID_PAYLOAD");
    host.disconnect(&phone);
    host.advance(minute);
    let ack = host.send(&laptop, "seen", "chat:a").expect_ok();
    assert_eq!(ack["seen"], json!([]));
    host.disconnect(&laptop);
    host.advance(4 * second);
    assert!(news(&host).is_empty());
    let back = host.connect("ann");
    host.send(&back, "enter", "a").expect_ok();
    let ack = host.send(&back, "seen", "chat:a").expect_ok();
    assert_eq!(ack["seen"], json!([["ann", "busy"]]));
    host.disconnect(&back);
    host.advance(5 * second);
    assert_eq!(news(&host), [r#"ann: busy to offline {"chat:a"}"#]);
    let anew = host.connect("ann");
    assert_eq!(news(&host), ["ann: offline to online {}"]);
    host.send(&anew, "choose", "offline").expect_ok();
    host.disconnect(&anew);
    host.advance(minute);
    assert_eq!(news(&host), ["ann: online to offline {}"]);
}

#[test]
fn backends_move_and_end_whole_users() {
    let plugin = new()
        .on_server_event("move", |cx: &mut Cx, user: Id| {
            cx.join_user(&user, "chat:a");
            cx.leave_user(&user, "chat:b");
            Ok(Ack::ok())
        })
        .on_server_event("empty", |cx: &mut Cx| {
            cx.empty("chat:a");
            Ok(Ack::ok())
        })
        .on_server_event("end", |cx: &mut Cx, user: Id| {
            cx.disconnect_user(&user, "banned");
            Ok(Ack::ok())
        })
        .on("quit", |cx: &mut Cx, again: bool| {
            match again {
                true => cx.close_transport("restart"),
                false => cx.disconnect("quit"),
            }
            Ok(Ack::ok())
        })
        .on("enter", enter);
    let mut host = host(plugin);
    let [phone, laptop, ben] = ["ann", "ann", "ben"].map(|name| host.connect(name));
    host.send(&laptop, "enter", "b").expect_ok();
    host.send(&ben, "enter", "b").expect_ok();
    host.server_event("move", "ann").expect_ok();
    assert_eq!(host.rooms(&phone), ["chat:a"]);
    assert_eq!(host.rooms(&laptop), ["chat:a"]);
    assert_eq!(host.rooms(&ben), ["chat:b"]);
    host.server_event("empty", Value::Null).expect_ok();
    assert!(host.rooms(&phone).is_empty() && host.rooms(&laptop).is_empty());
    host.server_event("end", "ann").expect_ok();
    assert!(!host.is_connected(&phone) && !host.is_connected(&laptop));
    host.send(&ben, "quit", false).expect_ok();
    assert!(!host.is_connected(&ben));
    let cat = host.connect("cat");
    host.send(&cat, "quit", true).expect_ok();
    assert!(!host.is_connected(&cat));
}

#[test]
fn the_rooms_capability_tells_who_is_where() {
    fn look(cx: &mut Cx, connection: String) -> Result<Ack> {
        // Not yet: instructions are carried out when the handler has returned.
        cx.join("chat:later");
        let rooms = cx.rooms();
        let page = rooms.members_after("chat:a", Some(&connection), 10)?;
        Ack::with(&json!({
            "members": rooms.members("chat:a")?.iter().map(|it| format!("{} {} {}", it.connection, it.user, it.role)).collect::<Vec<_>>(),
            "after": page.len(),
            "users": rooms.users("chat:a")?,
            "count": rooms.count_users("chat:a")?,
            "later": rooms.count_users("chat:later")?,
            "has": [rooms.has_user("chat:a", "ben")?, rooms.has_user("chat:a", "cat")?, rooms.has_connection("chat:a", &connection)?],
            "of": [rooms.of_connection(&connection)?, rooms.of_user("ben")?, rooms.of_connection("none")?],
            "connections": rooms.connections_of_user("ben")?,
        }))
    }
    let mut host = host(new().on("enter", enter).on("look", look));
    let clients = ["ann", "ben", "ben", "cat"].map(|name| host.connect(name));
    let [ann, phone, laptop, cat] = &clients;
    for (client, room) in [(ann, "a"), (phone, "a"), (laptop, "a"), (laptop, "b")] {
        host.send(client, "enter", room).expect_ok();
    }
    let ids = [ann.id(), phone.id(), laptop.id()];
    let expected = json!({
        "ok": true,
        "members": [format!("{} ann student", ids[0]), format!("{} ben student", ids[1]), format!("{} ben student", ids[2])],
        "after": 2,
        "users": ["ann", "ben"],
        "count": 2,
        "later": 0,
        "has": [true, false, true],
        "of": [["chat:a"], ["chat:a", "chat:b"], []],
        "connections": [ids[1], ids[2]],
    });
    assert_eq!(host.send(cat, "look", ids[0]).expect_ok(), expected);
}

#[test]
fn what_a_host_would_refuse_is_refused_with_the_reason() {
    fn wrong(cx: &mut Cx, how: String) -> Result<Ack> {
        cx.kv("p").set("k", &how)?;
        match how.as_str() {
            "foreign room" => cx.join("course:1"),
            "user's room" => cx.join("user:ann"),
            "no room" => cx.join("chat"),
            "empty room" => cx.leave("chat:"),
            "foreign target" => cx.emit("x").to_room("course:1").send(&1)?,
            "foreign except" => cx
                .emit("x")
                .to_everyone()
                .except_room("course:1")
                .send(&1)?,
            "no user" => cx.emit("x").to_user("a:b").send(&1)?,
            "reserved" => cx.emit("disconnect").to_self().send(&1)?,
            "escapes" => cx.emit("a\"b").to_self().send(&1)?,
            "no tuple" => cx.emit("x").to_self().send_args("text")?,
            "long token" => cx.emit("x").to_self().ask("t".repeat(129)).send(&1)?,
            "too many" => (0..10_001).for_each(|_| cx.leave("chat:a")),
            stranger => cx.emit("x").to_connection(stranger).send(&1)?,
        }
        Ok(Ack::ok())
    }
    let mut host = host(
        new()
            .on("wrong", wrong)
            .on_server_event("wrong", |cx: &mut Cx| {
                cx.join("chat:a");
                Ok(Ack::ok())
            }),
    );
    let ann = host.connect("ann");
    let stranger = host.connect("stranger");
    for (how, reason) in [
        ("foreign room", "add it by Plugin::rooms"),
        ("user's room", "`user` is not granted"),
        ("no room", "expected `prefix:name`"),
        ("empty room", "expected `prefix:name`"),
        ("foreign target", "`course` is not granted"),
        ("foreign except", "`course` is not granted"),
        ("no user", "an id has 1 to 128"),
        ("reserved", "is reserved"),
        ("escapes", "is not valid"),
        ("no tuple", "hand over a tuple"),
        ("long token", "longer than 128 bytes"),
        ("too many", "10001 instructions"),
        (stranger.id(), "is in no room"),
    ] {
        let refused = host
            .send(&ann, "wrong", how)
            .expect_failure("PLUGIN_FAILED");
        let why = &refused["details"]["the host would refuse this reply"];
        assert!(
            why.as_str().is_some_and(|why| why.contains(reason)),
            "{how}: {refused}"
        );
        assert_eq!(host.stored("p", "k"), None, "{how}: nothing is committed");
    }
    host.expect_silence(&ann);
    host.send(&ann, "wrong", "of-nobody").expect_ok();
    host.server_event("wrong", Value::Null)
        .expect_error("PLUGIN_FAILED");
}

#[test]
fn a_connection_may_be_in_128_rooms() {
    let mut host = host(new().on("enter", enter));
    let ann = host.connect("ann");
    for room in 0..128 {
        host.send(&ann, "enter", room.to_string()).expect_ok();
    }
    host.send(&ann, "enter", "one more")
        .expect_error("RATE_LIMITED");
    host.send(&ann, "enter", "7").expect_ok();
}

#[test]
fn capabilities_have_to_be_declared() {
    let plugin = new()
        .on("kv", |cx: &mut Cx| {
            cx.kv("p").add("k", 1)?;
            Ok(Ack::ok())
        })
        .on("rooms", |cx: &mut Cx| {
            Ack::raw(&[cx.rooms().count_users("chat:a")?])
        });
    let mut host = TestHost::new(plugin);
    let ann = host.connect("ann");
    for capability in ["kv", "rooms"] {
        host.send(&ann, capability, Value::Null)
            .expect_error("PLUGIN_FAILED");
        let log = host.log();
        let line = log.last().unwrap();
        assert!(
            line.contains(&format!("needs `{capability}`; add it by Plugin::needs")),
            "{line}"
        );
    }
}

// ---- what a test is told -----------------------------------------------------------------------

thread_local! {
    static KEPT: Cell<u32> = const { Cell::new(0) };
}

#[test]
#[should_panic(expected = "the handler does something else when the host runs it again")]
fn state_outside_of_kv_is_noticed() {
    fn count(_: &mut Cx) -> Result<Ack> {
        KEPT.set(KEPT.get() + 1);
        Ack::raw(&[KEPT.get()])
    }
    let mut host = host(new().on("count", count));
    let ann = host.connect("ann");
    host.send(&ann, "count", Value::Null).expect_ok();
}

#[test]
#[should_panic(expected = "the handler of `joined` failed, which nobody would be told")]
fn a_notice_that_fails_is_noticed() {
    let plugin = new()
        .on("enter", enter)
        .on_joined(|_, _| Err(Error::forbidden("no")));
    let mut host = host(plugin);
    let ann = host.connect("ann");
    host.send(&ann, "enter", "a").expect_ok();
}

#[test]
#[should_panic(expected = "causes events of its own without end")]
fn events_without_end_are_noticed() {
    let plugin = new()
        .on("enter", enter)
        .on_joined(|cx, joined| {
            cx.leave(joined.room);
            Ok(())
        })
        .on_left(|cx, left| {
            cx.join(left.room);
            Ok(())
        });
    let mut host = host(plugin);
    let ann = host.connect("ann");
    host.send(&ann, "enter", "a").expect_ok();
}

#[test]
#[should_panic(expected = "`refuse` failed: {\"code\":\"FORBIDDEN\",\"message\":\"no\"}")]
fn a_failure_that_was_not_expected_is_shown() {
    let mut host = host(new().on("refuse", |_: &mut Cx| -> Result<Ack> {
        Err(Error::forbidden("no"))
    }));
    let ann = host.connect("ann");
    host.send(&ann, "refuse", Value::Null).expect_ok();
}

#[test]
#[should_panic(expected = "`enter` did not fail with FORBIDDEN; it answered [{\"ok\":true}]")]
fn a_success_that_was_not_expected_is_shown() {
    let mut host = host(new().on("enter", enter));
    let ann = host.connect("ann");
    host.send(&ann, "enter", "a").expect_error("FORBIDDEN");
}

#[test]
#[should_panic(
    expected = "connection-0001 heard `said` 0 times, not once; besides it heard [\"other\"]"
)]
fn what_was_heard_instead_is_shown() {
    let say = |cx: &mut Cx| {
        cx.emit("other").to_self().send(&1)?;
        Ok(Ack::ok())
    };
    let mut host = host(new().on("say", say));
    let ann = host.connect("ann");
    host.send(&ann, "say", Value::Null).expect_ok();
    host.take(&ann, "said");
}
