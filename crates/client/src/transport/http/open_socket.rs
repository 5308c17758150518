//! The open plane's socket: follows logs, and appends to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use corncrake_wire::frames::About;
use corncrake_wire::log::{Append, AppendReply};
use corncrake_wire::{AccessToken, ClientFrame, LogId, Refusal, ServerFrame};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::Server;
use super::follows::Follows;
use super::line::{Backoff, Line, Lost};
use crate::transport::{Plane, Push};

/// What the engine wants of this socket.
#[derive(Debug)]
pub(super) enum Order {
    Watch { token: AccessToken, after: u64, running: Option<[u8; 32]> },
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
            Ok(request) => Line::open(request, (&*server, &server.open), backoff.pace()).await,
            Err(_) => Err(Lost::default()),
        };
        let lost = match opened {
            Ok((line, hello)) => {
                // What was ordered before is ordered again once the engine knows of the socket.
                while orders.try_recv().is_ok() {}
                let instance = hello.instance;
                let connected = Push::Connected { plane: Plane::Open, instance };
                server.open_is_up.store(true, Ordering::Relaxed);
                if pushes.send(connected).await.is_err() {
                    return;
                }
                let since = Instant::now();
                let mut logs = Logs::new(line, &pushes, hello.limits.subscriptions);
                let lost = logs.follow(&mut orders, &server).await;
                backoff.ended(since, lost, &server);
                if lost.is_silent {
                    server.open.renew(&server.base);
                }
                server.open_is_up.store(false, Ordering::Relaxed);
                // Whoever waits for an append hears now that its outcome is unknown.
                drop(logs);
                while orders.try_recv().is_ok() {}
                if pushes.send(Push::Disconnected(Plane::Open)).await.is_err() {
                    return;
                }
                lost
            }
            Err(lost) => {
                if pushes.send(Push::Unreachable(Plane::Open)).await.is_err() {
                    return;
                }
                lost
            }
        };
        backoff.wait(&server, lost).await;
    }
}

async fn hand_over(pushes: &mpsc::Sender<Push>, push: Push) -> Result<(), Lost> {
    pushes.send(push).await.map_err(|_| Lost::default())
}

/// One connection and the logs that it follows.
struct Logs<'a> {
    line: Line<'a>,
    pushes: &'a mpsc::Sender<Push>,
    follows: Follows,
    /// When logs change places that take turns.
    turn_at: Option<Instant>,
    /// Appends without an answer, and when they were sent.
    appends: BTreeMap<u32, (Answer, Instant)>,
    next_append: u32,
    /// Appends that have not been sent yet.
    to_send: Vec<ClientFrame>,
}

impl<'a> Logs<'a> {
    fn new(line: Line<'a>, pushes: &'a mpsc::Sender<Push>, subscriptions: u32) -> Self {
        Self {
            line,
            pushes,
            follows: Follows::new(subscriptions),
            turn_at: None,
            appends: BTreeMap::new(),
            next_append: 0,
            to_send: Vec::new(),
        }
    }

    /// Carries orders out and frames in, until the connection ends.
    async fn follow(
        &mut self,
        orders: &mut mpsc::UnboundedReceiver<Order>,
        server: &Server,
    ) -> Lost {
        loop {
            let alarm = [self.follows.due_at(), self.turn_at].into_iter().flatten().min();
            let follows = &self.follows;
            let waiting = self.appends.first_key_value().map(|(_, (_, sent))| *sent);
            let done = tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => {
                        self.carry_out(order);
                        // All that is ordered by now goes into the same frames.
                        while let Ok(order) = orders.try_recv() {
                            self.carry_out(order);
                        }
                        Ok(())
                    }
                    None => Err(Lost::default()),
                },
                frame = self.line.next(|| follows.check(), waiting) => match frame {
                    Ok(frame) => self.take_in(frame).await,
                    Err(lost) => Err(lost),
                },
                () = sleep_until(alarm.unwrap_or_else(Instant::now)), if alarm.is_some() => {
                    let now = Instant::now();
                    self.follows.come_back(now);
                    if self.turn_at.is_some_and(|at| at <= now) {
                        self.follows.turn();
                        self.turn_at = None;
                    }
                    Ok(())
                }
            };
            let done = match done {
                Ok(()) => self.speak(server).await,
                lost => lost,
            };
            if let Err(lost) = done {
                return lost;
            }
        }
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Unwatch(log) => self.follows.unwatch(&log),
            Order::Append { append, answer } => {
                let request = self.next_append;
                self.next_append = self.next_append.wrapping_add(1);
                self.appends.insert(request, (answer, Instant::now()));
                self.to_send.push(ClientFrame::Append { request, append });
            }
            Order::Watch { token, after, running } => self.follows.watch(token, after, running),
        }
    }

    /// Says what has to be said by now.
    async fn speak(&mut self, server: &Server) -> Result<(), Lost> {
        // Appends first: people wait for them.
        for frame in core::mem::take(&mut self.to_send) {
            self.line.send(&frame).await?;
        }
        let (frames, waiting) = self.follows.speak();
        for frame in frames {
            self.line.send(&frame).await?;
        }
        for log in waiting {
            hand_over(self.pushes, Push::TakesTurns(log)).await?;
        }
        if !self.follows.takes_turns() {
            self.turn_at = None;
        } else if self.turn_at.is_none() {
            self.turn_at = Some(Instant::now() + server.pace.turn);
        }
        Ok(())
    }

    async fn take_in(&mut self, frame: ServerFrame) -> Result<(), Lost> {
        match frame {
            ServerFrame::Entries { id, entries, head, running } => {
                for push in self.follows.entries_came(id, entries, head, running) {
                    hand_over(self.pushes, push).await?;
                }
            }
            ServerFrame::AppendReply { request, result } => {
                if let Some((answer, _)) = self.appends.remove(&request) {
                    // Whoever asked may have given up.
                    let _ = answer.send(result);
                }
            }
            ServerFrame::Differs { id, head } => {
                if let Some(push) = self.follows.differs(id, head) {
                    hand_over(self.pushes, push).await?;
                }
            }
            ServerFrame::Heads { heads } => self.follows.checked(&heads),
            ServerFrame::Refused { about: About::Subscription(id), refusal } => {
                if let Some(log) = self.follows.refused(id, refusal, Instant::now()) {
                    hand_over(self.pushes, Push::TakesTurns(log)).await?;
                }
            }
            ServerFrame::Refused { about: About::Connection, refusal } => {
                return Err(refusal.into());
            }
            ServerFrame::Pong(_) => {}
            _ => return Err(Lost::default()),
        }
        if self.line.take_ask() {
            hand_over(self.pushes, Push::Alive(Plane::Open)).await?;
        }
        Ok(())
    }
}
