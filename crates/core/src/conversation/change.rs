//! What an own commit shall change, and what follows from it for context and tree.

use core::fmt;
use std::collections::BTreeSet;

use super::context::{AssistantPolicy, ContextExtension, Permissions, Role};
use super::join::Claimed;
use super::{Conversation, Error, Me};
use crate::content::is_title;
use crate::error::ensure;
use crate::id::{AccountId, DeviceId};

/// What a commit shall change; everything that goes together goes into one commit.
///
/// Accounts on `leaving` are removed along with it. [`Change::default`] does only that, and
/// [`Change::fresh_path`] brings fresh keys even if nothing else changes.
#[derive(Clone, Default)]
pub struct Change {
    /// Devices to add.
    pub add: Vec<Claimed>,
    /// Other accounts to remove, with all their devices.
    pub remove: Vec<AccountId>,
    /// Own devices to remove.
    pub remove_devices: Vec<DeviceId>,
    /// Own devices to remove for ever: their keys go on the list of revoked ones.
    pub revoke_devices: Vec<DeviceId>,
    /// Whether the own account leaves.
    pub leave: bool,
    /// A new title.
    pub title: Option<String>,
    /// A new pointer to the picture.
    pub picture: Option<Vec<u8>>,
    /// New roles.
    pub roles: Vec<(AccountId, Role)>,
    /// New permissions.
    pub permissions: Option<Permissions>,
    /// A new assistant policy.
    pub assistant: Option<AssistantPolicy>,
    /// Whether to commit even if nothing changes but our keys.
    pub fresh_path: bool,
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("add", &self.add.len())
            .field("remove", &self.remove)
            .field("leave", &self.leave)
            .field("fresh_path", &self.fresh_path)
            .finish_non_exhaustive()
    }
}

impl Change {
    /// Adds devices.
    pub fn add(devices: Vec<Claimed>) -> Self {
        Self { add: devices, ..Self::default() }
    }

    /// Removes another account.
    pub fn remove(account: AccountId) -> Self {
        Self { remove: vec![account], ..Self::default() }
    }

    /// Leaves with all own devices.
    pub fn leave() -> Self {
        Self { leave: true, ..Self::default() }
    }

    /// Sets the title.
    pub fn title(title: impl Into<String>) -> Self {
        Self { title: Some(title.into()), ..Self::default() }
    }

    /// Sets an account's role.
    pub fn role(account: AccountId, role: Role) -> Self {
        Self { roles: vec![(account, role)], ..Self::default() }
    }

    /// Brings fresh keys.
    pub fn fresh_path() -> Self {
        Self { fresh_path: true, ..Self::default() }
    }
}

impl Conversation {
    /// The context extension after a change.
    pub(super) fn context_after(
        &self,
        change: &Change,
        me: &Me<'_>,
    ) -> Result<ContextExtension, Error> {
        let mut context = self.context.clone();
        let going: Vec<_> = context.leaving.iter().chain(&change.remove).copied().collect();
        for account in going {
            context.roles.remove(&account);
            context.leaving.remove(&account);
        }
        if change.leave {
            context.leaving.insert(me.account);
        }
        for device in &change.revoke_devices {
            let mut own = self.roster.devices(me.account);
            let device = own.find(|own| own.sender.device == *device);
            context.revoked.insert(device.ok_or(Error::UnknownMember)?.key);
        }
        for (account, role) in &change.roles {
            let is_added = change.add.iter().any(|device| device.account() == *account);
            ensure(self.roster.has_account(*account) || is_added, Error::UnknownMember)?;
            match role {
                Role::Member => context.roles.remove(account),
                role => context.roles.insert(*account, *role),
            };
        }
        let owned =
            |context: &ContextExtension| context.roles.values().any(|role| *role == Role::Owner);
        let names_me = change.roles.iter().any(|(account, _)| *account == me.account);
        if !change.roles.is_empty() && !owned(&self.context) && !names_me {
            // Who acts as an owner because none is left stays one when somebody gets a role.
            context.roles.insert(me.account, Role::Owner);
        }
        // Where no owner is left everybody may become one: so the last one has to name another
        // first. Who leaves can't be kept.
        let demotes = !change.roles.is_empty() && owned(&self.context) && !owned(&context);
        ensure(!demotes || self.roster.account_count() < 2, Error::LastOwner)?;
        if let Some(title) = &change.title {
            ensure(is_title(title), Error::BadTitle)?;
            context.title.clone_from(title);
        }
        if let Some(picture) = &change.picture {
            context.picture.clone_from(picture);
        }
        context.permissions = change.permissions.unwrap_or(context.permissions);
        context.assistant = change.assistant.unwrap_or(context.assistant);
        if context.is_well_formed() { Ok(context) } else { Err(Error::TooLong) }
    }

    /// The leaves that go with a change, those of accounts on `leaving` included.
    pub(super) fn leaves_to_remove(
        &self,
        change: &Change,
        me: &Me<'_>,
    ) -> Result<BTreeSet<u32>, Error> {
        let accounts = self.context.leaving.iter().chain(&change.remove);
        let others = accounts.flat_map(|account| self.roster.devices(*account));
        let own = self.roster.devices(me.account);
        let own = own.filter(|device| {
            let id = device.sender.device;
            change.remove_devices.contains(&id) || change.revoke_devices.contains(&id)
        });
        let leaves: BTreeSet<_> = others.chain(own).map(|device| device.sender.leaf).collect();
        let key = me.device_key.public();
        let own_leaf = self.roster.leaf_of_key(key.as_bytes());
        ensure(!change.remove.contains(&me.account), Error::NotAllowed)?;
        ensure(own_leaf.is_none_or(|leaf| !leaves.contains(&leaf)), Error::NotAllowed)?;
        Ok(leaves)
    }
}
