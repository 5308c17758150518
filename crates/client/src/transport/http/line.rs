//! One socket to the server: frames, heartbeat, and the wait before the next try.

use core::time::Duration;

use corncrake_wire::frames::{Hello, Versions};
use corncrake_wire::limits::{COMMIT, PAGE_BYTES};
use corncrake_wire::{ClientFrame, Refusal, ServerFrame};
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::RequestBuilder;
use reqwest::header::RETRY_AFTER;
use reqwest_websocket::{Bytes, Message, Upgrade as _, WebSocket};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tungstenite::protocol::WebSocketConfig;

use super::{Pace, Server};

/// The longest frame from the server: a page, or one entry of the largest size.
const MAX_FRAME: usize = COMMIT + PAGE_BYTES;

/// What is read at once. Each read clears as much memory first, so it is no more than a few
/// messages take.
const READ_BUFFER: usize = 32 * 1024;

/// A socket is no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// The server asked not to come back before.
    pub(super) retry_after: Option<u32>,
}

impl From<Refusal> for Lost {
    fn from(refusal: Refusal) -> Self {
        Self { retry_after: refusal.retry_after }
    }
}

/// An open socket that has said hello.
pub(super) struct Line {
    socket: WebSocket,
    pace: Pace,
    /// When anything came last.
    heard: Instant,
    /// When something came last that is no heartbeat.
    told: Instant,
    pinged: bool,
}

impl Line {
    pub(super) async fn open(request: RequestBuilder, pace: Pace) -> Result<(Self, Hello), Lost> {
        let attempt = timeout(pace.connect, Self::connect(request, pace));
        attempt.await.unwrap_or(Err(Lost::default()))
    }

    async fn connect(request: RequestBuilder, pace: Pace) -> Result<(Self, Hello), Lost> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME));
        let upgrade = request.upgrade().web_socket_config(config);
        let response = upgrade.send().await.map_err(|_| Lost::default())?;
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = seconds.and_then(|seconds| seconds.parse().ok());
        let socket = response.into_websocket().await.map_err(|_| Lost { retry_after })?;
        let now = Instant::now();
        let mut line = Self { socket, pace, heard: now, told: now, pinged: false };
        match line.next(|| ClientFrame::Ping(0)).await? {
            ServerFrame::Hello(hello) if hello.versions.common(Versions::OURS).is_some() => {
                Ok((line, hello))
            }
            ServerFrame::Refused { refusal, about: _ } => Err(refusal.into()),
            _ => Err(Lost::default()),
        }
    }

    pub(super) async fn send(&mut self, frame: &ClientFrame) -> Result<(), Lost> {
        let message = Message::Binary(Bytes::from(corncrake_wire::encode(frame)));
        let sent = timeout(self.pace.silence_before_end, self.socket.send(message)).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            _ => Err(Lost::default()),
        }
    }

    /// The next frame that isn't heartbeat; a silent server is asked with `ping`. Cancel-safe.
    pub(super) async fn next(
        &mut self,
        ping: impl Fn() -> ClientFrame,
    ) -> Result<ServerFrame, Lost> {
        loop {
            let until = if self.pinged {
                self.heard + self.pace.silence_before_end
            } else {
                self.told + self.pace.silence_before_ping
            };
            let message = tokio::select! {
                message = self.socket.next() => message,
                () = sleep_until(until) => {
                    if self.pinged {
                        return Err(Lost::default());
                    }
                    self.send(&ping()).await?;
                    self.pinged = true;
                    continue;
                }
            };
            let bytes = match message {
                Some(Ok(Message::Binary(bytes))) => bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                    self.heard = Instant::now();
                    continue;
                }
                _ => return Err(Lost::default()),
            };
            self.heard = Instant::now();
            match corncrake_wire::decode(&bytes).map_err(|_| Lost::default())? {
                ServerFrame::Ping(number) => self.send(&ClientFrame::Pong(number)).await?,
                ServerFrame::Pong(_) => self.hear(),
                frame => {
                    self.hear();
                    return Ok(frame);
                }
            }
        }
    }

    /// The server has said more than that it is there.
    fn hear(&mut self) {
        self.told = self.heard;
        self.pinged = false;
    }
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
    /// server can't carry it: the next is not made sooner for it.
    pub(super) fn went_well_since(&mut self, since: Instant) {
        if since.elapsed() >= self.pace.silence_before_end {
            *self = Self::new(self.pace);
        }
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
