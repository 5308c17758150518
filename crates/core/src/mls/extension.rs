//! Extensions (RFC 9420 §13.4) and the ones that MLS itself defines.

use std::collections::BTreeSet;

use super::codec::{Decode, Encode, Malformed, codec_newtype, codec_struct};
use super::credential::{Credential, CredentialType};
use super::proposal::ProposalType;
use crate::crypto::hpke::HpkePublicKey;
use crate::crypto::signature::SignaturePublicKey;
use crate::error::ensure;

/// The code point of an extension (§17.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtensionType(pub u16);

codec_newtype!(ExtensionType);

impl ExtensionType {
    /// `application_id`
    pub const APPLICATION_ID: Self = Self(1);
    /// `ratchet_tree`
    pub const RATCHET_TREE: Self = Self(2);
    /// `required_capabilities`
    pub const REQUIRED_CAPABILITIES: Self = Self(3);
    /// `external_pub`
    pub const EXTERNAL_PUB: Self = Self(4);
    /// `external_senders`
    pub const EXTERNAL_SENDERS: Self = Self(5);

    /// Whether every client speaks it without listing it (§7.2).
    #[must_use]
    pub fn is_default(self) -> bool {
        (1..=5).contains(&self.0)
    }
}

/// One extension, its content not yet understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// What it is.
    pub extension_type: ExtensionType,
    /// Its encoding.
    pub data: Vec<u8>,
}

codec_struct!(Extension { extension_type, data });

impl Extension {
    /// Encodes `value` as an extension of this type.
    pub fn new(extension_type: ExtensionType, value: &impl Encode) -> Self {
        Self { extension_type, data: value.to_bytes() }
    }
}

/// A list of extensions that holds each type at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    list: Vec<Extension>,
}

impl Extensions {
    /// Makes a list.
    ///
    /// # Errors
    /// [`Malformed`] if a type stands there twice.
    pub fn new(list: Vec<Extension>) -> Result<Self, Malformed> {
        let extensions = Self { list };
        ensure(extensions.is_distinct(), Malformed)?;
        Ok(extensions)
    }

    fn is_distinct(&self) -> bool {
        let mut seen = BTreeSet::new();
        self.list.iter().all(|extension| seen.insert(extension.extension_type))
    }

    /// The content of the extension of this type.
    pub fn get(&self, extension_type: ExtensionType) -> Option<&[u8]> {
        let extension =
            self.list.iter().find(|extension| extension.extension_type == extension_type);
        extension.map(|extension| extension.data.as_slice())
    }

    /// The extension of this type, decoded.
    ///
    /// # Errors
    /// [`Malformed`] content.
    pub fn parsed<T: Decode>(&self, extension_type: ExtensionType) -> Result<Option<T>, Malformed> {
        self.get(extension_type).map(T::decode_exact).transpose()
    }

    /// The extensions in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Extension> {
        self.list.iter()
    }
}

codec_struct!(Extensions { list } if Extensions::is_distinct);

/// What every member must support (§11.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequiredCapabilities {
    /// Extensions beyond the default ones.
    pub extensions: Vec<ExtensionType>,
    /// Proposals beyond the default ones.
    pub proposals: Vec<ProposalType>,
    /// Credentials.
    pub credentials: Vec<CredentialType>,
}

codec_struct!(RequiredCapabilities { extensions, proposals, credentials });

/// The key that an external commit encapsulates to (§12.4.3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalPub(pub HpkePublicKey);

codec_newtype!(ExternalPub);

/// Somebody outside who may propose (§12.1.8.1); the extension is a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalSender {
    /// Verifies the sender's proposals.
    pub signature_key: SignaturePublicKey,
    /// Says who the sender is.
    pub credential: Credential,
}

codec_struct!(ExternalSender { signature_key, credential });
