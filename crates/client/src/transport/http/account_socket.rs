//! The account plane's socket: follows the own inbox.

use std::sync::Arc;

use corncrake_wire::{ClientFrame, ErrorCode, ServerFrame, SessionToken};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Server;
use super::line::{Backoff, Line, Lost};
use crate::transport::{Plane, Push};

/// The session to show, and the newest notice that the engine has.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) session: SessionToken,
    pub(super) after: u64,
}

/// How a connection ended.
enum End {
    Lost(Lost),
    /// The engine has another session.
    Renewed(Watch),
    SessionRefused,
    /// The transport has been dropped.
    Dropped,
}

/// Keeps the socket up, from the first watch on, until the transport is dropped.
pub(super) async fn keep_up(
    server: Arc<Server>,
    mut watches: mpsc::UnboundedReceiver<Watch>,
    pushes: mpsc::Sender<Push>,
) {
    let mut backoff = Backoff::new(server.pace);
    let Some(mut watch) = watches.recv().await else {
        return;
    };
    loop {
        let at = (&*server, &server.account);
        let end = match Line::open(server.account_socket(), at, backoff.pace()).await {
            Ok((line, hello)) => {
                let mut inbox = Inbox { line, pushes: &pushes, instance: Some(hello.instance) };
                let since = Instant::now();
                let end = inbox.follow(&mut watch, &mut watches).await;
                let is_up = inbox.instance.is_none();
                let lost = match end {
                    End::Lost(lost) => lost,
                    _ => Lost::default(),
                };
                if lost.is_silent {
                    server.account.renew(&server.base);
                }
                if is_up {
                    backoff.ended(since, lost, &server);
                    if pushes.send(Push::Disconnected(Plane::Account)).await.is_err() {
                        return;
                    }
                }
                end
            }
            Err(lost) => {
                if pushes.send(Push::Unreachable(Plane::Account)).await.is_err() {
                    return;
                }
                End::Lost(lost)
            }
        };
        match end {
            End::Lost(lost) => tokio::select! {
                () = backoff.wait(&server, lost) => {}
                newer = watches.recv() => match newer {
                    Some(newer) => watch = newer,
                    None => return,
                },
            },
            End::Renewed(newer) => watch = newer,
            End::SessionRefused => {
                if pushes.send(Push::SessionRefused).await.is_err() {
                    return;
                }
                match watches.recv().await {
                    Some(newer) => watch = newer,
                    None => return,
                }
            }
            End::Dropped => return,
        }
    }
}

/// One connection.
struct Inbox<'a> {
    line: Line<'a>,
    pushes: &'a mpsc::Sender<Push>,
    /// The server's database, until the session has been accepted and the engine told.
    instance: Option<[u8; 16]>,
}

impl Inbox<'_> {
    /// Shows the session, then pushes notices; `watch.after` keeps up with them.
    async fn follow(
        &mut self,
        watch: &mut Watch,
        watches: &mut mpsc::UnboundedReceiver<Watch>,
    ) -> End {
        let (session, shown) = (watch.session.clone(), watch.after);
        let first = ClientFrame::Authenticate { session, after: shown };
        if let Err(lost) = self.line.send(&first).await {
            return End::Lost(lost);
        }
        loop {
            let end = tokio::select! {
                newer = watches.recv() => match newer {
                    // Everything after its position comes, or has come, on this connection; but a
                    // database that was restored counts from an earlier one.
                    Some(newer) if newer.session == watch.session && newer.after >= shown => None,
                    Some(newer) => Some(End::Renewed(newer)),
                    None => Some(End::Dropped),
                },
                frame = self.line.next(|| ClientFrame::Ping(0), None) => match frame {
                    Ok(frame) => match self.take_in(frame, watch).await {
                        None => self.tell_life().await,
                        end => end,
                    },
                    Err(lost) => Some(End::Lost(lost)),
                },
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Tells that the server is there, if somebody has asked. Until the session has been accepted the
    /// engine doesn't take the socket for one that is up.
    async fn tell_life(&mut self) -> Option<End> {
        let is_told = self.line.take_ask() && self.instance.is_none();
        let told = !is_told || self.pushes.send(Push::Alive(Plane::Account)).await.is_ok();
        (!told).then_some(End::Dropped)
    }

    async fn take_in(&mut self, frame: ServerFrame, watch: &mut Watch) -> Option<End> {
        let notices = match frame {
            ServerFrame::Notices { notices } => notices,
            ServerFrame::Pong(_) => return None,
            ServerFrame::Refused { about: _, refusal } => {
                return Some(match refusal.code {
                    ErrorCode::SessionRequired
                    | ErrorCode::SessionExpired
                    | ErrorCode::DeviceRequired => End::SessionRefused,
                    _ => End::Lost(refusal.into()),
                });
            }
            _ => return Some(End::Lost(Lost::default())),
        };
        if let Some(instance) = self.instance.take() {
            let connected = Push::Connected { plane: Plane::Account, instance };
            if self.pushes.send(connected).await.is_err() {
                return Some(End::Dropped);
            }
        }
        if let Some(last) = notices.last() {
            watch.after = watch.after.max(last.position);
            if self.pushes.send(Push::Notices(notices)).await.is_err() {
                return Some(End::Dropped);
            }
        }
        None
    }
}
