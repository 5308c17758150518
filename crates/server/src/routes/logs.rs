//! Logs over HTTP: append, read, and what lies beside commits.

use std::sync::Arc;

use axum::{Router, extract, response::Response, routing::post};
use corncrake_wire::{
    Call, ErrorCode, LogId, Refusal, limits,
    log::{Append, AppendReply, Beside, Part, Read, ReadReply, Sealed, Start, States, StatesReply},
};

use crate::{
    Error, Origin, State,
    budget::{BUSY, Share},
    extract::{Held, Posted, counted},
    logs::{NewAppend, Outcome},
};

/// Bytes that an append is charged that may begin a log.
const NEW_LOG: usize = 16 * 1024;

pub(super) fn router() -> Router<Arc<State>> {
    Router::new()
        .route(Append::PATH, post(append))
        .route(Read::PATH, post(read))
        .route(Beside::PATH, post(beside))
        .route(States::PATH, post(states))
}

async fn append(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    held: Held,
    Posted(request): Posted<Append>,
) -> Result<Response, Error> {
    let share = held.take().ok_or(BUSY)?;
    let (reply, share) = carry_out(&state, origin, request, share).await?;
    Ok(counted(&reply, share))
}

/// Carries out an append, for the route and for the socket. A page in the reply comes with its
/// share of the budget.
pub(crate) async fn carry_out(
    state: &Arc<State>,
    origin: Origin,
    append: Append,
    share: Share,
) -> Result<(AppendReply, Option<Share>), Error> {
    let cost = append.bytes() + if append.opening.is_some() { NEW_LOG } else { 0 };
    let after = append.after.position;
    let append = NewAppend::new(append, share)?;
    let log = *append.log();
    state.rates.append(log, origin, cost)?;
    match state.logs.append(origin, append).await? {
        Outcome::Stored { positions, head } => Ok((AppendReply::Stored { positions, head }, None)),
        Outcome::Refused(code) => Err(Refusal::from(code).into()),
        Outcome::Conflict { newest_commit, head } => {
            let limit = limits::PAGE_ENTRIES;
            let (page, share) = page(state, origin, &log, after, limit).await?;
            let (missing, head) = page.map_or((Vec::new(), head), |page| (page.entries, page.head));
            Ok((AppendReply::Conflict { newest_commit, head, missing }, Some(share)))
        }
    }
}

async fn read(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    Posted(request): Posted<Read>,
) -> Result<Response, Error> {
    check_admission(&request.admission)?;
    let Read { token, after, limit, admission: _ } = request;
    let (page, share) = page(&state, origin, &token.log_id(), after, limit).await?;
    Ok(counted(&page.ok_or(ErrorCode::LogNotFound)?, Some(share)))
}

async fn beside(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    Posted(request): Posted<Beside>,
) -> Result<Response, Error> {
    check_admission(&request.admission)?;
    let Beside { token, position, part, admission: _ } = request;
    if position == 0 && part == Part::Welcome {
        return Err(ErrorCode::NotFound.into());
    }
    let mut share = state.budget.wait(origin, limits::BESIDE).await.ok_or(BUSY)?;
    let bytes = state.logs.beside(&token.log_id(), part, position).await?;
    let sealed = Sealed { bytes: bytes.ok_or(ErrorCode::NotFound)? };
    share.shrink(sealed.bytes.len());
    Ok(counted(&sealed, Some(share)))
}

async fn states(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    Posted(request): Posted<States>,
) -> Result<Response, Error> {
    check_admission(&request.admission)?;
    let States { token, at_most, start, admission: _ } = request;
    let log = token.log_id();
    let positions = state.logs.states(&log, at_most).await?.ok_or(ErrorCode::LogNotFound)?;
    let newest = positions.first().copied().filter(|_| start > 0);
    let (start, share) = match newest {
        Some(newest) => begin(&state, origin, &log, (newest, at_most), start).await?,
        None => (None, None),
    };
    Ok(counted(&StatesReply { positions, start }, share))
}

/// What a fold needs that begins with the state at `newest`, if it takes no more than `most`.
async fn begin(
    state: &State,
    origin: Origin,
    log: &LogId,
    (newest, at_most): (u64, u64),
    most: u32,
) -> Result<(Option<Start>, Option<Share>), Error> {
    let most = usize::try_from(most).unwrap_or(usize::MAX).min(limits::PAGE_BYTES);
    // One after the other, so that at most one of them is longer than what is given.
    let share = state.budget.wait(origin, limits::BESIDE + limits::PAGE_BYTES).await;
    let mut share = share.ok_or(BUSY)?;
    let beside = async |part, position| state.logs.beside(log, part, position).await;
    let Some(lies) = beside(Part::State, newest).await?.filter(|lies| lies.len() <= most) else {
        return Ok((None, None));
    };
    let mut left = most - lies.len();
    // The newest entry of all is no place of its own.
    let welcome = match at_most {
        0 | u64::MAX => None,
        at_most => beside(Part::Welcome, at_most).await?,
    };
    if welcome.as_ref().is_some_and(|welcome| welcome.len() > left) {
        return Ok((None, None));
    }
    left -= welcome.as_ref().map_or(0, Vec::len);
    let page = state.logs.page(log, newest.saturating_sub(1), limits::PAGE_ENTRIES).await?;
    let Some(page) = page else { return Ok((None, None)) };
    let bytes: usize = page.entries.iter().map(|entry| entry.bytes.len()).sum();
    if bytes > left {
        return Ok((None, None));
    }
    share.shrink(most - left + bytes);
    Ok((Some(Start { state: lies, page, welcome }), Some(share)))
}

/// Reads a page, which has its share of the budget before.
pub(crate) async fn page(
    state: &State,
    origin: Origin,
    log: &LogId,
    after: u64,
    limit: u32,
) -> Result<(Option<ReadReply>, Share), Error> {
    let mut share = state.budget.wait(origin, limits::PAGE_BYTES).await.ok_or(BUSY)?;
    let page = state.logs.page(log, after, limit).await?;
    let bytes = |page: &ReadReply| page.entries.iter().map(|entry| entry.bytes.len()).sum();
    share.shrink(page.as_ref().map_or(0, bytes));
    Ok((page, share))
}

fn check_admission(admission: &[u8]) -> Result<(), ErrorCode> {
    if admission.len() > limits::ADMISSION { Err(ErrorCode::TooLarge) } else { Ok(()) }
}
