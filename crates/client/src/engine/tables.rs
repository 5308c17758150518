//! What the store holds, table by table.
//!
//! A row's key is its table, the PRF of an id (empty where the table has one name only) and an
//! index; its value is sealed. Every record begins with a version byte. Where a table is read as a
//! whole at the start, the id stands in the record too.

use corncrake_core::{encoding, mls::PartId};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use crate::store::StoreError;

/// The tables of the local store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Table {
    /// One row: the account, its keys and where its flows stand.
    Account = 1,
    /// One row: the session.
    Session = 2,
    /// By position of creation: key packages and their private keys.
    Packages = 3,
    /// By account id: the newest account record seen.
    Contacts = 4,
    /// Notices read from the inbox whose conversation is not joined yet.
    Notices = 5,
    /// One row and the account log's map.
    AccountLog = 6,
    /// By conversation id: the small facts of a chat.
    Chats = 7,
    /// By conversation id, indexed by part: the conversation's state.
    Parts = 8,
    /// By conversation id, indexed by number: closed logs of the chain.
    ClosedLogs = 9,
    /// By conversation id, indexed by number: intents in order.
    Intents = 10,
    /// By conversation id: the append under way.
    Flights = 11,
    /// By conversation id, indexed by number: hashes of what this device sent in this epoch.
    Own = 12,
    /// By conversation id, indexed by number: the timeline.
    Timeline = 13,
    /// Indexed by sequence: events that the app has not taken yet.
    Events = 14,
    /// Indexed by number: letters owed to other people's inboxes.
    Letters = 15,
    /// By conversation id: what lists show of its group.
    Groups = 16,
    /// By conversation id, indexed by position modulo their number: ids and hashes of the newest
    /// entries that were read.
    Read = 17,
    /// By conversation id, indexed by number: places from which logs can be read again.
    Kept = 18,
    /// By conversation id, indexed by number: own messages, to be said again if the server loses
    /// them.
    Sent = 19,
    /// One row: which instance of the server's logs was seen last.
    Instance = 20,
    /// By conversation id, indexed by number: to whom own messages were said.
    Audiences = 21,
    /// By conversation id, indexed by part: as `Parts`. A chat writes its state into one of the two;
    /// the other one is empty, or holds the group that it has set aside.
    OtherParts = 22,
    /// By conversation id: devices that were in the group when this one came back from a loss, and have
    /// not acted since.
    Absent = 23,
}

impl From<Table> for crate::store::Table {
    fn from(table: Table) -> Self {
        Self(table as u8)
    }
}

/// The version of every record below.
const VERSION: u8 = 1;

/// Encodes a record for the store.
pub(crate) fn encode<T: Serialize>(record: &T) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(encoding::encode(VERSION, record))
}

/// Decodes a record from the store.
pub(crate) fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    encoding::decode(VERSION, bytes).map_err(|_| StoreError::Damaged)
}

/// The index of the row that holds a part of a conversation's state.
pub(crate) fn part_index(part: PartId) -> u64 {
    u64::from(part.kind) << 32 | u64::from(part.index)
}

/// The part that a row with this index holds.
pub(crate) fn part_of(index: u64) -> Option<PartId> {
    let kind = u8::try_from(index >> 32).ok()?;
    let index = u32::try_from(index & u64::from(u32::MAX)).ok()?;
    Some(PartId { kind, index })
}
