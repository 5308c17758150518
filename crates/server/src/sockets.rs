//! The two WebSockets.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Extension, Router,
    extract::{
        self,
        ws::{Message, WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::HeaderMap,
    response::Response,
    routing::any,
};
use bytes::Bytes;
use corncrake_wire::{
    ACCOUNT_SOCKET, ClientFrame, ErrorCode, Hello, OPEN_SOCKET, Refusal, ServerFrame, VERSION,
    decode, encode,
    frames::{About, Limits},
    limits,
};
use futures_util::SinkExt;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;

use crate::{Error, Origin, State, extract::check_plane, serve::Ticket};

mod account;
mod open;
mod subscription;

/// How often a connection looks at its silence.
const TICK: Duration = Duration::from_secs(5);
/// What is read at once. Each read clears as much memory first, so it fits a few messages.
const READ_BUFFER: usize = 8 * 1024;
/// How long the other side may take to take a frame.
const SEND_TIME: Duration = Duration::from_secs(30);

pub(crate) fn router() -> Router<Arc<State>> {
    Router::new().route(ACCOUNT_SOCKET, any(account_plane)).route(OPEN_SOCKET, any(open_plane))
}

async fn account_plane(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    ticket: Option<Extension<Arc<Ticket>>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Error> {
    state.rates.request(origin)?;
    let upgrade = accept(upgrade)?;
    Ok(upgrade.on_upgrade(async move |socket| {
        account::run(state, origin, Connection::new(socket)).await;
        drop(ticket);
    }))
}

async fn open_plane(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    headers: HeaderMap,
    ticket: Option<Extension<Arc<Ticket>>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Error> {
    state.rates.request(origin)?;
    check_plane(OPEN_SOCKET, &headers)?;
    let upgrade = accept(upgrade)?;
    Ok(upgrade.on_upgrade(async move |socket| {
        open::run(state, origin, Connection::new(socket)).await;
        drop(ticket);
    }))
}

fn accept(
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<WebSocketUpgrade, Error> {
    let upgrade = upgrade.map_err(|_| ErrorCode::Malformed)?;
    // Somewhat more is read, so that who sends it can be told why it is refused.
    Ok(upgrade
        .read_buffer_size(READ_BUFFER)
        .max_message_size(2 * limits::FRAME)
        .max_frame_size(2 * limits::FRAME))
}

/// What came from the other side.
#[derive(Debug)]
enum Heard {
    /// A frame.
    Frame(Box<ClientFrame>),
    /// Something that only shows that the other side is there.
    Life,
    /// Something that is no frame.
    Bad(ErrorCode),
    /// The other side has gone.
    Gone,
}

/// What silence asks for.
#[derive(Debug, PartialEq, Eq)]
enum Silence {
    Wait,
    Ping,
    Close,
}

impl Silence {
    fn after(silence: Duration) -> Self {
        match silence.as_secs() {
            limits::CLOSE_AFTER.. => Self::Close,
            limits::PING_AFTER.. => Self::Ping,
            _ => Self::Wait,
        }
    }
}

/// The connection is over.
#[derive(Debug)]
struct Over;

/// A WebSocket that speaks frames.
#[derive(Debug)]
struct Connection {
    socket: WebSocket,
    heard: Instant,
}

impl Connection {
    fn new(socket: WebSocket) -> Self {
        Self { socket, heard: Instant::now() }
    }

    /// Waits for what comes next. May be dropped while it waits.
    async fn hear(&mut self) -> Heard {
        let message = self.socket.recv().await;
        self.heard = Instant::now();
        match message {
            Some(Ok(Message::Binary(bytes))) if bytes.len() > limits::FRAME => {
                Heard::Bad(ErrorCode::TooLarge)
            }
            Some(Ok(Message::Binary(bytes))) => match decode(&bytes) {
                Ok(frame) => Heard::Frame(Box::new(frame)),
                Err(_) => Heard::Bad(ErrorCode::Malformed),
            },
            Some(Ok(Message::Text(_))) => Heard::Bad(ErrorCode::Malformed),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Heard::Life,
            Some(Err(error)) => match error.into_inner().downcast_ref() {
                Some(tungstenite::Error::Capacity(_)) => Heard::Bad(ErrorCode::TooLarge),
                _ => Heard::Gone,
            },
            Some(Ok(Message::Close(_))) | None => Heard::Gone,
        }
    }

    /// Hands a frame to the socket, which may keep it until [`flush`](Self::flush).
    async fn feed(&mut self, frame: &ServerFrame) -> Result<(), Over> {
        let message = Message::Binary(Bytes::from(encode(frame)));
        match timeout(SEND_TIME, self.socket.feed(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Over),
        }
    }

    async fn flush(&mut self) -> Result<(), Over> {
        match timeout(SEND_TIME, self.socket.flush()).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Over),
        }
    }

    async fn send(&mut self, frame: &ServerFrame) -> Result<(), Over> {
        self.feed(frame).await?;
        self.flush().await
    }

    /// The first frame.
    async fn hello(&mut self, instance: [u8; 16]) -> Result<(), Over> {
        let hello = Hello { version: VERSION, instance, limits: Limits::DEFAULT };
        self.send(&ServerFrame::Hello(hello)).await
    }

    /// Looks at the other side's silence.
    async fn tick(&mut self) -> Result<(), Over> {
        match Silence::after(self.heard.elapsed()) {
            Silence::Wait => Ok(()),
            Silence::Ping => self.send(&ServerFrame::Ping(0)).await,
            Silence::Close => Err(Over),
        }
    }

    /// Says why, and hangs up.
    async fn refuse(mut self, refusal: impl Into<Refusal>) {
        let (about, refusal) = (About::Connection, refusal.into());
        if self.send(&ServerFrame::Refused { about, refusal }).await.is_ok() {
            drop(timeout(SEND_TIME, self.socket.send(Message::Close(None))).await);
        }
    }
}

/// What a connection is told when the server stops.
const STOPPING: Refusal = Refusal { code: ErrorCode::Unavailable, retry_after: Some(1) };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_asked_about_and_then_ended() {
        let after = |seconds| Silence::after(Duration::from_secs(seconds));
        assert_eq!(after(24), Silence::Wait);
        assert_eq!(after(25), Silence::Ping);
        assert_eq!(after(59), Silence::Ping);
        assert_eq!(after(60), Silence::Close);
    }
}
