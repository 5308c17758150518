//! What routes take out of a request, and how they answer.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, header, request::Parts},
    response::{IntoResponse, Response},
};
use corncrake_wire::{
    CONTENT_TYPE, Call, ErrorCode, OPEN_SOCKET, SESSION_HEADER, encode, limits, log::Append,
};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio::time::timeout;

use crate::{
    Error, Origin, State,
    budget::{BUSY, Share},
};

/// Where a request comes from that came over no connection.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// How long a body or a message may take without regard to its pace, and how long a pause in it
/// may be.
const GRACE: Duration = Duration::from_secs(20);
/// Bytes per second that it needs after that.
const PACE: u64 = 1024;
/// What of a reply is handed over at once.
const CHUNK: usize = 64 * 1024;

/// The address at the other end of the connection, put into each request by the listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

impl FromRequestParts<Arc<State>> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Infallible> {
        let peer = parts.extensions.get().map_or(UNKNOWN, |Peer(address)| *address);
        let Some(name) = &state.config.limits.proxy_header else {
            return Ok(Self::of(peer));
        };
        let proxied = match parts.headers.get_all(name).iter().next_back() {
            Some(value) => {
                // The last address is the one that our own proxy added.
                let last = value.to_str().ok().and_then(|text| text.rsplit(',').next());
                let address = last.and_then(address_in);
                if address.is_none() {
                    state.proxy_doubts.unreadable(name, value);
                }
                address
            }
            None => {
                state.proxy_doubts.missing(name, peer);
                None
            }
        };
        Ok(Self::of(proxied.unwrap_or(peer)))
    }
}

/// The address that a proxy wrote; some add the port, and brackets around IPv6.
fn address_in(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    bare.parse().ok().or_else(with_port)
}

/// What was said once in the server's log about requests that name no client's address. All of them
/// count as one address, which nobody would notice before people are refused.
#[derive(Debug, Default)]
pub(crate) struct ProxyDoubts {
    missing: AtomicBool,
    unreadable: AtomicBool,
}

impl ProxyDoubts {
    fn missing(&self, header: &str, from: IpAddr) {
        if !self.missing.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                header,
                %from,
                "a request has no such header: without it clients of a proxy count as one address"
            );
        }
    }

    fn unreadable(&self, header: &str, value: &header::HeaderValue) {
        if !self.unreadable.swap(true, Ordering::Relaxed) {
            let value: String =
                String::from_utf8_lossy(value.as_bytes()).chars().take(64).collect();
            tracing::warn!(
                header,
                ?value,
                "the header names no address: clients of this proxy count as one address"
            );
        }
    }
}

/// The body of a call.
#[derive(Debug)]
pub(crate) struct Posted<C>(pub(crate) C);

/// What a request holds of the budget. The listener puts it into the request and keeps it until
/// the handler has come to its end, even if nobody waits for the answer any more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Arc<Mutex<Option<Share>>>);

impl Held {
    /// Takes the share out, for what goes on to hold it.
    pub(crate) fn take(&self) -> Option<Share> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, share: Share) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(share);
    }
}

impl FromRequestParts<Arc<State>> for Held {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<State>) -> Result<Self, Infallible> {
        Ok(parts.extensions.get_or_insert_default::<Self>().clone())
    }
}

impl<C: Call> FromRequest<Arc<State>> for Posted<C> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &Arc<State>) -> Result<Self, Error> {
        let (mut parts, body) = request.into_parts();
        let Ok(origin) = Origin::from_request_parts(&mut parts, state).await;
        let Ok(held) = Held::from_request_parts(&mut parts, state).await;
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
        // A body whose length nobody announced must be small.
        let limit = announced.unwrap_or(limits::BODY);
        state.rates.write(origin, limit)?;
        held.put(state.budget.wait(origin, limit).await.ok_or(BUSY)?);
        let body = read_body(body, limit).await?;
        // Decoding copies: large bodies take turns.
        let _turn = match body.len() {
            0..=limits::BODY => None,
            _ => Some(state.decoding.acquire().await.map_err(Error::failed)?),
        };
        Ok(Self(corncrake_wire::decode(&body)?))
    }
}

async fn read_body(body: Body, limit: usize) -> Result<Vec<u8>, Error> {
    let mut chunks = body.into_data_stream();
    let began = Instant::now();
    let mut bytes = Vec::new();
    while let Some(chunk) = timeout(GRACE, chunks.next()).await.map_err(|_| ErrorCode::TimedOut)? {
        let chunk = chunk.map_err(|_| ErrorCode::Malformed)?;
        if chunk.len() > limit - bytes.len() {
            return Err(ErrorCode::TooLarge.into());
        }
        if bytes.is_empty() {
            bytes.reserve_exact(limit);
        }
        bytes.extend_from_slice(&chunk);
        if is_too_slow(began, bytes.len() as u64) {
            return Err(ErrorCode::TimedOut.into());
        }
    }
    Ok(bytes)
}

/// Whether something that began then and has come so far comes too slowly: a slow uplink may
/// send something large, but nobody holds memory for nothing.
pub(crate) fn is_too_slow(began: Instant, received: u64) -> bool {
    let elapsed = began.elapsed();
    elapsed > GRACE && received < elapsed.as_secs() * PACE
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

/// Answers of this length need no share: they fit into what the kernel keeps.
const SMALL: u64 = 16 * 1024;

/// Gives an answer its share of the budget, unless it is small or has one.
pub(crate) fn count(response: Response, state: &State, from: Origin) -> Result<Response, Error> {
    let Some(length @ SMALL..) = response.body().size_hint().exact() else {
        return Ok(response);
    };
    let length = usize::try_from(length).map_err(Error::failed)?;
    let share = state.budget.take(from, length).ok_or(BUSY)?;
    let (mut parts, body) = response.into_parts();
    parts.headers.insert(header::CONTENT_LENGTH, length.into());
    let body = body.into_data_stream().map(move |chunk| {
        // The share lives as long as the body.
        let _ = &share;
        chunk
    });
    Ok(Response::from_parts(parts, Body::from_stream(body)))
}

/// An answer that holds its share of the budget until it is written.
pub(crate) fn counted<T: Serialize>(answer: &T, share: Option<Share>) -> Response {
    let bytes = Bytes::from(encode(answer));
    let length = bytes.len();
    let chunks = stream::unfold((bytes, share), async |(mut rest, share)| {
        let chunk = rest.split_to(rest.len().min(CHUNK));
        (!chunk.is_empty()).then_some((Ok::<_, Infallible>(chunk), (rest, share)))
    });
    let headers = [
        (header::CONTENT_TYPE, header::HeaderValue::from_static(CONTENT_TYPE)),
        (header::CONTENT_LENGTH, length.into()),
    ];
    (headers, Body::from_stream(chunks)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_srv_a12_a_slow_uplink_is_waited_for_and_a_silent_one_is_not() {
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        assert!(!is_too_slow(ago(19), 0));
        assert!(is_too_slow(ago(22), 10 * 1024));
        assert!(!is_too_slow(ago(600), 601 * 1024));
        assert!(is_too_slow(ago(600), 500 * 1024));
    }

    #[test]
    fn an_address_that_a_proxy_wrote_with_a_port_or_in_brackets_is_read() {
        for (text, expected) in [
            ("198.51.100.7", "198.51.100.7"),
            (" 198.51.100.7:5678 ", "198.51.100.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:5678", "2001:db8::1"),
        ] {
            assert_eq!(address_in(text), Some(expected.parse().unwrap()), "{text}");
        }
        for text in ["", "unknown", "198.51.100.7:", "198.51.100.7:99999", "[::1", "a, b"] {
            assert_eq!(address_in(text), None, "{text}");
        }
    }
}
