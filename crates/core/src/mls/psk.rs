//! Pre-shared keys (RFC 9420 §8.4).

use super::Error;
use super::codec::{Encode, codec_enum, codec_struct};
use crate::crypto::{Secret, kdf};

/// What a resumption key is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumptionUsage {
    /// Anything the application wants.
    Application,
    /// Reinitialisation (§11.2).
    ReInit,
    /// Branching (§11.3).
    Branch,
}

codec_enum!(ResumptionUsage: u8 { 1 => Application, 2 => ReInit, 3 => Branch });

/// Which key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PskSource {
    /// One that the application provides.
    External {
        /// The application's name for it.
        psk_id: Vec<u8>,
    },
    /// One of an epoch's key schedule.
    Resumption {
        /// What for.
        usage: ResumptionUsage,
        /// The group.
        group_id: Vec<u8>,
        /// The epoch.
        epoch: u64,
    },
}

codec_enum!(PskSource: u8 {
    1 => External { psk_id },
    2 => Resumption { usage, group_id, epoch },
});

/// Names a pre-shared key and one use of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreSharedKeyId {
    /// Which key.
    pub source: PskSource,
    /// Random; makes each use another input.
    pub nonce: Vec<u8>,
}

codec_struct!(PreSharedKeyId { source, nonce });

/// `psk_secret`: chains the keys in the order in which they were proposed; zeros if there are none.
///
/// # Errors
/// [`Error::InvalidProposalList`] for more than 65,535 keys.
pub fn psk_secret(psks: &[(PreSharedKeyId, Secret)]) -> Result<Secret, Error> {
    let count = u16::try_from(psks.len()).map_err(|_| Error::InvalidProposalList)?;
    let zeros = [0; 32];
    let mut secret = Secret::zeros(32);
    for (index, (id, psk)) in (0..count).zip(psks) {
        let mut label = id.to_bytes();
        index.encode(&mut label);
        count.encode(&mut label);
        let extracted = kdf::extract(&zeros, psk.expose());
        let input = kdf::expand_with_label(&extracted, "derived psk", &label, 32)?;
        secret = kdf::extract(input.expose(), secret.expose());
    }
    Ok(secret)
}

/// `psk_secret` of these keys, which `find` knows.
///
/// # Errors
/// [`Error::MissingPsk`] if it does not.
pub fn gather(
    ids: &[PreSharedKeyId],
    find: &dyn Fn(&PskSource) -> Option<Secret>,
) -> Result<Secret, Error> {
    let psks = ids.iter().map(|id| Some((id.clone(), find(&id.source)?)));
    let psks: Option<Vec<_>> = psks.collect();
    psk_secret(&psks.ok_or(Error::MissingPsk)?)
}

/// Knows no pre-shared key.
pub fn none(_: &PskSource) -> Option<Secret> {
    None
}
