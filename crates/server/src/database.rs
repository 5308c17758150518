//! The two databases, one for each plane. They share no transaction and no write-ahead log, which
//! would keep the writes of both planes in order and so link accounts to logs.

use std::{
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
    folder::{private, sync_folder},
    random,
};

/// Connections that read each database; SQLite lets them run beside the one that writes.
const READERS: u32 = 4;

/// How long the writer waits for readers when it empties the write-ahead log.
const PATIENCE: Duration = Duration::from_millis(500);

static ACCOUNTS: Migrator = sqlx::migrate!("migrations/accounts");
static LOGS: Migrator = sqlx::migrate!("migrations/logs");

/// One plane's database.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    path: PathBuf,
    migrator: &'static Migrator,
}

impl Database {
    /// The account plane's: accounts, devices, sessions, vaults, records, packages and inboxes.
    pub(crate) fn accounts(folder: &Path) -> Self {
        Self { path: folder.join("accounts.db"), migrator: &ACCOUNTS }
    }

    /// The open plane's: logs.
    pub(crate) fn logs(folder: &Path) -> Self {
        Self { path: folder.join("logs.db"), migrator: &LOGS }
    }

    /// Makes the file if it is missing, and brings its tables up to date.
    pub(crate) async fn prepare(&self) -> Result<(), Error> {
        // SQLite gives the files beside it the same permissions.
        drop(private(&self.path)?);
        let mut writer = self.writer().await?;
        self.migrator.run(&mut writer).await.map_err(Error::failed)?;
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

/// The name of a plane's database, made at its first start.
pub(crate) async fn instance(writer: &mut SqliteConnection) -> Result<[u8; 16], Error> {
    sqlx::query("INSERT OR IGNORE INTO server (one, instance) VALUES (1, ?)")
        .bind(random::<16>()?.to_vec())
        .execute(&mut *writer)
        .await?;
    let instance: Vec<u8> =
        sqlx::query_scalar("SELECT instance FROM server").fetch_one(writer).await?;
    instance.try_into().map_err(|_| Error::failed("the instance in the database is damaged"))
}
