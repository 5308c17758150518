//! The group protocol: MLS (RFC 9420), one file per chapter.

pub mod codec;
pub mod commit;
pub mod credential;
mod error;
pub mod extension;
pub mod framing;
pub mod group;
pub mod group_info;
pub mod key_package;
pub mod key_schedule;
pub mod leaf_node;
pub mod proposal;
pub mod psk;
pub mod public_group;
pub mod secret_tree;
pub mod transcript;
pub mod tree;
pub mod tree_math;
pub mod treekem;
pub mod validation;
pub mod welcome;

pub use error::Error;

/// MLS 1.0.
pub const PROTOCOL_VERSION: u16 = 1;

/// Names one part of a saved group.
///
/// Parts are what a group is saved in: each is written and deleted by itself, so that a message
/// rewrites one small part and not the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartId {
    /// What the part holds.
    pub kind: u8,
    /// Which of its kind.
    pub index: u32,
}
