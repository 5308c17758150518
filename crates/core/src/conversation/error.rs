use super::reading::SkipReason;
use crate::error::errors;
use crate::mls;
use crate::mls::codec::Malformed;

errors! {
    /// Why a conversation refused what its caller asked for; nothing has changed.
    pub enum Error {
        /// Bytes that are not what they should encode.
        Malformed => "malformed", "malformed bytes";
        /// We hold no secrets of the newest epoch.
        NotMember => "not_a_member", "not a member of this epoch";
        /// Our account is not in the tree, or on its way out.
        NotAdmitted => "not_admitted", "account is not in the conversation";
        /// This device's key was revoked.
        Revoked => "revoked_key", "key of this device was revoked";
        /// The log was handed over; the group goes on in the next one.
        Closed => "log_closed", "log was handed over";
        /// A commit with a fresh path has to come first.
        NeedsPath => "needs_path", "a commit with a fresh path is owed";
        /// The conversation already is as it would be afterwards.
        AlreadySo => "already_so", "nothing would change";
        /// The account or device is not in the tree.
        UnknownMember => "unknown_member", "not in the conversation";
        /// The roles do not allow it.
        NotAllowed => "not_allowed", "role does not allow it";
        /// A title above 128 bytes, or another value above its limit.
        TooLong => "too_long", "value above its limit";
        /// A title that is not one plain line.
        BadTitle => "bad_title", "title is not one plain line";
        /// The group would be left without an owner.
        LastOwner => "last_owner", "the last owner stays one while others are there";
        /// A key package that does not fit or is out of its lifetime.
        BadPackage => "bad_key_package", "key package can't be used";
        /// The commit would count for nobody.
        Refused(reason: SkipReason);
        /// A state that is no conversation's, or not the one that it should be.
        BadState => "bad_state", "state can't be used";
        /// A Welcome that does not lead to the epoch that was folded.
        WelcomeMismatch => "welcome_mismatch", "welcome does not fit the log";
        /// The group protocol refused.
        Mls(error: mls::Error);
    }
}

impl From<Malformed> for Error {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<mls::Error> for Error {
    fn from(error: mls::Error) -> Self {
        Self::Mls(error)
    }
}

impl From<SkipReason> for Error {
    fn from(reason: SkipReason) -> Self {
        match reason {
            SkipReason::NotAllowed => Self::NotAllowed,
            SkipReason::Revoked => Self::Revoked,
            other => Self::Refused(other),
        }
    }
}
