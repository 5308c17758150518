//! Adding a device, and replacing the account record.

use std::sync::Arc;

use axum::{Router, extract, routing::post};
use corncrake_wire::{
    Call, ErrorCode,
    account::{AddDevice, ReplaceRecord, Session},
    limits,
};

use crate::{
    Error, Origin, State,
    extract::{Answer, Posted},
    packages,
    sessions::Caller,
};

pub(super) fn router() -> Router<Arc<State>> {
    Router::new().route(AddDevice::PATH, post(add)).route(ReplaceRecord::PATH, post(replace))
}

async fn add(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    caller: Caller,
    Posted(request): Posted<AddDevice>,
) -> Result<Answer<Session>, Error> {
    if request.record.bytes.len() > limits::RECORD {
        return Err(ErrorCode::TooLarge.into());
    }
    packages::check(&request.packages)?;
    let now = state.clock.now();
    let session = state.accounts.add_device(origin, caller.account, request, now).await?;
    Ok(Answer(session))
}

async fn replace(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    caller: Caller,
    Posted(request): Posted<ReplaceRecord>,
) -> Result<Answer<()>, Error> {
    if request.record.bytes.len() > limits::RECORD {
        return Err(ErrorCode::TooLarge.into());
    }
    state.accounts.replace_record(origin, caller.account, request.record).await?;
    Ok(Answer(()))
}
