//! Records of the account log: what an account's devices tell each other about its chats.
//!
//! The log's seed and the records' key both derive from the account's [`StorageKey`]. Records are
//! applied in the order of the log to an [`AccountMap`], in which the last writer wins; the whole
//! map stands beside every hundredth record as the log's state. Records that this version doesn't
//! know are kept as they are.

use core::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::envelope::Seed;
use super::{SealError, open, seal};
use crate::crypto::signature::SignaturePublicKey;
use crate::derive::{Key32, Label, derive};
use crate::encoding::{self, EncodingError};
use crate::error::ensure;
use crate::id::{AccountId, ConversationId, DeviceId, LogId};
use crate::identity::{IdentityKey, SIGN_UP_LABEL};

mod map;

pub use map::AccountMap;

const VERSION: u8 = 1;
const RECORD: u8 = 1;
const MAP: u8 = 2;
const KIND_CONVERSATION: u32 = 1;
const KIND_CONTACT: u32 = 2;
const KIND_DEVICE_NAME: u32 = 3;
const KIND_LOST_REMOVALS: u32 = 4;
const KIND_REPLACEMENT: u32 = 5;
const KIND_SIGN_UP: u32 = 6;

/// The longest sealed record, in bytes.
pub const MAX_RECORD: usize = 64 * 1024;
/// The longest sealed map, in bytes.
pub const MAX_MAP: usize = 16 * 1024 * 1024;

/// How many of the newest replacements of the account record an account log keeps.
pub const REPLACEMENTS: u64 = 8;

/// The key from which the account log's seed and the key of its records derive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageKey(Key32);

/// The key under which the records of an account log are sealed.
#[derive(Clone, Debug)]
pub struct RecordKey(Key32);

/// One record of the account log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccountLogRecord {
    /// Where a conversation goes on.
    Conversation(ConversationRecord),
    /// Somebody whom the account knows.
    Contact(ContactRecord),
    /// What the owner calls one of his devices.
    DeviceName(DeviceNameRecord),
    /// Who is in a conversation again because the server has lost their removal.
    LostRemovals(LostRemovalsRecord),
    /// What replaced the account record, should the server lose it.
    Replacement(ReplacementRecord),
    /// How the account was made, should the server lose it whole.
    SignUp(SignUpRecord),
    /// A record of a later version, kept as it is.
    Unknown(UnknownRecord),
}

/// Where a conversation goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationRecord {
    /// The conversation.
    pub id: ConversationId,
    /// The seed of its newest log.
    pub seed: Seed,
    /// The point of its history that a reader may trust.
    pub anchor: Anchor,
    /// How far that log had been read, and its running hash up to there.
    pub read: (u64, [u8; 32]),
    /// Whether the owner has hidden the chat.
    pub hidden: bool,
    /// Whether the server had lost entries of it, so that it may turn out to go on in another log.
    pub may_yield: bool,
    /// How many losses of the server's, one after the other, that log was chosen behind.
    pub losses: u32,
    /// The epoch that the log begins with.
    pub begins_with: u64,
    /// Whether a device of this account has begun that log again, and knows of nobody else who goes on
    /// in it.
    pub is_alone: bool,
    /// Whether this account is out of the group, as one of its devices has read there: one that was
    /// never in it may find no log that says so.
    pub is_out: bool,
}

impl ConversationRecord {
    /// Whether the conversation goes on where this record says and not where `other` does. An epoch that
    /// the server has lost is not a later one; after the same loss all go to the log that begins later.
    pub fn is_later_than(&self, other: &Self) -> bool {
        let yields = self.may_yield || other.may_yield;
        match self.losses.cmp(&other.losses) {
            Ordering::Equal if yields && self.seed != other.seed => self.place() > other.place(),
            Ordering::Equal => {
                (self.anchor.epoch, other.is_alone) > (other.anchor.epoch, self.is_alone)
            }
            order => order == Ordering::Greater,
        }
    }

    fn place(&self) -> (u64, LogId) {
        (self.begins_with, self.seed.log_keys().log)
    }
}

/// A point of a group's history that a reader trusts: a fold counts only if it passes through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The epoch.
    pub epoch: u64,
    /// The interim transcript hash of that epoch (RFC 9420 §8.2).
    pub interim: [u8; 32],
}

/// Somebody whom the account knows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactRecord {
    /// The account.
    pub account: AccountId,
    /// The name under which it was found.
    pub username: String,
    /// The highest version of its account record that was seen.
    pub list_version: u64,
    /// The identity key whose safety number was compared.
    pub verified_key: Option<[u8; 32]>,
    /// Whether the owner doesn't want to hear from it.
    pub blocked: bool,
}

/// What the owner calls one of his devices.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNameRecord {
    /// The device.
    pub device: DeviceId,
    /// Its name.
    pub name: String,
    /// What brought it into the account record; nothing for the device that signed up.
    pub joined: Option<ReplacementRecord>,
    /// How the account was made, from the device that made it.
    pub signed_up: Option<SignUpRecord>,
}

/// Who is in a conversation again because the server has lost their removal; nobody, once that is
/// made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRemovalsRecord {
    /// The conversation.
    pub conversation: ConversationId,
    /// Accounts, and the device that had removed each, if that is known.
    pub accounts: BTreeMap<AccountId, Option<DeviceId>>,
    /// Keys of devices that were revoked.
    pub keys: BTreeSet<[u8; 32]>,
}

/// What replaced the account record, as the server was asked it: signed by the identity key, so that
/// every device can give it to a server that has lost it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacementRecord {
    /// The version of the new record. One that is [`REPLACEMENTS`] later takes its place.
    pub version: u64,
    /// The request, in the server's encoding.
    pub request: Vec<u8>,
}

/// How the account was made, as the server was asked it: signed by the identity key, so that every
/// device can give it to a server that has lost the account, and none can put another password into
/// it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignUpRecord {
    /// When it was made, in milliseconds since 1970.
    pub made: u64,
    /// The request, in the server's encoding, without key packages.
    pub request: Vec<u8>,
    /// `SignWithLabel(identity key, "corncrake sign-up", made || request)`.
    pub signature: Vec<u8>,
}

/// A record of a later version.
#[derive(Clone, PartialEq, Eq)]
pub struct UnknownRecord {
    kind: u32,
    key: Vec<u8>,
    value: Zeroizing<Vec<u8>>,
}

/// The stored form of every record; kind and key say which earlier record it replaces.
#[derive(Serialize, Deserialize)]
struct Encoded {
    kind: u32,
    key: Vec<u8>,
    value: Zeroizing<Vec<u8>>,
}

impl StorageKey {
    /// A fresh key.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        Self(Key32::random(rng))
    }

    /// The key with these secret bytes.
    pub fn from_key(key: Key32) -> Self {
        Self(key)
    }

    /// The secret bytes.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// The seed of the account log.
    pub fn account_log_seed(&self) -> Seed {
        Seed::from_key(derive(self.expose(), Label::AccountLog, &[]))
    }

    /// The key of the account log's records.
    pub fn record_key(&self) -> RecordKey {
        RecordKey(derive(self.expose(), Label::AccountRecordKey, &[]))
    }
}

impl RecordKey {
    /// Seals a record for the account log `log`.
    ///
    /// # Errors
    /// [`SealError::TooLarge`] above [`MAX_RECORD`].
    pub fn seal_record(
        &self,
        log: LogId,
        record: &AccountLogRecord,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, SealError> {
        let plain = Zeroizing::new(encoding::encode(VERSION, &record.encode()));
        let sealed = seal(VERSION, &self.0, &[log.as_bytes(), &[RECORD]], &plain, rng);
        if sealed.len() > MAX_RECORD { Err(SealError::TooLarge) } else { Ok(sealed) }
    }

    /// Opens a record of the account log `log`.
    ///
    /// # Errors
    /// [`SealError`] if it was sealed for another log or purpose, changed, or is malformed.
    pub fn open_record(&self, log: LogId, sealed: &[u8]) -> Result<AccountLogRecord, SealError> {
        ensure(sealed.len() <= MAX_RECORD, SealError::TooLarge)?;
        let plain = open(VERSION, &self.0, &[log.as_bytes(), &[RECORD]], sealed)?;
        Ok(AccountLogRecord::decode(encoding::decode(VERSION, &plain)?)?)
    }

    /// Seals the whole map as a state of the account log `log`.
    ///
    /// # Errors
    /// [`SealError::TooLarge`] above [`MAX_MAP`].
    pub fn seal_map(
        &self,
        log: LogId,
        map: &AccountMap,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, SealError> {
        let sealed = seal(VERSION, &self.0, &[log.as_bytes(), &[MAP]], &map.encode(), rng);
        if sealed.len() > MAX_MAP { Err(SealError::TooLarge) } else { Ok(sealed) }
    }

    /// Opens a state of the account log `log`.
    ///
    /// # Errors
    /// [`SealError`] if it was sealed for another log or purpose, changed, or is malformed.
    pub fn open_map(&self, log: LogId, sealed: &[u8]) -> Result<AccountMap, SealError> {
        ensure(sealed.len() <= MAX_MAP, SealError::TooLarge)?;
        let plain = open(VERSION, &self.0, &[log.as_bytes(), &[MAP]], sealed)?;
        Ok(AccountMap::decode(&plain)?)
    }
}

impl SignUpRecord {
    /// Signs a sign-up.
    pub fn issue(made: u64, request: Vec<u8>, identity: &IdentityKey) -> Self {
        let signature = identity.sign_sign_up(&signed_sign_up(made, &request));
        Self { made, request, signature }
    }

    /// Whether the identity key of the account has signed it.
    pub fn is_signed_by(&self, identity: &SignaturePublicKey) -> bool {
        let content = signed_sign_up(self.made, &self.request);
        identity.verify_with_label(SIGN_UP_LABEL, &content, &self.signature).is_ok()
    }
}

fn signed_sign_up(made: u64, request: &[u8]) -> Vec<u8> {
    [&made.to_be_bytes()[..], request].concat()
}

impl AccountLogRecord {
    /// What replaced the account record, if it holds that.
    pub fn replacement(&self) -> Option<&ReplacementRecord> {
        match self {
            Self::Replacement(record) => Some(record),
            Self::DeviceName(named) => named.joined.as_ref(),
            _ => None,
        }
    }

    /// How the account was made, if it holds that.
    pub fn sign_up(&self) -> Option<&SignUpRecord> {
        match self {
            Self::SignUp(record) => Some(record),
            Self::DeviceName(named) => named.signed_up.as_ref(),
            _ => None,
        }
    }

    fn encode(&self) -> Encoded {
        fn value<T: Serialize>(record: &T) -> Zeroizing<Vec<u8>> {
            Zeroizing::new(encoding::encode(VERSION, record))
        }
        let (kind, key, value) = match self {
            Self::Conversation(it) => (KIND_CONVERSATION, it.id.as_bytes().to_vec(), value(it)),
            Self::Contact(it) => (KIND_CONTACT, it.account.as_bytes().to_vec(), value(it)),
            Self::DeviceName(it) => (KIND_DEVICE_NAME, it.device.as_bytes().to_vec(), value(it)),
            Self::LostRemovals(it) => {
                (KIND_LOST_REMOVALS, it.conversation.as_bytes().to_vec(), value(it))
            }
            Self::Replacement(it) => {
                let place = (it.version % REPLACEMENTS).to_be_bytes();
                (KIND_REPLACEMENT, place.to_vec(), value(it))
            }
            Self::SignUp(it) => (KIND_SIGN_UP, Vec::new(), value(it)),
            Self::Unknown(it) => (it.kind, it.key.clone(), it.value.clone()),
        };
        Encoded { kind, key, value }
    }

    /// A known kind in a later version is as unknown as a later kind.
    fn decode(encoded: Encoded) -> Result<Self, EncodingError> {
        let Encoded { kind, key, value } = encoded;
        let known = match kind {
            KIND_CONVERSATION => encoding::decode(VERSION, &value).map(Self::Conversation),
            KIND_CONTACT => encoding::decode(VERSION, &value).map(Self::Contact),
            KIND_DEVICE_NAME => encoding::decode(VERSION, &value).map(Self::DeviceName),
            KIND_LOST_REMOVALS => encoding::decode(VERSION, &value).map(Self::LostRemovals),
            KIND_REPLACEMENT => encoding::decode(VERSION, &value).map(Self::Replacement),
            KIND_SIGN_UP => encoding::decode(VERSION, &value).map(Self::SignUp),
            _ => Err(EncodingError::UnsupportedVersion),
        };
        match known {
            Ok(record) if record.encode().key == key => Ok(record),
            Err(EncodingError::UnsupportedVersion) => {
                Ok(Self::Unknown(UnknownRecord { kind, key, value }))
            }
            Ok(_) | Err(EncodingError::Malformed) => Err(EncodingError::Malformed),
        }
    }
}

impl core::fmt::Debug for ContactRecord {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { account, username: _, list_version: _, verified_key: _, blocked: _ } = self;
        f.debug_struct("ContactRecord").field("account", account).finish_non_exhaustive()
    }
}

impl core::fmt::Debug for DeviceNameRecord {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { device, name: _, joined: _, signed_up: _ } = self;
        f.debug_struct("DeviceNameRecord").field("device", device).finish_non_exhaustive()
    }
}

impl core::fmt::Debug for ReplacementRecord {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { version, request: _ } = self;
        f.debug_struct("ReplacementRecord").field("version", version).finish_non_exhaustive()
    }
}

impl core::fmt::Debug for SignUpRecord {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { made, request: _, signature: _ } = self;
        f.debug_struct("SignUpRecord").field("made", made).finish_non_exhaustive()
    }
}

impl core::fmt::Debug for UnknownRecord {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { kind, key: _, value: _ } = self;
        f.debug_struct("UnknownRecord").field("kind", kind).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
