//! What a device signs to renew its session.

use crate::{AccountId, DeviceId};

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
    let mut bytes = Vec::new();
    push_vector(&mut bytes, format!("MLS 1.0 {RENEWAL_LABEL}").as_bytes());
    push_vector(&mut bytes, &renewal_content(origin, account, device, nonce));
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
