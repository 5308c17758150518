//! Corncrake's core.

use std::sync::atomic::{AtomicU64, Ordering};

use corncrake_core::{
    crypto::{Suite, signature::SignatureKey},
    mls::{
        codec::{Decode, Encode},
        credential::Credential,
        extension::Extensions,
        framing::MlsMessage,
        group::{CommitPlan, ExternalJoin, Group, OpenedWelcome, PendingCommit},
        key_package::{KeyPackage, KeyPackageContent, KeyPackageKeys},
        leaf_node::{Capabilities, LeafContent, Lifetime},
        psk,
        public_group::PublicGroup,
        tree::RatchetTree,
        welcome::Welcome,
    },
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

use crate::Peer;

const SUITE: Suite = Suite::X25519ChaCha20Poly1305Sha256Ed25519;

pub(crate) struct Member {
    signer: SignatureKey,
    group: Group,
    pending: Option<PendingCommit>,
    rng: ChaCha20Rng,
}

pub(crate) struct Newcomer {
    signer: SignatureKey,
    package: KeyPackage,
    keys: KeyPackageKeys,
}

/// A generator that makes other keys than the ones before it.
fn rng() -> ChaCha20Rng {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    ChaCha20Rng::seed_from_u64(NEXT.fetch_add(1, Ordering::Relaxed))
}

fn leaf(name: usize) -> LeafContent {
    LeafContent {
        credential: Credential::Basic(name.to_be_bytes().to_vec()),
        capabilities: Capabilities::basic(SUITE, Vec::new()),
        extensions: Extensions::default(),
    }
}

fn newcomer(name: usize, rng: &mut ChaCha20Rng) -> Newcomer {
    let signer = SignatureKey::generate(rng);
    let content = KeyPackageContent {
        leaf: leaf(name),
        lifetime: Lifetime { not_before: 0, not_after: u64::MAX },
        extensions: Extensions::default(),
    };
    let (package, keys) = KeyPackage::generate(SUITE, content, &signer, rng);
    Newcomer { signer, package, keys }
}

impl Member {
    /// What a caller does after each step: takes what is to be stored.
    fn save(&mut self) {
        drop(self.group.take_changes());
    }
}

impl Peer for Member {
    type Newcomer = Newcomer;

    fn party(size: usize) -> [Self; 2] {
        let mut rng = rng();
        let Newcomer { signer, package, keys } = newcomer(0, &mut rng);
        let (id, none) = (b"bench".to_vec(), Extensions::default());
        let group = Group::create(SUITE, id, package.leaf_node, keys.leaf, none, &mut rng).unwrap();
        let mut founder = Self { signer, group, pending: None, rng: self::rng() };
        let mut last = None;
        for name in 1..size {
            let public: PublicGroup = founder.group.public().clone();
            let join =
                ExternalJoin { leaf: leaf(name), remove: None, authenticated_data: Vec::new() };
            let external_pub = founder.group.external_pub().unwrap();
            let signer = SignatureKey::generate(&mut rng);
            let pending =
                Group::join_external(&public, &external_pub, join, &signer, &mut rng).unwrap();
            founder.process(pending.message());
            let group = pending.into_group(public).unwrap();
            last = Some(Self { signer, group, pending: None, rng: self::rng() });
        }
        [founder, last.unwrap()]
    }

    fn update(&mut self) -> Vec<u8> {
        let plan = CommitPlan::default();
        let pending = self.group.commit(plan, &self.signer, &mut self.rng).unwrap();
        let message = pending.message().to_vec();
        self.pending = Some(pending);
        message
    }

    fn merge(&mut self) {
        self.group.merge_pending(self.pending.take().unwrap()).unwrap();
        self.save();
    }

    fn process(&mut self, commit: &[u8]) {
        let MlsMessage::Public(message) = MlsMessage::decode_exact(commit).unwrap() else {
            panic!("a commit is a public message");
        };
        let public = self.group.public();
        let staged = public.stage(public.verify_commit(&message).unwrap()).unwrap();
        let staged = self.group.finish(staged, &message, &psk::none).map_err(|it| it.error);
        self.group.merge(staged.unwrap()).unwrap();
        self.save();
    }

    fn encrypt(&mut self, content: &[u8]) -> Vec<u8> {
        let sealed = self.group.encrypt(content, &[], &self.signer, &mut self.rng).unwrap();
        self.save();
        sealed
    }

    fn decrypt(&mut self, message: &[u8]) -> Vec<u8> {
        let MlsMessage::Private(message) = MlsMessage::decode_exact(message).unwrap() else {
            panic!("a message is a private message");
        };
        let opened = self.group.decrypt(&message).unwrap();
        self.save();
        opened.content.to_vec()
    }

    fn newcomer() -> (Newcomer, Vec<u8>) {
        let newcomer = newcomer(usize::MAX, &mut rng());
        let package = newcomer.package.to_bytes();
        (newcomer, package)
    }

    fn add(&mut self, package: &[u8]) -> Vec<u8> {
        let adds = vec![KeyPackage::decode_exact(package).unwrap()];
        let plan = CommitPlan { adds, ..CommitPlan::default() };
        let pending = self.group.commit(plan, &self.signer, &mut self.rng).unwrap();
        let info = pending.group_info(Extensions::default(), &self.signer);
        let welcome = pending.welcome(&info, &mut self.rng).unwrap().to_bytes();
        self.pending = Some(pending);
        welcome
    }

    fn tree_and_forget(&mut self) -> Vec<u8> {
        let mut group = self.group.clone();
        group.merge_pending(self.pending.take().unwrap()).unwrap();
        group.public().tree().to_bytes()
    }

    fn join(newcomer: Newcomer, welcome: &[u8], tree: &[u8]) -> Self {
        let Newcomer { signer, package, keys } = newcomer;
        let welcome = Welcome::decode_exact(welcome).unwrap();
        let opened = OpenedWelcome::open(&welcome, &package, &keys, &psk::none).unwrap();
        let tree = RatchetTree::decode_exact(tree).unwrap();
        let public = PublicGroup::from_info(opened.group_info(), tree).unwrap();
        let mut member =
            Self { signer, group: opened.join(public).unwrap(), pending: None, rng: rng() };
        member.save();
        member
    }
}
