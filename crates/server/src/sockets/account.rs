//! The account plane's socket: notices of one device's inbox.

use std::{mem, pin::pin, sync::Arc, time::Duration};

use corncrake_wire::{ClientFrame, ErrorCode, Refusal, ServerFrame, limits};
use tokio::time::{interval, timeout};

use super::{Connection, Heard, Over, STOPPING, TICK};
use crate::{Error, Origin, State, budget::BUSY};

/// How long the first frame may take.
const FIRST_FRAME: Duration = Duration::from_secs(10);
/// Ticks between two looks at a session, which may have expired; one that was ended is looked at
/// at once.
const SESSION_TICKS: u32 = 5;

/// Serves a connection to its end.
pub(super) async fn run(state: Arc<State>, origin: Origin, mut connection: Connection) {
    match serve(&state, origin, &mut connection).await {
        Ok(Over) => {}
        Err(refusal) => connection.refuse(refusal).await,
    }
}

async fn serve(
    state: &Arc<State>,
    origin: Origin,
    connection: &mut Connection,
) -> Result<Over, Refusal> {
    let mut stopping = pin!(state.stopping());
    if connection.hello(state.accounts.instance()).await.is_err() {
        return Ok(Over);
    }
    let first = timeout(FIRST_FRAME, connection.hear()).await;
    let (session, mut after) = match first {
        Ok(Heard::Frame(frame, _)) => match *frame {
            ClientFrame::Authenticate { session, after } => (session, after),
            _ => return Err(ErrorCode::SessionRequired.into()),
        },
        Ok(Heard::Bad(refusal)) => return Err(refusal),
        Ok(Heard::Gone) => return Ok(Over),
        Ok(Heard::Life) | Err(_) => return Err(ErrorCode::SessionRequired.into()),
    };
    let find = || async {
        let caller = state.accounts.session(&session, state.clock.now()).await?;
        caller.device()
    };
    let device = find().await.map_err(|error| error.refusal())?;
    let mut wake = state.watchers.watch(device);
    let mut ended = *wake.borrow_and_update();
    let mut ticks = interval(TICK);
    let mut ticked = 0u32;
    let mut greeted = false;
    loop {
        match catch_up(state, (origin, connection), device, &mut after, greeted).await {
            Ok(Ok(())) => greeted = true,
            Ok(Err(Over)) => return Ok(Over),
            Err(error) => return Err(error.refusal()),
        }
        loop {
            tokio::select! {
                heard = connection.hear() => match heard {
                    Heard::Frame(frame, _) => {
                        state.rates.request(origin)?;
                        match *frame {
                            ClientFrame::Ping(number) => {
                                if connection.send(&ServerFrame::Pong(number)).await.is_err() {
                                    return Ok(Over);
                                }
                            }
                            ClientFrame::Pong(_) => {}
                            _ => return Err(ErrorCode::FrameRefused.into()),
                        }
                    }
                    Heard::Life => {
                        if connection.flush().await.is_err() {
                            return Ok(Over);
                        }
                    }
                    Heard::Bad(refusal) => return Err(refusal),
                    Heard::Gone => return Ok(Over),
                },
                _ = wake.changed() => {
                    let before = mem::replace(&mut ended, *wake.borrow_and_update());
                    if ended != before {
                        find().await.map_err(|error| error.refusal())?;
                    }
                    break;
                }
                _ = ticks.tick() => {
                    if connection.tick().await.is_err() {
                        return Ok(Over);
                    }
                    ticked += 1;
                    if ticked.is_multiple_of(SESSION_TICKS) {
                        find().await.map_err(|error| error.refusal())?;
                        break;
                    }
                }
                () = &mut stopping => return Err(STOPPING),
            }
        }
    }
}

/// Sends all notices after `after`; the first time even if there are none.
async fn catch_up(
    state: &Arc<State>,
    (origin, connection): (Origin, &mut Connection),
    device: i64,
    after: &mut u64,
    greeted: bool,
) -> Result<Result<(), Over>, Error> {
    let mut must = !greeted;
    loop {
        let mut share = state.budget.wait(origin, limits::PAGE_BYTES).await.ok_or(BUSY)?;
        let notices = state.accounts.notices(device, *after, limits::PAGE_ENTRIES).await?;
        let Some(newest) = notices.last().map(|notice| notice.position) else {
            let nothing = ServerFrame::Notices { notices };
            return Ok(if must { connection.send(&nothing).await } else { Ok(()) });
        };
        share.shrink(notices.iter().map(|notice| notice.bytes.len()).sum());
        if connection.notices(notices).await.is_err() || connection.flush().await.is_err() {
            return Ok(Err(Over));
        }
        *after = newest;
        must = false;
    }
}
