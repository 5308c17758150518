//! The open plane's socket: follows logs, and appends to them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use corncrake_wire::frames::{About, Subscription};
use corncrake_wire::log::{Append, AppendReply};
use corncrake_wire::{AccessToken, ClientFrame, ErrorCode, LogId, Refusal, ServerFrame};
use tokio::sync::{mpsc, oneshot};

use super::Server;
use super::line::{Backoff, Line, Lost};
use crate::transport::{Plane, Push};

/// What the engine wants of this socket.
#[derive(Debug)]
pub(super) enum Order {
    Watch { token: AccessToken, after: u64 },
    Unwatch(LogId),
    Append { append: Append, answer: Answer },
}

/// Where the answer to an append goes; dropped if the socket ends before.
type Answer = oneshot::Sender<Result<AppendReply, Refusal>>;

/// Keeps the socket up until the transport is dropped.
pub(super) async fn keep_up(
    server: Arc<Server>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    pushes: mpsc::Sender<Push>,
) {
    let mut backoff = Backoff::new(server.pace);
    loop {
        let opened = match server.open_socket().await {
            Ok(request) => Line::open(request, server.pace).await,
            Err(_) => Err(Lost::default()),
        };
        let lost = match opened {
            Ok((line, hello)) => {
                backoff.reset();
                // What was ordered before is ordered again once the engine knows of the socket.
                while orders.try_recv().is_ok() {}
                let instance = hello.instance;
                let connected = Push::Connected { plane: Plane::Open, instance };
                server.open_is_up.store(true, Ordering::Relaxed);
                if pushes.send(connected).await.is_err() {
                    return;
                }
                let lost = Logs::new(line, &pushes).follow(&mut orders).await;
                server.open_is_up.store(false, Ordering::Relaxed);
                // Whoever waits for an append hears now that its outcome is unknown.
                while orders.try_recv().is_ok() {}
                if pushes.send(Push::Disconnected(Plane::Open)).await.is_err() {
                    return;
                }
                lost
            }
            Err(lost) => lost,
        };
        backoff.wait(&server, lost).await;
    }
}

/// The logs that one connection follows.
struct Logs<'a> {
    line: Line,
    pushes: &'a mpsc::Sender<Push>,
    by_id: HashMap<u32, LogId>,
    by_log: HashMap<LogId, u32>,
    next_id: u32,
    /// Appends without an answer.
    appends: HashMap<u32, Answer>,
    next_append: u32,
}

impl<'a> Logs<'a> {
    fn new(line: Line, pushes: &'a mpsc::Sender<Push>) -> Self {
        Self {
            line,
            pushes,
            by_id: HashMap::new(),
            by_log: HashMap::new(),
            next_id: 0,
            appends: HashMap::new(),
            next_append: 0,
        }
    }

    /// Carries orders out and frames in, until the connection ends.
    async fn follow(&mut self, orders: &mut mpsc::UnboundedReceiver<Order>) -> Lost {
        loop {
            let done = tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.carry_out(order).await,
                    None => Err(Lost::default()),
                },
                frame = self.line.next() => match frame {
                    Ok(frame) => self.take_in(frame).await,
                    Err(lost) => Err(lost),
                },
            };
            if let Err(lost) = done {
                return lost;
            }
        }
    }

    async fn carry_out(&mut self, order: Order) -> Result<(), Lost> {
        match order {
            Order::Unwatch(log) => self.forget(log).await,
            Order::Append { append, answer } => {
                let request = self.next_append;
                self.next_append = self.next_append.wrapping_add(1);
                self.appends.insert(request, answer);
                self.line.send(&ClientFrame::Append { request, append }).await
            }
            Order::Watch { token, after } => {
                let log = token.log_id();
                self.forget(log).await?;
                // A new id for each subscription tells its frames from those of the one before.
                let id = self.next_id;
                self.next_id = self.next_id.wrapping_add(1);
                self.by_id.insert(id, log);
                self.by_log.insert(log, id);
                let logs = vec![Subscription { id, token, after, running: None }];
                self.line.send(&ClientFrame::Subscribe { logs }).await
            }
        }
    }

    async fn forget(&mut self, log: LogId) -> Result<(), Lost> {
        let Some(id) = self.by_log.remove(&log) else {
            return Ok(());
        };
        self.by_id.remove(&id);
        self.line.send(&ClientFrame::Unsubscribe { id }).await
    }

    async fn take_in(&mut self, frame: ServerFrame) -> Result<(), Lost> {
        match frame {
            ServerFrame::Entries { id, entries, head } => {
                let Some(&log) = self.by_id.get(&id) else {
                    return Ok(());
                };
                let push = Push::Entries { log, entries, head };
                self.pushes.send(push).await.map_err(|_| Lost::default())
            }
            ServerFrame::AppendReply { request, result } => {
                if let Some(answer) = self.appends.remove(&request) {
                    // Whoever asked may have given up.
                    let _ = answer.send(result);
                }
                Ok(())
            }
            ServerFrame::Refused { about: About::Subscription(id), refusal } => {
                if !self.by_id.contains_key(&id) {
                    return Ok(());
                }
                if refusal.code == ErrorCode::TooManySubscriptions {
                    // A new connection would be told the same; the log can still be read.
                    let log = self.by_id.remove(&id);
                    log.and_then(|log| self.by_log.remove(&log));
                    return Ok(());
                }
                // A log that is silently not followed would be worse than a new connection.
                Err(refusal.into())
            }
            ServerFrame::Refused { about: About::Connection, refusal } => Err(refusal.into()),
            _ => Err(Lost::default()),
        }
    }
}
