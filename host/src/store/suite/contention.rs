//! Many at once: nothing is lost, nobody starves, and nobody blocks for ever.

use super::{DEADLINE, begin, commit, over, put, run, value};
use crate::{
    ports::{CommitError, Fault, KvAccess, StateStore},
    transactions::{Held, Transaction},
};
use futures_util::FutureExt;
use std::{sync::Arc, time::Duration};

pub(crate) async fn naive_increments_of_one_key_end_exact(store: Arc<dyn StateStore>) {
    let transactions = Arc::new(over(store));
    let writers: Vec<_> = (0..100)
        .map(|_| {
            let transactions = transactions.clone();
            tokio::spawn(async move {
                let mut most = 0;
                for _ in 0..100 {
                    let (runs, _) = run(&transactions, 1_000, |transaction| async move {
                        let count: u64 = transaction
                            .get("a", "n")
                            .await?
                            .map_or(0, |text| text.parse().unwrap());
                        tokio::task::yield_now().await;
                        transaction.set("a", "n", (count + 1).to_string(), None)
                    })
                    .await;
                    most = most.max(runs);
                }
                most
            })
        })
        .collect();
    let all = async {
        let mut most = 0;
        for writer in writers {
            most = most.max(writer.await.unwrap());
        }
        most
    };
    let most = tokio::time::timeout(DEADLINE, all)
        .await
        .expect("ends in time");
    assert_eq!(value(&transactions, "n").await.as_deref(), Some("10000"));
    assert!(most <= 5, "one event took {most} runs");
}

pub(crate) async fn handlers_that_read_different_keys_each_time_do_not_block_each_other(
    store: Arc<dyn StateStore>,
) {
    let transactions = Arc::new(over(store));
    let writers: Vec<_> = (0..16_u64)
        .map(|seed| {
            let transactions = transactions.clone();
            tokio::spawn(async move {
                let drawn = std::sync::atomic::AtomicU64::new(seed);
                for _ in 0..100 {
                    run(&transactions, 1_000, |transaction| {
                        // Other keys, in another order, in each run.
                        let number = drawn.fetch_add(7, std::sync::atomic::Ordering::Relaxed);
                        async move {
                            for key in [number % 5, (number / 5) % 5] {
                                let key = key.to_string();
                                let count: u64 = transaction
                                    .get("a", &key)
                                    .await?
                                    .map_or(0, |text| text.parse().unwrap());
                                tokio::task::yield_now().await;
                                transaction.set("a", &key, (count + 1).to_string(), None)?;
                            }
                            Ok(())
                        }
                    })
                    .await;
                }
            })
        })
        .collect();
    let all = async {
        for writer in writers {
            writer.await.unwrap();
        }
    };
    tokio::time::timeout(DEADLINE, all)
        .await
        .expect("nobody waits for ever");
    let mut sum = 0;
    for key in 0..5 {
        sum += value(&transactions, &key.to_string())
            .await
            .map_or(0, |text| text.parse().unwrap());
    }
    assert_eq!(sum, 16 * 100 * 2);
}

/// Runs a handler; each time that it has read, somebody else commits a write that reads nothing, if
/// the host lets it within a while. Returns how often the handler was run.
async fn beside_a_writer(
    store: Arc<dyn StateStore>,
    read: impl AsyncFn(&Transaction) -> Result<(), Fault>,
    write: fn(&Transaction) -> Result<(), Fault>,
) -> u32 {
    let transactions = Arc::new(over(store));
    let writers = parking_lot::Mutex::new(Vec::new());
    let (runs, _) = run(&transactions, 1_000, |transaction| {
        let (transactions, writers, read) = (transactions.clone(), &writers, &read);
        async move {
            read(&transaction).await?;
            let mut writer = tokio::spawn(async move {
                let writing = begin(&transactions);
                write(&writing).unwrap();
                commit(&transactions, &writing).await.unwrap();
            });
            // Real time, since another thread does it; passed only when the writer has to wait.
            if tokio::time::timeout(Duration::from_millis(200), &mut writer)
                .await
                .is_err()
            {
                writers.lock().push(writer);
            }
            transaction.set("a", "copy", "1".to_owned(), None)
        }
    })
    .await;
    for writer in writers.into_inner() {
        tokio::time::timeout(DEADLINE, writer)
            .await
            .expect("a writer waits until the handler has committed, no longer")
            .unwrap();
    }
    runs
}

pub(crate) async fn writers_that_read_nothing_cannot_starve_a_reader(store: Arc<dyn StateStore>) {
    let runs = beside_a_writer(
        store,
        async |transaction| transaction.get("a", "n").await.map(drop),
        |transaction| transaction.add("a", "n", 1),
    )
    .await;
    assert_eq!(runs, 3);
}

pub(crate) async fn writers_into_a_range_cannot_starve_who_lists_it(store: Arc<dyn StateStore>) {
    let runs = beside_a_writer(
        store,
        async |transaction| transaction.list("a", "m:", None, 100).await.map(drop),
        |transaction| transaction.set("a", "m:1", "x".to_owned(), None),
    )
    .await;
    assert_eq!(runs, 3);
}

pub(crate) async fn reading_never_fails_because_others_queue(store: Arc<dyn StateStore>) {
    let transactions = over(store);
    let failed = begin(&transactions);
    failed.get("a", "x").await.unwrap();
    failed.set("a", "x", "1".to_owned(), None).unwrap();
    put(&transactions, "x", "0").await;
    assert_eq!(
        commit(&transactions, &failed).await,
        Err(CommitError::Conflict)
    );
    let (next, held) = transactions.again(&failed, Held::default()).await;
    let reader = begin(&transactions);
    assert_eq!(reader.get("a", "x").await, Ok(Some("0".to_owned())));
    assert_eq!(commit(&transactions, &reader).await, Ok(None));
    // Who read it in another partition than it writes does not wait either.
    let beside = begin(&transactions);
    beside.get("a", "x").await.unwrap();
    beside.set("b", "x", "1".to_owned(), None).unwrap();
    assert!(commit(&transactions, &beside).await.is_ok());
    // Who would write goes behind.
    let writer = begin(&transactions);
    writer.get("a", "x").await.unwrap();
    writer.set("a", "x", "2".to_owned(), None).unwrap();
    assert_eq!(
        commit(&transactions, &writer).await,
        Err(CommitError::Conflict)
    );
    let mut behind = Box::pin(transactions.again(&writer, Held::default()));
    assert!((&mut behind).now_or_never().is_none());
    next.get("a", "x").await.unwrap();
    next.set("a", "x", "1".to_owned(), None).unwrap();
    assert!(commit(&transactions, &next).await.is_ok());
    drop(held);
    let (writer, _held) = behind.await;
    assert_eq!(writer.get("a", "x").await.unwrap().as_deref(), Some("1"));
    writer.set("a", "x", "2".to_owned(), None).unwrap();
    assert!(commit(&transactions, &writer).await.is_ok());
}

/// Handlers that are given up while they wait or hold, as by a client that is gone, leave no queue.
pub(crate) async fn queues_leave_nothing_behind(store: Arc<dyn StateStore>) {
    let transactions = Arc::new(over(store));
    let conflicting = async || {
        let failed = begin(&transactions);
        failed.get("a", "x").await.unwrap();
        failed.set("a", "x", "1".to_owned(), None).unwrap();
        put(&transactions, "x", "0").await;
        assert_eq!(
            commit(&transactions, &failed).await,
            Err(CommitError::Conflict)
        );
        failed
    };
    let (first, second) = (conflicting().await, conflicting().await);
    let (_, held) = transactions.again(&first, Held::default()).await;
    let mut waiting = Box::pin(transactions.again(&second, Held::default()));
    assert!((&mut waiting).now_or_never().is_none());
    drop(waiting);
    let next = transactions.again(&first, held).await;
    assert!(!transactions.are_idle());
    drop(next);
    assert!(transactions.are_idle());
}
