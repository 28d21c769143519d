//! What is sent to a room.

use super::{Rooms, key::AsKey};
use crate::{
    core::names::{ConnectionId, Namespace, RoomName},
    ports::{Frame, Lost, SendError},
};

/// How many members' parts of memory are waited for together.
const TOGETHER: usize = 16;

/// What became of a frame that was sent to a room.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// For how many connections it was queued.
    pub frames: usize,
    /// How many lost it though they were not known to be full.
    pub lost: Lost,
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
        // Nobody joins or leaves meanwhile: those that are counted are those that get it, but for whose
        // socket goes in this very moment.
        let Some(entry) = self.rooms.get(&(namespace, room) as &dyn AsKey) else {
            return sent;
        };
        let mut except = Vec::new();
        let mut any = None;
        let mut members = entry.here.iter();
        while members.len() > 0 {
            let next = members.clone().take(TOGETHER);
            next.for_each(|(_, outbound)| outbound.prefetch());
            for (id, outbound) in members.by_ref().take(TOGETHER) {
                if is_left_out(*id) {
                    except.push(outbound.name());
                    continue;
                }
                match outbound.take(frame, volatile) {
                    Ok(()) => {
                        sent.frames += 1;
                        any = Some(outbound);
                    }
                    Err(SendError::Full) => {
                        except.push(outbound.name());
                        // A volatile one may be lost.
                        sent.full.extend((!volatile).then_some(*id));
                    }
                    // Its socket is in no room any more.
                    Err(SendError::Closed) => sent.lost.closed += 1,
                }
            }
        }
        if let Some(any) = any
            && let Err(lost) = any.emit_to_room(room, &except, frame, volatile)
        {
            sent.frames = sent.frames.saturating_sub(lost.closed + lost.full);
            sent.lost.closed += lost.closed;
            sent.lost.full += lost.full;
        }
        sent
    }
}
