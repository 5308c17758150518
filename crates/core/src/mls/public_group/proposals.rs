use std::collections::{BTreeMap, BTreeSet};

use super::super::codec::Encode;
use super::super::extension::Extensions;
use super::super::framing::{AuthenticatedContent, Content, Sender};
use super::super::key_package::KeyPackage;
use super::super::leaf_node::LeafNode;
use super::super::proposal::{Proposal, ProposalOrRef, ReInit};
use super::super::psk::{PreSharedKeyId, PskSource, ResumptionUsage};
use super::super::tree_math::LeafIndex;
use super::super::validation::check_key_package;
use super::super::{Error, PROTOCOL_VERSION};
use super::PublicGroup;
use super::effect::CommitSender;
use crate::crypto::Digest;
use crate::crypto::hpke::HpkePublicKey;
use crate::error::ensure;

/// Proposals of this epoch that came in messages of their own, by reference.
///
/// Our conversations don't use them; other MLS clients do.
#[derive(Clone, Debug, Default)]
pub struct ProposalCache(BTreeMap<Digest, (Sender, Proposal)>);

/// The proposals of a commit, sorted by what they do (RFC 9420 §12.3).
#[derive(Clone, Debug, Default)]
pub struct ProposalList {
    /// The new extensions of the group context.
    pub extensions: Option<Extensions>,
    /// Leaves that their owners replace.
    pub updates: Vec<(LeafIndex, LeafNode)>,
    /// Leaves that go.
    pub removes: Vec<LeafIndex>,
    /// Clients that come, in the order of their places.
    pub adds: Vec<KeyPackage>,
    /// Pre-shared keys, in the order in which they enter the key schedule.
    pub psks: Vec<PreSharedKeyId>,
    /// The KEM output of an external commit.
    pub external_init: Option<Vec<u8>>,
    /// The group that replaces this one.
    pub reinit: Option<ReInit>,
    /// Whether a proposal came in a message of its own.
    pub by_reference: bool,
    /// Whether the commit must have a path (§12.4).
    pub needs_path: bool,
}

impl ProposalList {
    /// Sorts a commit's proposals and checks all rules on them that need no more than the current
    /// tree (§12.2).
    pub(super) fn collect(
        group: &PublicGroup,
        sender: CommitSender,
        proposals: &[ProposalOrRef],
        cache: &ProposalCache,
    ) -> Result<Self, Error> {
        let mut list = Self { needs_path: proposals.is_empty(), ..Self::default() };
        let committer = match sender {
            CommitSender::Member(leaf) => Sender::Member(leaf),
            CommitSender::External => Sender::NewMemberCommit,
        };
        for proposal in proposals {
            match proposal {
                ProposalOrRef::Proposal(proposal) => list.push(committer, proposal)?,
                ProposalOrRef::Reference(reference) => {
                    let (sender, proposal) =
                        cache.0.get(reference).ok_or(Error::UnknownProposal)?;
                    list.by_reference = true;
                    list.push(*sender, proposal)?;
                }
            }
        }
        list.check_leaves(group, sender)?;
        list.check_psks(group)?;
        list.check_combination(sender, proposals.len())?;
        for package in &list.adds {
            check_key_package(package, group.suite)?;
        }
        Ok(list)
    }

    fn push(&mut self, sender: Sender, proposal: &Proposal) -> Result<(), Error> {
        self.needs_path |= proposal.proposal_type().requires_path();
        match proposal {
            Proposal::Add(package) => self.adds.push(KeyPackage::clone(package)),
            Proposal::Update(leaf) => {
                let Sender::Member(index) = sender else {
                    return Err(Error::InvalidProposalList);
                };
                self.updates.push((index, LeafNode::clone(leaf)));
            }
            Proposal::Remove(index) => self.removes.push(*index),
            Proposal::PreSharedKey(id) => self.psks.push(id.clone()),
            Proposal::ReInit(reinit) => put_once(&mut self.reinit, reinit)?,
            Proposal::ExternalInit { kem_output } => put_once(&mut self.external_init, kem_output)?,
            Proposal::GroupContextExtensions(new) => put_once(&mut self.extensions, new)?,
        }
        Ok(())
    }

    /// Updates and removals name members, each at most once, and not the committer.
    fn check_leaves(&self, group: &PublicGroup, sender: CommitSender) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        if let CommitSender::Member(committer) = sender {
            seen.insert(committer);
        }
        let updated = self.updates.iter().map(|(index, _)| *index);
        for index in updated.chain(self.removes.iter().copied()) {
            ensure(seen.insert(index) && group.leaf(index).is_some(), Error::InvalidProposalList)?;
        }
        Ok(())
    }

    fn check_psks(&self, group: &PublicGroup) -> Result<(), Error> {
        let is_valid = |id: &PreSharedKeyId| {
            let usage_fits = match &id.source {
                PskSource::External { .. } => true,
                PskSource::Resumption { usage, .. } => *usage == ResumptionUsage::Application,
            };
            usage_fits && id.nonce.len() == group.suite.hash_len()
        };
        let distinct: BTreeSet<_> = self.psks.iter().map(Encode::to_bytes).collect();
        ensure(distinct.len() == self.psks.len(), Error::InvalidProposalList)?;
        ensure(self.psks.iter().all(is_valid), Error::InvalidProposalList)
    }

    /// What may stand beside what, by kind of commit.
    fn check_combination(&self, sender: CommitSender, count: usize) -> Result<(), Error> {
        let is_valid = match sender {
            CommitSender::Member(_) => {
                let stays = self
                    .reinit
                    .as_ref()
                    .is_none_or(|reinit| count == 1 && reinit.version >= PROTOCOL_VERSION);
                self.external_init.is_none() && stays
            }
            CommitSender::External => {
                self.external_init.is_some()
                    && self.removes.len() <= 1
                    && 1 + self.removes.len() + self.psks.len() == count
                    && !self.by_reference
            }
        };
        ensure(is_valid, Error::InvalidProposalList)?;
        if let Some(kem_output) = &self.external_init {
            // An encapsulated key that nobody can open would lock every member out.
            HpkePublicKey::from_bytes(kem_output.clone()).check()?;
        }
        Ok(())
    }
}

/// Of some proposals a commit has one at most.
fn put_once<T: Clone>(place: &mut Option<T>, value: &T) -> Result<(), Error> {
    ensure(place.replace(value.clone()).is_none(), Error::InvalidProposalList)
}

impl PublicGroup {
    /// Verifies a message in which a member proposes something and remembers it for a commit of
    /// this epoch (§12.1).
    ///
    /// # Errors
    /// [`Error::WrongGroup`], [`Error::WrongEpoch`], [`Error::InvalidSender`],
    /// [`Error::InvalidSignature`] or [`Error::InvalidKey`].
    pub fn cache_proposal(
        &self,
        message: &AuthenticatedContent,
        cache: &mut ProposalCache,
    ) -> Result<(), Error> {
        self.check_place(&message.content)?;
        let Content::Proposal(proposal) = &message.content.content else {
            return Err(Error::Unsupported);
        };
        let sender = message.content.sender;
        let Sender::Member(index) = sender else {
            return Err(Error::InvalidSender);
        };
        let leaf = self.leaf(index).ok_or(Error::InvalidSender)?;
        message.verify_signature(&self.context, &leaf.signature_key)?;
        cache.0.insert(message.proposal_reference(), (sender, proposal.clone()));
        Ok(())
    }
}
