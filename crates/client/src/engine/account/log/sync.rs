//! Reads the account log, and appends what is owed to it.

use corncrake_core::seal::record::{AccountLogRecord, DeviceNameRecord};
use corncrake_wire::{
    OpenReply,
    log::{Append, AppendReply, LogEntry, Point, RUNNING_START},
};

use super::{OWED, is_newer, same_subject, says_the_same};
use crate::{
    engine::{
        Effect, State, Step, Then,
        account::{AccountThen, Retry, session::reply_of},
        tables::Table,
    },
    transport::TransportError,
};

/// Where reading a page of the log ended.
#[derive(PartialEq, Eq)]
enum Reached {
    End,
    /// Something is missing in between.
    Gap,
}

impl State {
    /// Owes a record to the account log; stored with this step. An owed record on the same
    /// subject that has not left yet is replaced.
    pub(crate) fn put_record(&mut self, record: AccountLogRecord, step: &mut Step<'_>) {
        let log = &mut self.account.log;
        if log.owed.is_empty() && log.map.records().any(|known| says_the_same(known, &record)) {
            return;
        }
        if !log.owe(record.clone(), step) {
            return;
        }
        let sent = log.sealed.as_ref().map(|(number, _)| *number);
        let newest = log.owed.back().map(|(number, _)| *number);
        log.owed.retain(|(number, earlier)| {
            let keep = [sent, newest].contains(&Some(*number)) || !same_subject(earlier, &record);
            if !keep {
                step.delete(Table::AccountLog, OWED, *number);
            }
            keep
        });
        self.work_account_log(step);
    }

    /// Has the log's records pushed, once it is known where to begin.
    pub(in crate::engine::account) fn watch_account_log(&mut self, step: &mut Step<'_>) {
        let log = &mut self.account.log;
        log.is_at_head = false;
        if log.start.is_some() {
            return self.start_account_log(step);
        }
        if let Some(token) = log.token() {
            step.effects.push(Effect::Watch(token, log.newest.position, log.running));
        }
    }

    /// The open plane's socket is up.
    pub(crate) fn account_log_connected(&mut self, step: &mut Step<'_>) {
        self.watch_account_log(step);
        self.account.hurry();
        self.mind_staged_keys(step);
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
        self.account.log.is_over = self.waits_for_keys();
        let named = self.logged_version();
        let reached = self.read_account_log(entries, step);
        if self.logged_version() > named {
            self.own_version_told(self.logged_version());
        }
        if reached == Reached::Gap {
            return self.watch_account_log(step);
        }
        if self.account.log.newest.position >= head {
            self.account.log.is_at_head = true;
            if !self.awaits_logged_record() {
                self.hear_news(step);
            }
            self.name_device(step);
            if self.account.log.end_move(step) {
                self.record_again_elsewhere(step);
            }
            self.mind_own_record(step);
            self.mind_devices(step);
            self.renew_keys(step);
            self.tell_keys(step);
        }
        self.work_account_log(step);
    }

    /// Tells chats what the log says of them. That waits until the own record is here that the log
    /// names: behind that word another log goes on, and what was written since may be a removed
    /// device's.
    pub(in crate::engine::account) fn hear_news(&mut self, step: &mut Step<'_>) {
        let news = core::mem::take(&mut self.account.log.news);
        if !self.waits_for_keys() {
            news.iter().for_each(|record| self.chats_recorded(record, step));
        }
    }

    /// Appends what is owed, once all that others wrote is read.
    pub(in crate::engine::account) fn work_account_log(&mut self, step: &mut Step<'_>) {
        self.start_account_log(step);
        self.mend_differing(step);
        // Who was removed may read what is written under keys that others took the place of.
        self.account.log.is_closed = self.keys_are_old() || self.awaits_logged_record();
        let log = &mut self.account.log;
        if log.is_closed
            || !log.is_at_head
            || log.owed.is_empty()
            || !log.append.is_due(step.moment)
        {
            return;
        }
        let Some(append) = log.seal_first(step) else {
            return;
        };
        log.append.begin();
        let then = AccountThen::LogAppended(append.token.log_id(), append.after);
        self.ask_open(Then::Account(then), append, step);
    }

    /// A reply to an append is a hint; only what is read counts.
    pub(in crate::engine::account) fn account_log_appended(
        &mut self,
        (log, after): (corncrake_wire::LogId, Point),
        result: Result<OpenReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        if !self.account.log.is(log) {
            return;
        }
        let before = self.account.log.newest.position;
        let went_on = match reply_of::<Append>(result) {
            Ok(AppendReply::Stored { positions: _, head }) => {
                let behind = before < head;
                // The entry comes by the socket; until then nothing else is appended.
                if behind {
                    self.watch_account_log(step);
                }
                // A server that never shows it is asked more and more rarely.
                Ok(self.account.log.sealed.is_none())
            }
            Ok(AppendReply::Conflict { newest_commit, .. })
                if newest_commit.position < after.position =>
            {
                self.mend_account_log(step);
                Ok(false)
            }
            Ok(AppendReply::Conflict { head, missing, .. }) => {
                self.account.log.is_at_head = false;
                if let Some(log) = self.account.log.wire_id() {
                    self.account_log_entries(log, missing, head, step);
                }
                // What it had not seen may have come by the socket meanwhile.
                Ok(after.position < self.account.log.newest.position)
            }
            Err(error) => Err(error),
        };
        let append = &mut self.account.log.append;
        match went_on {
            Ok(true) => *append = Retry::default(),
            // A server that says so again and again is asked more and more rarely.
            Ok(false) => append.failed(&TransportError::Malformed, step.moment, step.rng),
            Err(error) => append.failed(&error, step.moment, step.rng),
        }
        self.work_account_log(step);
    }

    /// Learns the running hash of the log where it was unknown.
    pub(crate) fn account_log_running(
        &mut self,
        log: corncrake_wire::LogId,
        position: u64,
        running: [u8; 32],
        step: &mut Step<'_>,
    ) {
        if self.account.log.is(log) {
            self.account.log.set_running(position, running, step);
        }
    }

    /// The log isn't the one that was read.
    pub(crate) fn account_log_differs(&mut self, log: corncrake_wire::LogId, step: &mut Step<'_>) {
        if self.account.log.is(log) {
            self.account.log.differs = true;
            self.account.log.is_at_head = false;
            self.mend_differing(step);
        }
    }

    /// Mends a log that isn't the one that was read: at once, and more and more rarely if it is
    /// said again and again.
    fn mend_differing(&mut self, step: &mut Step<'_>) {
        let log = &mut self.account.log;
        if !log.differs || !log.mend.is_due(step.moment) {
            return;
        }
        log.differs = false;
        if log.mend.rested(step.moment) {
            log.mend = Retry::default();
        }
        log.mend.failed(&TransportError::Malformed, step.moment, step.rng);
        self.account_entries_were_lost(step);
        self.mend_account_log(step);
        self.look_for_removed_from(step);
    }

    /// The server has lost the newest records: the log is read anew, and what it lacks is owed.
    fn mend_account_log(&mut self, step: &mut Step<'_>) {
        let log = &mut self.account.log;
        let known: Vec<_> = core::mem::take(&mut log.map).records().cloned().collect();
        log.newest = Point::START;
        log.running = Some(RUNNING_START);
        log.is_at_head = false;
        log.sealed = None;
        log.save(step);
        for record in known {
            let mut owed = self.account.log.owed.iter();
            if !owed.any(|(_, owed)| same_subject(owed, &record)) {
                self.put_record(record, step);
            }
        }
        self.watch_account_log(step);
    }

    fn read_account_log(&mut self, entries: Vec<LogEntry>, step: &mut Step<'_>) -> Reached {
        let before = self.account.log.newest;
        let mut reached = Reached::End;
        for entry in entries {
            let log = &mut self.account.log;
            if entry.position <= log.newest.position {
                continue;
            }
            if entry.position != log.newest.position + 1 {
                reached = Reached::Gap;
                break;
            }
            log.advance(&entry);
            let opened = log.opening.take_if(|(with, _)| *with == entry.id());
            for record in opened.iter().flat_map(|(_, map)| map.records()) {
                self.account.log.map.apply(record.clone());
                self.settle_owed(record, step);
            }
            let log = &mut self.account.log;
            let Some(record) = log.read(&entry) else {
                continue;
            };
            let was_known = log.map.records().any(|known| says_the_same(known, &record));
            let later = log.later_than(&record);
            log.map.apply(record.clone());
            let was_owed = self.settle_owed(&record, step);
            if let Some(later) = later {
                // Written by a device that was behind: where the chat goes on still holds.
                self.put_record(later, step);
            } else if !was_known && !was_owed {
                let news = &mut self.account.log.news;
                news.retain(|earlier| !same_subject(earlier, &record));
                news.push(record);
            }
        }
        if before != self.account.log.newest {
            self.account.log.save(step);
        }
        reached
    }

    /// Strikes out what the log now says, and what it says newer things about.
    pub(in crate::engine::account) fn settle_owed(
        &mut self,
        record: &AccountLogRecord,
        step: &mut Step<'_>,
    ) -> bool {
        let mut same = false;
        let log = &mut self.account.log;
        log.owed.retain(|(number, owed)| {
            let is_same = says_the_same(owed, record);
            same |= is_same;
            let keep = !is_same && !is_newer(record, owed);
            if !keep {
                step.delete(Table::AccountLog, OWED, *number);
            }
            keep
        });
        let landed =
            log.sealed.take_if(|(sent, _)| log.owed.iter().all(|(number, _)| number != sent));
        if landed.is_some() && !log.append.is_busy() {
            log.append = Retry::default();
        }
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
            let joined = self.own_replacement();
            let signed_up = self.own_sign_up();
            let record = DeviceNameRecord { device, name, joined, signed_up };
            self.put_record(AccountLogRecord::DeviceName(record), step);
        }
    }
}
