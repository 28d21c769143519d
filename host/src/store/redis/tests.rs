use super::{
    RedisStore,
    server::{Cluster, Server},
};
use crate::link::config::RedisConfig;
use std::time::Duration;

async fn own() -> (RedisStore, Server) {
    let server = Server::start(&[]);
    let store = RedisStore::open(&server.config()).await.unwrap();
    (store, server)
}

crate::store::suite::suite!(super::own().await);

/// On a cluster of three masters: everything that the suite promises where more than one slot, or the
/// routing of scripts, could make a difference.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_keeps_the_same_promises() {
    use crate::{
        ports::{KvAccess, StateStore},
        store::suite::{contention, history, outbox, semantics, timers},
        transactions::Transactions,
    };
    use std::{collections::BTreeSet, sync::Arc};

    let cluster = Cluster::start();
    let fresh = |case: u32| {
        let config = RedisConfig {
            prefix: format!("case-{case}"),
            ..cluster.config()
        };
        async move {
            let store: Arc<dyn StateStore> = Arc::new(RedisStore::open(&config).await.unwrap());
            store
        }
    };
    semantics::a_key_that_came_into_a_listed_range_is_a_conflict(fresh(1).await).await;
    semantics::adding_never_conflicts_and_fails_as_a_whole(fresh(2).await).await;
    semantics::state_versions_are_remembered(fresh(3).await).await;
    history::pages_neither_skip_nor_repeat_while_others_append(fresh(4).await).await;
    timers::a_timer_is_due_once_it_is_due_and_then_claimed(fresh(5).await).await;
    timers::a_timer_takes_effect_once_also_in_another_partition(fresh(6).await).await;
    outbox::what_is_not_sent_is_known(fresh(7).await).await;
    contention::naive_increments_of_one_key_end_exact(fresh(8).await).await;
    // Partitions are spread over the slots, and all of them are found again.
    let store = fresh(9).await;
    let transactions = Transactions::new(store.clone());
    let plugin = crate::core::names::PluginName::new("p").unwrap();
    for number in 0..60 {
        let writer = transactions.begin(&plugin, 1_000);
        let partition = format!("partition-{number}");
        writer.set(&partition, "x", "1".to_owned(), None).unwrap();
        transactions.commit(&writer, || None).await.unwrap();
    }
    let mut found = BTreeSet::new();
    let mut visitor = |stored: crate::ports::Stored| {
        found.insert(stored.partition);
        Ok(())
    };
    store.each(None, 1_000, &mut visitor).await.unwrap();
    assert_eq!(found.len(), 60);
    assert!(
        cluster.keys().iter().all(|keys| *keys > 10),
        "{:?}",
        cluster.keys()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_host_left_is_found_once_it_is_not_believed_to_live() {
    use crate::{
        core::names::PluginName,
        ports::{KvAccess, PartitionOf, StateStore},
        transactions::Transactions,
    };
    use std::sync::Arc;

    let server = Server::start(&[]);
    let plugin = PluginName::new("p").unwrap();
    let dead: Arc<dyn StateStore> = Arc::new(RedisStore::open(&server.config()).await.unwrap());
    let survivor = RedisStore::open(&server.config()).await.unwrap();
    let transactions = Transactions::new(dead.clone());
    for text in ["1", "2"] {
        let writer = transactions.begin(&plugin, 1_000);
        writer.add("a", "x", 1).unwrap();
        let text = text.to_owned();
        transactions.commit(&writer, || Some(text)).await.unwrap();
    }
    assert_eq!(survivor.unsent().await.unwrap(), []);
    // As when it has not said for a while that it lives.
    dead.close().await;
    let unsent = survivor.unsent().await.unwrap();
    let texts: Vec<&str> = unsent.iter().map(|one| one.outgoing.as_str()).collect();
    assert_eq!(texts, ["1", "2"]);
    // A third one leaves it to the one that has begun.
    let third = RedisStore::open(&server.config()).await.unwrap();
    assert_eq!(third.unsent().await.unwrap(), []);
    for one in &unsent {
        let partition = PartitionOf {
            plugin: &one.plugin,
            name: &one.partition,
        };
        survivor.sent(partition, one.place);
    }
    survivor.close().await;
    server.command(&["DEL", &server.keys_like("switchboard:sweep:*")[0]]);
    assert_eq!(third.unsent().await.unwrap(), []);
    assert_eq!(server.keys_like("*:o:*"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_quiet_are_forgotten_and_known_again_when_they_are_not() {
    use crate::{core::names::PluginName, ports::PartitionOf};

    let server = Server::start(&[]);
    let store = RedisStore::open(&server.config()).await.unwrap();
    let plugin = PluginName::new("p").unwrap();
    let register = |name: &'static str| {
        let (store, plugin) = (&store.0, &plugin);
        async move {
            let partition = PartitionOf { plugin, name };
            store.register(partition).await.unwrap();
        }
    };
    let out = &server.command(&["KEYS", "switchboard:out:*"]);
    assert_eq!(out, "");
    register("quiet").await;
    register("waiting").await;
    let key = server.keys_like("switchboard:out:*").remove(0);
    let members = || server.command(&["SCARD", &key]);
    let waiting = format!("switchboard:{{p:waiting}}:o:{}", store.0.node);
    server.command(&["HSET", &waiting, "1", "text"]);
    store.0.forget_registered().await.unwrap();
    assert_eq!(members(), "2", "a round has to go by");
    register("busy").await;
    store.0.forget_registered().await.unwrap();
    assert_eq!(members(), "2", "the quiet one is gone");
    server.command(&["DEL", &waiting]);
    register("busy").await;
    store.0.forget_registered().await.unwrap();
    assert_eq!(members(), "1", "what was sent is not waited for");
    register("quiet").await;
    assert_eq!(members(), "2");
}

/// Another host writes, without reading, whenever a handler has read.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_of_another_host_cannot_starve_a_reader() {
    use crate::{
        core::names::PluginName,
        ports::{KvAccess, StateStore},
        store::suite::run,
        transactions::Transactions,
    };
    use std::sync::Arc;
    use tokio::sync::watch;

    let server = Server::start(&[]);
    let open = || async {
        let store: Arc<dyn StateStore> =
            Arc::new(RedisStore::open(&server.config()).await.unwrap());
        Transactions::new(store)
    };
    let (own, other) = (open().await, open().await);
    let (wrote, mut written) = watch::channel(0_u64);
    let writing = tokio::spawn(async move {
        let plugin = PluginName::new("p").unwrap();
        while !wrote.is_closed() {
            let writer = other.begin(&plugin, 1_000);
            writer.add("a", "n", 1).unwrap();
            other.commit(&writer, || None).await.unwrap();
            wrote.send_modify(|count| *count += 1);
        }
    });
    written.changed().await.unwrap();
    let (runs, _) = run(&own, 1_000, |transaction| {
        let mut written = written.clone();
        async move {
            let count = transaction.get("a", "n").await?;
            written.mark_unchanged();
            // Real time, since it is another host's; passed only when that one has to wait.
            let more = async {
                for _ in 0..2 {
                    written.changed().await.unwrap();
                }
            };
            tokio::time::timeout(Duration::from_millis(300), more)
                .await
                .ok();
            transaction.set("a", "seen", count.unwrap_or_default(), None)
        }
    })
    .await;
    assert!((9..=14).contains(&runs), "{runs} runs");
    drop(written);
    writing.await.unwrap();
    assert_eq!(server.keys_like("*:l"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_reserved_for_one_until_he_commits_or_gives_it_up() {
    use crate::{
        core::names::PluginName,
        ports::{PartitionOf, StateStore},
    };

    let server = Server::start(&[]);
    let store = RedisStore::open(&server.config()).await.unwrap();
    let plugin = PluginName::new("p").unwrap();
    let partition = PartitionOf {
        plugin: &plugin,
        name: "a",
    };
    assert_eq!(store.reserve(partition, 1).await, Ok(true));
    assert_eq!(store.reserve(partition, 2).await, Ok(false));
    assert_eq!(store.reserve(partition, 1).await, Ok(true));
    let left: u64 = server
        .command(&["PTTL", "switchboard:{p:a}:l"])
        .parse()
        .unwrap();
    assert!((1..=2_000).contains(&left), "{left}");
    // What is somebody else's is not given up.
    store.give_up(partition, 2);
    store.give_up(partition, 1);
    let free = async {
        while store.reserve(partition, 3).await != Ok(true) {
            tokio::task::yield_now().await;
        }
    };
    let in_time = Duration::from_millis(1_500);
    tokio::time::timeout(in_time, free).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_taken_for_dead_says_again_where_it_leaves_something() {
    use crate::{core::names::PluginName, ports::PartitionOf};

    let server = Server::start(&[]);
    let store = RedisStore::open(&server.config()).await.unwrap();
    let plugin = PluginName::new("p").unwrap();
    let name = "a";
    let partition = PartitionOf {
        plugin: &plugin,
        name,
    };
    store.0.register(partition).await.unwrap();
    let key = server.keys_like("switchboard:out:*").remove(0);
    // As others do with one that they take for dead.
    server.command(&["DEL", &key, "switchboard:nodes"]);
    store.0.beat().await.unwrap();
    assert_eq!(server.command(&["SMEMBERS", &key]), "p\na");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_while_redis_refused_to_note_it_is_noted_later() {
    use crate::{
        core::names::PluginName,
        ports::{KvAccess, PartitionOf, StateStore},
        transactions::Transactions,
    };
    use std::sync::Arc;

    let server = Server::start(&[]);
    let store: Arc<dyn StateStore> = Arc::new(RedisStore::open(&server.config()).await.unwrap());
    let transactions = Transactions::new(store.clone());
    let plugin = PluginName::new("p").unwrap();
    let writer = transactions.begin(&plugin, 1_000);
    writer.add("a", "x", 1).unwrap();
    let done = transactions.commit(&writer, || Some("1".to_owned())).await;
    let place = done.unwrap().unwrap().place();
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let name = "a";
    let partition = PartitionOf {
        plugin: &plugin,
        name,
    };
    store.sent(partition, place);
    // Answered once it has been tried.
    store.close().await;
    assert_eq!(server.keys_like("*:o:*").len(), 1);
    server.command(&["REPLICAOF", "NO", "ONE"]);
    let noted = async {
        while !server.keys_like("*:o:*").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), noted)
        .await
        .unwrap();
}

/// Of the last 5,000 commits of a partition it is known that they were done.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_may_have_been_done_and_forgotten_is_not_done_again() {
    use super::{arguments_of, mark_as_tried, texts};
    use crate::{
        core::names::PluginName,
        ports::{Commit, HistoryWrites, PartitionOf, Write},
    };
    use std::collections::BTreeMap;

    let server = Server::start(&[]);
    let store = RedisStore::open(&server.config()).await.unwrap();
    let plugin = PluginName::new("p").unwrap();
    let commit = Commit {
        partition: PartitionOf {
            plugin: &plugin,
            name: "a",
        },
        at_ms: 1_000,
        seen: &[],
        writes: &BTreeMap::from([("kx".to_owned(), Write::Add(1))]),
        history: &HistoryWrites::default(),
        outgoing: None,
        owner: None,
    };
    let again = async |tried: bool| {
        let mut arguments = arguments_of(&commit, store.0.late_ms());
        if tried {
            mark_as_tried(&mut arguments);
        }
        let keys: Vec<String> = ["", ":n", ":e", ":t", ":c", ":o:node", ":x", ":l"]
            .iter()
            .map(|suffix| format!("switchboard:{{p:a}}{suffix}"))
            .collect();
        let arguments = arguments.iter().map(String::as_str);
        let script = &store.0.scripts.commit;
        let answer = store.0.link.script(script, &keys, arguments).await;
        texts(answer.unwrap()).unwrap().remove(0)
    };
    assert_eq!(again(true).await, "ok", "all are known");
    let fill = "for n = 1, 5000 do redis.call('ZADD', KEYS[1], n, n) end";
    server.command(&["EVAL", fill, "1", "switchboard:{p:a}:c"]);
    assert_eq!(again(true).await, "late");
    assert_eq!(again(false).await, "ok");
}
