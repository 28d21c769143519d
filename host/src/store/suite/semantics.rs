//! Each promise by itself.

use super::{begin, commit, over, plugin, put, value};
use crate::{
    ports::{CommitError, Fault, HistoryAccess, KvAccess, StateBounds, StateStore},
    transactions::{Transaction, Transactions},
};
use std::sync::Arc;

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

pub(crate) async fn state_versions_are_remembered(store: Arc<dyn StateStore>) {
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
    commit(&transactions, &writer).await.unwrap();
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
    assert_eq!(
        commit(&transactions, &slow).await,
        Err(CommitError::Conflict)
    );
    assert_eq!(value(&transactions, "y").await, None);
    // A blind write conflicts with nobody.
    let blind = begin(&transactions);
    blind.set("a", "x", "3".to_owned(), None).unwrap();
    put(&transactions, "x", "4").await;
    assert!(commit(&transactions, &blind).await.is_ok());
}

pub(crate) async fn a_key_that_came_to_be_is_a_conflict(store: Arc<dyn StateStore>) {
    let transactions = over(store);
    let first = begin(&transactions);
    assert_eq!(first.get("a", "owner").await.unwrap(), None);
    put(&transactions, "owner", "ben").await;
    first.set("a", "owner", "ann".to_owned(), None).unwrap();
    assert_eq!(
        commit(&transactions, &first).await,
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
    commit(&transactions, &deleter).await.unwrap();
    put(&transactions, "x", "1").await;
    slow.set("a", "y", "1".to_owned(), None).unwrap();
    assert_eq!(
        commit(&transactions, &slow).await,
        Err(CommitError::Conflict)
    );
}

pub(crate) async fn a_key_that_came_into_a_listed_range_is_a_conflict(store: Arc<dyn StateStore>) {
    let transactions = over(store);
    put(&transactions, "m:1", "").await;
    let counter = begin(&transactions);
    let count = counter.list("a", "m:", None, 10).await.unwrap().len();
    put(&transactions, "m:2", "").await;
    counter.set("a", "count", count.to_string(), None).unwrap();
    assert_eq!(
        commit(&transactions, &counter).await,
        Err(CommitError::Conflict)
    );
    // A key beside the range, or behind the end of a full page, changes nothing that was read.
    let counter = begin(&transactions);
    assert_eq!(counter.list("a", "m:", None, 1).await.unwrap().len(), 1);
    put(&transactions, "m:3", "").await;
    put(&transactions, "n:1", "").await;
    counter.set("a", "count", "1".to_owned(), None).unwrap();
    assert!(commit(&transactions, &counter).await.is_ok());
}

pub(crate) async fn only_the_written_partition_is_checked(store: Arc<dyn StateStore>) {
    let transactions = over(store);
    let writer = begin(&transactions);
    assert_eq!(writer.get("other", "x").await.unwrap(), None);
    let other = begin(&transactions);
    other.set("other", "x", "1".to_owned(), None).unwrap();
    commit(&transactions, &other).await.unwrap();
    writer.set("a", "y", "1".to_owned(), None).unwrap();
    assert!(commit(&transactions, &writer).await.is_ok());
    // A handler that only reads has nothing that could conflict.
    let reader = begin(&transactions);
    reader.get("a", "y").await.unwrap();
    put(&transactions, "y", "2").await;
    assert_eq!(commit(&transactions, &reader).await, Ok(None));
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
    assert!(commit(&transactions, &writer).await.is_ok());
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
    commit(&transactions, &writer).await.unwrap();
    assert_eq!(at(1_499).get("a", "x").await.unwrap().as_deref(), Some("1"));
    assert_eq!(at(1_500).get("a", "x").await.unwrap(), None);
    assert!(keys(&at(1_500), "", None, 10).await.is_empty());
    // An event that came before sees what it would have seen then.
    assert_eq!(at(1_200).get("a", "x").await.unwrap().as_deref(), Some("1"));
    // Adding keeps the expiry; setting without one removes it.
    let adder = at(1_100);
    adder.add("a", "x", 5).unwrap();
    commit(&transactions, &adder).await.unwrap();
    assert_eq!(at(1_499).get("a", "x").await.unwrap().as_deref(), Some("6"));
    assert_eq!(at(1_500).get("a", "x").await.unwrap(), None);
    let setter = at(1_100);
    setter.set("a", "x", "7".to_owned(), None).unwrap();
    commit(&transactions, &setter).await.unwrap();
    assert_eq!(
        at(9_999_999).get("a", "x").await.unwrap().as_deref(),
        Some("7")
    );
}

pub(crate) async fn what_expires_after_ages_does_not(store: Arc<dyn StateStore>) {
    let transactions = over(store);
    for (key, ttl) in [
        ("a", u64::MAX),
        ("b", 1 << 53),
        ("c", 1 << 52),
        ("d", u64::MAX - 1),
    ] {
        let writer = begin(&transactions);
        writer.set("a", key, "1".to_owned(), Some(ttl)).unwrap();
        writer.add("a", "n", 1).unwrap();
        writer.delete("a", "n").unwrap();
        commit(&transactions, &writer).await.unwrap();
        assert_eq!(value(&transactions, key).await.as_deref(), Some("1"));
    }
}

pub(crate) async fn adding_never_conflicts_and_fails_as_a_whole(store: Arc<dyn StateStore>) {
    let transactions = over(store);
    let (one, two) = (begin(&transactions), begin(&transactions));
    one.add("a", "n", 2).unwrap();
    two.add("a", "n", 3).unwrap();
    two.add("a", "n", -1).unwrap();
    assert_eq!(two.get("a", "n").await.unwrap().as_deref(), Some("2"));
    commit(&transactions, &one).await.unwrap();
    // `two` has read the sum, which makes it a read like any other.
    assert_eq!(
        commit(&transactions, &two).await,
        Err(CommitError::Conflict)
    );
    let three = begin(&transactions);
    three.add("a", "n", 40).unwrap();
    put(&transactions, "text", "x").await;
    commit(&transactions, &three).await.unwrap();
    assert_eq!(value(&transactions, "n").await.as_deref(), Some("42"));
    for text in ["+1", "007", "-0", "1.0", " 1"] {
        put(&transactions, text, text).await;
    }
    let bad = ["text", "+1", "007", "-0", "1.0", " 1"].map(|key| (key, 1));
    for (key, delta) in bad.into_iter().chain([("n", i64::MAX)]) {
        let bad = begin(&transactions);
        bad.set("a", "other", "1".to_owned(), None).unwrap();
        bad.add("a", key, delta).unwrap();
        assert!(
            matches!(
                commit(&transactions, &bad).await,
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
    for limit in [0, 1_001] {
        let refused = begin(&transactions).list("a", "", None, limit).await;
        assert_eq!(refused.unwrap_err().code, "INVALID");
    }
}

pub(crate) async fn a_full_page_can_be_listed_over_staged_writes(store: Arc<dyn StateStore>) {
    let transactions = over(store);
    for hundred in 0..3 {
        let filler = begin(&transactions);
        for key in 0..400 {
            filler
                .set(
                    "a",
                    &format!("{:04}", hundred * 400 + key),
                    String::new(),
                    None,
                )
                .unwrap();
        }
        commit(&transactions, &filler).await.unwrap();
    }
    let writer = begin(&transactions);
    writer.set("a", "0000", "new".to_owned(), None).unwrap();
    assert_eq!(keys(&writer, "", None, 1_000).await.len(), 1_000);
}

pub(crate) async fn a_plugin_stores_no_more_than_it_may(store: Arc<dyn StateStore>) {
    let transactions = over(store.clone());
    put(&transactions, "before", "it is counted").await;
    let bounds = |entries: Option<u64>, bytes: Option<u64>| StateBounds { entries, bytes };
    let may = async |transactions: &Transactions, bounds: &StateBounds| {
        let writer = begin(transactions);
        writer.set("b", "more", "x".to_owned(), None).unwrap();
        let may = transactions.has_place(&writer, bounds).await.unwrap();
        let deleter = begin(transactions);
        deleter.delete("a", "before").unwrap();
        assert!(transactions.has_place(&deleter, bounds).await.unwrap());
        may
    };
    let four = bounds(Some(4), None);
    assert!(may(&transactions, &four).await);
    for key in ["x", "y"] {
        put(&transactions, key, "1").await;
        // The same again is no more.
        put(&transactions, key, "2").await;
        assert!(may(&transactions, &four).await);
    }
    put(&transactions, "z", "1").await;
    assert!(!may(&transactions, &four).await);
    // A host that starts counts what is there.
    let restarted = over(store);
    assert!(!may(&restarted, &four).await);
    let deleter = begin(&transactions);
    deleter.delete("a", "x").unwrap();
    commit(&transactions, &deleter).await.unwrap();
    assert!(may(&transactions, &four).await);
    put(&transactions, "y", &"y".repeat(1_000)).await;
    assert!(may(&transactions, &four).await);
    assert!(may(&transactions, &bounds(None, Some(2_000))).await);
    assert!(!may(&transactions, &bounds(None, Some(1_000))).await);
    // What is full can be redacted.
    let appender = begin(&transactions);
    let entry = appender.append("a", "1".to_owned(), None).await.unwrap();
    commit(&transactions, &appender).await.unwrap();
    let redactor = begin(&transactions);
    assert!(redactor.change("a", &entry.id, None).await.unwrap());
    let full = bounds(Some(1), Some(1));
    assert!(transactions.has_place(&redactor, &full).await.unwrap());
    let amender = begin(&transactions);
    let text = Some("2".to_owned());
    assert!(amender.change("a", &entry.id, text).await.unwrap());
    assert!(!transactions.has_place(&amender, &full).await.unwrap());
    let other = transactions.begin(&plugin("q"), 1_000);
    other.set("a", "x", "1".to_owned(), None).unwrap();
    let one = bounds(Some(1), Some(100));
    assert!(transactions.has_place(&other, &one).await.unwrap());
}
