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
    pub(crate) fn text(text: String) -> Self {
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
    /// The name under which it is found.
    pub(crate) username: String,
    /// With which it agrees on the seeds of 1:1 chats.
    pub(crate) contact_key: ContactPublicKey,
    /// Its newest identity key.
    pub(crate) identity_key: SignaturePublicKey,
    pub(crate) devices: Vec<DeviceId>,
    bytes: Vec<u8>,
    record: VerifiedRecord,
}

/// Who gets what was looked up.
#[derive(Debug)]
pub(super) enum LookUpThen {
    Chats(GatherThen),
    /// A fold that waits for somebody's newest record.
    Enter(u64, AccountId),
    Devices(Reply<Vec<Device>>),
    SafetyNumber(String, Reply<SafetyNumber>),
}

/// Records seen, and look-ups under way.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    contacts: BTreeMap<AccountId, Contact>,
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

    fn verify(bytes: Vec<u8>) -> Option<Self> {
        let verified = AccountRecord::verify(&bytes).ok()?;
        let record = verified.record();
        Some(Self {
            account: verified.account(),
            username: record.username.as_str().to_owned(),
            contact_key: record.contact_key,
            identity_key: record.chain.current_key(),
            devices: record.devices.iter().map(DeviceEntry::device).collect(),
            bytes,
            record: verified,
        })
    }
}

impl Directory {
    /// Takes a stored record; whether it is one.
    pub(super) fn load(&mut self, bytes: &[u8]) -> bool {
        let Some(contact) = Contact::verify(bytes.to_vec()) else {
            return false;
        };
        self.contacts.insert(contact.account, contact);
        true
    }

    pub(super) fn contact(&self, account: &AccountId) -> Option<&Contact> {
        self.contacts.get(account)
    }

    /// The account that had this name when it was seen last.
    pub(super) fn named(&self, name: &str) -> Option<&Contact> {
        self.contacts.values().find(|contact| contact.username == name)
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
            Ok(record) => match self.accept_record(&by, &record, step) {
                Ok(record) => {
                    self.account.directory.jobs.answered(ask, [record.account()]);
                    return self.look_up_goes_on(ask.job, step);
                }
                Err(error) => Some(error),
            },
            Err(error) => self.account.directory.jobs.failed(ask, (error, self.online.open), step),
        };
        if let Some(error) = error {
            self.look_up_failed(ask, error, step);
        }
        self.work_look_ups(step);
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
    pub(super) fn accept_record(
        &mut self,
        by: &By,
        signed: &SignedRecord,
        step: &mut Step<'_>,
    ) -> Result<VerifiedRecord, Error> {
        let contact = Contact::verify(signed.bytes.clone())
            .ok_or(Error::Untrue("the account record does not verify"))?;
        let account = contact.account;
        let asked = match by {
            By::Name(name) => contact.username == name.to_ascii_lowercase(),
            By::Id(id) => account == *id,
        };
        if !asked || contact.record.record().list_version != signed.version {
            return Err(Error::Untrue("the account record is not the one asked for"));
        }
        let contacts = &mut self.account.directory.contacts;
        let record = contact.record.clone();
        match contacts.get(&account) {
            Some(seen) if seen.bytes == contact.bytes => return Ok(record),
            Some(seen) if !record.may_replace(&seen.record) => {
                return Err(Error::Untrue("the account record is older than one seen before"));
            }
            _ => {}
        }
        let renamed = |seen: &&Contact| seen.account != account;
        if self.account.directory.named(&contact.username).filter(renamed).is_some() {
            return Err(Error::Untrue("the username belongs to another account than before"));
        }
        step.put(Table::Contacts, account.as_bytes(), 0, &contact.bytes);
        self.account.directory.contacts.insert(account, contact);
        Ok(record)
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
            LookUpThen::SafetyNumber(name, reply) => {
                // Keys that were seen before still tell who is at the other end.
                let error = error.filter(|error| *error != Error::Offline);
                let result = error.map_or_else(|| self.safety_number(&name), Err);
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

    fn safety_number(&self, name: &str) -> Result<SafetyNumber, Error> {
        let me = self.account.me.as_ref().ok_or(Refusal::NoAccount)?;
        let contact =
            self.account.directory.named(&name.to_ascii_lowercase()).ok_or(Error::Offline)?;
        let theirs = (contact.account, &contact.identity_key);
        Ok(SafetyNumber::new((me.account, &me.identity_key), theirs))
    }
}
