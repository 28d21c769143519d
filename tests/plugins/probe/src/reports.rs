//! Notices, told to whoever watches, and server events.

use crate::bindings::switchboard::plugin::types::{
    Emission, Event, Failure, Instruction, Notice, Reply, ServerEvent, Target,
};
use crate::bindings::switchboard::plugin::{kv, settings};
use crate::configuration::Configuration;
use crate::{answered, failed, parsing};
use serde_json::{Value, json};

/// The notices that the plugin subscribes to.
pub(crate) const NOTICES: &[&str] = &[
    "connected",
    "disconnected",
    "joined",
    "left",
    "acknowledged",
];

/// The server events that the plugin subscribes to.
pub(crate) const SERVER_EVENTS: &[&str] = &[
    "probe-ask",
    "probe-fail",
    "probe-emit",
    "probe-silent",
    "probe-order",
    "probe-settings",
    "probe-heard",
    "probe-slow",
];

/// Tells the room `PREFIX:watchers` about a notice.
pub(crate) fn notice(configuration: &Configuration, event: &Event, notice: &Notice) -> Reply {
    let identity = event.peer.as_ref().and_then(|peer| peer.identity.as_ref());
    let told = json!([{
        "name": notice.name,
        "data": serde_json::from_str::<Value>(&notice.data).unwrap_or_default(),
        "connection": event.peer.as_ref().map(|peer| peer.connection.as_str()),
        "user": identity.map(|identity| identity.user.as_str()),
        "role": identity.map(|identity| identity.role.as_str()),
    }]);
    let emission = Emission {
        to: vec![Target::Room(format!("{}:watchers", configuration.name))],
        except: Vec::new(),
        name: "probe:notice".into(),
        args: told.to_string(),
        attachments: Vec::new(),
        volatile: false,
        ack: None,
    };
    Reply {
        ack: None,
        instructions: vec![Instruction::Emit(emission)],
    }
}

/// Answers a backend.
pub(crate) fn server_event(
    configuration: &Configuration,
    event: &ServerEvent,
) -> Result<Reply, Failure> {
    let args: Vec<Value> = serde_json::from_str(&event.args).unwrap_or_default();
    let data = args.first().cloned().unwrap_or_default();
    match event.name.as_str() {
        "probe-ask" => Ok(answered(
            configuration,
            json!({ "data": data, "source": event.source }),
        )),
        "probe-fail" => Err(failed("NOT_FOUND", "the backend asked for a failure")),
        "probe-silent" => Ok(Reply {
            ack: None,
            instructions: Vec::new(),
        }),
        "probe-emit" => {
            let mut reply = answered(configuration, json!({}));
            reply
                .instructions
                .push(Instruction::Emit(parsing::emission(&data)?));
            Ok(reply)
        }
        "probe-order" => order(configuration, &data),
        "probe-settings" => {
            let set: Value = serde_json::from_str(&settings::get()).unwrap_or_default();
            Ok(answered(configuration, json!({ "settings": set })))
        }
        "probe-heard" => heard(configuration, event, &data),
        "probe-slow" => {
            spin();
            heard(configuration, event, &data)
        }
        other => Err(failed("NOT_FOUND", format!("not subscribed: {other}"))),
    }
}

/// Remembers the number of the last server event of a key, and answers the one before.
fn order(configuration: &Configuration, data: &Value) -> Result<Reply, Failure> {
    let key = data.get("key").and_then(Value::as_str).unwrap_or_default();
    let partition = format!("server-order:{key}");
    let failure = |fault: kv::Fault| failed(&fault.code, fault.message);
    let previous = kv::get(&partition, "last").map_err(failure)?;
    let n = data.get("n").cloned().unwrap_or_default();
    kv::set(&partition, "last", &n.to_string(), None).map_err(failure)?;
    Ok(answered(
        configuration,
        json!({ "n": n, "previous": previous }),
    ))
}

/// Notes a message behind those that came before, in a list of its own where it names one.
fn heard(
    configuration: &Configuration,
    event: &ServerEvent,
    data: &Value,
) -> Result<Reply, Failure> {
    if data.get("fail").is_some() {
        return Err(failed("CONFLICT", "the message asked for a failure"));
    }
    let list = data.get("list").and_then(Value::as_str).unwrap_or_default();
    let partition = format!("heard:{list}");
    let failure = |fault: kv::Fault| failed(&fault.code, fault.message);
    let count = kv::get(&partition, "~count").map_err(failure)?;
    let count: u64 = count.and_then(|count| count.parse().ok()).unwrap_or(0);
    let entry = json!({ "name": event.name, "source": event.source, "data": data }).to_string();
    kv::set(&partition, &format!("{count:08}"), &entry, None).map_err(failure)?;
    kv::set(&partition, "~count", &(count + 1).to_string(), None).map_err(failure)?;
    Ok(answered(configuration, json!({})))
}

/// Works for some milliseconds.
fn spin() {
    let mut state: u64 = 1;
    for round in 0..5_000_000 {
        state = std::hint::black_box(state.wrapping_mul(31).wrapping_add(round));
    }
}
