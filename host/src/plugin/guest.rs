//! One instance of a plugin, and what it may use.

use super::{bindings, handle::Handle};
use crate::{
    core::{
        code::Failure,
        event::{Event, Notice, Trigger},
        instruction::{Answer, Attachment, Emission, Instruction, Reply, Target},
    },
    metrics::Metrics,
    ports::{PluginInfo, StateAccess, Verdict, Views},
};
use bindings::types as wit;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{
    future::Future,
    sync::{Arc, atomic::AtomicU64},
    task::Poll,
    time::Duration,
};
use tokio::sync::OwnedSemaphorePermit;
use uuid::{Uuid, fmt::Hyphenated};
use wasmtime::{ResourceLimiter, Store, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

/// Random bytes that a guest gets at once; they are copied through the host's memory.
const RANDOM_BYTES: u64 = 64 << 10;

/// What all instances of one generation share.
pub(super) struct About {
    pub(super) info: PluginInfo,
    pub(super) settings: String,
    pub(super) views: Views,
    /// Whether there is a Redis to publish to.
    pub(super) has_redis: bool,
    pub(super) metrics: Arc<Metrics>,
    pub(super) bounds: InstanceBounds,
}

/// What one instance may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct InstanceBounds {
    pub(super) memory_bytes: usize,
    pub(super) table_elements: usize,
    pub(super) reply_bytes: usize,
    pub(super) instructions: usize,
}

/// The event that an instance is working on.
pub(super) struct Call {
    pub(super) event: Arc<Event>,
    pub(super) state: Arc<dyn StateAccess>,
    pub(super) waits: Arc<Waits>,
}

/// How long a call has waited for the store, which does not count against its deadline; and what does.
#[derive(Default)]
pub(super) struct Waits {
    stored: Mutex<(Duration, Option<tokio::time::Instant>)>,
    /// Nanoseconds that the call itself has used.
    pub(super) used: AtomicU64,
}

impl Waits {
    /// Waits for what a store answers. Costs nothing where it answers at once.
    pub(super) async fn during<T>(&self, answer: impl Future<Output = T>) -> T {
        let mut answer = std::pin::pin!(answer);
        if let Poll::Ready(answer) = futures_util::poll!(answer.as_mut()) {
            return answer;
        }
        self.stored.lock().1 = Some(tokio::time::Instant::now());
        let answer = answer.await;
        let mut waits = self.stored.lock();
        if let Some(since) = waits.1.take() {
            waits.0 += since.elapsed();
        }
        answer
    }

    /// Tells whether the store is waited for now.
    pub(super) fn is_waiting(&self) -> bool {
        self.stored.lock().1.is_some()
    }

    /// Returns how long it was so far.
    pub(super) fn total(&self) -> Duration {
        let waits = self.stored.lock();
        waits.0 + waits.1.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// What belongs to one instance.
pub(super) struct GuestState {
    pub(super) about: Arc<About>,
    pub(super) call: Option<Call>,
    pub(super) log_lines: u32,
    /// What the event does to soft state, once its writes are committed.
    pub(super) soft: Vec<Instruction>,
    memory: usize,
    /// Made when it is asked for: most events need nothing of it.
    wasi: Option<WasiCtx>,
    table: ResourceTable,
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let nothing = || WasiCtxBuilder::new().max_random_size(RANDOM_BYTES).build();
        WasiCtxView {
            ctx: self.wasi.get_or_insert_with(nothing),
            table: &mut self.table,
        }
    }
}

impl ResourceLimiter for GuestState {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // All memories of the instance together.
        let total = self.memory.saturating_sub(current).saturating_add(desired);
        if total > self.about.bounds.memory_bytes {
            return Ok(false);
        }
        self.memory = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= self.about.bounds.table_elements)
    }
}

/// An instance with its store.
pub(super) struct Guest {
    pub(super) store: Store<GuestState>,
    pub(super) handle: Handle,
    /// Events that it has handled.
    pub(super) events: u32,
    /// Its place among all instances.
    pub(super) permit: OwnedSemaphorePermit,
}

impl Guest {
    /// Returns the memory that the instance has, in bytes. It never shrinks.
    pub(super) fn memory(&self) -> usize {
        self.store.data().memory
    }
}

/// Returns a store without an instance. No files, no environment, no network: WASI is there because
/// Rust's standard library imports it, and has nothing in it.
pub(super) fn store(engine: &wasmtime::Engine, about: &Arc<About>) -> Store<GuestState> {
    let state = GuestState {
        about: about.clone(),
        call: None,
        log_lines: 0,
        soft: Vec::new(),
        memory: 0,
        wasi: None,
        table: ResourceTable::new(),
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| state);
    // What the guest hands over is copied to the host; this is how much of it at once.
    store.set_hostcall_fuel(about.bounds.reply_bytes);
    store.epoch_deadline_async_yield_and_update(1);
    store.set_epoch_deadline(1);
    store
}

/// Parts of an event that are texts in the contract only.
pub(super) struct Texts {
    id: IdText,
    connection: Option<IdText>,
    notice: String,
}

impl Texts {
    /// Returns these parts of an event that goes to a plugin.
    pub(super) fn of(event: &Event, plugin: &PluginInfo) -> Self {
        Self {
            id: IdText::of(event.id),
            connection: event
                .peer
                .as_ref()
                .map(|peer| IdText::of(peer.connection.into())),
            notice: match &event.trigger {
                Trigger::Notice(notice) => notice_data(notice, plugin).to_string(),
                _ => String::new(),
            },
        }
    }

    /// Returns the event as the contract has it.
    pub(super) fn to_wit<'a>(&'a self, event: &'a Event) -> wit::Event<'a> {
        wit::Event {
            id: self.id.as_str(),
            at_ms: event.at_ms,
            namespace: event.namespace.as_str(),
            peer: event.peer.as_ref().map(|peer| wit::Peer {
                connection: self.connection.as_ref().map_or("", IdText::as_str),
                identity: Some(wit::Identity {
                    user: peer.identity.user.as_str(),
                    role: &peer.identity.role,
                    claims: &peer.identity.claims,
                }),
            }),
            trigger: match &event.trigger {
                Trigger::Message { name, args } => wit::Trigger::Message(wit::Message {
                    name: name.as_str(),
                    args,
                }),
                Trigger::Server { name, args, source } => wit::Trigger::Server(wit::ServerEvent {
                    name: name.as_str(),
                    args,
                    source,
                }),
                Trigger::Notice(notice) => wit::Trigger::Notice(wit::Notice {
                    name: notice.name(),
                    data: &self.notice,
                }),
            },
            attachments: u32::try_from(event.attachments.len()).unwrap_or(u32::MAX),
            wants_ack: event.wants_ack,
        }
    }
}

/// What `to_string` returns, without an allocation: two are in each event.
struct IdText([u8; Hyphenated::LENGTH]);

impl IdText {
    fn of(id: Uuid) -> Self {
        let mut text = [0; Hyphenated::LENGTH];
        id.hyphenated().encode_lower(&mut text);
        Self(text)
    }

    fn as_str(&self) -> &str {
        // It is ASCII.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

fn notice_data(notice: &Notice, plugin: &PluginInfo) -> Value {
    match notice {
        Notice::Connected => json!({}),
        Notice::Disconnected { reason, rooms } => {
            let rooms: Vec<_> = rooms
                .iter()
                .filter(|room| plugin.may_use_prefix(room.prefix()))
                .collect();
            json!({ "reason": reason, "rooms": rooms })
        }
        Notice::Joined { room, first } => json!({ "room": room, "first": first }),
        Notice::Left {
            room,
            last,
            disconnected,
        } => {
            let reason = if *disconnected {
                "disconnected"
            } else {
                "left"
            };
            json!({ "room": room, "last": last, "reason": reason })
        }
        Notice::Typing { room, typing } => json!({ "room": room, "typing": typing }),
        Notice::Presence {
            user,
            seen,
            before,
            rooms,
        } => {
            let own = rooms.iter().filter(|(namespace, room)| {
                *namespace == plugin.namespace && plugin.may_use_prefix(room.prefix())
            });
            let rooms: Vec<_> = own.map(|(_, room)| room).collect();
            json!({
                "user": user, "status": seen.status, "before": before, "seen": seen.at_ms,
                "rooms": rooms,
            })
        }
        Notice::Acknowledged { token, outcome, .. } => match outcome {
            Ok(args) => {
                // Checked when it came in; what is not JSON would be the text itself.
                let args: Value = serde_json::from_str(args).unwrap_or_else(|_| json!(args));
                json!({ "token": token, "args": args })
            }
            Err(error) => json!({ "token": token, "error": error }),
        },
        Notice::Timer {
            partition,
            name,
            due_ms,
            payload,
        } => {
            // Checked when it was scheduled; what is not JSON would be the text itself.
            let payload: Value = serde_json::from_str(payload).unwrap_or_else(|_| json!(payload));
            json!({ "partition": partition, "name": name, "due": due_ms, "payload": payload })
        }
    }
}

/// Returns what a handler returned, as the host has it.
///
/// # Errors
/// When it is not valid: why, for the operator.
pub(super) fn from_wit(
    result: Result<wit::Reply, wit::Failure>,
    soft: Vec<Instruction>,
    bounds: &InstanceBounds,
) -> Result<Verdict, String> {
    let reply = match result {
        Ok(reply) => reply,
        Err(failure) => return Ok(Err(checked_failure(failure)?)),
    };
    if reply.instructions.len() > bounds.instructions {
        return Err(format!(
            "{} instructions, of at most {}",
            reply.instructions.len(),
            bounds.instructions
        ));
    }
    // Apart from `soft`: both kinds of instructions are of one size, so these stay in their allocation.
    let mut instructions: Vec<_> = reply.instructions.into_iter().map(instruction).collect();
    instructions.extend(soft);
    Ok(Ok(Reply {
        ack: reply.ack.map(|answer| Answer {
            args: answer.args,
            attachments: attachments(answer.attachments),
        }),
        instructions,
    }))
}

fn checked_failure(failure: wit::Failure) -> Result<Failure, String> {
    let code = &failure.code;
    let well_formed = (1..=64).contains(&code.len())
        && code.starts_with(|c: char| c.is_ascii_uppercase())
        && code
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    if !well_formed {
        let code: String = code.chars().take(64).collect();
        return Err(format!(
            "the failure's code `{code}` is not UPPER_SNAKE_CASE"
        ));
    }
    let details = failure
        .details
        .map(|details| serde_json::from_str(&details))
        .transpose()
        .map_err(|error| format!("the failure's details are not JSON: {error}"))?;
    Ok(Failure {
        code: failure.code.into(),
        message: failure.message,
        details,
    })
}

fn attachments(attachments: Vec<wit::Attachment>) -> Vec<Attachment> {
    attachments
        .into_iter()
        .map(|attachment| match attachment {
            wit::Attachment::Bytes(bytes) => Attachment::Bytes(Bytes::from(bytes)),
            wit::Attachment::Received(index) => Attachment::Received(index),
        })
        .collect()
}

fn target(target: wit::Target) -> Target {
    match target {
        wit::Target::Connection(id) => Target::Connection(id),
        wit::Target::User(id) => Target::User(id),
        wit::Target::Room(name) => Target::Room(name),
        wit::Target::Everyone => Target::Everyone,
    }
}

fn instruction(instruction: wit::Instruction) -> Instruction {
    match instruction {
        wit::Instruction::Emit(emission) => Instruction::Emit(Emission {
            to: emission.to.into_iter().map(target).collect(),
            except: emission.except.into_iter().map(target).collect(),
            name: emission.name,
            args: emission.args,
            attachments: attachments(emission.attachments),
            volatile: emission.volatile,
            ack: emission.ack,
        }),
        wit::Instruction::Join(membership) => Instruction::Join {
            who: target(membership.who),
            room: membership.room,
        },
        wit::Instruction::Leave(membership) => Instruction::Leave {
            who: target(membership.who),
            room: membership.room,
        },
        wit::Instruction::Disconnect(disconnection) => Instruction::Disconnect {
            who: target(disconnection.who),
            reason: disconnection.reason,
            transport: disconnection.transport,
        },
    }
}
