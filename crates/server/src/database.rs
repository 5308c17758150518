//! The data folder: SQLite, the password protocol's seed, and a lock.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::Path,
};

use corncrake_wire::opaque::ServerSecret;
use sqlx::{
    ConnectOptions, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use zeroize::Zeroizing;

use crate::{Error, random};

/// Connections that read; SQLite lets them run beside the one that writes.
const READERS: u32 = 4;

/// The opened data folder.
#[derive(Debug)]
pub(crate) struct Database {
    /// The one connection that writes.
    pub(crate) writer: SqliteConnection,
    /// The connections that read.
    pub(crate) readers: SqlitePool,
    /// Names this database.
    pub(crate) instance: [u8; 16],
    /// The password protocol's seed.
    pub(crate) secret: ServerSecret,
    /// Held for as long as the folder is in use.
    pub(crate) lock: File,
}

impl Database {
    /// Opens the data folder, or makes it.
    pub(crate) async fn open(folder: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(folder).map_err(Error::failed)?;
        let lock = File::create(folder.join("lock")).map_err(Error::failed)?;
        lock.try_lock().map_err(|_| Error::failed("the data folder is in use"))?;

        let options = SqliteConnectOptions::new()
            .filename(folder.join("corncrake.db"))
            .create_if_missing(true)
            .page_size(8192)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .pragma("wal_autocheckpoint", "4096")
            .pragma("journal_size_limit", "67108864")
            .pragma("cache_size", "-65536")
            .disable_statement_logging()
            .statement_cache_capacity(512);
        let mut writer = options.connect().await?;
        sqlx::migrate!().run(&mut writer).await.map_err(Error::failed)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .test_before_acquire(false)
            .connect_with(options.read_only(true))
            .await?;

        let accounts: i64 =
            sqlx::query_scalar("SELECT count(*) FROM accounts").fetch_one(&mut writer).await?;
        let secret = open_secret(&folder.join("opaque-seed"), accounts == 0)?;
        let instance = open_instance(&mut writer).await?;
        Ok(Self { writer, readers, instance, secret, lock })
    }
}

async fn open_instance(writer: &mut SqliteConnection) -> Result<[u8; 16], Error> {
    sqlx::query("INSERT OR IGNORE INTO server (one, instance) VALUES (1, ?)")
        .bind(random::<16>()?.to_vec())
        .execute(&mut *writer)
        .await?;
    let instance: Vec<u8> =
        sqlx::query_scalar("SELECT instance FROM server").fetch_one(writer).await?;
    instance.try_into().map_err(|_| Error::failed("the instance in the database is damaged"))
}

/// Reads the seed's file, or makes it for a database without accounts: to others it would make
/// every password wrong.
fn open_secret(path: &Path, may_make: bool) -> Result<ServerSecret, Error> {
    match File::open(path) {
        Ok(mut file) => {
            let mut bytes = Zeroizing::new(Vec::new());
            file.read_to_end(&mut bytes).map_err(Error::failed)?;
            ServerSecret::from_bytes(&bytes).map_err(|_| Error::failed("opaque-seed is damaged"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && may_make => {
            let secret = ServerSecret::new(&mut crate::OsRandom);
            let partial = path.with_extension("new");
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&partial).map_err(Error::failed)?;
            file.write_all(&secret.expose_bytes()).map_err(Error::failed)?;
            file.sync_all().map_err(Error::failed)?;
            std::fs::rename(&partial, path).map_err(Error::failed)?;
            Ok(secret)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::failed("opaque-seed is missing beside a database with accounts"))
        }
        Err(error) => Err(Error::failed(error)),
    }
}
