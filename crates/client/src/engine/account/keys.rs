//! Fresh storage and contact keys: whoever removes a device puts them in the place of the account's.
//!
//! They are staged here before the request leaves that seals the vault with them, and count from
//! the moment on in which the account's newest record names the contact key. The device that made
//! them reads the account log to its head, and opens the log that derives from the new storage key
//! with all that it knows. The other devices get them in notices. A device that is behind reads
//! nothing of the old log any more, in which a removed device may write, and writes nothing there;
//! what it owes, and where its own chats go on, it brings into the new one.
//!
//! Each device names itself in the log that it reads. So who has the keys sees who lacks them, and
//! sends them again: at once whoever removed a device, who has just come in by the password, and
//! everybody once the server has lost what was sent; the others after an hour, then more and more
//! rarely.

use core::time::Duration;

use corncrake_core::{
    derive::Key32,
    id::DeviceId,
    identity::{Certificate, ContactKey, ContactPublicKey},
    mls::{codec::Decode, key_package::KeyPackage},
    seal::{notice::KeysNotice, record::StorageKey, vault::Vault},
};
use corncrake_wire::{PackageId, open::Deposit};
use serde::{Deserialize, Serialize};

use super::{
    AccountThen, ClaimedPackage, Contact, Me, Retry, Stage, log::Carry, own::naming, wire_inbox,
};
use crate::{
    engine::{ClaimThen, Effect, State, Step, Then, tables::Table},
    error::Error,
    host::{Clock, Moment, Timestamp},
    transport::TransportError,
};

/// The id of the row that keeps keys.
pub(super) const KEYS_ROW: &[u8] = b"keys";
/// Keys that others took the place of are kept, to know chats of two by them; as many as a record
/// names.
const MOST_EARLIER: usize = 8;
/// How long those who haven't removed a device leave it to the one who has to send the keys.
const OTHERS_FIRST: Duration = Duration::from_hours(1);
/// Between two letters to a device that doesn't show itself; doubled up to a month.
const AGAIN: Duration = Duration::from_hours(24);
/// Between two tries for a device of which the server has no key package, as after a loss that it
/// hasn't come back from; doubled up to about an hour.
const NO_PACKAGE: Duration = Duration::from_secs(10);
/// The longest pause.
const LONGEST: Duration = Duration::from_hours(32 * 24);

/// The two keys of an account that all its devices hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pair {
    pub(super) storage: StorageKey,
    pub(super) contact: Key32,
}

/// Keys that the server may have taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Staged {
    /// The version of the record that names them.
    version: u64,
    /// Those in whose place they come.
    pub(super) from: Pair,
    pub(super) to: Pair,
}

/// Keys that a device of this account sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Offer {
    device: DeviceId,
    /// The version of the record that named that device first.
    since: u64,
    /// The version of the record by which it has them.
    version: u64,
    keys: Pair,
}

/// Keys other than those in use, as they are stored.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct KeysRow {
    staged: Option<Staged>,
    /// One for each device at most.
    offers: Vec<Offer>,
    /// The newest first.
    earlier: Vec<Pair>,
    /// From when on others are sent the keys, and how often they were.
    tells: Option<(Timestamp, u32)>,
    /// Whether this device sends the keys without leaving it to others first.
    sends_first: bool,
}

/// Keys other than those in use.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    row: KeysRow,
    /// When to send the keys to those that lack them.
    tell: Retry,
    /// How many tries there were since the server had a key package of each that lacks them.
    in_vain: u32,
    /// Whether some lack them.
    is_wanted: bool,
}

impl Pair {
    pub(super) fn of(vault: &Vault) -> Self {
        Self { storage: vault.storage_key.clone(), contact: vault.contact_key.expose() }
    }

    pub(super) fn public(&self) -> ContactPublicKey {
        ContactKey::from_key(&self.contact).public()
    }
}

impl Keys {
    pub(super) fn load(&mut self, row: KeysRow, clock: Clock) {
        if let Some((from, _)) = row.tells {
            self.tell = Retry::at(clock.until(from, LONGEST).unwrap_or_default());
        }
        self.row = row;
    }

    /// The keys that were staged, if they are the ones with this contact key.
    pub(super) fn staged(&self, newest: &ContactPublicKey) -> Option<&Staged> {
        self.row.staged.as_ref().filter(|staged| staged.to.public() == *newest)
    }

    /// The contact keys before the one in use.
    pub(super) fn earlier(&self) -> impl Iterator<Item = ContactKey> {
        self.row.earlier.iter().map(|pair| ContactKey::from_key(&pair.contact))
    }

    /// The newest version of the own record that keys were sent by.
    pub(super) fn awaited_version(&self) -> u64 {
        self.row.offers.iter().map(|offer| offer.version).max().unwrap_or(0)
    }

    pub(super) fn hurry(&mut self) {
        if self.tell.tries() > 0 {
            self.tell.hurry();
        }
    }

    pub(super) fn wake_at(&self) -> Option<Moment> {
        self.tell.wake_at().filter(|_| self.is_wanted)
    }

    /// Whether others wait for the keys that this device is the first to send.
    pub(super) fn is_owed(&self) -> bool {
        let is_told = self.row.tells.is_some_and(|(_, times)| times > 0);
        self.is_wanted && self.row.sends_first && !is_told
    }

    /// Nobody else may be there any more who has sent the keys to those that lack them, or the
    /// server has lost what was sent.
    pub(super) fn send_first(&mut self, step: &mut Step<'_>) {
        self.row.sends_first = true;
        self.row.tells = None;
        self.tell = Retry::default();
        self.save(step);
    }

    fn save(&self, step: &mut Step<'_>) {
        step.put(Table::Account, KEYS_ROW, 0, &self.row);
    }
}

impl State {
    /// Fresh keys for the record of this version: those of an earlier try, or new ones. They are
    /// stored before anything leaves that depends on them.
    pub(super) fn stage_keys(&mut self, from: Pair, version: u64, step: &mut Step<'_>) -> Pair {
        let keys = &mut self.account.keys;
        let tried = |staged: &&Staged| staged.version == version && staged.from == from;
        if let Some(staged) = keys.row.staged.as_ref().filter(tried) {
            return staged.to.clone();
        }
        let to = Pair { storage: StorageKey::random(step.rng), contact: Key32::random(step.rng) };
        keys.row.staged = Some(Staged { version, from, to: to.clone() });
        keys.save(step);
        to
    }

    /// Whether the newest own record names another contact key than the one in use.
    pub(super) fn keys_are_old(&self) -> bool {
        let me = self.account.me.as_ref();
        me.zip(self.own_record()).is_some_and(|(me, own)| {
            own.version() >= me.since && own.contact_key != me.contact_public
        })
    }

    /// Whether this device waits for keys that another one made.
    pub(super) fn waits_for_keys(&self) -> bool {
        let own = self.own_record().map(|own| own.contact_key);
        let made = own.is_some_and(|newest| self.account.keys.staged(&newest).is_some());
        self.keys_are_old() && !made
    }

    /// Asks whether the server has taken fresh keys of this device's making: the answer may have
    /// been lost with the run that waited for it.
    pub(super) fn mind_staged_keys(&mut self, step: &mut Step<'_>) {
        if self.account.keys.row.staged.is_some() && self.account.flow.is_none() {
            self.look_at_own_record(step);
        }
    }

    /// A device of this account sent keys: they count if the newest record says so.
    pub(super) fn keys_offered(
        &mut self,
        KeysNotice { storage_key: storage, contact_key: contact, list_version: version }: KeysNotice,
        sender: &Certificate,
        step: &mut Step<'_>,
    ) {
        if self.account.me.as_ref().is_none_or(|me| me.account != sender.account()) {
            return;
        }
        let (device, since) = (sender.device(), sender.list_version());
        let keys = Pair { storage, contact };
        self.take_offer(Offer { device, since, version, keys }, step);
        self.own_version_told(version);
        self.mind_own_record(step);
        self.renew_keys(step);
    }

    /// The password has opened the vault of the newest record.
    pub(super) fn keys_in_vault(&mut self, keys: Pair, version: u64, step: &mut Step<'_>) {
        let Some(me) = &self.account.me else { return };
        if keys.public() != me.contact_public {
            let offer = Offer { device: me.device, since: me.since, version, keys };
            self.take_offer(offer, step);
            self.renew_keys(step);
        }
    }

    fn take_offer(&mut self, offer: Offer, step: &mut Step<'_>) {
        let offers = &mut self.account.keys.row.offers;
        // A letter that the server gives once more takes the place of no later one.
        let is_later =
            |known: &Offer| known.device == offer.device && known.version > offer.version;
        if offers.iter().any(is_later) {
            return;
        }
        offers.retain(|earlier| earlier.device != offer.device);
        offers.push(offer);
        self.account.keys.save(step);
    }

    /// Takes the keys that the newest own record names, as soon as they are here.
    pub(super) fn renew_keys(&mut self, step: &mut Step<'_>) {
        let (Some(me), Some(own)) = (&self.account.me, self.own_record()) else {
            return;
        };
        let (newest, version) = (own.contact_key, own.version());
        let row = &self.account.keys.row;
        if newest != me.contact_public && version >= me.since {
            let named = |offer: &&Offer| own.devices.contains(&offer.device);
            let offered = row.offers.iter().filter(named).map(|offer| &offer.keys);
            let mut known = offered.chain(&row.earlier);
            if let Some(staged) = self.account.keys.staged(&newest) {
                // What the others know is read first: the new log begins with it.
                if self.account.log.is_read() {
                    let keys = staged.to.clone();
                    self.move_to(keys, Carry::Everything, step);
                }
            } else if let Some(keys) = known.find(|keys| keys.public() == newest) {
                let keys = keys.clone();
                self.move_to(keys, Carry::Owed, step);
            }
        }
        self.drop_offers(version, step);
    }

    /// Drops the offers that a record of this version decides about.
    fn drop_offers(&mut self, version: u64, step: &mut Step<'_>) {
        if self.account.keys.row.offers.is_empty() {
            return;
        }
        let devices = self.own_record().map(|own| own.devices.clone()).unwrap_or_default();
        let keys = &mut self.account.keys;
        let before = keys.row.offers.len();
        keys.row.offers.retain(|offer| {
            let is_named = devices.contains(&offer.device) || offer.since > version;
            is_named && offer.version > version
        });
        if keys.row.offers.len() < before {
            keys.save(step);
        }
    }

    /// Goes on with these keys, in the account log that derives from them.
    fn move_to(&mut self, keys: Pair, carry: Carry, step: &mut Step<'_>) {
        if carry == Carry::Everything {
            self.take_leave(step);
        }
        let account = &mut self.account;
        let Some(row) = &mut account.row else { return };
        let storage = core::mem::replace(&mut row.storage_key, keys.storage.clone());
        let contact = core::mem::replace(&mut row.contact_key, keys.contact.clone());
        step.put(Table::Account, &[], 0, &Stage::Account(row.clone()));
        account.me = Me::from_row(row.clone());
        let kept = &mut account.keys.row;
        kept.earlier.retain(|earlier| *earlier != keys);
        kept.earlier.insert(0, Pair { storage, contact });
        kept.earlier.truncate(MOST_EARLIER);
        kept.staged.take_if(|staged| staged.to == keys);
        kept.sends_first = carry == Carry::Everything;
        kept.tells = None;
        account.keys.tell = Retry::default();
        account.keys.save(step);
        if let Some(log) = account.log.wire_id() {
            step.effects.push(Effect::Unwatch(log));
        }
        if let Some(me) = &account.me {
            account.log.move_to(&me.storage_key, me.device, carry, step);
        }
        self.watch_account_log(step);
    }

    /// Tells those who read the account log that there is a newer record, as its last word: so they
    /// hear at once that another log takes its place, and a device that was removed that it was.
    fn take_leave(&mut self, step: &mut Step<'_>) {
        let (Some(me), Some(version)) = (&self.account.me, self.own_record().map(Contact::version))
        else {
            return;
        };
        let append = self.account.log.seal_last(&naming(me, version), step);
        if let Some(append) = append {
            let then = AccountThen::LogAppended(append.token.log_id(), append.after);
            self.ask_open(Then::Account(then), append, step);
        }
    }

    /// The devices of the newest own record that haven't shown themselves in the account log.
    fn without_keys(&self) -> Vec<DeviceId> {
        let (Some(me), Some(own)) = (&self.account.me, self.counting_record()) else {
            return Vec::new();
        };
        if self.keys_are_old() {
            return Vec::new();
        }
        let others = own.devices.iter().filter(|device| **device != me.device);
        let lacks = |device: &&DeviceId| self.account.log.device_name(**device).is_none();
        others.filter(lacks).copied().collect()
    }

    /// Sends the keys to the devices of the account that lack them, when it is time.
    pub(super) fn tell_keys(&mut self, step: &mut Step<'_>) {
        let is_wanted = self.account.log.is_begun() && !self.without_keys().is_empty();
        let Some(account) = self.account.me.as_ref().map(|me| me.account) else {
            return;
        };
        let keys = &mut self.account.keys;
        keys.is_wanted = is_wanted;
        if !is_wanted {
            return;
        }
        if keys.row.tells.is_none() {
            let wait = if keys.row.sends_first { Duration::ZERO } else { OTHERS_FIRST };
            keys.row.tells = Some((step.now.after(wait), 0));
            keys.tell = Retry::at(step.moment.after(wait));
            keys.save(step);
        }
        if keys.tell.is_due(step.moment) && self.online.open {
            self.account.keys.tell.begin();
            self.claim(vec![account], ClaimThen::Keys, step);
        }
    }

    /// Key packages of the other devices were claimed, to seal the keys to them.
    pub(crate) fn keys_claimed(
        &mut self,
        claimed: Result<Vec<ClaimedPackage>, Error>,
        step: &mut Step<'_>,
    ) {
        let wanting = self.without_keys();
        let (Some(me), Some(version)) =
            (self.account.me.clone(), self.own_record().map(Contact::version))
        else {
            return;
        };
        let Ok(packages) = claimed else {
            let error = TransportError::Unreachable;
            return self.account.keys.tell.failed(&error, step.moment, step.rng);
        };
        let notice = KeysNotice {
            storage_key: me.storage_key.clone(),
            contact_key: me.contact_key.expose(),
            list_version: version,
        };
        for claimed in packages.iter().filter(|claimed| wanting.contains(&claimed.device)) {
            let Ok(package) = KeyPackage::decode_exact(&claimed.bytes) else {
                continue;
            };
            let to = (&package.reference(), &package.init_key);
            let sender = (&me.device_key, me.certificate.as_slice());
            let Ok(notice) = notice.seal(to, sender, step.rng) else {
                continue;
            };
            let (inbox, package) = (wire_inbox(claimed.inbox), PackageId::of(&claimed.bytes));
            let letter = Deposit { inbox, package, notice, admission: Vec::new() };
            self.owe_letter(letter, Some((claimed.account, claimed.device)), step);
        }
        let is_there = |device: &DeviceId| packages.iter().any(|claimed| claimed.device == *device);
        let keys = &mut self.account.keys;
        let times = keys.row.tells.map_or(0, |(_, times)| times);
        let (pause, times) = if wanting.iter().all(is_there) {
            keys.in_vain = 0;
            (AGAIN.saturating_mul(1 << times.min(5)), times.saturating_add(1))
        } else {
            let pause = NO_PACKAGE.saturating_mul(1 << keys.in_vain.min(8));
            keys.in_vain = keys.in_vain.saturating_add(1);
            (pause, times.max(1))
        };
        keys.row.tells = Some((step.now.after(pause), times));
        keys.tell = Retry::at(step.moment.after(pause));
        keys.save(step);
    }
}
