//! The directory: account records by name or id, verified, and never older than seen before.

use core::time::Duration;
use std::collections::BTreeMap;

use corncrake_core::{
    crypto::signature::SignaturePublicKey,
    id::{AccountId, DeviceId},
    identity::{
        AccountRecord, ContactPublicKey, DeviceEntry, SafetyNumber, Username, VerifiedRecord,
    },
};
use corncrake_wire::{
    OpenReply,
    open::{By as WireBy, LookUp, SignedRecord},
};
use serde::{Deserialize, Serialize};

use super::{
    AccountThen,
    jobs::{Ask, Ended, Jobs, is_about_one},
    session::reply_of,
    wire_account,
};
use crate::{
    engine::{GatherThen, Gathered, Reply, State, Step, Then, tables::Table},
    error::{Error, Refusal},
    event::{Device, LeftOut},
    transport::TransportError,
};

/// How long somebody is looked up whom a person waits to see.
const PATIENCE: Duration = Duration::from_secs(20);

/// How somebody is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Name(String),
    Id(AccountId),
}

impl By {
    /// A username, or an account's id written out: no username is as long.
    pub(super) fn text(text: String) -> Self {
        text.parse().map_or(Self::Name(text), Self::Id)
    }

    fn into_text(self) -> String {
        match self {
            Self::Name(name) => name,
            Self::Id(account) => account.to_string(),
        }
    }
}

/// The newest account record seen of an account.
#[derive(Clone, Debug)]
pub(crate) struct Contact {
    pub(crate) account: AccountId,
    /// The name by which it was known first. Accounts keep their names, so a record that has another
    /// one, which its owner may sign, takes nobody's.
    pub(crate) username: String,
    /// How many accounts this device had known before.
    number: u64,
    /// With which it agrees on the seeds of 1:1 chats.
    pub(crate) contact_key: ContactPublicKey,
    /// Its newest identity key.
    pub(crate) identity_key: SignaturePublicKey,
    pub(crate) devices: Vec<DeviceId>,
    bytes: Vec<u8>,
    record: VerifiedRecord,
}

/// A contact as it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ContactRow {
    username: String,
    number: u64,
    record: Vec<u8>,
}

/// Who gets what was looked up.
#[derive(Debug)]
pub(super) enum LookUpThen {
    Chats(GatherThen),
    /// A fold that waits for somebody's newest record.
    Enter(u64, AccountId),
    Devices(Reply<Vec<Device>>),
    SafetyNumber(By, Reply<SafetyNumber>),
}

/// Records seen, and look-ups under way.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    contacts: BTreeMap<AccountId, Contact>,
    /// The accounts of each name, in the order in which they became known.
    names: BTreeMap<String, Vec<AccountId>>,
    pub(super) jobs: Jobs<By, AccountId, LookUpThen>,
}

impl Contact {
    /// The version of the record.
    pub(crate) fn version(&self) -> u64 {
        self.record.record().list_version
    }

    /// The contact keys that it names: the newest, and those before it.
    pub(crate) fn contact_keys(&self) -> impl Iterator<Item = &ContactPublicKey> {
        let earlier = &self.record.record().earlier_contact_keys;
        core::iter::once(&self.contact_key).chain(earlier)
    }

    /// Whether a device of this account is none any more, by the version of the record that named it
    /// first. A later version than this one's is a device that came after it. The same is one that
    /// another record of that version names, which was signed when the server had lost this one.
    pub(crate) fn has_dropped(&self, (device, since): &(DeviceId, u64)) -> bool {
        *since < self.version() && !self.devices.contains(device)
    }

    /// A contact with its first name and number, which are the record's and 0 until it is known.
    fn verify(bytes: Vec<u8>) -> Option<Self> {
        let verified = AccountRecord::verify(&bytes).ok()?;
        let record = verified.record();
        Some(Self {
            account: verified.account(),
            username: record.username.as_str().to_owned(),
            number: 0,
            contact_key: record.contact_key,
            identity_key: record.chain.current_key(),
            devices: record.devices.iter().map(DeviceEntry::device).collect(),
            bytes,
            record: verified,
        })
    }
}

impl Directory {
    /// Takes a stored contact; whether it is one.
    pub(super) fn load(&mut self, row: ContactRow) -> bool {
        let Some(contact) = Contact::verify(row.record) else {
            return false;
        };
        self.insert(Contact { username: row.username, number: row.number, ..contact });
        true
    }

    fn insert(&mut self, contact: Contact) {
        let (account, number) = (contact.account, contact.number);
        let contacts = &self.contacts;
        let named = self.names.entry(contact.username.clone()).or_default();
        if !named.contains(&account) {
            let is_before =
                |other: &AccountId| contacts.get(other).is_some_and(|other| other.number < number);
            named.insert(named.partition_point(is_before), account);
        }
        self.contacts.insert(account, contact);
    }

    /// The number of the next account that becomes known.
    fn next_number(&self) -> u64 {
        let numbers = self.contacts.values().map(|contact| contact.number);
        numbers.max().map_or(1, |newest| newest.saturating_add(1))
    }

    pub(super) fn contact(&self, account: &AccountId) -> Option<&Contact> {
        self.contacts.get(account)
    }

    /// The accounts of a name, in the order in which they became known.
    pub(super) fn namesakes(&self, name: &str) -> &[AccountId] {
        self.names.get(name).map_or(&[], Vec::as_slice)
    }
}

impl State {
    /// Looks people up, all or none; chats get their accounts in the order asked for.
    pub(crate) fn look_up(&mut self, wanted: Vec<By>, then: GatherThen, step: &mut Step<'_>) {
        self.begin_look_up(wanted, LookUpThen::Chats(then), step);
    }

    /// Whether somebody's name is being looked up for a chat.
    pub(crate) fn is_learning(&self, account: &AccountId) -> bool {
        self.account.directory.jobs.questions().any(|(by, then)| {
            matches!(by, By::Id(id) if id == account)
                && matches!(then, LookUpThen::Chats(GatherThen::Names(_)))
        })
    }

    /// Asks for the newest record of somebody whose invitation led to a fold.
    pub(crate) fn look_up_peer(&mut self, peer: AccountId, fold: u64, step: &mut Step<'_>) {
        self.begin_look_up(vec![By::Id(peer)], LookUpThen::Enter(fold, peer), step);
    }

    pub(super) fn begin_look_up(&mut self, wanted: Vec<By>, then: LookUpThen, step: &mut Step<'_>) {
        let until = match &then {
            LookUpThen::Chats(GatherThen::Direct(_, until)) => *until,
            LookUpThen::Devices(_) | LookUpThen::SafetyNumber(..) => {
                Some(step.moment.after(PATIENCE))
            }
            // The other half of the time is for their key packages and the commit.
            LookUpThen::Chats(then) => then.until().map(|end| {
                let left = end.since(step.moment);
                step.moment.after(left / 2)
            }),
            _ => None,
        };
        let number = self.account.directory.jobs.begin(wanted, until, then);
        self.look_up_goes_on(number, step);
    }

    /// Asks for what is due, and ends what has no more time.
    pub(super) fn work_look_ups(&mut self, step: &mut Step<'_>) {
        while let Some(number) = self.account.directory.jobs.overdue(step.moment) {
            self.end_look_up(number, None, step);
        }
        while let Some((ask, by)) = self.account.directory.jobs.ask(step.moment) {
            let by = match by {
                By::Id(account) => WireBy::Id(wire_account(account)),
                By::Name(name) => match Username::parse(&name) {
                    Ok(name) => WireBy::Name(name.as_str().to_owned()),
                    Err(_) => {
                        self.look_up_failed(ask, Refusal::UnknownAccount.into(), step);
                        continue;
                    }
                },
            };
            let request = LookUp { by, admission: Vec::new() };
            self.ask_open(Then::Account(AccountThen::LookedUp(ask)), request, step);
        }
    }

    fn look_up_goes_on(&mut self, number: u64, step: &mut Step<'_>) {
        if self.account.directory.jobs.is_done(number) {
            self.end_look_up(number, None, step);
        }
        self.work_look_ups(step);
    }

    pub(super) fn looked_up(
        &mut self,
        ask: Ask,
        result: Result<OpenReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        let Some(by) = self.account.directory.jobs.question(ask) else {
            return;
        };
        let error = match reply_of::<LookUp>(result) {
            Ok(found) => match self.accept_record(&by, (Some(&found.name), &found.record), step) {
                Ok(record) => {
                    self.account.directory.jobs.answered(ask, [record.account()]);
                    return self.look_up_goes_on(ask.job, step);
                }
                Err(error) => Some(error),
            },
            Err(error) => self.account.directory.jobs.failed(ask, (error, self.online.open), step),
        };
        match (by, error) {
            (By::Id(account), Some(Error::Refused(Refusal::UnknownAccount)))
                if self.is_reached_without(ask, account) =>
            {
                self.account.directory.jobs.answered(ask, [account]);
                return self.look_up_goes_on(ask.job, step);
            }
            (_, Some(error)) => self.look_up_failed(ask, error, step),
            (_, None) => {}
        }
        self.work_look_ups(step);
    }

    /// Whether what somebody is looked up for is possible although the server doesn't know them any
    /// more: their chat goes on in its log.
    fn is_reached_without(&self, ask: Ask, account: AccountId) -> bool {
        match self.account.directory.jobs.purpose(ask.job) {
            Some(LookUpThen::Chats(GatherThen::Direct(..))) => {
                self.direct_chat(Some(account)).is_some()
            }
            Some(LookUpThen::SafetyNumber(..)) => self.account.contact(&account).is_some(),
            _ => false,
        }
    }

    /// Somebody can't be looked up: that ends the job, or the others go on. Names that are only to
    /// be shown are asked for again until they are known.
    fn look_up_failed(&mut self, ask: Ask, error: Error, step: &mut Step<'_>) {
        let jobs = &mut self.account.directory.jobs;
        match jobs.purpose(ask.job) {
            Some(LookUpThen::Chats(GatherThen::Names(_))) if !is_about_one(&error) => {
                jobs.rest(ask.job);
            }
            Some(LookUpThen::Chats(then)) if then.leaves_out() && is_about_one(&error) => {
                jobs.leave_out(ask, error);
                self.look_up_goes_on(ask.job, step);
            }
            _ => self.end_look_up(ask.job, Some(error), step),
        }
    }

    /// Checks a record from the server: signatures, that it is the one asked for, and that it is
    /// no older than one seen before. The newest stays.
    ///
    /// `name` is what the server says that the account signed up as, where it says so.
    ///
    /// A name that means another account than the record's is refused: whoever gave it may mean
    /// either. What is told of it is kept all the same.
    pub(super) fn accept_record(
        &mut self,
        by: &By,
        (name, signed): (Option<&str>, &SignedRecord),
        step: &mut Step<'_>,
    ) -> Result<VerifiedRecord, Error> {
        let contact = Contact::verify(signed.bytes.clone())
            .ok_or(Error::Untrue("the account record does not verify"))?;
        let (account, record) = (contact.account, contact.record.clone());
        let meant = match by {
            By::Name(name) if contact.username != name.to_ascii_lowercase() => None,
            By::Name(_) => Some(self.named(&contact.username).unwrap_or(account)),
            By::Id(id) => Some(*id).filter(|id| *id == account),
        };
        let meant = meant.filter(|_| record.record().list_version == signed.version);
        // An account may sign a name into its record that is somebody else's.
        let meant = meant.filter(|_| name.is_none_or(|name| name == contact.username));
        let meant = meant.ok_or(Error::Untrue("the account record is not the one asked for"))?;
        self.keep_record(contact, step)?;
        if meant != account {
            return Err(Error::NameChangedHands { before: meant, now: account });
        }
        Ok(record)
    }

    /// Keeps a record unless it is older than one seen before.
    fn keep_record(&mut self, contact: Contact, step: &mut Step<'_>) -> Result<(), Error> {
        let directory = &mut self.account.directory;
        let contact = match directory.contact(&contact.account) {
            Some(seen) if seen.bytes == contact.bytes => return Ok(()),
            Some(seen) if !contact.record.may_replace(&seen.record) => {
                return Err(Error::Untrue("the account record is older than one seen before"));
            }
            Some(seen) => {
                Contact { username: seen.username.clone(), number: seen.number, ..contact }
            }
            None => Contact { number: directory.next_number(), ..contact },
        };
        let row = ContactRow {
            username: contact.username.clone(),
            number: contact.number,
            record: contact.bytes.clone(),
        };
        step.put(Table::Contacts, contact.account.as_bytes(), 0, &row);
        directory.insert(contact);
        Ok(())
    }

    fn end_look_up(&mut self, number: u64, error: Option<Error>, step: &mut Step<'_>) {
        let Some(Ended { then, found, left_out }) = self.account.directory.jobs.end(number) else {
            return;
        };
        match then {
            LookUpThen::Chats(then) => {
                let left_out = left_out.into_iter();
                let left_out = left_out.map(|(who, why)| LeftOut { who: who.into_text(), why });
                let gathered = Gathered { accounts: found, left_out: left_out.collect() };
                let result = error.map_or(Ok(gathered), Err);
                self.chats_gathered(then, result, step);
            }
            LookUpThen::Enter(number, peer) => self.peer_looked_up((number, peer), error, step),
            LookUpThen::Devices(reply) => {
                let error = error.or_else(|| left_out.into_iter().next().map(|(_, why)| why));
                let result = error.map_or_else(|| Ok(self.own_devices()), Err);
                step.answer(reply, result);
            }
            LookUpThen::SafetyNumber(by, reply) => {
                // Keys that were seen before still tell who is at the other end.
                let error = error.filter(|error| *error != Error::Offline);
                let result = error.map_or_else(|| self.safety_number(&by), Err);
                step.answer(reply, result);
            }
        }
    }

    fn own_devices(&self) -> Vec<Device> {
        let Some(me) = &self.account.me else {
            return Vec::new();
        };
        let own = self.account.directory.contact(&me.account);
        let devices = own.into_iter().flat_map(|contact| &contact.record.record().devices);
        let device = |entry: &DeviceEntry| Device {
            id: entry.device(),
            name: self.account.log.device_name(entry.device()),
            since: entry.since,
            this_device: entry.device() == me.device,
        };
        devices.map(device).collect()
    }

    fn safety_number(&self, by: &By) -> Result<SafetyNumber, Error> {
        let me = self.account.me.as_ref().ok_or(Refusal::NoAccount)?;
        let account = match by {
            By::Name(name) => self.named(&name.to_ascii_lowercase()),
            By::Id(account) => Some(*account),
        };
        if account == Some(me.account) {
            return Err(Refusal::ChatWithOneself.into());
        }
        let contact = account.and_then(|account| self.account.contact(&account));
        let contact = contact.ok_or(Error::Offline)?;
        let theirs = (contact.account, &contact.identity_key);
        Ok(SafetyNumber::new((me.account, &me.identity_key), theirs))
    }
}
