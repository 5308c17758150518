//! The task that lets go of what has expired, in both planes.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use crate::{Error, State};

/// From one round to the next.
const ROUND: Duration = Duration::from_secs(3600);

/// Rounds until the server stops.
pub(crate) async fn run(state: Weak<State>) {
    loop {
        let begun = Instant::now();
        {
            let Some(state) = state.upgrade() else { return };
            tokio::select! {
                done = round(&state) => if let Err(error) = done {
                    tracing::warn!(%error, "what has expired could not be deleted");
                },
                () = state.stopping() => return,
            }
        }
        // Whether the server stops meanwhile is seen at once, so that nothing of it is held.
        let mut stopping = match state.upgrade() {
            Some(state) => state.stopping.subscribe(),
            None => return,
        };
        tokio::select! {
            () = sleep_until(begun + ROUND) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

async fn round(state: &Arc<State>) -> Result<(), Error> {
    state.accounts.expire(state.clock.now()).await?;
    state.logs.expire(state.clock.today()).await
}
