//! Key packages: enough of them at the server, and their private keys here until they are used.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use corncrake_core::{
    conversation::{NewKeyPackage, Use, new_key_package},
    crypto::{Suite, hpke::HpkePrivateKey},
    derive::Key32,
    mls::{
        codec::Decode,
        key_package::{KeyPackage, KeyPackageKeys},
        leaf_node::Lifetime,
    },
};
use corncrake_wire::{
    AccountReply, PackageId,
    account::{ListPackages, NewPackage, PackageList, UploadPackages},
    limits,
};
use serde::{Deserialize, Serialize};

use super::{AccountThen, Me, Retry, session};
use crate::{
    engine::{State, Step, tables::Table},
    host::{Moment, Timestamp},
    transport::TransportError,
};

/// The suite of all key packages so far.
pub(super) const SUITE: Suite = Suite::X25519ChaCha20Poly1305Sha256Ed25519;
/// Between two checks; and as clocks differ, a package is good from a day before it was made.
const DAY: Duration = Duration::from_hours(24);
/// Between two checks while this device's clock and the server's differ by more than a day: in the
/// first hour, in which a clock that is wrong by mistake is set right, and after it.
const DOUBTED: [Duration; 2] = [Duration::from_secs(30), Duration::from_mins(5)];
const HOUR: Duration = Duration::from_hours(1);
/// How long others may use a package.
const LIFETIME: Duration = Duration::from_hours(90 * 24);
/// How long its private keys outlive a package that the server has no more: its Welcome may be on
/// the way.
const KEPT_AFTER: Duration = Duration::from_hours(7 * 24);
/// How long the time has to be over by a clock of the server that is doubted.
const PROOF: Duration = DAY;
/// Packages that are gone whose keys are kept: anybody can claim, again and again.
const MOST_GONE: usize = 1_000;
/// How old the package of last resort gets.
const LAST_RESORT_AGE: Duration = Duration::from_hours(30 * 24);

/// A key package of this device.
#[derive(Clone, Debug)]
pub(crate) struct OwnPackage {
    /// Names it in notices and Welcomes.
    pub(crate) reference: [u8; 32],
    /// Names it at the server.
    id: PackageId,
    /// The key package.
    pub(crate) bytes: Vec<u8>,
    /// Its private keys.
    pub(crate) keys: KeyPackageKeys,
    /// Whether it is used more than once.
    pub(crate) last_resort: bool,
    made: Timestamp,
    /// Since when it is known that the server has it no more.
    gone: Option<Timestamp>,
    /// Since when its keys' time is over, by a clock that is doubted.
    over: Option<Timestamp>,
}

/// A key package as it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PackageRow {
    pub(super) number: u64,
    reference: [u8; 32],
    bytes: Vec<u8>,
    init: Key32,
    leaf: Key32,
    last_resort: bool,
    made: Timestamp,
    gone: Option<Timestamp>,
    over: Option<Timestamp>,
}

impl PackageRow {
    /// The row; nothing if the suite had keys of another length.
    fn new(number: u64, package: &OwnPackage) -> Option<Self> {
        let OwnPackage { reference, id: _, bytes, keys, last_resort, made, gone, over } = package;
        let key =
            |key: &HpkePrivateKey| key.expose().expose_array().copied().map(Key32::from_bytes);
        Some(Self {
            number,
            reference: *reference,
            bytes: bytes.clone(),
            init: key(&keys.init)?,
            leaf: key(&keys.leaf)?,
            last_resort: *last_resort,
            made: *made,
            gone: *gone,
            over: *over,
        })
    }

    /// The package; nothing if its keys are none.
    pub(super) fn into_package(self) -> Option<OwnPackage> {
        let Self { number: _, reference, bytes, init, leaf, last_resort, made, gone, over } = self;
        let keys = KeyPackageKeys {
            init: HpkePrivateKey::try_from_bytes(init.expose()).ok()?,
            leaf: HpkePrivateKey::try_from_bytes(leaf.expose()).ok()?,
        };
        let id = PackageId::of(&bytes);
        Some(OwnPackage { reference, id, bytes, keys, last_resort, made, gone, over })
    }
}

impl OwnPackage {
    /// Whether others may use it at this time.
    fn is_good(&self, now: Timestamp) -> bool {
        self.made.since(now) <= DAY && now.since(self.made) <= LIFETIME
    }

    fn to_upload(&self) -> NewPackage {
        NewPackage { suite: SUITE.id(), last_resort: self.last_resort, bytes: self.bytes.clone() }
    }
}

/// What the server's clock is worth.
#[derive(Clone, Copy, Debug)]
enum Trust {
    Full,
    Doubted,
}

/// The key packages of this device, by the number of their row.
#[derive(Debug, Default)]
pub(crate) struct Packages {
    pub(super) rows: BTreeMap<u64, OwnPackage>,
    pub(super) check: Retry,
}

impl Packages {
    /// The package with this reference.
    pub(crate) fn get(&self, reference: &[u8]) -> Option<&OwnPackage> {
        self.rows.values().find(|package| package.reference == reference)
    }

    fn newest_last_resort(&self) -> Option<Timestamp> {
        let resorts =
            self.rows.values().filter(|package| package.last_resort && package.gone.is_none());
        resorts.map(|package| package.made).max()
    }

    /// Makes `one_time` packages and, if asked, one of last resort, good from this time on; their
    /// rows are stored with this step.
    pub(super) fn make(
        &mut self,
        me: &Me,
        (one_time, last_resort): (usize, bool),
        made: Timestamp,
        step: &mut Step<'_>,
    ) -> Vec<NewPackage> {
        let kinds = core::iter::repeat_n(false, one_time).chain(last_resort.then_some(true));
        let mut packages = Vec::new();
        for last_resort in kinds {
            let lifetime = Lifetime {
                not_before: made.0.saturating_sub(millis(DAY)) / 1000,
                not_after: made.after(LIFETIME).0 / 1000,
            };
            let usage = if last_resort { Use::LastResort } else { Use::Once };
            let NewKeyPackage { bytes, keys } =
                new_key_package(&me.seat(), me.inbox, lifetime, usage, step.rng);
            let Ok(package) = KeyPackage::decode_exact(&bytes) else {
                continue;
            };
            let reference = package.reference().0;
            let id = PackageId::of(&bytes);
            let (gone, over) = (None, None);
            let package = OwnPackage { reference, id, bytes, keys, last_resort, made, gone, over };
            let number = self.rows.last_key_value().map_or(0, |(last, _)| last + 1);
            let Some(row) = PackageRow::new(number, &package) else {
                continue;
            };
            step.put(Table::Packages, &[], number, &row);
            packages.push(package.to_upload());
            self.rows.insert(number, package);
        }
        packages
    }

    /// What there is, as the server takes it.
    pub(super) fn to_upload(&self) -> Vec<NewPackage> {
        self.rows.values().map(OwnPackage::to_upload).collect()
    }

    /// The ids of the newest.
    fn ids(&self) -> Vec<PackageId> {
        let newest = self.rows.values().rev().take(limits::UPLOAD);
        newest.map(|package| package.id).collect()
    }

    /// Whether the server may have too few.
    pub(super) const fn is_lacking(&self) -> bool {
        self.check.is_busy() || self.check.tries() > 0
    }

    /// Checks at once if the last check failed.
    pub(super) fn hurry_after_failure(&mut self) {
        if self.check.tries() > 0 {
            self.check.hurry();
        }
    }

    /// Forgets every package, for they belong to a device that will not be.
    pub(super) fn forget(&mut self, step: &mut Step<'_>) {
        step.delete_all(Table::Packages, &[]);
        self.rows.clear();
    }

    /// Learns what the server holds at this time of its clock: keys go a week after their package.
    /// Where that clock is doubted, the week must have been over for a day: a Welcome that is on the
    /// way must not find its keys gone because a clock was wrong for a moment.
    fn learn_held(
        &mut self,
        held: &BTreeSet<PackageId>,
        (now, trust): (Timestamp, Trust),
        step: &mut Step<'_>,
    ) {
        let is_gone = |package: &OwnPackage| !held.contains(&package.id);
        let gone = self.rows.values().filter(|package| is_gone(package)).count();
        let mut too_many = gone.saturating_sub(MOST_GONE);
        self.rows.retain(|&number, package| {
            let gone = is_gone(package).then(|| package.gone.unwrap_or(now).min(now));
            let is_over = gone.is_some_and(|since| now.since(since) >= KEPT_AFTER);
            let over = is_over.then(|| package.over.unwrap_or(now).min(now));
            let done = over.is_some_and(|since| match trust {
                Trust::Full => true,
                Trust::Doubted => now.since(since) >= PROOF,
            });
            let crowded = gone.is_some() && too_many > 0;
            if done || crowded {
                too_many -= usize::from(crowded);
                step.delete(Table::Packages, &[], number);
                return false;
            }
            if (package.gone, package.over) != (gone, over) {
                (package.gone, package.over) = (gone, over);
                if let Some(row) = PackageRow::new(number, package) {
                    step.put(Table::Packages, &[], number, &row);
                }
            }
            true
        });
    }

    /// Whether the server holds packages that nobody may use, or whose keys are not here.
    fn are_bad(&self, held: &BTreeSet<PackageId>, now: Timestamp) -> bool {
        let good = self.rows.values().filter(|package| package.is_good(now));
        let good: BTreeSet<_> = good.map(|package| package.id).collect();
        !held.is_subset(&good)
    }
}

impl State {
    /// How many packages for one use the server should hold.
    pub(super) fn packages_wanted(&self) -> usize {
        usize::from(self.settings.key_packages).min(limits::KEY_PACKAGES)
    }

    /// A Welcome for this package has been taken: if it was for one use, its keys go.
    pub(crate) fn package_done(&mut self, reference: &[u8], step: &mut Step<'_>) {
        self.account.packages.rows.retain(|&number, package| {
            let keep = package.last_resort || package.reference != reference;
            if !keep {
                step.delete(Table::Packages, &[], number);
            }
            keep
        });
        self.account.packages.check.hurry_behind(step.moment);
    }

    /// Asks what the server has left, when it is time.
    pub(super) fn check_packages(&mut self, step: &mut Step<'_>) {
        if self.account.packages.check.is_due(step.moment) {
            self.account.packages.check.begin();
            let request = ListPackages { suite: SUITE.id() };
            self.ask_account(AccountThen::PackagesListed, request, step);
        }
    }

    pub(super) fn packages_listed(
        &mut self,
        result: Result<AccountReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        let PackageList { now, one_time, last_resort } =
            match session::reply_of::<ListPackages>(result) {
                Ok(list) => list,
                Err(error) => return self.packages_failed(&error, step),
            };
        // By the server's clock, which hands packages out: this device's may be wrong.
        let now = Timestamp(now.saturating_mul(1000));
        self.account.server_time.learn(now, step.clock());
        let next = self.next_check(step);
        let trust = match self.account.server_time.doubted_for(step.moment) {
            Some(_) => Trust::Doubted,
            None => Trust::Full,
        };
        let held: BTreeSet<_> = one_time.iter().copied().chain(last_resort).collect();
        let wanted = self.packages_wanted();
        let Some(me) = &self.account.me else { return };
        let packages = &mut self.account.packages;
        packages.learn_held(&held, (now, trust), step);
        let replace = self.account.inbox.row.replaces_packages || packages.are_bad(&held, now);
        let missing = wanted.saturating_sub(if replace { 0 } else { one_time.len() });
        let age = packages.newest_last_resort().map(|made| now.since(made));
        let renew = replace || last_resort.is_none() || age.is_none_or(|age| age > LAST_RESORT_AGE);
        if missing == 0 && !renew {
            packages.check = Retry::at(next);
            return;
        }
        // Notices for what was handed out after the server's backup was made are on the way.
        let claimed = if replace { packages.ids() } else { Vec::new() };
        let made = packages.make(me, (missing, renew), now, step);
        self.ask_account(
            AccountThen::PackagesUploaded,
            UploadPackages { packages: made, replace, claimed },
            step,
        );
    }

    pub(super) fn packages_uploaded(
        &mut self,
        result: Result<AccountReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        match session::reply_of::<UploadPackages>(result) {
            Ok(()) => {
                self.packages_replaced(step);
                self.account.packages.check = Retry::at(self.next_check(step));
            }
            // Whether they were stored is unknown or they were not; counting again tells.
            Err(error) => self.packages_failed(&error, step),
        }
    }

    /// When to look again. If the server's clock is the one that is wrong, it may be set right while
    /// the socket stays up, and then what was made by it is no good to anybody.
    fn next_check(&self, step: &Step<'_>) -> Moment {
        let [soon, later] = DOUBTED;
        step.moment.after(match self.account.server_time.doubted_for(step.moment) {
            None => DAY,
            Some(long) if long >= HOUR => later,
            Some(_) => soon,
        })
    }

    fn packages_failed(&mut self, error: &TransportError, step: &mut Step<'_>) {
        self.account.packages.check.failed(error, step.moment, step.rng);
        self.after_account_error(error, step);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
