//! The listener: limits on connections, and an orderly end.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, body::Body, http::Request, response::Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tower::ServiceExt;

use crate::{Config, Error, Origin, State, SystemClock, app, config::Limits, extract::Peer};

/// How long a connection may take to say what it wants.
const HEADER_TIME: Duration = Duration::from_secs(15);
/// How long what is under way may take when the server stops.
const STOP_TIME: Duration = Duration::from_secs(10);

/// A running server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    state: Arc<State>,
    listening: JoinHandle<()>,
    writing: [JoinHandle<()>; 2],
}

impl Server {
    /// Opens the databases and starts to listen.
    ///
    /// # Errors
    /// When the data folder or the address can't be used.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let listener = TcpListener::bind(config.listen).await.map_err(Error::failed)?;
        let address = listener.local_addr().map_err(Error::failed)?;
        let origins = origins(&config, address);
        let (state, writing) = State::open(config, origins, Arc::new(SystemClock)).await?;
        let listening = tokio::spawn(listen(listener, Arc::clone(&state)));
        Ok(Self { address, state, listening, writing })
    }

    /// Where the server listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the server can't store anything any more, whatever happens. Its process should
    /// end then, so that whoever watches over it starts another.
    pub async fn failed(&self) {
        self.state.writer_ended().await;
    }

    /// Stops: takes no new connections, ends what is under way, hangs up and closes the
    /// databases.
    pub async fn stop(self) {
        let Self { address: _, state, listening, writing } = self;
        state.stopping.send_replace(true);
        if timeout(STOP_TIME, listening).await.is_err() {
            tracing::warn!("some connections were cut off");
        }
        state.accounts.close().await;
        state.logs.close().await;
        drop(state);
        for writing in writing {
            if timeout(STOP_TIME, writing).await.is_err() {
                tracing::warn!("a writer was cut off");
            }
        }
    }
}

/// The origins under which renewals may be signed.
fn origins(config: &Config, address: SocketAddr) -> Vec<String> {
    if !config.origin.is_empty() {
        return config
            .origin
            .iter()
            .map(|origin| origin.trim_end_matches('/').to_owned())
            .collect();
    }
    let port = address.port();
    let mut origins = vec![format!("http://{address}")];
    if address.ip().is_loopback() || address.ip().is_unspecified() {
        origins.extend(
            ["127.0.0.1", "localhost", "[::1]"].map(|host| format!("http://{host}:{port}")),
        );
    }
    origins
}

async fn listen(listener: TcpListener, state: Arc<State>) {
    let mut stopping = pin!(state.stopping());
    let connections = Connections::new(&state.config.limits);
    let app = app(Arc::clone(&state));
    let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: those that are open may close.
                    tracing::warn!(%error, "accepting a connection failed");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = &mut stopping => break,
        };
        let Some(ticket) = connections.admit(peer) else {
            tracing::info!("a connection was refused: too many");
            tokio::spawn(refuse(stream));
            continue;
        };
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let (ticket, open) = (Arc::new(ticket), open.clone());
        let serve = serve(stream, peer, ticket, app.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            serve.await;
            drop(open);
        });
    }
    drop((listener, open));
    // Nothing is ever sent: this waits until every connection has dropped its end.
    all_closed.recv().await;
}

/// Serves one connection to its end, which is the business of the other side, or ours when the
/// server stops.
async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    ticket: Arc<Ticket>,
    app: Router,
    state: Arc<State>,
) {
    let service =
        service_fn(move |request| answer(app.clone(), peer, Arc::clone(&ticket), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        _ = &mut connection => return,
        () = state.stopping() => connection.as_mut().graceful_shutdown(),
    }
    drop(connection.await);
}

async fn answer(
    app: Router,
    peer: SocketAddr,
    ticket: Arc<Ticket>,
    mut request: Request<Incoming>,
) -> Result<Response, Infallible> {
    request.extensions_mut().insert(Peer(peer.ip()));
    // A WebSocket outlives its request, and takes the ticket along.
    request.extensions_mut().insert(ticket);
    app.oneshot(request.map(Body::new)).await
}

/// Tells one whose connection is one too many when to come back.
async fn refuse(stream: TcpStream) {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
        content-type: application/problem+json\r\n\
        retry-after: 10\r\nconnection: close\r\n\r\n\
        {\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\
        \"code\":\"too_many_connections\",\"retry_after\":10}";
    let talk = async {
        // To close on an unread request would take our answer back.
        let (mut reader, mut writer) = stream.into_split();
        if reader.read(&mut [0; 4096]).await? > 0 {
            writer.write_all(ANSWER).await?;
        }
        writer.shutdown().await
    };
    drop(timeout(Duration::from_secs(1), talk).await);
}

/// How many connections there are, in all and by address.
#[derive(Clone, Debug)]
struct Connections {
    open: Arc<Mutex<HashMap<Origin, usize>>>,
    most: usize,
    most_per_address: usize,
    proxied: bool,
}

/// One connection; gives its place back when dropped.
#[derive(Debug)]
pub(crate) struct Ticket(Connections, Origin);

impl Connections {
    fn new(limits: &Limits) -> Self {
        let most = |limit| {
            if limits.no_rate_limits || limit == 0 { usize::MAX } else { limit }
        };
        Self {
            open: Arc::default(),
            most: most(limits.max_connections),
            most_per_address: most(limits.max_connections_per_address),
            proxied: limits.proxy_header.is_some(),
        }
    }

    fn admit(&self, peer: SocketAddr) -> Option<Ticket> {
        let origin = Origin::of(peer.ip());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let in_all: usize = open.values().sum();
        let here = open.entry(origin).or_default();
        // All connections of a proxy come from one address.
        if in_all >= self.most || !self.proxied && *here >= self.most_per_address {
            return None;
        }
        *here += 1;
        Some(Ticket(self.clone(), origin))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Self(connections, origin) = self;
        let mut open = connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = open.get_mut(origin) {
            *here -= 1;
            if *here == 0 {
                open.remove(origin);
            }
        }
    }
}
