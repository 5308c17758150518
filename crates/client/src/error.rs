//! What can go wrong, cut by who must act; every error has a stable code.

use core::fmt;

use corncrake_core::id::AccountId;
use corncrake_wire::ErrorCode;

use crate::{event::Device, store::StoreError, transport::TransportError};

/// Why a call did not do what was asked. Nothing was changed unless the variant says so.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The caller asked for something that cannot be.
    Refused(Refusal),
    /// The server refused, with its code and the seconds after which to try again.
    Server(ErrorCode, Option<u32>),
    /// The server was not reached.
    Offline,
    /// The server's answer is not what the protocol allows; it may be lying.
    Untrue(&'static str),
    /// The local store failed or is not ours.
    Store(StoreError),
    /// The engine has ended; open the client again.
    Closed,
    /// The account has as many devices as it may have, these: name one that gives way.
    TooManyDevices(Vec<Device>),
    /// The username means one account on this device, and the server answers with another one: name
    /// the one that is meant by its id.
    NameChangedHands {
        /// The account that was known by the name first.
        before: AccountId,
        /// The one that the server says it belongs to.
        now: AccountId,
    },
}

/// What a caller can mend.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[non_exhaustive]
pub enum Refusal {
    /// The username is taken.
    UsernameTaken,
    /// Usernames have 3–32 of a–z, 0–9, `_`, `.`, `-`.
    BadUsername,
    /// The password is too easy to guess.
    WeakPassword,
    /// No account has this name and password.
    WrongPassword,
    /// Nobody has this username.
    UnknownAccount,
    /// No such chat is known here.
    UnknownChat,
    /// This device is not (or no longer) in the chat.
    NotAMember,
    /// The own role does not allow this.
    NotAllowed,
    /// What was asked for already holds.
    AlreadySo,
    /// The person named is not in the chat.
    UnknownMember,
    /// A person has no key package left to be added by.
    NoKeyPackage,
    /// The store holds no account; sign up or log in first.
    NoAccount,
    /// This device was removed from its account.
    SignedOut,
    /// The store already holds an account.
    AlreadyHasAccount,
    /// The system gives less than the 64 MiB that stretching a password takes.
    NoMemory,
    /// The message is longer than 48 KiB.
    MessageTooLong,
    /// The message is empty.
    MessageEmpty,
    /// Titles have at most 128 bytes.
    TitleTooLong,
    /// A title is one line of plain text.
    BadTitle,
    /// The last owner of a group stays one while others are in it.
    LastOwner,
    /// The group would be larger than the limits allow.
    TooManyMembers,
    /// A chat with oneself alone cannot be started.
    ChatWithOneself,
    /// This cannot be done in a chat of two.
    NotInDirectChat,
    /// The address of the server is not an http or https URL, or has a query, a fragment or a
    /// password.
    BadServerAddress,
    /// The account has no such device.
    UnknownDevice,
    /// A device can't remove itself.
    ThisDevice,
    /// More than one of the account's devices has an id that begins so.
    AmbiguousDevice,
    /// Those who were to be added were removed before they came in.
    TakenBack,
}

impl Refusal {
    /// The stable code of this refusal.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::UsernameTaken => "username_taken",
            Self::BadUsername => "bad_username",
            Self::WeakPassword => "weak_password",
            Self::WrongPassword => "wrong_password",
            Self::UnknownAccount => "unknown_account",
            Self::UnknownChat => "unknown_chat",
            Self::NotAMember => "not_a_member",
            Self::NotAllowed => "not_allowed",
            Self::AlreadySo => "already_so",
            Self::UnknownMember => "unknown_member",
            Self::NoKeyPackage => "no_key_package",
            Self::NoAccount => "no_account",
            Self::SignedOut => "signed_out",
            Self::AlreadyHasAccount => "already_has_account",
            Self::NoMemory => "no_memory",
            Self::MessageTooLong => "message_too_long",
            Self::MessageEmpty => "message_empty",
            Self::TitleTooLong => "title_too_long",
            Self::BadTitle => "bad_title",
            Self::LastOwner => "last_owner",
            Self::TooManyMembers => "too_many_members",
            Self::ChatWithOneself => "chat_with_oneself",
            Self::NotInDirectChat => "not_in_direct_chat",
            Self::BadServerAddress => "bad_server_address",
            Self::UnknownDevice => "unknown_device",
            Self::ThisDevice => "this_device",
            Self::AmbiguousDevice => "ambiguous_device",
            Self::TakenBack => "taken_back",
        }
    }

    /// What is wrong and what to do about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::UsernameTaken => "this username is taken: choose another, or log in",
            Self::BadUsername => "a username has 3 to 32 of a-z, 0-9, '_', '.' and '-'",
            Self::WeakPassword => "this password is easy to guess: use more words",
            Self::WrongPassword => "no account has this username and password",
            Self::UnknownAccount => "nobody here has this username",
            Self::UnknownChat => "this device knows no such chat: list the chats",
            Self::NotAMember => "this device is not in the chat",
            Self::NotAllowed => "your role in the chat does not allow this",
            Self::AlreadySo => "there is nothing to change",
            Self::UnknownMember => "this person is not in the chat",
            Self::NoKeyPackage => "this person's devices cannot be added now: try again later",
            Self::NoAccount => "this store holds no account: sign up or log in",
            Self::SignedOut => "this device was removed from its account: log in with a new store",
            Self::AlreadyHasAccount => "this store already holds an account: use another store",
            Self::NoMemory => "a password takes 64 MiB of memory, and the system gives less",
            Self::MessageTooLong => "a message has at most 48 KiB of text",
            Self::MessageEmpty => "a message needs some text",
            Self::TitleTooLong => "a title has at most 128 bytes",
            Self::BadTitle => "a title is one line of plain text without blanks at its ends",
            Self::LastOwner => "make somebody else an owner first",
            Self::TooManyMembers => "the group would be too large",
            Self::ChatWithOneself => "name somebody other than yourself",
            Self::NotInDirectChat => "a chat of two has no members to change, title or roles",
            Self::BadServerAddress => {
                "the server's address must begin with http:// or https://, and have no '?', '#' or \
                 '@': leave off what follows the host, but for a path that the operator names"
            }
            Self::UnknownDevice => "the account has no such device: list the devices",
            Self::ThisDevice => "a device can't remove itself: use another one",
            Self::AmbiguousDevice => {
                "more than one device has an id that begins so: give more of it"
            }
            Self::TakenBack => "they were removed before they came in: nothing more is to be done",
        }
    }
}

impl Error {
    /// The stable code of this error, the same in every language.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Server(code, _) => code.as_str(),
            Self::Offline => "offline",
            Self::Untrue(_) => "untrue_answer",
            Self::Store(error) => error.code(),
            Self::Closed => "closed",
            Self::TooManyDevices(_) => ErrorCode::TooManyDevices.as_str(),
            Self::NameChangedHands { .. } => "name_changed_hands",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => f.write_str(refusal.advice()),
            Self::Server(ErrorCode::UnknownOrigin, _) => f.write_str(
                "the server does not know itself by this address: use the one that its operator \
                 names, who tells it to the server with --origin",
            ),
            Self::Server(code, None) => write!(f, "the server refused: {code}"),
            Self::Server(code, Some(seconds)) => {
                write!(f, "the server refused: {code}; try again in {seconds} s")
            }
            Self::Offline => f.write_str("the server was not reached: check address and network"),
            Self::Untrue(what) => write!(f, "the server's answer does not hold: {what}"),
            Self::Store(error) => error.fmt(f),
            Self::Closed => f.write_str("the client is closed: open it again"),
            Self::TooManyDevices(devices) => {
                write!(f, "the account has {} devices: name one that gives way", devices.len())
            }
            Self::NameChangedHands { before, now } => write!(
                f,
                "this name belongs to another account than before: if you mean the new one, which \
                 may be somebody else, write its id {now} instead of the name; the one you knew is \
                 {before}"
            ),
        }
    }
}

impl std::error::Error for Error {}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<TransportError> for Error {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::Unreachable => Self::Offline,
            TransportError::Refused(refusal) => Self::Server(refusal.code, refusal.retry_after),
            TransportError::Malformed => Self::Untrue("the answer has no known form"),
        }
    }
}
