//! Logs: entries, appends, reads, and what lies beside a commit.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{AccessToken, EntryId, ErrorCode, codec, limits};

/// The two kinds of entry. Commits order everything; messages expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EntryKind {
    /// An entry that may change the group or the log; `after` counts these.
    Commit,
    /// An entry that changes nothing for others.
    Message,
}

/// A place in a log: a position, and the id of the entry there.
///
/// A position alone is true of another entry once a server has lost some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Point {
    /// The position; 0 before the first entry.
    pub position: u64,
    /// The entry's id; zeros at position 0.
    pub id: EntryId,
}

impl Point {
    /// Before the first entry.
    pub const START: Self = Self { position: 0, id: EntryId([0; 32]) };
}

impl Default for Point {
    fn default() -> Self {
        Self::START
    }
}

/// The running hash of a log before its first entry.
pub const RUNNING_START: [u8; 32] = [0; 32];
/// Begins what [`running`] hashes.
const RUNNING: &[u8] = b"corncrake v1 running";

/// The running hash up to an entry: it names all that a log says up to that position.
#[must_use]
pub fn running(previous: [u8; 32], position: u64, entry: &EntryId) -> [u8; 32] {
    let hash = Sha256::new_with_prefix(RUNNING).chain_update(previous);
    hash.chain_update(position.to_be_bytes()).chain_update(entry.as_bytes()).finalize().into()
}

/// An entry to be appended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewEntry {
    /// The sealed entry.
    #[serde(with = "codec::bytes")]
    pub bytes: Vec<u8>,
    /// The sealed Welcome, beside a commit.
    #[serde(with = "codec::optional_bytes")]
    pub welcome: Option<Vec<u8>>,
    /// The sealed state after the commit, beside it.
    #[serde(with = "codec::optional_bytes")]
    pub state: Option<Vec<u8>>,
}

impl NewEntry {
    /// An entry with nothing beside it.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, welcome: None, state: None }
    }

    /// The entry's id.
    #[must_use]
    pub fn id(&self) -> EntryId {
        EntryId::of(&self.bytes)
    }
}

/// Appends one commit, or up to [`limits::BATCH`] messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// Opens the log.
    pub token: AccessToken,
    /// The kind of all entries.
    pub kind: EntryKind,
    /// The newest entry of kind commit that the sender has seen in this log.
    pub after: Point,
    /// One commit, or 1 to 64 messages.
    #[serde(deserialize_with = "codec::at_most::<_, _, { limits::BATCH }>")]
    pub entries: Vec<NewEntry>,
    /// The log's opening state, in the append that may be the log's first; ignored in others.
    #[serde(with = "codec::optional_bytes")]
    pub opening: Option<Vec<u8>>,
    /// Reserved; empty.
    #[serde(with = "codec::bytes")]
    pub admission: Vec<u8>,
}

impl Append {
    /// Bytes that the append brings.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let parts = |entry: &NewEntry| {
            let beside = [&entry.welcome, &entry.state].into_iter().flatten();
            entry.bytes.len() + beside.map(Vec::len).sum::<usize>()
        };
        self.entries.iter().map(parts).sum::<usize>() + self.opening.as_ref().map_or(0, Vec::len)
    }

    /// Checks what can be checked without the log: count, sizes, and that no entry stands twice.
    /// Gives the ids of the entries, in order.
    ///
    /// # Errors
    /// `too_large` or `bad_batch`.
    pub fn check(&self) -> Result<Vec<EntryId>, ErrorCode> {
        let (most, longest) = match self.kind {
            EntryKind::Commit => (1, limits::COMMIT),
            EntryKind::Message => (limits::BATCH, limits::MESSAGE),
        };
        if self.entries.is_empty() || self.entries.len() > most {
            return Err(ErrorCode::BadBatch);
        }
        if self.admission.len() > limits::ADMISSION {
            return Err(ErrorCode::TooLarge);
        }
        if self.opening.as_ref().is_some_and(|opening| opening.len() > limits::BESIDE) {
            return Err(ErrorCode::TooLarge);
        }
        let mut ids = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let beside = [&entry.welcome, &entry.state];
            if entry.bytes.is_empty()
                || self.kind == EntryKind::Message && beside.iter().any(|part| part.is_some())
            {
                return Err(ErrorCode::BadBatch);
            }
            if entry.bytes.len() > longest
                || beside.into_iter().flatten().any(|part| part.len() > limits::BESIDE)
            {
                return Err(ErrorCode::TooLarge);
            }
            let id = entry.id();
            if ids.contains(&id) {
                return Err(ErrorCode::BadBatch);
            }
            ids.push(id);
        }
        Ok(ids)
    }
}

/// What became of an append.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppendReply {
    /// The entries stand in the log, now or since an earlier try.
    Stored {
        /// The position of each entry, in order.
        #[serde(deserialize_with = "codec::at_most::<_, _, { limits::BATCH }>")]
        positions: Vec<u64>,
        /// The newest position of the log.
        head: u64,
    },
    /// Nothing was appended: the sender had not seen the newest commit.
    Conflict {
        /// The newest commit.
        newest_commit: Point,
        /// The newest position of the log; 0: the log doesn't exist.
        head: u64,
        /// The first page of what comes after the sender's `after`.
        #[serde(deserialize_with = "codec::at_most::<_, _, { limits::PAGE_ENTRIES as usize }>")]
        missing: Vec<LogEntry>,
    },
}

/// An entry as a log holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Its position; the first is 1, and none is missing.
    pub position: u64,
    /// Its kind.
    pub kind: EntryKind,
    /// The sealed entry; empty when it has expired.
    #[serde(with = "codec::bytes")]
    pub bytes: Vec<u8>,
    /// Its id, if it has expired.
    pub expired: Option<EntryId>,
    /// Whether a Welcome lies beside it.
    pub has_welcome: bool,
    /// Whether a state lies beside it.
    pub has_state: bool,
}

impl LogEntry {
    /// The entry's id.
    #[must_use]
    pub fn id(&self) -> EntryId {
        self.expired.unwrap_or_else(|| EntryId::of(&self.bytes))
    }
}

/// Reads a page of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Opens the log.
    pub token: AccessToken,
    /// Only entries with a position above this one.
    pub after: u64,
    /// At most so many entries; the server gives [`limits::PAGE_ENTRIES`] at most.
    pub limit: u32,
    /// Reserved; empty.
    #[serde(with = "codec::bytes")]
    pub admission: Vec<u8>,
}

/// A page of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadReply {
    /// The entries, in order and without gaps.
    #[serde(deserialize_with = "codec::at_most::<_, _, { limits::PAGE_ENTRIES as usize }>")]
    pub entries: Vec<LogEntry>,
    /// The newest position of the log.
    pub head: u64,
}

/// The two things that may lie beside a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Part {
    /// The sealed Welcome.
    Welcome,
    /// The sealed state.
    State,
}

/// Fetches what lies beside a commit, or the opening state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// Opens the log.
    pub token: AccessToken,
    /// The commit's position; 0 with [`Part::State`]: the log's opening state.
    pub position: u64,
    /// Which of the two.
    pub part: Part,
    /// Reserved; empty.
    #[serde(with = "codec::bytes")]
    pub admission: Vec<u8>,
}

/// Sealed bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The bytes.
    #[serde(with = "codec::bytes")]
    pub bytes: Vec<u8>,
}

/// Lists where states lie in a log, newest first. 0 stands for the opening state. A fold begins
/// with this, so the reply may bring what it needs next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct States {
    /// Opens the log.
    pub token: AccessToken,
    /// Only positions up to this one.
    pub at_most: u64,
    /// The bytes that a [`Start`] may take; 0 for none. The server gives [`limits::PAGE_BYTES`] at
    /// most.
    pub start: u32,
    /// Reserved; empty.
    #[serde(with = "codec::bytes")]
    pub admission: Vec<u8>,
}

/// Positions at which states lie, newest first, at most [`limits::PAGE_STATES`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatesReply {
    /// The positions.
    #[serde(deserialize_with = "codec::at_most::<_, _, { limits::PAGE_STATES as usize }>")]
    pub positions: Vec<u64>,
    /// What lies at the first of them and behind it, if it was asked for and fits.
    pub start: Option<Start>,
}

/// What a fold needs that begins with the newest state: it spares three requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The sealed state.
    #[serde(with = "codec::bytes")]
    pub state: Vec<u8>,
    /// A page of the log that begins with the entry beside which the state lies.
    pub page: ReadReply,
    /// The sealed Welcome beside the entry at the position up to which states were listed, if
    /// there is one.
    #[serde(with = "codec::optional_bytes")]
    pub welcome: Option<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_hash_stays_as_it_is() {
        let first = running(RUNNING_START, 1, &EntryId([1; 32]));
        let second = running(first, 2, &EntryId([2; 32]));
        assert_eq!(hex(first), "b98eb179cb11c4ac3e22be078d20e1ef828d0ca01c0f0a19eedb4cbf2a7d71c4");
        assert_eq!(hex(second), "a60506eef401d03b6d547d9e5e3f4dbffc79a2d7722b604c924af957b41c0002");
        assert_ne!(running(first, 3, &EntryId([2; 32])), second);
    }

    fn hex(bytes: [u8; 32]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
