//! The one task that writes a database: it takes many requests and commits them with one fsync.
//! Nobody hears of a success before the commit.
//!
//! A commit that fails costs its connection: SQLite may have rolled back by itself, which nothing
//! above it sees. Another one is opened, what memory says is learned anew, and callers are told to
//! come back. When the disk is full, writes are refused until there is space again. A writer that
//! can't go on ends, and the process with it: also where its file has lost its name, since what is
//! written to it then is gone with the process.

mod queue;

#[cfg(test)]
mod tests;

use std::{io::ErrorKind, path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use sqlx::{Connection, SqliteConnection};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep, timeout},
};

use crate::{
    Error, Origin,
    database::Database,
    disk::Disk,
    folder::{Identity, LOCK},
    health::{Condition, Health},
    logs::{Appender, NewAppend, Outcome, Plan},
};

/// What a unit of work counts of a commit's bytes.
const WORK_BYTES: usize = 8 * 1024;
/// How often a quiet writer looks at its disk and its write-ahead log.
const LOOK: Duration = Duration::from_secs(1);
/// How long a write-ahead log is kept at most before it is emptied.
const WAL_TIME: Duration = Duration::from_secs(60);
/// How often the account plane's database is written anew, so that its pages don't tell the order
/// in which its rows came.
const SHUFFLE_TIME: Duration = Duration::from_secs(3600);
/// Larger databases are not: it would take seconds, and many sign-ups a day hide each other.
const SHUFFLE_BYTES: u64 = 64 * 1024 * 1024;
/// Free pages that are kept for what comes.
const SPARE_PAGES: i64 = 1024;
/// The pause between two steps of giving pages back.
const PAUSE: Duration = Duration::from_millis(20);
/// How large it becomes at most, about.
const WAL_BYTES: usize = 32 * 1024 * 1024;
/// How long it is laid out before anything is in it, if that is not too much of what is free.
const WAL_BEGIN: usize = 4 * 1024 * 1024;
/// The first wait before a connection is opened anew; doubled up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Tries to open a connection anew, before the writer gives up, if the disk isn't full.
const TRIES: u32 = 12;

/// What a unit of work ends with: whether its changes stay, and how its caller is told.
type Told = Box<dyn FnOnce(Result<(), Condition>) + Send>;
type Done = (Result<(), Broken>, Told);
type Work = Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Done> + Send>;
type Queue = queue::Queue<Option<Origin>, Job>;

/// Why the changes of a unit of work don't stay.
enum Broken {
    /// It was refused.
    Refused,
    /// The database failed, and the whole commit with it.
    Storage(Error),
}

enum Job {
    Append(NewAppend, oneshot::Sender<Result<Outcome, Error>>),
    Work(Work),
    /// Gives places to all entries up to one.
    Settle(i64, oneshot::Sender<Result<Outcome, Error>>),
}

impl Job {
    /// Tells the caller that nothing was stored.
    fn refuse(self, condition: Condition) {
        match self {
            Self::Append(_, reply) | Self::Settle(_, reply) => {
                drop(reply.send(Err(condition.refusal().into())))
            }
            // Its caller's answer is dropped with it, which means the same.
            Self::Work(_) => {}
        }
    }
}

/// A way to a writer, which ends when its way is gone.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: Arc<Queue>,
    health: Health,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

impl Writer {
    /// Starts a writer.
    pub(crate) fn start(
        database: Database,
        connection: SqliteConnection,
        appender: Option<Appender>,
        disk: Disk,
    ) -> (Self, JoinHandle<()>) {
        let (queue, health) = (Arc::new(Queue::new()), Health::new());
        let lock = database.path().with_file_name(LOCK);
        let files = [database.path().to_owned(), lock];
        let named = |path: PathBuf| Identity::at(&path).ok().map(|identity| (path, identity));
        let files = files.into_iter().filter_map(named).collect();
        let is_accounts = appender.is_none();
        let task = Task {
            database,
            files,
            connection: Some(connection),
            appender,
            disk,
            queue: Arc::clone(&queue),
            health: health.clone(),
            wal_bytes: 0,
            wal_since: None,
            shuffled: Some(Instant::now()).filter(|_| is_accounts),
        };
        // Whoever asks before anything was written hears the truth.
        task.look_at_disk();
        let (died, closed) = (health.clone(), Arc::clone(&queue));
        let watched = tokio::spawn(async move {
            // A panic ends the task too, and must not leave a server that looks alive.
            match tokio::spawn(task.run()).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => tracing::error!(%error, "a writer gave up"),
                Err(error) => tracing::error!(%error, "a writer panicked"),
            }
            closed.close();
            died.set(Condition::Dead);
            for job in closed.drain_all() {
                job.refuse(Condition::Dead);
            }
        });
        (Self { queue, health }, watched)
    }

    /// Whether the writer can write.
    pub(crate) const fn health(&self) -> &Health {
        &self.health
    }

    /// Carries out `work` in a savepoint of its own and gives its result after the commit.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        from: Origin,
        work: impl for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Error>>
        + Send
        + 'static,
    ) -> Result<T, Error> {
        self.work(Some(from), work).await
    }

    /// Carries out the server's own `work`, which goes on when the disk is full: it may make room.
    pub(crate) async fn run_own<T: Send + 'static>(
        &self,
        work: impl for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Error>>
        + Send
        + 'static,
    ) -> Result<T, Error> {
        self.work(None, work).await
    }

    async fn work<T: Send + 'static>(
        &self,
        from: Option<Origin>,
        work: impl for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Error>>
        + Send
        + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            let work = work(connection);
            Box::pin(async move {
                let (done, result) = match work.await {
                    Ok(value) => (Ok(()), Ok(value)),
                    Err(error) if error.is_storage() => {
                        (Err(Broken::Storage(error)), Err(Condition::Failing.refusal().into()))
                    }
                    Err(error) => (Err(Broken::Refused), Err(error)),
                };
                let told: Told = Box::new(move |committed| {
                    let lost = |condition: Condition| Err(condition.refusal().into());
                    // The caller may have gone.
                    drop(reply.send(committed.map_or_else(lost, |()| result)));
                });
                (done, told)
            })
        });
        self.push(from, WORK_BYTES, Job::Work(work))?;
        answer.await.map_err(|_| Error::from(self.condition_to_tell().refusal()))?
    }

    /// Appends to a log and gives the outcome after the commit.
    pub(crate) async fn append(&self, from: Origin, append: NewAppend) -> Result<Outcome, Error> {
        let (reply, answer) = oneshot::channel();
        self.push(Some(from), append.bytes(), Job::Append(append, reply))?;
        answer.await.map_err(|_| Error::from(self.condition_to_tell().refusal()))?
    }

    /// Gives their places to all entries up to one.
    pub(crate) async fn settle(&self, entry: i64) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.push(None, WORK_BYTES, Job::Settle(entry, reply))?;
        let settled = answer.await.map_err(|_| Error::from(self.condition_to_tell().refusal()))?;
        settled.map(drop)
    }

    /// Gives free pages back to the disk, in small steps: all of them when the disk is full, else
    /// when they are more than a tenth.
    pub(crate) async fn give_back(&self) -> Result<(), Error> {
        while self.give_some_back(self.health.now() == Condition::Full).await? {
            sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn give_some_back(&self, all: bool) -> Result<bool, Error> {
        let step = self.run_own(move |connection| {
            Box::pin(async move {
                let pages = sqlx::query_scalar("PRAGMA page_count");
                let pages: i64 = pages.fetch_one(&mut *connection).await?;
                let free = sqlx::query_scalar("PRAGMA freelist_count");
                let free: i64 = free.fetch_one(&mut *connection).await?;
                let due = if all { free > 0 } else { free > SPARE_PAGES.max(pages / 10) };
                if due {
                    let vacuum = sqlx::query("PRAGMA incremental_vacuum(64)");
                    vacuum.fetch_all(connection).await?;
                }
                Ok(due)
            })
        });
        step.await
    }

    fn push(&self, from: Option<Origin>, bytes: usize, job: Job) -> Result<(), Error> {
        let condition = self.health.now();
        if condition != Condition::Ready && from.is_some() {
            return Err(condition.refusal().into());
        }
        let pushed = self.queue.push(from, bytes, job);
        pushed.map_err(|_| self.condition_to_tell().refusal().into())
    }

    /// What one is told whose job was dropped.
    fn condition_to_tell(&self) -> Condition {
        match self.health.now() {
            Condition::Ready => Condition::Failing,
            other => other,
        }
    }
}

/// The task behind a [`Writer`].
struct Task {
    database: Database,
    /// Its file, and the one by which the folder is locked.
    files: Vec<(PathBuf, Identity)>,
    connection: Option<SqliteConnection>,
    appender: Option<Appender>,
    disk: Disk,
    queue: Arc<Queue>,
    health: Health,
    /// What went into the write-ahead log since it was emptied, about.
    wal_bytes: usize,
    wal_since: Option<Instant>,
    /// When the database was last written anew, if it is one that is.
    shuffled: Option<Instant>,
}

impl Task {
    /// # Errors
    /// When it can't go on.
    async fn run(mut self) -> Result<(), Error> {
        self.renew_wal().await;
        loop {
            let jobs = match timeout(LOOK, self.queue.take()).await {
                Ok(Some(jobs)) => jobs,
                Ok(None) => break,
                Err(_) => Vec::new(),
            };
            self.look_at_files()?;
            self.look_at_disk();
            if !jobs.is_empty()
                && let Err(error) = self.commit(jobs).await
            {
                self.recover(error).await?;
            }
            self.tend_wal().await;
        }
        self.count().await;
        self.shuffle().await;
        self.empty_wal().await;
        if let Some(connection) = self.connection.take() {
            connection.close().await?;
        }
        Ok(())
    }

    /// Gives up if the database's name is gone or another file's: SQLite goes on writing to a file
    /// that nobody will find. So it does without the lock: another server may begin beside this one.
    fn look_at_files(&self) -> Result<(), Error> {
        for (path, identity) in &self.files {
            let is_there = match Identity::at(path) {
                Ok(now) => now == *identity,
                // A file system that doesn't answer may do so again.
                Err(error) => error.kind() != ErrorKind::NotFound,
            };
            if !is_there {
                return Err(Error::failed("the file was removed or replaced").about(path));
            }
        }
        Ok(())
    }

    /// Refuses writes while the disk is full, and takes them again when it isn't.
    fn look_at_disk(&self) {
        let condition = if self.disk.is_full() { Condition::Full } else { Condition::Ready };
        if self.health.now() != condition {
            tracing::warn!(condition = condition.name(), "the disk changed");
            self.health.set(condition);
            // One of the two writers does it.
            if condition == Condition::Ready && self.appender.is_some() {
                let disk = self.disk.clone();
                drop(spawn_blocking(move || disk.fill_reserve()));
            }
        }
        if condition == Condition::Full {
            self.refuse_all(condition);
        }
    }

    fn refuse_all(&self, condition: Condition) {
        self.health.set(condition);
        for job in self.queue.drain_all_but(None) {
            job.refuse(condition);
        }
    }

    /// One commit; its callers are told.
    async fn commit(&mut self, jobs: Vec<Job>) -> Result<(), Error> {
        let Some(connection) = &mut self.connection else {
            return Err(Error::failed("the writer has no connection"));
        };
        let mut appends = Vec::new();
        let mut works = Vec::new();
        let mut settled = Vec::new();
        for job in jobs {
            match job {
                Job::Append(append, reply) => {
                    self.wal_bytes += append.bytes();
                    appends.push((append, reply));
                }
                Job::Settle(entry, reply) => {
                    settled.push(reply);
                    if let Some(appender) = &mut self.appender {
                        appender.settle_up_to(entry);
                    }
                }
                Job::Work(work) => {
                    self.wal_bytes += WORK_BYTES;
                    works.push(work);
                }
            }
        }
        self.wal_since.get_or_insert_with(Instant::now);
        let mut told = Vec::with_capacity(works.len());
        let committed =
            batch(connection, self.appender.as_mut(), &mut appends, works, &mut told).await;
        match committed {
            Ok(outcomes) => {
                told.into_iter().for_each(|told| told(Ok(())));
                for ((_, reply), outcome) in appends.into_iter().zip(outcomes) {
                    drop(reply.send(Ok(outcome)));
                }
                for reply in settled {
                    drop(reply.send(Ok(Outcome::Stored { positions: Vec::new(), head: 0 })));
                }
                Ok(())
            }
            Err(error) => {
                let condition = self.why(&error);
                told.into_iter().for_each(|told| told(Err(condition)));
                for (_, reply) in appends {
                    drop(reply.send(Err(condition.refusal().into())));
                }
                Err(error)
            }
        }
    }

    fn why(&self, error: &Error) -> Condition {
        let full = error.is_full() || self.disk.is_full();
        if full { Condition::Full } else { Condition::Failing }
    }

    /// Opens another connection after a commit that failed, for as long as it takes.
    async fn recover(&mut self, mut error: Error) -> Result<(), Error> {
        let (mut wait, mut tries) = (FIRST_WAIT, 0);
        loop {
            let condition = self.why(&error);
            tracing::error!(%error, condition = condition.name(), "writing failed");
            self.refuse_all(condition);
            tries += u32::from(condition != Condition::Full);
            if tries > TRIES {
                return Err(error);
            }
            if let Some(broken) = self.connection.take() {
                // What it held open is rolled back.
                drop(timeout(LONGEST_WAIT, broken.close()).await);
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
            match self.reopen().await {
                Ok(connection) => {
                    self.connection = Some(connection);
                    self.look_at_disk();
                    return Ok(());
                }
                Err(failed) => error = failed,
            }
        }
    }

    /// Opens a connection, learns what the database holds and tries to write to it.
    async fn reopen(&mut self) -> Result<SqliteConnection, Error> {
        let mut connection = self.database.writer().await?;
        // Whether anything of the failed commit was stored, the database alone knows.
        if let Some(appender) = &mut self.appender {
            appender.recover(&mut connection).await?;
        }
        sqlx::query("UPDATE server SET instance = instance").execute(&mut connection).await?;
        Ok(connection)
    }

    /// Empties the write-ahead log when it is long or old: it keeps what was deleted, and the
    /// order of what was written.
    async fn tend_wal(&mut self) {
        // To be emptied it needs as much space again, in the database.
        let most = self.disk.free().map_or(WAL_BYTES, |free| WAL_BYTES.min(free / 4));
        let old = self.wal_since.is_some_and(|since| since.elapsed() >= WAL_TIME);
        if old || self.wal_since.is_some() && self.wal_bytes >= most {
            self.count().await;
            if self.shuffled.is_some_and(|then| then.elapsed() >= SHUFFLE_TIME) {
                self.shuffle().await;
            }
            self.renew_wal().await;
        }
    }

    /// Empties the write-ahead log, and lays it out for what comes.
    async fn renew_wal(&mut self) {
        self.empty_wal().await;
        let most = self.disk.free().map_or(0, |free| WAL_BEGIN.min(free / 64));
        let database = self.database.clone();
        // Without that commits take longer.
        drop(spawn_blocking(move || database.lay_out_log(most)).await);
    }

    async fn count(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        if let Err(error) = self.database.count(connection).await {
            tracing::warn!(%error, "the counter was not stepped on");
        }
    }

    /// Writes the account plane's database anew, in the order of its random numbers.
    async fn shuffle(&mut self) {
        let (Some(connection), Some(_)) = (&mut self.connection, self.shuffled) else { return };
        self.shuffled = Some(Instant::now());
        if std::fs::metadata(self.database.path()).is_ok_and(|file| file.len() > SHUFFLE_BYTES) {
            return;
        }
        if let Err(error) = sqlx::query("VACUUM").execute(connection).await {
            tracing::warn!(%error, "the accounts' database was not written anew");
        }
    }

    async fn empty_wal(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        self.wal_bytes = 0;
        self.wal_since = None;
        // Who reads an old state, such as a backup, keeps the log from being emptied until later.
        let emptied = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(connection).await;
        if let Err(error) = emptied {
            tracing::warn!(%error, "the write-ahead log was not emptied");
        }
    }
}

/// One transaction.
async fn batch(
    connection: &mut SqliteConnection,
    mut appender: Option<&mut Appender>,
    appends: &mut [(NewAppend, oneshot::Sender<Result<Outcome, Error>>)],
    works: Vec<Work>,
    told: &mut Vec<Told>,
) -> Result<Vec<Outcome>, Error> {
    let appends: Vec<_> = appends.iter_mut().map(|(append, _)| append).collect();
    if works.is_empty() {
        let mut plan = plan(connection, &mut appender, appends).await?;
        if plan.is_one_statement() {
            plan.store(connection).await?;
        } else {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            plan.store(&mut transaction).await?;
            transaction.commit().await?;
        }
        return Ok(appender.map_or_else(Vec::new, |appender| appender.publish(plan)));
    }
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut works = works.into_iter();
    if works.len() == 1
        && appends.is_empty()
        && let Some(work) = works.next()
    {
        // Each statement is a trip to SQLite's thread: nobody else is in this transaction.
        let (done, caller) = work(&mut transaction).await;
        told.push(caller);
        match done {
            Ok(()) => {}
            Err(Broken::Refused) => {
                transaction.rollback().await?;
                return Ok(Vec::new());
            }
            Err(Broken::Storage(error)) => return Err(error),
        }
    }
    for work in works {
        let mut savepoint = transaction.begin().await?;
        let (done, caller) = work(&mut savepoint).await;
        told.push(caller);
        match done {
            Ok(()) => savepoint.commit().await?,
            Err(Broken::Refused) => savepoint.rollback().await?,
            Err(Broken::Storage(error)) => return Err(error),
        }
    }
    // Works may let logs go; appends are decided after that.
    let mut plan = plan(&mut transaction, &mut appender, appends).await?;
    plan.store(&mut transaction).await?;
    transaction.commit().await?;
    Ok(appender.map_or_else(Vec::new, |appender| appender.publish(plan)))
}

async fn plan(
    connection: &mut SqliteConnection,
    appender: &mut Option<&mut Appender>,
    appends: Vec<&mut NewAppend>,
) -> Result<Plan, Error> {
    match appender {
        Some(appender) => appender.prepare(connection, appends).await,
        None => Ok(Plan::default()),
    }
}
