//! Adding a device, and replacing the account record.

use std::sync::Arc;

use axum::{Router, extract, routing::post};
use corncrake_wire::{
    Call, ErrorCode,
    account::{AddDevice, ReplaceRecord, Session},
    limits,
    session::Replacement,
};

use crate::{
    Error, Origin, State,
    extract::{Answer, Posted},
    packages, replacements,
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
    let (account, key) = state.accounts.identity(caller.account).await?;
    let replacement = Replacement {
        record: Some(&request.record),
        add: Some(&request.device),
        drop: request.drop.as_ref(),
        ..Replacement::of(&account)
    };
    replacements::check(&key, &replacement, &request.signature)?;
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
    let (account, key) = state.accounts.identity(caller.account).await?;
    let replacement = Replacement { record: Some(&request.record), ..Replacement::of(&account) };
    replacements::check(&key, &replacement, &request.signature)?;
    state.accounts.replace_record(origin, caller.account, request.record).await?;
    Ok(Answer(()))
}
