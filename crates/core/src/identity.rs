//! Who is who: accounts, their identity keys, devices and what one account says about itself.
//!
//! An [`AccountId`] is a labelled hash of the account's first [`IdentityKey`]; a later identity key
//! is signed by the one before it ([`KeyChain`]). The newest one signs a [`Certificate`] for each
//! device, which stands in MLS leaves, and the [`AccountRecord`], which stands in the directory.
//! People compare [`SafetyNumber`]s. [`ContactKey`]s give two accounts the seed of their 1:1 chat.
//!
//! Everything signed is in MLS presentation language (RFC 9420 §2.1), signed with `SignWithLabel`
//! (§5.1.2) and verified over the bytes as received.

use rand_core::CryptoRng;

use crate::crypto::signature::{SignatureKey, SignaturePublicKey};
use crate::crypto::{CryptoError, Secret};
use crate::derive::{Label, labelled_hash};
use crate::error::errors;
use crate::id::{AccountId, DeviceId};
use crate::mls::codec::Malformed;

mod certificate;
mod chain;
mod contact;
mod record;
mod safety_number;
mod username;

pub use certificate::{AssistantInfo, Certificate, DeviceClass};
pub use chain::KeyChain;
pub use contact::{ContactKey, ContactPublicKey, contact_agreement};
pub use record::{AccountRecord, DeviceEntry, VerifiedRecord};
pub use safety_number::SafetyNumber;
pub use username::Username;

/// The most identity keys that an account may have had.
pub const MAX_KEYS: usize = 16;
/// The most devices of an account.
pub const MAX_DEVICES: usize = 10;
/// The longest account record, in bytes.
pub const MAX_RECORD: usize = 64 * 1024;

const SIGNATURE_LENGTH: usize = 64;
/// The label of the signature over how an account was made.
pub(crate) const SIGN_UP_LABEL: &str = "corncrake sign-up";

errors! {
    /// Why something about an identity is refused.
    pub enum IdentityError {
        /// Bytes that aren't an encoding of what they should be.
        Malformed => "identity_malformed", "malformed identity";
        /// The version byte is of a later format.
        UnsupportedVersion => "identity_unsupported_version", "identity in a later format";
        /// The certificate names a class of device that we don't know.
        UnsupportedClass => "identity_unsupported_class", "unknown class of device";
        /// A signature doesn't verify.
        InvalidSignature => "identity_invalid_signature", "invalid signature of an identity";
        /// A key is no valid key, or agrees on nothing.
        InvalidKey => "identity_invalid_key", "invalid key of an identity";
        /// The identity key isn't the newest of the chain.
        NotCurrentKey => "identity_not_current_key", "not the newest identity key";
        /// The id isn't that of the chain's first key, or the device id not that of the device key.
        WrongId => "identity_wrong_id", "id does not belong to its key";
        /// More identity keys than an account may have.
        ChainTooLong => "identity_chain_too_long", "too many identity keys";
        /// Not 3 to 32 characters of a–z, 0–9, `_`, `.` and `-`.
        BadUsername => "bad_username", "not a valid username";
        /// More devices than an account may have.
        TooManyDevices => "too_many_devices", "too many devices";
        /// A device stands twice in the list.
        DuplicateDevice => "duplicate_device", "device listed twice";
        /// Longer than the format's limit.
        TooLarge => "identity_too_large", "identity above the size limit";
    }
}

impl From<Malformed> for IdentityError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<CryptoError> for IdentityError {
    fn from(error: CryptoError) -> Self {
        match error {
            CryptoError::InvalidKey => Self::InvalidKey,
            _ => Self::InvalidSignature,
        }
    }
}

/// The key with which an account signs its certificates and its record.
///
/// It is in memory only right after its owner typed the password; between, it lies in the vault.
#[derive(Clone, Debug)]
pub struct IdentityKey(SignatureKey);

impl IdentityKey {
    /// A fresh key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(SignatureKey::generate(rng))
    }

    /// The key with this secret seed.
    ///
    /// # Errors
    /// [`IdentityError::InvalidKey`] if the seed isn't 32 bytes long.
    pub fn try_from_seed(seed: &[u8]) -> Result<Self, IdentityError> {
        Ok(Self(SignatureKey::try_from_seed(seed)?))
    }

    /// The secret seed.
    pub fn expose_seed(&self) -> Secret {
        self.0.expose_seed()
    }

    /// The public key.
    pub fn public(&self) -> SignaturePublicKey {
        self.0.public()
    }

    /// Signs what a server is told to replace: `SignWithLabel(., "corncrake replacement", content)`.
    pub fn sign_replacement(&self, content: &[u8]) -> Vec<u8> {
        self.sign("corncrake replacement", content)
    }

    /// Signs how the account was made.
    pub(crate) fn sign_sign_up(&self, content: &[u8]) -> Vec<u8> {
        self.sign(SIGN_UP_LABEL, content)
    }

    fn sign(&self, label: &str, content: &[u8]) -> Vec<u8> {
        self.0.sign_with_label(label, content)
    }
}

/// The id of the device with this signature key.
pub fn device_id(device_key: &SignaturePublicKey) -> DeviceId {
    DeviceId::from_bytes(labelled_hash(Label::DeviceId, &[device_key.as_bytes()]))
}

/// The id of the account whose first identity key this is.
pub fn account_id(first_key: &SignaturePublicKey) -> AccountId {
    AccountId::from_bytes(labelled_hash(Label::AccountId, &[first_key.as_bytes()]))
}

#[cfg(test)]
mod tests;
