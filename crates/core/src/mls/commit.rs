//! Commits and update paths (RFC 9420 §§7.6 and 12.4).

use super::codec::codec_struct;
use super::leaf_node::LeafNode;
use super::proposal::ProposalOrRef;
use crate::crypto::hpke::{HpkeCiphertext, HpkePublicKey};

/// Applies proposals and starts an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// What changes.
    pub proposals: Vec<ProposalOrRef>,
    /// Fresh keys for the committer's leaf and the nodes above it.
    pub path: Option<UpdatePath>,
}

codec_struct!(Commit { proposals, path });

/// New keys along the committer's filtered direct path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdatePath {
    /// The committer's new leaf.
    pub leaf_node: LeafNode,
    /// The nodes above it, from the bottom up.
    pub nodes: Vec<UpdatePathNode>,
}

codec_struct!(UpdatePath { leaf_node, nodes });

/// One node of an update path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdatePathNode {
    /// The node's new key.
    pub encryption_key: HpkePublicKey,
    /// Its path secret, sealed to each node of the copath node's resolution.
    pub encrypted_path_secret: Vec<HpkeCiphertext>,
}

codec_struct!(UpdatePathNode { encryption_key, encrypted_path_secret });
