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

/// The longest append that travels over a socket, in bytes.
const FRAME: usize = 6000;
/// The longest that anybody may wait without a fault, in milliseconds: some dozens of ways
/// through the network, and less than any timer of the engine.
pub(crate) const PROMPT: u64 = 450;
/// How long a device with the planted pause waits.
const PAUSE: u64 = 5000;

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
    forgets_pushes: Cell<bool>,
    pauses: Cell<bool>,
    /// Until when devices with that bug hold appends back.
    paused: RefCell<BTreeMap<String, u64>>,
    /// Broken promises of the server.
    complaints: RefCell<Vec<String>>,
    /// When nothing went wrong that anybody would have to wait for; the last time may go on.
    calm: RefCell<Vec<(u64, Option<u64>)>>,
    attacked: Cell<bool>,
    /// How often a device has asked for something, by its name and the request's path.
    asked: RefCell<BTreeMap<(String, &'static str), u64>>,
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
            forgets_pushes: Cell::new(false),
            pauses: Cell::new(false),
            paused: RefCell::default(),
            complaints: RefCell::default(),
            calm: RefCell::new(vec![(0, None)]),
            attacked: Cell::new(false),
            asked: RefCell::default(),
        }))
    }

    /// How often a device has asked for each thing since this was called last, by the last part of
    /// the path.
    pub(crate) fn take_asked(&self, who: &str) -> BTreeMap<&'static str, u64> {
        let mut asked = self.0.asked.borrow_mut();
        let mine = asked.extract_if(.., |(name, _), _| name == who);
        mine.map(|((_, path), times)| (path.rsplit('/').next().unwrap(), times)).collect()
    }

    fn note_asked(&self, who: &str, path: &'static str) {
        *self.0.asked.borrow_mut().entry((who.to_owned(), path)).or_default() += 1;
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
        if faults != Faults::NONE {
            self.disturb();
        }
        self.0.faults.set(faults);
    }

    /// Something goes wrong: from now on people may have to wait.
    pub(crate) fn disturb(&self) {
        let now = self.0.executor.now();
        if let Some((_, end @ None)) = self.0.calm.borrow_mut().last_mut() {
            *end = Some(now);
        }
    }

    /// Somebody attacks from within: people may have to wait from now on to the end.
    pub(crate) fn expect_attacks(&self) {
        self.disturb();
        self.0.attacked.set(true);
    }

    /// Everybody has come to rest after what went wrong.
    pub(crate) fn calm_down(&self) {
        let mut calm = self.0.calm.borrow_mut();
        let is_calm = calm.last().is_some_and(|(_, end)| end.is_none());
        if !is_calm && !self.0.attacked.get() && self.faults() == Faults::NONE {
            calm.push((self.0.executor.now(), None));
        }
    }

    /// Whether nothing went wrong between two moments that anybody would have to wait for.
    pub(crate) fn was_calm(&self, from: u64, to: u64) -> bool {
        let calm = self.0.calm.borrow();
        calm.iter().any(|&(start, end)| start <= from && end.is_none_or(|end| to <= end))
    }

    /// Without faults people wait for the network alone: fails if the time since `begun` is more
    /// than a call takes.
    pub(crate) fn check_wait(&self, who: &str, what: &str, begun: u64) {
        let waited = self.0.executor.now() - begun;
        assert!(
            waited <= PROMPT || !self.was_calm(begun, begun + PROMPT),
            "{who} waits {waited} ms for “{what}” although nothing is wrong"
        );
    }

    /// Changes what the server answers on the open plane.
    pub(crate) fn set_lie(&self, lie: Option<OpenLie>) {
        self.disturb();
        *self.0.lie.borrow_mut() = lie;
    }

    /// Changes what the server pushes.
    pub(crate) fn set_push_lie(&self, lie: Option<PushLie>) {
        self.disturb();
        *self.0.push_lie.borrow_mut() = lie;
    }

    /// Plants a fault into how devices read logs; it outlives [`Self::heal`].
    pub(crate) fn set_plant(&self, plant: Option<EntryPlant>) {
        self.disturb();
        *self.0.plant.borrow_mut() = plant;
    }

    /// Plants another: the server takes an empty page for the end of a log although it has heard
    /// of more meanwhile.
    pub(crate) fn forget_pushes(&self) {
        self.0.forgets_pushes.set(true);
    }

    pub(crate) fn forgets_pushes(&self) -> bool {
        self.0.forgets_pushes.get()
    }

    /// Plants another: a device whose append was answered before it was pushed holds its next
    /// one back for five seconds.
    pub(crate) fn pause_after_answers(&self) {
        self.0.pauses.set(true);
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
        *self.0.lie.borrow_mut() = None;
        *self.0.push_lie.borrow_mut() = None;
        for link in self.0.links.borrow().iter() {
            if link.is_cut() {
                link.set_cut(false);
            }
            link.hang_up_if_dead();
        }
    }

    /// The server dies and comes back with what it had stored: every socket goes down, and what
    /// was under way is lost, before it was carried out or after.
    pub(crate) fn crash_server(&self) {
        self.0.trace.note("server", "✝ crashed");
        self.disturb();
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
        self.note_asked(link.name(), request.path());
        let body = request.encode();
        let request = OpenRequest::decode(request.path(), &body).unwrap().unwrap();
        let copy = request.clone();
        let touched = match &request {
            OpenRequest::Append(append) => Touched::Log(append.token.log_id()),
            OpenRequest::Deposit(_) => Touched::Inboxes,
            _ => Touched::Nothing,
        };
        let what = trace::open(&request);
        let over_socket =
            matches!(request, OpenRequest::Append(_)) && body.len() <= FRAME && link.is_open();
        let carry_out = move |network: &Self, server: &mut Server, now: u64, who: &str| {
            server.now = now / 1000;
            let lie = network.0.lie.borrow_mut().as_mut().and_then(|lie| lie(who, server, &copy));
            if let Some(lie) = lie {
                let note = format!("{} (a lie)", trace::open_reply(&lie));
                return (lie.map(|reply| reply.encode()), note);
            }
            let (what, known) = (trace::open(&copy), positions(server, &copy));
            let log = match &copy {
                OpenRequest::Append(append) => Some(append.token.log_id()),
                OpenRequest::Read(read) => Some(read.token.log_id()),
                OpenRequest::States(states) => Some(states.token.log_id()),
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
            if let (Some(log), Ok(OpenReply::States(states))) = (log, &mut reply) {
                // Whoever lies does so about each of them.
                let lies = network.0.lie.borrow().is_some();
                states.start = states.start.take().filter(|_| !lies);
                if let Some(start) = &mut states.start {
                    network.show(who, log, &mut start.page.entries);
                }
            }
            let note = trace::open_reply(&reply);
            (reply.map(|reply| reply.encode()), note)
        };
        let bytes = if over_socket {
            self.over_socket(link, &what, touched, carry_out).await?
        } else {
            self.exchange(link, &what, touched, carry_out).await?
        };
        request.decode_reply(&bytes).map_err(|_| TransportError::Malformed)
    }

    /// Carries an append over the socket that follows logs. The answer may come before the push
    /// or after it; when the socket is lost, nobody knows what became of the append.
    async fn over_socket(
        &self,
        link: &Link,
        what: &str,
        touched: Touched,
        carry_out: impl FnOnce(&Self, &mut Server, u64, &str) -> (Result<Vec<u8>, Refusal>, String)
        + 'static,
    ) -> Result<Vec<u8>, TransportError> {
        let (network, what) = (self.clone(), what.to_owned());
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.held_back(link).await;
        if self.hit(self.faults().lose_request) {
            self.0.trace.note(link.name(), format!("× {what} (lost on its way)"));
            link.die(Plane::Open);
        }
        link.append(answer, move |link, number| {
            let server = link.server();
            let now = network.0.executor.now();
            let (reply, note) = carry_out(&network, &mut server.borrow_mut(), now, link.name());
            network.0.trace.note(link.name(), format!("→ {what}: {note}"));
            let is_answered_first = network.hit(500);
            let answers = |link: &Link| {
                if network.hit(network.faults().lose_reply) {
                    network.0.trace.note(link.name(), format!("× {what} (answer lost)"));
                    link.die(Plane::Open);
                } else {
                    link.answer(number, reply.map_err(TransportError::Refused));
                }
            };
            if is_answered_first {
                answers(link);
                network.hold_back(link);
                network.announce(&server, touched);
            } else {
                network.announce(&server, touched);
                answers(link);
            }
        });
        answered.await.unwrap_or(Err(TransportError::Unreachable))
    }

    /// The planted pause: after an answer that came before its push the next append waits.
    fn hold_back(&self, link: &Link) {
        if self.0.pauses.get() {
            let until = self.0.executor.now() + PAUSE;
            self.0.paused.borrow_mut().insert(link.name().to_owned(), until);
        }
    }

    async fn held_back(&self, link: &Link) {
        let until = self.0.paused.borrow().get(link.name()).copied();
        if let Some(until) = until {
            self.0.executor.sleep_until(until).await;
        }
    }

    /// Carries a request of the account plane to the link's server and its answer back.
    pub(crate) async fn account(
        &self,
        link: &Link,
        session: Option<SessionToken>,
        request: AccountRequest,
    ) -> Result<AccountReply, TransportError> {
        self.note_asked(link.name(), request.path());
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
