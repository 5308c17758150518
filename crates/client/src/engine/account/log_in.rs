//! Log-in (architecture §8): the password opens the vault, whose identity key lets this device in.

use corncrake_core::{
    id::{AccountId, DeviceId},
    identity::{
        AccountRecord, Certificate, DeviceClass, DeviceEntry, MAX_DEVICES, Username, VerifiedRecord,
    },
    seal::vault::{SlotKey, Vault},
};
use corncrake_wire::{
    AccountReply, DeviceId as WireDeviceId, ErrorCode,
    account::{AddDevice, LogInFinish, LogInStart, LogInStarted, LoggedIn},
    opaque::{self, ClientLogIn, ExportKey, FinishError},
    open::SignedRecord,
    session::Replacement,
};
use zeroize::Zeroizing;

use super::{
    AccountRow, AccountThen, By, Me, SlowDone, SlowWork,
    flow::{FlowThen, Path, PendingRow, damaged},
    keys::Pair,
    removal::seal_renewed,
    session::reply_of,
    wire_account, wire_device,
};
use crate::{
    engine::{Reply, State, Step},
    error::{Error, Refusal},
    event::Device,
    transport::TransportError,
};

impl State {
    /// Brings an account to this device.
    pub(super) fn log_in(
        &mut self,
        (name, password): (String, Zeroizing<String>),
        drop: Option<String>,
        reply: Reply<()>,
        step: &mut Step<'_>,
    ) {
        if self.account.me.is_some() || self.account.flow.is_some() {
            return step.answer(reply, Err(Refusal::AlreadyHasAccount.into()));
        }
        // A name that nobody can have is as unknown as one that nobody has.
        let Ok(name) = Username::parse(&name) else {
            return step.answer(reply, Err(Refusal::WrongPassword.into()));
        };
        self.begin_flow(Path::LogIn { drop }, (name.as_str(), password), reply, step);
        self.work_flow(step);
    }

    pub(super) fn start_log_in(&mut self, step: &mut Step<'_>) -> Result<(), Error> {
        let Some(flow) = &self.account.flow else {
            return Ok(());
        };
        let (pending, me) = (&self.account.pending, &self.account.me);
        let pending = pending.as_ref().map(|pending| &pending.name);
        let Some(name) = pending.or_else(|| me.as_ref().map(|me| &me.username)) else {
            return Ok(());
        };
        let (client, request) = opaque::log_in(flow.password.as_bytes(), step.rng)
            .map_err(|_| Refusal::WrongPassword)?;
        let origin = self.origin.clone();
        let request = LogInStart { name: name.clone(), origin, opaque: request };
        let then = FlowThen::LogInStarted(Box::new(client));
        self.ask_account_with(None, AccountThen::Flow(then), request, step);
        Ok(())
    }

    pub(super) fn log_in_started(
        &mut self,
        client: Box<ClientLogIn>,
        result: Result<AccountReply, TransportError>,
        step: &mut Step<'_>,
    ) -> Result<(), Error> {
        let LogInStarted { attempt, opaque: reply } = match reply_of::<LogInStart>(result) {
            Ok(started) => started,
            Err(error) => return self.log_in_failed(error, step),
        };
        let stretch = self.settings.stretch;
        let work = |seed| SlowWork::LogIn { client, reply, stretch, seed };
        self.stretch(FlowThen::Stretched(attempt), work, step);
        Ok(())
    }

    pub(super) fn stretched(
        &mut self,
        attempt: [u8; 16],
        done: SlowDone,
        step: &mut Step<'_>,
    ) -> Result<(), Error> {
        let (proof, export) = match done {
            Ok(done) => done,
            Err(FinishError::NoMemory) => return Err(Refusal::NoMemory.into()),
            Err(FinishError::Failed) => return self.wrong_password(step),
        };
        let then = FlowThen::LoggedIn(Box::new(export));
        let request = LogInFinish { attempt, opaque: proof };
        self.ask_account_with(None, AccountThen::Flow(then), request, step);
        Ok(())
    }

    pub(super) fn logged_in(
        &mut self,
        export: &ExportKey,
        result: Result<AccountReply, TransportError>,
        step: &mut Step<'_>,
    ) -> Result<(), Error> {
        let logged_in = match reply_of::<LogInFinish>(result) {
            Ok(logged_in) => logged_in,
            Err(error) => return self.log_in_failed(error, step),
        };
        let drop = match self.account.flow.as_ref().map(|flow| &flow.path) {
            Some(&Path::Remove(device)) => {
                return self.drop_device(export, logged_in, device, step);
            }
            Some(Path::LogIn { drop }) => drop.clone(),
            _ => None,
        };
        let LoggedIn { session, account, mut vault, record } = logged_in;
        let account = AccountId::from_bytes(account.0);
        let Some(mut pending) = self.account.pending.clone() else {
            return Ok(());
        };
        if vault.version < pending.vault_version {
            return Err(Error::Untrue("the vault is older than one seen before"));
        }
        let opened =
            Vault::open_with_password(&vault.bytes, account, vault.version, export.expose_bytes())
                .map_err(|_| Error::Untrue("the vault does not open"))?;
        pending.vault_version = vault.version;
        self.keep_pending(pending.clone(), step);
        let verified = self.accept_record(&By::Id(account), (None, &record), step)?;
        if self.is_resumed_by_another(&opened) {
            self.drop_pending(step);
            return Err(Refusal::UsernameTaken.into());
        }
        let key = pending.device_public()?;
        let is_known = verified.record().devices.iter().any(|device| device.key == key);
        let keys = match &drop {
            // The place of another device is taken: it is removed, and the keys are renewed.
            Some(_) if !is_known => {
                let version = record.version + 1;
                let fresh = self.stage_keys(Pair::of(&opened), version, step);
                let slot = SlotKey::password(export.expose_bytes());
                let next = (account, vault.version + 1);
                vault = seal_renewed(&opened, next, &fresh, &slot, step)?;
                (Pair::of(&opened), Some(fresh))
            }
            // An earlier try may have put its own into the vault, and the log of those before them
            // says what is to be known.
            _ => {
                let staged = self.account.keys.staged(&opened.contact_key.public());
                (staged.map_or_else(|| Pair::of(&opened), |staged| staged.from.clone()), None)
            }
        };
        let Entry { row, record, drop, is_new } =
            enter(&pending, &opened, (verified, drop), (record, vault.version), keys)?;
        let me = Me::from_row(row.clone()).ok_or(()).map_err(damaged)?;
        // What was uploaded with the device stays as it is; later checks fill it up.
        let packages = if is_new { self.first_packages(&me, step) } else { Vec::new() };
        let device = pending.new_device()?;
        let account = wire_account(account);
        let replacement = Replacement {
            record: Some(&record),
            vault: Some(&vault),
            add: Some(&device),
            drop: drop.as_ref(),
            ..Replacement::of(&account)
        };
        let signature = opened.identity.sign_replacement(&replacement.content());
        let request = AddDevice { record, vault, device, packages, drop, signature };
        let kept = Box::new(request.clone());
        let then = AccountThen::Flow(FlowThen::DeviceAdded(Box::new(row), kept));
        self.ask_account_with(Some(session.token), then, request, step);
        Ok(())
    }

    pub(super) fn device_added(
        &mut self,
        row: AccountRow,
        request: AddDevice,
        result: Result<AccountReply, TransportError>,
        step: &mut Step<'_>,
    ) -> Result<(), Error> {
        match reply_of::<AddDevice>(result) {
            Ok(session) => {
                if request.drop.is_some() {
                    let me = Me::from_row(row.clone()).ok_or(()).map_err(damaged)?;
                    self.accept_record(&By::Id(me.account), (None, &request.record), step)?;
                }
                self.keep_added(request, step);
                self.account.keys.send_first(step);
                self.finish_flow(row, session, step);
            }
            Err(error) => self.flow_failed(error, step),
        }
        Ok(())
    }

    /// Whether a sign-up found its name taken by an account that isn't the one it was making.
    fn is_resumed_by_another(&self, opened: &Vault) -> bool {
        let resumed = self.account.flow.as_ref().is_some_and(|flow| flow.path == Path::Resume);
        let own = self.account.pending.as_ref().and_then(|pending| pending.new_account.as_ref());
        resumed && own.is_none_or(|new| new.storage_key != opened.storage_key)
    }

    fn log_in_failed(&mut self, error: TransportError, step: &mut Step<'_>) -> Result<(), Error> {
        match &error {
            TransportError::Refused(refusal) if refusal.code == ErrorCode::LogInFailed => {
                self.wrong_password(step)
            }
            _ => {
                self.flow_failed(error, step);
                Ok(())
            }
        }
    }

    fn wrong_password(&mut self, step: &mut Step<'_>) -> Result<(), Error> {
        let resumed = self.account.flow.as_ref().is_some_and(|flow| flow.path == Path::Resume);
        if resumed {
            self.drop_pending(step);
            return Err(Refusal::UsernameTaken.into());
        }
        Err(Refusal::WrongPassword.into())
    }
}

/// How this device stands in the account.
struct Entry {
    row: AccountRow,
    record: SignedRecord,
    drop: Option<WireDeviceId>,
    is_new: bool,
}

/// Refuses a record that doesn't belong to the vault.
pub(super) fn check_pair(vault: &Vault, record: &AccountRecord, name: &str) -> Result<(), Error> {
    let is_pair = record.chain == vault.chain
        && record.contact_key == vault.contact_key.public()
        && record.username.as_str() == name;
    let refusal = "vault and account record do not belong to each other";
    if is_pair { Ok(()) } else { Err(Error::Untrue(refusal)) }
}

/// Takes a device out of a record.
pub(super) fn take_out(record: &mut AccountRecord, device: DeviceId) -> Result<(), Error> {
    let place = record.devices.iter().position(|entry| entry.device() == device);
    record.devices.remove(place.ok_or(Refusal::UnknownDevice)?);
    Ok(())
}

/// The devices of an account that this device is none of.
fn list(record: &AccountRecord) -> Vec<Device> {
    let device = |entry: &DeviceEntry| Device {
        id: entry.device(),
        name: None,
        since: entry.since,
        this_device: false,
    };
    record.devices.iter().map(device).collect()
}

/// Puts the device into the record, unless an earlier try has.
fn enter(
    pending: &PendingRow,
    vault: &Vault,
    (verified, drop): (VerifiedRecord, Option<String>),
    (signed, vault_version): (SignedRecord, u64),
    (keys, fresh): (Pair, Option<Pair>),
) -> Result<Entry, Error> {
    let mut record = verified.into_record();
    check_pair(vault, &record, &pending.name)?;
    let key = pending.device_public()?;
    let known = record.devices.iter().find(|device| device.key == key).map(|device| device.since);
    let (since, record, drop) = match known {
        Some(since) => (since, signed, None),
        None => {
            let version = record.list_version + 1;
            let drop = drop.map(|typed| Device::find(&list(&record), &typed).map(|found| found.id));
            let drop = drop.transpose()?;
            match drop {
                Some(drop) => take_out(&mut record, drop)?,
                None if record.devices.len() >= MAX_DEVICES => {
                    return Err(Error::TooManyDevices(list(&record)));
                }
                None => {}
            }
            let drop = drop.map(wire_device);
            record.list_version = version;
            if let Some(fresh) = fresh {
                record.renew_contact_key(fresh.public());
            }
            record.devices.push(DeviceEntry { key: key.clone(), since: version });
            let bytes = record.issue(&vault.identity).map_err(damaged)?;
            (version, SignedRecord { version, bytes }, drop)
        }
    };
    let certificate =
        Certificate::issue(&vault.identity, &vault.chain, &key, since, &DeviceClass::Person)
            .map_err(damaged)?;
    let row = pending.account_row(certificate, (keys.storage, keys.contact), vault_version);
    Ok(Entry { row, record, drop, is_new: known.is_none() })
}
