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
    run("corncrake-core", "bench")
}

/// Appends and catch-up.
///
/// # Errors
/// The program failed.
pub fn server() -> Result<()> {
    run("corncrake-server", "throughput")
}

fn run(package: &str, program: &str) -> Result<()> {
    let arguments = ["run", "--release", "--quiet", "-p", package, "--example", program];
    if watch(cargo(&arguments), LIMIT)?.success {
        Ok(())
    } else {
        Err("the measurement failed".into())
    }
}
