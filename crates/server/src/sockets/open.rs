//! The open plane's socket: appends, and logs that are followed.
//!
//! A subscription first reads pages until it stands at the head, then takes pushes. A push that
//! doesn't continue where it stands, or that was lost, makes it read pages again; so nothing is
//! left out and nothing comes twice, however slow the other side is.

use std::{
    collections::{HashMap, VecDeque},
    pin::pin,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use corncrake_wire::{
    ClientFrame, ErrorCode, LogId, Refusal, ServerFrame,
    frames::About,
    limits,
    log::{Append, AppendReply, ReadReply},
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::interval};

use super::{
    Connection, Heard, Over, STOPPING, TICK,
    subscription::{Pushed, Subscription},
};
use crate::{
    Error, Origin, State,
    logs::{self, Follower, Push},
    routes::carry_out,
};

/// Appends and pages of one connection that are under way at most.
const UNDER_WAY: usize = 64;
/// Pages of one connection that are read at once.
const PAGES: usize = 4;
/// Pushes that wait for a connection at most.
const PUSHES: usize = 256;
/// Things that are done before what was said is flushed.
const BURST: usize = 64;

/// Why a connection ends.
enum End {
    Over,
    Refused(Refusal),
}

impl From<Over> for End {
    fn from(_: Over) -> Self {
        Self::Over
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Something that was under way and has come to its end.
enum Done {
    Append(u32, Result<AppendReply, Error>),
    Page(u32, u64, Result<Option<ReadReply>, Error>),
}

struct Open {
    state: Arc<State>,
    origin: Origin,
    connection: Connection,
    number: u64,
    subscriptions: HashMap<u32, Subscription>,
    serial: u64,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Subscriptions that want a page, with their serial numbers.
    wanting: VecDeque<(u32, u64)>,
    pages: usize,
    pushes: mpsc::Sender<Push>,
    missed: Arc<Mutex<Vec<u32>>>,
}

/// Serves a connection to its end.
pub(super) async fn run(state: Arc<State>, origin: Origin, connection: Connection) {
    let (pushes, mut pushed) = mpsc::channel(PUSHES);
    let number = state.connections.fetch_add(1, Ordering::Relaxed);
    let mut open = Open {
        state,
        origin,
        connection,
        number,
        subscriptions: HashMap::new(),
        serial: 0,
        under_way: FuturesUnordered::new(),
        wanting: VecDeque::new(),
        pages: 0,
        pushes,
        missed: Arc::default(),
    };
    let end = open.serve(&mut pushed).await;
    for (id, subscription) in &open.subscriptions {
        open.state.live.unfollow(&subscription.log, number, *id);
    }
    if let End::Refused(refusal) = end {
        open.connection.refuse(refusal).await;
    }
}

impl Open {
    async fn serve(&mut self, pushed: &mut mpsc::Receiver<Push>) -> End {
        match self.turns(pushed).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn turns(
        &mut self,
        pushed: &mut mpsc::Receiver<Push>,
    ) -> Result<std::convert::Infallible, End> {
        let mut ticks = interval(TICK);
        let state = Arc::clone(&self.state);
        let mut stopping = pin!(state.stopping());
        self.connection.hello(&state).await?;
        loop {
            tokio::select! {
                heard = self.connection.hear(), if self.under_way.len() < UNDER_WAY => {
                    self.handle(heard).await?;
                }
                Some(done) = self.under_way.next(), if !self.under_way.is_empty() => {
                    self.finish(done).await?;
                }
                Some(push) = pushed.recv() => self.pass_on(push).await?,
                _ = ticks.tick() => self.connection.tick().await?,
                () = &mut stopping => return Err(STOPPING.into()),
            }
            // What is ready by now goes out with the same flush.
            for _ in 0..BURST {
                if let Some(Some(done)) = self.under_way.next().now_or_never() {
                    self.finish(done).await?;
                } else if let Ok(push) = pushed.try_recv() {
                    self.pass_on(push).await?;
                } else {
                    break;
                }
            }
            self.look_for_missed();
            self.read_pages();
            self.connection.flush().await?;
        }
    }

    async fn handle(&mut self, heard: Heard) -> Result<(), End> {
        let frame = match heard {
            Heard::Frame(frame) => *frame,
            Heard::Life => return Ok(()),
            Heard::Bad(code) => return Err(Refusal::from(code).into()),
            Heard::Gone => return Err(End::Over),
        };
        let rated = self.state.rates.request(self.origin);
        match frame {
            ClientFrame::Append { request, append } => match rated {
                Ok(()) => self.append(request, append),
                Err(refusal) => {
                    let result = Err(refusal);
                    self.connection.feed(&ServerFrame::AppendReply { request, result }).await?;
                }
            },
            ClientFrame::Subscribe { id, token, after } => {
                self.unsubscribe(id);
                let full = self.subscriptions.len() >= limits::SUBSCRIPTIONS;
                let room = if full { Err(ErrorCode::TooManySubscriptions.into()) } else { rated };
                match room {
                    Ok(()) => self.subscribe(id, token.log_id(), after),
                    Err(refusal) => {
                        let about = About::Subscription(id);
                        self.connection.feed(&ServerFrame::Refused { about, refusal }).await?;
                    }
                }
            }
            ClientFrame::Unsubscribe { id } => {
                rated?;
                self.unsubscribe(id);
            }
            ClientFrame::Ping(number) => {
                rated?;
                self.connection.feed(&ServerFrame::Pong(number)).await?;
            }
            ClientFrame::Pong(_) => rated?,
            ClientFrame::Authenticate { .. } => {
                return Err(Refusal::from(ErrorCode::CredentialsRefused).into());
            }
        }
        Ok(())
    }

    fn append(&self, request: u32, append: Append) {
        let (state, origin) = (Arc::clone(&self.state), self.origin);
        let done = async move { Done::Append(request, carry_out(&state, origin, append).await) };
        self.under_way.push(done.boxed());
    }

    fn subscribe(&mut self, id: u32, log: LogId, after: u64) {
        self.serial += 1;
        let subscription = Subscription::new(self.serial, log, after);
        self.subscriptions.insert(id, subscription);
        self.wanting.push_back((id, self.serial));
        // First follow, then read: what comes in between is known of at least.
        self.state.live.follow(
            log,
            Follower {
                connection: self.number,
                subscription: id,
                pushes: self.pushes.clone(),
                missed: Arc::clone(&self.missed),
            },
        );
    }

    fn unsubscribe(&mut self, id: u32) {
        if let Some(subscription) = self.subscriptions.remove(&id) {
            self.state.live.unfollow(&subscription.log, self.number, id);
        }
    }

    /// Starts reading pages for subscriptions that want one.
    fn read_pages(&mut self) {
        while self.pages < PAGES
            && let Some((id, serial)) = self.wanting.pop_front()
        {
            let subscription = self.subscriptions.get_mut(&id).filter(|s| s.serial == serial);
            let Some(subscription) = subscription else {
                continue;
            };
            let log = subscription.log;
            let after = subscription.begin_page();
            let state = Arc::clone(&self.state);
            let page = async move {
                let limit = limits::PAGE_ENTRIES;
                let page = logs::page(&state.readers, &state.memory, &log, after, limit).await;
                Done::Page(id, serial, page)
            };
            self.under_way.push(page.boxed());
            self.pages += 1;
        }
    }

    /// Makes subscriptions read whose pushes had no room.
    fn look_for_missed(&mut self) {
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        for id in missed.drain(..) {
            if let Some(subscription) = self.subscriptions.get_mut(&id)
                && subscription.push_was_lost()
            {
                self.wanting.push_back((id, subscription.serial));
            }
        }
    }

    async fn finish(&mut self, done: Done) -> Result<(), End> {
        match done {
            Done::Append(request, result) => {
                let result = result.map_err(|error| error.refusal());
                self.connection.feed(&ServerFrame::AppendReply { request, result }).await?;
            }
            Done::Page(id, serial, page) => {
                self.pages -= 1;
                let page = page.map_err(|error| error.refusal())?;
                self.take_page(id, serial, page).await?;
            }
        }
        Ok(())
    }

    async fn take_page(
        &mut self,
        id: u32,
        serial: u64,
        page: Option<ReadReply>,
    ) -> Result<(), Over> {
        let subscription = self.subscriptions.get_mut(&id).filter(|s| s.serial == serial);
        let Some(subscription) = subscription else {
            return Ok(());
        };
        let (page, again) = subscription.page_came(page);
        if again {
            self.wanting.push_back((id, serial));
        }
        match page {
            Some(ReadReply { entries, head }) => {
                self.connection.feed(&ServerFrame::Entries { id, entries, head }).await
            }
            None => Ok(()),
        }
    }

    async fn pass_on(&mut self, push: Push) -> Result<(), Over> {
        let Push { subscription: id, entries, head } = push;
        let Some(subscription) = self.subscriptions.get_mut(&id) else {
            return Ok(());
        };
        match subscription.push_came(&entries, head) {
            Pushed::Nothing => Ok(()),
            Pushed::Entries(entries) => {
                self.connection.feed(&ServerFrame::Entries { id, entries, head }).await
            }
            Pushed::Page => {
                self.wanting.push_back((id, subscription.serial));
                Ok(())
            }
        }
    }
}
