//! ChaCha20-Poly1305 as RFC 9420 uses it.

use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use zeroize::Zeroizing;

use super::{CryptoError, Secret};

/// Bytes in a key (`AEAD.Nk`).
pub const KEY_LEN: usize = 32;
/// Bytes in a nonce (`AEAD.Nn`).
pub const NONCE_LEN: usize = 12;

/// Seals `plaintext`.
///
/// # Errors
/// A key of the wrong length, or a plaintext too long for the cipher.
pub fn seal(
    key: &Secret,
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    let cipher =
        ChaCha20Poly1305::new_from_slice(key.expose()).map_err(|_| CryptoError::InvalidKey)?;
    cipher
        .encrypt(&(*nonce).into(), Payload { msg: plaintext, aad })
        .map_err(|_| CryptoError::Length)
}

/// Opens `ciphertext`.
///
/// # Errors
/// A key of the wrong length, or a ciphertext that was not sealed like this.
pub fn open(
    key: &Secret,
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    let cipher =
        ChaCha20Poly1305::new_from_slice(key.expose()).map_err(|_| CryptoError::InvalidKey)?;
    cipher
        .decrypt(&(*nonce).into(), Payload { msg: ciphertext, aad })
        .map(Zeroizing::new)
        .map_err(|_| CryptoError::Decryption)
}
