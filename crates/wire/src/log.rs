//! Logs: entries, appends, reads, and what lies beside a commit.

use serde::{Deserialize, Serialize};

use crate::{AccessToken, EntryId, ErrorCode, codec, limits};

/// The two kinds of entry. Commits order everything; messages expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EntryKind {
    /// An entry that may change the group or the log; `after` counts these.
    Commit,
    /// An entry that changes nothing for others.
    Message,
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
    /// The position of the newest commit that the sender has seen in this log; 0: none.
    pub after: u64,
    /// One commit, or 1 to 64 messages.
    pub entries: Vec<NewEntry>,
    /// The log's opening state, in the append that may be the log's first; ignored in others.
    #[serde(with = "codec::optional_bytes")]
    pub opening: Option<Vec<u8>>,
    /// Reserved; empty.
    #[serde(with = "codec::bytes")]
    pub admission: Vec<u8>,
}

impl Append {
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
        positions: Vec<u64>,
        /// The newest position of the log.
        head: u64,
    },
    /// Nothing was appended: the sender had not seen the newest commit.
    Conflict {
        /// The position of the newest commit; 0: none.
        newest_commit: u64,
        /// The newest position of the log; 0: the log doesn't exist.
        head: u64,
        /// The first page of what comes after the sender's `after`.
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
    /// Whether a Welcome lies beside it.
    pub has_welcome: bool,
    /// Whether a state lies beside it.
    pub has_state: bool,
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

/// Lists where states lie in a log, newest first. 0 stands for the opening state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct States {
    /// Opens the log.
    pub token: AccessToken,
    /// Only positions up to this one.
    pub at_most: u64,
    /// Reserved; empty.
    #[serde(with = "codec::bytes")]
    pub admission: Vec<u8>,
}

/// Positions at which states lie, newest first, at most [`limits::PAGE_STATES`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatesReply {
    /// The positions.
    pub positions: Vec<u64>,
}
