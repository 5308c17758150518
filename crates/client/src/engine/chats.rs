//! Conversations: how they are founded and entered, read and written, and what is owed in them.
//!
//! - [`rows`]: what a chat keeps in the store.
//! - [`create`]: new chats; [`direct`]: those of two. [`enter`]: folding into a chat that exists; [`invite`]: being asked to.
//! - [`read`]: entries come in. [`write`]: the one append under way.
//! - [`duties`]: what a device does unasked, after a wait.
//! - [`newcomers`]: whoever was added and has not shown themselves.
//! - [`lost`]: a server that has lost entries.
//! - [`closed`]: logs that were handed over, and knocks at them.
//! - [`damage`]: chats whose rows can't be opened.
//! - [`memory`]: which chats' groups are in memory, and which in the store alone.
//! - [`commands`], [`timeline`]: what the app asks, and what it sees.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use corncrake_core::{
    conversation::{Conversation, Knock},
    id::{AccountId, ConversationId, EntryId, MessageId},
    seal::envelope::{LogKeys, Seed},
};
use corncrake_wire::{
    AccessToken, LogId, OpenReply,
    log::{self, AppendReply, RUNNING_START},
};
use serde::{Deserialize, Serialize};

mod all;
pub(crate) mod closed;
mod commands;
pub(crate) mod create;
mod damage;
mod direct;
mod duties;
pub(crate) mod enter;
mod invite;
pub(crate) mod lost;
pub(crate) mod memory;
mod newcomers;
mod read;
pub(crate) mod rows;
mod timeline;
mod write;

use self::{
    all::All,
    commands::Waiter,
    duties::Duty,
    enter::Enter,
    rows::{ChatRow, ClosedLog, Flight, GroupRow, Intent, Phase},
};
use super::{
    Effect, Reply, State, Step, Then,
    tables::{Table, part_index},
};
use crate::{
    event::{EventKind, ItemKind},
    host::{Clock, Moment, Timestamp},
    transport::TransportError,
};
#[cfg(test)]
pub(crate) use create::Adder;
pub(crate) use create::{ClaimThen, GatherThen, Gathered, Starter};

/// How many entries are remembered in each chat, to know them again after a loss.
const REMEMBERED_ENTRIES: u64 = 1024;
/// How many ids of messages are remembered in each chat, to show each message once.
const REMEMBERED_MESSAGES: usize = 1024;

/// All chats of the account on this device.
#[derive(Debug, Default)]
pub(crate) struct Chats {
    /// Changed by [`Chats::take`] and [`Chats::put`] where a chat may wake or be loaded.
    pub(crate) all: All,
    /// When chats wake, soonest first.
    wakes: BTreeSet<(Moment, ConversationId)>,
    /// The chats whose groups are in memory.
    loaded: BTreeSet<ConversationId>,
    /// Which chat a watched log belongs to, and which of its logs it is.
    pub(crate) logs: BTreeMap<LogId, (ConversationId, Place)>,
    /// Folds under way.
    pub(crate) entering: BTreeMap<u64, Enter>,
    pub(crate) next_enter: u64,
    /// Who waits until nothing is under way in one chat.
    pub(crate) settling: Vec<(ConversationId, Reply<()>)>,
    /// Counts the inputs.
    pub(crate) inputs: u64,
    /// Chats of which a row couldn't be opened, until the next step takes them up.
    pub(crate) damaged: Vec<ConversationId>,
}

/// Which log of a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The one that it is in.
    Current,
    /// A closed one, by its number.
    Closed(u64),
}

/// An entry that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReadEntry {
    pub(crate) id: EntryId,
    /// The hash of what lies inside its envelope.
    pub(crate) inner: Option<EntryId>,
}

/// One chat in memory.
#[derive(Debug)]
pub(crate) struct Chat {
    pub(crate) row: ChatRow,
    pub(crate) keys: LogKeys,
    /// What lists show of the group, if there is one.
    pub(crate) group: Option<GroupRow>,
    pub(crate) intents: VecDeque<(u64, Intent)>,
    pub(crate) flight: Option<Flight>,
    pub(crate) closed: BTreeMap<u64, ClosedLog>,
    /// Whether what follows is in memory and not in the store alone.
    pub(crate) is_loaded: bool,
    /// The fold of the current log, with secrets while this device is a member.
    pub(crate) conversation: Option<Conversation>,
    /// The group that is set aside.
    pub(crate) aside: Option<Box<Conversation>>,
    /// Hashes of what this device sealed in this epoch, with their rows.
    pub(crate) own: BTreeMap<EntryId, u64>,
    /// The newest entries that were read, by their rows: who seals one again says nothing.
    pub(crate) read: BTreeMap<u64, ReadEntry>,
    pub(crate) recent: VecDeque<(AccountId, MessageId)>,
    /// Places from which its logs can be read again, by number.
    pub(crate) kept: BTreeMap<u64, lost::Kept>,
    /// Own messages that were read back, by number.
    pub(crate) sent: BTreeMap<u64, lost::Sent>,
    pub(crate) audiences: lost::audience::Audiences,
    pub(crate) absent: lost::absent::Absent,
    pub(crate) session: Session,
}

/// What a chat forgets when the engine ends.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// The newest position of the current log as far as the server told since it was watched.
    pub(crate) head: Option<u64>,
    /// Counts the appends that were sent.
    pub(crate) appends: u64,
    /// The append that is with the server, by that count.
    pub(crate) asked: Option<u64>,
    /// No append before this moment, because one has failed; ends when one has landed.
    pub(crate) not_before: Option<Moment>,
    /// A reply told of entries that are still to come: if they don't by this moment, the log is
    /// asked anew. It holds nothing up, and ends when the log has been read that far.
    pub(crate) show_by: Option<Moment>,
    /// A closed log that lost entries, and its head: what follows depends on whether anybody has
    /// written into the current log, which is not known yet.
    pub(crate) lost_behind: Option<(u64, u64)>,
    /// How often in a row an append led to nothing, or a rejoin was needed.
    pub(crate) tries: u32,
    /// Whether a commit has locked this device out: others may be in the same place.
    pub(crate) locked_out: bool,
    /// How often in a row this device has knocked.
    pub(crate) knocked: u32,
    /// Devices of the peer that look strange.
    pub(crate) unnamed: direct::Unnamed,
    /// Newcomers whose newest records have come.
    pub(crate) looked_up: BTreeSet<AccountId>,
    /// When each duty is due.
    pub(crate) duties: BTreeMap<Duty, Moment>,
    /// When the chat wants to be looked at again.
    pub(crate) wake: Option<Moment>,
    /// Whether the log is watched.
    pub(crate) watched: bool,
    /// The search for what a server that lost entries still has.
    pub(crate) search: Option<lost::Search>,
    /// How often the log was folded anew since an own entry landed in it.
    pub(crate) folded_anew: u32,
    /// Until when those who lost the same epoch may come back before anything is said.
    pub(crate) others_return: Option<Moment>,
    /// When own messages are said again to those who have come in again.
    pub(crate) say_at: Option<Moment>,
    /// How often that was done.
    pub(crate) said_again: u32,
    /// Whether the log that is left of the group doesn't hold this account: it waits to be added.
    pub(crate) waits_for_add: bool,
    /// When those who were added in a lost part may be looked up anew to be added again.
    pub(crate) adds_again: Option<Moment>,
    /// How often they were.
    pub(crate) added_again: u32,
    /// How often those who have to make a removal again were told where, and when they are next.
    pub(crate) removal_asked: (u32, Option<Moment>),
    /// A word that this account is out.
    pub(crate) out_word: Option<rows::Invitation>,
    /// The loss at which those who came and went in the lost part were told that they are out.
    pub(crate) told_gone: Option<Timestamp>,
    /// The loss at which all members were told where the group goes on.
    pub(crate) told_all: Option<Timestamp>,
    /// Whether the log is followed from time to time only.
    pub(crate) takes_turns: bool,
    /// Who waits for an intent.
    pub(crate) replies: BTreeMap<u64, Waiter>,
    /// Knocks at closed logs that nobody has answered yet.
    pub(crate) knocks: BTreeMap<[u8; 32], (u64, Box<Knock>)>,
    /// An invitation that may bring this device in without an external commit.
    pub(crate) invitation: Option<rows::Invitation>,
    /// Whether the opening state is being fetched.
    pub(crate) opening_asked: bool,
    /// Whether a Welcome is being fetched.
    pub(crate) welcome_asked: bool,
    /// Whether a 1:1 chat is known to have no log yet.
    pub(crate) is_missing: bool,
    /// The key packages with which a 1:1 chat may be founded.
    pub(crate) packages: create::Packages,
    /// Whether a fresh path comes before the next message: there is much to say again.
    pub(crate) path_first: bool,
    /// Whether somebody waits in `start_chat` for this chat.
    pub(crate) starter: Option<Starter>,
    /// The epoch in which the group's row was looked at last.
    pub(crate) group_epoch: Option<u64>,
    /// Whether the leaves of this account have to be looked at.
    pub(crate) looks_at_members: bool,
    /// Whether the end of the newest closed log was seen since the connection came up.
    pub(crate) end_seen: bool,
    /// Whether a fold that has ended needs what the store has of it.
    pub(crate) is_awaited: bool,
    /// When to ask whether the log still has this account's leave.
    pub(crate) leave: super::account::Retry,
    /// When to ask which own messages the server still has.
    pub(crate) sent: super::account::Retry,
    /// When the chat was last needed, counted in inputs.
    pub(crate) used: u64,
}

/// What to do with the answer to a chat's request.
#[derive(Debug)]
pub(crate) enum ChatThen {
    /// An append of a flight: its number, and the position after which it was to be placed.
    Appended { number: u64, after: log::Point },
    /// The opening state of the current log.
    Opening(LogId),
    /// A Welcome for a fold that is in memory.
    Welcome(LogId),
    /// A state beside the commit at this position.
    State(LogId, u64),
    /// The entry with which this account left.
    Leave(LogId),
    /// The entry of this own message.
    Sent(u64),
    /// An append behind the end of a closed log.
    Answered([u8; 32]),
}

impl Chat {
    /// A chat of which the store knows nothing yet.
    pub(crate) fn new(row: ChatRow) -> Self {
        Self {
            keys: row.seed.log_keys(),
            row,
            group: None,
            intents: VecDeque::new(),
            flight: None,
            closed: BTreeMap::new(),
            is_loaded: true,
            conversation: None,
            aside: None,
            own: BTreeMap::new(),
            read: BTreeMap::new(),
            recent: VecDeque::new(),
            kept: BTreeMap::new(),
            sent: BTreeMap::new(),
            audiences: lost::audience::Audiences::default(),
            absent: lost::absent::Absent::default(),
            session: Session::default(),
        }
    }

    pub(crate) fn log(&self) -> LogId {
        closed::log_of(&self.keys)
    }

    pub(crate) fn token(&self) -> AccessToken {
        closed::token_of(&self.keys)
    }

    /// Whether the current log has been read to its head since the connection came up.
    pub(crate) fn caught_up(&self) -> bool {
        self.session.head.is_some_and(|head| head <= self.row.cursor)
    }

    pub(crate) fn is_member(&self) -> bool {
        let stored = self.group.is_some() && self.row.is_member;
        self.row.phase == Phase::Inside
            && self.conversation.as_ref().map_or(stored, Conversation::is_member)
    }

    pub(crate) fn remember(&mut self, account: AccountId, id: MessageId) {
        if self.recent.len() == REMEMBERED_MESSAGES {
            self.recent.pop_front();
        }
        self.recent.push_back((account, id));
    }

    pub(crate) fn wake_by(&mut self, at: Moment) {
        self.session.wake = Some(self.session.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Makes another log the current one.
    pub(crate) fn move_to(&mut self, seed: &Seed) {
        self.row.seed = seed.clone();
        self.keys = seed.log_keys();
        self.row.cursor = 0;
        self.row.running = Some(RUNNING_START);
        self.row.newest_counted = None;
        self.row.recorded = false;
        self.row.begin = lost::begin::Begin::default();
        self.session.head = None;
        self.session.knocked = 0;
        self.session.duties.clear();
        self.session.not_before = None;
        self.session.show_by = None;
        self.session.lost_behind = None;
    }

    /// Writes the row, and what changed in the conversation's state.
    pub(crate) fn save(&mut self, step: &mut Step<'_>) {
        let id = *self.row.id.as_bytes();
        self.needs_no_aside(step);
        if let Some(conversation) = &mut self.conversation {
            let since = self.row.handover_due.unwrap_or(step.now);
            self.row.handover_due = conversation.handover_due().then_some(since);
            self.row.is_member = conversation.is_member();
            self.row.is_calm = self.row.handover_due.is_none()
                && conversation.tail_is_true() != Some(false)
                && conversation.leaving_accounts().next().is_none();
            let epoch = Some(conversation.epoch());
            if core::mem::replace(&mut self.session.group_epoch, epoch) != epoch {
                let group = GroupRow::of(conversation);
                if self.group.as_ref() != Some(&group) {
                    step.put(Table::Groups, &id, 0, &(self.row.id, &group));
                    self.group = Some(group);
                }
            }
        }
        self.save_parts(step);
        step.put(Table::Chats, &id, 0, &self.row);
    }

    /// Writes what changed in the conversation's state.
    fn save_parts(&mut self, step: &mut Step<'_>) {
        let (id, table) = (*self.row.id.as_bytes(), self.row.parts.table());
        let changes = self.conversation.iter_mut().flat_map(Conversation::take_changes);
        for (part, value) in changes {
            match value {
                Some(value) => step.put_bytes(table, &id, part_index(part), value.into()),
                None => step.delete(table, &id, part_index(part)),
            }
        }
    }

    /// Forgets the group, here and in the store.
    pub(crate) fn drop_group(&mut self, step: &mut Step<'_>) {
        let id = *self.row.id.as_bytes();
        if let Some(group) = self.group.take() {
            self.row.title = group.title;
        }
        self.unload();
        for table in [self.row.parts.table(), Table::Own, Table::Groups] {
            step.delete_all(table, &id);
        }
    }

    /// Takes out of memory what is known of the group and its epoch.
    fn unload(&mut self) {
        self.conversation = None;
        self.own.clear();
        self.session.group_epoch = None;
    }

    /// Drops the conversation's state: this device is out.
    pub(crate) fn forget(&mut self, phase: Phase, step: &mut Step<'_>) {
        let id = *self.row.id.as_bytes();
        self.row.left = None;
        if phase == Phase::Left {
            self.note_leave(step);
        }
        self.row.phase = phase;
        self.awaits_nobody(step);
        self.drop_group(step);
        self.drop_aside(step);
        self.drop_flight(step);
        self.read.clear();
        step.delete_all(Table::Read, &id);
        self.session.duties.clear();
        step.effects.push(Effect::Unwatch(self.log()));
        step.put(Table::Chats, &id, 0, &self.row);
        step.event(EventKind::ChatChanged(self.row.id));
    }

    /// Remembers an entry that was read.
    pub(crate) fn note_read(&mut self, position: u64, entry: ReadEntry, step: &mut Step<'_>) {
        let row = position % REMEMBERED_ENTRIES;
        step.put(Table::Read, self.row.id.as_bytes(), row, &entry);
        self.read.insert(row, entry);
    }

    /// Whether an entry was read that holds the same.
    pub(crate) fn has_heard(&self, inner: Option<EntryId>) -> bool {
        inner.is_some() && self.read.values().any(|read| read.inner == inner)
    }

    /// Whether this very entry was read, in whatever place.
    pub(crate) fn has_read(&self, id: &EntryId) -> bool {
        self.read.values().any(|read| read.id == *id)
    }

    /// Forgets what was sent in an epoch that is over.
    pub(crate) fn forget_sent(&mut self, step: &mut Step<'_>) {
        self.row.new_epoch_first = false;
        self.own.clear();
        step.delete_all(Table::Own, self.row.id.as_bytes());
    }

    pub(crate) fn drop_flight(&mut self, step: &mut Step<'_>) {
        if self.flight.take().is_some() {
            step.delete(Table::Flights, self.row.id.as_bytes(), 0);
        }
        self.session.asked = None;
    }
}

impl Chats {
    /// Takes a chat out, with its wake.
    pub(crate) fn take(&mut self, id: ConversationId) -> Option<Chat> {
        let chat = self.all.remove(&id)?;
        if let Some(at) = chat.session.wake {
            self.wakes.remove(&(at, id));
        }
        self.loaded.remove(&id);
        Some(chat)
    }

    pub(crate) fn put(&mut self, chat: Chat) {
        self.wakes.extend(chat.session.wake.map(|at| (at, chat.row.id)));
        self.loaded.extend(chat.is_loaded.then_some(chat.row.id));
        self.all.insert(chat.row.id, chat);
    }

    /// The chats that wake at `now` or should have before.
    pub(crate) fn due(&self, now: Moment) -> impl Iterator<Item = ConversationId> {
        debug_assert_eq!(
            self.wakes,
            self.all.values().filter_map(|c| Some((c.session.wake?, c.row.id))).collect(),
        );
        self.wakes.iter().take_while(move |(at, _)| *at <= now).map(|(_, id)| *id)
    }

    pub(crate) fn of_log(&self, log: &LogId) -> Option<(ConversationId, Place)> {
        self.logs.get(log).copied()
    }
}

impl State {
    /// Runs `work` on a chat that is in memory; the chat is out of the map meanwhile.
    pub(crate) fn with_chat<T>(
        &mut self,
        id: ConversationId,
        step: &mut Step<'_>,
        work: impl FnOnce(&mut Self, &mut Chat, &mut Step<'_>) -> T,
    ) -> Option<T> {
        let mut chat = self.chats.take(id)?;
        let result = work(self, &mut chat, step);
        self.chats.put(chat);
        Some(result)
    }

    pub(crate) fn chats_start(&mut self, step: &mut Step<'_>) {
        for id in self.chat_ids() {
            self.with_chat(id, step, |state, chat, step| state.resume(chat, step));
        }
    }

    fn resume(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        if let Phase::Entering(goal) = &chat.row.phase {
            let (seed, goal) = (chat.row.seed.clone(), goal.clone());
            self.enter(Some(chat.row.id), seed, goal, step);
        }
    }

    pub(crate) fn chats_connected(&mut self, step: &mut Step<'_>) {
        for id in self.chat_ids() {
            self.with_chat(id, step, |state, chat, step| {
                chat.session.head = None;
                chat.session.asked = None;
                chat.session.opening_asked = false;
                chat.session.welcome_asked = false;
                chat.session.not_before = None;
                chat.session.show_by = None;
                chat.session.lost_behind = None;
                chat.session.search = None;
                chat.session.end_seen = false;
                chat.session.unnamed = direct::Unnamed::default();
                chat.session.takes_turns = false;
                chat.look_at_begin_anew();
                state.watch(chat, step);
                state.ask_of_leave_anew(chat, step);
                chat.session.sent = super::account::Retry::default();
            });
        }
        // Closed logs come after all that people write in.
        for id in self.chat_ids() {
            self.with_chat(id, step, |state, chat, step| state.watch_closed(chat, step));
        }
        self.learn_missing(step);
        self.enter_again(step);
    }

    pub(crate) fn chats_disconnected(&mut self) {
        for chat in self.chats.all.values_mut() {
            chat.session.head = None;
            chat.session.watched = false;
            chat.session.wake = None;
        }
        self.chats.wakes.clear();
    }

    pub(crate) fn chats_tick(&mut self, step: &mut Step<'_>) {
        let due: Vec<ConversationId> = self.chats.due(step.moment).take(memory::AT_ONCE).collect();
        for id in due {
            self.with_chat(id, step, |state, chat, step| state.advance(chat, step));
        }
        self.enter_tick(step);
    }

    pub(crate) fn chats_wake_at(&self) -> Option<Moment> {
        let soonest = self.chats.wakes.first().map(|(at, _)| *at);
        soonest.into_iter().chain(self.enter_wake_at()).min()
    }

    /// Whether something is still owed that this device can bring about.
    pub(crate) fn chats_owe(&self, clock: Clock) -> bool {
        let stays_out = |chat: &Chat| {
            !chat.is_member() && chat.row.stays_out_until.is_some() || chat.session.waits_for_add
        };
        let waits_for_log = |chat: &Chat| {
            let folds = self.chats.entering.values();
            let mut folds = folds.filter(|enter| enter.id == Some(chat.row.id)).peekable();
            folds.peek().is_some() && folds.all(Enter::waits_for_log)
        };
        let owes = |chat: &Chat| match chat.row.phase {
            Phase::Inside if stays_out(chat) || chat.row.owed_again.is_up_to_others() => false,
            Phase::Inside => {
                chat.next_to_do(clock).is_some()
                    || chat.flight.is_some()
                    || !chat.caught_up()
                    || !chat.is_member()
                    || !chat.row.recorded
                    || chat.says_again_soon()
                    || chat.session.looks_at_members
                    || chat.session.duties.keys().any(|duty| duty.is_own())
            }
            // After a loss others may have to add this account again.
            Phase::Entering(_) => !chat.row.recovering && !waits_for_log(chat),
            Phase::Left => chat.asks_of_leave(),
            Phase::Waiting | Phase::Removed => false,
        };
        self.chats.all.values().any(owes)
            || self.chats.entering.values().any(|enter| !enter.is_stuck())
    }

    /// Whether every log has been read to its head, and every fold that can end has ended.
    pub(crate) fn chats_are_read(&self) -> bool {
        let is_read = |chat: &Chat| match chat.row.phase {
            Phase::Inside => chat.caught_up(),
            // Its fold has begun and waits for somebody.
            Phase::Entering(_) => {
                self.chats.entering.values().any(|enter| enter.id == Some(chat.row.id))
            }
            Phase::Waiting | Phase::Removed | Phase::Left => true,
        };
        self.chats.all.values().all(is_read) && self.chats.entering.values().all(Enter::is_stuck)
    }

    pub(crate) fn chat_ids(&self) -> Vec<ConversationId> {
        self.chats.all.keys().copied().collect()
    }

    /// Subscribes to the current log from where it was read.
    pub(crate) fn watch(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        if matches!(chat.row.phase, Phase::Inside | Phase::Waiting) {
            let place = (chat.row.id, Place::Current);
            self.chats.logs.insert(chat.log(), place);
            chat.session.watched = true;
            let row = &chat.row;
            step.effects.push(Effect::Watch(chat.token(), row.cursor, row.running));
        }
    }

    /// Fetches what lies beside an entry of the current log.
    fn ask_beside(
        &mut self,
        chat: &Chat,
        (position, part): (u64, log::Part),
        then: ChatThen,
        step: &mut Step<'_>,
    ) {
        let ask = log::Beside { token: chat.token(), position, part, admission: Vec::new() };
        self.ask_open(Then::Chat(chat.row.id, then), ask, step);
    }

    pub(crate) fn chat_replied(
        &mut self,
        id: ConversationId,
        then: ChatThen,
        result: Result<OpenReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        self.with_chat(id, step, |state, chat, step| {
            match then {
                ChatThen::Appended { number, after } => {
                    let reply = result.map(|reply| match reply {
                        OpenReply::Append(reply) => Some(reply),
                        _ => None::<AppendReply>,
                    });
                    state.appended(chat, (number, after), reply, step);
                }
                ChatThen::Opening(log) => state.opening_came(chat, log, result, step),
                ChatThen::Welcome(log) => state.welcome_came(chat, log, result, step),
                ChatThen::State(log, position) => {
                    state.laid_state_came(chat, (log, position), result, step);
                }
                ChatThen::Leave(log) => state.leave_looked_up(chat, log, result, step),
                ChatThen::Sent(number) => state.sent_looked_up(chat, number, result, step),
                ChatThen::Answered(knock) => state.answered(chat, knock, result, step),
            }
            state.advance(chat, step);
        });
    }

    /// Puts a line at the end of a chat's timeline.
    pub(crate) fn tell_item(&mut self, chat: &mut Chat, what: ItemKind, step: &mut Step<'_>) {
        timeline::append(chat, what, step);
    }
}
