//! Groups as their members live through them: every step with several members, saved and loaded
//! after each.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should fail"
)]

use std::collections::BTreeMap;

use corncrake_core::crypto::Suite;
use corncrake_core::crypto::signature::SignatureKey;
use corncrake_core::mls::codec::Decode;
use corncrake_core::mls::credential::Credential;
use corncrake_core::mls::extension::Extensions;
use corncrake_core::mls::framing::{MlsMessage, PrivateMessage, PublicMessage};
use corncrake_core::mls::group::{
    CommitPlan, ExternalJoin, Group, OpenedWelcome, PathChoice, PendingCommit, Received,
};
use corncrake_core::mls::key_package::{KeyPackage, KeyPackageContent, KeyPackageKeys};
use corncrake_core::mls::leaf_node::{Capabilities, LeafContent, Lifetime};
use corncrake_core::mls::public_group::PublicGroup;
use corncrake_core::mls::tree_math::LeafIndex;
use corncrake_core::mls::{Error, PartId, psk};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const SUITE: Suite = Suite::X25519ChaCha20Poly1305Sha256Ed25519;

/// A client with what it has stored.
struct Client {
    name: u32,
    signer: SignatureKey,
    group: Group,
    store: BTreeMap<PartId, Vec<u8>>,
}

fn leaf_content(name: u32) -> LeafContent {
    LeafContent {
        credential: Credential::Basic(name.to_be_bytes().to_vec()),
        capabilities: Capabilities::basic(SUITE, Vec::new()),
        extensions: Extensions::default(),
    }
}

fn package(
    name: u32,
    signer: &SignatureKey,
    rng: &mut ChaCha20Rng,
) -> (KeyPackage, KeyPackageKeys) {
    let content = KeyPackageContent {
        leaf: leaf_content(name),
        lifetime: Lifetime { not_before: 0, not_after: u64::MAX },
        extensions: Extensions::default(),
    };
    KeyPackage::generate(SUITE, content, signer, rng)
}

impl Client {
    fn found(name: u32, rng: &mut ChaCha20Rng) -> Self {
        let signer = SignatureKey::generate(rng);
        let (package, keys) = package(name, &signer, rng);
        let id = b"group".to_vec();
        let extensions = Extensions::default();
        let group =
            Group::create(SUITE, id, package.leaf_node, keys.leaf, extensions, rng).unwrap();
        Self::new(name, signer, group)
    }

    fn new(name: u32, signer: SignatureKey, group: Group) -> Self {
        let mut client = Self { name, signer, group, store: BTreeMap::new() };
        client.save();
        client
    }

    /// Writes what changed, and goes on with what a restart would find.
    fn save(&mut self) -> usize {
        let mut written = 0;
        for (id, bytes) in self.group.take_changes() {
            written += bytes.as_ref().map_or(0, Vec::len);
            match bytes {
                Some(bytes) => drop(self.store.insert(id, bytes)),
                None => drop(self.store.remove(&id)),
            }
        }
        let authenticator = self.group.epoch_authenticator().clone();
        self.group = Group::load(self.store.clone()).unwrap();
        assert_eq!(*self.group.epoch_authenticator(), authenticator);
        assert!(self.group.take_changes().is_empty());
        written
    }

    fn commit(&self, plan: CommitPlan, rng: &mut ChaCha20Rng) -> PendingCommit {
        let pending = self.group.commit(plan, &self.signer, rng).unwrap();
        let loaded = PendingCommit::load(self.group.public(), &pending.to_bytes()).unwrap();
        assert_eq!(loaded.message(), pending.message());
        assert_eq!(loaded.export("a", b"", 32), pending.export("a", b"", 32));
        loaded
    }

    /// Processes another member's commit.
    fn process(&mut self, message: &PublicMessage) -> Result<(), Error> {
        let public = self.group.public();
        let staged = public.stage(public.verify_commit(message)?)?;
        let staged = self.group.finish(staged, message, &psk::none).map_err(|it| it.error)?;
        self.group.merge(staged).unwrap();
        self.save();
        Ok(())
    }

    fn say(&mut self, text: &str, rng: &mut ChaCha20Rng) -> PrivateMessage {
        let bytes = self.group.encrypt(text.as_bytes(), b"open", &self.signer, rng).unwrap();
        self.save();
        let MlsMessage::Private(message) = MlsMessage::decode_exact(&bytes).unwrap() else {
            panic!("not a private message")
        };
        message
    }

    fn hear(&mut self, message: &PrivateMessage) -> Result<Received, Error> {
        let received = self.group.decrypt(message);
        self.save();
        received
    }
}

fn public(bytes: &[u8]) -> PublicMessage {
    match MlsMessage::decode_exact(bytes).unwrap() {
        MlsMessage::Public(message) => *message,
        other => panic!("not a public message: {other:?}"),
    }
}

/// Several clients in one group.
struct Party {
    clients: Vec<Client>,
    names: u32,
    rng: ChaCha20Rng,
    /// What was sent in epochs that are over.
    old: Vec<PrivateMessage>,
    commits: Vec<PublicMessage>,
}

impl Party {
    fn of(size: usize, seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let first = Client::found(0, &mut rng);
        let mut party =
            Self { clients: vec![first], names: 1, rng, old: Vec::new(), commits: Vec::new() };
        if size > 1 {
            party.add(0, size - 1, PathChoice::Always);
        }
        party
    }

    /// Sends a commit of one client to all others.
    fn deliver(&mut self, author: usize, pending: PendingCommit) {
        let message = public(pending.message());
        let removed: Vec<LeafIndex> = pending.public().commit().removes().to_vec();
        for (index, client) in self.clients.iter_mut().enumerate() {
            if index != author {
                let expected = match removed.contains(&client.group.own_leaf()) {
                    true => Err(Error::Removed),
                    false => Ok(()),
                };
                assert_eq!(client.process(&message), expected);
            }
        }
        self.commits.push(message);
        let client = &mut self.clients[author];
        client.group.merge_pending(pending).unwrap();
        client.save();
        self.clients.retain(|client| !removed.contains(&client.group.own_leaf()));
    }

    fn add(&mut self, author: usize, count: usize, path: PathChoice) {
        let new: Vec<_> = (0..count)
            .map(|_| {
                let signer = SignatureKey::generate(&mut self.rng);
                let name = self.names;
                self.names += 1;
                let (package, keys) = package(name, &signer, &mut self.rng);
                (name, signer, package, keys)
            })
            .collect();
        let adds = new.iter().map(|(_, _, package, _)| package.clone()).collect();
        let plan = CommitPlan { adds, path, ..CommitPlan::default() };
        let client = &self.clients[author];
        let pending = client.commit(plan, &mut self.rng);
        let info = pending.group_info(Extensions::default(), &client.signer);
        let welcome = pending.welcome(&info, &mut self.rng).unwrap();
        self.deliver(author, pending);
        for (name, signer, package, keys) in new {
            let opened = OpenedWelcome::open(&welcome, &package, &keys, &psk::none).unwrap();
            let public = self.clients[0].group.public().clone();
            self.clients.push(Client::new(name, signer, opened.join(public).unwrap()));
        }
    }

    fn update(&mut self, author: usize) {
        let pending = self.clients[author].commit(CommitPlan::default(), &mut self.rng);
        self.deliver(author, pending);
    }

    fn remove(&mut self, author: usize, removed: &[usize]) {
        let removes = removed.iter().map(|index| self.clients[*index].group.own_leaf()).collect();
        let plan = CommitPlan { removes, ..CommitPlan::default() };
        let pending = self.clients[author].commit(plan, &mut self.rng);
        self.deliver(author, pending);
    }

    /// Somebody joins from outside, in place of one of the members or as a new one.
    fn join(&mut self, instead_of: Option<usize>) {
        let public: PublicGroup = self.clients[0].group.public().clone();
        let external_pub = self.clients[0].group.external_pub().unwrap();
        let old = instead_of.map(|index| self.clients.remove(index));
        let name = old.as_ref().map_or(self.names, |old| old.name);
        self.names += 1;
        let remove = old.as_ref().map(|old| old.group.own_leaf());
        let signer = old.map_or_else(|| SignatureKey::generate(&mut self.rng), |old| old.signer);
        let join = ExternalJoin {
            leaf: leaf_content(name),
            remove,
            authenticated_data: b"let me in".to_vec(),
        };
        let pending =
            Group::join_external(&public, &external_pub, join, &signer, &mut self.rng).unwrap();
        let pending = PendingCommit::load(&public, &pending.to_bytes()).unwrap();
        let message = public_of(&pending);
        for client in &mut self.clients {
            client.process(&message).unwrap();
        }
        self.commits.push(message);
        let group = pending.into_group(public).unwrap();
        self.clients.push(Client::new(name, signer, group));
    }

    /// Everybody says something that everybody else hears, and all agree on the epoch.
    fn talk(&mut self) {
        let epoch = self.clients[0].group.epoch_authenticator().clone();
        for speaker in 0..self.clients.len() {
            let client = &mut self.clients[speaker];
            assert_eq!(*client.group.epoch_authenticator(), epoch);
            let (leaf, text) = (client.group.own_leaf(), format!("{} speaks", client.name));
            let message = client.say(&text, &mut self.rng);
            for (index, listener) in self.clients.iter_mut().enumerate() {
                let heard = listener.hear(&message);
                if index == speaker {
                    assert_eq!(heard, Err(Error::OwnMessage));
                } else {
                    let heard = heard.unwrap();
                    assert_eq!(heard.sender, leaf);
                    assert_eq!(heard.content, text.as_bytes());
                    assert_eq!(heard.authenticated_data, b"open");
                    assert_eq!(listener.hear(&message), Err(Error::Decryption), "a replay");
                }
            }
            self.old.push(message);
        }
    }

    /// Nobody takes anything of an epoch that is over, or changes because of it.
    fn refuse_the_past(&mut self) {
        for client in &mut self.clients {
            for message in &self.old {
                assert_eq!(client.group.decrypt(message), Err(Error::WrongEpoch));
            }
            for commit in &self.commits {
                assert_eq!(client.process(commit), Err(Error::WrongEpoch));
            }
            assert!(client.group.take_changes().is_empty());
        }
        self.old.clear();
        self.commits.clear();
    }
}

fn public_of(pending: &PendingCommit) -> PublicMessage {
    public(pending.message())
}

#[test]
fn a_group_lives() {
    let mut party = Party::of(3, 1);
    party.talk();
    party.update(1);
    party.talk();
    party.add(2, 2, PathChoice::IfNeeded);
    party.talk();
    party.join(None);
    party.talk();
    party.join(Some(3));
    party.talk();
    party.remove(0, &[1, 2]);
    party.talk();
    party.add(1, 1, PathChoice::Always);
    party.talk();
}

#[test]
fn random_lives_of_groups_stay_in_agreement() {
    for seed in 0..12 {
        let mut party = Party::of(1 + usize::try_from(seed % 6).unwrap(), seed);
        for _ in 0..14 {
            let size = party.clients.len();
            let mut pick = |below: usize| (party.rng.next_u32() as usize) % below;
            let (kind, author, other) = (pick(6), pick(size), pick(size));
            match kind {
                0 if size < 9 => party.add(author, 1 + other % 3, PathChoice::Always),
                1 if size < 9 => party.add(author, 1 + other % 3, PathChoice::IfNeeded),
                2 if author != other => party.remove(author, &[other]),
                3 if size < 9 => party.join(None),
                4 if size > 1 => party.join(Some(author)),
                _ => party.update(author),
            }
            party.refuse_the_past();
            party.talk();
        }
    }
}
