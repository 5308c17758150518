//! Proposals (RFC 9420 §12.1).

use super::codec::{Decode, Encode, Malformed, Reader, codec_newtype, codec_struct};
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
    #[must_use]
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

impl Encode for Proposal {
    fn encode(&self, out: &mut Vec<u8>) {
        self.proposal_type().encode(out);
        match self {
            Self::Add(package) => package.encode(out),
            Self::Update(leaf) => leaf.encode(out),
            Self::Remove(index) => index.encode(out),
            Self::PreSharedKey(id) => id.encode(out),
            Self::ReInit(reinit) => reinit.encode(out),
            Self::ExternalInit { kem_output } => kem_output.encode(out),
            Self::GroupContextExtensions(extensions) => extensions.encode(out),
        }
    }
}

impl Decode for Proposal {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match ProposalType::decode(reader)? {
            ProposalType::ADD => Self::Add(Decode::decode(reader)?),
            ProposalType::UPDATE => Self::Update(Decode::decode(reader)?),
            ProposalType::REMOVE => Self::Remove(Decode::decode(reader)?),
            ProposalType::PSK => Self::PreSharedKey(Decode::decode(reader)?),
            ProposalType::REINIT => Self::ReInit(Decode::decode(reader)?),
            ProposalType::EXTERNAL_INIT => {
                Self::ExternalInit { kem_output: Decode::decode(reader)? }
            }
            ProposalType::GROUP_CONTEXT_EXTENSIONS => {
                Self::GroupContextExtensions(Decode::decode(reader)?)
            }
            // A proposal of unknown type has unknown length.
            _ => return Err(Malformed),
        })
    }
}

/// A proposal inside a commit, or the hash of one that was sent before (§12.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProposalOrRef {
    /// The proposal itself.
    Proposal(Proposal),
    /// `ProposalRef`: the hash of the message that carried it.
    Reference(Digest),
}

impl Encode for ProposalOrRef {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Proposal(proposal) => {
                out.push(1);
                proposal.encode(out);
            }
            Self::Reference(reference) => {
                out.push(2);
                reference.encode(out);
            }
        }
    }
}

impl Decode for ProposalOrRef {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match u8::decode(reader)? {
            1 => Proposal::decode(reader).map(Self::Proposal),
            2 => Digest::decode(reader).map(Self::Reference),
            _ => Err(Malformed),
        }
    }
}
