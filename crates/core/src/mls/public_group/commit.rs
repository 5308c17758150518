use std::collections::BTreeSet;

use super::super::commit::UpdatePath;
use super::super::extension::Extensions;
use super::super::framing::{AuthenticatedContent, Content, FramedContent, PublicMessage, Sender};
use super::super::group_info::{GroupContext, GroupInfo};
use super::super::key_package::KeyPackage;
use super::super::leaf_node::LeafNodeSource;
use super::super::tree::{TreeChanges, TreeDiff, TreeView};
use super::super::tree_math::LeafIndex;
use super::super::validation::{check_leaf, check_members};
use super::super::{Error, transcript, treekem};
use super::PublicGroup;
use super::effect::{CommitSender, Effect};
use super::proposals::{ProposalCache, ProposalList};
use crate::crypto::Digest;
use crate::crypto::signature::verify_batch;
use crate::error::ensure;

/// A commit whose signatures, proposals and keys are valid; its parent hashes come next.
///
/// What it says can be read before anything is done with it.
#[derive(Clone, Debug)]
pub struct VerifiedCommit {
    /// The history that the commit was verified against.
    base: Digest,
    content: AuthenticatedContent,
    effect: Effect,
    pub(super) changes: TreeChanges,
}

/// A commit that would start a new epoch, without its confirmation tag.
#[derive(Clone, Debug)]
pub struct Unconfirmed {
    commit: VerifiedCommit,
    context: GroupContext,
    previous_transcript_hash: Vec<u8>,
}

/// A commit whose public side is complete: it can be inspected, then merged or dropped.
#[derive(Clone, Debug)]
pub struct StagedPublic {
    next: Unconfirmed,
    confirmation_tag: Digest,
    interim_transcript_hash: Digest,
}

impl PublicGroup {
    /// Verifies a commit with all proposals inline (RFC 9420 §12.4.2), except for what takes
    /// secrets: membership tag, confirmation tag, path secrets.
    ///
    /// # Errors
    /// What is wrong with the commit.
    pub fn verify_commit(&self, message: &PublicMessage) -> Result<VerifiedCommit, Error> {
        self.verify_commit_with(message.authenticated(), &ProposalCache::default())
    }

    /// Verifies a commit that may name proposals of a cache.
    ///
    /// # Errors
    /// What is wrong with the commit; [`Error::UnknownProposal`] if the cache lacks one.
    pub fn verify_commit_with(
        &self,
        content: AuthenticatedContent,
        cache: &ProposalCache,
    ) -> Result<VerifiedCommit, Error> {
        self.check_place(&content.content)?;
        let Content::Commit(commit) = &content.content.content else {
            return Err(Error::Unsupported);
        };
        ensure(content.auth.confirmation_tag.is_some(), Error::InvalidCommit)?;
        let path_leaf = commit.path.as_ref().map(|path| &path.leaf_node);
        let (sender, key) = match content.content.sender {
            Sender::Member(index) => (CommitSender::Member(index), self.leaf(index)),
            Sender::NewMemberCommit => (CommitSender::External, path_leaf),
            Sender::External(_) | Sender::NewMemberProposal => return Err(Error::InvalidSender),
        };
        let key = &key.ok_or(Error::InvalidSender)?.signature_key;
        let proposals = ProposalList::collect(self, sender, &commit.proposals, cache)?;
        ensure(!proposals.needs_path || commit.path.is_some(), Error::InvalidCommit)?;
        let (effect, mut diff) = Effect::apply(self, sender, proposals)?;
        let mut signatures = vec![content.signed(&self.context, key)];
        effect.check_proposed_leaves(self, &mut signatures)?;
        if let Some(path) = &commit.path {
            self.check_path(&effect, path, diff.view())?;
            signatures.push(path.leaf_node.signed(self.group_id(), effect.author));
            diff.set_leaf(effect.author, Some(path.leaf_node.clone()));
        }
        check_members(diff.view(), &effect.extensions)?;
        verify_batch(&signatures)?;
        let changes = diff.pause();
        Ok(VerifiedCommit { base: self.interim_transcript_hash, content, effect, changes })
    }

    /// Computes the epoch that a commit starts: tree with path, parent hash of the committer's leaf
    /// (§7.9.2), context, transcript.
    ///
    /// # Errors
    /// [`Error::InvalidTree`] if the parent hash does not fit, [`Error::WrongEpoch`] if the group
    /// has moved on since the commit was verified.
    pub fn stage(&self, mut commit: VerifiedCommit) -> Result<StagedPublic, Error> {
        let tag = commit.content.auth.confirmation_tag.ok_or(Error::InvalidCommit)?;
        self.check_base(&commit)?;
        let mut diff = TreeDiff::resume(&self.tree, commit.changes);
        if let Some(path) = path_of(&commit.content) {
            let keys: Vec<_> = path.nodes.iter().map(|node| node.encryption_key.clone()).collect();
            let expected = diff.set_path(commit.effect.author, &keys);
            ensure(expected.as_deref() == path.leaf_node.parent_hash(), Error::InvalidTree)?;
            ensure(expected.is_some(), Error::InvalidTree)?;
        }
        commit.changes = diff.pause();
        self.frame(commit).map(|unconfirmed| unconfirmed.confirm(tag))
    }

    /// Moves to the epoch that a staged commit starts.
    ///
    /// # Errors
    /// [`Error::WrongEpoch`] if the commit was staged on another state.
    pub fn merge(&mut self, staged: StagedPublic) -> Result<(), Error> {
        let StagedPublic { next, confirmation_tag, interim_transcript_hash } = staged;
        self.check_base(&next.commit)?;
        self.tree.merge(next.commit.changes);
        self.context = next.context;
        self.confirmation_tag = confirmation_tag;
        self.interim_transcript_hash = interim_transcript_hash;
        self.context_is_saved = false;
        Ok(())
    }

    /// Checks group and epoch of a message.
    pub(super) fn check_place(&self, content: &FramedContent) -> Result<(), Error> {
        ensure(content.group_id == self.context.group_id, Error::WrongGroup)?;
        ensure(content.epoch == self.context.epoch, Error::WrongEpoch)
    }

    /// The commit's proposals and path are in its tree; hashes and transcript follow.
    pub(super) fn frame(&self, mut commit: VerifiedCommit) -> Result<Unconfirmed, Error> {
        let mut diff = TreeDiff::resume(&self.tree, commit.changes);
        let mut context = self.next_context(&commit.effect, diff.root_hash())?;
        commit.changes = diff.into_changes();
        let AuthenticatedContent { wire_format, content, auth } = &commit.content;
        let interim = self.interim_transcript_hash.as_ref();
        let confirmed = transcript::confirmed(interim, *wire_format, content, &auth.signature);
        let previous_transcript_hash =
            core::mem::replace(&mut context.confirmed_transcript_hash, confirmed.as_ref().to_vec());
        Ok(Unconfirmed { commit, context, previous_transcript_hash })
    }

    /// The provisional group context (§12.4.1): the next one but for the transcript hash.
    pub(super) fn next_context(
        &self,
        effect: &Effect,
        tree_hash: Digest,
    ) -> Result<GroupContext, Error> {
        Ok(GroupContext {
            cipher_suite: self.context.cipher_suite,
            group_id: self.context.group_id.clone(),
            epoch: self.context.epoch.checked_add(1).ok_or(Error::InvalidCommit)?,
            tree_hash,
            confirmed_transcript_hash: self.context.confirmed_transcript_hash.clone(),
            extensions: effect.extensions.clone(),
        })
    }

    /// Checks leaf and keys of a path against the tree with all proposals applied.
    fn check_path(
        &self,
        effect: &Effect,
        path: &UpdatePath,
        view: TreeView<'_>,
    ) -> Result<(), Error> {
        let leaf = &path.leaf_node;
        check_leaf(leaf, self.suite)?;
        let replaced = effect.replaced(self).map(|leaf| &leaf.encryption_key);
        if !matches!(leaf.source, LeafNodeSource::Commit { .. })
            || replaced == Some(&leaf.encryption_key)
        {
            return Err(Error::InvalidLeafNode);
        }
        let steps = view.filtered_direct_path(effect.author);
        ensure(steps.len() == path.nodes.len(), Error::InvalidCommit)?;
        let mut keys = BTreeSet::from([&leaf.encryption_key]);
        for (step, node) in steps.into_iter().zip(&path.nodes) {
            node.encryption_key.check()?;
            let recipients = treekem::recipients(view, step, &effect.added).count();
            ensure(keys.insert(&node.encryption_key), Error::InvalidCommit)?;
            ensure(recipients == node.encrypted_path_secret.len(), Error::InvalidCommit)?;
        }
        ensure(!keys.into_iter().any(|key| view.has_encryption_key(key)), Error::InvalidCommit)
    }

    fn check_base(&self, commit: &VerifiedCommit) -> Result<(), Error> {
        ensure(commit.base == self.interim_transcript_hash, Error::WrongEpoch)
    }
}

impl VerifiedCommit {
    /// A commit of our own, which needs no check.
    pub(super) fn own(
        group: &PublicGroup,
        content: AuthenticatedContent,
        effect: Effect,
        changes: TreeChanges,
    ) -> Self {
        Self { base: group.interim_transcript_hash, content, effect, changes }
    }

    /// Who committed.
    pub fn sender(&self) -> CommitSender {
        self.effect.sender
    }

    /// The committer's leaf after the commit.
    pub fn author(&self) -> LeafIndex {
        self.effect.author
    }

    /// The signed content.
    pub fn content(&self) -> &AuthenticatedContent {
        &self.content
    }

    /// All proposals.
    pub fn proposals(&self) -> &ProposalList {
        &self.effect.proposals
    }

    /// The key packages of those who come.
    pub fn adds(&self) -> &[KeyPackage] {
        &self.effect.proposals.adds
    }

    /// The leaves of those who come, in the order of [`Self::adds`].
    pub fn added(&self) -> &[LeafIndex] {
        &self.effect.added
    }

    /// The leaves of those who go, in the tree before the commit.
    pub fn removes(&self) -> &[LeafIndex] {
        &self.effect.proposals.removes
    }

    /// The KEM output of an external commit.
    pub fn external_init(&self) -> Option<&[u8]> {
        self.effect.proposals.external_init.as_deref()
    }

    /// The path.
    pub fn path(&self) -> Option<&UpdatePath> {
        path_of(&self.content)
    }

    /// The members as they will be; `group` is the one that verified the commit.
    pub fn members_after<'a>(&'a self, group: &'a PublicGroup) -> TreeView<'a> {
        self.changes.over(&group.tree)
    }
}

impl Unconfirmed {
    /// The commit.
    pub fn commit(&self) -> &VerifiedCommit {
        &self.commit
    }

    /// The context of the epoch that the commit starts.
    pub fn context(&self) -> &GroupContext {
        &self.context
    }

    /// Completes the public side.
    pub fn confirm(mut self, confirmation_tag: Digest) -> StagedPublic {
        self.commit.content.auth.confirmation_tag = Some(confirmation_tag);
        let confirmed = &self.context.confirmed_transcript_hash;
        let interim_transcript_hash = transcript::interim(confirmed, &confirmation_tag);
        StagedPublic { next: self, confirmation_tag, interim_transcript_hash }
    }
}

impl StagedPublic {
    /// The commit.
    pub fn commit(&self) -> &VerifiedCommit {
        &self.next.commit
    }

    /// The context of the epoch that the commit starts.
    pub fn context(&self) -> &GroupContext {
        &self.next.context
    }

    /// The provisional context, to which the path secrets are sealed (§12.4.1).
    pub fn provisional_context(&self) -> GroupContext {
        GroupContext {
            confirmed_transcript_hash: self.next.previous_transcript_hash.clone(),
            ..self.next.context.clone()
        }
    }

    /// The confirmation tag that the commit carries.
    pub fn confirmation_tag(&self) -> &Digest {
        &self.confirmation_tag
    }

    /// The hash of all commits, this one included.
    pub fn interim_transcript_hash(&self) -> &Digest {
        &self.interim_transcript_hash
    }

    /// The tree of the epoch that the commit starts; `group` is the one that staged it.
    pub fn tree<'a>(&'a self, group: &'a PublicGroup) -> TreeView<'a> {
        self.next.commit.changes.over(&group.tree)
    }

    /// The committer's GroupInfo of the new epoch with these extensions and that signature.
    pub fn group_info(&self, extensions: Extensions, signature: Vec<u8>) -> GroupInfo {
        GroupInfo {
            context: self.next.context.clone(),
            extensions,
            confirmation_tag: self.confirmation_tag,
            signer: self.next.commit.effect.author,
            signature,
        }
    }
}

fn path_of(content: &AuthenticatedContent) -> Option<&UpdatePath> {
    match &content.content.content {
        Content::Commit(commit) => commit.path.as_ref(),
        Content::Application(_) | Content::Proposal(_) => None,
    }
}
