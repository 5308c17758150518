//! Transcript hashes (RFC 9420 §8.2).

use super::codec::Encode;
use super::framing::{FramedContent, WireFormat};
use crate::crypto::Digest;

/// The confirmed transcript hash after a commit, from the interim one before it.
pub fn confirmed(
    interim_before: &[u8],
    wire_format: WireFormat,
    content: &FramedContent,
    signature: &[u8],
) -> Digest {
    let mut input = Vec::with_capacity(1024);
    wire_format.encode(&mut input);
    content.encode(&mut input);
    signature.encode(&mut input);
    Digest::of(&[interim_before, &input])
}

/// The interim transcript hash of an epoch, from its confirmed one and its confirmation tag.
pub fn interim(confirmed: &[u8], confirmation_tag: &Digest) -> Digest {
    Digest::of(&[confirmed, &confirmation_tag.to_bytes()])
}
