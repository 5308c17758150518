//! The one wrapper around postcard: a version byte in front, one encoding per value.
//!
//! postcard itself accepts integers that are longer than they need be and ignores what follows the
//! value, so [`decode`] encodes again and compares. What is signed, hashed or decides a verdict is
//! in MLS presentation language instead and never passes here.

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::error::{ensure, errors};

errors! {
    /// Bytes that are not a value in our encoding.
    pub enum EncodingError {
        /// Truncated, overlong, trailing bytes, a value out of range, or not the one encoding.
        Malformed => "malformed", "malformed bytes";
        /// The version byte is of a later format.
        UnsupportedVersion => "unsupported_version", "format of a later version";
    }
}

/// Encodes `value` behind its version byte, in one allocation so that no copy of a secret stays
/// behind; the caller wraps the result in [`Zeroizing`] where it is secret.
///
/// # Panics
/// If the type can't be encoded at all (a sequence of unknown length), which its first test shows.
pub fn encode<T: Serialize + ?Sized>(version: u8, value: &T) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "depends on the type alone, never on the value")]
    let size = postcard::experimental::serialized_size(value).expect("an encodable type");
    let mut bytes = Vec::with_capacity(1 + size);
    bytes.push(version);
    #[expect(clippy::expect_used, reason = "the size has just been taken")]
    postcard::to_extend(value, bytes).expect("an encodable type")
}

/// Decodes a value that stands behind `version`.
///
/// # Errors
/// [`EncodingError::UnsupportedVersion`] for another version byte, [`EncodingError::Malformed`] for
/// everything that [`encode`] would not have written.
pub fn decode<T: Serialize + DeserializeOwned>(
    version: u8,
    bytes: &[u8],
) -> Result<T, EncodingError> {
    let (first, body) = bytes.split_first().ok_or(EncodingError::Malformed)?;
    ensure(*first == version, EncodingError::UnsupportedVersion)?;
    let value: T = postcard::from_bytes(body).map_err(|_| EncodingError::Malformed)?;
    ensure(*Zeroizing::new(encode(version, &value)) == bytes, EncodingError::Malformed)?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_in_one_allocation() {
        let value = (7u64, vec![1u8; 300], "corncrake".to_owned());
        let bytes = encode(3, &value);
        assert_eq!(bytes.capacity(), bytes.len());
        assert_eq!(decode(3, &bytes), Ok(value));
    }

    #[test]
    fn only_the_one_encoding_is_accepted() {
        assert_eq!(decode::<u64>(1, &[1, 5]), Ok(5));
        assert_eq!(decode::<u64>(1, &[1, 0x85, 0]), Err(EncodingError::Malformed));
        assert_eq!(decode::<u64>(1, &[1, 5, 0]), Err(EncodingError::Malformed));
        assert_eq!(decode::<u64>(1, &[1]), Err(EncodingError::Malformed));
        assert_eq!(decode::<u64>(1, &[]), Err(EncodingError::Malformed));
        assert_eq!(decode::<bool>(1, &[1, 2]), Err(EncodingError::Malformed));
        assert_eq!(decode::<u64>(1, &[2, 5]), Err(EncodingError::UnsupportedVersion));
    }

    #[test]
    fn a_claimed_length_allocates_nothing_that_is_not_there() {
        let huge = [1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1];
        assert_eq!(decode::<Vec<u8>>(1, &huge), Err(EncodingError::Malformed));
        assert_eq!(decode::<Vec<u64>>(1, &huge), Err(EncodingError::Malformed));
    }
}
