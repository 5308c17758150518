//! Arithmetic on the array form of a ratchet tree (RFC 9420, appendix C).
//!
//! A tree is always full: it has 2^d leaves. Leaf `i` stands at node `2i`; a parent's level is the
//! number of trailing one bits of its node number. Nothing here knows what a node holds.

use core::fmt;

use super::codec::codec_newtype;

/// A leaf's position among the leaves of a tree.
///
/// Any `u32` is a leaf index, since peers send them; [`TreeSize::holds`] says whether a tree has it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LeafIndex(u32);

codec_newtype!(LeafIndex, NodeIndex);

impl LeafIndex {
    /// The leaf at this position, counted from 0.
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The position, counted from 0.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The node of this leaf. Leaves too far out for any tree give a node that no tree holds.
    pub const fn node(self) -> NodeIndex {
        NodeIndex(self.0.saturating_mul(2))
    }

    /// The parents of this leaf from the bottom up to the root, each with its child beside the path.
    pub fn direct_path(self, size: TreeSize) -> impl DoubleEndedIterator<Item = Step> {
        let levels = if size.holds(self) { size.levels() } else { 0 };
        (1..=levels).map(move |level| {
            let parent = self.node().ancestor(level);
            let copath = if self.node() < parent { parent.right() } else { parent.left() };
            Step { parent, copath: copath.unwrap_or(parent) }
        })
    }

    /// The lowest node above both leaves; the leaf itself if they are one.
    pub const fn common_ancestor(self, other: Self) -> NodeIndex {
        self.node().ancestor(u32::BITS - (self.0 ^ other.0).leading_zeros())
    }
}

impl fmt::Debug for LeafIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "leaf {}", self.0)
    }
}

/// One step of a direct path: a parent and that child of it that is not on the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The node on the direct path.
    pub parent: NodeIndex,
    /// The node on the copath.
    pub copath: NodeIndex,
}

/// A node's position in the array form of a tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(u32);

impl NodeIndex {
    /// The node at this position, counted from 0.
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The position, counted from 0.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// 0 for a leaf, one more for each step up.
    pub const fn level(self) -> u32 {
        self.0.trailing_ones()
    }

    /// The leaf that stands here, unless this is a parent.
    pub const fn leaf(self) -> Option<LeafIndex> {
        if self.level() == 0 { Some(LeafIndex(self.0 / 2)) } else { None }
    }

    /// The left child of a parent.
    pub const fn left(self) -> Option<Self> {
        match self.level() {
            0 => None,
            level => Some(Self(self.0 - (1 << (level - 1)))),
        }
    }

    /// The right child of a parent.
    pub const fn right(self) -> Option<Self> {
        match self.level() {
            0 => None,
            level => Some(Self(self.0 + (1 << (level - 1)))),
        }
    }

    /// The parent, unless this is the root of a tree of this size.
    pub fn parent(self, size: TreeSize) -> Option<Self> {
        (size.holds_node(self) && self != size.root()).then(|| self.ancestor(self.level() + 1))
    }

    /// The other child of the parent.
    pub fn sibling(self, size: TreeSize) -> Option<Self> {
        let parent = self.parent(size)?;
        if self < parent { parent.right() } else { parent.left() }
    }

    /// Whether this node is `other` or lies above it.
    pub const fn covers(self, other: Self) -> bool {
        let level = self.level();
        other.level() <= level && other.ancestor(level).0 == self.0
    }

    /// The leaves below this node, from the left; a leaf covers itself.
    pub fn leaves(self) -> impl DoubleEndedIterator<Item = LeafIndex> {
        let width = 1_u32.checked_shl(self.level()).unwrap_or(u32::MAX);
        let first = (self.0 - (width - 1)) / 2;
        (first..first.saturating_add(width)).map(LeafIndex)
    }

    /// The node above this one at that level, which is at least its own.
    pub(super) const fn ancestor(self, level: u32) -> Self {
        // All ones below the level's bit, and a zero at it.
        match 1_u32.checked_shl(level) {
            Some(bit) => Self((self.0 | (bit - 1)) & !bit),
            None => Self(u32::MAX),
        }
    }
}

impl fmt::Debug for NodeIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.0)
    }
}

/// The number of leaves of a tree, blank ones counted: a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TreeSize {
    levels: u32,
}

impl TreeSize {
    /// A tree of one leaf.
    pub const ONE: Self = Self { levels: 0 };

    /// The smallest tree that holds this leaf; none where no tree is as large.
    pub const fn holding(leaf: LeafIndex) -> Option<Self> {
        let levels = u32::BITS - leaf.0.leading_zeros();
        if levels < u32::BITS { Some(Self { levels }) } else { None }
    }

    /// How many steps lead from a leaf to the root.
    pub const fn levels(self) -> u32 {
        self.levels
    }

    /// The number of leaves.
    pub const fn leaves(self) -> u32 {
        1 << self.levels
    }

    /// The number of nodes.
    pub const fn nodes(self) -> u32 {
        // 2^(levels + 1) - 1 without passing through a number that may not fit.
        self.leaves() - 1 + self.leaves()
    }

    /// The node above all leaves.
    pub const fn root(self) -> NodeIndex {
        NodeIndex(self.leaves() - 1)
    }

    /// Whether the tree has such a leaf, blank or not.
    pub const fn holds(self, leaf: LeafIndex) -> bool {
        leaf.0 < self.leaves()
    }

    /// Whether the tree has such a node, blank or not.
    pub const fn holds_node(self, node: NodeIndex) -> bool {
        node.0 < self.nodes()
    }

    /// Twice as many leaves; none where no tree is as large.
    pub const fn doubled(self) -> Option<Self> {
        if self.levels + 1 < u32::BITS { Some(Self { levels: self.levels + 1 }) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_ancestors_of_an_eight_leaf_tree() {
        let size = TreeSize::holding(LeafIndex(7)).unwrap();
        assert_eq!((size.leaves(), size.nodes(), size.root()), (8, 15, NodeIndex(7)));
        let steps: Vec<_> =
            LeafIndex(2).direct_path(size).map(|s| (s.parent.0, s.copath.0)).collect();
        assert_eq!(steps, [(5, 6), (3, 1), (7, 11)]);
        assert_eq!(LeafIndex(2).common_ancestor(LeafIndex(3)), NodeIndex(5));
        assert_eq!(LeafIndex(0).common_ancestor(LeafIndex(7)), NodeIndex(7));
        assert_eq!(LeafIndex(4).common_ancestor(LeafIndex(4)), NodeIndex(8));
        assert!(NodeIndex(3).covers(NodeIndex(0)) && NodeIndex(3).covers(NodeIndex(3)));
        assert!(!NodeIndex(3).covers(NodeIndex(7)) && !NodeIndex(3).covers(NodeIndex(8)));
        assert_eq!(NodeIndex(11).leaves().map(LeafIndex::get).collect::<Vec<_>>(), [4, 5, 6, 7]);
    }

    #[test]
    fn indices_no_tree_holds_stay_outside_of_the_largest() {
        let largest = TreeSize::holding(LeafIndex((1 << 31) - 1)).unwrap();
        assert_eq!(largest.doubled(), None);
        assert_eq!(TreeSize::holding(LeafIndex(1 << 31)), None);
        for far in [1 << 31, u32::MAX] {
            assert!(!largest.holds(LeafIndex(far)));
            assert!(!largest.holds_node(LeafIndex(far).node()));
            assert_eq!(LeafIndex(far).direct_path(largest).count(), 0);
            assert_eq!(LeafIndex(far).node().parent(largest), None);
            let _ = LeafIndex(far).common_ancestor(LeafIndex(0));
        }
        assert_eq!(
            LeafIndex((1 << 31) - 1).direct_path(largest).last().unwrap().parent,
            largest.root()
        );
    }
}
