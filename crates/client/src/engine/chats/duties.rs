//! What a device does unasked, each after a wait: by leaf order, so that one acts and the others
//! see it, or random, where those who act do not see each other.

use core::time::Duration;

use corncrake_core::{
    conversation::{Change, Duty as Turn},
    id::{AccountId, DeviceId},
    seal::{
        envelope::{Beside, EntryKind, Seed, entry_id},
        record::{AccountLogRecord, ConversationRecord},
    },
};
use corncrake_wire::{LogId, OpenReply, log};
use rand_core::Rng;

use super::{
    Chat, ChatThen,
    closed::log_of,
    lost::trail::anchor_of,
    rows::{Opening, Pending, Phase, Purpose},
};
use crate::{
    engine::{State, Step, account::Contact},
    event::EventKind,
    transport::TransportError,
};

/// The wait of each rank in leaf order.
pub(super) const RANK_WAIT: Duration = Duration::from_secs(2);
/// The longest first random wait, in milliseconds; doubled at each try.
const RANDOM_WAIT: u64 = 4000;
/// A knock is repeated after a minute, then after twice as long, up to a day.
const KNOCK_WAIT: Duration = Duration::from_secs(60);
/// A device whose store seems to be a copy comes back once a day at most.
pub(super) const COPY_WAIT: Duration = Duration::from_secs(24 * 3600);

/// Something to be done after a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Duty {
    /// Come back by an external commit.
    Rejoin,
    /// Confirm a removal and close the log.
    Handover,
    /// Begin a log that does not exist yet.
    Begin,
    /// Lay a true state beside a commit.
    Repair,
    /// Remove who has left.
    CleanUp,
    /// Remove devices that are this account's no more.
    Expel,
    /// Ask to be let in.
    Knock,
    /// Answer a knock.
    Answer([u8; 32]),
}

impl Duty {
    /// Whether this device can do it alone, so that things are not settled before it is done.
    pub(crate) const fn is_own(self) -> bool {
        !matches!(self, Self::Knock | Self::Answer(_))
    }
}

impl State {
    /// Lets the most urgent duty that is due take off, and sets the alarm for the others.
    pub(super) fn do_duties(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        if chat.row.phase == Phase::Waiting {
            return self.knock(chat, step);
        }
        let Some(conversation) = &chat.conversation else {
            return;
        };
        if !conversation.is_member() {
            return self.come_back(chat, step);
        }
        if chat.row.begin.is_open() {
            return self.begin_log(chat, step);
        }
        // A commit that says nothing leads back those who can make a lost removal again.
        if conversation.tail_is_true() == Some(false) || chat.row.begin.needs_commit() {
            return self.refresh(chat, step);
        }
        if self.has_removed_back(chat) {
            // A removal comes first; nothing else is sealed for those whom it takes out.
            return self.hand_over(chat, step);
        }
        self.mind_the_opening(chat, step);
        if chat.flight.is_none() {
            self.hand_over(chat, step);
        }
        if chat.flight.is_none() {
            self.clean_up(chat, step);
        }
        if chat.flight.is_none() {
            self.expel(chat, step);
        }
        if chat.flight.is_none() {
            self.record(chat, step);
        }
    }

    /// Looks at the leaves of this account in chats where that was not done by its newest record.
    pub(crate) fn mind_devices(&mut self, step: &mut Step<'_>) {
        let Some(version) = self.counting_record().map(Contact::version) else {
            return;
        };
        let behind =
            |chat: &&Chat| chat.row.phase == Phase::Inside && chat.row.devices_checked < version;
        let behind = self.chats.all.values().filter(behind).map(|chat| chat.row.id);
        for id in behind.collect::<Vec<_>>() {
            self.with_chat(id, step, |_, chat, step| chat.look_at_members(step));
        }
    }

    /// Removes and revokes leaves of this account that its newest record doesn't name.
    fn expel(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let (Some(me), Some(conversation)) = (self.account.me(), &chat.conversation) else {
            return;
        };
        chat.session.looks_at_members = false;
        let newest = conversation.devices(me.account).map(|(_, version)| version).max();
        let Some(own) = self.counting_record() else {
            chat.session.duties.remove(&Duty::Expel);
            return;
        };
        let version = own.version();
        let strange = conversation.devices(me.account).filter(|device| own.has_dropped(device));
        let strange: Vec<DeviceId> = strange.map(|(device, _)| device).collect();
        self.own_version_seen(newest.unwrap_or(0), step);
        if strange.is_empty() {
            chat.session.duties.remove(&Duty::Expel);
            if chat.row.devices_checked < version {
                chat.row.devices_checked = version;
                chat.save(step);
            }
            return;
        }
        if !chat.due(Duty::Expel, self.rank_wait(chat, Turn::Expel), step) {
            return;
        }
        let change = Change { revoke_devices: strange, ..Change::default() };
        if self.commit(chat, Purpose::CleanUp, change, None, step).is_err() {
            chat.put_off(step);
        }
    }

    /// The device that gives way to this one where the account has ten in the group: one that its
    /// newest record doesn't name.
    fn spare_device(&self, chat: &Chat) -> Option<DeviceId> {
        let (me, conversation) = (self.account.me()?, chat.conversation.as_ref()?);
        let own = self.own_record()?;
        let mut devices = conversation.devices(me.account);
        devices.find(|device| own.has_dropped(device)).map(|(device, _)| device)
    }

    /// Rejoins by external commit at the head.
    fn come_back(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let (Some(me), Some(conversation)) = (self.account.me(), &chat.conversation) else {
            return;
        };
        let (is_barred, is_there) =
            (self.account.is_barred(conversation), conversation.has_account(me.account));
        let has_left = chat.leaves_again();
        if has_left && conversation.leaving_accounts().any(|who| who == me.account) {
            return self.taken_out(chat, step);
        }
        let waits = chat.row.recovering && !is_barred && !is_there && !has_left;
        if core::mem::replace(&mut chat.session.waits_for_add, waits) != waits {
            step.event(EventKind::ChatChanged(chat.row.id));
        }
        if waits {
            return;
        }
        if is_barred || !is_there || self.still_acts().is_err() {
            return self.taken_out(chat, step);
        }
        if has_left {
            chat.owe_leave(step);
        }
        if self.try_invitation(chat, step) {
            return;
        }
        // Whom a commit has locked out may be one of many, and so may who has tried in vain; a new
        // device comes in at once.
        let wait = if chat.session.locked_out || chat.session.tries > 0 {
            let most = (RANDOM_WAIT << chat.session.tries.min(8)).min(3_600_000);
            Duration::from_millis(step.rng.next_u64() % most)
        } else {
            Duration::ZERO
        };
        if !chat.due(Duty::Rejoin, wait, step) {
            return;
        }
        let stays_out = chat.row.stays_out_until;
        if let Some(until) = stays_out.and_then(|until| step.clock().until(until, COPY_WAIT)) {
            return chat.wake_by(until);
        }
        chat.session.duties.remove(&Duty::Rejoin);
        chat.session.tries = chat.session.tries.saturating_add(1);
        let (Some(me), Some(conversation)) = (self.account.me(), &chat.conversation) else {
            return;
        };
        match conversation.rejoin(&me.seat(), self.spare_device(chat), step.rng) {
            Ok(own) => chat.take_off_commit(Purpose::Rejoin, own, None, step),
            Err(_) => chat.put_off(step),
        }
    }

    /// This device is out of the chat. If its account was taken out, another device of it may be back
    /// already, in another log, and then the account's log says where.
    pub(super) fn taken_out(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        self.all_intents_failed(chat, step);
        if chat.leaves_again() {
            self.record_out(chat, step);
            return chat.forget(Phase::Left, step);
        }
        let unread = |record: &ConversationRecord| !chat.has_read_to_its_end(&record.seed);
        let ahead = self.recorded_elsewhere(chat).filter(unread);
        let here = chat.conversation.as_ref().zip(self.account.me());
        chat.row.is_dropped = here.is_some_and(|(here, me)| here.has_account(me.account));
        if ahead.is_none() && !chat.row.is_dropped {
            self.record_out(chat, step);
        }
        chat.forget(Phase::Removed, step);
        if let Some(record) = ahead.filter(|_| !chat.row.is_dropped) {
            self.enter_by_record(record, step);
        }
        self.enter_again(step);
    }

    /// This device is out of the chat: somebody has taken its account out, and says so.
    pub(super) fn removed_by(&mut self, chat: &mut Chat, by: AccountId, step: &mut Step<'_>) {
        self.taken_out(chat, step);
        (chat.row.removed_by, chat.row.is_dropped) = (Some(by), false);
        chat.save(step);
    }

    /// Where the account's log says that the account is in the group, if that is in another log.
    fn recorded_elsewhere(&self, chat: &Chat) -> Option<ConversationRecord> {
        let is_elsewhere = |record: &ConversationRecord| {
            record.seed != chat.row.seed && !record.is_out && !chat.was_removed_after(record)
        };
        self.account.recorded(chat.row.id).filter(is_elsewhere)
    }

    /// The server is another one than before: a chat that this account was removed from may go on in
    /// a log that was lost and is there again, in which it wasn't.
    pub(crate) fn look_for_removed_from(&mut self, step: &mut Step<'_>) {
        for id in self.chat_ids() {
            self.with_chat(id, step, |state, chat, step| {
                let is_out = chat.row.phase == Phase::Removed && !chat.row.is_dropped;
                if is_out && let Some(record) = state.recorded_elsewhere(chat) {
                    state.enter_by_record(record, step);
                }
            });
        }
    }

    /// Sees to it that the log exists and holds a true state for who comes later.
    fn mind_the_opening(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let exists = chat.session.head.is_some_and(|head| head > 0);
        match chat.row.opening {
            Opening::True => {
                chat.session.duties.remove(&Duty::Begin);
                chat.session.duties.remove(&Duty::Repair);
            }
            _ if !exists => {
                if chat.intents.is_empty()
                    && chat.due(Duty::Begin, self.rank_wait(chat, Turn::CleanUp), step)
                {
                    self.refresh(chat, step);
                }
            }
            Opening::Expected(_) => {
                chat.session.duties.remove(&Duty::Begin);
                self.ask_for_opening(chat, step);
            }
            Opening::False => {
                chat.session.duties.remove(&Duty::Begin);
                if chat.due(Duty::Repair, self.rank_wait(chat, Turn::CleanUp), step) {
                    self.refresh(chat, step);
                }
            }
        }
    }

    pub(super) fn ask_for_opening(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        if !chat.session.opening_asked {
            chat.session.opening_asked = true;
            let then = ChatThen::Opening(chat.log());
            self.ask_beside(chat, (0, log::Part::State), then, step);
        }
    }

    pub(super) fn opening_came(
        &mut self,
        chat: &mut Chat,
        log: LogId,
        result: Result<OpenReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        chat.session.opening_asked = false;
        let Opening::Expected(expected) = chat.row.opening else {
            return;
        };
        if chat.log() != log {
            return;
        }
        let keys = &chat.keys;
        let (is_true, opened) = match &result {
            Ok(OpenReply::Beside(sealed)) => {
                let opened = keys.envelope.open_beside(keys.log, Beside::Opening, &sealed.bytes);
                let is_true = opened.as_ref().is_ok_and(|state| entry_id(state) == expected);
                (Some(is_true), opened.ok())
            }
            Err(TransportError::Refused(_)) => (Some(false), None),
            _ => (None, None),
        };
        if chat.row.begin.is_open() {
            return self.begun_opening_came(chat, is_true.filter(|_| result.is_ok()), step);
        }
        if let (Some(false), Some(state)) = (is_true, opened)
            && let Some(later) = chat.later_epoch_of(&state)
        {
            return self.log_wins(chat, (Some(log), Some(later)), step);
        }
        chat.row.opening = match is_true {
            Some(true) => Opening::True,
            Some(false) => Opening::False,
            None => return chat.put_off(step),
        };
        chat.save(step);
    }

    fn hand_over(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let (Some(me), Some(conversation)) = (self.account.me(), &chat.conversation) else {
            return;
        };
        if !conversation.handover_due() {
            chat.session.duties.remove(&Duty::Handover);
            return;
        }
        let Some(inner) = conversation.handover(&me.seat()) else {
            return;
        };
        let wait = self.rank_wait(chat, Turn::HandOver);
        if chat.due(Duty::Handover, wait, step) {
            chat.take_off_entry(Purpose::Handover, EntryKind::Commit, &inner, step);
        }
    }

    fn clean_up(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let Some(conversation) = &chat.conversation else {
            return;
        };
        if conversation.leaving_accounts().next().is_none() || conversation.handover_due() {
            chat.session.duties.remove(&Duty::CleanUp);
            return;
        }
        if chat.due(Duty::CleanUp, self.rank_wait(chat, Turn::CleanUp), step)
            && self.commit(chat, Purpose::CleanUp, Change::default(), None, step).is_err()
        {
            chat.put_off(step);
        }
    }

    /// Lets the account log name the current log, so that a new device finds in by itself.
    pub(super) fn record(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        if chat.row.recorded || chat.row.opening != Opening::True || chat.row.cursor == 0 {
            return;
        }
        if let Some(record) = self.record_of(chat, step) {
            self.put_record(AccountLogRecord::Conversation(record), step);
            chat.row.recorded = true;
            chat.save(step);
        }
    }

    /// Where this device is in the group.
    fn record_of(&self, chat: &Chat, step: &Step<'_>) -> Option<ConversationRecord> {
        let (conversation, running) = chat.conversation.as_ref().zip(chat.row.running)?;
        Some(ConversationRecord {
            id: chat.row.id,
            seed: chat.row.seed.clone(),
            anchor: anchor_of(conversation),
            read: (chat.row.cursor, running),
            hidden: chat.row.hidden,
            may_yield: chat.may_yield(step.now),
            losses: self.losses_of(chat),
            begins_with: chat.begins_with(conversation),
            is_alone: chat.row.begin.is_alone(),
            is_out: false,
        })
    }

    /// Lets the account log say that this account is out of the group.
    pub(super) fn record_out(&mut self, chat: &Chat, step: &mut Step<'_>) {
        if self.account.recorded(chat.row.id).is_none_or(|record| record.is_out) {
            return;
        }
        if let Some(record) = self.record_of(chat, step) {
            let record = ConversationRecord { is_out: true, ..record };
            self.put_record(AccountLogRecord::Conversation(record), step);
        }
    }

    /// Asks who is behind a closed log to be let in.
    fn knock(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        if !chat.due(Duty::Knock, Duration::ZERO, step) {
            return;
        }
        let (Some(me), Some(conversation)) = (self.account.me(), &chat.conversation) else {
            return;
        };
        if !conversation.has_account(me.account) {
            // It was removed before the group went on: there is nothing to be let into.
            return self.taken_out(chat, step);
        }
        let (inner, key) = conversation.knock(&me.seat(), step.rng);
        chat.row.knock = Some(Pending(key.expose().expose().to_vec()));
        let wait = KNOCK_WAIT.saturating_mul(1 << chat.session.knocked.min(11));
        chat.session.knocked = chat.session.knocked.saturating_add(1);
        let again = step.moment.after(wait.min(Duration::from_secs(24 * 3600)));
        chat.session.duties.insert(Duty::Knock, again);
        chat.wake_by(again);
        chat.take_off_entry(Purpose::Knock, EntryKind::Message, &inner, step);
    }

    /// Erases a chat's place in the account log's view: hidden or shown again.
    pub(super) fn record_again(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        chat.row.recorded = false;
        chat.save(step);
        step.event(EventKind::ChatChanged(chat.row.id));
    }

    /// The account log is another one than before: it learns where it doesn't name the log that a
    /// chat is in.
    pub(crate) fn record_again_elsewhere(&mut self, step: &mut Step<'_>) {
        let is_named = |chat: &&Chat| {
            let record = self.account.recorded(chat.row.id);
            record.is_some_and(|record| record.seed == chat.row.seed)
        };
        let inside = self.chats.all.values().filter(|chat| chat.row.phase == Phase::Inside);
        let unnamed: Vec<_> =
            inside.filter(|chat| !is_named(chat)).map(|chat| chat.row.id).collect();
        for id in unnamed {
            self.with_chat(id, step, |_, chat, step| {
                chat.row.recorded = false;
                chat.save(step);
                chat.wake_by(step.moment);
            });
        }
    }

    /// The wait of this device's rank among the leaves whose turn it may be.
    pub(super) fn rank_wait(&self, chat: &Chat, turn: Turn) -> Duration {
        let rank = match (self.account.me(), &chat.conversation) {
            (Some(me), Some(conversation)) => conversation.rank(turn, &me.seat()),
            _ => None,
        };
        RANK_WAIT.saturating_mul(rank.unwrap_or(0))
    }

    /// Fetches a state that somebody laid beside a commit, to see whether it is true.
    pub(super) fn look_at_state(&mut self, chat: &mut Chat, position: u64, step: &mut Step<'_>) {
        let then = ChatThen::State(chat.log(), position);
        self.ask_beside(chat, (position, log::Part::State), then, step);
    }

    pub(super) fn laid_state_came(
        &mut self,
        chat: &mut Chat,
        (log, position): (LogId, u64),
        result: Result<OpenReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        let Ok(OpenReply::Beside(sealed)) = result else {
            return;
        };
        let Some(conversation) = &mut chat.conversation else {
            return;
        };
        let keys = &chat.keys;
        let entry = chat.row.newest_counted.filter(|(at, _)| *at == position);
        let (Some((_, entry)), true) = (entry, log_of(keys) == log) else {
            return;
        };
        let state = keys.envelope.open_beside(keys.log, Beside::State(entry), &sealed.bytes);
        if let Ok(state) = state
            && conversation.check_state(position, &state) == Some(true)
        {
            chat.row.opening = Opening::True;
            chat.save(step);
        }
    }

    /// Takes a seed that the own account's log names, if the chat waits for just that one.
    pub(super) fn take_recorded_seed(
        &mut self,
        chat: &mut Chat,
        seed: &Seed,
        step: &mut Step<'_>,
    ) -> bool {
        let fits = chat.row.phase == Phase::Waiting
            && chat.newest_closed().is_some_and(|closed| closed.fits_next(seed));
        if fits {
            chat.drop_flight(step);
            self.go_on_in(chat, seed, step);
        }
        fits
    }
}

impl Chat {
    /// Looks at who is in the group, even if nothing else is to be done here.
    pub(super) fn look_at_members(&mut self, step: &Step<'_>) {
        self.session.looks_at_members = true;
        self.wake_by(step.moment);
    }

    /// Whether the wait of a duty is over; begins it if it had not begun, and sets the alarm.
    pub(super) fn due(&mut self, duty: Duty, wait: Duration, step: &Step<'_>) -> bool {
        let at = *self.session.duties.entry(duty).or_insert_with(|| step.moment.after(wait));
        if at > step.moment {
            self.wake_by(at);
        }
        at <= step.moment
    }
}
