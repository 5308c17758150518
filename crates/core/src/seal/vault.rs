//! The vault: an account's secrets, kept by the server, opened by the account's password.

use core::fmt;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::record::StorageKey;
use super::{SealError, open, padding, seal};
use crate::derive::{Key32, Label, derive};
use crate::encoding;
use crate::error::ensure;
use crate::id::AccountId;
use crate::identity::{ContactKey, IdentityKey, KeyChain};
use crate::mls::codec::Encode;

const VERSION: u8 = 1;
const BODY: u32 = 0;
const PASSWORD_SLOT: u32 = 1;
const MAX_SLOTS: usize = 16;
/// The longest vault, in bytes.
pub const MAX_VAULT: usize = 64 * 1024;

/// What lies in the vault.
///
/// It is sealed under a random key, which lies in slots: each slot is that key sealed under a
/// secret that opens the vault. The associated data binds account and version, so that the server
/// can't pass off an older vault, or another account's, as this one.
#[derive(Clone)]
pub struct Vault {
    /// The newest identity key.
    pub identity: IdentityKey,
    /// The account's identity keys, ending with the newest.
    pub chain: KeyChain,
    /// Opens the account log.
    pub storage_key: StorageKey,
    /// Agrees on the seeds of 1:1 chats.
    pub contact_key: ContactKey,
}

/// A key that opens one slot.
#[derive(Clone, Debug)]
pub struct SlotKey {
    kind: u32,
    key: Key32,
}

#[derive(Serialize, Deserialize)]
struct Encoded {
    slots: Vec<Slot>,
    body: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Slot {
    kind: u32,
    sealed: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Body {
    identity: Key32,
    chain: Vec<u8>,
    storage: Key32,
    contact: Key32,
}

impl SlotKey {
    /// The key of the password slot, from the export key that OPAQUE yields.
    pub fn password(export_key: &[u8]) -> Self {
        let kind = PASSWORD_SLOT;
        Self { kind, key: derive(export_key, Label::VaultSlot, &[&kind.to_be_bytes()]) }
    }
}

impl Vault {
    /// Seals the vault as `version` of `account` under a fresh key, with a slot for each of `keys`.
    ///
    /// # Errors
    /// [`SealError::TooLarge`] for more than 16 slots.
    pub fn seal(
        &self,
        account: AccountId,
        version: u64,
        keys: &[SlotKey],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, SealError> {
        ensure(keys.len() <= MAX_SLOTS, SealError::TooLarge)?;
        let Self { identity, chain, storage_key, contact_key } = self;
        let seed = identity.expose_seed();
        let body = Body {
            identity: Key32::from_bytes(*seed.expose_array().ok_or(SealError::Malformed)?),
            chain: chain.to_bytes(),
            storage: Key32::from_bytes(*storage_key.expose()),
            contact: contact_key.expose(),
        };
        let body = padding::pad(&Zeroizing::new(encoding::encode(VERSION, &body)))?;
        let vault_key = Key32::random(rng);
        let slots = keys.iter().map(|slot| {
            let place = place_of(account, version, slot.kind);
            let sealed = seal(VERSION, &slot.key, &[&place], vault_key.expose(), rng);
            Slot { kind: slot.kind, sealed }
        });
        let slots = slots.collect();
        let place = place_of(account, version, BODY);
        let body = seal(VERSION, &vault_key, &[&place], &body, rng);
        Ok(encoding::encode(VERSION, &Encoded { slots, body }))
    }

    /// Opens the vault that is `version` of `account` with the key of one of its slots.
    ///
    /// # Errors
    /// [`SealError::Refused`] if no slot opens, or it is another version or another account's;
    /// [`SealError::Malformed`] if its keys don't belong to each other.
    pub fn open(
        sealed: &[u8],
        account: AccountId,
        version: u64,
        slot: &SlotKey,
    ) -> Result<Self, SealError> {
        ensure(sealed.len() <= MAX_VAULT, SealError::TooLarge)?;
        let Encoded { slots, body } = encoding::decode(VERSION, sealed)?;
        ensure(slots.len() <= MAX_SLOTS, SealError::Malformed)?;
        let place = place_of(account, version, slot.kind);
        let own = slots.iter().filter(|other| other.kind == slot.kind);
        let vault_key = own
            .filter_map(|found| open(VERSION, &slot.key, &[&place], &found.sealed).ok())
            .find_map(|key| Some(Key32::from_bytes(key.as_slice().try_into().ok()?)))
            .ok_or(SealError::Refused)?;
        let place = place_of(account, version, BODY);
        let body = padding::unpad(&open(VERSION, &vault_key, &[&place], &body)?)?;
        Self::from_body(&encoding::decode(VERSION, &body)?, account)
    }

    /// Opens the vault with the export key that OPAQUE yields for the right password.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with_password(
        sealed: &[u8],
        account: AccountId,
        version: u64,
        export_key: &[u8],
    ) -> Result<Self, SealError> {
        Self::open(sealed, account, version, &SlotKey::password(export_key))
    }

    fn from_body(body: &Body, account: AccountId) -> Result<Self, SealError> {
        let malformed = |_| SealError::Malformed;
        let identity = IdentityKey::try_from_seed(body.identity.expose()).map_err(malformed)?;
        let chain = KeyChain::verify(&body.chain).map_err(malformed)?;
        ensure(chain.current_key() == identity.public(), SealError::Malformed)?;
        ensure(chain.account_id() == account, SealError::Malformed)?;
        let storage_key = StorageKey::from_key(body.storage.clone());
        Ok(Self { identity, chain, storage_key, contact_key: ContactKey::from_key(&body.contact) })
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { identity: _, chain: _, storage_key: _, contact_key: _ } = self;
        f.write_str("Vault { .. }")
    }
}

/// Where something in a vault belongs: account, version of the vault, slot or body.
fn place_of(account: AccountId, version: u64, what: u32) -> Vec<u8> {
    [account.as_bytes().as_slice(), &version.to_be_bytes(), &what.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{assert_golden_hex, feed_garbage, rng, spoiled};

    const EXPORT: &[u8] = b"export key of OPAQUE";

    fn vault() -> Vault {
        let identity = IdentityKey::try_from_seed(&[1; 32]).unwrap();
        Vault {
            chain: KeyChain::begin(&identity),
            identity,
            storage_key: StorageKey::from_key(Key32::from_bytes([2; 32])),
            contact_key: ContactKey::from_key(&Key32::from_bytes([3; 32])),
        }
    }

    fn account() -> AccountId {
        vault().chain.account_id()
    }

    fn sealed() -> Vec<u8> {
        vault().seal(account(), 4, &[SlotKey::password(EXPORT)], &mut rng(1)).unwrap()
    }

    #[test]
    fn the_vault_is_golden_and_opens_with_the_password() {
        assert_golden_hex("vault.hex", &sealed());
        let opened = Vault::open_with_password(&sealed(), account(), 4, EXPORT).unwrap();
        assert_eq!(opened.identity.expose_seed(), vault().identity.expose_seed());
        assert_eq!(opened.chain, vault().chain);
        assert_eq!(opened.storage_key.expose(), vault().storage_key.expose());
        assert_eq!(opened.contact_key.expose(), vault().contact_key.expose());
    }

    #[test]
    fn another_password_version_or_account_is_refused() {
        let other = AccountId::from_bytes([9; 32]);
        for (account, version, export) in [
            (account(), 4, b"another password".as_slice()),
            (account(), 3, EXPORT),
            (other, 4, EXPORT),
        ] {
            let refused = Vault::open_with_password(&sealed(), account, version, export);
            assert_eq!(refused.err(), Some(SealError::Refused));
        }
    }

    #[test]
    fn every_change_is_refused() {
        for bad in spoiled(&sealed()) {
            assert!(Vault::open_with_password(&bad, account(), 4, EXPORT).is_err());
        }
        assert_eq!(
            Vault::open_with_password(&vec![1; MAX_VAULT + 1], account(), 4, EXPORT).err(),
            Some(SealError::TooLarge)
        );
    }

    #[test]
    fn any_slot_opens_it_and_foreign_slots_are_passed_over() {
        let key = Key32::from_bytes([7; 32]);
        let recovery = SlotKey { kind: 2, key };
        let slots =
            [SlotKey::password(b"someone else's"), recovery.clone(), SlotKey::password(EXPORT)];
        let sealed = vault().seal(account(), 4, &slots, &mut rng(1)).unwrap();
        assert!(Vault::open(&sealed, account(), 4, &recovery).is_ok());
        assert!(Vault::open_with_password(&sealed, account(), 4, EXPORT).is_ok());
        let many = vec![recovery; 17];
        let refused = vault().seal(account(), 4, &many, &mut rng(1));
        assert_eq!(refused, Err(SealError::TooLarge));
    }

    #[test]
    fn keys_that_do_not_belong_to_each_other_are_refused() {
        let identity = IdentityKey::try_from_seed(&[5; 32]).unwrap();
        let mixed = Vault { identity, ..vault() };
        let key = [SlotKey::password(EXPORT)];
        let sealed = mixed.seal(account(), 4, &key, &mut rng(1)).unwrap();
        let opened = Vault::open_with_password(&sealed, account(), 4, EXPORT);
        assert_eq!(opened.err(), Some(SealError::Malformed));
        let other = AccountId::from_bytes([9; 32]);
        let sealed = vault().seal(other, 4, &key, &mut rng(1)).unwrap();
        let opened = Vault::open_with_password(&sealed, other, 4, EXPORT);
        assert_eq!(opened.err(), Some(SealError::Malformed));
    }

    #[test]
    fn garbage_is_refused() {
        let valid = sealed();
        feed_garbage(20_000, &valid, |bytes| {
            let opened = Vault::open_with_password(bytes, account(), 4, EXPORT);
            assert!(opened.is_err() || bytes == valid);
        });
        feed_garbage(1_000_000, &valid, |bytes| {
            if let Ok(outside) = encoding::decode::<Encoded>(VERSION, bytes) {
                assert_eq!(encoding::encode(VERSION, &outside), bytes);
            }
        });
        let body = Body {
            identity: Key32::from_bytes([1; 32]),
            chain: vault().chain.to_bytes(),
            storage: Key32::from_bytes([2; 32]),
            contact: Key32::from_bytes([3; 32]),
        };
        feed_garbage(1_000_000, &encoding::encode(VERSION, &body), |bytes| {
            if let Ok(body) = encoding::decode::<Body>(VERSION, bytes) {
                assert_eq!(encoding::encode(VERSION, &body), bytes);
            }
        });
    }

    #[test]
    fn secrets_print_nothing() {
        assert_eq!(format!("{:?}", vault()), "Vault { .. }");
        let slot = format!("{:?}", SlotKey::password(EXPORT));
        assert_eq!(slot, "SlotKey { kind: 1, key: Key32(..) }");
    }
}
