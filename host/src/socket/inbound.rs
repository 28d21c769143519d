//! Packets that come in: taken synchronously, in the order in which they came.

use super::{
    adapter::HostAdapter,
    outbound::{AckLine, Line},
};
use crate::{
    connections::{Connection, Message},
    core::{
        code::{Code, Failure},
        names::EventName,
        payload,
    },
    pipeline::{Pipeline, now_ms},
    ports::Acknowledge,
};
use bytes::Bytes;
use socketioxide::{handler::MessageHandler, socket::Socket};
use socketioxide_core::Value;
use std::sync::{Arc, Weak};

/// Bytes of text beside attachments that do not count: so a file may be as large as a message, and something
/// be said about it. Less than what a packet may have on the wire beyond its message.
const TEXT_BESIDE: usize = 32 * 1024;

/// Takes every event of one socket. `socketioxide` runs ordinary handlers each in a task of its own,
/// which loses their order; this one is called in order, and only queues.
pub(super) struct Inbound {
    pub(super) pipeline: Arc<Pipeline>,
    /// Weak until the connection is in the table: the socket must not keep it alive.
    pub(super) connection: Weak<Connection>,
    pub(super) line: Arc<Line>,
    pub(super) max_message_bytes: usize,
}

/// Marks the implementation of `MessageHandler` among those for closures.
pub(super) struct InOrder;

impl MessageHandler<HostAdapter, InOrder> for Inbound {
    fn call(&self, _: Arc<Socket<HostAdapter>>, packet: Value, ack_id: Option<i64>) {
        let Some(connection) = self.connection.upgrade() else {
            return;
        };
        let ack = ack_id.map(|id| -> Box<dyn Acknowledge> {
            Box::new(AckLine {
                line: self.line.clone(),
                id,
            })
        });
        let Value::Str(packet, attachments) = packet else {
            return;
        };
        let name = || {
            let name = payload::name_of_packet(packet.as_str());
            name.chars().take(128).collect::<String>()
        };
        let Ok(ack) = self.pipeline.take_rate(&connection, name, ack) else {
            return;
        };
        let attachments = Vec::from(attachments.unwrap_or_default());
        match self.parse(packet.as_str(), &attachments) {
            Ok((name, args)) => self.pipeline.accept(
                &connection,
                Message {
                    name,
                    args,
                    attachments,
                    ack,
                    at_ms: now_ms(),
                },
            ),
            Err(failure) => self.pipeline.refuse(&connection, &name(), ack, failure),
        }
    }
}

impl Inbound {
    fn parse(&self, packet: &str, attachments: &[Bytes]) -> Result<(EventName, String), Failure> {
        let invalid = |why: String| Failure::new(Code::InvalidPayload, why);
        // What is said beside attachments takes nothing away from them, as long as it is little.
        let beside = match attachments.is_empty() {
            true => packet.len(),
            false => packet.len().saturating_sub(TEXT_BESIDE),
        };
        let bytes = beside + attachments.iter().map(Bytes::len).sum::<usize>();
        if bytes > self.max_message_bytes {
            return Err(invalid(format!(
                "the message has {bytes} bytes, of at most {}",
                self.max_message_bytes
            )));
        }
        let (name, args) =
            payload::split_packet(packet).map_err(|error| invalid(error.to_string()))?;
        let name = EventName::new(name).map_err(|error| invalid(error.to_string()))?;
        payload::check_args(&args, attachments.len(), payload::INCOMING_DEPTH)
            .map_err(|error| invalid(error.to_string()))?;
        Ok((name, args))
    }
}
