use std::collections::BTreeMap;

use super::super::leaf_node::LeafNode;
use super::super::tree_math::{LeafIndex, NodeIndex, TreeSize};
use super::RatchetTree;
use super::node::ParentNode;
use super::tally::Tally;
use super::view::TreeView;
use crate::crypto::Digest;

/// What a commit does to a tree, to be merged into it or dropped.
#[derive(Clone, Debug)]
pub struct TreeChanges {
    /// So much of the tree below is still in place. What was truncated never shows again, even
    /// if the tree grows back to its old size.
    pub(super) kept: TreeSize,
    pub(super) size: TreeSize,
    pub(super) leaves: BTreeMap<LeafIndex, Option<Box<LeafNode>>>,
    pub(super) parents: BTreeMap<NodeIndex, Option<Box<ParentNode>>>,
    /// `None` where the hash has to be computed again.
    pub(super) hashes: BTreeMap<NodeIndex, Option<Digest>>,
    pub(super) tally: Tally,
}

impl TreeChanges {
    pub(super) fn none(tree: &RatchetTree) -> Self {
        Self {
            kept: tree.size,
            size: tree.size,
            leaves: BTreeMap::new(),
            parents: BTreeMap::new(),
            hashes: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    /// The tree as it will be after the merge; `tree` is the one that the diff was started on.
    pub fn over<'a>(&'a self, tree: &'a RatchetTree) -> TreeView<'a> {
        TreeView::changed(tree, self)
    }

    /// How many nodes were hashed again.
    #[cfg(test)]
    pub(in super::super) fn hashed_nodes(&self) -> usize {
        self.hashes.len()
    }
}
