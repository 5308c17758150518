//! Primitives of the cipher suites: hash, labelled KDF, AEAD, HPKE and signatures.
//!
//! There is one [`Suite`] enum and plain functions; a new suite is a new variant with its lengths.

use sha2::Digest as _;

use crate::error::errors;
use crate::mls::codec::{Decode, Encode, Malformed, Reader, put_bytes};

pub mod aead;
pub mod hpke;
pub mod kdf;
mod secret;
pub mod signature;

pub use secret::Secret;

/// The cipher suites that this crate speaks (RFC 9420 §17.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// `MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519` (0x0003).
    X25519ChaCha20Poly1305Sha256Ed25519,
}

impl Suite {
    /// The code point that stands for this suite on the wire.
    pub fn id(self) -> u16 {
        match self {
            Self::X25519ChaCha20Poly1305Sha256Ed25519 => 0x0003,
        }
    }

    /// The suite of a code point, if we speak it.
    pub fn try_from_id(id: u16) -> Option<Self> {
        match id {
            0x0003 => Some(Self::X25519ChaCha20Poly1305Sha256Ed25519),
            _ => None,
        }
    }

    /// Bytes in a hash, a KDF output and a MAC (`KDF.Nh`).
    pub fn hash_len(self) -> usize {
        match self {
            Self::X25519ChaCha20Poly1305Sha256Ed25519 => 32,
        }
    }
}

errors! {
    /// Why a primitive refused its input.
    pub enum CryptoError {
        /// A key of the wrong length, or one that is no valid group element.
        InvalidKey => "crypto_invalid_key", "invalid key";
        /// A signature that does not verify.
        InvalidSignature => "crypto_invalid_signature", "invalid signature";
        /// A ciphertext that does not open; deliberately without a reason.
        Decryption => "crypto_decryption_failed", "decryption failed";
        /// More output or input than the primitive can handle.
        Length => "crypto_length", "length out of range";
    }
}

/// A SHA-256 hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Hashes the concatenation of `parts`.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = sha2::Sha256::new();
        for part in parts {
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// The hash as bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Encode for Digest {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, &self.0);
    }
}

impl Decode for Digest {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.bytes()?.try_into().map(Self).map_err(|_| Malformed)
    }
}
