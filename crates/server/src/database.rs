//! The two databases, one for each plane. They share no transaction and no write-ahead log, which
//! would keep the writes of both planes in order and so link accounts to logs.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions, SqliteConnection, SqlitePool,
    migrate::Migrator,
    sqlite::{
        SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions,
        SqliteSynchronous,
    },
};

use crate::{
    Error,
    folder::{private, replace, sync_folder},
    packages, random,
};

/// Connections that read each database; SQLite lets them run beside the one that writes.
const READERS: u32 = 4;

/// How long the writer waits for readers when it empties the write-ahead log.
const PATIENCE: Duration = Duration::from_millis(500);

const ACCOUNTS_FILE: &str = "accounts.db";
const LOGS_FILE: &str = "logs.db";

static ACCOUNTS: Migrator = sqlx::migrate!("migrations/accounts");
static LOGS: Migrator = sqlx::migrate!("migrations/logs");

/// One plane's database.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    path: PathBuf,
    plane: Plane,
}

#[derive(Clone, Copy, Debug)]
enum Plane {
    Accounts,
    Logs,
}

impl Database {
    /// The account plane's: accounts, devices, sessions, vaults, records, packages and inboxes.
    pub(crate) fn accounts(folder: &Path) -> Self {
        Self { path: folder.join(ACCOUNTS_FILE), plane: Plane::Accounts }
    }

    /// The open plane's: logs.
    pub(crate) fn logs(folder: &Path) -> Self {
        Self { path: folder.join(LOGS_FILE), plane: Plane::Logs }
    }

    /// One of the two at a path.
    pub(crate) fn at(path: &Path) -> Self {
        let is_logs = path.file_name().is_some_and(|name| name == LOGS_FILE);
        Self { path: path.to_owned(), plane: if is_logs { Plane::Logs } else { Plane::Accounts } }
    }

    /// The name of its file.
    pub(crate) const fn name(&self) -> &'static str {
        match self.plane {
            Plane::Accounts => ACCOUNTS_FILE,
            Plane::Logs => LOGS_FILE,
        }
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What a connection to a file needs that is neither to be changed nor brought up to date.
    pub(crate) fn plain(path: &Path) -> SqliteConnectOptions {
        SqliteConnectOptions::new().filename(path).disable_statement_logging()
    }

    /// Opens a copy that nobody writes to, as it is.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) async fn open_copy(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
        Self::plain(path).read_only(true).immutable(true).connect().await
    }

    /// Steps the counter on: first in the database, then in the file beside it, so that the file
    /// is ahead only of a database that was brought back.
    pub(crate) async fn count(&self, writer: &mut SqliteConnection) -> Result<(), Error> {
        // To the end of the statement: only there it is committed, or isn't.
        let counters: Vec<i64> =
            sqlx::query_scalar("UPDATE server SET counter = counter + 1 RETURNING counter")
                .fetch_all(writer)
                .await?;
        match counters.first() {
            Some(counter) => replace(&self.counter_file(), counter.to_string().as_bytes()),
            None => Err(Error::failed("the database has no counter")),
        }
    }

    /// What the file beside this database has to say to be ahead of `file`, a copy of it.
    pub(crate) async fn counter_ahead(&self, file: &Path) -> Result<String, Error> {
        let mut copy = Self::plain(file).read_only(true).connect().await?;
        let counter: i64 =
            sqlx::query_scalar("SELECT counter FROM server").fetch_one(&mut copy).await?;
        sqlx::Connection::close(copy).await?;
        Ok((counter.max(self.counter_outside()?.unwrap_or(0)) + 1).to_string())
    }

    /// The counter in the file beside the database.
    fn counter_outside(&self) -> Result<Option<i64>, Error> {
        let file = self.counter_file();
        match std::fs::read(&file) {
            // A damaged one is as good as none.
            Ok(bytes) => {
                Ok(String::from_utf8(bytes).ok().and_then(|text| text.trim().parse().ok()))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::failed(error).about(&file)),
        }
    }

    /// Makes the write-ahead log, if it is empty, as long as it will be, of zeros. To sync what is
    /// written over them takes half the time of what makes a file longer, and waits for nothing
    /// that others write to the same file system. Only for whoever writes, between two commits.
    pub(crate) fn lay_out_log(&self, bytes: usize) -> std::io::Result<()> {
        let mut path = self.path.clone().into_os_string();
        path.push("-wal");
        let mut log = OpenOptions::new().write(true).open(path)?;
        if log.metadata()?.len() > 0 {
            return Ok(());
        }
        let laid_out = log.write_all(&vec![0; bytes]).and_then(|()| log.sync_data());
        if laid_out.is_err() {
            // The disk may be full.
            log.set_len(0)?;
        }
        laid_out
    }

    /// The file beside the database that says how far it had come.
    pub(crate) fn counter_file(&self) -> PathBuf {
        self.path.with_extension("counter")
    }

    /// Makes the file if it is missing, and brings its tables up to date.
    pub(crate) async fn prepare(&self) -> Result<(), Error> {
        // SQLite gives the files beside it the same permissions.
        drop(private(&self.path)?);
        let mut writer = self.writer().await?;
        let migrator = match self.plane {
            Plane::Accounts => &ACCOUNTS,
            Plane::Logs => &LOGS,
        };
        migrator.run(&mut writer).await.map_err(Error::failed)?;
        sqlx::Connection::close(writer).await?;
        self.path.parent().map_or(Ok(()), sync_folder)
    }

    /// The connection that writes; there is one at a time.
    pub(crate) async fn writer(&self) -> Result<SqliteConnection, Error> {
        let options = self.options().auto_vacuum(SqliteAutoVacuum::Incremental);
        // What is deleted is overwritten with zeros.
        Ok(options.pragma("secure_delete", "ON").busy_timeout(PATIENCE).connect().await?)
    }

    /// The connections that read.
    pub(crate) async fn readers(&self) -> Result<SqlitePool, Error> {
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .test_before_acquire(false)
            .connect_with(self.options().read_only(true))
            .await?;
        Ok(readers)
    }

    fn options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .page_size(8192)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            // The writer empties the write-ahead log; this is for when it can't.
            .pragma("wal_autocheckpoint", "16384")
            .pragma("journal_size_limit", "67108864")
            .pragma("cache_size", "-65536")
            .disable_statement_logging()
            .statement_cache_capacity(512)
    }
}

/// The name of a plane's database: made at its first start, and made anew when the file beside it
/// shows that the database is older than it was, because a copy was brought back. Then key packages
/// go whose private keys may be gone.
pub(crate) async fn instance(
    writer: &mut SqliteConnection,
    database: &Database,
    now: u64,
) -> Result<[u8; 16], Error> {
    let made =
        sqlx::query("INSERT OR IGNORE INTO server (one, instance, counter) VALUES (1, ?, 0)")
            .bind(random::<16>()?.to_vec())
            .execute(&mut *writer)
            .await?;
    let begins_empty = made.rows_affected() > 0;
    let (instance, counter): (Vec<u8>, i64) =
        sqlx::query_as("SELECT instance, counter FROM server").fetch_one(&mut *writer).await?;
    let outside = database.counter_outside()?;
    // A database that has lost its counter was moved here by somebody.
    let is_older = outside.map_or(counter > 0, |outside| outside > counter);
    if !is_older {
        match database.count(writer).await {
            // Even then reading goes on.
            Err(error) if error.is_full() => tracing::warn!(%error, "the disk is full"),
            counted => counted?,
        }
        return instance.try_into().map_err(|_| Error::failed("the instance is damaged"));
    }
    let path = database.path.display();
    if begins_empty {
        tracing::error!(database = %path, "the database was missing and begins empty: if there is a backup, stop and restore it");
    } else {
        tracing::warn!(database = %path, "an older copy was brought back");
    }
    let instance = random::<16>()?;
    let mut renewal = sqlx::Connection::begin(&mut *writer).await?;
    sqlx::query("UPDATE server SET instance = ?, counter = ?")
        .bind(instance.to_vec())
        .bind(counter.max(outside.unwrap_or(0)))
        .execute(&mut *renewal)
        .await?;
    if matches!(database.plane, Plane::Accounts) {
        packages::forget_used(&mut renewal, now).await?;
    }
    renewal.commit().await?;
    database.count(writer).await?;
    Ok(instance)
}
