//! Who follows which log right now.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use corncrake_wire::{LogId, log::LogEntry};
use tokio::sync::mpsc;

/// Bytes of entries that wait for a connection at most.
const QUEUED: usize = 128 * 1024;

/// Entries that were just committed.
#[derive(Clone, Debug)]
pub(crate) struct Push {
    /// The follower's name for its subscription.
    pub(crate) subscription: u32,
    /// The entries, in order.
    pub(crate) entries: Arc<Vec<LogEntry>>,
    /// The log's newest position.
    pub(crate) head: u64,
}

/// One subscription of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Follower {
    /// Tells connections apart.
    pub(crate) connection: u64,
    /// The connection's name for the subscription.
    pub(crate) subscription: u32,
    /// Where pushes go.
    pub(crate) pushes: mpsc::Sender<Push>,
    /// Bytes of the entries in `pushes`.
    pub(crate) queued: Arc<AtomicUsize>,
    /// Subscriptions of the connection for which `pushes` had no room.
    pub(crate) missed: Arc<Mutex<Vec<u32>>>,
}

/// All subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Live(Mutex<HashMap<LogId, Vec<Follower>>>);

impl Live {
    /// Begins a subscription.
    pub(crate) fn follow(&self, log: LogId, follower: Follower) {
        let mut logs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        logs.entry(log).or_default().push(follower);
    }

    /// Ends a subscription.
    pub(crate) fn unfollow(&self, log: &LogId, connection: u64, subscription: u32) {
        let mut logs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(followers) = logs.get_mut(log) {
            followers.retain(|f| (f.connection, f.subscription) != (connection, subscription));
            if followers.is_empty() {
                logs.remove(log);
            }
        }
    }

    /// Whether anybody follows the log.
    pub(super) fn is_followed(&self, log: &LogId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(log)
    }

    /// Hands entries to all followers of the log, waiting for nobody.
    pub(super) fn push(&self, log: &LogId, entries: &Arc<Vec<LogEntry>>, head: u64) {
        let logs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: usize = entries.iter().map(|entry| entry.bytes.len()).sum();
        for follower in logs.get(log).into_iter().flatten() {
            let push =
                Push { subscription: follower.subscription, entries: Arc::clone(entries), head };
            // What is long is read from the database when the connection can take it.
            let queued = follower.queued.fetch_add(bytes, Ordering::AcqRel);
            let has_room = queued + bytes <= QUEUED;
            if !has_room || follower.pushes.try_send(push).is_err() {
                follower.queued.fetch_sub(bytes, Ordering::AcqRel);
                let mut missed = follower.missed.lock().unwrap_or_else(PoisonError::into_inner);
                if !missed.contains(&follower.subscription) {
                    missed.push(follower.subscription);
                }
            }
        }
    }
}
