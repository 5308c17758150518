//! Notices: small letters in a device's inbox that say where its Welcome lies, or bring the fresh
//! keys of its account.

use rand_core::CryptoRng;

use super::SealError;
use super::envelope::Seed;
use super::padding::{pad, unpad};
use super::record::StorageKey;
use crate::crypto::hpke::{HpkeCiphertext, HpkePrivateKey, HpkePublicKey, open_base, seal_base};
use crate::crypto::signature::SignatureKey;
use crate::crypto::{Digest, Secret};
use crate::derive::Key32;
use crate::id::{AccountId, EntryId};
use crate::identity::Certificate;
use crate::mls::codec::{Encode, Malformed, Reader, put_bytes};

const VERSION: u8 = 1;
const INFO: &[u8] = b"corncrake v1 notice";
const LABEL: &str = "corncrake notice";
const KIND_WELCOME: u8 = 1;
const KIND_KEYS: u8 = 2;
const HEAD_LENGTH: usize = 33;
const KEM_OUTPUT_LENGTH: usize = 32;
/// Kind, seed, position, entry and running hash.
const FIELDS_LENGTH: usize = 106;
/// Kind, storage key, contact key and version of the record.
const KEYS_LENGTH: usize = 73;
const SIGNATURE_LENGTH: usize = 64;

/// What a new leaf needs to find its Welcome.
///
/// ```text
/// struct {
///     uint8 version = 1;
///     opaque package[32];        /* KeyPackageRef, RFC 9420 §5.2 */
///     opaque kem_output[32];     /* HPKE base mode to the package's init key, RFC 9180 §6.1: */
///     opaque ciphertext[rest];   /* info "corncrake v1 notice", aad version and package; */
/// } SealedNotice;                /* of the padded notice */
///
/// struct {
///     uint8 kind = 1;
///     opaque seed[32];
///     uint64 position;
///     opaque entry[32];
///     uint8 is_known;            /* whether the running hash is */
///     opaque running[32];        /* zeros if not */
///     opaque certificate<V>;     /* of the device that sends the notice */
///     opaque signature[64];      /* SignWithLabel(its key, "corncrake notice", */
/// } Notice;                      /*               package and the first six fields) */
/// ```
///
/// The signature tells the reader whose invitation it is before anything is fetched, so that those
/// of people that it talks to come first; whether the invitation is true only the log tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The seed of the log.
    pub seed: Seed,
    /// The position of the commit that adds the leaf; its Welcome lies beside it.
    pub position: u64,
    /// The id of that entry.
    pub entry: EntryId,
    /// The running hash of the log up to that entry, if its sender knew it.
    pub running: Option<[u8; 32]>,
}

impl Notice {
    /// Seals the notice to a key package, given its reference and its init key, in the name of the
    /// device with this key and certificate.
    ///
    /// # Errors
    /// [`SealError::Malformed`] if the key is no usable key.
    pub fn seal(
        &self,
        to: (&Digest, &HpkePublicKey),
        sender: (&SignatureKey, &[u8]),
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, SealError> {
        let Self { seed, position, entry, running } = self;
        let mut fields = Vec::with_capacity(FIELDS_LENGTH);
        fields.push(KIND_WELCOME);
        seed.expose().encode(&mut fields);
        position.encode(&mut fields);
        entry.as_bytes().encode(&mut fields);
        fields.push(u8::from(running.is_some()));
        running.unwrap_or_default().encode(&mut fields);
        seal_fields(&Secret::from(fields), to, sender, rng)
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

    /// Opens a notice with the private init key of its key package, and gives the account of the
    /// device that signed it.
    ///
    /// # Errors
    /// [`SealError`] if it was sealed to another key, changed, holds something else, or is not
    /// signed by the device that it names.
    pub fn open(sealed: &[u8], init_key: &HpkePrivateKey) -> Result<(Self, AccountId), SealError> {
        match open(sealed, init_key)? {
            (Letter::Welcome(notice), sender) => Ok((notice, sender.account())),
            (Letter::Keys(_), _) => Err(SealError::UnsupportedVersion),
        }
    }
}

/// The fresh keys of an account, for another of its devices.
///
/// ```text
/// struct {
///     uint8 kind = 2;
///     opaque storage_key[32];
///     opaque contact_key[32];    /* the secret one */
///     uint64 list_version;       /* of the account record that names its public half */
///     opaque certificate<V>;     /* as in a Notice; the signature is over the package */
///     opaque signature[64];      /* and the first four fields */
/// } KeysNotice;
/// ```
///
/// Whoever reads it takes the keys if the newest record of its account names the device that signed
/// them, and a contact key that is this one's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysNotice {
    /// Opens the account log.
    pub storage_key: StorageKey,
    /// Agrees on the seeds of 1:1 chats.
    pub contact_key: Key32,
    /// The version of the account record by which the sender has them.
    pub list_version: u64,
}

impl KeysNotice {
    /// Seals the keys to a key package, as [`Notice::seal`] does an invitation.
    ///
    /// # Errors
    /// [`SealError::Malformed`] if the key is no usable key.
    pub fn seal(
        &self,
        to: (&Digest, &HpkePublicKey),
        sender: (&SignatureKey, &[u8]),
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, SealError> {
        let Self { storage_key, contact_key, list_version } = self;
        let mut fields = Vec::with_capacity(KEYS_LENGTH);
        fields.push(KIND_KEYS);
        storage_key.expose().encode(&mut fields);
        contact_key.expose().encode(&mut fields);
        list_version.encode(&mut fields);
        seal_fields(&Secret::from(fields), to, sender, rng)
    }
}

/// What a notice may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Letter {
    /// Where a Welcome lies.
    Welcome(Notice),
    /// The account's fresh keys.
    Keys(KeysNotice),
}

/// Opens a notice of either kind, and gives the certificate of the device that signed it.
///
/// # Errors
/// As [`Notice::open`].
pub fn open(sealed: &[u8], init_key: &HpkePrivateKey) -> Result<(Letter, Certificate), SealError> {
    let package = Notice::package(sealed)?;
    let (head, rest) = sealed.split_at_checked(HEAD_LENGTH).ok_or(SealError::Malformed)?;
    let (kem_output, ciphertext) =
        rest.split_at_checked(KEM_OUTPUT_LENGTH).ok_or(SealError::Malformed)?;
    let sealed =
        HpkeCiphertext { kem_output: kem_output.to_vec(), ciphertext: ciphertext.to_vec() };
    let inner = open_base(init_key, INFO, head, &sealed).map_err(|_| SealError::Refused)?;
    let inner = unpad(inner.expose())?;
    let Parts { letter, certificate, signature } = Parts::decode(&inner)?;
    let length = match letter {
        Letter::Welcome(_) => FIELDS_LENGTH,
        Letter::Keys(_) => KEYS_LENGTH,
    };
    let fields = inner.get(..length).ok_or(SealError::Malformed)?;
    let signed = Secret::from([package.as_bytes(), fields].concat());
    let certificate = Certificate::parse_and_verify(certificate).map_err(|_| SealError::Refused)?;
    certificate
        .device_key()
        .verify_with_label(LABEL, signed.expose(), signature)
        .map_err(|_| SealError::Refused)?;
    Ok((letter, certificate))
}

/// Signs and seals what a notice says.
fn seal_fields(
    fields: &Secret,
    (package, init_key): (&Digest, &HpkePublicKey),
    (device_key, certificate): (&SignatureKey, &[u8]),
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, SealError> {
    let mut out = vec![VERSION];
    out.extend_from_slice(package.as_bytes());
    let signed = Secret::from([package.as_bytes(), fields.expose()].concat());
    let signature = device_key.sign_with_label(LABEL, signed.expose());
    let mut inner = Vec::with_capacity(FIELDS_LENGTH + certificate.len() + 128);
    inner.extend_from_slice(fields.expose());
    put_bytes(&mut inner, certificate);
    inner.extend_from_slice(&signature);
    let inner = pad(Secret::from(inner).expose())?;
    let sealed = seal_base(init_key, INFO, &out, &inner, rng).map_err(|_| SealError::Malformed)?;
    out.extend_from_slice(&sealed.kem_output);
    out.extend_from_slice(&sealed.ciphertext);
    Ok(out)
}

/// What a sealed notice holds.
struct Parts<'a> {
    letter: Letter,
    certificate: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Parts<'a> {
    fn decode(inner: &'a [u8]) -> Result<Self, SealError> {
        let mut reader = Reader::new(inner);
        match reader.array().map_err(malformed)? {
            [KIND_WELCOME] => Self::read(reader, read_welcome).map_err(malformed),
            [KIND_KEYS] => Self::read(reader, read_keys).map_err(malformed),
            _ => Err(SealError::UnsupportedVersion),
        }
    }

    fn read(
        mut reader: Reader<'a>,
        letter: impl FnOnce(&mut Reader<'a>) -> Result<Letter, Malformed>,
    ) -> Result<Self, Malformed> {
        let letter = letter(&mut reader)?;
        let certificate = reader.bytes()?;
        let signature = reader.take(SIGNATURE_LENGTH)?;
        reader.finish()?;
        Ok(Self { letter, certificate, signature })
    }
}

fn read_welcome(reader: &mut Reader<'_>) -> Result<Letter, Malformed> {
    let seed = Seed::from_key(Key32::from_bytes(reader.array()?));
    let position = u64::from_be_bytes(reader.array()?);
    let entry = EntryId::from_bytes(reader.array()?);
    let [is_known] = reader.array()?;
    let running: [u8; 32] = reader.array()?;
    let running = match is_known {
        0 if running == [0; 32] => None,
        1 => Some(running),
        _ => return Err(Malformed),
    };
    Ok(Letter::Welcome(Notice { seed, position, entry, running }))
}

fn read_keys(reader: &mut Reader<'_>) -> Result<Letter, Malformed> {
    let storage_key = StorageKey::from_key(Key32::from_bytes(reader.array()?));
    let contact_key = Key32::from_bytes(reader.array()?);
    let list_version = u64::from_be_bytes(reader.array()?);
    Ok(Letter::Keys(KeysNotice { storage_key, contact_key, list_version }))
}

fn malformed(_: Malformed) -> SealError {
    SealError::Malformed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{assert_golden_hex, feed_garbage, rng, spoiled};
    use crate::identity::{DeviceClass, IdentityKey, KeyChain};

    fn notice() -> Notice {
        let seed = Seed::from_key(Key32::from_bytes([5; 32]));
        let (entry, running) = (EntryId::from_bytes([6; 32]), Some([4; 32]));
        Notice { seed, position: 7, entry, running }
    }

    fn init_key(seed: u8) -> HpkePrivateKey {
        HpkePrivateKey::try_from_bytes(&[seed; 32]).unwrap()
    }

    fn inviter() -> (AccountId, SignatureKey, Vec<u8>) {
        let mut rng = rng(7);
        let (identity, key) = (IdentityKey::generate(&mut rng), SignatureKey::generate(&mut rng));
        let chain = KeyChain::begin(&identity);
        let class = DeviceClass::Person;
        let certificate = Certificate::issue(&identity, &chain, &key.public(), 1, &class).unwrap();
        (chain.account_id(), key, certificate)
    }

    fn sealed_by(key: &SignatureKey, certificate: &[u8]) -> Vec<u8> {
        let to = (&Digest([9; 32]), &init_key(1).public());
        notice().seal(to, (key, certificate), &mut rng(1)).unwrap()
    }

    fn sealed() -> Vec<u8> {
        let (_, key, certificate) = inviter();
        sealed_by(&key, &certificate)
    }

    /// Seals anything.
    fn wrap(inner: &[u8]) -> Vec<u8> {
        let head = [&[VERSION], [9; 32].as_slice()].concat();
        let sealed = seal_base(&init_key(1).public(), INFO, &head, inner, &mut rng(1)).unwrap();
        [head, sealed.kem_output, sealed.ciphertext].concat()
    }

    #[test]
    fn notices_are_golden_and_of_one_length() {
        assert_golden_hex("notice.hex", &sealed());
        assert_eq!(sealed().len(), 401);
        assert_eq!(Notice::package(&sealed()), Ok(Digest([9; 32])));
        assert_eq!(Notice::open(&sealed(), &init_key(1)), Ok((notice(), inviter().0)));
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
    fn fresh_keys_are_golden_and_no_invitation() {
        let keys = KeysNotice {
            storage_key: StorageKey::from_key(Key32::from_bytes([5; 32])),
            contact_key: Key32::from_bytes([6; 32]),
            list_version: 7,
        };
        let (account, key, certificate) = inviter();
        let to = (&Digest([9; 32]), &init_key(1).public());
        let sealed = keys.seal(to, (&key, &certificate), &mut rng(1)).unwrap();
        assert_golden_hex("notice_keys.hex", &sealed);
        let (letter, sender) = open(&sealed, &init_key(1)).unwrap();
        assert_eq!((letter, sender.account()), (Letter::Keys(keys.clone()), account));
        assert_eq!(Notice::open(&sealed, &init_key(1)), Err(SealError::UnsupportedVersion));
        for bad in spoiled(&sealed) {
            assert!(open(&bad, &init_key(1)).is_err());
        }
        // Nobody sends keys in the name of another, nor sends them on to another package.
        let other = SignatureKey::generate(&mut rng(8));
        let forged = keys.seal(to, (&other, &certificate), &mut rng(1)).unwrap();
        assert_eq!(open(&forged, &init_key(1)).unwrap_err(), SealError::Refused);
        assert!(!format!("{keys:?}").contains("5, 5"));
    }

    #[test]
    fn nobody_invites_in_the_name_of_another() {
        let (_, key, certificate) = inviter();
        let other = SignatureKey::generate(&mut rng(8));
        let open = |sealed: &[u8]| Notice::open(sealed, &init_key(1));
        assert_eq!(open(&sealed_by(&other, &certificate)), Err(SealError::Refused));
        let mut forged = certificate.clone();
        forged[60] ^= 1;
        assert_eq!(open(&sealed_by(&key, &forged)), Err(SealError::Refused));
        // A true notice says nothing about another package.
        let to = (&Digest([8; 32]), &init_key(1).public());
        let elsewhere = notice().seal(to, (&key, &certificate), &mut rng(1)).unwrap();
        let body = Notice::package(&elsewhere).unwrap();
        assert_eq!(body, Digest([8; 32]));
        let inner = [[KIND_WELCOME].as_slice(), &[5; 32], &7u64.to_be_bytes(), &[6; 32]].concat();
        let inner = [inner.as_slice(), &[1], &[4; 32]].concat();
        let signature = key.sign_with_label(LABEL, &[[8; 32].as_slice(), &inner].concat());
        let mut inner = inner;
        put_bytes(&mut inner, &certificate);
        inner.extend_from_slice(&signature);
        assert_eq!(open(&wrap(&pad(&inner).unwrap())), Err(SealError::Refused));
    }

    #[test]
    fn what_is_sealed_but_no_notice_is_refused() {
        let open = |inner: &[u8]| Notice::open(&wrap(inner), &init_key(1)).unwrap_err();
        let padded = |inner: &[u8]| open(&pad(inner).unwrap());
        assert_eq!(open(&[]), SealError::Malformed);
        assert_eq!(open(&[1; 200]), SealError::Malformed);
        assert_eq!(padded(&[3; 206]), SealError::UnsupportedVersion);
        assert_eq!(padded(&[2; 72]), SealError::Malformed);
        assert_eq!(padded(&[1; 105]), SealError::Malformed);
        assert_eq!(padded(&[1; 107]), SealError::Malformed);
    }

    #[test]
    fn a_key_of_low_order_is_not_sealed_to() {
        let zero = HpkePublicKey::from_bytes(vec![0; 32]);
        let (_, key, certificate) = inviter();
        let refused = notice().seal((&Digest([9; 32]), &zero), (&key, &certificate), &mut rng(1));
        assert_eq!(refused, Err(SealError::Malformed));
    }

    #[test]
    fn the_longest_certificate_fits() {
        let (_, key, _) = inviter();
        // 16 keys with their links, and 512 bytes of an assistant: about 2.2 KiB.
        assert!(sealed_by(&key, &[1; 2_400]).len() <= 4 * 1024);
    }

    #[test]
    fn garbage_is_refused() {
        let valid = sealed();
        feed_garbage(3_000, &valid, |bytes| {
            assert!(Notice::open(bytes, &init_key(1)).is_err() || bytes == valid);
        });
        let (_, _, certificate) = inviter();
        let mut inner = [&[1], [4; 72].as_slice(), &[1; 33]].concat();
        put_bytes(&mut inner, &certificate);
        inner.extend_from_slice(&[3; 64]);
        feed_garbage(300_000, &inner, |bytes| {
            let parts = Parts::decode(bytes).ok();
            let fields = |letter: &Letter| match letter {
                Letter::Welcome(_) => FIELDS_LENGTH,
                Letter::Keys(_) => KEYS_LENGTH,
            };
            let length = parts.map(|it| fields(&it.letter) + 64 + it.certificate.len());
            assert!(length.is_none_or(|length| length < bytes.len()));
        });
    }

    #[test]
    fn the_seed_is_not_printed() {
        let expected = "Notice { seed: Seed(Key32(..)), position: 7, entry: EntryId(06060606..), ";
        assert!(format!("{:?}", notice()).starts_with(expected));
    }
}
