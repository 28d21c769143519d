//! From the JSON that tests write to the contract's records.

use crate::bindings::switchboard::plugin::types::{Attachment, Emission, Failure, Target};
use crate::failed;
use serde_json::{Value, json};

/// Returns argument `index` as text; `INVALID_PAYLOAD` when it is none.
pub(crate) fn text(args: &[Value], index: usize) -> Result<&str, Failure> {
    args.get(index)
        .and_then(Value::as_str)
        .ok_or_else(|| failed("INVALID_PAYLOAD", format!("argument {index} must be text")))
}

/// Returns argument `index` as a whole number; `INVALID_PAYLOAD` when it is none.
pub(crate) fn number(args: &[Value], index: usize) -> Result<i64, Failure> {
    args.get(index).and_then(Value::as_i64).ok_or_else(|| {
        failed(
            "INVALID_PAYLOAD",
            format!("argument {index} must be a whole number"),
        )
    })
}

/// Reads `everyone`, `connection:ID`, `user:ID` or `room:NAME`.
pub(crate) fn target(text: &str) -> Result<Target, Failure> {
    if text == "everyone" {
        return Ok(Target::Everyone);
    }
    match text.split_once(':') {
        Some(("connection", id)) => Ok(Target::Connection(id.into())),
        Some(("user", id)) => Ok(Target::User(id.into())),
        Some(("room", name)) => Ok(Target::Room(name.into())),
        _ => Err(failed("INVALID_PAYLOAD", format!("no target: {text}"))),
    }
}

fn targets(value: Option<&Value>) -> Result<Vec<Target>, Failure> {
    let Some(list) = value.and_then(Value::as_array) else {
        return Ok(Vec::new());
    };
    list.iter()
        .map(|item| target(item.as_str().unwrap_or_default()))
        .collect()
}

/// Reads `{ to, except?, name, args?, volatile?, ack?, attachments? }`, where `attachments` is how
/// many of the event's own are passed on, as arguments behind the others.
pub(crate) fn emission(value: &Value) -> Result<Emission, Failure> {
    let member = |key: &str| value.get(key);
    let count = member("attachments").and_then(Value::as_u64).unwrap_or(0);
    let received: Vec<u32> = (0..u32::try_from(count).unwrap_or(u32::MAX)).collect();
    let mut args = member("args")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    args.extend(
        received
            .iter()
            .map(|num| json!({ "_placeholder": true, "num": num })),
    );
    Ok(Emission {
        to: targets(member("to"))?,
        except: targets(member("except"))?,
        name: member("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .into(),
        args: Value::Array(args).to_string(),
        attachments: received.into_iter().map(Attachment::Received).collect(),
        volatile: member("volatile").and_then(Value::as_bool).unwrap_or(false),
        ack: member("ack").and_then(Value::as_str).map(Into::into),
    })
}
