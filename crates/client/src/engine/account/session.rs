//! The session: the right to act for the account, renewed by the device's key.

use core::time::Duration;

use corncrake_wire::{
    AccountReply, AccountRequest, Call, ErrorCode, SessionToken,
    account::{Renew, RenewStart, RenewStarted, Session},
    session::{RENEWAL_LABEL, renewal_content},
};
use serde::{Deserialize, Serialize};

use super::{AccountThen, Retry, wire_account, wire_device};
use crate::{
    engine::{Effect, State, Step, Then, tables::Table},
    host::{Clock, Moment, Timestamp},
    transport::TransportError,
};

/// How long before its end a session is renewed.
const RENEW_BEFORE: Duration = Duration::from_hours(7 * 24);

/// What is waited at least and at most before a session is renewed that the server still takes.
const RENEW_EARLIEST: Duration = Duration::from_hours(1);
const RENEW_LATEST: Duration = Duration::from_hours(23 * 24);

/// Between two renewals at the least.
const PAUSE: Duration = Duration::from_secs(5);

/// The session as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SessionRow {
    pub(super) token: SessionToken,
    /// When to renew it, long before its end.
    renew_from: Timestamp,
}

impl SessionRow {
    fn new(session: Session, now: Timestamp) -> Self {
        let Session { token, expires } = session;
        let lasts = Timestamp(expires.saturating_mul(1000)).since(now);
        // A clock that is far off must lead neither to a renewal every few seconds nor to none.
        let wait = lasts - RENEW_BEFORE.min(lasts / 2);
        let renew_from = now.after(wait.clamp(RENEW_EARLIEST, RENEW_LATEST));
        Self { token, renew_from }
    }
}

/// The session and its renewal.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub(super) current: Option<SessionRow>,
    /// When to renew it; see [`Sessions::renew_at`].
    renew_at: Moment,
    pub(super) renewal: Retry,
    /// Why there will be no more; the next start asks once more.
    pub(super) over: Option<Over>,
}

/// Why the server gives this device no session any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// It was removed from the account.
    Removed,
    /// The server lost the account, and somebody else has its name.
    NameTaken,
}

impl Sessions {
    /// Takes the session that the store holds.
    pub(super) fn load(&mut self, row: SessionRow, clock: Clock) {
        self.renew_at = clock.until(row.renew_from, RENEW_LATEST).unwrap_or_default();
        self.current = Some(row);
    }

    /// When to renew the session: at once if there is none.
    fn renew_at(&self) -> Moment {
        self.current.as_ref().map_or_else(Moment::default, |_| self.renew_at)
    }

    pub(super) fn wake_at(&self) -> Option<Moment> {
        self.renewal.wake_at().filter(|_| self.over.is_none()).map(|at| at.max(self.renew_at()))
    }
}

/// Whether a refusal means that another session is needed.
pub(super) fn is_about_session(error: &TransportError) -> bool {
    let TransportError::Refused(refusal) = error else {
        return false;
    };
    matches!(
        refusal.code,
        ErrorCode::SessionRequired | ErrorCode::SessionExpired | ErrorCode::DeviceRequired
    )
}

/// Whether a refusal means that no session will ever be given to this device again.
fn is_about_device(error: &TransportError) -> bool {
    let TransportError::Refused(refusal) = error else {
        return false;
    };
    matches!(refusal.code, ErrorCode::UnknownDevice | ErrorCode::UnknownAccount)
}

/// The reply of one kind of call among those of its plane.
pub(super) fn reply_of<C: Call>(
    result: Result<C::Replies, TransportError>,
) -> Result<C::Reply, TransportError> {
    result.and_then(|reply| C::unwrap(reply).ok_or(TransportError::Malformed))
}

impl State {
    /// Asks on the account plane, with the session of this device if there is one.
    pub(super) fn ask_account(
        &mut self,
        then: AccountThen,
        request: impl Into<AccountRequest>,
        step: &mut Step<'_>,
    ) {
        let token = self.account.sessions.current.as_ref().map(|session| session.token.clone());
        self.ask_account_with(token, then, request, step);
    }

    /// Asks on the account plane with this session or with none.
    pub(super) fn ask_account_with(
        &mut self,
        session: Option<SessionToken>,
        then: AccountThen,
        request: impl Into<AccountRequest>,
        step: &mut Step<'_>,
    ) {
        let number = self.next_request(Then::Account(then));
        step.effects.push(Effect::Account(number, session, request.into()));
    }

    /// The account plane's socket, or a call, found the session no good.
    pub(crate) fn session_refused(&mut self, step: &mut Step<'_>) {
        if self.account.sessions.renewal.is_busy() {
            return;
        }
        self.account.sessions.current = None;
        step.delete(Table::Session, &[], 0);
        self.account_work(step);
    }

    /// Begins a renewal when it is time.
    pub(super) fn renew_session(&mut self, step: &mut Step<'_>) {
        let Some(me) = &self.account.me else { return };
        let sessions = &mut self.account.sessions;
        let is_due = sessions.over.is_none() && sessions.renewal.is_due(step.moment);
        if step.moment < sessions.renew_at() || !is_due {
            return;
        }
        sessions.renewal.begin();
        let request =
            RenewStart { account: wire_account(me.account), device: wire_device(me.device) };
        self.ask_account_with(None, AccountThen::RenewStarted, request, step);
    }

    pub(super) fn renewal_started(
        &mut self,
        result: Result<AccountReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        let RenewStarted { nonce } = match reply_of::<RenewStart>(result) {
            Ok(started) => started,
            Err(error) => return self.renewal_failed(&error, step),
        };
        let Some(me) = &self.account.me else { return };
        let (account, device) = (wire_account(me.account), wire_device(me.device));
        let content = renewal_content(&self.origin, &account, &device, &nonce);
        let signature = me.device_key.sign_with_label(RENEWAL_LABEL, &content);
        let request = Renew { account, device, nonce, signature };
        self.ask_account_with(None, AccountThen::Renewed, request, step);
    }

    pub(super) fn renewed(
        &mut self,
        result: Result<AccountReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        match reply_of::<Renew>(result) {
            Ok(session) => {
                self.begin_session(session, step);
                self.account_work(step);
            }
            Err(error) => self.renewal_failed(&error, step),
        }
    }

    /// Stores a session and watches the inbox with it.
    pub(super) fn begin_session(&mut self, session: Session, step: &mut Step<'_>) {
        let row = SessionRow::new(session, step.now);
        step.put(Table::Session, &[], 0, &row);
        let renewal = Retry::at(step.moment.after(PAUSE));
        self.account.sessions = Sessions { renewal, ..Sessions::default() };
        self.account.sessions.load(row, step.clock());
        self.account.packages.check.hurry();
        self.account.again.has_session();
        self.watch_inbox(step);
    }

    fn renewal_failed(&mut self, error: &TransportError, step: &mut Step<'_>) {
        if !self.account.sessions.renewal.is_busy() {
            // A log-in or a removal has brought a session meanwhile.
            return;
        }
        self.account.sessions.renewal.failed(error, step.moment, step.rng);
        if is_about_device(error) {
            self.unknown_to_server(error, step);
        }
        self.account_work(step);
    }

    /// There will be no more sessions.
    pub(super) fn session_is_over(&mut self, why: Over, step: &mut Step<'_>) {
        self.account.sessions.over = Some(why);
        self.session_refused(step);
        if why == Over::Removed {
            self.chats_signed_out(step);
        }
    }
}
