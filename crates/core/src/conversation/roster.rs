//! The roster: who stands in the tree, by leaf, account and device key; and what a commit does to it.

use std::collections::{BTreeMap, BTreeSet};

use super::context::{AssistantPolicy, ContextExtension, DeviceKey, Kind};
use super::reading::{Sender, SkipReason};
use crate::error::ensure;
use crate::id::AccountId;
use crate::identity::{Certificate, DeviceClass, MAX_DEVICES};
use crate::mls::credential::Credential;
use crate::mls::leaf_node::LeafNode;
use crate::mls::tree_math::LeafIndex;

/// A leaf whose certificate was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) sender: Sender,
    pub(super) key: DeviceKey,
    identity: [u8; 32],
    /// The version of the account's device list that named it first.
    pub(super) list_version: u64,
    pub(super) assistant: bool,
}

impl Device {
    /// Verifies the certificate of a leaf that enters the tree.
    pub(super) fn verify(index: LeafIndex, leaf: &LeafNode) -> Result<Self, SkipReason> {
        let certificate = Certificate::parse_and_verify(credential(leaf)?);
        Self::new(index, leaf, &certificate.map_err(|_| SkipReason::Certificate)?)
    }

    fn new(
        index: LeafIndex,
        leaf: &LeafNode,
        certificate: &Certificate,
    ) -> Result<Self, SkipReason> {
        ensure(*certificate.device_key() == leaf.signature_key, SkipReason::Certificate)?;
        Ok(Self {
            sender: Sender {
                account: certificate.account(),
                device: certificate.device(),
                leaf: index.get(),
            },
            key: *leaf.signature_key.as_bytes(),
            identity: *certificate.identity_key().as_bytes(),
            list_version: certificate.list_version(),
            assistant: matches!(certificate.class(), DeviceClass::Assistant(_)),
        })
    }
}

fn credential(leaf: &LeafNode) -> Result<&[u8], SkipReason> {
    match &leaf.credential {
        Credential::Basic(certificate) => Ok(certificate),
        Credential::X509(_) => Err(SkipReason::Certificate),
    }
}

/// Everybody in the tree.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    by_leaf: BTreeMap<u32, Device>,
    by_account: BTreeMap<AccountId, BTreeSet<u32>>,
    by_key: BTreeMap<DeviceKey, u32>,
    assistants: usize,
}

impl Roster {
    /// Reads a whole tree, whose leaves must keep the rules of [`Turn::check`].
    pub(super) fn verify<'a>(
        leaves: impl Iterator<Item = (LeafIndex, &'a LeafNode)>,
        context: &ContextExtension,
    ) -> Result<Self, SkipReason> {
        let leaves: Vec<_> = leaves.collect();
        let credentials = leaves.iter().map(|(_, leaf)| credential(leaf));
        let credentials = credentials.collect::<Result<Vec<_>, _>>()?;
        let certificates = Certificate::verify_all(credentials);
        let certificates = certificates.map_err(|_| SkipReason::Certificate)?;
        let entering = leaves.iter().zip(&certificates);
        let entering =
            entering.map(|((index, leaf), certificate)| Device::new(*index, leaf, certificate));
        let turn = Turn { removed: BTreeSet::new(), entering: entering.collect::<Result<_, _>>()? };
        let mut roster = Self::default();
        turn.check(&roster, context)?;
        roster.apply(turn);
        let known = |account| roster.by_account.contains_key(account);
        ensure(context.roles.keys().all(known), SkipReason::Context)?;
        ensure(context.leaving.iter().all(known), SkipReason::Context)?;
        Ok(roster)
    }

    pub(super) fn device(&self, leaf: u32) -> Option<&Device> {
        self.by_leaf.get(&leaf)
    }

    pub(super) fn leaf_of_key(&self, key: &DeviceKey) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    pub(super) fn has_account(&self, account: AccountId) -> bool {
        self.by_account.contains_key(&account)
    }

    /// The accounts in the tree, each with its devices in the order of their leaves.
    pub(super) fn accounts(&self) -> impl Iterator<Item = (AccountId, Vec<&Device>)> {
        let accounts = self.by_account.iter();
        accounts.map(|(account, leaves)| {
            let devices = leaves.iter().filter_map(|leaf| self.by_leaf.get(leaf));
            (*account, devices.collect())
        })
    }

    pub(super) fn account_count(&self) -> usize {
        self.by_account.len()
    }

    /// The devices of one account, in the order of their leaves.
    pub(super) fn devices(&self, account: AccountId) -> impl Iterator<Item = &Device> {
        let leaves = self.by_account.get(&account).into_iter().flatten();
        leaves.filter_map(|leaf| self.by_leaf.get(leaf))
    }

    /// All devices in the order of their leaves.
    pub(super) fn all(&self) -> impl Iterator<Item = &Device> {
        self.by_leaf.values()
    }

    pub(super) fn apply(&mut self, turn: Turn) {
        for leaf in &turn.removed {
            let Some(device) = self.by_leaf.remove(leaf) else {
                continue;
            };
            self.by_key.remove(&device.key);
            self.assistants -= usize::from(device.assistant);
            if let Some(leaves) = self.by_account.get_mut(&device.sender.account) {
                leaves.remove(leaf);
                if leaves.is_empty() {
                    self.by_account.remove(&device.sender.account);
                }
            }
        }
        for device in turn.entering {
            let Sender { account, leaf, .. } = device.sender;
            self.by_key.insert(device.key, leaf);
            self.by_account.entry(account).or_default().insert(leaf);
            self.assistants += usize::from(device.assistant);
            self.by_leaf.insert(leaf, device);
        }
    }
}

/// What a commit does to the roster; a committer's new leaf goes and enters.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn {
    pub(super) removed: BTreeSet<u32>,
    pub(super) entering: Vec<Device>,
}

impl Turn {
    /// The devices of `account` whose leaves stay.
    pub(super) fn staying<'a>(
        &'a self,
        roster: &'a Roster,
        account: AccountId,
    ) -> impl Iterator<Item = &'a Device> {
        let devices = roster.devices(account);
        devices.filter(|device| !self.removed.contains(&device.sender.leaf))
    }

    /// Whether `account` has a leaf in the tree afterwards.
    pub(super) fn keeps(&self, roster: &Roster, account: AccountId) -> bool {
        let mut entering = self.entering.iter();
        self.staying(roster, account).next().is_some()
            || entering.any(|device| device.sender.account == account)
    }

    /// Checks what holds for every tree: a device stands there once, an account has one identity key
    /// and at most ten devices, no key is revoked, and assistants are there only where admitted.
    pub(super) fn check(
        &self,
        roster: &Roster,
        after: &ContextExtension,
    ) -> Result<(), SkipReason> {
        let mut keys = BTreeSet::new();
        let mut entering = BTreeMap::<AccountId, (usize, [u8; 32])>::new();
        for device in &self.entering {
            ensure(!after.revoked.contains(&device.key), SkipReason::Revoked)?;
            let standing = roster.leaf_of_key(&device.key);
            let stays = standing.is_some_and(|leaf| !self.removed.contains(&leaf));
            ensure(!stays && keys.insert(device.key), SkipReason::DeviceTwice)?;
            let account = device.sender.account;
            let (count, identity) = entering.entry(account).or_insert((0, device.identity));
            *count += 1;
            ensure(*identity == device.identity, SkipReason::Identity)?;
        }
        for (account, (count, identity)) in entering {
            let count = count + self.staying(roster, account).count();
            ensure(count <= MAX_DEVICES, SkipReason::TooMany)?;
            // Leaves that go count too, so that a commit can't swap an account's identity.
            let same = roster.devices(account).all(|device| device.identity == identity);
            ensure(same, SkipReason::Identity)?;
        }
        let going = self.removed.iter().filter_map(|leaf| roster.device(*leaf));
        let going = going.filter(|device| device.assistant).count();
        let coming = self.entering.iter().filter(|device| device.assistant).count();
        let admitted = after.kind == Kind::Direct || after.assistant == AssistantPolicy::ALL;
        ensure(roster.assistants + coming <= going || admitted, SkipReason::Assistant)
    }
}
