//! The one wrapper around postcard.
//!
//! postcard by itself accepts trailing bytes and non-canonical integers. [`decode`] accepts a
//! message only if encoding it again gives the same bytes, so that each message has one encoding.
//!
//! A decoder allocates no more than its input brings, times a small factor: byte strings are
//! copied as they are, and every sequence is read by `at_most`, which refuses the first element
//! too many before it reads on. Otherwise a body of a few megabytes could ask for gigabytes: an
//! empty entry has three bytes on the wire and seventy in memory.

use core::{fmt, marker::PhantomData};

use postcard::ser_flavors::Flavor;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _, SeqAccess, Visitor},
};

/// The first byte of every encoded message.
pub const FORMAT: u8 = 1;

/// Bytes that are no message: cut short, too long, of another version, or not in the one
/// encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed message")
    }
}

impl core::error::Error for Malformed {}

/// The encoding of `message`: the version byte, then postcard.
#[must_use]
pub fn encode<T: Serialize + ?Sized>(message: &T) -> Vec<u8> {
    // Types of this crate have no maps and no sequences of unknown length, the only things that
    // postcard can't write into a growing buffer.
    postcard::to_extend(message, vec![FORMAT]).unwrap_or_default()
}

/// The message that `bytes` encode.
///
/// # Errors
/// [`Malformed`] unless `bytes` are exactly what [`encode`] gives for some message.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    let Some((&FORMAT, body)) = bytes.split_first() else {
        return Err(Malformed);
    };
    let (message, rest) = postcard::take_from_bytes::<T>(body).map_err(|_| Malformed)?;
    let same = postcard::serialize_with_flavor(&message, Same { expected: body });
    if !rest.is_empty() || same != Ok(true) {
        return Err(Malformed);
    }
    Ok(message)
}

/// Compares an encoding with bytes at hand, without keeping it.
struct Same<'a> {
    expected: &'a [u8],
}

impl Flavor for Same<'_> {
    /// Whether all bytes were there.
    type Output = bool;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        let rest = self.expected.strip_prefix(bytes);
        self.expected = rest.ok_or(postcard::Error::SerializeBufferFull)?;
        Ok(())
    }

    fn finalize(self) -> postcard::Result<bool> {
        Ok(self.expected.is_empty())
    }
}

/// Reads a sequence of at most `MOST` elements, for `#[serde(deserialize_with)]`.
pub(crate) fn at_most<'de, D, T, const MOST: usize>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    from.deserialize_seq(AtMost::<T, MOST>(PhantomData))
}

struct AtMost<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for AtMost<T, MOST> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MOST} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Vec<T>, A::Error> {
        let announced = from.size_hint();
        if announced.is_some_and(|count| count > MOST) {
            return Err(A::Error::invalid_length(announced.unwrap_or(MOST), &self));
        }
        // What was announced isn't believed: room grows with what comes.
        let mut elements = Vec::new();
        while let Some(element) = from.next_element()? {
            if elements.len() == MOST {
                return Err(A::Error::invalid_length(MOST + 1, &self));
            }
            elements.push(element);
        }
        Ok(elements)
    }
}

/// Byte strings in one piece; serde would otherwise visit them byte by byte.
pub(crate) mod bytes {
    use core::fmt;

    use serde::{
        Deserializer, Serializer,
        de::{Error, Visitor},
    };

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        from.deserialize_byte_buf(Bytes)
    }

    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }
    }
}

/// [`bytes`] that may be missing.
pub(crate) mod optional_bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize)]
    struct Borrowed<'a>(#[serde(with = "super::bytes")] &'a [u8]);

    #[derive(Deserialize)]
    struct Owned(#[serde(with = "super::bytes")] Vec<u8>);

    pub(crate) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.as_deref().map(Borrowed).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        Ok(Option::<Owned>::deserialize(from)?.map(|owned| owned.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_one_encoding() {
        let bytes = encode(&(300u64, "a"));
        assert_eq!(bytes, [1, 0xac, 0x02, 1, b'a']);
        assert_eq!(decode::<(u64, String)>(&bytes), Ok((300, "a".to_owned())));
    }

    #[test]
    fn trailing_bytes_short_input_other_versions_and_padded_integers_are_refused() {
        for bytes in [&[][..], &[1], &[2, 5], &[1, 5, 0], &[1, 0x85, 0x00], &[1, 0x80]] {
            assert_eq!(decode::<u64>(bytes), Err(Malformed), "{bytes:?}");
        }
        assert_eq!(decode::<u64>(&[1, 5]), Ok(5));
    }
}
