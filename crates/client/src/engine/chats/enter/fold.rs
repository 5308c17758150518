//! What a fold's answers lead to: a state is checked, entries are folded in, the goal is reached.

use core::time::Duration;
use std::collections::BTreeSet;

use corncrake_core::{
    conversation::{
        ContextExtension, Conversation, Kind, LogItem, OPENING, Reading, State as FoldState,
    },
    id::{AccountId, ConversationId, DeviceId, EntryId, LogId},
    seal::{
        envelope::{Beside, EntryKind, Seed, entry_id},
        record::Anchor,
    },
};
use corncrake_wire::log::{self, RUNNING_START, running};
use zeroize::Zeroizing;

use super::{ASK_AGAIN, Enter, EnterThen};
use crate::{
    engine::{
        Effect, State, Step, Then, Work,
        chats::{
            Chat, Place,
            closed::{id_of, log_of},
            lost::trail::{Trail, anchor_of},
            read::kind_of,
            rows::{ChatRow, Goal, Opening, Phase},
        },
    },
    event::{ChatKind, EventKind},
};

/// A state that is checked as quickly as it would be handed to another thread, in bytes: that of a
/// few people.
const SMALL: usize = 4096;
/// Messages of which a fold remembers that the log has them.
const SEEN: usize = 4096;
/// Entries that are read to see whether a device has left: a log may be a stranger's.
const READ_BEHIND: usize = 20_000;

/// Checks a state, with every leaf in it, and begins a fold with it.
#[derive(Debug)]
pub(crate) struct FoldWork {
    state: Zeroizing<Vec<u8>>,
    id: Option<ConversationId>,
    log: LogId,
    /// The entry beside which the state lies.
    at: (u64, EntryId),
}

impl FoldWork {
    /// The fold; nothing if the state is none of this conversation.
    pub(crate) fn run(self) -> Option<Box<Conversation>> {
        let Self { state, id, log, at } = self;
        let state = FoldState::decode(&state).ok()?;
        if id.is_some() && state.conversation() != id {
            return None;
        }
        Conversation::fold(&state, log, at).ok().map(Box::new)
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

impl State {
    pub(super) fn state_came(
        &mut self,
        number: u64,
        position: u64,
        sealed: &[u8],
        step: &mut Step<'_>,
    ) {
        let Some(enter) = self.chats.entering.get_mut(&number) else {
            return;
        };
        let keys = &enter.keys;
        let mut page = enter.page.iter().flat_map(|page| &page.entries);
        let anchorage = page.find(|entry| position > 0 && entry.position == position);
        let at = anchorage.map_or(OPENING, |entry| (position, id_of(entry)));
        let what = match anchorage {
            Some(_) => Beside::State(at.1),
            None => Beside::Opening,
        };
        let Ok(state) = keys.envelope.open_beside(keys.log, what, sealed) else {
            return self.next_state(number, step);
        };
        let work = FoldWork { state, id: enter.id, log: keys.log, at };
        let then = EnterThen::Fold(position);
        enter.asking = Some(then);
        if work.state.len() <= SMALL && matches!(enter.goal, Goal::Welcome(_)) {
            return self.fold_came((number, position), work.run(), step);
        }
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
        if let Some(Then::Enter(number, EnterThen::Fold(position))) = self.requests.remove(&request)
        {
            self.fold_came((number, position), fold, step);
        }
    }

    fn fold_came(
        &mut self,
        (number, position): (u64, u64),
        fold: Option<Box<Conversation>>,
        step: &mut Step<'_>,
    ) {
        let id = self.chats.entering.get(&number).and_then(|enter| enter.id);
        let pair = self.pair(id);
        let Some(enter) = self.chats.entering.get_mut(&number) else {
            return;
        };
        if enter.asking != Some(EnterThen::Fold(position)) {
            return;
        }
        let fold = fold.filter(|fold| match enter.goal {
            Goal::Direct { .. } => is_between(fold, &pair),
            _ => true,
        });
        let Some(fold) = fold else {
            return self.next_state(number, step);
        };
        let anchors = enter.goal.anchors();
        enter.passed = anchors.is_some_and(|anchors| is_at_one(&fold, anchors));
        enter.running = (position == 0).then_some(RUNNING_START);
        enter.differs = false;
        enter.trail = Trail::begin(&fold);
        enter.opens_with = (position == 0).then(|| fold.epoch());
        enter.fold = Some(*fold);
        enter.position = position;
        let page = enter.page.take();
        enter.rest = match &enter.goal {
            Goal::Welcome(invitation) => page.clone().map(|page| behind(page, invitation.position)),
            _ => None,
        };
        if let Goal::Welcome(invitation) = &enter.goal
            && invitation.position == position
            && enter.searched.is_none()
        {
            let entry = invitation.entry;
            return self.at_welcome(number, entry, step);
        }
        match page {
            Some(page) => self.fold_on(number, &page.entries, page.head, step),
            None => self.enter_ask(number, EnterThen::Page, step),
        }
    }

    /// The fold has come to a commit whose Welcome is needed.
    fn at_welcome(&mut self, number: u64, entry: EntryId, step: &mut Step<'_>) {
        let Some(enter) = self.chats.entering.get_mut(&number) else {
            return;
        };
        enter.welcome = Some(entry);
        match (&enter.goal, enter.brought.take()) {
            (Goal::Welcome(_), Some(sealed)) => self.fold_welcomed(number, &sealed, step),
            _ => self.enter_ask(number, EnterThen::Welcome, step),
        }
    }

    /// Folds a page of entries; `head` is the log's newest position when it was read.
    pub(super) fn fold_on(
        &mut self,
        number: u64,
        page: &[log::LogEntry],
        head: u64,
        step: &mut Step<'_>,
    ) {
        let Some(enter) = self.chats.entering.get_mut(&number) else {
            return;
        };
        let me = self.account.me().map(|me| me.device);
        if !enter.may_search(page.len()) {
            return self.enter_pause(number, step);
        }
        let Some(fold) = &mut enter.fold else { return };
        let at_notice = enter.searched.is_none();
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
            if kind == EntryKind::Message && enter.seen.len() < SEEN {
                enter.seen.extend(inner.as_ref().map(|inner| entry_id(inner)));
            }
            let id = id_of(entry);
            enter.running = enter.running.map(|hash| running(hash, entry.position, &entry.id()));
            if let Some((position, known)) = enter.goal.running()
                && position == entry.position
            {
                enter.differs |= enter.running.is_some_and(|hash| hash != known);
                enter.running.get_or_insert(known);
            }
            // Before an epoch that this device knew there is nothing that it doesn't know.
            let is_behind =
                enter.passed || enter.vouched || !matches!(enter.goal, Goal::Anchors(_));
            if kind == EntryKind::Message && is_behind && enter.behind.len() < SEEN {
                enter.behind.push(id);
            }
            let inner = inner.as_ref().map(|inner| inner.as_slice());
            let item = LogItem { position: entry.position, id, kind, inner, own: None };
            let reading = fold.read(item);
            let at = (entry.position, id);
            progress = match &enter.goal {
                Goal::Welcome(_) if !at_notice && fold.closed() => Progress::AtEnd,
                Goal::Welcome(_) if !at_notice => Progress::More,
                Goal::Welcome(_) if enter.vouched && fold.closed() => Progress::AtEnd,
                Goal::Welcome(_) if enter.vouched => Progress::More,
                goal => after_entry(goal, &mut enter.passed, fold, at, &reading),
            };
            // Who comes in before the epoch that the goal names can't tell whether it is passed.
            let is_before = enter.goal.anchors().is_some() && !enter.passed;
            if progress == Progress::More
                && !is_before
                && adds(&reading, me)
                && !(at_notice && matches!(enter.goal, Goal::Welcome(_)))
            {
                progress = Progress::AtWelcome(id);
            }
            match reading {
                Reading::Closed { closed, .. } => enter.closed = Some(closed),
                Reading::Commit(report) => {
                    enter.trail.note(fold, &report);
                    let read = || Box::new((entry.clone(), *report));
                    enter.read = matches!(progress, Progress::AtWelcome(_)).then(read);
                }
                _ => {}
            }
            if progress != Progress::More {
                break;
            }
        }
        enter.head = head;
        if let Progress::AtWelcome(_) = progress {
            enter.compare_behind(page);
        }
        let at_head = enter.position >= head;
        match progress {
            Progress::Astray => self.next_state(number, step),
            Progress::AtWelcome(entry) => self.at_welcome(number, entry, step),
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
            Goal::Welcome(_) if fold.is_member() || direct && enter.vouched => {
                return self.take_invited(number, step);
            }
            Goal::Welcome(_) => enter.vouched,
            Goal::Anchors(_) | Goal::Recorded(..) => enter.passed,
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
        self.peer_in(fold).is_some_and(|peer| pair.contains(&peer) && self.is_there(fold, peer))
    }

    /// Whether a device that the account's newest record names is in the fold: one that was removed
    /// may have founded a chat in its owner's name, and nobody else would hear what is said there.
    fn is_there(&self, fold: &Conversation, account: AccountId) -> bool {
        let Some(contact) = self.account.contact(&account) else {
            return true;
        };
        let members = fold.members();
        let devices = members.iter().filter(|m| m.account == account).flat_map(|m| &m.devices);
        devices.into_iter().any(|sender| contact.devices.contains(&sender.device))
    }

    /// The two people of a 1:1 chat.
    fn pair(&self, id: Option<ConversationId>) -> Vec<AccountId> {
        let chat = id.and_then(|id| self.chats.all.get(&id));
        let peer = chat.and_then(|chat| chat.row.peer);
        peer.into_iter().chain(self.account.me().map(|me| me.account)).collect()
    }

    pub(super) fn fold_welcomed(&mut self, number: u64, sealed: &[u8], step: &mut Step<'_>) {
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
    pub(super) fn not_welcome(&mut self, number: u64, step: &mut Step<'_>) {
        let me = self.account.me().map(|me| me.account);
        let Some(enter) = self.chats.entering.get_mut(&number) else {
            return;
        };
        if enter.is_vouched_for(me) {
            if enter.states.contains(&0) {
                // With which epoch the log began says whether it is the one to follow.
                enter.states.retain(|position| *position == 0);
                return self.next_state(number, step);
            }
            enter.vouched = true;
            return self.enter_ask(number, EnterThen::Page, step);
        }
        match &enter.goal {
            Goal::Welcome(invitation) if self.account.package(&invitation.package).is_none() => {
                // The package went with the Welcome when we came in by another way.
                self.drop_invitation(number, step);
            }
            Goal::Welcome(_) if enter.searched.is_none() => self.next_state(number, step),
            Goal::Welcome(_) | Goal::Anchors(_) | Goal::Recorded(..) | Goal::Direct { .. } => {
                self.enter_ask(number, EnterThen::Page, step);
            }
        }
    }

    /// The device that invited is none of its account's any more. If it has left the chat since,
    /// whoever is still there stands for it: the fold begins again, as this one has read too far.
    /// Else the invitation waits for that, and counts as one that leads nowhere.
    pub(in crate::engine::chats) fn invited_by_unnamed(
        &mut self,
        number: u64,
        device: DeviceId,
        step: &mut Step<'_>,
    ) {
        match self.chats.entering.get_mut(&number).and_then(|enter| enter.rest.take()) {
            Some(rest) => self.read_behind(number, device, &rest, step),
            None => self.enter_ask(number, EnterThen::Behind(device), step),
        }
    }

    /// Reads a page behind the Welcome, and the next one, until the device that invited has left.
    pub(super) fn read_behind(
        &mut self,
        number: u64,
        device: DeviceId,
        page: &log::ReadReply,
        step: &mut Step<'_>,
    ) {
        let Some(enter) = self.chats.entering.get_mut(&number) else {
            return;
        };
        let Some(fold) = &mut enter.fold else { return };
        let keys = &enter.keys;
        let begun = enter.position;
        for entry in &page.entries {
            if entry.position != enter.position + 1 {
                continue;
            }
            enter.position = entry.position;
            enter.read_behind += 1;
            let kind = kind_of(entry.kind);
            let inner = keys.envelope.open(keys.log, kind, &entry.bytes).ok();
            let inner = inner.as_ref().map(|inner| inner.as_slice());
            let (position, id) = (entry.position, id_of(entry));
            fold.read(LogItem { position, id, kind, inner, own: None });
        }
        let members = fold.members();
        let mut devices = members.iter().flat_map(|member| &member.devices);
        if !devices.any(|member| member.device == device) {
            enter.inviter_left = true;
            return self.enter_ask(number, EnterThen::States, step);
        }
        let is_over = enter.position == begun || enter.position >= page.head;
        if is_over || enter.read_behind >= READ_BEHIND {
            enter.fold = None;
            return self.enter_pause(number, step);
        }
        self.enter_ask(number, EnterThen::Behind(device), step);
    }

    /// The fold is the true one: the chat is there, if it may be taken.
    pub(in crate::engine::chats) fn entered(&mut self, number: u64, step: &mut Step<'_>) {
        let enter = self.chats.entering.get(&number);
        let known = enter.and_then(|enter| {
            let id = enter.fold.as_ref()?.id();
            let is_invited = matches!(enter.goal, Goal::Welcome(_));
            Some((id, self.chats.all.get(&id)?, is_invited.then_some(enter.keys.log)))
        });
        if let Some((id, chat, invited)) = known {
            // Whether this device is in the group still turns out before it has no use of an invitation.
            let is_open = |log| chat.may_be_lost(log) || chat.is_asking_of_leave();
            if !chat.is_founding() && invited.is_some_and(is_open) {
                return self.enter_rest(number, ASK_AGAIN, step);
            }
            if !chat.is_loaded {
                // What it knows is in the store alone, and is needed.
                self.with_chat(id, step, |_, chat, step| {
                    chat.session.is_awaited = true;
                    chat.wake_by(step.moment);
                });
                return self.enter_rest(number, Duration::ZERO, step);
            }
        }
        let Some(mut enter) = self.chats.entering.remove(&number) else {
            return;
        };
        let Some(fold) = enter.fold.take() else { return };
        let id = fold.id();
        let taken = self.may_take(id, (&enter.goal, enter.begins_with()), &fold, step.now);
        if taken == Some(false) {
            if let (true, Goal::Welcome(invitation)) = (enter.vouched, &enter.goal) {
                let astray = (invitation.inviter, enter.keys.log);
                self.with_chat(id, step, |state, chat, step| {
                    state.tell_astray(chat, astray, step);
                });
            }
            return self.leave_invitation(&enter.goal, step);
        }
        let inviter = match &enter.goal {
            // Whoever vouches for a group that this device knows brings nobody in.
            Goal::Welcome(_) if enter.vouched && taken.is_some() => None,
            Goal::Welcome(invitation) if enter.vouched => Some(invitation.inviter),
            Goal::Welcome(_) => Some(fold.author().account),
            _ => None,
        };
        if taken.is_none() {
            let row = ChatRow::new(id, ChatKind::Group, enter.seed.clone());
            self.chats.put(Chat::new(row));
        }
        // Whatever else looked for a way into this chat has come too late, unless the group may go on
        // in another log.
        self.chats.entering.retain(|_, other| {
            other.id != Some(id)
                || matches!(other.goal, Goal::Welcome(_))
                || matches!(other.goal, Goal::Recorded(..)) && other.seed != enter.seed
        });
        self.take_fold(enter, fold, inviter, step);
    }

    /// Makes a fold the chat's; `inviter` let this device's account in.
    fn take_fold(
        &mut self,
        enter: Enter,
        fold: Conversation,
        inviter: Option<AccountId>,
        step: &mut Step<'_>,
    ) {
        let id = fold.id();
        let (begins_with, told) = (enter.begins_with(), enter.goal.running());
        let (log, rest, closed) = (log_of(&enter.keys), enter.rest, enter.closed);
        let record = self.account.recorded(id);
        let elsewhere = record.as_ref().map(|it| it.seed.clone()).filter(|it| *it != enter.seed);
        let here = record.filter(|record| record.seed == enter.seed);
        let accounts: Vec<AccountId> = fold.members().iter().map(|m| m.account).collect();
        self.with_chat(id, step, |state, chat, step| {
            let known = chat.row.next_item > 0;
            let fresh = chat.row.cursor == 0 && !known;
            if let Some(epoch) = begins_with {
                chat.give_up_begin(epoch, step);
            }
            // Of the log that it has known nobody can tell how far that went, unless it was in that log
            // when another one was vouched for.
            let was_out = matches!(chat.row.phase, Phase::Entering(_));
            let is_elsewhere = chat.row.seed != enter.seed
                && (was_out || !enter.vouched)
                && matches!(enter.goal, Goal::Welcome(_) | Goal::Recorded(..));
            chat.leave_for_fold((&enter.goal, closed.is_some()), elsewhere, step);
            chat.move_to(&enter.seed);
            chat.row.begin =
                chat.begin_of((begins_with, enter.opens_with), (enter.vouched, here), step.now);
            chat.row.cursor = enter.position;
            chat.row.running = enter.running;
            chat.row.opening = Opening::True;
            chat.row.phase = Phase::Inside;
            chat.row.is_not_out();
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
                let by = (!enter.vouched).then_some(fold.author().account);
                chat.note_invitation(invitation.row, by);
            }
            chat.row.unconfirmed = inviter.filter(|_| !direct);
            chat.conversation = Some(fold);
            chat.awaits_members_only(step);
            chat.leave_if_brought_back(step);
            let done = chat.settle_owed(&enter.trail);
            chat.keep_place(done, step);
            for inner in enter.seen {
                chat.landed_again(inner, (chat.keys.log, chat.row.cursor), step);
            }
            let end = enter.head.max(enter.position);
            let differs = enter.differs || told.is_some_and(|(at, _)| at > end);
            let misses = is_elsewhere || enter.behind.iter().any(|id| !chat.has_read(id));
            state.tell_entered(chat, (known, differs, misses), step);
            state.learn(id, &accounts, step);
            step.event(if fresh { EventKind::ChatAdded(id) } else { EventKind::ChatChanged(id) });
            state.watch(chat, step);
            if let Some((entry, report)) = enter.read.as_deref() {
                state.mind_the_new(chat, report, entry, step);
                state.mind_newcomers(chat, report, step);
            }
            if let Some(closed) = closed {
                state.closed(chat, None, *closed, step);
            }
            chat.session.is_awaited = false;
            chat.save(step);
            state.started(chat, step);
        });
        if let Some(package) = enter.package {
            self.package_done(&package, step);
        }
        if let Goal::Welcome(invitation) = &enter.goal {
            self.notice_done(invitation.row, step);
        }
        if let Some(rest) = rest.filter(|rest| !rest.entries.is_empty()) {
            self.chat_entries((id, Place::Current), log, rest.entries, rest.head, step);
        }
    }
}

impl Chat {
    /// A notice has led into the group, to which `by` has added this account.
    fn note_invitation(&mut self, notice: u64, by: Option<AccountId>) {
        self.row.notice = notice;
        self.row.brought_in_by = by;
        if by.is_some() && !self.leaves_again() {
            // Somebody has asked this account back, and doesn't make an add again that the server has
            // lost together with the leave.
            self.row.left = None;
        }
    }

    /// Gives up what it knew of the group for a fold; `recorded` is the log that the account's newest
    /// record names, if that is another one.
    fn leave_for_fold(
        &mut self,
        (goal, is_closed): (&Goal, bool),
        recorded: Option<Seed>,
        step: &mut Step<'_>,
    ) {
        if recorded.is_some() && matches!(goal, Goal::Recorded(..)) {
            // What the account's newest record names is gone, and may come back.
            self.row.lost_at = Some(step.now);
        }
        self.drop_group(step);
        self.drop_flight(step);
        // What was looked for is found, or not to be found here.
        self.session.search = None;
        if is_closed && self.row.seeds_ahead.is_empty() {
            // The handover may lead to the log that a newer record names.
            self.row.seeds_ahead.extend(recorded);
        }
    }
}

/// What a page has behind a position.
fn behind(mut page: log::ReadReply, position: u64) -> log::ReadReply {
    page.entries.retain(|entry| entry.position > position);
    page
}

impl Enter {
    /// Whether the notice points at a commit of its sender that adds nobody and counts: with it its
    /// author has signed the whole group (the server had lost the log, and it begins again). Its
    /// members come in by themselves.
    fn is_vouched_for(&self, me: Option<AccountId>) -> bool {
        let (Goal::Welcome(invitation), Some(read), Some(fold)) =
            (&self.goal, self.read.as_deref(), &self.fold)
        else {
            return false;
        };
        let (entry, report) = read;
        self.searched.is_none()
            && !self.vouched
            && entry.position == invitation.position
            && report.added.is_empty()
            && report.author.account == invitation.inviter
            && me.is_some_and(|me| me != invitation.inviter && fold.has_account(me))
    }
}

/// Whether a chat of two may begin so: as it is founded, or, where the server lost its logs, with
/// nobody but the two in it. Who can write there is one of the two either way.
fn is_between(fold: &Conversation, pair: &[AccountId]) -> bool {
    let is_one = |account: &AccountId| pair.contains(account);
    fold.is_sound_founding(fold.id(), Kind::Direct, pair)
        || fold.epoch() > 0
            && ContextExtension { revoked: BTreeSet::new(), ..fold.context().clone() }
                == ContextExtension::direct()
            && fold.members().iter().all(|member| is_one(&member.account))
}

/// Whether a fold is at one of these anchors.
fn is_at_one(fold: &Conversation, anchors: &[Anchor]) -> bool {
    anchors.contains(&anchor_of(fold))
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
    if let Some(anchors) = goal.anchors() {
        *passed |= is_at_one(fold, anchors);
        let newest = anchors.iter().map(|anchor| anchor.epoch).max();
        return if !*passed && Some(fold.epoch()) > newest {
            Progress::Astray
        } else if fold.closed() {
            Progress::AtEnd
        } else {
            Progress::More
        };
    }
    match goal {
        Goal::Welcome(invitation) if position == invitation.position => {
            let counts = matches!(reading, Reading::Commit(_)) && id == invitation.entry;
            if counts { Progress::AtWelcome(id) } else { Progress::Astray }
        }
        Goal::Welcome(_) if fold.closed() => Progress::Astray,
        _ if fold.closed() => Progress::AtEnd,
        _ => Progress::More,
    }
}
