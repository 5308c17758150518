//! Group context and group info (RFC 9420 §§8.1 and 12.4.3).

use super::codec::{Encode, codec_struct};
use super::extension::Extensions;
use super::tree_math::LeafIndex;
use super::{Error, PROTOCOL_VERSION};
use crate::crypto::Digest;
use crate::crypto::signature::{SignatureKey, SignaturePublicKey};

const LABEL: &str = "GroupInfoTBS";

/// What all members of an epoch agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupContext {
    /// Cipher suite.
    pub cipher_suite: u16,
    /// The group's id.
    pub group_id: Vec<u8>,
    /// Counts commits.
    pub epoch: u64,
    /// The hash of the ratchet tree.
    pub tree_hash: Digest,
    /// The hash of all commits; empty in epoch 0.
    pub confirmed_transcript_hash: Vec<u8>,
    /// Extensions.
    pub extensions: Extensions,
}

codec_struct!(GroupContext {
    = PROTOCOL_VERSION;
    cipher_suite,
    group_id,
    epoch,
    tree_hash,
    confirmed_transcript_hash,
    extensions,
});

/// A member's signed word on an epoch, for those who come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// The epoch's context.
    pub context: GroupContext,
    /// Extensions.
    pub extensions: Extensions,
    /// The confirmation tag of the commit that started the epoch.
    pub confirmation_tag: Digest,
    /// Who signed.
    pub signer: LeafIndex,
    /// Covers the fields above.
    pub signature: Vec<u8>,
}

codec_struct!(GroupInfo { context, extensions, confirmation_tag, signer, signature });

impl GroupInfo {
    /// `GroupInfoTBS`.
    pub fn to_be_signed(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        self.context.encode(&mut out);
        self.extensions.encode(&mut out);
        self.confirmation_tag.encode(&mut out);
        self.signer.encode(&mut out);
        out
    }

    /// Signs it.
    pub fn sign(&mut self, key: &SignatureKey) {
        self.signature = key.sign_with_label(LABEL, &self.to_be_signed());
    }

    /// Verifies the signature against the key of the signer's leaf.
    ///
    /// # Errors
    /// [`Error::InvalidSignature`] or [`Error::InvalidKey`].
    pub fn verify(&self, key: &SignaturePublicKey) -> Result<(), Error> {
        Ok(key.verify_with_label(LABEL, &self.to_be_signed(), &self.signature)?)
    }
}
