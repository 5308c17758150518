use super::super::leaf_node::LeafNode;
use super::super::tree_math::{LeafIndex, NodeIndex, TreeSize};
use super::RatchetTree;
use super::changes::TreeChanges;
use super::node::{self, ParentNode};
use super::view::TreeView;
use crate::crypto::Digest;
use crate::crypto::hpke::HpkePublicKey;

/// A tree and the changes that a commit makes to it, step by step.
///
/// The steps come in the order of RFC 9420 §12.3: updates, removals, additions, then the path.
/// Each costs O(log N); hashes are computed when asked for, and only where something changed.
#[derive(Debug)]
pub struct TreeDiff<'a> {
    tree: &'a RatchetTree,
    changes: TreeChanges,
}

impl<'a> TreeDiff<'a> {
    pub(super) fn new(tree: &'a RatchetTree) -> Self {
        Self { tree, changes: TreeChanges::none(tree) }
    }

    /// Goes on with a diff that was put aside; `tree` is the one that it was started on.
    pub(in super::super) fn resume(tree: &'a RatchetTree, changes: TreeChanges) -> Self {
        Self { tree, changes }
    }

    /// Puts the diff aside, its hashes still to be computed.
    pub(in super::super) fn pause(self) -> TreeChanges {
        self.changes
    }

    /// The tree as changed so far.
    pub fn view(&self) -> TreeView<'_> {
        self.changes.over(self.tree)
    }

    /// Replaces a leaf and blanks its direct path (§12.1.2).
    pub fn update(&mut self, index: LeafIndex, leaf: LeafNode) {
        self.blank_direct_path(index);
        self.set_leaf(index, Some(leaf));
    }

    /// Blanks a leaf and its direct path, then cuts off a right half that is blank (§12.1.3).
    pub fn remove(&mut self, index: LeafIndex) {
        self.blank_direct_path(index);
        self.set_leaf(index, None);
        self.truncate();
    }

    /// Puts a leaf at the leftmost blank place and lists it as unmerged above (§12.1.1). `None`
    /// if no tree is large enough.
    pub fn add(&mut self, leaf: LeafNode) -> Option<LeafIndex> {
        let index = self.vacancy()?;
        for step in index.direct_path(self.changes.size) {
            if let Some(parent) = self.view().parent(step.parent) {
                let mut parent = parent.clone();
                parent.add_unmerged(index);
                self.set_parent(step.parent, Some(parent));
            }
        }
        self.set_leaf(index, Some(leaf));
        Some(index)
    }

    /// The leftmost blank leaf, for which the tree is extended if need be (§7.7).
    pub fn vacancy(&mut self) -> Option<LeafIndex> {
        let free = self.leftmost_blank();
        if let Some(index) = free {
            return Some(index);
        }
        let index = LeafIndex::new(self.changes.size.leaves());
        self.changes.size = self.changes.size.doubled()?;
        Some(index)
    }

    /// Blanks the direct path of `sender` and puts these keys, one for each node of the filtered
    /// direct path, in its place (§7.5). Returns the parent hash that the sender's new leaf must
    /// carry, or `None` if there are more or fewer keys than nodes.
    pub fn set_path(&mut self, sender: LeafIndex, keys: &[HpkePublicKey]) -> Option<Vec<u8>> {
        let path = self.view().filtered_direct_path(sender);
        if path.len() != keys.len() {
            return None;
        }
        self.blank_direct_path(sender);
        let mut above = Vec::new();
        for (step, key) in path.iter().zip(keys).rev() {
            let parent = ParentNode {
                encryption_key: key.clone(),
                parent_hash: above,
                unmerged_leaves: Vec::new(),
            };
            let sibling = self.hash(step.copath);
            above = node::parent_hash(&parent, &sibling).as_ref().to_vec();
            self.set_parent(step.parent, Some(parent));
        }
        Some(above)
    }

    /// Replaces a leaf and leaves its direct path alone: the last step of a path.
    pub fn set_leaf(&mut self, index: LeafIndex, leaf: Option<LeafNode>) {
        self.touch(index);
        let mut tally = core::mem::take(&mut self.changes.tally);
        if let Some(old) = self.view().leaf(index) {
            tally.count_leaf(old, -1);
        }
        if let Some(new) = &leaf {
            tally.count_leaf(new, 1);
        }
        self.changes.tally = tally;
        self.changes.leaves.insert(index, leaf.map(Box::new));
    }

    /// The tree hash of the root with all changes so far (§7.8).
    pub fn root_hash(&mut self) -> Digest {
        self.hash(self.changes.size.root())
    }

    /// Ends the diff with all hashes computed.
    pub fn into_changes(mut self) -> TreeChanges {
        self.root_hash();
        self.changes
    }

    fn set_parent(&mut self, index: NodeIndex, parent: Option<ParentNode>) {
        let mut tally = core::mem::take(&mut self.changes.tally);
        if let Some(old) = self.view().parent(index) {
            tally.count_parent(old, -1);
        }
        if let Some(new) = &parent {
            tally.count_parent(new, 1);
        }
        self.changes.tally = tally;
        self.changes.parents.insert(index, parent.map(Box::new));
    }

    fn blank_direct_path(&mut self, index: LeafIndex) {
        self.touch(index);
        for step in index.direct_path(self.changes.size) {
            if self.view().parent(step.parent).is_some() {
                self.set_parent(step.parent, None);
            }
        }
    }

    /// Marks the hashes of a leaf and of all above it as to be computed.
    fn touch(&mut self, index: LeafIndex) {
        self.changes.hashes.insert(index.node(), None);
        for step in index.direct_path(self.changes.size) {
            self.changes.hashes.insert(step.parent, None);
        }
    }

    fn truncate(&mut self) {
        let last = self.rightmost_leaf();
        let Some(size) = TreeSize::holding(last).filter(|size| *size < self.changes.size) else {
            return;
        };
        // Whatever key still stands in what is cut off is free again.
        let cut = size.nodes()..self.changes.size.nodes();
        for index in cut.map(NodeIndex::new) {
            if self.view().parent(index).is_some() {
                self.set_parent(index, None);
            }
        }
        let changes = &mut self.changes;
        changes.size = size;
        changes.kept = changes.kept.min(size);
        changes.leaves.retain(|index, _| size.holds(*index));
        changes.parents.retain(|index, _| size.holds_node(*index));
        changes.hashes.retain(|index, _| size.holds_node(*index));
    }

    /// The rightmost leaf that is not blank, or leaf 0.
    fn rightmost_leaf(&self) -> LeafIndex {
        let view = self.view();
        let added = self.changes.leaves.iter().rev().find(|(_, leaf)| leaf.is_some());
        let kept = self
            .tree
            .leaves()
            .map(|(index, _)| index)
            .rev()
            .find(|index| view.leaf(*index).is_some());
        added.map(|(index, _)| *index).max(kept).unwrap_or_default()
    }

    fn leftmost_blank(&self) -> Option<LeafIndex> {
        let size = self.changes.size;
        size.root().leaves().find(|index| self.view().leaf(*index).is_none())
    }

    fn hash(&mut self, index: NodeIndex) -> Digest {
        match self.changes.hashes.get(&index) {
            Some(Some(hash)) => return *hash,
            None if self.changes.kept.holds_node(index) => {
                return self.tree.hash(index).copied().unwrap_or_default();
            }
            Some(None) | None => {}
        }
        let hash = match (index.leaf(), index.left(), index.right()) {
            (None, Some(left), Some(right)) => {
                let (left, right) = (self.hash(left), self.hash(right));
                node::node_hash(self.view().parent(index), &left, &right)
            }
            (leaf, _, _) => {
                let leaf = leaf.unwrap_or_default();
                node::leaf_hash(leaf, self.view().leaf(leaf))
            }
        };
        self.changes.hashes.insert(index, Some(hash));
        hash
    }
}
