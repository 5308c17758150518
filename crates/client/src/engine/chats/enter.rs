//! Folding into a conversation that exists: by invitation, by what the account log says, or by the
//! seed that two people share.
//!
//! A fold begins at the newest state that is not past the reader's goal and counts only if it
//! reaches the goal; else the next older state is tried. Until then nothing is stored but the goal.

use core::time::Duration;
use std::collections::{VecDeque, btree_map::Entry};

use corncrake_core::{
    conversation::{
        ClosedLog as HandedOver, CommitReport, Conversation, Kind, LogItem, Reading,
        State as FoldState,
    },
    id::{AccountId, ConversationId, DeviceId, EntryId, LogId},
    seal::{
        envelope::{Beside, LogKeys, Seed, entry_id},
        record::{AccountLogRecord, Anchor},
    },
};
use corncrake_wire::{ErrorCode, OpenReply, log};
use zeroize::Zeroizing;

use super::{
    Chat,
    closed::token_of,
    read::kind_of,
    rows::{ChatRow, Goal, Opening, Phase},
};
use crate::{
    engine::{Effect, State, Step, Then, Work},
    event::{ChatKind, EventKind, ItemKind},
    host::Timestamp,
    transport::TransportError,
};

/// A fold that came to nothing is tried again after this.
const TRY_AGAIN: Duration = Duration::from_secs(60);
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
    /// The page behind the state that is being tried, from that entry on.
    page: Vec<log::LogEntry>,
    pub(super) fold: Option<Conversation>,
    position: u64,
    passed: bool,
    /// The commit whose Welcome is fetched.
    welcome: Option<EntryId>,
    /// That commit, if the fold has read it.
    read: Option<Box<(log::LogEntry, CommitReport)>>,
    /// The key package by which the fold was joined.
    package: Option<[u8; 32]>,
    /// What the end of the log left, if the fold reached it.
    closed: Option<Box<HandedOver>>,
    /// What is waited for; nothing once the fold has come to nothing for now.
    pub(super) asking: Option<EnterThen>,
    pub(crate) retry_at: Option<Timestamp>,
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
    /// The account record of the other one in what calls itself a 1:1 chat.
    Peer(AccountId),
}

/// Checks a state, with every leaf in it, and begins a fold with it.
#[derive(Debug)]
pub(crate) struct FoldWork {
    state: Zeroizing<Vec<u8>>,
    id: Option<ConversationId>,
    log: LogId,
    position: u64,
}

impl FoldWork {
    /// The fold; nothing if the state is none of this conversation.
    pub(crate) fn run(self) -> Option<Box<Conversation>> {
        let Self { state, id, log, position } = self;
        let state = FoldState::decode(&state).ok()?;
        if id.is_some() && state.conversation() != id {
            return None;
        }
        Conversation::fold(&state, log, position).ok().map(Box::new)
    }
}

/// Whether a fold goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// More of the log is needed.
    More,
    /// A commit that adds this device is reached: its Welcome is needed.
    AtWelcome(EntryId),
    /// The log's end, or its close, is reached.
    AtEnd,
    /// This state leads nowhere.
    Astray,
}

impl Enter {
    /// Whether it waits for something that nobody can hurry.
    pub(crate) const fn is_stuck(&self) -> bool {
        self.asking.is_none()
    }

    fn last_state(&self) -> u64 {
        match &self.goal {
            Goal::Welcome(invitation) => invitation.position,
            Goal::Anchor(_) => u64::MAX,
            Goal::Direct { .. } => 0,
        }
    }
}

impl State {
    /// The own account's log says where a conversation goes on.
    pub(crate) fn chats_recorded(&mut self, record: &AccountLogRecord, step: &mut Step<'_>) {
        let AccountLogRecord::Conversation(record) = record else {
            return;
        };
        let id = record.id;
        if let Entry::Vacant(place) = self.chats.all.entry(id) {
            let mut row = ChatRow::new(id, ChatKind::Group, record.seed.clone());
            let goal = Goal::Anchor(record.anchor);
            row.phase = Phase::Entering(goal.clone());
            row.hidden = record.hidden;
            place.insert(Chat::new(row)).save(step);
            step.event(EventKind::ChatAdded(id));
            return self.enter(Some(id), record.seed.clone(), goal, step);
        }
        self.with_chat(id, step, |state, chat, step| {
            if chat.row.hidden != record.hidden {
                chat.row.hidden = record.hidden;
                chat.save(step);
                step.event(EventKind::ChatChanged(id));
            }
            let elsewhere = chat.row.seed != record.seed;
            let entering = matches!(chat.row.phase, Phase::Entering(_));
            if state.take_recorded_seed(chat, &record.seed, step) {
                state.advance(chat, step);
            } else if entering || (elsewhere && chat.row.phase == Phase::Waiting) {
                state.enter(Some(id), record.seed.clone(), Goal::Anchor(record.anchor), step);
            }
        });
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
        let keys = seed.log_keys();
        let same = |enter: &Enter| enter.keys.log == keys.log && enter.goal == goal;
        if self.chats.entering.values().any(same) {
            return;
        }
        let number = self.chats.next_enter;
        self.chats.next_enter += 1;
        let enter = Enter {
            id,
            keys,
            seed,
            goal,
            states: VecDeque::new(),
            page: Vec::new(),
            fold: None,
            position: 0,
            passed: false,
            welcome: None,
            read: None,
            package: None,
            closed: None,
            asking: None,
            retry_at: None,
        };
        self.chats.entering.insert(number, enter);
        self.enter_ask(number, EnterThen::States, step);
    }

    /// Takes up all folds that wait: the connection is back, or something has changed.
    pub(super) fn enter_again(&mut self, step: &mut Step<'_>) {
        let numbers: Vec<u64> = self.chats.entering.keys().copied().collect();
        for number in numbers {
            self.enter_restart(number, step);
        }
    }

    pub(super) fn enter_tick(&mut self, step: &mut Step<'_>) {
        let due = |enter: &Enter| enter.retry_at.is_some_and(|at| at <= step.now);
        let numbers: Vec<u64> = self
            .chats
            .entering
            .iter()
            .filter(|(_, enter)| due(enter))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            self.enter_restart(number, step);
        }
    }

    fn enter_restart(&mut self, number: u64, step: &mut Step<'_>) {
        let Some(enter) = self.chats.entering.get_mut(&number) else {
            return;
        };
        enter.retry_at = None;
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
                let ask = log::States { token, at_most, admission };
                self.ask_open(then(EnterThen::States), ask, step);
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
            Some(EnterThen::Page) => {
                let ask = log::Read { token, after: enter.position, limit: 256, admission };
                self.ask_open(then(EnterThen::Page), ask, step);
            }
            Some(EnterThen::Welcome) => {
                let position = enter.position;
                let ask = log::Beside { token, position, part: log::Part::Welcome, admission };
                self.ask_open(then(EnterThen::Welcome), ask, step);
            }
            Some(EnterThen::Peer(peer)) => self.look_up_peer(peer, number, step),
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
                enter.retry_at = Some(step.now.after(ASK_AGAIN));
            }
            (EnterThen::States, Ok(OpenReply::States(reply))) => {
                let last = enter.last_state();
                enter.states = reply.positions.into_iter().filter(|at| *at <= last).collect();
                self.next_state(number, step);
            }
            (EnterThen::Anchorage(position), Ok(OpenReply::Read(reply))) => {
                enter.page = reply.entries;
                self.enter_ask(number, EnterThen::State(position), step);
            }
            (EnterThen::State(position), Ok(OpenReply::Beside(sealed))) => {
                self.state_came(number, position, &sealed.bytes, step);
            }
            (EnterThen::Page, Ok(OpenReply::Read(reply))) => {
                self.fold_on(number, &reply.entries, reply.head, step);
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
            (EnterThen::Welcome, Err(TransportError::Refused(_))) => {
                self.not_welcome(number, step);
            }
            (_, Err(TransportError::Refused(refusal))) => {
                if let Some(seconds) = refusal.retry_after {
                    let wait = Duration::from_secs(u64::from(seconds));
                    enter.retry_at = Some(step.now.after(wait));
                } else {
                    self.next_state(number, step);
                }
            }
            (_, Ok(_)) => self.next_state(number, step),
        }
    }

    /// Begins anew after a while.
    pub(super) fn enter_pause(&mut self, number: u64, step: &Step<'_>) {
        if let Some(enter) = self.chats.entering.get_mut(&number) {
            enter.asking = None;
            enter.retry_at = Some(step.now.after(TRY_AGAIN));
        }
    }

    /// Tries the next older state; when there is none, waits and begins anew.
    fn next_state(&mut self, number: u64, step: &mut Step<'_>) {
        let Some(enter) = self.chats.entering.get_mut(&number) else {
            return;
        };
        enter.fold = None;
        enter.page.clear();
        enter.passed = false;
        enter.closed = None;
        match enter.states.pop_front() {
            Some(0) => self.enter_ask(number, EnterThen::State(0), step),
            Some(position) => self.enter_ask(number, EnterThen::Anchorage(position), step),
            None if matches!(enter.goal, Goal::Direct { .. }) => {
                self.direct_fold_failed(number, step);
            }
            None => self.enter_pause(number, step),
        }
    }

    fn state_came(&mut self, number: u64, position: u64, sealed: &[u8], step: &mut Step<'_>) {
        let Some(enter) = self.chats.entering.get_mut(&number) else {
            return;
        };
        let keys = &enter.keys;
        let anchorage = enter.page.iter().find(|entry| entry.position == position);
        let what = match anchorage {
            Some(entry) => Beside::State(entry_id(&entry.bytes)),
            None => Beside::Opening,
        };
        let Ok(state) = keys.envelope.open_beside(keys.log, what, sealed) else {
            return self.next_state(number, step);
        };
        let work = FoldWork { state, id: enter.id, log: keys.log, position };
        let then = EnterThen::Fold(position);
        enter.asking = Some(then);
        let request = self.next_request(Then::Enter(number, then));
        step.effects.push(Effect::Slow(request, Work::Fold(work)));
    }

    /// The state has been checked: the fold begins with it, if it is a true one.
    pub(crate) fn fold_begun(
        &mut self,
        request: u64,
        fold: Option<Box<Conversation>>,
        step: &mut Step<'_>,
    ) {
        let Some(Then::Enter(number, then @ EnterThen::Fold(position))) =
            self.requests.remove(&request)
        else {
            return;
        };
        let id = self.chats.entering.get(&number).and_then(|enter| enter.id);
        let pair = self.pair(id);
        let Some(enter) = self.chats.entering.get_mut(&number) else {
            return;
        };
        if enter.asking != Some(then) {
            return;
        }
        let fold = fold.filter(|fold| match enter.goal {
            Goal::Direct { .. } => fold.is_sound_founding(fold.id(), Kind::Direct, &pair),
            _ => true,
        });
        let Some(fold) = fold else {
            return self.next_state(number, step);
        };
        enter.passed = match &enter.goal {
            Goal::Anchor(anchor) => is_at(&fold, anchor),
            _ => false,
        };
        enter.fold = Some(*fold);
        enter.position = position;
        let page = core::mem::take(&mut enter.page);
        if let Goal::Welcome(invitation) = &enter.goal
            && invitation.position == position
        {
            enter.welcome = Some(invitation.entry);
            return self.enter_ask(number, EnterThen::Welcome, step);
        }
        if page.is_empty() {
            return self.enter_ask(number, EnterThen::Page, step);
        }
        self.fold_on(number, &page, u64::MAX, step);
    }

    /// Folds a page of entries; `head` is the log's newest position as far as it is known.
    fn fold_on(&mut self, number: u64, page: &[log::LogEntry], head: u64, step: &mut Step<'_>) {
        let Some(enter) = self.chats.entering.get_mut(&number) else {
            return;
        };
        let Some(fold) = &mut enter.fold else { return };
        let me = self.account.me().map(|me| me.device);
        let mut progress = Progress::More;
        for entry in page {
            if entry.position <= enter.position {
                continue;
            }
            if entry.position != enter.position + 1 {
                break;
            }
            enter.position = entry.position;
            let kind = kind_of(entry.kind);
            let inner = enter.keys.envelope.open(enter.keys.log, kind, &entry.bytes).ok();
            let id = entry_id(&entry.bytes);
            let inner = inner.as_ref().map(|inner| inner.as_slice());
            let item = LogItem { position: entry.position, id, kind, inner, own: None };
            let reading = fold.read(item);
            let at = (entry.position, id);
            progress = after_entry(&enter.goal, &mut enter.passed, fold, at, &reading);
            if progress == Progress::More
                && adds(&reading, me)
                && !matches!(enter.goal, Goal::Welcome(_))
            {
                progress = Progress::AtWelcome(id);
            }
            match reading {
                Reading::Closed { closed, .. } => enter.closed = Some(closed),
                Reading::Commit(report) => {
                    let read = || Box::new((entry.clone(), *report));
                    enter.read = matches!(progress, Progress::AtWelcome(_)).then(read);
                }
                _ => {}
            }
            if progress != Progress::More {
                break;
            }
        }
        let at_head = head != u64::MAX && enter.position >= head;
        match progress {
            Progress::Astray => self.next_state(number, step),
            Progress::AtWelcome(entry) => {
                enter.welcome = Some(entry);
                self.enter_ask(number, EnterThen::Welcome, step);
            }
            Progress::AtEnd => self.fold_ended(number, step),
            Progress::More if at_head => self.fold_ended(number, step),
            Progress::More => self.enter_ask(number, EnterThen::Page, step),
        }
    }

    fn fold_ended(&mut self, number: u64, step: &mut Step<'_>) {
        let Some(enter) = self.chats.entering.get(&number) else {
            return;
        };
        let Some(fold) = &enter.fold else { return };
        let direct = fold.context().kind == Kind::Direct;
        let good = match &enter.goal {
            Goal::Welcome(_) if direct && fold.is_member() => {
                return self.take_direct(number, step);
            }
            Goal::Welcome(_) => fold.is_member(),
            Goal::Anchor(_) => enter.passed,
            Goal::Direct { .. } => self.holds_both(fold),
        };
        if good {
            self.entered(number, step);
        } else {
            self.next_state(number, step);
        }
    }

    /// Whether just the two people of a 1:1 chat stand in the fold.
    fn holds_both(&self, fold: &Conversation) -> bool {
        let pair = self.pair(Some(fold.id()));
        self.peer_in(fold).is_some_and(|peer| pair.contains(&peer))
    }

    /// The two people of a 1:1 chat.
    fn pair(&self, id: Option<ConversationId>) -> Vec<AccountId> {
        let chat = id.and_then(|id| self.chats.all.get(&id));
        let peer = chat.and_then(|chat| chat.row.peer);
        peer.into_iter().chain(self.account.me().map(|me| me.account)).collect()
    }

    fn fold_welcomed(&mut self, number: u64, sealed: &[u8], step: &mut Step<'_>) {
        let Some(enter) = self.chats.entering.get_mut(&number) else {
            return;
        };
        let Some(entry) = enter.welcome else {
            return;
        };
        let keys = &enter.keys;
        let beside = Beside::Welcome(entry);
        let opened = keys.envelope.open_beside(keys.log, beside, sealed);
        let joined = match (&mut enter.fold, opened) {
            (Some(fold), Ok(welcome)) => self.account.join(fold, &welcome),
            _ => None,
        };
        match joined {
            Some(package) => {
                enter.package = Some(package);
                self.fold_ended(number, step);
            }
            None => self.not_welcome(number, step),
        }
    }

    /// There is no Welcome for this device: one who was invited must be wrong about the state, and
    /// anybody else folds on.
    fn not_welcome(&mut self, number: u64, step: &mut Step<'_>) {
        let Some(enter) = self.chats.entering.get(&number) else {
            return;
        };
        match &enter.goal {
            Goal::Welcome(invitation) if self.account.package(&invitation.package).is_none() => {
                // The package went with the Welcome when we came in by another way.
                self.drop_invitation(number, step);
            }
            Goal::Welcome(_) => self.next_state(number, step),
            Goal::Anchor(_) | Goal::Direct { .. } => {
                self.enter_ask(number, EnterThen::Page, step);
            }
        }
    }

    /// The fold is the true one: the chat is there.
    pub(super) fn entered(&mut self, number: u64, step: &mut Step<'_>) {
        let Some(enter) = self.chats.entering.remove(&number) else {
            return;
        };
        let Some(fold) = enter.fold else { return };
        let id = fold.id();
        if let Some(taken) = self.may_take(id, &enter.goal, &fold) {
            if !taken {
                return self.leave_invitation(&enter.goal, step);
            }
        } else {
            let row = ChatRow::new(id, ChatKind::Group, enter.seed.clone());
            self.chats.all.insert(id, Chat::new(row));
        }
        let closed = enter.closed;
        let inviter = match &enter.goal {
            Goal::Welcome(_) => Some(fold.author().account),
            _ => None,
        };
        let accounts: Vec<AccountId> = fold.members().iter().map(|m| m.account).collect();
        self.with_chat(id, step, |state, chat, step| {
            let known = chat.row.next_item > 0;
            let fresh = chat.row.cursor == 0 && !known;
            chat.drop_group(step);
            chat.drop_flight(step);
            chat.move_to(&enter.seed);
            chat.row.cursor = enter.position;
            chat.row.opening = Opening::True;
            chat.row.phase = Phase::Inside;
            let context = fold.context();
            let direct = context.kind == Kind::Direct;
            chat.row.kind = if direct { ChatKind::Direct } else { ChatKind::Group };
            let me = state.account.me().map(|me| me.account);
            if direct {
                chat.row.peer = accounts.iter().copied().find(|a| Some(*a) != me);
                let other = state.direct_chat(chat.row.peer);
                step.events.extend(other.map(EventKind::ChatChanged));
            }
            if let Goal::Welcome(invitation) = &enter.goal {
                chat.row.notice = invitation.row;
            }
            chat.row.unconfirmed = inviter.filter(|_| !direct);
            chat.conversation = Some(fold);
            let what = if known { ItemKind::Gap } else { ItemKind::JoinedHere };
            state.tell_item(chat, what, step);
            state.learn(id, &accounts, step);
            step.event(if fresh { EventKind::ChatAdded(id) } else { EventKind::ChatChanged(id) });
            state.watch(chat, step);
            if let Some((entry, report)) = enter.read.as_deref() {
                state.mind_the_new(chat, report, entry, step);
            }
            if let Some(closed) = closed {
                state.closed(chat, None, *closed, step);
            }
            chat.save(step);
            state.started(chat, step);
        });
        if let Some(package) = enter.package {
            self.package_done(&package, step);
        }
        if let Goal::Welcome(invitation) = &enter.goal {
            self.notice_done(invitation.row, step);
        }
    }
}

/// Whether a fold stands at an anchor.
fn is_at(fold: &Conversation, anchor: &Anchor) -> bool {
    let at = fold.anchor();
    at.epoch == anchor.epoch && at.transcript == anchor.interim
}

/// Whether a commit adds this device.
fn adds(reading: &Reading, me: Option<DeviceId>) -> bool {
    let Reading::Commit(report) = reading else {
        return false;
    };
    report.added.iter().any(|added| Some(added.device) == me)
}

fn after_entry(
    goal: &Goal,
    passed: &mut bool,
    fold: &Conversation,
    (position, id): (u64, EntryId),
    reading: &Reading,
) -> Progress {
    match goal {
        Goal::Welcome(invitation) if position == invitation.position => {
            let counts = matches!(reading, Reading::Commit(_)) && id == invitation.entry;
            if counts { Progress::AtWelcome(id) } else { Progress::Astray }
        }
        Goal::Welcome(_) if fold.closed() => Progress::Astray,
        Goal::Anchor(anchor) => {
            *passed |= is_at(fold, anchor);
            if !*passed && fold.epoch() > anchor.epoch {
                Progress::Astray
            } else if fold.closed() {
                Progress::AtEnd
            } else {
                Progress::More
            }
        }
        _ if fold.closed() => Progress::AtEnd,
        _ => Progress::More,
    }
}
