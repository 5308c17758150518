//! Titles and roles that a server has lost, given again.

use corncrake_core::{
    conversation::{Duty as Turn, Role},
    id::AccountId,
};

use super::{AUTHORS_WAIT, Author, Done, OTHERS_TURN, devices_of, given};
use crate::engine::{
    State, Step,
    chats::{
        Chat,
        rows::{Intent, Wish},
    },
};

impl Chat {
    /// A commit after the loss gives a title or roles: of what others had given before, that is the
    /// newer word.
    pub(in crate::engine::chats::lost) fn is_given_anew(&mut self, done: &Done) {
        let owed = &mut self.row.owed_again;
        owed.title.take_if(|(_, by)| !by.own && done.title.is_some());
        owed.roles.retain(|who, (_, by)| by.own || !done.roles.contains_key(who));
    }
}

impl State {
    /// Wishes again for the title and the roles that were set here, once each and as soon as they
    /// may be set: the author's own role may have been lost, or the one named is to be added again.
    /// After a while also for what others had set who are in the group no more.
    pub(in crate::engine::chats) fn restore(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let turn = OTHERS_TURN + self.rank_wait(chat, Turn::CleanUp);
        let (Some(conversation), Some(me)) = (&chat.conversation, self.account.me()) else {
            return;
        };
        let owed = &mut chat.row.owed_again;
        if owed.title.is_none() && owed.roles.is_empty() {
            return;
        }
        let before = (owed.title.is_some(), owed.roles.len());
        let context = conversation.context();
        let is_late = step.now > owed.since.after(AUTHORS_WAIT);
        let others_turn = step.clock().until(owed.since.after(turn), turn);
        let here = devices_of(conversation);
        let is_turn = |by: &Author| by.own || others_turn.is_none() && !here.contains(&by.device);
        let mut wishes = Vec::new();
        let may_change = context.may_change(me.account);
        owed.title.take_if(|(title, by)| {
            let can_be_set = may_change && is_turn(by);
            let is_there = *title == context.title;
            if !is_there && (can_be_set || by.own && is_late) {
                wishes.push(Wish::Title(title.clone()));
            }
            can_be_set || is_late || is_there && !by.own
        });
        let governs = context.role(me.account) == Role::Owner;
        owed.roles.retain(|who: &AccountId, (role, by)| {
            let can_be_set = governs && conversation.has_account(*who) && is_turn(by);
            let is_there = given(&context.roles, *who) == *role;
            if can_be_set && !is_there {
                wishes.push(Wish::Role(*who, *role));
            }
            !can_be_set && !is_late && (by.own || !is_there)
        });
        let after = (owed.title.is_some(), owed.roles.len());
        if let Some(at) = others_turn.filter(|_| after != (false, 0)) {
            chat.wake_by(at);
        }
        if before != after {
            for wish in wishes {
                chat.queue(Intent::Change(wish), step);
            }
            chat.save(step);
        }
    }
}
