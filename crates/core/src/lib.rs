//! Key agreement, group key wrapping and message sealing for Corncrake: MLS (RFC 9420) without I/O.
//!
//! Bytes, the time and a source of randomness come in; values and bytes go out. Nothing here opens
//! a file or a socket, reads a clock or keeps a global. A failed call leaves its subject as it was.

pub mod content;
pub mod conversation;
pub mod crypto;
pub mod derive;
pub mod encoding;
pub mod id;
pub mod identity;
pub mod mls;
pub mod seal;

mod error;
#[cfg(test)]
mod golden;
