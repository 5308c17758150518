//! The vault: sealed bytes under a version.

use std::sync::Arc;

use axum::{Router, extract, routing::post};
use corncrake_wire::{
    Call, ErrorCode,
    account::{GetVault, ReplaceVault, Vault},
    limits,
    session::Replacement,
};

use crate::{
    Error, Origin, State,
    extract::{Answer, Posted},
    replacements,
    sessions::Caller,
};

pub(super) fn router() -> Router<Arc<State>> {
    Router::new().route(GetVault::PATH, post(get)).route(ReplaceVault::PATH, post(replace))
}

async fn get(
    extract::State(state): extract::State<Arc<State>>,
    caller: Caller,
    Posted(GetVault): Posted<GetVault>,
) -> Result<Answer<Vault>, Error> {
    Ok(Answer(state.accounts.vault(caller.account).await?))
}

async fn replace(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    caller: Caller,
    Posted(request): Posted<ReplaceVault>,
) -> Result<Answer<()>, Error> {
    if request.vault.bytes.len() > limits::VAULT {
        return Err(ErrorCode::TooLarge.into());
    }
    let (account, key) = state.accounts.identity(caller.account).await?;
    let replacement = Replacement { vault: Some(&request.vault), ..Replacement::of(&account) };
    replacements::check(&key, &replacement, &request.signature)?;
    state.accounts.replace_vault(origin, caller.account, request.vault).await?;
    Ok(Answer(()))
}
