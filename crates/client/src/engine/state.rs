//! All state of an engine, and the dispatch of its inputs.

use std::collections::BTreeMap;

use corncrake_wire::{AccountReply, ErrorCode, OpenReply, OpenRequest};

use super::{
    Done, Effect, Input, Reply, Starter, Step, Then, account::AccountState, chats::Chats,
    events::EventQueue,
};
use crate::{
    command::Command,
    error::Error,
    event::Connection,
    host::{Moment, Settings},
    transport::{Plane, Push, TransportError},
};

/// All state of an engine. Whatever has to outlive it is written by the step that changes it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) origin: String,
    pub(crate) account: AccountState,
    pub(crate) chats: Chats,
    pub(crate) requests: BTreeMap<u64, Then>,
    pub(crate) next_request: u64,
    pub(crate) events: EventQueue,
    pub(crate) online: Online,
    /// Who waits until nothing is owed.
    settling: Vec<Waiter>,
    /// Who waits until the connection is another.
    pub(crate) watching: Vec<(Connection, Reply<Connection>)>,
    /// Who waits until an attempt to connect has failed.
    pub(crate) failing: Vec<Reply<()>>,
    /// Who waits until the disk is full.
    pub(crate) filling: Vec<Reply<()>>,
    /// Who waits until everything is read.
    reading: Vec<Waiter>,
}

/// Somebody who waits for the newest that there is, and where the server was not heard since: a path
/// that has died without a word looks like a server that has nothing new.
#[derive(Debug)]
struct Waiter {
    reply: Reply<()>,
    unheard: Vec<Plane>,
}

impl Waiter {
    fn new(reply: Reply<()>) -> Self {
        Self { reply, unheard: vec![Plane::Account, Plane::Open] }
    }
}

/// Which planes are up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Online {
    pub(crate) account: bool,
    pub(crate) open: bool,
    /// Whether an attempt has failed since a socket was up.
    pub(crate) failed: bool,
    /// The instance of the server's logs that was seen last.
    pub(crate) instance: Option<[u8; 16]>,
    /// Whether the server said last that its disk is full, when something was to be stored.
    is_full: bool,
}

impl Online {
    /// Learns from an answer whether the server has space.
    fn learn(&mut self, input: &Input) {
        let refusal = match input {
            Input::Open(_, Err(TransportError::Refused(refusal)))
            | Input::Account(_, Err(TransportError::Refused(refusal))) => refusal,
            Input::Open(
                _,
                Ok(OpenReply::Append(_) | OpenReply::Deposit(_) | OpenReply::Claim(_)),
            )
            | Input::Account(_, Ok(AccountReply::UploadPackages(_))) => {
                self.is_full = false;
                return;
            }
            _ => return,
        };
        self.is_full |= refusal.code == ErrorCode::StorageFull;
    }
}

impl State {
    pub(crate) fn new(
        settings: Settings,
        origin: String,
        account: AccountState,
        chats: Chats,
    ) -> Self {
        Self {
            settings,
            origin,
            account,
            chats,
            requests: BTreeMap::new(),
            next_request: 0,
            events: EventQueue::default(),
            online: Online::default(),
            settling: Vec::new(),
            watching: Vec::new(),
            failing: Vec::new(),
            filling: Vec::new(),
            reading: Vec::new(),
        }
    }

    /// Takes one input; everything that follows from it stands in `step`.
    pub(crate) fn step(&mut self, input: Input, step: &mut Step<'_>) {
        self.mend_damaged(step);
        self.online.learn(&input);
        match input {
            Input::Start => {
                self.chats_start(step);
                self.account_start(step);
            }
            Input::Command(command) => self.command(command, step),
            Input::Push(push) => self.pushed(push, step),
            Input::Open(request, result) => match self.requests.remove(&request) {
                Some(Then::Account(then)) => self.account_open_replied(then, result, step),
                Some(Then::Chat(chat, then)) => self.chat_replied(chat, then, result, step),
                Some(Then::Enter(number, then)) => self.enter_replied(number, then, result, step),
                None => {}
            },
            Input::Account(request, result) => {
                if let Some(Then::Account(then)) = self.requests.remove(&request) {
                    self.account_replied(then, result, step);
                }
            }
            Input::Slow(request, Done::Password(done)) => self.account_slow(request, done, step),
            Input::Slow(request, Done::Fold(fold)) => self.fold_begun(request, fold, step),
            Input::Tick => {
                self.account_tick(step);
                self.chats_tick(step);
                self.events_tick(step);
            }
        }
        self.tell(step);
        self.answer_settled(step);
        self.answer_settled_chats(step);
    }

    /// Takes over who waits at an earlier state of the same store for what this one still owes.
    pub(crate) fn keep_waiters(&mut self, earlier: &mut Self) {
        self.events.go_on_from(&mut earlier.events);
        self.settling.append(&mut earlier.settling);
        self.watching.append(&mut earlier.watching);
        self.failing.append(&mut earlier.failing);
        self.online.failed = earlier.online.failed;
        self.reading.append(&mut earlier.reading);
        self.chats.settling.append(&mut earlier.chats.settling);
        for (id, chat) in &mut *self.chats.all {
            let waiters = earlier.chats.all.get_mut(id).map(|chat| &mut chat.session.replies);
            for (number, waiter) in waiters.map(core::mem::take).into_iter().flatten() {
                if chat.intents.iter().any(|(intent, _)| *intent == number) {
                    chat.session.replies.insert(number, waiter);
                }
            }
        }
    }

    /// When the engine wants to be woken at the latest.
    pub(crate) fn wake_at(&self) -> Option<Moment> {
        [self.account_wake_at(), self.chats_wake_at(), self.events.wake_at()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Asks on the open plane; `then` gets the answer.
    pub(crate) fn ask_open(
        &mut self,
        then: Then,
        request: impl Into<OpenRequest>,
        step: &mut Step<'_>,
    ) {
        let number = self.next_request(then);
        step.effects.push(Effect::Open(number, request.into()));
    }

    pub(crate) fn next_request(&mut self, then: Then) -> u64 {
        let number = self.next_request;
        self.next_request += 1;
        self.requests.insert(number, then);
        number
    }

    fn command(&mut self, command: Command, step: &mut Step<'_>) {
        match command {
            Command::NextEvent { taken, heard, reply } => {
                self.events_taken(taken);
                self.events.asked = Some((heard, reply));
            }
            Command::Connection(reply) => step.answer(reply, Ok(self.connection())),
            Command::ConnectionAfter(known, reply) => self.watching.push((known, reply)),
            Command::Unreachable(reply) => self.failing.push(reply),
            Command::StoreFull(reply) => self.filling.push(reply),
            Command::Settle(reply) => {
                self.settling.push(Waiter::new(reply));
                step.effects.push(Effect::AskForLife);
            }
            Command::CaughtUp(reply) => {
                self.reading.push(Waiter::new(reply));
                step.effects.push(Effect::AskForLife);
            }
            Command::Close(reply) => step.effects.push(Effect::Stop(reply)),
            Command::NameOf { account, reply } => step.answer(reply, Ok(self.name_of(&account))),
            Command::Chats(reply) => step.answer(reply, Ok(self.chat_infos())),
            Command::StartChat { names, patience, reply } => {
                self.start_chat((names, patience), Starter::Chat(reply), step);
            }
            Command::CreateGroup { title, names, patience, reply } => {
                let starter = Starter::Group(reply, Vec::new());
                self.create_group(title, (names, patience), starter, step);
            }
            Command::Chat(chat, command) => self.chat_command(chat, command, step),
            other => self.account_command(other, step),
        }
    }

    pub(super) fn connection(&self) -> Connection {
        match (self.online.account, self.online.open) {
            _ if self.is_name_taken() => Connection::NameTaken,
            _ if !self.is_signed_in() || self.still_acts().is_err() => Connection::SignedOut,
            (true, true) => Connection::Online,
            (false, false) => Connection::Offline,
            _ => Connection::Connecting,
        }
    }

    fn pushed(&mut self, push: Push, step: &mut Step<'_>) {
        if let Push::Alive(plane) | Push::Connected { plane, .. } = push {
            let waiters = self.settling.iter_mut().chain(&mut self.reading);
            waiters.for_each(|waiter| waiter.unheard.retain(|unheard| *unheard != plane));
        }
        match push {
            Push::Alive(_) => {}
            Push::Connected { plane: Plane::Open, instance } => {
                (self.online.open, self.online.failed) = (true, false);
                // The account log first: it says where the chats go on.
                self.account_log_connected(step);
                self.chats_connected(step);
                self.instance_seen(instance, step);
            }
            Push::Connected { plane: Plane::Account, instance } => {
                (self.online.account, self.online.failed) = (true, false);
                self.account_connected(instance, step);
            }
            Push::Disconnected(Plane::Open) => {
                self.online.open = false;
                self.chats_disconnected();
            }
            Push::Disconnected(Plane::Account) => self.online.account = false,
            Push::Unreachable(_) => {
                self.online.failed = !self.online.open && !self.online.account;
            }
            Push::Entries { log, entries, head } => {
                if let Some(place) = self.chats.of_log(&log) {
                    self.chat_entries(place, log, entries, head, step);
                } else {
                    self.account_log_entries(log, entries, head, step);
                }
            }
            Push::Running { log, position, running } => {
                if let Some(place) = self.chats.of_log(&log) {
                    self.chat_running(place, log, (position, running), step);
                } else {
                    self.account_log_running(log, position, running, step);
                }
            }
            Push::Differs { log, head } => {
                if let Some(place) = self.chats.of_log(&log) {
                    self.chat_differs(place, log, head, step);
                } else {
                    self.account_log_differs(log, step);
                }
            }
            Push::TakesTurns(log) => self.chat_takes_turns(&log),
            Push::Notices(notices) => self.account_notices(notices, step),
            Push::SessionRefused => self.session_refused(step),
        }
    }

    fn answer_settled(&mut self, step: &mut Step<'_>) {
        let connection = self.connection();
        self.watching.retain(|(_, reply)| !reply.is_closed());
        self.failing.retain(|reply| !reply.is_closed());
        self.filling.retain(|reply| !reply.is_closed());
        for (known, reply) in core::mem::take(&mut self.watching) {
            if known == connection {
                self.watching.push((known, reply));
            } else {
                step.answer(reply, Ok(connection));
            }
        }
        if self.online.failed && connection == Connection::Offline {
            for reply in core::mem::take(&mut self.failing) {
                step.answer(reply, Ok(()));
            }
        }
        // Who has no account hears from no server, and who is signed out not on the account plane.
        let (has_account, is_in) = (self.account.me().is_some(), self.is_signed_in());
        let is_heard = move |waiter: &Waiter| {
            !has_account || waiter.unheard.iter().all(|plane| *plane == Plane::Account && !is_in)
        };
        if self.settling.iter().any(is_heard)
            && !self.account_owes()
            && !self.chats_owe(step.clock())
        {
            for waiter in self.settling.extract_if(.., |waiter| is_heard(waiter)) {
                step.answer(waiter.reply, Ok(()));
            }
        }
        // What a full disk keeps from being stored keeps nobody from reading.
        let is_behind = match self.online.is_full {
            true => self.account_is_unread(),
            false => self.account_owes(),
        };
        if self.reading.iter().any(is_heard) && !is_behind && self.chats_are_read() {
            for waiter in self.reading.extract_if(.., |waiter| is_heard(waiter)) {
                step.answer(waiter.reply, Ok(()));
            }
        }
    }
}

/// The one error of a command that needs an account when there is none.
pub(crate) const NO_ACCOUNT: Error = Error::Refused(crate::error::Refusal::NoAccount);
