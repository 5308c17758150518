//! Welcome messages (RFC 9420 §12.4.3.1).

use super::codec::codec_struct;
use super::psk::PreSharedKeyId;
use crate::crypto::hpke::HpkeCiphertext;
use crate::crypto::{Digest, Secret};

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

codec_struct!(Welcome {
    cipher_suite,
    secrets,
    encrypted_group_info
});

/// The epoch's secrets for one new member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptedGroupSecrets {
    /// The reference of the new member's key package.
    pub new_member: Digest,
    /// [`GroupSecrets`], sealed to that package's init key.
    pub encrypted_group_secrets: HpkeCiphertext,
}

codec_struct!(EncryptedGroupSecrets {
    new_member,
    encrypted_group_secrets
});

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

codec_struct!(GroupSecrets {
    joiner_secret,
    path_secret,
    psks
});
