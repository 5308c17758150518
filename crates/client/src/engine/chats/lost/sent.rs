//! Own messages, which are said again if the server has lost them.

use core::time::Duration;
use std::collections::BTreeSet;

use corncrake_core::{
    content::{Body, Message},
    id::{EntryId, LogId as CoreLogId, MessageId},
};
use serde::{Deserialize, Serialize};

use super::{Chat, KEPT};
use crate::engine::{State, Step, chats::rows::Intent, tables::Table};

/// How long a server keeps messages.
const EXPIRY: Duration = Duration::from_hours(30 * 24);
/// Above so many own messages to say again a fresh path comes first.
const PATH_FIRST: usize = 1000;

/// An own message that was read back from a log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(super) log: CoreLogId,
    /// Where it is; 0 while nobody knows whether the log still has it.
    pub(super) position: u64,
    /// The hash of what lies inside its envelope.
    pub(super) inner: EntryId,
    pub(super) id: MessageId,
    content: Vec<u8>,
    /// To whom it was said.
    pub(super) audience: u64,
}

impl State {
    /// Once everything has been read again: what the log lacks becomes intents again, before all
    /// that waits.
    pub(in crate::engine::chats) fn say_again(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let is_ready = chat.is_loaded && chat.is_member() && !chat.row.begin.is_open();
        if !chat.row.recovering || !is_ready {
            return;
        }
        chat.row.recovering = false;
        chat.say_again_if(|_, sent| sent.position == 0, step);
        let me = self.account.me().map(|me| me.device);
        chat.await_others(me, step);
        chat.save(step);
    }
}

impl Chat {
    /// Remembers an own message that the log shows.
    pub(in crate::engine::chats) fn remember_sent(
        &mut self,
        inner: EntryId,
        intent: u64,
        step: &mut Step<'_>,
    ) {
        let found = self.intents.iter().find(|(number, _)| *number == intent);
        let Some((_, Intent::Send { id, content, .. })) = found else {
            return;
        };
        let (log, position) = (self.keys.log, self.row.cursor);
        let (id, content) = (*id, content.clone());
        let audience = self.audience(step);
        let sent = Sent { log, position, inner, id, content, audience };
        let number = self.sent.last_key_value().map_or(1, |(number, _)| number + 1);
        step.put(Table::Sent, self.row.id.as_bytes(), number, &sent);
        self.sent.insert(number, sent);
        if let Some(old) = number.checked_sub(KEPT) {
            self.sent.remove(&old);
            step.delete(Table::Sent, self.row.id.as_bytes(), old);
            self.forget_audiences(step);
        }
    }

    /// An own message is still there.
    pub(in crate::engine::chats) fn landed_again(
        &mut self,
        inner: EntryId,
        at: (CoreLogId, u64),
        step: &mut Step<'_>,
    ) {
        if !self.row.recovering {
            return;
        }
        let here = |(_, sent): &(&u64, &mut Sent)| sent.inner == inner && sent.position == 0;
        if let Some((number, sent)) = self.sent.iter_mut().find(here) {
            (sent.log, sent.position) = at;
            step.put(Table::Sent, self.row.id.as_bytes(), *number, sent);
        }
    }

    /// Nobody knows whether the server still has what was sent behind a place.
    pub(super) fn lose_sent_after(&mut self, log: &CoreLogId, position: u64, step: &mut Step<'_>) {
        let earlier: BTreeSet<CoreLogId> = {
            let logs = self.closed.values().map(|closed| closed.keys().log);
            logs.take_while(|other| other != log).collect()
        };
        let lost = |sent: &Sent| {
            !earlier.contains(&sent.log) && (sent.log != *log || sent.position > position)
        };
        for (number, sent) in self.sent.iter_mut().filter(|(_, sent)| lost(sent)) {
            sent.position = 0;
            step.put(Table::Sent, self.row.id.as_bytes(), *number, sent);
        }
    }

    /// Makes intents of own messages that were sent, in their order; those that the server would
    /// have let expire are gone for good.
    pub(super) fn say_again_if(
        &mut self,
        is_wanted: impl Fn(u64, &Sent) -> bool,
        step: &mut Step<'_>,
    ) {
        let wanted = self.sent.iter().filter(|(number, sent)| is_wanted(**number, sent));
        let wanted: Vec<u64> = wanted.map(|(number, _)| *number).collect();
        let mut again = Vec::new();
        for number in wanted {
            step.delete(Table::Sent, self.row.id.as_bytes(), number);
            let Some(sent) = self.sent.remove(&number) else { continue };
            let (time, text) = match Message::decode(&sent.content) {
                Ok(Message { time, body: Body::Text(text), .. }) => (time, text),
                Ok(Message { time, body: Body::NotRepeated, .. }) => (time, String::new()),
                _ => continue,
            };
            if step.now.0 / 1000 < time.saturating_add(EXPIRY.as_secs()) {
                let Sent { id, content, audience, .. } = sent;
                // What is not repeated is so for everybody.
                let said_to = (!text.is_empty()).then_some(audience);
                again.push(Intent::Send { id, time, content, text, said_to });
            }
        }
        self.session.path_first |= again.len() > PATH_FIRST;
        if !again.is_empty() {
            self.put_first(again, step);
        }
    }

    /// Says again what was said in the current log.
    pub(super) fn say_all_again(&mut self, step: &mut Step<'_>) {
        let log = self.keys.log;
        self.say_again_if(|_, sent| sent.log == log, step);
    }

    /// Puts intents before all others.
    fn put_first(&mut self, first: Vec<Intent>, step: &mut Step<'_>) {
        let id = self.row.id;
        let waiting = core::mem::take(&mut self.intents);
        let mut replies = core::mem::take(&mut self.session.replies);
        let all = first.into_iter().map(|intent| (None, intent));
        let all = all.chain(waiting.into_iter().map(|(number, intent)| (Some(number), intent)));
        for (old, intent) in all {
            let number = self.row.next_intent;
            self.row.next_intent += 1;
            if let Some(old) = old {
                step.delete(Table::Intents, id.as_bytes(), old);
                if let Some(reply) = replies.remove(&old) {
                    self.session.replies.insert(number, reply);
                }
            }
            step.put(Table::Intents, id.as_bytes(), number, &(id, &intent));
            self.intents.push_back((number, intent));
        }
    }
}
