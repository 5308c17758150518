//! The verdict: whether a commit counts.
//!
//! It is computed only from what every holder of the log's seed can compute: the bytes as received
//! and the folded public state. Membership tag, confirmation tag, path secrets, clocks and device
//! lists have no part in it: they decide only whether one reader can finish.

use super::context::ContextExtension;
use super::entry::{CommitEntry, Tail};
use super::join::MAX_PACKAGE;
use super::reading::{Sender, SkipReason};
use super::roles::{Act, Way};
use super::roster::{Device, Roster, Turn};
use super::state::{info_extensions, read_extensions};
use crate::error::ensure;
use crate::mls;
use crate::mls::codec::{Decode, Encode};
use crate::mls::commit::Commit;
use crate::mls::framing::{self, Content, MlsMessage, PublicMessage};
use crate::mls::leaf_node::LeafNode;
use crate::mls::proposal::{Proposal, ProposalOrRef};
use crate::mls::public_group::{PublicGroup, StagedPublic, VerifiedCommit};
use crate::mls::tree_math::LeafIndex;

/// Most clients that one commit may add.
pub const MAX_ADDS: usize = 256;

/// A commit that counts.
pub(super) struct Judged {
    pub(super) message: PublicMessage,
    pub(super) staged: StagedPublic,
    pub(super) tail: Tail,
    /// What it does to the roster.
    pub(super) turn: Turn,
    /// The context after it.
    pub(super) context: ContextExtension,
    /// The committer at his leaf after it.
    pub(super) author: Sender,
    pub(super) external: bool,
    /// Devices that came in by Add.
    pub(super) added: Vec<Sender>,
    /// Devices that went, a leaf that its owner's path replaced not among them.
    pub(super) removed: Vec<Sender>,
    /// Whether a leaf of another device than the committer's went.
    pub(super) removes_others: bool,
}

/// Whether a commit counts in the epoch of `public`; changes nothing.
pub(super) fn judge(
    public: &PublicGroup,
    roster: &Roster,
    before: &ContextExtension,
    entry: &CommitEntry,
) -> Result<Judged, SkipReason> {
    let MlsMessage::Public(message) =
        MlsMessage::decode_exact(&entry.message).map_err(|_| SkipReason::Malformed)?
    else {
        return Err(SkipReason::Malformed);
    };
    let Content::Commit(commit) = &message.content.content else {
        return Err(SkipReason::Malformed);
    };
    check_proposals(commit)?;
    entry.tail.external_pub.check().map_err(|_| SkipReason::GroupInfo)?;

    let staged = public.stage(public.verify_commit(&message)?)?;
    let context = read_extensions(&staged.context().extensions)?;
    let path_leaf = commit.path.as_ref().map(|path| &path.leaf_node);
    let (committer, way) = committer(public, roster, &message, &staged, path_leaf)?;
    let turn = turn(staged.commit(), &committer, way)?;
    turn.check(roster, &context)?;
    Act { before, after: &context, roster, turn: &turn, committer: &committer, way }.check()?;

    let key = match path_leaf {
        Some(leaf) => Some(&leaf.signature_key),
        None => public.leaf(staged.commit().author()).map(|leaf| &leaf.signature_key),
    };
    let info = staged.group_info(info_extensions(&entry.tail), entry.tail.signature.clone());
    let verified = key.is_some_and(|key| info.verify(key).is_ok());
    ensure(verified, SkipReason::GroupInfo)?;

    let removed = staged.commit().removes().iter().filter_map(|leaf| roster.device(leaf.get()));
    let removed: Vec<_> = removed.collect();
    let author = committer.sender;
    Ok(Judged {
        removes_others: removed.iter().any(|device| device.key != committer.key),
        removed: removed.iter().map(|device| device.sender).collect(),
        added: turn.entering.iter().map(|device| device.sender).filter(|s| *s != author).collect(),
        message: *message,
        staged,
        tail: entry.tail.clone(),
        turn,
        context,
        author,
        external: way == Way::External,
    })
}

/// All proposals are inline and of the kinds that conversations use, and not too many are adds.
fn check_proposals(commit: &Commit) -> Result<(), SkipReason> {
    let mut adds = 0;
    for proposal in &commit.proposals {
        match proposal {
            ProposalOrRef::Proposal(Proposal::Add(_)) => adds += 1,
            ProposalOrRef::Proposal(
                Proposal::Remove(_)
                | Proposal::GroupContextExtensions(_)
                | Proposal::ExternalInit { .. },
            ) => {}
            _ => return Err(SkipReason::ForbiddenProposal),
        }
    }
    ensure(adds <= MAX_ADDS, SkipReason::TooMany)
}

/// What a commit does to the roster; a leaf with a path goes and enters anew.
fn turn(commit: &VerifiedCommit, committer: &Device, way: Way) -> Result<Turn, SkipReason> {
    let removed = commit.removes().iter().map(|leaf| leaf.get());
    let mut turn = Turn { removed: removed.collect(), entering: Vec::new() };
    for (index, package) in commit.added().iter().zip(commit.adds()) {
        turn.entering.push(enter(*index, &package.leaf_node)?);
    }
    if commit.path().is_some() {
        if way != Way::External {
            turn.removed.insert(committer.sender.leaf);
        }
        turn.entering.push(committer.clone());
    }
    Ok(turn)
}

/// The committer as he stands in the tree after the commit. A member's new leaf keeps account and
/// device key.
fn committer(
    public: &PublicGroup,
    roster: &Roster,
    message: &PublicMessage,
    staged: &StagedPublic,
    path_leaf: Option<&LeafNode>,
) -> Result<(Device, Way), SkipReason> {
    let index = staged.commit().author();
    let framing::Sender::Member(_) = message.content.sender else {
        let leaf = path_leaf.ok_or(SkipReason::Mls(mls::Error::InvalidCommit))?;
        return Ok((enter(index, leaf)?, Way::External));
    };
    let (Some(old), Some(old_leaf)) = (roster.device(index.get()), public.leaf(index)) else {
        return Err(SkipReason::Mls(mls::Error::InvalidSender));
    };
    let way = if public.epoch() == 0 { Way::Founder } else { Way::Member };
    let device = match path_leaf {
        None => old.clone(),
        Some(leaf) if says_the_same(leaf, old_leaf) => old.clone(),
        Some(leaf) => enter(index, leaf)?,
    };
    ensure(device.key == old.key, SkipReason::Identity)?;
    ensure(device.sender.account == old.sender.account, SkipReason::Identity)?;
    Ok((device, way))
}

/// Whether a new leaf says what the old one said, so that nothing of it is to be verified again.
fn says_the_same(new: &LeafNode, old: &LeafNode) -> bool {
    new.credential == old.credential
        && new.signature_key == old.signature_key
        && new.capabilities == old.capabilities
        && new.extensions == old.extensions
}

/// Checks a leaf that enters the tree.
fn enter(index: LeafIndex, leaf: &LeafNode) -> Result<Device, SkipReason> {
    ensure(leaf.to_bytes().len() <= MAX_PACKAGE, SkipReason::TooMany)?;
    Device::verify(index, leaf)
}
