//! Child processes with a time limit, whose output is shown and counted.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{Result, root, say};

/// How often a running child is looked at.
const GLANCE: Duration = Duration::from_millis(50);

/// How many lines of a failed test's output are kept: what it printed last before its backtrace.
const KEPT_LINES: usize = 12;

/// What a child did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whether it ended by itself with code 0.
    pub success: bool,
    /// Tests that passed, as told by the test programs it ran.
    pub passed: usize,
    /// Tests that failed, as told by the test programs it ran.
    pub failed: usize,
    /// Names of failed tests and what they said.
    pub failures: Vec<String>,
}

/// The cargo that runs us, at the root of the workspace.
#[must_use]
pub fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(root());
    command
}

/// Runs `command`, showing what it prints, for at most `limit`.
///
/// # Errors
/// The program cannot be started.
pub fn watch(mut command: Command, limit: Duration) -> Result<Outcome> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{program} cannot be started: {error}"))?;
    let output = child.stdout.take();
    let reader = thread::spawn(move || {
        let mut counts = (0, 0);
        let mut failures = Failures::default();
        for line in output.into_iter().flat_map(|output| BufReader::new(output).lines()) {
            let Ok(line) = line else { break };
            if let Some((passed, failed)) = test_result(&line) {
                counts.0 += passed;
                counts.1 += failed;
            }
            failures.hear(&line);
            say(&line);
        }
        (counts, failures)
    });
    let success = wait(&mut child, limit)?.is_some_and(|status| status.success());
    let ((passed, failed), failures) = reader.join().unwrap_or_default();
    Ok(Outcome { success, passed, failed, failures: failures.found })
}

/// The failed tests among what test programs print.
#[derive(Default)]
struct Failures {
    found: Vec<String>,
    is_in_one: bool,
}

impl Failures {
    fn hear(&mut self, line: &str) {
        if line.starts_with("---- ") && line.ends_with(" stdout ----") {
            self.found.push(line.to_owned());
            self.is_in_one = true;
        } else if line == "failures:" || line == "stack backtrace:" {
            self.is_in_one = false;
        } else if self.is_in_one
            && !line.is_empty()
            && let Some(failure) = self.found.last_mut()
        {
            let mut lines: Vec<_> = failure.lines().chain([line]).collect();
            if lines.len() > KEPT_LINES + 1 {
                lines.remove(1);
            }
            *failure = lines.join("\n");
        }
    }
}

/// Waits for the child and ends its whole process group when `limit` is over.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(GLANCE);
    }
    say(&format!("not done after {} s: ended", limit.as_secs()));
    let group = format!("-{}", child.id());
    Command::new("kill").args(["-KILL", "--", &group]).status()?;
    child.wait()?;
    Ok(None)
}

/// The numbers in a line such as `test result: ok. 3 passed; 0 failed; …`.
fn test_result(line: &str) -> Option<(usize, usize)> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let number = |name: &str| {
        counts.split("; ").find_map(|part| part.strip_suffix(name)?.trim().parse().ok())
    };
    Some((number("passed")?, number("failed")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_results_are_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered";
        assert_eq!(test_result(line), Some((12, 3)));
        assert_eq!(test_result("test result of something else"), None);
    }

    #[test]
    fn what_failed_tests_said_last_is_kept() {
        let mut failures = Failures::default();
        let noise = (0..20).map(|n| format!("line {n}"));
        let said = ["running 2 tests", "failures:", "", "---- it::breaks stdout ----"]
            .into_iter()
            .map(str::to_owned)
            .chain(noise)
            .chain(["thread panicked", "stack backtrace:", "   0: rust"].map(str::to_owned))
            .chain(
                ["---- other stdout ----", "", "no", "", "failures:", "    other"]
                    .map(str::to_owned),
            );
        said.for_each(|line| failures.hear(&line));
        let [first, second] = failures.found.as_slice() else { panic!("{:?}", failures.found) };
        assert!(first.starts_with("---- it::breaks stdout ----\nline 9\n"), "{first}");
        assert!(first.ends_with("line 19\nthread panicked"), "{first}");
        assert_eq!(second, "---- other stdout ----\nno");
    }

    #[test]
    fn a_child_that_takes_too_long_is_ended_with_its_children() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & sleep 60"]);
        let start = Instant::now();
        let outcome = watch(command, Duration::from_millis(200)).unwrap();
        assert!(!outcome.success);
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}
