use core::fmt;

use super::reading::SkipReason;
use crate::mls;
use crate::mls::codec::Malformed;

/// Why a conversation refused what its caller asked for; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// Bytes that are not what they should encode.
    Malformed,
    /// We hold no secrets of the newest epoch.
    NotMember,
    /// Our account is not in the tree, or on its way out.
    NotAdmitted,
    /// This device's key was revoked.
    Revoked,
    /// The log was handed over; the group goes on in the next one.
    Closed,
    /// A commit with a fresh path has to come first.
    NeedsPath,
    /// The conversation already is as it would be afterwards.
    AlreadySo,
    /// The account or device is not in the tree.
    UnknownMember,
    /// The roles do not allow it.
    NotAllowed,
    /// A title above 128 bytes, or another value above its limit.
    TooLong,
    /// A key package that does not fit or is out of its lifetime.
    BadPackage,
    /// The commit would count for nobody.
    Refused(SkipReason),
    /// A state that is no conversation's, or not the one that it should be.
    BadState,
    /// A Welcome that does not lead to the epoch that was folded.
    WelcomeMismatch,
    /// The group protocol refused.
    Mls(mls::Error),
}

impl Error {
    /// A stable name for programs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NotMember => "not_a_member",
            Self::NotAdmitted => "not_admitted",
            Self::Revoked => "revoked_key",
            Self::Closed => "log_closed",
            Self::NeedsPath => "needs_path",
            Self::AlreadySo => "already_so",
            Self::UnknownMember => "unknown_member",
            Self::NotAllowed => "not_allowed",
            Self::TooLong => "too_long",
            Self::BadPackage => "bad_key_package",
            Self::Refused(reason) => reason.code(),
            Self::BadState => "bad_state",
            Self::WelcomeMismatch => "welcome_mismatch",
            Self::Mls(error) => error.code(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed bytes",
            Self::NotMember => "not a member of this epoch",
            Self::NotAdmitted => "account is not in the conversation",
            Self::Revoked => "key of this device was revoked",
            Self::Closed => "log was handed over",
            Self::NeedsPath => "a commit with a fresh path is owed",
            Self::AlreadySo => "nothing would change",
            Self::UnknownMember => "not in the conversation",
            Self::NotAllowed => "role does not allow it",
            Self::TooLong => "value above its limit",
            Self::BadPackage => "key package can't be used",
            Self::Refused(_) => "commit would not count",
            Self::BadState => "state can't be used",
            Self::WelcomeMismatch => "welcome does not fit the log",
            Self::Mls(error) => return error.fmt(f),
        })
    }
}

impl core::error::Error for Error {}

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
