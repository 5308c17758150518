//! The open plane's storage: everything that is read from and written to its database.

use std::sync::Arc;

use corncrake_wire::{
    LogId,
    log::{Part, ReadReply},
};
use sqlx::SqlitePool;
use tokio::task::JoinHandle;

use super::{Appender, Live, Memory, NewAppend, Outcome, read, retention, running};
use crate::{
    Error, Origin,
    clock::Clock,
    database::{self, Database},
    disk::Disk,
    health::Health,
    writer::Writer,
};

/// The open plane's storage.
#[derive(Debug)]
pub(crate) struct LogStore {
    writer: Writer,
    readers: SqlitePool,
    instance: [u8; 16],
    memory: Arc<Memory>,
    live: Arc<Live>,
}

impl LogStore {
    /// Opens the database and starts its writer, which ends when the store is gone.
    pub(crate) async fn open(
        database: Database,
        disk: Disk,
        clock: Arc<dyn Clock>,
        log_bytes: u64,
    ) -> Result<(Self, JoinHandle<()>), Error> {
        database.prepare().await?;
        let mut connection = database.writer().await?;
        let instance = database::instance(&mut connection, &database, clock.now()).await?;
        let readers = database.readers().await?;
        let memory = Arc::<Memory>::default();
        let live = Arc::<Live>::default();
        let shared = (Arc::clone(&memory), Arc::clone(&live));
        let appender =
            Appender::open(&mut connection, shared.0, shared.1, clock, log_bytes).await?;
        let (writer, task) = Writer::start(database, connection, Some(appender), disk);
        Ok((Self { writer, readers, instance, memory, live }, task))
    }

    /// Names the database.
    pub(crate) const fn instance(&self) -> [u8; 16] {
        self.instance
    }

    /// Whether the writer can write.
    pub(crate) const fn health(&self) -> &Health {
        self.writer.health()
    }

    /// Who follows which log.
    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    /// Closes the connections that read.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
    }

    /// Appends to a log and gives the outcome after the commit.
    pub(crate) async fn append(&self, from: Origin, append: NewAppend) -> Result<Outcome, Error> {
        self.writer.append(from, append).await
    }

    /// Lets what was written by a clock that was ahead be of today.
    pub(crate) async fn take_back_days(&self, today: i64) -> Result<(), Error> {
        retention::take_back_days(&self.writer, &self.readers, today).await
    }

    /// Deletes what has expired by `today`, and gives space back.
    pub(crate) async fn expire(&self, today: i64) -> Result<(), Error> {
        retention::expire(&self.writer, &self.readers, &self.memory, today).await?;
        self.writer.give_back().await
    }

    /// A page of a log after a position: at most `limit` entries and a page's bytes, but at least
    /// one entry if there is any. `None` if the log doesn't exist.
    pub(crate) async fn page(
        &self,
        id: &LogId,
        after: u64,
        limit: u32,
    ) -> Result<Option<ReadReply>, Error> {
        read::page(&self.readers, &self.memory, id, after, limit).await
    }

    /// The newest position of a log that was used lately; 0 for others.
    pub(crate) fn head_in_memory(&self, id: &LogId) -> u64 {
        running::head_in_memory(&self.memory, id)
    }

    /// The running hash up to a position; `None` if the log doesn't reach as far.
    pub(crate) async fn running_at(
        &self,
        id: &LogId,
        position: u64,
    ) -> Result<Option<[u8; 32]>, Error> {
        running::running_at(&self.readers, &self.memory, id, position).await
    }

    /// What lies beside a commit, or the opening state at position 0.
    pub(crate) async fn beside(
        &self,
        id: &LogId,
        part: Part,
        position: u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        read::beside(&self.readers, id, part, position).await
    }

    /// Positions of states up to a position, newest first. `None` if the log doesn't exist.
    pub(crate) async fn states(&self, id: &LogId, at_most: u64) -> Result<Option<Vec<u64>>, Error> {
        read::states(&self.readers, id, at_most).await
    }
}
