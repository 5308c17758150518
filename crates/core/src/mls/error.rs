use super::codec::Malformed;
use crate::crypto::CryptoError;
use crate::error::errors;

errors! {
    /// Why the group protocol refused something.
    ///
    /// A failed call has changed nothing.
    pub enum Error {
        /// The bytes are not what they should encode.
        Malformed => "mls_malformed", "malformed message";
        /// A version, suite, credential or message kind that we do not speak here.
        Unsupported => "mls_unsupported", "unsupported version, suite or kind of message";
        /// The message is for another group.
        WrongGroup => "mls_wrong_group", "message of another group";
        /// The message is for another epoch.
        WrongEpoch => "mls_wrong_epoch", "message of another epoch";
        /// The sender is no member, or may not send this.
        InvalidSender => "mls_invalid_sender", "sender is no member or may not send this";
        /// A signature does not verify.
        InvalidSignature => "mls_invalid_signature", "signature does not verify";
        /// A key of wrong length, or no valid group element.
        InvalidKey => "mls_invalid_key", "invalid key";
        /// A leaf node breaks §7.3.
        InvalidLeafNode => "mls_invalid_leaf_node", "invalid leaf node";
        /// A key package breaks §10.1.
        InvalidKeyPackage => "mls_invalid_key_package", "invalid key package";
        /// The proposals of a commit break §12.2.
        InvalidProposalList => "mls_invalid_proposal_list", "invalid list of proposals";
        /// A commit breaks §12.4.2, its proposals aside.
        InvalidCommit => "mls_invalid_commit", "invalid commit";
        /// A ratchet tree breaks §7 or does not belong to its context.
        InvalidTree => "mls_invalid_tree", "invalid ratchet tree";
        /// A GroupInfo or Welcome breaks §12.4.3 or does not fit what is known.
        InvalidGroupInfo => "mls_invalid_group_info", "invalid group info";
        /// A member lacks a capability that the group requires.
        MissingCapability => "mls_missing_capability", "a member lacks a required capability";
        /// A commit names a proposal that we have not seen.
        UnknownProposal => "mls_unknown_proposal", "unknown proposal";
        /// The membership tag does not fit.
        InvalidMembershipTag => "mls_invalid_membership_tag", "membership tag does not fit";
        /// The confirmation tag does not fit.
        InvalidConfirmationTag => "mls_invalid_confirmation_tag", "confirmation tag does not fit";
        /// A ciphertext does not open; deliberately without a reason.
        Decryption => "mls_decryption_failed", "decryption failed";
        /// The message is our own; its key is gone.
        OwnMessage => "mls_own_message", "own message";
        /// Our own leaf sent it, but not from this state: there is a copy of it, or this is an old one.
        CopiedState => "mls_copied_state", "own message that this state never sent";
        /// A pre-shared key that we do not hold.
        MissingPsk => "mls_missing_psk", "pre-shared key not available";
        /// The Welcome holds nothing for this key package.
        NotForUs => "mls_not_for_us", "welcome is for somebody else";
        /// The commit removes us.
        Removed => "mls_removed", "removed from the group";
        /// What the caller asks for makes no valid commit.
        InvalidPlan => "mls_invalid_plan", "the requested commit would be invalid";
        /// More output than an exporter gives, or a ratchet at its end.
        Exhausted => "mls_exhausted", "ratchet or exporter exhausted";
        /// Saved parts do not load.
        CorruptState => "mls_corrupt_state", "saved state does not load";
        /// A state that our own code should exclude.
        Internal => "mls_internal", "internal error";
    }
}

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
