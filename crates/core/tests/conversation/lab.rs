//! People, devices and logs, without a network.

use std::collections::{BTreeMap, HashMap};

use corncrake_core::conversation::{
    Change, Claimed, ContextExtension, Conversation, EntryKind, Error, Kind, Lifetime, LogItem, Me,
    OwnCommit, OwnEntry, Reading, State, Use, check_claimed, new_key_package,
};
use corncrake_core::crypto::Secret;
use corncrake_core::crypto::signature::SignatureKey;
use corncrake_core::id::{AccountId, ConversationId, DeviceId, InboxId, LogId};
use corncrake_core::identity::{Certificate, DeviceClass, IdentityKey, KeyChain, device_id};
use corncrake_core::mls::PartId;
use corncrake_core::mls::codec::Decode;
use corncrake_core::mls::key_package::{KeyPackage, KeyPackageKeys};
use corncrake_core::seal::envelope::{Seed, entry_id};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

/// A moment inside every lifetime that the lab gives.
pub(crate) const NOW: u64 = 1_800_000_000;

/// An account.
pub(crate) struct Person {
    identity: IdentityKey,
    chain: KeyChain,
    rng: ChaCha20Rng,
}

impl Person {
    pub(crate) fn new(n: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(n);
        let identity = IdentityKey::generate(&mut rng);
        let chain = KeyChain::begin(&identity);
        Self { identity, chain, rng }
    }

    /// A new device of this account.
    pub(crate) fn device(&mut self) -> Device {
        self.device_of_class(&DeviceClass::Person)
    }

    pub(crate) fn device_of_class(&mut self, class: &DeviceClass) -> Device {
        let key = SignatureKey::generate(&mut self.rng);
        self.device_with_key(key, class)
    }

    /// A device with a key that may be somebody else's.
    pub(crate) fn device_with_key(&mut self, key: SignatureKey, class: &DeviceClass) -> Device {
        let certificate =
            Certificate::issue(&self.identity, &self.chain, &key.public(), 1, class).unwrap();
        Device {
            account: self.chain.account_id(),
            rng: ChaCha20Rng::from_rng(&mut self.rng),
            key,
            certificate,
            conversation: None,
            own: HashMap::new(),
            store: BTreeMap::new(),
            heard: Vec::new(),
        }
    }
}

/// What a device knows of an entry whose inner bytes are its own.
#[derive(Clone)]
enum Own {
    Message,
    Commit(Secret),
}

/// One device: its keys, its conversation, its store.
pub(crate) struct Device {
    pub(crate) account: AccountId,
    pub(crate) key: SignatureKey,
    pub(crate) certificate: Vec<u8>,
    pub(crate) rng: ChaCha20Rng,
    conversation: Option<Conversation>,
    own: HashMap<Vec<u8>, Own>,
    pub(crate) store: BTreeMap<PartId, Vec<u8>>,
    /// What others said.
    pub(crate) heard: Vec<String>,
}

/// A key package with its secrets.
pub(crate) struct Package {
    pub(crate) bytes: Vec<u8>,
    pub(crate) keys: KeyPackageKeys,
    pub(crate) claimed: Claimed,
}

impl Device {
    pub(crate) fn me(&self) -> Me<'_> {
        Me { account: self.account, device_key: &self.key, certificate: &self.certificate }
    }

    pub(crate) fn id(&self) -> DeviceId {
        device_id(&self.key.public())
    }

    pub(crate) fn chat(&self) -> &Conversation {
        self.conversation.as_ref().unwrap()
    }

    pub(crate) fn chat_mut(&mut self) -> &mut Conversation {
        self.conversation.as_mut().unwrap()
    }

    pub(crate) fn package(&mut self, usage: Use) -> Package {
        let me =
            Me { account: self.account, device_key: &self.key, certificate: &self.certificate };
        let lifetime = Lifetime { not_before: NOW - 10, not_after: NOW + 10 };
        let inbox = InboxId::from_bytes([7; 32]);
        let package = new_key_package(&me, inbox, lifetime, usage, &mut self.rng);
        let claimed = check_claimed(&package.bytes, self.account, NOW).unwrap();
        Package { bytes: package.bytes, keys: package.keys, claimed }
    }

    /// A key package that nobody checked.
    pub(crate) fn unchecked_package(&mut self) -> KeyPackage {
        let me =
            Me { account: self.account, device_key: &self.key, certificate: &self.certificate };
        let lifetime = Lifetime { not_before: 0, not_after: 1 };
        let inbox = InboxId::from_bytes([7; 32]);
        let package = new_key_package(&me, inbox, lifetime, Use::Once, &mut self.rng);
        KeyPackage::decode_exact(&package.bytes).unwrap()
    }

    /// Founds a conversation and its first log.
    pub(crate) fn found(&mut self, kind: Kind) -> Log {
        let seed = Seed::random(&mut self.rng);
        let log = seed.log_keys().log;
        let context = match kind {
            Kind::Direct => ContextExtension::direct(),
            Kind::Group => ContextExtension::group(self.account, "Meadow"),
        };
        let me =
            Me { account: self.account, device_key: &self.key, certificate: &self.certificate };
        let id = seed.conversation_id();
        let (chat, state) = Conversation::found(&me, id, context, log, &mut self.rng).unwrap();
        assert!(chat.is_sound_founding(id, kind, &[self.account]));
        self.conversation = Some(chat);
        Log::new(id, log, state.encode())
    }

    /// Takes up a log at one of its states.
    pub(crate) fn fold_at(&mut self, log: &Log, position: u64) {
        let state = State::decode(&log.states[&position]).unwrap();
        self.conversation = Some(
            Conversation::fold(
                &state,
                log.id,
                (position, corncrake_core::id::EntryId::from_bytes([1; 32])),
            )
            .unwrap(),
        );
        self.store.clear();
    }

    /// Folds to the head and joins by a Welcome beside the entry at `position`.
    pub(crate) fn join(&mut self, log: &Log, position: u64, package: &Package) {
        self.fold_at(log, 0);
        self.read_to(log, position);
        let welcome = &log.welcomes[&position];
        let chat = self.conversation.as_mut().unwrap();
        chat.join(welcome, &package.bytes, &package.keys).unwrap();
        self.save();
    }

    /// Reads to the head of the log.
    pub(crate) fn read(&mut self, log: &Log) -> Vec<Reading> {
        self.read_to(log, log.head())
    }

    pub(crate) fn read_to(&mut self, log: &Log, last: u64) -> Vec<Reading> {
        let mut readings = Vec::new();
        for position in self.chat().position() + 1..=last {
            let (kind, inner) = log.entry(position);
            let own = self.own.get(inner).cloned();
            let own = own.as_ref().map(|own| match own {
                Own::Message => OwnEntry::Message,
                Own::Commit(pending) => OwnEntry::Commit(pending.expose()),
            });
            let item =
                LogItem { position, id: log.entry_id(position), kind, inner: Some(inner), own };
            let reading = self.chat_mut().read(item);
            if let Reading::Message { content, .. } = &reading {
                self.heard.push(String::from_utf8(content.clone()).unwrap());
            }
            readings.push(reading);
            self.store_changes();
        }
        self.save();
        readings
    }

    /// Stores what changed and starts again from the store.
    pub(crate) fn save(&mut self) {
        self.store_changes();
        let parts = self.store.iter().map(|(part, bytes)| (*part, bytes.clone()));
        self.conversation = Some(Conversation::load(parts).unwrap());
    }

    fn store_changes(&mut self) {
        for (part, bytes) in self.chat_mut().take_changes() {
            match bytes {
                Some(bytes) => self.store.insert(part, bytes),
                None => self.store.remove(&part),
            };
        }
    }

    pub(crate) fn commit(&mut self, change: Change) -> OwnCommit {
        self.try_commit(change).unwrap()
    }

    pub(crate) fn try_commit(&mut self, change: Change) -> Result<OwnCommit, Error> {
        let me =
            Me { account: self.account, device_key: &self.key, certificate: &self.certificate };
        let chat = self.conversation.as_ref().unwrap();
        let commit = chat.commit(change, &me, &mut self.rng)?;
        self.remember(&commit);
        Ok(commit)
    }

    fn rejoin(&mut self, spare: Option<DeviceId>) -> OwnCommit {
        let me =
            Me { account: self.account, device_key: &self.key, certificate: &self.certificate };
        let chat = self.conversation.as_ref().unwrap();
        let commit = chat.rejoin(&me, spare, &mut self.rng).unwrap();
        self.remember(&commit);
        commit
    }

    fn remember(&mut self, commit: &OwnCommit) {
        self.own.insert(commit.inner.clone(), Own::Commit(commit.pending.clone()));
    }

    /// Takes a commit that was made elsewhere for its own.
    pub(crate) fn expect_commit(&mut self, inner: &[u8], pending: &Secret) {
        self.own.insert(inner.to_vec(), Own::Commit(pending.clone()));
    }

    /// The same device, started from a copy of its store.
    pub(crate) fn fork(&mut self) -> Self {
        self.save();
        let parts = self.store.iter().map(|(part, bytes)| (*part, bytes.clone()));
        Self {
            account: self.account,
            key: self.key.clone(),
            certificate: self.certificate.clone(),
            rng: ChaCha20Rng::from_rng(&mut self.rng),
            conversation: Some(Conversation::load(parts).unwrap()),
            own: self.own.clone(),
            store: self.store.clone(),
            heard: self.heard.clone(),
        }
    }

    /// Commits, appends and reads it back; the position.
    pub(crate) fn make(&mut self, log: &mut Log, change: Change) -> u64 {
        let commit = self.commit(change);
        let state = self.chat().state_after(&commit).unwrap();
        let position = log.append_commit(&commit, Some(state.encode()));
        self.read(log);
        position
    }

    /// Comes in by external commit, appends and reads it back.
    pub(crate) fn come_in(&mut self, log: &mut Log) {
        self.come_in_for(log, None);
    }

    /// The same in an account that has ten devices: this one gives way.
    pub(crate) fn come_in_for(&mut self, log: &mut Log, spare: Option<DeviceId>) {
        self.read(log);
        let commit = self.rejoin(spare);
        log.append_commit(&commit, None);
        self.read(log);
        assert!(self.chat().is_member());
    }

    pub(crate) fn say(&mut self, log: &mut Log, text: &str) -> u64 {
        assert!(self.try_say(log, text));
        log.head()
    }

    /// Says something, unless this device may not.
    pub(crate) fn try_say(&mut self, log: &mut Log, text: &str) -> bool {
        let me =
            Me { account: self.account, device_key: &self.key, certificate: &self.certificate };
        let chat = self.conversation.as_mut().unwrap();
        let Ok(inner) = chat.seal_message(text.as_bytes(), &me, &mut self.rng) else {
            return false;
        };
        self.own.insert(inner.clone(), Own::Message);
        self.save();
        log.append(EntryKind::Message, inner);
        true
    }
}

/// A log as an honest server keeps it, its envelopes already opened.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) conversation: ConversationId,
    pub(crate) id: LogId,
    entries: Vec<(EntryKind, Vec<u8>)>,
    pub(crate) welcomes: BTreeMap<u64, Vec<u8>>,
    pub(crate) states: BTreeMap<u64, Vec<u8>>,
}

impl Log {
    pub(crate) fn new(conversation: ConversationId, id: LogId, opening: Vec<u8>) -> Self {
        Self {
            conversation,
            id,
            entries: Vec::new(),
            welcomes: BTreeMap::new(),
            states: BTreeMap::from([(0, opening)]),
        }
    }

    pub(crate) fn head(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn entry(&self, position: u64) -> (EntryKind, &[u8]) {
        let (kind, inner) = &self.entries[usize::try_from(position).unwrap() - 1];
        (*kind, inner)
    }

    /// Stands for the hash of the sealed bytes, which differ even where inner bytes are equal.
    pub(crate) fn entry_id(&self, position: u64) -> corncrake_core::id::EntryId {
        let (_, inner) = self.entry(position);
        entry_id(&[&position.to_be_bytes(), self.id.as_bytes().as_slice(), inner].concat())
    }

    pub(crate) fn append(&mut self, kind: EntryKind, inner: Vec<u8>) -> u64 {
        self.entries.push((kind, inner));
        self.head()
    }

    pub(crate) fn append_commit(&mut self, commit: &OwnCommit, state: Option<Vec<u8>>) -> u64 {
        let position = self.append(EntryKind::Commit, commit.inner.clone());
        if let Some(welcome) = &commit.welcome {
            self.welcomes.insert(position, welcome.clone());
        }
        if let Some(state) = state {
            self.states.insert(position, state);
        }
        position
    }
}

/// Everybody reads to the head, stands in one epoch, and hears what everybody says.
pub(crate) fn everybody_talks(log: &mut Log, devices: &mut [&mut Device]) {
    for device in devices.iter_mut() {
        device.read(log);
        assert!(device.chat().is_member());
        assert_eq!(device.chat().tail_is_true(), Some(true));
    }
    let anchor = devices[0].chat().anchor();
    for index in 0..devices.len() {
        assert_eq!(devices[index].chat().anchor(), anchor);
        let text = format!("{} in epoch {}", devices[index].id(), anchor.epoch);
        devices[index].read(log);
        devices[index].say(log, &text);
        for (other, device) in devices.iter_mut().enumerate() {
            let readings = device.read(log);
            match readings.last().unwrap() {
                Reading::Own => assert_eq!(other, index),
                Reading::Message { view_alarm, .. } => {
                    assert!(!view_alarm);
                    assert_eq!(device.heard.last(), Some(&text));
                }
                reading => panic!("{reading:?}"),
            }
        }
    }
}
