use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::super::credential::CredentialType;
use super::super::extension::ExtensionType;
use super::super::leaf_node::{Capabilities, LeafNode};
use super::super::proposal::ProposalType;
use super::node::ParentNode;
use crate::crypto::hpke::HpkePublicKey;

/// A type that a leaf lists in its capabilities (RFC 9420 §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// An extension.
    Extension(ExtensionType),
    /// A proposal.
    Proposal(ProposalType),
    /// A credential.
    Credential(CredentialType),
}

/// What has to be unique in a tree, or supported by all of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    Member,
    EncryptionKey(HpkePublicKey),
    SignatureKey([u8; 32]),
    CredentialInUse(CredentialType),
    Supported(Capability),
}

/// How often each item stands in a tree; in a diff, by how much that changes.
///
/// It answers in O(log N) what would otherwise need a walk over all leaves at each commit.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally(BTreeMap<Item, i64>);

impl Tally {
    pub(super) fn count(&self, item: &Item) -> i64 {
        self.0.get(item).copied().unwrap_or(0)
    }

    /// Counts a parent that comes (1) or goes (-1).
    pub(super) fn count_parent(&mut self, parent: &ParentNode, by: i64) {
        self.change(Item::EncryptionKey(parent.encryption_key.clone()), by);
    }

    /// Adds a diff's tally to its tree's.
    pub(super) fn apply(&mut self, diff: Self) {
        for (item, by) in diff.0 {
            self.change(item, by);
        }
    }

    /// Whether any key stands more than once.
    pub(super) fn has_duplicate_key(&self) -> bool {
        self.has_duplicate_key_over(&Self::default())
    }

    /// Whether any key that this diff touches stands more than once in `base` with the diff.
    pub(super) fn has_duplicate_key_over(&self, base: &Self) -> bool {
        self.0.iter().any(|(item, by)| {
            matches!(item, Item::EncryptionKey(_) | Item::SignatureKey(_))
                && base.count(item) + by > 1
        })
    }

    /// The credential types that leaves use.
    pub(super) fn credentials_in_use(&self) -> impl Iterator<Item = CredentialType> {
        let first = Item::CredentialInUse(CredentialType(0));
        let last = Item::CredentialInUse(CredentialType(u16::MAX));
        self.0.range(first..=last).filter_map(|(item, count)| match item {
            Item::CredentialInUse(kind) if *count > 0 => Some(*kind),
            _ => None,
        })
    }

    /// Counts a leaf that comes (1) or goes (-1).
    pub(super) fn count_leaf(&mut self, leaf: &LeafNode, by: i64) {
        self.change(Item::Member, by);
        self.change(Item::EncryptionKey(leaf.encryption_key.clone()), by);
        self.change(Item::SignatureKey(*leaf.signature_key.as_bytes()), by);
        self.change(Item::CredentialInUse(leaf.credential.credential_type()), by);
        let Capabilities { versions: _, cipher_suites: _, extensions, proposals, credentials } =
            &leaf.capabilities;
        // A leaf that lists a type twice still is one leaf.
        let mut supported: Vec<Capability> = extensions
            .iter()
            .map(|kind| Capability::Extension(*kind))
            .chain(proposals.iter().map(|kind| Capability::Proposal(*kind)))
            .chain(credentials.iter().map(|kind| Capability::Credential(*kind)))
            .collect();
        supported.sort_unstable();
        supported.dedup();
        for capability in supported {
            self.change(Item::Supported(capability), by);
        }
    }

    fn change(&mut self, item: Item, by: i64) {
        match self.0.entry(item) {
            Entry::Vacant(entry) => {
                entry.insert(by);
            }
            Entry::Occupied(mut entry) => {
                *entry.get_mut() += by;
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
        }
    }
}
