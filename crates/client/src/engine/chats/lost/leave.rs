//! A group that this account has left, where the server may have lost that: the device asks whether
//! the log still has its leave. If it doesn't, the device comes in again only to leave again; the app
//! sees a chat that was left all the time.

use core::time::Duration;

use corncrake_core::{conversation::Conversation, id::EntryId};
use corncrake_wire::{ErrorCode, LogId, OpenReply, log::Read};
use serde::{Deserialize, Serialize};

use super::super::{
    Chat, ChatThen, Place,
    closed::id_of,
    rows::{Intent, Phase, Wish},
};
use crate::{
    engine::{State, Step, Then, account::Retry},
    host::Timestamp,
    transport::TransportError,
};

/// A leave that is older isn't asked about: no backup is.
const OLD: Duration = Duration::from_hours(90 * 24);

/// How this account left a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Left {
    since: Timestamp,
    /// Position and id of the newest commit in the chat's log then: the leave.
    entry: (u64, EntryId),
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// It is in the log.
    Done,
    /// The server may have lost it.
    Asked,
    /// The server has lost it.
    Lost,
}

impl Chat {
    /// Remembers where the account's leave is in the log; the group is still there.
    pub(in crate::engine::chats) fn note_leave(&mut self, step: &Step<'_>) {
        let newest = self.conversation.as_ref().map(Conversation::newest_commit);
        let entry = newest.filter(|(position, _)| *position > 0);
        self.row.left = entry.map(|entry| Left { since: step.now, entry, stage: Stage::Done });
        self.row.recovering = false;
    }

    /// Whether the account has left, and the server has lost that.
    pub(in crate::engine::chats) fn leaves_again(&self) -> bool {
        self.row.left.as_ref().is_some_and(|left| left.stage == Stage::Lost)
    }

    /// Whether it isn't known whether the log still has the account's leave.
    pub(in crate::engine::chats) fn asks_of_leave(&self) -> bool {
        let is_open = |left: &Left| left.stage != Stage::Done;
        self.row.phase == Phase::Left && self.row.left.as_ref().is_some_and(is_open)
    }

    /// Whether the answer is to come.
    pub(in crate::engine::chats) fn is_asking_of_leave(&self) -> bool {
        self.row.phase == Phase::Left
            && self.row.left.as_ref().is_some_and(|left| left.stage == Stage::Asked)
    }

    /// Whom a lost add has brought back says nothing again, and leaves.
    pub(in crate::engine::chats) fn leave_if_brought_back(&mut self, step: &mut Step<'_>) {
        if self.is_member() && self.leaves_again() {
            self.row.recovering = false;
            self.owe_leave(step);
        }
    }

    /// Leaves again as soon as this device is in the group again.
    pub(in crate::engine::chats) fn owe_leave(&mut self, step: &mut Step<'_>) {
        let leaves = |(_, intent): &(u64, Intent)| *intent == Intent::Change(Wish::Leave);
        if !self.intents.iter().any(leaves) {
            self.queue(Intent::Change(Wish::Leave), step);
            self.save(step);
        }
    }
}

impl State {
    /// The server may have lost what was written last: also that this account has left groups.
    pub(crate) fn leaves_may_be_lost(&mut self, step: &mut Step<'_>) {
        for id in self.chat_ids() {
            self.with_chat(id, step, |state, chat, step| {
                let is_left = chat.row.phase == Phase::Left;
                let left = chat.row.left.as_mut().filter(|left| {
                    is_left && left.stage == Stage::Done && step.now <= left.since.after(OLD)
                });
                if let Some(left) = left {
                    left.stage = Stage::Asked;
                    chat.save(step);
                    state.ask_of_leave(chat, step);
                }
            });
        }
    }

    /// The connection is up again.
    pub(in crate::engine::chats) fn ask_of_leave_anew(
        &mut self,
        chat: &mut Chat,
        step: &mut Step<'_>,
    ) {
        chat.session.leave = Retry::default();
        self.ask_of_leave(chat, step);
    }

    /// Asks whether the log still has this account's leave, when it is time.
    pub(in crate::engine::chats) fn ask_of_leave(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let is_open = chat.asks_of_leave() && chat.session.search.is_none();
        let Some(left) = chat.row.left.as_ref().filter(|_| is_open && self.online.open) else {
            return;
        };
        if !chat.session.leave.is_due(step.moment) {
            if let Some(at) = chat.session.leave.wake_at() {
                chat.wake_by(at);
            }
            return;
        }
        let after = left.entry.0 - 1;
        chat.session.leave.begin();
        let then = Then::Chat(chat.row.id, ChatThen::Leave(chat.log()));
        let ask = Read { token: chat.token(), after, limit: 1, admission: Vec::new() };
        self.ask_open(then, ask, step);
    }

    pub(in crate::engine::chats) fn leave_looked_up(
        &mut self,
        chat: &mut Chat,
        log: LogId,
        result: Result<OpenReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        let is_open = chat.asks_of_leave() && chat.log() == log;
        let Some(left) = chat.row.left.as_mut().filter(|_| is_open) else {
            return;
        };
        let head = match result {
            Ok(OpenReply::Read(page)) => {
                let found = page.entries.iter().map(|entry| (entry.position, id_of(entry)));
                if found.into_iter().any(|entry| entry == left.entry) {
                    left.stage = Stage::Done;
                    return chat.save(step);
                }
                page.head
            }
            Err(TransportError::Refused(refusal)) if refusal.code == ErrorCode::LogNotFound => 0,
            other => {
                let error = other.err().unwrap_or(TransportError::Malformed);
                return chat.session.leave.failed(&error, step.moment, step.rng);
            }
        };
        left.stage = Stage::Lost;
        chat.save(step);
        self.chats.logs.insert(log, (chat.row.id, Place::Current));
        self.search_anew(chat, head, step);
    }
}
