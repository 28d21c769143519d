//! Receipts: marks that move forward and are announced once; and what is missed while one is away.

use chat::plugin;
use serde_json::{Value, json};
use std::time::Duration;
use switchboard_plugin::{Client, TestHost};

/// Returns a host with the conversation `c1` of ann, bob and cat.
fn host() -> TestHost {
    let mut host = TestHost::new(plugin());
    create(&mut host, "c1", &["ann", "bob", "cat"]);
    host
}

fn create(host: &mut TestHost, id: &str, members: &[&str]) {
    let told = json!({ "conversationId": id, "members": members });
    host.server_event("conversation-create", told).expect_ok();
}

fn say_in(host: &mut TestHost, conversation: &str, client: &Client, temp: &str) -> String {
    let new = json!({ "tempId": temp, "conversationId": conversation, "content": "hello" });
    let answer = host.send(client, "message-send", new).expect_ok();
    answer
        .get("messageId")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn say(host: &mut TestHost, client: &Client, temp: &str) -> String {
    say_in(host, "c1", client, temp)
}

fn expect_receipt(host: &mut TestHost, client: &Client, id: &str, user: &str, kind: &str) {
    let heard = host.take_args(client, "receipt");
    assert_eq!(heard, [json!(id), json!(user), json!(kind)]);
}

#[test]
fn a_message_is_delivered_once_when_a_device_of_a_member_has_it() {
    let mut host = host();
    let [ann, tablet, bob, phone, cat] =
        ["ann", "ann", "bob", "bob", "cat"].map(|user| host.connect(user));
    let id = say(&mut host, &ann, "t1");
    host.clear();
    host.let_time_out(&cat, &id);
    host.expect_silence(&ann);
    host.acknowledge(&phone, &id, json!(["anything", 7]));
    for client in [&ann, &tablet] {
        expect_receipt(&mut host, client, &id, "bob", "delivered");
    }
    host.acknowledge(&bob, &id, json!([]));
    for client in [&ann, &tablet, &bob, &phone, &cat] {
        host.expect_silence(client);
    }
    let mark = json!({ "position": 1, "message": id });
    assert_eq!(
        host.stored("chat:c1", "marks:bob"),
        Some(json!({ "delivered": mark, "seen": { "position": 0, "message": null } }))
    );
    assert_eq!(host.stored("chat:c1", "marks:cat"), None);
}

#[test]
fn the_devices_of_the_author_are_no_recipients() {
    let mut host = host();
    let (ann, tablet) = (host.connect("ann"), host.connect("ann"));
    let id = say(&mut host, &ann, "t1");
    assert_eq!(host.take(&tablet, "message-new")["id"], json!(id));
    host.disconnect(&tablet);
    host.advance(Duration::from_secs(10));
    assert_eq!(host.stored("chat:c1", "marks:ann"), None);
    assert_eq!(host.heard(&ann), ["message-ack"]);
}

#[test]
fn marks_only_move_forward() {
    let mut host = host();
    let (ann, bob) = (host.connect("ann"), host.connect("bob"));
    let ids = ["t1", "t2", "t3"].map(|temp| say(&mut host, &ann, temp));
    host.clear();
    host.acknowledge(&bob, &ids[1], json!([]));
    expect_receipt(&mut host, &ann, &ids[1], "bob", "delivered");
    // All before it are meant, too.
    host.acknowledge(&bob, &ids[0], json!([]));
    host.expect_silence(&ann);
    host.send(&bob, "message-seen", &ids[2]).expect_ok();
    expect_receipt(&mut host, &ann, &ids[2], "bob", "seen");
    // What is seen has been delivered.
    host.acknowledge(&bob, &ids[2], json!([]));
    for id in [&ids[0], &ids[1], &ids[2]] {
        host.send(&bob, "message-seen", id).expect_ok();
    }
    host.expect_silence(&ann);
    let mark = json!({ "position": 3, "message": ids[2] });
    assert_eq!(
        host.stored("chat:c1", "marks:bob"),
        Some(json!({ "delivered": mark, "seen": mark }))
    );
}

#[test]
fn each_author_hears_of_their_latest_that_was_passed() {
    let mut host = host();
    let [ann, bob, cat] = ["ann", "bob", "cat"].map(|user| host.connect(user));
    let first = say(&mut host, &ann, "t1");
    say(&mut host, &bob, "t2");
    let bobs = say(&mut host, &bob, "t3");
    say(&mut host, &cat, "t4");
    let later = say(&mut host, &ann, "t5");
    let last = say(&mut host, &bob, "t6");
    host.clear();
    host.send(&cat, "message-seen", &bobs).expect_ok();
    expect_receipt(&mut host, &ann, &first, "cat", "seen");
    expect_receipt(&mut host, &bob, &bobs, "cat", "seen");
    host.acknowledge(&cat, &last, json!([]));
    expect_receipt(&mut host, &ann, &later, "cat", "delivered");
    expect_receipt(&mut host, &bob, &last, "cat", "delivered");
    host.send(&cat, "message-seen", &last).expect_ok();
    expect_receipt(&mut host, &ann, &later, "cat", "seen");
    expect_receipt(&mut host, &bob, &last, "cat", "seen");
    host.expect_silence(&cat);
    assert_eq!(host.take_all(&ann, "receipt"), Vec::<Value>::new());
}

#[test]
fn what_was_sent_while_one_was_away_is_delivered_when_one_is_back() {
    let mut host = host();
    create(&mut host, "c2", &["ann", "bob"]);
    let (ann, bob) = (host.connect("ann"), host.connect("bob"));
    host.disconnect(&bob);
    host.advance(Duration::from_secs(10));
    let ids = ["t1", "t2"].map(|temp| say(&mut host, &ann, temp));
    host.clear();
    let bob = host.connect("bob");
    assert_eq!(
        host.take(&bob, "unread"),
        json!({ "conversationId": "c1", "count": 2, "lastMessageId": ids[1] })
    );
    host.take(&ann, "presence");
    // Nothing asks for it, and nothing need be acknowledged.
    host.advance(Duration::ZERO);
    expect_receipt(&mut host, &ann, &ids[1], "bob", "delivered");
    // On another device they are still unread, and delivered already.
    let phone = host.connect("bob");
    assert_eq!(host.take(&phone, "unread")["count"], 2);
    assert_eq!(
        host.timer("user:bob", &format!("missed:{}", ids[1])),
        None,
        "nothing to write"
    );
    host.send(&phone, "message-seen", &ids[1]).expect_ok();
    expect_receipt(&mut host, &ann, &ids[1], "bob", "seen");
    let tablet = host.connect("bob");
    host.expect_silence(&tablet);
    host.advance(Duration::ZERO);
    host.expect_silence(&ann);
}

#[test]
fn devices_that_connect_at_once_have_it_delivered_once() {
    let mut host = host();
    let ann = host.connect("ann");
    let first = say(&mut host, &ann, "t1");
    for _ in 0..3 {
        host.connect("bob");
    }
    host.clear();
    host.advance(Duration::ZERO);
    expect_receipt(&mut host, &ann, &first, "bob", "delivered");
    // The second is missed by one that connects before the first has been marked.
    let [_, third] = ["t2", "t3"].map(|temp| {
        let id = say(&mut host, &ann, temp);
        host.connect("cat");
        id
    });
    host.clear();
    host.advance(Duration::ZERO);
    let heard = host.take_all(&ann, "receipt");
    assert_eq!(heard.last(), Some(&json!(third)));
    assert_eq!(
        host.stored("chat:c1", "marks:cat").unwrap()["delivered"]["message"],
        json!(third)
    );
    host.expect_silence(&ann);
}

#[test]
fn what_comes_live_after_connecting_is_delivered_by_its_own_acknowledgement() {
    let mut host = host();
    let ann = host.connect("ann");
    let missed = say(&mut host, &ann, "t1");
    let bob = host.connect("bob");
    let live = say(&mut host, &ann, "t2");
    host.clear();
    host.advance(Duration::ZERO);
    expect_receipt(&mut host, &ann, &missed, "bob", "delivered");
    host.expect_silence(&ann);
    host.acknowledge(&bob, &live, json!([]));
    expect_receipt(&mut host, &ann, &live, "bob", "delivered");
    // What is seen at once has been delivered; of that nobody hears any more.
    host.disconnect(&bob);
    let last = say(&mut host, &ann, "t3");
    let bob = host.connect("bob");
    host.clear();
    host.send(&bob, "message-seen", &last).expect_ok();
    expect_receipt(&mut host, &ann, &last, "bob", "seen");
    host.advance(Duration::ZERO);
    host.expect_silence(&ann);
}

#[test]
fn what_was_missed_is_not_delivered_to_who_was_taken_out_nor_told_to_who_is_apart() {
    let mut host = host();
    let [ann, bob] = ["ann", "bob"].map(|user| host.connect(user));
    let told = json!({ "userId": "ann", "blockedId": "cat" });
    host.server_event("block", told).expect_ok();
    say(&mut host, &ann, "t1");
    let bobs = say(&mut host, &bob, "t1");
    host.connect("cat");
    host.clear();
    host.advance(Duration::ZERO);
    expect_receipt(&mut host, &bob, &bobs, "cat", "delivered");
    host.expect_silence(&ann);
    host.disconnect(&bob);
    let later = say(&mut host, &ann, "t2");
    host.connect("bob");
    let told = json!({ "conversationId": "c1", "userId": "bob" });
    host.server_event("member-remove", told).expect_ok();
    host.clear();
    host.advance(Duration::ZERO);
    host.expect_silence(&ann);
    let mark = host.stored("chat:c1", "marks:bob");
    assert!(!json!(mark).to_string().contains(&later), "{mark:?}");
}

#[test]
fn ones_own_messages_are_never_unread() {
    let mut host = host();
    let (ann, bob) = (host.connect("ann"), host.connect("bob"));
    let count = |host: &mut TestHost, user: &str| {
        let client = host.connect(user);
        let unread = host.take_all(&client, "unread");
        unread
            .first()
            .map_or(json!(0), |unread| unread["count"].clone())
    };
    for n in 0..3 {
        say(&mut host, &bob, &format!("b{n}"));
    }
    assert_eq!(
        (count(&mut host, "bob"), count(&mut host, "ann")),
        (json!(0), json!(3))
    );
    let anns = say(&mut host, &ann, "a0");
    say(&mut host, &bob, "b3");
    let last = say(&mut host, &ann, "a1");
    assert_eq!(
        (count(&mut host, "bob"), count(&mut host, "ann")),
        (json!(2), json!(4))
    );
    // Answered before it is marked as seen.
    host.send(&bob, "message-seen", &anns).expect_ok();
    assert_eq!(count(&mut host, "bob"), json!(1));
    host.send(&bob, "message-seen", &last).expect_ok();
    assert_eq!(count(&mut host, "bob"), json!(0));
    say(&mut host, &bob, "b4");
    assert_eq!(count(&mut host, "bob"), json!(0));
    say(&mut host, &ann, "a2");
    assert_eq!(count(&mut host, "bob"), json!(1));
}

#[test]
fn what_was_said_before_one_came_is_neither_unread_nor_announced() {
    let mut host = host();
    let (ann, eve) = (host.connect("ann"), host.connect("eve"));
    let old = say(&mut host, &ann, "t1");
    let eves = json!({ "conversationId": "c1", "userId": "eve" });
    host.server_event("member-add", &eves).expect_ok();
    let new_device = host.connect("eve");
    host.expect_silence(&new_device);
    host.clear();
    host.send(&eve, "message-seen", &old).expect_ok();
    host.expect_silence(&ann);
    let new = say(&mut host, &ann, "t2");
    say(&mut host, &eve, "e1");
    host.clear();
    let phone = host.connect("eve");
    assert_eq!(host.take(&phone, "unread")["count"], 1);
    host.send(&eve, "message-seen", &new).expect_ok();
    expect_receipt(&mut host, &ann, &new, "eve", "seen");
    // Who comes back begins anew.
    host.server_event("member-remove", &eves).expect_ok();
    say(&mut host, &ann, "t3");
    host.server_event("member-add", &eves).expect_ok();
    let last = say(&mut host, &ann, "t4");
    let tablet = host.connect("eve");
    assert_eq!(
        host.take(&tablet, "unread"),
        json!({ "conversationId": "c1", "count": 1, "lastMessageId": last })
    );
}

#[test]
fn who_was_taken_out_has_nothing_delivered_any_more() {
    let mut host = host();
    let (ann, bob) = (host.connect("ann"), host.connect("bob"));
    let id = say(&mut host, &ann, "t1");
    let told = json!({ "conversationId": "c1", "userId": "bob" });
    host.server_event("member-remove", told).expect_ok();
    host.clear();
    host.acknowledge(&bob, &id, json!([]));
    host.send(&bob, "message-seen", &id)
        .expect_error("FORBIDDEN");
    host.expect_silence(&ann);
    assert_eq!(host.stored("chat:c1", "marks:bob"), None);
}

#[test]
fn a_long_absence_is_announced_to_each_author_once() {
    let mut host = host();
    let [ann, bob, cat] = ["ann", "bob", "cat"].map(|user| host.connect(user));
    let anns = say(&mut host, &ann, "a");
    for n in 0..330 {
        say(&mut host, &cat, &format!("c{n}"));
    }
    let last = say(&mut host, &cat, "last");
    host.clear();
    host.acknowledge(&bob, &last, json!([]));
    expect_receipt(&mut host, &cat, &last, "bob", "delivered");
    host.send(&bob, "message-seen", &last).expect_ok();
    expect_receipt(&mut host, &cat, &last, "bob", "seen");
    host.expect_silence(&ann);
    host.advance(Duration::ZERO);
    // What has been seen by then is not said to be delivered.
    expect_receipt(&mut host, &ann, &anns, "bob", "seen");
    host.connect("cat");
    host.advance(Duration::ZERO);
    expect_receipt(&mut host, &ann, &anns, "cat", "delivered");
    for client in [&ann, &bob, &cat] {
        host.expect_silence(client);
    }
}

#[test]
fn unread_comes_for_every_conversation_however_many() {
    let mut host = TestHost::new(plugin());
    let ann = host.connect("ann");
    let mut expected = Vec::new();
    for n in 0..320 {
        let id = format!("c{n:03}");
        create(&mut host, &id, &["ann", "bob"]);
        if n % 2 == 0 {
            let last = say_in(&mut host, &id, &ann, "t1");
            expected.push(json!({ "conversationId": id, "count": 1, "lastMessageId": last }));
        }
    }
    host.clear();
    let bob = host.connect("bob");
    host.advance(Duration::ZERO);
    assert_eq!(json!(host.take_all(&bob, "unread")), json!(expected));
    // And all of it has been delivered, once.
    for count in [expected.len(), 0] {
        assert_eq!(host.take_all(&ann, "receipt").len(), count);
        host.connect("bob");
        host.advance(Duration::ZERO);
    }
}

#[test]
fn a_deleted_message_is_nobodys_latest() {
    let mut host = host();
    let (ann, bob) = (host.connect("ann"), host.connect("bob"));
    let [first, second, third] = ["t1", "t2", "t3"].map(|temp| say(&mut host, &ann, temp));
    host.send(&ann, "message-delete", &second).expect_ok();
    host.clear();
    host.send(&bob, "message-seen", &second).expect_ok();
    expect_receipt(&mut host, &ann, &first, "bob", "seen");
    host.send(&bob, "message-seen", &third).expect_ok();
    expect_receipt(&mut host, &ann, &third, "bob", "seen");
}
