//! How the engine reaches a server: requests on two planes, and what the server pushes.
//!
//! The account plane carries a session and only one's own things; the open plane carries everything
//! that concerns others and never a session. An implementation keeps separate connections for the
//! two, so that the server cannot join them by connection.

use corncrake_wire::{
    AccessToken, AccountReply, AccountRequest, LogId, OpenReply, OpenRequest, Refusal,
    SessionToken, account::Notice, log::LogEntry,
};

#[cfg(not(target_arch = "wasm32"))]
pub mod http;

/// One of the two planes of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plane {
    /// One's own things; requests carry the session.
    Account,
    /// What concerns others; requests carry no session.
    Open,
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// The server was not reached, or the answer was lost: the request may have been carried out.
    Unreachable,
    /// The server refused; nothing was stored.
    Refused(Refusal),
    /// The answer does not have the form of an answer.
    Malformed,
}

/// What a server says without being asked at that moment.
#[derive(Clone, Debug)]
pub enum Push {
    /// A plane's socket is up; every log (or the inbox) has to be watched again.
    Connected {
        /// Which plane's.
        plane: Plane,
        /// Names the server's database; a new one may have lost its newest entries.
        instance: [u8; 16],
    },
    /// A plane's socket went down; the transport tries again by itself.
    Disconnected(Plane),
    /// An attempt to bring a plane's socket up has failed: the server refused it or was not found.
    /// The transport tries again by itself; of an attempt that is still under way nothing is said.
    Unreachable(Plane),
    /// The answer to [`Transport::ask_for_life`]: the plane's server is there, and all that it said
    /// before has been pushed.
    Alive(Plane),
    /// Entries of a watched log, in order, and the position of its newest entry.
    Entries {
        /// The log they stand in.
        log: LogId,
        /// Contiguous entries; none if the frame only tells the head.
        entries: Vec<LogEntry>,
        /// Position of the newest entry of the log, 0 for a log that does not exist yet.
        head: u64,
    },
    /// The running hash of a watched log, where the engine did not know it.
    Running {
        /// The log.
        log: LogId,
        /// The position from which the log is watched.
        position: u64,
        /// The running hash up to there.
        running: [u8; 32],
    },
    /// A watched log isn't the one that was read: the server has lost entries. It is no longer
    /// watched.
    Differs {
        /// The log.
        log: LogId,
        /// Position of its newest entry, 0 for a log that does not exist.
        head: u64,
    },
    /// More logs are watched than the server follows: this one is followed from time to time only,
    /// and at once when it is watched anew.
    TakesTurns(LogId),
    /// Letters in the own inbox, in order.
    Notices(Vec<Notice>),
    /// The account plane's socket refused the session: it has to be renewed.
    SessionRefused,
}

/// A connection to one server.
///
/// Futures need not be `Send`. Dropping a request's future gives the request up; whether the
/// server carried it out is then unknown.
#[expect(async_fn_in_trait, reason = "the engine drives these futures on one thread")]
pub trait Transport: 'static {
    /// Performs a request on the account plane.
    ///
    /// # Errors
    /// See [`TransportError`].
    async fn account(
        &self,
        session: Option<SessionToken>,
        request: AccountRequest,
    ) -> Result<AccountReply, TransportError>;

    /// Performs a request on the open plane.
    ///
    /// # Errors
    /// See [`TransportError`].
    async fn open(&self, request: OpenRequest) -> Result<OpenReply, TransportError>;

    /// Keeps the account plane's socket up with this session: notices after position `after` are
    /// pushed, then what comes.
    fn watch_inbox(&self, session: SessionToken, after: u64);

    /// Watches a log: everything after position `after` is pushed, then what comes. Replaces an
    /// earlier watch of the same log. `running` is the [running](corncrake_wire::log::running)
    /// hash up to `after`, if it is known.
    fn watch(&self, token: AccessToken, after: u64, running: Option<[u8; 32]>);

    /// Stops watching a log.
    fn unwatch(&self, log: LogId);

    /// Asks for a sign of life on each plane whose socket is up: [`Push::Alive`] follows when it has
    /// come, and at once where something has come within the last seconds. A path that has died
    /// without a word gives none, and its socket goes down.
    fn ask_for_life(&self);

    /// Waits for the next push. Cancel-safe: a push is lost only with the transport itself.
    async fn next(&self) -> Push;
}
