//! Turns by key: whoever names the same key goes one after the other, in the order in which they
//! asked, and only so many may wait.

use dashmap::DashMap;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::{Mutex, OwnedMutexGuard};

#[derive(Default)]
struct Queue {
    asked: AtomicUsize,
    lock: Arc<Mutex<()>>,
}

/// The queues of all keys that somebody waits for.
pub struct Turns {
    queues: DashMap<String, Arc<Queue>>,
    bound: usize,
}

/// Too many wait for this key already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyWaiting;

/// Somebody's turn; the next one's begins when it is dropped.
pub struct Turn<'a> {
    turns: &'a Turns,
    key: String,
    queue: Arc<Queue>,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Returns no queues, each of which will hold `bound`.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self {
            queues: DashMap::new(),
            bound,
        }
    }

    /// Returns when it is the caller's turn.
    ///
    /// # Errors
    /// At once, when too many wait for this key.
    pub async fn wait(&self, key: &str) -> Result<Turn<'_>, TooManyWaiting> {
        let queue = {
            let queue = self.queues.entry(key.to_owned()).or_default();
            if queue.asked.fetch_add(1, Ordering::AcqRel) >= self.bound {
                queue.asked.fetch_sub(1, Ordering::AcqRel);
                return Err(TooManyWaiting);
            }
            queue.clone()
        };
        // Made before waiting, so that giving up is counted as well.
        let mut turn = Turn {
            turns: self,
            key: key.to_owned(),
            queue,
            guard: None,
        };
        turn.guard = Some(turn.queue.lock.clone().lock_owned().await);
        Ok(turn)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.guard.take();
        self.queue.asked.fetch_sub(1, Ordering::AcqRel);
        self.turns.queues.remove_if(&self.key, |_, queue| {
            queue.asked.load(Ordering::Acquire) == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, future::join_all};

    #[tokio::test]
    async fn one_key_is_served_in_order_and_leaves_nothing() {
        let turns = Turns::new(100);
        let served = Mutex::new(Vec::new());
        join_all((0..50).map(|number| {
            let (turns, served) = (&turns, &served);
            async move {
                let _turn = turns.wait("a").await.unwrap();
                tokio::task::yield_now().await;
                served.lock().await.push(number);
            }
        }))
        .await;
        assert_eq!(served.into_inner(), (0..50).collect::<Vec<_>>());
        assert!(turns.queues.is_empty());
    }

    #[tokio::test]
    async fn too_many_are_sent_away_and_other_keys_are_free() {
        let turns = Turns::new(2);
        let first = turns.wait("a").await.unwrap();
        let mut second = Box::pin(turns.wait("a"));
        assert!((&mut second).now_or_never().is_none());
        assert!(turns.wait("a").await.is_err());
        assert!(turns.wait("b").await.is_ok());
        drop(second);
        drop(first);
        assert!(turns.wait("a").await.is_ok());
        assert!(turns.queues.is_empty());
    }
}
