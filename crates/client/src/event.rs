//! What an app sees: chats, the items of their timelines, and events.

use corncrake_core::id::{AccountId, ConversationId, DeviceId, MessageId};
use serde::{Deserialize, Serialize};

pub use corncrake_core::conversation::Role;

use crate::{
    error::{Error, Refusal},
    host::Timestamp,
};

/// Whose account this client holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The account's id, the same on all its devices.
    pub id: AccountId,
    /// The name it is found by.
    pub username: String,
    /// This device.
    pub device: DeviceId,
    /// Whether another device of the account was removed, and this one has not got the keys that
    /// were made then: until one of the others sends them it hears of no chats that those begin.
    pub waits_for_keys: bool,
}

/// A device of the own account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// What it calls itself, if this device has read that.
    pub name: Option<String>,
    /// The version of the account's device list that named it first: the older a device, the lower.
    pub since: u64,
    /// Whether it is the one that asks.
    pub this_device: bool,
}

impl Device {
    /// Finds the device among these whose id is this one, or begins so.
    ///
    /// # Errors
    /// `unknown_device`, or `ambiguous_device` if more than one begins so.
    pub fn find<'a>(devices: &'a [Self], typed: &str) -> Result<&'a Self, Refusal> {
        let typed = typed.to_ascii_lowercase();
        let begins =
            |device: &&Self| !typed.is_empty() && device.id.to_string().starts_with(&typed);
        let mut like = devices.iter().filter(begins);
        match (like.next(), like.next()) {
            (Some(only), None) => Ok(only),
            (Some(_), Some(_)) => Err(Refusal::AmbiguousDevice),
            (None, _) => Err(Refusal::UnknownDevice),
        }
    }
}

/// Whether the server can be reached, and knows this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Connection {
    /// No socket is up.
    Offline,
    /// One plane's socket is up, the other is not yet.
    Connecting,
    /// Both planes are up.
    Online,
    /// The server no longer knows this device: it was removed from the account. What is here can
    /// be read; to go on, log in with a new store.
    SignedOut,
    /// The server lost the account, and somebody else has signed up with its name. What is here can
    /// be read; to go on, sign up under another name with a new store.
    NameTaken,
}

impl Connection {
    /// The stable name of this state.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Connecting => "connecting",
            Self::Online => "online",
            Self::SignedOut => "signed_out",
            Self::NameTaken => "name_taken",
        }
    }
}

/// A chat of two or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChatKind {
    /// Two people, each with any number of devices.
    Direct,
    /// Any number of people, with roles and a title.
    Group,
}

/// How this device stands to a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// The chat is being founded; messages wait.
    Founding,
    /// This device is on its way in.
    Joining,
    /// In the chat.
    Member,
    /// A commit could not be finished here; this device is coming back by itself.
    LockedOut,
    /// Out of the chat because a copy of this store is used elsewhere; coming back a day after it
    /// came back last.
    Copied,
    /// Waiting to be let in by somebody who was there.
    Waiting,
    /// Removed by somebody.
    Removed,
    /// Left by this account.
    Left,
}

/// What became of the wish to add people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adding {
    /// They are in the group.
    Done,
    /// They are added as soon as another member's device has confirmed the removal before, after an
    /// hour at the latest. Nothing more has to be done, and nothing else waits for it.
    Waits,
}

/// What came of adding people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// What became of those who can be added.
    pub adding: Adding,
    /// Who can't be added, and why.
    pub left_out: Vec<LeftOut>,
}

/// Somebody who was to come into a group and can't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The name as it was given, or the account's id.
    pub who: String,
    /// Why.
    pub why: Error,
}

/// A person in a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The account.
    pub account: AccountId,
    /// Its name as [`Client::name_of`](crate::Client::name_of) gives it, if the directory told it.
    pub name: Option<String>,
    /// What it may do.
    pub role: Role,
    /// How many of its devices are in the chat.
    pub devices: usize,
    /// In a chat of two, how many of them the account's newest record doesn't name: they may be a
    /// thief's, or on their way out.
    pub unnamed: usize,
    /// Whether it is the own account.
    pub is_me: bool,
}

/// A chat as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatInfo {
    /// The conversation's id, the same for all members for ever.
    pub id: ConversationId,
    /// Direct or group.
    pub kind: ChatKind,
    /// The other account in a chat of two.
    pub peer: Option<AccountId>,
    /// The group's title, or the other person's name.
    pub title: String,
    /// Who is in it.
    pub members: Vec<Member>,
    /// Those whom this device is about to add.
    pub adding: Vec<AccountId>,
    /// How this device stands to it.
    pub standing: Standing,
    /// Whether it was hidden here.
    pub hidden: bool,
    /// False while nobody but the one who invited has spoken in a group.
    pub confirmed: bool,
    /// The chat of the same two people in which what is said here is sent, should there be two.
    pub continues_in: Option<ConversationId>,
    /// Accounts that are back, or have a device back, because the server lost their removal, and
    /// that this account may not remove. Nothing is sent here until somebody who may has removed
    /// them again.
    pub lost_removals: Vec<AccountId>,
    /// Whether nobody has done so for a day: offer a new group without them.
    pub needs_new_group: bool,
    /// Number of the newest item of the timeline.
    pub last_item: Option<u64>,
    /// Time of the item at the end of the history, which may be a message on its way.
    pub last_at: Option<Timestamp>,
}

/// One line of a chat's timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Contiguous from 0 in each chat, on this device.
    pub number: u64,
    /// When it happened: of a message, when its sender meant to send it; of all else, when it came
    /// to be here. The order of items is the log's alone.
    pub at: Timestamp,
    /// Whether the sender of a message gave a time that can't be true, so that `at` is the time when
    /// it came to be here.
    pub wrong_clock: bool,
    /// What happened.
    pub what: ItemKind,
}

/// Where a message stands on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// Somebody else's; it is here.
    Received,
    /// Ours, safe in the store, on its way.
    Queued,
    /// Ours, read back from the log.
    Sent,
    /// Ours, and it will not be sent; the code says why.
    Failed(String),
}

/// What a line of a timeline tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ItemKind {
    /// Somebody said something.
    Message {
        /// Chosen by the sender; unique together with the account.
        id: MessageId,
        /// Who said it.
        sender: AccountId,
        /// What was said.
        text: String,
        /// Where it stands.
        delivery: Delivery,
    },
    /// A message of a kind that this version does not know.
    UnknownKind {
        /// Chosen by the sender.
        id: MessageId,
        /// Who said it.
        sender: AccountId,
    },
    /// Something stands in the log that could not be read here.
    Unreadable {
        /// Who seems to have written it, if that is known.
        sender: Option<AccountId>,
        /// The stable code of the cause.
        code: String,
    },
    /// Messages that the server doesn't keep any more, or keeps damaged, before this device had
    /// read them.
    Expired,
    /// This device joined here; what was said before is not readable for it.
    JoinedHere,
    /// The server has lost entries of this chat, for instance because a backup was restored. What
    /// was lost of this account's own messages is said again.
    ServerLostEntries,
    /// The server has lost something that this person had said, and others have come in since: it
    /// is not said again.
    NotRepeated {
        /// Its id; unique per sender.
        id: MessageId,
        /// Who had said it.
        sender: AccountId,
    },
    /// The server has lost the removal of these accounts, or of devices of theirs. This account may
    /// not remove them; until somebody who may does so, nothing is sent here.
    RemovalLost {
        /// Whose removal.
        who: Vec<AccountId>,
    },
    /// Nobody has made a lost removal again for a day: offer a new group.
    NewGroupNeeded {
        /// Who should not be in it.
        without: Vec<AccountId>,
    },
    /// This device was out for a while; what was said meanwhile is not readable for it, unless it is
    /// said again behind this line.
    Gap,
    /// People or devices were added.
    Added {
        /// By whom.
        by: AccountId,
        /// Whose devices.
        who: Vec<AccountId>,
    },
    /// People or devices were removed.
    Removed {
        /// By whom.
        by: AccountId,
        /// Whose devices.
        who: Vec<AccountId>,
    },
    /// A device let itself in or came back.
    Rejoined {
        /// Whose device.
        who: AccountId,
    },
    /// Somebody left.
    Left {
        /// Who.
        who: AccountId,
    },
    /// The title changed.
    Renamed {
        /// By whom.
        by: AccountId,
        /// The new title.
        title: String,
    },
    /// Roles changed.
    RolesChanged {
        /// By whom.
        by: AccountId,
    },
    /// A commit could not be finished here. Its author is at fault, or this device's store is; the
    /// author can be removed.
    LockedOut {
        /// The commit's author.
        by: AccountId,
    },
    /// A copy of this store is used elsewhere, again: this device stays out of the chat for a day.
    Copied {
        /// When it comes back, if no copy was used meanwhile.
        until: Timestamp,
    },
    /// A sender saw another history than this device: the server may show different things to
    /// different people.
    ViewDiffers {
        /// The sender.
        sender: AccountId,
    },
    /// The other one in this chat of two is not the account that this device has known by the same
    /// name before. It is told once.
    NameChangedHands {
        /// The account that the name means here.
        before: AccountId,
        /// The one in this chat, to which it belongs as the server says.
        now: AccountId,
    },
}

/// Something that happened, once for each client, or how things stand at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Grows from event to event, over restarts too, and is never given to another event; numbers
    /// of events that were erased with their chat, and many after a crash, are left out. Events that tell of the moment only have none: they are not stored and
    /// never come again.
    pub sequence: Option<u64>,
    /// What happened.
    pub what: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// The account is usable.
    Ready,
    /// How the connection stands: told at the beginning and at each change, without a number.
    Connection(Connection),
    /// A chat appeared.
    ChatAdded(ConversationId),
    /// Title, members or standing of a chat changed.
    ChatChanged(ConversationId),
    /// A timeline has a new item, or one of its items changed.
    Item {
        /// The chat.
        chat: ConversationId,
        /// The item as it is now.
        item: Item,
    },
    /// So many events waited that they were dropped: whoever shows chats reads them and their
    /// timelines anew.
    Lagged,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_by_as_much_of_its_id_as_tells_it_from_others() {
        let devices = [[0xab; 32], [0xac; 32], [0x1f; 32]].map(|id| Device {
            id: DeviceId::from_bytes(id),
            name: None,
            since: 1,
            this_device: false,
        });
        let find = |typed: &str| Device::find(&devices, typed).map(|device| device.id);
        assert_eq!(find("1"), Ok(devices[2].id));
        assert_eq!(find("AC"), Ok(devices[1].id));
        assert_eq!(find(&devices[0].id.to_string()), Ok(devices[0].id));
        assert_eq!(find("a"), Err(Refusal::AmbiguousDevice));
        for unknown in ["", "2", "abac", "x"] {
            assert_eq!(find(unknown), Err(Refusal::UnknownDevice), "{unknown}");
        }
    }
}
