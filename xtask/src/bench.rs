//! `cargo xtask bench`: the measuring programs of core and server, and of the peers that can run
//! here, in release builds.

use core::time::Duration;

use crate::{
    Result,
    command::{cargo, watch},
};

mod chat;
mod figures;

pub use chat::run as chat;

const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Group operations; then the same ones by us and by other implementations, in turn.
///
/// # Errors
/// The program failed.
pub fn core() -> Result<()> {
    run("corncrake-core", "bench")?;
    let peers = ["--manifest-path", "interop/Cargo.toml", "--target-dir", "target/interop"];
    measure(&[["run", "--release"].as_slice(), &peers].concat())
}

/// Appends and catch-up.
///
/// # Errors
/// The program failed.
pub fn server() -> Result<()> {
    run("corncrake-server", "throughput")
}

/// Appends at a steady rate, with a small database and a large one.
///
/// # Errors
/// The program failed.
pub fn grown() -> Result<()> {
    run("corncrake-server", "grown")
}

/// The load test of the server's limits, at its full length.
///
/// # Errors
/// A bound did not hold.
pub fn flood() -> Result<()> {
    let test = ["-p", "corncrake-server", "--test", "routes", "--", "audit_load_l1_a_flood"];
    let mut command = cargo(&[["test", "--release"].as_slice(), &test, &["--nocapture"]].concat());
    command.env("CORNCRAKE_FLOOD_SECONDS", "120");
    if watch(command, LIMIT)?.success { Ok(()) } else { Err("a bound did not hold".into()) }
}

fn run(package: &str, program: &str) -> Result<()> {
    measure(&["run", "--release", "--quiet", "-p", package, "--example", program])
}

fn measure(arguments: &[&str]) -> Result<()> {
    if watch(cargo(arguments), LIMIT)?.success {
        Ok(())
    } else {
        Err("the measurement failed".into())
    }
}
