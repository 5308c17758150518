//! The key schedule (RFC 9420 §8).
//!
//! ```text
//!                     init_secret_[n-1]
//!                           |
//!                           V
//!     commit_secret --> KDF.Extract
//!                           |
//!                           V
//!                   ExpandWithLabel(., "joiner", GroupContext_[n], KDF.Nh)
//!                           |
//!                           V
//!                      joiner_secret                                  JoinerSecret
//!                           |
//!                           V
//! psk_secret (or 0) --> KDF.Extract                                   MemberSecret
//!                           |
//!                           +--> DeriveSecret(., "welcome") = welcome_secret
//!                           V
//!                   ExpandWithLabel(., "epoch", GroupContext_[n], KDF.Nh)
//!                           |
//!                           V
//!                      epoch_secret
//!                           |
//!                           +--> DeriveSecret(., <label>) = <secret>  EpochSecrets
//!                           V
//!                   DeriveSecret(., "init")
//!                           |
//!                           V
//!                     init_secret_[n]
//! ```

use super::Error;
use super::codec::codec_struct;
use super::group_info::GroupContext;
use crate::crypto::hpke::{self, HpkePrivateKey, HpkePublicKey};
use crate::crypto::{Digest, Secret, aead, kdf};
use crate::error::ensure;

const HASH_LEN: usize = 32;
const EXTERNAL_INIT: &[u8] = b"MLS 1.0 external init secret";

/// Where an epoch's secrets begin; what a Welcome carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinerSecret(pub Secret);

impl JoinerSecret {
    /// Combines the last epoch's init secret with the commit's secret.
    ///
    /// `context` is the encoded GroupContext of the new epoch.
    ///
    /// # Errors
    /// Only for secrets of the wrong length.
    pub fn derive(init: &Secret, commit: &Secret, context: &[u8]) -> Result<Self, Error> {
        let extracted = kdf::extract(init.expose(), commit.expose());
        Ok(Self(kdf::expand_with_label(&extracted, "joiner", context, HASH_LEN)?))
    }

    /// Mixes the pre-shared keys in.
    pub fn member(&self, psk: &Secret) -> MemberSecret {
        MemberSecret(kdf::extract(self.0.expose(), psk.expose()))
    }
}

/// The joiner secret with the pre-shared keys mixed in.
#[derive(Clone, Debug)]
pub struct MemberSecret(pub(super) Secret);

impl MemberSecret {
    /// `welcome_secret`.
    ///
    /// # Errors
    /// Only for secrets of the wrong length.
    pub fn welcome(&self) -> Result<Secret, Error> {
        Ok(kdf::derive_secret(&self.0, "welcome")?)
    }

    /// The key and nonce under which a Welcome's GroupInfo lies (§12.4.3.1).
    ///
    /// # Errors
    /// Only for secrets of the wrong length.
    pub fn welcome_key(&self) -> Result<(Secret, [u8; aead::NONCE_LEN]), Error> {
        let secret = self.welcome()?;
        let key = kdf::expand_with_label(&secret, "key", &[], aead::KEY_LEN)?;
        let nonce = kdf::expand_with_label(&secret, "nonce", &[], aead::NONCE_LEN)?;
        Ok((key, *nonce.expose_array().ok_or(Error::Internal)?))
    }

    /// The epoch's secrets; `context` is its encoded GroupContext.
    ///
    /// # Errors
    /// Only for secrets of the wrong length.
    pub fn epoch(&self, context: &[u8]) -> Result<NewEpoch, Error> {
        let epoch = kdf::expand_with_label(&self.0, "epoch", context, HASH_LEN)?;
        NewEpoch::derive(&epoch)
    }
}

/// An epoch's secrets with the one that the secret tree consumes.
#[derive(Clone, Debug)]
pub struct NewEpoch {
    /// Root of the secret tree.
    pub encryption: Secret,
    /// The others.
    pub secrets: EpochSecrets,
}

impl NewEpoch {
    /// Derives everything from an epoch secret.
    ///
    /// # Errors
    /// Only for a secret of the wrong length.
    pub fn derive(epoch: &Secret) -> Result<Self, Error> {
        let derive = |label| kdf::derive_secret(epoch, label);
        Ok(Self {
            encryption: derive("encryption")?,
            secrets: EpochSecrets {
                init: derive("init")?,
                sender_data: derive("sender data")?,
                exporter: derive("exporter")?,
                external: derive("external")?,
                confirmation: derive("confirm")?,
                membership: derive("membership")?,
                resumption: derive("resumption")?,
                authenticator: derive("authentication")?,
            },
        })
    }
}

/// The secrets that an epoch keeps until it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochSecrets {
    /// `init_secret`: where the next epoch begins.
    pub init: Secret,
    /// `sender_data_secret`
    pub sender_data: Secret,
    /// `exporter_secret`
    pub exporter: Secret,
    /// `external_secret`
    pub external: Secret,
    /// `confirmation_key`
    pub confirmation: Secret,
    /// `membership_key`
    pub membership: Secret,
    /// `resumption_psk`
    pub resumption: Secret,
    /// `epoch_authenticator`
    pub authenticator: Secret,
}

codec_struct!(EpochSecrets {
    init,
    sender_data,
    exporter,
    external,
    confirmation,
    membership,
    resumption,
    authenticator,
});

impl EpochSecrets {
    /// `MLS-Exporter` (§8.5).
    ///
    /// # Errors
    /// [`Error::Exhausted`] for more than 8,160 bytes.
    pub fn export(&self, label: &str, context: &[u8], len: usize) -> Result<Secret, Error> {
        let secret = kdf::derive_secret(&self.exporter, label)?;
        let context = Digest::of(&[context]);
        Ok(kdf::expand_with_label(&secret, "exported", context.as_bytes(), len)?)
    }

    /// The key pair that external commits encapsulate to.
    ///
    /// # Errors
    /// Only for a secret of the wrong length.
    pub fn external_key(&self) -> Result<HpkePrivateKey, Error> {
        Ok(HpkePrivateKey::derive(&self.external)?)
    }

    /// The confirmation tag of the epoch.
    pub fn confirmation_tag(&self, context: &GroupContext) -> Digest {
        kdf::mac(&self.confirmation, &[&context.confirmed_transcript_hash])
    }

    /// Checks the confirmation tag of the epoch.
    ///
    /// # Errors
    /// [`Error::InvalidConfirmationTag`].
    pub fn verify_confirmation_tag(
        &self,
        context: &GroupContext,
        tag: &Digest,
    ) -> Result<(), Error> {
        let input = context.confirmed_transcript_hash.as_slice();
        let matches = kdf::mac_matches(&self.confirmation, &[input], tag.as_bytes());
        ensure(matches, Error::InvalidConfirmationTag)
    }
}

/// Encapsulates a fresh init secret to an epoch's external key (§8.3): the KEM output, the secret.
///
/// # Errors
/// [`Error::InvalidKey`].
pub fn external_init(
    external_pub: &HpkePublicKey,
    rng: &mut impl rand_core::CryptoRng,
) -> Result<(Vec<u8>, Secret), Error> {
    Ok(hpke::export_to(external_pub, EXTERNAL_INIT, HASH_LEN, rng)?)
}

/// Opens the init secret of an external commit (§8.3).
///
/// # Errors
/// [`Error::InvalidKey`].
pub fn open_external_init(external: &HpkePrivateKey, kem_output: &[u8]) -> Result<Secret, Error> {
    Ok(hpke::export_from(external, kem_output, EXTERNAL_INIT, HASH_LEN)?)
}
