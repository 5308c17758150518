//! Renewing a session by the device's key, and ending one.

use std::sync::Arc;

use axum::{Router, extract, routing::post};
use corncrake_wire::{
    Call, ErrorCode,
    account::{LogOut, Renew, RenewStart, RenewStarted, Session},
    session::renewal,
};
use ed25519_dalek::{Signature, VerifyingKey};

use crate::{
    Error, Origin, State,
    extract::{Answer, Posted},
    random,
    sessions::Caller,
};

pub(super) fn router() -> Router<Arc<State>> {
    Router::new()
        .route(RenewStart::PATH, post(start))
        .route(Renew::PATH, post(renew))
        .route(LogOut::PATH, post(log_out))
}

async fn start(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    Posted(request): Posted<RenewStart>,
) -> Result<Answer<RenewStarted>, Error> {
    state.rates.attempt(origin)?;
    let nonce = random()?;
    state.renewals.begin(nonce, (request.account, request.device), state.clock.now());
    Ok(Answer(RenewStarted { nonce }))
}

async fn renew(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    Posted(request): Posted<Renew>,
) -> Result<Answer<Session>, Error> {
    state.rates.attempt(origin)?;
    let now = state.clock.now();
    let Renew { account, device, nonce, signature } = request;
    let asked = state.renewals.end(&nonce, now).ok_or(ErrorCode::SessionRequired)?;
    let known = state.accounts.device_key(account, device).await?;
    let Some((account_num, device_num, key)) = known else {
        // A server that lost the account gets it again, one that dropped the device doesn't.
        state.accounts.number(account).await?;
        return Err(ErrorCode::UnknownDevice.into());
    };
    let signed = state.origins.iter().any(|ours| {
        let (Ok(key), Ok(signature)) =
            (VerifyingKey::from_bytes(&key), Signature::from_slice(&signature))
        else {
            return false;
        };
        key.verify_strict(&renewal(ours, &account, &device, &nonce), &signature).is_ok()
    });
    if asked != (account, device) || !signed {
        return Err(ErrorCode::SessionRequired.into());
    }
    let session = state.accounts.begin_session(origin, account_num, device_num, now).await?;
    Ok(Answer(session))
}

async fn log_out(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    caller: Caller,
    Posted(LogOut): Posted<LogOut>,
) -> Result<Answer<()>, Error> {
    state.accounts.end_session(origin, caller.digest).await?;
    caller.device.into_iter().for_each(|device| state.watchers.session_ended(device));
    Ok(Answer(()))
}
