//! The capability `channels`, as `wit/` says it, and messages of channels that come.

use serde_json::{Value, json};
use switchboard_plugin::{Ack, Cx, Error, Fault, Plugin, Result, TestHost};

/// Publishes each of `[channel, message]`, in this order.
fn publish(cx: &mut Cx, messages: Vec<(String, Value)>) -> Result<Ack> {
    for (channel, message) in messages {
        cx.channels().publish(channel, &message)?;
    }
    Ok(Ack::ok())
}

fn publish_and_fail(cx: &mut Cx) -> Result<Ack> {
    cx.channels().publish("news", &1)?;
    Err(Error::conflict("after all not"))
}

/// Answers with the fault of the last of so many messages of so many bytes.
fn refused(cx: &mut Cx, channel: String, count: usize, bytes: usize) -> Result<Ack> {
    let message = "x".repeat(bytes);
    let mut last = Ok(());
    for _ in 0..count {
        last = cx.channels().publish(&channel, &message);
    }
    let fault = match last {
        Ok(()) => "none",
        Err(Fault::NotGranted(_)) => "not granted",
        Err(Fault::Unavailable(_)) => "unavailable",
        Err(Fault::TooMany(_)) => "too many",
        Err(Fault::TooLarge(_)) => "too large",
        Err(Fault::Invalid(_)) => "invalid",
        Err(_) => "another",
    };
    Ack::with(&json!({ "fault": fault }))
}

fn nested(cx: &mut Cx, levels: usize) -> Result<Ack> {
    let message = (0..levels).fold(json!(0), |inner, _| json!([inner]));
    cx.channels().publish("news", &message)?;
    Ok(Ack::ok())
}

fn heard(cx: &mut Cx, message: Value) -> Result<Ack> {
    Ack::with(&json!({ "source": cx.source(), "message": message, "user": cx.user().is_ok() }))
}

fn host() -> TestHost {
    let plugin = Plugin::new("test")
        .needs(["channels"])
        .on("publish", publish)
        .on("publish-and-fail", publish_and_fail)
        .on("refused", refused)
        .on("nested", nested)
        .on_server_event("heard", heard);
    TestHost::new(plugin).with_channels(["news", "message:*"])
}

#[test]
fn what_is_published_can_be_taken_by_channel_in_order() {
    let mut host = host();
    let ann = host.connect("ann");
    let all = json!([["news", 1], ["message:new", { "n": 2 }], ["news", null]]);
    host.send(&ann, "publish", all).expect_ok();
    assert_eq!(host.take_published("message:new"), [json!({ "n": 2 })]);
    assert_eq!(host.take_published("news"), [json!(1), json!(null)]);
    assert!(host.take_published("news").is_empty());
}

#[test]
fn a_handler_that_fails_publishes_nothing() {
    let mut host = host();
    let ann = host.connect("ann");
    host.send_args(&ann, "publish-and-fail", json!([]))
        .expect_error("CONFLICT");
    let half = json!([["news", 1], ["other", 2]]);
    host.send(&ann, "publish", half)
        .expect_error("PLUGIN_FAILED");
    assert!(host.take_published("news").is_empty());
    assert!(
        host.log()
            .iter()
            .any(|line| line.contains("`other` is not granted")),
        "{:?}",
        host.log()
    );
}

#[test]
fn what_a_host_would_refuse_is_refused() {
    let mut host = host();
    let ann = host.connect("ann");
    for (channel, count, bytes, fault) in [
        ("news", 100, 1, "none"),
        ("news", 101, 1, "too many"),
        ("news", 1, 999_998, "none"),
        ("news", 1, 999_999, "too large"),
        ("news", 3, 400_000, "too large"),
        ("message:", 1, 1, "none"),
        ("message", 1, 1, "not granted"),
        ("newsletter", 1, 1, "not granted"),
        ("", 1, 1, "invalid"),
        ("news\n", 1, 1, "invalid"),
    ] {
        let answer = host.send_args(&ann, "refused", json!([channel, count, bytes]));
        assert_eq!(
            answer.expect_ok()["fault"],
            fault,
            "{channel} {count} {bytes}"
        );
    }
    host.send(&ann, "nested", 119).expect_ok();
    host.send(&ann, "nested", 120).expect_error("PLUGIN_FAILED");
}

#[test]
fn without_redis_nothing_can_be_published() {
    let mut host = host().without_redis();
    let ann = host.connect("ann");
    host.send(&ann, "publish", json!([["news", 1]]))
        .expect_error("UNAVAILABLE");
    host.send(&ann, "publish", json!([])).expect_ok();
}

#[test]
fn a_message_of_a_channel_is_nobodys_and_says_where_it_came_in() {
    let mut host = host();
    let answer = host.channel_message("heard", json!({ "n": 1 })).expect_ok();
    assert_eq!(answer["source"], "channel");
    assert_eq!(answer["message"], json!({ "n": 1 }));
    assert_eq!(answer["user"], false);
    assert_eq!(host.server_event("heard", 2).expect_ok()["source"], "api");
    host.channel_message("nobody's", 1)
        .expect_error("UNKNOWN_EVENT");
}

#[test]
#[should_panic(expected = "is no channel")]
fn a_grant_that_is_none_is_told() {
    let _ = host().with_channels(["a*b"]);
}
