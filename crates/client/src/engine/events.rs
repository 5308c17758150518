//! Events that the app has not taken: where they happened, and nothing of what was said.
//!
//! An event names a chat and the number of an item; its content is looked up when the app takes
//! it. So what is erased from a timeline is erased everywhere, and events that nobody takes cost
//! a few bytes each. Beyond [`MOST`] of them one line stands for all.

use core::time::Duration;
use std::collections::VecDeque;

use corncrake_core::id::{ConversationId, MessageId};
use serde::{Deserialize, Serialize};

use super::{Input, Reply, State, Step, tables::Table};
use crate::{
    command::{ChatCommand, Command},
    event::{Connection, Delivery, Event, EventKind, Item, ItemKind},
    host::Moment,
    store::StoreError,
};

/// The largest number of events that wait for the app.
pub(crate) const MOST: u64 = 16_384;
/// How many numbers a start leaves out whose end before was none of its own: events may have been
/// told under them by batches that were lost with the power.
const LEFT_OUT: u64 = 1 << 20;
/// How many events are told without being looked up.
const FRESH: usize = 16;
/// How long the store may not know that an event was taken: after a crash it comes again.
const GONE_WITHIN: Duration = Duration::from_millis(200);

/// An event as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EventRow {
    Ready,
    ChatAdded(ConversationId),
    ChatChanged(ConversationId),
    /// A line of a timeline, by its number.
    Item(ConversationId, u64),
    /// A message of the outbox.
    Queued(ConversationId, MessageId),
    Lagged,
}

impl EventRow {
    /// `None` for what is true of a moment only.
    const fn of(what: &EventKind) -> Option<Self> {
        Some(match what {
            EventKind::Ready => Self::Ready,
            EventKind::Connection(_) => return None,
            EventKind::ChatAdded(chat) => Self::ChatAdded(*chat),
            EventKind::ChatChanged(chat) => Self::ChatChanged(*chat),
            EventKind::Item { chat, item } => match &item.what {
                ItemKind::Message { id, delivery: Delivery::Queued, .. } => {
                    Self::Queued(*chat, *id)
                }
                _ => Self::Item(*chat, item.number),
            },
            EventKind::Lagged => Self::Lagged,
        })
    }

    /// What the app is told, unless that has to be looked up.
    const fn plain(self) -> Option<EventKind> {
        Some(match self {
            Self::Ready => EventKind::Ready,
            Self::ChatAdded(chat) => EventKind::ChatAdded(chat),
            Self::ChatChanged(chat) => EventKind::ChatChanged(chat),
            Self::Lagged => EventKind::Lagged,
            Self::Item(..) | Self::Queued(..) => return None,
        })
    }

    fn is_of(self, chat: ConversationId) -> bool {
        match self {
            Self::Ready | Self::Lagged => false,
            Self::ChatAdded(of)
            | Self::ChatChanged(of)
            | Self::Item(of, _)
            | Self::Queued(of, _) => of == chat,
        }
    }
}

/// Events that the app has not taken, and the one who waits for the next.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    counters: Counters,
    /// With their numbers; `None` while they are in the store alone.
    waiting: Option<VecDeque<(u64, EventRow)>>,
    /// The newest of those that name an item, with that item: so the store need not be asked.
    fresh: VecDeque<(u64, EventKind)>,
    /// Numbers of events that were taken, or that nobody will be told. Their rows go with the next
    /// batch, or alone when the moment has come: a commit for each event would make whoever
    /// listens wait for the disk.
    gone: Vec<u64>,
    gone_by: Option<Moment>,
    /// The number behind the newest event that was taken.
    taken: u64,
    /// Whether the stored counters leave numbers out.
    is_ahead: bool,
    /// Whether events were lost.
    lost: bool,
    /// With how the connection stands as far as the one who waits has heard.
    pub(crate) asked: Option<(Option<Connection>, Reply<Event>)>,
}

/// What is stored beside the events.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// How many events wait.
    waiting: u64,
    /// The number of the next event; in the store, above that of every event told so far.
    next: u64,
}

impl EventQueue {
    /// The id of the row with the counters.
    pub(crate) const COUNTERS: &[u8] = b"next";

    /// A queue of which the store holds these counters, or none it can open.
    pub(crate) fn stored(counters: Option<Result<Counters, StoreError>>) -> Self {
        match counters {
            None => Self { waiting: Some(VecDeque::new()), ..Self::default() },
            Some(Ok(counters)) => Self { counters, ..Self::default() },
            // The numbers go on beyond all that can have been given.
            Some(Err(_)) => {
                let counters = Counters { waiting: 0, next: 1 << 48 };
                Self { counters, waiting: Some(VecDeque::new()), lost: true, ..Self::default() }
            }
        }
    }

    /// Whether an input can't be taken while the events are in the store alone.
    pub(crate) const fn is_needed(&self, input: &Input) -> bool {
        let by = matches!(
            input,
            Input::Command(Command::NextEvent { .. } | Command::Chat(_, ChatCommand::Hide(_)))
        );
        // Somebody may wait since before a full disk made the engine read its state again.
        (by || self.asked.is_some()) && self.waiting.is_none()
    }

    /// Takes the events that the store holds; `None` is one that doesn't open.
    pub(crate) fn load(&mut self, rows: impl IntoIterator<Item = (u64, Option<EventRow>)>) {
        let mut waiting = VecDeque::new();
        for (number, row) in rows {
            match row {
                _ if number < self.taken => self.gone.push(number),
                Some(row) => waiting.push_back((number, row)),
                None => self.lost = true,
            }
        }
        self.counters.waiting = waiting.len() as u64;
        self.waiting = Some(waiting);
    }

    /// The oldest event, if its content has to be looked up for somebody who waits.
    pub(crate) fn to_look_up(&self) -> Option<(u64, EventRow)> {
        self.asked.as_ref()?;
        let front = self.waiting.as_ref()?.front()?;
        self.known(*front).is_none().then_some(*front)
    }

    /// What the app is told of an event, unless that has to be looked up.
    fn known(&self, (number, row): (u64, EventRow)) -> Option<EventKind> {
        let fresh = || self.fresh.iter().find(|(of, _)| *of == number);
        row.plain().or_else(|| fresh().map(|(_, what)| what.clone()))
    }

    /// Gives the oldest event to whoever waits; without content it was erased meanwhile, and
    /// nobody is told.
    pub(crate) fn looked_up(&mut self, what: Option<EventKind>) {
        let waiting = self.waiting.get_or_insert_default();
        let Some(what) = what else {
            self.gone.extend(waiting.pop_front().map(|(number, _)| number));
            self.counters.waiting = self.counters.waiting.saturating_sub(1);
            return;
        };
        if let (Some((_, reply)), Some((number, _))) = (self.asked.take(), waiting.front()) {
            // Whoever asked may have gone away; the event waits on.
            let _ = reply.send(Ok(Event { sequence: Some(*number), what }));
        }
    }

    fn forget_all(&mut self, step: &mut Step<'_>) {
        step.delete_all(Table::Events, &[]);
        self.waiting = Some(VecDeque::new());
        self.gone.clear();
        self.fresh.clear();
        self.counters.waiting = 0;
    }

    fn push(&mut self, row: EventRow, what: EventKind, step: &mut Step<'_>) {
        let number = self.counters.next;
        step.put(Table::Events, &[], number, &row);
        self.counters.next += 1;
        self.counters.waiting += 1;
        if matches!(row, EventRow::Item(..)) {
            self.fresh.push_back((number, what));
            if self.fresh.len() > FRESH {
                self.fresh.pop_front();
            }
        }
        if let Some(waiting) = &mut self.waiting {
            waiting.push_back((number, row));
        }
    }

    fn save(&mut self, step: &mut Step<'_>) {
        self.is_ahead = !step.ends();
        let ahead = if self.is_ahead { LEFT_OUT } else { 0 };
        let next = self.counters.next + ahead;
        step.put(Table::Events, Self::COUNTERS, 0, &Counters { next, ..self.counters });
    }

    /// Deletes the rows of events that are gone if something else is written too. They never make
    /// a call write that only reads: it would be refused when the disk is full.
    fn clear_gone_beside(&mut self, step: &mut Step<'_>) {
        if !self.gone.is_empty() {
            self.gone_by.get_or_insert_with(|| step.moment.after(GONE_WITHIN));
        }
        if step.writes() || step.ends() {
            self.clear_gone(step);
        }
    }

    fn clear_gone(&mut self, step: &mut Step<'_>) {
        if !self.gone.is_empty() || (step.ends() && self.is_ahead) {
            for number in self.gone.drain(..) {
                step.delete(Table::Events, &[], number);
            }
            self.gone_by = None;
            self.save(step);
        }
    }

    /// When the engine wants to be woken for the events' sake.
    pub(crate) const fn wake_at(&self) -> Option<Moment> {
        self.gone_by
    }

    /// Takes over from an earlier state of the same store who waits, and what was taken.
    pub(crate) fn go_on_from(&mut self, earlier: &mut Self) {
        self.asked = earlier.asked.take();
        self.taken = earlier.taken;
    }
}

impl State {
    /// The app is done with the events up to this number.
    pub(super) fn events_taken(&mut self, up_to: Option<u64>) {
        let queue = &mut self.events;
        while let Some((number, _)) = queue.waiting.as_ref().and_then(VecDeque::front)
            && Some(*number) <= up_to
        {
            queue.gone.push(*number);
            queue.taken = *number + 1;
            queue.counters.waiting = queue.counters.waiting.saturating_sub(1);
            queue.waiting.get_or_insert_default().pop_front();
            queue.fresh.retain(|(of, _)| *of >= queue.taken);
        }
    }

    /// Deletes the rows of events that are gone, if they have waited long enough.
    pub(super) fn events_tick(&mut self, step: &mut Step<'_>) {
        if self.events.gone_by.is_some_and(|by| by <= step.moment) {
            self.events.clear_gone(step);
        }
    }

    /// Erases the events of a chat.
    pub(super) fn erase_events(&mut self, chat: ConversationId, step: &mut Step<'_>) {
        let queue = &mut self.events;
        let is_of = |what: &EventKind| EventRow::of(what).is_some_and(|row| row.is_of(chat));
        queue.fresh.retain(|(_, what)| !is_of(what));
        if let Some(waiting) = &mut queue.waiting {
            waiting.retain(|(number, row)| {
                let goes = row.is_of(chat);
                if goes {
                    step.delete(Table::Events, &[], *number);
                }
                !goes
            });
        }
    }

    /// Gives each event of this step its durable number.
    pub(super) fn tell(&mut self, step: &mut Step<'_>) {
        let queue = &mut self.events;
        let rows = core::mem::take(&mut step.events);
        let row = |what| Some((EventRow::of(&what)?, what));
        let rows: Vec<_> = rows.into_iter().filter_map(row).collect();
        if !rows.is_empty() || queue.lost {
            let waiting = queue.counters.waiting + rows.len() as u64;
            if waiting > MOST || core::mem::take(&mut queue.lost) {
                queue.forget_all(step);
                queue.push(EventRow::Lagged, EventKind::Lagged, step);
            } else {
                rows.into_iter().for_each(|(row, what)| queue.push(row, what, step));
            }
            queue.save(step);
        }
        queue.clear_gone_beside(step);
    }

    /// After the batch: who waits for an event is told how the connection stands if that is news,
    /// else what happened first; the engine looks up what is not known here. Should the batch be
    /// refused for want of space, they wait on.
    pub(super) fn tell_waiting(&mut self) {
        let connection = self.connection();
        let queue = &mut self.events;
        let Some((heard, reply)) = queue.asked.take() else {
            return;
        };
        if heard != Some(connection) {
            let event = Event { sequence: None, what: EventKind::Connection(connection) };
            // Whoever asked may have gone away.
            let _ = reply.send(Ok(event));
            return;
        }
        let front = queue.waiting.as_ref().and_then(VecDeque::front);
        match front.and_then(|front| Some((front.0, queue.known(*front)?))) {
            Some((number, what)) => {
                let _ = reply.send(Ok(Event { sequence: Some(number), what }));
            }
            None => queue.asked = Some((heard, reply)),
        }
    }

    /// What an event tells of a message that is still in the outbox.
    pub(super) fn queued_item(&self, chat: ConversationId, id: MessageId) -> Option<Item> {
        let me = self.account.me()?.account;
        let chat = self.chats.all.get(&chat)?;
        let is_it =
            |item: &Item| matches!(&item.what, ItemKind::Message { id: of, .. } if *of == id);
        chat.queued_items(me).into_iter().find(is_it)
    }
}

#[cfg(test)]
mod tests {
    use corncrake_core::{derive::Key32, seal::local::StoreKey};
    use futures_util::FutureExt;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;
    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        engine::{Effect, load},
        event::EventKind::ChatChanged,
        host::{Clock, Settings},
        store::{MemoryStore, SealedStore},
    };

    struct Rig<'a> {
        store: SealedStore<'a, MemoryStore>,
        state: State,
        rng: ChaCha20Rng,
        clock: Clock,
        commits: u64,
    }

    impl<'a> Rig<'a> {
        fn open(store: &'a MemoryStore) -> Self {
            let mut rng = ChaCha20Rng::from_seed([1; 32]);
            let sealed = SealedStore::open(store, &mut rng).now_or_never().unwrap().unwrap();
            let settings = (&Settings::default(), "");
            let state = load::state(&sealed, settings, Clock::default());
            let state = state.now_or_never().unwrap().unwrap();
            Self { store: sealed, state, rng, clock: Clock::default(), commits: 0 }
        }

        fn step(&mut self, act: impl FnOnce(&mut State, &mut Step<'_>)) {
            let mut step = Step::new(self.clock, &mut self.rng);
            act(&mut self.state, &mut step);
            self.state.tell(&mut step);
            let (writes, effects) = step.finish();
            self.commits += u64::from(!writes.is_empty());
            self.store.commit(writes, &mut self.rng).now_or_never().unwrap().unwrap();
            drop(effects);
            self.state.tell_waiting();
        }

        /// Takes a turn when the moment has come for which the engine wants to be woken.
        fn pass(&mut self) {
            self.clock.moment = self.state.events.wake_at().unwrap();
            self.step(|state, step| state.events_tick(step));
        }

        fn rows(&self) -> u64 {
            self.store.scan(Table::Events.into()).now_or_never().unwrap().unwrap().len() as u64
        }

        fn next(&mut self, taken: Option<u64>) -> Option<Event> {
            if self.state.events.waiting.is_none() {
                load::waiting_events(&self.store, &mut self.state.events)
                    .now_or_never()
                    .unwrap()
                    .unwrap();
            }
            let (reply, mut answer) = oneshot::channel();
            self.step(|state, _| {
                state.events_taken(taken);
                state.events.asked = Some((Some(state.connection()), reply));
            });
            answer.try_recv().ok().map(Result::unwrap)
        }
    }

    fn chat(number: u64) -> ConversationId {
        let mut id = [0; 32];
        id.iter_mut().zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
        ConversationId::from_bytes(id)
    }

    #[test]
    fn audit_srv_a9_events_that_nobody_takes_become_one() {
        let store = MemoryStore::new(StoreKey::new(&Key32::from_bytes([1; 32])));
        let mut rig = Rig::open(&store);
        let mut highest = 0;
        for round in 0..100 {
            rig.step(|_, step| {
                for number in 0..200 {
                    step.event(ChatChanged(chat(round * 200 + number)));
                }
            });
            highest = highest.max(rig.rows());
        }
        assert!((16_000..=MOST + 1).contains(&highest), "{highest} rows wait");
        // At a start only their counters are read.
        let mut rig = Rig::open(&store);
        assert!(rig.state.events.waiting.is_none());
        let lagged = rig.next(None).unwrap();
        assert_eq!(lagged.what, EventKind::Lagged);
        let mut taken = lagged.sequence;
        let mut left = Vec::new();
        while let Some(event) = rig.next(taken) {
            assert_eq!(event.sequence, taken.map(|taken| taken + 1));
            taken = event.sequence;
            left.push(event.what);
        }
        assert_eq!(left.len() as u64, 20_000 - MOST / 200 * 200 - 200);
        assert_eq!(left.last(), Some(&ChatChanged(chat(19_999))));
        rig.pass();
        assert_eq!(rig.rows(), 1, "the counters");
        // Numbers go on over restarts.
        rig.step(|_, step| step.event(EventKind::Ready));
        let mut rig = Rig::open(&store);
        assert!(rig.next(None).unwrap().sequence > taken);
    }

    #[test]
    fn no_number_is_given_twice_when_the_power_fails() {
        let store = MemoryStore::new(StoreKey::new(&Key32::from_bytes([1; 32])));
        let mut rig = Rig::open(&store);
        rig.step(|_, step| step.event(EventKind::Ready));
        let before = store.snapshot();
        rig.step(|_, step| step.event(ChatChanged(chat(1))));
        let lost = rig.next(Some(0)).unwrap();
        assert_eq!(lost.sequence, Some(1));
        // The batch that held it is lost; what is told now is something else.
        let mut rig = Rig::open(&before);
        rig.step(|_, step| step.event(ChatChanged(chat(2))));
        let told = rig.next(Some(0)).unwrap();
        assert_eq!((told.what, told.sequence > lost.sequence), (ChatChanged(chat(2)), true));
        // An end of its own leaves nothing out.
        rig.step(|state, step| {
            state.events_taken(told.sequence);
            step.event(EventKind::Ready);
            step.effects.push(Effect::Stop(oneshot::channel().0));
        });
        let mut rig = Rig::open(&before);
        rig.step(|_, step| step.event(ChatChanged(chat(3))));
        let last = rig.next(None).unwrap().sequence;
        assert_eq!(last, told.sequence.map(|number| number + 1));
        assert_eq!(rig.next(last).unwrap().sequence, last.map(|number| number + 1));
    }

    #[test]
    fn issue_7_taking_an_event_costs_no_commit_of_its_own() {
        let store = MemoryStore::new(StoreKey::new(&Key32::from_bytes([1; 32])));
        let mut rig = Rig::open(&store);
        rig.step(|_, step| (0..20).for_each(|number| step.event(ChatChanged(chat(number)))));
        let mut taken = None;
        for _ in 0..10 {
            taken = rig.next(taken).unwrap().sequence;
        }
        assert_eq!((rig.commits, rig.rows()), (1, 21), "nothing was written meanwhile");
        // The next batch takes them along.
        rig.step(|_, step| step.event(EventKind::Ready));
        assert_eq!((rig.commits, rig.rows()), (2, 13));
        // Without one they go by themselves, all at once.
        for _ in 0..5 {
            taken = rig.next(taken).unwrap().sequence;
        }
        rig.pass();
        assert_eq!((rig.commits, rig.rows()), (3, 8));
        assert_eq!(rig.state.events.wake_at(), None);
        // After a crash those come again of which the store did not know.
        rig.next(taken).unwrap();
        let mut rig = Rig::open(&store);
        assert_eq!(rig.next(None).unwrap().sequence, taken);
        // Before an end they go in any case.
        rig.step(|state, step| {
            state.events_taken(taken);
            step.effects.push(Effect::Stop(oneshot::channel().0));
        });
        let mut rig = Rig::open(&store);
        assert_eq!(rig.next(None).unwrap().sequence, taken.map(|taken| taken + 1));
    }

    #[test]
    fn events_that_were_taken_stay_taken_when_the_disk_is_full() {
        let store = MemoryStore::new(StoreKey::new(&Key32::from_bytes([1; 32])));
        let mut rig = Rig::open(&store);
        rig.step(|_, step| (0..3).for_each(|number| step.event(ChatChanged(chat(number)))));
        let taken = rig.next(None).unwrap().sequence;
        rig.state.events_taken(taken);
        // As after a batch that was refused.
        let mut again = Rig::open(&store);
        again.state.keep_waiters(&mut rig.state);
        assert_eq!(again.next(None).unwrap().what, ChatChanged(chat(1)));
        again.pass();
        assert_eq!(again.rows(), 3, "two events and the counters");
    }

    #[test]
    fn damaged_events_are_lost_as_a_whole_and_say_so() {
        let key = StoreKey::new(&Key32::from_bytes([1; 32]));
        let store = MemoryStore::new(key);
        let mut rig = Rig::open(&store);
        rig.step(|_, step| step.event(EventKind::Ready));
        rig.step(|_, step| {
            let no_event = crate::engine::tables::encode(&200_u64);
            step.put_bytes(Table::Events, &[], 0, no_event);
        });
        let mut rig = Rig::open(&store);
        assert_eq!(rig.next(None).unwrap().what, EventKind::Lagged);
    }
}
