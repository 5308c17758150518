//! The account's own record: which devices are its devices.
//!
//! A device list decides nothing in a group, but it is this account's reason to remove a device of
//! its own. So that no server brings that about by showing an old list, or a list to one device
//! alone, a record counts once the account log names its version.

use corncrake_core::{
    conversation::{CommitReport, Sender},
    seal::record::{AccountLogRecord, ContactRecord},
};

use super::{By, Contact, Me};
use crate::{
    engine::{GatherThen, State, Step},
    error::Error,
    host::Moment,
    transport::TransportError,
};

/// What the account log says about the account's own record.
pub(super) fn naming(me: &Me, list_version: u64) -> AccountLogRecord {
    AccountLogRecord::Contact(ContactRecord {
        account: me.account,
        username: me.username.clone(),
        list_version,
        verified_key: None,
        blocked: false,
    })
}

impl State {
    /// The newest own record seen.
    pub(crate) fn own_record(&self) -> Option<&Contact> {
        let me = self.account.me.as_ref()?;
        self.account.directory.contact(&me.account)
    }

    /// The own record, if it counts; a device that it doesn't name has no say.
    pub(crate) fn counting_record(&self) -> Option<&Contact> {
        let (me, own) = (self.account.me.as_ref()?, self.own_record()?);
        let counts = own.version() <= self.logged_version() && own.devices.contains(&me.device);
        counts.then_some(own)
    }

    /// The newest version of the own record that the account log names, or holds.
    pub(super) fn logged_version(&self) -> u64 {
        let me = self.account.me.as_ref();
        let logged = me.and_then(|me| self.account.log.contact(me.account));
        let held = self.account.log.newest_replacement();
        held.max(logged.map_or(0, |logged| logged.list_version))
    }

    /// Whether a newer own record is known of than the one that is here: at the least the one that
    /// named this device first.
    fn lacks_own_record(&self) -> bool {
        let known = self.own_record().map_or(0, Contact::version);
        let first = self.account.me.as_ref().map_or(0, |me| me.since);
        let newest = self.logged_version().max(self.account.own_version_seen).max(first);
        let newest = newest.max(self.account.keys.awaited_version());
        self.account.log.is_read() && self.is_signed_in() && known < newest
    }

    /// Whether the account log names a newer own record than the one that is here, and the server
    /// hasn't been asked for it in vain.
    pub(super) fn awaits_logged_record(&self) -> bool {
        let known = self.own_record().map_or(0, Contact::version);
        let is_asked = self.lacks_own_record() && self.account.own_record.tries() == 0;
        is_asked && self.logged_version() > known
    }

    /// A certificate in a chat speaks of this version of the own record.
    pub(crate) fn own_version_seen(&mut self, version: u64, step: &mut Step<'_>) {
        if version > self.account.own_version_seen {
            self.account.own_version_seen = version;
            self.own_version_told(version);
            self.mind_own_record(step);
        }
    }

    /// Somebody speaks of this version of the own record: if it is a newer one, it is asked for at
    /// once, however often one was asked for in vain that somebody else had made up.
    pub(super) fn own_version_told(&mut self, version: u64) {
        if self.own_record().is_none_or(|own| own.version() < version) {
            self.account.own_record = super::Retry::default();
        }
    }

    /// When to ask for it again.
    pub(super) fn own_record_wake_at(&self) -> Option<Moment> {
        let asks = self.online.open && self.lacks_own_record();
        asks.then(|| self.account.own_record.wake_at()).flatten()
    }

    /// Fetches the own record if a newer one is known of, and lets the account log name the newest.
    pub(super) fn mind_own_record(&mut self, step: &mut Step<'_>) {
        let Some(me) = self.account.me.clone().filter(|_| self.account.log.is_read()) else {
            return;
        };
        let known = self.own_record().map_or(0, Contact::version);
        let lacks = self.lacks_own_record();
        if lacks && self.account.own_record.is_due(step.moment) && self.online.open {
            self.account.own_record.begin();
            self.look_up(vec![By::Id(me.account)], GatherThen::OwnRecord, step);
        }
        // A newer one that the server doesn't have may be made up: this one is named all the same.
        let is_newest = !lacks || self.account.own_record.tries() > 0;
        if is_newest && known > self.logged_version() {
            let own = self.own_replacement().filter(|own| own.version == known);
            let mut held = self.account.log.replacements();
            let is_held = own.as_ref().is_some_and(|own| held.any(|held| held == own));
            drop(held);
            let record = own.map_or_else(|| naming(&me, known), AccountLogRecord::Replacement);
            if !is_held && !self.account.log.owes(&record) {
                self.put_record(record, step);
            }
        }
    }

    /// Another device of the account has removed one that the own record names: there is another
    /// record than this one.
    pub(crate) fn mind_own_removed(&mut self, report: &CommitReport, step: &mut Step<'_>) {
        let (Some(me), Some(own)) = (&self.account.me, self.own_record()) else {
            return;
        };
        let is_named =
            |device: &Sender| device.account == me.account && own.devices.contains(&device.device);
        let by_own = report.author.account == me.account && report.author.device != me.device;
        if by_own && report.removed.iter().any(is_named) {
            self.look_at_own_record(step);
        }
    }

    /// Asks what the newest own record is.
    pub(crate) fn look_at_own_record(&mut self, step: &mut Step<'_>) {
        if let Some(me) = &self.account.me {
            let by = vec![By::Id(me.account)];
            self.look_up(by, GatherThen::OwnRecord, step);
        }
    }

    /// The own record was looked up, or could not be.
    pub(crate) fn own_record_came(&mut self, result: Result<(), Error>, step: &mut Step<'_>) {
        match result {
            Ok(()) if !self.lacks_own_record() => self.account.own_record = super::Retry::default(),
            // A server that has only an older one is asked more and more rarely.
            _ => {
                let error = TransportError::Malformed;
                self.account.own_record.failed(&error, step.moment, step.rng);
            }
        }
        if self.account.log.is_read() {
            self.hear_news(step);
        }
        self.renew_keys(step);
        self.mind_own_record(step);
        self.mind_devices(step);
        self.work_account_log(step);
    }
}
