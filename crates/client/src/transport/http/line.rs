//! One socket to the server: frames, heartbeat, and the wait before the next try.

use core::time::Duration;
use std::sync::atomic::Ordering;

use corncrake_wire::frames::{Hello, Versions};
use corncrake_wire::limits::{COMMIT, FRAME, PAGE_BYTES};
use corncrake_wire::{ClientFrame, Refusal, ServerFrame};
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::header::{self, HeaderMap, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode, Upgraded};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::heard::Heard;
use super::reach::Reach;
use super::{Pace, Server};

/// The longest frame from the server: a page, or one entry of the largest size.
const MAX_FRAME: usize = COMMIT + PAGE_BYTES;

/// The most that waits to be written: the largest frame, beside answers to the server's pings. One
/// that pings and reads nothing gets no more of them.
const MAX_WRITTEN: usize = FRAME + 256 * 1024;

/// What is read at once. Each read clears as much memory first, so it is no more than a few
/// messages take.
const READ_BUFFER: usize = 32 * 1024;

/// How many round trips a sign of life may take.
const ROUND_TRIPS: u32 = 4;

/// The slowest line, in bytes a second: what has been sent over it may still be on the way. Where all
/// of it is lost, the system's own timeout ends the connection long before.
const SLOWEST: u64 = 500;

/// A socket is no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// The server asked not to come back before.
    pub(super) retry_after: Option<u32>,
    /// No sign of life came.
    pub(super) is_silent: bool,
    /// Nothing came but a greeting: the server may be too slow for the time that it was given.
    pub(super) is_unheard: bool,
}

impl From<Refusal> for Lost {
    fn from(refusal: Refusal) -> Self {
        Self { retry_after: refusal.retry_after, ..Self::default() }
    }
}

/// An open socket that has said hello.
pub(super) struct Line<'a> {
    socket: WebSocketStream<Heard<Upgraded>>,
    server: &'a Server,
    reach: &'a Reach,
    pace: Pace,
    /// When something came last that is no heartbeat.
    told: Instant,
    /// Since when a sign of life is asked for.
    pinged: Option<Instant>,
    /// The longest round trip of late.
    longest: Duration,
    /// Bytes sent since the server last answered all of them.
    on_the_way: u64,
    /// Whether anything came after the greeting.
    is_heard: bool,
    /// Those who ask for a sign of life, once the greeting has come.
    asks: Option<watch::Receiver<()>>,
    /// Whether one of them has no answer yet.
    is_asked: bool,
}

/// What a socket holds at most.
pub(super) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_write_buffer_size(MAX_WRITTEN)
        .max_message_size(Some(MAX_FRAME))
        .max_frame_size(Some(MAX_FRAME))
}

impl<'a> Line<'a> {
    /// Opens a socket of the plane that is reached so.
    pub(super) async fn open(
        request: RequestBuilder,
        (server, reach): (&'a Server, &'a Reach),
        pace: Pace,
    ) -> Result<(Self, Hello), Lost> {
        let attempt = timeout(pace.connect, Self::connect(request, (server, reach), pace));
        attempt.await.unwrap_or(Err(Lost::default()))
    }

    async fn connect(
        request: RequestBuilder,
        (server, reach): (&'a Server, &'a Reach),
        pace: Pace,
    ) -> Result<(Self, Hello), Lost> {
        let begun = Instant::now();
        let stream = Heard::new(upgrade(request).await?);
        let socket = WebSocketStream::from_raw_socket(stream, Role::Client, Some(config())).await;
        let mut line = Self {
            socket,
            server,
            reach,
            pace,
            told: Instant::now(),
            pinged: None,
            // That was two round trips at least, and more on a connection of its own.
            longest: begun.elapsed() / 2,
            on_the_way: 0,
            is_heard: false,
            asks: None,
            is_asked: false,
        };
        match line.next(|| ClientFrame::Ping(0), None).await? {
            ServerFrame::Hello(hello) if hello.versions.common(Versions::OURS).is_some() => {
                line.is_heard = false;
                line.asks = Some(reach.asks());
                Ok((line, hello))
            }
            ServerFrame::Refused { refusal, about: _ } => Err(refusal.into()),
            _ => Err(Lost::default()),
        }
    }

    pub(super) async fn send(&mut self, frame: &ClientFrame) -> Result<(), Lost> {
        let bytes = corncrake_wire::encode(frame);
        self.on_the_way += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let sending = self.socket.send(Message::Binary(bytes.into()));
        let patience = self.pace.silence_before_end + on_the_way(self.on_the_way);
        match timeout(patience, sending).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Lost::default()),
        }
    }

    /// The next frame that isn't heartbeat, or a pong where somebody has asked for a sign of life: any
    /// frame is one, and [`take_ask`](Self::take_ask) then says that it was asked for. The server is asked for a sign of life with `ping` when it
    /// is silent, and when the answer to something that was sent at `waiting` is late. Cancel-safe.
    pub(super) async fn next(
        &mut self,
        ping: impl Fn() -> ClientFrame,
        waiting: Option<Instant>,
    ) -> Result<ServerFrame, Lost> {
        if waiting.is_none() && self.pinged.is_none() {
            self.on_the_way = 0;
        }
        loop {
            if self.is_asked && self.pinged.is_none() {
                self.ask(&ClientFrame::Ping(0)).await?;
            }
            let silent = self.told + self.pace.silence_before_ping;
            let until = match (self.pinged, waiting) {
                (Some(pinged), _) => pinged.max(self.socket.get_ref().at()) + self.patience(),
                (None, Some(since)) => silent.min(since.max(self.told) + self.pace.late),
                (None, None) => silent,
            };
            let message = tokio::select! {
                // What has come is looked at before it is missed.
                biased;
                message = self.socket.next() => message,
                () = next_ask(&mut self.asks), if !self.is_asked => {
                    self.is_asked = true;
                    if self.socket.get_ref().at().elapsed() < self.pace.late {
                        return Ok(ServerFrame::Pong(0));
                    }
                    continue;
                }
                () = self.reach.is_doubted(), if self.pinged.is_none() => {
                    self.ask(&ClientFrame::Ping(0)).await?;
                    continue;
                }
                () = sleep_until(until) => {
                    match self.pinged {
                        // Bytes came meanwhile, if not yet a frame.
                        Some(_) if self.socket.get_ref().at() + self.patience() > until => {}
                        Some(_) => return Err(self.silence()),
                        None if until < silent => self.ask(&ClientFrame::Ping(0)).await?,
                        None => self.ask(&ping()).await?,
                    }
                    continue;
                }
            };
            let bytes = match message {
                Some(Ok(Message::Binary(bytes))) => bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                _ => return Err(Lost::default()),
            };
            match corncrake_wire::decode(&bytes).map_err(|_| Lost::default())? {
                ServerFrame::Ping(number) => self.send(&ClientFrame::Pong(number)).await?,
                ServerFrame::Pong(_) if !self.is_asked => self.hear(),
                frame => {
                    self.hear();
                    return Ok(frame);
                }
            }
        }
    }

    /// Whether somebody asked for the sign of life that has come with the last frame.
    pub(super) const fn take_ask(&mut self) -> bool {
        core::mem::replace(&mut self.is_asked, false)
    }

    /// Asks for a sign of life.
    async fn ask(&mut self, ping: &ClientFrame) -> Result<(), Lost> {
        self.send(ping).await?;
        self.pinged = Some(Instant::now());
        Ok(())
    }

    /// The server has said more than that it is there.
    fn hear(&mut self) {
        self.told = Instant::now();
        self.is_heard = true;
        if let Some(pinged) = self.pinged.take() {
            let long = self.told.duration_since(pinged);
            self.longest = (self.longest - self.longest / 8).max(long);
        }
    }

    const fn silence(&self) -> Lost {
        Lost { retry_after: None, is_silent: true, is_unheard: !self.is_heard }
    }

    /// How long a sign of life may take: nothing is cut off that is only slow.
    fn patience(&self) -> Duration {
        let path = match self.server.loads.load(Ordering::Relaxed) {
            0 => self.pace.patience.max(self.longest * ROUND_TRIPS),
            _ => self.pace.silence_before_end,
        };
        path.min(self.pace.silence_before_end) + on_the_way(self.on_the_way)
    }
}

/// Waits until somebody asks for a sign of life.
async fn next_ask(asks: &mut Option<watch::Receiver<()>>) {
    let heard = match asks {
        Some(asks) => asks.changed().await.is_ok(),
        None => false,
    };
    if !heard {
        core::future::pending().await
    }
}

/// How long so many bytes may be on the way.
const fn on_the_way(bytes: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / SLOWEST)
}

/// The client's half of the handshake (RFC 6455, section 4.1).
async fn upgrade(request: RequestBuilder) -> Result<Upgraded, Lost> {
    let key = generate_key();
    let request = request
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, &key);
    let response: Response = request.send().await.map_err(|_| Lost::default())?;
    let headers = response.headers();
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = seconds.and_then(|seconds| seconds.parse().ok());
    let accepted = derive_accept_key(key.as_bytes());
    let fits = response.status() == StatusCode::SWITCHING_PROTOCOLS
        && says(headers, &header::CONNECTION, "upgrade")
        && says(headers, &header::UPGRADE, "websocket")
        && headers.get(header::SEC_WEBSOCKET_ACCEPT).is_some_and(|given| *given == accepted);
    if !fits {
        return Err(Lost { retry_after, ..Lost::default() });
    }
    response.upgrade().await.map_err(|_| Lost::default())
}

fn says(headers: &HeaderMap, name: &header::HeaderName, value: &str) -> bool {
    let given = headers.get(name).and_then(|given| given.to_str().ok());
    given.is_some_and(|given| given.eq_ignore_ascii_case(value))
}

/// The wait before a socket is opened again: random, doubled at each try up to a few seconds, and
/// further once an outage is a long one.
pub(super) struct Backoff {
    pace: Pace,
    most: Duration,
    /// When the first wait began after a connection that held.
    since: Option<Instant>,
}

impl Backoff {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, most: pace.first_retry, since: None }
    }

    /// A connection held since then, and has ended now. One that ends at once shows that the
    /// server can't carry it: the next is not made sooner for it, and where nothing was heard of the
    /// server at all, it is given more time.
    pub(super) fn ended(&mut self, since: Instant, lost: Lost, server: &Server) {
        if since.elapsed() >= self.pace.silence_before_end {
            *self = Self::new(server.pace);
        } else if lost.is_unheard {
            self.pace.patience = (self.pace.patience * 2).min(self.pace.silence_before_end);
        }
    }

    /// The pace of the next connection.
    pub(super) const fn pace(&self) -> Pace {
        self.pace
    }

    /// Waits at least as long as the server asked, else until `server` is known to be reachable
    /// or the time is up.
    pub(super) async fn wait(&mut self, server: &Server, lost: Lost) {
        let (least, rest) = self.next(random_fraction(), Instant::now());
        let asked = Duration::from_secs(lost.retry_after.unwrap_or(0).into());
        sleep(asked.min(self.pace.last_retry) + least).await;
        tokio::select! {
            () = sleep(rest) => {}
            () = server.reached.notified() => {}
        }
    }

    /// The next wait, of which `fraction` is taken: how long it is in any case, and how much longer
    /// if nothing tells that the server is there.
    fn next(&mut self, fraction: f64, now: Instant) -> (Duration, Duration) {
        let out_for = now.duration_since(*self.since.get_or_insert(now));
        let is_short = out_for < self.pace.short_outage;
        let longest = if is_short { self.pace.soon_retry } else { self.pace.last_retry };
        let least = self.pace.first_retry.mul_f64(fraction);
        let rest = self.most.min(longest).mul_f64(fraction).saturating_sub(least);
        self.most = (self.most * 2).min(longest);
        (least, rest)
    }
}

/// A number from 0 up to 1.
fn random_fraction() -> f64 {
    let number = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(number) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn audit_issue_7_a_server_that_is_back_soon_is_found_soon() {
        let mut backoff = Backoff::new(Pace::default());
        let begun = Instant::now();
        let (mut out_for, mut longest) = (Duration::ZERO, Duration::ZERO);
        while out_for < Duration::from_mins(20) {
            let (least, rest) = backoff.next(1.0, begun + out_for);
            let most = if out_for < Duration::from_mins(10) { 5 } else { 30 };
            assert!(least + rest <= Duration::from_secs(most), "{out_for:?}: {rest:?}");
            longest = longest.max(least + rest);
            out_for += least + rest;
        }
        // Who is out for long asks less often, and not all who are out ask at the same time.
        assert_eq!(longest, Duration::from_secs(30));
        assert_eq!(backoff.next(0.5, begun + out_for).1, Duration::from_millis(14_500));
        backoff = Backoff::new(Pace::default());
        let (least, rest) = backoff.next(0.5, begun);
        assert_eq!(least + rest, Duration::from_millis(500));
    }
}
