use core::cmp::Ordering;

use super::chain::{KeyChain, UnverifiedChain};
use super::contact::ContactPublicKey;
use super::{
    IdentityError, IdentityKey, MAX_DEVICES, MAX_RECORD, SIGNATURE_LENGTH, Username, device_id,
};
use crate::crypto::signature::{SignaturePublicKey, verify_batch};
use crate::error::ensure;
use crate::id::{AccountId, DeviceId};
use crate::mls::codec::{Decode, Encode, Reader, put_bytes};

const VERSION: u8 = 1;
const LABEL: &str = "corncrake account record";
/// Contact keys of which a record tells that others took their place.
const MAX_EARLIER: usize = 8;

/// What an account says about itself; the directory serves it by name and by id.
///
/// ```text
/// struct {
///     opaque device_id[32];
///     opaque device_key[32];
///     uint64 since;                    /* the list version with which it came */
/// } DeviceEntry;
///
/// struct {
///     uint8 version = 1;
///     opaque account_id[32];
///     KeyChain chain;
///     opaque username<V>;
///     opaque contact_key[32];
///     opaque earlier_contact_keys<V>;  /* 32 bytes each, the newest first, at most 8 */
///     uint64 list_version;
///     DeviceEntry devices<V>;          /* at most 10 */
///     opaque extensions<V>;            /* what later versions say; empty in this one */
///     opaque signature[64];            /* SignWithLabel(newest key of the chain,
///                                         "corncrake account record", everything before) */
/// } AccountRecord;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRecord {
    /// The identity keys.
    pub chain: KeyChain,
    /// The name under which the account is found.
    pub username: Username,
    /// With which others agree on the seeds of 1:1 chats.
    pub contact_key: ContactPublicKey,
    /// Those before it, the newest first: chats of two that were founded with them go on.
    pub earlier_contact_keys: Vec<ContactPublicKey>,
    /// Rises by one with each record.
    pub list_version: u64,
    /// The devices, at most ten.
    pub devices: Vec<DeviceEntry>,
    /// What a later version of this library says about the account. Whoever makes the next record
    /// keeps it as it is.
    pub extensions: Vec<u8>,
}

/// One device of an account record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceEntry {
    /// The device's signature key, from which its id follows.
    pub key: SignaturePublicKey,
    /// The list version with which it came.
    pub since: u64,
}

/// An account record whose signatures have been verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedRecord(AccountRecord);

impl AccountRecord {
    /// Puts a contact key in the place of the one before, which stays known as an earlier one.
    pub fn renew_contact_key(&mut self, new: ContactPublicKey) {
        let earlier = core::mem::replace(&mut self.contact_key, new);
        self.earlier_contact_keys.insert(0, earlier);
        self.earlier_contact_keys.truncate(MAX_EARLIER);
    }

    /// Signs the record.
    ///
    /// # Errors
    /// [`IdentityError::NotCurrentKey`] if `identity` isn't the newest key of the chain, or what
    /// [`verify`](Self::verify) would refuse.
    pub fn issue(&self, identity: &IdentityKey) -> Result<Vec<u8>, IdentityError> {
        let Self {
            chain,
            username,
            contact_key,
            earlier_contact_keys: earlier,
            list_version,
            devices,
            extensions,
        } = self;
        ensure(identity.public() == chain.current_key(), IdentityError::NotCurrentKey)?;
        check_devices(devices)?;
        ensure(earlier.len() <= MAX_EARLIER, IdentityError::TooLarge)?;
        let mut out = vec![VERSION];
        chain.account_id().as_bytes().encode(&mut out);
        chain.encode(&mut out);
        put_bytes(&mut out, username.as_str().as_bytes());
        contact_key.0.encode(&mut out);
        let earlier: Vec<u8> = earlier.iter().flat_map(|key| key.0).collect();
        put_bytes(&mut out, &earlier);
        list_version.encode(&mut out);
        devices.encode(&mut out);
        put_bytes(&mut out, extensions);
        let signature = identity.sign(LABEL, &out);
        out.extend_from_slice(&signature);
        ensure(out.len() <= MAX_RECORD, IdentityError::TooLarge)?;
        Ok(out)
    }

    /// Reads and verifies a record: signatures, that the id belongs to the chain and each device id
    /// to its key, name, number and uniqueness of devices.
    ///
    /// # Errors
    /// [`IdentityError`] of whatever is wrong.
    pub fn verify(bytes: &[u8]) -> Result<VerifiedRecord, IdentityError> {
        ensure(bytes.len() <= MAX_RECORD, IdentityError::TooLarge)?;
        let mut reader = Reader::new(bytes);
        let [version] = reader.array()?;
        ensure(version == VERSION, IdentityError::UnsupportedVersion)?;
        let account = AccountId::from_bytes(reader.array()?);
        let chain = UnverifiedChain::read(&mut reader)?;
        let username = read_username(&mut reader)?;
        let contact_key = ContactPublicKey(reader.array()?);
        let earlier_contact_keys = read_keys(&mut reader)?;
        let list_version = u64::from_be_bytes(reader.array()?);
        let devices = read_devices(&mut reader)?;
        let extensions = reader.bytes()?.to_vec();
        reader.take(SIGNATURE_LENGTH)?;
        reader.finish()?;
        ensure(account == chain.account_id(), IdentityError::WrongId)?;
        verify_batch(&chain.signed_with(LABEL, bytes))?;
        let chain = chain.into_verified();
        Ok(VerifiedRecord(Self {
            chain,
            username,
            contact_key,
            earlier_contact_keys,
            list_version,
            devices,
            extensions,
        }))
    }
}

impl VerifiedRecord {
    /// What the record says.
    pub fn record(&self) -> &AccountRecord {
        &self.0
    }

    /// The account.
    pub fn account(&self) -> AccountId {
        self.0.chain.account_id()
    }

    /// Whether this record may take the place of `earlier`: the same account, a higher version, and
    /// a chain of keys that goes on from the earlier one. If a server lost a record and had another
    /// one signed in its place, the one that renewed the contact key of the other counts, whatever
    /// the versions; of two with one key and version, what the server shows last.
    #[must_use]
    pub fn may_replace(&self, earlier: &Self) -> bool {
        let is_newer = match self.0.list_version.cmp(&earlier.0.list_version) {
            _ if self.has_renewed(earlier) => true,
            _ if earlier.has_renewed(self) => false,
            Ordering::Less => false,
            Ordering::Equal => self.0.contact_key == earlier.0.contact_key,
            Ordering::Greater => true,
        };
        is_newer && self.0.chain.extends(&earlier.0.chain)
    }

    /// Whether its contact key took the place of the other's.
    fn has_renewed(&self, other: &Self) -> bool {
        self.0.earlier_contact_keys.contains(&other.0.contact_key)
    }

    /// The record, for its next version.
    pub fn into_record(self) -> AccountRecord {
        self.0
    }
}

impl DeviceEntry {
    /// The device's id.
    pub fn device(&self) -> DeviceId {
        device_id(&self.key)
    }
}

impl Encode for DeviceEntry {
    fn encode(&self, out: &mut Vec<u8>) {
        self.device().as_bytes().encode(out);
        self.key.as_bytes().encode(out);
        self.since.encode(out);
    }
}

fn read_username(reader: &mut Reader<'_>) -> Result<Username, IdentityError> {
    let text = core::str::from_utf8(reader.bytes()?).map_err(|_| IdentityError::BadUsername)?;
    let name = Username::parse(text)?;
    // One name has one form, or two records could bear one name.
    if name.as_str() == text { Ok(name) } else { Err(IdentityError::BadUsername) }
}

fn read_keys(reader: &mut Reader<'_>) -> Result<Vec<ContactPublicKey>, IdentityError> {
    let mut list = Reader::new(reader.bytes()?);
    let mut keys = Vec::new();
    while !list.is_empty() {
        keys.push(ContactPublicKey(list.array()?));
    }
    ensure(keys.len() <= MAX_EARLIER, IdentityError::TooLarge)?;
    Ok(keys)
}

fn read_devices(reader: &mut Reader<'_>) -> Result<Vec<DeviceEntry>, IdentityError> {
    let mut list = Reader::new(reader.bytes()?);
    let mut devices = Vec::new();
    while !list.is_empty() {
        let device = DeviceId::from_bytes(list.array()?);
        let key = SignaturePublicKey::from_bytes(list.array()?);
        let entry = DeviceEntry { key, since: u64::decode(&mut list)? };
        ensure(entry.device() == device, IdentityError::WrongId)?;
        devices.push(entry);
    }
    check_devices(&devices)?;
    Ok(devices)
}

fn check_devices(devices: &[DeviceEntry]) -> Result<(), IdentityError> {
    ensure(devices.len() <= MAX_DEVICES, IdentityError::TooManyDevices)?;
    let mut keys: Vec<_> = devices.iter().map(|entry| entry.key.as_bytes()).collect();
    keys.sort_unstable();
    keys.dedup();
    ensure(keys.len() == devices.len(), IdentityError::DuplicateDevice)
}
