//! The secret tree and its sender ratchets (RFC 9420 §9).
//!
//! A key is taken in two steps: [`SecretTree::next_key`] or [`SecretTree::key`] compute a [`Step`]
//! without touching the tree, and [`SecretTree::advance`] makes it final. Whoever decrypts verifies
//! the message in between, so no forged generation moves a ratchet. What a step consumes is erased:
//! node secrets on the way down, ratchet secrets up to and including the used one. Logs are in
//! order, so no skipped keys are kept.

use std::collections::BTreeMap;

use super::Error;
use super::codec::codec_struct;
use super::tree_math::{LeafIndex, NodeIndex, TreeSize};
use crate::crypto::{Secret, aead, kdf};
use crate::error::ensure;

const HASH_LEN: usize = 32;

/// How far a ratchet goes forward for one message.
pub const MAX_FORWARD: u32 = 65_536;

/// Which of a sender's two ratchets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RatchetKind {
    /// For proposals and commits.
    Handshake,
    /// For the application's messages.
    Application,
}

/// The key of one message.
#[derive(Debug)]
pub struct MessageKey {
    /// The step of the ratchet that it belongs to.
    pub generation: u32,
    /// The key.
    pub key: Secret,
    /// The nonce, to be combined with the reuse guard.
    pub nonce: [u8; aead::NONCE_LEN],
}

/// A hash ratchet: the secret of the next unused generation.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ratchet {
    generation: u32,
    secret: Secret,
}

codec_struct!(Ratchet { generation, secret });

impl Ratchet {
    fn start(leaf_secret: &Secret, label: &str) -> Result<Self, Error> {
        let secret = kdf::derive_secret(leaf_secret, label)?;
        Ok(Self { generation: 0, secret })
    }

    fn step(&mut self) -> Result<(), Error> {
        let next = self.generation.checked_add(1).ok_or(Error::Exhausted)?;
        self.secret = kdf::derive_tree_secret(&self.secret, "secret", self.generation, HASH_LEN)?;
        self.generation = next;
        Ok(())
    }

    fn take(&mut self) -> Result<MessageKey, Error> {
        let generation = self.generation;
        let key = kdf::derive_tree_secret(&self.secret, "key", generation, aead::KEY_LEN)?;
        let nonce = kdf::derive_tree_secret(&self.secret, "nonce", generation, aead::NONCE_LEN)?;
        let nonce = *nonce.expose_array().ok_or(Error::Internal)?;
        self.step()?;
        Ok(MessageKey { generation, key, nonce })
    }
}

/// Both ratchets of one sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderRatchets {
    handshake: Ratchet,
    application: Ratchet,
}

codec_struct!(SenderRatchets { handshake, application });

impl SenderRatchets {
    fn start(leaf_secret: &Secret) -> Result<Self, Error> {
        Ok(Self {
            handshake: Ratchet::start(leaf_secret, "handshake")?,
            application: Ratchet::start(leaf_secret, "application")?,
        })
    }

    fn of(&mut self, kind: RatchetKind) -> &mut Ratchet {
        match kind {
            RatchetKind::Handshake => &mut self.handshake,
            RatchetKind::Application => &mut self.application,
        }
    }
}

/// A key that was computed but not yet taken out of the tree.
#[derive(Debug)]
pub struct Step {
    /// The key.
    pub key: MessageKey,
    leaf: LeafIndex,
    ratchets: SenderRatchets,
    consumed: Option<NodeIndex>,
    siblings: Vec<(NodeIndex, Secret)>,
}

impl Step {
    /// Whose key it is.
    pub fn leaf(&self) -> LeafIndex {
        self.leaf
    }
}

/// The secrets of an epoch from which message keys come.
#[derive(Clone, Debug)]
pub struct SecretTree {
    size: TreeSize,
    nodes: BTreeMap<NodeIndex, Secret>,
    ratchets: BTreeMap<LeafIndex, SenderRatchets>,
}

impl SecretTree {
    /// The tree that grows from an epoch's encryption secret.
    pub fn new(size: TreeSize, encryption_secret: Secret) -> Self {
        let nodes = BTreeMap::from([(size.root(), encryption_secret)]);
        Self { size, nodes, ratchets: BTreeMap::new() }
    }

    /// A tree from its saved pieces.
    pub fn from_parts(
        size: TreeSize,
        nodes: BTreeMap<NodeIndex, Secret>,
        ratchets: BTreeMap<LeafIndex, SenderRatchets>,
    ) -> Self {
        Self { size, nodes, ratchets }
    }

    /// Computes the next unused key of a sender.
    ///
    /// # Errors
    /// [`Error::InvalidSender`] for a leaf outside the tree, [`Error::Exhausted`] at a ratchet's end.
    pub fn next_key(&self, leaf: LeafIndex, kind: RatchetKind) -> Result<Step, Error> {
        self.step(leaf, kind, None)
    }

    /// Computes a sender's key of this generation.
    ///
    /// # Errors
    /// [`Error::Decryption`] for a generation that has been used or lies too far ahead,
    /// [`Error::InvalidSender`] for a leaf outside the tree.
    pub fn key(&self, leaf: LeafIndex, kind: RatchetKind, generation: u32) -> Result<Step, Error> {
        self.step(leaf, kind, Some(generation))
    }

    /// Makes a step final and erases what it consumes; returns the nodes that changed.
    ///
    /// A step that was computed before another one for the same sender is worthless after it and
    /// must not be applied.
    pub fn advance(&mut self, step: Step) -> Vec<NodeIndex> {
        let Step { key: _, leaf, ratchets, consumed, siblings } = step;
        let mut changed = Vec::new();
        if let Some(node) = consumed {
            self.nodes.remove(&node);
            changed.push(node);
        }
        for (node, secret) in siblings {
            self.nodes.insert(node, secret);
            changed.push(node);
        }
        self.ratchets.insert(leaf, ratchets);
        changed
    }

    /// The secret of a node that has not been used yet.
    pub fn node(&self, node: NodeIndex) -> Option<&Secret> {
        self.nodes.get(&node)
    }

    /// The ratchets of a sender who has been heard in this epoch.
    pub fn ratchets(&self, leaf: LeafIndex) -> Option<&SenderRatchets> {
        self.ratchets.get(&leaf)
    }

    /// Every node that holds a secret.
    pub fn nodes(&self) -> impl Iterator<Item = NodeIndex> {
        self.nodes.keys().copied()
    }

    /// Every sender who has ratchets.
    pub fn senders(&self) -> impl Iterator<Item = LeafIndex> {
        self.ratchets.keys().copied()
    }

    fn step(
        &self,
        leaf: LeafIndex,
        kind: RatchetKind,
        generation: Option<u32>,
    ) -> Result<Step, Error> {
        let (mut ratchets, consumed, siblings) = match self.ratchets.get(&leaf) {
            Some(ratchets) => (ratchets.clone(), None, Vec::new()),
            None => self.descend(leaf)?,
        };
        let ratchet = ratchets.of(kind);
        if let Some(generation) = generation {
            let ahead = generation.checked_sub(ratchet.generation).ok_or(Error::Decryption)?;
            ensure(ahead <= MAX_FORWARD, Error::Decryption)?;
            for _ in 0..ahead {
                ratchet.step()?;
            }
        }
        let key = ratchet.take()?;
        Ok(Step { key, leaf, ratchets, consumed, siblings })
    }

    /// Derives a leaf's secret from the lowest node above it that still has one.
    #[expect(clippy::type_complexity, reason = "the three parts of a first step, used once")]
    fn descend(
        &self,
        leaf: LeafIndex,
    ) -> Result<(SenderRatchets, Option<NodeIndex>, Vec<(NodeIndex, Secret)>), Error> {
        ensure(self.size.holds(leaf), Error::InvalidSender)?;
        let target = leaf.node();
        let path = leaf.direct_path(self.size).map(|step| step.parent);
        let (start, secret) = core::iter::once(target)
            .chain(path)
            .find_map(|node| self.nodes.get(&node).map(|secret| (node, secret)))
            .ok_or(Error::Decryption)?;
        let mut siblings = Vec::new();
        let mut node = start;
        let mut secret = secret.clone();
        while let (Some(left), Some(right)) = (node.left(), node.right()) {
            let left_secret = kdf::expand_with_label(&secret, "tree", b"left", HASH_LEN)?;
            let right_secret = kdf::expand_with_label(&secret, "tree", b"right", HASH_LEN)?;
            if left.covers(target) {
                siblings.push((right, right_secret));
                (node, secret) = (left, left_secret);
            } else {
                siblings.push((left, left_secret));
                (node, secret) = (right, right_secret);
            }
        }
        Ok((SenderRatchets::start(&secret)?, Some(start), siblings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> SecretTree {
        let size = TreeSize::holding(LeafIndex::new(5)).unwrap();
        SecretTree::new(size, Secret::from([7; 32]))
    }

    #[test]
    fn a_computed_key_moves_nothing_until_it_is_taken() {
        let mut tree = tree();
        let leaf = LeafIndex::new(3);
        let far = tree.key(leaf, RatchetKind::Application, 60_000).unwrap();
        drop(far);
        let first = tree.next_key(leaf, RatchetKind::Application).unwrap();
        assert_eq!(first.key.generation, 0);
        tree.advance(first);
        assert_eq!(tree.next_key(leaf, RatchetKind::Application).unwrap().key.generation, 1);
    }

    #[test]
    fn used_and_far_generations_are_refused() {
        let mut tree = tree();
        let leaf = LeafIndex::new(0);
        let step = tree.key(leaf, RatchetKind::Handshake, 3).unwrap();
        tree.advance(step);
        for generation in [0, 3, 4 + MAX_FORWARD + 1, u32::MAX] {
            let refused = tree.key(leaf, RatchetKind::Handshake, generation);
            assert_eq!(refused.err(), Some(Error::Decryption));
        }
        assert!(tree.key(leaf, RatchetKind::Handshake, 4).is_ok());
        assert!(tree.key(leaf, RatchetKind::Application, 0).is_ok());
        assert!(tree.key(LeafIndex::new(8), RatchetKind::Application, 0).is_err());
    }

    #[test]
    fn what_leads_to_a_used_leaf_is_gone() {
        let mut tree = tree();
        let step = tree.next_key(LeafIndex::new(0), RatchetKind::Application).unwrap();
        tree.advance(step);
        let nodes: Vec<u32> = tree.nodes().map(NodeIndex::get).collect();
        assert_eq!(nodes, [2, 5, 11]);
        for leaf in 1..8 {
            let step = tree.next_key(LeafIndex::new(leaf), RatchetKind::Application).unwrap();
            tree.advance(step);
        }
        assert_eq!(tree.nodes().count(), 0);
    }
}
