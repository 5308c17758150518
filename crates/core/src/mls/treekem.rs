//! TreeKEM: how one member gives fresh secrets to all others with O(log N) work (RFC 9420 §§7.4-7.6).
//!
//! ```text
//! path_secret[1] ---> node_secret[1] ---> node_priv[1], node_pub[1]
//!      ^
//!      |
//! path_secret[0] ---> node_secret[0] ---> node_priv[0], node_pub[0]
//! ```

use std::collections::BTreeMap;

use rand_core::CryptoRng;

use super::codec::codec_struct;
use super::commit::UpdatePathNode;
use super::tree::TreeView;
use super::tree_math::{LeafIndex, NodeIndex, Step};
use crate::crypto::hpke::{
    HpkePrivateKey, HpkePublicKey, decrypt_with_label, encrypt_all_with_label,
};
use crate::crypto::{CryptoError, Secret, kdf};
use crate::error::ensure;

const LABEL: &str = "UpdatePathNode";

/// `KDF.Nh` of all suites.
const SECRET_LEN: usize = 32;

/// The private keys that one member holds: its leaf's, and those of parents above it.
#[derive(Clone, Debug)]
pub struct TreeKeys {
    leaf_index: LeafIndex,
    leaf: HpkePrivateKey,
    parents: BTreeMap<NodeIndex, HpkePrivateKey>,
}

codec_struct!(TreeKeys { leaf_index, leaf, parents });

impl TreeKeys {
    /// The keys of a member that knows no parent's: a creator, or a joiner added without a path.
    pub fn new(leaf_index: LeafIndex, leaf: HpkePrivateKey) -> Self {
        Self { leaf_index, leaf, parents: BTreeMap::new() }
    }

    /// The keys of a joiner, who was given the path secret of the lowest node above both itself and
    /// the committer (§12.4.3.1).
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] if a key does not belong to the tree.
    pub fn join(
        view: TreeView<'_>,
        leaf_index: LeafIndex,
        leaf: HpkePrivateKey,
        committer: LeafIndex,
        path_secret: &Secret,
    ) -> Result<Self, CryptoError> {
        let mut keys = Self::new(leaf_index, leaf);
        let common = leaf_index.common_ancestor(committer);
        let above = committer
            .direct_path(view.size())
            .filter(|step| step.parent.covers(common) && view.parent(step.parent).is_some());
        keys.take_path(view, above.map(|step| step.parent), path_secret.clone())?;
        Ok(keys)
    }

    /// Puts saved keys together again.
    pub fn from_parts(
        leaf_index: LeafIndex,
        leaf: HpkePrivateKey,
        parents: BTreeMap<NodeIndex, HpkePrivateKey>,
    ) -> Self {
        Self { leaf_index, leaf, parents }
    }

    /// Whose keys they are.
    pub fn leaf_index(&self) -> LeafIndex {
        self.leaf_index
    }

    /// The leaf's key.
    pub fn leaf(&self) -> &HpkePrivateKey {
        &self.leaf
    }

    /// The parents' keys.
    pub fn parents(&self) -> &BTreeMap<NodeIndex, HpkePrivateKey> {
        &self.parents
    }

    /// Whether each key is the private half of what stands in the tree.
    #[must_use]
    pub fn belong_to(&self, view: TreeView<'_>) -> bool {
        let leaf = (self.leaf_index.node(), &self.leaf);
        self.parents.iter().map(|(index, key)| (*index, key)).chain([leaf]).all(|(index, key)| {
            view.encryption_key(index).is_some_and(|public| key.matches(public))
        })
    }

    /// The keys that are still good after a commit without a path: those of nodes that were not
    /// blanked.
    pub fn without_path(&self, view: TreeView<'_>) -> Self {
        let mut keys = self.clone();
        keys.parents
            .retain(|index, key| view.encryption_key(*index).is_some_and(|is| key.matches(is)));
        keys
    }

    /// Opens another member's path: the keys and the commit secret of the new epoch.
    ///
    /// `view` is the tree with the path already in it, `added` the leaves that the same commit
    /// added, in increasing order, and `context` the provisional group context (§12.4.2).
    ///
    /// # Errors
    /// [`CryptoError::Decryption`] if no ciphertext is meant for us or it does not open, and
    /// [`CryptoError::InvalidKey`] if what it holds does not lead to the keys of the path.
    pub fn open_path(
        &self,
        view: TreeView<'_>,
        sender: LeafIndex,
        nodes: &[UpdatePathNode],
        added: &[LeafIndex],
        context: &[u8],
    ) -> Result<(Self, Secret), CryptoError> {
        let path = view.filtered_direct_path(sender);
        let ours = self.leaf_index.node();
        let (at, step) = path
            .iter()
            .enumerate()
            .find(|(_, step)| step.copath.covers(ours))
            .ok_or(CryptoError::Decryption)?;
        let ciphertexts = &nodes.get(at).ok_or(CryptoError::Decryption)?.encrypted_path_secret;
        let (key, sealed) = recipients(view, *step, added)
            .zip(ciphertexts)
            .find_map(|(node, sealed)| Some((self.key_of(node)?, sealed)))
            .ok_or(CryptoError::Decryption)?;
        let path_secret = decrypt_with_label(key, LABEL, context, sealed)?;
        let mut keys = self.without_path(view);
        let above = path.iter().skip(at).map(|step| step.parent);
        let commit_secret = keys.take_path(view, above, path_secret)?;
        Ok((keys, commit_secret))
    }

    fn key_of(&self, node: NodeIndex) -> Option<&HpkePrivateKey> {
        if node == self.leaf_index.node() { Some(&self.leaf) } else { self.parents.get(&node) }
    }

    /// Derives the keys of these nodes from the first one's path secret, each of which must be the
    /// one in the tree, and returns the commit secret.
    fn take_path(
        &mut self,
        view: TreeView<'_>,
        nodes: impl Iterator<Item = NodeIndex>,
        mut path_secret: Secret,
    ) -> Result<Secret, CryptoError> {
        for node in nodes {
            let key = HpkePrivateKey::derive(&node_secret(&path_secret)?)?;
            let belongs = view.encryption_key(node).is_some_and(|public| key.matches(public));
            ensure(belongs, CryptoError::InvalidKey)?;
            self.parents.insert(node, key);
            path_secret = next(&path_secret)?;
        }
        Ok(path_secret)
    }
}

/// A path that we made: fresh keys for our leaf and the nodes of its filtered direct path.
#[derive(Debug)]
pub struct FreshPath {
    sender: LeafIndex,
    leaf: HpkePrivateKey,
    nodes: Vec<FreshNode>,
    commit_secret: Secret,
}

#[derive(Debug)]
struct FreshNode {
    step: Step,
    path_secret: Secret,
    key: HpkePrivateKey,
}

impl FreshPath {
    /// Draws the secrets of a path from `sender`, in the tree with all proposals applied (§7.4).
    ///
    /// # Errors
    /// A failing primitive.
    pub fn generate(
        view: TreeView<'_>,
        sender: LeafIndex,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, CryptoError> {
        let leaf = HpkePrivateKey::generate(rng);
        let mut path_secret = Secret::random(SECRET_LEN, rng);
        let (mut path_secrets, mut node_secrets) = (Vec::new(), Vec::new());
        let path = view.filtered_direct_path(sender);
        for _ in &path {
            node_secrets.push(node_secret(&path_secret)?);
            let above = next(&path_secret)?;
            path_secrets.push(core::mem::replace(&mut path_secret, above));
        }
        let keys = HpkePrivateKey::derive_all(&node_secrets)?;
        let nodes = path.into_iter().zip(path_secrets).zip(keys);
        let nodes = nodes.map(|((step, path_secret), key)| FreshNode { step, path_secret, key });
        let nodes = nodes.collect();
        Ok(Self { sender, leaf, nodes, commit_secret: path_secret })
    }

    /// The private key for our new leaf.
    pub fn leaf(&self) -> &HpkePrivateKey {
        &self.leaf
    }

    /// The public keys of the path, from the bottom up.
    pub fn public_keys(&self) -> Vec<HpkePublicKey> {
        self.nodes.iter().map(|node| node.key.public()).collect()
    }

    /// Seals each path secret to all who should have it (§7.6).
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] if the tree holds a key that nothing can be sealed to.
    pub fn seal(
        &self,
        view: TreeView<'_>,
        added: &[LeafIndex],
        context: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<UpdatePathNode>, CryptoError> {
        let (mut counts, mut items) = (Vec::new(), Vec::new());
        for node in &self.nodes {
            let start = items.len();
            for recipient in recipients(view, node.step, added) {
                let key = view.encryption_key(recipient).ok_or(CryptoError::InvalidKey)?;
                items.push((key, node.path_secret.expose()));
            }
            counts.push(items.len() - start);
        }
        let mut sealed = encrypt_all_with_label(&items, LABEL, context, rng)?.into_iter();
        let nodes = self.nodes.iter().zip(counts).map(|(node, count)| UpdatePathNode {
            encryption_key: node.key.public(),
            encrypted_path_secret: sealed.by_ref().take(count).collect(),
        });
        Ok(nodes.collect())
    }

    /// The path secret that a member added by the same commit needs (§12.4.3.1).
    pub fn secret_for(&self, joiner: LeafIndex) -> Option<&Secret> {
        let common = self.sender.common_ancestor(joiner);
        self.nodes.iter().find(|node| node.step.parent == common).map(|node| &node.path_secret)
    }

    /// The commit secret of the new epoch.
    pub fn commit_secret(&self) -> &Secret {
        &self.commit_secret
    }

    /// Our keys in the new epoch.
    pub fn into_keys(self) -> TreeKeys {
        let parents = self.nodes.into_iter().map(|node| (node.step.parent, node.key)).collect();
        TreeKeys { leaf_index: self.sender, leaf: self.leaf, parents }
    }
}

/// The nodes that one step's path secret is sealed to, in order.
pub(super) fn recipients(
    view: TreeView<'_>,
    step: Step,
    added: &[LeafIndex],
) -> impl Iterator<Item = NodeIndex> {
    let resolution = view.resolution(step.copath).into_iter();
    resolution
        .filter(move |node| node.leaf().is_none_or(|leaf| added.binary_search(&leaf).is_err()))
}

fn node_secret(path_secret: &Secret) -> Result<Secret, CryptoError> {
    kdf::derive_secret(path_secret, "node")
}

fn next(path_secret: &Secret) -> Result<Secret, CryptoError> {
    kdf::derive_secret(path_secret, "path")
}
