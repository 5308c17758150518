//! `cargo xtask world`: random walks of the client's World, as many as wanted.

use core::time::Duration;

use crate::{
    Result,
    command::{cargo, watch},
};

/// Walks `seeds` seeds from `start` on. A failing seed prints its trace and replays exactly with
/// `--seeds 1 --start SEED`.
///
/// # Errors
/// A seed failed.
pub fn run(seeds: u64, start: u64) -> Result<()> {
    let mut command = cargo(&["test", "-p", "corncrake", "--test", "world", "seeds"]);
    command
        .args(["--", "--nocapture"])
        .env("WORLD_SEEDS", seeds.to_string())
        .env("WORLD_START", start.to_string());
    let limit = Duration::from_secs(600 + seeds);
    let outcome = watch(command, limit)?;
    if outcome.success && outcome.passed > 0 { Ok(()) } else { Err("a seed failed".into()) }
}
