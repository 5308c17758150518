//! The open plane's socket: appends, and logs that are followed.
//!
//! A subscription first reads pages until it stands at the head, then takes pushes. A push that
//! doesn't continue where it stands, or that was lost, makes it read pages again; so nothing is
//! left out and nothing comes twice, however slow the other side is. A check of heads looks for
//! what may have been lost all the same, and is answered when everything has been sent.

use std::{
    collections::{HashMap, VecDeque},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use corncrake_wire::{
    ClientFrame, ErrorCode, LogId, Refusal, ServerFrame,
    frames::{self, About, heads_digest},
    limits,
    log::{Append, AppendReply, ReadReply},
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Duration, Instant, interval, sleep_until},
};

use super::{
    Connection, Heard, Over, STOPPING, TICK,
    subscription::{Pushed, Running, Subscription},
};
use crate::{
    Error, Origin, State,
    budget::Share,
    logs::{Follower, Push},
    routes::{carry_out, page},
};

/// Logs of one subscribing frame that cost as much as a request.
const LOGS_PER_REQUEST: usize = 16;
/// Appends and pages of one connection that are under way at most.
const UNDER_WAY: usize = 64;
/// Pages of one connection that are read at once.
const PAGES: usize = 4;
/// Pushes that wait for a connection at most.
const PUSHES: usize = 256;
/// Things that are done before what was said is flushed.
const BURST: usize = 64;

/// An append that is refused holds its share of the budget a while longer, a millisecond for so
/// many bytes, and nothing more is read of its connection: what its address goes on sending waits
/// at its own side and takes no time from others.
const REFUSED_BYTES_PER_MS: u64 = 1024;
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

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
    Append(u32, Result<(AppendReply, Option<Share>), Error>),
    Page(u32, u64, Result<(Found, Option<Share>), Error>),
}

/// What was found behind a subscription's position.
enum Found {
    Page {
        page: Option<ReadReply>,
        /// The running hash before it, if the other side is to be told.
        running: Option<[u8; 32]>,
    },
    /// The log isn't the one that the other side has read; its newest position.
    Another(u64),
}

struct Open {
    state: Arc<State>,
    origin: Origin,
    connection: Connection,
    /// Until when nothing is read, and what is held meanwhile.
    paused: Option<(Instant, Share)>,
    number: u64,
    subscriptions: HashMap<u32, Subscription>,
    serial: u64,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Subscriptions that want a page, with their serial numbers.
    wanting: VecDeque<(u32, u64)>,
    pages: usize,
    /// A check of heads that has no answer yet.
    check: Option<[u8; 32]>,
    pushes: mpsc::Sender<Push>,
    /// Bytes of the pushes that wait.
    queued: Arc<AtomicUsize>,
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
        paused: None,
        number,
        subscriptions: HashMap::new(),
        serial: 0,
        under_way: FuturesUnordered::new(),
        wanting: VecDeque::new(),
        pages: 0,
        check: None,
        pushes,
        queued: Arc::default(),
        missed: Arc::default(),
    };
    let end = open.serve(&mut pushed).await;
    for (id, subscription) in &open.subscriptions {
        open.state.logs.live().unfollow(&subscription.log, number, *id);
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
        self.connection.hello(state.logs.instance()).await?;
        loop {
            tokio::select! {
                heard = self.connection.hear(), if self.hears() => {
                    self.handle(heard).await?;
                    // What came with it is stored with it.
                    for _ in 0..BURST {
                        if !self.hears() {
                            break;
                        }
                        let Some(heard) = self.connection.hear().now_or_never() else { break };
                        self.handle(heard).await?;
                    }
                }
                () = until(self.paused.as_ref().map(|(end, _)| *end)) => self.paused = None,
                Some(done) = self.under_way.next(), if !self.under_way.is_empty() => {
                    self.finish(done).await?;
                }
                Some(push) = pushed.recv() => self.pass_on(push).await?,
                _ = ticks.tick() => {
                    if !self.hears() {
                        self.connection.rest();
                    }
                    self.connection.tick().await?;
                }
                () = &mut stopping => {
                    self.end_appends().await?;
                    return Err(STOPPING.into());
                }
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
            if pushed.is_empty() && self.pages == 0 {
                self.answer_check().await?;
            }
            self.connection.flush().await?;
        }
    }

    fn hears(&self) -> bool {
        self.under_way.len() < UNDER_WAY && self.paused.is_none()
    }

    /// Reads nothing for a while: an append of so many bytes was refused.
    fn pause(&mut self, bytes: u64, share: Share) {
        let pause = Duration::from_millis(bytes / REFUSED_BYTES_PER_MS).min(LONGEST_PAUSE);
        if pause > Duration::ZERO {
            self.paused = Some((Instant::now() + pause, share));
        }
    }

    /// Answers the appends that are under way, of which each may be stored already.
    async fn end_appends(&mut self) -> Result<(), End> {
        while self.under_way.len() > self.pages
            && let Some(done) = self.under_way.next().await
        {
            self.finish(done).await?;
        }
        Ok(())
    }

    async fn handle(&mut self, heard: Heard) -> Result<(), End> {
        let (frame, share) = match heard {
            Heard::Frame(frame, share) => (*frame, share),
            Heard::Life => return Ok(()),
            Heard::Bad(refusal) => return Err(refusal.into()),
            Heard::Gone => return Err(End::Over),
        };
        let rated = self.state.rates.request(self.origin);
        match frame {
            ClientFrame::Append { request, append } => {
                self.connection.trust();
                let bytes = append.bytes();
                let rated = rated.and_then(|()| self.state.rates.write(self.origin, bytes));
                match rated {
                    Ok(()) => self.append(request, append, share),
                    Err(refusal) => {
                        self.pause(u64::try_from(bytes).unwrap_or(u64::MAX), share);
                        let result = Err(refusal);
                        self.connection.feed(&ServerFrame::AppendReply { request, result }).await?;
                    }
                }
                self.connection.count(rated)?;
            }
            ClientFrame::Subscribe { logs } if logs.len() > limits::SUBSCRIBE => {
                return Err(Refusal::from(ErrorCode::TooLarge).into());
            }
            ClientFrame::Subscribe { logs } => {
                self.connection.trust();
                self.subscribe_all(logs, rated).await?;
                self.connection.count(rated)?;
            }
            ClientFrame::CheckHeads { digest } => {
                rated?;
                self.begin_check(digest);
            }
            ClientFrame::Unsubscribe { ids } => {
                rated?;
                ids.into_iter().for_each(|id| self.unsubscribe(id));
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

    fn append(&self, request: u32, append: Append, share: Share) {
        let (state, origin) = (Arc::clone(&self.state), self.origin);
        let done =
            async move { Done::Append(request, carry_out(&state, origin, append, share).await) };
        self.under_way.push(done.boxed());
    }

    /// Subscribes to as many logs as the rate allows; each other one is refused by itself.
    async fn subscribe_all(
        &mut self,
        logs: Vec<frames::Subscription>,
        mut rated: Result<(), Refusal>,
    ) -> Result<(), Over> {
        for (number, asked) in logs.into_iter().enumerate() {
            self.unsubscribe(asked.id);
            if number > 0 && number.is_multiple_of(LOGS_PER_REQUEST) && rated.is_ok() {
                rated = self.state.rates.request(self.origin);
            }
            let full = self.subscriptions.len() >= limits::SUBSCRIPTIONS;
            let room = if full { Err(ErrorCode::TooManySubscriptions.into()) } else { rated };
            match room {
                Ok(()) => self.subscribe(&asked),
                Err(refusal) => {
                    let about = About::Subscription(asked.id);
                    self.connection.feed(&ServerFrame::Refused { about, refusal }).await?;
                }
            }
        }
        Ok(())
    }

    fn subscribe(&mut self, asked: &frames::Subscription) {
        let (id, log) = (asked.id, asked.token.log_id());
        self.serial += 1;
        let mut subscription = Subscription::new(self.serial, log, asked.after);
        if let Some(running) = asked.running {
            subscription.running = Running::Check(running);
        }
        self.subscriptions.insert(id, subscription);
        self.wanting.push_back((id, self.serial));
        // First follow, then read: what comes in between is known of at least.
        self.state.logs.live().follow(
            log,
            Follower {
                connection: self.number,
                subscription: id,
                pushes: self.pushes.clone(),
                queued: Arc::clone(&self.queued),
                missed: Arc::clone(&self.missed),
            },
        );
    }

    fn unsubscribe(&mut self, id: u32) {
        if let Some(subscription) = self.subscriptions.remove(&id) {
            self.state.logs.live().unfollow(&subscription.log, self.number, id);
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
            let running = core::mem::replace(&mut subscription.running, Running::Done);
            let (state, origin) = (Arc::clone(&self.state), self.origin);
            let page = async move {
                Done::Page(id, serial, look_behind(&state, origin, (&log, after), running).await)
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

    /// Makes subscriptions read that are behind, whatever was pushed.
    fn begin_check(&mut self, digest: [u8; 32]) {
        self.check = Some(digest);
        for (id, subscription) in &mut self.subscriptions {
            let head = self.state.logs.head_in_memory(&subscription.log);
            if subscription.is_behind(head) && subscription.push_was_lost() {
                self.wanting.push_back((*id, subscription.serial));
            }
        }
    }

    async fn answer_check(&mut self) -> Result<(), Over> {
        let Some(digest) = self.check.take() else {
            return Ok(());
        };
        let all = self.subscriptions.values().map(|s| (s.log, s.head));
        let heads = if heads_digest(all) == digest {
            Vec::new()
        } else {
            self.subscriptions.iter().map(|(id, s)| (*id, s.head)).collect()
        };
        self.connection.feed(&ServerFrame::Heads { heads }).await
    }

    async fn finish(&mut self, done: Done) -> Result<(), End> {
        match done {
            Done::Append(request, result) => {
                let (result, _share) = match result {
                    Ok((reply, share)) => (Ok(reply), share),
                    Err(error) => (Err(error.refusal()), None),
                };
                self.connection.feed(&ServerFrame::AppendReply { request, result }).await?;
            }
            Done::Page(id, serial, page) => {
                self.pages -= 1;
                let is_current = self.subscriptions.get(&id).is_some_and(|s| s.serial == serial);
                let (found, _share) = match page {
                    Ok(found) => found,
                    Err(error) if is_current => {
                        self.unsubscribe(id);
                        let (about, refusal) = (About::Subscription(id), error.refusal());
                        self.connection.feed(&ServerFrame::Refused { about, refusal }).await?;
                        return Ok(());
                    }
                    Err(_) => return Ok(()),
                };
                match found {
                    Found::Page { page, running } => {
                        self.take_page((id, serial), page, running).await?;
                    }
                    Found::Another(head) => {
                        if is_current {
                            self.unsubscribe(id);
                            self.connection.feed(&ServerFrame::Differs { id, head }).await?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    async fn take_page(
        &mut self,
        (id, serial): (u32, u64),
        page: Option<ReadReply>,
        running: Option<[u8; 32]>,
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
            Some(page) => self.connection.entries(id, page, running).await,
            None => Ok(()),
        }
    }

    async fn pass_on(&mut self, push: Push) -> Result<(), Over> {
        let Push { subscription: id, entries, head } = push;
        let bytes = entries.iter().map(|entry| entry.bytes.len()).sum();
        self.queued.fetch_sub(bytes, Ordering::AcqRel);
        let Some(subscription) = self.subscriptions.get_mut(&id) else {
            return Ok(());
        };
        match subscription.push_came(&entries, head) {
            Pushed::Nothing => Ok(()),
            Pushed::Entries(entries) => {
                self.connection.entries(id, ReadReply { entries, head }, None).await
            }
            Pushed::Page => {
                self.wanting.push_back((id, subscription.serial));
                Ok(())
            }
        }
    }
}

/// Waits until then; for ever, if there is no time.
async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// Reads the page after a position, if the log is the one that the other side has read up to there.
async fn look_behind(
    state: &State,
    origin: Origin,
    (log, after): (&LogId, u64),
    running: Running,
) -> Result<(Found, Option<Share>), Error> {
    let found = match running {
        Running::Done => None,
        _ => state.logs.running_at(log, after).await?,
    };
    if let Running::Check(claimed) = running
        && found != Some(claimed)
    {
        let page = state.logs.page(log, u64::MAX >> 1, 1).await?;
        return Ok((Found::Another(page.map_or(0, |page| page.head)), None));
    }
    let (page, share) = page(state, origin, log, after, limits::PAGE_ENTRIES).await?;
    let running = found.filter(|_| running == Running::Tell);
    Ok((Found::Page { page, running }, Some(share)))
}
