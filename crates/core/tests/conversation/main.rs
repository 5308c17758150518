//! Conversations end to end: one log, several devices, good commits and bad ones.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "these are tests; a failed step ends them"
)]

mod garbage;
mod handovers;
mod lab;
mod life;
mod mal;
mod random;
mod verdicts;
