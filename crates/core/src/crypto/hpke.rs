//! HPKE in base mode (RFC 9180) with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and ChaCha20-Poly1305,
//! and the labelled forms of RFC 9420 §5.1.3.

use core::fmt;

use curve25519_dalek::edwards::EdwardsPoint;
use rand_core::CryptoRng;
use x25519_dalek::{PublicKey, StaticSecret};

use super::{CryptoError, Secret, aead, kdf};
use crate::error::ensure;
use crate::id::write_short;
use crate::mls::codec::{
    Decode, Encode, Malformed, Reader, codec_newtype, codec_struct, put_bytes,
};

const KEM_SUITE: &[u8] = b"KEM\x00\x20";
const HPKE_SUITE: &[u8] = b"HPKE\x00\x20\x00\x01\x00\x03";
const VERSION: &[u8] = b"HPKE-v1";
const KEY_LEN: usize = 32;

/// The u-coordinates of low order on Curve25519: 0, 1, the two of order 8, p - 1, and p and p + 1,
/// the unreduced forms of 0 and 1.
const LOW_ORDER: [[u8; KEY_LEN]; 7] = [
    coordinate(0x00, 0x00, 0x00),
    coordinate(0x01, 0x00, 0x00),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
    coordinate(0xec, 0xff, 0x7f),
    coordinate(0xed, 0xff, 0x7f),
    coordinate(0xee, 0xff, 0x7f),
];

/// A little-endian number given by its first byte, its middle bytes and its last byte.
const fn coordinate(first: u8, middle: u8, last: u8) -> [u8; KEY_LEN] {
    let mut bytes = [middle; KEY_LEN];
    let (head, tail) = bytes.split_at_mut(1);
    if let (Some(head), Some(tail)) = (head.first_mut(), tail.last_mut()) {
        *head = first;
        *tail = last;
    }
    bytes
}

/// An HPKE public key as it stands on the wire.
///
/// Any bytes decode; [`HpkePublicKey::check`] says whether they are a key of our suites.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HpkePublicKey(Vec<u8>);

impl HpkePublicKey {
    /// Wraps bytes as received.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes as received.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Checks length and group element: a point of low order, whose every shared secret would be
    /// zero, is refused here and not only when somebody seals to it.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`].
    pub fn check(&self) -> Result<(), CryptoError> {
        let mut key = *self.parsed()?.as_bytes();
        // X25519 ignores the top bit.
        if let Some(last) = key.last_mut() {
            *last &= 0x7f;
        }
        if LOW_ORDER.contains(&key) { Err(CryptoError::InvalidKey) } else { Ok(()) }
    }

    fn parsed(&self) -> Result<PublicKey, CryptoError> {
        let bytes: [u8; KEY_LEN] =
            self.0.as_slice().try_into().map_err(|_| CryptoError::InvalidKey)?;
        Ok(PublicKey::from(bytes))
    }
}

impl fmt::Debug for HpkePublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_short(f, "HpkePublicKey", &self.0)
    }
}

codec_newtype!(HpkePublicKey);

/// An HPKE private key with its public key beside it.
#[derive(Clone)]
pub struct HpkePrivateKey {
    secret: StaticSecret,
    public: PublicKey,
}

impl HpkePrivateKey {
    /// Draws a new key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self::new(StaticSecret::random_from_rng(rng))
    }

    fn generate_all(count: usize, rng: &mut impl CryptoRng) -> Vec<Self> {
        Self::new_all((0..count).map(|_| StaticSecret::random_from_rng(rng)).collect())
    }

    /// Parses a private key.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] for a wrong length.
    pub fn try_from_bytes(bytes: &[u8]) -> Result<Self, CryptoError> {
        let bytes: [u8; KEY_LEN] = bytes.try_into().map_err(|_| CryptoError::InvalidKey)?;
        Ok(Self::new(StaticSecret::from(bytes)))
    }

    /// `DeriveKeyPair` (RFC 9180 §7.1.3).
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] for a secret that HKDF refuses.
    pub fn derive(secret: &Secret) -> Result<Self, CryptoError> {
        derive_secret_key(secret).map(Self::new)
    }

    /// [`derive`](Self::derive) for many secrets, cheaper than one by one.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] for a secret that HKDF refuses.
    pub fn derive_all(secrets: &[Secret]) -> Result<Vec<Self>, CryptoError> {
        let keys = secrets.iter().map(derive_secret_key);
        Ok(Self::new_all(keys.collect::<Result<_, CryptoError>>()?))
    }

    /// The public half.
    pub fn public(&self) -> HpkePublicKey {
        HpkePublicKey(self.public.as_bytes().to_vec())
    }

    /// The key's bytes, to be stored where secrets belong.
    pub fn expose(&self) -> Secret {
        Secret::from(self.secret.as_bytes().as_slice())
    }

    /// Whether `public` is the other half of this key.
    #[must_use]
    pub fn matches(&self, public: &HpkePublicKey) -> bool {
        self.public.as_bytes().as_slice() == public.as_bytes()
    }

    fn new(secret: StaticSecret) -> Self {
        Self { public: PublicKey::from(&secret), secret }
    }

    /// Computes all public halves with one inversion, a quarter of the work of each.
    fn new_all(secrets: Vec<StaticSecret>) -> Vec<Self> {
        let points = secrets.iter().map(|key| EdwardsPoint::mul_base_clamped(key.to_bytes()));
        let publics = EdwardsPoint::to_montgomery_batch(&points.collect::<Vec<_>>());
        let pairs = secrets.into_iter().zip(publics);
        pairs.map(|(secret, public)| Self { secret, public: public.to_bytes().into() }).collect()
    }
}

fn derive_secret_key(secret: &Secret) -> Result<StaticSecret, CryptoError> {
    let prk = labeled_extract(KEM_SUITE, &[], b"dkp_prk", secret.expose());
    let bytes = labeled_expand(KEM_SUITE, &prk, b"sk", &[], KEY_LEN)?;
    bytes.expose_array().copied().map(StaticSecret::from).ok_or(CryptoError::InvalidKey)
}

/// As it is stored, where secrets belong.
impl Encode for HpkePrivateKey {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.secret.as_bytes());
    }
}

impl Decode for HpkePrivateKey {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Self::try_from_bytes(reader.bytes()?).map_err(|_| Malformed)
    }
}

impl fmt::Debug for HpkePrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secret: _, public: _ } = self;
        f.debug_tuple("HpkePrivateKey").field(&self.public()).finish_non_exhaustive()
    }
}

/// A sealed secret with the key encapsulation that opens it (RFC 9420 §7.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HpkeCiphertext {
    /// The encapsulated key.
    pub kem_output: Vec<u8>,
    /// What was sealed under it.
    pub ciphertext: Vec<u8>,
}

codec_struct!(HpkeCiphertext { kem_output, ciphertext });

/// Single-shot `SealBase` (RFC 9180 §6.1).
///
/// # Errors
/// [`CryptoError::InvalidKey`] if `public` is no usable key.
pub fn seal_base(
    public: &HpkePublicKey,
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<HpkeCiphertext, CryptoError> {
    let schedule = schedule_context(info);
    let (kem_output, context) = Context::send(public, HpkePrivateKey::generate(rng), &schedule)?;
    context.seal(kem_output, aad, plaintext)
}

/// Single-shot `OpenBase` (RFC 9180 §6.1).
///
/// # Errors
/// [`CryptoError::Decryption`], whatever the reason.
pub fn open_base(
    private: &HpkePrivateKey,
    info: &[u8],
    aad: &[u8],
    sealed: &HpkeCiphertext,
) -> Result<Secret, CryptoError> {
    let schedule = schedule_context(info);
    let context = Context::receive(private, &sealed.kem_output, &schedule)
        .map_err(|_| CryptoError::Decryption)?;
    let plaintext = aead::open(&context.key()?, &context.nonce()?, aad, &sealed.ciphertext)?;
    Ok(Secret::from(plaintext.as_slice()))
}

/// `EncryptWithLabel` (RFC 9420 §5.1.3).
///
/// # Errors
/// [`CryptoError::InvalidKey`] if `public` is no usable key.
pub fn encrypt_with_label(
    public: &HpkePublicKey,
    label: &str,
    context: &[u8],
    plaintext: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<HpkeCiphertext, CryptoError> {
    seal_base(public, &encrypt_context(label, context), &[], plaintext, rng)
}

/// `EncryptWithLabel` of one secret for each key, cheaper than one by one.
///
/// # Errors
/// [`CryptoError::InvalidKey`] if a key is not usable.
pub fn encrypt_all_with_label(
    items: &[(&HpkePublicKey, &[u8])],
    label: &str,
    context: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<Vec<HpkeCiphertext>, CryptoError> {
    let schedule = schedule_context(&encrypt_context(label, context));
    let ephemerals = HpkePrivateKey::generate_all(items.len(), rng);
    let sealed = items.iter().zip(ephemerals).map(|((public, plaintext), ephemeral)| {
        let (kem_output, context) = Context::send(public, ephemeral, &schedule)?;
        context.seal(kem_output, &[], plaintext)
    });
    sealed.collect()
}

/// `DecryptWithLabel` (RFC 9420 §5.1.3).
///
/// # Errors
/// [`CryptoError::Decryption`], whatever the reason.
pub fn decrypt_with_label(
    private: &HpkePrivateKey,
    label: &str,
    context: &[u8],
    sealed: &HpkeCiphertext,
) -> Result<Secret, CryptoError> {
    open_base(private, &encrypt_context(label, context), &[], sealed)
}

/// The sender's half of external initialisation (RFC 9420 §8.3): the KEM output and the secret.
///
/// # Errors
/// [`CryptoError::InvalidKey`] if `public` is no usable key.
pub fn export_to(
    public: &HpkePublicKey,
    label: &[u8],
    len: usize,
    rng: &mut impl CryptoRng,
) -> Result<(Vec<u8>, Secret), CryptoError> {
    let schedule = schedule_context(&[]);
    let (kem_output, context) = Context::send(public, HpkePrivateKey::generate(rng), &schedule)?;
    Ok((kem_output, context.export(label, len)?))
}

/// The receiver's half of external initialisation (RFC 9420 §8.3).
///
/// # Errors
/// [`CryptoError::InvalidKey`] if `kem_output` is no usable key.
pub fn export_from(
    private: &HpkePrivateKey,
    kem_output: &[u8],
    label: &[u8],
    len: usize,
) -> Result<Secret, CryptoError> {
    Context::receive(private, kem_output, &schedule_context(&[]))?.export(label, len)
}

fn encrypt_context(label: &str, context: &[u8]) -> Vec<u8> {
    let mut info = Vec::with_capacity(24 + label.len() + context.len());
    kdf::put_label(&mut info, label);
    put_bytes(&mut info, context);
    info
}

/// `key_schedule_context` of base mode (RFC 9180 §5.1).
fn schedule_context(info: &[u8]) -> Vec<u8> {
    let psk_id_hash = labeled_extract(HPKE_SUITE, &[], b"psk_id_hash", &[]);
    let info_hash = labeled_extract(HPKE_SUITE, &[], b"info_hash", info);
    [&[0], psk_id_hash.expose(), info_hash.expose()].concat()
}

/// The key schedule of base mode (RFC 9180 §5.1): used for one message or one export.
struct Context<'a> {
    secret: Secret,
    schedule: &'a [u8],
}

impl<'a> Context<'a> {
    fn send(
        public: &HpkePublicKey,
        ephemeral: HpkePrivateKey,
        schedule: &'a [u8],
    ) -> Result<(Vec<u8>, Self), CryptoError> {
        let theirs = public.parsed()?;
        let shared = shared_secret(&ephemeral, &theirs, &ephemeral.public, &theirs)?;
        Ok((ephemeral.public.as_bytes().to_vec(), Self::new(&shared, schedule)))
    }

    fn receive(
        private: &HpkePrivateKey,
        kem_output: &[u8],
        schedule: &'a [u8],
    ) -> Result<Self, CryptoError> {
        let bytes: [u8; KEY_LEN] = kem_output.try_into().map_err(|_| CryptoError::InvalidKey)?;
        let theirs = PublicKey::from(bytes);
        let shared = shared_secret(private, &theirs, &theirs, &private.public)?;
        Ok(Self::new(&shared, schedule))
    }

    fn new(shared: &Secret, schedule: &'a [u8]) -> Self {
        Self { secret: labeled_extract(HPKE_SUITE, shared.expose(), b"secret", &[]), schedule }
    }

    fn seal(
        &self,
        kem_output: Vec<u8>,
        aad: &[u8],
        plaintext: &[u8],
    ) -> Result<HpkeCiphertext, CryptoError> {
        let ciphertext = aead::seal(&self.key()?, &self.nonce()?, aad, plaintext)?;
        Ok(HpkeCiphertext { kem_output, ciphertext })
    }

    fn key(&self) -> Result<Secret, CryptoError> {
        labeled_expand(HPKE_SUITE, &self.secret, b"key", self.schedule, aead::KEY_LEN)
    }

    fn nonce(&self) -> Result<[u8; aead::NONCE_LEN], CryptoError> {
        labeled_expand(HPKE_SUITE, &self.secret, b"base_nonce", self.schedule, aead::NONCE_LEN)?
            .expose_array()
            .copied()
            .ok_or(CryptoError::Length)
    }

    fn export(&self, label: &[u8], len: usize) -> Result<Secret, CryptoError> {
        let exporter = labeled_expand(HPKE_SUITE, &self.secret, b"exp", self.schedule, 32)?;
        labeled_expand(HPKE_SUITE, &exporter, b"sec", label, len)
    }
}

/// `ExtractAndExpand` over the shared point (RFC 9180 §4.1); an all-zero point is refused.
fn shared_secret(
    ours: &HpkePrivateKey,
    theirs: &PublicKey,
    kem_output: &PublicKey,
    receiver: &PublicKey,
) -> Result<Secret, CryptoError> {
    let point = ours.secret.diffie_hellman(theirs);
    ensure(point.was_contributory(), CryptoError::InvalidKey)?;
    let kem_context = [kem_output.as_bytes().as_slice(), receiver.as_bytes()].concat();
    let prk = labeled_extract(KEM_SUITE, &[], b"eae_prk", point.as_bytes());
    labeled_expand(KEM_SUITE, &prk, b"shared_secret", &kem_context, 32)
}

fn labeled_extract(suite: &[u8], salt: &[u8], label: &[u8], input: &[u8]) -> Secret {
    let input = Secret::from([VERSION, suite, label, input].concat());
    kdf::extract(salt, input.expose())
}

fn labeled_expand(
    suite: &[u8],
    prk: &Secret,
    label: &[u8],
    info: &[u8],
    len: usize,
) -> Result<Secret, CryptoError> {
    let length = u16::try_from(len).map_err(|_| CryptoError::Length)?.to_be_bytes();
    kdf::expand(prk.expose(), &[&length, VERSION, suite, label, info].concat(), len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::rng;

    #[test]
    fn keys_of_low_order_are_refused_before_anything_is_sealed_to_them() {
        let private = HpkePrivateKey::generate(&mut rng(1));
        for low_order in LOW_ORDER {
            for top_bit in [0, 0x80] {
                let mut bytes = low_order.to_vec();
                bytes[31] |= top_bit;
                let key = HpkePublicKey::from_bytes(bytes.clone());
                assert_eq!(key.check(), Err(CryptoError::InvalidKey));
                let sealed = seal_base(&key, b"", b"", b"secret", &mut rng(2));
                assert_eq!(sealed, Err(CryptoError::InvalidKey));
                let sealed = HpkeCiphertext { kem_output: bytes, ciphertext: vec![0; 32] };
                let opened = open_base(&private, b"", b"", &sealed);
                assert_eq!(opened, Err(CryptoError::Decryption));
            }
        }
        assert_eq!(private.public().check(), Ok(()));
        for len in [0, 31, 33] {
            let key = HpkePublicKey::from_bytes(vec![9; len]);
            assert_eq!(key.check(), Err(CryptoError::InvalidKey));
        }
    }

    #[test]
    fn whatever_is_changed_does_not_open() {
        let private = HpkePrivateKey::generate(&mut rng(3));
        let sealed = seal_base(&private.public(), b"info", b"aad", b"secret", &mut rng(4)).unwrap();
        let open = |info: &[u8], aad: &[u8], sealed: &HpkeCiphertext| {
            open_base(&private, info, aad, sealed)
        };
        assert_eq!(open(b"info", b"aad", &sealed), Ok(Secret::from(b"secret".as_slice())));
        assert_eq!(open(b"other", b"aad", &sealed), Err(CryptoError::Decryption));
        assert_eq!(open(b"info", b"other", &sealed), Err(CryptoError::Decryption));
        for at in 0..sealed.kem_output.len() {
            let mut changed = sealed.clone();
            changed.kem_output[at] ^= 1;
            assert_eq!(open(b"info", b"aad", &changed), Err(CryptoError::Decryption));
        }
        for at in 0..sealed.ciphertext.len() {
            let mut changed = sealed.clone();
            changed.ciphertext[at] ^= 1;
            assert_eq!(open(b"info", b"aad", &changed), Err(CryptoError::Decryption));
        }
    }

    #[test]
    fn keys_made_together_are_those_made_one_by_one() {
        let secrets: Vec<_> = (0..5).map(|n| Secret::from([n; 32])).collect();
        let together = HpkePrivateKey::derive_all(&secrets).unwrap();
        assert_eq!(together.len(), secrets.len());
        for (secret, key) in secrets.iter().zip(&together) {
            let alone = HpkePrivateKey::derive(secret).unwrap();
            assert_eq!(key.expose(), alone.expose());
            assert!(key.matches(&alone.public()));
        }
        let items: Vec<_> = together.iter().map(HpkePrivateKey::public).collect();
        let items: Vec<_> = items.iter().map(|key| (key, b"secret".as_slice())).collect();
        let sealed = encrypt_all_with_label(&items, "label", b"context", &mut rng(7)).unwrap();
        assert_eq!(sealed.len(), together.len());
        let mut one_by_one = rng(7);
        for ((key, plain), sealed) in items.iter().zip(&sealed) {
            let alone = encrypt_with_label(key, "label", b"context", plain, &mut one_by_one);
            assert_eq!(alone.as_ref(), Ok(sealed));
        }
    }

    #[test]
    fn both_ends_of_an_export_agree() {
        let private = HpkePrivateKey::generate(&mut rng(5));
        let (kem_output, ours) = export_to(&private.public(), b"label", 32, &mut rng(6)).unwrap();
        assert_eq!(export_from(&private, &kem_output, b"label", 32), Ok(ours.clone()));
        assert_ne!(export_from(&private, &kem_output, b"other", 32), Ok(ours));
    }

    #[test]
    fn debug_shows_no_private_key() {
        let key = HpkePrivateKey::try_from_bytes(&[7; 32]).unwrap();
        assert_eq!(format!("{key:?}"), "HpkePrivateKey(HpkePublicKey(13be4fea..), ..)");
    }
}
