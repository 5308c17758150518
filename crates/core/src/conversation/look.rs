//! Looking at a conversation without changing it.

use super::context::{ContextExtension, DeviceKey, Role};
use super::reading::Sender;
use super::roster::Device;
use super::{Anchor, Conversation, Me, NEXT_LOG, Standing, successor_seed};
use crate::id::{AccountId, DeviceId, EntryId, LogId};
use crate::mls::{key_package::KeyPackage, tree_math::LeafIndex};
use crate::seal::envelope::Seed;

/// An account in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberInfo {
    /// The account.
    pub account: AccountId,
    /// The role in which it acts.
    pub role: Role,
    /// Its devices, in the order of their leaves.
    pub devices: Vec<Sender>,
    /// Whether one of its devices is an assistant's.
    pub assistant: bool,
}

/// What one member does for all, after a wait by leaf order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Confirms the newest commit and closes the log.
    HandOver,
    /// Removes the accounts on `leaving`, lays a state.
    CleanUp,
    /// Removes devices of its own account that are no longer its devices.
    Expel,
}

impl Conversation {
    /// The context extension.
    pub fn context(&self) -> &ContextExtension {
        &self.context
    }

    /// The accounts in the tree.
    pub fn members(&self) -> Vec<MemberInfo> {
        let accounts = self.roster.accounts();
        let info = accounts.map(|(account, devices)| MemberInfo {
            account,
            role: self.context.role(account),
            assistant: devices.iter().any(|device| device.assistant),
            devices: devices.iter().map(|device| device.sender).collect(),
        });
        info.collect()
    }

    /// Whether the account has a leaf in the tree.
    #[must_use]
    pub fn has_account(&self, account: AccountId) -> bool {
        self.roster.has_account(account)
    }

    /// The device in the tree whose signature key this is.
    #[must_use]
    pub fn device_of_key(&self, key: &DeviceKey) -> Option<Sender> {
        let leaf = self.roster.leaf_of_key(key)?;
        Some(self.roster.device(leaf)?.sender)
    }

    /// Whether the tree holds the leaf of a key package as that was made: its device was added by it
    /// and has made no commit since.
    #[must_use]
    pub fn holds(&self, package: &KeyPackage) -> bool {
        let leaf = self.roster.leaf_of_key(package.leaf_node.signature_key.as_bytes());
        let leaf = leaf.and_then(|leaf| self.public().leaf(LeafIndex::new(leaf)));
        leaf.is_some_and(|leaf| leaf.encryption_key == package.leaf_node.encryption_key)
    }

    /// The devices of one account, in the order of their leaves, each with the version of the
    /// account's device list that its certificate gives.
    pub fn devices(&self, account: AccountId) -> impl Iterator<Item = (DeviceId, u64)> {
        self.roster.devices(account).map(|device| (device.sender.device, device.list_version))
    }

    /// Whether we hold the secrets of the newest epoch.
    #[must_use]
    pub fn is_member(&self) -> bool {
        matches!(self.standing, Standing::Member(_))
    }

    /// The number of commits that counted so far.
    pub fn epoch(&self) -> u64 {
        self.public().epoch()
    }

    /// The newest epoch as an anchor for later folds.
    pub fn anchor(&self) -> Anchor {
        Anchor {
            epoch: self.epoch(),
            transcript: *self.public().interim_transcript_hash().as_bytes(),
        }
    }

    /// The log that is being read.
    pub fn log(&self) -> LogId {
        self.facts.log
    }

    /// The newest position read.
    pub fn position(&self) -> u64 {
        self.cursor.position
    }

    /// The `after` of the next append: the newest entry of kind commit, whether it counted or not.
    pub fn newest_commit(&self) -> (u64, EntryId) {
        self.cursor.newest_commit
    }

    /// Position in this log of the newest commit that counted; 0 if it lies in an earlier log.
    pub fn newest_counted(&self) -> u64 {
        self.facts.counted
    }

    /// Who made the newest commit that counted.
    pub fn author(&self) -> Sender {
        self.facts.author
    }

    /// Whether the log was handed over.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.facts.closed
    }

    /// Whether somebody has to hand over, as far as this reader saw.
    #[must_use]
    pub fn handover_due(&self) -> bool {
        self.facts.handover_due
    }

    /// Whether `external_pub` and `next` of the newest commit are true, if we could check; if not,
    /// commit a fresh path at once.
    #[must_use]
    pub fn tail_is_true(&self) -> Option<bool> {
        self.facts.tail_true
    }

    /// Whether a commit with a fresh path has to come before the first message.
    #[must_use]
    pub fn needs_path(&self) -> bool {
        self.facts.needs_path
    }

    /// Commits that counted since that state.
    pub fn commits_since_state(&self) -> u32 {
        self.facts.commits_since_state
    }

    /// Accounts that have left and wait for somebody to remove them.
    pub fn leaving_accounts(&self) -> impl Iterator<Item = AccountId> {
        self.context.leaving.iter().copied()
    }

    /// How many leaves come before ours among those who may do this; nothing if we may not.
    pub fn rank(&self, duty: Duty, me: &Me<'_>) -> Option<u32> {
        let eligible = self.roster.all().filter(|device| match duty {
            Duty::HandOver => self.may_hand_over(device),
            Duty::CleanUp => !self.context.leaving.contains(&device.sender.account),
            Duty::Expel => device.sender.account == me.account,
        });
        let own = me.device_key.public();
        let position = eligible.map(|device| device.key).position(|key| key == *own.as_bytes());
        u32::try_from(position?).ok()
    }

    /// Whether a handover by this device could count: another account than the newest commit's
    /// author, unless there is no other, and not leaving.
    pub(super) fn may_hand_over(&self, device: &Device) -> bool {
        let account = device.sender.account;
        let other = account != self.facts.author.account || self.roster.account_count() == 1;
        other && !self.context.leaving.contains(&account)
    }

    /// The seed of the log that follows if this epoch is handed over; we know it as members only.
    pub fn successor_seed(&self) -> Option<Seed> {
        let Standing::Member(group) = &self.standing else {
            return None;
        };
        let exported = group.export(NEXT_LOG, self.id().as_bytes(), 32).ok()?;
        successor_seed(&exported).ok()
    }

    /// Whether `seed` fits what the newest commit announced.
    #[must_use]
    pub fn fits_next(&self, seed: &Seed) -> bool {
        seed.next_check(self.id().as_bytes()) == self.facts.tail.next
    }
}
