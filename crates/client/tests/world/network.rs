//! The network between devices and the memory server: it loses, delays, repeats and reorders by
//! the world's seed, and can be told to behave.
//!
//! A request travels on its own: giving it up, or crashing, does not call it back. Pushes travel
//! in order on one socket per plane; a lost push takes its socket down, as a lost frame takes down
//! a real one, but nobody notices for up to a minute.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use corncrake::transport::{Plane, Push, TransportError};
use corncrake_wire::{
    AccountReply, AccountRequest, LogId, OpenReply, OpenRequest, Refusal, SessionToken,
    log::{Append, AppendReply, EntryKind, LogEntry, ReadReply},
};

use crate::{
    chance::Chance,
    executor::Executor,
    link::Link,
    server::Server,
    trace::{self, Trace},
};

/// How a network behaves; chances in per mille.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Faults {
    /// A request is lost on its way.
    pub(crate) lose_request: u64,
    /// A request is carried out and its reply lost.
    pub(crate) lose_reply: u64,
    /// A push is lost, and its socket is dead from then on.
    pub(crate) lose_push: u64,
    /// A push comes twice.
    pub(crate) repeat_push: u64,
    /// A socket goes down beside a push.
    pub(crate) hang_up: u64,
    /// The longest way, in milliseconds.
    pub(crate) delay: u64,
}

impl Faults {
    /// Nothing goes wrong.
    pub(crate) const NONE: Self = Self {
        lose_request: 0,
        lose_reply: 0,
        lose_push: 0,
        repeat_push: 0,
        hang_up: 0,
        delay: 20,
    };
    /// Everything goes wrong now and then.
    pub(crate) const MIXED: Self = Self {
        lose_request: 60,
        lose_reply: 60,
        lose_push: 20,
        repeat_push: 60,
        hang_up: 20,
        delay: 900,
    };
}

/// A server that lies on the open plane: gives what it answers in place of the truth, or nothing
/// where it is honest.
pub(crate) type OpenLie =
    Box<dyn FnMut(&str, &mut Server, &OpenRequest) -> Option<Result<OpenReply, Refusal>>>;

/// A server that lies in what it pushes.
pub(crate) type PushLie = Box<dyn FnMut(&str, Push) -> Option<Push>>;

/// A fault in how devices read logs that is put on from outside: each entry as a device sees it.
pub(crate) type EntryPlant = Box<dyn Fn(&str, LogId, &mut LogEntry)>;

/// Entries by device, log and position that only that device sees.
type Imagined = BTreeMap<(String, LogId, u64), (EntryKind, Vec<u8>)>;

/// The network; clones are handles to the same one.
#[derive(Clone)]
pub(crate) struct Network(Rc<Inner>);

struct Inner {
    executor: Executor,
    trace: Trace,
    faults: Cell<Faults>,
    /// How often the server has crashed; requests under way are lost with it.
    crashes: Cell<u64>,
    chance: RefCell<Chance>,
    links: RefCell<Vec<Link>>,
    lie: RefCell<Option<OpenLie>>,
    push_lie: RefCell<Option<PushLie>>,
    plant: RefCell<Option<EntryPlant>>,
    /// A planted bug: devices take what was refused with a conflict for appended. What stands here
    /// they see at that place.
    ignores_conflicts: Cell<bool>,
    imagined: RefCell<Imagined>,
    /// Broken promises of the server.
    complaints: RefCell<Vec<String>>,
}

impl Network {
    pub(crate) fn new(seed: u64, executor: Executor, trace: Trace) -> Self {
        Self(Rc::new(Inner {
            executor,
            trace,
            faults: Cell::new(Faults::NONE),
            crashes: Cell::new(0),
            chance: RefCell::new(Chance::new(seed, "network")),
            links: RefCell::default(),
            lie: RefCell::default(),
            push_lie: RefCell::default(),
            plant: RefCell::default(),
            ignores_conflicts: Cell::new(false),
            imagined: RefCell::default(),
            complaints: RefCell::default(),
        }))
    }

    pub(crate) fn executor(&self) -> &Executor {
        &self.0.executor
    }

    pub(crate) fn trace(&self) -> &Trace {
        &self.0.trace
    }

    pub(crate) fn faults(&self) -> Faults {
        self.0.faults.get()
    }

    /// Behaves from now on as told.
    pub(crate) fn set_faults(&self, faults: Faults) {
        self.0.faults.set(faults);
    }

    /// Changes what the server answers on the open plane.
    pub(crate) fn set_lie(&self, lie: Option<OpenLie>) {
        *self.0.lie.borrow_mut() = lie;
    }

    /// Changes what the server pushes.
    pub(crate) fn set_push_lie(&self, lie: Option<PushLie>) {
        *self.0.push_lie.borrow_mut() = lie;
    }

    /// Plants a fault into how devices read logs; it outlives [`Self::heal`].
    pub(crate) fn set_plant(&self, plant: Option<EntryPlant>) {
        *self.0.plant.borrow_mut() = plant;
    }

    /// Plants another: devices take what was refused with a conflict for appended.
    pub(crate) fn ignore_conflicts(&self) {
        self.0.ignores_conflicts.set(true);
    }

    /// What a device with that bug makes of a conflict.
    fn imagine(&self, who: &str, append: &Append, head: u64) -> AppendReply {
        let mut imagined = self.0.imagined.borrow_mut();
        let positions: Vec<u64> = (head + 1..).take(append.entries.len()).collect();
        for (entry, &position) in append.entries.iter().zip(&positions) {
            let place = (who.to_owned(), append.token.log_id(), position);
            imagined.insert(place, (append.kind, entry.bytes.clone()));
        }
        let head = head + positions.len() as u64;
        AppendReply::Stored { positions, head }
    }

    fn show(&self, who: &str, log: LogId, entries: &mut [LogEntry]) {
        for entry in entries.iter_mut() {
            let place = (who.to_owned(), log, entry.position);
            if let Some((kind, bytes)) = self.0.imagined.borrow().get(&place) {
                entry.kind = *kind;
                entry.bytes.clone_from(bytes);
            }
        }
        if let Some(plant) = self.0.plant.borrow().as_ref() {
            entries.iter_mut().for_each(|entry| plant(who, log, entry));
        }
    }

    /// What arrives of a push.
    pub(crate) fn arrives(&self, who: &str, mut push: Push) -> Option<Push> {
        if let Push::Entries { log, entries, .. } = &mut push {
            self.show(who, *log, entries);
        }
        match self.0.push_lie.borrow_mut().as_mut() {
            Some(lie) => lie(who, push),
            None => Some(push),
        }
    }

    /// A line from a device that has just started; it replaces the device's earlier one.
    pub(crate) fn connect(&self, link: Link) {
        let mut links = self.0.links.borrow_mut();
        links.iter().filter(|other| other.name() == link.name()).for_each(Link::retire);
        links.retain(|other| other.name() != link.name());
        links.push(link);
    }

    /// Promises that the server has broken.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.0.complaints.borrow().clone()
    }

    /// Lets go of all lines, at the end of a world.
    pub(crate) fn close(&self) {
        self.0.links.borrow_mut().clear();
        self.set_lie(None);
        self.set_push_lie(None);
        self.set_plant(None);
    }

    /// Behaves from now on; sockets that died unnoticed come back.
    pub(crate) fn heal(&self) {
        self.set_faults(Faults::NONE);
        self.set_lie(None);
        self.set_push_lie(None);
        for link in self.0.links.borrow().iter() {
            link.set_cut(false);
            link.hang_up_if_dead();
        }
    }

    /// The server dies and comes back with what it had stored: every socket goes down, and what
    /// was under way is lost, before it was carried out or after.
    pub(crate) fn crash_server(&self) {
        self.0.trace.note("server", "✝ crashed");
        self.0.crashes.set(self.0.crashes.get() + 1);
        for link in self.0.links.borrow().iter() {
            link.hang_up_all();
        }
    }

    /// A way through the network, in milliseconds.
    pub(crate) fn delay(&self) -> u64 {
        let most = self.faults().delay;
        self.0.chance.borrow_mut().between(1, most)
    }

    pub(crate) fn hit(&self, per_mille: u64) -> bool {
        self.0.chance.borrow_mut().hit(per_mille)
    }

    pub(crate) fn between(&self, least: u64, most: u64) -> u64 {
        self.0.chance.borrow_mut().between(least, most)
    }

    /// Carries a request of the open plane to the link's server and its answer back.
    pub(crate) async fn open(
        &self,
        link: &Link,
        request: OpenRequest,
    ) -> Result<OpenReply, TransportError> {
        // Through bytes, as over HTTP.
        let body = request.encode();
        let request = OpenRequest::decode(request.path(), &body).unwrap().unwrap();
        let copy = request.clone();
        let touched = match &request {
            OpenRequest::Append(append) => Touched::Log(append.token.log_id()),
            OpenRequest::Deposit(_) => Touched::Inboxes,
            _ => Touched::Nothing,
        };
        let what = trace::open(&request);
        let answer = self.exchange(link, &what, touched, move |network, server, _, who| {
            let lie = network.0.lie.borrow_mut().as_mut().and_then(|lie| lie(who, server, &copy));
            if let Some(lie) = lie {
                let note = format!("{} (a lie)", trace::open_reply(&lie));
                return (lie.map(|reply| reply.encode()), note);
            }
            let (what, known) = (trace::open(&copy), positions(server, &copy));
            let log = match &copy {
                OpenRequest::Append(append) => Some(append.token.log_id()),
                OpenRequest::Read(read) => Some(read.token.log_id()),
                _ => None,
            };
            let request = copy.clone();
            let mut reply = server.handle_open(copy);
            if network.0.ignores_conflicts.get()
                && let OpenRequest::Append(append) = &request
                && let Ok(OpenReply::Append(AppendReply::Conflict { head, .. })) = reply
            {
                reply = Ok(OpenReply::Append(network.imagine(who, append, head)));
            }
            if let Some(known) = known
                && !stored_at(&reply, &known)
            {
                let complaint = format!("{what}, known at {known:?}: {reply:?}");
                network.0.complaints.borrow_mut().push(complaint);
            }
            if let (Some(log), Ok(OpenReply::Read(ReadReply { entries, .. })))
            | (
                Some(log),
                Ok(OpenReply::Append(AppendReply::Conflict { missing: entries, .. })),
            ) = (log, &mut reply)
            {
                network.show(who, log, entries);
            }
            let note = trace::open_reply(&reply);
            (reply.map(|reply| reply.encode()), note)
        });
        let bytes = answer.await?;
        request.decode_reply(&bytes).map_err(|_| TransportError::Malformed)
    }

    /// Carries a request of the account plane to the link's server and its answer back.
    pub(crate) async fn account(
        &self,
        link: &Link,
        session: Option<SessionToken>,
        request: AccountRequest,
    ) -> Result<AccountReply, TransportError> {
        let body = request.encode();
        let request = AccountRequest::decode(request.path(), &body).unwrap().unwrap();
        let copy = request.clone();
        let what = trace::account(&request);
        let answer = self.exchange(link, &what, Touched::Nothing, move |_, server, now, _| {
            let reply = server.handle_account(now / 1000, session.as_ref(), copy);
            let note = trace::account_reply(&reply);
            (reply.map(|reply| reply.encode()), note)
        });
        let bytes = answer.await?;
        request.decode_reply(&bytes).map_err(|_| TransportError::Malformed)
    }

    async fn exchange(
        &self,
        link: &Link,
        what: &str,
        touched: Touched,
        carry_out: impl FnOnce(&Self, &mut Server, u64, &str) -> (Result<Vec<u8>, Refusal>, String)
        + 'static,
    ) -> Result<Vec<u8>, TransportError> {
        let (network, link, what) = (self.clone(), link.clone(), what.to_owned());
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.0.executor.spawn(async move {
            let faults = network.faults();
            let crashes = network.0.crashes.get();
            let crashed = || network.0.crashes.get() != crashes;
            let (trace, executor) = (&network.0.trace, &network.0.executor);
            executor.sleep(network.delay()).await;
            if link.is_cut() || crashed() || network.hit(faults.lose_request) {
                trace.note(link.name(), format!("× {what} (lost on its way)"));
                executor.sleep(network.between(200, 9000)).await;
                let _ = answer.send(Err(TransportError::Unreachable));
                return;
            }
            let server = link.server();
            let now = executor.now();
            let (reply, note) = carry_out(&network, &mut server.borrow_mut(), now, link.name());
            trace.note(link.name(), format!("→ {what}: {note}"));
            network.announce(&server, touched);
            if link.is_cut() || network.hit(faults.lose_reply) {
                trace.note(link.name(), format!("× {what} (answer lost)"));
                executor.sleep(network.between(200, 9000)).await;
                let _ = answer.send(Err(TransportError::Unreachable));
                return;
            }
            executor.sleep(network.delay()).await;
            let reply = if crashed() {
                Err(TransportError::Unreachable)
            } else {
                reply.map_err(TransportError::Refused)
            };
            let _ = answer.send(reply);
        });
        answered.await.unwrap_or(Err(TransportError::Unreachable))
    }

    /// Tells everybody who watches that there is something new.
    pub(crate) fn announce(&self, server: &Rc<RefCell<Server>>, touched: Touched) {
        let links: Vec<Link> = self.0.links.borrow().clone();
        for link in links.iter().filter(|link| Rc::ptr_eq(&link.server(), server)) {
            match touched {
                Touched::Nothing => {}
                Touched::Log(log) => link.send_entries(log),
                Touched::Inboxes => link.send_notices(),
            }
        }
    }

    /// What the trace calls a plane.
    pub(crate) fn plane_name(plane: Plane) -> &'static str {
        match plane {
            Plane::Account => "account socket",
            Plane::Open => "open socket",
        }
    }
}

/// What a request may have changed.
#[derive(Clone, Copy)]
pub(crate) enum Touched {
    Nothing,
    Log(LogId),
    Inboxes,
}

/// Where the entries of an append stand, if all of them stand in the log already.
fn positions(server: &Server, request: &OpenRequest) -> Option<Vec<u64>> {
    let OpenRequest::Append(append) = request else {
        return None;
    };
    let log = server.logs.get(&append.token.log_id())?;
    append.entries.iter().map(|entry| log.ids.get(&entry.id()).copied()).collect()
}

fn stored_at(reply: &Result<OpenReply, Refusal>, known: &[u64]) -> bool {
    let Ok(OpenReply::Append(AppendReply::Stored { positions, .. })) = reply else {
        return false;
    };
    positions == known
}
