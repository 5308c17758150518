//! `corncrake-server`: starts with no arguments at all; `--help` shows what can be chosen.

use std::{
    io::{Write, stderr, stdout},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use corncrake_server::{Config, Error, LogFormat, Server, backup, restore, restored};
use tracing_subscriber::EnvFilter;

/// The program's arguments: without a command it serves.
#[derive(Debug, Parser)]
#[command(name = "corncrake-server", version, about, after_help = "A limit of 0 is none.")]
struct Program {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: Config,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes a backup while the server runs: FILE, FILE.logs and FILE.opaque-seed, which belongs
    /// elsewhere.
    Backup {
        /// The backup; it and the two files beside it must not exist.
        file: PathBuf,
    },
    /// Brings a backup into a data folder without databases.
    Restore {
        /// The backup, with FILE.logs and FILE.opaque-seed beside it.
        file: PathBuf,
    },
    /// Says that the data folder is an older copy that was brought back by other means.
    Restored,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Program { command, config } = Program::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match config.log {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
    let done = match command {
        None => return serve(config).await,
        Some(Command::Backup { file }) => tokio::select! {
            done = backup(&config.data, &file) => done,
            () = asked_to_stop() => Err(Error::failed("the backup was cut short")),
        },
        Some(Command::Restore { file }) => restore(&config.data, &file).await,
        Some(Command::Restored) => restored(&config.data).await,
    };
    told(done)
}

fn told(done: Result<(), Error>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "nothing was done");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> ExitCode {
    let server = match Server::start(config).await {
        Ok(server) => server,
        Err(error) => {
            tracing::error!(%error, "the server can't start");
            return ExitCode::FAILURE;
        }
    };
    // A parent that doesn't read its child's output doesn't stop the server.
    drop(writeln!(stdout(), "listening on http://{}", server.address()));
    drop(stdout().flush());
    let code = tokio::select! {
        () = asked_to_stop() => ExitCode::SUCCESS,
        () = server.failed() => {
            tracing::error!("the server can't store anything any more and ends");
            ExitCode::FAILURE
        }
    };
    tracing::info!("stopping");
    server.stop().await;
    code
}

/// Waits for ctrl-c or SIGTERM.
async fn asked_to_stop() {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        let kind = tokio::signal::unix::SignalKind::terminate();
        if let Ok(mut terminated) = tokio::signal::unix::signal(kind) {
            tokio::select! {
                _ = interrupted => {}
                _ = terminated.recv() => {}
            }
            return;
        }
    }
    drop(interrupted.await);
}
