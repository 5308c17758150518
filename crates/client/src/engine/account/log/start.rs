//! How a device that knows nothing of the account log begins to read it: at its newest state.
//!
//! Whoever holds the storage key may write states, and nobody else can, so a state that opens is
//! as good as the records before it. Where there is none, the log is read from its beginning.

use corncrake_core::{
    id::EntryId,
    seal::{
        envelope::Beside as BesideOf,
        record::{AccountLogRecord, AccountMap},
    },
};
use corncrake_wire::{
    ErrorCode, LogId, OpenReply, limits,
    log::{Beside, Part, Point, Read, Sealed, Start, States},
};

use super::AccountLog;
use crate::{
    engine::{
        State, Step, Then,
        account::{AccountThen, session::reply_of},
    },
    transport::TransportError,
};

/// What to do with an answer on the way to the newest state.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StartThen {
    /// Where states lie.
    States,
    /// The entry at this position, whose id its state is bound to.
    Entry(u64),
    /// The state beside this entry.
    State(Point),
    /// The opening state.
    Opening,
}

impl AccountLog {
    fn open_state(&self, beside: BesideOf, sealed: &[u8]) -> Option<AccountMap> {
        let keys = self.keys()?;
        let log = keys.log.log;
        let envelope = &keys.log.envelope;
        let state = envelope.open_beside(log, beside, sealed);
        keys.records.open_map(log, &state.ok()?).ok()
    }
}

impl State {
    /// Asks where states lie, when it is time.
    pub(in crate::engine::account) fn start_account_log(&mut self, step: &mut Step<'_>) {
        let (Some(token), Some(log)) = (self.account.log.token(), self.account.log.wire_id())
        else {
            return;
        };
        if self.account.log.begin_start(step.moment) {
            let at_most = u64::MAX;
            let admission = Vec::new();
            let start = u32::try_from(limits::PAGE_BYTES).unwrap_or(0);
            let states = States { token, at_most, start, admission };
            self.ask_open(then(log, StartThen::States), states, step);
        }
    }

    pub(in crate::engine::account) fn account_log_started(
        &mut self,
        (log, start): (LogId, StartThen),
        result: Result<OpenReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        if !self.account.log.is(log) {
            return;
        }
        // Without what a log began with, this device would miss chats.
        if let Err(error) = &result
            && is_passing(error)
        {
            return self.account.log.start_failed(error, step);
        }
        let Some(token) = self.account.log.token() else {
            return;
        };
        let admission = Vec::new();
        match start {
            StartThen::States => {
                let reply = reply_of::<States>(result).ok();
                let newest = reply.as_ref().and_then(|reply| reply.positions.first().copied());
                let start = reply.and_then(|reply| reply.start);
                if let Some((newest, start)) = newest.zip(start) {
                    self.log_start_came(newest, start, step);
                } else if let Some(position @ 1..) = newest {
                    let after = position - 1;
                    let read = Read { token, after, limit: 1, admission };
                    return self.ask_open(then(log, StartThen::Entry(position)), read, step);
                } else if newest == Some(0) {
                    let beside = Beside { token, position: 0, part: Part::State, admission };
                    return self.ask_open(then(log, StartThen::Opening), beside, step);
                }
            }
            StartThen::Entry(position) => {
                let entries = reply_of::<Read>(result).map(|reply| reply.entries);
                let entry = entries.ok().and_then(|entries| entries.into_iter().next());
                if let Some(entry) = entry.filter(|entry| entry.position == position) {
                    let then = then(log, StartThen::State(Point { position, id: entry.id() }));
                    let part = Part::State;
                    let beside = Beside { token, position, part, admission };
                    return self.ask_open(then, beside, step);
                }
            }
            StartThen::State(at) => {
                let beside = BesideOf::State(EntryId::from_bytes(at.id.0));
                self.log_state_came((at, beside), result, step);
            }
            StartThen::Opening => {
                self.log_state_came((Point::START, BesideOf::Opening), result, step);
            }
        }
        self.account.log.end_start();
        self.watch_account_log(step);
    }

    /// The newest state came with the list of states.
    fn log_start_came(&mut self, position: u64, start: Start, step: &mut Step<'_>) {
        let entry = start.page.entries.first().filter(|entry| entry.position == position);
        let (at, beside) = match entry {
            Some(entry) => {
                let id = entry.id();
                (Point { position, id }, BesideOf::State(EntryId::from_bytes(id.0)))
            }
            None if position == 0 => (Point::START, BesideOf::Opening),
            None => return,
        };
        if let Some(map) = self.account.log.open_state(beside, &start.state) {
            self.take_log_state(at, map, step);
        }
    }

    fn log_state_came(
        &mut self,
        (at, beside): (Point, BesideOf),
        result: Result<OpenReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        let sealed = reply_of::<Beside>(result).map(|Sealed { bytes }| bytes).ok();
        let map = sealed.and_then(|sealed| self.account.log.open_state(beside, &sealed));
        if let Some(map) = map {
            self.take_log_state(at, map, step);
        }
    }

    fn take_log_state(&mut self, at: Point, map: AccountMap, step: &mut Step<'_>) {
        let records: Vec<AccountLogRecord> = map.records().cloned().collect();
        self.account.log.take_state(at, map, step);
        for record in records {
            if !self.settle_owed(&record, step) {
                self.chats_recorded(&record, step);
            }
        }
    }
}

/// Whether the same may be answered in a while.
const fn is_passing(error: &TransportError) -> bool {
    match error {
        TransportError::Unreachable => true,
        TransportError::Malformed => false,
        TransportError::Refused(refusal) => {
            refusal.retry_after.is_some()
                || matches!(refusal.code, ErrorCode::Unavailable | ErrorCode::Internal)
        }
    }
}

const fn then(log: LogId, start: StartThen) -> Then {
    Then::Account(AccountThen::LogStart(log, start))
}
