//! What has been handed to the sockets, on its way to being forgotten by the store.
//!
//! Bytes that were handed over are gone with the process until the system has taken them, which takes
//! some milliseconds at most. So the store is told a moment later; what it is not told is sent again.

use super::locks::PartitionName;
use crate::ports::{PartitionOf, StateStore};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tokio::runtime::Handle;

/// How long after it was handed over something is taken as sent.
const TAKEN: Duration = Duration::from_millis(50);

/// Commits whose effects are done.
type Commits = Vec<(PartitionName, u64)>;

/// See the module's page.
pub(super) struct Sent {
    store: Arc<dyn StateStore>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// Those that came before the present round, and those since.
    before: Commits,
    since: Commits,
    /// Whether rounds are made.
    going: bool,
}

impl Sent {
    pub(super) fn new(store: Arc<dyn StateStore>) -> Self {
        Self {
            store,
            waiting: Mutex::default(),
        }
    }

    /// Adds a commit whose effects are done.
    pub(super) fn add(self: &Arc<Self>, partition: PartitionName, place: u64) {
        let mut waiting = self.waiting.lock();
        waiting.since.push((partition, place));
        // Outside of a runtime nothing is sent.
        if !waiting.going
            && let Ok(runtime) = Handle::try_current()
        {
            waiting.going = true;
            runtime.spawn(self.clone().make_rounds());
        }
    }

    /// Tells the store of what has waited for a whole round, for as long as there is anything.
    async fn make_rounds(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TAKEN).await;
            let (sent, goes_on) = {
                let mut waiting = self.waiting.lock();
                let since = std::mem::take(&mut waiting.since);
                let sent = std::mem::replace(&mut waiting.before, since);
                waiting.going = !waiting.before.is_empty();
                (sent, waiting.going)
            };
            self.tell(sent);
            if !goes_on {
                return;
            }
        }
    }

    /// Tells the store of all at once, when the host ends.
    pub(super) fn tell_all(&self) {
        let (before, since) = {
            let mut waiting = self.waiting.lock();
            (
                std::mem::take(&mut waiting.before),
                std::mem::take(&mut waiting.since),
            )
        };
        self.tell(before);
        self.tell(since);
    }

    fn tell(&self, sent: Commits) {
        for (partition, place) in sent {
            let partition = PartitionOf {
                plugin: &partition.plugin,
                name: &partition.name,
            };
            self.store.sent(partition, place);
        }
    }
}
