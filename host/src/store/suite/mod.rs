//! The suite that every backend of `StateStore` passes: what "handlers are transactions" promises,
//! each sentence with a test that would catch the naive version.
//!
//! | module | what is tested |
//! |---|---|
//! | [`semantics`] | each promise by itself |
//! | [`history`] | those of histories |
//! | [`timers`] | those of timers |
//! | [`outbox`] | what was committed is sent |
//! | [`contention`] | many at once: nothing is lost, nobody starves, nobody blocks for ever |
//! | [`model`] | random transactions at once have a serial order |
//! | [`histories`] | so have those on histories |

pub(crate) mod contention;
pub(crate) mod histories;
pub(crate) mod history;
pub(crate) mod model;
pub(crate) mod outbox;
pub(crate) mod semantics;
pub(crate) mod timers;

use crate::{
    core::names::PluginName,
    ports::{CommitError, Fault, KvAccess, StateStore},
    transactions::{Held, Transaction, Transactions},
};
use std::{sync::Arc, time::Duration};

/// Generates the suite's tests for the store that an expression makes, and what it needs.
macro_rules! suite {
    ($store:expr) => {
        mod suite {
            macro_rules! case {
                ($module:ident, $name:ident) => {
                    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                    async fn $name() {
                        // Whatever the store needs stays as long as the test runs.
                        let (store, _needed) = $store;
                        $crate::store::suite::$module::$name(std::sync::Arc::new(store)).await;
                    }
                };
            }
            case!(
                semantics,
                a_handler_sees_its_own_writes_and_others_only_when_committed
            );
            case!(semantics, a_change_of_what_was_read_is_a_conflict);
            case!(semantics, a_key_that_came_to_be_is_a_conflict);
            case!(semantics, the_same_value_written_again_is_a_conflict);
            case!(semantics, a_key_that_came_into_a_listed_range_is_a_conflict);
            case!(semantics, only_the_written_partition_is_checked);
            case!(semantics, a_transaction_writes_one_partition);
            case!(semantics, a_plugin_sees_only_its_own);
            case!(semantics, expiry_is_judged_by_the_events_time);
            case!(semantics, adding_never_conflicts_and_fails_as_a_whole);
            case!(semantics, what_expires_after_ages_does_not);
            case!(semantics, pages_merge_what_is_staged);
            case!(semantics, limits_are_told_apart);
            case!(semantics, a_full_page_can_be_listed_over_staged_writes);
            case!(semantics, state_versions_are_remembered);
            case!(semantics, a_plugin_stores_no_more_than_it_may);
            case!(
                history,
                entries_get_their_positions_in_the_order_of_the_commits
            );
            case!(history, appending_reads_nothing_and_paging_does);
            case!(history, a_handler_sees_what_it_appends);
            case!(history, an_idempotency_key_appends_once);
            case!(history, entries_are_amended_and_redacted_in_their_place);
            case!(history, what_is_not_kept_is_not_seen_and_is_removed);
            case!(history, pages_neither_skip_nor_repeat_while_others_append);
            case!(timers, a_timer_is_due_once_it_is_due_and_then_claimed);
            case!(timers, the_commit_of_its_handler_takes_a_timer_away);
            case!(timers, a_timer_takes_effect_once_also_in_another_partition);
            case!(timers, a_timer_that_repeats_is_set_for_the_next_time);
            case!(timers, what_is_cancelled_or_scheduled_anew_is_not_handled);
            case!(timers, what_is_postponed_is_the_timer_that_was_taken);
            case!(timers, a_plugin_with_many_timers_does_not_hold_up_another);
            case!(outbox, what_is_not_sent_is_known);
            case!(contention, naive_increments_of_one_key_end_exact);
            case!(
                contention,
                handlers_that_read_different_keys_each_time_do_not_block_each_other
            );
            case!(contention, writers_that_read_nothing_cannot_starve_a_reader);
            case!(contention, writers_into_a_range_cannot_starve_who_lists_it);
            case!(contention, reading_never_fails_because_others_queue);
            case!(contention, queues_leave_nothing_behind);
            case!(model, concurrent_transactions_have_a_serial_order);
            case!(histories, concurrent_histories_have_a_serial_order);
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
    commit(transactions, &transaction).await.unwrap();
}

/// Commits, and returns the place in the order of commits.
async fn commit(
    transactions: &Transactions,
    transaction: &Transaction,
) -> Result<Option<u64>, CommitError> {
    let done = transactions.commit(transaction, || None).await?;
    Ok(done.map(|done| done.place()))
}

async fn value(transactions: &Transactions, key: &str) -> Option<String> {
    begin(transactions).get("a", key).await.unwrap()
}

/// Runs a handler as the pipeline does; returns how often, and its place in the order of commits.
pub(crate) async fn run<H, F>(
    transactions: &Transactions,
    at_ms: u64,
    handler: H,
) -> (u32, Option<u64>)
where
    H: Fn(Arc<Transaction>) -> F,
    F: Future<Output = Result<(), Fault>>,
{
    let mut transaction = transactions.begin(&plugin("p"), at_ms);
    let mut held = Held::default();
    for runs in 1..=transactions.attempts() {
        handler(transaction.clone()).await.unwrap();
        match commit(transactions, &transaction).await {
            Ok(place) => return (runs, place),
            Err(CommitError::Conflict) => {}
            Err(error) => panic!("{error}"),
        }
        (transaction, held) = transactions.again(&transaction, held).await;
    }
    panic!("never committed");
}
