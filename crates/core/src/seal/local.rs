//! Local values: everything in the client's store, named and sealed under the app's key.

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::{SealError, open, seal};
use crate::derive::{Key32, Label, derive};

const VERSION: u8 = 1;

/// The keys of a local store; they derive from the one key that the app keeps for it.
#[derive(Clone, Debug)]
pub struct StoreKey {
    names: Key32,
    values: Key32,
}

impl StoreKey {
    /// Derives the keys of names and values from the app's store key.
    pub fn new(key: &Key32) -> Self {
        Self {
            names: derive(key.expose(), Label::StoreName, &[]),
            values: derive(key.expose(), Label::StoreValue, &[]),
        }
    }

    /// Takes over the app's 32 random bytes; the app erases its copy.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self::new(&Key32::from_bytes(bytes))
    }

    /// The name under which `id` stands in `table`: a pseudorandom function of both, so that the
    /// file shows no ids.
    pub fn name(&self, table: u8, id: &[u8]) -> [u8; 16] {
        let name = derive(self.names.expose(), Label::StoreName, &[&[table], id]);
        name.expose().first_chunk().copied().unwrap_or_default()
    }

    /// Seals `value` for the row `key`; elsewhere it doesn't open.
    pub fn seal(&self, key: &[u8], value: &[u8], rng: &mut impl CryptoRng) -> Vec<u8> {
        seal(VERSION, &self.values, &[key], value, rng)
    }

    /// Opens the value of the row `key`.
    ///
    /// # Errors
    /// [`SealError`] if it was sealed for another row or store, or changed.
    pub fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        open(VERSION, &self.values, &[key], sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{assert_golden_hex, rng, spoiled};

    fn key() -> StoreKey {
        StoreKey::from_bytes([3; 32])
    }

    #[test]
    fn names_and_values_are_golden() {
        let sealed = key().seal(b"row", b"value", &mut rng(1));
        let all = [&key().name(1, b"id"), sealed.as_slice()].concat();
        assert_golden_hex("local.hex", &all);
        assert_eq!(*key().open(b"row", &sealed).unwrap(), b"value");
    }

    #[test]
    fn names_depend_on_key_table_and_id() {
        let other = StoreKey::from_bytes([4; 32]);
        let names = [key().name(1, b"a"), key().name(2, b"a"), key().name(1, b"b")];
        assert!(names[0] != names[1] && names[0] != names[2] && names[1] != names[2]);
        assert_ne!(other.name(1, b"a"), names[0]);
    }

    #[test]
    fn a_value_opens_only_in_its_row_and_unchanged() {
        let sealed = key().seal(b"row", b"value", &mut rng(1));
        assert_eq!(key().open(b"raw", &sealed), Err(SealError::Refused));
        let other = StoreKey::from_bytes([4; 32]);
        assert_eq!(other.open(b"row", &sealed), Err(SealError::Refused));
        for bad in spoiled(&sealed) {
            assert!(key().open(b"row", &bad).is_err());
        }
    }

    #[test]
    fn the_key_prints_nothing() {
        assert_eq!(format!("{:?}", key()), "StoreKey { names: Key32(..), values: Key32(..) }");
    }
}
