//! One device's line to the server: its requests, its two sockets, what it watches.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

use corncrake::transport::{Plane, Push, Transport, TransportError};
use corncrake_wire::{
    AccessToken, AccountReply, AccountRequest, LogId, OpenReply, OpenRequest, SessionToken,
    log::RUNNING_START,
};

use crate::{
    crash::Crasher,
    network::Network,
    server::{Server, logs::Log},
};

/// The line of one start of one device; clones are handles to the same one.
#[derive(Clone)]
pub(crate) struct Link(Rc<Inner>);

struct Inner {
    name: String,
    network: Network,
    server: RefCell<Rc<RefCell<Server>>>,
    crasher: Rc<Crasher>,
    cut: Cell<bool>,
    /// The device has started anew, over another line.
    over: Cell<bool>,
    queue: RefCell<VecDeque<Push>>,
    reader: RefCell<Option<Waker>>,
    open: Socket,
    account: Socket,
    session: RefCell<Option<(SessionToken, Option<Watch>)>>,
    watches: RefCell<BTreeMap<LogId, Subscription>>,
    /// Counts subscriptions and appends.
    serial: Cell<u64>,
    /// Who waits for what became of an append; forgotten with the socket that carried it.
    asked: RefCell<BTreeMap<u64, Answer>>,
    /// Whether a look at what may be missing is to come.
    checks: Cell<bool>,
}

/// Where the answer to an append goes.
pub(crate) type Answer = tokio::sync::oneshot::Sender<Result<Vec<u8>, TransportError>>;

/// What travels over a socket towards the device.
#[derive(Clone)]
enum Frame {
    Push(Push),
    Answer(u64, Result<Vec<u8>, TransportError>),
}

#[derive(Default)]
struct Socket {
    up: Cell<bool>,
    /// Counts how often the socket came up; frames of an earlier time are lost.
    time: Cell<u64>,
    /// Frames vanish, and nobody has noticed yet.
    dead: Cell<bool>,
    /// When the newest frame arrives; later frames arrive later.
    newest: Cell<u64>,
    /// Likewise, towards the server.
    newest_up: Cell<u64>,
}

/// The inbox that is watched.
struct Watch {
    /// The newest position sent.
    sent: u64,
    /// Whether a frame is due even with nothing new in it.
    greet: bool,
}

/// A log that is watched. The server reads a page and delivers it later; what is appended in
/// between may or may not be in it.
struct Subscription {
    /// Tells subscriptions of one log apart.
    serial: u64,
    /// The newest position sent.
    sent: u64,
    /// The newest position that has arrived.
    read: u64,
    /// The running hash up to where it begins, as far as the device knows it.
    running: Option<[u8; 32]>,
    /// Whether a page is being read.
    reading: bool,
    /// The newest head that was heard of since the page was begun.
    heard: u64,
    /// Whether nothing has been sent yet.
    greet: bool,
}

/// How long it is quiet before a device looks whether it has everything.
const CHECK: u64 = 25_000;

impl Subscription {
    fn new(serial: u64, after: u64, running: Option<[u8; 32]>) -> Self {
        let (sent, read) = (after, after);
        Self { serial, sent, read, running, reading: true, heard: 0, greet: true }
    }

    /// What is said before the first page.
    fn begins(&self, log: LogId, held: Option<&Log>) -> Option<Push> {
        if !self.greet {
            return None;
        }
        let there = match held {
            Some(held) => held.running_at(self.sent),
            None => (self.sent == 0).then_some(RUNNING_START),
        };
        let (position, head) = (self.sent, held.map_or(0, |held| held.head()));
        match (self.running, there) {
            (Some(known), there) if there != Some(known) => Some(Push::Differs { log, head }),
            (None, Some(running)) => Some(Push::Running { log, position, running }),
            _ => None,
        }
    }
}

impl Link {
    pub(crate) fn new(
        name: &str,
        network: &Network,
        server: Rc<RefCell<Server>>,
        crasher: Rc<Crasher>,
    ) -> Self {
        let link = Self(Rc::new(Inner {
            name: name.to_owned(),
            network: network.clone(),
            server: RefCell::new(server),
            crasher,
            cut: Cell::new(false),
            over: Cell::new(false),
            queue: RefCell::default(),
            reader: RefCell::default(),
            open: Socket::default(),
            account: Socket::default(),
            session: RefCell::default(),
            watches: RefCell::default(),
            serial: Cell::new(0),
            asked: RefCell::default(),
            checks: Cell::new(false),
        }));
        network.connect(link.clone());
        link.dial(Plane::Open);
        link
    }

    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    /// Ends the line for good.
    pub(crate) fn retire(&self) {
        self.0.over.set(true);
        for plane in [Plane::Open, Plane::Account] {
            self.socket(plane).up.set(false);
        }
        self.0.asked.borrow_mut().clear();
    }

    pub(crate) fn server(&self) -> Rc<RefCell<Server>> {
        self.0.server.borrow().clone()
    }

    /// Talks to another server from now on, over new sockets.
    pub(crate) fn set_server(&self, server: Rc<RefCell<Server>>) {
        *self.0.server.borrow_mut() = server;
        self.0.network.disturb();
        self.hang_up_all();
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.0.cut.get()
    }

    /// Cuts the device off from the server, or lets it back.
    pub(crate) fn set_cut(&self, cut: bool) {
        self.0.network.disturb();
        if self.0.cut.replace(cut) != cut && cut {
            self.hang_up_all();
        }
    }

    /// Takes both sockets down; they come back by themselves.
    pub(crate) fn hang_up_all(&self) {
        self.hang_up(Plane::Open);
        self.hang_up(Plane::Account);
    }

    /// Notices that sockets are dead.
    pub(crate) fn hang_up_if_dead(&self) {
        for plane in [Plane::Open, Plane::Account] {
            if self.socket(plane).dead.get() {
                self.hang_up(plane);
            }
        }
    }

    /// Whether appends can travel over the open plane's socket.
    pub(crate) fn is_open(&self) -> bool {
        self.0.open.up.get()
    }

    /// Sends an append over the open plane's socket: `carry_out` runs when it has arrived. The
    /// answer comes in order with the pushes, or never if the socket goes down before.
    pub(crate) fn append(&self, answer: Answer, carry_out: impl FnOnce(&Self, u64) + 'static) {
        let number = self.fresh_serial();
        self.0.asked.borrow_mut().insert(number, answer);
        self.say(move |link| carry_out(link, number));
    }

    /// Answers an append over the socket.
    pub(crate) fn answer(&self, number: u64, reply: Result<Vec<u8>, TransportError>) {
        self.send(Plane::Open, move || vec![Frame::Answer(number, reply)]);
    }

    /// The open plane's socket dies; it is noticed within a minute.
    pub(crate) fn die(&self, plane: Plane) {
        let socket = self.socket(plane);
        if socket.up.get() && !socket.dead.replace(true) {
            self.0.network.trace().note(self.name(), format!("× {} dies", name_of(plane)));
            self.hang_up_after(plane, self.0.network.between(1000, 60_000));
        }
    }

    fn fresh_serial(&self) -> u64 {
        self.0.serial.set(self.0.serial.get() + 1);
        self.0.serial.get()
    }

    /// Sends something to the server over the open plane's socket, in order.
    fn say(&self, arrive: impl FnOnce(&Self) + 'static) {
        self.say_on(Plane::Open, arrive);
    }

    fn say_on(&self, plane: Plane, arrive: impl FnOnce(&Self) + 'static) {
        let (network, socket) = (&self.0.network, self.socket(plane));
        let at = (network.executor().now() + network.delay()).max(socket.newest_up.get() + 1);
        socket.newest_up.set(at);
        let (link, time) = (self.clone(), socket.time.get());
        network.executor().spawn(async move {
            link.0.network.executor().sleep_until(at).await;
            let socket = link.socket(plane);
            if socket.up.get() && socket.time.get() == time && !socket.dead.get() {
                arrive(&link);
            }
        });
    }

    /// Pushes what is new in a log, if it is watched.
    pub(crate) fn send_entries(&self, log: LogId) {
        let server = self.server();
        let server = server.borrow();
        let head = server.logs.get(&log).map_or(0, |held| held.head());
        let mut watches = self.0.watches.borrow_mut();
        let Some(watch) = watches.get_mut(&log) else {
            return;
        };
        self.check_later();
        watch.heard = watch.heard.max(head);
        if watch.reading || head <= watch.sent {
            return;
        }
        let entries = server.logs[&log].page(watch.sent, usize::MAX);
        watch.sent = head;
        drop(watches);
        self.send(Plane::Open, move || vec![Frame::Push(Push::Entries { log, entries, head })]);
    }

    /// Reads pages of a log, and delivers each a little later, until nothing more is known of.
    fn read_pages(&self, log: LogId, serial: u64) {
        let link = self.clone();
        let executor = self.0.network.executor().clone();
        executor.clone().spawn(async move {
            loop {
                let Some(after) = link.with_watch(log, serial, |watch| {
                    watch.heard = 0;
                    watch.sent
                }) else {
                    return;
                };
                executor.sleep(link.0.network.between(0, 4)).await;
                let (first, entries, head) = {
                    let server = link.server();
                    let server = server.borrow();
                    let held = server.logs.get(&log);
                    let first = link.with_watch(log, serial, |watch| watch.begins(log, held));
                    let entries = held.map(|held| held.page(after, server.page));
                    let head = held.map_or(0, |held| held.head());
                    (first.flatten(), entries.unwrap_or_default(), head)
                };
                executor.sleep(link.0.network.between(0, 4)).await;
                let forgets = link.0.network.forgets_pushes();
                let Some((says, again)) = link.with_watch(log, serial, |watch| {
                    let mut known = if forgets { 0 } else { watch.heard };
                    if let Some(newest) = entries.last() {
                        watch.sent = newest.position;
                        known = known.max(head);
                    }
                    watch.reading = known > watch.sent;
                    let says = std::mem::take(&mut watch.greet) || !entries.is_empty();
                    (says, watch.reading)
                }) else {
                    return;
                };
                if let Some(first) = first {
                    let differs = matches!(first, Push::Differs { .. });
                    link.send(Plane::Open, move || vec![Frame::Push(first)]);
                    if differs {
                        link.0.watches.borrow_mut().remove(&log);
                        return;
                    }
                }
                if says {
                    let push = Push::Entries { log, entries, head };
                    link.send(Plane::Open, move || vec![Frame::Push(push)]);
                }
                if !again {
                    return;
                }
            }
        });
    }

    fn with_watch<T>(
        &self,
        log: LogId,
        serial: u64,
        work: impl FnOnce(&mut Subscription) -> T,
    ) -> Option<T> {
        let mut watches = self.0.watches.borrow_mut();
        watches.get_mut(&log).filter(|watch| watch.serial == serial).map(work)
    }

    /// Pushes what is new in the inbox.
    pub(crate) fn send_notices(&self) {
        if self.0.session.borrow().is_none() {
            return;
        }
        let link = self.clone();
        self.send(Plane::Account, move || {
            let mut session = link.0.session.borrow_mut();
            let Some((token, Some(watch))) = session.as_mut() else {
                return Vec::new();
            };
            let server = link.server();
            let server = server.borrow();
            let now = link.0.network.executor().now() / 1000;
            let Some(device) = server.session_device(now, token) else {
                return Vec::new();
            };
            let inbox = server.devices.get(&device).map(|device| &server.inboxes[&device.inbox]);
            let notices = inbox.map(|inbox| inbox.above(watch.sent)).unwrap_or_default();
            watch.sent = notices.last().map_or(watch.sent, |notice| notice.position);
            let says = std::mem::take(&mut watch.greet) || !notices.is_empty();
            if says { vec![Frame::Push(Push::Notices(notices))] } else { Vec::new() }
        });
    }

    /// Sends frames over a socket: they are made when they arrive.
    fn send(&self, plane: Plane, frames: impl FnOnce() -> Vec<Frame> + 'static) {
        let network = &self.0.network;
        let socket = self.socket(plane);
        if !socket.up.get() || socket.dead.get() {
            return;
        }
        let faults = network.faults();
        if network.hit(faults.lose_push) {
            return self.die(plane);
        }
        if network.hit(faults.hang_up) {
            self.hang_up_after(plane, network.delay());
        }
        let repeats = network.hit(faults.repeat_push);
        let now = network.executor().now();
        let at = (now + network.delay()).max(socket.newest.get() + 1);
        socket.newest.set(at);
        let (link, time) = (self.clone(), socket.time.get());
        network.executor().spawn(async move {
            let executor = link.0.network.executor();
            executor.sleep_until(at).await;
            let socket = link.socket(plane);
            let lives = || socket.up.get() && socket.time.get() == time && !socket.dead.get();
            if !lives() {
                return;
            }
            let frames = frames();
            frames.iter().cloned().for_each(|frame| link.arrive(frame));
            if repeats {
                executor.sleep(link.0.network.delay()).await;
                if lives() {
                    frames.into_iter().for_each(|frame| link.arrive(frame));
                }
            }
        });
    }

    fn arrive(&self, frame: Frame) {
        match frame {
            Frame::Push(push) => {
                let push = self.0.network.arrives(self.name(), push);
                push.into_iter().for_each(|push| self.push(push));
            }
            Frame::Answer(number, reply) => {
                if let Some(answer) = self.0.asked.borrow_mut().remove(&number) {
                    // Whoever asked may have crashed.
                    let _ = answer.send(reply);
                }
            }
        }
    }

    fn subscribe(&self, log: LogId, watch: Subscription) {
        let serial = watch.serial;
        self.0.watches.borrow_mut().insert(log, watch);
        self.read_pages(log, serial);
        self.check_later();
    }

    /// Looks, once it has been quiet, whether the device has everything, as a transport does that
    /// asks a silent server.
    fn check_later(&self) {
        if self.0.checks.replace(true) {
            return;
        }
        let link = self.clone();
        self.0.network.executor().spawn(async move {
            link.0.network.executor().sleep(CHECK).await;
            link.0.checks.set(false);
            let socket = &link.0.open;
            if link.0.over.get() || !socket.up.get() || socket.dead.get() {
                return;
            }
            let server = link.server();
            let wrong: Vec<(LogId, u64)> = {
                let server = server.borrow();
                let head = |log| server.logs.get(log).map_or(0, |held| held.head());
                let watches = link.0.watches.borrow();
                let wrong = watches.iter().filter(|(log, watch)| watch.read != head(log));
                wrong.map(|(log, watch)| (*log, watch.read)).collect()
            };
            for (log, read) in wrong {
                let serial = link.fresh_serial();
                link.subscribe(log, Subscription::new(serial, read, None));
            }
        });
    }

    fn push(&self, push: Push) {
        if let Push::Entries { log, entries, .. } = &push
            && let Some(watch) = self.0.watches.borrow_mut().get_mut(log)
        {
            for entry in entries {
                if entry.position == watch.read + 1 {
                    watch.read = entry.position;
                }
            }
        }
        self.0.queue.borrow_mut().push_back(push);
        let reader = self.0.reader.borrow_mut().take();
        reader.into_iter().for_each(Waker::wake);
    }

    fn socket(&self, plane: Plane) -> &Socket {
        match plane {
            Plane::Account => &self.0.account,
            Plane::Open => &self.0.open,
        }
    }

    fn hang_up_after(&self, plane: Plane, wait: u64) {
        let (link, time) = (self.clone(), self.socket(plane).time.get());
        self.0.network.executor().spawn(async move {
            link.0.network.executor().sleep(wait).await;
            if link.socket(plane).time.get() == time {
                link.hang_up(plane);
            }
        });
    }

    /// Takes a socket down; it comes back by itself.
    fn hang_up(&self, plane: Plane) {
        let socket = self.socket(plane);
        if !socket.up.replace(false) {
            return;
        }
        socket.dead.set(false);
        socket.time.set(socket.time.get() + 1);
        match plane {
            Plane::Open => {
                self.0.watches.borrow_mut().clear();
                self.0.asked.borrow_mut().clear();
            }
            Plane::Account => {
                // Nothing is sent until the inbox is watched again.
                if let Some((_, watch)) = self.0.session.borrow_mut().as_mut() {
                    *watch = None;
                }
            }
        }
        self.0.network.trace().note(self.name(), format!("× {} down", name_of(plane)));
        self.push(Push::Disconnected(plane));
        self.dial(plane);
    }

    /// Brings a socket up as soon as the network lets it.
    fn dial(&self, plane: Plane) {
        let (link, time) = (self.clone(), self.socket(plane).time.get());
        self.0.network.executor().spawn(async move {
            let network = &link.0.network;
            loop {
                network.executor().sleep(network.delay()).await;
                let socket = link.socket(plane);
                if socket.time.get() != time || socket.up.get() || link.0.over.get() {
                    return;
                }
                if link.is_cut() {
                    network.executor().sleep(network.between(500, 4000)).await;
                    continue;
                }
                let instance = link.server().borrow().instance;
                if plane == Plane::Account && !link.has_good_session() {
                    return;
                }
                socket.up.set(true);
                socket.newest.set(network.executor().now());
                socket.newest_up.set(network.executor().now());
                link.push(Push::Connected { plane, instance });
                if plane == Plane::Account {
                    link.send_notices();
                }
                return;
            }
        });
    }

    /// Whether the inbox may be watched; refuses a session that is no good.
    fn has_good_session(&self) -> bool {
        let mut session = self.0.session.borrow_mut();
        let Some((token, _)) = session.as_ref() else {
            return false;
        };
        let now = self.0.network.executor().now() / 1000;
        if self.server().borrow().session_device(now, token).is_some() {
            return true;
        }
        *session = None;
        self.push(Push::SessionRefused);
        false
    }
}

fn name_of(plane: Plane) -> &'static str {
    Network::plane_name(plane)
}

impl Transport for Link {
    async fn account(
        &self,
        session: Option<SessionToken>,
        request: AccountRequest,
    ) -> Result<AccountReply, TransportError> {
        self.0.crasher.point("before a request").await;
        let reply = self.0.network.account(self, session, request).await;
        self.0.crasher.point("after a request").await;
        reply
    }

    async fn open(&self, request: OpenRequest) -> Result<OpenReply, TransportError> {
        self.0.crasher.point("before a request").await;
        let reply = self.0.network.open(self, request).await;
        self.0.crasher.point("after a request").await;
        reply
    }

    fn watch_inbox(&self, session: SessionToken, after: u64) {
        *self.0.session.borrow_mut() = Some((session, Some(Watch { sent: after, greet: true })));
        if self.0.account.up.get() {
            if self.has_good_session() {
                self.send_notices();
            }
        } else {
            self.dial(Plane::Account);
        }
    }

    fn watch(&self, token: AccessToken, after: u64, running: Option<[u8; 32]>) {
        if !self.0.open.up.get() {
            return;
        }
        let (log, serial) = (token.log_id(), self.fresh_serial());
        self.say(move |link| {
            link.subscribe(log, Subscription::new(serial, after, running));
        });
    }

    fn unwatch(&self, log: LogId) {
        if self.0.open.up.get() {
            self.say(move |link| {
                link.0.watches.borrow_mut().remove(&log);
            });
        }
    }

    fn ask_for_life(&self) {
        for plane in [Plane::Account, Plane::Open] {
            self.say_on(plane, move |link| {
                link.send(plane, move || vec![Frame::Push(Push::Alive(plane))]);
            });
        }
    }

    async fn next(&self) -> Push {
        poll_fn(|context| match self.0.queue.borrow_mut().pop_front() {
            Some(push) => Poll::Ready(push),
            None => {
                *self.0.reader.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}
