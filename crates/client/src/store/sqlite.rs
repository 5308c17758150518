//! The native store: one SQLite file, one opener.

use core::ops::RangeInclusive;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use corncrake_core::seal::local::StoreKey;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteLockingMode, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, QueryBuilder, Row as _};
use tokio::sync::Mutex;

use super::{Batch, Key, Order, Store, StoreError, Table};

/// The version of the file's layout.
const LAYOUT: i64 = 1;

const ROWS_PER_STATEMENT: usize = 32;

const CREATE: &str = "
    CREATE TABLE rows (
        tbl INTEGER NOT NULL,
        name BLOB NOT NULL,
        idx INTEGER NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (tbl, name, idx)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE opener (fence INTEGER NOT NULL) STRICT;
    INSERT INTO opener (fence) VALUES (0);
    PRAGMA user_version = 1;
";

/// A store in an SQLite file.
///
/// While it is open it holds an OS lock on a file beside it, so that a second opener learns at
/// once that it comes second; the system frees the lock when the process ends, however it ends.
/// Commits are durable when they return (write-ahead log, `synchronous=FULL`), and what is deleted
/// is overwritten.
#[derive(Debug)]
pub struct SqliteStore {
    key: StoreKey,
    connection: Mutex<SqliteConnection>,
    _lock: File,
}

impl SqliteStore {
    /// Opens the store at `path` and makes it if there is none.
    ///
    /// # Errors
    /// [`StoreError::InUse`] at once if somebody has it open, [`StoreError::Damaged`] if the file
    /// is no store of ours, [`StoreError::Unavailable`] if it can't be read or made.
    pub async fn open(path: impl AsRef<Path>, key: StoreKey) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let lock = take_lock(path)?;
        let mut connection = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .locking_mode(SqliteLockingMode::Exclusive)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("secure_delete", "on")
            .disable_statement_logging()
            .connect()
            .await
            .map_err(failure)?;
        lay_out(&mut connection).await?;
        Ok(Self { key, connection: Mutex::new(connection), _lock: lock })
    }

    /// Closes the file; another may open it when this returns.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the last bytes can't be moved from log to file; nothing is
    /// lost then, the next opener moves them.
    pub async fn close(self) -> Result<(), StoreError> {
        self.connection.into_inner().close().await.map_err(failure)
    }
}

impl Store for SqliteStore {
    fn key(&self) -> &StoreKey {
        &self.key
    }

    async fn open_fence(&self) -> Result<u64, StoreError> {
        let mut connection = self.connection.lock().await;
        let fence: i64 = sqlx::query_scalar("UPDATE opener SET fence = fence + 1 RETURNING fence")
            .fetch_one(&mut *connection)
            .await
            .map_err(failure)?;
        Ok(fence.cast_unsigned())
    }

    async fn get(&self, key: Key) -> Result<Option<Vec<u8>>, StoreError> {
        let mut connection = self.connection.lock().await;
        sqlx::query_scalar("SELECT value FROM rows WHERE tbl = ? AND name = ? AND idx = ?")
            .bind(key.table.0)
            .bind(key.name.as_slice())
            .bind(index_to_sql(key.index))
            .fetch_optional(&mut *connection)
            .await
            .map_err(failure)
    }

    async fn range(
        &self,
        (table, name): (Table, [u8; 16]),
        range: RangeInclusive<u64>,
        order: Order,
        limit: u32,
    ) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let query = match order {
            Order::Ascending => {
                "SELECT idx, value FROM rows WHERE tbl = ? AND name = ? AND idx BETWEEN ? AND ? \
                 ORDER BY idx LIMIT ?"
            }
            Order::Descending => {
                "SELECT idx, value FROM rows WHERE tbl = ? AND name = ? AND idx BETWEEN ? AND ? \
                 ORDER BY idx DESC LIMIT ?"
            }
        };
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query(query)
            .bind(table.0)
            .bind(name.as_slice())
            .bind(index_to_sql(*range.start()))
            .bind(index_to_sql(*range.end()))
            .bind(limit)
            .fetch_all(&mut *connection)
            .await
            .map_err(failure)?;
        let read = |row: &SqliteRow| Ok((index_from_sql(row.try_get(0)?), row.try_get(1)?));
        rows.iter().map(read).collect::<Result<_, _>>().map_err(failure)
    }

    async fn scan(&self, table: Table) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        let mut connection = self.connection.lock().await;
        let query = "SELECT name, idx, value FROM rows WHERE tbl = ? ORDER BY name, idx";
        let rows =
            sqlx::query(query).bind(table.0).fetch_all(&mut *connection).await.map_err(failure)?;
        let read = |row: &SqliteRow| {
            let name: &[u8] = row.try_get(0).map_err(failure)?;
            let name = name.try_into().map_err(|_| StoreError::Damaged)?;
            let index = index_from_sql(row.try_get(1).map_err(failure)?);
            Ok((Key { table, name, index }, row.try_get(2).map_err(failure)?))
        };
        rows.iter().map(read).collect()
    }

    async fn commit(&self, batch: Batch, fence: u64) -> Result<(), StoreError> {
        let mut connection = self.connection.lock().await;
        // Dropped on the way, by an error or with the future, the transaction is undone.
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failure)?;
        let newest: i64 = sqlx::query_scalar("SELECT fence FROM opener")
            .fetch_one(&mut *transaction)
            .await
            .map_err(failure)?;
        if newest.cast_unsigned() != fence {
            return Err(StoreError::Fenced);
        }
        write(&mut transaction, batch).await.map_err(failure)?;
        transaction.commit().await.map_err(failure)
    }
}

async fn write(connection: &mut SqliteConnection, batch: Batch) -> Result<(), sqlx::Error> {
    let Batch { puts, deletes, delete_ranges } = batch;
    for (table, name) in delete_ranges {
        sqlx::query("DELETE FROM rows WHERE tbl = ? AND name = ?")
            .bind(table.0)
            .bind(name.as_slice())
            .execute(&mut *connection)
            .await?;
    }
    for key in deletes {
        sqlx::query("DELETE FROM rows WHERE tbl = ? AND name = ? AND idx = ?")
            .bind(key.table.0)
            .bind(key.name.as_slice())
            .bind(index_to_sql(key.index))
            .execute(&mut *connection)
            .await?;
    }
    // Many rows to a statement: each statement is a trip to SQLite's thread and back.
    for rows in puts.chunks(ROWS_PER_STATEMENT) {
        let mut insert = QueryBuilder::new("INSERT OR REPLACE INTO rows (tbl, name, idx, value) ");
        insert.push_values(rows, |mut row, (key, value)| {
            row.push_bind(key.table.0)
                .push_bind(key.name.as_slice())
                .push_bind(index_to_sql(key.index))
                .push_bind(value.as_slice());
        });
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// Takes the OS lock on the file beside the store.
fn take_lock(path: &Path) -> Result<File, StoreError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(PathBuf::from(beside))
        .map_err(|_| StoreError::Unavailable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse),
        Err(TryLockError::Error(_)) => Err(StoreError::Unavailable),
    }
}

/// Creates the tables in an empty file; any other file must have our layout.
async fn lay_out(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failure)?;
    let version: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut *transaction)
        .await
        .map_err(failure)?;
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema")
        .fetch_one(&mut *transaction)
        .await
        .map_err(failure)?;
    match (version, tables) {
        (LAYOUT, _) => Ok(()),
        (0, 0) => {
            transaction.execute(CREATE).await.map_err(failure)?;
            transaction.commit().await.map_err(failure)
        }
        _ => Err(StoreError::Damaged),
    }
}

/// SQLite's integers are signed; flipping the top bit keeps the order.
fn index_to_sql(index: u64) -> i64 {
    (index ^ 1 << 63).cast_signed()
}

fn index_from_sql(index: i64) -> u64 {
    index.cast_unsigned() ^ 1 << 63
}

/// Tells apart who must act: another opener, the file, the disk.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn failure(error: sqlx::Error) -> StoreError {
    const BUSY: i32 = 5;
    const LOCKED: i32 = 6;
    const CORRUPT: i32 = 11;
    const NOT_A_DATABASE: i32 = 26;
    match &error {
        sqlx::Error::Database(error) => {
            let code = error.code().and_then(|code| code.parse::<i32>().ok());
            // The low byte is the primary code.
            match code.map(|code| code & 0xFF) {
                Some(BUSY | LOCKED) => StoreError::InUse,
                Some(CORRUPT | NOT_A_DATABASE) => StoreError::Damaged,
                _ => StoreError::Unavailable,
            }
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::RowNotFound => StoreError::Damaged,
        _ => StoreError::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

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
        let mut connection = store.connection.lock().await;
        for (pragma, expected) in [
            ("PRAGMA synchronous", "2"),
            ("PRAGMA journal_mode", "wal"),
            ("PRAGMA secure_delete", "1"),
        ] {
            let row = connection.fetch_one(pragma).await.unwrap();
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
}
