//! How one plane is reached: its connections, and what is known of their path.
//!
//! A path can die without a word, because a router forgot it or a phone changed networks, while a new
//! connection would work. Only a socket can tell: the server answers its pings whatever else it
//! does. So a request that has no answer for a while asks the plane's socket for a sign of life, and
//! where none comes, all connections of that time are left alone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use reqwest::{Client, RequestBuilder, Response};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use url::Url;

use super::{Pace, TransportError, client};

/// What takes so long to send that a ping may have to wait behind it.
pub(super) const LARGE: usize = 32 * 1024;

/// One plane's connections.
#[derive(Debug)]
pub(super) struct Reach {
    client: RwLock<Client>,
    pace: Pace,
    /// Told while an answer is late.
    doubted: Notify,
    /// Told when somebody wants to know whether the server is there.
    asks: watch::Sender<()>,
    /// How often all connections were given up.
    deaths: watch::Sender<u64>,
}

impl Reach {
    pub(super) fn new(base: &Url, pace: Pace) -> Result<Self, TransportError> {
        Ok(Self {
            client: RwLock::new(client(base, pace)?),
            pace,
            doubted: Notify::new(),
            asks: watch::Sender::new(()),
            deaths: watch::Sender::new(0),
        })
    }

    pub(super) fn client(&self) -> Client {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The path of all connections is dead: those that are kept for later are used no more, and
    /// what waits on one of them ends.
    pub(super) fn renew(&self, base: &Url) {
        if let Ok(fresh) = client(base, self.pace) {
            *self.client.write().unwrap_or_else(PoisonError::into_inner) = fresh;
            self.deaths.send_modify(|deaths| *deaths += 1);
        }
    }

    /// Waits until somebody waits for an answer that is late.
    pub(super) async fn is_doubted(&self) {
        self.doubted.notified().await;
    }

    /// Asks the socket for a sign of life; one that isn't up doesn't hear it.
    pub(super) fn ask_for_life(&self) {
        self.asks.send_replace(());
    }

    /// What a socket that is up hears of those who ask for a sign of life.
    pub(super) fn asks(&self) -> watch::Receiver<()> {
        self.asks.subscribe()
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, TransportError> {
        let mut deaths = self.deaths.subscribe();
        let mut response = core::pin::pin!(request.send());
        loop {
            tokio::select! {
                response = timeout(self.pace.late, &mut response) => match response {
                    Ok(response) => return response.map_err(|_| TransportError::Unreachable),
                    Err(_) => self.doubted.notify_waiters(),
                },
                _ = deaths.changed() => return Err(TransportError::Unreachable),
            }
        }
    }
}

/// Something large under way, which fills the line so that signs of life come late.
#[derive(Debug)]
pub(super) struct Load<'a>(&'a AtomicUsize);

impl<'a> Load<'a> {
    pub(super) fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
