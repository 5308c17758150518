//! Sealing outside MLS: envelopes, notices, the vault, account records, local values, padding.
//!
//! Every sealed format is a version byte, a random nonce of 24 bytes and an XChaCha20-Poly1305
//! ciphertext, whose associated data begins with the version byte and names the place that the
//! bytes belong to; so nothing sealed for one place opens in another.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Key, Tag, XChaCha20Poly1305, XNonce};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::derive::Key32;
use crate::encoding::EncodingError;
use crate::error::{ensure, errors};

pub mod envelope;
pub mod local;
pub mod notice;
pub mod padding;
pub mod record;
pub mod vault;

const VERSION_LENGTH: usize = 1;
const NONCE_LENGTH: usize = 24;
const TAG_LENGTH: usize = 16;

errors! {
    /// Sealed bytes that don't open.
    pub enum SealError {
        /// Wrong key, wrong place, or changed on the way; which one can't be told.
        Refused => "seal_refused", "sealed bytes do not open";
        /// Too short, or what lies inside isn't what its sealer should have put there.
        Malformed => "seal_malformed", "malformed sealed bytes";
        /// The version byte, or the kind of what lies inside, is of a later format.
        UnsupportedVersion => "seal_unsupported_version", "sealed in a format of a later version";
        /// More than the format's limit.
        TooLarge => "seal_too_large", "too large to seal";
    }
}

impl From<EncodingError> for SealError {
    fn from(error: EncodingError) -> Self {
        match error {
            EncodingError::Malformed => Self::Malformed,
            EncodingError::UnsupportedVersion => Self::UnsupportedVersion,
        }
    }
}

/// Seals `plaintext` as version ‖ nonce ‖ ciphertext ‖ tag; `place` joins the associated data.
fn seal(
    version: u8,
    key: &Key32,
    place: &[&[u8]],
    plaintext: &[u8],
    rng: &mut impl CryptoRng,
) -> Vec<u8> {
    let mut nonce = [0; NONCE_LENGTH];
    rng.fill_bytes(&mut nonce);
    let head = VERSION_LENGTH + NONCE_LENGTH;
    let mut sealed = Vec::with_capacity(head + plaintext.len() + TAG_LENGTH);
    sealed.push(version);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(plaintext);
    let body = sealed.get_mut(head..).unwrap_or_default();
    #[expect(clippy::expect_used, reason = "the cipher refuses only plaintexts above 256 GiB")]
    let tag = cipher(key)
        .encrypt_inout_detached(&XNonce::from(nonce), &associated(version, place), body.into())
        .expect("a plaintext that fits in memory");
    sealed.extend_from_slice(&tag);
    sealed
}

/// Opens what [`seal`] sealed for the same place.
fn open(
    version: u8,
    key: &Key32,
    place: &[&[u8]],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (first, rest) = sealed.split_first().ok_or(SealError::Malformed)?;
    ensure(*first == version, SealError::UnsupportedVersion)?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE_LENGTH>().ok_or(SealError::Malformed)?;
    let (body, tag) = rest.split_last_chunk::<TAG_LENGTH>().ok_or(SealError::Malformed)?;
    let mut plaintext = Zeroizing::new(body.to_vec());
    cipher(key)
        .decrypt_inout_detached(
            &XNonce::from(*nonce),
            &associated(version, place),
            plaintext.as_mut_slice().into(),
            &Tag::from(*tag),
        )
        .map_err(|_| SealError::Refused)?;
    Ok(plaintext)
}

fn cipher(key: &Key32) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(<&Key>::from(key.expose()))
}

/// The parts of a place have fixed lengths in each format, so they are simply put together.
fn associated(version: u8, place: &[&[u8]]) -> Vec<u8> {
    let mut data = vec![version];
    place.iter().for_each(|part| data.extend_from_slice(part));
    data
}
