//! The inbox: notices read, opened, kept until their conversation is joined, and deleted at the
//! server only after the batch that keeps them.

use std::collections::BTreeMap;

use corncrake_core::{
    id::AccountId,
    identity::Certificate,
    seal::{
        envelope::Seed,
        notice::{self, Letter},
    },
};
use corncrake_wire::{
    AccountReply, NoticeId,
    account::{DeleteNotices, Inbox as InboxPage, Notice as SealedNotice, ReadInbox},
};
use serde::{Deserialize, Serialize};

use super::{AccountThen, Retry, session};
use crate::{
    engine::{Effect, State, Step, chats::rows::Invitation, tables::Table},
    host::{Moment, Timestamp},
    transport::TransportError,
};

/// Notices asked for at once.
const PAGE: u32 = 256;

/// A notice that is kept until its conversation is joined.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Notice {
    /// The log's seed.
    pub(super) seed: Seed,
    /// Where the Welcome for this device lies in that log.
    pub(super) invitation: Invitation,
    /// When it came.
    pub(crate) since: Timestamp,
    /// How often its fold came to nothing, and when it did last.
    pub(crate) tries: u32,
    pub(crate) tried: Timestamp,
}

/// How far the inbox has been read, as it is stored.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct InboxRow {
    pub(super) read: u64,
    /// The notice there.
    newest: Option<NoticeId>,
    /// The server's database in which that counts.
    instance: Option<[u8; 16]>,
    /// The number of the next notice that is kept.
    next: u64,
    /// Whether the server has lost entries since key packages were replaced last.
    pub(super) replaces_packages: bool,
}

/// The inbox as this device knows it.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(super) row: InboxRow,
    /// Notices whose conversation is not joined yet, by number.
    pub(super) kept: BTreeMap<u64, Notice>,
    /// Up to where notices have been deleted at the server, as far as this run knows.
    deleted: u64,
    deletion: Retry,
    reading: Retry,
    /// Whether all that lay in the inbox when the socket came up has been read.
    pub(super) is_read: bool,
    /// Whether the server has said which instance it is.
    is_greeted: bool,
}

impl Inbox {
    /// A server that was restored counts anew: what lies there isn't read, and then deleted, from an
    /// old position on before it has said which instance it is.
    const fn may_be_read(&self) -> bool {
        self.is_greeted || self.row.instance.is_none()
    }

    pub(super) fn wake_at(&self) -> Option<Moment> {
        let deletion = (self.deleted < self.row.read).then_some(&self.deletion);
        let reading = (self.may_be_read() && !self.is_read).then_some(&self.reading);
        [deletion, reading].into_iter().flatten().filter_map(Retry::wake_at).min()
    }

    pub(super) fn hurry(&mut self) {
        self.deletion.hurry();
        self.reading.hurry();
    }
}

impl State {
    /// Has new notices pushed.
    pub(super) fn watch_inbox(&mut self, step: &mut Step<'_>) {
        if let Some(session) = &self.account.sessions.current {
            let token = session.token.clone();
            step.effects.push(Effect::WatchInbox(token, self.account.inbox.row.read));
        }
    }

    /// The account plane's socket is up.
    pub(crate) fn account_connected(&mut self, instance: [u8; 16], step: &mut Step<'_>) {
        let inbox = &mut self.account.inbox;
        if inbox.row.instance != Some(instance) {
            // A server that was restored counts from an earlier position on.
            if inbox.row.instance.replace(instance).is_some() {
                inbox.row.read = 0;
                inbox.deleted = 0;
                inbox.row.replaces_packages = true;
                self.account.packages.check.hurry();
                self.owe_record(step);
            }
            step.put(Table::Account, INBOX_ROW, 0, &self.account.inbox.row);
        }
        self.watch_inbox(step);
        self.account.inbox.is_greeted = true;
        self.account.inbox.is_read = false;
        self.account.hurry();
        // The server may have started again because its clock was wrong, and key packages that were
        // made by it then are no good.
        self.account.packages.check.hurry_behind(step.moment);
        self.account_work(step);
    }

    /// The server has lost entries: it may count notices from an earlier position on, and hold
    /// key packages whose keys are gone.
    pub(crate) fn account_entries_were_lost(&mut self, step: &mut Step<'_>) {
        let inbox = &mut self.account.inbox;
        let is_first = !core::mem::replace(&mut inbox.row.replaces_packages, true);
        if is_first || inbox.row.read > 0 {
            inbox.row.read = 0;
            inbox.deleted = 0;
            inbox.is_read = false;
            step.put(Table::Account, INBOX_ROW, 0, &inbox.row);
            self.watch_inbox(step);
            self.account_work(step);
        }
        if is_first {
            self.account.packages.check.hurry();
            self.account.keys.send_first(step);
            self.owe_record(step);
            self.leaves_may_be_lost(step);
            self.account_work(step);
        }
    }

    /// The server holds packages of this device's making only.
    pub(super) fn packages_replaced(&mut self, step: &mut Step<'_>) {
        let inbox = &mut self.account.inbox;
        if core::mem::take(&mut inbox.row.replaces_packages) {
            step.put(Table::Account, INBOX_ROW, 0, &inbox.row);
        }
    }

    /// Letters for this device have come, in order. What is owed for them waits for the next turn:
    /// it needs them on the disk, and following them doesn't.
    pub(crate) fn account_notices(&mut self, notices: Vec<SealedNotice>, step: &mut Step<'_>) {
        self.keep_notices(notices, step);
    }

    /// Reads what lay in the inbox before its socket was up: pushes don't tell where that ends.
    pub(super) fn read_inbox(&mut self, step: &mut Step<'_>) {
        let inbox = &mut self.account.inbox;
        if inbox.may_be_read() && !inbox.is_read && inbox.reading.is_due(step.moment) {
            inbox.reading.begin();
            let after = inbox.row.read;
            let request = ReadInbox { after, limit: PAGE };
            self.ask_account(AccountThen::InboxRead, request, step);
        }
    }

    pub(super) fn inbox_read(
        &mut self,
        result: Result<AccountReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        match session::reply_of::<ReadInbox>(result) {
            Ok(InboxPage { notices }) => {
                self.account.inbox.reading = Retry::default();
                self.account.inbox.is_read = notices.is_empty();
                self.keep_notices(notices, step);
                self.account_work(step);
            }
            Err(error) => {
                self.account.inbox.reading.failed(&error, step.moment, step.rng);
                self.after_account_error(&error, step);
            }
        }
    }

    fn keep_notices(&mut self, notices: Vec<SealedNotice>, step: &mut Step<'_>) {
        let before = self.account.inbox.row.read;
        for SealedNotice { position, bytes } in notices {
            if position <= self.account.inbox.row.read {
                continue;
            }
            self.account.inbox.row.read = position;
            self.account.inbox.row.newest = Some(NoticeId::of(&bytes));
            // What doesn't open was for a package whose keys are gone, or never for us.
            let notice = match self.open_notice(&bytes) {
                Some((Letter::Welcome(notice), package, sender)) => {
                    self.to_keep(notice, package, sender.account(), step.now)
                }
                Some((Letter::Keys(keys), _, sender)) => {
                    self.keys_offered(keys, &sender, step);
                    continue;
                }
                None => continue,
            };
            let inbox = &mut self.account.inbox;
            let leads = |notice: &Notice| (notice.invitation.position, notice.invitation.entry);
            let same = |kept: &Notice| kept.seed == notice.seed && leads(kept) == leads(&notice);
            if inbox.kept.values().any(same) {
                continue;
            }
            inbox.row.next += 1;
            let number = notice.invitation.row;
            step.put(Table::Notices, &[], number, &notice);
            inbox.kept.insert(number, notice.clone());
            self.chats_noticed(notice.invitation, notice.seed, step);
        }
        if before < self.account.inbox.row.read {
            step.put(Table::Account, INBOX_ROW, 0, &self.account.inbox.row);
            self.account.inbox.deletion.hurry_behind(step.moment);
            self.account.packages.check.hurry_behind(step.moment);
        }
    }

    /// The notice with this number has done its work.
    pub(crate) fn notice_done(&mut self, number: u64, step: &mut Step<'_>) {
        self.account.inbox.kept.remove(&number);
        step.delete(Table::Notices, &[], number);
    }

    /// The kept notice with this number.
    pub(crate) fn notice(&self, number: u64) -> Option<&Notice> {
        self.account.inbox.kept.get(&number)
    }

    /// The fold that the notice with this number led to came to nothing. This outlives the run.
    pub(crate) fn notice_tried(&mut self, number: u64, step: &mut Step<'_>) {
        if let Some(notice) = self.account.inbox.kept.get_mut(&number) {
            notice.tries = notice.tries.saturating_add(1);
            notice.tried = step.now;
            step.put(Table::Notices, &[], number, notice);
        }
    }

    /// Deletes at the server what is stored here.
    pub(super) fn delete_notices(&mut self, step: &mut Step<'_>) {
        let inbox = &mut self.account.inbox;
        let up_to = inbox.row.read;
        if let Some(newest) = inbox.row.newest
            && inbox.deleted < up_to
            && inbox.deletion.is_due(step.moment)
        {
            inbox.deletion.begin();
            let request = DeleteNotices { up_to, newest };
            self.ask_account(AccountThen::NoticesDeleted(up_to), request, step);
        }
    }

    pub(super) fn notices_deleted(
        &mut self,
        up_to: u64,
        result: Result<AccountReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        match session::reply_of::<DeleteNotices>(result) {
            Ok(()) => {
                self.account.inbox.deleted = up_to;
                self.account.inbox.deletion = Retry::default();
                self.account_work(step);
            }
            Err(error) => {
                self.account.inbox.deletion.failed(&error, step.moment, step.rng);
                self.after_account_error(&error, step);
            }
        }
    }

    fn open_notice(&self, bytes: &[u8]) -> Option<(Letter, Vec<u8>, Certificate)> {
        let reference = notice::Notice::package(bytes).ok()?;
        let package = self.account.packages.get(reference.as_bytes())?;
        let (letter, sender) = notice::open(bytes, &package.keys.init).ok()?;
        Some((letter, reference.as_bytes().to_vec(), sender))
    }

    fn to_keep(
        &self,
        notice::Notice { seed, position, entry, running }: notice::Notice,
        package: Vec<u8>,
        inviter: AccountId,
        now: Timestamp,
    ) -> Notice {
        let row = self.account.inbox.row.next;
        let invitation = Invitation { row, position, entry, running, package, inviter };
        Notice { seed, invitation, since: now, tries: 0, tried: now }
    }
}

/// The id of the row that tells how far the inbox has been read.
pub(super) const INBOX_ROW: &[u8] = b"inbox";
