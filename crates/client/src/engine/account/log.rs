//! The account log (architecture §4.5): what the own devices tell each other about their chats.
//!
//! An ordinary log whose seed derives from the storage key. Its map is what the log's records add
//! up to; records that this device owes wait in order, stored, and one at a time is appended. An
//! owed record is done when the log is read and says the same, whoever wrote it: so neither a lost
//! answer nor a crash writes anything that matters twice.

use std::collections::VecDeque;

use corncrake_core::{
    conversation::Entry,
    id::{AccountId, ConversationId, DeviceId, LogId},
    seal::{
        envelope::{Beside as BesideOf, EntryKind, LogKeys, entry_id},
        record::{
            AccountLogRecord, AccountMap, ContactRecord, ConversationRecord, LostRemovalsRecord,
            REPLACEMENTS, RecordKey, ReplacementRecord, SignUpRecord, StorageKey,
        },
    },
};
use corncrake_wire::{
    AccessToken, limits,
    log::{Append, LogEntry, NewEntry, Point, running},
};
use serde::{Deserialize, Serialize};

use super::Retry;
use crate::{
    engine::{Step, tables::Table},
    host::Moment,
    transport::TransportError,
};

mod start;
mod sync;

pub(crate) use start::StartThen;

/// The id of the rows of owed records.
pub(super) const OWED: &[u8] = b"owed";
/// A state lies beside every so many records.
const STATE_EVERY: u64 = 100;

/// What the log says, as it is stored.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct LogRow {
    newest: Point,
    /// The running hash up to there, if it is known.
    running: Option<[u8; 32]>,
    map: Vec<u8>,
    is_new: bool,
}

/// A record that is owed, as it is stored: sealed under the account's storage key.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OwedRow {
    pub(super) number: u64,
    record: Vec<u8>,
}

/// The account log as this device knows it.
#[derive(Debug, Default)]
pub(crate) struct AccountLog {
    keys: Option<Keys>,
    map: AccountMap,
    /// The newest record read.
    newest: Point,
    /// The running hash up to there, if it is known.
    running: Option<[u8; 32]>,
    /// Whether it was read to its head since the socket is up.
    is_at_head: bool,
    /// The newest word on each subject that chats haven't heard: they do when the log has been
    /// read to its head, for what earlier records say is over.
    news: Vec<AccountLogRecord>,
    owed: VecDeque<(u64, AccountLogRecord)>,
    /// The sealed entry of the first one owed, while an append of it is under way or repeated.
    sealed: Option<(u64, NewEntry)>,
    append: Retry,
    /// Whether the server says that it isn't the one that was read, and that hasn't been mended.
    differs: bool,
    /// When it may be read anew for that.
    mend: Retry,
    /// The way to the newest state, until it has been gone to its end.
    start: Option<Retry>,
    /// Whether it took the place of another log and hasn't been read to its head.
    is_new: bool,
    /// Whether another one takes its place, whose key isn't here: what is written here now may be
    /// a removed device's word.
    is_over: bool,
    /// Whether nothing is written here any more, for another one takes its place.
    is_closed: bool,
    /// With which entry this device opens the log, and the map that it opens with.
    opening: Option<(corncrake_wire::EntryId, AccountMap)>,
}

/// What a device takes along into the next account log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carry {
    /// What the log says.
    Everything,
    /// What it owes.
    Owed,
}

#[derive(Debug)]
pub(super) struct Keys {
    pub(super) log: LogKeys,
    pub(super) records: RecordKey,
}

impl AccountLog {
    /// Derives the keys.
    pub(super) fn open(&mut self, storage_key: &StorageKey) {
        let log = storage_key.account_log_seed().log_keys();
        self.keys = Some(Keys { log, records: storage_key.record_key() });
        self.start = Some(Retry::default());
    }

    /// Takes what is stored; whether it is whole.
    pub(super) fn load(&mut self, row: &LogRow) -> bool {
        let Ok(map) = AccountMap::decode(&row.map) else {
            return false;
        };
        self.newest = row.newest;
        self.running = row.running;
        self.map = map;
        self.is_new = row.is_new;
        // At its beginning a log may have an opening state.
        if row.newest != Point::START {
            self.start = None;
        }
        true
    }

    /// Goes on in the log of another storage key. What is taken along is owed there, until that log
    /// says the same. The devices name themselves anew: so it tells who reads it.
    pub(super) fn move_to(
        &mut self,
        storage_key: &StorageKey,
        device: DeviceId,
        carry: Carry,
        step: &mut Step<'_>,
    ) {
        let earlier = core::mem::take(self);
        let taken_along = |record: &AccountLogRecord| match record {
            AccountLogRecord::DeviceName(named) if named.device != device => {
                let joined = named.joined.clone().map(AccountLogRecord::Replacement);
                let signed_up = named.signed_up.clone().map(AccountLogRecord::SignUp);
                joined.into_iter().chain(signed_up).collect()
            }
            other => vec![other.clone()],
        };
        let said = earlier.map.records().filter(|_| carry == Carry::Everything);
        let said = said.flat_map(taken_along);
        let is_owed = |record: &AccountLogRecord| {
            earlier.owed.iter().any(|(_, owed)| same_subject(owed, record))
        };
        let mut taken: Vec<_> = said.filter(|record| !is_owed(record)).collect();
        taken.extend(earlier.owed.iter().map(|(_, record)| record.clone()));
        self.open(storage_key);
        self.is_new = true;
        step.delete_all(Table::AccountLog, OWED);
        for record in taken {
            self.owe(record, step);
        }
        self.save(step);
    }

    /// Stores a record that is to be appended; whether it could be sealed.
    fn owe(&mut self, record: AccountLogRecord, step: &mut Step<'_>) -> bool {
        let Some(keys) = &self.keys else { return false };
        let number = self.owed.back().map_or(1, |(last, _)| last + 1);
        // A record above the limit of its size is never made: its fields are small.
        let Ok(sealed) = keys.records.seal_record(keys.log.log, &record, step.rng) else {
            return false;
        };
        step.put(Table::AccountLog, OWED, number, &OwedRow { number, record: sealed });
        self.owed.push_back((number, record));
        true
    }

    /// Whether it was read to its head, and there is something in it.
    pub(super) fn is_begun(&self) -> bool {
        self.is_at_head && self.newest != Point::START
    }

    /// Whether it was read to its head for the first time since it took the place of another.
    pub(super) fn end_move(&mut self, step: &mut Step<'_>) -> bool {
        let ends = core::mem::take(&mut self.is_new);
        if ends {
            self.save(step);
        }
        ends
    }

    /// Takes an owed record from the store; whether it opens. Records come in order.
    pub(super) fn load_owed(&mut self, row: &OwedRow) -> bool {
        let Some(keys) = &self.keys else { return false };
        let record = keys.records.open_record(keys.log.log, &row.record);
        record.map(|record| self.owed.push_back((row.number, record))).is_ok()
    }

    /// What is known of each conversation: the map, and what will be in it.
    pub(super) fn conversations(&self) -> impl Iterator<Item = &ConversationRecord> {
        let owed = self.owed.iter().map(|(_, record)| record);
        self.map.records().chain(owed).filter_map(|record| match record {
            AccountLogRecord::Conversation(record) => Some(record),
            _ => None,
        })
    }

    pub(super) fn conversation_before(&self, id: ConversationId) -> Option<&ConversationRecord> {
        self.map.conversation_before(id)
    }

    /// Who is in a conversation again because the server has lost their removal.
    pub(super) fn lost_removals(&self, id: ConversationId) -> Option<&LostRemovalsRecord> {
        let mut owed = self.owed.iter().rev();
        let owed = owed.find_map(|(_, record)| match record {
            AccountLogRecord::LostRemovals(record) if record.conversation == id => Some(record),
            _ => None,
        });
        owed.or_else(|| self.map.lost_removals(id))
    }

    /// What replaced the account record: what the log holds, and what it will hold.
    pub(super) fn replacements(&self) -> impl Iterator<Item = &ReplacementRecord> {
        let owed = self.owed.iter().filter_map(|(_, record)| record.replacement());
        self.map.replacements().chain(owed)
    }

    /// How the account was made: what the log holds, and what it will hold.
    pub(super) fn sign_ups(&self) -> impl Iterator<Item = &SignUpRecord> {
        let owed = self.owed.iter().filter_map(|(_, record)| record.sign_up());
        self.map.sign_ups().chain(owed)
    }

    /// The newest version of the account record that it holds; 0 for none.
    pub(super) fn newest_replacement(&self) -> u64 {
        self.map.replacements().map(|record| record.version).max().unwrap_or(0)
    }

    pub(super) fn is_owed(&self) -> bool {
        !self.is_at_head || !self.owed.is_empty()
    }

    pub(super) fn hurry(&mut self) {
        self.append.hurry();
        self.mend.hurry();
        if let Some(start) = &mut self.start {
            start.hurry();
        }
    }

    pub(super) fn wake_at(&self) -> Option<Moment> {
        let wanted = self.is_at_head && !self.owed.is_empty() && !self.is_closed;
        let append = wanted.then_some(&self.append);
        let mend = self.differs.then_some(&self.mend);
        let retry = self.start.as_ref().or(mend).or(append);
        retry.and_then(Retry::wake_at)
    }

    pub(super) const fn keys(&self) -> Option<&Keys> {
        self.keys.as_ref()
    }

    /// Whether the search for the newest state begins now.
    pub(super) fn begin_start(&mut self, now: Moment) -> bool {
        let start = self.start.as_mut();
        start.is_some_and(|start| {
            let due = start.is_due(now);
            if due {
                start.begin();
            }
            due
        })
    }

    pub(super) fn start_failed(&mut self, error: &TransportError, step: &mut Step<'_>) {
        if let Some(start) = &mut self.start {
            start.failed(error, step.moment, step.rng);
        }
    }

    /// The newest state has been taken, or there is none.
    pub(super) const fn end_start(&mut self) {
        self.start = None;
    }

    /// Begins at a state instead of the first record.
    pub(super) fn take_state(&mut self, newest: Point, map: AccountMap, step: &mut Step<'_>) {
        self.newest = newest;
        self.running = None;
        self.map = map;
        self.save(step);
    }

    /// What chats didn't hear before this device ended.
    pub(super) fn hear_again(&mut self, news: Vec<AccountLogRecord>) {
        self.news = news;
    }

    /// Whether it was read to its head.
    pub(super) const fn is_read(&self) -> bool {
        self.is_at_head
    }

    /// What the log says about an account.
    pub(super) fn contact(&self, account: AccountId) -> Option<&ContactRecord> {
        self.map.contact(account)
    }

    /// What a device of this account calls itself.
    pub(super) fn device_name(&self, device: DeviceId) -> Option<String> {
        self.map.records().find_map(|record| match record {
            AccountLogRecord::DeviceName(named) if named.device == device => {
                Some(named.name.clone())
            }
            _ => None,
        })
    }

    /// Whether just this record waits to be appended.
    pub(super) fn owes(&self, record: &AccountLogRecord) -> bool {
        self.owed.iter().any(|(_, owed)| owed == record)
    }

    fn save(&self, step: &mut Step<'_>) {
        let map = self.map.encode().to_vec();
        let row = LogRow { newest: self.newest, running: self.running, map, is_new: self.is_new };
        step.put(Table::AccountLog, &[], 0, &row);
    }

    /// Learns the running hash where it was unknown.
    fn set_running(&mut self, position: u64, running: [u8; 32], step: &mut Step<'_>) {
        if self.newest.position == position && self.running.is_none() {
            self.running = Some(running);
            self.save(step);
        }
    }

    /// Steps on to the next entry.
    fn advance(&mut self, entry: &LogEntry) {
        let (position, id) = (entry.position, entry.id());
        self.newest = Point { position, id };
        self.running = self.running.map(|hash| running(hash, position, &id));
    }

    pub(super) fn token(&self) -> Option<AccessToken> {
        let keys = self.keys.as_ref()?;
        Some(AccessToken::new(*keys.log.access_token.expose()))
    }

    fn is(&self, log: corncrake_wire::LogId) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.log.log == LogId::from_bytes(log.0))
    }

    /// What one entry says; nothing if whoever wrote it does not hold the storage key.
    fn read(&self, entry: &LogEntry) -> Option<AccountLogRecord> {
        let keys = self.keys.as_ref().filter(|_| !self.is_over)?;
        let kind = match entry.kind {
            corncrake_wire::EntryKind::Commit => EntryKind::Commit,
            corncrake_wire::EntryKind::Message => EntryKind::Message,
        };
        let inner = keys.log.envelope.open(keys.log.log, kind, &entry.bytes).ok()?;
        match Entry::decode(&inner) {
            Ok(Entry::AccountRecord(sealed)) => {
                keys.records.open_record(keys.log.log, &sealed).ok()
            }
            _ => None,
        }
    }

    pub(super) fn wire_id(&self) -> Option<corncrake_wire::LogId> {
        self.keys.as_ref().map(|keys| corncrake_wire::LogId(*keys.log.log.as_bytes()))
    }

    /// What the map says about the same conversation, if that is later; whether it is hidden is for the
    /// newest writer to say.
    fn later_than(&self, record: &AccountLogRecord) -> Option<AccountLogRecord> {
        let AccountLogRecord::Conversation(written) = record else {
            return None;
        };
        let known = self.map.conversation(written.id)?;
        known.is_later_than(written).then(|| {
            let mut later = known.clone();
            later.hidden = written.hidden;
            AccountLogRecord::Conversation(later)
        })
    }

    /// An append of a last record, which nothing depends on.
    pub(super) fn seal_last(
        &self,
        record: &AccountLogRecord,
        step: &mut Step<'_>,
    ) -> Option<Append> {
        let entry = self.keys.as_ref().filter(|_| self.is_begun())?.seal_entry(record, step)?;
        Some(Append {
            token: self.token()?,
            kind: corncrake_wire::EntryKind::Commit,
            after: self.newest,
            entries: vec![entry],
            opening: None,
            admission: Vec::new(),
        })
    }

    /// The next append of what is owed.
    fn seal_first(&mut self, step: &mut Step<'_>) -> Option<Append> {
        let token = self.token()?;
        let keys = self.keys.as_ref()?;
        let LogKeys { log, envelope, .. } = &keys.log;
        let (number, record) = self.owed.front()?;
        let entry = match &self.sealed {
            Some((of, entry)) if of == number => entry.clone(),
            _ => keys.seal_entry(record, step)?,
        };
        // The state depends on what was read last; the entry and so its id stay.
        let mut entry = NewEntry::new(entry.bytes);
        if (self.newest.position + 1).is_multiple_of(STATE_EVERY) {
            let mut map = self.map.clone();
            map.apply(record.clone());
            let beside = BesideOf::State(entry_id(&entry.bytes));
            // A map above the limit of its size is no reason to keep the record back.
            let map = keys.records.seal_map(*log, &map, step.rng).ok();
            let seal = |map: Vec<u8>| envelope.seal_beside(*log, beside, &map, step.rng).ok();
            entry.state = map.and_then(seal);
        }
        self.sealed = Some((*number, entry.clone()));
        let opening = if self.newest.position == 0 {
            let id = entry.id();
            let known = self.opening.take_if(|(with, _)| *with == id).map(|(_, map)| map);
            let map = known.unwrap_or_else(|| self.opening_map());
            let seal = |map: &AccountMap, step: &mut Step<'_>| {
                let map = keys.records.seal_map(*log, map, step.rng).ok()?;
                let sealed = envelope.seal_beside(*log, BesideOf::Opening, &map, step.rng).ok()?;
                (sealed.len() <= limits::BESIDE).then_some(sealed)
            };
            let (map, sealed) = match seal(&map, step) {
                Some(sealed) => (map, sealed),
                // Above the limit of its size, its records follow one by one.
                None => (AccountMap::new(), seal(&AccountMap::new(), step)?),
            };
            self.opening = Some((id, map));
            Some(sealed)
        } else {
            None
        };
        Some(Append {
            token,
            kind: corncrake_wire::EntryKind::Commit,
            after: self.newest,
            entries: vec![entry],
            opening,
            admission: Vec::new(),
        })
    }
}

impl Keys {
    fn seal_entry(&self, record: &AccountLogRecord, step: &mut Step<'_>) -> Option<NewEntry> {
        let LogKeys { log, envelope, .. } = &self.log;
        let sealed = self.records.seal_record(*log, record, step.rng).ok()?;
        let inner = Entry::AccountRecord(sealed).encode();
        let bytes = envelope.seal(*log, EntryKind::Commit, &inner, step.rng).ok()?;
        Some(NewEntry::new(bytes))
    }
}

impl AccountLog {
    /// What the log begins with: nothing, or what the one before it said.
    fn opening_map(&self) -> AccountMap {
        let mut map = AccountMap::new();
        if self.is_new {
            self.owed.iter().for_each(|(_, record)| map.apply(record.clone()));
        }
        map
    }

    /// What the account's devices told each other so far.
    pub(super) fn records(&self) -> impl Iterator<Item = &AccountLogRecord> {
        self.map.records()
    }
}

/// Whether two records say the same; how far a log had been read is no news.
fn says_the_same(one: &AccountLogRecord, other: &AccountLogRecord) -> bool {
    match (one, other) {
        (AccountLogRecord::Conversation(one), AccountLogRecord::Conversation(other)) => {
            let read = other.read;
            ConversationRecord { read, ..one.clone() } == *other
        }
        _ => one == other,
    }
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
        (AccountLogRecord::LostRemovals(one), AccountLogRecord::LostRemovals(other)) => {
            one.conversation == other.conversation
        }
        (AccountLogRecord::Replacement(one), AccountLogRecord::Replacement(other)) => {
            one.version % REPLACEMENTS == other.version % REPLACEMENTS
        }
        (AccountLogRecord::SignUp(_), AccountLogRecord::SignUp(_)) => true,
        _ => false,
    }
}

/// Whether `record` tells of a later place of the conversation, or a later version of the account
/// record, that `owed` is about.
fn is_newer(record: &AccountLogRecord, owed: &AccountLogRecord) -> bool {
    match (record, owed) {
        (AccountLogRecord::Conversation(record), AccountLogRecord::Conversation(owed)) => {
            record.id == owed.id && record.is_later_than(owed)
        }
        (AccountLogRecord::Contact(record), AccountLogRecord::Contact(owed)) => {
            record.account == owed.account && record.list_version > owed.list_version
        }
        (AccountLogRecord::Replacement(new), AccountLogRecord::Replacement(old)) => {
            same_subject(record, owed) && new.version > old.version
        }
        _ => false,
    }
}
