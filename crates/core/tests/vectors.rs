//! The official test vectors of RFC 9420 (github.com/mlswg/mls-implementations, `test-vectors`).
//!
//! They are looked for in `$CORNCRAKE_VECTORS/mls`, else in `../shared/vectors/mls` beside the
//! workspace. Where the folder is missing, a test says so and passes; with the variable set, a
//! missing file is a failure.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that cannot go on should fail, and one that is skipped should say so"
)]

#[path = "vectors/load.rs"]
mod load;
#[path = "vectors/messages.rs"]
mod messages;
#[path = "vectors/passive.rs"]
mod passive;
#[path = "vectors/primitives.rs"]
mod primitives;
#[path = "vectors/tree.rs"]
mod tree;
#[path = "vectors/treekem.rs"]
mod treekem;
