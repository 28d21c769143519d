//! Handlers are transactions: reads are noted, writes are staged, and a commit happens only when
//! what was read is still true.
//!
//! | run | how | lost when |
//! |---|---|---|
//! | first | optimistic, holds nothing | what was read has changed, or others queue for it |
//! | second | after its turn on the keys that the first one read | somebody wrote them without reading, or it read others |
//! | third and later | the only one of this host to commit in its partition | never, unless a commit was under way already, or another host commits |
//! | tenth and later | the only one of all hosts | only when it takes longer than the store reserves a partition |
//!
//! So writers of one key go one after the other instead of undoing each other's work, those of
//! different keys do not wait at all, and nobody is starved. All waiting is done between runs and at
//! a commit, never while a guest runs: it neither holds an instance nor counts against the deadline,
//! and no guest sees a fault because of it. Who only reads never waits and is never run again.
//!
//! These queues are for speed; what makes a commit safe are the versions that the store checks. They
//! reach as far as this process. Hosts that share a store go one after the other each within itself,
//! and try against each other: whoever commits first wins, and the others run again. Who has lost that
//! way again and again reserves the partition in the store, and others' commits wait.

mod bounds;
mod history;
mod locks;
mod order;
mod reservation;
mod sent;
mod timers;
mod transaction;
mod usage;

pub use self::{
    locks::Held,
    transaction::{Transaction, added},
};

use self::{
    locks::{Lockable, Locks, PartitionName},
    order::{Order, Ticket},
    sent::Sent,
    transaction::{Firing, Standing, Work},
    usage::Meter,
};
use crate::{
    core::{
        names::PluginName,
        state::{fired_name, timer_name},
    },
    ports::{
        Commit, CommitError, DueTimer, Fault, HistoryWrites, PartitionOf, Seen, StateBounds,
        StateStore, Write,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::Notify;

/// How often a handler is run. Queues make more than three runs rare; this only keeps a defect from
/// running for ever.
const ATTEMPTS: u32 = 50;

/// How long it is remembered where a timer of another partition has been handled, in milliseconds: as
/// long as it may take to be taken away where it is.
const FIRED_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// Makes transactions over a store.
pub struct Transactions {
    store: Arc<dyn StateStore>,
    locks: Arc<Locks>,
    order: Order,
    sent: Arc<Sent>,
    meter: Arc<Meter>,
    /// Told when a timer was written.
    scheduled: Notify,
}

/// A commit that has been done, and whose effects have not.
pub struct Done {
    sent: Arc<Sent>,
    partition: PartitionName,
    place: u64,
    has_outgoing: bool,
    ticket: Ticket,
}

impl Done {
    /// Returns the place in the order of the partition's commits.
    #[must_use]
    pub fn place(&self) -> u64 {
        self.place
    }

    /// Waits until the effects of all commits that this host did in the partition before are done.
    pub async fn turn(&self) {
        self.ticket.turn(self.place).await;
    }

    /// Takes note that the effects are done, so that the next one's turn comes.
    pub fn finish(self) {
        if self.has_outgoing {
            self.sent.add(self.partition, self.place);
        }
    }
}

/// What is committed in one step.
struct Staged {
    partition: String,
    seen: Vec<Seen>,
    writes: BTreeMap<String, Write>,
    history: HistoryWrites,
}

impl Transactions {
    /// Returns transactions over a store.
    #[must_use]
    pub fn new(store: Arc<dyn StateStore>) -> Self {
        Self {
            sent: Arc::new(Sent::new(store.clone())),
            meter: Arc::default(),
            store,
            locks: Arc::new(Locks::default()),
            order: Order::default(),
            scheduled: Notify::new(),
        }
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn StateStore> {
        &self.store
    }

    /// Tells whether a plugin may store what a transaction has staged: whether that adds nothing, or
    /// what it stores is within its bounds. One that has none is not asked for.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn has_place(
        &self,
        transaction: &Transaction,
        bounds: &StateBounds,
    ) -> Result<bool, Fault> {
        if !bounds.are_set() {
            return Ok(true);
        }
        let adds = {
            let work = transaction.work.lock();
            let adds = |(name, write): (&String, &Write)| {
                !matches!(write, Write::Delete) && !work.redactions.contains(name)
            };
            !work.history.appends.is_empty() || work.writes.iter().any(adds)
        };
        if !adds {
            return Ok(true);
        }
        let (plugin, at_ms) = (&transaction.plugin, transaction.at_ms);
        self.meter
            .has_place(&self.store, plugin, bounds, at_ms)
            .await
    }

    /// Takes note that what a commit wanted sent has been.
    pub fn sent(&self, partition: PartitionOf<'_>, place: u64) {
        let name = PartitionName {
            plugin: partition.plugin.clone(),
            name: partition.name.to_owned(),
        };
        self.sent.add(name, place);
    }

    /// Writes what was only noted, when the host ends.
    pub async fn close(&self) {
        self.sent.tell_all();
        self.store.close().await;
    }

    /// Waits until a timer is written.
    pub async fn scheduled(&self) {
        self.scheduled.notified().await;
    }

    /// Returns how often a handler may be run.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        ATTEMPTS
    }

    /// Begins the first run of a handler. Costs one allocation, and no lock.
    #[must_use]
    pub fn begin(&self, plugin: &PluginName, at_ms: u64) -> Arc<Transaction> {
        self.transaction(plugin, at_ms, Standing::First, None)
    }

    /// Begins the first run of the handler of a timer, which is taken away by the same commit.
    #[must_use]
    pub fn begin_firing(&self, due: &DueTimer, at_ms: u64) -> Arc<Transaction> {
        let firing = Firing {
            partition: due.partition.clone(),
            name: due.name.clone(),
            version: due.version,
            timer: due.timer.clone(),
        };
        self.transaction(&due.plugin, at_ms, Standing::First, Some(firing))
    }

    /// Tells whether the timer of a transaction is still to be handled. One that has been handled
    /// already, by a commit in another partition, is taken away.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn is_still_due(&self, transaction: &Transaction) -> Result<bool, Fault> {
        let Some(firing) = &transaction.firing else {
            return Ok(true);
        };
        let partition = transaction.partition(&firing.partition);
        let name = timer_name(&firing.name);
        let now = self.store.read(partition, &name, transaction.at_ms).await?;
        if now.map(|now| now.version) != Some(firing.version) {
            return Ok(false);
        }
        let written = transaction.work.lock().written.clone();
        if let Some(elsewhere) = written.filter(|written| *written != firing.partition) {
            let elsewhere = transaction.partition(&elsewhere);
            let fired = fired_name(&firing.id());
            let handled = self
                .store
                .read(elsewhere, &fired, transaction.at_ms)
                .await?;
            if handled.is_some() {
                self.take_away(transaction, firing).await;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes a timer away, where it has been handled by a commit elsewhere. If that fails it fires
    /// again, and is found handled.
    async fn take_away(&self, transaction: &Transaction, firing: &Firing) {
        let commit = Commit {
            partition: transaction.partition(&firing.partition),
            at_ms: transaction.at_ms,
            seen: &[Seen::Key(timer_name(&firing.name), Some(firing.version))],
            writes: &BTreeMap::from([firing.removal(transaction.at_ms)]),
            history: &HistoryWrites::default(),
            outgoing: None,
            owner: None,
        };
        if let Err(error) = self.store.commit(commit).await {
            tracing::debug!(%error, plugin = %transaction.plugin, timer = firing.name, "a handled timer was not taken away");
        }
    }

    /// Tells whether nobody holds a lock or waits for one.
    #[cfg(test)]
    pub(crate) fn are_idle(&self) -> bool {
        self.locks.is_empty()
    }

    fn transaction(
        &self,
        plugin: &PluginName,
        at_ms: u64,
        standing: Standing,
        firing: Option<Firing>,
    ) -> Arc<Transaction> {
        Arc::new(Transaction {
            store: self.store.clone(),
            plugin: plugin.clone(),
            at_ms,
            standing,
            firing,
            work: parking_lot::Mutex::default(),
        })
    }

    /// Commits what was staged, if what was read in the partition that is written is still true;
    /// along with it what is to be sent, where the store outlives the host. Returns none where
    /// nothing was staged, which costs nothing. A transaction is committed once.
    ///
    /// # Errors
    /// See [`CommitError`]. Nothing has been committed then, except perhaps after `Unavailable`, where
    /// the store's answer was lost. After `Conflict`, go on with [`again`](Self::again).
    pub async fn commit(
        &self,
        transaction: &Transaction,
        outgoing: impl FnOnce() -> Option<String>,
    ) -> Result<Option<Done>, CommitError> {
        let Some(staged) = take_staged(transaction) else {
            return Ok(None);
        };
        let outgoing = if self.store.outlives_the_host() {
            outgoing()
        } else {
            None
        };
        let committed = self
            .commit_to(transaction, &staged, outgoing.as_deref())
            .await;
        match &committed {
            Ok(_) => {
                if staged.writes.keys().any(|name| is_timer(name)) {
                    self.scheduled.notify_one();
                }
                if let Some(firing) = &transaction.firing
                    && firing.partition != staged.partition
                {
                    self.take_away(transaction, firing).await;
                }
            }
            Err(CommitError::Conflict) => transaction.work.lock().lost = staged.seen,
            Err(_) => {}
        }
        committed.map(Some)
    }

    async fn commit_to(
        &self,
        transaction: &Transaction,
        staged: &Staged,
        outgoing: Option<&str>,
    ) -> Result<Done, CommitError> {
        let name = transaction.partition_name(&staged.partition);
        let mut _shared = None;
        if !self.locks.are_free() {
            // What others queue for is theirs: to commit it would undo the work of whose turn it is.
            if matches!(transaction.standing, Standing::First)
                && self
                    .locks
                    .is_queued_for(&name, staged.seen.iter().map(to_be_locked))
            {
                return Err(CommitError::Conflict);
            }
            if !transaction.is_alone_in(&staged.partition) {
                _shared = self.locks.share_commits(&name).await;
            }
        }
        let commit = Commit {
            partition: transaction.partition(&staged.partition),
            at_ms: transaction.at_ms,
            seen: &staged.seen,
            writes: &staged.writes,
            history: &staged.history,
            outgoing,
            owner: transaction.owner(),
        };
        let ticket = self.order.begin(&name);
        let committed = self.store.commit(commit).await?;
        ticket.committed(committed.place);
        self.meter.add(&transaction.plugin, committed.growth);
        Ok(Done {
            sent: self.sent.clone(),
            partition: name,
            place: committed.place,
            has_outgoing: outgoing.is_some(),
            ticket,
        })
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
                    let mut held = self.locks.add_commits(held).await;
                    let owner = held.losses.count(self, &name).await;
                    (Standing::Alone(partition, owner), held)
                } else {
                    // Given back before waiting: locks of two partitions have no order.
                    drop(held);
                    let read: BTreeSet<_> = lost.iter().map(to_be_locked).collect();
                    (Standing::Queued, self.locks.lock(&name, read).await)
                }
            }
        };
        let firing = failed.firing.clone();
        let next = self.transaction(&failed.plugin, failed.at_ms, standing, firing);
        (next, held)
    }
}

/// Takes what a transaction staged, with what becomes of its timer.
fn take_staged(transaction: &Transaction) -> Option<Staged> {
    let mut work = transaction.work.lock();
    if let (Some(firing), None) = (&transaction.firing, &work.written) {
        work.written = Some(firing.partition.clone());
    }
    let partition = work.written.clone()?;
    let mut seen = work.take_seen(&partition);
    let Work {
        writes, history, ..
    } = &mut *work;
    let (mut writes, history) = (std::mem::take(writes), std::mem::take(history));
    if let Some(firing) = &transaction.firing {
        if firing.partition == partition {
            seen.push(Seen::Key(timer_name(&firing.name), Some(firing.version)));
            // The handler may have scheduled it anew.
            let (name, removal) = firing.removal(transaction.at_ms);
            writes.entry(name).or_insert(removal);
        } else {
            let fired = fired_name(&firing.id());
            seen.push(Seen::Key(fired.clone(), None));
            let until = transaction.at_ms.saturating_add(FIRED_MS);
            writes.insert(fired, Write::Set(String::new(), Some(until)));
        }
    }
    Some(Staged {
        partition,
        seen,
        writes,
        history,
    })
}

fn is_timer(name: &str) -> bool {
    name.starts_with(crate::core::state::TIMER)
}

fn to_be_locked(seen: &Seen) -> Lockable {
    match seen {
        Seen::Key(key, _) => Lockable::Key(key.clone()),
        Seen::Range(..) => Lockable::Ranges,
    }
}
