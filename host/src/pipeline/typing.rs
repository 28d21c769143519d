//! Who stops typing without saying so.

use super::Pipeline;
use crate::core::event::Notice;
use std::{sync::Arc, time::Instant};

/// Ends the typing of those who have not said for a while that they type, until the host stops.
pub async fn end_typing(pipeline: Arc<Pipeline>) {
    while pipeline
        .unless_stopping(pipeline.executor.typing.over())
        .await
        .is_some()
    {
        for (id, room) in pipeline.executor.typing.take_over(Instant::now()) {
            let Some(connection) = pipeline.connections.get(id) else {
                continue;
            };
            let rooms = &pipeline.executor.rooms;
            if rooms.set_typing(&connection.namespace, id, &room, false) {
                let typing = false;
                pipeline.notify(connection, Notice::Typing { room, typing });
            }
        }
    }
}
