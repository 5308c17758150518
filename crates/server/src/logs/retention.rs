//! What the open plane forgets: messages after 30 days, logs after 24 months of silence.
//!
//! A message's bytes go; its place stays with its id and running hash, so that positions stay
//! contiguous. Commits and what lies beside them live as long as their log, because nobody here can
//! tell which of them a reader needs. All is done in small steps, between which the writer does its
//! work.

use std::{sync::Arc, time::Duration};

use corncrake_wire::LogId;
use sqlx::{SqliteConnection, SqlitePool};
use tokio::time::sleep;

use super::{Memory, unsigned};
use crate::{Error, writer::Writer};

/// Days that a message is kept.
const MESSAGES: i64 = 30;
/// Days of silence after which a log goes.
const SILENCE: i64 = 730;
/// Rows that one step deletes, unless they are long.
const STEP: i64 = 64;
/// The pause between two steps.
const PAUSE: Duration = Duration::from_millis(20);

/// Lets what was written by a clock that was ahead be of today: else nothing that comes after it
/// would expire before that time is there.
pub(super) async fn take_back_days(
    writer: &Writer,
    readers: &SqlitePool,
    today: i64,
) -> Result<(), Error> {
    let ahead: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM days WHERE day > ?)")
        .bind(today)
        .fetch_one(readers)
        .await?;
    if !ahead {
        return Ok(());
    }
    while writer.run_own(move |connection| Box::pin(take_back(connection, today))).await? > 0 {
        sleep(PAUSE).await;
    }
    let days = writer.run_own(move |connection| {
        Box::pin(async move {
            let texts = [
                "INSERT OR IGNORE INTO days (day, first_entry) \
                 SELECT ?1, min(first_entry) FROM days WHERE day > ?1",
                "DELETE FROM days WHERE day > ?1",
            ];
            for text in texts {
                sqlx::query(text).bind(today).execute(&mut *connection).await?;
            }
            Ok(())
        })
    });
    days.await
}

/// Takes some logs back to today and gives how many.
async fn take_back(connection: &mut SqliteConnection, today: i64) -> Result<u64, Error> {
    let done = sqlx::query(
        "UPDATE logs SET day = ?1 WHERE num IN (SELECT num FROM logs WHERE day > ?1 LIMIT 256)",
    )
    .bind(today)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Deletes what has expired by `today`.
pub(super) async fn expire(
    writer: &Writer,
    readers: &SqlitePool,
    memory: &Arc<Memory>,
    today: i64,
) -> Result<(), Error> {
    // All that a reader sees when nothing came for so long is old.
    let first_kept: i64 = sqlx::query_scalar(
        "SELECT coalesce((SELECT min(first_entry) FROM days WHERE day >= ?), \
         (SELECT max(num) + 1 FROM entries), 1)",
    )
    .bind(today - MESSAGES)
    .fetch_one(readers)
    .await?;
    // An entry without a place would be missed at the next start.
    writer.settle(first_kept - 1).await?;
    loop {
        let memory = Arc::clone(memory);
        let step = writer
            .run_own(move |connection| Box::pin(expire_messages(connection, memory, first_kept)));
        if !step.await? {
            break;
        }
        sleep(PAUSE).await;
    }
    doom_silent(writer, readers, memory, today).await?;
    while writer.run_own(|connection| Box::pin(delete_doomed(connection))).await? {
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Deletes some messages before an entry; gives whether there may be more.
async fn expire_messages(
    connection: &mut SqliteConnection,
    memory: Arc<Memory>,
    first_kept: i64,
) -> Result<bool, Error> {
    let due: Vec<i64> = sqlx::query_scalar(
        "SELECT num FROM entries WHERE num > (SELECT expired FROM progress) AND num < ? \
         AND flags & 1 = 0 ORDER BY num LIMIT ?",
    )
    .bind(first_kept)
    .bind(STEP)
    .fetch_all(&mut *connection)
    .await?;
    let newest = due.last().copied().unwrap_or(first_kept - 1);
    let freed: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT log, sum(length(bytes)) FROM entries WHERE num > (SELECT expired FROM progress) \
         AND num <= ? AND flags & 1 = 0 GROUP BY log",
    )
    .bind(newest)
    .fetch_all(&mut *connection)
    .await?;
    for (log, bytes) in freed {
        let id: Option<Vec<u8>> = sqlx::query_scalar(
            "UPDATE logs SET held = max(0, held - ?) WHERE num = ? RETURNING id",
        )
        .bind(bytes)
        .bind(log)
        .fetch_optional(&mut *connection)
        .await?;
        let Some(id) = id else { continue };
        if let Some(log) = memory.lock().get_mut(&LogId::try_from(id.as_slice())?) {
            log.bytes = log.bytes.saturating_sub(unsigned(bytes));
        }
    }
    sqlx::query(
        "DELETE FROM entries WHERE num > (SELECT expired FROM progress) AND num <= ? \
         AND flags & 1 = 0",
    )
    .bind(newest)
    .execute(&mut *connection)
    .await?;
    sqlx::query("UPDATE progress SET expired = max(expired, ?)")
        .bind(newest)
        .execute(connection)
        .await?;
    Ok(!due.is_empty())
}

/// Lets logs go that were silent for too long; their rows follow.
async fn doom_silent(
    writer: &Writer,
    readers: &SqlitePool,
    memory: &Arc<Memory>,
    today: i64,
) -> Result<(), Error> {
    let silent: Vec<(i64, Vec<u8>)> = sqlx::query_as("SELECT num, id FROM logs WHERE day < ?")
        .bind(today - SILENCE)
        .fetch_all(readers)
        .await?;
    for (num, id) in silent {
        let (id, memory) = (LogId::try_from(id.as_slice())?, Arc::clone(memory));
        let doom = writer.run_own(move |connection| {
            Box::pin(async move {
                // The same commit decides about appends only after this.
                let speaks = memory.lock().get(&id).is_some_and(|log| !log.tail.is_empty());
                if speaks {
                    return Ok(());
                }
                let gone = sqlx::query("DELETE FROM logs WHERE num = ? AND day < ?")
                    .bind(num)
                    .bind(today - SILENCE)
                    .execute(&mut *connection)
                    .await?;
                if gone.rows_affected() > 0 {
                    sqlx::query("INSERT OR IGNORE INTO doomed (log) VALUES (?)")
                        .bind(num)
                        .execute(connection)
                        .await?;
                    memory.lock().remove(&id);
                }
                Ok(())
            })
        });
        doom.await?;
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Deletes some rows of logs that are gone; gives whether there may be more.
async fn delete_doomed(connection: &mut SqliteConnection) -> Result<bool, Error> {
    let doomed: Option<i64> =
        sqlx::query_scalar("SELECT min(log) FROM doomed").fetch_one(&mut *connection).await?;
    let Some(log) = doomed else { return Ok(false) };
    // What lies beside commits may be long.
    let beside = sqlx::query(
        "DELETE FROM besides WHERE rowid IN (SELECT rowid FROM besides WHERE log = ? LIMIT 1)",
    )
    .bind(log)
    .execute(&mut *connection)
    .await?;
    if beside.rows_affected() > 0 {
        return Ok(true);
    }
    let newest: Option<i64> = sqlx::query_scalar(
        "SELECT max(position) FROM (SELECT position FROM places WHERE log = ? \
         ORDER BY position LIMIT ?)",
    )
    .bind(log)
    .bind(STEP)
    .fetch_one(&mut *connection)
    .await?;
    if let Some(newest) = newest {
        let texts = [
            "DELETE FROM entries WHERE num IN \
             (SELECT entry FROM places WHERE log = ? AND position <= ?)",
            "DELETE FROM places WHERE log = ? AND position <= ?",
        ];
        for text in texts {
            sqlx::query(text).bind(log).bind(newest).execute(&mut *connection).await?;
        }
        return Ok(true);
    }
    sqlx::query("DELETE FROM doomed WHERE log = ?").bind(log).execute(connection).await?;
    Ok(true)
}
