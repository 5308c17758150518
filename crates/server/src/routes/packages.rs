//! A device's own key packages.

use std::sync::Arc;

use axum::{Router, extract, routing::post};
use corncrake_wire::{
    Call,
    account::{CountPackages, PackageCount, UploadPackages},
};

use crate::{
    Error, State,
    extract::{Answer, Posted},
    packages,
    sessions::Caller,
};

pub(super) fn router() -> Router<Arc<State>> {
    Router::new().route(UploadPackages::PATH, post(upload)).route(CountPackages::PATH, post(count))
}

async fn upload(
    extract::State(state): extract::State<Arc<State>>,
    caller: Caller,
    Posted(request): Posted<UploadPackages>,
) -> Result<Answer<()>, Error> {
    let device = caller.device()?;
    packages::check(&request.packages)?;
    let today = state.clock.today();
    state
        .writer
        .run(move |connection| {
            Box::pin(packages::upload(connection, device, request.packages, today))
        })
        .await?;
    Ok(Answer(()))
}

async fn count(
    extract::State(state): extract::State<Arc<State>>,
    caller: Caller,
    Posted(request): Posted<CountPackages>,
) -> Result<Answer<PackageCount>, Error> {
    Ok(Answer(packages::count(&state.readers, caller.device()?, request.suite).await?))
}
