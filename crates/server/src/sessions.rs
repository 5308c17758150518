//! Sessions: a token that the caller keeps, its hash in the database.

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};
use corncrake_wire::{ErrorCode, SESSION_HEADER, SessionToken, account::Session, limits};
use sqlx::{Row, SqliteConnection, SqlitePool};

use crate::{Error, State, random};

/// Seconds that a session without a device lasts.
const DEVICELESS: u64 = 3600;
/// Ends of sessions are rounded up to this many seconds, so that they don't tell the moment of a
/// log-in; with a device to a week, as all days of this plane.
const ROUNDING: u64 = 600;
const DEVICE_ROUNDING: u64 = 7 * 86_400;
/// Seconds until the end of a session, at most.
pub(crate) const LONGEST: u64 = limits::SESSION + DEVICE_ROUNDING;

/// Begins a session.
pub(crate) async fn begin(
    connection: &mut SqliteConnection,
    account: i64,
    device: Option<i64>,
    now: u64,
) -> Result<Session, Error> {
    let token = SessionToken::new(random()?);
    let (lifetime, rounding) = match device {
        Some(_) => (limits::SESSION, DEVICE_ROUNDING),
        None => (DEVICELESS, ROUNDING),
    };
    let expires = (now + lifetime).next_multiple_of(rounding);
    sqlx::query("DELETE FROM sessions WHERE account = ? AND expires <= ?")
        .bind(account)
        .bind(signed(now))
        .execute(&mut *connection)
        .await?;
    sqlx::query("INSERT INTO sessions (digest, account, device, expires) VALUES (?, ?, ?, ?)")
        .bind(token.digest().to_vec())
        .bind(account)
        .bind(device)
        .bind(signed(expires))
        .execute(connection)
        .await?;
    Ok(Session { token, expires })
}

/// Ends the session with this hash.
pub(crate) async fn end(connection: &mut SqliteConnection, digest: [u8; 32]) -> Result<(), Error> {
    sqlx::query("DELETE FROM sessions WHERE digest = ?")
        .bind(digest.to_vec())
        .execute(connection)
        .await?;
    Ok(())
}

/// The session that makes a request: an extractor of account-plane routes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) account: i64,
    pub(crate) device: Option<i64>,
    pub(crate) digest: [u8; 32],
}

impl Caller {
    /// The session's device.
    pub(crate) fn device(&self) -> Result<i64, Error> {
        self.device.ok_or_else(|| ErrorCode::DeviceRequired.into())
    }
}

/// Finds the session of a token.
pub(crate) async fn find(
    readers: &SqlitePool,
    token: &SessionToken,
    now: u64,
) -> Result<Caller, Error> {
    let digest = token.digest();
    let row = sqlx::query("SELECT account, device, expires FROM sessions WHERE digest = ?")
        .bind(digest.to_vec())
        .fetch_optional(readers)
        .await?
        .ok_or(ErrorCode::SessionRequired)?;
    if row.try_get::<i64, _>("expires")? <= signed(now) {
        return Err(ErrorCode::SessionExpired.into());
    }
    Ok(Caller { account: row.try_get("account")?, device: row.try_get("device")?, digest })
}

impl FromRequestParts<Arc<State>> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Error> {
        let token = parts
            .headers
            .get(SESSION_HEADER)
            .and_then(|header| header.to_str().ok())
            .and_then(SessionToken::from_header)
            .ok_or(ErrorCode::SessionRequired)?;
        state.accounts.session(&token, state.clock.now()).await
    }
}

fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
