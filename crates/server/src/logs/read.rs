//! Reading pages of logs, and what lies beside commits.

use corncrake_wire::{
    LogId, limits,
    log::{LogEntry, Part, ReadReply},
};
use sqlx::{Row, SqlitePool};

use super::{Memory, STATE, WELCOME, kind_of, part_number, signed, unsigned};
use crate::Error;

/// A page of a log after a position: at most `limit` entries and a page's bytes, but at least
/// one entry if there is any. Nothing if the log doesn't exist.
pub(super) async fn page(
    readers: &SqlitePool,
    memory: &Memory,
    id: &LogId,
    after: u64,
    limit: u32,
) -> Result<Option<ReadReply>, Error> {
    let limit = limit.clamp(1, limits::PAGE_ENTRIES);
    // Memory first: what gets its place in between is then seen twice rather than never.
    let (tail, mut head) = memory.tail_after(id, after, limit as usize);
    let mut connection = readers.acquire().await?;
    let Some(log) = sqlx::query("SELECT num, head FROM logs WHERE id = ?")
        .bind(id.0.to_vec())
        .fetch_optional(&mut *connection)
        .await?
    else {
        return Ok(None);
    };
    head = head.max(unsigned(log.try_get(1)?));
    let mut rows = Vec::new();
    if tail.first().is_none_or(|first| first.position > after + 1) {
        let settled = sqlx::query(
            "SELECT position, entry, length FROM places \
             WHERE log = ? AND position > ? ORDER BY position LIMIT ?",
        )
        .bind(log.try_get::<i64, _>(0)?)
        .bind(signed(after))
        .bind(limit)
        .fetch_all(&mut *connection)
        .await?;
        for row in settled {
            let (position, length) = (unsigned(row.try_get(0)?), unsigned(row.try_get(2)?));
            rows.push((position, row.try_get::<i64, _>(1)?, length));
        }
    }
    let newest = rows.last().map_or(after, |(position, ..)| *position);
    let tail = tail.into_iter().filter(|row| row.position > newest);
    rows.extend(tail.map(|row| (row.position, row.entry, row.length)));

    let mut bytes = 0;
    let fits = rows.iter().take(limit as usize).take_while(|(_, _, length)| {
        bytes += length;
        bytes <= limits::PAGE_BYTES as u64
    });
    rows.truncate(fits.count().max(1));
    let Some((first, ..)) = rows.first() else {
        return Ok((head > 0).then_some(ReadReply { entries: Vec::new(), head }));
    };
    let first = *first;
    let numbers: Vec<_> = rows.iter().map(|(_, entry, _)| entry.to_string()).collect();
    let stored = sqlx::query(
        "SELECT flags, bytes FROM entries \
         WHERE num IN (SELECT value FROM json_each(?)) ORDER BY num",
    )
    .bind(format!("[{}]", numbers.join(",")))
    .fetch_all(&mut *connection)
    .await?;
    let mut entries = Vec::with_capacity(stored.len());
    for (position, row) in (first..).zip(stored) {
        entries.push(log_entry(position, row.try_get(0)?, row.try_get(1)?));
    }
    let head = head.max(entries.last().map_or(0, |entry| entry.position));
    Ok(Some(ReadReply { entries, head }))
}

/// What lies beside a commit, or the opening state at position 0.
pub(super) async fn beside(
    readers: &SqlitePool,
    id: &LogId,
    part: Part,
    position: u64,
) -> Result<Option<Vec<u8>>, Error> {
    let bytes = sqlx::query_scalar(
        "SELECT bytes FROM besides JOIN logs ON logs.num = besides.log \
         WHERE logs.id = ? AND part = ? AND position = ?",
    )
    .bind(id.0.to_vec())
    .bind(part_number(part))
    .bind(signed(position))
    .fetch_optional(readers)
    .await?;
    Ok(bytes)
}

/// Positions of states up to a position, newest first. Nothing if the log doesn't exist.
pub(super) async fn states(
    readers: &SqlitePool,
    id: &LogId,
    at_most: u64,
) -> Result<Option<Vec<u64>>, Error> {
    let log: Option<i64> = sqlx::query_scalar("SELECT num FROM logs WHERE id = ?")
        .bind(id.0.to_vec())
        .fetch_optional(readers)
        .await?;
    let Some(log) = log else { return Ok(None) };
    let positions: Vec<i64> = sqlx::query_scalar(
        "SELECT position FROM besides WHERE log = ? AND part = ? AND position <= ? \
         ORDER BY position DESC LIMIT ?",
    )
    .bind(log)
    .bind(part_number(Part::State))
    .bind(signed(at_most))
    .bind(limits::PAGE_STATES)
    .fetch_all(readers)
    .await?;
    Ok(Some(positions.into_iter().map(unsigned).collect()))
}

/// An entry as it is handed out.
pub(super) fn log_entry(position: u64, flags: i64, bytes: Vec<u8>) -> LogEntry {
    LogEntry {
        position,
        kind: kind_of(flags),
        bytes,
        expired: None,
        has_welcome: flags & WELCOME != 0,
        has_state: flags & STATE != 0,
    }
}
