//! The running hash of a log.

use corncrake_wire::{LogId, log::RUNNING_START};
use sqlx::SqlitePool;

use super::{Memory, signed};
use crate::Error;

/// The newest position of a log that was used lately; 0 for others.
pub(super) fn head_in_memory(memory: &Memory, id: &LogId) -> u64 {
    memory.tail_after(id, u64::MAX, 0).1.map_or(0, |(_, head)| head)
}

/// The running hash up to a position; `None` if the log doesn't reach as far.
pub(super) async fn running_at(
    readers: &SqlitePool,
    memory: &Memory,
    id: &LogId,
    position: u64,
) -> Result<Option<[u8; 32]>, Error> {
    if position == 0 {
        return Ok(Some(RUNNING_START));
    }
    // Memory first: what is settled in between is then seen twice rather than never.
    if let Some(running) = memory.running_at(id, position) {
        return Ok(Some(running));
    }
    let running: Option<Vec<u8>> = sqlx::query_scalar(
        "SELECT running FROM places WHERE log = (SELECT num FROM logs WHERE id = ?) \
         AND position = ?",
    )
    .bind(id.0.to_vec())
    .bind(signed(position))
    .fetch_optional(readers)
    .await?;
    running.map(|running| running.try_into().map_err(|_| Error::failed("damaged"))).transpose()
}
