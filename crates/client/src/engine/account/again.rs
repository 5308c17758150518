//! What a server gets again that was restored from a backup: the sign-up of the account, kept for
//! 30 days, and the newest account record that this device had signed.

use core::time::Duration;

use corncrake_wire::{
    AccountReply, ErrorCode,
    account::{AddDevice, RestoreDevice, SignUpFinish},
};
use serde::{Deserialize, Serialize};

use super::{
    AccountThen, Retry,
    session::{Over, reply_of},
    wire_account,
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
/// How long a device lets others give the server the records before its own: a device whose record
/// is skipped has to log in again.
const OTHERS_FIRST: Duration = Duration::from_mins(5);
/// How often a device asks for a session while the server doesn't know the account: another device
/// may sign it up again.
const TRIES: u32 = 16;

/// Requests that the server may have forgotten, as they are stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct AgainRow {
    /// The sign-up, without key packages, and when it was made.
    sign_up: Option<(SignUpFinish, Timestamp)>,
    /// The newest record that this device had signed.
    add: Option<AddDevice>,
    /// Since when the server is known to have lost entries after it had that record.
    owed_since: Option<Timestamp>,
}

/// Requests that the server may have forgotten.
#[derive(Debug, Default)]
pub(crate) struct Again {
    pub(super) row: AgainRow,
    retry: Retry,
}

impl Again {
    pub(super) fn hurry(&mut self) {
        self.retry.hurry();
    }

    pub(super) fn wake_at(&self) -> Option<crate::host::Moment> {
        self.retry.wake_at().filter(|_| self.row.owed_since.is_some())
    }
}

impl State {
    /// Keeps the sign-up that leaves now.
    pub(super) fn keep_sign_up(&mut self, request: &SignUpFinish, step: &mut Step<'_>) {
        // Key packages are made anew: those in the request may have been used.
        let request = SignUpFinish { packages: Vec::new(), ..request.clone() };
        self.account.again.row.sign_up = Some((request, step.now));
        self.store_again(step);
    }

    /// Keeps what the server has taken.
    pub(super) fn keep_added(&mut self, request: AddDevice, step: &mut Step<'_>) {
        self.account.again.row.add = Some(AddDevice { packages: Vec::new(), ..request });
        self.store_again(step);
    }

    /// Forgets a sign-up that is no longer kept.
    pub(super) fn forget_old_sign_up(&mut self, step: &mut Step<'_>) {
        let is_old = |kept: &mut (SignUpFinish, Timestamp)| step.now.since(kept.1) >= SIGN_UP_KEPT;
        if self.account.again.row.sign_up.take_if(is_old).is_some() {
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
        let again = &mut self.account.again;
        if again.row.add.is_some() {
            again.row.owed_since.get_or_insert(step.now);
            again.retry.hurry();
            self.store_again(step);
        }
    }

    /// Gives the server the newest record that this device had signed.
    pub(super) fn give_record_again(&mut self, step: &mut Step<'_>) {
        let (Some(me), again) = (&self.account.me, &mut self.account.again) else {
            return;
        };
        let (Some(since), Some(add)) = (again.row.owed_since, again.row.add.clone()) else {
            return;
        };
        if !again.retry.is_due(step.moment) {
            return;
        }
        again.retry.begin();
        let is_early = step.now.since(since) < OTHERS_FIRST;
        let least = if is_early { add.record.version.saturating_sub(1) } else { 0 };
        let request = RestoreDevice { account: wire_account(me.account), add, least };
        self.ask_account_with(None, AccountThen::DeviceRestored, request, step);
    }

    pub(super) fn device_restored(
        &mut self,
        result: Result<AccountReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        let again = &mut self.account.again;
        let refused = match reply_of::<RestoreDevice>(result) {
            Ok(()) => None,
            Err(error) => match code(&error) {
                // It has a newer one, or another one that was made meanwhile.
                Some(ErrorCode::VersionConflict | ErrorCode::SignatureRefused) => Some(error),
                _ => return again.retry.failed(&error, step.moment, step.rng),
            },
        };
        again.retry = Retry::default();
        again.row.owed_since = None;
        self.store_again(step);
        if self.account.sessions.current.is_none() {
            match refused {
                // A newer record doesn't name this device.
                Some(_) => self.session_is_over(Over::Removed, step),
                None => self.account.sessions.renewal.hurry(),
            }
        }
        self.account_work(step);
    }

    /// The server doesn't know this device: it was removed, or a backup was restored.
    pub(super) fn unknown_to_server(&mut self, error: &TransportError, step: &mut Step<'_>) {
        let again = &mut self.account.again;
        match code(error) {
            Some(ErrorCode::UnknownAccount) => {
                let me = self.account.me.as_ref().map(|me| wire_account(me.account));
                let kept = again.row.sign_up.as_ref().map(|(request, _)| request);
                if let Some(request) = kept.filter(|kept| Some(kept.account) == me).cloned() {
                    self.account.sessions.renewal.begin();
                    self.ask_account_with(None, AccountThen::SignedUpAgain, request, step);
                } else if again.row.add.is_none() || self.account.sessions.renewal.tries() > TRIES {
                    self.session_is_over(Over::Removed, step);
                }
            }
            // If it was removed, the server has a newer record than this one.
            _ if again.row.add.is_some() => {
                again.row.owed_since.get_or_insert(step.now);
                again.retry.hurry();
            }
            _ => self.session_is_over(Over::Removed, step),
        }
    }

    pub(super) fn signed_up_again(
        &mut self,
        result: Result<AccountReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        match reply_of::<SignUpFinish>(result) {
            Ok(session) => {
                self.begin_session(session, step);
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

const fn code(error: &TransportError) -> Option<ErrorCode> {
    match error {
        TransportError::Refused(refusal) => Some(refusal.code),
        _ => None,
    }
}
