//! How many appends of 1 KiB a second 64 senders get acknowledged over 1,000 logs, each answered
//! after the database's fsync, beside a bare writer of the same rows; and how long catching up
//! with 10,000 messages takes. `cargo xtask bench server` runs it.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a measurement")]

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use clap::Parser;
use corncrake_server::{Config, Server};
use corncrake_wire::{ClientFrame, ServerFrame, frames::Subscription, log::NewEntry};
use futures_util::future::join_all;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Executor, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::runtime;

#[path = "shared/load.rs"]
mod load;

use load::{
    BODY, SENDERS, append, append_all, body, connect, hear, median, percentile, say, token,
};

const LOGS: u32 = 1000;
const BACKLOG: u64 = 10_000;

/// What to measure, and for how long.
#[derive(Debug, Parser)]
struct Options {
    /// Rounds; the table shows medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Folder on the disk to be measured; the system's folder for temporary files by default.
    #[arg(long)]
    folder: Option<std::path::PathBuf>,
}

fn main() {
    let options = Options::parse();
    let time = Duration::from_secs_f64(options.seconds);
    let parent = options.folder.unwrap_or_else(std::env::temp_dir);
    let load = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut rounds = Rounds::default();
    for round in 0..options.rounds {
        let folder = tempfile::tempdir_in(&parent).unwrap();
        rounds.bare.push(load.block_on(bare(folder.path(), time)));
        let served = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let served = served.unwrap();
        let server =
            served.block_on(Server::start(Config::for_tests(folder.path().into()))).unwrap();
        let (rate, latencies) = load.block_on(appends(server.address(), time));
        rounds.served.push(rate);
        rounds.ratio.push(rate / rounds.bare.last().unwrap());
        rounds.half.push(percentile(&latencies, 0.5));
        rounds.slow.push(percentile(&latencies, 0.99));
        rounds.catch_up.push(load.block_on(catch_up(server.address())));
        served.block_on(server.stop());
        eprintln_round(round, &rounds);
    }
    rounds.print();
}

#[derive(Default)]
struct Rounds {
    bare: Vec<f64>,
    served: Vec<f64>,
    ratio: Vec<f64>,
    half: Vec<f64>,
    slow: Vec<f64>,
    catch_up: Vec<f64>,
}

fn eprintln_round(round: usize, rounds: &Rounds) {
    let (bare, served) = (rounds.bare.last().unwrap(), rounds.served.last().unwrap());
    println!("round {}: bare {bare:.0}/s, server {served:.0}/s", round + 1);
}

impl Rounds {
    fn print(&self) {
        println!();
        println!("| {SENDERS} senders, {LOGS} logs, {BODY} bytes | median |");
        println!("|---|---|");
        println!(
            "| bare SQLite writer, {SENDERS} rows a commit | {:.0} rows/s |",
            median(&self.bare)
        );
        println!("| appends acknowledged after fsync | {:.0} /s |", median(&self.served));
        println!("| ratio (aim: 0.4) | {:.2} |", median(&self.ratio));
        println!(
            "| latency, half / 99 % within | {:.2} / {:.2} ms |",
            median(&self.half),
            median(&self.slow)
        );
        println!("| catch-up of {BACKLOG} messages | {:.0} ms |", median(&self.catch_up));
    }
}

/// Rows a second that one connection stores in commits of [`SENDERS`] rows, with the server's
/// settings and the columns of its table of entries.
async fn bare(folder: &Path, time: Duration) -> f64 {
    let mut database: SqliteConnection = SqliteConnectOptions::new()
        .filename(folder.join("bare.db"))
        .create_if_missing(true)
        .page_size(8192)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", "4096")
        .disable_statement_logging()
        .connect()
        .await
        .unwrap();
    database
        .execute(
            "CREATE TABLE entries (num INTEGER PRIMARY KEY, log INTEGER NOT NULL, \
             position INTEGER NOT NULL, flags INTEGER NOT NULL, bytes BLOB NOT NULL) STRICT",
        )
        .await
        .unwrap();
    let rows = vec!["(?, ?, ?, ?, ?)"; SENDERS as usize].join(", ");
    let insert = format!("INSERT INTO entries (num, log, position, flags, bytes) VALUES {rows}");
    let mut rng = ChaCha20Rng::from_seed([1; 32]);
    let mut stored = 0u32;
    let begun = Instant::now();
    while begun.elapsed() < time {
        let mut query = sqlx::query(AssertSqlSafe(insert.as_str()));
        for _ in 0..SENDERS {
            stored += 1;
            let log = rng.next_u32() % LOGS;
            query = query.bind(stored).bind(log).bind(stored).bind(0).bind(body(&mut rng));
        }
        database.execute(query).await.unwrap();
    }
    f64::from(stored) / begun.elapsed().as_secs_f64()
}

/// Appends a second, and the milliseconds that each took.
async fn appends(address: SocketAddr, time: Duration) -> (f64, Vec<f64>) {
    let mut sockets = Vec::new();
    for _ in 0..SENDERS {
        sockets.push(connect(address).await);
    }
    // The logs exist before the measurement begins.
    let mut rng = ChaCha20Rng::from_seed([2; 32]);
    let first = sockets.first_mut().unwrap();
    for log in 0..LOGS {
        append(first, log, body(&mut rng), Some(b"opening".to_vec())).await;
    }
    let begun = Instant::now();
    let senders = (0u8..).zip(&mut sockets).map(|(number, socket)| async move {
        let mut rng = ChaCha20Rng::from_seed([number; 32]);
        let mut latencies = Vec::new();
        while begun.elapsed() < time {
            let body = body(&mut rng);
            let log = rng.next_u32() % LOGS;
            let sent = Instant::now();
            append(socket, log, body, None).await;
            latencies.push(sent.elapsed().as_secs_f64() * 1000.0);
        }
        latencies
    });
    let latencies = join_all(senders).await.concat();
    let count = u32::try_from(latencies.len()).unwrap();
    (f64::from(count) / begun.elapsed().as_secs_f64(), latencies)
}

/// Milliseconds in which a new subscriber has all messages of a long log.
async fn catch_up(address: SocketAddr) -> f64 {
    let mut rng = ChaCha20Rng::from_seed([3; 32]);
    let mut socket = connect(address).await;
    let mut stored = 0;
    while stored < BACKLOG {
        let entries = (0..50).map(|_| NewEntry::new(body(&mut rng))).collect();
        append_all(&mut socket, LOGS, entries, Some(b"opening".to_vec())).await;
        stored += 50;
    }
    let begun = Instant::now();
    let token = token(LOGS);
    let logs = vec![Subscription { id: 1, token, after: 0, running: None }];
    say(&mut socket, &ClientFrame::Subscribe { logs }).await;
    let mut newest = 0;
    while newest < BACKLOG {
        let ServerFrame::Entries { entries, .. } = hear(&mut socket).await else {
            panic!("entries");
        };
        newest = entries.last().map_or(newest, |entry| entry.position);
    }
    begun.elapsed().as_secs_f64() * 1000.0
}
