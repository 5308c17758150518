//! The listener: limits on connections, and an orderly end.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::Request,
    response::{IntoResponse, Response},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tower::ServiceExt;

use crate::{
    Config, Error, Origin, State, SystemClock, app,
    budget::Share,
    extract::{Held, Peer},
    paced::Paced,
    steady::Steady,
};

/// Connections that wait to be accepted at most, as in a storm of reconnects; the kernel may allow
/// less.
const BACKLOG: u32 = 16 * 1024;
/// Connections that are told at once that they are too many; others just end.
const REFUSING: usize = 256;
/// What is read from an HTTP connection before it is dealt with.
const BUFFER: usize = 32 * 1024;
/// Bytes that the kernel keeps for a connection in each direction.
pub(crate) const SEND_BUFFER: u32 = 128 * 1024;
const RECEIVE_BUFFER: u32 = 256 * 1024;
/// How long a connection may take to say what it wants.
const HEADER_TIME: Duration = Duration::from_secs(15);
/// How long what is under way may take when the server stops.
const STOP_TIME: Duration = Duration::from_secs(10);
/// The pause before another start where the disk was full.
const START_AGAIN: Duration = Duration::from_secs(2);

/// A running server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    state: Arc<State>,
    listening: JoinHandle<()>,
    writing: [JoinHandle<()>; 2],
}

impl Server {
    /// Opens the databases and starts to listen. While the disk has no space even for that, it waits.
    ///
    /// # Errors
    /// When the data folder or the address can't be used.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let socket = bind(config.listen).map_err(Error::failed)?;
        let address = socket.local_addr().map_err(Error::failed)?;
        let origins = origins(&config, address);
        let (state, writing) = open(&config, &origins).await?;
        // Nobody connects to a server that can't serve.
        let listener = socket.listen(BACKLOG).map_err(Error::failed)?;
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

/// Opens the databases once there is space: a supervisor would give up a process that ends again and
/// again.
async fn open(
    config: &Config,
    origins: &[String],
) -> Result<(Arc<State>, [JoinHandle<()>; 2]), Error> {
    loop {
        match State::open(config.clone(), origins.to_vec(), Arc::new(Steady::new(SystemClock)))
            .await
        {
            Err(error) if error.is_full() => {
                tracing::error!(%error, "the disk is full: the server starts once there is space");
                sleep(START_AGAIN).await;
            }
            opened => return opened,
        }
    }
}

/// A socket whose connections keep little in the kernel.
fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // Connections inherit these. The kernel doubles them.
    socket.set_send_buffer_size(SEND_BUFFER / 2)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER / 2)?;
    socket.bind(address)?;
    Ok(socket)
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
    let places = state.config.limits.places();
    let proxied = state.config.limits.proxy_header.is_some();
    let refusing = Arc::new(Semaphore::new(REFUSING));
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
        // All connections of a proxy come from one address.
        let origin = (!proxied).then(|| Origin::of(peer.ip()));
        let place = match origin {
            Some(origin) => places.take(origin, 1),
            None => places.take_unnamed(1),
        };
        let Some(place) = place else {
            tracing::debug!("a connection was refused: too many");
            if let Ok(permit) = Arc::clone(&refusing).try_acquire_owned() {
                tokio::spawn(async move {
                    refuse(stream).await;
                    drop(permit);
                });
            }
            continue;
        };
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let ticket = Arc::new(Ticket { _place: place, _open: open.clone() });
        let stream = Paced::new(stream, state.budget.clone(), origin);
        tokio::spawn(serve(stream, peer, ticket, app.clone(), Arc::clone(&state)));
    }
    drop((listener, open));
    // Nothing is ever sent: this waits until every connection has dropped its end.
    all_closed.recv().await;
}

/// Serves one connection to its end, which is the business of the other side, or ours when the
/// server stops.
async fn serve(
    stream: Paced,
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
        .max_buf_size(BUFFER)
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
    let held = Held::default();
    request.extensions_mut().insert(held.clone());
    // What has begun comes to its end, and holds its share of the budget until then, even if the
    // other side hangs up meanwhile.
    let handler = tokio::spawn(async move {
        let response = app.oneshot(request.map(Body::new)).await;
        drop(held.take());
        response
    });
    handler.await.unwrap_or_else(|error| Ok(Error::failed(error).into_response()))
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

/// A connection's place, and a sign that it isn't over yet.
#[derive(Debug)]
pub(crate) struct Ticket {
    _place: Share,
    _open: mpsc::Sender<Infallible>,
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    fn listener() -> (TcpListener, SocketAddr) {
        let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listener = socket.listen(BACKLOG).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn audit_load_l5_a_slow_reader_pins_no_more_than_its_send_buffer() {
        let (listener, address) = listener();
        // It has little room itself, so that what is taken lies here.
        let reader = TcpSocket::new_v4().unwrap();
        reader.set_recv_buffer_size(16 * 1024).unwrap();
        let _reader = reader.connect(address).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let (chunk, mut taken) = ([0; 16 * 1024], 0);
        while timeout(Duration::from_millis(300), stream.writable()).await.is_ok() {
            taken += stream.try_write(&chunk).unwrap_or(0);
        }
        assert!(taken > 0 && taken <= 2 * SEND_BUFFER as usize, "{taken} bytes");
    }

    #[tokio::test]
    async fn audit_load_l7_a_storm_of_reconnects_finds_room_to_wait() {
        let (_listener, address) = listener();
        let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let allowed: usize = allowed.trim().parse().unwrap();
        // Nobody accepts them meanwhile. Who hangs up keeps its place.
        for waiting in 0..allowed.min(2000) {
            let connected = timeout(Duration::from_secs(20), TcpStream::connect(address)).await;
            assert!(connected.is_ok_and(|connected| connected.is_ok()), "{waiting} wait");
        }
    }
}
