//! Ed25519 signatures by the rules of ZIP 215, and the labelled form of RFC 9420 §5.1.2.
//!
//! A signature (R, s) of key A counts if s is reduced, A and R decompress, and
//! `[8](sB - R - kA) = 0`. The factor 8 is what lets a batch agree with its members: a random sum of
//! equations that each hold times 8 holds times 8, and if one fails, the sum fails but for a chance
//! of 2^-128. The usual rules without the factor have no such agreement, and members who verify a
//! leaf alone and members who verify it in a batch could then disagree on a tree.

use core::fmt;
use std::sync::OnceLock;

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};
use ed25519_dalek::{Signer, SigningKey};
use rand_core::CryptoRng;
use sha2::{Digest, Sha512};

use super::kdf::put_label;
use super::{CryptoError, Secret};
use crate::error::ensure;
use crate::id::write_short;
use crate::mls::codec::{Decode, Encode, Malformed, Reader, put_bytes};

/// A private signature key.
#[derive(Clone)]
pub struct SignatureKey(SigningKey);

impl SignatureKey {
    /// Draws a new key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(SigningKey::generate(rng))
    }

    /// Parses a 32-byte seed.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] for a wrong length.
    pub fn try_from_seed(seed: &[u8]) -> Result<Self, CryptoError> {
        let seed = seed.try_into().map_err(|_| CryptoError::InvalidKey)?;
        Ok(Self(SigningKey::from_bytes(seed)))
    }

    /// The seed, to be stored where secrets belong.
    pub fn expose_seed(&self) -> Secret {
        Secret::from(self.0.as_bytes().as_slice())
    }

    /// The public half.
    pub fn public(&self) -> SignaturePublicKey {
        SignaturePublicKey { bytes: self.0.verifying_key().to_bytes(), point: OnceLock::new() }
    }

    /// `SignWithLabel` (§5.1.2).
    pub fn sign_with_label(&self, label: &str, content: &[u8]) -> Vec<u8> {
        self.0.sign(&sign_content(label, content)).to_bytes().to_vec()
    }
}

impl fmt::Debug for SignatureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SignatureKey").field(&self.public()).finish_non_exhaustive()
    }
}

/// A public signature key; its point is computed at first use and kept.
#[derive(Clone)]
pub struct SignaturePublicKey {
    bytes: [u8; 32],
    point: OnceLock<Option<EdwardsPoint>>,
}

impl SignaturePublicKey {
    /// Wraps 32 bytes as received.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self { bytes, point: OnceLock::new() }
    }

    /// The bytes as received.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Checks that the key is a point.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`].
    pub fn check(&self) -> Result<(), CryptoError> {
        self.point().map(drop)
    }

    /// `VerifyWithLabel` (§5.1.2).
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] or [`CryptoError::InvalidSignature`].
    pub fn verify_with_label(
        &self,
        label: &str,
        content: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        let parts = Parts::new(self, label, content, signature)?;
        let r = parts.r.decompress().ok_or(CryptoError::InvalidSignature)?;
        let expected =
            EdwardsPoint::vartime_double_scalar_mul_basepoint(&-parts.k, &parts.a, &parts.s);
        is_torsion(expected - r)
    }

    fn point(&self) -> Result<EdwardsPoint, CryptoError> {
        self.point
            .get_or_init(|| CompressedEdwardsY(self.bytes).decompress())
            .ok_or(CryptoError::InvalidKey)
    }
}

impl PartialEq for SignaturePublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for SignaturePublicKey {}

impl fmt::Debug for SignaturePublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_short(f, "SignaturePublicKey", &self.bytes)
    }
}

impl Encode for SignaturePublicKey {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, &self.bytes);
    }
}

impl Decode for SignaturePublicKey {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let bytes = reader.bytes()?.try_into().map_err(|_| Malformed)?;
        Ok(Self::from_bytes(bytes))
    }
}

/// One signature of a batch.
#[derive(Clone, Debug)]
pub struct Signed<'a> {
    /// Whose signature it is said to be.
    pub key: &'a SignaturePublicKey,
    /// The label it was made under.
    pub label: &'static str,
    /// The signed bytes.
    pub content: Vec<u8>,
    /// The signature.
    pub signature: &'a [u8],
}

impl Signed<'_> {
    /// Verifies the signature by itself.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] or [`CryptoError::InvalidSignature`].
    pub fn verify(&self) -> Result<(), CryptoError> {
        self.key.verify_with_label(self.label, &self.content, self.signature)
    }
}

/// Verifies many signatures at once, about three times as fast as one by one.
///
/// # Errors
/// Why the first signature that does not verify does not.
pub fn verify_batch(batch: &[Signed<'_>]) -> Result<(), CryptoError> {
    if batch.len() > 1 && batch_holds(batch) {
        return Ok(());
    }
    batch.iter().try_for_each(Signed::verify)
}

/// The decomposed equation of one signature.
struct Parts {
    a: EdwardsPoint,
    r: CompressedEdwardsY,
    s: Scalar,
    k: Scalar,
    k_hash: [u8; 64],
}

impl Parts {
    fn new(
        key: &SignaturePublicKey,
        label: &str,
        content: &[u8],
        signature: &[u8],
    ) -> Result<Self, CryptoError> {
        let a = key.point()?;
        let (r, s) = signature.split_first_chunk::<32>().ok_or(CryptoError::InvalidSignature)?;
        let s: [u8; 32] = s.try_into().map_err(|_| CryptoError::InvalidSignature)?;
        let s =
            Option::from(Scalar::from_canonical_bytes(s)).ok_or(CryptoError::InvalidSignature)?;
        let k_hash: [u8; 64] = Sha512::new()
            .chain_update(r)
            .chain_update(key.bytes)
            .chain_update(sign_content(label, content))
            .finalize()
            .into();
        let k = Scalar::from_bytes_mod_order_wide(&k_hash);
        Ok(Self { a, r: CompressedEdwardsY(*r), s, k, k_hash })
    }
}

/// Whether `[8](Σ z(sB - R - kA)) = 0` for coefficients z that are a hash of the whole batch.
fn batch_holds(batch: &[Signed<'_>]) -> bool {
    let parts: Result<Vec<Parts>, _> = batch
        .iter()
        .map(|item| Parts::new(item.key, item.label, &item.content, item.signature))
        .collect();
    let Ok(parts) = parts else { return false };
    // k binds R, A and the content; s is the rest.
    let mut seed = Sha512::new();
    for part in &parts {
        seed.update(part.k_hash);
        seed.update(part.s.as_bytes());
    }
    let seed = seed.finalize();
    let coefficients: Vec<Scalar> = (0..parts.len() as u64)
        .map(|index| {
            let hash: [u8; 64] = Sha512::new()
                .chain_update(seed)
                .chain_update(index.to_be_bytes())
                .finalize()
                .into();
            let z = hash.first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes));
            Scalar::from(z)
        })
        .collect();
    let base: Scalar = parts.iter().zip(&coefficients).map(|(part, z)| part.s * z).sum();
    let scalars = core::iter::once(-base)
        .chain(coefficients.iter().copied())
        .chain(parts.iter().zip(&coefficients).map(|(part, z)| part.k * z));
    let points = core::iter::once(Some(ED25519_BASEPOINT_POINT))
        .chain(parts.iter().map(|part| part.r.decompress()))
        .chain(parts.iter().map(|part| Some(part.a)));
    EdwardsPoint::optional_multiscalar_mul(scalars, points)
        .is_some_and(|sum| is_torsion(sum).is_ok())
}

fn is_torsion(point: EdwardsPoint) -> Result<(), CryptoError> {
    ensure(point.mul_by_cofactor().is_identity(), CryptoError::InvalidSignature)
}

fn sign_content(label: &str, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + label.len() + content.len());
    put_label(&mut out, label);
    put_bytes(&mut out, content);
    out
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::EIGHT_TORSION;
    use proptest::prelude::*;

    use super::*;
    use crate::golden::rng;

    /// A signature whose R and A carry a point of low order, which only the factor 8 forgives.
    fn with_torsion(
        content: &[u8],
        r_torsion: usize,
        a_torsion: usize,
    ) -> (SignaturePublicKey, Vec<u8>) {
        let secret = Scalar::from(1_234_567_u64);
        let a = ED25519_BASEPOINT_POINT * secret + EIGHT_TORSION[a_torsion];
        let key = SignaturePublicKey::from_bytes(a.compress().0);
        let nonce = Scalar::from(7_654_321_u64);
        let r = (ED25519_BASEPOINT_POINT * nonce + EIGHT_TORSION[r_torsion]).compress();
        let hash: [u8; 64] = Sha512::new()
            .chain_update(r.0)
            .chain_update(key.bytes)
            .chain_update(sign_content("label", content))
            .finalize()
            .into();
        let s = nonce + Scalar::from_bytes_mod_order_wide(&hash) * secret;
        (key, [r.0, s.to_bytes()].concat())
    }

    fn in_batch(
        key: &SignaturePublicKey,
        content: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        let good = SignatureKey::generate(&mut rng(1));
        let good_key = good.public();
        let good_signature = good.sign_with_label("label", b"good");
        let item = |key, content: &[u8], signature| Signed {
            key,
            label: "label",
            content: content.to_vec(),
            signature,
        };
        verify_batch(&[
            item(&good_key, b"good", &good_signature),
            item(key, content, signature),
            item(&good_key, b"good", &good_signature),
        ])
    }

    #[test]
    fn points_of_low_order_are_no_reason_to_disagree() {
        for r_torsion in 0..8 {
            for a_torsion in 0..8 {
                let (key, signature) = with_torsion(b"content", r_torsion, a_torsion);
                assert_eq!(key.verify_with_label("label", b"content", &signature), Ok(()));
                assert_eq!(in_batch(&key, b"content", &signature), Ok(()));
            }
        }
    }

    #[test]
    fn one_bad_signature_spoils_a_batch() {
        let key = SignatureKey::generate(&mut rng(2));
        let signature = key.sign_with_label("label", b"content");
        let refused = in_batch(&key.public(), b"other", &signature);
        assert_eq!(refused, Err(CryptoError::InvalidSignature));
        let refused = in_batch(&key.public(), b"content", &signature[..63]);
        assert_eq!(refused, Err(CryptoError::InvalidSignature));
        assert_eq!(verify_batch(&[]), Ok(()));
    }

    #[test]
    fn only_reduced_scalars_and_real_points_count() {
        // The group's order, little-endian.
        let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
            .unwrap();
        let key = SignatureKey::generate(&mut rng(3));
        let mut signature = key.sign_with_label("label", b"content");
        let mut carry = 0_u16;
        for (byte, add) in signature[32..].iter_mut().zip(order) {
            carry += u16::from(*byte) + u16::from(add);
            *byte = carry.to_le_bytes()[0];
            carry >>= 8;
        }
        let refused = key.public().verify_with_label("label", b"content", &signature);
        assert_eq!(refused, Err(CryptoError::InvalidSignature));
        let no_point = SignaturePublicKey::from_bytes([2; 32]);
        assert_eq!(no_point.check(), Err(CryptoError::InvalidKey));
    }

    #[test]
    fn debug_shows_no_seed() {
        let key = SignatureKey::try_from_seed(&[7; 32]).unwrap();
        assert_eq!(format!("{key:?}"), "SignatureKey(SignaturePublicKey(ea4a6c63..), ..)");
    }

    proptest! {
        #[test]
        fn single_and_batch_agree(at in 0_usize..64, bits: u8, content: Vec<u8>) {
            let key = SignatureKey::generate(&mut rng(4));
            let mut signature = key.sign_with_label("label", &content);
            signature[at] ^= bits;
            let single = key.public().verify_with_label("label", &content, &signature);
            let batch = in_batch(&key.public(), &content, &signature);
            prop_assert_eq!(single.is_ok(), bits == 0);
            prop_assert_eq!(single, batch);
        }
    }
}
