//! What stands inside an envelope: a type byte, then an entry in MLS presentation encoding.

use crate::crypto::hpke::HpkePublicKey;
use crate::mls::codec::{Decode, Encode, Malformed, codec_struct};
pub use crate::seal::envelope::EntryKind;

use super::handover::Handover;
use super::knock::{Answer, Knock};

/// Longest handover, knock or answer in bytes.
const MAX_SMALL: usize = 4096;

/// An entry of a log, as it stands inside its envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A change to the group.
    Commit(CommitEntry),
    /// A message: an encoded `MLSMessage` that holds a `PrivateMessage`.
    Message(Vec<u8>),
    /// Closes the log; the group goes on in the next one.
    Handover(Handover),
    /// Asks to be let back in.
    Knock(Knock),
    /// Lets a knocker back in.
    Answer(Answer),
    /// A sealed record of an account log.
    AccountRecord(Vec<u8>),
}

/// A commit and the 128 bytes from which everybody rebuilds its GroupInfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitEntry {
    /// An encoded `MLSMessage` that holds a `PublicMessage`, all its proposals inline.
    pub message: Vec<u8>,
    /// The rest of the GroupInfo.
    pub tail: Tail,
}

/// What a GroupInfo has beyond what every reader folds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The new epoch's external public key (RFC 9420 §12.4.3.2).
    pub external_pub: HpkePublicKey,
    /// The check of the seed that the next log would have.
    pub next: [u8; 32],
    /// The committer's signature over the GroupInfo.
    pub signature: Vec<u8>,
}

codec_struct!(Tail { external_pub, next, signature });
codec_struct!(CommitEntry { message, tail });

impl Entry {
    /// The kind of append that carries this entry.
    pub fn kind(&self) -> EntryKind {
        match self {
            Self::Commit(_) | Self::Handover(_) | Self::AccountRecord(_) => EntryKind::Commit,
            Self::Message(_) | Self::Knock(_) | Self::Answer(_) => EntryKind::Message,
        }
    }

    /// The bytes that go into the envelope.
    pub fn encode(&self) -> Vec<u8> {
        let (entry_type, body) = match self {
            Self::Commit(commit) => (1, commit.to_bytes()),
            Self::Message(message) => (2, message.clone()),
            Self::Handover(handover) => (3, handover.to_bytes()),
            Self::Knock(knock) => (4, knock.to_bytes()),
            Self::Answer(answer) => (5, answer.to_bytes()),
            Self::AccountRecord(record) => (6, record.clone()),
        };
        [&[entry_type], body.as_slice()].concat()
    }

    /// Reads what came out of an envelope.
    ///
    /// # Errors
    /// [`Malformed`] bytes or an unknown type.
    pub fn decode(inner: &[u8]) -> Result<Self, Malformed> {
        let (entry_type, body) = inner.split_first().ok_or(Malformed)?;
        match entry_type {
            1 => CommitEntry::decode_exact(body).map(Self::Commit),
            2 => Ok(Self::Message(body.to_vec())),
            3..=5 if inner.len() > MAX_SMALL => Err(Malformed),
            3 => Handover::decode_exact(body).map(Self::Handover),
            4 => Knock::decode_exact(body).map(Self::Knock),
            5 => Answer::decode_exact(body).map(Self::Answer),
            6 => Ok(Self::AccountRecord(body.to_vec())),
            _ => Err(Malformed),
        }
    }
}
