//! The one error of all routes: a refusal that the caller can act on, or a failure of ours.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use corncrake_wire::{ErrorCode, PROBLEM_TYPE, Refusal, opaque::OpaqueFailed};

/// Why a request was not carried out.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The request can't be granted; nothing was stored.
    Refused(Refusal),
    /// The server failed. The cause goes to the log of the server, never into an answer.
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// What a caller is told. Logs the cause of a failure.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Refused(refusal) => *refusal,
            Self::Failed(cause) => {
                tracing::error!(%cause, "request failed");
                Refusal { code: ErrorCode::Internal, retry_after: Some(5) }
            }
        }
    }

    /// Whether the database failed, not the request.
    pub(crate) fn is_storage(&self) -> bool {
        match self.database_code() {
            // Constraints and values that don't fit are the request's.
            Some(code) => !matches!(code & 0xff, CONSTRAINT | TOO_BIG),
            None => self.sqlx().is_some_and(|error| {
                matches!(error, sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed)
            }),
        }
    }

    /// Whether the database failed because the disk is full.
    pub(crate) fn is_full(&self) -> bool {
        let is_full = |code: u32| code & 0xff == FULL || code == SHM_SIZE;
        self.database_code().is_some_and(is_full)
            || self
                .cause::<std::io::Error>()
                .is_some_and(|error| error.kind() == std::io::ErrorKind::StorageFull)
    }

    fn sqlx(&self) -> Option<&sqlx::Error> {
        self.cause()
    }

    /// The first cause of a kind.
    fn cause<T: std::error::Error + 'static>(&self) -> Option<&T> {
        let first: &(dyn std::error::Error + 'static) = match self {
            Self::Refused(_) => return None,
            Self::Failed(cause) => &**cause,
        };
        std::iter::successors(Some(first), |error| error.source()).find_map(|e| e.downcast_ref())
    }

    /// SQLite's code.
    fn database_code(&self) -> Option<u32> {
        self.sqlx()?.as_database_error()?.code()?.parse().ok()
    }

    /// The same failure, with the file that it is about.
    #[must_use]
    pub(crate) fn about(self, path: &Path) -> Self {
        match self {
            Self::Failed(cause) => Self::failed(About { path: path.to_owned(), cause }),
            refused @ Self::Refused(_) => refused,
        }
    }

    /// A failure with this cause.
    #[must_use]
    pub fn failed(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Failed(cause.into())
    }
}

/// A failure, and the file that it is about.
#[derive(Debug)]
struct About {
    path: PathBuf,
    cause: Box<dyn std::error::Error + Send + Sync>,
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.cause)
    }
}

impl std::error::Error for About {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.cause)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Failed(cause) => cause.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Self {
        Self::Refused(code.into())
    }
}

impl From<corncrake_wire::Malformed> for Error {
    fn from(_: corncrake_wire::Malformed) -> Self {
        ErrorCode::Malformed.into()
    }
}

impl From<OpaqueFailed> for Error {
    fn from(_: OpaqueFailed) -> Self {
        ErrorCode::Malformed.into()
    }
}

/// SQLite's codes for what is told apart.
const FULL: u32 = 13;
/// `SQLITE_IOERR_SHMSIZE`: there is no space for the memory that connections share.
const SHM_SIZE: u32 = 10 | 19 << 8;
const TOO_BIG: u32 = 18;
const CONSTRAINT: u32 = 19;

/// The uniqueness constraints that a request can run into.
const CONSTRAINTS: [(&str, ErrorCode); 4] = [
    ("accounts.name", ErrorCode::UsernameTaken),
    ("accounts.id", ErrorCode::IdTaken),
    ("devices.id", ErrorCode::IdTaken),
    ("devices.inbox", ErrorCode::IdTaken),
];

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let violated = error.as_database_error().filter(|e| e.is_unique_violation());
        let code = violated.and_then(|violation| {
            let message = violation.message();
            CONSTRAINTS.iter().find(|(name, _)| message.ends_with(name)).map(|(_, code)| *code)
        });
        code.map_or_else(|| Self::failed(error), Self::from)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let Refusal { code, retry_after } = self.refusal();
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let mut problem = serde_json::json!({
            "type": "about:blank",
            "title": status.canonical_reason(),
            "status": code.status(),
            "code": code.as_str(),
            "number": code.number(),
        });
        if let (Some(seconds), Some(members)) = (retry_after, problem.as_object_mut()) {
            members.insert("retry_after".to_owned(), seconds.into());
        }
        let mut response = (status, problem.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if code == ErrorCode::RateLimited {
            // Whoever goes on has to begin anew each time.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response.extensions_mut().insert(code);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_nothing_about_its_cause() {
        let error = Error::failed("secret table name");
        assert_eq!(error.refusal().code, ErrorCode::Internal);
        assert_eq!(error.into_response().status(), 500);
    }
}
