//! Appends: many requests decided in order, stored by few statements.

use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::Entry},
    sync::Arc,
};

use corncrake_wire::{
    EntryId, ErrorCode, LogId,
    log::{Append, EntryKind, NewEntry, Point},
};
use futures_util::TryStreamExt;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    Live, Memory, kind_of,
    memory::{Log, Mark, Placed},
    plan::{Draft, Plan, Waiting},
    unsigned,
};
use crate::{Error, budget::Share, clock::Clock, sql};

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
const LOGS: usize = 100_000;

/// An append that was found well-formed.
#[derive(Debug)]
pub(crate) struct NewAppend {
    pub(super) log: LogId,
    pub(super) kind: EntryKind,
    pub(super) after: Point,
    pub(super) entries: Vec<NewEntry>,
    pub(super) marks: Vec<Mark>,
    pub(super) opening: Option<Vec<u8>>,
    bytes: usize,
    /// What the append holds of the budget, until it is stored or refused.
    _share: Share,
}

impl NewAppend {
    /// Checks an append as far as it can be checked without the log.
    pub(crate) fn new(append: Append, share: Share) -> Result<Self, ErrorCode> {
        let marks = append.check()?.iter().map(mark).collect();
        let bytes = append.bytes();
        let log = append.token.log_id();
        let Append { token: _, kind, after, entries, opening, admission: _ } = append;
        Ok(Self { log, kind, after, entries, marks, opening, bytes, _share: share })
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

fn mark(id: &EntryId) -> Mark {
    id.0.first_chunk().copied().unwrap_or_default()
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
    next_entry: i64,
    next_log: i64,
    day: i64,
    batches: u64,
    /// The newest `progress.settled`.
    progress: i64,
    /// Entries that had no place when they came, oldest first.
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
}

impl Appender {
    /// Learns from the database what a crash may have left without a place.
    pub(crate) async fn open(
        connection: &mut SqliteConnection,
        memory: Arc<Memory>,
        live: Arc<Live>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let mut appender = Self {
            memory,
            live,
            clock,
            next_entry: 1,
            next_log: 1,
            day: 0,
            batches: 0,
            progress: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        };
        appender.recover(connection).await?;
        Ok(appender)
    }

    /// Forgets everything and learns it anew.
    pub(crate) async fn recover(&mut self, connection: &mut SqliteConnection) -> Result<(), Error> {
        sqlx::query("INSERT OR IGNORE INTO progress (one, settled) VALUES (1, 0)")
            .execute(&mut *connection)
            .await?;
        let numbers = sqlx::query(
            "SELECT (SELECT coalesce(max(num), 0) FROM entries), \
             (SELECT coalesce(max(num), 0) FROM logs), \
             (SELECT coalesce(max(day), 0) FROM days), (SELECT settled FROM progress)",
        )
        .fetch_one(&mut *connection)
        .await?;
        self.next_entry = numbers.try_get::<i64, _>(0)? + 1;
        self.next_log = numbers.try_get::<i64, _>(1)? + 1;
        self.day = numbers.try_get(2)?;
        self.progress = numbers.try_get(3)?;
        self.waiting.clear();
        self.waiting_bytes = 0;

        let mut logs = HashMap::<LogId, Log>::new();
        let mut rows = sqlx::query(
            "SELECT logs.id, logs.num, logs.head, logs.newest_commit, logs.newest_commit_id, \
             e.num, e.position, e.flags, e.bytes \
             FROM entries e JOIN logs ON logs.num = e.log WHERE e.num > ? ORDER BY e.num",
        )
        .bind(self.progress)
        .fetch(&mut *connection);
        while let Some(row) = rows.try_next().await? {
            let name = log_id(&row, 0)?;
            let (entry, bytes): (i64, &[u8]) = (row.try_get(5)?, row.try_get(8)?);
            let position = unsigned(row.try_get(6)?);
            let log = match logs.entry(name) {
                Entry::Occupied(log) => log.into_mut(),
                Entry::Vacant(log) => log.insert(log_from(&row, 1)?),
            };
            if position <= log.settled {
                continue;
            }
            let id = EntryId::of(bytes);
            let placed = Placed { entry, mark: mark(&id), length: bytes.len() };
            if position != log.head + 1 {
                return Err(Error::failed("an entry is missing in the database"));
            }
            log.tail.push(placed);
            log.head = position;
            if kind_of(row.try_get(7)?) == EntryKind::Commit {
                log.newest_commit = Point { position, id };
            }
            self.waiting_bytes += bytes.len();
            self.waiting.push_back(Waiting { log: name, position, entry, length: bytes.len() });
        }
        *self.memory.lock() = logs;
        Ok(())
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
            ..Plan::default()
        };
        if appends.is_empty() {
            return Ok(plan);
        }
        self.batches = self.batches.wrapping_add(1);
        plan.tail = if self.batches.is_multiple_of(SETTLING) { TAIL } else { LONG_TAIL };
        self.draft_logs(connection, &appends, &mut plan).await?;
        let known = self.known(connection, &appends, &plan).await?;
        for append in appends {
            let outcome = plan.decide(append, &known, &self.live);
            plan.outcomes.push(outcome);
        }
        let today = self.clock.today();
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
                    draft.log.settled = draft.log.head;
                    draft.log.tail.clear();
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
            let row = sqlx::query(
                "SELECT num, head, newest_commit, newest_commit_id FROM logs WHERE id = ?",
            )
            .bind(id.0.to_vec())
            .fetch_optional(&mut *connection)
            .await?;
            let draft = match row {
                Some(row) => Draft { log: log_from(&row, 0)?, ..Draft::default() },
                None => Draft { is_new: true, ..Draft::default() },
            };
            plan.drafts.insert(id, draft);
        }
        Ok(())
    }

    /// Finds entries of the batch that have a place already.
    async fn known(
        &self,
        connection: &mut SqliteConnection,
        appends: &[&mut NewAppend],
        plan: &Plan,
    ) -> Result<HashMap<(i64, Mark), u64>, Error> {
        let mut asked = Vec::new();
        for append in appends {
            if let Some(draft) = plan.drafts.get(&append.log)
                && draft.log.settled > 0
            {
                asked.extend(append.marks.iter().map(|mark| (draft.log.num, *mark)));
            }
        }
        let mut known = HashMap::new();
        for chunk in asked.chunks(sql::ROWS) {
            let mut query = sqlx::query(sql::known(chunk.len()));
            for (log, mark) in chunk {
                query = query.bind(*log).bind(mark.to_vec());
            }
            for row in query.fetch_all(&mut *connection).await? {
                let mark: Mark = row.try_get::<&[u8], _>(1)?.try_into().unwrap_or_default();
                known.insert((row.try_get(0)?, mark), unsigned(row.try_get(2)?));
            }
        }
        Ok(known)
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
                if count <= WAITING && bytes <= WAITING_BYTES {
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

fn log_id(row: &SqliteRow, column: usize) -> Result<LogId, Error> {
    LogId::try_from(row.try_get::<&[u8], _>(column)?).map_err(Error::from)
}

/// A settled log from the columns `num`, `head`, `newest_commit` and `newest_commit_id`.
fn log_from(row: &SqliteRow, first: usize) -> Result<Log, Error> {
    let head = unsigned(row.try_get(first + 1)?);
    Ok(Log {
        num: row.try_get(first)?,
        head,
        newest_commit: Point {
            position: unsigned(row.try_get(first + 2)?),
            id: EntryId::try_from(row.try_get::<&[u8], _>(first + 3)?)?,
        },
        settled: head,
        tail: Vec::new(),
    })
}
