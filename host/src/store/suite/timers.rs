//! The promises of timers.

use super::{begin, commit, over, plugin, run, value};
use crate::{
    core::{names::PluginName, state::Timer},
    ports::{CommitError, DueTimer, KvAccess, StateStore, TimersAccess},
    transactions::Transactions,
};
use std::{collections::BTreeSet, sync::Arc};

fn at(due_ms: u64, every_ms: Option<u64>) -> Timer {
    Timer {
        due_ms,
        every_ms,
        payload: r#"{"a":1}"#.to_owned(),
    }
}

async fn schedule(transactions: &Transactions, name: &str, timer: Timer) {
    let transaction = begin(transactions);
    transaction.schedule("a", name, timer).unwrap();
    commit(transactions, &transaction).await.unwrap();
}

async fn due(store: &Arc<dyn StateStore>, now_ms: u64, until_ms: u64) -> Vec<DueTimer> {
    let plugins: BTreeSet<PluginName> = [plugin("p")].into();
    let due = store.due(&plugins, now_ms, until_ms, 100).await.unwrap();
    due.timers
}

fn names(due: &[DueTimer]) -> Vec<&str> {
    due.iter().map(|due| due.name.as_str()).collect()
}

pub(crate) async fn a_timer_is_due_once_it_is_due_and_then_claimed(store: Arc<dyn StateStore>) {
    let transactions = over(store.clone());
    for (name, due_ms) in [("late", 3_000), ("soon", 2_000), ("month", 9_000_000_000)] {
        schedule(&transactions, name, at(due_ms, None)).await;
    }
    let shown = begin(&transactions).timer("a", "soon").await.unwrap();
    assert_eq!(shown, Some(at(2_000, None)));
    assert!(due(&store, 1_999, 2_100).await.is_empty());
    let plugins: BTreeSet<PluginName> = [plugin("p")].into();
    let first = store.due(&plugins, 2_000, 2_100, 100).await.unwrap();
    assert_eq!(names(&first.timers), ["soon"]);
    assert_eq!(first.timers[0].timer, at(2_000, None));
    assert!(first.next_ms.is_some_and(|next| next <= 3_000));
    // Claimed until then, and free again, as nobody has handled it.
    assert!(due(&store, 2_099, 2_200).await.is_empty());
    assert_eq!(names(&due(&store, 2_100, 2_200).await), ["soon"]);
    store.postpone(&first.timers[0], 5_000).await;
    assert_eq!(names(&due(&store, 3_000, 3_100).await), ["late"]);
    assert_eq!(names(&due(&store, 5_000, 6_000).await), ["soon", "late"]);
    // Those of a plugin that is not asked for wait.
    let others: BTreeSet<PluginName> = [plugin("q")].into();
    let theirs = store.due(&others, 9_999, 10_000, 100).await.unwrap();
    assert!(theirs.timers.is_empty());
}

pub(crate) async fn the_commit_of_its_handler_takes_a_timer_away(store: Arc<dyn StateStore>) {
    let transactions = over(store.clone());
    schedule(&transactions, "t", at(2_000, None)).await;
    let due_timer = due(&store, 2_000, 2_100).await.remove(0);
    let (one, two) = (
        transactions.begin_firing(&due_timer, 2_000),
        transactions.begin_firing(&due_timer, 2_000),
    );
    one.add("a", "fired", 1).unwrap();
    two.add("a", "fired", 1).unwrap();
    commit(&transactions, &one).await.unwrap();
    // The other one comes too late, and is not run again.
    assert_eq!(
        commit(&transactions, &two).await,
        Err(CommitError::Conflict)
    );
    assert_eq!(transactions.is_still_due(&two).await, Ok(false));
    assert_eq!(value(&transactions, "fired").await.as_deref(), Some("1"));
    assert!(due(&store, 9_999, 10_000).await.is_empty());
    // A handler that writes nothing takes it away all the same.
    schedule(&transactions, "t", at(2_000, None)).await;
    let due_timer = due(&store, 2_000, 2_100).await.remove(0);
    let idle = transactions.begin_firing(&due_timer, 2_000);
    assert!(commit(&transactions, &idle).await.unwrap().is_some());
    assert!(due(&store, 9_999, 10_000).await.is_empty());
    assert_eq!(begin(&transactions).timer("a", "t").await, Ok(None));
}

pub(crate) async fn a_timer_takes_effect_once_also_in_another_partition(
    store: Arc<dyn StateStore>,
) {
    let transactions = over(store.clone());
    schedule(&transactions, "t", at(2_000, None)).await;
    let due_timer = due(&store, 2_000, 2_100).await.remove(0);
    let fire = || {
        let transaction = transactions.begin_firing(&due_timer, 2_000);
        transaction.add("b", "fired", 1).unwrap();
        transaction
    };
    let (one, two) = (fire(), fire());
    commit(&transactions, &one).await.unwrap();
    assert_eq!(
        commit(&transactions, &two).await,
        Err(CommitError::Conflict)
    );
    assert_eq!(transactions.is_still_due(&two).await, Ok(false));
    let fired = begin(&transactions).get("b", "fired").await.unwrap();
    assert_eq!(fired.as_deref(), Some("1"));
    assert!(due(&store, 9_999, 10_000).await.is_empty());
}

pub(crate) async fn a_timer_that_repeats_is_set_for_the_next_time(store: Arc<dyn StateStore>) {
    let transactions = over(store.clone());
    schedule(&transactions, "t", at(2_000, Some(1_000))).await;
    // Late by two times, which are left out.
    let due_timer = due(&store, 4_500, 4_600).await.remove(0);
    let handler = transactions.begin_firing(&due_timer, 4_500);
    commit(&transactions, &handler).await.unwrap();
    assert!(due(&store, 4_999, 5_000).await.is_empty());
    assert_eq!(names(&due(&store, 5_000, 5_100).await), ["t"]);
    let next = begin(&transactions).timer("a", "t").await.unwrap();
    assert_eq!(next, Some(at(5_000, Some(1_000))));
    // Its handler may stop it.
    let due_timer = due(&store, 5_100, 5_200).await.remove(0);
    let last = transactions.begin_firing(&due_timer, 5_100);
    last.cancel("a", "t").unwrap();
    commit(&transactions, &last).await.unwrap();
    assert!(due(&store, 99_999, 100_000).await.is_empty());
}

pub(crate) async fn what_is_cancelled_or_scheduled_anew_is_not_handled(store: Arc<dyn StateStore>) {
    let transactions = over(store.clone());
    for name in ["cancelled", "moved"] {
        schedule(&transactions, name, at(2_000, None)).await;
    }
    let claimed = due(&store, 2_000, 2_100).await;
    assert_eq!(claimed.len(), 2);
    run(&transactions, 1_000, |transaction| async move {
        transaction.cancel("a", "cancelled")?;
        transaction.schedule("a", "moved", at(7_000, None))
    })
    .await;
    for timer in &claimed {
        let handler = transactions.begin_firing(timer, 2_000);
        handler.add("a", "fired", 1).unwrap();
        assert_eq!(
            commit(&transactions, &handler).await,
            Err(CommitError::Conflict)
        );
        assert_eq!(transactions.is_still_due(&handler).await, Ok(false));
    }
    assert_eq!(value(&transactions, "fired").await, None);
    assert!(due(&store, 6_999, 7_000).await.is_empty());
    assert_eq!(names(&due(&store, 7_000, 7_100).await), ["moved"]);
}

pub(crate) async fn what_is_postponed_is_the_timer_that_was_taken(store: Arc<dyn StateStore>) {
    let transactions = over(store.clone());
    schedule(&transactions, "t", at(2_000, None)).await;
    let taken = due(&store, 2_000, 9_000).await.remove(0);
    // The plugin schedules it anew while somebody else is about to put it off.
    schedule(&transactions, "t", at(2_500, None)).await;
    store.postpone(&taken, 8_000).await;
    assert_eq!(names(&due(&store, 2_500, 9_000).await), ["t"]);
}

pub(crate) async fn a_plugin_with_many_timers_does_not_hold_up_another(store: Arc<dyn StateStore>) {
    let transactions = over(store.clone());
    for number in 0..50 {
        schedule(&transactions, &number.to_string(), at(2_000, None)).await;
    }
    let other = transactions.begin(&plugin("q"), 1_000);
    other.schedule("a", "own", at(3_000, None)).unwrap();
    commit(&transactions, &other).await.unwrap();
    let plugins: BTreeSet<PluginName> = [plugin("p"), plugin("q")].into();
    let due = store.due(&plugins, 4_000, 9_000, 10).await.unwrap();
    assert!(names(&due.timers).contains(&"own"), "{:?}", due.timers);
    assert!(
        due.next_ms.is_some_and(|next| next <= 4_000),
        "there is more"
    );
}
