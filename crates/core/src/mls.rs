//! The group protocol: MLS (RFC 9420), one file per chapter.

pub mod codec;
pub mod tree_math;
