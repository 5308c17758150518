//! The one task that writes: it takes many requests and commits them with one fsync. Nobody
//! hears of a success before the commit.

use std::mem;

use corncrake_wire::ErrorCode;
use futures_util::future::BoxFuture;
use sqlx::{Connection, SqliteConnection};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    Error, Origin,
    logs::{Appender, NewAppend, Outcome, Plan},
};

/// Requests that wait for the writer at most.
const QUEUE: usize = 4096;
/// Requests in one commit at most.
const BATCH: usize = 512;

/// What a unit of work ends with: whether its changes stay, and how its caller is told.
type Done = (bool, Box<dyn FnOnce(bool) + Send>);
type Work = Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Done> + Send>;

enum Job {
    Append(NewAppend, oneshot::Sender<Result<Outcome, Error>>),
    Work(Work),
}

/// A way to the writer.
#[derive(Clone, Debug)]
pub(crate) struct Writer(mpsc::Sender<Job>);

impl Writer {
    /// Starts a writer. It ends when all ways to it are gone.
    pub(crate) fn start(
        connection: SqliteConnection,
        appender: Option<Appender>,
    ) -> (Self, JoinHandle<()>) {
        let (jobs, queue) = mpsc::channel(QUEUE);
        (Self(jobs), tokio::spawn(run(connection, appender, queue)))
    }

    /// Carries out `work` in a savepoint of its own and gives its result after the commit.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        _from: Origin,
        work: impl for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Error>>
        + Send
        + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            let work = work(connection);
            Box::pin(async move {
                let result = work.await;
                let done: Done = (
                    result.is_ok(),
                    Box::new(move |committed| {
                        let result = if committed { result } else { result.and_then(|_| lost()) };
                        // The caller may have gone.
                        drop(reply.send(result));
                    }),
                );
                done
            })
        });
        self.0.send(Job::Work(work)).await.map_err(|_| ErrorCode::Unavailable)?;
        answer.await.map_err(|_| ErrorCode::Unavailable)?
    }

    /// Appends to a log and gives the outcome after the commit.
    pub(crate) async fn append(&self, _from: Origin, append: NewAppend) -> Result<Outcome, Error> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Append(append, reply);
        self.0.send(job).await.map_err(|_| ErrorCode::Unavailable)?;
        answer.await.map_err(|_| ErrorCode::Unavailable)?
    }
}

fn lost<T>() -> Result<T, Error> {
    Err(Error::failed("the commit failed"))
}

async fn run(
    mut connection: SqliteConnection,
    mut appender: Option<Appender>,
    mut queue: mpsc::Receiver<Job>,
) {
    let mut jobs = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut jobs, BATCH).await > 0 {
        let mut appends = Vec::new();
        let mut works = Vec::new();
        for job in mem::take(&mut jobs) {
            match job {
                Job::Append(append, reply) => appends.push((append, reply)),
                Job::Work(work) => works.push(work),
            }
        }
        let mut told = Vec::with_capacity(works.len());
        let committed =
            batch(&mut connection, appender.as_mut(), &mut appends, works, &mut told).await;
        if let Err(error) = &committed {
            tracing::error!(%error, "a commit failed");
        }
        for done in told {
            done(committed.is_ok());
        }
        match committed {
            Ok(outcomes) => {
                for ((_, reply), outcome) in appends.into_iter().zip(outcomes) {
                    drop(reply.send(Ok(outcome)));
                }
            }
            Err(_) => {
                appends.into_iter().for_each(|(_, reply)| drop(reply.send(lost())));
                // Whether anything was committed stands in the database alone.
                if let Some(appender) = &mut appender
                    && let Err(error) = appender.recover(&mut connection).await
                {
                    tracing::error!(%error, "the database is out of order; nothing is written");
                    return;
                }
            }
        }
    }
}

/// One transaction.
async fn batch(
    connection: &mut SqliteConnection,
    mut appender: Option<&mut Appender>,
    appends: &mut [(NewAppend, oneshot::Sender<Result<Outcome, Error>>)],
    works: Vec<Work>,
    told: &mut Vec<Box<dyn FnOnce(bool) + Send>>,
) -> Result<Vec<Outcome>, Error> {
    // Works know nothing of logs, so that appends may be decided first.
    let appends = appends.iter_mut().map(|(append, _)| append).collect();
    let mut plan = match &mut appender {
        Some(appender) => appender.prepare(connection, appends).await?,
        None => Plan::default(),
    };
    if works.is_empty() && plan.is_one_statement() {
        plan.store(connection).await?;
        return Ok(appender.map_or_else(Vec::new, |appender| appender.publish(plan)));
    }
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    for work in works {
        let mut savepoint = transaction.begin().await?;
        let (keep, done) = work(&mut savepoint).await;
        told.push(done);
        if keep {
            savepoint.commit().await?;
        } else {
            savepoint.rollback().await?;
        }
    }
    plan.store(&mut transaction).await?;
    transaction.commit().await?;
    Ok(appender.map_or_else(Vec::new, |appender| appender.publish(plan)))
}
