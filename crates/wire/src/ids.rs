//! Names of things, and bearer secrets.

use core::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The id as bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = crate::Malformed;

            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                bytes.try_into().map(Self).map_err(|_| crate::Malformed)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let [a, b, c, d, ..] = self.0;
                write!(f, "{}({a:02x}{b:02x}{c:02x}{d:02x}…)", stringify!($name))
            }
        }
    )*};
}

ids! {
    /// The id of a log: the SHA-256 of its [`AccessToken`].
    LogId;
    /// The id of an entry: the SHA-256 of its sealed bytes.
    EntryId;
    /// The id of an account, computed by its owner from the first identity key.
    AccountId;
    /// The id of a device, computed by its owner from the device's signature key.
    DeviceId;
    /// The id of a device's inbox: random, and the right to deposit there.
    InboxId;
    /// The id of a notice: the SHA-256 of its sealed bytes.
    NoticeId;
    /// The id of a key package: the SHA-256 of its bytes.
    PackageId;
}

impl EntryId {
    /// The id of the entry with these sealed bytes.
    #[must_use]
    pub fn of(sealed: &[u8]) -> Self {
        Self(Sha256::digest(sealed).into())
    }
}

impl NoticeId {
    /// The id of the notice with these sealed bytes.
    #[must_use]
    pub fn of(sealed: &[u8]) -> Self {
        Self(Sha256::digest(sealed).into())
    }
}

impl PackageId {
    /// The id of the key package with these bytes.
    #[must_use]
    pub fn of(package: &[u8]) -> Self {
        Self(Sha256::digest(package).into())
    }
}

macro_rules! secrets {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
        pub struct $name(Box<[u8; 32]>);

        impl $name {
            /// The secret with these bytes.
            #[must_use]
            pub fn new(bytes: [u8; 32]) -> Self {
                Self(Box::new(bytes))
            }

            /// The secret's bytes.
            #[must_use]
            pub fn expose_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The SHA-256 of the secret: all that a server keeps of it.
            #[must_use]
            pub fn digest(&self) -> [u8; 32] {
                Sha256::digest(self.0.as_slice()).into()
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.as_slice().ct_eq(other.0.as_slice()).into()
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Self(_) = self;
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )*};
}

secrets! {
    /// The right to read a log and to append to it, derived from the log's seed.
    AccessToken;
    /// The right to act for an account for 30 days, chosen by the server.
    SessionToken;
}

impl AccessToken {
    /// The id of the log that this token opens.
    #[must_use]
    pub fn log_id(&self) -> LogId {
        LogId(self.digest())
    }
}

impl SessionToken {
    /// The token as it stands in the session header: lower-case hex.
    #[must_use]
    pub fn to_header(&self) -> String {
        self.0.iter().fold(String::with_capacity(64), |mut hex, byte| {
            for nibble in [byte >> 4, byte & 15] {
                hex.push(char::from_digit(nibble.into(), 16).unwrap_or('0'));
            }
            hex
        })
    }

    /// The token that stands in a session header; nothing else than 64 lower-case hex digits.
    #[must_use]
    pub fn from_header(header: &str) -> Option<Self> {
        let mut token = Self::new([0; 32]);
        if header.len() != 64 {
            return None;
        }
        for (byte, pair) in token.0.iter_mut().zip(header.as_bytes().chunks_exact(2)) {
            for &digit in pair {
                let nibble = match digit {
                    b'0'..=b'9' => digit - b'0',
                    b'a'..=b'f' => digit - b'a' + 10,
                    _ => return None,
                };
                *byte = *byte << 4 | nibble;
            }
        }
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret_and_little_of_an_id() {
        assert_eq!(format!("{:?}", AccessToken::new([7; 32])), "AccessToken(..)");
        assert_eq!(format!("{:?}", SessionToken::new([7; 32])), "SessionToken(..)");
        assert_eq!(format!("{:?}", LogId([0xab; 32])), "LogId(abababab…)");
    }

    #[test]
    fn a_session_token_survives_its_header() {
        let token = SessionToken::new(core::array::from_fn(|i| u8::try_from(i * 8).unwrap()));
        assert_eq!(SessionToken::from_header(&token.to_header()), Some(token.clone()));
        let header = token.to_header();
        for bad in ["", &header[1..], &header.replace('8', "G"), &format!("{header}00")] {
            assert_eq!(SessionToken::from_header(bad), None);
        }
        let upper = SessionToken::new([0xab; 32]).to_header().to_uppercase();
        assert_eq!(SessionToken::from_header(&upper), None);
    }
}
