use super::super::leaf_node::LeafNode;
use super::super::tree_math::{LeafIndex, NodeIndex};
use super::RatchetTree;
use super::node::{self, ParentNode};
use crate::crypto::Digest;

impl RatchetTree {
    /// Checks what a joiner has to check of a tree's parents (RFC 9420 §7.9.2 and §12.4.3.1): lists
    /// of unmerged leaves, parent hashes, well-formed keys. That no key stands twice is true of any
    /// [`RatchetTree`].
    #[must_use]
    pub fn parents_are_valid(&self) -> bool {
        (0..).zip(&self.parents).all(|(index, parent)| {
            let index = NodeIndex::new(2 * index + 1);
            parent.as_deref().is_none_or(|parent| {
                parent.encryption_key.check().is_ok()
                    && self.unmerged_leaves_are_valid(index, parent)
                    && self.is_parent_hash_valid(index, parent)
            })
        })
    }

    /// Increasing, not blank, below the node, and listed by every parent in between.
    fn unmerged_leaves_are_valid(&self, index: NodeIndex, parent: &ParentNode) -> bool {
        parent.unmerged_leaves.is_sorted_by(|a, b| a < b)
            && parent.unmerged_leaves.iter().all(|leaf| {
                index.covers(leaf.node())
                    && self.leaf(*leaf).is_some()
                    && leaf
                        .direct_path(self.size)
                        .take_while(|step| step.parent != index)
                        .filter_map(|step| self.parent(step.parent))
                        .all(|between| between.unmerged_leaves.binary_search(leaf).is_ok())
            })
    }

    /// Whether exactly one node below was set in the same path as this one.
    ///
    /// All parents are checked, so a parent below hangs on a leaf in its turn.
    fn is_parent_hash_valid(&self, index: NodeIndex, parent: &ParentNode) -> bool {
        let (Some(left), Some(right)) = (index.left(), index.right()) else {
            return false;
        };
        let chained = [(left, right), (right, left)].map(|(child, sibling)| {
            let original = self.hash_without(sibling, &parent.unmerged_leaves);
            let expected = node::parent_hash(parent, &original);
            self.chained_below(child, parent, &expected)
        });
        chained.iter().sum::<usize>() == 1
    }

    /// How many nodes in the resolution of `child` carry the expected parent hash, the rest of the
    /// resolution being exactly the unmerged leaves of `parent` below `child`.
    fn chained_below(&self, child: NodeIndex, parent: &ParentNode, expected: &Digest) -> usize {
        let mut resolution = self.view().resolution(child);
        resolution.sort_unstable();
        let unmerged: Vec<_> = parent.unmerged_below(child).map(LeafIndex::node).collect();
        if resolution.len() != unmerged.len() + 1 {
            return 0;
        }
        resolution
            .iter()
            .filter(|candidate| {
                let rest = resolution.iter().filter(|node| node != candidate);
                self.carries(**candidate, expected) && rest.eq(&unmerged)
            })
            .count()
    }

    fn carries(&self, index: NodeIndex, expected: &Digest) -> bool {
        let parent_hash = match index.leaf() {
            Some(leaf) => self.leaf(leaf).and_then(LeafNode::parent_hash),
            None => self.parent(index).map(|parent| parent.parent_hash.as_slice()),
        };
        parent_hash == Some(expected.as_ref())
    }

    /// The tree hash that a node had before these leaves, in increasing order, were added.
    fn hash_without(&self, index: NodeIndex, gone: &[LeafIndex]) -> Digest {
        if !gone.iter().any(|leaf| index.covers(leaf.node())) {
            return self.hash(index).copied().unwrap_or_default();
        }
        match (index.left(), index.right()) {
            (Some(left), Some(right)) => {
                let mut parent = self.parent(index).cloned();
                if let Some(parent) = &mut parent {
                    parent.unmerged_leaves.retain(|leaf| gone.binary_search(leaf).is_err());
                }
                let (left, right) = (self.hash_without(left, gone), self.hash_without(right, gone));
                node::node_hash(parent.as_ref(), &left, &right)
            }
            _ => node::leaf_hash(index.leaf().unwrap_or_default(), None),
        }
    }
}
