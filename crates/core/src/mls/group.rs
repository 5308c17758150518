//! A member's view of a group: the public state and the secrets (RFC 9420 §§8, 9, 11, 12, 15).
//!
//! A [`Group`] begins with [`Group::create`], with a Welcome ([`OpenedWelcome`]) or with an external
//! commit ([`Group::join_external`]). From then on it lives from epoch to epoch:
//!
//! - another member's commit is verified and staged by the [`PublicGroup`], finished by
//!   [`Group::finish`] and merged by [`Group::merge`];
//! - an own commit is made by [`Group::commit`], saved as a [`PendingCommit`], and merged by
//!   [`Group::merge_pending`] once it stands in the log;
//! - in between, [`Group::encrypt`] and [`Group::decrypt`] carry the application's bytes.
//!
//! After each step, [`Group::take_changes`] says which parts to save.

use std::collections::BTreeSet;

use rand_core::CryptoRng;

use super::codec::Encode;
use super::extension::Extensions;
use super::framing::{
    AuthenticatedContent, Content, ContentType, FramedContent, FramedContentAuthData, MlsMessage,
    PrivateMessage, Sender, WireFormat,
};
use super::group_info::GroupContext;
use super::key_schedule::{EpochSecrets, NewEpoch};
use super::leaf_node::LeafNode;
use super::public_group::PublicGroup;
use super::secret_tree::{RatchetKind, SecretTree, Step};
use super::tree_math::LeafIndex;
use super::treekem::TreeKeys;
use super::{Error, PartId};
use crate::crypto::hpke::{HpkePrivateKey, HpkePublicKey};
use crate::crypto::signature::SignatureKey;
use crate::crypto::{Secret, Suite};
use crate::error::ensure;

mod commit;
mod finish;
mod join;
mod save;
#[cfg(test)]
mod tests;

pub use commit::{CommitPlan, PathChoice, PendingCommit};
pub use finish::{StagedCommit, Unfinished};
pub use join::{ExternalJoin, OpenedWelcome};

/// A group that we are a member of.
///
/// ```
/// # use corncrake_core::crypto::{Suite, signature::SignatureKey};
/// # use corncrake_core::mls::codec::Decode;
/// # use corncrake_core::mls::credential::Credential;
/// # use corncrake_core::mls::extension::Extensions;
/// # use corncrake_core::mls::framing::MlsMessage;
/// # use corncrake_core::mls::group::{CommitPlan, Group, OpenedWelcome};
/// # use corncrake_core::mls::key_package::{KeyPackage, KeyPackageContent};
/// # use corncrake_core::mls::leaf_node::{Capabilities, LeafContent, Lifetime};
/// # use corncrake_core::mls::{Error, psk};
/// # use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
/// # let rng = &mut ChaCha20Rng::seed_from_u64(1);
/// # let suite = Suite::X25519ChaCha20Poly1305Sha256Ed25519;
/// # let content = |name: &str| KeyPackageContent {
/// #     leaf: LeafContent {
/// #         credential: Credential::Basic(name.into()),
/// #         capabilities: Capabilities::basic(suite, Vec::new()),
/// #         extensions: Extensions::default(),
/// #     },
/// #     lifetime: Lifetime { not_before: 0, not_after: u64::MAX },
/// #     extensions: Extensions::default(),
/// # };
/// # let (anns_key, bobs_key) = (SignatureKey::generate(rng), SignatureKey::generate(rng));
/// let (package, keys) = KeyPackage::generate(suite, content("Ann"), &anns_key, rng);
/// let (leaf, id) = (package.leaf_node, b"birds".to_vec());
/// let mut ann = Group::create(suite, id, leaf, keys.leaf, Extensions::default(), rng)?;
///
/// let (package, keys) = KeyPackage::generate(suite, content("Bob"), &bobs_key, rng);
/// let plan = CommitPlan { adds: vec![package.clone()], ..CommitPlan::default() };
/// let pending = ann.commit(plan, &anns_key, rng)?;
/// let info = pending.group_info(Extensions::default(), &anns_key);
/// let welcome = pending.welcome(&info, rng)?;
/// ann.merge_pending(pending)?;
///
/// let opened = OpenedWelcome::open(&welcome, &package, &keys, &psk::none)?;
/// let mut bob = opened.join(ann.public().clone())?;
/// let sent = ann.encrypt(b"krek krek", b"", &anns_key, rng)?;
/// if let MlsMessage::Private(message) = MlsMessage::decode_exact(&sent)? {
///     assert_eq!(bob.decrypt(&message)?.content, b"krek krek");
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Group {
    public: PublicGroup,
    keys: TreeKeys,
    secrets: EpochSecrets,
    secret_tree: SecretTree,
    /// Parts that differ from what was last taken.
    dirty: BTreeSet<PartId>,
}

/// A message of the application.
#[derive(Clone, PartialEq, Eq)]
pub struct Received {
    /// Who sent it.
    pub sender: LeafIndex,
    /// How many messages the sender sent before it in this epoch.
    pub generation: u32,
    /// What it says.
    pub content: Vec<u8>,
    /// What it says in the open.
    pub authenticated_data: Vec<u8>,
}

impl core::fmt::Debug for Received {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { sender, generation, content: _, authenticated_data: _ } = self;
        f.debug_struct("Received")
            .field("sender", sender)
            .field("generation", generation)
            .finish_non_exhaustive()
    }
}

impl Group {
    /// Founds a group of which we are the only member (§11).
    ///
    /// Leaf and key may be those of a key package of ours that nobody else gets.
    ///
    /// # Errors
    /// What is wrong with the leaf or the extensions.
    pub fn create(
        suite: Suite,
        group_id: Vec<u8>,
        leaf: LeafNode,
        leaf_key: HpkePrivateKey,
        extensions: Extensions,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, Error> {
        ensure(leaf_key.matches(&leaf.encryption_key), Error::InvalidPlan)?;
        let epoch = NewEpoch::derive(&Secret::random(suite.hash_len(), rng))?;
        let confirm = |context: &GroupContext| epoch.secrets.confirmation_tag(context);
        let public = PublicGroup::create(suite, group_id, leaf, extensions, confirm)?;
        Ok(Self::new(public, TreeKeys::new(LeafIndex::default(), leaf_key), epoch))
    }

    /// The public state.
    pub fn public(&self) -> &PublicGroup {
        &self.public
    }

    /// Our leaf.
    pub fn own_leaf(&self) -> LeafIndex {
        self.keys.leaf_index()
    }

    /// Encrypts a message of the application; returns an encoded MLSMessage (§15).
    ///
    /// Nothing is padded here, and the ratchet's change must be saved before the message leaves.
    ///
    /// # Errors
    /// [`Error::Exhausted`] if the content is too long or the ratchet at its end.
    pub fn encrypt(
        &mut self,
        content: &[u8],
        authenticated_data: &[u8],
        signer: &SignatureKey,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, Error> {
        let content = FramedContent {
            group_id: self.public.group_id().to_vec(),
            epoch: self.public.epoch(),
            sender: Sender::Member(self.own_leaf()),
            authenticated_data: authenticated_data.to_vec(),
            content: Content::Application(content.to_vec()),
        };
        let format = WireFormat::PrivateMessage;
        let signature = content.sign(format, self.public.context(), signer);
        let auth = FramedContentAuthData { signature, confirmation_tag: None };
        let step = self.secret_tree.next_key(self.own_leaf(), RatchetKind::Application)?;
        let secret = &self.secrets.sender_data;
        let message = PrivateMessage::protect(&content, &auth, &step.key, secret, rng)?;
        self.advance(step);
        Ok(MlsMessage::Private(message).to_bytes())
    }

    /// Decrypts a message of the application.
    ///
    /// The ratchet moves only once the message's signature has been verified.
    ///
    /// # Errors
    /// [`Error::WrongGroup`], [`Error::WrongEpoch`], [`Error::OwnMessage`], [`Error::CopiedState`],
    /// [`Error::Unsupported`] for handshake messages, else [`Error::Decryption`].
    pub fn decrypt(&mut self, message: &PrivateMessage) -> Result<Received, Error> {
        ensure(message.content_type == ContentType::Application, Error::Unsupported)?;
        let (opened, step) = self.open(message)?;
        let Content::Application(content) = opened.content.content else {
            return Err(Error::Internal);
        };
        let (sender, generation) = (step.leaf(), step.key.generation);
        self.advance(step);
        let authenticated_data = opened.content.authenticated_data;
        Ok(Received { sender, generation, content, authenticated_data })
    }

    /// Decrypts a proposal or commit that another MLS client sent encrypted.
    ///
    /// # Errors
    /// As [`Group::decrypt`], with [`Error::Unsupported`] for application messages.
    pub fn decrypt_handshake(
        &mut self,
        message: &PrivateMessage,
    ) -> Result<AuthenticatedContent, Error> {
        ensure(message.content_type != ContentType::Application, Error::Unsupported)?;
        let (opened, step) = self.open(message)?;
        self.advance(step);
        Ok(opened)
    }

    /// `MLS-Exporter` (§8.5).
    ///
    /// # Errors
    /// [`Error::Exhausted`] for more than 8,160 bytes.
    pub fn export(&self, label: &str, context: &[u8], len: usize) -> Result<Secret, Error> {
        self.secrets.export(label, context, len)
    }

    /// The key that external commits to this epoch encapsulate to (§8.3).
    ///
    /// # Errors
    /// [`Error::Internal`] only.
    pub fn external_pub(&self) -> Result<HpkePublicKey, Error> {
        Ok(self.secrets.external_key()?.public())
    }

    /// `epoch_authenticator` (§8.7).
    pub fn epoch_authenticator(&self) -> &Secret {
        &self.secrets.authenticator
    }

    /// `resumption_psk` (§8.6).
    pub fn resumption_psk(&self) -> &Secret {
        &self.secrets.resumption
    }

    /// Whatever was saved of `public` before is saved again, since it may be somebody else's store.
    fn new(mut public: PublicGroup, keys: TreeKeys, epoch: NewEpoch) -> Self {
        public.touch();
        let secret_tree = SecretTree::new(public.tree().size(), epoch.encryption);
        let mut group =
            Self { public, keys, secrets: epoch.secrets, secret_tree, dirty: BTreeSet::new() };
        group.touch_epoch();
        group
    }

    /// Starts the epoch that `public` has already reached.
    fn enter(&mut self, keys: TreeKeys, epoch: NewEpoch) {
        // What the old epoch saved has to go.
        self.touch_secret_tree();
        self.secret_tree = SecretTree::new(self.public.tree().size(), epoch.encryption);
        self.secrets = epoch.secrets;
        self.keys = keys;
        self.touch_epoch();
    }

    /// Opens and verifies a message without moving a ratchet.
    fn open(&self, message: &PrivateMessage) -> Result<(AuthenticatedContent, Step), Error> {
        ensure(message.group_id == self.public.group_id(), Error::WrongGroup)?;
        ensure(message.epoch == self.public.epoch(), Error::WrongEpoch)?;
        let sender_data = message.sender_data(&self.secrets.sender_data)?;
        let leaf = sender_data.leaf_index;
        let sender = self.public.leaf(leaf).ok_or(Error::Decryption)?;
        let is_own = leaf == self.own_leaf();
        let kind = match message.content_type {
            ContentType::Application => RatchetKind::Application,
            ContentType::Proposal | ContentType::Commit => RatchetKind::Handshake,
        };
        let step = self.secret_tree.key(leaf, kind, sender_data.generation);
        let step = step.map_err(|error| if is_own { Error::OwnMessage } else { error })?;
        let opened = message.open(sender_data, &step.key)?;
        opened
            .verify_signature(self.public.context(), &sender.signature_key)
            .map_err(|_| Error::Decryption)?;
        ensure(!is_own, Error::CopiedState)?;
        Ok((opened, step))
    }
}
