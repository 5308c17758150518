//! Signing, tagging and checking messages (RFC 9420 §§6.1 and 6.2).

use super::{
    AuthenticatedContent, ContentType, FramedContent, FramedContentAuthData, PublicMessage, Sender,
    WireFormat,
};
use crate::crypto::signature::{SignatureKey, SignaturePublicKey, Signed};
use crate::crypto::{Digest, Secret, kdf};
use crate::error::ensure;
use crate::mls::codec::Encode;
use crate::mls::group_info::GroupContext;
use crate::mls::{Error, PROTOCOL_VERSION};

const LABEL: &str = "FramedContentTBS";

impl FramedContent {
    /// `FramedContentTBS`; the context counts for members and those who join by commit.
    pub fn to_be_signed(&self, wire_format: WireFormat, context: &GroupContext) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        PROTOCOL_VERSION.encode(&mut out);
        wire_format.encode(&mut out);
        self.encode(&mut out);
        match self.sender {
            Sender::Member(_) | Sender::NewMemberCommit => context.encode(&mut out),
            Sender::External(_) | Sender::NewMemberProposal => {}
        }
        out
    }

    /// Signs the content for a wire format.
    pub fn sign(
        &self,
        wire_format: WireFormat,
        context: &GroupContext,
        key: &SignatureKey,
    ) -> Vec<u8> {
        key.sign_with_label(LABEL, &self.to_be_signed(wire_format, context))
    }
}

impl PublicMessage {
    /// Wraps signed content; a member's gets its membership tag.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for application content, which never travels readable (§6).
    pub fn protect(
        content: FramedContent,
        auth: FramedContentAuthData,
        membership_key: &Secret,
        context: &GroupContext,
    ) -> Result<Self, Error> {
        ensure(content.content.content_type() != ContentType::Application, Error::Unsupported)?;
        let mut message = Self { content, auth, membership_tag: None };
        if matches!(message.content.sender, Sender::Member(_)) {
            let tag = kdf::mac(membership_key, &[&message.to_be_tagged(context)]);
            message.membership_tag = Some(tag);
        }
        Ok(message)
    }

    /// Checks the membership tag, if the sender is a member.
    ///
    /// # Errors
    /// [`Error::InvalidMembershipTag`].
    pub fn verify_membership_tag(
        &self,
        membership_key: &Secret,
        context: &GroupContext,
    ) -> Result<(), Error> {
        let fits = match (self.content.sender, &self.membership_tag) {
            (Sender::Member(_), Some(Digest(tag))) => {
                kdf::mac_matches(membership_key, &[&self.to_be_tagged(context)], tag)
            }
            (Sender::Member(_), None) | (_, Some(_)) => false,
            (_, None) => true,
        };
        ensure(fits, Error::InvalidMembershipTag)
    }

    /// The content with what authenticates it, without the wrapper.
    pub fn authenticated(&self) -> AuthenticatedContent {
        AuthenticatedContent {
            wire_format: WireFormat::PublicMessage,
            content: self.content.clone(),
            auth: self.auth.clone(),
        }
    }

    /// `AuthenticatedContentTBM`.
    fn to_be_tagged(&self, context: &GroupContext) -> Vec<u8> {
        let mut out = self.content.to_be_signed(WireFormat::PublicMessage, context);
        self.auth.encode(&mut out);
        out
    }
}

impl AuthenticatedContent {
    /// The signature as a member of a batch.
    pub fn signed<'a>(&'a self, context: &GroupContext, key: &'a SignaturePublicKey) -> Signed<'a> {
        Signed {
            key,
            label: LABEL,
            content: self.content.to_be_signed(self.wire_format, context),
            signature: &self.auth.signature,
        }
    }

    /// Verifies the signature with the sender's key.
    ///
    /// # Errors
    /// [`Error::InvalidSignature`] or [`Error::InvalidKey`].
    pub fn verify_signature(
        &self,
        context: &GroupContext,
        key: &SignaturePublicKey,
    ) -> Result<(), Error> {
        Ok(self.signed(context, key).verify()?)
    }

    /// `ProposalRef` (§5.2) of a message that carries a proposal.
    pub fn proposal_reference(&self) -> Digest {
        kdf::ref_hash("MLS 1.0 Proposal Reference", &self.to_bytes())
    }
}
