//! Claims: one key package of each device of some accounts, checked.

use std::collections::BTreeMap;

use corncrake_core::{
    conversation::check_claimed,
    id::{AccountId, DeviceId, InboxId},
};
use corncrake_wire::{
    ErrorCode, OpenReply,
    open::{Claim, Claimed},
};
use serde::{Deserialize, Serialize};

use super::{AccountThen, Retry, packages::SUITE, session::reply_of, wire_account, wire_device};
use crate::{
    engine::{ClaimThen, State, Step, Then},
    error::{Error, Refusal},
    host::Timestamp,
    transport::TransportError,
};

/// How often a claim is tried before its caller hears that the server is out of reach.
const TRIES: u32 = 3;

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
#[derive(Debug, Default)]
pub(crate) struct Claims {
    jobs: BTreeMap<u64, Job>,
    next_job: u64,
}

/// Several claims for one purpose, one after the other.
#[derive(Debug)]
struct Job {
    accounts: Vec<AccountId>,
    done: usize,
    packages: Vec<ClaimedPackage>,
    then: ClaimThen,
    retry: Retry,
}

impl Claims {
    pub(super) fn is_busy(&self) -> bool {
        !self.jobs.is_empty()
    }

    pub(super) fn hurry(&mut self) {
        self.jobs.values_mut().for_each(|job| job.retry.hurry());
    }

    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.jobs.values().filter_map(|job| job.retry.wake_at()).min()
    }
}

impl State {
    /// Claims a key package of every device of these accounts but this one, all or none of the
    /// accounts; chats get what may be added.
    pub(crate) fn claim(&mut self, accounts: Vec<AccountId>, then: ClaimThen, step: &mut Step<'_>) {
        let claims = &mut self.account.claims;
        let packages = Vec::new();
        let job = Job { accounts, done: 0, packages, then, retry: Retry::default() };
        claims.jobs.insert(claims.next_job, job);
        claims.next_job += 1;
        self.work_claims(step);
    }

    /// Asks for what is due.
    pub(super) fn work_claims(&mut self, step: &mut Step<'_>) {
        let jobs = self.account.claims.jobs.iter();
        let due: Vec<u64> =
            jobs.filter(|(_, job)| job.retry.is_due(step.now)).map(|(number, _)| *number).collect();
        for number in due {
            self.claim_next(number, step);
        }
    }

    pub(super) fn claimed(
        &mut self,
        number: u64,
        result: Result<OpenReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        let Some(job) = self.account.claims.jobs.get_mut(&number) else {
            return;
        };
        let Some(account) = job.accounts.get(job.done).copied() else {
            return;
        };
        let Claimed { packages } = match reply_of::<Claim>(result) {
            Ok(claimed) => claimed,
            Err(error) => {
                job.retry.failed(&error, step.now, step.rng);
                let error = match error {
                    TransportError::Unreachable if job.retry.tries() < TRIES => return,
                    TransportError::Refused(refusal)
                        if refusal.code == ErrorCode::UnknownAccount =>
                    {
                        Refusal::UnknownAccount.into()
                    }
                    error => error.into(),
                };
                return self.end_claim(number, Some(error), step);
            }
        };
        let Some(me) = &self.account.me else { return };
        let is_mine = account == me.account;
        let own_device = me.device;
        let packages: Vec<_> = packages
            .into_iter()
            .filter_map(|package| check(package, account, step.now))
            .filter(|package| package.device != own_device)
            .collect();
        if packages.is_empty() && !is_mine {
            return self.end_claim(number, Some(Refusal::NoKeyPackage.into()), step);
        }
        if is_mine {
            // The claim took one of this device's too.
            self.account.packages.check.hurry();
        }
        job.packages.extend(packages);
        job.done += 1;
        job.retry = Retry::default();
        self.claim_next(number, step);
        self.account_work(step);
    }

    fn claim_next(&mut self, number: u64, step: &mut Step<'_>) {
        let Some(job) = self.account.claims.jobs.get_mut(&number) else {
            return;
        };
        let Some(account) = job.accounts.get(job.done) else {
            return self.end_claim(number, None, step);
        };
        job.retry.begin();
        let account = wire_account(*account);
        let request = Claim { account, suite: SUITE.id(), admission: Vec::new() };
        self.ask_open(Then::Account(AccountThen::Claimed(number)), request, step);
    }

    fn end_claim(&mut self, number: u64, error: Option<Error>, step: &mut Step<'_>) {
        let Some(job) = self.account.claims.jobs.remove(&number) else {
            return;
        };
        self.chats_claimed(job.then, error.map_or(Ok(job.packages), Err), step);
    }
}

/// The package, if whoever adds it may believe it. One device's bad package keeps nobody else out.
fn check(
    claimed: corncrake_wire::open::ClaimedPackage,
    account: AccountId,
    now: Timestamp,
) -> Option<ClaimedPackage> {
    let checked = check_claimed(&claimed.bytes, account, now.0 / 1000).ok()?;
    let (device, inbox) = (checked.device(), checked.inbox());
    (wire_device(device) == claimed.device).then_some(ClaimedPackage {
        bytes: claimed.bytes,
        inbox,
        account,
        device,
    })
}
