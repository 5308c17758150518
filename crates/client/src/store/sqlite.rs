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
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

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
/// Commits are durable when they return (write-ahead log, `synchronous=FULL`). What is deleted is
/// overwritten in the file at once, and is gone from the write-ahead log too after
/// [`Store::forget`] and [`Store::close`].
#[derive(Debug)]
pub struct SqliteStore {
    key: StoreKey,
    /// Nothing once the store is closed.
    open: Mutex<Option<Open>>,
}

/// An open file, and the lock that goes with it.
#[derive(Debug)]
struct Open {
    connection: SqliteConnection,
    /// Whether a transaction was begun whose end isn't known.
    in_doubt: bool,
    _lock: File,
}

impl Open {
    /// Undoes a transaction that was dropped on the way. The transactions of sqlx don't serve here:
    /// after some failures (a full disk) SQLite has rolled back by itself, sqlx's own rollback then
    /// fails, and it takes the connection to be in a transaction for ever.
    async fn settle(&mut self) {
        if core::mem::take(&mut self.in_doubt) {
            // An error says that there is no transaction any more.
            let _ = self.connection.execute("ROLLBACK").await;
        }
    }
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
        let open = Open { connection, in_doubt: false, _lock: lock };
        Ok(Self { key, open: Mutex::new(Some(open)) })
    }

    /// The open file, with no transaction under way.
    async fn opened(&self) -> Result<MappedMutexGuard<'_, Open>, StoreError> {
        let guard = self.open.lock().await;
        let mut open =
            MutexGuard::try_map(guard, Option::as_mut).map_err(|_| StoreError::Unavailable)?;
        open.settle().await;
        Ok(open)
    }
}

/// Moves everything from the write-ahead log to the file, and empties the log: older states of
/// rows are in it as they were written.
async fn empty_log(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let is_blocked: i64 = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)")
        .fetch_one(connection)
        .await
        .map_err(failure)?;
    if is_blocked == 0 { Ok(()) } else { Err(StoreError::Unavailable) }
}

impl Store for SqliteStore {
    fn key(&self) -> &StoreKey {
        &self.key
    }

    async fn open_fence(&self) -> Result<u64, StoreError> {
        let mut open = self.opened().await?;
        let fence: i64 = sqlx::query_scalar("UPDATE opener SET fence = fence + 1 RETURNING fence")
            .fetch_one(&mut open.connection)
            .await
            .map_err(failure)?;
        Ok(fence.cast_unsigned())
    }

    async fn get(&self, key: Key) -> Result<Option<Vec<u8>>, StoreError> {
        let mut open = self.opened().await?;
        sqlx::query_scalar("SELECT value FROM rows WHERE tbl = ? AND name = ? AND idx = ?")
            .bind(key.table.0)
            .bind(key.name.as_slice())
            .bind(index_to_sql(key.index))
            .fetch_optional(&mut open.connection)
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
        let mut open = self.opened().await?;
        let rows = sqlx::query(query)
            .bind(table.0)
            .bind(name.as_slice())
            .bind(index_to_sql(*range.start()))
            .bind(index_to_sql(*range.end()))
            .bind(limit)
            .fetch_all(&mut open.connection)
            .await
            .map_err(failure)?;
        let read = |row: &SqliteRow| Ok((index_from_sql(row.try_get(0)?), row.try_get(1)?));
        rows.iter().map(read).collect::<Result<_, _>>().map_err(failure)
    }

    async fn scan(&self, table: Table) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        let mut open = self.opened().await?;
        let query = "SELECT name, idx, value FROM rows WHERE tbl = ? ORDER BY name, idx";
        let query = sqlx::query(query).bind(table.0);
        let rows = query.fetch_all(&mut open.connection).await.map_err(failure)?;
        let read = |row: &SqliteRow| {
            let name: &[u8] = row.try_get(0).map_err(failure)?;
            let name = name.try_into().map_err(|_| StoreError::Damaged)?;
            let index = index_from_sql(row.try_get(1).map_err(failure)?);
            Ok((Key { table, name, index }, row.try_get(2).map_err(failure)?))
        };
        rows.iter().map(read).collect()
    }

    async fn commit(&self, batch: Batch, fence: u64) -> Result<(), StoreError> {
        let mut open = self.opened().await?;
        let open = &mut *open;
        open.in_doubt = true;
        open.connection.execute("BEGIN IMMEDIATE").await.map_err(failure)?;
        let newest: i64 = sqlx::query_scalar("SELECT fence FROM opener")
            .fetch_one(&mut open.connection)
            .await
            .map_err(failure)?;
        let done = if newest.cast_unsigned() == fence {
            match write(&mut open.connection, batch).await {
                Ok(()) => open.connection.execute("COMMIT").await.map_err(failure),
                Err(error) => Err(failure(error)),
            }
        } else {
            Err(StoreError::Fenced)
        };
        match done {
            Ok(_) => open.in_doubt = false,
            Err(error) => {
                open.settle().await;
                return Err(error);
            }
        }
        Ok(())
    }

    async fn forget(&self) -> Result<(), StoreError> {
        empty_log(&mut self.opened().await?.connection).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        let Some(mut open) = self.open.lock().await.take() else {
            return Ok(());
        };
        open.settle().await;
        let emptied = empty_log(&mut open.connection).await;
        // The lock goes last: who opens the file next finds it closed.
        let Open { connection, _lock: lock, .. } = open;
        let closed = connection.close().await.map_err(failure);
        drop(lock);
        emptied.and(closed)
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
    const FULL: i32 = 13;
    const NOT_A_DATABASE: i32 = 26;
    match &error {
        sqlx::Error::Database(error) => {
            let code = error.code().and_then(|code| code.parse::<i32>().ok());
            // The low byte is the primary code.
            match code.map(|code| code & 0xFF) {
                Some(BUSY | LOCKED) => StoreError::InUse,
                Some(CORRUPT | NOT_A_DATABASE) => StoreError::Damaged,
                Some(FULL) => StoreError::Full,
                _ => StoreError::Unavailable,
            }
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::RowNotFound => StoreError::Damaged,
        _ => StoreError::Unavailable,
    }
}

#[cfg(test)]
mod tests;
