//! Entries come in: each is read by the conversation, and what it did becomes a line of the
//! timeline, a change of the chat, or nothing.

use corncrake_core::{
    content::{Body, Message},
    conversation::{
        Answer, Cause, ClosedLog as HandedOver, CommitReport, ContextExtension, Conversation,
        LogItem, OPENING, Outcome, OwnEntry, Reading, Role, Sender, SkipReason,
    },
    id::{AccountId, ConversationId, EntryId},
    mls::{self, codec::Encode},
    seal::envelope::{EntryKind, Seed, entry_id},
};
use corncrake_wire::{LogId, log};

use super::{
    Chat, Place, ReadEntry,
    closed::{self, id_of},
    duties::{COPY_WAIT, Duty},
    lost::{OTHERS_RETURN, again::Done},
    rows::{ClosedLog, Intent, Opening, Pending, Phase, Purpose, Wish},
    timeline,
};
use crate::{
    engine::{State, Step, tables::Table},
    error::{Error, Refusal},
    event::{ChatKind, Delivery, EventKind, ItemKind},
};

/// Whether the rest of a page belongs to the log that is being read.
#[derive(PartialEq, Eq)]
enum Page {
    GoesOn,
    /// It does, and this device, in whatever epoch it is, knows nothing of what the entry says.
    GoesOnUnread,
    Ends,
}

pub(crate) const fn kind_of(kind: log::EntryKind) -> EntryKind {
    match kind {
        log::EntryKind::Commit => EntryKind::Commit,
        log::EntryKind::Message => EntryKind::Message,
    }
}

impl State {
    /// Takes entries of a watched log.
    pub(crate) fn chat_entries(
        &mut self,
        (id, place): (ConversationId, Place),
        log: LogId,
        entries: Vec<log::LogEntry>,
        head: u64,
        step: &mut Step<'_>,
    ) {
        self.with_chat(id, step, |state, chat, step| match place {
            _ if !state.place_found(chat, log, head, step) => state.advance(chat, step),
            Place::Closed(number) => {
                state.closed_entries(chat, (number, head), entries, step);
            }
            Place::Current if chat.log() == log => {
                state.current_entries(chat, entries, head, step);
                state.advance(chat, step);
            }
            Place::Current => {}
        });
    }

    fn current_entries(
        &mut self,
        chat: &mut Chat,
        entries: Vec<log::LogEntry>,
        head: u64,
        step: &mut Step<'_>,
    ) {
        let log = chat.log();
        let before = chat.row.cursor;
        if entries.first().is_some_and(|first| self.lost_the_founding(chat, first)) {
            return self.join_what_is_there(chat, step);
        }
        if let Some(first) = entries.first()
            && !self.may_read_begun(chat, (first, head), step)
        {
            return;
        }
        for entry in entries {
            if entry.position <= chat.row.cursor {
                continue;
            }
            if entry.position > chat.row.cursor + 1 {
                // Something was lost on the way: ask again from here.
                self.watch(chat, step);
                break;
            }
            // Behind the end of a log whose successor is unknown, answers to knocks may follow.
            let ends = self.read_entry(chat, &entry, step) == Page::Ends;
            if ends && (chat.log() != log || !chat.waits_here()) {
                break;
            }
        }
        if chat.log() == log {
            // The answer to an append may have told of a newer head than entries that came before it
            // and are read after it: to go back to theirs would send again what is in the log.
            let head = Some(head.max(chat.row.cursor));
            chat.session.head = chat.session.head.max(head);
            if chat.caught_up() {
                chat.session.show_by = None;
            }
            self.settle_flight(chat, step);
            if let Some(lost) = chat.session.lost_behind.take() {
                self.closed_differs(chat, lost, step);
            }
        }
        if chat.row.cursor != before || chat.log() != log {
            chat.save(step);
        }
    }

    fn read_entry(&mut self, chat: &mut Chat, entry: &log::LogEntry, step: &mut Step<'_>) -> Page {
        chat.row.advance(entry);
        let kind = kind_of(entry.kind);
        let inner = chat.keys.envelope.open(chat.keys.log, kind, &entry.bytes).ok();
        let hash = inner.as_ref().map(|inner| entry_id(inner));
        let inner = inner.as_ref().map(|inner| inner.as_slice());
        if chat.conversation.is_none() {
            return Page::Ends;
        }
        let page = self.read_opened(chat, entry, (inner, hash), step);
        if !matches!(chat.row.phase, Phase::Removed | Phase::Left) && page != Page::GoesOnUnread {
            chat.note_read(entry.position, ReadEntry { id: id_of(entry), inner: hash }, step);
        }
        page
    }

    fn read_opened(
        &mut self,
        chat: &mut Chat,
        entry: &log::LogEntry,
        (inner, hash): (Option<&[u8]>, Option<EntryId>),
        step: &mut Step<'_>,
    ) -> Page {
        let flown = chat.flown(hash);
        let pending = flown.and_then(|_| chat.flight.as_ref()?.pending.clone());
        let own = match &pending {
            Some(Pending(secrets)) => Some(OwnEntry::Commit(secrets)),
            None => hash.filter(|hash| chat.own.contains_key(hash)).map(|_| OwnEntry::Message),
        };
        let (id, kind) = (id_of(entry), kind_of(entry.kind));
        if entry.expired.is_some() && !chat.has_read(&id) {
            timeline::append_expired(chat, step);
        }
        let item = LogItem { position: entry.position, id, kind, inner, own };
        let Some(conversation) = &mut chat.conversation else {
            return Page::Ends;
        };
        match conversation.read(item) {
            Reading::Message { sender, content, view_alarm } => {
                self.message_came(chat, sender, &content, step);
                if view_alarm {
                    let what = ItemKind::ViewDiffers { sender: sender.account };
                    self.tell_item(chat, what, step);
                }
            }
            Reading::Own => {
                if let Some(hash) = hash {
                    chat.landed_again(hash, (chat.keys.log, entry.position), step);
                }
                self.own_landed(chat, flown, step);
            }
            Reading::Unreadable { cause: Cause::Undecryptable, .. } if chat.has_heard(hash) => {}
            Reading::Unreadable { cause: Cause::NotMember, .. } if chat.has_read(&id) => {}
            Reading::Unreadable { sender, cause } => self.unreadable(chat, sender, cause, step),
            Reading::Commit(report) => {
                return self.commit_came(chat, *report, (entry, id), step);
            }
            Reading::Closed { by, next_seed, closed } => {
                self.heard(chat, by, step);
                self.closed(chat, next_seed, *closed, step);
                return Page::Ends;
            }
            Reading::Skipped(_) if flown.is_some() => self.own_skipped(chat, step),
            // It may turn out that the group is in another epoch, as the log is one that began again.
            Reading::Skipped(SkipReason::Mls(mls::Error::WrongEpoch))
                if kind == EntryKind::Message =>
            {
                return Page::GoesOnUnread;
            }
            Reading::Knock(_) | Reading::Skipped(_) | Reading::Ignored => {
                self.own_landed(chat, flown, step);
            }
            Reading::Answer(answer) => {
                if self.answer_came(chat, &answer, step) {
                    return Page::Ends;
                }
            }
        }
        Page::GoesOn
    }

    fn message_came(
        &mut self,
        chat: &mut Chat,
        sender: Sender,
        content: &[u8],
        step: &mut Step<'_>,
    ) {
        self.heard(chat, sender, step);
        self.speaks(chat, sender.device, step);
        let Ok(message) = Message::decode(content) else {
            let code = "malformed_content".to_owned();
            let what = ItemKind::Unreadable { sender: Some(sender.account), code };
            return self.tell_item(chat, what, step);
        };
        if chat.recent.contains(&(sender.account, message.id)) {
            return;
        }
        chat.remember(sender.account, message.id);
        if chat.row.hidden && chat.row.kind == ChatKind::Direct {
            chat.row.hidden = false;
            chat.row.recorded = false;
            step.event(EventKind::ChatAdded(chat.row.id));
        }
        let what = match message.body {
            Body::Text(text) => ItemKind::Message {
                id: message.id,
                sender: sender.account,
                text,
                delivery: Delivery::Received,
            },
            Body::NotRepeated => ItemKind::NotRepeated { id: message.id, sender: sender.account },
            _ => ItemKind::UnknownKind { id: message.id, sender: sender.account },
        };
        timeline::append_said(chat, message.time, what, step);
    }

    /// An own message or handover was read back from the log.
    fn own_landed(&mut self, chat: &mut Chat, flown: Option<usize>, step: &mut Step<'_>) {
        let Some(entry) = flown.and_then(|at| chat.flight.as_mut().map(|f| f.entries.remove(at)))
        else {
            return;
        };
        chat.session.folded_anew = 0;
        // A knock that stands in the log is not an answered one.
        if chat.row.phase != Phase::Waiting {
            chat.session.tries = 0;
            chat.session.not_before = None;
        }
        if let Some(intent) = entry.intent {
            chat.remember_sent(entry.inner, intent, step);
            self.end_intent(chat, intent, Ok(()), step);
        }
        self.flight_shrank(chat, step);
    }

    /// An own commit stands in the log and counts for nobody: it must not be made again and again.
    fn own_skipped(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let intents: Vec<u64> =
            chat.flight.iter().flat_map(|f| &f.entries).filter_map(|entry| entry.intent).collect();
        chat.drop_flight(step);
        chat.put_off(step);
        for intent in intents {
            self.end_intent(chat, intent, Err(Refusal::NotAllowed), step);
        }
    }

    fn flight_shrank(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        match &chat.flight {
            Some(flight) if !flight.entries.is_empty() => {
                step.put(Table::Flights, chat.row.id.as_bytes(), 0, &(chat.row.id, flight));
            }
            _ => chat.drop_flight(step),
        }
    }

    /// Takes an intent out of the outbox: its effect stands in the log, or it can come to nothing
    /// any more.
    pub(super) fn end_intent(
        &mut self,
        chat: &mut Chat,
        number: u64,
        outcome: Result<(), Refusal>,
        step: &mut Step<'_>,
    ) {
        let Some(at) = chat.intents.iter().position(|(intent, _)| *intent == number) else {
            return;
        };
        step.delete(Table::Intents, chat.row.id.as_bytes(), number);
        let sender = self.account.me().map(|me| me.account);
        if let (Some((_, Intent::Send { id, time, text, .. })), Some(sender)) =
            (chat.intents.remove(at), sender)
        {
            let delivery = match outcome {
                Ok(()) => Delivery::Sent,
                Err(why) => Delivery::Failed(why.code().to_owned()),
            };
            // What is said again because the server lost it has its line already.
            if !chat.recent.contains(&(sender, id)) {
                chat.remember(sender, id);
                let what = ItemKind::Message { id, sender, text, delivery };
                timeline::append_said(chat, time, what, step);
            }
        }
        if let Some(reply) = chat.session.replies.remove(&number) {
            reply.answer(outcome.map_err(Error::Refused), step);
        }
    }

    pub(super) fn all_intents_failed(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        self.intents_failed(chat, Refusal::NotAMember, step);
    }

    fn intents_failed(&mut self, chat: &mut Chat, why: Refusal, step: &mut Step<'_>) {
        let numbers: Vec<u64> = chat.intents.iter().map(|(number, _)| *number).collect();
        for number in numbers {
            self.end_intent(chat, number, Err(why), step);
        }
    }

    /// This device was removed from its account: what it has not begun to send it never will.
    pub(crate) fn chats_signed_out(&mut self, step: &mut Step<'_>) {
        for id in self.chat_ids() {
            self.with_chat(id, step, |state, chat, step| {
                if chat.flight.is_none() && !chat.intents.is_empty() {
                    state.intents_failed(chat, Refusal::SignedOut, step);
                    chat.save(step);
                }
            });
        }
    }

    fn unreadable(
        &mut self,
        chat: &mut Chat,
        sender: Option<Sender>,
        cause: Cause,
        step: &mut Step<'_>,
    ) {
        if cause == Cause::NotMember {
            // One line tells of all that was missed, when this device is back.
            chat.row.missed = true;
            return;
        }
        if cause == Cause::UnknownOwn {
            self.step_out(chat, step);
        }
        let sender = sender.map(|sender| sender.account);
        let code = cause.code().to_owned();
        self.tell_item(chat, ItemKind::Unreadable { sender, code }, step);
    }

    /// Another store holds our leaf's keys: leave the leaf before anything is sent with it.
    fn step_out(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        chat.drop_flight(step);
        if let Some(conversation) = &mut chat.conversation {
            conversation.step_out();
        }
        let again_at = chat.row.stepped_out.map(|last| last.after(COPY_WAIT));
        chat.row.stays_out_until = again_at.filter(|again_at| *again_at > step.now);
        chat.row.stepped_out = Some(step.now);
        chat.row.missed = true;
        if let Some(until) = chat.row.stays_out_until {
            self.tell_item(chat, ItemKind::Copied { until }, step);
        }
        step.event(EventKind::ChatChanged(chat.row.id));
    }

    /// A device has acted in the group. That confirms the group if it is not of the account that
    /// let this one in.
    fn heard(&mut self, chat: &mut Chat, actor: Sender, step: &mut Step<'_>) {
        self.forget_letters(chat.row.id, actor.device, step);
        chat.row.newcomers.remove(&actor.account);
        chat.is_here(actor.device, step);
        self.heard_since_begin(chat, (actor, false), step);
        let me = self.account.me().map(|me| me.account);
        let other = |inviter| inviter != actor.account && me != Some(actor.account);
        if chat.row.unconfirmed.is_some_and(other) {
            chat.row.unconfirmed = None;
            step.event(EventKind::ChatChanged(chat.row.id));
        }
    }

    fn commit_came(
        &mut self,
        chat: &mut Chat,
        report: CommitReport,
        (entry, id): (&log::LogEntry, EntryId),
        step: &mut Step<'_>,
    ) -> Page {
        let before = chat.standing();
        chat.row.newest_counted = Some((entry.position, id));
        chat.forget_sent(step);
        chat.session.duties.clear();
        if report.own {
            self.own_commit_landed(chat, (entry.position, id), step);
        } else {
            // Sealed for an epoch that is over; the intents are still there.
            chat.drop_flight(step);
            if entry.has_state {
                self.look_at_state(chat, entry.position, step);
            }
        }
        if entry.has_state {
            // A new device is to begin here, and not where the account's log left it.
            chat.row.recorded = false;
        }
        self.heard_since_begin(chat, (report.author, report.external), step);
        chat.mind_returned(&report, step);
        self.heard(chat, report.author, step);
        self.mind_the_new(chat, &report, entry, step);
        self.mind_newcomers(chat, &report, step);
        self.tell_commit(chat, &report, step);
        self.mind_own_removed(&report, step);
        let done = chat.done_by(&report);
        chat.settle_owed_after(&done, step.now);
        chat.keep_place(done, step);
        let me = self.account.me().map(|me| me.account);
        let left = me.is_some_and(|me| newly_leaving(&report).contains(&me));
        match report.outcome {
            _ if left => {
                let leaves = chat.intents.iter().find(|(_, i)| *i == Intent::Change(Wish::Leave));
                if let Some(number) = leaves.map(|(number, _)| *number) {
                    self.end_intent(chat, number, Ok(()), step);
                }
                self.all_intents_failed(chat, step);
                self.record_out(chat, step);
                chat.forget(Phase::Left, step);
                return Page::Ends;
            }
            Outcome::RemovedMe if self.is_this_device(report.author) => self.step_out(chat, step),
            Outcome::RemovedMe => {
                chat.row.removed_by = Some(report.author.account);
                chat.row.removed_at = chat.conversation.as_ref().map(Conversation::epoch);
                self.taken_out(chat, step);
                return Page::Ends;
            }
            Outcome::LockedOut(_) => {
                chat.session.locked_out = true;
                self.tell_item(chat, ItemKind::LockedOut { by: report.author.account }, step);
            }
            Outcome::Finished { .. } | Outcome::Outside => {}
        }
        let context = report.context_change.is_some();
        if before != chat.standing()
            || context
            || !report.added.is_empty()
            || !report.removed.is_empty()
        {
            step.event(EventKind::ChatChanged(chat.row.id));
        }
        Page::GoesOn
    }

    fn is_this_device(&self, sender: Sender) -> bool {
        self.account.me().is_some_and(|me| me.device == sender.device)
    }

    fn own_commit_landed(
        &mut self,
        chat: &mut Chat,
        (position, entry): (u64, EntryId),
        step: &mut Step<'_>,
    ) {
        let Some(flight) = chat.flight.clone() else {
            return;
        };
        chat.drop_flight(step);
        chat.session.tries = 0;
        chat.session.not_before = None;
        chat.session.locked_out = false;
        chat.session.path_first = false;
        if flight.state.is_some() || position == 1 {
            chat.row.opening = Opening::True;
        }
        if flight.letters.is_empty() {
            self.own_begin_landed(chat, (position, entry), step);
        }
        if let (true, Some(conversation)) = (flight.state.is_some(), &mut chat.conversation) {
            let state = conversation.state().encode();
            conversation.check_state(position, &state);
        }
        if flight.purpose == Purpose::Rejoin {
            chat.row.stays_out_until = None;
            if chat.row.recovering {
                chat.session.others_return = Some(step.moment.after(OTHERS_RETURN));
            }
            if core::mem::take(&mut chat.row.missed) {
                self.tell_item(chat, ItemKind::Gap, step);
            }
        }
        self.owe_letters(chat, (position, entry), flight.letters, step);
        let intents: Vec<u64> = flight.entries.iter().filter_map(|entry| entry.intent).collect();
        for intent in intents {
            self.end_intent(chat, intent, Ok(()), step);
        }
    }

    fn tell_commit(&mut self, chat: &mut Chat, report: &CommitReport, step: &mut Step<'_>) {
        let by = report.author.account;
        if report.external {
            self.tell_item(chat, ItemKind::Rejoined { who: by }, step);
        }
        let added = accounts(&report.added);
        if !added.is_empty() {
            self.learn(chat.row.id, &added, step);
            self.tell_item(chat, ItemKind::Added { by, who: added }, step);
        }
        let gone = accounts(&report.removed);
        if !gone.is_empty() && !report.external {
            self.tell_item(chat, ItemKind::Removed { by, who: gone }, step);
        }
        if let Some(change) = &report.context_change {
            let (old, new) = &**change;
            if old.title != new.title {
                let title = new.title.clone();
                self.tell_item(chat, ItemKind::Renamed { by, title }, step);
            }
            for who in newly_leaving(report) {
                self.tell_item(chat, ItemKind::Left { who }, step);
            }
            // When the last owner has left, others act as owners: that is told too.
            let owned = |context: &ContextExtension| {
                context.roles.values().any(|role| *role == Role::Owner)
            };
            let orphaned = owned(old) && !owned(new);
            if old.roles != new.roles && (report.removed.is_empty() || orphaned) {
                self.tell_item(chat, ItemKind::RolesChanged { by }, step);
            }
        }
        if report.view_alarm {
            self.tell_item(chat, ItemKind::ViewDiffers { sender: by }, step);
        }
    }

    /// The log is closed: the chat goes on in the next one, or waits to be let in.
    pub(super) fn closed(
        &mut self,
        chat: &mut Chat,
        next_seed: Option<Seed>,
        handed_over: HandedOver,
        step: &mut Step<'_>,
    ) {
        chat.drop_flight(step);
        let next_seed = next_seed
            .or_else(|| chat.take_seed_ahead(&handed_over))
            .or_else(|| chat.kept_seed(&handed_over));
        self.keep_closed(chat, &handed_over, step);
        match next_seed {
            Some(seed) => self.go_on_in(chat, &seed, step),
            None => {
                chat.row.phase = Phase::Waiting;
                chat.session.duties.clear();
                step.event(EventKind::ChatChanged(chat.row.id));
            }
        }
    }

    fn keep_closed(&mut self, chat: &mut Chat, handed_over: &HandedOver, step: &mut Step<'_>) {
        let number = chat.row.next_closed;
        chat.row.next_closed += 1;
        // The handover was read just now.
        let closed_by = chat.conversation.as_ref().map_or(OPENING, Conversation::newest_commit);
        chat.keep_place(Done::default(), step);
        let closed = ClosedLog {
            seed: chat.row.seed.clone(),
            cursor: chat.row.cursor,
            running: chat.row.running,
            closed_by,
            closed_at: step.now,
            look_at: closed::first_look(step),
            handed_over: handed_over.to_bytes(),
        };
        closed.save(chat.row.id, number, step);
        chat.closed.insert(number, closed);
    }

    /// Continues in the log with this seed, which is the true successor of the current one.
    pub(super) fn go_on_in(&mut self, chat: &mut Chat, seed: &Seed, step: &mut Step<'_>) {
        let closed = chat.row.next_closed.saturating_sub(1);
        self.chats.logs.insert(chat.log(), (chat.row.id, Place::Closed(closed)));
        let expected = chat.conversation.as_ref().map(|conversation| conversation.state().encode());
        chat.row.opening =
            expected.map_or(Opening::False, |state| Opening::Expected(entry_id(&state)));
        let epoch = chat.conversation.as_ref().map_or(0, Conversation::epoch);
        let begin = core::mem::take(&mut chat.row.begin).handed_over(epoch);
        chat.move_to(seed);
        chat.row.begin = begin;
        chat.session.end_seen = true;
        chat.row.phase = Phase::Inside;
        chat.row.knock = None;
        if let Some(conversation) = &mut chat.conversation {
            conversation.continue_in(chat.keys.log);
        }
        chat.keep_place(Done::default(), step);
        self.watch(chat, step);
        chat.save(step);
        step.event(EventKind::ChatChanged(chat.row.id));
    }

    fn answer_came(&mut self, chat: &mut Chat, answer: &Answer, step: &mut Step<'_>) -> bool {
        if chat.row.phase != Phase::Waiting {
            return false;
        }
        let Some(seeds) = chat.open_answer(answer) else {
            return false;
        };
        let mut seeds = seeds.into_iter();
        let Some(next) = seeds.next() else {
            return false;
        };
        if !chat.newest_closed().is_some_and(|closed| closed.fits_next(&next)) {
            // A false answer: knock anew.
            chat.row.knock = None;
            chat.session.duties.remove(&Duty::Knock);
            return false;
        }
        chat.row.seeds_ahead = seeds.collect();
        chat.drop_flight(step);
        self.go_on_in(chat, &next, step);
        true
    }
}

impl Chat {
    /// Where in the flight the entry with this inner hash stands.
    pub(super) fn flown(&self, hash: Option<EntryId>) -> Option<usize> {
        let hash = hash?;
        self.flight.as_ref()?.entries.iter().position(|entry| entry.inner == hash)
    }

    fn take_seed_ahead(&mut self, handed_over: &HandedOver) -> Option<Seed> {
        let ahead = core::mem::take(&mut self.row.seeds_ahead);
        let mut ahead = ahead.into_iter();
        let next = ahead.next()?;
        if !handed_over.fits_next(&next) {
            return None;
        }
        self.row.seeds_ahead = ahead.collect();
        Some(next)
    }
}

pub(super) fn accounts(senders: &[Sender]) -> Vec<AccountId> {
    let mut accounts: Vec<AccountId> = senders.iter().map(|sender| sender.account).collect();
    accounts.sort_unstable();
    accounts.dedup();
    accounts
}

fn newly_leaving(report: &CommitReport) -> Vec<AccountId> {
    let Some(change) = &report.context_change else {
        return Vec::new();
    };
    change.1.leaving.difference(&change.0.leaving).copied().collect()
}

#[cfg(test)]
mod tests {
    use corncrake_core::derive::Key32;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::{
        engine::{
            account::AccountState,
            chats::{Chats, rows::ChatRow},
        },
        host::{Clock, Moment, Settings, Timestamp},
    };

    /// The server answers a subscription before an append that came before it, and the engine takes
    /// the answer to the append first.
    #[test]
    fn audit_issue_7_a_head_that_is_read_late_has_nothing_sent_twice() {
        let id = ConversationId::from_bytes([1; 32]);
        let seed = Seed::from_key(Key32::from_bytes([1; 32]));
        let mut chat = Chat::new(ChatRow::new(id, ChatKind::Group, seed));
        chat.session.head = Some(1);
        let log = chat.log();
        let mut chats = Chats::default();
        chats.put(chat);
        let account = AccountState::default();
        let mut state = State::new(Settings::default(), String::new(), account, chats);
        let mut rng = ChaCha20Rng::from_seed([0; 32]);
        let clock = Clock { now: Timestamp(0), moment: Moment(0) };
        let mut step = Step::new(clock, &mut rng);
        state.chat_entries((id, Place::Current), log, Vec::new(), 0, &mut step);
        assert!(state.chats.all.values().all(|chat| !chat.caught_up()), "its entry is to come");
    }
}
