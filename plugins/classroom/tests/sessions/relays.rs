//! Files, typing and signals.

use crate::{host, in_s1, joined, refused, tom};
use serde_json::{Value, json};
use std::time::Duration;
use switchboard_plugin::{Client, Reply, TestHost};

fn file(name: &str) -> Value {
    json!({
        "sessionCode": "S1", "name": name, "mime": "application/pdf",
        "data": { "_placeholder": true, "num": 0 },
    })
}

fn share(host: &mut TestHost, client: &Client, name: &str, bytes: Vec<u8>) -> Reply {
    host.send_binary(client, "file", [file(name)], vec![bytes])
}

#[test]
fn a_file_arrives_byte_for_byte() {
    let mut host = host();
    let (teacher, ann) = (joined(&mut host, tom()), joined(&mut host, "ann"));
    let largest: Vec<u8> = (0..1_000_000_u32).map(|n| (n * 31 % 251) as u8).collect();
    for bytes in [vec![], vec![0, 255, 128], largest] {
        let ack = share(&mut host, &ann, "notes.pdf", bytes.clone()).expect_ok();
        let id = ack["fileId"].as_str().unwrap();
        assert_eq!(ack, json!({ "ok": true, "fileId": id }));
        for client in [&teacher, &ann] {
            let (args, attachments) = host.take_binary(client, "fileShared");
            let heard = json!({
                "sessionCode": "S1", "fileId": id, "userId": "ann", "name": "notes.pdf",
                "mime": "application/pdf", "data": { "_placeholder": true, "num": 0 },
            });
            assert_eq!(args, [heard]);
            assert!(attachments == [bytes.clone()], "{} bytes", bytes.len());
            host.expect_silence(client);
        }
    }
}

#[test]
fn a_file_that_is_too_large_or_none_is_refused_by_name() {
    let mut host = host();
    let (teacher, ann) = (joined(&mut host, tom()), joined(&mut host, "ann"));
    let why = share(&mut host, &ann, "x", vec![0; 1_000_001]).expect_error("INVALID_PAYLOAD");
    assert_eq!(why, "`data`: expected at most 1000000 bytes, got 1000001");
    let long = "x".repeat(256);
    let why = share(&mut host, &ann, &long, vec![1]).expect_error("INVALID_PAYLOAD");
    assert!(why.contains("`name`"), "{why}");
    for (member, value) in [
        ("name", json!("")),
        ("mime", json!("x".repeat(128))),
        ("data", json!("no bytes")),
        ("data", Value::Null),
    ] {
        let mut file = file("notes.pdf");
        file[member] = value;
        let why = host.send_binary(&ann, "file", [file], vec![vec![1]]);
        let why = why.expect_error("INVALID_PAYLOAD");
        assert!(why.contains(&format!("`{member}`")), "{why}");
    }
    host.expect_silence(&teacher);
}

#[test]
fn an_operator_may_allow_smaller_files_only() {
    let mut host = TestHost::new(classroom::plugin()).with_settings(json!({ "maxFileBytes": 2 }));
    let open = json!({ "sessionCode": "S1", "educators": [], "open": true });
    host.server_event("session-create", open).expect_ok();
    let ann = joined(&mut host, "ann");
    share(&mut host, &ann, "x", vec![1, 2]).expect_ok();
    share(&mut host, &ann, "x", vec![1, 2, 3]).expect_error("INVALID_PAYLOAD");
}

#[test]
fn whoever_types_is_told_of_once_and_stops_by_themselves() {
    let mut host = host();
    let (teacher, ann) = (joined(&mut host, tom()), joined(&mut host, "ann"));
    let news = |is_typing| json!({ "sessionCode": "S1", "userId": "ann", "isTyping": is_typing });
    for (is_typing, changes) in [(true, true), (true, false), (false, true), (true, true)] {
        let ack = in_s1(
            &mut host,
            &ann,
            "typingInSession",
            json!({ "isTyping": is_typing }),
        );
        assert_eq!(ack, json!({ "ok": true }));
        for client in [&teacher, &ann] {
            if changes {
                assert_eq!(host.take(client, "typingUpdated"), news(is_typing));
            }
            host.expect_silence(client);
        }
    }
    host.advance(Duration::from_secs(5));
    assert_eq!(host.take(&teacher, "typingUpdated"), news(false));
    let why = refused(
        &mut host,
        &ann,
        "typingInSession",
        json!({ "isTyping": "yes" }),
        "INVALID_PAYLOAD",
    );
    assert!(why.contains("`isTyping`"), "{why}");
}

#[test]
fn whoever_leaves_or_is_gone_types_no_more() {
    let mut host = host();
    let teacher = joined(&mut host, tom());
    let news = |is_typing| json!({ "sessionCode": "S1", "userId": "ann", "isTyping": is_typing });
    for is_lost in [false, true] {
        let ann = joined(&mut host, "ann");
        let types = json!({ "isTyping": true });
        in_s1(&mut host, &ann, "typingInSession", types);
        match is_lost {
            true => host.disconnect(&ann),
            false => drop(host.send(&ann, "leaveSession", "S1").expect_ok()),
        }
        let told = host.take_all(&teacher, "typingUpdated");
        assert_eq!(told, [news(true), news(false)], "lost: {is_lost}");
    }
}

#[test]
fn a_signal_reaches_one_participant_where_they_are_in_the_session() {
    let mut host = host();
    let (teacher, ann, phone, bea) = (
        joined(&mut host, tom()),
        joined(&mut host, "ann"),
        joined(&mut host, "ann"),
        joined(&mut host, "bea"),
    );
    let elsewhere = host.connect("ann");
    let offer = json!({ "userId": "ann", "data": { "type": "offer", "sdp": "v=0" } });
    assert_eq!(
        in_s1(&mut host, &teacher, "signal", offer),
        json!({ "ok": true })
    );
    for client in [&ann, &phone] {
        let heard = json!({ "sessionCode": "S1", "from": "tom", "data": { "type": "offer", "sdp": "v=0" } });
        assert_eq!(host.take(client, "signal"), heard);
    }
    for client in [&teacher, &bea, &elsewhere] {
        host.expect_silence(client);
    }
    let candidate = json!([{ "sessionCode": "S1", "userId": "bea", "data": { "_placeholder": true, "num": 0 } }]);
    host.send_binary(&teacher, "signal", candidate, vec![vec![9, 8]])
        .expect_ok();
    assert_eq!(host.take_binary(&bea, "signal").1, [vec![9, 8]]);
}

#[test]
fn a_signal_is_for_who_is_there() {
    let mut host = host();
    let (teacher, ann) = (joined(&mut host, tom()), joined(&mut host, "ann"));
    let outside = host.connect("bea");
    for absent in ["bea", "cem", "nobody"] {
        refused(
            &mut host,
            &teacher,
            "signal",
            json!({ "userId": absent, "data": 1 }),
            "NOT_FOUND",
        );
    }
    host.disconnect(&ann);
    refused(
        &mut host,
        &teacher,
        "signal",
        json!({ "userId": "ann", "data": 1 }),
        "NOT_FOUND",
    );
    host.expect_silence(&outside);
    for (wrong, name) in [
        (json!({ "userId": "a:b", "data": 1 }), "`userId`"),
        (json!({ "userId": "ann" }), "`data`"),
    ] {
        let why = refused(&mut host, &teacher, "signal", wrong, "INVALID_PAYLOAD");
        assert!(why.contains(name), "{why}");
    }
}
