//! What the account's identity key has to sign: a stolen session alone must not be able to destroy
//! a vault, which may be the only copy of that key, or to put a device into an account.

use corncrake_wire::{ErrorCode, session::Replacement};
use ed25519_dalek::{Signature, VerifyingKey};

/// Refuses a replacement that this key has not signed.
pub(crate) fn check(
    identity_key: &[u8; 32],
    replacement: &Replacement<'_>,
    signature: &[u8],
) -> Result<(), ErrorCode> {
    let refused = ErrorCode::SignatureRefused;
    let key = VerifyingKey::from_bytes(identity_key).map_err(|_| refused)?;
    let signature = Signature::from_slice(signature).map_err(|_| refused)?;
    key.verify_strict(&replacement.signed(), &signature).map_err(|_| refused)
}
