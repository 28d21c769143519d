//! What is divided among the threads that run at once, so that none waits for another's cache line.

use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One of something for each of so many threads. Threads beyond that number share.
#[derive(Debug)]
pub struct Shards<T>(Box<[CachePadded<T>]>);

impl<T: Default> Shards<T> {
    /// Returns one for each core, at most so many.
    #[must_use]
    pub fn at_most(number: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let number = cores.clamp(1, number.max(1));
        Self((0..number).map(|_| CachePadded::default()).collect())
    }
}

impl<T> Shards<T> {
    /// Returns how many there are.
    #[must_use]
    pub fn number(&self) -> usize {
        self.0.len()
    }

    /// Returns this thread's own.
    #[must_use]
    pub fn own(&self) -> &T {
        #[allow(clippy::indexing_slicing)] // There is at least one, and the place is within.
        &self.0[self.place()]
    }

    /// Returns all of them, this thread's own first.
    pub fn own_first(&self) -> impl Iterator<Item = &T> {
        let (before, from_own) = self.0.split_at(self.place());
        from_own.iter().chain(before).map(|shard| &**shard)
    }

    fn place(&self) -> usize {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        let thread = THREAD.with(|thread| *thread);
        // A division takes longer than what most shards are for, and the first threads need none.
        match thread < self.0.len() {
            true => thread,
            false => thread % self.0.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_finds_its_own_again_and_all_others_after_it() {
        let shards: Shards<AtomicUsize> = Shards::at_most(64);
        shards.own().fetch_add(1, Ordering::Relaxed);
        let values: Vec<_> = shards
            .own_first()
            .map(|shard| shard.load(Ordering::Relaxed))
            .collect();
        assert_eq!(values.len(), shards.number());
        assert_eq!(values.first(), Some(&1));
        assert_eq!(values.iter().sum::<usize>(), 1);
        assert_eq!(Shards::<u8>::at_most(0).number(), 1);
    }
}
