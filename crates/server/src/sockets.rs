//! The two WebSockets.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{self, Request},
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use corncrake_wire::{
    ACCOUNT_SOCKET, ClientFrame, ErrorCode, Hello, Notice, OPEN_SOCKET, Refusal, ServerFrame,
    decode, encode, frames::About, limits, log::ReadReply,
};
use hyper::upgrade::OnUpgrade;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::{
    Error, Origin, State,
    budget::Share,
    extract::check_plane,
    serve::Ticket,
    sockets::websocket::{Event, OUTPUT, WebSocket},
};

mod account;
mod open;
mod subscription;
mod websocket;

/// How often a connection looks at its silence.
const TICK: Duration = Duration::from_secs(5);
/// How long a goodbye may take.
const CLOSE_TIME: Duration = Duration::from_secs(3);
/// So many refusals more than things that were granted, and the connection ends.
const DEFIANCE: u32 = 128;

pub(crate) fn router() -> Router<Arc<State>> {
    Router::new().route(ACCOUNT_SOCKET, any(account_plane)).route(OPEN_SOCKET, any(open_plane))
}

async fn account_plane(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    request: Request,
) -> Result<Response, Error> {
    upgrade(state, origin, request, async |state, origin, connection| {
        account::run(state, origin, connection).await;
    })
}

async fn open_plane(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    request: Request,
) -> Result<Response, Error> {
    check_plane(OPEN_SOCKET, request.headers())?;
    upgrade(state, origin, request, async |state, origin, connection| {
        open::run(state, origin, connection).await;
    })
}

/// Answers the handshake of RFC 6455 and hands the connection to `run`.
fn upgrade<F: Future<Output = ()> + Send + 'static>(
    state: Arc<State>,
    origin: Origin,
    mut request: Request,
    run: impl FnOnce(Arc<State>, Origin, Connection) -> F + Send + 'static,
) -> Result<Response, Error> {
    let accepted = accept(&request).ok_or(ErrorCode::Malformed)?;
    let upgrade = request.extensions_mut().remove::<OnUpgrade>().ok_or(ErrorCode::Malformed)?;
    let place = state.sockets.take(origin, 1).ok_or(TOO_MANY)?;
    let ticket = request.extensions_mut().remove::<Arc<Ticket>>();
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let socket = WebSocket::new(upgraded, state.budget.clone(), origin);
            run(state, origin, Connection { socket, defiance: 0 }).await;
        }
        drop((ticket, place));
    });
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accepted),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// The answer to the handshake's key, if it is a handshake.
fn accept(request: &Request) -> Option<HeaderValue> {
    let headers = request.headers();
    let names = |name: header::HeaderName, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case(word)))
    };
    let fits = request.method() == Method::GET
        && names(header::CONNECTION, "upgrade")
        && names(header::UPGRADE, "websocket")
        && names(header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| fits)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
}

const TOO_MANY: Refusal = Refusal { code: ErrorCode::TooManyConnections, retry_after: Some(10) };

/// What came from the other side.
#[derive(Debug)]
enum Heard {
    /// A frame, with its share of the budget.
    Frame(Box<ClientFrame>, Share),
    /// Something that only shows that the other side is there.
    Life,
    /// Something that is no frame, or comes too slowly.
    Bad(Refusal),
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
    /// How many refusals more than things that were granted.
    defiance: u32,
}

impl Connection {
    /// Waits for what comes next. May be dropped while it waits.
    async fn hear(&mut self) -> Heard {
        match self.socket.next().await {
            Ok(Event::Message(bytes, share)) => match decode(&bytes) {
                Ok(frame) => Heard::Frame(Box::new(frame), share),
                Err(_) => Heard::Bad(ErrorCode::Malformed.into()),
            },
            Ok(Event::Life) => Heard::Life,
            Ok(Event::Gone) => Heard::Gone,
            Err(refusal) => Heard::Bad(refusal),
        }
    }

    /// Takes longer frames from now on: the other side has shown a token.
    const fn trust(&mut self) {
        self.socket.longest = limits::FRAME;
    }

    /// Notes that nothing is read for now.
    fn rest(&mut self) {
        self.socket.rest();
    }

    /// Keeps count of what is granted and refused. Whoever goes on and on after refusals is told
    /// so for the last time.
    fn count(&mut self, rated: Result<(), Refusal>) -> Result<(), Refusal> {
        match rated {
            Ok(()) => self.defiance = self.defiance.saturating_sub(1),
            Err(refusal) => {
                self.defiance += 1;
                if self.defiance > DEFIANCE {
                    return Err(refusal);
                }
            }
        }
        Ok(())
    }

    /// Hands a frame to the socket, which may keep it until [`flush`](Self::flush).
    async fn feed(&mut self, frame: &ServerFrame) -> Result<(), Over> {
        if self.socket.feed(encode(frame)).await { Ok(()) } else { Err(Over) }
    }

    /// Hands entries to the socket, in frames that are no longer than what it collects.
    async fn entries(
        &mut self,
        id: u32,
        ReadReply { entries, head }: ReadReply,
        mut running: Option<[u8; 32]>,
    ) -> Result<(), Over> {
        for entries in split(entries, |entry| entry.bytes.len() + ROW) {
            let running = running.take();
            self.feed(&ServerFrame::Entries { id, entries, head, running }).await?;
        }
        Ok(())
    }

    /// The same for notices.
    async fn notices(&mut self, notices: Vec<Notice>) -> Result<(), Over> {
        for notices in split(notices, |notice| notice.bytes.len() + ROW) {
            self.feed(&ServerFrame::Notices { notices }).await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Over> {
        if self.socket.flush().await { Ok(()) } else { Err(Over) }
    }

    async fn send(&mut self, frame: &ServerFrame) -> Result<(), Over> {
        self.feed(frame).await?;
        self.flush().await
    }

    /// The first frame.
    async fn hello(&mut self, instance: [u8; 16]) -> Result<(), Over> {
        self.send(&ServerFrame::Hello(Hello::new(instance))).await
    }

    /// Looks at the other side's silence, and at its pace.
    async fn tick(&mut self) -> Result<(), Over> {
        if self.socket.is_too_slow() {
            let refusal = Refusal { code: ErrorCode::TimedOut, retry_after: Some(5) };
            self.send(&ServerFrame::Refused { about: About::Connection, refusal }).await?;
            return Err(Over);
        }
        match Silence::after(self.socket.heard.elapsed()) {
            Silence::Wait => Ok(()),
            Silence::Ping => self.send(&ServerFrame::Ping(0)).await,
            Silence::Close => Err(Over),
        }
    }

    /// Says why, and hangs up.
    async fn refuse(mut self, refusal: impl Into<Refusal>) {
        let (about, refusal) = (About::Connection, refusal.into());
        let goodbye = async {
            if self.feed(&ServerFrame::Refused { about, refusal }).await.is_ok() {
                self.socket.close().await;
            }
        };
        drop(timeout(CLOSE_TIME, goodbye).await);
    }
}

/// What an entry or a notice needs in a frame beside its bytes, at most.
const ROW: usize = 32;

/// Groups of items of which each fits into a frame; one at least, even if there is no item.
fn split<T>(items: Vec<T>, length: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut groups = vec![Vec::new()];
    let mut so_far = ROW;
    for item in items {
        let length = length(&item);
        match groups.last_mut() {
            Some(group) if group.is_empty() || so_far + length <= OUTPUT => group.push(item),
            _ => {
                so_far = ROW;
                groups.push(vec![item]);
            }
        }
        so_far += length;
    }
    groups
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

    #[test]
    fn items_are_grouped_into_frames_of_bounded_length() {
        let counts = |lengths: &[usize]| -> Vec<usize> {
            split(lengths.to_vec(), |length| *length).iter().map(Vec::len).collect()
        };
        assert_eq!(counts(&[]), [0]);
        assert_eq!(counts(&[1000; 33]), [16, 16, 1]);
        assert_eq!(counts(&[1, 100_000, 1, 1]), [1, 1, 2]);
    }
}
