//! What is signed on the account plane: by a device to renew its session, and by an account's
//! identity key to replace what the server keeps of the account.

use sha2::{Digest, Sha256};

use crate::{
    AccountId, DeviceId,
    account::{NewDevice, Vault},
    open::SignedRecord,
};

/// The label of the signature, for an MLS `SignWithLabel` (RFC 9420 §5.1.2).
pub const RENEWAL_LABEL: &str = "corncrake session";

/// The content that a device signs: origin, account, device and the server's nonce. The origin is
/// the server's as the client sees it, such as `https://chat.example`, so that no server can use
/// the signature at another one.
#[must_use]
pub fn renewal_content(
    origin: &str,
    account: &AccountId,
    device: &DeviceId,
    nonce: &[u8; 32],
) -> Vec<u8> {
    let mut content = Vec::with_capacity(origin.len() + 100);
    push_vector(&mut content, origin.as_bytes());
    content.extend_from_slice(account.as_bytes());
    content.extend_from_slice(device.as_bytes());
    content.extend_from_slice(nonce);
    content
}

/// The bytes under the signature: `SignContent` of RFC 9420 §5.1.2 with [`RENEWAL_LABEL`] around
/// a [`renewal_content`].
#[must_use]
pub fn renewal(origin: &str, account: &AccountId, device: &DeviceId, nonce: &[u8; 32]) -> Vec<u8> {
    sign_content(RENEWAL_LABEL, &renewal_content(origin, account, device, nonce))
}

/// The label of the signature over a [`Replacement`], for an MLS `SignWithLabel`.
pub const REPLACEMENT_LABEL: &str = "corncrake replacement";

/// What a call replaces, signed by the newest identity key of the account. The server checks the
/// signature with the key that it stores: whoever has only stolen a session can replace nothing.
#[derive(Clone, Copy, Debug)]
pub struct Replacement<'a> {
    /// Whose.
    pub account: &'a AccountId,
    /// The new record.
    pub record: Option<&'a SignedRecord>,
    /// The new vault.
    pub vault: Option<&'a Vault>,
    /// A device that is added.
    pub add: Option<&'a NewDevice>,
    /// A device that is dropped.
    pub drop: Option<&'a DeviceId>,
}

impl<'a> Replacement<'a> {
    /// A replacement of nothing yet.
    #[must_use]
    pub const fn of(account: &'a AccountId) -> Self {
        Self { account, record: None, vault: None, add: None, drop: None }
    }

    /// The content that is signed: the account, then each part after a byte that says whether it
    /// is there. Record and vault are their version, big-endian, and the SHA-256 of their bytes; a
    /// device that is added is its id, key and inbox.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        let Self { account, record, vault, add, drop } = self;
        let versioned = |version: u64, bytes: &[u8]| {
            [&version.to_be_bytes()[..], &Sha256::digest(bytes)].concat()
        };
        let parts = [
            record.map(|record| versioned(record.version, &record.bytes)),
            vault.map(|vault| versioned(vault.version, &vault.bytes)),
            add.map(|new| [new.id.as_bytes(), &new.key[..], new.inbox.as_bytes()].concat()),
            drop.map(|device| device.as_bytes().to_vec()),
        ];
        let mut content = account.as_bytes().to_vec();
        for part in parts {
            content.push(u8::from(part.is_some()));
            content.extend(part.into_iter().flatten());
        }
        content
    }

    /// The bytes under the signature: `SignContent` of RFC 9420 §5.1.2 with
    /// [`REPLACEMENT_LABEL`] around the [`content`](Self::content).
    #[must_use]
    pub fn signed(&self) -> Vec<u8> {
        sign_content(REPLACEMENT_LABEL, &self.content())
    }
}

/// `SignContent` of RFC 9420 §5.1.2.
fn sign_content(label: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_vector(&mut bytes, format!("MLS 1.0 {label}").as_bytes());
    push_vector(&mut bytes, content);
    bytes
}

/// A variable-size vector with its length (RFC 9420 §2.1.2).
fn push_vector(to: &mut Vec<u8>, bytes: &[u8]) {
    match u16::try_from(bytes.len()) {
        Ok(len @ 0..0x40) => to.extend_from_slice(&len.to_be_bytes()[1..]),
        Ok(len @ 0..0x4000) => to.extend_from_slice(&(len | 0x4000).to_be_bytes()),
        // An origin beyond 16 KiB signs as none, which no server accepts.
        _ => return to.push(0),
    }
    to.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InboxId;

    #[test]
    fn the_signed_bytes_of_a_replacement_are_frozen() {
        let account = AccountId([1; 32]);
        let record = SignedRecord { version: 2, bytes: b"record".to_vec() };
        let device = NewDevice { id: DeviceId([3; 32]), key: [4; 32], inbox: InboxId([5; 32]) };
        let bare = Replacement::of(&account);
        assert_eq!(bare.content(), [&[1; 32][..], &[0; 4]].concat());
        let signed = Replacement { record: Some(&record), add: Some(&device), ..bare }.signed();
        let want = [
            &[29][..],
            b"MLS 1.0 corncrake replacement",
            &[0x40, 172],
            &[1; 32],
            &[1, 0, 0, 0, 0, 0, 0, 0, 2],
            &Sha256::digest(b"record"),
            &[0, 1],
            &[3; 32],
            &[4; 32],
            &[5; 32],
            &[0],
        ];
        assert_eq!(signed, want.concat());
    }

    #[test]
    fn the_signed_bytes_are_frozen() {
        let bytes = renewal("http://a", &AccountId([1; 32]), &DeviceId([2; 32]), &[3; 32]);
        let mut want = vec![25];
        want.extend_from_slice(b"MLS 1.0 corncrake session");
        want.extend_from_slice(&[0x40, 105, 8]);
        want.extend_from_slice(b"http://a");
        for part in 1..=3 {
            want.extend_from_slice(&[part; 32]);
        }
        assert_eq!(bytes, want);
    }
}
