//! What expires, what a database costs as it grows, and what a damaged row does.

use std::{
    net::Ipv4Addr,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use corncrake_wire::{
    AccessToken, EntryId, ErrorCode, LogId,
    log::{Append, EntryKind, LogEntry, NewEntry, Part, Point, RUNNING_START, running},
};
use futures_util::future::join_all;
use sqlx::AssertSqlSafe;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::{Clock, Origin, budget::Budget, clock::Hand, database::Database, disk::Disk};

const DAY: u64 = 86_400;

/// Bytes that a log may hold.
const LOG_BYTES: u64 = 4 * 1024 * 1024;

struct Server {
    folder: TempDir,
    clock: std::sync::Arc<Hand>,
    store: LogStore,
    writing: JoinHandle<()>,
    budget: Budget,
    number: u64,
}

impl Server {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let clock = std::sync::Arc::new(Hand(AtomicU64::new(20_000 * DAY)));
        let (store, writing) = open(folder.path(), &clock).await;
        Self { folder, clock, store, writing, budget: Budget::new(1 << 30, 1 << 30), number: 0 }
    }

    /// Stops and starts again on the same data.
    async fn restart(self) -> Self {
        let Self { folder, clock, store, writing, .. } = self;
        store.close().await;
        drop(store);
        writing.await.unwrap();
        let (store, writing) = open(folder.path(), &clock).await;
        Self { store, writing, folder, clock, ..self }
    }

    async fn days_pass(&self, days: u64) {
        self.clock.0.fetch_add(days * DAY, Ordering::Relaxed);
        self.store.expire(self.clock.today()).await.unwrap();
    }

    fn append(&mut self, log: u8, kind: EntryKind, after: Point, count: usize) -> NewAppend {
        let entries = (0..count).map(|_| {
            self.number += 1;
            let mut body = vec![log; 150];
            body.splice(..8, self.number.to_le_bytes());
            NewEntry::new(body)
        });
        let append = Append {
            token: token(log),
            kind,
            after,
            entries: entries.collect(),
            opening: Some(b"opening".to_vec()),
            admission: Vec::new(),
        };
        let share = self.budget.take(origin(), append.bytes()).unwrap();
        NewAppend::new(append, share).unwrap()
    }

    async fn say(&mut self, log: u8, after: Point, count: usize) -> Outcome {
        let append = self.append(log, EntryKind::Message, after, count);
        self.store.append(origin(), append).await.unwrap()
    }

    async fn commit(&mut self, log: u8, after: Point) -> Point {
        let append = self.append(log, EntryKind::Commit, after, 1);
        let id = append.ids[0];
        let Outcome::Stored { head, .. } = self.store.append(origin(), append).await.unwrap()
        else {
            panic!("a commit that goes in");
        };
        Point { position: head, id }
    }

    async fn read(&self, log: u8) -> Vec<LogEntry> {
        let page = self.store.page(&id(log), 0, 1000).await.unwrap();
        page.map(|page| page.entries).unwrap_or_default()
    }

    async fn change(&self, sql: &str) {
        let options = sqlx::sqlite::SqliteConnectOptions::new();
        let options = options.filename(self.folder.path().join("logs.db"));
        let mut database = sqlx::ConnectOptions::connect(&options).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut database).await.unwrap();
    }

    async fn count(&self, table: &str) -> i64 {
        let options = sqlx::sqlite::SqliteConnectOptions::new();
        let options = options.filename(self.folder.path().join("logs.db")).read_only(true);
        let mut database = sqlx::ConnectOptions::connect(&options).await.unwrap();
        let sql = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        sqlx::query_scalar(sql).fetch_one(&mut database).await.unwrap()
    }

    /// Pages that one append of one entry writes, on average.
    async fn pages_per_append(&mut self) -> f64 {
        const APPENDS: u32 = 512;
        let begun = self.pages_in_log();
        for number in 0..APPENDS {
            self.say((number % 4) as u8, Point::START, 1).await;
        }
        let grown = self.pages_in_log().checked_sub(begun).expect("it grows");
        grown as f64 / f64::from(APPENDS)
    }

    /// Pages that the write-ahead log holds; behind them it is zeros.
    fn pages_in_log(&self) -> usize {
        let log = std::fs::read(self.folder.path().join("logs.db-wal")).unwrap();
        let frames = log.get(32..).unwrap_or_default().chunks(24 + 8192);
        frames.take_while(|frame| frame.iter().take(24).any(|byte| *byte != 0)).count()
    }

    /// Many entries in each of four logs.
    async fn fill(&mut self, batches: usize) {
        for _ in 0..batches {
            let appends: Vec<_> =
                (0..4).map(|log| self.append(log, EntryKind::Message, Point::START, 64)).collect();
            let stored = appends.into_iter().map(|append| self.store.append(origin(), append));
            for outcome in join_all(stored).await {
                assert!(matches!(outcome.unwrap(), Outcome::Stored { .. }));
            }
        }
    }
}

async fn open(folder: &Path, clock: &std::sync::Arc<Hand>) -> (LogStore, JoinHandle<()>) {
    let disk = Disk::new(folder, Some(0), u64::MAX);
    let clock = std::sync::Arc::clone(clock);
    LogStore::open(Database::logs(folder), disk, clock, LOG_BYTES).await.unwrap()
}

fn token(log: u8) -> AccessToken {
    AccessToken::new([log; 32])
}

fn id(log: u8) -> LogId {
    token(log).log_id()
}

fn origin() -> Origin {
    Origin::of(Ipv4Addr::LOCALHOST.into())
}

#[tokio::test]
async fn audit_srv_a4_messages_expire_and_keep_their_places() {
    let mut server = Server::start().await;
    let first = server.commit(1, Point::START).await;
    server.say(1, first, 40).await;
    server.days_pass(29).await;
    let second = server.commit(1, first).await;
    server.say(1, second, 3).await;
    let before = server.read(1).await;
    assert!(before.iter().all(|entry| entry.expired.is_none()));

    server.days_pass(2).await;
    for _ in 0..2 {
        let after = server.read(1).await;
        assert_eq!(after.len(), before.len(), "positions stay");
        let mut hash = RUNNING_START;
        for (now, was) in after.iter().zip(&before) {
            let expires = (2..=41).contains(&was.position);
            assert_eq!(now.expired.is_some(), expires, "{}", was.position);
            assert_eq!(now.bytes.is_empty(), expires);
            assert_eq!((now.id(), now.kind, now.position), (was.id(), was.kind, was.position));
            hash = running(hash, now.position, &now.id());
            let kept = server.store.running_at(&id(1), now.position).await.unwrap();
            assert_eq!(kept, Some(hash), "and so do running hashes");
        }
        server = server.restart().await;
    }
    assert_eq!(server.count("entries").await, 5);
    server.days_pass(40).await;
    assert_eq!(server.count("entries").await, 2, "commits stay");
    let third = server.commit(1, second).await;
    assert_eq!(third.position, second.position + 4, "the log goes on where it was");
}

#[tokio::test]
async fn what_came_while_the_clock_was_ahead_expires_with_what_came_after() {
    let mut server = Server::start().await;
    let first = server.commit(1, Point::START).await;
    server.clock.0.fetch_add(3000 * DAY, Ordering::Relaxed);
    server.say(1, first, 3).await;
    server.clock.0.fetch_sub(2999 * DAY, Ordering::Relaxed);
    server.store.take_back_days(server.clock.today()).await.unwrap();
    server.say(1, first, 2).await;
    server.days_pass(1).await;
    server.say(1, first, 1).await;
    server.days_pass(29).await;
    assert_eq!(server.count("entries").await, 7, "nothing is too old");
    server.days_pass(1).await;
    assert_eq!(server.count("entries").await, 2, "a day's messages are");
    server.days_pass(1).await;
    assert_eq!(server.count("entries").await, 1, "all messages are");
}

#[tokio::test]
async fn audit_srv_a4_messages_that_wait_for_their_place_expire_too() {
    let mut server = Server::start().await;
    for log in 0..20 {
        server.say(log, Point::START, 3).await;
    }
    assert_eq!(server.count("places").await, 0, "too few to be placed");
    server.days_pass(31).await;
    assert_eq!(server.count("entries").await, 0);
    let server = server.restart().await;
    for log in 0..20 {
        assert!(server.read(log).await.iter().all(|entry| entry.expired.is_some()));
        assert_eq!(server.read(log).await.len(), 3);
    }
}

#[tokio::test]
async fn audit_srv_a4_a_log_that_was_silent_for_two_years_goes_whole() {
    let mut server = Server::start().await;
    let silent = server.commit(1, Point::START).await;
    server.say(1, silent, 60).await;
    let alive = server.commit(2, Point::START).await;
    server.days_pass(720).await;
    server.say(2, alive, 1).await;
    server.days_pass(20).await;
    assert!(server.store.page(&id(1), 0, 10).await.unwrap().is_none());
    assert_eq!(server.read(2).await.len(), 2);
    for (table, rows) in [("logs", 1), ("entries", 2), ("places", 1), ("besides", 1)] {
        assert_eq!(server.count(table).await, rows, "{table}");
    }
    // Whoever comes back begins it anew.
    let again = server.commit(1, Point::START).await;
    assert_eq!(again.position, 1);
    let opening = server.store.beside(&id(1), Part::State, 0).await.unwrap();
    assert_eq!(opening.as_deref(), Some(&b"opening"[..]));
}

#[tokio::test]
async fn audit_srv_a4_space_is_given_back() {
    let mut server = Server::start().await;
    server.fill(250).await;
    let server = server.restart().await;
    let size = || std::fs::metadata(server.folder.path().join("logs.db")).unwrap().len();
    let full = size();
    server.days_pass(31).await;
    let server = server.restart().await;
    let kept = std::fs::metadata(server.folder.path().join("logs.db")).unwrap().len();
    assert!(kept < full - full / 10, "{kept} of {full}");
}

#[tokio::test]
async fn audit_srv_a4_a_log_holds_so_many_bytes_until_its_messages_expire() {
    let mut server = Server::start().await;
    let first = server.commit(1, Point::START).await;
    let batch = 64 * 150;
    let mut stored = 0;
    while let Outcome::Stored { .. } = server.say(1, first, 64).await {
        stored += batch;
        assert!(stored <= LOG_BYTES, "{stored}");
    }
    assert!((LOG_BYTES - 2 * batch..=LOG_BYTES).contains(&stored), "{stored}");
    for _ in 0..2 {
        let refused = server.say(1, first, 64).await;
        assert!(matches!(refused, Outcome::Refused(ErrorCode::LogFull)), "{refused:?}");
        let other = server.say(2, Point::START, 64).await;
        assert!(matches!(other, Outcome::Stored { .. }), "another log is not full");
        server = server.restart().await;
    }
    server.days_pass(31).await;
    for _ in 0..2 {
        let outcome = server.say(1, first, 64).await;
        assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
        server = server.restart().await;
    }
}

#[tokio::test]
async fn audit_load_l3_an_append_writes_no_more_as_the_database_grows() {
    let mut server = Server::start().await;
    server.fill(8).await;
    let small = server.pages_per_append().await;
    server.fill(120).await;
    let server = server.restart().await;
    let mut server = server;
    server.say(0, Point::START, 1).await;
    let large = server.pages_per_append().await;
    assert!(large <= small * 1.2, "{small} pages with a small database, {large} with a large one");
    // The measure sees what an index of random keys costs.
    server.change("CREATE INDEX planted ON places (log, id)").await;
    let planted = server.pages_per_append().await;
    assert!(planted > large * 1.2, "{large} without it, {planted} with a random index");
}

#[tokio::test]
async fn issue_7_an_append_makes_no_file_longer() {
    let mut server = Server::start().await;
    let length = |server: &Server| {
        std::fs::metadata(server.folder.path().join("logs.db-wal")).unwrap().len()
    };
    server.say(1, Point::START, 1).await;
    let (before, pages) = (length(&server), server.pages_in_log());
    for _ in 0..50 {
        server.say(1, Point::START, 1).await;
    }
    assert!(server.pages_in_log() >= pages + 50, "all of it went into the log");
    assert_eq!(length(&server), before, "over zeros");
    let server = server.restart().await;
    assert_eq!(server.read(1).await.len(), 51);
}

#[tokio::test]
async fn retries_are_known_long_after_and_after_a_restart() {
    let mut server = Server::start().await;
    server.say(1, Point::START, 1).await;
    let known = server.append(1, EntryKind::Message, Point::START, 2);
    let again = |server: &mut Server| {
        let number = server.number;
        server.number = 1;
        let append = server.append(1, EntryKind::Message, Point::START, 2);
        server.number = number;
        append
    };
    server.store.append(origin(), known).await.unwrap();
    for _ in 0..4 {
        server.say(1, Point::START, 60).await;
        let repeated = again(&mut server);
        let outcome = server.store.append(origin(), repeated).await.unwrap();
        let Outcome::Stored { positions, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(positions, [2, 3]);
        server = server.restart().await;
    }
}

#[tokio::test]
async fn audit_prog_m8_a_damaged_entry_is_a_gap_of_its_own() {
    let mut server = Server::start().await;
    let first = server.commit(1, Point::START).await;
    server.say(1, first, 64).await;
    let before = server.read(1).await;
    server.change("UPDATE entries SET bytes = zeroblob(150) WHERE position IN (1, 30)").await;
    server.change("DELETE FROM entries WHERE position = 40").await;
    let after = server.read(1).await;
    assert_eq!(after.len(), before.len());
    for (now, was) in after.iter().zip(&before) {
        let damaged = [1, 30, 40].contains(&was.position);
        assert_eq!(now.expired, damaged.then(|| EntryId::of(&was.bytes)));
        assert_eq!((now.id(), now.kind), (was.id(), was.kind));
    }
}
