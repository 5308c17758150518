//! One turn of the engine: an input comes in, a batch and effects go out.

use std::collections::BTreeMap;

use corncrake_core::{conversation::Conversation, id::ConversationId};
use corncrake_wire::{
    AccessToken, AccountReply, AccountRequest, LogId, OpenReply, OpenRequest, SessionToken,
};
use rand_chacha::ChaCha20Rng;
use serde::Serialize;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{
    account::{AccountThen, SlowDone, SlowWork},
    chats::{
        ChatThen,
        enter::{EnterThen, fold::FoldWork},
    },
    tables::{self, Table},
};
use crate::{
    command::Command,
    error::Error,
    event::EventKind,
    host::{Clock, Moment, Timestamp},
    store::Writes,
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
    Slow(u64, Done),
    /// The clock reached the moment the engine waited for.
    Tick,
}

impl Input {
    /// Whether it comes again if all that was made of it is lost: entries are in the log, a notice
    /// in the inbox until it is deleted there, and what was only read can be read again.
    pub(crate) const fn comes_again(&self) -> bool {
        match self {
            Self::Push(push) => matches!(push, Push::Entries { .. } | Push::Notices(_)),
            Self::Open(_, Ok(reply)) => matches!(
                reply,
                OpenReply::Read(_)
                    | OpenReply::Beside(_)
                    | OpenReply::States(_)
                    | OpenReply::LookUp(_)
            ),
            Self::Slow(_, done) => matches!(done, Done::Fold(_)),
            _ => false,
        }
    }

    /// Whether it is an account's record.
    pub(crate) const fn is_record(&self) -> bool {
        matches!(self, Self::Open(_, Ok(OpenReply::LookUp(_))))
    }
}

/// What an engine asks of its host after the batch is stored.
#[derive(Debug)]
pub(crate) enum Effect {
    Open(u64, OpenRequest),
    Account(u64, Option<SessionToken>, AccountRequest),
    Slow(u64, Work),
    WatchInbox(SessionToken, u64),
    /// Follows a log from a position on; the running hash up to there, if it is known.
    Watch(AccessToken, u64, Option<[u8; 32]>),
    Unwatch(LogId),
    /// Asks for a sign of life on both planes.
    AskForLife,
    /// An answer to a command.
    Answer(Answer),
    /// Ends the engine after the batch; the answer comes last.
    Stop(Reply<()>),
}

impl Effect {
    /// Whether others may come to depend on what was decided so far. Questions don't: whatever is
    /// asked can be asked again.
    pub(crate) const fn binds(&self) -> bool {
        match self {
            Self::Open(_, request) => {
                matches!(request, OpenRequest::Append(_) | OpenRequest::Deposit(_))
            }
            Self::Account(..) => true,
            _ => false,
        }
    }
}

/// Work that takes long; the host carries it out off the engine's thread if it can.
#[derive(Debug)]
pub(crate) enum Work {
    Password(SlowWork),
    Fold(FoldWork),
}

/// What the work gave.
#[derive(Debug)]
pub(crate) enum Done {
    Password(SlowDone),
    Fold(Option<Box<Conversation>>),
}

impl Work {
    pub(crate) fn run(self) -> Done {
        match self {
            Self::Password(work) => Done::Password(work.run()),
            Self::Fold(work) => Done::Fold(work.run()),
        }
    }
}

/// A prepared answer to a command; it goes out after the batch.
pub(crate) struct Answer(Box<dyn FnOnce(Option<Error>)>);

impl Answer {
    pub(crate) fn give(self) {
        (self.0)(None);
    }

    /// The batch was not stored: answers with the reason instead.
    pub(crate) fn refuse(self, error: Error) {
        (self.0)(Some(error));
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
    Enter(u64, EnterThen),
}

/// A row by its table, id and index.
type Row = (Table, Vec<u8>, u64);

/// What a turn has collected so far.
pub(crate) struct Step<'a> {
    /// The time of day: what is shown and stored.
    pub(crate) now: Timestamp,
    /// The moment on the clock that is never set: what waits are counted from.
    pub(crate) moment: Moment,
    pub(crate) rng: &'a mut ChaCha20Rng,
    pub(crate) effects: Vec<Effect>,
    pub(crate) events: Vec<EventKind>,
    rows: BTreeMap<Row, Option<Zeroizing<Vec<u8>>>>,
    erased: Vec<(Table, Vec<u8>)>,
}

impl<'a> Step<'a> {
    pub(crate) fn new(clock: Clock, rng: &'a mut ChaCha20Rng) -> Self {
        Self {
            now: clock.now,
            moment: clock.moment,
            rng,
            effects: Vec::new(),
            events: Vec::new(),
            rows: BTreeMap::new(),
            erased: Vec::new(),
        }
    }

    /// Both clocks.
    pub(crate) const fn clock(&self) -> Clock {
        Clock { now: self.now, moment: self.moment }
    }

    /// Writes a record; a later line about the same row overrules this one.
    pub(crate) fn put<T: Serialize>(&mut self, table: Table, id: &[u8], index: u64, record: &T) {
        self.put_bytes(table, id, index, tables::encode(record));
    }

    /// Writes bytes that carry a version of their own.
    pub(crate) fn put_bytes(
        &mut self,
        table: Table,
        id: &[u8],
        index: u64,
        value: Zeroizing<Vec<u8>>,
    ) {
        self.rows.insert((table, id.to_vec(), index), Some(value));
    }

    /// Deletes a record.
    pub(crate) fn delete(&mut self, table: Table, id: &[u8], index: u64) {
        self.rows.insert((table, id.to_vec(), index), None);
    }

    /// Deletes every record of an id that stood there before this turn or was written in it.
    pub(crate) fn delete_all(&mut self, table: Table, id: &[u8]) {
        self.rows.retain(|(of, name, _), _| *of != table || name != id);
        self.erased.push((table, id.to_vec()));
    }

    /// Whether anything is to be committed.
    pub(crate) fn writes(&self) -> bool {
        !self.rows.is_empty() || !self.erased.is_empty()
    }

    /// Whether the engine ends after this turn.
    pub(crate) fn ends(&self) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::Stop(_)))
    }

    /// Tells the app something, after the batch.
    pub(crate) fn event(&mut self, what: EventKind) {
        self.events.push(what);
    }

    /// Answers a command, after the batch.
    pub(crate) fn answer<T: 'static>(&mut self, reply: Reply<T>, result: Result<T, Error>) {
        let answer = Answer(Box::new(move |refused| {
            // Whoever asked may have gone away; nobody else waits for it.
            let _ = reply.send(refused.map_or(result, Err));
        }));
        self.effects.push(Effect::Answer(answer));
    }

    /// The batch and the effects.
    pub(crate) fn finish(self) -> (Writes, Vec<Effect>) {
        let mut writes = Writes::new();
        for (table, id) in self.erased {
            writes.delete_all(table.into(), &id);
        }
        for ((table, id, index), value) in self.rows {
            match value {
                Some(mut value) => {
                    writes.put(table.into(), &id, index, core::mem::take(&mut *value));
                }
                None => writes.delete(table.into(), &id, index),
            }
        }
        (writes, self.effects)
    }
}
