//! Own messages of somebody who was not in the group when the server lost entries: their device
//! follows no log then. Once it is in again it asks, newest first, which of them the server still
//! has, and says the others again.

use corncrake_core::seal::envelope::{Seed, entry_id};
use corncrake_wire::{
    ErrorCode, OpenReply,
    log::{LogEntry, Read, ReadReply},
};

use super::super::{Chat, ChatThen, closed::token_of, read::kind_of, rows::Phase};
use crate::{
    engine::{State, Step, Then, account::Retry, tables::Table},
    event::ItemKind,
    transport::TransportError,
};

impl Chat {
    /// The server is another instance than before.
    pub(super) fn doubt_sent(&mut self, step: &mut Step<'_>) {
        if matches!(self.row.phase, Phase::Removed | Phase::Left) && !self.row.sent_in_doubt {
            self.row.sent_in_doubt = true;
            self.save(step);
        }
    }

    /// The seed of the log in which an own message was read back.
    fn seed_of_sent(&self, number: u64) -> Option<&Seed> {
        let log = self.sent.get(&number)?.log;
        let kept = self.kept.values().rev().find(|kept| kept.log == log);
        kept.map(|kept| &kept.seed).or_else(|| (self.keys.log == log).then_some(&self.row.seed))
    }

    /// The server doesn't have this message any more.
    fn lose_sent(&mut self, number: u64, step: &mut Step<'_>) {
        if let Some(sent) = self.sent.get_mut(&number) {
            sent.position = 0;
            step.put(Table::Sent, self.row.id.as_bytes(), number, sent);
        }
    }

    /// Whether the entry is there with which an own message was sent.
    fn holds_sent(&self, number: u64, page: &ReadReply) -> bool {
        let (Some(sent), Some(seed)) = (self.sent.get(&number), self.seed_of_sent(number)) else {
            return false;
        };
        let keys = seed.log_keys();
        let is_it = |entry: &LogEntry| {
            let opened = keys.envelope.open(keys.log, kind_of(entry.kind), &entry.bytes);
            // Of what has expired nothing is left to be compared; it isn't said again either.
            entry.position == sent.position
                && (entry.expired.is_some()
                    || opened.is_ok_and(|inner| entry_id(&inner) == sent.inner))
        };
        page.entries.iter().any(is_it)
    }
}

impl State {
    /// Asks for the newest own message of which it isn't known whether the server has it.
    pub(in crate::engine::chats) fn ask_of_sent(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        if !chat.row.sent_in_doubt || !chat.is_member() || chat.row.phase != Phase::Inside {
            return;
        }
        if !chat.session.sent.is_due(step.moment) {
            if let Some(at) = chat.session.sent.wake_at() {
                chat.wake_by(at);
            }
            return;
        }
        loop {
            let newest = chat.sent.iter().rev().find(|(_, sent)| sent.position > 0);
            let Some((number, after)) = newest.map(|(number, sent)| (*number, sent.position - 1))
            else {
                return self.sent_is_known(chat, step);
            };
            let Some(seed) = chat.seed_of_sent(number) else {
                // Nobody can look into that log.
                chat.lose_sent(number, step);
                continue;
            };
            let token = token_of(&seed.log_keys());
            chat.session.sent.begin();
            let then = Then::Chat(chat.row.id, ChatThen::Sent(number));
            return self.ask_open(
                then,
                Read { token, after, limit: 1, admission: Vec::new() },
                step,
            );
        }
    }

    pub(in crate::engine::chats) fn sent_looked_up(
        &mut self,
        chat: &mut Chat,
        number: u64,
        result: Result<OpenReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        let is_there = match result {
            Ok(OpenReply::Read(page)) => chat.holds_sent(number, &page),
            Err(TransportError::Refused(refusal)) if refusal.code == ErrorCode::LogNotFound => {
                false
            }
            other => {
                let error = other.err().unwrap_or(TransportError::Malformed);
                return chat.session.sent.failed(&error, step.moment, step.rng);
            }
        };
        chat.session.sent = Retry::default();
        if is_there {
            // So are all before it.
            self.sent_is_known(chat, step);
        } else {
            chat.lose_sent(number, step);
        }
    }

    fn sent_is_known(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        chat.row.sent_in_doubt = false;
        if chat.sent.values().any(|sent| sent.position == 0) && !chat.row.recovering {
            chat.row.recovering = true;
            self.tell_item(chat, ItemKind::ServerLostEntries, step);
        }
        chat.save(step);
    }
}
