use rand_core::CryptoRng;

use super::super::Error;
use super::super::codec::Encode;
use super::super::commit::{Commit, UpdatePath};
use super::super::framing::{
    AuthenticatedContent, Content, FramedContent, FramedContentAuthData, Sender, WireFormat,
};
use super::super::leaf_node::{LeafNode, LeafNodeSource};
use super::super::proposal::{Proposal, ProposalOrRef};
use super::super::tree::{TreeChanges, TreeDiff};
use super::super::tree_math::LeafIndex;
use super::super::treekem::FreshPath;
use super::super::validation::{check_leaf, check_members};
use super::PublicGroup;
use super::commit::{Unconfirmed, VerifiedCommit};
use super::effect::{CommitSender, Effect};
use super::proposals::{ProposalCache, ProposalList};
use crate::crypto::signature::{SignatureKey, verify_batch};
use crate::error::ensure;

/// A commit of our own in the making (RFC 9420 §12.4.1).
///
/// ```text
/// draft --with_path / without_path--> DraftedCommit --frame--> Unconfirmed --confirm--> StagedPublic
/// ```
#[derive(Debug)]
pub struct Draft<'a> {
    group: &'a PublicGroup,
    proposals: Vec<ProposalOrRef>,
    effect: Effect,
    diff: TreeDiff<'a>,
}

/// A commit of our own that is not signed yet.
#[derive(Debug)]
pub struct DraftedCommit<'a> {
    group: &'a PublicGroup,
    commit: Commit,
    effect: Effect,
    changes: TreeChanges,
}

impl PublicGroup {
    /// Starts a commit with these proposals, all of them inline.
    ///
    /// # Errors
    /// What the receivers of such a commit would find wrong with it.
    pub fn draft(
        &self,
        sender: CommitSender,
        proposals: Vec<Proposal>,
    ) -> Result<Draft<'_>, Error> {
        if let CommitSender::Member(index) = sender {
            self.leaf(index).ok_or(Error::InvalidSender)?;
        }
        let proposals: Vec<_> = proposals.into_iter().map(ProposalOrRef::Proposal).collect();
        let list = ProposalList::collect(self, sender, &proposals, &ProposalCache::default())?;
        let (effect, diff) = Effect::apply(self, sender, list)?;
        let mut signatures = Vec::new();
        effect.check_proposed_leaves(self, &mut signatures)?;
        verify_batch(&signatures)?;
        Ok(Draft { group: self, proposals, effect, diff })
    }
}

impl<'a> Draft<'a> {
    /// Our leaf after the commit.
    pub fn author(&self) -> LeafIndex {
        self.effect.author
    }

    /// Goes on without a path.
    ///
    /// # Errors
    /// [`Error::InvalidPlan`] if the proposals need one, [`Error::MissingCapability`] or
    /// [`Error::InvalidLeafNode`] if the members would not fit together.
    pub fn without_path(self) -> Result<DraftedCommit<'a>, Error> {
        let Self { group, proposals, effect, diff } = self;
        ensure(!effect.proposals.needs_path, Error::InvalidPlan)?;
        check_members(diff.view(), &effect.extensions)?;
        let commit = Commit { proposals, path: None };
        Ok(DraftedCommit { group, commit, effect, changes: diff.pause() })
    }

    /// Goes on with fresh keys for our leaf and for the nodes above it.
    ///
    /// `leaf` says who we are and what we support; its keys, source and signature are replaced, the
    /// signature key by that of `signer`.
    ///
    /// # Errors
    /// [`Error::MissingCapability`] or [`Error::InvalidLeafNode`] if the members would not fit
    /// together.
    pub fn with_path(
        self,
        mut leaf: LeafNode,
        signer: &SignatureKey,
        rng: &mut impl CryptoRng,
    ) -> Result<(DraftedCommit<'a>, FreshPath), Error> {
        let Self { group, proposals, effect, mut diff } = self;
        let fresh = FreshPath::generate(diff.view(), effect.author, rng)?;
        let keys = fresh.public_keys();
        let parent_hash = diff.set_path(effect.author, &keys).ok_or(Error::Internal)?;
        leaf.encryption_key = fresh.leaf().public();
        leaf.signature_key = signer.public();
        leaf.source = LeafNodeSource::Commit { parent_hash };
        leaf.sign(group.group_id(), effect.author, signer);
        check_leaf(&leaf, group.suite)?;
        diff.set_leaf(effect.author, Some(leaf.clone()));
        check_members(diff.view(), &effect.extensions)?;
        let tree_hash = diff.root_hash();
        let context = group.next_context(&effect, tree_hash)?.to_bytes();
        let nodes = fresh.seal(diff.view(), &effect.added, &context, rng)?;
        let path = Some(UpdatePath { leaf_node: leaf, nodes });
        let commit = Commit { proposals, path };
        Ok((DraftedCommit { group, commit, effect, changes: diff.pause() }, fresh))
    }
}

impl DraftedCommit<'_> {
    /// Signs the commit; the confirmation tag comes next.
    ///
    /// A member's `signer` is the key of its leaf before the commit, even if the path brings another.
    ///
    /// # Errors
    /// [`Error::InvalidCommit`] at the end of the last epoch.
    pub fn frame(
        self,
        wire_format: WireFormat,
        authenticated_data: Vec<u8>,
        signer: &SignatureKey,
    ) -> Result<Unconfirmed, Error> {
        let Self { group, commit, effect, changes } = self;
        let content = FramedContent {
            group_id: group.group_id().to_vec(),
            epoch: group.epoch(),
            sender: match effect.sender {
                CommitSender::Member(index) => Sender::Member(index),
                CommitSender::External => Sender::NewMemberCommit,
            },
            authenticated_data,
            content: Content::Commit(Box::new(commit)),
        };
        let signature = content.sign(wire_format, &group.context, signer);
        let auth = FramedContentAuthData { signature, confirmation_tag: None };
        let content = AuthenticatedContent { wire_format, content, auth };
        group.frame(VerifiedCommit::own(group, content, effect, changes))
    }
}
