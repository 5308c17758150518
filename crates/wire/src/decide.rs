//! The one append decision, used by every server there is.

use crate::{
    ErrorCode, limits,
    log::{EntryKind, Point},
};

/// What is to become of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// All entries stand in the log already: a retry after a lost answer.
    Stored(Vec<u64>),
    /// The request is refused.
    Refuse(ErrorCode),
    /// The sender had not seen the newest commit.
    Conflict,
    /// The entries go into the log, the first of them at this position.
    Place {
        /// The position of the first entry.
        first: u64,
    },
}

/// Decides about an append of `known.len()` entries of one `kind` under `after`.
///
/// `head` is the log's newest position (0: none), `newest_commit` its newest commit; `known` has for each entry, in order, the position at which the log holds it already.
#[must_use]
pub fn decide(
    head: u64,
    newest_commit: Point,
    known: &[Option<u64>],
    kind: EntryKind,
    after: Point,
) -> Decision {
    let most = match kind {
        EntryKind::Commit => 1,
        EntryKind::Message => limits::BATCH,
    };
    if known.is_empty() || known.len() > most {
        return Decision::Refuse(ErrorCode::BadBatch);
    }
    let positions: Vec<u64> = known.iter().copied().flatten().collect();
    if positions.len() == known.len() {
        Decision::Stored(positions)
    } else if !positions.is_empty() {
        Decision::Refuse(ErrorCode::PartlyKnown)
    } else if after != newest_commit {
        Decision::Conflict
    } else {
        Decision::Place { first: head + 1 }
    }
}

#[cfg(test)]
mod tests;
