//! A group in parts that are saved and deleted one by one.

use std::collections::BTreeMap;

use super::Group;
use crate::crypto::Secret;
use crate::error::ensure;
use crate::mls::codec::{pack, unpack};
use crate::mls::key_schedule::EpochSecrets;
use crate::mls::public_group::PublicGroup;
use crate::mls::secret_tree::{SecretTree, SenderRatchets, Step};
use crate::mls::tree_math::{LeafIndex, NodeIndex};
use crate::mls::treekem::TreeKeys;
use crate::mls::{Error, PartId};

pub(super) const VERSION: u8 = 1;

/// Our private keys and the epoch's secrets.
const EPOCH: PartId = PartId { kind: 0x10, index: 0 };
/// A secret of the secret tree; the index is its node.
const SECRET_NODE: u8 = 0x11;
/// A sender's ratchets; the index is its leaf.
const RATCHETS: u8 = 0x12;

impl Group {
    /// The parts that changed since the last call, each with its new bytes, or `None` if it is to
    /// be deleted. All of them belong into one transaction.
    pub fn take_changes(&mut self) -> Vec<(PartId, Option<Vec<u8>>)> {
        let mut changes = self.public.take_changes();
        let dirty = core::mem::take(&mut self.dirty);
        changes.extend(dirty.into_iter().map(|id| (id, self.part(id))));
        changes
    }

    /// Puts a group together from all of its parts.
    ///
    /// # Errors
    /// [`Error::CorruptState`] if parts are missing, strange or of another group.
    pub fn load(parts: impl IntoIterator<Item = (PartId, Vec<u8>)>) -> Result<Self, Error> {
        Self::load_parts(parts).map_err(|_| Error::CorruptState)
    }

    fn load_parts(parts: impl IntoIterator<Item = (PartId, Vec<u8>)>) -> Result<Self, Error> {
        let mut public = Vec::new();
        let mut epoch = None;
        let mut nodes = BTreeMap::new();
        let mut ratchets = BTreeMap::new();
        for (id, bytes) in parts {
            match id.kind {
                SECRET_NODE => {
                    nodes.insert(NodeIndex::new(id.index), unpack::<Secret>(VERSION, &bytes)?);
                }
                RATCHETS => {
                    ratchets.insert(
                        LeafIndex::new(id.index),
                        unpack::<SenderRatchets>(VERSION, &bytes)?,
                    );
                }
                _ if id == EPOCH => {
                    epoch = Some(unpack::<(TreeKeys, EpochSecrets)>(VERSION, &bytes)?)
                }
                _ => public.push((id, bytes)),
            }
        }
        let public = PublicGroup::load(public)?;
        let (keys, secrets) = epoch.ok_or(Error::CorruptState)?;
        secrets.verify_confirmation_tag(public.context(), public.confirmation_tag())?;
        ensure(keys.belong_to(public.tree().view()), Error::CorruptState)?;
        let secret_tree = SecretTree::from_parts(public.tree().size(), nodes, ratchets);
        Ok(Self { public, keys, secrets, secret_tree, dirty: Default::default() })
    }

    /// Takes a key out of the secret tree.
    pub(super) fn advance(&mut self, step: Step) {
        self.dirty.insert(PartId { kind: RATCHETS, index: step.leaf().get() });
        let changed = self.secret_tree.advance(step);
        let changed =
            changed.into_iter().map(|node| PartId { kind: SECRET_NODE, index: node.get() });
        self.dirty.extend(changed);
    }

    /// Marks what a new epoch consists of.
    pub(super) fn touch_epoch(&mut self) {
        self.dirty.insert(EPOCH);
        self.touch_secret_tree();
    }

    pub(super) fn touch_secret_tree(&mut self) {
        let nodes = self.secret_tree.nodes();
        let senders = self.secret_tree.senders();
        let nodes = nodes.map(|node| PartId { kind: SECRET_NODE, index: node.get() });
        let senders = senders.map(|leaf| PartId { kind: RATCHETS, index: leaf.get() });
        self.dirty.extend(nodes.chain(senders));
    }

    fn part(&self, id: PartId) -> Option<Vec<u8>> {
        match id.kind {
            SECRET_NODE => {
                self.secret_tree.node(NodeIndex::new(id.index)).map(|it| pack(VERSION, it))
            }
            RATCHETS => {
                self.secret_tree.ratchets(LeafIndex::new(id.index)).map(|it| pack(VERSION, it))
            }
            _ => Some(pack(VERSION, &(&self.keys, &self.secrets))),
        }
    }
}
