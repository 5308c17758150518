//! What came of reading one entry of a log.

use core::fmt;

use super::context::ContextExtension;
use super::knock::{Answer, ClosedLog, Knock};
use crate::error::errors;
use crate::id::{AccountId, DeviceId};
use crate::mls;
use crate::seal::envelope::Seed;

/// A device of a member, as it stands or stood in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sender {
    /// The account.
    pub account: AccountId,
    /// The device.
    pub device: DeviceId,
    /// The index of the device's leaf.
    pub leaf: u32,
}

/// What the caller knows of an entry because its inner bytes are his own.
#[derive(Clone, Copy)]
pub enum OwnEntry<'a> {
    /// A message of ours; it is never decrypted.
    Message,
    /// A commit of ours, with the secrets that [`OwnCommit`](super::OwnCommit) gave.
    Commit(&'a [u8]),
}

/// What one entry turned out to be.
#[derive(Clone)]
pub enum Reading {
    /// A message of somebody else.
    Message {
        /// Who sent it.
        sender: Sender,
        /// What it says.
        content: Vec<u8>,
        /// Whether the sender had read other entries than we have.
        view_alarm: bool,
    },
    /// Our own message.
    Own,
    /// Something that was said, but that we can't read: an item of the timeline.
    Unreadable {
        /// Who sent it, if that could be seen.
        sender: Option<Sender>,
        /// Why we can't read it.
        cause: Cause,
    },
    /// A commit that counted.
    Commit(Box<CommitReport>),
    /// An entry that counts for nobody.
    Skipped(SkipReason),
    /// A handover that counted: the group goes on in the next log.
    Closed {
        /// Who confirmed the newest commit.
        by: Sender,
        /// The next log's seed, if we hold the epoch's secrets.
        next_seed: Option<Seed>,
        /// What to keep of this log in order to answer knocks.
        closed: Box<ClosedLog>,
    },
    /// Somebody asks to be let in.
    Knock(Box<Knock>),
    /// Somebody answered a knock.
    Answer(Box<Answer>),
    /// An entry after the end of the log, or one that was read before.
    Ignored,
}

impl fmt::Debug for OwnEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Message => "Message",
            Self::Commit(_) => "Commit(..)",
        })
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { sender, content: _, view_alarm } => f
                .debug_struct("Message")
                .field("sender", sender)
                .field("view_alarm", view_alarm)
                .finish_non_exhaustive(),
            Self::Own => f.write_str("Own"),
            Self::Unreadable { sender, cause } => {
                f.debug_struct("Unreadable").field("sender", sender).field("cause", cause).finish()
            }
            Self::Commit(report) => f.debug_tuple("Commit").field(report).finish(),
            Self::Skipped(reason) => f.debug_tuple("Skipped").field(reason).finish(),
            Self::Closed { by, next_seed: _, closed: _ } => {
                f.debug_struct("Closed").field("by", by).finish_non_exhaustive()
            }
            Self::Knock(_) => f.write_str("Knock(..)"),
            Self::Answer(_) => f.write_str("Answer(..)"),
            Self::Ignored => f.write_str("Ignored"),
        }
    }
}

/// A commit that counted, and what it did.
#[derive(Clone, Debug)]
pub struct CommitReport {
    /// Who committed, at his leaf after the commit.
    pub author: Sender,
    /// Whether that was this device.
    pub own: bool,
    /// Whether the author came in, or back, by this commit.
    pub external: bool,
    /// Devices that came in, the author of an external commit not among them.
    pub added: Vec<Sender>,
    /// Devices that went, at their leaves before the commit.
    pub removed: Vec<Sender>,
    /// The context before and after, if it changed.
    pub context_change: Option<Box<(ContextExtension, ContextExtension)>>,
    /// Where this device stands now.
    pub outcome: Outcome,
    /// Whether somebody has to hand over now.
    pub handover_due: bool,
    /// Whether the author had read other entries than we have.
    pub view_alarm: bool,
}

/// Where a device stands after a commit that counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Holds the new epoch's secrets.
    Finished {
        /// Whether `external_pub` and `next` are what the secrets give; if not, commit at once.
        tail_true: bool,
    },
    /// Was a member, and can't follow: folds on and rejoins.
    LockedOut(mls::Error),
    /// Holds no secrets, as before.
    Outside,
    /// This commit removed our leaf.
    RemovedMe,
}

errors! {
    /// Why something that was said can't be read.
    pub enum Cause {
        /// We hold no secrets of the epoch.
        NotMember => "not_a_member", "no secrets of the epoch";
        /// Our own leaf verifiably sent it, but not from this state: there is a copy of the store, or
        /// this is an old one. No send in this epoch; rejoin with a fresh leaf.
        UnknownOwn => "unknown_own_entry", "own message that this state never sent";
        /// It was sent under a key that is gone, or was never made.
        Undecryptable => "undecryptable", "its key is gone or was never made";
    }
}

errors! {
    /// Why an entry counts for nobody; the same for every reader.
    pub enum SkipReason {
        /// The envelope does not open.
        Envelope => "bad_envelope", "envelope does not open";
        /// What was in the envelope is no entry.
        Malformed => "malformed_entry", "no entry in the envelope";
        /// A commit in an append of messages, or the other way round.
        WrongKind => "wrong_kind", "entry in an append of the other kind";
        /// A record of an account log.
        Misplaced => "misplaced_record", "record of an account log";
        /// A message or commit that the group protocol refuses.
        Mls(error: mls::Error);
        /// A proposal that conversations do not use.
        ForbiddenProposal => "forbidden_proposal", "proposal that conversations do not use";
        /// GroupContext extensions other than ours.
        Context => "bad_context", "group context other than ours";
        /// A leaf whose certificate is not good.
        Certificate => "bad_certificate", "bad certificate of a leaf";
        /// A leaf that changes account, device key or identity key.
        Identity => "changed_identity", "leaf of another account, device or identity";
        /// A device that would stand in the tree twice.
        DeviceTwice => "device_twice", "device would stand in the tree twice";
        /// More devices, adds or bytes of a leaf than the limits allow.
        TooMany => "too_many", "more than the limits allow";
        /// A key that was revoked.
        Revoked => "revoked_key", "revoked key";
        /// The committer's role does not allow it.
        NotAllowed => "not_allowed", "role does not allow it";
        /// An account would keep leaves, a role or its place on `leaving` after its removal.
        IncompleteRemoval => "incomplete_removal", "removal leaves something behind";
        /// An assistant where none is admitted.
        Assistant => "assistant_not_admitted", "assistant not admitted";
        /// The signature over the new GroupInfo does not verify.
        GroupInfo => "bad_group_info", "bad signature over the group info";
        /// A handover that does not fit.
        Handover => "bad_handover", "handover does not fit";
    }
}

impl From<mls::Error> for SkipReason {
    fn from(error: mls::Error) -> Self {
        Self::Mls(error)
    }
}
