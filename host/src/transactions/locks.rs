//! Queues by key, for handlers that are run again.

use crate::core::names::PluginName;
use dashmap::DashMap;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// What is locked: a key of a partition, or (none) its listed ranges.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LockName {
    pub(super) plugin: PluginName,
    pub(super) partition: String,
    pub(super) key: Option<String>,
}

#[derive(Default)]
struct Lock {
    users: AtomicUsize,
    mutex: Arc<Mutex<()>>,
}

/// All locks that somebody holds or waits for.
#[derive(Default)]
pub(super) struct Locks(DashMap<LockName, Arc<Lock>>);

/// One lock, held or waited for. The next in the queue gets it when this is dropped.
struct Place {
    locks: Arc<Locks>,
    name: LockName,
    lock: Arc<Lock>,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.guard.take();
        self.lock.users.fetch_sub(1, Ordering::AcqRel);
        self.locks.0.remove_if(&self.name, |_, lock| {
            lock.users.load(Ordering::Acquire) == 0
        });
    }
}

/// Locks that are held together.
pub struct Held(#[expect(dead_code, reason = "held for its drop")] Vec<Place>);

impl Locks {
    /// Tells whether somebody holds a lock or waits for it.
    pub(super) fn is_contended(&self, name: &LockName) -> bool {
        !self.0.is_empty() && self.0.contains_key(name)
    }

    /// Waits for locks, one after the other. The names must be sorted, so that two who want the same
    /// ones never wait for each other.
    pub(super) async fn lock(self: &Arc<Self>, names: impl IntoIterator<Item = LockName>) -> Held {
        let mut held = Vec::new();
        for name in names {
            let lock = {
                let entry = self.0.entry(name.clone()).or_default();
                entry.users.fetch_add(1, Ordering::AcqRel);
                entry.clone()
            };
            // Made before waiting, so that giving up is counted as well.
            let mut place = Place {
                locks: self.clone(),
                name,
                lock,
                guard: None,
            };
            place.guard = Some(place.lock.mutex.clone().lock_owned().await);
            held.push(place);
        }
        Held(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn name(key: &str) -> LockName {
        LockName {
            plugin: PluginName::new("p").unwrap(),
            partition: "a".to_owned(),
            key: Some(key.to_owned()),
        }
    }

    #[tokio::test]
    async fn a_lock_is_one_holders_and_then_forgotten() {
        let locks = Arc::new(Locks::default());
        let held = locks.lock([name("x"), name("y")]).await;
        assert!(locks.is_contended(&name("y")) && !locks.is_contended(&name("z")));
        let mut waiting = Box::pin(locks.lock([name("y")]));
        assert!((&mut waiting).now_or_never().is_none());
        drop(held);
        assert!(!locks.is_contended(&name("x")) && locks.is_contended(&name("y")));
        drop(waiting.await);
        assert!(locks.0.is_empty());
    }
}
