use core::fmt;

use rand_core::CryptoRng;
use x25519_dalek::{PublicKey, StaticSecret};

use super::IdentityError;
use crate::derive::{Key32, Label, derive};
use crate::error::ensure;
use crate::id::AccountId;
use crate::seal::envelope::Seed;

/// The secret key by which an account agrees with others on the seeds of 1:1 chats.
#[derive(Clone)]
pub struct ContactKey(StaticSecret);

/// The public half of a [`ContactKey`], as it stands in the account record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContactPublicKey(pub [u8; 32]);

impl ContactKey {
    /// A fresh key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(StaticSecret::random_from_rng(rng))
    }

    /// The key with these secret bytes.
    pub fn from_key(key: &Key32) -> Self {
        Self(StaticSecret::from(*key.expose()))
    }

    /// The secret bytes.
    pub fn expose(&self) -> Key32 {
        Key32::from_bytes(*self.0.as_bytes())
    }

    /// The public half.
    pub fn public(&self) -> ContactPublicKey {
        ContactPublicKey(*PublicKey::from(&self.0).as_bytes())
    }
}

impl fmt::Debug for ContactKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(_) = self;
        f.write_str("ContactKey(..)")
    }
}

/// The seed of the `n`th log in which two accounts may have their 1:1 chat; both find the same.
///
/// # Errors
/// [`IdentityError::InvalidKey`] if their key is of low order, so that the seed would be no secret.
pub fn contact_agreement(
    ours: &ContactKey,
    theirs: &ContactPublicKey,
    our_account: AccountId,
    their_account: AccountId,
    n: u64,
) -> Result<Seed, IdentityError> {
    let shared = ours.0.diffie_hellman(&PublicKey::from(theirs.0));
    ensure(shared.was_contributory(), IdentityError::InvalidKey)?;
    let lower = our_account.min(their_account);
    let higher = our_account.max(their_account);
    let context: [&[u8]; 3] = [lower.as_bytes(), higher.as_bytes(), &n.to_be_bytes()];
    Ok(Seed::from_key(derive(shared.as_bytes(), Label::Direct, &context)))
}
