//! Who may do what, judged by the roles as they stood before the commit.

use std::collections::BTreeSet;

use super::context::{ContextExtension, Kind, Role};
use super::reading::SkipReason;
use super::roster::{Device, Roster, Turn};
use crate::error::ensure;
use crate::id::AccountId;

/// One commit as the rules see it.
pub(super) struct Act<'a> {
    /// The context before the commit.
    pub(super) before: &'a ContextExtension,
    /// The context after it.
    pub(super) after: &'a ContextExtension,
    /// The tree before it.
    pub(super) roster: &'a Roster,
    /// What it does to the tree.
    pub(super) turn: &'a Turn,
    /// The committer as he stands in the tree afterwards.
    pub(super) committer: &'a Device,
    /// How the committer comes to commit.
    pub(super) way: Way,
}

/// How a committer comes to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// As the creator, in epoch 0.
    Founder,
    /// As a member.
    Member,
    /// By external commit.
    External,
}

impl Act<'_> {
    /// Whether the committer may do all of this.
    pub(super) fn check(&self) -> Result<(), SkipReason> {
        allow(!self.before.leaving.contains(&self.own()))?;
        if self.way == Way::External {
            return self.check_external();
        }
        self.check_revoked()?;
        match self.before.kind {
            Kind::Direct => self.check_direct(),
            Kind::Group => {
                self.check_adds()?;
                self.check_removals()?;
                self.check_leaving()?;
                self.check_context()
            }
        }
    }

    fn own(&self) -> AccountId {
        self.committer.sender.account
    }

    fn role(&self) -> Role {
        self.before.role(self.own())
    }

    /// An account adds itself only; a leaf with the same device key goes, else one other leaf of the
    /// own account may go.
    fn check_external(&self) -> Result<(), SkipReason> {
        let mut removed = self.removed();
        let known = self.roster.has_account(self.own());
        allow(known && removed.all(|device| device.sender.account == self.own()))
    }

    /// In a direct conversation nothing but `revoked` changes, and each side adds and removes only
    /// its own devices, the founder's adds for one other account aside.
    fn check_direct(&self) -> Result<(), SkipReason> {
        let others: BTreeSet<_> = self.added().filter(|account| *account != self.own()).collect();
        let adds = others.is_empty() || (self.way == Way::Founder && others.len() == 1);
        let removes = self.removed().all(|device| device.sender.account == self.own());
        allow(adds && removes && self.before.same_but_revoked_and_rules(self.after))
    }

    /// Who may not add others may still add his own devices.
    fn check_adds(&self) -> Result<(), SkipReason> {
        let may_add_others = self.role() >= self.before.permissions.add;
        allow(may_add_others || self.added().all(|account| account == self.own()))
    }

    /// Others go with all their leaves, their role and their place on `leaving`: by whoever may
    /// remove and is not below them, or by anybody if they are leaving.
    fn check_removals(&self) -> Result<(), SkipReason> {
        for account in self.removed_accounts() {
            allow(self.before.may_remove(self.own(), account))?;
            let leaves_stay = self.turn.staying(self.roster, account).next().is_some();
            ensure(!leaves_stay, SkipReason::IncompleteRemoval)?;
            ensure(!self.after.roles.contains_key(&account), SkipReason::IncompleteRemoval)?;
            ensure(!self.after.leaving.contains(&account), SkipReason::IncompleteRemoval)?;
        }
        Ok(())
    }

    /// `leaving` loses the accounts that go and gains the committer's own at most.
    fn check_leaving(&self) -> Result<(), SkipReason> {
        let removed = self.removed_accounts();
        let mut expected = self.before.leaving.clone();
        expected.retain(|account| !removed.contains(account));
        if self.after.leaving.contains(&self.own()) {
            expected.insert(self.own());
        }
        allow(expected == self.after.leaving)
    }

    /// `revoked` only grows, by keys of own devices that go with this commit.
    fn check_revoked(&self) -> Result<(), SkipReason> {
        let kept = self.before.revoked.is_subset(&self.after.revoked);
        let mut new = self.after.revoked.difference(&self.before.revoked);
        let own = |leaf: u32| {
            let device = self.roster.device(leaf);
            self.turn.removed.contains(&leaf)
                && device.is_some_and(|device| device.sender.account == self.own())
        };
        allow(kept && new.all(|key| self.roster.leaf_of_key(key).is_some_and(own)))
    }

    /// Owners change roles and permissions; title, picture and assistant policy are changed by whom
    /// the permissions name, admins at least, and the policy never by an assistant.
    fn check_context(&self) -> Result<(), SkipReason> {
        let (before, after, role) = (self.before, self.after, self.role());
        allow(before.kind == after.kind && before.rules == after.rules)?;
        let removed = self.removed_accounts();
        let mut roles = before.roles.clone();
        roles.retain(|account, _| !removed.contains(account));
        let governs = roles != after.roles || before.permissions != after.permissions;
        allow(!governs || role >= Role::Owner)?;
        let policy = before.assistant != after.assistant;
        let changes = policy || before.title != after.title || before.picture != after.picture;
        allow(!changes || before.may_change(self.own()))?;
        allow(!policy || !self.committer.assistant)?;
        let mut named = after.roles.keys().chain(&after.leaving);
        ensure(named.all(|account| self.turn.keeps(self.roster, *account)), SkipReason::Context)
    }

    /// Accounts of leaves that enter, the committer's own leaf aside.
    fn added(&self) -> impl Iterator<Item = AccountId> {
        let own_leaf = self.committer.sender.leaf;
        let entering = self.turn.entering.iter().map(|device| device.sender);
        let others = entering.filter(move |sender| sender.leaf != own_leaf);
        others.map(|sender| sender.account)
    }

    /// Devices whose leaves go; a leaf that its owner replaces counts as his.
    fn removed(&self) -> impl Iterator<Item = &Device> {
        let removed = self.turn.removed.iter();
        removed.filter_map(|leaf| self.roster.device(*leaf))
    }

    /// Other accounts of which leaves go.
    fn removed_accounts(&self) -> BTreeSet<AccountId> {
        let accounts = self.removed().map(|device| device.sender.account);
        accounts.filter(|account| *account != self.own()).collect()
    }
}

fn allow(holds: bool) -> Result<(), SkipReason> {
    ensure(holds, SkipReason::NotAllowed)
}
