//! The account's side of the engine: sign-up and log-in, the session, key packages, the inbox,
//! letters to others, the directory, and the account log.
//!
//! Sign-up and log-in are a [`flow`]: short, with somebody waiting for its end. Everything else is
//! work that is always wanted: [`State::account_work`] looks at what is stored and begins whatever
//! should be under way and isn't. It is called after each thing that happens and at each start, so
//! a crash at any point costs a repetition and nothing else; every repetition is harmless.

use std::collections::{BTreeMap, VecDeque};

use corncrake_core::{
    conversation,
    crypto::signature::{SignatureKey, SignaturePublicKey},
    derive::Key32,
    id::{AccountId, ConversationId, DeviceId, InboxId},
    identity::{Certificate, ContactKey, ContactPublicKey},
    seal::record::{AccountLogRecord, ConversationRecord, LostRemovalsRecord, StorageKey},
};
use corncrake_wire::{AccountReply, OpenReply};
use serde::{Deserialize, Serialize};

use super::{State, Step, state::NO_ACCOUNT, tables::Table};
use crate::{
    command::Command,
    error::Refusal,
    event,
    host::{Clock, Moment, Timestamp},
    transport::TransportError,
};

mod again;
mod claims;
mod directory;
mod flow;
mod inbox;
mod jobs;
mod keys;
mod letters;
mod load;
mod log;
mod log_in;
mod names;
mod own;
mod packages;
mod removal;
mod retry;
mod server_time;
mod session;
mod sign_up;
mod slow;

pub(crate) use claims::{ClaimedPackage, check_at};
pub(crate) use directory::{By, Contact};
pub(crate) use letters::Addressee;
pub(crate) use load::load;
pub(crate) use packages::OwnPackage;
use removal::Removal;
pub(crate) use retry::Retry;
pub(crate) use slow::{SlowDone, SlowWork};

/// The id of the row that names the server of the account.
const ORIGIN_ROW: &[u8] = b"origin";

/// What the engine knows about its account.
#[derive(Debug, Default)]
pub(crate) struct AccountState {
    me: Option<Me>,
    /// The same as it is stored.
    row: Option<AccountRow>,
    keys: keys::Keys,
    /// The keys of a sign-up or log-in that was begun and whose end isn't known.
    pending: Option<flow::PendingRow>,
    flow: Option<flow::Flow>,
    /// Removals of devices that wait for the one under way.
    removals: VecDeque<Removal>,
    sessions: session::Sessions,
    again: again::Again,
    packages: packages::Packages,
    inbox: inbox::Inbox,
    letters: letters::Letters,
    directory: directory::Directory,
    claims: claims::Claims,
    server_time: server_time::ServerTime,
    log: log::AccountLog,
    /// When to look up this account's own record.
    own_record: Retry,
    /// The newest version of it that a certificate in a chat speaks of.
    own_version_seen: u64,
}

/// This account and this device.
#[derive(Clone, Debug)]
pub(crate) struct Me {
    pub(crate) account: AccountId,
    pub(crate) username: String,
    pub(crate) device: DeviceId,
    pub(crate) device_key: SignatureKey,
    pub(crate) certificate: Vec<u8>,
    pub(crate) identity_key: SignaturePublicKey,
    /// The version of the account record that named this device first.
    pub(crate) since: u64,
    pub(crate) inbox: InboxId,
    pub(crate) contact_key: ContactKey,
    pub(crate) contact_public: ContactPublicKey,
    pub(crate) storage_key: StorageKey,
}

/// The account as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AccountRow {
    username: String,
    device_seed: Key32,
    certificate: Vec<u8>,
    inbox: InboxId,
    contact_key: Key32,
    storage_key: StorageKey,
    /// The version of the vault that this device wrote or read last.
    vault_version: u64,
}

/// What the one row of an account's beginnings holds.
#[derive(Debug, Serialize, Deserialize)]
enum Stage {
    Pending(flow::PendingRow),
    Account(AccountRow),
}

/// What to do with an answer that the account's side asked for.
#[derive(Debug)]
pub(crate) enum AccountThen {
    Flow(flow::FlowThen),
    RenewStarted,
    Renewed,
    SignedUpAgain(corncrake_wire::DeviceId),
    LoggedOut,
    DeviceRestored(u64),
    PackagesListed,
    PackagesUploaded,
    InboxRead,
    NoticesDeleted(u64),
    Deposited(u64),
    LookedUp(jobs::Ask),
    Claimed(jobs::Ask),
    LogAppended(corncrake_wire::LogId, corncrake_wire::log::Point),
    LogStart(corncrake_wire::LogId, log::StartThen),
}

impl Me {
    /// What core needs of it to act in a conversation.
    pub(crate) fn seat(&self) -> conversation::Me<'_> {
        conversation::Me {
            account: self.account,
            device_key: &self.device_key,
            certificate: &self.certificate,
        }
    }

    fn from_row(row: AccountRow) -> Option<Self> {
        let certificate = Certificate::parse_and_verify(&row.certificate).ok()?;
        let contact_key = ContactKey::from_key(&row.contact_key);
        Some(Self {
            account: certificate.account(),
            username: row.username,
            device: certificate.device(),
            device_key: SignatureKey::try_from_seed(row.device_seed.expose()).ok()?,
            identity_key: certificate.identity_key(),
            since: certificate.list_version(),
            certificate: row.certificate,
            inbox: row.inbox,
            contact_public: contact_key.public(),
            contact_key,
            storage_key: row.storage_key,
        })
    }
}

impl AccountState {
    /// Whose account this is; nothing until it is usable.
    pub(crate) const fn me(&self) -> Option<&Me> {
        self.me.as_ref()
    }

    /// The time by this device's clock and by the server's, if that is known. Key packages live by
    /// the server's; either clock may be wrong, and a package that is good by one of them is taken:
    /// where it is not, its device lets itself in.
    pub(crate) fn times(&self, clock: Clock) -> [Timestamp; 2] {
        [clock.now, self.server_time.at(clock.moment).unwrap_or(clock.now)]
    }

    /// The key package with this reference.
    pub(crate) fn package(&self, reference: &[u8]) -> Option<&OwnPackage> {
        self.packages.get(reference)
    }

    /// The key packages of which no Welcome was taken.
    pub(crate) fn packages(&self) -> impl Iterator<Item = &OwnPackage> {
        self.packages.rows.values()
    }

    /// The newest account record seen of this account.
    pub(crate) fn contact(&self, account: &AccountId) -> Option<&Contact> {
        self.directory.contact(account)
    }

    /// The contact keys that this account had before the one in use.
    pub(crate) fn earlier_contact_keys(&self) -> impl Iterator<Item = ContactKey> {
        self.keys.earlier()
    }

    /// The newest record of a conversation in the account log.
    pub(crate) fn recorded(&self, id: ConversationId) -> Option<ConversationRecord> {
        self.log.conversations().filter(|record| record.id == id).last().cloned()
    }

    /// The record before the newest one.
    pub(crate) fn recorded_before(&self, id: ConversationId) -> Option<ConversationRecord> {
        self.log.conversation_before(id).cloned()
    }

    /// Who is in a conversation again because the server has lost their removal, as the account log
    /// says.
    pub(crate) fn lost_removals(&self, id: ConversationId) -> Option<&LostRemovalsRecord> {
        self.log.lost_removals(id)
    }

    /// The newest record of each conversation in the account log.
    pub(crate) fn all_recorded(&self) -> Vec<ConversationRecord> {
        let newest: BTreeMap<_, _> =
            self.log.conversations().map(|record| (record.id, record)).collect();
        newest.into_values().cloned().collect()
    }

    /// The server can be reached again: no more pauses.
    fn hurry(&mut self) {
        self.sessions.renewal.hurry();
        self.again.hurry();
        self.packages.hurry_after_failure();
        self.inbox.hurry();
        self.letters.hurry();
        self.directory.jobs.hurry();
        self.claims.hurry();
        self.log.hurry();
        self.keys.hurry();
        self.own_record.hurry();
        if let Some(flow) = &mut self.flow {
            flow.retry.hurry();
        }
    }
}

impl State {
    /// Goes on with what was under way before.
    pub(crate) fn account_start(&mut self, step: &mut Step<'_>) {
        if self.account.me.is_none() {
            return;
        }
        self.forget_old_sign_up(step);
        self.watch_inbox(step);
        let chats = &self.chats.all;
        let unknown = |record: &ConversationRecord| !chats.contains_key(&record.id);
        let unheard = self.account.all_recorded().into_iter().filter(unknown);
        self.account.log.hear_again(unheard.map(AccountLogRecord::Conversation).collect());
        self.watch_account_log(step);
        self.account_work(step);
        let kept: Vec<_> = self.account.inbox.kept.values().cloned().collect();
        for notice in kept {
            self.chats_noticed(notice.invitation, notice.seed, step);
        }
    }

    /// Takes a command about the account.
    pub(crate) fn account_command(&mut self, command: Command, step: &mut Step<'_>) {
        match command {
            Command::SignUp { name, password, reply } => self.sign_up(name, password, reply, step),
            Command::LogIn { name, password, drop, reply } => {
                self.log_in((name, password), drop, reply, step);
            }
            Command::RemoveDevice { device, password, reply } => {
                self.remove_device(Removal { device, password, reply }, step);
            }
            Command::Account(reply) => {
                let account = self.account.me.as_ref().map(|me| event::Account {
                    id: me.account,
                    username: me.username.clone(),
                    device: me.device,
                    waits_for_keys: self.waits_for_keys(),
                });
                step.answer(reply, Ok(account));
            }
            Command::Devices(reply) => match &self.account.me {
                Some(me) => {
                    let by = vec![By::Id(me.account)];
                    self.begin_look_up(by, directory::LookUpThen::Devices(reply), step);
                }
                None => step.answer(reply, Err(NO_ACCOUNT)),
            },
            Command::SafetyNumber { name, reply } => match &self.account.me {
                Some(_) => {
                    let by = self.by_text(name);
                    let then = directory::LookUpThen::SafetyNumber(by.clone(), reply);
                    self.begin_look_up(vec![by], then, step);
                }
                None => step.answer(reply, Err(NO_ACCOUNT)),
            },
            _ => {}
        }
    }

    /// Takes an answer of the account plane.
    pub(crate) fn account_replied(
        &mut self,
        then: AccountThen,
        result: Result<AccountReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        match then {
            AccountThen::Flow(then) => self.flow_replied(then, result, step),
            AccountThen::RenewStarted => self.renewal_started(result, step),
            AccountThen::Renewed => self.renewed(result, step),
            AccountThen::SignedUpAgain(first) => self.signed_up_again(first, result, step),
            AccountThen::DeviceRestored(version) => self.device_restored(version, result, step),
            AccountThen::PackagesListed => self.packages_listed(result, step),
            AccountThen::PackagesUploaded => self.packages_uploaded(result, step),
            AccountThen::InboxRead => self.inbox_read(result, step),
            AccountThen::NoticesDeleted(up_to) => self.notices_deleted(up_to, result, step),
            AccountThen::LoggedOut
            | AccountThen::Deposited(_)
            | AccountThen::LookedUp(_)
            | AccountThen::Claimed(_)
            | AccountThen::LogAppended(..)
            | AccountThen::LogStart(..) => {}
        }
    }

    /// Takes an answer of the open plane.
    pub(crate) fn account_open_replied(
        &mut self,
        then: AccountThen,
        result: Result<OpenReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        match then {
            AccountThen::Deposited(number) => self.deposited(number, result, step),
            AccountThen::LookedUp(ask) => self.looked_up(ask, result, step),
            AccountThen::Claimed(ask) => self.claimed(ask, result, step),
            AccountThen::LogAppended(log, after) => {
                self.account_log_appended((log, after), result, step);
            }
            AccountThen::LogStart(log, start) => {
                self.account_log_started((log, start), result, step);
            }
            AccountThen::Flow(_)
            | AccountThen::RenewStarted
            | AccountThen::Renewed
            | AccountThen::SignedUpAgain(_)
            | AccountThen::LoggedOut
            | AccountThen::DeviceRestored(_)
            | AccountThen::PackagesListed
            | AccountThen::PackagesUploaded
            | AccountThen::InboxRead
            | AccountThen::NoticesDeleted(_) => {}
        }
    }

    /// The clock reached a moment that something waited for.
    pub(crate) fn account_tick(&mut self, step: &mut Step<'_>) {
        self.account_work(step);
    }

    /// When there will be something to do at the latest.
    pub(crate) fn account_wake_at(&self) -> Option<Moment> {
        let account = &self.account;
        let flow = account.flow.as_ref().and_then(|flow| flow.retry.wake_at());
        if account.me.is_none() {
            return flow;
        }
        let usable = account.sessions.current.is_some();
        let with_session = if usable {
            [account.packages.check.wake_at(), account.inbox.wake_at()]
        } else {
            [None; 2]
        };
        let always = [
            account.sessions.wake_at(),
            account.again.wake_at(),
            account.letters.wake_at(),
            account.directory.jobs.wake_at(),
            account.claims.wake_at(),
            account.log.wake_at(),
            account.keys.wake_at().filter(|_| self.online.open),
            flow,
            self.own_record_wake_at(),
        ];
        with_session.into_iter().chain(always).flatten().min()
    }

    /// Whether something is owed that a settled client doesn't owe.
    pub(crate) fn account_owes(&self) -> bool {
        let account = &self.account;
        account.flow.is_some()
            || account.me.is_some()
                && (self.is_signed_in()
                    && (!account.inbox.is_read || account.packages.is_lacking())
                    || account.letters.is_owed()
                    || account.directory.jobs.is_busy()
                    || account.claims.is_busy()
                    || account.keys.is_owed()
                    || account.log.is_owed() && !self.waits_for_keys())
    }

    /// Whether something is still to be read or heard of, whatever there is to be stored.
    pub(crate) fn account_is_unread(&self) -> bool {
        let account = &self.account;
        account.flow.is_some()
            || account.me.is_some()
                && (self.is_signed_in() && !account.inbox.is_read
                    || account.directory.jobs.is_busy()
                    || account.claims.is_busy()
                    || !account.log.is_read() && !self.waits_for_keys())
    }

    /// Whether the server lost the account, and somebody else has its name.
    pub(crate) fn is_name_taken(&self) -> bool {
        self.account.sessions.over == Some(session::Over::NameTaken)
    }

    /// False once the server has said that it no longer knows this device.
    pub(crate) const fn is_signed_in(&self) -> bool {
        self.account.sessions.over.is_none()
    }

    /// Refuses what a device that was removed must not do in its account's name. The account log
    /// tells of the record that doesn't name it before the server ends its session.
    pub(crate) fn still_acts(&self) -> Result<(), Refusal> {
        let me = self.account.me.as_ref();
        let is_unnamed = me.zip(self.own_record()).is_some_and(|(me, own)| {
            own.version() >= me.since && !own.devices.contains(&me.device)
        });
        match self.account.sessions.over {
            Some(session::Over::Removed) => Err(Refusal::SignedOut),
            _ if is_unnamed => Err(Refusal::SignedOut),
            _ => Ok(()),
        }
    }

    /// Begins whatever should be under way and isn't.
    pub(super) fn account_work(&mut self, step: &mut Step<'_>) {
        self.work_flow(step);
        if self.account.me.is_none() {
            return;
        }
        self.renew_session(step);
        self.renew_keys(step);
        self.give_record_again(step);
        if self.account.sessions.current.is_some() {
            self.check_packages(step);
            self.read_inbox(step);
            self.delete_notices(step);
        }
        self.deposit_letters(step);
        self.work_look_ups(step);
        self.work_claims(step);
        self.work_account_log(step);
        self.mind_own_record(step);
        self.tell_keys(step);
    }

    /// A call on the account plane failed: it may have been the session.
    fn after_account_error(&mut self, error: &TransportError, step: &mut Step<'_>) {
        if session::is_about_session(error) {
            self.session_refused(step);
        }
    }

    /// The account is usable from the end of this step on.
    fn begin_account(&mut self, row: AccountRow, step: &mut Step<'_>) {
        let stage = Stage::Account(row);
        step.put(Table::Account, &[], 0, &stage);
        step.put(Table::Account, ORIGIN_ROW, 0, &self.origin);
        let Stage::Account(row) = stage else { return };
        self.account.pending = None;
        self.account.me = Me::from_row(row.clone());
        self.account.row = Some(row);
        if let Some(me) = &self.account.me {
            self.account.log.open(&me.storage_key);
        }
        step.event(event::EventKind::Ready);
    }
}

/// Ids as the wire's types name them.
const fn wire_account(id: AccountId) -> corncrake_wire::AccountId {
    corncrake_wire::AccountId(*id.as_bytes())
}

const fn wire_device(id: DeviceId) -> corncrake_wire::DeviceId {
    corncrake_wire::DeviceId(*id.as_bytes())
}

const fn wire_inbox(id: InboxId) -> corncrake_wire::InboxId {
    corncrake_wire::InboxId(*id.as_bytes())
}

#[cfg(test)]
mod tests;
