//! Coming in: key packages, and Welcomes.

use rand_core::CryptoRng;

use super::context::{CONTEXT, RULES, RULES_BASE};
use super::entry::Entry;
use super::roster::Device;
use super::state::info_extensions;
use super::{Conversation, Error, Me, Outcome, Standing};
use crate::crypto::Suite;
use crate::crypto::hpke::HpkePrivateKey;
use crate::error::ensure;
use crate::id::{AccountId, DeviceId, InboxId};
use crate::mls::codec::{Decode, Encode, codec_struct};
use crate::mls::credential::Credential;
use crate::mls::extension::{Extension, ExtensionType, Extensions};
use crate::mls::framing::{Content, MlsMessage};
use crate::mls::group::OpenedWelcome;
use crate::mls::key_package::{KeyPackage, KeyPackageContent, KeyPackageKeys};
pub use crate::mls::leaf_node::Lifetime;
use crate::mls::leaf_node::{Capabilities, LeafContent, LeafNode, LeafNodeSource};
use crate::mls::proposal::{Proposal, ProposalOrRef};
use crate::mls::psk;
use crate::mls::public_group::PublicGroup;
use crate::mls::tree_math::LeafIndex;
use crate::mls::validation::check_key_package;

/// Code point of the inbox extension of key packages.
pub const INBOX: u16 = 0xF0C2;

/// Longest key package in bytes.
pub const MAX_PACKAGE: usize = 8 * 1024;

/// Where a key package's device gets its notices, and whether the package may be used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inbox {
    inbox: InboxId,
    last_resort: bool,
}

codec_struct!(Inbox { inbox, last_resort });

/// How often a key package may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Once.
    Once,
    /// Again and again, where nothing else is left.
    LastResort,
}

/// A new key package and its private keys.
#[derive(Clone, Debug)]
pub struct NewKeyPackage {
    /// What to publish.
    pub bytes: Vec<u8>,
    /// What its Welcome takes; goes with it, or 7 days past the package's life.
    pub keys: KeyPackageKeys,
}

/// Makes a key package for this device.
pub fn new_key_package(
    me: &Me<'_>,
    inbox: InboxId,
    lifetime: Lifetime,
    usage: Use,
    rng: &mut impl CryptoRng,
) -> NewKeyPackage {
    let inbox = Inbox { inbox, last_resort: usage == Use::LastResort };
    let extension = Extension::new(ExtensionType(INBOX), &inbox);
    let extensions = Extensions::new(vec![extension]).unwrap_or_default();
    let suite = Suite::X25519ChaCha20Poly1305Sha256Ed25519;
    let content = KeyPackageContent { leaf: leaf_content(me, suite), lifetime, extensions };
    let (package, keys) = KeyPackage::generate(suite, content, me.device_key, rng);
    NewKeyPackage { bytes: package.to_bytes(), keys }
}

/// A leaf for a group that is founded or entered by its own commit.
pub(super) fn new_leaf(
    me: &Me<'_>,
    suite: Suite,
    rng: &mut impl CryptoRng,
) -> (LeafNode, HpkePrivateKey) {
    let lifetime = Lifetime { not_before: 0, not_after: u64::MAX };
    let extensions = Extensions::default();
    let content = KeyPackageContent { leaf: leaf_content(me, suite), lifetime, extensions };
    let (package, keys) = KeyPackage::generate(suite, content, me.device_key, rng);
    (package.leaf_node, keys.leaf)
}

/// What this device's leaves say.
pub(super) fn leaf_content(me: &Me<'_>, suite: Suite) -> LeafContent {
    let supported = [CONTEXT, INBOX, RULES_BASE + RULES].map(ExtensionType);
    LeafContent {
        credential: Credential::Basic(me.certificate.to_vec()),
        capabilities: Capabilities::basic(suite, supported.to_vec()),
        extensions: Extensions::default(),
    }
}

/// What our leaf shall say from now on, if that has changed.
pub(super) fn renewed_leaf(old: &LeafNode, me: &Me<'_>, suite: Suite) -> Option<LeafContent> {
    let new = leaf_content(me, suite);
    let same = old.credential == new.credential && old.capabilities == new.capabilities;
    (!same).then_some(new)
}

/// A key package that was checked, ready to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub(super) package: KeyPackage,
    /// The device that it adds; its leaf is not known yet.
    pub(super) device: Device,
    inbox: InboxId,
}

impl Claimed {
    /// The account that it adds.
    pub fn account(&self) -> AccountId {
        self.device.sender.account
    }

    /// The device that it adds.
    pub fn device(&self) -> DeviceId {
        self.device.sender.device
    }

    /// Where its device gets notices.
    pub fn inbox(&self) -> InboxId {
        self.inbox
    }

    /// The package, to which a notice is sealed.
    pub fn package(&self) -> &KeyPackage {
        &self.package
    }
}

/// Checks a key package that was claimed for `account`; `now` is in seconds since 1970.
///
/// # Errors
/// [`Error::BadPackage`] if it is of another account, out of its lifetime, malformed, or does not
/// support our rules.
pub fn check_claimed(bytes: &[u8], account: AccountId, now: u64) -> Result<Claimed, Error> {
    ensure(bytes.len() <= MAX_PACKAGE, Error::BadPackage)?;
    let package = KeyPackage::decode_exact(bytes).map_err(|_| Error::BadPackage)?;
    let leaf = &package.leaf_node;
    let inbox: Option<Inbox> = package.extensions.parsed(ExtensionType(INBOX))?;
    let inbox = inbox.ok_or(Error::BadPackage)?.inbox;
    let suite = Suite::try_from_id(package.cipher_suite).ok_or(Error::BadPackage)?;
    check_key_package(&package, suite).map_err(|_| Error::BadPackage)?;
    package.verify().map_err(|_| Error::BadPackage)?;
    leaf.verify(&[], LeafIndex::default()).map_err(|_| Error::BadPackage)?;
    let device = Device::verify(LeafIndex::default(), leaf).map_err(|_| Error::BadPackage)?;
    let supported = [CONTEXT, RULES_BASE + RULES].map(ExtensionType);
    let LeafNodeSource::KeyPackage(lifetime) = leaf.source else {
        return Err(Error::BadPackage);
    };
    let in_time = (lifetime.not_before..=lifetime.not_after).contains(&now);
    let fits = device.sender.account == account
        && in_time
        && supported.iter().all(|extension| leaf.capabilities.has_extension(*extension));
    ensure(fits, Error::BadPackage)?;
    Ok(Claimed { package, device, inbox })
}

/// The references of the key packages that a Welcome is for; none if it is no Welcome.
pub fn invited(welcome: &[u8]) -> impl Iterator<Item = [u8; 32]> {
    let secrets = match MlsMessage::decode_exact(welcome) {
        Ok(MlsMessage::Welcome(welcome)) => welcome.secrets,
        _ => Vec::new(),
    };
    secrets.into_iter().map(|secrets| secrets.new_member.0)
}

/// The key packages in the entry of a commit, given its inner bytes, and the inboxes of their
/// devices: what it takes to send a notice again. None if it is no commit.
pub fn added(inner: &[u8]) -> Vec<(KeyPackage, InboxId)> {
    let Ok(Entry::Commit(entry)) = Entry::decode(inner) else {
        return Vec::new();
    };
    let Ok(MlsMessage::Public(message)) = MlsMessage::decode_exact(&entry.message) else {
        return Vec::new();
    };
    let Content::Commit(commit) = message.content.content else {
        return Vec::new();
    };
    let package = |proposal| {
        let ProposalOrRef::Proposal(Proposal::Add(package)) = proposal else {
            return None;
        };
        let inbox: Option<Inbox> = package.extensions.parsed(ExtensionType(INBOX)).ok()?;
        Some((*package, inbox?.inbox))
    };
    commit.proposals.into_iter().filter_map(package).collect()
}

impl Conversation {
    /// Joins by a Welcome, after the fold has reached the commit that it came with.
    ///
    /// # Errors
    /// [`Error::WelcomeMismatch`] if the Welcome's GroupInfo is not that of the epoch that was
    /// folded, [`Error::Mls`] if it is not for this key package or does not open. Nothing has
    /// changed then; package and Welcome are worth keeping until another state was tried.
    pub fn join(
        &mut self,
        welcome: &[u8],
        package: &[u8],
        keys: &KeyPackageKeys,
    ) -> Result<Outcome, Error> {
        let Standing::Outside(public) = &self.standing else {
            return Err(Error::AlreadySo);
        };
        let MlsMessage::Welcome(welcome) = MlsMessage::decode_exact(welcome)? else {
            return Err(Error::Malformed);
        };
        let package = KeyPackage::decode_exact(package)?;
        let opened = OpenedWelcome::open(&welcome, &package, keys, &psk::none)?;
        let tail = &self.facts.tail;
        let folded = public.group_info(
            info_extensions(tail),
            LeafIndex::new(self.facts.author.leaf),
            tail.signature.clone(),
        );
        ensure(folded.to_bytes() == opened.group_info().to_bytes(), Error::WelcomeMismatch)?;
        let group = opened.join(PublicGroup::clone(public))?;
        let inbox: Option<Inbox> = package.extensions.parsed(ExtensionType(INBOX))?;
        self.standing = Standing::Member(Box::new(group));
        self.facts.needs_path = inbox.is_some_and(|inbox| inbox.last_resort);
        let tail = self.facts.tail.clone();
        let outcome = self.finished(&tail);
        self.facts.tail_true = Some(outcome == Outcome::Finished { tail_true: true });
        self.unsaved.facts = true;
        Ok(outcome)
    }
}
