//! Logs: how they are stored, read and followed.
//!
//! Entries go into `entries` in the order in which they come, which costs least. Where the
//! entries of one log are is kept in memory at first and written to `places` when sixteen have
//! come together, when a commit comes, or when too much waits; after a crash the rows that were
//! not settled yet are read once more.

mod append;
mod live;
mod log_store;
mod memory;
mod plan;
mod read;
mod retention;
mod running;
mod store;

#[cfg(test)]
mod tests;

pub(crate) use append::{Appender, NewAppend, Outcome};
pub(crate) use live::{Follower, Live, Push};
pub(crate) use log_store::LogStore;
use memory::Memory;
pub(crate) use plan::Plan;

use corncrake_wire::log::{EntryKind, Part};

/// `entries.flags` of a commit.
const COMMIT: i64 = 1;
/// `entries.flags` of an entry with a Welcome beside it.
const WELCOME: i64 = 2;
/// `entries.flags` of an entry with a state beside it.
const STATE: i64 = 4;

/// `besides.part`.
const fn part_number(part: Part) -> i64 {
    match part {
        Part::Welcome => 1,
        Part::State => 2,
    }
}

const fn kind_of(flags: i64) -> EntryKind {
    if flags & COMMIT == 0 { EntryKind::Message } else { EntryKind::Commit }
}

/// A position or a count as SQLite holds it.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A position or a count from SQLite.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
