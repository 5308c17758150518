//! The one actor that owns all state.
//!
//! Its loop takes an input (a command, a push, an answer, the clock), loads what the input needs,
//! calls the synchronous [`State::step`], commits the batch and only then carries out the effects:
//! whatever leaves the device or reaches the app is stored before. Nothing else in the crate
//! touches the store, the network or the clock.

use core::{future::Future, pin::Pin};
use std::rc::Rc;

use corncrake_core::id::ConversationId;
use futures_util::{StreamExt, stream::FuturesUnordered};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use tokio::sync::mpsc;

use self::tables::Table;
use crate::{
    command::{ChatCommand, Command},
    error::{Error, Refusal},
    event::Item,
    host::Host,
    store::{Order, SealedStore},
    transport::Transport,
};

pub(crate) mod account;
pub(crate) mod chats;
mod load;
mod state;
mod step;
mod tables;

pub(crate) use chats::{ClaimThen, GatherThen};
pub(crate) use state::State;
pub(crate) use step::{Done, Effect, Input, Reply, Step, Then, Work};

/// Requests under way; each ends in an input.
type UnderWay = FuturesUnordered<Pin<Box<dyn Future<Output = Input>>>>;

struct Engine<'a, H: Host> {
    host: Rc<H>,
    store: SealedStore<'a, H::Store>,
    state: State,
    rng: ChaCha20Rng,
    work: UnderWay,
}

/// Runs an engine until it is closed, its store fails, or all its handles are gone.
pub(crate) async fn run<H: Host>(
    host: H,
    mut commands: mpsc::UnboundedReceiver<Command>,
) -> Result<(), Error> {
    let host = Rc::new(host);
    let mut seed = [0; 32];
    host.random().fill_bytes(&mut seed);
    let mut rng = ChaCha20Rng::from_seed(seed);
    let opened = Rc::clone(&host);
    let store = SealedStore::open(opened.store(), &mut rng).await?;
    let state = load::state(&store, host.settings(), host.origin()).await?;
    let mut engine = Engine { host, store, state, rng, work: UnderWay::new() };
    let mut input = Input::Start;
    loop {
        if engine.turn(input).await? == Turn::Stop {
            return Ok(());
        }
        input = match engine.wait(&mut commands).await {
            Some(input) => input,
            None => return Ok(()),
        };
    }
}

/// Whether the engine goes on after a turn.
#[derive(PartialEq, Eq)]
enum Turn {
    Again,
    Stop,
}

impl<H: Host> Engine<'_, H> {
    async fn wait(&mut self, commands: &mut mpsc::UnboundedReceiver<Command>) -> Option<Input> {
        let host = Rc::clone(&self.host);
        let wake = self.state.wake_at();
        let alarm = async {
            match wake {
                Some(at) => host.sleep_until(at).await,
                None => core::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(input) = self.work.next(), if !self.work.is_empty() => Some(input),
            push = host.transport().next() => Some(Input::Push(push)),
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
        let now = self.host.now();
        for id in self.state.chats_to_load(&input, now) {
            if let Some(chat) = self.state.chats.all.get_mut(&id) {
                load::group(&self.store, chat).await?;
            }
        }
        let mut step = Step::new(now, &mut self.rng);
        self.state.step(input, &mut step);
        let (writes, effects) = step.finish();
        if !writes.is_empty() {
            self.store.commit(writes, &mut self.rng).await?;
        }
        let mut turn = Turn::Again;
        for effect in effects {
            if matches!(effect, Effect::Stop) {
                turn = Turn::Stop;
            }
            self.carry_out(effect);
        }
        self.state.chats.let_rest(self.state.settings.chats_in_memory);
        Ok(turn)
    }

    /// A page of a timeline, straight from the store.
    async fn history(
        &self,
        id: ConversationId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Item>, Error> {
        let chat = self.state.chats.all.get(&id).ok_or(Refusal::UnknownChat)?;
        let end = before.unwrap_or(u64::MAX).min(chat.row.next_item);
        let mut items = Vec::new();
        if let Some(last) = end.checked_sub(1) {
            let table = (Table::Timeline.into(), id.as_bytes().as_slice());
            let rows = self.store.range(table, 0..=last, Order::Descending, limit).await?;
            for (_, bytes) in rows.into_iter().rev() {
                items.push(tables::decode::<Item>(&bytes)?);
            }
        }
        if let (None, Some(me)) = (before, self.state.account.me()) {
            items.extend(chat.queued_items(me.account, self.host.now()));
        }
        Ok(items)
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
            Effect::Watch(token, after) => host.transport().watch(token, after),
            Effect::Unwatch(log) => host.transport().unwatch(log),
            Effect::Answer(answer) => answer.give(),
            Effect::Stop => {}
        }
    }
}
