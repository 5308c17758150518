//! Padmé: the length of what is sealed tells only its order of magnitude and a few bits more.
//!
//! A padded length has at most ⌊log₂ log₂ L⌋ + 1 significant bits; the overhead is at most 12 % and
//! shrinks with the length (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files").

use zeroize::Zeroizing;

use super::SealError;

use crate::error::ensure;

const PREFIX: usize = 4;

/// Puts the length of `inner` in four bytes before it, and zeros behind it.
///
/// # Errors
/// [`SealError::TooLarge`] from 4 GiB on.
pub fn pad(inner: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let length = u32::try_from(inner.len()).map_err(|_| SealError::TooLarge)?;
    let total = padded_length(PREFIX + inner.len());
    let mut padded = Zeroizing::new(Vec::with_capacity(total));
    padded.extend_from_slice(&length.to_be_bytes());
    padded.extend_from_slice(inner);
    padded.resize(total, 0);
    Ok(padded)
}

/// Takes the padding off again.
///
/// # Errors
/// [`SealError::Malformed`] for everything that [`pad`] would not have made.
pub fn unpad(padded: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (length, rest) = padded.split_first_chunk::<PREFIX>().ok_or(SealError::Malformed)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| SealError::Malformed)?;
    let (inner, zeros) = rest.split_at_checked(length).ok_or(SealError::Malformed)?;
    ensure(padded.len() == padded_length(PREFIX + length), SealError::Malformed)?;
    ensure(zeros.iter().all(|byte| *byte == 0), SealError::Malformed)?;
    Ok(Zeroizing::new(inner.to_vec()))
}

/// The Padmé length of `length` bytes, at least one.
fn padded_length(length: usize) -> usize {
    let exponent = length.max(1).ilog2();
    let significant = exponent.max(1).ilog2() + 1;
    let mask = (1usize << exponent.saturating_sub(significant)) - 1;
    length.saturating_add(mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::feed_garbage;

    #[test]
    fn lengths_follow_the_definition() {
        let cases = [(4, 4), (9, 10), (100, 104), (1_000, 1_024), (1_025, 1_088), (65_000, 65_536)];
        for (length, expected) in cases {
            assert_eq!(padded_length(length), expected, "{length}");
        }
        for length in 4..10_000 {
            let padded = padded_length(length);
            assert!(padded >= length && padded - length <= length * 12 / 100 + 1);
            assert_eq!(padded_length(padded), padded);
        }
    }

    #[test]
    fn padding_round_trips() {
        for length in (0..300).chain([1_000, 65_535, 1_000_000]) {
            let inner = vec![0xA5; length];
            assert_eq!(*unpad(&pad(&inner).unwrap()).unwrap(), inner);
        }
    }

    #[test]
    fn only_exact_padding_is_accepted() {
        let padded = pad(&[1; 98]).unwrap();
        let mut marked = padded.clone();
        *marked.last_mut().unwrap() = 1;
        let short_length = [&[0, 0, 0, 97], &padded[4..]].concat();
        let long_length = [&[0, 0, 0, 101], &padded[4..]].concat();
        let longer = [padded.as_slice(), &[0; 8]].concat();
        for bad in [&marked[..], &padded[..103], &long_length, &longer, &[0, 0, 0], &[]] {
            assert_eq!(unpad(bad), Err(SealError::Malformed));
        }
        assert_eq!(unpad(&short_length), Err(SealError::Malformed));
    }

    #[test]
    fn garbage_is_an_error_or_the_same_bytes() {
        feed_garbage(1_000_000, &pad(&[7; 40]).unwrap(), |bytes| {
            if let Ok(inner) = unpad(bytes) {
                assert_eq!(*pad(&inner).unwrap(), bytes);
            }
        });
    }
}
