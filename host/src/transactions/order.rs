//! The order of effects: those of one partition's commits leave this host in the order in which they
//! were committed.

use super::locks::PartitionName;
use dashmap::DashMap;
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::Notify;

/// The commits of one partition that are under way, or whose effects are.
#[derive(Default)]
struct Line {
    commits: Mutex<Commits>,
    changed: Notify,
}

#[derive(Default)]
struct Commits {
    begun: u64,
    /// By the number of their beginning: the place, and how many had begun by when it was known.
    /// None while it is not known.
    known: BTreeMap<u64, Option<(u64, u64)>>,
}

/// All partitions with commits under way; none of the others takes any memory.
#[derive(Default)]
pub(super) struct Order(Arc<DashMap<PartitionName, Arc<Line>>>);

/// One commit, from before it is begun until its effects are done, which is when this is dropped.
pub(super) struct Ticket {
    lines: Arc<DashMap<PartitionName, Arc<Line>>>,
    partition: PartitionName,
    line: Arc<Line>,
    number: u64,
}

impl Order {
    pub(super) fn begin(&self, partition: &PartitionName) -> Ticket {
        let entry = self.0.entry(partition.clone()).or_default();
        let line = entry.value().clone();
        // Under the entry's lock, so that the line is not forgotten in between.
        let number = {
            let mut commits = line.commits.lock();
            let number = commits.begun;
            commits.begun += 1;
            commits.known.insert(number, None);
            number
        };
        drop(entry);
        Ticket {
            lines: self.0.clone(),
            partition: partition.clone(),
            line,
            number,
        }
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Ticket {
    /// Takes note of the commit's place.
    pub(super) fn committed(&self, place: u64) {
        {
            let mut commits = self.line.commits.lock();
            let begun = commits.begun;
            commits.known.insert(self.number, Some((place, begun)));
        }
        self.line.changed.notify_waiters();
    }

    /// Waits until nobody is before a place.
    pub(super) async fn turn(&self, place: u64) {
        loop {
            let changed = self.line.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_first(place) {
                return;
            }
            changed.await;
        }
    }

    fn is_first(&self, place: u64) -> bool {
        let commits = self.line.commits.lock();
        if commits.known.len() == 1 {
            return true;
        }
        let horizon = match commits.known.get(&self.number) {
            Some(Some((_, begun))) => *begun,
            _ => commits.begun,
        };
        // What began after this one was committed was committed after it.
        commits
            .known
            .range(..horizon)
            .all(|(number, known)| match known {
                _ if *number == self.number => true,
                None => false,
                Some((other, _)) => *other > place,
            })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let is_last = {
            let mut commits = self.line.commits.lock();
            commits.known.remove(&self.number);
            commits.known.is_empty()
        };
        self.line.changed.notify_waiters();
        if is_last {
            self.lines.remove_if(&self.partition, |_, line| {
                line.commits.lock().known.is_empty()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::names::PluginName;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn effects_follow_each_other_in_the_order_of_the_commits() {
        let order = Order::default();
        let name = PartitionName {
            plugin: PluginName::new("p").unwrap(),
            name: "a".to_owned(),
        };
        let (slow, fast) = (order.begin(&name), order.begin(&name));
        fast.committed(7);
        assert!(
            fast.turn(7).now_or_never().is_none(),
            "the other may be before"
        );
        slow.committed(9);
        assert!(fast.turn(7).now_or_never().is_some());
        assert!(slow.turn(9).now_or_never().is_none());
        let late = order.begin(&name);
        drop(fast);
        // One that began after it was committed is behind it.
        assert!(slow.turn(9).now_or_never().is_some());
        late.committed(10);
        assert!(late.turn(10).now_or_never().is_none());
        drop(slow);
        assert!(late.turn(10).now_or_never().is_some());
        // One that comes to nothing holds nobody up.
        let (failed, last) = (order.begin(&name), order.begin(&name));
        drop(late);
        last.committed(11);
        assert!(last.turn(11).now_or_never().is_none());
        drop(failed);
        assert!(last.turn(11).now_or_never().is_some());
        drop(last);
        assert!(order.is_empty());
    }
}
