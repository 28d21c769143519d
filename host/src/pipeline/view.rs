//! Who is in which room, as plugins ask for it.

use crate::{
    connections::Connections,
    core::names::{ConnectionId, Namespace, RoomName, UserId},
    rooms::Rooms,
};
use std::{collections::BTreeSet, sync::Arc};

/// Answers plugins' questions about rooms, on this node.
pub struct RoomsOfNode {
    /// The connections, for their identities.
    pub connections: Arc<Connections>,
    /// The rooms.
    pub rooms: Arc<Rooms>,
}
