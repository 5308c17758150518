//! What is kept in memory about logs that were used lately.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use corncrake_wire::{LogId, log::Point};

/// The first half of an entry's id; within one log that is plenty.
pub(super) type Mark = [u8; 16];

/// Where an entry stands that is not in `places` yet. Its position follows from its place in
/// [`Log::tail`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) entry: i64,
    pub(super) mark: Mark,
    pub(super) length: usize,
}

/// A log as the last commit left it.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) num: i64,
    pub(super) head: u64,
    pub(super) newest_commit: Point,
    /// Up to this position entries stand in `places`.
    pub(super) settled: u64,
    /// The entries after that.
    pub(super) tail: Vec<Placed>,
}

impl Log {
    /// The position of a known entry: in the tail, or among those that were found in `places`.
    pub(super) fn find(&self, mark: &Mark, known: &HashMap<(i64, Mark), u64>) -> Option<u64> {
        let in_tail = (self.settled + 1..).zip(&self.tail).find(|(_, placed)| placed.mark == *mark);
        let position = in_tail.map(|(position, _)| position);
        position.or_else(|| known.get(&(self.num, *mark)).copied())
    }
}

/// All logs in memory: those with a tail, and others that were used lately.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<HashMap<LogId, Log>>);

impl Memory {
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<LogId, Log>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries after `after` that are not in `places`, at most `limit`; and the head, if the log
    /// is in memory.
    pub(super) fn tail_after(&self, id: &LogId, after: u64, limit: usize) -> (Vec<TailRow>, u64) {
        let logs = self.lock();
        let Some(log) = logs.get(id) else {
            return (Vec::new(), 0);
        };
        let rows = (log.settled + 1..)
            .zip(&log.tail)
            .filter(|(position, _)| *position > after)
            .map(|(position, placed)| TailRow {
                position,
                entry: placed.entry,
                length: placed.length as u64,
            })
            .take(limit)
            .collect();
        (rows, log.head)
    }
}

/// An entry that is not in `places`.
pub(super) struct TailRow {
    pub(super) position: u64,
    pub(super) entry: i64,
    pub(super) length: u64,
}
