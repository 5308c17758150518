//! One turn of the engine: an input comes in, a batch and effects go out.

use corncrake_core::id::ConversationId;
use corncrake_wire::{
    AccessToken, AccountReply, AccountRequest, LogId, OpenReply, OpenRequest, SessionToken,
};
use rand_chacha::ChaCha20Rng;
use serde::Serialize;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{
    account::{AccountThen, SlowDone, SlowWork},
    chats::ChatThen,
    tables::{self, Table},
};
use crate::{
    command::Command,
    error::Error,
    event::{Event, EventKind},
    host::Timestamp,
    transport::{Push, TransportError},
};

/// What can happen to an engine.
#[derive(Debug)]
pub(crate) enum Input {
    /// The store has been read; the first input.
    Start,
    /// The app asks for something.
    Command(Command),
    /// The server says something.
    Push(Push),
    /// An open-plane request has its answer.
    Open(u64, Result<OpenReply, TransportError>),
    /// An account-plane request has its answer.
    Account(u64, Result<AccountReply, TransportError>),
    /// Work off the engine's thread is done.
    Slow(u64, SlowDone),
    /// The clock reached the moment the engine waited for.
    Tick,
}

/// What an engine asks of its host after the batch is stored.
#[derive(Debug)]
pub(crate) enum Effect {
    Open(u64, OpenRequest),
    Account(u64, Option<SessionToken>, AccountRequest),
    Slow(u64, SlowWork),
    WatchInbox(SessionToken, u64),
    Watch(AccessToken, u64),
    Unwatch(LogId),
    /// Events to hand to the app.
    Events(Vec<Event>),
    /// Answers to commands.
    Answer(Answer),
    /// Ends the engine after the batch.
    Stop,
}

/// A prepared answer to a command; it goes out after the batch.
pub(crate) struct Answer(Box<dyn FnOnce()>);

impl Answer {
    pub(crate) fn give(self) {
        (self.0)();
    }
}

impl core::fmt::Debug for Answer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Answer(..)")
    }
}

/// Where the answer to a command goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What to do with the answer to a request.
#[derive(Debug)]
pub(crate) enum Then {
    Account(AccountThen),
    Chat(ConversationId, ChatThen),
}

/// One row to write, or to delete where there is no value.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) table: Table,
    pub(crate) name: Vec<u8>,
    pub(crate) index: u64,
    pub(crate) value: Option<Zeroizing<Vec<u8>>>,
}

/// What a turn has collected so far.
pub(crate) struct Step<'a> {
    pub(crate) now: Timestamp,
    pub(crate) rng: &'a mut ChaCha20Rng,
    pub(crate) writes: Vec<Write>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) events: Vec<EventKind>,
}

impl<'a> Step<'a> {
    pub(crate) fn new(now: Timestamp, rng: &'a mut ChaCha20Rng) -> Self {
        Self { now, rng, writes: Vec::new(), effects: Vec::new(), events: Vec::new() }
    }

    /// Writes a record.
    pub(crate) fn put<T: Serialize>(&mut self, table: Table, name: &[u8], index: u64, record: &T) {
        self.put_bytes(table, name, index, tables::encode(record));
    }

    /// Writes bytes that carry a version of their own.
    pub(crate) fn put_bytes(
        &mut self,
        table: Table,
        name: &[u8],
        index: u64,
        value: Zeroizing<Vec<u8>>,
    ) {
        self.writes.push(Write { table, name: name.to_vec(), index, value: Some(value) });
    }

    /// Deletes a record.
    pub(crate) fn delete(&mut self, table: Table, name: &[u8], index: u64) {
        self.writes.push(Write { table, name: name.to_vec(), index, value: None });
    }

    /// Tells the app something, after the batch.
    pub(crate) fn event(&mut self, what: EventKind) {
        self.events.push(what);
    }

    /// Answers a command, after the batch.
    pub(crate) fn answer<T: 'static>(&mut self, reply: Reply<T>, result: Result<T, Error>) {
        let answer = Answer(Box::new(move || {
            // Whoever asked may have gone away; nobody else waits for it.
            let _ = reply.send(result);
        }));
        self.effects.push(Effect::Answer(answer));
    }
}
