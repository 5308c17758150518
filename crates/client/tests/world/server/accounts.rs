//! The account plane of the memory server.

use std::collections::BTreeMap;

use corncrake_core::crypto::signature::SignaturePublicKey;
use corncrake_wire::{
    AccountId, AccountReply, AccountRequest, DeviceId, ErrorCode, InboxId, NoticeId, PackageId,
    Refusal, SessionToken,
    account::{
        AddDevice, DeviceHoldings, Holdings, Inbox, ListPackages, LogInFinish, LogInStart,
        LogInStarted, LoggedIn, NewDevice, NewPackage, PackageList, Renew, RenewStart,
        RenewStarted, RestoreDevice, Session, SignUpFinish, SignUpStart, SignUpStarted, Vault,
    },
    limits,
    opaque::{check_log_in, check_record},
    open::SignedRecord,
    session::{RENEWAL_LABEL, REPLACEMENT_LABEL, Replacement, renewal_content},
};

use super::{Chance, ORIGIN, Server};

/// An account's row.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) record: SignedRecord,
    pub(crate) vault: Vault,
    opaque: Vec<u8>,
    identity_key: [u8; 32],
}

/// A device's row.
#[derive(Clone)]
pub(crate) struct Device {
    pub(crate) account: AccountId,
    pub(crate) inbox: InboxId,
    pub(crate) packages: Vec<NewPackage>,
    key: [u8; 32],
    /// Every package that was uploaded.
    pub(crate) uploads: BTreeMap<PackageId, Upload>,
}

/// A package that notices may be for.
#[derive(Clone, Copy, Default)]
pub(crate) struct Upload {
    pub(crate) last_resort: bool,
    /// How many notices came, on that day if it is of last resort.
    pub(crate) notices: u32,
    pub(crate) day: u64,
}

/// A session's row.
#[derive(Clone, Copy)]
pub(crate) struct SessionRow {
    account: AccountId,
    device: Option<DeviceId>,
    /// Seconds since 1970.
    expires: u64,
}

impl Server {
    /// Carries out a request of the account plane; `now` in seconds since 1970.
    pub(crate) fn handle_account(
        &mut self,
        now: u64,
        session: Option<&SessionToken>,
        request: AccountRequest,
    ) -> Result<AccountReply, Refusal> {
        type Q = AccountRequest;
        type A = AccountReply;
        let reply = match request {
            Q::SignUpStart(request) => A::SignUpStart(self.sign_up_start(&request)?),
            Q::SignUpFinish(request) => A::SignUpFinish(self.sign_up_finish(now, request)?),
            Q::LogInStart(request) => A::LogInStart(self.log_in_start(&request)?),
            Q::LogInFinish(request) => A::LogInFinish(self.log_in_finish(now, &request)?),
            Q::RenewStart(request) => A::RenewStart(self.renew_start(&request)),
            Q::Renew(request) => A::Renew(self.renew(now, &request)?),
            Q::RestoreDevice(request) => A::RestoreDevice(self.restore_device(request)?),
            request => self.handle_own(now, self.session(now, session)?, session, request)?,
        };
        Ok(reply)
    }

    fn handle_own(
        &mut self,
        now: u64,
        row: SessionRow,
        token: Option<&SessionToken>,
        request: AccountRequest,
    ) -> Result<AccountReply, ErrorCode> {
        type Q = AccountRequest;
        type A = AccountReply;
        let device = row.device.ok_or(ErrorCode::DeviceRequired);
        let reply = match request {
            Q::AddDevice(request) => A::AddDevice(self.add_device(now, row.account, request)?),
            Q::GetVault(_) => A::GetVault(self.account(row.account)?.vault.clone()),
            Q::ReplaceVault(request) => {
                let vault = Some(&request.vault);
                let replacement = Replacement { vault, ..Replacement::of(&row.account) };
                self.check_replacement(&replacement, &request.signature)?;
                let account = self.account(row.account)?;
                let next = account.vault.version + 1;
                if request.vault != account.vault && request.vault.version != next {
                    return Err(ErrorCode::VersionConflict);
                }
                account.vault = request.vault;
                A::ReplaceVault(())
            }
            Q::ReplaceRecord(request) => {
                let record = Some(&request.record);
                let replacement = Replacement { record, ..Replacement::of(&row.account) };
                self.check_replacement(&replacement, &request.signature)?;
                A::ReplaceRecord(self.replace_record(row.account, request.record)?)
            }
            Q::UploadPackages(request) => {
                let device = device?;
                if let Some(device) = self.devices.get_mut(&device) {
                    if request.replace {
                        device.packages.clear();
                    }
                    for package in request.claimed {
                        device.uploads.entry(package).or_default();
                    }
                }
                A::UploadPackages(self.upload_packages(device, request.packages)?)
            }
            Q::ListPackages(request) => A::ListPackages(self.list_packages(now, device?, request)?),
            Q::ReadInbox(request) => {
                let inbox = self.device_inbox(device?)?;
                let mut notices = inbox.above(request.after);
                notices.truncate(usize::try_from(request.limit.clamp(1, 8)).unwrap());
                A::ReadInbox(Inbox { notices })
            }
            Q::DeleteNotices(request) => {
                let inbox = self.device_inbox(device?)?;
                let newest = inbox.notices.get(&request.up_to);
                if newest.is_some_and(|newest| NoticeId::of(newest) == request.newest) {
                    inbox.notices = inbox.notices.split_off(&(request.up_to + 1));
                }
                A::DeleteNotices(())
            }
            Q::WhatYouHold(_) => A::WhatYouHold(self.holdings(row.account)?),
            Q::LogOut(_) => {
                self.sessions.remove(&token.ok_or(ErrorCode::SessionRequired)?.digest());
                A::LogOut(())
            }
            _ => return Err(ErrorCode::UnknownRoute),
        };
        Ok(reply)
    }

    /// The device and its inbox behind a session, for the account plane's socket.
    pub(crate) fn session_device(&self, now: u64, token: &SessionToken) -> Option<DeviceId> {
        self.session(now, Some(token)).ok()?.device
    }

    fn session(&self, now: u64, token: Option<&SessionToken>) -> Result<SessionRow, ErrorCode> {
        let row = token.and_then(|token| self.sessions.get(&token.digest()));
        let row = *row.ok_or(ErrorCode::SessionRequired)?;
        if row.expires <= now { Err(ErrorCode::SessionExpired) } else { Ok(row) }
    }

    fn account(&mut self, id: AccountId) -> Result<&mut Account, ErrorCode> {
        self.accounts.get_mut(&id).ok_or(ErrorCode::UnknownAccount)
    }

    fn device_inbox(&mut self, device: DeviceId) -> Result<&mut super::Inbox, ErrorCode> {
        let device = self.devices.get(&device).ok_or(ErrorCode::UnknownDevice)?;
        self.inboxes.get_mut(&device.inbox).ok_or(ErrorCode::UnknownInbox)
    }

    fn begin_session(&mut self, now: u64, account: AccountId, device: Option<DeviceId>) -> Session {
        let token = SessionToken::new(self.chance.bytes());
        let life = if device.is_some() { limits::SESSION } else { 600 };
        let expires = now + life;
        self.sessions.insert(token.digest(), SessionRow { account, device, expires });
        Session { token, expires }
    }

    fn sign_up_start(&self, request: &SignUpStart) -> Result<SignUpStarted, ErrorCode> {
        check_origin(&request.origin)?;
        self.check_name(&request.name)?;
        let opaque = self.secret.registration_reply(&request.name, &request.opaque);
        Ok(SignUpStarted { opaque: opaque.map_err(|_| ErrorCode::Malformed)? })
    }

    fn check_name(&self, name: &str) -> Result<(), ErrorCode> {
        if !limits::is_username(name) {
            Err(ErrorCode::InvalidName)
        } else if self.names.contains_key(name) {
            Err(ErrorCode::UsernameTaken)
        } else {
            Ok(())
        }
    }

    fn sign_up_finish(&mut self, now: u64, request: SignUpFinish) -> Result<Session, ErrorCode> {
        if self.accounts.contains_key(&request.account) {
            return Err(ErrorCode::IdTaken);
        }
        self.check_name(&request.name)?;
        check_record(&request.opaque).map_err(|_| ErrorCode::Malformed)?;
        if request.record.version != 1 {
            return Err(ErrorCode::VersionConflict);
        }
        self.insert_device(request.account, &request.device, request.packages)?;
        self.names.insert(request.name.clone(), request.account);
        let account = Account {
            name: request.name,
            record: request.record,
            vault: Vault { version: 1, bytes: request.vault },
            opaque: request.opaque,
            identity_key: request.identity_key,
        };
        self.accounts.insert(request.account, account);
        Ok(self.begin_session(now, request.account, Some(request.device.id)))
    }

    fn log_in_start(&mut self, request: &LogInStart) -> Result<LogInStarted, ErrorCode> {
        check_origin(&request.origin)?;
        let account = self.names.get(&request.name).and_then(|id| self.accounts.get(id));
        let record = account.map(|account| account.opaque.clone());
        let (opaque, state) = self
            .secret
            .log_in_reply(&request.name, record.as_deref(), &request.opaque, self.chance.rng())
            .map_err(|_| ErrorCode::Malformed)?;
        let attempt = self.chance.bytes();
        self.attempts.insert(attempt, (request.name.clone(), state.into()));
        Ok(LogInStarted { attempt, opaque })
    }

    fn log_in_finish(&mut self, now: u64, request: &LogInFinish) -> Result<LoggedIn, ErrorCode> {
        let (name, state) = self.attempts.remove(&request.attempt).ok_or(ErrorCode::LogInFailed)?;
        check_log_in(&state, &request.opaque).map_err(|_| ErrorCode::LogInFailed)?;
        let id = *self.names.get(&name).ok_or(ErrorCode::LogInFailed)?;
        let session = self.begin_session(now, id, None);
        let account = self.account(id)?;
        Ok(LoggedIn {
            session,
            account: id,
            vault: account.vault.clone(),
            record: account.record.clone(),
        })
    }

    fn add_device(
        &mut self,
        now: u64,
        account: AccountId,
        request: AddDevice,
    ) -> Result<Session, ErrorCode> {
        self.check_added(account, &request)?;
        let confirms = self
            .devices
            .get(&request.device.id)
            .is_some_and(|d| d.account == account && d.key == request.device.key);
        if !confirms {
            let devices = self.devices.values().filter(|d| d.account == account).count();
            if devices >= limits::DEVICES && request.drop.is_none() {
                return Err(ErrorCode::TooManyDevices);
            }
        }
        self.check_next_record(account, &request.record)?;
        let vault = &self.account(account)?.vault;
        if request.vault != *vault && request.vault.version != vault.version + 1 {
            return Err(ErrorCode::VersionConflict);
        }
        if confirms {
            self.upload_packages(request.device.id, request.packages)?;
        } else {
            self.insert_device(account, &request.device, request.packages)?;
        }
        if let Some(dropped) = request.drop.and_then(|drop| self.devices.remove(&drop)) {
            self.inboxes.remove(&dropped.inbox);
            self.sessions.retain(|_, row| row.device != request.drop);
        }
        self.replace_record(account, request.record)?;
        self.account(account)?.vault = request.vault;
        Ok(self.begin_session(now, account, Some(request.device.id)))
    }

    fn restore_device(&mut self, request: RestoreDevice) -> Result<(), ErrorCode> {
        let RestoreDevice { account: id, add, least } = request;
        self.check_added(id, &add)?;
        let account = self.account(id)?;
        if account.record.version < least {
            return Err(ErrorCode::VersionGap);
        }
        let is_later = add.record == account.record || add.record.version > account.record.version;
        let is_renewed = add.vault.version > account.vault.version;
        if !(is_renewed || add.vault == account.vault && is_later) {
            return Err(ErrorCode::VersionConflict);
        }
        account.record = add.record;
        account.vault = add.vault;
        if let Some(dropped) = add.drop.and_then(|drop| self.devices.remove(&drop)) {
            self.inboxes.remove(&dropped.inbox);
            self.sessions.retain(|_, row| row.device != add.drop);
        }
        match self.devices.contains_key(&add.device.id) {
            true => self.upload_packages(add.device.id, add.packages),
            false => self.insert_device(id, &add.device, add.packages),
        }
    }

    fn check_added(&mut self, account: AccountId, add: &AddDevice) -> Result<(), ErrorCode> {
        let replacement = Replacement {
            record: Some(&add.record),
            vault: Some(&add.vault),
            add: Some(&add.device),
            drop: add.drop.as_ref(),
            ..Replacement::of(&account)
        };
        self.check_replacement(&replacement, &add.signature)
    }

    fn check_replacement(
        &mut self,
        replacement: &Replacement<'_>,
        signature: &[u8],
    ) -> Result<(), ErrorCode> {
        let key = self.account(*replacement.account)?.identity_key;
        SignaturePublicKey::from_bytes(key)
            .verify_with_label(REPLACEMENT_LABEL, &replacement.content(), signature)
            .map_err(|_| ErrorCode::SignatureRefused)
    }

    fn insert_device(
        &mut self,
        account: AccountId,
        device: &NewDevice,
        packages: Vec<NewPackage>,
    ) -> Result<(), ErrorCode> {
        if self.devices.contains_key(&device.id) || self.inboxes.contains_key(&device.inbox) {
            return Err(ErrorCode::IdTaken);
        }
        self.inboxes.insert(device.inbox, super::Inbox::default());
        let row = Device {
            account,
            inbox: device.inbox,
            packages: Vec::new(),
            key: device.key,
            uploads: BTreeMap::new(),
        };
        self.devices.insert(device.id, row);
        self.upload_packages(device.id, packages)
    }

    fn check_next_record(
        &mut self,
        account: AccountId,
        record: &SignedRecord,
    ) -> Result<(), ErrorCode> {
        let account = self.account(account)?;
        if *record != account.record && record.version != account.record.version + 1 {
            return Err(ErrorCode::VersionConflict);
        }
        Ok(())
    }

    fn replace_record(
        &mut self,
        account: AccountId,
        record: SignedRecord,
    ) -> Result<(), ErrorCode> {
        self.check_next_record(account, &record)?;
        self.account(account)?.record = record;
        Ok(())
    }

    /// Loses all that it knows of an account, and nothing else.
    pub(crate) fn forget_account(&mut self, account: AccountId) {
        self.accounts.remove(&account).unwrap();
        self.names.retain(|_, of| *of != account);
        self.sessions.retain(|_, row| row.account != account);
        let (gone, left) = std::mem::take(&mut self.devices)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, device)| device.account == account);
        self.devices = left;
        self.inboxes.retain(|inbox, _| gone.values().all(|device| device.inbox != *inbox));
    }

    /// Else it gives out the tokens and nonces again that it gave out before.
    pub(crate) fn draw_anew(&mut self, seed: u64) {
        self.chance = Chance::new(seed, "after a restore");
    }

    /// What a server does that notices that its database is an old copy.
    pub(crate) fn forget_used_packages(&mut self) {
        for device in self.devices.values_mut() {
            device.packages.retain(|package| package.last_resort);
        }
    }

    fn upload_packages(
        &mut self,
        device: DeviceId,
        packages: Vec<NewPackage>,
    ) -> Result<(), ErrorCode> {
        let device = self.devices.get_mut(&device).ok_or(ErrorCode::UnknownDevice)?;
        let mut held = device.packages.clone();
        for package in packages {
            if package.bytes.len() > limits::KEY_PACKAGE {
                return Err(ErrorCode::TooLarge);
            }
            if held.contains(&package) {
                continue;
            }
            if package.last_resort {
                held.retain(|other| !other.last_resort || other.suite != package.suite);
            }
            held.push(package);
        }
        if held.iter().filter(|package| !package.last_resort).count() > limits::KEY_PACKAGES {
            return Err(ErrorCode::TooManyPackages);
        }
        for package in &held {
            let upload = Upload { last_resort: package.last_resort, ..Upload::default() };
            device.uploads.entry(PackageId::of(&package.bytes)).or_insert(upload);
        }
        device.packages = held;
        Ok(())
    }

    fn list_packages(
        &self,
        now: u64,
        device: DeviceId,
        request: ListPackages,
    ) -> Result<PackageList, ErrorCode> {
        let device = self.devices.get(&device).ok_or(ErrorCode::UnknownDevice)?;
        let of_suite = device.packages.iter().filter(|package| package.suite == request.suite);
        let (last_resort, one_time): (Vec<_>, Vec<_>) =
            of_suite.partition(|package| package.last_resort);
        let id = |package: &&NewPackage| PackageId::of(&package.bytes);
        Ok(PackageList {
            now: now + self.ahead,
            one_time: one_time.iter().map(id).collect(),
            last_resort: last_resort.first().map(id),
        })
    }

    fn renew_start(&mut self, request: &RenewStart) -> RenewStarted {
        let nonce = self.chance.bytes();
        self.nonces.insert(nonce, (request.account, request.device));
        RenewStarted { nonce }
    }

    fn renew(&mut self, now: u64, request: &Renew) -> Result<Session, ErrorCode> {
        let (account, id) = self.nonces.remove(&request.nonce).ok_or(ErrorCode::LogInFailed)?;
        if !self.accounts.contains_key(&account) {
            return Err(ErrorCode::UnknownAccount);
        }
        let device = self.devices.get(&id).ok_or(ErrorCode::UnknownDevice)?;
        if (account, id) != (request.account, request.device) || device.account != account {
            return Err(ErrorCode::LogInFailed);
        }
        let content = renewal_content(ORIGIN, &account, &id, &request.nonce);
        SignaturePublicKey::from_bytes(device.key)
            .verify_with_label(RENEWAL_LABEL, &content, &request.signature)
            .map_err(|_| ErrorCode::LogInFailed)?;
        Ok(self.begin_session(now, account, Some(id)))
    }

    fn holdings(&mut self, id: AccountId) -> Result<Holdings, ErrorCode> {
        let devices = self.devices.iter().filter(|(_, device)| device.account == id);
        let devices = devices
            .map(|(&name, device)| DeviceHoldings {
                device: name,
                added_day: 0,
                packages: u32::try_from(device.packages.len()).unwrap(),
                notices: u32::try_from(self.inboxes[&device.inbox].notices.len()).unwrap(),
            })
            .collect();
        let sessions = self.sessions.values().filter(|row| row.account == id).count();
        let account = self.account(id)?;
        Ok(Holdings {
            name: account.name.clone(),
            signed_up_day: 0,
            record: (account.record.version, account.record.bytes.len() as u64),
            vault: (account.vault.version, account.vault.bytes.len() as u64),
            devices,
            sessions: u32::try_from(sessions).unwrap(),
        })
    }
}

fn check_origin(seen: &str) -> Result<(), ErrorCode> {
    if seen == ORIGIN { Ok(()) } else { Err(ErrorCode::UnknownOrigin) }
}
