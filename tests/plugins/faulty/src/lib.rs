//! The plugin `faulty`: breaks every limit that the host sets, one a client event, and one event
//! that is healthy. Written against the contract itself, as the SDK would not let it.

// In native code, which is only built along, nothing calls what a component exports.
#![cfg_attr(not(target_family = "wasm"), allow(dead_code, unused_imports))]

mod bindings;

use bindings::exports::switchboard::plugin::guest::Guest;
use bindings::switchboard::plugin::types::{
    Answer, Attachment, Emission, Event, Failure, Instruction, Membership, Reply, Target, Trigger,
};
use bindings::switchboard::plugin::{kv, log};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

const NAMES: &[&str] = &[
    "faulty:healthy",
    "faulty:loop",
    "faulty:panic",
    "faulty:allocate",
    "faulty:recurse",
    "faulty:instructions",
    "faulty:broken-answer",
    "faulty:answer-no-array",
    "faulty:broken-emission",
    "faulty:huge-answer",
    "faulty:huge-emission",
    "faulty:placeholder-answer",
    "faulty:placeholder-emission",
    "faulty:attachment-too-many",
    "faulty:attachment-not-received",
    "faulty:reserved-name",
    "faulty:host-name",
    "faulty:foreign-emission",
    "faulty:foreign-join",
    "faulty:foreign-state",
    "faulty:write-then-panic",
    "faulty:written",
    "faulty:bad-code",
    "faulty:log-flood",
    "faulty:static",
];

struct Faulty;

impl Guest for Faulty {
    fn describe() -> String {
        json!({
            "name": "faulty",
            "version": env!("CARGO_PKG_VERSION"),
            "subscriptions": { "messages": NAMES, "notices": [], "server": ["faulty-panic", "faulty-healthy"] },
            "rooms": ["faulty"],
            "capabilities": ["log", "kv"],
            "settings": null,
            "state": { "reads": [1], "writes": 1 },
        })
        .to_string()
    }

    fn handle(event: Event) -> Result<Reply, Failure> {
        match &event.trigger {
            Trigger::Message(message) => message_reply(&message.name, &message.args),
            Trigger::Server(server) if server.name == "faulty-panic" => panicking(),
            _ => Ok(answer(json!([{ "ok": true }]).to_string())),
        }
    }
}

fn message_reply(name: &str, args: &str) -> Result<Reply, Failure> {
    let first = || {
        let args: Vec<Value> = serde_json::from_str(args).unwrap_or_default();
        args.first().cloned().unwrap_or_default()
    };
    match name {
        "faulty:healthy" => Ok(answer(
            json!([{ "ok": true, "healthy": first() }]).to_string(),
        )),
        "faulty:loop" => loop {
            std::hint::black_box(0_u8);
        },
        "faulty:panic" => panicking(),
        "faulty:allocate" => allocating(),
        "faulty:recurse" => Ok(answer(json!([recursing(1)]).to_string())),
        "faulty:instructions" => Ok(many_instructions(first().as_u64().unwrap_or(1_000_000))),
        "faulty:broken-answer" => Ok(answer(r#"[{"ok":tru"#.into())),
        "faulty:answer-no-array" => Ok(answer(r#"{"ok":true}"#.into())),
        "faulty:broken-emission" => {
            Ok(emitting("everyone-hears", r#"[{"a":}]"#.into(), Vec::new()))
        }
        "faulty:huge-answer" => Ok(answer(huge())),
        "faulty:huge-emission" => Ok(emitting("everyone-hears", huge(), Vec::new())),
        "faulty:placeholder-answer" => Ok(answer(r#"[{"_placeholder":true,"num":7}]"#.into())),
        "faulty:placeholder-emission" => Ok(emitting(
            "everyone-hears",
            r#"[{"deep":[{"_placeholder":true,"num":0}]}]"#.into(),
            Vec::new(),
        )),
        "faulty:attachment-too-many" => Ok(emitting(
            "everyone-hears",
            "[1]".into(),
            vec![Attachment::Bytes(vec![1, 2, 3])],
        )),
        "faulty:attachment-not-received" => {
            let args = r#"[{"_placeholder":true,"num":0}]"#.into();
            Ok(emitting(
                "everyone-hears",
                args,
                vec![Attachment::Received(3)],
            ))
        }
        "faulty:reserved-name" => Ok(emitting("disconnect", "[]".into(), Vec::new())),
        "faulty:host-name" => Ok(emitting("session", "[{}]".into(), Vec::new())),
        "faulty:foreign-emission" => {
            let mut reply = emitting("everyone-hears", "[]".into(), Vec::new());
            if let Some(Instruction::Emit(emission)) = reply.instructions.first_mut() {
                emission.to = vec![Target::Room(first().as_str().unwrap_or("course:c1").into())];
            }
            Ok(reply)
        }
        "faulty:foreign-join" => {
            let room = first().as_str().unwrap_or("course:c1").into();
            let mut reply = answer(json!([{ "ok": true }]).to_string());
            reply.instructions.push(Instruction::Join(Membership {
                who: Target::Everyone,
                room,
            }));
            Ok(reply)
        }
        "faulty:foreign-state" => {
            let value = kv::get(first().as_str().unwrap_or_default(), "value")
                .ok()
                .flatten();
            Ok(answer(json!([{ "ok": true, "value": value }]).to_string()))
        }
        "faulty:write-then-panic" => {
            kv::set("faulty", "written", "yes", None)
                .map_err(|fault| failure(&fault.code, &fault.message))?;
            panicking()
        }
        "faulty:written" => {
            let value = kv::get("faulty", "written")
                .map_err(|fault| failure(&fault.code, &fault.message))?;
            Ok(answer(json!([{ "ok": true, "value": value }]).to_string()))
        }
        "faulty:bad-code" => Err(failure("not a code", "the code breaks the contract")),
        "faulty:log-flood" => {
            for line in 0..10_000 {
                log::write(log::Level::Warn, &format!("flood line {line}"));
            }
            Ok(answer(json!([{ "ok": true }]).to_string()))
        }
        "faulty:static" => {
            static CALLS: AtomicU64 = AtomicU64::new(0);
            let calls = CALLS.fetch_add(1, Ordering::Relaxed);
            Ok(answer(
                json!([{ "ok": true, "callsBefore": calls }]).to_string(),
            ))
        }
        _ => Err(failure("UNKNOWN_EVENT", "not subscribed")),
    }
}

fn failure(code: &str, message: &str) -> Failure {
    Failure {
        code: code.into(),
        message: message.into(),
        details: None,
    }
}

fn answer(args: String) -> Reply {
    Reply {
        ack: Some(Answer {
            args,
            attachments: Vec::new(),
        }),
        instructions: Vec::new(),
    }
}

fn emitting(name: &str, args: String, attachments: Vec<Attachment>) -> Reply {
    let emission = Emission {
        to: vec![Target::Everyone],
        except: Vec::new(),
        name: name.into(),
        args,
        attachments,
        volatile: false,
        ack: None,
    };
    let mut reply = answer(json!([{ "ok": true }]).to_string());
    reply.instructions.push(Instruction::Emit(emission));
    reply
}

#[allow(clippy::panic)] // A fault is what the plugin is for.
fn panicking() -> ! {
    panic!("a fault on purpose")
}

fn allocating() -> ! {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    loop {
        kept.push(std::hint::black_box(vec![1; 1 << 20]));
    }
}

#[allow(unconditional_recursion)] // A fault is what the plugin is for.
fn recursing(depth: u64) -> u64 {
    let local = std::hint::black_box([depth; 64]);
    // The black box around the call keeps the compiler from making a loop of it.
    std::hint::black_box(recursing(depth + 1)) + local.iter().sum::<u64>()
}

/// Each of them is valid; there are only too many.
fn many_instructions(count: u64) -> Reply {
    let leave = |_| {
        Instruction::Leave(Membership {
            who: Target::Everyone,
            room: "faulty:x".into(),
        })
    };
    Reply {
        ack: None,
        instructions: (0..count).map(leave).collect(),
    }
}

/// A JSON array of one text of 100 MB.
fn huge() -> String {
    let mut text = String::with_capacity(100_000_010);
    text.push_str("[\"");
    text.extend(std::iter::repeat_n('x', 100_000_000));
    text.push_str("\"]");
    text
}
