//! The memory server: the real one's rules over maps, one pure function per plane.
//!
//! A clone is a second server with the same past: two groups of devices that talk to two clones
//! are shown different orders.

pub(crate) mod accounts;
pub(crate) mod logs;

use std::{collections::BTreeMap, rc::Rc};

use corncrake_wire::{
    AccountId, DeviceId, ErrorCode, InboxId, LogId, NoticeId, OpenReply, OpenRequest, Refusal,
    account::Notice,
    limits,
    opaque::{LogInState, ServerSecret},
    open::{By, Claim, Claimed, ClaimedPackage, Deposit, Found, LookUp},
};

use crate::chance::Chance;

use self::{
    accounts::{Account, Device, SessionRow},
    logs::Log,
};

/// Where the server says it is; sessions are renewed for this origin only.
pub(crate) const ORIGIN: &str = "http://world.example";

/// All that the server knows.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) instance: [u8; 16],
    /// Whether it was restored from a backup.
    pub(crate) has_lost: bool,
    /// Seconds since 1970, at the last request.
    pub(crate) now: u64,
    /// How far ahead its clock is, in seconds, where it speaks of key packages.
    pub(crate) ahead: u64,
    /// Entries in a page: few, so that paging is part of every test.
    pub(crate) page: usize,
    /// A planted bug: known ids are looked up only once `after` has been found right.
    pub(crate) looks_up_late: bool,
    pub(crate) logs: BTreeMap<LogId, Log>,
    pub(crate) accounts: BTreeMap<AccountId, Account>,
    pub(crate) devices: BTreeMap<DeviceId, Device>,
    pub(crate) inboxes: BTreeMap<InboxId, Inbox>,
    pub(crate) names: BTreeMap<String, AccountId>,
    sessions: BTreeMap<[u8; 32], SessionRow>,
    attempts: BTreeMap<[u8; 16], (String, Rc<LogInState>)>,
    nonces: BTreeMap<[u8; 32], (AccountId, DeviceId)>,
    secret: Rc<ServerSecret>,
    chance: Chance,
}

/// Letters for one device.
#[derive(Clone, Default)]
pub(crate) struct Inbox {
    pub(crate) notices: BTreeMap<u64, Vec<u8>>,
    newest: u64,
    seen: BTreeMap<NoticeId, u64>,
}

impl Inbox {
    /// What lies in the inbox above `after`.
    pub(crate) fn above(&self, after: u64) -> Vec<Notice> {
        let above = self.notices.range(after + 1..);
        above.map(|(&position, bytes)| Notice { position, bytes: bytes.clone() }).collect()
    }

    /// Puts a notice at the end, whatever it is.
    pub(crate) fn put(&mut self, notice: Vec<u8>) {
        self.newest += 1;
        self.seen.insert(NoticeId::of(&notice), self.newest);
        self.notices.insert(self.newest, notice);
    }
}

impl Server {
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed, "server");
        Self {
            instance: chance.bytes(),
            has_lost: false,
            now: 0,
            ahead: 0,
            page: usize::try_from(chance.between(2, 9)).unwrap(),
            looks_up_late: false,
            logs: BTreeMap::new(),
            accounts: BTreeMap::new(),
            devices: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            names: BTreeMap::new(),
            sessions: BTreeMap::new(),
            attempts: BTreeMap::new(),
            nonces: BTreeMap::new(),
            secret: Rc::new(ServerSecret::new(chance.rng())),
            chance,
        }
    }

    /// Carries out a request of the open plane.
    pub(crate) fn handle_open(&mut self, request: OpenRequest) -> Result<OpenReply, Refusal> {
        let reply = match request {
            OpenRequest::Append(append) => OpenReply::Append(self.append(append)?),
            OpenRequest::Read(read) => OpenReply::Read(self.read(&read)?),
            OpenRequest::Beside(beside) => OpenReply::Beside(self.beside(&beside)?),
            OpenRequest::States(states) => OpenReply::States(self.states(&states)?),
            OpenRequest::LookUp(look_up) => OpenReply::LookUp(self.look_up(&look_up)?),
            OpenRequest::Claim(claim) => OpenReply::Claim(self.claim(&claim)?),
            OpenRequest::Deposit(deposit) => OpenReply::Deposit(self.deposit(deposit)?),
        };
        Ok(reply)
    }

    fn look_up(&self, look_up: &LookUp) -> Result<Found, ErrorCode> {
        let account = match &look_up.by {
            By::Name(name) => self.names.get(name).copied(),
            By::Id(id) => Some(*id),
        };
        let account = account.and_then(|id| self.accounts.get(&id));
        let account = account.ok_or(ErrorCode::UnknownAccount)?;
        Ok(Found { name: account.name.clone(), record: account.record.clone() })
    }

    fn claim(&mut self, claim: &Claim) -> Result<Claimed, ErrorCode> {
        if !self.accounts.contains_key(&claim.account) {
            return Err(ErrorCode::UnknownAccount);
        }
        let mut packages = Vec::new();
        for (&id, device) in self.devices.iter_mut().filter(|(_, d)| d.account == claim.account) {
            let one_time =
                device.packages.iter().position(|p| p.suite == claim.suite && !p.last_resort);
            let taken = match one_time {
                Some(at) => Some(device.packages.remove(at)),
                None => device.packages.iter().find(|p| p.suite == claim.suite).cloned(),
            };
            packages.extend(taken.map(|p| ClaimedPackage {
                device: id,
                last_resort: p.last_resort,
                bytes: p.bytes,
            }));
        }
        Ok(Claimed { now: self.now + self.ahead, packages })
    }

    fn deposit(&mut self, deposit: Deposit) -> Result<(), Refusal> {
        let length = deposit.notice.len();
        if length == 0 || length > limits::NOTICE {
            return Err(ErrorCode::TooLarge.into());
        }
        let mut devices = self.devices.values_mut();
        let device = devices.find(|device| device.inbox == deposit.inbox);
        let uploads = &mut device.ok_or(ErrorCode::UnknownInbox)?.uploads;
        let upload = uploads.get_mut(&deposit.package).ok_or(ErrorCode::UnknownPackage)?;
        let inbox = self.inboxes.get_mut(&deposit.inbox).ok_or(ErrorCode::UnknownInbox)?;
        let id = NoticeId::of(&deposit.notice);
        if inbox.seen.contains_key(&id) {
            return Ok(());
        }
        if inbox.notices.len() >= limits::INBOX {
            return Err(ErrorCode::InboxFull.into());
        }
        let today = self.now / 86_400;
        if upload.last_resort && upload.day != today {
            (upload.day, upload.notices) = (today, 0);
        }
        let most = if upload.last_resort { limits::NOTICES_A_DAY } else { limits::NOTICES };
        if upload.notices >= most {
            let retry_after = upload.last_resort.then_some(3600);
            return Err(Refusal { code: ErrorCode::TooManyNotices, retry_after });
        }
        upload.notices += 1;
        inbox.put(deposit.notice);
        Ok(())
    }
}
