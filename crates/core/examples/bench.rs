//! Medians of what a group does, at 2, 10, 100 and 1,000 members: `cargo xtask bench core`.
//!
//! Bytes in to bytes out, on one thread, in full trees: every member has committed once. A row's
//! second half tells how many bytes travel and how many are written to the store.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement reads the clock, prints its table and ends where it cannot go on"
)]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use corncrake_core::{
    crypto::{
        Suite,
        hpke::{HpkePrivateKey, encrypt_with_label},
        signature::{SignatureKey, SignaturePublicKey, Signed, verify_batch},
    },
    mls::{
        codec::{Decode, Encode},
        credential::Credential,
        extension::Extensions,
        framing::{MlsMessage, PrivateMessage, PublicMessage},
        group::{CommitPlan, ExternalJoin, Group, OpenedWelcome},
        key_package::{KeyPackage, KeyPackageContent, KeyPackageKeys},
        leaf_node::{Capabilities, LeafContent, Lifetime},
        psk,
        public_group::PublicGroup,
        tree::RatchetTree,
        welcome::Welcome,
    },
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

const SUITE: Suite = Suite::X25519ChaCha20Poly1305Sha256Ed25519;
const SIZES: [usize; 4] = [2, 10, 100, 1_000];
const OPERATIONS: [&str; 8] = [
    "create, add all",
    "add",
    "update",
    "process",
    "merge",
    "join",
    "encrypt 1 KiB",
    "decrypt 1 KiB",
];
const ROUNDS: usize = 60;

/// One operation at one size.
struct Cell {
    median: Duration,
    sent: usize,
    written: usize,
}

/// Times and byte counts of one operation, round by round.
#[derive(Default)]
struct Series {
    times: Vec<Duration>,
    sent: Vec<usize>,
    written: Vec<usize>,
}

impl Series {
    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let value = black_box(work());
        self.times.push(start.elapsed());
        value
    }

    fn cell(mut self) -> Cell {
        Cell {
            median: median(&mut self.times),
            sent: median(&mut self.sent),
            written: median(&mut self.written),
        }
    }
}

fn median<T: Copy + Ord + Default>(values: &mut [T]) -> T {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// A member and its signature key.
struct Member {
    signer: SignatureKey,
    group: Group,
}

impl Member {
    /// Bytes that a step has changed and that the caller has to write.
    fn save(&mut self) -> usize {
        let changes = self.group.take_changes();
        changes.iter().filter_map(|(_, bytes)| bytes.as_ref().map(Vec::len)).sum()
    }

    fn process(&mut self, bytes: &[u8]) {
        let MlsMessage::Public(message) = MlsMessage::decode_exact(bytes).unwrap() else {
            return;
        };
        self.process_message(&message);
    }

    fn process_message(&mut self, message: &PublicMessage) {
        let public = self.group.public();
        let staged = public.stage(public.verify_commit(message).unwrap()).unwrap();
        let staged = self.group.finish(staged, message, &psk::none).map_err(|it| it.error).unwrap();
        self.group.merge(staged).unwrap();
    }
}

fn leaf(name: usize) -> LeafContent {
    LeafContent {
        credential: Credential::Basic(name.to_be_bytes().to_vec()),
        capabilities: Capabilities::basic(SUITE, Vec::new()),
        extensions: Extensions::default(),
    }
}

fn package(name: usize, rng: &mut ChaCha20Rng) -> (SignatureKey, KeyPackage, KeyPackageKeys) {
    let signer = SignatureKey::generate(rng);
    let content = KeyPackageContent {
        leaf: leaf(name),
        lifetime: Lifetime { not_before: 0, not_after: u64::MAX },
        extensions: Extensions::default(),
    };
    let (package, keys) = KeyPackage::generate(SUITE, content, &signer, rng);
    (signer, package, keys)
}

/// A group of `size` in which everybody has committed once: its first and its last member.
fn full_group(size: usize, rng: &mut ChaCha20Rng) -> (Member, Member, Cell) {
    let mut bare = Series::default();
    let (signer, first, keys) = package(0, rng);
    let others: Vec<_> = (1..size).map(|name| package(name, rng)).collect();
    let adds: Vec<_> = others.iter().map(|(_, package, _)| package.clone()).collect();
    let (group, sent) = bare.time(|| {
        let id = b"bench".to_vec();
        let none = Extensions::default;
        let mut group = Group::create(SUITE, id, first.leaf_node, keys.leaf, none(), rng).unwrap();
        let pending =
            group.commit(CommitPlan { adds, ..CommitPlan::default() }, &signer, rng).unwrap();
        let info = pending.group_info(none(), &signer);
        let welcome = pending.welcome(&info, rng).unwrap();
        let sent = pending.message().len() + welcome.to_bytes().len();
        group.merge_pending(pending).unwrap();
        (group, sent)
    });
    let mut founder = Member { signer, group };
    bare.sent.push(sent);
    bare.written.push(founder.save());

    let mut last = None;
    let leaves: Vec<_> = founder.group.public().leaves().map(|(index, _)| index).skip(1).collect();
    for (index, (signer, ..)) in leaves.into_iter().zip(others) {
        let public: PublicGroup = founder.group.public().clone();
        let join = ExternalJoin {
            leaf: LeafContent {
                credential: public.leaf(index).unwrap().credential.clone(),
                ..leaf(0)
            },
            remove: Some(index),
            authenticated_data: Vec::new(),
        };
        let external_pub = founder.group.external_pub().unwrap();
        let pending = Group::join_external(&public, &external_pub, join, &signer, rng).unwrap();
        founder.process(pending.message());
        last = Some(Member { signer, group: pending.into_group(public).unwrap() });
    }
    founder.save();
    (founder, last.unwrap(), bare.cell())
}

fn measure(size: usize) -> Vec<Cell> {
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let (mut ann, mut bob, bare) = full_group(size, &mut rng);
    let rng = &mut rng;
    let [mut update, mut process, mut merge, mut encrypt, mut decrypt] =
        core::array::from_fn(|_| Series::default());
    for round in 0..ROUNDS {
        let (author, reader) =
            if round % 2 == 0 { (&mut ann, &mut bob) } else { (&mut bob, &mut ann) };
        let pending = update
            .time(|| author.group.commit(CommitPlan::default(), &author.signer, rng).unwrap());
        let message = pending.message().to_vec();
        update.sent.push(message.len());
        update.written.push(pending.to_bytes().len());
        merge.time(|| author.group.merge_pending(pending).unwrap());
        merge.written.push(author.save());
        process.time(|| reader.process(&message));
        process.written.push(reader.save());

        for _ in 0..4 {
            let content = [7; 1024];
            let sealed = encrypt
                .time(|| author.group.encrypt(&content, &[0; 72], &author.signer, rng).unwrap());
            encrypt.sent.push(sealed.len());
            encrypt.written.push(author.save());
            decrypt.time(|| {
                let message = private(&sealed);
                reader.group.decrypt(&message).unwrap()
            });
            decrypt.written.push(reader.save());
        }
    }
    let (add, join) = add_and_join(&ann, rng);
    vec![
        bare,
        add,
        update.cell(),
        process.cell(),
        merge.cell(),
        join,
        encrypt.cell(),
        decrypt.cell(),
    ]
}

fn private(bytes: &[u8]) -> PrivateMessage {
    match MlsMessage::decode_exact(bytes).unwrap() {
        MlsMessage::Private(message) => message,
        other => PrivateMessage::decode_exact(&other.to_bytes()).unwrap(),
    }
}

/// Adding one member with a path and a Welcome, and coming in by that Welcome with the tree beside.
fn add_and_join(author: &Member, rng: &mut ChaCha20Rng) -> (Cell, Cell) {
    let (mut add, mut join) = (Series::default(), Series::default());
    for name in 0..ROUNDS {
        let (_, new, keys) = package(1_000_000 + name, rng);
        let plan = CommitPlan { adds: vec![new.clone()], ..CommitPlan::default() };
        let (pending, welcome) = add.time(|| {
            let pending = author.group.commit(plan, &author.signer, rng).unwrap();
            let info = pending.group_info(Extensions::default(), &author.signer);
            let welcome = pending.welcome(&info, rng).unwrap().to_bytes();
            (pending, welcome)
        });
        add.sent.push(pending.message().len() + welcome.len());
        add.written.push(pending.to_bytes().len());
        let mut grown = author.group.clone();
        grown.merge_pending(pending).unwrap();
        let tree = grown.public().tree().to_bytes();
        let mut group = join.time(|| {
            let welcome = Welcome::decode_exact(&welcome).unwrap();
            let opened = OpenedWelcome::open(&welcome, &new, &keys, &psk::none).unwrap();
            let tree = RatchetTree::decode_exact(&tree).unwrap();
            let public = PublicGroup::from_info(opened.group_info(), tree).unwrap();
            opened.join(public).unwrap()
        });
        join.sent.push(welcome.len() + tree.len());
        join.written.push(
            group.take_changes().iter().filter_map(|(_, part)| part.as_ref().map(Vec::len)).sum(),
        );
    }
    (add.cell(), join.cell())
}

/// What the operations cannot do without: their figures mean little without these of the same run.
fn primitives() {
    let rng = &mut ChaCha20Rng::seed_from_u64(8);
    let row = |name: &str, series: Series| {
        println!("{name:<40}{:>12.1}", series.cell().median.as_secs_f64() * 1e6);
    };
    let [mut sign, mut verify, mut seal, mut batch] = core::array::from_fn(|_| Series::default());
    let keys: Vec<_> = (0..1_000).map(|_| SignatureKey::generate(rng)).collect();
    let recipient = HpkePrivateKey::generate(rng).public();
    let mut signatures = Vec::new();
    for key in &keys {
        let long = [7; 1_300];
        let signature = sign.time(|| key.sign_with_label("bench", &long));
        let public = key.public();
        public.check().unwrap();
        verify.time(|| public.verify_with_label("bench", &long, &signature).unwrap());
        seal.time(|| encrypt_with_label(&recipient, "bench", &long[..150], &[7; 32], rng).unwrap());
        signatures.push(key.sign_with_label("bench", &long[..250]));
    }
    for _ in 0..ROUNDS {
        let publics = keys.iter().map(|key| *key.public().as_bytes());
        let publics: Vec<_> = publics.map(SignaturePublicKey::from_bytes).collect();
        let items = publics.iter().zip(&signatures).map(|(key, signature)| Signed {
            key,
            label: "bench",
            content: vec![7; 250],
            signature,
        });
        let items: Vec<_> = items.collect();
        batch.time(|| verify_batch(&items).unwrap());
    }
    println!("\nmedian, µs");
    row("Ed25519: sign 1,300 bytes", sign);
    row("Ed25519: verify 1,300 bytes", verify);
    row("Ed25519: 1,000 leaf signatures at once", batch);
    row("HPKE: seal a path secret", seal);
}

fn main() {
    let columns: Vec<_> = SIZES.map(measure).into_iter().collect();
    let head: String = SIZES.iter().map(|size| format!("{:>12}", format!("N = {size}"))).collect();
    println!("{:<16}{head}", "median, µs");
    let row = |index: usize, value: &dyn Fn(&Cell) -> String| -> String {
        columns
            .iter()
            .filter_map(|cells| cells.get(index))
            .map(|cell| format!("{:>12}", value(cell)))
            .collect()
    };
    for (index, name) in OPERATIONS.iter().enumerate() {
        println!(
            "{name:<16}{}",
            row(index, &|cell| format!("{:.1}", cell.median.as_secs_f64() * 1e6))
        );
    }
    println!("\n{:<16}{head}", "bytes sent");
    for (index, name) in OPERATIONS.iter().enumerate() {
        println!("{name:<16}{}", row(index, &|cell| cell.sent.to_string()));
    }
    println!("\n{:<16}{head}", "bytes stored");
    for (index, name) in OPERATIONS.iter().enumerate() {
        println!("{name:<16}{}", row(index, &|cell| cell.written.to_string()));
    }
    primitives();
}
