//! Handlers are transactions: reads are noted, writes are staged, and a commit happens only when
//! what was read is still true.
//!
//! | run | how | lost when |
//! |---|---|---|
//! | first | optimistic, holds nothing | what was read has changed, or others queue for it |
//! | second | after its turn on the keys that the first one read | somebody wrote them without reading, or it read others |
//! | third | the only one to commit in its partition | never, unless a commit was under way already |
//!
//! So writers of one key go one after the other instead of undoing each other's work, those of
//! different keys do not wait at all, and nobody is starved. All waiting is done between runs and at
//! a commit, never while a guest runs: it neither holds an instance nor counts against the deadline,
//! and no guest sees a fault because of it. Who only reads never waits and is never run again.
//!
//! These queues are for speed; what makes a commit safe are the versions that the store checks. They
//! reach as far as this process, which is as far as the store in memory does. A store that several
//! processes share needs a lock of its own, fenced and expiring, for third runs: in
//! [`Transactions::again`], where this takes `Lockable::Commits`.

mod locks;
mod transaction;

pub use self::{
    locks::Held,
    transaction::{Transaction, added},
};

use self::{
    locks::{Lockable, Locks},
    transaction::Standing,
};
use crate::{
    core::names::PluginName,
    ports::{Commit, CommitError, Seen, StateStore, Write},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// How often a handler is run. Queues make more than three runs rare; this only keeps a defect from
/// running for ever.
const ATTEMPTS: u32 = 50;

/// Makes transactions over a store.
pub struct Transactions {
    store: Arc<dyn StateStore>,
    locks: Arc<Locks>,
}

impl Transactions {
    /// Returns transactions over a store.
    #[must_use]
    pub fn new(store: Arc<dyn StateStore>) -> Self {
        Self {
            store,
            locks: Arc::new(Locks::default()),
        }
    }

    /// Returns how often a handler may be run.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        ATTEMPTS
    }

    /// Begins the first run of a handler. Costs one allocation, and no lock.
    #[must_use]
    pub fn begin(&self, plugin: &PluginName, at_ms: u64) -> Arc<Transaction> {
        self.transaction(plugin, at_ms, Standing::First)
    }

    /// Tells whether nobody holds a lock or waits for one.
    #[cfg(test)]
    pub(crate) fn are_idle(&self) -> bool {
        self.locks.is_empty()
    }

    fn transaction(&self, plugin: &PluginName, at_ms: u64, standing: Standing) -> Arc<Transaction> {
        Arc::new(Transaction {
            store: self.store.clone(),
            plugin: plugin.clone(),
            at_ms,
            standing,
            work: parking_lot::Mutex::default(),
        })
    }

    /// Commits what was staged, if what was read in the partition that is written is still true.
    /// Returns the place in the order of the partition's commits; none where nothing was staged,
    /// which costs nothing. A transaction is committed once.
    ///
    /// # Errors
    /// See [`CommitError`]. Nothing has been committed then. After `Conflict`, go on with
    /// [`again`](Self::again).
    pub async fn commit(&self, transaction: &Transaction) -> Result<Option<u64>, CommitError> {
        let (partition, seen, writes) = {
            let mut work = transaction.work.lock();
            let Some(partition) = work.written.clone() else {
                return Ok(None);
            };
            let seen = work.take_seen(&partition);
            (partition, seen, std::mem::take(&mut work.writes))
        };
        let committed = self
            .commit_to(transaction, &partition, &seen, &writes)
            .await;
        if committed == Err(CommitError::Conflict) {
            transaction.work.lock().lost = seen;
        }
        committed.map(Some)
    }

    async fn commit_to(
        &self,
        transaction: &Transaction,
        partition: &str,
        seen: &[Seen],
        writes: &BTreeMap<String, Write>,
    ) -> Result<u64, CommitError> {
        let mut _shared = None;
        if !self.locks.are_free() {
            let name = transaction.partition_name(partition);
            // What others queue for is theirs: to commit it would undo the work of whose turn it is.
            if matches!(transaction.standing, Standing::First)
                && self
                    .locks
                    .is_queued_for(&name, seen.iter().map(to_be_locked))
            {
                return Err(CommitError::Conflict);
            }
            if !transaction.is_alone_in(partition) {
                _shared = self.locks.share_commits(&name).await;
            }
        }
        let commit = Commit {
            partition: transaction.partition(partition),
            at_ms: transaction.at_ms,
            seen,
            writes,
        };
        self.store.commit(commit).await
    }

    /// Begins another run of a handler whose commit was a conflict, as soon as it is its turn.
    /// `held` is what the failed run held, by default nothing; what is returned must be held until
    /// the run's own commit is done.
    pub async fn again(&self, failed: &Transaction, held: Held) -> (Arc<Transaction>, Held) {
        let (partition, lost) = {
            let mut work = failed.work.lock();
            (work.written.clone(), std::mem::take(&mut work.lost))
        };
        let (standing, held) = match partition {
            None => (Standing::First, Held::default()),
            Some(partition) => {
                let name = failed.partition_name(&partition);
                if held.is_of(&name) {
                    let held = self.locks.add_commits(held).await;
                    (Standing::Alone(partition), held)
                } else {
                    // Given back before waiting: locks of two partitions have no order.
                    drop(held);
                    let read: BTreeSet<_> = lost.iter().map(to_be_locked).collect();
                    (Standing::Queued, self.locks.lock(&name, read).await)
                }
            }
        };
        let next = self.transaction(&failed.plugin, failed.at_ms, standing);
        (next, held)
    }
}

fn to_be_locked(seen: &Seen) -> Lockable {
    match seen {
        Seen::Key(key, _) => Lockable::Key(key.clone()),
        Seen::Range(..) => Lockable::Ranges,
    }
}
