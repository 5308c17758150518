//! Drives the account's side of one device step by step, with crashes and lost answers.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use corncrake_core::{derive::Key32, seal::local::StoreKey};
use corncrake_wire::{LogId, SessionToken, opaque::Stretch};
use futures_util::FutureExt;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::server::{ORIGIN, Server};
use crate::{
    command::Command,
    engine::{Effect, Input, Reply, State, Step, load},
    error::Error,
    host::{Clock, Moment, Settings, Timestamp},
    store::{MemoryStore, SealedStore, StoreError},
    transport::{Plane, Push, TransportError},
};

/// What goes wrong with the request of a number, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// The device dies before the request reaches the server.
    CrashBefore(usize),
    /// The device dies before it hears the answer.
    CrashAfter(usize),
    /// The request does not reach the server.
    LoseRequest(usize),
    /// The answer is lost.
    LoseAnswer(usize),
    /// No request reaches the server.
    Cut,
}

pub(super) struct Device {
    store: &'static MemoryStore,
    sealed: SealedStore<'static, MemoryStore>,
    pub(super) state: State,
    rng: ChaCha20Rng,
    pub(super) now: Timestamp,
    pub(super) server: Rc<RefCell<Server>>,
    inputs: VecDeque<Input>,
    inbox: Option<(SessionToken, u64)>,
    watches: BTreeMap<LogId, u64>,
    pub(super) watched_from: Vec<u64>,
    pub(super) requests: usize,
    pub(super) fault: Fault,
    pub(super) is_dead: bool,
}

fn settings() -> Settings {
    let stretch = Stretch::with(|input, output| output.copy_from_slice(input));
    Settings { key_packages: 3, stretch, chats_in_memory: 64 }
}

const fn clock(now: Timestamp) -> Clock {
    Clock { now, moment: Moment(now.0) }
}

impl Device {
    pub(super) fn new(seed: u8, server: &Rc<RefCell<Server>>) -> Self {
        let key = StoreKey::new(&Key32::from_bytes([seed; 32]));
        let store = Box::leak(Box::new(MemoryStore::new(key)));
        Self::open(store, seed, server, Timestamp(1_000_000_000))
    }

    fn open(
        store: &'static MemoryStore,
        seed: u8,
        server: &Rc<RefCell<Server>>,
        now: Timestamp,
    ) -> Self {
        let mut rng = ChaCha20Rng::from_seed([seed; 32]);
        let sealed = SealedStore::open(store, &mut rng).now_or_never().unwrap().unwrap();
        let state = load::state(&sealed, (&settings(), ORIGIN), clock(now))
            .now_or_never()
            .unwrap()
            .unwrap();
        let mut device = Self {
            store,
            sealed,
            state,
            rng,
            now,
            server: Rc::clone(server),
            inputs: VecDeque::new(),
            inbox: None,
            watches: BTreeMap::new(),
            watched_from: Vec::new(),
            requests: 0,
            fault: Fault::None,
            is_dead: false,
        };
        device.take(Input::Start);
        device
    }

    /// Whether the store opens for a server of this origin.
    pub(super) fn opens_at(&self, origin: &str) -> Result<(), StoreError> {
        let settings = settings();
        let state = load::state(&self.sealed, (&settings, origin), clock(self.now));
        state.now_or_never().unwrap().map(|_| ())
    }

    /// The same store, opened anew.
    pub(super) fn reopen(self, seed: u8) -> Self {
        let mut device = Self::open(self.store, seed, &self.server, self.now);
        device.run();
        device
    }

    pub(super) fn sign_up(&mut self, name: &str, password: &str) -> Option<Result<(), Error>> {
        let (name, password) = (name.to_owned(), Zeroizing::new(password.to_owned()));
        self.ask(|reply| Command::SignUp { name, password, reply })
    }

    pub(super) fn log_in(&mut self, name: &str, password: &str) -> Option<Result<(), Error>> {
        let (name, password) = (name.to_owned(), Zeroizing::new(password.to_owned()));
        self.ask(|reply| Command::LogIn { name, password, drop: None, reply })
    }

    /// Gives a command and runs until nothing moves; nothing if the device died meanwhile.
    pub(super) fn ask<T>(
        &mut self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Option<Result<T, Error>> {
        let (reply, mut answer) = oneshot::channel();
        self.take(Input::Command(command(reply)));
        self.run();
        answer.try_recv().ok()
    }

    /// Asks the state itself and runs until nothing moves.
    pub(super) fn ask_with<T>(
        &mut self,
        act: impl FnOnce(&mut State, Reply<T>, &mut Step<'_>),
    ) -> Option<Result<T, Error>> {
        let (reply, mut answer) = oneshot::channel();
        self.with(|state, step| act(state, reply, step));
        self.run();
        answer.try_recv().ok()
    }

    /// Does something to the state, as a step does.
    pub(super) fn with(&mut self, act: impl FnOnce(&mut State, &mut Step<'_>)) {
        let mut step = Step::new(clock(self.now), &mut self.rng);
        act(&mut self.state, &mut step);
        let (writes, effects) = step.finish();
        self.sealed.commit(writes, &mut self.rng).now_or_never().unwrap().unwrap();
        self.state.tell_waiting();
        for effect in effects {
            self.carry_out(effect);
        }
    }

    pub(super) fn take(&mut self, input: Input) {
        if !self.is_dead {
            if self.state.events.is_needed(&input) {
                let waiting = load::waiting_events(&self.sealed, &mut self.state.events);
                waiting.now_or_never().unwrap().unwrap();
            }
            self.with(|state, step| state.step(input, step));
        }
    }

    /// Runs until nothing is owed and nothing moves; pauses take no time.
    pub(super) fn run(&mut self) {
        self.run_for(3_600_000);
    }

    /// Runs until nothing moves, or for so many milliseconds.
    pub(super) fn run_for(&mut self, millis: u64) {
        let end = self.now.0 + millis;
        for _ in 0..500 {
            self.push();
            if let Some(input) = self.inputs.pop_front() {
                self.take(input);
            } else if let Some(at) = self.state.account_wake_at()
                && at.0 < end
            {
                self.now = self.now.max(Timestamp(at.0));
                self.take(Input::Tick);
            } else {
                return;
            }
            if self.is_dead {
                return;
            }
        }
        panic!("it never rests");
    }

    pub(super) fn advance(&mut self, millis: u64) {
        self.now = Timestamp(self.now.0 + millis);
        self.take(Input::Tick);
        self.run();
    }

    /// What the server pushes to who watches.
    fn push(&mut self) {
        let server = self.server.borrow();
        if let Some((session, after)) = &mut self.inbox {
            match server.device_of(session) {
                Some(device) => {
                    let new = device.notices.iter().filter(|notice| notice.position > *after);
                    let new: Vec<_> = new.cloned().collect();
                    if let Some(last) = new.last() {
                        *after = last.position;
                        self.inputs.push_back(Input::Push(Push::Notices(new)));
                    }
                }
                None => {
                    self.inbox = None;
                    self.inputs.push_back(Input::Push(Push::SessionRefused));
                }
            }
        }
        for (&log, after) in &mut self.watches {
            let entries = server.logs.get(&log).map(Vec::as_slice).unwrap_or_default();
            let head = entries.len() as u64;
            if *after < head {
                let entries = entries[usize::try_from(*after).unwrap()..].to_vec();
                *after = head;
                self.inputs.push_back(Input::Push(Push::Entries { log, entries, head }));
            }
        }
    }

    pub(super) fn connect(&mut self, plane: Plane) {
        self.take(Input::Push(Push::Connected { plane, instance: [0; 16] }));
        self.run();
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Account(number, session, request) => {
                let now = self.now.0 / 1000;
                let answer = self.exchange(|server| server.account(now, session.as_ref(), request));
                self.inputs.extend(answer.map(|answer| Input::Account(number, answer)));
            }
            Effect::Open(number, request) => {
                let answer = self.exchange(|server| server.open(request));
                self.inputs.extend(answer.map(|answer| Input::Open(number, answer)));
            }
            Effect::Slow(number, work) => self.inputs.push_back(Input::Slow(number, work.run())),
            Effect::WatchInbox(session, after) => {
                self.inbox = Some((session, after));
            }
            Effect::Watch(token, after, _) => {
                let log = token.log_id();
                let head = self.server.borrow().logs.get(&log).map_or(0, Vec::len) as u64;
                self.watches.insert(log, after);
                self.watched_from.push(after);
                if head <= after {
                    let entries = Vec::new();
                    self.inputs.push_back(Input::Push(Push::Entries { log, entries, head }));
                }
            }
            Effect::Answer(answer) => {
                if !self.is_dead {
                    answer.give();
                }
            }
            Effect::AskForLife => {
                let signs = [Plane::Account, Plane::Open].map(Push::Alive);
                self.inputs.extend(signs.map(Input::Push));
            }
            Effect::Unwatch(_) | Effect::Stop(_) => {}
        }
    }

    fn exchange<T>(
        &mut self,
        carry_out: impl FnOnce(&mut Server) -> Result<T, corncrake_wire::Refusal>,
    ) -> Option<Result<T, TransportError>> {
        let number = self.requests;
        self.requests += 1;
        if self.is_dead || self.fault == Fault::CrashBefore(number) {
            self.is_dead = true;
            return None;
        }
        if self.fault == Fault::LoseRequest(number) || self.fault == Fault::Cut {
            return Some(Err(TransportError::Unreachable));
        }
        let answer = carry_out(&mut self.server.borrow_mut());
        if self.fault == Fault::CrashAfter(number) {
            self.is_dead = true;
            return None;
        }
        if self.fault == Fault::LoseAnswer(number) {
            return Some(Err(TransportError::Unreachable));
        }
        Some(answer.map_err(TransportError::Refused))
    }
}
