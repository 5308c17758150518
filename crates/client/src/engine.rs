//! The one actor that owns all state.
//!
//! Its loop takes an input (a command, a push, an answer, the clock), loads what the input needs,
//! calls the synchronous [`State::step`], commits the batch and only then carries out the effects:
//! whatever leaves the device or reaches the app is stored before. Nothing else in the crate
//! touches the store, the network or the clock.

use core::{future::Future, pin::Pin, time::Duration};
use std::{collections::VecDeque, rc::Rc};

use futures_util::{StreamExt, stream::FuturesUnordered};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use tokio::sync::{mpsc, oneshot};

use crate::{
    client::Reason,
    command::{ChatCommand, Command},
    error::Error,
    host::{Clock, Host, Moment},
    store::{Durability, SealedStore, Store, StoreError, Writes},
    transport::{Plane, Push, Transport},
};

pub(crate) mod account;
pub(crate) mod chats;
mod events;
mod history;
mod load;
mod state;
mod step;
mod tables;

#[cfg(test)]
pub(crate) use chats::Adder;
pub(crate) use chats::{ClaimThen, GatherThen, Gathered, Starter};
pub(crate) use state::State;
pub(crate) use step::{Done, Effect, Input, Reply, Step, Then, Work};

/// Requests under way; each ends in an input.
type UnderWay = FuturesUnordered<Pin<Box<dyn Future<Output = Input>>>>;

/// The first pause after the disk was found full, doubled up to the longest.
const FULL_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_FULL_PAUSE: Duration = Duration::from_secs(10);
/// How long what a batch has deleted or overwritten may stay in the store's files, and for how much
/// longer while answers are expected.
const FORGET_WITHIN: Duration = Duration::from_millis(700);
const LONGEST_BUSY: Duration = Duration::from_millis(300);
/// The pause after a failure to do so, such as a full disk.
const FORGET_AGAIN: Duration = Duration::from_secs(10);

struct Engine<'a, H: Host> {
    host: Rc<H>,
    store: SealedStore<'a, H::Store>,
    state: State,
    rng: ChaCha20Rng,
    work: UnderWay,
    /// When the store is to forget what was deleted.
    forget_at: Option<Moment>,
    /// Whether a batch may be lost with the power so far.
    is_behind: bool,
    /// How handles are told why they get no answer.
    reason: Reason,
    /// The planes that are up, as the transport told it.
    planes: Vec<(Plane, Push)>,
    /// What is taken before anything else.
    ahead: VecDeque<Input>,
    full: Full,
}

/// The disk was found full: until a moment the engine only answers.
#[derive(Default)]
struct Full {
    until: Option<Moment>,
    /// How often in a row.
    times: u32,
}

/// Runs an engine until it is closed, its store fails, or all its handles are gone; then closes
/// the store.
pub(crate) async fn run<H: Host>(
    host: H,
    mut commands: mpsc::UnboundedReceiver<Command>,
    reason: Reason,
) -> Result<(), Error> {
    let host = Rc::new(host);
    let ended = live(&host, &mut commands, &reason).await;
    if let Err(error) = &ended {
        reason.tell(error.clone());
    }
    let closed = host.store().close().await.map_err(Error::from);
    // This is the last answer: whoever hears it may open the store again at once.
    let _ = ended?.send(closed.clone());
    closed
}

/// The engine's life; at its end, the place for the answer to the command that closed it.
async fn live<H: Host>(
    host: &Rc<H>,
    commands: &mut mpsc::UnboundedReceiver<Command>,
    reason: &Reason,
) -> Result<Reply<()>, Error> {
    let mut seed = [0; 32];
    host.random().fill_bytes(&mut seed);
    let mut rng = ChaCha20Rng::from_seed(seed);
    let store = SealedStore::open(host.store(), &mut rng).await?;
    let clock = Clock::of(&**host);
    let state = load::state(&store, (host.settings(), host.origin()), clock).await?;
    let mut engine = Engine {
        host: Rc::clone(host),
        store,
        state,
        rng,
        work: UnderWay::new(),
        // An earlier life may have ended before it could.
        forget_at: Some(host.moment()),
        is_behind: false,
        reason: reason.clone(),
        planes: Vec::new(),
        ahead: VecDeque::from([Input::Start]),
        full: Full::default(),
    };
    let ended = engine.go(commands).await;
    // Before the engine is dropped, and with it the places for answers.
    match &ended {
        Err(error) => reason.tell(error.clone()),
        Ok(_) => reason.forget(),
    }
    ended
}

/// Whether the engine goes on after a turn.
enum Turn {
    Again,
    /// It has been closed; this is where the last answer goes.
    Stop(Reply<()>),
}

impl<H: Host> Engine<'_, H> {
    async fn go(
        &mut self,
        commands: &mut mpsc::UnboundedReceiver<Command>,
    ) -> Result<Reply<()>, Error> {
        loop {
            let input = match self.ahead.pop_front() {
                Some(input) => Some(input),
                None => self.wait(commands).await,
            };
            // All handles are gone: that closes it too.
            let input = input.unwrap_or_else(|| {
                let (reply, _) = oneshot::channel();
                Input::Command(Command::Close(reply))
            });
            if let Turn::Stop(reply) = self.turn(input).await? {
                return Ok(reply);
            }
        }
    }

    async fn wait(&mut self, commands: &mut mpsc::UnboundedReceiver<Command>) -> Option<Input> {
        let host = Rc::clone(&self.host);
        let goes_on = self.full.until.is_none();
        let wakes = [self.state.wake_at(), self.forgets_at()];
        let wake = self.full.until.or_else(|| wakes.into_iter().flatten().min());
        let alarm = async {
            match wake {
                Some(at) => host.sleep_until(at).await,
                None => core::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(input) = self.work.next(), if !self.work.is_empty() => Some(input),
            push = host.transport().next(), if goes_on => Some(Input::Push(push)),
            command = commands.recv() => command.map(Input::Command),
            () = alarm => Some(Input::Tick),
        }
    }

    async fn turn(&mut self, input: Input) -> Result<Turn, Error> {
        if let Input::Command(Command::Chat(id, ChatCommand::History { before, limit, reply })) =
            input
        {
            // Whoever asked may have gone away.
            let _ = reply.send(self.history(id, before, limit).await);
            return Ok(Turn::Again);
        }
        let clock = Clock::of(&*self.host);
        if self.full.until.is_some_and(|until| until <= clock.moment) {
            self.go_on_after_full();
            if !matches!(input, Input::Tick) {
                self.ahead.push_back(input);
            }
            return Ok(Turn::Again);
        }
        self.note_planes(&input);
        for id in self.state.chats_to_load(&input, clock.moment) {
            load::group(&self.store, &mut self.state.chats, id).await?;
        }
        if self.state.events.is_needed(&input) {
            load::waiting_events(&self.store, &mut self.state.events).await?;
        }
        let (comes_again, is_record) = (input.comes_again(), input.is_record());
        let is_tick = matches!(input, Input::Tick);
        let mut step = Step::new(clock, &mut self.rng);
        self.state.step(input, &mut step);
        let (writes, effects) = step.finish();
        let binds = effects.iter().any(Effect::binds);
        let answers = effects.iter().any(|effect| matches!(effect, Effect::Answer(_)));
        let is_soon = comes_again && !(is_record && answers);
        match self.keep(writes, (is_soon, binds), clock.moment).await {
            Err(Error::Store(StoreError::Full)) => return self.refuse(effects, clock).await,
            stored => stored?,
        }
        let mut turn = Turn::Again;
        for effect in effects {
            match effect {
                Effect::Stop(reply) => turn = Turn::Stop(reply),
                effect => self.carry_out(effect),
            }
        }
        if self.full.until.is_some_and(|until| until > clock.moment) {
            self.tell_full();
        }
        self.tell().await?;
        self.state.chats.let_rest(self.state.settings.chats_in_memory);
        let is_late = |at: Moment| at.after(LONGEST_BUSY) <= clock.moment;
        if is_tick || self.forget_at.is_some_and(is_late) {
            self.forget(clock.moment).await;
        }
        Ok(turn)
    }

    /// Stores what a turn writes. People see what has come before the disk has it, also where the
    /// same turn decides something that others may depend on.
    async fn keep(
        &mut self,
        writes: Writes,
        (is_soon, binds): (bool, bool),
        now: Moment,
    ) -> Result<(), Error> {
        if !is_soon {
            if !writes.is_empty() || (binds && self.is_behind) {
                self.commit(writes, Durability::Now, now).await?;
            }
            return Ok(());
        }
        if !writes.is_empty() {
            self.commit(writes, Durability::Soon, now).await?;
        }
        if binds && self.is_behind {
            self.tell().await?;
            self.commit(Writes::new(), Durability::Now, now).await?;
        }
        Ok(())
    }

    /// Commits what a turn writes.
    ///
    /// Entries that were pushed are in the log: whatever is lost with a batch that was made of them
    /// is made of them again when they are read again, and events that were told come again under
    /// later numbers. The same holds for notices and for what was read, but a record that somebody
    /// has seen must not be an older one again. So people see a message before the disk has it. But
    /// nothing may have left the device that such a batch decided, so whatever others may come to
    /// depend on waits until all batches before it are durable. So does whoever gave a command.
    async fn commit(
        &mut self,
        writes: Writes,
        durability: Durability,
        now: Moment,
    ) -> Result<(), StoreError> {
        self.store.commit_with(writes, durability, &mut self.rng).await?;
        self.is_behind = durability == Durability::Soon;
        self.full.times = 0;
        if self.full.until.is_some() {
            // There is room again: no more waiting.
            self.full.until = Some(now);
        }
        self.forget_at.get_or_insert_with(|| now.after(FORGET_WITHIN));
        Ok(())
    }

    /// The disk is full: nothing of this turn has happened. The state goes back to what is stored,
    /// and for a while the engine takes no input but calls, most of which it can only refuse.
    async fn refuse(&mut self, effects: Vec<Effect>, clock: Clock) -> Result<Turn, Error> {
        self.reason.tell(StoreError::Full.into());
        self.tell_full();
        let mut turn = Turn::Again;
        for effect in effects {
            match effect {
                Effect::Answer(answer) => answer.refuse(StoreError::Full.into()),
                Effect::Stop(reply) => turn = Turn::Stop(reply),
                _ => {}
            }
        }
        let settings = (self.host.settings(), self.host.origin());
        let mut state = load::state(&self.store, settings, clock).await?;
        state.keep_waiters(&mut self.state);
        self.state = state;
        self.work = UnderWay::new();
        self.ahead.clear();
        let pause = FULL_PAUSE.saturating_mul(1 << self.full.times.min(5));
        self.full.until = Some(clock.moment.after(pause.min(LONGEST_FULL_PAUSE)));
        self.full.times = self.full.times.saturating_add(1);
        Ok(turn)
    }

    /// Tells those who wait for it that the disk is full.
    fn tell_full(&mut self) {
        for reply in core::mem::take(&mut self.state.filling) {
            // Whoever asked may have gone away.
            let _ = reply.send(Ok(()));
        }
    }

    /// Begins anew over what is stored, with the planes that are up.
    fn go_on_after_full(&mut self) {
        self.full.until = None;
        self.ahead.push_back(Input::Start);
        self.ahead.extend(self.planes.iter().map(|(_, push)| Input::Push(push.clone())));
    }

    fn note_planes(&mut self, input: &Input) {
        let Input::Push(push) = input else { return };
        if let Push::Connected { plane, .. } | Push::Disconnected(plane) = push {
            self.planes.retain(|(known, _)| known != plane);
            if matches!(push, Push::Connected { .. }) {
                self.planes.push((*plane, push.clone()));
            }
        }
    }

    /// When the store is to forget what was deleted: that takes as long as several writes, so it
    /// waits a while for a moment in which no answer is expected.
    fn forgets_at(&self) -> Option<Moment> {
        let longest = if self.work.is_empty() { Duration::ZERO } else { LONGEST_BUSY };
        self.forget_at.map(|at| at.after(longest))
    }

    /// Lets the store forget what was deleted, if it is time.
    async fn forget(&mut self, now: Moment) {
        if self.forgets_at().is_some_and(|at| at <= now) {
            self.forget_at = match self.store.forget().await {
                Ok(()) => {
                    self.is_behind = false;
                    None
                }
                Err(_) => Some(now.after(FORGET_AGAIN)),
            };
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        let host = Rc::clone(&self.host);
        match effect {
            Effect::Open(request, call) => self.work.push(Box::pin(async move {
                Input::Open(request, host.transport().open(call).await)
            })),
            Effect::Account(request, session, call) => self.work.push(Box::pin(async move {
                Input::Account(request, host.transport().account(session, call).await)
            })),
            Effect::Slow(request, work) => self.work.push(Box::pin(async move {
                Input::Slow(request, host.run_slow(move || work.run()).await)
            })),
            Effect::WatchInbox(session, after) => host.transport().watch_inbox(session, after),
            Effect::Watch(token, after, running) => host.transport().watch(token, after, running),
            Effect::Unwatch(log) => host.transport().unwatch(log),
            Effect::AskForLife => host.transport().ask_for_life(),
            Effect::Answer(answer) => answer.give(),
            // Taken care of by the turn, which ends.
            Effect::Stop(_) => {}
        }
    }
}
