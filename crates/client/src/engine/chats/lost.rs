//! A server that lost entries: the chat stops writing, looks for the newest place that the server
//! still has, reads on from there, and says again what the log lacks.
//!
//! Places to begin from are kept for each commit that counted, for the opening of each log and for
//! each handover. If the group's epoch is still the newest one there, only messages were lost and
//! the group stays. Else the log wins: its fold is anchored in the kept place, and this device
//! rejoins.

use core::time::Duration;
use std::collections::BTreeSet;

use corncrake_core::{
    conversation::{ClosedLog as HandedOver, OPENING},
    id::{AccountId, ConversationId, EntryId, LogId as CoreLogId},
    seal::{envelope::Seed, record::Anchor},
};
use corncrake_wire::LogId;
use serde::{Deserialize, Serialize};

use super::{
    Chat, Place, closed,
    enter::Enter,
    rows::{Goal, Phase},
};
use crate::{
    engine::{Effect, State, Step, tables::Table},
    event::{ChatKind, ItemKind},
};

pub(crate) mod absent;
pub(crate) mod again;
mod aside;
pub(crate) mod audience;
pub(crate) mod begin;
mod doubt;
pub(crate) mod leave;
mod out;
mod sent;
pub(crate) mod trail;

use again::Done;
pub(crate) use sent::Sent;
use trail::anchor_of;

/// How long a device that came back waits before it says anything: others that lost the same
/// epoch come back as well, each after a random wait, and can't read what is said before that.
pub(super) const OTHERS_RETURN: Duration = Duration::from_secs(8);
/// The first wait before a log that was folded anew is folded anew once more; doubled each time.
const FOLD_AGAIN: Duration = Duration::from_secs(2);
/// How many places are kept, and how many own messages, in each chat.
const KEPT: u64 = 1024;

/// The number of a log that is in none of the chat's closed ones.
const UNLISTED: u64 = u64::MAX;

/// How many of the newest kept epochs a log is believed from that has no kept place.
const ANCHORS: usize = 64;

/// A place from which a log can be read again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    log: CoreLogId,
    /// The seed of that log.
    seed: Seed,
    position: u64,
    /// The newest entry of kind commit up to there.
    commit: (u64, EntryId),
    /// The running hash up to there; the place is of no use without it.
    running: Option<[u8; 32]>,
    /// The epoch there.
    anchor: Anchor,
    /// What the commit there did.
    done: Done,
    /// Whose removal was owed there since an earlier loss.
    owes: BTreeSet<AccountId>,
    /// The seed of the log that follows if this epoch is handed over, if it was known.
    next: Option<Seed>,
    /// Whether the server has lost it. Its commit may still be appended again.
    is_lost: bool,
}

/// The search for a place that the server still has.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// The place that is asked about.
    asked: Option<u64>,
    /// Whether the current log is gone.
    gone: bool,
    /// The newest log of the chain that is still there.
    left: Option<LogId>,
    /// The closed log whose end is gone, if places in that one alone are asked about.
    closed: Option<LogId>,
    /// Whether nobody has written into the current log behind that one.
    is_unwritten: bool,
}

impl State {
    /// Learns the running hash of a log where it was unknown.
    pub(crate) fn chat_running(
        &mut self,
        (id, place): (ConversationId, Place),
        log: LogId,
        (position, running): (u64, [u8; 32]),
        step: &mut Step<'_>,
    ) {
        self.with_chat(id, step, |_, chat, step| match place {
            Place::Current if chat.log() == log => {
                if chat.row.cursor == position && chat.row.running.is_none() {
                    chat.row.running = Some(running);
                    chat.learn_running(position, running, step);
                    step.put(Table::Chats, id.as_bytes(), 0, &chat.row);
                }
            }
            Place::Current => {}
            Place::Closed(number) => {
                if let Some(closed) = chat.closed.get_mut(&number)
                    && closed.cursor == position
                    && closed.running.is_none()
                {
                    closed.running = Some(running);
                    closed.save(id, number, step);
                }
            }
        });
    }

    /// A log is followed from time to time only: it is watched anew when this chat writes.
    pub(crate) fn chat_takes_turns(&mut self, log: &LogId) {
        if let Some((id, Place::Current)) = self.chats.of_log(log)
            && let Some(chat) = self.chats.all.get_mut(&id)
        {
            chat.session.takes_turns = true;
        }
    }

    /// A log isn't the one that was read.
    pub(crate) fn chat_differs(
        &mut self,
        (id, place): (ConversationId, Place),
        log: LogId,
        head: u64,
        step: &mut Step<'_>,
    ) {
        self.with_chat(id, step, |state, chat, step| {
            let search = chat.session.search.as_ref().and_then(|search| search.asked);
            match (search, place) {
                (Some(asked), _) if chat.kept.get(&asked).is_some_and(|kept| kept.is_in(log)) => {
                    if let Some(search) = &mut chat.session.search
                        && head > 0
                    {
                        search.left.get_or_insert(log);
                    }
                    state.look_for_place(chat, step);
                }
                (None, Place::Current) if chat.log() == log && chat.row.phase.follows() => {
                    state.search_anew(chat, head, step);
                }
                (None, Place::Closed(number)) => {
                    state.closed_differs(chat, (number, head), step);
                }
                _ => {}
            }
        });
    }

    /// The current log, whose newest position is `head`, isn't the one that was read.
    pub(super) fn search_anew(&mut self, chat: &mut Chat, head: u64, step: &mut Step<'_>) {
        chat.drop_flight(step);
        chat.session.head = None;
        if head == 0 && chat.row.seed.conversation_id() == chat.row.id && chat.is_member() {
            return self.begin_again(chat, chat.keys.log, step);
        }
        let left = (head > 0).then(|| chat.log());
        chat.session.search = Some(Search { left, ..Search::default() });
        self.look_for_place(chat, step);
    }

    /// The open plane's socket is up. A server that is another instance than before may have lost
    /// entries; running hashes show it, and where none is known the log is not believed.
    pub(crate) fn instance_seen(&mut self, instance: [u8; 16], step: &mut Step<'_>) {
        let before = self.online.instance.replace(instance);
        if before == Some(instance) {
            return;
        }
        step.put(Table::Instance, &[], 0, &instance);
        if before.is_none() {
            return;
        }
        self.account_entries_were_lost(step);
        self.look_for_removed_from(step);
        for id in self.chat_ids() {
            self.with_chat(id, step, |state, chat, step| {
                if chat.is_member() {
                    chat.row.new_epoch_first = true;
                    chat.save(step);
                }
                chat.doubt_sent(step);
                let follows = chat.row.phase.follows() && chat.is_loaded;
                if follows && chat.row.running.is_none() {
                    state.search_anew(chat, chat.row.cursor, step);
                }
            });
        }
        self.leaves_may_be_lost(step);
    }

    /// A closed log, whose newest position is `head`, lost what came behind its end, or its end as
    /// well. The log as it now reads is then the truth, and the current one an orphan, if there is
    /// one; mostly that one is gone as well and has said so.
    pub(super) fn closed_differs(
        &mut self,
        chat: &mut Chat,
        (number, head): (u64, u64),
        step: &mut Step<'_>,
    ) {
        if chat.row.phase.follows() && chat.row.cursor == 0 && chat.session.head.is_none() {
            chat.session.lost_behind = Some((number, head));
            return;
        }
        chat.row.lost_at = Some(step.now);
        chat.save(step);
        let Some(closed) = chat.closed.get(&number) else {
            return;
        };
        let log = closed::log_of(&closed.keys());
        let at_end = |kept: &&Kept| kept.is_in(log) && kept.position == closed.closed_by.0;
        let end = chat.places().map(|(_, kept)| kept).find(at_end);
        let behind = end.filter(|end| end.position < closed.cursor);
        let behind = behind.map(|end| (end.position, end.running));
        if let (Some((cursor, running)), Some(closed)) = (behind, chat.closed.get_mut(&number)) {
            (closed.cursor, closed.running) = (cursor, running);
            closed.save(chat.row.id, number, step);
            self.watch_closed(chat, step);
        } else if chat.row.phase.follows() && head > 0 {
            chat.drop_flight(step);
            let head = chat.session.head.take();
            let is_unwritten = chat.row.cursor == 0 && head == Some(0);
            let (left, closed) = (Some(log), Some(log));
            let search = Search { left, closed, is_unwritten, ..Search::default() };
            chat.session.search = Some(search);
            self.look_for_place(chat, step);
        } else {
            chat.see_end(step);
            let is_newest = chat.closed.last_key_value().is_some_and(|(last, _)| *last == number);
            let is_unwritten = chat.row.cursor == 0 && chat.session.head == Some(0);
            if chat.row.phase.follows() && is_newest && is_unwritten {
                // Nobody has written into the current log, so that nothing tells whether it is lost
                // as well: what was said in the closed one is, and nobody may know this one.
                self.search_anew(chat, 0, step);
            }
        }
    }

    /// Asks about the newest place that has not been asked about.
    fn look_for_place(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let Some(search) = &mut chat.session.search else {
            return;
        };
        let older = chat.kept.range(..search.asked.unwrap_or(u64::MAX)).rev();
        // Also those that were lost before: an older backup may have brought them back.
        let closed = search.closed;
        let mut older = older.filter(|(_, kept)| {
            kept.running.is_some() && closed.is_none_or(|log| kept.is_in(log) && kept.position > 0)
        });
        let Some((&number, kept)) = older.next() else {
            return self.no_place_is_left(chat, step);
        };
        search.asked = Some(number);
        let (position, running) = (kept.position, kept.running);
        let token = if kept.is_in(chat.log()) {
            // The group that was set aside may have been in another log than the chat since.
            self.chats.logs.insert(chat.log(), (chat.row.id, Place::Current));
            chat.token()
        } else {
            let keys = kept.seed.log_keys();
            let mut closed = chat.closed.iter();
            let found = closed.find(|(_, closed)| kept.is_in(closed::log_of(&closed.keys())));
            let number = found.map_or(UNLISTED, |(number, _)| *number);
            let place = (chat.row.id, Place::Closed(number));
            self.chats.logs.insert(closed::log_of(&keys), place);
            closed::token_of(&keys)
        };
        step.effects.push(Effect::Watch(token, position, running));
    }

    /// The server has no place that was kept. If all logs are gone, the current one begins again;
    /// if the current one is there, somebody may have begun it again. Else the own leaf counts as
    /// gone: what is there is believed only from an epoch that is known, or in a chat of two, and an
    /// account that isn't in it waits to be added again.
    fn no_place_is_left(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let Some(search) = chat.session.search.take() else {
            return;
        };
        if search.closed.is_some() && !search.is_unwritten {
            // Somebody has begun the closed log again, who has to find the way to the current one.
            chat.see_end(step);
            return self.watch(chat, step);
        }
        let seeds = chat.kept.values().map(|kept| &kept.seed).chain([chat.first_seed()]);
        let knows_all = seeds.into_iter().any(|seed| seed.conversation_id() == chat.row.id);
        let is_here = search.left == Some(chat.log());
        if chat.is_member() && (is_here || search.left.is_none() && knows_all) {
            let first = if is_here { &chat.row.seed } else { chat.first_seed() };
            let first = first.log_keys().log;
            return self.begin_again(chat, first, step);
        }
        self.log_wins(chat, (search.left, None), step);
    }

    /// What the server has is another log: it is folded anew, in a chat of two from the founding,
    /// in a group from an epoch that is known. If it is known which log that is, and `at` which epoch
    /// it begins, that epoch is known as well.
    pub(super) fn log_wins(
        &mut self,
        chat: &mut Chat,
        (left, at): (Option<LogId>, Option<Anchor>),
        step: &mut Step<'_>,
    ) {
        let first = chat.first_seed().log_keys().log;
        // An epoch that was true once is known, whatever the server has lost since.
        let newest = chat.kept.values().rev().map(|kept| kept.anchor);
        let anchors: Vec<Anchor> = at.into_iter().chain(newest).take(ANCHORS).collect();
        chat.owe_again(0, step);
        chat.lose_sent_after(&first, 0, step);
        chat.lose_places_after(0, step);
        self.entries_were_lost(chat, step);
        step.effects.push(Effect::Unwatch(chat.log()));
        let peer = chat.row.peer.filter(|_| chat.row.kind == ChatKind::Direct);
        let founded = peer.and_then(|peer| self.direct_seed_of(chat.row.id, peer));
        let is_founded = |log: LogId| {
            let founded = founded.as_ref().map(Seed::log_keys);
            founded.is_none_or(|keys| closed::log_of(&keys) == log)
        };
        let goal = if peer.is_some() && left.is_none_or(is_founded) {
            if let Some(seed) = &founded {
                chat.move_to(seed);
            }
            Goal::Direct { n: chat.row.n }
        } else {
            if let Some(left) = left {
                chat.go_back_to(left, step);
            }
            Goal::Anchors(anchors)
        };
        let seed = chat.row.seed.clone();
        chat.fold_anew(goal.clone(), step);
        self.enter_anew_later(chat, seed, goal, step);
    }

    /// The server has the place that was asked about. Tells whether the chat goes on in the log
    /// that it is in.
    pub(super) fn place_found(
        &mut self,
        chat: &mut Chat,
        log: LogId,
        head: u64,
        step: &mut Step<'_>,
    ) -> bool {
        let Some(number) = chat.session.search.as_ref().and_then(|search| search.asked) else {
            return true;
        };
        let Some(kept) = chat.kept.get(&number).cloned().filter(|kept| kept.is_in(log)) else {
            return false;
        };
        let is_current = kept.is_in(chat.log());
        if head == 0 && !(is_current && chat.closed.is_empty()) {
            // The log is gone: the one before it is the truth as it now reads.
            if let Some(search) = &mut chat.session.search {
                search.gone = true;
            }
            self.look_for_place(chat, step);
            return false;
        }
        if kept.position == 0 && head > 0 {
            // Every log agrees before its first entry: what it begins with has to be seen.
            if let Some(search) = &mut chat.session.search {
                search.left = Some(log);
            }
            self.no_place_is_left(chat, step);
            return false;
        }
        chat.find_places_up_to(number, &kept, step);
        let gone = chat.session.search.take().is_some_and(|search| search.gone);
        let epoch = chat.conversation.as_ref().filter(|c| c.is_member()).map(|c| c.anchor());
        let same = epoch.is_some_and(|at| {
            at.epoch == kept.anchor.epoch && at.transcript == kept.anchor.interim
        });
        let newest_closed = chat.closed.last_key_value().map(|(_, closed)| closed);
        let at_end = newest_closed.is_some_and(|closed| {
            kept.is_in(closed::log_of(&closed.keys())) && kept.position == closed.closed_by.0
        });
        if same && (is_current || gone && at_end) {
            self.read_again(chat, number, &kept, step);
            return is_current;
        }
        self.fold_from(chat, number, &kept, step);
        false
    }

    /// No commit that counted was lost: the group stays, and its log is read again.
    fn read_again(&mut self, chat: &mut Chat, number: u64, kept: &Kept, step: &mut Step<'_>) {
        let is_current = kept.is_in(chat.log());
        let (position, commit, running) = if is_current {
            (kept.position, kept.commit, kept.running)
        } else {
            (0, OPENING, Some(corncrake_wire::log::RUNNING_START))
        };
        if let Some(conversation) = &mut chat.conversation {
            conversation.read_again_after(position, commit);
        }
        chat.row.cursor = position;
        chat.row.running = running;
        chat.lose_sent_after(&kept.log, kept.sure_up_to(), step);
        chat.lose_places_after(number, step);
        self.entries_were_lost(chat, step);
        if !is_current {
            chat.keep_place(Done::default(), step);
            self.watch(chat, step);
        }
        chat.save(step);
    }

    /// A commit that counted was lost: the log wins.
    fn fold_from(&mut self, chat: &mut Chat, number: u64, kept: &Kept, step: &mut Step<'_>) {
        // Any log has its opening: one that somebody else began again opens with a later epoch.
        let later = chat.places().rev().take_while(|(at, _)| kept.position == 0 && **at > number);
        let later = later.map(|(_, later)| later.anchor).take(ANCHORS);
        let anchors: Vec<Anchor> = later.chain([kept.anchor]).collect();
        chat.owe_again(number, step);
        chat.lose_sent_after(&kept.log, kept.sure_up_to(), step);
        chat.lose_places_after(number, step);
        self.entries_were_lost(chat, step);
        step.effects.push(Effect::Unwatch(chat.log()));
        if !kept.is_in(chat.log()) {
            chat.go_back_to(LogId(*kept.log.as_bytes()), step);
        }
        let (seed, goal) = (chat.row.seed.clone(), Goal::Anchors(anchors));
        chat.fold_anew(goal.clone(), step);
        self.enter_anew_later(chat, seed, goal, step);
    }

    /// Folds the log anew: at once the first time, later after waits that grow. A server that says
    /// again and again that a log is another one must not keep this device busy.
    fn enter_anew_later(&mut self, chat: &mut Chat, seed: Seed, goal: Goal, step: &mut Step<'_>) {
        let times = chat.session.folded_anew;
        chat.session.folded_anew = times.saturating_add(1);
        self.enter(Some(chat.row.id), seed, goal, step);
        let of_chat = |enter: &&Enter| enter.id == Some(chat.row.id);
        let folds = self.chats.entering.iter().rev();
        let newest = folds.filter(|(_, enter)| of_chat(enter)).map(|(number, _)| *number).next();
        if let (Some(number), 1..) = (newest, times) {
            let wait = FOLD_AGAIN.saturating_mul(1 << (times - 1).min(10));
            self.enter_rest(number, wait, step);
        }
    }

    /// How many losses, one after the other, this account's devices have come back from in a chat.
    pub(super) fn losses_of(&self, chat: &Chat) -> u32 {
        let recorded = self.account.recorded(chat.row.id).map_or(0, |record| record.losses);
        chat.row.losses.max(recorded)
    }

    pub(super) fn entries_were_lost(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        chat.row.lost_at = Some(step.now);
        chat.row.losses = self.losses_of(chat).saturating_add(1);
        if !core::mem::replace(&mut chat.row.recovering, true) {
            self.tell_item(chat, ItemKind::ServerLostEntries, step);
            self.account_entries_were_lost(step);
        }
    }
}

impl Chat {
    /// Keeps the place that has just been reached, and what the commit there has done.
    pub(crate) fn keep_place(&mut self, done: Done, step: &mut Step<'_>) {
        let Some(conversation) = &self.conversation else {
            return;
        };
        let kept = Kept {
            log: self.keys.log,
            seed: self.row.seed.clone(),
            position: self.row.cursor,
            commit: conversation.newest_commit(),
            running: self.row.running,
            anchor: anchor_of(conversation),
            done,
            owes: self.row.owed_again.takes(),
            next: conversation.successor_seed(),
            is_lost: false,
        };
        let number = self.kept.last_key_value().map_or(1, |(number, _)| number + 1);
        step.put(Table::Kept, self.row.id.as_bytes(), number, &kept);
        self.kept.insert(number, kept);
        if let Some(old) = number.checked_sub(KEPT) {
            self.kept.remove(&old);
            step.delete(Table::Kept, self.row.id.as_bytes(), old);
        }
    }

    /// The seed of the first log of the chain that is known.
    fn first_seed(&self) -> &Seed {
        self.closed.values().next().map_or(&self.row.seed, |closed| &closed.seed)
    }

    /// Whether it waits at the end of the log that it is in.
    pub(super) fn waits_here(&self) -> bool {
        self.row.phase == Phase::Waiting && self.conversation.is_some()
    }

    fn learn_running(&mut self, position: u64, running: [u8; 32], step: &mut Step<'_>) {
        let log = self.keys.log;
        let here = |kept: &&mut Kept| kept.log == log && kept.position == position;
        for kept in self.kept.values_mut().filter(here) {
            kept.running = Some(running);
        }
        for (number, kept) in self.kept.iter().filter(|(_, kept)| kept.running == Some(running)) {
            step.put(Table::Kept, self.row.id.as_bytes(), *number, kept);
        }
    }

    /// The places that the server is not known to have lost, by number.
    fn places(&self) -> impl DoubleEndedIterator<Item = (&u64, &Kept)> {
        self.kept.iter().filter(|(_, kept)| !kept.is_lost)
    }

    /// The server has a place, and so all before it in that log.
    fn find_places_up_to(&mut self, number: u64, found: &Kept, step: &mut Step<'_>) {
        for (earlier, kept) in self.kept.range_mut(..=number) {
            if kept.is_lost && kept.log == found.log && kept.position <= found.position {
                kept.is_lost = false;
                step.put(Table::Kept, self.row.id.as_bytes(), *earlier, kept);
            }
        }
    }

    pub(super) fn lose_places_after(&mut self, number: u64, step: &mut Step<'_>) {
        for (later, kept) in self.kept.range_mut(number + 1..).filter(|(_, kept)| !kept.is_lost) {
            kept.is_lost = true;
            step.put(Table::Kept, self.row.id.as_bytes(), *later, kept);
        }
    }

    /// The seed behind a closed log, from the time when this device could compute it.
    pub(super) fn kept_seed(&self, handed_over: &HandedOver) -> Option<Seed> {
        let seeds = self.kept.values().rev().filter_map(|kept| kept.next.as_ref());
        seeds.into_iter().find(|seed| handed_over.fits_next(seed)).cloned()
    }

    /// Makes the log of a kept place the current one; what came after it is known ahead.
    fn go_back_to(&mut self, log: LogId, step: &mut Step<'_>) {
        let kept = self.kept.values().find(|kept| kept.is_in(log));
        let Some(kept) = kept.filter(|_| log != self.log()) else {
            return;
        };
        let seed = kept.seed.clone();
        let mut closed = self.closed.iter();
        let here = closed.find(|(_, closed)| kept.is_in(closed::log_of(&closed.keys())));
        let number = here.map_or(0, |(number, _)| *number);
        let again = self.closed.split_off(&number);
        for number in again.keys() {
            step.delete(Table::ClosedLogs, self.row.id.as_bytes(), *number);
        }
        let seeds = again.into_values().map(|closed| closed.seed);
        let ahead = seeds.chain([self.row.seed.clone()]).filter(|ahead| *ahead != seed);
        self.row.seeds_ahead = ahead.collect();
        self.row.next_closed = self.row.next_closed.min(number);
        self.move_to(&seed);
    }

    /// Drops the group: it is folded anew.
    fn fold_anew(&mut self, goal: Goal, step: &mut Step<'_>) {
        self.set_aside(step);
        self.row.phase = Phase::Entering(goal);
        self.row.missed = true;
        self.drop_group(step);
        self.drop_flight(step);
        self.save(step);
    }
}

impl Kept {
    fn is_in(&self, log: LogId) -> bool {
        *self.log.as_bytes() == log.0
    }

    /// Up to where what was sent into its log is there for sure, if the server has this place: one
    /// that was lost came back, and others sent into the log that was there meanwhile.
    const fn sure_up_to(&self) -> u64 {
        if self.is_lost { 0 } else { self.position }
    }
}

impl Phase {
    /// Whether the current log is followed.
    const fn follows(&self) -> bool {
        matches!(self, Self::Inside | Self::Waiting)
    }
}
