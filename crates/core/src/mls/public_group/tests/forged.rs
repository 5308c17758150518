//! Commits that a member or a newcomer forges: all of them are refused, and change nothing.

use super::super::super::commit::Commit;
use super::super::super::extension::{Extension, RequiredCapabilities};
use super::super::super::framing::Content;
use super::super::super::leaf_node::LeafNodeSource;
use super::super::super::proposal::{ProposalOrRef, ProposalType, ReInit};
use super::super::super::psk::{PreSharedKeyId, PskSource, ResumptionUsage};
use super::*;
use crate::crypto::hpke::HpkePublicKey;

/// A self-update of leaf 1, changed and signed again.
pub(super) fn forge(
    members: &Members,
    change: impl FnOnce(&mut Commit),
) -> Result<StagedPublic, Error> {
    let forger = members.at(1);
    let (staged, _) = forger.commit(Vec::new(), Path::With, &mut members.rng.clone()).unwrap();
    let mut message = transmit(&staged);
    let Content::Commit(commit) = &mut message.content.content else { panic!("a commit") };
    change(commit);
    sign(&mut message, &forger.group, &forger.signer);
    let reader = members.at(0);
    let before = reader.group.context().clone();
    let result = reader.stage(&PublicMessage::decode_exact(&message.to_bytes()).unwrap());
    assert_eq!(reader.group.context(), &before);
    result
}

/// As [`forge`], for an external commit that resyncs leaf 2.
fn forge_external(
    members: &Members,
    change: impl FnOnce(&mut Commit),
) -> Result<StagedPublic, Error> {
    let rng = &mut members.rng.clone();
    let newcomer = joiner(rng);
    let group = &members.at(0).group;
    let proposals = vec![external_init(rng), Proposal::Remove(LeafIndex::new(2))];
    let draft = group.draft(CommitSender::External, proposals).unwrap();
    let (drafted, _) = draft.with_path(newcomer.package.leaf_node, &newcomer.signer, rng).unwrap();
    let framed = drafted.frame(WireFormat::PublicMessage, Vec::new(), &newcomer.signer);
    let mut message = transmit(&confirm(framed.unwrap()));
    let Content::Commit(commit) = &mut message.content.content else { panic!("a commit") };
    change(commit);
    sign(&mut message, group, &newcomer.signer);
    members.at(0).stage(&message)
}

pub(super) fn sign(message: &mut PublicMessage, group: &PublicGroup, signer: &SignatureKey) {
    let content = &message.content;
    message.auth.signature = content.sign(WireFormat::PublicMessage, group.context(), signer);
}

fn external_init(rng: &mut ChaCha20Rng) -> Proposal {
    let kem_output = HpkePrivateKey::generate(rng).public().as_bytes().to_vec();
    Proposal::ExternalInit { kem_output }
}

pub(super) fn inline(proposal: Proposal) -> ProposalOrRef {
    ProposalOrRef::Proposal(proposal)
}

fn remove(index: u32) -> Proposal {
    Proposal::Remove(LeafIndex::new(index))
}

fn psk(source: PskSource, nonce: usize) -> Proposal {
    Proposal::PreSharedKey(PreSharedKeyId { source, nonce: vec![7; nonce] })
}

pub(super) fn requiring(extension: u16) -> Proposal {
    let required = RequiredCapabilities {
        extensions: vec![ExtensionType(extension)],
        ..RequiredCapabilities::default()
    };
    let extension = Extension::new(ExtensionType::REQUIRED_CAPABILITIES, &required);
    Proposal::GroupContextExtensions(Extensions::new(vec![extension]).unwrap())
}

/// A joiner's package after a change, signed again inside and out.
fn package(rng: &mut ChaCha20Rng, change: impl FnOnce(&mut KeyPackage)) -> Proposal {
    let Joiner { signer, mut package, .. } = joiner(rng);
    change(&mut package);
    package.leaf_node.sign(&[], LeafIndex::default(), &signer);
    package.sign(&signer);
    Proposal::Add(Box::new(package))
}

#[test]
fn the_forging_itself_makes_valid_commits() {
    let members = Members::full(4, 1);
    assert!(forge(&members, |_| {}).is_ok());
    assert!(forge_external(&members, |_| {}).is_ok());
}

#[test]
fn invalid_proposal_lists_are_refused() {
    let members = Members::full(4, 2);
    let rng = &mut members.rng.clone();
    let known = members.at(3).group.leaf(LeafIndex::new(3)).unwrap().signature_key.clone();
    let reinit = Proposal::ReInit(ReInit {
        group_id: b"next".to_vec(),
        version: 1,
        cipher_suite: SUITE.id(),
        extensions: Extensions::default(),
    });
    let external = PskSource::External { psk_id: b"key".to_vec() };
    let branch = PskSource::Resumption {
        usage: ResumptionUsage::Branch,
        group_id: b"group".to_vec(),
        epoch: 1,
    };
    let somebody = joiner(rng);
    let update = members.at(1).group.leaf(LeafIndex::new(1)).unwrap().clone();
    let lists = [
        ("removes the committer", vec![remove(1)]),
        ("removes a leaf twice", vec![remove(2), remove(2)]),
        ("removes a leaf that does not exist", vec![remove(9)]),
        ("removes a leaf outside of any tree", vec![remove(u32::MAX)]),
        ("updates the committer", vec![Proposal::Update(Box::new(update))]),
        ("joins from inside", vec![external_init(rng)]),
        ("sets the extensions twice", vec![requiring(0xF0C1), requiring(0xF0C1)]),
        ("ends the group and removes", vec![reinit, remove(2)]),
        ("uses a key twice", vec![psk(external.clone(), 32), psk(external.clone(), 32)]),
        ("has a short nonce", vec![psk(external, 31)]),
        ("branches", vec![psk(branch, 32)]),
    ];
    for (what, list) in lists {
        let forged =
            forge(&members, |commit| commit.proposals.extend(list.into_iter().map(inline)));
        assert_eq!(forged.unwrap_err(), Error::InvalidProposalList, "a commit that {what}");
    }
    let unknown = ProposalOrRef::Reference(Digest::default());
    let forged = forge(&members, |commit| commit.proposals.push(unknown));
    assert_eq!(forged.unwrap_err(), Error::UnknownProposal);
    for (what, list) in [
        ("adds a client twice", vec![add(&somebody), add(&somebody)]),
        (
            "adds a member again",
            vec![package(rng, |package| {
                package.leaf_node.signature_key = known;
            })],
        ),
    ] {
        let forged =
            forge(&members, |commit| commit.proposals.extend(list.into_iter().map(inline)));
        assert!(forged.is_err(), "a commit that {what}");
    }
    for required in [requiring(0xF0C2), requiring(0xFFFF)] {
        let forged = forge(&members, |commit| commit.proposals.push(inline(required)));
        assert_eq!(forged.unwrap_err(), Error::MissingCapability);
    }
}

#[test]
fn a_leaf_that_lists_a_type_many_times_supports_it_once() {
    let members = Members::full(5, 9);
    let rng = &mut members.rng.clone();
    for times in 1..=6 {
        let boaster = package(rng, |package| {
            let extensions = &mut package.leaf_node.capabilities.extensions;
            extensions.extend(vec![ExtensionType(0xF0C2); times]);
        });
        let alone = members.at(1).commit(vec![boaster.clone()], Path::With, rng);
        assert!(alone.is_ok(), "listing a type {times} times is no error");
        let proposals = vec![boaster, requiring(0xF0C2)];
        let drafted = members.at(1).commit(proposals.clone(), Path::With, rng);
        assert_eq!(drafted.err(), Some(Error::MissingCapability), "listed {times} times");
        let list = proposals.into_iter().map(inline);
        let forged = forge(&members, |commit| commit.proposals.extend(list));
        assert_eq!(forged.err(), Some(Error::MissingCapability), "listed {times} times");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn invalid_key_packages_are_refused() {
    let members = Members::full(5, 3);
    let rng = &mut members.rng.clone();
    let low_order = HpkePublicKey::from_bytes(vec![0; 32]);
    let packages = [
        (Error::InvalidKeyPackage, package(rng, |package| package.version = 2)),
        (Error::InvalidKeyPackage, package(rng, |package| package.cipher_suite = 1)),
        (
            Error::InvalidKeyPackage,
            package(rng, |package| {
                package.init_key = package.leaf_node.encryption_key.clone();
            }),
        ),
        (
            Error::InvalidKeyPackage,
            package(rng, |package| {
                package.leaf_node.source = LeafNodeSource::Update;
            }),
        ),
        (
            Error::InvalidKeyPackage,
            package(rng, |package| {
                let unlisted =
                    Extension { extension_type: ExtensionType(0xF0C2), data: Vec::new() };
                package.extensions = Extensions::new(vec![unlisted]).unwrap();
            }),
        ),
        (
            Error::InvalidLeafNode,
            package(rng, |package| {
                let unlisted =
                    Extension { extension_type: ExtensionType(0xF0C2), data: Vec::new() };
                package.leaf_node.extensions = Extensions::new(vec![unlisted]).unwrap();
            }),
        ),
        (
            Error::InvalidLeafNode,
            package(rng, |package| {
                package.leaf_node.capabilities.extensions.push(ExtensionType::RATCHET_TREE);
            }),
        ),
        (
            Error::InvalidLeafNode,
            package(rng, |package| {
                package.leaf_node.capabilities.proposals.push(ProposalType::ADD);
            }),
        ),
        (
            Error::InvalidLeafNode,
            package(rng, |package| {
                package.leaf_node.capabilities.credentials.clear();
            }),
        ),
        (
            Error::InvalidLeafNode,
            package(rng, |package| {
                package.leaf_node.capabilities.versions.clear();
            }),
        ),
        (
            Error::InvalidLeafNode,
            package(rng, |package| {
                package.leaf_node.capabilities.cipher_suites = vec![1];
            }),
        ),
        (Error::InvalidKey, package(rng, |package| package.init_key = low_order.clone())),
        (
            Error::InvalidKey,
            package(rng, |package| {
                package.leaf_node.encryption_key = low_order.clone();
            }),
        ),
    ];
    for (at, (error, add)) in packages.into_iter().enumerate() {
        let forged = forge(&members, |commit| commit.proposals.push(inline(add)));
        assert_eq!(forged.unwrap_err(), error, "package {at}");
    }
    for spoil in [
        |package: &mut KeyPackage| package.signature[5] ^= 1,
        |package: &mut KeyPackage| package.leaf_node.signature[5] ^= 1,
    ] {
        let mut package = joiner(rng).package;
        spoil(&mut package);
        let add = Proposal::Add(Box::new(package));
        let forged = forge(&members, |commit| commit.proposals.push(inline(add)));
        assert_eq!(forged.unwrap_err(), Error::InvalidSignature);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn invalid_paths_are_refused() {
    let members = Members::full(4, 4);
    let forger = members.at(1);
    let own = LeafIndex::new(1);
    let place = |leaf: &mut super::super::super::leaf_node::LeafNode| {
        leaf.sign(b"group", own, &forger.signer);
    };
    let other = members.at(3).group.leaf(LeafIndex::new(3)).unwrap().clone();
    let root = forger.group.tree().parent(NodeIndex::new(3)).unwrap().encryption_key.clone();
    let unchanged = forger.group.leaf(own).unwrap().encryption_key.clone();
    type Change<'a> = Box<dyn FnOnce(&mut super::super::super::commit::UpdatePath) + 'a>;
    let changes: Vec<(Error, Change<'_>)> = vec![
        (Error::InvalidCommit, Box::new(|path| drop(path.nodes.pop()))),
        (Error::InvalidCommit, Box::new(|path| path.nodes.push(path.nodes[0].clone()))),
        (Error::InvalidTree, Box::new(|path| path.nodes.swap(0, 1))),
        (Error::InvalidCommit, Box::new(|path| drop(path.nodes[1].encrypted_path_secret.pop()))),
        (
            Error::InvalidCommit,
            Box::new(|path| {
                let first = path.nodes[0].encrypted_path_secret[0].clone();
                path.nodes[0].encrypted_path_secret.push(first);
            }),
        ),
        (Error::InvalidCommit, Box::new(|path| path.nodes[1].encryption_key = root)),
        (
            Error::InvalidCommit,
            Box::new(|path| {
                path.nodes[1].encryption_key = path.nodes[0].encryption_key.clone();
            }),
        ),
        (
            Error::InvalidCommit,
            Box::new(|path| {
                path.nodes[0].encryption_key = path.leaf_node.encryption_key.clone();
            }),
        ),
        (
            Error::InvalidKey,
            Box::new(|path| {
                path.nodes[0].encryption_key = HpkePublicKey::from_bytes(vec![0; 32]);
            }),
        ),
        (
            Error::InvalidKey,
            Box::new(|path| {
                path.nodes[0].encryption_key = HpkePublicKey::from_bytes(vec![9; 31]);
            }),
        ),
        (
            Error::InvalidTree,
            Box::new(|path| {
                let key = HpkePrivateKey::generate(&mut ChaCha20Rng::seed_from_u64(0));
                path.nodes[0].encryption_key = key.public();
            }),
        ),
        (
            Error::InvalidLeafNode,
            Box::new(|path| {
                path.leaf_node.encryption_key = unchanged;
                place(&mut path.leaf_node);
            }),
        ),
        (
            Error::InvalidCommit,
            Box::new(|path| {
                path.leaf_node.encryption_key = other.encryption_key.clone();
                place(&mut path.leaf_node);
            }),
        ),
        (
            Error::InvalidLeafNode,
            Box::new(|path| {
                path.leaf_node.source = LeafNodeSource::Update;
                place(&mut path.leaf_node);
            }),
        ),
        (
            Error::InvalidTree,
            Box::new(|path| {
                path.leaf_node.source = LeafNodeSource::Commit { parent_hash: Vec::new() };
                place(&mut path.leaf_node);
            }),
        ),
        (
            Error::InvalidTree,
            Box::new(|path| {
                path.leaf_node.source = LeafNodeSource::Commit { parent_hash: vec![1; 32] };
                place(&mut path.leaf_node);
            }),
        ),
        (Error::InvalidSignature, Box::new(|path| path.leaf_node.signature[0] ^= 1)),
        (
            Error::InvalidSignature,
            Box::new(|path| {
                path.leaf_node.sign(b"group", LeafIndex::new(2), &forger.signer);
            }),
        ),
        (
            Error::InvalidSignature,
            Box::new(|path| {
                path.leaf_node.sign(b"other", own, &forger.signer);
            }),
        ),
        (
            Error::InvalidLeafNode,
            Box::new(|path| {
                path.leaf_node.capabilities.extensions.push(ExtensionType::APPLICATION_ID);
                place(&mut path.leaf_node);
            }),
        ),
    ];
    for (at, (error, change)) in changes.into_iter().enumerate() {
        let forged = forge(&members, |commit| change(commit.path.as_mut().unwrap()));
        assert_eq!(forged.unwrap_err(), error, "path {at}");
    }
    for list in [vec![], vec![remove(2)], vec![requiring(0xF0C1)]] {
        let forged = forge(&members, |commit| {
            commit.proposals = list.into_iter().map(inline).collect();
            commit.path = None;
        });
        assert_eq!(forged.unwrap_err(), Error::InvalidCommit);
    }
}

#[test]
fn a_leaf_with_the_signature_key_of_another_is_refused() {
    let members = Members::full(4, 5);
    let forger = members.at(1);
    let stolen = &members.at(3).signer;
    let rng = &mut members.rng.clone();
    let own = CommitSender::Member(LeafIndex::new(1));
    let draft = forger.group.draft(own, Vec::new()).unwrap();
    let leaf = forger.group.leaf(LeafIndex::new(1)).unwrap().clone();
    assert_eq!(draft.with_path(leaf, stolen, rng).unwrap_err(), Error::InvalidLeafNode);
}

#[test]
fn invalid_external_commits_are_refused() {
    let members = Members::full(4, 6);
    let rng = &mut members.rng.clone();
    let somebody = joiner(rng);
    let low_order = Proposal::ExternalInit { kem_output: vec![0; 32] };
    let short = Proposal::ExternalInit { kem_output: vec![9; 31] };
    let lists = [
        (Error::InvalidProposalList, vec![]),
        (Error::InvalidProposalList, vec![remove(2)]),
        (Error::InvalidProposalList, vec![external_init(rng), external_init(rng)]),
        (Error::InvalidProposalList, vec![external_init(rng), remove(1), remove(2)]),
        (Error::InvalidProposalList, vec![external_init(rng), remove(7)]),
        (Error::InvalidProposalList, vec![external_init(rng), add(&somebody)]),
        (Error::InvalidProposalList, vec![external_init(rng), requiring(0xF0C1)]),
        (Error::InvalidKey, vec![low_order, remove(2)]),
        (Error::InvalidKey, vec![short, remove(2)]),
        // The path is made for the place that removing leaf 2 leaves.
        (Error::InvalidCommit, vec![external_init(rng)]),
    ];
    for (at, (error, list)) in lists.into_iter().enumerate() {
        let forged = forge_external(&members, |commit| {
            commit.proposals = list.into_iter().map(inline).collect();
        });
        assert_eq!(forged.unwrap_err(), error, "list {at}");
    }
    let reference = ProposalOrRef::Reference(Digest::default());
    let forged = forge_external(&members, |commit| commit.proposals.push(reference));
    assert_eq!(forged.unwrap_err(), Error::UnknownProposal);
    let forged = forge_external(&members, |commit| commit.path = None);
    assert_eq!(forged.unwrap_err(), Error::InvalidSender);
    let old = members.at(2).group.leaf(LeafIndex::new(2)).unwrap().encryption_key.clone();
    let forged = forge_external(&members, |commit| {
        commit.path.as_mut().unwrap().leaf_node.encryption_key = old;
    });
    assert_eq!(forged.unwrap_err(), Error::InvalidLeafNode);
}
