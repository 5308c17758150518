//! The transport of native programs: HTTP requests and one WebSocket for each plane.
//!
//! Appends travel over the open plane's socket, in order with what it pushes and without a
//! connection of their own; only an append that would hold the socket up for long, or one that is
//! made while the socket is down, goes as a request.
//!
//! The two planes share nothing that a server could join them by: each has its own connections,
//! its own TLS sessions and its own socket. Sockets that break, or fall silent, are opened again
//! after a random wait that doubles at each try, until a connection has held for a minute; a
//! request that succeeds ends the wait.
//!
//! A path that has died without a word is noticed by its silence: after 15 s, or as soon as an answer
//! is late, the server is asked for a sign of life, and given some seconds for it: more on a path that
//! needed more, or while something large is under way.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use corncrake_wire::frames::Versions;
use corncrake_wire::limits::{APPEND_BODY, PAGE_BYTES};
use corncrake_wire::log::{Append, AppendReply};
use corncrake_wire::{
    ACCOUNT_SOCKET, AccessToken, AccountReply, AccountRequest, CONTENT_TYPE, ErrorCode, INFO_PATH,
    LogId, OPEN_SOCKET, OpenReply, OpenRequest, Refusal, SESSION_HEADER, SessionToken,
};
use reqwest::header::{CONTENT_TYPE as CONTENT_TYPE_HEADER, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response};
use serde::Deserialize;
use tokio::sync::{Mutex, Notify, OnceCell, mpsc, oneshot};
use tokio::task::JoinSet;
use url::{Host, Url};

use super::{Push, Transport, TransportError};

mod account_socket;
mod follows;
mod heard;
mod line;
mod open_socket;
mod reach;

use reach::{LARGE, Load, Reach};

/// The longest reply: what lies beside an entry, or a page.
const MAX_REPLY: usize = APPEND_BODY + PAGE_BYTES;
/// The longest append that goes over the socket. What is longer would delay the heartbeat on a
/// slow line, so that the socket would be given up and the append sent again, for ever.
const SOCKET_APPEND: usize = 256 * 1024;
/// Pushes that wait for the engine; behind them the server waits.
const PUSHES: usize = 64;

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
struct Pace {
    connect: Duration,
    silence_before_ping: Duration,
    /// How long an answer may take before the server is asked for a sign of life.
    late: Duration,
    /// How long a sign of life may take on a path that isn't known to be slower.
    patience: Duration,
    /// And on any path.
    silence_before_end: Duration,
    first_retry: Duration,
    /// The longest pause between tries while an outage is short, and how long that is: people
    /// expect to be online within a few seconds after a server has come back.
    soon_retry: Duration,
    short_outage: Duration,
    /// The longest pause after that.
    last_retry: Duration,
    /// How long logs are followed that take turns.
    turn: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            silence_before_ping: Duration::from_secs(15),
            late: Duration::from_secs(2),
            patience: Duration::from_secs(5),
            silence_before_end: Duration::from_secs(corncrake_wire::limits::CLOSE_AFTER),
            first_retry: Duration::from_secs(1),
            soon_retry: Duration::from_secs(5),
            short_outage: Duration::from_mins(10),
            last_retry: Duration::from_secs(30),
            turn: Duration::from_secs(5),
        }
    }
}

/// A server reached over HTTP.
///
/// It is made inside a tokio runtime, on which its sockets live until it is dropped. The open
/// plane's socket is kept up from the start, the account plane's from the first
/// [`watch_inbox`](Transport::watch_inbox) on.
#[derive(Debug)]
pub struct HttpTransport {
    server: Arc<Server>,
    to_account: mpsc::UnboundedSender<account_socket::Watch>,
    to_open: mpsc::UnboundedSender<open_socket::Order>,
    pushes: Mutex<mpsc::Receiver<Push>>,
    _sockets: JoinSet<()>,
}

/// Where the two planes are, and how to reach them.
#[derive(Debug)]
struct Server {
    account: Reach,
    open: Reach,
    base: Url,
    open_base: OnceCell<Url>,
    /// Whether the open plane's socket takes appends.
    open_is_up: AtomicBool,
    /// Large requests and answers under way.
    loads: AtomicUsize,
    /// Told when the server has answered: whoever waits to reconnect tries at once.
    reached: Notify,
    pace: Pace,
}

/// What the server says about itself, as far as it matters here.
#[derive(Deserialize)]
struct Info {
    open_url: Option<String>,
    versions: Option<Versions>,
}

/// The body of a refusal (RFC 9457).
#[derive(Deserialize)]
struct Problem {
    code: String,
    number: Option<u16>,
    retry_after: Option<u32>,
}

impl HttpTransport {
    /// A transport to the server whose account plane has the base URL `server`. Nothing is said
    /// before the first request or the runtime's next turn, so this works offline.
    ///
    /// # Errors
    /// [`TransportError::Malformed`] if `server` is no HTTP URL, [`TransportError::Unreachable`]
    /// if this machine lacks what TLS needs.
    pub fn new(server: &str) -> Result<Self, TransportError> {
        Self::with_pace(server, Pace::default())
    }

    fn with_pace(server: &str, pace: Pace) -> Result<Self, TransportError> {
        let base = base_url(server)?;
        let server = Arc::new(Server {
            account: Reach::new(&base, pace)?,
            open: Reach::new(&base, pace)?,
            base,
            open_base: OnceCell::new(),
            open_is_up: AtomicBool::new(false),
            loads: AtomicUsize::new(0),
            reached: Notify::new(),
            pace,
        });
        let (to_account, watches) = mpsc::unbounded_channel();
        let (to_open, orders) = mpsc::unbounded_channel();
        let (push, pushes) = mpsc::channel(PUSHES);
        let mut sockets = JoinSet::new();
        sockets.spawn(account_socket::keep_up(Arc::clone(&server), watches, push.clone()));
        sockets.spawn(open_socket::keep_up(Arc::clone(&server), orders, push));
        Ok(Self { server, to_account, to_open, pushes: Mutex::new(pushes), _sockets: sockets })
    }
}

impl HttpTransport {
    /// Appends over the open plane's socket.
    async fn append(&self, append: Append) -> Result<AppendReply, TransportError> {
        let (answer, answered) = oneshot::channel();
        let _ = self.to_open.send(open_socket::Order::Append { append, answer });
        // The answer is dropped with the socket: then nobody knows what the server has done.
        match answered.await.map_err(|_| TransportError::Unreachable)? {
            Ok(reply) => Ok(reply),
            Err(refusal) => Err(in_doubt(TransportError::Refused(refusal))),
        }
    }
}

impl Transport for HttpTransport {
    async fn account(
        &self,
        session: Option<SessionToken>,
        request: AccountRequest,
    ) -> Result<AccountReply, TransportError> {
        // Whether the server speaks a version of ours is asked once.
        self.server.open_base().await?;
        let url = join(&self.server.base, request.path());
        let body = request.encode();
        let length = body.len();
        let mut post = self.server.account.client().post(url).body(body);
        if let Some(session) = session {
            let mut value = HeaderValue::from_str(&session.to_header())
                .map_err(|_| TransportError::Malformed)?;
            value.set_sensitive(true);
            post = post.header(SESSION_HEADER, value);
        }
        let posted = self.server.post(&self.server.account, post, length).await;
        let body = match request {
            // Nothing comes of these without the next step, and somebody waits for the reason.
            AccountRequest::LogInStart(_)
            | AccountRequest::LogInFinish(_)
            | AccountRequest::SignUpStart(_) => posted?,
            _ => posted.map_err(in_doubt)?,
        };
        request.decode_reply(&body).map_err(|_| TransportError::Malformed)
    }

    async fn open(&self, request: OpenRequest) -> Result<OpenReply, TransportError> {
        let body = request.encode();
        let request = match request {
            OpenRequest::Append(append)
                if body.len() <= SOCKET_APPEND
                    && self.server.open_is_up.load(Ordering::Relaxed) =>
            {
                return self.append(append).await.map(OpenReply::Append);
            }
            request => request,
        };
        let url = join(self.server.open_base().await?, request.path());
        let length = body.len();
        let post = self.server.open.client().post(url).body(body);
        let body = self.server.post(&self.server.open, post, length).await.map_err(in_doubt)?;
        request.decode_reply(&body).map_err(|_| TransportError::Malformed)
    }

    fn watch_inbox(&self, session: SessionToken, after: u64) {
        // The sockets' tasks end with this transport only, so there is always a receiver.
        let _ = self.to_account.send(account_socket::Watch { session, after });
    }

    fn watch(&self, token: AccessToken, after: u64, running: Option<[u8; 32]>) {
        let _ = self.to_open.send(open_socket::Order::Watch { token, after, running });
    }

    fn unwatch(&self, log: LogId) {
        let _ = self.to_open.send(open_socket::Order::Unwatch(log));
    }

    fn ask_for_life(&self) {
        self.server.account.ask_for_life();
        self.server.open.ask_for_life();
    }

    async fn next(&self) -> Push {
        match self.pushes.lock().await.recv().await {
            Some(push) => push,
            // Both sockets' tasks have ended, which they do only when this is dropped.
            None => core::future::pending().await,
        }
    }
}

impl Server {
    async fn post(
        &self,
        reach: &Reach,
        request: RequestBuilder,
        length: usize,
    ) -> Result<Vec<u8>, TransportError> {
        let request = request.header(CONTENT_TYPE_HEADER, CONTENT_TYPE);
        let large = (length >= LARGE).then(|| Load::new(&self.loads));
        let response = reach.send(request).await?;
        self.reached.notify_waiters();
        drop(large);
        let is_large = response.content_length().is_none_or(|length| length >= LARGE as u64);
        let _large = is_large.then(|| Load::new(&self.loads));
        answer(response).await
    }

    /// The base URL of the open plane, which the server names when first asked.
    async fn open_base(&self) -> Result<&Url, TransportError> {
        let ask = async || {
            let request = self.account.client().get(join(&self.base, INFO_PATH));
            let response = self.account.send(request).await?;
            let info: Info = serde_json::from_slice(&answer(response).await.map_err(in_doubt)?)
                .map_err(|_| TransportError::Malformed)?;
            if info.versions.is_some_and(|theirs| theirs.common(Versions::OURS).is_none()) {
                return Err(TransportError::Refused(ErrorCode::UnsupportedVersion.into()));
            }
            open_base(&self.base, info.open_url.as_deref())
        };
        self.open_base.get_or_try_init(ask).await
    }

    fn account_socket(&self) -> RequestBuilder {
        self.account.client().get(join(&self.base, ACCOUNT_SOCKET))
    }

    async fn open_socket(&self) -> Result<RequestBuilder, TransportError> {
        Ok(self.open.client().get(join(self.open_base().await?, OPEN_SOCKET)))
    }
}

/// A client of its own: nothing of its connections is shared with another's.
fn client(base: &Url, pace: Pace) -> Result<Client, TransportError> {
    // Fails only if a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // A proxy of the environment would look for this machine's own address on another one.
    let builder = if is_loopback(base) { Client::builder().no_proxy() } else { Client::builder() };
    builder
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(pace.connect)
        .read_timeout(pace.silence_before_end)
        .tcp_nodelay(true)
        .build()
        .map_err(|_| TransportError::Unreachable)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

fn base_url(text: &str) -> Result<Url, TransportError> {
    let mut url = Url::parse(text).map_err(|_| TransportError::Malformed)?;
    if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
        return Err(TransportError::Malformed);
    }
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

/// Where the open plane is; a server reached over TLS can't send its clients to one without.
fn open_base(base: &Url, named: Option<&str>) -> Result<Url, TransportError> {
    let Some(named) = named else {
        return Ok(base.clone());
    };
    let open = base_url(named)?;
    if base.scheme() == "https" && open.scheme() != "https" {
        return Err(TransportError::Malformed);
    }
    Ok(open)
}

/// A server may live below a path of its host.
fn join(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

/// What a failure means for a request that may have changed something.
fn in_doubt(error: TransportError) -> TransportError {
    match error {
        // The server doesn't know itself what it has done.
        TransportError::Refused(Refusal { code: ErrorCode::Internal, .. }) => {
            TransportError::Unreachable
        }
        error => error,
    }
}

/// The body of a reply, or why there is none.
async fn answer(mut response: Response) -> Result<Vec<u8>, TransportError> {
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| TransportError::Unreachable)? {
        if body.len() + chunk.len() > MAX_REPLY {
            return Err(TransportError::Malformed);
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return Ok(body);
    }
    let problem = serde_json::from_slice::<Problem>(&body).ok();
    let code = problem.as_ref().and_then(|Problem { code, number, .. }| {
        // A name that this version doesn't know has a number that it doesn't know.
        let later = || number.map(ErrorCode::from_number);
        ErrorCode::from_name(code).or_else(later)
    });
    match (code, problem) {
        (Some(code), Some(Problem { retry_after, .. })) => {
            Err(TransportError::Refused(Refusal { code, retry_after }))
        }
        // Not our server speaks, but something in between.
        _ if status.is_server_error() => Err(TransportError::Unreachable),
        _ => Err(TransportError::Malformed),
    }
}

#[cfg(test)]
mod tests;
