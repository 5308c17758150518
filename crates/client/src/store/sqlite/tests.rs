use std::path::{Path, PathBuf};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::super::tests::{check_rows, rng, store_key};
use super::super::{SealedStore, Writes};
use super::*;

const ONE: Table = Table(1);

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    (folder, path)
}

async fn put(store: &SqliteStore, index: u64, value: &str) {
    let sealed = SealedStore::open(store, &mut rng()).await.unwrap();
    let mut writes = Writes::new();
    writes.put(ONE, b"id", index, value);
    sealed.commit(writes, &mut rng()).await.unwrap();
}

#[tokio::test]
async fn rows_are_read_as_written() {
    let (_folder, path) = folder();
    check_rows(&SqliteStore::open(&path, store_key(1)).await.unwrap()).await;
}

#[tokio::test]
async fn what_was_committed_is_there_after_reopening() {
    let (_folder, path) = folder();
    let store = SqliteStore::open(&path, store_key(1)).await.unwrap();
    put(&store, 7, "krek").await;
    store.close().await.unwrap();
    let store = SqliteStore::open(&path, store_key(1)).await.unwrap();
    let sealed = SealedStore::open(&store, &mut rng()).await.unwrap();
    assert_eq!(**sealed.get(ONE, b"id", 7).await.unwrap().unwrap(), *b"krek");
}

#[tokio::test]
async fn a_dropped_store_is_free_at_once() {
    let (_folder, path) = folder();
    for index in 0..30 {
        let store = SqliteStore::open(&path, store_key(1)).await.unwrap();
        put(&store, index, "x").await;
    }
}

#[tokio::test]
async fn the_second_opener_learns_at_once_that_it_is_in_use() {
    let (_folder, path) = folder();
    let first = SqliteStore::open(&path, store_key(1)).await.unwrap();
    let second = SqliteStore::open(&path, store_key(1)).await;
    assert_eq!(second.err(), Some(StoreError::InUse));
    put(&first, 1, "still works").await;
    drop(first);
    assert!(SqliteStore::open(&path, store_key(1)).await.is_ok());
}

#[tokio::test]
async fn a_lower_fence_commits_nothing() {
    let (_folder, path) = folder();
    let store = SqliteStore::open(&path, store_key(1)).await.unwrap();
    let old = store.open_fence().await.unwrap();
    let new = store.open_fence().await.unwrap();
    let key = Key { table: ONE, name: [1; 16], index: 0 };
    let batch = Batch { puts: vec![(key, vec![1])], ..Batch::default() };
    assert_eq!(store.commit(batch.clone(), old).await, Err(StoreError::Fenced));
    assert_eq!(store.get(key).await, Ok(None));
    assert_eq!(store.commit(batch, new).await, Ok(()));
    drop(store);
    let store = SqliteStore::open(&path, store_key(1)).await.unwrap();
    assert!(store.open_fence().await.unwrap() > new);
}

#[tokio::test]
async fn another_key_is_told_from_damage() {
    let (_folder, path) = folder();
    let store = SqliteStore::open(&path, store_key(1)).await.unwrap();
    put(&store, 1, "x").await;
    drop(store);
    let store = SqliteStore::open(&path, store_key(2)).await.unwrap();
    let refused = SealedStore::open(&store, &mut rng()).await;
    assert_eq!(refused.err(), Some(StoreError::WrongKey));
}

#[tokio::test]
async fn other_files_are_damage_and_stay_as_they_are() {
    let (_folder, path) = folder();
    std::fs::write(&path, "this is somebody's diary, not a store ".repeat(40)).unwrap();
    let before = std::fs::read(&path).unwrap();
    let refused = SqliteStore::open(&path, store_key(1)).await;
    assert_eq!(refused.err(), Some(StoreError::Damaged));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let nowhere = SqliteStore::open("/nonexistent/store", store_key(1)).await;
    assert_eq!(nowhere.err(), Some(StoreError::Unavailable));
}

#[tokio::test]
async fn another_layout_is_refused() {
    let (_folder, path) = folder();
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    connection.execute("CREATE TABLE birds (name TEXT)").await.unwrap();
    connection.close().await.unwrap();
    let refused = SqliteStore::open(&path, store_key(1)).await;
    assert_eq!(refused.err(), Some(StoreError::Damaged));
}

#[tokio::test]
async fn the_files_hold_neither_ids_nor_values() {
    let (folder, path) = folder();
    let store = SqliteStore::open(&path, store_key(1)).await.unwrap();
    let sealed = SealedStore::open(&store, &mut rng()).await.unwrap();
    let mut writes = Writes::new();
    writes.put(ONE, b"MARKER-ID-OF-A-ROW", 1, "MARKER-VALUE-OF-A-ROW");
    sealed.commit(writes, &mut rng()).await.unwrap();
    let planted = Key { table: ONE, name: *b"PLANTED-IN-CLEAR", index: 0 };
    let batch = Batch { puts: vec![(planted, vec![0])], ..Batch::default() };
    let fence = store.open_fence().await.unwrap();
    store.commit(batch, fence).await.unwrap();
    let files = std::fs::read_dir(folder.path()).unwrap();
    let bytes: Vec<u8> =
        files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(holds(b"PLANTED-IN-CLEAR"));
    assert!(!holds(b"MARKER-ID") && !holds(b"MARKER-VALUE"));
}

#[tokio::test]
async fn commits_are_durable_and_deleted_rows_are_overwritten() {
    let (_folder, path) = folder();
    let store = SqliteStore::open(&path, store_key(1)).await.unwrap();
    let mut open = store.opened().await.unwrap();
    for (pragma, expected) in [
        ("PRAGMA synchronous", "2"),
        ("PRAGMA journal_mode", "wal"),
        ("PRAGMA secure_delete", "1"),
        ("PRAGMA temp_store", "2"),
    ] {
        let row = open.connection.fetch_one(pragma).await.unwrap();
        let number = row.try_get::<i64, _>(0).map(|number| number.to_string());
        assert_eq!(number.or_else(|_| row.try_get(0)).unwrap(), expected, "{pragma}");
    }
}

#[test]
fn indices_keep_their_order() {
    let indices = [0, 1, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX];
    assert!(indices.is_sorted_by_key(|index| index_to_sql(*index)));
    assert!(indices.iter().all(|index| index_from_sql(index_to_sql(*index)) == *index));
}

/// Every byte of every file in the folder.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    let read = |file: std::fs::DirEntry| {
        (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())
    };
    files.map(read).collect()
}

/// Which of these values are still in some file: every window of 16 bytes of each is looked for.
fn residues(folder: &Path, dead: &[Vec<u8>]) -> Vec<String> {
    let mut windows = std::collections::HashMap::new();
    for (number, value) in dead.iter().enumerate() {
        windows.extend(value.windows(16).map(|window| (window, number)));
    }
    let files = files(folder);
    let mut found = std::collections::BTreeMap::new();
    for (name, bytes) in &files {
        for window in bytes.windows(16) {
            if let Some(number) = windows.get(window) {
                *found.entry((name.clone(), *number)).or_insert(0) += 1;
            }
        }
    }
    found
        .into_iter()
        .map(|((name, number), times)| format!("{number} in {name}: {times}"))
        .collect()
}

#[tokio::test]
async fn audit_prog_h6_what_was_deleted_or_overwritten_is_in_no_file() {
    for seed in 0..2 {
        let (folder, path) = folder();
        let store = SqliteStore::open(&path, store_key(1)).await.unwrap();
        let fence = store.open_fence().await.unwrap();
        let mut rng = ChaCha20Rng::from_seed([seed; 32]);
        let mut rows = std::collections::BTreeMap::new();
        let mut dead = Vec::new();
        for _ in 0..300 {
            let mut batch = Batch::default();
            for _ in 0..rng.next_u32() % 8 {
                let name = [(rng.next_u32() % 5) as u8; 16];
                let key = Key { table: ONE, name, index: u64::from(rng.next_u32() % 60) };
                let longest = if rng.next_u32() % 10 == 0 { 12_000 } else { 700 };
                let mut value = vec![0; 16 + rng.next_u32() as usize % longest];
                rng.fill_bytes(&mut value);
                dead.extend(rows.insert(key, value.clone()));
                batch.puts.retain(|(known, _)| *known != key);
                batch.puts.push((key, value));
            }
            for _ in 0..rng.next_u32() % 5 {
                let at = rng.next_u32() as usize % rows.len().max(1);
                let Some(key) = rows.keys().nth(at).copied() else { continue };
                if batch.puts.iter().all(|(put, _)| *put != key) {
                    dead.extend(rows.remove(&key));
                    batch.deletes.push(key);
                }
            }
            store.commit(batch, fence).await.unwrap();
        }
        assert!(dead.len() > 500);
        assert_ne!(residues(folder.path(), &dead), [""; 0], "the log holds them meanwhile");
        store.forget().await.unwrap();
        assert_eq!(residues(folder.path(), &dead), [""; 0], "while it is open");
        store.close().await.unwrap();
        assert_eq!(residues(folder.path(), &dead), [""; 0], "after it was closed");
        let mut names: Vec<_> = files(folder.path()).into_iter().map(|(name, _)| name).collect();
        names.sort();
        assert_eq!(names, ["store", "store.lock"], "all that is kept is in one file");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn audit_issue_7_qm6_the_files_of_a_store_are_private_in_any_folder() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let path = folder.path().join("store");
    let store = SqliteStore::open(&path, store_key(1)).await.unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    store.close().await.unwrap();
}

/// Overwrites the same rows again and again; the values that are gone after that.
async fn overwrite(store: &SqliteStore, fence: u64, rng: &mut ChaCha20Rng) -> Vec<Vec<u8>> {
    let mut dead: Vec<Vec<u8>> = Vec::new();
    for _ in 0..40 {
        let mut value = vec![0; 300];
        rng.fill_bytes(&mut value);
        let key = |name| Key { table: ONE, name: [name; 16], index: 0 };
        let puts = (0..6).map(|name| (key(name), value.clone())).collect();
        store.commit(Batch { puts, ..Batch::default() }, fence).await.unwrap();
        dead.push(value);
    }
    dead.pop();
    dead
}

#[tokio::test]
async fn audit_prog_h6_the_log_forgets_and_stays_where_it_is() {
    let (folder, path) = folder();
    let mut rng = ChaCha20Rng::from_seed([5; 32]);
    let store = SqliteStore::open(&path, store_key(1)).await.unwrap();
    let fence = store.open_fence().await.unwrap();
    let length = || beside(&path, "-wal").metadata().unwrap().len();
    let mut lengths = Vec::new();
    for _ in 0..4 {
        let dead = overwrite(&store, fence, &mut rng).await;
        assert_ne!(residues(folder.path(), &dead), [""; 0], "the log holds them meanwhile");
        store.forget().await.unwrap();
        assert_eq!(residues(folder.path(), &dead), [""; 0]);
        lengths.push(length());
    }
    assert_eq!(lengths, [lengths[0]; 4], "it is overwritten, not made anew");
    // A life that ends in the middle leaves the rest to the next one.
    let dead = overwrite(&store, fence, &mut rng).await;
    let copy = tempfile::tempdir().unwrap();
    for (name, bytes) in files(folder.path()) {
        std::fs::write(copy.path().join(name), bytes).unwrap();
    }
    assert_ne!(residues(copy.path(), &dead), [""; 0]);
    let store = SqliteStore::open(copy.path().join("store"), store_key(1)).await.unwrap();
    let newest = store.get(Key { table: ONE, name: [3; 16], index: 0 }).await.unwrap().unwrap();
    assert!(!dead.contains(&newest), "nothing that was committed is lost");
    store.forget().await.unwrap();
    assert_eq!(residues(copy.path(), &dead), [""; 0], "after an end without a warning");
    assert_eq!(beside(&copy.path().join("store"), "-wal").metadata().unwrap().len(), lengths[0]);
}

#[tokio::test]
async fn audit_srv_b2_a_closed_store_is_free_when_close_answers() {
    let (_folder, path) = folder();
    for index in 0..50 {
        let store = SqliteStore::open(&path, store_key(1)).await.unwrap();
        put(&store, index, "x").await;
        store.close().await.unwrap();
        let key = Key { table: ONE, name: [1; 16], index: 0 };
        assert_eq!(store.get(key).await, Err(StoreError::Unavailable));
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn audit_prog_m4_a_full_disk_refuses_and_changes_nothing() {
    let (_folder, path) = folder();
    let store = SqliteStore::open(&path, store_key(1)).await.unwrap();
    put(&store, 1, "before").await;
    let limit = async |pages: u32| {
        let mut open = store.opened().await.unwrap();
        let pragma = format!("PRAGMA max_page_count = {pages}");
        open.connection.execute(sqlx::AssertSqlSafe(pragma)).await.unwrap();
    };
    limit(1).await;
    let fence = store.open_fence().await.unwrap();
    let key = |index| Key { table: ONE, name: [1; 16], index };
    let large = |from| Batch {
        puts: (from..from + 60).map(|index| (key(index), vec![7; 2000])).collect(),
        deletes: vec![key(0)],
        ..Batch::default()
    };
    let small = Batch { puts: vec![(key(0), vec![1])], ..Batch::default() };
    store.commit(small, fence).await.unwrap();
    for _ in 0..3 {
        assert_eq!(store.commit(large(100), fence).await, Err(StoreError::Full));
        assert_eq!(store.get(key(0)).await, Ok(Some(vec![1])));
        assert_eq!(store.get(key(100)).await, Ok(None));
    }
    limit(100_000).await;
    store.commit(large(100), fence).await.unwrap();
    assert_eq!(store.get(key(0)).await, Ok(None));
    assert_eq!(store.get(key(159)).await, Ok(Some(vec![7; 2000])));
}

#[tokio::test]
async fn audit_prog_m4_an_opener_whose_fence_was_not_stored_hears_why() {
    let (_folder, path) = folder();
    let store = SqliteStore::open(&path, store_key(1)).await.unwrap();
    let fence = store.open_fence().await.unwrap();
    // A commit that fails after its statement gave a row, as on a full disk.
    let failing = "CREATE TABLE theirs (one PRIMARY KEY);
        CREATE TABLE ours (one REFERENCES theirs DEFERRABLE INITIALLY DEFERRED);
        CREATE TRIGGER fails AFTER UPDATE ON opener BEGIN INSERT INTO ours VALUES (1); END";
    store.opened().await.unwrap().connection.execute(failing).await.unwrap();
    assert!(store.open_fence().await.is_err());
    store.commit(Batch::default(), fence).await.unwrap();
}

#[tokio::test]
async fn a_batch_of_many_statements_is_one_transaction() {
    let (_folder, path) = folder();
    let store = SqliteStore::open(&path, store_key(1)).await.unwrap();
    let fence = store.open_fence().await.unwrap();
    let key = |name, index| Key { table: ONE, name: [name; 16], index };
    let rows = |name, from| (from..from + 1000).map(move |index| (key(name, index), vec![1]));
    let puts = rows(1, 0).chain(rows(2, 0)).collect();
    store.commit(Batch { puts, ..Batch::default() }, fence).await.unwrap();
    let batch = Batch {
        puts: rows(1, 500).collect(),
        deletes: (0..100).map(|index| key(2, index)).collect(),
        delete_ranges: vec![(ONE, [1; 16])],
        durability: Durability::Soon,
    };
    assert_eq!(store.commit(batch.clone(), fence - 1).await, Err(StoreError::Fenced));
    assert_eq!(store.scan(ONE).await.unwrap().len(), 2000);
    store.commit(batch, fence).await.unwrap();
    let all = async |name| {
        let range = store.range((ONE, [name; 16]), 0..=u64::MAX, Order::Ascending, u32::MAX);
        range.await.unwrap().into_iter().map(|(index, _)| index).collect::<Vec<_>>()
    };
    assert_eq!(all(1).await, (500..1500).collect::<Vec<_>>());
    assert_eq!(all(2).await, (100..1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_empty_batch_makes_durable_what_may_still_be_lost() {
    let (_folder, path) = folder();
    let store = SqliteStore::open(&path, store_key(1)).await.unwrap();
    let fence = store.open_fence().await.unwrap();
    let key = Key { table: ONE, name: [1; 16], index: 0 };
    let soon = Durability::Soon;
    let batch = Batch { puts: vec![(key, vec![7])], durability: soon, ..Batch::default() };
    store.commit(batch, fence).await.unwrap();
    // SQLite syncs the whole log with a transaction that changes something.
    let logged = || beside(&path, "-wal").metadata().unwrap().len();
    let before = logged();
    store.commit(Batch { durability: soon, ..Batch::default() }, fence).await.unwrap();
    assert_eq!(logged(), before);
    store.commit(Batch::default(), fence).await.unwrap();
    let synced = logged();
    assert!(synced > before);
    store.commit(Batch::default(), fence).await.unwrap();
    assert_eq!(logged(), synced);
}

#[cfg(unix)]
#[tokio::test]
async fn audit_srv_b7_gf1_a_store_that_was_removed_or_replaced_takes_nothing_more() {
    for is_replaced in [false, true] {
        let (_folder, path) = folder();
        let store = SqliteStore::open(&path, store_key(1)).await.unwrap();
        let sealed = SealedStore::open(&store, &mut rng()).await.unwrap();
        let write = async |index| {
            let mut writes = Writes::new();
            writes.put(ONE, b"id", index, "krek");
            sealed.commit(writes, &mut rng()).await
        };
        write(1).await.unwrap();
        if is_replaced {
            std::fs::copy(&path, beside(&path, ".copy")).unwrap();
            std::fs::rename(beside(&path, ".copy"), &path).unwrap();
        } else {
            std::fs::remove_file(&path).unwrap();
        }
        assert_eq!(write(2).await, Err(StoreError::Replaced));
        assert_eq!(store.forget().await, Err(StoreError::Replaced));
        assert_eq!(path.exists(), is_replaced, "nothing new is made in its place");
    }
}
