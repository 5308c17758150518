//! `corncrake-server`: starts with no arguments at all; `--help` shows what can be chosen.

use std::{
    io::{Write, stderr, stdout},
    process::ExitCode,
};

use clap::Parser;
use corncrake_server::{Config, LogFormat, Server};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match config.log {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
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
