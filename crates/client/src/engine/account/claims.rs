//! Claims: one key package of each device of some accounts, checked.

use corncrake_core::{
    conversation::{Claimed as Checked, Error as ConversationError, check_claimed},
    id::{AccountId, DeviceId, InboxId},
    seal::record::AccountLogRecord,
};
use corncrake_wire::{
    OpenReply,
    open::{Claim, Claimed},
};
use serde::{Deserialize, Serialize};

use super::{
    AccountThen,
    jobs::{Ask, Ended, Jobs, is_about_one},
    packages::SUITE,
    session::reply_of,
    wire_account, wire_device,
};
use crate::{
    engine::{ClaimThen, State, Step, Then},
    error::{Error, Refusal},
    host::Timestamp,
    transport::TransportError,
};

/// A claimed key package that may be added.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ClaimedPackage {
    /// The key package.
    pub(crate) bytes: Vec<u8>,
    /// Where its notice goes.
    pub(crate) inbox: InboxId,
    /// Whose it is.
    pub(crate) account: AccountId,
    /// The device.
    pub(crate) device: DeviceId,
}

/// Claims under way.
pub(super) type Claims = Jobs<AccountId, ClaimedPackage, ClaimThen>;

impl State {
    /// Claims a key package of every device of these accounts but this one, all or none of the
    /// accounts; chats get what may be added.
    pub(crate) fn claim(
        &mut self,
        mut accounts: Vec<AccountId>,
        then: ClaimThen,
        step: &mut Step<'_>,
    ) {
        // A claim takes a package of this device too, so it is made only where there are others.
        // One of which nothing here tells yet comes in by itself.
        if let Some(me) = self.account.me() {
            let mut records = self.account.log.records();
            let is_named = records.any(|record| match record {
                AccountLogRecord::DeviceName(name) => name.device != me.device,
                _ => false,
            });
            let own = self.account.contact(&me.account);
            if !is_named && own.is_some_and(|own| own.devices.len() <= 1) {
                accounts.retain(|account| *account != me.account);
            }
        }
        let number = self.account.claims.begin(accounts, then.until(), then);
        self.claim_goes_on(number, step);
    }

    /// Asks for what is due, and ends what has no more time.
    pub(super) fn work_claims(&mut self, step: &mut Step<'_>) {
        while let Some(number) = self.account.claims.overdue(step.moment) {
            self.end_claim(number, None, step);
        }
        while let Some((ask, account)) = self.account.claims.ask(step.moment) {
            let account = wire_account(account);
            let request = Claim { account, suite: SUITE.id(), admission: Vec::new() };
            self.ask_open(Then::Account(AccountThen::Claimed(ask)), request, step);
        }
    }

    fn claim_goes_on(&mut self, number: u64, step: &mut Step<'_>) {
        if self.account.claims.is_done(number) {
            self.end_claim(number, None, step);
        }
        self.work_claims(step);
    }

    pub(super) fn claimed(
        &mut self,
        ask: Ask,
        result: Result<OpenReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        let Some(account) = self.account.claims.question(ask) else {
            return;
        };
        let Claimed { now, packages } = match reply_of::<Claim>(result) {
            Ok(claimed) => claimed,
            Err(error) => {
                let error = self.account.claims.failed(ask, (error, self.online.open), step);
                if let Some(error) = error {
                    self.claim_failed_for_one(ask, error, step);
                }
                return self.work_claims(step);
            }
        };
        self.account.server_time.learn(Timestamp(now.saturating_mul(1000)), step.clock());
        let times = self.account.times(step.clock());
        let Some(me) = &self.account.me else { return };
        let is_mine = account == me.account;
        let own_device = me.device;
        let packages: Vec<_> = packages
            .into_iter()
            .filter_map(|package| check(package, account, times))
            .filter(|package| package.device != own_device)
            .collect();
        if packages.is_empty() && !is_mine {
            return self.claim_failed_for_one(ask, Refusal::NoKeyPackage.into(), step);
        }
        if is_mine {
            // The claim took one of this device's too.
            self.account.packages.check.hurry();
        }
        self.account.claims.answered(ask, packages);
        self.claim_goes_on(ask.job, step);
        self.account_work(step);
    }

    /// Nobody's device can be added of one account: that ends the job, or the others go on.
    fn claim_failed_for_one(&mut self, ask: Ask, error: Error, step: &mut Step<'_>) {
        let claims = &mut self.account.claims;
        match claims.purpose(ask.job) {
            Some(then) if then.leaves_out() && is_about_one(&error) => {
                claims.leave_out(ask, error);
                self.claim_goes_on(ask.job, step);
            }
            _ => self.end_claim(ask.job, Some(error), step),
        }
    }

    fn end_claim(&mut self, number: u64, error: Option<Error>, step: &mut Step<'_>) {
        if let Some(Ended { then, found, left_out }) = self.account.claims.end(number) {
            self.chats_claimed(then, error.map_or(Ok((found, left_out)), Err), step);
        }
    }
}

/// The package, if whoever adds it may believe it. One device's bad package keeps nobody else out.
fn check(
    claimed: corncrake_wire::open::ClaimedPackage,
    account: AccountId,
    times: [Timestamp; 2],
) -> Option<ClaimedPackage> {
    let checked = check_at(&claimed.bytes, account, times).ok()?;
    let (device, inbox) = (checked.device(), checked.inbox());
    (wire_device(device) == claimed.device).then_some(ClaimedPackage {
        bytes: claimed.bytes,
        inbox,
        account,
        device,
    })
}

/// Checks a key package, which must be in its lifetime at one of these times.
pub(crate) fn check_at(
    bytes: &[u8],
    account: AccountId,
    times: [Timestamp; 2],
) -> Result<Checked, ConversationError> {
    let [here, there] = times.map(|time| time.0 / 1000);
    check_claimed(bytes, account, here).or_else(|error| match here == there {
        true => Err(error),
        false => check_claimed(bytes, account, there),
    })
}
