//! The outgoing side of a connection, and the place for an acknowledgement.

use super::{
    adapter::{HostAdapter, Local},
    backlog::{Backlog, Size},
    listener::Transports,
};
use crate::{
    core::payload,
    metrics::{Metrics, count},
    ports::{Acknowledge, CloseReason, Frame, Outbound, SendError},
};
use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture};
use socketioxide::{SocketError, SocketIo, extract::SocketRef};
use socketioxide_core::{
    Sid, Str, Value,
    adapter::{BroadcastFlags, BroadcastOptions},
    packet::Packet,
};
use std::{sync::Arc, time::Duration};

/// Where one socket's packets go.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) local: Local,
    pub(super) sid: Sid,
    pub(super) backlog: Arc<Backlog>,
    pub(super) transports: Arc<Transports>,
}

impl Line {
    fn value(text: &str, attachments: &[Bytes]) -> Value {
        let attachments = (!attachments.is_empty()).then(|| attachments.iter().cloned().collect());
        Value::Str(Str::copy_from_slice(text), attachments)
    }

    /// Counts what is about to be sent. Returns false, and does not, when too much waits already.
    fn take(&self, text: &str, attachments: &[Bytes]) -> bool {
        let (size, session) = (Size::of(text, attachments), self.sid.as_str());
        self.backlog.take(size, &self.transports, session)
    }

    /// Tells whether more may wait.
    fn has_room(&self) -> bool {
        self.backlog.has_room(&self.transports, self.sid.as_str())
    }

    fn send(&self, packet: Packet, volatile: bool) -> Result<(), SendError> {
        let mut options = BroadcastOptions::new(self.sid);
        if volatile {
            options.add_flag(BroadcastFlags::Volatile);
        }
        self.local
            .broadcast(packet, options)
            .map_err(|errors| match errors.first() {
                Some(SocketError::InternalChannelFull) => SendError::Full,
                _ => SendError::Closed,
            })
    }

    fn path(&self) -> Str {
        self.local.path().clone()
    }
}

/// The outgoing side of one connection.
pub(super) struct SocketOutbound {
    pub(super) line: Line,
    pub(super) io: SocketIo<HostAdapter>,
    pub(super) transports: Arc<Transports>,
    pub(super) metrics: Arc<Metrics>,
}

impl SocketOutbound {
    /// Returns the socket while it is there.
    fn socket(&self) -> Option<SocketRef<HostAdapter>> {
        self.io
            .of(self.line.local.path().as_str())?
            .get_socket(self.line.sid)
    }
}

impl Outbound for SocketOutbound {
    fn emit(&self, frame: &Frame, volatile: bool) -> Result<(), SendError> {
        if volatile {
            if !self.line.has_room() {
                return Ok(());
            }
        } else if !self.line.take(&frame.packet, &frame.attachments) {
            return Err(SendError::Full);
        }
        let value = Line::value(&frame.packet, &frame.attachments);
        self.line
            .send(Packet::event(self.line.path(), value), volatile)
    }

    fn emit_with_ack(
        &self,
        frame: &Frame,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<(String, Vec<Bytes>), &'static str>> {
        if !self.line.take(&frame.packet, &frame.attachments) {
            return Box::pin(std::future::ready(Err("full")));
        }
        let value = Line::value(&frame.packet, &frame.attachments);
        let (answers, _) = self.line.local.broadcast_with_ack(
            Packet::event(self.line.path(), value),
            BroadcastOptions::new(self.line.sid),
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
    pub(super) line: Line,
    pub(super) id: i64,
}

impl Acknowledge for AckLine {
    fn send(self: Box<Self>, args: String, attachments: Vec<Bytes>) -> Result<(), SendError> {
        if !self.line.take(&args, &attachments) {
            return Err(SendError::Full);
        }
        let attachments = (!attachments.is_empty()).then(|| attachments.into());
        let value = Value::Str(Str::from(args), attachments);
        self.line
            .send(Packet::ack(self.line.path(), value, self.id), false)
    }
}
