//! States: tree and GroupInfo after one commit, from which a newcomer folds; and the GroupInfo that
//! every reader rebuilds.

use super::context::{CONTEXT, ContextExtension, RULES, RULES_BASE};
use super::entry::Tail;
use super::reading::SkipReason;
use crate::error::ensure;
use crate::id::ConversationId;
use crate::mls::codec::{Decode, Encode, Malformed, codec_struct};
use crate::mls::credential::CredentialType;
use crate::mls::extension::{
    Extension, ExtensionType, Extensions, ExternalPub, RequiredCapabilities,
};
use crate::mls::group_info::{GroupContext, GroupInfo};
use crate::mls::tree::RatchetTree;

/// Code point of `next` in a GroupInfo.
pub const NEXT: u16 = 0xF0C0;

const VERSION: u8 = 1;

/// Tree and signed GroupInfo after one commit that counted, or of epoch 0.
#[derive(Clone, Debug)]
pub struct State {
    pub(super) info: GroupInfo,
    pub(super) tree: RatchetTree,
}

codec_struct!(State { = VERSION; info, tree });

impl State {
    /// The bytes that are sealed beside a commit or as a log's opening state.
    pub fn encode(&self) -> Vec<u8> {
        self.to_bytes()
    }

    /// Reads a state; whether it is true shows when it is folded.
    ///
    /// # Errors
    /// [`Malformed`] bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::decode_exact(bytes)
    }

    /// The epoch that the state says it is of.
    pub fn epoch(&self) -> u64 {
        self.info.context.epoch
    }

    /// The conversation that the state says it is of.
    pub fn conversation(&self) -> Option<ConversationId> {
        conversation_id(&self.info.context)
    }
}

pub(super) fn conversation_id(context: &GroupContext) -> Option<ConversationId> {
    let id = context.group_id.as_slice().try_into().ok()?;
    Some(ConversationId::from_bytes(id))
}

/// The GroupContext extensions of a conversation: `required_capabilities` and ours, nothing else.
pub(super) fn group_extensions(context: &ContextExtension) -> Extensions {
    let required = RequiredCapabilities {
        extensions: vec![
            ExtensionType(CONTEXT),
            ExtensionType(RULES_BASE.saturating_add(context.rules)),
        ],
        proposals: Vec::new(),
        credentials: vec![CredentialType::BASIC],
    };
    two_extensions(
        Extension::new(ExtensionType::REQUIRED_CAPABILITIES, &required),
        Extension::new(ExtensionType(CONTEXT), context),
    )
}

/// Reads our context out of GroupContext extensions, which must be exactly as we write them.
pub(super) fn read_extensions(extensions: &Extensions) -> Result<ContextExtension, SkipReason> {
    let context = extensions.parsed::<ContextExtension>(ExtensionType(CONTEXT));
    let context = context.ok().flatten().ok_or(SkipReason::Context)?;
    let is_ours = context.rules == RULES && group_extensions(&context) == *extensions;
    ensure(is_ours, SkipReason::Context)?;
    Ok(context)
}

/// The extensions of a GroupInfo: `external_pub` and `next`, nothing else.
pub(super) fn info_extensions(tail: &Tail) -> Extensions {
    two_extensions(
        Extension::new(ExtensionType::EXTERNAL_PUB, &ExternalPub(tail.external_pub.clone())),
        Extension::new(ExtensionType(NEXT), &tail.next),
    )
}

/// The tail in a GroupInfo whose extensions are exactly ours.
pub(super) fn tail_of(info: &GroupInfo) -> Option<Tail> {
    let ExternalPub(external_pub) = info.extensions.parsed(ExtensionType::EXTERNAL_PUB).ok()??;
    let tail = Tail {
        external_pub,
        next: info.extensions.parsed(ExtensionType(NEXT)).ok()??,
        signature: info.signature.clone(),
    };
    tail.external_pub.check().ok()?;
    (info_extensions(&tail) == info.extensions).then_some(tail)
}

fn two_extensions(first: Extension, second: Extension) -> Extensions {
    // Two different types can't repeat one.
    Extensions::new(vec![first, second]).unwrap_or_default()
}
