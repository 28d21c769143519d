//! Random transactions on histories at the same time, compared with a history to which one handler at
//! a time does the same: every position is there once, in the order of the commits, every idempotency
//! key appends once, and what is not kept stays away.

use super::{DEADLINE, over, plugin, run};
use crate::{
    core::state::Retention,
    ports::{Fault, HistoryAccess, Page, StateStore},
    transactions::{Transaction, Transactions},
};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use std::sync::Arc;

/// One step of a transaction.
#[derive(Debug, Clone)]
enum Action {
    Append(Option<u8>),
    Newest(u32),
    After(u64, u32),
    Count,
    /// One of the newest entries gets another text, or none.
    Change {
        nth: usize,
        redact: bool,
    },
    Retain(Option<u64>),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        5 => option::of(0..4_u8).prop_map(Action::Append),
        2 => (1..6_u32).prop_map(Action::Newest),
        2 => (0..12_u64, 1..6_u32).prop_map(|(after, limit)| Action::After(after, limit)),
        1 => Just(Action::Count),
        2 => (0..4_usize, any::<bool>()).prop_map(|(nth, redact)| Action::Change { nth, redact }),
        1 => option::of(0..8_u64).prop_map(Action::Retain),
    ]
}

/// What a step saw.
#[derive(Debug, Clone, PartialEq)]
enum Sight {
    Appended(bool),
    Page(Vec<(u64, String)>),
    Counted(u64),
    Changed(Option<(u64, bool)>),
}

/// A text that no other step of any transaction writes.
fn text(id: usize, step: usize) -> String {
    (id * 100 + step).to_string()
}

async fn perform(
    transaction: &Transaction,
    partition: &str,
    id: usize,
    actions: &[Action],
) -> Result<Vec<Sight>, Fault> {
    let mut sights = Vec::new();
    let page = async |page, limit| transaction.page(partition, page, limit).await;
    for (step, action) in actions.iter().enumerate() {
        let sight = match action {
            Action::Append(key) => {
                let key = key.map(|key| key.to_string());
                let appended = transaction.append(partition, text(id, step), key.as_deref());
                Sight::Appended(appended.await?.is_new)
            }
            Action::Newest(limit) | Action::After(_, limit) => {
                let which = match action {
                    Action::After(after, _) => Page::After(Some(*after)),
                    _ => Page::Before(None),
                };
                let entries = page(which, *limit).await?;
                let shown = entries.into_iter().map(|one| (one.position, one.entry));
                Sight::Page(shown.collect())
            }
            Action::Count => Sight::Counted(transaction.count(partition).await?),
            Action::Change { nth, redact } => {
                let entries = page(Page::Before(None), 4).await?;
                let Some(one) = entries.get(*nth) else {
                    sights.push(Sight::Changed(None));
                    continue;
                };
                let to = (!redact).then(|| text(id, step));
                let changed = transaction.change(partition, &one.id, to).await?;
                Sight::Changed(Some((one.position, changed)))
            }
            Action::Retain(count) => {
                let (count, age_ms) = (*count, None);
                transaction.retain(partition, Retention { count, age_ms })?;
                continue;
            }
        };
        sights.push(sight);
        tokio::task::yield_now().await;
    }
    // So that each has a place in the order of the commits, and none is only read.
    transaction.append(partition, text(id, 99), None).await?;
    Ok(sights)
}

#[derive(Debug, Clone)]
struct Entry {
    position: u64,
    /// None once it is redacted.
    text: Option<String>,
    key: Option<u8>,
}

/// A history as it would be if there were only one handler at a time.
#[derive(Debug, Default)]
struct Model {
    committed: Vec<Entry>,
    staged: Vec<Entry>,
    first: u64,
    keep: Option<u64>,
}

impl Model {
    fn next(&self) -> u64 {
        self.committed.len() as u64 + 1
    }

    /// Returns the position of the oldest entry that is kept.
    fn first_kept(&self) -> u64 {
        let counted = self.keep.map_or(1, |keep| self.next().saturating_sub(keep));
        self.first.max(counted)
    }

    fn kept(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        let first = self.first_kept();
        let kept = self
            .committed
            .iter()
            .filter(move |one| one.position >= first);
        kept.chain(&self.staged)
    }

    fn append(&mut self, text: String, key: Option<u8>) -> bool {
        if key.is_some() && self.kept().any(|one| one.key == key) {
            return false;
        }
        let position = self.next() + self.staged.len() as u64;
        let text = Some(text);
        self.staged.push(Entry {
            position,
            text,
            key,
        });
        true
    }

    fn change(&mut self, position: u64, text: Option<String>) -> bool {
        let mut all = self.committed.iter_mut().chain(&mut self.staged);
        let Some(one) = all.find(|one| one.position == position && one.text.is_some()) else {
            return false;
        };
        one.text = text;
        true
    }

    fn perform(&mut self, id: usize, actions: &[Action]) -> Vec<Sight> {
        let shown = |one: &Entry| {
            let text = one.text.clone().unwrap_or_else(|| "null".to_owned());
            (one.position, text)
        };
        let mut sights = Vec::new();
        for (step, action) in actions.iter().enumerate() {
            sights.push(match action {
                Action::Append(key) => Sight::Appended(self.append(text(id, step), *key)),
                Action::Newest(limit) => {
                    Sight::Page(self.kept().rev().take(*limit as usize).map(shown).collect())
                }
                Action::After(after, limit) => {
                    let after = self.kept().filter(|one| one.position > *after);
                    Sight::Page(after.take(*limit as usize).map(shown).collect())
                }
                Action::Count => {
                    let count = self.kept().count() as u64;
                    Sight::Counted(count.min(self.keep.unwrap_or(u64::MAX)))
                }
                Action::Change { nth, redact } => {
                    let position = self.kept().rev().take(4).nth(*nth).map(|one| one.position);
                    let to = (!redact).then(|| text(id, step));
                    Sight::Changed(position.map(|at| (at, self.change(at, to))))
                }
                Action::Retain(count) => {
                    self.keep = *count;
                    continue;
                }
            });
        }
        self.append(text(id, 99), None);
        let staged = std::mem::take(&mut self.staged);
        self.committed.extend(staged);
        self.first = self.first_kept();
        sights
    }
}

async fn check(
    transactions: Arc<Transactions>,
    partition: Arc<str>,
    plans: Vec<Vec<Action>>,
) -> Result<(), TestCaseError> {
    let tasks: Vec<_> = plans
        .into_iter()
        .enumerate()
        .map(|(id, actions)| {
            let (transactions, partition) = (transactions.clone(), partition.clone());
            tokio::spawn(async move {
                let seen = parking_lot::Mutex::new(Vec::new());
                let (_, place) = run(&transactions, 1_000, |transaction| {
                    let (partition, actions, seen) = (&partition, &actions, &seen);
                    async move {
                        let sights = perform(&transaction, partition, id, actions).await?;
                        *seen.lock() = sights;
                        Ok(())
                    }
                })
                .await;
                (place.unwrap(), id, actions, seen.into_inner())
            })
        })
        .collect();
    let mut done = Vec::new();
    for task in tasks {
        let one = tokio::time::timeout(DEADLINE, task).await;
        done.push(one.expect("ends in time").unwrap());
    }
    done.sort_by_key(|(place, ..)| *place);
    let mut model = Model::default();
    for (place, id, actions, seen) in &done {
        let expected = model.perform(*id, actions);
        prop_assert_eq!(seen, &expected, "place {} of {:?}", place, done);
    }
    let whole = [
        Action::After(0, 1_000),
        Action::Newest(1_000),
        Action::Count,
    ];
    let last = transactions.begin(&plugin("p"), 1_000);
    let stored = perform(&last, &partition, 0, &whole).await.unwrap();
    prop_assert_eq!(stored, model.perform(0, &whole));
    Ok(())
}

pub(crate) async fn concurrent_histories_have_a_serial_order(store: Arc<dyn StateStore>) {
    let transactions = Arc::new(over(store));
    let round = std::cell::Cell::new(0);
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        cases: 64,
        ..Config::default()
    });
    let runtime = tokio::runtime::Handle::current();
    let tested = tokio::task::block_in_place(|| {
        runner.run(&vec(vec(action(), 0..6), 1..16), |plans| {
            round.set(round.get() + 1);
            let partition = format!("a {}", round.get());
            runtime.block_on(check(transactions.clone(), partition.into(), plans))
        })
    });
    tested.unwrap_or_else(|failure| panic!("{failure}"));
}
