//! A group all of whose logs the server has lost: the current one begins again with the state that
//! the group is in, and the group stays.
//!
//! Who comes back first begins it by a commit of its own. Whoever is in the same epoch knows the
//! opening state and reads on from there. All others get a notice that points at that commit, which
//! vouches for the epoch as a Welcome would: they come in by themselves.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use corncrake_core::{
    conversation::{self, Conversation, Duty as Turn, LogItem, OPENING, Sender},
    id::{AccountId, EntryId, LogId},
    mls::{codec::Decode, key_package::KeyPackage},
    seal::{
        envelope::{EntryKind, Seed, entry_id},
        record::{Anchor, ConversationRecord},
    },
};
use corncrake_wire::log::LogEntry;
use serde::{Deserialize, Serialize};

use super::{
    Kept, OTHERS_RETURN,
    again::{AUTHORS_WAIT, Done},
    trail::anchor_of,
};
use crate::{
    engine::{
        Effect, State, Step,
        account::ClaimedPackage,
        chats::{
            Chat,
            duties::Duty,
            rows::{Opening, Phase},
        },
    },
    host::{Clock, Moment, Timestamp},
};

/// How often those who show nothing of themselves are told.
const TELL: u8 = 2;
/// When they are told once more.
const TELL_AGAIN: Duration = Duration::from_secs(30);

/// How long a leave waits for others to be told where the log begins again: nobody else may know.
const TOLD_FIRST: Duration = Duration::from_mins(1);

/// What is to be done where a log begins again that the server has lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Begin {
    /// Whether nobody knows yet with which state the log begins again, or whether it does.
    is_open: bool,
    /// When the loss was noticed.
    since: Timestamp,
    /// Whether the current log, or one before it, began again.
    is_again: bool,
    /// The epoch with which the current log begins, if it is known.
    epoch: Option<u64>,
    /// An own commit in it that others can be pointed at: the first.
    at: Option<(u64, EntryId)>,
    /// The accounts that are to be told of that commit.
    to_tell: BTreeSet<AccountId>,
    /// Accounts that are to be told that they are out, each at a log that it knows.
    out: BTreeMap<AccountId, Seed>,
    /// How often that was done: a key package may be one that the server should have lost.
    told: u8,
    /// Whether nobody else has acted in the log since.
    is_alone: bool,
}

impl Begin {
    pub(in crate::engine::chats) const fn is_open(&self) -> bool {
        self.is_open
    }

    /// The current log began again with this epoch, as somebody vouches.
    pub(in crate::engine::chats) fn with(epoch: u64, now: Timestamp) -> Self {
        Self { is_again: true, epoch: Some(epoch), since: now, ..Self::default() }
    }

    /// The current log begins with this epoch, if that is known, and nothing is left to do.
    pub(in crate::engine::chats) fn at(epoch: Option<u64>) -> Self {
        Self { epoch, ..Self::default() }
    }

    /// What is left to do in the log that comes behind, which begins with this epoch.
    pub(in crate::engine::chats) fn handed_over(self, epoch: u64) -> Self {
        Self { is_open: false, at: None, epoch: Some(epoch), ..self }
    }

    /// Whether others are to be pointed at a commit, and there is none.
    pub(in crate::engine::chats) fn needs_commit(&self) -> bool {
        !self.to_tell.is_empty() && self.at.is_none()
    }

    /// Whether nobody else is known to go on in the log that began again.
    pub(in crate::engine::chats) const fn is_alone(&self) -> bool {
        self.is_open || self.is_alone
    }

    /// Whether nothing is owed to others.
    pub(in crate::engine::chats) fn is_nothing(&self) -> bool {
        !self.is_open && self.to_tell.is_empty() && self.out.is_empty()
    }

    pub(super) fn is_older_than(&self, age: Duration, now: Timestamp) -> bool {
        !self.to_tell.is_empty() && now > self.since.after(age)
    }

    pub(super) fn tell_nobody(&mut self) {
        self.to_tell.clear();
    }

    pub(super) fn tell_out(&mut self, who: AccountId, seed: Seed) {
        self.out.insert(who, seed);
    }

    /// The log at which an account is to be told that it is out.
    pub(super) fn out(&self, who: &AccountId) -> Option<&Seed> {
        self.out.get(who)
    }

    /// Who is to be told so.
    pub(super) fn outs(&self) -> impl Iterator<Item = AccountId> {
        self.out.keys().copied()
    }

    pub(super) fn told_out(&mut self, who: &[AccountId]) {
        self.out.retain(|one, _| !who.contains(one));
    }

    /// When those who were told just now are told once more, if there are any.
    pub(super) fn tell_again(&self) -> Option<Duration> {
        (self.told == 0 && !self.to_tell.is_empty()).then_some(TELL_AGAIN)
    }

    /// Until when a leave waits: those who are still to be told would never hear of it.
    pub(in crate::engine::chats) fn leave_waits(&self, clock: Clock) -> Option<Moment> {
        let until = clock.until(self.since.after(TOLD_FIRST), TOLD_FIRST);
        until.filter(|_| !self.to_tell.is_empty())
    }

    /// Who has to be told where the log begins again.
    pub(super) fn to_tell(&self) -> impl Iterator<Item = AccountId> {
        self.to_tell.iter().copied()
    }
}

impl Chat {
    /// Whether it isn't known yet whether the group goes on in another state than this device knows,
    /// as somebody says about this log.
    pub(in crate::engine::chats) fn may_be_lost(&self, log: LogId) -> bool {
        let is_known = match self.row.begin.is_open {
            true => self.keys.log != log,
            false => self.caught_up() && self.session.search.is_none(),
        };
        self.row.phase == Phase::Inside && !is_known
    }
}

impl Chat {
    /// Whether it may turn out that the group goes on in another log than the current one: that began
    /// again, or the server has lost entries of this chat lately.
    pub(in crate::engine::chats) fn may_yield(&self, now: Timestamp) -> bool {
        let is_lossy = self.row.lost_at.is_some_and(|at| now < at.after(AUTHORS_WAIT));
        self.row.begin.is_again || is_lossy
    }

    /// With what the log of a fold begins, as somebody vouches or another device of the account says.
    pub(in crate::engine::chats) fn begin_of(
        &self,
        (begins_with, opens_with): (Option<u64>, Option<u64>),
        (is_vouched, said): (bool, Option<ConversationRecord>),
        now: Timestamp,
    ) -> Begin {
        let (may_yield, is_alone) =
            said.map_or((false, false), |said| (said.may_yield, said.is_alone));
        match begins_with {
            Some(epoch) if is_vouched || may_yield || self.may_yield(now) => {
                Begin { is_alone, ..Begin::with(epoch, now) }
            }
            _ => Begin::at(opens_with),
        }
    }

    /// The epoch that the current log, in which the group `here` is, begins with as far as is known.
    pub(in crate::engine::chats) fn begins_with(&self, here: &Conversation) -> u64 {
        self.row.begin.epoch.unwrap_or_else(|| here.epoch())
    }

    /// Whether this chat goes on in another log, which began again with this epoch, as `voucher` says:
    /// all go to the later one.
    pub(in crate::engine::chats) fn yields_to(
        &self,
        voucher: AccountId,
        (epoch, log): (u64, LogId),
        now: Timestamp,
    ) -> bool {
        let Some(here) = self.conversation.as_ref().filter(|_| self.may_yield(now)) else {
            return false;
        };
        let own = self.begins_with(here);
        let is_known = here.has_account(voucher) || self.row.begin.is_alone();
        is_known && (epoch, log) > (own, self.keys.log)
    }

    /// Whether this chat goes on in a fold of another log to which the account `inviter` has added
    /// this one: nobody else is known to go on in the current log, or that is behind.
    pub(in crate::engine::chats) fn is_left_behind(
        &self,
        inviter: AccountId,
        fold: &Conversation,
        now: Timestamp,
    ) -> bool {
        let Some(here) = &self.conversation else {
            return false;
        };
        let may_say = self.row.brought_in_by == Some(inviter)
            || self.may_yield(now) && here.has_account(inviter);
        let is_behind = may_say && fold.epoch() > here.epoch();
        self.keys.log != fold.log() && (self.row.begin.is_alone() || is_behind)
    }

    /// Owes an account in the group a notice that points at a commit which this device makes.
    pub(in crate::engine::chats) fn tell_of_log(&mut self, who: AccountId, step: &mut Step<'_>) {
        // What was made before that account came in doesn't show that it is there.
        self.row.begin.at = None;
        self.row.begin.told = 0;
        self.tell_where(who, step);
    }

    fn tell_where(&mut self, who: AccountId, step: &mut Step<'_>) {
        self.row.begin.to_tell.insert(who);
        self.row.begin.since = step.now;
        // Who says it again and again is answered from time to time.
        let soon = step.moment.after(TELL_AGAIN);
        self.session.adds_again = self.session.adds_again.map(|at| at.min(soon));
        self.save(step);
        self.wake_by(step.moment);
    }

    /// The group goes on elsewhere than where this device began it again, in a log that begins with
    /// this epoch: what was said there is said once more, and what was done that isn't known there is
    /// owed.
    pub(in crate::engine::chats) fn give_up_begin(&mut self, epoch: u64, step: &mut Step<'_>) {
        if let Some(here) = self.conversation.as_ref().filter(|_| self.row.phase == Phase::Inside) {
            let log = self.keys.log;
            // All logs were lost, and none is ahead of another but by what was known before.
            let is_ahead = self.row.begin.is_again && epoch > self.begins_with(here);
            self.owe_again(0, step);
            if is_ahead {
                self.others_went_on();
            }
            self.lose_sent_after(&log, 0, step);
            self.row.recovering = true;
            step.effects.push(Effect::Unwatch(self.log()));
        }
    }
}

impl Chat {
    /// The epoch of a state with which the current log begins, if the group came to that epoch in this
    /// log itself: the server has lost it, and somebody who had read further has begun it again. What
    /// this device has not read back may be what led there.
    pub(in crate::engine::chats) fn later_epoch_of(&self, state: &[u8]) -> Option<Anchor> {
        let opened = conversation::State::decode(state).ok()?;
        let fold = Conversation::fold(&opened, self.keys.log, OPENING).ok()?;
        let epoch = anchor_of(&fold);
        let is_it =
            |kept: &Kept| kept.log == self.keys.log && kept.position > 0 && kept.anchor == epoch;
        let is_known = self.kept.values().any(is_it) || self.epoch_ahead() == Some(epoch);
        (fold.id() == self.row.id && is_known).then_some(epoch)
    }

    /// The epoch to which the own commit leads that is under way.
    fn epoch_ahead(&self) -> Option<Anchor> {
        let here = self.conversation.as_ref()?;
        let flight = self.flight.as_ref().filter(|flight| flight.pending.is_some())?;
        let commit = flight.entries.first()?;
        let inner = self.keys.envelope.open(self.keys.log, EntryKind::Commit, &commit.sealed);
        let mut fold =
            Conversation::fold(&here.state(), self.keys.log, here.newest_commit()).ok()?;
        fold.read(LogItem {
            position: self.row.cursor + 1,
            id: entry_id(&commit.sealed),
            kind: EntryKind::Commit,
            inner: Some(&inner.ok()?),
            own: None,
        });
        Some(anchor_of(&fold))
    }
}

impl Chat {
    /// A log that began again, and of which nothing has been read yet: what it begins with has to be
    /// seen anew on each connection, as every log agrees before its first entry.
    pub(in crate::engine::chats) fn look_at_begin_anew(&mut self) {
        let is_known = self.row.begin.is_again && self.row.opening == Opening::True;
        if let Some(conversation) =
            self.conversation.as_ref().filter(|_| is_known && self.row.cursor == 0)
            && conversation.is_member()
        {
            self.row.opening = Opening::Expected(entry_id(&conversation.state().encode()));
            self.row.begin.is_open = true;
        }
    }
}

impl State {
    /// The server has lost all logs of a chat, or somebody has begun its log again: the group stays
    /// if it turns out to be in the state with which the log begins again. What was said from the
    /// log `first` on is lost.
    pub(super) fn begin_again(&mut self, chat: &mut Chat, first: LogId, step: &mut Step<'_>) {
        if let Some(conversation) = &mut chat.conversation {
            conversation.read_again_after(0, OPENING);
            let state = entry_id(&conversation.state().encode());
            chat.row.opening = Opening::Expected(state);
        }
        chat.move_to(&chat.row.seed.clone());
        let epoch = chat.conversation.as_ref().map_or(0, Conversation::epoch);
        chat.row.begin = Begin { is_open: true, ..Begin::with(epoch, step.now) };
        chat.lose_sent_after(&first, 0, step);
        self.entries_were_lost(chat, step);
        self.watch(chat, step);
        chat.save(step);
    }

    /// Begins the log again, at once if there is something to say: a commit comes first, so that
    /// others can be pointed at it.
    pub(in crate::engine::chats) fn begin_log(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        if chat.flight.is_none()
            && (!chat.intents.is_empty()
                || chat.due(Duty::Begin, self.rank_wait(chat, Turn::CleanUp), step))
        {
            self.refresh(chat, step);
        }
    }

    /// The first entry of a log that begins again: whether it may be read. Somebody else's may not
    /// before it is known with which state the log begins.
    pub(in crate::engine::chats) fn may_read_begun(
        &mut self,
        chat: &mut Chat,
        (first, head): (&LogEntry, u64),
        step: &mut Step<'_>,
    ) -> bool {
        if !chat.row.begin.is_open || chat.flown(chat.inner_hash(first)).is_some() {
            return true;
        }
        chat.session.head = Some(head);
        self.ask_for_opening(chat, step);
        false
    }

    /// It is known with which state the log begins that was lost.
    pub(in crate::engine::chats) fn begun_opening_came(
        &mut self,
        chat: &mut Chat,
        is_true: Option<bool>,
        step: &mut Step<'_>,
    ) {
        match is_true {
            Some(true) => {
                chat.row.opening = Opening::True;
                self.began(chat, step);
                chat.keep_place(Done::default(), step);
                self.watch(chat, step);
                chat.save(step);
            }
            Some(false) => {
                let log = chat.log();
                chat.row.begin = Begin::default();
                self.log_wins(chat, (Some(log), None), step);
            }
            None => {
                chat.session.watched = false;
                chat.wake_by(step.moment);
            }
        }
    }

    /// The log begins again with the state that the group is in.
    fn began(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        chat.row.begin.is_open = false;
        chat.row.begin.is_alone = true;
        chat.lose_places_after(0, step);
    }

    /// An own commit has landed in the current log. If that begins again with it, others get to know
    /// of it.
    pub(in crate::engine::chats) fn own_begin_landed(
        &mut self,
        chat: &mut Chat,
        at: (u64, EntryId),
        step: &mut Step<'_>,
    ) {
        chat.row.begin.at.get_or_insert(at);
        if !chat.row.begin.is_open {
            return;
        }
        self.began(chat, step);
        let me = self.account.me().map(|me| me.account);
        let members = chat.conversation.iter().flat_map(Conversation::members);
        let others = members.map(|member| member.account).filter(|who| Some(*who) != me);
        chat.row.begin.to_tell = others.collect();
        chat.session.adds_again = None;
    }

    /// Owes notices that point at the commit with which the log begins again to devices that are in
    /// the group; `packages` are theirs.
    pub(super) fn vouch(
        &mut self,
        chat: &mut Chat,
        packages: &[ClaimedPackage],
        step: &mut Step<'_>,
    ) {
        let (Some(at), Some(conversation)) = (chat.row.begin.at, &chat.conversation) else {
            return;
        };
        let members = packages.iter().filter(|package| conversation.has_account(package.account));
        let members: Vec<&ClaimedPackage> = members.collect();
        if !members.is_empty() {
            chat.row.begin.told = chat.row.begin.told.saturating_add(1);
        }
        let is_over = chat.row.begin.told >= TELL;
        for package in members {
            let (Some(me), Ok(key_package)) =
                (self.account.me(), KeyPackage::decode_exact(&package.bytes))
            else {
                continue;
            };
            if is_over {
                chat.row.begin.to_tell.remove(&package.account);
            }
            if let Some(letter) = chat.notice(me, (&key_package, package.inbox), at, step) {
                let unless = Some((chat.row.id, package.device));
                let letter = (letter, Some((package.account, package.device)));
                self.keep_letter(letter, (step.now, unless), step);
            }
        }
    }

    /// Somebody says that the group goes on in another log, where it doesn't: a member is told where,
    /// as what it was told before has not reached it. Whom somebody else leads astray is not known, so
    /// everybody is told, once for each loss.
    pub(in crate::engine::chats) fn tell_astray(
        &mut self,
        chat: &mut Chat,
        (who, log): (AccountId, LogId),
        step: &mut Step<'_>,
    ) {
        let me = self.account.me().map(|me| me.account);
        let Some(conversation) = chat.conversation.as_ref().filter(|_| chat.is_member()) else {
            return;
        };
        if log == chat.keys.log {
            return;
        }
        if conversation.has_account(who) {
            return chat.tell_where(who, step);
        }
        self.tell_removed(chat, (who, log), step);
        let Some(conversation) = chat.conversation.as_ref() else { return };
        let lost_at = chat.row.lost_at.filter(|_| chat.may_yield(step.now));
        if lost_at.is_some() && lost_at != chat.session.told_all {
            let others = conversation.members().into_iter().map(|member| member.account);
            let others: Vec<_> = others.filter(|other| Some(*other) != me).collect();
            chat.session.told_all = lost_at;
            others.into_iter().for_each(|other| chat.tell_of_log(other, step));
        }
    }

    /// Somebody acts in a log that began again. Who comes in by a commit of their own, as the first
    /// of the others, could not read what was said here before: it is said again.
    pub(in crate::engine::chats) fn heard_since_begin(
        &mut self,
        chat: &mut Chat,
        (actor, is_external): (Sender, bool),
        step: &mut Step<'_>,
    ) {
        let is_me = self.account.me().is_none_or(|me| me.account == actor.account);
        let begin = &mut chat.row.begin;
        if is_me || !begin.is_alone && !begin.to_tell.contains(&actor.account) {
            return;
        }
        begin.to_tell.remove(&actor.account);
        let was_alone = core::mem::take(&mut begin.is_alone);
        // The account's log is to say so.
        chat.row.recorded &= !was_alone;
        if was_alone && is_external {
            // Others of those who lost the same epoch may be about to come back as well.
            chat.session.others_return = Some(step.moment.after(OTHERS_RETURN));
            chat.say_all_again(step);
        }
    }
}
