//! The outgoing side of a connection, and the place for an acknowledgement.

use super::{
    Edge,
    adapter::{HostAdapter, Local},
    backlog::{Backlog, Size},
    listener::Transports,
};
use crate::{
    core::{names::RoomName, payload},
    metrics::{Metrics, count},
    ports::{Acknowledge, CloseReason, Frame, Lost, Outbound, SendError},
};
use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture};
use socketioxide::{SocketError, SocketIo, extract::SocketRef};
use socketioxide_core::{
    Sid, Str, Value,
    adapter::{BroadcastFlags, BroadcastOptions, Room},
    packet::Packet,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// The outgoing side of one connection.
///
/// The sockets of a namespace are in the library's rooms as their connections are in the host's, since
/// it encodes a packet for a room once. Each is in a room of its own besides, by which it is left out.
/// A client that leaves the namespace and enters it again has the same socket's id, but another line.
#[repr(C, align(64))]
pub(super) struct Line {
    // Touched for each packet, and so in one line of the processor's caches, as in `backlog`.
    /// Whether the socket has left the namespace. Nothing is sent any more then, and nothing would take
    /// it out of a room again.
    has_left: AtomicBool,
    backlog: Arc<Backlog>,
    transports: Arc<Transports>,
    local: Local,
    sid: Sid,
    // Touched now and then.
    /// The room of its own.
    own: String,
    io: SocketIo<HostAdapter>,
    metrics: Arc<Metrics>,
}

/// What goes before the name of a host's room.
const ROOM: &str = "room:";

/// What goes before the name of a line's own.
const OWN: &str = "own:";

/// How many lines there have been.
static LINES: AtomicU64 = AtomicU64::new(0);

fn room_of_sockets(room: &RoomName) -> Room {
    Room::Owned([ROOM, room.as_str()].concat())
}

fn value(text: &str, attachments: &[Bytes]) -> Value {
    let attachments = (!attachments.is_empty()).then(|| attachments.iter().cloned().collect());
    Value::Str(Str::copy_from_slice(text), attachments)
}

impl Line {
    /// Returns the line of a socket that its namespace is about to take in.
    pub(super) fn new(edge: &Edge, local: Local, sid: Sid, backlog: Arc<Backlog>) -> Self {
        backlog.count_polls(&edge.transports, sid.as_str());
        let own = format!("{OWN}{}", LINES.fetch_add(1, Ordering::Relaxed));
        let moving = backlog.moving.lock();
        local.add_all(sid, own.clone());
        drop(moving);
        Self {
            has_left: AtomicBool::new(false),
            backlog,
            transports: edge.transports.clone(),
            local,
            sid,
            own,
            io: edge.io.clone(),
            metrics: edge.metrics.clone(),
        }
    }

    /// Returns the socket while it is there.
    fn socket(&self) -> Option<SocketRef<HostAdapter>> {
        if self.has_left() {
            return None;
        }
        self.io.of(self.path().as_str())?.get_socket(self.sid)
    }

    /// Lets the socket leave the namespace, which takes it out of all rooms.
    pub(super) fn leave(&self, leave: impl FnOnce()) {
        let _moving = self.backlog.moving.lock();
        self.has_left.store(true, Ordering::Release);
        leave();
    }

    fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Acquire)
    }

    /// Counts a packet that is about to be sent, unless it cannot be.
    fn count(&self, text: &str, attachments: &[Bytes], ack: Option<i64>) -> Result<(), SendError> {
        let head = head(self.local.path(), attachments.len(), ack);
        let size = Size::of(head + text.len(), attachments);
        let (transports, session) = (&self.transports, self.sid.as_str());
        self.if_there(|| self.backlog.take(size, transports, session))
    }

    /// Tells whether more may wait.
    fn has_room(&self) -> bool {
        self.backlog.has_room(&self.transports, self.sid.as_str())
    }

    fn if_there(&self, has_room: impl FnOnce() -> bool) -> Result<(), SendError> {
        if self.has_left() {
            return Err(SendError::Closed);
        }
        has_room().then_some(()).ok_or(SendError::Full)
    }

    fn send(&self, packet: Packet, volatile: bool) -> Result<(), SendError> {
        self.broadcast(packet, BroadcastOptions::new(self.sid), volatile)
            .map_err(|errors| match errors.first() {
                Some(SocketError::InternalChannelFull) => SendError::Full,
                _ => SendError::Closed,
            })
    }

    fn broadcast(
        &self,
        packet: Packet,
        mut options: BroadcastOptions,
        volatile: bool,
    ) -> Result<(), Vec<SocketError>> {
        if volatile {
            options.add_flag(BroadcastFlags::Volatile);
        }
        self.local.broadcast(packet, options)
    }

    fn path(&self) -> Str {
        self.local.path().clone()
    }
}

/// Returns the bytes of a packet before its JSON: its type, the number of attachments, its namespace
/// and id (Socket.IO protocol 5, "Packet encoding").
fn head(path: &str, attachments: usize, ack: Option<i64>) -> usize {
    let digits = |number: u64| {
        number
            .checked_ilog10()
            .map_or(1, |power| power as usize + 1)
    };
    let mut bytes = 1;
    if attachments > 0 {
        bytes += digits(attachments as u64) + 1;
    }
    if path != "/" {
        bytes += path.len() + 1;
    }
    bytes + ack.map_or(0, |id| digits(id.unsigned_abs()))
}

impl Outbound for Line {
    fn emit(&self, frame: &Frame, volatile: bool) -> Result<(), SendError> {
        self.take(frame, volatile)?;
        let value = value(&frame.packet, &frame.attachments);
        self.send(Packet::event(self.path(), value), volatile)
    }

    fn name(&self) -> &str {
        &self.own
    }

    fn enter(&self, room: &RoomName) {
        let _moving = self.backlog.moving.lock();
        if !self.has_left() {
            self.local.add_all(self.sid, room_of_sockets(room));
        }
    }

    fn exit(&self, room: &RoomName) {
        if !self.has_left() {
            self.local.del(self.sid, room_of_sockets(room));
        }
    }

    fn prefetch(&self) {
        std::hint::black_box((self.has_left(), self.backlog.is_being_counted()));
    }

    fn take(&self, frame: &Frame, volatile: bool) -> Result<(), SendError> {
        match volatile {
            true => self.if_there(|| self.has_room()),
            false => self.count(&frame.packet, &frame.attachments, None),
        }
    }

    fn emit_to_room(
        &self,
        room: &RoomName,
        except: &[&str],
        frame: &Frame,
        volatile: bool,
    ) -> Result<(), Lost> {
        let value = value(&frame.packet, &frame.attachments);
        let mut options = BroadcastOptions::default();
        options.rooms.push(room_of_sockets(room));
        let except = except.iter().map(|name| Room::Owned((*name).to_owned()));
        options.except.extend(except);
        self.broadcast(Packet::event(self.path(), value), options, volatile)
            .map_err(|errors| {
                let is_full =
                    |error: &&SocketError| matches!(error, SocketError::InternalChannelFull);
                let full = errors.iter().filter(is_full).count();
                let closed = errors.len() - full;
                Lost { closed, full }
            })
    }

    fn emit_with_ack(
        &self,
        frame: &Frame,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<(String, Vec<Bytes>), &'static str>> {
        if let Err(error) = self.take(frame, false) {
            let word = match error {
                SendError::Full => "full",
                SendError::Closed => "disconnected",
            };
            return Box::pin(std::future::ready(Err(word)));
        }
        let value = value(&frame.packet, &frame.attachments);
        let (answers, _) = self.local.broadcast_with_ack(
            Packet::event(self.path(), value),
            BroadcastOptions::new(self.sid),
            Some(timeout),
        );
        Box::pin(async move {
            let mut answers = std::pin::pin!(answers);
            match answers.next().await {
                Some((_, Ok(Value::Str(args, attachments)))) => {
                    let attachments = Vec::from(attachments.unwrap_or_default());
                    match payload::check_args(
                        args.as_str(),
                        attachments.len(),
                        payload::INCOMING_DEPTH,
                    ) {
                        Ok(()) => Ok((args.as_str().to_owned(), attachments)),
                        Err(_) => Err("invalid"),
                    }
                }
                Some((_, Err(socketioxide::AckError::Timeout))) => Err("timeout"),
                Some((_, Ok(Value::Bytes(_)))) => Err("invalid"),
                Some((
                    _,
                    Err(socketioxide::AckError::Socket(SocketError::InternalChannelFull)),
                )) => Err("full"),
                Some((_, Err(_))) | None => Err("disconnected"),
            }
        })
    }

    fn disconnect(&self) {
        let Some(socket) = self.socket() else {
            return;
        };
        if let Err(SocketError::InternalChannelFull) = socket.disconnect() {
            self.close_transport(CloseReason::SlowConsumer);
        }
    }

    fn close_transport(&self, reason: CloseReason) {
        count(&self.metrics.disconnects, reason.as_str());
        let Some(socket) = self.socket() else {
            return;
        };
        self.transports.close(&socket, reason);
    }
}

/// The place for the acknowledgement of one packet.
pub(super) struct AckLine {
    pub(super) line: Arc<Line>,
    pub(super) id: i64,
}

impl Acknowledge for AckLine {
    fn send(self: Box<Self>, args: String, attachments: Vec<Bytes>) -> Result<(), SendError> {
        self.line.count(&args, &attachments, Some(self.id))?;
        let attachments = (!attachments.is_empty()).then(|| attachments.into());
        let value = Value::Str(Str::from(args), attachments);
        self.line
            .send(Packet::ack(self.line.path(), value, self.id), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_packet_is_as_long_as_the_servers() {
        for (packet, path, attachments, ack) in [
            (r#"2["a"]"#, "/", 0, None),
            (r#"2/chat,["a"]"#, "/chat", 0, None),
            (r#"312[1]"#, "/", 0, Some(12)),
            (r#"3/chat,0[1]"#, "/chat", 0, Some(0)),
            (r#"510-["a"]"#, "/", 10, None),
            (r#"61-/chat,100[1]"#, "/chat", 1, Some(100)),
        ] {
            let json = packet.find('[').unwrap();
            assert_eq!(head(path, attachments, ack), json, "{packet}");
        }
    }
}
