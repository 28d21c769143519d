//! The suite that every backend of `StateStore` passes: what "handlers are transactions" promises,
//! each sentence with a test that would catch the naive version.

use crate::{
    core::names::PluginName,
    ports::{CommitError, Fault, KvTransaction, StateStore},
    transactions::{Transaction, Transactions},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Generates the suite's tests for the store that an expression makes.
macro_rules! suite {
    ($store:expr) => {
        mod suite {
            use $crate::store::suite as cases;

            macro_rules! case {
                ($name:ident) => {
                    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                    async fn $name() {
                        cases::$name(std::sync::Arc::new($store)).await;
                    }
                };
            }
            case!(a_handler_sees_its_own_writes_and_others_only_when_committed);
            case!(a_change_of_what_was_read_is_a_conflict);
            case!(a_key_that_came_to_be_is_a_conflict);
            case!(the_same_value_written_again_is_a_conflict);
            case!(a_key_that_came_into_a_listed_range_is_a_conflict);
            case!(only_the_written_partition_is_checked);
            case!(a_transaction_writes_one_partition);
            case!(a_plugin_sees_only_its_own);
            case!(expiry_is_judged_by_the_events_time);
            case!(adding_never_conflicts_and_fails_as_a_whole);
            case!(pages_merge_what_is_staged);
            case!(limits_are_told_apart);
            case!(naive_increments_of_one_key_end_exact);
            case!(handlers_that_read_different_keys_each_time_do_not_block_each_other);
            case!(concurrent_transactions_have_a_serial_order);

            #[test]
            fn state_versions_are_remembered() {
                cases::state_versions_are_remembered(&$store);
            }
        }
    };
}
pub(crate) use suite;

/// Long enough for anything here; a test that waits for it has failed.
const DEADLINE: Duration = Duration::from_secs(60);

fn plugin(name: &str) -> PluginName {
    PluginName::new(name).unwrap()
}

fn over(store: Arc<dyn StateStore>) -> Transactions {
    Transactions::new(store)
}

fn begin(transactions: &Transactions) -> Arc<Transaction> {
    transactions.begin(&plugin("p"), 1_000)
}

async fn put(transactions: &Transactions, key: &str, value: &str) {
    let transaction = begin(transactions);
    transaction.set("a", key, value.to_owned(), None).unwrap();
    transactions.commit(&transaction).await.unwrap();
}

async fn value(transactions: &Transactions, key: &str) -> Option<String> {
    begin(transactions).get("a", key).await.unwrap()
}

async fn keys(
    transaction: &Transaction,
    prefix: &str,
    after: Option<&str>,
    limit: u32,
) -> Vec<String> {
    let page = transaction.list("a", prefix, after, limit).await.unwrap();
    page.into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}

pub(crate) fn state_versions_are_remembered(store: &dyn StateStore) {
    assert_eq!(store.stored(&plugin("p")), None);
    store.record(&plugin("p"), 3);
    assert_eq!(store.stored(&plugin("p")), Some(3));
    assert_eq!(store.stored(&plugin("q")), None);
}

pub(crate) async fn a_handler_sees_its_own_writes_and_others_only_when_committed(
    store: Arc<dyn StateStore>,
) {
    let transactions = over(store);
    let writer = begin(&transactions);
    writer.set("a", "x", "1".to_owned(), None).unwrap();
    assert_eq!(writer.get("a", "x").await.unwrap().as_deref(), Some("1"));
    assert_eq!(value(&transactions, "x").await, None);
    transactions.commit(&writer).await.unwrap();
    assert_eq!(value(&transactions, "x").await.as_deref(), Some("1"));
    let deleter = begin(&transactions);
    deleter.delete("a", "x").unwrap();
    assert_eq!(deleter.get("a", "x").await.unwrap(), None);
    // Dropped without a commit, as after a failure: nothing of it remains.
    drop(deleter);
    assert_eq!(value(&transactions, "x").await.as_deref(), Some("1"));
}

pub(crate) async fn a_change_of_what_was_read_is_a_conflict(store: Arc<dyn StateStore>) {
    let transactions = over(store);
    put(&transactions, "x", "1").await;
    let slow = begin(&transactions);
    assert_eq!(slow.get("a", "x").await.unwrap().as_deref(), Some("1"));
    put(&transactions, "x", "2").await;
    // The same again within one run, whatever others do.
    assert_eq!(slow.get("a", "x").await.unwrap().as_deref(), Some("1"));
    slow.set("a", "y", "from 1".to_owned(), None).unwrap();
    assert_eq!(transactions.commit(&slow).await, Err(CommitError::Conflict));
    assert_eq!(value(&transactions, "y").await, None);
    // A blind write conflicts with nobody.
    let blind = begin(&transactions);
    blind.set("a", "x", "3".to_owned(), None).unwrap();
    put(&transactions, "x", "4").await;
    assert!(transactions.commit(&blind).await.is_ok());
}

pub(crate) async fn a_key_that_came_to_be_is_a_conflict(store: Arc<dyn StateStore>) {
    let transactions = over(store);
    let first = begin(&transactions);
    assert_eq!(first.get("a", "owner").await.unwrap(), None);
    put(&transactions, "owner", "ben").await;
    first.set("a", "owner", "ann".to_owned(), None).unwrap();
    assert_eq!(
        transactions.commit(&first).await,
        Err(CommitError::Conflict)
    );
    assert_eq!(value(&transactions, "owner").await.as_deref(), Some("ben"));
}

pub(crate) async fn the_same_value_written_again_is_a_conflict(store: Arc<dyn StateStore>) {
    let transactions = over(store);
    put(&transactions, "x", "1").await;
    let slow = begin(&transactions);
    slow.get("a", "x").await.unwrap();
    // The partition is emptied, and begins anew with the same content.
    let deleter = begin(&transactions);
    deleter.delete("a", "x").unwrap();
    transactions.commit(&deleter).await.unwrap();
    put(&transactions, "x", "1").await;
    slow.set("a", "y", "1".to_owned(), None).unwrap();
    assert_eq!(transactions.commit(&slow).await, Err(CommitError::Conflict));
}

pub(crate) async fn a_key_that_came_into_a_listed_range_is_a_conflict(store: Arc<dyn StateStore>) {
    let transactions = over(store);
    put(&transactions, "m:1", "").await;
    let counter = begin(&transactions);
    let count = counter.list("a", "m:", None, 10).await.unwrap().len();
    put(&transactions, "m:2", "").await;
    counter.set("a", "count", count.to_string(), None).unwrap();
    assert_eq!(
        transactions.commit(&counter).await,
        Err(CommitError::Conflict)
    );
    // A key beside the range, or behind the end of a full page, changes nothing that was read.
    let counter = begin(&transactions);
    assert_eq!(counter.list("a", "m:", None, 1).await.unwrap().len(), 1);
    put(&transactions, "m:3", "").await;
    put(&transactions, "n:1", "").await;
    counter.set("a", "count", "1".to_owned(), None).unwrap();
    assert!(transactions.commit(&counter).await.is_ok());
}

pub(crate) async fn only_the_written_partition_is_checked(store: Arc<dyn StateStore>) {
    let transactions = over(store);
    let writer = begin(&transactions);
    assert_eq!(writer.get("other", "x").await.unwrap(), None);
    let other = begin(&transactions);
    other.set("other", "x", "1".to_owned(), None).unwrap();
    transactions.commit(&other).await.unwrap();
    writer.set("a", "y", "1".to_owned(), None).unwrap();
    assert!(transactions.commit(&writer).await.is_ok());
    // A handler that only reads has nothing that could conflict.
    let reader = begin(&transactions);
    reader.get("a", "y").await.unwrap();
    put(&transactions, "y", "2").await;
    assert_eq!(transactions.commit(&reader).await, Ok(None));
}

pub(crate) async fn a_transaction_writes_one_partition(store: Arc<dyn StateStore>) {
    let transactions = over(store);
    let writer = begin(&transactions);
    writer.set("a", "x", "1".to_owned(), None).unwrap();
    for refused in [
        writer.set("b", "x", "1".to_owned(), None),
        writer.delete("b", "x"),
        writer.add("b", "x", 1),
    ] {
        let fault = refused.unwrap_err();
        assert!(
            fault.code == "INVALID" && fault.message.contains("`a`"),
            "{fault}"
        );
    }
    assert!(transactions.commit(&writer).await.is_ok());
}

pub(crate) async fn a_plugin_sees_only_its_own(store: Arc<dyn StateStore>) {
    let transactions = over(store);
    put(&transactions, "x", "1").await;
    let other = transactions.begin(&plugin("q"), 1_000);
    assert_eq!(other.get("a", "x").await.unwrap(), None);
    assert!(keys(&other, "", None, 10).await.is_empty());
}

pub(crate) async fn expiry_is_judged_by_the_events_time(store: Arc<dyn StateStore>) {
    let transactions = over(store);
    let at = |at_ms| transactions.begin(&plugin("p"), at_ms);
    let writer = at(1_000);
    writer.set("a", "x", "1".to_owned(), Some(500)).unwrap();
    transactions.commit(&writer).await.unwrap();
    assert_eq!(at(1_499).get("a", "x").await.unwrap().as_deref(), Some("1"));
    assert_eq!(at(1_500).get("a", "x").await.unwrap(), None);
    assert!(keys(&at(1_500), "", None, 10).await.is_empty());
    // An event that came before sees what it would have seen then.
    assert_eq!(at(1_200).get("a", "x").await.unwrap().as_deref(), Some("1"));
    // Adding keeps the expiry; setting without one removes it.
    let adder = at(1_100);
    adder.add("a", "x", 5).unwrap();
    transactions.commit(&adder).await.unwrap();
    assert_eq!(at(1_499).get("a", "x").await.unwrap().as_deref(), Some("6"));
    assert_eq!(at(1_500).get("a", "x").await.unwrap(), None);
    let setter = at(1_100);
    setter.set("a", "x", "7".to_owned(), None).unwrap();
    transactions.commit(&setter).await.unwrap();
    assert_eq!(
        at(9_999_999).get("a", "x").await.unwrap().as_deref(),
        Some("7")
    );
}

pub(crate) async fn adding_never_conflicts_and_fails_as_a_whole(store: Arc<dyn StateStore>) {
    let transactions = over(store);
    let (one, two) = (begin(&transactions), begin(&transactions));
    one.add("a", "n", 2).unwrap();
    two.add("a", "n", 3).unwrap();
    two.add("a", "n", -1).unwrap();
    assert_eq!(two.get("a", "n").await.unwrap().as_deref(), Some("2"));
    transactions.commit(&one).await.unwrap();
    // `two` has read the sum, which makes it a read like any other.
    assert_eq!(transactions.commit(&two).await, Err(CommitError::Conflict));
    let three = begin(&transactions);
    three.add("a", "n", 40).unwrap();
    put(&transactions, "text", "x").await;
    transactions.commit(&three).await.unwrap();
    assert_eq!(value(&transactions, "n").await.as_deref(), Some("42"));
    for (key, delta) in [("text", 1), ("n", i64::MAX)] {
        let bad = begin(&transactions);
        bad.set("a", "other", "1".to_owned(), None).unwrap();
        bad.add("a", key, delta).unwrap();
        assert!(
            matches!(
                transactions.commit(&bad).await,
                Err(CommitError::Invalid(_))
            ),
            "{key}"
        );
    }
    assert_eq!(value(&transactions, "other").await, None);
}

pub(crate) async fn pages_merge_what_is_staged(store: Arc<dyn StateStore>) {
    let transactions = over(store);
    for key in ["k1", "k2", "k3", "k4", "l1"] {
        put(&transactions, key, "0").await;
    }
    let writer = begin(&transactions);
    writer.delete("a", "k1").unwrap();
    writer.set("a", "k2", "new".to_owned(), None).unwrap();
    writer.set("a", "k25", "new".to_owned(), None).unwrap();
    writer.add("a", "k3", 1).unwrap();
    writer.set("a", "k9", "new".to_owned(), None).unwrap();
    assert_eq!(keys(&writer, "k", None, 2).await, ["k2=new", "k25=new"]);
    assert_eq!(keys(&writer, "k", Some("k25"), 2).await, ["k3=1", "k4=0"]);
    assert_eq!(keys(&writer, "k", Some("k4"), 2).await, ["k9=new"]);
    assert_eq!(keys(&writer, "k", None, 10).await.len(), 5);
    assert!(keys(&writer, "none", None, 10).await.is_empty());
}

pub(crate) async fn limits_are_told_apart(store: Arc<dyn StateStore>) {
    let transactions = over(store);
    let code = |result: Result<(), Fault>| result.unwrap_err().code;
    let writer = begin(&transactions);
    let set = |key: &str, bytes: usize| writer.set("a", key, "x".repeat(bytes), None);
    assert!(set("x", 65_536).is_ok());
    assert_eq!(code(set("x", 65_537)), "TOO_LARGE");
    assert_eq!(code(set("", 1)), "INVALID");
    assert_eq!(code(set(&"k".repeat(513), 1)), "INVALID");
    assert_eq!(
        code(writer.set("a", "x", String::new(), Some(0))),
        "INVALID"
    );
    assert_eq!(
        code((0..70).try_for_each(|key| set(&key.to_string(), 65_536))),
        "TOO_LARGE"
    );
    let writer = begin(&transactions);
    let many = (0..=1_000).try_for_each(|key| writer.add("a", &key.to_string(), 1));
    assert_eq!(code(many), "TOO_MANY");
    let reader = begin(&transactions);
    for key in 0..1_000 {
        reader.get("a", &key.to_string()).await.unwrap();
    }
    assert_eq!(reader.get("a", "x").await.unwrap_err().code, "TOO_MANY");
}

/// Runs a handler as the pipeline does; returns its place in the order of commits.
async fn run<H, F>(transactions: &Transactions, handler: H) -> (u32, Option<u64>)
where
    H: Fn(Arc<Transaction>) -> F,
    F: Future<Output = Result<(), Fault>>,
{
    let mut transaction = begin(transactions);
    let mut _turn = None;
    for runs in 1..=transactions.attempts() {
        let verdict = handler(transaction.clone()).await;
        if !transaction.is_in_vain() {
            verdict.unwrap();
            match transactions.commit(&transaction).await {
                Ok(place) => return (runs, place),
                Err(CommitError::Conflict) => {}
                Err(error) => panic!("{error}"),
            }
        }
        drop(_turn.take());
        _turn = Some(transactions.turn(&transaction).await);
        transaction = transactions.begin_again(&plugin("p"), 1_000);
    }
    panic!("never committed");
}

pub(crate) async fn naive_increments_of_one_key_end_exact(store: Arc<dyn StateStore>) {
    let transactions = Arc::new(over(store));
    let writers: Vec<_> = (0..100)
        .map(|_| {
            let transactions = transactions.clone();
            tokio::spawn(async move {
                let mut most = 0;
                for _ in 0..100 {
                    let (runs, _) = run(&transactions, |transaction| async move {
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
    assert!(most < 20, "one event took {most} runs");
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
                    run(&transactions, |transaction| {
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

/// What one transaction of the model does, in this order.
#[derive(Debug, Clone)]
enum Action {
    Get(u8),
    List(u8),
    Set(u8),
    Delete(u8),
    Add(u8),
}

/// What it saw.
#[derive(Debug, Clone, PartialEq)]
enum Sight {
    Value(Option<String>),
    Keys(Vec<(String, String)>),
}

fn numeric(key: u8) -> String {
    format!("n{}", key % 3)
}

fn named(key: u8) -> String {
    format!("k{}{}", key % 2, key % 5)
}

fn random_action(random: u64) -> Action {
    let key = (random >> 8) as u8;
    match random % 8 {
        0..=2 => Action::Get(key),
        3 => Action::List(key),
        4 | 5 => Action::Set(key),
        6 => Action::Delete(key),
        _ => Action::Add(key),
    }
}

async fn perform(
    transaction: &Transaction,
    partition: &str,
    id: usize,
    actions: &[Action],
) -> Result<Vec<Sight>, Fault> {
    let mut sights = Vec::new();
    for (step, action) in actions.iter().enumerate() {
        match action {
            Action::Get(key) => sights.push(Sight::Value(
                transaction.get(partition, &named(*key)).await?,
            )),
            Action::List(key) => {
                let prefix = format!("k{}", key % 2);
                sights.push(Sight::Keys(
                    transaction.list(partition, &prefix, None, 2).await?,
                ));
            }
            Action::Set(key) => {
                transaction.set(partition, &named(*key), format!("{id}.{step}"), None)?
            }
            Action::Delete(key) => transaction.delete(partition, &named(*key))?,
            Action::Add(key) => transaction.add(partition, &numeric(*key), 1)?,
        }
        tokio::task::yield_now().await;
    }
    // Every transaction writes, so that each is checked and has a place in the order.
    transaction.add(partition, "commits", 1)?;
    Ok(sights)
}

fn replay(state: &mut BTreeMap<String, String>, id: usize, actions: &[Action]) -> Vec<Sight> {
    let mut sights = Vec::new();
    let add = |state: &mut BTreeMap<String, String>, key: String| {
        let sum: i64 = state.get(&key).map_or(0, |text| text.parse().unwrap());
        state.insert(key, (sum + 1).to_string());
    };
    for (step, action) in actions.iter().enumerate() {
        match action {
            Action::Get(key) => sights.push(Sight::Value(state.get(&named(*key)).cloned())),
            Action::List(key) => {
                let prefix = format!("k{}", key % 2);
                let keys = state
                    .iter()
                    .filter(|(key, _)| key.starts_with(&prefix))
                    .take(2)
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                sights.push(Sight::Keys(keys));
            }
            Action::Set(key) => {
                state.insert(named(*key), format!("{id}.{step}"));
            }
            Action::Delete(key) => {
                state.remove(&named(*key));
            }
            Action::Add(key) => add(state, numeric(*key)),
        }
    }
    add(state, "commits".to_owned());
    sights
}

/// Random transactions at the same time: replayed one after the other in the order of their commits,
/// each sees what it saw. So no update is lost, no phantom is met, and nothing is mistaken for what
/// it was before.
pub(crate) async fn concurrent_transactions_have_a_serial_order(store: Arc<dyn StateStore>) {
    let transactions = Arc::new(over(store));
    for round in 0..40_u64 {
        let seed: u64 = rand::random();
        let partition: Arc<str> = format!("round {round}").into();
        let tasks: Vec<_> = (0..24_usize)
            .map(|id| {
                let mut state = seed ^ (id as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let mut draw = || {
                    // xorshift64*, enough for choosing actions and printable as one seed.
                    state ^= state >> 12;
                    state ^= state << 25;
                    state ^= state >> 27;
                    state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
                };
                let actions: Vec<Action> =
                    (0..=draw() % 6).map(|_| random_action(draw())).collect();
                let (transactions, partition) = (transactions.clone(), partition.clone());
                tokio::spawn(async move {
                    let seen = parking_lot::Mutex::new(Vec::new());
                    let (_, place) = run(&transactions, |transaction| {
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
            done.push(
                tokio::time::timeout(DEADLINE, task)
                    .await
                    .expect("ends in time")
                    .unwrap(),
            );
        }
        done.sort_by_key(|(place, ..)| *place);
        let mut model = BTreeMap::new();
        for (place, id, actions, seen) in done {
            let expected = replay(&mut model, id, &actions);
            assert_eq!(
                seen, expected,
                "seed {seed}, place {place}, actions {actions:?}"
            );
        }
        let last = transactions.begin(&plugin("p"), 1_000);
        let stored = last.list(&partition, "", None, 1_000).await.unwrap();
        assert_eq!(stored, model.into_iter().collect::<Vec<_>>(), "seed {seed}");
    }
}
