//! What a chat keeps in the store.

use std::collections::BTreeMap;

use corncrake_core::{
    conversation::{Conversation, Kind, MemberInfo},
    id::{AccountId, ConversationId, DeviceId, EntryId, InboxId, MessageId},
    seal::{envelope::Seed, record::Anchor},
};
use corncrake_wire::log::{LogEntry, RUNNING_START, running};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{
    lost::{again::OwedAgain, begin::Begin, leave::Left},
    newcomers::Newcomer,
};
use crate::{
    engine::tables::Table,
    event::{ChatKind, Role},
    host::Timestamp,
};

/// The small facts of a chat; rewritten with every entry that is read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ChatRow {
    pub(crate) id: ConversationId,
    pub(crate) kind: ChatKind,
    /// The other account of a direct chat, once it is known.
    pub(crate) peer: Option<AccountId>,
    /// The title that this device saw last, kept when it is out.
    pub(crate) title: String,
    /// Which of the two people's possible chats a direct chat is.
    pub(crate) n: u64,
    pub(crate) phase: Phase,
    /// The seed of the log that the chat is in.
    pub(crate) seed: Seed,
    /// The newest position of that log that has been read.
    pub(crate) cursor: u64,
    /// The running hash up to there, if it is known.
    pub(crate) running: Option<[u8; 32]>,
    /// Whether this log is known to begin with a true state, or to hold one that was seen.
    pub(crate) opening: Opening,
    /// Position and id of the newest commit that counted in this log.
    pub(crate) newest_counted: Option<(u64, EntryId)>,
    pub(crate) hidden: bool,
    /// The newest notice that was followed into this chat.
    pub(crate) notice: u64,
    /// Who let this device's account in, until somebody else has spoken.
    pub(crate) unconfirmed: Option<AccountId>,
    /// Since when a handover is due; adds wait for it, an hour at most.
    pub(crate) handover_due: Option<Timestamp>,
    /// The number of the first item that was not erased.
    pub(crate) first_item: u64,
    pub(crate) next_item: u64,
    /// The time of the item before that one.
    pub(crate) last_at: Option<Timestamp>,
    pub(crate) next_intent: u64,
    pub(crate) next_own: u64,
    pub(crate) next_closed: u64,
    /// When this device last left its leaf because its store seemed to be a copy.
    pub(crate) stepped_out: Option<Timestamp>,
    /// It comes back once a day at most.
    pub(crate) stays_out_until: Option<Timestamp>,
    /// Whether messages came while this device could not read them.
    pub(crate) missed: bool,
    /// Whether the account log names the seed above.
    pub(crate) recorded: bool,
    /// The private key to the answers of the newest knock.
    pub(crate) knock: Option<Pending>,
    /// Seeds that an answer gave beyond the next one, oldest first.
    pub(crate) seeds_ahead: Vec<Seed>,
    /// Whether this device's leaf is in use in the group.
    pub(crate) is_member: bool,
    /// The version of the own account record by which this account's leaves were looked at last.
    pub(crate) devices_checked: u64,
    /// Whether nothing in the group asks for anything to be done.
    pub(crate) is_calm: bool,
    /// Whether the server has lost entries, and the log is being read again.
    pub(crate) recovering: bool,
    /// The account by whose Welcome this device came in.
    pub(crate) brought_in_by: Option<AccountId>,
    /// The account that has taken this one out.
    pub(crate) removed_by: Option<AccountId>,
    /// The epoch that began with that, as this device has read it.
    pub(crate) removed_at: Option<u64>,
    /// Whether another device of this account has taken this one out.
    pub(crate) is_dropped: bool,
    /// When the server was last found to have lost entries.
    pub(crate) lost_at: Option<Timestamp>,
    /// How many losses, one after the other, the current log was chosen behind.
    pub(crate) losses: u32,
    /// Changes that the server has lost and that are owed again.
    pub(crate) owed_again: OwedAgain,
    /// The newest item that tells of expired messages.
    pub(crate) expired_item: Option<u64>,
    /// What is to be done where a log begins again that the server has lost.
    pub(crate) begin: Begin,
    /// Who was added and has not shown themselves since.
    pub(crate) newcomers: BTreeMap<AccountId, Newcomer>,
    /// Whether an epoch has to end before the next message: this store may be from before the server's
    /// loss, and what it would say next was said in this epoch already.
    pub(crate) new_epoch_first: bool,
    /// How this account left, while the server may lose that.
    pub(crate) left: Option<Left>,
    /// Whether the server may have lost own messages while this account was not in the group.
    pub(crate) sent_in_doubt: bool,
    /// The seed of the log of the group that is set aside.
    pub(crate) aside: Option<Seed>,
    /// In which of the two tables the conversation's state is.
    pub(crate) parts: Parts,
    /// The first own message that is to be said again to somebody who has come in again.
    pub(crate) say_from: Option<u64>,
    /// Whether the timeline tells that somebody else was known by the peer's name before.
    pub(crate) namesake_told: bool,
}

/// One of the two tables that a conversation's state may be in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Parts {
    #[default]
    One,
    Other,
}

impl Parts {
    pub(crate) const fn table(self) -> Table {
        match self {
            Self::One => Table::Parts,
            Self::Other => Table::OtherParts,
        }
    }

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::One => Self::Other,
            Self::Other => Self::One,
        }
    }
}

/// What lists show of a chat's group; rewritten when it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupRow {
    pub(crate) title: String,
    /// Accounts with their roles and numbers of devices.
    pub(crate) members: Vec<(AccountId, Role, usize)>,
    /// In a chat of two, whose leaves are in it.
    pub(crate) devices: Vec<(AccountId, DeviceId)>,
}

impl GroupRow {
    pub(crate) fn of(conversation: &Conversation) -> Self {
        let member = |member: MemberInfo| (member.account, member.role, member.devices.len());
        let members = conversation.members();
        let direct = members.iter().filter(|_| conversation.context().kind == Kind::Direct);
        let devices = direct.flat_map(|member| &member.devices);
        Self {
            title: conversation.context().title.clone(),
            devices: devices.map(|sender| (sender.account, sender.device)).collect(),
            members: members.into_iter().map(member).collect(),
        }
    }
}

impl ChatRow {
    pub(crate) fn new(id: ConversationId, kind: ChatKind, seed: Seed) -> Self {
        Self {
            id,
            kind,
            peer: None,
            title: String::new(),
            n: 0,
            phase: Phase::Inside,
            seed,
            cursor: 0,
            running: Some(RUNNING_START),
            opening: Opening::False,
            newest_counted: None,
            hidden: false,
            notice: 0,
            unconfirmed: None,
            handover_due: None,
            first_item: 0,
            next_item: 0,
            last_at: None,
            next_intent: 0,
            next_own: 0,
            next_closed: 0,
            stepped_out: None,
            stays_out_until: None,
            missed: false,
            recorded: false,
            knock: None,
            seeds_ahead: Vec::new(),
            is_member: false,
            devices_checked: 0,
            is_calm: false,
            recovering: false,
            brought_in_by: None,
            removed_by: None,
            removed_at: None,
            is_dropped: false,
            lost_at: None,
            losses: 0,
            owed_again: OwedAgain::default(),
            expired_item: None,
            begin: Begin::default(),
            newcomers: BTreeMap::new(),
            new_epoch_first: false,
            left: None,
            sent_in_doubt: false,
            aside: None,
            parts: Parts::default(),
            say_from: None,
            namesake_told: false,
        }
    }
}

impl ChatRow {
    /// This account is in the group, whoever had taken it out.
    pub(crate) const fn is_not_out(&mut self) {
        (self.removed_by, self.removed_at, self.is_dropped) = (None, None, false);
    }

    /// Steps on to the next entry of the log.
    pub(crate) fn advance(&mut self, entry: &LogEntry) {
        self.cursor = entry.position;
        self.running = self.running.map(|hash| running(hash, entry.position, &entry.id()));
    }
}

impl ClosedLog {
    /// Steps on to the next entry of the log.
    pub(crate) fn advance(&mut self, entry: &LogEntry) {
        self.cursor = entry.position;
        self.running = self.running.map(|hash| running(hash, entry.position, &entry.id()));
    }
}

/// What is known of the state with which the current log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Opening {
    /// The log begins with a state of this hash, if it is true.
    Expected(EntryId),
    /// A true state lies there.
    True,
    /// The opening state is false or missing; somebody has to lay a true one beside a commit.
    False,
}

/// Where a chat stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Folding from a state of a log; the goal tells the true fold.
    Entering(Goal),
    /// The conversation is in memory and follows its log.
    Inside,
    /// The log is closed and its successor's seed is unknown.
    Waiting,
    /// Removed by somebody; the fold goes on no further.
    Removed,
    /// Left by the own account.
    Left,
}

/// How a fold is known to be the true one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Goal {
    /// A Welcome lies beside the entry at this position.
    Welcome(Invitation),
    /// The fold has to pass through one of these epochs.
    Anchors(Vec<Anchor>),
    /// As the account log says: through this epoch; and how far that log had been read.
    Recorded(Anchor, (u64, [u8; 32])),
    /// The log of a 1:1 chat: the opening state has to be the founding of one of the two.
    Direct { n: u64 },
}

impl Goal {
    /// The epochs through one of which the fold has to pass.
    pub(crate) fn anchors(&self) -> Option<&[Anchor]> {
        match self {
            Self::Anchors(anchors) => Some(anchors),
            Self::Recorded(anchor, _) => Some(core::slice::from_ref(anchor)),
            Self::Welcome(_) | Self::Direct { .. } => None,
        }
    }

    /// Where the running hash of the log is known.
    pub(crate) fn running(&self) -> Option<(u64, [u8; 32])> {
        match self {
            Self::Recorded(_, read) => Some(*read),
            Self::Welcome(invitation) => Some((invitation.position, invitation.running?)),
            Self::Anchors(_) | Self::Direct { .. } => None,
        }
    }
}

/// What a notice says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Invitation {
    /// The row of the notice, kept until the invitation is taken or void.
    pub(crate) row: u64,
    /// The position of the commit that adds this device.
    pub(crate) position: u64,
    /// The id of that entry.
    pub(crate) entry: EntryId,
    /// The running hash up to there, if the notice told it.
    pub(crate) running: Option<[u8; 32]>,
    /// The reference of the key package that it was sealed to.
    pub(crate) package: Vec<u8>,
    /// Whose device sent the notice.
    pub(crate) inviter: AccountId,
}

/// Something the app asked for, in the order in which it asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Intent {
    /// To say something; the content keeps its id and its time however often it is sealed.
    Send {
        id: MessageId,
        time: u64,
        content: Vec<u8>,
        text: String,
        /// To whom it was said before the server lost it.
        said_to: Option<u64>,
    },
    /// To change the group.
    Change(Wish),
}

impl Intent {
    /// Whether it adds people.
    pub(crate) const fn adds(&self) -> bool {
        matches!(self, Self::Change(Wish::Add(_)))
    }
}

/// A change of the group that somebody wished for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wish {
    /// Claimed packages stay in the intent, so that they are not claimed twice.
    Add(Vec<(AccountId, Vec<u8>)>),
    Remove(Vec<AccountId>),
    Leave,
    Title(String),
    Role(AccountId, Role),
    Revoke(DeviceId),
}

/// The append under way; there is at most one in each conversation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Flight {
    pub(crate) purpose: Purpose,
    /// The epoch in which it was sealed.
    pub(crate) epoch: u64,
    pub(crate) entries: Vec<FlightEntry>,
    /// What lies beside a commit, sealed.
    pub(crate) welcome: Option<Vec<u8>>,
    pub(crate) state: Option<Vec<u8>>,
    /// The secrets of an own commit.
    pub(crate) pending: Option<Pending>,
    /// Who gets a notice once the commit counts: inbox and key package.
    pub(crate) letters: Vec<(InboxId, Vec<u8>)>,
}

/// Secrets that wait for an answer: of an own commit, or the key of a knock.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Pending(pub(crate) Vec<u8>);

impl core::fmt::Debug for Pending {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Pending(..)")
    }
}

/// One sealed entry of a flight.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FlightEntry {
    pub(crate) sealed: Vec<u8>,
    /// The hash of what lies inside the envelope, by which it is recognised.
    pub(crate) inner: EntryId,
    /// The intent that it carries out.
    pub(crate) intent: Option<u64>,
}

/// What an append is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// Messages of the outbox.
    Messages,
    /// A change that the app asked for.
    Change,
    /// The commit that founds the conversation.
    Found,
    /// An external commit that brings this device in, or back.
    Rejoin,
    /// A commit without proposals: fresh keys, a true state, or the first entry of a log.
    Refresh,
    /// A commit that removes who has left.
    CleanUp,
    /// The entry that closes the log.
    Handover,
    /// A request to be let back in, or the answer to one.
    Knock,
}

/// A closed log of the chain, followed for knocks and later looked into for them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ClosedLog {
    pub(crate) seed: Seed,
    pub(crate) cursor: u64,
    /// The running hash up to there, if it is known.
    pub(crate) running: Option<[u8; 32]>,
    /// The handover: the `after` of what is appended behind it.
    pub(crate) closed_by: (u64, EntryId),
    pub(crate) closed_at: Timestamp,
    /// When to look into it next, once it is no longer followed.
    pub(crate) look_at: Timestamp,
    /// What a knock is judged by.
    pub(crate) handed_over: Vec<u8>,
}
