//! A partition that a handler has for itself among all hosts, once it has lost often enough.

use super::{Transactions, locks::PartitionName};
use crate::ports::{Owner, StateStore};
use rand::Rng;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How often a run that was alone in this host may lose before others have to wait for it. They win by
/// turns before that, which costs nobody anything.
const LOST: u32 = 8;
/// How long it is tried to get a partition, and the longest pause between two attempts.
const PATIENCE: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(20);

/// Given up when it is dropped.
pub(super) struct Reservation {
    store: Arc<dyn StateStore>,
    partition: PartitionName,
    owner: Owner,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.store.give_up(self.partition.borrow(), self.owner);
    }
}

/// What a handler does about runs that others have undone.
#[derive(Default)]
pub(super) struct Losses {
    lost: u32,
    reservation: Option<Reservation>,
}

impl Losses {
    /// Counts one more; returns who commits next, where the partition is his alone.
    pub(super) async fn count(
        &mut self,
        transactions: &Transactions,
        partition: &PartitionName,
    ) -> Option<Owner> {
        self.lost += 1;
        if self.lost <= LOST {
            return None;
        }
        let reservation = self.reservation.get_or_insert_with(|| Reservation {
            store: transactions.store.clone(),
            partition: partition.clone(),
            owner: rand::random(),
        });
        let end = Instant::now() + PATIENCE;
        loop {
            let reserved = transactions
                .store
                .reserve(partition.borrow(), reservation.owner);
            match reserved.await {
                Ok(true) => return Some(reservation.owner),
                Ok(false) if Instant::now() < end => {
                    let pause = rand::rng().random_range(PAUSE / 20..PAUSE);
                    tokio::time::sleep(pause).await;
                }
                // The commit says what is wrong with the store.
                Ok(false) | Err(_) => return None,
            }
        }
    }
}
