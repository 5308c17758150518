//! A device's own key packages.

use std::sync::Arc;

use axum::{Router, extract, routing::post};
use corncrake_wire::{
    Call,
    account::{ListPackages, PackageList, UploadPackages},
};

use crate::{
    Error, Origin, State,
    extract::{Answer, Posted},
    packages,
    sessions::Caller,
};

pub(super) fn router() -> Router<Arc<State>> {
    Router::new().route(UploadPackages::PATH, post(upload)).route(ListPackages::PATH, post(list))
}

async fn upload(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    caller: Caller,
    Posted(request): Posted<UploadPackages>,
) -> Result<Answer<()>, Error> {
    let device = caller.device()?;
    packages::check(&request.packages)?;
    let now = state.clock.now();
    state.accounts.upload_packages(origin, device, request, now).await?;
    Ok(Answer(()))
}

async fn list(
    extract::State(state): extract::State<Arc<State>>,
    caller: Caller,
    Posted(request): Posted<ListPackages>,
) -> Result<Answer<PackageList>, Error> {
    let (device, now) = (caller.device()?, state.clock.now());
    Ok(Answer(state.accounts.list_packages(device, request.suite, now).await?))
}
