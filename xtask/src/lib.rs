//! The automations behind `cargo xtask`, and what its tests of the real programs share.
//!
//! - [`check`]: `cargo xtask test`, step by step; [`tidy`], [`wasm`] are two of them.
//! - [`demo`]: the demonstration.
//! - [`world`], [`mod@bench`]: the client's World and the measurements.
//! - [`programs`], [`session`], [`proxy`], [`stored`], [`markers`]: the real programs, what they
//!   say to each other and what they leave behind.
//! - [`command`]: child processes with a time limit.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

pub mod bench;
pub mod check;
pub mod command;
pub mod demo;
pub mod markers;
pub mod programs;
pub mod proxy;
pub mod session;
pub mod stored;
pub mod tidy;
pub mod wasm;
pub mod world;

/// What a task answers; its errors are sentences for the person at the terminal.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The root of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Writes a line to standard output. A closed output is not worth a failure.
pub fn say(line: &str) {
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}
