//! Conversations: our rules on top of MLS.
//!
//! A conversation is an MLS group and the chain of logs that carries it. A log is read entry by
//! entry, in its order; whether a commit counts is the same for everybody who reads it.

use crate::crypto::signature::SignatureKey;
use crate::id::AccountId;

mod context;
mod entry;
mod error;
mod handover;
mod knock;
mod reading;

mod state;

mod view;

pub use context::{
    AssistantPolicy, CONTEXT, ContextExtension, DeviceKey, Kind, MAX_REVOKED, MAX_TITLE,
    Permissions, RULES, Role,
};
pub use entry::{CommitEntry, Entry, EntryKind, Tail};
pub use error::Error;
pub use handover::Handover;
pub use knock::{Answer, ClosedLog, Knock, KnockKey, MAX_SEEDS};
pub use reading::{Cause, CommitReport, Outcome, OwnEntry, Reading, Sender, SkipReason};
pub use state::{NEXT, State};

/// The device that reads and writes; given with each call and never stored here.
#[derive(Clone, Copy, Debug)]
pub struct Me<'a> {
    /// The account.
    pub account: AccountId,
    /// The device's signature key.
    pub device_key: &'a SignatureKey,
    /// The device's certificate.
    pub certificate: &'a [u8],
}
