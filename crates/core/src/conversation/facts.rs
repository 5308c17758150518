//! What a reader keeps beside the group: where he is in the log, and what the newest commit that
//! counted left to do.

use super::entry::Tail;
use super::reading::Sender;
use crate::id::{EntryId, LogId};
use crate::mls::codec::codec_struct;

/// How many commits a state may be old before the next committer adds one.
pub const STATE_EVERY: u32 = 50;

/// What changes at commits only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) log: LogId,
    /// Position in this log of the newest commit that counted; 0 if it lies in an earlier log.
    pub(super) counted: u64,
    /// Who made that commit.
    pub(super) author: Sender,
    /// What its GroupInfo has beyond what is folded.
    pub(super) tail: Tail,
    /// Whether its tail is true; unknown without the epoch's secrets.
    pub(super) tail_true: Option<bool>,
    /// Whether somebody has to hand over.
    pub(super) handover_due: bool,
    pub(super) closed: bool,
    /// Whether we joined by a package of last resort and owe a fresh path.
    pub(super) needs_path: bool,
    /// Position in this log of the newest state that is known to be true.
    pub(super) state_at: Option<u64>,
    /// Commits that counted since then.
    pub(super) commits_since_state: u32,
}

/// What every entry changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The newest position read.
    pub(super) position: u64,
    /// The newest entry of kind commit, whether it counted or not.
    pub(super) newest_commit: (u64, EntryId),
}

impl Cursor {
    /// Right behind a commit, or before the first entry.
    pub(super) const fn at(commit: (u64, EntryId)) -> Self {
        Self { position: commit.0, newest_commit: commit }
    }
}

impl Facts {
    pub(super) fn new(log: LogId, counted: u64, author: Sender, tail: Tail) -> Self {
        Self {
            log,
            counted,
            author,
            tail,
            tail_true: None,
            handover_due: false,
            closed: false,
            needs_path: false,
            state_at: Some(counted),
            commits_since_state: 0,
        }
    }

    /// Goes on at the head of the next log.
    pub(super) fn enter(&mut self, log: LogId) {
        self.log = log;
        self.counted = 0;
        self.handover_due = false;
        self.closed = false;
        self.state_at = None;
        self.commits_since_state = 0;
    }
}

codec_struct!(Sender { account, device, leaf });

codec_struct!(Cursor { position, newest_commit });

codec_struct!(Facts {
    log,
    counted,
    author,
    tail,
    tail_true,
    handover_due,
    closed,
    needs_path,
    state_at,
    commits_since_state,
});
