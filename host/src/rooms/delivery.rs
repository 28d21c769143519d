//! What is sent to a room.

use super::{Rooms, key::AsKey};
use crate::{
    core::names::{ConnectionId, Namespace, RoomName},
    ports::Frame,
};

/// What became of a frame that was sent to a room.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// For how many connections it was queued.
    pub frames: usize,
    /// Of how many the transport was gone.
    pub closed: usize,
    /// Those for which it was not queued since too much waits for them.
    pub full: Vec<ConnectionId>,
}

impl Rooms {
    /// Sends a frame to this node's connections in a room that are not left out. It is encoded once for
    /// all of them.
    pub fn emit(
        &self,
        namespace: &Namespace,
        room: &RoomName,
        is_left_out: impl Fn(ConnectionId) -> bool,
        frame: &Frame,
        volatile: bool,
    ) -> Sent {
        let mut sent = Sent::default();
        // Nobody joins or leaves meanwhile: those that are counted are those that get it.
        let Some(entry) = self.rooms.get(&(namespace, room) as &dyn AsKey) else {
            return sent;
        };
        let mut except = Vec::new();
        for (id, outbound) in &entry.here {
            if is_left_out(*id) {
                except.push(outbound.name());
            } else if outbound.take(frame, volatile) {
                sent.frames += 1;
            } else {
                except.push(outbound.name());
                // A volatile one may be lost.
                sent.full.extend((!volatile).then_some(*id));
            }
        }
        if sent.frames > 0
            && let Some(any) = entry.here.values().next()
            && let Err(closed) = any.emit_to_room(room, &except, frame, volatile)
        {
            sent.closed = closed;
            sent.frames = sent.frames.saturating_sub(closed);
        }
        sent
    }
}
