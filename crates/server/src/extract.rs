//! What routes take out of a request, and how they answer.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, header, request::Parts},
    response::{IntoResponse, Response},
};
use corncrake_wire::{
    CONTENT_TYPE, Call, ErrorCode, OPEN_SOCKET, Refusal, SESSION_HEADER, encode, limits,
    log::Append,
};
use serde::Serialize;
use tokio::time::timeout;

use crate::{Error, Origin, State};

/// Where a request comes from that came over no connection.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// Seconds in which a body must have come.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The address at the other end of the connection, put into each request by the listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

impl FromRequestParts<Arc<State>> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Infallible> {
        let proxied = state.config.limits.proxy_header.as_ref().and_then(|name| {
            // The last address is the one that our own proxy added.
            parts.headers.get_all(name).iter().next_back()?.to_str().ok()?.rsplit(',').next()
        });
        let peer = parts.extensions.get().map_or(UNKNOWN, |Peer(address)| *address);
        let address = proxied.and_then(|text| text.trim().parse().ok()).unwrap_or(peer);
        Ok(Self::of(address))
    }
}

/// The body of a call.
#[derive(Debug)]
pub(crate) struct Posted<C>(pub(crate) C);

impl<C: Call> FromRequest<Arc<State>> for Posted<C> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &Arc<State>) -> Result<Self, Error> {
        let (mut parts, body) = request.into_parts();
        let Ok(origin) = Origin::from_request_parts(&mut parts, state).await;
        state.rates.request(origin)?;
        check_plane(C::PATH, &parts.headers)?;
        let is_ours = |value: &header::HeaderValue| value.as_bytes() == CONTENT_TYPE.as_bytes();
        if !parts.headers.get(header::CONTENT_TYPE).is_some_and(is_ours) {
            return Err(ErrorCode::UnsupportedMediaType.into());
        }
        let announced = parts
            .headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        let limit = if C::PATH == Append::PATH { limits::APPEND_BODY } else { limits::BODY };
        if announced.is_some_and(|length| length > limit) {
            return Err(ErrorCode::TooLarge.into());
        }
        // A body whose length nobody announced must be small; few big ones come at a time.
        let limit = announced.unwrap_or(limits::BODY);
        let _permit = match announced {
            Some(length) if length > limits::BODY => {
                let busy = Refusal { code: ErrorCode::Unavailable, retry_after: Some(5) };
                Some(state.big_bodies.try_acquire().map_err(|_| busy)?)
            }
            _ => None,
        };
        let body = read_body(body, limit).await?;
        Ok(Self(corncrake_wire::decode(&body)?))
    }
}

async fn read_body(body: Body, limit: usize) -> Result<bytes::Bytes, Error> {
    let read = timeout(BODY_TIME, to_bytes(body, limit)).await.map_err(|_| ErrorCode::TimedOut)?;
    read.map_err(|error| {
        let too_large = std::error::Error::source(&error)
            .is_some_and(|source| source.to_string().contains("length limit"));
        let code = if too_large { ErrorCode::TooLarge } else { ErrorCode::Malformed };
        code.into()
    })
}

/// The open plane refuses credentials. `PrivateToken` (RFC 9577) names nobody and is reserved.
pub(crate) fn check_plane(path: &str, headers: &HeaderMap) -> Result<(), Error> {
    let names_somebody = |value: &header::HeaderValue| {
        !value.as_bytes().to_ascii_lowercase().starts_with(b"privatetoken ")
    };
    let is_open = path == OPEN_SOCKET || path.starts_with("/v1/open/");
    if is_open
        && (headers.contains_key(SESSION_HEADER)
            || headers.contains_key(header::COOKIE)
            || headers.get_all(header::AUTHORIZATION).iter().any(names_somebody))
    {
        return Err(ErrorCode::CredentialsRefused.into());
    }
    Ok(())
}

/// The answer to a call.
#[derive(Debug)]
pub(crate) struct Answer<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, CONTENT_TYPE)], encode(&self.0)).into_response()
    }
}
