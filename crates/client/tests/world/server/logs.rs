//! Logs of the memory server.

use std::collections::BTreeMap;

use corncrake_wire::{
    Decision, EntryId, ErrorCode, LogId, decide,
    log::{
        Append, AppendReply, Beside, EntryKind, LogEntry, NewEntry, Part, Point, RUNNING_START,
        Read, ReadReply, Sealed, Start, States, StatesReply, running,
    },
};

use super::Server;

/// One log.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) opening: Vec<u8>,
    pub(crate) entries: Vec<(EntryKind, NewEntry)>,
    pub(crate) ids: BTreeMap<EntryId, u64>,
    pub(crate) newest_commit: Point,
    /// Messages up to here have expired.
    pub(crate) expired: u64,
}

impl Log {
    pub(crate) fn head(&self) -> u64 {
        self.entries.len() as u64
    }

    /// At most `limit` entries above `after`.
    pub(crate) fn page(&self, after: u64, limit: usize) -> Vec<LogEntry> {
        let numbered = self.entries.iter().zip(1..).skip(usize::try_from(after).unwrap());
        let page = numbered.take(limit).map(|((kind, entry), position)| {
            let expired = *kind == EntryKind::Message && position <= self.expired;
            LogEntry {
                position,
                kind: *kind,
                bytes: if expired { Vec::new() } else { entry.bytes.clone() },
                expired: expired.then(|| entry.id()),
                has_welcome: entry.welcome.is_some(),
                has_state: entry.state.is_some(),
            }
        });
        page.collect()
    }
}

impl Log {
    /// The running hash up to a position, if the log reaches as far.
    pub(crate) fn running_at(&self, position: u64) -> Option<[u8; 32]> {
        let up_to = (1..=position).zip(&self.entries);
        let hash =
            up_to.fold(RUNNING_START, |hash, (at, (_, entry))| running(hash, at, &entry.id()));
        (position <= self.head()).then_some(hash)
    }
}

impl Server {
    /// Lets all messages expire that are here now.
    pub(crate) fn expire_messages(&mut self) {
        for log in self.logs.values_mut() {
            log.expired = log.head();
        }
    }

    pub(crate) fn append(&mut self, append: Append) -> Result<AppendReply, ErrorCode> {
        let ids = append.check()?;
        let name = append.token.log_id();
        let log = self.logs.get(&name);
        let (head, newest_commit) =
            log.map_or((0, Point::START), |log| (log.head(), log.newest_commit));
        let known: Vec<_> =
            ids.iter().map(|id| log.and_then(|log| log.ids.get(id)).copied()).collect();
        let mut decision = decide(head, newest_commit, &known, append.kind, append.after);
        if self.looks_up_late && append.after != newest_commit {
            decision = Decision::Conflict;
        }
        match decision {
            Decision::Stored(positions) => Ok(AppendReply::Stored { positions, head }),
            Decision::Refuse(code) => Err(code),
            Decision::Conflict => {
                let page = self.page;
                let missing =
                    log.map(|log| log.page(append.after.position, page)).unwrap_or_default();
                Ok(AppendReply::Conflict { newest_commit, head, missing })
            }
            Decision::Place { first } => {
                if log.is_none() && append.opening.is_none() {
                    return Err(ErrorCode::OpeningMissing);
                }
                let positions: Vec<u64> = (first..).take(ids.len()).collect();
                let head = self.place(name, append, &ids);
                Ok(AppendReply::Stored { positions, head })
            }
        }
    }

    /// Puts the entries at the end of the log; gives its new head.
    fn place(&mut self, name: LogId, append: Append, ids: &[EntryId]) -> u64 {
        let log = self.logs.entry(name).or_insert_with(|| Log {
            opening: append.opening.unwrap_or_default(),
            entries: Vec::new(),
            ids: BTreeMap::new(),
            newest_commit: Point::START,
            expired: 0,
        });
        for (entry, id) in append.entries.into_iter().zip(ids) {
            log.entries.push((append.kind, entry));
            log.ids.insert(*id, log.entries.len() as u64);
        }
        if append.kind == EntryKind::Commit {
            log.newest_commit = Point { position: log.head(), id: ids[0] };
        }
        log.head()
    }

    pub(crate) fn read(&self, read: &Read) -> Result<ReadReply, ErrorCode> {
        let log = self.logs.get(&read.token.log_id()).ok_or(ErrorCode::LogNotFound)?;
        let limit = self.page.min(usize::try_from(read.limit).unwrap()).max(1);
        Ok(ReadReply { entries: log.page(read.after, limit), head: log.head() })
    }

    pub(crate) fn beside(&self, beside: &Beside) -> Result<Sealed, ErrorCode> {
        let log = self.logs.get(&beside.token.log_id()).ok_or(ErrorCode::LogNotFound)?;
        let bytes = if beside.position == 0 {
            (beside.part == Part::State).then(|| log.opening.clone())
        } else {
            let at = usize::try_from(beside.position - 1).unwrap();
            log.entries.get(at).and_then(|(_, entry)| match beside.part {
                Part::Welcome => entry.welcome.clone(),
                Part::State => entry.state.clone(),
            })
        };
        Ok(Sealed { bytes: bytes.ok_or(ErrorCode::NotFound)? })
    }

    pub(crate) fn states(&self, states: &States) -> Result<StatesReply, ErrorCode> {
        let log = self.logs.get(&states.token.log_id()).ok_or(ErrorCode::LogNotFound)?;
        let numbered = log.entries.iter().zip(1u64..);
        let mut positions: Vec<u64> = numbered
            .filter(|((_, entry), position)| entry.state.is_some() && *position <= states.at_most)
            .map(|(_, position)| position)
            .collect();
        positions.reverse();
        positions.push(0);
        let start = states.start > 0;
        let start = start.then(|| self.start(states, positions[0])).transpose()?;
        Ok(StatesReply { positions, start })
    }

    fn start(&self, states: &States, newest: u64) -> Result<Start, ErrorCode> {
        let States { token, at_most, start: _, admission } = states.clone();
        let beside = |part, position| {
            let (token, admission) = (token.clone(), admission.clone());
            self.beside(&Beside { token, position, part, admission })
        };
        let state = beside(Part::State, newest)?.bytes;
        let welcome = match at_most {
            0 | u64::MAX => None,
            at_most => beside(Part::Welcome, at_most).ok().map(|sealed| sealed.bytes),
        };
        let after = newest.saturating_sub(1);
        let page = self.read(&Read { token: token.clone(), after, limit: 256, admission })?;
        Ok(Start { state, page, welcome })
    }
}
