//! Credentials (RFC 9420 §5.3): who a leaf claims to be. Believing it is the caller's business.

use super::codec::{codec_enum, codec_newtype};

/// The code point of a credential type (§17.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialType(pub u16);

codec_newtype!(CredentialType);

impl CredentialType {
    /// `basic`
    pub const BASIC: Self = Self(1);
    /// `x509`
    pub const X509: Self = Self(2);
}

/// A credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Bytes whose format the application defines.
    Basic(Vec<u8>),
    /// A chain of DER certificates.
    X509(Vec<Vec<u8>>),
}

impl Credential {
    /// The type's code point.
    pub fn credential_type(&self) -> CredentialType {
        match self {
            Self::Basic(_) => CredentialType::BASIC,
            Self::X509(_) => CredentialType::X509,
        }
    }
}

codec_enum!(Credential: u16 { 1 => Basic(identity), 2 => X509(chain) });
