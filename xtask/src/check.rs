//! `cargo xtask test`: everything that has to hold before a change lands, each step with a limit.

use std::{
    env,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    Result,
    command::{cargo, watch},
    programs, say, tidy, wasm,
};

/// One step of the check.
struct Step {
    name: &'static str,
    minutes: u64,
    run: fn() -> Result<Command>,
}

const STEPS: &[Step] = &[
    Step { name: "format", minutes: 2, run: || Ok(cargo(&["fmt", "--all", "--check"])) },
    Step { name: "clippy", minutes: 20, run: clippy },
    Step { name: "programs", minutes: 20, run: || Ok(programs::build_command(&[])) },
    Step { name: "tests", minutes: 40, run: tests },
    Step { name: "documentation", minutes: 10, run: documentation },
    Step { name: "wasm32", minutes: 15, run: wasm::build },
    Step { name: "demonstration", minutes: 15, run: demo },
];

fn clippy() -> Result<Command> {
    Ok(cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// Unit, integration and documentation tests of every crate: the official vectors, the World, the
/// real programs.
fn tests() -> Result<Command> {
    if env::var_os("CORNCRAKE_VECTORS").is_none() {
        say("CORNCRAKE_VECTORS is not set: missing official vectors are no failure");
    }
    Ok(cargo(&["test", "--workspace", "--no-fail-fast"]))
}

/// The whole product in one play. The tests may have built this program anew, so cargo finds it.
fn demo() -> Result<Command> {
    Ok(cargo(&["run", "--quiet", "-p", "xtask", "--", "demo", "--check"]))
}

fn documentation() -> Result<Command> {
    let mut command = cargo(&["doc", "--workspace", "--no-deps", "--quiet"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    Ok(command)
}

/// Runs all steps, whatever fails, and ends with the line `N passed, N failed`.
///
/// # Errors
/// Something failed.
pub fn run() -> Result<()> {
    let mut summary = Vec::new();
    let mut failures = Vec::new();
    let mut total = (0, 0);
    let mut note = |name: &str, passed: usize, failed: usize, time: Duration| {
        total = (total.0 + passed, total.1 + failed);
        let time = time.as_secs();
        summary.push(format!("{name:<16}{passed:>6} passed{failed:>6} failed{time:>7} s"));
    };
    let start = Instant::now();
    let (passed, failed) = match tidy::run() {
        Ok(()) => (1, 0),
        Err(error) => {
            say(&error.to_string());
            (0, 1)
        }
    };
    note("tidy", passed, failed, start.elapsed());
    for step in STEPS {
        say(&format!("\n== {} ==", step.name));
        let start = Instant::now();
        let limit = Duration::from_secs(step.minutes * 60);
        let outcome = (step.run)().and_then(|command| watch(command, limit));
        let (passed, failed) = match outcome {
            Ok(outcome) if outcome.success => (outcome.passed.max(1), outcome.failed),
            Ok(outcome) => {
                failures.extend(outcome.failures);
                (outcome.passed, outcome.failed.max(1))
            }
            Err(error) => {
                say(&error.to_string());
                (0, 1)
            }
        };
        note(step.name, passed, failed, start.elapsed());
    }
    say("");
    failures.iter().for_each(|failure| say(&format!("{failure}\n")));
    summary.iter().for_each(|line| say(line));
    say(&format!("{} passed, {} failed", total.0, total.1));
    if total.1 == 0 { Ok(()) } else { Err("something failed: see above".into()) }
}
