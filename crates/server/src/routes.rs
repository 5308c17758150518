//! All routes of both planes.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{self, Request},
    middleware::{self, Next},
    response::Response,
};
use corncrake_wire::{
    ACCOUNT_SOCKET, AccountRequest, ErrorCode, INFO_PATH, OPEN_SOCKET, OpenRequest,
};

use crate::{Error, Origin, State, extract::count, sockets};

pub(crate) use logs::{carry_out, page};

mod devices;
mod directory;
mod health;
mod holdings;
mod inbox;
mod info;
mod log_in;
mod logs;
mod packages;
mod sessions;
mod sign_up;
mod vault;

/// The whole server as a service.
pub fn app(state: Arc<State>) -> Router {
    Router::new()
        .merge(health::router())
        .merge(info::router())
        .merge(sign_up::router())
        .merge(log_in::router())
        .merge(sessions::router())
        .merge(devices::router())
        .merge(vault::router())
        .merge(packages::router())
        .merge(inbox::router())
        .merge(holdings::router())
        .merge(directory::router())
        .merge(logs::router())
        .merge(sockets::router())
        .fallback(async || Error::from(ErrorCode::UnknownRoute))
        .method_not_allowed_fallback(async || Error::from(ErrorCode::MethodNotAllowed))
        .layer(middleware::from_fn_with_state(Arc::clone(&state), rate))
        .layer(middleware::from_fn(trace))
        .with_state(state)
}

/// Every request costs, whatever it asks for, before anything is done for it. Its answer has a
/// share of the budget until it is written.
async fn rate(
    extract::State(state): extract::State<Arc<State>>,
    origin: Origin,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    state.rates.request(origin)?;
    count(next.run(request).await, &state, origin)
}

/// One line in the server's log for each request, for whoever looks for a fault: which call,
/// which outcome, how long. Not who, and nothing of what was said.
async fn trace(request: Request, next: Next) -> Response {
    let known = [health::PATH, INFO_PATH, ACCOUNT_SOCKET, OPEN_SOCKET];
    let path = AccountRequest::PATHS
        .iter()
        .chain(OpenRequest::PATHS)
        .chain(&known)
        .find(|path| **path == request.uri().path())
        .map_or("unknown", |path| path);
    let begun = Instant::now();
    let response = next.run(request).await;
    let code = response.extensions().get::<ErrorCode>().map(|code| code.as_str());
    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    tracing::debug!(path, status = response.status().as_u16(), code, micros, "request");
    response
}
