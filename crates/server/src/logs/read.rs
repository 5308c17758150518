//! Reading pages of logs, and what lies beside commits.

use std::collections::HashMap;

use corncrake_wire::{
    EntryId, LogId, limits,
    log::{EntryKind, LogEntry, Part, ReadReply},
};
use sqlx::{FromRow, SqliteConnection, SqlitePool};

use super::{Memory, STATE, WELCOME, kind_of, memory::TailRow, part_number, signed, unsigned};
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
    let (tail, known) = memory.tail_after(id, after, limit as usize);
    let mut connection = readers.acquire().await?;
    let (num, head) = match known {
        Some(known) => known,
        None => {
            let log: Option<(i64, i64)> = sqlx::query_as("SELECT num, head FROM logs WHERE id = ?")
                .bind(id.0.to_vec())
                .fetch_optional(&mut *connection)
                .await?;
            let Some((num, head)) = log else { return Ok(None) };
            (num, unsigned(head))
        }
    };
    let mut rows = Vec::new();
    if tail.first().is_none_or(|first| first.position > after + 1) {
        rows = places(&mut connection, num, after, limit).await?;
    }
    let newest = rows.last().map_or(after, |row| row.position);
    rows.extend(tail.into_iter().filter(|row| row.position > newest));

    let mut bytes = 0;
    let fits = rows.iter().take(limit as usize).take_while(|row| {
        bytes += row.length;
        bytes <= limits::PAGE_BYTES as u64
    });
    rows.truncate(fits.count().max(1));
    if rows.is_empty() {
        return Ok((head > 0).then_some(ReadReply { entries: Vec::new(), head }));
    }
    let mut stored = stored(&mut connection, &rows).await?;
    let entries: Vec<_> =
        rows.into_iter().map(|row| whole(&row, stored.remove(&row.entry))).collect();
    let head = head.max(entries.last().map_or(0, |entry| entry.position));
    Ok(Some(ReadReply { entries, head }))
}

/// Where the settled entries after a position are.
async fn places(
    connection: &mut SqliteConnection,
    log: i64,
    after: u64,
    limit: u32,
) -> Result<Vec<TailRow>, Error> {
    #[derive(FromRow)]
    struct Place {
        position: i64,
        entry: i64,
        flags: i64,
        length: i64,
        id: Vec<u8>,
    }
    let places: Vec<Place> = sqlx::query_as(
        "SELECT position, entry, flags, length, id FROM places \
         WHERE log = ? AND position > ? ORDER BY position LIMIT ?",
    )
    .bind(log)
    .bind(signed(after))
    .bind(limit)
    .fetch_all(connection)
    .await?;
    let rows = places.into_iter().map(|place| {
        Ok(TailRow {
            position: unsigned(place.position),
            entry: place.entry,
            flags: place.flags,
            length: unsigned(place.length),
            id: EntryId::try_from(place.id.as_slice())?,
        })
    });
    rows.collect()
}

/// The bytes of entries, by the numbers of their rows, as far as they are there.
async fn stored(
    connection: &mut SqliteConnection,
    rows: &[TailRow],
) -> Result<HashMap<i64, Vec<u8>>, Error> {
    let numbers: Vec<_> = rows.iter().map(|row| row.entry.to_string()).collect();
    let stored: Vec<(i64, Vec<u8>)> = sqlx::query_as(
        "SELECT num, bytes FROM entries WHERE num IN (SELECT value FROM json_each(?))",
    )
    .bind(format!("[{}]", numbers.join(",")))
    .fetch_all(connection)
    .await?;
    Ok(stored.into_iter().collect())
}

/// An entry as it is handed out. One whose bytes have expired keeps its id, and so does one whose
/// bytes are damaged, so that readers see where something is missing and go on.
fn whole(row: &TailRow, bytes: Option<Vec<u8>>) -> LogEntry {
    let is_commit = kind_of(row.flags) == EntryKind::Commit;
    match bytes {
        Some(bytes) if EntryId::of(&bytes) == row.id => log_entry(row.position, row.flags, bytes),
        None if !is_commit => expired(row),
        damaged => {
            let lost = damaged.is_none();
            tracing::error!(
                row = row.entry,
                lost,
                "an entry in logs.db is damaged; see PRAGMA quick_check"
            );
            expired(row)
        }
    }
}

fn expired(row: &TailRow) -> LogEntry {
    LogEntry { expired: Some(row.id), ..log_entry(row.position, row.flags, Vec::new()) }
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
    let positions: Vec<Option<i64>> = sqlx::query_scalar(
        "SELECT besides.position FROM logs LEFT JOIN besides ON besides.log = logs.num \
         AND besides.part = ? AND besides.position <= ? \
         WHERE logs.id = ? ORDER BY besides.position DESC LIMIT ?",
    )
    .bind(part_number(Part::State))
    .bind(signed(at_most))
    .bind(id.0.to_vec())
    .bind(limits::PAGE_STATES)
    .fetch_all(readers)
    .await?;
    // A log without states is a row without a position.
    let exists = !positions.is_empty();
    Ok(exists.then(|| positions.into_iter().flatten().map(unsigned).collect()))
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
