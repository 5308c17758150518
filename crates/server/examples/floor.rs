//! The least that a hop through a server can cost: a message goes over a WebSocket, is committed
//! to SQLite with an fsync, and comes back over the WebSocket. `cargo xtask bench chat` prints its
//! figures beside this.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use sqlx::{
    ConnectOptions, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::{net::TcpListener, runtime};
use tokio_tungstenite::{accept_async, connect_async, tungstenite::Message};

/// How many hops to measure, and where.
#[derive(Debug, Parser)]
struct Options {
    /// Hops.
    #[arg(long, default_value_t = 500)]
    hops: usize,
    /// Bytes of each message.
    #[arg(long, default_value_t = 1024)]
    bytes: usize,
    /// Folder on the disk to be measured; the system's folder for temporary files by default.
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// Prints the time of each hop in microseconds, one to a line.
fn main() {
    let options = Options::parse();
    let folder = tempfile::tempdir_in(options.folder.unwrap_or_else(std::env::temp_dir)).unwrap();
    let (listening, address) = std::sync::mpsc::channel();
    let path = folder.path().join("floor.db");
    // A thread of its own, as a server is a process of its own.
    thread::spawn(move || {
        let runtime = runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listening.send(listener.local_addr().unwrap()).unwrap();
            serve(&listener, SqliteConnectOptions::new().filename(path)).await;
        });
    });
    let address = address.recv().unwrap();
    let client = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for hop in client.block_on(hops(&format!("ws://{address}"), options.hops, options.bytes)) {
        println!("{}", hop.as_micros());
    }
}

async fn serve(listener: &TcpListener, options: SqliteConnectOptions) {
    let options = options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut database: SqliteConnection = options.connect().await.unwrap();
    sqlx::query("CREATE TABLE messages (num INTEGER PRIMARY KEY, bytes BLOB NOT NULL)")
        .execute(&mut database)
        .await
        .unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut socket = accept_async(stream).await.unwrap();
    while let Some(Ok(Message::Binary(bytes))) = socket.next().await {
        sqlx::query("INSERT INTO messages (bytes) VALUES (?)")
            .bind(bytes.to_vec())
            .execute(&mut database)
            .await
            .unwrap();
        socket.send(Message::Binary(bytes)).await.unwrap();
    }
}

async fn hops(url: &str, hops: usize, bytes: usize) -> Vec<Duration> {
    let (mut socket, _) = connect_async(url).await.unwrap();
    let mut times = Vec::with_capacity(hops);
    for _ in 0..hops {
        let start = Instant::now();
        socket.send(Message::Binary(vec![7; bytes].into())).await.unwrap();
        socket.next().await.unwrap().unwrap();
        times.push(start.elapsed());
    }
    times
}
