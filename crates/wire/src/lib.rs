//! What Corncrake's client and server say to each other.
//!
//! Everything here is bytes and rules, no I/O: the same types serve the client's transport, the
//! server's routes and the memory server of the client's tests.
//!
//! - [`ids`]: names of things ([`LogId`], [`EntryId`], …) and bearer secrets ([`AccessToken`]).
//! - [`codec`]: the one wrapper around postcard: a version byte, no trailing bytes, one encoding.
//! - [`log`]: entries, appends, reads; [`decide`](decide()): the one append decision.
//! - [`open`]: calls of the open plane. They carry no session.
//! - [`account`]: calls of the account plane, under a session.
//! - [`frames`]: what travels over the two WebSockets.
//! - [`session`]: what a device signs to renew its session.
//! - [`opaque`]: both halves of the password protocol (RFC 9807).
//! - [`error`]: stable codes for everything that can be refused.
//! - [`limits`]: sizes and counts that both sides hold to.
//!
//! ```
//! use corncrake_wire::{AccessToken, Call, OpenRequest, log::Read};
//!
//! let token = AccessToken::new([7; 32]);
//! let read = Read { token, after: 0, limit: 256, admission: Vec::new() };
//! assert_eq!(Read::PATH, "/v1/open/read");
//! let request = OpenRequest::from(read);
//! let body = request.encode();
//! assert_eq!(OpenRequest::decode(request.path(), &body).unwrap(), Some(request));
//! ```

pub mod account;
mod calls;
pub mod codec;
pub mod decide;
pub mod error;
pub mod frames;
pub mod ids;
pub mod limits;
pub mod log;
pub mod opaque;
pub mod open;
pub mod session;

pub use account::{AccountReply, AccountRequest, Notice};
pub use calls::Call;
pub use codec::{Malformed, decode, encode};
pub use decide::{Decision, decide};
pub use error::{ErrorCode, Refusal};
pub use frames::{ClientFrame, Hello, ServerFrame};
pub use ids::{
    AccessToken, AccountId, DeviceId, EntryId, InboxId, LogId, NoticeId, PackageId, SessionToken,
};
pub use log::{EntryKind, LogEntry};
pub use open::{OpenReply, OpenRequest};

/// The newest version of this protocol that is spoken here. [`ServerFrame::Hello`] and `/v1/info`
/// name it and [`LOWEST_VERSION`]; the client takes the newest that both sides know. What a later
/// version adds are new variants at the end and bytes in fields that older readers ignore.
pub const VERSION: u16 = 1;
/// The oldest version that is still spoken here.
pub const LOWEST_VERSION: u16 = 1;
/// The content type of requests and replies.
pub const CONTENT_TYPE: &str = "application/vnd.corncrake";
/// The content type of refusals (RFC 9457).
pub const PROBLEM_TYPE: &str = "application/problem+json";
/// The header that carries the session token on the account plane, in lower-case hex.
pub const SESSION_HEADER: &str = "corncrake-session";
/// Where the server describes itself, in JSON, to anybody who asks with GET.
pub const INFO_PATH: &str = "/v1/info";
/// The WebSocket of the account plane.
pub const ACCOUNT_SOCKET: &str = "/v1/account/socket";
/// The WebSocket of the open plane.
pub const OPEN_SOCKET: &str = "/v1/open/socket";
