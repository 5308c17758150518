//! Welcome messages (RFC 9420 §12.4.3.1).

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::Error;
use super::codec::{Decode, Encode, codec_struct};
use super::group_info::GroupInfo;
use super::key_package::KeyPackage;
use super::key_schedule::MemberSecret;
use super::psk::PreSharedKeyId;
use crate::crypto::hpke::{self, HpkeCiphertext, HpkePrivateKey};
use crate::crypto::{Digest, Secret, aead};
use crate::error::ensure;

const LABEL: &str = "Welcome";

/// Lets those whom a commit adds into the epoch that it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Cipher suite.
    pub cipher_suite: u16,
    /// The epoch's secrets, once for each new member.
    pub secrets: Vec<EncryptedGroupSecrets>,
    /// The GroupInfo, sealed under a key of the epoch.
    pub encrypted_group_info: Vec<u8>,
}

codec_struct!(Welcome { cipher_suite, secrets, encrypted_group_info });

impl Welcome {
    /// Seals a GroupInfo and, to each new member, its secrets.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] for an init key that nothing can be sealed to.
    pub fn seal<'a>(
        info: &GroupInfo,
        member: &MemberSecret,
        secrets: impl IntoIterator<Item = (&'a KeyPackage, GroupSecrets)>,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, Error> {
        let (key, nonce) = member.welcome_key()?;
        let encrypted_group_info = aead::seal(&key, &nonce, &[], &info.to_bytes())?;
        let secrets = secrets.into_iter();
        let (packages, plaintexts): (Vec<_>, Vec<_>) =
            secrets.map(|(package, it)| (package, Zeroizing::new(it.to_bytes()))).unzip();
        let items: Vec<_> = packages
            .iter()
            .zip(&plaintexts)
            .map(|(package, plaintext)| (&package.init_key, plaintext.as_slice()))
            .collect();
        let sealed = hpke::encrypt_all_with_label(&items, LABEL, &encrypted_group_info, rng)?;
        let secrets = packages.iter().zip(sealed).map(|(package, encrypted_group_secrets)| {
            EncryptedGroupSecrets { new_member: package.reference(), encrypted_group_secrets }
        });
        let secrets = secrets.collect();
        Ok(Self { cipher_suite: info.context.cipher_suite, secrets, encrypted_group_info })
    }

    /// Opens the secrets for a key package.
    ///
    /// # Errors
    /// [`Error::NotForUs`] if there are none, [`Error::Decryption`] if they do not open.
    pub fn open_secrets(
        &self,
        package: &KeyPackage,
        init: &HpkePrivateKey,
    ) -> Result<GroupSecrets, Error> {
        let reference = package.reference();
        let ours = self.secrets.iter().find(|secrets| secrets.new_member == reference);
        let sealed = &ours.ok_or(Error::NotForUs)?.encrypted_group_secrets;
        ensure(package.cipher_suite == self.cipher_suite, Error::Unsupported)?;
        let secrets = hpke::decrypt_with_label(init, LABEL, &self.encrypted_group_info, sealed)?;
        Ok(GroupSecrets::decode_exact(secrets.expose())?)
    }

    /// Opens the GroupInfo; its signature is still to be verified.
    ///
    /// # Errors
    /// [`Error::Decryption`].
    pub fn open_info(&self, member: &MemberSecret) -> Result<GroupInfo, Error> {
        let (key, nonce) = member.welcome_key()?;
        let info = aead::open(&key, &nonce, &[], &self.encrypted_group_info)?;
        Ok(GroupInfo::decode_exact(&info)?)
    }
}

/// The epoch's secrets for one new member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptedGroupSecrets {
    /// The reference of the new member's key package.
    pub new_member: Digest,
    /// [`GroupSecrets`], sealed to that package's init key.
    pub encrypted_group_secrets: HpkeCiphertext,
}

codec_struct!(EncryptedGroupSecrets { new_member, encrypted_group_secrets });

/// What a new member needs to derive the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSecrets {
    /// The joiner secret.
    pub joiner_secret: Secret,
    /// The path secret of the lowest node above both the committer and the new member.
    pub path_secret: Option<Secret>,
    /// The pre-shared keys of the commit.
    pub psks: Vec<PreSharedKeyId>,
}

codec_struct!(GroupSecrets { joiner_secret, path_secret, psks });
