//! What the server holds about an account, told to its owner.

use std::sync::Arc;

use axum::{Router, extract, routing::post};
use corncrake_wire::{
    Call,
    account::{Holdings, WhatYouHold},
};

use crate::{
    Error, State,
    extract::{Answer, Posted},
    sessions::Caller,
};

pub(super) fn router() -> Router<Arc<State>> {
    Router::new().route(WhatYouHold::PATH, post(what_you_hold))
}

async fn what_you_hold(
    extract::State(state): extract::State<Arc<State>>,
    caller: Caller,
    Posted(WhatYouHold): Posted<WhatYouHold>,
) -> Result<Answer<Holdings>, Error> {
    Ok(Answer(state.accounts.holdings(caller.account, state.clock.now()).await?))
}
