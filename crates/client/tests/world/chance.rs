//! Where everything that happens by chance comes from: one generator per purpose, all of them
//! grown from the world's seed.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// A seeded generator with the few draws that the world needs.
#[derive(Clone, Debug)]
pub(crate) struct Chance(ChaCha8Rng);

impl Chance {
    /// The generator of `seed` for one purpose.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let mut bytes = [0x5a; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        for (at, byte) in purpose.bytes().enumerate() {
            bytes[8 + at % 24] = bytes[8 + at % 24].rotate_left(3) ^ byte;
        }
        Self(ChaCha8Rng::from_seed(bytes))
    }

    /// A generator that goes its own way.
    pub(crate) fn fork(&mut self) -> ChaCha8Rng {
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        ChaCha8Rng::from_seed(seed)
    }

    /// The generator itself.
    pub(crate) fn rng(&mut self) -> &mut ChaCha8Rng {
        &mut self.0
    }

    /// One of the numbers below `count`.
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        self.0.next_u64() % count.max(1)
    }

    /// One of the numbers from `least` to `most`.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// True in `per_mille` of a thousand draws.
    pub(crate) fn hit(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.below(1000) < per_mille
    }

    /// One of `items`.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let at = usize::try_from(self.below(items.len() as u64)).unwrap();
        &items[at]
    }

    /// 32 random bytes.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}
