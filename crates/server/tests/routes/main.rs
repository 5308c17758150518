//! The real server on a real listener with a real database: one file per subject.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "tests"
)]

mod backup;
mod bad_requests;
mod devices;
mod directory;
mod disk;
mod holdings;
mod inbox;
mod info;
mod kill;
mod load;
mod log_in;
mod logs;
mod packages;
mod process;
mod rates;
mod schema;
mod sessions;
mod sign_up;
mod sockets;
mod support;
mod vault;
