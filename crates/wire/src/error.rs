//! Stable codes for everything that can be refused.

use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $code:literal $status:literal,)*) => {
        /// Why a request was refused. Over HTTP the `code` of a problem+json body, its `number`
        /// and a status, in frames the number; new codes are added at the end.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
            /// A code of a later version, by its number.
            Unknown(u16),
        }

        impl ErrorCode {
            /// Every code that this version knows, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code's stable name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                    Self::Unknown(_) => "unknown_code",
                }
            }

            /// The HTTP status that goes with the code.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                    Self::Unknown(_) => 400,
                }
            }

            /// The code with this stable name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($code => Some(Self::$name),)* _ => None }
            }
        }
    };
}

impl ErrorCode {
    /// The code's number, which frames carry.
    #[must_use]
    pub fn number(self) -> u16 {
        if let Self::Unknown(number) = self {
            return number;
        }
        let place = Self::ALL.iter().position(|code| *code == self);
        place.and_then(|place| u16::try_from(place).ok()).unwrap_or(u16::MAX)
    }

    /// The code with this number, which a later version may have given.
    #[must_use]
    pub fn from_number(number: u16) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Unknown(number))
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u16(self.number())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        u16::deserialize(from).map(Self::from_number)
    }
}

codes! {
    /// The body or frame is no request of this protocol.
    Malformed "malformed" 400,
    /// The request, or a part of it, is larger than the limits allow.
    TooLarge "too_large" 413,
    /// There is no such call.
    UnknownRoute "unknown_route" 404,
    /// The call exists, but under another HTTP method.
    MethodNotAllowed "method_not_allowed" 405,
    /// The body is not of type `application/vnd.corncrake`.
    UnsupportedMediaType "unsupported_media_type" 415,
    /// The open plane refuses requests that carry a session or another credential.
    CredentialsRefused "credentials_refused" 400,
    /// The call needs a session, and none or an unknown one was shown.
    SessionRequired "session_required" 401,
    /// The session was valid once and must be renewed.
    SessionExpired "session_expired" 401,
    /// The session belongs to no device, and the call needs one.
    DeviceRequired "device_required" 403,
    /// The name is unknown or the password is wrong.
    LogInFailed "log_in_failed" 401,
    /// The name is not a username.
    InvalidName "invalid_name" 422,
    /// Another account has the name.
    UsernameTaken "username_taken" 409,
    /// The id of account, device or inbox is in use.
    IdTaken "id_taken" 409,
    /// Record or vault isn't the next version of what the server holds.
    VersionConflict "version_conflict" 409,
    /// The account has as many devices as it may have.
    TooManyDevices "too_many_devices" 409,
    /// The device has as many key packages as it may have.
    TooManyPackages "too_many_packages" 409,
    /// No account has this name or id.
    UnknownAccount "unknown_account" 404,
    /// The account has no such device.
    UnknownDevice "unknown_device" 404,
    /// There is no such inbox.
    UnknownInbox "unknown_inbox" 404,
    /// The inbox holds as many notices as it may hold.
    InboxFull "inbox_full" 409,
    /// Nothing was ever appended to the log.
    LogNotFound "log_not_found" 404,
    /// There is nothing beside that entry, or no such entry.
    NotFound "not_found" 404,
    /// The append is no batch: no entries, too many, one twice, or parts only a commit may have.
    BadBatch "bad_batch" 422,
    /// Some entries of the batch stand in the log, and some don't.
    PartlyKnown "partly_known" 409,
    /// The first append of a log must carry its opening state.
    OpeningMissing "opening_missing" 422,
    /// Too many requests from this address or for this log.
    RateLimited "rate_limited" 429,
    /// The server, or this address, has as many connections as it may have.
    TooManyConnections "too_many_connections" 503,
    /// The connection follows as many logs as it may follow.
    TooManySubscriptions "too_many_subscriptions" 409,
    /// The frame belongs to the other plane's socket, or comes before its time.
    FrameRefused "frame_refused" 400,
    /// The body did not come in time.
    TimedOut "timed_out" 408,
    /// The server is shutting down or overloaded.
    Unavailable "unavailable" 503,
    /// The server failed; nothing is known about the outcome.
    Internal "internal" 500,
    /// The server's disk is full: nothing is stored until there is space again.
    StorageFull "storage_full" 507,
    /// No version of the protocol is known to both client and server.
    UnsupportedVersion "unsupported_version" 426,
    /// The server doesn't know itself by the origin that the client sees.
    UnknownOrigin "unknown_origin" 421,
    /// The account's identity key has not signed what is to be replaced.
    SignatureRefused "signature_refused" 403,
    /// The log holds as many bytes as it may hold; old messages that expire make room.
    LogFull "log_full" 507,
    /// The inbox's device has no such key package, or it is too old.
    UnknownPackage "unknown_package" 404,
    /// As many notices as may be were deposited for this key package.
    TooManyNotices "too_many_notices" 429,
    /// The server takes no key packages for this cipher suite.
    UnsupportedSuite "unsupported_suite" 422,
    /// A version before this one is missing, and another device may have it.
    VersionGap "version_gap" 409,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(number) => write!(f, "unknown code {number}"),
            code => f.write_str(code.as_str()),
        }
    }
}

/// A refused request: why, and when to come back, if coming back can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why.
    pub code: ErrorCode,
    /// Seconds to wait before trying again.
    pub retry_after: Option<u32>,
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self { code, retry_after: None }
    }
}

impl From<crate::Malformed> for Refusal {
    fn from(_: crate::Malformed) -> Self {
        ErrorCode::Malformed.into()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.retry_after {
            Some(seconds) => write!(f, "{} (again in {seconds} s)", self.code),
            None => self.code.fmt(f),
        }
    }
}

impl core::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_snake_case_and_found_again() {
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_name(code.as_str()), Some(code));
            assert!(code.as_str().bytes().all(|c| c.is_ascii_lowercase() || c == b'_'));
            assert!((400..600).contains(&code.status()));
            assert_eq!(ErrorCode::from_number(code.number()), code);
        }
        assert_eq!(ErrorCode::from_name("nonsense"), None);
    }

    #[test]
    fn audit_srv_b11_a_code_of_a_later_version_is_shown_as_what_it_is() {
        let code = ErrorCode::from_number(999);
        assert_eq!(
            (code, code.to_string().as_str()),
            (ErrorCode::Unknown(999), "unknown code 999")
        );
        let refusal = Refusal { code, retry_after: Some(3) };
        let bytes = crate::encode(&refusal);
        assert_eq!(crate::decode::<Refusal>(&bytes), Ok(refusal));
    }
}
