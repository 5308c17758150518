//! What is kept in memory about logs that were used lately.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use corncrake_wire::{EntryId, LogId, log::Point};

/// The newest settled entries of a log that are known when they come again. Who repeats an append
/// whose answer was lost does so soon; an older entry that comes again is a new one for the server,
/// and clients pass over it.
pub(super) const RECENT: usize = 256;

/// Where an entry is that is not in `places` yet. Its position follows from its place in
/// [`Log::tail`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) entry: i64,
    pub(super) flags: i64,
    pub(super) id: EntryId,
    pub(super) length: usize,
    /// The running hash up to this entry.
    pub(super) running: [u8; 32],
}

/// A log as the last commit left it.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) num: i64,
    pub(super) head: u64,
    pub(super) newest_commit: Point,
    /// The running hash up to the head.
    pub(super) running: [u8; 32],
    /// What is stored of it: entries and what lies beside them.
    pub(super) bytes: u64,
    /// Up to this position entries are in `places`.
    pub(super) settled: u64,
    /// The entries after that.
    pub(super) tail: Vec<Placed>,
    /// The first bytes of the ids of the newest settled entries, the newest last. `None` if they
    /// were not read yet.
    pub(super) recent: Option<Arc<Vec<u64>>>,
}

/// What is kept of a settled entry's id.
pub(super) fn mark(id: &EntryId) -> u64 {
    id.0.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

impl Log {
    /// The position of a known entry.
    pub(super) fn find(&self, id: &EntryId) -> Option<u64> {
        let in_tail = (self.settled + 1..).zip(&self.tail).find(|(_, placed)| placed.id == *id);
        in_tail.map(|(position, _)| position).or_else(|| {
            let mark = mark(id);
            let back = self.recent.as_ref()?.iter().rev().position(|recent| *recent == mark)?;
            self.settled.checked_sub(back as u64)
        })
    }

    /// Notes that the tail is in `places` now.
    pub(super) fn settle(&mut self) {
        let tail = self.tail.drain(..).map(|placed| mark(&placed.id));
        if let Some(recent) = &mut self.recent {
            let all: Vec<_> = recent.iter().copied().chain(tail).collect();
            let older = all.len().saturating_sub(RECENT);
            *recent = Arc::new(all.into_iter().skip(older).collect());
        } else {
            drop(tail);
        }
        self.settled = self.head;
    }
}

/// All logs in memory: those with a tail, and others that were used lately.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<HashMap<LogId, Log>>);

impl Memory {
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<LogId, Log>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The running hash up to a position, if memory has it.
    pub(super) fn running_at(&self, id: &LogId, position: u64) -> Option<[u8; 32]> {
        let logs = self.lock();
        let log = logs.get(id)?;
        if position == log.head {
            return Some(log.running);
        }
        let back = position.checked_sub(log.settled + 1)?;
        log.tail.get(usize::try_from(back).ok()?).map(|placed| placed.running)
    }

    /// Entries after `after` that are not in `places`, at most `limit`; and the log's number and
    /// head, if it is in memory.
    pub(super) fn tail_after(
        &self,
        id: &LogId,
        after: u64,
        limit: usize,
    ) -> (Vec<TailRow>, Option<(i64, u64)>) {
        let logs = self.lock();
        let Some(log) = logs.get(id) else {
            return (Vec::new(), None);
        };
        let rows = (log.settled + 1..)
            .zip(&log.tail)
            .filter(|(position, _)| *position > after)
            .map(|(position, placed)| TailRow {
                position,
                entry: placed.entry,
                flags: placed.flags,
                length: placed.length as u64,
                id: placed.id,
            })
            .take(limit)
            .collect();
        (rows, Some((log.num, log.head)))
    }
}

/// Where an entry is.
#[derive(Debug)]
pub(super) struct TailRow {
    pub(super) position: u64,
    pub(super) entry: i64,
    pub(super) flags: i64,
    pub(super) length: u64,
    pub(super) id: EntryId,
}
