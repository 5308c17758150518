use super::{IdentityError, IdentityKey, MAX_KEYS, SIGNATURE_LENGTH, account_id};
use crate::crypto::signature::{SignaturePublicKey, Signed, verify_batch};
use crate::error::ensure;
use crate::id::AccountId;
use crate::mls::codec::{Decode, Encode, Reader, codec_struct};

const LABEL: &str = "corncrake identity key";

/// The identity keys of an account, each signed by the one before it.
///
/// ```text
/// struct {
///     opaque key[32];
///     opaque signature[64];  /* by the key before: SignWithLabel("corncrake identity key",
///                               account id, key before, this key) */
/// } Link;
///
/// struct {
///     opaque first[32];
///     Link links<V>;         /* at most 15 */
/// } KeyChain;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChain {
    first: SignaturePublicKey,
    links: Vec<Link>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    key: [u8; 32],
    signature: [u8; SIGNATURE_LENGTH],
}

codec_struct!(Link { key, signature });

/// A chain as received, before its signatures are verified.
#[derive(Clone, Debug)]
pub(super) struct UnverifiedChain {
    keys: Vec<SignaturePublicKey>,
    chain: KeyChain,
}

impl KeyChain {
    /// The chain of a new account.
    pub fn begin(first: &IdentityKey) -> Self {
        Self { first: first.public(), links: Vec::new() }
    }

    /// This chain with `next` behind its newest key `current`.
    ///
    /// # Errors
    /// [`IdentityError::NotCurrentKey`] or [`IdentityError::ChainTooLong`].
    pub fn extend(&self, current: &IdentityKey, next: &IdentityKey) -> Result<Self, IdentityError> {
        ensure(current.public() == self.current_key(), IdentityError::NotCurrentKey)?;
        ensure(self.links.len() + 2 <= MAX_KEYS, IdentityError::ChainTooLong)?;
        let content = link_content(&self.first, &current.public(), &next.public());
        let signature = current.sign(LABEL, &content);
        let signature = signature.try_into().map_err(|_| IdentityError::InvalidSignature)?;
        let mut chain = self.clone();
        chain.links.push(Link { key: *next.public().as_bytes(), signature });
        Ok(chain)
    }

    /// The account that these are the keys of.
    pub fn account_id(&self) -> AccountId {
        account_id(&self.first)
    }

    /// The newest key, which signs.
    pub fn current_key(&self) -> SignaturePublicKey {
        match self.links.last() {
            Some(link) => SignaturePublicKey::from_bytes(link.key),
            None => self.first.clone(),
        }
    }

    /// Whether this chain is `earlier` with no, one or more keys behind it. Two chains of one
    /// account of which neither extends the other are a break.
    #[must_use]
    pub fn extends(&self, earlier: &Self) -> bool {
        let keys = |chain: &Self| chain.links.iter().map(|link| link.key).collect::<Vec<_>>();
        self.first == earlier.first && keys(self).starts_with(&keys(earlier))
    }

    /// Decodes and verifies a chain that stands by itself.
    ///
    /// # Errors
    /// [`IdentityError`] of form, length or signature.
    pub fn verify(bytes: &[u8]) -> Result<Self, IdentityError> {
        let mut reader = Reader::new(bytes);
        let unverified = UnverifiedChain::read(&mut reader)?;
        reader.finish()?;
        verify_batch(&unverified.signed())?;
        Ok(unverified.into_verified())
    }
}

impl Encode for KeyChain {
    fn encode(&self, out: &mut Vec<u8>) {
        self.first.as_bytes().encode(out);
        self.links.encode(out);
    }
}

impl UnverifiedChain {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, IdentityError> {
        let first = SignaturePublicKey::from_bytes(reader.array()?);
        let links = Vec::<Link>::decode(reader)?;
        ensure(links.len() < MAX_KEYS, IdentityError::ChainTooLong)?;
        let later = links.iter().map(|link| SignaturePublicKey::from_bytes(link.key));
        let keys = core::iter::once(first.clone()).chain(later).collect();
        Ok(Self { keys, chain: KeyChain { first, links } })
    }

    /// The signatures of the links, for a batch.
    fn signed(&self) -> Vec<Signed<'_>> {
        let mut signed = Vec::with_capacity(self.chain.links.len());
        for (pair, link) in self.keys.windows(2).zip(&self.chain.links) {
            let [key, next] = pair else { continue };
            let content = link_content(&self.chain.first, key, next);
            signed.push(Signed { key, label: LABEL, content, signature: &link.signature });
        }
        signed
    }

    /// These, and the newest key's signature, which stands at the end of what it signs.
    pub(super) fn signed_with<'a>(
        &'a self,
        label: &'static str,
        bytes: &'a [u8],
    ) -> Vec<Signed<'a>> {
        let (content, signature) = bytes.split_at(bytes.len().saturating_sub(SIGNATURE_LENGTH));
        let (key, content) = (self.keys.last().unwrap_or(&self.chain.first), content.to_vec());
        let mut signed = self.signed();
        signed.push(Signed { key, label, content, signature });
        signed
    }

    pub(super) fn account_id(&self) -> AccountId {
        self.chain.account_id()
    }

    /// To be called once the signatures have been verified.
    pub(super) fn into_verified(self) -> KeyChain {
        self.chain
    }
}

fn link_content(
    first: &SignaturePublicKey,
    before: &SignaturePublicKey,
    next: &SignaturePublicKey,
) -> Vec<u8> {
    [*account_id(first).as_bytes(), *before.as_bytes(), *next.as_bytes()].concat()
}
