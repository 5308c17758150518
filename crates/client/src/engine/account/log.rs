//! The account log (architecture §4.5): what the own devices tell each other about their chats.
//!
//! An ordinary log whose seed derives from the storage key. Its map is what the log's records add
//! up to; records that this device owes wait in order, stored, and one at a time is appended. An
//! owed record is done when the log is read and says the same, whoever wrote it: so neither a lost
//! answer nor a crash writes anything that matters twice.

use std::collections::VecDeque;

use corncrake_core::{
    conversation::Entry,
    id::LogId,
    seal::{
        envelope::{Beside as BesideOf, EntryKind, LogKeys, entry_id},
        record::{AccountLogRecord, AccountMap, DeviceNameRecord, RecordKey, StorageKey},
    },
};
use corncrake_wire::{
    AccessToken, OpenReply,
    log::{Append, AppendReply, LogEntry, NewEntry},
};
use serde::{Deserialize, Serialize};

use super::{AccountThen, Retry, session::reply_of};
use crate::{
    engine::{Effect, State, Step, Then, tables::Table},
    host::Timestamp,
    transport::TransportError,
};

/// A state lies beside every so many records.
const STATE_EVERY: u64 = 100;

/// What the log says, as it is stored.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct LogRow {
    position: u64,
    map: Vec<u8>,
}

/// A record that is owed, as it is stored: sealed under the account's storage key.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OwedRow {
    pub(super) number: u64,
    record: Vec<u8>,
}

/// What to do with an answer about the account log.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LogThen {
    Appended,
}

/// The account log as this device knows it.
#[derive(Debug, Default)]
pub(crate) struct AccountLog {
    keys: Option<Keys>,
    map: AccountMap,
    /// The newest record read.
    position: u64,
    /// Whether it was read to its head since the socket is up.
    is_at_head: bool,
    owed: VecDeque<(u64, AccountLogRecord)>,
    /// The sealed entry of the first one owed, while an append of it is under way or repeated.
    sealed: Option<(u64, NewEntry)>,
    append: Retry,
}

#[derive(Debug)]
struct Keys {
    log: LogKeys,
    records: RecordKey,
}

impl AccountLog {
    /// Derives the keys.
    pub(super) fn open(&mut self, storage_key: &StorageKey) {
        let log = storage_key.account_log_seed().log_keys();
        self.keys = Some(Keys {
            log,
            records: storage_key.record_key(),
        });
    }

    /// Takes what is stored; whether it is whole.
    pub(super) fn load(&mut self, row: &LogRow) -> bool {
        let Ok(map) = AccountMap::decode(&row.map) else {
            return false;
        };
        self.position = row.position;
        self.map = map;
        true
    }

    /// Takes an owed record from the store; whether it opens. Records come in order.
    pub(super) fn load_owed(&mut self, row: &OwedRow) -> bool {
        let Some(keys) = &self.keys else { return false };
        let record = keys.records.open_record(keys.log.log, &row.record);
        record
            .map(|record| self.owed.push_back((row.number, record)))
            .is_ok()
    }

    pub(super) fn is_owed(&self) -> bool {
        !self.is_at_head || !self.owed.is_empty()
    }

    pub(super) const fn hurry(&mut self) {
        self.append.hurry();
    }

    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        let wanted = self.is_at_head && !self.owed.is_empty();
        wanted.then(|| self.append.wake_at()).flatten()
    }

    fn token(&self) -> Option<AccessToken> {
        let keys = self.keys.as_ref()?;
        Some(AccessToken::new(*keys.log.access_token.expose()))
    }

    fn is(&self, log: corncrake_wire::LogId) -> bool {
        self.keys
            .as_ref()
            .is_some_and(|keys| keys.log.log == LogId::from_bytes(log.0))
    }

    /// What one entry says; nothing if whoever wrote it does not hold the storage key.
    fn read(&self, entry: &LogEntry) -> Option<AccountLogRecord> {
        let keys = self.keys.as_ref()?;
        let kind = match entry.kind {
            corncrake_wire::EntryKind::Commit => EntryKind::Commit,
            corncrake_wire::EntryKind::Message => EntryKind::Message,
        };
        let inner = keys
            .log
            .envelope
            .open(keys.log.log, kind, &entry.bytes)
            .ok()?;
        match Entry::decode(&inner) {
            Ok(Entry::AccountRecord(sealed)) => {
                keys.records.open_record(keys.log.log, &sealed).ok()
            }
            _ => None,
        }
    }

    /// What the map says about the same conversation, if that is of a later epoch.
    fn later_than(&self, record: &AccountLogRecord) -> Option<AccountLogRecord> {
        self.map
            .records()
            .find(|known| is_newer(known, record))
            .cloned()
    }

    /// The next append of what is owed.
    fn seal_first(&mut self, step: &mut Step<'_>) -> Option<Append> {
        let token = self.token()?;
        let keys = self.keys.as_ref()?;
        let LogKeys { log, envelope, .. } = &keys.log;
        let (number, record) = self.owed.front()?;
        let entry = match &self.sealed {
            Some((of, entry)) if of == number => entry.clone(),
            _ => {
                let sealed = keys.records.seal_record(*log, record, step.rng).ok()?;
                let inner = Entry::AccountRecord(sealed).encode();
                let bytes = envelope
                    .seal(*log, EntryKind::Commit, &inner, step.rng)
                    .ok()?;
                NewEntry::new(bytes)
            }
        };
        // The state depends on what was read last; the entry and so its id stay.
        let mut entry = NewEntry::new(entry.bytes);
        if (self.position + 1).is_multiple_of(STATE_EVERY) {
            let mut map = self.map.clone();
            map.apply(record.clone());
            let beside = BesideOf::State(entry_id(&entry.bytes));
            let map = keys.records.seal_map(*log, &map, step.rng).ok()?;
            entry.state = Some(envelope.seal_beside(*log, beside, &map, step.rng).ok()?);
        }
        self.sealed = Some((*number, entry.clone()));
        let opening = if self.position == 0 {
            let map = keys
                .records
                .seal_map(*log, &AccountMap::new(), step.rng)
                .ok()?;
            Some(
                envelope
                    .seal_beside(*log, BesideOf::Opening, &map, step.rng)
                    .ok()?,
            )
        } else {
            None
        };
        Some(Append {
            token,
            kind: corncrake_wire::EntryKind::Commit,
            after: self.position,
            entries: vec![entry],
            opening,
            admission: Vec::new(),
        })
    }
}

#[cfg(test)]
impl AccountLog {
    /// What the account's devices told each other so far.
    pub(super) fn records(&self) -> impl Iterator<Item = &AccountLogRecord> {
        self.map.records()
    }
}

impl State {
    /// Owes a record to the account log; stored with this step. An owed record on the same
    /// subject that has not left yet is replaced.
    pub(crate) fn put_record(&mut self, record: AccountLogRecord, step: &mut Step<'_>) {
        let log = &mut self.account.log;
        if log.owed.is_empty() && log.map.records().any(|known| *known == record) {
            return;
        }
        let Some(keys) = &log.keys else { return };
        let number = log.owed.back().map_or(1, |(last, _)| last + 1);
        // A record above the limit of its size is never made: its fields are small.
        let Ok(sealed) = keys.records.seal_record(keys.log.log, &record, step.rng) else {
            return;
        };
        step.put(
            Table::AccountLog,
            OWED,
            number,
            &OwedRow {
                number,
                record: sealed,
            },
        );
        let sent = log.sealed.as_ref().map(|(number, _)| *number);
        log.owed.retain(|(number, earlier)| {
            let keep = Some(*number) == sent || !same_subject(earlier, &record);
            if !keep {
                step.delete(Table::AccountLog, OWED, *number);
            }
            keep
        });
        log.owed.push_back((number, record));
        self.work_account_log(step);
    }

    /// Has the log's records pushed.
    pub(super) fn watch_account_log(&mut self, step: &mut Step<'_>) {
        let log = &mut self.account.log;
        if let Some(token) = log.token() {
            log.is_at_head = false;
            step.effects.push(Effect::Watch(token, log.position));
        }
    }

    /// The open plane's socket is up.
    pub(crate) fn account_log_connected(&mut self, step: &mut Step<'_>) {
        self.watch_account_log(step);
        self.account.hurry();
        self.account_work(step);
    }

    /// Entries of a log that no chat reads.
    pub(crate) fn account_log_entries(
        &mut self,
        log: corncrake_wire::LogId,
        entries: Vec<LogEntry>,
        head: u64,
        step: &mut Step<'_>,
    ) {
        if !self.account.log.is(log) {
            return;
        }
        if self.read_account_log(entries, step) == Reached::Gap {
            return self.watch_account_log(step);
        }
        if self.account.log.position >= head {
            self.account.log.is_at_head = true;
            self.name_device(step);
        }
        self.work_account_log(step);
    }

    /// Appends what is owed, once all that others wrote is read.
    pub(super) fn work_account_log(&mut self, step: &mut Step<'_>) {
        let log = &mut self.account.log;
        if !log.is_at_head || log.owed.is_empty() || !log.append.is_due(step.now) {
            return;
        }
        let Some(append) = log.seal_first(step) else {
            return;
        };
        log.append.begin();
        self.ask_open(
            Then::Account(AccountThen::Log(LogThen::Appended)),
            append,
            step,
        );
    }

    /// A reply to an append is a hint; only what is read counts.
    pub(super) fn account_log_replied(
        &mut self,
        LogThen::Appended: LogThen,
        result: Result<OpenReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        match reply_of::<Append>(result) {
            Ok(AppendReply::Stored { positions: _, head }) => {
                self.account.log.append = Retry::default();
                // The entry comes by the socket; until then nothing else is appended.
                if self.account.log.position < head {
                    self.account.log.is_at_head = false;
                    self.watch_account_log(step);
                }
            }
            Ok(AppendReply::Conflict {
                newest_commit: _,
                head,
                missing,
            }) => {
                self.account.log.append = Retry::default();
                let log = self.account.log.wire_id();
                self.account.log.is_at_head = false;
                if let Some(log) = log {
                    self.account_log_entries(log, missing, head, step);
                }
            }
            Err(error) => self.account.log.append.failed(&error, step.now, step.rng),
        }
        self.work_account_log(step);
    }

    fn read_account_log(&mut self, entries: Vec<LogEntry>, step: &mut Step<'_>) -> Reached {
        let before = self.account.log.position;
        let mut reached = Reached::End;
        for entry in entries {
            let log = &mut self.account.log;
            if entry.position <= log.position {
                continue;
            }
            if entry.position != log.position + 1 {
                reached = Reached::Gap;
                break;
            }
            log.position = entry.position;
            let Some(record) = log.read(&entry) else {
                continue;
            };
            let was_known = log.map.records().any(|known| *known == record);
            let later = log.later_than(&record);
            log.map.apply(record.clone());
            let was_owed = self.settle_owed(&record, step);
            if let Some(later) = later {
                // Written by a device that was behind; what was there before still holds.
                self.put_record(later, step);
            } else if !was_known && !was_owed {
                self.chats_recorded(&record, step);
            }
        }
        let log = &self.account.log;
        if before != log.position {
            let row = LogRow {
                position: log.position,
                map: log.map.encode().to_vec(),
            };
            step.put(Table::AccountLog, &[], 0, &row);
        }
        reached
    }

    /// Strikes out what the log now says, and what it says newer things about.
    fn settle_owed(&mut self, record: &AccountLogRecord, step: &mut Step<'_>) -> bool {
        let mut same = false;
        let log = &mut self.account.log;
        log.owed.retain(|(number, owed)| {
            same |= owed == record;
            let keep = owed != record && !is_newer(record, owed);
            if !keep {
                step.delete(Table::AccountLog, OWED, *number);
            }
            keep
        });
        log.sealed
            .take_if(|(sent, _)| log.owed.iter().all(|(number, _)| number != sent));
        same
    }

    /// The log begins with, and never lacks, a record of this device.
    fn name_device(&mut self, step: &mut Step<'_>) {
        let Some(device) = self.account.me.as_ref().map(|me| me.device) else {
            return;
        };
        let is_mine = |record: &AccountLogRecord| matches!(record, AccountLogRecord::DeviceName(name) if name.device == device);
        let log = &self.account.log;
        if !log.map.records().any(is_mine) && !log.owed.iter().any(|(_, record)| is_mine(record)) {
            let name = std::env::consts::OS.to_owned();
            self.put_record(
                AccountLogRecord::DeviceName(DeviceNameRecord { device, name }),
                step,
            );
        }
    }
}

impl AccountLog {
    fn wire_id(&self) -> Option<corncrake_wire::LogId> {
        self.keys
            .as_ref()
            .map(|keys| corncrake_wire::LogId(*keys.log.log.as_bytes()))
    }
}

/// Where reading a page of the log ended.
#[derive(PartialEq, Eq)]
enum Reached {
    End,
    /// Something is missing in between.
    Gap,
}

fn same_subject(one: &AccountLogRecord, other: &AccountLogRecord) -> bool {
    match (one, other) {
        (AccountLogRecord::Conversation(one), AccountLogRecord::Conversation(other)) => {
            one.id == other.id
        }
        (AccountLogRecord::Contact(one), AccountLogRecord::Contact(other)) => {
            one.account == other.account
        }
        (AccountLogRecord::DeviceName(one), AccountLogRecord::DeviceName(other)) => {
            one.device == other.device
        }
        _ => false,
    }
}

/// Whether `record` tells of a later epoch of the conversation that `owed` is about.
fn is_newer(record: &AccountLogRecord, owed: &AccountLogRecord) -> bool {
    let (AccountLogRecord::Conversation(record), AccountLogRecord::Conversation(owed)) =
        (record, owed)
    else {
        return false;
    };
    record.id == owed.id && record.anchor.epoch > owed.anchor.epoch
}

/// The id of the rows of owed records.
pub(super) const OWED: &[u8] = b"owed";
