//! What a server gets again that was restored from a backup: the sign-up of the account, kept for
//! 30 days, and what replaced its record since, one after the other. The account's log holds the
//! sign-up and the newest replacements, so that every device can give them, whoever made them.

use core::time::Duration;
use std::collections::BTreeMap;

use corncrake_core::{
    crypto::signature::SignaturePublicKey,
    identity::{AccountRecord, IdentityKey, account_id},
    seal::record::{ReplacementRecord, SignUpRecord},
};
use corncrake_wire::{
    AccountReply, DeviceId, ErrorCode,
    account::{AddDevice, LogOut, RestoreDevice, SignUpFinish},
    codec,
};
use serde::{Deserialize, Serialize};

use super::{
    AccountThen, Retry,
    session::{Over, reply_of},
    wire_account, wire_device,
};
use crate::{
    engine::{State, Step, tables::Table},
    host::Timestamp,
    transport::TransportError,
};

/// The id of the row that keeps requests.
pub(super) const AGAIN_ROW: &[u8] = b"again";
/// How long a sign-up is kept.
const SIGN_UP_KEPT: Duration = Duration::from_hours(30 * 24);
/// How long a device waits for others that have the replacements before those it knows: a device
/// that came with one that is skipped has to log in again.
const OTHERS_FIRST: Duration = Duration::from_mins(5);
/// How often replacements are given while the server gives this device no session.
const ROUNDS: u32 = 3;
/// How often a device asks for a session while the server doesn't know the account: another device
/// may sign it up again.
const TRIES: u32 = 16;

/// Requests that the server may have forgotten, as they are stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct AgainRow {
    /// The sign-up, if this device made it.
    sign_up: Option<SignUpRecord>,
    /// The newest replacement that this device made.
    add: Option<AddDevice>,
    /// Since when the server is known to have lost entries, until it has the newest replacement.
    owed_since: Option<Timestamp>,
}

/// Requests that the server may have forgotten.
#[derive(Debug, Default)]
pub(crate) struct Again {
    pub(super) row: AgainRow,
    /// The version that the server was given or had last, of those that are known.
    given: u64,
    /// Whether it lacks more than the newest one.
    lacks_more: bool,
    /// How often all were given since the last session.
    rounds: u32,
    retry: Retry,
}

impl Again {
    pub(super) fn hurry(&mut self) {
        self.retry.hurry();
    }

    /// The server knows this device.
    pub(super) const fn has_session(&mut self) {
        self.rounds = 0;
    }

    pub(super) fn wake_at(&self) -> Option<crate::host::Moment> {
        self.retry.wake_at().filter(|_| self.row.owed_since.is_some())
    }
}

impl State {
    /// Keeps the sign-up that leaves now.
    pub(super) fn keep_sign_up(
        &mut self,
        request: &SignUpFinish,
        identity: &IdentityKey,
        step: &mut Step<'_>,
    ) {
        // Key packages are made anew: those in the request may have been used.
        let request = SignUpFinish { packages: Vec::new(), ..request.clone() };
        let record = SignUpRecord::issue(step.now.0, codec::encode(&request), identity);
        self.account.again.row.sign_up = Some(record);
        self.store_again(step);
    }

    /// The sign-up that this device made, if it is still kept.
    pub(super) fn own_sign_up(&self) -> Option<SignUpRecord> {
        self.account.again.row.sign_up.clone()
    }

    /// The sign-up, if it is known and still kept: this device's own, or what the account log holds
    /// and the identity key has signed.
    fn kept_sign_up(&self, now: Timestamp) -> Option<SignUpFinish> {
        let me = self.account.me.as_ref()?;
        let own = self.account.again.row.sign_up.iter();
        let mut kept = own.chain(self.account.log.sign_ups()).filter(|kept| !is_old(kept, now));
        kept.find_map(|kept| {
            let request: SignUpFinish = codec::decode(&kept.request).ok()?;
            let identity = SignaturePublicKey::from_bytes(request.identity_key);
            let is_ours = account_id(&identity) == me.account
                && request.account == wire_account(me.account)
                && kept.is_signed_by(&identity);
            is_ours.then_some(request)
        })
    }

    /// Keeps what the server has taken.
    pub(super) fn keep_added(&mut self, request: AddDevice, step: &mut Step<'_>) {
        self.account.again.row.add = Some(AddDevice { packages: Vec::new(), ..request });
        self.store_again(step);
    }

    /// The newest replacement that this device made.
    pub(super) fn own_replacement(&self) -> Option<ReplacementRecord> {
        let add = self.account.again.row.add.as_ref()?;
        Some(ReplacementRecord { version: add.record.version, request: codec::encode(add) })
    }

    /// The replacements that are known, by version.
    fn replacements(&self) -> BTreeMap<u64, AddDevice> {
        let recorded = self.account.log.replacements().filter_map(|record| {
            let request: AddDevice = codec::decode(&record.request).ok()?;
            (request.record.version == record.version).then_some((record.version, request))
        });
        let own = self.account.again.row.add.iter().map(|add| (add.record.version, add.clone()));
        recorded.chain(own).collect()
    }

    /// Forgets a sign-up that is no longer kept.
    pub(super) fn forget_old_sign_up(&mut self, step: &mut Step<'_>) {
        let sign_up = &mut self.account.again.row.sign_up;
        if sign_up.take_if(|kept| is_old(kept, step.now)).is_some() {
            self.store_again(step);
        }
    }

    fn store_again(&self, step: &mut Step<'_>) {
        step.put(Table::Account, AGAIN_ROW, 0, &self.account.again.row);
    }

    /// Forgets a sign-up that came to nothing.
    pub(super) fn forget_again(&mut self, step: &mut Step<'_>) {
        self.account.again.row = AgainRow::default();
        step.delete(Table::Account, AGAIN_ROW, 0);
    }

    /// The server has lost entries, and its account record may be one of them.
    pub(super) fn owe_record(&mut self, step: &mut Step<'_>) {
        if self.replacements().is_empty() {
            return;
        }
        let again = &mut self.account.again;
        again.row.owed_since.get_or_insert(step.now);
        (again.given, again.lacks_more) = (0, false);
        again.retry.hurry();
        self.store_again(step);
    }

    /// Gives the server the newest replacement, and if it lacks more than that, all that are known
    /// in their order.
    pub(super) fn give_record_again(&mut self, step: &mut Step<'_>) {
        let again = &self.account.again;
        let (Some(me), Some(since)) = (&self.account.me, again.row.owed_since) else {
            return;
        };
        if !again.retry.is_due(step.moment) {
            return;
        }
        let account = wire_account(me.account);
        let mut left = self.replacements().split_off(&(again.given + 1));
        let next = if again.lacks_more { left.pop_first() } else { left.pop_last() };
        let Some((version, add)) = next else {
            return self.replacements_are_given(step);
        };
        let is_early = step.now.since(since) < OTHERS_FIRST;
        let least = if is_early { version.saturating_sub(1) } else { 0 };
        let request = RestoreDevice { account, add, least };
        self.account.again.retry.begin();
        self.ask_account_with(None, AccountThen::DeviceRestored(version), request, step);
    }

    pub(super) fn device_restored(
        &mut self,
        version: u64,
        result: Result<AccountReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        let again = &mut self.account.again;
        if let Err(error) = reply_of::<RestoreDevice>(result) {
            match code(&error) {
                // It has a newer one, or another one that was made meanwhile.
                Some(ErrorCode::VersionConflict | ErrorCode::SignatureRefused) => {}
                Some(ErrorCode::VersionGap) if !again.lacks_more => {
                    again.retry = Retry::default();
                    again.lacks_more = true;
                    return self.account_work(step);
                }
                _ => return again.retry.failed(&error, step.moment, step.rng),
            }
        }
        again.retry = Retry::default();
        again.given = version;
        let newest = self.replacements().last_key_value().map_or(0, |(newest, _)| *newest);
        if version >= newest {
            self.replacements_are_given(step);
        }
        self.account_work(step);
    }

    /// The server has been given all that is known: if it doesn't know this device still, a newer
    /// record has left it out.
    fn replacements_are_given(&mut self, step: &mut Step<'_>) {
        let again = &mut self.account.again;
        (again.given, again.lacks_more) = (0, false);
        again.row.owed_since = None;
        if self.account.sessions.current.is_none() {
            again.rounds += 1;
            self.account.sessions.renewal.hurry();
        }
        self.store_again(step);
    }

    /// The server doesn't know this device: it was removed, or a backup was restored.
    pub(super) fn unknown_to_server(&mut self, error: &TransportError, step: &mut Step<'_>) {
        match code(error) {
            Some(ErrorCode::UnknownAccount) => {
                if let Some(request) = self.kept_sign_up(step.now) {
                    self.account.sessions.renewal.begin();
                    let then = AccountThen::SignedUpAgain(request.device.id);
                    self.ask_account_with(None, then, request, step);
                } else if self.account.again.row.add.is_none()
                    || self.account.sessions.renewal.tries() > TRIES
                {
                    self.session_is_over(Over::Removed, step);
                }
            }
            // If it was removed, the server has a newer record than those that are known.
            _ if self.may_be_lost() => self.owe_record(step),
            _ => self.session_is_over(Over::Removed, step),
        }
    }

    /// Whether a replacement that names this device may be one that the server has lost.
    fn may_be_lost(&self) -> bool {
        let replacements = self.replacements();
        let newest = replacements
            .last_key_value()
            .and_then(|(_, newest)| AccountRecord::verify(&newest.record.bytes).ok());
        let (Some(newest), Some(me)) = (newest, &self.account.me) else { return false };
        let names = newest.record().devices.iter().any(|entry| entry.device() == me.device);
        names && self.account.again.rounds < ROUNDS
    }

    pub(super) fn signed_up_again(
        &mut self,
        first: DeviceId,
        result: Result<AccountReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        match reply_of::<SignUpFinish>(result) {
            Ok(session) => {
                if self.account.me.as_ref().is_some_and(|me| wire_device(me.device) == first) {
                    self.begin_session(session, step);
                } else {
                    // It is the first device's, which renews its own; this one comes in with the
                    // replacements.
                    self.ask_account_with(
                        Some(session.token),
                        AccountThen::LoggedOut,
                        LogOut,
                        step,
                    );
                    self.account.sessions.renewal = Retry::default();
                }
                self.account_entries_were_lost(step);
                self.owe_record(step);
            }
            Err(error) => {
                self.account.sessions.renewal.failed(&error, step.moment, step.rng);
                match code(&error) {
                    Some(ErrorCode::UsernameTaken) => self.session_is_over(Over::NameTaken, step),
                    // The account is there after all.
                    Some(ErrorCode::IdTaken) => self.account.sessions.renewal.hurry(),
                    _ => {}
                }
            }
        }
        self.account_work(step);
    }
}

/// Whether a sign-up is no longer kept.
fn is_old(kept: &SignUpRecord, now: Timestamp) -> bool {
    now.since(Timestamp(kept.made)) >= SIGN_UP_KEPT
}

const fn code(error: &TransportError) -> Option<ErrorCode> {
    match error {
        TransportError::Refused(refusal) => Some(refusal.code),
        _ => None,
    }
}
