//! The directory: account records and key packages, for anybody.

use std::sync::Arc;

use axum::{Router, extract, routing::post};
use corncrake_wire::{
    Call, ErrorCode, limits,
    open::{By, Claim, Claimed, Found, LookUp},
};

use crate::{
    Error, Origin, State,
    extract::{Answer, Posted},
};

pub(super) fn router() -> Router<Arc<State>> {
    Router::new().route(LookUp::PATH, post(look_up)).route(Claim::PATH, post(claim))
}

async fn look_up(
    extract::State(state): extract::State<Arc<State>>,
    Posted(request): Posted<LookUp>,
) -> Result<Answer<Found>, Error> {
    if request.admission.len() > limits::ADMISSION {
        return Err(ErrorCode::TooLarge.into());
    }
    if let By::Name(name) = &request.by
        && !limits::is_username(name)
    {
        return Err(ErrorCode::InvalidName.into());
    }
    Ok(Answer(state.accounts.look_up(request.by).await?))
}

async fn claim(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    Posted(request): Posted<Claim>,
) -> Result<Answer<Claimed>, Error> {
    if request.admission.len() > limits::ADMISSION {
        return Err(ErrorCode::TooLarge.into());
    }
    state.rates.claim(request.account, origin)?;
    let packages = state.accounts.claim(origin, request.account, request.suite).await?;
    Ok(Answer(Claimed { now: state.clock.now(), packages }))
}
