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
    Error, State,
    extract::{Answer, Posted},
    inboxes,
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
    Posted(request): Posted<Deposit>,
) -> Result<Answer<()>, Error> {
    if request.notice.len() > limits::NOTICE || request.admission.len() > limits::ADMISSION {
        return Err(ErrorCode::TooLarge.into());
    }
    if request.notice.is_empty() {
        return Err(ErrorCode::Malformed.into());
    }
    let today = state.clock.today();
    let device = state
        .writer
        .run(move |connection| {
            Box::pin(inboxes::deposit(connection, request.inbox, request.notice, today))
        })
        .await?;
    state.watchers.wake(device);
    Ok(Answer(()))
}

async fn read(
    extract::State(state): extract::State<Arc<State>>,
    caller: Caller,
    Posted(request): Posted<ReadInbox>,
) -> Result<Answer<Inbox>, Error> {
    let device = caller.device()?;
    let notices = inboxes::read(&state.readers, device, request.after, request.limit).await?;
    Ok(Answer(Inbox { notices }))
}

async fn delete(
    extract::State(state): extract::State<Arc<State>>,
    caller: Caller,
    Posted(request): Posted<DeleteNotices>,
) -> Result<Answer<()>, Error> {
    let device = caller.device()?;
    state
        .writer
        .run(move |connection| Box::pin(inboxes::delete(connection, device, request.up_to)))
        .await?;
    Ok(Answer(()))
}
