//! A server of maps, just large enough for one account's side of things.

use std::collections::{BTreeMap, BTreeSet};

use corncrake_core::crypto::signature::SignaturePublicKey;
use corncrake_wire::{
    AccountId, AccountReply, AccountRequest, DeviceId, EntryId, ErrorCode, InboxId, LogId,
    NoticeId, OpenReply, OpenRequest, PackageId, Refusal, SessionToken,
    account::{
        Inbox, LogInStarted, LoggedIn, NewDevice, NewPackage, Notice, PackageList, RenewStarted,
        Session, SignUpStarted, Vault,
    },
    decide,
    log::{AppendReply, LogEntry, Point, ReadReply, Sealed, StatesReply},
    opaque::{LogInState, ServerSecret, check_log_in},
    open::{By, Claimed, ClaimedPackage, Found, SignedRecord},
    session::{RENEWAL_LABEL, renewal_content},
};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

pub(super) const ORIGIN: &str = "http://test.example";

pub(super) struct Server {
    rng: ChaCha20Rng,
    pub(super) secret: ServerSecret,
    pub(super) accounts: BTreeMap<String, Account>,
    pub(super) devices: BTreeMap<DeviceId, Device>,
    sessions: BTreeMap<[u8; 32], (AccountId, Option<DeviceId>)>,
    attempts: BTreeMap<[u8; 16], (String, LogInState)>,
    nonces: BTreeSet<[u8; 32]>,
    pub(super) logs: BTreeMap<LogId, Vec<LogEntry>>,
    pub(super) states: BTreeMap<(LogId, u64), Vec<u8>>,
    pub(super) session_life: u64,
    /// Appends are answered as if they had been carried out.
    pub(super) forgets: bool,
    /// Whether it stores no key packages.
    pub(super) is_full: bool,
    /// How many seconds its clock is ahead where it tells the time.
    pub(super) ahead: u64,
    /// Seconds after which somebody may be looked up again.
    pub(super) busy_for: Option<u32>,
    /// The byte that is changed in what a log-in's first call is answered with.
    pub(super) spoils: Option<usize>,
}

#[derive(Clone)]
pub(super) struct Account {
    pub(super) id: AccountId,
    pub(super) opaque: Vec<u8>,
    vault: Vault,
    pub(super) record: SignedRecord,
}

pub(super) struct Device {
    account: AccountId,
    key: [u8; 32],
    pub(super) inbox: InboxId,
    pub(super) packages: Vec<NewPackage>,
    pub(super) notices: Vec<Notice>,
}

impl Server {
    pub(super) fn new() -> Self {
        let mut rng = ChaCha20Rng::from_seed([7; 32]);
        Self {
            secret: ServerSecret::new(&mut rng),
            rng,
            accounts: BTreeMap::new(),
            devices: BTreeMap::new(),
            sessions: BTreeMap::new(),
            attempts: BTreeMap::new(),
            nonces: BTreeSet::new(),
            logs: BTreeMap::new(),
            states: BTreeMap::new(),
            session_life: 30 * 24 * 3600,
            forgets: false,
            is_full: false,
            ahead: 0,
            busy_for: None,
            spoils: None,
        }
    }

    pub(super) fn end_sessions(&mut self) {
        self.sessions.clear();
    }

    pub(super) fn device_of(&self, session: &SessionToken) -> Option<&Device> {
        let (_, device) = self.sessions.get(&session.digest())?;
        self.devices.get(device.as_ref()?)
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each call")]
    pub(super) fn account(
        &mut self,
        now: u64,
        session: Option<&SessionToken>,
        request: AccountRequest,
    ) -> Result<AccountReply, Refusal> {
        let row = session.and_then(|token| self.sessions.get(&token.digest())).copied();
        let own = row.and_then(|(_, device)| device);
        Ok(match request {
            AccountRequest::SignUpStart(it) => {
                let opaque = self.secret.registration_reply(&it.name, &it.opaque).unwrap();
                AccountReply::SignUpStart(SignUpStarted { opaque })
            }
            AccountRequest::SignUpFinish(it) => {
                if self.accounts.contains_key(&it.name) {
                    return Err(ErrorCode::UsernameTaken.into());
                }
                let vault = Vault { version: 1, bytes: it.vault };
                let account =
                    Account { id: it.account, opaque: it.opaque, vault, record: it.record };
                self.accounts.insert(it.name, account);
                self.add(it.account, &it.device, it.packages);
                AccountReply::SignUpFinish(self.begin(now, it.account, Some(it.device.id)))
            }
            AccountRequest::LogInStart(it) => {
                let record = self.accounts.get(&it.name).map(|account| account.opaque.as_slice());
                let (mut opaque, state) =
                    self.secret.log_in_reply(&it.name, record, &it.opaque, &mut self.rng).unwrap();
                let mut attempt = [0; 16];
                self.rng.fill_bytes(&mut attempt);
                self.attempts.insert(attempt, (it.name, state));
                if let Some(byte) = self.spoils {
                    opaque[byte] ^= 1;
                }
                AccountReply::LogInStart(LogInStarted { attempt, opaque })
            }
            AccountRequest::LogInFinish(it) => {
                let failed = Refusal::from(ErrorCode::LogInFailed);
                let (name, state) = self.attempts.remove(&it.attempt).ok_or(failed)?;
                check_log_in(&state, &it.opaque).map_err(|_| failed)?;
                let account = self.accounts[&name].clone();
                AccountReply::LogInFinish(LoggedIn {
                    session: self.begin(now, account.id, None),
                    account: account.id,
                    vault: account.vault,
                    record: account.record,
                })
            }
            AccountRequest::AddDevice(it) => {
                let (id, _) = row.ok_or(ErrorCode::SessionRequired)?;
                let account = self.accounts.values_mut().find(|account| account.id == id).unwrap();
                if it.record != account.record && it.record.version != account.record.version + 1 {
                    return Err(ErrorCode::VersionConflict.into());
                }
                account.record = it.record;
                account.vault = it.vault;
                it.drop.map(|drop| self.devices.remove(&drop));
                if !self.devices.contains_key(&it.device.id) {
                    self.add(id, &it.device, it.packages);
                }
                AccountReply::AddDevice(self.begin(now, id, Some(it.device.id)))
            }
            AccountRequest::RenewStart(_) => {
                let mut nonce = [0; 32];
                self.rng.fill_bytes(&mut nonce);
                self.nonces.insert(nonce);
                AccountReply::RenewStart(RenewStarted { nonce })
            }
            AccountRequest::Renew(it) => {
                assert!(self.nonces.remove(&it.nonce));
                let device = self.devices.get(&it.device).ok_or(ErrorCode::UnknownDevice)?;
                let content = renewal_content(ORIGIN, &it.account, &it.device, &it.nonce);
                SignaturePublicKey::from_bytes(device.key)
                    .verify_with_label(RENEWAL_LABEL, &content, &it.signature)
                    .unwrap();
                AccountReply::Renew(self.begin(now, it.account, Some(it.device)))
            }
            AccountRequest::ListPackages(_) => {
                let device = &self.devices[&own.ok_or(ErrorCode::SessionRequired)?];
                let of = |last_resort| {
                    let those =
                        device.packages.iter().filter(move |p| p.last_resort == last_resort);
                    those.map(|package| PackageId::of(&package.bytes))
                };
                AccountReply::ListPackages(PackageList {
                    now: now + self.ahead,
                    one_time: of(false).collect(),
                    last_resort: of(true).next(),
                })
            }
            AccountRequest::UploadPackages(_) if self.is_full => {
                return Err(Refusal { code: ErrorCode::StorageFull, retry_after: Some(5) });
            }
            AccountRequest::UploadPackages(it) => {
                let own = own.ok_or(ErrorCode::SessionRequired)?;
                let device = self.devices.get_mut(&own).unwrap();
                if it.replace {
                    device.packages.clear();
                }
                device.upload(it.packages);
                AccountReply::UploadPackages(())
            }
            AccountRequest::ReadInbox(it) => {
                let device = &self.devices[&own.ok_or(ErrorCode::SessionRequired)?];
                let notices = device.notices.iter().filter(|notice| notice.position > it.after);
                let notices = notices.take(1).cloned().collect();
                AccountReply::ReadInbox(Inbox { notices })
            }
            AccountRequest::DeleteNotices(it) => {
                let own = own.ok_or(ErrorCode::SessionRequired)?;
                let device = self.devices.get_mut(&own).unwrap();
                let newest = device.notices.iter().find(|notice| notice.position == it.up_to);
                if newest.is_some_and(|newest| NoticeId::of(&newest.bytes) == it.newest) {
                    device.notices.retain(|notice| notice.position > it.up_to);
                }
                AccountReply::DeleteNotices(())
            }
            other => panic!("{other:?}"),
        })
    }

    pub(super) fn open(&mut self, request: OpenRequest) -> Result<OpenReply, Refusal> {
        Ok(match request {
            OpenRequest::LookUp(_) if self.busy_for.is_some() => {
                let retry_after = self.busy_for;
                return Err(Refusal { code: ErrorCode::RateLimited, retry_after });
            }
            OpenRequest::LookUp(it) => {
                let account = match it.by {
                    By::Name(name) => self.accounts.get_key_value(&name),
                    By::Id(id) => self.accounts.iter().find(|(_, account)| account.id == id),
                };
                let (name, account) = account.ok_or(ErrorCode::UnknownAccount)?;
                OpenReply::LookUp(Found { name: name.clone(), record: account.record.clone() })
            }
            OpenRequest::Claim(it) => {
                let theirs = self.devices.iter_mut().filter(|(_, d)| d.account == it.account);
                let packages = theirs.filter_map(|(id, device)| {
                    let package = device.claim()?;
                    let NewPackage { suite: _, last_resort, bytes } = package;
                    Some(ClaimedPackage { device: *id, last_resort, bytes })
                });
                OpenReply::Claim(Claimed { now: 0, packages: packages.collect() })
            }
            OpenRequest::Deposit(it) => {
                let mut devices = self.devices.values_mut();
                let device = devices.find(|device| device.inbox == it.inbox);
                let notices = &mut device.ok_or(ErrorCode::UnknownInbox)?.notices;
                if notices.iter().all(|notice| notice.bytes != it.notice) {
                    let position = notices.last().map_or(1, |last| last.position + 1);
                    notices.push(Notice { position, bytes: it.notice });
                }
                OpenReply::Deposit(())
            }
            OpenRequest::Append(it) => OpenReply::Append(self.append(it)),
            OpenRequest::States(it) => {
                let log = it.token.log_id();
                let states = self.states.range((log, 0)..=(log, it.at_most));
                let positions = states.rev().map(|((_, position), _)| *position);
                OpenReply::States(StatesReply { positions: positions.collect(), start: None })
            }
            OpenRequest::Read(it) if self.logs.contains_key(&it.token.log_id()) => {
                let log = &self.logs[&it.token.log_id()];
                let page = log.iter().filter(|entry| entry.position > it.after);
                let entries = page.take(it.limit.try_into().unwrap()).cloned().collect();
                let head = log.len() as u64;
                OpenReply::Read(ReadReply { entries, head })
            }
            OpenRequest::Beside(it) => {
                let state = self.states.get(&(it.token.log_id(), it.position));
                let bytes = state.ok_or(ErrorCode::NotFound)?.clone();
                OpenReply::Beside(Sealed { bytes })
            }
            // What chats ask for is not here.
            _ => return Err(ErrorCode::Unavailable.into()),
        })
    }

    fn append(&mut self, append: corncrake_wire::log::Append) -> AppendReply {
        let ids = append.check().unwrap();
        let id = append.token.log_id();
        assert!(self.logs.contains_key(&id) || append.opening.is_some());
        let log = self.logs.entry(id).or_default();
        let head = log.len() as u64;
        let known: Vec<_> = ids.iter().map(|id| position(log, *id)).collect();
        if self.forgets {
            let positions = vec![head];
            return AppendReply::Stored { positions, head };
        }
        let newest =
            log.last().map_or(Point::START, |entry| Point { position: head, id: entry.id() });
        match decide(head, newest, &known, append.kind, append.after) {
            corncrake_wire::Decision::Place { first } => {
                let entry = &append.entries[0];
                let state = entry.state.clone();
                self.states.extend(state.map(|state| ((id, first), state)));
                log.push(LogEntry {
                    position: first,
                    kind: append.kind,
                    bytes: entry.bytes.clone(),
                    expired: None,
                    has_welcome: false,
                    has_state: entry.state.is_some(),
                });
                AppendReply::Stored { positions: vec![first], head: first }
            }
            corncrake_wire::Decision::Stored(positions) => AppendReply::Stored { positions, head },
            corncrake_wire::Decision::Conflict => {
                let missing = log.iter().skip(usize::try_from(append.after.position).unwrap());
                AppendReply::Conflict {
                    newest_commit: newest,
                    head,
                    missing: missing.cloned().collect(),
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn add(&mut self, account: AccountId, device: &NewDevice, packages: Vec<NewPackage>) {
        let NewDevice { id, key, inbox } = *device;
        let mut row = Device { account, key, inbox, packages: Vec::new(), notices: Vec::new() };
        row.upload(packages);
        self.devices.insert(id, row);
    }

    fn begin(&mut self, now: u64, account: AccountId, device: Option<DeviceId>) -> Session {
        let mut token = [0; 32];
        self.rng.fill_bytes(&mut token);
        let token = SessionToken::new(token);
        self.sessions.insert(token.digest(), (account, device));
        Session { token, expires: now + self.session_life }
    }
}

impl Device {
    fn upload(&mut self, packages: Vec<NewPackage>) {
        for package in packages {
            if package.last_resort {
                self.packages.retain(|held| !held.last_resort);
            }
            if !self.packages.contains(&package) {
                self.packages.push(package);
            }
        }
    }

    fn claim(&mut self) -> Option<NewPackage> {
        match self.packages.iter().position(|package| !package.last_resort) {
            Some(at) => Some(self.packages.remove(at)),
            None => self.packages.first().cloned(),
        }
    }
}

fn position(log: &[LogEntry], id: EntryId) -> Option<u64> {
    log.iter().find(|entry| EntryId::of(&entry.bytes) == id).map(|entry| entry.position)
}
