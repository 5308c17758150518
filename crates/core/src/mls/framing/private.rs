//! Encrypting and decrypting messages (RFC 9420 §6.3).

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::{
    AuthenticatedContent, Content, FramedContent, FramedContentAuthData, PrivateMessage, Sender,
    WireFormat,
};
use crate::crypto::{Secret, aead, kdf};
use crate::error::ensure;
use crate::mls::Error;
use crate::mls::codec::{Decode, Encode, Reader, codec_struct};
use crate::mls::secret_tree::MessageKey;
use crate::mls::tree_math::LeafIndex;

const SAMPLE_LEN: usize = 32;

/// Where a message's key is found (§6.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderData {
    /// The sender's leaf.
    pub leaf_index: LeafIndex,
    /// The step of the sender's ratchet.
    pub generation: u32,
    /// Random; keeps nonces apart should a ratchet ever be used twice.
    pub reuse_guard: [u8; 4],
}

codec_struct!(SenderData { leaf_index, generation, reuse_guard });

impl PrivateMessage {
    /// Encrypts signed content of a member under the next key of its ratchet.
    ///
    /// # Errors
    /// [`Error::InvalidSender`] if the sender is no member, [`Error::Exhausted`] if the content is
    /// too long.
    pub fn protect(
        content: &FramedContent,
        auth: &FramedContentAuthData,
        key: &MessageKey,
        sender_data_secret: &Secret,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, Error> {
        let Sender::Member(leaf_index) = content.sender else {
            return Err(Error::InvalidSender);
        };
        // Growing would leave copies of the plaintext behind.
        let len = match &content.content {
            Content::Application(data) => data.len(),
            Content::Proposal(_) | Content::Commit(_) => 0,
        };
        let mut plaintext = Zeroizing::new(Vec::with_capacity(len + 256));
        content.content.encode_body(&mut plaintext);
        auth.encode(&mut plaintext);
        let mut message = Self {
            group_id: content.group_id.clone(),
            epoch: content.epoch,
            content_type: content.content.content_type(),
            authenticated_data: content.authenticated_data.clone(),
            encrypted_sender_data: Vec::new(),
            ciphertext: Vec::new(),
        };
        let mut reuse_guard = [0; 4];
        rng.fill_bytes(&mut reuse_guard);
        let nonce = guarded(&key.nonce, reuse_guard);
        message.ciphertext = aead::seal(&key.key, &nonce, &message.content_aad(), &plaintext)?;
        let sender_data = SenderData { leaf_index, generation: key.generation, reuse_guard };
        let (key, nonce) = sender_data_key(sender_data_secret, &message.ciphertext)?;
        let aad = message.sender_data_aad();
        message.encrypted_sender_data = aead::seal(&key, &nonce, &aad, &sender_data.to_bytes())?;
        Ok(message)
    }

    /// Reads where the message's key is found.
    ///
    /// Any member can write any leaf and generation here; nothing may move before the content's
    /// signature has been verified.
    ///
    /// # Errors
    /// [`Error::Decryption`].
    pub fn sender_data(&self, sender_data_secret: &Secret) -> Result<SenderData, Error> {
        let (key, nonce) = sender_data_key(sender_data_secret, &self.ciphertext)?;
        let aad = self.sender_data_aad();
        let bytes = aead::open(&key, &nonce, &aad, &self.encrypted_sender_data)?;
        SenderData::decode_exact(&bytes).map_err(|_| Error::Decryption)
    }

    /// Decrypts the content; its signature is still to be verified.
    ///
    /// # Errors
    /// [`Error::Decryption`].
    pub fn open(
        &self,
        sender_data: SenderData,
        key: &MessageKey,
    ) -> Result<AuthenticatedContent, Error> {
        let nonce = guarded(&key.nonce, sender_data.reuse_guard);
        let plaintext = aead::open(&key.key, &nonce, &self.content_aad(), &self.ciphertext)?;
        let mut reader = Reader::new(&plaintext);
        let content =
            Content::decode_body(self.content_type, &mut reader).map_err(|_| Error::Decryption)?;
        let auth = FramedContentAuthData::decode(self.content_type, &mut reader)
            .map_err(|_| Error::Decryption)?;
        ensure(reader.rest().iter().all(|padding| *padding == 0), Error::Decryption)?;
        Ok(AuthenticatedContent {
            wire_format: WireFormat::PrivateMessage,
            content: FramedContent {
                group_id: self.group_id.clone(),
                epoch: self.epoch,
                sender: Sender::Member(sender_data.leaf_index),
                authenticated_data: self.authenticated_data.clone(),
                content,
            },
            auth,
        })
    }

    fn sender_data_aad(&self) -> Vec<u8> {
        let mut aad = Vec::with_capacity(64);
        self.group_id.encode(&mut aad);
        self.epoch.encode(&mut aad);
        self.content_type.encode(&mut aad);
        aad
    }

    fn content_aad(&self) -> Vec<u8> {
        let mut aad = self.sender_data_aad();
        self.authenticated_data.encode(&mut aad);
        aad
    }
}

/// The key and nonce that encrypt the sender data of a ciphertext (§6.3.2).
///
/// # Errors
/// Only for a secret of the wrong length.
pub fn sender_data_key(
    secret: &Secret,
    ciphertext: &[u8],
) -> Result<(Secret, [u8; aead::NONCE_LEN]), Error> {
    let sample = ciphertext.get(..SAMPLE_LEN).unwrap_or(ciphertext);
    let key = kdf::expand_with_label(secret, "key", sample, aead::KEY_LEN)?;
    let nonce = kdf::expand_with_label(secret, "nonce", sample, aead::NONCE_LEN)?;
    Ok((key, *nonce.expose_array().ok_or(Error::Internal)?))
}

fn guarded(nonce: &[u8; aead::NONCE_LEN], reuse_guard: [u8; 4]) -> [u8; aead::NONCE_LEN] {
    let mut nonce = *nonce;
    for (byte, guard) in nonce.iter_mut().zip(reuse_guard) {
        *byte ^= guard;
    }
    nonce
}
