//! Appends: many requests decided in order, stored by few statements.

use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::Entry},
    sync::Arc,
};

use corncrake_wire::{
    EntryId, ErrorCode, LogId,
    log::{Append, EntryKind, NewEntry, Point, running},
};
use futures_util::TryStreamExt;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    Live, Memory, kind_of,
    memory::{Log, Placed, RECENT, mark},
    plan::{Draft, Plan, Waiting},
    unsigned,
};
use crate::{Error, budget::Share, clock::Clock};

/// Every so many batches, the logs of the batch with so many waiting entries get them placed, so
/// that one statement places many.
const SETTLING: u64 = 8;
const TAIL: usize = 16;
/// So many entries of one log are placed with the batch that brings the last of them.
const LONG_TAIL: usize = 64;
/// Entries of all logs that wait for their place at most.
const WAITING: usize = 32 * 1024;
/// Their bytes at most: what a start after a crash reads.
const WAITING_BYTES: usize = 64 * 1024 * 1024;
/// How far `progress` may lag behind.
const PROGRESS: i64 = 2048;
/// Logs in memory at most.
const LOGS: usize = 32 * 1024;

/// An append that was found well-formed.
#[derive(Debug)]
pub(crate) struct NewAppend {
    pub(super) log: LogId,
    pub(super) kind: EntryKind,
    pub(super) after: Point,
    pub(super) entries: Vec<NewEntry>,
    pub(super) ids: Vec<EntryId>,
    pub(super) opening: Option<Vec<u8>>,
    bytes: usize,
    /// What the append holds of the budget, until it is stored or refused.
    _share: Share,
}

impl NewAppend {
    /// Checks an append as far as it can be checked without the log.
    pub(crate) fn new(append: Append, share: Share) -> Result<Self, ErrorCode> {
        let ids = append.check()?;
        let bytes = append.bytes();
        let log = append.token.log_id();
        let Append { token: _, kind, after, entries, opening, admission: _ } = append;
        Ok(Self { log, kind, after, entries, ids, opening, bytes, _share: share })
    }

    /// Its bytes, with all that lies beside it.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The log.
    pub(crate) const fn log(&self) -> &LogId {
        &self.log
    }
}

/// What became of an append.
#[derive(Debug)]
pub(crate) enum Outcome {
    Stored { positions: Vec<u64>, head: u64 },
    Refused(ErrorCode),
    Conflict { newest_commit: Point, head: u64 },
}

/// The writer's knowledge about logs.
#[derive(Debug)]
pub(crate) struct Appender {
    memory: Arc<Memory>,
    live: Arc<Live>,
    clock: Arc<dyn Clock>,
    /// Bytes that a log may hold.
    log_bytes: u64,
    next_entry: i64,
    next_log: i64,
    day: i64,
    batches: u64,
    /// The newest `progress.settled`.
    progress: i64,
    /// Entries that had no place when they came, oldest first.
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Entries up to this one are to have their place, whatever else waits.
    settle_up_to: i64,
}

impl Appender {
    /// Learns from the database what a crash may have left without a place.
    pub(crate) async fn open(
        connection: &mut SqliteConnection,
        memory: Arc<Memory>,
        live: Arc<Live>,
        clock: Arc<dyn Clock>,
        log_bytes: u64,
    ) -> Result<Self, Error> {
        let mut appender = Self {
            memory,
            live,
            clock,
            log_bytes,
            next_entry: 1,
            next_log: 1,
            day: 0,
            batches: 0,
            progress: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            settle_up_to: 0,
        };
        appender.recover(connection).await?;
        Ok(appender)
    }

    /// Forgets everything and learns it anew.
    pub(crate) async fn recover(&mut self, connection: &mut SqliteConnection) -> Result<(), Error> {
        sqlx::query("INSERT OR IGNORE INTO progress (one, settled, expired) VALUES (1, 0, 0)")
            .execute(&mut *connection)
            .await?;
        let numbers = sqlx::query(
            "SELECT (SELECT coalesce(max(num), 0) FROM entries) AS entry, \
             (SELECT max(coalesce((SELECT max(num) FROM logs), 0), \
             coalesce((SELECT max(log) FROM doomed), 0))) AS log, \
             (SELECT coalesce(max(day), 0) FROM days) AS day, settled, expired FROM progress",
        )
        .fetch_one(&mut *connection)
        .await?;
        self.next_entry = numbers.try_get::<i64, _>("entry")?.max(numbers.try_get("expired")?) + 1;
        self.next_log = numbers.try_get::<i64, _>("log")? + 1;
        self.day = numbers.try_get("day")?;
        self.progress = numbers.try_get("settled")?;
        self.waiting.clear();
        self.waiting_bytes = 0;

        let mut logs = HashMap::<LogId, Log>::new();
        let mut rows = sqlx::query(
            "SELECT logs.id, logs.num, logs.head, logs.newest_commit, logs.newest_commit_id, \
             logs.running, logs.held, e.num AS entry, e.position, e.flags, e.bytes \
             FROM entries e JOIN logs ON logs.num = e.log WHERE e.num > ? ORDER BY e.num",
        )
        .bind(self.progress)
        .fetch(&mut *connection);
        while let Some(row) = rows.try_next().await? {
            let name = LogId::try_from(row.try_get::<&[u8], _>("id")?)?;
            let (entry, bytes): (i64, &[u8]) = (row.try_get("entry")?, row.try_get("bytes")?);
            let position = unsigned(row.try_get("position")?);
            let log = match logs.entry(name) {
                Entry::Occupied(log) => log.into_mut(),
                Entry::Vacant(log) => log.insert(log_from(&row)?),
            };
            if position <= log.settled {
                continue;
            }
            let id = EntryId::of(bytes);
            if position != log.head + 1 {
                return Err(Error::failed("an entry is missing in the database"));
            }
            let flags = row.try_get("flags")?;
            log.running = running(log.running, position, &id);
            let running = log.running;
            log.tail.push(Placed { entry, flags, id, length: bytes.len(), running });
            log.head = position;
            // What lies beside a commit is settled with it.
            log.bytes += bytes.len() as u64;
            if kind_of(flags) == EntryKind::Commit {
                log.newest_commit = Point { position, id };
            }
            self.waiting_bytes += bytes.len();
            self.waiting.push_back(Waiting { log: name, position, entry, length: bytes.len() });
        }
        *self.memory.lock() = logs;
        Ok(())
    }

    /// Has the next plan give their places to all entries up to this one.
    pub(crate) fn settle_up_to(&mut self, entry: i64) {
        self.settle_up_to = self.settle_up_to.max(entry);
    }

    /// Decides about appends, in order; what they bring is to be stored with [`Plan::store`].
    pub(crate) async fn prepare(
        &mut self,
        connection: &mut SqliteConnection,
        appends: Vec<&mut NewAppend>,
    ) -> Result<Plan, Error> {
        let mut plan = Plan {
            next_entry: self.next_entry,
            next_log: self.next_log,
            day: self.day,
            log_bytes: self.log_bytes,
            ..Plan::default()
        };
        if appends.is_empty() {
            self.choose_settling(&mut plan);
            return Ok(plan);
        }
        self.batches = self.batches.wrapping_add(1);
        plan.tail = if self.batches.is_multiple_of(SETTLING) { TAIL } else { LONG_TAIL };
        self.draft_logs(connection, &appends, &mut plan).await?;
        for append in appends {
            let outcome = plan.decide(append, &self.live);
            plan.outcomes.push(outcome);
        }
        let today = self.clock.today();
        if today < plan.day {
            // The clock was ahead: the days that it made may have been taken back.
            plan.day = sqlx::query_scalar("SELECT coalesce(max(day), 0) FROM days")
                .fetch_one(&mut *connection)
                .await?;
        }
        if plan.day < today && plan.next_entry > self.next_entry {
            plan.new_day = Some((today, self.next_entry));
            plan.day = today;
        }
        self.choose_settling(&mut plan);
        Ok(plan)
    }

    /// Makes true in memory what was committed, and hands new entries to followers.
    pub(crate) fn publish(&mut self, plan: Plan) -> Vec<Outcome> {
        self.next_entry = plan.next_entry;
        self.next_log = plan.next_log;
        self.day = plan.day;
        self.progress = plan.progress.unwrap_or(self.progress);
        let mut pushes = Vec::new();
        {
            let mut logs = self.memory.lock();
            if logs.len() > LOGS {
                logs.retain(|_, log| !log.tail.is_empty());
            }
            for (id, mut draft) in plan.drafts {
                if draft.settles {
                    draft.log.settle();
                }
                if draft.added > 0 {
                    pushes.push((id, draft.pushed.unwrap_or_default(), draft.log.head));
                }
                if !draft.is_new || draft.added > 0 {
                    logs.insert(id, draft.log);
                }
            }
            self.waiting_bytes += plan.waiting.iter().map(|w| w.length).sum::<usize>();
            self.waiting.extend(plan.waiting);
            while let Some(done) = self.waiting.pop_front_if(|waiting| {
                logs.get(&waiting.log).is_none_or(|log| log.settled >= waiting.position)
            }) {
                self.waiting_bytes -= done.length;
            }
        }
        for (id, entries, head) in pushes {
            self.live.push(&id, &Arc::new(entries), head);
        }
        plan.outcomes
    }

    /// Takes every log that is asked for from memory, from the database, or as a new one.
    async fn draft_logs(
        &self,
        connection: &mut SqliteConnection,
        appends: &[&mut NewAppend],
        plan: &mut Plan,
    ) -> Result<(), Error> {
        let mut cold = HashSet::new();
        {
            let logs = self.memory.lock();
            for append in appends {
                match logs.get(&append.log) {
                    Some(log) => {
                        plan.drafts
                            .entry(append.log)
                            .or_insert_with(|| Draft { log: log.clone(), ..Draft::default() });
                    }
                    None => {
                        cold.insert(append.log);
                    }
                }
            }
        }
        for id in cold {
            let row = sqlx::query("SELECT * FROM logs WHERE id = ?")
                .bind(id.0.to_vec())
                .fetch_optional(&mut *connection)
                .await?;
            let draft = match row {
                Some(row) => Draft { log: log_from(&row)?, ..Draft::default() },
                None => Draft { is_new: true, ..Draft::default() },
            };
            plan.drafts.insert(id, draft);
        }
        for draft in plan.drafts.values_mut() {
            if draft.log.recent.is_none() {
                let nothing = draft.log.settled == 0;
                draft.log.recent = Some(match nothing {
                    true => Arc::default(),
                    false => recent(connection, draft.log.num).await?,
                });
            }
        }
        Ok(())
    }

    /// Adds the logs of the oldest waiting entries to those that get their places, when too much
    /// waits, and notes how far everything has its place then.
    fn choose_settling(&self, plan: &mut Plan) {
        let mut count = self.waiting.len() + plan.waiting.len();
        let mut bytes = self.waiting_bytes + plan.waiting.iter().map(|w| w.length).sum::<usize>();
        let logs = self.memory.lock();
        let mut oldest = plan.next_entry;
        for waiting in self.waiting.iter().chain(&plan.waiting) {
            let settled = match plan.drafts.get(&waiting.log) {
                Some(draft) => draft.settles || draft.log.settled >= waiting.position,
                None => logs.get(&waiting.log).is_none_or(|log| log.settled >= waiting.position),
            };
            if !settled {
                if count <= WAITING && bytes <= WAITING_BYTES && waiting.entry > self.settle_up_to {
                    oldest = waiting.entry;
                    break;
                }
                if let Some(draft) = plan.drafts.get_mut(&waiting.log) {
                    draft.settles = true;
                } else if let Some(log) = logs.get(&waiting.log) {
                    let draft = Draft { log: log.clone(), settles: true, ..Draft::default() };
                    plan.drafts.insert(waiting.log, draft);
                }
            }
            count -= 1;
            bytes -= waiting.length;
        }
        plan.progress = (oldest > self.progress + PROGRESS).then_some(oldest - 1);
    }
}

/// A settled log.
fn log_from(row: &SqliteRow) -> Result<Log, Error> {
    let head = unsigned(row.try_get("head")?);
    Ok(Log {
        num: row.try_get("num")?,
        head,
        newest_commit: Point {
            position: unsigned(row.try_get("newest_commit")?),
            id: EntryId::try_from(row.try_get::<&[u8], _>("newest_commit_id")?)?,
        },
        running: row.try_get::<&[u8], _>("running")?.try_into().map_err(Error::failed)?,
        bytes: unsigned(row.try_get("held")?),
        settled: head,
        tail: Vec::new(),
        recent: None,
    })
}

/// What is kept of the ids of a log's newest settled entries, the newest last.
async fn recent(connection: &mut SqliteConnection, log: i64) -> Result<Arc<Vec<u64>>, Error> {
    let limit = i64::try_from(RECENT).unwrap_or(i64::MAX);
    let ids: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT id FROM places WHERE log = ? ORDER BY position DESC LIMIT ?")
            .bind(log)
            .bind(limit)
            .fetch_all(connection)
            .await?;
    let marks = ids.iter().rev().map(|id| Ok(mark(&EntryId::try_from(id.as_slice())?)));
    marks.collect::<Result<_, Error>>().map(Arc::new)
}
