use super::super::codec::{Encode, codec_enum, codec_struct, put_bytes};
use super::super::leaf_node::LeafNode;
use super::super::tree_math::{LeafIndex, NodeIndex};
use crate::crypto::Digest;
use crate::crypto::hpke::HpkePublicKey;

/// A parent node that is not blank (RFC 9420 §7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentNode {
    /// The key whose private half the members below hold, unmerged ones excepted.
    pub encryption_key: HpkePublicKey,
    /// The parent hash of the next node above that is not blank; empty at the top.
    pub parent_hash: Vec<u8>,
    /// The members below that do not hold the private key yet, in increasing order.
    pub unmerged_leaves: Vec<LeafIndex>,
}

codec_struct!(ParentNode { encryption_key, parent_hash, unmerged_leaves });

impl ParentNode {
    /// Lists a leaf that was just added below (§12.1.1).
    pub(super) fn add_unmerged(&mut self, leaf: LeafIndex) {
        if let Err(place) = self.unmerged_leaves.binary_search(&leaf) {
            self.unmerged_leaves.insert(place, leaf);
        }
    }

    /// Those unmerged leaves that stand below `node`.
    pub(super) fn unmerged_below(&self, node: NodeIndex) -> impl Iterator<Item = LeafIndex> {
        self.unmerged_leaves.iter().copied().filter(move |leaf| node.covers(leaf.node()))
    }
}

/// An entry of the `ratchet_tree` extension (§12.4.3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Leaf(Box<LeafNode>),
    Parent(ParentNode),
}

codec_enum!(Node: u8 { 1 => Leaf(leaf), 2 => Parent(parent) });

pub(super) const LEAF: u8 = 1;
pub(super) const PARENT: u8 = 2;

/// The tree hash of a leaf (§7.8).
pub(super) fn leaf_hash(index: LeafIndex, node: Option<&LeafNode>) -> Digest {
    let mut input = Vec::with_capacity(512);
    input.push(LEAF);
    index.encode(&mut input);
    node.encode(&mut input);
    Digest::of(&[&input])
}

/// The tree hash of a parent above nodes of these hashes (§7.8).
pub(super) fn node_hash(node: Option<&ParentNode>, left: &Digest, right: &Digest) -> Digest {
    let mut input = Vec::with_capacity(256);
    input.push(PARENT);
    node.encode(&mut input);
    put_bytes(&mut input, left.as_ref());
    put_bytes(&mut input, right.as_ref());
    Digest::of(&[&input])
}

/// The parent hash of a node whose sibling below has that original tree hash (§7.9).
pub(super) fn parent_hash(node: &ParentNode, original_sibling_tree_hash: &Digest) -> Digest {
    let mut input = Vec::with_capacity(128);
    node.encryption_key.encode(&mut input);
    node.parent_hash.encode(&mut input);
    put_bytes(&mut input, original_sibling_tree_hash.as_ref());
    Digest::of(&[&input])
}
