//! A group that a loss has thrown this device out of is set aside until the device is in again:
//! if the server loses the log as well that the device comes back by, nobody else may be left who
//! knows any state of the group, and it begins again with this one.

use corncrake_core::{conversation::Conversation, id::ConversationId};

use super::super::{Chat, enter::Enter, rows::Phase};
use crate::{
    engine::{State, Step},
    event::EventKind,
};

impl Chat {
    /// Sets the group aside, unless there is none in which this device is a member.
    pub(super) fn set_aside(&mut self, step: &mut Step<'_>) {
        self.save_parts(step);
        let is_inside = self.row.phase == Phase::Inside;
        let group = self.conversation.take_if(|group| is_inside && group.is_member());
        let Some(group) = group else {
            return;
        };
        // The chat may have gone back to an earlier log already.
        let kept = self.kept.values().rev().find(|kept| kept.log == group.log());
        let here = (self.keys.log == group.log()).then_some(&self.row.seed);
        if let Some(seed) = here.or_else(|| kept.map(|kept| &kept.seed)) {
            self.row.aside = Some(seed.clone());
            self.aside = Some(Box::new(group));
            self.row.parts = self.row.parts.other();
        }
    }

    /// Forgets the group that was set aside.
    pub(in crate::engine::chats) fn drop_aside(&mut self, step: &mut Step<'_>) {
        self.aside = None;
        if self.row.aside.take().is_some() {
            let table = self.row.parts.other().table();
            step.delete_all(table, self.row.id.as_bytes());
        }
    }

    /// The device is in again.
    pub(in crate::engine::chats) fn needs_no_aside(&mut self, step: &mut Step<'_>) {
        if self.conversation.as_ref().is_some_and(Conversation::is_member) {
            self.drop_aside(step);
        }
    }
}

impl State {
    /// No log is there in which a fold of this chat could go on: the group that was set aside is
    /// taken back, and what the server still has is looked for as at its loss.
    pub(in crate::engine::chats) fn take_back(&mut self, id: ConversationId, step: &mut Step<'_>) {
        let of_chat = |enter: &Enter| enter.id == Some(id);
        if self.chats.entering.values().any(|enter| of_chat(enter) && !enter.is_stuck()) {
            return;
        }
        self.with_chat(id, step, |state, chat, step| {
            if !matches!(chat.row.phase, Phase::Entering(_)) || chat.row.aside.is_none() {
                return;
            }
            let (Some(group), Some(seed)) = (chat.aside.take(), chat.row.aside.take()) else {
                return;
            };
            state.chats.look_no_more(id);
            chat.drop_group(step);
            chat.row.parts = chat.row.parts.other();
            chat.conversation = Some(*group);
            chat.row.seeds_ahead.clear();
            chat.move_to(&seed);
            chat.row.phase = Phase::Inside;
            chat.row.missed = false;
            step.event(EventKind::ChatChanged(id));
            state.search_anew(chat, 0, step);
        });
    }
}
