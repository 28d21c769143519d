use super::*;
use crate::core::state::Timer;

/// A directory of a test's own, gone with it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let name = format!("switchboard-{}", uuid::Uuid::now_v7());
        Self(std::env::temp_dir().join(name))
    }

    fn file(&self) -> PathBuf {
        self.0.join(FILE)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn plugin() -> PluginName {
    PluginName::new("p").unwrap()
}

async fn set(store: &EmbeddedStore, key: &str, at_ms: u64, expires_at: Option<u64>) {
    let plugin = plugin();
    let commit = Commit {
        partition: PartitionOf {
            plugin: &plugin,
            name: "a",
        },
        at_ms,
        seen: &[],
        writes: &BTreeMap::from([(key.to_owned(), Write::Set(key.to_owned(), expires_at))]),
        history: &HistoryWrites::default(),
        outgoing: None,
        owner: None,
    };
    store.commit(commit).await.unwrap();
}

async fn get(store: &EmbeddedStore, key: &str) -> Option<Versioned> {
    let plugin = plugin();
    let partition = PartitionOf {
        plugin: &plugin,
        name: "a",
    };
    store.read(partition, key, 1).await.unwrap()
}

/// Lets go of a store, and waits until its writer has closed the file.
async fn close(store: EmbeddedStore) {
    let database = store.database.clone();
    drop(store);
    let closed = async {
        while database.read().is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), closed)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_is_there_again() {
    let directory = Directory::new();
    let store = EmbeddedStore::open(&directory.0).unwrap();
    store.record(&plugin(), 7);
    set(&store, "x", 1, None).await;
    let before = get(&store, "x").await;
    close(store).await;
    let store = EmbeddedStore::open(&directory.0).unwrap();
    assert_eq!(get(&store, "x").await, before);
    assert_eq!(store.stored(&plugin()), Some(7));
    // Versions go on where they were.
    set(&store, "x", 1, None).await;
    let (before, now) = (
        before.unwrap().version,
        get(&store, "x").await.unwrap().version,
    );
    assert_eq!((now.epoch, now.number), (before.epoch, before.number + 1));
}

#[tokio::test]
async fn a_directory_has_one_user() {
    let directory = Directory::new();
    let store = EmbeddedStore::open(&directory.0).unwrap();
    let refused = EmbeddedStore::open(&directory.0).err().unwrap();
    assert!(matches!(refused, OpenError::InUse(_)), "{refused}");
    set(&store, "x", 1, None).await;
    assert!(get(&store, "x").await.is_some());
}

#[tokio::test]
async fn what_is_damaged_is_refused_and_left_as_it_is() {
    let directory = Directory::new();
    let store = EmbeddedStore::open(&directory.0).unwrap();
    set(&store, "x", 1, None).await;
    close(store).await;
    let whole = std::fs::read(directory.file()).unwrap();
    let mut headless = whole.clone();
    headless[..512].fill(0x5a);
    for damaged in [
        headless,
        whole[..whole.len() / 3].to_vec(),
        b"something else altogether".repeat(1_000),
    ] {
        std::fs::write(directory.file(), &damaged).unwrap();
        let refused = EmbeddedStore::open(&directory.0).err().unwrap();
        assert!(matches!(refused, OpenError::Damaged(..)), "{refused}");
        assert_eq!(std::fs::read(directory.file()).unwrap(), damaged);
    }
}

#[tokio::test]
async fn what_expired_is_removed_and_a_partition_ends_with_its_last_entry() {
    let store = EmbeddedStore::fleeting();
    for number in 0..50 {
        set(&store, &format!("k{number}"), 1_000, Some(2_000)).await;
    }
    set(&store, "k1", 1_000, Some(9_000_000)).await;
    set(&store, "k2", 1_000, None).await;
    let rows = |store: &EmbeddedStore| {
        let database = store.database.read();
        let transaction = database.as_ref().unwrap().begin_read().unwrap();
        let entries = transaction.open_table(ENTRIES).unwrap();
        let expiring = transaction.open_table(EXPIRING).unwrap();
        let partitions = transaction.open_table(PARTITIONS).unwrap();
        let counted = partitions
            .iter()
            .unwrap()
            .map(|row| row.unwrap().1.value().2);
        (
            entries.iter().unwrap().count(),
            expiring.iter().unwrap().count(),
            counted.sum::<u64>(),
        )
    };
    set(&store, "k2", 61_999, None).await;
    assert_eq!(rows(&store), (50, 49, 50), "an older event may still come");
    set(&store, "k2", 62_000, None).await;
    assert_eq!(rows(&store), (2, 1, 2));
}

#[tokio::test]
async fn what_was_not_sent_is_found_when_it_is_opened_again_and_what_was_is_not() {
    let directory = Directory::new();
    let plugin = plugin();
    let partition = PartitionOf {
        plugin: &plugin,
        name: "a",
    };
    let store = EmbeddedStore::open(&directory.0).unwrap();
    let mut places = Vec::new();
    for text in ["1", "2", "3"] {
        let commit = Commit {
            partition,
            at_ms: 1,
            seen: &[],
            writes: &BTreeMap::from([("kx".to_owned(), Write::Add(1))]),
            history: &HistoryWrites::default(),
            outgoing: Some(text),
            owner: None,
        };
        places.push(store.commit(commit).await.unwrap().place);
    }
    store.sent(partition, places[1]);
    store.close().await;
    close(store).await;
    let store = EmbeddedStore::open(&directory.0).unwrap();
    let unsent = store.unsent().await.unwrap();
    let texts: Vec<&str> = unsent.iter().map(|one| one.outgoing.as_str()).collect();
    assert_eq!(texts, ["1", "3"]);
    for one in &unsent {
        store.sent(partition, one.place);
    }
    store.close().await;
    close(store).await;
    let store = EmbeddedStore::open(&directory.0).unwrap();
    assert_eq!(store.unsent().await.unwrap(), []);
}

#[tokio::test]
async fn what_is_in_the_file_after_a_failed_write_is_known_again() {
    let directory = Directory::new();
    let plugin = plugin();
    let store = EmbeddedStore::open(&directory.0).unwrap();
    let mut places = Vec::new();
    for (name, outgoing) in [("tone", "1"), ("ttwo", "2")] {
        let timer = Timer {
            due_ms: 5,
            every_ms: None,
            payload: "null".to_owned(),
        };
        let commit = Commit {
            partition: PartitionOf {
                plugin: &plugin,
                name: "a",
            },
            at_ms: 1,
            seen: &[],
            writes: &BTreeMap::from([(name.to_owned(), Write::Set(timer.to_string(), None))]),
            history: &HistoryWrites::default(),
            outgoing: Some(outgoing),
            owner: None,
        };
        places.push(store.commit(commit).await.unwrap().place);
    }
    close(store).await;
    // A writer that was told of a failure, and knows of neither.
    let timers: Arc<TimerIndex> = Arc::default();
    let unsent: Arc<Mutex<Vec<Unsent>>> = Arc::default();
    let mut writer = Writer {
        file: directory.file(),
        database: Arc::default(),
        durability: Durability::Immediate,
        notes: Arc::default(),
        timers: timers.clone(),
        unsent: unsent.clone(),
        next_place: 9,
        doubtful: None,
    };
    writer.open_again(places[1]);
    let texts: Vec<String> = unsent.lock().drain(..).map(|one| one.outgoing).collect();
    assert_eq!(texts, ["2"], "what came before is another's");
    drop(writer);
    let store = EmbeddedStore::open(&directory.0).unwrap();
    let due = timers.due(&store, &[plugin].into(), 9, 10, 9).await;
    assert_eq!(due.unwrap().timers.len(), 2);
}
