//! The handle of an account.

use core::time::Duration;
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};

use corncrake_core::{
    id::{AccountId, ConversationId, DeviceId},
    identity::SafetyNumber,
};
use tokio::sync::{Mutex, mpsc, oneshot};
use zeroize::Zeroizing;

use crate::{
    chat::Chat,
    command::{ChatCommand, Command},
    engine::{self, Reply},
    error::{Error, Refusal},
    event::{Account, ChatInfo, Connection, Device, Event, EventKind, LeftOut},
    host::Host,
};

/// How long people are looked for who are to be added.
pub(crate) const A_MINUTE: Duration = Duration::from_mins(1);

/// A handle to an account on this device. Clones are cheap and share one engine.
///
/// The engine runs from [`Client::start`] (or a constructor that calls it) until [`Client::close`]
/// or until its future is dropped; handles then answer [`Error::Closed`]. If it ended by itself,
/// every handle answers with the reason, such as `store_damaged`. Whatever a call has answered is
/// stored; what it promised for later (a message on its way) goes on after a restart.
#[derive(Clone, Debug)]
pub struct Client {
    commands: mpsc::UnboundedSender<Command>,
    taken: Arc<Mutex<Option<u64>>>,
    reason: Reason,
}

/// A group that was made.
#[derive(Clone, Debug)]
pub struct NewGroup {
    /// The group.
    pub chat: Chat,
    /// Who can't be added, and why.
    pub left_out: Vec<LeftOut>,
}

/// Why calls get no answer any more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reason(Arc<SyncMutex<Option<Error>>>);

impl Reason {
    pub(crate) fn tell(&self, error: Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    pub(crate) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn told(&self) -> Error {
        let error = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        error.clone().unwrap_or(Error::Closed)
    }
}

impl Client {
    /// Makes an engine over `host`: the handle, and the future that the host has to drive.
    ///
    /// # Errors
    /// The future ends with an error if the store fails or is taken over by another opener.
    pub fn start<H: Host>(host: H) -> (Self, impl Future<Output = Result<(), Error>>) {
        let (commands, inbox) = mpsc::unbounded_channel();
        let reason = Reason::default();
        let client = Self { commands, taken: Arc::default(), reason: reason.clone() };
        (client, engine::run(host, inbox, reason))
    }

    /// Makes a new account with this device as its first.
    ///
    /// # Errors
    /// `username_taken`, `bad_username`, `weak_password`, `already_has_account`, `no_memory`,
    /// `offline`. After the last two the same call goes on where it was, with the same keys.
    pub async fn create_account(&self, name: &str, password: &str) -> Result<(), Error> {
        let (name, password) = (name.to_owned(), Zeroizing::new(password.to_owned()));
        self.ask(|reply| Command::SignUp { name, password, reply }).await
    }

    /// Makes this device one more of an existing account; its chats follow by themselves.
    ///
    /// # Errors
    /// `wrong_password` (for unknown names too), `already_has_account`, `no_memory`, `offline`;
    /// [`Error::TooManyDevices`] if one of the account's devices has to give way.
    pub async fn enter_account(&self, name: &str, password: &str) -> Result<(), Error> {
        let (name, password) = (name.to_owned(), Zeroizing::new(password.to_owned()));
        self.ask(|reply| Command::LogIn { name, password, drop: None, reply }).await
    }

    /// Makes this device one more of an existing account, in the place of `device`, which the
    /// account and all its chats then no longer have: its id, or the first digits of it.
    ///
    /// # Errors
    /// As [`Client::enter_account`], and those of [`Device::find`].
    pub async fn enter_account_for(
        &self,
        name: &str,
        password: &str,
        device: &str,
    ) -> Result<(), Error> {
        let (name, password) = (name.to_owned(), Zeroizing::new(password.to_owned()));
        let drop = Some(device.to_owned());
        self.ask(|reply| Command::LogIn { name, password, drop, reply }).await
    }

    /// Takes a device out of the account. When this answers, the server no longer knows it; this
    /// account's other devices remove it from every chat and bar its key there.
    ///
    /// # Errors
    /// `wrong_password`, `unknown_device`, `this_device`, `no_account`, `offline`.
    pub async fn remove_device(&self, device: DeviceId, password: &str) -> Result<(), Error> {
        let password = Zeroizing::new(password.to_owned());
        self.ask(|reply| Command::RemoveDevice { device, password, reply }).await
    }

    /// Whose account this is.
    ///
    /// # Errors
    /// `no_account` before sign-up or log-in.
    pub async fn account(&self) -> Result<Account, Error> {
        self.ask(Command::Account).await?.ok_or(Error::Refused(Refusal::NoAccount))
    }

    /// Whether the store holds an account.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn is_ready(&self) -> Result<bool, Error> {
        Ok(self.ask(Command::Account).await?.is_some())
    }

    /// The devices of the own account, oldest first.
    ///
    /// # Errors
    /// `no_account`, `offline`.
    pub async fn devices(&self) -> Result<Vec<Device>, Error> {
        self.ask(Command::Devices).await
    }

    /// The number that both sides see if nobody stands between them. People are named as in
    /// [`Client::create_group`].
    ///
    /// # Errors
    /// `unknown_account`, `name_changed_hands`, `chat_with_oneself`, `offline`.
    pub async fn safety_number(&self, name: &str) -> Result<SafetyNumber, Error> {
        let name = name.to_owned();
        self.ask(|reply| Command::SafetyNumber { name, reply }).await
    }

    /// The name by which an account is shown, if the directory told it; of people who left a chat
    /// too. It is the username, unless this device has known another account by that: then the
    /// beginning of the account's id follows after a `~`, which no username has. Calls that name
    /// people take such a name as well.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn name_of(&self, account: AccountId) -> Result<Option<String>, Error> {
        self.ask(|reply| Command::NameOf { account, reply }).await
    }

    /// All chats that this device knows, hidden ones too.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn chats(&self) -> Result<Vec<ChatInfo>, Error> {
        self.ask(Command::Chats).await
    }

    /// A chat that this device knows.
    ///
    /// # Errors
    /// `unknown_chat`.
    pub async fn chat(&self, id: ConversationId) -> Result<Chat, Error> {
        self.chat_info(id).await.map(|info| self.chat_of(&info))
    }

    /// A chat of which this device has just told, such as one of [`Client::chats`]; nothing is
    /// asked.
    #[must_use]
    pub fn chat_of(&self, info: &ChatInfo) -> Chat {
        Chat::new(info.id, self.clone())
    }

    /// Title, members and standing of a chat.
    ///
    /// # Errors
    /// `unknown_chat`.
    pub async fn chat_info(&self, id: ConversationId) -> Result<ChatInfo, Error> {
        self.ask_chat(id, ChatCommand::Info).await
    }

    /// The chat with one person, the same one for ever, whoever starts it; with several people, a
    /// new group without a title, in which all of them are. Messages may be queued at once. People
    /// are named as in [`Client::create_group`].
    ///
    /// # Errors
    /// `unknown_account`, `chat_with_oneself`, `no_key_package`, `offline`; `name_changed_hands` if a
    /// name belongs to another account than the one that this device has known by it.
    pub async fn start_chat(&self, names: &[&str]) -> Result<Chat, Error> {
        self.begin_chat(names, None).await
    }

    /// The same, but nobody is looked for longer than `patience`. The chat is begun in its own time
    /// once they are known.
    ///
    /// # Errors
    /// As [`Client::start_chat`].
    pub async fn start_chat_within(
        &self,
        names: &[&str],
        patience: Duration,
    ) -> Result<Chat, Error> {
        self.begin_chat(names, Some(patience)).await
    }

    async fn begin_chat(&self, names: &[&str], patience: Option<Duration>) -> Result<Chat, Error> {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        let id = self.ask(|reply| Command::StartChat { names, patience, reply }).await?;
        Ok(Chat::new(id, self.clone()))
    }

    /// A new group with these people; its creator is the owner. Who can't be added keeps nobody else
    /// out. People are named by username, or by the id of their account, written out.
    ///
    /// # Errors
    /// `unknown_account`, `name_changed_hands` or `no_key_package` if nobody can be added, `offline`,
    /// `title_too_long`, `bad_title`, `too_many_members`.
    pub async fn create_group(&self, title: &str, names: &[&str]) -> Result<NewGroup, Error> {
        self.create_group_within(title, names, A_MINUTE).await
    }

    /// The same, answered within `patience`: a server takes only so many questions a second, and
    /// those who are not found in time are left out, with the reason why it took long.
    ///
    /// # Errors
    /// As [`Client::create_group`].
    pub async fn create_group_within(
        &self,
        title: &str,
        names: &[&str],
        patience: Duration,
    ) -> Result<NewGroup, Error> {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        let title = title.to_owned();
        let command = |reply| Command::CreateGroup { title, names, patience, reply };
        let (id, left_out) = self.ask(command).await?;
        Ok(NewGroup { chat: Chat::new(id, self.clone()), left_out })
    }

    /// What happens from now on, and what happened before and was not taken.
    #[must_use]
    pub fn events(&self) -> Events {
        Events { client: self.clone(), heard: None }
    }

    /// How the connection stands.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn connection(&self) -> Result<Connection, Error> {
        self.ask(Command::Connection).await
    }

    /// Waits until the connection is another than `known`, and says how it is then.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn connection_after(&self, known: Connection) -> Result<Connection, Error> {
        self.ask(|reply| Command::ConnectionAfter(known, reply)).await
    }

    /// Waits until the server is known not to be reachable: no socket is up, and an attempt has failed
    /// since the last one was. While the first attempt is under way, however slow the network is, this
    /// waits.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn unreachable(&self) -> Result<(), Error> {
        self.ask(Command::Unreachable).await
    }

    /// Waits until the disk is found full; answers at once while it is. What has to be stored first
    /// then waits until there is room.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn store_full(&self) -> Result<(), Error> {
        self.ask(Command::StoreFull).await
    }

    /// Waits until every log has been read to its head and nothing that was asked for is still owed.
    /// Where the server was not heard for two seconds, that takes a sign of life from it.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn settle(&self) -> Result<(), Error> {
        self.ask(Command::Settle).await
    }

    /// Waits until every log and the inbox have been read to their heads, and whoever was invited has
    /// been told. Unlike [`Client::settle`] it doesn't wait for what may take long, such as a change
    /// that has to be confirmed by others first, nor for what a server whose disk is full doesn't store.
    /// Where the server was not heard for two seconds, it is asked for a sign of life first: a path that
    /// has died without a word looks like one on which nothing new comes.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn caught_up(&self) -> Result<(), Error> {
        self.ask(Command::CaughtUp).await
    }

    /// Ends the engine; all that was answered is stored. When this answers, the store is closed:
    /// it may be opened again at once.
    ///
    /// # Errors
    /// [`Error::Closed`] if it had ended before, or the error of the store that ended it.
    pub async fn close(self) -> Result<(), Error> {
        self.ask(Command::Close).await
    }

    pub(crate) async fn ask_chat<T>(
        &self,
        id: ConversationId,
        command: impl FnOnce(Reply<T>) -> ChatCommand,
    ) -> Result<T, Error> {
        self.ask(|reply| Command::Chat(id, command(reply))).await
    }

    /// Why calls get no answer any more.
    pub(crate) fn reason(&self) -> Error {
        self.reason.told()
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| self.reason.told())?;
        answer.await.map_err(|_| self.reason.told())?
    }
}

/// The events of a client, in order.
///
/// An event counts as taken when the next one is asked for; after a crash, those that were not
/// taken come again, with the same sequence numbers, or with later ones if they were told just
/// before the power failed. The first one tells how the connection stands.
#[derive(Clone, Debug)]
pub struct Events {
    client: Client,
    heard: Option<Connection>,
}

impl Events {
    /// Waits for the next event; `None` once the engine has ended. Any call on the client then
    /// answers with the reason.
    pub async fn next(&mut self) -> Option<Event> {
        let event = if self.heard.is_none() {
            // Nobody waits for those who listen already.
            let what = EventKind::Connection(self.client.connection().await.ok()?);
            Event { sequence: None, what }
        } else {
            let mut last = self.client.taken.lock().await;
            let (taken, heard) = (*last, self.heard);
            let ask = |reply| Command::NextEvent { taken, heard, reply };
            let event = self.client.ask(ask).await.ok()?;
            *last = event.sequence.or(taken);
            event
        };
        if let EventKind::Connection(connection) = event.what {
            self.heard = Some(connection);
        }
        Some(event)
    }
}
