//! What follows from a connection's end.

use super::{Pipeline, execute::Executor};
use crate::{connections::Connection, core::event::Notice, presence::Lingering, rooms::Exit};
use bytes::Bytes;
use std::{sync::Arc, time::Instant};

impl Pipeline {
    /// Lets go of a connection, and tells plugins; its user lingers where it was the last.
    pub(super) async fn handle_end(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        reason: Arc<str>,
    ) {
        let (id, namespace) = (connection.id, &connection.namespace);
        let Executor {
            rooms, presence, ..
        } = &self.executor;
        let exits = rooms.end(namespace, id);
        self.connections.remove(connection, Instant::now());
        self.executor.metrics.connections.dec();
        let Some(identity) = connection.identity() else {
            return;
        };
        if connection.is_swept() {
            // Another host has taken this one for dead, and told plugins already.
            self.drop_lingering(&Lingering {
                connection: id,
                namespace: namespace.clone(),
            });
            return;
        }
        let left = exits.iter().filter(|exit| !exit.lingers);
        let left: Vec<_> = left.map(|exit| exit.room.clone()).collect();
        let places = left.iter().map(|room| (namespace.clone(), room.clone()));
        presence.end(&identity.user, id, places.collect());
        self.handle_notices(connection, end_notices(exits, Some(reason)), 0)
            .await;
        rooms.tell_end(id, left);
        presence.end_here(namespace, id, Instant::now());
    }
}

/// Returns what plugins are told of a connection that has ended, for a reason; with none, of what it
/// has left since.
pub(super) fn end_notices(
    exits: Vec<Exit>,
    reason: Option<Arc<str>>,
) -> impl Iterator<Item = (Notice, Vec<Bytes>)> {
    let ended = reason.map(|reason| Notice::Disconnected {
        reason,
        rooms: exits.iter().map(|exit| exit.room.clone()).collect(),
    });
    let leaving = exits.into_iter().flat_map(|exit| {
        let Exit { room, last, .. } = exit;
        let stops = exit.stopped.then(|| Notice::Typing {
            room: room.clone(),
            typing: false,
        });
        let left = (!exit.lingers).then_some(Notice::Left {
            room,
            last,
            disconnected: true,
        });
        stops.into_iter().chain(left)
    });
    let all = leaving.chain(ended);
    all.map(|notice| (notice, Vec::new()))
}
