//! Golden files and garbage for the tests of every stored or sent format.

use std::path::Path;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// The generator of reproducible test data.
pub(crate) fn rng(seed: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([seed; 32])
}

/// Compares `actual` with `tests/golden/<name>`; `CORNCRAKE_WRITE_GOLDEN=1` writes a missing file.
pub(crate) fn assert_golden(name: &str, actual: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if !path.exists() && std::env::var_os("CORNCRAKE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read(&path).unwrap();
    assert!(actual == expected, "{name} changed: an old store or peer could not read this");
}

/// Compares `actual` with the hexadecimal golden file `name`.
pub(crate) fn assert_golden_hex(name: &str, actual: &[u8]) {
    assert_golden(name, format!("{}\n", hex::encode(actual)).as_bytes());
}

/// Feeds `decode` with `count` random inputs and mutations of `valid`.
pub(crate) fn feed_garbage(count: u32, valid: &[u8], mut decode: impl FnMut(&[u8])) {
    let mut rng = rng(99);
    for round in 0..count {
        let mut input = valid.to_vec();
        if round % 4 == 0 {
            input = vec![0; (rng.next_u32() % 300) as usize];
            rng.fill_bytes(&mut input);
        }
        for _ in 0..rng.next_u32() % 4 {
            let at = rng.next_u32() as usize % (input.len() + 1);
            let value = u8::try_from(rng.next_u32() % 256).unwrap();
            match rng.next_u32() % 4 {
                0 => input.truncate(at),
                1 => input.insert(at, value),
                2 if at < input.len() => {
                    input.remove(at);
                }
                _ => {
                    if let Some(byte) = input.get_mut(at) {
                        *byte ^= value;
                    }
                }
            }
        }
        decode(&input);
    }
}

/// Every strict prefix, every single flipped bit and one appended byte of `valid`.
pub(crate) fn spoiled(valid: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let prefixes = (0..valid.len()).map(|end| valid[..end].to_vec());
    let flips = (0..valid.len() * 8).map(|bit| {
        let mut copy = valid.to_vec();
        copy[bit / 8] ^= 1 << (bit % 8);
        copy
    });
    let longer = core::iter::once([valid, &[0]].concat());
    prefixes.chain(flips).chain(longer)
}
