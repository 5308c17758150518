use std::collections::BTreeMap;

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::super::codec::{Decode, Encode};
use super::super::credential::Credential;
use super::super::extension::{ExtensionType, Extensions};
use super::super::framing::{PublicMessage, WireFormat};
use super::super::key_package::{KeyPackage, KeyPackageContent, KeyPackageKeys};
use super::super::leaf_node::{Capabilities, LeafContent, Lifetime};
use super::super::proposal::Proposal;
use super::super::tree::RatchetTree;
use super::super::tree_math::{LeafIndex, NodeIndex};
use super::super::treekem::{FreshPath, TreeKeys};
use super::super::{Error, PartId};
use super::{CommitSender, PublicGroup, StagedPublic, Unconfirmed};
use crate::crypto::hpke::HpkePrivateKey;
use crate::crypto::signature::SignatureKey;
use crate::crypto::{Digest, Suite};

mod forged;
mod joined;
mod lives;
mod measured;
mod mutated;

pub(super) const SUITE: Suite = Suite::X25519ChaCha20Poly1305Sha256Ed25519;

/// A client before it is in the group.
pub(super) struct Joiner {
    pub(super) signer: SignatureKey,
    pub(super) package: KeyPackage,
    pub(super) keys: KeyPackageKeys,
}

/// A member without a key schedule: it folds commits and follows path secrets.
pub(super) struct Member {
    pub(super) signer: SignatureKey,
    pub(super) keys: TreeKeys,
    pub(super) group: PublicGroup,
    saved: BTreeMap<PartId, Vec<u8>>,
}

/// All members of one group, who process each other's commits.
pub(super) struct Members {
    pub(super) rng: ChaCha20Rng,
    pub(super) list: BTreeMap<LeafIndex, Member>,
}

/// Whether a commit of a test has a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    With,
    Without,
}

pub(super) fn joiner(rng: &mut ChaCha20Rng) -> Joiner {
    let signer = SignatureKey::generate(rng);
    let leaf = LeafContent {
        credential: Credential::Basic(b"somebody".to_vec()),
        capabilities: Capabilities::basic(SUITE, vec![ExtensionType(0xF0C1)]),
        extensions: Extensions::default(),
    };
    let lifetime = Lifetime { not_before: 0, not_after: u64::MAX };
    let content = KeyPackageContent { leaf, lifetime, extensions: Extensions::default() };
    let (package, keys) = KeyPackage::generate(SUITE, content, &signer, rng);
    Joiner { signer, package, keys }
}

pub(super) fn add(joiner: &Joiner) -> Proposal {
    Proposal::Add(Box::new(joiner.package.clone()))
}

/// What goes over the wire: the message of a staged commit, encoded and decoded.
pub(super) fn transmit(staged: &StagedPublic) -> PublicMessage {
    let content = staged.commit().content();
    let membership_tag = matches!(staged.commit().sender(), CommitSender::Member(_));
    let message = PublicMessage {
        content: content.content.clone(),
        auth: content.auth.clone(),
        membership_tag: membership_tag.then_some(Digest::default()),
    };
    PublicMessage::decode_exact(&message.to_bytes()).unwrap()
}

impl Member {
    fn new(signer: SignatureKey, keys: TreeKeys, group: PublicGroup) -> Self {
        let mut member = Self { signer, keys, group, saved: BTreeMap::new() };
        member.save();
        member
    }

    /// Saves what changed; what is saved loads to the same group.
    fn save(&mut self) {
        for (part, bytes) in self.group.take_changes() {
            match bytes {
                Some(bytes) => drop(self.saved.insert(part, bytes)),
                None => drop(self.saved.remove(&part)),
            }
        }
        assert!(self.group.take_changes().is_empty());
        let loaded = PublicGroup::load(self.saved.clone()).unwrap();
        assert_eq!(loaded.tree(), self.group.tree());
        assert_eq!(loaded.context(), self.group.context());
        assert_eq!(loaded.interim_transcript_hash(), self.group.interim_transcript_hash());
    }

    /// Drafts a commit; the tag stands for what a key schedule would give.
    pub(super) fn commit(
        &self,
        proposals: Vec<Proposal>,
        path: Path,
        rng: &mut ChaCha20Rng,
    ) -> Result<(StagedPublic, Option<FreshPath>), Error> {
        let own = self.keys.leaf_index();
        let draft = self.group.draft(CommitSender::Member(own), proposals)?;
        let (drafted, fresh) = match path {
            Path::Without => (draft.without_path()?, None),
            Path::With => {
                let leaf = self.group.leaf(own).unwrap().clone();
                let (drafted, fresh) = draft.with_path(leaf, &self.signer, rng)?;
                (drafted, Some(fresh))
            }
        };
        let unconfirmed = drafted.frame(WireFormat::PublicMessage, Vec::new(), &self.signer)?;
        Ok((confirm(unconfirmed), fresh))
    }

    pub(super) fn stage(&self, message: &PublicMessage) -> Result<StagedPublic, Error> {
        self.group.stage(self.group.verify_commit(message)?)
    }

    /// Follows a commit that does not remove us.
    fn follow(&mut self, staged: StagedPublic, secret: Option<&FreshPath>) {
        let commit = staged.commit();
        let tree = staged.tree(&self.group);
        self.keys = match commit.path() {
            None => self.keys.without_path(tree),
            Some(path) => {
                let context = staged.provisional_context().to_bytes();
                let (keys, commit_secret) = self
                    .keys
                    .open_path(tree, commit.author(), &path.nodes, commit.added(), &context)
                    .unwrap();
                assert_eq!(Some(&commit_secret), secret.map(FreshPath::commit_secret));
                keys
            }
        };
        assert!(self.keys.belong_to(tree));
        self.group.merge(staged).unwrap();
        self.save();
    }
}

pub(super) fn confirm(unconfirmed: Unconfirmed) -> StagedPublic {
    let tag = Digest::of(&[&unconfirmed.context().confirmed_transcript_hash]);
    unconfirmed.confirm(tag)
}

impl Members {
    /// A group of one.
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let Joiner { signer, package, keys } = joiner(&mut rng);
        let own = LeafIndex::new(0);
        let (id, none) = (b"group".to_vec(), Extensions::default());
        let group = PublicGroup::create(SUITE, id, package.leaf_node, none, |_| Digest::default());
        let group = group.unwrap();
        let member = Member::new(signer, TreeKeys::new(own, keys.leaf), group);
        Self { rng, list: BTreeMap::from([(own, member)]) }
    }

    /// A group whose founder added all others in one commit.
    pub(super) fn founded(size: usize, seed: u64) -> Self {
        let mut members = Self::new(seed);
        if size > 1 {
            members.change(LeafIndex::default(), &[], size - 1, Path::With);
        }
        members
    }

    /// A group in which everybody has committed once, so that no parent is blank.
    pub(super) fn full(size: usize, seed: u64) -> Self {
        let mut members = Self::founded(size, seed);
        let all: Vec<_> = members.list.keys().copied().collect();
        for by in all {
            members.change(by, &[], 0, Path::With);
        }
        members
    }

    pub(super) fn at(&self, index: u32) -> &Member {
        &self.list[&LeafIndex::new(index)]
    }

    /// One commit, followed by everybody: removals, then additions.
    pub(super) fn change(&mut self, by: LeafIndex, removes: &[LeafIndex], adds: usize, path: Path) {
        let joiners: Vec<_> = (0..adds).map(|_| joiner(&mut self.rng)).collect();
        let removals = removes.iter().map(|index| Proposal::Remove(*index));
        let proposals = removals.chain(joiners.iter().map(add)).collect();
        let (staged, fresh) = self.list[&by].commit(proposals, path, &mut self.rng).unwrap();
        for index in removes {
            self.list.remove(index).unwrap();
        }
        self.deliver(by, staged, fresh, joiners);
    }

    /// A newcomer joins by external commit; `resync` says whose place it takes.
    pub(super) fn join_external(&mut self, resync: Option<LeafIndex>) -> LeafIndex {
        let Joiner { signer, package, .. } = joiner(&mut self.rng);
        let kem_output = HpkePrivateKey::generate(&mut self.rng).public().as_bytes().to_vec();
        let mut proposals = vec![Proposal::ExternalInit { kem_output }];
        proposals.extend(resync.map(Proposal::Remove));
        let known = self.list.values().next().unwrap();
        let (group, saved) = (known.group.clone(), known.saved.clone());
        let draft = group.draft(CommitSender::External, proposals).unwrap();
        let own = draft.author();
        let (drafted, fresh) = draft.with_path(package.leaf_node, &signer, &mut self.rng).unwrap();
        let framed = drafted.frame(WireFormat::PublicMessage, Vec::new(), &signer).unwrap();
        let staged = confirm(framed);
        if let Some(gone) = resync {
            self.list.remove(&gone).unwrap();
        }
        let keys = TreeKeys::new(own, fresh.leaf().clone());
        let newcomer = Member { signer, keys, group, saved };
        assert!(self.list.insert(own, newcomer).is_none());
        self.deliver(own, staged, Some(fresh), Vec::new());
        own
    }

    fn deliver(
        &mut self,
        by: LeafIndex,
        staged: StagedPublic,
        fresh: Option<FreshPath>,
        joiners: Vec<Joiner>,
    ) {
        let message = transmit(&staged);
        for (_, member) in self.list.iter_mut().filter(|(index, _)| **index != by) {
            let theirs = member.stage(&message).unwrap();
            assert_eq!(theirs.context(), staged.context());
            member.follow(theirs, fresh.as_ref());
        }
        let committer = self.list.get_mut(&by).unwrap();
        let places = staged.commit().added().to_vec();
        let tree = staged.tree(&committer.group);
        let old = committer.keys.without_path(tree);
        let secrets: Vec<_> =
            places.iter().map(|place| Some(fresh.as_ref()?.secret_for(*place)?.clone())).collect();
        committer.keys = fresh.map_or(old, FreshPath::into_keys);
        committer.group.merge(staged).unwrap();
        assert!(committer.keys.belong_to(committer.group.tree().view()));
        committer.save();
        let mut info = committer.group.group_info(Extensions::default(), by, Vec::new());
        info.sign(&committer.signer);
        let tree = committer.group.tree().to_bytes();
        for ((joiner, place), secret) in joiners.into_iter().zip(places).zip(secrets) {
            let tree = RatchetTree::decode_exact(&tree).unwrap();
            let group = PublicGroup::from_info(&info, tree).unwrap();
            let keys = match secret {
                None => TreeKeys::new(place, joiner.keys.leaf),
                Some(secret) => {
                    let view = group.tree().view();
                    TreeKeys::join(view, place, joiner.keys.leaf, by, &secret).unwrap()
                }
            };
            assert!(keys.belong_to(group.tree().view()));
            let member = Member::new(joiner.signer, keys, group);
            assert!(self.list.insert(place, member).is_none());
        }
        self.check();
    }

    /// Everybody has the same tree, its kept hashes are those of a tree hashed from scratch, and a
    /// joiner would accept it.
    fn check(&self) {
        let mut members = self.list.values();
        let first = &members.next().unwrap().group;
        for member in members {
            assert_eq!(member.group.context(), first.context());
            assert_eq!(member.group.tree(), first.tree());
        }
        let fresh = RatchetTree::decode_exact(&first.tree().to_bytes()).unwrap();
        assert_eq!(&fresh, first.tree());
        assert_eq!(fresh.size(), first.tree().size());
        assert_eq!(fresh.view().members(), first.tree().view().members());
        for node in 0..fresh.size().nodes() {
            let node = NodeIndex::new(node);
            assert_eq!(fresh.hash(node), first.tree().hash(node));
        }
        assert_eq!(fresh.root_hash(), first.context().tree_hash);
        assert!(fresh.parents_are_valid());
        assert_eq!(fresh.leaves().count(), self.list.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn trees_hash_save_and_load_alike_through_any_history(
        seed in any::<u64>(),
        steps in proptest::collection::vec((0_u8..6, any::<u8>(), any::<u8>()), 1..14),
    ) {
        let mut members = Members::new(seed);
        for (kind, first, second) in steps {
            let all: Vec<_> = members.list.keys().copied().collect();
            let by = all[usize::from(first) % all.len()];
            let other = all[usize::from(second) % all.len()];
            let adds = usize::from(second % 4) + 1;
            match kind {
                0 => members.change(by, &[], adds, Path::Without),
                1 => members.change(by, &[], adds, Path::With),
                2 => members.change(by, &[], 0, Path::With),
                3 if by != other => members.change(by, &[other], 0, Path::With),
                4 if by != other => members.change(by, &[other], adds, Path::With),
                5 if by != other => drop(members.join_external(Some(other))),
                _ => drop(members.join_external(None)),
            }
        }
    }
}

#[test]
fn a_commit_is_merged_only_where_it_was_staged() {
    let mut members = Members::full(2, 1);
    let mut rng = ChaCha20Rng::seed_from_u64(members.rng.next_u64());
    let (staged, _) = members.at(0).commit(Vec::new(), Path::With, &mut rng).unwrap();
    let verified = members.at(1).group.verify_commit(&transmit(&staged)).unwrap();
    members.change(LeafIndex::new(1), &[], 0, Path::With);
    let group = &mut members.list.get_mut(&LeafIndex::new(1)).unwrap().group;
    let before = group.context().clone();
    assert_eq!(group.stage(verified).unwrap_err(), Error::WrongEpoch);
    assert_eq!(group.merge(staged).unwrap_err(), Error::WrongEpoch);
    assert_eq!(group.context(), &before);
}
