//! The public state of a group: what its commits show to everybody who can read them.
//!
//! A [`PublicGroup`] starts from a GroupInfo with its tree ([`PublicGroup::from_info`]), or from a
//! creator's leaf ([`PublicGroup::create`]), and folds commits:
//!
//! ```text
//! PublicMessage --verify_commit--> VerifiedCommit --stage--> StagedPublic --merge--> next epoch
//! ```
//!
//! It holds no secret, so it checks neither membership tags nor confirmation tags nor path secrets.
//! All that it does check is a pure function of the group's bytes: whoever folds the same commits
//! comes to the same verdicts. Own commits take the way of [`Draft`].

use super::extension::Extensions;
use super::group_info::{GroupContext, GroupInfo};
use super::leaf_node::LeafNode;
use super::tree::RatchetTree;
use super::tree_math::LeafIndex;
use super::{Error, transcript, validation};
use crate::crypto::signature::verify_batch;
use crate::crypto::{Digest, Suite};
use crate::error::ensure;

mod commit;
mod draft;
mod effect;
mod proposals;
mod save;
#[cfg(test)]
mod tests;

pub use commit::{StagedPublic, Unconfirmed, VerifiedCommit};
pub use draft::{Draft, DraftedCommit};
pub use effect::CommitSender;
pub use proposals::{ProposalCache, ProposalList};

/// The public state of one epoch of a group.
#[derive(Clone, Debug)]
pub struct PublicGroup {
    suite: Suite,
    tree: RatchetTree,
    context: GroupContext,
    confirmation_tag: Digest,
    interim_transcript_hash: Digest,
    context_is_saved: bool,
}

impl PublicGroup {
    /// Takes up a group from a member's word and the ratchet tree that belongs to it (§12.4.3.1).
    ///
    /// # Errors
    /// [`Error::InvalidTree`], [`Error::InvalidGroupInfo`], or what is wrong with a leaf.
    pub fn from_info(info: &GroupInfo, tree: RatchetTree) -> Result<Self, Error> {
        let suite = Suite::try_from_id(info.context.cipher_suite).ok_or(Error::Unsupported)?;
        let group_id = &info.context.group_id;
        ensure(tree.root_hash() == info.context.tree_hash, Error::InvalidTree)?;
        ensure(tree.parents_are_valid(), Error::InvalidTree)?;
        let signer = tree.leaf(info.signer).ok_or(Error::InvalidGroupInfo)?;
        info.verify(&signer.signature_key)?;
        let mut signatures = Vec::new();
        for (index, leaf) in tree.leaves() {
            validation::check_leaf(leaf, suite)?;
            signatures.push(leaf.signed(group_id, index));
        }
        verify_batch(&signatures)?;
        validation::check_members(tree.view(), &info.context.extensions)?;
        Ok(Self::new(suite, tree, info.context.clone(), info.confirmation_tag))
    }

    /// Founds a group of one member (§11); `confirm` gives the confirmation tag of epoch 0.
    ///
    /// # Errors
    /// What is wrong with the leaf, or [`Error::MissingCapability`] if it does not support the
    /// extensions.
    pub fn create(
        suite: Suite,
        group_id: Vec<u8>,
        leaf: LeafNode,
        extensions: Extensions,
        confirm: impl FnOnce(&GroupContext) -> Digest,
    ) -> Result<Self, Error> {
        validation::check_leaf(&leaf, suite)?;
        leaf.verify(&group_id, LeafIndex::new(0))?;
        let tree = RatchetTree::new(leaf)?;
        validation::check_members(tree.view(), &extensions)?;
        let context = GroupContext {
            cipher_suite: suite.id(),
            group_id,
            epoch: 0,
            tree_hash: tree.root_hash(),
            confirmed_transcript_hash: Vec::new(),
            extensions,
        };
        let confirmation_tag = confirm(&context);
        Ok(Self::new(suite, tree, context, confirmation_tag))
    }

    /// The group's cipher suite.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The group's id.
    pub fn group_id(&self) -> &[u8] {
        &self.context.group_id
    }

    /// The number of commits so far.
    pub fn epoch(&self) -> u64 {
        self.context.epoch
    }

    /// What all members agree on.
    pub fn context(&self) -> &GroupContext {
        &self.context
    }

    /// The group context's extensions.
    pub fn extensions(&self) -> &Extensions {
        &self.context.extensions
    }

    /// The ratchet tree.
    pub fn tree(&self) -> &RatchetTree {
        &self.tree
    }

    /// A member's leaf.
    pub fn leaf(&self, index: LeafIndex) -> Option<&LeafNode> {
        self.tree.leaf(index)
    }

    /// All members' leaves.
    pub fn leaves(&self) -> impl DoubleEndedIterator<Item = (LeafIndex, &LeafNode)> {
        self.tree.leaves()
    }

    /// The confirmation tag of the commit that started the epoch; a group without secrets takes it
    /// on trust.
    pub fn confirmation_tag(&self) -> &Digest {
        &self.confirmation_tag
    }

    /// The hash of all commits so far, which tells any two histories apart (§8.2).
    pub fn interim_transcript_hash(&self) -> &Digest {
        &self.interim_transcript_hash
    }

    /// The GroupInfo of this epoch with these extensions, signer and signature, to be signed or
    /// verified.
    pub fn group_info(
        &self,
        extensions: Extensions,
        signer: LeafIndex,
        signature: Vec<u8>,
    ) -> GroupInfo {
        GroupInfo {
            context: self.context.clone(),
            extensions,
            confirmation_tag: self.confirmation_tag,
            signer,
            signature,
        }
    }

    fn new(
        suite: Suite,
        mut tree: RatchetTree,
        context: GroupContext,
        confirmation_tag: Digest,
    ) -> Self {
        tree.touch_pages();
        let confirmed = &context.confirmed_transcript_hash;
        let interim_transcript_hash = transcript::interim(confirmed, &confirmation_tag);
        let context_is_saved = false;
        Self { suite, tree, context, confirmation_tag, interim_transcript_hash, context_is_saved }
    }
}
