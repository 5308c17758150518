//! What a batch of appends is about to change, decided before anything is stored.

use std::collections::HashMap;

use corncrake_wire::{
    Decision, EntryId, ErrorCode, LogId, decide,
    log::{EntryKind, LogEntry, NewEntry, Part, Point, running},
};

use super::{
    COMMIT, Live, STATE, WELCOME,
    append::{NewAppend, Outcome},
    memory::{Log, Placed},
    read::log_entry,
};

/// An entry that has no place yet.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) log: LogId,
    pub(super) position: u64,
    pub(super) entry: i64,
    pub(super) length: usize,
}

/// What a transaction is about to make true.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(super) drafts: HashMap<LogId, Draft>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) next_entry: i64,
    pub(super) next_log: i64,
    pub(super) day: i64,
    /// The day that begins with an entry.
    pub(super) new_day: Option<(i64, i64)>,
    /// Bytes that a log may hold.
    pub(super) log_bytes: u64,
    /// A log with so many waiting entries gets them placed.
    pub(super) tail: usize,
    pub(super) entries: Vec<EntryRow>,
    pub(super) besides: Vec<BesideRow>,
    /// The next `progress.settled`, if it is time to write one.
    pub(super) progress: Option<i64>,
}

/// A log under change.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) log: Log,
    /// Entries that this transaction adds; they stand at the end of the log's tail.
    pub(super) added: usize,
    pub(super) is_new: bool,
    pub(super) settles: bool,
    /// What followers get, if there were any when the entries were stored.
    pub(super) pushed: Option<Vec<LogEntry>>,
}

/// A row for `entries`.
#[derive(Debug)]
pub(super) struct EntryRow {
    pub(super) entry: i64,
    pub(super) log: i64,
    pub(super) position: u64,
    pub(super) flags: i64,
    pub(super) bytes: Vec<u8>,
}

/// A row for `besides`.
#[derive(Debug)]
pub(super) struct BesideRow {
    pub(super) log: i64,
    pub(super) part: Part,
    pub(super) position: u64,
    pub(super) bytes: Vec<u8>,
}

impl Plan {
    /// Decides about one append; takes its entries out of it if they are to be stored.
    pub(super) fn decide(&mut self, append: &mut NewAppend, live: &Live) -> Outcome {
        let Some(draft) = self.drafts.get_mut(&append.log) else {
            return Outcome::Refused(ErrorCode::Internal);
        };
        let log = &mut draft.log;
        let (head, newest_commit) = (log.head, log.newest_commit);
        let positions: Vec<_> = append.ids.iter().map(|id| log.find(id)).collect();
        match decide(head, newest_commit, &positions, append.kind, append.after) {
            Decision::Stored(positions) => return Outcome::Stored { positions, head },
            Decision::Refuse(code) => return Outcome::Refused(code),
            Decision::Conflict => {
                return Outcome::Conflict { newest_commit, head };
            }
            Decision::Place { first: _ } => {}
        }
        if log.bytes.saturating_add(append.bytes() as u64) > self.log_bytes {
            return Outcome::Refused(ErrorCode::LogFull);
        }
        if head == 0 {
            let Some(bytes) = append.opening.take() else {
                return Outcome::Refused(ErrorCode::OpeningMissing);
            };
            log.num = self.next_log;
            self.next_log += 1;
            log.bytes = bytes.len() as u64;
            let (log, part, position) = (log.num, Part::State, 0);
            self.besides.push(BesideRow { log, part, position, bytes });
        }
        let followed = live.is_followed(&append.log);
        for (new, id) in append.entries.drain(..).zip(&append.ids) {
            let entry = self.next_entry;
            self.next_entry += 1;
            let (position, length) = (draft.log.head + 1, new.bytes.len());
            let row = draft.add(entry, append.kind, new, *id, &mut self.besides);
            if followed {
                let entry = log_entry(position, row.flags, row.bytes.clone());
                draft.pushed.get_or_insert_default().push(entry);
            }
            self.entries.push(row);
            self.waiting.push(Waiting { log: append.log, position, entry, length });
        }
        draft.settles |= draft.log.tail.len() >= self.tail;
        let head = draft.log.head;
        let first = head + 1 - append.ids.len() as u64;
        Outcome::Stored { positions: (first..=head).collect(), head }
    }
}

impl Draft {
    /// Adds an entry at the head, and gives its row.
    fn add(
        &mut self,
        entry: i64,
        kind: EntryKind,
        new: NewEntry,
        id: EntryId,
        besides: &mut Vec<BesideRow>,
    ) -> EntryRow {
        let NewEntry { bytes, welcome, state } = new;
        let log = &mut self.log;
        log.head += 1;
        let (num, position) = (log.num, log.head);
        let mut flags = 0;
        if kind == EntryKind::Commit {
            flags |= COMMIT;
            log.newest_commit = Point { position, id };
        }
        let parts = [(Part::Welcome, WELCOME, welcome), (Part::State, STATE, state)];
        for (part, flag, bytes) in parts {
            if let Some(bytes) = bytes {
                flags |= flag;
                log.bytes += bytes.len() as u64;
                besides.push(BesideRow { log: num, part, position, bytes });
            }
        }
        log.bytes += bytes.len() as u64;
        log.running = running(log.running, position, &id);
        let running = log.running;
        log.tail.push(Placed { entry, flags, id, length: bytes.len(), running });
        self.added += 1;
        self.settles |= kind == EntryKind::Commit;
        EntryRow { entry, log: num, position, flags, bytes }
    }
}
