use core::fmt;

use super::codec::Malformed;
use crate::crypto::CryptoError;

/// Why the group protocol refused something.
///
/// A failed call has changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not what they should encode.
    Malformed,
    /// A version, suite, credential or message kind that we do not speak here.
    Unsupported,
    /// The message is for another group.
    WrongGroup,
    /// The message is for another epoch.
    WrongEpoch,
    /// The sender is no member, or may not send this.
    InvalidSender,
    /// A signature does not verify.
    InvalidSignature,
    /// A key of wrong length, or no valid group element.
    InvalidKey,
    /// A leaf node breaks §7.3.
    InvalidLeafNode,
    /// A key package breaks §10.1.
    InvalidKeyPackage,
    /// The proposals of a commit break §12.2.
    InvalidProposalList,
    /// A commit breaks §12.4.2, its proposals aside.
    InvalidCommit,
    /// A ratchet tree breaks §7 or does not belong to its context.
    InvalidTree,
    /// A GroupInfo or Welcome breaks §12.4.3 or does not fit what is known.
    InvalidGroupInfo,
    /// A member lacks a capability that the group requires.
    MissingCapability,
    /// A commit names a proposal that we have not seen.
    UnknownProposal,
    /// The membership tag does not fit.
    InvalidMembershipTag,
    /// The confirmation tag does not fit.
    InvalidConfirmationTag,
    /// A ciphertext does not open; deliberately without a reason.
    Decryption,
    /// The message is our own; its key is gone.
    OwnMessage,
    /// Our own leaf sent it, but not from this state: there is a copy of it, or this is an old one.
    CopiedState,
    /// A pre-shared key that we do not hold.
    MissingPsk,
    /// The Welcome holds nothing for this key package.
    NotForUs,
    /// The commit removes us.
    Removed,
    /// What the caller asks for makes no valid commit.
    InvalidPlan,
    /// More output than an exporter gives, or a ratchet at its end.
    Exhausted,
    /// Saved parts do not load.
    CorruptState,
    /// A state that our own code should exclude.
    Internal,
}

impl Error {
    /// A stable name for programs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "mls_malformed",
            Self::Unsupported => "mls_unsupported",
            Self::WrongGroup => "mls_wrong_group",
            Self::WrongEpoch => "mls_wrong_epoch",
            Self::InvalidSender => "mls_invalid_sender",
            Self::InvalidSignature => "mls_invalid_signature",
            Self::InvalidKey => "mls_invalid_key",
            Self::InvalidLeafNode => "mls_invalid_leaf_node",
            Self::InvalidKeyPackage => "mls_invalid_key_package",
            Self::InvalidProposalList => "mls_invalid_proposal_list",
            Self::InvalidCommit => "mls_invalid_commit",
            Self::InvalidTree => "mls_invalid_tree",
            Self::InvalidGroupInfo => "mls_invalid_group_info",
            Self::MissingCapability => "mls_missing_capability",
            Self::UnknownProposal => "mls_unknown_proposal",
            Self::InvalidMembershipTag => "mls_invalid_membership_tag",
            Self::InvalidConfirmationTag => "mls_invalid_confirmation_tag",
            Self::Decryption => "mls_decryption_failed",
            Self::OwnMessage => "mls_own_message",
            Self::CopiedState => "mls_copied_state",
            Self::MissingPsk => "mls_missing_psk",
            Self::NotForUs => "mls_not_for_us",
            Self::Removed => "mls_removed",
            Self::InvalidPlan => "mls_invalid_plan",
            Self::Exhausted => "mls_exhausted",
            Self::CorruptState => "mls_corrupt_state",
            Self::Internal => "mls_internal",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed message",
            Self::Unsupported => "unsupported version, suite or kind of message",
            Self::WrongGroup => "message of another group",
            Self::WrongEpoch => "message of another epoch",
            Self::InvalidSender => "sender is no member or may not send this",
            Self::InvalidSignature => "signature does not verify",
            Self::InvalidKey => "invalid key",
            Self::InvalidLeafNode => "invalid leaf node",
            Self::InvalidKeyPackage => "invalid key package",
            Self::InvalidProposalList => "invalid list of proposals",
            Self::InvalidCommit => "invalid commit",
            Self::InvalidTree => "invalid ratchet tree",
            Self::InvalidGroupInfo => "invalid group info",
            Self::MissingCapability => "a member lacks a required capability",
            Self::UnknownProposal => "unknown proposal",
            Self::InvalidMembershipTag => "membership tag does not fit",
            Self::InvalidConfirmationTag => "confirmation tag does not fit",
            Self::Decryption => "decryption failed",
            Self::OwnMessage => "own message",
            Self::CopiedState => "own message that this state never sent",
            Self::MissingPsk => "pre-shared key not available",
            Self::NotForUs => "welcome is for somebody else",
            Self::Removed => "removed from the group",
            Self::InvalidPlan => "the requested commit would be invalid",
            Self::Exhausted => "ratchet or exporter exhausted",
            Self::CorruptState => "saved state does not load",
            Self::Internal => "internal error",
        })
    }
}

impl core::error::Error for Error {}

impl From<Malformed> for Error {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<CryptoError> for Error {
    fn from(error: CryptoError) -> Self {
        match error {
            CryptoError::InvalidKey => Self::InvalidKey,
            CryptoError::InvalidSignature => Self::InvalidSignature,
            CryptoError::Decryption => Self::Decryption,
            CryptoError::Length => Self::Exhausted,
        }
    }
}
