//! How long appends of 1 KiB take at a steady rate, with a small database and with one that has
//! grown: both servers in turn, each answer after the database's fsync, counted from the moment at
//! which the append was due. `cargo xtask bench grown` runs it.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a measurement")]

use std::{net::SocketAddr, path::Path, time::Duration};

use clap::Parser;
use corncrake_server::{Config, Server};
use futures_util::future::join_all;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sqlx::{
    ConnectOptions, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::{
    runtime,
    time::{Instant, sleep_until},
};

#[path = "shared/load.rs"]
mod load;

use load::{SENDERS, append, body, connect, median, percentile};

const LOGS: u32 = 1000;
/// Entries in each log of those that make a database large.
const ENTRIES: u32 = 100;
/// Logs that are added with one statement.
const STEP: u32 = 500;

/// What to measure, and for how long.
#[derive(Debug, Parser)]
struct Options {
    /// MiB of the small database.
    #[arg(long, default_value_t = 50)]
    small: u64,
    /// MiB of the large one.
    #[arg(long, default_value_t = 10_240)]
    large: u64,
    /// Appends a second.
    #[arg(long, default_value_t = 5000)]
    rate: u32,
    /// Rounds; the last line shows medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Folder on the disk to be measured; the system's folder for temporary files by default.
    #[arg(long)]
    folder: Option<std::path::PathBuf>,
}

fn main() {
    let options = Options::parse();
    let parent = options.folder.clone().unwrap_or_else(std::env::temp_dir);
    let load = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folders = [options.small, options.large].map(|mebibytes| {
        let folder = tempfile::tempdir_in(&parent).unwrap();
        serve(folder.path(), |_| {});
        load.block_on(fill(folder.path(), mebibytes << 20));
        folder
    });
    let mut slow = [Vec::new(), Vec::new()];
    for round in 1..=options.rounds {
        for (folder, slow) in folders.iter().zip(&mut slow) {
            let mut latencies = Vec::new();
            serve(folder.path(), |address| latencies = load.block_on(paced(address, &options)));
            slow.push(percentile(&latencies, 0.99));
            println!(
                "round {round}: {} MiB, {} appends, half within {:.2} ms, 99 % within {:.2} ms",
                size(folder.path()) >> 20,
                latencies.len(),
                median(&latencies),
                percentile(&latencies, 0.99),
            );
        }
    }
    let [small, large] = slow.map(|slow| median(&slow));
    println!("99 % within, median of rounds: small {small:.2} ms, large {large:.2} ms");
    println!("ratio (aim: at most 1.2): {:.2}", large / small);
}

/// A server on this folder while `work` goes on.
fn serve(folder: &Path, work: impl FnOnce(SocketAddr)) {
    let served = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let served = served.unwrap();
    let server = served.block_on(Server::start(Config::for_tests(folder.into()))).unwrap();
    work(server.address());
    served.block_on(server.stop());
}

fn size(folder: &Path) -> u64 {
    std::fs::metadata(folder.join("logs.db")).unwrap().len()
}

/// Adds logs whose entries have their places, until the database has that size.
async fn fill(folder: &Path, bytes: u64) {
    let mut database = SqliteConnectOptions::new()
        .filename(folder.join("logs.db"))
        .journal_mode(SqliteJournalMode::Off)
        .synchronous(SqliteSynchronous::Off)
        .disable_statement_logging()
        .connect()
        .await
        .unwrap();
    let mut log = 0;
    while size(folder) < bytes {
        grow(&mut database, log).await;
        log += STEP;
    }
}

/// Adds [`STEP`] logs after the first `log`.
async fn grow(database: &mut SqliteConnection, log: u32) {
    let texts = [
        "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?2) \
         INSERT INTO logs (num, id, head, newest_commit, newest_commit_id, running, day, held) \
         SELECT ?1 + i + 1, randomblob(32), ?3, 0, zeroblob(32), randomblob(32), \
         unixepoch() / 86400, 0 FROM n",
        "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?2 * ?3) \
         INSERT INTO entries (num, log, position, flags, bytes) \
         SELECT ?1 * ?3 + i + 1, ?1 + i % ?2 + 1, i / ?2 + 1, 0, randomblob(1100) FROM n",
        "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?2 * ?3) \
         INSERT INTO places (log, position, entry, flags, length, id, running) \
         SELECT ?1 + i / ?3 + 1, i % ?3 + 1, ?1 * ?3 + i % ?3 * ?2 + i / ?3 + 1, 0, 1100, \
         randomblob(32), randomblob(32) FROM n",
        // Else they would count as old, and go.
        "INSERT OR IGNORE INTO days (day, first_entry) VALUES (unixepoch() / 86400, 1)",
        "UPDATE progress SET settled = (?1 + ?2) * ?3",
    ];
    for text in texts {
        let query = sqlx::query(text).bind(log).bind(STEP).bind(ENTRIES);
        query.execute(&mut *database).await.unwrap();
    }
}

/// The milliseconds that each append took from when it was due.
async fn paced(address: SocketAddr, options: &Options) -> Vec<f64> {
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
    let pause = Duration::from_secs(1) / options.rate;
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(options.seconds);
    let senders = (0u8..).zip(&mut sockets).map(|(number, socket)| async move {
        let mut rng = ChaCha20Rng::from_seed([number; 32]);
        let mut latencies = Vec::new();
        let mut due = begun + pause * u32::from(number);
        while due < end {
            sleep_until(due).await;
            append(socket, rng.next_u32() % LOGS, body(&mut rng), None).await;
            latencies.push(due.elapsed().as_secs_f64() * 1000.0);
            due += pause * SENDERS;
        }
        latencies
    });
    join_all(senders).await.concat()
}
