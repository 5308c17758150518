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
    OpenReply,
    log::{Beside, Part, Point, Read, Sealed, States},
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
}

impl AccountLog {
    fn open_state(&self, entry: EntryId, sealed: &[u8]) -> Option<AccountMap> {
        let keys = self.keys()?;
        let log = keys.log.log;
        let envelope = &keys.log.envelope;
        let state = envelope.open_beside(log, BesideOf::State(entry), sealed);
        keys.records.open_map(log, &state.ok()?).ok()
    }
}

impl State {
    /// Asks where states lie, when it is time.
    pub(in crate::engine::account) fn start_account_log(&mut self, step: &mut Step<'_>) {
        let Some(token) = self.account.log.token() else {
            return;
        };
        if self.account.log.begin_start(step.moment) {
            let at_most = u64::MAX;
            let admission = Vec::new();
            let states = States { token, at_most, start: 0, admission };
            self.ask_open(then(StartThen::States), states, step);
        }
    }

    pub(in crate::engine::account) fn account_log_started(
        &mut self,
        start: StartThen,
        result: Result<OpenReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        if let Err(error @ TransportError::Unreachable) = &result {
            return self.account.log.start_failed(error, step);
        }
        let Some(token) = self.account.log.token() else {
            return;
        };
        let admission = Vec::new();
        match start {
            StartThen::States => {
                let positions = reply_of::<States>(result).map(|reply| reply.positions);
                let newest = positions.ok().and_then(|positions| positions.first().copied());
                if let Some(position @ 1..) = newest {
                    let after = position - 1;
                    let read = Read { token, after, limit: 1, admission };
                    return self.ask_open(then(StartThen::Entry(position)), read, step);
                }
            }
            StartThen::Entry(position) => {
                let entries = reply_of::<Read>(result).map(|reply| reply.entries);
                let entry = entries.ok().and_then(|entries| entries.into_iter().next());
                if let Some(entry) = entry.filter(|entry| entry.position == position) {
                    let then = then(StartThen::State(Point { position, id: entry.id() }));
                    let part = Part::State;
                    let beside = Beside { token, position, part, admission };
                    return self.ask_open(then, beside, step);
                }
            }
            StartThen::State(at) => {
                let sealed = reply_of::<Beside>(result).map(|Sealed { bytes }| bytes);
                let log = &self.account.log;
                if let Some(map) = sealed
                    .ok()
                    .and_then(|sealed| log.open_state(EntryId::from_bytes(at.id.0), &sealed))
                {
                    self.take_log_state(at, map, step);
                }
            }
        }
        self.account.log.end_start();
        self.watch_account_log(step);
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

const fn then(start: StartThen) -> Then {
    Then::Account(AccountThen::LogStart(start))
}
