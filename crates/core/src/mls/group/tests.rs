//! What a group refuses, and that a refusal changes nothing. Attackers here are members: they hold
//! the secrets, so these tests sit inside.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::*;
use crate::mls::codec::Decode;
use crate::mls::credential::Credential;
use crate::mls::framing::PublicMessage;
use crate::mls::key_package::{KeyPackage, KeyPackageContent, KeyPackageKeys};
use crate::mls::leaf_node::{Capabilities, LeafContent, Lifetime};
use crate::mls::psk;
use crate::mls::public_group::StagedPublic;

mod attacks;
mod formats;
mod refusals;
mod saved;

const SUITE: Suite = Suite::X25519ChaCha20Poly1305Sha256Ed25519;

type Member = (SignatureKey, Group);

fn package(name: u8, rng: &mut ChaCha20Rng) -> (SignatureKey, KeyPackage, KeyPackageKeys) {
    let signer = SignatureKey::generate(rng);
    let content = KeyPackageContent {
        leaf: LeafContent {
            credential: Credential::Basic(vec![name]),
            capabilities: Capabilities::basic(SUITE, Vec::new()),
            extensions: Extensions::default(),
        },
        lifetime: Lifetime { not_before: 0, not_after: u64::MAX },
        extensions: Extensions::default(),
    };
    let (package, keys) = KeyPackage::generate(SUITE, content, &signer, rng);
    (signer, package, keys)
}

/// A group of this many members, whose leaves are their places in the list.
fn party(size: u8, rng: &mut ChaCha20Rng) -> Vec<Member> {
    let (signer, package_of_founder, keys) = package(0, rng);
    let leaf = package_of_founder.leaf_node;
    let mut founder =
        Group::create(SUITE, b"group".to_vec(), leaf, keys.leaf, Extensions::default(), rng)
            .unwrap();
    let new: Vec<_> = (1..size).map(|name| package(name, rng)).collect();
    let adds = new.iter().map(|(_, package, _)| package.clone()).collect();
    let plan = CommitPlan { adds, ..CommitPlan::default() };
    let pending = founder.commit(plan, &signer, rng).unwrap();
    let info = pending.group_info(Extensions::default(), &signer);
    let welcome = pending.welcome(&info, rng).unwrap();
    founder.merge_pending(pending).unwrap();
    let public = founder.public().clone();
    let joined = new.into_iter().map(|(signer, package, keys)| {
        let opened = OpenedWelcome::open(&welcome, &package, &keys, &psk::none).unwrap();
        (signer, opened.join(public.clone()).unwrap())
    });
    let mut members: Vec<_> = joined.collect();
    members.insert(0, (signer, founder));
    for (_, group) in &mut members {
        group.take_changes();
    }
    members
}

fn private(bytes: &[u8]) -> PrivateMessage {
    match MlsMessage::decode_exact(bytes).unwrap() {
        MlsMessage::Private(message) => message,
        other => panic!("not a private message: {other:?}"),
    }
}

fn public(bytes: &[u8]) -> PublicMessage {
    match MlsMessage::decode_exact(bytes).unwrap() {
        MlsMessage::Public(message) => *message,
        other => panic!("not a public message: {other:?}"),
    }
}

/// Everything that the group would save.
fn image(group: &Group) -> Vec<(PartId, Option<Vec<u8>>)> {
    let mut group = group.clone();
    group.public.touch();
    group.touch_epoch();
    group.take_changes()
}

/// Checks that the group refuses the message and stays as it was.
fn refuses(group: &mut Group, message: &PrivateMessage, error: Error) {
    let before = image(group);
    assert_eq!(group.decrypt(message), Err(error));
    assert_eq!(image(group), before);
    assert!(group.take_changes().is_empty());
}

fn staged(group: &Group, message: &PublicMessage) -> StagedPublic {
    group.public.stage(group.public.verify_commit(message).unwrap()).unwrap()
}
