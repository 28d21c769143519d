//! Random transactions at the same time: replayed one after the other in the order of their commits,
//! each sees what it saw. So no update is lost, no phantom is met, and nothing is mistaken for what
//! it was before.

use super::{DEADLINE, over, plugin, run};
use crate::{
    ports::{Fault, KvAccess, StateStore},
    transactions::{Transaction, Transactions},
};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use std::{collections::BTreeMap, sync::Arc};

/// One step of a transaction.
#[derive(Debug, Clone)]
enum Action {
    Get(String),
    /// In the partition that is not written: seen by nobody's check.
    GetBeside(String),
    List {
        prefix: &'static str,
        after: Option<String>,
        limit: u32,
    },
    Set(String, Option<u64>),
    Delete(String),
    Add(String, i64),
}

/// One transaction.
#[derive(Debug, Clone)]
struct Plan {
    partition: usize,
    at_ms: u64,
    actions: Vec<Action>,
    /// Whether the handler fails in the end, so that nothing of it may be seen.
    fails: bool,
}

/// What a step saw.
#[derive(Debug, Clone, PartialEq)]
enum Sight {
    Value(Option<String>),
    Page(Vec<(String, String)>),
}

/// Every key holds a number, so that each can be added to.
fn key() -> impl Strategy<Value = String> {
    (0..2_u8, 0..3_u8).prop_map(|(group, key)| format!("k{group}{key}"))
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => key().prop_map(Action::Get),
        1 => key().prop_map(Action::GetBeside),
        2 => (
            prop_oneof![Just(""), Just("k"), Just("k0"), Just("k1")],
            option::of(key()),
            1..4_u32,
        )
            .prop_map(|(prefix, after, limit)| Action::List { prefix, after, limit }),
        2 => (key(), option::of(1..60_u64)).prop_map(|(key, ttl_ms)| Action::Set(key, ttl_ms)),
        1 => key().prop_map(Action::Delete),
        2 => (key(), 1..9_i64).prop_map(|(key, delta)| Action::Add(key, delta)),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    (
        0..2_usize,
        1_000..1_060_u64,
        vec(action(), 1..7),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(partition, at_ms, actions, fails)| Plan {
            partition,
            at_ms,
            actions,
            fails,
        })
}

/// What a transaction sets at a step: a number that no other sets, nor comes to by adding.
fn number(id: usize, step: usize) -> String {
    ((id + 1) * 1_000_000 + step * 10_000).to_string()
}

/// Counted by every transaction, so that each writes and has a place in the order of its partition.
const COMMITS: &str = "zcommits";

async fn perform(
    transaction: &Transaction,
    partitions: &[String; 2],
    id: usize,
    plan: &Plan,
) -> Result<Vec<Sight>, Fault> {
    let partition = &partitions[plan.partition];
    let mut sights = Vec::new();
    for (step, action) in plan.actions.iter().enumerate() {
        match action {
            Action::Get(key) => {
                sights.push(Sight::Value(transaction.get(partition, key).await?));
            }
            Action::GetBeside(key) => {
                transaction
                    .get(&partitions[1 - plan.partition], key)
                    .await?;
            }
            Action::List {
                prefix,
                after,
                limit,
            } => sights.push(Sight::Page(
                transaction
                    .list(partition, prefix, after.as_deref(), *limit)
                    .await?,
            )),
            Action::Set(key, ttl_ms) => {
                transaction.set(partition, key, number(id, step), *ttl_ms)?;
            }
            Action::Delete(key) => transaction.delete(partition, key)?,
            Action::Add(key, delta) => transaction.add(partition, key, *delta)?,
        }
        tokio::task::yield_now().await;
    }
    transaction.add(partition, COMMITS, 1)?;
    Ok(sights)
}

/// A partition as it would be if there were only one handler at a time.
#[derive(Default)]
struct Model(BTreeMap<String, (i64, Option<u64>)>);

impl Model {
    fn live(&self, at_ms: u64) -> impl Iterator<Item = (String, String)> {
        self.0
            .iter()
            .filter(move |(_, (_, expires_at))| expires_at.is_none_or(|at| at > at_ms))
            .map(|(key, (value, _))| (key.clone(), value.to_string()))
    }

    fn add(&mut self, key: &str, delta: i64, at_ms: u64) {
        let before = self.0.get(key).copied();
        let live = before.filter(|(_, expires_at)| expires_at.is_none_or(|at| at > at_ms));
        let (value, expires_at) = live.unwrap_or((0, None));
        self.0.insert(key.to_owned(), (value + delta, expires_at));
    }

    fn perform(&mut self, id: usize, plan: &Plan) -> Vec<Sight> {
        let mut sights = Vec::new();
        let at_ms = plan.at_ms;
        for (step, action) in plan.actions.iter().enumerate() {
            match action {
                Action::Get(key) => {
                    let found = self.live(at_ms).find(|(live, _)| live == key);
                    sights.push(Sight::Value(found.map(|(_, value)| value)));
                }
                Action::GetBeside(_) => {}
                Action::List {
                    prefix,
                    after,
                    limit,
                } => {
                    let page = self
                        .live(at_ms)
                        .filter(|(key, _)| key.starts_with(prefix))
                        .filter(|(key, _)| after.as_ref().is_none_or(|after| key > after))
                        .take(*limit as usize);
                    sights.push(Sight::Page(page.collect()));
                }
                Action::Set(key, ttl_ms) => {
                    let value = number(id, step).parse().unwrap();
                    let expires_at = ttl_ms.map(|ttl_ms| at_ms + ttl_ms);
                    self.0.insert(key.clone(), (value, expires_at));
                }
                Action::Delete(key) => {
                    self.0.remove(key);
                }
                Action::Add(key, delta) => self.add(key, *delta, at_ms),
            }
        }
        self.add(COMMITS, 1, at_ms);
        sights
    }
}

/// Runs transactions at the same time and compares them with the model.
async fn check(
    transactions: Arc<Transactions>,
    partitions: Arc<[String; 2]>,
    plans: Vec<Plan>,
) -> Result<(), TestCaseError> {
    let tasks: Vec<_> = plans
        .into_iter()
        .enumerate()
        .map(|(id, plan)| {
            let (transactions, partitions) = (transactions.clone(), partitions.clone());
            tokio::spawn(async move {
                if plan.fails {
                    let failing = transactions.begin(&plugin("p"), plan.at_ms);
                    perform(&failing, &partitions, id, &plan).await.unwrap();
                    return None;
                }
                let seen = parking_lot::Mutex::new(Vec::new());
                let (_, place) = run(&transactions, plan.at_ms, |transaction| {
                    let (partitions, plan, seen) = (&partitions, &plan, &seen);
                    async move {
                        let sights = perform(&transaction, partitions, id, plan).await?;
                        *seen.lock() = sights;
                        Ok(())
                    }
                })
                .await;
                Some((place.unwrap(), id, plan, seen.into_inner()))
            })
        })
        .collect();
    let mut done = Vec::new();
    for task in tasks {
        let one = tokio::time::timeout(DEADLINE, task).await;
        done.extend(one.expect("ends in time").unwrap());
    }
    done.sort_by_key(|(place, ..)| *place);
    let mut models = [Model::default(), Model::default()];
    for (place, id, plan, seen) in &done {
        let expected = models[plan.partition].perform(*id, plan);
        prop_assert_eq!(seen, &expected, "place {} of {:?}", place, done);
    }
    for (partition, model) in partitions.iter().zip(&models) {
        for at_ms in [1_000, 1_050, 2_000] {
            let last = transactions.begin(&plugin("p"), at_ms);
            let stored = last.list(partition, "", None, 1_000).await.unwrap();
            prop_assert_eq!(stored, model.live(at_ms).collect::<Vec<_>>());
        }
    }
    Ok(())
}

pub(crate) async fn concurrent_transactions_have_a_serial_order(store: Arc<dyn StateStore>) {
    let transactions = Arc::new(over(store));
    let round = std::cell::Cell::new(0);
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::default()
    });
    let runtime = tokio::runtime::Handle::current();
    let tested = tokio::task::block_in_place(|| {
        runner.run(&vec(plan(), 1..24), |plans| {
            round.set(round.get() + 1);
            let partitions = ["a", "b"].map(|name| format!("{name} {}", round.get()));
            runtime.block_on(check(transactions.clone(), Arc::new(partitions), plans))
        })
    });
    tested.unwrap_or_else(|failure| panic!("{failure}"));
}
