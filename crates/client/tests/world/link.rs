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
};

use crate::{crash::Crasher, network::Network, server::Server};

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
    watches: RefCell<BTreeMap<LogId, Watch>>,
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
}

/// What is watched: a log, or the inbox.
struct Watch {
    /// The newest position sent.
    sent: u64,
    /// Whether a frame is due even with nothing new in it.
    greet: bool,
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
    }

    pub(crate) fn server(&self) -> Rc<RefCell<Server>> {
        self.0.server.borrow().clone()
    }

    /// Talks to another server from now on, over new sockets.
    pub(crate) fn set_server(&self, server: Rc<RefCell<Server>>) {
        *self.0.server.borrow_mut() = server;
        self.hang_up_all();
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.0.cut.get()
    }

    /// Cuts the device off from the server, or lets it back.
    pub(crate) fn set_cut(&self, cut: bool) {
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

    /// Pushes what is new in a log, if it is watched.
    pub(crate) fn send_entries(&self, log: LogId) {
        if !self.0.watches.borrow().contains_key(&log) {
            return;
        }
        let link = self.clone();
        self.send(Plane::Open, move || {
            let mut watches = link.0.watches.borrow_mut();
            let Some(watch) = watches.get_mut(&log) else {
                return Vec::new();
            };
            let server = link.server();
            let server = server.borrow();
            let held = server.logs.get(&log);
            let head = held.map_or(0, |held| held.head());
            let mut frames = Vec::new();
            while watch.greet || watch.sent < head {
                watch.greet = false;
                let entries =
                    held.map(|held| held.page(watch.sent, server.page)).unwrap_or_default();
                watch.sent = entries.last().map_or(watch.sent, |entry| entry.position);
                frames.push(Push::Entries { log, entries, head });
                if watch.sent > head {
                    break;
                }
            }
            frames
        });
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
            if says { vec![Push::Notices(notices)] } else { Vec::new() }
        });
    }

    /// Sends frames over a socket: they are made when they arrive.
    fn send(&self, plane: Plane, frames: impl FnOnce() -> Vec<Push> + 'static) {
        let network = &self.0.network;
        let socket = self.socket(plane);
        if !socket.up.get() || socket.dead.get() {
            return;
        }
        let faults = network.faults();
        if network.hit(faults.lose_push) {
            self.0.network.trace().note(self.name(), format!("× {} dies", name_of(plane)));
            socket.dead.set(true);
            self.hang_up_after(plane, network.between(1000, 60_000));
            return;
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
            let arrives = |push| link.0.network.arrives(link.name(), push);
            frames.iter().cloned().filter_map(arrives).for_each(|push| link.push(push));
            if repeats {
                executor.sleep(link.0.network.delay()).await;
                if lives() {
                    frames.into_iter().filter_map(arrives).for_each(|push| link.push(push));
                }
            }
        });
    }

    fn push(&self, push: Push) {
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
            Plane::Open => self.0.watches.borrow_mut().clear(),
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

    fn watch(&self, token: AccessToken, after: u64) {
        if !self.0.open.up.get() {
            return;
        }
        let log = token.log_id();
        self.0.watches.borrow_mut().insert(log, Watch { sent: after, greet: true });
        self.send_entries(log);
    }

    fn unwatch(&self, log: LogId) {
        self.0.watches.borrow_mut().remove(&log);
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
