//! The running hash of a log.

use corncrake_wire::{
    LogId, limits,
    log::{RUNNING_START, running},
};
use sqlx::SqlitePool;

use super::{Memory, read::page};
use crate::Error;

/// The newest position of a log that was used lately; 0 for others.
pub(super) fn head_in_memory(memory: &Memory, id: &LogId) -> u64 {
    memory.tail_after(id, u64::MAX, 0).1
}

/// The running hash up to a position; nothing if the log doesn't reach as far.
pub(super) async fn running_at(
    readers: &SqlitePool,
    memory: &Memory,
    id: &LogId,
    position: u64,
) -> Result<Option<[u8; 32]>, Error> {
    let (mut hash, mut after) = (RUNNING_START, 0);
    while after < position {
        let read = page(readers, memory, id, after, limits::PAGE_ENTRIES).await?;
        let entries = read.map(|read| read.entries).unwrap_or_default();
        if entries.is_empty() {
            return Ok(None);
        }
        for entry in entries.iter().take_while(|entry| entry.position <= position) {
            hash = running(hash, entry.position, &entry.id());
            after = entry.position;
        }
    }
    Ok(Some(hash))
}
