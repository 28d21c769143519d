//! What users are seen as: who has gone for good, who is idle, and telling plugins of what has changed.

use super::{Pipeline, ending::end_notices, now_ms};
use crate::{
    core::{
        event::{Notice, Peer},
        names::{Namespace, UserId},
    },
    presence::{Lingering, Places},
};
use futures_util::{FutureExt, StreamExt, stream};
use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

/// Users of whom plugins are told at once.
const AT_ONCE: usize = 32;

/// After how long somebody is forgotten who is gone, and was not told of by the node that should have.
const FORGOTTEN: Duration = Duration::from_mins(1);

/// Ends the lingering of those who did not come back in time, until the host stops.
pub async fn end_lingering(pipeline: Arc<Pipeline>) {
    let presence = &pipeline.executor.presence;
    while pipeline.unless_stopping(presence.over()).await.is_some() {
        for lingering in presence.take_over(Instant::now()) {
            let ending = pipeline.clone();
            let end = async move { ending.end_one(lingering).await };
            pipeline.tasks.spawn_on(end, &pipeline.runtime);
        }
    }
}

/// Finds out who is idle, until the host stops.
pub async fn watch_activity(pipeline: Arc<Pipeline>) {
    let presence = &pipeline.executor.presence;
    let mut swept = Instant::now();
    while pipeline
        .unless_stopping(tokio::time::sleep(presence.look_every()))
        .await
        .is_some()
    {
        let now = Instant::now();
        pipeline.connections.for_each(|connection| {
            if connection.activity.take() {
                presence.touch(connection.id, now);
            }
        });
        for id in presence.find_idle(now, now_ms()) {
            if let Some(connection) = pipeline.connections.get(id) {
                connection.activity.rest();
                if connection.activity.take() {
                    // Just now.
                    presence.touch(id, now);
                }
            }
        }
        if pipeline.executor.relay.trouble().is_some() {
            swept = now;
        }
        if now >= swept + FORGOTTEN {
            swept = now;
            presence.sweep(now_ms(), FORGOTTEN);
        }
    }
}

/// Tells plugins what users are seen as whenever that changes, until the host stops.
pub async fn tell_presence(pipeline: Arc<Pipeline>) {
    let presence = &pipeline.executor.presence;
    while let Some(users) = pipeline.unless_stopping(presence.changes()).await {
        for user in users {
            let telling = pipeline.clone();
            let tell = async move { telling.tell_of(&user).await };
            pipeline.tasks.spawn_on(tell, &pipeline.runtime);
        }
    }
}

impl Pipeline {
    /// Has it known at once that nobody comes back: this node ends, and no other goes on for it.
    pub async fn end_all_lingering(self: &Arc<Self>) {
        let presence = &self.executor.presence;
        let all = stream::iter(presence.take_all());
        all.for_each_concurrent(AT_ONCE, |lingering| self.end_one(lingering))
            .await;
        let changed = stream::iter(presence.take_changes());
        changed
            .for_each_concurrent(AT_ONCE, |user| async move { self.tell_of(&user).await })
            .await;
    }

    /// Forgets somebody who lingers without telling anybody.
    pub(super) fn drop_lingering(&self, lingering: &Lingering) {
        let Lingering {
            connection,
            namespace,
        } = lingering;
        let rooms = &self.executor.rooms;
        let whose = rooms.whose(*connection);
        rooms.remove(namespace, *connection);
        rooms.close(*connection, Vec::new());
        if let Some((identity, _)) = whose {
            let presence = &self.executor.presence;
            presence.close_here(&identity.user, *connection, [], now_ms());
        }
    }

    /// Ends the lingering of somebody, and tells plugins what was left.
    pub(super) async fn end_one(self: &Arc<Self>, lingering: Lingering) {
        let Lingering {
            connection,
            namespace,
        } = lingering;
        let rooms = &self.executor.rooms;
        let Some((identity, _)) = rooms.whose(connection) else {
            return;
        };
        let user = identity.user.clone();
        let exits = rooms.remove(&namespace, connection);
        let left = exits
            .iter()
            .map(|exit| (namespace.clone(), exit.room.clone()));
        let left: Places = left.collect();
        let last = exits.iter().filter(|exit| exit.last);
        let last = last.map(|exit| exit.room.clone()).collect();
        let peer = Peer {
            connection,
            identity,
        };
        let notices = end_notices(exits, None);
        self.handle_notices_of(Some(peer), &namespace, None, notices, 0)
            .await;
        rooms.close(connection, last);
        let presence = &self.executor.presence;
        presence.close_here(&user, connection, left, now_ms());
    }

    /// Tells plugins what a user is seen as, if it is this node that does, and as often as it changes
    /// meanwhile.
    async fn tell_of(self: &Arc<Self>, user: &UserId) {
        let presence = &self.executor.presence;
        while let Some(change) = presence.begin_telling(user, now_ms()) {
            let (status, mut places) = (change.seen.status, change.left);
            if !change.has_just_come {
                for connection in presence.devices(user) {
                    places.extend(self.executor.rooms.places(connection));
                }
            }
            let notice = Notice::Presence {
                user: user.clone(),
                seen: change.seen,
                before: change.before,
                rooms: places.into_iter().collect(),
            };
            let (root, notices) = (Namespace::root(), [(notice, Vec::new())]);
            let telling = self.handle_notices_of(None, &root, None, notices, 0);
            // A defect of the host's own must not keep the user from being told of again.
            if AssertUnwindSafe(telling).catch_unwind().await.is_err() {
                tracing::error!(%user, "telling of a user's presence panicked");
            }
            presence.told(user, status, now_ms());
        }
    }
}
