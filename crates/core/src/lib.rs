//! Key agreement, group key wrapping and message sealing for Corncrake: MLS (RFC 9420) without I/O.

pub mod mls;
