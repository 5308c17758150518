//! The ratchet tree: an array of parsed nodes with a tree hash kept for each (RFC 9420 §§4, 7).
//!
//! [`RatchetTree`] is the tree of the current epoch. A commit never copies it: the commit's effect is
//! laid over it as a [`TreeDiff`], of which [`TreeChanges`] remain once the diff is staged. A
//! [`TreeView`] reads a tree with or without such changes. A merge writes the changes into the
//! arrays and remembers which pages have to be saved again.

use std::collections::BTreeSet;

use super::codec::{Decode, Encode, Malformed, Reader, put_vector};
use super::leaf_node::LeafNode;
use super::tree_math::{LeafIndex, NodeIndex, TreeSize};
use crate::crypto::Digest;
use crate::error::ensure;

mod changes;
mod diff;
mod node;
mod pages;
mod tally;
mod verify;
mod view;

pub use changes::TreeChanges;
pub use diff::TreeDiff;
pub use node::ParentNode;
pub use tally::Capability;
pub use view::TreeView;

use node::Node;
use tally::Tally;

/// The ratchet tree of one epoch.
///
/// No encryption key and no signature key stands in it twice, and its rightmost leaf that is not
/// blank lies in its right half (or is its only leaf).
#[derive(Clone, Debug)]
pub struct RatchetTree {
    size: TreeSize,
    leaves: Vec<Option<Box<LeafNode>>>,
    /// Node `2i + 1` stands at `i`.
    parents: Vec<Option<Box<ParentNode>>>,
    hashes: Vec<Digest>,
    tally: Tally,
    dirty_pages: BTreeSet<NodeIndex>,
}

impl RatchetTree {
    /// A tree of one leaf (§11).
    ///
    /// # Errors
    /// None for a single leaf.
    pub fn new(leaf: LeafNode) -> Result<Self, Malformed> {
        Self::from_nodes(vec![Some(Node::Leaf(Box::new(leaf)))])
    }

    /// Builds a tree of a `ratchet_tree` vector's entries (§12.4.3.3).
    fn from_nodes(nodes: Vec<Option<Node>>) -> Result<Self, Malformed> {
        // The last entry is a leaf that is not blank: a parent to the right of all leaves that are
        // not blank would have nobody on that side to share a secret with.
        let last = nodes.len().checked_sub(1).and_then(|last| u32::try_from(last).ok());
        let last = NodeIndex::new(last.ok_or(Malformed)?).leaf().ok_or(Malformed)?;
        let size = TreeSize::holding(last).ok_or(Malformed)?;
        ensure(nodes.last().is_some_and(Option::is_some), Malformed)?;
        let width = size.leaves() as usize;
        let mut tree = Self {
            size,
            leaves: Vec::with_capacity(width),
            parents: Vec::with_capacity(width - 1),
            hashes: Vec::new(),
            tally: Tally::default(),
            dirty_pages: BTreeSet::new(),
        };
        for (index, node) in nodes.into_iter().enumerate() {
            match (index % 2, node) {
                (0, None) => tree.leaves.push(None),
                (0, Some(Node::Leaf(leaf))) => {
                    tree.tally.count_leaf(&leaf, 1);
                    tree.leaves.push(Some(leaf));
                }
                (1, None) => tree.parents.push(None),
                (1, Some(Node::Parent(parent))) => {
                    tree.tally.count_parent(&parent, 1);
                    tree.parents.push(Some(Box::new(parent)));
                }
                _ => return Err(Malformed),
            }
        }
        ensure(!tree.tally.has_duplicate_key(), Malformed)?;
        tree.leaves.resize_with(width, || None);
        tree.parents.resize_with(width - 1, || None);
        tree.hash_all();
        Ok(tree)
    }

    /// How many leaves the tree has, blank ones counted.
    pub fn size(&self) -> TreeSize {
        self.size
    }

    /// The leaf at this index, unless it is blank or no such leaf exists.
    pub fn leaf(&self, index: LeafIndex) -> Option<&LeafNode> {
        self.leaves.get(index.get() as usize)?.as_deref()
    }

    /// The parent at this index, unless it is blank or no such parent exists.
    pub fn parent(&self, index: NodeIndex) -> Option<&ParentNode> {
        match index.level() {
            0 => None,
            _ => self.parents.get(index.get() as usize / 2)?.as_deref(),
        }
    }

    /// All leaves that are not blank, from the left.
    pub fn leaves(&self) -> impl DoubleEndedIterator<Item = (LeafIndex, &LeafNode)> {
        (0..self.size.leaves())
            .zip(&self.leaves)
            .filter_map(|(index, leaf)| leaf.as_deref().map(|leaf| (LeafIndex::new(index), leaf)))
    }

    /// The tree hash of a node (§7.8).
    pub fn hash(&self, index: NodeIndex) -> Option<&Digest> {
        self.hashes.get(index.get() as usize)
    }

    /// The tree hash of the root, which the group context carries (§7.8).
    pub fn root_hash(&self) -> Digest {
        self.hash(self.size.root()).copied().unwrap_or_default()
    }

    /// This tree as it stands.
    pub fn view(&self) -> TreeView<'_> {
        TreeView::of(self)
    }

    /// Starts a diff.
    pub fn diff(&self) -> TreeDiff<'_> {
        TreeDiff::new(self)
    }

    /// Writes staged changes, which belong to this very tree, into it.
    pub fn merge(&mut self, changes: TreeChanges) {
        let TreeChanges { kept, size, leaves, parents, hashes, tally } = changes;
        // What is cut off goes from its pages too.
        for index in (kept.nodes()..self.size.nodes()).map(NodeIndex::new) {
            if self.view().encryption_key(index).is_some() {
                self.dirty_pages.insert(pages::page_of(index));
            }
        }
        for width in [kept, size] {
            self.leaves.resize_with(width.leaves() as usize, || None);
            self.parents.resize_with(width.leaves() as usize - 1, || None);
            self.hashes.resize(width.nodes() as usize, Digest::default());
        }
        self.size = size;
        for (index, leaf) in leaves {
            self.dirty_pages.insert(pages::page_of(index.node()));
            put(&mut self.leaves, index.get() as usize, leaf);
        }
        for (index, parent) in parents {
            self.dirty_pages.insert(pages::page_of(index));
            put(&mut self.parents, index.get() as usize / 2, parent);
        }
        for (index, hash) in hashes {
            if let Some(hash) = hash {
                put(&mut self.hashes, index.get() as usize, hash);
            }
        }
        self.tally.apply(tally);
    }

    /// Writes `optional<Node>`; whether there is one.
    fn put_node(&self, index: NodeIndex, out: &mut Vec<u8>) -> bool {
        let leaf = index.leaf().and_then(|leaf| self.leaf(leaf));
        let parent = self.parent(index);
        match leaf {
            Some(leaf) => Some((node::LEAF, leaf)).encode(out),
            None => parent.map(|parent| (node::PARENT, parent)).encode(out),
        }
        leaf.is_some() || parent.is_some()
    }

    /// Computes every tree hash from the leaves up.
    fn hash_all(&mut self) {
        self.hashes = vec![Digest::default(); self.size.nodes() as usize];
        for level in 0..=self.size.levels() {
            for at in ((1 << level) - 1..self.size.nodes()).step_by(2 << level) {
                let index = NodeIndex::new(at);
                let below = |child: Option<NodeIndex>| child.and_then(|child| self.hash(child));
                let hash = match (below(index.left()), below(index.right())) {
                    (Some(left), Some(right)) => node::node_hash(self.parent(index), left, right),
                    _ => {
                        let leaf = index.leaf().unwrap_or_default();
                        node::leaf_hash(leaf, self.leaf(leaf))
                    }
                };
                put(&mut self.hashes, at as usize, hash);
            }
        }
    }
}

fn put<T>(list: &mut [T], at: usize, value: T) {
    if let Some(place) = list.get_mut(at) {
        *place = value;
    }
}

/// Two trees are the same when their nodes are.
impl PartialEq for RatchetTree {
    fn eq(&self, other: &Self) -> bool {
        self.leaves == other.leaves && self.parents == other.parents
    }
}

impl Eq for RatchetTree {}

impl Encode for RatchetTree {
    fn encode(&self, out: &mut Vec<u8>) {
        let last = self.leaves().next_back().map_or_else(LeafIndex::default, |(index, _)| index);
        put_vector(out, |out| {
            for index in (0..=last.node().get()).map(NodeIndex::new) {
                self.put_node(index, out);
            }
        });
    }
}

impl Decode for RatchetTree {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Self::from_nodes(Decode::decode(reader)?)
    }
}
