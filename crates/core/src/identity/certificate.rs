use core::fmt;

use super::chain::{KeyChain, UnverifiedChain};
use super::{IdentityError, IdentityKey, SIGNATURE_LENGTH, device_id};
use crate::content::is_one_line;
use crate::crypto::signature::{SignaturePublicKey, verify_batch};
use crate::error::ensure;
use crate::id::{AccountId, DeviceId};
use crate::mls::codec::{Encode, Reader, put_bytes};

const VERSION: u8 = 1;
const LABEL: &str = "corncrake certificate";
const CLASS_PERSON: u8 = 1;
const CLASS_ASSISTANT: u8 = 2;

/// The most that an assistant says about itself, in bytes of all three fields together.
const MAX_ASSISTANT_INFO: usize = 512;

/// What an account says about one of its devices; the identity of an MLS `basic` credential.
///
/// ```text
/// struct {
///     uint8 version = 1;
///     KeyChain chain;
///     opaque device_key[32];
///     uint64 list_version;
///     uint8 class;                     /* 1: person, 2: assistant */
///     select (class) {
///         case assistant: opaque operator<V>; opaque model_class<V>; opaque policy<V>;
///     }
///     opaque signature[64];            /* SignWithLabel(newest key of the chain,
///                                         "corncrake certificate", everything before) */
/// } Certificate;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    chain: KeyChain,
    device_key: SignaturePublicKey,
    list_version: u64,
    class: DeviceClass,
}

/// What kind of participant a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceClass {
    /// Somebody's phone or computer.
    Person,
    /// A program that reads along.
    Assistant(AssistantInfo),
}

/// What an assistant says about itself, 512 bytes in all.
#[derive(Clone, PartialEq, Eq)]
pub struct AssistantInfo {
    /// Who runs it and can read what it reads.
    pub operator: String,
    /// What kind of model answers, and where it runs.
    pub model_class: String,
    /// A link to the policy of its operator.
    pub policy: String,
}

/// A certificate as received, before its signatures are verified.
#[derive(Clone, Debug)]
pub(super) struct Unverified<'a> {
    chain: UnverifiedChain,
    device_key: SignaturePublicKey,
    list_version: u64,
    class: DeviceClass,
    bytes: &'a [u8],
}

impl Certificate {
    /// Signs a certificate for `device_key`.
    ///
    /// # Errors
    /// [`IdentityError::NotCurrentKey`] if `identity` isn't the newest key of `chain`,
    /// [`IdentityError::TooLarge`] if an assistant says too much.
    pub fn issue(
        identity: &IdentityKey,
        chain: &KeyChain,
        device_key: &SignaturePublicKey,
        list_version: u64,
        class: &DeviceClass,
    ) -> Result<Vec<u8>, IdentityError> {
        ensure(identity.public() == chain.current_key(), IdentityError::NotCurrentKey)?;
        let mut out = vec![VERSION];
        chain.encode(&mut out);
        device_key.as_bytes().encode(&mut out);
        list_version.encode(&mut out);
        class.write(&mut out)?;
        let signature = identity.sign(LABEL, &out);
        out.extend_from_slice(&signature);
        Ok(out)
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Unverified<'_>, IdentityError> {
        let mut reader = Reader::new(bytes);
        let [version] = reader.array()?;
        ensure(version == VERSION, IdentityError::UnsupportedVersion)?;
        let chain = UnverifiedChain::read(&mut reader)?;
        let device_key = SignaturePublicKey::from_bytes(reader.array()?);
        let list_version = u64::from_be_bytes(reader.array()?);
        let class = DeviceClass::read(&mut reader)?;
        reader.take(SIGNATURE_LENGTH)?;
        reader.finish()?;
        Ok(Unverified { chain, device_key, list_version, class, bytes })
    }

    /// Reads and verifies a certificate.
    ///
    /// # Errors
    /// [`IdentityError`] of form or signature.
    pub fn parse_and_verify(bytes: &[u8]) -> Result<Self, IdentityError> {
        Self::verify_all([bytes])?.pop().ok_or(IdentityError::Malformed)
    }

    /// Reads and verifies the certificates of many leaves at once, in their order.
    ///
    /// # Errors
    /// [`IdentityError`] of the first that fails in form, else of one that fails in signature.
    pub fn verify_all<'a>(
        certificates: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<Self>, IdentityError> {
        let parsed: Result<Vec<_>, _> = certificates.into_iter().map(Self::parse).collect();
        let parsed = parsed?;
        let signed = parsed.iter().flat_map(|it| it.chain.signed_with(LABEL, it.bytes));
        let signed: Vec<_> = signed.collect();
        verify_batch(&signed)?;
        drop(signed);
        Ok(parsed.into_iter().map(Unverified::into_verified).collect())
    }

    /// The account that the device belongs to.
    pub fn account(&self) -> AccountId {
        self.chain.account_id()
    }

    /// The device.
    pub fn device(&self) -> DeviceId {
        device_id(&self.device_key)
    }

    /// The device's signature key, which its leaf must have.
    pub fn device_key(&self) -> &SignaturePublicKey {
        &self.device_key
    }

    /// The identity key that signed the certificate.
    pub fn identity_key(&self) -> SignaturePublicKey {
        self.chain.current_key()
    }

    /// The version of the account's device list with which the device came.
    pub fn list_version(&self) -> u64 {
        self.list_version
    }

    /// What kind of participant the device is.
    pub fn class(&self) -> &DeviceClass {
        &self.class
    }
}

impl Unverified<'_> {
    fn into_verified(self) -> Certificate {
        let Self { chain, device_key, list_version, class, bytes: _ } = self;
        Certificate { chain: chain.into_verified(), device_key, list_version, class }
    }
}

impl DeviceClass {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), IdentityError> {
        match self {
            Self::Person => out.push(CLASS_PERSON),
            Self::Assistant(info) => {
                info.check()?;
                out.push(CLASS_ASSISTANT);
                for field in [&info.operator, &info.model_class, &info.policy] {
                    put_bytes(out, field.as_bytes());
                }
            }
        }
        Ok(())
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, IdentityError> {
        let [class] = reader.array()?;
        match class {
            CLASS_PERSON => Ok(Self::Person),
            CLASS_ASSISTANT => {
                let mut text = || -> Result<String, IdentityError> {
                    let bytes = reader.bytes()?.to_vec();
                    String::from_utf8(bytes).map_err(|_| IdentityError::Malformed)
                };
                let info =
                    AssistantInfo { operator: text()?, model_class: text()?, policy: text()? };
                info.check()?;
                Ok(Self::Assistant(info))
            }
            _ => Err(IdentityError::UnsupportedClass),
        }
    }
}

impl AssistantInfo {
    fn check(&self) -> Result<(), IdentityError> {
        let Self { operator, model_class, policy } = self;
        let mut fields = [operator, model_class, policy].into_iter();
        ensure(fields.all(|field| is_one_line(field)), IdentityError::Malformed)?;
        let length = operator.len() + model_class.len() + policy.len();
        ensure(length <= MAX_ASSISTANT_INFO, IdentityError::TooLarge)
    }
}

impl fmt::Debug for AssistantInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operator: _, model_class: _, policy: _ } = self;
        f.write_str("AssistantInfo { .. }")
    }
}
