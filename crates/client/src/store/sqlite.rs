//! The native store: one SQLite file, one opener.

use core::ops::RangeInclusive;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use corncrake_core::seal::local::StoreKey;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteLockingMode, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, QueryBuilder, Row as _, Sqlite};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use super::{Batch, Durability, Key, Order, Store, StoreError, Table};

mod log;
mod scrub;

/// The version of the file's layout.
const LAYOUT: i64 = 1;

/// Changes of one statement.
const CHANGES_PER_STATEMENT: usize = 64;
/// Statements that travel to SQLite's thread together.
const STATEMENTS_PER_TRIP: usize = 16;

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
    CREATE VIEW changes AS SELECT 0 AS change, tbl, name, idx, value FROM rows;
    CREATE TRIGGER fences INSTEAD OF INSERT ON changes WHEN NEW.change = 0 BEGIN
        SELECT RAISE(ROLLBACK, 'fenced') FROM opener WHERE fence <> NEW.idx;
    END;
    CREATE TRIGGER erases INSTEAD OF INSERT ON changes WHEN NEW.change = 1 BEGIN
        DELETE FROM rows WHERE tbl = NEW.tbl AND name = NEW.name;
    END;
    CREATE TRIGGER deletes INSTEAD OF INSERT ON changes WHEN NEW.change = 2 BEGIN
        DELETE FROM rows WHERE tbl = NEW.tbl AND name = NEW.name AND idx = NEW.idx;
    END;
    CREATE TRIGGER puts INSTEAD OF INSERT ON changes WHEN NEW.change = 3 BEGIN
        INSERT OR REPLACE INTO rows (tbl, name, idx, value)
        VALUES (NEW.tbl, NEW.name, NEW.idx, NEW.value);
    END;
    PRAGMA user_version = 1;
";

/// With `synchronous=NORMAL` the end of a transaction doesn't wait for the disk.
const SYNC_NOW: &str = "PRAGMA synchronous = FULL; ";
const SYNC_SOON: &str = "PRAGMA synchronous = NORMAL; ";
/// Writes a page as it is; an `UPDATE` that changes nothing writes nothing.
const TOUCH: &str = "PRAGMA user_version = 1; ";

/// What a row costs beside its value, roughly: most of a page.
const ROW_COST: usize = 4096;
/// The length of a page.
const PAGE: u32 = 1024;
/// So many bytes may be written before the log is emptied in the middle of a commit.
const LONGEST_LOG: usize = 16 * 1024 * 1024;
/// A log that is longer is not overwritten with zeros but made anew.
const KEPT_LOG: u64 = 4 * 1024 * 1024;

/// A store in an SQLite file.
///
/// While it is open it holds an OS lock on a file beside it, so that a second opener learns at
/// once that it comes second; the system frees the lock when the process ends, however it ends.
/// Commits are durable when they return (write-ahead log, `synchronous=FULL`), those that may be
/// durable soon when the log is synced next: SQLite recovers a beginning of the log and never a
/// part of it without what comes before. What is deleted or overwritten is in no file any more after [`Store::forget`] and [`Store::close`].
#[derive(Debug)]
pub struct SqliteStore {
    key: StoreKey,
    path: PathBuf,
    /// Nothing once the store is closed.
    open: Mutex<Option<Open>>,
}

/// An open file, and the lock that goes with it.
#[derive(Debug)]
struct Open {
    connection: SqliteConnection,
    /// Whether a transaction was begun whose end isn't known.
    in_doubt: bool,
    /// How much was written since the log was emptied.
    written: usize,
    /// Whether pages that the log doesn't name may hold what was deleted: an earlier life ended
    /// before it could see to that.
    is_unclean: bool,
    /// Whether the end of the log may not have reached the disk.
    is_behind: bool,
    /// When commits are durable, as SQLite has been told.
    durability: Durability,
    /// The store's file, for the scrubbing. To close it would take SQLite's locks from it, so that
    /// is done last.
    file: File,
    lock: File,
}

impl Open {
    async fn at(path: &Path, lock: File, is_unclean: bool) -> Result<Self, StoreError> {
        let connection = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .page_size(PAGE)
            .locking_mode(SqliteLockingMode::Exclusive)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("secure_delete", "on")
            .pragma("wal_autocheckpoint", "0")
            // Rows on their way into a view are no file's business.
            .pragma("temp_store", "memory")
            .disable_statement_logging()
            .connect()
            .await
            .map_err(failure)?;
        let (in_doubt, written, is_behind, durability) = (false, 0, false, Durability::Now);
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|_| StoreError::Unavailable)?;
        Ok(Self { connection, in_doubt, written, is_unclean, is_behind, durability, file, lock })
    }

    /// Refuses to go on with a file that nobody will find again at `path`: it was removed, or
    /// another one was put in its place.
    fn check_place(&self, path: &Path) -> Result<(), StoreError> {
        if is_at(&self.file, path) { Ok(()) } else { Err(StoreError::Replaced) }
    }

    /// Undoes a transaction that was dropped on the way. The transactions of sqlx don't serve here:
    /// after some failures (a full disk) SQLite has rolled back by itself, sqlx's own rollback then
    /// fails, and it takes the connection to be in a transaction for ever.
    async fn settle(&mut self) {
        if core::mem::take(&mut self.in_doubt) {
            // An error says that there is no transaction any more.
            let _ = self.connection.execute("ROLLBACK").await;
        }
    }

    /// Moves everything from the write-ahead log to the file and closes it, then overwrites what
    /// was deleted where SQLite doesn't. Gives the lock back, and whether all that was done.
    async fn shut(mut self, path: &Path) -> (File, Result<(), StoreError>) {
        self.settle().await;
        let held = log::held(&beside(path, "-wal"));
        let emptied = empty_log(&mut self.connection).await;
        let closed = self.connection.close().await.map_err(failure);
        let scrubbed = held.and_then(|held| {
            scrub::scrub(&mut self.file, Some(&held.pages).filter(|_| !self.is_unclean))
        });
        let scrubbed = scrubbed.map_err(|_| StoreError::Unavailable);
        (self.lock, emptied.and(closed).and(scrubbed))
    }

    /// Moves everything from the write-ahead log to the file and overwrites what was deleted, in
    /// the file where SQLite doesn't and in the log; that stays as long as it is.
    async fn clean(&mut self, path: &Path) -> Result<(), StoreError> {
        let wal = beside(path, "-wal");
        let unavailable = |_| StoreError::Unavailable;
        let (held, before) = (log::held(&wal).map_err(unavailable)?, log::name(&wal));
        let before = before.map_err(unavailable)?;
        let moved = sqlx::query("PRAGMA wal_checkpoint(RESTART)");
        let moved = moved.fetch_one(&mut self.connection).await.map_err(failure)?;
        let count = |column| moved.try_get::<i64, _>(column).map_err(failure);
        if (count(0)?, count(1)?) != (0, count(2)?) {
            return Err(StoreError::Unavailable);
        }
        scrub::scrub(&mut self.file, Some(&held.pages)).map_err(unavailable)?;
        // The log begins again, and its beginning is synced: from then on what is behind means
        // nothing, even to who finds a part of it overwritten. Whoever writes next need not sync
        // that.
        self.connection.execute(SYNC_SOON).await.map_err(failure)?;
        self.durability = Durability::Soon;
        self.connection.execute(TOUCH).await.map_err(failure)?;
        if log::name(&wal).map_err(unavailable)? == before {
            return Err(StoreError::Unavailable);
        }
        log::blank(&wal, &held).map_err(unavailable)?;
        (self.written, self.is_behind) = (0, false);
        Ok(())
    }
}

impl SqliteStore {
    /// Opens the store at `path` and makes it if there is none.
    ///
    /// # Errors
    /// [`StoreError::InUse`] at once if somebody has it open, [`StoreError::Damaged`] if the file
    /// is no store of ours, [`StoreError::Unavailable`] if it can't be read or made.
    pub async fn open(path: impl AsRef<Path>, key: StoreKey) -> Result<Self, StoreError> {
        let path = path.as_ref().to_path_buf();
        let lock = take_lock(&path)?;
        let wal = beside(&path, "-wal");
        let is_unclean = log::holds_more_than_a_page(&wal);
        // What SQLite puts beside it gets its permissions.
        drop(private_file(&path)?);
        let mut open = Open::at(&path, lock, is_unclean).await?;
        lay_out(&mut open.connection).await?;
        // Without that commits take longer.
        let _ = log::lay_out(&wal);
        Ok(Self { key, path, open: Mutex::new(Some(open)) })
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
        // To the end of the statement: only there it is committed, or isn't.
        let fence: Vec<i64> =
            sqlx::query_scalar("UPDATE opener SET fence = fence + 1 RETURNING fence")
                .fetch_all(&mut open.connection)
                .await
                .map_err(failure)?;
        fence.first().map(|fence| fence.cast_unsigned()).ok_or(StoreError::Damaged)
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
        // SQLite looks at the value of a bare parameter to plan for it, and so compiles the statement
        // anew each time that another one is bound.
        let query = match order {
            Order::Ascending => {
                "SELECT idx, value FROM rows WHERE tbl = ? AND name = ? AND idx BETWEEN ? AND ? \
                 ORDER BY idx LIMIT ? + 0"
            }
            Order::Descending => {
                "SELECT idx, value FROM rows WHERE tbl = ? AND name = ? AND idx BETWEEN ? AND ? \
                 ORDER BY idx DESC LIMIT ? + 0"
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
        let mut guard = self.opened().await?;
        let open = &mut *guard;
        let is_empty =
            batch.puts.is_empty() && batch.deletes.is_empty() && batch.delete_ranges.is_empty();
        let durability = batch.durability;
        let size = batch.puts.iter().map(|(_, value)| value.len() + ROW_COST).sum::<usize>();
        open.in_doubt = true;
        let mut trip = QueryBuilder::new("");
        if open.durability != durability {
            trip.push(if durability == Durability::Now { SYNC_NOW } else { SYNC_SOON });
        }
        if is_empty && durability == Durability::Now && open.is_behind {
            // SQLite syncs nothing for a transaction that changes nothing.
            trip.push(TOUCH);
        }
        if let Err(error) = write(&mut open.connection, trip, &batch, fence).await {
            open.settle().await;
            let newest = fence_of(&mut open.connection).await;
            let fenced = newest.is_ok_and(|newest| newest.cast_unsigned() != fence);
            return Err(if fenced { StoreError::Fenced } else { failure(error) });
        }
        open.durability = durability;
        open.in_doubt = false;
        open.written += size;
        open.is_behind = durability == Durability::Soon && (open.is_behind || !is_empty);
        open.check_place(&self.path)?;
        if open.written > LONGEST_LOG {
            drop(guard);
            // What failed here is tried again, and matters to nobody who commits.
            let _ = self.forget().await;
        }
        Ok(())
    }

    async fn forget(&self) -> Result<(), StoreError> {
        let mut guard = self.open.lock().await;
        // The pages are changed behind SQLite's back, so the file is closed meanwhile. Where that
        // would fail for want of space it stays open.
        let open = guard.as_mut().ok_or(StoreError::Unavailable)?;
        open.settle().await;
        if open.written == 0 && !open.is_unclean {
            return Ok(());
        }
        // To open it again would make a new one.
        open.check_place(&self.path)?;
        let length = beside(&self.path, "-wal").metadata().map_or(0, |log| log.len());
        if !open.is_unclean && length <= KEPT_LOG && open.clean(&self.path).await.is_ok() {
            return Ok(());
        }
        open.connection.execute("PRAGMA wal_checkpoint(FULL)").await.map_err(failure)?;
        let Some(open) = guard.take() else {
            return Err(StoreError::Unavailable);
        };
        let (lock, shut) = open.shut(&self.path).await;
        let open = guard.insert(Open::at(&self.path, lock, shut.is_err()).await?);
        // The log is there from the first look at the file on.
        let _ = open.connection.execute("SELECT 1 FROM opener").await;
        let _ = log::lay_out(&beside(&self.path, "-wal"));
        // Whoever writes next finds a log that has begun: its beginning is synced by itself.
        let _ = open.connection.execute(TOUCH).await;
        shut
    }

    async fn close(&self) -> Result<(), StoreError> {
        let Some(open) = self.open.lock().await.take() else {
            return Ok(());
        };
        // The lock goes last: who opens the file next finds it closed.
        let (_lock, shut) = open.shut(&self.path).await;
        shut
    }
}

async fn fence_of(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT fence FROM opener").fetch_one(connection).await
}

/// Makes the changes of a batch: by one statement, which is its own transaction, or where they are
/// many by several in one. What a statement has done travels back from SQLite's thread by itself,
/// and each such trip costs as much as a small write.
async fn write(
    connection: &mut SqliteConnection,
    mut trip: QueryBuilder<Sqlite>,
    batch: &Batch,
    fence: u64,
) -> Result<(), sqlx::Error> {
    let Batch { puts, deletes, delete_ranges, durability: _ } = batch;
    let changes: Vec<Change<'_>> = [Change::Fence(fence)]
        .into_iter()
        .chain(delete_ranges.iter().map(Change::Erase))
        .chain(deletes.iter().map(Change::Delete))
        .chain(puts.iter().map(|(key, value)| Change::Put(key, value)))
        .collect();
    let is_one = changes.len() <= CHANGES_PER_STATEMENT;
    if !is_one {
        trip.push("BEGIN IMMEDIATE; ");
    }
    let mut statements = changes.chunks(CHANGES_PER_STATEMENT).enumerate();
    while let Some((number, changes)) = statements.next() {
        trip.push("INSERT INTO changes (change, tbl, name, idx, value) ");
        trip.push_values(changes, |mut row, change| {
            let (kind, table, name, index, value) = change.columns();
            row.push_bind(kind).push_bind(table).push_bind(name).push_bind(index).push_bind(value);
        });
        if !is_one {
            trip.push("; ");
        }
        if (number + 1).is_multiple_of(STATEMENTS_PER_TRIP) && statements.len() > 0 {
            trip.build().execute(&mut *connection).await?;
            trip = QueryBuilder::new("");
        }
    }
    if !is_one {
        trip.push("COMMIT");
    }
    trip.build().execute(connection).await?;
    Ok(())
}

/// One change of a batch, as a row of `changes`.
enum Change<'a> {
    /// Nothing is changed unless the fence is this one.
    Fence(u64),
    Erase(&'a (Table, [u8; 16])),
    Delete(&'a Key),
    Put(&'a Key, &'a [u8]),
}

impl<'a> Change<'a> {
    /// Its kind, and what it concerns.
    const fn columns(&self) -> (u8, u8, &'a [u8], i64, &'a [u8]) {
        match *self {
            Self::Fence(fence) => (0, 0, &[], fence.cast_signed(), &[]),
            Self::Erase((table, name)) => (1, table.0, name, 0, &[]),
            Self::Delete(Key { table, name, index }) => {
                (2, table.0, name, index_to_sql(*index), &[])
            }
            Self::Put(Key { table, name, index }, value) => {
                (3, table.0, name, index_to_sql(*index), value)
            }
        }
    }
}

/// The file beside the store with this ending.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(ending);
    PathBuf::from(beside)
}

/// Whether an open file is the one that has this name. What can't be told is taken for the same:
/// whatever else is wrong shows in what is read and written.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(file), Ok(named)) => (file.dev(), file.ino()) == (named.dev(), named.ino()),
        (_, Err(error)) => error.kind() != ErrorKind::NotFound,
        (Err(_), _) => true,
    }
}

/// An open file keeps its name here.
#[cfg(not(unix))]
const fn is_at(_: &File, _: &Path) -> bool {
    true
}

/// Opens a file, making it if it isn't there: for nobody else, whatever the folder allows.
fn private_file(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|_| StoreError::Unavailable)
}

/// Takes the OS lock on the file beside the store.
fn take_lock(path: &Path) -> Result<File, StoreError> {
    let lock = private_file(&beside(path, ".lock"))?;
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
const fn index_to_sql(index: u64) -> i64 {
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
    /// Our statements don't change: what is wrong with one is wrong with the file.
    const ERROR: i32 = 1;
    const CORRUPT: i32 = 11;
    const FULL: i32 = 13;
    const CONSTRAINT: i32 = 19;
    const MISMATCH: i32 = 20;
    const FORMAT: i32 = 24;
    const NOT_A_DATABASE: i32 = 26;
    match &error {
        sqlx::Error::Database(error) => {
            let code = error.code().and_then(|code| code.parse::<i32>().ok());
            // The low byte is the primary code.
            match code.map(|code| code & 0xFF) {
                Some(BUSY | LOCKED) => StoreError::InUse,
                Some(ERROR | CORRUPT | CONSTRAINT | MISMATCH | FORMAT | NOT_A_DATABASE) => {
                    StoreError::Damaged
                }
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
