//! What the server says about itself to anybody.

use std::sync::Arc;

use axum::{Router, extract, http::header, response::IntoResponse, routing::get};
use corncrake_wire::{
    INFO_PATH,
    frames::{Limits, Versions},
};

use crate::State;

pub(super) fn router() -> Router<Arc<State>> {
    Router::new().route(INFO_PATH, get(info))
}

async fn info(extract::State(state): extract::State<Arc<State>>) -> impl IntoResponse {
    let Versions { lowest, highest } = Versions::OURS;
    let Limits { frame, subscriptions, batch, inbox } = Limits::DEFAULT;
    let info = serde_json::json!({
        "name": state.config.name,
        "versions": { "lowest": lowest, "highest": highest },
        "open_url": state.config.open_url,
        "limits": {
            "frame": frame, "subscriptions": subscriptions, "batch": batch, "inbox": inbox,
        },
    });
    ([(header::CONTENT_TYPE, "application/json")], info.to_string())
}
