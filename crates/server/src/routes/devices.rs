//! Adding a device, and replacing the account record.

use std::sync::Arc;

use axum::{Router, extract, routing::post};
use corncrake_wire::{
    Call, ErrorCode,
    account::{AddDevice, ReplaceRecord, RestoreDevice, Session},
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
    Router::new()
        .route(AddDevice::PATH, post(add))
        .route(ReplaceRecord::PATH, post(replace))
        .route(RestoreDevice::PATH, post(restore))
}

async fn add(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    caller: Caller,
    Posted(request): Posted<AddDevice>,
) -> Result<Answer<Session>, Error> {
    check(&state, caller.account, &request).await?;
    let now = state.clock.now();
    let added = state.accounts.add_device(origin, caller.account, request, now).await?;
    let (session, dropped) = added;
    dropped.into_iter().for_each(|device| state.watchers.session_ended(device));
    Ok(Answer(session))
}

async fn restore(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    Posted(RestoreDevice { account, add, least }): Posted<RestoreDevice>,
) -> Result<Answer<()>, Error> {
    state.rates.attempt(origin)?;
    let account = state.accounts.number(account).await?;
    check(&state, account, &add).await?;
    let now = state.clock.now();
    let dropped = state.accounts.restore_device(origin, account, (add, least), now).await?;
    dropped.into_iter().for_each(|device| state.watchers.session_ended(device));
    Ok(Answer(()))
}

/// Refuses a device that doesn't fit, or that the account's identity key has not signed.
async fn check(state: &State, account: i64, add: &AddDevice) -> Result<(), Error> {
    if add.record.bytes.len() > limits::RECORD || add.vault.bytes.len() > limits::VAULT {
        return Err(ErrorCode::TooLarge.into());
    }
    packages::check(&add.packages)?;
    let (id, key) = state.accounts.identity(account).await?;
    let replacement = Replacement {
        record: Some(&add.record),
        vault: Some(&add.vault),
        add: Some(&add.device),
        drop: add.drop.as_ref(),
        ..Replacement::of(&id)
    };
    Ok(replacements::check(&key, &replacement, &add.signature)?)
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
