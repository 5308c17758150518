use super::super::Error;
use super::super::extension::Extensions;
use super::super::leaf_node::{LeafNode, LeafNodeSource};
use super::super::tree::TreeDiff;
use super::super::tree_math::LeafIndex;
use super::super::validation::check_leaf;
use super::PublicGroup;
use super::proposals::ProposalList;
use crate::crypto::signature::Signed;
use crate::error::ensure;

/// Who commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitSender {
    /// The member at this leaf of the tree before the commit.
    Member(LeafIndex),
    /// Somebody who joins by external commit.
    External,
}

/// What the proposals of a commit do to the group; its path comes on top.
#[derive(Clone, Debug)]
pub(super) struct Effect {
    pub(super) sender: CommitSender,
    /// The committer's leaf afterwards.
    pub(super) author: LeafIndex,
    pub(super) proposals: ProposalList,
    /// The leaves of `proposals.adds`, in the same order, which is increasing.
    pub(super) added: Vec<LeafIndex>,
    /// Those of the next group context.
    pub(super) extensions: Extensions,
}

impl Effect {
    /// Applies valid proposals to the group's tree (RFC 9420 §12.3).
    pub(super) fn apply(
        group: &PublicGroup,
        sender: CommitSender,
        proposals: ProposalList,
    ) -> Result<(Self, TreeDiff<'_>), Error> {
        let mut diff = group.tree.diff();
        for (index, leaf) in &proposals.updates {
            diff.update(*index, leaf.clone());
        }
        for index in &proposals.removes {
            diff.remove(*index);
        }
        let mut added = Vec::with_capacity(proposals.adds.len());
        for package in &proposals.adds {
            let index = diff.add(package.leaf_node.clone()).ok_or(Error::InvalidProposalList)?;
            added.push(index);
        }
        let author = match sender {
            CommitSender::Member(index) => index,
            CommitSender::External => diff.vacancy().ok_or(Error::InvalidProposalList)?,
        };
        let extensions = proposals.extensions.as_ref().unwrap_or(&group.context.extensions).clone();
        Ok((Self { sender, author, proposals, added, extensions }, diff))
    }

    /// Checks the leaves of Update proposals (§12.1.2) and collects all signatures of proposals.
    pub(super) fn check_proposed_leaves<'a>(
        &'a self,
        group: &'a PublicGroup,
        signatures: &mut Vec<Signed<'a>>,
    ) -> Result<(), Error> {
        for (index, leaf) in &self.proposals.updates {
            check_leaf(leaf, group.suite)?;
            let replaced = group.leaf(*index).ok_or(Error::InvalidProposalList)?;
            ensure(matches!(leaf.source, LeafNodeSource::Update), Error::InvalidLeafNode)?;
            ensure(leaf.encryption_key != replaced.encryption_key, Error::InvalidLeafNode)?;
            signatures.push(leaf.signed(group.group_id(), *index));
        }
        for package in &self.proposals.adds {
            signatures.push(package.signed());
            // A key package's leaf is signed without a place.
            signatures.push(package.leaf_node.signed(&[], LeafIndex::default()));
        }
        Ok(())
    }

    /// The leaf that the path of the commit replaces.
    pub(super) fn replaced<'a>(&self, group: &'a PublicGroup) -> Option<&'a LeafNode> {
        match self.sender {
            CommitSender::Member(index) => group.leaf(index),
            CommitSender::External => group.leaf(*self.proposals.removes.first()?),
        }
    }
}
