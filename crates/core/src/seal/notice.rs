//! Notices: small letters in a device's inbox that say where its Welcome lies.

use rand_core::CryptoRng;

use super::SealError;
use super::envelope::Seed;
use crate::crypto::hpke::{HpkeCiphertext, HpkePrivateKey, HpkePublicKey, open_base, seal_base};
use crate::crypto::{Digest, Secret};
use crate::derive::Key32;
use crate::id::EntryId;
use crate::mls::codec::{Encode, Malformed, Reader};

const VERSION: u8 = 1;
const INFO: &[u8] = b"corncrake v1 notice";
const KIND_WELCOME: u8 = 1;
const HEAD_LENGTH: usize = 33;
const KEM_OUTPUT_LENGTH: usize = 32;

/// What a new leaf needs to find its Welcome.
///
/// ```text
/// struct {
///     uint8 version = 1;
///     opaque package[32];        /* KeyPackageRef, RFC 9420 §5.2 */
///     opaque kem_output[32];     /* HPKE base mode to the package's init key, RFC 9180 §6.1: */
///     opaque ciphertext[89];     /* info "corncrake v1 notice", aad version and package */
/// } SealedNotice;
///
/// struct {
///     uint8 kind = 1;
///     opaque seed[32];
///     uint64 position;
///     opaque entry[32];
/// } Notice;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The seed of the log.
    pub seed: Seed,
    /// The position of the commit that adds the leaf; its Welcome lies beside it.
    pub position: u64,
    /// The id of that entry.
    pub entry: EntryId,
}

impl Notice {
    /// Seals the notice to the init key of the key package with the reference `package`.
    ///
    /// # Errors
    /// [`SealError::Malformed`] if the key is no usable key.
    pub fn seal(
        &self,
        package: &Digest,
        init_key: &HpkePublicKey,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, SealError> {
        let Self { seed, position, entry } = self;
        let mut out = vec![VERSION];
        out.extend_from_slice(package.as_bytes());
        let mut inner = Vec::with_capacity(73);
        inner.push(KIND_WELCOME);
        seed.expose().encode(&mut inner);
        position.encode(&mut inner);
        entry.as_bytes().encode(&mut inner);
        let inner = Secret::from(inner);
        let sealed = seal_base(init_key, INFO, &out, inner.expose(), rng)
            .map_err(|_| SealError::Malformed)?;
        out.extend_from_slice(&sealed.kem_output);
        out.extend_from_slice(&sealed.ciphertext);
        Ok(out)
    }

    /// The reference of the key package whose private key opens the notice.
    ///
    /// # Errors
    /// [`SealError`] of form.
    pub fn package(sealed: &[u8]) -> Result<Digest, SealError> {
        let (head, _) = sealed.split_first_chunk::<HEAD_LENGTH>().ok_or(SealError::Malformed)?;
        let [version, package @ ..] = head;
        if *version == VERSION { Ok(Digest(*package)) } else { Err(SealError::UnsupportedVersion) }
    }

    /// Opens a notice with the private init key of its key package.
    ///
    /// # Errors
    /// [`SealError`] if it was sealed to another key, changed, or holds something else.
    pub fn open(sealed: &[u8], init_key: &HpkePrivateKey) -> Result<Self, SealError> {
        Self::package(sealed)?;
        let (head, rest) = sealed.split_at_checked(HEAD_LENGTH).ok_or(SealError::Malformed)?;
        let (kem_output, ciphertext) =
            rest.split_at_checked(KEM_OUTPUT_LENGTH).ok_or(SealError::Malformed)?;
        let sealed =
            HpkeCiphertext { kem_output: kem_output.to_vec(), ciphertext: ciphertext.to_vec() };
        let inner = open_base(init_key, INFO, head, &sealed).map_err(|_| SealError::Refused)?;
        Self::decode(inner.expose())
    }

    fn decode(inner: &[u8]) -> Result<Self, SealError> {
        let mut reader = Reader::new(inner);
        match reader.array().map_err(malformed)? {
            [KIND_WELCOME] => Self::read(reader).map_err(malformed),
            _ => Err(SealError::UnsupportedVersion),
        }
    }

    fn read(mut reader: Reader<'_>) -> Result<Self, Malformed> {
        let seed = Seed::from_key(Key32::from_bytes(reader.array()?));
        let position = u64::from_be_bytes(reader.array()?);
        let entry = EntryId::from_bytes(reader.array()?);
        reader.finish()?;
        Ok(Self { seed, position, entry })
    }
}

fn malformed(_: Malformed) -> SealError {
    SealError::Malformed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{assert_golden_hex, feed_garbage, rng, spoiled};

    fn notice() -> Notice {
        let seed = Seed::from_key(Key32::from_bytes([5; 32]));
        Notice { seed, position: 7, entry: EntryId::from_bytes([6; 32]) }
    }

    fn init_key(seed: u8) -> HpkePrivateKey {
        HpkePrivateKey::try_from_bytes(&[seed; 32]).unwrap()
    }

    fn sealed() -> Vec<u8> {
        notice().seal(&Digest([9; 32]), &init_key(1).public(), &mut rng(1)).unwrap()
    }

    #[test]
    fn notices_are_golden_and_all_of_one_length() {
        assert_golden_hex("notice.hex", &sealed());
        assert_eq!(sealed().len(), 154);
        assert_eq!(Notice::package(&sealed()), Ok(Digest([9; 32])));
        assert_eq!(Notice::open(&sealed(), &init_key(1)), Ok(notice()));
    }

    #[test]
    fn only_the_right_key_opens_it_unchanged() {
        assert_eq!(Notice::open(&sealed(), &init_key(2)), Err(SealError::Refused));
        for bad in spoiled(&sealed()) {
            assert!(Notice::open(&bad, &init_key(1)).is_err());
        }
        let mut renamed = sealed();
        renamed[1] ^= 1;
        assert_eq!(Notice::open(&renamed, &init_key(1)), Err(SealError::Refused));
    }

    #[test]
    fn what_is_sealed_but_no_notice_is_refused() {
        let head = [&[VERSION], [9; 32].as_slice()].concat();
        let wrap = |inner: &[u8]| {
            let sealed = seal_base(&init_key(1).public(), INFO, &head, inner, &mut rng(1)).unwrap();
            [head.clone(), sealed.kem_output, sealed.ciphertext].concat()
        };
        let open = |inner: &[u8]| Notice::open(&wrap(inner), &init_key(1)).unwrap_err();
        assert_eq!(open(&[]), SealError::Malformed);
        assert_eq!(open(&[2; 73]), SealError::UnsupportedVersion);
        assert_eq!(open(&[1; 72]), SealError::Malformed);
        assert_eq!(open(&[1; 74]), SealError::Malformed);
    }

    #[test]
    fn a_key_of_low_order_is_not_sealed_to() {
        let zero = HpkePublicKey::from_bytes(vec![0; 32]);
        let refused = notice().seal(&Digest([9; 32]), &zero, &mut rng(1));
        assert_eq!(refused, Err(SealError::Malformed));
    }

    #[test]
    fn garbage_is_refused() {
        let valid = sealed();
        feed_garbage(3_000, &valid, |bytes| {
            assert!(Notice::open(bytes, &init_key(1)).is_err() || bytes == valid);
        });
        feed_garbage(1_000_000, &[1; 73], |bytes| {
            assert_eq!(Notice::decode(bytes).is_ok(), bytes.len() == 73 && bytes[0] == 1);
        });
    }

    #[test]
    fn the_seed_is_not_printed() {
        let expected = "Notice { seed: Seed(Key32(..)), position: 7, entry: EntryId(06060606..) }";
        assert_eq!(format!("{:?}", notice()), expected);
    }
}
