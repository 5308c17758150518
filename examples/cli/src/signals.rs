//! Signals that ask a program to end.

use crate::failure::Failure;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Interrupt and terminate, which are handled from now on.
#[derive(Debug)]
#[cfg(unix)]
pub(crate) struct End {
    interrupt: Signal,
    terminate: Signal,
}

#[cfg(unix)]
pub(crate) fn end() -> Result<End, Failure> {
    let of = |kind| {
        signal(kind).map_err(|error| Failure::home(format!("the system gives no signals: {error}")))
    };
    Ok(End { interrupt: of(SignalKind::interrupt())?, terminate: of(SignalKind::terminate())? })
}

#[cfg(unix)]
impl End {
    /// Waits for one.
    pub(crate) async fn comes(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The interrupt of a terminal.
#[derive(Debug)]
#[cfg(not(unix))]
pub(crate) struct End;

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
pub(crate) fn end() -> Result<End, Failure> {
    Ok(End)
}

#[cfg(not(unix))]
impl End {
    /// Waits for it.
    pub(crate) async fn comes(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
