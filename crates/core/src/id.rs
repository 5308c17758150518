//! Names of things: ids that anybody may see, as types that can't be mistaken for each other.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ensure;
use crate::mls::codec::{Decode, Encode, Malformed, Reader};

/// The text is not the hexadecimal form of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidId;

impl InvalidId {
    /// The stable code of this error.
    pub const fn code(self) -> &'static str {
        "invalid_id"
    }
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the hexadecimal form of an id")
    }
}

impl core::error::Error for InvalidId {}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident: $length:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name([u8; $length]);

        impl $name {
            /// The id with these bytes.
            pub const fn from_bytes(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }

            /// The bytes of the id.
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_short(f, stringify!($name), &self.0)
            }
        }

        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.0);
            }
        }

        impl Decode for $name {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                reader.array().map(Self)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_hex(text).map(Self)
            }
        }
    )*};
}

ids! {
    /// An account: the labelled hash of its first identity key.
    AccountId: 32;
    /// A device: the labelled hash of its signature key.
    DeviceId: 32;
    /// A conversation, which is also the id of its MLS group; it outlives every log.
    ConversationId: 32;
    /// A log on the server: the SHA-256 of its access token.
    LogId: 32;
    /// An entry of a log: the SHA-256 of its sealed bytes.
    EntryId: 32;
    /// A device's inbox.
    InboxId: 32;
    /// A notice in an inbox: the SHA-256 of its bytes.
    NoticeId: 32;
    /// A message: random, chosen with the intent to send it, and kept when it is sealed again.
    MessageId: 16;
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// What `Debug` shows of public bytes: the first four.
pub(crate) fn write_short(f: &mut fmt::Formatter<'_>, name: &str, bytes: &[u8]) -> fmt::Result {
    write!(f, "{name}(")?;
    write_hex(f, bytes.get(..4).unwrap_or(bytes))?;
    f.write_str("..)")
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], InvalidId> {
    ensure(text.len() == 2 * N, InvalidId)?;
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        for digit in pair {
            let value = char::from(*digit).to_digit(16).and_then(|v| u8::try_from(v).ok());
            *byte = *byte << 4 | value.ok_or(InvalidId)?;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_debug_is_short() {
        let id = AccountId::from_bytes(core::array::from_fn(|i| u8::try_from(i * 8).unwrap()));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        assert_eq!(format!("{id:?}"), "AccountId(00081018..)");
    }

    #[test]
    fn anything_else_is_refused() {
        let good = MessageId::from_bytes([0x5A; 16]).to_string();
        for bad in ["", "5a", &good[1..], &format!("{good}00"), &good.replacen('5', "g", 1)] {
            assert_eq!(bad.parse::<MessageId>(), Err(InvalidId), "{bad}");
        }
        assert_eq!("+5".repeat(16).parse::<MessageId>(), Err(InvalidId));
        assert_eq!("é".repeat(16).parse::<MessageId>(), Err(InvalidId));
    }
}
