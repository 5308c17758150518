use super::super::leaf_node::LeafNode;
use super::super::tree_math::{LeafIndex, NodeIndex, Step, TreeSize};
use super::RatchetTree;
use super::changes::TreeChanges;
use super::node::ParentNode;
use super::tally::{Capability, Item};
use crate::crypto::hpke::HpkePublicKey;

/// A tree to be read, with or without the changes of a commit laid over it.
#[derive(Clone, Copy, Debug)]
pub struct TreeView<'a> {
    tree: &'a RatchetTree,
    changes: Option<&'a TreeChanges>,
}

impl<'a> TreeView<'a> {
    pub(super) fn of(tree: &'a RatchetTree) -> Self {
        Self { tree, changes: None }
    }

    pub(super) fn changed(tree: &'a RatchetTree, changes: &'a TreeChanges) -> Self {
        Self { tree, changes: Some(changes) }
    }

    /// How many leaves the tree has, blank ones counted.
    pub fn size(self) -> TreeSize {
        self.changes.map_or(self.tree.size, |changes| changes.size)
    }

    /// The leaf at this index, unless it is blank or no such leaf exists.
    pub fn leaf(self, index: LeafIndex) -> Option<&'a LeafNode> {
        let Some(changes) = self.changes else {
            return self.tree.leaf(index);
        };
        match changes.leaves.get(&index) {
            Some(leaf) => leaf.as_deref(),
            None if changes.kept.holds(index) => self.tree.leaf(index),
            None => None,
        }
    }

    /// The parent at this index, unless it is blank or no such parent exists.
    pub fn parent(self, index: NodeIndex) -> Option<&'a ParentNode> {
        let Some(changes) = self.changes else {
            return self.tree.parent(index);
        };
        match changes.parents.get(&index) {
            Some(parent) => parent.as_deref(),
            None if changes.kept.holds_node(index) => self.tree.parent(index),
            None => None,
        }
    }

    /// All leaves that are not blank, from the left.
    pub fn leaves(self) -> impl DoubleEndedIterator<Item = (LeafIndex, &'a LeafNode)> {
        self.size().root().leaves().filter_map(move |index| Some((index, self.leaf(index)?)))
    }

    /// How many leaves are not blank.
    pub fn members(self) -> u32 {
        u32::try_from(self.count(&Item::Member)).unwrap_or(0)
    }

    /// The encryption key of a node that is not blank.
    pub fn encryption_key(self, index: NodeIndex) -> Option<&'a HpkePublicKey> {
        match index.leaf() {
            Some(leaf) => self.leaf(leaf).map(|leaf| &leaf.encryption_key),
            None => self.parent(index).map(|parent| &parent.encryption_key),
        }
    }

    /// The resolution of a node (§4.1.1): the fewest nodes that together cover all of its leaves
    /// that are not blank.
    pub fn resolution(self, index: NodeIndex) -> Vec<NodeIndex> {
        let mut found = Vec::new();
        self.resolve(index, &mut found);
        found
    }

    /// The direct path of a leaf without the nodes whose copath child has an empty resolution
    /// (§4.1.2).
    pub fn filtered_direct_path(self, leaf: LeafIndex) -> Vec<Step> {
        leaf.direct_path(self.size()).filter(|step| !self.is_blank_below(step.copath)).collect()
    }

    /// Whether every member lists this type in its capabilities.
    #[must_use]
    pub fn all_support(self, capability: Capability) -> bool {
        self.count(&Item::Supported(capability)) == self.count(&Item::Member)
    }

    /// Whether every member supports each credential type that a member uses (§7.3).
    #[must_use]
    pub fn credentials_are_supported(self) -> bool {
        let changed = self.changes.map(|changes| changes.tally.credentials_in_use());
        self.tree.tally.credentials_in_use().chain(changed.into_iter().flatten()).all(|kind| {
            self.count(&Item::CredentialInUse(kind)) == 0
                || self.all_support(Capability::Credential(kind))
        })
    }

    /// Whether some node has this encryption key.
    #[must_use]
    pub fn has_encryption_key(self, key: &HpkePublicKey) -> bool {
        self.count(&Item::EncryptionKey(key.clone())) > 0
    }

    /// Whether an encryption key or a signature key stands in the tree twice (§7.3).
    #[must_use]
    pub fn has_duplicate_key(self) -> bool {
        // The tree below has none.
        self.changes.is_some_and(|changes| changes.tally.has_duplicate_key_over(&self.tree.tally))
    }

    fn count(self, item: &Item) -> i64 {
        let changed = self.changes.map_or(0, |changes| changes.tally.count(item));
        self.tree.tally.count(item) + changed
    }

    fn resolve(self, index: NodeIndex, found: &mut Vec<NodeIndex>) {
        if let Some(leaf) = index.leaf() {
            found.extend(self.leaf(leaf).map(|_| index));
        } else if let Some(parent) = self.parent(index) {
            found.push(index);
            found.extend(parent.unmerged_leaves.iter().map(|leaf| leaf.node()));
        } else if let (Some(left), Some(right)) = (index.left(), index.right()) {
            self.resolve(left, found);
            self.resolve(right, found);
        }
    }

    /// Whether the resolution of a node is empty: neither it nor anything below it has a key.
    fn is_blank_below(self, index: NodeIndex) -> bool {
        if self.parent(index).is_some() {
            return false;
        }
        // A parent that is not blank stands above a leaf that is not blank, so leaves decide.
        let leaves = index.leaves();
        let Some(changes) = self.changes else {
            return leaves.into_iter().all(|leaf| self.tree.leaf(leaf).is_none());
        };
        let mut changed = index.leaves();
        let (Some(first), Some(last)) =
            (changed.next(), changed.next_back().or_else(|| index.leaf()))
        else {
            return true;
        };
        changes.leaves.range(first..=last).all(|(_, leaf)| leaf.is_none())
            && leaves
                .into_iter()
                .take_while(|leaf| changes.kept.holds(*leaf))
                .all(|leaf| self.tree.leaf(leaf).is_none() || changes.leaves.contains_key(&leaf))
    }
}
