//! What was committed is sent, or known to be unsent.

use super::{begin, over, plugin};
use crate::{
    ports::{KvAccess, StateStore},
    transactions::Transactions,
};
use std::sync::Arc;

pub(crate) async fn what_is_not_sent_is_known(store: Arc<dyn StateStore>) {
    let transactions = over(store.clone());
    let commit = |text: &'static str| {
        let transactions: &Transactions = &transactions;
        async move {
            let transaction = begin(transactions);
            transaction.add("a", "x", 1).unwrap();
            let done = transactions.commit(&transaction, || Some(text.to_owned()));
            done.await.unwrap().unwrap()
        }
    };
    let (one, two) = (commit("1").await, commit("2").await);
    assert!(one.place() < two.place());
    // Only what other hosts, which have ended, left is for this one to send.
    assert_eq!(store.unsent().await, Ok(Vec::new()));
    two.finish();
    // What was to be sent and was refused is not.
    let refused = begin(&transactions);
    assert_eq!(refused.get("a", "x").await.unwrap().as_deref(), Some("2"));
    refused.add("a", "x", 1).unwrap();
    drop(commit("3").await);
    let committed = transactions.commit(&refused, || Some("4".to_owned())).await;
    assert!(committed.is_err());
    let nothing = transactions.begin(&plugin("p"), 1_000);
    let committed = transactions
        .commit(&nothing, || panic!("nothing is sent"))
        .await;
    assert!(committed.unwrap().is_none());
}
