//! Conversations: our rules on top of MLS.
//!
//! A conversation is an MLS group and the chain of logs that carries it. A [`Conversation`] is what
//! one device holds of it at one position of one log. It begins with [`Conversation::found`] or
//! [`Conversation::fold`], takes in the log entry by entry with [`Conversation::read`], and gives
//! bytes to append ([`Conversation::seal_message`], [`Conversation::commit`],
//! [`Conversation::handover`]). What it gives changes nothing until it is read back from the log.
//!
//! Whether a commit counts is the same for everybody who reads the log: members, newcomers who only
//! fold, and members who were locked out. The rules stand in `verdict` (what every commit must be),
//! `roster` (what every tree must be) and `roles` (who may do what). Everything that is decided on is in MLS
//! presentation encoding, judged over the bytes as received.

use rand_core::CryptoRng;

use crate::crypto::hpke::HpkePublicKey;
use crate::crypto::signature::SignatureKey;
use crate::crypto::{Secret, Suite};
use crate::derive::Key32;
use crate::error::ensure;
use crate::id::{AccountId, ConversationId, EntryId, LogId};
use crate::mls;
use crate::mls::extension::Extensions;
use crate::mls::group::Group;
use crate::mls::group_info::GroupInfo;
use crate::mls::public_group::PublicGroup;
use crate::seal::envelope::Seed;

mod change;
mod context;
mod entry;
mod error;
mod facts;
mod handover;
mod join;
mod knock;
mod look;
mod read;
mod reading;
mod roles;
mod roster;
mod save;
mod state;
mod verdict;
mod view;
mod write;

pub use change::Change;
pub use context::{
    AssistantPolicy, CONTEXT, ContextExtension, DeviceKey, Kind, MAX_PICTURE, MAX_REVOKED,
    MAX_TITLE, Permissions, RULES, RULES_BASE, Role,
};
pub use entry::{CommitEntry, Entry, EntryKind, Tail};
pub use error::Error;
pub use facts::STATE_EVERY;
pub use handover::Handover;
pub use join::{
    Claimed, INBOX, Lifetime, MAX_PACKAGE, NewKeyPackage, Use, added, check_claimed, invited,
    new_key_package,
};
pub use knock::{Answer, ClosedLog, Knock, KnockKey, MAX_SEEDS};
pub use look::{Duty, MemberInfo};
pub use read::LogItem;
pub use reading::{Cause, CommitReport, Outcome, OwnEntry, Reading, Sender, SkipReason};
pub use state::{NEXT, State};
pub use verdict::MAX_ADDS;
pub use write::OwnCommit;

use facts::{Cursor, Facts};
use roster::Roster;
use view::View;

/// The device that reads and writes; given with each call and never stored here.
#[derive(Clone, Copy, Debug)]
pub struct Me<'a> {
    /// The account.
    pub account: AccountId,
    /// The device's signature key.
    pub device_key: &'a SignatureKey,
    /// The device's certificate.
    pub certificate: &'a [u8],
}

/// One conversation as one device sees it, at one position of one log.
#[derive(Debug)]
pub struct Conversation {
    standing: Standing,
    /// Parsed from the group's extensions.
    context: ContextExtension,
    /// Parsed from the group's leaves.
    roster: Roster,
    facts: Facts,
    cursor: Cursor,
    view: View,
    unsaved: save::Unsaved,
}

/// Whether we hold the secrets of the newest epoch.
#[derive(Debug)]
enum Standing {
    Member(Box<Group>),
    Outside(Box<PublicGroup>),
}

impl Standing {
    fn public(&self) -> &PublicGroup {
        match self {
            Self::Member(group) => group.public(),
            Self::Outside(public) => public,
        }
    }
}

/// An epoch that a reader trusts; a fold counts if it passes through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The epoch.
    pub epoch: u64,
    /// The interim transcript hash, which tells any two histories apart (RFC 9420 §8.2).
    pub transcript: [u8; 32],
}

/// What an epoch's exporter gives under this label, in 32 bytes, leads to the next log.
/// The place of a log's opening state, before its first entry.
pub const OPENING: (u64, EntryId) = (0, EntryId::from_bytes([0; 32]));

const NEXT_LOG: &str = "corncrake next log";

fn successor_seed(exported: &Secret) -> Result<Seed, mls::Error> {
    let bytes = exported.expose_array::<32>().ok_or(mls::Error::Internal)?;
    Ok(Seed::from_key(Key32::from_bytes(*bytes)))
}

/// What the author of an epoch announces of it, and its signed GroupInfo, which `info` makes.
fn announce(
    id: ConversationId,
    exported: &Secret,
    external_pub: HpkePublicKey,
    me: &Me<'_>,
    info: impl FnOnce(Extensions) -> GroupInfo,
) -> Result<(Tail, GroupInfo), mls::Error> {
    let next = successor_seed(exported)?.next_check(id.as_bytes());
    let mut tail = Tail { external_pub, next, signature: Vec::new() };
    let mut info = info(state::info_extensions(&tail));
    info.sign(me.device_key);
    tail.signature.clone_from(&info.signature);
    Ok((tail, info))
}

impl Conversation {
    /// Founds a conversation of one leaf: epoch 0 and the opening state of its first log. The first
    /// entry is the commit that adds everybody.
    ///
    /// # Errors
    /// [`Error::TooLong`] for a context above its limits, [`Error::Mls`] for a bad own certificate.
    pub fn found(
        me: &Me<'_>,
        id: ConversationId,
        context: ContextExtension,
        log: LogId,
        rng: &mut impl CryptoRng,
    ) -> Result<(Self, State), Error> {
        let title = &context.title;
        ensure(title.is_empty() || crate::content::is_title(title), Error::BadTitle)?;
        ensure(context.is_well_formed(), Error::TooLong)?;
        let suite = Suite::X25519ChaCha20Poly1305Sha256Ed25519;
        let extensions = state::group_extensions(&context);
        let group_id = id.as_bytes().to_vec();
        let (leaf, leaf_key) = join::new_leaf(me, suite, rng);
        let group = Group::create(suite, group_id, leaf, leaf_key, extensions, rng)?;
        let public = group.public();
        let exported = group.export(NEXT_LOG, id.as_bytes(), 32)?;
        let (_, info) = announce(id, &exported, group.external_pub()?, me, |extensions| {
            public.group_info(extensions, group.own_leaf(), Vec::new())
        })?;
        let state = State { info, tree: public.tree().clone() };
        let mut founded = Self::fold(&state, log, OPENING)?;
        founded.standing = Standing::Member(Box::new(group));
        founded.facts.tail_true = Some(true);
        Ok((founded, state))
    }

    /// Takes up a conversation at a state, which lies beside the entry `at` of `log` or opens it
    /// ([`OPENING`]). Whether the state is true shows when the fold passes through an
    /// [`Anchor`].
    ///
    /// # Errors
    /// [`Error::BadState`] or [`Error::Mls`] if the state can't be one of a conversation.
    pub fn fold(state: &State, log: LogId, at: (u64, EntryId)) -> Result<Self, Error> {
        let (position, _) = at;
        let tail = state::tail_of(&state.info).ok_or(Error::BadState)?;
        ensure(state.conversation().is_some(), Error::BadState)?;
        let public = PublicGroup::from_info(&state.info, state.tree.clone())?;
        let context = state::read_extensions(public.extensions()).map_err(|_| Error::BadState)?;
        let roster = Roster::verify(public.leaves(), &context).map_err(|_| Error::BadState)?;
        let signer = state.info.signer.get();
        let author = roster.device(signer).ok_or(Error::BadState)?.sender;
        let view = if public.epoch() == 0 && position == 0 {
            View::from_start(log)
        } else {
            View::default()
        };
        Ok(Self {
            standing: Standing::Outside(Box::new(public)),
            context,
            roster,
            facts: Facts::new(log, position, author, tail),
            cursor: Cursor::at(at),
            view,
            unsaved: save::Unsaved::all(),
        })
    }

    /// Whether this is an epoch 0 as its founder makes it: one leaf, of one of `creators`, owner of
    /// a group or without a role in a direct conversation, and nothing else in the context but title
    /// and picture of a group.
    #[must_use]
    pub fn is_sound_founding(
        &self,
        id: ConversationId,
        kind: Kind,
        creators: &[AccountId],
    ) -> bool {
        let mut leaves = self.roster.all();
        let (Some(creator), None) = (leaves.next(), leaves.next()) else {
            return false;
        };
        let creator = creator.sender.account;
        let expected = match kind {
            Kind::Direct => ContextExtension::direct(),
            Kind::Group => ContextExtension {
                title: self.context.title.clone(),
                picture: self.context.picture.clone(),
                permissions: self.context.permissions,
                assistant: self.context.assistant,
                ..ContextExtension::group(creator, "")
            },
        };
        self.epoch() == 0
            && self.id() == id
            && creators.contains(&creator)
            && self.context == expected
    }

    /// Goes on in the next log, after the handover that closed this one was read: same epoch,
    /// position 0.
    pub fn continue_in(&mut self, next_log: LogId) {
        self.facts.enter(next_log);
        self.cursor = Cursor::at(OPENING);
        self.view.mark(next_log, 0);
        self.unsaved.facts = true;
    }

    /// Reads the log again from behind an earlier position of this epoch, whose newest entry of
    /// kind commit is known: the server has lost what came after it.
    pub fn read_again_after(&mut self, position: u64, newest_commit: (u64, EntryId)) {
        self.cursor = Cursor { position, newest_commit };
        self.view.lose();
        self.unsaved.cursor = true;
    }

    fn public(&self) -> &PublicGroup {
        self.standing.public()
    }

    /// The conversation's id, which is its group id.
    pub fn id(&self) -> ConversationId {
        // A fold refuses group ids of other lengths.
        state::conversation_id(self.public().context())
            .unwrap_or_else(|| ConversationId::from_bytes([0; 32]))
    }
}

#[cfg(test)]
mod tests;
