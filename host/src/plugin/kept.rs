//! Instances that are kept for the next event. A thread finds those again that it used last: their
//! memory is in its core's cache, and threads do not wait for each other.

use crate::core::shards::Shards;
use parking_lot::Mutex;

/// See the module's page.
pub(super) struct Kept<T> {
    shelves: Shards<Mutex<Vec<T>>>,
    /// How many a shelf holds.
    depth: usize,
}

impl<T> Kept<T> {
    /// Returns shelves that hold about so many together.
    pub(super) fn new(instances: usize) -> Self {
        let shelves = Shards::at_most(instances);
        Self {
            depth: instances.div_ceil(shelves.number()),
            shelves,
        }
    }

    /// Returns the one that this thread kept last, or else one that another thread did.
    pub(super) fn take(&self) -> Option<T> {
        self.shelves
            .own_first()
            .find_map(|shelf| shelf.lock().pop())
    }

    /// Keeps one, unless this thread keeps as many as it may.
    pub(super) fn put_back(&self, one: T) {
        let mut shelf = self.shelves.own().lock();
        if shelf.len() < self.depth {
            shelf.push(one);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_thread_kept_another_finds() {
        let kept = Kept::new(4);
        kept.put_back(1);
        kept.put_back(2);
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| kept.take()).join().unwrap();
            assert_eq!(taken, Some(2));
        });
        assert_eq!(kept.take(), Some(1));
        assert_eq!(kept.take(), None);
    }

    #[test]
    fn one_thread_keeps_its_share() {
        let kept = Kept::new(1);
        kept.put_back(1);
        kept.put_back(2);
        assert_eq!((kept.take(), kept.take()), (Some(1), None));
    }
}
