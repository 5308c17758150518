//! Sign-up (architecture §8): a pending row, then one transaction of the server.

use corncrake_core::{
    crypto::signature::SignaturePublicKey,
    derive::Key32,
    identity::{
        AccountRecord, Certificate, ContactKey, DeviceClass, DeviceEntry, IdentityKey, KeyChain,
        Username,
    },
    seal::{
        record::StorageKey,
        vault::{SlotKey, Vault},
    },
};
use corncrake_wire::{
    AccountReply, ErrorCode,
    account::{SignUpFinish, SignUpStart, SignUpStarted},
    opaque::{self, ClientRegistration, FinishError},
    open::SignedRecord,
};
use zeroize::Zeroizing;
use zxcvbn::{Score, zxcvbn};

use super::{
    AccountRow, AccountThen, Me, SlowDone, SlowWork,
    flow::{FlowThen, NewAccount, Path, PendingRow, damaged, normalized},
    session::reply_of,
    wire_account,
};
use crate::{
    engine::{Reply, State, Step},
    error::{Error, Refusal},
    transport::TransportError,
};

/// The version of a new account's record and vault.
const FIRST: u64 = 1;

impl State {
    /// Makes an account, or goes on with one under the same name whose making has no known end.
    pub(super) fn sign_up(
        &mut self,
        name: String,
        password: Zeroizing<String>,
        reply: Reply<()>,
        step: &mut Step<'_>,
    ) {
        if let Err(error) = self.check_sign_up(&name, &password) {
            return step.answer(reply, Err(error));
        }
        let name = name.to_ascii_lowercase();
        self.begin_flow(Path::SignUp, (&name, password), reply, step);
        if let Some(mut pending) = self.account.pending.take() {
            pending.new_account.get_or_insert_with(|| NewAccount {
                identity: Key32::random(step.rng),
                storage_key: StorageKey::random(step.rng),
                contact_key: Key32::random(step.rng),
                sent: false,
            });
            self.keep_pending(pending, step);
        }
        self.work_flow(step);
    }

    fn check_sign_up(&self, name: &str, password: &str) -> Result<(), Error> {
        if self.account.me.is_some() || self.account.flow.is_some() {
            return Err(Refusal::AlreadyHasAccount.into());
        }
        let name = Username::parse(name).map_err(|_| Refusal::BadUsername)?;
        if zxcvbn(&normalized(password), &[name.as_str(), "corncrake"]).score() < Score::Three {
            return Err(Refusal::WeakPassword.into());
        }
        Ok(())
    }

    pub(super) fn start_sign_up(&mut self, step: &mut Step<'_>) -> Result<(), Error> {
        let (Some(flow), Some(pending)) = (&self.account.flow, &self.account.pending) else {
            return Ok(());
        };
        let (client, request) = opaque::register(flow.password.as_bytes(), step.rng)
            .map_err(|_| Refusal::WeakPassword)?;
        let origin = self.origin.clone();
        let request = SignUpStart { name: pending.name.clone(), origin, opaque: request };
        let then = FlowThen::SignUpStarted(Box::new(client));
        self.ask_account_with(None, AccountThen::Flow(then), request, step);
        Ok(())
    }

    pub(super) fn sign_up_started(
        &mut self,
        client: Box<ClientRegistration>,
        result: Result<AccountReply, TransportError>,
        step: &mut Step<'_>,
    ) -> Result<(), Error> {
        let SignUpStarted { opaque: reply } = match reply_of::<SignUpStart>(result) {
            Ok(started) => started,
            Err(error) if is_taken(&error) => {
                let pending = self.account.pending.as_ref();
                let sent = pending.and_then(|pending| pending.new_account.as_ref());
                let first = sent.is_none_or(|account| !account.sent);
                return self.name_taken(first, step);
            }
            Err(error) => {
                self.flow_failed(error, step);
                return Ok(());
            }
        };
        let stretch = self.settings.stretch;
        let work = |seed| SlowWork::Register { client, reply, stretch, seed };
        self.stretch(FlowThen::Registered, work, step);
        Ok(())
    }

    pub(super) fn registered(&mut self, done: SlowDone, step: &mut Step<'_>) -> Result<(), Error> {
        let (upload, export) = done.map_err(|error| match error {
            FinishError::NoMemory => Refusal::NoMemory.into(),
            FinishError::Failed => Error::Untrue("the password protocol failed"),
        })?;
        let Some(pending) = self.account.pending.clone() else {
            return Ok(());
        };
        let Some(new) = pending.new_account.clone() else {
            return Ok(());
        };
        let first = !new.sent;
        let slot = SlotKey::password(export.expose_bytes());
        let Made { row, identity, record, vault } = make_account(&pending, &new, &slot, step)?;
        let me = Me::from_row(row.clone()).ok_or(()).map_err(damaged)?;
        let packages = self.first_packages(&me, step);
        let request = SignUpFinish {
            name: pending.name.clone(),
            account: wire_account(me.account),
            identity_key: *identity.public().as_bytes(),
            opaque: upload,
            vault,
            record: SignedRecord { version: FIRST, bytes: record },
            device: pending.new_device()?,
            packages,
        };
        if let Some(mut pending) = self.account.pending.take() {
            pending.new_account = Some(NewAccount { sent: true, ..new });
            self.keep_pending(pending, step);
        }
        self.keep_sign_up(&request, &identity, step);
        let then = FlowThen::SignedUp { row: Box::new(row), first };
        self.ask_account_with(None, AccountThen::Flow(then), request, step);
        Ok(())
    }

    pub(super) fn signed_up(
        &mut self,
        row: AccountRow,
        first: bool,
        result: Result<AccountReply, TransportError>,
        step: &mut Step<'_>,
    ) -> Result<(), Error> {
        match reply_of::<SignUpFinish>(result) {
            Ok(session) => self.finish_flow(row, session, step),
            Err(error) if is_taken(&error) => return self.name_taken(first, step),
            Err(error) => self.flow_failed(error, step),
        }
        Ok(())
    }

    /// Somebody has the name: another, or we ourselves by a try whose answer was lost. Only a
    /// log-in can tell.
    fn name_taken(&mut self, first: bool, step: &mut Step<'_>) -> Result<(), Error> {
        if first {
            self.drop_pending(step);
            return Err(Refusal::UsernameTaken.into());
        }
        if let Some(flow) = &mut self.account.flow {
            flow.path = Path::Resume;
        }
        self.start_log_in(step)
    }
}

/// A new account: its row, and what the server gets.
struct Made {
    row: AccountRow,
    identity: IdentityKey,
    record: Vec<u8>,
    vault: Vec<u8>,
}

fn make_account(
    pending: &PendingRow,
    new: &NewAccount,
    slot: &SlotKey,
    step: &mut Step<'_>,
) -> Result<Made, Error> {
    let identity = IdentityKey::try_from_seed(new.identity.expose()).map_err(damaged)?;
    let chain = KeyChain::begin(&identity);
    let contact_key = ContactKey::from_key(&new.contact_key);
    let device_key: SignaturePublicKey = pending.device_public()?;
    let certificate =
        Certificate::issue(&identity, &chain, &device_key, FIRST, &DeviceClass::Person)
            .map_err(damaged)?;
    let record = AccountRecord {
        chain: chain.clone(),
        username: Username::parse(&pending.name).map_err(|_| Refusal::BadUsername)?,
        contact_key: contact_key.public(),
        earlier_contact_keys: Vec::new(),
        list_version: FIRST,
        devices: vec![DeviceEntry { key: device_key, since: FIRST }],
        extensions: Vec::new(),
    };
    let record = record.issue(&identity).map_err(damaged)?;
    let account = chain.account_id();
    let vault = Vault {
        identity: identity.clone(),
        chain,
        storage_key: new.storage_key.clone(),
        contact_key,
    };
    let vault =
        vault.seal(account, FIRST, core::slice::from_ref(slot), step.rng).map_err(damaged)?;
    let keys = (new.storage_key.clone(), new.contact_key.clone());
    let row = pending.account_row(certificate, keys, FIRST);
    Ok(Made { row, identity, record, vault })
}

fn is_taken(error: &TransportError) -> bool {
    let TransportError::Refused(refusal) = error else {
        return false;
    };
    matches!(refusal.code, ErrorCode::UsernameTaken | ErrorCode::IdTaken)
}
