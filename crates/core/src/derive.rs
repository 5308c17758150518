//! One function derives every key outside MLS; one table holds every label.

use core::fmt;

use hkdf::Hkdf;
use rand_core::CryptoRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Stands before every label, so that no other protocol's derivation meets ours.
const PREFIX: &str = "corncrake v1 ";

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident $text:literal,)*) => {
        /// The table of labels: what a derived key or a labelled hash is for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Label {
            $($(#[$doc])* $name,)*
        }

        impl Label {
            /// Every label, for tests that walk the table.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The label's text, without the common prefix.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

labels! {
    /// Seed → the token that opens a log to its readers and writers.
    LogAccess "log access",
    /// Seed → the key of a log's envelopes.
    Envelope "envelope",
    /// First seed of a conversation → its id.
    Conversation "conversation",
    /// Seed of the next log → the public check that announces it.
    NextLogCheck "next log check",
    /// Storage key → the seed of the account log.
    AccountLog "account log",
    /// Storage key → the key of the account log's records.
    AccountRecordKey "account log records",
    /// Agreement of two contact keys → the seed of their 1:1 chat.
    Direct "direct",
    /// Store key → the names of stored values.
    StoreName "store name",
    /// Store key → the key of stored values.
    StoreValue "store value",
    /// A slot's secret → the key that seals the vault key in that slot.
    VaultSlot "vault slot",
    /// Hash: first identity key → account id.
    AccountId "account id",
    /// Hash: device key → device id.
    DeviceId "device id",
    /// Hash: two accounts and their identity keys → safety number.
    SafetyNumber "safety number",
    /// Hash: log id and entry ids → what a sender had read.
    View "view",
}

/// Derives 32 bytes for `label` from `secret`: HKDF-SHA256 without salt, the info being the
/// prefixed label and each part of `context`, every one behind its length in four bytes.
pub fn derive(secret: &[u8], label: Label, context: &[&[u8]]) -> Key32 {
    let mut info = Vec::new();
    append_parts(&mut info, label, context);
    let mut key = Box::new([0; 32]);
    #[expect(clippy::expect_used, reason = "HKDF-SHA256 refuses only outputs above 8160 bytes")]
    Hkdf::<Sha256>::new(None, secret)
        .expand(&info, key.as_mut_slice())
        .expect("32 bytes are a valid length");
    Key32(key)
}

/// Hashes `parts` under `label` with SHA-256, each part behind its length in four bytes.
pub fn labelled_hash(label: Label, parts: &[&[u8]]) -> [u8; 32] {
    let mut input = Vec::new();
    append_parts(&mut input, label, parts);
    Sha256::digest(&input).into()
}

fn append_parts(out: &mut Vec<u8>, label: Label, parts: &[&[u8]]) {
    let text = label.as_str();
    append_length(out, PREFIX.len() + text.len());
    out.extend_from_slice(PREFIX.as_bytes());
    out.extend_from_slice(text.as_bytes());
    for part in parts {
        append_length(out, part.len());
        out.extend_from_slice(part);
    }
}

fn append_length(out: &mut Vec<u8>, length: usize) {
    #[expect(clippy::expect_used, reason = "parts are ids and keys, far below 4 GiB")]
    let length = u32::try_from(length).expect("a part is shorter than 4 GiB");
    out.extend_from_slice(&length.to_be_bytes());
}

/// A secret of 32 bytes: erased when dropped, compared in constant time, never printed.
///
/// It serialises, because seeds lie in sealed records; nothing else may serialise it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key32(Box<[u8; 32]>);

impl Key32 {
    /// A fresh random secret.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut key = Box::new([0; 32]);
        rng.fill_bytes(key.as_mut_slice());
        Self(key)
    }

    /// Takes over 32 secret bytes; the caller erases his copy.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        Self(Box::new(*bytes))
    }

    /// The secret bytes; whoever copies them erases the copy.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl ConstantTimeEq for Key32 {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.as_slice().ct_eq(other.0.as_slice())
    }
}

impl PartialEq for Key32 {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for Key32 {}

impl fmt::Debug for Key32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(_) = self;
        f.write_str("Key32(..)")
    }
}

impl Serialize for Key32 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Key32 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_bytes(<[u8; 32]>::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::assert_golden;

    #[test]
    fn derived_keys_and_hashes_are_frozen() {
        let mut lines = String::new();
        for &label in Label::ALL {
            for context in [&[][..], &[b"".as_slice()], &[b"a".as_slice(), b"bc"]] {
                let key = hex::encode(derive(&[7; 32], label, context).expose());
                let hash = hex::encode(labelled_hash(label, context));
                lines.push_str(&format!("{}/{} {key} {hash}\n", label.as_str(), context.len()));
            }
        }
        assert_golden("derive.txt", lines.as_bytes());
    }

    #[test]
    fn derivation_is_hkdf_over_length_prefixed_parts() {
        let mut info = vec![0, 0, 0, 21];
        info.extend_from_slice(b"corncrake v1 envelope");
        info.extend_from_slice(&[0, 0, 0, 2, b'i', b'd']);
        let mut expected = [0; 32];
        Hkdf::<Sha256>::new(None, b"secret").expand(&info, &mut expected).unwrap();
        assert_eq!(derive(b"secret", Label::Envelope, &[b"id"]).expose(), &expected);
    }

    #[test]
    fn parts_cannot_be_shifted_into_each_other() {
        let (left, right) = (&[b"ab".as_slice(), b"c"], &[b"a".as_slice(), b"bc"]);
        assert_ne!(derive(&[1], Label::View, left), derive(&[1], Label::View, right));
        assert_ne!(labelled_hash(Label::View, left), labelled_hash(Label::View, right));
    }

    #[test]
    fn labels_differ() {
        let mut texts: Vec<_> = Label::ALL.iter().map(|label| label.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), Label::ALL.len());
    }

    #[test]
    fn a_key_prints_nothing() {
        assert_eq!(format!("{:?}", Key32::from_bytes([0xAB; 32])), "Key32(..)");
    }
}
