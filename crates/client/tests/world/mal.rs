//! Mal: a member without an engine. He holds core's own types, reads the server's maps directly,
//! and appends what he likes. While he behaves he is a member like any other.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use corncrake_core::{
    content::{Body, Message},
    conversation::{
        Change, ContextExtension, Conversation, Entry, EntryKind, KnockKey, Lifetime, LogItem, Me,
        OwnCommit, OwnEntry, Reading, State, Use, check_claimed, new_key_package,
    },
    crypto::signature::SignatureKey,
    id::{AccountId, EntryId, InboxId},
    identity::{
        AccountRecord, Certificate, ContactKey, DeviceClass, DeviceEntry, IdentityKey, KeyChain,
        Username, contact_agreement,
    },
    mls::{
        PartId,
        codec::{Decode, Encode},
        key_package::{KeyPackage, KeyPackageKeys},
    },
    seal::{
        envelope::{Beside, Seed, entry_id},
        notice::Notice,
    },
};
use corncrake_wire::{
    AccessToken, AccountReply, AccountRequest, LogId, OpenReply, OpenRequest, PackageId,
    account::{NewDevice, NewPackage, SignUpFinish, SignUpStart},
    limits,
    log::{Append, AppendReply, EntryKind as WireKind, NewEntry, Point},
    opaque::{self, Stretch},
    open::{By, Claim, Deposit, LookUp, SignedRecord},
};

use crate::{
    chance::Chance,
    craft::Crafted,
    network::{Network, Touched},
    server::{ORIGIN, Server},
    trace::short,
    world::World,
};

const SUITE: u16 = 3;

/// Mal's account and device.
pub(crate) struct Mal {
    pub(crate) name: String,
    pub(crate) account: AccountId,
    pub(crate) identity: IdentityKey,
    pub(crate) chain: KeyChain,
    pub(crate) device_key: SignatureKey,
    pub(crate) certificate: Vec<u8>,
    contact: ContactKey,
    inbox: InboxId,
    packages: Vec<(Vec<u8>, KeyPackageKeys)>,
    network: Network,
    server: Rc<RefCell<Server>>,
    now: u64,
    pub(crate) chance: Chance,
    /// Whether notices name another entry than the commit's.
    pub(crate) misleads: bool,
}

/// Mal's place in one log of a conversation.
pub(crate) struct Seat {
    pub(crate) seed: Seed,
    pub(crate) conversation: Conversation,
    /// Saved parts of the conversation, secrets and all.
    pub(crate) parts: BTreeMap<PartId, Vec<u8>>,
    /// What Mal wrote, by inner bytes: the secrets of a commit, nothing for a message.
    own: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// What was said, as Mal heard it.
    pub(crate) heard: Vec<String>,
    /// What every entry was, as far as Mal read it.
    pub(crate) readings: Vec<(u64, Reading)>,
}

impl Mal {
    /// Signs up, with one device and a few key packages.
    pub(crate) fn sign_up(world: &World, name: &str) -> Self {
        world.network().expect_attacks();
        let mut chance = Chance::new(world.seed(), name);
        let identity = IdentityKey::generate(chance.rng());
        let chain = KeyChain::begin(&identity);
        let device_key = SignatureKey::generate(chance.rng());
        let certificate =
            Certificate::issue(&identity, &chain, &device_key.public(), 1, &DeviceClass::Person);
        let mut mal = Self {
            name: name.to_owned(),
            account: chain.account_id(),
            contact: ContactKey::generate(chance.rng()),
            inbox: InboxId::from_bytes(chance.bytes()),
            certificate: certificate.unwrap(),
            identity,
            chain,
            device_key,
            packages: Vec::new(),
            network: world.network().clone(),
            server: world.server(),
            now: world.executor().now() / 1000,
            chance,
            misleads: false,
        };
        mal.register();
        mal
    }

    fn register(&mut self) {
        let record = AccountRecord {
            chain: self.chain.clone(),
            username: Username::parse(&self.name).unwrap(),
            contact_key: self.contact.public(),
            earlier_contact_keys: Vec::new(),
            list_version: 1,
            devices: vec![DeviceEntry { key: self.device_key.public(), since: 1 }],
            extensions: b"of a later version".to_vec(),
        };
        let record = record.issue(&self.identity).unwrap();
        let packages = (0..5).map(|number| self.new_package(number == 0)).collect();
        let (state, request) = opaque::register(b"mal", self.chance.rng()).unwrap();
        let start =
            SignUpStart { name: self.name.clone(), origin: ORIGIN.to_owned(), opaque: request };
        let AccountReply::SignUpStart(started) = self.ask(start.into()) else { panic!() };
        let stretch = Stretch::with(|_, output| output.fill(7));
        let (upload, _) = state.finish(&started.opaque, stretch, self.chance.rng()).unwrap();
        let certificate = Certificate::parse_and_verify(&self.certificate).unwrap();
        let finish = SignUpFinish {
            name: self.name.clone(),
            account: (*self.account.as_bytes()).into(),
            identity_key: *self.identity.public().as_bytes(),
            opaque: upload,
            vault: vec![0],
            record: SignedRecord { version: 1, bytes: record },
            device: NewDevice {
                id: (*certificate.device().as_bytes()).into(),
                key: *self.device_key.public().as_bytes(),
                inbox: (*self.inbox.as_bytes()).into(),
            },
            packages,
        };
        self.ask(finish.into());
    }

    /// Replaces the account record by one with another contact key, as who removes a device does.
    pub(crate) fn change_contact_key(&mut self) {
        self.contact = ContactKey::generate(self.chance.rng());
        let mut record =
            AccountRecord::verify(&self.look_up(&self.name).bytes).unwrap().into_record();
        record.list_version += 1;
        record.contact_key = self.contact.public();
        let bytes = record.issue(&self.identity).unwrap();
        let account = (*self.account.as_bytes()).into();
        let mut server = self.server.borrow_mut();
        server.accounts.get_mut(&account).unwrap().record =
            SignedRecord { version: record.list_version, bytes };
    }

    fn ask(&self, request: AccountRequest) -> AccountReply {
        self.server.borrow_mut().handle_account(self.now, None, request).unwrap()
    }

    /// Leaves at the server, in place of the packages of both, one of each whose keys are the same:
    /// either is good, both together make a tree that nobody may build.
    pub(crate) fn share_keys_with(&mut self, other: &mut Self) {
        other.chance = self.chance.clone();
        for mal in [self, other] {
            let package = mal.new_package(false);
            let certificate = Certificate::parse_and_verify(&mal.certificate).unwrap();
            let device = (*certificate.device().as_bytes()).into();
            mal.server.borrow_mut().devices.get_mut(&device).unwrap().packages = vec![package];
        }
    }

    fn new_package(&mut self, last_resort: bool) -> NewPackage {
        let usage = if last_resort { Use::LastResort } else { Use::Once };
        let lifetime = Lifetime { not_before: 0, not_after: u64::MAX };
        let me = Me {
            account: self.account,
            device_key: &self.device_key,
            certificate: &self.certificate,
        };
        let made = new_key_package(&me, self.inbox, lifetime, usage, self.chance.rng());
        self.packages.push((made.bytes.clone(), made.keys));
        NewPackage { suite: SUITE, last_resort, bytes: made.bytes }
    }

    pub(crate) fn me(&self) -> Me<'_> {
        Me { account: self.account, device_key: &self.device_key, certificate: &self.certificate }
    }

    /// Notes something in the trace under Mal's name.
    pub(crate) fn note(&self, what: impl std::fmt::Display) {
        self.network.trace().note(&self.name, what);
    }

    /// Asks the server on the open plane, at once and without faults.
    pub(crate) fn open(&self, request: impl Into<OpenRequest>) -> OpenReply {
        self.server.borrow_mut().handle_open(request.into()).unwrap()
    }

    pub(crate) fn look_up(&self, name: &str) -> SignedRecord {
        let look_up = LookUp { by: By::Name(name.to_owned()), admission: Vec::new() };
        let OpenReply::LookUp(found) = self.open(look_up) else { panic!() };
        found.record
    }

    /// The id of somebody's account.
    pub(crate) fn account_of(&self, name: &str) -> AccountId {
        AccountRecord::verify(&self.look_up(name).bytes).unwrap().account()
    }

    /// The first seed of a chat with somebody.
    pub(crate) fn direct_seed(&self, name: &str, n: u64) -> Seed {
        let record = AccountRecord::verify(&self.look_up(name).bytes).unwrap();
        let theirs = &record.record().contact_key;
        contact_agreement(&self.contact, theirs, self.account, record.account(), n).unwrap()
    }

    /// Claims somebody's key packages.
    pub(crate) fn claim(&self, name: &str) -> Vec<corncrake_core::conversation::Claimed> {
        let account = self.account_of(name);
        let wire = (*account.as_bytes()).into();
        let claim = Claim { account: wire, suite: SUITE, admission: Vec::new() };
        let OpenReply::Claim(claimed) = self.open(claim) else { panic!() };
        let claimed = claimed.packages.iter();
        claimed.map(|p| check_claimed(&p.bytes, account, self.now).unwrap()).collect()
    }

    /// Puts notices into somebody's inbox, each with a seed that leads nowhere, as many as the
    /// server takes for all packages that there are to claim; gives how many those are.
    pub(crate) fn invite_to_nothing(&mut self, name: &str) -> usize {
        let mut taken = 0;
        let mut seen = BTreeSet::new();
        loop {
            let devices = self.claim(name);
            let package = devices[0].package();
            let id = PackageId::of(&package.to_bytes());
            if !seen.insert(id) {
                break;
            }
            for _ in 0..limits::INBOX {
                let seed = Seed::random(self.chance.rng());
                let entry = EntryId::from_bytes(self.chance.bytes());
                let notice = Notice { seed, position: 1, entry, running: None };
                let reference = package.reference();
                let (to, by) =
                    ((&reference, &package.init_key), (&self.device_key, &*self.certificate));
                let notice = notice.seal(to, by, self.chance.rng()).unwrap();
                let inbox = (*devices[0].inbox().as_bytes()).into();
                let deposit = Deposit { inbox, package: id, notice, admission: Vec::new() };
                if self.server.borrow_mut().handle_open(deposit.into()).is_err() {
                    break;
                }
                taken += 1;
            }
        }
        self.network.announce(&self.server, Touched::Inboxes);
        taken
    }

    /// Takes the seat that the newest notice in the inbox offers.
    pub(crate) fn sit(&mut self) -> Seat {
        let inbox = (*self.inbox.as_bytes()).into();
        let notices = self.server.borrow().inboxes[&inbox].above(0);
        let newest = notices.last().expect("a notice in Mal's inbox");
        let reference = Notice::package(&newest.bytes).unwrap();
        let (package, keys) = self
            .packages
            .iter()
            .find(|(bytes, _)| KeyPackage::decode_exact(bytes).unwrap().reference() == reference)
            .cloned()
            .expect("Mal's own package");
        let (notice, _) = Notice::open(&newest.bytes, &keys.init).unwrap();
        let mut seat = Seat::enter(self, notice.seed, notice.position);
        seat.read_up_to(self, notice.position);
        let welcome = seat.beside(self, notice.position, Beside::Welcome(notice.entry));
        seat.conversation.join(&welcome, &package, &keys).unwrap();
        seat.read(self);
        self.note(format!("sits in {}", short(seat.log().as_bytes())));
        seat
    }
}

impl Seat {
    /// Founds a group with these people.
    pub(crate) fn found(mal: &mut Mal, seed: Seed, title: &str, names: &[&str]) -> Self {
        let context = ContextExtension::group(mal.account, title);
        Self::found_as(mal, seed, context, names)
    }

    /// Founds what calls itself a chat of two.
    pub(crate) fn found_direct(mal: &mut Mal, seed: Seed, with: &str) -> Self {
        Self::found_as(mal, seed, ContextExtension::direct(), &[with])
    }

    fn found_as(mal: &mut Mal, seed: Seed, context: ContextExtension, names: &[&str]) -> Self {
        let keys = seed.log_keys();
        let mut chance = mal.chance.clone();
        let (conversation, opening) =
            Conversation::found(&mal.me(), seed.conversation_id(), context, keys.log, chance.rng())
                .unwrap();
        mal.chance = chance;
        let mut seat = Self {
            seed,
            conversation,
            parts: BTreeMap::new(),
            own: BTreeMap::new(),
            heard: Vec::new(),
            readings: Vec::new(),
        };
        seat.save();
        let claimed = names.iter().flat_map(|name| mal.claim(name)).collect();
        let commit = seat.make(mal, Change::add(claimed));
        seat.own.insert(commit.inner.clone(), Some(commit.pending.expose().to_vec()));
        let welcome = commit.welcome.as_deref();
        let position = seat.append_with(mal, &commit.inner, welcome, None, Some(&opening.encode()));
        seat.notify(mal, &commit, position);
        seat.read(mal);
        seat
    }

    /// Folds a log from its newest state at or before `position`.
    fn enter(mal: &Mal, seed: Seed, position: u64) -> Self {
        let keys = seed.log_keys();
        let server = mal.server.borrow();
        let log = &server.logs[&LogId(*keys.log.as_bytes())];
        let mut at = position;
        let sealed = loop {
            if at == 0 {
                break log.opening.clone();
            }
            if let Some(state) = &log.entries[usize::try_from(at).unwrap() - 1].1.state {
                break state.clone();
            }
            at -= 1;
        };
        let (place, id) = match at {
            0 => (Beside::Opening, EntryId::from_bytes([0; 32])),
            at => {
                let id = entry_id(&log.entries[usize::try_from(at).unwrap() - 1].1.bytes);
                (Beside::State(id), id)
            }
        };
        let state = keys.envelope.open_beside(keys.log, place, &sealed).unwrap();
        let state = State::decode(&state).unwrap();
        let conversation = Conversation::fold(&state, keys.log, (at, id)).unwrap();
        Self {
            seed,
            conversation,
            parts: BTreeMap::new(),
            own: BTreeMap::new(),
            heard: Vec::new(),
            readings: Vec::new(),
        }
    }

    pub(crate) fn log(&self) -> LogId {
        LogId(*self.seed.log_keys().log.as_bytes())
    }

    /// Opens what lies beside an entry.
    fn beside(&self, mal: &Mal, position: u64, place: Beside) -> Vec<u8> {
        let keys = self.seed.log_keys();
        let server = mal.server.borrow();
        let entry = &server.logs[&self.log()].entries[usize::try_from(position).unwrap() - 1].1;
        let sealed = match place {
            Beside::Welcome(_) => entry.welcome.as_ref(),
            _ => entry.state.as_ref(),
        };
        keys.envelope.open_beside(keys.log, place, sealed.unwrap()).unwrap().to_vec()
    }

    /// Reads the log to its head; follows a handover whose seed is known.
    pub(crate) fn read(&mut self, mal: &Mal) {
        self.read_up_to(mal, u64::MAX);
    }

    fn read_up_to(&mut self, mal: &Mal, last: u64) {
        loop {
            let next = self.read_log(mal, last);
            self.save();
            let Some(seed) = next else { return };
            self.seed = seed;
            let keys = self.seed.log_keys();
            self.conversation.continue_in(keys.log);
            if !mal.server.borrow().logs.contains_key(&self.log()) {
                return;
            }
        }
    }

    fn read_log(&mut self, mal: &Mal, last: u64) -> Option<Seed> {
        let keys = self.seed.log_keys();
        let from = self.conversation.position();
        let entries = mal.server.borrow().logs.get(&self.log())?.page(from, usize::MAX);
        for entry in entries.into_iter().filter(|entry| entry.position <= last) {
            let kind = core_kind(entry.kind);
            let inner = keys.envelope.open(keys.log, kind, &entry.bytes).ok();
            let own = inner.as_ref().and_then(|inner| self.own.get(inner.as_slice()));
            let reading = self.conversation.read(LogItem {
                position: entry.position,
                id: EntryId::from_bytes(*corncrake_wire::EntryId::of(&entry.bytes).as_bytes()),
                kind,
                inner: inner.as_ref().map(|inner| inner.as_slice()),
                own: own.map(|pending| match pending {
                    Some(pending) => OwnEntry::Commit(pending),
                    None => OwnEntry::Message,
                }),
            });
            self.readings.push((entry.position, reading.clone()));
            match reading {
                Reading::Message { content, .. } => {
                    if let Ok(Message { body: Body::Text(text), .. }) = Message::decode(&content) {
                        self.heard.push(text);
                    }
                }
                Reading::Closed { next_seed: Some(seed), .. } => return Some(seed),
                _ => {}
            }
        }
        None
    }

    fn save(&mut self) {
        for (part, bytes) in self.conversation.take_changes() {
            match bytes {
                Some(bytes) => drop(self.parts.insert(part, bytes)),
                None => drop(self.parts.remove(&part)),
            }
        }
    }

    /// Appends an entry; gives its position.
    pub(crate) fn append(&mut self, mal: &mut Mal, inner: &[u8]) -> u64 {
        self.append_with(mal, inner, None, None, None)
    }

    /// Appends a crafted commit; Mal himself goes on with it if it counts.
    pub(crate) fn strike(&mut self, mal: &mut Mal, crafted: &Crafted) -> u64 {
        self.own.insert(crafted.inner.clone(), Some(crafted.pending.clone()));
        let position = self.append(mal, &crafted.inner);
        self.read(mal);
        position
    }

    /// Appends an entry with what lies beside it; gives its position.
    pub(crate) fn append_with(
        &mut self,
        mal: &mut Mal,
        inner: &[u8],
        welcome: Option<&[u8]>,
        state: Option<&[u8]>,
        opening: Option<&[u8]>,
    ) -> u64 {
        let kind = Entry::decode(inner).map_or(EntryKind::Message, |entry| entry.kind());
        let keys = self.seed.log_keys();
        let rng = mal.chance.rng();
        let bytes = keys.envelope.seal(keys.log, kind, inner, rng).unwrap();
        let id = entry_id(&bytes);
        let mut beside = |place, inner: &[u8]| {
            keys.envelope.seal_beside(keys.log, place, inner, mal.chance.rng()).unwrap()
        };
        let entry = NewEntry {
            welcome: welcome.map(|inner| beside(Beside::Welcome(id), inner)),
            state: state.map(|inner| beside(Beside::State(id), inner)),
            bytes,
        };
        let opening = opening.map(|inner| beside(Beside::Opening, inner));
        self.append_sealed(mal, wire_kind(kind), entry, opening)
    }

    /// The sealed bytes of an entry.
    pub(crate) fn sealed(&self, mal: &mut Mal, inner: &[u8]) -> Vec<u8> {
        let kind = Entry::decode(inner).map_or(EntryKind::Message, |entry| entry.kind());
        let keys = self.seed.log_keys();
        keys.envelope.seal(keys.log, kind, inner, mal.chance.rng()).unwrap()
    }

    /// Appends sealed bytes after whatever is newest; gives their position.
    pub(crate) fn append_sealed(
        &self,
        mal: &Mal,
        kind: WireKind,
        entry: NewEntry,
        opening: Option<Vec<u8>>,
    ) -> u64 {
        Self::append_at(mal, &self.seed, kind, entry, opening)
    }

    /// Appends sealed bytes to the log of another seed.
    pub(crate) fn append_to(mal: &Mal, seed: &Seed, kind: WireKind, entry: NewEntry) {
        Self::append_at(mal, seed, kind, entry, None);
    }

    fn append_at(
        mal: &Mal,
        seed: &Seed,
        kind: WireKind,
        entry: NewEntry,
        opening: Option<Vec<u8>>,
    ) -> u64 {
        let keys = seed.log_keys();
        let log = LogId(*keys.log.as_bytes());
        let after =
            mal.server.borrow().logs.get(&log).map_or(Point::START, |log| log.newest_commit);
        let append = Append {
            token: AccessToken::new(*keys.access_token.expose()),
            kind,
            after,
            entries: vec![entry],
            opening,
            admission: Vec::new(),
        };
        let what = crate::trace::open(&append.clone().into());
        let OpenReply::Append(AppendReply::Stored { positions, .. }) = mal.open(append) else {
            panic!("Mal's append is refused");
        };
        mal.note(format!("→ {what}: stored at {positions:?}"));
        mal.network.announce(&mal.server, Touched::Log(log));
        positions[0]
    }

    /// Seals the newest entry of the log again, and appends it.
    pub(crate) fn repeat(&self, mal: &mut Mal) {
        let keys = self.seed.log_keys();
        let newest = mal.server.borrow().logs[&self.log()].page(0, usize::MAX).pop().unwrap();
        let kind = core_kind(newest.kind);
        let inner = keys.envelope.open(keys.log, kind, &newest.bytes).unwrap();
        let again = keys.envelope.seal(keys.log, kind, &inner, mal.chance.rng()).unwrap();
        self.append_sealed(mal, newest.kind, NewEntry::new(again), None);
    }

    /// Says something, as an honest member does.
    pub(crate) fn say(&mut self, mal: &mut Mal, text: &str) {
        self.read(mal);
        let message = Message::text(text, mal.now, mal.chance.rng());
        let content = message.encode().unwrap();
        let mut chance = mal.chance.clone();
        let inner = self.conversation.seal_message(&content, &mal.me(), chance.rng()).unwrap();
        mal.chance = chance;
        self.own.insert(inner.clone(), None);
        self.append(mal, &inner);
        self.read(mal);
    }

    /// Makes an honest commit and does not append it.
    pub(crate) fn make(&mut self, mal: &mut Mal, change: Change) -> OwnCommit {
        self.read(mal);
        let mut chance = mal.chance.clone();
        let commit = self.conversation.commit(change, &mal.me(), chance.rng()).unwrap();
        mal.chance = chance;
        commit
    }

    /// Commits as an honest member does, with a state beside it.
    pub(crate) fn commit(&mut self, mal: &mut Mal, change: Change) -> u64 {
        let commit = self.make(mal, change);
        self.publish(mal, &commit)
    }

    /// Appends a commit that [`Self::make`] gave, with its state, and sends its notices.
    pub(crate) fn publish(&mut self, mal: &mut Mal, commit: &OwnCommit) -> u64 {
        let state = self.conversation.state_after(commit).unwrap().encode();
        self.own.insert(commit.inner.clone(), Some(commit.pending.expose().to_vec()));
        let position =
            self.append_with(mal, &commit.inner, commit.welcome.as_deref(), Some(&state), None);
        self.notify(mal, commit, position);
        self.read(mal);
        position
    }

    /// Sends the notices of a commit that stands at `position`.
    pub(crate) fn notify(&self, mal: &mut Mal, commit: &OwnCommit, position: u64) {
        let server = mal.server.clone();
        let at = usize::try_from(position).unwrap() - 1;
        let entry = entry_id(&server.borrow().logs[&self.log()].entries[at].1.bytes);
        for device in &commit.added {
            let (position, entry) = match mal.misleads {
                true => (position + 1, EntryId::from_bytes(mal.chance.bytes())),
                false => (position, entry),
            };
            let seed = self.seed.clone();
            let notice = Notice { seed, position, entry, running: None };
            let package = device.package();
            let reference = package.reference();
            let (to, by) = ((&reference, &package.init_key), (&mal.device_key, &*mal.certificate));
            let sealed = notice.seal(to, by, mal.chance.rng()).unwrap();
            let inbox = (*device.inbox().as_bytes()).into();
            // Devices that Mal made up have no inbox.
            let id = PackageId::of(&package.to_bytes());
            let deposit = Deposit { inbox, package: id, notice: sealed, admission: Vec::new() };
            let _ = server.borrow_mut().handle_open(deposit.into());
        }
        mal.network.announce(&server, Touched::Inboxes);
    }

    /// The inner bytes of a message that Mal wrote.
    pub(crate) fn own_message(&self) -> Vec<u8> {
        let own = self.own.iter().find(|(_, pending)| pending.is_none());
        own.map(|(inner, _)| inner.clone()).expect("a message of Mal's")
    }

    /// A knock at the log that the seat is in.
    pub(crate) fn knock(&self, mal: &mut Mal) -> (Vec<u8>, KnockKey) {
        let mut chance = mal.chance.clone();
        let knock = self.conversation.knock(&mal.me(), chance.rng());
        mal.chance = chance;
        knock
    }

    /// Goes on in a copy of the group, in a log of Mal's own: opens it with the true state and
    /// makes a commit there. This seat stays where it is.
    pub(crate) fn commit_in_a_copy(&mut self, mal: &mut Mal, seed: Seed, change: Change) {
        let parts = self.parts.iter().map(|(part, bytes)| (*part, bytes.clone()));
        let mut copy = Self {
            conversation: Conversation::load(parts).unwrap(),
            seed,
            parts: self.parts.clone(),
            own: BTreeMap::new(),
            heard: Vec::new(),
            readings: Vec::new(),
        };
        let log = copy.seed.log_keys().log;
        copy.conversation.continue_in(log);
        let opening = copy.conversation.state().encode();
        let commit = copy.make(mal, change);
        let welcome = commit.welcome.as_deref();
        let position = copy.append_with(mal, &commit.inner, welcome, None, Some(&opening));
        copy.notify(mal, &commit, position);
    }

    /// Comes back by an external commit, as a member who was locked out does.
    pub(crate) fn rejoin(&mut self, mal: &mut Mal) {
        self.read(mal);
        let mut chance = mal.chance.clone();
        let commit = self.conversation.rejoin(&mal.me(), None, chance.rng()).unwrap();
        mal.chance = chance;
        self.publish(mal, &commit);
    }
}

pub(crate) const fn core_kind(kind: WireKind) -> EntryKind {
    match kind {
        WireKind::Commit => EntryKind::Commit,
        WireKind::Message => EntryKind::Message,
    }
}

pub(crate) const fn wire_kind(kind: EntryKind) -> WireKind {
    match kind {
        EntryKind::Commit => WireKind::Commit,
        EntryKind::Message => WireKind::Message,
    }
}
