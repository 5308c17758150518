//! Logs over HTTP: append, read, and what lies beside commits.

use std::sync::Arc;

use axum::{Router, extract, routing::post};
use corncrake_wire::{
    Call, ErrorCode, Refusal, limits,
    log::{Append, AppendReply, Beside, Part, Read, ReadReply, Sealed, States, StatesReply},
};

use crate::{
    Error, Origin, State,
    extract::{Answer, Posted},
    logs::{NewAppend, Outcome},
};

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
    Posted(request): Posted<Append>,
) -> Result<Answer<AppendReply>, Error> {
    Ok(Answer(carry_out(&state, origin, request).await?))
}

/// Carries out an append, for the route and for the socket.
pub(crate) async fn carry_out(
    state: &Arc<State>,
    origin: Origin,
    append: Append,
) -> Result<AppendReply, Error> {
    let busy = Refusal { code: ErrorCode::Unavailable, retry_after: Some(5) };
    let share = state.budget.wait(origin, append.bytes()).await.ok_or(busy)?;
    let after = append.after.position;
    let append = NewAppend::new(append, share)?;
    let log = *append.log();
    state.rates.append(log, origin)?;
    match state.logs.append(origin, append).await? {
        Outcome::Stored { positions, head } => Ok(AppendReply::Stored { positions, head }),
        Outcome::Refused(code) => Err(Refusal::from(code).into()),
        Outcome::Conflict { newest_commit, head } => {
            let limit = limits::PAGE_ENTRIES;
            let page = state.logs.page(&log, after, limit).await?;
            let (missing, head) = page.map_or((Vec::new(), head), |page| (page.entries, page.head));
            Ok(AppendReply::Conflict { newest_commit, head, missing })
        }
    }
}

async fn read(
    extract::State(state): extract::State<Arc<State>>,
    Posted(request): Posted<Read>,
) -> Result<Answer<ReadReply>, Error> {
    check_admission(&request.admission)?;
    let Read { token, after, limit, admission: _ } = request;
    let page = state.logs.page(&token.log_id(), after, limit).await?;
    Ok(Answer(page.ok_or(ErrorCode::LogNotFound)?))
}

async fn beside(
    extract::State(state): extract::State<Arc<State>>,
    Posted(request): Posted<Beside>,
) -> Result<Answer<Sealed>, Error> {
    check_admission(&request.admission)?;
    let Beside { token, position, part, admission: _ } = request;
    if position == 0 && part == Part::Welcome {
        return Err(ErrorCode::NotFound.into());
    }
    let bytes = state.logs.beside(&token.log_id(), part, position).await?;
    Ok(Answer(Sealed { bytes: bytes.ok_or(ErrorCode::NotFound)? }))
}

async fn states(
    extract::State(state): extract::State<Arc<State>>,
    Posted(request): Posted<States>,
) -> Result<Answer<StatesReply>, Error> {
    check_admission(&request.admission)?;
    let positions = state.logs.states(&request.token.log_id(), request.at_most).await?;
    Ok(Answer(StatesReply { positions: positions.ok_or(ErrorCode::LogNotFound)? }))
}

fn check_admission(admission: &[u8]) -> Result<(), ErrorCode> {
    if admission.len() > limits::ADMISSION { Err(ErrorCode::TooLarge) } else { Ok(()) }
}
