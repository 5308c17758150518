//! Signing up: two steps of the password protocol, then one transaction that makes everything.

use std::sync::Arc;

use axum::{Router, extract, routing::post};
use corncrake_wire::{
    Call, ErrorCode,
    account::{Session, SignUpFinish, SignUpStart, SignUpStarted},
    limits, opaque,
};

use crate::{
    Error, Origin, State,
    extract::{Answer, Posted},
    packages,
};

pub(super) fn router() -> Router<Arc<State>> {
    Router::new().route(SignUpStart::PATH, post(start)).route(SignUpFinish::PATH, post(finish))
}

async fn start(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    Posted(request): Posted<SignUpStart>,
) -> Result<Answer<SignUpStarted>, Error> {
    state.rates.attempt(origin)?;
    state.check_origin(&request.origin)?;
    check_name(&request.name)?;
    let opaque = state.secret.registration_reply(&request.name, &request.opaque)?;
    Ok(Answer(SignUpStarted { opaque }))
}

async fn finish(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    Posted(request): Posted<SignUpFinish>,
) -> Result<Answer<Session>, Error> {
    state.rates.attempt(origin)?;
    check_name(&request.name)?;
    opaque::check_record(&request.opaque)?;
    if request.vault.len() > limits::VAULT || request.record.bytes.len() > limits::RECORD {
        return Err(ErrorCode::TooLarge.into());
    }
    if request.record.version != 1 {
        return Err(ErrorCode::VersionConflict.into());
    }
    packages::check(&request.packages)?;
    let session = state.accounts.sign_up(origin, request, state.clock.now()).await?;
    Ok(Answer(session))
}

fn check_name(name: &str) -> Result<(), ErrorCode> {
    if limits::is_username(name) { Ok(()) } else { Err(ErrorCode::InvalidName) }
}
