//! Adds that a server has lost, made again.

use core::time::Duration;

use corncrake_core::{
    conversation::Duty as Turn,
    id::{AccountId, ConversationId},
};

use super::{AUTHORS_WAIT, Author, OTHERS_TURN, devices_of};
use crate::engine::{
    State, Step,
    account::{By, ClaimedPackage},
    chats::{
        Chat,
        create::GatherThen,
        rows::{Intent, Wish},
    },
};

/// When others than the adder add again.
const OTHERS_ADD: Duration = Duration::from_hours(24);
/// A try to add again that came to nothing is made anew after this: whoever is added may be about to
/// bring key packages to a server that has lost them. Each wait is twice the last.
const ADD_AGAIN: Duration = Duration::from_secs(5);
/// The longest of these waits.
const LONGEST_ADD_AGAIN: Duration = Duration::from_mins(10);

impl State {
    /// Tells others where a log begins again, and adds again those who were added in the lost part,
    /// if this account may add: at once whom this device had added, after a day whom others had, or sooner if
    /// these are in the group no more.
    /// Removals that are owed come before adds.
    pub(in crate::engine::chats) fn add_again(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        self.tell_gone(chat, step);
        let has_removed_back = self.has_removed_back(chat);
        let turn = OTHERS_TURN + self.rank_wait(chat, Turn::CleanUp);
        let (Some(conversation), Some(me)) = (&chat.conversation, self.account.me()) else {
            return;
        };
        let owed = &mut chat.row.owed_again;
        if owed.added.is_empty() && chat.row.begin.is_nothing() {
            return;
        }
        if chat.row.begin.is_older_than(AUTHORS_WAIT, step.now) {
            chat.row.begin.tell_nobody();
        }
        let is_late = step.now > owed.since.after(AUTHORS_WAIT);
        let before = owed.added.len();
        let is_in = |who: &AccountId| conversation.has_account(*who);
        owed.added.retain(|who, _| {
            !is_late && *who != me.account && (!is_in(who) || owed.removed.contains_key(who))
        });
        let clock = step.clock();
        let others_turn = clock.until(owed.since.after(OTHERS_ADD), OTHERS_ADD);
        let context = conversation.context();
        let may_add = context.role(me.account) >= context.permissions.add && !has_removed_back;
        let turn_for = clock.until(owed.since.after(turn), turn);
        let here = devices_of(conversation);
        let is_due = |by: Author| {
            let is_for_others = turn_for.is_none() && !here.contains(&by.device);
            may_add && (by.own || others_turn.is_none() || is_for_others)
        };
        let due: Vec<By> = owed
            .added
            .iter()
            .filter(|(who, by)| is_due(**by) && !is_in(who))
            .map(|(who, _)| By::Id(*who))
            .chain(
                chat.row.begin.to_tell().filter(|who| !owed.removed.contains_key(who)).map(By::Id),
            )
            .chain(chat.row.begin.outs().filter(|who| !is_in(who)).map(By::Id))
            .collect();
        let waits = !owed.added.is_empty() && may_add;
        if owed.added.len() != before {
            chat.save(step);
        }
        for at in [others_turn, turn_for].into_iter().flatten().filter(|_| waits) {
            chat.wake_by(at);
        }
        match chat.session.adds_again.filter(|at| *at > step.moment) {
            Some(at) if !due.is_empty() => chat.wake_by(at),
            None if !due.is_empty() => {
                let tried = chat.session.added_again;
                chat.session.added_again = tried.saturating_add(1);
                let wait = ADD_AGAIN.saturating_mul(1 << tried.min(7)).min(LONGEST_ADD_AGAIN);
                let again = step.moment.after(chat.row.begin.tell_again().unwrap_or(wait));
                chat.session.adds_again = Some(again);
                chat.wake_by(again);
                self.look_up(due, GatherThen::AddAgain(chat.row.id), step);
            }
            _ => {}
        }
    }

    /// The key packages of those who are added again have come.
    pub(in crate::engine::chats) fn add_claimed_again(
        &mut self,
        id: ConversationId,
        packages: Vec<ClaimedPackage>,
        step: &mut Step<'_>,
    ) {
        self.with_chat(id, step, |state, chat, step| {
            state.say_out(chat, &packages, step);
            state.vouch(chat, &packages, step);
            let added = &mut chat.row.owed_again.added;
            let packages: Vec<_> = packages
                .into_iter()
                .filter(|package| added.contains_key(&package.account))
                .map(|package| (package.account, package.bytes))
                .collect();
            for (account, _) in &packages {
                added.remove(account);
            }
            if !packages.is_empty() && !chat.is_out() {
                chat.queue(Intent::Change(Wish::Add(packages)), step);
            }
            chat.save(step);
            state.advance(chat, step);
        });
    }
}
