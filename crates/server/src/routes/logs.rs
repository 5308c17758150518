//! Logs over HTTP: append, read, and what lies beside commits.

use std::sync::Arc;

use axum::{Router, extract, response::Response, routing::post};
use corncrake_wire::{
    Call, ErrorCode, LogId, Refusal, limits,
    log::{Append, AppendReply, Beside, Part, Read, ReadReply, Sealed, States, StatesReply},
};

use crate::{
    Error, Origin, State,
    budget::{BUSY, Share},
    extract::{Answer, Held, Posted, counted},
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
    Posted(request): Posted<States>,
) -> Result<Answer<StatesReply>, Error> {
    check_admission(&request.admission)?;
    let positions = state.logs.states(&request.token.log_id(), request.at_most).await?;
    Ok(Answer(StatesReply { positions: positions.ok_or(ErrorCode::LogNotFound)? }))
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
