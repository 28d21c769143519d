use super::*;
use crate::{
    core::state::Retention,
    ports::{HistoryAccess, KvAccess, TimersAccess},
    store::{
        embedded::EmbeddedStore,
        memory::MemoryStore,
        redis::{RedisStore, server::Server},
    },
    transactions::Transactions,
};
use std::sync::Arc;

const NOW: u64 = 1_700_000_000_000;

fn plugin(name: &str) -> PluginName {
    PluginName::new(name).unwrap()
}

async fn lines(store: &dyn StateStore) -> Vec<String> {
    let mut lines = Vec::new();
    let mut write = |line: &str| {
        lines.push(line.to_owned());
        Ok(())
    };
    export(store, None, NOW, &mut write).await.unwrap();
    lines.sort();
    lines
}

async fn import(store: &dyn StateStore, lines: &[String]) {
    let mut import = Import::into(store, NOW);
    for line in lines {
        import.take(line).await.unwrap();
    }
    import.finish().await.unwrap();
}

/// A little of everything, in texts that are easily spoiled on the way.
async fn fill(store: Arc<dyn StateStore>) {
    let transactions = Transactions::new(store.clone());
    store.record(&plugin("p"), 3);
    for (name, partition) in [("p", "room:1"), ("p", "}:\"n\n"), ("q", "ü {x}")] {
        let writer = transactions.begin(&plugin(name), NOW);
        for (key, value) in [
            ("a", "{ \"x\" : 1.50 }"),
            ("b\n", "\"two\\nlines\""),
            ("c", "not JSON\nat all"),
            ("d", ""),
        ] {
            writer.set(partition, key, value.to_owned(), None).unwrap();
        }
        writer.add(partition, "n", i64::MAX).unwrap();
        let hour = Some(3_600_000);
        writer.set(partition, "soon", "1".to_owned(), hour).unwrap();
        for number in 0..5 {
            let key = format!("key {number}");
            let entry = number.to_string();
            writer.append(partition, entry, Some(&key)).await.unwrap();
        }
        let retention = Retention {
            count: Some(4),
            age_ms: None,
        };
        writer.retain(partition, retention).unwrap();
        let timer = Timer {
            due_ms: NOW + 40 * 86_400_000,
            every_ms: Some(5_000),
            payload: "[1,\n2]".to_owned(),
        };
        writer.schedule(partition, "close", timer).unwrap();
        transactions.commit(&writer, || None).await.unwrap();
        let gone = transactions.begin(&plugin(name), NOW - 10_000);
        gone.set(partition, "gone", "1".to_owned(), Some(1))
            .unwrap();
        transactions.commit(&gone, || None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn state_moves_from_any_backend_to_any_other_and_stays_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&[]);
    let memory: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    fill(memory.clone()).await;
    let original = lines(&*memory).await;
    assert!(original.len() > 40 && original.iter().all(|line| !line.contains("gone")));
    let first = EmbeddedStore::open(&folder.path().join("first")).unwrap();
    import(&first, &original).await;
    assert_eq!(lines(&first).await, original);
    let redis = RedisStore::open(&server.config()).await.unwrap();
    import(&redis, &lines(&first).await).await;
    assert_eq!(lines(&redis).await, original);
    let last: Arc<dyn StateStore> =
        Arc::new(EmbeddedStore::open(&folder.path().join("last")).unwrap());
    import(&*last, &lines(&redis).await).await;
    assert_eq!(lines(&*last).await, original);
    // And it is alive: histories go on, idempotency keys are known, timers are due.
    let transactions = Transactions::new(last.clone());
    let writer = transactions.begin(&plugin("p"), NOW);
    let again = writer.append("room:1", "9".to_owned(), Some("key 4")).await;
    assert!(!again.unwrap().is_new);
    assert_eq!(writer.count("room:1").await, Ok(4));
    let due = last
        .due(&[plugin("q")].into(), NOW + 41 * 86_400_000, u64::MAX, 9)
        .await;
    assert_eq!(due.unwrap().timers.len(), 1);
    assert_eq!(last.stored(&plugin("p")), Some(3));
}

#[tokio::test]
async fn a_line_that_is_not_one_is_refused_by_its_number() {
    let store = MemoryStore::default();
    for bad in [
        "{",
        r#"{"plugin":"P!","partition":"a","key":"k","value":1}"#,
        r#"{"plugin":"p","key":"k","value":1}"#,
        r#"{"plugin":"p","partition":"a","key":"k"}"#,
        r#"{"plugin":"p","partition":"a","key":"k","value":1,"more":1}"#,
        r#"{"plugin":"p","partition":"a","name":"t1","text":"no timer"}"#,
    ] {
        let mut import = Import::into(&store, NOW);
        import.take("").await.unwrap();
        let refused = import.take(bad).await.unwrap_err().to_string();
        assert!(refused.starts_with("line 2: "), "{bad}: {refused}");
    }
}
