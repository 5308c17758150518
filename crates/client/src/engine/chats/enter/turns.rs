//! How much invitations may cost: whoever has one key package can make any number of notices, and
//! each would be a fold that comes to nothing.

use core::time::Duration;

use super::{Enter, TRY_AGAIN};
use crate::{
    engine::{State, Step, chats::rows::Goal},
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
/// A connection that comes back takes up folds that were tried no more often than this.
const HURRIED: u32 = 3;

impl Enter {
    const fn is_invited(&self) -> bool {
        matches!(self.goal, Goal::Welcome(_))
    }

    /// The wait after as many tries.
    pub(super) fn wait(&self) -> Duration {
        let doubled = TRY_AGAIN.saturating_mul(1 << self.tries.saturating_sub(1).min(16));
        if self.is_invited() { doubled.min(LONGEST) } else { TRY_AGAIN }
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
        let entering = self.chats.entering.iter();
        entering.filter(|(_, enter)| due(enter)).map(|(number, _)| *number).collect()
    }

    /// Gives up invitations whose package is gone or that came to nothing for too long, and those
    /// that were tried most if there are too many.
    pub(super) fn limit_invitations(&mut self, step: &mut Step<'_>) {
        let now = step.moment;
        let mut open: Vec<(bool, u32, u64)> = Vec::new();
        for (number, enter) in &self.chats.entering {
            let Goal::Welcome(invitation) = &enter.goal else {
                continue;
            };
            if enter.tries == 0 || !enter.is_stuck() {
                continue;
            }
            let old = now.since(enter.since) >= GIVEN_UP_AFTER && enter.tries >= GIVEN_UP_TRIES;
            let is_over = old || self.account.package(&invitation.package).is_none();
            open.push((is_over, enter.tries, *number));
        }
        open.sort_unstable_by_key(|entry| core::cmp::Reverse(*entry));
        let most = open.len().saturating_sub(KEPT);
        for (place, (is_over, _, number)) in open.into_iter().enumerate() {
            if is_over || place < most {
                self.drop_invitation(number, step);
            }
        }
    }
}
