//! Key packages (RFC 9420 §10).

use rand_core::CryptoRng;

use super::codec::{Encode, codec_struct};
use super::extension::Extensions;
use super::leaf_node::{LeafContent, LeafNode, LeafNodeSource, Lifetime};
use super::tree_math::LeafIndex;
use super::{Error, PROTOCOL_VERSION};
use crate::crypto::hpke::{HpkePrivateKey, HpkePublicKey};
use crate::crypto::signature::{SignatureKey, Signed};
use crate::crypto::{Digest, Suite, kdf};

const LABEL: &str = "KeyPackageTBS";

/// What a client publishes so that others can add it to groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPackage {
    /// Protocol version.
    pub version: u16,
    /// Cipher suite.
    pub cipher_suite: u16,
    /// Seals the Welcome.
    pub init_key: HpkePublicKey,
    /// The leaf to put into the tree.
    pub leaf_node: LeafNode,
    /// Extensions.
    pub extensions: Extensions,
    /// Covers the fields above.
    pub signature: Vec<u8>,
}

codec_struct!(KeyPackage { version, cipher_suite, init_key, leaf_node, extensions, signature });

/// What a new key package shall say.
#[derive(Clone, Debug)]
pub struct KeyPackageContent {
    /// What its leaf shall say.
    pub leaf: LeafContent,
    /// When the package may be used.
    pub lifetime: Lifetime,
    /// Extensions of the package.
    pub extensions: Extensions,
}

/// The private keys that belong to a key package; kept until its Welcome has come.
#[derive(Clone, Debug)]
pub struct KeyPackageKeys {
    /// Opens the Welcome.
    pub init: HpkePrivateKey,
    /// The leaf's key.
    pub leaf: HpkePrivateKey,
}

impl KeyPackage {
    /// Makes and signs a key package.
    pub fn generate(
        suite: Suite,
        content: KeyPackageContent,
        signer: &SignatureKey,
        rng: &mut impl CryptoRng,
    ) -> (Self, KeyPackageKeys) {
        let keys = KeyPackageKeys {
            init: HpkePrivateKey::generate(rng),
            leaf: HpkePrivateKey::generate(rng),
        };
        let mut leaf_node = LeafNode::unsigned(content.leaf, signer.public());
        leaf_node.encryption_key = keys.leaf.public();
        leaf_node.source = LeafNodeSource::KeyPackage(content.lifetime);
        leaf_node.sign(&[], LeafIndex::default(), signer);
        let mut package = Self {
            version: PROTOCOL_VERSION,
            cipher_suite: suite.id(),
            init_key: keys.init.public(),
            leaf_node,
            extensions: content.extensions,
            signature: Vec::new(),
        };
        package.sign(signer);
        (package, keys)
    }

    /// Signs the package; its leaf has been signed before.
    pub fn sign(&mut self, signer: &SignatureKey) {
        self.signature = signer.sign_with_label(LABEL, &self.to_be_signed());
    }

    /// `KeyPackageTBS`.
    pub fn to_be_signed(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        self.version.encode(&mut out);
        self.cipher_suite.encode(&mut out);
        self.init_key.encode(&mut out);
        self.leaf_node.encode(&mut out);
        self.extensions.encode(&mut out);
        out
    }

    /// Verifies the package's own signature; the leaf has another.
    ///
    /// # Errors
    /// [`Error::InvalidSignature`] or [`Error::InvalidKey`].
    pub fn verify(&self) -> Result<(), Error> {
        Ok(self.signed().verify()?)
    }

    /// The package's signature as a member of a batch.
    pub fn signed(&self) -> Signed<'_> {
        Signed {
            key: &self.leaf_node.signature_key,
            label: LABEL,
            content: self.to_be_signed(),
            signature: &self.signature,
        }
    }

    /// `KeyPackageRef` (§5.2).
    pub fn reference(&self) -> Digest {
        kdf::ref_hash("MLS 1.0 KeyPackage Reference", &self.to_bytes())
    }
}
