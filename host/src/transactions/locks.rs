//! Queues by key, for handlers that are run again.

use super::reservation::Losses;
use crate::{core::names::PluginName, ports::PartitionOf};
use dashmap::DashMap;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// A partition of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PartitionName {
    pub(super) plugin: PluginName,
    pub(super) name: String,
}

impl PartitionName {
    pub(super) fn borrow(&self) -> PartitionOf<'_> {
        PartitionOf {
            plugin: &self.plugin,
            name: &self.name,
        }
    }
}

/// What is locked in a partition; declared in the order in which they are locked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Lockable {
    /// A key that was read.
    Key(String),
    /// All ranges that were listed.
    Ranges,
    /// The right to commit. Who holds it waits for nothing more, so others may wait for it while
    /// they hold anything else.
    Commits,
}

/// Those who hold a lock and those who wait for it, in the order in which they came.
#[derive(Default)]
struct Queue {
    users: usize,
    lock: Arc<RwLock<()>>,
}

/// All locks that somebody holds or waits for; none of the others takes any memory.
#[derive(Default)]
pub(super) struct Locks {
    partitions: DashMap<PartitionName, HashMap<Lockable, Queue>>,
    /// Holders and waiters of all locks, so that a commit asks for nobody's queue when there is none.
    users: AtomicUsize,
}

/// One lock, held or waited for. The next in the queue gets it when this is dropped.
struct Place {
    locks: Arc<Locks>,
    partition: PartitionName,
    what: Lockable,
    guard: Option<OwnedRwLockWriteGuard<()>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.guard.take();
        if let Some(mut queues) = self.locks.partitions.get_mut(&self.partition) {
            if let Some(queue) = queues.get_mut(&self.what) {
                queue.users = queue.users.saturating_sub(1);
            }
            queues.retain(|_, queue| queue.users > 0);
        }
        self.locks
            .partitions
            .remove_if(&self.partition, |_, queues| queues.is_empty());
        self.locks.users.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a handler that is run again holds while it runs; nothing in its first run. Others get it
/// when this is dropped.
#[derive(Default)]
pub struct Held {
    partition: Option<PartitionName>,
    places: Vec<Place>,
    pub(super) losses: Losses,
}

impl Held {
    /// Tells whether something of a partition is held.
    pub(super) fn is_of(&self, partition: &PartitionName) -> bool {
        self.partition.as_ref() == Some(partition)
    }
}

impl Locks {
    /// Tells whether somebody holds one of these or waits for it.
    pub(super) fn is_queued_for(
        &self,
        partition: &PartitionName,
        mut what: impl Iterator<Item = Lockable>,
    ) -> bool {
        self.partitions
            .get(partition)
            .is_some_and(|queues| what.any(|what| queues.contains_key(&what)))
    }

    /// Tells whether nobody holds anything.
    pub(super) fn are_free(&self) -> bool {
        self.users.load(Ordering::Acquire) == 0
    }

    /// Waits for locks of a partition, one after the other in their order, so that two who want the
    /// same ones never wait for each other.
    pub(super) async fn lock(
        self: &Arc<Self>,
        partition: &PartitionName,
        what: BTreeSet<Lockable>,
    ) -> Held {
        let mut held = Held {
            partition: Some(partition.clone()),
            places: Vec::with_capacity(what.len()),
            losses: Losses::default(),
        };
        for what in what {
            held.places.push(self.wait(partition, what).await);
        }
        held
    }

    /// Waits for the right to commit in the partition of which something is held, and adds it.
    pub(super) async fn add_commits(self: &Arc<Self>, mut held: Held) -> Held {
        let commits = Lockable::Commits;
        let has_it = held.places.iter().any(|place| place.what == commits);
        if let (Some(partition), false) = (held.partition.clone(), has_it) {
            held.places.push(self.wait(&partition, commits).await);
        }
        held
    }

    async fn wait(self: &Arc<Self>, partition: &PartitionName, what: Lockable) -> Place {
        self.users.fetch_add(1, Ordering::AcqRel);
        let lock = {
            let mut queues = self.partitions.entry(partition.clone()).or_default();
            let queue = queues.entry(what.clone()).or_default();
            queue.users += 1;
            queue.lock.clone()
        };
        // Made before waiting, so that giving up is counted as well.
        let mut place = Place {
            locks: self.clone(),
            partition: partition.clone(),
            what,
            guard: None,
        };
        place.guard = Some(lock.write_owned().await);
        place
    }

    /// Waits until nobody has the commits of a partition for himself. Those who share it go on all
    /// at once.
    pub(super) async fn share_commits(
        &self,
        partition: &PartitionName,
    ) -> Option<OwnedRwLockReadGuard<()>> {
        let lock = {
            let queues = self.partitions.get(partition)?;
            queues.get(&Lockable::Commits)?.lock.clone()
        };
        Some(lock.read_owned().await)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.partitions.is_empty() && self.are_free()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn partition() -> PartitionName {
        PartitionName {
            plugin: PluginName::new("p").unwrap(),
            name: "a".to_owned(),
        }
    }

    fn keys(keys: &[&str]) -> BTreeSet<Lockable> {
        keys.iter()
            .map(|key| Lockable::Key((*key).to_owned()))
            .collect()
    }

    fn is_queued(locks: &Locks, key: &str) -> bool {
        locks.is_queued_for(&partition(), keys(&[key]).into_iter())
    }

    #[tokio::test]
    async fn a_lock_is_one_holders_and_then_forgotten() {
        let locks = Arc::new(Locks::default());
        let held = locks.lock(&partition(), keys(&["x", "y"])).await;
        assert!(is_queued(&locks, "y") && !is_queued(&locks, "z"));
        let name = partition();
        let mut waiting = Box::pin(locks.lock(&name, keys(&["y"])));
        assert!((&mut waiting).now_or_never().is_none());
        let mut given_up = Box::pin(locks.lock(&name, keys(&["y"])));
        assert!((&mut given_up).now_or_never().is_none());
        drop(given_up);
        drop(held);
        assert!(!is_queued(&locks, "x") && is_queued(&locks, "y"));
        drop(waiting.await);
        assert!(locks.is_empty());
    }

    #[tokio::test]
    async fn commits_are_shared_until_somebody_wants_them_for_himself() {
        let (locks, name) = (Arc::new(Locks::default()), partition());
        assert!(locks.share_commits(&name).await.is_none());
        let held = locks.lock(&name, keys(&["x"])).await;
        assert!(locks.share_commits(&name).await.is_none());
        let held = locks.add_commits(held).await;
        // Asking for what one has already waits for nobody.
        let held = locks.add_commits(held).now_or_never().unwrap();
        let (mut one, mut two) = (
            Box::pin(locks.share_commits(&name)),
            Box::pin(locks.share_commits(&name)),
        );
        assert!((&mut one).now_or_never().is_none() && (&mut two).now_or_never().is_none());
        drop(held);
        assert!(one.await.is_some() && two.await.is_some());
        assert!(locks.is_empty());
    }
}
