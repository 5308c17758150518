//! What leaves a chat: one append at a time, sealed and stored before it goes.
//!
//! The log decides what became of an append. A reply is a hint that tells when to look; only an
//! entry that is read back is done, and an append that cannot be placed any more is sealed anew.

use core::time::Duration;

use corncrake_core::{
    conversation::{
        Change, Claimed, Error as ConversationError, OwnCommit, STATE_EVERY, SkipReason,
    },
    id::AccountId,
    mls::codec::Encode,
    seal::envelope::{Beside, EntryKind, entry_id},
};
use corncrake_wire::{
    ErrorCode,
    log::{self, Append, AppendReply, NewEntry},
};
use rand_core::Rng;

use super::{
    Chat, ChatThen,
    closed::point,
    commands::Waiter,
    rows::{Flight, FlightEntry, Intent, Opening, Pending, Phase, Purpose, Wish},
};
use crate::{
    engine::{State, Step, Then, account::check_at, tables::Table},
    error::Refusal,
    event::{Adding, EventKind},
    host::{Clock, Moment, Timestamp},
    transport::TransportError,
};

/// The largest number of messages in one append.
const BATCH: usize = 64;
/// And of bytes, above which it takes no further one: a slow line must bring each append to its end.
const BATCH_BYTES: usize = 32 * 1024;
/// How long what a reply told of may take to come before the log is asked for anew.
const SHOW_UP: Duration = Duration::from_secs(5);
/// How long adds wait for a due handover.
const ADDS_WAIT: Duration = Duration::from_secs(3600);

impl State {
    /// Does what is to be done next in a chat, if anything, and sets its alarm.
    pub(crate) fn advance(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        chat.session.wake = None;
        if !self.online.open || self.account.me().is_none() {
            return;
        }
        self.tell_namesake(chat, step);
        self.mind_out_word(chat, step);
        if matches!(chat.row.phase, Phase::Inside | Phase::Waiting) {
            self.look_again(chat, step);
            self.mind_unnamed(chat, step);
            if chat.is_loaded {
                if chat.caught_up() {
                    self.ask_of_sent(chat, step);
                    self.say_again(chat, step);
                }
                if !chat.waits_for_end(step.now) {
                    if chat.flight.is_none() && chat.caught_up() && chat.may_act(step) {
                        self.choose(chat, step);
                    }
                    self.send_flight(chat, step);
                }
            } else {
                chat.mind_looks(step);
                if !chat.rests() {
                    chat.wake_by(step.moment);
                }
            }
        }
        self.ask_of_leave(chat, step);
        self.look_into_closed(chat, step);
        self.answer_knocks(chat, step);
    }

    /// Subscribes anew when the log doesn't show what it should.
    fn look_again(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        match chat.session.show_by {
            Some(by) if by > step.moment => chat.wake_by(by),
            Some(_) => {
                chat.session.show_by = None;
                chat.session.watched = false;
                chat.session.head = None;
            }
            None => {}
        }
        if !chat.session.watched {
            self.watch(chat, step);
        }
    }

    /// Seals what comes next: first what the group needs, then what the app asked for.
    fn choose(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        self.record_lost_removals(chat, step);
        self.do_duties(chat, step);
        if chat.flight.is_some() || !chat.is_member() || chat.row.phase != Phase::Inside {
            return;
        }
        self.take_back_adds(chat, step);
        self.add_again(chat, step);
        self.look_at_newcomers(chat, step);
        if self.remove_again(chat, step) {
            return;
        }
        self.restore(chat, step);
        chat.say_to_returned(step);
        if let Some(until) = chat.session.others_return.filter(|until| *until > step.moment) {
            return chat.wake_by(until);
        }
        chat.mind_waiting_adds(step);
        self.withhold(chat, step);
        let clock = step.clock();
        let mut came_to_nothing = false;
        loop {
            match chat.next_to_do(clock) {
                // What was asked for would have begun the log that does not exist yet.
                None if came_to_nothing => break self.do_duties(chat, step),
                None => break,
                Some((_, Intent::Send { .. })) => {
                    self.seal_messages(chat, step);
                    break;
                }
                Some((number, Intent::Change(wish))) => {
                    let (number, wish) = (*number, wish.clone());
                    if let Some(until) = chat.row.begin.leave_waits(clock)
                        && matches!(wish, Wish::Leave)
                    {
                        break chat.wake_by(until);
                    }
                    match self.seal_change(chat, number, &wish, step) {
                        Ok(()) => break,
                        Err(refusal) => {
                            came_to_nothing = true;
                            // Somebody else has removed them since it was asked for.
                            let done =
                                refusal == Refusal::AlreadySo && matches!(wish, Wish::Remove(_));
                            let outcome = if done { Ok(()) } else { Err(refusal) };
                            self.end_intent(chat, number, outcome, step);
                        }
                    }
                }
            }
        }
    }

    fn seal_messages(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let (Some(me), Some(conversation)) = (self.account.me(), &mut chat.conversation) else {
            return;
        };
        if conversation.needs_path() || chat.session.path_first || chat.row.new_epoch_first {
            return self.refresh(chat, step);
        }
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let wait = adds_wait(chat.row.handover_due, step.clock()).is_some();
        let to_do = chat.intents.iter().filter(|(_, intent)| !(wait && intent.adds()));
        for (number, intent) in to_do.take(BATCH) {
            let Intent::Send { content, .. } = intent else {
                break;
            };
            if bytes > 0 && bytes + content.len() > BATCH_BYTES {
                break;
            }
            let Ok(inner) = conversation.seal_message(content, &me.seat(), step.rng) else {
                break;
            };
            let sealed =
                chat.keys.envelope.seal(chat.keys.log, EntryKind::Message, &inner, step.rng);
            let Ok(sealed) = sealed else { break };
            bytes += sealed.len();
            let inner = entry_id(&inner);
            entries.push(FlightEntry { sealed, inner, intent: Some(*number) });
        }
        if entries.is_empty() {
            return;
        }
        for entry in &entries {
            let row = chat.row.next_own;
            chat.row.next_own += 1;
            chat.own.insert(entry.inner, row);
            step.put(Table::Own, chat.row.id.as_bytes(), row, &entry.inner);
        }
        let flight = Flight::of(Purpose::Messages, conversation.epoch(), entries);
        chat.take_off(flight, step);
    }

    pub(super) fn seal_change(
        &mut self,
        chat: &mut Chat,
        number: u64,
        wish: &Wish,
        step: &mut Step<'_>,
    ) -> Result<(), Refusal> {
        let change = wish.to_change(self.account.times(step.clock()))?;
        self.commit(chat, Purpose::Change, change, Some(number), step)
    }

    /// A commit without proposals.
    pub(super) fn refresh(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        if self.commit(chat, Purpose::Refresh, Change::fresh_path(), None, step).is_err() {
            chat.put_off(step);
        }
    }

    /// Makes a commit and lets it take off.
    pub(super) fn commit(
        &mut self,
        chat: &mut Chat,
        purpose: Purpose,
        change: Change,
        intent: Option<u64>,
        step: &mut Step<'_>,
    ) -> Result<(), Refusal> {
        let (Some(me), Some(conversation)) = (self.account.me(), &chat.conversation) else {
            return Err(Refusal::NotAMember);
        };
        let own = conversation.commit(change, &me.seat(), step.rng).map_err(refusal_of)?;
        chat.take_off_commit(purpose, own, intent, step);
        Ok(())
    }

    /// Sends the flight unless it is with the server or has to wait.
    pub(super) fn send_flight(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let may_act = chat.may_act(step);
        if chat.flight.is_some() && core::mem::take(&mut chat.session.takes_turns) {
            self.watch(chat, step);
        }
        let Some(flight) = &chat.flight else { return };
        if chat.session.asked.is_some() || !may_act || !chat.caught_up() {
            return;
        }
        let Some(conversation) = &chat.conversation else {
            return;
        };
        let mut entries: Vec<NewEntry> =
            flight.entries.iter().map(|entry| NewEntry::new(entry.sealed.clone())).collect();
        if let Some(first) = entries.first_mut() {
            first.welcome.clone_from(&flight.welcome);
            first.state.clone_from(&flight.state);
        }
        let opening = if chat.session.head == Some(0) { chat.sealed_opening(step) } else { None };
        let after = point(conversation.newest_commit());
        let append = Append {
            token: chat.token(),
            kind: flight.kind(),
            after,
            entries,
            opening,
            admission: Vec::new(),
        };
        let number = chat.session.appends;
        chat.session.appends += 1;
        chat.session.asked = Some(number);
        self.ask_open(Then::Chat(chat.row.id, ChatThen::Appended { number, after }), append, step);
    }

    /// A hint of what became of the flight.
    pub(super) fn appended(
        &mut self,
        chat: &mut Chat,
        (number, after): (u64, log::Point),
        reply: Result<Option<AppendReply>, TransportError>,
        step: &mut Step<'_>,
    ) {
        if chat.session.asked != Some(number) {
            // The log was faster: that flight has landed, or was dropped.
            return;
        }
        chat.session.asked = None;
        match reply {
            Ok(Some(AppendReply::Stored { head, .. })) => {
                // Every entry must be read back.
                if !chat.is_to_show(head, step) {
                    chat.put_off(step);
                    self.watch(chat, step);
                }
            }
            // The log has another entry where this device has read `after`, or ends before it.
            Ok(Some(AppendReply::Conflict { newest_commit, head, .. }))
                if newest_commit != after && newest_commit.position <= after.position =>
            {
                chat.put_off(step);
                self.search_anew(chat, head, step);
            }
            Ok(Some(AppendReply::Conflict { head, .. })) => {
                // By commits that have been read since and don't count: it goes out again at once.
                let newest = chat.conversation.as_ref().map(|c| point(c.newest_commit()));
                if !chat.is_to_show(head, step) && newest == Some(after) {
                    chat.put_off(step);
                    self.watch(chat, step);
                }
            }
            Err(TransportError::Refused(refusal)) => {
                self.append_refused(chat, refusal, step);
            }
            Ok(None) | Err(TransportError::Unreachable | TransportError::Malformed) => {
                chat.put_off(step);
            }
        }
    }

    fn append_refused(
        &mut self,
        chat: &mut Chat,
        refusal: corncrake_wire::Refusal,
        step: &mut Step<'_>,
    ) {
        match refusal.code {
            ErrorCode::OpeningMissing => {
                // The log vanished, or never was: look at it anew.
                chat.session.head = Some(0);
                chat.put_off(step);
            }
            ErrorCode::TooLarge | ErrorCode::BadBatch | ErrorCode::Malformed => {
                let flight = chat.flight.take();
                chat.drop_flight(step);
                step.delete(Table::Flights, chat.row.id.as_bytes(), 0);
                for entry in flight.into_iter().flat_map(|flight| flight.entries) {
                    if let Some(intent) = entry.intent {
                        self.end_intent(chat, intent, Err(Refusal::MessageTooLong), step);
                    }
                }
                chat.put_off(step);
            }
            ErrorCode::PartlyKnown => {
                // What stands in the log is read before the rest goes out again.
                chat.session.head = None;
                chat.put_off(step);
                self.watch(chat, step);
            }
            _ => {
                chat.put_off(step);
                if let Some(seconds) = refusal.retry_after {
                    let wait = Duration::from_secs(u64::from(seconds));
                    let until = step.moment.after(wait);
                    chat.session.not_before = chat.session.not_before.max(Some(until));
                }
            }
        }
    }

    /// After a page: drops a flight whose epoch is over.
    pub(super) fn settle_flight(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let epoch = chat.conversation.as_ref().map(|conversation| conversation.epoch());
        let closed = chat.row.phase == Phase::Waiting;
        if chat.flight.as_ref().is_some_and(|flight| {
            Some(flight.epoch) != epoch || (closed && flight.purpose != Purpose::Knock)
        }) {
            chat.drop_flight(step);
        }
    }
}

/// Until when adds wait for a handover that is due since `since`, if they still do.
fn adds_wait(since: Option<Timestamp>, clock: Clock) -> Option<Moment> {
    since.and_then(|since| clock.until(since.after(ADDS_WAIT), ADDS_WAIT))
}

impl Chat {
    /// What was asked for first and can be done: adds that wait hold up nothing behind them.
    pub(super) fn next_to_do(&self, clock: Clock) -> Option<&(u64, Intent)> {
        let wait = adds_wait(self.row.handover_due, clock).is_some();
        self.intents.iter().find(|(_, intent)| !(wait && intent.adds()))
    }

    /// Sets the alarm for adds that wait, and tells those who asked for them that they do.
    fn mind_waiting_adds(&mut self, step: &mut Step<'_>) {
        let adds = |(number, intent): &(u64, Intent)| intent.adds().then_some(*number);
        let adds: Vec<u64> = self.intents.iter().filter_map(adds).collect();
        let Some(until) = adds_wait(self.row.handover_due, step.clock()) else {
            return;
        };
        if !adds.is_empty() {
            self.wake_by(until);
        }
        for number in adds {
            if let Some(Waiter::Added(reply)) = self.session.replies.remove(&number) {
                step.answer(reply, Ok(Adding::Waits));
                step.event(EventKind::ChatChanged(self.row.id));
            }
        }
    }

    /// Whether nothing tells this chat to wait; sets the alarm if something does.
    fn may_act(&mut self, step: &Step<'_>) -> bool {
        match self.session.not_before {
            Some(until) if until > step.moment => {
                self.wake_by(until);
                false
            }
            _ => true,
        }
    }

    /// Whether the log has entries up to this head that have not been read yet; they are waited
    /// for.
    fn is_to_show(&mut self, head: u64, step: &Step<'_>) -> bool {
        self.session.head = Some(self.session.head.unwrap_or(0).max(head));
        if self.caught_up() {
            return false;
        }
        self.session.show_by = Some(step.moment.after(SHOW_UP));
        true
    }

    /// Waits before the next append: a second at first, doubled up to a minute, with jitter.
    pub(super) fn put_off(&mut self, step: &mut Step<'_>) {
        let base = 1000_u64 << self.session.tries.min(6);
        let wait = base / 2 + step.rng.next_u64() % base.min(60_000);
        self.session.tries = self.session.tries.saturating_add(1);
        self.session.not_before = Some(step.moment.after(Duration::from_millis(wait.min(60_000))));
    }

    /// Stores an own commit as the flight.
    pub(super) fn take_off_commit(
        &mut self,
        purpose: Purpose,
        own: OwnCommit,
        intent: Option<u64>,
        step: &mut Step<'_>,
    ) {
        let Some(conversation) = &self.conversation else {
            return;
        };
        let log = self.keys.log;
        let envelope = &self.keys.envelope;
        let Ok(sealed) = envelope.seal(log, EntryKind::Commit, &own.inner, step.rng) else {
            return;
        };
        let id = entry_id(&sealed);
        let mut lay = |what, bytes: &[u8]| envelope.seal_beside(log, what, bytes, step.rng).ok();
        let welcome = own.welcome.as_ref().and_then(|welcome| lay(Beside::Welcome(id), welcome));
        let due = conversation.commits_since_state() + 1 >= STATE_EVERY
            || self.row.opening == Opening::False;
        let state = due.then(|| conversation.state_after(&own).ok()).flatten();
        let state = state.and_then(|state| lay(Beside::State(id), &state.encode()));
        let inner = entry_id(&own.inner);
        let flight = Flight {
            welcome,
            state,
            pending: Some(Pending(own.pending.expose().to_vec())),
            letters: own.added.iter().map(|new| (new.inbox(), new.package().to_bytes())).collect(),
            ..Flight::of(purpose, conversation.epoch(), vec![FlightEntry { sealed, inner, intent }])
        };
        self.take_off(flight, step);
    }

    /// Seals one entry without secrets and stores it as the flight.
    pub(super) fn take_off_entry(
        &mut self,
        purpose: Purpose,
        kind: EntryKind,
        inner: &[u8],
        step: &mut Step<'_>,
    ) {
        let Some(conversation) = &self.conversation else {
            return;
        };
        let epoch = conversation.epoch();
        let Ok(sealed) = self.keys.envelope.seal(self.keys.log, kind, inner, step.rng) else {
            return;
        };
        let entry = FlightEntry { sealed, inner: entry_id(inner), intent: None };
        self.take_off(Flight::of(purpose, epoch, vec![entry]), step);
    }

    fn take_off(&mut self, flight: Flight, step: &mut Step<'_>) {
        step.put(Table::Flights, self.row.id.as_bytes(), 0, &(self.row.id, &flight));
        self.flight = Some(flight);
        self.session.asked = None;
        self.save(step);
    }

    /// The state with which a log begins that does not exist yet.
    fn sealed_opening(&self, step: &mut Step<'_>) -> Option<Vec<u8>> {
        let state = self.conversation.as_ref()?.state().encode();
        self.keys.envelope.seal_beside(self.keys.log, Beside::Opening, &state, step.rng).ok()
    }
}

impl Flight {
    pub(crate) const fn of(purpose: Purpose, epoch: u64, entries: Vec<FlightEntry>) -> Self {
        Self {
            purpose,
            epoch,
            entries,
            welcome: None,
            state: None,
            pending: None,
            letters: Vec::new(),
        }
    }

    const fn kind(&self) -> log::EntryKind {
        match self.purpose {
            Purpose::Messages | Purpose::Knock => log::EntryKind::Message,
            Purpose::Change
            | Purpose::Found
            | Purpose::Rejoin
            | Purpose::Refresh
            | Purpose::CleanUp
            | Purpose::Handover => log::EntryKind::Commit,
        }
    }
}

impl Wish {
    pub(super) fn to_change(&self, times: [Timestamp; 2]) -> Result<Change, Refusal> {
        Ok(match self {
            Self::Add(packages) => Change::add(claimed(packages, times)?),
            Self::Remove(accounts) => Change { remove: accounts.clone(), ..Change::default() },
            Self::Leave => Change::leave(),
            Self::Title(title) => Change::title(title.as_str()),
            Self::Role(account, role) => Change::role(*account, *role),
            Self::Revoke(device) => Change { revoke_devices: vec![*device], ..Change::default() },
        })
    }
}

/// Checks claimed key packages once more, just before they are used.
pub(super) fn claimed(
    packages: &[(AccountId, Vec<u8>)],
    times: [Timestamp; 2],
) -> Result<Vec<Claimed>, Refusal> {
    packages
        .iter()
        .map(|(account, bytes)| check_at(bytes, *account, times))
        .collect::<Result<_, _>>()
        .map_err(refusal_of)
}

/// What a refused change means to who asked for it.
pub(super) fn refusal_of(error: ConversationError) -> Refusal {
    match error {
        ConversationError::NotAllowed => Refusal::NotAllowed,
        ConversationError::AlreadySo => Refusal::AlreadySo,
        ConversationError::UnknownMember => Refusal::UnknownMember,
        ConversationError::TooLong => Refusal::TitleTooLong,
        ConversationError::BadTitle => Refusal::BadTitle,
        ConversationError::LastOwner => Refusal::LastOwner,
        ConversationError::BadPackage => Refusal::NoKeyPackage,
        ConversationError::Refused(SkipReason::TooMany) => Refusal::TooManyMembers,
        ConversationError::Refused(_) => Refusal::NotAllowed,
        _ => Refusal::NotAMember,
    }
}
