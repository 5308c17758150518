//! The task that lets go of what has expired, in both planes.

use std::{sync::Weak, time::Duration};

use tokio::time::{Instant, sleep_until};

use crate::{
    Error, State,
    believed::{Believed, Verdict},
};

/// From one round to the next.
const ROUND: Duration = Duration::from_secs(3600);

/// Rounds until the server stops.
pub(crate) async fn run(state: Weak<State>, mut believed: Believed) {
    loop {
        let begun = Instant::now();
        {
            let Some(state) = state.upgrade() else { return };
            tokio::select! {
                done = round(&state, &mut believed) => if let Err(error) = done {
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

async fn round(state: &State, believed: &mut Believed) -> Result<(), Error> {
    let noted = state.accounts.note_alive(state.clock.now()).await;
    if believed.judge(state.clock.shown())? == Verdict::Doubted {
        if believed.newest().is_some() {
            tracing::warn!(
                "the clock is days away from the time in the file believed-time: nothing expires \
                 until it has gone on for a day, or the file is deleted if it is ahead"
            );
        }
        return noted;
    }
    if let Some(time) = believed.newest() {
        state.clock.believe(time);
    }
    let (now, today) = (state.clock.now(), state.clock.today());
    // What was written while the clock was ahead is from today at the latest.
    state.accounts.take_back_days(now).await?;
    state.logs.take_back_days(today).await?;
    state.accounts.expire(now).await?;
    state.logs.expire(today).await?;
    noted
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicU64};

    use sqlx::AssertSqlSafe;
    use tempfile::TempDir;

    use super::*;
    use crate::{Config, clock::Hand, database::Database};

    const DAY: u64 = 24 * 3600;
    const TODAY: u64 = 20_000;

    /// Starts a server whose clock shows this day, waits for one round, and gives how many sessions
    /// and notices are left.
    async fn round_on(folder: &TempDir, day: u64) -> (i64, i64) {
        let config = Config::for_tests(folder.path().into());
        let clock = Arc::new(Hand(AtomicU64::new(day * DAY)));
        let (state, writing) = State::open(config, Vec::new(), clock).await.unwrap();
        round(&state, &mut Believed::open(folder.path())).await.unwrap();
        state.stopping.send_replace(true);
        drop(state);
        for task in writing {
            task.await.unwrap();
        }
        let readers = Database::accounts(folder.path()).readers().await.unwrap();
        let text = "SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM notices)";
        sqlx::query_as(text).fetch_one(&readers).await.unwrap()
    }

    async fn write(folder: &TempDir, sql: String) {
        let mut writer = Database::accounts(folder.path()).writer().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut writer).await.unwrap();
    }

    #[tokio::test]
    async fn a_clock_that_is_ahead_for_a_moment_deletes_nothing() {
        let folder = TempDir::new().unwrap();
        round_on(&folder, TODAY).await;
        round_on(&folder, TODAY + 1).await;
        let ends = (TODAY + 30) * DAY;
        let written = format!(
            "INSERT INTO accounts VALUES (1, x'01', 'ann', x'', x'', 1, x'', 1, x'', {TODAY});
             INSERT INTO devices VALUES (1, 1, x'01', x'', x'01', 2, {TODAY});
             INSERT INTO sessions VALUES (x'01', 1, 1, {ends});
             INSERT INTO notices VALUES (1, 1, x'01', x'', {TODAY});"
        );
        write(&folder, written).await;
        assert_eq!(round_on(&folder, TODAY + 3000).await, (1, 1));

        // What came meanwhile is from today at the latest.
        let (ahead, ends) = (TODAY + 3000, (TODAY + 3030) * DAY);
        let written = format!(
            "INSERT INTO sessions VALUES (x'02', 1, 1, {ends});
             INSERT INTO notices VALUES (1, 2, x'02', x'', {ahead});"
        );
        write(&folder, written).await;
        assert_eq!(round_on(&folder, TODAY + 1).await, (2, 2));
        assert_eq!(round_on(&folder, TODAY + 120).await, (2, 2), "the server was off");
        assert_eq!(round_on(&folder, TODAY + 121).await, (0, 0), "and is back for a day");
    }
}
