//! What clients may ask of the plugin.

use crate::bindings::switchboard::plugin::types::{
    Answer, Attachment, Disconnection, Emission, Event, Failure, Fault, Instruction, Membership,
    Message, Reply, Target,
};
use crate::bindings::switchboard::plugin::{attachments, channels, kv, log, rooms};
use crate::configuration::Configuration;
use crate::{answered, failed, parsing};
use serde_json::{Value, json};

/// The client events that the plugin subscribes to.
pub(crate) const NAMES: &[&str] = &[
    "probe:echo",
    "probe:echo-binary",
    "probe:relay",
    "probe:order",
    "probe:count",
    "probe:count-then-fail",
    "probe:read",
    "probe:add",
    "probe:page",
    "probe:join",
    "probe:leave",
    "probe:emit",
    "probe:disconnect",
    "probe:fail",
    "probe:silent",
    "probe:rooms",
    "probe:whoami",
    "probe:busy",
    "probe:record",
    "probe:publish",
    "probe:heard",
    "shared",
];

/// Handles one client event.
pub(crate) fn handle(
    configuration: &Configuration,
    event: &Event,
    message: &Message,
) -> Result<Reply, Failure> {
    let args: Vec<Value> = serde_json::from_str(&message.args).map_err(|error| {
        failed(
            "INVALID_PAYLOAD",
            format!("the host handed over broken JSON: {error}"),
        )
    })?;
    match message.name.as_str() {
        "probe:echo" => Ok(answered(
            configuration,
            json!({ "args": args, "event": event.id }),
        )),
        "probe:echo-binary" => Ok(echo_binary(event, message)),
        "probe:relay" => relay(configuration, event, &args),
        "probe:order" => order(configuration, event, &args),
        "probe:count" => count(configuration, &args),
        "probe:count-then-fail" => {
            count(configuration, &args)?;
            Err(failed("CONFLICT", "counted, and then thought better of it"))
        }
        "probe:read" => read(configuration, &args),
        "probe:add" => {
            kv::add(
                parsing::text(&args, 0)?,
                "value",
                parsing::number(&args, 1)?,
            )
            .map_err(fault)?;
            Ok(answered(configuration, json!({})))
        }
        "probe:page" => page(configuration, &args),
        "probe:join" => membership(configuration, event, &args, Instruction::Join),
        "probe:leave" => membership(configuration, event, &args, Instruction::Leave),
        "probe:emit" => {
            let mut reply = answered(configuration, json!({}));
            for item in &args {
                // An attachment among the arguments belongs to the emission before it.
                if item.get("_placeholder").is_none() {
                    reply
                        .instructions
                        .push(Instruction::Emit(parsing::emission(item)?));
                }
            }
            Ok(reply)
        }
        "probe:disconnect" => disconnect(configuration, &args),
        "probe:fail" => Err(Failure {
            code: parsing::text(&args, 0)?.into(),
            message: "as asked".into(),
            details: args.get(1).map(Value::to_string),
        }),
        "probe:silent" => Ok(Reply {
            ack: None,
            instructions: Vec::new(),
        }),
        "probe:rooms" => who_is_where(configuration, &args),
        "probe:whoami" => who_am_i(configuration, event),
        "probe:busy" => busy(configuration, &args),
        "probe:record" => record(configuration, event, &args),
        "probe:publish" => publish(configuration, &args),
        "probe:heard" => heard(configuration, &args),
        "shared" => shared(configuration, &args),
        other => Err(failed("UNKNOWN_EVENT", format!("not subscribed: {other}"))),
    }
}

fn fault(fault: Fault) -> Failure {
    failed(&fault.code, fault.message)
}

fn own_connection(event: &Event) -> Result<&str, Failure> {
    event
        .peer
        .as_ref()
        .map(|peer| peer.connection.as_str())
        .ok_or_else(|| failed("NOT_FOUND", "no peer"))
}

fn emission(to: Target, name: &str, args: String) -> Emission {
    Emission {
        to: vec![to],
        except: Vec::new(),
        name: name.into(),
        args,
        attachments: Vec::new(),
        volatile: false,
        ack: None,
    }
}

/// Answers with the very arguments, attachments passed on unread.
fn echo_binary(event: &Event, message: &Message) -> Reply {
    let ack = Answer {
        args: message.args.clone(),
        attachments: (0..event.attachments).map(Attachment::Received).collect(),
    };
    Reply {
        ack: Some(ack),
        instructions: Vec::new(),
    }
}

/// `(room, …)` emits the arguments after the room to it: attachments read and handed back as bytes.
fn relay(configuration: &Configuration, event: &Event, args: &[Value]) -> Result<Reply, Failure> {
    let room = parsing::text(args, 0)?;
    let rest: Vec<&Value> = args.iter().skip(1).collect();
    let mut sent = emission(
        Target::Room(room.into()),
        "probe:relayed",
        json!(rest).to_string(),
    );
    for index in 0..event.attachments {
        let bytes = attachments::read(index)
            .ok_or_else(|| failed("NOT_FOUND", "an attachment is missing"))?;
        if attachments::size(index) != Some(bytes.len() as u64) {
            return Err(failed(
                "CONFLICT",
                "the attachment's size is not its length",
            ));
        }
        sent.attachments.push(Attachment::Bytes(bytes));
    }
    let mut reply = answered(configuration, json!({ "attachments": event.attachments }));
    reply.instructions.push(Instruction::Emit(sent));
    Ok(reply)
}

/// `(n)` remembers `n` for this connection, emits it back, and answers with the number before.
fn order(configuration: &Configuration, event: &Event, args: &[Value]) -> Result<Reply, Failure> {
    let connection = own_connection(event)?;
    let n = parsing::number(args, 0)?;
    let partition = format!("order:{connection}");
    let previous = kv::get(&partition, "last")
        .map_err(fault)?
        .and_then(|value| value.parse::<i64>().ok());
    kv::set(&partition, "last", &n.to_string(), None).map_err(fault)?;
    let mut reply = answered(configuration, json!({ "n": n, "previous": previous }));
    let told = json!([{ "n": n, "version": configuration.version }]).to_string();
    reply.instructions.push(Instruction::Emit(emission(
        Target::Connection(connection.into()),
        "probe:ordered",
        told,
    )));
    Ok(reply)
}

/// `(partition)` reads a counter and writes one more, as a newcomer would.
fn count(configuration: &Configuration, args: &[Value]) -> Result<Reply, Failure> {
    let partition = parsing::text(args, 0)?;
    let value: i64 = kv::get(partition, "value")
        .map_err(fault)?
        .and_then(|value| value.parse().ok())
        .unwrap_or(0);
    kv::set(partition, "value", &(value + 1).to_string(), None).map_err(fault)?;
    Ok(answered(configuration, json!({ "value": value + 1 })))
}

fn read(configuration: &Configuration, args: &[Value]) -> Result<Reply, Failure> {
    let value = kv::get(parsing::text(args, 0)?, "value").map_err(fault)?;
    let value = value.and_then(|value| value.parse::<i64>().ok());
    Ok(answered(configuration, json!({ "value": value })))
}

/// `(partition, key, value)` sets a key and answers with all keys that begin with its first letter.
fn page(configuration: &Configuration, args: &[Value]) -> Result<Reply, Failure> {
    let (partition, key, value) = (
        parsing::text(args, 0)?,
        parsing::text(args, 1)?,
        parsing::text(args, 2)?,
    );
    kv::set(partition, key, value, None).map_err(fault)?;
    let prefix: String = key.chars().take(1).collect();
    let page = kv::list(partition, &prefix, None, 1000).map_err(fault)?;
    Ok(answered(configuration, json!({ "page": page })))
}

/// `(room, who?)` joins or leaves; `who` is the sender where it is not said.
fn membership(
    configuration: &Configuration,
    event: &Event,
    args: &[Value],
    instruction: fn(Membership) -> Instruction,
) -> Result<Reply, Failure> {
    let who = match args.get(1).and_then(Value::as_str) {
        Some(text) => parsing::target(text)?,
        None => Target::Connection(own_connection(event)?.into()),
    };
    let mut reply = answered(configuration, json!({}));
    reply.instructions.push(instruction(Membership {
        who,
        room: parsing::text(args, 0)?.into(),
    }));
    Ok(reply)
}

/// `(who, reason, transport)`.
fn disconnect(configuration: &Configuration, args: &[Value]) -> Result<Reply, Failure> {
    let mut reply = answered(configuration, json!({}));
    reply
        .instructions
        .push(Instruction::Disconnect(Disconnection {
            who: parsing::target(parsing::text(args, 0)?)?,
            reason: parsing::text(args, 1)?.into(),
            transport: args.get(2).and_then(Value::as_bool).unwrap_or(false),
        }));
    Ok(reply)
}

/// `(room, connection, user)` answers with all that the capability `rooms` tells.
fn who_is_where(configuration: &Configuration, args: &[Value]) -> Result<Reply, Failure> {
    let (room, connection, user) = (
        parsing::text(args, 0)?,
        parsing::text(args, 1)?,
        parsing::text(args, 2)?,
    );
    let members = rooms::members(room, None, 1000).map_err(fault)?;
    Ok(answered(
        configuration,
        json!({
            "members": serde_json::from_str::<Value>(&members).unwrap_or_default(),
            "userCount": rooms::count_users(room).map_err(fault)?,
            "users": rooms::users(room, None, 1000).map_err(fault)?,
            "hasConnection": rooms::has_connection(room, connection).map_err(fault)?,
            "hasUser": rooms::has_user(room, user).map_err(fault)?,
            "ofConnection": rooms::of_connection(connection).map_err(fault)?,
            "ofUser": rooms::of_user(user).map_err(fault)?,
            "connectionsOfUser": rooms::connections_of_user(user).map_err(fault)?,
        }),
    ))
}

fn who_am_i(configuration: &Configuration, event: &Event) -> Result<Reply, Failure> {
    let peer = event
        .peer
        .as_ref()
        .ok_or_else(|| failed("NOT_FOUND", "no peer"))?;
    let identity = peer
        .identity
        .as_ref()
        .ok_or_else(|| failed("NOT_FOUND", "no identity"))?;
    Ok(answered(
        configuration,
        json!({
            "connection": peer.connection,
            "user": identity.user,
            "role": identity.role,
            "claims": serde_json::from_str::<Value>(&identity.claims).unwrap_or_default(),
            "namespace": event.namespace,
            "wantsAck": event.wants_ack,
        }),
    ))
}

/// `(rounds)` works for a while.
fn busy(configuration: &Configuration, args: &[Value]) -> Result<Reply, Failure> {
    let rounds = parsing::number(args, 0)?;
    let mut state: u64 = 1;
    for round in 0..rounds {
        state = std::hint::black_box(
            state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(round.unsigned_abs()),
        );
    }
    Ok(answered(
        configuration,
        json!({ "state": state.to_string() }),
    ))
}

/// `(n)` writes a line to the host's log, which outlives the host's memory.
fn record(configuration: &Configuration, event: &Event, args: &[Value]) -> Result<Reply, Failure> {
    let n = parsing::number(args, 0)?;
    log::write(
        log::Level::Info,
        &format!("recorded <{}> <{n}>", own_connection(event)?),
    );
    Ok(answered(configuration, json!({ "n": n })))
}

/// `([channel, text of the payload], …)` publishes each; fails afterwards where the last is `"fail"`.
fn publish(configuration: &Configuration, args: &[Value]) -> Result<Reply, Failure> {
    for message in args {
        if message == "fail" {
            return Err(failed(
                "CONFLICT",
                "published, and then thought better of it",
            ));
        }
        let pair = message.as_array().map(Vec::as_slice).unwrap_or_default();
        channels::publish(parsing::text(pair, 0)?, parsing::text(pair, 1)?).map_err(fault)?;
    }
    Ok(answered(configuration, json!({})))
}

/// `(list, from)` answers with what came by channels since so many, as `probe-heard` has noted it.
fn heard(configuration: &Configuration, args: &[Value]) -> Result<Reply, Failure> {
    let partition = format!("heard:{}", parsing::text(args, 0)?);
    let after = format!("{:08}", parsing::number(args, 1)? - 1);
    let after = (after.as_str() >= "0").then_some(after);
    let page = kv::list(&partition, "", after.as_deref(), 900).map_err(fault)?;
    let entries: Vec<Value> = page
        .iter()
        .filter(|(key, _)| key != "~count")
        .map(|(_, value)| serde_json::from_str(value).unwrap_or_default())
        .collect();
    Ok(answered(configuration, json!({ "entries": entries })))
}

/// `({ PLUGIN: what })`: each plugin looks up under its own name whether to `answer`, to `fail`, to
/// stay `silent`, or to `trap`. All but a trap emit `probe:heard` to the sender's user.
fn shared(configuration: &Configuration, args: &[Value]) -> Result<Reply, Failure> {
    let plan = args.first().cloned().unwrap_or_default();
    let heard = |user: &str| {
        let told = json!([{ "by": configuration.name }]).to_string();
        Instruction::Emit(emission(Target::User(user.into()), "probe:heard", told))
    };
    let user = plan.get("user").and_then(Value::as_str).unwrap_or_default();
    match plan.get(&configuration.name).and_then(Value::as_str) {
        Some("answer") => {
            let mut reply = answered(configuration, json!({}));
            reply.instructions.push(heard(user));
            Ok(reply)
        }
        Some("fail") => Err(failed(
            "FORBIDDEN",
            format!("{} refuses", configuration.name),
        )),
        Some("misread") => Err(failed(
            "INVALID_PAYLOAD",
            format!("{} cannot read it", configuration.name),
        )),
        #[allow(clippy::panic)] // A trap is what the test asks for.
        Some("trap") => panic!("the test asked for a trap"),
        _ => Ok(Reply {
            ack: None,
            instructions: vec![heard(user)],
        }),
    }
}
