//! Adding a device, and replacing the account record.

use std::sync::Arc;

use axum::{Router, extract, routing::post};
use corncrake_wire::{
    Call, ErrorCode,
    account::{AddDevice, ReplaceRecord, Session},
    limits,
};

use crate::{
    Error, State, accounts,
    extract::{Answer, Posted},
    packages,
    sessions::{self, Caller},
};

pub(super) fn router() -> Router<Arc<State>> {
    Router::new().route(AddDevice::PATH, post(add)).route(ReplaceRecord::PATH, post(replace))
}

async fn add(
    extract::State(state): extract::State<Arc<State>>,
    caller: Caller,
    Posted(request): Posted<AddDevice>,
) -> Result<Answer<Session>, Error> {
    let AddDevice { record, device, packages: first, drop } = request;
    if record.bytes.len() > limits::RECORD {
        return Err(ErrorCode::TooLarge.into());
    }
    packages::check(&first)?;
    let (now, today) = (state.clock.now(), state.clock.today());
    let session = state
        .writer
        .run(move |connection| {
            Box::pin(async move {
                let account = caller.account;
                accounts::replace_record(connection, account, record).await?;
                if let Some(dropped) = drop {
                    accounts::drop_device(connection, account, dropped).await?;
                }
                let device = accounts::add_device(connection, account, &device, today).await?;
                packages::upload(connection, device, first, today).await?;
                sessions::begin(connection, account, Some(device), now).await
            })
        })
        .await?;
    Ok(Answer(session))
}

async fn replace(
    extract::State(state): extract::State<Arc<State>>,
    caller: Caller,
    Posted(request): Posted<ReplaceRecord>,
) -> Result<Answer<()>, Error> {
    if request.record.bytes.len() > limits::RECORD {
        return Err(ErrorCode::TooLarge.into());
    }
    state
        .writer
        .run(move |connection| {
            Box::pin(accounts::replace_record(connection, caller.account, request.record))
        })
        .await?;
    Ok(Answer(()))
}
