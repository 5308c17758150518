//! Removal of a device: the password opens the vault, whose identity key signs a record without it.
//!
//! The rest follows from the record: the server forgets the device, and each of this account's other
//! devices removes its leaves and bars its key in every chat. The vault is sealed anew, with fresh
//! storage and contact keys.

use corncrake_core::{
    id::{AccountId, DeviceId},
    identity::ContactKey,
    seal::vault::{SlotKey, Vault},
};
use corncrake_wire::{
    AccountReply,
    account::{AddDevice, LoggedIn, NewDevice, Vault as SealedVault},
    opaque::ExportKey,
    open::SignedRecord,
    session::Replacement,
};
use zeroize::Zeroizing;

use super::{
    AccountThen, By, Retry,
    flow::{Flow, FlowThen, Path, damaged},
    keys::Pair,
    log_in::{check_pair, take_out},
    session::reply_of,
    wire_account, wire_device, wire_inbox,
};
use crate::{
    engine::{Reply, State, Step, state::NO_ACCOUNT},
    error::{Error, Refusal},
    transport::TransportError,
};

/// A device that is to be removed.
#[derive(Debug)]
pub(super) struct Removal {
    pub(super) device: DeviceId,
    pub(super) password: Zeroizing<String>,
    pub(super) reply: Reply<()>,
}

impl State {
    /// Takes a device out of the account, after those that were asked for before.
    pub(super) fn remove_device(&mut self, removal: Removal, step: &mut Step<'_>) {
        match &self.account.me {
            None => step.answer(removal.reply, Err(NO_ACCOUNT)),
            Some(me) if me.device == removal.device => {
                step.answer(removal.reply, Err(Refusal::ThisDevice.into()));
            }
            Some(_) => {
                self.account.removals.push_back(removal);
                self.remove_next_device(step);
            }
        }
    }

    /// Begins the next removal unless one is under way.
    pub(super) fn remove_next_device(&mut self, step: &mut Step<'_>) {
        if self.account.flow.is_some() {
            return;
        }
        let Some(Removal { device, password, reply }) = self.account.removals.pop_front() else {
            return;
        };
        let path = Path::Remove(device);
        self.account.flow = Some(Flow { password, path, retry: Retry::default(), reply });
        self.work_flow(step);
    }

    /// The password has opened the vault: has the server drop the device.
    pub(super) fn drop_device(
        &mut self,
        export: &ExportKey,
        LoggedIn { session, account, vault, record }: LoggedIn,
        device: DeviceId,
        step: &mut Step<'_>,
    ) -> Result<(), Error> {
        let Some(me) = self.account.me.clone() else {
            return Ok(());
        };
        if account != wire_account(me.account) {
            return Err(Error::Untrue("the username belongs to another account than before"));
        }
        let opened = Vault::open_with_password(
            &vault.bytes,
            me.account,
            vault.version,
            export.expose_bytes(),
        )
        .map_err(|_| Error::Untrue("the vault does not open"))?;
        let mut new = self.accept_record(&By::Id(me.account), (None, &record), step)?.into_record();
        check_pair(&opened, &new, &me.username)?;
        if new.devices.iter().all(|entry| entry.device() != me.device) {
            // What is signed here would name no device that can sign the next one.
            if new.list_version > me.since {
                return Err(Refusal::SignedOut.into());
            }
            // The server has lost the record with which this device came, and gets it again first.
            self.owe_record(step);
            self.flow_failed(TransportError::Unreachable, step);
            self.account_work(step);
            return Ok(());
        }
        let again = self.account.flow.as_ref().is_some_and(|flow| flow.retry.tries() > 0);
        let keys = Pair::of(&opened);
        self.keys_in_vault(keys.clone(), new.list_version, step);
        match take_out(&mut new, device) {
            // The answer to an earlier try was lost.
            Err(_) if again => {
                self.end_flow(Ok(()), step);
                self.account_work(step);
                return Ok(());
            }
            taken => taken?,
        }
        if self.keys_are_old() {
            // The account log of the keys in the vault is still to be opened.
            self.flow_failed(TransportError::Unreachable, step);
            return Ok(());
        }
        new.list_version += 1;
        let fresh = self.stage_keys(keys, new.list_version, step);
        new.renew_contact_key(fresh.public());
        let slot = SlotKey::password(export.expose_bytes());
        let vault = seal_renewed(&opened, (me.account, vault.version + 1), &fresh, &slot, step)?;
        let bytes = new.issue(&opened.identity).map_err(damaged)?;
        let record = SignedRecord { version: new.list_version, bytes };
        let drop = Some(wire_device(device));
        // A device that is there already is only confirmed.
        let device = NewDevice {
            id: wire_device(me.device),
            key: *me.device_key.public().as_bytes(),
            inbox: wire_inbox(me.inbox),
        };
        let replacement = Replacement {
            record: Some(&record),
            vault: Some(&vault),
            add: Some(&device),
            drop: drop.as_ref(),
            ..Replacement::of(&account)
        };
        let signature = opened.identity.sign_replacement(&replacement.content());
        let request = AddDevice { record, vault, device, packages: Vec::new(), drop, signature };
        let then = AccountThen::Flow(FlowThen::DeviceRemoved(Box::new(request.clone())));
        self.ask_account_with(Some(session.token), then, request, step);
        Ok(())
    }

    /// The server has dropped the device: chats follow as soon as the account log says so.
    pub(super) fn device_removed(
        &mut self,
        request: AddDevice,
        result: Result<AccountReply, TransportError>,
        step: &mut Step<'_>,
    ) -> Result<(), Error> {
        let session = match reply_of::<AddDevice>(result) {
            Ok(session) => session,
            Err(error) => {
                self.flow_failed(error, step);
                return Ok(());
            }
        };
        self.begin_session(session, step);
        if let Some(me) = self.account.me.as_ref().map(|me| me.account) {
            self.accept_record(&By::Id(me), (None, &request.record), step)?;
        }
        self.keep_added(request, step);
        self.end_flow(Ok(()), step);
        self.account_work(step);
        Ok(())
    }
}

/// The vault with fresh keys, as its next version.
pub(super) fn seal_renewed(
    opened: &Vault,
    (account, version): (AccountId, u64),
    fresh: &Pair,
    slot: &SlotKey,
    step: &mut Step<'_>,
) -> Result<SealedVault, Error> {
    let renewed = Vault {
        storage_key: fresh.storage.clone(),
        contact_key: ContactKey::from_key(&fresh.contact),
        ..opened.clone()
    };
    let slots = core::slice::from_ref(slot);
    let bytes = renewed.seal(account, version, slots, step.rng).map_err(damaged)?;
    Ok(SealedVault { version, bytes })
}
