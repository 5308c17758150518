//! Which logs one connection follows, and what has to be said for that: no I/O, no clock.
//!
//! A log that is watched is *due* until its subscription is asked for, then followed, until the
//! server refuses it or says that it is another log. What was refused for a while is due again
//! when the time is up; nothing else waits for it. Where the server follows no more logs, the rest
//! take *turns*: at each turn some of them change places with others, so that all are read.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use corncrake_wire::frames::{Subscription, heads_digest};
use corncrake_wire::log::running;
use corncrake_wire::{AccessToken, ClientFrame, ErrorCode, LogEntry, LogId, Refusal, limits};
use tokio::time::{Duration, Instant};

use crate::transport::Push;

/// How long a refusal holds that doesn't say so.
const REFUSED: Duration = Duration::from_secs(30);
/// The share of all subscriptions that takes turns when there are too few.
const SHARE: usize = 16;

/// A log that the engine wants to be followed.
struct Watched {
    token: AccessToken,
    /// The newest position that the engine was given, and the running hash up to there.
    read: u64,
    running: Option<[u8; 32]>,
    /// The subscription, if there is one.
    id: Option<u32>,
    /// Logs with low numbers are the last to give their place away.
    rank: u64,
}

/// The logs of one connection.
pub(super) struct Follows {
    /// Subscriptions that the server allows.
    most: usize,
    logs: HashMap<LogId, Watched>,
    by_id: HashMap<u32, LogId>,
    next_id: u32,
    next_rank: u64,
    due: VecDeque<LogId>,
    /// Subscriptions to be ended.
    ended: Vec<u32>,
    /// Refused logs, by the moment at which they are due again.
    later: BTreeSet<(Instant, LogId)>,
    /// Logs that wait for their turn.
    turns: VecDeque<LogId>,
    /// Logs that are followed for a turn, the oldest first.
    guests: VecDeque<LogId>,
}

impl Follows {
    pub(super) fn new(most: u32) -> Self {
        Self {
            most: usize::try_from(most).unwrap_or(usize::MAX).clamp(1, limits::SUBSCRIPTIONS),
            logs: HashMap::new(),
            by_id: HashMap::new(),
            next_id: 0,
            next_rank: 0,
            due: VecDeque::new(),
            ended: Vec::new(),
            later: BTreeSet::new(),
            turns: VecDeque::new(),
            guests: VecDeque::new(),
        }
    }

    /// Follows a log from a position on, in place of what was followed of it.
    pub(super) fn watch(&mut self, token: AccessToken, read: u64, running: Option<[u8; 32]>) {
        let log = token.log_id();
        let waited = self.turns.contains(&log);
        let rank = self.logs.get(&log).map_or(self.next_rank, |watched| watched.rank);
        self.next_rank += 1;
        self.forget(&log);
        self.logs.insert(log, Watched { token, read, running, id: None, rank });
        if waited {
            // The engine needs it now: somebody else waits instead.
            self.make_room(1);
            self.guests.push_back(log);
        }
        self.due.push_back(log);
    }

    pub(super) fn unwatch(&mut self, log: &LogId) {
        self.forget(log);
    }

    fn forget(&mut self, log: &LogId) {
        if self.logs.contains_key(log) {
            self.end(log);
            self.logs.remove(log);
            self.due.retain(|other| other != log);
            self.later.retain(|(_, other)| other != log);
            self.turns.retain(|other| other != log);
            self.guests.retain(|other| other != log);
        }
    }

    /// Ends the subscription to a log.
    fn end(&mut self, log: &LogId) {
        if let Some(id) = self.logs.get_mut(log).and_then(|watched| watched.id.take()) {
            self.by_id.remove(&id);
            self.ended.push(id);
        }
    }

    /// What has to be said now; and which logs wait for their turns from now on.
    pub(super) fn speak(&mut self) -> (Vec<ClientFrame>, Vec<LogId>) {
        let mut asked = Vec::new();
        let mut waiting = Vec::new();
        while let Some(log) = self.due.pop_front() {
            if self.by_id.len() >= self.most {
                self.turns.push_back(log);
                waiting.push(log);
                continue;
            }
            let Some(watched) = self.logs.get_mut(&log) else {
                continue;
            };
            // A new id for each subscription tells its frames from those of the one before.
            let id = self.next_id;
            self.next_id = self.next_id.wrapping_add(1);
            watched.id = Some(id);
            self.by_id.insert(id, log);
            let (token, after) = (watched.token.clone(), watched.read);
            asked.push(Subscription { id, token, after, running: watched.running });
        }
        let mut frames = Vec::new();
        let mut ended = core::mem::take(&mut self.ended);
        while !ended.is_empty() {
            let ids = ended.split_off(ended.len().saturating_sub(limits::SUBSCRIBE));
            frames.push(ClientFrame::Unsubscribe { ids });
        }
        let mut asked = asked.into_iter();
        while asked.len() > 0 {
            let logs = asked.by_ref().take(limits::SUBSCRIBE).collect();
            frames.push(ClientFrame::Subscribe { logs });
        }
        (frames, waiting)
    }

    /// Entries of a subscription have come; gives what the engine gets.
    pub(super) fn entries_came(
        &mut self,
        id: u32,
        entries: Vec<LogEntry>,
        head: u64,
        told: Option<[u8; 32]>,
    ) -> Vec<Push> {
        let Some((log, watched)) = self.watched(id) else {
            return Vec::new();
        };
        let mut pushes = Vec::new();
        if let (Some(running), None) = (told, watched.running) {
            watched.running = told;
            pushes.push(Push::Running { log, position: watched.read, running });
        }
        for entry in &entries {
            if entry.position == watched.read + 1 {
                watched.read = entry.position;
                let id = entry.id();
                watched.running = watched.running.map(|hash| running(hash, entry.position, &id));
            }
        }
        pushes.push(Push::Entries { log, entries, head });
        pushes
    }

    /// The log of a subscription isn't the one that was read.
    pub(super) fn differs(&mut self, id: u32, head: u64) -> Option<Push> {
        let (log, watched) = self.watched(id)?;
        watched.id = None;
        self.by_id.remove(&id);
        Some(Push::Differs { log, head })
    }

    /// A subscription was refused, for a while or because there are too many; tells which log
    /// waits for its turn from now on.
    pub(super) fn refused(&mut self, id: u32, refusal: Refusal, now: Instant) -> Option<LogId> {
        let (log, watched) = self.watched(id)?;
        watched.id = None;
        self.by_id.remove(&id);
        if refusal.code == ErrorCode::TooManySubscriptions {
            self.most = self.by_id.len().max(1);
            self.turns.push_back(log);
            return Some(log);
        }
        let wait = refusal.retry_after.map_or(REFUSED, |s| Duration::from_secs(s.into()));
        self.later.insert((now + wait, log));
        None
    }

    fn watched(&mut self, id: u32) -> Option<(LogId, &mut Watched)> {
        let log = *self.by_id.get(&id)?;
        Some((log, self.logs.get_mut(&log)?))
    }

    /// When [`come_back`](Self::come_back) has something to do.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.later.first().map(|(at, _)| *at)
    }

    /// Makes due what was refused until now.
    pub(super) fn come_back(&mut self, now: Instant) {
        while let Some((at, log)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, log));
            self.due.push_back(log);
        }
    }

    /// Whether some logs wait for their turns.
    pub(super) fn takes_turns(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Lets the logs that have waited longest change places with others.
    pub(super) fn turn(&mut self) {
        let count = self.turns.len().min((self.most / SHARE).max(1));
        let next: Vec<LogId> = self.turns.drain(..count).collect();
        self.make_room(next.len());
        self.guests.extend(&next);
        self.due.extend(next);
    }

    /// Lets some logs that are followed wait for their turns: those whose turn it was first.
    fn make_room(&mut self, count: usize) {
        let room = self.most.saturating_sub(self.by_id.len());
        for _ in room..count {
            let last = || {
                let followed = self.logs.iter().filter(|(_, watched)| watched.id.is_some());
                followed.max_by_key(|(_, watched)| watched.rank).map(|(log, _)| *log)
            };
            let Some(log) = self.guests.pop_front().or_else(last) else {
                return;
            };
            self.end(&log);
            self.turns.push_back(log);
        }
    }

    /// What a server says to whom nothing is missing.
    pub(super) fn check(&self) -> ClientFrame {
        let followed = self.logs.iter().filter(|(_, watched)| watched.id.is_some());
        let digest = heads_digest(followed.map(|(log, watched)| (*log, watched.read)));
        ClientFrame::CheckHeads { digest }
    }

    /// Something may be missing: what doesn't end at these heads is followed anew.
    pub(super) fn checked(&mut self, heads: &[(u32, u64)]) {
        if heads.is_empty() {
            return;
        }
        let heads: BTreeMap<u32, u64> = heads.iter().copied().collect();
        let wrong = self.logs.iter().filter(|(_, watched)| {
            watched.id.is_some_and(|id| heads.get(&id) != Some(&watched.read))
        });
        let wrong: Vec<LogId> = wrong.map(|(log, _)| *log).collect();
        for log in wrong {
            self.end(&log);
            self.due.push_back(log);
        }
    }
}

#[cfg(test)]
mod tests;
