//! The promises of histories.

use super::{begin, commit, over, plugin, put, run};
use crate::{
    core::state::{Mark, Retention},
    ports::{CommitError, Entry, HistoryAccess, KvAccess, Page, StateStore},
    transactions::{Transaction, Transactions},
};
use std::{collections::BTreeSet, sync::Arc};

const ALL: Page = Page::After(None);

async fn append(transactions: &Transactions, at_ms: u64, entry: &str) -> String {
    let transaction = transactions.begin(&plugin("p"), at_ms);
    let appended = transaction.append("a", entry.to_owned(), None).await;
    commit(transactions, &transaction).await.unwrap();
    appended.unwrap().id
}

async fn entries(transaction: &Transaction, page: Page, limit: u32) -> Vec<Entry> {
    transaction.page("a", page, limit).await.unwrap()
}

fn shown(entries: &[Entry]) -> Vec<String> {
    let show = |entry: &Entry| format!("{}={}", entry.position, entry.entry);
    entries.iter().map(show).collect()
}

pub(crate) async fn entries_get_their_positions_in_the_order_of_the_commits(
    store: Arc<dyn StateStore>,
) {
    let transactions = over(store);
    let (first, second) = (begin(&transactions), begin(&transactions));
    first.append("a", "1".to_owned(), None).await.unwrap();
    second.append("a", "2".to_owned(), None).await.unwrap();
    second.append("a", "3".to_owned(), None).await.unwrap();
    commit(&transactions, &second).await.unwrap();
    commit(&transactions, &first).await.unwrap();
    // An event that was received before, and comes after: times do not go back.
    append(&transactions, 400, "4").await;
    let reader = begin(&transactions);
    let all = entries(&reader, ALL, 10).await;
    assert_eq!(shown(&all), ["1=2", "2=3", "3=1", "4=4"]);
    assert!(all.iter().all(|entry| entry.at_ms == 1_000));
    assert_eq!(
        shown(&entries(&reader, Page::Before(None), 2).await),
        ["4=4", "3=1"]
    );
    assert_eq!(
        shown(&entries(&reader, Page::Before(Some(3)), 10).await),
        ["2=3", "1=2"]
    );
    assert_eq!(
        shown(&entries(&reader, Page::After(Some(2)), 1).await),
        ["3=1"]
    );
    assert_eq!(entries(&reader, Page::Before(Some(1)), 9).await, []);
    assert_eq!(entries(&reader, Page::After(Some(4)), 9).await, []);
    assert_eq!(reader.count("a").await, Ok(4));
    assert_eq!(reader.count("b").await, Ok(0));
    let other = transactions.begin(&plugin("q"), 1_000);
    assert_eq!(other.count("a").await, Ok(0));
}

pub(crate) async fn appending_reads_nothing_and_paging_does(store: Arc<dyn StateStore>) {
    let transactions = over(store);
    let blind = begin(&transactions);
    blind.append("a", "1".to_owned(), None).await.unwrap();
    append(&transactions, 1_000, "2").await;
    assert!(commit(&transactions, &blind).await.is_ok());
    for read in 0..3 {
        let reader = begin(&transactions);
        match read {
            0 => drop(entries(&reader, Page::Before(None), 1).await),
            1 => drop(reader.count("a").await),
            _ => drop(entries(&reader, ALL, 9).await),
        }
        reader.set("a", "seen", read.to_string(), None).unwrap();
        append(&transactions, 1_000, "3").await;
        assert_eq!(
            commit(&transactions, &reader).await,
            Err(CommitError::Conflict),
            "{read}"
        );
    }
}

pub(crate) async fn a_handler_sees_what_it_appends(store: Arc<dyn StateStore>) {
    let transactions = over(store);
    append(&transactions, 1_000, "1").await;
    let writer = begin(&transactions);
    let mine = writer.append("a", "2".to_owned(), None).await.unwrap();
    assert!(mine.is_new);
    assert_eq!(
        shown(&entries(&writer, Page::Before(None), 9).await),
        ["2=2", "1=1"]
    );
    assert_eq!(shown(&entries(&writer, ALL, 9).await), ["1=1", "2=2"]);
    assert_eq!(writer.count("a").await, Ok(2));
    let found = writer.entry("a", &mine.id).await.unwrap().unwrap();
    assert_eq!((found.position, found.entry.as_str()), (2, "2"));
    assert!(
        writer
            .change("a", &mine.id, Some("22".to_owned()))
            .await
            .unwrap()
    );
    commit(&transactions, &writer).await.unwrap();
    let reader = begin(&transactions);
    let now = reader.entry("a", &mine.id).await.unwrap().unwrap();
    assert_eq!((now.position, now.entry.as_str()), (2, "22"));
    // Nothing remains of what was not committed.
    let failed = begin(&transactions);
    failed.append("a", "3".to_owned(), None).await.unwrap();
    drop(failed);
    assert_eq!(begin(&transactions).count("a").await, Ok(2));
}

pub(crate) async fn an_idempotency_key_appends_once(store: Arc<dyn StateStore>) {
    let transactions = over(store);
    let (one, two) = (begin(&transactions), begin(&transactions));
    let first = one.append("a", "1".to_owned(), Some("k")).await.unwrap();
    let again = one.append("a", "2".to_owned(), Some("k")).await.unwrap();
    assert_eq!(
        (&again.id, first.is_new, again.is_new),
        (&first.id, true, false)
    );
    two.append("a", "3".to_owned(), Some("k")).await.unwrap();
    commit(&transactions, &one).await.unwrap();
    assert_eq!(
        commit(&transactions, &two).await,
        Err(CommitError::Conflict)
    );
    let (runs, _) = run(&transactions, 1_000, |transaction| {
        let first = first.clone();
        async move {
            let known = transaction.append("a", "3".to_owned(), Some("k")).await?;
            assert_eq!((known.id, known.is_new), (first.id, false));
            Ok(())
        }
    })
    .await;
    assert_eq!(runs, 1);
    assert_eq!(begin(&transactions).count("a").await, Ok(1));
}

pub(crate) async fn entries_are_amended_and_redacted_in_their_place(store: Arc<dyn StateStore>) {
    let transactions = over(store);
    let ids = [
        append(&transactions, 1_000, "1").await,
        append(&transactions, 1_000, "2").await,
    ];
    let editor = transactions.begin(&plugin("p"), 2_000);
    assert!(
        editor
            .change("a", &ids[0], Some("11".to_owned()))
            .await
            .unwrap()
    );
    assert!(editor.change("a", &ids[1], None).await.unwrap());
    assert!(
        !editor
            .change("a", &ids[1], Some("9".to_owned()))
            .await
            .unwrap()
    );
    assert!(!editor.change("a", "nobody", None).await.unwrap());
    assert_eq!(shown(&entries(&editor, ALL, 9).await), ["1=11", "2=null"]);
    commit(&transactions, &editor).await.unwrap();
    let reader = begin(&transactions);
    let all = entries(&reader, ALL, 9).await;
    assert_eq!(shown(&all), ["1=11", "2=null"]);
    assert_eq!(all[0].mark, Mark::Amended(2_000));
    assert_eq!(all[1].mark, Mark::Redacted(2_000));
    assert_eq!((all[0].at_ms, &all[0].id), (1_000, &ids[0]));
    assert!(
        !reader
            .change("a", &ids[1], Some("9".to_owned()))
            .await
            .unwrap()
    );
    // Who changes what somebody else has changed begins again.
    let (late, other) = (begin(&transactions), begin(&transactions));
    late.change("a", &ids[0], Some("5".to_owned()))
        .await
        .unwrap();
    other.change("a", &ids[0], None).await.unwrap();
    commit(&transactions, &other).await.unwrap();
    assert_eq!(
        commit(&transactions, &late).await,
        Err(CommitError::Conflict)
    );
}

pub(crate) async fn what_is_not_kept_is_not_seen_and_is_removed(store: Arc<dyn StateStore>) {
    let transactions = over(store.clone());
    let mut ids = Vec::new();
    for number in 1..=10 {
        ids.push(append(&transactions, number * 100, &number.to_string()).await);
    }
    let retain = |count, age_ms, at_ms| {
        let transactions = &transactions;
        async move {
            let writer = transactions.begin(&plugin("p"), at_ms);
            writer.retain("a", Retention { count, age_ms }).unwrap();
            commit(transactions, &writer).await.unwrap();
        }
    };
    let seen = |at_ms| {
        let reader = transactions.begin(&plugin("p"), at_ms);
        async move {
            let (forwards, mut backwards) = (
                entries(&reader, ALL, 99).await,
                entries(&reader, Page::Before(None), 99).await,
            );
            backwards.reverse();
            assert_eq!(forwards, backwards);
            assert_eq!(reader.count("a").await, Ok(forwards.len() as u64));
            forwards.first().map_or(0, |entry| entry.position)
        }
    };
    retain(Some(8), None, 1_000).await;
    assert_eq!(seen(1_000).await, 3);
    let reader = begin(&transactions);
    assert_eq!(reader.entry("a", &ids[1]).await, Ok(None));
    assert!(!reader.change("a", &ids[1], None).await.unwrap());
    let late = transactions.begin(&plugin("p"), 1_800);
    let writer = transactions.begin(&plugin("p"), 1_000);
    let aged = Retention {
        count: None,
        age_ms: Some(500),
    };
    writer.retain("a", aged).unwrap();
    commit(&transactions, &writer).await.unwrap();
    // Still stored, and not kept any more.
    assert!(!late.change("a", &ids[9], None).await.unwrap());
    // By age: an event that was received earlier sees more.
    retain(Some(8), Some(500), 1_000).await;
    assert_eq!(seen(1_000).await, 6);
    assert_eq!(seen(1_250).await, 8);
    assert_eq!(seen(1_500).await, 0);
    let once = async |at_ms: u64, entry: &str| {
        let writer = transactions.begin(&plugin("p"), at_ms);
        let entry = entry.to_owned();
        let appended = writer.append("a", entry, Some("k")).await.unwrap();
        commit(&transactions, &writer).await.unwrap();
        appended.is_new
    };
    assert!(once(2_000, "11").await && !once(2_000, "11").await);
    assert_eq!(seen(2_000).await, 11);
    // A key is as old as its entry, and can be used again.
    retain(Some(8), Some(500), 2_000).await;
    assert!(once(2_600, "12").await && !once(2_600, "12").await);
    assert_eq!(seen(2_600).await, 12);
    retain(Some(8), None, 2_600).await;
    assert!(!once(9_000, "12").await);
    // And removed: what is kept again by another setting is not there any more.
    retain(None, None, 9_000).await;
    assert_eq!(seen(9_000).await, 12);
    // Nothing at all is kept, at once, and what comes later is.
    retain(Some(0), None, 9_000).await;
    assert_eq!(seen(9_000).await, 0);
    retain(None, None, 9_000).await;
    append(&transactions, 9_000, "13").await;
    assert_eq!(seen(9_000).await, 13);
}

pub(crate) async fn pages_neither_skip_nor_repeat_while_others_append(store: Arc<dyn StateStore>) {
    const WRITERS: u64 = 20;
    const EACH: u64 = 30;
    let transactions = Arc::new(over(store));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let transactions = transactions.clone();
            tokio::spawn(async move {
                for number in 0..EACH {
                    append(&transactions, 1_000, &(writer * EACH + number).to_string()).await;
                }
            })
        })
        .collect();
    let (mut seen, mut after) = (Vec::new(), None);
    let all = WRITERS * EACH;
    while (seen.len() as u64) < all {
        let page = entries(&begin(&transactions), Page::After(after), 50).await;
        after = page.last().map(|entry| entry.position).or(after);
        seen.extend(page);
        tokio::task::yield_now().await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(
        seen.iter()
            .zip(1..)
            .all(|(entry, position)| entry.position == position)
    );
    let different: BTreeSet<&str> = seen.iter().map(|entry| entry.entry.as_str()).collect();
    assert_eq!((seen.len() as u64, different.len() as u64), (all, all));
    put(&transactions, "x", "a key is beside it").await;
    let (mut back, mut before) = (Vec::new(), None);
    loop {
        let page = entries(&begin(&transactions), Page::Before(before), 50).await;
        let Some(last) = page.last() else { break };
        before = Some(last.position);
        back.extend(page);
    }
    back.reverse();
    assert_eq!(back, seen);
}
