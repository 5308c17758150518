//! Folding into a conversation that exists: by invitation, by what the account log says, or by the
//! seed that two people share.
//!
//! A fold begins at the newest state that is not past the reader's goal and counts only if it
//! reaches the goal; else the next older state is tried. Until then nothing is stored but the goal.

use core::time::Duration;
use std::collections::VecDeque;

use corncrake_core::{
    conversation::{ClosedLog as HandedOver, CommitReport, Conversation},
    id::{AccountId, ConversationId, DeviceId, EntryId},
    seal::{
        envelope::{LogKeys, Seed},
        record::{AccountLogRecord, ConversationRecord},
    },
};
use corncrake_wire::{ErrorCode, OpenReply, log, log::running};

use super::{
    Chat, Chats,
    closed::token_of,
    lost::trail::Trail,
    rows::{ChatRow, Goal, Phase},
};
use crate::{
    engine::{State, Step, Then},
    event::{ChatKind, EventKind},
    host::Moment,
    transport::TransportError,
};

pub(crate) mod fold;
mod turns;

/// A fold that came to nothing is tried again after this.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(60);
/// How much the first answer may bring of what a fold needs.
const START: u32 = 256 * 1024;
/// A request that was lost is repeated after this.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// A fold under way.
#[derive(Debug)]
pub(crate) struct Enter {
    pub(super) id: Option<ConversationId>,
    keys: LogKeys,
    seed: Seed,
    pub(super) goal: Goal,
    /// Where states lie that have not been tried yet, newest first.
    states: VecDeque<u64>,
    /// The page behind the state that is being tried, from that entry on, and the log's head then.
    page: Option<log::ReadReply>,
    /// The Welcome that an invitation names, if it came along.
    brought: Option<Vec<u8>>,
    /// What the same page brought behind that place, and the log's head then.
    rest: Option<log::ReadReply>,
    /// Whose record is asked for already.
    pub(super) looks_up: Option<AccountId>,
    /// Whose record has come since this try began.
    pub(super) looked_up: Option<AccountId>,
    /// Whether the device that invited is known to have left the chat since.
    pub(super) inviter_left: bool,
    /// How many entries were read to see whether it has.
    read_behind: usize,
    pub(super) fold: Option<Conversation>,
    position: u64,
    passed: bool,
    /// The epochs that the fold went through.
    trail: Trail,
    /// The epoch with which the log begins, if the fold began there.
    opens_with: Option<u64>,
    /// Whether a member has vouched for the epoch of the commit that the notice points at, which
    /// adds nobody.
    pub(super) vouched: bool,
    /// The commit whose Welcome is fetched.
    welcome: Option<EntryId>,
    /// That commit, if the fold has read it.
    read: Option<Box<(log::LogEntry, CommitReport)>>,
    /// The key package by which the fold was joined.
    package: Option<[u8; 32]>,
    /// What the end of the log left, if the fold reached it.
    closed: Option<Box<HandedOver>>,
    /// Hashes of the messages that it has read.
    seen: Vec<EntryId>,
    /// The ids of those behind the place where it passed the anchor.
    behind: Vec<EntryId>,
    /// The running hash, if it is known.
    running: Option<[u8; 32]>,
    /// The newest position of the log, as it was seen last.
    head: u64,
    /// Whether the log isn't the one of which the goal tells.
    differs: bool,
    /// What is waited for; nothing once the fold has come to nothing for now.
    pub(super) asking: Option<EnterThen>,
    retry_at: Option<Moment>,
    /// How often it came to nothing.
    tries: u32,
    /// How many entries a search for the Welcome has read; `None` while the notice is believed.
    searched: Option<usize>,
    /// Whether the server has no such log.
    is_gone: bool,
    /// Whether it waits until fewer folds of invitations are under way.
    queued: bool,
}

/// What to do with the answer to a fold's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnterThen {
    /// Where states lie.
    States,
    /// The entry beside which a state lies, and what follows.
    Anchorage(u64),
    /// A state.
    State(u64),
    /// The fold that begins with that state, from the host's thread for slow work.
    Fold(u64),
    /// More entries.
    Page,
    /// The Welcome.
    Welcome,
    /// The account record of the other one in what calls itself a 1:1 chat, or of who invited.
    Peer(AccountId),
    /// Entries behind the Welcome, in which the device that invited may have left.
    Behind(DeviceId),
}

impl Enter {
    /// The chat that it leads into, if that is known.
    pub(crate) const fn id(&self) -> Option<ConversationId> {
        self.id
    }

    /// Whether it waits for something that nobody can hurry.
    pub(crate) const fn is_stuck(&self) -> bool {
        self.asking.is_none() && !self.queued
    }

    /// Whether it waits for a log that somebody has to begin again.
    pub(crate) const fn waits_for_log(&self) -> bool {
        self.is_gone && self.is_stuck()
    }

    /// Drops what was folded so far.
    fn begin_anew(&mut self) {
        self.fold = None;
        self.page = None;
        self.rest = None;
        self.passed = false;
        self.vouched = false;
        self.read_behind = 0;
        self.closed = None;
        self.seen.clear();
        self.behind.clear();
    }

    /// Compares what a page has behind the end of the fold with what was told of the log further on.
    fn compare_behind(&mut self, page: &[log::LogEntry]) {
        let (Some((at, known)), Some(mut hash)) = (self.goal.running(), self.running) else {
            return;
        };
        let behind = page.iter().skip_while(|entry| entry.position <= self.position);
        for entry in behind.take_while(|entry| entry.position <= at) {
            hash = running(hash, entry.position, &entry.id());
            self.differs |= entry.position == at && hash != known;
        }
    }

    /// The epoch with which the log begins, as a member vouches or this account's log says.
    fn begins_with(&self) -> Option<u64> {
        match self.goal {
            Goal::Welcome(_) => self.vouched.then(|| self.trail.first()),
            Goal::Recorded(..) => self.opens_with,
            _ => None,
        }
    }

    fn last_state(&self) -> u64 {
        match &self.goal {
            Goal::Welcome(_) | Goal::Recorded(..) if self.searched.is_some() => u64::MAX,
            Goal::Welcome(invitation) => invitation.position,
            // A later state is past the anchor.
            Goal::Recorded(_, (position, _)) => *position,
            Goal::Anchors(_) => u64::MAX,
            Goal::Direct { .. } => 0,
        }
    }
}

impl Chats {
    /// Gives up the folds that look for a way into a chat to which nobody has invited.
    pub(in crate::engine::chats) fn look_no_more(&mut self, id: ConversationId) {
        self.entering.retain(|_, enter| enter.id != Some(id) || enter.is_invited());
    }
}

impl State {
    /// The own account's log says where a conversation goes on, or who is in it again.
    pub(crate) fn chats_recorded(&mut self, record: &AccountLogRecord, step: &mut Step<'_>) {
        match (record, self.still_acts()) {
            (AccountLogRecord::Conversation(record), Ok(())) => {
                self.conversation_recorded(record, step);
            }
            (AccountLogRecord::LostRemovals(record), Ok(())) => {
                self.with_chat(record.conversation, step, |_, chat, step| {
                    chat.look_at_members(step);
                });
            }
            _ => {}
        }
    }

    fn conversation_recorded(&mut self, record: &ConversationRecord, step: &mut Step<'_>) {
        let id = record.id;
        if record.is_out {
            return self.out_recorded(id, step);
        }
        if !self.chats.all.contains_key(&id) {
            let mut row = ChatRow::new(id, ChatKind::Group, record.seed.clone());
            row.phase = Phase::Entering(Goal::Recorded(record.anchor, record.read));
            row.hidden = record.hidden;
            let mut chat = Chat::new(row);
            chat.save(step);
            self.chats.put(chat);
            step.event(EventKind::ChatAdded(id));
            return self.enter_by_record(record.clone(), step);
        }
        self.with_chat(id, step, |state, chat, step| {
            if chat.row.hidden != record.hidden {
                chat.row.hidden = record.hidden;
                chat.save(step);
                step.event(EventKind::ChatChanged(id));
            }
            let elsewhere = chat.row.seed != record.seed;
            let may_go_there = match chat.row.phase {
                Phase::Entering(_) => true,
                Phase::Waiting => elsewhere,
                Phase::Removed => {
                    elsewhere && !chat.row.is_dropped && !chat.was_removed_after(record)
                }
                Phase::Inside => elsewhere && chat.may_yield(step.now),
                Phase::Left => false,
            };
            if state.take_recorded_seed(chat, &record.seed, step) {
                state.advance(chat, step);
            } else if may_go_there {
                state.enter_by_record(record.clone(), step);
            }
        });
    }

    /// Another device has read that this account is out: one that looks for a way in has none.
    fn out_recorded(&mut self, id: ConversationId, step: &mut Step<'_>) {
        if !self.chats.all.contains_key(&id) {
            return;
        }
        self.with_chat(id, step, |state, chat, step| {
            let looks = matches!(chat.row.phase, Phase::Entering(Goal::Recorded(..)));
            if looks && chat.row.aside.is_none() {
                state.chats.look_no_more(id);
                chat.forget(Phase::Removed, step);
            }
        });
    }

    /// Begins to fold into a conversation where the account's log says that it goes on.
    pub(super) fn enter_by_record(&mut self, record: ConversationRecord, step: &mut Step<'_>) {
        let goal = Goal::Recorded(record.anchor, record.read);
        self.enter(Some(record.id), record.seed, goal, step);
    }

    /// Folds into a conversation after a while.
    pub(super) fn enter_later(
        &mut self,
        id: ConversationId,
        seed: Seed,
        goal: Goal,
        step: &mut Step<'_>,
    ) {
        self.enter(Some(id), seed, goal, step);
        if let Some(number) = self.chats.entering.keys().next_back().copied() {
            self.enter_pause(number, step);
        }
    }

    /// Begins to fold into a conversation.
    pub(crate) fn enter(
        &mut self,
        id: Option<ConversationId>,
        seed: Seed,
        goal: Goal,
        step: &mut Step<'_>,
    ) {
        if self.still_acts().is_err() {
            // A device that is out of its account comes into no chat any more.
            return;
        }
        let keys = seed.log_keys();
        let same = |enter: &Enter| enter.keys.log == keys.log && enter.goal == goal;
        if self.chats.entering.values().any(same) {
            return;
        }
        if let Goal::Recorded(anchor, _) = &goal {
            // A newer record of the same epoch tells more of the log, as long as that isn't read.
            let begins = |enter: &&mut Enter| {
                enter.keys.log == keys.log
                    && matches!(&enter.goal, Goal::Recorded(known, _) if known == anchor)
                    && enter.asking == Some(EnterThen::States)
            };
            if let Some(enter) = self.chats.entering.values_mut().find(begins) {
                enter.goal = goal;
                return;
            }
        }
        let number = self.chats.next_enter;
        self.chats.next_enter += 1;
        let enter = Enter {
            id,
            keys,
            seed,
            goal,
            states: VecDeque::new(),
            page: None,
            brought: None,
            rest: None,
            looks_up: None,
            looked_up: None,
            inviter_left: false,
            read_behind: 0,
            fold: None,
            position: 0,
            passed: false,
            trail: Trail::default(),
            opens_with: None,
            vouched: false,
            welcome: None,
            read: None,
            package: None,
            closed: None,
            seen: Vec::new(),
            behind: Vec::new(),
            running: None,
            head: 0,
            differs: false,
            asking: None,
            retry_at: None,
            tries: 0,
            searched: None,
            is_gone: false,
            queued: false,
        };
        self.chats.entering.insert(number, enter);
        if !self.rests_from_before(number, step) {
            self.enter_restart(number, step);
        }
    }

    /// Takes up all folds that wait: the connection is back, or something has changed.
    pub(super) fn enter_again(&mut self, step: &mut Step<'_>) {
        let hurried = self.chats.entering.iter().filter(|(_, enter)| enter.is_hurried());
        let numbers: Vec<u64> = hurried.map(|(number, _)| *number).collect();
        for number in numbers {
            self.enter_restart(number, step);
        }
    }

    pub(super) fn enter_tick(&mut self, step: &mut Step<'_>) {
        for number in self.due_folds(step.moment) {
            self.enter_restart(number, step);
        }
    }

    fn enter_restart(&mut self, number: u64, step: &mut Step<'_>) {
        if !self.take_turn(number) {
            return;
        }
        let Some(enter) = self.chats.entering.get_mut(&number) else {
            return;
        };
        (enter.looks_up, enter.looked_up) = (None, None);
        let again = enter.asking.unwrap_or(EnterThen::States);
        self.enter_ask(number, again, step);
    }

    pub(super) fn enter_ask(&mut self, number: u64, then: EnterThen, step: &mut Step<'_>) {
        let online = self.online.open;
        let Some(enter) = self.chats.entering.get_mut(&number) else {
            return;
        };
        enter.asking = Some(then);
        if !online {
            return;
        }
        let token = token_of(&enter.keys);
        let admission = Vec::new();
        let then = |then| Then::Enter(number, then);
        match enter.asking {
            None | Some(EnterThen::Fold(_)) => {}
            Some(EnterThen::States) => {
                let at_most = enter.last_state();
                let ask = log::States { token, at_most, start: START, admission };
                self.ask_open(then(EnterThen::States), ask, step);
                self.look_up_inviter(number, step);
            }
            Some(anchorage @ EnterThen::Anchorage(position)) => {
                let ask =
                    log::Read { token, after: position.saturating_sub(1), limit: 256, admission };
                self.ask_open(then(anchorage), ask, step);
            }
            Some(state @ EnterThen::State(position)) => {
                let ask = log::Beside { token, position, part: log::Part::State, admission };
                self.ask_open(then(state), ask, step);
            }
            Some(page @ (EnterThen::Page | EnterThen::Behind(_))) => {
                let ask = log::Read { token, after: enter.position, limit: 256, admission };
                self.ask_open(then(page), ask, step);
            }
            Some(EnterThen::Welcome) => {
                let position = enter.position;
                let ask = log::Beside { token, position, part: log::Part::Welcome, admission };
                self.ask_open(then(EnterThen::Welcome), ask, step);
            }
            Some(EnterThen::Peer(peer)) if enter.looks_up == Some(peer) => {}
            Some(EnterThen::Peer(peer)) => self.look_up_peer(peer, number, step),
        }
    }

    /// The record of whoever invites is needed before the invitation is taken, so it is asked for
    /// together with the fold.
    fn look_up_inviter(&mut self, number: u64, step: &mut Step<'_>) {
        let me = self.account.me().map(|me| me.account);
        let Some(enter) = self.chats.entering.get_mut(&number) else {
            return;
        };
        if let Goal::Welcome(invitation) = &enter.goal
            && (enter.tries, enter.looks_up) == (0, None)
            && Some(invitation.inviter) != me
        {
            let inviter = invitation.inviter;
            enter.looks_up = Some(inviter);
            self.look_up_peer(inviter, number, step);
        }
    }

    pub(crate) fn enter_replied(
        &mut self,
        number: u64,
        then: EnterThen,
        result: Result<OpenReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        let Some(enter) = self.chats.entering.get_mut(&number) else {
            return;
        };
        if enter.asking != Some(then) {
            return;
        }
        match (then, result) {
            (_, Err(TransportError::Unreachable | TransportError::Malformed)) => {
                enter.retry_at = Some(step.moment.after(ASK_AGAIN));
            }
            (EnterThen::States, Ok(OpenReply::States(reply))) => {
                enter.is_gone = false;
                let last = enter.last_state();
                let newest = reply.positions.first().copied();
                enter.states = reply.positions.into_iter().filter(|at| *at <= last).collect();
                enter.shorten_search();
                enter.brought = None;
                match (enter.states.front().copied(), reply.start) {
                    (Some(position), Some(start)) if Some(position) == newest => {
                        enter.begin_anew();
                        enter.states.pop_front();
                        enter.page = Some(start.page);
                        enter.brought = start.welcome;
                        self.state_came(number, position, &start.state, step);
                    }
                    _ => self.next_state(number, step),
                }
            }
            (EnterThen::Anchorage(position), Ok(OpenReply::Read(reply))) => {
                enter.page = Some(reply);
                self.enter_ask(number, EnterThen::State(position), step);
            }
            (EnterThen::State(position), Ok(OpenReply::Beside(sealed))) => {
                self.state_came(number, position, &sealed.bytes, step);
            }
            (EnterThen::Page, Ok(OpenReply::Read(reply))) => {
                self.fold_on(number, &reply.entries, reply.head, step);
            }
            (EnterThen::Behind(device), Ok(OpenReply::Read(reply))) => {
                self.read_behind(number, device, &reply, step);
            }
            (EnterThen::Welcome, Ok(OpenReply::Beside(sealed))) => {
                self.fold_welcomed(number, &sealed.bytes, step);
            }
            (EnterThen::States, Err(TransportError::Refused(refusal)))
                if refusal.code == ErrorCode::LogNotFound
                    && matches!(enter.goal, Goal::Direct { .. }) =>
            {
                self.direct_log_missing(number, step);
            }
            (EnterThen::States, Err(TransportError::Refused(refusal)))
                if refusal.code == ErrorCode::LogNotFound =>
            {
                let id = enter.id;
                enter.is_gone = true;
                self.try_records(number, step);
                self.enter_pause(number, step);
                if let Some(id) = id {
                    self.take_back(id, step);
                }
            }
            (EnterThen::Welcome, Err(TransportError::Refused(_))) => {
                self.not_welcome(number, step);
            }
            (_, Err(TransportError::Refused(refusal))) => {
                if let Some(seconds) = refusal.retry_after {
                    let wait = Duration::from_secs(u64::from(seconds));
                    enter.retry_at = Some(step.moment.after(wait));
                } else {
                    self.next_state(number, step);
                }
            }
            (_, Ok(_)) => self.next_state(number, step),
        }
    }

    /// Begins anew after a while.
    pub(super) fn enter_pause(&mut self, number: u64, step: &mut Step<'_>) {
        if self.needs_no_way(number) {
            // A newer record says more.
            self.chats.entering.remove(&number);
            return;
        }
        if let Some(enter) = self.chats.entering.get_mut(&number) {
            enter.tries = enter.tries.saturating_add(1);
            enter.searched = None;
            let wait = enter.wait();
            if let Goal::Welcome(invitation) = &enter.goal {
                let row = invitation.row;
                self.notice_tried(row, step);
            }
            self.enter_rest(number, wait, step);
        }
        self.limit_invitations(step);
    }

    /// Whether a fold tries only whether the group goes on where the account's log says.
    fn needs_no_way(&self, number: u64) -> bool {
        let Some(enter) = self.chats.entering.get(&number) else {
            return false;
        };
        let chat = enter.id.and_then(|id| self.chats.all.get(&id));
        let is_settled =
            |chat: &Chat| !matches!(chat.row.phase, Phase::Entering(_) | Phase::Waiting);
        matches!(enter.goal, Goal::Recorded(..)) && chat.is_some_and(is_settled)
    }

    /// Begins anew after `wait`; this doesn't count as a try.
    pub(super) fn enter_rest(&mut self, number: u64, wait: Duration, step: &Step<'_>) {
        if let Some(enter) = self.chats.entering.get_mut(&number) {
            enter.asking = None;
            enter.queued = false;
            enter.retry_at = Some(step.moment.after(wait));
        }
    }

    /// Tries the next older state; when there is none, waits and begins anew.
    fn next_state(&mut self, number: u64, step: &mut Step<'_>) {
        let Some(enter) = self.chats.entering.get_mut(&number) else {
            return;
        };
        enter.begin_anew();
        match enter.states.pop_front() {
            Some(0) => self.enter_ask(number, EnterThen::State(0), step),
            Some(position) => self.enter_ask(number, EnterThen::Anchorage(position), step),
            None if matches!(enter.goal, Goal::Direct { .. }) => {
                self.direct_fold_failed(number, step);
            }
            // The position leads nowhere, or somebody wrote another one: what is looked for may lie
            // elsewhere in the log.
            None if matches!(enter.goal, Goal::Welcome(_) | Goal::Recorded(..))
                && enter.searched.is_none() =>
            {
                enter.searched = Some(0);
                self.enter_ask(number, EnterThen::States, step);
            }
            None => {
                self.try_records(number, step);
                self.enter_pause(number, step);
            }
        }
    }

    /// What the fold looks for is not there: tries what the newest record of the account log names,
    /// and then the one before.
    fn try_records(&mut self, number: u64, step: &mut Step<'_>) {
        let Some(enter) = self.chats.entering.get(&number) else {
            return;
        };
        let Some(id) = enter.id else { return };
        let newest = self.account.recorded(id);
        let record = match &enter.goal {
            Goal::Anchors(_) => newest,
            Goal::Recorded(anchor, _) if newest.is_some_and(|newest| newest.anchor == *anchor) => {
                self.account.recorded_before(id)
            }
            _ => None,
        };
        if let Some(record) = record {
            self.enter_by_record(record, step);
        }
    }
}
