//! A device of a person: an engine over the world's host, what it told its app, and the calls
//! that scenarios make on it.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    rc::Rc,
};

use corncrake::transport::Plane;
use corncrake::{
    Chat, ChatInfo, Client, Connection, ConversationId, Delivery, Error, Event, EventKind, Item,
    ItemKind, MessageId, Role, store::MemoryStore,
};
use corncrake_core::{derive::Key32, seal::local::StoreKey};

use crate::{
    chance::Chance,
    crash::Crasher,
    executor::Task,
    host::{Commits, Late, WorldHost},
    link::Link,
    network::Network,
    server::Server,
    world::until_online,
};

/// How long a call may take, in virtual milliseconds.
const CALL: u64 = 2 * 3600 * 1000;

/// A device; clones are handles to the same one.
#[derive(Clone)]
pub(crate) struct Device(Rc<Inner>);

struct Inner {
    /// The person.
    name: String,
    /// The person and the device's number.
    label: String,
    network: Network,
    server: RefCell<Rc<RefCell<Server>>>,
    chance: RefCell<Chance>,
    crasher: Rc<Crasher>,
    store: RefCell<MemoryStore>,
    client: RefCell<Option<Client>>,
    link: RefCell<Option<Link>>,
    /// Whether scenarios count on the device; a lost or copied one doesn't come back.
    lost: Cell<bool>,
    told: Rc<RefCell<Told>>,
    said: RefCell<Vec<Said>>,
    /// Whether the app has seen every event since its store was empty.
    follows: Cell<bool>,
    /// What this device's store makes durable too late.
    late: Cell<Late>,
    /// By how many milliseconds the device's clock is wrong.
    set_by: Rc<Cell<i64>>,
    /// Whether the app takes events.
    listens: Cell<bool>,
    /// Whether the device's disk is full.
    is_full: Rc<Cell<bool>>,
    commits: Rc<Commits>,
}

/// A message that the engine has acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) chat: ConversationId,
    pub(crate) id: MessageId,
    pub(crate) text: String,
    pub(crate) at: u64,
}

/// What the engine told its app.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) events: BTreeMap<u64, Event>,
    /// When the app first saw a message in the log.
    pub(crate) seen: BTreeMap<(ConversationId, MessageId), u64>,
    /// When a chat was last news.
    pub(crate) added: BTreeMap<ConversationId, u64>,
    /// How the connection stood, one after the other.
    pub(crate) connections: Vec<Connection>,
    /// What an app must never see.
    pub(crate) complaints: Vec<String>,
}

impl Told {
    fn take(&mut self, event: Event, now: u64) {
        match &event.what {
            EventKind::ChatAdded(chat) => drop(self.added.insert(*chat, now)),
            EventKind::Item { chat, item } => match &item.what {
                ItemKind::Message { id, delivery: Delivery::Sent | Delivery::Received, .. } => {
                    self.seen.entry((*chat, *id)).or_insert(now);
                }
                ItemKind::JoinedHere | ItemKind::Gap => drop(self.added.insert(*chat, now)),
                _ => {}
            },
            _ => {}
        }
        let Some(sequence) = event.sequence else {
            let EventKind::Connection(connection) = event.what else {
                return self.complaints.push(format!("{event:?} has no number"));
            };
            return self.connections.push(connection);
        };
        if let Some(earlier) = self.events.get(&sequence) {
            if *earlier != event && !is_queued(earlier) {
                let complaint = format!("event {sequence} changed: {earlier:?} / {event:?}");
                self.complaints.push(complaint);
            }
            return;
        }
        // Numbers of events whose item is no more are left out.
        let newest = self.events.keys().next_back().copied();
        if newest.is_some_and(|newest| sequence < newest) {
            self.complaints.push(format!("event {sequence} follows {newest:?}"));
        }
        self.events.insert(sequence, event);
    }
}

/// Whether an event is about a message on its way, whose number may change.
fn is_queued(event: &Event) -> bool {
    matches!(
        &event.what,
        EventKind::Item { item: Item { what: ItemKind::Message { delivery, .. }, .. }, .. }
            if *delivery == Delivery::Queued
    )
}

/// A call that is under way.
pub(crate) type Pending<T> = Task<Result<T, Error>>;

impl Device {
    /// A device with an empty store, not yet started.
    pub(crate) fn new(
        name: &str,
        label: String,
        network: &Network,
        server: Rc<RefCell<Server>>,
        mut chance: Chance,
    ) -> Self {
        let key = StoreKey::new(&Key32::from_bytes(chance.bytes()));
        let crasher = Rc::new(Crasher::new(&label, network));
        Self(Rc::new(Inner {
            name: name.to_owned(),
            label,
            network: network.clone(),
            server: RefCell::new(server),
            chance: RefCell::new(chance),
            crasher,
            store: RefCell::new(MemoryStore::new(key)),
            client: RefCell::default(),
            link: RefCell::default(),
            lost: Cell::new(false),
            told: Rc::default(),
            said: RefCell::default(),
            follows: Cell::new(true),
            late: Cell::new(Late::Nothing),
            set_by: Rc::default(),
            listens: Cell::new(true),
            is_full: Rc::default(),
            commits: Rc::default(),
        }))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn label(&self) -> &str {
        &self.0.label
    }

    pub(crate) fn crasher(&self) -> &Crasher {
        &self.0.crasher
    }

    pub(crate) fn told(&self) -> std::cell::Ref<'_, Told> {
        self.0.told.borrow()
    }

    /// How often the device has waited for its disk.
    pub(crate) fn waited_for_disk(&self) -> u64 {
        self.0.commits.synced.get()
    }

    /// All messages that were acknowledged here.
    pub(crate) fn said(&self) -> std::cell::Ref<'_, Vec<Said>> {
        self.0.said.borrow()
    }

    /// Whether the events tell the whole timeline.
    pub(crate) fn follows_events(&self) -> bool {
        self.0.follows.get()
    }

    pub(crate) fn password(&self) -> String {
        format!("{} keeps seven corncrakes in the meadow", self.0.name)
    }

    /// Notes something in the trace under this device's name.
    pub(crate) fn note(&self, what: impl std::fmt::Display) {
        self.0.network.trace().note(&self.0.label, what);
    }

    // Life and death.

    /// Starts the engine over what the store holds.
    pub(crate) fn start(&self) {
        let inner = &self.0;
        let link = Link::new(
            &inner.label,
            &inner.network,
            inner.server.borrow().clone(),
            inner.crasher.clone(),
        );
        let executor = inner.network.executor();
        let chance = Chance::new(inner.chance.borrow_mut().below(u64::MAX), "engine");
        let store = inner.store.borrow().clone();
        let host = WorldHost::new(
            executor,
            store,
            link.clone(),
            inner.late.get(),
            inner.crasher.clone(),
            chance,
        )
        .with_clock(inner.set_by.clone())
        .with_disk(inner.is_full.clone())
        .counting(inner.commits.clone());
        let (client, engine) = Client::start(host);
        let (told, trace, label) =
            (inner.told.clone(), inner.network.trace().clone(), inner.label.clone());
        let task = executor.spawn(async move {
            let outcome = engine.await;
            trace.note(&label, format!("engine ended: {outcome:?}"));
            if let Err(error) = outcome {
                told.borrow_mut().complaints.push(format!("the engine failed: {error}"));
            }
        });
        inner.crasher.set_engine(task.id());
        *inner.link.borrow_mut() = Some(link);
        *inner.client.borrow_mut() = Some(client.clone());
        self.note("started");
        if !self.0.listens.get() {
            return;
        }
        let device = self.clone();
        executor.spawn(async move {
            let mut events = client.events();
            while let Some(event) = events.next().await {
                device.note(format!("· {}", describe(&event.what)));
                let now = device.0.network.executor().now();
                device.0.told.borrow_mut().take(event, now);
            }
        });
    }

    /// Dies where it stands; the store keeps what was committed.
    pub(crate) fn crash(&self) {
        self.0.crasher.die("crashed");
        *self.0.client.borrow_mut() = None;
    }

    pub(crate) fn runs(&self) -> bool {
        self.0.crasher.runs()
    }

    /// Ends where it stands and starts again at once, which nobody has to wait for.
    pub(crate) fn restart(&self) {
        self.0.crasher.end("restarted");
        *self.0.client.borrow_mut() = None;
        self.start();
    }

    /// Never comes back by itself; nothing is expected of it.
    pub(crate) fn lose(&self) {
        self.crash();
        self.0.lost.set(true);
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.0.lost.get()
    }

    /// A copy of what the store holds now.
    pub(crate) fn backup(&self) -> MemoryStore {
        self.0.store.borrow().snapshot()
    }

    /// The store itself, for a second opener.
    pub(crate) fn store(&self) -> MemoryStore {
        self.0.store.borrow().clone()
    }

    /// Starts over this store; the app has not followed its events from the beginning.
    pub(crate) fn start_over(&self, store: MemoryStore) {
        *self.0.store.borrow_mut() = store;
        self.0.follows.set(false);
        self.start();
    }

    /// Puts `store` in place of the device's own, and starts again over it.
    pub(crate) fn restore(&self, store: MemoryStore) {
        self.crash();
        self.note("store restored");
        *self.0.store.borrow_mut() = store;
        self.0.told.borrow_mut().events.clear();
        self.0.said.borrow_mut().clear();
        self.0.follows.set(false);
        self.start();
    }

    /// From its next start on the device's store makes this durable too late.
    pub(crate) fn set_late(&self, late: Late) {
        self.0.late.set(late);
    }

    /// Forgets which events were told before.
    pub(crate) fn told_nothing(&self) {
        self.0.told.borrow_mut().events.clear();
    }

    /// From its next start on the device's app takes events, or doesn't.
    pub(crate) fn set_listening(&self, listens: bool) {
        self.0.listens.set(listens);
        self.0.follows.set(false);
    }

    /// Fills the device's disk, or makes room.
    pub(crate) fn set_full(&self, is_full: bool) {
        self.note(if is_full { "the disk is full" } else { "there is room again" });
        self.0.network.disturb();
        self.0.is_full.set(is_full);
    }

    /// Sets the device's clock to be wrong by so many days; time itself goes on as always.
    pub(crate) fn set_clock(&self, days: i64) {
        self.note(format!("clock set to {days} days from the truth"));
        self.0.set_by.set(days * 24 * 3600 * 1000);
    }

    /// Cuts the device off from the server, or lets it back.
    pub(crate) fn set_cut(&self, cut: bool) {
        self.note(if cut { "cut off" } else { "back on the network" });
        if let Some(link) = self.0.link.borrow().as_ref() {
            link.set_cut(cut);
        }
    }

    /// The path of both sockets dies without a word; for a while nobody notices.
    pub(crate) fn lose_path(&self) {
        self.0.network.disturb();
        if let Some(link) = self.0.link.borrow().as_ref() {
            [Plane::Open, Plane::Account].into_iter().for_each(|plane| link.die(plane));
        }
    }

    /// Talks to another server from now on.
    pub(crate) fn set_server(&self, server: Rc<RefCell<Server>>) {
        *self.0.server.borrow_mut() = server.clone();
        if let Some(link) = self.0.link.borrow().as_ref() {
            link.set_server(server);
        }
    }

    // Calls.

    /// Begins a call; it goes on by itself.
    pub(crate) fn begin<T: 'static, F: Future<Output = Result<T, Error>>>(
        &self,
        what: impl Into<String>,
        call: impl FnOnce(Client) -> F + 'static,
    ) -> Pending<T> {
        let (device, what) = (self.clone(), what.into());
        let client = self.0.client.borrow().clone();
        self.0.network.executor().spawn(async move {
            device.note(format!("▶ {what}"));
            let Some(client) = client else {
                return Err(Error::Closed);
            };
            let result = call(client).await;
            let outcome = result.as_ref().map_or_else(Error::code, |_| "ok");
            device.note(format!("◀ {what}: {outcome}"));
            result
        })
    }

    /// Makes a call and lets the world run until it is answered.
    pub(crate) fn call<T: 'static, F: Future<Output = Result<T, Error>>>(
        &self,
        what: impl Into<String>,
        call: impl FnOnce(Client) -> F + 'static,
    ) -> Result<T, Error> {
        let what = what.into();
        let pending = self.begin(what.clone(), call);
        self.wait(&pending, &what)
    }

    /// Lets the world run until a call is answered.
    pub(crate) fn wait<T: 'static>(&self, pending: &Pending<T>, what: &str) -> Result<T, Error> {
        let executor = self.0.network.executor();
        let begun = executor.now();
        executor.run_until(begun + CALL, || pending.is_done() || !self.runs());
        self.0.network.check_wait(&self.0.label, what, begun);
        if !pending.is_done() && !self.runs() {
            return Err(Error::Closed);
        }
        pending.take().unwrap_or_else(|| panic!("{}: no answer to “{what}”", self.0.label))
    }

    pub(crate) fn start_chat(&self, names: &[&str]) -> ConversationId {
        until_online(|| self.try_start_chat(names))
    }

    pub(crate) fn try_start_chat(&self, names: &[&str]) -> Result<ConversationId, Error> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        self.call(format!("start chat with {names:?}"), async move |client: Client| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            Ok(client.start_chat(&names).await?.id())
        })
    }

    pub(crate) fn create_group(&self, title: &str, names: &[&str]) -> ConversationId {
        until_online(|| self.try_create_group(title, names))
    }

    pub(crate) fn try_create_group(
        &self,
        title: &str,
        names: &[&str],
    ) -> Result<ConversationId, Error> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let title = title.to_owned();
        let what = format!("create group {title} with {names:?}");
        self.call(what, async move |client: Client| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            Ok(client.create_group(&title, &names).await?.chat.id())
        })
    }

    /// Begins a call on a chat.
    pub(crate) fn begin_in<T: 'static, F: Future<Output = Result<T, Error>>>(
        &self,
        chat: ConversationId,
        what: impl Into<String>,
        call: impl FnOnce(Chat) -> F + 'static,
    ) -> Pending<T> {
        self.begin(what, async move |client: Client| call(client.chat(chat).await?).await)
    }

    /// Makes a call on a chat.
    pub(crate) fn call_in<T: 'static, F: Future<Output = Result<T, Error>>>(
        &self,
        chat: ConversationId,
        what: impl Into<String>,
        call: impl FnOnce(Chat) -> F + 'static,
    ) -> Result<T, Error> {
        self.call(what, async move |client: Client| call(client.chat(chat).await?).await)
    }

    pub(crate) fn say(&self, chat: ConversationId, text: &str) -> MessageId {
        self.try_say(chat, text).unwrap()
    }

    pub(crate) fn try_say(&self, chat: ConversationId, text: &str) -> Result<MessageId, Error> {
        let pending = self.begin_say(chat, text);
        self.wait(&pending, "say something")
    }

    pub(crate) fn begin_say(&self, chat: ConversationId, text: &str) -> Pending<MessageId> {
        let (device, text) = (self.clone(), text.to_owned());
        self.begin_in(chat, format!("say “{text}”"), async move |chat: Chat| {
            device.say_in(&chat, &text).await
        })
    }

    /// Says something from within a call.
    pub(crate) async fn say_in(&self, chat: &Chat, text: &str) -> Result<MessageId, Error> {
        let id = chat.send_text(text).await?;
        let at = self.0.network.executor().now();
        self.0.said.borrow_mut().push(Said { chat: chat.id(), id, text: text.to_owned(), at });
        Ok(id)
    }

    pub(crate) fn add(&self, chat: ConversationId, name: &str) -> Result<(), Error> {
        let names = name.to_owned();
        self.call_in(chat, format!("add {name}"), async move |chat: Chat| {
            chat.add(&[&names]).await.map(drop)
        })
    }

    pub(crate) fn begin_add(&self, chat: ConversationId, name: &str) -> Pending<()> {
        let names = name.to_owned();
        self.begin_in(chat, format!("add {name}"), async move |chat: Chat| {
            chat.add(&[&names]).await.map(drop)
        })
    }

    pub(crate) fn remove(&self, chat: ConversationId, name: &str) -> Result<(), Error> {
        let names = name.to_owned();
        let what = format!("remove {name}");
        self.call_in(chat, what, async move |chat: Chat| chat.remove(&[&names]).await)
    }

    pub(crate) fn begin_remove(&self, chat: ConversationId, name: &str) -> Pending<()> {
        let names = name.to_owned();
        let what = format!("remove {name}");
        self.begin_in(chat, what, async move |chat: Chat| chat.remove(&[&names]).await)
    }

    pub(crate) fn set_role(
        &self,
        chat: ConversationId,
        name: &'static str,
        role: Role,
    ) -> Result<(), Error> {
        let what = format!("make {name} {role:?}");
        self.call_in(chat, what, async move |chat: Chat| chat.set_role(name, role).await)
    }

    /// The role of `name` in a group, as this device sees it.
    pub(crate) fn role_of(&self, chat: ConversationId, name: &str) -> Option<Role> {
        let members = self.info(chat).unwrap().members;
        members.iter().find(|member| member.name.as_deref() == Some(name)).map(|member| member.role)
    }

    pub(crate) fn rename(&self, chat: ConversationId, title: &str) -> Result<(), Error> {
        let title = title.to_owned();
        let what = format!("rename to {title}");
        self.call_in(chat, what, async move |chat: Chat| chat.rename(&title).await)
    }

    pub(crate) fn hide(&self, chat: ConversationId) {
        self.call_in(chat, "hide", async move |chat: Chat| chat.hide().await).unwrap();
    }

    pub(crate) fn leave(&self, chat: ConversationId) -> Result<(), Error> {
        self.call_in(chat, "leave", async move |chat: Chat| chat.leave().await)
    }

    pub(crate) fn info(&self, chat: ConversationId) -> Result<ChatInfo, Error> {
        self.call_quietly(async move |client: Client| client.chat(chat).await?.info().await)
    }

    pub(crate) fn chats(&self) -> Vec<ChatInfo> {
        self.call_quietly(async move |client: Client| client.chats().await).unwrap()
    }

    /// The whole timeline of a chat.
    pub(crate) fn history(&self, chat: ConversationId) -> Vec<Item> {
        self.call_quietly(async move |client: Client| {
            let chat = client.chat(chat).await?;
            let (mut items, mut before) = (Vec::new(), None);
            loop {
                let mut page = chat.history(before, 16).await?;
                let Some(first) = page.first() else {
                    return Ok(items);
                };
                before = Some(first.number);
                page.append(&mut items);
                items = page;
            }
        })
        .unwrap_or_default()
    }

    /// A call that only looks; it leaves no line in the trace.
    fn call_quietly<T: 'static, F: Future<Output = Result<T, Error>> + 'static>(
        &self,
        call: impl FnOnce(Client) -> F + 'static,
    ) -> Result<T, Error> {
        let client = self.0.client.borrow().clone().ok_or(Error::Closed)?;
        let executor = self.0.network.executor();
        let task = executor.spawn(call(client));
        executor.run_until(executor.now() + CALL, || task.is_done() || !self.runs());
        task.take().unwrap_or(Err(Error::Closed))
    }
}

/// An event in a few words.
fn describe(what: &EventKind) -> String {
    match what {
        EventKind::Item { item, .. } => format!("#{} {:?}", item.number, item.what),
        other => format!("{other:?}"),
    }
}
