//! Proposals (RFC 9420 §12.1).

use super::codec::{codec_enum, codec_newtype, codec_struct};
use super::extension::Extensions;
use super::key_package::KeyPackage;
use super::leaf_node::LeafNode;
use super::psk::PreSharedKeyId;
use super::tree_math::LeafIndex;
use crate::crypto::Digest;

/// The code point of a proposal type (§17.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalType(pub u16);

codec_newtype!(ProposalType);

impl ProposalType {
    /// `add`
    pub const ADD: Self = Self(1);
    /// `update`
    pub const UPDATE: Self = Self(2);
    /// `remove`
    pub const REMOVE: Self = Self(3);
    /// `psk`
    pub const PSK: Self = Self(4);
    /// `reinit`
    pub const REINIT: Self = Self(5);
    /// `external_init`
    pub const EXTERNAL_INIT: Self = Self(6);
    /// `group_context_extensions`
    pub const GROUP_CONTEXT_EXTENSIONS: Self = Self(7);

    /// Whether every client speaks it without listing it (§7.2).
    #[must_use]
    pub fn is_default(self) -> bool {
        (1..=7).contains(&self.0)
    }

    /// Whether a commit of it needs a path (§12.4).
    #[must_use]
    pub fn requires_path(self) -> bool {
        !matches!(self, Self::ADD | Self::PSK | Self::REINIT)
    }
}

/// A change to the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// Adds a client.
    Add(Box<KeyPackage>),
    /// Replaces the proposer's leaf.
    Update(Box<LeafNode>),
    /// Removes a leaf.
    Remove(LeafIndex),
    /// Injects a pre-shared key.
    PreSharedKey(PreSharedKeyId),
    /// Ends the group in favour of a new one.
    ReInit(ReInit),
    /// Carries the KEM output of an external commit.
    ExternalInit {
        /// Encapsulates the init secret.
        kem_output: Vec<u8>,
    },
    /// Replaces the group context's extensions.
    GroupContextExtensions(Extensions),
}

/// The parameters of the group that follows a ReInit (§12.1.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReInit {
    /// Its id.
    pub group_id: Vec<u8>,
    /// Its protocol version.
    pub version: u16,
    /// Its cipher suite.
    pub cipher_suite: u16,
    /// Its extensions.
    pub extensions: Extensions,
}

codec_struct!(ReInit { group_id, version, cipher_suite, extensions });

impl Proposal {
    /// The type's code point.
    pub fn proposal_type(&self) -> ProposalType {
        match self {
            Self::Add(_) => ProposalType::ADD,
            Self::Update(_) => ProposalType::UPDATE,
            Self::Remove(_) => ProposalType::REMOVE,
            Self::PreSharedKey(_) => ProposalType::PSK,
            Self::ReInit(_) => ProposalType::REINIT,
            Self::ExternalInit { .. } => ProposalType::EXTERNAL_INIT,
            Self::GroupContextExtensions(_) => ProposalType::GROUP_CONTEXT_EXTENSIONS,
        }
    }
}

// A proposal of unknown type has unknown length, so that nothing can be read past it.
codec_enum!(Proposal: u16 {
    1 => Add(package),
    2 => Update(leaf),
    3 => Remove(index),
    4 => PreSharedKey(id),
    5 => ReInit(reinit),
    6 => ExternalInit { kem_output },
    7 => GroupContextExtensions(extensions),
});

/// A proposal inside a commit, or the hash of one that was sent before (§12.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProposalOrRef {
    /// The proposal itself.
    Proposal(Proposal),
    /// `ProposalRef`: the hash of the message that carried it.
    Reference(Digest),
}

codec_enum!(ProposalOrRef: u8 { 1 => Proposal(proposal), 2 => Reference(reference) });
