//! How much invitations may cost: whoever has one key package can make any number of notices, and
//! each would be a fold that comes to nothing.

use core::time::Duration;

use corncrake_core::{conversation::Role, id::AccountId};

use super::{Enter, TRY_AGAIN};
use crate::{
    engine::{
        State, Step,
        chats::{Chat, rows::Goal},
    },
    host::Moment,
};

/// Folds of invitations at once.
const AT_ONCE: usize = 4;
/// Invitations whose fold came to nothing that are kept.
const KEPT: usize = 50;
/// The longest wait between two tries.
const LONGEST: Duration = Duration::from_hours(24);
/// An invitation is given up when it is so old and was tried so often: both, as a clock that is
/// wrong for a moment, or many starts in a row, must lose nothing.
const GIVEN_UP_AFTER: Duration = Duration::from_hours(7 * 24);
const GIVEN_UP_TRIES: u32 = 17;
/// States from which a Welcome is searched for, and entries that a search reads: a log may be a
/// stranger's.
const SEARCHED_STATES: usize = 8;
const SEARCHED_ENTRIES: usize = 20_000;
/// A connection that comes back takes up folds that were tried no more often than this.
const HURRIED: u32 = 3;

impl Enter {
    pub(in crate::engine::chats) const fn is_invited(&self) -> bool {
        matches!(self.goal, Goal::Welcome(_))
    }

    /// The wait after as many tries.
    pub(super) fn wait(&self) -> Duration {
        let doubled = TRY_AGAIN.saturating_mul(1 << self.tries.saturating_sub(1).min(16));
        if self.is_invited() { doubled.min(LONGEST) } else { TRY_AGAIN }
    }

    /// Leaves the newest states for a search, and the log's beginning.
    pub(super) fn shorten_search(&mut self) {
        if self.searched.is_some() && self.states.len() > SEARCHED_STATES {
            let opening = self.states.pop_back();
            self.states.truncate(SEARCHED_STATES);
            self.states.extend(opening);
        }
    }

    /// Counts entries that a search reads, and tells whether it may go on.
    pub(super) fn may_search(&mut self, entries: usize) -> bool {
        let Some(searched) = &mut self.searched else {
            return true;
        };
        *searched = searched.saturating_add(entries);
        *searched <= SEARCHED_ENTRIES
    }

    /// Whether it is worth a try because something has changed.
    pub(super) const fn is_hurried(&self) -> bool {
        !self.is_invited() || self.asking.is_some() || self.tries <= HURRIED
    }
}

impl State {
    /// Whether another fold of an invitation may begin.
    fn has_turn(&self) -> bool {
        let busy = |enter: &&Enter| enter.is_invited() && enter.asking.is_some();
        self.chats.entering.values().filter(busy).count() < AT_ONCE
    }

    /// Whether the fold may go on now; else it waits for its turn.
    pub(super) fn take_turn(&mut self, number: u64) -> bool {
        let has_turn = self.has_turn();
        let Some(enter) = self.chats.entering.get_mut(&number) else {
            return false;
        };
        enter.retry_at = None;
        enter.queued = enter.is_invited() && enter.asking.is_none() && !has_turn;
        !enter.queued
    }

    /// Whether this device has a chat with the account, other than one that it invited into and
    /// nobody confirmed.
    fn talks_to(&self, account: AccountId) -> bool {
        let holds = |chat: &Chat| {
            let member = |(member, ..): &(AccountId, Role, usize)| *member == account;
            chat.row.peer == Some(account)
                || chat.row.unconfirmed != Some(account)
                    && chat.group.as_ref().is_some_and(|group| group.members.iter().any(member))
        };
        self.account.me().is_some_and(|me| me.account == account)
            || self.chats.all.values().any(holds)
    }

    /// Whether a stranger's invitation led to the fold.
    fn is_strange(&self, enter: &Enter) -> bool {
        match &enter.goal {
            Goal::Welcome(invitation) => !self.talks_to(invitation.inviter),
            _ => false,
        }
    }

    /// Takes over what an earlier run learned about an invitation: true if it still rests.
    pub(super) fn rests_from_before(&mut self, number: u64, step: &Step<'_>) -> bool {
        let Some(enter) = self.chats.entering.get(&number) else {
            return false;
        };
        let Goal::Welcome(invitation) = &enter.goal else {
            return false;
        };
        let Some((tries, tried)) =
            self.notice(invitation.row).map(|notice| (notice.tries, notice.tried))
        else {
            return false;
        };
        let Some(enter) = self.chats.entering.get_mut(&number) else {
            return false;
        };
        enter.tries = tries;
        let wait = enter.wait();
        let until = step.clock().until(tried.after(wait), wait);
        enter.retry_at = until.filter(|_| tries > HURRIED);
        enter.retry_at.is_some()
    }

    /// When the next fold should be taken up.
    pub(in crate::engine::chats) fn enter_wake_at(&self) -> Option<Moment> {
        let entering = self.chats.entering.values();
        if self.has_turn() && entering.clone().any(|enter| enter.queued) {
            return Some(Moment::default());
        }
        entering.filter_map(|enter| enter.retry_at).min()
    }

    /// The folds to take up at `now`.
    pub(super) fn due_folds(&self, now: Moment) -> Vec<u64> {
        let due = |enter: &Enter| enter.queued || enter.retry_at.is_some_and(|at| at <= now);
        let entering = self.chats.entering.iter().filter(|(_, enter)| due(enter));
        let mut due: Vec<_> =
            entering.map(|(number, enter)| (self.is_strange(enter), *number)).collect();
        // People one talks to come first.
        due.sort_unstable();
        due.into_iter().map(|(_, number)| number).collect()
    }

    /// Gives up invitations whose package is gone or that came to nothing for too long, and those
    /// of strangers, and that were tried most, if there are too many.
    pub(super) fn limit_invitations(&mut self, step: &mut Step<'_>) {
        let mut open: Vec<(bool, bool, u32, u64)> = Vec::new();
        for (number, enter) in &self.chats.entering {
            let Goal::Welcome(invitation) = &enter.goal else {
                continue;
            };
            if enter.tries == 0 || !enter.is_stuck() {
                continue;
            }
            let notice = self.notice(invitation.row);
            let old = notice.is_none_or(|notice| {
                step.now.since(notice.since) >= GIVEN_UP_AFTER && enter.tries >= GIVEN_UP_TRIES
            });
            let is_over = old || self.account.package(&invitation.package).is_none();
            open.push((is_over, self.is_strange(enter), enter.tries, *number));
        }
        open.sort_unstable_by_key(|entry| core::cmp::Reverse(*entry));
        let most = open.len().saturating_sub(KEPT);
        for (place, (is_over, _, _, number)) in open.into_iter().enumerate() {
            if is_over || place < most {
                self.drop_invitation(number, step);
            }
        }
    }
}
