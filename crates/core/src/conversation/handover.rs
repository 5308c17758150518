//! Handover: the entry that closes a log and moves the group to the next one.

use crate::crypto::signature::{SignatureKey, SignaturePublicKey};
use crate::id::{ConversationId, LogId};
use crate::mls::codec::{Encode, codec_struct};
use crate::mls::tree_math::LeafIndex;

const LABEL: &str = "corncrake handover";

/// Confirms the newest commit of a log and closes the log.
///
/// It counts if it names the newest commit that counts at its position, that commit lies in this
/// log, and its signer's leaf stands in the tree, the signer's account being neither on `leaving`
/// nor the account of that commit's author (unless the tree holds only one account).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    pub(super) place: Place,
    signature: Vec<u8>,
}

codec_struct!(Handover { place, signature });

/// What a handover confirms, and who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) group: ConversationId,
    pub(super) log: LogId,
    pub(super) epoch: u64,
    pub(super) transcript: [u8; 32],
    pub(super) leaf: LeafIndex,
}

codec_struct!(Place { group, log, epoch, transcript, leaf });

impl Handover {
    pub(super) fn sign(place: Place, key: &SignatureKey) -> Self {
        let signature = key.sign_with_label(LABEL, &place.to_bytes());
        Self { place, signature }
    }

    pub(super) fn is_signed_by(&self, key: &SignaturePublicKey) -> bool {
        let content = self.place.to_bytes();
        key.verify_with_label(LABEL, &content, &self.signature).is_ok()
    }
}
