//! Leaf nodes (RFC 9420 §7.2).

use super::codec::{Encode, codec_enum, codec_struct};
use super::credential::{Credential, CredentialType};
use super::extension::{ExtensionType, Extensions};
use super::proposal::ProposalType;
use super::tree_math::LeafIndex;
use super::{Error, PROTOCOL_VERSION};
use crate::crypto::Suite;
use crate::crypto::hpke::HpkePublicKey;
use crate::crypto::signature::{SignatureKey, SignaturePublicKey, Signed};

const LABEL: &str = "LeafNodeTBS";

/// What a client supports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Protocol versions.
    pub versions: Vec<u16>,
    /// Cipher suites.
    pub cipher_suites: Vec<u16>,
    /// Extensions beyond the default ones.
    pub extensions: Vec<ExtensionType>,
    /// Proposals beyond the default ones.
    pub proposals: Vec<ProposalType>,
    /// Credentials.
    pub credentials: Vec<CredentialType>,
}

codec_struct!(Capabilities { versions, cipher_suites, extensions, proposals, credentials });

impl Capabilities {
    /// MLS 1.0 on `suite` with basic credentials and these extensions.
    pub fn basic(suite: Suite, extensions: Vec<ExtensionType>) -> Self {
        Self {
            versions: vec![PROTOCOL_VERSION],
            cipher_suites: vec![suite.id()],
            extensions,
            proposals: Vec::new(),
            credentials: vec![CredentialType::BASIC],
        }
    }

    /// Whether the client speaks this extension.
    #[must_use]
    pub fn has_extension(&self, extension: ExtensionType) -> bool {
        extension.is_default() || self.extensions.contains(&extension)
    }
}

/// When a key package may be used, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// First second.
    pub not_before: u64,
    /// Last second.
    pub not_after: u64,
}

codec_struct!(Lifetime { not_before, not_after });

/// How a leaf came into the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeafNodeSource {
    /// By a key package.
    KeyPackage(Lifetime),
    /// By an Update proposal.
    Update,
    /// By its owner's commit.
    Commit {
        /// Links the leaf to the nodes that the commit set (§7.9).
        parent_hash: Vec<u8>,
    },
}

codec_enum!(LeafNodeSource: u8 { 1 => KeyPackage(lifetime), 2 => Update, 3 => Commit { parent_hash } });

/// A client as it stands in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafNode {
    /// Seals to this leaf.
    pub encryption_key: HpkePublicKey,
    /// Verifies what the client signs.
    pub signature_key: SignaturePublicKey,
    /// Says who the client is.
    pub credential: Credential,
    /// What the client supports.
    pub capabilities: Capabilities,
    /// How the leaf came into the tree.
    pub source: LeafNodeSource,
    /// Extensions.
    pub extensions: Extensions,
    /// Covers the fields above and, unless it came by a key package, the leaf's place.
    pub signature: Vec<u8>,
}

codec_struct!(LeafNode {
    encryption_key,
    signature_key,
    credential,
    capabilities,
    source,
    extensions,
    signature,
});

/// What a leaf says about its client, keys aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafContent {
    /// Who the client is.
    pub credential: Credential,
    /// What it supports.
    pub capabilities: Capabilities,
    /// Extensions.
    pub extensions: Extensions,
}

impl LeafNode {
    /// A leaf that waits for its encryption key, source and signature.
    pub(super) fn unsigned(content: LeafContent, signature_key: SignaturePublicKey) -> Self {
        Self {
            encryption_key: HpkePublicKey::from_bytes(Vec::new()),
            signature_key,
            credential: content.credential,
            capabilities: content.capabilities,
            source: LeafNodeSource::Update,
            extensions: content.extensions,
            signature: Vec::new(),
        }
    }

    /// `LeafNodeTBS`; the place counts only for leaves that were made in a group.
    pub fn to_be_signed(&self, group_id: &[u8], index: LeafIndex) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        self.encryption_key.encode(&mut out);
        self.signature_key.encode(&mut out);
        self.credential.encode(&mut out);
        self.capabilities.encode(&mut out);
        self.source.encode(&mut out);
        self.extensions.encode(&mut out);
        match self.source {
            LeafNodeSource::KeyPackage(_) => {}
            LeafNodeSource::Update | LeafNodeSource::Commit { .. } => {
                group_id.encode(&mut out);
                index.encode(&mut out);
            }
        }
        out
    }

    /// The parent hash that a leaf from its owner's commit carries (§7.9).
    pub fn parent_hash(&self) -> Option<&[u8]> {
        match &self.source {
            LeafNodeSource::Commit { parent_hash } => Some(parent_hash),
            LeafNodeSource::KeyPackage(_) | LeafNodeSource::Update => None,
        }
    }

    /// Signs the leaf for its place.
    pub fn sign(&mut self, group_id: &[u8], index: LeafIndex, key: &SignatureKey) {
        self.signature = key.sign_with_label(LABEL, &self.to_be_signed(group_id, index));
    }

    /// Verifies the leaf's signature at its place.
    ///
    /// # Errors
    /// [`Error::InvalidSignature`] or [`Error::InvalidKey`].
    pub fn verify(&self, group_id: &[u8], index: LeafIndex) -> Result<(), Error> {
        Ok(self.signed(group_id, index).verify()?)
    }

    /// The leaf's signature as a member of a batch.
    pub fn signed(&self, group_id: &[u8], index: LeafIndex) -> Signed<'_> {
        Signed {
            key: &self.signature_key,
            label: LABEL,
            content: self.to_be_signed(group_id, index),
            signature: &self.signature,
        }
    }
}
