//! Inboxes: depositing on the open plane, reading and deleting on the account plane.

use std::sync::Arc;

use axum::{Router, extract, routing::post};
use corncrake_wire::{
    Call, ErrorCode,
    account::{DeleteNotices, Inbox, ReadInbox},
    limits,
    open::Deposit,
};

use crate::{
    Error, Origin, State,
    extract::{Answer, Posted},
    inboxes::Usage,
    sessions::Caller,
};

pub(super) fn router() -> Router<Arc<State>> {
    Router::new()
        .route(Deposit::PATH, post(deposit))
        .route(ReadInbox::PATH, post(read))
        .route(DeleteNotices::PATH, post(delete))
}

async fn deposit(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    Posted(request): Posted<Deposit>,
) -> Result<Answer<()>, Error> {
    if request.notice.len() > limits::NOTICE || request.admission.len() > limits::ADMISSION {
        return Err(ErrorCode::TooLarge.into());
    }
    if request.notice.is_empty() {
        return Err(ErrorCode::Malformed.into());
    }
    if state.accounts.usage(request.inbox, request.package).await? == Usage::LastResort {
        state.rates.last_resort(request.package, origin)?;
    }
    let device = state.accounts.deposit(origin, request, state.clock.now()).await?;
    state.watchers.wake(device);
    Ok(Answer(()))
}

async fn read(
    extract::State(state): extract::State<Arc<State>>,
    caller: Caller,
    Posted(request): Posted<ReadInbox>,
) -> Result<Answer<Inbox>, Error> {
    let device = caller.device()?;
    let notices = state.accounts.notices(device, request.after, request.limit).await?;
    Ok(Answer(Inbox { notices }))
}

async fn delete(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    caller: Caller,
    Posted(request): Posted<DeleteNotices>,
) -> Result<Answer<()>, Error> {
    let device = caller.device()?;
    state.accounts.delete_notices(origin, device, request).await?;
    Ok(Answer(()))
}
