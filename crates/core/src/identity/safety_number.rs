use core::fmt;

use crate::crypto::signature::SignaturePublicKey;
use crate::derive::{Label, labelled_hash};
use crate::id::AccountId;

const QR_VERSION: u8 = 1;
const GROUPS: usize = 12;
const GROUP_BYTES: usize = 5;

/// A number that two people compare: the same on both sides exactly if each has the other's true
/// identity key.
///
/// The digits come from 60 bytes, two labelled hashes over both account ids and identity keys, the
/// lower account first; five bytes make a group of five digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafetyNumber {
    first: [u8; 32],
    second: [u8; 32],
}

impl SafetyNumber {
    /// The number of two accounts with their newest identity keys, in either order.
    pub fn new(
        one: (AccountId, &SignaturePublicKey),
        other: (AccountId, &SignaturePublicKey),
    ) -> Self {
        let flat = |(account, key): (AccountId, &SignaturePublicKey)| {
            (*account.as_bytes(), *key.as_bytes())
        };
        let (lower, higher) = (flat(one).min(flat(other)), flat(one).max(flat(other)));
        let hash = |half: u8| {
            let parts: [&[u8]; 5] = [&[half], &lower.0, &lower.1, &higher.0, &higher.1];
            labelled_hash(Label::SafetyNumber, &parts)
        };
        Self { first: hash(1), second: hash(2) }
    }

    /// The 60 digits in twelve groups of five.
    pub fn digits(&self) -> [String; GROUPS] {
        let bytes = [self.first, self.second].concat();
        let mut groups = bytes.chunks_exact(GROUP_BYTES).map(|group| {
            let number = group.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
            format!("{:05}", number % 100_000)
        });
        core::array::from_fn(|_| groups.next().unwrap_or_default())
    }

    /// What the QR code holds: a version byte and the first hash. Equal bytes mean equal numbers.
    pub fn qr_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![QR_VERSION];
        bytes.extend_from_slice(&self.first);
        bytes
    }
}

impl fmt::Display for SafetyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.digits().join(" "))
    }
}
