//! What a handle asks of the engine.

use core::time::Duration;

use corncrake_core::id::{AccountId, ConversationId, DeviceId, MessageId};
use corncrake_core::identity::SafetyNumber;
use zeroize::Zeroizing;

use crate::{
    engine::Reply,
    event::{Account, Adding, ChatInfo, Connection, Delivery, Device, Event, Item, LeftOut, Role},
};

/// A call on a handle, with the place where its answer goes.
#[derive(Debug)]
pub(crate) enum Command {
    /// Makes an account.
    SignUp { name: String, password: Zeroizing<String>, reply: Reply<()> },
    /// Brings an account to this device, in the place of another one whose id begins so.
    LogIn { name: String, password: Zeroizing<String>, drop: Option<String>, reply: Reply<()> },
    /// Who am I?
    Account(Reply<Option<Account>>),
    /// The own devices.
    Devices(Reply<Vec<Device>>),
    /// Takes a device out of the account.
    RemoveDevice { device: DeviceId, password: Zeroizing<String>, reply: Reply<()> },
    /// The number to compare with somebody.
    SafetyNumber { name: String, reply: Reply<SafetyNumber> },
    /// The name by which an account is shown.
    NameOf { account: AccountId, reply: Reply<Option<String>> },
    /// All chats.
    Chats(Reply<Vec<ChatInfo>>),
    /// Starts or finds a chat.
    StartChat { names: Vec<String>, patience: Option<Duration>, reply: Reply<ConversationId> },
    /// Founds a group with those who are found in time.
    CreateGroup {
        title: String,
        names: Vec<String>,
        patience: Duration,
        reply: Reply<(ConversationId, Vec<LeftOut>)>,
    },
    /// Waits for the next event; the one with sequence `taken` and those before it are done with.
    /// Who asks believes the connection to stand as in `heard`.
    NextEvent { taken: Option<u64>, heard: Option<Connection>, reply: Reply<Event> },
    /// How the connection stands.
    Connection(Reply<Connection>),
    /// How it is once it is another than this.
    ConnectionAfter(Connection, Reply<Connection>),
    /// Answers once no socket is up and an attempt has failed since the last one was.
    Unreachable(Reply<()>),
    /// Answers once the disk is found full, or at once while it is.
    StoreFull(Reply<()>),
    /// Answers when nothing is owed any more.
    Settle(Reply<()>),
    /// Answers when everything is read.
    CaughtUp(Reply<()>),
    /// Ends the engine.
    Close(Reply<()>),
    /// Something about one chat.
    Chat(ConversationId, ChatCommand),
}

/// A call on a chat's handle.
#[derive(Debug)]
pub(crate) enum ChatCommand {
    /// What a list shows of it.
    Info(Reply<ChatInfo>),
    /// Queues a message.
    SendText { text: String, reply: Reply<MessageId>, fate: Reply<Delivery> },
    /// A page of the timeline: items with numbers below `before`, at most `limit`, in order.
    History { before: Option<u64>, limit: u32, reply: Reply<Vec<Item>> },
    /// Adds those who are found in time: who is not, when that is stored, and what becomes of it.
    Add { names: Vec<String>, patience: Duration, reply: Reply<Vec<LeftOut>>, fate: Reply<Adding> },
    /// Removes people.
    Remove { names: Vec<String>, reply: Reply<()> },
    /// Leaves for good.
    Leave(Reply<()>),
    /// Changes the title.
    Rename { title: String, reply: Reply<()> },
    /// Changes somebody's role.
    SetRole { name: String, role: Role, reply: Reply<()> },
    /// Removes one of the own account's devices and bars its key.
    RevokeDevice { device: DeviceId, reply: Reply<()> },
    /// Hides the chat and erases it here.
    Hide(Reply<()>),
    /// Answers when nothing that was asked for in this chat is under way any more.
    Settled(Reply<()>),
}
