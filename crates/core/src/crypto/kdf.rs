//! HKDF-SHA256 and the labelled derivations of RFC 9420 §8.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{CryptoError, Digest, Secret};
use crate::mls::codec::{put_bytes, put_varint};

const LABEL_PREFIX: &[u8] = b"MLS 1.0 ";

/// `KDF.Extract`.
pub fn extract(salt: &[u8], input: &[u8]) -> Secret {
    let (output, _) = Hkdf::<Sha256>::extract(Some(salt), input);
    Secret::from(<[u8; 32]>::from(output))
}

/// `KDF.Expand`.
///
/// # Errors
/// A secret shorter than a hash, or more output than HKDF gives.
pub fn expand(secret: &[u8], info: &[u8], len: usize) -> Result<Secret, CryptoError> {
    let hkdf = Hkdf::<Sha256>::from_prk(secret).map_err(|_| CryptoError::InvalidKey)?;
    let mut output = vec![0; len];
    hkdf.expand(info, &mut output).map_err(|_| CryptoError::Length)?;
    Ok(Secret::from(output))
}

/// `ExpandWithLabel` (§8).
///
/// # Errors
/// A secret shorter than a hash, or more output than HKDF gives.
pub fn expand_with_label(
    secret: &Secret,
    label: &str,
    context: &[u8],
    len: usize,
) -> Result<Secret, CryptoError> {
    let length = u16::try_from(len).map_err(|_| CryptoError::Length)?;
    let mut info = Vec::with_capacity(24 + label.len() + context.len());
    info.extend_from_slice(&length.to_be_bytes());
    put_label(&mut info, label);
    put_bytes(&mut info, context);
    expand(secret.expose(), &info, len)
}

/// `DeriveSecret` (§8).
///
/// # Errors
/// A secret shorter than a hash.
pub fn derive_secret(secret: &Secret, label: &str) -> Result<Secret, CryptoError> {
    expand_with_label(secret, label, &[], 32)
}

/// `DeriveTreeSecret` (§9.1).
///
/// # Errors
/// A secret shorter than a hash.
pub fn derive_tree_secret(
    secret: &Secret,
    label: &str,
    generation: u32,
    len: usize,
) -> Result<Secret, CryptoError> {
    expand_with_label(secret, label, &generation.to_be_bytes(), len)
}

/// `RefHash` (§5.2).
pub fn ref_hash(label: &str, value: &[u8]) -> Digest {
    let mut head = Vec::with_capacity(label.len() + 8);
    put_bytes(&mut head, label.as_bytes());
    put_varint(&mut head, value.len());
    Digest::of(&[&head, value])
}

/// The MAC of a suite: HMAC-SHA256.
pub fn mac(key: &Secret, message: &[&[u8]]) -> Digest {
    // HMAC takes keys of any length; the error branch cannot be reached and yields a useless tag.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.expose()) else {
        return Digest::default();
    };
    for part in message {
        mac.update(part);
    }
    Digest(mac.finalize().into_bytes().into())
}

/// Whether `tag` is the MAC of `message`, compared in constant time over its whole length.
#[must_use]
pub fn mac_matches(key: &Secret, message: &[&[u8]], tag: &[u8]) -> bool {
    let expected = Zeroizing::new(mac(key, message).0);
    expected.as_slice().ct_eq(tag).into()
}

pub(super) fn put_label(out: &mut Vec<u8>, label: &str) {
    put_varint(out, LABEL_PREFIX.len() + label.len());
    out.extend_from_slice(LABEL_PREFIX);
    out.extend_from_slice(label.as_bytes());
}
