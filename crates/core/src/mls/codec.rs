//! The TLS presentation language as RFC 9420 §2.1 uses it.
//!
//! Decoding is strict: booleans, enums and length headers have one form each, so a value that was
//! decoded encodes to the bytes that were received. Nothing allocates more than the input brings.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use crate::error::ensure;

/// The largest length that a vector header can carry.
const MAX_LEN: usize = (1 << 30) - 1;

/// Bytes that are not an encoding of the expected type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed encoding")
    }
}

impl core::error::Error for Malformed {}

/// A type with an encoding in the TLS presentation language.
pub trait Encode {
    /// Appends the encoding to `out`.
    fn encode(&self, out: &mut Vec<u8>);

    /// Appends a vector of items.
    fn encode_vector(items: &[Self], out: &mut Vec<u8>)
    where
        Self: Sized,
    {
        put_vector(out, |out| items.iter().for_each(|item| item.encode(out)));
    }

    /// The encoding by itself.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

/// A type that can be read from its encoding.
pub trait Decode: Sized {
    /// Reads one value.
    ///
    /// # Errors
    /// [`Malformed`] input.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed>;

    /// Reads items until `reader` is empty.
    ///
    /// # Errors
    /// [`Malformed`] input.
    fn decode_items(mut reader: Reader<'_>) -> Result<Vec<Self>, Malformed> {
        let mut items = Vec::new();
        while !reader.is_empty() {
            items.push(Self::decode(&mut reader)?);
        }
        Ok(items)
    }

    /// Reads one value that fills `bytes` exactly.
    ///
    /// # Errors
    /// [`Malformed`] input, trailing bytes included.
    fn decode_exact(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let value = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }
}

/// A cursor over bytes that never reads past their end.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the head of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes `len` bytes.
    ///
    /// # Errors
    /// [`Malformed`] if fewer are left.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Malformed)?;
        self.rest = rest;
        Ok(head)
    }

    /// Takes `N` bytes.
    ///
    /// # Errors
    /// [`Malformed`] if fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*head)
    }

    /// Takes a vector's length header (§2.1.2), which must be the shortest possible.
    ///
    /// # Errors
    /// [`Malformed`] for a longer form than needed or the reserved prefix.
    pub fn varint(&mut self) -> Result<usize, Malformed> {
        let [first] = self.array()?;
        let (len, shortest) = match first >> 6 {
            0 => (u32::from(first), 0),
            1 => {
                let [second] = self.array()?;
                (u32::from_be_bytes([0, 0, first & 0x3f, second]), 1 << 6)
            }
            2 => {
                let [b, c, d] = self.array()?;
                (u32::from_be_bytes([first & 0x3f, b, c, d]), 1 << 14)
            }
            _ => return Err(Malformed),
        };
        ensure(len >= shortest, Malformed)?;
        usize::try_from(len).map_err(|_| Malformed)
    }

    /// Takes a vector of bytes.
    ///
    /// # Errors
    /// [`Malformed`] if the header promises more than there is.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.varint()?;
        self.take(len)
    }

    /// Takes the encoding of `constant`.
    ///
    /// # Errors
    /// [`Malformed`] if something else stands there.
    pub fn expect(&mut self, constant: &impl Encode) -> Result<(), Malformed> {
        let expected = constant.to_bytes();
        ensure(self.take(expected.len())? == expected, Malformed)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`Malformed`] if bytes are left.
    pub fn finish(self) -> Result<(), Malformed> {
        ensure(self.rest.is_empty(), Malformed)
    }
}

/// Appends a vector's length header (§2.1.2).
///
/// Lengths of 2^30 and more have no header; the value then encodes to something that no decoder
/// accepts, since the contents do not fit the header.
pub fn put_varint(out: &mut Vec<u8>, len: usize) {
    let len = u32::try_from(len.min(MAX_LEN)).unwrap_or(u32::MAX >> 2);
    match len {
        0..=0x3f => out.extend_from_slice(len.to_be_bytes().last_chunk::<1>().unwrap_or(&[0])),
        0x40..=0x3fff => {
            let header = len | 0x4000;
            out.extend_from_slice(header.to_be_bytes().last_chunk::<2>().unwrap_or(&[0; 2]));
        }
        _ => out.extend_from_slice(&(len | 0x8000_0000).to_be_bytes()),
    }
}

/// Appends a vector of bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a vector whose contents `fill` writes.
pub fn put_vector(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    fill(out);
    let end = out.len();
    put_varint(out, end - start);
    let header = out.len() - end;
    if let Some(vector) = out.get_mut(start..) {
        vector.rotate_right(header);
    }
}

/// Encodes a value behind the version of its format.
pub(crate) fn pack(version: u8, value: &impl Encode) -> Vec<u8> {
    (version, value).to_bytes()
}

/// Decodes what [`pack`] gave.
pub(crate) fn unpack<T: Decode>(version: u8, bytes: &[u8]) -> Result<T, Malformed> {
    let mut reader = Reader::new(bytes);
    reader.expect(&version)?;
    T::decode_exact(reader.rest())
}

macro_rules! codec_int {
    ($($int:ty),*) => {$(
        impl Encode for $int {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }

        impl Decode for $int {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                reader.array().map(Self::from_be_bytes)
            }
        }
    )*};
}
codec_int!(u16, u32, u64);

impl Encode for u8 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }

    fn encode_vector(items: &[Self], out: &mut Vec<u8>) {
        put_bytes(out, items);
    }
}

impl Decode for u8 {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let [byte] = reader.array()?;
        Ok(byte)
    }

    fn decode_items(reader: Reader<'_>) -> Result<Vec<Self>, Malformed> {
        Ok(reader.rest().to_vec())
    }
}

impl<const N: usize> Encode for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl<const N: usize> Decode for [u8; N] {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.array()
    }
}

impl Encode for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Decode for bool {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match u8::decode(reader)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }
}

impl Encode for String {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.as_bytes());
    }
}

impl Decode for String {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Self::from_utf8(reader.bytes()?.to_vec()).map_err(|_| Malformed)
    }
}

impl<T: Encode> Encode for &T {
    fn encode(&self, out: &mut Vec<u8>) {
        T::encode(self, out);
    }
}

impl<A: Encode, B: Encode> Encode for (A, B) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }
}

impl<A: Decode, B: Decode> Decode for (A, B) {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok((A::decode(reader)?, B::decode(reader)?))
    }
}

/// A vector in increasing order.
impl<T: Encode> Encode for BTreeSet<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_vector(out, |out| self.iter().for_each(|item| item.encode(out)));
    }
}

impl<T: Decode + Ord> Decode for BTreeSet<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let items = Vec::<T>::decode(reader)?;
        ensure(items.is_sorted_by(|a, b| a < b), Malformed)?;
        Ok(items.into_iter().collect())
    }
}

/// A vector of keys with their values, the keys in increasing order.
impl<K: Encode, V: Encode> Encode for BTreeMap<K, V> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_vector(out, |out| self.iter().for_each(|entry| entry.encode(out)));
    }
}

impl<K: Decode + Ord, V: Decode> Decode for BTreeMap<K, V> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let entries = Vec::<(K, V)>::decode(reader)?;
        ensure(entries.is_sorted_by(|(a, _), (b, _)| a < b), Malformed)?;
        Ok(entries.into_iter().collect())
    }
}

impl<T: Encode> Encode for [T] {
    fn encode(&self, out: &mut Vec<u8>) {
        T::encode_vector(self, out);
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_slice().encode(out);
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        T::decode_items(Reader::new(reader.bytes()?))
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(value) => {
                out.push(1);
                value.encode(out);
            }
        }
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match u8::decode(reader)? {
            0 => Ok(None),
            1 => T::decode(reader).map(Some),
            _ => Err(Malformed),
        }
    }
}

impl<T: Encode> Encode for Box<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        T::encode(self, out);
    }
}

impl<T: Decode> Decode for Box<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        T::decode(reader).map(Self::new)
    }
}

/// Implements [`Encode`] and [`Decode`] for a struct as the sequence of its fields, behind a constant
/// (`= constant;`) if one is given. What a condition does not hold for is malformed.
macro_rules! codec_struct {
    ($name:ident { $(= $constant:expr;)? $($field:ident),* $(,)? } $(if $is_valid:expr)?) => {
        impl $crate::mls::codec::Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                let Self { $($field),* } = self;
                $($crate::mls::codec::Encode::encode(&$constant, out);)?
                $($crate::mls::codec::Encode::encode($field, out);)*
            }
        }

        impl $crate::mls::codec::Decode for $name {
            fn decode(
                reader: &mut $crate::mls::codec::Reader<'_>,
            ) -> Result<Self, $crate::mls::codec::Malformed> {
                $(reader.expect(&$constant)?;)?
                let value = Self { $($field: $crate::mls::codec::Decode::decode(reader)?),* };
                $(if !$is_valid(&value) {
                    return Err($crate::mls::codec::Malformed);
                })?
                Ok(value)
            }
        }
    };
}
pub(crate) use codec_struct;

/// Implements [`Encode`] and [`Decode`] for a newtype as its content.
macro_rules! codec_newtype {
    ($($name:ident),*) => {$(
        impl $crate::mls::codec::Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                self.0.encode(out);
            }
        }

        impl $crate::mls::codec::Decode for $name {
            fn decode(
                reader: &mut $crate::mls::codec::Reader<'_>,
            ) -> Result<Self, $crate::mls::codec::Malformed> {
                $crate::mls::codec::Decode::decode(reader).map(Self)
            }
        }
    )*};
}
pub(crate) use codec_newtype;

/// Implements [`Encode`] and [`Decode`] for an enum: the code point of the variant, then its fields.
macro_rules! codec_enum {
    ($name:ident: $int:ty { $(
        $tag:literal => $variant:ident $(($($item:ident),*))? $({ $($field:ident),* })?
    ),* $(,)? }) => {
        impl $crate::mls::codec::Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                match self {$(
                    Self::$variant $(($($item),*))? $({ $($field),* })? => {
                        let tag: $int = $tag;
                        tag.encode(out);
                        $($($item.encode(out);)*)?
                        $($($field.encode(out);)*)?
                    }
                )*}
            }
        }

        impl $crate::mls::codec::Decode for $name {
            fn decode(
                reader: &mut $crate::mls::codec::Reader<'_>,
            ) -> Result<Self, $crate::mls::codec::Malformed> {
                match <$int as $crate::mls::codec::Decode>::decode(reader)? {
                    $($tag => {
                        $($(let $item = $crate::mls::codec::Decode::decode(reader)?;)*)?
                        $($(let $field = $crate::mls::codec::Decode::decode(reader)?;)*)?
                        Ok(Self::$variant $(($($item),*))? $({ $($field),* })?)
                    })*
                    _ => Err($crate::mls::codec::Malformed),
                }
            }
        }
    };
}
pub(crate) use codec_enum;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, len);
        out
    }

    #[test]
    fn length_headers_change_form_at_the_right_length() {
        assert_eq!(header(0x3f), [0x3f]);
        assert_eq!(header(0x40), [0x40, 0x40]);
        assert_eq!(header(0x3fff), [0x7f, 0xff]);
        assert_eq!(header(0x4000), [0x80, 0x00, 0x40, 0x00]);
        assert_eq!(header(0x3fff_ffff), [0xbf, 0xff, 0xff, 0xff]);
        for len in [0, 0x3f, 0x40, 0x3fff, 0x4000, 0x3fff_ffff] {
            assert_eq!(Reader::new(&header(len)).varint(), Ok(len));
        }
    }

    #[test]
    fn longer_headers_than_needed_are_refused() {
        for bytes in [&[0x40, 0x3f][..], &[0x80, 0, 0x3f, 0xff], &[0xc0, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(Reader::new(bytes).varint(), Err(Malformed));
        }
    }

    #[test]
    fn trailing_and_missing_bytes_are_refused() {
        assert_eq!(u16::decode_exact(&[0, 1, 2]), Err(Malformed));
        assert_eq!(u16::decode_exact(&[0]), Err(Malformed));
        assert_eq!(Vec::<u8>::decode_exact(&[0xbf, 0xff, 0xff, 0xff, 1]), Err(Malformed));
        assert_eq!(Vec::<u16>::decode_exact(&[3, 0, 1, 2]), Err(Malformed));
        assert_eq!(Option::<u8>::decode_exact(&[2, 0]), Err(Malformed));
        assert_eq!(bool::decode_exact(&[2]), Err(Malformed));
    }

    #[test]
    fn sets_and_maps_have_one_encoding() {
        let set = BTreeSet::from([7_u8, 3]);
        assert_eq!(set.to_bytes(), [2, 3, 7]);
        assert_eq!(BTreeSet::decode_exact(&[2, 3, 7]), Ok(set));
        for bytes in [[2, 7, 3], [2, 3, 3]] {
            assert_eq!(BTreeSet::<u8>::decode_exact(&bytes), Err(Malformed));
        }
        let map = BTreeMap::from([(7_u8, 1_u8), (3, 2)]);
        assert_eq!(map.to_bytes(), [4, 3, 2, 7, 1]);
        assert_eq!(BTreeMap::decode_exact(&[4, 3, 2, 7, 1]), Ok(map));
        for bytes in [[4, 7, 1, 3, 2], [4, 3, 1, 3, 2]] {
            assert_eq!(BTreeMap::<u8, u8>::decode_exact(&bytes), Err(Malformed));
        }
    }
}
