//! Message framing (RFC 9420 §6): what is said, by whom, and in which wrapper.

use super::PROTOCOL_VERSION;
pub mod private;
mod public;

use super::codec::{Decode, Encode, Malformed, Reader, codec_enum, codec_struct};
use super::commit::Commit;
use super::group_info::GroupInfo;
use super::key_package::KeyPackage;
use super::proposal::Proposal;
use super::tree_math::LeafIndex;
use super::welcome::Welcome;
use crate::crypto::Digest;
use crate::error::ensure;

/// The wrapper that a signature is made for (§17.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireFormat {
    /// Signed, readable.
    PublicMessage,
    /// Signed and encrypted.
    PrivateMessage,
}

codec_enum!(WireFormat: u16 { 1 => PublicMessage, 2 => PrivateMessage });

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The member at a leaf.
    Member(LeafIndex),
    /// An entry of the `external_senders` extension.
    External(u32),
    /// Somebody who asks to be added.
    NewMemberProposal,
    /// Somebody who joins by external commit.
    NewMemberCommit,
}

codec_enum!(Sender: u8 {
    1 => Member(leaf),
    2 => External(index),
    3 => NewMemberProposal,
    4 => NewMemberCommit,
});

/// What a message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// The application's bytes.
    Application,
    /// A proposal.
    Proposal,
    /// A commit.
    Commit,
}

codec_enum!(ContentType: u8 { 1 => Application, 2 => Proposal, 3 => Commit });

/// The body of a message.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// The application's bytes.
    Application(Vec<u8>),
    /// A proposal.
    Proposal(Proposal),
    /// A commit.
    Commit(Box<Commit>),
}

impl Content {
    /// The type's code point.
    pub fn content_type(&self) -> ContentType {
        match self {
            Self::Application(_) => ContentType::Application,
            Self::Proposal(_) => ContentType::Proposal,
            Self::Commit(_) => ContentType::Commit,
        }
    }

    /// Encodes the body without its type.
    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Application(data) => data.encode(out),
            Self::Proposal(proposal) => proposal.encode(out),
            Self::Commit(commit) => commit.encode(out),
        }
    }

    /// Decodes a body of this type.
    pub(super) fn decode_body(
        content_type: ContentType,
        reader: &mut Reader<'_>,
    ) -> Result<Self, Malformed> {
        match content_type {
            ContentType::Application => Decode::decode(reader).map(Self::Application),
            ContentType::Proposal => Decode::decode(reader).map(Self::Proposal),
            ContentType::Commit => Decode::decode(reader).map(Self::Commit),
        }
    }
}

impl core::fmt::Debug for Content {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Application(_) => f.write_str("Application(..)"),
            Self::Proposal(proposal) => f.debug_tuple("Proposal").field(proposal).finish(),
            Self::Commit(commit) => f.debug_tuple("Commit").field(commit).finish(),
        }
    }
}

impl Encode for Content {
    fn encode(&self, out: &mut Vec<u8>) {
        self.content_type().encode(out);
        self.encode_body(out);
    }
}

impl Decode for Content {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let content_type = ContentType::decode(reader)?;
        Self::decode_body(content_type, reader)
    }
}

/// A body with its sender and place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramedContent {
    /// The group.
    pub group_id: Vec<u8>,
    /// The epoch in which it was sent.
    pub epoch: u64,
    /// Who sends.
    pub sender: Sender,
    /// Bytes of the application that are signed but not encrypted.
    pub authenticated_data: Vec<u8>,
    /// The body.
    pub content: Content,
}

codec_struct!(FramedContent { group_id, epoch, sender, authenticated_data, content });

/// What authenticates a body (§6.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramedContentAuthData {
    /// Covers the content and the wire format.
    pub signature: Vec<u8>,
    /// Covers the new epoch; commits have one, other bodies none.
    pub confirmation_tag: Option<Digest>,
}

impl FramedContentAuthData {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.signature.encode(out);
        if let Some(tag) = &self.confirmation_tag {
            tag.encode(out);
        }
    }

    pub(super) fn decode(
        content_type: ContentType,
        reader: &mut Reader<'_>,
    ) -> Result<Self, Malformed> {
        let signature = Decode::decode(reader)?;
        let confirmation_tag = match content_type {
            ContentType::Commit => Some(Digest::decode(reader)?),
            ContentType::Application | ContentType::Proposal => None,
        };
        Ok(Self { signature, confirmation_tag })
    }
}

/// A body with what authenticates it, whatever the wrapper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthenticatedContent {
    /// The wrapper that it was signed for.
    pub wire_format: WireFormat,
    /// The body.
    pub content: FramedContent,
    /// What authenticates it.
    pub auth: FramedContentAuthData,
}

impl Encode for AuthenticatedContent {
    fn encode(&self, out: &mut Vec<u8>) {
        self.wire_format.encode(out);
        self.content.encode(out);
        self.auth.encode(out);
    }
}

impl Decode for AuthenticatedContent {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let wire_format = WireFormat::decode(reader)?;
        let content = FramedContent::decode(reader)?;
        let auth = FramedContentAuthData::decode(content.content.content_type(), reader)?;
        Ok(Self { wire_format, content, auth })
    }
}

/// A message that is signed but readable (§6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicMessage {
    /// The body.
    pub content: FramedContent,
    /// What authenticates it.
    pub auth: FramedContentAuthData,
    /// Proves membership; members have one, others none.
    pub membership_tag: Option<Digest>,
}

impl Encode for PublicMessage {
    fn encode(&self, out: &mut Vec<u8>) {
        self.content.encode(out);
        self.auth.encode(out);
        if let Some(tag) = &self.membership_tag {
            tag.encode(out);
        }
    }
}

impl Decode for PublicMessage {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let content = FramedContent::decode(reader)?;
        let auth = FramedContentAuthData::decode(content.content.content_type(), reader)?;
        let membership_tag = match content.sender {
            Sender::Member(_) => Some(Digest::decode(reader)?),
            Sender::External(_) | Sender::NewMemberProposal | Sender::NewMemberCommit => None,
        };
        Ok(Self { content, auth, membership_tag })
    }
}

/// A message that is signed and encrypted (§6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateMessage {
    /// The group.
    pub group_id: Vec<u8>,
    /// The epoch in which it was sent.
    pub epoch: u64,
    /// What it holds.
    pub content_type: ContentType,
    /// Bytes of the application that are signed but not encrypted.
    pub authenticated_data: Vec<u8>,
    /// Leaf and generation of the sender, encrypted.
    pub encrypted_sender_data: Vec<u8>,
    /// The body, encrypted.
    pub ciphertext: Vec<u8>,
}

codec_struct!(PrivateMessage {
    group_id,
    epoch,
    content_type,
    authenticated_data,
    encrypted_sender_data,
    ciphertext,
});

/// Anything that travels (`MLSMessage`, §6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MlsMessage {
    /// `mls_public_message`
    Public(Box<PublicMessage>),
    /// `mls_private_message`
    Private(PrivateMessage),
    /// `mls_welcome`
    Welcome(Welcome),
    /// `mls_group_info`
    GroupInfo(Box<GroupInfo>),
    /// `mls_key_package`
    KeyPackage(Box<KeyPackage>),
}

impl Encode for MlsMessage {
    fn encode(&self, out: &mut Vec<u8>) {
        let (wire_format, message): (u16, &dyn Encode) = match self {
            Self::Public(message) => (1, message),
            Self::Private(message) => (2, message),
            Self::Welcome(welcome) => (3, welcome),
            Self::GroupInfo(info) => (4, info),
            Self::KeyPackage(package) => (5, package),
        };
        (PROTOCOL_VERSION, wire_format).encode(out);
        message.encode(out);
    }
}

impl Decode for MlsMessage {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.expect(&PROTOCOL_VERSION)?;
        match u16::decode(reader)? {
            1 => Decode::decode(reader).map(Self::Public),
            2 => Decode::decode(reader).map(Self::Private),
            3 => Decode::decode(reader).map(Self::Welcome),
            4 => Decode::decode(reader).map(Self::GroupInfo),
            5 => {
                let package: Box<KeyPackage> = Decode::decode(reader)?;
                ensure(package.version == PROTOCOL_VERSION, Malformed)?;
                Ok(Self::KeyPackage(package))
            }
            _ => Err(Malformed),
        }
    }
}
