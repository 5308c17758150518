//! The context extension (0xF0C1): what a conversation is and who may do what in it.
//!
//! It stands in every GroupContext beside `required_capabilities`, and nothing else does. Sets are
//! sorted and free of repetitions, so that equal contexts have equal encodings.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::content::is_title;
use crate::id::AccountId;
use crate::mls::codec::{codec_enum, codec_newtype, codec_struct};

/// Code point of the context extension.
pub const CONTEXT: u16 = 0xF0C1;
/// The rules that this build follows; each number is a capability of its own.
pub const RULES: u16 = 1;
/// The capability that stands for rules number 0.
pub const RULES_BASE: u16 = 0xF100;

/// Longest title in bytes.
pub const MAX_TITLE: usize = 128;
/// Longest pointer to a picture in bytes.
pub const MAX_PICTURE: usize = 512;
/// Most keys on the list of revoked ones.
pub const MAX_REVOKED: usize = 256;

/// The context extension of a conversation.
#[derive(Clone, PartialEq, Eq)]
pub struct ContextExtension {
    /// Number of the rules that every member follows.
    pub rules: u16,
    /// Whether two people or a group talk here.
    pub kind: Kind,
    /// The title of a group, one line of up to 128 bytes; empty in a direct conversation.
    pub title: String,
    /// An opaque pointer to the picture of a group.
    pub picture: Vec<u8>,
    /// Owners and admins; every other account is a member.
    pub roles: BTreeMap<AccountId, Role>,
    /// The least role for each kind of change.
    pub permissions: Permissions,
    /// Accounts that have left and wait for somebody to remove their leaves.
    pub leaving: BTreeSet<AccountId>,
    /// Device keys that never join again.
    pub revoked: BTreeSet<DeviceKey>,
    /// What an assistant may do in a group.
    pub assistant: AssistantPolicy,
}

/// The bytes of a device's signature key.
pub type DeviceKey = [u8; 32];

/// What sort of conversation a group carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Two accounts, each in charge of its own devices only.
    Direct,
    /// Any number of accounts with roles.
    Group,
}

/// What an account may do in a group; a later one includes the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Talks, leaves, and looks after its own devices.
    Member,
    /// Changes what [`Permissions`] leave to admins.
    Admin,
    /// Changes everything, roles and permissions included.
    Owner,
}

/// The least role for each kind of change to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// Adding other accounts.
    pub add: Role,
    /// Removing other accounts.
    pub remove: Role,
    /// Changing title, picture and assistant policy; a member never may, whatever stands here.
    pub change: Role,
}

/// What an assistant may do in a group: an open enum, so that later policies pass through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssistantPolicy(pub u16);

impl AssistantPolicy {
    /// No assistant here.
    pub const NONE: Self = Self(0);
    /// An assistant may be an ordinary member.
    pub const ALL: Self = Self(1);
}

impl ContextExtension {
    /// The context of a new group whose only owner is `creator`.
    pub fn group(creator: AccountId, title: impl Into<String>) -> Self {
        Self {
            kind: Kind::Group,
            title: title.into(),
            roles: BTreeMap::from([(creator, Role::Owner)]),
            ..Self::direct()
        }
    }

    /// The context of a new direct conversation.
    pub fn direct() -> Self {
        Self {
            rules: RULES,
            kind: Kind::Direct,
            title: String::new(),
            picture: Vec::new(),
            roles: BTreeMap::new(),
            permissions: Permissions { add: Role::Admin, remove: Role::Admin, change: Role::Admin },
            leaving: BTreeSet::new(),
            revoked: BTreeSet::new(),
            assistant: AssistantPolicy::NONE,
        }
    }

    /// The role that `account` acts in: where no owner is left admins count as owners, and where no
    /// admin is left either, all members do.
    pub fn role(&self, account: AccountId) -> Role {
        let role = self.roles.get(&account).copied().unwrap_or(Role::Member);
        match self.roles.values().max() {
            Some(Role::Owner) => role,
            Some(highest) if role == *highest => Role::Owner,
            Some(_) => role,
            None => Role::Owner,
        }
    }

    /// Whether `who` may remove all leaves of another account: whoever may remove and is not below
    /// it, or anybody if it is leaving.
    #[must_use]
    pub fn may_remove(&self, who: AccountId, other: AccountId) -> bool {
        let role = self.role(who);
        let outranks = role >= self.permissions.remove && role >= self.role(other);
        outranks || self.leaving.contains(&other)
    }

    /// Whether `who` may change title, picture and assistant policy.
    #[must_use]
    pub fn may_change(&self, who: AccountId) -> bool {
        self.role(who) >= self.permissions.change.max(Role::Admin)
    }

    /// Whether the limits hold; what was decoded always keeps them.
    pub(super) fn is_well_formed(&self) -> bool {
        let members_have_no_entry = self.roles.values().all(|role| *role > Role::Member);
        self.title.len() <= MAX_TITLE
            && (self.title.is_empty() || is_title(&self.title))
            && self.picture.len() <= MAX_PICTURE
            && self.revoked.len() <= MAX_REVOKED
            && members_have_no_entry
    }

    /// Whether all that a direct conversation fixes for ever equals `other`'s.
    pub(super) fn same_but_revoked_and_rules(&self, other: &Self) -> bool {
        let mut other = other.clone();
        other.revoked.clone_from(&self.revoked);
        other.rules = self.rules;
        *self == other
    }
}

impl fmt::Debug for ContextExtension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rules,
            kind,
            title: _,
            picture: _,
            roles,
            permissions,
            leaving,
            revoked: _,
            assistant,
        } = self;
        f.debug_struct("ContextExtension")
            .field("rules", rules)
            .field("kind", kind)
            .field("roles", roles)
            .field("permissions", permissions)
            .field("leaving", leaving)
            .field("assistant", assistant)
            .finish_non_exhaustive()
    }
}

codec_enum!(Kind: u8 { 1 => Direct, 2 => Group });
codec_enum!(Role: u8 { 1 => Member, 2 => Admin, 3 => Owner });
codec_struct!(Permissions { add, remove, change });
codec_newtype!(AssistantPolicy);
codec_struct!(ContextExtension {
    rules,
    kind,
    title,
    picture,
    roles,
    permissions,
    leaving,
    revoked,
    assistant,
} if ContextExtension::is_well_formed);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mls::codec::{Decode, Encode};

    fn account(n: u8) -> AccountId {
        AccountId::from_bytes([n; 32])
    }

    #[test]
    fn a_full_context_round_trips() {
        let mut context = ContextExtension::group(account(3), "Hedge");
        context.picture = vec![1, 2];
        context.roles.insert(account(1), Role::Admin);
        context.leaving = BTreeSet::from([account(9), account(4)]);
        context.revoked = BTreeSet::from([[5; 32], [2; 32]]);
        context.assistant = AssistantPolicy(700);
        assert_eq!(ContextExtension::decode_exact(&context.to_bytes()), Ok(context));
    }

    #[test]
    fn other_orders_repetitions_and_member_entries_are_refused() {
        let mut context = ContextExtension::direct();
        context.revoked = BTreeSet::from([[2; 32], [5; 32]]);
        let good = context.to_bytes();
        let end = good.len() - 2;
        let mut swapped = good.clone();
        swapped[end - 64..end].rotate_left(32);
        assert!(ContextExtension::decode_exact(&swapped).is_err());
        let mut twice = good;
        twice.copy_within(end - 64..end - 32, end - 32);
        assert!(ContextExtension::decode_exact(&twice).is_err());
        context.roles.insert(account(1), Role::Member);
        assert!(ContextExtension::decode_exact(&context.to_bytes()).is_err());
    }

    #[test]
    fn limits_are_kept() {
        let mut context = ContextExtension::group(account(1), "x".repeat(MAX_TITLE));
        assert!(ContextExtension::decode_exact(&context.to_bytes()).is_ok());
        context.title.push('x');
        assert!(ContextExtension::decode_exact(&context.to_bytes()).is_err());
        context.title = "two\nlines".into();
        assert!(ContextExtension::decode_exact(&context.to_bytes()).is_err());
        let mut context = ContextExtension::direct();
        for n in 0..=256_u16 {
            let mut key = [0; 32];
            key[..2].copy_from_slice(&n.to_be_bytes());
            context.revoked.insert(key);
        }
        assert!(ContextExtension::decode_exact(&context.to_bytes()).is_err());
    }

    #[test]
    fn the_highest_role_that_is_left_acts_as_owner() {
        let mut context = ContextExtension::group(account(1), "");
        context.roles.insert(account(2), Role::Admin);
        assert_eq!(context.role(account(2)), Role::Admin);
        assert_eq!(context.role(account(3)), Role::Member);
        context.roles.remove(&account(1));
        assert_eq!(context.role(account(2)), Role::Owner);
        assert_eq!(context.role(account(3)), Role::Member);
        context.roles.clear();
        assert_eq!(context.role(account(3)), Role::Owner);
    }
}
