//! Whether the server can store anything, for whoever watches over it.

use std::sync::Arc;

use axum::{
    Router, extract,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};

use crate::{State, health::Condition};

/// The route's path. It is no call of the protocol.
pub(super) const PATH: &str = "/healthz";

pub(super) fn router() -> Router<Arc<State>> {
    Router::new().route(PATH, get(health))
}

async fn health(extract::State(state): extract::State<Arc<State>>) -> impl IntoResponse {
    let (accounts, logs) = (state.accounts.health().now(), state.logs.health().now());
    let ready = [accounts, logs] == [Condition::Ready; 2];
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({
        "status": if ready { "ready" } else { "degraded" },
        "accounts": accounts.name(),
        "logs": logs.name(),
    });
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string())
}
