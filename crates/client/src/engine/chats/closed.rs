//! Logs that were handed over: followed for knocks, later looked into once a day, and answered.

use core::time::Duration;

use corncrake_core::{
    conversation::{Answer, ClosedLog as HandedOver, Entry, KnockKey},
    id::{ConversationId, EntryId},
    mls::codec::Decode,
    seal::envelope::{EntryKind, LogKeys, Seed},
};
use corncrake_wire::{
    AccessToken, ErrorCode, LogId, OpenReply,
    log::{self, Append, AppendReply, NewEntry, Point},
};
use rand_core::Rng;

use super::{
    Chat, ChatThen, Place,
    duties::{Duty, RANK_WAIT},
    read::kind_of,
    rows::{ClosedLog, Pending, Phase},
};
use crate::{
    engine::{Effect, State, Step, Then, tables::Table},
    host::Timestamp,
    transport::TransportError,
};

/// How long a closed log is followed; afterwards it is looked into about once a day.
const FOLLOWED: Duration = Duration::from_hours(90 * 24);
const DAY: Duration = Duration::from_hours(24);
/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_hours(2 * 24);

impl State {
    /// Follows the closed logs of a chat for as long as somebody may knock at them often; older ones
    /// are looked into from time to time.
    pub(super) fn watch_closed(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        for (&number, closed) in chat.closed.iter().rev() {
            if closed.is_followed(step.now) {
                self.watch_one(chat, number, closed, step);
            }
        }
        self.look_into_closed(chat, step);
    }

    /// Looks into closed logs that are no longer followed, when it is time.
    pub(super) fn look_into_closed(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let clock = step.clock();
        let mut closed = core::mem::take(&mut chat.closed);
        for (&number, closed) in
            closed.iter_mut().filter(|(_, closed)| !closed.is_followed(clock.now))
        {
            let next = clock.until(closed.look_at, LONGEST_PAUSE).unwrap_or_else(|| {
                // Members look at different times, and another one each day.
                let pause = DAY / 2 + random_of(DAY, step);
                closed.look_at = clock.now.after(pause);
                closed.save(chat.row.id, number, step);
                self.watch_one(chat, number, closed, step);
                clock.moment.after(pause)
            });
            chat.wake_by(next);
        }
        chat.closed = closed;
    }

    fn watch_one(&mut self, chat: &Chat, number: u64, closed: &ClosedLog, step: &mut Step<'_>) {
        let keys = closed.keys();
        let log = log_of(&keys);
        if log != chat.log() {
            self.chats.logs.insert(log, (chat.row.id, Place::Closed(number)));
            let watch = Effect::Watch(token_of(&keys), closed.cursor, closed.running);
            step.effects.push(watch);
        }
    }

    /// Reads what comes behind the end of a closed log.
    pub(super) fn closed_entries(
        &mut self,
        chat: &mut Chat,
        (number, head): (u64, u64),
        entries: Vec<log::LogEntry>,
        step: &mut Step<'_>,
    ) {
        let is_newest = chat.closed.last_key_value().is_some_and(|(newest, _)| *newest == number);
        let Some(closed) = chat.closed.get_mut(&number) else {
            return;
        };
        let keys = closed.keys();
        let Some(handed_over) = closed.handed_over() else {
            return;
        };
        for entry in entries {
            if entry.position <= closed.cursor {
                continue;
            }
            closed.advance(&entry);
            let kind = kind_of(entry.kind);
            let Ok(inner) = keys.envelope.open(keys.log, kind, &entry.bytes) else {
                continue;
            };
            match HandedOver::read(kind, &inner) {
                Some(Entry::Knock(knock)) if handed_over.may_be_answered(&knock) => {
                    chat.session.knocks.insert(knock.hash(), (number, Box::new(knock)));
                }
                Some(Entry::Answer(answer)) => {
                    chat.session.knocks.remove(&answer.knock());
                    chat.session.duties.remove(&Duty::Answer(answer.knock()));
                }
                _ => {}
            }
        }
        closed.save(chat.row.id, number, step);
        let is_quiet = chat.session.knocks.values().all(|(at, _)| *at != number);
        if is_quiet && closed.cursor >= head && !closed.is_followed(step.now) {
            step.effects.push(Effect::Unwatch(log_of(&keys)));
        }
        if is_newest {
            chat.see_end(step);
        }
        self.answer_knocks(chat, step);
    }

    /// Answers knocks that nobody of a lower rank has answered.
    pub(super) fn answer_knocks(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let knocks: Vec<[u8; 32]> = chat.session.knocks.keys().copied().collect();
        for hash in knocks {
            let Some((number, _)) = chat.session.knocks.get(&hash) else {
                continue;
            };
            let number = *number;
            let Some(closed) = chat.closed.get(&number).cloned() else {
                continue;
            };
            let Some(handed_over) = closed.handed_over() else {
                continue;
            };
            let wait = RANK_WAIT.saturating_mul(handed_over.rank);
            if !chat.due(Duty::Answer(hash), wait, step) {
                continue;
            }
            let Some((_, knock)) = chat.session.knocks.get(&hash) else {
                continue;
            };
            let Some((seed, chain)) = chat.seeds_behind(number) else {
                continue;
            };
            let Some(inner) = handed_over.answer(knock, &seed, &chain, step.rng) else {
                chat.session.knocks.remove(&hash);
                continue;
            };
            let keys = closed.keys();
            let sealed = keys.envelope.seal(keys.log, EntryKind::Message, &inner, step.rng);
            let Ok(sealed) = sealed else { continue };
            let append = Append {
                token: token_of(&keys),
                kind: log::EntryKind::Message,
                after: point(closed.closed_by),
                entries: vec![NewEntry::new(sealed)],
                opening: None,
                admission: Vec::new(),
            };
            // Until the answer is read in the log, it is tried again.
            let again = step.moment.after(Duration::from_secs(10));
            chat.session.duties.insert(Duty::Answer(hash), again);
            chat.wake_by(again);
            self.ask_open(Then::Chat(chat.row.id, ChatThen::Answered(hash)), append, step);
        }
    }

    pub(super) fn answered(
        &mut self,
        chat: &mut Chat,
        knock: [u8; 32],
        result: Result<OpenReply, TransportError>,
        _: &mut Step<'_>,
    ) {
        let Some((number, _)) = chat.session.knocks.get(&knock) else {
            return;
        };
        let is_gone = match (result, chat.closed.get_mut(number)) {
            // A commit behind the end counts for nobody, but moves `after`.
            (Ok(OpenReply::Append(AppendReply::Conflict { newest_commit, .. })), Some(closed))
                if newest_commit.position > closed.closed_by.0 =>
            {
                closed.closed_by =
                    (newest_commit.position, EntryId::from_bytes(newest_commit.id.0));
                false
            }
            (Ok(OpenReply::Append(AppendReply::Conflict { .. })), _) => true,
            (Err(TransportError::Refused(refusal)), _) => {
                matches!(refusal.code, ErrorCode::OpeningMissing | ErrorCode::LogNotFound)
            }
            _ => return,
        };
        chat.session.duties.remove(&Duty::Answer(knock));
        if is_gone {
            // The server has lost the log, and the knock with it.
            chat.session.knocks.remove(&knock);
        }
    }
}

impl Chat {
    /// Whether this device has come from this log to a later one, and nothing was lost since.
    pub(super) fn has_read_to_its_end(&self, seed: &Seed) -> bool {
        let last = self.closed.values().rev().find(|closed| closed.seed == *seed);
        last.is_some_and(|last| self.row.lost_at.is_none_or(|lost_at| last.closed_at > lost_at))
    }

    /// The seed of the log behind a closed one, and what follows as far as it is known.
    fn seeds_behind(&self, number: u64) -> Option<(Seed, Vec<(HandedOver, Seed)>)> {
        let behind = |number: u64| match self.closed.get(&(number + 1)) {
            Some(next) => Some(next.seed.clone()),
            None if self.row.phase == Phase::Waiting => None,
            None => Some(self.row.seed.clone()),
        };
        let chain = self
            .closed
            .range(number + 1..)
            .map_while(|(number, closed)| Some((closed.handed_over()?, behind(*number)?)))
            .collect();
        Some((behind(number)?, chain))
    }

    /// The newest closed log is as it was, or tells nothing.
    pub(super) fn see_end(&mut self, step: &Step<'_>) {
        if !core::mem::replace(&mut self.session.end_seen, true) {
            self.wake_by(step.moment);
        }
    }

    /// Whether the current log is to begin, and it isn't known whether the server still has the
    /// handover that leads to it.
    pub(super) fn waits_for_end(&self, now: Timestamp) -> bool {
        let begins = self.row.cursor == 0 && self.session.head == Some(0);
        let newest = self.closed.last_key_value().map(|(_, closed)| closed);
        let may_begin = self.session.end_seen || self.row.begin.is_open();
        begins && !may_begin && newest.is_some_and(|closed| closed.is_followed(now))
    }

    /// What is kept of the log that was closed last.
    pub(super) fn newest_closed(&self) -> Option<HandedOver> {
        self.closed.last_key_value()?.1.handed_over()
    }

    /// The seeds in an answer to this chat's knock.
    pub(super) fn open_answer(&self, answer: &Answer) -> Option<Vec<Seed>> {
        let Pending(key) = self.row.knock.as_ref()?;
        Some(KnockKey::from_bytes(key).ok()?.open(answer))
    }
}

impl ClosedLog {
    pub(super) fn keys(&self) -> LogKeys {
        self.seed.log_keys()
    }

    pub(super) fn handed_over(&self) -> Option<HandedOver> {
        HandedOver::decode_exact(&self.handed_over).ok()
    }

    pub(super) fn save(&self, chat: ConversationId, number: u64, step: &mut Step<'_>) {
        step.put(Table::ClosedLogs, chat.as_bytes(), number, &(chat, self));
    }

    fn is_followed(&self, now: Timestamp) -> bool {
        now < self.closed_at.after(FOLLOWED)
    }
}

/// When to look first into a log that is closed now.
pub(super) fn first_look(step: &mut Step<'_>) -> Timestamp {
    step.now.after(FOLLOWED).after(random_of(DAY, step))
}

fn random_of(most: Duration, step: &mut Step<'_>) -> Duration {
    most.mul_f64(f64::from(step.rng.next_u32()) / f64::from(u32::MAX))
}

/// A place in a log as the server names it.
pub(super) fn point((position, id): (u64, EntryId)) -> Point {
    Point { position, id: corncrake_wire::EntryId(*id.as_bytes()) }
}

/// The id of an entry that came from a server.
pub(super) fn id_of(entry: &log::LogEntry) -> EntryId {
    EntryId::from_bytes(entry.id().0)
}

pub(super) fn log_of(keys: &LogKeys) -> LogId {
    LogId(*keys.log.as_bytes())
}

pub(super) fn token_of(keys: &LogKeys) -> AccessToken {
    AccessToken::new(*keys.access_token.expose())
}
