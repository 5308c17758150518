//! Logging in by password. A name that nobody has is answered like any other.

use std::sync::Arc;

use axum::{Router, extract, routing::post};
use corncrake_wire::{
    Call, ErrorCode,
    account::{LogInFinish, LogInStart, LogInStarted, LoggedIn},
    limits, opaque,
};

use crate::{
    Error, Origin, OsRandom, State,
    extract::{Answer, Posted},
    random,
    state::LogIn,
};

pub(super) fn router() -> Router<Arc<State>> {
    Router::new().route(LogInStart::PATH, post(start)).route(LogInFinish::PATH, post(finish))
}

async fn start(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    Posted(request): Posted<LogInStart>,
) -> Result<Answer<LogInStarted>, Error> {
    state.rates.attempt(origin)?;
    state.check_origin(&request.origin)?;
    if !limits::is_username(&request.name) {
        return Err(ErrorCode::InvalidName.into());
    }
    state.rates.log_in(&request.name, origin)?;
    let account = state.accounts.by_name(&request.name).await?;
    let record = account.as_ref().map(|account| account.opaque.as_slice());
    let (opaque, log_in) =
        state.secret.log_in_reply(&request.name, record, &request.opaque, &mut OsRandom)?;
    let attempt = random()?;
    let account = account.map(|account| (account.num, account.id));
    let counted = (request.name, origin);
    state.log_ins.begin(attempt, LogIn { state: log_in, account, counted }, state.clock.now());
    Ok(Answer(LogInStarted { attempt, opaque }))
}

async fn finish(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    Posted(request): Posted<LogInFinish>,
) -> Result<Answer<LoggedIn>, Error> {
    state.rates.attempt(origin)?;
    let now = state.clock.now();
    let log_in = state.log_ins.end(&request.attempt, now).ok_or(ErrorCode::LogInFailed)?;
    opaque::check_log_in(&log_in.state, &request.opaque).map_err(|_| ErrorCode::LogInFailed)?;
    let (num, account) = log_in.account.ok_or(ErrorCode::LogInFailed)?;
    state.rates.logged_in(&log_in.counted.0, log_in.counted.1);
    let (session, record) = state.accounts.log_in(origin, num, now).await?;
    let vault = state.accounts.vault(num).await?;
    Ok(Answer(LoggedIn { session, account, vault, record }))
}
