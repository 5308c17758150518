//! `cargo xtask bench`: the measuring programs of core and server, in release builds.

use core::time::Duration;

use crate::{
    Result,
    command::{cargo, watch},
};

const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Group operations.
///
/// # Errors
/// The program failed.
pub fn core() -> Result<()> {
    run("corncrake-core")
}

/// Appends and catch-up.
///
/// # Errors
/// The program failed.
pub fn server() -> Result<()> {
    run("corncrake-server")
}

fn run(package: &str) -> Result<()> {
    let command = cargo(&[
        "run",
        "--release",
        "--quiet",
        "-p",
        package,
        "--example",
        "bench",
    ]);
    if watch(command, LIMIT)?.success {
        Ok(())
    } else {
        Err("the measurement failed".into())
    }
}
