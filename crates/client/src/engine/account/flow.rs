//! Sign-up and log-in: what they have in common.
//!
//! Before anything leaves, a pending row holds the keys that this device will have; the password is
//! never stored. Whatever becomes of an answer, the same call goes on with the same keys: the
//! server makes an account or adds a device once, and knows the device's key again.

use corncrake_core::{
    crypto::signature::{SignatureKey, SignaturePublicKey},
    derive::Key32,
    id::{AccountId, DeviceId, InboxId},
    seal::record::StorageKey,
};
use corncrake_wire::{
    AccountReply, ErrorCode,
    account::{AddDevice, NewDevice, Session},
    opaque::{ClientLogIn, ClientRegistration, ExportKey},
};
use rand_core::Rng;
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::{
    AccountRow, AccountThen, Me, Retry, SlowDone, SlowWork, Stage, wire_device, wire_inbox,
};
use crate::{
    engine::{Effect, Reply, State, Step, Then, Work, tables::Table},
    error::Error,
    store::StoreError,
    transport::TransportError,
};

/// How often a flow begins anew before it tells the caller that the server is out of reach.
const TRIES: u32 = 4;

/// The keys of an account or device that is coming to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PendingRow {
    pub(super) name: String,
    device_seed: Key32,
    pub(super) inbox: InboxId,
    pub(super) new_account: Option<NewAccount>,
    /// Whose certificate stands in the key packages of this store.
    pub(super) packages_for: Option<AccountId>,
    /// The highest version of a vault that the password has opened here.
    pub(super) vault_version: u64,
}

/// The secrets of an account that is coming to be; they leave the store when it is known to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NewAccount {
    pub(super) identity: Key32,
    pub(super) storage_key: StorageKey,
    pub(super) contact_key: Key32,
    /// Whether the server may have made the account.
    pub(super) sent: bool,
}

/// A sign-up or log-in with somebody waiting for its end.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(super) password: Zeroizing<String>,
    pub(super) path: Path,
    pub(super) retry: Retry,
    pub(super) reply: Reply<()>,
}

/// The way a flow goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Path {
    SignUp,
    LogIn {
        /// The device that gives way: how its id begins.
        drop: Option<String>,
    },
    /// A sign-up that found its name taken, perhaps by itself.
    Resume,
    /// Not into the account: the password opens its vault to take this device out.
    Remove(DeviceId),
}

/// What to do with an answer to a step of a flow.
#[derive(Debug)]
pub(crate) enum FlowThen {
    SignUpStarted(Box<ClientRegistration>),
    Registered,
    SignedUp { row: Box<AccountRow>, first: bool },
    LogInStarted(Box<ClientLogIn>),
    Stretched([u8; 16]),
    LoggedIn(Box<ExportKey>),
    DeviceAdded(Box<AccountRow>, Box<AddDevice>),
    DeviceRemoved(Box<AddDevice>),
}

/// The password in the one form (NFKC) that OPAQUE is given: keyboards differ in how they write the
/// same characters.
pub(super) fn normalized(password: &str) -> Zeroizing<String> {
    // NFKC makes a text at most 11 times as long: with room for that, no copy is left behind.
    let mut normal = Zeroizing::new(String::with_capacity(password.len().saturating_mul(11)));
    normal.extend(password.nfkc());
    normal
}

impl PendingRow {
    fn new(name: &str, rng: &mut impl rand_core::CryptoRng) -> Self {
        let mut inbox = [0; 32];
        rng.fill_bytes(&mut inbox);
        Self {
            name: name.to_owned(),
            device_seed: Key32::random(rng),
            inbox: InboxId::from_bytes(inbox),
            new_account: None,
            packages_for: None,
            vault_version: 0,
        }
    }

    pub(super) fn device_public(&self) -> Result<SignaturePublicKey, Error> {
        let key = SignatureKey::try_from_seed(self.device_seed.expose()).map_err(damaged)?;
        Ok(key.public())
    }

    pub(super) fn new_device(&self) -> Result<NewDevice, Error> {
        let key = self.device_public()?;
        Ok(NewDevice {
            id: wire_device(corncrake_core::identity::device_id(&key)),
            key: *key.as_bytes(),
            inbox: wire_inbox(self.inbox),
        })
    }

    pub(super) fn account_row(
        &self,
        certificate: Vec<u8>,
        (storage_key, contact_key): (StorageKey, Key32),
        vault_version: u64,
    ) -> AccountRow {
        AccountRow {
            username: self.name.clone(),
            device_seed: self.device_seed.clone(),
            certificate,
            inbox: self.inbox,
            contact_key,
            storage_key,
            vault_version,
        }
    }
}

/// What our own keys gave is wrong: the row they came from is.
pub(super) fn damaged<E>(_: E) -> Error {
    Error::Store(StoreError::Damaged)
}

impl State {
    /// Begins a flow with the keys of an earlier try under the same name, or with new ones.
    pub(super) fn begin_flow(
        &mut self,
        path: Path,
        (name, password): (&str, Zeroizing<String>),
        reply: Reply<()>,
        step: &mut Step<'_>,
    ) {
        let pending = match self.account.pending.take() {
            Some(pending) if pending.name == name => pending,
            _ => {
                self.account.packages.forget(step);
                PendingRow::new(name, step.rng)
            }
        };
        self.keep_pending(pending, step);
        let password = normalized(&password);
        self.account.flow = Some(Flow { password, path, retry: Retry::default(), reply });
    }

    /// Stores the pending row with this step.
    pub(super) fn keep_pending(&mut self, pending: PendingRow, step: &mut Step<'_>) {
        let stage = Stage::Pending(pending);
        step.put(Table::Account, &[], 0, &stage);
        if let Stage::Pending(pending) = stage {
            self.account.pending = Some(pending);
        }
    }

    /// Begins the flow's next try when it is time.
    pub(super) fn work_flow(&mut self, step: &mut Step<'_>) {
        let Some(flow) = &mut self.account.flow else {
            return;
        };
        if !flow.retry.is_due(step.moment) {
            return;
        }
        flow.retry.begin();
        let begun = match flow.path {
            Path::SignUp => self.start_sign_up(step),
            Path::LogIn { .. } | Path::Resume | Path::Remove(_) => self.start_log_in(step),
        };
        self.end_if_failed(begun, step);
    }

    /// Takes an answer of the account plane.
    pub(super) fn flow_replied(
        &mut self,
        then: FlowThen,
        result: Result<AccountReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        let went = match then {
            FlowThen::SignUpStarted(client) => self.sign_up_started(client, result, step),
            FlowThen::SignedUp { row, first } => self.signed_up(*row, first, result, step),
            FlowThen::LogInStarted(client) => self.log_in_started(client, result, step),
            FlowThen::LoggedIn(export) => self.logged_in(&export, result, step),
            FlowThen::DeviceAdded(row, request) => self.device_added(*row, *request, result, step),
            FlowThen::DeviceRemoved(request) => self.device_removed(*request, result, step),
            FlowThen::Registered | FlowThen::Stretched(_) => Ok(()),
        };
        self.end_if_failed(went, step);
    }

    /// A password has been stretched.
    pub(crate) fn account_slow(&mut self, number: u64, done: SlowDone, step: &mut Step<'_>) {
        let Some(Then::Account(AccountThen::Flow(then))) = self.requests.remove(&number) else {
            return;
        };
        let went = match then {
            FlowThen::Registered => self.registered(done, step),
            FlowThen::Stretched(attempt) => self.stretched(attempt, done, step),
            _ => Ok(()),
        };
        self.end_if_failed(went, step);
    }

    /// Has the host stretch the password.
    pub(super) fn stretch(
        &mut self,
        then: FlowThen,
        work: impl FnOnce(Zeroizing<[u8; 32]>) -> SlowWork,
        step: &mut Step<'_>,
    ) {
        let mut seed = Zeroizing::new([0; 32]);
        step.rng.fill_bytes(seed.as_mut_slice());
        let number = self.next_request(Then::Account(AccountThen::Flow(then)));
        step.effects.push(Effect::Slow(number, Work::Password(work(seed))));
    }

    /// The server has the account and this device: both are usable from this step on.
    pub(super) fn finish_flow(&mut self, row: AccountRow, session: Session, step: &mut Step<'_>) {
        self.begin_account(row, step);
        self.begin_session(session, step);
        self.watch_account_log(step);
        self.end_flow(Ok(()), step);
        self.account_work(step);
    }

    /// A call failed: the flow begins anew after a pause, or ends.
    pub(super) fn flow_failed(&mut self, error: TransportError, step: &mut Step<'_>) {
        let passing = match &error {
            TransportError::Unreachable => true,
            TransportError::Malformed => false,
            TransportError::Refused(refusal) => matches!(
                refusal.code,
                ErrorCode::Unavailable
                    | ErrorCode::Internal
                    | ErrorCode::VersionConflict
                    | ErrorCode::SessionRequired
                    | ErrorCode::SessionExpired
            ),
        };
        let Some(flow) = &mut self.account.flow else {
            return;
        };
        flow.retry.failed(&error, step.moment, step.rng);
        if !passing || flow.retry.tries() >= TRIES {
            self.end_flow(Err(error.into()), step);
        }
    }

    /// Answers the caller.
    pub(super) fn end_flow(&mut self, result: Result<(), Error>, step: &mut Step<'_>) {
        if let Some(flow) = self.account.flow.take() {
            step.answer(flow.reply, result);
            self.remove_next_device(step);
        }
    }

    /// The keys to be are of no use any more.
    pub(super) fn drop_pending(&mut self, step: &mut Step<'_>) {
        self.account.pending = None;
        step.delete(Table::Account, &[], 0);
        self.forget_again(step);
        self.account.packages.forget(step);
    }

    /// Key packages for the device that is coming to be: those of an earlier try, which the server
    /// may hold, or new ones.
    pub(super) fn first_packages(
        &mut self,
        me: &Me,
        step: &mut Step<'_>,
    ) -> Vec<corncrake_wire::account::NewPackage> {
        let Some(mut pending) = self.account.pending.take() else {
            return Vec::new();
        };
        if pending.packages_for != Some(me.account) {
            self.account.packages.forget(step);
            let wanted = (self.packages_wanted(), true);
            self.account.packages.make(me, wanted, step.now, step);
            pending.packages_for = Some(me.account);
        }
        self.keep_pending(pending, step);
        self.account.packages.to_upload()
    }

    fn end_if_failed(&mut self, went: Result<(), Error>, step: &mut Step<'_>) {
        if let Err(error) = went {
            self.end_flow(Err(error), step);
        }
    }
}
