use core::fmt;

use rand_core::CryptoRng;
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::mls::codec::{Decode, Encode, Malformed, Reader, put_bytes};

/// Bytes that nobody else may see: erased on drop, redacted in `Debug`, compared in constant time.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Draws `len` random bytes.
    pub fn random(len: usize, rng: &mut impl CryptoRng) -> Self {
        let mut bytes = vec![0; len];
        rng.fill_bytes(&mut bytes);
        Self(bytes.into_boxed_slice())
    }

    /// `len` zero bytes, the `0` of the key schedule's diagrams.
    pub fn zeros(len: usize) -> Self {
        Self(vec![0; len].into_boxed_slice())
    }

    /// The bytes themselves; the caller keeps them from leaking.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as an array, if there are exactly `N`.
    pub fn expose_array<const N: usize>(&self) -> Option<&[u8; N]> {
        self.expose().try_into().ok()
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        // A shrinking reallocation would leave a copy behind.
        if bytes.len() == bytes.capacity() {
            return Self(bytes.into_boxed_slice());
        }
        let bytes = Zeroizing::new(bytes);
        Self(bytes.as_slice().into())
    }
}

impl<const N: usize> From<[u8; N]> for Secret {
    fn from(mut bytes: [u8; N]) -> Self {
        let secret = Self(bytes.as_slice().into());
        bytes.zeroize();
        secret
    }
}

impl Encode for Secret {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, &self.0);
    }
}

impl Decode for Secret {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.bytes().map(Self::from)
    }
}

impl ConstantTimeEq for Secret {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(_) = self;
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::from([7; 32])), "Secret(..)");
    }

    #[test]
    fn comparison_looks_at_length_first() {
        assert_ne!(Secret::from([7; 32]), Secret::from([7; 31]));
        assert_eq!(Secret::from([7; 32]), Secret::from(vec![7; 32]));
    }
}
